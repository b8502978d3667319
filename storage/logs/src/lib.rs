//! The logs engine: log lines in, log lines out. Label-indexed, compressed chunks.
//!
//! A batch becomes durable in the WAL, then joins its streams' open chunks in the *head*. [`Logs::cut`] freezes the head
//! into *blocks*, one per UTC day: chunks in columns, many to a file, each with a needle filter. Late lines land in a
//! later block; [`Logs::compact`] joins blocks of one day. A reader holds a [`Snapshot`] and never makes an append wait.
//!
//! Not here: LogQL (`query-logql`), push protocols (`ingest`), when to cut (`storage::tick`).

use std::path::PathBuf;

use model::{BlockId, Entry, LabelSet, LogBatch, Matcher, TimeRangeNs, TimestampNs};
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue};
use storage_disk::Disk;

/// What an engine is built from.
pub struct Parts {
    /// Where to write.
    pub disk: Disk,
    /// Which blocks and label sets exist.
    pub catalogue: Catalogue,
    /// Memory accounting.
    pub budget: Budget,
    /// The engine's own directory (its WAL lies in `wal/` below).
    pub dir: PathBuf,
    /// How the WAL runs.
    pub wal: storage_wal::Options,
}

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries older than this before now are refused; also what `expire` is called with.
    pub retention_ns: i64,
    /// Entries further than this ahead of now are refused (10 minutes).
    pub ahead_ns: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Entries stored.
    pub stored: u64,
    /// Entries that were there already: same stream, time, line and metadata.
    pub duplicates: u64,
    /// Entries older than retention.
    pub too_old: u64,
    /// Entries too far in the future.
    pub too_new: u64,
    /// The refused entries (stream labels, time, whether too new): at most 10, for the client's message.
    pub refused: Vec<(LabelSet, TimestampNs, bool)>,
}

/// Why a batch was not stored at all.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log could not take it.
    #[error(transparent)]
    Wal(#[from] storage_wal::WalError),
    /// The label index could not take it.
    #[error(transparent)]
    Catalogue(#[from] storage_catalogue::CatalogueError),
    /// No memory left for it.
    #[error(transparent)]
    OverBudget(#[from] storage_budget::OverBudget),
}

/// Why blocks could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// No block file of ours.
    #[error("{path}: no chunk file (starts with {found:02x?})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: [u8; 4],
    },
    /// A newer format.
    #[error(
        "{path}: format version {found}, this build reads up to {newest}; start the newer trilobite, or restore a backup"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        newest: u8,
    },
    /// Damage.
    #[error("{path}: damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What.
        what: String,
    },
    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The catalogue said no.
    #[error(transparent)]
    Catalogue(#[from] storage_catalogue::CatalogueError),
    /// The log said no.
    #[error(transparent)]
    Wal(#[from] storage_wal::WalError),
}

/// Figures for the self-metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Streams in the head.
    pub head_streams: u64,
    /// Entries in the head.
    pub head_entries: u64,
    /// Bytes of memory of the head.
    pub head_bytes: u64,
    /// Time of the head's first entry, if it has one.
    pub head_min: Option<TimestampNs>,
    /// Time of the head's last entry.
    pub head_max: Option<TimestampNs>,
    /// Entries stored since start.
    pub appended: u64,
    /// Bytes of lines and metadata stored since start.
    pub appended_bytes: u64,
    /// Blocks on disk.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// The log's counters.
    pub wal: storage_wal::Stats,
    /// Chunks that failed their checksum since start.
    pub corrupt_chunks: u64,
    /// Cuts done since start.
    pub cuts: u64,
    /// Compactions done since start.
    pub compactions: u64,
}

/// The engine; share it behind an `Arc`.
pub struct Logs {
    _inner: (),
}

impl Logs {
    /// Opens or creates the engine and replays its WAL.
    pub fn open(parts: Parts, options: Options) -> Result<(Logs, storage_wal::Replay), BlockError> {
        let _ = (parts, options);
        todo!()
    }
    /// Returns when the batch is durable; then no crash loses it. Says which entries were refused, and why.
    pub async fn append(&self, batch: &LogBatch, now: TimestampNs) -> Result<Appended, AppendError> {
        let _ = (batch, now);
        todo!()
    }
    /// What is stored at this moment, for reading in peace.
    pub fn snapshot(&self, range: TimeRangeNs) -> Snapshot {
        let _ = range;
        todo!()
    }
    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        todo!()
    }
    /// Merges blocks of one day into one; duplicates are resolved. Readers keep the old blocks.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<BlockId, BlockError> {
        let _ = blocks;
        todo!()
    }
    /// Drops from the label index and the head what ended before `before`. (Blocks are retired by `storage`.)
    pub fn expire(&self, before: TimestampNs) -> Result<(), BlockError> {
        let _ = before;
        todo!()
    }
    /// Entries from now on of streams that pass every matcher, for live tail. A slow receiver loses entries, and is told how many.
    pub fn subscribe(&self, matchers: Vec<Matcher>) -> Subscription {
        let _ = matchers;
        todo!()
    }
    /// Figures for the self-metrics.
    pub fn stats(&self) -> Stats {
        todo!()
    }
    /// Syncs the WAL for a clean stop.
    pub fn sync(&self) -> Result<(), BlockError> {
        todo!()
    }
}

