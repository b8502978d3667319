//! The vector algebra that PromQL, LogQL metric queries and TraceQL metrics share, and what every query runs under:
//! deadline, cancellation, limits, a CPU pool apart from the network runtime. Knows no language and no engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::LabelSet;

/// Steps of a query, in the language's own unit (PromQL and LogQL: ms; TraceQL: ns). An instant query has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    start: i64,
    step: i64,
    len: usize,
}

impl Grid {
    /// One point.
    pub fn instant(t: i64) -> Grid {
        Grid {
            start: t,
            step: 1,
            len: 1,
        }
    }
    /// `start`, `start + step`, ... up to `end`; `step` must be positive and `end` not before `start`.
    pub fn range(start: i64, end: i64, step: i64) -> Grid {
        assert!(step > 0 && end >= start, "a grid runs forward");
        Grid {
            start,
            step,
            len: ((end - start) / step) as usize + 1,
        }
    }
    /// How many points.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Never true; there is always a point.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// The `i`-th point.
    pub fn at(&self, i: usize) -> i64 {
        self.start + self.step * i as i64
    }
    /// First point.
    pub fn start(&self) -> i64 {
        self.start
    }
    /// Last point.
    pub fn end(&self) -> i64 {
        self.at(self.len - 1)
    }
    /// Distance of points.
    pub fn step(&self) -> i64 {
        self.step
    }
    /// All points.
    pub fn iter(&self) -> impl Iterator<Item = i64> + use<> {
        let g = *self;
        (0..g.len).map(move |i| g.at(i))
    }
}

/// One value per step, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    values: Vec<f64>,
    present: Vec<u64>,
}

impl Cells {
    /// `len` absent cells.
    pub fn absent(len: usize) -> Cells {
        Cells {
            values: vec![0.0; len],
            present: vec![0; len.div_ceil(64)],
        }
    }
    /// The value at a step.
    pub fn get(&self, i: usize) -> Option<f64> {
        (self.present[i / 64] >> (i % 64) & 1 == 1).then(|| self.values[i])
    }
    /// Sets the value at a step.
    pub fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.present[i / 64] |= 1 << (i % 64);
    }
    /// Removes the value at a step.
    pub fn clear(&mut self, i: usize) {
        self.present[i / 64] &= !(1 << (i % 64));
    }
    /// How many steps.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// Whether every step is absent.
    pub fn all_absent(&self) -> bool {
        self.present.iter().all(|w| *w == 0)
    }
    /// Present cells as (step, value).
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        (0..self.len()).filter_map(|i| self.get(i).map(|v| (i, v)))
    }
}

/// A label set with its cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who.
    pub labels: LabelSet,
    /// Its values on the grid.
    pub cells: Cells,
    /// The metric's name is to be taken off when the whole expression is done (PromQL's delayed name removal); false
    /// in other languages. Aggregations pass it on: one marked member marks the group.
    pub drop_name: bool,
}

impl Row {
    /// A row whose labels are final.
    pub fn new(labels: LabelSet, cells: Cells) -> Row {
        Row { labels, cells, drop_name: false }
    }
}

/// Rows on one grid: the value of a vector expression over all steps at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// The steps.
    pub grid: Grid,
    /// One row per label set, in an order that operators keep (sorting functions set it).
    pub rows: Vec<Row>,
}

/// Where the languages truly differ. A difference that is not here is a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Division (and remainder) by zero gives NaN (LogQL) instead of what IEEE 754 gives (PromQL).
    pub division_by_zero_is_nan: bool,
    /// A leading label names the metric and is dropped by arithmetic and ignored by matching (PromQL).
    pub metric_names: bool,
    /// Where a name is to be dropped, mark the row (`Row::drop_name`) and leave its labels as they are.
    pub delayed_name_removal: bool,
}

/// PromQL's ways.
pub const PROMQL: Dialect = Dialect {
    division_by_zero_is_nan: false,
    metric_names: true,
    delayed_name_removal: false,
};
/// LogQL's ways.
pub const LOGQL: Dialect = Dialect {
    division_by_zero_is_nan: true,
    metric_names: false,
    delayed_name_removal: false,
};
/// TraceQL's ways.
pub const TRACEQL: Dialect = Dialect {
    division_by_zero_is_nan: true,
    metric_names: false,
    delayed_name_removal: false,
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
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Only these.
    By(Vec<String>),
    /// All but these (and the metric name, by dialect).
    Without(Vec<String>),
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
}

/// Which labels must agree for two rows to meet.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Matching {
    /// `on(labels)` if true, `ignoring(labels)` if false.
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// How many rows may meet how many.
    pub cardinality: Cardinality,
    /// Labels that `group_left(...)` or `group_right(...)` copies from the "one" side.
    pub include: Vec<String>,
}

