//! Blocks of one day to one block, trace by trace: what is in memory is a trace and a row group.

use std::sync::Arc;

use model::{BlockId, Signal, TraceId};
use storage_catalogue::{BlockMeta, BlockRef, Catalogue, NewBlock};
use storage_disk::Disk;

use crate::BlockError;
use crate::block::BlockWriter;
use crate::block_file::{BlockFile, Blocks, Reading, Wanted};
use crate::columns::{Usage, choose};
use crate::cursor::{BlockCursor, Cursor, OnIoError, join};
use crate::rows::Wants;
use crate::scan::take_next;

/// Merges blocks; the new one replaces them in one durable step.
pub(crate) fn merge(
    disk: &Disk,
    catalogue: &Catalogue,
    reader: &Arc<Blocks>,
    blocks: &[BlockRef],
) -> Result<BlockId, BlockError> {
    let files: Vec<BlockFile> = blocks.iter().map(|b| reader.open(b)).collect::<Result<_, _>>()?;
    let mut usage = Usage::default();
    files.iter().for_each(|f| usage.add(&f.footer.usage));
    let rows = blocks.iter().map(|b| b.meta().items).sum();
    let staged = catalogue.stage(Signal::Traces)?;
    let mut writer = BlockWriter::create(disk, staged.dir(), choose(&usage, rows))?;
    let everything = Wanted::Between(TraceId(0), TraceId(u128::MAX));
    let reading = Reading::new(reader.clone());
    let open = |file| BlockCursor::new(&reading, file, everything, Wants::all(), OnIoError::Stop);
    let mut sources: Vec<Cursor<'_>> = files.iter().map(|f| Cursor::Block(Box::new(open(f)))).collect();
    let (mut copies, mut spans, mut revisions) = (Vec::new(), Vec::new(), Vec::new());
    while take_next(&mut sources, &mut copies)?.is_some() {
        join(&mut copies, &mut spans, &mut revisions);
        writer.trace(&spans, &revisions)?;
    }
    let written = writer.finish()?;
    let metas = || blocks.iter().map(|b| b.meta());
    let day = metas().map(|m| m.day).min().unwrap_or_default();
    let (min, max) = written.range.unwrap_or((day.start_ns(), day.start_ns()));
    let meta = BlockMeta {
        id: staged.id(),
        signal: Signal::Traces,
        day,
        min,
        max,
        level: metas().map(|m| m.level).max().unwrap_or(0).saturating_add(1),
        items: written.spans,
        keys: written.traces,
        bytes: 0,
        replaces: metas().map(|m| m.id).collect(),
    };
    let id = meta.id;
    let labels = Vec::new();
    catalogue.publish(vec![NewBlock { staged, meta, labels }], None)?;
    Ok(id)
}
