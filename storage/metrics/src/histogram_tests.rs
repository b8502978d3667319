//! Native histograms and start timestamps through the whole engine: heads, blocks, crashes, compaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    BucketSpan, Buckets, Histogram, HistogramSample, LabelSet, ResetHint, SampleBatch, TimeRangeMs, TimestampMs,
};
use proptest::prelude::*;

use crate::histogram::tests::{counter, histogram};
use crate::tests::{Lab, labels};
use crate::{Appended, Samples};

fn sample(t: i64, start: i64, h: Histogram) -> HistogramSample {
    HistogramSample {
        t: TimestampMs(t),
        start: TimestampMs(start),
        histogram: Arc::new(h),
    }
}

fn append(lab: &Lab, labels: &LabelSet, samples: Vec<HistogramSample>) -> Appended {
    let mut batch = SampleBatch::default();
    let series = batch.series_of(labels);
    for sample in samples {
        batch.histogram(series, sample);
    }
    lab.append(&batch)
}

fn read(lab: &Lab, range: TimeRangeMs) -> Samples {
    let mut out = Samples::default();
    for series in lab.metrics().snapshot(range).select(&[], range).unwrap() {
        series.read(range, &mut out).unwrap();
    }
    out
}

/// Reads the same from the head, after a crash, from blocks, and from compacted blocks.
fn everywhere(mut lab: Lab, check: impl Fn(&Lab)) {
    check(&lab);
    lab.crash(false);
    check(&lab);
    lab.metrics().cut().unwrap();
    check(&lab);
    let days: Vec<_> = lab.blocks().iter().map(|b| b.meta().day).collect();
    days.into_iter().for_each(|day| lab.compact(day));
    check(&lab);
}

#[test]
fn hints_say_what_storage_knows() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "h")]);
    let hinted = |reset, counts: &[f64]| Histogram {
        reset,
        ..counter(counts)
    };
    let list = [
        (hinted(ResetHint::Unknown, &[1.0, 1.0]), ResetHint::Unknown),
        (hinted(ResetHint::Unknown, &[2.0, 1.0]), ResetHint::NotReset),
        // A sender's word for it is not taken.
        (hinted(ResetHint::NotReset, &[1.0, 5.0]), ResetHint::Unknown),
        (hinted(ResetHint::NotReset, &[3.0, 5.0]), ResetHint::NotReset),
        (hinted(ResetHint::Reset, &[4.0, 5.0]), ResetHint::Unknown),
        (hinted(ResetHint::Unknown, &[4.0, 6.0]), ResetHint::NotReset),
        (hinted(ResetHint::Gauge, &[1.0]), ResetHint::Gauge),
        (hinted(ResetHint::Gauge, &[2.0]), ResetHint::Gauge),
        (Histogram::stale(), ResetHint::Unknown),
        (hinted(ResetHint::Unknown, &[2.0, 0.0, 0.0, 7.0]), ResetHint::Unknown),
        (hinted(ResetHint::Unknown, &[2.0, 1.0, 0.0, 7.0]), ResetHint::NotReset),
    ];
    let samples = list
        .iter()
        .enumerate()
        .map(|(i, (h, _))| sample(1000 * (i as i64 + 1), 0, h.clone()));
    // Two cuts in between: hints do not depend on where chunks and blocks end.
    let samples: Vec<_> = samples.collect();
    append(&lab, &up, samples[..2].to_vec());
    lab.metrics().cut().unwrap();
    append(&lab, &up, samples[2..6].to_vec());
    lab.metrics().cut().unwrap();
    append(&lab, &up, samples[6..].to_vec());
    everywhere(lab, |lab| {
        let read = read(lab, TimeRangeMs::ALL);
        let hints: Vec<ResetHint> = read.histograms.h.iter().map(|h| h.reset).collect();
        assert_eq!(hints, list.iter().map(|(_, hint)| *hint).collect::<Vec<_>>());
    });
}

#[test]
fn a_hint_does_not_depend_on_where_a_reader_begins() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "h")]);
    let counts = [[1.0, 1.0], [2.0, 1.0], [3.0, 4.0], [1.0, 1.0], [2.0, 2.0]];
    let samples = (counts.iter().enumerate()).map(|(i, counts)| sample(1000 * (i as i64 + 1), 0, counter(counts)));
    append(&lab, &up, samples.collect());
    let from = |start: i64| {
        let range = TimeRangeMs {
            start: TimestampMs(start),
            end: TimestampMs(9000),
        };
        read(&lab, range).histograms.h[0].reset
    };
    let hints: Vec<ResetHint> = (1..=5).map(|i| from(1000 * i)).collect();
    use ResetHint::{NotReset, Unknown};
    assert_eq!(hints, [Unknown, NotReset, NotReset, Unknown, NotReset]);
}

