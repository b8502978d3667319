//! Blocks to blocks: chunks of one day are merged stream by stream, sorted, freed of duplicates and filled well. What
//! was deleted for good, or is too old for its stream, is left out; [`remove`] does that alone, block by block.
//!
//! A merge never lets evidence go: a block in which it meets damage stays as it is, to be skipped by queries as far as it
//! is damaged, and the others are merged without it. A removal must not leave anything behind: it salvages what can be
//! read of a damaged block, and drops the rest.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashTable;
use model::{BlockId, LabelSet, Matcher, Signal, TimeRangeNs, TimestampNs};
use roaring::RoaringBitmap;
use storage_catalogue::{BlockMeta, BlockRef, NewBlock};

use crate::BlockError;
use crate::block::{BlockWriter, OpenBlock};
use crate::chunk::{ChunkMeta, LEVEL_COMPACT};
use crate::entries::Entries;
use crate::masks::{Mask, Masks};
use crate::scan::{Shared, arrival, runs_of_blocks};
use crate::tombstones::Tombstone;

/// Raw bytes at which a compacted chunk is full: large chunks compress better, and are still read in a millisecond.
const CHUNK_RAW_BYTES: usize = 1 << 20;
/// Processed delete requests are remembered for this long at least, ns.
const REMEMBER_NS: i64 = 30 * model::DAY_NS;

/// Merges blocks of one day into one and publishes it in their place. `None`: there was nothing to merge, or nothing
/// is left of it.
pub(crate) fn compact(shared: &Arc<Shared>, blocks: &[BlockRef]) -> Result<Option<BlockId>, BlockError> {
    let Some(first) = blocks.first() else {
        return Err(refused("no blocks to compact"));
    };
    let day = first.meta().day;
    if blocks.iter().any(|b| b.meta().day != day) {
        return Err(refused("blocks of different days cannot be compacted into one"));
    }
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(arrival);
    let level = blocks.iter().map(|b| b.meta().level).max().unwrap_or_default();
    let enough = blocks.len().min(2);
    loop {
        let damaged = shared.damaged.lock().clone();
        blocks.retain(|b| !damaged.contains(&b.meta().id));
        if blocks.len() < enough {
            return Ok(None);
        }
        let failed = match merge(shared, &blocks, level.saturating_add(1), Damage::IsAnError) {
            Ok(id) => return Ok(id),
            Err(error) => error,
        };
        // Which block it is, is known by its path; each turn leaves one out, so that this ends.
        let broken = damaged_file(&failed).and_then(|path| blocks.iter().find(|b| path.starts_with(b.dir())));
        let Some(broken) = broken.map(|b| b.meta().id) else {
            return Err(failed);
        };
        tracing::warn!(error = %failed, block = %broken, "a damaged log block is left out of compaction");
        shared.corrupt.fetch_add(1, Relaxed);
        shared.damaged.lock().insert(broken);
    }
}

/// The delete requests that can no longer be cancelled.
pub(crate) fn deletes_due(shared: &Shared, now: TimestampNs) -> Vec<Arc<Tombstone>> {
    let all = shared.tombstones.all();
    let due = all.iter().filter(|t| t.is_pending() && is_due(shared, t, now));
    due.cloned().collect()
}

/// Writes the blocks again that hold something of the `due` requests, or with `expired` of streams of which all in the
/// block is too old. Says which blocks were made.
pub(crate) fn remove(
    shared: &Arc<Shared>,
    due: &[Arc<Tombstone>],
    now: TimestampNs,
    expired: bool,
) -> Result<Vec<BlockId>, BlockError> {
    let mut made = Vec::new();
    let blocks = shared.catalogue.blocks(Signal::Logs, TimeRangeNs::ALL);
    for (done, block) in blocks.iter().enumerate() {
        for tombstone in due {
            tombstone.progress(done, blocks.len());
        }
        let concerned = holds_deleted(shared, block, due)? || expired && holds_expired(shared, block, now)?;
        if !concerned {
            continue;
        }
        let level = block.meta().level;
        match merge(shared, std::slice::from_ref(block), level, Damage::IsLeftOut) {
            Ok(id) => made.extend(id),
            // What cannot be opened at all cannot be read by anybody either.
            Err(error) if damaged_file(&error).is_some() => {
                tracing::warn!(%error, "a damaged log block stays, though some of it is deleted");
            }
            Err(error) => return Err(error),
        }
    }
    if !due.is_empty() {
        shared.tombstones.processed(due, now.0)?;
    }
    if expired {
        let first = now.0.saturating_sub(shared.keeping.longest());
        shared.tombstones.forget(first, now.0.saturating_sub(REMEMBER_NS))?;
    }
    Ok(made)
}

