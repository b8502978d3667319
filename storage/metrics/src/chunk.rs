//! Closed chunks: a run of one series' samples, in the encoding that is smallest for it, bit for bit.
//!
//! # Chunk, version 1
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128. Times in ms since the epoch, strictly rising.
//!
//! ```text
//! row        = encoding u8 · count uv · first time iv · last - first uv · len uv · data [len] · crc u32
//! encoding   = starts << 7 | times << 4 | values
//! data       = times column · starts column (only if starts is 1) · values column
//!              · exceptions (only for constant and decimal)
//!
//! times 0    regular: nothing; the step is (last - first) / (count - 1), without remainder
//! times 1    steps: first step uv · residual column of the count - 2 changes of the step     (`residual.rs`)
//!
//! values 0   constant: bits u64
//! values 1   decimal: order << 7 | exponent u8 · first iv · factor uv · residual column
//!            value = integer / 10^exponent; the integers as the sum (order 0: of count - 1 steps) or the sum of
//!            the sum (order 1: first step iv, then count - 2 changes) of residual * factor
//! values 2   XOR: the bits of `gorilla.rs`, values only, to the end of data
//! values 3   native histograms, as `histogram_chunk.rs` draws them
//!
//! starts     when the counting of each sample began (`starts.rs`)
//!
//! exceptions = count uv · (samples since the last exception uv · bits u64)*       values that do not fit
//! ```
//!
//! `crc` is the CRC32C of its row so far. A reader trusts neither `count` (at most [`SAMPLES_MAX`]) nor `len`.
//! Numbers not listed here are left for further encodings. Golden files: `testdata/chunk_*_v1.bin`.

use std::ops::Range;
use std::sync::Arc;

use model::{Histogram, TimestampMs};
use storage_codec::{BitReader, BitWriter, Malformed, Reader, crc32c, put_iv, put_uv};

use crate::Samples;
use crate::gorilla::ValueState;
use crate::histogram_chunk::{self, same_layout};
use crate::residual::{self, Residuals};
use crate::samples::{Histograms, goes_on, same_shape};
use crate::starts;

/// Most samples a reader accepts in one chunk.
pub(crate) const SAMPLES_MAX: usize = 1 << 13;

const TIMES_REGULAR: u8 = 0;
const TIMES_STEPS: u8 = 1;
pub(crate) const VALUES_CONSTANT: u8 = 0;
pub(crate) const VALUES_DECIMAL: u8 = 1;
pub(crate) const VALUES_XOR: u8 = 2;
const VALUES_HISTOGRAMS: u8 = 3;
const STARTS: u8 = 0x80;

/// Histograms in one chunk, at most.
const HISTOGRAMS_MAX: usize = 240;
/// Numbers in one chunk of histograms, at most (but for a single one's).
const CELLS_MAX: usize = 1 << 19;

/// A closed chunk in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) count: u32,
    encoding: u8,
    data: Arc<[u8]>,
}

/// A chunk read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkView<'a> {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) count: u32,
    encoding: u8,
    data: &'a [u8],
}

impl Chunk {
    /// Encodes samples (1 to [`SAMPLES_MAX`], times strictly rising) as small as it can. `start` is as long as `t`, or
    /// empty.
    pub(crate) fn encode(t: &[i64], v: &[f64], start: &[i64]) -> Chunk {
        debug_assert!(!t.is_empty() && t.len() == v.len() && t.len() <= SAMPLES_MAX);
        let mut data = Vec::with_capacity(64);
        let times = put_columns(&mut data, t, start);
        let values = put_bare_values(&mut data, v);
        Chunk::of(t, times | values, data)
    }

