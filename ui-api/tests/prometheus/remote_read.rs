//! Remote read over real storage. What is answered is read by a decoder of its own, written from the description of the
//! formats: protobuf fields, frames, XOR and histogram chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lab::{Answer, Lab, NOW, ask};
use axum::body::Body;
use http::{Request, StatusCode};
use model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS, Histogram, HistogramSample, LabelSet, ResetHint, SampleBatch, TimestampMs,
    stale_nan,
};

/// Fields of a message: numbers with their varint, fixed or bytes value.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let tag = uvarint(&mut bytes);
        let value = match tag & 7 {
            0 => Field::Number(uvarint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Number(u64::from_le_bytes(number.try_into().unwrap()))
            }
            2 => {
                let len = uvarint(&mut bytes) as usize;
                let (text, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(text.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        out.push((tag >> 3, value));
    }
    out
}

fn uvarint(bytes: &mut &[u8]) -> u64 {
    let (mut out, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        out |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return out;
        }
        shift += 7;
    }
}

fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// The messages or texts of one field.
fn each(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    fields(message)
        .into_iter()
        .filter(|(n, _)| *n == field)
        .map(|(_, value)| match value {
            Field::Bytes(b) => b,
            Field::Number(n) => panic!("{n} is no message"),
        })
        .collect()
}

fn number(message: &[u8], field: u64) -> u64 {
    let found = fields(message).into_iter().find(|(n, _)| *n == field);
    found.map_or(0, |(_, value)| match value {
        Field::Number(n) => n,
        Field::Bytes(_) => panic!("{field} is no number"),
    })
}

fn labels(series: &[u8]) -> String {
    let pairs = each(series, 1).into_iter().map(|label| {
        let text = |field| String::from_utf8(each(&label, field).concat()).unwrap();
        format!("{}={}", text(1), text(2))
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// Bits, the most significant first.
struct Bits<'a>(&'a [u8], usize);

impl Bits<'_> {
    fn get(&mut self, n: usize) -> u64 {
        (0..n).fold(0, |out, _| {
            let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
            self.1 += 1;
            out << 1 | u64::from(bit)
        })
    }

    /// How many ones come before a zero, at most `max`.
    fn ones(&mut self, max: usize) -> usize {
        (0..max).take_while(|_| self.get(1) == 1).count()
    }

    fn signed(&mut self, n: usize) -> i64 {
        let x = self.get(n) as i64;
        if n == 64 || x <= 1 << (n - 1) { x } else { x - (1 << n) }
    }

    fn varbit(&mut self) -> i64 {
        match self.ones(8) {
            0 => 0,
            i => self.signed([3, 6, 9, 12, 18, 25, 56, 64][i - 1]),
        }
    }

    fn varbit_unsigned(&mut self) -> u64 {
        match self.ones(8) {
            0 => 0,
            i => self.get([3, 6, 9, 12, 18, 25, 56, 64][i - 1]),
        }
    }

    fn uvarint(&mut self) -> u64 {
        let (mut out, mut shift) = (0, 0);
        loop {
            let byte = self.get(8);
            out |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return out;
            }
            shift += 7;
        }
    }

    fn xor(&mut self, state: &mut (u64, usize, usize)) -> u64 {
        if self.get(1) == 1 {
            if self.get(1) == 1 {
                state.1 = self.get(5) as usize;
                let length = match self.get(6) as usize {
                    0 => 64,
                    n => n,
                };
                state.2 = 64 - state.1 - length;
            }
            state.0 ^= self.get(64 - state.1 - state.2) << state.2;
        }
        state.0
    }
}

fn xor_chunk(data: &[u8]) -> Vec<(i64, u64)> {
    let count = u16::from_be_bytes([data[0], data[1]]);
    let mut bits = Bits(data, 16);
    let (mut t, mut delta) = (0, 0);
    let mut value = (0, 0, 0);
    (0..count)
        .map(|i| {
            match i {
                0 => t = zigzag(bits.uvarint()),
                1 => delta = bits.uvarint() as i64,
                _ => {
                    delta += match bits.ones(4) {
                        0 => 0,
                        i => bits.signed([14, 17, 20, 64][i - 1]),
                    }
                }
            }
            t += delta;
            if i == 0 {
                value.0 = bits.get(64);
            } else {
                bits.xor(&mut value);
            }
            (t, value.0)
        })
        .collect()
}

/// The histograms of a chunk; the first has the chunk's hint.
fn histogram_chunk(data: &[u8], is_float: bool) -> Vec<(i64, Histogram)> {
    let count = u16::from_be_bytes([data[0], data[1]]);
    let hint = match data[2] >> 6 {
        0b00 => ResetHint::Unknown,
        0b01 => ResetHint::NotReset,
        0b10 => ResetHint::Reset,
        _ => ResetHint::Gauge,
    };
    let mut bits = Bits(data, 24);
    let zero_threshold = match bits.get(8) {
        0 => 0.0,
        255 => f64::from_bits(bits.get(64)),
        b => 0.5 * 2f64.powi(b as i32 - 243),
    };
    let schema = bits.varbit() as i32;
    let mut spans = || -> Vec<BucketSpan> {
        let n = bits.varbit_unsigned();
        (0..n)
            .map(|_| BucketSpan {
                length: bits.varbit_unsigned() as u32,
                offset: bits.varbit() as i32,
            })
            .collect()
    };
    let (positive, negative) = (spans(), spans());
    let mut bounds = Vec::new();
    if schema == CUSTOM_BUCKETS {
        for _ in 0..bits.varbit_unsigned() {
            bounds.push(match bits.varbit_unsigned() {
                0 => f64::from_bits(bits.get(64)),
                u => (u - 1) as f64 / 1000.0,
            });
        }
    }
    let length = |spans: &[BucketSpan]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    let slots = [length(&positive), length(&negative)];
    let all = slots[0] + slots[1];
    let mut whole = vec![(0i64, 0i64); 3 + all];
    let mut floats = vec![(0u64, 0, 0); 2 + all];
    let (mut t, mut t_delta) = (0i64, 0i64);
    let mut sum = (0u64, 0, 0);
    let mut out = Vec::new();
    for i in 0..count {
        let mut counts = vec![0.0; 2 + all];
        if is_float {
            if i == 0 {
                t = bits.varbit();
                floats[0].0 = bits.get(64);
                floats[1].0 = bits.get(64);
                sum.0 = bits.get(64);
            } else {
                t_delta += bits.varbit();
                t += t_delta;
                bits.xor(&mut floats[0]);
                bits.xor(&mut floats[1]);
                bits.xor(&mut sum);
            }
            let is_stale = model::is_stale(f64::from_bits(sum.0));
            for slot in floats.iter_mut().skip(2).filter(|_| !is_stale) {
                if i == 0 {
                    slot.0 = bits.get(64);
                } else {
                    bits.xor(slot);
                }
            }
            counts
                .iter_mut()
                .zip(&floats)
                .for_each(|(c, f)| *c = f64::from_bits(f.0));
        } else {
            let mut next = |bits: &mut Bits<'_>, at: usize, unsigned: bool| {
                let (value, delta) = &mut whole[at];
                if i == 0 {
                    *value = if unsigned {
                        bits.varbit_unsigned() as i64
                    } else {
                        bits.varbit()
                    };
                } else {
                    *delta += bits.varbit();
                    *value += *delta;
                }
                *value
            };
            t = next(&mut bits, 0, false);
            counts[0] = next(&mut bits, 1, true) as f64;
            counts[1] = next(&mut bits, 2, true) as f64;
            if i == 0 {
                sum.0 = bits.get(64);
            } else {
                bits.xor(&mut sum);
            }
            if !model::is_stale(f64::from_bits(sum.0)) {
                let mut running = 0;
                for slot in 0..all {
                    if slot == slots[0] {
                        running = 0;
                    }
                    running += next(&mut bits, 3 + slot, false);
                    counts[2 + slot] = running as f64;
                }
            }
        }
        let sum = f64::from_bits(sum.0);
        if model::is_stale(sum) {
            out.push((t, Histogram::stale()));
            continue;
        }
        let side = |spans: &[BucketSpan], counts: &[f64]| Buckets {
            spans: spans.to_vec(),
            counts: counts.to_vec(),
        };
        out.push((
            t,
            Histogram {
                reset: if i == 0 { hint } else { ResetHint::NotReset },
                schema,
                zero_threshold,
                zero_count: counts[1],
                count: counts[0],
                sum,
                positive: side(&positive, &counts[2..2 + slots[0]]),
                negative: side(&negative, &counts[2 + slots[0]..]),
                bounds: bounds.clone().into(),
            },
        ));
    }
    out
}

