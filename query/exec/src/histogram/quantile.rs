//! Quantiles and fractions of a native histogram.
//!
//! Inside a bucket observations are taken to be spread evenly: over the logarithm in exponential buckets, over the value
//! in the zero bucket and in custom ones. NaN observations are counted but lie in no bucket: above all others.

use model::{Bucket, Histogram};

/// A result, and how NaN observations bear on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NativeQuantile {
    /// The quantile or the fraction.
    pub value: f64,
    /// There were NaN observations: a quantile is higher for them (or NaN), a fraction leaves them out.
    pub nan_observations: bool,
}

impl NativeQuantile {
    fn plain(value: f64) -> NativeQuantile {
        NativeQuantile {
            value,
            nan_observations: false,
        }
    }
}

/// The φ-quantile; φ below 0 gives -Inf, above 1 +Inf; NaN for a φ that is NaN or of an empty histogram.
pub fn native_quantile(q: f64, h: &Histogram) -> NativeQuantile {
    if q < 0.0 {
        return NativeQuantile::plain(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return NativeQuantile::plain(f64::INFINITY);
    }
    if h.count == 0.0 || q.is_nan() {
        return NativeQuantile::plain(f64::NAN);
    }
    let buckets = h.buckets();
    let nan_observations = has_nan_observations(h, &buckets);
    // The way from the nearer end adds up fewer rounding errors; NaN observations would stand at the upper end.
    let upward = h.sum.is_nan() || q < 0.5;
    let rank = if upward { q } else { 1.0 - q } * h.count;
    let mut count = 0.0;
    let reaches = |b: &&Bucket| {
        count += b.count;
        b.count != 0.0 && count >= rank
    };
    let populated = |b: &&Bucket| b.count != 0.0;
    let found = if upward {
        buckets.iter().find(reaches).or(buckets.iter().rfind(populated))
    } else {
        buckets.iter().rev().find(reaches).or(buckets.iter().find(populated))
    };
    let Some(&(mut bucket)) = found else {
        return NativeQuantile {
            value: f64::NAN,
            nan_observations,
        };
    };
    let value = |value: f64| NativeQuantile {
        value,
        nan_observations,
    };
    if h.has_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return value(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return value(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = without_empty_side(h, bucket);
    }
    let count = count.min(h.count);
    if count < rank {
        // Without NaN observations only negative counts lead here.
        return value(if h.sum.is_nan() { f64::NAN } else { bucket.upper });
    }
    let inside = if upward {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    // Prometheus goes on to the last bucket to see whether there are NaN observations, and stays there.
    if h.sum.is_nan()
        && let Some(last) = buckets.last().filter(|last| last.upper > bucket.upper)
    {
        bucket = *last;
    }
    let share = inside / bucket.count;
    if h.has_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return value(bucket.lower + (bucket.upper - bucket.lower) * share);
    }
    let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    value(if bucket.lower > 0.0 {
        (lower + (upper - lower) * share).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - share)).exp2()
    })
}

/// The share of observations in `(lower, upper]`; NaN for bounds that are NaN or of an empty histogram.
pub fn native_fraction(lower: f64, upper: f64, h: &Histogram) -> NativeQuantile {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return NativeQuantile::plain(f64::NAN);
    }
    if lower >= upper {
        return NativeQuantile::plain(0.0);
    }
    let buckets = h.buckets();
    let nan_observations = has_nan_observations(h, &buckets);
    let all = if nan_observations {
        buckets.iter().map(|b| b.count).sum()
    } else {
        h.count
    };
    let rank = |at: f64| rank_at(h, &buckets, at).unwrap_or(all).min(all);
    NativeQuantile {
        value: (rank(upper) - rank(lower)) / h.count,
        nan_observations,
    }
}

