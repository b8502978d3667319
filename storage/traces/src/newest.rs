//! The newest traces first, whole, for as long as somebody wants more of them.
//!
//! Each block is surveyed when its turn comes: which traces begin when, from its index, and which of them have a span that
//! passes the conditions, from the columns that these look at. Traces are then read a few at a time, joined with what other
//! blocks and the heads have of them, and handed over in their exact order: what the index says is a millisecond too rough
//! and knows one block only, so that a trace waits until nothing that is left can begin later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::{Span, TraceId};
use parking_lot::Mutex;
use rapidhash::{RapidHashMap, RapidHashSet};
use storage_catalogue::BlockRef;

use crate::BlockError;
use crate::block_file::{BlockFile, Wanted};
use crate::block_index::Times;
use crate::condition::Conditions;
use crate::cursor::{BlockCursor, Cursor, HeadCursor, OnIoError, join};
use crate::request::{ScanRequest, ScanStats};
use crate::rows::{Copied, Decoder, Wants};
use crate::scan::{Snapshot, head_revision, touches};

/// Calls a function with every number below the first argument, in whatever order, also several at a time.
pub type Spread<'s> = &'s (dyn Fn(usize, &(dyn Fn(usize) + Sync)) + Sync);

/// Traces read at once, at most.
const BATCH_MAX: usize = 256;
/// Rows whose conditions are tested at once if maps are among the columns.
const MAP_ROWS: usize = 4 << 10;

impl Snapshot {
    /// Visits traces as [`Snapshot::scan`] does, but all of them in one go and those with the latest first start first, of
    /// equal ones the lowest id. Reads about `at_once` traces before it hands over the first.
    pub fn newest(
        &self,
        request: &ScanRequest,
        at_once: usize,
        spread: Spread<'_>,
        visit: &mut dyn FnMut(TraceId, &[Span]) -> ControlFlow<()>,
    ) -> Result<ScanStats, BlockError> {
        let files = self.open_with_blocks();
        let mut newest = Newest {
            snapshot: self,
            conditions: Conditions::new(&request.any_of),
            wants: Wants::of(request),
            spread,
            sources: Vec::new(),
            later: Vec::new(),
            seen: RapidHashSet::default(),
            ready: BinaryHeap::new(),
            files: &files,
        };
        newest.later = (0..files.len())
            .filter(|n| {
                let meta = files[*n].0.meta();
                self.range.overlaps(meta.min, meta.max)
            })
            .collect();
        newest.later.sort_by_key(|n| files[*n].0.meta().max);
        for head in 0..self.heads.len() {
            newest.head(head);
        }
        let mut stats = ScanStats::default();
        let mut most = at_once.saturating_add(2).clamp(8, BATCH_MAX);
        loop {
            let bound = newest.bound();
            while let Some(trace) = newest.next_before(bound) {
                stats.traces += 1;
                stats.spans += trace.spans.len() as u64;
                if visit(trace.id, &trace.spans).is_break() {
                    stats.bytes = newest.bytes();
                    return Ok(stats);
                }
            }
            if bound.is_none() {
                break;
            }
            newest.load(most)?;
            most = (most * 2).min(BATCH_MAX);
        }
        stats.bytes = newest.bytes();
        Ok(stats)
    }

    /// Blocks with their files; those that cannot be opened are left out and counted.
    pub(crate) fn open_with_blocks(&self) -> Vec<(BlockRef, BlockFile)> {
        let opened = self.blocks.iter().map(|block| (block, self.reader.open(block)));
        opened
            .filter_map(|(block, file)| Some((block.clone(), file.map_err(|e| self.reader.skipped(&e)).ok()?)))
            .collect()
    }
}

struct Newest<'a> {
    snapshot: &'a Snapshot,
    conditions: Option<Conditions>,
    wants: Wants,
    spread: Spread<'a>,
    files: &'a [(BlockRef, BlockFile)],
    /// Files not surveyed yet, the latest last.
    later: Vec<usize>,
    sources: Vec<Source>,
    /// Traces that were read.
    seen: RapidHashSet<TraceId>,
    ready: BinaryHeap<Ready>,
}

/// Traces of a head or block that were not read yet, those with the latest start on top.
enum Source {
    Head(BinaryHeap<(i64, Reverse<TraceId>)>),
    Block(usize, Arc<Times>, BinaryHeap<(i64, Reverse<u32>)>),
}

impl Source {
    /// No trace left in it begins later.
    fn bound(&self) -> Option<i64> {
        match self {
            Source::Head(heap) => heap.peek().map(|top| top.0),
            Source::Block(_, _, heap) => heap.peek().map(|top| top.0),
        }
    }
}

struct Ready {
    start: i64,
    id: TraceId,
    spans: Vec<Span>,
}

impl Ready {
    fn order(&self) -> (i64, Reverse<TraceId>) {
        (self.start, Reverse(self.id))
    }
}

