//! Metric queries: the plan's tree evaluated over all steps at once, on the vector algebra of `query-exec`.

use model::{LabelSet, TimeRangeNs, TimestampNs};
use query_exec::{
    AggregateOp, BinaryOp, Cells, Context, ExecError, Grid, LOGQL, Matrix, Remarks, Row, aggregate, apply, binary,
    binary_scalar, label_replace, sort_by_value,
};
use storage_logs::{Logs, Snapshot};

use crate::plan::{MetricPlan, RangePlan};
use crate::syntax::VectorOp;
use crate::{EvalError, Series, Stats, Value, range};

/// What beside the plan decides the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// At one time; there sorting counts.
    pub instant: bool,
    /// The order of rows is the query's.
    pub sorts: bool,
    /// `now` in templates; else the grid's end.
    pub now: Option<TimestampNs>,
}

/// Evaluates on a grid of nanoseconds.
pub(crate) fn evaluate(
    context: &Context,
    logs: &Logs,
    plan: &MetricPlan,
    grid: Grid,
    asked: Asked,
) -> Result<(Value, Stats), EvalError> {
    let Asked { instant, sorts, .. } = asked;
    let Some(range) = span(plan, &grid) else {
        return Err(ExecError::Data("the time range is out of bounds".into()).into());
    };
    let snapshot = logs.snapshot(range);
    let mut evaluation = Evaluation {
        context,
        snapshot,
        grid,
        instant,
        now: asked.now.unwrap_or(TimestampNs(grid.end())),
        stats: Stats::default(),
    };
    let found = match plan {
        // Its series are those of the answer.
        MetricPlan::Range(plan) => {
            let most = context.limits().series_max;
            Operand::Matrix(evaluation.range(plan, Some(most))?)
        }
        plan => evaluation.operand(plan)?,
    };
    let value = match found {
        Operand::Scalar(v) if instant => Value::Scalar(ms(grid.start()), v),
        Operand::Scalar(v) => Value::Matrix(vec![Series {
            labels: LabelSet::empty(),
            points: grid.iter().map(|t| (ms(t), v)).collect(),
        }]),
        Operand::Matrix(mut matrix) => {
            matrix.drop_absent();
            if !(instant && sorts) {
                matrix.sort_by_labels();
            }
            let most = context.limits().series_max;
            if matrix.rows.len() as u64 > most {
                return Err(range::too_many_series(most).into());
            }
            let series = matrix
                .rows
                .into_iter()
                .map(|row| Series {
                    points: row.cells.iter().map(|(i, v)| (ms(grid.at(i)), v)).collect(),
                    labels: row.labels,
                })
                .collect();
            if instant {
                Value::Vector(series)
            } else {
                Value::Matrix(series)
            }
        }
    };
    evaluation.stats.damaged_chunks = evaluation.snapshot.skipped_chunks();
    Ok((value, evaluation.stats))
}

fn ms(ns: i64) -> i64 {
    TimestampNs(ns).floor_ms().0
}

/// All the time that any range aggregation looks at.
fn span(plan: &MetricPlan, grid: &Grid) -> Option<TimeRangeNs> {
    match plan {
        MetricPlan::Range(range) => Some(TimeRangeNs {
            start: TimestampNs(grid.start().checked_sub(range.offset_ns)?.checked_sub(range.range_ns)?),
            end: TimestampNs(grid.end().checked_sub(range.offset_ns)?.checked_add(1)?),
        }),
        MetricPlan::Vector { inner, .. } | MetricPlan::LabelReplace { inner, .. } => span(inner, grid),
        MetricPlan::Binary { left, right, .. } => {
            let (left, right) = (span(left, grid)?, span(right, grid)?);
            Some(TimeRangeNs {
                start: left.start.min(right.start),
                end: left.end.max(right.end),
            })
        }
        MetricPlan::Literal(_) | MetricPlan::VectorOf(_) => Some(TimeRangeNs {
            start: TimestampNs(grid.end()),
            end: TimestampNs(grid.end()),
        }),
    }
}

struct Evaluation<'a> {
    context: &'a Context,
    snapshot: Snapshot,
    grid: Grid,
    instant: bool,
    now: TimestampNs,
    stats: Stats,
}

enum Operand {
    Scalar(f64),
    Matrix(Matrix),
}

