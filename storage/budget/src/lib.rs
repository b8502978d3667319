//! Memory, accounted: who holds how much, and when to push back.
//!
//! One [`Budget`] is shared by the heads, the caches and the queries. Whoever holds memory holds a [`Reservation`] for it;
//! the sum over the limit is the [pressure](Budget::pressure) that makes heads cut early and ingest push back.
//! Counters only, no locks: it is asked on every append.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A shared limit in bytes; cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

/// The budget has no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "memory budget exhausted: {used} of {limit} bytes in use, {asked} more asked for; raise --memory-limit or retry later"
)]
pub struct OverBudget {
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes allowed.
    pub limit: u64,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    /// A limit of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget {
            shared: Arc::new(Shared {
                limit,
                used: AtomicU64::new(0),
            }),
        }
    }

    /// Takes `bytes` if there is room.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let limit = self.shared.limit;
        let room = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        match self.shared.used.fetch_update(Relaxed, Relaxed, room) {
            Ok(_) => Ok(Reservation {
                shared: self.shared.clone(),
                bytes,
            }),
            Err(used) => Err(OverBudget {
                asked: bytes,
                used,
                limit,
            }),
        }
    }

    /// Takes `bytes` even beyond the limit: for memory that exists already (replay, a head that grew).
    pub fn take(&self, bytes: u64) -> Reservation {
        self.shared.used.fetch_add(bytes, Relaxed);
        Reservation {
            shared: self.shared.clone(),
            bytes,
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.shared.used.load(Relaxed)
    }

    /// Bytes allowed.
    pub fn limit(&self) -> u64 {
        self.shared.limit
    }

    /// Share in use, 0.0 to 1.0 and beyond.
    pub fn pressure(&self) -> f64 {
        self.used() as f64 / self.limit().max(1) as f64
    }
}

impl Reservation {
    /// Changes the amount held, without a check.
    pub fn resize(&mut self, bytes: u64) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.shared.used.fetch_add(more, Relaxed),
            None => self.shared.used.fetch_sub(self.bytes - bytes, Relaxed),
        };
        self.bytes = bytes;
    }

    /// Changes the amount held if there is room for what is added; on an error it stays as it is.
    pub fn try_resize(&mut self, bytes: u64) -> Result<(), OverBudget> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => {
                let mut extra = Budget {
                    shared: self.shared.clone(),
                }
                .reserve(more)?;
                self.bytes += std::mem::take(&mut extra.bytes);
            }
            None => self.resize(bytes),
        }
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let budget = Budget::new(100);
        let mut a = budget.reserve(60).unwrap();
        let b = budget.reserve(40).unwrap();
        assert_eq!((budget.used(), budget.pressure()), (100, 1.0));
        assert_eq!(
            budget.reserve(1).unwrap_err(),
            OverBudget {
                asked: 1,
                used: 100,
                limit: 100
            }
        );
        drop(b);
        a.resize(10);
        assert_eq!((budget.used(), a.bytes()), (10, 10));
        a.resize(150);
        assert_eq!((budget.used(), budget.pressure()), (150, 1.5));
        drop(a);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn memory_that_exists_is_taken_beyond_the_limit() {
        let budget = Budget::new(10);
        let replayed = budget.take(25);
        assert_eq!(budget.pressure(), 2.5);
        assert!(budget.reserve(0).is_err(), "over the limit nothing more is given");
        drop(replayed);
        assert!(budget.reserve(10).is_ok());
    }

    #[test]
    fn growing_asks_and_shrinking_does_not() {
        let budget = Budget::new(10);
        let mut held = budget.take(20);
        assert!(held.try_resize(21).is_err());
        assert_eq!((held.bytes(), budget.used()), (20, 20));
        held.try_resize(4).unwrap();
        held.try_resize(10).unwrap();
        assert_eq!(budget.used(), 10);
        assert!(budget.reserve(u64::MAX).is_err(), "no wrap-around");
    }

    #[test]
    fn many_threads_never_exceed_the_limit() {
        let budget = Budget::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let held = budget.reserve(300);
                        assert!(budget.used() <= 1000);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
