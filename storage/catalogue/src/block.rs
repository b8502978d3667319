//! Blocks as the catalogue hands them out: described, being written, published.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{BlockId, Day, LabelSet, Signal, TimestampNs};
use parking_lot::Mutex;
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
    /// Size on disk; filled in by [`Catalogue::publish`](crate::Catalogue::publish).
    pub bytes: u64,
    /// The blocks it was compacted from.
    pub replaces: Vec<BlockId>,
}

/// A block directory being written beside the published ones; removed if dropped unpublished.
pub struct Staged {
    pub(crate) id: BlockId,
    pub(crate) signal: Signal,
    pub(crate) dir: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) is_published: bool,
}

impl Staged {
    /// The block's id.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// The directory to write files into.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        if let Err(error) = self.disk.remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "unpublished block stays until the next start");
        }
    }
}

/// What [`Catalogue::publish`](crate::Catalogue::publish) makes a block from.
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
    block: Arc<Published>,
}

impl BlockRef {
    /// What the catalogue knows of it.
    pub fn meta(&self) -> &BlockMeta {
        &self.block.meta
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.block.dir
    }

    pub(crate) fn new(meta: BlockMeta, dir: PathBuf, disk: Disk, condemned: Arc<Condemned>) -> BlockRef {
        BlockRef {
            block: Arc::new(Published {
                meta,
                dir,
                disk,
                is_condemned: AtomicBool::new(false),
                condemned,
            }),
        }
    }

    /// The block left the catalogue: its directory goes with the last reference.
    pub(crate) fn condemn(&self) {
        self.block.condemned.ids.lock().insert(self.block.meta.id);
        self.block.is_condemned.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for BlockRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.meta().fmt(f)
    }
}

/// Blocks that left the catalogue and whose directories are still there.
#[derive(Default)]
pub(crate) struct Condemned {
    ids: Mutex<BTreeSet<BlockId>>,
}

impl Condemned {
    /// Which they are now.
    pub(crate) fn ids(&self) -> Vec<BlockId> {
        self.ids.lock().iter().copied().collect()
    }
}

struct Published {
    meta: BlockMeta,
    dir: PathBuf,
    disk: Disk,
    is_condemned: AtomicBool,
    condemned: Arc<Condemned>,
}

impl Drop for Published {
    fn drop(&mut self) {
        if !self.is_condemned.load(Ordering::Acquire) {
            return;
        }
        match remove_block_dir(&self.disk, &self.dir) {
            Ok(()) => {
                self.condemned.ids.lock().remove(&self.meta.id);
            }
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "directory of a retired block stays until the next start");
            }
        }
    }
}

/// Removes the directory of a block that is no more. It is renamed first, so that a crash half-way leaves no directory that
/// looks like a block and cannot be read.
pub(crate) fn remove_block_dir(disk: &Disk, dir: &Path) -> io::Result<()> {
    let going = dir.with_extension(STAGED_EXTENSION);
    disk.publish_dir(dir, &going)?;
    disk.remove_dir_all(&going)
}

/// Directories with this extension are not (or no longer) blocks; opening removes them.
pub(crate) const STAGED_EXTENSION: &str = "tmp";
/// Directories with this extension were blocks that a rebuild could not read.
pub(crate) const UNREADABLE_EXTENSION: &str = "unreadable";

/// Where the blocks of a signal lie.
pub(crate) fn blocks_dir(dir: &Path, signal: Signal) -> PathBuf {
    dir.join(signal.as_str()).join("blocks")
}

/// Where a block lies.
pub(crate) fn block_dir(dir: &Path, signal: Signal, id: BlockId) -> PathBuf {
    blocks_dir(dir, signal).join(id.to_string())
}
