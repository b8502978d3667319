//! Columns of samples, and how two runs become one.

use std::sync::Arc;

use model::{Histogram, TimeRangeMs, TimestampMs};

/// Samples in columns, rising by time, one per time: floats, and native histograms beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Times of the floats, ms.
    pub t: Vec<i64>,
    /// Values; staleness markers included.
    pub v: Vec<f64>,
    /// When the counting began, ms, 0: not known. Empty if it is known of none, else as long as `t`.
    pub start: Vec<i64>,
    /// The histograms; no time is in `t` as well.
    pub histograms: Histograms,
}

/// Native histograms in columns, rising by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histograms {
    /// Times, ms.
    pub t: Vec<i64>,
    /// Values; staleness markers included. The reset hint says what is known against the one before.
    pub h: Vec<Arc<Histogram>>,
    /// As [`Samples::start`].
    pub start: Vec<i64>,
}

impl Samples {
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.t.truncate(len);
        self.v.truncate(len);
    }

    pub(crate) fn extend(&mut self, samples: &[(i64, f64)]) {
        self.t.extend(samples.iter().map(|s| s.0));
        self.v.extend(samples.iter().map(|s| s.1));
    }

    /// Lets `append` add a rising run and keeps of it what lies in `range`; nothing if it fails.
    pub(crate) fn append_within(&mut self, range: TimeRangeMs, append: impl FnOnce(&mut Samples) -> bool) -> bool {
        let base = self.t.len();
        if !append(self) {
            self.truncate(base);
            return false;
        }
        let end = base + self.t[base..].partition_point(|&t| TimestampMs(t) <= range.end);
        self.truncate(end);
        let start = base + self.t[base..].partition_point(|&t| TimestampMs(t) < range.start);
        self.t.drain(base..start);
        self.v.drain(base..start);
        true
    }

    /// Merges a second rising run into the run that begins at `base`; at equal times the one that is there stays.
    pub(crate) fn merge_from(&mut self, base: usize, run: impl Iterator<Item = (i64, f64)>) {
        let mut run = run.peekable();
        let Some(&(first, _)) = run.peek() else {
            return;
        };
        // Usually the second run begins after the first, or near its end.
        let keep = base + self.t[base..].partition_point(|&t| t < first);
        let (t, v) = (self.t.split_off(keep), self.v.split_off(keep));
        let mut tail = t.into_iter().zip(v).peekable();
        loop {
            let (t, v) = match (tail.peek(), run.peek()) {
                (Some(a), Some(b)) if b.0 < a.0 => *b,
                (Some(a), _) => *a,
                (None, Some(b)) => *b,
                (None, None) => return,
            };
            self.t.push(t);
            self.v.push(v);
            while tail.next_if(|s| s.0 <= t).is_some() {}
            while run.next_if(|s| s.0 <= t).is_some() {}
        }
    }

    /// Merges the run that begins at `second` into the one from `base` to `second`.
    pub(crate) fn merge_tail(&mut self, base: usize, second: usize) {
        let first_is_before = second == base || second == self.t.len() || self.t[second - 1] < self.t[second];
        if first_is_before {
            return;
        }
        let (t, v) = (self.t.split_off(second), self.v.split_off(second));
        self.merge_from(base, t.into_iter().zip(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(list: &[(i64, f64)]) -> Samples {
        let mut s = Samples::default();
        s.extend(list);
        s
    }

    #[test]
    fn at_equal_times_the_first_run_wins() {
        let mut s = samples(&[(99, 0.0), (1, 1.0), (3, 1.0), (5, 1.0), (2, 2.0), (3, 2.0), (9, 2.0)]);
        s.merge_tail(1, 4);
        assert_eq!(
            s,
            samples(&[(99, 0.0), (1, 1.0), (2, 2.0), (3, 1.0), (5, 1.0), (9, 2.0)])
        );
        s.merge_tail(1, 6);
        s.merge_tail(1, 1);
        assert_eq!(s.t.len(), 6);
    }

    #[test]
    fn a_run_is_cut_to_the_range_on_both_sides() {
        let mut s = samples(&[(7, 0.0)]);
        let range = TimeRangeMs {
            start: TimestampMs(2),
            end: TimestampMs(4),
        };
        s.append_within(range, |s| {
            s.extend(&[(1, 1.0), (2, 2.0), (4, 4.0), (5, 5.0)]);
            true
        });
        assert_eq!(s, samples(&[(7, 0.0), (2, 2.0), (4, 4.0)]));
    }
}
