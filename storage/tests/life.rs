//! A week in a second: time is handed in, so cuts, compaction and retention are tested by ticking through invented days.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use model::{
    DAY_NS, Day, LabelSet, LogBatch, Matcher, SampleBatch, Span, SpanBatch, SpanId, TimeRangeMs, TimeRangeNs,
    TimestampMs, TimestampNs, TraceId,
};
use storage::{AppendError, Options, Storage, SyncMode};
use storage_logs::{Entries, Needles};
use storage_metrics::Samples;

const HOUR_NS: i64 = 3_600_000_000_000;

struct World {
    storage: Storage,
    clock: Arc<AtomicI64>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn open(dir: &Path, now: i64, change: impl FnOnce(&mut Options)) -> World {
        let clock = Arc::new(AtomicI64::new(now));
        let mut options = Options {
            data_dir: dir.to_owned(),
            retention_metrics_ms: 15 * 86_400_000,
            retention_logs_ns: 7 * DAY_NS,
            retention_traces_ns: 2 * DAY_NS,
            retention_size: None,
            memory_limit: 1 << 30,
            free_disk_reserve: 0,
            wal_sync: SyncMode::Never,
        };
        change(&mut options);
        let hand = clock.clone();
        let tell = move || TimestampNs(hand.load(Ordering::Relaxed));
        let (storage, _) = Storage::open(options, Arc::new(tell)).unwrap();
        World {
            storage,
            clock,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        }
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Moves the clock and ticks; no step of the life cycle may fail.
    fn pass(&self, ns: i64) -> storage::Ticked {
        let now = self.clock.fetch_add(ns, Ordering::Relaxed) + ns;
        let (done, errors) = self.storage.tick(TimestampNs(now));
        assert!(errors.is_empty(), "{errors:?}");
        done
    }

    /// One sample, one line and one span, stamped now.
    fn send(&self, n: u64) -> Result<(), AppendError> {
        let t = TimestampNs(self.now());
        let mut samples = SampleBatch::default();
        let series = samples.series(&mut vec![("__name__", "n")]);
        samples.sample(series, t.floor_ms(), n as f64);
        let mut logs = LogBatch::default();
        let stream = logs.stream(&mut vec![("app", "x")]);
        logs.entry(stream, t, &format!("line {n}"), [("k", "v")]);
        let span = Span {
            trace_id: TraceId(u128::from(n) + 1),
            span_id: SpanId(n + 1),
            name: "step".to_owned(),
            start: t,
            end: t,
            ..Span::default()
        };
        self.runtime.block_on(async {
            assert_eq!(self.storage.append_samples(&samples).await?.stored, 1);
            assert_eq!(self.storage.append_logs(&logs).await?.stored, 1);
            assert_eq!(
                self.storage.append_spans(SpanBatch { spans: vec![span] }).await?.stored,
                1
            );
            Ok(())
        })
    }

    fn samples(&self) -> Vec<f64> {
        let snapshot = self.storage.metrics().snapshot(TimeRangeMs::ALL);
        let mut out = Samples::default();
        for series in snapshot
            .select(&[Matcher::equal("__name__", "n")], TimeRangeMs::ALL)
            .unwrap()
        {
            series.read(TimeRangeMs::ALL, &mut out).unwrap();
        }
        out.v
    }

    fn lines(&self) -> Vec<String> {
        let snapshot = self.storage.logs().snapshot(TimeRangeNs::ALL);
        let runs = snapshot
            .runs(&[Matcher::equal("app", "x")], TimeRangeNs::ALL, &Needles::default())
            .unwrap();
        let mut found = Vec::new();
        let mut entries = Entries::default();
        for run in runs {
            run.read(&mut entries).unwrap();
            found.extend((0..entries.len()).map(|i| (entries.t(i), entries.line(i).to_owned())));
        }
        found.sort();
        found.into_iter().map(|(_, line)| line).collect()
    }

    fn has_trace(&self, n: u64) -> bool {
        let snapshot = self.storage.traces().snapshot(TimeRangeNs::ALL);
        !snapshot.trace(TraceId(u128::from(n) + 1)).unwrap().is_empty()
    }
}

fn start() -> i64 {
    Day(20_000).start_ns().0
}

#[test]
fn a_week_passes_and_each_signal_keeps_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |_| {});
    let (mut cut, mut compacted, mut expired) = (0, 0, 0);
    let hours = 10 * 24;
    for n in 0..hours {
        world.send(n).unwrap();
        let done = world.pass(HOUR_NS);
        cut += done.cut.len();
        compacted += done.compacted.len();
        expired += done.expired.len();
    }
    assert!(
        cut > 200 && compacted > 20 && expired > 10,
        "cut {cut}, compacted {compacted}, expired {expired}"
    );
    let all: Vec<f64> = (0..hours).map(|n| n as f64).collect();
    assert_eq!(world.samples(), all, "metrics are kept 15 days");
    let lines = world.lines();
    assert_eq!(lines.last().unwrap(), "line 239");
    assert!(
        (7 * 24 - 1..=8 * 24).contains(&lines.len()),
        "{} lines after 10 days with 7 days of retention",
        lines.len()
    );
    assert!(world.has_trace(hours - 1) && world.has_trace(hours - 24) && !world.has_trace(hours - 4 * 24));
    let blocks = world.storage.stats();
    assert!(
        blocks.metrics.blocks <= 10 + 4,
        "{} blocks of metrics for 10 days",
        blocks.metrics.blocks
    );

    drop(world);
    let world = World::open(dir.path(), start() + hours as i64 * HOUR_NS, |_| {});
    assert_eq!(world.samples(), all, "after a restart");
    assert_eq!(world.lines(), lines, "after a restart");
}

