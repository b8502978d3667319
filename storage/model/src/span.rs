//! Spans, as OTLP has them.

use std::sync::Arc;

use crate::{KeyValue, SpanId, TimestampNs, TraceId};

/// What a span's operation is to its neighbours. The discriminants are OTLP's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpanKind {
    /// Not said.
    #[default]
    Unspecified = 0,
    /// Inside one service.
    Internal = 1,
    /// Serves a remote request.
    Server = 2,
    /// Makes a remote request.
    Client = 3,
    /// Puts a message into a queue.
    Producer = 4,
    /// Takes a message from a queue.
    Consumer = 5,
}

impl SpanKind {
    /// From OTLP's number; unknown numbers are `Unspecified`.
    pub fn from_number(n: i32) -> SpanKind {
        match n {
            1 => SpanKind::Internal,
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }
}

/// How an operation ended. The discriminants are OTLP's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StatusCode {
    /// Not said.
    #[default]
    Unset = 0,
    /// Well.
    Ok = 1,
    /// With an error.
    Error = 2,
}

impl StatusCode {
    /// From OTLP's number; unknown numbers are `Unset`.
    pub fn from_number(n: i32) -> StatusCode {
        match n {
            1 => StatusCode::Ok,
            2 => StatusCode::Error,
            _ => StatusCode::Unset,
        }
    }
}

/// Who produced spans: shared by all spans of one OTLP envelope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// Its attributes, `service.name` among them.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
    /// Schema of the attributes, possibly empty.
    pub schema_url: String,
}

impl Resource {
    /// The value of the string attribute `service.name`, or `""`.
    pub fn service_name(&self) -> &str {
        self.attributes
            .iter()
            .rev()
            .find(|kv| kv.key == "service.name")
            .and_then(|kv| match &kv.value {
                crate::AttributeValue::Str(s) => Some(s.as_str()),
                _ => None,
            })
            .unwrap_or("")
    }
}

/// The instrumentation library: shared by all spans of one OTLP scope envelope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The library's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its attributes.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
    /// Schema of the attributes, possibly empty.
    pub schema_url: String,
}

/// Something that happened during a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// When.
    pub t: TimestampNs,
    /// What.
    pub name: String,
    /// Details.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
}

/// A pointer to another span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// The trace pointed at.
    pub trace_id: TraceId,
    /// The span pointed at.
    pub span_id: SpanId,
    /// W3C trace state.
    pub trace_state: String,
    /// Details.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
    /// OTLP flags.
    pub flags: u32,
}

/// One operation of a trace. A span is one by (trace id, span id, kind).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C trace state, possibly empty.
    pub trace_state: String,
    /// OTLP flags.
    pub flags: u32,
    /// The operation.
    pub name: String,
    /// What it is to its neighbours.
    pub kind: SpanKind,
    /// Start.
    pub start: TimestampNs,
    /// End; may lie before `start` when clocks are off (the duration then counts as 0).
    pub end: TimestampNs,
    /// How it ended.
    pub status: StatusCode,
    /// Why, possibly empty.
    pub status_message: String,
    /// Its attributes.
    pub attributes: Vec<KeyValue>,
    /// How many attributes the sender left out.
    pub dropped_attributes: u32,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// How many events the sender left out.
    pub dropped_events: u32,
    /// Pointers to other spans.
    pub links: Vec<Link>,
    /// How many links the sender left out.
    pub dropped_links: u32,
    /// Who produced it.
    pub resource: Arc<Resource>,
    /// Which library produced it.
    pub scope: Arc<Scope>,
}

impl Span {
    /// A span of which nothing else is known yet.
    pub fn of(resource: Arc<Resource>, scope: Arc<Scope>) -> Span {
        // Written out, because a default would make a resource and a scope only to drop them.
        Span {
            resource,
            scope,
            trace_id: TraceId::default(),
            span_id: SpanId::default(),
            parent_span_id: None,
            trace_state: String::new(),
            flags: 0,
            name: String::new(),
            kind: SpanKind::default(),
            start: TimestampNs::default(),
            end: TimestampNs::default(),
            status: StatusCode::default(),
            status_message: String::new(),
            attributes: Vec::new(),
            dropped_attributes: 0,
            events: Vec::new(),
            dropped_events: 0,
            links: Vec::new(),
            dropped_links: 0,
        }
    }

    /// `end - start` in ns, never negative.
    pub fn duration_ns(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0).max(0) as u64
    }
}