/// A field of varint or bytes, written.
fn put(out: &mut Vec<u8>, field: u64, value: Field) {
    let mut varint = |mut n: u64| {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    };
    match value {
        Field::Number(n) => {
            varint(field << 3);
            varint(n);
        }
        Field::Bytes(bytes) => {
            varint(field << 3 | 2);
            varint(bytes.len() as u64);
            out.extend(bytes);
        }
    }
}

/// A query: range in ms, and matchers as (type, name, value).
type Query<'a> = (i64, i64, &'a [(u64, &'a str, &'a str)]);

/// A request of queries.
fn request(queries: &[Query<'_>], accepted: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for (start, end, matchers) in queries {
        let mut query = Vec::new();
        put(&mut query, 1, Field::Number(*start as u64));
        put(&mut query, 2, Field::Number(*end as u64));
        for (kind, name, value) in *matchers {
            let mut matcher = Vec::new();
            put(&mut matcher, 1, Field::Number(*kind));
            put(&mut matcher, 2, Field::Bytes(name.as_bytes().to_vec()));
            put(&mut matcher, 3, Field::Bytes(value.as_bytes().to_vec()));
            put(&mut query, 3, Field::Bytes(matcher));
        }
        // Hints, which change nothing.
        put(&mut query, 4, Field::Bytes(vec![8, 15]));
        put(&mut out, 1, Field::Bytes(query));
    }
    if !accepted.is_empty() {
        put(&mut out, 2, Field::Bytes(accepted.iter().map(|n| *n as u8).collect()));
    }
    out
}

