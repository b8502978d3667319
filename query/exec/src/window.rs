//! Windows that slide over time-ordered events, so that each event is touched once and not once per step.

use crate::{Cells, Grid};

/// Something that slides over time-ordered events: [`slide`] lets events enter at the front and leave at the back.
pub trait Accumulate {
    /// An event `(t, v)` enters the window.
    fn enter(&mut self, t: i64, v: f64);
    /// The oldest event leaves it.
    fn leave(&mut self, t: i64, v: f64);
    /// The value of the window that ends at `at`; `None` for no result.
    fn read(&mut self, at: i64) -> Option<f64>;
}

/// For each step `s` of the grid, the window is `(s - offset - range, s - offset]` over events rising by time (`t`, `v`
/// of equal length). Each event enters and leaves at most once; events between two windows are left out. An empty window
/// gives an absent cell without asking.
pub fn slide(grid: &Grid, offset: i64, range: i64, t: &[i64], v: &[f64], accumulator: &mut impl Accumulate) -> Cells {
    let mut cells = Cells::absent(grid.len());
    let n = t.len().min(v.len());
    // Events low..high are in the window.
    let (mut low, mut high) = (0, 0);
    for (i, s) in grid.iter().enumerate() {
        let end = s.saturating_sub(offset);
        let start = end.saturating_sub(range);
        while low < high && t[low] <= start {
            accumulator.leave(t[low], v[low]);
            low += 1;
        }
        while high < n && t[high] <= end {
            if t[high] > start {
                accumulator.enter(t[high], v[high]);
            } else {
                low = high + 1;
            }
            high += 1;
        }
        if low < high
            && let Some(value) = accumulator.read(end)
        {
            cells.set(i, value);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct CountAndSum {
        inside: std::collections::VecDeque<(i64, f64)>,
    }

    impl Accumulate for CountAndSum {
        fn enter(&mut self, t: i64, v: f64) {
            self.inside.push_back((t, v));
        }
        fn leave(&mut self, t: i64, v: f64) {
            assert_eq!(self.inside.pop_front(), Some((t, v)), "the oldest leaves first");
        }
        fn read(&mut self, _: i64) -> Option<f64> {
            Some(self.inside.iter().map(|(_, v)| v).sum::<f64>() * 100.0 + self.inside.len() as f64)
        }
    }

    proptest! {
        /// Sliding must see what a fresh look at every window sees; that is its only excuse for being clever.
        #[test]
        fn sliding_equals_a_fresh_look(
            mut t in proptest::collection::vec(0i64..200, 0..60),
            start in 0i64..50, len in 1i64..40, step in 1i64..30, range in 1i64..60, offset in -40i64..40,
        ) {
            t.sort_unstable();
            t.dedup();
            let v: Vec<f64> = t.iter().map(|t| (t % 7) as f64).collect();
            let grid = Grid::range(start, start + step * (len - 1), step);
            let slid = slide(&grid, offset, range, &t, &v, &mut CountAndSum::default());
            for (i, s) in grid.iter().enumerate() {
                let inside: Vec<f64> = t.iter().zip(&v)
                    .filter(|(t, _)| **t > s - offset - range && **t <= s - offset).map(|(_, v)| *v).collect();
                let want = (!inside.is_empty()).then(|| inside.iter().sum::<f64>() * 100.0 + inside.len() as f64);
                prop_assert_eq!(slid.get(i), want);
            }
        }
    }
}
