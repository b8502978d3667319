//! The functions: names, argument types, and what each does. One file per family; the table here is the only list.

mod dates;
mod edges;
mod histogram;
mod math;
mod native;
mod over_time;
mod rate;
mod regression;
mod smoothing;

use model::Histogram;
use query_exec::{Cells, mean_of_observations, variance_of_observations};

use crate::syntax::Type;
use crate::windows::Windows;

pub(crate) use histogram::{BOUND, Buckets, Fixed, bucket_fraction, bucket_quantile, collect_buckets};

/// A function of the language.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) args: &'static [Type],
    /// How often the last argument may come: 0, exactly once; n, between 0 and n times; negative, any number of times.
    pub(crate) variadic: i8,
    pub(crate) returns: Type,
    /// Whether the value may differ from step to step although no argument does.
    pub(crate) varies: bool,
    pub(crate) work: Work,
}

/// Scalar arguments, each a value per step.
pub(crate) type Params<'a> = &'a [Vec<f64>];

/// What a function does.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Each value alone.
    Value(fn(f64) -> f64),
    /// Each value with the scalar arguments of its step; may leave it out.
    ValueWith(fn(f64, &[f64]) -> Option<f64>),
    /// A window of samples at each step.
    Window(fn(&Windows<'_>, Params<'_>) -> Cells),
    /// Like `Window`, for functions of counters: rate and increase.
    Counter(fn(&Windows<'_>, Params<'_>) -> Cells),
    /// Like `Window`, and the metric's name stays.
    WindowNamed(fn(&Windows<'_>, Params<'_>) -> Cells),
    /// A part of the date that each value is (unix seconds); without argument, of the step.
    Date(fn(f64) -> f64),
    /// A smoothing of windows whose factors must lie between 0 and 1.
    Smoothing,
    QuantileOverTime,
    Absent,
    AbsentOverTime,
    Scalar,
    Vector,
    Time,
    Pi,
    Start,
    End,
    Range,
    Step,
    MaxOf,
    MinOf,
    Timestamp,
    /// When the selected samples began to count, seconds.
    StartTimestamp,
    /// Adds labels of info series; the second argument is always there and says which.
    Info,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    /// Of each native histogram; numbers are left out.
    OfHistogram(fn(&Histogram) -> f64),
}

/// The function of that name.
pub(crate) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn of(name: &'static str, args: &'static [Type], returns: Type, work: Work) -> Function {
    Function {
        name,
        args,
        variadic: 0,
        returns,
        varies: false,
        work,
    }
}
const fn value(name: &'static str, f: fn(f64) -> f64) -> Function {
    of(name, &[Type::Vector], Type::Vector, Work::Value(f))
}
const fn window(name: &'static str, f: fn(&Windows<'_>, Params<'_>) -> Cells) -> Function {
    of(name, &[Type::Range], Type::Vector, Work::Window(f))
}
const fn date(name: &'static str, f: fn(f64) -> f64) -> Function {
    of(name, &[Type::Vector], Type::Vector, Work::Date(f))
        .variadic(1)
        .varies()
}

impl Function {
    const fn variadic(mut self, n: i8) -> Function {
        self.variadic = n;
        self
    }
    const fn varies(mut self) -> Function {
        self.varies = true;
        self
    }
}

/// The names of all functions, sorted.
pub fn function_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    names.sort_unstable();
    names
}

