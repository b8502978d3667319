//! The traces engine: spans in, traces out. Parquet blocks keyed by trace id.
//!
//! A batch becomes durable in the WAL, then joins the *head*, a map from trace id to spans. [`Traces::cut`] freezes the
//! head into *blocks*, one per UTC day: plain Parquet, one row per span, sorted by (trace id, start). Late spans land in
//! a later block; reading and compaction join them by trace id. A span is one by (trace id, span id, kind); of several
//! copies the one that was stored last counts.
//!
//! A span is filed under the day of its start; one that lasts longer than a day under the day before its end, so that
//! retention bounds the number of days whatever senders say. A reader holds a [`Snapshot`] (heads and blocks) and never
//! makes an append wait for longer than it takes to copy a trace's pointers.
//!
//! Not here: TraceQL (`query-traceql`), push protocols (`ingest`), when to cut (`storage::tick`).

#[cfg(test)]
mod arbitrary;
mod block;
mod block_file;
mod block_index;
mod columns;
mod compact;
mod condition;
mod cursor;
mod cut;
#[cfg(test)]
mod engine_test;
mod head;
mod input;
mod kept;
mod nested_set;
mod newest;
mod packed;
mod pages;
mod record;
mod request;
mod row_columns;
mod rows;
mod scan;
mod span_bytes;
mod span_column;
mod span_rows;
mod survey;
mod symbols;
mod tags;
mod value_text;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{BlockId, DAY_NS, Signal, TimeRangeNs, TimestampNs};
use parking_lot::{Mutex, RwLock};
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue};
use storage_disk::Disk;
use storage_wal::{Lsn, Wal};

pub use newest::Spread;
pub use packed::PackedSpans;
pub use request::{AttributeScope, Condition, Field, Projection, ScanRequest, ScanStats, Test};
pub use scan::Snapshot;
pub use span_column::SpanColumn;
pub use span_rows::{RowScan, SpanPlace, SpanRows, TraceRows, id_mark};

use block_file::Blocks;
use head::Head;

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
    disk: Disk,
    catalogue: Catalogue,
    blocks: Arc<Blocks>,
    budget: Budget,
    options: Options,
    wal: Wal,
    /// Read while a batch goes into log and head, written while a cut swaps both: a batch is on the same side of a cut in
    /// the log and in the head.
    heads: RwLock<Heads>,
    /// One cut at a time.
    cutting: Mutex<()>,
    appended: AtomicU64,
    cuts: AtomicU64,
    compactions: AtomicU64,
}

struct Heads {
    /// Takes appends.
    current: Arc<Head>,
    /// Being written into blocks; all its records lie below the place in the log.
    frozen: Option<(Arc<Head>, Lsn)>,
}

impl Traces {
    /// Opens or creates the engine and replays its WAL.
    pub fn open(parts: Parts, options: Options) -> Result<(Traces, storage_wal::Replay), BlockError> {
        let head = Head::new(&parts.budget);
        let checkpoint = Lsn(parts.catalogue.checkpoint(Signal::Traces).unwrap_or(0));
        let mut encoder = head.encoder();
        let mut replay = |lsn: Lsn, kind: u8, payload: &[u8]| {
            if lsn < checkpoint {
                return;
            }
            if kind != record::SPANS {
                tracing::warn!(lsn = lsn.0, kind, "traces WAL: a record of unknown kind was skipped");
                return;
            }
            let decoded = record::decode(payload, &mut |span| {
                encoder.apply(&span);
            });
            if let Err(e) = decoded {
                tracing::warn!(lsn = lsn.0, error = %e, "traces WAL: the rest of a damaged record was skipped");
            }
        };
        let (wal, replayed) = Wal::open(parts.disk.clone(), &parts.dir.join("wal"), parts.wal, &mut replay)?;
        drop(encoder);
        head.account();
        // A crash between publishing and truncating leaves segments that are in blocks already.
        wal.truncate(checkpoint)?;
        // Does something only when the log's files were lost: places below the checkpoint would not be replayed.
        wal.skip_to(checkpoint)?;
        let traces = Traces {
            blocks: Arc::new(Blocks::new(parts.disk.clone())),
            disk: parts.disk,
            catalogue: parts.catalogue,
            budget: parts.budget,
            options,
            wal,
            heads: RwLock::new(Heads {
                current: Arc::new(head),
                frozen: None,
            }),
            cutting: Mutex::new(()),
            appended: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
        };
        Ok((traces, replayed))
    }

