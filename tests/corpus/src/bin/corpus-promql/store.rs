//! The store of one file: a real metrics engine in a temporary directory, opened when something is first asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::ensure;
use model::{HistogramSample, SampleBatch, TimestampMs};
use query_rules::notation::Value;
use storage_budget::Budget;
use storage_catalogue::Catalogue;
use storage_disk::Disk;
use storage_metrics::{Metrics, Options, Parts};
use storage_wal::SyncMode;

use crate::script::Load;

pub struct Store {
    waiting: Vec<Load>,
    open: Option<Open>,
    runtime: tokio::runtime::Runtime,
}

struct Open {
    metrics: Metrics,
    _dir: tempfile::TempDir,
}

impl Store {
    pub fn new() -> anyhow::Result<Store> {
        Ok(Store {
            waiting: Vec::new(),
            open: None,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    pub fn load(&mut self, load: Load) {
        self.waiting.push(load);
    }

    /// The engine, with all that was loaded.
    pub fn metrics(&mut self) -> anyhow::Result<&Metrics> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new()?,
        };
        for load in std::mem::take(&mut self.waiting) {
            let mut batch = SampleBatch::default();
            // Of several lines for one series in a load the last one counts.
            let last: BTreeMap<_, _> = (load.series.iter().enumerate())
                .map(|(at, (labels, values))| (labels, (at, values)))
                .collect();
            for (labels, (at, values)) in last {
                let series = batch.series_of(labels);
                let starts = load
                    .starts
                    .iter()
                    .rfind(|(of, _)| *of == at)
                    .map_or(&[][..], |(_, s)| s);
                for (k, value) in values.iter().enumerate() {
                    let t = load.step_ms * k as i64;
                    let start = starts.get(k).copied().flatten().map(|from| TimestampMs(t + from));
                    match (value, start) {
                        (Value::None, _) => {}
                        (Value::Float(v), None) => batch.sample(series, TimestampMs(t), *v),
                        (Value::Float(v), Some(start)) => batch.sample_from(series, TimestampMs(t), *v, start),
                        (Value::Histogram(h, _), start) => {
                            let histogram = HistogramSample {
                                t: TimestampMs(t),
                                start: start.unwrap_or(TimestampMs(0)),
                                histogram: Arc::new(h.as_ref().clone()),
                            };
                            batch.histogram(series, histogram);
                        }
                    }
                }
            }
            if !batch.is_empty() {
                let appended = self.runtime.block_on(open.metrics.append(&batch, TimestampMs(0)))?;
                ensure!(
                    appended.too_old + appended.too_new == 0,
                    "samples were refused: {:?}",
                    appended.example
                );
            }
        }
        Ok(&self.open.insert(open).metrics)
    }
}

impl Open {
    fn new() -> anyhow::Result<Open> {
        let dir = tempfile::tempdir()?;
        let (disk, budget) = (Disk::real(), Budget::new(1 << 30));
        let (catalogue, _) = Catalogue::open(disk.clone(), dir.path())?;
        let parts = Parts {
            disk,
            catalogue,
            budget,
            dir: dir.path().join("metrics"),
            wal: storage_wal::Options {
                sync: SyncMode::Never,
                segment_bytes: 64 << 20,
            },
        };
        let options = Options {
            retention_ms: i64::MAX / 4,
            ahead_ms: i64::MAX / 4,
        };
        let (metrics, _) = Metrics::open(parts, options)?;
        Ok(Open { metrics, _dir: dir })
    }
}
