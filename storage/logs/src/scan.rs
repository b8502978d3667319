//! Reading: which chunks a query touches, and their entries, merged.
//!
//! A [`Snapshot`] holds heads and blocks by reference. [`Snapshot::runs`] asks the label index for streams, walks the
//! group directories of the blocks, rules groups out by time, stream and needle filter, and plans the chunks that are
//! left into [`Run`]s: chunks of one stream that overlap in time are read together. Nothing is opened before
//! [`Run::read`]. What is deleted or too old for its stream (`masks.rs`) is left out everywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use hashbrown::HashMap;
use model::{BlockId, Day, LabelSet, Matcher, TimeRangeNs, TimestampNs};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use storage_catalogue::{BlockRef, Catalogue, LabelIndex};
use storage_codec::Malformed;
use storage_disk::Disk;

use crate::BlockError;
use crate::block::{OpenBlock, corrupt};
use crate::chunk::{self, ChunkMeta, LEVEL_VALUES, Levels, Sealed};
use crate::entries::{Columns, Entries};
use crate::head::{Head, Part};
use crate::masks::{Keeping, LogPolicy, Mask, Masks, remove_deleted};
use crate::needle_filter::Question;
use crate::needle_search::{Hits, Needle};
use crate::tombstones::{Tombstone, Tombstones};

/// A run that has this many raw bytes ends as soon as little of it reaches beyond the next chunk's start.
const RUN_RAW_BYTES: u64 = 1 << 20;
/// Directories of blocks that stay in memory between queries.
const OPEN_BYTES_MAX: usize = 4 << 20;
const OPEN_BLOCKS_MAX: usize = 32;
/// Buffers for compressed chunks up to this size are kept by each thread.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// What readers share with the engine.
pub(crate) struct Shared {
    pub disk: Disk,
    pub catalogue: Catalogue,
    pub labels: LabelIndex,
    pub policy: LogPolicy,
    pub keeping: Arc<Keeping>,
    pub tombstones: Tombstones,
    /// The latest time that the engine was told.
    pub now: AtomicI64,
    /// Chunks that failed their checksum.
    pub corrupt: AtomicU64,
    /// Blocks in which compaction met damage; it leaves them alone.
    pub damaged: Mutex<BTreeSet<BlockId>>,
    /// Blocks that were looked at for streams kept so long (ns), when all of the block was older.
    pub swept: Mutex<BTreeSet<(BlockId, i64)>>,
    open: Mutex<HashMap<BlockId, (Arc<OpenBlock>, u64)>>,
    opened: AtomicU64,
}

/// Head views and blocks at one moment.
pub struct Snapshot {
    pub(crate) shared: Arc<Shared>,
    range: TimeRangeNs,
    masks: Masks,
    heads: Vec<Arc<Head>>,
    blocks: Vec<BlockRef>,
    /// Damaged chunks that reading it has met, in runs too.
    skipped: Arc<AtomicU64>,
}

/// What must stand in a line or its metadata; lets whole chunks be skipped, and lines passed over. No line that matches
/// is lost, but others may be read.
#[derive(Clone, Debug, Default)]
pub struct Needles {
    /// Substrings that every wanted line contains.
    pub contains: Vec<String>,
    /// Structured metadata that every wanted entry carries.
    pub metadata: Vec<(String, String)>,
}

/// Chunks of one stream that overlap in time and are read together; runs of one stream do not overlap each other.
pub struct Run {
    shared: Arc<Shared>,
    labels: LabelSet,
    min: i64,
    max: i64,
    chunks: Vec<Chunk>,
    /// Lines without it need not be read.
    needle: Option<Arc<Needle>>,
    /// Requests that may delete some of it.
    deletes: Vec<Arc<Tombstone>>,
    /// Where damaged chunks are counted for whoever asks.
    skipped: Arc<AtomicU64>,
}

/// What a run holds, known without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Entries.
    pub entries: u64,
    /// Bytes of their lines, without metadata.
    pub line_bytes: u64,
    /// Bytes of names and values of their metadata.
    pub metadata_bytes: u64,
    /// Entries by the value of the metadata `detected_level` (empty for entries without it); `None` when there are
    /// values beyond the usual ones, which are not counted apart.
    pub levels: Option<Vec<(&'static str, u64)>>,
}

/// Entries of one stream that lie together.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub source: Source,
    pub min: i64,
    pub max: i64,
    pub entries: u64,
    pub raw_bytes: u64,
    /// Rises with arrival.
    order: u32,
}

