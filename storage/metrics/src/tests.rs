//! The engine as a whole: against a model, across crashes, under concurrent appends, cuts and readers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use model::{
    DAY_MS, Day, Exemplar, LabelSet, MatchOp, Matcher, MetricKind, MetricMetadata, SampleBatch, Signal, TimeRangeMs,
    TimeRangeNs, TimestampMs,
};
use proptest::prelude::*;
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue};
use storage_disk::{Disk, FaultyDisk};
use storage_wal::SyncMode;

use crate::{Appended, Metrics, Options, Parts, Samples};

const RETENTION_MS: i64 = 10 * DAY_MS;
const ALL: TimeRangeMs = TimeRangeMs::ALL;

/// An engine on a disk that forgets what was not synced; RocksDB lies in a real directory.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    faulty: FaultyDisk,
    engine: Option<(Catalogue, Metrics)>,
    now: TimestampMs,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let mut lab = Lab {
            dir: tempfile::tempdir().unwrap(),
            faulty: FaultyDisk::new(),
            engine: None,
            now: TimestampMs(RETENTION_MS),
        };
        lab.open();
        lab
    }

    fn open(&mut self) {
        self.engine = Some(open(&self.faulty.disk(), self.dir.path()));
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.engine.as_ref().unwrap().1
    }

    /// The machine stops; only what was synced is left. The catalogue may be lost as well: it is derived.
    pub(crate) fn crash(&mut self, lose_catalogue: bool) {
        self.faulty = self.faulty.crash();
        self.engine = None;
        if lose_catalogue {
            let _ = std::fs::remove_dir_all(self.dir.path().join("catalogue"));
        }
        self.open();
    }

    pub(crate) fn append(&self, batch: &SampleBatch) -> Appended {
        block_on(self.metrics().append(batch, self.now)).unwrap()
    }

    pub(crate) fn append_one(&self, labels: &LabelSet, t: i64, v: f64) -> Appended {
        self.append(&batch(&[(labels.clone(), t, v)]))
    }

    pub(crate) fn blocks(&self) -> Vec<BlockRef> {
        self.engine
            .as_ref()
            .unwrap()
            .0
            .blocks(Signal::Metrics, TimeRangeNs::ALL)
    }

    pub(crate) fn compact(&self, day: Day) {
        let blocks: Vec<BlockRef> = self.blocks().into_iter().filter(|b| b.meta().day == day).collect();
        if blocks.len() > 1 {
            self.metrics().compact(&blocks).unwrap();
        }
    }

    /// As `storage` does it: whole blocks go, then the engine forgets the days.
    fn expire(&self, before: TimestampMs) {
        let old: Vec<_> = self
            .blocks()
            .into_iter()
            .filter(|b| b.meta().max < before.to_ns())
            .collect();
        let ids: Vec<_> = old.iter().map(|b| b.meta().id).collect();
        self.engine.as_ref().unwrap().0.retire(&ids).unwrap();
        self.metrics().expire(before).unwrap();
    }

    fn read(&self, matchers: &[Matcher], range: TimeRangeMs) -> BTreeMap<(LabelSet, i64), u64> {
        read(self.metrics(), matchers, range)
    }
}

fn open(disk: &Disk, dir: &Path) -> (Catalogue, Metrics) {
    let (catalogue, _) = Catalogue::open(disk.clone(), dir).unwrap();
    let parts = Parts {
        disk: disk.clone(),
        catalogue: catalogue.clone(),
        budget: Budget::new(1 << 30),
        dir: dir.join("metrics"),
        wal: storage_wal::Options {
            sync: SyncMode::Always,
            segment_bytes: 1 << 20,
        },
    };
    let options = Options {
        retention_ms: RETENTION_MS,
        ahead_ms: RETENTION_MS,
    };
    let (metrics, _) = Metrics::open(parts, options).unwrap();
    (catalogue, metrics)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().copied())
}

fn batch(samples: &[(LabelSet, i64, f64)]) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for (labels, t, v) in samples {
        let series = batch.series_of(labels);
        batch.sample(series, TimestampMs(*t), *v);
    }
    batch
}

fn range(start: i64, end: i64) -> TimeRangeMs {
    TimeRangeMs {
        start: TimestampMs(start),
        end: TimestampMs(end),
    }
}

