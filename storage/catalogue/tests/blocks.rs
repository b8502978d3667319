//! Blocks from the outside: what was published is there after any crash, what was not is gone, and a catalogue that
//! lost its database is made anew from the blocks.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::path::{Path, PathBuf};

use model::{BlockId, Day, LabelSet, Matcher, Signal, TimeRangeNs, TimestampNs};
use proptest::prelude::*;
use storage_catalogue::{BlockMeta, BlockRef, Catalogue, IndexKind, NewBlock, Opened};
use storage_disk::{Disk, FaultyDisk};

const DAY: Day = Day(20_000);

fn open(dir: &Path) -> (Catalogue, Opened) {
    Catalogue::open(Disk::real(), dir).unwrap()
}

fn new_block(catalogue: &Catalogue, signal: Signal, replaces: &[BlockId], labels: &[(u32, LabelSet)]) -> NewBlock {
    let staged = catalogue.stage(signal).unwrap();
    std::fs::write(staged.dir().join("data"), staged.id().to_string()).unwrap();
    let meta = BlockMeta {
        id: staged.id(),
        signal,
        day: DAY,
        min: DAY.start_ns(),
        max: TimestampNs(DAY.start_ns().0 + 1_000),
        level: u8::from(!replaces.is_empty()),
        items: 10,
        keys: labels.len() as u64,
        bytes: 0,
        replaces: replaces.to_vec(),
    };
    NewBlock {
        staged,
        meta,
        labels: labels.to_vec(),
    }
}

fn publish(catalogue: &Catalogue, signal: Signal, replaces: &[BlockId], checkpoint: Option<u64>) -> BlockRef {
    let block = new_block(catalogue, signal, replaces, &[]);
    catalogue.publish(vec![block], checkpoint).unwrap().remove(0)
}

fn ids(catalogue: &Catalogue, signal: Signal) -> Vec<BlockId> {
    let blocks = catalogue.blocks(signal, TimeRangeNs::ALL);
    for block in &blocks {
        assert_eq!(
            std::fs::read_to_string(block.dir().join("data")).unwrap(),
            block.meta().id.to_string()
        );
        assert_eq!(
            Disk::real().size(block.dir()).unwrap(),
            block.meta().bytes,
            "bytes counts all files"
        );
    }
    blocks.iter().map(|b| b.meta().id).collect()
}

fn dirs(dir: &Path, signal: Signal) -> Vec<String> {
    let blocks = dir.join(signal.as_str()).join("blocks");
    let names = Disk::real().list(&blocks).unwrap();
    names.into_iter().map(|(name, _)| name).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn published_blocks_are_there_after_a_crash_and_staged_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, opened) = open(dir.path());
    assert_eq!(opened.rebuilt, None);
    let a = publish(&catalogue, Signal::Metrics, &[], Some(7)).meta().clone();
    let b = publish(&catalogue, Signal::Traces, &[], None).meta().clone();
    let staged = catalogue.stage(Signal::Metrics).unwrap();
    let staged_dir = staged.dir().to_owned();
    std::mem::forget(staged);
    drop(catalogue);

    let (catalogue, opened) = open(dir.path());
    assert_eq!((opened.rebuilt, opened.removed_dirs), (None, 1));
    assert!(!staged_dir.exists());
    assert_eq!(catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL)[0].meta(), &a);
    assert_eq!(catalogue.blocks(Signal::Traces, TimeRangeNs::ALL)[0].meta(), &b);
    assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(7));
    assert_eq!(catalogue.checkpoint(Signal::Traces), None);
    assert!(
        catalogue.stage(Signal::Logs).unwrap().id() > b.id,
        "ids are never given twice"
    );
}

