//! Traces as Jaeger has them, in its envelope: times in µs, typed tags, a process for each resource.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{AttributeValue, KeyValue, Link, Resource, Span, SpanKind, StatusCode, TraceId};
use query_traceql::Calls;

use crate::number::push_json;

/// The service of spans whose resource names none, as OpenTelemetry's bridges to Jaeger call it.
const NO_SERVICE: &str = "OTLPResourceNoServiceName";

/// Status, words, and the trace concerned.
pub(super) type ErrorEntry = (u16, String, Option<TraceId>);

/// The envelope around `data`, which is JSON; `total` as Jaeger counts it.
pub(super) fn envelope(data: &str, total: usize, errors: &[ErrorEntry]) -> String {
    let mut out = String::with_capacity(data.len() + 64);
    let _ = write!(
        out,
        "{{\"data\":{data},\"total\":{total},\"limit\":0,\"offset\":0,\"errors\":"
    );
    if errors.is_empty() {
        out.push_str("null}");
        return out;
    }
    list(&mut out, errors, |out, (code, message, trace)| {
        let _ = write!(out, "{{\"code\":{code},\"msg\":");
        push_json(out, message);
        if let Some(id) = trace {
            let _ = write!(out, ",\"traceID\":\"{id}\"");
        }
        out.push('}');
    });
    out.push('}');
    out
}

/// The envelope of an error.
pub(super) fn envelope_of_errors(errors: &[ErrorEntry]) -> String {
    envelope("null", 0, errors)
}

/// A list of texts.
pub(super) fn texts<S: AsRef<str>>(all: &[S]) -> String {
    let mut out = String::new();
    list(&mut out, all, |out, text| push_json(out, text.as_ref()));
    out
}

/// Operations with the kinds of their spans.
pub(super) fn operations(all: &[(String, SpanKind)]) -> String {
    let mut out = String::new();
    list(&mut out, all, |out, (name, kind)| {
        out.push_str("{\"name\":");
        push_json(out, name);
        let _ = write!(out, ",\"spanKind\":\"{}\"}}", kind_word(*kind));
    });
    out
}

/// Who calls whom.
pub(super) fn dependencies(all: &[Calls]) -> String {
    let mut out = String::new();
    list(&mut out, all, |out, calls| {
        out.push_str("{\"parent\":");
        push_json(out, &calls.parent);
        out.push_str(",\"child\":");
        push_json(out, &calls.child);
        let _ = write!(out, ",\"callCount\":{}}}", calls.count);
    });
    out
}

/// Traces, each with its spans.
pub(super) fn traces(all: &[(TraceId, Vec<Span>)]) -> String {
    let mut out = String::with_capacity(4096);
    list(&mut out, all, |out, (id, spans)| push_trace(out, *id, spans));
    out
}

/// `client`, `server` ..., empty if it is not said.
pub(super) fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn push_trace(out: &mut String, id: TraceId, spans: &[Span]) {
    let mut processes = Processes::default();
    let _ = write!(out, "{{\"traceID\":\"{id}\",\"spans\":");
    list(out, spans, |out, span| {
        push_span(out, span, processes.of(&span.resource))
    });
    out.push_str(",\"processes\":{");
    for (i, resource) in processes.all.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let _ = write!(out, "{comma}\"p{}\":{{\"serviceName\":", i + 1);
        let service = resource.service_name();
        push_json(out, if service.is_empty() { NO_SERVICE } else { service });
        out.push_str(",\"tags\":");
        let tags: Vec<&KeyValue> = resource
            .attributes
            .iter()
            .filter(|kv| kv.key != "service.name")
            .collect();
        list(out, &tags, |out, kv| push_tag(out, &kv.key, &kv.value));
        out.push('}');
    }
    out.push_str("},\"warnings\":null}");
}

/// The resources of one trace, in order of appearance.
#[derive(Default)]
struct Processes {
    all: Vec<Arc<Resource>>,
    // Most spans share their resource by pointer; equal resources of different requests are joined by value.
    by_pointer: HashMap<*const Resource, usize>,
}

impl Processes {
    /// Its number, from 1.
    fn of(&mut self, resource: &Arc<Resource>) -> usize {
        let all = &mut self.all;
        let at = self.by_pointer.entry(Arc::as_ptr(resource)).or_insert_with(|| {
            all.iter().position(|known| **known == **resource).unwrap_or_else(|| {
                all.push(resource.clone());
                all.len() - 1
            })
        });
        *at + 1
    }
}

