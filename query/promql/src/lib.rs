//! PromQL: text -> syntax tree -> evaluation on a snapshot of the metrics engine.
//!
//! [`Query::parse`] makes the tree (`lex`, `parse`, `syntax`) and checks its types (`check`). An evaluation first plans
//! (`plan`: durations and `@` become times, what is the same at every step is marked), then runs the plan (`run`, `call`)
//! on one snapshot (`read`); `functions/` has a file per family of functions, `windows` what slides over a series,
//! `quantiles` and `info` what looks at whole vectors.
//!
//! Not here: the vector algebra (`query-exec`), where samples come from (`storage-metrics`), HTTP.

mod call;
mod check;
mod counted;
mod durations;
mod functions;
mod info;
mod lex;
mod literals;
mod notes;
mod parse;
mod plan;
mod print;
mod quantiles;
mod read;
mod run;
mod syntax;
mod tree;
mod windows;

use std::sync::Arc;

use model::{Histogram, LabelSet, Matcher, RegexBudget, TimeRangeMs, TimestampMs};
use query_exec::{Context, Dialect, ExecError, Grid, Matrix, PROMQL};
use storage_metrics::Metrics;

use crate::counted::Counter;
pub use crate::counted::SampleCounts;
use crate::durations::QueryTimes;
pub use crate::functions::function_names;
use crate::notes::Notes;
use crate::run::Run;
use crate::syntax::{Expr, Kind, Type};
pub use crate::tree::Tree;

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
    /// Take names that functions drop off only when all is computed (Prometheus' `promql-delayed-name-removal`).
    pub delayed_name_removal: bool,
    /// Let rates see when a counter began (Prometheus' `use-start-timestamps`).
    pub use_start_timestamps: bool,
    /// Where a name is dropped, drop `__type__` and `__unit__` too (Prometheus' `type-and-unit-labels`).
    pub type_and_unit_labels: bool,
    /// Count the samples that are looked at, for [`Output::samples`].
    pub count_samples: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options::DEFAULT
    }
}

impl Options {
    /// As Prometheus evaluates without any flag.
    pub const DEFAULT: Options = Options {
        lookback_ms: 300_000,
        subquery_step_ms: 60_000,
        delayed_name_removal: false,
        use_start_timestamps: false,
        type_and_unit_labels: false,
        count_samples: false,
    };

    fn dialect(&self) -> Dialect {
        Dialect {
            delayed_name_removal: self.delayed_name_removal,
            type_and_unit: self.type_and_unit_labels,
            ..PROMQL
        }
    }
}

/// A parsed query.
#[derive(Clone, Debug)]
pub struct Query {
    text: Arc<str>,
    expr: Arc<Expr>,
}

/// Points of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: LabelSet,
    /// Its floats, rising by time; an instant vector has one sample of either kind.
    pub points: Vec<(TimestampMs, f64)>,
    /// Its native histograms, rising by time; at no time at which there is a float.
    pub histograms: Vec<(TimestampMs, Arc<Histogram>)>,
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
    /// What was looked at; zeros unless [`Options::count_samples`].
    pub samples: SampleCounts,
}