    /// Returns when the batch is durable; then no crash loses it. Says how many spans were refused, and why: those that
    /// ended before retention, and those that start too far ahead of `now` or end more than a day later than that.
    pub async fn append(&self, spans: impl Into<PackedSpans>, now: TimestampNs) -> Result<Appended, AppendError> {
        let (mut spans, mut appended) = (spans.into(), Appended::default());
        self.admit(&mut spans, now, &mut appended);
        if spans.is_empty() {
            return Ok(appended);
        }
        let record = spans.record();
        let room = self.budget.reserve(record.len() as u64 * 2)?;
        let lsn = {
            let heads = self.heads.read();
            let lsn = self.wal.append(record::SPANS, &record)?;
            appended.duplicates = heads.current.apply(&spans);
            heads.current.account();
            lsn
        };
        drop(room);
        drop(record);
        appended.stored = spans.len() as u64;
        // While the disk is waited for, memory is for others.
        drop(spans);
        self.appended.fetch_add(appended.stored, Ordering::Relaxed);
        self.wal.durable(lsn).await?;
        Ok(appended)
    }

    /// What is stored at this moment, for reading in peace. Traces with a span that touches `range`.
    pub fn snapshot(&self, range: TimeRangeNs) -> Snapshot {
        // Heads first: a cut that ends in between shows its spans twice, which reading resolves, rather than never.
        let heads = {
            let heads = self.heads.read();
            let frozen = heads.frozen.iter().map(|(head, _)| head.clone());
            frozen.chain([heads.current.clone()]).collect()
        };
        let blocks = self.catalogue.blocks(Signal::Traces, scan::with_slack(range));
        Snapshot::new(heads, blocks, self.blocks.clone(), range)
    }

    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        let _one_at_a_time = self.cutting.lock();
        // A head that could not be written last time goes first; its records are still in the log.
        let mut written = self.write_frozen()?;
        let rolling = {
            let mut heads = self.heads.write();
            // Also a log that has failed wants a new segment, even if nothing waits to be cut.
            if heads.current.is_empty() && self.wal.failed().is_none() {
                return Ok(written);
            }
            let (checkpoint, rolling) = self.wal.begin_roll();
            let full = std::mem::replace(&mut heads.current, Arc::new(Head::new(&self.budget)));
            heads.frozen = Some((full, checkpoint));
            rolling
        };
        // Appends do not wait for the disk here. If it says no, the log refuses them until the next cut, which begins with
        // what is frozen now.
        rolling.wait()?;
        written.extend(self.write_frozen()?);
        Ok(written)
    }

    fn write_frozen(&self) -> Result<Vec<BlockId>, BlockError> {
        let Some((head, checkpoint)) = self.heads.read().frozen.clone() else {
            return Ok(Vec::new());
        };
        let written = cut::write_head(&self.disk, &self.catalogue, &head, checkpoint)?;
        self.heads.write().frozen = None;
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.wal.truncate(checkpoint)?;
        Ok(written)
    }

    /// Merges blocks of one day into one, joining traces and dropping duplicate spans. Readers keep the old blocks.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<BlockId, BlockError> {
        let merged = compact::merge(&self.disk, &self.catalogue, &self.blocks, blocks)?;
        self.compactions.fetch_add(1, Ordering::Relaxed);
        Ok(merged)
    }

    /// Drops from the head what ended before `before`. (Blocks are retired by `storage`.)
    pub fn expire(&self, before: TimestampNs) -> Result<(), BlockError> {
        let head = self.heads.read().current.clone();
        head.expire(before);
        Ok(())
    }

    /// Figures for the self-metrics.
    pub fn stats(&self) -> Stats {
        let blocks = self.catalogue.blocks(Signal::Traces, TimeRangeNs::ALL);
        let heads = self.heads.read();
        let mut stats = Stats {
            appended: self.appended.load(Ordering::Relaxed),
            blocks: blocks.len() as u64,
            block_bytes: blocks.iter().map(|b| b.meta().bytes).sum(),
            wal: self.wal.stats(),
            corrupt_chunks: self.blocks.corrupt(),
            cuts: self.cuts.load(Ordering::Relaxed),
            compactions: self.compactions.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for head in heads.frozen.iter().map(|(head, _)| head).chain([&heads.current]) {
            stats.head_traces += head.traces();
            stats.head_spans += head.spans();
            stats.head_bytes += head.bytes();
            if let Some((min, max)) = head.range() {
                stats.head_min = Some(stats.head_min.map_or(min, |m| m.min(min)));
                stats.head_max = Some(stats.head_max.map_or(max, |m| m.max(max)));
            }
        }
        stats
    }

    /// Syncs the WAL for a clean stop.
    pub fn sync(&self) -> Result<(), BlockError> {
        Ok(self.wal.sync()?)
    }

    fn admit(&self, spans: &mut PackedSpans, now: TimestampNs, appended: &mut Appended) {
        let oldest = now.0.saturating_sub(self.options.retention_ns);
        let newest = now.0.saturating_add(self.options.ahead_ns);
        spans.retain(|span| {
            let old = span.end.max(span.start).0 < oldest;
            let new = span.start.0 > newest || span.end.0 > newest.saturating_add(DAY_NS);
            appended.too_old += u64::from(old);
            appended.too_new += u64::from(new && !old);
            !old && !new
        });
    }
}
