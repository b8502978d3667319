//! The metrics engine: samples in, samples out. A Gorilla-encoded TSDB.
//!
//! A batch becomes durable in the WAL, then joins its series' open chunks in the *head*. [`Metrics::cut`] freezes the
//! head into *blocks*, one per UTC day; [`Metrics::compact`] joins blocks of one day, resolving late samples and
//! duplicates. A reader holds a [`Snapshot`] (head views plus blocks) and never makes an append wait.
//!
//! Not here: PromQL (`query-promql`), push protocols (`ingest`), when to cut (`storage::tick`).

mod append;
mod block;
mod cardinality;
mod chunk;
mod compact;
mod cut;
mod exemplar;
mod gorilla;
mod head;
mod histogram;
mod histogram_chunk;
mod histogram_stream;
#[cfg(test)]
mod histogram_tests;
mod id_map;
mod metadata;
mod record;
mod record_columns;
mod replay;
mod residual;
mod samples;
mod scan;
mod series;
mod starts;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tombstones;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use model::{BlockId, MetricMetadata, SampleBatch, Signal, TimeRangeMs, TimeRangeNs, TimestampMs};
use parking_lot::{Mutex, RwLock};
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue, IndexKind, LabelIndex};
use storage_disk::Disk;
use storage_wal::{Lsn, Wal};

pub use cardinality::Cardinality;
pub use samples::{Histograms, Samples};
pub use scan::{Series, Snapshot};

use head::Head;
use metadata::Families;
use replay::Replayer;
use scan::Blocks;
use tombstones::Tombstones;

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
    /// Floats stored.
    pub stored: u64,
    /// Native histograms stored.
    pub histograms: u64,
    /// Native histograms that are none.
    pub invalid: u64,
    /// Samples that were there already with the same value, histograms included.
    pub duplicates: u64,
    /// Of these, histograms.
    pub duplicate_histograms: u64,
    /// Exemplars inside the window; known ones count again.
    pub exemplars: u64,
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
    /// Only blocks of one day can become one.
    #[error("compaction asked for blocks that are not of one day: {blocks:?}")]
    NotOneDay {
        /// The blocks.
        blocks: Vec<BlockId>,
    },
    /// More deletions than are remembered one by one.
    #[error(
        "{max} deletions wait for compaction already; clean tombstones (POST /api/v1/admin/tsdb/clean_tombstones), then delete again"
    )]
    TooManyTombstones {
        /// The limit.
        max: usize,
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
    disk: Disk,
    catalogue: Catalogue,
    index: LabelIndex,
    budget: Budget,
    wal: Wal,
    options: Options,
    families: Families,
    /// Shared by appends from log to head, alone for the moment of a freeze.
    gate: RwLock<()>,
    heads: ArcSwap<Heads>,
    log: Mutex<append::Log>,
    cutting: Mutex<()>,
    compacting: Mutex<()>,
    blocks: Arc<Blocks>,
    tombstones: Tombstones,
    /// Start of the first day that has not expired, ms.
    floor_ms: AtomicI64,
    appended: AtomicU64,
    cuts: AtomicU64,
    compactions: AtomicU64,
}

/// The head that takes appends and, between a freeze and its blocks, the one before; more than one only while blocks
/// cannot be written.
struct Heads {
    active: Arc<Head>,
    /// Oldest first.
    frozen: Vec<Arc<Frozen>>,
}

/// A head that becomes blocks.
struct Frozen {
    head: Arc<Head>,
    /// Its records lie below.
    checkpoint: Lsn,
}

