//! Instants, ranges and days. Prometheus counts milliseconds, Loki, Tempo and OTLP count nanoseconds; the two are
//! different types so that they cannot be mixed up.

/// Milliseconds in a UTC day.
pub const DAY_MS: i64 = 86_400_000;
/// Nanoseconds in a UTC day.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// Milliseconds since the Unix epoch, as Prometheus counts. Negative is legal: backfill may go before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub i64);

/// Nanoseconds since the Unix epoch, as Loki, Tempo and OTLP count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampNs(pub i64);

impl TimestampNs {
    /// The millisecond that contains this instant; rounds toward the past, also before 1970.
    pub fn floor_ms(self) -> TimestampMs {
        TimestampMs(self.0.div_euclid(1_000_000))
    }

    /// The UTC day that contains this instant.
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(DAY_NS) as i32)
    }
}

impl TimestampMs {
    /// The first nanosecond of this millisecond; saturates at the ends of the representable range.
    pub fn to_ns(self) -> TimestampNs {
        TimestampNs(self.0.saturating_mul(1_000_000))
    }

    /// The UTC day that contains this instant. Days beyond the range of `i32` saturate.
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(DAY_MS).clamp(i32::MIN as i64, i32::MAX as i64) as i32)
    }
}

/// A UTC day, counted from 1970-01-01. The unit of retention and of the label index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// Midnight at the start of the day.
    pub fn start_ms(self) -> TimestampMs {
        TimestampMs(i64::from(self.0) * DAY_MS)
    }

    /// Midnight at the start of the day; saturates outside the years 1677 to 2262.
    pub fn start_ns(self) -> TimestampNs {
        TimestampNs(i64::from(self.0).saturating_mul(DAY_NS))
    }
}

/// From `start` to `end`, both inclusive, as the Prometheus API selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRangeMs {
    /// First instant inside.
    pub start: TimestampMs,
    /// Last instant inside.
    pub end: TimestampMs,
}

impl TimeRangeMs {
    /// All of time.
    pub const ALL: TimeRangeMs = TimeRangeMs {
        start: TimestampMs(i64::MIN),
        end: TimestampMs(i64::MAX),
    };

    /// Whether `t` lies inside.
    pub fn contains(&self, t: TimestampMs) -> bool {
        self.start <= t && t <= self.end
    }

    /// Whether `[min, max]` (inclusive) shares an instant with this range.
    pub fn overlaps(&self, min: TimestampMs, max: TimestampMs) -> bool {
        self.start <= max && min <= self.end
    }

    /// First and last day touched.
    pub fn days(&self) -> (Day, Day) {
        (self.start.day(), self.end.day())
    }
}

/// From `start` inclusive to `end` exclusive, as Loki selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRangeNs {
    /// First instant inside.
    pub start: TimestampNs,
    /// First instant after the range.
    pub end: TimestampNs,
}

impl TimeRangeNs {
    /// All of time but its very last nanosecond.
    pub const ALL: TimeRangeNs = TimeRangeNs {
        start: TimestampNs(i64::MIN),
        end: TimestampNs(i64::MAX),
    };

    /// Whether `t` lies inside.
    pub fn contains(&self, t: TimestampNs) -> bool {
        self.start <= t && t < self.end
    }

    /// Whether `[min, max]` (inclusive) shares an instant with this range.
    pub fn overlaps(&self, min: TimestampNs, max: TimestampNs) -> bool {
        self.start <= max && min < self.end
    }

    /// First and last day touched.
    pub fn days(&self) -> (Day, Day) {
        (
            self.start.day(),
            TimestampNs(self.end.0.saturating_sub(1).max(self.start.0)).day(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_toward_the_past_before_1970() {
        assert_eq!(TimestampNs(-1).floor_ms(), TimestampMs(-1));
        assert_eq!(TimestampNs(-1).day(), Day(-1));
        assert_eq!(TimestampMs(-1).day(), Day(-1));
        assert_eq!(TimestampMs(DAY_MS).day(), Day(1));
    }

    #[test]
    fn a_half_open_range_ends_on_the_day_of_its_last_instant() {
        let r = TimeRangeNs {
            start: TimestampNs(0),
            end: TimestampNs(DAY_NS),
        };
        assert_eq!(r.days(), (Day(0), Day(0)));
        assert!(!r.contains(TimestampNs(DAY_NS)));
    }
}
