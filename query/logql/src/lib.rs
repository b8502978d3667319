//! LogQL: text -> syntax tree -> pipeline and vector algebra on a snapshot of the logs engine.
//!
//! [`Query::parse`] makes a syntax tree (`syntax`) and from it a plan (`plan`): compiled pipelines, and needles that let
//! storage skip chunks. A log query (`log`) takes runs newest first and stops when its limit is filled; a metric query
//! (`metric`) turns runs into rows (`range`, `window`) and hands those to the vector algebra of `query-exec`.
//!
//! If you look for how a stage works, it has a file in `stage`; the labels it works on are in `labels`; `line_format` and
//! `label_format` run templates (`template`).

mod deletes;
mod detect;
mod labels;
mod log;
mod metric;
mod patterns;
mod pipeline;
mod plan;
mod range;
mod regexp;
#[cfg(test)]
mod robustness;
mod stage;
mod syntax;
mod template;
mod units;
mod window;

use std::sync::Arc;

use model::{Entry, LabelSet, Matcher, TimestampNs};
use query_exec::{Context, ExecError, Grid};
use storage_logs::Logs;

pub use deletes::meant_by_delete;
pub use patterns::{LinePattern, line_patterns};

use pipeline::Scratch;
use plan::Plan;
use regexp::Regexes;
use syntax::Expr;

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
    /// It is well-formed, but there is no way to evaluate it (Loki: 500).
    #[error("{0}")]
    NoWay(&'static str),
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
    expr: Arc<Expr>,
    plan: Arc<Plan>,
    now: Option<TimestampNs>,
    regex_bytes: usize,
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
    /// Chunks that could not be read because they are damaged; the answer lacks what is in them.
    pub damaged_chunks: u64,
}

const NO_INSTANT_LINES: &str =
    "log queries are not supported as an instant query type, please change your query to a range query type";

/// Most steps of a range query.
const STEPS_MAX: i64 = 11_000;

