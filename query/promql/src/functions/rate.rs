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
    if w.h.is_empty() && w.starts.is_empty() {
        return of_floats(w, &resets, is_counter, is_rate.then_some(range_s));
    }
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

/// The same of floats of which no start is known, as nearly all are. Where samples and steps are regular, one window's
/// samples lie as those of the window before, and so does what they are stretched by, as long as zero is far.
fn of_floats(w: &Windows<'_>, resets: &[usize], is_counter: bool, range_s: Option<f64>) -> Cells {
    let mut next_reset = 0;
    let mut known = None;
    // Up to the first sample, between the samples, all to be multiplied by.
    let (mut to_start, mut sampled, mut plain) = (0.0, 0.0, 0.0);
    let per_second = |factor: f64| range_s.map_or(factor, |range| factor / range);
    w.of_floats(|start, end, places| {
        let (low, high) = (places.start, places.end - 1);
        if low == high {
            return None;
        }
        let (t, v) = (&w.t[low..=high], &w.v[low..=high]);
        let (first, last) = (v[0], v[high - low]);
        let mut change = last - first;
        while next_reset < resets.len() && resets[next_reset] <= low {
            next_reset += 1;
        }
        for &reset in resets[next_reset..].iter().take_while(|&&reset| reset <= high) {
            change += w.v[reset - 1];
        }
        let (first_t, last_t) = (t[0], t[high - low]);
        let lie = (
            high - low,
            first_t.saturating_sub(start),
            last_t.saturating_sub(first_t),
            end.saturating_sub(last_t),
        );
        let gap = Gap {
            first: first_t,
            last: last_t,
            distances: high - low,
        };
        if known != Some(lie) {
            known = Some(lie);
            let ends = gap.ends(start, end);
            (to_start, sampled) = (ends.to_start, ends.sampled);
            plain = per_second(ends.stretch(ends.to_start));
        }
        // A counter that starts at more than it grows would have to be followed back for longer than it was seen.
        let zero_is_far = to_start <= sampled && first >= change;
        let factor = if is_counter && change > 0.0 && first >= 0.0 && !zero_is_far {
            let ends = gap.ends(start, end);
            per_second(ends.stretch(ends.since_zero(first, change)))
        } else {
            plain
        };
        Some(change * factor)
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
        if let Some(began) = self.began {
            // From where it began nothing is missing.
            let gap = Gap {
                first: began,
                last: self.last,
                distances: self.distances + 1,
            };
            return gap.ends(start, end).stretch(0.0);
        }
        let gap = Gap {
            first: self.first,
            last: self.last,
            distances: self.distances,
        };
        let ends = gap.ends(start, end);
        ends.stretch(if is_counter {
            ends.since_zero(self.first_value, self.change)
        } else {
            ends.to_start
        })
    }
}

/// Times of the first and the last sample, and how many distances lie between.
#[derive(Clone, Copy)]
struct Gap {
    first: i64,
    last: i64,
    distances: usize,
}

/// Seconds between the samples, and how far beyond them the series was probably there.
struct Ends {
    sampled: f64,
    to_start: f64,
    to_end: f64,
}

impl Gap {
    fn ends(&self, start: i64, end: i64) -> Ends {
        let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
        let sampled = seconds(self.first, self.last);
        let average = sampled / self.distances as f64;
        let near = |distance: f64| {
            if distance >= average * 1.1 {
                average / 2.0
            } else {
                distance
            }
        };
        Ends {
            sampled,
            to_start: near(seconds(start, self.first)),
            to_end: near(seconds(self.last, end)),
        }
    }
}

impl Ends {
    /// How far to the start, of a counter: it cannot have been below zero.
    fn since_zero(&self, first: f64, change: f64) -> f64 {
        let to_zero = if change > 0.0 && first >= 0.0 {
            self.sampled * (first / change)
        } else {
            self.to_start
        };
        self.to_start.min(to_zero)
    }

    fn stretch(&self, to_start: f64) -> f64 {
        (self.sampled + to_start + self.to_end) / self.sampled
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use query_exec::{Context, Grid, Limits};
    use storage_metrics::Samples;

    use super::*;
    use crate::lex::Span;
    use crate::notes::{About, Notes};
    use crate::plan::Moment;

    /// Distances of samples, ms, and values; mostly regular, as counters are scraped.
    fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
        let distance = prop_oneof![8 => Just(15_000i64), 1 => 1i64..90_000];
        let value = prop_oneof![
            8 => (0u32..50).prop_map(f64::from),
            1 => -5.0..5.0f64,
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
        ];
        proptest::collection::vec((distance, value), 0..120)
    }

    proptest! {
        /// Series without starts take a short way; one whose starts are all unknown takes the long one to the same bits.
        #[test]
        fn the_short_way_leads_where_the_long_one_does(
            samples in samples(),
            // A counter that only grows, from so much, or what the samples say.
            grows_from in proptest::option::of(0.0..1e4f64),
            range_ms in prop_oneof![Just(60_000i64), Just(300_000), 1_000i64..500_000],
            step in prop_oneof![Just(15_000i64), 1_000i64..100_000],
            at in proptest::option::of(0i64..1_000_000),
        ) {
            let (mut t, mut total) = (1_000_000, grows_from.unwrap_or(0.0));
            let mut column = Samples::default();
            for (distance, v) in samples {
                t += distance;
                total += if v.is_finite() { v.abs() } else { 0.0 };
                column.t.push(t);
                column.v.push(if grows_from.is_some() { total } else { v });
            }
            let unknown = vec![0; column.t.len()];
            let context = Context::new(Duration::from_secs(60), Limits { samples_max: 1 << 30, series_max: 1, bytes_max: 1 });
            let notes = Notes::new("");
            let about = About { notes: &notes, span: Span { start: 0, end: 0 }, name: "" };
            let grid = Grid::range(900_000, 3_000_000, step);
            let shift = Moment { at: at.map(|at| 1_000_000 + at), offset_ms: 0 };
            let short = Windows::over(&column, &grid, shift, range_ms, false, about, &context);
            let mut long = short.told_at(Span { start: 0, end: 0 });
            long.starts = &unknown;
            for f in [rate, increase, delta] {
                let bits = |w: &Windows<'_>| -> Vec<_> { f(w, &[]).iter().map(|(i, v)| (i, v.to_bits())).collect() };
                prop_assert_eq!(bits(&short), bits(&long));
            }
        }
    }
}
