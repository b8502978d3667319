//! Blocks to blocks: chunks of one day are merged stream by stream, sorted, freed of duplicates and filled well.
//!
//! Damage is an error here and not skipped as in a query: a compaction never lets evidence go.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use hashbrown::HashTable;
use model::{BlockId, LabelSet, Signal, TimestampNs};
use roaring::RoaringBitmap;
use storage_catalogue::{BlockMeta, BlockRef, NewBlock};

use crate::BlockError;
use crate::block::{BlockWriter, OpenBlock};
use crate::chunk::{ChunkMeta, LEVEL_COMPACT};
use crate::entries::Entries;
use crate::scan::{Shared, arrival, runs_of_blocks};

/// Raw bytes at which a compacted chunk is full: large chunks compress better, and are still read in a millisecond.
const CHUNK_RAW_BYTES: usize = 1 << 20;

/// Merges blocks of one day into one and publishes it in their place.
pub(crate) fn compact(shared: &Arc<Shared>, blocks: &[BlockRef]) -> Result<BlockId, BlockError> {
    let mut blocks = blocks.to_vec();
    blocks.sort_by_key(arrival);
    let Some(first) = blocks.first() else {
        return Err(refused(shared, "no blocks to compact"));
    };
    let day = first.meta().day;
    if blocks.iter().any(|b| b.meta().day != day) {
        return Err(refused(shared, "blocks of different days cannot be compacted into one"));
    }
    let level = blocks.iter().map(|b| b.meta().level).max().unwrap_or_default();
    let replaces: Vec<BlockId> = blocks.iter().map(|b| b.meta().id).collect();
    let open = blocks
        .into_iter()
        .map(|block| Ok((Arc::new(OpenBlock::open(&shared.disk, block.dir())?), block)))
        .collect::<Result<Vec<_>, BlockError>>()?;

    let staged = shared.catalogue.stage(Signal::Logs)?;
    let mut writer = BlockWriter::create(&shared.disk, staged.dir())?;
    let mut cursors: Vec<Cursor<'_>> = open.iter().map(|(file, _)| Cursor::new(file)).collect();
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
        for run in runs_of_blocks(shared, &open, &LabelSet::empty(), std::mem::take(&mut chunks)) {
            run.read_undamaged(&mut entries)?;
            out.add(stream, &entries, &mut writer)?;
        }
        out.flush(stream, &mut writer)?;
    }
    let written = writer.finish()?;
    let ids: RoaringBitmap = written.streams.iter().copied().collect();
    let labels = shared.labels.label_sets(&ids)?;
    if labels.len() as u64 != ids.len() {
        return Err(refused(
            shared,
            "the label index does not know all streams of these blocks",
        ));
    }
    let id = staged.id();
    let meta = BlockMeta {
        id,
        signal: Signal::Logs,
        day,
        min: TimestampNs(written.min),
        max: TimestampNs(written.max),
        level: level.saturating_add(1),
        items: written.entries,
        keys: labels.len() as u64,
        bytes: 0,
        replaces,
    };
    let block = NewBlock { staged, meta, labels };
    shared.catalogue.publish(vec![block], None)?;
    shared.close_retired();
    Ok(id)
}

fn refused(shared: &Shared, why: &str) -> BlockError {
    let _ = shared;
    BlockError::Io {
        path: "logs".into(),
        source: io::Error::new(io::ErrorKind::InvalidInput, why),
    }
}

/// The chunk records of a block, front to back, one group in memory at a time.
struct Cursor<'a> {
    file: &'a OpenBlock,
    group: usize,
    records: VecDeque<(ChunkMeta, u64)>,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a OpenBlock) -> Cursor<'a> {
        Cursor {
            file,
            group: 0,
            records: VecDeque::new(),
        }
    }

    fn stream(&mut self) -> Result<Option<u32>, BlockError> {
        while self.records.is_empty() {
            let Some(group) = self.file.groups.get(self.group) else {
                return Ok(None);
            };
            self.records = self.file.records(group)?.into();
            self.group += 1;
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