#[test]
fn blocks_are_listed_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let id = publish(&catalogue, Signal::Logs, &[], None).meta().id;
    let start = DAY.start_ns().0;
    for (from, to, expected) in [
        (start, start + 1, vec![id]),
        (start + 1_000, start + 1_001, vec![id]),
        (start + 1_001, start + 2_000, vec![]),
        (start - 10, start, vec![]),
    ] {
        let range = TimeRangeNs {
            start: TimestampNs(from),
            end: TimestampNs(to),
        };
        let found: Vec<_> = catalogue
            .blocks(Signal::Logs, range)
            .iter()
            .map(|b| b.meta().id)
            .collect();
        assert_eq!(found, expected, "{from}..{to}");
    }
}

#[test]
fn a_replaced_block_stays_until_its_last_reader_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let a = publish(&catalogue, Signal::Metrics, &[], Some(3));
    let b = publish(&catalogue, Signal::Metrics, &[], Some(9));
    let (a_id, b_id, b_dir) = (a.meta().id, b.meta().id, b.dir().to_owned());
    drop(b);
    let c = publish(&catalogue, Signal::Metrics, &[a_id, b_id], None);
    assert_eq!(ids(&catalogue, Signal::Metrics), [c.meta().id]);
    assert!(a.dir().join("data").exists() && !b_dir.exists());
    let a_dir = a.dir().to_owned();
    drop(a);
    assert!(!a_dir.exists());
    assert_eq!(
        catalogue.checkpoint(Signal::Metrics),
        Some(9),
        "compaction keeps the checkpoint"
    );

    catalogue.retire(&[c.meta().id, BlockId(999)]).unwrap();
    assert_eq!(ids(&catalogue, Signal::Metrics), []);
    drop(c);
    assert_eq!(dirs(dir.path(), Signal::Metrics), Vec::<String>::new());
    drop(catalogue);
    let (catalogue, opened) = open(dir.path());
    assert_eq!((ids(&catalogue, Signal::Metrics), opened.removed_dirs), (vec![], 0));
    assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(9));
}

#[test]
fn a_lost_database_is_rebuilt_from_the_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let up = LabelSet::from_pairs([("__name__", "up"), ("job", "node")]);
    let labels = catalogue.labels(IndexKind::Series);
    let id = labels.intern(DAY, up.as_bytes(), up.hash64()).unwrap();
    let block = new_block(&catalogue, Signal::Metrics, &[], &[(id, up.clone())]);
    catalogue.publish(vec![block], Some(5)).unwrap();
    let old = publish(&catalogue, Signal::Logs, &[], Some(6));
    // Its reader never leaves: the directory is still there when the process dies.
    let old_id = old.meta().id;
    std::mem::forget(old);
    let new = publish(&catalogue, Signal::Logs, &[old_id], None).meta().id;
    // The replacing block goes, too; what it replaced must still not come back.
    let newest = publish(&catalogue, Signal::Logs, &[new], None).meta().id;
    assert_eq!(dirs(dir.path(), Signal::Logs), [old_id.to_string(), newest.to_string()]);
    let before: Vec<BlockMeta> = Signal::ALL
        .iter()
        .flat_map(|s| catalogue.blocks(*s, TimeRangeNs::ALL))
        .map(|b| b.meta().clone())
        .collect();
    drop((labels, catalogue));
    std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();

    for round in 0..2 {
        let (catalogue, opened) = open(dir.path());
        assert_eq!(opened.rebuilt.is_some(), round == 0, "{opened:?}");
        assert_eq!(
            (opened.removed_dirs, opened.unreadable),
            (usize::from(round == 0), vec![])
        );
        let after: Vec<BlockMeta> = Signal::ALL
            .iter()
            .flat_map(|s| catalogue.blocks(*s, TimeRangeNs::ALL))
            .map(|b| b.meta().clone())
            .collect();
        assert_eq!(after, before);
        assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(5));
        assert_eq!(catalogue.checkpoint(Signal::Logs), Some(6));
        let labels = catalogue.labels(IndexKind::Series);
        let found = labels.postings((DAY, DAY), &[Matcher::equal("job", "node")]).unwrap();
        assert_eq!(labels.label_sets(&found).unwrap(), [(id, up.clone())]);
        assert_eq!(labels.intern(DAY, up.as_bytes(), up.hash64()).unwrap(), id);
        let other = LabelSet::from_pairs([("a", "b")]);
        assert!(labels.intern(DAY, other.as_bytes(), other.hash64()).unwrap() > id);
        assert!(catalogue.stage(Signal::Logs).unwrap().id() > newest);
    }
}

