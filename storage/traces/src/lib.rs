//! The traces engine: spans in, traces out. Parquet blocks keyed by trace id.
//!
//! A batch becomes durable in the WAL, then joins the *head*, a map from trace id to spans. [`Traces::cut`] freezes the
//! head into *blocks*, one per UTC day: plain Parquet, one row per span, sorted by (trace id, start). Late spans land in
//! a later block; reading and compaction join them by trace id. A span is one by (trace id, span id, kind).
//!
//! Not here: TraceQL (`query-traceql`), push protocols (`ingest`), when to cut (`storage::tick`).

use std::ops::ControlFlow;
use std::path::PathBuf;

use model::{AttributeValue, BlockId, Span, SpanBatch, TimeRangeNs, TimestampNs, TraceId};
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
    /// Spans that ended longer ago than this are refused; also what `expire` is called with.
    pub retention_ns: i64,
    /// Spans that start further than this ahead of now are refused (10 minutes).
    pub ahead_ns: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Spans stored.
    pub stored: u64,
    /// Spans that were in the head already; the later copy replaces the earlier one.
    pub duplicates: u64,
    /// Spans older than retention.
    pub too_old: u64,
    /// Spans too far in the future.
    pub too_new: u64,
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
    /// Traces in the head.
    pub head_traces: u64,
    /// Spans in the head.
    pub head_spans: u64,
    /// Bytes of memory of the head.
    pub head_bytes: u64,
    /// Start of the head's first span, if it has one.
    pub head_min: Option<TimestampNs>,
    /// Start of the head's last span.
    pub head_max: Option<TimestampNs>,
    /// Spans stored since start.
    pub appended: u64,
    /// Blocks on disk.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// The log's counters.
    pub wal: storage_wal::Stats,
    /// Row groups that could not be read since start.
    pub corrupt_chunks: u64,
    /// Cuts done since start.
    pub cuts: u64,
    /// Compactions done since start.
    pub compactions: u64,
}

/// The engine; share it behind an `Arc`.
pub struct Traces {
    _inner: (),
}

impl Traces {
    /// Opens or creates the engine and replays its WAL.
    pub fn open(parts: Parts, options: Options) -> Result<(Traces, storage_wal::Replay), BlockError> {
        let _ = (parts, options);
        todo!()
    }
    /// Returns when the batch is durable; then no crash loses it. Says how many spans were refused, and why.
    pub async fn append(&self, batch: SpanBatch, now: TimestampNs) -> Result<Appended, AppendError> {
        let _ = (batch, now);
        todo!()
    }
    /// What is stored at this moment, for reading in peace. Traces with a span that touches `range`.
    pub fn snapshot(&self, range: TimeRangeNs) -> Snapshot {
        let _ = range;
        todo!()
    }
    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        todo!()
    }
    /// Merges blocks of one day into one, joining traces and dropping duplicate spans. Readers keep the old blocks.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<BlockId, BlockError> {
        let _ = blocks;
        todo!()
    }
    /// Drops from the head what ended before `before`. (Blocks are retired by `storage`.)
    pub fn expire(&self, before: TimestampNs) -> Result<(), BlockError> {
        let _ = before;
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

/// Where an attribute hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttributeScope {
    /// On the span.
    Span,
    /// On the resource.
    Resource,
    /// On an event of the span.
    Event,
    /// On a link of the span.
    Link,
    /// On the instrumentation scope.
    Instrumentation,
    /// On the span or, failing that, on the resource (`.name` in TraceQL).
    Any,
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A span's name.
    Name,
    /// A span's status, as OTLP's number.
    Status,
    /// A span's kind, as OTLP's number.
    Kind,
    /// A span's duration, ns.
    Duration,
    /// An attribute.
    Attribute(AttributeScope, String),
}

/// How a condition compares. A missing value passes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There is a value.
    Exists,
    /// It equals one of these.
    In(Vec<AttributeValue>),
    /// It is text that matches (anchored).
    Matches(String),
    /// It is a number of at least this.
    AtLeast(f64),
    /// It is a number of at most this.
    AtMost(f64),
}

/// One thing that a wanted span shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// How.
    pub test: Test,
}

/// What a scan shall bring.
#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    /// Alternatives, each a list of conditions that one span shows together. A trace without any such span may be
    /// skipped (this is pushdown: the engine may bring more, never less). Empty: no trace may be skipped.
    pub any_of: Vec<Vec<Condition>>,
    /// Which attributes to decode.
    pub attributes: Projection,
    /// Whether events are wanted.
    pub events: bool,
    /// Whether links are wanted.
    pub links: bool,
}

/// Which attributes a scan decodes; the others are absent from the spans it brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Projection {
    /// Every attribute.
    #[default]
    All,
    /// Only these (and always `service.name` of the resource).
    Only(Vec<(AttributeScope, String)>),
}

impl Snapshot {
    /// All spans of a trace, sorted by start, duplicates removed; empty if it is not known.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, BlockError> {
        let _ = id;
        todo!()
    }
    /// Calls `visit` with every trace that has a span touching the snapshot's range: all its spans, sorted by start,
    /// joined over head and blocks, whatever their time. `shard` of `shards` (0 <= shard < shards) splits the space of
    /// trace ids, so that shards can run in parallel; within one, traces come in rising order of id. `visit` breaks off.
    pub fn scan(
        &self,
        request: &ScanRequest,
        shard: u32,
        shards: u32,
        visit: &mut dyn FnMut(TraceId, &mut Vec<Span>) -> ControlFlow<()>,
    ) -> Result<ScanStats, BlockError> {
        let _ = (request, shard, shards, visit);
        todo!()
    }
    /// Names of attributes in use, by scope (never [`AttributeScope::Any`]), sorted.
    pub fn attribute_names(&self) -> Result<Vec<(AttributeScope, String)>, BlockError> {
        todo!()
    }
    /// Distinct values of an attribute, at most `limit`.
    pub fn attribute_values(
        &self,
        scope: AttributeScope,
        name: &str,
        limit: usize,
    ) -> Result<Vec<AttributeValue>, BlockError> {
        let _ = (scope, name, limit);
        todo!()
    }
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Traces looked at.
    pub traces: u64,
    /// Spans looked at.
    pub spans: u64,
    /// Bytes read.
    pub bytes: u64,
}