static FUNCTIONS: &[Function] = {
    use Type::{Range, Scalar, Text, Vector};
    use Work::*;
    &[
        value("abs", f64::abs),
        of("absent", &[Vector], Vector, Absent),
        of("absent_over_time", &[Range], Vector, AbsentOverTime),
        value("acos", f64::acos),
        value("acosh", math::acosh),
        value("asin", f64::asin),
        value("asinh", math::asinh),
        value("atan", f64::atan),
        value("atanh", f64::atanh),
        window("avg_over_time", over_time::avg),
        value("ceil", f64::ceil),
        window("changes", over_time::changes),
        of("clamp", &[Vector, Scalar, Scalar], Vector, ValueWith(math::clamp)),
        of("clamp_max", &[Vector, Scalar], Vector, ValueWith(math::clamp_max)),
        of("clamp_min", &[Vector, Scalar], Vector, ValueWith(math::clamp_min)),
        value("cos", f64::cos),
        value("cosh", f64::cosh),
        window("count_over_time", over_time::count),
        date("day_of_month", dates::day_of_month),
        date("day_of_week", dates::day_of_week),
        date("day_of_year", dates::day_of_year),
        date("days_in_month", dates::days_in_month),
        value("deg", math::deg),
        window("delta", rate::delta),
        window("deriv", regression::deriv),
        of(
            "double_exponential_smoothing",
            &[Range, Scalar, Scalar],
            Vector,
            Smoothing,
        ),
        of("end", &[], Scalar, End).varies(),
        value("exp", f64::exp),
        of("first_over_time", &[Range], Vector, WindowNamed(over_time::first)),
        value("floor", f64::floor),
        of("histogram_avg", &[Vector], Vector, OfHistogram(mean_of_observations)),
        of("histogram_count", &[Vector], Vector, OfHistogram(native::count)),
        of(
            "histogram_fraction",
            &[Scalar, Scalar, Vector],
            Vector,
            HistogramFraction,
        ),
        of("histogram_quantile", &[Scalar, Vector], Vector, HistogramQuantile),
        of(
            "histogram_quantiles",
            &[Vector, Text, Scalar, Scalar],
            Vector,
            HistogramQuantiles,
        )
        .variadic(9),
        of("histogram_stddev", &[Vector], Vector, OfHistogram(native::stddev)),
        of(
            "histogram_stdvar",
            &[Vector],
            Vector,
            OfHistogram(variance_of_observations),
        ),
        of(
            "histogram_sum",
            &[Vector],
            Vector,
            OfHistogram(native::sum_of_observations),
        ),
        date("hour", dates::hour),
        window("idelta", rate::idelta),
        of("increase", &[Range], Vector, Counter(rate::increase)),
        of("info", &[Vector, Vector], Vector, Info).variadic(1),
        of("irate", &[Range], Vector, Window(rate::irate)),
        of("label_join", &[Vector, Text, Text, Text], Vector, LabelJoin).variadic(-1),
        of("label_replace", &[Vector, Text, Text, Text, Text], Vector, LabelReplace),
        of("last_over_time", &[Range], Vector, WindowNamed(over_time::last)),
        value("ln", f64::ln),
        value("log10", f64::log10),
        value("log2", f64::log2),
        window("mad_over_time", over_time::mad),
        window("max_over_time", over_time::max),
        of("max_of", &[Scalar, Scalar], Scalar, MaxOf),
        window("min_over_time", over_time::min),
        of("min_of", &[Scalar, Scalar], Scalar, MinOf),
        date("minute", dates::minute),
        date("month", dates::month),
        of("pi", &[], Scalar, Pi),
        of(
            "predict_linear",
            &[Range, Scalar],
            Vector,
            Window(regression::predict_linear),
        )
        .varies(),
        window("present_over_time", over_time::present),
        of("quantile_over_time", &[Scalar, Range], Vector, QuantileOverTime),
        value("rad", math::rad),
        of("range", &[], Scalar, Work::Range).varies(),
        of("rate", &[Range], Vector, Counter(rate::rate)),
        window("resets", over_time::resets),
        of("round", &[Vector, Scalar], Vector, ValueWith(math::round)).variadic(1),
        of("scalar", &[Vector], Scalar, Work::Scalar),
        value("sgn", math::sgn),
        value("sin", f64::sin),
        value("sinh", f64::sinh),
        of("sort", &[Vector], Vector, Sort { descending: false }),
        of(
            "sort_by_label",
            &[Vector, Text],
            Vector,
            SortByLabel { descending: false },
        )
        .variadic(-1),
        of(
            "sort_by_label_desc",
            &[Vector, Text],
            Vector,
            SortByLabel { descending: true },
        )
        .variadic(-1),
        of("sort_desc", &[Vector], Vector, Sort { descending: true }),
        value("sqrt", f64::sqrt),
        of("start", &[], Scalar, Start).varies(),
        of("start_timestamp", &[Vector], Vector, StartTimestamp),
        window("stddev_over_time", over_time::stddev),
        window("stdvar_over_time", over_time::stdvar),
        of("step", &[], Scalar, Step).varies(),
        window("sum_over_time", over_time::sum),
        value("tan", f64::tan),
        value("tanh", f64::tanh),
        of("time", &[], Scalar, Time).varies(),
        of("timestamp", &[Vector], Vector, Timestamp).varies(),
        window("ts_of_first_over_time", over_time::ts_of_first),
        window("ts_of_last_over_time", over_time::ts_of_last),
        window("ts_of_max_over_time", over_time::ts_of_max),
        window("ts_of_min_over_time", over_time::ts_of_min),
        of("vector", &[Scalar], Vector, Work::Vector),
        date("year", dates::year),
    ]
};

pub(crate) use edges::{extended, smoothed};
pub(crate) use over_time::quantile as quantile_over_time;
pub(crate) use smoothing::double_exponential as double_exponential_smoothing;
