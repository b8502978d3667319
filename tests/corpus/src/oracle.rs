//! A second opinion on syntax: the `promql-parser` crate. It is no judge (it refuses a part of what Prometheus accepts), but
//! where it accepts a query that ours refuses, ours is probably wrong, and the runner says so.

/// Whether `promql-parser` accepts the query.
pub fn promql_accepts(text: &str) -> bool {
    promql_parser::parser::parse(text).is_ok()
}
