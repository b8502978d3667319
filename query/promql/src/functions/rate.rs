//! `rate`, `increase`, `delta` and their instant kin: how fast a series changes in a window.
//!
//! The change between the first and the last sample is stretched to the window's ends, as far as the samples' distance
//! makes it likely that the series was there: at most half a sample distance where an end is far from a sample, and for
//! counters never below zero.

use query_exec::Cells;

use super::Params;
use crate::windows::{Window, Windows};

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
    // Resets are few: their places are found once, and each window adds up those inside it.
    let resets: Vec<usize> = if is_counter {
        (1..w.v.len()).filter(|&i| w.v[i] < w.v[i - 1]).collect()
    } else {
        Vec::new()
    };
    let range_s = w.range_ms as f64 / 1000.0;
    let mut next_reset = 0;
    w.each(|window| {
        let n = window.v.len();
        if n < 2 {
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
        let factor = stretch(window, change, is_counter);
        Some(change * if is_rate { factor / range_s } else { factor })
    })
}

/// By how much the change between the samples is to be multiplied.
fn stretch(w: &Window<'_>, change: f64, is_counter: bool) -> f64 {
    let n = w.t.len();
    let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
    let mut to_start = seconds(w.start, w.t[0]);
    let mut to_end = seconds(w.t[n - 1], w.end);
    let sampled = seconds(w.t[0], w.t[n - 1]);
    let average = sampled / (n - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if is_counter {
        // A counter cannot have been below zero.
        let to_zero = if change > 0.0 && w.v[0] >= 0.0 {
            sampled * (w.v[0] / change)
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

pub(crate) fn irate(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.each(|w| {
        let (dt, previous, last) = last_two(w)?;
        // After a reset the counter has counted from zero.
        let change = if last < previous { last } else { last - previous };
        Some(change / dt)
    })
}

pub(crate) fn idelta(w: &Windows<'_>, _: Params<'_>) -> Cells {
    w.each(|w| last_two(w).map(|(_, previous, last)| last - previous))
}

/// Their distance in seconds, and the last two values.
fn last_two(w: &Window<'_>) -> Option<(f64, f64, f64)> {
    let n = w.v.len();
    (n >= 2).then(|| ((w.t[n - 1] - w.t[n - 2]) as f64 / 1000.0, w.v[n - 2], w.v[n - 1]))
}
