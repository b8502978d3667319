//! The vector algebra that PromQL, LogQL metric queries and TraceQL metrics share, and what every query runs under:
//! deadline, cancellation, limits, a CPU pool apart from the network runtime. Knows no language and no engine.
//!
//! A vector expression is computed for all steps of its [`Grid`] at once: its value is a [`Matrix`] of [`Row`]s, each
//! a label set with one [`Cells`] column over the steps. Operators take matrices and give matrices; what an operator
//! does at one step never depends on another step. Where the languages differ, a field of [`Dialect`] says how.

mod aggregate;
mod binary;
mod cell_operators;
mod cells;
mod compensated;
mod context;
mod dialect;
mod fold;
mod grid;
mod histogram;
mod label_functions;
mod matching;
mod matrix;
mod number;
mod pool;
mod rank;
mod ratio;
mod remarks;
mod set_operators;
mod sliding;
mod sort;
mod window;

pub use aggregate::{AggregateOp, Grouping, aggregate};
pub use binary::{BinaryOp, apply, binary, binary_scalar};
pub use cells::{Cell, Cells, weight_of};
pub use compensated::{Compensated, Mean, quantile_of_sorted};
pub use context::{Context, ExecError, Limits, Usage};
pub use dialect::{Dialect, LOGQL, METRIC_TYPE, METRIC_UNIT, PROMQL, TRACEQL};
pub use fold::Aggregator;
pub use grid::Grid;
pub use histogram::{
    Added, HistogramMean, HistogramSum, MixedSchemas, NativeQuantile, Side, difference, divided, mean_of_observations,
    multiplied, native_fraction, native_quantile, sum_of_two, text_of, trimmed, variance_of_observations,
};
pub use label_functions::{label_join, label_replace};
pub use matching::{Cardinality, Matching};
pub use matrix::{Matrix, Row, SAME_LABELSET};
pub use number::{go_number, push_exponent_number, push_plain_number};
pub use pool::Pool;
pub use remarks::{Remark, Remarks};
pub use sliding::{Join, Sliding, Sorted, Spread};
pub use sort::{natural_order, sort_by_label, sort_by_value};
pub use window::{Accumulate, slide};
