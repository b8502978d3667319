//! Equality: bit for bit, because a NaN sum is equal to itself and a staleness marker to nothing else.

use super::{Buckets, Histogram};

impl Histogram {
    /// Whether all numbers are the same bit for bit; hints do not count. Both should be compact.
    pub fn same_bits(&self, other: &Histogram) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.schema == other.schema
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && self.same_bounds(other)
            && same_buckets(&self.positive, &other.positive)
            && same_buckets(&self.negative, &other.negative)
    }

    /// Whether the custom bounds are the same.
    pub fn same_bounds(&self, other: &Histogram) -> bool {
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        self.bounds.len() == other.bounds.len() && self.bounds.iter().zip(other.bounds.iter()).all(same)
    }
}

fn same_buckets(a: &Buckets, b: &Buckets) -> bool {
    let bits = |(index, count): (i32, f64)| (index, count.to_bits());
    a.counts.len() == b.counts.len() && a.iter().map(bits).eq(b.iter().map(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResetHint;

    #[test]
    fn nan_sums_are_equal_and_layouts_are_not_looked_at() {
        let h = Histogram {
            sum: f64::NAN,
            positive: Buckets::from_indexed([(1, 1.0), (2, 2.0)]),
            ..Histogram::stale()
        };
        let mut same = h.clone();
        same.reset = ResetHint::Gauge;
        same.positive.spans = vec![
            crate::BucketSpan { offset: 1, length: 1 },
            crate::BucketSpan { offset: 0, length: 1 },
        ];
        assert!(h.same_bits(&same));
        let other = Histogram {
            count: -0.0,
            ..h.clone()
        };
        assert!(!h.same_bits(&other));
    }
}
