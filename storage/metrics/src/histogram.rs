//! Native histograms one by one: which ones are stored, and their bytes in the WAL. (Chunks: `histogram_chunk.rs`.)
//!
//! # One histogram
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128, `f64` = its bits.
//!
//! ```text
//! histogram = hint u8 · schema iv · zero threshold f64 · sum f64 · bounds · spans · spans · whole u8
//!             · count number · zero count number · positive counts number* · negative counts number*
//! bounds    = count uv · f64*
//! spans     = count uv · (offset iv · length uv)*          of the positive side, then of the negative one
//! number    = uv (whole 1) or f64 (whole 0)
//! hint      = 0 unknown · 1 reset · 2 no reset · 3 gauge
//! ```
//!
//! A sample keeps the layout it came with, empty buckets included. Golden file: `testdata/histogram_v1.bin`.

use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, ResetHint};
use storage_codec::{Malformed, Reader, put_iv, put_uv};

/// Most buckets of one histogram.
pub(crate) const BUCKETS_MAX: usize = 1 << 16;

const HINTS: [ResetHint; 4] = [
    ResetHint::Unknown,
    ResetHint::Reset,
    ResetHint::NotReset,
    ResetHint::Gauge,
];
/// The largest count that is kept as a whole number.
const WHOLE_MAX: f64 = (1u64 << 53) as f64;

/// Why a histogram cannot be stored, if it cannot.
pub(crate) fn flaw(h: &Histogram) -> Option<&'static str> {
    for side in [&h.positive, &h.negative] {
        let length: u64 = side.spans.iter().map(|span| u64::from(span.length)).sum();
        if length != side.counts.len() as u64 {
            return Some("its spans do not cover its buckets");
        }
        if length as usize > BUCKETS_MAX || side.spans.len() > BUCKETS_MAX {
            return Some("it has too many buckets");
        }
        if !rises(&side.spans) {
            return Some("its spans do not rise, or reach beyond any bucket");
        }
    }
    if h.bounds.len() > BUCKETS_MAX {
        return Some("it has too many bounds");
    }
    None
}

/// Whether each span begins after the one before it, at a place that can be counted.
fn rises(spans: &[BucketSpan]) -> bool {
    let mut next = 0i64;
    spans.iter().enumerate().all(|(i, span)| {
        next += i64::from(span.offset) + i64::from(span.length);
        let first = next - i64::from(span.length);
        (i == 0 || span.offset >= 0) && i32::try_from(first).is_ok() && i32::try_from(next).is_ok()
    })
}

/// Appends one histogram.
pub(crate) fn put_histogram(out: &mut Vec<u8>, h: &Histogram) {
    out.push(HINTS.iter().position(|hint| *hint == h.reset).unwrap_or(0) as u8);
    put_iv(out, i64::from(h.schema));
    put_f64(out, h.zero_threshold);
    put_f64(out, h.sum);
    put_bounds(out, &h.bounds);
    put_spans(out, &h.positive.spans);
    put_spans(out, &h.negative.spans);
    let counts = || {
        [h.count, h.zero_count]
            .into_iter()
            .chain(h.positive.counts.iter().chain(&h.negative.counts).copied())
    };
    let whole = counts().all(is_whole);
    out.push(u8::from(whole));
    for count in counts() {
        if whole {
            put_uv(out, count as u64);
        } else {
            put_f64(out, count);
        }
    }
}

/// Reads one histogram.
pub(crate) fn get_histogram(reader: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let bad = |what| Malformed { at: 0, what };
    let reset = HINTS.get(usize::from(reader.u8()?)).copied();
    let schema = i32::try_from(reader.iv()?).map_err(|_| bad("impossible schema"))?;
    let (zero_threshold, sum) = (get_f64(reader)?, get_f64(reader)?);
    let bounds = get_bounds(reader)?;
    let (positive, negative) = (get_spans(reader)?, get_spans(reader)?);
    let whole = reader.u8()? == 1;
    let mut number = || match whole {
        true => reader.uv().map(|n| n as f64),
        false => get_f64(reader),
    };
    let (count, zero_count) = (number()?, number()?);
    let mut side = |spans: Vec<BucketSpan>| -> Result<Buckets, Malformed> {
        // Not reserved: a length is not believed before its counts are there.
        let mut counts = Vec::new();
        for _ in 0..length_of(&spans) {
            counts.push(number()?);
        }
        Ok(Buckets { spans, counts })
    };
    Ok(Histogram {
        reset: reset.ok_or_else(|| bad("impossible reset hint"))?,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive: side(positive)?,
        negative: side(negative)?,
        bounds,
    })
}

