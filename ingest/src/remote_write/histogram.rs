//! Native histograms as both versions of remote write send them.
//!
//!     Histogram   1 count u64 | 2 count double, 3 sum double, 4 schema sint32, 5 zero_threshold double,
//!                 6 zero_count u64 | 7 zero_count double, 8 negative_spans*, 9 negative_deltas sint64*,
//!                 10 negative_counts double*, 11 positive_spans*, 12 positive_deltas sint64*,
//!                 13 positive_counts double*, 14 reset_hint, 15 timestamp int64 ms, 16 custom_values double*,
//!                 17 start_timestamp int64 ms (version 2)
//!     BucketSpan  1 offset sint32, 2 length u32
//!
//! A histogram whose count is an integer has bucket counts as differences to the bucket before; one whose count is a
//! float has them as they are. What does not fit together is refused with a reason; the request goes on.

use std::sync::Arc;

use model::{BadHistogram, BucketSpan, Buckets, Histogram, HistogramSample, ResetHint, TimestampMs};

use crate::wire::{BadWire, Field, Fields, put_bytes, put_fixed64, put_number, put_varint, unzigzag};

/// Buckets of one side that are read; schema 8 spans a factor of 2^256 with them.
const BUCKETS_MAX: usize = 65_536;
/// The finest schema that is stored, and the finest that is understood and reduced to it.
const SCHEMA_MAX: i32 = 8;
const SCHEMA_REDUCED_MAX: i32 = 52;

/// Why a histogram is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(transparent)]
    Bad(#[from] BadHistogram),
    #[error("{0} buckets and the zero bucket hold {1} observations, the count says {2}")]
    Count(usize, f64, f64),
    #[error("more than {BUCKETS_MAX} buckets on one side")]
    TooMany,
}

/// Reads one histogram, which is sound or unfit for a reason.
pub(crate) fn read_histogram(message: &[u8]) -> Result<Result<HistogramSample, Unfit>, BadWire> {
    let mut reading = Reading::default();
    for field in Fields::new(message) {
        reading.field(&field?)?;
    }
    Ok(reading.finish())
}

/// A histogram's fields so far.
#[derive(Default)]
struct Reading {
    is_float: bool,
    count: f64,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    negative: Side,
    positive: Side,
    reset: ResetHint,
    t: i64,
    start: i64,
    bounds: Vec<f64>,
    too_many: bool,
}

/// One side's buckets as sent.
#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    /// Absolute, from the differences; an overflow stays negative and is refused.
    whole: Vec<f64>,
    last: i64,
    floats: Vec<f64>,
}

