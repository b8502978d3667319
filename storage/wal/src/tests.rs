//! The log as its users see it, on real files and on a disk that forgets what was not synced.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use storage_disk::{Disk, FaultyDisk};

use crate::segment::{HEADER_BYTES, RECORD_OVERHEAD};
use crate::{BUFFER_BYTES_MAX, Lsn, Options, RECORD_BYTES_MAX, Replay, SyncMode, Wal, WalError};

type Records = Vec<(u64, u8, Vec<u8>)>;

const MODES: [SyncMode; 3] = [
    SyncMode::Always,
    SyncMode::Interval(Duration::from_secs(1)),
    SyncMode::Never,
];

fn options(sync: SyncMode) -> Options {
    Options {
        sync,
        segment_bytes: 64 << 20,
    }
}

/// Opens a log and collects what it replays.
fn open(disk: Disk, dir: &Path, options: Options) -> Result<(Wal, Replay, Records), WalError> {
    let mut records = Records::new();
    let (wal, replay) = Wal::open(disk, dir, options, &mut |lsn, kind, payload| {
        records.push((lsn.0, kind, payload.to_vec()));
    })?;
    Ok((wal, replay, records))
}

fn dir() -> PathBuf {
    PathBuf::from("/wal")
}

fn open_faulty(disk: &FaultyDisk, segment_bytes: u64) -> Result<(Wal, Replay, Records), WalError> {
    open(
        disk.disk(),
        &dir(),
        Options {
            sync: SyncMode::Always,
            segment_bytes,
        },
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// What the record at `lsn` holds in these tests: a length and bytes that depend on it.
fn payload(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; (lsn as usize * 7) % 40]
}

fn record(lsn: u64) -> (u64, u8, Vec<u8>) {
    (lsn, lsn as u8, payload(lsn))
}

/// Appends the record that belongs to the next place.
fn append(wal: &Wal) -> Result<Lsn, WalError> {
    let (next, kind, payload) = record(wal.next().0);
    let lsn = wal.append(kind, &payload)?;
    assert_eq!(lsn.0, next);
    Ok(lsn)
}

fn segment_path(first: u64) -> PathBuf {
    dir().join(format!("{first:016x}.wal"))
}

fn write(disk: &FaultyDisk, path: &Path, bytes: &[u8]) {
    disk.disk().create_dir_all(&dir()).unwrap();
    disk.disk().remove_file(path).unwrap();
    disk.disk().create(path).unwrap().write_all(bytes).unwrap();
}

/// A segment with the records `first..end`, and where each of them starts.
fn segment(first: u64, end: u64) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = crate::segment::header(Lsn(first)).to_vec();
    let mut starts = Vec::new();
    for lsn in first..end {
        let (_, kind, payload) = record(lsn);
        starts.push(bytes.len());
        crate::segment::put_record(&mut bytes, Lsn(lsn), kind, &payload, storage_codec::crc32c(&payload));
    }
    (bytes, starts)
}

