//! `double_exponential_smoothing`: a level and a trend, both smoothed.

use query_exec::{Cells, ExecError};

use crate::windows::Windows;

/// Factors for the level and the trend, both between 0 and 1, limits excluded.
pub(crate) fn double_exponential(w: &Windows<'_>, level: &[f64], trend: &[f64]) -> Result<Cells, ExecError> {
    // A factor that is NaN passes, and one that meets no sample too.
    let mut bad = None;
    let cells = w.of_any(|any| {
        for (what, factor, letters) in [("smoothing", level[any.step], "sf"), ("trend", trend[any.step], "tf")] {
            if factor <= 0.0 || factor >= 1.0 {
                let what = format!("invalid {what} factor. Expected: 0 < {letters} < 1, got: {factor:.6}");
                bad.get_or_insert(ExecError::Data(what));
            }
        }
        None
    });
    drop(cells);
    if let Some(bad) = bad {
        return Err(bad);
    }
    Ok(w.each(|w| {
        let [first, second, ..] = w.v else { return None };
        let (level, trend) = (level[w.step], trend[w.step]);
        let (mut before, mut smoothed, mut slope) = (0.0, *first, second - first);
        for (i, v) in w.v.iter().enumerate().skip(1) {
            if i > 1 {
                slope = trend * (smoothed - before) + (1.0 - trend) * slope;
            }
            let next = level * v + (1.0 - level) * (smoothed + slope);
            (before, smoothed) = (smoothed, next);
        }
        Some(smoothed)
    }))
}
