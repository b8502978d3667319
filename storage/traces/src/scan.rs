//! Reading: one trace by its id, or trace after trace, joined over heads and blocks.
//!
//! A scan that may leave out traces goes twice. First it *surveys*: of each block only trace ids, times and the columns of
//! the conditions are read, to learn which traces touch the range and which have a span that passes. Then the spans of
//! those traces are read, wherever they lie, by a k-way merge over all sources. A scan that wants everything goes once.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{Array, RecordBatch};
use model::{DAY_NS, Span, TimeRangeNs, TimestampNs, TraceId};
use storage_catalogue::BlockRef;

use crate::BlockError;
use crate::block_file::{BlockFile, Blocks, Wanted, trace_ids};
use crate::condition::Conditions;
use crate::cursor::{BlockCursor, Cursor, HeadCursor, OnIoError, join};
use crate::head::Head;
use crate::request::{ScanRequest, ScanStats};
use crate::rows::Wants;

/// Head views and blocks at one moment.
pub struct Snapshot {
    pub(crate) heads: Vec<Arc<Head>>,
    pub(crate) blocks: Vec<BlockRef>,
    pub(crate) reader: Arc<Blocks>,
    range: TimeRangeNs,
}

/// Spans of a trace outside the range are looked for this far around it.
const SLACK_NS: i64 = DAY_NS;

/// A survey that finds more traces than this is given up: reading them all is no dearer then.
const SURVEYED_MAX: usize = 4 << 20;

/// The range of blocks that a snapshot of `range` holds.
pub(crate) fn with_slack(range: TimeRangeNs) -> TimeRangeNs {
    TimeRangeNs {
        start: TimestampNs(range.start.0.saturating_sub(SLACK_NS)),
        end: TimestampNs(range.end.0.saturating_add(SLACK_NS)),
    }
}

impl Snapshot {
    pub(crate) fn new(
        heads: Vec<Arc<Head>>,
        blocks: Vec<BlockRef>,
        reader: Arc<Blocks>,
        range: TimeRangeNs,
    ) -> Snapshot {
        Snapshot {
            heads,
            blocks,
            reader,
            range,
        }
    }

