//! Aggregations: the rows of each group become one row, step by step.

use hashbrown::HashMap;
use model::{LabelSet, METRIC_NAME};

use crate::{
    Aggregator, Cell, Cells, Context, Dialect, ExecError, Grid, Matrix, Remark, Remarks, Row, push_plain_number,
    quantile_of_sorted, rank, ratio, text_of,
};

/// Aggregations over rows.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateOp {
    /// Sum.
    Sum,
    /// Mean.
    Avg,
    /// Smallest; NaN only if all are.
    Min,
    /// Largest; NaN only if all are.
    Max,
    /// How many.
    Count,
    /// 1 for each group.
    Group,
    /// Population standard deviation.
    Stddev,
    /// Population variance.
    Stdvar,
    /// φ-quantile; φ per step.
    Quantile(Vec<f64>),
    /// The k largest rows per step.
    TopK(Vec<f64>),
    /// The k smallest rows per step.
    BottomK(Vec<f64>),
    /// How many rows have each value, under this label.
    CountValues(String),
    /// The first k rows per step.
    LimitK(Vec<f64>),
    /// A share r of the rows per step, chosen by their labels; for a negative r the share that `1 + r` leaves out.
    LimitRatio(Vec<f64>),
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Only these.
    By(Vec<String>),
    /// All but these (and the metric name, by dialect).
    Without(Vec<String>),
}

impl Grouping {
    /// The labels of the group that a row with these labels belongs to.
    pub fn labels_of(&self, labels: &LabelSet, dialect: Dialect) -> LabelSet {
        match self {
            Grouping::By(names) if names.is_empty() => LabelSet::empty(),
            Grouping::By(names) => labels.keep(names),
            Grouping::Without(names) => {
                let rest = labels.without(names);
                if dialect.empty_labels && rest.iter().any(|(_, value)| value.is_empty()) {
                    return LabelSet::from_pairs(rest.iter().filter(|(_, value)| !value.is_empty()));
                }
                if dialect.metric_names {
                    rest.without(&[METRIC_NAME])
                } else {
                    rest
                }
            }
        }
    }
}

/// Aggregates the rows of each group, step by step. Rows of the result are in order of their group's first row;
/// TopK and BottomK keep whole rows (instant: sorted by value). What it met on the way goes to `remarks`.
pub fn aggregate(
    context: &Context,
    op: &AggregateOp,
    grouping: &Grouping,
    mut input: Matrix,
    dialect: Dialect,
    remarks: &mut Remarks,
) -> Result<Matrix, ExecError> {
    let steps = input.grid.len();
    if let Some(mut one_by_one) = Aggregator::new(op, grouping, input.grid, dialect) {
        for row in input.rows {
            context.check("expression evaluation")?;
            one_by_one.enter(&row);
        }
        return Ok(one_by_one.finish(remarks));
    }
    let needs_floats = matches!(
        op,
        AggregateOp::Quantile(_) | AggregateOp::TopK(_) | AggregateOp::BottomK(_)
    );
    if needs_floats {
        for row in &mut input.rows {
            // Where nothing is asked for, nothing is left out.
            let asked = |i: usize| match op {
                AggregateOp::TopK(k) | AggregateOp::BottomK(k) => k.get(i).or(k.first()).is_some_and(|k| *k >= 1.0),
                _ => true,
            };
            if row.cells.histograms().any(|(i, _)| asked(i)) {
                remarks.insert(Remark::IgnoredHistograms);
            }
            row.cells.drop_histograms();
        }
    }
    match op {
        AggregateOp::Quantile(q) => quantiles(context, &per_step(q, steps), grouping, input, dialect),
        AggregateOp::CountValues(label) => count_values(context, label, grouping, input, dialect),
        AggregateOp::TopK(k) => rank::select(
            context,
            rank::Keep::Largest,
            &per_step(k, steps),
            grouping,
            input,
            dialect,
        ),
        AggregateOp::BottomK(k) => rank::select(
            context,
            rank::Keep::Smallest,
            &per_step(k, steps),
            grouping,
            input,
            dialect,
        ),
        AggregateOp::LimitK(k) => rank::select(
            context,
            rank::Keep::First,
            &per_step(k, steps),
            grouping,
            input,
            dialect,
        ),
        AggregateOp::LimitRatio(r) => ratio::limit_ratio(context, &per_step(r, steps), input),
        // The others were aggregated row by row.
        _ => Ok(Matrix::empty(input.grid)),
    }
}

/// Rows by group: which group each row belongs to, and the groups' labels in order of their first rows.
pub(crate) struct Groups {
    pub(crate) of_row: Vec<u32>,
    pub(crate) labels: Vec<LabelSet>,
    pub(crate) drop_name: Vec<bool>,
}

