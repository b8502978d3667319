//! What a case starts from, series and log lines, and how it comes into the storage bit by bit, as time passes.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{HistogramSample, LabelSet, LogBatch, SampleBatch, TimestampMs, TimestampNs};
use storage::Storage;

use crate::notation::Value;

/// Most log entries of a case.
const ENTRIES_MAX: usize = 5_000_000;
/// Most bytes of log lines that are handed to the storage at once.
const BATCH_BYTES: usize = 8 << 20;

/// What a case starts from.
#[derive(Clone, Debug, Default)]
pub(super) struct Input {
    series: BTreeMap<LabelSet, Vec<Value>>,
    entries: Vec<EntryLine>,
    entry_count: usize,
}

/// A log line, once or at even distances.
#[derive(Clone, Debug)]
pub(super) struct EntryLine {
    pub labels: Arc<LabelSet>,
    pub line: String,
    pub metadata: Vec<(String, String)>,
    /// The first, ms from the start.
    pub at_ms: i64,
    pub every_ms: i64,
    pub times: usize,
}

impl Input {
    /// Adds a series. Of two with the same labels the later counts, as with Prometheus.
    pub fn series(&mut self, labels: LabelSet, values: Vec<Value>) {
        self.series.insert(labels, values);
    }

    /// Adds log entries.
    pub fn entries(&mut self, entry: EntryLine) -> Result<(), String> {
        self.entry_count = self.entry_count.saturating_add(entry.times);
        if self.entry_count > ENTRIES_MAX {
            return Err(format!("more than {ENTRIES_MAX} log entries in a test"));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Stores what has its time in `[from, till]`, both ms after `start_ms`.
    pub async fn store(
        &self,
        storage: &Storage,
        start_ms: i64,
        interval_ms: i64,
        from: i64,
        till: i64,
    ) -> Result<(), String> {
        let mut samples = SampleBatch::default();
        for (labels, values) in &self.series {
            let places = places(0, interval_ms, values.len(), from, till);
            if places.is_empty() {
                continue;
            }
            let series = samples.series_of(labels);
            for k in places {
                let t = TimestampMs(start_ms + k as i64 * interval_ms);
                match &values[k] {
                    Value::None => {}
                    Value::Float(v) => samples.sample(series, t, *v),
                    Value::Histogram(h, _) => {
                        let histogram = Arc::new(h.as_ref().clone());
                        let start = TimestampMs(0);
                        samples.histogram(series, HistogramSample { t, start, histogram });
                    }
                }
            }
        }
        if !samples.is_empty() {
            let appended = storage.append_samples(&samples).await.map_err(|e| e.to_string())?;
            if appended.too_old + appended.too_new > 0 {
                return Err(format!(
                    "the storage takes no samples of that time: {:?}",
                    appended.example
                ));
            }
        }
        self.store_entries(storage, start_ms, from, till).await
    }

    async fn store_entries(&self, storage: &Storage, start_ms: i64, from: i64, till: i64) -> Result<(), String> {
        let mut batch = LogBatch::default();
        let mut bytes = 0;
        for entry in &self.entries {
            let places = places(entry.at_ms, entry.every_ms, entry.times, from, till);
            let mut stream = None;
            for k in places {
                let t = start_ms + entry.at_ms + k as i64 * entry.every_ms;
                let at = *stream.get_or_insert_with(|| batch.stream_of(&entry.labels));
                let metadata = entry.metadata.iter().map(|(n, v)| (n, v));
                batch.entry(at, TimestampNs(t.saturating_mul(1_000_000)), &entry.line, metadata);
                bytes += entry.line.len() + 16;
                if bytes >= BATCH_BYTES {
                    storage.append_logs(&batch).await.map_err(|e| e.to_string())?;
                    (batch, bytes, stream) = (LogBatch::default(), 0, None);
                }
            }
        }
        if bytes > 0 {
            storage.append_logs(&batch).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Which of `times` places at `at`, `at + every`, ... lie in `[from, till]`.
fn places(at: i64, every: i64, times: usize, from: i64, till: i64) -> std::ops::Range<usize> {
    if till < at {
        return 0..0;
    }
    let every = every.max(1);
    let first = if from <= at { 0 } else { (from - at + every - 1) / every };
    let last = (till - at) / every;
    let end = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).min(times);
    usize::try_from(first).unwrap_or(usize::MAX).min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_stored_at_its_time_and_once() {
        for (at, every) in [(0, 30), (5, 7), (100, 60), (0, 1)] {
            let mut all = Vec::new();
            let mut from = 0;
            for till in [0, 60, 120, 121, 1000] {
                let found = places(at, every, 9, from, till);
                assert!(found.clone().all(|k| (from..=till).contains(&(at + k as i64 * every))));
                all.extend(found);
                from = till + 1;
            }
            assert_eq!(all, (0..9).collect::<Vec<_>>(), "{at} {every}");
        }
    }
}