fn push_span(out: &mut String, span: &Span, process: usize) {
    let _ = write!(
        out,
        "{{\"traceID\":\"{}\",\"spanID\":\"{}\",\"flags\":1,\"operationName\":",
        span.trace_id, span.span_id
    );
    push_json(out, &span.name);
    out.push_str(",\"references\":[");
    if let Some(parent) = span.parent_span_id {
        push_reference(out, "CHILD_OF", span.trace_id, &parent.to_string());
    }
    for (i, link) in span.links.iter().enumerate() {
        if i > 0 || span.parent_span_id.is_some() {
            out.push(',');
        }
        push_reference(out, relation(link), link.trace_id, &link.span_id.to_string());
    }
    let _ = write!(
        out,
        "],\"startTime\":{},\"duration\":{},\"tags\":[",
        span.start.0.div_euclid(1000),
        span.duration_ns() / 1000
    );
    push_tags(out, span);
    out.push_str("],\"logs\":");
    list(out, &span.events, |out, event| {
        let _ = write!(out, "{{\"timestamp\":{},\"fields\":[", event.t.0.div_euclid(1000));
        let mut first = true;
        if !event.name.is_empty() {
            push_text_tag(out, "event", &event.name);
            first = false;
        }
        for kv in event
            .attributes
            .iter()
            .filter(|kv| event.name.is_empty() || kv.key != "event")
        {
            if !first {
                out.push(',');
            }
            first = false;
            push_tag(out, &kv.key, &kv.value);
        }
        out.push_str("]}");
    });
    let _ = write!(out, ",\"processID\":\"p{process}\",\"warnings\":");
    let warnings = warnings(span);
    if warnings.is_empty() {
        out.push_str("null");
    } else {
        list(out, &warnings, |out, w| push_json(out, w));
    }
    out.push('}');
}

fn push_reference(out: &mut String, relation: &str, trace: TraceId, span: &str) {
    let _ = write!(
        out,
        "{{\"refType\":\"{relation}\",\"traceID\":\"{trace}\",\"spanID\":\"{span}\"}}"
    );
}

/// A link says in an attribute if it came as another kind of reference.
fn relation(link: &Link) -> &'static str {
    let is_child = link
        .attributes
        .iter()
        .any(|kv| kv.key == "opentracing.ref_type" && kv.value == AttributeValue::Str("child_of".to_owned()));
    if is_child { "CHILD_OF" } else { "FOLLOWS_FROM" }
}

/// The attributes, and what Jaeger has no field for.
fn push_tags(out: &mut String, span: &Span) {
    let mut first = true;
    let mut next = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
    };
    for (key, text) in [
        ("otel.scope.name", span.scope.name.as_str()),
        ("otel.scope.version", &span.scope.version),
    ] {
        if !text.is_empty() {
            next(out);
            push_text_tag(out, key, text);
        }
    }
    for kv in &span.attributes {
        next(out);
        push_tag(out, &kv.key, &kv.value);
    }
    if span.kind != SpanKind::Unspecified {
        next(out);
        push_text_tag(out, "span.kind", kind_word(span.kind));
    }
    match span.status {
        StatusCode::Unset => {}
        StatusCode::Ok => {
            next(out);
            push_text_tag(out, "otel.status_code", "OK");
        }
        StatusCode::Error => {
            next(out);
            push_text_tag(out, "otel.status_code", "ERROR");
            if !span.attributes.iter().any(|kv| kv.key == "error") {
                next(out);
                push_tag(out, "error", &AttributeValue::Bool(true));
            }
        }
    }
    for (key, text) in [
        ("otel.status_description", span.status_message.as_str()),
        ("w3c.tracestate", &span.trace_state),
    ] {
        if !text.is_empty() {
            next(out);
            push_text_tag(out, key, text);
        }
    }
}

fn push_text_tag(out: &mut String, key: &str, text: &str) {
    out.push_str("{\"key\":");
    push_json(out, key);
    out.push_str(",\"type\":\"string\",\"value\":");
    push_json(out, text);
    out.push('}');
}

fn push_tag(out: &mut String, key: &str, value: &AttributeValue) {
    let typed = match value {
        AttributeValue::Bool(b) => Some(("bool", b.to_string())),
        AttributeValue::Int(i) => Some(("int64", i.to_string())),
        AttributeValue::Double(d) if d.is_finite() => Some(("float64", d.to_string())),
        _ => None,
    };
    if let Some((kind, value)) = typed {
        out.push_str("{\"key\":");
        push_json(out, key);
        let _ = write!(out, ",\"type\":\"{kind}\",\"value\":{value}}}");
        return;
    }
    match value {
        AttributeValue::Str(text) => push_text_tag(out, key, text),
        AttributeValue::Bytes(bytes) => {
            out.push_str("{\"key\":");
            push_json(out, key);
            let _ = write!(out, ",\"type\":\"binary\",\"value\":\"{}\"}}", STANDARD.encode(bytes));
        }
        AttributeValue::Empty => push_text_tag(out, key, ""),
        AttributeValue::Double(none) => push_text_tag(out, key, &none.to_string()),
        other => push_text_tag(out, key, &json_text(other).to_string()),
    }
}

/// Lists and maps are shown as JSON.
fn json_text(value: &AttributeValue) -> serde_json::Value {
    use serde_json::Value;
    match value {
        AttributeValue::Empty => Value::Null,
        AttributeValue::Str(text) => Value::String(text.clone()),
        AttributeValue::Bool(b) => Value::Bool(*b),
        AttributeValue::Int(i) => Value::from(*i),
        AttributeValue::Double(d) => {
            serde_json::Number::from_f64(*d).map_or_else(|| d.to_string().into(), Value::Number)
        }
        AttributeValue::Bytes(bytes) => Value::String(STANDARD.encode(bytes)),
        AttributeValue::Array(values) => Value::Array(values.iter().map(json_text).collect()),
        AttributeValue::Map(pairs) => pairs.iter().map(|kv| (kv.key.clone(), json_text(&kv.value))).collect(),
    }
}

