//! From Jaeger's spans to OTLP's.
//!
//! Tags that have a place of their own in OTLP go there and are removed: `span.kind`, `error`, `otel.status_code`,
//! `w3c.tracestate`, the library's name and version, a log's `event`. The parent is the one named, else the first
//! CHILD_OF reference into the same trace, else the first FOLLOWS_FROM; the other references become links that tell their
//! kind in `opentracing.ref_type`.

use std::sync::Arc;

use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Span, SpanBatch, SpanId, SpanKind, StatusCode, TimestampNs,
    TraceId,
};

use super::{JaegerSpan, Process, Reference, Relation};
use crate::report::Report;
use crate::span_senders::Scopes;

/// Spans translated so far, and what became of them.
#[derive(Default)]
pub(super) struct Translation {
    batch: SpanBatch,
    report: Report,
    scopes: Scopes,
    /// Where the current batch begins.
    begun: Option<usize>,
    /// The process of a batch may come after its spans.
    process: Option<Arc<Resource>>,
}

impl Translation {
    /// A batch begins.
    pub fn begin(&mut self) {
        self.begun = Some(self.batch.spans.len());
    }

    /// The process of the batch.
    pub fn process(&mut self, resource: Resource) {
        self.process = Some(Arc::new(resource));
    }

    /// Whether there was any batch at all.
    pub fn saw_batch(&self) -> bool {
        self.begun.is_some() || self.process.is_some()
    }

    /// Takes a span, unless its ids are no ids.
    pub fn span(&mut self, span: JaegerSpan) {
        self.report.items += 1;
        if span.trace_id == 0 || span.span_id == 0 {
            let what = if span.trace_id == 0 { "trace" } else { "span" };
            self.report
                .reject(1, || format!("span {:?} has an invalid {what} id", span.name));
            return;
        }
        let span = self.translated(span);
        self.batch.spans.push(span);
    }

    /// The spans, with the process of the batch where it was given apart.
    pub fn finish(mut self) -> (SpanBatch, Report) {
        if let Some(process) = self.process {
            let begun = self.begun.unwrap_or(0);
            for span in self.batch.spans.iter_mut().skip(begun) {
                span.resource = process.clone();
            }
        }
        (self.batch, self.report)
    }

    fn translated(&mut self, span: JaegerSpan) -> Span {
        let JaegerSpan {
            mut tags, references, ..
        } = span;
        let is_kind = |value: &AttributeValue| matches!(value, AttributeValue::Str(word) if span_kind(word).is_some());
        let kind = match taken(&mut tags, "span.kind", is_kind) {
            Some(AttributeValue::Str(word)) => span_kind(&word).unwrap_or_default(),
            _ => SpanKind::Unspecified,
        };
        let (status, status_message) = status(&mut tags, kind);
        let trace_state = taken_text(&mut tags, "w3c.tracestate").unwrap_or_default();
        let scope = self.scopes.told(|key| taken_text(&mut tags, key));
        let parent = parent(span.trace_id, span.parent_id, &references);
        let links = references
            .iter()
            .filter(|r| !(r.trace_id == span.trace_id && Some(r.span_id) == parent))
            .filter(|r| r.trace_id != 0 && r.span_id != 0)
            .map(link);
        Span {
            trace_id: TraceId(span.trace_id),
            span_id: SpanId(span.span_id),
            parent_span_id: parent.map(SpanId),
            trace_state,
            name: span.name,
            kind,
            start: span.start,
            end: TimestampNs(span.start.0.saturating_add(span.duration_ns.max(0))),
            status,
            status_message,
            attributes: tags,
            dropped_attributes: span.dropped_tags,
            events: span.logs.into_iter().map(event).collect(),
            dropped_events: span.dropped_logs,
            links: links.collect(),
            resource: span.resource,
            scope,
            ..Span::default()
        }
    }
}

