//! What a query runs under: a deadline, a way to be stopped, and limits on what it holds and reads.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Why a query stopped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExecError {
    /// The deadline passed.
    #[error("query timed out in {0}")]
    TimedOut(&'static str),
    /// The client hung up.
    #[error("query was canceled in {0}")]
    Cancelled(&'static str),
    /// A limit was met; the text says which, and how to raise it.
    #[error("{0}")]
    Limit(String),
    /// The data does not allow it (many-to-many matching, duplicate label sets, a bad parameter).
    #[error("{0}")]
    Data(String),
}

/// Limits of one query.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples in memory at once.
    pub samples_max: u64,
    /// Series, streams or groups in a result.
    pub series_max: u64,
    /// Bytes decompressed.
    pub bytes_max: u64,
}

/// What a query used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most samples held at once.
    pub samples_peak: u64,
    /// Samples counted in all.
    pub samples_total: u64,
    /// Bytes decompressed.
    pub bytes: u64,
}

/// What a query runs under; cloning shares it.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    deadline: Instant,
    limits: Limits,
    cancelled: AtomicBool,
    timed_out: AtomicBool,
    samples: AtomicU64,
    samples_peak: AtomicU64,
    samples_total: AtomicU64,
    bytes: AtomicU64,
    parts: AtomicU64,
    parts_done: AtomicU64,
}

/// Calls of `check` per look at the clock.
const CHECKS_PER_LOOK: u32 = 64;

thread_local! {
    static CHECKS: Cell<u32> = const { Cell::new(0) };
}

impl Context {
    /// With a deadline from now and limits.
    pub fn new(timeout: Duration, limits: Limits) -> Context {
        let now = Instant::now();
        // A timeout beyond what the clock can hold is a day: nothing waits longer.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400));
        Context {
            inner: Arc::new(Inner {
                deadline,
                limits,
                cancelled: AtomicBool::new(false),
                timed_out: AtomicBool::new(timeout.is_zero()),
                samples: AtomicU64::new(0),
                samples_peak: AtomicU64::new(0),
                samples_total: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                parts: AtomicU64::new(0),
                parts_done: AtomicU64::new(0),
            }),
        }
    }
    /// Stops the query at its next check.
    pub fn cancel(&self) {
        self.inner.cancelled.store(true, Relaxed);
    }
    /// To be called in every loop over foreign amounts of data, with a word for where. Looks at the clock only now and
    /// then, so call it per series or per thousand samples, not per sample.
    pub fn check(&self, at: &'static str) -> Result<(), ExecError> {
        if self.inner.cancelled.load(Relaxed) {
            return Err(ExecError::Cancelled(at));
        }
        let calls = CHECKS.get().wrapping_add(1);
        CHECKS.set(calls);
        if calls.is_multiple_of(CHECKS_PER_LOOK) && Instant::now() >= self.inner.deadline {
            self.inner.timed_out.store(true, Relaxed);
        }
        if self.inner.timed_out.load(Relaxed) {
            return Err(ExecError::TimedOut(at));
        }
        Ok(())
    }
    /// Counts samples held; fails over the limit.
    pub fn add_samples(&self, n: u64) -> Result<(), ExecError> {
        let held = self.inner.samples.fetch_add(n, Relaxed).saturating_add(n);
        self.inner.samples_total.fetch_add(n, Relaxed);
        self.inner.samples_peak.fetch_max(held, Relaxed);
        if held > self.inner.limits.samples_max {
            return Err(ExecError::Limit(
                "query processing would load too many samples into memory in query execution".to_owned(),
            ));
        }
        Ok(())
    }
    /// Gives samples back.
    pub fn release_samples(&self, n: u64) {
        // Never below zero, even when more is given back than was taken.
        let _ = self
            .inner
            .samples
            .fetch_update(Relaxed, Relaxed, |held| Some(held.saturating_sub(n)));
    }
    /// Counts bytes decompressed; fails over the limit.
    pub fn add_bytes(&self, n: u64) -> Result<(), ExecError> {
        let read = self.inner.bytes.fetch_add(n, Relaxed).saturating_add(n);
        if read > self.inner.limits.bytes_max {
            return Err(ExecError::Limit(format!(
                "the query would read more than {} bytes; narrow its time range or its selector, or raise the limit",
                self.inner.limits.bytes_max
            )));
        }
        Ok(())
    }
    /// Says that so many more parts of the work are known, for those who show progress.
    pub fn add_parts(&self, n: u64) {
        self.inner.parts.fetch_add(n, Relaxed);
    }
    /// A part is done.
    pub fn part_done(&self) {
        self.inner.parts_done.fetch_add(1, Relaxed);
    }
    /// Parts of the work that are done, and parts in all as far as is known.
    pub fn progress(&self) -> (u64, u64) {
        (self.inner.parts_done.load(Relaxed), self.inner.parts.load(Relaxed))
    }
    /// Limits.
    pub fn limits(&self) -> Limits {
        self.inner.limits
    }
    /// When it must be done.
    pub fn deadline(&self) -> Instant {
        self.inner.deadline
    }
    /// Samples held at the peak, and samples and bytes read in all.
    pub fn usage(&self) -> Usage {
        Usage {
            samples_peak: self.inner.samples_peak.load(Relaxed),
            samples_total: self.inner.samples_total.load(Relaxed),
            bytes: self.inner.bytes.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        samples_max: 100,
        series_max: 10,
        bytes_max: 1000,
    };

    #[test]
    fn a_cancelled_query_stops_at_its_next_check() {
        let context = Context::new(Duration::from_secs(60), LIMITS);
        assert_eq!(context.check("here"), Ok(()));
        context.clone().cancel();
        assert_eq!(context.check("here"), Err(ExecError::Cancelled("here")));
    }

    #[test]
    fn a_late_query_stops_within_a_few_checks() {
        let context = Context::new(Duration::from_millis(1), LIMITS);
        std::thread::sleep(Duration::from_millis(5));
        let stopped = (0..CHECKS_PER_LOOK).find_map(|_| context.check("expression evaluation").err());
        assert_eq!(
            stopped.map(|e| e.to_string()).as_deref(),
            Some("query timed out in expression evaluation")
        );
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let context = Context::new(Duration::from_secs(60), LIMITS);
        for _ in 0..5 {
            context.add_samples(80).unwrap();
            context.release_samples(80);
        }
        context.add_samples(80).unwrap();
        assert!(matches!(context.add_samples(80), Err(ExecError::Limit(_))));
        assert!(matches!(context.add_bytes(1001), Err(ExecError::Limit(_))));
        assert_eq!(
            context.usage(),
            Usage {
                samples_peak: 160,
                samples_total: 560,
                bytes: 1001
            }
        );
    }
}
