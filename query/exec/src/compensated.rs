//! Sums and means that lose no small terms (Kahan's method as Neumaier improved it), and quantiles, exactly as
//! Prometheus computes them: the order of operations is part of the result.

/// A compensated sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compensated {
    sum: f64,
    lost: f64,
}

impl Compensated {
    /// Starts with a first term.
    pub fn starting_with(v: f64) -> Compensated {
        Compensated { sum: v, lost: 0.0 }
    }
    /// Adds a term.
    #[inline]
    pub fn add(&mut self, v: f64) {
        let t = self.sum + v;
        if t.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= v.abs() {
            self.lost += (self.sum - t) + v;
        } else {
            self.lost += (v - t) + self.sum;
        }
        self.sum = t;
    }
    /// Adds another sum.
    pub(crate) fn join(&mut self, other: &Compensated) {
        self.add(other.sum);
        self.lost += other.lost;
    }
    /// Multiplies it.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.lost *= factor;
    }
    /// The difference of two sums.
    pub(crate) fn minus(&self, other: &Compensated) -> f64 {
        (self.sum - other.sum) + (self.lost - other.lost)
    }
    /// A part of it; the parts of the sum and of what it lost are taken apart, so that a large sum does not overflow.
    pub fn over(&self, n: f64) -> f64 {
        self.sum / n + self.lost / n
    }
    /// The sum.
    #[inline]
    pub fn total(&self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean over a compensated sum; where the sum would overflow it goes on as an incremental mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    state: Compensated,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// Adds a term.
    #[inline]
    pub fn add(&mut self, v: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.state = Compensated::starting_with(v);
            return;
        }
        if !self.incremental {
            let mut next = self.state;
            next.add(v);
            if !next.sum.is_infinite() {
                self.state = next;
                return;
            }
            self.incremental = true;
            self.state.sum /= self.count - 1.0;
            self.state.lost /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        self.state.sum *= weight;
        self.state.lost *= weight;
        self.state.add(v / self.count);
    }
    /// The mean; NaN of nothing.
    #[inline]
    pub fn value(&self) -> f64 {
        if self.incremental {
            self.state.total()
        } else {
            self.state.over(self.count)
        }
    }
}

/// The φ-quantile of values that are sorted with NaN lowest, linear between ranks. φ below 0 gives -Inf, above 1 +Inf;
/// NaN for a φ that is NaN or for no values.
pub fn quantile_of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let n = sorted.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    sorted[lower as usize] * (1.0 - weight) + sorted[upper as usize] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_between_large_ones() {
        let mut sum = Compensated::default();
        for v in [1e100, 1.0, -1e100, 1.0] {
            sum.add(v);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let mut mean = Mean::default();
        for _ in 0..4 {
            mean.add(1.5e308);
        }
        assert!((mean.value() / 1.5e308 - 1.0).abs() < 1e-15, "{}", mean.value());
        let mut mean = Mean::default();
        mean.add(f64::INFINITY);
        mean.add(1.0);
        assert_eq!(mean.value(), f64::INFINITY);
    }

    #[test]
    fn quantiles_are_linear_between_ranks() {
        let sorted = [1.0, 2.0, 4.0];
        let cases = [
            (0.5, 2.0),
            (0.25, 1.5),
            (0.75, 3.0),
            (1.0, 4.0),
            (-0.1, f64::NEG_INFINITY),
            (1.1, f64::INFINITY),
        ];
        for (q, want) in cases {
            assert_eq!(quantile_of_sorted(q, &sorted), want, "{q}");
        }
        assert!(quantile_of_sorted(f64::NAN, &sorted).is_nan());
    }
}