#[test]
fn a_damaged_database_is_set_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let id = publish(&catalogue, Signal::Metrics, &[], Some(5)).meta().id;
    drop(catalogue);
    for round in 1..=2 {
        let database = dir.path().join("catalogue");
        let tables: Vec<PathBuf> = std::fs::read_dir(&database)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "sst") || p.to_string_lossy().contains("MANIFEST"))
            .collect();
        assert!(!tables.is_empty());
        for table in tables {
            let len = std::fs::metadata(&table).unwrap().len() as usize;
            std::fs::write(&table, vec![0x5a; len]).unwrap();
        }
        let (catalogue, opened) = open(dir.path());
        assert!(opened.rebuilt.unwrap().contains("set aside"));
        assert_eq!(ids(&catalogue, Signal::Metrics), [id]);
        assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(5));
        let aside: Vec<String> = Disk::real()
            .list(dir.path())
            .unwrap()
            .into_iter()
            .map(|(n, _)| n)
            .collect();
        assert_eq!(
            aside,
            [
                "catalogue".to_owned(),
                format!("catalogue.damaged-{round}"),
                "logs".into(),
                "metrics".into(),
                "traces".into()
            ]
        );
    }
}

#[test]
fn a_database_in_use_is_not_taken_for_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    publish(&catalogue, Signal::Metrics, &[], None);
    assert!(Catalogue::open(Disk::real(), dir.path()).is_err());
    assert_eq!(ids(&catalogue, Signal::Metrics).len(), 1);
    assert!(!dir.path().join("catalogue.damaged-1").exists());
}

#[test]
fn a_rebuild_sets_unreadable_blocks_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let a = publish(&catalogue, Signal::Metrics, &[], None).meta().id;
    let b = publish(&catalogue, Signal::Metrics, &[], None);
    let b_id = b.meta().id;
    std::mem::forget(b);
    let c = publish(&catalogue, Signal::Metrics, &[b_id], None);
    std::fs::write(c.dir().join("labels"), b"TLBL nonsense").unwrap();
    let c_dir = c.dir().to_owned();
    drop((c, catalogue));
    std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();

    let (catalogue, opened) = open(dir.path());
    // The block that replaced `b` cannot be read, so `b` is what is left of the data.
    assert_eq!(ids(&catalogue, Signal::Metrics), [a, b_id]);
    assert_eq!(opened.unreadable.len(), 1);
    assert_eq!(opened.unreadable[0].0, c_dir.with_extension("unreadable"));
    assert!(opened.unreadable[0].0.join("data").exists());
    assert!(
        opened.unreadable[0].1.contains("labels file"),
        "{:?}",
        opened.unreadable
    );
}

#[test]
fn a_block_without_its_directory_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let a = publish(&catalogue, Signal::Metrics, &[], None).meta().id;
    let b = publish(&catalogue, Signal::Metrics, &[], None).dir().to_owned();
    drop(catalogue);
    std::fs::remove_dir_all(&b).unwrap();
    let (catalogue, opened) = open(dir.path());
    assert_eq!(ids(&catalogue, Signal::Metrics), [a]);
    assert_eq!(opened.unreadable.iter().map(|u| &u.0).collect::<Vec<_>>(), [&b]);
    drop(catalogue);
    let (_, opened) = open(dir.path());
    assert!(opened.unreadable.is_empty());
}

/// A crash between the rename and the catalogue's write: the directory is there, the database does not know it.
#[test]
fn a_directory_that_was_never_entered_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let a_block = publish(&catalogue, Signal::Metrics, &[], Some(1));
    let a = a_block.meta().id;
    // Keeps the directory, as the crash does: the write that forgets `a` never became durable.
    std::mem::forget(a_block);
    let saved = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("catalogue"), saved.path());
    let b_dir = publish(&catalogue, Signal::Metrics, &[a], Some(2)).dir().to_owned();
    drop(catalogue);
    std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    copy_dir(saved.path(), &dir.path().join("catalogue"));

    let (catalogue, opened) = open(dir.path());
    assert_eq!((opened.rebuilt, opened.removed_dirs), (None, 1));
    assert_eq!(ids(&catalogue, Signal::Metrics), [a]);
    assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(1));
    assert!(!b_dir.exists());
}