impl Query {
    /// Parses and checks.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let regexes = Regexes::default();
        let expr = syntax::parse(text, &regexes)?;
        pipeline::check_captures(&expr, &regexes)?;
        let plan = Plan::new(&expr, &regexes)?;
        Ok(Query {
            expr: Arc::new(expr),
            plan: Arc::new(plan),
            now: None,
            regex_bytes: regexes.bytes(),
        })
    }

    /// The same for an instant query: what is well-formed but asks for lines is refused whatever its stages say.
    pub fn parse_instant(text: &str) -> Result<Query, ParseError> {
        let regexes = Regexes::default();
        let expr = syntax::parse(text, &regexes)?;
        pipeline::check_captures(&expr, &regexes)?;
        match expr {
            Expr::Log(_) => Err(ParseError {
                message: NO_INSTANT_LINES.into(),
                line: 0,
                col: 0,
            }),
            Expr::Metric(_) => Query::parse(text),
        }
    }

    /// Says what `now` is in templates; else it is the last instant of the query, and in [`Query::process`] the entry's.
    pub fn with_now(self, now: TimestampNs) -> Query {
        Query { now: Some(now), ..self }
    }

    /// Whether it asks for numbers rather than lines.
    pub fn is_metric(&self) -> bool {
        matches!(*self.expr, Expr::Metric(_))
    }

    /// Evaluates at one time. A log query is an error here (Loki: 400 "log queries are not supported as an instant query type").
    pub fn instant(
        &self,
        context: &Context,
        logs: &Logs,
        at: TimestampNs,
        options: Options,
    ) -> Result<Output, EvalError> {
        let _ = options;
        match &*self.plan {
            Plan::Log(_) => Err(EvalError::Pipeline(NO_INSTANT_LINES.into())),
            Plan::Metric(plan) => {
                let (value, stats) = metric::evaluate(context, logs, plan, Grid::instant(at.0), self.asked(true))?;
                Ok(Output { value, stats })
            }
        }
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
        match &*self.plan {
            Plan::Log(plan) => {
                let (streams, stats) =
                    log::select(context, logs, plan, detect::range_of(start, end), options, self.now)?;
                Ok(Output {
                    value: Value::Streams(streams),
                    stats,
                })
            }
            Plan::Metric(plan) => {
                let data = |text: &str| EvalError::Exec(ExecError::Data(text.into()));
                let Some(span) = end.0.checked_sub(start.0).filter(|span| *span >= 0) else {
                    return Err(data("end timestamp must not be before start time"));
                };
                if step_ns <= 0 {
                    return Err(data(
                        "zero or negative query resolution step widths are not accepted. Try a positive integer",
                    ));
                }
                if span / step_ns > STEPS_MAX {
                    return Err(data(
                        "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
                    ));
                }
                let grid = Grid::range(start.0, end.0, step_ns);
                let (value, stats) = metric::evaluate(context, logs, plan, grid, self.asked(false))?;
                Ok(Output { value, stats })
            }
        }
    }

    /// The stream selector of a log query, and of a metric query with one selector.
    pub fn matchers(&self) -> &[Matcher] {
        match &*self.expr {
            Expr::Log(log) => &log.matchers,
            Expr::Metric(metric) => {
                let mut selectors = Vec::new();
                metric.for_each_range(&mut |range| selectors.push(&range.log.matchers[..]));
                match selectors[..] {
                    [only] => only,
                    _ => &[],
                }
            }
        }
    }

    /// The stream selectors of all range aggregations, or the one of a log query.
    pub fn selectors(&self) -> Vec<&[Matcher]> {
        match &*self.expr {
            Expr::Log(log) => vec![&log.matchers],
            Expr::Metric(metric) => {
                let mut selectors = Vec::new();
                metric.for_each_range(&mut |range| selectors.push(&range.log.matchers[..]));
                selectors
            }
        }
    }

    /// For live tail: runs the pipeline of a log query on one entry of a stream. `None`: filtered out.
    pub fn process(&self, labels: &LabelSet, entry: &Entry) -> Option<(LabelSet, Line)> {
        let Plan::Log(plan) = &*self.plan else { return None };
        let mut scratch = Scratch::default();
        scratch.begin_stream(labels);
        let metadata = entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        plan.pipeline
            .run(
                &entry.line,
                entry.t,
                self.now.unwrap_or(entry.t),
                metadata,
                &mut scratch,
            )
            .then(|| log::survivor(labels, entry.t, &entry.line, &scratch))
    }

    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn asked(&self, instant: bool) -> metric::Asked {
        metric::Asked {
            instant,
            sorts: matches!(&*self.expr, Expr::Metric(metric) if metric.sorts()),
            now: self.now,
        }
    }
}

impl std::fmt::Display for Query {
    /// The canonical text, on one line; it parses to the same query.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.expr.fmt(f)
    }
}

impl Stats {
    fn add(&mut self, other: &Stats) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.entries += other.entries;
        self.runs += other.runs;
        self.damaged_chunks += other.damaged_chunks;
    }
}

/// Parses a stream selector (`{app="x"}`), as `match[]` and `query` of the label endpoints carry it.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    syntax::parse_selector(text, &Regexes::default())
}

/// The same of several selectors of a request, whose expressions share a budget. Of a fault tells in which text it is.
pub fn parse_all_matchers<'t>(texts: &[&'t str]) -> Result<Vec<Vec<Matcher>>, (&'t str, ParseError)> {
    let regexes = Regexes::default();
    let parse = |text: &&'t str| syntax::parse_selector(text, &regexes).map_err(|e| (*text, e));
    texts.iter().map(parse).collect()
}

/// The canonical text of a query, on one line. Only the syntax is checked.
pub fn canonical(text: &str) -> Result<String, ParseError> {
    Ok(syntax::parse(text, &Regexes::default())?.to_string())
}

/// The text of a query over several lines of at most `width` characters, as far as it can be broken. Checked are the syntax
/// and what Loki checks with it.
pub fn pretty(text: &str, width: usize) -> Result<String, ParseError> {
    let regexes = Regexes::default();
    let expr = syntax::parse(text, &regexes)?;
    pipeline::check_captures(&expr, &regexes)?;
    Ok(syntax::pretty(&expr, width))
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
    detect::detected_fields(context, logs, query, detect::range_of(start, end), line_limit, limit)
}
