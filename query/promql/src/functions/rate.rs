//! `rate`, `increase`, `delta` and their instant kin: how fast a series changes in a window.
//!
//! The change between the first and the last sample is stretched to the window's ends, as far as the samples' distance
//! makes it likely that the series was there: at most half a sample distance where an end is far from a sample, and for
//! counters never below zero.
//!
//! Where it is known when a counter began (its *start*), that moment is a sample of zero: the change runs from there,
//! and a start other than the one before is a reset even if the value grew.

use std::sync::Arc;

use model::{Histogram, ResetHint};
use query_exec::{Cells, divided, multiplied};

use super::Params;
use super::edges;
use super::native::{change_of_histograms, difference_of};
use crate::syntax::Edges;
use crate::windows::{Made, Window, Windows};

pub(crate) fn rate(w: &Windows<'_>, _: Params<'_>) -> Cells {
    extrapolated(w, true, true)
}

pub(crate) fn increase(w: &Windows<'_>, _: Params<'_>) -> Cells {
    extrapolated(w, true, false)
}

pub(crate) fn delta(w: &Windows<'_>, _: Params<'_>) -> Cells {
    extrapolated(w, false, false)
}

fn extrapolated(w: &Windows<'_>, is_counter: bool, is_rate: bool) -> Cells {
    if w.edges != Edges::Plain {
        return edges::change(w, is_counter, is_rate);
    }
    // Resets are few: their places are found once, and each window adds up those inside it.
    let resets: Vec<usize> = if is_counter {
        (1..w.v.len())
            .filter(|&i| w.v[i] < w.v[i - 1] || began_anew(w.t, w.starts, i))
            .collect()
    } else {
        Vec::new()
    };
    let range_s = w.range_ms as f64 / 1000.0;
    let mut next_reset = 0;
    // Whether a histogram follows a reset is asked by every window that it is in, and found out once.
    let mut histogram_resets: Vec<Option<bool>> = vec![None; w.h.len()];
    w.of_any(|window| {
        if window.is_mixed() {
            w.about.mixed_kinds();
            return None;
        }
        if !window.h.is_empty() {
            let is_reset = |i: usize| {
                let at = window.first_histogram + i;
                *histogram_resets[at]
                    .get_or_insert_with(|| began_anew(w.ht, w.h_starts, at) || w.h[at].is_reset_after(&w.h[at - 1]))
            };
            let change = rate_of_histograms(w, window, is_counter, is_rate.then_some(range_s), is_reset);
            return change.map(Made::from);
        }
        let n = window.v.len();
        let began = if is_counter {
            start_inside(window.start, window.t, window.starts)
        } else {
            None
        };
        if n < 2 && began.is_none() {
            return None;
        }
        let (first, last) = (window.v[0], window.v[n - 1]);
        let mut change = last - first;
        while next_reset < resets.len() && resets[next_reset] <= window.first {
            next_reset += 1;
        }
        for &reset in resets[next_reset..].iter().take_while(|r| **r < window.first + n) {
            change += w.v[reset - 1];
        }
        if began.is_some() {
            change += first;
        }
        let factor = Sampled {
            first: window.t[0],
            last: window.t[n - 1],
            distances: n - 1,
            began,
            first_value: first,
            change,
        }
        .stretch(window.start, window.end, is_counter);
        Some(Made::Float(change * if is_rate { factor / range_s } else { factor }))
    })
}

/// Whether sample `i` belongs to a counter that began after the one before it was taken.
fn began_anew(t: &[i64], starts: &[i64], i: usize) -> bool {
    let (Some(&now), Some(&before)) = (starts.get(i), starts.get(i.wrapping_sub(1))) else {
        return false;
    };
    now != 0 && if before == 0 { now >= t[i - 1] } else { now != before }
}

/// When the first sample's counter began, if that was inside the window and before the sample.
fn start_inside(window_start: i64, t: &[i64], starts: &[i64]) -> Option<i64> {
    let (&t, &start) = (t.first()?, starts.first()?);
    (start != 0 && start > window_start && start < t).then_some(start)
}

fn rate_of_histograms(
    w: &Windows<'_>,
    window: &Window<'_>,
    is_counter: bool,
    range_s: Option<f64>,
    is_reset: impl FnMut(usize) -> bool,
) -> Option<Histogram> {
    let n = window.h.len();
    let began = if is_counter {
        start_inside(window.start, window.ht, window.h_starts)
    } else {
        None
    };
    if n < 2 && began.is_none() {
        return None;
    }
    let change = change_of_histograms(window.h, is_counter, began.is_some(), is_reset, &w.about)?;
    let factor = Sampled {
        first: window.ht[0],
        last: window.ht[n - 1],
        distances: n - 1,
        began,
        first_value: window.h[0].count,
        change: change.count,
    }
    .stretch(window.start, window.end, is_counter);
    Some(multiplied(&change, range_s.map_or(factor, |range| factor / range)))
}

