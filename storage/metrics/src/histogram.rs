//! Native histograms as bytes: one by one in the WAL, and as the values of a chunk.
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
//! # Values of a chunk
//!
//! All histograms of a chunk have one schema, zero threshold and list of bounds, and are all counters or all gauges.
//!
//! ```text
//! values    = flags u8 · schema iv · zero threshold f64 · bounds
//!             · layout count uv · (spans · spans)* · (run length uv · layout uv)*, until every sample has one · bits
//! flags     = 1 counts are whole · 2 gauges · 4 the first one was given as a reset · 8 staleness markers
//! bits      = of each sample: sum · count · zero count · counts of its layout's buckets, positive, then negative
//!   sum     = XOR against the sum before (`gorilla.rs`); the first 64 bits
//!   a count, whole      = its change's change (zigzag) against this bucket's counts before, the first against 0:
//!                         0 · 10 + 3 bits · 110 + 6 bits · 1110 + 12 bits · 1111 + 64 bits
//!   a count, otherwise  = XOR against this bucket's count before, the first against 0
//! ```
//!
//! A sample keeps the layout it came with, empty buckets included. Golden files: `testdata/histogram_v1.bin`,
//! `testdata/chunk_histogram_*_v1.bin`.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, ResetHint};
use storage_codec::{BitReader, BitWriter, Malformed, Reader, put_iv, put_uv};

use crate::gorilla::{ValueState, unzigzag, zigzag};

/// Most buckets of one histogram.
pub(crate) const BUCKETS_MAX: usize = 1 << 16;

const HINTS: [ResetHint; 4] = [
    ResetHint::Unknown,
    ResetHint::Reset,
    ResetHint::NotReset,
    ResetHint::Gauge,
];
const WHOLE: u8 = 1;
const GAUGE: u8 = 2;
const GIVEN_RESET: u8 = 4;
const STALE: u8 = 8;
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
    }
    if h.bounds.len() > BUCKETS_MAX {
        return Some("it has too many bounds");
    }
    None
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

/// Appends the values of a chunk; all of one shape (see `samples::same_shape`).
pub(crate) fn put_values(out: &mut Vec<u8>, list: &[Arc<Histogram>]) {
    let Some(first) = list.first() else { return };
    let whole = list
        .iter()
        .all(|h| is_whole(h.count) && is_whole(h.zero_count) && sides(h).all(|(_, _, count)| is_whole(count)));
    let mut flags = u8::from(whole) * WHOLE;
    flags |= match first.reset {
        ResetHint::Gauge => GAUGE,
        ResetHint::Reset => GIVEN_RESET,
        _ => 0,
    };
    flags |= u8::from(first.is_stale()) * STALE;
    out.push(flags);
    put_iv(out, i64::from(first.schema));
    put_f64(out, first.zero_threshold);
    put_bounds(out, &first.bounds);

    let mut layouts: Vec<&Histogram> = Vec::new();
    let mut of_sample = Vec::with_capacity(list.len());
    for h in list {
        let same =
            |known: &&Histogram| known.positive.spans == h.positive.spans && known.negative.spans == h.negative.spans;
        // The newest ones are the likeliest.
        let at = layouts.iter().rposition(same).unwrap_or_else(|| {
            layouts.push(h);
            layouts.len() - 1
        });
        of_sample.push(at);
    }
    put_uv(out, layouts.len() as u64);
    for layout in &layouts {
        put_spans(out, &layout.positive.spans);
        put_spans(out, &layout.negative.spans);
    }
    for run in of_sample.chunk_by(|a, b| a == b) {
        put_uv(out, run.len() as u64);
        put_uv(out, run[0] as u64);
    }

    let mut bits = BitWriter::with_capacity(list.len() * 16);
    let mut sums = ValueState::default();
    let mut counts = Counts::new(whole);
    for (i, h) in list.iter().enumerate() {
        if i == 0 {
            sums.put_first(&mut bits, h.sum.to_bits());
        } else {
            sums.put(&mut bits, h.sum.to_bits());
        }
        counts.put(&mut bits, COUNT, h.count);
        counts.put(&mut bits, ZERO, h.zero_count);
        for (side, index, count) in sides(h) {
            counts.put(&mut bits, (side, index), count);
        }
    }
    out.extend_from_slice(bits.as_bytes());
}