#[test]
fn what_was_appended_is_replayed_in_order() {
    for sync in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (wal, replay, _) = open(Disk::real(), dir.path(), options(sync)).unwrap();
        assert_eq!(replay, Replay::default());
        for i in 1..=20 {
            let lsn = append(&wal).unwrap();
            assert_eq!(lsn, Lsn(i));
            block_on(wal.durable(lsn)).unwrap();
        }
        let bytes = (1..=20).map(|lsn| payload(lsn).len() as u64).sum::<u64>();
        let disk_bytes = HEADER_BYTES as u64 + 20 * RECORD_OVERHEAD as u64 + bytes;
        let stats = wal.stats();
        assert_eq!(
            (stats.disk_bytes, stats.segments, stats.records, stats.failures),
            (disk_bytes, 1, 20, 0)
        );
        drop(wal);
        let (wal, replay, records) = open(Disk::real(), dir.path(), options(sync)).unwrap();
        assert_eq!(records, (1..=20).map(record).collect::<Records>());
        assert_eq!(
            replay,
            Replay {
                records: 20,
                bytes,
                ..Replay::default()
            }
        );
        assert_eq!(wal.stats().disk_bytes, disk_bytes);
        assert_eq!(append(&wal), Ok(Lsn(21)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_syncs() {
    let faulty = FaultyDisk::new();
    faulty.set_sync_delay(Duration::from_millis(5));
    let wal = Arc::new(open_faulty(&faulty, 1 << 20).unwrap().0);
    let syncs_before = faulty.syncs();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let wal = wal.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let lsn = wal.append(1, b"payload").unwrap();
                    wal.durable(lsn).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = wal.stats();
    assert_eq!(stats.records, 500);
    assert!(
        (10..150).contains(&stats.syncs),
        "{} syncs for 500 appends, 50 at a time",
        stats.syncs
    );
    assert_eq!(stats.syncs, faulty.syncs() - syncs_before);
    assert!(stats.sync_seconds >= 0.005 * stats.syncs as f64);
}

#[test]
fn a_lone_append_costs_one_sync_and_idling_none() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
    for n in 1..=5 {
        let lsn = append(&wal).unwrap();
        block_on(wal.durable(lsn)).unwrap();
        assert_eq!(wal.stats().syncs, n);
    }
    let operations = faulty.operations();
    wal.sync().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(faulty.operations(), operations);
}

#[test]
fn in_interval_mode_a_sync_follows_within_the_period_and_then_there_is_peace() {
    let faulty = FaultyDisk::new();
    let sync = SyncMode::Interval(Duration::from_millis(300));
    let (wal, ..) = open(faulty.disk(), &dir(), options(sync)).unwrap();
    for _ in 0..3 {
        let lsn = append(&wal).unwrap();
        block_on(wal.durable(lsn)).unwrap();
    }
    assert_eq!(wal.stats().syncs, 0, "acknowledged once written");
    let start = Instant::now();
    while wal.stats().syncs == 0 && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(open_faulty(&faulty.crash(), 1 << 20).unwrap().2.len(), 3);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(wal.stats().syncs, 1);
    append(&wal).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.stats().syncs, 2, "a clean stop does not wait for the period");
}

/// A process that is killed takes its memory along, not what it gave to the operating system.
#[test]
fn what_was_acknowledged_survives_a_kill_in_every_mode() {
    for sync in MODES {
        let faulty = FaultyDisk::new();
        let options = Options {
            sync,
            segment_bytes: 150,
        };
        let (killed, ..) = open(faulty.disk(), &dir(), options.clone()).unwrap();
        for lsn in 1..=30 {
            assert_eq!(append(&killed), Ok(Lsn(lsn)));
            block_on(killed.durable(Lsn(lsn))).unwrap();
            let after = faulty.crash_mixed(lsn);
            let (_, replay, records) = open(after.disk(), &dir(), options.clone()).unwrap();
            assert_eq!(replay.skipped, [], "what power loss takes is the end of the log");
            assert_eq!(records, (1..=records.len() as u64).map(record).collect::<Records>());
        }
        let (_, replay, records) = open(faulty.disk(), &dir(), options).unwrap();
        assert_eq!(records, (1..=30).map(record).collect::<Records>());
        assert_eq!((replay.torn_bytes, replay.skipped), (0, vec![]));
    }
}

#[test]
fn closing_the_log_syncs_it_in_every_mode() {
    for sync in MODES {
        let faulty = FaultyDisk::new();
        let (wal, ..) = open(faulty.disk(), &dir(), options(sync)).unwrap();
        append(&wal).unwrap();
        append(&wal).unwrap();
        drop(wal);
        assert_eq!(open_faulty(&faulty.crash(), 1 << 20).unwrap().2, [record(1), record(2)]);
    }
}

#[test]
fn places_rise_across_restarts_also_when_all_was_truncated() {
    for crash in [false, true] {
        let mut faulty = FaultyDisk::new();
        let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
        for _ in 0..5 {
            append(&wal).unwrap();
        }
        let before = wal.roll().unwrap();
        assert_eq!(before, Lsn(6));
        assert_eq!(wal.roll(), Ok(Lsn(6)), "an empty segment is not rolled");
        assert_eq!(wal.stats().segments, 2);
        wal.truncate(before).unwrap();
        assert_eq!((wal.stats().segments, wal.stats().disk_bytes), (1, HEADER_BYTES as u64));
        drop(wal);
        for _ in 0..3 {
            if crash {
                faulty = faulty.crash();
            }
            let (wal, replay, _) = open_faulty(&faulty, 1 << 20).unwrap();
            assert_eq!(
                (replay, wal.next(), wal.stats().segments),
                (Replay::default(), Lsn(6), 1)
            );
        }
        let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
        assert_eq!(append(&wal), Ok(Lsn(6)));
    }
}

/// Someone removed the log's files; the checkpoint of its engine stands at 500. Records that got places below it would be
/// taken for old ones by the next replay.
#[test]
fn a_lost_log_goes_on_above_its_engines_checkpoint() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
    wal.skip_to(Lsn(500)).unwrap();
    wal.skip_to(Lsn(400)).unwrap();
    let lsn = append(&wal).unwrap();
    assert_eq!(lsn, Lsn(500));
    block_on(wal.durable(lsn)).unwrap();
    let (wal, replay, records) = open_faulty(&faulty.crash(), 1 << 20).unwrap();
    assert_eq!((replay.records, records), (1, vec![record(500)]));
    wal.truncate(Lsn(500)).unwrap();
    assert_eq!((wal.next(), wal.stats().segments), (Lsn(501), 1));
}