fn read(metrics: &Metrics, matchers: &[Matcher], range: TimeRangeMs) -> BTreeMap<(LabelSet, i64), u64> {
    let series = metrics.snapshot(range).select(matchers, range).unwrap();
    assert!(
        series.is_sorted_by(|a, b| a.labels() < b.labels()),
        "sorted, each label set once"
    );
    let mut all = BTreeMap::new();
    for series in series {
        let mut out = Samples::default();
        let newest = || series.newest(range).map(|(t, v)| (t.0, v.to_bits()));
        let ready = newest();
        series.read(range, &mut out).unwrap();
        assert!(out.t.is_sorted_by(|a, b| a < b), "rising, one per time");
        // Unless an append came between, what lies ready is what is read last.
        if ready.is_some() && ready == newest() {
            let last = out.t.last().copied().zip(out.v.last().map(|v| v.to_bits()));
            assert_eq!(last, ready);
        }
        for (&t, v) in out.t.iter().zip(&out.v) {
            all.insert((series.labels().clone(), t), v.to_bits());
        }
    }
    all
}

#[test]
fn what_was_appended_is_read_from_head_and_blocks_alike() {
    let mut lab = Lab::new();
    let (a, b) = (
        labels(&[("__name__", "up"), ("job", "a")]),
        labels(&[("__name__", "up"), ("job", "b")]),
    );
    let appended = lab.append(&batch(&[
        (a.clone(), 1000, 1.0),
        (b.clone(), 1000, 2.0),
        (a.clone(), DAY_MS + 1000, 3.0),
        (a.clone(), 500, model::stale_nan()),
    ]));
    assert_eq!(appended.stored, 4);
    let matcher = [Matcher::equal("job", "a")];
    let expected: BTreeMap<_, _> = [
        (500, model::STALE_NAN_BITS),
        (1000, 1f64.to_bits()),
        (DAY_MS + 1000, 3f64.to_bits()),
    ]
    .into_iter()
    .map(|(t, v)| ((a.clone(), t), v))
    .collect();
    assert_eq!(lab.read(&matcher, ALL), expected);
    assert_eq!(lab.metrics().cut().unwrap().len(), 2, "one block a day");
    assert!(lab.metrics().cut().unwrap().is_empty(), "nothing left to freeze");
    assert_eq!(lab.read(&matcher, ALL), expected);
    assert_eq!(lab.read(&matcher, range(600, DAY_MS)).len(), 1);
    lab.crash(true);
    assert_eq!(lab.read(&matcher, ALL), expected);
    assert_eq!(lab.read(&[], ALL).len(), 4);
}

#[test]
fn the_newest_sample_lies_ready_unless_something_else_reaches_as_far() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "up")]);
    let newest = |range: TimeRangeMs| {
        let found = lab.metrics().snapshot(range).select(&[], range).unwrap();
        let all: Vec<_> = found.iter().map(|s| s.newest(range).map(|(t, v)| (t.0, v))).collect();
        all
    };
    lab.append(&batch(&[(up.clone(), 1000, 1.0), (up.clone(), 2000, 2.0)]));
    assert_eq!(newest(range(0, 5000)), [Some((2000, 2.0))]);
    assert_eq!(newest(range(0, 1500)), [None], "an older one has to be read");
    assert_eq!(newest(range(2001, 5000)), [] as [Option<(i64, f64)>; 0]);
    lab.append_one(&up, 1500, 1.5);
    assert_eq!(newest(ALL), [Some((2000, 2.0))], "a late one is older");
    lab.metrics().cut().unwrap();
    assert_eq!(newest(ALL), [None], "a block has to be read");
    lab.append_one(&up, 1800, 9.0);
    assert_eq!(newest(ALL), [None], "the block reaches further than the head");
    lab.append_one(&up, 2000, 9.0);
    assert_eq!(newest(ALL), [None], "and what it has at one time was stored first");
    lab.append_one(&up, 2001, 3.0);
    assert_eq!(newest(ALL), [Some((2001, 3.0))]);
}

