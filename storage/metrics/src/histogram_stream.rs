//! Histograms as a stream of bits, one after the other: the open chunk of a series of native histograms.
//!
//! # One histogram
//!
//! Varbit as in `storage_codec`; times and XOR values as in `gorilla.rs`.
//!
//! ```text
//! histogram = time · sum (XOR) · layout · count · zero count · positive counts · negative counts
//! layout    = 0, that of the histogram before | 1 · spans of the positive side · spans of the negative
//! spans     = count varbit · (offset zigzag varbit · length varbit)*
//! a count   = the change since it was last there, the first from 0: zigzag varbit (whole numbers) | XOR (others)
//! ```
//!
//! A bucket that appears is a new column which was 0 so far, so nothing that was written is written again, however
//! often the layout grows. All histograms of a chunk have one schema, zero threshold and set of bounds, are all gauges
//! or never fall, and have all whole numbers or not: anything else begins a new chunk.

use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, ResetHint};
use storage_codec::{BitReader, BitWriter, Malformed};

use crate::Samples;
use crate::gorilla::{TimeState, ValueState, unzigzag, zigzag};
use crate::histogram::{BUCKETS_MAX, is_whole, length_of};
use crate::histogram_chunk::same_layout;
use crate::samples::same_shape;
use crate::starts::StartRuns;

/// An open chunk of histograms.
#[derive(Clone, Debug)]
pub(crate) struct HistogramStream {
    bits: BitWriter,
    /// The last histogram but for its counts; its hint is the first one's.
    last: Histogram,
    whole: bool,
    first: i64,
    count: u16,
    times: TimeState,
    numbers: Numbers,
    starts: StartRuns,
}

/// Whether a histogram may follow the last one of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It may.
    Joins,
    /// It begins a new chunk.
    Anew,
}

/// Where the stream of numbers stands.
#[derive(Clone, Debug, Default)]
struct Numbers {
    sum: ValueState,
    count: ValueState,
    zero_count: ValueState,
    positive: Side,
    negative: Side,
}

/// Columns of one side.
#[derive(Clone, Debug, Default)]
struct Side {
    /// Every bucket that was ever there, rising by place, with its column.
    places: Vec<(i32, u32)>,
    values: Vec<ValueState>,
    /// The columns of the layout of the last histogram.
    columns: Vec<u32>,
}

impl HistogramStream {
    /// Begins with a histogram.
    pub(crate) fn new(t: i64, h: &Histogram, start: i64) -> HistogramStream {
        let mut stream = HistogramStream {
            bits: BitWriter::with_capacity(64),
            last: Histogram {
                // What a sender believes of the sample before is found out anew: another one may come between.
                reset: match h.reset {
                    ResetHint::NotReset => ResetHint::Unknown,
                    hint => hint,
                },
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                sum: h.sum,
                bounds: h.bounds.clone(),
                ..Histogram::stale()
            },
            whole: all_whole(h),
            first: t,
            count: 0,
            times: TimeState::default(),
            numbers: Numbers::default(),
            starts: StartRuns::default(),
        };
        stream.push(t, h, start);
        stream
    }

    /// Whether `h` may follow.
    pub(crate) fn fit(&self, h: &Histogram) -> Fit {
        let continues = same_shape(&self.last, h)
            && (h.reset == ResetHint::Gauge || h.is_stale() || !self.falls(h))
            && self.whole == all_whole(h);
        if continues { Fit::Joins } else { Fit::Anew }
    }

    /// Whether a counter of the same shape began anew.
    fn falls(&self, h: &Histogram) -> bool {
        let numbers = &self.numbers;
        h.reset == ResetHint::Reset
            || h.count < value(&numbers.count, self.whole)
            || h.zero_count < value(&numbers.zero_count, self.whole)
            || numbers.positive.falls(self.whole, &self.last.positive, &h.positive)
            || numbers.negative.falls(self.whole, &self.last.negative, &h.negative)
    }

