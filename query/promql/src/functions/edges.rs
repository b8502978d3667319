//! Windows whose edges are samples of their own: `anchored` takes the sample at or before the left edge, `smoothed`
//! interpolates between the samples around each edge. Nothing is extrapolated.

use query_exec::Cells;

use crate::syntax::Edges;
use crate::windows::Windows;

/// Floats of a window with its edges: the value at the left edge, what lies inside, the value at the right edge.
struct Edged<'a> {
    left: f64,
    inside: &'a [f64],
    right: f64,
}

/// `delta`, `increase` and `rate`.
pub(crate) fn change(w: &Windows<'_>, is_counter: bool, is_rate: bool) -> Cells {
    let range_s = w.range_ms as f64 / 1000.0;
    each(w, is_counter, |edged| {
        let mut change = edged.right - edged.left;
        if is_counter {
            let mut previous = edged.left;
            for &v in edged.inside.iter().chain([&edged.right]) {
                if v < previous {
                    change += previous;
                }
                previous = v;
            }
        }
        if is_rate { change / range_s } else { change }
    })
}

/// `changes` and `resets`: how many neighbours differ so.
pub(crate) fn count_pairs(w: &Windows<'_>, hit: impl Fn(f64, f64) -> bool) -> Cells {
    each(w, false, |edged| {
        let mut previous = edged.left;
        let mut hits = 0u32;
        for &v in edged.inside {
            hits += u32::from(hit(previous, v));
            previous = v;
        }
        f64::from(hits)
    })
}

fn each(w: &Windows<'_>, is_counter: bool, look: impl Fn(&Edged<'_>) -> f64) -> Cells {
    let mut cells = Cells::absent(w.grid.len());
    let smoothed = w.edges == Edges::Smoothed;
    for (step, at) in w.grid.iter().enumerate() {
        let end = w.shift.of(at);
        let start = end.saturating_sub(w.range_ms);
        let after_start = w.t.partition_point(|t| *t <= start);
        let after_end = w.t.partition_point(|t| *t <= end);
        let reach = |t: i64| {
            let far = start.saturating_sub(w.lookback_ms);
            t > far && t <= end.saturating_add(w.lookback_ms)
        };
        let before = after_start.checked_sub(1).filter(|i| reach(w.t[*i]));
        let beyond = Some(after_end).filter(|i| smoothed && *i < w.t.len() && reach(w.t[*i]));
        let inside = after_start..after_end;
        if inside.is_empty() && beyond.is_none() {
            continue;
        }
        let between = |a: usize, b: usize, at: i64| interpolated((w.t[a], w.v[a]), (w.t[b], w.v[b]), at, is_counter);
        // The first sample of all stands in for a left edge that has nothing before it.
        let next = after_start;
        let left = match before {
            Some(i) if smoothed && w.t[i] < start => between(i, next, start),
            Some(i) => w.v[i],
            None => w.v[next],
        };
        let last = after_end.checked_sub(1).filter(|i| reach(w.t[*i]));
        let right = match (beyond, last) {
            (Some(b), Some(a)) if w.t[a] < end => between(a, b, end),
            (_, Some(a)) => w.v[a],
            (Some(b), None) => w.v[b],
            (None, None) => continue,
        };
        let edged = Edged {
            left,
            inside: &w.v[inside],
            right,
        };
        cells.set(step, look(&edged));
    }
    cells
}

/// The value at `at` on the line from `a` to `b`; a counter that was reset in between rises from zero.
pub(crate) fn interpolated(a: (i64, f64), b: (i64, f64), at: i64, is_counter: bool) -> f64 {
    let from = if is_counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * ((at - a.0) as f64) / ((b.0 - a.0) as f64)
}
