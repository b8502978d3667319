//! What slides over unwrapped samples: one accumulator per range aggregation.
//!
//! Sums, extremes and moments use two stacks, so that leaving needs no subtraction: nothing cancels, infinities and NaN
//! leave as they came, and each sample is touched a constant number of times.

use std::collections::VecDeque;

use query_exec::{Accumulate, Cells, Grid, quantile_of_sorted, slide};

use crate::syntax::RangeOp;

/// The aggregation of samples (`t` rising, ns) on every step.
pub(crate) fn aggregate(
    op: RangeOp,
    parameter: f64,
    grid: &Grid,
    offset_ns: i64,
    range_ns: i64,
    t: &[i64],
    v: &[f64],
) -> Cells {
    let seconds = range_ns as f64 / 1e9;
    let run = |accumulator: &mut dyn Accumulate| slide(grid, offset_ns, range_ns, t, v, &mut Dynamic(accumulator));
    match op {
        RangeOp::Sum => run(&mut Stacks::new(|m: Moments| m.sum)),
        RangeOp::Rate => run(&mut Stacks::new(|m: Moments| m.sum / seconds)),
        RangeOp::Avg => run(&mut Stacks::new(|m: Moments| m.sum / m.count)),
        RangeOp::Stdvar => run(&mut Stacks::new(|m: Moments| m.squares / m.count)),
        RangeOp::Stddev => run(&mut Stacks::new(|m: Moments| (m.squares / m.count).sqrt())),
        RangeOp::Min => run(&mut Stacks::new(|m: Least| m.0)),
        RangeOp::Max => run(&mut Stacks::new(|m: Most| m.0)),
        RangeOp::First => run(&mut Ends {
            values: VecDeque::new(),
            last: false,
        }),
        RangeOp::Last => run(&mut Ends {
            values: VecDeque::new(),
            last: true,
        }),
        RangeOp::Quantile => run(&mut Ranked {
            phi: parameter,
            sorted: Vec::new(),
        }),
        RangeOp::RateCounter => run(&mut Counter {
            range_ns,
            samples: VecDeque::new(),
            resets: Stacks::new(|m: Moments| m.sum),
        }),
        RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Absent => {
            run(&mut Stacks::new(|m: Moments| m.count))
        }
    }
}

struct Dynamic<'a>(&'a mut dyn Accumulate);

impl Accumulate for Dynamic<'_> {
    fn enter(&mut self, t: i64, v: f64) {
        self.0.enter(t, v);
    }
    fn leave(&mut self, t: i64, v: f64) {
        self.0.leave(t, v);
    }
    fn read(&mut self, at: i64) -> Option<f64> {
        self.0.read(at)
    }
}

/// Something that samples combine into.
trait Combine: Copy {
    fn of(v: f64) -> Self;
    /// This, then what came later.
    fn then(self, later: Self) -> Self;
}

/// A queue as two stacks: leaving pops precomputed suffixes.
struct Stacks<M, F> {
    /// Combination of each sample with all that entered after it, up to the turn; the oldest is last.
    old: Vec<M>,
    new: Vec<f64>,
    new_all: Option<M>,
    show: F,
}

impl<M: Combine, F: Fn(M) -> f64> Stacks<M, F> {
    fn new(show: F) -> Stacks<M, F> {
        Stacks {
            old: Vec::new(),
            new: Vec::new(),
            new_all: None,
            show,
        }
    }

    fn push(&mut self, v: f64) {
        self.new.push(v);
        let one = M::of(v);
        self.new_all = Some(self.new_all.map_or(one, |all| all.then(one)));
    }

    fn pop(&mut self) {
        if self.old.is_empty() {
            let mut suffix: Option<M> = None;
            while let Some(v) = self.new.pop() {
                let one = M::of(v);
                let all = suffix.map_or(one, |later| one.then(later));
                self.old.push(all);
                suffix = Some(all);
            }
            self.new_all = None;
        }
        self.old.pop();
    }