/// The resource that a process is.
pub(super) fn resource_of(process: Process) -> Resource {
    let service =
        (!process.service.is_empty()).then(|| KeyValue::new("service.name", AttributeValue::Str(process.service)));
    let tags = process.tags.into_iter().map(|tag| match (&*tag.key, &tag.value) {
        ("hostname", _) => KeyValue::new("host.name", tag.value),
        ("jaeger.version", AttributeValue::Str(version)) => KeyValue::new(
            "opencensus.exporterversion",
            AttributeValue::Str(format!("Jaeger-{version}")),
        ),
        _ => tag,
    });
    Resource {
        attributes: service.into_iter().chain(tags).collect(),
        ..Resource::default()
    }
}

/// OTLP's kind by the word of OpenTracing.
pub(crate) fn span_kind(word: &str) -> Option<SpanKind> {
    match word {
        "client" => Some(SpanKind::Client),
        "server" => Some(SpanKind::Server),
        "producer" => Some(SpanKind::Producer),
        "consumer" => Some(SpanKind::Consumer),
        "internal" => Some(SpanKind::Internal),
        _ => None,
    }
}

fn parent(trace_id: u128, named: u64, references: &[Reference]) -> Option<u64> {
    if named != 0 {
        return Some(named);
    }
    let first = |relation| {
        let same = |r: &&Reference| r.relation == relation && r.trace_id == trace_id && r.span_id != 0;
        references.iter().find(same).map(|r| r.span_id)
    };
    first(Relation::ChildOf).or_else(|| first(Relation::FollowsFrom))
}

fn link(reference: &Reference) -> Link {
    let relation = match reference.relation {
        Relation::ChildOf => "child_of",
        Relation::FollowsFrom => "follows_from",
    };
    Link {
        trace_id: TraceId(reference.trace_id),
        span_id: SpanId(reference.span_id),
        attributes: vec![KeyValue::new("opentracing.ref_type", relation.into())],
        ..Link::default()
    }
}

fn event(mut log: Event) -> Event {
    log.name = taken_text(&mut log.attributes, "event").unwrap_or_default();
    log
}

/// An `error` that is true decides; then `otel.status_code`; then HTTP's status, as OpenTelemetry reads it.
fn status(tags: &mut Vec<KeyValue>, kind: SpanKind) -> (StatusCode, String) {
    let failed = taken(tags, "error", |value| *value == AttributeValue::Bool(true)).is_some();
    let told = taken_text(tags, "otel.status_code");
    let described = taken_text(tags, "otel.status_description");
    let http_message = || {
        let tag = tags.iter().find(|tag| tag.key == "http.status_message");
        match tag.map(|tag| &tag.value) {
            Some(AttributeValue::Str(text)) => text.clone(),
            _ => String::new(),
        }
    };
    if failed {
        return (StatusCode::Error, described.unwrap_or_else(http_message));
    }
    if let Some(told) = told {
        let status = match told.to_ascii_uppercase().as_str() {
            "OK" => StatusCode::Ok,
            "ERROR" => StatusCode::Error,
            _ => StatusCode::Unset,
        };
        return (status, described.unwrap_or_default());
    }
    let http = tags.iter().find(|tag| tag.key == "http.status_code");
    let http = match http.map(|tag| &tag.value) {
        Some(AttributeValue::Int(code)) => *code,
        Some(AttributeValue::Str(code)) => code.parse().unwrap_or(0),
        _ => 0,
    };
    let is_error = http >= 500 || (http >= 400 && kind == SpanKind::Client);
    match is_error {
        true => (StatusCode::Error, described.unwrap_or_else(http_message)),
        false => (StatusCode::Unset, described.unwrap_or_default()),
    }
}

/// Removes the tag with this key and a value that fits.
fn taken(tags: &mut Vec<KeyValue>, key: &str, fits: impl Fn(&AttributeValue) -> bool) -> Option<AttributeValue> {
    let at = tags.iter().position(|tag| tag.key == key && fits(&tag.value))?;
    Some(tags.remove(at).value)
}

fn taken_text(tags: &mut Vec<KeyValue>, key: &str) -> Option<String> {
    match taken(tags, key, |value| matches!(value, AttributeValue::Str(_)))? {
        AttributeValue::Str(text) => Some(text),
        _ => None,
    }
}
