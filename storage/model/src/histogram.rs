//! Native histograms: many counts in one sample, in buckets that follow a rule instead of being series of their own.
//!
//! One type serves integer and float histograms: counts are `f64`, exact for integers below 2^53, and what was integer
//! stays integer in storage because its numbers are whole. (Prometheus' data model, "native histograms".)

mod buckets;
mod equal;
mod resets;
mod valid;

use std::sync::Arc;

use crate::is_stale;

pub use buckets::{Bucket, coarser_index, exponential_bound};
pub use valid::BadHistogram;

/// The schema of histograms whose bucket bounds are listed one by one.
pub const CUSTOM_BUCKETS: i32 = -53;

/// What is known of a counter reset between the sample before and this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    /// Nothing; compare the two.
    #[default]
    Unknown,
    /// The counter began anew.
    Reset,
    /// It did not.
    NotReset,
    /// A gauge histogram: resets mean nothing.
    Gauge,
}

/// A run of `length` adjoining buckets, `offset` buckets after the end of the run before (the first: from bucket 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSpan {
    /// Gap to the run before; only the first may be negative.
    pub offset: i32,
    /// Buckets in the run.
    pub length: u32,
}

/// One side's buckets: runs, and a count for each bucket of each run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// The runs.
    pub spans: Vec<BucketSpan>,
    /// Absolute counts, as many as the runs are long together.
    pub counts: Vec<f64>,
}

/// One histogram of a series at one time.
///
/// Exponential (schema -4 to 8): bucket `i` of the positive side covers `(b^(i-1), b^i]` with `b = 2^(2^-schema)`; the
/// negative side mirrors it; the zero bucket covers `[-zero_threshold, zero_threshold]`. Custom
/// ([`CUSTOM_BUCKETS`]): bucket `i` covers `(bounds[i-1], bounds[i]]`, the last one ends at +Inf.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// What is known of resets.
    pub reset: ResetHint,
    /// -4 to 8, or [`CUSTOM_BUCKETS`].
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations (NaN ones included, which are in no bucket).
    pub count: f64,
    /// Their sum; a staleness marker makes the whole sample one.
    pub sum: f64,
    /// Buckets above zero, or the custom ones.
    pub positive: Buckets,
    /// Buckets below zero.
    pub negative: Buckets,
    /// Upper bounds of custom buckets, rising, without the last +Inf.
    pub bounds: Arc<[f64]>,
}

/// A histogram sample of a batch.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// When, ms.
    pub t: crate::TimestampMs,
    /// When its counting began, ms; 0: not known.
    pub start: crate::TimestampMs,
    /// What.
    pub histogram: Arc<Histogram>,
}

impl Histogram {
    /// The sample that ends a series of histograms.
    pub fn stale() -> Histogram {
        Histogram {
            reset: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: crate::stale_nan(),
            positive: Buckets::default(),
            negative: Buckets::default(),
            bounds: Arc::new([]),
        }
    }

    /// Whether this is a staleness marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether its buckets are listed one by one.
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS
    }
}
