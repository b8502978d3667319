//! What functions of windows do with native histograms: change, sum, mean, neighbours that differ.

use std::sync::Arc;

use model::{Histogram, ResetHint};
use query_exec::{HistogramMean, HistogramSum, difference, variance_of_observations};

use crate::notes::About;
use crate::windows::Window;

/// Last minus first, with what was lost at resets if it counts; a gauge. `from_zero`: it began inside the window, so the
/// first counts as well. `is_reset(i)`: whether the counter began anew before `i`.
pub(crate) fn change_of_histograms(
    h: &[Arc<Histogram>],
    is_counter: bool,
    from_zero: bool,
    mut is_reset: impl FnMut(usize) -> bool,
    about: &About<'_>,
) -> Option<Histogram> {
    let (first, last) = (h.first()?, h.last()?);
    let is_gauge = |h: &Histogram| h.reset == ResetHint::Gauge;
    if is_counter && h.iter().any(|h| is_gauge(h)) {
        about.not_a_counter();
    }
    let mut is_reset = |i: usize| is_counter && is_reset(i);
    // Before a reset the first sample has no part in the change, so its layout does not matter either.
    let skips_first = from_zero || (h.len() > 1 && is_reset(1));
    let custom = if skips_first && h.len() > 1 {
        h[1].has_custom_buckets()
    } else {
        first.has_custom_buckets()
    };
    let inner = if is_counter && h.len() > 2 {
        &h[1..h.len() - 1]
    } else {
        &[]
    };
    if inner.iter().chain([last]).any(|h| h.has_custom_buckets() != custom) {
        about.mixed_schemas();
        return None;
    }
    let mut change = HistogramSum::starting_with(last);
    if !skips_first {
        about.made(change.subtract(first).map(|added| ((), added)), "subtraction")?;
    }
    let gauges = is_gauge(first) && is_gauge(last);
    if !is_counter && !gauges {
        about.not_a_gauge();
    }
    for i in 1..h.len() {
        // The one that was skipped has not been taken away, so it need not be given back.
        if is_reset(i) && !(i == 1 && skips_first && !from_zero) {
            about.made(change.add(&h[i - 1]).map(|added| ((), added)), "addition")?;
        }
    }
    // The coarsest schema on the way is the result's, even if nothing was added from there.
    let coarsest = inner.iter().map(|h| h.schema).min();
    let mut change = change.total();
    if let Some(schema) = coarsest {
        change.reduce_to(schema);
    }
    change.reset = ResetHint::Gauge;
    Some(change)
}

/// `last - previous`, a gauge.
pub(crate) fn difference_of(last: &Histogram, previous: &Histogram, about: &About<'_>) -> Option<Histogram> {
    about.made(difference(last, previous), "subtraction")
}

pub(crate) fn sum(h: &[Arc<Histogram>], about: &About<'_>) -> Option<Histogram> {
    let (first, rest) = h.split_first()?;
    let mut sum = HistogramSum::starting_with(first);
    for h in rest {
        about.made(sum.add(h).map(|added| ((), added)), "aggregation")?;
    }
    if sum.has_conflicting_resets() {
        about.conflicting_resets();
    }
    Some(sum.total())
}

pub(crate) fn mean(h: &[Arc<Histogram>], about: &About<'_>) -> Option<Histogram> {
    let (first, rest) = h.split_first()?;
    let mut mean = HistogramMean::starting_with(first);
    for h in rest {
        about.made(mean.add(h).map(|added| ((), added)), "aggregation")?;
    }
    if mean.has_conflicting_resets() {
        about.conflicting_resets();
    }
    Some(mean.value())
}

/// Counts neighbours of a window that has histograms: `floats` tells of two floats, `histograms` of two histograms; one
/// of each always counts.
pub(crate) fn count_pairs(
    w: &Window<'_>,
    floats: impl Fn(f64, f64) -> bool,
    histograms: impl Fn(&Histogram, &Histogram) -> bool,
) -> f64 {
    enum Last<'a> {
        None,
        Float(f64),
        Histogram(&'a Histogram),
    }
    let (mut i, mut j, mut hits) = (0, 0, 0u32);
    let mut last = Last::None;
    while i < w.t.len() || j < w.ht.len() {
        let float_next = i < w.t.len() && (j >= w.ht.len() || w.t[i] < w.ht[j]);
        let now = if float_next {
            i += 1;
            Last::Float(w.v[i - 1])
        } else {
            j += 1;
            Last::Histogram(&w.h[j - 1])
        };
        hits += u32::from(match (&last, &now) {
            (Last::None, _) | (_, Last::None) => false,
            (Last::Float(a), Last::Float(b)) => floats(*a, *b),
            (Last::Histogram(a), Last::Histogram(b)) => histograms(a, b),
            _ => true,
        });
        last = now;
    }
    f64::from(hits)
}

pub(crate) fn count(h: &Histogram) -> f64 {
    h.count
}

pub(crate) fn sum_of_observations(h: &Histogram) -> f64 {
    h.sum
}

pub(crate) fn stddev(h: &Histogram) -> f64 {
    variance_of_observations(h).sqrt()
}