async fn post(lab: &Lab, message: &[u8]) -> Answer {
    let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
    raw(lab, body).await
}

async fn raw(lab: &Lab, body: Vec<u8>) -> Answer {
    let request = Request::post("/api/v1/read")
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy");
    ask(&lab.prometheus, request.body(Body::from(body)).unwrap()).await
}

type Floats = BTreeMap<(u64, String), Vec<(i64, u64)>>;
type Histograms = BTreeMap<(u64, String), Vec<(i64, Histogram)>>;

/// Series by query and labels, in the order in which they came, of an answer in chunks.
fn streamed(answer: &Answer) -> (Vec<(u64, String)>, Floats, Histograms) {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    let (mut order, mut floats, mut histograms) = (Vec::new(), Floats::new(), Histograms::new());
    let mut rest = &answer.body[..];
    while !rest.is_empty() {
        let len = uvarint(&mut rest) as usize;
        assert!(len <= 1 << 20);
        let (crc, tail) = rest.split_at(4);
        let (message, tail) = tail.split_at(len);
        rest = tail;
        assert_eq!(crc, crc32c::crc32c(message).to_be_bytes());
        let index = number(message, 2);
        for series in each(message, 1) {
            let key = (index, labels(&series));
            if order.last() != Some(&key) {
                order.push(key.clone());
            }
            for chunk in each(&series, 2) {
                let data = each(&chunk, 4).concat();
                let (min, max) = (number(&chunk, 1) as i64, number(&chunk, 2) as i64);
                let kind = number(&chunk, 3);
                let times: Vec<i64> = if kind == 1 {
                    let samples = xor_chunk(&data);
                    let times = samples.iter().map(|s| s.0).collect();
                    floats.entry(key.clone()).or_default().extend(samples);
                    times
                } else {
                    let samples = histogram_chunk(&data, kind == 3);
                    let times = samples.iter().map(|s| s.0).collect();
                    histograms.entry(key.clone()).or_default().extend(samples);
                    times
                };
                assert!(times.is_sorted() && times.len() <= 120);
                assert_eq!((times.first(), times.last()), (Some(&min), Some(&max)));
            }
        }
    }
    (order, floats, histograms)
}