    /// Appends a histogram that is later than the last and fits.
    pub(crate) fn push(&mut self, t: i64, h: &Histogram, start: i64) {
        self.starts.push(self.count, start);
        let (whole, bits, numbers) = (self.whole, &mut self.bits, &mut self.numbers);
        if self.count == 0 {
            self.times.put_first(bits, t);
            numbers.sum.put_first(bits, h.sum.to_bits());
        } else {
            self.times.put(bits, t);
            numbers.sum.put(bits, h.sum.to_bits());
        }
        let same = same_layout(&self.last, h);
        bits.put(u64::from(!same), 1);
        if !same {
            put_spans(bits, &h.positive.spans);
            put_spans(bits, &h.negative.spans);
            self.last.positive.spans.clone_from(&h.positive.spans);
            self.last.negative.spans.clone_from(&h.negative.spans);
            numbers.positive.lay_out(&h.positive.spans);
            numbers.negative.lay_out(&h.negative.spans);
        }
        put(&mut numbers.count, whole, bits, h.count);
        put(&mut numbers.zero_count, whole, bits, h.zero_count);
        numbers.positive.put(whole, bits, &h.positive.counts);
        numbers.negative.put(whole, bits, &h.negative.counts);
        self.last.sum = h.sum;
        self.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Numbers in all its histograms together.
    pub(crate) fn cells(&self) -> usize {
        self.count() * self.numbers.columns()
    }

    /// Time of the first histogram.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Time of the last histogram.
    pub(crate) fn last(&self) -> i64 {
        self.times.last()
    }

    /// The last histogram, put together again.
    pub(crate) fn last_histogram(&self) -> Histogram {
        self.numbers.histogram(&self.last, self.whole)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let spans = self.last.positive.spans.capacity() + self.last.negative.spans.capacity();
        size_of::<HistogramStream>()
            + self.bits.capacity()
            + self.numbers.columns() * (size_of::<ValueState>() + 12)
            + spans * 8
            + self.last.bounds.len() * 8
            + self.starts.bytes()
    }

    /// Appends all histograms to `out`.
    pub(crate) fn decode(&self, out: &mut Samples) -> Result<(), Malformed> {
        let column = &mut out.histograms;
        let base = column.t.len();
        let mut bits = BitReader::new(self.bits.as_bytes());
        let (mut times, mut numbers) = (TimeState::default(), Numbers::default());
        let mut last = Histogram {
            positive: Buckets::default(),
            negative: Buckets::default(),
            ..self.last.clone()
        };
        for i in 0..self.count {
            let (t, sum) = if i == 0 {
                (times.get_first(&mut bits)?, numbers.sum.get_first(&mut bits)?)
            } else {
                (times.get(&mut bits)?, numbers.sum.get(&mut bits)?)
            };
            if bits.bit()? {
                last.positive.spans = get_spans(&mut bits)?;
                last.negative.spans = get_spans(&mut bits)?;
                numbers.positive.lay_out(&last.positive.spans);
                numbers.negative.lay_out(&last.negative.spans);
            }
            last.sum = f64::from_bits(sum);
            get(&mut numbers.count, self.whole, &mut bits)?;
            get(&mut numbers.zero_count, self.whole, &mut bits)?;
            numbers.positive.get(self.whole, &mut bits)?;
            numbers.negative.get(self.whole, &mut bits)?;
            column.t.push(t);
            column.h.push(Arc::new(numbers.histogram(&last, self.whole)));
            if last.reset != ResetHint::Gauge && !last.is_stale() {
                last.reset = ResetHint::NotReset;
            }
        }
        self.starts.expand(base, self.count(), &mut column.start);
        Ok(())
    }
}

impl Numbers {
    fn columns(&self) -> usize {
        self.positive.values.len() + self.negative.values.len() + 3
    }

    fn histogram(&self, last: &Histogram, whole: bool) -> Histogram {
        Histogram {
            count: value(&self.count, whole),
            zero_count: value(&self.zero_count, whole),
            positive: self.positive.buckets(whole, &last.positive.spans),
            negative: self.negative.buckets(whole, &last.negative.spans),
            bounds: last.bounds.clone(),
            ..*last
        }
    }
}

impl Side {
    /// Finds or makes the column of each bucket of a layout.
    fn lay_out(&mut self, spans: &[BucketSpan]) {
        self.columns.clear();
        let mut new = Vec::new();
        for place in places_of(spans) {
            let column = match self.places.binary_search_by_key(&place, |&(place, _)| place) {
                Ok(at) => self.places[at].1,
                Err(_) => {
                    let column = self.values.len() as u32;
                    self.values.push(ValueState::default());
                    new.push((place, column));
                    column
                }
            };
            self.columns.push(column);
        }
        if !new.is_empty() {
            self.places.extend(new);
            self.places.sort_unstable();
        }
    }