#[test]
fn a_staged_block_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let mut block = new_block(&catalogue, Signal::Metrics, &[], &[]);
    assert_eq!(dirs(dir.path(), Signal::Metrics).len(), 1);
    block.meta.id = BlockId(77);
    assert!(catalogue.publish(vec![block], None).is_err(), "meta of another block");
    let labels = [(2, LabelSet::empty()), (1, LabelSet::empty())];
    let first = new_block(&catalogue, Signal::Metrics, &[], &[]);
    let second = new_block(&catalogue, Signal::Metrics, &[], &labels);
    assert!(catalogue.publish(vec![first, second], None).is_err(), "ids must rise");
    assert_eq!(dirs(dir.path(), Signal::Metrics), Vec::<String>::new());
    assert_eq!(ids(&catalogue, Signal::Metrics), []);
}

/// The disk fails, and then the machine dies, at each single step of replacing a block; what was promised holds after each.
#[test]
fn a_crash_at_any_step_leaves_the_old_block_or_the_new_one() {
    let mut step = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let faulty = FaultyDisk::new();
        let (catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        let a = publish_on(&faulty.disk(), &catalogue, &[], Some(1)).unwrap();
        let start = faulty.operations();
        faulty.fail_after(step);
        let published = publish_on(&faulty.disk(), &catalogue, &[a], Some(2));
        let listed: Vec<BlockId> = listed(&catalogue);
        match &published {
            Ok(b) => assert_eq!(listed, [*b], "step {step}"),
            Err(_) => assert_eq!(listed, [a], "step {step}"),
        }
        drop(catalogue);
        let is_over = faulty.operations() - start < step;
        for seed in 0..4 {
            let after = if seed == 0 {
                faulty.crash()
            } else {
                faulty.crash_mixed(seed)
            };
            let disk = after.disk();
            let (catalogue, opened) = Catalogue::open(disk.clone(), dir.path()).unwrap();
            assert_eq!(
                (opened.rebuilt, opened.unreadable),
                (None, vec![]),
                "step {step} seed {seed}"
            );
            let blocks = catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
            assert_eq!(
                blocks.iter().map(|b| b.meta().id).collect::<Vec<_>>(),
                listed,
                "step {step} seed {seed}"
            );
            assert_eq!(
                catalogue.checkpoint(Signal::Metrics),
                Some(if published.is_ok() { 2 } else { 1 })
            );
            for block in &blocks {
                assert_eq!(
                    disk.read(&block.dir().join("data")).unwrap(),
                    block.meta().id.to_string().as_bytes()
                );
                let names = disk.list(block.dir()).unwrap();
                assert_eq!(
                    names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
                    ["data", "labels", "meta"]
                );
            }
            let there = disk.list(&dir.path().join("metrics/blocks")).unwrap();
            assert_eq!(
                there.len(),
                blocks.len(),
                "nothing is left over, step {step} seed {seed}: {there:?}"
            );
        }
        if is_over {
            assert!(published.is_ok() && step > 5, "all steps were tried");
            return;
        }
        step += 1;
    }
}

