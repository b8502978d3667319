//! Samples as Prometheus' chunks: floats as XOR chunks, native histograms as chunks of their own kind.
//!
//! A chunk holds at most [`SAMPLES_MAX`] samples. Histograms of one chunk have the same bounds and buckets and no counter
//! reset among them; whatever does not fit begins another.

use std::sync::Arc;

use model::{Buckets, Histogram, ResetHint};
use storage_metrics::Samples;

use super::bits::{Bits, Xor};
use super::wire::{Chunk, deltas, is_whole};

/// As many as Prometheus puts into a chunk.
const SAMPLES_MAX: usize = 120;

const XOR: i32 = 1;
const HISTOGRAM: i32 = 2;
const FLOAT_HISTOGRAM: i32 = 3;

/// The chunks of a series, rising by time.
pub(super) fn chunks(samples: &Samples) -> Vec<Chunk> {
    let mut out = Vec::new();
    // Where the series changes from floats to histograms or back, a chunk ends, as chunks may not overlap.
    let histograms = &samples.histograms;
    let (mut f, mut h) = (0, 0);
    while f < samples.t.len() || h < histograms.t.len() {
        let next_histogram = histograms.t.get(h).copied().unwrap_or(i64::MAX);
        let end = f + samples.t[f..].partition_point(|t| *t < next_histogram);
        let (t, v) = (&samples.t[f..end], &samples.v[f..end]);
        out.extend(t.chunks(SAMPLES_MAX).zip(v.chunks(SAMPLES_MAX)).map(|(t, v)| xor(t, v)));
        f = end;
        let next_float = samples.t.get(f).copied().unwrap_or(i64::MAX);
        let end = h + histograms.t[h..].partition_point(|t| *t < next_float);
        // Neither moves only if both have a sample at one time, which no series has.
        if end == h && f == samples.t.len() {
            break;
        }
        histogram_chunks(&histograms.t[h..end], &histograms.h[h..end], &mut out);
        h = end;
    }
    out
}

fn chunk(kind: i32, t: &[i64], data: Vec<u8>) -> Chunk {
    Chunk {
        min_time_ms: t.first().copied().unwrap_or_default(),
        max_time_ms: t.last().copied().unwrap_or_default(),
        kind,
        data,
    }
}

/// A chunk of floats.
fn xor(t: &[i64], v: &[f64]) -> Chunk {
    let mut bits = Bits::after((t.len() as u16).to_be_bytes().to_vec());
    let mut values: Option<Xor> = None;
    let (mut last, mut last_delta) = (0, 0);
    for (i, (&t, &v)) in t.iter().zip(v).enumerate() {
        let delta = t.wrapping_sub(last);
        match i {
            0 => bits.put_varint(t),
            1 => bits.put_uvarint(delta as u64),
            _ => bits.put_delta_of_delta(delta.wrapping_sub(last_delta)),
        }
        match &mut values {
            None => {
                bits.put_f64(v);
                values = Some(Xor::after(v));
            }
            Some(values) => values.put(&mut bits, v),
        }
        (last, last_delta) = (t, delta);
    }
    chunk(XOR, t, bits.into_bytes())
}

/// Cuts a run of histograms into chunks.
fn histogram_chunks(t: &[i64], h: &[Arc<Histogram>], out: &mut Vec<Chunk>) {
    let mut begin = 0;
    while begin < h.len() {
        let first = &h[begin];
        let len = 1 + h[begin..]
            .windows(2)
            .take(SAMPLES_MAX - 1)
            .take_while(|pair| continues(first, &pair[0], &pair[1]))
            .count();
        let end = begin + len;
        let before = begin.checked_sub(1).map(|i| h[i].as_ref());
        out.push(histograms(&t[begin..end], &h[begin..end], before));
        begin = end;
    }
}

/// Whether `next` may stand after `last` in the chunk that begins with `first`.
fn continues(first: &Histogram, last: &Histogram, next: &Histogram) -> bool {
    if last.is_stale() {
        return false;
    }
    if next.is_stale() {
        return true;
    }
    let is_gauge = first.reset == ResetHint::Gauge;
    first.schema == next.schema
        && first.zero_threshold.to_bits() == next.zero_threshold.to_bits()
        && first.positive.spans == next.positive.spans
        && first.negative.spans == next.negative.spans
        && first
            .bounds
            .iter()
            .map(|b| b.to_bits())
            .eq(next.bounds.iter().map(|b| b.to_bits()))
        && is_whole(first) == is_whole(next)
        && is_gauge == (next.reset == ResetHint::Gauge)
        && (is_gauge || !next.is_reset_after(last))
}

/// A chunk of histograms of one layout; `before` is the one before them in the series.
fn histograms(t: &[i64], h: &[Arc<Histogram>], before: Option<&Histogram>) -> Chunk {
    let Some(first) = h.first() else {
        return chunk(HISTOGRAM, t, Vec::new());
    };
    let mut bytes = (t.len() as u16).to_be_bytes().to_vec();
    bytes.push(flags(first, before));
    let mut bits = Bits::after(bytes);
    if first.is_stale() {
        layout(&mut bits, &Histogram::stale());
    } else {
        layout(&mut bits, first);
    }
    if is_whole(first) {
        whole_samples(&mut bits, t, h);
        chunk(HISTOGRAM, t, bits.into_bytes())
    } else {
        float_samples(&mut bits, t, h);
        chunk(FLOAT_HISTOGRAM, t, bits.into_bytes())
    }
}