/// Reads the values of a chunk of `n` samples and hands them over in order. What follows the first of a run of
/// counters is known to continue it.
pub(crate) fn get_values(
    reader: &mut Reader<'_>,
    n: usize,
    mut found: impl FnMut(Arc<Histogram>),
) -> Result<(), Malformed> {
    let bad = |what| Malformed { at: 0, what };
    let flags = reader.u8()?;
    let schema = i32::try_from(reader.iv()?).map_err(|_| bad("impossible schema"))?;
    let zero_threshold = get_f64(reader)?;
    let bounds = get_bounds(reader)?;
    let mut layouts = Vec::new();
    for _ in 0..reader.count(2)? {
        layouts.push(Layout::of(get_spans(reader)?, get_spans(reader)?));
    }
    let mut of_sample = Vec::with_capacity(n);
    while of_sample.len() < n {
        let (length, layout) = (reader.uv()?, reader.uv()?);
        if length == 0 || length > (n - of_sample.len()) as u64 || layout >= layouts.len() as u64 {
            return Err(bad("impossible run of layouts"));
        }
        of_sample.resize(of_sample.len() + length as usize, layout as usize);
    }
    let data = reader.remaining();
    let mut bits = BitReader::new(data);
    let mut sums = ValueState::default();
    let mut counts = Counts::new(flags & WHOLE != 0);
    for (i, layout) in of_sample.into_iter().enumerate() {
        let layout = &layouts[layout];
        // Each count takes at least a bit.
        if layout.slots.len() > data.len() * 8 - bits.bit_position() {
            return Err(bad("more buckets than there are counts"));
        }
        let sum = match i {
            0 => sums.get_first(&mut bits)?,
            _ => sums.get(&mut bits)?,
        };
        let reset = match (i, flags & GAUGE != 0, flags & STALE != 0) {
            (_, true, _) => ResetHint::Gauge,
            (_, _, true) => ResetHint::Unknown,
            (0, ..) if flags & GIVEN_RESET != 0 => ResetHint::Reset,
            (0, ..) => ResetHint::Unknown,
            _ => ResetHint::NotReset,
        };
        let (count, zero_count) = (counts.get(&mut bits, COUNT)?, counts.get(&mut bits, ZERO)?);
        let mut all = Vec::with_capacity(layout.slots.len());
        for &slot in &layout.slots {
            all.push(counts.get(&mut bits, slot)?);
        }
        let negative = all.split_off(layout.positive_counts);
        let side = |spans: &[BucketSpan], counts| Buckets {
            spans: spans.to_vec(),
            counts,
        };
        found(Arc::new(Histogram {
            reset,
            schema,
            zero_threshold,
            zero_count,
            count,
            sum: f64::from_bits(sum),
            positive: side(&layout.positive, all),
            negative: side(&layout.negative, negative),
            bounds: bounds.clone(),
        }));
    }
    Ok(())
}

/// Bytes of memory of a histogram.
pub(crate) fn bytes_of(h: &Histogram) -> usize {
    let side = |b: &Buckets| b.spans.capacity() * 8 + b.counts.capacity() * 8;
    size_of::<Histogram>() + 16 + side(&h.positive) + side(&h.negative)
}

/// A bucket: its side, and its place there.
type Slot = (u8, i32);
const COUNT: Slot = (2, 0);
const ZERO: Slot = (2, 1);

struct Layout {
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
    slots: Vec<Slot>,
    positive_counts: usize,
}

impl Layout {
    fn of(positive: Vec<BucketSpan>, negative: Vec<BucketSpan>) -> Layout {
        let mut slots = Vec::new();
        push_slots(0, &positive, &mut slots);
        let positive_counts = slots.len();
        push_slots(1, &negative, &mut slots);
        Layout {
            positive,
            negative,
            slots,
            positive_counts,
        }
    }
}

fn push_slots(side: u8, spans: &[BucketSpan], slots: &mut Vec<Slot>) {
    let mut next = 0i32;
    for span in spans {
        next = next.wrapping_add(span.offset);
        for _ in 0..span.length {
            slots.push((side, next));
            next = next.wrapping_add(1);
        }
    }
}

fn sides(h: &Histogram) -> impl Iterator<Item = (u8, i32, f64)> + '_ {
    let positive = h.positive.iter().map(|(i, c)| (0, i, c));
    positive.chain(h.negative.iter().map(|(i, c)| (1, i, c)))
}

/// Where each bucket's stream of counts stands.
struct Counts {
    whole: bool,
    known: BTreeMap<Slot, Place>,
}

#[derive(Default)]
struct Place {
    last: i64,
    step: i64,
    bits: ValueState,
}

impl Counts {
    fn new(whole: bool) -> Counts {
        Counts {
            whole,
            known: BTreeMap::new(),
        }
    }

    fn put(&mut self, bits: &mut BitWriter, slot: Slot, count: f64) {
        let place = self.known.entry(slot).or_default();
        if !self.whole {
            place.bits.put(bits, count.to_bits());
            return;
        }
        let count = count as i64;
        let step = count.wrapping_sub(place.last);
        let change = zigzag(step.wrapping_sub(place.step));
        (place.last, place.step) = (count, step);
        match change {
            0 => bits.put(0, 1),
            1..8 => bits.put(0b10 << 3 | change, 2 + 3),
            8..64 => bits.put(0b110 << 6 | change, 3 + 6),
            64..4096 => bits.put(0b1110 << 12 | change, 4 + 12),
            _ => {
                bits.put(0b1111, 4);
                bits.put(change, 64);
            }
        }
    }

