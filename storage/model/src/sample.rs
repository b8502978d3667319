//! Samples, and the one NaN that means "the series ended here".

use crate::TimestampMs;

/// The bit pattern of a staleness marker. Any normalisation of NaN destroys it, so samples travel as bits.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// One value of a series at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When.
    pub t: TimestampMs,
    /// What; may be any NaN.
    pub v: f64,
}

/// The staleness marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `v` is the staleness marker (and not just any NaN).
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}
