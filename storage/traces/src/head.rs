//! The head: spans in memory by trace id, still as compact bytes, queryable at once.
//!
//! Sixteen shards, each a map from trace id to its spans behind a mutex that is held for a lookup or an insert only:
//! readers take shared pointers out and decode outside. A span costs 96 bytes and its body (`span_bytes.rs`); resources
//! and scopes are kept once each, names in a string table. A span with the trace id, span id and kind of one that is
//! there replaces it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use model::{Day, Resource, Scope, Span, SpanId, SpanKind, TimestampNs, TraceId};
use parking_lot::Mutex;
use rapidhash::RapidHashMap;
use storage_budget::{Budget, Reservation};
use storage_codec::Reader;

use crate::cut::filed_day;
use crate::packed::{PackedSpan, PackedSpans};
use crate::record::{resource_key, scope_key};
use crate::span_bytes::{GetSymbols, Place, PutSymbols, get_body, put_body, renumber};
use crate::symbols::{SymbolView, Symbols};

const SHARDS: usize = 16;

/// Memory of a span beside its body.
const SPAN_BYTES: u64 = 96;
/// Bodies that share an allocation, bytes.
const ARENA_BYTES: usize = 64 << 10;
/// Memory of a trace beside its spans.
const TRACE_BYTES: u64 = 96;
/// Traces with more spans than this get a map from (span id, kind) to place; below it a look at each is faster.
const INDEX_FROM: usize = 64;

/// Spans by trace id.
pub(crate) struct Head {
    shards: Vec<Mutex<Shard>>,
    symbols: Symbols,
    resources: Mutex<Interner<Resource>>,
    scopes: Mutex<Interner<Scope>>,
    traces: AtomicU64,
    spans: AtomicU64,
    bytes: AtomicU64,
    min: AtomicI64,
    max: AtomicI64,
    max_end: AtomicI64,
    reserved: Mutex<Reservation>,
}

#[derive(Default)]
struct Shard {
    traces: RapidHashMap<u128, Trace>,
    /// Where the next bodies go: many share an allocation, so that a head is given back in few pieces.
    arena: BytesMut,
}

impl Shard {
    fn keep(&mut self, body: &[u8]) -> Bytes {
        if self.arena.capacity() < body.len() {
            self.arena = BytesMut::with_capacity(ARENA_BYTES.max(body.len()));
        }
        self.arena.extend_from_slice(body);
        self.arena.split().freeze()
    }
}

#[derive(Default)]
struct Trace {
    spans: Vec<HeadSpan>,
    index: Option<Box<RapidHashMap<(SpanId, SpanKind), u32>>>,
}

/// A span as the head keeps it.
#[derive(Clone)]
pub(crate) struct HeadSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its kind.
    pub kind: SpanKind,
    /// Its start.
    pub start: TimestampNs,
    /// Its end.
    pub end: TimestampNs,
    resource: Arc<Resource>,
    scope: Arc<Scope>,
    body: Bytes,
}

impl HeadSpan {
    /// Who produced it.
    pub(crate) fn resource(&self) -> &Arc<Resource> {
        &self.resource
    }

    /// Which library produced it.
    pub(crate) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// The rest, as `span_bytes.rs` has it.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The span in full. A body was written by this process, so that it always decodes.
    pub(crate) fn decode(&self, trace_id: TraceId, symbols: &SymbolView) -> Span {
        let mut span = Span::of(self.resource.clone(), self.scope.clone());
        span.trace_id = trace_id;
        span.span_id = self.span_id;
        span.kind = self.kind;
        (span.start, span.end) = (self.start, self.end);
        let read = get_body(&mut Reader::new(&self.body), &mut span, symbols);
        debug_assert!(read.is_ok(), "{read:?}");
        span
    }
}