impl Metrics {
    /// Opens or creates the engine and replays its WAL.
    pub fn open(parts: Parts, options: Options) -> Result<(Metrics, storage_wal::Replay), BlockError> {
        let Parts {
            disk,
            catalogue,
            budget,
            dir,
            wal,
        } = parts;
        disk.create_dir_all(&dir).map_err(|e| block::io_error(&dir, e))?;
        let families = Families::open(&disk, &dir)?;
        let index = catalogue.labels(IndexKind::Series);
        let head = Head::new(&budget);
        let checkpoint = Lsn(catalogue.checkpoint(Signal::Metrics).unwrap_or(0));
        let mut replayer = Replayer::new(&head, &index, &families, checkpoint);
        let (wal, replay) = Wal::open(disk.clone(), &dir.join("wal"), wal, &mut |lsn, kind, payload| {
            replayer.record(lsn, kind, payload);
        })?;
        replayer.finish()?;
        // Does something only when the log's files were lost: places below the checkpoint would not be replayed.
        wal.skip_to(checkpoint)?;
        if let Err(error) = wal.truncate(checkpoint) {
            tracing::warn!(%error, "WAL segments whose records are in blocks could not be removed");
        }
        let tombstones = Tombstones::open(&disk, &dir, &catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL))?;
        let metrics = Metrics {
            tombstones,
            blocks: Arc::new(Blocks::new(disk.clone())),
            disk,
            catalogue,
            index,
            budget,
            wal,
            options,
            families,
            gate: RwLock::new(()),
            log: Mutex::default(),
            heads: ArcSwap::from_pointee(Heads {
                active: Arc::new(head),
                frozen: Vec::new(),
            }),
            cutting: Mutex::new(()),
            compacting: Mutex::new(()),
            floor_ms: AtomicI64::new(i64::MIN),
            appended: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
        };
        Ok((metrics, replay))
    }

    /// Returns when the batch is durable; then no crash loses it. Says which samples were refused, and why.
    ///
    /// A sample is compared with those of the heads: the same again counts as duplicate, another value at its time as
    /// conflict. Against blocks, reading and compaction let the first stored stay.
    pub async fn append(&self, batch: &SampleBatch, now: TimestampMs) -> Result<Appended, AppendError> {
        let (appended, lsn) = self.append_now(batch, now)?;
        if let Some(lsn) = lsn {
            self.wal.durable(lsn).await?;
        }
        Ok(appended)
    }

    /// The first half of [`Metrics::append`]: when it returns, queries see the samples. They are durable when
    /// [`Metrics::durable`] has returned for the place that is given; `None`: there was nothing to store.
    pub fn begin_append(
        &self,
        batch: &SampleBatch,
        now: TimestampMs,
    ) -> Result<(Appended, Option<storage_wal::Lsn>), AppendError> {
        self.append_now(batch, now)
    }

    /// Returns when everything up to a place that [`Metrics::begin_append`] gave is durable.
    pub async fn durable(&self, place: storage_wal::Lsn) -> Result<(), AppendError> {
        Ok(self.wal.durable(place).await?)
    }

    /// What is stored at this moment, for reading in peace: blocks and frozen samples stay as they are; samples
    /// appended later may be seen as well.
    pub fn snapshot(&self, range: TimeRangeMs) -> Snapshot {
        let range = TimeRangeMs {
            start: range.start.max(self.floor()),
            end: range.end,
        };
        // Heads before blocks: what moves from one to the other meanwhile is seen twice, never not at all.
        let heads = self.heads.load();
        let frozen = heads.frozen.iter().map(|frozen| frozen.head.clone());
        let heads = frozen.chain([heads.active.clone()]).collect();
        let range_ns = TimeRangeNs {
            start: range.start.to_ns(),
            end: TimestampMs(range.end.0.saturating_add(1)).to_ns(),
        };
        // Tombstones and blocks of one moment: a block that replaced another has its own.
        let (blocks, masks) = loop {
            let before = self.tombstones.masks();
            let blocks = self.catalogue.blocks(Signal::Metrics, range_ns);
            let masks = self.tombstones.masks();
            if Arc::ptr_eq(&before, &masks) {
                break (blocks, masks);
            }
        };
        Snapshot {
            range,
            blocks,
            masks,
            heads,
            opener: self.blocks.clone(),
            index: self.index.clone(),
        }
    }

    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    /// This also makes a log usable again that failed to write.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        self.cut_now()
    }

    /// Merges blocks of one day into one; here late samples and duplicates are resolved. Readers keep the old blocks.
    /// `None`: all that was in them had been deleted, or some of them were replaced since they were chosen.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<Option<BlockId>, BlockError> {
        let _one_at_a_time = self.compacting.lock();
        let level = blocks.iter().map(|block| block.meta().level).max().unwrap_or(0);
        self.rewrite(blocks, level.saturating_add(1))
    }

    /// Drops from the label index and the head what ended before `before`, by whole days. (Blocks are retired by
    /// `storage`.) Samples of the head are no longer seen at once, and go at the next cut.
    pub fn expire(&self, before: TimestampMs) -> Result<(), BlockError> {
        let day = before.day();
        self.floor_ms.fetch_max(day.start_ms().0, Ordering::AcqRel);
        self.index.expire(day)?;
        self.forget_closed_blocks();
        Ok(())
    }

    /// What is known of metric families, by name.
    pub fn metadata(&self) -> Vec<(String, MetricMetadata)> {
        self.families.all()
    }

    /// Figures for the self-metrics.
    pub fn stats(&self) -> Stats {
        let heads = self.heads.load();
        let both = || heads.frozen.iter().map(|frozen| &frozen.head).chain([&heads.active]);
        let blocks = self.catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
        self.blocks.retain(&blocks);
        Stats {
            head_series: both().map(|head| head.series()).sum(),
            head_samples: both().map(|head| head.samples()).sum(),
            head_bytes: both().map(|head| head.bytes()).sum(),
            head_min: both().filter_map(|head| Some(TimestampMs(head.extent()?.0))).min(),
            head_max: both().filter_map(|head| Some(TimestampMs(head.extent()?.1))).max(),
            appended: self.appended.load(Ordering::Relaxed),
            blocks: blocks.len() as u64,
            block_bytes: blocks.iter().map(|block| block.meta().bytes).sum(),
            wal: self.wal.stats(),
            corrupt_chunks: self.blocks.damaged(),
            cuts: self.cuts.load(Ordering::Relaxed),
            compactions: self.compactions.load(Ordering::Relaxed),
        }
    }

    /// Syncs the WAL for a clean stop.
    pub fn sync(&self) -> Result<(), BlockError> {
        Ok(self.wal.sync()?)
    }

    /// Before it nothing is seen.
    fn floor(&self) -> TimestampMs {
        TimestampMs(self.floor_ms.load(Ordering::Acquire))
    }

    /// Closes files and drops tombstones of blocks that are gone.
    fn forget_closed_blocks(&self) {
        let blocks = self.catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
        self.blocks.retain(&blocks);
        if let Err(error) = self.tombstones.retain(&blocks) {
            tracing::warn!(%error, "tombstones of blocks that are gone stay until the next change");
        }
    }
}
