//! Trimming: a histogram of the observations below or above a value, as far as the buckets tell.

use model::{Bucket, Buckets, Histogram};

use super::quantile::{logarithmic_share, without_empty_side};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those below the value.
    Below,
    /// Those above it.
    Above,
}

/// Keeps what lies on one side of `at`. The bucket that holds `at` keeps its share. Count and sum are estimated anew if
/// anything went; otherwise the histogram stays as it is.
pub fn trimmed(h: &Histogram, at: f64, side: Side) -> Histogram {
    let mut kept = Kept::default();
    let custom = h.has_custom_buckets();
    let positive = kept.side(h.positive_buckets(), |b| {
        if custom {
            custom_part(b, at, side)
        } else {
            part(b, at, side, logarithmic_share, signed_geometric_mean)
        }
    });
    let negative = kept.side(h.negative_buckets(), |b| {
        part(b, at, side, logarithmic_share, signed_geometric_mean)
    });
    let mut zero_count = h.zero_count;
    if zero_count > 0.0 {
        let zero = without_empty_side(h, h.zero_bucket());
        let part = if at.is_nan() {
            // Other buckets fall away; the zero bucket, which is not looked up, is computed with.
            (at, at)
        } else {
            part(&zero, at, side, linear_share, f64::midpoint)
        };
        zero_count = kept.bucket(&zero, part);
    }
    if !kept.trimmed {
        return h.clone();
    }
    Histogram {
        positive,
        negative,
        zero_count,
        count: kept.count,
        sum: kept.sum,
        bounds: h.bounds.clone(),
        ..*h
    }
}

/// What is kept so far.
#[derive(Default)]
struct Kept {
    count: f64,
    sum: f64,
    trimmed: bool,
}

impl Kept {
    /// `(share, middle)`: which part of the bucket stays, and where its observations are taken to be.
    fn bucket(&mut self, b: &Bucket, (share, middle): (f64, f64)) -> f64 {
        let count = b.count * share;
        if count != 0.0 {
            self.sum += count * middle;
        }
        self.count += count;
        self.trimmed |= count != b.count;
        count
    }

    fn side(&mut self, buckets: impl Iterator<Item = Bucket>, part: impl Fn(&Bucket) -> (f64, f64)) -> Buckets {
        let populated = buckets.filter(|b| b.count != 0.0);
        let counts = populated.map(|b| (b.index, self.bucket(&b, part(&b))));
        Buckets::from_indexed(counts.filter(|(_, count)| *count != 0.0))
    }
}

/// Share and middle of a bucket with finite bounds.
fn part(
    b: &Bucket,
    at: f64,
    side: Side,
    share_below: impl Fn(&Bucket, f64) -> f64,
    middle: impl Fn(f64, f64) -> f64,
) -> (f64, f64) {
    match side {
        Side::Below if b.upper <= at => (1.0, middle(b.lower, b.upper)),
        Side::Below if b.lower < at => (share_below(b, at), middle(b.lower, at)),
        Side::Above if b.lower >= at => (1.0, middle(b.lower, b.upper)),
        Side::Above if b.upper > at => (1.0 - share_below(b, at), middle(at, b.upper)),
        _ => (0.0, 0.0),
    }
}

/// The same of a custom bucket, which may be endless: then what is between its bound and zero is all that is known.
fn custom_part(b: &Bucket, at: f64, side: Side) -> (f64, f64) {
    let opens = b.lower == f64::NEG_INFINITY;
    let ends = b.upper == f64::INFINITY;
    let whole = match () {
        () if opens && ends => 0.0,
        () if opens && b.upper > 0.0 => b.upper / 2.0,
        () if opens => b.upper,
        () if ends => b.lower,
        () => f64::midpoint(b.lower, b.upper),
    };
    match side {
        Side::Below if b.upper <= at => (1.0, whole),
        Side::Above if b.lower >= at => (1.0, whole),
        Side::Below if opens && at > f64::NEG_INFINITY => match () {
            () if b.upper <= 0.0 => (1.0, at),
            () if at > 0.0 && !ends => (at / b.upper, at / 2.0),
            () => (0.0, 0.0),
        },
        Side::Above if opens && !ends && at >= 0.0 && at < b.upper => (1.0 - at / b.upper, f64::midpoint(at, b.upper)),
        Side::Above if ends && !opens && at < f64::INFINITY => (1.0, at),
        _ if opens || ends => (0.0, 0.0),
        _ => part(b, at, side, linear_share, f64::midpoint),
    }
}

fn linear_share(b: &Bucket, at: f64) -> f64 {
    (at - b.lower) / (b.upper - b.lower)
}

fn signed_geometric_mean(a: f64, b: f64) -> f64 {
    (a * b).abs().sqrt() * if a < 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::text_of;
    use super::*;
    use model::CUSTOM_BUCKETS;

    fn check(h: &Histogram, side: Side, at: f64, want: &str) {
        assert_eq!(text_of(&trimmed(h, at, side)), want, "{side:?} {at}");
    }

    #[test]
    fn the_bucket_that_is_hit_keeps_its_share() {
        let h = Histogram {
            count: 14.0,
            sum: 10.0,
            zero_threshold: 0.5,
            zero_count: 2.0,
            positive: Buckets::from_indexed([(1, 4.0), (2, 4.0)]),
            negative: Buckets::from_indexed([(1, 4.0)]),
            ..Histogram::stale()
        };
        check(
            &h,
            Side::Below,
            4.0,
            "{count:14, sum:10, [-2,-1):4, [-0.5,0.5]:2, (1,2]:4, (2,4]:4}",
        );
        check(
            &h,
            Side::Above,
            -2.0,
            "{count:14, sum:10, [-2,-1):4, [-0.5,0.5]:2, (1,2]:4, (2,4]:4}",
        );
        check(
            &h,
            Side::Above,
            0.25,
            "{count:8.5, sum:17.158062748477143, [-0.5,0.5]:0.5, (1,2]:4, (2,4]:4}",
        );
        check(&h, Side::Below, f64::NEG_INFINITY, "{count:0, sum:0}");
        let half = trimmed(&h, 2f64.sqrt(), Side::Below);
        assert!((half.positive.counts[0] - 2.0).abs() < 1e-12, "{half:?}");
    }

    #[test]
    fn endless_buckets_are_known_up_to_zero() {
        let h = Histogram {
            schema: CUSTOM_BUCKETS,
            count: 12.0,
            sum: 30.0,
            positive: Buckets::from_indexed([(0, 4.0), (1, 4.0), (2, 4.0)]),
            bounds: [2.0, 4.0].into(),
            ..Histogram::stale()
        };
        check(&h, Side::Below, 1.0, "{count:2, sum:1, [-Inf,2]:2}");
        check(&h, Side::Below, 100.0, "{count:8, sum:16, [-Inf,2]:4, (2,4]:4}");
        check(&h, Side::Above, 3.0, "{count:6, sum:23, (2,4]:2, (4,+Inf]:4}");
        check(&h, Side::Above, 5.0, "{count:4, sum:20, (4,+Inf]:4}");
        check(
            &h,
            Side::Above,
            f64::NEG_INFINITY,
            "{count:12, sum:30, [-Inf,2]:4, (2,4]:4, (4,+Inf]:4}",
        );
    }
}