/// The same when the database is lost as well: the directories alone must tell the story.
#[test]
fn a_crash_at_any_step_leaves_data_to_rebuild_from() {
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let faulty = FaultyDisk::new();
        let (catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        let a = publish_on(&faulty.disk(), &catalogue, &[], Some(1)).unwrap();
        let start = faulty.operations();
        faulty.fail_after(step);
        let published = publish_on(&faulty.disk(), &catalogue, &[a], Some(2));
        drop(catalogue);
        let is_over = faulty.operations() - start < step;
        std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
        let (catalogue, _) = Catalogue::open(faulty.crash().disk(), dir.path()).unwrap();
        let blocks = listed(&catalogue);
        match published {
            Ok(b) => assert_eq!(blocks, [b], "step {step}"),
            // The new block holds all of the old one, so it may stand for it once its directory is whole.
            Err(_) => assert!(blocks.len() == 1 && blocks[0] >= a, "step {step}: {blocks:?}"),
        }
        let expected = if blocks == [a] { 1 } else { 2 };
        assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(expected), "step {step}");
        if is_over {
            return;
        }
    }
}

#[test]
fn publishing_works_again_after_the_disk_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = FaultyDisk::new();
    let (catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
    let a = publish_on(&faulty.disk(), &catalogue, &[], None).unwrap();
    for step in 0..30 {
        faulty.fail_after(step);
        let _ = publish_on(&faulty.disk(), &catalogue, &[], None);
        faulty.heal();
    }
    let before = listed(&catalogue);
    let b = publish_on(&faulty.disk(), &catalogue, &before, None).unwrap();
    assert!(b > a);
    assert_eq!(listed(&catalogue), [b]);
}

/// RocksDB cannot write: nothing is published, nothing replaced, and neither directory goes until that is certain.
#[test]
fn a_database_that_fails_loses_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let a = publish(&catalogue, Signal::Metrics, &[], Some(1)).meta().id;
    std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    let block = new_block(&catalogue, Signal::Metrics, &[a], &[]);
    assert!(catalogue.publish(vec![block], Some(2)).is_err());
    assert!(catalogue.retire(&[a]).is_err());
    assert_eq!(ids(&catalogue, Signal::Metrics), [a]);
    assert_eq!(catalogue.checkpoint(Signal::Metrics), Some(1));
    assert_eq!(dirs(dir.path(), Signal::Metrics).len(), 2);
    drop(catalogue);
    let (catalogue, _) = open(dir.path());
    assert_eq!(ids(&catalogue, Signal::Metrics).len(), 1);
}

fn publish_on(
    disk: &Disk,
    catalogue: &Catalogue,
    replaces: &[BlockId],
    checkpoint: Option<u64>,
) -> Result<BlockId, Box<dyn std::error::Error>> {
    let staged = catalogue.stage(Signal::Metrics)?;
    let id = staged.id();
    disk.create(&staged.dir().join("data"))?
        .write_all(id.to_string().as_bytes())?;
    let meta = BlockMeta {
        id,
        signal: Signal::Metrics,
        day: DAY,
        min: DAY.start_ns(),
        max: DAY.start_ns(),
        level: 0,
        items: 1,
        keys: 1,
        bytes: 0,
        replaces: replaces.to_vec(),
    };
    let labels = vec![(1, LabelSet::from_pairs([("a", "1")]))];
    catalogue.publish(vec![NewBlock { staged, meta, labels }], checkpoint)?;
    Ok(id)
}

fn listed(catalogue: &Catalogue) -> Vec<BlockId> {
    let blocks = catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
    blocks.iter().map(|b| b.meta().id).collect()
}

