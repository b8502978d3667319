//! Which blocks exist.
//!
//! A block is written into a staged directory, then published: files synced, directory renamed, and entered here in one
//! write together with what it replaces and the WAL checkpoint it stands for. The order makes every crash harmless: a
//! directory that is not entered is removed at the next start (its data is in the WAL, or in the blocks it would have
//! replaced), and a directory is removed only after the write that forgets it is durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{BlockId, Signal, TimeRangeNs};
use parking_lot::{Mutex, RwLock};
use storage_disk::Disk;

use crate::block::{BlockMeta, BlockRef, Condemned, NewBlock, STAGED_EXTENSION, Staged, block_dir};
use crate::database::{Batch, Database, Family};
use crate::error::{CatalogueError, at, invalid};
use crate::label_index::{IndexKind, LabelIndex};
use crate::meta_file::{self, MetaFile};
use crate::{labels_file, recover};

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

/// The catalogue; cloning shares it.
///
/// What was interned, defined or retired is durable after [`Catalogue::flush`] or the next [`Catalogue::publish`];
/// dropping the catalogue does not flush, so a clean stop that wants a quick start calls `flush` first.
#[derive(Clone)]
pub struct Catalogue {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Disk,
    dir: PathBuf,
    database: Arc<Database>,
    series: LabelIndex,
    streams: LabelIndex,
    next_block: AtomicU64,
    listed: RwLock<Listed>,
    /// Held while blocks are entered or leave; never while files are written.
    entering: Mutex<Entering>,
    condemned: Arc<Condemned>,
}

/// What readers ask for; locked for moments only.
#[derive(Default)]
pub(crate) struct Listed {
    /// By day, then id.
    pub(crate) blocks: [Vec<BlockRef>; 3],
    pub(crate) checkpoints: [Option<u64>; 3],
}

#[derive(Default)]
struct Entering {
    /// Directories of a write that failed: whether it became durable is known only after the next flush.
    doubtful: Vec<PathBuf>,
}

impl Catalogue {
    /// Opens or creates: blocks lie in `dir/<signal>/blocks/`, the database in `dir/catalogue/`.
    ///
    /// The database lies on the operating system's disk even if `disk` is another one, so `dir` must exist there.
    pub fn open(disk: Disk, dir: &Path) -> Result<(Catalogue, Opened), CatalogueError> {
        let condemned = Arc::new(Condemned::default());
        let (recovered, opened) = recover::open(&disk, dir, &condemned)?;
        let catalogue = Catalogue {
            inner: Arc::new(Inner {
                disk,
                dir: dir.to_owned(),
                database: recovered.database,
                series: LabelIndex {
                    index: Arc::new(recovered.series),
                },
                streams: LabelIndex {
                    index: Arc::new(recovered.streams),
                },
                next_block: AtomicU64::new(recovered.next_block),
                listed: RwLock::new(recovered.listed),
                entering: Mutex::default(),
                condemned,
            }),
        };
        Ok((catalogue, opened))
    }

    /// A fresh directory for a new block.
    pub fn stage(&self, signal: Signal) -> Result<Staged, CatalogueError> {
        let inner = &*self.inner;
        let id = BlockId(inner.next_block.fetch_add(1, Ordering::Relaxed));
        let dir = block_dir(&inner.dir, signal, id).with_extension(STAGED_EXTENSION);
        let staged = Staged {
            id,
            signal,
            dir,
            disk: inner.disk.clone(),
            is_published: false,
        };
        inner.disk.create_dir_all(&staged.dir).map_err(at(&staged.dir))?;
        Ok(staged)
    }

    /// Makes staged blocks exist: writes each one's `meta` (and, for metrics and logs, `labels`), syncs, renames into
    /// place, and enters all of them while the blocks in their `meta.replaces` leave, in one durable write.
    /// `checkpoint` is the engine's WAL place below which every record is in blocks now: it is stored in the same write
    /// (and in each `meta` file, for rebuilds), so that replay after a crash can skip what is in blocks already.
    /// All blocks of one call are of one signal. On error none of them exists and nothing was replaced.
    pub fn publish(&self, blocks: Vec<NewBlock>, checkpoint: Option<u64>) -> Result<Vec<BlockRef>, CatalogueError> {
        let Some(signal) = blocks.first().map(|b| b.staged.signal) else {
            return Ok(Vec::new());
        };
        for block in &blocks {
            if block.meta.id != block.staged.id || block.meta.signal != signal || block.staged.signal != signal {
                return Err(invalid(&block.staged.dir, "meta describes another block or signal"));
            }
        }
        self.inner.settle_doubts()?;
        let (new, replaced) = self.inner.write_dirs(signal, blocks, checkpoint)?;
        let gone = self.inner.enter(signal, &new, &replaced, checkpoint)?;
        // Not before the list is unlocked: this may remove directories.
        drop(gone);
        Ok(new)
    }

    /// The last checkpoint published for a signal.
    pub fn checkpoint(&self, signal: Signal) -> Option<u64> {
        self.inner.listed.read().checkpoints[signal as usize]
    }

