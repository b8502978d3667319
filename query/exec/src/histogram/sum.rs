//! Sums, differences and means of histograms, whatever their layouts.
//!
//! Terms are brought to one layout first: the coarser schema, the wider zero bucket, the custom bounds that both have.
//! Every count is added up with compensation, as floats are, so the order of terms hardly matters.

use std::cmp::Ordering;

use model::{Buckets, Histogram, ResetHint, coarser_index, exponential_bound};

use super::divided;
use crate::Compensated;

/// Exponential and custom buckets have nothing in common: they cannot be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixedSchemas;

/// What happened on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Custom bounds differed; only common ones are left.
    pub reconciled_bounds: bool,
    /// One term was known to be a reset and another known to be none.
    pub conflicting_resets: bool,
}

/// A sum under way.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    reset: ResetHint,
    resets_seen: bool,
    continuations_seen: bool,
    schema: i32,
    zero_threshold: f64,
    zero_count: Compensated,
    count: Compensated,
    sum: Compensated,
    positive: Vec<(i32, Compensated)>,
    negative: Vec<(i32, Compensated)>,
    bounds: std::sync::Arc<[f64]>,
}

impl HistogramSum {
    /// Of one term.
    pub fn starting_with(h: &Histogram) -> HistogramSum {
        let side = |b: &Buckets| b.iter().map(|(i, c)| (i, Compensated::starting_with(c))).collect();
        let mut out = HistogramSum {
            reset: h.reset,
            resets_seen: false,
            continuations_seen: false,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero_count: Compensated::starting_with(h.zero_count),
            count: Compensated::starting_with(h.count),
            sum: Compensated::starting_with(h.sum),
            positive: side(&h.positive),
            negative: side(&h.negative),
            bounds: h.bounds.clone(),
        };
        out.see(h.reset);
        out
    }

    /// Adds a term; the sum is as before if it cannot be added.
    pub fn add(&mut self, h: &Histogram) -> Result<Added, MixedSchemas> {
        self.add_signed(h, 1.0)
    }

    /// Takes a term away.
    pub fn subtract(&mut self, h: &Histogram) -> Result<Added, MixedSchemas> {
        self.add_signed(h, -1.0)
    }

    fn add_signed(&mut self, h: &Histogram, sign: f64) -> Result<Added, MixedSchemas> {
        let custom = h.has_custom_buckets();
        if custom != self.has_custom_buckets() {
            return Err(MixedSchemas);
        }
        let mut added = Added {
            reconciled_bounds: false,
            conflicting_resets: self.meet(h.reset),
        };
        self.see(h.reset);
        let aligned;
        let mut h = h;
        if custom {
            let same = self.bounds.len() == h.bounds.len()
                && self
                    .bounds
                    .iter()
                    .zip(h.bounds.iter())
                    .all(|(a, b)| a.to_bits() == b.to_bits());
            if !same {
                added.reconciled_bounds = true;
                aligned = self.keep_common_bounds(h);
                h = &aligned;
            }
        } else if h.schema != self.schema || h.zero_threshold != self.zero_threshold {
            let mut copy = h.clone();
            self.share_zero_bucket(&mut copy);
            copy.reduce_to(self.schema);
            self.reduce_to(copy.schema);
            aligned = copy;
            h = &aligned;
        }
        self.zero_count.add(h.zero_count * sign);
        self.count.add(h.count * sign);
        self.sum.add(h.sum * sign);
        add_buckets(&mut self.positive, &h.positive, sign);
        add_buckets(&mut self.negative, &h.negative, sign);
        Ok(added)
    }

    /// What it weighs against a query's limit on samples.
    pub(crate) fn weight(&self) -> u64 {
        // A bucket under way has a place and a compensation beside its count.
        16 + (self.positive.len() + self.negative.len()) as u64 * 3 / 2
    }

    /// Whether one term was known to be a reset and another known to be none.
    pub fn has_conflicting_resets(&self) -> bool {
        self.resets_seen && self.continuations_seen
    }