    fn all(&self) -> Option<f64> {
        let all = match (self.old.last(), self.new_all) {
            (Some(old), Some(new)) => old.then(new),
            (Some(old), None) => *old,
            (None, Some(new)) => new,
            (None, None) => return None,
        };
        Some((self.show)(all))
    }
}

impl<M: Combine, F: Fn(M) -> f64> Accumulate for Stacks<M, F> {
    fn enter(&mut self, _: i64, v: f64) {
        self.push(v);
    }
    fn leave(&mut self, _: i64, _: f64) {
        self.pop();
    }
    fn read(&mut self, _: i64) -> Option<f64> {
        self.all()
    }
}

/// Count, sum, and sum of squared distances from the mean.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Combine for Moments {
    fn of(v: f64) -> Moments {
        Moments {
            count: 1.0,
            sum: v,
            squares: if v.is_finite() { 0.0 } else { f64::NAN },
        }
    }
    fn then(self, later: Moments) -> Moments {
        let count = self.count + later.count;
        let apart = later.sum / later.count - self.sum / self.count;
        Moments {
            count,
            sum: self.sum + later.sum,
            squares: self.squares + later.squares + apart * apart * self.count * later.count / count,
        }
    }
}

/// The smallest; NaN only if all are.
#[derive(Clone, Copy)]
struct Least(f64);

impl Combine for Least {
    fn of(v: f64) -> Least {
        Least(v)
    }
    fn then(self, later: Least) -> Least {
        Least(self.0.min(later.0))
    }
}

/// The largest; NaN only if all are.
#[derive(Clone, Copy)]
struct Most(f64);

impl Combine for Most {
    fn of(v: f64) -> Most {
        Most(v)
    }
    fn then(self, later: Most) -> Most {
        Most(self.0.max(later.0))
    }
}

struct Ends {
    values: VecDeque<f64>,
    last: bool,
}

impl Accumulate for Ends {
    fn enter(&mut self, _: i64, v: f64) {
        self.values.push_back(v);
    }
    fn leave(&mut self, _: i64, _: f64) {
        self.values.pop_front();
    }
    fn read(&mut self, _: i64) -> Option<f64> {
        if self.last {
            self.values.back().copied()
        } else {
            self.values.front().copied()
        }
    }
}

/// Samples in order, NaN lowest.
struct Ranked {
    phi: f64,
    sorted: Vec<f64>,
}

impl Ranked {
    fn place(&self, v: f64) -> usize {
        let below = |w: f64| match (w.is_nan(), v.is_nan()) {
            (true, is_nan) => !is_nan,
            (false, true) => false,
            (false, false) => w < v,
        };
        self.sorted.partition_point(|w| below(*w))
    }
}

impl Accumulate for Ranked {
    fn enter(&mut self, _: i64, v: f64) {
        self.sorted.insert(self.place(v), v);
    }
    fn leave(&mut self, _: i64, v: f64) {
        let place = self.place(v);
        if place < self.sorted.len() {
            self.sorted.remove(place);
        }
    }
    fn read(&mut self, _: i64) -> Option<f64> {
        Some(quantile_of_sorted(self.phi, &self.sorted))
    }
}

/// A counter's rate: its increase with resets undone, extrapolated to the ends of the window.
struct Counter<F> {
    range_ns: i64,
    samples: VecDeque<(i64, f64)>,
    /// For each neighbouring pair what a reset lost: the value before it, else 0.
    resets: Stacks<Moments, F>,
}

