//! Counter resets: whether a histogram can have grown out of the one before it.

use std::cmp::Ordering;

use super::{Buckets, Histogram, ResetHint, exponential_bound};

impl Histogram {
    /// Whether the counter began anew after `previous`. A hint decides; else any count that fell, or a layout that could
    /// only come from starting over: finer buckets, a narrower zero bucket, custom buckets after exponential ones.
    pub fn is_reset_after(&self, previous: &Histogram) -> bool {
        match self.reset {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.has_custom_buckets() {
            return !previous.has_custom_buckets() || self.a_custom_bucket_fell(previous);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_count, threshold) = previous.zero_count_at(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let by = previous.schema.saturating_sub(self.schema).unsigned_abs();
        let fell = |now: &Buckets, before: &Buckets| {
            let outside = |(index, _): &(i32, f64)| exponential_bound(self.schema, *index) > self.zero_threshold;
            a_bucket_fell(now.iter().filter(outside), before.merged(by).iter().filter(outside))
        };
        fell(&self.positive, &previous.positive) || fell(&self.negative, &previous.negative)
    }

    fn a_custom_bucket_fell(&self, previous: &Histogram) -> bool {
        if self.same_bounds(previous) {
            return a_bucket_fell(self.positive.iter(), previous.positive.iter());
        }
        // Only bounds that both have can be compared, and what lies between two of them.
        let common: Vec<f64> = (self.bounds.iter().copied())
            .filter(|bound| previous.bounds.contains(bound))
            .collect();
        let (now, before) = (self.counts_at(&common), previous.counts_at(&common));
        now.iter().zip(&before).any(|(now, before)| now < before)
    }

    /// Counts of custom buckets by the first of `bounds` (some of the histogram's own) that is not below theirs; the
    /// rest is last.
    pub fn counts_at(&self, bounds: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; bounds.len() + 1];
        for bucket in self.positive_buckets() {
            out[bounds.partition_point(|b| *b < bucket.upper)] += bucket.count;
        }
        out
    }
}

/// Whether a bucket of `before` that is not empty has fewer observations in `now`, or is gone.
fn a_bucket_fell(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(i, _)| *i < index).is_some() {}
        let here = match now.peek() {
            Some((i, here)) if i.cmp(&index) == Ordering::Equal => *here,
            _ if count != 0.0 => return true,
            _ => continue,
        };
        if here < count {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CUSTOM_BUCKETS;

    fn h(count: f64, positive: &[(i32, f64)]) -> Histogram {
        Histogram {
            count,
            sum: 1.0,
            zero_threshold: 0.001,
            positive: Buckets::from_indexed(positive.iter().copied()),
            ..Histogram::stale()
        }
    }

    fn custom(count: f64, bounds: &[f64], positive: &[(i32, f64)]) -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS,
            bounds: bounds.into(),
            zero_threshold: 0.0,
            ..h(count, positive)
        }
    }

    #[test]
    fn what_a_counter_cannot_do_is_a_reset() {
        let before = h(6.0, &[(0, 1.0), (1, 2.0), (3, 3.0)]);
        let cases = [
            ("growing", h(9.0, &[(0, 1.0), (1, 4.0), (2, 1.0), (3, 3.0)]), false),
            ("the same", before.clone(), false),
            ("a smaller count", h(5.0, &[(0, 1.0), (1, 2.0), (3, 3.0)]), true),
            ("a smaller bucket", h(9.0, &[(0, 1.0), (1, 1.0), (3, 7.0)]), true),
            ("a bucket gone", h(9.0, &[(0, 6.0), (1, 3.0)]), true),
            (
                "finer buckets",
                Histogram {
                    schema: 1,
                    ..h(9.0, &[])
                },
                true,
            ),
            (
                "coarser buckets",
                Histogram {
                    schema: -1,
                    ..h(6.0, &[(0, 1.0), (1, 2.0), (2, 3.0)])
                },
                false,
            ),
            (
                "a narrower zero bucket",
                Histogram {
                    zero_threshold: 0.0,
                    ..before.clone()
                },
                true,
            ),
            (
                "a wider zero bucket",
                Histogram {
                    zero_threshold: 1.0,
                    zero_count: 1.0,
                    ..h(6.0, &[(1, 2.0), (3, 3.0)])
                },
                false,
            ),
            (
                "a wider zero bucket through a bucket",
                Histogram {
                    zero_threshold: 1.5,
                    zero_count: 9.0,
                    ..h(9.0, &[(1, 2.0), (3, 3.0)])
                },
                true,
            ),
            ("custom after exponential", custom(9.0, &[1.0], &[(0, 9.0)]), true),
            (
                "as the hint says",
                Histogram {
                    reset: ResetHint::NotReset,
                    ..h(0.0, &[])
                },
                false,
            ),
            (
                "as the other hint says",
                Histogram {
                    reset: ResetHint::Reset,
                    ..before.clone()
                },
                true,
            ),
        ];
        for (what, after, want) in cases {
            assert_eq!(after.is_reset_after(&before), want, "{what}");
        }
    }

    #[test]
    fn custom_buckets_compare_at_common_bounds() {
        let before = custom(6.0, &[1.0, 2.0, 4.0], &[(0, 1.0), (1, 2.0), (3, 3.0)]);
        let cases = [
            (custom(7.0, &[1.0, 2.0, 4.0], &[(0, 2.0), (1, 2.0), (3, 3.0)]), false),
            (custom(7.0, &[1.0, 2.0, 4.0], &[(0, 0.0), (1, 4.0), (3, 3.0)]), true),
            (custom(6.0, &[2.0, 3.0], &[(0, 3.0), (2, 3.0)]), false),
            (custom(6.0, &[2.0, 3.0], &[(0, 2.0), (2, 4.0)]), true),
            (custom(6.0, &[7.0], &[(0, 6.0)]), false),
        ];
        for (after, want) in cases {
            assert_eq!(after.is_reset_after(&before), want, "{after:?}");
        }
        assert!(h(9.0, &[]).is_reset_after(&before), "exponential after custom");
    }
}
