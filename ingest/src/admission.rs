//! Admission: how many bytes of requests may be in flight at once.
//!
//! A request holds a [`Ticket`] from the first byte of its body until its batch is durable. The ticket grows with what
//! is really held: the body as received, then the body decompressed. All tickets together stay below a share of the
//! memory budget; logs and traces may each take half of it, so that a flood of one signal leaves room for the others.
//! Who finds no room waits a little (`WAIT_MAX`), then is told to come back: before memory is gone, not after.

use std::sync::Arc;
use std::time::Duration;

use model::Signal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::refusal::Refusal;

/// Longest wait for room. The shortest deadline among clients is five seconds.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes in one permit: semaphores count in `u32`.
const PERMIT_BYTES: usize = 1024;
/// A ticket grows by at least this, so that small frames do not each go to the semaphore.
const GROWTH_BYTES: usize = 64 * 1024;
/// Enough for a usual batch, however small the machine.
const CAPACITY_BYTES_MIN: usize = 16 << 20;
/// Come back after this many seconds.
const RETRY_AFTER_S: u32 = 1;

/// The door that all request bodies pass.
#[derive(Debug)]
pub(crate) struct Admission {
    all: Lane,
    logs: Lane,
    traces: Lane,
}

#[derive(Debug)]
struct Lane {
    room: Arc<Semaphore>,
    permits: usize,
}

/// Room for one request; given back on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    held: Vec<OwnedSemaphorePermit>,
    permits: usize,
    permits_max: usize,
    patience: Option<Instant>,
}

impl Admission {
    /// Lets `capacity` bytes in at once.
    pub fn new(capacity: usize) -> Admission {
        let permits = capacity.max(CAPACITY_BYTES_MIN) / PERMIT_BYTES;
        Admission {
            all: Lane::new(permits),
            logs: Lane::new(permits / 2),
            traces: Lane::new(permits / 2),
        }
    }

    /// An empty ticket for a request of `signal`.
    pub fn ticket(&self, signal: Signal) -> Ticket {
        let own = match signal {
            Signal::Metrics => None,
            Signal::Logs => Some(&self.logs),
            Signal::Traces => Some(&self.traces),
        };
        let permits_max = own.unwrap_or(&self.all).permits;
        let lanes = own.into_iter().chain([&self.all]);
        Ticket {
            held: lanes.filter_map(Lane::empty).collect(),
            permits: 0,
            permits_max,
            patience: None,
        }
    }
}

impl Lane {
    fn new(permits: usize) -> Lane {
        Lane {
            room: Arc::new(Semaphore::new(permits)),
            permits,
        }
    }

    fn empty(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_many_owned(0).ok()
    }
}

impl Ticket {
    /// Makes the ticket good for `bytes` in all; waits for room if there is none. A request larger than everything
    /// that may be in flight is let in alone.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(more) = self.missing(bytes) else { return Ok(()) };
        let until = *self.patience.get_or_insert_with(|| Instant::now() + WAIT_MAX);
        for held in &mut self.held {
            match timeout_at(until, held.semaphore().clone().acquire_many_owned(more)).await {
                Ok(Ok(permit)) => held.merge(permit),
                _ => return Err(full(bytes)),
            }
        }
        self.permits += more as usize;
        Ok(())
    }

    /// As [`Ticket::grow_to`], without waiting: for threads that must not sleep.
    pub fn try_grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        let Some(more) = self.missing(bytes) else { return Ok(()) };
        for held in &mut self.held {
            match held.semaphore().clone().try_acquire_many_owned(more) {
                Ok(permit) => held.merge(permit),
                Err(_) => return Err(full(bytes)),
            }
        }
        self.permits += more as usize;
        Ok(())
    }

    fn missing(&self, bytes: usize) -> Option<u32> {
        let wanted = bytes.next_multiple_of(GROWTH_BYTES) / PERMIT_BYTES;
        let more = wanted.min(self.permits_max).saturating_sub(self.permits);
        (more > 0).then(|| u32::try_from(more).unwrap_or(u32::MAX))
    }
}

fn full(bytes: usize) -> Refusal {
    Refusal::Busy {
        why: format!(
            "too many requests in flight: no room for {bytes} more bytes; retry later, or raise --memory-limit"
        ),
        retry_after_s: RETRY_AFTER_S,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_logs_leaves_room_for_metrics() {
        let admission = Admission::new(CAPACITY_BYTES_MIN);
        let mut flood = admission.ticket(Signal::Logs);
        flood.grow_to(CAPACITY_BYTES_MIN).await.unwrap();
        let mut log = admission.ticket(Signal::Logs);
        assert!(matches!(
            log.grow_to(1).await,
            Err(Refusal::Busy { retry_after_s: 1, .. })
        ));
        assert!(log.try_grow_to(1).is_err());
        let mut sample = admission.ticket(Signal::Metrics);
        sample.grow_to(CAPACITY_BYTES_MIN / 4).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_let_in_when_another_leaves() {
        let admission = Arc::new(Admission::new(CAPACITY_BYTES_MIN));
        let mut first = admission.ticket(Signal::Metrics);
        first.grow_to(CAPACITY_BYTES_MIN).await.unwrap();
        let waiting = {
            let admission = admission.clone();
            tokio::spawn(async move {
                let mut second = admission.ticket(Signal::Metrics);
                second.grow_to(5).await
            })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
        waiting.await.unwrap().unwrap();
    }
}
