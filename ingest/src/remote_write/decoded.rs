//! What both versions of remote write make of a request, and the rules they share.

use model::{Exemplar, HistogramSample, LabelSet, METRIC_NAME, MetricKind, SampleBatch, SeriesIx, TimestampMs};

use super::histogram::Unfit;
use crate::refusal::Refusal;

/// Characters of an exemplar's label set, names and values.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// Memory of one metadata record beside its texts, about.
pub(crate) const METADATA_BYTES: usize = 96;

/// A decoded request.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub batch: SampleBatch,
    /// Series that were skipped, their labels or shape being unusable.
    pub skipped_series: u64,
    /// Samples of these.
    pub skipped_samples: u64,
    /// Why, for the first of them.
    pub skipped_why: Option<String>,
    /// Native histograms of series that were skipped.
    pub skipped_histograms: u64,
    /// Native histograms that are none.
    pub unfit_histograms: u64,
    /// Why, for the first of them.
    pub unfit_why: Option<String>,
    /// Exemplars whose labels cannot be read.
    pub unreadable_exemplars: u64,
}

impl Decoded {
    /// Counts a series that is skipped.
    pub fn skip(&mut self, labels: &[(&str, &str)], why: &str) {
        self.skipped_series += 1;
        let words = || format!("series {} has {why}", LabelSet::from_pairs(labels.iter().copied()));
        self.skipped_why.get_or_insert_with(words);
    }

    /// Takes a histogram of `series`, or counts it as unfit.
    pub fn histogram(&mut self, series: SeriesIx, read: Result<HistogramSample, Unfit>) {
        match read {
            Ok(sample) => self.batch.histogram(series, sample),
            Err(why) => {
                self.unfit_histograms += 1;
                let labels = || LabelSet::from_encoded(self.batch.labels(series).0).unwrap_or_default();
                self.unfit_why.get_or_insert_with(|| format!("{}: {why}", labels()));
            }
        }
    }

    /// Samples and histograms that are not stored for a reason found here.
    pub fn refused(&self) -> u64 {
        self.skipped_samples + self.skipped_histograms + self.unfit_histograms
    }
}

/// What makes labels unusable; sorts them by name.
pub(crate) fn bad_labels(labels: &mut [(&str, &str)]) -> Option<&'static str> {
    if !labels.is_sorted_by(|a, b| a.0 < b.0) {
        labels.sort_by(|a, b| a.0.cmp(b.0));
        if labels.windows(2).any(|w| w[0].0 == w[1].0) {
            return Some("a duplicate label name");
        }
    }
    if labels.first().is_some_and(|(name, _)| name.is_empty()) {
        return Some("an empty label name");
    }
    let named = |(name, value): &(&str, &str)| *name == METRIC_NAME && !value.is_empty();
    (!labels.iter().any(named)).then_some("no __name__")
}

/// An exemplar; `None` if its labels are too long.
pub(crate) fn exemplar_of(labels: Vec<(&str, &str)>, value: f64, t_ms: i64) -> Option<Exemplar> {
    let chars = |(name, value): &(&str, &str)| name.chars().count() + value.chars().count();
    if labels.iter().map(chars).sum::<usize>() > EXEMPLAR_CHARS_MAX {
        return None;
    }
    Some(Exemplar {
        labels: LabelSet::from_pairs(labels),
        value,
        t: TimestampMs(t_ms),
    })
}

/// The kind of a metric family by its number on the wire.
pub(crate) fn kind_of(number: u64) -> MetricKind {
    let kind = usize::try_from(number).ok().and_then(|k| MetricKind::ALL.get(k));
    kind.copied().unwrap_or_default()
}

/// Whether `bytes` of memory may be held for a request.
pub(crate) fn check_room(bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes > bytes_max {
        return Err(Refusal::TooLarge(format!(
            "request unfolds to more than {bytes_max} bytes in memory; send smaller batches"
        )));
    }
    Ok(())
}