impl<F: Fn(Moments) -> f64> Accumulate for Counter<F> {
    fn enter(&mut self, t: i64, v: f64) {
        if let Some((_, before)) = self.samples.back() {
            self.resets.push(if v < *before { *before } else { 0.0 });
        }
        self.samples.push_back((t, v));
    }
    fn leave(&mut self, _: i64, _: f64) {
        self.samples.pop_front();
        if !self.samples.is_empty() {
            self.resets.pop();
        } else {
            self.resets.old.clear();
            self.resets.new.clear();
            self.resets.new_all = None;
        }
    }
    fn read(&mut self, at: i64) -> Option<f64> {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return None;
        };
        if self.samples.len() < 2 {
            return Some(0.0);
        }
        let increase = last.1 - first.1 + self.resets.all().unwrap_or(0.0);
        let seconds = |ns: i64| ns as f64 / 1e9;
        let range = seconds(self.range_ns);
        let sampled = seconds(last.0 - first.0);
        let mut to_start = range - seconds(at - first.0);
        let mut to_end = seconds(at - last.0);
        let between = sampled / (self.samples.len() - 1) as f64;
        // Where the samples end far from the window's end, half a distance is all that is assumed.
        let far = between * 1.1;
        if to_start >= far {
            to_start = between / 2.0;
        }
        // A counter does not begin below zero.
        if increase > 0.0 && first.1 >= 0.0 {
            to_start = to_start.min(sampled * (first.1 / increase));
        }
        if to_end >= far {
            to_end = between / 2.0;
        }
        if sampled == 0.0 {
            return Some(0.0);
        }
        Some(increase * ((sampled + to_start + to_end) / sampled) / range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(op: RangeOp, parameter: f64, samples: &[(i64, f64)], want: f64) {
        let t: Vec<i64> = samples.iter().map(|s| s.0 * 1_000_000_000).collect();
        let v: Vec<f64> = samples.iter().map(|s| s.1).collect();
        let grid = Grid::instant(60_000_000_000);
        let cells = aggregate(op, parameter, &grid, 0, 60_000_000_000, &t, &v);
        let got = cells.get(0).unwrap();
        assert!(got == want || got.is_nan() && want.is_nan(), "{op:?}: {got} {want}");
    }

    #[test]
    fn each_aggregation() {
        let s = [(10, 1.0), (20, 5.0), (30, 3.0)];
        check(RangeOp::Sum, 0.0, &s, 9.0);
        check(RangeOp::Rate, 0.0, &s, 9.0 / 60.0);
        check(RangeOp::Avg, 0.0, &s, 3.0);
        check(RangeOp::Stdvar, 0.0, &s, 8.0 / 3.0);
        check(RangeOp::Min, 0.0, &s, 1.0);
        check(RangeOp::Max, 0.0, &s, 5.0);
        check(RangeOp::First, 0.0, &s, 1.0);
        check(RangeOp::Last, 0.0, &s, 3.0);
        check(RangeOp::Quantile, 0.5, &s, 3.0);
        check(RangeOp::Quantile, 1.5, &s, f64::INFINITY);
        check(RangeOp::Min, 0.0, &[(1, f64::NAN), (2, 7.0)], 7.0);
        check(RangeOp::Max, 0.0, &[(1, f64::NAN), (2, f64::NAN)], f64::NAN);
        check(RangeOp::RateCounter, 0.0, &[(30, 100.0), (60, 130.0)], 1.0);
        check(RangeOp::RateCounter, 0.0, &[(30, 100.0)], 0.0);
    }

    proptest! {
        /// Sliding must give what each window gives alone, since samples leave without a trace.
        #[test]
        fn sliding_is_the_same_as_starting_afresh(
            samples in proptest::collection::vec((0i64..100, -5i32..20), 1..40),
            range in 1i64..40,
            step in 1i64..20,
        ) {
            let mut samples = samples;
            samples.sort_by_key(|s| s.0);
            let t: Vec<i64> = samples.iter().map(|s| s.0).collect();
            let v: Vec<f64> = samples.iter().map(|s| f64::from(s.1)).collect();
            let grid = Grid::range(0, 120, step);
            for op in [RangeOp::Sum, RangeOp::Avg, RangeOp::Stddev, RangeOp::Min, RangeOp::Max, RangeOp::First,
                RangeOp::Last, RangeOp::Quantile, RangeOp::RateCounter] {
                let all = aggregate(op, 0.3, &grid, 3, range, &t, &v);
                for (i, at) in grid.iter().enumerate() {
                    let alone = aggregate(op, 0.3, &Grid::instant(at), 3, range, &t, &v).get(0);
                    match (all.get(i), alone) {
                        (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{:?} {} {}", op, a, b),
                        (a, b) => prop_assert_eq!(a, b),
                    }
                }
            }
        }
    }
}
