//! When a group is due: at instants that are aligned to its interval and spread over it, so that groups do not all run at
//! once and a restart does not move them. Without a clock.

/// The instants of one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    interval_ms: i64,
    offset_ms: i64,
    /// The next instant.
    next_ms: i64,
}

/// An instant that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The instant.
    pub at_ms: i64,
    /// Instants before it that nobody asked about in time.
    pub missed: u64,
}

impl Schedule {
    /// From the first instant after `now_ms`. The interval must be positive.
    pub fn new(file: &str, name: &str, interval_ms: i64, now_ms: i64) -> Schedule {
        let interval_ms = interval_ms.max(1);
        let mut schedule = Schedule {
            interval_ms,
            offset_ms: (spread(file, name) % interval_ms.unsigned_abs()) as i64,
            next_ms: 0,
        };
        schedule.next_ms = schedule.after(now_ms);
        schedule
    }

    /// The latest instant that has come, if it was not given before.
    pub fn due(&mut self, now_ms: i64) -> Option<Due> {
        if now_ms < self.next_ms {
            // A clock that was set back must not stop the group for as long as it was.
            if self.next_ms.saturating_sub(now_ms) > 2 * self.interval_ms {
                self.next_ms = self.after(now_ms);
            }
            return None;
        }
        let missed = (now_ms - self.next_ms) / self.interval_ms;
        let at_ms = self.next_ms + missed * self.interval_ms;
        self.next_ms = at_ms.saturating_add(self.interval_ms);
        Some(Due {
            at_ms,
            missed: missed.unsigned_abs(),
        })
    }

    /// The next instant.
    pub fn next_ms(&self) -> i64 {
        self.next_ms
    }

    fn after(&self, now_ms: i64) -> i64 {
        let since = now_ms.saturating_sub(self.offset_ms).rem_euclid(self.interval_ms);
        (now_ms - since).saturating_add(self.interval_ms)
    }
}

fn spread(file: &str, name: &str) -> u64 {
    let mut bytes = Vec::with_capacity(file.len() + name.len() + 1);
    bytes.extend_from_slice(file.as_bytes());
    bytes.push(0xff);
    bytes.extend_from_slice(name.as_bytes());
    model::hash_labels(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missed_instants_are_counted_and_the_latest_is_given() {
        let mut s = Schedule::new("f", "g", 15_000, 1_000_000);
        let first = s.next_ms();
        assert!((1_000_000..=1_015_000).contains(&first));
        assert_eq!(s.due(first - 1), None);
        let due = |at_ms, missed| Some(Due { at_ms, missed });
        assert_eq!(s.due(first + 20), due(first, 0));
        assert_eq!(s.due(first + 14_999), None);
        assert_eq!(s.due(first + 47_000), due(first + 45_000, 2));
        assert_eq!(s.due(first + 47_001), None);
        // The clock is set back by an hour.
        assert_eq!(s.due(first - 3_600_000), None);
        assert!(s.next_ms() <= first - 3_585_000);
    }

    proptest! {
        /// The instants of a group depend on its names and its interval alone, not on when the process started.
        #[test]
        fn a_restart_does_not_move_a_group(now in 0_i64..4_000_000_000_000, later in 0_i64..10_000_000, interval in 1_i64..100_000_000) {
            let at = |now| Schedule::new("file", "group", interval, now).next_ms();
            let (first, second) = (at(now), at(now + later));
            prop_assert!(first > now && first <= now + interval);
            prop_assert_eq!((second - first) % interval, 0);
        }
    }
}
