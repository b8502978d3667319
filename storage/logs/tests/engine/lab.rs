//! An engine on a disk that forgets what was not synced, and how tests talk to it.

use ::model::{Day, LabelSet, LogBatch, Matcher, Signal, TimeRangeNs, TimestampNs};
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue};
use storage_disk::FaultyDisk;
use storage_logs::{
    Appended, Columns, Entries, EntryFilter, KeepStreams, LogPolicy, Logs, Meant, Needles, Options, Parts, Run,
};
use storage_wal::SyncMode;

pub const DAY: i64 = ::model::DAY_NS;
/// Noon of a day, so that a test can step an hour to both sides.
pub const NOON: i64 = 20_000 * DAY + DAY / 2;
pub const RETENTION: i64 = 7 * DAY;
pub const AHEAD: i64 = 600_000_000_000;
/// How long a delete request can be cancelled.
pub const CANCEL: i64 = DAY / 24;

/// Time, line and metadata of one entry.
pub type Row = (i64, String, Vec<(String, String)>);

pub struct Lab {
    pub disk: FaultyDisk,
    pub catalogue: Catalogue,
    pub logs: Logs,
    pub budget: Budget,
    runtime: tokio::runtime::Runtime,
    policy: LogPolicy,
    _temporary: std::sync::Arc<tempfile::TempDir>,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(Vec::new())
    }

    /// With streams that are kept for other times than the rest.
    pub fn with(keep: Vec<KeepStreams>) -> Lab {
        let temporary = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let policy = LogPolicy {
            keep,
            deletes: Some(std::sync::Arc::new(understand)),
            cancel_ns: CANCEL,
        };
        Lab::open(FaultyDisk::new(), temporary, policy)
    }

    fn open(disk: FaultyDisk, temporary: std::sync::Arc<tempfile::TempDir>, policy: LogPolicy) -> Lab {
        let dir = temporary.path().to_owned();
        let (catalogue, _) = Catalogue::open(disk.disk(), &dir).unwrap();
        let budget = Budget::new(1 << 30);
        let parts = Parts {
            disk: disk.disk(),
            catalogue: catalogue.clone(),
            budget: budget.clone(),
            dir: dir.join("logs"),
            wal: storage_wal::Options {
                sync: SyncMode::Always,
                segment_bytes: 64 << 10,
            },
        };
        let options = Options {
            retention_ns: RETENTION,
            ahead_ns: AHEAD,
        };
        let (logs, _) = Logs::open_with(parts, options, policy.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Lab {
            disk,
            catalogue,
            logs,
            budget,
            runtime,
            policy,
            _temporary: temporary,
        }
    }

    /// As a crash leaves it, and up again; `forget` also loses the label index and the list of blocks.
    pub fn crash(self, forget: bool) -> Lab {
        let disk = self.disk.crash();
        let (temporary, policy) = (self._temporary.clone(), self.policy.clone());
        drop(self);
        if forget {
            std::fs::remove_dir_all(temporary.path().join("catalogue")).unwrap();
        }
        Lab::open(disk, temporary, policy)
    }

    /// Stops, lets `work` do something to the data directory, crashes, and is up again.
    pub fn crash_after(self, work: impl FnOnce(&std::path::Path)) -> Lab {
        let (disk, temporary, policy) = (self.disk.clone(), self._temporary.clone(), self.policy.clone());
        drop(self);
        work(temporary.path());
        Lab::open(disk.crash(), temporary, policy)
    }

    pub fn append(&self, batch: &LogBatch, now: i64) -> Appended {
        self.runtime
            .block_on(self.logs.append(batch, TimestampNs(now)))
            .unwrap()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn blocks(&self) -> Vec<BlockRef> {
        self.catalogue.blocks(Signal::Logs, TimeRangeNs::ALL)
    }

    /// Compacts the blocks of each day that has several.
    pub fn compact_all(&self) {
        let mut days: Vec<Day> = self.blocks().iter().map(|b| b.meta().day).collect();
        days.dedup();
        for day in days {
            let blocks: Vec<BlockRef> = self.blocks().into_iter().filter(|b| b.meta().day == day).collect();
            if blocks.len() > 1 {
                self.logs.compact(&blocks).unwrap();
            }
        }
    }

    /// What `storage` does on its timer.
    pub fn expire(&self, before: i64) {
        let before = TimestampNs(before);
        let old: Vec<_> = self
            .blocks()
            .iter()
            .filter(|b| b.meta().day < before.day())
            .map(|b| b.meta().id)
            .collect();
        self.catalogue.retire(&old).unwrap();
        self.logs.expire(before).unwrap();
    }

    /// All entries in a range by stream, each stream sorted by time.
    pub fn read(&self, matchers: &[Matcher], range: TimeRangeNs, needles: &Needles) -> Vec<(LabelSet, Vec<Row>)> {
        read(&self.logs, matchers, range, needles)
    }

    pub fn read_all(&self) -> Vec<(LabelSet, Vec<Row>)> {
        self.read(&[], TimeRangeNs::ALL, &Needles::default())
    }
}

/// Reading less must find the same entries.
fn check_columns(run: &Run, entries: &Entries, less: &mut Entries) {
    let names = ["detected_level".to_owned()];
    let columns = Columns {
        lines: false,
        metadata: Some(&names),
    };
    run.read_columns(columns, less).unwrap();
    assert!(less.times().eq(entries.times()));
    let level = |e: &Entries, i: usize| e.metadata(i).find(|(n, _)| *n == names[0]).map(|(_, v)| v.to_owned());
    for i in 0..entries.len() {
        assert_eq!(level(less, i), level(entries, i));
    }
}

pub fn read(logs: &Logs, matchers: &[Matcher], range: TimeRangeNs, needles: &Needles) -> Vec<(LabelSet, Vec<Row>)> {
    let mut runs = logs.snapshot(range).runs(matchers, range, needles).unwrap();
    runs.sort_by(|a, b| a.labels().cmp(b.labels()).then(a.min().cmp(&b.min())));
    let mut streams: Vec<(LabelSet, Vec<Row>)> = Vec::new();
    let mut entries = Entries::default();
    let mut without_lines = Entries::default();
    for run in runs {
        run.read(&mut entries).unwrap();
        // Damage would be counted again, and lines that are passed over are so only where lines are read.
        if logs.stats().corrupt_chunks == 0 && needles.contains.is_empty() {
            check_columns(&run, &entries, &mut without_lines);
        }
        assert!(entries.len() as u64 <= run.entries_max());
        // A damaged chunk has a tally, and no entries.
        if let Some(tally) = run.tally().filter(|_| entries.len() as u64 + entries.left_out().0 > 0) {
            assert_eq!(tally.entries, entries.len() as u64 + entries.left_out().0);
        }
        if streams.last().is_none_or(|(labels, _)| labels != run.labels()) {
            streams.push((run.labels().clone(), Vec::new()));
        }
        let rows = &mut streams.last_mut().unwrap().1;
        for i in 0..entries.len() {
            let t = entries.t(i);
            assert!(run.min() <= t && t <= run.max() && range.contains(t));
            assert!(
                rows.last().is_none_or(|last| last.0 <= t.0),
                "runs overlap or are not sorted"
            );
            let metadata = entries.metadata(i).map(|(n, v)| (n.to_owned(), v.to_owned()));
            rows.push((t.0, entries.line(i).to_owned(), metadata.collect()));
        }
    }
    streams.retain(|(_, rows)| !rows.is_empty());
    streams
}

pub fn labels(app: &str) -> LabelSet {
    LabelSet::from_pairs([("app", app), ("env", "test")])
}

pub fn range(start: i64, end: i64) -> TimeRangeNs {
    TimeRangeNs {
        start: TimestampNs(start),
        end: TimestampNs(end),
    }
}

pub fn row(t: i64, line: &str) -> Row {
    (t, line.to_owned(), Vec::new())
}

pub fn with(mut row: Row, name: &str, value: &str) -> Row {
    row.2.push((name.to_owned(), value.to_owned()));
    row
}

pub fn batch(streams: &[(&str, Vec<Row>)]) -> LogBatch {
    let mut batch = LogBatch::default();
    for (app, rows) in streams {
        let stream = batch.stream_of(&labels(app));
        for (t, line, metadata) in rows {
            batch.entry(stream, TimestampNs(*t), line, metadata.iter().map(|(n, v)| (n, v)));
        }
    }
    batch
}

/// The language of delete requests here: an app, and after a space what the lines of it contain.
fn understand(text: &str) -> Result<Meant, String> {
    let (app, needle) = text.split_once(' ').unwrap_or((text, ""));
    if app.is_empty() {
        return Err("no app".to_owned());
    }
    let filter = (!needle.is_empty())
        .then(|| -> std::sync::Arc<dyn EntryFilter> { std::sync::Arc::new(Contains(needle.to_owned())) });
    Ok(Meant {
        matchers: vec![Matcher::equal("app", app)],
        filter,
        bytes: 0,
    })
}

struct Contains(String);

impl EntryFilter for Contains {
    fn find(&self, _: &LabelSet, entries: &Entries, found: &mut dyn FnMut(usize)) {
        (0..entries.len())
            .filter(|&i| entries.line(i).contains(&self.0))
            .for_each(found);
    }
}
