//! Windows whose edges are samples of their own: `anchored` takes the sample at or before the left edge, `smoothed`
//! interpolates between the samples around each edge. Nothing is extrapolated.
//!
//! To see its neighbours a window is as much wider as the lookback: to the left, and if it is smoothed to the right too.

use std::sync::Arc;

use model::{Histogram, ResetHint};
use query_exec::{Cells, Grid, divided, multiplied, sum_of_two};
use storage_metrics::Samples;

use super::native;
use crate::notes::About;
use crate::plan::Moment;
use crate::syntax::Edges;
use crate::windows::{Made, Window, Windows};

/// `delta`, `increase` and `rate`.
pub(crate) fn change(w: &Windows<'_>, is_counter: bool, is_rate: bool) -> Cells {
    let seconds = w.range_ms as f64 / 1000.0;
    let smoothed = w.edges == Edges::Smoothed;
    w.of_any(|window| {
        let edges = |t: &[i64]| Pair::around(t, window.start, window.end, smoothed);
        if window.is_mixed() {
            w.about.mixed_kinds();
            return None;
        }
        if let Some(pair) = edges(window.ht) {
            let change = change_of_histograms(window, pair, smoothed, is_counter, &w.about)?;
            return Some(Made::from(if is_rate { divided(&change, seconds) } else { change }));
        }
        let change = change_of_floats(window, edges(window.t)?, smoothed, is_counter);
        Some(Made::Float(if is_rate { change / seconds } else { change }))
    })
}

/// `changes` and `resets` of anchored windows: how many neighbours differ so. The newest sample at or before the left edge
/// is the first neighbour, whatever its kind.
pub(crate) fn count_pairs(
    w: &Windows<'_>,
    floats: impl Fn(f64, f64) -> bool,
    histograms: impl Fn(&Histogram, &Histogram) -> bool,
) -> Cells {
    w.of_any(|window| {
        let mut i = window.t.partition_point(|t| *t <= window.start);
        let mut j = window.ht.partition_point(|t| *t <= window.start);
        if i == window.t.len() && j == window.ht.len() {
            return None;
        }
        match (i.checked_sub(1), j.checked_sub(1)) {
            (Some(float), Some(histogram)) if window.t[float] < window.ht[histogram] => j = histogram,
            (Some(float), _) => i = float,
            (None, Some(histogram)) => j = histogram,
            (None, None) => {}
        }
        let inside = Window {
            t: &window.t[i..],
            v: &window.v[i..],
            starts: &[],
            ht: &window.ht[j..],
            h: &window.h[j..],
            h_starts: &[],
            ..*window
        };
        Some(Made::Float(native::count_pairs(&inside, &floats, &histograms)))
    })
}

/// The floats of one window, which are given with their neighbours, with a sample at each edge.
pub(crate) fn extended(t: &[i64], v: &[f64], start: i64, end: i64, smoothed: bool) -> Vec<(i64, f64)> {
    let Some(pair) = Pair::of(t, start, end, smoothed).filter(|pair| t[pair.last] > start) else {
        return Vec::new();
    };
    let left = left_float(t, v, pair, start, smoothed, false);
    let right = right_float(t, v, pair, end, smoothed, false);
    let inside = pair.inside(t, start, end).map(|i| (t[i], v[i]));
    (std::iter::once((start, left)).chain(inside))
        .chain([(end, right)])
        .collect()
}

/// An instant selector that is smoothed: at each step the value on the line between the samples around it; the newest one
/// where nothing follows.
pub(crate) fn smoothed(samples: &Samples, shift: &Moment, lookback: i64, grid: Grid, about: &About<'_>) -> Cells {
    let mut cells = Cells::absent(grid.len());
    let (t, histograms) = (&samples.t, &samples.histograms);
    for (step, at) in grid.iter().enumerate() {
        let at = shift.of(at);
        let near = |t: &[i64]| {
            let after = |limit: i64| t.partition_point(|t| *t <= limit);
            after(at.saturating_sub(lookback))..after(at.saturating_add(lookback))
        };
        let (floats, native) = (near(t), near(&histograms.t));
        if !floats.is_empty() && !native.is_empty() {
            about.mixed_kinds();
            continue;
        }
        let (times, near) = if native.is_empty() {
            (t, floats)
        } else {
            (&histograms.t, native.clone())
        };
        let next = near.start + times[near.clone()].partition_point(|t| *t < at);
        let exact = next < near.end && times[next] == at;
        let previous = next.checked_sub(1).filter(|i| *i >= near.start);
        let (a, b) = match (previous, exact) {
            (_, true) => (next, next),
            (Some(previous), _) if next < near.end => (previous, next),
            (Some(previous), _) => (previous, previous),
            // Nothing is known yet.
            (None, false) => continue,
        };
        if native.is_empty() {
            let value = if a == b {
                samples.v[a]
            } else {
                interpolated((t[a], samples.v[a]), (t[b], samples.v[b]), at, false)
            };
            cells.set(step, value);
            continue;
        }
        let (ha, hb) = (&histograms.h[a], &histograms.h[b]);
        let value = if exact {
            Some(Histogram::clone(ha))
        } else if a == b {
            Some(Histogram {
                reset: ResetHint::Unknown,
                ..Histogram::clone(ha)
            })
        } else {
            let is_counter = ha.reset != ResetHint::Gauge || hb.reset != ResetHint::Gauge;
            between((times[a], ha), (times[b], hb), at, is_counter, about)
        };
        if let Some(h) = value {
            cells.set_histogram(step, Arc::new(h));
        }
    }
    cells
}

/// The samples that make a window's edges.
#[derive(Clone, Copy)]
struct Pair {
    first: usize,
    last: usize,
}