impl Ord for Ready {
    fn cmp(&self, other: &Ready) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}
impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Ready) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Ready {
    fn eq(&self, other: &Ready) -> bool {
        self.order() == other.order()
    }
}
impl Eq for Ready {}

impl Newest<'_> {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, file)| file.bytes_read()).sum()
    }

    /// No trace that was not read begins later; `None`: all were read. Surveys the blocks that this depends on.
    fn bound(&mut self) -> Option<i64> {
        loop {
            self.sources.retain(|source| source.bound().is_some());
            let bound = self.sources.iter().filter_map(Source::bound).max();
            let Some(&next) = self.later.last() else {
                return bound;
            };
            // No span begins after its block's last end.
            let latest = self.files[next].0.meta().max.0;
            if bound.is_some_and(|bound| bound > latest) {
                return bound;
            }
            self.later.pop();
            self.survey(next);
        }
    }

    /// The next trace, if it begins after the bound.
    fn next_before(&mut self, bound: Option<i64>) -> Option<Ready> {
        let top = self.ready.peek()?;
        (bound.is_none_or(|bound| top.start > bound))
            .then(|| self.ready.pop())
            .flatten()
    }

    fn head(&mut self, n: usize) {
        let head = &self.snapshot.heads[n];
        let mut heap = Vec::new();
        for id in head.ids(TraceId(0), TraceId(u128::MAX)) {
            let spans = head.trace(id);
            if spans.iter().any(|s| touches(s.start, s.end, self.snapshot.range)) {
                heap.extend(spans.iter().map(|s| s.start.0).min().map(|start| (start, Reverse(id))));
            }
        }
        self.sources.push(Source::Head(heap.into()));
    }

    fn survey(&mut self, n: usize) {
        let (block, file) = &self.files[n];
        let times = match file.times() {
            Ok(times) => times,
            Err(e) => return self.snapshot.reader.skipped(&e),
        };
        let range = self.snapshot.range;
        let inside = range.contains(block.meta().min) && range.contains(block.meta().max);
        let entry = |trace: u32| {
            let known = inside || times.touches(trace as usize, range);
            known.then(|| (times.start_bound(trace as usize).0, Reverse(trace)))
        };
        let heap: Vec<(i64, Reverse<u32>)> = match &self.conditions {
            None => (0..times.len() as u32).filter_map(entry).collect(),
            Some(conditions) => {
                let groups: Vec<usize> = (0..file.groups_count())
                    .filter(|g| conditions.group(file, *g))
                    .collect();
                let found: Vec<Mutex<Vec<u32>>> = groups.iter().map(|_| Mutex::default()).collect();
                (self.spread)(groups.len(), &|part| {
                    let passing = passing(file, groups[part], &times, conditions);
                    match passing {
                        Ok(traces) => *found[part].lock() = traces,
                        Err(e) => self.snapshot.reader.skipped(&e),
                    }
                });
                let found = found.into_iter().flat_map(Mutex::into_inner);
                let mut last = None;
                // A trace may go on in the next row group.
                let once = found.filter(|trace| last.replace(*trace) != Some(*trace));
                once.filter_map(entry).collect()
            }
        };
        self.sources.push(Source::Block(n, times, heap.into()));
    }

    /// Reads the traces that begin last, as far as the indexes say, from wherever they are.
    fn load(&mut self, most: usize) -> Result<(), BlockError> {
        let mut rows: RapidHashMap<usize, Vec<std::ops::Range<usize>>> = RapidHashMap::default();
        let mut ids: Vec<TraceId> = Vec::new();
        for _ in 0..most {
            let Some(top) = self.sources.iter_mut().max_by_key(|source| source.bound()) else {
                break;
            };
            match top {
                Source::Head(heap) => match heap.pop() {
                    Some((_, Reverse(id))) => ids.push(id),
                    None => break,
                },
                Source::Block(file, times, heap) => match heap.pop() {
                    Some((_, Reverse(trace))) => rows.entry(*file).or_default().push(times.rows(trace as usize)),
                    None => break,
                },
            }
        }
        let mut copies: RapidHashMap<TraceId, Vec<Copied>> = RapidHashMap::default();
        let mut own: RapidHashSet<(usize, TraceId)> = RapidHashSet::default();
        for (file, copied) in self.read_rows(rows) {
            let id = copied.span.trace_id;
            own.insert((file, id));
            copies.entry(id).or_default().push(copied);
        }
        ids.extend(copies.keys());
        ids.retain(|id| !self.seen.contains(id));
        ids.sort_unstable();
        ids.dedup();
        copies.retain(|id, _| ids.binary_search(id).is_ok());
        let mut add = |copied: Copied| copies.entry(copied.span.trace_id).or_default().push(copied);
        for (n, (_, file)) in self.files.iter().enumerate() {
            let missing: Vec<TraceId> = ids.iter().copied().filter(|id| !own.contains(&(n, *id))).collect();
            let wanted = Wanted::Ids(&missing);
            if file.groups(wanted).is_empty() {
                continue;
            }
            let reader = &self.snapshot.reader;
            let cursor = BlockCursor::new(reader, file, wanted, self.wants.clone(), OnIoError::LeaveOut);
            let mut cursor = Cursor::Block(Box::new(cursor));
            let mut found = Vec::new();
            while cursor.peek()?.is_some() {
                cursor.take(&mut found, usize::MAX)?;
            }
            found.into_iter().for_each(&mut add);
        }
        for (n, head) in self.snapshot.heads.iter().enumerate() {
            let cursor = HeadCursor::new(head, head_revision(n), Wanted::Ids(&ids), self.wants.clone());
            let mut cursor = Cursor::Head(Box::new(cursor));
            let mut found = Vec::new();
            while cursor.peek()?.is_some() {
                cursor.take(&mut found, usize::MAX)?;
            }
            found.into_iter().for_each(&mut add);
        }
        let mut revisions = Vec::new();
        for (id, mut copies) in copies {
            self.seen.insert(id);
            let mut spans = Vec::new();
            join(&mut copies, &mut spans, &mut revisions);
            let range = self.snapshot.range;
            if !spans.iter().any(|s| touches(s.start, s.end, range)) {
                continue;
            }
            if let Some(start) = spans.iter().map(|s| s.start.0).min() {
                self.ready.push(Ready { start, id, spans });
            }
        }
        Ok(())
    }

    /// The spans of rows of files, row group by row group.
    fn read_rows(&self, rows: RapidHashMap<usize, Vec<std::ops::Range<usize>>>) -> Vec<(usize, Copied)> {
        let mut parts: Vec<(usize, usize, Vec<std::ops::Range<usize>>)> = Vec::new();
        for (n, mut ranges) in rows {
            let file = &self.files[n].1;
            ranges.sort_by_key(|r| r.start);
            let mut before = 0;
            for group in 0..file.groups_count() {
                let after = before + file.group_rows(group);
                let inside = ranges.iter().filter(|r| r.start < after && r.end > before);
                let inside: Vec<_> = inside
                    .map(|r| r.start.max(before) - before..r.end.min(after) - before)
                    .collect();
                if !inside.is_empty() {
                    parts.push((n, group, inside));
                }
                before = after;
            }
        }
        let found: Vec<Mutex<Vec<Copied>>> = parts.iter().map(|_| Mutex::default()).collect();
        (self.spread)(parts.len(), &|at| {
            let (n, group, ranges) = &parts[at];
            let file = &self.files[*n].1;
            let mut spans = Vec::new();
            match read_spans(file, *group, ranges, &self.wants, &mut spans) {
                Ok(()) => *found[at].lock() = spans,
                Err(e) => self.snapshot.reader.skipped(&e),
            }
        });
        let found = parts.iter().zip(found);
        found
            .flat_map(|((n, ..), spans)| spans.into_inner().into_iter().map(move |copied| (*n, copied)))
            .collect()
    }
}