/// Observations below `at`; `None` if all are.
fn rank_at(h: &Histogram, buckets: &[Bucket], at: f64) -> Option<f64> {
    let mut below = 0.0;
    for &(mut b) in buckets {
        let linear = b.lower <= 0.0 && b.upper >= 0.0;
        if linear {
            b = without_empty_side(h, b);
        }
        if b.lower >= at {
            return Some(below);
        }
        if b.upper > at {
            return Some(match () {
                // Where in an endless bucket its observations are is not known: all of them lie below.
                () if b.lower == f64::NEG_INFINITY => b.count,
                () if linear || h.has_custom_buckets() => below + b.count * (at - b.lower) / (b.upper - b.lower),
                () => below + b.count * logarithmic_share(&b, at),
            });
        }
        below += b.count;
    }
    None
}

/// Which part of an exponential bucket's observations lies below `at`, which is inside.
pub(super) fn logarithmic_share(b: &Bucket, at: f64) -> f64 {
    let (lower, upper, at_log) = (b.lower.abs().log2(), b.upper.abs().log2(), at.abs().log2());
    if at > 0.0 {
        (at_log - lower) / (upper - lower)
    } else {
        1.0 - (at_log - upper) / (lower - upper)
    }
}

/// The bucket around zero, cut at zero if there are observations on one side only.
pub(super) fn without_empty_side(h: &Histogram, mut b: Bucket) -> Bucket {
    match (h.negative.counts.is_empty(), h.positive.counts.is_empty()) {
        (true, false) => b.lower = 0.0,
        (false, true) => b.upper = 0.0,
        _ => {}
    }
    b
}

fn has_nan_observations(h: &Histogram, buckets: &[Bucket]) -> bool {
    h.sum.is_nan() && h.count > buckets.iter().map(|b| b.count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Buckets, CUSTOM_BUCKETS};

    fn exponential() -> Histogram {
        Histogram {
            count: 12.0,
            sum: 100.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive: Buckets::from_indexed([(0, 2.0), (1, 3.0), (3, 5.0)]),
            ..Histogram::stale()
        }
    }

    #[test]
    fn quantiles_lie_logarithmically_inside_a_bucket() {
        let h = exponential();
        let cases = [
            (0.0, 0.0),
            (1.0, 8.0),
            (1.0 / 12.0, 0.0005),
            (0.25, 0.5 * 2f64.powf(0.5)),
            (0.99, 4.0 * 2f64.powf(1.0 - 0.024)),
            (-0.1, f64::NEG_INFINITY),
            (1.1, f64::INFINITY),
        ];
        for (q, want) in cases {
            let found = native_quantile(q, &h).value;
            assert!(
                found == want || (found / want - 1.0).abs() < 1e-12,
                "{q}: {found} {want}"
            );
        }
    }

    #[test]
    fn fractions_and_quantiles_agree() {
        let h = exponential();
        for q in [0.1, 0.2, 0.4, 0.6, 0.8, 0.95] {
            let found = native_fraction(f64::NEG_INFINITY, native_quantile(q, &h).value, &h).value;
            assert!((found - q).abs() < 1e-12, "{q}: {found}");
        }
    }

    #[test]
    fn custom_buckets_are_like_classic_ones() {
        let h = Histogram {
            schema: CUSTOM_BUCKETS,
            count: 40.0,
            sum: 1.0,
            positive: Buckets::from_indexed([(0, 10.0), (1, 20.0), (2, 10.0)]),
            bounds: [1.0, 2.0].into(),
            ..Histogram::stale()
        };
        for (q, want) in [(0.125, 0.5), (0.5, 1.5), (0.75, 2.0), (0.9, 2.0)] {
            assert_eq!(native_quantile(q, &h).value, want, "{q}");
        }
        assert_eq!(native_fraction(1.0, f64::INFINITY, &h).value, 0.75);
    }

    #[test]
    fn nan_observations_stand_above_all_others() {
        let h = Histogram {
            sum: f64::NAN,
            count: 20.0,
            ..exponential()
        };
        let found = native_quantile(0.9, &h);
        assert!(found.value.is_nan() && found.nan_observations);
        assert!(native_quantile(0.5, &h).value > native_quantile(0.5, &exponential()).value);
        assert_eq!(native_fraction(f64::NEG_INFINITY, f64::INFINITY, &h).value, 0.6);
    }
}
