//! TraceQL: text -> syntax tree -> spansets and metrics on a snapshot of the traces engine.

use std::sync::Arc;

use model::{AttributeValue, LabelSet, Resource, SpanId, TimeRangeNs, TimestampNs, TraceId};
use query_exec::{Context, ExecError};
use storage_traces::{AttributeScope, Traces};

/// A query that cannot be parsed or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The whole message, with line and column where there is a position.
    pub message: String,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// It cannot be parsed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It stopped: deadline, cancellation, a limit, or data that does not allow it.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Blocks could not be read.
    #[error(transparent)]
    Storage(#[from] storage_traces::BlockError),
}

/// A parsed query.
#[derive(Clone, Debug)]
pub struct Query {
    _inner: (),
}

/// What a search shall bring.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Traces that touch this range.
    pub range: TimeRangeNs,
    /// Most traces, newest first.
    pub limit: usize,
    /// Most spans shown per spanset.
    pub spans_per_spanset: usize,
    /// Only traces at least this long, ns.
    pub min_duration_ns: Option<u64>,
    /// Only traces at most this long, ns.
    pub max_duration_ns: Option<u64>,
}

/// A span of a search result.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its name (shown when the query looks at names).
    pub name: String,
    /// Its start.
    pub start: TimestampNs,
    /// Its duration, ns.
    pub duration_ns: u64,
    /// The attributes that the query looks at or selects.
    pub attributes: Vec<(String, AttributeValue)>,
}

/// A spanset of a search result.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSpanset {
    /// The first spans, by start.
    pub spans: Vec<FoundSpan>,
    /// How many there are.
    pub matched: u64,
    /// What `by()` and scalar pipelines add.
    pub attributes: Vec<(String, AttributeValue)>,
}

/// Spans and errors of one service within a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// The service's name.
    pub service: String,
    /// Its spans.
    pub spans: u64,
    /// Those with an error.
    pub errors: u64,
}

/// A trace of a search result.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// Service of the root span; `<root span not yet received>` if it is missing.
    pub root_service: String,
    /// Name of the root span; empty if it is missing.
    pub root_name: String,
    /// Start of its first span.
    pub start: TimestampNs,
    /// From first start to last end, ns.
    pub duration_ns: u64,
    /// What matched.
    pub spansets: Vec<FoundSpanset>,
    /// Per service.
    pub services: Vec<ServiceStats>,
}

/// Traces and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchOutput {
    /// Newest first.
    pub traces: Vec<FoundTrace>,
    /// Traces looked at.
    pub inspected_traces: u64,
    /// Spans looked at.
    pub inspected_spans: u64,
    /// Bytes read.
    pub inspected_bytes: u64,
}

/// One series of a metrics query.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    /// Its typed labels in the order of `by (...)`, plus `__name__` for an ungrouped one, as Tempo names them.
    pub labels: Vec<(String, AttributeValue)>,
    /// The same as a label set (Prometheus text form of the values).
    pub prom_labels: LabelSet,
    /// Points: time and value; steps without a value are left out.
    pub points: Vec<(TimestampNs, f64)>,
}

/// Series and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsOutput {
    /// Sorted by labels.
    pub series: Vec<MetricSeries>,
    /// Spans looked at.
    pub inspected_spans: u64,
    /// Bytes read.
    pub inspected_bytes: u64,
}

impl Query {
    /// Parses and validates.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let _ = text;
        todo!()
    }
    /// From the `tags=` form of search: `k=v` pairs (logfmt), each matching `.k`, and the special tags of Tempo.
    pub fn from_tags(tags: &str) -> Result<Query, ParseError> {
        let _ = tags;
        todo!()
    }
    /// Whether it ends in a metrics function.
    pub fn is_metrics(&self) -> bool {
        todo!()
    }
    /// Finds traces, newest first, exact and repeatable.
    pub fn search(
        &self,
        context: &Context,
        traces: &Traces,
        options: &SearchOptions,
    ) -> Result<SearchOutput, EvalError> {
        let _ = (context, traces, options);
        todo!()
    }
    /// Evaluates a metrics query over `range` as one interval; each series has one point, at the range's end.
    pub fn metrics_instant(
        &self,
        context: &Context,
        traces: &Traces,
        range: TimeRangeNs,
    ) -> Result<MetricsOutput, EvalError> {
        let _ = (context, traces, range);
        todo!()
    }
    /// Evaluates a metrics query at steps of `step_ns` over `range` (aligned as Tempo aligns).
    pub fn metrics_range(
        &self,
        context: &Context,
        traces: &Traces,
        range: TimeRangeNs,
        step_ns: i64,
    ) -> Result<MetricsOutput, EvalError> {
        let _ = (context, traces, range, step_ns);
        todo!()
    }
}

/// Names of attributes and intrinsics in use, by scope; only of spans that pass `filter` if given.
pub fn tag_names(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    scope: Option<AttributeScope>,
) -> Result<Vec<(AttributeScope, String)>, EvalError> {
    let _ = (context, traces, range, scope);
    todo!()
}

/// Distinct values of a tag named as TraceQL names it (`resource.service.name`, `.http.method`, `status`, `span:name`) or as
/// the v1 API does (`service.name`); only of spans that pass `filter` (a lenient `{...}`) if given; at most `limit`.
pub fn tag_values(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    tag: &str,
    filter: Option<&str>,
    limit: usize,
) -> Result<Vec<AttributeValue>, EvalError> {
    let _ = (context, traces, range, tag, filter, limit);
    todo!()
}

#[allow(dead_code)]
fn _unused(_: Arc<Resource>) {}
