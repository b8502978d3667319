//! LogQL: text -> syntax tree -> pipeline and vector algebra on a snapshot of the logs engine.

use model::{Entry, LabelSet, Matcher, TimestampNs};
use query_exec::{Context, ExecError};
use storage_logs::Logs;

/// A query that cannot be parsed or checked; worded as Loki words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The whole message, with `parse error at line L, col C: ` where Loki has it.
    pub message: String,
    /// Line from 1; 0 if there is no position.
    pub line: usize,
    /// Column from 1; 0 if there is no position.
    pub col: usize,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// It cannot be parsed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A pipeline error (`__error__`) reached a metric query, or the like: Loki's 400.
    #[error("{0}")]
    Pipeline(String),
    /// It stopped: deadline, cancellation, a limit, or data that does not allow it.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Blocks could not be read.
    #[error(transparent)]
    Storage(#[from] storage_logs::BlockError),
}

/// Which end of the range comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    #[default]
    Backward,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most entries of a log query.
    pub limit: usize,
    /// Which end of the range is kept when the limit cuts.
    pub direction: Direction,
}

/// A parsed query.
#[derive(Clone, Debug)]
pub struct Query {
    _inner: (),
}

/// Labels of an entry by where they came from, for callers that want them apart (`categorize-labels`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The entry; its `metadata` holds the structured metadata that is left after the pipeline.
    pub entry: Entry,
    /// Labels that the pipeline parsed or formatted.
    pub parsed: Vec<(String, String)>,
}

/// Entries of a log query that share the labels of one stream (not merged with metadata or parsed labels).
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// The stream's own labels after the pipeline.
    pub labels: LabelSet,
    /// Its entries in the direction asked for.
    pub lines: Vec<Line>,
}

/// Points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelSet,
    /// Its points (ms), rising by time; an instant vector has one.
    pub points: Vec<(i64, f64)>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a log query.
    Streams(Vec<Stream>),
    /// Of an instant metric query: sorted by labels unless the query sorts.
    Vector(Vec<Series>),
    /// Of a range metric query: sorted by labels.
    Matrix(Vec<Series>),
    /// One number (instant).
    Scalar(i64, f64),
}

/// Value and figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The value.
    pub value: Value,
    /// What it took.
    pub stats: Stats,
}

/// What a query took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Bytes of lines looked at.
    pub bytes: u64,
    /// Lines looked at.
    pub lines: u64,
    /// Entries returned.
    pub entries: u64,
    /// Runs (groups of chunks) opened.
    pub runs: u64,
}

impl Query {
    /// Parses and checks.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let _ = text;
        todo!()
    }
    /// Whether it asks for numbers rather than lines.
    pub fn is_metric(&self) -> bool {
        todo!()
    }
    /// Evaluates at one time. A log query is an error here (Loki: 400 "log queries are not supported as an instant query type").
    pub fn instant(
        &self,
        context: &Context,
        logs: &Logs,
        at: TimestampNs,
        options: Options,
    ) -> Result<Output, EvalError> {
        let _ = (context, logs, at, options);
        todo!()
    }
    /// Evaluates a log query over `[start, end)`, or a metric query at `start`, `start + step`, ... up to `end` (no
    /// alignment happens here). `step_ns` must be positive for metric queries.
    pub fn range(
        &self,
        context: &Context,
        logs: &Logs,
        start: TimestampNs,
        end: TimestampNs,
        step_ns: i64,
        options: Options,
    ) -> Result<Output, EvalError> {
        let _ = (context, logs, start, end, step_ns, options);
        todo!()
    }
    /// The stream selector of a log query, and of a metric query with one selector.
    pub fn matchers(&self) -> &[Matcher] {
        todo!()
    }
    /// For live tail: runs the pipeline of a log query on one entry of a stream. `None`: filtered out.
    pub fn process(&self, labels: &LabelSet, entry: &Entry) -> Option<(LabelSet, Line)> {
        let _ = (labels, entry);
        todo!()
    }
}

/// Parses a stream selector (`{app="x"}`), as `match[]` and `query` of the label endpoints carry it.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let _ = text;
    todo!()
}

/// A field found in log lines or their metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedField {
    /// Its label.
    pub label: String,
    /// `string`, `int`, `float`, `boolean`, `duration` or `bytes`.
    pub kind: &'static str,
    /// How many distinct values were seen.
    pub cardinality: u64,
    /// Parsers that find it: `json`, `logfmt`; empty for structured metadata.
    pub parsers: Vec<&'static str>,
    /// Values seen, at most as many as asked for.
    pub values: Vec<String>,
    /// Path within a JSON line.
    pub json_path: Vec<String>,
}

/// Looks at up to `line_limit` of the newest lines that the log query selects, and says which fields they hold, sorted by label; at most `limit`.
pub fn detected_fields(
    context: &Context,
    logs: &Logs,
    query: &Query,
    start: TimestampNs,
    end: TimestampNs,
    line_limit: usize,
    limit: usize,
) -> Result<Vec<DetectedField>, EvalError> {
    let _ = (context, logs, query, start, end, line_limit, limit);
    todo!()
}
