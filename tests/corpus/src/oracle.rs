//! A second opinion on syntax: the `promql-parser` crate. It is no judge (it refuses a part of what Prometheus accepts), but
//! where it accepts a query that ours refuses, ours is probably wrong, and the runner says so.

/// Whether `promql-parser` accepts the query; it panics on some texts, which is no opinion.
pub fn promql_accepts(text: &str) -> bool {
    std::panic::catch_unwind(|| promql_parser::parser::parse(text).is_ok()).unwrap_or(false)
}
