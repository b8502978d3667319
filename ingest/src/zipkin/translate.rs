//! From Zipkin's spans to OTLP's.
//!
//! Tags that have a place of their own in OTLP go there: those that describe who sent the span to its resource, the
//! library's name and version to its scope, status, kind, trace state and links to theirs. Spans of one sender share one
//! resource.
//!
//! A span without a timestamp cannot be kept where it belongs, for nobody knows when it was. It gets the start of the
//! first span of its trace in the same request, else the moment of its arrival, and says so in the attribute
//! `otel.zipkin.absentField.startTime`.

use std::collections::HashMap;
use std::sync::Arc;

use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Span, SpanBatch, SpanId, SpanKind, StatusCode, TimestampNs,
    TraceId,
};

use super::{Endpoint, Kind, ZipkinSpan, text_bytes};
use crate::jaeger::span_kind;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::span_senders::Scopes;

/// Tags that describe the sender: these, and what begins with [`RESOURCE_PREFIXES`].
const RESOURCE_KEYS: [&str; 2] = ["deployment.environment", "deployment.environment.name"];
const RESOURCE_PREFIXES: [&str; 9] = [
    "service.",
    "host.",
    "k8s.",
    "cloud.",
    "container.",
    "process.",
    "os.",
    "telemetry.sdk.",
    "device.",
];

/// Says that a span came without a timestamp.
const ABSENT_START: &str = "otel.zipkin.absentField.startTime";

type Tags = Vec<(String, String)>;

/// Translates spans that arrived at `arrived`; `report` has seen those that could not be read.
pub(crate) fn translated(
    spans: Vec<ZipkinSpan>,
    mut report: Report,
    arrived: TimestampNs,
    room: &mut Room,
) -> Result<(SpanBatch, Report), Refusal> {
    // A span of version 1 may have become two.
    report.items = report.items.max(report.rejected + spans.len() as u64);
    let mut first: HashMap<u128, u64> = HashMap::new();
    for span in &spans {
        if let Some(us) = span.timestamp {
            let start = first.entry(span.trace_id).or_insert(us);
            *start = us.min(*start);
        }
    }
    let mut translation = Translation {
        resources: HashMap::new(),
        scopes: Scopes::default(),
        first,
        arrived,
    };
    let mut batch = SpanBatch::default();
    for span in spans {
        if span.trace_id == 0 || span.id == 0 {
            report.reject(1, || format!("span {:?} has an invalid id", span.name));
            continue;
        }
        room.take(size_of::<Span>() + text_bytes(&span.tags, &span.annotations))?;
        batch.spans.push(translation.span(span));
    }
    Ok((batch, report))
}

struct Translation {
    /// By the attributes that make them.
    resources: HashMap<Tags, Arc<Resource>>,
    scopes: Scopes,
    /// Start of each trace, µs.
    first: HashMap<u128, u64>,
    arrived: TimestampNs,
}

impl Translation {
    fn span(&mut self, span: ZipkinSpan) -> Span {
        let mut tags = span.tags;
        let kind = match span.kind {
            Some(Kind::Client) => SpanKind::Client,
            Some(Kind::Server) => SpanKind::Server,
            Some(Kind::Producer) => SpanKind::Producer,
            Some(Kind::Consumer) => SpanKind::Consumer,
            None => {
                let tagged = tags
                    .iter()
                    .position(|(key, word)| key == "span.kind" && span_kind(word).is_some());
                let word = tagged.map(|at| tags.remove(at).1);
                word.and_then(|word| span_kind(&word)).unwrap_or_default()
            }
        };
        let (status, status_message) = status(&mut tags);
        let trace_state = taken(&mut tags, "w3c.tracestate").unwrap_or_default();
        let scope = self.scopes.told(|key| taken(&mut tags, key));
        let links = links(&mut tags);
        let resource = self.resource(&span.local.service, &mut tags);
        let mut attributes = Vec::with_capacity(tags.len() + 4);
        let start = match (span.timestamp, self.first.get(&span.trace_id)) {
            (Some(us), _) => instant(us),
            (None, first) => {
                attributes.push(KeyValue::new(ABSENT_START, AttributeValue::Bool(true)));
                first.map_or(self.arrived, |us| instant(*us))
            }
        };
        address(&mut attributes, &span.local, "net.host.ip", "net.host.port");
        if !span.remote.service.is_empty() {
            attributes.push(KeyValue::new(
                "peer.service",
                AttributeValue::Str(span.remote.service.clone()),
            ));
        }
        address(&mut attributes, &span.remote, "net.peer.ip", "net.peer.port");
        attributes.extend(tags.into_iter().map(|(k, v)| KeyValue::new(k, AttributeValue::Str(v))));
        let duration = i64::try_from(span.duration.saturating_mul(1000)).unwrap_or(i64::MAX);
        Span {
            trace_id: TraceId(span.trace_id),
            span_id: SpanId(span.id),
            parent_span_id: span.parent.filter(|parent| *parent != span.id).map(SpanId),
            trace_state,
            name: span.name,
            kind,
            start,
            end: TimestampNs(start.0.saturating_add(duration)),
            status,
            status_message,
            attributes,
            dropped_attributes: span.dropped_tags,
            events: span.annotations.into_iter().map(event).collect(),
            dropped_events: span.dropped_annotations,
            links,
            resource,
            scope,
            ..Span::default()
        }
    }

