//! Opening: what is in the database, what is on the disk, and what to do where they differ.
//!
//! A database that is complete is believed about blocks: a directory it does not name is the remains of a crash and is
//! removed, a block without its directory is reported and forgotten. One that is missing, unfinished or damaged is made anew
//! from the `meta` and `labels` files of the blocks; a damaged one is kept beside as `catalogue.damaged-N`. A block that
//! cannot be read then is set aside as `<id>.unreadable`, never removed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{BlockId, Signal};
use storage_disk::Disk;

use crate::block::{
    BlockMeta, BlockRef, Condemned, STAGED_EXTENSION, UNREADABLE_EXTENSION, block_dir, blocks_dir, remove_block_dir,
};
use crate::catalogue::{BLOCK_ROWS, Listed, NEXT_BLOCK, Opened, block_key, checkpoint_key, put_block, put_checkpoint};
use crate::database::{Database, FORMAT, Family, OpenFailure, damage_met};
use crate::error::{CatalogueError, at};
use crate::label_index::{Index, IndexKind};
use crate::meta_file::MetaFile;
use crate::{labels_file, meta_file, post_key};

/// What an open catalogue starts with.
pub(crate) struct Recovered {
    pub(crate) database: Arc<Database>,
    pub(crate) series: Index,
    pub(crate) streams: Index,
    pub(crate) next_block: u64,
    pub(crate) listed: Listed,
}

/// What lies in the blocks directories.
#[derive(Default)]
struct Survey {
    /// Directories named as blocks.
    blocks: [BTreeSet<BlockId>; 3],
    /// Staged or going.
    leftovers: Vec<PathBuf>,
    /// Above every id met in a name.
    next_block: u64,
}

/// What a complete database says.
struct Loaded {
    database: Arc<Database>,
    series: Index,
    streams: Index,
    next_block: u64,
    blocks: Vec<BlockMeta>,
    checkpoints: [Option<u64>; 3],
}

enum Attempt {
    Complete(Box<Loaded>),
    /// With the reason to rebuild.
    Rebuild(Arc<Database>, Option<String>),
}

/// See [`crate::Catalogue::open`].
pub(crate) fn open(disk: &Disk, dir: &Path, condemned: &Arc<Condemned>) -> Result<(Recovered, Opened), CatalogueError> {
    let mut opened = Opened::default();
    let survey = survey(disk, dir)?;
    for leftover in &survey.leftovers {
        disk.remove_dir_all(leftover).map_err(at(leftover))?;
        opened.removed_dirs += 1;
    }
    let loaded = match attempt(dir, &survey)? {
        Attempt::Complete(mut loaded) => {
            reconcile(disk, dir, &survey, &mut loaded, &mut opened)?;
            *loaded
        }
        Attempt::Rebuild(database, reason) => {
            opened.rebuilt = reason;
            rebuild(disk, dir, &survey, database, &mut opened)?
        }
    };
    let mut listed = Listed {
        checkpoints: loaded.checkpoints,
        ..Listed::default()
    };
    for meta in loaded.blocks {
        let block_dir = block_dir(dir, meta.signal, meta.id);
        listed.blocks[meta.signal as usize].push(BlockRef::new(meta, block_dir, disk.clone(), condemned.clone()));
    }
    for list in &mut listed.blocks {
        list.sort_by_key(|b| (b.meta().day, b.meta().id));
    }
    let recovered = Recovered {
        database: loaded.database,
        series: loaded.series,
        streams: loaded.streams,
        next_block: loaded.next_block.max(survey.next_block),
        listed,
    };
    Ok((recovered, opened))
}

fn survey(disk: &Disk, dir: &Path) -> Result<Survey, CatalogueError> {
    let mut survey = Survey {
        next_block: 1,
        ..Survey::default()
    };
    for signal in Signal::ALL {
        let blocks = blocks_dir(dir, signal);
        disk.create_dir_all(&blocks).map_err(at(&blocks))?;
        for (name, is_dir) in disk.list(&blocks).map_err(at(&blocks))? {
            let (stem, extension) = match name.split_once('.') {
                Some((stem, extension)) => (stem, extension),
                None => (name.as_str(), ""),
            };
            let Some(id) = parse_block_id(stem).filter(|_| is_dir) else {
                continue;
            };
            survey.next_block = survey.next_block.max(id.0.saturating_add(1));
            match extension {
                "" => {
                    survey.blocks[signal as usize].insert(id);
                }
                STAGED_EXTENSION => survey.leftovers.push(blocks.join(&name)),
                _ => {}
            }
        }
    }
    Ok(survey)
}

fn parse_block_id(name: &str) -> Option<BlockId> {
    let is_hex = name.len() == 16 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hex
        .then(|| u64::from_str_radix(name, 16).ok().map(BlockId))
        .flatten()
}