#[test]
fn a_float_and_a_histogram_at_one_time_are_a_conflict() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "h")]);
    lab.append_one(&up, 1000, 1.0);
    let appended = append(
        &lab,
        &up,
        vec![sample(1000, 0, counter(&[1.0])), sample(2000, 0, counter(&[1.0]))],
    );
    assert_eq!((appended.histograms, appended.conflicts), (1, 1));
    let appended = append(
        &lab,
        &up,
        vec![sample(2000, 0, counter(&[1.0])), sample(2000, 0, counter(&[2.0]))],
    );
    assert_eq!(
        (appended.histograms, appended.duplicates, appended.conflicts),
        (0, 1, 1)
    );
    assert_eq!(lab.append_one(&up, 2000, 1.0).conflicts, 1);
    lab.append_one(&up, 1500, 7.0);
    everywhere(lab, |lab| {
        let read = read(lab, TimeRangeMs::ALL);
        assert_eq!((read.t, read.histograms.t), (vec![1000, 1500], vec![2000]));
    });
}

#[test]
fn what_is_no_histogram_is_refused_with_words() {
    let lab = Lab::new();
    let mut broken = counter(&[1.0, 2.0]);
    broken.positive.counts.pop();
    let appended = append(&lab, &labels(&[("__name__", "h")]), vec![sample(1000, 0, broken)]);
    assert_eq!((appended.histograms, appended.invalid), (0, 1));
    let words = appended.example.unwrap();
    assert!(words.contains("its spans do not cover its buckets"), "{words}");
}

/// A late one parts its neighbours, whether it waits in a buffer, was merged into chunks, or lies in a later block.
#[test]
fn hints_are_about_the_neighbour_by_time() {
    use ResetHint::{NotReset, Unknown};
    for cut_before_late in [false, true] {
        let lab = Lab::new();
        let up = labels(&[("__name__", "h")]);
        for (t, count) in [(10, 1.0), (20, 2.0), (30, 5.0), (25, 9.0), (15, 1.5)] {
            if cut_before_late && t == 25 {
                lab.metrics().cut().unwrap();
            }
            append(&lab, &up, vec![sample(t, 0, counter(&[count]))]);
        }
        lab.append_one(&up, 12, 0.0);
        everywhere(lab, |lab| {
            let read = read(lab, TimeRangeMs::ALL);
            let hints: Vec<ResetHint> = read.histograms.h.iter().map(|h| h.reset).collect();
            // Between 10 and 15 there is a float.
            assert_eq!(hints, [Unknown, Unknown, NotReset, NotReset, Unknown]);
        });
    }
}

/// A block and the head have samples of different kinds at one time: whatever was stored first stays.
#[test]
fn the_first_stored_stays_whatever_its_kind() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "h")]);
    lab.append_one(&up, 10, 1.0);
    append(&lab, &up, vec![sample(20, 0, counter(&[3.0]))]);
    lab.metrics().cut().unwrap();
    append(&lab, &up, vec![sample(10, 0, counter(&[3.0]))]);
    lab.append_one(&up, 20, 2.0);
    lab.append_one(&up, 30, 3.0);
    everywhere(lab, |lab| {
        let read = read(lab, TimeRangeMs::ALL);
        assert_eq!((read.t, read.histograms.t), (vec![10, 30], vec![20]));
    });
}

#[test]
fn histograms_and_starts_are_small() {
    let lab = Lab::new();
    let mut batch = SampleBatch::default();
    for i in 0..50 {
        let series = batch.series_of(&labels(&[("__name__", "latency"), ("i", &i.to_string())]));
        for k in 0..150i64 {
            let counts = (0..30i64).map(|b| ((k * (b + 1) * 7 + i) / 10) as f64);
            let mut h = counter(&counts.collect::<Vec<_>>());
            h.sum = h.count * 0.37;
            batch.histogram(series, sample(k * 15_000 + 1, 1, h));
        }
    }
    lab.append(&batch);
    let bytes = lab.metrics().stats().head_bytes / 50 / 150;
    assert!(bytes < 70, "{bytes} bytes in the head for 33 numbers");
    lab.metrics().cut().unwrap();
    let bytes = lab.metrics().stats().block_bytes / 50 / 150;
    assert!(bytes < 18, "{bytes} bytes on disk for 33 numbers");

    // Delta temporality: each sample begins where the one before ended.
    let lab = Lab::new();
    let mut batch = SampleBatch::default();
    let series = batch.series_of(&labels(&[("__name__", "delta")]));
    for k in 1..=10_000i64 {
        batch.sample_from(series, TimestampMs(k * 5_000), 1.0, TimestampMs(k * 5_000 - 5_000));
    }
    assert_eq!(lab.append(&batch).stored, 10_000);
    let head = lab.metrics().stats().head_bytes;
    assert!(head < 16_000, "{head} bytes for 10000 samples");
    everywhere(lab, |lab| {
        let read = read(lab, TimeRangeMs::ALL);
        assert_eq!(read.start.len(), 10_000);
        assert!(read.t.iter().zip(&read.start).all(|(t, start)| t - 5_000 == *start));
    });
}