    /// All spans of a trace, sorted by start, duplicates removed; empty if it is not known.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, BlockError> {
        let ids = [id];
        let wanted = Wanted::Ids(&ids);
        let mut copies = Vec::new();
        for (n, head) in self.heads.iter().enumerate() {
            Cursor::Head(Box::new(HeadCursor::new(head, head_revision(n), wanted, Wants::all()))).take(&mut copies)?;
        }
        for file in self.open(&self.blocks) {
            let cursor = BlockCursor::new(&self.reader, &file, wanted, Wants::all(), OnIoError::LeaveOut);
            Cursor::Block(Box::new(cursor)).take(&mut copies)?;
        }
        let (mut spans, mut revisions) = (Vec::new(), Vec::new());
        join(&mut copies, &mut spans, &mut revisions);
        Ok(spans)
    }

    /// Calls `visit` with every trace that has a span touching the snapshot's range: all its spans, sorted by start,
    /// joined over head and blocks, whatever their time (as far as they lie in blocks within a day of the range).
    /// `shard` of `shards` (0 <= shard < shards) splits the space of trace ids, so that shards can run in parallel; within
    /// one, traces come in rising order of id. `visit` breaks off.
    pub fn scan(
        &self,
        request: &ScanRequest,
        shard: u32,
        shards: u32,
        visit: &mut dyn FnMut(TraceId, &mut Vec<Span>) -> ControlFlow<()>,
    ) -> Result<ScanStats, BlockError> {
        let mut stats = ScanStats::default();
        let Some((first, last)) = shard_ids(shard, shards) else {
            return Ok(stats);
        };
        let between = Wanted::Between(first, last);
        let files = self.open(&self.blocks);
        let surveyed = self.survey(&files, request, between)?;
        let wanted = surveyed.as_ref().map_or(between, |ids| Wanted::Ids(ids));
        let wants = Wants::of(request);
        let mut sources: Vec<Cursor<'_>> = Vec::with_capacity(self.heads.len() + files.len());
        for (n, head) in self.heads.iter().enumerate() {
            sources.push(Cursor::Head(Box::new(HeadCursor::new(
                head,
                head_revision(n),
                wanted,
                wants.clone(),
            ))));
        }
        for file in &files {
            let cursor = BlockCursor::new(&self.reader, file, wanted, wants.clone(), OnIoError::LeaveOut);
            sources.push(Cursor::Block(Box::new(cursor)));
        }
        let (mut copies, mut spans, mut revisions) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(id) = take_next(&mut sources, &mut copies)? {
            join(&mut copies, &mut spans, &mut revisions);
            stats.spans += spans.len() as u64;
            if !spans.iter().any(|s| touches(s.start, s.end, self.range)) {
                continue;
            }
            stats.traces += 1;
            if visit(id, &mut spans).is_break() {
                break;
            }
        }
        drop(sources);
        stats.bytes = files.iter().map(BlockFile::bytes_read).sum();
        Ok(stats)
    }

    /// Opens blocks; those that cannot be are left out and counted.
    pub(crate) fn open(&self, blocks: &[BlockRef]) -> Vec<BlockFile> {
        let opened = blocks.iter().map(|block| self.reader.open(block));
        opened
            .filter_map(|file| file.map_err(|e| self.reader.skipped(&e)).ok())
            .collect()
    }

    /// Ids of the traces worth reading, rising. `None`: all.
    fn survey(
        &self,
        files: &[BlockFile],
        request: &ScanRequest,
        between: Wanted<'_>,
    ) -> Result<Option<Vec<TraceId>>, BlockError> {
        let conditions = Conditions::new(&request.any_of);
        let inside = |b: &BlockRef| self.range.contains(b.meta().min) && self.range.contains(b.meta().max);
        if conditions.is_none() && self.blocks.iter().all(inside) {
            return Ok(None);
        }
        let mut found = Survey {
            range: self.range,
            conditions: conditions.as_ref(),
            touching: Vec::new(),
            passing: Vec::new(),
        };
        for head in &self.heads {
            found.head(head, between);
        }
        // A block that could not be opened is not among the files, so that they are matched by their path.
        let of = |file: &BlockFile| self.blocks.iter().find(|b| file.path().starts_with(b.dir()));
        let touched = |b: &BlockRef| self.range.overlaps(b.meta().min, b.meta().max);
        let (near, far): (Vec<&BlockFile>, Vec<&BlockFile>) = files.iter().partition(|f| of(f).is_some_and(touched));
        for file in near {
            found.block(&self.reader, file, between, of(file).is_some_and(inside));
            if found.touching.len() > SURVEYED_MAX {
                return Ok(None);
            }
        }
        let mut touching = sorted(found.touching);
        if conditions.is_none() {
            return Ok(Some(touching));
        }
        // Only a trace that touches the range and has not passed yet can be decided by blocks around it.
        let mut passing = sorted(std::mem::take(&mut found.passing));
        touching.retain(|id| passing.binary_search(id).is_err());
        let undecided = touching;
        let mut near_passing = passing.clone();
        found.touching = Vec::new();
        if !undecided.is_empty() {
            for file in far {
                found.block(&self.reader, file, Wanted::Ids(&undecided), false);
            }
            near_passing.extend(std::mem::take(&mut found.passing));
        }
        passing = sorted(near_passing);
        Ok(Some(passing))
    }
}

/// What a survey learnt; ids in no order, possibly twice.
struct Survey<'a> {
    range: TimeRangeNs,
    conditions: Option<&'a Conditions>,
    touching: Vec<TraceId>,
    passing: Vec<TraceId>,
}

