//! The engine through its face: what a user of it would notice.

#![allow(clippy::unwrap_used)]

mod deletes;
mod lab;
mod model;
mod needles;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::model::{LabelSet, LogBatch, Matcher, TimeRangeNs, TimestampNs};
use lab::{AHEAD, DAY, Lab, NOON, RETENTION, Row, batch, labels, range, row, with};
use storage_logs::{AppendError, Entries, Logs, Needles, Run, Snapshot};

const fn crosses_threads<T: Send + Sync>() {}
const _: () = crosses_threads::<Logs>();
const _: () = crosses_threads::<Snapshot>();
const _: () = crosses_threads::<Run>();

#[test]
fn entries_are_there_in_head_block_and_after_a_crash() {
    let lab = Lab::new();
    let rows = vec![
        row(NOON, "one"),
        with(row(NOON + 1, "two"), "trace_id", "ab"),
        row(NOON + 1, "three"),
    ];
    let appended = lab.append(&batch(&[("a", rows.clone()), ("b", vec![row(NOON, "x")])]), NOON);
    assert_eq!((appended.stored, appended.duplicates), (4, 0));
    let expected = vec![(labels("a"), rows), (labels("b"), vec![row(NOON, "x")])];
    assert_eq!(lab.read_all(), expected);
    let lab = lab.crash(false);
    assert_eq!(lab.read_all(), expected);
    assert_eq!(lab.logs.cut().unwrap().len(), 1);
    assert_eq!(lab.read_all(), expected);
    assert_eq!(lab.logs.stats().head_streams, 0);
    assert!(lab.logs.cut().unwrap().is_empty());
    let lab = lab.crash(false);
    assert_eq!(lab.read_all(), expected);
    assert_eq!(lab.logs.stats().head_entries, 0);
    let lab = lab.crash(true);
    assert_eq!(lab.read_all(), expected);
}

/// Someone empties the WAL's directory to get going again: what comes after must not be taken for what is in blocks.
#[test]
fn what_comes_after_the_wal_files_are_lost_is_kept() {
    let lab = Lab::new();
    for i in 0..20 {
        lab.append(&batch(&[("a", vec![row(NOON + i, "before")])]), NOON);
    }
    lab.logs.cut().unwrap();
    let disk = lab.disk.disk();
    let lab = lab.crash_after(|dir| {
        for (name, _) in disk.list(&dir.join("logs/wal")).unwrap() {
            disk.remove_file(&dir.join("logs/wal").join(name)).unwrap();
        }
        disk.sync_dir(&dir.join("logs/wal")).unwrap();
    });
    lab.append(&batch(&[("a", vec![row(NOON + 100, "after")])]), NOON);
    let lab = lab.crash(false);
    assert_eq!(lab.read_all()[0].1.len(), 21);
}

#[test]
fn late_entries_are_stored_and_too_late_ones_named() {
    let lab = Lab::new();
    let rows = vec![
        row(NOON, "now"),
        row(NOON - RETENTION, "old"),
        row(NOON - RETENTION - 1, "too old"),
        row(NOON + AHEAD, "early"),
        row(NOON + AHEAD + 1, "too early"),
        row(NOON - 3 * DAY, "days late"),
    ];
    let appended = lab.append(&batch(&[("a", rows)]), NOON);
    assert_eq!((appended.stored, appended.too_old, appended.too_new), (4, 1, 1));
    let named: Vec<(LabelSet, i64, bool)> = appended.refused.into_iter().map(|(l, t, new)| (l, t.0, new)).collect();
    let expected = [
        (labels("a"), NOON - RETENTION - 1, false),
        (labels("a"), NOON + AHEAD + 1, true),
    ];
    assert_eq!(named, expected);
    assert_eq!(lab.logs.cut().unwrap().len(), 3, "a block for each day");
    let lines: Vec<String> = lab.read_all()[0].1.iter().map(|r| r.1.clone()).collect();
    assert_eq!(lines, ["old", "days late", "now", "early"]);
}

