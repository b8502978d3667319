//! A storage of its own, a ruler over it, and time that tests let pass.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{LabelSet, LogBatch, SampleBatch, TimestampMs, TimestampNs};
use query_exec::{Context, Limits};
use query_rules::{Dialect, Fault, Group, Health, Notify, OutgoingAlert, Ruler, Settings, read_groups};
use storage::{Storage, SyncMode};

/// When the tests begin: a whole hour.
pub const START: i64 = 1_700_002_800_000;
pub const MIN: i64 = 60_000;

pub struct Lab {
    pub storage: Arc<Storage>,
    pub ruler: Ruler,
    pub told: Arc<Told>,
    clock: Arc<AtomicI64>,
    dir: Arc<tempfile::TempDir>,
}

/// Remembers what it is told.
#[derive(Default)]
pub struct Told {
    alerts: Mutex<Vec<OutgoingAlert>>,
    /// While it is set, telling waits.
    pub is_held: AtomicBool,
}

impl Notify for Told {
    fn notify(&self, alerts: Vec<OutgoingAlert>) {
        while self.is_held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.alerts.lock().unwrap().extend(alerts);
    }
}

impl Told {
    /// What it was told since the last time: `labels start..end` in minutes from [`START`].
    pub fn take(&self) -> Vec<String> {
        let minutes = |ms: i64| (ms - START) as f64 / MIN as f64;
        let alerts = std::mem::take(&mut *self.alerts.lock().unwrap());
        let mut words: Vec<String> = (alerts.iter())
            .map(|a| {
                let labels = LabelSet::from_pairs(a.labels.clone());
                format!("{labels} {}..{}", minutes(a.starts_at_ms), minutes(a.ends_at_ms))
            })
            .collect();
        words.sort();
        words
    }
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(Settings {
            restore: false,
            ..Settings::default()
        })
    }

    pub fn with(settings: Settings) -> Lab {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Lab::over(dir, Arc::new(AtomicI64::new(START)), settings)
    }

    fn over(dir: Arc<tempfile::TempDir>, clock: Arc<AtomicI64>, settings: Settings) -> Lab {
        let options = storage::Options {
            data_dir: dir.path().to_owned(),
            retention_metrics_ms: 30 * 86_400_000,
            retention_logs_ns: 30 * 86_400_000_000_000,
            retention_traces_ns: 30 * 86_400_000_000_000,
            retention_size: None,
            memory_limit: 1 << 30,
            free_disk_reserve: 0,
            wal_sync: SyncMode::Never,
        };
        let told = clock.clone();
        let (storage, _) = Storage::open(
            options,
            Arc::new(move || TimestampMs(told.load(Ordering::SeqCst)).to_ns()),
        )
        .unwrap();
        let storage = Arc::new(storage);
        let told = Arc::new(Told::default());
        Lab {
            ruler: Ruler::new(storage.clone(), settings, told.clone()),
            storage,
            told,
            clock,
            dir,
        }
    }

    /// The process ends and begins again.
    pub fn restart(self, settings: Settings) -> Lab {
        let (dir, clock) = (self.dir.clone(), self.clock.clone());
        drop(self);
        Lab::over(dir, clock, settings)
    }

    pub fn load(&self, text: &str) {
        self.ruler.load(read(text), self.now());
    }

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// It is so many minutes after the start.
    pub fn go_to(&self, minute: f64) -> i64 {
        let now = START + (minute * MIN as f64) as i64;
        self.clock.store(now, Ordering::SeqCst);
        now
    }

    /// Stores samples of now: `name{label="value"} 1`.
    pub async fn put(&self, samples: &[(&str, f64)]) {
        let mut batch = SampleBatch::default();
        for (series, v) in samples {
            let ix = batch.series_of(&labels(series));
            batch.sample(ix, TimestampMs(self.now()), *v);
        }
        self.storage.append_samples(&batch).await.unwrap();
    }

    /// Stores a log line of now.
    pub async fn log(&self, stream: &str, line: &str) {
        let mut batch = LogBatch::default();
        let ix = batch.stream_of(&labels(stream));
        let none: [(&str, &str); 0] = [];
        batch.entry(ix, TimestampMs(self.now()).to_ns(), line, none);
        self.storage.append_logs(&batch).await.unwrap();
    }

    /// Evaluates all groups at a minute.
    pub async fn at(&self, minute: f64) {
        let now = self.go_to(minute);
        self.ruler.evaluate_all(now).await;
    }

    /// What a PromQL expression says now, a line for each element, sorted.
    pub fn ask(&self, expr: &str) -> Vec<String> {
        let limits = Limits {
            samples_max: 1 << 20,
            series_max: 1 << 20,
            bytes_max: 1 << 30,
        };
        let context = Context::new(Duration::from_secs(60), limits);
        let query = query_promql::Query::parse(expr).unwrap();
        let at = TimestampMs(self.now());
        let output = query.instant(&context, self.storage.metrics(), at, query_promql::Options::DEFAULT);
        let query_promql::Value::Vector(series) = output.unwrap().value else {
            panic!("{expr} is no vector");
        };
        let mut lines: Vec<String> = (series.iter())
            .map(|s| match s.points.first() {
                Some((_, v)) => format!("{} {v}", s.labels),
                None => format!("{} {}", s.labels, query_exec::text_of(&s.histograms[0].1)),
            })
            .collect();
        lines.sort();
        lines
    }

    /// Health and last error of a rule.
    pub fn health(&self, group: usize, rule: usize) -> (Health, Option<String>) {
        let rule = &self.ruler.groups()[group].rules[rule];
        (rule.health, rule.last_error.clone())
    }
}

/// The groups of a file without faults.
pub fn read(text: &str) -> Vec<Group> {
    let (groups, faults): (_, Vec<Fault>) = read_groups("rules.yml", text, Dialect::PromQl);
    assert_eq!(faults, [], "{text}");
    groups
}

/// `name{a="b", c="d"}`, all of it optional.
pub fn labels(text: &str) -> LabelSet {
    let (name, rest) = text.split_once('{').unwrap_or((text, "}"));
    let pairs = rest
        .trim_end_matches('}')
        .split(',')
        .filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(n, v)| (n.trim(), v.trim().trim_matches('"')));
    LabelSet::from_pairs(pairs.chain([("__name__", name)]))
}

/// The same instant in ns.
pub fn ns(ms: i64) -> TimestampNs {
    TimestampMs(ms).to_ns()
}