#[test]
fn the_oldest_day_goes_when_the_disk_quota_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |_| {});
    world.send(0).unwrap();
    // Text that does not compress, so that the day outweighs what the catalogue grows by.
    let mut logs = LogBatch::default();
    let stream = logs.stream_of(&LabelSet::from_pairs([("app", "noise")]));
    for n in 0..64 {
        let line: String = (0..800u64).map(|i| format!("{:016x}", noise(n * 1000 + i))).collect();
        logs.entry(stream, TimestampNs(world.now() + n as i64), &line, [("", ""); 0]);
    }
    world.runtime.block_on(world.storage.append_logs(&logs)).unwrap();
    world.storage.flush().unwrap();
    let on_disk = |world: &World| {
        let stats = world.storage.stats();
        let blocks = stats.metrics.block_bytes + stats.logs.block_bytes + stats.traces.block_bytes;
        let wals = stats.metrics.wal.disk_bytes + stats.logs.wal.disk_bytes + stats.traces.wal.disk_bytes;
        (blocks, wals + stats.catalogue_bytes)
    };
    let (one_day, others) = on_disk(&world);
    assert!(one_day > 300_000, "{one_day}");
    drop(world);
    let world = World::open(dir.path(), start() + DAY_NS, |o| {
        o.retention_size = Some(others + one_day * 3 / 4)
    });
    world.send(1).unwrap();
    world.storage.flush().unwrap();
    assert_eq!(world.samples(), [0.0, 1.0]);
    assert_eq!(world.pass(1).expired.len(), 3, "one block of each signal");
    assert_eq!(world.samples(), [1.0]);
    assert_eq!(world.lines(), ["line 1"]);
    assert!(world.has_trace(1) && !world.has_trace(0));
}

