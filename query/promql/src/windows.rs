//! The windows of one series: at each step, the samples in `(end - range, end]`.

use query_exec::{Accumulate, Cells, Grid, slide};

use crate::plan::Moment;

/// One series' samples and the windows over them. No sample is a staleness marker.
pub(crate) struct Windows<'a> {
    pub(crate) grid: &'a Grid,
    pub(crate) shift: Moment,
    pub(crate) range_ms: i64,
    pub(crate) t: &'a [i64],
    pub(crate) v: &'a [f64],
}

/// The window of one step; never empty.
pub(crate) struct Window<'a> {
    /// Which step, and its time.
    pub(crate) step: usize,
    pub(crate) at: i64,
    /// The window's ends (the start is outside).
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The place of its first sample in the series.
    pub(crate) first: usize,
    pub(crate) t: &'a [i64],
    pub(crate) v: &'a [f64],
}

impl<'a> Windows<'a> {
    /// Looks at each window that is not empty, in order of time.
    pub(crate) fn each(&self, mut look: impl FnMut(&Window<'a>) -> Option<f64>) -> Cells {
        let mut cells = Cells::absent(self.grid.len());
        let (mut low, mut high) = (0, 0);
        for (step, at) in self.grid.iter().enumerate() {
            let end = self.shift.of(at);
            let start = end.saturating_sub(self.range_ms);
            // Windows only move forward, so both ends do.
            while high < self.t.len() && self.t[high] <= end {
                high += 1;
            }
            while low < high && self.t[low] <= start {
                low += 1;
            }
            if low < high {
                let window = Window {
                    step,
                    at,
                    start,
                    end,
                    first: low,
                    t: &self.t[low..high],
                    v: &self.v[low..high],
                };
                if let Some(v) = look(&window) {
                    cells.set(step, v);
                }
            }
        }
        cells
    }

    /// Lets samples enter and leave an accumulator.
    pub(crate) fn slide(&self, accumulator: &mut impl Accumulate) -> Cells {
        match self.shift.at {
            None => slide(
                self.grid,
                self.shift.offset_ms,
                self.range_ms,
                self.t,
                self.v,
                accumulator,
            ),
            // One window for all steps.
            Some(at) => {
                let one = Grid::instant(at);
                let cell = slide(&one, self.shift.offset_ms, self.range_ms, self.t, self.v, accumulator).get(0);
                match cell {
                    Some(v) => Cells::full(vec![v; self.grid.len()]),
                    None => Cells::absent(self.grid.len()),
                }
            }
        }
    }
}
