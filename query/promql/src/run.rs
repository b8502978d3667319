//! A plan on a snapshot: the evaluator.
//!
//! Every node is computed for all steps of its grid at once. Rows are counted against the query's limit before they are
//! made, and given back when an operator has used them up. Calls are in `call`, selectors in `read`.

use std::sync::Arc;

use query_exec::{
    AggregateOp, BinaryOp, Cells, Context, Dialect, ExecError, Grid, Grouping, Matching, Matrix, Remarks, Row,
    aggregate, apply, binary, binary_scalar, multiplied,
};
use storage_metrics::Snapshot;

use crate::counted::Counter;
use crate::lex::Span;
use crate::notes::{Notes, go_float};
use crate::parse::go_quoted;
use crate::plan::{Node, NodeWork};
use crate::read::Wanted;
use crate::{EvalError, Options};

pub(crate) const WHERE: &str = "expression evaluation";

/// One evaluation.
pub(crate) struct Run<'a> {
    pub(crate) context: &'a Context,
    /// Where samples are counted, if somebody wants to know.
    pub(crate) counter: Option<&'a Counter>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) options: Options,
    pub(crate) dialect: Dialect,
    pub(crate) notes: &'a Notes<'a>,
    /// Whether results are series over time.
    pub(crate) ranged: bool,
}

/// What a node gives, over all steps.
pub(crate) enum Value {
    Scalar(Vec<f64>),
    Vector(Matrix),
    Text(Vec<u8>),
}

pub(crate) type Evaluated<T> = Result<T, EvalError>;

