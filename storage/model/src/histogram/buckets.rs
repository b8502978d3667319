//! Buckets one by one: their places, their bounds, and the same counts in a coarser or tidier layout.

use std::sync::LazyLock;

use super::{BucketSpan, Buckets, Histogram};

/// One bucket: observations in `(lower, upper]`, mirrored for negative ones; the zero bucket includes both bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Observations.
    pub count: f64,
    /// Place in its side's order; 0 for the zero bucket.
    pub index: i32,
}

impl Buckets {
    /// Places and counts, rising by place.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        let mut spans = self.spans.iter();
        let (mut next, mut left) = (0i32, 0u32);
        self.counts.iter().map_while(move |&count| {
            while left == 0 {
                let span = spans.next()?;
                next = next.wrapping_add(span.offset);
                left = span.length;
            }
            left -= 1;
            let index = next;
            next = next.wrapping_add(1);
            Some((index, count))
        })
    }

    /// From places, which must rise, and counts.
    pub fn from_indexed(buckets: impl IntoIterator<Item = (i32, f64)>) -> Buckets {
        let mut out = Buckets::default();
        let mut next = 0i32;
        for (index, count) in buckets {
            match out.spans.last_mut() {
                Some(span) if index == next => span.length += 1,
                _ => out.spans.push(BucketSpan {
                    offset: index.wrapping_sub(next),
                    length: 1,
                }),
            }
            next = index.wrapping_add(1);
            out.counts.push(count);
        }
        out
    }

    /// Whether no bucket is empty and no two runs adjoin.
    pub fn is_compact(&self) -> bool {
        let (first, rest) = match self.spans.split_first() {
            Some((first, rest)) => (first.length > 0, rest),
            None => (true, &self.spans[..]),
        };
        first && rest.iter().all(|s| s.offset > 0 && s.length > 0) && self.counts.iter().all(|c| *c != 0.0)
    }

    /// Leaves empty buckets out.
    pub fn compact(&mut self) {
        if !self.is_compact() {
            *self = Buckets::from_indexed(self.iter().filter(|(_, count)| *count != 0.0));
        }
    }

    /// With `2^by` adjoining buckets joined into one.
    #[must_use]
    pub fn merged(&self, by: u32) -> Buckets {
        if by == 0 {
            return self.clone();
        }
        let mut joined: Vec<(i32, f64)> = Vec::with_capacity(self.counts.len());
        for (index, count) in self.iter() {
            let index = coarser_index(index, by);
            match joined.last_mut() {
                Some(last) if last.0 == index => last.1 += count,
                _ => joined.push((index, count)),
            }
        }
        Buckets::from_indexed(joined)
    }

    /// All counts together.
    pub fn total(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// The place, in a schema that is `by` coarser, of the bucket that holds bucket `index`.
pub fn coarser_index(index: i32, by: u32) -> i32 {
    ((i64::from(index) - 1) >> by.min(62)) as i32 + 1
}

impl Histogram {
    /// Of custom buckets: each bound, and the observations up to it, as a classic histogram counts them, without the last
    /// bucket (+Inf, [`Histogram::count`]). `None` for exponential ones.
    pub fn cumulative_custom(&self) -> Option<impl Iterator<Item = (f64, f64)> + '_> {
        if !self.has_custom_buckets() {
            return None;
        }
        let mut buckets = self.positive.iter().peekable();
        let mut below = 0.0;
        Some(self.bounds.iter().enumerate().map(move |(place, bound)| {
            while let Some((_, count)) = buckets.next_if(|(index, _)| i64::from(*index) <= place as i64) {
                below += count;
            }
            (*bound, below)
        }))
    }

    /// Buckets above zero (or the custom ones), rising.
    pub fn positive_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.positive.iter().map(|(index, count)| Bucket {
            lower: self.upper_bound(index.saturating_sub(1)),
            upper: self.upper_bound(index),
            count,
            index,
        })
    }

    /// Buckets below zero, from zero downward.
    pub fn negative_buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.negative.iter().map(|(index, count)| Bucket {
            lower: -self.upper_bound(index),
            upper: -self.upper_bound(index.saturating_sub(1)),
            count,
            index,
        })
    }

    /// The bucket around zero.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            count: self.zero_count,
            index: 0,
        }
    }

    /// All buckets, rising; the zero bucket only if there is anything in it. Where a bucket overlaps the zero bucket,
    /// its inner bound is the zero bucket's.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut out: Vec<Bucket> = self.negative_buckets().collect();
        out.reverse();
        let edge = self.zero_threshold;
        if self.has_custom_buckets() {
            out.extend(self.positive_buckets());
            return out;
        }
        out.iter_mut().for_each(|b| b.upper = b.upper.min(-edge));
        if self.zero_count > 0.0 {
            out.push(self.zero_bucket());
        }
        out.extend(self.positive_buckets().map(|b| Bucket {
            lower: b.lower.max(edge),
            ..b
        }));
        out
    }

    /// The upper bound of the positive bucket (or the custom one) at `index`; one before the first custom bucket ends
    /// at -Inf.
    pub fn upper_bound(&self, index: i32) -> f64 {
        if !self.has_custom_buckets() {
            return exponential_bound(self.schema, index);
        }
        match usize::try_from(index) {
            Ok(i) => self.bounds.get(i).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }

    /// Leaves empty buckets out.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Whether [`compact`](Self::compact) would change nothing.
    pub fn is_compact(&self) -> bool {
        self.positive.is_compact() && self.negative.is_compact()
    }

    /// Joins buckets until the schema is at most `schema`; custom buckets stay as they are.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.has_custom_buckets() || self.schema <= schema {
            return;
        }
        let by = self.schema.saturating_sub(schema).unsigned_abs();
        self.positive = self.positive.merged(by);
        self.negative = self.negative.merged(by);
        self.schema = schema;
    }

    /// Observations in the zero bucket if its threshold were `threshold` or, where that would cut a bucket that is not
    /// empty, the next larger one that does not; and that threshold. `threshold` is at least the histogram's own.
    pub fn zero_count_at(&self, mut threshold: f64) -> (f64, f64) {
        if threshold <= self.zero_threshold {
            return (self.zero_count, self.zero_threshold);
        }
        'again: loop {
            let mut count = self.zero_count;
            for b in self.positive_buckets().take_while(|b| b.lower < threshold) {
                count += b.count;
                if b.upper > threshold {
                    if b.count != 0.0 {
                        threshold = b.upper;
                    }
                    break;
                }
            }
            for b in self.negative_buckets().take_while(|b| b.upper > -threshold) {
                count += b.count;
                if b.lower < -threshold {
                    if b.count != 0.0 {
                        // Further out than before: the positive side has to be counted anew.
                        threshold = -b.lower;
                        continue 'again;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }

    /// Raises the zero threshold to at least `threshold`, without cutting a bucket that is not empty.
    pub fn widen_zero_bucket(&mut self, threshold: f64) {
        if threshold <= self.zero_threshold || self.has_custom_buckets() {
            return;
        }
        (self.zero_count, self.zero_threshold) = self.zero_count_at(threshold);
        let (schema, edge) = (self.schema, self.zero_threshold);
        for side in [&mut self.positive, &mut self.negative] {
            *side = Buckets::from_indexed(side.iter().filter(|(i, _)| exponential_bound(schema, *i) > edge));
        }
    }
}

/// The upper bound of bucket `index`: `2^(index * 2^-schema)`; the largest finite number where that is just out of
/// reach, so that only the last bucket ends at +Inf.
pub fn exponential_bound(schema: i32, index: i32) -> f64 {
    let schema = schema.clamp(-11, 52);
    let index = i64::from(index);
    let (fraction, exponent) = if schema <= 0 {
        (0, index << -schema)
    } else {
        (index & ((1 << schema) - 1), index >> schema)
    };
    if fraction == 0 && exponent == 1024 {
        return f64::MAX;
    }
    // A fraction that is the same in two schemas gives the same bits in both.
    let mantissa = match usize::try_from(fraction << (8 - schema.clamp(0, 8))) {
        Ok(i) if schema <= 8 && i < 256 => MANTISSAS[i],
        _ => (fraction as f64 / (1i64 << schema.max(0)) as f64).exp2(),
    };
    let exponent = exponent.clamp(-2200, 2200) as i32;
    // In two halves, so that bounds below the smallest normal number come out as well.
    let half = exponent / 2;
    mantissa * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// `2^(i/256)` with Prometheus' rounding errors: bounds are printed, and compared with printed ones.
static MANTISSAS: LazyLock<[f64; 256]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let exact = (i as f64 / 256.0).exp2();
        let below = match LAST_PLACES_BELOW[i] {
            b'+' => return exact.next_up(),
            digit => digit - b'0',
        };
        (0..below).fold(exact, |v, _| v.next_down())
    })
});