/// A live tail; ends when dropped.
pub struct Subscription {
    _inner: (),
}

impl Subscription {
    /// The next entry with its stream's labels, and how many were lost before it because the receiver was slow.
    /// `None` when the engine closes.
    pub async fn recv(&mut self) -> Option<(LabelSet, Entry, u64)> {
        todo!()
    }
}

/// Head views and blocks at one moment.
pub struct Snapshot {
    _inner: (),
}

/// What must stand in a line or its metadata; lets whole chunks be skipped. A filter never loses a line that matches.
#[derive(Clone, Debug, Default)]
pub struct Needles {
    /// Substrings that every wanted line contains.
    pub contains: Vec<String>,
    /// Structured metadata that every wanted entry carries.
    pub metadata: Vec<(String, String)>,
}

/// Chunks of one stream that overlap in time and are read together; runs of one stream do not overlap each other.
pub struct Run {
    _inner: (),
}

/// Entries in columns, rising by time; entries of equal time keep the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    _inner: (),
}

/// How much of a stream lies in a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// The stream.
    pub labels: LabelSet,
    /// Chunks touched.
    pub chunks: u64,
    /// Entries, estimated by share of time for chunks that the range cuts.
    pub entries: u64,
    /// Bytes of lines and metadata, estimated likewise.
    pub bytes: u64,
}

impl Snapshot {
    /// The runs of streams that pass every matcher, touching `range`, less those that the needles rule out. In no
    /// particular order; each run knows its time span.
    pub fn runs(&self, matchers: &[Matcher], range: TimeRangeNs, needles: &Needles) -> Result<Vec<Run>, BlockError> {
        let _ = (matchers, range, needles);
        todo!()
    }
    /// Label sets of streams that pass any of the `selectors` (none: all) and have entries in `range`, sorted.
    pub fn series(&self, selectors: &[Vec<Matcher>], range: TimeRangeNs) -> Result<Vec<LabelSet>, BlockError> {
        let _ = (selectors, range);
        todo!()
    }
    /// Names of labels of those streams, sorted.
    pub fn label_names(&self, selectors: &[Vec<Matcher>], range: TimeRangeNs) -> Result<Vec<String>, BlockError> {
        let _ = (selectors, range);
        todo!()
    }
    /// Values of one label of those streams, sorted.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRangeNs,
    ) -> Result<Vec<String>, BlockError> {
        let _ = (name, selectors, range);
        todo!()
    }
    /// How much there is, by stream, without opening lines.
    pub fn volumes(&self, matchers: &[Matcher], range: TimeRangeNs) -> Result<Vec<Volume>, BlockError> {
        let _ = (matchers, range);
        todo!()
    }
}

impl Run {
    /// The stream's labels.
    pub fn labels(&self) -> &LabelSet {
        todo!()
    }
    /// Time of the first entry, within the range asked for.
    pub fn min(&self) -> TimestampNs {
        todo!()
    }
    /// Time of the last entry, inclusive, within the range asked for.
    pub fn max(&self) -> TimestampNs {
        todo!()
    }
    /// At most this many entries.
    pub fn entries_max(&self) -> u64 {
        todo!()
    }
    /// Reads the entries within the range asked for into `out` (cleared first), exact duplicates removed. A damaged
    /// chunk is skipped and counted. Says how many bytes were decompressed.
    pub fn read(&self, out: &mut Entries) -> Result<u64, BlockError> {
        let _ = out;
        todo!()
    }
}

impl Entries {
    /// How many.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Time of entry `i`.
    pub fn t(&self, i: usize) -> TimestampNs {
        let _ = i;
        todo!()
    }
    /// Line of entry `i`.
    pub fn line(&self, i: usize) -> &str {
        let _ = i;
        todo!()
    }
    /// Structured metadata of entry `i`.
    pub fn metadata(&self, i: usize) -> impl Iterator<Item = (&str, &str)> {
        let _ = i;
        std::iter::empty()
    }
}
