//! Spans of one request on their way in, already as bytes: a span that is pushed is written down at once, so that whoever
//! decodes a request needs room for one span only, and the log's record is little more than a copy. Strings that repeat have
//! numbers of the batch; the head gives them its own (`head.rs`).

use std::ops::Range;
use std::sync::Arc;

use model::{Resource, Scope, Span, SpanBatch, SpanId, SpanKind, TimestampNs, TraceId};
use rapidhash::RapidHashMap;
use storage_codec::{Reader, put_bytes, put_iv, put_uv};

use crate::record::VERSION;
use crate::span_bytes::{GetSymbols, Place, PutSymbols, get_body, put_body, put_resource, put_scope};

/// Bytes of an ordinary span.
const SPAN_BYTES: usize = 256;

/// Spans in the order received.
#[derive(Default)]
pub struct PackedSpans {
    strings: Strings,
    resources: Shared<Resource>,
    scopes: Shared<Scope>,
    rows: Vec<PackedSpan>,
    bodies: Vec<u8>,
}

/// A span beside its body.
pub(crate) struct PackedSpan {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) kind: SpanKind,
    pub(crate) start: TimestampNs,
    pub(crate) end: TimestampNs,
    resource: u32,
    scope: u32,
    body: Range<usize>,
}

impl PackedSpans {
    /// None yet, with room for spans of so many bytes.
    pub fn with_capacity(bytes: usize) -> PackedSpans {
        PackedSpans {
            bodies: Vec::with_capacity(bytes),
            rows: Vec::with_capacity(bytes / SPAN_BYTES),
            ..PackedSpans::default()
        }
    }

    /// Adds a span.
    pub fn push(&mut self, span: &Span) {
        let strings = &mut self.strings;
        let resource = (self.resources).number(&span.resource, |out, r| put_resource(out, r, strings));
        let scope = (self.scopes).number(&span.scope, |out, s| put_scope(out, s, strings));
        let start = self.bodies.len();
        put_body(&mut self.bodies, span, strings);
        self.rows.push(PackedSpan {
            trace_id: span.trace_id,
            span_id: span.span_id,
            kind: span.kind,
            start: span.start,
            end: span.end,
            resource,
            scope,
            body: start..self.bodies.len(),
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.bodies.len() + self.rows.len() * size_of::<PackedSpan>()
    }

    /// The spans as they were pushed.
    pub fn spans(&self) -> Vec<Span> {
        let span = |row: &PackedSpan| {
            let mut span = Span::of(self.resource(row).clone(), self.scope(row).clone());
            (span.trace_id, span.span_id, span.kind) = (row.trace_id, row.span_id, row.kind);
            (span.start, span.end) = (row.start, row.end);
            let read = get_body(&mut Reader::new(self.body(row)), &mut span, &self.strings);
            debug_assert!(read.is_ok(), "{read:?}");
            span
        };
        self.rows.iter().map(span).collect()
    }

    /// Keeps those that a test lets pass.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&PackedSpan) -> bool) {
        self.rows.retain(keep);
    }

    pub(crate) fn rows(&self) -> &[PackedSpan] {
        &self.rows
    }

    pub(crate) fn resource(&self, row: &PackedSpan) -> &Arc<Resource> {
        &self.resources.items[row.resource as usize]
    }

    pub(crate) fn scope(&self, row: &PackedSpan) -> &Arc<Scope> {
        &self.scopes.items[row.scope as usize]
    }

    /// As `span_bytes.rs` has it, with the numbers of [`PackedSpans::strings`].
    pub(crate) fn body(&self, row: &PackedSpan) -> &[u8] {
        &self.bodies[row.body.clone()]
    }

    pub(crate) fn strings(&self) -> &impl GetSymbols {
        &self.strings
    }

    /// The record for the log, see `record.rs`.
    pub(crate) fn record(&self) -> Vec<u8> {
        let tables = self.resources.bytes.len() + self.scopes.bytes.len() + self.strings.bytes + 32;
        let mut out = Vec::with_capacity(tables + self.bodies.len() + self.rows.len() * 48);
        out.push(VERSION);
        put_uv(&mut out, self.strings.list.len() as u64);
        for text in &self.strings.list {
            put_bytes(&mut out, text.as_bytes());
        }
        put_uv(&mut out, self.resources.items.len() as u64);
        out.extend_from_slice(&self.resources.bytes);
        put_uv(&mut out, self.scopes.items.len() as u64);
        out.extend_from_slice(&self.scopes.bytes);
        put_uv(&mut out, self.rows.len() as u64);
        let mut last = 0i64;
        for row in &self.rows {
            out.extend_from_slice(&row.trace_id.to_bytes());
            out.extend_from_slice(&row.span_id.to_bytes());
            out.push(row.kind as u8);
            put_iv(&mut out, row.start.0.wrapping_sub(last));
            put_iv(&mut out, row.end.0.wrapping_sub(row.start.0));
            last = row.start.0;
            put_uv(&mut out, u64::from(row.resource));
            put_uv(&mut out, u64::from(row.scope));
            out.extend_from_slice(self.body(row));
        }
        out
    }
}

impl From<SpanBatch> for PackedSpans {
    fn from(batch: SpanBatch) -> PackedSpans {
        let mut packed = PackedSpans::default();
        batch.spans.iter().for_each(|span| packed.push(span));
        packed
    }
}

#[derive(Default)]
struct Strings {
    numbers: RapidHashMap<Box<str>, u64>,
    list: Vec<Box<str>>,
    /// Of the strings, with their lengths.
    bytes: usize,
}

impl PutSymbols for Strings {
    fn number(&mut self, text: &str, _place: Place) -> u64 {
        if let Some(n) = self.numbers.get(text) {
            return *n;
        }
        let n = self.list.len() as u64 + 1;
        self.list.push(text.into());
        self.bytes += text.len() + 5;
        self.numbers.insert(text.into(), n);
        n
    }
}

impl GetSymbols for Strings {
    fn text(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.list.get(at).map(|text| &**text)
    }
}

/// Resources or scopes met so far; spans of one envelope share theirs, so that the address tells equal ones.
struct Shared<T> {
    /// By address; what lies there is held by `items`.
    numbers: RapidHashMap<usize, u32>,
    items: Vec<Arc<T>>,
    bytes: Vec<u8>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared {
            numbers: RapidHashMap::default(),
            items: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl<T> Shared<T> {
    fn number(&mut self, item: &Arc<T>, put: impl FnOnce(&mut Vec<u8>, &T)) -> u32 {
        *self.numbers.entry(Arc::as_ptr(item) as usize).or_insert_with(|| {
            put(&mut self.bytes, item);
            self.items.push(item.clone());
            self.items.len() as u32 - 1
        })
    }
}
