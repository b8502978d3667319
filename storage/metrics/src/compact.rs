//! Compaction: blocks of one day become one, series by series, with long chunks.
//!
//! Inputs are read side by side, one index page and one series at a time, so that memory does not grow with the day.
//! Of several samples at one time the first stored stays: that of the block with the lowest rank. What was deleted is
//! left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{BlockId, Exemplar, Signal, TimeRangeMs, TimeRangeNs};
use roaring::RoaringBitmap;
use storage_catalogue::BlockRef;

use crate::block::{BlockWriter, Extent, OpenBlock, corrupt};
use crate::exemplar::{ExemplarFile, sort_and_dedup};
use crate::series::encode;
use crate::tombstones::{self, Mask, Masks};
use crate::{BlockError, Metrics, Samples};

/// Samples in one chunk of a compacted block, at most.
const CHUNK_SAMPLES: usize = 960;

/// Walks through the series of one block.
struct Cursor {
    block: OpenBlock,
    masks: Arc<[Mask]>,
    next_page: usize,
    series: std::vec::IntoIter<(u32, Extent)>,
    current: Option<(u32, Extent)>,
}

impl Metrics {
    /// Writes one block in place of `blocks`; whoever calls holds `compacting`.
    pub(crate) fn rewrite(&self, blocks: &[BlockRef], level: u8) -> Result<Option<BlockId>, BlockError> {
        let Some(day) = blocks.first().map(|block| block.meta().day) else {
            return Err(BlockError::NotOneDay { blocks: Vec::new() });
        };
        if blocks.iter().any(|block| block.meta().day != day) {
            let blocks = blocks.iter().map(|block| block.meta().id).collect();
            return Err(BlockError::NotOneDay { blocks });
        }
        let listed = self.catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
        let is_listed = |block: &BlockRef| listed.iter().any(|known| known.meta().id == block.meta().id);
        if !blocks.iter().all(is_listed) {
            return Ok(None);
        }
        let masks = self.tombstones.masks();
        let (mut cursors, mut inputs) = (Vec::new(), Vec::new());
        let mut damage = None;
        for block in blocks {
            match self.cursor(block, &masks) {
                Ok(cursor) => {
                    cursors.push(cursor);
                    inputs.push(block.clone());
                }
                // Left as it is: what its index no longer leads to may be whole.
                Err(error @ (BlockError::Corrupt { .. } | BlockError::Foreign { .. })) => {
                    tracing::error!(%error, block = %block.meta().id, "a damaged block is left out of a compaction");
                    damage = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let (Some(error), true) = (damage, inputs.len() < 2.min(blocks.len())) {
            return Err(error);
        }
        let blocks = &inputs[..];
        cursors.sort_by_key(|cursor| cursor.block.rank());
        let rank = cursors
            .iter()
            .map(|cursor| cursor.block.rank())
            .min()
            .unwrap_or_default();

        let staged = self.catalogue.stage(Signal::Metrics)?;
        let mut writer = BlockWriter::create(&self.disk, staged.dir())?;
        let mut ids = RoaringBitmap::new();
        let mut samples = Samples::default();
        let mut buffer = Vec::new();
        let mut chunks = Vec::new();
        let base = samples.mark();
        while let Some(id) = cursors.iter().filter_map(|c| Some(c.current?.0)).min() {
            samples.clear();
            for cursor in &mut cursors {
                let Some((_, extent)) = cursor.current.filter(|&(series, _)| series == id) else {
                    continue;
                };
                let second = samples.mark();
                let damaged = cursor
                    .block
                    .read(id, extent, TimeRangeMs::ALL, &mut samples, &mut buffer)?;
                self.blocks.count_damage(damaged);
                tombstones::remove(&cursor.masks, id, &mut samples, second);
                samples.merge_tail(base, second);
                cursor.advance()?;
            }
            chunks.clear();
            encode(&samples, CHUNK_SAMPLES, &mut chunks);
            writer.add(id, &chunks)?;
            if !chunks.is_empty() {
                ids.insert(id);
            }
        }
        let exemplars = self.merged_exemplars(blocks, &masks)?;
        ids.extend(exemplars.iter().map(|(id, _)| *id));
        if ids.is_empty() {
            // All of it was deleted.
            let gone: Vec<BlockId> = blocks.iter().map(|block| block.meta().id).collect();
            self.catalogue.retire(&gone)?;
            self.forget_closed_blocks();
            return Ok(None);
        }
        let labels = self.index.label_sets(&ids)?;
        if labels.len() as u64 != ids.len() {
            let missing = ids.len() - labels.len() as u64;
            let what = format!("{missing} of its {} series are not in the label index", ids.len());
            return Err(corrupt(blocks[0].dir(), 0, &what));
        }
        let written = writer.finish(rank)?;
        let replaces = blocks.iter().map(|block| block.meta().id).collect();
        let block = self.finish_block(staged, day, level, written, &exemplars, labels, replaces)?;
        let id = block.meta.id;
        {
            let held = self.tombstones.hold();
            held.inherit(blocks, &masks, id)?;
            self.catalogue.publish(vec![block], None)?;
        }
        self.compactions.fetch_add(1, Ordering::Relaxed);
        self.forget_closed_blocks();
        Ok(Some(id))
    }

    fn cursor(&self, block: &BlockRef, masks: &Masks) -> Result<Cursor, BlockError> {
        let masks = masks.get(&block.meta().id).cloned().unwrap_or_default();
        let block = OpenBlock::open(&self.disk, block.dir())?;
        block.check_index()?;
        let mut cursor = Cursor {
            block,
            masks,
            next_page: 0,
            series: Vec::new().into_iter(),
            current: None,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    fn merged_exemplars(&self, blocks: &[BlockRef], masks: &Masks) -> Result<Vec<(u32, Vec<Exemplar>)>, BlockError> {
        let mut merged: BTreeMap<u32, Vec<Exemplar>> = BTreeMap::new();
        for block in blocks {
            let Some(file) = ExemplarFile::open(&self.disk, block.dir())? else {
                continue;
            };
            let masks = masks.get(&block.meta().id).map_or(&[][..], |masks| masks);
            for id in file.ids() {
                match file.read(id) {
                    Ok(mut list) => {
                        list.retain(|e| !tombstones::covers_at(masks, id, e.t));
                        merged.entry(id).or_default().extend(list);
                    }
                    Err(error @ BlockError::Corrupt { .. }) => {
                        tracing::warn!(%error, "exemplars are skipped");
                        self.blocks.count_damage(1);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        merged.values_mut().for_each(sort_and_dedup);
        merged.retain(|_, list| !list.is_empty());
        Ok(merged.into_iter().collect())
    }
}

impl Cursor {
    fn advance(&mut self) -> Result<(), BlockError> {
        loop {
            self.current = self.series.next();
            if self.current.is_some() || self.next_page == self.block.pages() {
                return Ok(());
            }
            let page = self.block.page(self.next_page)?;
            self.next_page += 1;
            self.series = page.into_iter();
        }
    }
}
