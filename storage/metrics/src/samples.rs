//! Columns of samples, and how two runs become one.

use std::ops::Range;
use std::sync::Arc;

use model::{Histogram, ResetHint, TimeRangeMs, TimestampMs};

use crate::starts;

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

/// Where two runs meet in the columns: so many floats and so many histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) floats: usize,
    pub(crate) histograms: usize,
}

impl Mark {
    /// Before everything.
    pub(crate) const START: Mark = Mark {
        floats: 0,
        histograms: 0,
    };
}

impl Samples {
    /// Empties it, keeping the buffers.
    pub fn clear(&mut self) {
        self.truncate(Mark::START);
    }

    /// Floats and histograms together.
    pub fn count(&self) -> usize {
        self.t.len() + self.histograms.t.len()
    }

    /// The end of what is there.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            floats: self.t.len(),
            histograms: self.histograms.t.len(),
        }
    }

    pub(crate) fn truncate(&mut self, mark: Mark) {
        self.t.truncate(mark.floats);
        self.v.truncate(mark.floats);
        self.start.truncate(mark.floats);
        self.histograms.truncate(mark.histograms);
    }

    /// Before the first samples at or after `t`; all must rise.
    pub(crate) fn mark_at(&self, t: i64) -> Mark {
        Mark {
            floats: self.t.partition_point(|&x| x < t),
            histograms: self.histograms.t.partition_point(|&x| x < t),
        }
    }

    /// Time of the last sample.
    pub(crate) fn last(&self) -> Option<i64> {
        self.t.last().max(self.histograms.t.last()).copied()
    }

    /// Appends the samples of `other` between two places.
    pub(crate) fn extend_from(&mut self, other: &Samples, from: Mark, to: Mark) {
        if let Some(start) = other.start.get(from.floats..to.floats) {
            self.start.resize(self.t.len(), 0);
            self.start.extend_from_slice(start);
        }
        self.t.extend_from_slice(&other.t[from.floats..to.floats]);
        self.v.extend_from_slice(&other.v[from.floats..to.floats]);
        self.pad_starts();
        for i in from.histograms..to.histograms {
            let list = &other.histograms;
            self.histograms.push(list.t[i], list.start_of(i), list.h[i].clone());
        }
    }

    /// Puts a float at its place by time.
    pub(crate) fn insert(&mut self, t: i64, v: f64, start: i64) {
        let at = self.t.partition_point(|&other| other < t);
        if start != 0 || !self.start.is_empty() {
            self.start.resize(self.t.len(), 0);
            self.start.insert(at, start);
        }
        self.t.insert(at, t);
        self.v.insert(at, v);
    }

    /// Makes the column of starts as long as the others, if there is one.
    pub(crate) fn pad_starts(&mut self) {
        starts::pad(&mut self.start, self.t.len());
    }

    /// Lets `append` add a rising run and keeps of it what lies in `range`; nothing if it fails.
    pub(crate) fn append_within(&mut self, range: TimeRangeMs, append: impl FnOnce(&mut Samples) -> bool) -> bool {
        let base = self.mark();
        if !append(self) {
            self.truncate(base);
            return false;
        }
        let (start, end) = inside(&self.t, base.floats, range);
        let (first, last) = inside(&self.histograms.t, base.histograms, range);
        self.truncate(Mark {
            floats: end,
            histograms: last,
        });
        self.t.drain(base.floats..start);
        self.v.drain(base.floats..start);
        if !self.start.is_empty() {
            self.start.drain(base.floats..start);
        }
        self.histograms.drain(base.histograms, first);
        true
    }

    /// Merges the run that begins at `second` into the one from `base` to `second`; at equal times the one that is
    /// there stays, whatever it is.
    pub(crate) fn merge_tail(&mut self, base: Mark, second: Mark) {
        let (floats, histograms) = (&self.t, &self.histograms.t);
        let mixed = floats.len() > base.floats && histograms.len() > base.histograms;
        if mixed && second != base {
            let known = histograms[base.histograms..second.histograms].to_vec();
            self.keep_floats(second.floats, |t| known.binary_search(&t).is_err());
            let known = self.t[base.floats..second.floats].to_vec();
            self.histograms
                .keep(second.histograms, |t| known.binary_search(&t).is_err());
        }
        self.merge_floats(base.floats, second.floats);
        self.histograms.merge(base.histograms, second.histograms);
    }

    fn merge_floats(&mut self, base: usize, second: usize) {
        if let Some((base, order)) = merge_order(&self.t, base, second) {
            self.reorder(base, &order);
        }
    }

    fn keep_floats(&mut self, from: usize, keep: impl Fn(i64) -> bool) {
        let order: Vec<usize> = (from..self.t.len()).filter(|&i| keep(self.t[i])).collect();
        if order.len() < self.t.len() - from {
            self.reorder(from, &order);
        }
    }

    fn reorder(&mut self, base: usize, order: &[usize]) {
        reorder(&mut self.t, base, order);
        reorder(&mut self.v, base, order);
        if !self.start.is_empty() {
            reorder(&mut self.start, base, order);
        }
    }

    /// Says of each histogram after `base` what is known against the one before: what storage cannot know ([unknown]),
    /// and never that a counter began anew.
    ///
    /// [unknown]: ResetHint::Unknown
    pub(crate) fn settle_hints(&mut self, base: Mark) {
        let floats = &self.t[base.floats..];
        let times = &self.histograms.t[base.histograms..];
        let list = &mut self.histograms.h[base.histograms..];
        for i in 0..list.len() {
            // A float ends the run of histograms before it.
            let after_float = i > 0 && !floats.is_empty() && {
                let next = floats.partition_point(|&t| t < times[i - 1]);
                floats.get(next).is_some_and(|&t| t < times[i])
            };
            let hint = match list[i].reset {
                ResetHint::NotReset if after_float => ResetHint::Unknown,
                ResetHint::Gauge | ResetHint::NotReset => continue,
                ResetHint::Reset => ResetHint::Unknown,
                ResetHint::Unknown if after_float => continue,
                ResetHint::Unknown => match i.checked_sub(1).map(|before| &list[before]) {
                    Some(before) if goes_on(before, &list[i]) => ResetHint::NotReset,
                    _ => continue,
                },
            };
            Arc::make_mut(&mut list[i]).reset = hint;
        }
    }
}

