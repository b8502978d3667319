//! The write-ahead log: what was appended and synced survives a crash. It does not know what a record means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use storage_disk::Disk;

/// A place in the log: rises with every record, also across segments and restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// When an append counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// After fdatasync, shared by all appends that wait (group commit).
    Always,
    /// At once; fdatasync runs on this period.
    Interval(Duration),
    /// At once; the operating system decides.
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
#[derive(Debug, Clone, thiserror::Error)]
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

/// An open log; share it behind an `Arc`.
pub struct Wal {
    _inner: (),
}

impl Wal {
    /// Opens or creates the log in `dir` and hands every record (place, kind, payload) to `replay`, in order.
    pub fn open(
        disk: Disk,
        dir: &Path,
        options: Options,
        replay: &mut dyn FnMut(Lsn, u8, &[u8]),
    ) -> Result<(Wal, Replay), WalError> {
        let _ = (disk, dir, options, replay);
        todo!()
    }
    /// Appends one record; the place says what to wait for. Never waits for a sync.
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<Lsn, WalError> {
        let _ = (kind, payload);
        todo!()
    }
    /// Returns when the record at `lsn` is durable by the sync mode.
    pub async fn durable(&self, lsn: Lsn) -> Result<(), WalError> {
        let _ = lsn;
        todo!()
    }
    /// Starts a new segment; all records so far lie below the returned place, all later ones at or above it.
    pub fn roll(&self) -> Result<Lsn, WalError> {
        todo!()
    }
    /// Deletes the segments that lie wholly below `before`.
    pub fn truncate(&self, before: Lsn) -> Result<(), WalError> {
        let _ = before;
        todo!()
    }
    /// Syncs what is buffered, whatever the mode. For a clean stop.
    pub fn sync(&self) -> Result<(), WalError> {
        todo!()
    }
    /// Counters.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