/// Opens the database; a broken one is moved away and an empty one opened instead.
fn attempt(dir: &Path, survey: &Survey) -> Result<Attempt, CatalogueError> {
    let path = dir.join("catalogue");
    let real = Disk::real();
    let existed = real.exists(&path.join("CURRENT"));
    real.create_dir_all(&path).map_err(at(&path))?;
    let reason = match open_complete(&path, existed, survey)? {
        Ok(attempt) => return Ok(attempt),
        Err(reason) => reason,
    };
    set_database_aside(&real, dir, &path)?;
    real.create_dir_all(&path).map_err(at(&path))?;
    match Database::open(&path) {
        Ok(database) => Ok(Attempt::Rebuild(
            Arc::new(database),
            Some(format!("{} was set aside: {reason}", path.display())),
        )),
        Err(OpenFailure::Damaged(message) | OpenFailure::Refused(message)) => {
            Err(CatalogueError::Database { path, message })
        }
    }
}

/// The database if it can be used, or else the reason to make a new one.
fn open_complete(path: &Path, existed: bool, survey: &Survey) -> Result<Result<Attempt, String>, CatalogueError> {
    if let Some(reason) = damage_met(path) {
        return Ok(Err(reason));
    }
    let database = match Database::open(path) {
        Ok(database) => Arc::new(database),
        Err(OpenFailure::Damaged(message)) => return Ok(Err(message)),
        Err(OpenFailure::Refused(message)) => {
            let path = path.to_owned();
            return Err(CatalogueError::Database { path, message });
        }
    };
    let format = match database.get(Family::Blocks, VERSION) {
        Ok(format) => format.map(|f| f.to_vec()),
        Err(e) => return Ok(Err(e.to_string())),
    };
    match format {
        Some(format) if format == FORMAT => {
            let loaded = load(&database).map_err(|e| e.to_string());
            Ok(loaded.map(|loaded| Attempt::Complete(Box::new(loaded))))
        }
        Some(_) => Ok(Err("another version wrote it".to_owned())),
        None if existed => Ok(Err("it was not completed".to_owned())),
        None => {
            let has_blocks = survey.blocks.iter().any(|b| !b.is_empty());
            let reason = has_blocks.then(|| format!("{} was missing", path.display()));
            Ok(Ok(Attempt::Rebuild(database, reason)))
        }
    }
}

/// Keeps the newest damaged database for a look, no more.
fn set_database_aside(real: &Disk, dir: &Path, path: &Path) -> Result<(), CatalogueError> {
    let mut number = 0u64;
    for (name, _) in real.list(dir).map_err(at(dir))? {
        if let Some(earlier) = name.strip_prefix("catalogue.damaged-") {
            number = number.max(earlier.parse().unwrap_or(0));
            let earlier = dir.join(&name);
            real.remove_dir_all(&earlier).map_err(at(&earlier))?;
        }
    }
    let aside = dir.join(format!("catalogue.damaged-{}", number.saturating_add(1)));
    real.publish_dir(path, &aside).map_err(at(&aside))
}

const VERSION: &[u8] = b"version";