    /// The blocks of a signal that touch `range`, by day, then id.
    pub fn blocks(&self, signal: Signal, range: TimeRangeNs) -> Vec<BlockRef> {
        let listed = self.inner.listed.read();
        let touching = listed.blocks[signal as usize]
            .iter()
            .filter(|b| range.overlaps(b.meta().min, b.meta().max));
        touching.cloned().collect()
    }

    /// Forgets blocks, in one durable write; their directories go when the last reader drops them.
    pub fn retire(&self, blocks: &[BlockId]) -> Result<(), CatalogueError> {
        self.inner.settle_doubts()?;
        let gone = self.inner.leave(blocks)?;
        drop(gone);
        Ok(())
    }

    /// The label index of a kind.
    pub fn labels(&self, kind: IndexKind) -> LabelIndex {
        match kind {
            IndexKind::Series => self.inner.series.clone(),
            IndexKind::Streams => self.inner.streams.clone(),
        }
    }

    /// Makes the label index durable. Called before WAL segments are deleted.
    pub fn flush(&self) -> Result<(), CatalogueError> {
        self.inner.settle()?;
        self.inner.database.flush()?;
        self.inner.series.index.evict()?;
        self.inner.streams.index.evict()
    }

    /// Bytes of the database on disk.
    pub fn disk_bytes(&self) -> u64 {
        Disk::real().size(self.inner.database.path()).unwrap_or(0)
    }
}

impl Inner {
    /// Writes what is pending in both label indexes into the database.
    fn settle(&self) -> Result<(), CatalogueError> {
        self.series.index.settle()?;
        self.streams.index.settle()
    }

    /// Completes and renames the staged directories; on error none is left behind.
    fn write_dirs(
        &self,
        signal: Signal,
        blocks: Vec<NewBlock>,
        checkpoint: Option<u64>,
    ) -> Result<(Vec<BlockRef>, Vec<BlockId>), CatalogueError> {
        let before = self.listed.read().checkpoints[signal as usize];
        let dead = self.condemned.ids();
        let last = blocks.len() - 1;
        let mut new: Vec<BlockRef> = Vec::with_capacity(blocks.len());
        let mut replaced = Vec::new();
        let mut renamed = Vec::new();
        for (i, block) in blocks.into_iter().enumerate() {
            let NewBlock {
                mut staged,
                meta,
                labels,
            } = block;
            replaced.extend_from_slice(&meta.replaces);
            let file = MetaFile {
                meta,
                dead: dead.clone(),
                // Directories are renamed one by one: that of the last block says that all of them are there.
                checkpoint: if i == last { checkpoint.max(before) } else { before },
            };
            let dir = block_dir(&self.dir, signal, staged.id);
            renamed.push(dir.clone());
            match self.write_dir(&staged, file, &labels, &dir) {
                Ok(meta) => {
                    staged.is_published = true;
                    new.push(BlockRef::new(meta, dir, self.disk.clone(), self.condemned.clone()));
                }
                Err(e) => {
                    self.remove_dirs(&renamed);
                    return Err(e);
                }
            }
        }
        Ok((new, replaced))
    }

    fn write_dir(
        &self,
        staged: &Staged,
        mut file: MetaFile,
        labels: &[(u32, model::LabelSet)],
        dir: &Path,
    ) -> Result<BlockMeta, CatalogueError> {
        if staged.signal != Signal::Traces {
            labels_file::write(&self.disk, &staged.dir, labels).map_err(at(&staged.dir.join(labels_file::NAME)))?;
        }
        let others = self.disk.size(&staged.dir).map_err(at(&staged.dir))?;
        // `bytes` has a fixed width, so the length is known before it is.
        file.meta.bytes = others + meta_file::encode(&file).len() as u64;
        let path = staged.dir.join(meta_file::NAME);
        let mut writer = self.disk.create(&path).map_err(at(&path))?;
        writer.write_all(&meta_file::encode(&file)).map_err(at(&path))?;
        drop(writer);
        self.disk.publish_dir(&staged.dir, dir).map_err(at(dir))?;
        Ok(file.meta)
    }

    /// Returns the blocks that left.
    fn enter(
        &self,
        signal: Signal,
        new: &[BlockRef],
        replaced: &[BlockId],
        checkpoint: Option<u64>,
    ) -> Result<Vec<BlockRef>, CatalogueError> {
        let mut entering = self.entering.lock();
        let (old, checkpoint_before) = self.find(replaced, signal);
        let checkpoint = checkpoint.max(checkpoint_before);
        let entered = self.settle().and_then(|()| {
            let mut batch = self.database.batch();
            let next = self.next_block.load(Ordering::Relaxed);
            batch.put(Family::Blocks, NEXT_BLOCK, &next.to_be_bytes())?;
            put_checkpoint(&mut batch, signal, checkpoint)?;
            self.swap(batch, new, &old)
        });
        if let Err(e) = entered {
            // Whether it became durable is unknown: take it back, and keep both sets of directories until that is durable.
            let undone = (|| {
                let mut batch = self.database.batch();
                put_checkpoint(&mut batch, signal, checkpoint_before)?;
                put_rows(&mut batch, &old, new)?;
                batch.write()
            })();
            if let Err(error) = undone {
                tracing::error!(%error, "a failed catalogue write could not be taken back; the next start decides");
            }
            entering.doubtful.extend(new.iter().map(|b| b.dir().to_owned()));
            return Err(e);
        }
        let mut listed = self.listed.write();
        listed.checkpoints[signal as usize] = checkpoint;
        let list = &mut listed.blocks[signal as usize];
        list.retain(|b| !old.iter().any(|o| o.meta().id == b.meta().id));
        list.extend_from_slice(new);
        list.sort_by_key(|b| (b.meta().day, b.meta().id));
        drop(listed);
        for block in &old {
            block.condemn();
        }
        Ok(old)
    }