#[test]
fn records_go_to_the_new_segment_before_the_disk_has_started_it() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
    append(&wal).unwrap();
    let (place, rolling) = wal.begin_roll();
    let lsn = append(&wal).unwrap();
    assert_eq!((place, lsn), (Lsn(2), Lsn(2)));
    rolling.wait().unwrap();
    block_on(wal.durable(lsn)).unwrap();
    wal.truncate(place).unwrap();
    let (.., records) = open_faulty(&faulty.crash(), 1 << 20).unwrap();
    assert_eq!(records, vec![record(2)]);
}

#[test]
fn segments_close_at_their_size_and_go_when_wholly_below() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 100).unwrap();
    for _ in 0..30 {
        let lsn = append(&wal).unwrap();
        block_on(wal.durable(lsn)).unwrap();
    }
    let names = faulty.disk().list(&dir()).unwrap();
    assert_eq!(names.len() as u64, wal.stats().segments);
    assert!(names.len() > 5, "{names:?}");
    for (name, _) in &names[..names.len() - 1] {
        assert!((100..200).contains(&faulty.disk().size(&dir().join(name)).unwrap()));
    }
    assert_eq!(
        open_faulty(&faulty.crash(), 100).unwrap().2,
        (1..=30).map(record).collect::<Records>()
    );

    // Nothing at or above the place may go.
    for before in 1..=31 {
        wal.truncate(Lsn(before)).unwrap();
        let (_, replay, records) = open_faulty(&faulty.crash(), 100).unwrap();
        assert_eq!(replay.records, records.len() as u64);
        let first = records.first().map_or(31, |record| record.0);
        assert!(
            first <= before,
            "record {first} is left although all from {before} on must be"
        );
        assert_eq!(records, (first..=30).map(record).collect::<Records>());
    }
}

#[test]
fn what_is_too_much_is_refused_by_name() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 30).unwrap();
    let bytes = RECORD_BYTES_MAX + 1;
    assert_eq!(
        wal.append(1, &vec![0; bytes]),
        Err(WalError::TooLarge {
            bytes,
            max: RECORD_BYTES_MAX
        })
    );

    faulty.set_sync_delay(Duration::from_millis(300));
    let large = wal.append(1, &vec![0; BUFFER_BYTES_MAX + 1]).unwrap();
    let refused = wal.append(1, b"more").unwrap_err();
    let buffered = BUFFER_BYTES_MAX + 1 + RECORD_OVERHEAD;
    assert_eq!(
        refused,
        WalError::Behind {
            dir: dir(),
            buffered,
            max: BUFFER_BYTES_MAX
        }
    );
    assert_eq!(
        refused.to_string(),
        "/wal: the disk is behind, 33554450 bytes of WAL wait to be written (limit 33554432); retry later"
    );
    block_on(wal.durable(large)).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.append(1, b"more"), Ok(Lsn(2)));
    assert_eq!(wal.stats().failures, 2);
}

