//! What is asked of a snapshot: which traces may be left out, and how much of the others is wanted.

use model::AttributeValue;

/// Where an attribute hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeScope {
    /// On the span.
    Span,
    /// On the resource.
    Resource,
    /// On an event of the span.
    Event,
    /// On a link of the span.
    Link,
    /// On the instrumentation scope.
    Instrumentation,
    /// On the span or, failing that, on the resource (`.name` in TraceQL).
    Any,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A span's name.
    Name,
    /// A span's status, as OTLP's number.
    Status,
    /// A span's kind, as OTLP's number.
    Kind,
    /// A span's duration, ns.
    Duration,
    /// A span's id, as text of 16 hex digits.
    SpanId,
    /// An attribute.
    Attribute(AttributeScope, String),
}

/// How a condition compares. A missing value passes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There is a value.
    Exists,
    /// It equals one of these.
    In(Vec<AttributeValue>),
    /// It is text that matches (anchored).
    Matches(String),
    /// It is a number of at least this.
    AtLeast(f64),
    /// It is a number of at most this.
    AtMost(f64),
}

/// One thing that a wanted span shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// How.
    pub test: Test,
}

/// What a scan shall bring.
#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    /// Alternatives, each a list of conditions that one span shows together. A trace without any such span may be
    /// skipped (this is pushdown: the engine may bring more, never less). Empty: no trace may be skipped.
    pub any_of: Vec<Vec<Condition>>,
    /// Which attributes to decode.
    pub attributes: Projection,
    /// Whether events are wanted.
    pub events: bool,
    /// Whether links are wanted.
    pub links: bool,
    /// Leave out what few ask for: status message, trace state, flags, schema URLs, counts of what senders left out, and
    /// the instrumentation scope.
    pub lean: bool,
}

/// Which attributes a scan decodes; the others are absent from the spans it brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Projection {
    /// Every attribute.
    #[default]
    All,
    /// Only these (and always `service.name` of the resource).
    Only(Vec<(AttributeScope, String)>),
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Traces looked at.
    pub traces: u64,
    /// Spans looked at.
    pub spans: u64,
    /// Bytes read.
    pub bytes: u64,
}
