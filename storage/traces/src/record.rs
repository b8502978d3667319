//! The WAL record of the traces engine: one batch of spans. It is written by `packed.rs`.
//!
//! # Record kind 1, version 1
//!
//! Little-endian; the log frames it with length and CRC32C. The parts are drawn in `span_bytes.rs`.
//!
//! ```text
//! version    = u8 1
//! strings    = count uv · str*                         what `sym` numbers point at
//! resources  = count uv · resource*
//! scopes     = count uv · scope*
//! spans      = count uv · span*
//! span       = trace id [16] · span id [8] · kind u8
//!            · start - start of the span before iv · end - start iv
//!            · resource number uv · scope number uv · body
//! ```
//!
//! Differences of times wrap around. Golden file: `testdata/wal_record_v1.bin`.

use std::sync::Arc;

use model::{Resource, Scope, Span, SpanKind, TimestampNs};
use storage_codec::{Malformed, Reader};

use crate::span_bytes::{
    GetSymbols, InPlace, get_body, get_resource, get_scope, malformed, put_resource, put_scope, span_id, trace_id,
};

/// The record kind under which batches of spans lie in the WAL.
pub(crate) const SPANS: u8 = 1;

pub(crate) const VERSION: u8 = 1;

/// Decodes a record, handing over its spans in order.
pub(crate) fn decode(record: &[u8], visit: &mut dyn FnMut(Span)) -> Result<(), Malformed> {
    let mut r = Reader::new(record);
    if r.u8()? != VERSION {
        return Err(malformed(&r, "version of a span record"));
    }
    let mut strings = Table(Vec::new());
    for _ in 0..r.count(1)? {
        strings.0.push(r.str()?);
    }
    let mut resources = Vec::new();
    for _ in 0..r.count(3)? {
        resources.push(Arc::new(get_resource(&mut r, &strings)?));
    }
    let mut scopes = Vec::new();
    for _ in 0..r.count(5)? {
        scopes.push(Arc::new(get_scope(&mut r, &strings)?));
    }
    let mut last = 0i64;
    for _ in 0..r.count(16 + 8 + 1)? {
        let mut span = Span {
            trace_id: trace_id(&mut r)?,
            span_id: span_id(&mut r)?,
            kind: SpanKind::from_number(i32::from(r.u8()?)),
            ..Span::default()
        };
        last = last.wrapping_add(r.iv()?);
        span.start = TimestampNs(last);
        span.end = TimestampNs(last.wrapping_add(r.iv()?));
        span.resource = shared(&mut r, &resources)?;
        span.scope = shared(&mut r, &scopes)?;
        get_body(&mut r, &mut span, &strings)?;
        visit(span);
    }
    if !r.is_empty() {
        return Err(malformed(&r, "bytes after the last span"));
    }
    Ok(())
}

fn shared<T>(r: &mut Reader<'_>, table: &[Arc<T>]) -> Result<Arc<T>, Malformed> {
    let n = r.uv()?;
    let found = usize::try_from(n).ok().and_then(|n| table.get(n));
    found.cloned().ok_or_else(|| malformed(r, "number beyond the table"))
}

struct Table<'a>(Vec<&'a str>);

impl GetSymbols for Table<'_> {
    fn text(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.0.get(at).copied()
    }
}

/// The bytes by which equal resources are recognised.
pub(crate) fn resource_key(out: &mut Vec<u8>, resource: &Resource) {
    out.clear();
    put_resource(out, resource, &mut InPlace);
}

/// The bytes by which equal scopes are recognised.
pub(crate) fn scope_key(out: &mut Vec<u8>, scope: &Scope) {
    out.clear();
    put_scope(out, scope, &mut InPlace);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::PackedSpans;
    use crate::arbitrary::{exact, golden, golden_spans, span};

    fn packed(spans: &[Span]) -> PackedSpans {
        let mut packed = PackedSpans::default();
        spans.iter().for_each(|span| packed.push(span));
        packed
    }

    fn encode(spans: &[Span]) -> Vec<u8> {
        packed(spans).record()
    }

    fn decoded(record: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let mut out = Vec::new();
        decode(record, &mut |span| out.push(exact(&span)))?;
        Ok(out)
    }

    #[test]
    fn golden_record_v1() {
        let spans = golden_spans();
        let record = encode(&spans);
        assert_eq!(golden("wal_record_v1.bin", &record), record);
        assert_eq!(decoded(&record).unwrap(), spans.iter().map(exact).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Bit for bit: what replay brings is what was acknowledged.
        #[test]
        fn a_record_returns_the_batch(spans in vec(span(), 0..8)) {
            let want: Vec<Vec<u8>> = spans.iter().map(exact).collect();
            prop_assert_eq!(decoded(&encode(&spans))?, want.clone());
            prop_assert_eq!(packed(&spans).spans().iter().map(exact).collect::<Vec<_>>(), want);
        }

        /// The log checks its frames, but a record that is garbage all the same must not take the start down.
        #[test]
        fn garbage_is_refused(spans in vec(span(), 1..3), cut in any::<prop::sample::Index>(), junk in vec(any::<u8>(), 0..16)) {
            let mut record = encode(&spans);
            let at = cut.index(record.len());
            let rest = record.split_off(at);
            prop_assert!(decoded(&record).is_err());
            record.extend(&junk);
            record.extend(rest.iter().skip(junk.len()));
            let _ = decoded(&record);
            let _ = decoded(&junk);
        }
    }
}