#[test]
fn a_full_disk_refuses_and_recovers_once_rolled() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
    let good = append(&wal).unwrap();
    block_on(wal.durable(good)).unwrap();
    faulty.fail_after_with(0, ErrorKind::StorageFull);
    let lost = append(&wal).unwrap();
    let error = block_on(wal.durable(lost)).unwrap_err();
    assert!(
        matches!(&error, WalError::Io { path, full: true, .. } if *path == segment_path(1)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "/wal/0000000000000001.wal: the disk was told to fail: free space or lower the retention; the log goes on once there is room"
    );
    assert_eq!(wal.failed(), Some(error.clone()));
    assert_eq!(wal.append(1, b"x"), Err(error.clone()));
    assert!(matches!(wal.sync(), Err(WalError::Io { full: true, .. })));
    assert!(matches!(wal.roll(), Err(WalError::Io { full: true, .. })));
    assert!(wal.append(1, b"x").is_err(), "still full");
    assert_eq!(wal.stats().records, 2);

    faulty.heal();
    assert_eq!(wal.roll(), Ok(Lsn(3)));
    assert_eq!(wal.failed(), None);
    let after = append(&wal).unwrap();
    assert_eq!(after, Lsn(3));
    block_on(wal.durable(after)).unwrap();
    assert_eq!(block_on(wal.durable(good)), Ok(()));
    assert_eq!(block_on(wal.durable(lost)), Err(error), "a lost record stays lost");
    for disk in [faulty.crash(), faulty.clone()] {
        let (_, replay, records) = open_faulty(&disk, 1 << 20).unwrap();
        assert_eq!(records, [record(1), record(3)], "and never comes back");
        assert_eq!((replay.torn_bytes, replay.skipped), (0, vec![]));
    }
}

/// A log that was truncated to one empty segment has its place from that segment's name alone. Starting that segment
/// again after a failed sync must not remove it, or places would begin at 1 and blocks would be thought to cover them.
#[test]
fn an_empty_segment_started_again_on_a_failing_disk_keeps_its_name() {
    for n in 0..12 {
        let faulty = FaultyDisk::new();
        let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
        append(&wal).unwrap();
        // In vain: the header of the new segment cannot be synced.
        faulty.fail_after(n);
        let rolled = wal.roll().is_ok();
        for _ in 0..3 {
            faulty.fail_after(n);
            let _ = wal.roll().and_then(|before| wal.truncate(before));
            let _ = wal.sync();
            assert!(open_faulty(&faulty.crash(), 1 << 20).unwrap().0.next() >= Lsn(1 + u64::from(rolled)));
        }
        faulty.heal();
        let before = wal.roll().unwrap();
        assert_eq!(before, Lsn(2));
        wal.truncate(before).unwrap();
        assert_eq!(wal.stats().segments, 1);
        assert_eq!(open_faulty(&faulty.crash(), 1 << 20).unwrap().0.next(), Lsn(2));
    }
}

#[test]
fn all_who_wait_hear_of_a_failed_sync() {
    let faulty = FaultyDisk::new();
    let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
    faulty.set_sync_delay(Duration::from_millis(20));
    faulty.fail_after(1);
    block_on(async {
        let places: Vec<Lsn> = (0..10).map(|_| append(&wal).unwrap()).collect();
        for lsn in places {
            assert!(wal.durable(lsn).await.is_err());
        }
    });
    faulty.heal();
    wal.roll().unwrap();
    append(&wal).unwrap();
    wal.sync().unwrap();
    assert_eq!(open_faulty(&faulty.crash(), 1 << 20).unwrap().2, [record(11)]);
}

/// Appends, rolls and truncates until the disk fails; then heals it, rolls, and goes on a little. Says what was promised.
#[derive(Debug, Default)]
struct Promised {
    durable: Vec<u64>,
    lost: Vec<u64>,
    truncated_below: u64,
    next: u64,
}

fn work(wal: &Wal, promised: &mut Promised, rounds: u64) -> Result<(), WalError> {
    for round in 0..rounds {
        let places: Vec<Lsn> = (0..1 + round % 3).map_while(|_| append(wal).ok()).collect();
        for lsn in places {
            promised.next = lsn.0 + 1;
            match block_on(wal.durable(lsn)) {
                Ok(()) => promised.durable.push(lsn.0),
                Err(_) => promised.lost.push(lsn.0),
            }
        }
        if let Some(error) = wal.failed() {
            return Err(error);
        }
        if round % 5 == 4 {
            let before = wal.roll()?;
            if round % 10 == 9 {
                promised.truncated_below = before.0;
                wal.truncate(before)?;
            }
        }
    }
    Ok(())
}