#[test]
fn a_start_after_its_sample_says_nothing() {
    let lab = Lab::new();
    let h = labels(&[("__name__", "h")]);
    append(
        &lab,
        &h,
        vec![sample(1000, 5000, counter(&[1.0])), sample(2000, 500, counter(&[2.0]))],
    );
    let mut batch = SampleBatch::default();
    let float = batch.series_of(&labels(&[("__name__", "f")]));
    batch.sample_from(float, TimestampMs(1000), 1.0, TimestampMs(5000));
    batch.sample_from(float, TimestampMs(2000), 2.0, TimestampMs(500));
    lab.append(&batch);
    everywhere(lab, |lab| {
        let read = read(lab, TimeRangeMs::ALL);
        assert_eq!((read.start, read.histograms.start), (vec![0, 500], vec![0, 500]));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Float { t: i64, v: u8, start: i64 },
    Histogram { t: i64, start: i64, h: Histogram },
    Cut,
    Crash { lose_catalogue: bool },
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let minute = || (0i64..400).prop_map(|m| m * 30_000 + 7 * 86_400_000 - 6_000_000);
    let start = || prop_oneof![3 => Just(0i64), 2 => Just(5_000i64), 1 => 1i64..1_000_000];
    prop_oneof![
        6 => (minute(), 0u8..3, start()).prop_map(|(t, v, start)| Step::Float { t, v, start }),
        9 => (minute(), start(), histogram()).prop_map(|(t, start, h)| Step::Histogram { t, start, h }),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(|lose_catalogue| Step::Crash { lose_catalogue }),
        1 => Just(Step::Compact),
    ]
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Histogram),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In any order, with heads cut, processes killed and blocks compacted in between: what was first at a time stays,
    /// whole, with its start.
    #[test]
    fn a_series_keeps_what_came_first(steps in proptest::collection::vec(step(), 1..120), from in 0i64..400, to in 0i64..400) {
        let mut lab = Lab::new();
        let series = labels(&[("__name__", "mixed")]);
        let mut known: BTreeMap<i64, (Value, i64)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Float { t, v, start } => {
                    let mut batch = SampleBatch::default();
                    let ix = batch.series_of(&series);
                    batch.sample_from(ix, TimestampMs(t), f64::from(v), TimestampMs(start));
                    lab.append(&batch);
                    known.entry(t).or_insert((Value::Float(f64::from(v)), start));
                }
                Step::Histogram { t, start, h } => {
                    append(&lab, &series, vec![sample(t, start, h.clone())]);
                    known.entry(t).or_insert((Value::Histogram(h), start));
                }
                Step::Cut => _ = lab.metrics().cut().unwrap(),
                Step::Crash { lose_catalogue } => lab.crash(lose_catalogue),
                Step::Compact => {
                    let days: std::collections::BTreeSet<_> = lab.blocks().iter().map(|b| b.meta().day).collect();
                    days.into_iter().for_each(|day| lab.compact(day));
                }
            }
        }
        let at = |m: i64| m * 30_000 + 7 * 86_400_000 - 6_000_000;
        let part = TimeRangeMs { start: TimestampMs(at(from.min(to))), end: TimestampMs(at(from.max(to))) };
        for range in [TimeRangeMs::ALL, part] {
            let read = read(&lab, range);
            let mut found: BTreeMap<i64, (Value, i64)> = BTreeMap::new();
            for (i, (&t, &v)) in read.t.iter().zip(&read.v).enumerate() {
                found.insert(t, (Value::Float(v), read.start.get(i).copied().unwrap_or(0)));
            }
            for (i, (&t, h)) in read.histograms.t.iter().zip(&read.histograms.h).enumerate() {
                found.insert(t, (Value::Histogram((**h).clone()), read.histograms.start_of(i)));
            }
            prop_assert_eq!(found.len(), read.count());
            let expected: Vec<_> = known.range(range.start.0..=range.end.0).collect();
            prop_assert_eq!(found.len(), expected.len());
            for ((t, (value, start)), (et, (expected, estart))) in found.iter().zip(expected) {
                prop_assert_eq!((t, start), (et, estart));
                match (value, expected) {
                    (Value::Float(a), Value::Float(b)) => prop_assert_eq!(a.to_bits(), b.to_bits()),
                    (Value::Histogram(a), Value::Histogram(b)) => {
                        prop_assert!(a.same_bits(b), "{:?} {:?}", a, b);
                        prop_assert_eq!(a.positive.spans.clone(), b.positive.spans.clone());
                        prop_assert_eq!(a.reset == ResetHint::Gauge, b.reset == ResetHint::Gauge);
                        prop_assert!(a.reset != ResetHint::Reset);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            // Hints are true.
            for pair in read.histograms.h.windows(2) {
                if pair[1].reset == ResetHint::NotReset {
                    prop_assert!(!pair[1].is_reset_after(&pair[0]));
                }
            }
        }
    }
}

/// Numbers no sender should send.
fn any_histogram() -> impl Strategy<Value = Histogram> {
    let number =
        || prop_oneof![3 => (0u8..9).prop_map(f64::from), 2 => any::<u64>().prop_map(f64::from_bits), 1 => Just(-0.0)];
    let edge =
        || prop_oneof![2 => -3i32..9, 1 => any::<i32>(), 1 => Just(-53), 1 => Just(i32::MIN), 1 => Just(i32::MAX)];
    let span = (edge(), prop_oneof![4 => 0u32..4, 1 => any::<u32>()]);
    let spans = proptest::collection::vec(span, 0..4);
    let side =
        (spans, proptest::collection::vec(number(), 0..6), any::<bool>()).prop_map(|(spans, mut counts, fits)| {
            let spans: Vec<BucketSpan> = (spans.into_iter())
                .map(|(offset, length)| BucketSpan {
                    offset,
                    length: if fits { length % 4 } else { length },
                })
                .collect();
            if fits {
                counts.resize(spans.iter().map(|span| span.length as usize).sum(), 1.0);
            }
            Buckets { spans, counts }
        });
    let bounds = proptest::collection::vec(number(), 0..3);
    let numbers = (number(), number(), number(), number());
    (0usize..4, edge(), numbers, side.clone(), side, bounds).prop_map(
        |(hint, schema, numbers, positive, negative, bounds)| {
            use ResetHint::{Gauge, NotReset, Reset, Unknown};
            Histogram {
                reset: [Unknown, Reset, NotReset, Gauge][hint],
                schema,
                zero_threshold: numbers.0,
                zero_count: numbers.1,
                count: numbers.2,
                sum: numbers.3,
                positive,
                negative,
                bounds: bounds.into(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is sent is refused or comes back as it was; nothing panics.
    #[test]
    fn any_histogram_is_stored_or_refused(list in proptest::collection::vec(any_histogram(), 1..20), late in any::<bool>()) {
        let lab = Lab::new();
        let up = labels(&[("__name__", "h")]);
        let mut stored = BTreeMap::new();
        for (i, h) in (1..).zip(&list) {
            let t = if late { 1000 - i } else { i };
            let appended = append(&lab, &up, vec![sample(t, i, h.clone())]);
            prop_assert_eq!(appended.histograms + appended.invalid, 1);
            if appended.histograms == 1 {
                stored.insert(t, h.clone());
            }
            append(&lab, &up, vec![sample(t, i, h.clone())]);
        }
        everywhere(lab, |lab| {
            let read = read(lab, TimeRangeMs::ALL);
            assert_eq!(read.histograms.t, stored.keys().copied().collect::<Vec<_>>());
            for (found, given) in read.histograms.h.iter().zip(stored.values()) {
                let bits = |h: &Histogram| {
                    let mut numbers = vec![h.zero_threshold, h.zero_count, h.count, h.sum];
                    numbers.extend(h.positive.counts.iter().chain(&h.negative.counts).chain(h.bounds.iter()));
                    numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                };
                assert_eq!(bits(found), bits(given));
                assert_eq!(found.schema, given.schema);
                assert_eq!((&found.positive.spans, &found.negative.spans), (&given.positive.spans, &given.negative.spans));
            }
        });
    }
}