    /// Encodes a range of histograms as chunks: one ends with its day, where the rule of the buckets changes, where a
    /// counter begins anew, and when it is large enough.
    pub(crate) fn encode_histograms(list: &Histograms, range: Range<usize>, chunks: &mut Vec<Chunk>) {
        let mut first = range.start;
        // Buckets of all layouts, which is at least as many as there are columns.
        let mut buckets = 0;
        for i in range.clone() {
            let h = &list.h[i];
            let size = match i > first && same_layout(&list.h[i - 1], h) {
                true => 0,
                false => h.positive.counts.len() + h.negative.counts.len(),
            };
            let ends = i > first && {
                let before = &list.h[i - 1];
                i - first >= HISTOGRAMS_MAX
                    || (buckets + size + 3) * (i - first + 1) > CELLS_MAX
                    || TimestampMs(list.t[i]).day() != TimestampMs(list.t[first]).day()
                    || !shares_chunk(before, h)
            };
            if ends {
                chunks.push(Chunk::of_histograms(list, first..i));
                (first, buckets) = (i, h.positive.counts.len() + h.negative.counts.len());
            } else {
                buckets += size;
            }
        }
        if first < range.end {
            chunks.push(Chunk::of_histograms(list, first..range.end));
        }
    }

    fn of_histograms(list: &Histograms, range: Range<usize>) -> Chunk {
        let t = &list.t[range.clone()];
        let mut data = Vec::with_capacity(256);
        let times = put_columns(&mut data, t, list.start.get(range.clone()).unwrap_or(&[]));
        histogram_chunk::put_values(&mut data, &list.h[range]);
        Chunk::of(t, times | VALUES_HISTOGRAMS, data)
    }

    fn of(t: &[i64], encoding: u8, data: Vec<u8>) -> Chunk {
        Chunk {
            min: t[0],
            max: t[t.len() - 1],
            count: t.len() as u32,
            encoding,
            data: data.into(),
        }
    }

    pub(crate) fn view(&self) -> ChunkView<'_> {
        ChunkView {
            min: self.min,
            max: self.max,
            count: self.count,
            encoding: self.encoding,
            data: &self.data,
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Chunk>() + 16 + self.data.len()
    }

    /// Appends the row; says how many bytes it has.
    pub(crate) fn put_row(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.push(self.encoding);
        put_uv(out, u64::from(self.count));
        put_iv(out, self.min);
        put_uv(out, self.max.wrapping_sub(self.min) as u64);
        put_uv(out, self.data.len() as u64);
        out.extend_from_slice(&self.data);
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.len() - start
    }
}