#[track_caller]
fn check_promises(disk: &FaultyDisk, promised: &Promised, lost_is_gone: bool) {
    let (wal, replay, records) = open_faulty(disk, 150).unwrap();
    assert_eq!(replay.skipped, [], "{promised:?}");
    let places: Vec<u64> = records.iter().map(|record| record.0).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "each once and in order: {places:?}");
    for (lsn, kind, bytes) in records {
        assert_eq!((lsn, kind, bytes), record(lsn));
        assert!(
            !(lost_is_gone && promised.lost.contains(&lsn)),
            "{lsn} was reported lost: {promised:?}"
        );
    }
    for lsn in promised.durable.iter().filter(|&&lsn| lsn >= promised.truncated_below) {
        assert!(
            places.contains(lsn),
            "{lsn} was durable, found {places:?} {replay:?}: {promised:?}"
        );
    }
    let last = places.last().max(promised.durable.last()).copied().unwrap_or(0);
    assert!(wal.next().0 > last, "next is {:?}: {promised:?}", wal.next());
    // The log goes on, and what it replayed stays.
    let lsn = append(&wal).unwrap();
    block_on(wal.durable(lsn)).unwrap();
    let again = open_faulty(&disk.crash(), 150).unwrap();
    assert_eq!((again.1.torn_bytes, again.1.skipped), (0, vec![]));
    assert_eq!(
        again.2.iter().map(|record| record.0).collect::<Vec<_>>(),
        [places, vec![lsn.0]].concat()
    );
}

/// The law of the log, at every operation of the disk: what was durable is there after a crash, once and in order.
#[test]
fn after_a_crash_at_any_operation_all_that_was_durable_is_replayed() {
    for n in 0.. {
        let faulty = FaultyDisk::new();
        let mut promised = Promised::default();
        faulty.fail_after(n);
        let worked = open_faulty(&faulty, 150).and_then(|(wal, ..)| {
            let worked = work(&wal, &mut promised, 24);
            check_promises(&faulty.crash(), &promised, false);
            for seed in 0..4 {
                check_promises(&faulty.crash_mixed(n * 1000 + seed), &promised, false);
            }
            if worked.is_err() {
                faulty.heal();
                wal.roll()?;
                work(&wal, &mut promised, 7)?;
                check_promises(&faulty.crash(), &promised, true);
                for seed in 0..4 {
                    check_promises(&faulty.crash_mixed(n * 1000 + seed), &promised, true);
                }
            }
            worked
        });
        check_promises(&faulty.crash(), &promised, false);
        if worked.is_ok() {
            assert!(n > 100, "only {n} operations");
            break;
        }
    }
}

#[test]
fn a_torn_tail_is_cut_wherever_it_tears() {
    let (bytes, starts) = segment(1, 5);
    for len in 0..bytes.len() {
        let faulty = FaultyDisk::new();
        write(&faulty, &segment_path(1), &bytes[..len]);
        let whole = starts[1..]
            .iter()
            .chain([&bytes.len()])
            .filter(|&&end| end <= len)
            .count() as u64;
        let good_end = if len < HEADER_BYTES { 0 } else { starts[whole as usize] };
        let (wal, replay, records) = open_faulty(&faulty, 1 << 20).unwrap();
        assert_eq!(records, (1..=whole).map(record).collect::<Records>(), "cut at {len}");
        assert_eq!(
            (replay.torn_bytes, replay.skipped),
            ((len - good_end) as u64, vec![]),
            "cut at {len}"
        );
        append(&wal).unwrap();
        drop(wal);
        let (_, replay, records) = open_faulty(&faulty, 1 << 20).unwrap();
        assert_eq!(records, (1..=whole + 1).map(record).collect::<Records>());
        assert_eq!(replay.torn_bytes, 0, "cut once and for all");
    }
}

#[test]
fn damage_in_the_middle_costs_only_the_record_it_hit() {
    let (bytes, starts) = segment(1, 9);
    for at in 0..bytes.len() {
        let faulty = FaultyDisk::new();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        write(&faulty, &segment_path(1), &damaged);
        write(&faulty, &segment_path(9), &segment(9, 12).0);
        let (_, replay, records) = open_faulty(&faulty, 1 << 20).unwrap();
        let hit = starts.iter().rposition(|&start| start <= at);
        let lost = hit.map_or(0, |i| i as u64 + 1);
        assert_eq!(
            records,
            (1..12).filter(|&lsn| lsn != lost).map(record).collect::<Records>(),
            "byte {at}"
        );
        assert_eq!(
            replay.skipped,
            [(segment_path(1), hit.map_or(0, |i| starts[i] as u64))],
            "byte {at}"
        );
    }
}