impl Reading {
    fn field(&mut self, field: &Field<'_>) -> Result<(), BadWire> {
        match field.number {
            1 => (self.is_float, self.count) = (false, field.varint()? as f64),
            2 => (self.is_float, self.count) = (true, field.double()?),
            3 => self.sum = field.double()?,
            4 => self.schema = field.sint32()?,
            5 => self.zero_threshold = field.double()?,
            6 => self.zero_count = field.varint()? as f64,
            7 => self.zero_count = field.double()?,
            8 => self.negative.span(field.bytes()?)?,
            9 => self.negative.deltas(field)?,
            10 => field.each_fixed64(|v| self.negative.floats.push(f64::from_bits(v)))?,
            11 => self.positive.span(field.bytes()?)?,
            12 => self.positive.deltas(field)?,
            13 => field.each_fixed64(|v| self.positive.floats.push(f64::from_bits(v)))?,
            14 => {
                self.reset = match field.varint()? {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NotReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            15 => self.t = field.varint()? as i64,
            16 => field.each_fixed64(|v| self.bounds.push(f64::from_bits(v)))?,
            17 => self.start = field.varint()? as i64,
            _ => {}
        }
        self.too_many |=
            self.positive.len() > BUCKETS_MAX || self.negative.len() > BUCKETS_MAX || self.bounds.len() > BUCKETS_MAX;
        Ok(())
    }

    fn finish(self) -> Result<HistogramSample, Unfit> {
        if self.too_many {
            return Err(Unfit::TooMany);
        }
        let reduced = self.schema > SCHEMA_MAX && self.schema <= SCHEMA_REDUCED_MAX;
        let mut histogram = Histogram {
            reset: self.reset,
            schema: if reduced { SCHEMA_MAX } else { self.schema },
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: self.positive.buckets(self.is_float),
            negative: self.negative.buckets(self.is_float),
            bounds: self.bounds.into(),
        };
        histogram.validate()?;
        if !self.is_float {
            check_count(&histogram)?;
        }
        if reduced {
            histogram.schema = self.schema;
            histogram.reduce_to(SCHEMA_MAX);
        }
        Ok(HistogramSample {
            t: TimestampMs(self.t),
            start: TimestampMs(self.start),
            histogram: Arc::new(histogram),
        })
    }
}

/// Integer buckets hold what the count says; NaN observations are in no bucket but make the sum NaN. Float ones are not
/// compared, for sums of floats need not agree.
pub(crate) fn check_count(histogram: &Histogram) -> Result<(), Unfit> {
    let held = histogram.positive.total() + histogram.negative.total() + histogram.zero_count;
    let fits = if histogram.sum.is_nan() {
        held <= histogram.count
    } else {
        held == histogram.count
    };
    if fits {
        return Ok(());
    }
    let buckets = histogram.positive.counts.len() + histogram.negative.counts.len();
    Err(Unfit::Count(buckets, held, histogram.count))
}

fn zigzag(v: i64) -> u64 {
    (v << 1 ^ v >> 63) as u64
}

/// A histogram message, integer or float, as a sender writes it.
pub(crate) fn write_histogram(h: &Histogram, t: i64, start: i64, is_float: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if is_float {
        put_fixed64(&mut out, 2, h.count.to_bits());
        put_fixed64(&mut out, 7, h.zero_count.to_bits());
    } else {
        put_number(&mut out, 1, h.count as u64);
        put_number(&mut out, 6, h.zero_count as u64);
    }
    put_fixed64(&mut out, 3, h.sum.to_bits());
    put_number(&mut out, 4, zigzag(i64::from(h.schema)));
    put_fixed64(&mut out, 5, h.zero_threshold.to_bits());
    for (first, side) in [(8, &h.negative), (11, &h.positive)] {
        for s in &side.spans {
            let mut span = Vec::new();
            put_number(&mut span, 1, zigzag(i64::from(s.offset)));
            put_number(&mut span, 2, u64::from(s.length));
            put_bytes(&mut out, first, &span);
        }
        let mut packed = Vec::new();
        if is_float {
            side.counts
                .iter()
                .for_each(|c| packed.extend_from_slice(&c.to_le_bytes()));
            put_bytes(&mut out, first + 2, &packed);
        } else {
            let mut last = 0;
            for c in &side.counts {
                put_varint(&mut packed, zigzag(*c as i64 - last));
                last = *c as i64;
            }
            put_bytes(&mut out, first + 1, &packed);
        }
    }
    let hint = [
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ];
    put_number(
        &mut out,
        14,
        hint.iter().position(|r| *r == h.reset).unwrap_or(0) as u64,
    );
    put_number(&mut out, 15, t as u64);
    let bounds: Vec<u8> = h.bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
    put_bytes(&mut out, 16, &bounds);
    put_number(&mut out, 17, start as u64);
    out
}

impl Side {
    fn len(&self) -> usize {
        self.spans.len().max(self.whole.len()).max(self.floats.len())
    }

    fn span(&mut self, message: &[u8]) -> Result<(), BadWire> {
        let mut span = BucketSpan { offset: 0, length: 0 };
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => span.offset = field.sint32()?,
                2 => span.length = field.varint()? as u32,
                _ => {}
            }
        }
        if self.spans.len() <= BUCKETS_MAX {
            self.spans.push(span);
        }
        Ok(())
    }

    fn deltas(&mut self, field: &Field<'_>) -> Result<(), BadWire> {
        field.each_varint(|v| {
            // Saturated in either direction it cannot be a count any more.
            self.last = self.last.checked_add(unzigzag(v)).unwrap_or(i64::MIN);
            if self.whole.len() <= BUCKETS_MAX {
                self.whole.push(self.last as f64);
            }
        })
    }

    fn buckets(self, is_float: bool) -> Buckets {
        Buckets {
            spans: self.spans,
            counts: if is_float { self.floats } else { self.whole },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use model::CUSTOM_BUCKETS;
    use proptest::prelude::*;

    use super::*;

    /// A sound histogram: 1 in the zero bucket, 2 and 3 above, 4 below.
    pub fn sound() -> Histogram {
        Histogram {
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 10.0,
            sum: 7.5,
            positive: Buckets::from_indexed([(-2, 2.0), (3, 3.0)]),
            negative: Buckets::from_indexed([(1, 4.0)]),
            ..Histogram::stale()
        }
    }

    fn custom(bounds: &[f64]) -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS,
            count: 5.0,
            sum: 7.5,
            positive: Buckets::from_indexed([(0, 2.0), (2, 3.0)]),
            bounds: bounds.into(),
            ..Histogram::stale()
        }
    }

    fn read(h: &Histogram, is_float: bool) -> Result<HistogramSample, Unfit> {
        read_histogram(&write_histogram(h, 5, 3, is_float)).unwrap()
    }

    #[test]
    fn what_is_sound_is_taken_as_it_is() {
        let stale = Histogram::stale();
        for h in [sound(), custom(&[0.5, 1.0]), custom(&[-1.0, 0.0, 9.0])] {
            for is_float in [false, true] {
                let got = read(&h, is_float).unwrap();
                assert_eq!((got.t.0, got.start.0, &*got.histogram), (5, 3, &h));
            }
        }
        assert!(read(&stale, false).unwrap().histogram.is_stale());
        let hinted = Histogram {
            reset: ResetHint::Gauge,
            ..sound()
        };
        assert_eq!(read(&hinted, true).unwrap().histogram.reset, ResetHint::Gauge);
    }