const FROM: i64 = (NOW - 600) * 1000;
const TO: i64 = NOW * 1000;

#[tokio::test(flavor = "multi_thread")]
async fn samples_come_in_one_message() {
    let lab = Lab::with(|about| about.external_labels = Arc::new(LabelSet::from_pairs([("zone", "eu")]).into()));
    lab.fill().await;
    let message = request(
        &[
            (
                FROM,
                FROM + 30_000,
                &[
                    (0, "__name__", "http_requests_total"),
                    (2, "instance", "a.*"),
                    (0, "zone", "eu"),
                ],
            ),
            (FROM, TO, &[(3, "__name__", "http.*"), (1, "job", "x")]),
            (FROM, TO, &[(0, "zone", "us"), (0, "job", "shop")]),
        ],
        &[],
    );
    let answer = post(&lab, &message).await;
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    assert_eq!(answer.header("content-encoding"), "snappy");
    let body = snap::raw::Decoder::new().decompress_vec(&answer.body).unwrap();
    type Series = (String, Vec<(i64, f64)>);
    let results: Vec<Vec<Series>> = each(&body, 1)
        .iter()
        .map(|result| {
            each(result, 1)
                .iter()
                .map(|series| {
                    let samples = each(series, 2);
                    let sample = |s: &Vec<u8>| (number(s, 2) as i64, f64::from_bits(number(s, 1)));
                    (labels(series), samples.iter().map(sample).collect())
                })
                .collect()
        })
        .collect();
    assert_eq!(
        results,
        [
            vec![(
                "__name__=http_requests_total,instance=a:80,job=shop,zone=eu".to_owned(),
                vec![(FROM, 0.0), (FROM + 15_000, 15.0), (FROM + 30_000, 30.0)]
            )],
            vec![(
                "__name__=room.temperature,job=lab,zone=eu".to_owned(),
                vec![(TO - 90_000, 20.0), (TO - 30_000, 21.5)]
            )],
            vec![],
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_hold_every_sample_bit_for_bit() {
    let lab = Lab::empty();
    let mut batch = SampleBatch::default();
    let odd = [
        0.0,
        -0.0,
        1.5,
        f64::INFINITY,
        f64::from_bits(0x7ff8_0000_0000_00ff),
        stale_nan(),
        f64::MIN_POSITIVE,
        5e-324,
        -1e300,
        0.1,
        0.1,
        0.30000000000000004,
    ];
    let mut expected = Vec::new();
    let long = batch.series(&mut vec![("__name__", "long"), ("job", "b")]);
    let mut t = (NOW - 80_000) * 1000;
    for i in 0..1000usize {
        let v = odd[i * i % odd.len()] + if i % 5 == 0 { i as f64 } else { 0.0 };
        let v = if i % 7 == 3 { odd[i % odd.len()] } else { v };
        batch.sample(long, TimestampMs(t), v);
        expected.push((t, v.to_bits()));
        t += [15_000, 15_001, 15_000, 7, 70_000, 300_000, 8_192 + 15_000][i % 7];
    }
    let short = batch.series(&mut vec![("__name__", "long"), ("job", "a")]);
    batch.sample(short, TimestampMs(-5), 1.0);
    batch.sample(short, TimestampMs(TO), 2.0);
    lab.storage.append_samples(&batch).await.unwrap();
    let message = request(
        &[
            (i64::MIN, i64::MAX, &[(0, "__name__", "long")]),
            (TO, TO, &[(0, "job", "a")]),
        ],
        &[9, 1, 0],
    );
    for flushed in [false, true] {
        if flushed {
            lab.storage.flush().unwrap();
        }
        let (order, floats, histograms) = streamed(&post(&lab, &message).await);
        let (a, b) = ("__name__=long,job=a".to_owned(), "__name__=long,job=b".to_owned());
        assert_eq!(order, [(0, a.clone()), (0, b.clone()), (1, a.clone())]);
        assert!(histograms.is_empty());
        let stored: BTreeMap<i64, u64> = expected.iter().copied().collect();
        assert_eq!(floats[&(0, b)], stored.into_iter().collect::<Vec<_>>());
        assert_eq!(floats[&(1, a)], [(TO, 2f64.to_bits())]);
    }
}

fn exponential(count: f64, schema: i32) -> Histogram {
    Histogram {
        reset: ResetHint::Unknown,
        schema,
        zero_threshold: 2f64.powi(-128),
        zero_count: count,
        count: count * 7.0,
        sum: count * 2.5,
        positive: Buckets::from_indexed([(-2, count), (3, count * 2.0), (4, count)]),
        negative: Buckets::from_indexed([(1, count * 2.0)]),
        bounds: Arc::new([]),
    }
}

fn sample(t: i64, h: Histogram) -> HistogramSample {
    HistogramSample {
        t: TimestampMs(t),
        start: TimestampMs(0),
        histogram: Arc::new(h),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_come_in_chunks_of_their_own() {
    let lab = Lab::empty();
    let custom = |count: f64| Histogram {
        schema: CUSTOM_BUCKETS,
        zero_threshold: 0.0,
        zero_count: 0.0,
        count: count * 3.0,
        positive: Buckets::from_indexed([(0, count), (1, count), (3, count)]),
        negative: Buckets::default(),
        bounds: [0.005, 1.0 / 3.0, 7.5, 1e9].into(),
        ..exponential(count, 0)
    };
    let mut series: Vec<(&str, Vec<Histogram>)> = vec![
        ("whole", (1..=150).map(|i| exponential(f64::from(i * i), 2)).collect()),
        ("resets", [5, 6, 2, 3].map(|i| exponential(f64::from(i), 0)).into()),
        (
            "widths",
            [(3.0, 1), (4.0, 1), (5.0, 0), (6.0, 0)]
                .map(|(c, s)| exponential(c, s))
                .into(),
        ),
        ("floats", (0..5).map(|i| exponential(0.5 + f64::from(i), 3)).collect()),
        ("bounds", (1..4).map(|i| custom(f64::from(i))).collect()),
        (
            "ended",
            vec![
                exponential(1.0, 0),
                Histogram::stale(),
                exponential(2.0, 0),
                Histogram::stale(),
            ],
        ),
    ];
    series.push((
        "gauge",
        [5.0, 3.0, 4.0]
            .map(|c| Histogram {
                reset: ResetHint::Gauge,
                ..exponential(c, 0)
            })
            .into(),
    ));
    let mut batch = SampleBatch::default();
    let time = |i: usize| TO - 4_000_000 + 15_000 * i as i64 + (i % 3) as i64;
    for (name, list) in &series {
        let ix = batch.series(&mut vec![("__name__", name)]);
        for (i, h) in list.iter().enumerate() {
            batch.histogram(ix, sample(time(i), h.clone()));
        }
    }
    // A series that changes its kind.
    let mixed = batch.series(&mut vec![("__name__", "mixed")]);
    batch.sample(mixed, TimestampMs(TO - 3000), 1.0);
    batch.histogram(mixed, sample(TO - 2000, exponential(1.0, 0)));
    batch.sample(mixed, TimestampMs(TO - 1000), 2.0);
    let appended = lab.storage.append_samples(&batch).await.unwrap();
    assert_eq!(
        (appended.conflicts, appended.too_old, appended.too_new),
        (0, 0, 0),
        "{:?}",
        appended.example
    );
    let query: Query<'_> = (0, TO, &[(2, "__name__", ".+")]);
    let (_, floats, histograms) = streamed(&post(&lab, &request(&[query], &[1])).await);
    for (name, list) in &series {
        let got = &histograms[&(0, format!("__name__={name}"))];
        assert_eq!(got.len(), list.len(), "{name}");
        for (i, (want, (t, h))) in list.iter().zip(got).enumerate() {
            assert_eq!(*t, time(i), "{name}");
            assert_eq!(h.is_stale(), want.is_stale(), "{name} {i}");
            if !h.is_stale() {
                let mut want = want.clone();
                want.reset = h.reset;
                assert_eq!(*h, want, "{name} {i}");
            }
        }
    }
    let hints = |name: &str| -> Vec<ResetHint> {
        let list = &histograms[&(0, format!("__name__={name}"))];
        list.iter().map(|(_, h)| h.reset).collect()
    };
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    assert_eq!(hints("resets"), [Unknown, NotReset, Reset, NotReset]);
    assert_eq!(hints("gauge")[0], Gauge);
    let mixed = (0, "__name__=mixed".to_owned());
    assert_eq!(
        floats[&mixed],
        [(TO - 3000, 1f64.to_bits()), (TO - 1000, 2f64.to_bits())]
    );
    assert_eq!(histograms[&mixed].len(), 1);

    // The same as samples.
    let answer = post(&lab, &request(&[(0, TO, &[(0, "__name__", "floats")])], &[0])).await;
    let body = snap::raw::Decoder::new().decompress_vec(&answer.body).unwrap();
    let found = each(&each(&each(&body, 1)[0], 1)[0], 4);
    assert_eq!(found.len(), 5);
    let h = &found[1];
    assert_eq!(f64::from_bits(number(h, 2)), 10.5);
    assert_eq!(f64::from_bits(number(h, 3)), 3.75);
    assert_eq!(zigzag(number(h, 4)), 3);
    assert_eq!(number(h, 15) as i64, time(1));
    let spans: Vec<(i64, u64)> = each(h, 11)
        .iter()
        .map(|s| (zigzag(number(s, 1)), number(s, 2)))
        .collect();
    assert_eq!(spans, [(-2, 1), (4, 2)]);
    let counts: Vec<f64> = each(h, 13)[0]
        .chunks(8)
        .map(|c| f64::from_le_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(counts, [1.5, 3.0, 1.5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_series_is_split_over_frames() {
    let lab = Lab::empty();
    let mut batch = SampleBatch::default();
    let series = batch.series(&mut vec![("__name__", "long")]);
    let mut random = 1u64;
    let len = 130_000;
    for i in 0..len {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        batch.sample(series, TimestampMs(TO - 1000 * (len - i)), f64::from_bits(random >> 2));
    }
    lab.storage.append_samples(&batch).await.unwrap();
    let answer = post(&lab, &request(&[(0, TO, &[(0, "__name__", "long")])], &[1])).await;
    assert!(answer.body.len() > 1 << 20);
    let (order, floats, _) = streamed(&answer);
    assert_eq!(order.len(), 1);
    assert_eq!(floats[&order[0]].len(), len as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_plain_text() {
    let lab = Lab::empty();
    let zip = |message: &[u8]| snap::raw::Encoder::new().compress_vec(message).unwrap();
    let mut huge = vec![0xff, 0xff, 0xff, 0x7f];
    huge.extend([0; 64]);
    for (body, words) in [
        (b"x".to_vec(), "snappy: corrupt input"),
        (huge, "request of more than"),
        (zip(&[0xff; 9]), "failed to decode Protobuf message"),
        (
            zip(&request(&[(0, 1, &[(7, "a", "b")])], &[])),
            "invalid matcher type: 7",
        ),
        (zip(&request(&[(0, 1, &[(2, "a", "(")])], &[])), ""),
        (
            zip(&request(&[(0, 1, &[(0, "a", "b")])], &[5])),
            "none of the accepted response types [5] is supported",
        ),
    ] {
        let answer = raw(&lab, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{words}");
        assert!(answer.text().starts_with(words), "{}", answer.text());
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
    let get = super::lab::get(&lab.prometheus, "/api/v1/read", &[]).await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
    let backwards = post(&lab, &request(&[(5, 1, &[(0, "a", "b")])], &[1])).await;
    assert_eq!((backwards.status, backwards.body.len()), (StatusCode::OK, 0));
}
