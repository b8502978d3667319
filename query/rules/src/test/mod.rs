//! Unit tests of rules: files in the form that Prometheus' tool reads, and the same form for rules over logs.
//!
//! A file names rule files and has cases. A case describes series (and streams of log lines), lets the rules be evaluated
//! over them from its start, once every `evaluation_interval`, and says which alerts must fire and what expressions must
//! answer at which time:
//!
//! ```yaml
//! rule_files: [rules.yaml]              # globs, from the folder of this file
//! evaluation_interval: 1m
//! group_eval_order: [name]              # groups to evaluate in this order
//! fuzzy_compare: false                  # true: numbers may differ in their last bit
//! tests:
//!   - name: text
//!     interval: 1m                      # between the values of a series; default: evaluation_interval
//!     start_timestamp: 0                # or RFC 3339
//!     input_series:
//!       - {series: 'm{l="v"}', values: '0+1x10 _ stale {{schema:1 count:2}}x3'}
//!     input_streams:                    # ours: log lines
//!       - stream: '{app="shop"}'
//!         entries:
//!           - {line: boo, at: 1m, every: 10s, times: 6, metadata: {level: error}}
//!     external_labels: {}
//!     external_url: ""
//!     alert_rule_test:
//!       - {eval_time: 10m, alertname: X, exp_alerts: [{exp_labels: {}, exp_annotations: {}}]}
//!     promql_expr_test:
//!       - {expr: m, eval_time: 5m, exp_samples: [{labels: 'm{l="v"}', value: 1, histogram: '{{count:1}}'}]}
//!     logql_expr_test:                  # ours: the same for LogQL
//!       - {expr: 'rate({app="shop"}[1m])', eval_time: 5m, exp_samples: []}
//! ```
//!
//! Alerts and recordings of LogQL rules are series like any other, so `promql_expr_test` sees them.
//!
//! [`TestFile::read`] reads, [`TestFile::run`] runs one case in a storage of its own and says what is not as it should be.

mod difference;
mod input;
mod read;
mod run;

use model::LabelSet;

use input::Input;

/// A file of tests.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// Patterns of rule files, as written.
    pub rule_files: Vec<String>,
    /// Its cases in order.
    pub cases: Vec<TestCase>,
    evaluation_interval_ms: i64,
    group_eval_order: Vec<String>,
    fuzzy_compare: bool,
}

/// One case: input, and what rules make of it.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// Its name, or `unnamed#N` by its place from 0.
    pub name: String,
    /// The line it begins at, counted from 1.
    pub line: u32,
    interval_ms: i64,
    start_ms: i64,
    external_labels: Vec<(String, String)>,
    external_url: String,
    input: Input,
    alerts: Vec<AlertTest>,
    expressions: Vec<ExpressionTest>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of what was expected, counted from 1.
    pub line: u32,
    /// What is wrong; expected beside found where both are known, in lines of their own.
    pub what: String,
}

/// Which alerts of a name fire at a time.
#[derive(Clone, Debug)]
struct AlertTest {
    line: u32,
    eval_time_ms: i64,
    alertname: String,
    /// Labels (`alertname` included) and annotations, each sorted.
    expected: Vec<FiringAlert>,
}

/// Labels and annotations of an alert, each sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FiringAlert {
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

/// What an expression answers at a time.
#[derive(Clone, Debug)]
struct ExpressionTest {
    line: u32,
    dialect: crate::Dialect,
    expr: String,
    eval_time_ms: i64,
    expected: Vec<Sample>,
}

/// An element of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    labels: LabelSet,
    value: SampleValue,
}

#[derive(Clone, Debug, PartialEq)]
enum SampleValue {
    Float(f64),
    /// In the notation of tests.
    Histogram(String),
}

#[cfg(test)]
mod tests;