/// Bytes of memory of a histogram.
pub(crate) fn bytes_of(h: &Histogram) -> usize {
    let side = |b: &Buckets| b.spans.capacity() * 8 + b.counts.capacity() * 8;
    size_of::<Histogram>() + 16 + side(&h.positive) + side(&h.negative)
}

/// Whether a count is one that integers carry, sign of zero included.
pub(crate) fn is_whole(count: f64) -> bool {
    count.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(&count) && !(count == 0.0 && count.is_sign_negative())
}

pub(crate) fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

pub(crate) fn get_f64(reader: &mut Reader<'_>) -> Result<f64, Malformed> {
    reader.u64().map(f64::from_bits)
}

pub(crate) fn put_bounds(out: &mut Vec<u8>, bounds: &[f64]) {
    put_uv(out, bounds.len() as u64);
    bounds.iter().for_each(|&bound| put_f64(out, bound));
}

pub(crate) fn get_bounds(reader: &mut Reader<'_>) -> Result<Arc<[f64]>, Malformed> {
    (0..reader.count(8)?).map(|_| get_f64(reader)).collect()
}

pub(crate) fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_uv(out, spans.len() as u64);
    for span in spans {
        put_iv(out, i64::from(span.offset));
        put_uv(out, u64::from(span.length));
    }
}

pub(crate) fn get_spans(reader: &mut Reader<'_>) -> Result<Vec<BucketSpan>, Malformed> {
    let bad = Malformed {
        at: reader.position(),
        what: "impossible span of buckets",
    };
    let mut spans = Vec::new();
    for _ in 0..reader.count(2)? {
        let (offset, length) = (i32::try_from(reader.iv()?), u32::try_from(reader.uv()?));
        match (offset, length) {
            (Ok(offset), Ok(length)) => spans.push(BucketSpan { offset, length }),
            _ => return Err(bad),
        }
    }
    if length_of(&spans) > BUCKETS_MAX as u64 {
        return Err(bad);
    }
    Ok(spans)
}

pub(crate) fn length_of(spans: &[BucketSpan]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::golden;
    use proptest::prelude::*;

    /// A histogram with these counts in its first buckets.
    pub(crate) fn counter(counts: &[f64]) -> Histogram {
        let total = counts.iter().sum();
        Histogram {
            reset: ResetHint::Unknown,
            schema: 2,
            zero_threshold: 1e-128,
            zero_count: 0.0,
            count: total,
            sum: total * 1.5,
            positive: Buckets::from_indexed((0..).zip(counts.iter().copied())),
            negative: Buckets::default(),
            bounds: Arc::new([]),
        }
    }

    #[test]
    fn golden_histogram_v1() {
        let mut h = counter(&[1.0, 0.0, 300.0]);
        h.negative = Buckets::from_indexed([(-5, 2.0), (9, 0.5)]);
        h.reset = ResetHint::Gauge;
        let mut out = Vec::new();
        put_histogram(&mut out, &h);
        let stored = golden("histogram_v1.bin", &out);
        let back = get_histogram(&mut Reader::new(&stored)).unwrap();
        assert!(back.same_bits(&h) && back.reset == h.reset);
        for len in 0..stored.len() {
            assert!(get_histogram(&mut Reader::new(&stored[..len])).is_err(), "cut to {len}");
        }
    }

    fn bucket_list() -> impl Strategy<Value = Vec<(i32, f64)>> {
        let count = prop_oneof![6 => (0u32..5000).prop_map(f64::from), 1 => any::<f64>()];
        proptest::collection::btree_map(-40i32..40, count, 0..12).prop_map(|m| m.into_iter().collect())
    }

    pub(crate) fn histogram() -> impl Strategy<Value = Histogram> {
        let numbers = (any::<f64>(), 0u32..10_000, 0u32..50);
        (bucket_list(), bucket_list(), numbers, 0usize..4).prop_map(|(positive, negative, (sum, count, zero), hint)| {
            Histogram {
                reset: HINTS[hint],
                schema: 3,
                zero_threshold: 0.001,
                zero_count: f64::from(zero),
                count: f64::from(count),
                sum,
                positive: Buckets::from_indexed(positive),
                negative: Buckets::from_indexed(negative),
                bounds: Arc::new([]),
            }
        })
    }

    proptest! {
        #[test]
        fn a_histogram_returns_as_it_was(h in histogram()) {
            let mut out = Vec::new();
            put_histogram(&mut out, &h);
            let back = get_histogram(&mut Reader::new(&out)).unwrap();
            prop_assert!(back.same_bits(&h) && back.reset == h.reset);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = get_histogram(&mut Reader::new(&bytes));
        }
    }
}
