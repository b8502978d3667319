//! Remote write 2.0, as a sender encodes it. Facts of the format: field numbers, symbols, spans and deltas.

use std::collections::BTreeMap;

use prost::encoding::encode_varint;

use super::data::{Native, STALE_BITS, Sample, Series};
use super::{LENGTH_MS, T0_MS};
use crate::differential::{FNV_START, fnv};

/// How much time one request covers.
const SLICE_MS: i64 = 600_000;

/// The requests that bring all of it, in the order of time; each is snappy-compressed.
pub(crate) fn requests(series: &[Series]) -> Vec<Vec<u8>> {
    let end = T0_MS + LENGTH_MS + SLICE_MS;
    (T0_MS..end)
        .step_by(SLICE_MS as usize)
        .filter_map(|from| request(series, from))
        .map(|raw| snap::raw::Encoder::new().compress_vec(&raw).unwrap_or_default())
        .collect()
}

/// A checksum of the requests before compression: whether the data is the data that was recorded.
pub(crate) fn checksum(series: &[Series]) -> u64 {
    let end = T0_MS + LENGTH_MS + SLICE_MS;
    let mut hash = FNV_START;
    for raw in (T0_MS..end)
        .step_by(SLICE_MS as usize)
        .filter_map(|from| request(series, from))
    {
        hash = fnv(hash, &raw);
    }
    hash
}

fn request(all: &[Series], from: i64) -> Option<Vec<u8>> {
    let mut symbols = Symbols::default();
    let mut series = Vec::new();
    for one in all {
        let inside: Vec<_> = (one.samples.iter())
            .filter(|(t, _)| (from..from + SLICE_MS).contains(t))
            .collect();
        // A message holds numbers or histograms, so a series that changes its type takes several.
        for run in inside.chunk_by(|a, b| is_native(&a.1) == is_native(&b.1)) {
            bytes(&mut series, 5, &time_series(one, run, &mut symbols));
        }
    }
    if series.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    for symbol in &symbols.list {
        bytes(&mut out, 4, symbol.as_bytes());
    }
    out.extend_from_slice(&series);
    Some(out)
}

fn is_native(sample: &Sample) -> bool {
    matches!(sample, Sample::Native(_))
}

/// Strings by number; the first is the empty one.
struct Symbols {
    list: Vec<String>,
    numbers: BTreeMap<String, u64>,
}

impl Default for Symbols {
    fn default() -> Symbols {
        Symbols {
            list: vec![String::new()],
            numbers: BTreeMap::from([(String::new(), 0)]),
        }
    }
}

impl Symbols {
    fn number(&mut self, text: &str) -> u64 {
        let next = self.list.len() as u64;
        *self.numbers.entry(text.to_owned()).or_insert_with(|| {
            self.list.push(text.to_owned());
            next
        })
    }
}

fn time_series(series: &Series, run: &[&(i64, Sample)], symbols: &mut Symbols) -> Vec<u8> {
    let mut refs = Vec::new();
    for (name, value) in series.labels.iter().filter(|(_, v)| !v.is_empty()) {
        encode_varint(symbols.number(name), &mut refs);
        encode_varint(symbols.number(value), &mut refs);
    }
    let mut out = Vec::new();
    bytes(&mut out, 1, &refs);
    for (t, sample) in run {
        let mut message = Vec::new();
        match sample {
            Sample::Float(v) => double(&mut message, 1, *v),
            Sample::Stale => double(&mut message, 1, f64::from_bits(STALE_BITS)),
            Sample::Native(h) => {
                bytes(&mut out, 3, &histogram(h, *t));
                continue;
            }
        }
        varint(&mut message, 2, *t as u64);
        bytes(&mut out, 2, &message);
    }
    out
}

fn histogram(h: &Native, t: i64) -> Vec<u8> {
    let mut out = Vec::new();
    match h.float {
        true => double(&mut out, 2, h.count()),
        false => varint(&mut out, 1, h.count() as u64),
    }
    double(&mut out, 3, h.sum);
    varint(&mut out, 4, zigzag(i64::from(h.schema)));
    double(&mut out, 5, h.zero_threshold);
    match h.float {
        true => double(&mut out, 7, h.zero_count),
        false => varint(&mut out, 6, h.zero_count as u64),
    }
    buckets(&mut out, &h.negative, h.float, [8, 9, 10]);
    buckets(&mut out, &h.positive, h.float, [11, 12, 13]);
    varint(&mut out, 14, if h.gauge { 3 } else { 0 });
    varint(&mut out, 15, t as u64);
    if !h.bounds.is_empty() {
        bytes(&mut out, 16, &doubles(h.bounds.iter().copied()));
    }
    out
}

/// Spans, then counts: differences for integers, the counts themselves for floats.
fn buckets(out: &mut Vec<u8>, counts: &BTreeMap<i32, f64>, float: bool, [spans, deltas, absolute]: [u32; 3]) {
    let indices: Vec<i32> = counts.keys().copied().collect();
    let mut after = 0;
    for run in indices.chunk_by(|a, b| a + 1 == *b) {
        let mut span = Vec::new();
        varint(&mut span, 1, zigzag(i64::from(run[0] - after)));
        varint(&mut span, 2, run.len() as u64);
        bytes(out, spans, &span);
        after = run[0] + run.len() as i32;
    }
    if counts.is_empty() {
        return;
    }
    if float {
        bytes(out, absolute, &doubles(counts.values().copied()));
        return;
    }
    let mut packed = Vec::new();
    let mut before = 0;
    for count in counts.values() {
        encode_varint(zigzag(*count as i64 - before), &mut packed);
        before = *count as i64;
    }
    bytes(out, deltas, &packed);
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn doubles(values: impl Iterator<Item = f64>) -> Vec<u8> {
    values.flat_map(f64::to_le_bytes).collect()
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, number: u32, v: u64) {
    encode_varint(u64::from(number << 3), out);
    encode_varint(v, out);
}

fn double(out: &mut Vec<u8>, number: u32, v: f64) {
    encode_varint(u64::from(number << 3 | 1), out);
    out.extend_from_slice(&v.to_le_bytes());
}
