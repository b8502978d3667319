//! Windows that move forward over a column of values: what is known of the part that stays is not computed again.
//!
//! [`Sliding`] keeps a joined value (a sum, a spread). It never takes a value out of a sum, which would leave the
//! rounding error of every value that ever passed: the older values of the window are kept as joins of each with all
//! that follow, so that leaving is forgetting; the newer ones as one join. When the older part is used up the newer one
//! becomes it. Each value is joined twice in its life, however long the window is.
//!
//! [`Sorted`] keeps the values of the window in order, for quantiles.

use crate::Compensated;

/// Values that can be joined in order of time.
pub trait Join: Copy {
    /// Of one value.
    fn of(v: f64) -> Self;
    /// Joins what follows.
    fn join(&mut self, later: &Self);
}

/// The join of a window of a column.
#[derive(Debug)]
pub struct Sliding<T> {
    high: usize,
    /// The join of each older value with the older ones after it; the oldest is last.
    older: Vec<T>,
    newer: Option<T>,
    /// Where the newer part begins.
    middle: usize,
}

impl<T: Join> Default for Sliding<T> {
    fn default() -> Self {
        Sliding {
            high: 0,
            older: Vec::new(),
            newer: None,
            middle: 0,
        }
    }
}

impl<T: Join> Sliding<T> {
    /// The join of `v[low..high]`. Neither end may be before that of the call before; `None` of nothing.
    pub fn at(&mut self, v: &[f64], low: usize, high: usize) -> Option<T> {
        if low >= self.high {
            self.older.clear();
            self.newer = None;
            (self.middle, self.high) = (low, low);
        }
        for v in &v[self.high..high] {
            let one = T::of(*v);
            match &mut self.newer {
                Some(newer) => newer.join(&one),
                slot => *slot = Some(one),
            }
        }
        self.high = high;
        if low > self.middle {
            self.older.clear();
            let mut all: Option<T> = None;
            for v in v[low..high].iter().rev() {
                let mut one = T::of(*v);
                if let Some(all) = &all {
                    one.join(all);
                }
                self.older.push(one);
                all = Some(one);
            }
            (self.middle, self.newer) = (high, None);
        } else {
            self.older.truncate(self.middle - low);
        }
        match (self.older.last(), &self.newer) {
            (Some(older), Some(newer)) => {
                let mut all = *older;
                all.join(newer);
                Some(all)
            }
            (Some(one), None) | (None, Some(one)) => Some(*one),
            (None, None) => None,
        }
    }
}

impl Join for Compensated {
    fn of(v: f64) -> Compensated {
        Compensated::starting_with(v)
    }
    fn join(&mut self, later: &Compensated) {
        Compensated::join(self, later);
    }
}

/// How many values, their mean, and their squared distances from it.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    count: f64,
    mean: Compensated,
    squares: Compensated,
}

impl Spread {
    /// Population variance.
    pub fn variance(&self) -> f64 {
        self.squares.total() / self.count
    }
}

impl Join for Spread {
    fn of(v: f64) -> Spread {
        let mean = Compensated::starting_with(v);
        // Infinite input has no spread, even alone.
        let squares = Compensated::starting_with(if v.is_finite() { 0.0 } else { f64::NAN });
        Spread {
            count: 1.0,
            mean,
            squares,
        }
    }
    fn join(&mut self, later: &Spread) {
        let count = self.count + later.count;
        let delta = later.mean.minus(&self.mean);
        self.mean.add(delta * (later.count / count));
        self.squares.join(&later.squares);
        self.squares.add(delta * delta * (self.count * later.count / count));
        self.count = count;
    }
}

/// The values of a window of a column in order, NaN lowest.
#[derive(Debug, Default)]
pub struct Sorted {
    low: usize,
    high: usize,
    values: Vec<f64>,
}

