//! TraceQL: text -> syntax tree -> spansets and metrics on a snapshot of the traces engine.
//!
//! [`Query::parse`] reads the whole language into a tree of our own ([`syntax`]), refuses what makes no sense ([`check`]) and
//! lays out what runs and what storage need not bring ([`plan`]). A pipeline runs trace by trace over all spans of the trace
//! ([`run`]); [`Query::search`] keeps the newest traces in which something is left, [`Query::metrics_range`] counts the spans
//! that are left. The hints `sample`, `span_sample` and `trace_sample` are taken and answered exactly, from all spans.
//!
//! If you look for a structural operator, start at [`structural`]; for how values compare, at [`value`]; for the words of a
//! refusal, at [`refusal`].

mod by_example;
mod by_rows;
mod check;
mod compare;
mod counting;
mod duration;
#[cfg(test)]
mod engine_test;
pub mod evaluate;
mod exemplar;
mod intervals;
mod lenient;
mod lex;
mod metrics;
mod parse;
mod plan;
mod refusal;
mod run;
mod search;
mod seen;
mod spelled;
mod structural;
mod syntax;
#[cfg(test)]
mod syntax_test;
mod tag_search;
mod tags;
mod topology;
mod trace_filter;
mod tree;
mod value;
mod view;

use std::sync::Arc;

use model::{AttributeValue, LabelSet, SpanId, TimeRangeNs, TimestampNs, TraceId};
use query_exec::{Context, ExecError};
use storage_traces::Traces;

pub use by_example::SpanExample;
pub use duration::to_text as duration_text;
pub use spelled::float_text;
pub use tags::{TagName, tag_names, tag_values};
pub use topology::{Calls, calls, operations};
pub use trace_filter::{Kinship, TraceFilter, TraceFilterError};

use counting::Counting;
use exemplar::Origin;
use intervals::Intervals;
use metrics::{FunctionPlan, Groups, MetricsPlan, Series};
use plan::Plan;
use syntax::{Body, Intrinsic, Literal};
use tag_search::TagSearch;

/// A query that cannot be parsed or checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The whole message, with line and column where there is a position.
    pub message: String,
}

impl ParseError {
    /// Whether the text has no meaning at all, rather than one that does not fit together.
    pub fn is_syntax(&self) -> bool {
        self.message.starts_with("parse error")
    }
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
    inner: Arc<Inner>,
    /// What its hint says of exemplars.
    exemplars: Option<usize>,
}

#[derive(Debug)]
enum Inner {
    Spansets(Plan),
    Tags(TagSearch),
    Example(SpanExample),
    Metrics(MetricsPlan),
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
    /// Whether stored spans could not be read and were left out.
    pub incomplete: bool,
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
    /// Some of the spans behind the points, by time.
    pub exemplars: Vec<MetricExemplar>,
}

/// A span behind a point.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricExemplar {
    /// The span's start.
    pub t: TimestampNs,
    /// Its value where the function looks at one, else that of the point.
    pub value: f64,
    /// `trace:id`, and what the query looks at.
    pub labels: Vec<(String, AttributeValue)>,
}

/// Series and figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsOutput {
    /// Sorted by labels.
    pub series: Vec<MetricSeries>,
    /// Whether stored spans could not be read and were left out.
    pub incomplete: bool,
    /// Spans looked at.
    pub inspected_spans: u64,
    /// Bytes read.
    pub inspected_bytes: u64,
}