    #[test]
    fn fine_schemas_become_8_and_unknown_ones_are_refused() {
        for schema in [9, 12, 52] {
            let got = read(&Histogram { schema, ..sound() }, false).unwrap();
            let want = {
                let mut h = Histogram { schema, ..sound() };
                h.reduce_to(8);
                h
            };
            assert_eq!((got.histogram.schema, &*got.histogram), (8, &want));
            assert_eq!(got.histogram.positive.total(), 5.0);
        }
        for schema in [-5, 53, -54, i32::MAX, i32::MIN] {
            let got = read(&Histogram { schema, ..sound() }, false).unwrap_err();
            assert_eq!(got, Unfit::Bad(BadHistogram::Schema(schema)));
        }
    }

    #[test]
    fn what_does_not_fit_together_has_a_reason() {
        let change = |f: fn(&mut Histogram)| {
            let mut h = sound();
            f(&mut h);
            h
        };
        let check = |what: Histogram, is_float: bool, want: &str| {
            let got = read(&what, is_float).unwrap_err().to_string();
            assert!(got.contains(want), "{got:?} lacks {want:?}");
        };
        check(
            change(|h| h.count = 11.0),
            false,
            "hold 10 observations, the count says 11",
        );
        check(
            change(|h| (h.sum, h.count) = (f64::NAN, 9.0)),
            false,
            "the count says 9",
        );
        check(
            change(|h| h.positive.counts[1] = -1.0),
            true,
            "counts are numbers from 0 up",
        );
        check(
            change(|h| h.positive.counts[1] = -1.0),
            false,
            "counts are numbers from 0 up",
        );
        check(change(|h| h.zero_count = -1.0), true, "the zero bucket is -1");
        check(change(|h| h.count = -1.0), true, "the count is -1");
        check(
            change(|h| h.positive.spans[0].length = 2),
            false,
            "spans hold 3 buckets, there are 2",
        );
        check(
            change(|h| h.positive.spans[1].offset = -3),
            false,
            "only a first span may go back",
        );
        check(change(|h| h.bounds = [1.0].into()), false, "custom bounds beside");
        check(custom(&[1.0, 1.0]), false, "must be finite and rise");
        check(custom(&[1.0, f64::NAN]), false, "must be finite and rise");
        check(custom(&[1.0, f64::INFINITY]), false, "must be finite and rise");
        check(custom(&[1.0]), false, "a custom bucket without a bound");
        let with_zero = Histogram {
            zero_count: 1.0,
            count: 6.0,
            ..custom(&[1.0, 2.0])
        };
        check(with_zero, false, "a zero bucket beside custom buckets");
        let with_negative = Histogram {
            negative: Buckets::from_indexed([(1, 1.0)]),
            ..custom(&[1.0, 2.0])
        };
        check(with_negative, false, "negative buckets beside custom buckets");
        // NaN observations are counted but lie in no bucket; float counts need not add up.
        assert!(read(&change(|h| (h.sum, h.count) = (f64::NAN, 12.0)), false).is_ok());
        assert!(read(&change(|h| h.count = 10.5), true).is_ok());
    }

    #[test]
    fn sizes_are_bounded() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1, 0);
        put_bytes(&mut bytes, 12, &vec![0; BUCKETS_MAX + 1]);
        assert_eq!(read_histogram(&bytes).unwrap().unwrap_err(), Unfit::TooMany);
        let mut overflow = Vec::new();
        let mut packed = Vec::new();
        put_varint(&mut packed, zigzag(i64::MAX));
        put_varint(&mut packed, zigzag(i64::MAX));
        put_bytes(&mut overflow, 12, &packed);
        let mut span = Vec::new();
        put_number(&mut span, 2, 2);
        put_bytes(&mut overflow, 11, &span);
        assert!(matches!(
            read_histogram(&overflow).unwrap(),
            Err(Unfit::Bad(BadHistogram::Count { .. }))
        ));
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_histogram(&bytes);
        }

        /// What a sender wrote is what is stored, integer or float.
        #[test]
        fn histograms_return(
            up in proptest::collection::btree_map(-500i32..500, 0u32..1000, 0..30),
            down in proptest::collection::btree_map(-500i32..500, 0u32..1000, 0..30),
            zero in 0u32..9, sum in any::<f64>(), schema in -4i32..=8, is_float in any::<bool>(),
        ) {
            let indexed = |m: std::collections::BTreeMap<i32, u32>| Buckets::from_indexed(m.into_iter().map(|(i, c)| (i, f64::from(c))));
            let (positive, negative) = (indexed(up), indexed(down));
            let h = Histogram {
                schema,
                zero_threshold: 1e-128,
                zero_count: f64::from(zero),
                count: positive.total() + negative.total() + f64::from(zero),
                sum: if sum.is_nan() { 0.0 } else { sum },
                positive,
                negative,
                ..Histogram::stale()
            };
            let got = read(&h, is_float).unwrap();
            prop_assert_eq!(&*got.histogram, &h);
        }
    }
}
