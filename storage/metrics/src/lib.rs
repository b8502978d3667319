//! The metrics engine: samples in, samples out. A Gorilla-encoded TSDB.
//!
//! A batch becomes durable in the WAL, then joins its series' open chunks in the *head*. [`Metrics::cut`] freezes the
//! head into *blocks*, one per UTC day; [`Metrics::compact`] joins blocks of one day, resolving late samples and
//! duplicates. A reader holds a [`Snapshot`] (head views plus blocks) and never makes an append wait.
//!
//! Not here: PromQL (`query-promql`), push protocols (`ingest`), when to cut (`storage::tick`).

use std::path::PathBuf;

use model::{BlockId, Exemplar, LabelSet, Matcher, MetricMetadata, SampleBatch, TimeRangeMs, TimestampMs};
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
    /// Samples older than this before now are refused; also what `expire` is called with.
    pub retention_ms: i64,
    /// Samples further than this ahead of now are refused (10 minutes).
    pub ahead_ms: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Samples stored.
    pub stored: u64,
    /// Samples that were there already with the same value.
    pub duplicates: u64,
    /// Samples older than retention.
    pub too_old: u64,
    /// Samples too far in the future.
    pub too_new: u64,
    /// Samples whose series has another value at that time; the first one stays.
    pub conflicts: u64,
    /// One refused sample in words, for the client.
    pub example: Option<String>,
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
    /// Series in the head.
    pub head_series: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Bytes of memory of the head.
    pub head_bytes: u64,
    /// Time of the head's first sample, if it has one.
    pub head_min: Option<TimestampMs>,
    /// Time of the head's last sample.
    pub head_max: Option<TimestampMs>,
    /// Samples stored since start.
    pub appended: u64,
    /// Blocks on disk.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// The log's counters.
    pub wal: storage_wal::Stats,
    /// Chunks that failed their checksum since start.
    pub corrupt_chunks: u64,
    /// Cuts and compactions done since start.
    pub cuts: u64,
    /// Compactions done since start.
    pub compactions: u64,
}

/// The engine; share it behind an `Arc`.
pub struct Metrics {
    _inner: (),
}

impl Metrics {
    /// Opens or creates the engine and replays its WAL.
    pub fn open(parts: Parts, options: Options) -> Result<(Metrics, storage_wal::Replay), BlockError> {
        let _ = (parts, options);
        todo!()
    }
    /// Returns when the batch is durable; then no crash loses it. Says which samples were refused, and why.
    pub async fn append(&self, batch: &SampleBatch, now: TimestampMs) -> Result<Appended, AppendError> {
        let _ = (batch, now);
        todo!()
    }
    /// What is stored at this moment, for reading in peace.
    pub fn snapshot(&self, range: TimeRangeMs) -> Snapshot {
        let _ = range;
        todo!()
    }
    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        todo!()
    }
    /// Merges blocks of one day into one; here late samples and duplicates are resolved. Readers keep the old blocks.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<BlockId, BlockError> {
        let _ = blocks;
        todo!()
    }
    /// Drops from the label index and the head what ended before `before`. (Blocks are retired by `storage`.)
    pub fn expire(&self, before: TimestampMs) -> Result<(), BlockError> {
        let _ = before;
        todo!()
    }
    /// What is known of metric families, by name.
    pub fn metadata(&self) -> Vec<(String, MetricMetadata)> {
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

/// Head views and blocks at one moment.
pub struct Snapshot {
    _inner: (),
}

/// One series of a selection: its labels, and where its samples are.
pub struct Series {
    _inner: (),
}

/// Samples in columns, rising by time, one per time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Times, ms.
    pub t: Vec<i64>,
    /// Values; staleness markers included.
    pub v: Vec<f64>,
}

impl Snapshot {
    /// The series that pass every matcher and have samples in `range`, sorted by label set.
    pub fn select(&self, matchers: &[Matcher], range: TimeRangeMs) -> Result<Vec<Series>, BlockError> {
        let _ = (matchers, range);
        todo!()
    }
    /// Label sets that pass every matcher, sorted: of any of the `selectors` (none: of all series).
    pub fn series(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<Vec<LabelSet>, BlockError> {
        let _ = (selectors, range);
        todo!()
    }
    /// Names of labels of those series, sorted.
    pub fn label_names(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<Vec<String>, BlockError> {
        let _ = (selectors, range);
        todo!()
    }
    /// Values of one label of those series, sorted.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRangeMs,
    ) -> Result<Vec<String>, BlockError> {
        let _ = (name, selectors, range);
        todo!()
    }
    /// Exemplars of those series in `range`, by series, rising by time.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRangeMs,
    ) -> Result<Vec<(LabelSet, Vec<Exemplar>)>, BlockError> {
        let _ = (selectors, range);
        todo!()
    }
}

impl Series {
    /// Its labels.
    pub fn labels(&self) -> &LabelSet {
        todo!()
    }
    /// Appends its samples in `range` to `out`, rising by time; of several at one time the first stored. A damaged
    /// chunk is skipped and counted.
    pub fn read(&self, range: TimeRangeMs, out: &mut Samples) -> Result<(), BlockError> {
        let _ = (range, out);
        todo!()
    }
}