#[test]
fn a_batch_that_is_sent_again_is_stored_once() {
    let lab = Lab::new();
    let rows: Vec<_> = (0..50)
        .map(|i| with(row(NOON + i % 7, &format!("line {i}")), "k", "v"))
        .collect();
    let b = batch(&[("a", rows)]);
    assert_eq!(lab.append(&b, NOON).stored, 50);
    let again = lab.append(&b, NOON);
    assert_eq!((again.stored, again.duplicates), (0, 50));
    // After a cut the head does not know them any more; reading and compaction do.
    lab.logs.cut().unwrap();
    lab.append(&b, NOON);
    assert_eq!(lab.read_all()[0].1.len(), 50);
    lab.logs.cut().unwrap();
    assert_eq!(lab.read_all()[0].1.len(), 50);
    lab.compact_all();
    let blocks = lab.blocks();
    assert_eq!(
        (blocks.len(), blocks[0].meta().items, blocks[0].meta().level),
        (1, 50, 1)
    );
    assert_eq!(lab.read_all()[0].1.len(), 50);
}

#[test]
fn the_same_line_with_other_metadata_or_time_is_another_entry() {
    let lab = Lab::new();
    let rows = vec![
        row(NOON, "x"),
        with(row(NOON, "x"), "k", "v"),
        row(NOON + 1, "x"),
        row(NOON, "x"),
    ];
    let appended = lab.append(&batch(&[("a", rows)]), NOON);
    assert_eq!((appended.stored, appended.duplicates), (3, 1));
    assert_eq!(lab.read_all()[0].1.len(), 3);
}

#[test]
fn a_snapshot_is_not_disturbed_by_what_comes_later() {
    let lab = Lab::new();
    lab.append(&batch(&[("a", vec![row(NOON, "one")])]), NOON);
    let snapshot = lab.logs.snapshot(TimeRangeNs::ALL);
    let runs = snapshot.runs(&[], TimeRangeNs::ALL, &Needles::default()).unwrap();
    lab.append(&batch(&[("a", vec![row(NOON + 1, "two")])]), NOON);
    lab.logs.cut().unwrap();
    lab.append(&batch(&[("a", vec![row(NOON + 2, "three")])]), NOON);
    lab.logs.cut().unwrap();
    lab.compact_all();
    lab.expire(NOON + 30 * DAY);
    let mut entries = storage_logs::Entries::default();
    assert_eq!(runs.len(), 1);
    runs[0].read(&mut entries).unwrap();
    assert_eq!((entries.len(), entries.line(0)), (1, "one"));
    assert!(lab.read_all().is_empty());
}

