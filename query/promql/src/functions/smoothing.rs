//! `double_exponential_smoothing`: a level and a trend, both smoothed.

use query_exec::{Cells, ExecError};

use crate::windows::Windows;

/// Factors for the level and the trend, both between 0 and 1, limits excluded.
pub(crate) fn double_exponential(w: &Windows<'_>, level: &[f64], trend: &[f64]) -> Result<Cells, ExecError> {
    for (what, factors, letters) in [("smoothing", level, "sf"), ("trend", trend, "tf")] {
        if let Some(bad) = factors.iter().find(|f| !(**f > 0.0 && **f < 1.0)) {
            return Err(ExecError::Data(format!(
                "invalid {what} factor. Expected: 0 < {letters} < 1, got: {bad:.6}"
            )));
        }
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