#[test]
fn samples_outside_the_window_are_counted_and_said() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "up")]);
    let appended = lab.append(&batch(&[
        (up.clone(), -1, 1.0),
        (up.clone(), 5, 1.0),
        (up.clone(), 3 * RETENTION_MS, 1.0),
    ]));
    assert_eq!((appended.stored, appended.too_old, appended.too_new), (1, 1, 1));
    let example = appended.example.unwrap();
    assert_eq!(
        example,
        r#"out of bounds: {__name__="up"} has a sample at -1, older than the retention allows; the oldest is 0"#
    );
    let appended = lab.append(&batch(&[(up.clone(), 5, 2.0), (up.clone(), 5, 1.0)]));
    assert_eq!((appended.conflicts, appended.duplicates), (1, 1));
    assert!(
        appended
            .example
            .unwrap()
            .starts_with("duplicate sample for timestamp 5")
    );
}

#[test]
fn labels_are_listed_by_day_and_selector() {
    let lab = Lab::new();
    let day = |n: i64| n * DAY_MS;
    lab.append(&batch(&[
        (labels(&[("__name__", "a"), ("zone", "1")]), day(1), 1.0),
        (labels(&[("__name__", "b"), ("host", "x")]), day(2), 1.0),
    ]));
    lab.metrics().cut().unwrap();
    lab.append(&batch(&[(
        labels(&[("__name__", "c"), ("host", "y")]),
        day(3) + 5,
        1.0,
    )]));
    let names = |selectors: &[Vec<Matcher>], r| lab.metrics().snapshot(r).label_names(selectors, r).unwrap();
    let values =
        |name: &str, selectors: &[Vec<Matcher>], r| lab.metrics().snapshot(r).label_values(name, selectors, r).unwrap();
    assert_eq!(names(&[], ALL), ["__name__", "host", "zone"]);
    assert_eq!(names(&[], range(day(2), day(3) - 1)), ["__name__", "host"]);
    assert_eq!(
        names(&[vec![Matcher::equal("__name__", "a")]], ALL),
        ["__name__", "zone"]
    );
    assert_eq!(values("__name__", &[], range(day(2), day(3) + 10)), ["b", "c"]);
    let either = [vec![Matcher::equal("host", "y")], vec![Matcher::equal("zone", "1")]];
    assert_eq!(values("__name__", &either, ALL), ["a", "c"]);
    let series = lab.metrics().snapshot(ALL).series(&either, ALL).unwrap();
    assert_eq!(
        series,
        [
            labels(&[("__name__", "a"), ("zone", "1")]),
            labels(&[("__name__", "c"), ("host", "y")])
        ]
    );
    assert!(names(&[], range(day(5), day(6))).is_empty());
    let snapshot = lab.metrics().snapshot(ALL);
    let not_c = Matcher::new("__name__", MatchOp::NotRegex, "c.*").unwrap();
    assert_eq!(snapshot.series(&[vec![not_c]], ALL).unwrap().len(), 2);
}

#[test]
fn exemplars_and_metadata_live_as_long_as_samples() {
    let mut lab = Lab::new();
    let up = labels(&[("__name__", "latency_bucket"), ("le", "1")]);
    let exemplar = |t: i64, trace: &str| Exemplar {
        labels: labels(&[("trace_id", trace)]),
        value: 0.5,
        t: TimestampMs(t),
    };
    let metadata = MetricMetadata {
        kind: MetricKind::Histogram,
        unit: "seconds".into(),
        help: "How long it took".into(),
    };
    let send = |lab: &Lab, t: i64, trace: &str| {
        let mut batch = SampleBatch::default();
        let series = batch.series_of(&up);
        batch.sample(series, TimestampMs(t), 1.0);
        batch.exemplar(series, exemplar(t, trace));
        batch.metadata("latency", metadata.clone());
        lab.append(&batch);
    };
    let check = |lab: &Lab, expected: &[Exemplar]| {
        let selector = [vec![Matcher::equal("le", "1")]];
        let found = lab.metrics().snapshot(ALL).exemplars(&selector, ALL).unwrap();
        assert_eq!(found, [(up.clone(), expected.to_vec())]);
        assert_eq!(lab.metrics().metadata(), [("latency".to_owned(), metadata.clone())]);
    };
    let first = [exemplar(1000, "a"), exemplar(DAY_MS + 5, "b")];
    send(&lab, DAY_MS + 5, "b");
    send(&lab, 1000, "a");
    check(&lab, &first);
    lab.crash(false);
    check(&lab, &first);
    lab.metrics().cut().unwrap();
    check(&lab, &first);
    send(&lab, 2000, "c");
    send(&lab, 1000, "a");
    let all = [exemplar(1000, "a"), exemplar(2000, "c"), exemplar(DAY_MS + 5, "b")];
    check(&lab, &all);
    lab.metrics().cut().unwrap();
    lab.compact(Day(0));
    lab.crash(true);
    check(&lab, &all);
    let snapshot = lab.metrics().snapshot(ALL);
    assert_eq!(
        snapshot.exemplars(&[], range(1500, 3000)).unwrap()[0].1,
        [exemplar(2000, "c")]
    );
    assert!(
        snapshot
            .exemplars(&[vec![Matcher::equal("le", "2")]], ALL)
            .unwrap()
            .is_empty()
    );
}