impl<'a> ChunkView<'a> {
    /// Reads one row and checks its checksum.
    pub(crate) fn get_row(reader: &mut Reader<'a>) -> Result<ChunkView<'a>, Malformed> {
        let at = reader.position();
        let row = reader.remaining();
        let encoding = reader.u8()?;
        let count = reader.uv()?;
        let min = reader.iv()?;
        let span = reader.uv()?;
        let data = reader.bytes()?;
        let crc = crc32c(&row[..reader.position() - at]);
        if reader.u32()? != crc {
            return Err(Malformed {
                at,
                what: "chunk fails its CRC32C",
            });
        }
        let max = i64::try_from(i128::from(min) + i128::from(span)).ok();
        let (Some(max), Some(count)) = (max, u32::try_from(count).ok().filter(|&n| n > 0)) else {
            return Err(Malformed {
                at,
                what: "impossible chunk",
            });
        };
        Ok(ChunkView {
            min,
            max,
            count,
            encoding,
            data,
        })
    }

    /// Appends all samples to `out`; what a failed decode appended is taken back.
    pub(crate) fn decode(&self, out: &mut Samples) -> Result<(), Malformed> {
        let base = out.mark();
        let decoded = match self.encoding & 15 {
            VALUES_HISTOGRAMS => self.decode_histograms(&mut out.histograms),
            _ => self.decode_columns(out),
        };
        if decoded.is_err() {
            out.truncate(base);
        }
        out.pad_starts();
        decoded
    }

    fn decode_histograms(&self, out: &mut Histograms) -> Result<(), Malformed> {
        let mut reader = Reader::new(self.data);
        let (mut t, mut start) = (Vec::new(), Vec::new());
        let n = self.get_columns(&mut reader, &mut t, &mut start)?;
        let mut at = 0;
        histogram_chunk::get_values(&mut reader, n, |h| {
            out.push(t[at], start.get(at).copied().unwrap_or(0), h);
            at += 1;
        })
    }

    fn decode_columns(&self, out: &mut Samples) -> Result<(), Malformed> {
        let mut reader = Reader::new(self.data);
        let n = self.get_columns(&mut reader, &mut out.t, &mut out.start)?;
        get_bare_values(&mut reader, self.encoding & 15, n, &mut out.v)
    }

    /// Reads times, and starts if the chunk has them; says how many samples there are.
    fn get_columns(&self, reader: &mut Reader<'_>, t: &mut Vec<i64>, start: &mut Vec<i64>) -> Result<usize, Malformed> {
        let n = self.count as usize;
        if n == 0 || n > SAMPLES_MAX {
            return Err(Malformed {
                at: 0,
                what: "impossible number of samples",
            });
        }
        let base = t.len();
        get_times(reader, self.encoding >> 4 & 7, n, self.min, self.max, t)?;
        if self.encoding & STARTS != 0 {
            starts::get(reader, &t[base..], base, start)?;
        }
        Ok(n)
    }
}

/// Whether two histograms, one after the other, may lie in one chunk.
fn shares_chunk(before: &Histogram, next: &Histogram) -> bool {
    let gauge_or_marker = next.reset == model::ResetHint::Gauge || next.is_stale();
    same_shape(before, next) && (gauge_or_marker || goes_on(before, next))
}

/// Appends the columns that all chunks have; says which encodings they are.
fn put_columns(out: &mut Vec<u8>, t: &[i64], start: &[i64]) -> u8 {
    let times = put_times(out, t) << 4;
    match starts::put(out, t, start) {
        true => times | STARTS,
        false => times,
    }
}

/// Appends the times column; says which encoding it is.
fn put_times(out: &mut Vec<u8>, t: &[i64]) -> u8 {
    let n = t.len();
    let step = |i: usize| t[i].wrapping_sub(t[i - 1]);
    if n == 1 || (2..n).all(|i| step(i) == step(1)) {
        return TIMES_REGULAR;
    }
    put_uv(out, step(1) as u64);
    let changes = || (2..n).map(|i| step(i).wrapping_sub(step(i - 1)));
    residual::put(out, &residual::measure(changes()), changes());
    TIMES_STEPS
}

fn get_times(
    reader: &mut Reader<'_>,
    encoding: u8,
    n: usize,
    min: i64,
    max: i64,
    out: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let bad = |what| Malformed { at: 0, what };
    out.reserve(n);
    match encoding {
        TIMES_REGULAR => {
            let (span, steps) = (max.wrapping_sub(min) as u64, n as u64 - 1);
            let step = span.checked_div(steps).unwrap_or(0);
            if step * steps != span || (steps > 0 && step == 0) {
                return Err(bad("impossible step"));
            }
            out.extend((0..n as u64).map(|i| min.wrapping_add((i * step) as i64)));
        }
        TIMES_STEPS => {
            if n < 2 {
                return Err(bad("steps of a single sample"));
            }
            let mut step = reader.uv()? as i64;
            let mut t = min;
            out.push(t);
            let mut changes = Residuals::open(reader, n - 2)?;
            for i in 1..n {
                if i > 1 {
                    step = step.wrapping_add(changes.next()?);
                }
                let next = t.wrapping_add(step);
                if next <= t {
                    return Err(bad("times do not rise"));
                }
                t = next;
                out.push(t);
            }
            if t != max {
                return Err(bad("times do not end where they should"));
            }
        }
        _ => return Err(bad("unknown encoding of times")),
    }
    Ok(())
}

/// Appends the smallest column of floats; says which encoding it is.
pub(crate) fn put_bare_values(out: &mut Vec<u8>, v: &[f64]) -> u8 {
    let exceptions_max = v.len() / 16 + 1;
    let first = v[0].to_bits();
    if v.iter().filter(|x| x.to_bits() != first).count() <= exceptions_max.min(v.len() / 2) {
        out.extend_from_slice(&first.to_le_bytes());
        put_exceptions(out, v, |_, x| x.to_bits() != first);
        return VALUES_CONSTANT;
    }
    let mut bits = BitWriter::default();
    let mut state = ValueState::default();
    state.put_first(&mut bits, first);
    for x in &v[1..] {
        state.put(&mut bits, x.to_bits());
    }
    let start = out.len();
    if put_decimal(out, v, exceptions_max) && out.len() - start <= bits.as_bytes().len() {
        return VALUES_DECIMAL;
    }
    out.truncate(start);
    out.extend_from_slice(bits.as_bytes());
    VALUES_XOR
}

/// Appends a column of `n` floats to `out`. XOR takes all that is left.
pub(crate) fn get_bare_values(
    reader: &mut Reader<'_>,
    encoding: u8,
    n: usize,
    out: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let base = out.len();
    match encoding {
        VALUES_CONSTANT => {
            let v = f64::from_bits(reader.u64()?);
            out.resize(base + n, v);
            get_exceptions(reader, &mut out[base..])
        }
        VALUES_DECIMAL => {
            get_decimal(reader, n, out)?;
            get_exceptions(reader, &mut out[base..])
        }
        VALUES_XOR => {
            let mut bits = BitReader::new(reader.remaining());
            let mut state = ValueState::default();
            out.reserve(n);
            out.push(f64::from_bits(state.get_first(&mut bits)?));
            for _ in 1..n {
                out.push(f64::from_bits(state.get(&mut bits)?));
            }
            Ok(())
        }
        _ => Err(Malformed {
            at: 0,
            what: "unknown encoding of values",
        }),
    }
}

const POWERS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The integer that gives exactly `v` when divided by `10^exponent`.
fn decimal(v: f64, exponent: usize) -> Option<i64> {
    let scaled = (v * POWERS[exponent]).round();
    // Beyond 2^53 not every integer is a float.
    if scaled.is_nan() || scaled.abs() > 9_007_199_254_740_992.0 {
        return None;
    }
    let integer = scaled as i64;
    ((integer as f64 / POWERS[exponent]).to_bits() == v.to_bits()).then_some(integer)
}

/// Appends a decimal column with its exceptions, unless too many values do not fit.
fn put_decimal(out: &mut Vec<u8>, v: &[f64], exceptions_max: usize) -> bool {
    let mut exponent = 0;
    let mut misfits = 0;
    for &x in v {
        match (exponent..POWERS.len()).find(|&e| decimal(x, e).is_some()) {
            Some(e) => exponent = e,
            None => misfits += 1,
        }
        if misfits > exceptions_max {
            return false;
        }
    }
    // An exception repeats the integer before it, which costs nothing.
    let mut last = v.iter().find_map(|&x| decimal(x, exponent)).unwrap_or(0);
    let integers: Vec<i64> = v
        .iter()
        .map(|&x| {
            last = decimal(x, exponent).unwrap_or(last);
            last
        })
        .collect();
    if v.iter().filter(|&&x| decimal(x, exponent).is_none()).count() > exceptions_max {
        return false;
    }
    let n = integers.len();
    let raw = |i: usize| integers[i] - integers[i - 1];
    let factor = (1..n).map(|i| raw(i).unsigned_abs()).fold(0, gcd).max(1) as i64;
    let step = |i: usize| raw(i) / factor;
    let steps = || (1..n).map(step);
    let changes = || (2..n).map(|i| step(i) - step(i - 1));
    let (by_step, by_change) = (residual::measure(steps()), residual::measure(changes()));
    let second = n > 2 && by_change.bits + 16 < by_step.bits;
    out.push(u8::from(second) << 7 | exponent as u8);
    put_iv(out, integers[0]);
    put_uv(out, factor as u64);
    if second {
        put_iv(out, step(1));
        residual::put(out, &by_change, changes());
    } else {
        residual::put(out, &by_step, steps());
    }
    put_exceptions(out, v, |_, x| decimal(x, exponent).is_none());
    true
}

fn get_decimal(reader: &mut Reader<'_>, n: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    let header = reader.u8()?;
    let Some(&power) = POWERS.get(usize::from(header & 0x7f)) else {
        return Err(Malformed {
            at: 0,
            what: "impossible exponent",
        });
    };
    let mut integer = reader.iv()?;
    let factor = reader.uv()? as i64;
    out.reserve(n);
    out.push(integer as f64 / power);
    if header & 0x80 == 0 {
        let mut steps = Residuals::open(reader, n - 1)?;
        for _ in 1..n {
            integer = integer.wrapping_add(steps.next()?.wrapping_mul(factor));
            out.push(integer as f64 / power);
        }
    } else {
        if n < 3 {
            return Err(Malformed {
                at: 0,
                what: "changes of steps of two samples",
            });
        }
        let mut step = reader.iv()?;
        let mut changes = Residuals::open(reader, n - 2)?;
        for i in 1..n {
            if i > 1 {
                step = step.wrapping_add(changes.next()?);
            }
            integer = integer.wrapping_add(step.wrapping_mul(factor));
            out.push(integer as f64 / power);
        }
    }
    Ok(())
}

fn put_exceptions(out: &mut Vec<u8>, v: &[f64], is_exception: impl Fn(usize, f64) -> bool) {
    let exceptions = || v.iter().enumerate().filter(|&(i, &x)| is_exception(i, x));
    put_uv(out, exceptions().count() as u64);
    let mut last = 0;
    for (i, x) in exceptions() {
        put_uv(out, (i - last) as u64);
        out.extend_from_slice(&x.to_bits().to_le_bytes());
        last = i;
    }
}

fn get_exceptions(reader: &mut Reader<'_>, values: &mut [f64]) -> Result<(), Malformed> {
    let mut at = 0usize;
    for _ in 0..reader.count(9)? {
        let gap = usize::try_from(reader.uv()?).unwrap_or(usize::MAX);
        at = at.saturating_add(gap);
        let bits = reader.u64()?;
        match values.get_mut(at) {
            Some(v) => *v = f64::from_bits(bits),
            None => {
                return Err(Malformed {
                    at: reader.position(),
                    what: "exception beyond the last sample",
                });
            }
        }
    }
    Ok(())
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use model::stale_nan;
    use proptest::prelude::*;

    fn row(samples: &[(i64, f64)]) -> Vec<u8> {
        let (t, v): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let mut out = Vec::new();
        Chunk::encode(&t, &v, &[]).put_row(&mut out);
        out
    }

    fn decode(row: &[u8]) -> Result<Vec<(i64, u64)>, Malformed> {
        let mut out = Samples::default();
        ChunkView::get_row(&mut Reader::new(row))?.decode(&mut out)?;
        Ok(out.t.iter().zip(&out.v).map(|(&t, v)| (t, v.to_bits())).collect())
    }

    #[track_caller]
    fn check(samples: &[(i64, f64)], encoding: u8, file: &str) {
        let row = row(samples);
        assert_eq!(row[0], encoding, "encoding");
        let bits: Vec<(i64, u64)> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
        assert_eq!(decode(&row).unwrap(), bits);
        let stored = golden(file, &row);
        assert_eq!(decode(&stored).unwrap(), bits, "the golden file opens forever");
    }

    #[test]
    fn golden_constant_chunk_v1() {
        let mut samples: Vec<(i64, f64)> = (0..40).map(|i| (i * 15_000, 1.0)).collect();
        samples.push((600_000, stale_nan()));
        check(&samples, 0x00, "chunk_constant_v1.bin");
    }

    #[test]
    fn golden_decimal_chunk_v1() {
        let samples: Vec<(i64, f64)> = (0..60)
            .map(|i| (i * 15_000 + i % 3, (i * i % 17 + 25) as f64 / 100.0))
            .collect();
        check(&samples, 0x11, "chunk_decimal_v1.bin");
    }

    #[test]
    fn golden_second_order_decimal_chunk_v1() {
        let mut samples: Vec<(i64, f64)> = (0..60)
            .map(|i| (i * 1000, (4096 * (i * 1000 + i % 2)) as f64))
            .collect();
        samples[7].1 = -0.0;
        check(&samples, 0x01, "chunk_decimal2_v1.bin");
    }

    #[test]
    fn golden_xor_chunk_v1() {
        let samples: Vec<(i64, f64)> = (0..50)
            .map(|i| (-5_000 + i * 15_000 + (i & 1) * 7, 1.0 / (i + 3) as f64))
            .chain([
                (1 << 40, f64::INFINITY),
                (1 << 41, stale_nan()),
                (i64::MAX, f64::NEG_INFINITY),
            ])
            .collect();
        check(&samples, 0x12, "chunk_xor_v1.bin");
    }

    #[test]
    fn golden_chunk_with_starts_v1() {
        let t: Vec<i64> = (0..40).map(|i| 1_000_000 + i * 15_000).collect();
        let same = vec![990_000; 40];
        let mut restarted = same.clone();
        restarted[0] = 0;
        restarted[30..].fill(t[30] - 3);
        let delta: Vec<i64> = t.iter().map(|t| t - 15_000).collect();
        let mut rows = Vec::new();
        for starts in [&same, &restarted, &delta] {
            let row = rows.len();
            Chunk::encode(&t, &[1.0; 40], starts).put_row(&mut rows);
            assert_eq!(rows[row], 0x80, "encoding");
        }
        let stored = golden("chunk_starts_v1.bin", &rows);
        let mut reader = Reader::new(&stored);
        for starts in [same, restarted, delta] {
            let mut out = Samples::default();
            ChunkView::get_row(&mut reader).unwrap().decode(&mut out).unwrap();
            assert_eq!((&out.t, &out.start), (&t, &starts));
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-1000i64..1000, 0usize..4).prop_map(|(i, e)| i as f64 / POWERS[e]),
            2 => Just(1.5),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => any::<i64>().prop_map(|i| i as f64),
            1 => prop_oneof![Just(stale_nan()), Just(-0.0), Just(f64::NAN), Just(9007199254740993.0)],
        ]
    }