    fn put(&mut self, whole: bool, bits: &mut BitWriter, counts: &[f64]) {
        for (&column, &count) in self.columns.iter().zip(counts) {
            put(&mut self.values[column as usize], whole, bits, count);
        }
    }

    fn get(&mut self, whole: bool, bits: &mut BitReader<'_>) -> Result<(), Malformed> {
        for &column in &self.columns {
            get(&mut self.values[column as usize], whole, bits)?;
        }
        Ok(())
    }

    /// Whether a bucket has fewer observations than it had, or is gone. (One that is in no layout now had none.)
    fn falls(&self, whole: bool, last: &Buckets, next: &Buckets) -> bool {
        let before = self
            .columns
            .iter()
            .map(|&column| value(&self.values[column as usize], whole));
        if last.spans == next.spans {
            return before.zip(&next.counts).any(|(before, count)| *count < before);
        }
        let mut next = next.iter().peekable();
        places_of(&last.spans).zip(before).any(|(place, before)| {
            while next.next_if(|&(p, _)| p < place).is_some() {}
            let count = next.next_if(|&(p, _)| p == place);
            count.map_or(before != 0.0, |(_, count)| count < before)
        })
    }

    fn buckets(&self, whole: bool, spans: &[BucketSpan]) -> Buckets {
        let counts = self
            .columns
            .iter()
            .map(|&column| value(&self.values[column as usize], whole));
        Buckets {
            spans: spans.to_vec(),
            counts: counts.collect(),
        }
    }
}

/// The places of the buckets of a side.
pub(crate) fn places_of(spans: &[BucketSpan]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0i32;
    spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add(span.length as i32);
        (0..span.length).map(move |i| first.wrapping_add(i as i32))
    })
}

/// The integer that is exactly this number, if a float can count up to it one by one.
pub(crate) fn whole(x: f64) -> Option<i64> {
    let integer = x as i64;
    (integer.unsigned_abs() <= 1 << 53 && (integer as f64).to_bits() == x.to_bits()).then_some(integer)
}

fn all_whole(h: &Histogram) -> bool {
    let counts = h.positive.counts.iter().chain(&h.negative.counts).copied();
    [h.count, h.zero_count].into_iter().chain(counts).all(is_whole)
}

fn value(state: &ValueState, whole: bool) -> f64 {
    if whole {
        state.last() as i64 as f64
    } else {
        f64::from_bits(state.last())
    }
}

fn put(state: &mut ValueState, whole: bool, bits: &mut BitWriter, x: f64) {
    if whole {
        let integer = x as i64;
        bits.put_varbit(zigzag(integer.wrapping_sub(state.last() as i64)));
        state.set_last(integer as u64);
    } else {
        state.put(bits, x.to_bits());
    }
}

fn get(state: &mut ValueState, whole: bool, bits: &mut BitReader<'_>) -> Result<(), Malformed> {
    if whole {
        let integer = (state.last() as i64).wrapping_add(unzigzag(bits.varbit()?));
        state.set_last(integer as u64);
    } else {
        state.get(bits)?;
    }
    Ok(())
}

fn put_spans(bits: &mut BitWriter, spans: &[BucketSpan]) {
    bits.put_varbit(spans.len() as u64);
    for span in spans {
        bits.put_varbit(zigzag(i64::from(span.offset)));
        bits.put_varbit(u64::from(span.length));
    }
}

