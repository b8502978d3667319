//! What a histogram must be to be stored and computed with.

use super::{Buckets, CUSTOM_BUCKETS, Histogram};

/// Why a histogram is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadHistogram {
    /// No schema of ours.
    #[error("schema {0} is neither in -4..=8 nor {CUSTOM_BUCKETS}")]
    Schema(i32),
    /// Runs and counts disagree.
    #[error("the {side} spans hold {spans} buckets, there are {counts} counts")]
    Length {
        /// Which side.
        side: &'static str,
        /// Buckets in all runs.
        spans: u64,
        /// Counts.
        counts: usize,
    },
    /// A run begins before the one before it has ended, or a place does not fit.
    #[error("{side} span {span} begins at offset {offset}; only a first span may go back")]
    Offset {
        /// Which side.
        side: &'static str,
        /// Which run.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// A count below zero, or none at all.
    #[error("{what} is {count}; counts are numbers from 0 up")]
    Count {
        /// Which count.
        what: &'static str,
        /// The count.
        count: f64,
    },
    /// Custom bounds that do not rise, or are not finite.
    #[error("custom bounds must be finite and rise: {0} does not")]
    Bounds(f64),
    /// More custom buckets than bounds allow, or other buckets beside them.
    #[error("{0}")]
    Custom(&'static str),
}

impl Histogram {
    /// Whether it is one: its parts agree and no count is negative.
    pub fn validate(&self) -> Result<(), BadHistogram> {
        if self.has_custom_buckets() {
            self.validate_custom()?;
        } else if !(-4..=8).contains(&self.schema) {
            return Err(BadHistogram::Schema(self.schema));
        } else if !self.bounds.is_empty() {
            return Err(BadHistogram::Custom("custom bounds beside an exponential schema"));
        }
        let counts = [("the count", self.count), ("the zero bucket", self.zero_count)];
        for (what, count) in counts {
            // A stale or broken count may be NaN; below zero it never is.
            if count < 0.0 {
                return Err(BadHistogram::Count { what, count });
            }
        }
        if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err(BadHistogram::Count {
                what: "the zero threshold",
                count: self.zero_threshold,
            });
        }
        validate_side("positive", &self.positive)?;
        validate_side("negative", &self.negative)
    }

    fn validate_custom(&self) -> Result<(), BadHistogram> {
        let rises = |i: usize| i == 0 || self.bounds[i] > self.bounds[i - 1];
        if let Some(i) = (0..self.bounds.len()).find(|&i| !self.bounds[i].is_finite() || !rises(i)) {
            return Err(BadHistogram::Bounds(self.bounds[i]));
        }
        if self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            return Err(BadHistogram::Custom("a zero bucket beside custom buckets"));
        }
        if !self.negative.counts.is_empty() || !self.negative.spans.is_empty() {
            return Err(BadHistogram::Custom("negative buckets beside custom buckets"));
        }
        let inside = |i: i32| usize::try_from(i).is_ok_and(|i| i <= self.bounds.len());
        if !self.positive.iter().all(|(i, _)| inside(i)) {
            return Err(BadHistogram::Custom("a custom bucket without a bound"));
        }
        Ok(())
    }
}

fn validate_side(side: &'static str, buckets: &Buckets) -> Result<(), BadHistogram> {
    let spans: u64 = buckets.spans.iter().map(|s| u64::from(s.length)).sum();
    if spans != buckets.counts.len() as u64 {
        let counts = buckets.counts.len();
        return Err(BadHistogram::Length { side, spans, counts });
    }
    let mut next = 0i64;
    for (span, s) in buckets.spans.iter().enumerate() {
        next += i64::from(s.offset) + i64::from(s.length);
        let fits = i32::try_from(next).is_ok() && i32::try_from(next - i64::from(s.length)).is_ok();
        if (span > 0 && s.offset < 0) || !fits {
            let offset = s.offset;
            return Err(BadHistogram::Offset { side, span, offset });
        }
    }
    match buckets.counts.iter().find(|c| **c < 0.0) {
        Some(&count) => Err(BadHistogram::Count { what: side, count }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BucketSpan;

    #[test]
    fn parts_must_agree() {
        let good = Histogram {
            positive: Buckets::from_indexed([(1, 1.0), (5, 2.0)]),
            ..Histogram::stale()
        };
        assert_eq!(good.validate(), Ok(()));
        let span = |offset, length| BucketSpan { offset, length };
        let with_spans = |spans: &[BucketSpan]| {
            let mut h = good.clone();
            h.positive.spans = spans.to_vec();
            h
        };
        let custom = |bounds: &[f64]| Histogram {
            schema: CUSTOM_BUCKETS,
            bounds: bounds.into(),
            ..good.clone()
        };
        let bad = [
            Histogram {
                schema: 9,
                ..good.clone()
            },
            Histogram {
                count: -1.0,
                ..good.clone()
            },
            Histogram {
                zero_threshold: f64::NAN,
                ..good.clone()
            },
            with_spans(&[span(0, 1)]),
            with_spans(&[span(0, u32::MAX), span(0, u32::MAX)]),
            with_spans(&[span(0, 1), span(-1, 1)]),
            with_spans(&[span(i32::MAX, 2)]),
            custom(&[1.0]),
            custom(&[1.0, 1.0, 2.0, 3.0, 4.0]),
            custom(&[1.0, f64::INFINITY]),
        ];
        for h in bad {
            assert!(h.validate().is_err(), "{h:?}");
        }
        assert_eq!(custom(&[1.0, 2.0, 3.0, 4.0, 5.0]).validate(), Ok(()));
    }
}
