//! The write-ahead log: what was appended and synced survives a crash. It does not know what a record means.
//!
//! [`Wal::append`] gives a record its place ([`Lsn`]) and puts it into a buffer; one thread takes whatever has gathered there,
//! writes it, syncs once for all of it, and wakes those who wait in [`Wal::durable`] (*group commit*). Nobody is delayed on
//! purpose: an append that comes alone costs one fdatasync, and what comes meanwhile shares the next.
//!
//! The log is a row of segment files. [`Wal::roll`] starts a new one, [`Wal::truncate`] deletes those whose records are in
//! blocks by now, and [`Wal::open`] hands over what is left: a torn tail is cut with a warning, damage in the middle is
//! reported and stepped over.
//!
//! When the disk refuses a write or a sync, nothing can be said about what it kept. All who wait get the error, what they
//! appended is cut off, and appends are refused until [`Wal::roll`] succeeds in starting a new segment, as it does once a
//! full disk has room again.

mod group_commit;
mod queue;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use group_commit::Rolling;
use group_commit::Shared;

/// A place in the log: rises with every record, also across segments and restarts. The first record has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// When an append counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// After fdatasync, shared by all appends that wait (group commit).
    Always,
    /// Once the operating system has it; fdatasync follows within this period.
    Interval(Duration),
    /// Once the operating system has it; when it reaches the disk is left to the system, until its segment is closed.
    Never,
}

/// How to run a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// When an append counts as durable.
    pub sync: SyncMode,
    /// A segment is closed when it reaches this size.
    pub segment_bytes: u64,
}

/// What replay met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Records handed over.
    pub records: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
    /// Bad records in the middle that were skipped, as (segment file, offset).
    pub skipped: Vec<(PathBuf, u64)>,
}

/// Counters since start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Bytes in segments on disk now.
    pub disk_bytes: u64,
    /// Segments on disk now.
    pub segments: u64,
    /// Records appended.
    pub records: u64,
    /// fdatasync calls.
    pub syncs: u64,
    /// Seconds spent in them.
    pub sync_seconds: f64,
    /// Appends or syncs that failed.
    pub failures: u64,
}

/// Why the log could not be opened or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The disk said no. After a failed write or sync the log refuses further appends until it is rolled.
    #[error("{path}: {message}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        message: String,
        /// Whether the disk is full.
        full: bool,
    },
    /// The record exceeds [`RECORD_BYTES_MAX`].
    #[error("WAL record of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The disk cannot keep up: [`BUFFER_BYTES_MAX`] bytes wait to be written. Nothing is broken.
    #[error("{dir}: the disk is behind, {buffered} bytes of WAL wait to be written (limit {max}); retry later")]
    Behind {
        /// The log.
        dir: PathBuf,
        /// Bytes that wait.
        buffered: usize,
        /// The limit.
        max: usize,
    },
    /// A segment of a newer format.
    #[error("{path}: WAL version {found}, this build reads up to {newest}; start the newer trilobite")]
    TooNew {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        newest: u8,
    },
}

/// Largest payload of one record.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// What may wait to be written; beyond it appends are refused, except a single large record when nothing else waits.
pub const BUFFER_BYTES_MAX: usize = 32 << 20;

/// An open log; share it behind an `Arc`. Dropping it writes and syncs what is buffered.
pub struct Wal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wal({})", self.shared.dir.display())
    }
}

impl WalError {
    pub(crate) fn io(path: &Path, error: io::Error) -> WalError {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let message = match full {
            true => format!("{error}: free space or lower the retention; the log goes on once there is room"),
            false => error.to_string(),
        };
        let path = path.to_path_buf();
        WalError::Io { path, message, full }
    }
}
