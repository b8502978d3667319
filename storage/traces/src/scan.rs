//! Reading: one trace by its id, or trace after trace, joined over heads and blocks.
//!
//! A scan that may leave out traces first surveys which ones are worth reading (`survey.rs`). Then the spans of those are
//! read, wherever they lie, by a k-way merge over all sources.

use std::ops::ControlFlow;
use std::sync::Arc;

use model::{DAY_NS, Span, TimeRangeNs, TimestampNs, TraceId};
use storage_catalogue::BlockRef;

use crate::BlockError;
use crate::block_file::{BlockFile, Blocks, Reading, Wanted};
use crate::cursor::{BlockCursor, Cursor, HeadCursor, OnIoError, join};
use crate::head::Head;
use crate::request::{ScanRequest, ScanStats};
use crate::rows::Wants;
use crate::survey::survey;

/// Head views and blocks at one moment.
pub struct Snapshot {
    pub(crate) heads: Vec<Arc<Head>>,
    pub(crate) blocks: Vec<BlockRef>,
    pub(crate) reader: Reading,
    pub(crate) range: TimeRangeNs,
}

/// Spans of a trace outside the range are looked for this far around it.
const SLACK_NS: i64 = DAY_NS;

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
            reader: Reading::new(reader),
            range,
        }
    }

    /// All spans of a trace, sorted by start, duplicates removed; empty if it is not known.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, BlockError> {
        Ok(self.trace_up_to(id, usize::MAX)?.0)
    }

    /// As [`Snapshot::trace`], but of a trace with more than `spans_max` spans only so many; says whether that was so.
    pub fn trace_up_to(&self, id: TraceId, spans_max: usize) -> Result<(Vec<Span>, bool), BlockError> {
        // One more tells that there are more.
        let most = spans_max.saturating_add(1);
        let ids = [id];
        let wanted = Wanted::Ids(&ids);
        let mut copies = Vec::new();
        for (n, head) in self.heads.iter().enumerate() {
            Cursor::Head(Box::new(HeadCursor::new(head, head_revision(n), wanted, Wants::all())))
                .take(&mut copies, most)?;
        }
        for file in self.open(&self.blocks) {
            let cursor = BlockCursor::new(&self.reader, &file, wanted, Wants::all(), OnIoError::LeaveOut);
            Cursor::Block(Box::new(cursor)).take(&mut copies, most)?;
        }
        let (mut spans, mut revisions) = (Vec::new(), Vec::new());
        let cut = copies.len() >= most;
        join(&mut copies, &mut spans, &mut revisions);
        spans.truncate(spans_max);
        Ok((spans, cut))
    }

    /// Whether something that was asked for could not be read and was left out, so far.
    pub fn is_incomplete(&self) -> bool {
        self.reader.left_out() > 0
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
        let surveyed = survey(self, &files, request, first, last)?;
        let wanted = surveyed.as_ref().map_or(between, |ids| Wanted::Ids(ids));
        self.joined(&files, wanted, request, &mut stats, visit)?;
        Ok(stats)
    }

    /// As [`Snapshot::scan`], of these traces (rising) alone.
    pub fn scan_ids(
        &self,
        request: &ScanRequest,
        ids: &[TraceId],
        visit: &mut dyn FnMut(TraceId, &mut Vec<Span>) -> ControlFlow<()>,
    ) -> Result<ScanStats, BlockError> {
        let mut stats = ScanStats::default();
        self.joined(&self.open(&self.blocks), Wanted::Ids(ids), request, &mut stats, visit)?;
        Ok(stats)
    }

    fn joined(
        &self,
        files: &[BlockFile],
        wanted: Wanted<'_>,
        request: &ScanRequest,
        stats: &mut ScanStats,
        visit: &mut dyn FnMut(TraceId, &mut Vec<Span>) -> ControlFlow<()>,
    ) -> Result<(), BlockError> {
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
        for file in files {
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
        Ok(())
    }

    /// Opens blocks; those that cannot be are left out and counted.
    pub(crate) fn open(&self, blocks: &[BlockRef]) -> Vec<BlockFile> {
        let opened = blocks.iter().map(|block| self.reader.open(block));
        opened
            .filter_map(|file| file.map_err(|e| self.reader.skipped(&e)).ok())
            .collect()
    }
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
            source.take(copies, usize::MAX)?;
        }
    }
    Ok(Some(id))
}

/// Heads hold later copies than blocks, the second head later ones than the first.
pub(crate) fn head_revision(n: usize) -> u64 {
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

pub(crate) fn touches(start: TimestampNs, end: TimestampNs, range: TimeRangeNs) -> bool {
    range.overlaps(start, end.max(start))
}