    fn get(&mut self, bits: &mut BitReader<'_>, slot: Slot) -> Result<f64, Malformed> {
        let place = self.known.entry(slot).or_default();
        if !self.whole {
            return Ok(f64::from_bits(place.bits.get(bits)?));
        }
        let change = match bits.ones(4)? {
            0 => 0,
            1 => bits.get(3)?,
            2 => bits.get(6)?,
            3 => bits.get(12)?,
            _ => bits.get(64)?,
        };
        place.step = place.step.wrapping_add(unzigzag(change));
        place.last = place.last.wrapping_add(place.step);
        Ok(place.last as f64)
    }
}

/// Whether a count is one that integers carry, sign of zero included.
fn is_whole(count: f64) -> bool {
    count.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(&count) && !(count == 0.0 && count.is_sign_negative())
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_le_bytes());
}

fn get_f64(reader: &mut Reader<'_>) -> Result<f64, Malformed> {
    reader.u64().map(f64::from_bits)
}

fn put_bounds(out: &mut Vec<u8>, bounds: &[f64]) {
    put_uv(out, bounds.len() as u64);
    bounds.iter().for_each(|&bound| put_f64(out, bound));
}

fn get_bounds(reader: &mut Reader<'_>) -> Result<Arc<[f64]>, Malformed> {
    (0..reader.count(8)?).map(|_| get_f64(reader)).collect()
}

fn put_spans(out: &mut Vec<u8>, spans: &[BucketSpan]) {
    put_uv(out, spans.len() as u64);
    for span in spans {
        put_iv(out, i64::from(span.offset));
        put_uv(out, u64::from(span.length));
    }
}

fn get_spans(reader: &mut Reader<'_>) -> Result<Vec<BucketSpan>, Malformed> {
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

fn length_of(spans: &[BucketSpan]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::golden;
    use model::CUSTOM_BUCKETS;
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

    fn values(list: &[Arc<Histogram>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_values(&mut out, list);
        out
    }

    fn back(bytes: &[u8], n: usize) -> Result<Vec<Arc<Histogram>>, Malformed> {
        let mut out = Vec::new();
        get_values(&mut Reader::new(bytes), n, |h| out.push(h))?;
        Ok(out)
    }

    fn assert_same(a: &[Arc<Histogram>], b: &[Arc<Histogram>]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!(a.same_bits(b), "{a:?}\n{b:?}");
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

    #[test]
    fn golden_chunk_values_v1() {
        let grow = |i: u32| counter(&(0..=i / 10).map(|b| f64::from(i * (b + 1))).collect::<Vec<_>>());
        let whole: Vec<Arc<Histogram>> = (0..40).map(|i| Arc::new(grow(i))).collect();
        let custom = |i: u32| Histogram {
            schema: CUSTOM_BUCKETS,
            zero_threshold: 0.0,
            bounds: Arc::new([0.1, 0.5, 1.0]),
            reset: ResetHint::Gauge,
            ..counter(&[f64::from(i) / 3.0, 2.0])
        };
        let floats: Vec<Arc<Histogram>> = (0..20).map(|i| Arc::new(custom(i))).collect();
        for (list, file) in [
            (whole, "chunk_histogram_whole_v1.bin"),
            (floats, "chunk_histogram_float_v1.bin"),
        ] {
            let stored = golden(file, &values(&list));
            let read = back(&stored, list.len()).unwrap();
            assert_same(&read, &list);
            let gauge = list[0].reset == ResetHint::Gauge;
            assert_eq!(read[0].reset, if gauge { ResetHint::Gauge } else { ResetHint::Unknown });
            assert_eq!(
                read[1].reset,
                if gauge { ResetHint::Gauge } else { ResetHint::NotReset }
            );
        }
    }

    #[test]
    fn a_steady_histogram_takes_few_bytes() {
        let list: Vec<Arc<Histogram>> = (0..100)
            .map(|i| Arc::new(counter(&[f64::from(i) * 3.0, f64::from(i), 10.0, 0.0])))
            .collect();
        let bytes = values(&list).len();
        assert!(bytes < 100 * 5, "{bytes}");
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

        /// Any layouts beside each other, whole or not.
        #[test]
        fn the_values_of_a_chunk_return_as_they_were(list in proptest::collection::vec(histogram(), 1..30), gauge in any::<bool>()) {
            let hint = if gauge { ResetHint::Gauge } else { ResetHint::Unknown };
            let list: Vec<Arc<Histogram>> = list.into_iter().map(|h| Arc::new(Histogram { reset: hint, ..h })).collect();
            assert_same(&back(&values(&list), list.len()).unwrap(), &list);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0usize..9000) {
            let _ = back(&bytes, n);
            let _ = get_histogram(&mut Reader::new(&bytes));
        }
    }
}
