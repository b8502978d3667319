//! The face of the room: opens the three engines over one directory, guards disk and memory, and drives cuts,
//! compaction and retention by `tick`.

use std::path::PathBuf;
use std::sync::Arc;

use model::{LogBatch, SampleBatch, SpanBatch, TimestampMs, TimestampNs};
pub use storage_logs::Logs;
pub use storage_metrics::Metrics;
pub use storage_traces::Traces;

/// Where "now" comes from: the server hands in the system clock, a test its own.
pub type Clock = Arc<dyn Fn() -> TimestampNs + Send + Sync>;

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
    /// Bytes on disk in all.
    pub retention_size: Option<u64>,
    /// Memory for heads and requests.
    pub memory_limit: u64,
    /// Free space never used; ingest is refused below it.
    pub free_disk_reserve: u64,
    /// When an append counts as durable.
    pub wal_sync: storage_wal::SyncMode,
}

/// Why an append was refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No memory left now: try again later (503 with Retry-After).
    #[error("{0}")]
    Overloaded(String),
    /// The disk is full, or nearly so: try again much later (503 with Retry-After).
    #[error("{0}")]
    DiskFull(String),
    /// It failed; nothing was acknowledged.
    #[error("{0}")]
    Failed(String),
}

/// The three engines over one directory; share it behind an `Arc`.
pub struct Storage {
    _inner: (),
}

impl Storage {
    /// The moment, by the clock handed in.
    pub fn now(&self) -> TimestampNs {
        todo!()
    }
    /// Stores samples; returns when they are durable.
    pub async fn append_samples(&self, batch: &SampleBatch) -> Result<storage_metrics::Appended, AppendError> {
        let _ = batch;
        todo!()
    }
    /// Stores entries; returns when they are durable.
    pub async fn append_logs(&self, batch: &LogBatch) -> Result<storage_logs::Appended, AppendError> {
        let _ = batch;
        todo!()
    }
    /// Stores spans; returns when they are durable.
    pub async fn append_spans(&self, batch: SpanBatch) -> Result<storage_traces::Appended, AppendError> {
        let _ = batch;
        todo!()
    }
    /// The metrics engine, for reading.
    pub fn metrics(&self) -> &Arc<Metrics> {
        todo!()
    }
    /// The logs engine, for reading.
    pub fn logs(&self) -> &Arc<Logs> {
        todo!()
    }
    /// The traces engine, for reading.
    pub fn traces(&self) -> &Arc<Traces> {
        todo!()
    }
    /// Memory in use and allowed, for admission of requests.
    pub fn budget(&self) -> &storage_budget::Budget {
        todo!()
    }
    /// Cuts all three heads and returns when their blocks are in the catalogue. Blocks the thread.
    pub fn flush(&self) -> Result<(), AppendError> {
        todo!()
    }
}

#[allow(dead_code)]
fn _unused(_: TimestampMs) {}
