//! Closed chunks of histograms: what they share once, then a column for each number of theirs.
//!
//! # Values of a chunk, encoding 3 (histograms)
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128, `f64` = its bits; bounds and spans as in `histogram.rs`. All
//! histograms of a chunk have one schema, zero threshold and list of bounds, are all counters or all gauges, and all
//! markers of staleness or none.
//!
//! ```text
//! values     = flags u8 · schema iv · zero threshold f64 · bounds
//!              · layout count uv · (spans · spans)* · (run length uv · layout uv)*, until every sample has one
//!              · zero counts · bucket* · counts · sums                                  (each of these is a column)
//! flags      = 1 gauges | 2 the first one was given as a reset | 4 markers
//! bucket     = of each bucket that is in any layout: the positive side's, rising by place, then the negative's;
//!              0 where a sample's layout has it not
//!
//! column     = kind u8 · data
//! kind 0     whole numbers, all the same: iv
//! kind 1     whole numbers by step: first iv · residual column of the steps                        (`residual.rs`)
//! kind 2     whole numbers by change of the step: first iv · first step iv · residual column of the changes
//! kind 3     constant, as values 0 of `chunk.rs`
//! kind 4     decimal, as values 1 of `chunk.rs`
//! kind 5     XOR, as values 2 of `chunk.rs`: len uv · bits
//! kind 6     each the sum of its zero count and buckets, in this order: nothing        (counts only)
//! ```
//!
//! A sample keeps the layout it came with, empty buckets included. Counters of a chunk never fall, so all hints but the
//! first follow from it. A growing layout costs its spans and a column: a histogram that fills one bucket after the
//! other stays in one chunk, and nothing that was written is written again. Golden files:
//! `testdata/chunk_histogram_*_v2.bin`.

use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, ResetHint};
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv};

use crate::chunk::{VALUES_CONSTANT, VALUES_DECIMAL, VALUES_XOR, get_bare_values, put_bare_values};
use crate::histogram::{get_bounds, get_f64, get_spans, put_bounds, put_f64, put_spans};
use crate::histogram_stream::{places_of, whole};
use crate::residual::{self, Residuals};

/// Most numbers of one chunk: a reader refuses more.
const CELLS_MAX: usize = 1 << 20;

const GAUGES: u8 = 1;
const GIVEN_RESET: u8 = 2;
const MARKERS: u8 = 4;

const SAME: u8 = 0;
const STEPS: u8 = 1;
const CHANGES: u8 = 2;
const CONSTANT: u8 = 3;
const DECIMAL: u8 = 4;
const XOR: u8 = 5;
const TOTAL: u8 = 6;

/// A way in which buckets are laid out, with the column of each bucket.
struct Layout {
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
    positive_columns: Vec<usize>,
    negative_columns: Vec<usize>,
}

/// Appends the values of a chunk; all of one shape (see `samples::same_shape`).
pub(crate) fn put_values(out: &mut Vec<u8>, list: &[Arc<Histogram>]) {
    let Some(first) = list.first() else { return };
    let hint = match first.reset {
        ResetHint::Gauge => GAUGES,
        ResetHint::Reset => GIVEN_RESET,
        _ => 0,
    };
    out.push(hint | (u8::from(first.is_stale()) * MARKERS));
    put_iv(out, i64::from(first.schema));
    put_f64(out, first.zero_threshold);
    put_bounds(out, &first.bounds);
    let layouts = put_layouts(out, list);

    let n = list.len();
    let positive = columns(n, layouts.iter().map(|h| &h.positive), list.iter().map(|h| &h.positive));
    let negative = columns(n, layouts.iter().map(|h| &h.negative), list.iter().map(|h| &h.negative));
    let zero_counts: Vec<f64> = list.iter().map(|h| h.zero_count).collect();
    put_column(out, &zero_counts);
    let mut totals = zero_counts;
    for column in positive.chunks_exact(n).chain(negative.chunks_exact(n)) {
        put_column(out, column);
        add_to(&mut totals, column);
    }
    let counts: Vec<f64> = list.iter().map(|h| h.count).collect();
    if counts.iter().zip(&totals).all(|(a, b)| a.to_bits() == b.to_bits()) {
        out.push(TOTAL);
    } else {
        put_column(out, &counts);
    }
    let sums: Vec<f64> = list.iter().map(|h| h.sum).collect();
    put_column(out, &sums);
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
    let (layouts, of_sample, positive, negative) = get_layouts(reader, n)?;
    // Each column takes two bytes at least, and its numbers must be few enough to be worth a chunk.
    let buckets = positive + negative;
    if n == 0 || buckets > reader.remaining().len() / 2 || (buckets + 3).saturating_mul(n) > CELLS_MAX {
        return Err(bad("more buckets than there can be"));
    }
    let zero_counts = get_column(reader, n)?;
    let mut totals = zero_counts.clone();
    let mut side = |buckets: usize| {
        let mut columns = Vec::with_capacity(buckets * n);
        for _ in 0..buckets {
            let column = get_column(reader, n)?;
            add_to(&mut totals, &column);
            columns.extend_from_slice(&column);
        }
        Ok(columns)
    };
    let (positive, negative) = (side(positive)?, side(negative)?);
    let counts = match reader.remaining().first() {
        Some(&TOTAL) => {
            reader.u8()?;
            totals
        }
        _ => get_column(reader, n)?,
    };
    let sums = get_column(reader, n)?;
    for i in 0..n {
        let layout = &layouts[of_sample[i]];
        let reset = match i {
            _ if flags & GAUGES != 0 => ResetHint::Gauge,
            _ if flags & MARKERS != 0 => ResetHint::Unknown,
            0 if flags & GIVEN_RESET != 0 => ResetHint::Reset,
            0 => ResetHint::Unknown,
            _ => ResetHint::NotReset,
        };
        let side = |spans: &[BucketSpan], columns: &[usize], counts: &[f64]| Buckets {
            spans: spans.to_vec(),
            counts: columns.iter().map(|column| counts[column * n + i]).collect(),
        };
        found(Arc::new(Histogram {
            reset,
            schema,
            zero_threshold,
            zero_count: zero_counts[i],
            count: counts[i],
            sum: sums[i],
            positive: side(&layout.positive, &layout.positive_columns, &positive),
            negative: side(&layout.negative, &layout.negative_columns, &negative),
            bounds: bounds.clone(),
        }));
    }
    Ok(())
}