impl Pair {
    fn of(t: &[i64], start: i64, end: i64, smoothed: bool) -> Option<Pair> {
        let newest = t.len().checked_sub(1)?;
        let first = t[..newest].partition_point(|t| *t <= start).saturating_sub(1);
        let last = if smoothed {
            t[..newest].partition_point(|t| *t < end)
        } else {
            newest
        };
        Some(Pair { first, last })
    }

    /// `None` where nothing is newer than the left edge, or all lies beyond the right one.
    fn around(t: &[i64], start: i64, end: i64, smoothed: bool) -> Option<Pair> {
        let pair = Pair::of(t, start, end, smoothed)?;
        (t[pair.last] > start && !(smoothed && t[pair.first] > end)).then_some(pair)
    }

    /// What lies between the edges.
    fn inside(self, t: &[i64], start: i64, end: i64) -> std::ops::Range<usize> {
        let first = self.first + usize::from(t[self.first] <= start);
        let last = (self.last + 1).saturating_sub(usize::from(t[self.last] >= end));
        first..last.max(first)
    }
}

fn left_float(t: &[i64], v: &[f64], pair: Pair, start: i64, smoothed: bool, is_counter: bool) -> f64 {
    let i = pair.first;
    if smoothed && t[i] < start && i + 1 < t.len() {
        return interpolated((t[i], v[i]), (t[i + 1], v[i + 1]), start, is_counter);
    }
    v[i]
}

fn right_float(t: &[i64], v: &[f64], pair: Pair, end: i64, smoothed: bool, is_counter: bool) -> f64 {
    let i = pair.last;
    if smoothed && i > 0 && t[i] > end {
        return interpolated((t[i - 1], v[i - 1]), (t[i], v[i]), end, is_counter);
    }
    v[i]
}

fn change_of_floats(window: &Window<'_>, pair: Pair, smoothed: bool, is_counter: bool) -> f64 {
    let (t, v) = (window.t, window.v);
    let left = left_float(t, v, pair, window.start, smoothed, is_counter);
    let right = right_float(t, v, pair, window.end, smoothed, is_counter);
    let change = right - left;
    if !is_counter {
        return change;
    }
    let (mut lost, mut previous) = (0.0, left);
    for v in pair.inside(t, window.start, window.end).map(|i| v[i]).chain([right]) {
        if v < previous {
            lost += previous;
        }
        previous = v;
    }
    change + lost
}

fn change_of_histograms(
    window: &Window<'_>,
    pair: Pair,
    smoothed: bool,
    is_counter: bool,
    about: &About<'_>,
) -> Option<Histogram> {
    let (t, h) = (window.ht, window.h);
    let (first, last) = (pair.first, pair.last.max(pair.first));
    let custom = h[first].has_custom_buckets();
    for h in &h[first..=last] {
        if h.has_custom_buckets() != custom {
            about.mixed_schemas();
            return None;
        }
        if is_counter && h.reset == ResetHint::Gauge {
            about.not_a_counter();
        }
    }
    let left_between = smoothed && t[first] < window.start && first + 1 < h.len();
    let left = if left_between {
        let (a, b) = ((t[first], &h[first]), (t[first + 1], &h[first + 1]));
        between(a, b, window.start, is_counter, about)?
    } else {
        Histogram::clone(&h[first])
    };
    let right = if smoothed && last > 0 && t[last] > window.end {
        let (a, b) = ((t[last - 1], &h[last - 1]), (t[last], &h[last]));
        between(a, b, window.end, is_counter, about)?
    } else {
        Histogram::clone(&h[last])
    };
    if !is_counter && (left.reset != ResetHint::Gauge || right.reset != ResetHint::Gauge) {
        about.not_a_gauge();
    }
    let mut change = native::difference_of(&right, &left, about)?;
    if is_counter {
        let mut previous = &left;
        let mut next = first + 1;
        if left_between && h[next].is_reset_after(&h[first]) {
            // The line to the left edge began after this reset.
            previous = &h[next];
            next += 1;
        }
        // The last one is the right edge, or a neighbour of it.
        if next <= last {
            let mut lost: Option<Histogram> = None;
            let between = h[next..last].iter().map(|h| &**h);
            for h in between.chain([&right]) {
                if h.is_reset_after(previous) {
                    lost = Some(match lost {
                        None => previous.clone(),
                        Some(lost) => joined(&lost, previous, about)?,
                    });
                }
                previous = h;
            }
            if let Some(lost) = lost {
                change = joined(&change, &lost, about)?;
            }
        }
    }
    change.reset = ResetHint::Gauge;
    Some(change)
}

fn joined(a: &Histogram, b: &Histogram, about: &About<'_>) -> Option<Histogram> {
    about.made(sum_of_two(a, b), "addition")
}

/// The value at `at` on the line from `a` to `b`; a counter that was reset in between rises from zero.
fn interpolated(a: (i64, f64), b: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let from = if is_counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * ((at - a.0) as f64) / ((b.0 - a.0) as f64)
}

/// The same for histograms.
fn between(
    a: (i64, &Arc<Histogram>),
    b: (i64, &Arc<Histogram>),
    at: i64,
    is_counter: bool,
    about: &About<'_>,
) -> Option<Histogram> {
    if at == a.0 || at == b.0 {
        return Some(Histogram::clone(if at == a.0 { a.1 } else { b.1 }));
    }
    let share = (at - a.0) as f64 / (b.0 - a.0) as f64;
    if is_counter && b.1.is_reset_after(a.1) {
        return Some(multiplied(b.1, share));
    }
    let rise = native::difference_of(b.1, a.1, about)?;
    let mut value = joined(&multiplied(&rise, share), a.1, about)?;
    value.reset = match (a.1.reset, b.1.reset) {
        (a, b) if a == b => a,
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    Some(value)
}
