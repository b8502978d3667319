//! Places in which groups are evaluated: a thread each, so that no group waits inside another's work.
//!
//! A pool shared by all would let a query that waits for its parts pick up another group's rules meanwhile, and be held
//! up by them.

use parking_lot::Mutex;
use query_exec::Pool;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The places.
pub(crate) struct Lanes {
    free: Mutex<Vec<Pool>>,
    places: Semaphore,
    /// How many of them slow groups may hold, so that quick ones always find one.
    slow: Semaphore,
}

/// A place that is held.
pub(crate) struct Lane<'a> {
    lanes: &'a Lanes,
    pool: Option<Pool>,
    _place: Option<SemaphorePermit<'a>>,
    _slow: Option<SemaphorePermit<'a>>,
}

impl Lanes {
    /// So many places, at least one.
    pub fn new(count: usize) -> Lanes {
        let count = count.max(1);
        Lanes {
            free: Mutex::new((0..count).map(|_| Pool::new(1)).collect()),
            places: Semaphore::new(count),
            slow: Semaphore::new(count.div_ceil(2)),
        }
    }

    /// The next place that becomes free. Slow groups wait for one of theirs.
    pub async fn take(&self, is_slow: bool) -> Lane<'_> {
        // Neither is ever closed.
        let slow = if is_slow { self.slow.acquire().await.ok() } else { None };
        let place = self.places.acquire().await.ok();
        let pool = self.free.lock().pop();
        Lane {
            lanes: self,
            pool,
            _place: place,
            _slow: slow,
        }
    }
}

impl Lane<'_> {
    /// Its thread.
    pub fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.lanes.free.lock().extend(self.pool.take());
    }
}