impl Head {
    /// Empty; its memory is taken from `budget`.
    pub(crate) fn new(budget: &Budget) -> Head {
        Head {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            symbols: Symbols::default(),
            resources: Mutex::default(),
            scopes: Mutex::default(),
            traces: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            max_end: AtomicI64::new(i64::MIN),
            reserved: Mutex::new(budget.take(0)),
        }
    }

    /// Puts spans in, in order. Says how many replaced one that was there.
    pub(crate) fn apply(&self, spans: &PackedSpans) -> u64 {
        let mut encoder = Encoder::new(self);
        let mut numbers = Numbers::default();
        let replaces = |row: &&PackedSpan| encoder.apply_packed(spans, row, &mut numbers);
        spans.rows().iter().filter(replaces).count() as u64
    }

    /// For putting in spans one by one.
    pub(crate) fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// The spans of a trace, in no order.
    pub(crate) fn trace(&self, id: TraceId) -> Vec<HeadSpan> {
        let shard = self.shard(id).lock();
        shard.traces.get(&id.0).map(|t| t.spans.clone()).unwrap_or_default()
    }

    /// Looks at the spans of a trace, in no order, while nobody can add to it.
    pub(crate) fn look<T>(&self, id: TraceId, see: impl FnOnce(&[HeadSpan]) -> T) -> T {
        let shard = self.shard(id).lock();
        see(shard.traces.get(&id.0).map_or(&[], |t| &t.spans))
    }

    /// Ids from `first` to `last`, both inclusive, rising.
    pub(crate) fn ids(&self, first: TraceId, last: TraceId) -> Vec<TraceId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let inside = shard.traces.keys().filter(|id| (first.0..=last.0).contains(*id));
            ids.extend(inside.map(|id| TraceId(*id)));
        }
        ids.sort_unstable();
        ids
    }

    /// The strings that bodies written so far point at.
    pub(crate) fn symbols(&self) -> SymbolView {
        self.symbols.view()
    }

    /// The string table itself.
    pub(crate) fn symbol_table(&self) -> &Symbols {
        &self.symbols
    }

    /// The resources in use.
    pub(crate) fn resources(&self) -> Vec<Arc<Resource>> {
        self.resources.lock().by_key.values().cloned().collect()
    }

    /// The scopes in use.
    pub(crate) fn scopes(&self) -> Vec<Arc<Scope>> {
        self.scopes.lock().by_key.values().cloned().collect()
    }

    /// Drops spans that ended before `before`.
    pub(crate) fn expire(&self, before: TimestampNs) {
        if self.is_empty() || self.min.load(Ordering::Relaxed) >= before.0 {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.lock();
            let (mut spans, mut bytes, mut traces) = (0, 0, 0);
            shard.traces.retain(|_, trace| {
                let had = trace.spans.len();
                trace.spans.retain(|s| {
                    let keep = s.end.max(s.start) >= before;
                    if !keep {
                        bytes += SPAN_BYTES + s.body.len() as u64;
                    }
                    keep
                });
                spans += (had - trace.spans.len()) as u64;
                if trace.spans.len() != had {
                    trace.index = None;
                    trace.reindex();
                }
                if trace.spans.is_empty() {
                    traces += 1;
                    bytes += TRACE_BYTES;
                }
                !trace.spans.is_empty()
            });
            drop(shard);
            self.spans.fetch_sub(spans, Ordering::Relaxed);
            self.traces.fetch_sub(traces, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.min.fetch_max(before.0, Ordering::Relaxed);
        self.account();
    }

    /// Whether there are no spans.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans() == 0
    }

    /// Spans in it.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }

    /// Traces in it.
    pub(crate) fn traces(&self) -> u64 {
        self.traces.load(Ordering::Relaxed)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.symbols.bytes()
    }

    /// First and last start of a span.
    pub(crate) fn range(&self) -> Option<(TimestampNs, TimestampNs)> {
        let (min, max) = (self.min.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed));
        (!self.is_empty()).then_some((TimestampNs(min.min(max)), TimestampNs(max)))
    }

    /// The only day under which all its spans are filed, if it is one.
    pub(crate) fn day(&self) -> Option<Day> {
        let (first, last) = self.range()?;
        let latest = filed_day(last, TimestampNs(self.max_end.load(Ordering::Relaxed)));
        (first.day() == latest).then_some(latest)
    }

    /// Makes the reservation fit.
    pub(crate) fn account(&self) {
        self.reserved.lock().resize(self.bytes());
    }

    fn shard(&self, id: TraceId) -> &Mutex<Shard> {
        // Folded with a multiplier, since ids may count up or share their upper half.
        let mixed = ((id.0 >> 64) as u64 ^ id.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(mixed >> 60) as usize % SHARDS]
    }
}