    fn times() -> impl Strategy<Value = Vec<i64>> {
        let steps = prop_oneof![
            4 => proptest::collection::vec(Just(15_000i64), 1..300),
            3 => proptest::collection::vec(14_990i64..15_010, 1..300),
            1 => proptest::collection::vec(1i64..i64::MAX / 20, 1..16),
        ];
        (any::<i32>(), steps).prop_map(|(first, steps)| {
            let mut t = i64::from(first);
            steps
                .iter()
                .map(|s| {
                    t += s;
                    t
                })
                .collect()
        })
    }

    proptest! {
        /// Bit for bit, because staleness is a NaN payload and `==` would forgive losing it.
        #[test]
        fn a_chunk_returns_what_it_was_given(t in times(), constant in any::<bool>(), seed in proptest::collection::vec(value(), 1..40)) {
            let samples: Vec<(i64, f64)> = t.iter().enumerate()
                .map(|(i, &t)| (t, if constant && i % 30 != 7 { seed[0] } else { seed[i % seed.len()] }))
                .collect();
            let bits: Vec<(i64, u64)> = samples.iter().map(|&(t, v)| (t, v.to_bits())).collect();
            prop_assert_eq!(decode(&row(&samples)).unwrap(), bits);
        }

        /// Damage with a valid checksum cannot be told from data, but it must not panic or eat memory.
        #[test]
        fn garbage_never_panics(encoding in any::<u8>(), count in 0u32..10_000, min in any::<i64>(), span in any::<u64>(),
                                data in proptest::collection::vec(any::<u8>(), 0..80)) {
            let max = min.saturating_add(span.min(i64::MAX as u64) as i64);
            let mut out = Samples::default();
            let chunk = ChunkView { min, max, count, encoding, data: &data };
            if chunk.decode(&mut out).is_err() {
                prop_assert!(out.t.is_empty() && out.v.is_empty());
            } else {
                prop_assert!(out.t.len() == out.v.len() && out.t.is_sorted_by(|a, b| a < b));
            }
            let _ = decode(&data);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let row = row(&[(0, 1.0), (15_000, 2.5), (30_000, -7.0)]);
        for bit in 0..row.len() * 8 {
            let mut damaged = row.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn two_decimal_gauges_take_less_than_two_bytes_a_sample() {
        let (t, v): (Vec<i64>, Vec<f64>) = (0..240)
            .map(|i| (i * 15_000, (250 + (i * 7919) % 97) as f64 / 100.0))
            .unzip();
        assert!(Chunk::encode(&t, &v, &[]).data.len() < 300);
    }
}