/// Where a window's samples are.
struct Sampled {
    first: i64,
    last: i64,
    /// How many distances between neighbours.
    distances: usize,
    began: Option<i64>,
    first_value: f64,
    change: f64,
}

impl Sampled {
    /// By how much the change between the samples is to be multiplied.
    fn stretch(&self, start: i64, end: i64, is_counter: bool) -> f64 {
        let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
        let first = self.began.unwrap_or(self.first);
        let sampled = seconds(first, self.last);
        let average = sampled / (self.distances + usize::from(self.began.is_some())) as f64;
        let threshold = average * 1.1;
        let mut to_start = if self.began.is_some() {
            0.0
        } else {
            seconds(start, first)
        };
        let mut to_end = seconds(self.last, end);
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if is_counter && self.began.is_none() {
            // A counter cannot have been below zero.
            let to_zero = if self.change > 0.0 && self.first_value >= 0.0 {
                sampled * (self.first_value / self.change)
            } else {
                to_start
            };
            to_start = to_start.min(to_zero);
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        (sampled + to_start + to_end) / sampled
    }
}

pub(crate) fn irate(w: &Windows<'_>, _: Params<'_>) -> Cells {
    instant(w, true)
}

pub(crate) fn idelta(w: &Windows<'_>, _: Params<'_>) -> Cells {
    instant(w, false)
}

/// One of the last samples of a window.
enum Sample<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

/// The last two samples: their change, by time for a rate.
fn instant(w: &Windows<'_>, is_rate: bool) -> Cells {
    w.of_any(|window| {
        let mut newest = newest_first(window);
        let (t, start, last) = newest.next()?;
        let previous = newest.next();
        // Its own start is a sample of zero, if it lies between the two.
        let began = is_rate && start != 0 && start > window.start && start < t;
        let after = |p: &(i64, i64, Sample<'_>)| start > p.0;
        if began && previous.as_ref().is_none_or(after) {
            let seconds = (t - start) as f64 / 1000.0;
            return Some(match last {
                Sample::Float(v) => Made::Float(v / seconds),
                Sample::Histogram(h) => Made::from(gauge(divided(h, seconds))),
            });
        }
        let (before, before_start, previous) = previous?;
        if t == before {
            return None;
        }
        let seconds = (t - before) as f64 / 1000.0;
        let anew = began_anew(&[before, t], &[before_start, start], 1);
        match (previous, last) {
            (Sample::Float(previous), Sample::Float(last)) => {
                // After a reset the counter has counted from zero.
                let reset = is_rate && (last < previous || anew);
                let change = if reset { last } else { last - previous };
                Some(Made::Float(if is_rate { change / seconds } else { change }))
            }
            (Sample::Histogram(previous), Sample::Histogram(last)) => {
                let gauges = [previous, last].iter().filter(|h| h.reset == ResetHint::Gauge).count();
                if is_rate && gauges > 0 {
                    w.about.not_a_counter();
                }
                if !is_rate && gauges < 2 {
                    w.about.not_a_gauge();
                }
                let change = if is_rate && (anew || last.is_reset_after(previous)) {
                    gauge(multiplied(last, 1.0))
                } else {
                    difference_of(last, previous, &w.about)?
                };
                Some(Made::from(if is_rate { divided(&change, seconds) } else { change }))
            }
            _ => {
                w.about.mixed_kinds();
                None
            }
        }
    })
}

fn gauge(mut h: Histogram) -> Histogram {
    h.reset = ResetHint::Gauge;
    h
}

/// Samples of both kinds with their times and starts, from the newest back.
fn newest_first<'a>(w: &'a Window<'_>) -> impl Iterator<Item = (i64, i64, Sample<'a>)> {
    let (mut floats, mut histograms) = (w.t.len(), w.ht.len());
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    std::iter::from_fn(move || {
        let float = floats.checked_sub(1);
        let histogram = histograms.checked_sub(1);
        let histogram_is_newer = match (float, histogram) {
            (Some(f), Some(h)) => w.ht[h] > w.t[f],
            (_, h) => h.is_some(),
        };
        if histogram_is_newer {
            let i = histogram?;
            histograms = i;
            return Some((w.ht[i], start(w.h_starts, i), Sample::Histogram(&w.h[i])));
        }
        let i = float?;
        floats = i;
        Some((w.t[i], start(w.starts, i), Sample::Float(w.v[i])))
    })
}