impl Evaluation<'_> {
    fn operand(&mut self, plan: &MetricPlan) -> Result<Operand, EvalError> {
        match plan {
            MetricPlan::Literal(v) => Ok(Operand::Scalar(*v)),
            MetricPlan::Binary { op, left, right, .. }
                if matches!((&**left, &**right), (MetricPlan::Literal(_), MetricPlan::Literal(_))) =>
            {
                match (&**left, &**right) {
                    (MetricPlan::Literal(l), MetricPlan::Literal(r)) => Ok(Operand::Scalar(apply(*op, *l, *r, LOGQL))),
                    _ => Ok(Operand::Scalar(f64::NAN)),
                }
            }
            other => Ok(Operand::Matrix(self.matrix(other)?)),
        }
    }

    fn range(&mut self, plan: &RangePlan, series_max: Option<u64>) -> Result<Matrix, EvalError> {
        let stats = &mut self.stats;
        range::aggregate(
            self.context,
            &self.snapshot,
            plan,
            self.grid,
            self.now,
            series_max,
            stats,
        )
    }

    fn matrix(&mut self, plan: &MetricPlan) -> Result<Matrix, EvalError> {
        self.context.check("expression evaluation")?;
        match plan {
            MetricPlan::Range(plan) => self.range(plan, None),
            MetricPlan::Literal(v) | MetricPlan::VectorOf(v) => Ok(Matrix {
                grid: self.grid,
                rows: vec![Row::new(LabelSet::empty(), Cells::full(vec![*v; self.grid.len()]))],
            }),
            MetricPlan::Vector {
                op,
                parameter,
                grouping,
                inner,
            } => {
                if *op == VectorOp::ApproxTopK && !self.instant {
                    let what = "count min sketches are only supported on instant queries";
                    return Err(EvalError::NoWay(what));
                }
                if let MetricPlan::Literal(_) = **inner {
                    let what =
                        "unexpected expr type (*syntax.LiteralExpr) for Evaluator type (*logql.DefaultEvaluator) ";
                    return Err(EvalError::NoWay(what));
                }
                let mut input = self.matrix(inner)?;
                let k = vec![f64::from(parameter.unwrap_or(0)); self.grid.len()];
                let op = match op {
                    VectorOp::Sort | VectorOp::SortDesc => {
                        if self.instant {
                            sort_by_value(&mut input, *op == VectorOp::SortDesc);
                        }
                        return Ok(input);
                    }
                    VectorOp::Sum => AggregateOp::Sum,
                    VectorOp::Avg => AggregateOp::Avg,
                    VectorOp::Max => AggregateOp::Max,
                    VectorOp::Min => AggregateOp::Min,
                    VectorOp::Count => AggregateOp::Count,
                    VectorOp::Stddev => AggregateOp::Stddev,
                    VectorOp::Stdvar => AggregateOp::Stdvar,
                    VectorOp::BottomK => AggregateOp::BottomK(k),
                    VectorOp::TopK | VectorOp::ApproxTopK => AggregateOp::TopK(k),
                };
                let rows = input.rows.len();
                let matrix = aggregate(self.context, &op, grouping, input, LOGQL, &mut Remarks::new())?;
                let gone = rows.saturating_sub(matrix.rows.len()) as u64;
                self.context.release_samples(gone * range::weight_of_row(&self.grid));
                Ok(matrix)
            }
            MetricPlan::LabelReplace {
                inner,
                dst,
                replacement,
                src,
                regex,
            } => {
                let input = self.matrix(inner)?;
                Ok(label_replace(self.context, input, dst, replacement, src, regex)?)
            }
            MetricPlan::Binary {
                op,
                return_bool,
                matching,
                left,
                right,
            } => {
                let steps = self.grid.len();
                let result = match (self.operand(left)?, self.operand(right)?) {
                    (Operand::Scalar(l), Operand::Scalar(r)) => {
                        let v = apply(*op, l, r, LOGQL);
                        return self.matrix(&MetricPlan::Literal(v));
                    }
                    (Operand::Matrix(vector), Operand::Scalar(v)) => binary_scalar(
                        self.context,
                        *op,
                        *return_bool,
                        vector,
                        &vec![v; steps],
                        false,
                        LOGQL,
                        &mut Remarks::new(),
                    ),
                    (Operand::Scalar(v), Operand::Matrix(vector)) => binary_scalar(
                        self.context,
                        *op,
                        *return_bool,
                        vector,
                        &vec![v; steps],
                        true,
                        LOGQL,
                        &mut Remarks::new(),
                    ),
                    (Operand::Matrix(l), Operand::Matrix(r)) => {
                        let mut matching = matching.clone();
                        if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
                            matching.cardinality = query_exec::Cardinality::ManyToMany;
                        }
                        binary(
                            self.context,
                            *op,
                            &matching,
                            *return_bool,
                            l,
                            r,
                            LOGQL,
                            &mut Remarks::new(),
                        )
                    }
                };
                Ok(result.map_err(reword)?)
            }
        }
    }
}

/// Many-to-many matching in Loki's words.
fn reword(error: ExecError) -> ExecError {
    match &error {
        ExecError::Data(text) if text.starts_with("found duplicate series for the match group") => {
            let side = if text.contains("on the left hand-side") {
                "left"
            } else {
                "right"
            };
            ExecError::Data(format!(
                "found duplicate series on the {side} hand-side;many-to-many matching not allowed: matching labels must be \
                 unique on one side"
            ))
        }
        _ => error,
    }
}
