//! Reading: a snapshot finds series by their labels, a series reads its samples from blocks and heads.
//!
//! Label index first (which ids pass the matchers), then where each id has data: extents in blocks, places in heads.
//! Nothing is decoded before [`Series::read`], which opens only chunks that overlap the range. Series are independent
//! of each other, so a query may read them in parallel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{BlockId, DAY_MS, Day, Exemplar, LabelSet, Matcher, TimeRangeMs, TimestampMs, TimestampNs};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use storage_catalogue::{BlockRef, LabelIndex};
use storage_disk::Disk;

use crate::block::{Extent, OpenBlock};
use crate::exemplar::{ExemplarFile, sort_and_dedup};
use crate::head::Head;
use crate::series::Cell;
use crate::tombstones::{self, Mask, Masks};
use crate::{BlockError, Samples};

/// Head views and blocks at one moment.
pub struct Snapshot {
    pub(crate) range: TimeRangeMs,
    /// Rising by day, then id.
    pub(crate) blocks: Vec<BlockRef>,
    /// What was deleted from them.
    pub(crate) masks: Arc<Masks>,
    /// The frozen one first: what it holds was stored first.
    pub(crate) heads: Vec<Arc<Head>>,
    pub(crate) opener: Arc<Blocks>,
    pub(crate) index: LabelIndex,
}

/// One series of a selection: its labels, and where its samples are.
pub struct Series {
    labels: LabelSet,
    /// What expired is not read, even if it is still there.
    floor: TimestampMs,
    /// By day, then by rank.
    extents: Vec<(u32, u32, Extent)>,
    blocks: Arc<Vec<HeldBlock>>,
    cells: Vec<Arc<Cell>>,
    opener: Arc<Blocks>,
}

/// An open block whose files stay while this is held.
pub(crate) struct HeldBlock {
    open: Arc<OpenBlock>,
    masks: Arc<[Mask]>,
    _files: BlockRef,
}

/// Where a series has data.
enum Place {
    Block(u32, Extent),
    Head(Arc<Cell>),
}

impl Snapshot {
    /// The series that pass every matcher and have samples in `range`, sorted by label set. Presence is exact to a
    /// chunk: a series whose samples lie around a short range may be returned, and reads nothing.
    pub fn select(&self, matchers: &[Matcher], range: TimeRangeMs) -> Result<Vec<Series>, BlockError> {
        let range = self.clip(range);
        let Some(days) = self.days(range) else {
            return Ok(Vec::new());
        };
        let ids = self.index.postings(days, matchers)?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let blocks = Arc::new(self.open_blocks(range)?);
        let mut places: Vec<(u32, Place)> = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            let mut found = |id, extent| places.push((id, Place::Block(i as u32, extent)));
            let damaged = block.open.find(&ids, range, &mut found)?;
            self.opener.count_damage(damaged);
        }
        for head in &self.heads {
            each_cell(head, &ids, |cell| {
                if cell.overlaps(range) {
                    places.push((cell.id, Place::Head(cell.clone())));
                }
            });
        }
        // Stable, so that the places of an id stay in the order in which they were stored.
        places.sort_by_key(|(id, _)| *id);
        let labels = self.labels_at(&places)?;

        let mut series: Vec<Series> = Vec::with_capacity(labels.len());
        let mut labels = labels.into_iter().peekable();
        let mut last = None;
        for (id, place) in places {
            while labels.next_if(|(known, _)| *known < id).is_some() {}
            if last != Some(id) {
                let Some((_, labels)) = labels.next_if(|(known, _)| *known == id) else {
                    continue;
                };
                last = Some(id);
                series.push(Series {
                    labels,
                    floor: self.range.start,
                    extents: Vec::new(),
                    blocks: blocks.clone(),
                    cells: Vec::new(),
                    opener: self.opener.clone(),
                });
            }
            if let Some(series) = series.last_mut() {
                match place {
                    Place::Block(block, extent) => series.extents.push((id, block, extent)),
                    Place::Head(cell) => series.cells.push(cell),
                }
            }
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        // A label set whose id died and that came back has two ids.
        series.dedup_by(|again, first| {
            let same = again.labels == first.labels;
            if same {
                first.extents.append(&mut again.extents);
                first.cells.append(&mut again.cells);
                first.extents.sort_by_key(|&(_, block, _)| block);
            }
            same
        });
        Ok(series)
    }