impl Groups {
    pub(crate) fn of(rows: &[Row], grouping: &Grouping, dialect: Dialect) -> Groups {
        let hasher = rapidhash::fast::RandomState::default();
        let mut known: HashMap<LabelSet, u32, _> = HashMap::with_hasher(hasher);
        let mut groups = Groups {
            of_row: Vec::with_capacity(rows.len()),
            labels: Vec::new(),
            drop_name: Vec::new(),
        };
        for row in rows {
            let labels = grouping.labels_of(&row.labels, dialect);
            let group = *known.entry(labels).or_insert_with_key(|labels| {
                groups.labels.push(labels.clone());
                groups.drop_name.push(false);
                groups.labels.len() as u32 - 1
            });
            groups.of_row.push(group);
            groups.drop_name[group as usize] |= row.drop_name;
        }
        groups
    }
}

fn rows_of(grid: Grid, groups: Groups, cells: impl Iterator<Item = Cells>) -> Matrix {
    let mut out = Matrix {
        grid,
        rows: (groups.labels.into_iter().zip(groups.drop_name).zip(cells))
            .map(|((labels, drop_name), cells)| Row {
                labels,
                cells,
                drop_name,
            })
            .collect(),
    };
    out.drop_absent();
    out
}

/// A parameter for each step; one value stands for all.
fn per_step(values: &[f64], steps: usize) -> std::borrow::Cow<'_, [f64]> {
    match values {
        [one] if steps != 1 => vec![*one; steps].into(),
        _ => values.into(),
    }
}

fn quantiles(
    context: &Context,
    q: &[f64],
    grouping: &Grouping,
    input: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    let Matrix { grid, rows } = input;
    let groups = Groups::of(&rows, grouping, dialect);
    let mut members: Vec<Vec<&Cells>> = vec![Vec::new(); groups.labels.len()];
    for (row, &group) in rows.iter().zip(&groups.of_row) {
        members[group as usize].push(&row.cells);
    }
    let mut values = Vec::new();
    let mut cells = Vec::with_capacity(members.len());
    for members in members {
        let mut out = Cells::absent(grid.len());
        for (i, &q) in q.iter().enumerate() {
            context.check("expression evaluation")?;
            values.clear();
            values.extend(members.iter().filter_map(|c| c.get(i)));
            if !values.is_empty() {
                values.sort_unstable_by(rank::nan_first);
                out.set(i, quantile_of_sorted(q, &values));
            }
        }
        cells.push(out);
    }
    Ok(rows_of(grid, groups, cells.into_iter()))
}

/// Each value of each group becomes a row that counts it.
fn count_values(
    context: &Context,
    label: &str,
    grouping: &Grouping,
    input: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    if label.is_empty() {
        return Err(ExecError::Data(format!("invalid label name {label:?}")));
    }
    let grouping = match grouping {
        Grouping::By(names) => Grouping::By(names.iter().cloned().chain([label.to_owned()]).collect()),
        without => without.clone(),
    };
    let hasher = rapidhash::fast::RandomState::default();
    let mut known: HashMap<LabelSet, usize, _> = HashMap::with_hasher(hasher);
    let mut out = Matrix::empty(input.grid);
    for row in input.rows {
        context.check("expression evaluation")?;
        let mut last: Option<(u64, usize)> = None;
        for (i, cell) in row.cells.cells() {
            let bits = match cell {
                Cell::Float(v) => Some(v.to_bits()),
                Cell::Histogram(_) => None,
            };
            // A series often keeps its value: look a value up only when it changes.
            let at = match last {
                Some((last, at)) if Some(last) == bits => at,
                _ => {
                    let text = match cell {
                        Cell::Float(v) => plain_number(v),
                        Cell::Histogram(h) => text_of(h),
                    };
                    let labels = grouping.labels_of(&row.labels.with(label, &text), dialect);
                    match known.get(&labels) {
                        Some(&at) => at,
                        None => {
                            context.add_samples(input.grid.len() as u64)?;
                            known.insert(labels.clone(), out.rows.len());
                            out.rows.push(Row::new(labels, Cells::absent(input.grid.len())));
                            out.rows.len() - 1
                        }
                    }
                }
            };
            last = bits.map(|bits| (bits, at));
            let target = &mut out.rows[at];
            target.drop_name |= row.drop_name;
            let n = target.cells.get(i).unwrap_or(0.0);
            target.cells.set(i, n + 1.0);
        }
    }
    Ok(out)
}

/// A number as a label's value: plain notation, never an exponent.
fn plain_number(v: f64) -> String {
    let mut text = String::new();
    push_plain_number(&mut text, v);
    text
}