fn load(database: &Arc<Database>) -> Result<Loaded, CatalogueError> {
    let number = |key: &[u8]| -> Result<Option<u64>, CatalogueError> {
        let Some(bytes) = database.get(Family::Blocks, key)? else {
            return Ok(None);
        };
        let bytes = bytes.as_ref().try_into();
        let bytes = bytes.map_err(|_| database.malformed("a number is malformed"))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    };
    let mut checkpoints = [None; 3];
    for signal in Signal::ALL {
        checkpoints[signal as usize] = number(&checkpoint_key(signal))?;
    }
    let mut blocks = Vec::new();
    for signal in Signal::ALL {
        let rows = [BLOCK_ROWS, &[signal as u8]].concat();
        database.scan(Family::Blocks, &rows, &post_key::after(&rows), |key, row| {
            let meta = meta_file::decode(row).map_err(|e| database.malformed(&e))?.meta;
            if block_key(meta.signal, meta.id) != key {
                return Err(database.malformed("a block's row is in the wrong place"));
            }
            blocks.push(meta);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(Loaded {
        database: database.clone(),
        series: Index::open(IndexKind::Series, database.clone())?,
        streams: Index::open(IndexKind::Streams, database.clone())?,
        next_block: number(NEXT_BLOCK)?.unwrap_or(1),
        blocks,
        checkpoints,
    })
}

fn reconcile(
    disk: &Disk,
    dir: &Path,
    survey: &Survey,
    loaded: &mut Loaded,
    opened: &mut Opened,
) -> Result<(), CatalogueError> {
    let mut batch = loaded.database.batch();
    let mut kept = Vec::new();
    for meta in std::mem::take(&mut loaded.blocks) {
        if survey.blocks[meta.signal as usize].contains(&meta.id) {
            kept.push(meta);
        } else {
            batch.delete(Family::Blocks, &block_key(meta.signal, meta.id))?;
            let reason = "its directory is missing; the block is forgotten".to_owned();
            opened.unreadable.push((block_dir(dir, meta.signal, meta.id), reason));
        }
    }
    if !batch.is_empty() {
        batch.write()?;
        loaded.database.flush()?;
    }
    for signal in Signal::ALL {
        for id in &survey.blocks[signal as usize] {
            if !kept.iter().any(|m| m.signal == signal && m.id == *id) {
                let orphan = block_dir(dir, signal, *id);
                remove_block_dir(disk, &orphan).map_err(at(&orphan))?;
                opened.removed_dirs += 1;
            }
        }
    }
    loaded.blocks = kept;
    Ok(())
}

fn rebuild(
    disk: &Disk,
    dir: &Path,
    survey: &Survey,
    database: Arc<Database>,
    opened: &mut Opened,
) -> Result<Loaded, CatalogueError> {
    let series = Index::open(IndexKind::Series, database.clone())?;
    let streams = Index::open(IndexKind::Streams, database.clone())?;
    let mut files: Vec<MetaFile> = Vec::new();
    for signal in Signal::ALL {
        for id in &survey.blocks[signal as usize] {
            let block = block_dir(dir, signal, *id);
            match read_block(disk, &block, signal, *id) {
                Ok(file) => files.push(file),
                Err(reason) => {
                    let aside = block.with_extension(UNREADABLE_EXTENSION);
                    disk.publish_dir(&block, &aside).map_err(at(&block))?;
                    opened.unreadable.push((aside, reason));
                }
            }
        }
    }
    let gone: BTreeSet<BlockId> = files
        .iter()
        .flat_map(|f| f.meta.replaces.iter().chain(&f.dead))
        .copied()
        .collect();
    let mut next_block = 1;
    let mut checkpoints = [None; 3];
    for file in &files {
        let place = &mut checkpoints[file.meta.signal as usize];
        *place = file.checkpoint.max(*place);
    }
    for id in files.iter().map(|f| f.meta.id).chain(gone.iter().copied()) {
        next_block = next_block.max(id.0.saturating_add(1));
    }
    let mut blocks = Vec::new();
    for MetaFile { meta, .. } in files {
        let block = block_dir(dir, meta.signal, meta.id);
        if gone.contains(&meta.id) {
            remove_block_dir(disk, &block).map_err(at(&block))?;
            opened.removed_dirs += 1;
        } else {
            blocks.push(meta);
        }
    }
    blocks.sort_by_key(|m| m.id);
    for meta in &blocks {
        let index = match meta.signal {
            Signal::Metrics => &series,
            Signal::Logs => &streams,
            Signal::Traces => continue,
        };
        let block = block_dir(dir, meta.signal, meta.id);
        let mut failed = None;
        let restored = labels_file::read(disk, &block, |id, labels| {
            index.restore(id, meta.day, labels).map_err(|e| {
                let message = e.to_string();
                failed = Some(e);
                message
            })
        });
        if let Err(message) = restored {
            // The file was readable a moment ago: it is the database that refuses, or the disk that fails.
            return Err(failed.unwrap_or_else(|| crate::error::invalid(&block, message)));
        }
    }
    series.settle()?;
    streams.settle()?;
    let mut batch = database.batch();
    for meta in &blocks {
        put_block(&mut batch, meta)?;
    }
    for signal in Signal::ALL {
        put_checkpoint(&mut batch, signal, checkpoints[signal as usize])?;
    }
    batch.put(Family::Blocks, NEXT_BLOCK, &next_block.to_be_bytes())?;
    batch.put(Family::Blocks, VERSION, FORMAT)?;
    batch.write()?;
    database.flush()?;
    series.warm()?;
    streams.warm()?;
    Ok(Loaded {
        database,
        series,
        streams,
        next_block,
        blocks,
        checkpoints,
    })
}

/// A block's meta, if that and the labels are readable to the end: only then may it stand for blocks that it replaced.
fn read_block(disk: &Disk, block: &Path, signal: Signal, id: BlockId) -> Result<MetaFile, String> {
    let file = meta_file::read(disk, block)?;
    if file.meta.signal != signal || file.meta.id != id {
        return Err(format!(
            "its meta file is that of {} block {}",
            file.meta.signal.as_str(),
            file.meta.id
        ));
    }
    if signal != Signal::Traces {
        labels_file::read(disk, block, |_, _| Ok(()))?;
    }
    Ok(file)
}