/// Appends the layouts and which sample has which; returns a histogram of each.
fn put_layouts<'a>(out: &mut Vec<u8>, list: &'a [Arc<Histogram>]) -> Vec<&'a Histogram> {
    let mut layouts: Vec<&Histogram> = Vec::new();
    let mut of_sample = Vec::with_capacity(list.len());
    for h in list {
        let same = |known: &&Histogram| same_layout(known, h);
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
    layouts
}

/// Layouts, the layout of each sample, and how many columns either side has.
fn get_layouts(reader: &mut Reader<'_>, n: usize) -> Result<(Vec<Layout>, Vec<usize>, usize, usize), Malformed> {
    let bad = |what| Malformed { at: 0, what };
    let mut spans = Vec::new();
    let mut buckets = 0;
    for _ in 0..reader.count(2)? {
        let (positive, negative) = (get_spans(reader)?, get_spans(reader)?);
        buckets += places_of(&positive).count() + places_of(&negative).count();
        if buckets > CELLS_MAX {
            return Err(bad("more buckets than there can be"));
        }
        spans.push((positive, negative));
    }
    let mut of_sample = Vec::with_capacity(n);
    while of_sample.len() < n {
        let (length, layout) = (reader.uv()?, reader.uv()?);
        if length == 0 || length > (n - of_sample.len()) as u64 || layout >= spans.len() as u64 {
            return Err(bad("impossible run of layouts"));
        }
        of_sample.resize(of_sample.len() + length as usize, layout as usize);
    }
    let positive = places(spans.iter().map(|(positive, _)| &positive[..]));
    let negative = places(spans.iter().map(|(_, negative)| &negative[..]));
    let layouts = spans.into_iter().map(|layout| Layout {
        positive_columns: columns_of(&layout.0, &positive),
        negative_columns: columns_of(&layout.1, &negative),
        positive: layout.0,
        negative: layout.1,
    });
    Ok((layouts.collect(), of_sample, positive.len(), negative.len()))
}

pub(crate) fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.positive.spans == b.positive.spans && a.negative.spans == b.negative.spans
}

/// Every place of any of the layouts, rising.
fn places<'a>(layouts: impl Iterator<Item = &'a [BucketSpan]>) -> Vec<i32> {
    let mut places: Vec<i32> = layouts.flat_map(places_of).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The column of each bucket of a layout.
fn columns_of(spans: &[BucketSpan], places: &[i32]) -> Vec<usize> {
    places_of(spans)
        .filter_map(|place| places.binary_search(&place).ok())
        .collect()
}

/// The counts of a side, one bucket after the other.
fn columns<'a>(
    n: usize,
    layouts: impl Iterator<Item = &'a Buckets>,
    rows: impl Iterator<Item = &'a Buckets>,
) -> Vec<f64> {
    let places = places(layouts.map(|side| &side.spans[..]));
    let mut counts = vec![0.0; places.len() * n];
    let (mut spans, mut columns): (Option<&[BucketSpan]>, Vec<usize>) = (None, Vec::new());
    for (i, side) in rows.enumerate() {
        if spans != Some(&side.spans) {
            columns = columns_of(&side.spans, &places);
            spans = Some(&side.spans);
        }
        for (column, count) in columns.iter().zip(&side.counts) {
            counts[column * n + i] = *count;
        }
    }
    counts
}

