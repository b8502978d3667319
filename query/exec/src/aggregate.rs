//! Aggregations: the rows of each group become one row, step by step.

use hashbrown::HashMap;
use model::{LabelSet, METRIC_NAME};

use crate::matrix::steps_of;
use crate::{Cells, Compensated, Context, Dialect, ExecError, Grid, Matrix, Mean, Row, quantile_of_sorted, rank};

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
/// TopK and BottomK keep whole rows (instant: sorted by value).
pub fn aggregate(
    context: &Context,
    op: &AggregateOp,
    grouping: &Grouping,
    input: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    let steps = input.grid.len();
    match op {
        AggregateOp::Sum => fold(context, grouping, input, dialect, Sums::new),
        AggregateOp::Avg => fold(context, grouping, input, dialect, Means::new),
        AggregateOp::Min => fold(context, grouping, input, dialect, |n| {
            Extremes::new(n, |best, v| best > v || best.is_nan())
        }),
        AggregateOp::Max => fold(context, grouping, input, dialect, |n| {
            Extremes::new(n, |best, v| best < v || best.is_nan())
        }),
        AggregateOp::Count => fold(context, grouping, input, dialect, Counts::new),
        AggregateOp::Group => fold(context, grouping, input, dialect, Ones::new),
        AggregateOp::Stdvar => fold(context, grouping, input, dialect, |n| Spreads::new(n, false)),
        AggregateOp::Stddev => fold(context, grouping, input, dialect, |n| Spreads::new(n, true)),
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
        AggregateOp::LimitRatio(r) => rank::limit_ratio(context, &per_step(r, steps), input),
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

/// One group's aggregation over all steps; rows enter one after the other.
trait Fold {
    fn enter(&mut self, cells: &Cells);
    fn finish(self) -> Cells;
}

fn fold<F: Fold>(
    context: &Context,
    grouping: &Grouping,
    input: Matrix,
    dialect: Dialect,
    new: impl Fn(usize) -> F,
) -> Result<Matrix, ExecError> {
    let Matrix { grid, rows } = input;
    let groups = Groups::of(&rows, grouping, dialect);
    let mut folds: Vec<F> = Vec::new();
    for (row, &group) in rows.into_iter().zip(&groups.of_row) {
        context.check("expression evaluation")?;
        // Groups are numbered by their first rows, so a new group is always the next one.
        if group as usize == folds.len() {
            folds.push(new(grid.len()));
        }
        folds[group as usize].enter(&row.cells);
    }
    let cells = folds.into_iter().map(F::finish);
    Ok(rows_of(grid, groups, cells))
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

struct Sums {
    sums: Vec<Compensated>,
    present: Cells,
}

impl Sums {
    fn new(steps: usize) -> Sums {
        Sums {
            sums: vec![Compensated::default(); steps],
            present: Cells::absent(steps),
        }
    }
}

impl Fold for Sums {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            if self.present.has(i) {
                self.sums[i].add(v);
            } else {
                self.sums[i] = Compensated::starting_with(v);
                self.present.set(i, 0.0);
            }
        }
    }
    fn finish(mut self) -> Cells {
        self.present.filter_map(|i, _| Some(self.sums[i].total()));
        self.present
    }
}

struct Means {
    means: Vec<Mean>,
    present: Cells,
}

impl Means {
    fn new(steps: usize) -> Means {
        Means {
            means: vec![Mean::default(); steps],
            present: Cells::absent(steps),
        }
    }
}

impl Fold for Means {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            self.means[i].add(v);
            self.present.set(i, 0.0);
        }
    }
    fn finish(mut self) -> Cells {
        self.present.filter_map(|i, _| Some(self.means[i].value()));
        self.present
    }
}

struct Extremes<B> {
    best: Cells,
    beaten: B,
}

impl<B: Fn(f64, f64) -> bool> Extremes<B> {
    fn new(steps: usize, beaten: B) -> Extremes<B> {
        Extremes {
            best: Cells::absent(steps),
            beaten,
        }
    }
}

impl<B: Fn(f64, f64) -> bool> Fold for Extremes<B> {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            if self.best.get(i).is_none_or(|best| (self.beaten)(best, v)) {
                self.best.set(i, v);
            }
        }
    }
    fn finish(self) -> Cells {
        self.best
    }
}

struct Counts(Cells);

impl Counts {
    fn new(steps: usize) -> Counts {
        Counts(Cells::absent(steps))
    }
}

impl Fold for Counts {
    fn enter(&mut self, cells: &Cells) {
        for (i, _) in cells.iter() {
            let n = self.0.get(i).unwrap_or(0.0);
            self.0.set(i, n + 1.0);
        }
    }
    fn finish(self) -> Cells {
        self.0
    }
}

struct Ones(Cells);

impl Ones {
    fn new(steps: usize) -> Ones {
        Ones(Cells::absent(steps))
    }
}

impl Fold for Ones {
    fn enter(&mut self, cells: &Cells) {
        for i in steps_of(cells.words()) {
            self.0.set(i, 1.0);
        }
    }
    fn finish(self) -> Cells {
        self.0
    }
}

/// Welford's running variance.
struct Spreads {
    count: Vec<f64>,
    mean: Vec<f64>,
    squares: Cells,
    root: bool,
}

impl Spreads {
    fn new(steps: usize, root: bool) -> Spreads {
        Spreads {
            count: vec![0.0; steps],
            mean: vec![0.0; steps],
            squares: Cells::absent(steps),
            root,
        }
    }
}

impl Fold for Spreads {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            self.count[i] += 1.0;
            if self.count[i] == 1.0 {
                self.mean[i] = v;
                // Infinite input has no spread, even alone.
                self.squares.set(i, if v.is_finite() { 0.0 } else { f64::NAN });
            } else {
                let delta = v - self.mean[i];
                self.mean[i] += delta / self.count[i];
                let squares = self.squares.get(i).unwrap_or(0.0);
                self.squares.set(i, squares + delta * (v - self.mean[i]));
            }
        }
    }
    fn finish(mut self) -> Cells {
        self.squares.filter_map(|i, squares| {
            let variance = squares / self.count[i];
            Some(if self.root { variance.sqrt() } else { variance })
        });
        self.squares
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
        for (i, v) in row.cells.iter() {
            // A series often keeps its value: look a value up only when it changes.
            let at = match last {
                Some((bits, at)) if bits == v.to_bits() => at,
                _ => {
                    let labels = grouping.labels_of(&row.labels.with(label, &plain_number(v)), dialect);
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
            last = Some((v.to_bits(), at));
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
    if v.is_infinite() {
        (if v > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        v.to_string()
    }
}
