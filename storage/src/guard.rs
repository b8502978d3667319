//! What is refused before it reaches an engine: batches when memory or disk run out. Nothing refused here was
//! acknowledged, and the protocols answer with a status that makes clients try again.

use std::sync::atomic::Ordering;

use model::{LogBatch, SampleBatch, Signal};
use storage_traces::PackedSpans;
use storage_wal::Lsn;

use crate::Storage;

/// Above this share of the memory limit, appends are refused until heads have been cut.
const PUSH_BACK_AT: f64 = 0.95;

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

impl Storage {
    /// Stores samples; returns when they are durable.
    pub async fn append_samples(&self, batch: &SampleBatch) -> Result<storage_metrics::Appended, AppendError> {
        self.admit()?;
        let now = self.now().floor_ms();
        (self.metrics.append(batch, now).await).map_err(|e| self.samples_refused(e))
    }

    /// The first half of [`Storage::append_samples`]: when it returns, queries see the samples. They are durable when
    /// [`Storage::durable_samples`] has returned for the place that is given; `None`: there was nothing to store.
    pub fn begin_append_samples(
        &self,
        batch: &SampleBatch,
    ) -> Result<(storage_metrics::Appended, Option<Lsn>), AppendError> {
        self.admit()?;
        let now = self.now().floor_ms();
        self.metrics
            .begin_append(batch, now)
            .map_err(|e| self.samples_refused(e))
    }

    /// Returns when the samples of every [`Storage::begin_append_samples`] up to this place are durable.
    pub async fn durable_samples(&self, place: Lsn) -> Result<(), AppendError> {
        self.metrics.durable(place).await.map_err(|e| self.samples_refused(e))
    }

    /// Stores entries; returns when they are durable.
    pub async fn append_logs(&self, batch: &LogBatch) -> Result<storage_logs::Appended, AppendError> {
        self.admit()?;
        self.logs.append(batch, self.now()).await.map_err(|e| match e {
            storage_logs::AppendError::Wal(e) => self.wal_refused(Signal::Logs, e),
            storage_logs::AppendError::OverBudget(e) => AppendError::Overloaded(e.to_string()),
            storage_logs::AppendError::Catalogue(e) => AppendError::Failed(e.to_string()),
        })
    }

    /// Stores spans; returns when they are durable.
    pub async fn append_spans(&self, spans: impl Into<PackedSpans>) -> Result<storage_traces::Appended, AppendError> {
        self.admit()?;
        self.traces.append(spans, self.now()).await.map_err(|e| match e {
            storage_traces::AppendError::Wal(e) => self.wal_refused(Signal::Traces, e),
            storage_traces::AppendError::OverBudget(e) => AppendError::Overloaded(e.to_string()),
            storage_traces::AppendError::Catalogue(e) => AppendError::Failed(e.to_string()),
        })
    }

    /// Looks at free space and opens or closes the gate for ingest. Called on every tick.
    pub(crate) fn look_at_disk(&self) {
        let Ok(space) = self.disk.space(&self.options.data_dir) else {
            return;
        };
        let full = space.free < self.options.free_disk_reserve;
        if full != self.disk_full.swap(full, Ordering::Relaxed) {
            let (free, reserve) = (space.free, self.options.free_disk_reserve);
            if full {
                tracing::error!(free, reserve, "disk nearly full: ingest is refused until space returns");
            } else {
                tracing::info!(free, reserve, "disk space returned: ingest goes on");
            }
        }
    }

    fn admit(&self) -> Result<(), AppendError> {
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(AppendError::DiskFull(format!(
                "disk full: less than {} bytes free where {} lies (--free-disk-reserve); free space or lower the retention",
                self.options.free_disk_reserve,
                self.options.data_dir.display()
            )));
        }
        if self.budget.pressure() > PUSH_BACK_AT {
            return Err(AppendError::Overloaded(format!(
                "overloaded: {} of {} bytes of memory in use (--memory-limit); heads are being cut, try again",
                self.budget.used(),
                self.budget.limit()
            )));
        }
        Ok(())
    }

    fn samples_refused(&self, error: storage_metrics::AppendError) -> AppendError {
        match error {
            storage_metrics::AppendError::Wal(e) => self.wal_refused(Signal::Metrics, e),
            storage_metrics::AppendError::OverBudget(e) => AppendError::Overloaded(e.to_string()),
            storage_metrics::AppendError::Catalogue(e) => AppendError::Failed(e.to_string()),
        }
    }

    fn wal_refused(&self, signal: Signal, error: storage_wal::WalError) -> AppendError {
        if let storage_wal::WalError::Behind { .. } = error {
            return AppendError::Overloaded(error.to_string());
        }
        if let storage_wal::WalError::Io { .. } = error {
            // A log that failed takes nothing more until it is rolled; the next tick does so by cutting the head.
            self.wal_failed[signal as usize].store(true, Ordering::Relaxed);
        }
        if let storage_wal::WalError::Io { full: true, .. } = error {
            return AppendError::DiskFull(format!("disk full: {error}"));
        }
        AppendError::Failed(error.to_string())
    }
}
