//! The catalogue: which blocks exist, and the label index, both on RocksDB (which lives here and nowhere else).
//!
//! Blocks and WAL are the truth, RocksDB is derived: a missing or damaged database is rebuilt from the `meta` and
//! `labels` files that every block directory carries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{BlockId, Day, LabelSet, Matcher, Signal, TimeRangeNs, TimestampNs};
use roaring::RoaringBitmap;
use storage_disk::Disk;

/// What the catalogue knows of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// The block.
    pub id: BlockId,
    /// Whose.
    pub signal: Signal,
    /// The UTC day its data lies in.
    pub day: Day,
    /// Time of its first item.
    pub min: TimestampNs,
    /// Time of its last item, inclusive.
    pub max: TimestampNs,
    /// 0 when cut from a head; one more than its inputs when compacted.
    pub level: u8,
    /// Samples, entries or spans.
    pub items: u64,
    /// Series, streams or traces.
    pub keys: u64,
    /// Size on disk; filled in by [`Catalogue::publish`].
    pub bytes: u64,
    /// The blocks it was compacted from.
    pub replaces: Vec<BlockId>,
}

/// A block directory being written beside the published ones; removed if dropped unpublished.
pub struct Staged {
    _inner: (),
}

impl Staged {
    /// The block's id.
    pub fn id(&self) -> BlockId {
        todo!()
    }
    /// The directory to write files into.
    pub fn dir(&self) -> &Path {
        todo!()
    }
}

/// What [`Catalogue::publish`] makes a block from.
pub struct NewBlock {
    /// Its directory, all files but `meta` and `labels` written.
    pub staged: Staged,
    /// What to know of it; `meta.id` must be `staged.id()`.
    pub meta: BlockMeta,
    /// Every id in the block with its label set, rising by id; empty for traces.
    pub labels: Vec<(u32, LabelSet)>,
}

/// A published block. While a reference is held its files stay, even if the block was replaced or expired.
#[derive(Clone)]
pub struct BlockRef {
    _inner: Arc<()>,
}

impl BlockRef {
    /// What the catalogue knows of it.
    pub fn meta(&self) -> &BlockMeta {
        todo!()
    }
    /// Its directory.
    pub fn dir(&self) -> &Path {
        todo!()
    }
}

/// Why the catalogue could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// RocksDB said no.
    #[error("{path}: {message}")]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// Its words.
        message: String,
    },
    /// A block directory could not be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// What opening met.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Why the database was rebuilt from the blocks, if it was.
    pub rebuilt: Option<String>,
    /// Unpublished or replaced directories that were removed.
    pub removed_dirs: usize,
    /// Block directories that could not be read and were set aside, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Which index: ids of series or of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// Metric series.
    Series,
    /// Log streams.
    Streams,
}

/// The catalogue; cloning shares it.
#[derive(Clone)]
pub struct Catalogue {
    _inner: Arc<()>,
}

impl Catalogue {
    /// Opens or creates: blocks lie in `dir/<signal>/blocks/`, the database in `dir/catalogue/`.
    pub fn open(disk: Disk, dir: &Path) -> Result<(Catalogue, Opened), CatalogueError> {
        let _ = (disk, dir);
        todo!()
    }
    /// A fresh directory for a new block.
    pub fn stage(&self, signal: Signal) -> Result<Staged, CatalogueError> {
        let _ = signal;
        todo!()
    }
    /// Makes staged blocks exist: writes each one's `meta` (and, for metrics and logs, `labels`), syncs, renames into
    /// place, and enters all of them while the blocks in their `meta.replaces` leave, in one durable write.
    /// `checkpoint` is the engine's WAL place below which every record is in blocks now: it is stored in the same write
    /// (and in each `meta` file, for rebuilds), so that replay after a crash can skip what is in blocks already.
    pub fn publish(&self, blocks: Vec<NewBlock>, checkpoint: Option<u64>) -> Result<Vec<BlockRef>, CatalogueError> {
        let _ = (blocks, checkpoint);
        todo!()
    }
    /// The last checkpoint published for a signal.
    pub fn checkpoint(&self, signal: Signal) -> Option<u64> {
        let _ = signal;
        todo!()
    }
    /// The blocks of a signal that touch `range`, by day, then id.
    pub fn blocks(&self, signal: Signal, range: TimeRangeNs) -> Vec<BlockRef> {
        let _ = (signal, range);
        todo!()
    }
    /// Forgets blocks, in one durable write; their directories go when the last reader drops them.
    pub fn retire(&self, blocks: &[BlockId]) -> Result<(), CatalogueError> {
        let _ = blocks;
        todo!()
    }
    /// The label index of a kind.
    pub fn labels(&self, kind: IndexKind) -> LabelIndex {
        let _ = kind;
        todo!()
    }
    /// Makes the label index durable. Called before WAL segments are deleted.
    pub fn flush(&self) -> Result<(), CatalogueError> {
        todo!()
    }
    /// Bytes of the database on disk.
    pub fn disk_bytes(&self) -> u64 {
        todo!()
    }
}

/// Label sets by id, and postings by day; cloning shares it.
///
/// Writes are visible to reads at once. Active ids are also held in RAM (hash -> id), so that ingest makes no point
/// reads for a known label set.
#[derive(Clone)]
pub struct LabelIndex {
    _inner: Arc<()>,
}

impl LabelIndex {
    /// The id of an encoded label set (see `model::LabelSet`), given if it is new, and notes that it is in use on `day`.
    /// Cheap when (labels, day) is known: one hash lookup, no allocation, no I/O.
    pub fn intern(&self, day: Day, encoded: &[u8], hash: u64) -> Result<u32, CatalogueError> {
        let _ = (day, encoded, hash);
        todo!()
    }
    /// Restores a definition met in a WAL: this id has this label set and is in use on `day`. Idempotent. If the label
    /// set has another id already (its definition was flushed), that id is returned and must be used instead.
    pub fn define(&self, id: u32, day: Day, labels: &LabelSet) -> Result<u32, CatalogueError> {
        let _ = (id, day, labels);
        todo!()
    }
    /// Ids in use on any day of the range whose label set passes every matcher. With no matchers: all ids of those days.
    pub fn postings(&self, days: (Day, Day), matchers: &[Matcher]) -> Result<RoaringBitmap, CatalogueError> {
        let _ = (days, matchers);
        todo!()
    }
    /// Label names in use in the range, sorted; only of `ids` if given.
    pub fn names(&self, days: (Day, Day), ids: Option<&RoaringBitmap>) -> Result<Vec<String>, CatalogueError> {
        let _ = (days, ids);
        todo!()
    }
    /// Values of one label in use in the range, sorted; only of `ids` if given.
    pub fn values(
        &self,
        days: (Day, Day),
        name: &str,
        ids: Option<&RoaringBitmap>,
    ) -> Result<Vec<String>, CatalogueError> {
        let _ = (days, name, ids);
        todo!()
    }
    /// Label sets of ids, rising by id; ids that are not known are left out.
    pub fn label_sets(&self, ids: &RoaringBitmap) -> Result<Vec<(u32, LabelSet)>, CatalogueError> {
        let _ = ids;
        todo!()
    }
    /// Forgets all days before `day`; ids not in use since are gone for good.
    pub fn expire(&self, day: Day) -> Result<(), CatalogueError> {
        let _ = day;
        todo!()
    }
    /// Ids known in RAM now.
    pub fn active(&self) -> usize {
        todo!()
    }
}