/// Queries find damage in a file that opening did not read; the next start repairs it.
#[test]
fn damage_met_while_running_is_repaired_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    let index = catalogue.labels(IndexKind::Series);
    let labels: Vec<(u32, LabelSet)> = (0..3_000)
        .map(|i| {
            let set = LabelSet::from_pairs([("pod", format!("pod-{:x}", i * 7_919_u64.pow(3)))]);
            (index.intern(DAY, set.as_bytes(), set.hash64()).unwrap(), set)
        })
        .collect();
    let later = LabelSet::from_pairs([("pod", "later")]);
    index.intern(Day(DAY.0 + 9), later.as_bytes(), later.hash64()).unwrap();
    let block = new_block(&catalogue, Signal::Metrics, &[], &labels);
    catalogue.publish(vec![block], None).unwrap();
    drop((index, catalogue));
    let mut tables: Vec<(u64, PathBuf)> = std::fs::read_dir(dir.path().join("catalogue"))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().extension().is_some_and(|e| e == "sst"))
        .map(|e| (e.metadata().unwrap().len(), e.path()))
        .collect();
    tables.sort();
    for (_, table) in tables.iter().rev().take(3) {
        let mut bytes = std::fs::read(table).unwrap();
        // Data blocks come first; index and properties, which opening reads, come last.
        let quarter = bytes.len() / 4;
        bytes[..quarter].fill(0x5a);
        std::fs::write(table, bytes).unwrap();
    }

    let (catalogue, opened) = open(dir.path());
    let opened = if opened.rebuilt.is_none() {
        let index = catalogue.labels(IndexKind::Series);
        let ids = labels.iter().map(|(id, _)| *id).collect();
        let error = index.label_sets(&ids).unwrap_err().to_string();
        assert!(error.contains("restart trilobite"), "{error}");
        drop((index, catalogue));
        let (catalogue, opened) = open(dir.path());
        assert_eq!(catalogue.labels(IndexKind::Series).label_sets(&ids).unwrap(), labels);
        opened
    } else {
        opened
    };
    assert!(opened.rebuilt.unwrap().contains("set aside"));
}

#[test]
fn two_engines_publish_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = open(dir.path());
    std::thread::scope(|scope| {
        for signal in Signal::ALL {
            let catalogue = &catalogue;
            scope.spawn(move || {
                let mut last = Vec::new();
                for round in 0..10 {
                    let block = publish(catalogue, signal, &last, Some(round));
                    assert_eq!(catalogue.checkpoint(signal), Some(round));
                    last = vec![block.meta().id];
                    assert_eq!(ids(catalogue, signal), last);
                }
            });
        }
    });
    let before: Vec<_> = Signal::ALL.iter().map(|s| ids(&catalogue, *s)).collect();
    drop(catalogue);
    let (catalogue, opened) = open(dir.path());
    assert_eq!((opened.removed_dirs, opened.unreadable), (0, vec![]));
    assert_eq!(
        Signal::ALL.iter().map(|s| ids(&catalogue, *s)).collect::<Vec<_>>(),
        before
    );
}