impl Sorted {
    /// `v[low..high]` in order. Neither end may be before that of the call before.
    pub fn at(&mut self, v: &[f64], low: usize, high: usize) -> &[f64] {
        let moved = (low - self.low).saturating_add(high - self.high);
        // Moving a value costs a search and a shift; sorting a window anew costs a little more per value.
        if low >= self.high || moved * 4 > high - low {
            self.values.clear();
            self.values.extend_from_slice(&v[low..high]);
            self.values.sort_unstable_by(nan_lowest);
        } else {
            for v in &v[self.low..low] {
                if let Ok(at) = self.values.binary_search_by(|x| nan_lowest(x, v)) {
                    self.values.remove(at);
                }
            }
            for v in &v[self.high..high] {
                let at = self.values.partition_point(|x| nan_lowest(x, v).is_lt());
                self.values.insert(at, *v);
            }
        }
        (self.low, self.high) = (low, high);
        &self.values
    }
}

fn nan_lowest(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mean;
    use proptest::prelude::*;

    /// Windows over a column of `n`, moving forward.
    fn windows(n: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
        proptest::collection::vec((0..n, 0..n), 1..30).prop_map(move |moves| {
            let (mut low, mut high) = (0, 0);
            let mut out = Vec::new();
            for (a, b) in moves {
                low = (low + a / 4).min(n);
                high = (high + b / 4).clamp(low, n);
                out.push((low, high));
            }
            out
        })
    }

    fn close(a: f64, b: f64, scale: f64) -> bool {
        (a - b).abs() <= 1e-12 * scale.abs().max(b.abs()) || (a.is_nan() && b.is_nan()) || a == b
    }

    proptest! {
        /// Sliding must see what a fresh look at every window sees; that is its only excuse for being clever. Values of
        /// very different sizes pass through, because what leaves must leave nothing behind.
        #[test]
        fn sliding_equals_a_fresh_look(
            v in proptest::collection::vec(prop_oneof![8 => -1e3f64..1e3, 1 => Just(1e18), 1 => Just(-3e17)], 60),
            windows in windows(60),
        ) {
            let (mut sums, mut spreads, mut sorted) = (Sliding::default(), Sliding::default(), Sorted::default());
            for (low, high) in windows {
                let window = &v[low..high];
                let sum: Option<Compensated> = sums.at(&v, low, high);
                let spread: Option<Spread> = spreads.at(&v, low, high);
                prop_assert_eq!(sum.is_some(), !window.is_empty());
                let mut in_order = window.to_vec();
                in_order.sort_by(f64::total_cmp);
                prop_assert_eq!(sorted.at(&v, low, high), &in_order[..]);
                let (Some(sum), Some(spread)) = (sum, spread) else { continue };
                let mut fresh = Compensated::default();
                window.iter().for_each(|v| fresh.add(*v));
                let largest = window.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                prop_assert!(close(sum.total(), fresh.total(), largest * 1e-15), "{:?} {}", window, sum.total());
                let mut mean = Mean::default();
                window.iter().for_each(|v| mean.add(*v));
                let squares: f64 = window.iter().map(|v| (v - mean.value()).powi(2)).sum();
                let variance = squares / window.len() as f64;
                prop_assert!(close(spread.variance(), variance, variance), "{:?} {}", window, spread.variance());
            }
        }
    }

    #[test]
    fn nothing_finite_comes_of_infinite_values() {
        let v = [1.0, f64::INFINITY, 2.0, 3.0];
        let mut spreads: Sliding<Spread> = Sliding::default();
        let variance = |s: Option<Spread>| s.map(|s| s.variance());
        assert!(variance(spreads.at(&v, 0, 2)).is_some_and(f64::is_nan));
        assert!(variance(spreads.at(&v, 1, 3)).is_some_and(f64::is_nan));
        assert_eq!(variance(spreads.at(&v, 2, 4)), Some(0.25));
        let mut sums: Sliding<Compensated> = Sliding::default();
        assert_eq!(sums.at(&v, 0, 3).map(|s| s.total()), Some(f64::INFINITY));
        assert_eq!(sums.at(&v, 2, 3).map(|s| s.total()), Some(2.0));
    }
}