/// Puts spans into a head, with what is worth keeping from one span to the next.
pub(crate) struct Encoder<'a> {
    head: &'a Head,
    body: Vec<u8>,
    resource: Option<(Arc<Resource>, Arc<Resource>)>,
    scope: Option<(Arc<Scope>, Arc<Scope>)>,
}

impl<'a> Encoder<'a> {
    fn new(head: &'a Head) -> Encoder<'a> {
        Encoder {
            head,
            body: Vec::new(),
            resource: None,
            scope: None,
        }
    }

    /// Puts a span in; whether it replaced one.
    pub(crate) fn apply(&mut self, span: &Span) -> bool {
        self.body.clear();
        put_body(&mut self.body, span, &mut self.head.symbols.writer());
        let ids = (span.trace_id, span.span_id, span.kind);
        self.put(ids, (span.start, span.end), &span.resource, &span.scope)
    }

    /// The same with a span of a batch.
    fn apply_packed(&mut self, spans: &PackedSpans, span: &PackedSpan, numbers: &mut Numbers) -> bool {
        self.body.clear();
        let (symbols, strings) = (&self.head.symbols, spans.strings());
        let mut number = |old: u64, place: Place| numbers.number(old, place, strings, symbols);
        let copied = renumber(spans.body(span), strings, &mut number, &mut self.body);
        debug_assert!(copied.is_ok(), "{copied:?}");
        let ids = (span.trace_id, span.span_id, span.kind);
        self.put(ids, (span.start, span.end), spans.resource(span), spans.scope(span))
    }

    fn put(
        &mut self,
        (trace_id, span_id, kind): (TraceId, SpanId, SpanKind),
        (start, end): (TimestampNs, TimestampNs),
        resource: &Arc<Resource>,
        scope: &Arc<Scope>,
    ) -> bool {
        let head = self.head;
        let resource = match &self.resource {
            Some((given, kept)) if Arc::ptr_eq(given, resource) => kept.clone(),
            _ => {
                let (kept, bytes) = head.resources.lock().intern(resource, resource_key);
                head.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.resource = Some((resource.clone(), kept.clone()));
                kept
            }
        };
        let scope = match &self.scope {
            Some((given, kept)) if Arc::ptr_eq(given, scope) => kept.clone(),
            _ => {
                let (kept, bytes) = head.scopes.lock().intern(scope, scope_key);
                head.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.scope = Some((scope.clone(), kept.clone()));
                kept
            }
        };
        let mut bytes = SPAN_BYTES + self.body.len() as u64;
        let mut shard = head.shard(trace_id).lock();
        let new = HeadSpan {
            span_id,
            kind,
            start,
            end,
            resource,
            scope,
            body: shard.keep(&self.body),
        };
        let trace = shard.traces.entry(trace_id.0).or_insert_with(|| {
            bytes += TRACE_BYTES;
            head.traces.fetch_add(1, Ordering::Relaxed);
            Trace::default()
        });
        let old = trace.put(new);
        drop(shard);
        head.bytes.fetch_add(bytes, Ordering::Relaxed);
        match &old {
            Some(old) => {
                head.bytes
                    .fetch_sub(SPAN_BYTES + old.body.len() as u64, Ordering::Relaxed);
            }
            None => {
                head.spans.fetch_add(1, Ordering::Relaxed);
            }
        }
        head.min.fetch_min(start.0, Ordering::Relaxed);
        head.max.fetch_max(start.0, Ordering::Relaxed);
        head.max_end.fetch_max(end.0, Ordering::Relaxed);
        old.is_some()
    }
}

/// The head's numbers of a batch's strings, as far as they were asked for.
#[derive(Default)]
struct Numbers(Vec<[Option<u64>; Place::COUNT]>);

impl Numbers {
    fn number(&mut self, old: u64, place: Place, strings: &impl GetSymbols, symbols: &Symbols) -> u64 {
        let at = old as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, Default::default());
        }
        let known = &mut self.0[at][place as usize];
        *known.get_or_insert_with(|| strings.text(old).map_or(0, |text| symbols.writer().number(text, place)))
    }
}

