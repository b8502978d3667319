//! How many samples a query looks at, as `stats` tells it: counted only when somebody asks.
//!
//! A window's samples count at every step that sees them (queryable), and once as read. What a subquery makes is looked
//! at by the windows over it; what it is made of is only read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::Histogram;
use query_exec::{Cells, Grid};
use storage_metrics::Samples;

use crate::plan::Moment;

/// Samples that were looked at. A histogram counts as several: one for each 16 bytes it takes in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleCounts {
    /// Over all steps.
    pub queryable: u64,
    /// Read from the store.
    pub read: u64,
}

/// Counts while a query runs, from any thread.
#[derive(Default)]
pub(crate) struct Counter {
    queryable: AtomicU64,
    read: AtomicU64,
}

impl Counter {
    /// One sample at each step that has one.
    pub(crate) fn cells(&self, cells: &Cells) {
        let floats = cells.iter().count() as u64;
        let all = floats + cells.histograms().map(|(_, h)| parts_of(h)).sum::<u64>();
        self.queryable.fetch_add(all, Relaxed);
        self.read.fetch_add(all, Relaxed);
    }

    /// The samples in each window of `range_ms`; from the store, or made by a subquery.
    pub(crate) fn windows(&self, samples: &Samples, shift: &Moment, range_ms: i64, grid: Grid, stored: bool) {
        let mut parts: Vec<u64> = Vec::with_capacity(samples.histograms.h.len() + 1);
        parts.push(0);
        for h in &samples.histograms.h {
            parts.push(parts.last().copied().unwrap_or(0) + parts_of(h));
        }
        let (mut queryable, mut read) = (0, 0);
        let (mut floats_done, mut histograms_done) = (0, 0);
        for at in grid.iter() {
            let end = shift.of(at);
            let start = end.saturating_sub(range_ms);
            let within = |t: &[i64]| (t.partition_point(|t| *t <= start), t.partition_point(|t| *t <= end));
            let (first, last) = within(&samples.t);
            queryable += (last - first) as u64;
            read += last.saturating_sub(first.max(floats_done)) as u64;
            floats_done = floats_done.max(last);
            let (first, last) = within(&samples.histograms.t);
            queryable += parts[last] - parts[first];
            read += parts[last].saturating_sub(parts[first.max(histograms_done).min(last)]);
            histograms_done = histograms_done.max(last);
        }
        self.queryable.fetch_add(queryable, Relaxed);
        if stored {
            self.read.fetch_add(read, Relaxed);
        }
    }

    /// What has been looked at so far.
    pub(crate) fn queryable(&self) -> u64 {
        self.queryable.load(Relaxed)
    }

    /// What was looked at since there were `before` counts `times` times: once for each step, or not at all.
    pub(crate) fn repeat_since(&self, before: u64, times: u64) {
        let since = self.queryable().saturating_sub(before);
        self.queryable
            .store(before.saturating_add(since.saturating_mul(times)), Relaxed);
    }

    pub(crate) fn counts(&self) -> SampleCounts {
        SampleCounts {
            queryable: self.queryable(),
            read: self.read.load(Relaxed),
        }
    }
}

fn parts_of(h: &Arc<Histogram>) -> u64 {
    let sides = [&h.positive, &h.negative].into_iter();
    let words: usize = sides.map(|side| side.spans.len() + side.counts.len()).sum();
    (176 + 8 * (words + h.bounds.len()) as u64) / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_overlap_read_once() {
        let samples = Samples {
            t: (0..10).map(|i| i * 10).collect(),
            v: vec![1.0; 10],
            ..Samples::default()
        };
        for (step, range_ms, queryable, read) in [(10, 30, 9, 5), (30, 20, 6, 6), (30, 30, 9, 9), (30, 1000, 18, 9)] {
            let counter = Counter::default();
            let grid = Grid::range(20, 20 + 2 * step, step);
            counter.windows(&samples, &Moment::default(), range_ms, grid, true);
            assert_eq!(counter.counts(), SampleCounts { queryable, read }, "{step} {range_ms}");
        }
    }

    #[test]
    fn what_is_repeated_counts_at_every_step() {
        let counter = Counter::default();
        let mut cells = Cells::absent(4);
        cells.set(1, 5.0);
        counter.cells(&cells);
        let before = counter.queryable();
        counter.cells(&cells);
        counter.repeat_since(before, 3);
        assert_eq!(counter.counts(), SampleCounts { queryable: 4, read: 2 });
    }
}