    /// Returns the blocks that left.
    fn leave(&self, ids: &[BlockId]) -> Result<Vec<BlockRef>, CatalogueError> {
        let _entering = self.entering.lock();
        let old: Vec<BlockRef> = {
            let listed = self.listed.read();
            let all = listed.blocks.iter().flatten();
            all.filter(|b| ids.contains(&b.meta().id)).cloned().collect()
        };
        if old.is_empty() {
            return Ok(old);
        }
        self.swap(self.database.batch(), &[], &old).inspect_err(|_| {
            let mut batch = self.database.batch();
            if let Err(error) = put_rows(&mut batch, &old, &[]).and_then(|()| batch.write()) {
                tracing::error!(%error, "a failed catalogue write could not be taken back; the next start decides");
            }
        })?;
        let mut listed = self.listed.write();
        for list in &mut listed.blocks {
            list.retain(|b| !old.iter().any(|o| o.meta().id == b.meta().id));
        }
        drop(listed);
        for block in &old {
            block.condemn();
        }
        Ok(old)
    }

    fn swap(&self, mut batch: Batch<'_>, new: &[BlockRef], old: &[BlockRef]) -> Result<(), CatalogueError> {
        put_rows(&mut batch, new, old)?;
        batch.write()?;
        self.database.flush()
    }

    fn find(&self, ids: &[BlockId], signal: Signal) -> (Vec<BlockRef>, Option<u64>) {
        let listed = self.listed.read();
        let blocks = listed.blocks[signal as usize].iter();
        let found = blocks.filter(|b| ids.contains(&b.meta().id)).cloned().collect();
        (found, listed.checkpoints[signal as usize])
    }

    /// Removes the directories of a publication that failed, once it is certain that the database forgot it.
    fn settle_doubts(&self) -> Result<(), CatalogueError> {
        let mut entering = self.entering.lock();
        if entering.doubtful.is_empty() {
            return Ok(());
        }
        self.database.flush()?;
        self.remove_dirs(&entering.doubtful);
        entering.doubtful.clear();
        Ok(())
    }

    fn remove_dirs(&self, dirs: &[PathBuf]) {
        for dir in dirs {
            if let Err(error) = self.disk.remove_dir_all(dir) {
                tracing::warn!(dir = %dir.display(), %error, "unpublished block stays until the next start");
            }
        }
    }
}

/// Where the next block id is kept.
pub(crate) const NEXT_BLOCK: &[u8] = b"next_block";

/// Before the rows of all blocks.
pub(crate) const BLOCK_ROWS: &[u8] = b"b";

/// Where a signal's checkpoint is kept.
pub(crate) fn checkpoint_key(signal: Signal) -> Vec<u8> {
    [&b"checkpoint"[..], &[signal as u8]].concat()
}

/// The row of a block.
pub(crate) fn block_key(signal: Signal, id: BlockId) -> Vec<u8> {
    [BLOCK_ROWS, &[signal as u8], &id.0.to_be_bytes()].concat()
}

/// A block's row.
pub(crate) fn put_block(batch: &mut Batch<'_>, meta: &BlockMeta) -> Result<(), CatalogueError> {
    let row = meta_file::encode(&MetaFile {
        meta: meta.clone(),
        dead: Vec::new(),
        checkpoint: None,
    });
    batch.put(Family::Blocks, &block_key(meta.signal, meta.id), &row)
}

/// A signal's checkpoint.
pub(crate) fn put_checkpoint(
    batch: &mut Batch<'_>,
    signal: Signal,
    checkpoint: Option<u64>,
) -> Result<(), CatalogueError> {
    match checkpoint {
        Some(place) => batch.put(Family::Blocks, &checkpoint_key(signal), &place.to_be_bytes()),
        None => batch.delete(Family::Blocks, &checkpoint_key(signal)),
    }
}

fn put_rows(batch: &mut Batch<'_>, present: &[BlockRef], absent: &[BlockRef]) -> Result<(), CatalogueError> {
    for block in absent {
        batch.delete(Family::Blocks, &block_key(block.meta().signal, block.meta().id))?;
    }
    for block in present {
        put_block(batch, block.meta())?;
    }
    Ok(())
}