#[test]
fn large_streams_become_many_chunks_and_needles_skip_them() {
    let lab = Lab::new();
    let id = |i: i64| {
        format!(
            "{:032x}",
            (i as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        )
    };
    let n = 20_000;
    for part in 0..10 {
        let rows = (part * n / 10..(part + 1) * n / 10)
            .map(|i| {
                with(
                    row(
                        NOON + i * 1_000_000,
                        &format!("request {i} took {} ms trace={}", i % 97, id(i / 5)),
                    ),
                    "trace_id",
                    &id(i / 5),
                )
            })
            .collect();
        lab.append(&batch(&[("a", rows)]), NOON);
    }
    let needle = Needles {
        contains: vec![id(1234)],
        metadata: vec![],
    };
    let pair = Needles {
        contains: vec![],
        metadata: vec![("trace_id".to_owned(), id(1234))],
    };
    let absent = Needles {
        contains: vec![id(1 << 40)],
        metadata: vec![],
    };
    let check = |lab: &Lab, runs_min: usize| {
        let runs = |needles: &Needles| {
            let snapshot = lab.logs.snapshot(TimeRangeNs::ALL);
            snapshot.runs(&[], TimeRangeNs::ALL, needles).unwrap().len()
        };
        assert!(runs(&Needles::default()) >= runs_min);
        for needles in [&needle, &pair] {
            assert!(runs(needles) <= 2, "one chunk, and the open one");
            let found = lab.read(&[], TimeRangeNs::ALL, needles);
            let hits = found[0].1.iter().filter(|r| r.1.contains(&id(1234)));
            assert_eq!(hits.count(), 5);
        }
        assert!(runs(&absent) <= 1);
        assert_eq!(lab.read_all()[0].1.len(), n as usize);
        let volumes = lab
            .logs
            .snapshot(TimeRangeNs::ALL)
            .volumes(&[], TimeRangeNs::ALL)
            .unwrap();
        assert_eq!(volumes[0].entries, n as u64);
    };
    check(&lab, 5);
    lab.logs.cut().unwrap();
    check(&lab, 5);
    let raw: u64 = lab.read_all()[0].1.iter().map(|r| (r.1.len() + 8 + 32) as u64).sum();
    let needles = lab.blocks()[0].dir().join("needles");
    let filter_bytes = lab.disk.disk().open(&needles).unwrap().len();
    assert!(filter_bytes * 100 <= raw * 3, "{filter_bytes} of {raw}");
    lab.append(&batch(&[("a", vec![row(NOON, "one more")])]), NOON);
    lab.logs.cut().unwrap();
    let lab = lab.crash(false);
    lab.compact_all();
    assert_eq!(lab.read_all()[0].1.len(), n as usize + 1);
}

#[test]
fn series_and_labels_respect_the_range() {
    let lab = Lab::new();
    let hour = 3_600_000_000_000;
    lab.append(
        &batch(&[
            ("early", vec![row(NOON - 2 * hour, "x")]),
            ("late", vec![row(NOON, "x")]),
        ]),
        NOON,
    );
    lab.append(&batch(&[("yesterday", vec![row(NOON - DAY, "x")])]), NOON);
    let check = |lab: &Lab| {
        let values = |start, end| {
            let snapshot = lab.logs.snapshot(range(start, end));
            snapshot.label_values("app", &[], range(start, end)).unwrap()
        };
        assert_eq!(values(NOON - hour, NOON + 1), ["late"]);
        assert_eq!(values(NOON - 3 * hour, NOON), ["early"]);
        assert_eq!(values(NOON - DAY, NOON - hour), ["early", "yesterday"]);
        assert_eq!(values(i64::MIN, i64::MAX), ["early", "late", "yesterday"]);
        assert!(values(NOON, NOON).is_empty());
        let snapshot = lab.logs.snapshot(TimeRangeNs::ALL);
        assert_eq!(snapshot.label_names(&[], TimeRangeNs::ALL).unwrap(), ["app", "env"]);
        let selectors = [
            vec![Matcher::equal("app", "late")],
            vec![Matcher::equal("app", "yesterday")],
        ];
        let series = snapshot.series(&selectors, TimeRangeNs::ALL).unwrap();
        assert_eq!(series, [labels("late"), labels("yesterday")]);
        let volumes = snapshot
            .volumes(&[Matcher::equal("app", "late")], range(NOON, NOON + 1))
            .unwrap();
        assert_eq!((volumes.len(), volumes[0].entries, volumes[0].bytes), (1, 1, 1));
    };
    check(&lab);
    lab.logs.cut().unwrap();
    check(&lab);
}

#[test]
fn a_tail_gets_what_is_accepted_and_is_told_what_it_lost() {
    let lab = Lab::new();
    let mut tail = lab.logs.subscribe(vec![Matcher::equal("app", "a")]);
    let b = batch(&[
        ("a", vec![with(row(NOON, "one"), "k", "v"), row(0, "too old")]),
        ("b", vec![row(NOON, "other")]),
    ]);
    lab.append(&b, NOON);
    lab.append(&b, NOON);
    lab.append(&batch(&[("a", vec![row(NOON + 1, "two")])]), NOON);
    let (stream, entry, lost) = lab.block_on(tail.recv()).unwrap();
    assert_eq!(
        (stream, entry.line.as_str(), entry.metadata.len(), lost),
        (labels("a"), "one", 1, 0)
    );
    assert_eq!(lab.block_on(tail.recv()).unwrap().1.line, "two");
    let many = (0..5000).map(|i| row(NOON + 10 + i, "many")).collect();
    lab.append(&batch(&[("a", many)]), NOON);
    let mut got = 0;
    while got < 4096 {
        assert_eq!(lab.block_on(tail.recv()).unwrap().2, 0);
        got += 1;
    }
    lab.append(&batch(&[("a", vec![row(NOON + 1_000_000, "last")])]), NOON);
    let (_, entry, lost) = lab.block_on(tail.recv()).unwrap();
    assert_eq!((entry.line.as_str(), lost), ("last", 5000 - 4096));
    drop(lab);
}

#[test]
fn the_budget_knows_what_the_head_takes_and_gets_it_back() {
    let lab = Lab::new();
    let rows = (0..5000)
        .map(|i| row(NOON + i, &format!("a line of some length, number {i}")))
        .collect();
    lab.append(&batch(&[("a", rows)]), NOON);
    let stats = lab.logs.stats();
    assert!(stats.head_bytes > 20_000 && lab.budget.used() == stats.head_bytes);
    assert_eq!((stats.head_entries, stats.appended), (5000, 5000));
    assert_eq!(stats.head_min, Some(TimestampNs(NOON)));
    lab.logs.cut().unwrap();
    assert_eq!(lab.budget.used(), 0);
}

#[test]
fn without_memory_a_batch_is_refused_whole() {
    let lab = Lab::new();
    let all = lab.budget.take(lab.budget.limit());
    let b = batch(&[("a", vec![row(NOON, "one")])]);
    let refused = lab.block_on(lab.logs.append(&b, TimestampNs(NOON)));
    assert!(matches!(refused, Err(AppendError::OverBudget(_))));
    assert!(lab.read_all().is_empty());
    drop(all);
    assert_eq!(lab.append(&b, NOON).stored, 1);
}

#[test]
fn damaged_chunks_are_skipped_and_counted() {
    let lab = Lab::new();
    lab.append(
        &batch(&[("a", vec![row(NOON, "one")]), ("b", vec![row(NOON, "two")])]),
        NOON,
    );
    lab.logs.cut().unwrap();
    let path = lab.blocks()[0].dir().join("chunks");
    let disk = lab.disk.disk();
    let mut bytes = disk.read(&path).unwrap();
    bytes[12] ^= 0xff;
    disk.write_atomic(&path, &bytes).unwrap();
    let lab = lab.crash(false);
    assert_eq!(lab.read_all(), [(labels("b"), vec![row(NOON, "two")])]);
    assert_eq!(lab.logs.stats().corrupt_chunks, 1);

    let range = TimeRangeNs::ALL;
    let snapshot = lab.logs.snapshot(range);
    let runs = snapshot.runs(&[], range, &Needles::default()).unwrap();
    assert_eq!(snapshot.skipped_chunks(), 0);
    for run in &runs {
        run.read(&mut Entries::default()).unwrap();
    }
    assert_eq!(snapshot.skipped_chunks(), 1, "whoever asks can tell");
}

/// One damaged block must not keep a whole day in pieces. What can be read of it stays readable.
#[test]
fn a_damaged_block_is_left_out_of_compaction() {
    let lab = Lab::new();
    for (i, line) in ["one", "two", "three"].iter().enumerate() {
        lab.append(&batch(&[("a", vec![row(NOON + i as i64, line)])]), NOON);
        lab.append(&batch(&[("b", vec![row(NOON + i as i64, line)])]), NOON);
        lab.logs.cut().unwrap();
    }
    let before = lab.blocks();
    let path = before[1].dir().join("chunks");
    let disk = lab.disk.disk();
    let mut bytes = disk.read(&path).unwrap();
    bytes[12] ^= 0xff;
    disk.write_atomic(&path, &bytes).unwrap();
    let made = lab.logs.compact(&before).unwrap().unwrap();
    let after: Vec<_> = lab.blocks().iter().map(|b| b.meta().id).collect();
    assert_eq!(after, [before[1].meta().id, made]);
    assert_eq!(lab.logs.stats().damaged_blocks, 1);
    let rows = |lines: &[(i64, &str)]| -> Vec<Row> { lines.iter().map(|(t, line)| row(NOON + t, line)).collect() };
    assert_eq!(
        lab.read_all(),
        [
            (labels("a"), rows(&[(0, "one"), (2, "three")])),
            (labels("b"), rows(&[(0, "one"), (1, "two"), (2, "three")])),
        ]
    );
    assert_eq!(
        lab.logs.compact(&lab.blocks()).unwrap(),
        None,
        "one whole block is left"
    );
}

#[test]
fn a_cut_that_fails_loses_nothing_and_is_made_up_for() {
    let entries = |lab: &Lab| lab.read_all().iter().map(|(_, rows)| rows.len()).sum::<usize>();
    for n in 0..200 {
        let mut lab = Lab::new();
        lab.append(
            &batch(&[("a", vec![row(NOON, "one"), row(NOON - DAY, "before")])]),
            NOON,
        );
        lab.disk.fail_after(n);
        let failed = lab.logs.cut().is_err();
        assert_eq!(entries(&lab), 2);
        if n % 3 > 0 {
            lab = lab.crash(n % 3 == 2);
            assert_eq!(entries(&lab), 2, "after {n} operations");
        } else {
            // The disk has room again.
            lab.disk.fail_after(u64::MAX);
        }
        lab.logs.cut().unwrap();
        lab.append(&batch(&[("a", vec![row(NOON + 1, "more")])]), NOON);
        assert_eq!(entries(&lab), 3, "after {n} operations");
        let lab = lab.crash(n % 2 == 1);
        assert_eq!(entries(&lab), 3, "after {n} operations");
        lab.logs.cut().unwrap();
        assert_eq!(entries(&lab), 3, "after {n} operations");
        assert_eq!(lab.logs.stats().head_entries, 0);
        if !failed {
            return;
        }
    }
    panic!("the cut never succeeded");
}

/// What a client may rely on, whatever the disk does and whenever: an acknowledged entry stays, and stays once; an entry
/// that was refused is there once or not at all.
#[test]
fn a_disk_that_fails_at_any_operation_loses_nothing_acknowledged() {
    // A prime step meets every kind of operation, and takes a fraction of the time.
    for n in (0..600).step_by(29) {
        let mut lab = Lab::new();
        lab.disk.fail_after(n);
        let mut acknowledged = Vec::new();
        let mut failures = 0;
        for round in 0..3 {
            for i in 0..3 {
                let line = format!("round {round} entry {i}");
                let b = batch(&[("a", vec![row(NOON + i, &line), row(NOON - i * DAY, &line)])]);
                match lab.block_on(lab.logs.append(&b, TimestampNs(NOON))) {
                    Ok(_) => acknowledged.extend([(NOON + i, line.clone()), (NOON - i * DAY, line)]),
                    Err(_) => failures += 1,
                }
            }
            failures += usize::from(lab.logs.cut().is_err());
            let blocks = lab.blocks();
            let today = blocks
                .into_iter()
                .filter(|b| b.meta().max >= TimestampNs(NOON))
                .collect::<Vec<_>>();
            if today.len() > 1 {
                failures += usize::from(lab.logs.compact(&today).is_err());
            }
        }
        acknowledged.sort();
        acknowledged.dedup();
        for forget in [n % 2 == 1, n % 2 == 0] {
            lab = lab.crash(forget);
            let mut there: Vec<_> = lab
                .read_all()
                .into_iter()
                .flat_map(|(_, rows)| rows)
                .map(|r| (r.0, r.1))
                .collect();
            there.sort();
            assert!(there.is_sorted_by(|a, b| a < b), "twice after {n} operations");
            let lost: Vec<_> = acknowledged
                .iter()
                .filter(|a| there.binary_search(a).is_err())
                .collect();
            assert!(lost.is_empty(), "lost after {n} operations: {lost:?}");
            lab.logs.cut().unwrap();
        }
        if failures == 0 {
            return;
        }
    }
    panic!("some operation always failed");
}

#[test]
fn appends_cuts_compactions_and_reads_at_once_lose_nothing() {
    let lab = Arc::new(Lab::new());
    let logs = &lab.logs;
    let done = AtomicBool::new(false);
    const WRITERS: i64 = 4;
    const ROUNDS: i64 = 40;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for round in 0..ROUNDS {
                        let mut b = LogBatch::default();
                        for s in 0..5 {
                            let stream = b.stream_of(&labels(&format!("s{s}")));
                            for i in 0..10 {
                                let t = TimestampNs(NOON + round * 1000 + i);
                                b.entry(stream, t, &format!("w{w} r{round} s{s} i{i}"), [("k", "v")]);
                            }
                        }
                        let appended = runtime.block_on(logs.append(&b, TimestampNs(NOON))).unwrap();
                        assert_eq!(appended.stored, 50);
                        // What was acknowledged is seen at once, and once.
                        let seen = lab::read(
                            logs,
                            &[Matcher::equal("app", "s0")],
                            TimeRangeNs::ALL,
                            &Needles::default(),
                        );
                        let mine = seen[0].1.iter().filter(|r| r.1.starts_with(&format!("w{w} ")));
                        assert_eq!(mine.count() as i64, (round + 1) * 10);
                    }
                })
            })
            .collect();
        let keeper = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                logs.cut().unwrap();
                let blocks = lab.blocks();
                if blocks.len() > 3 {
                    logs.compact(&blocks).unwrap();
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        keeper.join().unwrap();
    });
    let entries: usize = lab.read_all().iter().map(|(_, rows)| rows.len()).sum();
    assert_eq!(entries as i64, WRITERS * ROUNDS * 50);
    let volumes = lab
        .logs
        .snapshot(TimeRangeNs::ALL)
        .volumes(&[], TimeRangeNs::ALL)
        .unwrap();
    assert_eq!(
        volumes.iter().map(|v| v.entries).sum::<u64>() as i64,
        WRITERS * ROUNDS * 50
    );
}