    /// The sum, compact.
    pub fn total(&self) -> Histogram {
        self.read(Compensated::total)
    }

    /// Whether a number of the sum could leave what a float can hold.
    fn would_overflow(&self, h: &Histogram) -> bool {
        let largest = |counts: &mut dyn Iterator<Item = f64>| counts.fold(0.0, |m: f64, c| m.max(c.abs()));
        let ours = largest(&mut self.positive.iter().chain(&self.negative).map(|b| b.1.total()));
        let theirs = largest(&mut h.positive.counts.iter().chain(&h.negative.counts).copied());
        let pairs = [
            (self.zero_count.total(), h.zero_count),
            (self.count.total(), h.count),
            (self.sum.total(), h.sum),
            (ours, theirs),
        ];
        pairs
            .iter()
            .any(|(a, b)| (a + b).is_infinite() && a.is_finite() && b.is_finite())
    }

    fn read(&self, value: impl Fn(&Compensated) -> f64) -> Histogram {
        let side = |b: &[(i32, Compensated)]| {
            let counts = b.iter().map(|(i, c)| (*i, value(c)));
            Buckets::from_indexed(counts.filter(|(_, c)| *c != 0.0))
        };
        Histogram {
            reset: self.reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: value(&self.zero_count),
            count: value(&self.count),
            sum: value(&self.sum),
            positive: side(&self.positive),
            negative: side(&self.negative),
            bounds: self.bounds.clone(),
        }
    }

    fn has_custom_buckets(&self) -> bool {
        self.schema == model::CUSTOM_BUCKETS
    }

    fn see(&mut self, hint: ResetHint) {
        self.resets_seen |= hint == ResetHint::Reset;
        self.continuations_seen |= hint == ResetHint::NotReset;
    }

    /// The hint of the sum; true if the hints contradict each other.
    fn meet(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        let (hint, conflict) = match (self.reset, other) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.reset = hint;
        conflict
    }

    /// Widens the narrower zero bucket; where it would cut a bucket it takes all of it, and the other one follows.
    fn share_zero_bucket(&mut self, h: &mut Histogram) {
        loop {
            match h.zero_threshold.partial_cmp(&self.zero_threshold) {
                Some(Ordering::Less) => h.widen_zero_bucket(self.zero_threshold),
                Some(Ordering::Greater) => self.widen_zero_bucket(h.zero_threshold),
                // A threshold that is no number is like no other: there is nothing to do.
                Some(Ordering::Equal) | None => return,
            }
        }
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        (_, self.zero_threshold) = self.total().zero_count_at(threshold);
        let (schema, edge) = (self.schema, self.zero_threshold);
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(index, count)| {
                let outside = exponential_bound(schema, *index) > edge;
                if !outside {
                    self.zero_count.join(count);
                }
                outside
            });
        }
    }

    fn reduce_to(&mut self, schema: i32) {
        if self.schema <= schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        for side in [&mut self.positive, &mut self.negative] {
            let mut joined: Vec<(i32, Compensated)> = Vec::with_capacity(side.len());
            for (index, count) in side.iter() {
                let index = coarser_index(*index, by);
                match joined.last_mut() {
                    Some(last) if last.0 == index => last.1.join(count),
                    _ => joined.push((index, *count)),
                }
            }
            *side = joined;
        }
        self.schema = schema;
    }

    /// Keeps only bounds that `h` has as well; `h` with them.
    fn keep_common_bounds(&mut self, h: &Histogram) -> Histogram {
        let mut theirs = h.bounds.iter().peekable();
        let common: Vec<f64> = (self.bounds.iter().copied())
            .filter(|bound| {
                while theirs.next_if(|b| **b < *bound).is_some() {}
                theirs.peek().is_some_and(|b| **b == *bound)
            })
            .collect();
        let mut joined: Vec<(i32, Compensated)> = Vec::new();
        for (index, count) in &self.positive {
            let upper = usize::try_from(*index).ok().and_then(|i| self.bounds.get(i));
            let place = common.partition_point(|b| upper.is_none_or(|upper| b < upper)) as i32;
            match joined.last_mut() {
                Some(last) if last.0 == place => last.1.join(count),
                _ => joined.push((place, *count)),
            }
        }
        self.positive = joined;
        let counts = h.counts_at(&common);
        let places = counts.iter().enumerate().map(|(i, c)| (i as i32, *c));
        let positive = Buckets::from_indexed(places.filter(|(_, c)| *c != 0.0));
        self.bounds = common.into();
        Histogram {
            positive,
            bounds: self.bounds.clone(),
            ..h.clone()
        }
    }
}