/// A cut that fails or is cut off anywhere loses nothing, and the next one succeeds.
#[test]
fn a_cut_may_fail_or_crash_at_every_step() {
    let series: Vec<LabelSet> = (0..3)
        .map(|i| labels(&[("__name__", "m"), ("i", &i.to_string())]))
        .collect();
    let mut lab = Lab::new();
    let mut expected = BTreeMap::new();
    let mut t = 0;
    let mut append = |lab: &Lab| {
        for series in &series {
            t += 11 * 60_000;
            assert_eq!(lab.append_one(series, t, t as f64).stored, 1);
            expected.insert((series.clone(), t), (t as f64).to_bits());
        }
        expected.clone()
    };
    for step in 0..60 {
        let expected = append(&lab);
        lab.faulty.fail_after(step);
        let cut = lab.metrics().cut();
        assert_eq!(lab.read(&[], ALL), expected, "failed at step {step}, still running");
        let done = cut.is_ok() && lab.faulty.disk().sync_dir(lab.dir.path()).is_ok();
        lab.crash(step % 3 == 0);
        assert_eq!(lab.read(&[], ALL), expected, "crashed at step {step}");
        if done {
            assert!(step > 5, "a cut takes some steps");
            return;
        }
    }
    panic!("a cut takes less than 60 steps");
}

/// A full disk refuses appends; the next cut makes the log usable again, and nothing acknowledged is lost.
#[test]
fn appends_go_on_after_the_disk_failed() {
    for lose_catalogue in [false, true] {
        let mut lab = Lab::new();
        let (up, new) = (labels(&[("__name__", "up")]), labels(&[("__name__", "new")]));
        let two = batch(&[(up.clone(), 2, 2.0), (new.clone(), 3, 3.0)]);
        lab.append_one(&up, 1, 1.0);
        lab.faulty.fail_after(0);
        assert!(block_on(lab.metrics().append(&two, lab.now)).is_err());
        assert!(lab.metrics().cut().is_err());
        assert!(block_on(lab.metrics().append(&two, lab.now)).is_err());
        lab.faulty.heal();
        lab.metrics().cut().unwrap();
        // The series is defined again, though its first definition was lost with the record that carried it.
        lab.append(&two);
        lab.crash(lose_catalogue);
        assert_eq!(lab.read(&[], ALL).len(), 3);
        lab.metrics().cut().unwrap();
        lab.crash(lose_catalogue);
        assert_eq!(lab.read(&[], ALL).len(), 3);
    }
}

/// Somebody removed the WAL: what comes later must not be taken for what is in blocks already.
#[test]
fn a_removed_log_starts_behind_the_last_cut() {
    let mut lab = Lab::new();
    let up = labels(&[("__name__", "up")]);
    for t in 1..10 {
        lab.append_one(&up, t, 1.0);
    }
    lab.metrics().cut().unwrap();
    lab.engine = None;
    lab.faulty
        .disk()
        .remove_dir_all(&lab.dir.path().join("metrics/wal"))
        .unwrap();
    lab.open();
    lab.append_one(&up, 10, 1.0);
    lab.crash(false);
    assert_eq!(lab.read(&[], ALL).len(), 10);
}

