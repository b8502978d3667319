//! Exemplars: pointers from a sample to the trace that caused it.

use crate::{LabelSet, TimestampMs};

/// One exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, usually `trace_id` and `span_id`.
    pub labels: LabelSet,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub t: TimestampMs,
}
