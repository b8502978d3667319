//! Whole traces on the wire: spans grouped by resource and scope, as OTLP protobuf and as JSON.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{AttributeValue, KeyValue, Resource, Scope, Span, SpanKind, StatusCode};
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;

use crate::number::push_json;

/// How JSON spells what the two dialects spell differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// proto3 JSON, as Tempo answers: ids in base64, enums by name.
    Proto,
    /// OTLP/JSON, as Jaeger's third API answers: ids in hex, enums as numbers.
    Otlp,
}

/// Spans of one resource, by scope, in order of first appearance.
pub(crate) struct Groups<'a> {
    resources: Vec<(Arc<Resource>, Scopes<'a>)>,
}

type Scopes<'a> = Vec<(Arc<Scope>, Vec<&'a Span>)>;

impl<'a> Groups<'a> {
    /// Groups spans whose resource and scope are equal.
    pub fn of(spans: &'a [Span]) -> Groups<'a> {
        // Most spans share their resource by pointer; equal resources of different requests are joined by value.
        let mut by_pointer: HashMap<*const Resource, usize> = HashMap::new();
        let mut groups = Groups { resources: Vec::new() };
        for span in spans {
            let at = *by_pointer.entry(Arc::as_ptr(&span.resource)).or_insert_with(|| {
                match groups.resources.iter().position(|(r, _)| **r == *span.resource) {
                    Some(at) => at,
                    None => {
                        groups.resources.push((span.resource.clone(), Vec::new()));
                        groups.resources.len() - 1
                    }
                }
            });
            let scopes = &mut groups.resources[at].1;
            match scopes
                .iter_mut()
                .find(|(s, _)| Arc::ptr_eq(s, &span.scope) || **s == *span.scope)
            {
                Some((_, spans)) => spans.push(span),
                None => scopes.push((span.scope.clone(), vec![span])),
            }
        }
        groups
    }

    /// The protobuf `Trace` message, which is OTLP's `TracesData`.
    pub fn protobuf(&self) -> otlp::TracesData {
        otlp::TracesData {
            resource_spans: self
                .resources
                .iter()
                .map(|(r, scopes)| otlp::ResourceSpans {
                    resource: Some(resource::Resource {
                        attributes: attributes(&r.attributes),
                        dropped_attributes_count: r.dropped_attributes,
                        ..Default::default()
                    }),
                    scope_spans: scopes
                        .iter()
                        .map(|(s, spans)| otlp::ScopeSpans {
                            scope: Some(common::InstrumentationScope {
                                name: s.name.clone(),
                                version: s.version.clone(),
                                attributes: attributes(&s.attributes),
                                dropped_attributes_count: s.dropped_attributes,
                            }),
                            spans: spans.iter().map(|s| span_message(s)).collect(),
                            schema_url: s.schema_url.clone(),
                        })
                        .collect(),
                    schema_url: r.schema_url.clone(),
                })
                .collect(),
        }
    }

    /// `{"<key>":[resource spans]}`: the key is `batches` in Tempo's first API, `resourceSpans` elsewhere.
    pub fn json(&self, key: &str, spelling: Spelling) -> String {
        let mut out = String::with_capacity(4096);
        out.push('{');
        if !self.resources.is_empty() {
            let _ = write!(out, "\"{key}\":");
            list(&mut out, &self.resources, |out, (r, scopes)| {
                out.push_str("{\"resource\":{");
                let mut o = Fields::begin(out);
                o.attributes("attributes", &r.attributes);
                o.count("droppedAttributesCount", r.dropped_attributes);
                out.push_str("},\"scopeSpans\":");
                list(out, scopes, |out, (s, spans)| push_scope(out, s, spans, spelling));
                let mut o = Fields { out, first: false };
                o.text("schemaUrl", &r.schema_url);
                out.push('}');
            });
        }
        out.push('}');
        out
    }
}

fn push_scope(out: &mut String, s: &Scope, spans: &[&Span], spelling: Spelling) {
    out.push_str("{\"scope\":{");
    let mut o = Fields::begin(out);
    o.text("name", &s.name);
    o.text("version", &s.version);
    o.attributes("attributes", &s.attributes);
    o.count("droppedAttributesCount", s.dropped_attributes);
    out.push_str("},\"spans\":");
    list(out, spans, |out, span| push_span(out, span, spelling));
    let mut o = Fields { out, first: false };
    o.text("schemaUrl", &s.schema_url);
    out.push('}');
}

fn push_span(out: &mut String, s: &Span, spelling: Spelling) {
    out.push('{');
    let mut o = Fields::begin(out);
    o.id("traceId", &s.trace_id.to_bytes(), spelling);
    o.id("spanId", &s.span_id.to_bytes(), spelling);
    if let Some(parent) = s.parent_span_id {
        o.id("parentSpanId", &parent.to_bytes(), spelling);
    }
    o.text("traceState", &s.trace_state);
    o.count("flags", s.flags);
    o.text("name", &s.name);
    match spelling {
        // The zero of an enumeration is left out.
        Spelling::Proto if s.kind == SpanKind::Unspecified => {}
        Spelling::Proto => o.word("kind", kind_name(s.kind)),
        Spelling::Otlp => o.count("kind", s.kind as u32),
    }
    o.nanos("startTimeUnixNano", s.start.0);
    o.nanos("endTimeUnixNano", s.end.0);
    o.attributes("attributes", &s.attributes);
    o.count("droppedAttributesCount", s.dropped_attributes);
    o.list("events", &s.events, |out, e| {
        out.push('{');
        let mut o = Fields::begin(out);
        o.nanos("timeUnixNano", e.t.0);
        o.text("name", &e.name);
        o.attributes("attributes", &e.attributes);
        o.count("droppedAttributesCount", e.dropped_attributes);
        out.push('}');
    });
    o.count("droppedEventsCount", s.dropped_events);
    o.list("links", &s.links, |out, l| {
        out.push('{');
        let mut o = Fields::begin(out);
        o.id("traceId", &l.trace_id.to_bytes(), spelling);
        o.id("spanId", &l.span_id.to_bytes(), spelling);
        o.text("traceState", &l.trace_state);
        o.attributes("attributes", &l.attributes);
        o.count("droppedAttributesCount", l.dropped_attributes);
        o.count("flags", l.flags);
        out.push('}');
    });
    o.count("droppedLinksCount", s.dropped_links);
    o.key("status");
    out.push('{');
    let mut o = Fields::begin(out);
    o.text("message", &s.status_message);
    match (s.status, spelling) {
        (StatusCode::Unset, _) => {}
        (code, Spelling::Otlp) => o.count("code", code as u32),
        (StatusCode::Ok, _) => o.word("code", "STATUS_CODE_OK"),
        (StatusCode::Error, _) => o.word("code", "STATUS_CODE_ERROR"),
    }
    out.push_str("}}");
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

/// Members of an object; proto3 JSON leaves out what has its default value.
struct Fields<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Fields<'a> {
    fn begin(out: &'a mut String) -> Fields<'a> {
        Fields { out, first: true }
    }

    fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        let _ = write!(self.out, "\"{name}\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.key(name);
            push_json(self.out, value);
        }
    }

    fn word(&mut self, name: &str, value: &str) {
        self.key(name);
        let _ = write!(self.out, "\"{value}\"");
    }

    fn count(&mut self, name: &str, n: u32) {
        if n > 0 {
            self.key(name);
            let _ = write!(self.out, "{n}");
        }
    }

    fn nanos(&mut self, name: &str, ns: i64) {
        if ns != 0 {
            self.key(name);
            let _ = write!(self.out, "\"{}\"", ns as u64);
        }
    }

    fn id(&mut self, name: &str, bytes: &[u8], spelling: Spelling) {
        self.key(name);
        self.out.push('"');
        match spelling {
            Spelling::Proto => self.out.push_str(&STANDARD.encode(bytes)),
            Spelling::Otlp => bytes.iter().for_each(|b| {
                let _ = write!(self.out, "{b:02x}");
            }),
        }
        self.out.push('"');
    }

    fn attributes(&mut self, name: &str, attributes: &[KeyValue]) {
        self.list(name, attributes, push_attribute);
    }

    fn list<T>(&mut self, name: &str, items: &[T], each: impl Fn(&mut String, &T)) {
        if !items.is_empty() {
            self.key(name);
            list(self.out, items, each);
        }
    }
}

fn list<T>(out: &mut String, items: &[T], each: impl Fn(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(']');
}

fn push_attribute(out: &mut String, kv: &KeyValue) {
    out.push_str("{\"key\":");
    push_json(out, &kv.key);
    out.push_str(",\"value\":");
    push_any_value(out, &kv.value);
    out.push('}');
}

/// An `AnyValue` as proto3 JSON.
pub(crate) fn push_any_value(out: &mut String, value: &AttributeValue) {
    out.push('{');
    match value {
        AttributeValue::Empty => {}
        AttributeValue::Str(s) => {
            out.push_str("\"stringValue\":");
            push_json(out, s);
        }
        AttributeValue::Bool(b) => {
            let _ = write!(out, "\"boolValue\":{b}");
        }
        AttributeValue::Int(i) => {
            let _ = write!(out, "\"intValue\":\"{i}\"");
        }
        AttributeValue::Double(d) => {
            out.push_str("\"doubleValue\":");
            push_double(out, *d);
        }
        AttributeValue::Bytes(b) => {
            let _ = write!(out, "\"bytesValue\":\"{}\"", STANDARD.encode(b));
        }
        AttributeValue::Array(values) => {
            out.push_str("\"arrayValue\":{");
            let mut o = Fields::begin(out);
            o.list("values", values, push_any_value);
            out.push('}');
        }
        AttributeValue::Map(pairs) => {
            out.push_str("\"kvlistValue\":{");
            let mut o = Fields::begin(out);
            o.list("values", pairs, push_attribute);
            out.push('}');
        }
    }
    out.push('}');
}

/// A double as proto3 JSON: a number, or the names of the three that are none.
pub(crate) fn push_double(out: &mut String, d: f64) {
    if d.is_nan() {
        out.push_str("\"NaN\"");
    } else if d.is_infinite() {
        out.push_str(if d > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else {
        let _ = write!(out, "{d}");
    }
}

fn attributes(all: &[KeyValue]) -> Vec<common::KeyValue> {
    let pair = |kv: &KeyValue| common::KeyValue {
        key: kv.key.clone(),
        value: Some(any_value(&kv.value)),
        ..Default::default()
    };
    all.iter().map(pair).collect()
}

/// An `AnyValue` as protobuf.
pub(crate) fn any_value(value: &AttributeValue) -> common::AnyValue {
    use common::any_value::Value;
    let value = match value {
        AttributeValue::Empty => None,
        AttributeValue::Str(s) => Some(Value::StringValue(s.clone())),
        AttributeValue::Bool(b) => Some(Value::BoolValue(*b)),
        AttributeValue::Int(i) => Some(Value::IntValue(*i)),
        AttributeValue::Double(d) => Some(Value::DoubleValue(*d)),
        AttributeValue::Bytes(b) => Some(Value::BytesValue(b.clone())),
        AttributeValue::Array(values) => Some(Value::ArrayValue(common::ArrayValue {
            values: values.iter().map(any_value).collect(),
        })),
        AttributeValue::Map(pairs) => Some(Value::KvlistValue(common::KeyValueList {
            values: attributes(pairs),
        })),
    };
    common::AnyValue { value }
}

fn span_message(s: &Span) -> otlp::Span {
    otlp::Span {
        trace_id: s.trace_id.to_bytes().to_vec(),
        span_id: s.span_id.to_bytes().to_vec(),
        trace_state: s.trace_state.clone(),
        parent_span_id: s.parent_span_id.map_or_else(Vec::new, |p| p.to_bytes().to_vec()),
        flags: s.flags,
        name: s.name.clone(),
        kind: s.kind as i32,
        start_time_unix_nano: s.start.0 as u64,
        end_time_unix_nano: s.end.0 as u64,
        attributes: attributes(&s.attributes),
        dropped_attributes_count: s.dropped_attributes,
        events: s
            .events
            .iter()
            .map(|e| otlp::span::Event {
                time_unix_nano: e.t.0 as u64,
                name: e.name.clone(),
                attributes: attributes(&e.attributes),
                dropped_attributes_count: e.dropped_attributes,
            })
            .collect(),
        dropped_events_count: s.dropped_events,
        links: s
            .links
            .iter()
            .map(|l| otlp::span::Link {
                trace_id: l.trace_id.to_bytes().to_vec(),
                span_id: l.span_id.to_bytes().to_vec(),
                trace_state: l.trace_state.clone(),
                attributes: attributes(&l.attributes),
                dropped_attributes_count: l.dropped_attributes,
                flags: l.flags,
            })
            .collect(),
        dropped_links_count: s.dropped_links,
        status: Some(otlp::Status {
            message: s.status_message.clone(),
            code: s.status as i32,
        }),
    }
}

/// `TraceByIDResponse` of the second API: field 1 is the trace, which is there even when it is empty; 3 says that it is
/// partial, 4 what it lacks.
pub(crate) fn v2_protobuf(trace: &otlp::TracesData, lacking: &str) -> Vec<u8> {
    let inner = trace.encode_to_vec();
    let mut out = Vec::with_capacity(inner.len() + 8);
    prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut out);
    prost::encoding::encode_varint(inner.len() as u64, &mut out);
    out.extend_from_slice(&inner);
    if !lacking.is_empty() {
        prost::encoding::int32::encode(3, &1, &mut out);
        prost::encoding::string::encode(4, &lacking.to_owned(), &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{SpanId, TimestampNs, TraceId};

    fn span() -> Span {
        Span {
            trace_id: TraceId(1),
            span_id: SpanId(1),
            parent_span_id: Some(SpanId(2)),
            name: "GET /".to_owned(),
            kind: SpanKind::Server,
            start: TimestampNs(1_700_000_000_000_000_000),
            end: TimestampNs(1_700_000_000_005_000_000),
            status: StatusCode::Error,
            status_message: "boom".to_owned(),
            attributes: vec![
                KeyValue::new("n", AttributeValue::Int(200)),
                KeyValue::new("a", AttributeValue::Array(Vec::new())),
                KeyValue::new("d", AttributeValue::Double(f64::NAN)),
            ],
            resource: Arc::new(Resource {
                attributes: vec![KeyValue::new("service.name", "shop".into())],
                ..Resource::default()
            }),
            ..Span::default()
        }
    }

    #[test]
    fn a_trace_as_proto3_json() {
        let spans = [span()];
        assert_eq!(
            Groups::of(&spans).json("batches", Spelling::Proto),
            concat!(
                r#"{"batches":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"#,
                r#""scopeSpans":[{"scope":{},"spans":[{"traceId":"AAAAAAAAAAAAAAAAAAAAAQ==","spanId":"AAAAAAAAAAE=","#,
                r#""parentSpanId":"AAAAAAAAAAI=","name":"GET /","kind":"SPAN_KIND_SERVER","#,
                r#""startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000005000000","#,
                r#""attributes":[{"key":"n","value":{"intValue":"200"}},{"key":"a","value":{"arrayValue":{}}},"#,
                r#"{"key":"d","value":{"doubleValue":"NaN"}}],"status":{"message":"boom","code":"STATUS_CODE_ERROR"}}]}]}]}"#
            )
        );
        assert_eq!(Groups::of(&[]).json("resourceSpans", Spelling::Proto), "{}");
    }

    #[test]
    fn a_trace_as_otlp_json() {
        let spans = [span()];
        let json: serde_json::Value =
            serde_json::from_str(&Groups::of(&spans).json("resourceSpans", Spelling::Otlp)).unwrap();
        let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "00000000000000000000000000000001");
        assert_eq!(span["parentSpanId"], "0000000000000002");
        assert_eq!((&span["kind"], &span["status"]["code"]), (&2.into(), &2.into()));
    }

    #[test]
    fn equal_resources_are_one_group() {
        let spans = [span(), span()];
        let trace = Groups::of(&spans).protobuf();
        assert_eq!(trace.resource_spans.len(), 1);
        assert_eq!(trace.resource_spans[0].scope_spans[0].spans.len(), 2);
        let v2 = v2_protobuf(&trace, "");
        assert_eq!(v2[0], 0x0a);
    }
}