#[test]
fn a_damaged_block_is_skipped_and_counted() {
    let mut lab = Lab::new();
    let up = labels(&[("__name__", "up")]);
    lab.append_one(&up, 1, 1.0);
    lab.append_one(&up, DAY_MS, 2.0);
    lab.metrics().cut().unwrap();
    let path = lab.blocks()[0].dir().join("chunks");
    let disk = lab.faulty.disk();
    let mut bytes = disk.read(&path).unwrap();
    bytes[9] ^= 1;
    disk.write_atomic(&path, &bytes).unwrap();
    lab.crash(false);
    assert_eq!(lab.read(&[], ALL).len(), 1);
    assert_eq!(lab.metrics().stats().corrupt_chunks, 1);
    disk_garbage(&lab, &path);
    lab.crash(false);
    assert_eq!(lab.read(&[], ALL).len(), 1);
    assert!(lab.metrics().stats().corrupt_chunks > 0);

    // Compaction works around it: what is whole is merged, what is not stays for a closer look.
    for t in 2..4 {
        lab.append_one(&up, t, 1.0);
        lab.metrics().cut().unwrap();
    }
    lab.compact(Day(0));
    assert_eq!(lab.blocks().len(), 3);
    assert_eq!(lab.read(&[], ALL).len(), 3);
}

fn disk_garbage(lab: &Lab, path: &Path) {
    lab.faulty.disk().write_atomic(path, b"garbage").unwrap();
}

/// Two blocks of one day with another value at one time, compacted while a third is cut: the first stored stays.
#[test]
fn compaction_keeps_the_first_stored() {
    let lab = Lab::new();
    let up = labels(&[("__name__", "up")]);
    for v in 1..4 {
        lab.append(&batch(&[
            (up.clone(), 1000, f64::from(v)),
            (up.clone(), 2000 + i64::from(v), 0.0),
        ]));
        lab.metrics().cut().unwrap();
    }
    let value = |lab: &Lab| f64::from_bits(lab.read(&[], ALL)[&(up.clone(), 1000)]);
    assert_eq!(value(&lab), 1.0);
    let snapshot = lab.metrics().snapshot(ALL);
    let old = snapshot.select(&[], ALL).unwrap();
    lab.metrics().compact(&lab.blocks()[..2]).unwrap();
    assert_eq!(lab.blocks().len(), 2);
    assert_eq!(
        value(&lab),
        1.0,
        "the compacted block has a higher id than the third, but was stored first"
    );
    lab.compact(Day(0));
    assert_eq!(value(&lab), 1.0);
    assert_eq!(lab.read(&[], ALL).len(), 4);
    let mut out = Samples::default();
    old[0].read(ALL, &mut out).unwrap();
    assert_eq!(out.v[0], 1.0, "a reader keeps the old blocks");
    assert_eq!(lab.metrics().stats().compactions, 2);
}

/// A head with a hundred thousand series must fit a small machine.
#[test]
fn a_series_takes_little_memory() {
    let lab = Lab::new();
    let mut batch = SampleBatch::default();
    for i in 0..10_000 {
        let (instance, path) = (
            format!("host-{}:9100", i % 100),
            format!("/api/v1/resource/{}", i / 100),
        );
        let mut pairs = vec![
            ("__name__", "http_requests_total"),
            ("instance", &instance),
            ("job", "api"),
            ("path", &path),
        ];
        let series = batch.series(&mut pairs);
        for k in 0..8 {
            batch.sample(series, TimestampMs(k * 15_000), (k * 3) as f64);
        }
    }
    lab.append(&batch);
    let stats = lab.metrics().stats();
    assert_eq!((stats.head_series, stats.head_samples), (10_000, 80_000));
    let bytes = stats.head_bytes / stats.head_series;
    assert!(bytes < 400, "{bytes} bytes a series");
}

