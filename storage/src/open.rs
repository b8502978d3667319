//! Opening a data directory: lock, catalogue, then the three engines side by side.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{Signal, TimeRangeNs, TimestampNs};
use parking_lot::Mutex;
use storage_budget::Budget;
use storage_catalogue::{BlockMeta, Catalogue};
use storage_disk::{DirLock, Disk, Space};
use storage_logs::{LogPolicy, Logs};
use storage_metrics::Metrics;
use storage_traces::Traces;
use storage_wal::{Replay, SyncMode};

use crate::life::Life;
use crate::snapshot;

/// Where "now" comes from: the server hands in the system clock, a test its own.
pub type Clock = Arc<dyn Fn() -> TimestampNs + Send + Sync>;

/// Nothing may be stamped further ahead of now than this (Prometheus and Loki refuse beyond 10 minutes too).
const AHEAD_NS: i64 = 600_000_000_000;

/// A WAL segment is closed at this size.
const SEGMENT_BYTES: u64 = 32 << 20;

/// How to run the storage; filled by the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything on disk.
    pub data_dir: PathBuf,
    /// Age of metrics, ms.
    pub retention_metrics_ms: i64,
    /// Age of logs, ns.
    pub retention_logs_ns: i64,
    /// Age of traces, ns.
    pub retention_traces_ns: i64,
    /// Bytes on disk in all: blocks, WAL, catalogue. Snapshots do not count.
    pub retention_size: Option<u64>,
    /// Memory for heads and requests, bytes.
    pub memory_limit: u64,
    /// Free space never used, bytes; ingest is refused below it.
    pub free_disk_reserve: u64,
    /// When an append counts as durable.
    pub wal_sync: SyncMode,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds it.
    #[error(
        "data directory {dir} is in use by another trilobite (its lock file is held); stop that one or choose another --data-dir"
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be created or written.
    #[error("data directory {dir} cannot be used: {source}; check owner and permissions, or choose another --data-dir")]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The catalogue cannot be opened.
    #[error("catalogue: {0}")]
    Catalogue(#[from] storage_catalogue::CatalogueError),
    /// An engine cannot be opened.
    #[error("{signal} engine: {message}")]
    Engine {
        /// Whose.
        signal: &'static str,
        /// Its words.
        message: String,
    },
}

/// What opening met, for the log.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// What the catalogue met.
    pub catalogue: storage_catalogue::Opened,
    /// What replay met, by signal.
    pub replays: Vec<(&'static str, Replay)>,
}

/// The three engines over one directory; share it behind an `Arc`.
pub struct Storage {
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) catalogue: Catalogue,
    pub(crate) budget: Budget,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) traces: Arc<Traces>,
    pub(crate) disk_full: AtomicBool,
    /// Signals whose log failed and waits to be rolled.
    pub(crate) wal_failed: [AtomicBool; 3],
    pub(crate) life: Mutex<Life>,
    /// When compaction and retention were considered last.
    pub(crate) blocks_since: Mutex<Option<TimestampNs>>,
    _lock: DirLock,
}

/// Figures for the self-metrics.
#[derive(Clone, Copy, Debug)]
pub struct StorageStats {
    /// The metrics engine's.
    pub metrics: storage_metrics::Stats,
    /// The logs engine's.
    pub logs: storage_logs::Stats,
    /// The traces engine's.
    pub traces: storage_traces::Stats,
    /// Memory accounted, bytes.
    pub budget_used: u64,
    /// Memory allowed, bytes.
    pub budget_limit: u64,
    /// Free and total space of the data directory; `None` if the system would not say.
    pub space: Option<Space>,
    /// Bytes of the catalogue's database.
    pub catalogue_bytes: u64,
    /// Whether ingest is refused for lack of disk space.
    pub disk_full: bool,
}

impl Storage {
    /// Opens or creates the directory, takes its lock, and replays what was not yet in blocks. All log streams are kept as
    /// long, and nothing can be deleted from them.
    pub fn open(options: Options, clock: Clock) -> Result<(Storage, OpenReport), OpenError> {
        Storage::open_with(options, LogPolicy::default(), clock)
    }

