//! PromQL: text -> syntax tree -> evaluation on a snapshot of the metrics engine.

use model::{LabelSet, Matcher, TimestampMs};
use query_exec::{Context, ExecError};
use storage_metrics::Metrics;

/// A query that cannot be parsed or checked; worded as Prometheus words it, without the "invalid parameter" prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What is wrong, with a position where there is one.
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
    Storage(#[from] storage_metrics::BlockError),
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How far an instant selector looks back (5 minutes).
    pub lookback_ms: i64,
    /// Step of subqueries that give none (the global evaluation interval, 1 minute).
    pub subquery_step_ms: i64,
}

/// A parsed query.
#[derive(Clone, Debug)]
pub struct Query {
    _inner: (),
}

/// Points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelSet,
    /// Its points, rising by time; an instant vector has one.
    pub points: Vec<(TimestampMs, f64)>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(TimestampMs, f64),
    /// One text.
    String(TimestampMs, String),
    /// One point per series, in the order the query sorts them.
    Vector(Vec<Series>),
    /// Points over time, sorted by labels.
    Matrix(Vec<Series>),
}

/// Value and annotations.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The value.
    pub value: Value,
    /// Things that are probably wrong.
    pub warnings: Vec<String>,
    /// Things worth knowing.
    pub infos: Vec<String>,
}

impl Query {
    /// Parses and type-checks.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let _ = text;
        todo!()
    }
    /// Every selector in it, with its matchers (for exemplars and the like).
    pub fn selectors(&self) -> Vec<Vec<Matcher>> {
        todo!()
    }
    /// Evaluates at one time.
    pub fn instant(
        &self,
        context: &Context,
        metrics: &Metrics,
        at: TimestampMs,
        options: Options,
    ) -> Result<Output, EvalError> {
        let _ = (context, metrics, at, options);
        todo!()
    }
    /// Evaluates at `start`, `start + step_ms`, ... up to `end`; a matrix.
    pub fn range(
        &self,
        context: &Context,
        metrics: &Metrics,
        start: TimestampMs,
        end: TimestampMs,
        step_ms: i64,
        options: Options,
    ) -> Result<Output, EvalError> {
        let _ = (context, metrics, start, end, step_ms, options);
        todo!()
    }
}

/// Parses one series selector, as `match[]` carries it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let _ = text;
    todo!()
}
