//! Where decoded batches go: the seam between the protocols and the storage, on which the router tests stand.

use std::future::Future;
use std::pin::Pin;

use model::{LabelSet, LogBatch, SampleBatch, TimestampNs};
use storage::{AppendError, PackedSpans, Storage};

/// What an append comes to, eventually.
pub(crate) type Appending<'a, T> = Pin<Box<dyn Future<Output = Result<T, AppendError>> + Send + 'a>>;

/// What became of samples that were not refused as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SamplesTaken {
    /// Float samples stored now or before.
    pub kept: u64,
    /// Native histograms stored now or before.
    pub histograms: u64,
    /// Exemplars stored now or before.
    pub exemplars: u64,
    /// Native histograms that are none.
    pub invalid: u64,
    /// Older than retention.
    pub too_old: u64,
    /// Too far ahead.
    pub too_new: u64,
    /// Another value was there first.
    pub conflicts: u64,
    /// One refused sample in words.
    pub example: Option<String>,
}

impl SamplesTaken {
    /// How many samples were refused.
    pub fn refused(&self) -> u64 {
        self.too_old + self.too_new + self.conflicts + self.invalid
    }

    /// In one sentence, what was refused; empty if nothing was.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        for (n, what) in [
            (self.too_old, "older than the retention"),
            (self.too_new, "too far in the future"),
            (
                self.conflicts,
                "with another value than the one stored for the same time",
            ),
            (self.invalid, "that are no native histograms"),
        ] {
            if n > 0 {
                parts.push(format!("{n} samples {what}"));
            }
        }
        let mut words = parts.join(", ");
        if let (false, Some(example)) = (words.is_empty(), &self.example) {
            words.push_str("; for example ");
            words.push_str(example);
        }
        words
    }
}

/// What became of entries that were not refused as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntriesTaken {
    /// Stored now or before.
    pub kept: u64,
    /// Older than retention.
    pub too_old: u64,
    /// Too far ahead.
    pub too_new: u64,
    /// Some of the refused: stream, time, whether too new.
    pub refused: Vec<(LabelSet, TimestampNs, bool)>,
}

/// What became of spans that were not refused as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpansTaken {
    /// Stored now or before.
    pub kept: u64,
    /// Older than retention.
    pub too_old: u64,
    /// Too far ahead.
    pub too_new: u64,
}

/// The storage, as the protocols see it.
pub(crate) trait Sink: Send + Sync + 'static {
    /// The moment.
    fn now(&self) -> TimestampNs;
    /// The oldest entry that is still taken.
    fn oldest_entry(&self) -> TimestampNs;
    /// Share of the memory budget in use.
    fn pressure(&self) -> f64;
    /// Stores samples, durably.
    fn append_samples<'a>(&'a self, batch: &'a SampleBatch) -> Appending<'a, SamplesTaken>;
    /// Stores entries, durably.
    fn append_logs<'a>(&'a self, batch: &'a LogBatch) -> Appending<'a, EntriesTaken>;
    /// Stores spans, durably.
    fn append_spans(&self, spans: PackedSpans) -> Appending<'_, SpansTaken>;
    /// Keeps something beside the data, durably, under a name; an error in words.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), String>;
    /// What was kept last.
    fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, String>;
}

impl Sink for Storage {
    fn now(&self) -> TimestampNs {
        Storage::now(self)
    }

    fn oldest_entry(&self) -> TimestampNs {
        self.horizon(model::Signal::Logs)
    }

    fn pressure(&self) -> f64 {
        self.budget().pressure()
    }

    fn append_samples<'a>(&'a self, batch: &'a SampleBatch) -> Appending<'a, SamplesTaken> {
        Box::pin(async move {
            let appended = Storage::append_samples(self, batch).await?;
            Ok(SamplesTaken {
                kept: appended.stored + appended.duplicates - appended.duplicate_histograms,
                histograms: appended.histograms + appended.duplicate_histograms,
                exemplars: appended.exemplars,
                invalid: appended.invalid,
                too_old: appended.too_old,
                too_new: appended.too_new,
                conflicts: appended.conflicts,
                example: appended.example,
            })
        })
    }

    fn append_logs<'a>(&'a self, batch: &'a LogBatch) -> Appending<'a, EntriesTaken> {
        Box::pin(async move {
            let appended = Storage::append_logs(self, batch).await?;
            Ok(EntriesTaken {
                kept: appended.stored + appended.duplicates,
                too_old: appended.too_old,
                too_new: appended.too_new,
                refused: appended.refused,
            })
        })
    }

    fn append_spans(&self, spans: PackedSpans) -> Appending<'_, SpansTaken> {
        Box::pin(async move {
            let appended = Storage::append_spans(self, spans).await?;
            Ok(SpansTaken {
                kept: appended.stored + appended.duplicates,
                too_old: appended.too_old,
                too_new: appended.too_new,
            })
        })
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        Storage::keep(self, name, bytes).map_err(|e| e.to_string())
    }

    fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Storage::kept(self, name).map_err(|e| e.to_string())
    }
}