/// How many units in the last place each mantissa lies below the number nearest to the exact one; `+`: one above.
const LAST_PLACES_BELOW: &[u8; 256] = b"\
    00000010001000000012001111111111001000100111001100110+1100110011\
    0000001111221021001000100001000000010+00102200110111001010221111\
    1010112211211011111111212122212200110010112210221122101121221121\
    1132112122322232222222333344324311211222213311222132112222432233\
    ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_powers_of_the_base() {
        let cases = [
            (0, 0, 1.0),
            (0, 1, 2.0),
            (0, -1, 0.5),
            (1, 1, std::f64::consts::SQRT_2.next_down()),
            (3, 1, 1.0905077326652577),
            (8, 1, 1.0027112750502025),
            (8, 255, 1.9945921121709396),
            (2, 4, 2.0),
            (-1, 1, 4.0),
            (-4, -1, 2f64.powi(-16)),
            (0, 1024, f64::MAX),
            (0, 1025, f64::INFINITY),
            (0, -1074, 5e-324),
            (8, 256 * 1024, f64::MAX),
        ];
        for (schema, index, want) in cases {
            assert_eq!(exponential_bound(schema, index), want, "schema {schema} index {index}");
        }
        assert_eq!(exponential_bound(3, 6), exponential_bound(2, 3));
        // All mantissas, bit by bit.
        let bytes = MANTISSAS.iter().flat_map(|m| m.to_bits().to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
            (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(hash, 0x1847df5c607c1222);
    }

    #[test]
    fn spans_and_places_are_the_same_buckets() {
        let buckets = [(-3, 1.0), (-2, 0.0), (4, 2.0), (5, 3.0), (9, 0.0)];
        let mut b = Buckets::from_indexed(buckets);
        assert_eq!(b.iter().collect::<Vec<_>>(), buckets);
        let span = |offset, length| BucketSpan { offset, length };
        assert_eq!(b.spans, [span(-3, 2), span(5, 2), span(3, 1)]);
        assert!(!b.is_compact());
        b.compact();
        assert_eq!(b.iter().collect::<Vec<_>>(), [(-3, 1.0), (4, 2.0), (5, 3.0)]);
        assert!(b.is_compact());
    }

    #[test]
    fn buckets_join_at_even_places() {
        let b = Buckets::from_indexed([(-1, 1.0), (0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)]);
        let want = [(0, 3.0), (1, 12.0), (2, 16.0)];
        assert_eq!(b.merged(1).iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_wider_zero_bucket_cuts_no_bucket() {
        let mut h = Histogram {
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: Buckets::from_indexed([(0, 2.0), (1, 4.0)]),
            negative: Buckets::from_indexed([(2, 8.0)]),
            ..Histogram::stale()
        };
        assert_eq!(h.zero_count_at(0.001), (1.0, 0.001));
        assert_eq!(h.zero_count_at(0.7), (3.0, 1.0));
        assert_eq!(h.zero_count_at(2.5), (15.0, 4.0));
        h.widen_zero_bucket(1.5);
        assert_eq!((h.zero_count, h.zero_threshold), (7.0, 2.0));
        assert!(h.positive.counts.is_empty() && h.negative.counts == [8.0]);
    }

    proptest! {
        /// A coarser schema is the same data: no observation is lost, and none crosses a bound that both schemas have.
        #[test]
        fn reduction_keeps_counts(
            places in proptest::collection::btree_map(-300i32..300, 0u32..1000, 0..40), schema in -3i32..=8, by in 0u32..6,
        ) {
            let h = Histogram {
                schema,
                positive: Buckets::from_indexed(places.iter().map(|(i, c)| (*i, f64::from(*c)))),
                ..Histogram::stale()
            };
            let mut coarse = h.clone();
            coarse.reduce_to((schema - by as i32).max(-4));
            let by = (schema - coarse.schema) as u32;
            prop_assert_eq!(coarse.positive.total(), h.positive.total());
            let below = |h: &Histogram, last: i32| -> f64 {
                h.positive.iter().filter(|(i, _)| *i <= last).map(|(_, c)| c).sum()
            };
            for (index, _) in coarse.positive.iter() {
                prop_assert_eq!(below(&coarse, index), below(&h, index << by));
                prop_assert_eq!(exponential_bound(coarse.schema, index), exponential_bound(schema, index << by));
            }
        }
    }
}
