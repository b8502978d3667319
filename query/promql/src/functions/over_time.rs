//! `*_over_time`, `changes`, `resets`: functions of the samples in a window.

use std::collections::VecDeque;
use std::sync::Arc;

use model::Histogram;
use query_exec::{Accumulate, Cells, Compensated, Mean, Sliding, Sorted, Spread, quantile_of_sorted};

use super::{Params, edges, native};
use crate::notes::About;
use crate::syntax::Edges;
use crate::windows::{Made, Window, Windows};

/// Windows of fewer values are looked at anew each time: it costs little, and an instant query does the same, so both
/// agree to the last bit.
const FRESH_MAX: usize = 128;

pub(crate) fn sum(w: &Windows<'_>, _: Params<'_>) -> Cells {
    let mut sliding: Sliding<Compensated> = Sliding::default();
    let floats = |window: &Window<'_>| {
        if window.v.len() > FRESH_MAX
            && let Some(sum) = sliding.at(w.v, window.first, window.first + window.v.len())
        {
            return sum.total();
        }
        let mut sum = Compensated::default();
        window.v.iter().for_each(|v| sum.add(*v));
        sum.total()
    };
    of_one_kind(w, floats, native::sum)
}

pub(crate) fn avg(w: &Windows<'_>, _: Params<'_>) -> Cells {
    let mut sliding: Sliding<Compensated> = Sliding::default();
    let floats = |window: &Window<'_>| {
        if window.v.len() > FRESH_MAX
            && let Some(sum) = sliding.at(w.v, window.first, window.first + window.v.len())
            && sum.total().is_finite()
        {
            return sum.over(window.v.len() as f64);
        }
        let mut mean = Mean::default();
        window.v.iter().for_each(|v| mean.add(*v));
        mean.value()
    };
    of_one_kind(w, floats, native::mean)
}

/// Windows of floats or of histograms; one with both gives nothing.
fn of_one_kind(
    w: &Windows<'_>,
    mut floats: impl FnMut(&Window<'_>) -> f64,
    histograms: impl Fn(&[Arc<Histogram>], &About<'_>) -> Option<Histogram>,
) -> Cells {
    w.of_any(|window| {
        if window.is_mixed() {
            w.about.mixed_kinds();
            return None;
        }
        if window.h.is_empty() {
            return Some(Made::Float(floats(window)));
        }
        histograms(window.h, &w.about).map(Made::from)
    })
}

pub(crate) fn count(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|w| Some(Made::Float((w.v.len() + w.h.len()) as f64)))
}

pub(crate) fn present(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|_| Some(Made::Float(1.0)))
}

pub(crate) fn last(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|w| match (w.t.last(), w.ht.last(), w.h.last()) {
        (t, Some(ht), Some(h)) if t.is_none_or(|t| t < ht) => Some(Made::Histogram(h.clone())),
        _ => w.v.last().map(|v| Made::Float(*v)),
    })
}

pub(crate) fn first(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|w| match (w.t.first(), w.ht.first(), w.h.first()) {
        (t, Some(ht), Some(h)) if t.is_none_or(|t| t > ht) => Some(Made::Histogram(h.clone())),
        _ => w.v.first().map(|v| Made::Float(*v)),
    })
}

pub(crate) fn ts_of_last(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|w| w.t.last().max(w.ht.last()).map(|t| Made::Float(*t as f64 / 1000.0)))
}

pub(crate) fn ts_of_first(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.of_any(|w| {
        let first = w.t.first().into_iter().chain(w.ht.first()).min();
        first.map(|t| Made::Float(*t as f64 / 1000.0))
    })
}

pub(crate) fn min(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.slide(&mut Extreme::new(|a, b| a > b, |_, v| v))
}

pub(crate) fn max(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.slide(&mut Extreme::new(|a, b| a < b, |_, v| v))
}

pub(crate) fn ts_of_min(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.slide(&mut Extreme::new(|a, b| a >= b, |t, _| t as f64 / 1000.0))
}

pub(crate) fn ts_of_max(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.slide(&mut Extreme::new(|a, b| a <= b, |t, _| t as f64 / 1000.0))
}

/// The best value of a sliding window: a queue of those that may still become the best. NaN is the worst.
struct Extreme<B, R> {
    queue: VecDeque<(i64, f64)>,
    beaten: B,
    result: R,
}