/// How many rows may meet how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// Why a query stopped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExecError {
    /// The deadline passed.
    #[error("query timed out in {0}")]
    TimedOut(&'static str),
    /// The client hung up.
    #[error("query was canceled in {0}")]
    Cancelled(&'static str),
    /// A limit was met; the text says which, and how to raise it.
    #[error("{0}")]
    Limit(String),
    /// The data does not allow it (many-to-many matching, duplicate label sets, a bad parameter).
    #[error("{0}")]
    Data(String),
}

/// Limits of one query.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples in memory at once.
    pub samples_max: u64,
    /// Series, streams or groups in a result.
    pub series_max: u64,
    /// Bytes decompressed.
    pub bytes_max: u64,
}

/// What a query runs under; cloning shares it.
#[derive(Clone)]
pub struct Context {
    _inner: Arc<()>,
}

impl Context {
    /// With a deadline from now and limits.
    pub fn new(timeout: Duration, limits: Limits) -> Context {
        let _ = (timeout, limits);
        todo!()
    }
    /// Stops the query at its next check.
    pub fn cancel(&self) {
        todo!()
    }
    /// To be called in every loop over foreign amounts of data, with a word for where.
    pub fn check(&self, at: &'static str) -> Result<(), ExecError> {
        let _ = at;
        todo!()
    }
    /// Counts samples held; fails over the limit.
    pub fn add_samples(&self, n: u64) -> Result<(), ExecError> {
        let _ = n;
        todo!()
    }
    /// Gives samples back.
    pub fn release_samples(&self, n: u64) {
        let _ = n;
        todo!()
    }
    /// Counts bytes decompressed; fails over the limit.
    pub fn add_bytes(&self, n: u64) -> Result<(), ExecError> {
        let _ = n;
        todo!()
    }
    /// Limits.
    pub fn limits(&self) -> Limits {
        todo!()
    }
    /// When it must be done.
    pub fn deadline(&self) -> Instant {
        todo!()
    }
    /// Samples held at the peak, and samples and bytes read in all.
    pub fn usage(&self) -> Usage {
        todo!()
    }
}

/// What a query used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most samples held at once.
    pub samples_peak: u64,
    /// Samples counted in all.
    pub samples_total: u64,
    /// Bytes decompressed.
    pub bytes: u64,
}

/// CPU threads for queries, apart from the network runtime; cloning shares them.
#[derive(Clone)]
pub struct Pool {
    _inner: Arc<()>,
}

impl Pool {
    /// `threads` threads (at least 1).
    pub fn new(threads: usize) -> Pool {
        let _ = threads;
        todo!()
    }
    /// Runs `job` on the pool (inside, rayon's parallel iterators use the pool) and awaits it. Dropping the future
    /// cancels `context`. A panic in the job is an `Err` with its message.
    pub async fn run<T: Send + 'static>(
        &self,
        context: &Context,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let _ = (context, job);
        todo!()
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
    let _ = (context, op, grouping, input, dialect);
    todo!()
}

/// Vector with vector. `return_bool` for comparisons with `bool`. Errors when matching is ambiguous.
pub fn binary(
    context: &Context,
    op: BinaryOp,
    matching: &Matching,
    return_bool: bool,
    left: Matrix,
    right: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    let _ = (context, op, matching, return_bool, left, right, dialect);
    todo!()
}

/// Vector with scalar (one value per step); `scalar_left` tells on which side it stands. Comparisons filter unless `return_bool`.
pub fn binary_scalar(
    context: &Context,
    op: BinaryOp,
    return_bool: bool,
    vector: Matrix,
    scalar: &[f64],
    scalar_left: bool,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    let _ = (context, op, return_bool, vector, scalar, scalar_left, dialect);
    todo!()
}

/// Scalar with scalar, one step. Comparisons give 0 or 1.
pub fn apply(op: BinaryOp, left: f64, right: f64, dialect: Dialect) -> f64 {
    let _ = (op, left, right, dialect);
    todo!()
}

/// `label_replace(v, dst, replacement, src, regex)`. Fails on a bad regex or label name, or when two rows become one.
pub fn label_replace(
    context: &Context,
    input: Matrix,
    dst: &str,
    replacement: &str,
    src: &str,
    regex: &str,
) -> Result<Matrix, ExecError> {
    let _ = (context, input, dst, replacement, src, regex);
    todo!()
}

/// Sorts rows of an instant vector by value; NaN last.
pub fn sort_by_value(matrix: &mut Matrix, descending: bool) {
    let _ = (matrix, descending);
    todo!()
}

/// Something that slides over time-ordered events: [`slide`] lets events enter at the front and leave at the back.
pub trait Accumulate {
    /// An event `(t, v)` enters the window.
    fn enter(&mut self, t: i64, v: f64);
    /// The oldest event leaves it.
    fn leave(&mut self, t: i64, v: f64);
    /// The value of the window that ends at `at`; `None` for no result.
    fn read(&mut self, at: i64) -> Option<f64>;
}

/// For each step `s` of the grid, the window is `(s - offset - range, s - offset]` over events rising by time (`t`, `v`
/// of equal length). Each event enters and leaves once. An empty window gives an absent cell without asking.
pub fn slide(grid: &Grid, offset: i64, range: i64, t: &[i64], v: &[f64], accumulator: &mut impl Accumulate) -> Cells {
    let _ = (grid, offset, range, t, v, accumulator);
    todo!()
}
