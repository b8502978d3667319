//! Mean and variance of what a histogram counted. Observations are taken to lie in the middle of their buckets.

use model::Histogram;

use crate::Compensated;

/// Sum over count.
pub fn mean_of_observations(h: &Histogram) -> f64 {
    h.sum / h.count
}

/// Population variance. The middle of an exponential bucket is the geometric mean of its bounds, of the zero bucket 0,
/// of a custom bucket the arithmetic mean.
pub fn variance_of_observations(h: &Histogram) -> f64 {
    let mean = mean_of_observations(h);
    let mut squares = Compensated::default();
    for b in h.buckets().iter().filter(|b| b.count != 0.0) {
        let middle = match () {
            () if h.has_custom_buckets() => f64::midpoint(b.lower, b.upper),
            () if b.lower <= 0.0 && b.upper >= 0.0 => 0.0,
            () => (b.lower * b.upper).sqrt() * b.upper.signum(),
        };
        let delta = middle - mean;
        squares.add(b.count * delta * delta);
    }
    squares.total() / h.count
}
