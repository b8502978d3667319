//! Where the languages truly differ. A difference that is not here is a bug.

use model::{LabelSet, METRIC_NAME};

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
    /// Labels that say a metric's type and unit go where its name goes.
    pub type_and_unit: bool,
    /// Labels may be there without a value; grouping by all but some names drops them (LogQL).
    pub empty_labels: bool,
    /// An infinite value that is the first in its group deviates by NaN (PromQL) instead of not at all (LogQL).
    pub lone_infinity_deviates: bool,
}

impl Dialect {
    /// The labels without the metric's name, and without what else describes the metric.
    pub fn without_name(self, labels: &LabelSet) -> LabelSet {
        if self.type_and_unit {
            labels.without(&[METRIC_NAME, METRIC_TYPE, METRIC_UNIT])
        } else {
            labels.without_metric_name()
        }
    }
}

/// The label of a metric's type, where types are labels.
pub const METRIC_TYPE: &str = "__type__";
/// The label of a metric's unit.
pub const METRIC_UNIT: &str = "__unit__";

/// PromQL's ways.
pub const PROMQL: Dialect = Dialect {
    division_by_zero_is_nan: false,
    metric_names: true,
    delayed_name_removal: false,
    type_and_unit: false,
    empty_labels: false,
    lone_infinity_deviates: true,
};
/// LogQL's ways.
pub const LOGQL: Dialect = Dialect {
    division_by_zero_is_nan: true,
    metric_names: false,
    delayed_name_removal: false,
    type_and_unit: false,
    empty_labels: true,
    lone_infinity_deviates: false,
};
/// TraceQL's ways.
pub const TRACEQL: Dialect = Dialect {
    division_by_zero_is_nan: true,
    metric_names: false,
    delayed_name_removal: false,
    type_and_unit: false,
    empty_labels: false,
    lone_infinity_deviates: true,
};
