//! What targets answer: text 0.0.4 and 1.0.0, OpenMetrics, protobuf, each walked in place.
//!
//! A reader hands each sample to a visitor with its *key*: the bytes that name the series on this target. Labels are only
//! taken apart when the visitor asks, which it does for keys it has not seen before; a scrape like the last one allocates
//! nothing per sample.

mod custom_buckets;
mod number;
mod protobuf;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;

use model::{Histogram, MetricKind};

use custom_buckets::Joining;
pub(crate) use number::canonical_float;
pub(crate) use text::Dialect;

/// Longest message of an error; what it quotes comes from outside.
const QUOTED_CHARS_MAX: usize = 80;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text(Dialect),
    Protobuf,
}

impl Format {
    /// By the media type of an answer; `None`: none of them.
    pub fn of(content_type: &str) -> Option<Format> {
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        match media_type.to_ascii_lowercase().as_str() {
            "text/plain" => Some(Format::Text(Dialect::Prometheus)),
            "application/openmetrics-text" => Some(Format::Text(Dialect::OpenMetrics)),
            "application/vnd.google.protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// A sample as it is met.
pub(crate) struct Exposed<'a> {
    /// What names the series on this target, in this format.
    pub key: &'a [u8],
    /// Its labels.
    pub labels: &'a dyn ExposedLabels,
    /// Its value.
    pub value: ExposedValue,
    /// Its time, ms, if it has one.
    pub t: Option<i64>,
    /// When its counting began, ms, if that is told.
    pub start: Option<i64>,
    /// Its exemplars.
    pub exemplars: &'a [ExposedExemplar<'a>],
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExposedValue {
    Float(f64),
    Histogram(Box<Histogram>),
}

/// An exemplar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExposedExemplar<'a> {
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub value: f64,
    /// Its time, ms, if it has one.
    pub t: Option<i64>,
}

/// Labels that are taken apart on demand.
pub(crate) trait ExposedLabels {
    /// Hands over name and value of each label, `__name__` among them; an error in words.
    fn each(&self, see: &mut dyn FnMut(&str, &str)) -> Result<(), String>;
}

/// Something about a metric family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum About<'a> {
    Kind(MetricKind),
    Help(&'a str),
    Unit(&'a str),
}

/// Who is shown what is in an answer.
pub(crate) trait Visitor {
    /// Something about a metric family.
    fn about(&mut self, family: &str, about: About<'_>);
    /// A sample; an error in words ends the reading with it.
    fn sample(&mut self, sample: &Exposed<'_>) -> Result<(), String>;
}

/// Which histograms are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramHabits {
    /// Native ones.
    pub native: bool,
    /// Classic ones where there are native ones too.
    pub classic_too: bool,
    /// Classic ones as native ones with custom buckets.
    pub custom_buckets: bool,
}

/// Shows a whole answer; an error in words says what is wrong with it, and where.
pub(crate) fn read(
    body: &[u8],
    format: Format,
    habits: HistogramHabits,
    visitor: &mut impl Visitor,
) -> Result<(), String> {
    match format {
        Format::Text(dialect) if habits.custom_buckets => {
            let has_starts = dialect == Dialect::OpenMetrics;
            let mut joining = Joining::new(visitor, habits.classic_too, has_starts);
            text::read(body, dialect, &mut joining)?;
            joining.finish()
        }
        Format::Text(dialect) => text::read(body, dialect, visitor),
        Format::Protobuf => protobuf::read(body, habits, visitor),
    }
}

/// Foreign bytes for a message.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