impl Query {
    /// Parses and validates.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let tree = parse::parse(text)?;
        check::check(&tree)?;
        let inner = match &tree.body {
            Body::Spansets(pipeline) => Inner::Spansets(Plan::of(pipeline)),
            Body::Metrics(metrics) => Inner::Metrics(MetricsPlan::of(metrics)),
        };
        Ok(Query {
            inner: Arc::new(inner),
            exemplars: exemplars_hint(&tree.hints),
        })
    }

    /// From the `tags=` form of search: `k=v` pairs (logfmt), each matching `.k`, and the special tags of Tempo.
    pub fn from_tags(tags: &str) -> Result<Query, ParseError> {
        let tags = TagSearch::parse(tags)?;
        Ok(Query {
            inner: Arc::new(Inner::Tags(tags)),
            exemplars: None,
        })
    }

    /// From what one span shall show, as Jaeger asks.
    pub fn by_example(example: SpanExample) -> Query {
        Query {
            inner: Arc::new(Inner::Example(example)),
            exemplars: None,
        }
    }

    /// Whether it ends in a metrics function.
    pub fn is_metrics(&self) -> bool {
        matches!(&*self.inner, Inner::Metrics(_))
    }

    /// Finds traces, newest first, exact and repeatable.
    pub fn search(
        &self,
        context: &Context,
        traces: &Traces,
        options: &SearchOptions,
    ) -> Result<SearchOutput, EvalError> {
        match &*self.inner {
            Inner::Spansets(plan) => match plan.request() {
                Some(request) => search::search(plan, &request, context, traces, options),
                None => Ok(SearchOutput::default()),
            },
            Inner::Tags(tags) => search::search(tags, &tags.request(), context, traces, options),
            Inner::Example(example) => search::search(example, &example.request(), context, traces, options),
            // What a function counts can also be looked at.
            Inner::Metrics(metrics) => {
                let function = metrics.function().ok_or_else(|| ParseError {
                    message: "math expressions not supported".to_owned(),
                })?;
                match function.plan.request() {
                    Some(request) => search::search(&function.plan, &request, context, traces, options),
                    None => Ok(SearchOutput::default()),
                }
            }
        }
    }

    /// Evaluates a metrics query over `range` as one interval, both ends inclusive; each series has one point, at the
    /// range's end.
    pub fn metrics_instant(
        &self,
        context: &Context,
        traces: &Traces,
        range: TimeRangeNs,
    ) -> Result<MetricsOutput, EvalError> {
        self.metrics(context, traces, &Intervals::instant(range.start.0, range.end.0), 0)
    }

    /// Evaluates a metrics query at steps of `step_ns` over `range`, both ends inclusive. Steps lie on multiples of
    /// `step_ns`; each sample counts the spans that started within the step before it. With at most `exemplars`, unless a
    /// hint says otherwise.
    pub fn metrics_range(
        &self,
        context: &Context,
        traces: &Traces,
        range: TimeRangeNs,
        step_ns: i64,
        exemplars: usize,
    ) -> Result<MetricsOutput, EvalError> {
        let intervals = Intervals::for_request(range.start.0, range.end.0, step_ns);
        let exemplars = self.exemplars.unwrap_or(exemplars).min(EXEMPLARS_MAX);
        self.metrics(context, traces, &intervals, exemplars)
    }

    fn metrics(
        &self,
        context: &Context,
        traces: &Traces,
        intervals: &Intervals,
        exemplars: usize,
    ) -> Result<MetricsOutput, EvalError> {
        let Inner::Metrics(plan) = &*self.inner else {
            return Err(ParseError {
                message: "not a metrics query".to_owned(),
            }
            .into());
        };
        let mut output = MetricsOutput::default();
        let mut scan = |function: &FunctionPlan| -> Result<Groups, EvalError> {
            let Some(counting) = Counting::new(function, context, traces, intervals, exemplars) else {
                return Ok(Groups::default());
            };
            let (groups, stats) = counting.groups()?;
            output.incomplete |= counting.is_incomplete();
            output.inspected_spans += stats.spans;
            output.inspected_bytes += stats.bytes;
            Ok(groups)
        };
        let mut series = metrics::series(plan, intervals, &mut scan)?;
        metrics::sort(&mut series);
        output.series = series.iter().map(|one| finished(one, intervals)).collect();
        Ok(output)
    }
}

fn finished(series: &Series, intervals: &Intervals) -> MetricSeries {
    let labels = series.labels.iter();
    MetricSeries {
        labels: labels
            .clone()
            .map(|(name, value)| (name.clone(), value.to_attribute()))
            .collect(),
        prom_labels: labels.map(|(name, value)| (name.clone(), value.to_text())).collect(),
        points: series
            .cells
            .iter()
            .map(|(at, v)| (TimestampNs(intervals.time(at)), v))
            .collect(),
        exemplars: series
            .exemplars
            .iter()
            .filter_map(|exemplar| {
                // Where a later stage took the point, its exemplars go with it.
                let point = series.cells.get(exemplar.interval)?;
                let Origin::Trace(trace_id) = exemplar.origin else {
                    return None;
                };
                let trace = AttributeValue::Str(trace_id.to_string());
                let trace = (Intrinsic::TraceId.scoped().to_owned(), trace);
                let labels = exemplar.labels.iter();
                let labels = labels.map(|(name, value)| (name.clone(), value.to_attribute()));
                Some(MetricExemplar {
                    t: TimestampNs(exemplar.start),
                    value: exemplar.value.unwrap_or(point),
                    labels: std::iter::once(trace).chain(labels).collect(),
                })
            })
            .collect(),
    }
}

/// Most exemplars of a query, and how many `with(exemplars=true)` asks for.
const EXEMPLARS_MAX: usize = 100;

/// `with(exemplars=true|false|N)`; the last hint counts.
fn exemplars_hint(hints: &[(String, Literal)]) -> Option<usize> {
    let (_, value) = hints.iter().rfind(|(name, _)| name == "exemplars")?;
    match value {
        Literal::Bool(true) => Some(EXEMPLARS_MAX),
        Literal::Bool(false) => Some(0),
        Literal::Int(n) => Some(usize::try_from(*n).unwrap_or(0)),
        _ => None,
    }
}