impl Histograms {
    pub(crate) fn push(&mut self, t: i64, start: i64, h: Arc<Histogram>) {
        self.t.push(t);
        self.h.push(h);
        if start != 0 || !self.start.is_empty() {
            self.start.resize(self.t.len() - 1, 0);
            self.start.push(start);
        }
    }

    /// Puts one at its place by time.
    pub(crate) fn insert(&mut self, t: i64, start: i64, h: Arc<Histogram>) {
        let at = self.t.partition_point(|&other| other < t);
        if start != 0 || !self.start.is_empty() {
            self.start.resize(self.t.len(), 0);
            self.start.insert(at, start);
        }
        self.t.insert(at, t);
        self.h.insert(at, h);
    }

    /// When the counting of the histogram at `i` began; 0: not known.
    pub(crate) fn start_of(&self, i: usize) -> i64 {
        self.start.get(i).copied().unwrap_or(0)
    }

    fn truncate(&mut self, len: usize) {
        self.t.truncate(len);
        self.h.truncate(len);
        self.start.truncate(len);
    }

    fn drain(&mut self, from: usize, to: usize) {
        self.t.drain(from..to);
        self.h.drain(from..to);
        if !self.start.is_empty() {
            self.start.drain(from..to);
        }
    }

    fn keep(&mut self, from: usize, keep: impl Fn(i64) -> bool) {
        let order: Vec<usize> = (from..self.t.len()).filter(|&i| keep(self.t[i])).collect();
        if order.len() < self.t.len() - from {
            self.reorder(from, &order);
            self.forget_hints(from..self.t.len());
        }
    }

    fn merge(&mut self, base: usize, second: usize) {
        match merge_order(&self.t, base, second) {
            Some((base, order)) => {
                self.reorder(base, &order);
                self.forget_hints(base..self.t.len());
            }
            // A run that was cut to a range begins amid a chunk: its first was compared with one that is not here.
            None if base < second && second < self.t.len() => self.forget_hints(second..second + 1),
            None => {}
        }
    }

    /// Another one may stand before each of these now.
    fn forget_hints(&mut self, range: Range<usize>) {
        for h in &mut self.h[range] {
            if h.reset == ResetHint::NotReset {
                Arc::make_mut(h).reset = ResetHint::Unknown;
            }
        }
    }

    fn reorder(&mut self, base: usize, order: &[usize]) {
        reorder(&mut self.t, base, order);
        reorder(&mut self.h, base, order);
        if !self.start.is_empty() {
            reorder(&mut self.start, base, order);
        }
    }
}

/// Whether `next` continues the counting of `before`: both counters of one shape, and nothing went down.
pub(crate) fn goes_on(before: &Histogram, next: &Histogram) -> bool {
    same_shape(before, next) && next.reset != ResetHint::Reset && !next.is_reset_after(before)
}