fn add_to(totals: &mut [f64], column: &[f64]) {
    for (total, count) in totals.iter_mut().zip(column) {
        *total += count;
    }
}

/// Appends the smallest column that gives these numbers, bit for bit.
fn put_column(out: &mut Vec<u8>, x: &[f64]) {
    if put_whole(out, x) {
        return;
    }
    let at = out.len();
    out.push(0);
    let mut data = Vec::new();
    match put_bare_values(&mut data, x) {
        VALUES_CONSTANT => out[at] = CONSTANT,
        VALUES_DECIMAL => out[at] = DECIMAL,
        _ => {
            out[at] = XOR;
            return put_bytes(out, &data);
        }
    }
    out.extend_from_slice(&data);
}

fn put_whole(out: &mut Vec<u8>, x: &[f64]) -> bool {
    let integer = |i: usize| whole(x[i]).unwrap_or_default();
    if !x.iter().all(|&x| whole(x).is_some()) {
        return false;
    }
    let n = x.len();
    let step = |i: usize| integer(i) - integer(i - 1);
    let steps = || (1..n).map(step);
    if steps().all(|step| step == 0) {
        out.push(SAME);
        put_iv(out, integer(0));
        return true;
    }
    let changes = || (2..n).map(|i| step(i) - step(i - 1));
    let (by_step, by_change) = (residual::measure(steps()), residual::measure(changes()));
    if n > 2 && by_change.bits + 16 < by_step.bits {
        out.push(CHANGES);
        put_iv(out, integer(0));
        put_iv(out, step(1));
        residual::put(out, &by_change, changes());
    } else {
        out.push(STEPS);
        put_iv(out, integer(0));
        residual::put(out, &by_step, steps());
    }
    true
}

fn get_column(reader: &mut Reader<'_>, n: usize) -> Result<Vec<f64>, Malformed> {
    let mut x = Vec::new();
    match reader.u8()? {
        SAME => x.resize(n, reader.iv()? as f64),
        kind @ (STEPS | CHANGES) => {
            let mut integer = reader.iv()?;
            let by_change = kind == CHANGES;
            let mut step = if by_change { reader.iv()? } else { 0 };
            let coded = (n - 1).checked_sub(usize::from(by_change)).ok_or(Malformed {
                at: reader.position(),
                what: "changes of a single number",
            })?;
            let mut residuals = Residuals::open(reader, coded)?;
            x.reserve(n);
            x.push(integer as f64);
            for i in 1..n {
                if !by_change {
                    step = residuals.next()?;
                } else if i > 1 {
                    step = step.wrapping_add(residuals.next()?);
                }
                integer = integer.wrapping_add(step);
                x.push(integer as f64);
            }
        }
        CONSTANT => get_bare_values(reader, VALUES_CONSTANT, n, &mut x)?,
        DECIMAL => get_bare_values(reader, VALUES_DECIMAL, n, &mut x)?,
        XOR => {
            let mut bits = Reader::new(reader.bytes()?);
            get_bare_values(&mut bits, VALUES_XOR, n, &mut x)?;
        }
        _ => {
            return Err(Malformed {
                at: reader.position(),
                what: "unknown encoding of numbers",
            });
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::{counter, histogram};
    use crate::testing::golden;
    use model::CUSTOM_BUCKETS;
    use proptest::prelude::*;

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
    fn golden_chunk_values_v2() {
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
            (whole, "chunk_histogram_whole_v2.bin"),
            (floats, "chunk_histogram_float_v2.bin"),
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

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0i64..1000).prop_map(|i| i as f64),
            2 => Just(7.0),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => (0i64..1000).prop_map(|i| i as f64 / 100.0),
            1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(9_007_199_254_740_993.0), Just(-9_007_199_254_740_992.0)],
        ]
    }

    proptest! {
        #[test]
        fn a_column_returns_what_it_was_given(x in proptest::collection::vec(number(), 1..100), whole in any::<bool>()) {
            let x: Vec<f64> = if whole { x.iter().map(|x| x.abs().min(1e6).trunc()).collect() } else { x };
            let mut out = Vec::new();
            put_column(&mut out, &x);
            let mut reader = Reader::new(&out);
            let back = get_column(&mut reader, x.len()).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
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
        }
    }
}