impl Run<'_> {
    pub(crate) fn value(&self, node: &Node, grid: Grid) -> Evaluated<Value> {
        self.context.check(WHERE)?;
        Ok(match &node.work {
            NodeWork::Number(v) => Value::Scalar(vec![*v; grid.len()]),
            NodeWork::Text(t) => Value::Text(t.clone()),
            NodeWork::Instant(select) => Value::Vector(self.instant(select, node.span, grid, Wanted::Value)?),
            NodeWork::Range { .. } | NodeWork::Subquery { .. } => {
                return Err(data("a range vector stands where an instant vector belongs"));
            }
            NodeWork::Once(inner) => {
                let once = self.counted(grid.len() as u64, || self.value(inner, Grid::instant(grid.start())))?;
                repeat(once, grid, self.context)?
            }
            NodeWork::Negative(inner) => match self.value(inner, grid)? {
                Value::Scalar(mut values) => {
                    values.iter_mut().for_each(|v| *v = -*v);
                    Value::Scalar(values)
                }
                Value::Vector(mut m) => {
                    let before = size(&m);
                    for row in &mut m.rows {
                        row.cells.map(|v| -v);
                        row.cells
                            .filter_map_histograms(|_, h| Some(Arc::new(multiplied(h, -1.0))));
                    }
                    self.now_holds(before, size(&m))?;
                    Value::Vector(self.renamed(m)?)
                }
                text => text,
            },
            NodeWork::Binary { .. } => self.chain(node, grid)?,
            NodeWork::Aggregate {
                op,
                grouping,
                param,
                inner,
            } => Value::Vector(self.aggregation(op, grouping, param.as_deref(), inner, node.own, grid)?),
            NodeWork::Call { function, args } => self.call(function, args, node.own, grid)?,
        })
    }

    pub(crate) fn vector(&self, node: &Node, grid: Grid) -> Evaluated<Matrix> {
        match self.value(node, grid)? {
            Value::Vector(m) => Ok(m),
            _ => Err(data("an instant vector is missing")),
        }
    }

    pub(crate) fn scalar(&self, node: &Node, grid: Grid) -> Evaluated<Vec<f64>> {
        match self.value(node, grid)? {
            Value::Scalar(s) => Ok(s),
            _ => Err(data("a scalar is missing")),
        }
    }

    pub(crate) fn text(&self, node: &Node) -> Evaluated<String> {
        match &node.work {
            NodeWork::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            _ => Err(data("a string is missing")),
        }
    }

    /// A label's name as an argument; `complaint` is what is said of one that cannot be.
    pub(crate) fn label_name(&self, node: &Node, complaint: &str) -> Evaluated<String> {
        match &node.work {
            NodeWork::Text(bytes) => match String::from_utf8(bytes.clone()) {
                Ok(name) if !name.is_empty() => Ok(name),
                _ => Err(data(format!("{complaint}{}", String::from_utf8_lossy(bytes)))),
            },
            _ => Err(data("a string is missing")),
        }
    }

    /// Operators of one chain, from the left; a chain may be long, so it is no recursion.
    fn chain(&self, node: &Node, grid: Grid) -> Evaluated<Value> {
        let mut links = Vec::new();
        let mut at = node;
        while let NodeWork::Binary {
            op,
            return_bool,
            matching,
            left,
            right,
        } = &at.work
        {
            links.push((*op, *return_bool, matching, right, at.own));
            at = left;
        }
        let mut left = self.value(at, grid)?;
        for (op, return_bool, matching, right, span) in links.into_iter().rev() {
            let mut remarks = Remarks::new();
            left = self.operator(op, return_bool, matching, left, self.value(right, grid)?, &mut remarks)?;
            self.notes.of_operator(span, op.as_str(), remarks);
        }
        Ok(left)
    }

    fn operator(
        &self,
        op: BinaryOp,
        return_bool: bool,
        matching: &Matching,
        left: Value,
        right: Value,
        remarks: &mut Remarks,
    ) -> Evaluated<Value> {
        let (context, dialect) = (self.context, self.dialect);
        Ok(match (left, right) {
            (Value::Scalar(mut left), Value::Scalar(right)) => {
                for (l, r) in left.iter_mut().zip(right) {
                    *l = apply(op, *l, r, dialect);
                }
                Value::Scalar(left)
            }
            (Value::Vector(m), Value::Scalar(s)) => self.traded(&[size(&m)], || {
                binary_scalar(context, op, return_bool, m, &s, false, dialect, remarks)
            })?,
            (Value::Scalar(s), Value::Vector(m)) => self.traded(&[size(&m)], || {
                binary_scalar(context, op, return_bool, m, &s, true, dialect, remarks)
            })?,
            (Value::Vector(left), Value::Vector(right)) => self.traded(&[size(&left), size(&right)], || {
                binary(context, op, matching, return_bool, left, right, dialect, remarks)
            })?,
            _ => return Err(data("an operator stands beside a string")),
        })
    }

    /// What is looked at meanwhile counts so many times.
    pub(crate) fn counted<T>(&self, times: u64, make: impl FnOnce() -> T) -> T {
        let before = self.counter.map_or(0, Counter::queryable);
        let made = make();
        if let Some(counter) = self.counter {
            counter.repeat_since(before, times);
        }
        made
    }

    /// Gives back what an operator used, and counts what it made.
    fn traded(&self, used: &[u64], make: impl FnOnce() -> Result<Matrix, ExecError>) -> Evaluated<Value> {
        let made = make()?;
        self.context.add_samples(size(&made))?;
        self.context.release_samples(used.iter().sum());
        Ok(Value::Vector(made))
    }

    #[allow(clippy::too_many_arguments)]
    fn aggregation(
        &self,
        op: &str,
        grouping: &Grouping,
        param: Option<&Node>,
        inner: &Node,
        whole: Span,
        grid: Grid,
    ) -> Evaluated<Matrix> {
        let number = || param.map_or(Ok(Vec::new()), |p| self.scalar(p, grid));
        let span = param.map_or(inner.span, |p| p.span);
        let name = op;
        let mut parameters = Vec::new();
        let op = match op {
            "sum" => AggregateOp::Sum,
            "avg" => AggregateOp::Avg,
            "min" => AggregateOp::Min,
            "max" => AggregateOp::Max,
            "count" => AggregateOp::Count,
            "group" => AggregateOp::Group,
            "stddev" => AggregateOp::Stddev,
            "stdvar" => AggregateOp::Stdvar,
            "topk" => AggregateOp::TopK(number()?),
            "bottomk" => AggregateOp::BottomK(number()?),
            "limitk" => AggregateOp::LimitK(number()?),
            "quantile" => {
                parameters = number()?;
                AggregateOp::Quantile(parameters.clone())
            }
            "limit_ratio" => {
                parameters = number()?;
                AggregateOp::LimitRatio(parameters.clone())
            }
            "count_values" => match param.map(|p| &p.work) {
                Some(NodeWork::Text(bytes)) => match String::from_utf8(bytes.clone()) {
                    Ok(label) if !label.is_empty() => AggregateOp::CountValues(label),
                    _ => return Err(data(format!("invalid label name {}", go_quoted(bytes)))),
                },
                _ => return Err(data("count_values takes a string")),
            },
            other => return Err(data(format!("unknown aggregation {other}"))),
        };
        let mut remarks = Remarks::new();
        let made = match self.folded(&op, grouping, inner, grid, &mut remarks)? {
            Some(folded) => Value::Vector(folded),
            None => {
                let input = self.vector(inner, grid)?;
                let used = size(&input);
                self.traded(&[used], || {
                    aggregate(self.context, &op, grouping, input, self.dialect, &mut remarks)
                })?
            }
        };
        self.warn_of_parameters(name, &parameters, span);
        let place = if matches!(name, "topk" | "bottomk") {
            whole
        } else {
            inner.span
        };
        self.notes.of_aggregation(place, name, remarks);
        match made {
            Value::Vector(m) => Ok(m),
            _ => Err(data("an aggregation gives a vector")),
        }
    }

    /// What held `before` samples now holds `after`.
    pub(crate) fn now_holds(&self, before: u64, after: u64) -> Result<(), ExecError> {
        if after > before {
            return self.context.add_samples(after - before);
        }
        self.context.release_samples(before - after);
        Ok(())
    }

    pub(crate) fn warn_of_quantiles(&self, q: impl Iterator<Item = f64>, span: Span) {
        for q in q.filter(|q| !(0.0..=1.0).contains(q)) {
            let what = format!("quantile value should be between 0 and 1, got {}", go_float(q));
            self.notes.warn(span, what);
        }
    }

    /// Of an aggregation's parameters only the extremes are said.
    fn warn_of_parameters(&self, aggregation: &str, parameters: &[f64], span: Span) {
        let smallest = parameters.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = parameters.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match aggregation {
            _ if parameters.is_empty() => {}
            "quantile" => {
                let nan = parameters.iter().copied().find(|q| q.is_nan());
                self.warn_of_quantiles(
                    nan.into_iter().chain([largest, smallest]).filter(|q| !q.is_infinite()),
                    span,
                );
            }
            _ => {
                for (r, bound) in [(largest, 1.0), (smallest, -1.0)] {
                    if r.abs() > 1.0 && r.is_finite() && r.signum() == bound {
                        let r = go_float(r);
                        let what = format!("ratio value should be between -1 and 1, got {r}, capping to {bound}");
                        self.notes.warn(span, what);
                    }
                }
            }
        }
    }

    /// Takes names off, as functions do, and joins what has become equal.
    pub(crate) fn renamed(&self, mut m: Matrix) -> Evaluated<Matrix> {
        for row in &mut m.rows {
            row.remove_name(self.dialect);
        }
        let before = m.rows.len();
        m.drop_absent();
        // What is absent has no histograms.
        self.context
            .release_samples(((before - m.rows.len()) * m.grid.len()) as u64);
        if !self.dialect.delayed_name_removal {
            m.merge_same_labels()?;
        }
        Ok(m)
    }
}