/// Whether two histograms may share a chunk, as far as their buckets' rule goes.
pub(crate) fn same_shape(a: &Histogram, b: &Histogram) -> bool {
    let gauge = |h: &Histogram| h.reset == ResetHint::Gauge;
    gauge(a) == gauge(b)
        && a.is_stale() == b.is_stale()
        && a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.bounds.len() == b.bounds.len()
        && a.bounds
            .iter()
            .zip(b.bounds.iter())
            .all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Places of the first time in `range`, and of the first one after it.
fn inside(t: &[i64], base: usize, range: TimeRangeMs) -> (usize, usize) {
    let end = base + t[base..].partition_point(|&t| TimestampMs(t) <= range.end);
    let start = base + t[base..end].partition_point(|&t| TimestampMs(t) < range.start);
    (start, end)
}

/// From where, and in which order, the runs `base..second` and `second..` become one; `None` if they are one already.
fn merge_order(t: &[i64], base: usize, second: usize) -> Option<(usize, Vec<usize>)> {
    if second == base || second == t.len() || t[second - 1] < t[second] {
        return None;
    }
    // Usually the second run begins near the end of the first.
    let base = base + t[base..second].partition_point(|&earlier| earlier < t[second]);
    let mut order = Vec::with_capacity(t.len() - base);
    let (mut a, mut b) = (base, second);
    while a < second || b < t.len() {
        if b == t.len() || (a < second && t[a] <= t[b]) {
            if b < t.len() && t[a] == t[b] {
                b += 1;
            }
            order.push(a);
            a += 1;
        } else {
            order.push(b);
            b += 1;
        }
    }
    Some((base, order))
}

fn reorder<T: Clone>(column: &mut Vec<T>, base: usize, order: &[usize]) {
    let tail: Vec<T> = order.iter().map(|&i| column[i].clone()).collect();
    column.truncate(base);
    column.extend(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(list: &[(i64, f64)]) -> Samples {
        let mut s = Samples::default();
        extend(&mut s, list);
        s
    }

    fn extend(s: &mut Samples, list: &[(i64, f64)]) {
        s.t.extend(list.iter().map(|s| s.0));
        s.v.extend(list.iter().map(|s| s.1));
    }

    fn at(floats: usize, histograms: usize) -> Mark {
        Mark { floats, histograms }
    }

    #[test]
    fn at_equal_times_the_first_run_wins() {
        let mut s = samples(&[(99, 0.0), (1, 1.0), (3, 1.0), (5, 1.0), (2, 2.0), (3, 2.0), (9, 2.0)]);
        s.merge_tail(at(1, 0), at(4, 0));
        assert_eq!(
            s,
            samples(&[(99, 0.0), (1, 1.0), (2, 2.0), (3, 1.0), (5, 1.0), (9, 2.0)])
        );
        s.merge_tail(at(1, 0), at(6, 0));
        s.merge_tail(at(1, 0), at(1, 0));
        assert_eq!(s.t.len(), 6);
    }

    #[test]
    fn of_a_float_and_a_histogram_at_one_time_the_first_wins() {
        let mut s = samples(&[(1, 1.0), (2, 1.0)]);
        let stale = Arc::new(Histogram::stale());
        s.histograms.push(4, 0, stale.clone());
        let second = s.mark();
        extend(&mut s, &[(3, 2.0), (4, 2.0)]);
        s.histograms.push(2, 7, stale);
        s.merge_tail(at(0, 0), second);
        assert_eq!(s.t, [1, 2, 3]);
        assert_eq!(s.histograms.t, [4]);
    }

    /// A hint is about the histogram before; when that is another one than it was, it says nothing.
    #[test]
    fn no_hint_outlives_the_neighbour_it_is_about() {
        use ResetHint::{NotReset, Unknown};
        let push = |s: &mut Samples, t: i64, count: f64, reset| {
            let (sum, stale) = (1.0, Histogram::stale());
            let h = Histogram {
                reset,
                count,
                sum,
                ..stale
            };
            s.histograms.push(t, 0, Arc::new(h));
        };
        let hints = |s: &mut Samples, second: Mark| {
            s.merge_tail(at(0, 0), second);
            s.settle_hints(at(0, 0));
            s.histograms.h.iter().map(|h| h.reset).collect::<Vec<_>>()
        };
        // The second run was cut: its first followed another one.
        let mut s = Samples::default();
        push(&mut s, 1, 9.0, Unknown);
        let second = s.mark();
        push(&mut s, 2, 6.0, NotReset);
        push(&mut s, 3, 7.0, NotReset);
        assert_eq!(hints(&mut s, second), [Unknown, Unknown, NotReset]);

        // The one between was not stored first.
        let mut s = samples(&[(3, 0.0)]);
        push(&mut s, 1, 5.0, Unknown);
        let second = s.mark();
        push(&mut s, 2, 4.0, Unknown);
        push(&mut s, 3, 1.0, Unknown);
        push(&mut s, 4, 2.0, NotReset);
        push(&mut s, 5, 3.0, NotReset);
        assert_eq!(hints(&mut s, second), [Unknown, Unknown, Unknown, NotReset]);
        assert_eq!(s.histograms.t, [1, 2, 4, 5]);
    }

    #[test]
    fn a_run_is_cut_to_the_range_on_both_sides() {
        let mut s = samples(&[(7, 0.0)]);
        let range = TimeRangeMs {
            start: TimestampMs(2),
            end: TimestampMs(4),
        };
        s.append_within(range, |s| {
            extend(s, &[(1, 1.0), (2, 2.0), (4, 4.0), (5, 5.0)]);
            s.start = vec![0, 10, 20, 40, 50];
            true
        });
        assert_eq!(
            (&s.t[..], &s.v[..], &s.start[..]),
            (&[7, 2, 4][..], &[0.0, 2.0, 4.0][..], &[0, 20, 40][..])
        );
    }
}