fn read_spans(
    file: &BlockFile,
    group: usize,
    rows: &[std::ops::Range<usize>],
    wants: &Wants,
    out: &mut Vec<Copied>,
) -> Result<(), BlockError> {
    let columns = wants.columns(file);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut decoder = Decoder::new(file, wants.clone());
    for batch in file.read(group, &columns, Some(rows))? {
        decoder.decode(&batch?, out).map_err(|what| file.corrupt(what))?;
    }
    Ok(())
}

/// Traces with a span of a row group that passes.
fn passing(file: &BlockFile, group: usize, times: &Times, conditions: &Conditions) -> Result<Vec<u32>, BlockError> {
    let columns = conditions.columns(file);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let maps = columns.iter().any(|c| c.ends_with("attributes"));
    let batch_rows = if maps { MAP_ROWS } else { file.group_rows(group) };
    let mut first = file.rows_before(group);
    let mut trace = times.trace_at(first);
    let mut out = Vec::new();
    for batch in file.read_coded(group, &columns, batch_rows)? {
        let passes = conditions.rows(file, &batch?)?;
        let mut row = 0;
        while let Some(found) = next_true(&passes, row) {
            while times.rows(trace).end <= first + found {
                trace += 1;
            }
            if out.last() != Some(&(trace as u32)) {
                out.push(trace as u32);
            }
            // One span is enough.
            row = times.rows(trace).end - first;
        }
        first += passes.len();
    }
    Ok(out)
}

/// The first place from `from` on that holds true.
fn next_true(truths: &[bool], from: usize) -> Option<usize> {
    const STRIDE: usize = 32;
    let rest = truths.get(from..)?;
    let skipped = rest
        .chunks(STRIDE)
        .take_while(|part| !part.iter().fold(false, |any, t| any | t));
    let start = (skipped.count() * STRIDE).min(rest.len());
    let found = rest[start..].iter().position(|t| *t)?;
    Some(from + start + found)
}
