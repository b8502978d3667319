//! Memory, accounted: who holds how much, and when to push back.

use std::sync::Arc;

/// A shared limit in bytes; cloning shares it.
#[derive(Clone, Debug)]
pub struct Budget {
    _inner: Arc<()>,
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    _inner: (),
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

impl Budget {
    /// A limit of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        let _ = limit;
        todo!()
    }
    /// Takes `bytes` if there is room.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let _ = bytes;
        todo!()
    }
    /// Takes `bytes` even beyond the limit: for memory that exists already (replay, a head that grew).
    pub fn take(&self, bytes: u64) -> Reservation {
        let _ = bytes;
        todo!()
    }
    /// Bytes in use.
    pub fn used(&self) -> u64 {
        todo!()
    }
    /// Bytes allowed.
    pub fn limit(&self) -> u64 {
        todo!()
    }
    /// Share in use, 0.0 to 1.0 and beyond.
    pub fn pressure(&self) -> f64 {
        todo!()
    }
}

impl Reservation {
    /// Changes the amount held, without a check.
    pub fn resize(&mut self, bytes: u64) {
        let _ = bytes;
        todo!()
    }
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
}