    fn resource(&mut self, service: &str, tags: &mut Tags) -> Arc<Resource> {
        let mut own: Tags = Vec::new();
        tags.retain(|(key, value)| {
            let is_resource =
                RESOURCE_KEYS.contains(&key.as_str()) || RESOURCE_PREFIXES.iter().any(|p| key.starts_with(p));
            if is_resource {
                own.push((key.clone(), value.clone()));
            }
            !is_resource
        });
        if !service.is_empty() && !own.iter().any(|(key, _)| key == "service.name") {
            own.insert(0, ("service.name".to_owned(), service.to_owned()));
        }
        let resource = self.resources.entry(own).or_insert_with_key(|own| {
            let attributes = own.iter().map(|(k, v)| KeyValue::new(k.clone(), v.as_str().into()));
            Arc::new(Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            })
        });
        resource.clone()
    }
}

fn instant(us: u64) -> TimestampNs {
    TimestampNs(i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX))
}

fn address(attributes: &mut Vec<KeyValue>, endpoint: &Endpoint, ip: &str, port: &str) {
    if let Some(address) = endpoint.ipv4.or(endpoint.ipv6) {
        attributes.push(KeyValue::new(ip, AttributeValue::Str(address.to_string())));
    }
    if endpoint.port != 0 {
        attributes.push(KeyValue::new(port, AttributeValue::Int(endpoint.port.into())));
    }
}

/// Any `error` tag makes an error. It stays as an attribute if it says more than `true`.
fn status(tags: &mut Tags) -> (StatusCode, String) {
    let (mut status, mut message) = (StatusCode::Unset, String::new());
    if let Some(code) = taken(tags, "otel.status_code") {
        let code = code.to_ascii_uppercase();
        status = match code.strip_prefix("STATUS_CODE_").unwrap_or(&code) {
            "OK" => StatusCode::Ok,
            "ERROR" => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        message = taken(tags, "otel.status_description").unwrap_or_default();
    }
    if let Some(at) = tags.iter().position(|(key, _)| key == "error") {
        status = StatusCode::Error;
        if tags[at].1 == "true" {
            tags.remove(at);
        }
    }
    (status, message)
}

/// `name|{attributes as JSON}|dropped`, as OpenTelemetry writes events into annotations; any other text is a name.
fn event((us, value): (u64, String)) -> Event {
    let mut event = Event {
        t: instant(us),
        ..Event::default()
    };
    match unpacked(&value) {
        Some((name, attributes, dropped)) => {
            event.name = name.to_owned();
            event.attributes = attributes;
            event.dropped_attributes = dropped;
        }
        None => event.name = value,
    }
    event
}

fn unpacked(value: &str) -> Option<(&str, Vec<KeyValue>, u32)> {
    let (name, rest) = value.split_once('|')?;
    let (json, dropped) = rest.rsplit_once('|')?;
    Some((name, attributes_of(json)?, dropped.parse().ok()?))
}

/// `otlp.link.N` = `trace id|span id|trace state|{attributes as JSON}|dropped`. What is no link stays a tag.
fn links(tags: &mut Tags) -> Vec<Link> {
    let mut links = Vec::new();
    tags.retain(|(key, value)| {
        let is_link = key.strip_prefix("otlp.link.").is_some_and(|n| n.parse::<u32>().is_ok());
        match is_link.then(|| link(value)).flatten() {
            Some(link) => {
                links.push(link);
                false
            }
            None => true,
        }
    });
    links
}

fn link(value: &str) -> Option<Link> {
    let mut parts = value.splitn(4, '|');
    let trace_id: TraceId = parts.next()?.parse().ok()?;
    let span_id: SpanId = parts.next()?.parse().ok()?;
    let trace_state = parts.next()?.to_owned();
    let (json, dropped) = parts.next()?.rsplit_once('|')?;
    Some(Link {
        trace_id,
        span_id,
        trace_state,
        attributes: attributes_of(json)?,
        dropped_attributes: dropped.parse().ok()?,
        ..Link::default()
    })
}

/// The members of a JSON object; what is neither text, number nor bool stays JSON.
fn attributes_of(json: &str) -> Option<Vec<KeyValue>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    let value = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => AttributeValue::Str(text),
        serde_json::Value::Bool(truth) => AttributeValue::Bool(truth),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(int) => AttributeValue::Int(int),
            None => AttributeValue::Double(n.as_f64().unwrap_or(f64::NAN)),
        },
        other => AttributeValue::Str(other.to_string()),
    };
    Some(object.into_iter().map(|(k, v)| KeyValue::new(k, value(v))).collect())
}

fn taken(tags: &mut Tags, key: &str) -> Option<String> {
    let at = tags.iter().position(|(k, _)| k == key)?;
    Some(tags.remove(at).1)
}
