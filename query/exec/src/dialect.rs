//! Where the languages truly differ. A difference that is not here is a bug.

/// The ways of one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Division (and remainder) by zero gives NaN (LogQL) instead of what IEEE 754 gives (PromQL).
    pub division_by_zero_is_nan: bool,
    /// A leading label names the metric and is dropped by arithmetic and ignored by matching (PromQL).
    pub metric_names: bool,
    /// Where a name is to be dropped, mark the row ([`Row::drop_name`](crate::Row::drop_name)) and leave its labels as
    /// they are.
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