impl Trace {
    fn put(&mut self, new: HeadSpan) -> Option<HeadSpan> {
        let at = match &self.index {
            Some(index) => index.get(&(new.span_id, new.kind)).map(|n| *n as usize),
            None => self
                .spans
                .iter()
                .position(|s| s.span_id == new.span_id && s.kind == new.kind),
        };
        if let Some(at) = at {
            return Some(std::mem::replace(&mut self.spans[at], new));
        }
        if let Some(index) = &mut self.index {
            index.insert((new.span_id, new.kind), self.spans.len() as u32);
        }
        self.spans.push(new);
        self.reindex();
        None
    }

    fn reindex(&mut self) {
        if self.index.is_none() && self.spans.len() > INDEX_FROM {
            let places = self.spans.iter().enumerate();
            self.index = Some(Box::new(places.map(|(n, s)| ((s.span_id, s.kind), n as u32)).collect()));
        }
    }
}

/// Equal items once, recognised by their bytes.
struct Interner<T> {
    by_key: RapidHashMap<Box<[u8]>, Arc<T>>,
    key: Vec<u8>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            by_key: RapidHashMap::default(),
            key: Vec::new(),
        }
    }
}

impl<T> Interner<T> {
    /// The item kept for `item`, and the bytes of memory that this added.
    fn intern(&mut self, item: &Arc<T>, put_key: impl FnOnce(&mut Vec<u8>, &T)) -> (Arc<T>, u64) {
        put_key(&mut self.key, item);
        if let Some(kept) = self.by_key.get(self.key.as_slice()) {
            return (kept.clone(), 0);
        }
        self.by_key.insert(self.key.as_slice().into(), item.clone());
        // The key, and about four times as much for the decoded attributes.
        (item.clone(), self.key.len() as u64 * 5 + 128)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{exact, span};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The head's numbers of strings are not the batch's; what a query reads is what was pushed all the same, of several
        /// copies the last.
        #[test]
        fn a_head_has_what_was_pushed(first in vec(span(), 0..6), second in vec(span(), 0..6)) {
            let head = Head::new(&Budget::new(1 << 30));
            for spans in [&first, &second] {
                let batch = model::SpanBatch { spans: spans.clone() };
                head.apply(&batch.into());
            }
            let mut want: Vec<Span> = Vec::new();
            for span in first.into_iter().chain(second) {
                let same = |s: &Span| (s.trace_id, s.span_id, s.kind) == (span.trace_id, span.span_id, span.kind);
                match want.iter_mut().find(|s| same(s)) {
                    Some(old) => *old = span,
                    None => want.push(span),
                }
            }
            let symbols = head.symbols();
            let ids = head.ids(TraceId(0), TraceId(u128::MAX));
            let of_trace = |id: &TraceId| head.trace(*id).into_iter().map(|s| s.decode(*id, &symbols)).collect::<Vec<_>>();
            let mut got: Vec<Vec<u8>> = ids.iter().flat_map(of_trace).map(|s| exact(&s)).collect();
            let mut want: Vec<Vec<u8>> = want.iter().map(exact).collect();
            got.sort_unstable();
            want.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }
}
