//! The steps of a metrics query: intervals `(t, t + step]`, each with the time of its right edge.

/// Intervals that lie on multiples of their length; or one, both ends inclusive, for an instant query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intervals {
    start: i64,
    end: i64,
    step: i64,
    instant: bool,
}

impl Intervals {
    /// The whole intervals that cover `(start, end]`.
    pub(crate) fn new(start: i64, end: i64, step: i64) -> Intervals {
        let step = step.max(1);
        let floor = |t: i64| t.div_euclid(step).saturating_mul(step);
        let up = end.rem_euclid(step) != 0;
        Intervals {
            start: floor(start),
            end: floor(end).saturating_add(if up { step } else { 0 }),
            step,
            instant: false,
        }
    }

    /// As for a range request: one interval more in front, so that the first sample is at or before `start`.
    pub(crate) fn for_request(start: i64, end: i64, step: i64) -> Intervals {
        let mut intervals = Intervals::new(start, end, step);
        intervals.start = intervals.start.saturating_sub(intervals.step);
        intervals
    }

    /// `[start, end]`.
    pub(crate) fn instant(start: i64, end: i64) -> Intervals {
        Intervals {
            start,
            end,
            step: end.saturating_sub(start).max(1),
            instant: true,
        }
    }

    pub(crate) fn len(&self) -> usize {
        if self.instant {
            return 1;
        }
        (i128::from(self.end) - i128::from(self.start)).max(0) as usize / self.step as usize
    }

    /// The interval of an instant.
    pub(crate) fn of(&self, t: i64) -> Option<usize> {
        if self.instant {
            return (self.start <= t && t <= self.end).then_some(0);
        }
        if t <= self.start || t > self.end {
            return None;
        }
        let passed = i128::from(t) - i128::from(self.start) - 1;
        Some((passed / i128::from(self.step)) as usize)
    }

    /// The instants of an interval, as far as they are sure to be in it.
    pub(crate) fn span_of(&self, interval: usize) -> std::ops::Range<i64> {
        if self.instant {
            return self.start..self.end;
        }
        let end = self.time(interval);
        end.saturating_sub(self.step).saturating_add(1)..end
    }

    /// The time of an interval's sample.
    pub(crate) fn time(&self, interval: usize) -> i64 {
        if self.instant {
            return self.end;
        }
        let steps = (interval as i64).saturating_add(1);
        self.start.saturating_add(steps.saturating_mul(self.step))
    }

    pub(crate) fn step_seconds(&self) -> f64 {
        self.step as f64 / 1e9
    }

    /// First and last instant that belong to an interval.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        (self.start.saturating_add(i64::from(!self.instant)), self.end)
    }
}

/// About 240 steps over a window, in round numbers, ns.
pub(crate) fn default_step(window: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    const SHORT: i64 = 50_000_000;
    let ideal = window / 240;
    if window < 60 * SECOND {
        return (ideal / SHORT * SHORT).max(SHORT);
    }
    let unit = [3_600, 300, 60, 15, 5, 1]
        .map(|s| s * SECOND)
        .into_iter()
        .find(|unit| *unit < ideal);
    let unit = unit.unwrap_or(SECOND);
    (ideal / unit * unit).max(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_closed_on_the_right_and_aligned() {
        let three = Intervals::new(1, 29, 10);
        assert_eq!((three.len(), three.time(0), three.time(2)), (3, 10, 30));
        assert_eq!(
            [0, 1, 10, 11, 30, 31].map(|t| three.of(t)),
            [None, Some(0), Some(0), Some(1), Some(2), None]
        );
        let request = Intervals::for_request(20, 40, 10);
        assert_eq!((request.len(), request.time(0)), (3, 20));
        for n in 0..3 {
            assert!(three.span_of(n).all(|t| three.of(t) == Some(n)));
        }
        let instant = Intervals::instant(5, 9);
        assert_eq!(
            (instant.len(), instant.of(5), instant.of(9), instant.time(0)),
            (1, Some(0), Some(0), 9)
        );
        assert_eq!(Intervals::new(i64::MIN, i64::MAX, 1).of(0), Some(i64::MAX as usize));
    }
}
