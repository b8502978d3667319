//! A disk in memory for crash tests.

use std::sync::Arc;

use crate::Disk;

/// An in-memory disk that keeps only what was synced across [`FaultyDisk::crash`], and can fail at a chosen operation.
#[derive(Clone)]
pub struct FaultyDisk {
    _inner: Arc<()>,
}

impl FaultyDisk {
    /// Empty.
    #[allow(clippy::new_without_default)]
    pub fn new() -> FaultyDisk {
        todo!()
    }
    /// The disk to hand to an engine.
    pub fn disk(&self) -> Disk {
        todo!()
    }
    /// From the `n`-th mutating operation on (0 = the next), every operation fails with an I/O error.
    pub fn fail_after(&self, n: u64) {
        let _ = n;
        todo!()
    }
    /// Mutating operations so far.
    pub fn operations(&self) -> u64 {
        todo!()
    }
    /// The disk as a crash now would leave it: only what was synced (files' bytes and directory entries alike), faults cleared.
    pub fn crash(&self) -> FaultyDisk {
        todo!()
    }
}