fn noise(n: u64) -> u64 {
    n.wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A Trilobite that starts in a snapshot answers as the one that made it did, whatever became of that one since.
#[test]
fn a_snapshot_is_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |_| {});
    world.send(0).unwrap();
    world.storage.flush().unwrap();
    world.pass(1_000_000_000);
    world.send(1).unwrap();
    let selector = [vec![Matcher::equal("__name__", "n")]];
    let old = TimeRangeMs {
        start: TimestampMs(i64::MIN),
        end: TimestampNs(start() + 1_000_000_000).floor_ms(),
    };
    let headless = world.storage.snapshot(true).unwrap();
    let whole = world.storage.snapshot(false).unwrap();
    world.pass(HOUR_NS);
    world.send(2).unwrap();
    world.storage.flush().unwrap();
    world.storage.metrics().delete(&selector, old).unwrap();
    let deleted = world.storage.snapshot(false).unwrap();
    assert!(
        headless.starts_with("20241004T000001Z-") && headless.len() == 33,
        "{headless}"
    );
    world.pass(20 * DAY_NS);
    assert!(world.samples().is_empty(), "expired");
    drop(world);
    std::fs::create_dir(dir.path().join("snapshots/x.tmp")).unwrap();
    drop(World::open(dir.path(), start(), |_| {}));
    assert!(!dir.path().join("snapshots/x.tmp").exists());
    for (name, samples, lines) in [
        (&headless, &[0.0][..], 1),
        (&whole, &[0.0, 1.0], 2),
        (&deleted, &[2.0], 3),
    ] {
        let world = World::open(&dir.path().join("snapshots").join(name), start() + 2 * HOUR_NS, |_| {});
        assert_eq!(world.samples(), samples, "{name}");
        assert_eq!(world.lines().len(), lines);
        assert!((0..3).all(|n| world.has_trace(n) == (n < lines as u64)));
        world.send(3).unwrap();
        assert_eq!(world.samples().len(), samples.len() + 1, "it goes on from there");
    }
}

#[test]
fn a_nearly_full_disk_refuses_ingest_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |o| o.free_disk_reserve = u64::MAX);
    let refused = world.send(0).unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull(_)), "{refused}");
    assert!(refused.to_string().contains("--free-disk-reserve"), "{refused}");
    assert_eq!(world.samples(), [0.0; 0], "queries go on");
    drop(world);
    let world = World::open(dir.path(), start(), |_| {});
    world.send(0).unwrap();
}

#[test]
fn memory_pressure_cuts_heads_early_and_refuses_before_memory_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |o| o.memory_limit = 8 << 20);
    let mut refused = None;
    let mut noise = 1u64;
    for n in 0..4_000 {
        // Text that does not compress, so that memory is really used.
        let line: String = (0..1_000)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                format!("{:08x}", noise >> 32)
            })
            .collect();
        let mut logs = LogBatch::default();
        let stream = logs.stream_of(&LabelSet::from_pairs([("app", "x")]));
        logs.entry(stream, TimestampNs(world.now() + n), &line, [("", ""); 0]);
        if let Err(e) = world.runtime.block_on(world.storage.append_logs(&logs)) {
            refused = Some(e);
            break;
        }
    }
    let refused = refused.expect("32 MB of noise do not fit into 8 MiB");
    assert!(matches!(refused, AppendError::Overloaded(_)), "{refused}");
    assert!(!world.pass(1_000_000_000).cut.is_empty(), "the tick cuts");
    world.send(1).unwrap();
    assert!(world.storage.budget().pressure() < 0.5);
}

#[test]
fn too_old_and_too_new_are_refused_and_anything_between_is_taken_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), start(), |_| {});
    let now = TimestampNs(start()).floor_ms().0;
    let mut batch = SampleBatch::default();
    let series = batch.series(&mut vec![("__name__", "n")]);
    for (t, v) in [
        (now, 4.0),
        (now - 86_400_000, 2.0),
        (now + 590_000, 5.0),
        (now - 14 * 86_400_000, 1.0),
        (now - 1, 3.0),
    ] {
        batch.sample(series, TimestampMs(t), v);
    }
    batch.sample(series, TimestampMs(now - 16 * 86_400_000), 0.0);
    batch.sample(series, TimestampMs(now + 610_000), 6.0);
    let appended = world.runtime.block_on(world.storage.append_samples(&batch)).unwrap();
    assert_eq!((appended.stored, appended.too_old, appended.too_new), (5, 1, 1));
    assert_eq!(world.samples(), [1.0, 2.0, 3.0, 4.0, 5.0]);
    world.storage.flush().unwrap();
    assert_eq!(world.samples(), [1.0, 2.0, 3.0, 4.0, 5.0]);
}