/// The file that is damaged, missing or foreign, if that is what the error says.
fn damaged_file(error: &BlockError) -> Option<&Path> {
    match error {
        BlockError::Corrupt { path, .. } | BlockError::Foreign { path, .. } | BlockError::TooNew { path, .. } => {
            Some(path)
        }
        BlockError::Io { path, source } => (source.kind() == io::ErrorKind::NotFound).then_some(path),
        _ => None,
    }
}

fn is_due(shared: &Shared, tombstone: &Tombstone, now: TimestampNs) -> bool {
    tombstone.created.saturating_add(shared.policy.cancel_ns) <= now.0
}

fn holds_deleted(shared: &Shared, block: &BlockRef, due: &[Arc<Tombstone>]) -> Result<bool, BlockError> {
    let meta = block.meta();
    for tombstone in due.iter().filter(|t| t.touches(meta.min.0, meta.max.0)) {
        let ids = streams_of(shared, block, &tombstone.meant.matchers)?;
        if any_chunk(shared, block, |c| {
            ids.contains(c.stream) && tombstone.touches(c.min, c.max)
        })? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the block is older than some of its streams are kept. Each block is looked at once for each such time.
fn holds_expired(shared: &Shared, block: &BlockRef, now: TimestampNs) -> Result<bool, BlockError> {
    let meta = block.meta();
    if shared.keeping.is_uniform() {
        return Ok(false);
    }
    let older_than = |keep: &i64| meta.max.0 < now.0.saturating_sub(*keep);
    let times: Vec<i64> = shared.keeping.times().filter(older_than).collect();
    let mut swept = shared.swept.lock();
    let Some(longest) = times.iter().copied().filter(|t| !swept.contains(&(meta.id, *t))).max() else {
        return Ok(false);
    };
    swept.extend(times.iter().map(|t| (meta.id, *t)));
    drop(swept);
    let all = streams_of(shared, block, &[])?;
    let sets = shared.labels.label_sets(&all)?;
    let expired = sets.iter().filter(|(_, labels)| shared.keeping.of(labels) <= longest);
    let expired: RoaringBitmap = expired.map(|(id, _)| *id).collect();
    any_chunk(shared, block, |c| expired.contains(c.stream))
}

fn streams_of(shared: &Shared, block: &BlockRef, matchers: &[Matcher]) -> Result<RoaringBitmap, BlockError> {
    let day = block.meta().day;
    Ok(shared.labels.postings((day, day), matchers)?)
}

/// Whether any chunk is such. Damage says nothing: the removal that follows finds out.
fn any_chunk(shared: &Shared, block: &BlockRef, is: impl Fn(&ChunkMeta) -> bool) -> Result<bool, BlockError> {
    let file = match shared.open(block) {
        Ok(file) => file,
        Err(error) if damaged_file(&error).is_some() => return Ok(false),
        Err(error) => return Err(error),
    };
    for group in &file.groups {
        match file.records(group) {
            Ok(records) if records.iter().any(|(meta, _)| is(meta)) => return Ok(true),
            Ok(_) | Err(BlockError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// What to do about damage.
#[derive(Clone, Copy, PartialEq)]
enum Damage {
    IsAnError,
    IsLeftOut,
}

/// Writes one block with what is left of `blocks` (of one day, in the order of arrival) and publishes it in their place.
/// `None`: nothing is left.
fn merge(shared: &Arc<Shared>, blocks: &[BlockRef], level: u8, damage: Damage) -> Result<Option<BlockId>, BlockError> {
    let replaces: Vec<BlockId> = blocks.iter().map(|b| b.meta().id).collect();
    let open = blocks
        .iter()
        .map(|block| Ok((Arc::new(OpenBlock::open(&shared.disk, block.dir())?), block.clone())))
        .collect::<Result<Vec<_>, BlockError>>()?;
    let now = TimestampNs(shared.now.load(Relaxed));
    let all = shared.tombstones.all();
    let for_good = |t: &Tombstone| is_due(shared, t, now);
    let masks = Masks::new(&all, for_good, &shared.keeping, (i64::MIN, i64::MAX), now);

    let staged = shared.catalogue.stage(Signal::Logs)?;
    let mut writer = BlockWriter::create(&shared.disk, staged.dir())?;
    let mut cursors: Vec<Cursor<'_>> = open.iter().map(|(file, _)| Cursor::new(file, damage)).collect();
    let mut out = Refill::default();
    let mut entries = Entries::default();
    let mut chunks = Vec::new();
    while let Some(stream) = next_stream(&mut cursors)? {
        chunks.clear();
        for (block, cursor) in cursors.iter_mut().enumerate() {
            while let Some((meta, at)) = cursor.take(stream)? {
                chunks.push((block, meta, at));
            }
        }
        let (labels, mask) = if masks.is_empty() {
            (LabelSet::empty(), Mask::default())
        } else {
            let known = shared.labels.label_sets(&RoaringBitmap::from_iter([stream]))?;
            let labels = known.into_iter().next().map(|(_, labels)| labels).unwrap_or_default();
            let mask = masks.of(&labels);
            (labels, mask)
        };
        for run in runs_of_blocks(shared, &open, &labels, std::mem::take(&mut chunks), &mask) {
            match damage {
                Damage::IsAnError => run.read_undamaged(&mut entries)?,
                Damage::IsLeftOut => run.read(&mut entries)?,
            };
            out.add(stream, &entries, &mut writer)?;
        }
        out.flush(stream, &mut writer)?;
    }
    let written = writer.finish()?;
    if written.entries == 0 {
        drop(staged);
        shared.catalogue.retire(&replaces)?;
        shared.close_retired();
        return Ok(None);
    }
    let ids: RoaringBitmap = written.streams.iter().copied().collect();
    let labels = shared.labels.label_sets(&ids)?;
    if labels.len() as u64 != ids.len() {
        return Err(refused("the label index does not know all streams of these blocks"));
    }
    let id = staged.id();
    let meta = BlockMeta {
        id,
        signal: Signal::Logs,
        day: TimestampNs(written.min).day(),
        min: TimestampNs(written.min),
        max: TimestampNs(written.max),
        level,
        items: written.entries,
        keys: labels.len() as u64,
        bytes: 0,
        replaces,
    };
    let block = NewBlock { staged, meta, labels };
    shared.catalogue.publish(vec![block], None)?;
    shared.close_retired();
    Ok(Some(id))
}

fn refused(why: &str) -> BlockError {
    BlockError::Io {
        path: Path::new("logs").to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, why),
    }
}

/// The chunk records of a block, front to back, one group in memory at a time.
struct Cursor<'a> {
    file: &'a OpenBlock,
    group: usize,
    damage: Damage,
    records: VecDeque<(ChunkMeta, u64)>,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a OpenBlock, damage: Damage) -> Cursor<'a> {
        Cursor {
            file,
            group: 0,
            damage,
            records: VecDeque::new(),
        }
    }

    fn stream(&mut self) -> Result<Option<u32>, BlockError> {
        while self.records.is_empty() {
            let Some(group) = self.file.groups.get(self.group) else {
                return Ok(None);
            };
            self.group += 1;
            match self.file.records(group) {
                Ok(records) => self.records = records.into(),
                Err(error @ BlockError::Corrupt { .. }) if self.damage == Damage::IsLeftOut => {
                    tracing::error!(%error, chunks = group.chunks, "damaged log chunks are dropped");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.records.front().map(|(meta, _)| meta.stream))
    }

    fn take(&mut self, stream: u32) -> Result<Option<(ChunkMeta, u64)>, BlockError> {
        Ok(match self.stream()? {
            Some(next) if next == stream => self.records.pop_front(),
            _ => None,
        })
    }
}

fn next_stream(cursors: &mut [Cursor<'_>]) -> Result<Option<u32>, BlockError> {
    let mut least = None;
    for cursor in cursors {
        least = least.into_iter().chain(cursor.stream()?).min();
    }
    Ok(least)
}

/// Fills chunks from runs that follow one another in time.
#[derive(Default)]
struct Refill {
    entries: Entries,
    strings: HashTable<u32>,
    raw: usize,
}

impl Refill {
    fn add(&mut self, stream: u32, run: &Entries, writer: &mut BlockWriter) -> Result<(), BlockError> {
        for i in 0..run.len() {
            let (raw, _) = self
                .entries
                .push_interned(&mut self.strings, run.t(i).0, run.line(i), run.metadata(i));
            self.raw += raw;
            if self.raw >= CHUNK_RAW_BYTES {
                self.flush(stream, writer)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, stream: u32, writer: &mut BlockWriter) -> Result<(), BlockError> {
        if !self.entries.is_empty() {
            writer.add(stream, &self.entries, LEVEL_COMPACT)?;
        }
        self.entries.clear();
        self.strings.clear();
        self.raw = 0;
        Ok(())
    }
}