fn warnings(span: &Span) -> Vec<String> {
    let dropped = [
        (span.dropped_attributes, "tags"),
        (span.dropped_events, "logs"),
        (span.dropped_links, "references"),
    ];
    dropped
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what} were dropped by the sender or on the way"))
        .collect()
}

fn list<T>(out: &mut String, items: &[T], mut each: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Event, Scope, SpanId, TimestampNs};

    #[test]
    fn a_trace_has_the_shape_of_jaeger() {
        let resource = Arc::new(Resource {
            attributes: vec![
                KeyValue::new("service.name", "shop".into()),
                KeyValue::new("host.name", "a".into()),
            ],
            ..Resource::default()
        });
        let link = |relation: Option<&str>| Link {
            trace_id: TraceId(9),
            span_id: SpanId(8),
            attributes: relation
                .map(|r| KeyValue::new("opentracing.ref_type", r.into()))
                .into_iter()
                .collect(),
            ..Link::default()
        };
        let span = Span {
            trace_id: TraceId(1),
            span_id: SpanId(2),
            parent_span_id: Some(SpanId(1)),
            name: "GET /".to_owned(),
            kind: SpanKind::Server,
            start: TimestampNs(1_700_000_000_000_000_999),
            end: TimestampNs(1_700_000_000_005_000_999),
            status: StatusCode::Error,
            status_message: "boom".to_owned(),
            attributes: vec![
                KeyValue::new("http.status_code", 200.into()),
                KeyValue::new("load", AttributeValue::Double(0.5)),
                KeyValue::new("nan", AttributeValue::Double(f64::NAN)),
                KeyValue::new("raw", AttributeValue::Bytes(vec![1])),
                KeyValue::new("list", AttributeValue::Array(vec![1.into(), "x".into()])),
            ],
            events: vec![Event {
                t: TimestampNs(1_700_000_000_001_000_000),
                name: "x".to_owned(),
                attributes: vec![KeyValue::new("n", 1.into())],
                ..Event::default()
            }],
            links: vec![link(None), link(Some("child_of"))],
            dropped_links: 3,
            scope: Arc::new(Scope {
                name: "lib".to_owned(),
                ..Scope::default()
            }),
            resource: resource.clone(),
            ..Span::default()
        };
        let twin = Span {
            trace_id: TraceId(1),
            span_id: SpanId(1),
            resource: Arc::new((*resource).clone()),
            ..Span::default()
        };
        let text = traces(&[(TraceId(1), vec![span, twin])]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (t, s) = ("00000000000000000000000000000001", "0000000000000002");
        assert_eq!(
            json,
            serde_json::json!([{
                "traceID": t,
                "spans": [{
                    "traceID": t, "spanID": s, "flags": 1, "operationName": "GET /",
                    "references": [
                        {"refType": "CHILD_OF", "traceID": t, "spanID": "0000000000000001"},
                        {"refType": "FOLLOWS_FROM", "traceID": "00000000000000000000000000000009", "spanID": "0000000000000008"},
                        {"refType": "CHILD_OF", "traceID": "00000000000000000000000000000009", "spanID": "0000000000000008"},
                    ],
                    "startTime": 1_700_000_000_000_000i64, "duration": 5000,
                    "tags": [
                        {"key": "otel.scope.name", "type": "string", "value": "lib"},
                        {"key": "http.status_code", "type": "int64", "value": 200},
                        {"key": "load", "type": "float64", "value": 0.5},
                        {"key": "nan", "type": "string", "value": "NaN"},
                        {"key": "raw", "type": "binary", "value": "AQ=="},
                        {"key": "list", "type": "string", "value": "[1,\"x\"]"},
                        {"key": "span.kind", "type": "string", "value": "server"},
                        {"key": "otel.status_code", "type": "string", "value": "ERROR"},
                        {"key": "error", "type": "bool", "value": true},
                        {"key": "otel.status_description", "type": "string", "value": "boom"},
                    ],
                    "logs": [{"timestamp": 1_700_000_000_001_000i64, "fields": [
                        {"key": "event", "type": "string", "value": "x"},
                        {"key": "n", "type": "int64", "value": 1},
                    ]}],
                    "processID": "p1",
                    "warnings": ["3 references were dropped by the sender or on the way"],
                }, {
                    "traceID": t, "spanID": "0000000000000001", "flags": 1, "operationName": "", "references": [],
                    "startTime": 0, "duration": 0, "tags": [], "logs": [], "processID": "p1", "warnings": null,
                }],
                "processes": {"p1": {"serviceName": "shop", "tags": [{"key": "host.name", "type": "string", "value": "a"}]}},
                "warnings": null,
            }])
        );
    }
}
