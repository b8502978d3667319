//! The log as its users see it.

use std::path::Path;
use std::sync::Arc;

use storage_disk::Disk;

use crate::{Lsn, Options, Replay, SyncMode, Wal, WalError};

type Records = Vec<(u64, u8, Vec<u8>)>;

fn options(sync: SyncMode) -> Options {
    Options { sync, segment_bytes: 64 << 20 }
}

/// Opens a log and collects what it replays.
fn open(disk: Disk, dir: &Path, options: Options) -> Result<(Wal, Replay, Records), WalError> {
    let mut records = Records::new();
    let (wal, replay) = Wal::open(disk, dir, options, &mut |lsn, kind, payload| {
        records.push((lsn.0, kind, payload.to_vec()));
    })?;
    Ok((wal, replay, records))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_appended_is_replayed_in_order() {
    for sync in [SyncMode::Always, SyncMode::Interval(std::time::Duration::from_secs(1)), SyncMode::Never] {
        let dir = tempfile::tempdir().unwrap();
        let (wal, replay, _) = open(Disk::real(), dir.path(), options(sync)).unwrap();
        assert_eq!(replay, Replay::default());
        for i in 1..=20u8 {
            let lsn = wal.append(i, &vec![i; usize::from(i)]).unwrap();
            assert_eq!(lsn, Lsn(u64::from(i)));
            wal.durable(lsn).await.unwrap();
        }
        let disk_bytes = wal.stats().disk_bytes;
        drop(wal);
        let (wal, replay, records) = open(Disk::real(), dir.path(), options(sync)).unwrap();
        assert_eq!(records, (1..=20u8).map(|i| (u64::from(i), i, vec![i; usize::from(i)])).collect::<Records>());
        assert_eq!((replay.records, replay.bytes, replay.torn_bytes), (20, 210, 0));
        assert_eq!(wal.stats().disk_bytes, disk_bytes);
        assert_eq!(wal.append(0, b""), Ok(Lsn(21)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(Disk::real(), dir.path(), options(SyncMode::Always)).unwrap();
    let wal = Arc::new(wal);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let wal = wal.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
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
    assert_eq!(stats.records, 1000);
    assert!(stats.syncs < 300, "{} syncs for 1000 appends of 50 tasks", stats.syncs);
}

#[tokio::test]
async fn places_rise_across_restarts_also_when_all_was_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(Disk::real(), dir.path(), options(SyncMode::Always)).unwrap();
    for _ in 0..5 {
        wal.append(1, b"x").unwrap();
    }
    let before = wal.roll().unwrap();
    assert_eq!(before, Lsn(6));
    assert_eq!(wal.roll().unwrap(), Lsn(6), "an empty segment is not rolled");
    assert_eq!(wal.stats().segments, 2);
    wal.truncate(before).unwrap();
    assert_eq!(wal.stats().segments, 1);
    drop(wal);
    for _ in 0..2 {
        let (wal, replay, _) = open(Disk::real(), dir.path(), options(SyncMode::Always)).unwrap();
        assert_eq!((replay.records, wal.next(), wal.stats().segments), (0, Lsn(6), 1));
    }
    let (wal, ..) = open(Disk::real(), dir.path(), options(SyncMode::Always)).unwrap();
    assert_eq!(wal.append(1, b"y"), Ok(Lsn(6)));
}