impl Query {
    /// Parses and type-checks.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        let expr = parse::parse(text)?;
        check::check(text, &expr)?;
        Ok(Query {
            text: text.into(),
            expr: Arc::new(expr),
        })
    }
    /// Every selector in it, with its matchers (for exemplars and the like).
    pub fn selectors(&self) -> Vec<Vec<Matcher>> {
        let mut out = Vec::new();
        self.expr.walk(&mut |expr| match &expr.kind {
            Kind::Selector(s) => out.push(s.matchers.to_vec()),
            Kind::Range(r) => out.push(r.selector.matchers.to_vec()),
            _ => {}
        });
        out
    }
    /// The same query with `@ at` on every selector and subquery that has no `@`; below a subquery with an `@` nothing
    /// is touched. Whenever it is asked, it answers as this one does at that time, unless it [varies](Self::varies_with_time).
    pub fn pinned(&self, at: TimestampMs) -> Query {
        let mut expr = (*self.expr).clone();
        expr.pin(at.0);
        let text = print::line(&expr);
        // What is printed parses; its places are those of the new text, which annotations name.
        let expr = parse::parse(&text).unwrap_or(expr);
        Query {
            text: text.into(),
            expr: Arc::new(expr),
        }
    }
    /// The query in canonical form, broken and indented where a line would be longer than 100 bytes (`format_query`).
    pub fn format(&self) -> String {
        print::pretty(&self.expr)
    }
    /// The syntax tree, in the shapes that `parse_query` answers with.
    pub fn tree(&self) -> Tree {
        tree::tree(&self.expr)
    }
    /// Whether it has a function whose value depends on the time of evaluation itself, like `time()`.
    pub fn varies_with_time(&self) -> bool {
        let mut varies = false;
        self.expr.walk(&mut |expr| {
            if let Kind::Call(call) = &expr.kind {
                varies |= call.function.varies;
            }
        });
        varies
    }
    /// Evaluates at one time.
    pub fn instant(
        &self,
        context: &Context,
        metrics: &Metrics,
        at: TimestampMs,
        options: Options,
    ) -> Result<Output, EvalError> {
        let times = QueryTimes {
            start: at.0,
            end: at.0,
            step: 0,
        };
        self.evaluate(context, metrics, times, options, false, |run, root| {
            if root.returns == Type::Range {
                return Ok(Value::Matrix(run.raw(root, at.0)?));
            }
            Ok(match run.value(root, Grid::instant(at.0))? {
                run::Value::Scalar(v) => Value::Scalar(at, v.first().copied().unwrap_or(f64::NAN)),
                run::Value::Text(t) => Value::String(at, String::from_utf8_lossy(&t).into_owned()),
                run::Value::Vector(mut m) => {
                    m.settle_names(options.dialect())?;
                    Value::Vector(series_of(m))
                }
            })
        })
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
        let found = self.expr.value_type();
        if !matches!(found, Type::Scalar | Type::Vector) {
            let found = found.words();
            return Err(EvalError::Parse(ParseError {
                message: format!(
                    "invalid expression type \"{found}\" for range query, must be Scalar or instant Vector"
                ),
            }));
        }
        if step_ms <= 0 || end < start {
            return Err(EvalError::Parse(ParseError {
                message: "a range query runs forward: its step must be positive and its end not before its start"
                    .into(),
            }));
        }
        let times = QueryTimes {
            start: start.0,
            end: end.0,
            step: step_ms,
        };
        let steps = (i128::from(end.0) - i128::from(start.0)) / i128::from(step_ms);
        if steps >= i128::from(context.limits().samples_max) {
            context.add_samples(context.limits().samples_max + 1)?;
        }
        let grid = Grid::range(start.0, end.0, step_ms);
        self.evaluate(context, metrics, times, options, true, |run, root| {
            let matrix = match run.value(root, grid)? {
                run::Value::Scalar(values) => Matrix {
                    grid,
                    rows: vec![query_exec::Row::new(LabelSet::empty(), query_exec::Cells::full(values))],
                },
                run::Value::Vector(mut m) => {
                    m.settle_names(options.dialect())?;
                    m.sort_by_labels();
                    m
                }
                run::Value::Text(_) => Matrix::empty(grid),
            };
            Ok(Value::Matrix(series_of(matrix)))
        })
    }

    fn evaluate(
        &self,
        context: &Context,
        metrics: &Metrics,
        times: QueryTimes,
        options: Options,
        ranged: bool,
        compute: impl FnOnce(&Run<'_>, &plan::Node) -> Result<Value, EvalError>,
    ) -> Result<Output, EvalError> {
        let plan = plan::plan(&self.expr, times, options)?;
        let snapshot = metrics.snapshot(TimeRangeMs {
            start: TimestampMs(plan.reads.0),
            end: TimestampMs(plan.reads.1),
        });
        let notes = Notes::new(&self.text);
        let counter = Counter::default();
        let run = Run {
            counter: options.count_samples.then_some(&counter),
            context,
            snapshot: &snapshot,
            options,
            dialect: options.dialect(),
            notes: &notes,
            ranged,
        };
        let value = compute(&run, &plan.root)?;
        if let Value::Vector(series) | Value::Matrix(series) = &value
            && series.len() as u64 > context.limits().series_max
        {
            return Err(EvalError::Exec(ExecError::Limit(format!(
                "the result has {} series, at most {} are allowed; narrow the selectors, aggregate, or raise the limit",
                series.len(),
                context.limits().series_max
            ))));
        }
        let (warnings, infos) = notes.take();
        let samples = counter.counts();
        Ok(Output {
            value,
            warnings,
            infos,
            samples,
        })
    }
}

impl std::fmt::Display for Query {
    /// The query in canonical form, on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&print::line(&self.expr))
    }
}

/// Parses one series selector, as `match[]` carries it.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    parse_selector_within(text, &RegexBudget::default())
}

/// Parses one of several series selectors of a request, whose expressions share a budget.
pub fn parse_selector_within(text: &str, regexes: &RegexBudget) -> Result<Vec<Matcher>, ParseError> {
    Ok(parse::parse_selector(text, regexes)?.to_vec())
}

fn series_of(matrix: Matrix) -> Vec<Series> {
    let grid = matrix.grid;
    matrix
        .rows
        .into_iter()
        .map(|row| Series {
            points: row.cells.iter().map(|(i, v)| (TimestampMs(grid.at(i)), v)).collect(),
            histograms: (row.cells.histograms())
                .map(|(i, h)| (TimestampMs(grid.at(i)), h.clone()))
                .collect(),
            labels: row.labels,
        })
        .filter(|series| !series.points.is_empty() || !series.histograms.is_empty())
        .collect()
}