fn get_spans(bits: &mut BitReader<'_>) -> Result<Vec<BucketSpan>, Malformed> {
    let bad = Malformed {
        at: bits.bit_position() / 8,
        what: "impossible span of buckets",
    };
    let mut spans = Vec::new();
    for _ in 0..bits.varbit()? {
        let (offset, length) = (i32::try_from(unzigzag(bits.varbit()?)), u32::try_from(bits.varbit()?));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::{counter, histogram};
    use model::CUSTOM_BUCKETS;
    use proptest::prelude::*;

    fn stream(list: &[Histogram]) -> HistogramStream {
        let mut stream = HistogramStream::new(0, &list[0], 0);
        for (i, h) in (0..).zip(list).skip(1) {
            assert_eq!(stream.fit(h), Fit::Joins);
            stream.push(i, h, 7);
        }
        stream
    }

    proptest! {
        /// As far as they fit into one chunk, they come back as they were, whichever buckets come and go.
        #[test]
        fn a_stream_returns_what_it_was_given(list in proptest::collection::vec((histogram(), -9i64..9), 1..40), gauge in any::<bool>(), round in any::<bool>()) {
            let mut given: Vec<(Histogram, i64)> = Vec::new();
            let mut stream: Option<HistogramStream> = None;
            for (t, (mut h, start)) in (0..).zip(list) {
                h.reset = if gauge { ResetHint::Gauge } else { ResetHint::Unknown };
                if round {
                    h.positive.counts.iter_mut().chain(&mut h.negative.counts).for_each(|c| *c = if *c > 0.0 { c.min(9e9).trunc() } else { 0.0 });
                }
                match &mut stream {
                    Some(stream) if stream.fit(&h) == Fit::Joins => stream.push(t, &h, start),
                    Some(_) => continue,
                    None => stream = Some(HistogramStream::new(t, &h, start)),
                }
                given.push((h, start));
            }
            let stream = stream.unwrap();
            let mut out = Samples::default();
            stream.decode(&mut out).unwrap();
            prop_assert_eq!(out.histograms.h.len(), given.len());
            for (i, (h, start)) in given.iter().enumerate() {
                let back = &out.histograms.h[i];
                prop_assert!(back.same_bits(h), "{:?} {:?}", back, h);
                prop_assert_eq!(&back.positive.spans, &h.positive.spans);
                prop_assert_eq!(out.histograms.start_of(i), *start);
                if i > 0 && back.reset == ResetHint::NotReset {
                    prop_assert!(!h.is_reset_after(&given[i - 1].0));
                }
            }
            prop_assert!(stream.last_histogram().same_bits(&given[given.len() - 1].0));
        }
    }

    #[test]
    fn what_does_not_fit_begins_anew() {
        use ResetHint::{Gauge, NotReset, Reset};
        let before = counter(&[2.0, 0.0, 4.0]);
        let hinted = |reset, counts: &[f64]| Histogram {
            reset,
            ..counter(counts)
        };
        let but = |change: fn(&mut Histogram)| {
            let mut h = before.clone();
            change(&mut h);
            h
        };
        let cases = [
            (counter(&[2.0, 1.0, 4.0, 0.0, 7.0]), Fit::Joins),
            (hinted(NotReset, &[2.0, 0.0, 4.0]), Fit::Joins),
            (
                but(|h| h.positive = Buckets::from_indexed([(0, 2.0), (2, 4.0)])),
                Fit::Joins,
            ),
            (hinted(Reset, &[3.0, 1.0, 4.0]), Fit::Anew),
            (hinted(NotReset, &[1.0, 0.0, 9.0]), Fit::Anew),
            (but(|h| h.positive = Buckets::from_indexed([(2, 9.0)])), Fit::Anew),
            (counter(&[2.0, 0.5, 4.0]), Fit::Anew),
            (hinted(Gauge, &[2.0, 0.0, 4.0]), Fit::Anew),
            (Histogram::stale(), Fit::Anew),
            (but(|h| h.schema = 1), Fit::Anew),
            (but(|h| h.zero_threshold = 1.0), Fit::Anew),
            (but(|h| h.bounds = Arc::new([1.0])), Fit::Anew),
            (but(|h| h.schema = CUSTOM_BUCKETS), Fit::Anew),
        ];
        for (h, fit) in cases {
            assert_eq!(stream(std::slice::from_ref(&before)).fit(&h), fit, "{h:?}");
        }
        let gauge = stream(&[hinted(Gauge, &[5.0, 1.0]), hinted(Gauge, &[0.0])]);
        assert_eq!(gauge.fit(&hinted(Gauge, &[1.0])), Fit::Joins);
        assert_eq!(stream(&[Histogram::stale()]).fit(&before), Fit::Anew);
    }

    #[test]
    fn a_quiet_histogram_costs_little_more_than_a_bit_a_bucket() {
        let buckets: Vec<f64> = (0..40).map(|i| 100.0 + f64::from(i)).collect();
        let bytes = stream(&vec![counter(&buckets); 240]).bytes();
        assert!(bytes < 240 * 12 + 40 * 30 + 1000, "{bytes}");
    }
}