impl<B: Fn(f64, f64) -> bool, R: Fn(i64, f64) -> f64> Extreme<B, R> {
    /// `beaten(a, b)`: whether `b`, which came later, takes the place of `a`.
    fn new(beaten: B, result: R) -> Extreme<B, R> {
        Extreme {
            queue: VecDeque::new(),
            beaten,
            result,
        }
    }
}

impl<B: Fn(f64, f64) -> bool, R: Fn(i64, f64) -> f64> Accumulate for Extreme<B, R> {
    fn enter(&mut self, t: i64, v: f64) {
        while self
            .queue
            .back()
            .is_some_and(|&(_, last)| last.is_nan() || (self.beaten)(last, v))
        {
            self.queue.pop_back();
        }
        self.queue.push_back((t, v));
    }
    fn leave(&mut self, t: i64, _: f64) {
        if self.queue.front().is_some_and(|front| front.0 == t) {
            self.queue.pop_front();
        }
    }
    fn read(&mut self, _: i64) -> Option<f64> {
        self.queue.front().map(|&(t, v)| (self.result)(t, v))
    }
}

/// Variance by Welford's method, compensated.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Compensated::default(), Compensated::default());
    for v in values {
        count += 1.0;
        let delta = v - mean.total();
        mean.add(delta / count);
        squares.add(delta * (v - mean.total()));
    }
    squares.total() / count
}

pub(crate) fn stdvar(w: &Windows<'_>, _: Params<'_>) -> Cells {
    variances(w, |variance| variance)
}

pub(crate) fn stddev(w: &Windows<'_>, _: Params<'_>) -> Cells {
    variances(w, f64::sqrt)
}

fn variances(w: &Windows<'_>, result: fn(f64) -> f64) -> Cells {
    let mut sliding: Sliding<Spread> = Sliding::default();
    w.each(|window| {
        let far = window.v.len() > FRESH_MAX;
        let slid = far.then(|| sliding.at(w.v, window.first, window.first + window.v.len()));
        let variance = slid
            .flatten()
            .map_or_else(|| variance(window.v), |spread| spread.variance());
        Some(result(variance))
    })
}

pub(crate) fn quantile(w: &Windows<'_>, params: Params<'_>) -> Cells {
    let mut sorted = Sorted::default();
    w.each(|window| {
        let sorted = sorted.at(w.v, window.first, window.first + window.v.len());
        Some(quantile_of_sorted(params.first()?[window.step], sorted))
    })
}

/// The median of the distances from the median; NaN if any value is.
pub(crate) fn mad(w: &Windows<'_>, _: Params<'_>) -> Cells {
    let mut sorted = Vec::new();
    w.each(|w| {
        if w.v.iter().any(|v| v.is_nan()) {
            return Some(f64::NAN);
        }
        fill_sorted(&mut sorted, w.v.iter().copied());
        let median = quantile_of_sorted(0.5, &sorted);
        fill_sorted(&mut sorted, w.v.iter().map(|v| (v - median).abs()));
        Some(quantile_of_sorted(0.5, &sorted))
    })
}

fn fill_sorted(sorted: &mut Vec<f64>, values: impl Iterator<Item = f64>) {
    sorted.clear();
    sorted.extend(values);
    // NaN lowest.
    sorted.sort_unstable_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
}

pub(crate) fn changes(w: &Windows<'_>, _: Params<'_>) -> Cells {
    count_pairs(w, |a, b| a != b && !(a.is_nan() && b.is_nan()), |a, b| !a.same_bits(b))
}

pub(crate) fn resets(w: &Windows<'_>, _: Params<'_>) -> Cells {
    count_pairs(w, |a, b| b < a, |a, b| b.is_reset_after(a))
}

/// Counts neighbours in the window for which `hit` holds; by running totals, so that no window of floats is looked
/// through.
fn count_pairs(
    w: &Windows<'_>,
    hit: impl Fn(f64, f64) -> bool,
    histograms: impl Fn(&Histogram, &Histogram) -> bool,
) -> Cells {
    if w.edges != Edges::Plain {
        return edges::count_pairs(w, hit, histograms);
    }
    if !w.h.is_empty() {
        return w.of_any(|window| Some(Made::Float(native::count_pairs(window, &hit, &histograms))));
    }
    let mut total = 0u64;
    let hits_before: Vec<u64> = (0..w.v.len())
        .map(|i| {
            total += u64::from(i > 0 && hit(w.v[i - 1], w.v[i]));
            total
        })
        .collect();
    w.each(|w| Some((hits_before[w.first + w.v.len() - 1] - hits_before[w.first]) as f64))
}