impl Survey<'_> {
    fn head(&mut self, head: &Head, between: Wanted<'_>) {
        let Wanted::Between(first, last) = between else { return };
        let ids = head.ids(first, last);
        let mut symbols = head.symbols();
        for id in ids {
            let spans = head.trace(id);
            if spans.iter().any(|s| touches(s.start, s.end, self.range)) {
                self.touching.push(id);
            }
            let Some(conditions) = self.conditions else { continue };
            if symbols.is_behind(head.symbol_table()) {
                symbols = head.symbols();
            }
            if spans.iter().any(|s| conditions.span(&s.decode(id, &symbols))) {
                self.passing.push(id);
            }
        }
    }

    /// Surveys the wanted rows of a block. `inside`: all its spans touch the range.
    fn block(&mut self, reader: &Blocks, file: &BlockFile, wanted: Wanted<'_>, inside: bool) {
        let mut columns = vec!["trace_id".to_owned()];
        if let Some(conditions) = self.conditions {
            columns.extend(conditions.columns(file));
        }
        if !inside {
            columns.extend(["start_time".to_owned(), "duration_ns".to_owned()]);
            columns.sort_unstable();
            columns.dedup();
        }
        for group in file.groups(wanted) {
            if let Err(e) = self.group(file, group, wanted, &columns, inside) {
                reader.skipped(&e);
            }
        }
    }

    fn group(
        &mut self,
        file: &BlockFile,
        group: usize,
        wanted: Wanted<'_>,
        columns: &[String],
        inside: bool,
    ) -> Result<(), BlockError> {
        let may_pass = self.conditions.is_none_or(|c| c.group(file, group));
        let rows = file.rows(group, wanted)?;
        if rows.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let mut columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        if !may_pass {
            columns.retain(|c| ["trace_id", "start_time", "duration_ns"].contains(c));
        }
        for batch in file.read(group, &columns, rows.as_deref())? {
            let batch = batch?;
            let ids = trace_ids(&batch).ok_or_else(|| file.corrupt("column trace_id is not 16 bytes"))?;
            let ids: Vec<TraceId> = ids.collect();
            if inside {
                push_runs(&mut self.touching, &ids, |_| true);
            } else {
                let (starts, durations) = times(&batch).ok_or_else(|| file.corrupt("columns of time are missing"))?;
                let range = self.range;
                push_runs(&mut self.touching, &ids, |row| {
                    let start = TimestampNs(starts[row]);
                    touches(start, TimestampNs(starts[row].wrapping_add(durations[row])), range)
                });
            }
            if let (Some(conditions), true) = (self.conditions, may_pass) {
                let passes = conditions.rows(file, &batch)?;
                push_runs(&mut self.passing, &ids, |row| passes[row]);
            }
        }
        Ok(())
    }
}

fn times(batch: &RecordBatch) -> Option<(&[i64], &[i64])> {
    let starts = batch
        .column_by_name("start_time")?
        .as_primitive_opt::<TimestampNanosecondType>()?;
    let durations = batch.column_by_name("duration_ns")?.as_primitive_opt::<Int64Type>()?;
    (starts.null_count() + durations.null_count() == 0).then(|| (&starts.values()[..], &durations.values()[..]))
}

/// Appends ids of rows that are `good`, a run of equal ones once.
fn push_runs(out: &mut Vec<TraceId>, ids: &[TraceId], good: impl Fn(usize) -> bool) {
    for (row, id) in ids.iter().enumerate() {
        if out.last() != Some(id) && good(row) {
            out.push(*id);
        }
    }
}

fn sorted(mut ids: Vec<TraceId>) -> Vec<TraceId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Appends the copies of the lowest next trace of all sources; its id, if there is one.
pub(crate) fn take_next(
    sources: &mut [Cursor<'_>],
    copies: &mut Vec<crate::rows::Copied>,
) -> Result<Option<TraceId>, BlockError> {
    let mut lowest: Option<TraceId> = None;
    for source in sources.iter_mut() {
        let id = source.peek()?;
        lowest = match (lowest, id) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    let Some(id) = lowest else { return Ok(None) };
    for source in sources.iter_mut() {
        if source.peek()? == Some(id) {
            source.take(copies)?;
        }
    }
    Ok(Some(id))
}

/// Heads hold later copies than blocks, the second head later ones than the first.
fn head_revision(n: usize) -> u64 {
    u64::MAX - 2 + n as u64
}

/// First and last id of a shard, both inclusive; `None` for a shard that does not exist.
fn shard_ids(shard: u32, shards: u32) -> Option<(TraceId, TraceId)> {
    if shard >= shards {
        return None;
    }
    let width = u128::MAX / u128::from(shards);
    let first = width * u128::from(shard);
    let last = if shard + 1 == shards {
        u128::MAX
    } else {
        first + (width - 1)
    };
    Some((TraceId(first), TraceId(last)))
}

fn touches(start: TimestampNs, end: TimestampNs, range: TimeRangeNs) -> bool {
    range.overlaps(start, end.max(start))
}
