//! A store for tests of evaluation, and how to ask it.
#![allow(clippy::unwrap_used, dead_code)]

pub mod hour;

use std::time::Duration;

use model::{LabelSet, SampleBatch, TimestampMs};
use query_exec::{Context, Limits, text_of};
use query_promql::{EvalError, Options, Output, Query, Value};
use storage_metrics::Metrics;

pub struct Lab {
    pub metrics: Metrics,
    _dir: tempfile::TempDir,
}

/// A metrics engine that holds the batch; `now` is after its last sample.
pub fn lab_of(batch: &SampleBatch, now: i64) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let disk = storage_disk::Disk::real();
    let (catalogue, _) = storage_catalogue::Catalogue::open(disk.clone(), dir.path()).unwrap();
    let parts = storage_metrics::Parts {
        disk,
        catalogue,
        budget: storage_budget::Budget::new(1 << 30),
        dir: dir.path().join("metrics"),
        wal: storage_wal::Options {
            sync: storage_wal::SyncMode::Never,
            segment_bytes: 16 << 20,
        },
    };
    let options = storage_metrics::Options {
        retention_ms: i64::MAX / 4,
        ahead_ms: 600_000,
    };
    let (metrics, _) = Metrics::open(parts, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(metrics.append(batch, TimestampMs(now))).unwrap();
    Lab { metrics, _dir: dir }
}

/// Series as `name label=value ...` and their values, `_` for none, every `step_ms` from 0.
pub fn lab(step_ms: i64, series: &[(&str, &str)]) -> Lab {
    let mut batch = SampleBatch::default();
    for (labels, values) in series {
        let labels = labels
            .split_whitespace()
            .map(|l| l.split_once('=').unwrap_or(("__name__", l)));
        let series = batch.series_of(&LabelSet::from_pairs(labels));
        for (k, v) in values.split_whitespace().enumerate() {
            if v != "_" {
                batch.sample(series, TimestampMs(k as i64 * step_ms), v.parse().unwrap());
            }
        }
    }
    lab_of(&batch, 1 << 40)
}

pub fn limits(samples_max: u64) -> Context {
    let limits = Limits {
        samples_max,
        series_max: 10_000,
        bytes_max: 1 << 30,
    };
    Context::new(Duration::from_secs(60), limits)
}

impl Lab {
    pub fn instant(&self, text: &str, at: i64, options: Options) -> Result<Output, EvalError> {
        Query::parse(text)?.instant(&limits(1 << 24), &self.metrics, TimestampMs(at), options)
    }

    /// The answer at `at` seconds: an element each, `labels value`; errors and annotations as lines of their own.
    pub fn ask(&self, text: &str, at: f64, options: Options) -> Vec<String> {
        let output = match self.instant(text, (at * 1000.0) as i64, options) {
            Err(e) => return vec![format!("error: {e}")],
            Ok(output) => output,
        };
        let mut found = match output.value {
            Value::Scalar(_, v) => vec![format!("{v}")],
            Value::String(_, s) => vec![s],
            Value::Vector(series) | Value::Matrix(series) => {
                let mut lines = Vec::new();
                for s in series {
                    lines.extend(s.points.iter().map(|(_, v)| format!("{} {}", s.labels, rounded(*v))));
                    lines.extend(s.histograms.iter().map(|(_, h)| format!("{} {}", s.labels, text_of(h))));
                }
                lines
            }
        };
        found.extend(output.warnings);
        found.extend(output.infos);
        found
    }

    pub fn check(&self, text: &str, at: f64, want: &[&str]) {
        assert_eq!(self.ask(text, at, Options::DEFAULT), want, "{text} at {at} s");
    }
}

/// To nine digits: what is beyond is the order of operations.
fn rounded(v: f64) -> f64 {
    if v.is_finite() {
        format!("{v:.9}").parse().unwrap()
    } else {
        v
    }
}