/// Seen by the model below: a reader kept a replaced block's directory through a crash; the next start began to remove it
/// file by file and crashed as well; with the database lost too, the half-removed directory was taken for a damaged block and
/// set aside for ever. Directories are renamed before they are removed, so that nothing looks like a block that is none.
#[test]
fn a_removal_cut_short_leaves_no_unreadable_block() {
    for seed in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        let mut faulty = FaultyDisk::new();
        let (catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        let old = publish_on(&faulty.disk(), &catalogue, &[], None).unwrap();
        let held = catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
        let new = publish_on(&faulty.disk(), &catalogue, &[old], Some(7)).unwrap();
        faulty = {
            let after = faulty.crash_mixed(seed);
            drop((held, catalogue));
            after
        };
        let (catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        faulty = {
            let after = faulty.crash_mixed(seed * 31 + 1);
            drop(catalogue);
            after
        };
        std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
        let (catalogue, opened) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        assert_eq!(listed(&catalogue), [new], "seed {seed}");
        assert_eq!(opened.unreadable, [], "seed {seed}");
        assert_eq!(
            faulty.disk().list(&dir.path().join("metrics/blocks")).unwrap().len(),
            1,
            "seed {seed}"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        replaces: Vec<prop::sample::Index>,
        checkpoint: Option<u64>,
    },
    Retire {
        block: prop::sample::Index,
    },
    Hold {
        block: prop::sample::Index,
    },
    Release,
    Crash {
        seed: u64,
        loses_database: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    use prop::sample::Index;
    let replaces = prop::collection::vec(any::<Index>(), 0..3);
    prop_oneof![
        6 => (replaces, prop::option::of(0u64..100))
            .prop_map(|(replaces, checkpoint)| Step::Publish { replaces, checkpoint }),
        1 => any::<Index>().prop_map(|block| Step::Retire { block }),
        1 => any::<Index>().prop_map(|block| Step::Hold { block }),
        1 => Just(Step::Release),
        1 => (0u64..1000, any::<bool>()).prop_map(|(seed, loses_database)| Step::Crash { seed, loses_database }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Which blocks exist is what was said last, through crashes and lost databases, and no directory is left over. Only
    /// blocks that were retired (or whose successors were) while a reader held them may come back, and only when the database
    /// is lost as well.
    #[test]
    fn the_catalogue_agrees_with_a_set(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let mut faulty = FaultyDisk::new();
        let (mut catalogue, _) = Catalogue::open(faulty.disk(), dir.path()).unwrap();
        let mut model: Vec<BlockId> = Vec::new();
        let mut checkpoint = None;
        // The checkpoint that each block's meta file carries.
        let mut carried: std::collections::BTreeMap<BlockId, Option<u64>> = Default::default();
        let mut held: Vec<BlockRef> = Vec::new();
        let mut retired: Vec<BlockId> = Vec::new();
        let mut replaced_by: std::collections::BTreeMap<BlockId, BlockId> = Default::default();
        for step in steps {
            match step {
                Step::Publish { replaces, checkpoint: place } => {
                    let mut replaced: Vec<BlockId> = Vec::new();
                    if !model.is_empty() {
                        replaced.extend(replaces.iter().map(|i| *i.get(&model)));
                    }
                    let id = publish_on(&faulty.disk(), &catalogue, &replaced, place).unwrap();
                    model.retain(|b| !replaced.contains(b));
                    model.push(id);
                    // With the database lost and no block left, ids begin anew.
                    retired.retain(|b| *b != id);
                    replaced_by.remove(&id);
                    replaced_by.extend(replaced.iter().map(|b| (*b, id)));
                    checkpoint = place.max(checkpoint);
                    carried.insert(id, checkpoint);
                }
                Step::Retire { block } if !model.is_empty() => {
                    let id = *block.get(&model);
                    catalogue.retire(&[id]).unwrap();
                    model.retain(|b| *b != id);
                    retired.push(id);
                }
                Step::Hold { block } if !model.is_empty() => {
                    let id = *block.get(&model);
                    let blocks = catalogue.blocks(Signal::Metrics, TimeRangeNs::ALL);
                    held.extend(blocks.into_iter().filter(|b| b.meta().id == id));
                }
                Step::Retire { .. } | Step::Hold { .. } => {}
                Step::Release => {
                    for block in held.drain(..) {
                        prop_assert!(faulty.disk().read(&block.dir().join("data")).is_ok());
                    }
                }
                Step::Crash { seed, loses_database } => {
                    let after = if seed % 3 == 0 { faulty.crash() } else { faulty.crash_mixed(seed) };
                    held.clear();
                    drop(catalogue);
                    if loses_database {
                        std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
                    }
                    faulty = after;
                    catalogue = Catalogue::open(faulty.disk(), dir.path()).unwrap().0;
                    if loses_database {
                        // A block whose successors are all retired is as good as retired.
                        let heir = |mut b: BlockId| {
                            while let Some(next) = replaced_by.get(&b) {
                                b = *next;
                            }
                            b
                        };
                        let mut back = listed(&catalogue);
                        back.retain(|b| retired.contains(&heir(*b)));
                        catalogue.retire(&back).unwrap();
                        // Then checkpoints live on in meta files only: in those of the blocks that are left, at least.
                        let found = catalogue.checkpoint(Signal::Metrics);
                        let left = model.iter().filter_map(|b| carried[b]).max();
                        prop_assert!(left <= found && found <= checkpoint, "{:?} {:?} {:?}", left, found, checkpoint);
                        checkpoint = found;
                    }
                    let there = faulty.disk().list(&dir.path().join("metrics/blocks")).unwrap();
                    prop_assert_eq!(there.len(), model.len(), "{:?}", there);
                }
            }
            prop_assert_eq!(listed(&catalogue), &model[..]);
            prop_assert_eq!(catalogue.checkpoint(Signal::Metrics), checkpoint);
        }
    }
}