    /// Opens like [`Storage::open`], with a policy for logs.
    pub fn open_with(options: Options, logs: LogPolicy, clock: Clock) -> Result<(Storage, OpenReport), OpenError> {
        let disk = Disk::real();
        let dir = options.data_dir.clone();
        let unusable = |source| OpenError::Unusable {
            dir: dir.clone(),
            source,
        };
        disk.create_dir_all(&dir).map_err(unusable)?;
        let lock = disk.lock_dir(&dir).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { dir: dir.clone() },
            _ => unusable(e),
        })?;
        snapshot::remove_unfinished(&disk, &dir).map_err(unusable)?;
        let (catalogue, opened) = Catalogue::open(disk.clone(), &dir)?;
        let budget = Budget::new(options.memory_limit);
        let (metrics, logs, traces, replays) = open_engines(&options, logs, &disk, &catalogue, &budget)?;
        let now = clock();
        logs.let_pass(now);
        let storage = Storage {
            life: Mutex::new(Life::begin(now)),
            blocks_since: Mutex::default(),
            options,
            clock,
            disk,
            catalogue,
            budget,
            metrics: Arc::new(metrics),
            logs: Arc::new(logs),
            traces: Arc::new(traces),
            disk_full: AtomicBool::new(false),
            wal_failed: Default::default(),
            _lock: lock,
        };
        storage.look_at_disk();
        Ok((
            storage,
            OpenReport {
                catalogue: opened,
                replays,
            },
        ))
    }

    /// The moment, by the clock handed in.
    pub fn now(&self) -> TimestampNs {
        (self.clock)()
    }

    /// The oldest instant whose data is still taken, by the retention of its signal.
    pub fn horizon(&self, signal: Signal) -> TimestampNs {
        let retention_ns = match signal {
            Signal::Metrics => self.options.retention_metrics_ms.saturating_mul(1_000_000),
            Signal::Logs => self.logs.keeps_at_most(),
            Signal::Traces => self.options.retention_traces_ns,
        };
        TimestampNs(self.now().0.saturating_sub(retention_ns))
    }

    /// The metrics engine, for reading.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The logs engine, for reading.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.logs
    }

    /// The traces engine, for reading.
    pub fn traces(&self) -> &Arc<Traces> {
        &self.traces
    }

    /// Memory in use and allowed, for admission of requests.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What is known of each block of a signal, rising by day.
    pub fn blocks(&self, signal: Signal) -> Vec<BlockMeta> {
        let blocks = self.catalogue.blocks(signal, TimeRangeNs::ALL);
        blocks.iter().map(|b| b.meta().clone()).collect()
    }

    /// Bytes of all blocks of a signal.
    pub fn block_bytes(&self, signal: Signal) -> u64 {
        self.catalogue
            .blocks(signal, TimeRangeNs::ALL)
            .iter()
            .map(|b| b.meta().bytes)
            .sum()
    }

    /// Figures for the self-metrics.
    pub fn stats(&self) -> StorageStats {
        StorageStats {
            metrics: self.metrics.stats(),
            logs: self.logs.stats(),
            traces: self.traces.stats(),
            budget_used: self.budget.used(),
            budget_limit: self.budget.limit(),
            space: self.disk.space(&self.options.data_dir).ok(),
            catalogue_bytes: self.catalogue.disk_bytes(),
            disk_full: self.disk_full.load(Ordering::Relaxed),
        }
    }
}

type Engines = (Metrics, Logs, Traces, Vec<(&'static str, Replay)>);

/// Opens the engines on three threads: replay is CPU work, and a restart should be short.
fn open_engines(
    options: &Options,
    policy: LogPolicy,
    disk: &Disk,
    catalogue: &Catalogue,
    budget: &Budget,
) -> Result<Engines, OpenError> {
    let wal = storage_wal::Options {
        sync: options.wal_sync,
        segment_bytes: SEGMENT_BYTES,
    };
    let dir = |signal: Signal| options.data_dir.join(signal.as_str());
    let failed = |signal: Signal, message: String| OpenError::Engine {
        signal: signal.as_str(),
        message,
    };
    std::thread::scope(|scope| {
        let metrics = scope.spawn(|| {
            let parts = storage_metrics::Parts {
                disk: disk.clone(),
                catalogue: catalogue.clone(),
                budget: budget.clone(),
                dir: dir(Signal::Metrics),
                wal: wal.clone(),
            };
            let how = storage_metrics::Options {
                retention_ms: options.retention_metrics_ms,
                ahead_ms: AHEAD_NS / 1_000_000,
            };
            Metrics::open(parts, how).map_err(|e| failed(Signal::Metrics, e.to_string()))
        });
        let logs = scope.spawn(|| {
            let parts = storage_logs::Parts {
                disk: disk.clone(),
                catalogue: catalogue.clone(),
                budget: budget.clone(),
                dir: dir(Signal::Logs),
                wal: wal.clone(),
            };
            let how = storage_logs::Options {
                retention_ns: options.retention_logs_ns,
                ahead_ns: AHEAD_NS,
            };
            Logs::open_with(parts, how, policy).map_err(|e| failed(Signal::Logs, e.to_string()))
        });
        let traces = scope.spawn(|| {
            let parts = storage_traces::Parts {
                disk: disk.clone(),
                catalogue: catalogue.clone(),
                budget: budget.clone(),
                dir: dir(Signal::Traces),
                wal: wal.clone(),
            };
            let how = storage_traces::Options {
                retention_ns: options.retention_traces_ns,
                ahead_ns: AHEAD_NS,
            };
            Traces::open(parts, how).map_err(|e| failed(Signal::Traces, e.to_string()))
        });
        let panicked = |signal: Signal| failed(signal, "opening panicked; the log above says where".to_owned());
        let (metrics, m) = metrics.join().map_err(|_| panicked(Signal::Metrics))??;
        let (logs, l) = logs.join().map_err(|_| panicked(Signal::Logs))??;
        let (traces, t) = traces.join().map_err(|_| panicked(Signal::Traces))??;
        Ok((metrics, logs, traces, vec![("metrics", m), ("logs", l), ("traces", t)]))
    })
}