/// By share of time most of the chunk would lie in its second half.
#[test]
fn volumes_count_the_entries_of_chunks_that_a_range_cuts() {
    let lab = Lab::new();
    let crowded = (0..900).map(|i| row(NOON + i, "four"));
    let rows: Vec<Row> = crowded.chain((1..=100).map(|i| row(NOON + i * 1000, "four"))).collect();
    lab.append(&batch(&[("a", rows)]), NOON);
    let volumes = |lab: &Lab, range, step| {
        let volumes = lab.logs.snapshot(range).volumes_by_step(&[], range, step, &mut || true);
        let volumes: Vec<_> = volumes
            .unwrap()
            .into_iter()
            .map(|v| (v.entries, v.bytes, v.steps))
            .collect();
        volumes
    };
    for cut in [false, true] {
        if cut {
            lab.logs.cut().unwrap();
        }
        assert_eq!(
            volumes(&lab, range(NOON + 100, NOON + 50_001), i64::MAX),
            [(850, 3400, vec![(0, 3400)])]
        );
        let by_half = volumes(&lab, range(NOON, NOON + 100_001), 50_000);
        assert_eq!(by_half, [(1000, 4000, vec![(0, 3796), (1, 200), (2, 4)])]);
        assert_eq!(volumes(&lab, range(NOON + 200_000, NOON + 300_000), 10), []);
    }
}