/// Adds counts by place; where the places are the same nothing moves.
fn add_buckets(to: &mut Vec<(i32, Compensated)>, from: &Buckets, sign: f64) {
    if from.counts.is_empty() {
        return;
    }
    if to.len() == from.counts.len() && to.iter().map(|b| b.0).eq(from.iter().map(|b| b.0)) {
        to.iter_mut().zip(&from.counts).for_each(|(t, c)| t.1.add(c * sign));
        return;
    }
    let mut merged = Vec::with_capacity(to.len() + from.counts.len());
    let mut old = to.drain(..).peekable();
    for (index, count) in from.iter() {
        while let Some(bucket) = old.next_if(|b| b.0 < index) {
            merged.push(bucket);
        }
        let mut sum = old.next_if(|b| b.0 == index).map_or_else(Compensated::default, |b| b.1);
        sum.add(count * sign);
        merged.push((index, sum));
    }
    merged.extend(old);
    *to = merged;
}

/// A mean of histograms. It divides a compensated sum; where that overflows it goes on as an incremental mean.
#[derive(Clone, Debug)]
pub struct HistogramMean {
    sum: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    /// Of one term.
    pub fn starting_with(h: &Histogram) -> HistogramMean {
        HistogramMean {
            sum: HistogramSum::starting_with(h),
            count: 1.0,
            incremental: false,
        }
    }

    /// Adds a term; the mean is as before if it cannot be added.
    pub fn add(&mut self, h: &Histogram) -> Result<Added, MixedSchemas> {
        self.count += 1.0;
        if !self.incremental {
            if !self.sum.would_overflow(h) {
                let added = self.sum.add(h);
                self.count -= f64::from(u8::from(added.is_err()));
                return added;
            }
            self.incremental = true;
            self.sum.scale(1.0 / (self.count - 1.0));
        }
        let term = divided(h, self.count);
        if term.has_custom_buckets() != self.sum.has_custom_buckets() {
            self.count -= 1.0;
            return Err(MixedSchemas);
        }
        self.sum.scale((self.count - 1.0) / self.count);
        self.sum.add(&term)
    }

    /// Whether one term was known to be a reset and another known to be none.
    pub fn has_conflicting_resets(&self) -> bool {
        self.sum.has_conflicting_resets()
    }

    /// What it weighs against a query's limit on samples.
    pub(crate) fn weight(&self) -> u64 {
        self.sum.weight()
    }

    /// The mean, compact.
    pub fn value(&self) -> Histogram {
        if self.incremental {
            return self.sum.total();
        }
        self.sum.read(|c| c.over(self.count))
    }
}

impl HistogramSum {
    fn scale(&mut self, factor: f64) {
        let sides = self.positive.iter_mut().chain(&mut self.negative).map(|b| &mut b.1);
        sides
            .chain([&mut self.zero_count, &mut self.count, &mut self.sum])
            .for_each(|c| c.scale(factor));
    }
}

/// `a + b`, compact.
pub fn sum_of_two(a: &Histogram, b: &Histogram) -> Result<(Histogram, Added), MixedSchemas> {
    let mut sum = HistogramSum::starting_with(a);
    let added = sum.add(b)?;
    Ok((sum.total(), added))
}

/// `a - b`, compact; a gauge.
pub fn difference(a: &Histogram, b: &Histogram) -> Result<(Histogram, Added), MixedSchemas> {
    let mut sum = HistogramSum::starting_with(a);
    let added = sum.subtract(b)?;
    let mut out = sum.total();
    out.reset = ResetHint::Gauge;
    Ok((out, added))
}