    /// Label sets that pass every matcher, sorted: of any of the `selectors` (none: of all series). Like Prometheus
    /// by block, the range counts by day.
    pub fn series(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<Vec<LabelSet>, BlockError> {
        let Some(days) = self.days(self.clip(range)) else {
            return Ok(Vec::new());
        };
        let ids = self.present(days, selectors)?;
        let mut list: Vec<LabelSet> = self.labels_of(&ids)?.into_iter().map(|(_, labels)| labels).collect();
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    /// Names of labels of those series, sorted.
    pub fn label_names(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<Vec<String>, BlockError> {
        let Some(days) = self.days(self.clip(range)) else {
            return Ok(Vec::new());
        };
        if selectors.is_empty() {
            return Ok(self.index.names(days, None)?);
        }
        let ids = self.present(days, selectors)?;
        Ok(self.index.names(days, Some(&ids))?)
    }

    /// Values of one label of those series, sorted.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRangeMs,
    ) -> Result<Vec<String>, BlockError> {
        let Some(days) = self.days(self.clip(range)) else {
            return Ok(Vec::new());
        };
        if selectors.is_empty() {
            return Ok(self.index.values(days, name, None)?);
        }
        let ids = self.present(days, selectors)?;
        Ok(self.index.values(days, name, Some(&ids))?)
    }

    /// Exemplars of those series in `range`, by series, rising by time.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRangeMs,
    ) -> Result<Vec<(LabelSet, Vec<Exemplar>)>, BlockError> {
        let range = self.clip(range);
        let Some(days) = self.days(range) else {
            return Ok(Vec::new());
        };
        let ids = self.selected(days, selectors)?;
        let mut by_id: HashMap<u32, Vec<Exemplar>> = HashMap::new();
        let mut add = |id, list: Vec<Exemplar>| {
            let mut list = list.into_iter().filter(|e| range.contains(e.t)).peekable();
            if list.peek().is_some() {
                by_id.entry(id).or_default().extend(list);
            }
        };
        for block in self.blocks.iter().filter(|block| overlaps(block, range)) {
            let file = match ExemplarFile::open(&self.opener.disk, block.dir()) {
                Err(error @ (BlockError::Corrupt { .. } | BlockError::Foreign { .. })) => {
                    tracing::warn!(%error, "exemplars are skipped");
                    self.opener.count_damage(1);
                    continue;
                }
                file => file?,
            };
            let Some(file) = file else {
                continue;
            };
            let masks = self.masks_of(block);
            for id in file.ids() & &ids {
                match file.read(id) {
                    Err(BlockError::Corrupt { .. }) => self.opener.count_damage(1),
                    list => {
                        let mut list = list?;
                        list.retain(|e| !tombstones::covers_at(&masks, id, e.t));
                        add(id, list);
                    }
                }
            }
        }
        for head in &self.heads {
            each_cell(head, &ids, |cell| add(cell.id, cell.exemplars()));
        }
        let found: RoaringBitmap = by_id.keys().copied().collect();
        let mut all = Vec::with_capacity(by_id.len());
        for (id, labels) in self.labels_of(&found)? {
            let mut list = by_id.remove(&id).unwrap_or_default();
            sort_and_dedup(&mut list);
            all.push((labels, list));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Ids that pass any of the selectors.
    fn selected(&self, days: (Day, Day), selectors: &[Vec<Matcher>]) -> Result<RoaringBitmap, BlockError> {
        if selectors.is_empty() {
            return Ok(self.index.postings(days, &[])?);
        }
        let mut ids = RoaringBitmap::new();
        for matchers in selectors {
            ids |= self.index.postings(days, matchers)?;
        }
        Ok(ids)
    }

    /// Those of them that have samples on these days.
    fn present(&self, days: (Day, Day), selectors: &[Vec<Matcher>]) -> Result<RoaringBitmap, BlockError> {
        let ids = self.selected(days, selectors)?;
        let range = self.clip(TimeRangeMs {
            start: days.0.start_ms(),
            end: TimestampMs(days.1.start_ms().0.saturating_add(DAY_MS - 1)),
        });
        let mut present = RoaringBitmap::new();
        if ids.is_empty() {
            return Ok(present);
        }
        for block in self.open_blocks(range)? {
            match block.open.ids() {
                Ok(in_block) => present |= self.undeleted(&block, in_block & &ids)?,
                Err(error @ BlockError::Corrupt { .. }) => {
                    tracing::warn!(%error, "the series of a block are not listed");
                    self.opener.count_damage(1);
                }
                Err(error) => return Err(error),
            }
        }
        for head in &self.heads {
            each_cell(head, &ids, |cell| {
                if cell.overlaps(range) {
                    present.insert(cell.id);
                }
            });
        }
        Ok(present)
    }

    /// Those of the `ids` in a block of which not all was deleted; exact to a chunk.
    fn undeleted(&self, block: &HeldBlock, mut ids: RoaringBitmap) -> Result<RoaringBitmap, BlockError> {
        let mut doubtful = RoaringBitmap::new();
        for mask in block.masks.iter() {
            doubtful |= &mask.ids & &ids;
        }
        if !doubtful.is_empty() {
            let damaged = block.open.each_of(&doubtful, &mut |id, chunks| {
                if chunks
                    .iter()
                    .all(|c| tombstones::covers(&block.masks, id, c.min, c.max))
                {
                    ids.remove(id);
                }
            })?;
            self.opener.count_damage(damaged);
        }
        Ok(ids)
    }

    fn masks_of(&self, block: &BlockRef) -> Arc<[Mask]> {
        self.masks.get(&block.meta().id).cloned().unwrap_or_default()
    }

    /// Whether a head has samples or exemplars of the series in `range`.
    pub(crate) fn is_in_head(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<bool, BlockError> {
        let range = self.clip(range);
        let Some(days) = self.days(range) else {
            return Ok(false);
        };
        let ids = self.selected(days, selectors)?;
        let mut found = false;
        for head in &self.heads {
            each_cell(head, &ids, |cell| {
                found = found || cell.overlaps(range) || cell.exemplars().iter().any(|e| range.contains(e.t));
            });
        }
        Ok(found)
    }

    /// Hands over each block with the ids of those series that have samples or exemplars in `range` there.
    pub(crate) fn each_block_with(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRangeMs,
        each: &mut dyn FnMut(&BlockRef, RoaringBitmap),
    ) -> Result<(), BlockError> {
        let range = self.clip(range);
        let Some(days) = self.days(range) else {
            return Ok(());
        };
        let ids = self.selected(days, selectors)?;
        for block in self.open_blocks(range)? {
            let mut found = RoaringBitmap::new();
            let damaged = block.open.find(&ids, range, &mut |id, _| _ = found.insert(id))?;
            self.opener.count_damage(damaged);
            match ExemplarFile::open(&self.opener.disk, block._files.dir()) {
                Err(BlockError::Corrupt { .. } | BlockError::Foreign { .. }) => self.opener.count_damage(1),
                file => found |= file?.map_or_else(RoaringBitmap::new, |file| file.ids() & &ids),
            }
            each(&block._files, found);
        }
        Ok(())
    }

    /// Label sets of the ids at these places, rising by id, as the places are: a place in a head has them with it.
    fn labels_at(&self, places: &[(u32, Place)]) -> Result<Vec<(u32, LabelSet)>, BlockError> {
        let mut known = Vec::with_capacity(places.len());
        let mut others = RoaringBitmap::new();
        for of_id in places.chunk_by(|a, b| a.0 == b.0) {
            let id = of_id[0].0;
            match of_id.last() {
                // Blocks come first.
                Some((_, Place::Head(cell))) => known.push((id, cell.labels.clone())),
                _ => _ = others.insert(id),
            }
        }
        if !others.is_empty() {
            known.extend(self.labels_of(&others)?);
            known.sort_unstable_by_key(|(id, _)| *id);
        }
        Ok(known)
    }

    /// Label sets of ids, rising by id: of active series from the heads, of others from the index.
    fn labels_of(&self, ids: &RoaringBitmap) -> Result<Vec<(u32, LabelSet)>, BlockError> {
        let mut known = Vec::with_capacity(ids.len() as usize);
        let mut others = RoaringBitmap::new();
        for id in ids {
            match self.heads.iter().rev().find_map(|head| head.get(id)) {
                Some(cell) => known.push((id, cell.labels.clone())),
                None => _ = others.insert(id),
            }
        }
        if !others.is_empty() {
            known.extend(self.index.label_sets(&others)?);
            known.sort_by_key(|(id, _)| *id);
        }
        Ok(known)
    }

    fn clip(&self, range: TimeRangeMs) -> TimeRangeMs {
        TimeRangeMs {
            start: range.start.max(self.range.start),
            end: range.end.min(self.range.end),
        }
    }

    /// First and last day of `range` that may hold anything at all.
    fn days(&self, range: TimeRangeMs) -> Option<(Day, Day)> {
        let heads = self.heads.iter().filter_map(|head| head.extent());
        let heads = heads.filter(|&(min, max)| range.overlaps(TimestampMs(min), TimestampMs(max)));
        let heads = heads.map(|(min, max)| (TimestampMs(min).day(), TimestampMs(max).day()));
        let blocks = self.blocks.iter().filter(|block| overlaps(block, range));
        let blocks = blocks.map(|block| (block.meta().day, block.meta().day));
        let all = heads.chain(blocks).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let (first, last) = range.days();
        Some((all.0.max(first), all.1.min(last)))
    }

    /// The blocks that overlap `range`, by day, then rank; damaged ones are skipped and counted.
    fn open_blocks(&self, range: TimeRangeMs) -> Result<Vec<HeldBlock>, BlockError> {
        let mut held = Vec::new();
        for block in self.blocks.iter().filter(|block| overlaps(block, range)) {
            if let Some(open) = self.opener.open(block)? {
                held.push(HeldBlock {
                    open,
                    masks: self.masks_of(block),
                    _files: block.clone(),
                });
            }
        }
        held.sort_by_key(|block| (block._files.meta().day, block.open.rank()));
        Ok(held)
    }
}

impl Series {
    /// Its labels.
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// Its newest sample in `range`, if that is a float which lies ready in the head. `None` says nothing: read it.
    pub fn newest(&self, range: TimeRangeMs) -> Option<(TimestampMs, f64)> {
        let range = self.readable(range);
        let (cell, before) = self.cells.split_last()?;
        let (t, v) = cell.newest_float(range)?;
        // What was stored first counts, so nothing else may reach as far.
        let in_block = |&(_, block, _): &(u32, u32, Extent)| self.blocks[block as usize]._files.meta().max.floor_ms();
        let earlier = self.extents.iter().all(|extent| in_block(extent).0 < t)
            && before.iter().all(|cell| cell.extent().is_none_or(|(_, max)| max < t));
        earlier.then_some((TimestampMs(t), v))
    }

    /// Appends its samples in `range` to `out`, rising by time; of several at one time the first stored. A damaged
    /// chunk is skipped and counted.
    pub fn read(&self, range: TimeRangeMs, out: &mut Samples) -> Result<(), BlockError> {
        let range = self.readable(range);
        let base = out.mark();
        let mut buffer = Vec::new();
        for &(id, block, extent) in &self.extents {
            let second = out.mark();
            let block = &self.blocks[block as usize];
            let damaged = block.open.read(id, extent, range, out, &mut buffer)?;
            self.opener.count_damage(damaged);
            tombstones::remove(&block.masks, id, out, second);
            out.merge_tail(base, second);
        }
        for cell in &self.cells {
            let second = out.mark();
            cell.view(range).read(range, out);
            out.merge_tail(base, second);
        }
        out.settle_hints(base);
        Ok(())
    }

    /// What of `range` has not expired.
    fn readable(&self, range: TimeRangeMs) -> TimeRangeMs {
        TimeRangeMs {
            start: range.start.max(self.floor),
            end: range.end,
        }
    }
}

/// Calls `each` for the head's series among `ids`.
fn each_cell(head: &Head, ids: &RoaringBitmap, mut each: impl FnMut(&Arc<Cell>)) {
    if ids.len() > head.series() {
        head.for_each(|cell| {
            if ids.contains(cell.id) {
                each(cell);
            }
        });
    } else {
        for cell in ids.iter().filter_map(|id| head.get(id)) {
            each(&cell);
        }
    }
}

fn overlaps(block: &BlockRef, range: TimeRangeMs) -> bool {
    let ms = |t: TimestampNs| t.floor_ms();
    range.overlaps(ms(block.meta().min), ms(block.meta().max))
}

/// Block files that are open: a handle and a small directory each, until the block is gone.
pub(crate) struct Blocks {
    pub(crate) disk: Disk,
    /// `None`: it could not be read, which was said once.
    open: Mutex<HashMap<BlockId, Option<Arc<OpenBlock>>>>,
    damaged: AtomicU64,
}

impl Blocks {
    pub(crate) fn new(disk: Disk) -> Blocks {
        Blocks {
            disk,
            open: Mutex::default(),
            damaged: AtomicU64::new(0),
        }
    }

    /// The block's chunks file; `None` if it is damaged.
    fn open(&self, block: &BlockRef) -> Result<Option<Arc<OpenBlock>>, BlockError> {
        let id = block.meta().id;
        if let Some(open) = self.open.lock().get(&id) {
            return Ok(open.clone());
        }
        let open = match OpenBlock::open(&self.disk, block.dir()) {
            Ok(open) => Some(Arc::new(open)),
            Err(error @ (BlockError::Corrupt { .. } | BlockError::Foreign { .. })) => {
                tracing::error!(%error, block = %id, "a block of metrics cannot be read; queries go on without it");
                self.count_damage(1);
                None
            }
            Err(error) => return Err(error),
        };
        self.open.lock().insert(id, open.clone());
        Ok(open)
    }

    /// Closes all but these.
    pub(crate) fn retain(&self, blocks: &[BlockRef]) {
        let mut open = self.open.lock();
        if !open.is_empty() {
            let keep: std::collections::HashSet<BlockId> = blocks.iter().map(|block| block.meta().id).collect();
            open.retain(|id, _| keep.contains(id));
        }
    }

    pub(crate) fn count_damage(&self, parts: u64) {
        if parts > 0 {
            self.damaged.fetch_add(parts, Ordering::Relaxed);
        }
    }

    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }
}

const _: fn() = || {
    fn may_be_read_in_parallel<T: Send + Sync>() {}
    may_be_read_in_parallel::<Series>();
    may_be_read_in_parallel::<Snapshot>();
};