pub(crate) fn data(words: impl Into<String>) -> EvalError {
    EvalError::Exec(ExecError::Data(words.into()))
}

/// What a matrix weighs against the limit on samples: its cells, and what histograms in them weigh more than floats.
pub(crate) fn size(m: &Matrix) -> u64 {
    (m.rows.len() * m.grid.len()) as u64 + histogram_weight(&m.rows)
}

pub(crate) fn histogram_weight(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.cells.histogram_weight()).sum()
}

/// One step's value at every step.
fn repeat(value: Value, grid: Grid, context: &Context) -> Evaluated<Value> {
    Ok(match value {
        Value::Scalar(s) => Value::Scalar(vec![s.first().copied().unwrap_or(f64::NAN); grid.len()]),
        Value::Vector(m) => {
            // A repeated histogram is one histogram, but what is made of it may not be.
            context.add_samples(size(&m).saturating_mul(grid.len() as u64))?;
            context.release_samples(size(&m));
            let rows = m.rows.into_iter().filter_map(|row| {
                let cell = row.cells.cell(0)?;
                Some(Row {
                    cells: Cells::repeated(cell, grid.len()),
                    ..row
                })
            });
            Value::Vector(Matrix {
                grid,
                rows: rows.collect(),
            })
        }
        text => text,
    })
}
