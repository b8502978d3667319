//! `deriv` and `predict_linear`: the line that fits the samples of a window best.

use query_exec::{Cells, Compensated};

use super::Params;
use crate::windows::{Window, Windows};

pub(crate) fn deriv(w: &Windows<'_>, _: Params<'_>) -> Cells {
    // Any time near the samples serves as origin; a near one keeps the numbers small.
    w.each(|w| line(w, *w.t.first()?).map(|(slope, _)| slope))
}

pub(crate) fn predict_linear(w: &Windows<'_>, params: Params<'_>) -> Cells {
    w.each(|w| {
        let ahead = params.first()?[w.step];
        line(w, w.at).map(|(slope, intercept)| slope * ahead + intercept)
    })
}

/// Slope per second, and value at `origin`.
fn line(w: &Window<'_>, origin: i64) -> Option<(f64, f64)> {
    if w.v.len() < 2 {
        return None;
    }
    let first = w.v[0];
    if w.v.iter().all(|v| *v == first) {
        return Some(if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        });
    }
    let n = w.v.len() as f64;
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Compensated::default(); 4];
    for (t, y) in w.t.iter().zip(w.v) {
        let x = t.saturating_sub(origin) as f64 / 1000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let (x, y, xy, xx) = (x_sum.total(), y_sum.total(), xy_sum.total(), xx_sum.total());
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    Some((slope, y / n - slope * x / n))
}