#[derive(Clone)]
pub(crate) enum Source {
    Open(Arc<Entries>),
    Sealed(Arc<Sealed>),
    Block(Arc<HeldBlock>, Box<ChunkMeta>, u64),
}

/// Chunks by stream, each stream's in no order, and the streams' labels.
pub(crate) struct Gathered {
    pub streams: BTreeMap<u32, Vec<Chunk>>,
    pub labels: HashMap<u32, LabelSet>,
}

/// Streams, and the days on which they are in use.
struct Selected {
    ids: RoaringBitmap,
    days: (Day, Day),
}

/// An open block; as long as it is held, its files stay.
pub(crate) struct HeldBlock {
    file: Arc<OpenBlock>,
    _block: BlockRef,
}

impl Shared {
    pub fn new(
        disk: Disk,
        catalogue: Catalogue,
        labels: LabelIndex,
        policy: LogPolicy,
        keeping: Keeping,
        tombstones: Tombstones,
    ) -> Shared {
        Shared {
            disk,
            catalogue,
            labels,
            policy,
            keeping: Arc::new(keeping),
            tombstones,
            now: AtomicI64::new(i64::MIN),
            corrupt: AtomicU64::new(0),
            damaged: Mutex::default(),
            swept: Mutex::default(),
            open: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// A block's files, opened now or lately.
    pub fn open(&self, block: &BlockRef) -> Result<Arc<OpenBlock>, BlockError> {
        let id = block.meta().id;
        let now = self.opened.fetch_add(1, Relaxed);
        if let Some((file, used)) = self.open.lock().get_mut(&id) {
            *used = now;
            return Ok(file.clone());
        }
        let file = Arc::new(OpenBlock::open(&self.disk, block.dir())?);
        let mut open = self.open.lock();
        open.insert(id, (file.clone(), now));
        while open.len() > OPEN_BLOCKS_MAX
            || open.len() > 1 && open.values().map(|(f, _)| f.heap_bytes()).sum::<usize>() > OPEN_BYTES_MAX
        {
            let Some(oldest) = open.iter().min_by_key(|(_, (_, used))| *used).map(|(&id, _)| id) else {
                break;
            };
            open.remove(&oldest);
        }
        Ok(file)
    }

    /// What is hidden of `range` now. To be asked before heads and blocks are looked at: then what a compaction removes
    /// meanwhile is either hidden or gone.
    pub fn masks(&self, range: TimeRangeNs) -> Masks {
        let span = (range.start.0, range.end.0.saturating_sub(1));
        let now = TimestampNs(self.now.load(Relaxed));
        Masks::new(&self.tombstones.all(), |_| true, &self.keeping, span, now)
    }

    /// Closes files of blocks that are no more.
    pub fn close_retired(&self) {
        let live = self.catalogue.blocks(model::Signal::Logs, TimeRangeNs::ALL);
        let is_live = |id: &BlockId| live.iter().any(|b| b.meta().id == *id);
        self.open.lock().retain(|id, _| is_live(id));
        self.damaged.lock().retain(is_live);
        self.swept.lock().retain(|(id, _)| is_live(id));
    }

    /// Damage is said and counted, and the rest is read. Other errors go up.
    pub(crate) fn skip_damage(&self, error: BlockError, chunks: u64) -> Result<(), BlockError> {
        match error {
            BlockError::Corrupt { .. } | BlockError::Foreign { .. } => {
                tracing::error!(%error, chunks, "damaged log chunks are skipped");
                self.corrupt.fetch_add(chunks, Relaxed);
                Ok(())
            }
            error => Err(error),
        }
    }
}

impl Snapshot {
    /// `heads` from old to new. A head that stands in `blocks` already is left out.
    pub(crate) fn new(
        shared: Arc<Shared>,
        range: TimeRangeNs,
        masks: Masks,
        mut heads: Vec<Arc<Head>>,
        mut blocks: Vec<BlockRef>,
    ) -> Snapshot {
        heads.retain(|head| {
            let becomes = head.becomes.lock();
            let published = |b: &BlockRef| {
                let meta = b.meta();
                becomes.iter().any(|id| meta.id == *id || meta.replaces.contains(id))
            };
            !blocks.iter().any(published)
        });
        blocks.sort_by_key(arrival);
        Snapshot {
            shared,
            range,
            masks,
            heads,
            blocks,
            skipped: Arc::default(),
        }
    }

    /// How many chunks could not be read so far, here or in runs, because they are damaged.
    pub fn skipped_chunks(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    fn skip_damage(&self, error: BlockError, chunks: u64) -> Result<(), BlockError> {
        self.shared.skip_damage(error, chunks)?;
        self.skipped.fetch_add(chunks, Relaxed);
        Ok(())
    }

    /// The runs of streams that pass every matcher, touching `range`, less those that the needles rule out. In no
    /// particular order; each run knows its time span.
    pub fn runs(&self, matchers: &[Matcher], range: TimeRangeNs, needles: &Needles) -> Result<Vec<Run>, BlockError> {
        let Some((range, min, max)) = self.clip(range) else {
            return Ok(Vec::new());
        };
        let ids = self.shared.labels.postings(range.days(), matchers)?;
        let question = Question::new(&needles.contains, &needles.metadata);
        let Gathered { streams, labels } = self.gather(&ids, range, &question)?;
        let needle = Needle::of(&needles.contains).map(Arc::new);
        let mut runs = Vec::new();
        for (id, mut chunks) in streams {
            let Some(labels) = labels.get(&id) else { continue };
            let mask = self.mask_of(labels, &mut chunks);
            let min = mask.from.map_or(min, |from| from.max(min));
            let of_stream = make_runs(&self.shared, labels, &chunks, min, max, &mask);
            runs.extend(of_stream.into_iter().map(|run| Run {
                needle: needle.clone(),
                skipped: self.skipped.clone(),
                ..run
            }));
        }
        Ok(runs)
    }

    /// Label sets of streams that pass any of the `selectors` (none: all) and have entries in `range`, sorted.
    pub fn series(&self, selectors: &[Vec<Matcher>], range: TimeRangeNs) -> Result<Vec<LabelSet>, BlockError> {
        let Some(Selected { ids, .. }) = self.ids(selectors, range)? else {
            return Ok(Vec::new());
        };
        let mut sets: Vec<LabelSet> = self
            .shared
            .labels
            .label_sets(&ids)?
            .into_iter()
            .map(|(_, labels)| labels)
            .collect();
        sets.sort();
        Ok(sets)
    }

    /// Names of labels of those streams, sorted.
    pub fn label_names(&self, selectors: &[Vec<Matcher>], range: TimeRangeNs) -> Result<Vec<String>, BlockError> {
        match self.ids(selectors, range)? {
            None => Ok(Vec::new()),
            Some(Selected { ids, days }) => Ok(self.shared.labels.names(days, Some(&ids))?),
        }
    }

    /// Values of one label of those streams, sorted.
    pub fn label_values(
        &self,
        name: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRangeNs,
    ) -> Result<Vec<String>, BlockError> {
        match self.ids(selectors, range)? {
            None => Ok(Vec::new()),
            Some(Selected { ids, days }) => Ok(self.shared.labels.values(days, name, Some(&ids))?),
        }
    }

    /// What is hidden of a stream; leaves the chunks out that are hidden whole.
    pub(crate) fn mask_of(&self, labels: &LabelSet, chunks: &mut Vec<Chunk>) -> Mask {
        if self.masks.is_empty() {
            return Mask::default();
        }
        let mask = self.masks.of(labels);
        chunks.retain(|c| !mask.covers(c.min, c.max));
        mask
    }

    /// What of `range` lies in the snapshot's, with its first and last instant.
    pub(crate) fn clip(&self, range: TimeRangeNs) -> Option<(TimeRangeNs, i64, i64)> {
        let start = range.start.max(self.range.start);
        let end = range.end.min(self.range.end);
        (start < end).then_some((TimeRangeNs { start, end }, start.0, end.0 - 1))
    }

    /// Chunks of the streams `ids` that touch `range` and may hold what is asked for, by stream, and labels.
    pub(crate) fn gather(
        &self,
        ids: &RoaringBitmap,
        range: TimeRangeNs,
        question: &Question,
    ) -> Result<Gathered, BlockError> {
        let mut streams: BTreeMap<u32, Vec<Chunk>> = BTreeMap::new();
        let mut labels: HashMap<u32, LabelSet> = HashMap::new();
        let mut unlabelled = RoaringBitmap::new();
        let mut order = 0;
        for block in &self.blocks {
            self.visit_block(block, ids, range, question, |held, meta, at| {
                unlabelled.insert(meta.stream);
                streams.entry(meta.stream).or_default().push(Chunk {
                    min: meta.min,
                    max: meta.max,
                    entries: u64::from(meta.entries),
                    raw_bytes: meta.raw_bytes(),
                    order,
                    source: Source::Block(held.clone(), Box::new(meta), at),
                });
                order += 1;
            })?;
        }
        for head in &self.heads {
            let views = head.streams(range.start.0, range.end.0 - 1, |id, _| ids.contains(id));
            for view in views {
                labels.entry(view.id).or_insert(view.labels);
                unlabelled.remove(view.id);
                for part in view.parts {
                    let chunk = Chunk::of_head(part, order);
                    order += 1;
                    let keep = range.overlaps(TimestampNs(chunk.min), TimestampNs(chunk.max))
                        && match &chunk.source {
                            Source::Sealed(s) if !question.is_empty() => question.may_match(&s.filter).unwrap_or(true),
                            _ => true,
                        };
                    if keep {
                        streams.entry(view.id).or_default().push(chunk);
                    }
                }
            }
        }
        labels.extend(self.shared.labels.label_sets(&unlabelled)?);
        Ok(Gathered { streams, labels })
    }

    fn visit_block(
        &self,
        block: &BlockRef,
        ids: &RoaringBitmap,
        range: TimeRangeNs,
        question: &Question,
        mut found: impl FnMut(&Arc<HeldBlock>, ChunkMeta, u64),
    ) -> Result<(), BlockError> {
        let meta = block.meta();
        if !range.overlaps(meta.min, meta.max) {
            return Ok(());
        }
        let file = match self.shared.open(block) {
            Ok(file) => file,
            Err(error) => return self.skip_damage(error, 1),
        };
        let held = Arc::new(HeldBlock {
            file: file.clone(),
            _block: block.clone(),
        });
        for group in &file.groups {
            if !range.overlaps(TimestampNs(group.min), TimestampNs(group.max))
                || ids.range_cardinality(group.first..=group.last) == 0
            {
                continue;
            }
            if !question.is_empty()
                && file
                    .filter(group)
                    .is_some_and(|f| !question.may_match(&f).unwrap_or(true))
            {
                continue;
            }
            let mut records = match file.records(group) {
                Ok(records) => records,
                Err(error) => {
                    self.skip_damage(error, u64::from(group.chunks))?;
                    continue;
                }
            };
            records.retain(|(m, _)| ids.contains(m.stream) && range.overlaps(TimestampNs(m.min), TimestampNs(m.max)));
            for (meta, at) in records {
                found(&held, meta, at);
            }
        }
        Ok(())
    }

    /// The streams that pass any selector and have entries in `range`, and the days to look at. Whole days are
    /// answered by the label index; the days that the range cuts are looked at chunk by chunk.
    fn ids(&self, selectors: &[Vec<Matcher>], range: TimeRangeNs) -> Result<Option<Selected>, BlockError> {
        let Some((range, min, max)) = self.clip(range) else {
            return Ok(None);
        };
        let index = &self.shared.labels;
        let select = |days: (Day, Day)| {
            let mut ids = RoaringBitmap::new();
            if selectors.is_empty() {
                return index.postings(days, &[]);
            }
            for selector in selectors {
                ids |= index.postings(days, selector)?;
            }
            Ok(ids)
        };
        let days = range.days();
        let mut cut: Vec<Day> = Vec::new();
        let mut whole = days;
        if days.0.start_ns() < range.start {
            cut.push(days.0);
            whole.0 = Day(days.0.0.saturating_add(1));
        }
        let after = Day(days.1.0.saturating_add(1)).start_ns();
        if range.end < after && range != TimeRangeNs::ALL {
            if !cut.contains(&days.1) {
                cut.push(days.1);
            }
            whole.1 = Day(days.1.0.saturating_sub(1));
        }
        let mut ids = if whole.0 <= whole.1 {
            select(whole)?
        } else {
            RoaringBitmap::new()
        };
        for day in cut {
            let candidates = select((day, day))? - &ids;
            if candidates.is_empty() {
                continue;
            }
            for head in &self.heads {
                let views = head.streams(min, max, |id, d| d == day && candidates.contains(id));
                ids.extend(views.into_iter().map(|v| v.id));
            }
            for block in self.blocks.iter().filter(|b| b.meta().day == day) {
                self.visit_block(block, &candidates, range, &Question::default(), |_, meta, _| {
                    ids.insert(meta.stream);
                })?;
            }
        }
        if self.masks.may_hide_streams() {
            self.drop_hidden(&mut ids, range)?;
        }
        Ok(Some(Selected { ids, days }))
    }

    /// Takes out of `ids` the streams of which nothing is left in `range`.
    fn drop_hidden(&self, ids: &mut RoaringBitmap, range: TimeRangeNs) -> Result<(), BlockError> {
        let mut suspects = RoaringBitmap::new();
        match self.masks.hidden_selectors() {
            None => suspects = ids.clone(),
            Some(selectors) => {
                for selector in selectors {
                    suspects |= self.shared.labels.postings(range.days(), selector)? & &*ids;
                }
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let Gathered { streams, labels } = self.gather(&suspects, range, &Question::default())?;
        *ids -= suspects;
        for (id, mut chunks) in streams {
            if let Some(labels) = labels.get(&id) {
                self.mask_of(labels, &mut chunks);
            }
            if !chunks.is_empty() {
                ids.insert(id);
            }
        }
        Ok(())
    }
}

impl Run {
    /// The stream's labels.
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    /// No entry within the range asked for is older.
    pub fn min(&self) -> TimestampNs {
        TimestampNs(self.min)
    }

    /// No entry within the range asked for is newer.
    pub fn max(&self) -> TimestampNs {
        TimestampNs(self.max)
    }

    /// At most this many entries.
    pub fn entries_max(&self) -> u64 {
        self.chunks.iter().map(|c| c.entries).sum()
    }

    /// About how many bytes of lines and metadata reading it looks at.
    pub fn bytes_max(&self) -> u64 {
        self.chunks.iter().map(|c| c.raw_bytes).sum()
    }

    /// What the run holds, if that is known exactly: when it is one closed chunk that lies within the range asked for.
    pub fn tally(&self) -> Option<Tally> {
        let [chunk] = &self.chunks[..] else { return None };
        if !self.deletes.is_empty() || chunk.min < self.min || chunk.max > self.max {
            return None;
        }
        let meta = match &chunk.source {
            Source::Open(_) => return None,
            Source::Sealed(s) => &s.meta,
            Source::Block(_, meta, _) => meta,
        };
        Some(Tally {
            entries: u64::from(meta.entries),
            line_bytes: u64::from(meta.line_bytes),
            metadata_bytes: u64::from(meta.metadata_bytes),
            levels: level_counts(&meta.levels),
        })
    }

    /// Whether entries may carry structured metadata.
    pub fn has_metadata(&self) -> bool {
        self.chunks.iter().any(|c| match &c.source {
            Source::Open(e) => e.has_metadata(),
            Source::Sealed(s) => s.meta.parts[2] > 0,
            Source::Block(_, meta, _) => meta.parts[2] > 0,
        })
    }

    /// Reads the entries within the range asked for into `out` (cleared first), exact duplicates removed. Those whose lines
    /// lack a needle asked for may be passed over ([`Entries::left_out`]). A damaged chunk is skipped and counted. Says how
    /// many bytes were decompressed.
    pub fn read(&self, out: &mut Entries) -> Result<u64, BlockError> {
        self.read_columns(Columns::ALL, out)
    }

    /// Reads like [`Run::read`], but decompresses no more than the columns asked for where that is enough to tell
    /// duplicates. There may be more in `out` than was asked for.
    pub fn read_columns(&self, columns: Columns<'_>, out: &mut Entries) -> Result<u64, BlockError> {
        self.read_with(columns, out, |error| {
            self.shared.skip_damage(error, 1)?;
            self.skipped.fetch_add(1, Relaxed);
            Ok(())
        })
    }

    /// Reads like [`Run::read`], but damage is an error.
    pub(crate) fn read_undamaged(&self, out: &mut Entries) -> Result<u64, BlockError> {
        self.read_with(Columns::ALL, out, Err)
    }

    fn read_with(
        &self,
        columns: Columns<'_>,
        out: &mut Entries,
        damage: impl Fn(BlockError) -> Result<(), BlockError>,
    ) -> Result<u64, BlockError> {
        let needle = self.needle.as_deref();
        if self.deletes.is_empty() {
            return read_chunks(&self.chunks, self.min, self.max, columns, needle, out, damage);
        }
        // What is deleted may hang on any column.
        let bytes = read_chunks(&self.chunks, self.min, self.max, Columns::ALL, needle, out, damage)?;
        remove_deleted(&self.deletes, &self.labels, out);
        Ok(bytes)
    }
}

impl Chunk {
    fn of_head(part: Part, order: u32) -> Chunk {
        match part {
            Part::Sealed(s) => Chunk {
                min: s.meta.min,
                max: s.meta.max,
                entries: u64::from(s.meta.entries),
                raw_bytes: s.meta.raw_bytes(),
                order,
                source: Source::Sealed(s),
            },
            Part::Open(e) => Chunk {
                min: e.times.iter().copied().min().unwrap_or(i64::MAX),
                max: e.times.iter().copied().max().unwrap_or(i64::MIN),
                entries: e.times.len() as u64,
                raw_bytes: e.raw_bytes() as u64,
                order,
                source: Source::Open(e),
            },
        }
    }

    /// Expands columns of a closed chunk into `out`, or more; lines that lack the needle may be passed over.
    pub(crate) fn expand(
        &self,
        columns: Columns<'_>,
        needle: Option<&Needle>,
        out: &mut Entries,
    ) -> Result<u64, BlockError> {
        let (path, at, expanded) = match &self.source {
            Source::Open(e) => return Ok(e.raw_bytes() as u64),
            Source::Sealed(s) => (
                std::path::Path::new("head"),
                0,
                expand_sealed(&s.meta, &s.data, columns, needle, out),
            ),
            Source::Block(held, meta, at) => BUFFER.with_borrow_mut(|buffer| {
                let expanded = expand_stored(&held.file, meta, *at, columns, needle, buffer, out)?;
                if buffer.capacity() > BUFFER_BYTES_KEPT {
                    *buffer = Vec::new();
                }
                Ok::<_, BlockError>((held.file.path(), *at, expanded))
            })?,
        };
        expanded.map_err(|e| corrupt(path, at + e.at as u64, e.what))
    }

    /// Of what was passed over keeps the share that lies in `[min, max]`.
    fn narrow_left_out(&self, min: i64, max: i64, out: &mut Entries) {
        if out.left_out == (0, 0) || min <= self.min && self.max <= max {
            return;
        }
        let inside = self.max.min(max).abs_diff(self.min.max(min)) as f64 + 1.0;
        let share = inside / (self.max.abs_diff(self.min) as f64 + 1.0);
        let of = |n: u64| (n as f64 * share) as u64;
        out.left_out = (of(out.left_out.0), of(out.left_out.1));
    }
}

fn expand_sealed(
    meta: &ChunkMeta,
    data: &[u8],
    columns: Columns<'_>,
    needle: Option<&Needle>,
    out: &mut Entries,
) -> Result<u64, Malformed> {
    if !columns.lines {
        let parts = chunk::split(meta, data)?;
        if let Some(expanded) = chunk::decode_without_lines(meta, parts[0], parts[2], columns, out)? {
            return Ok(expanded);
        }
    }
    if let Some(needle) = needle.filter(|_| columns.lines) {
        let found = HITS.with_borrow_mut(|hits| {
            if hits.find(meta, data, needle)? == 0 {
                return Ok(Some(pass_over(meta, hits, out)));
            }
            hits.decode(meta, data, &chunk::read_ids(meta, data)?, columns, out)
        })?;
        if let Some(expanded) = found {
            return Ok(expanded);
        }
    }
    chunk::decode(meta, data, &chunk::read_ids(meta, data)?, columns, out)
}

/// No entry of the chunk is wanted.
fn pass_over(meta: &ChunkMeta, hits: &Hits, out: &mut Entries) -> u64 {
    out.clear();
    out.left_out = (u64::from(meta.entries), u64::from(meta.line_bytes));
    hits.bytes()
}

fn expand_stored(
    file: &OpenBlock,
    meta: &ChunkMeta,
    at: u64,
    columns: Columns<'_>,
    needle: Option<&Needle>,
    buffer: &mut Vec<u8>,
    out: &mut Entries,
) -> Result<Result<u64, Malformed>, BlockError> {
    if !columns.lines {
        let which = if columns.has_metadata() { &[0, 2][..] } else { &[0] };
        file.parts(meta, at, which, buffer)?;
        let (times, metadata) = buffer.split_at(meta.parts[0] as usize);
        match chunk::decode_without_lines(meta, times, metadata, columns, out) {
            Ok(None) => {}
            Ok(Some(expanded)) => return Ok(Ok(expanded)),
            Err(e) => return Ok(Err(e)),
        }
    }
    file.chunk(meta, at, buffer)?;
    if let Some(needle) = needle.filter(|_| columns.lines) {
        let found = HITS.with_borrow_mut(|hits| match hits.find(meta, buffer, needle) {
            Ok(0) => Ok(Ok(Some(pass_over(meta, hits, out)))),
            Ok(_) => Ok(hits.decode(meta, buffer, &file.ids(meta, at, buffer)?, columns, out)),
            Err(e) => Ok::<_, BlockError>(Err(e)),
        })?;
        match found {
            Ok(None) => {}
            Ok(Some(expanded)) => return Ok(Ok(expanded)),
            Err(e) => return Ok(Err(e)),
        }
    }
    let ids = file.ids(meta, at, buffer)?;
    Ok(chunk::decode(meta, buffer, &ids, columns, out))
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static HITS: RefCell<Hits> = RefCell::default();
}

/// Reads columns of chunks of one stream, in order of arrival, and merges what lies in `[min, max]` into `out`.
fn read_chunks(
    chunks: &[Chunk],
    min: i64,
    max: i64,
    columns: Columns<'_>,
    needle: Option<&Needle>,
    out: &mut Entries,
    damage: impl Fn(BlockError) -> Result<(), BlockError>,
) -> Result<u64, BlockError> {
    out.clear();
    let mut bytes = 0;
    if let [chunk] = chunks
        && !matches!(chunk.source, Source::Open(_))
    {
        match chunk.expand(columns, needle, out) {
            Ok(expanded) => bytes = expanded,
            Err(error) => {
                out.clear();
                damage(error)?;
            }
        }
        out.narrow(min, max);
        chunk.narrow_left_out(min, max, out);
        return Ok(bytes);
    }
    // Duplicates are told by all that an entry has.
    let columns = if columns.lines { Columns::ALL } else { columns };
    let mut expanded: Vec<Entries> = Vec::new();
    let mut places: Vec<Option<usize>> = Vec::new();
    for chunk in chunks {
        if matches!(chunk.source, Source::Open(_)) {
            bytes += chunk.raw_bytes;
            places.push(None);
            continue;
        }
        let mut entries = Entries::default();
        match chunk.expand(columns, needle, &mut entries) {
            Ok(n) => bytes += n,
            Err(error) => {
                entries.clear();
                // Without lines the chunks may be read again, which says and counts the damage again.
                damage(error)?;
            }
        }
        chunk.narrow_left_out(min, max, &mut entries);
        places.push(Some(expanded.len()));
        expanded.push(entries);
    }
    let sources: Vec<&Entries> = chunks
        .iter()
        .zip(places)
        .filter_map(|(chunk, place)| match (&chunk.source, place) {
            (Source::Open(e), _) => Some(&**e),
            (_, Some(i)) => expanded.get(i),
            (_, None) => None,
        })
        .collect();
    if !columns.lines {
        if out.merge_without_lines(&sources, min, max) {
            return Ok(bytes);
        }
        drop(expanded);
        return Ok(bytes + read_chunks(chunks, min, max, Columns::ALL, needle, out, damage)?);
    }
    if out.merge(&sources, min, max).is_err() {
        out.clear();
        return Err(corrupt(
            std::path::Path::new("head and blocks"),
            0,
            "overlapping chunks of one stream hold more than 4 GiB of text; compact them or ask for less time",
        ));
    }
    Ok(bytes)
}

fn level_counts(levels: &Levels) -> Option<Vec<(&'static str, u64)>> {
    let (others, known) = levels.0.split_last()?;
    let counts = LEVEL_VALUES.iter().zip(known).filter(|(_, n)| **n > 0);
    (*others == 0).then(|| counts.map(|(&v, &n)| (v, u64::from(n))).collect())
}

/// Chunks of one stream from several blocks, in order of arrival, as runs for compaction: oldest first.
pub(crate) fn runs_of_blocks(
    shared: &Arc<Shared>,
    blocks: &[(Arc<OpenBlock>, BlockRef)],
    labels: &LabelSet,
    chunks: Vec<(usize, ChunkMeta, u64)>,
    mask: &Mask,
) -> Vec<Run> {
    let held: Vec<Arc<HeldBlock>> = blocks
        .iter()
        .map(|(file, block)| {
            Arc::new(HeldBlock {
                file: file.clone(),
                _block: block.clone(),
            })
        })
        .collect();
    let chunks: Vec<Chunk> = chunks
        .into_iter()
        .filter(|(_, meta, _)| !mask.covers(meta.min, meta.max))
        .enumerate()
        .map(|(order, (block, meta, at))| Chunk {
            min: meta.min,
            max: meta.max,
            entries: u64::from(meta.entries),
            raw_bytes: meta.raw_bytes(),
            order: order as u32,
            source: Source::Block(held[block].clone(), Box::new(meta), at),
        })
        .collect();
    let min = mask.from.unwrap_or(i64::MIN);
    make_runs(shared, labels, &chunks, min, i64::MAX, mask)
}

pub(crate) fn make_runs(
    shared: &Arc<Shared>,
    labels: &LabelSet,
    chunks: &[Chunk],
    min: i64,
    max: i64,
    mask: &Mask,
) -> Vec<Run> {
    let spans: Vec<(i64, i64, u64)> = chunks
        .iter()
        .map(|c| (c.min.max(min), c.max.min(max), c.raw_bytes))
        .collect();
    let run = |planned: PlannedRun| {
        let mut members: Vec<Chunk> = planned.members.iter().map(|&i| chunks[i].clone()).collect();
        members.sort_by_key(|c| c.order);
        Run {
            shared: shared.clone(),
            labels: labels.clone(),
            min: planned.min,
            max: planned.max,
            chunks: members,
            needle: None,
            deletes: mask.deletes_of(planned.min, planned.max),
            skipped: Arc::default(),
        }
    };
    plan_runs(&spans).into_iter().map(run).collect()
}

/// Blocks by when their entries arrived, as far as that is known: a compacted block stands where its first input stood.
pub(crate) fn arrival(block: &BlockRef) -> (BlockId, BlockId) {
    let meta = block.meta();
    (meta.replaces.iter().copied().min().unwrap_or(meta.id), meta.id)
}

/// Chunks (positions) that are read together for the entries of `[min, max]`.
#[derive(Debug, PartialEq, Eq)]
struct PlannedRun {
    members: Vec<usize>,
    min: i64,
    max: i64,
}

/// Groups chunks of one stream, given as (first time, last time, raw bytes) in any order, into runs that do not overlap.
///
/// Chunks that overlap are read together. A long chain of chunks that overlap a little is cut where a new chunk
/// begins, if what reaches beyond the cut, and so is read twice, is less than half of the run.
fn plan_runs(chunks: &[(i64, i64, u64)]) -> Vec<PlannedRun> {
    let mut by_start: Vec<usize> = (0..chunks.len()).collect();
    by_start.sort_by_key(|&i| (chunks[i].0, i));
    let mut runs = Vec::new();
    let mut run: Option<PlannedRun> = None;
    let mut bytes = 0;
    for i in by_start {
        let (min, max, size) = chunks[i];
        let Some(open) = &mut run else {
            run = Some(PlannedRun {
                members: vec![i],
                min,
                max,
            });
            bytes = size;
            continue;
        };
        let carried: Vec<usize> = open.members.iter().copied().filter(|&m| chunks[m].1 >= min).collect();
        let carried_bytes: u64 = carried.iter().map(|&m| chunks[m].2).sum();
        let cut = carried.is_empty() || bytes >= RUN_RAW_BYTES && min > open.min && carried_bytes <= bytes / 2;
        if cut {
            let next_max = carried.iter().map(|&m| chunks[m].1).max().unwrap_or(max).max(max);
            let mut members = carried;
            members.push(i);
            let next = PlannedRun {
                members,
                min,
                max: next_max,
            };
            open.max = open.max.min(min - 1);
            runs.extend(run.replace(next));
            bytes = carried_bytes + size;
        } else {
            open.members.push(i);
            open.max = open.max.max(max);
            bytes += size;
        }
    }
    runs.extend(run);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_that_overlap_are_read_together() {
        let check = |chunks: &[(i64, i64, u64)], expected: &[(&[usize], i64, i64)]| {
            let runs: Vec<_> = plan_runs(chunks);
            let seen: Vec<(&[usize], i64, i64)> = runs.iter().map(|r| (&r.members[..], r.min, r.max)).collect();
            assert_eq!(seen, expected);
        };
        check(&[], &[]);
        check(&[(5, 9, 1), (0, 4, 1)], &[(&[1], 0, 4), (&[0], 5, 9)]);
        check(&[(0, 5, 1), (5, 9, 1)], &[(&[0, 1], 0, 9)]);
        check(&[(0, 9, 1), (2, 3, 1), (12, 13, 1)], &[(&[0, 1], 0, 9), (&[2], 12, 13)]);
        // A chain of large chunks is cut; what reaches beyond the cut is read twice.
        const M: u64 = 1 << 20;
        check(
            &[(0, 11, M), (10, 21, M), (20, 31, M)],
            &[(&[0, 1], 0, 19), (&[1, 2], 20, 31)],
        );
    }

    proptest! {
        /// Each chunk's instants lie in exactly one run that has the chunk as a member.
        #[test]
        fn every_instant_is_in_one_run(chunks in proptest::collection::vec((0i64..60, 0i64..20, 0u64..(2 << 20)), 0..20)) {
            let chunks: Vec<(i64, i64, u64)> = chunks.into_iter().map(|(t, n, b)| (t, t + n, b)).collect();
            let runs = plan_runs(&chunks);
            for (i, &(min, max, _)) in chunks.iter().enumerate() {
                for t in min..=max {
                    let inside: Vec<_> = runs.iter().filter(|r| (r.min..=r.max).contains(&t)).collect();
                    prop_assert_eq!(inside.len(), 1);
                    prop_assert!(inside[0].members.contains(&i));
                }
            }
        }
    }
}