#[cfg(test)]
mod tests {
    use super::super::multiplied;
    use super::*;
    use model::CUSTOM_BUCKETS;
    use proptest::prelude::*;

    fn exponential(schema: i32, zero: (f64, f64), positive: &[(i32, f64)], negative: &[(i32, f64)]) -> Histogram {
        let counts = positive.iter().chain(negative).map(|b| b.1).sum::<f64>() + zero.1;
        Histogram {
            reset: ResetHint::Unknown,
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: counts,
            sum: counts * 0.5,
            positive: Buckets::from_indexed(positive.iter().copied()),
            negative: Buckets::from_indexed(negative.iter().copied()),
            bounds: [].into(),
        }
    }

    fn custom(bounds: &[f64], positive: &[(i32, f64)]) -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS,
            bounds: bounds.into(),
            ..exponential(0, (0.0, 0.0), positive, &[])
        }
    }

    fn places(b: &Buckets) -> Vec<(i32, f64)> {
        b.iter().collect()
    }

    #[test]
    fn the_coarser_schema_and_the_wider_zero_bucket_win() {
        let fine = exponential(1, (0.001, 1.0), &[(-3, 2.0), (1, 4.0), (2, 8.0)], &[(2, 1.0)]);
        let coarse = exponential(0, (0.4, 3.0), &[(1, 16.0)], &[]);
        let (sum, added) = sum_of_two(&fine, &coarse).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(added, Added::default());
        // 0.4 lies in no bucket of the fine one that is not empty: (0.25, 0.35] goes into the zero bucket.
        assert_eq!((sum.schema, sum.zero_threshold, sum.zero_count), (0, 0.4, 6.0));
        assert_eq!(places(&sum.positive), [(1, 28.0)]);
        assert_eq!(places(&sum.negative), [(1, 1.0)]);
        assert_eq!(sum.count, fine.count + coarse.count);
    }

    #[test]
    fn a_zero_bucket_that_cuts_a_bucket_takes_all_of_it() {
        let narrow = exponential(0, (0.0, 0.0), &[(1, 2.0), (2, 4.0)], &[]);
        let wide = exponential(0, (1.5, 1.0), &[(2, 8.0)], &[]);
        for (a, b) in [(&narrow, &wide), (&wide, &narrow)] {
            let (sum, _) = sum_of_two(a, b).unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!((sum.zero_threshold, sum.zero_count), (2.0, 3.0));
            assert_eq!(places(&sum.positive), [(2, 12.0)]);
        }
    }

    #[test]
    fn custom_bounds_meet_where_both_have_them() {
        let a = custom(&[1.0, 2.0, 4.0], &[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)]);
        let b = custom(&[1.0, 3.0, 4.0], &[(1, 16.0), (3, 32.0)]);
        let (sum, added) = sum_of_two(&a, &b).unwrap_or_else(|e| panic!("{e:?}"));
        assert!(added.reconciled_bounds);
        assert_eq!(
            (&sum.bounds[..], places(&sum.positive)),
            (&[1.0, 4.0][..], vec![(0, 1.0), (1, 22.0), (2, 40.0)])
        );
        let exponential = exponential(0, (0.0, 0.0), &[], &[]);
        assert_eq!(sum_of_two(&a, &exponential), Err(MixedSchemas));
    }

    #[test]
    fn hints_meet() {
        use ResetHint::*;
        let cases = [
            (Unknown, Unknown, Unknown, false),
            (Gauge, Reset, Gauge, false),
            (NotReset, Gauge, Gauge, false),
            (NotReset, Unknown, Unknown, false),
            (Reset, NotReset, Unknown, true),
            (NotReset, NotReset, NotReset, false),
        ];
        for (a, b, want, conflict) in cases {
            let of = |reset| Histogram {
                reset,
                ..exponential(0, (0.0, 0.0), &[], &[])
            };
            let (sum, added) = sum_of_two(&of(a), &of(b)).unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!((sum.reset, added.conflicting_resets), (want, conflict), "{a:?} {b:?}");
        }
    }

    #[test]
    fn means_survive_overflow() {
        let mut large = exponential(0, (0.0, 0.0), &[(1, 4.0)], &[]);
        large.sum = 1.5e308;
        let mut mean = HistogramMean::starting_with(&large);
        for _ in 0..3 {
            mean.add(&large).unwrap_or_else(|e| panic!("{e:?}"));
        }
        let mean = mean.value();
        assert!(
            (mean.sum / 1.5e308 - 1.0).abs() < 1e-15 && mean.count == 4.0,
            "{mean:?}"
        );
    }

    fn any_histogram() -> impl Strategy<Value = Histogram> {
        let side = || proptest::collection::btree_map(-20i32..20, 1u32..1000, 0..8);
        let zero = (prop_oneof![Just(0.0), Just(0.001), Just(0.7), Just(3.0)], 0u32..9);
        (-2i32..4, zero, side(), side()).prop_map(|(schema, (threshold, zero), positive, negative)| {
            let side = |side: std::collections::BTreeMap<i32, u32>| -> Vec<(i32, f64)> {
                let outside = |i: &i32| exponential_bound(schema, i - 1) >= threshold;
                side.into_iter()
                    .filter(|(i, _)| outside(i))
                    .map(|(i, c)| (i, f64::from(c)))
                    .collect()
            };
            exponential(schema, (threshold, f64::from(zero)), &side(positive), &side(negative))
        })
    }

    proptest! {
        /// Addition knows no order, and loses no observation: the layout it ends in may differ from both terms'.
        #[test]
        fn addition_commutes_and_keeps_counts(a in any_histogram(), b in any_histogram()) {
            let (ab, _) = sum_of_two(&a, &b).map_err(|_| TestCaseError::fail("mixed"))?;
            let (ba, _) = sum_of_two(&b, &a).map_err(|_| TestCaseError::fail("mixed"))?;
            prop_assert!(ab.same_bits(&ba), "{:?} {:?}", ab, ba);
            let all = ab.zero_count + ab.positive.total() + ab.negative.total();
            prop_assert_eq!(all, a.count + b.count);
            prop_assert_eq!(ab.count, a.count + b.count);
            prop_assert_eq!(ab.validate(), Ok(()));
        }

        /// What is taken away again leaves nothing, and what is added and taken away leaves what was there.
        #[test]
        fn subtraction_undoes_addition(a in any_histogram(), b in any_histogram()) {
            let (nothing, _) = difference(&a, &a).map_err(|_| TestCaseError::fail("mixed"))?;
            prop_assert_eq!((nothing.count, nothing.sum, nothing.zero_count), (0.0, 0.0, 0.0));
            prop_assert!(nothing.positive.counts.is_empty() && nothing.negative.counts.is_empty());
            let (ab, _) = sum_of_two(&a, &b).map_err(|_| TestCaseError::fail("mixed"))?;
            let (back, _) = difference(&ab, &b).map_err(|_| TestCaseError::fail("mixed"))?;
            let mut coarse = a.clone();
            coarse.widen_zero_bucket(back.zero_threshold);
            coarse.reduce_to(back.schema);
            coarse.compact();
            prop_assert!(back.same_bits(&coarse), "{:?} {:?}", back, coarse);
        }

        /// A mean of equal terms is the term; twice a term is the term and itself.
        #[test]
        fn scaling_agrees_with_adding(a in any_histogram(), n in 1usize..5) {
            let (twice, _) = sum_of_two(&a, &a).map_err(|_| TestCaseError::fail("mixed"))?;
            prop_assert!(twice.same_bits(&multiplied(&a, 2.0)));
            let mut mean = HistogramMean::starting_with(&a);
            for _ in 1..n {
                mean.add(&a).map_err(|_| TestCaseError::fail("mixed"))?;
            }
            prop_assert!(mean.value().same_bits(&multiplied(&a, 1.0)));
        }
    }
}