/// Appends, cuts, compactions and readers at once: a reader never misses what was acknowledged before it looked.
#[test]
fn readers_see_all_that_was_acknowledged_while_heads_are_cut() {
    let lab = Lab::new();
    let metrics = lab.metrics();
    let series: Vec<LabelSet> = (0..3)
        .map(|i| labels(&[("__name__", "m"), ("i", &i.to_string())]))
        .collect();
    let acknowledged: Vec<AtomicI64> = series.iter().map(|_| AtomicI64::new(0)).collect();
    let done = AtomicBool::new(false);
    const EACH: i64 = 400;
    std::thread::scope(|scope| {
        let writers: Vec<_> = series
            .iter()
            .zip(&acknowledged)
            .map(|(series, acknowledged)| {
                scope.spawn(|| {
                    for n in 1..=EACH {
                        // Every other sample comes late.
                        let t = if n % 2 == 0 { n } else { EACH * 2 - n } * 60_000;
                        let batch = batch(&[(series.clone(), t, n as f64)]);
                        assert_eq!(block_on(metrics.append(&batch, lab.now)).unwrap().stored, 1);
                        acknowledged.store(n, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                metrics.cut().unwrap();
                lab.compact(Day(0));
            }
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let least: Vec<i64> = acknowledged.iter().map(|a| a.load(Ordering::SeqCst)).collect();
                let mut counts = BTreeMap::new();
                for ((labels, _), _) in read(metrics, &[], ALL) {
                    *counts.entry(labels).or_insert(0) += 1;
                }
                for (series, least) in series.iter().zip(least) {
                    assert!(counts.get(series).copied().unwrap_or(0) >= least);
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    assert_eq!(lab.read(&[], ALL).len() as i64, EACH * 3);
}

#[test]
fn deleted_samples_are_gone_and_what_comes_later_is_seen() {
    let mut lab = Lab::new();
    let (a, b) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]));
    let exemplar = Exemplar {
        labels: labels(&[("trace_id", "x")]),
        value: 1.0,
        t: TimestampMs(1000),
    };
    for (t, cut) in [(1000, true), (2000, true), (3000, false), (DAY_MS + 5, false)] {
        let mut batch = batch(&[(a.clone(), t, 1.0), (b.clone(), t, 1.0)]);
        let series = batch.series_of(&a);
        batch.exemplar(
            series,
            Exemplar {
                t: TimestampMs(t),
                ..exemplar.clone()
            },
        );
        lab.append(&batch);
        if cut {
            lab.metrics().cut().unwrap();
        }
    }
    let times = |lab: &Lab, of: &LabelSet| -> Vec<i64> {
        let all = lab.read(&[], ALL);
        all.keys().filter(|(labels, _)| labels == of).map(|(_, t)| *t).collect()
    };
    let selector = [vec![Matcher::equal("__name__", "a")]];
    let exemplars = |lab: &Lab| -> Vec<i64> {
        let found = lab.metrics().snapshot(ALL).exemplars(&selector, ALL).unwrap();
        found.iter().flat_map(|(_, list)| list.iter().map(|e| e.t.0)).collect()
    };
    let held = lab.metrics().snapshot(ALL);
    assert_eq!(
        lab.metrics().delete(&[], ALL).unwrap(),
        0,
        "no selector deletes nothing"
    );
    assert_eq!(lab.metrics().delete(&selector, range(2000, DAY_MS)).unwrap(), 1);
    assert_eq!(held.series(&selector, ALL).unwrap().len(), 1);
    drop(held);
    for lose_catalogue in [false, true, true] {
        assert_eq!(times(&lab, &a), [1000, DAY_MS + 5]);
        assert_eq!(times(&lab, &b), [1000, 2000, 3000, DAY_MS + 5]);
        assert_eq!(exemplars(&lab), [1000, DAY_MS + 5]);
        lab.crash(lose_catalogue);
    }

    // Sent again, with another value: stored, seen, and neither a duplicate nor a conflict.
    assert_eq!(lab.append_one(&a, 2000, 7.0).stored, 1);
    assert_eq!(lab.read(&[], ALL)[&(a.clone(), 2000)], 7f64.to_bits());
    lab.metrics().cut().unwrap();
    assert_eq!(lab.read(&[], ALL)[&(a.clone(), 2000)], 7f64.to_bits());
    lab.compact(Day(0));
    lab.crash(true);
    assert_eq!(lab.read(&[], ALL)[&(a.clone(), 2000)], 7f64.to_bits());
    assert_eq!(times(&lab, &a), [1000, 2000, DAY_MS + 5]);

    // All of a series: nobody lists it, and a block that held nothing else goes.
    lab.metrics().delete(&selector, ALL).unwrap();
    assert!(lab.metrics().snapshot(ALL).series(&selector, ALL).unwrap().is_empty());
    let bytes = |lab: &Lab| lab.blocks().iter().map(|block| block.meta().bytes).sum::<u64>();
    let before = (bytes(&lab), lab.blocks().len());
    lab.metrics().clean_tombstones().unwrap();
    assert!(bytes(&lab) < before.0 && lab.blocks().len() == before.1);
    assert!(lab.metrics().tombstones.masks().is_empty());
    lab.metrics()
        .delete(&[vec![Matcher::equal("__name__", "b")]], range(DAY_MS, i64::MAX))
        .unwrap();
    lab.metrics().clean_tombstones().unwrap();
    lab.crash(true);
    assert_eq!(lab.blocks().len(), before.1 - 1);
    assert_eq!(times(&lab, &b), [1000, 2000, 3000]);
    assert!(times(&lab, &a).is_empty() && exemplars(&lab).is_empty());
    lab.expire(TimestampMs(2 * DAY_MS));
    assert!(lab.metrics().tombstones.masks().is_empty());
}

/// A deletion that fails or is cut off anywhere is done or not done.
#[test]
fn a_deletion_may_fail_or_crash_at_every_step() {
    for step in 0..60 {
        let mut lab = Lab::new();
        let up = labels(&[("__name__", "up")]);
        lab.append_one(&up, 1, 1.0);
        lab.metrics().cut().unwrap();
        lab.append_one(&up, 2, 1.0);
        lab.faulty.fail_after(step);
        let selector = [vec![Matcher::equal("__name__", "up")]];
        let deleted = lab.metrics().delete(&selector, ALL);
        let left = if deleted.is_ok() { 0 } else { 2 };
        assert_eq!(lab.read(&[], ALL).len(), left, "failed at step {step}, still running");
        let done = deleted.is_ok();
        lab.crash(step % 2 == 0);
        let after = lab.read(&[], ALL).len();
        assert!(after == left || (after == 0 && !done), "crashed at step {step}");
        if done {
            assert!(step > 5, "a deletion takes some steps");
            return;
        }
    }
    panic!("a deletion takes less than 60 steps");
}

#[test]
fn cardinality_counts_the_active_series_once() {
    let lab = Lab::new();
    let series = |name: &str, host: &str| labels(&[("__name__", name), ("host", host)]);
    let all = [
        series("a", "x"),
        series("a", "y"),
        series("a", "long"),
        series("b", "x"),
    ];
    lab.append(&batch(&all.each_ref().map(|labels| (labels.clone(), 1000, 1.0))));
    let seen = lab.metrics().cardinality(2);
    let pairs = |list: &[(&str, u64)]| {
        list.iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect::<Vec<_>>()
    };
    assert_eq!((seen.series, seen.label_pairs, seen.chunks), (4, 5, 4));
    assert_eq!(seen.extent, Some((TimestampMs(1000), TimestampMs(1000))));
    assert_eq!(seen.series_by_metric, pairs(&[("a", 3), ("b", 1)]));
    assert_eq!(seen.values_by_label, pairs(&[("host", 3), ("__name__", 2)]));
    assert_eq!(seen.bytes_by_label, pairs(&[("host", 7), ("__name__", 4)]));
    assert_eq!(seen.series_by_pair, pairs(&[("__name__=a", 3), ("host=x", 2)]));
    assert_eq!(lab.metrics().cardinality(0).series_by_pair, pairs(&[]));
    // A cut that fails leaves a frozen head beside the active one.
    lab.faulty.fail_after(7);
    assert!(lab.metrics().cut().is_err());
    lab.faulty.heal();
    lab.append_one(&all[0], 2000, 1.0);
    let seen = lab.metrics().cardinality(10);
    assert_eq!((seen.series, seen.series_by_metric[0].1), (4, 3));
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, i64, u8)>),
    /// Of one series, minutes of a day.
    Delete(usize, i64, i64, i64),
    Clean,
    Cut,
    Compact(i32),
    Expire(i32),
    Crash {
        lose_catalogue: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let sample = (0usize..5, 0i64..4, 0i64..60, 0u8..3)
        .prop_map(|(series, day, minute, v)| (series, day * DAY_MS + DAY_MS / 2 + minute * 60_000, v));
    prop_oneof![
        8 => proptest::collection::vec(sample, 1..40).prop_map(Step::Append),
        4 => Just(Step::Cut),
        2 => (0usize..5, 0i64..4, 0i64..60, 0i64..60).prop_map(|(s, day, a, b)| Step::Delete(s, day, a.min(b), a.max(b))),
        1 => Just(Step::Clean),
        2 => (0i32..4).prop_map(Step::Compact),
        1 => (0i32..3).prop_map(Step::Expire),
        1 => any::<bool>().prop_map(|lose_catalogue| Step::Crash { lose_catalogue }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// The law of the engine: whatever is done to it, it is a map from (series, time) to the value stored first.
    #[test]
    fn the_engine_is_a_map(steps in proptest::collection::vec(step(), 1..30)) {
        let series: Vec<LabelSet> = (0..5).map(|i| labels(&[("__name__", "m"), ("i", &i.to_string())])).collect();
        let mut lab = Lab::new();
        let mut model: BTreeMap<(LabelSet, i64), u64> = BTreeMap::new();
        let mut floor = TimestampMs(0);
        for step in &steps {
            match step {
                Step::Append(samples) => {
                    let samples: Vec<_> = samples.iter().map(|&(s, t, v)| (series[s].clone(), t, f64::from(v))).collect();
                    lab.append(&batch(&samples));
                    // A batch is stored series by series, rising by time, those of one time in the order given.
                    for (labels, t, v) in samples {
                        if t >= floor.0 {
                            model.entry((labels, t)).or_insert(v.to_bits());
                        }
                    }
                }
                Step::Delete(s, day, a, b) => {
                    let noon = day * DAY_MS + DAY_MS / 2;
                    let some = range(noon + a * 60_000, noon + b * 60_000);
                    let selector = [vec![Matcher::equal("i", s.to_string())]];
                    lab.metrics().delete(&selector, some).unwrap();
                    model.retain(|(labels, t), _| *labels != series[*s] || !some.contains(TimestampMs(*t)));
                }
                Step::Clean => lab.metrics().clean_tombstones().unwrap(),
                Step::Cut => _ = lab.metrics().cut().unwrap(),
                Step::Compact(day) => lab.compact(Day(*day)),
                Step::Expire(day) => {
                    floor = floor.max(Day(*day).start_ms());
                    lab.now = TimestampMs(floor.0 + RETENTION_MS);
                    lab.expire(floor);
                    model.retain(|(_, t), _| *t >= floor.0);
                }
                Step::Crash { lose_catalogue } => {
                    lab.crash(*lose_catalogue);
                    lab.expire(floor);
                }
            }
            prop_assert_eq!(lab.read(&[], ALL), model.clone(), "after {:?}", step);
        }
        let some = range(DAY_MS + DAY_MS / 2 + 600_000, 2 * DAY_MS + DAY_MS / 2 + 600_000);
        let matcher = [Matcher::new("i", MatchOp::Regex, "1|2|7").unwrap()];
        let expected: BTreeMap<_, _> = model.iter()
            .filter(|((labels, t), _)| some.contains(TimestampMs(*t)) && matches!(labels.get("i"), Some("1" | "2")))
            .map(|(k, v)| (k.clone(), *v)).collect();
        prop_assert_eq!(lab.read(&matcher, some), expected);
        let present: BTreeSet<LabelSet> = model.keys().map(|(labels, _)| labels.clone()).collect();
        let listed = lab.metrics().snapshot(ALL).series(&[], ALL).unwrap();
        // Presence is exact to a chunk, so a series all of whose samples were deleted piece by piece may be listed.
        let touched = |labels: &LabelSet| steps.iter().any(|s| matches!(s, Step::Delete(i, ..) if series[*i] == *labels));
        prop_assert!(present.iter().all(|labels| listed.contains(labels)));
        prop_assert!(listed.iter().all(|labels| present.contains(labels) || touched(labels)));
    }
}