#[test]
fn a_segment_of_a_newer_format_is_left_alone() {
    let faulty = FaultyDisk::new();
    let mut bytes = segment(1, 3).0;
    bytes[4] = 2;
    let crc = storage_codec::crc32c(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    write(&faulty, &segment_path(1), &bytes);
    let error = open_faulty(&faulty, 1 << 20).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/wal/0000000000000001.wal: WAL version 2, this build reads up to 1; start the newer trilobite"
    );
    assert_eq!(faulty.disk().read(&segment_path(1)).unwrap(), bytes);
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let faulty = FaultyDisk::new();
    for name in ["notes.txt", "1.wal", "000000000000000G.wal", "0000000000000001.wal.bak"] {
        write(&faulty, &dir().join(name), b"mine");
    }
    let (wal, replay, _) = open_faulty(&faulty, 1 << 20).unwrap();
    assert_eq!((replay, wal.stats().segments), (Replay::default(), 1));
    wal.truncate(Lsn(1000)).unwrap();
    assert_eq!(faulty.disk().list(&dir()).unwrap().len(), 5);
}

/// The layout of version 1 is read forever. NEW_GOLDEN=1 creates a missing file; nothing overwrites one.
#[test]
fn golden_segment_v1() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/segment_v1.bin");
    let bytes = segment(1, 7).0;
    if !path.exists() && std::env::var_os("NEW_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
    }
    let golden = std::fs::read(&path).expect("testdata/segment_v1.bin (NEW_GOLDEN=1 creates it)");
    assert_eq!(golden, bytes);
    let faulty = FaultyDisk::new();
    write(&faulty, &segment_path(1), &golden);
    let (_, replay, records) = open_faulty(&faulty, 1 << 20).unwrap();
    assert_eq!(records, (1..7).map(record).collect::<Records>());
    assert_eq!((replay.torn_bytes, replay.skipped), (0, vec![]));
}

/// What may happen to a file: (where, how many bytes go, what comes instead).
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
    vec(
        (any::<prop::sample::Index>(), 0usize..60, vec(any::<u8>(), 0..60)),
        0..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands in the files, opening never panics, what is handed over was written, and the log works afterwards.
    #[test]
    fn any_damage_is_survived(damages in vec(damage(), 3), foreign in vec(any::<u8>(), 0..200)) {
        let faulty = FaultyDisk::new();
        for (i, damage) in damages.iter().enumerate() {
            let first = 1 + 6 * i as u64;
            let mut bytes = segment(first, first + 6).0;
            for (at, gone, instead) in damage {
                let at = at.index(bytes.len() + 1);
                let end = (at + gone).min(bytes.len());
                bytes.splice(at..end, instead.iter().copied());
            }
            write(&faulty, &segment_path(first), &bytes);
        }
        write(&faulty, &segment_path(30), &foreign);
        let (wal, replay, records) = open_faulty(&faulty, 1 << 20).unwrap();
        prop_assert!(records.is_sorted_by(|a, b| a.0 < b.0));
        prop_assert_eq!(replay.records, records.len() as u64);
        for found in &records {
            prop_assert_eq!(found, &record(found.0));
        }
        for (i, _) in damages.iter().enumerate().filter(|(_, damage)| damage.is_empty()) {
            for lsn in (1..7).map(|lsn| lsn + 6 * i as u64) {
                prop_assert!(records.contains(&record(lsn)), "record {} was untouched", lsn);
            }
        }
        let lsn = append(&wal).unwrap();
        prop_assert!(lsn >= Lsn(30));
        drop(wal);
        let again = open_faulty(&faulty, 1 << 20).unwrap();
        prop_assert_eq!(again.1.torn_bytes, 0);
        prop_assert_eq!(again.2, [records, vec![record(lsn.0)]].concat());
    }

    /// A client can put anything into a payload, also what looks like records; it costs no more than a bounded search,
    /// and without damage nothing of it is taken for a record.
    #[test]
    fn payloads_that_look_like_records_are_only_payloads(copies in 1usize..50, lsn in 1u64..4) {
        let faulty = FaultyDisk::new();
        let (wal, ..) = open_faulty(&faulty, 1 << 20).unwrap();
        let mut fake = Vec::new();
        for _ in 0..copies {
            crate::segment::put_record(&mut fake, Lsn(lsn), 9, b"fake", storage_codec::crc32c(b"fake"));
        }
        wal.append(1, &fake).unwrap();
        wal.append(2, &fake).unwrap();
        drop(wal);
        let records = open_faulty(&faulty, 1 << 20).unwrap().2;
        prop_assert_eq!(records, [(1, 1, fake.clone()), (2, 2, fake)]);
    }
}