/// What is known of a reset between the chunk before and this one.
fn flags(first: &Histogram, before: Option<&Histogram>) -> u8 {
    if first.is_stale() {
        return 0;
    }
    match first.reset {
        ResetHint::Gauge => 0b1100_0000,
        ResetHint::Reset => 0b1000_0000,
        ResetHint::NotReset => 0b0100_0000,
        ResetHint::Unknown => match before {
            Some(before) if !before.is_stale() && first.is_reset_after(before) => 0b1000_0000,
            _ => 0,
        },
    }
}

fn layout(bits: &mut Bits, h: &Histogram) {
    match short_threshold(h.zero_threshold) {
        Some(byte) => bits.put(u64::from(byte), 8),
        None => {
            bits.put(255, 8);
            bits.put_f64(h.zero_threshold);
        }
    }
    bits.put_varbit(i64::from(h.schema));
    for side in [&h.positive, &h.negative] {
        bits.put_varbit_unsigned(side.spans.len() as u64);
        for span in &side.spans {
            bits.put_varbit_unsigned(u64::from(span.length));
            bits.put_varbit(i64::from(span.offset));
        }
    }
    if h.has_custom_buckets() {
        bits.put_varbit_unsigned(h.bounds.len() as u64);
        for &bound in h.bounds.iter() {
            match thousandths(bound) {
                Some(n) => bits.put_varbit_unsigned(n + 1),
                None => {
                    bits.put(0, 1);
                    bits.put_f64(bound);
                }
            }
        }
    }
}

/// The byte that stands for a threshold: a power of two in a middle range, or nothing.
fn short_threshold(threshold: f64) -> Option<u8> {
    if threshold.to_bits() == 0 {
        return Some(0);
    }
    let bits = threshold.to_bits();
    let is_power = bits & ((1 << 52) - 1) == 0 && threshold > 0.0;
    // 0.5 * 2^(byte - 243) = 2^(byte - 244).
    let exponent = (bits >> 52) as i64 - 1023;
    let byte = exponent + 244;
    (is_power && (1..=254).contains(&byte)).then_some(byte as u8)
}

/// A bound as whole thousandths, where that is exact and short.
fn thousandths(bound: f64) -> Option<u64> {
    let n = (bound * 1000.0).round();
    let is_exact = (0.0..33_554_430.0).contains(&n) && (n / 1000.0).to_bits() == bound.to_bits();
    is_exact.then_some(n as u64)
}

fn whole_samples(bits: &mut Bits, t: &[i64], h: &[Arc<Histogram>]) {
    // Time, count, zero count, and each bucket: what it was, and by how much it changed.
    let mut last: Vec<(i64, i64)> = Vec::new();
    let mut sum = Xor::after(0.0);
    for (i, (&t, h)) in t.iter().zip(h).enumerate() {
        let head = [t, h.count as i64, h.zero_count as i64];
        let mut buckets = Vec::new();
        if !h.is_stale() {
            buckets = deltas(&h.positive);
            buckets.append(&mut deltas(&h.negative));
        }
        if i == 0 {
            bits.put_varbit(head[0]);
            head[1..].iter().for_each(|n| bits.put_varbit_unsigned(*n as u64));
            bits.put_f64(h.sum);
            buckets.iter().for_each(|n| bits.put_varbit(*n));
            last = head.into_iter().chain(buckets).map(|n| (n, 0)).collect();
            sum = Xor::after(h.sum);
            continue;
        }
        let put = |bits: &mut Bits, (before, change): &mut (i64, i64), n: i64| {
            let delta = n.wrapping_sub(*before);
            bits.put_varbit(delta.wrapping_sub(*change));
            (*before, *change) = (n, delta);
        };
        let split = head.len().min(last.len());
        let (last_head, last_buckets) = last.split_at_mut(split);
        last_head.iter_mut().zip(head).for_each(|(last, n)| put(bits, last, n));
        sum.put(bits, h.sum);
        last_buckets
            .iter_mut()
            .zip(buckets)
            .for_each(|(last, n)| put(bits, last, n));
    }
}

fn float_samples(bits: &mut Bits, t: &[i64], h: &[Arc<Histogram>]) {
    // Count, zero count, sum, and each bucket.
    let mut values: Vec<Xor> = Vec::new();
    let (mut last, mut last_delta) = (0, 0);
    for (i, (&t, h)) in t.iter().zip(h).enumerate() {
        let delta = t.wrapping_sub(last);
        let counts = |b: &Buckets| if h.is_stale() { Vec::new() } else { b.counts.clone() };
        let mut now = vec![h.count, h.zero_count, h.sum];
        now.extend(counts(&h.positive).into_iter().chain(counts(&h.negative)));
        if i == 0 {
            bits.put_varbit(t);
            now.iter().for_each(|v| bits.put_f64(*v));
            values = now.into_iter().map(Xor::after).collect();
            (last, last_delta) = (t, 0);
            continue;
        }
        bits.put_varbit(delta.wrapping_sub(last_delta));
        values.iter_mut().zip(now).for_each(|(x, v)| x.put(bits, v));
        (last, last_delta) = (t, delta);
    }
}
