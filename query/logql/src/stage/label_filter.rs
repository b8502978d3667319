//! Label filters: text, numbers, durations, byte sizes, addresses, and their combinations.
//!
//! A missing label fails a typed filter without an error; one that cannot be read lets the line pass with an error.

use model::Matcher;

use super::ip::IpSet;
use crate::labels::Labels;
use crate::syntax::{Compare, LabelFilter};
use crate::units;

/// The kind of error that filters set.
pub(crate) const LABEL_FILTER_ERROR: &str = "LabelFilterErr";

/// A filter that is ready to run.
#[derive(Clone, Debug)]
pub(crate) enum LabelTest {
    Text(Matcher),
    Number(String, Compare, f64),
    Duration(String, Compare, i64),
    Bytes(String, Compare, u64),
    Ip(String, bool, IpSet),
    And(Vec<LabelTest>),
    Or(Vec<LabelTest>),
}

impl LabelTest {
    /// Compiles the filter.
    pub fn new(filter: &LabelFilter) -> Result<LabelTest, String> {
        Ok(match filter {
            LabelFilter::Text(matcher) => LabelTest::Text(matcher.clone()),
            LabelFilter::Number { name, op, value } => LabelTest::Number(name.clone(), *op, *value),
            LabelFilter::Duration { name, op, value } => LabelTest::Duration(name.clone(), *op, *value),
            LabelFilter::Bytes { name, op, value } => LabelTest::Bytes(name.clone(), *op, *value),
            LabelFilter::Ip { name, negated, pattern } => LabelTest::Ip(name.clone(), *negated, IpSet::parse(pattern)?),
            LabelFilter::And(all) => LabelTest::And(all.iter().map(LabelTest::new).collect::<Result<_, _>>()?),
            LabelFilter::Or(any) => LabelTest::Or(any.iter().map(LabelTest::new).collect::<Result<_, _>>()?),
        })
    }

    /// Whether the entry survives; may set an error.
    pub fn passes(&self, labels: &mut Labels) -> bool {
        match self {
            LabelTest::Text(matcher) => matcher.matches(labels.get(matcher.name()).unwrap_or("")),
            LabelTest::Number(name, op, want) => typed(labels, name, *op, *want, units::go_float),
            LabelTest::Duration(name, op, want) => typed(labels, name, *op, *want, units::go_duration),
            LabelTest::Bytes(name, op, want) => typed(labels, name, *op, *want, units::value_bytes),
            LabelTest::Ip(name, negated, set) => {
                !labels.error().is_empty()
                    || labels
                        .get_label(name)
                        .is_some_and(|value| set.found_in(value) != *negated)
            }
            // Every part is looked at, for each may set an error.
            LabelTest::And(all) => {
                let mut passes = true;
                for test in all {
                    passes &= test.passes(labels);
                }
                passes
            }
            LabelTest::Or(any) => any.iter().any(|test| test.passes(labels)),
        }
    }

    /// Adds the names that the filter looks at.
    pub fn names(&self, out: &mut Vec<String>) {
        match self {
            LabelTest::Text(matcher) => out.push(matcher.name().to_owned()),
            LabelTest::Number(name, ..)
            | LabelTest::Duration(name, ..)
            | LabelTest::Bytes(name, ..)
            | LabelTest::Ip(name, ..) => out.push(name.clone()),
            LabelTest::And(tests) | LabelTest::Or(tests) => tests.iter().for_each(|t| t.names(out)),
        }
    }
}

fn typed<T: PartialOrd>(
    labels: &mut Labels,
    name: &str,
    op: Compare,
    want: T,
    read: impl Fn(&str) -> Result<T, String>,
) -> bool {
    match labels.get_label(name).map(read) {
        None => false,
        Some(Ok(value)) => op.holds(value, want),
        Some(Err(details)) => {
            labels.set_first_error(LABEL_FILTER_ERROR, &details);
            true
        }
    }
}
