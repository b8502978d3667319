//! From pushed streams to a batch: what both forms of the request share.
//!
//! Streams and entries are checked one by one; the good ones go into the batch, the bad ones among the errors.
//! `service_name` is added to streams and `detected_level` to entries, as
//! Loki 3 does.

use std::borrow::Cow;

use model::{LabelSet, LogBatch, TimestampNs};

use super::errors::Errors;
use super::{json, protobuf};
use crate::entry_limits::{SERVICE_NAME, bad_entry, bad_stream, discover_service_name};
use crate::label_names::{Manner, label_name_in};
use crate::level::{DETECTED_LEVEL, LevelDetector};
use crate::refusal::Refusal;

/// A decoded push.
#[derive(Debug, Default)]
pub(crate) struct Push {
    pub batch: LogBatch,
    /// Streams in the request, good and bad, empty or not.
    pub streams: u64,
    /// Entries that were refused.
    pub rejected: u64,
    /// Why, in Loki's words.
    pub errors: Errors,
    bytes_max: usize,
}

/// A name and value as they came.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A stream of the request whose entries follow.
pub(crate) struct OpenStream {
    labels: LabelSet,
    bad: Option<String>,
    /// The level that the labels tell.
    level: Option<String>,
    stream: Option<model::StreamIx>,
    is_told: bool,
}

/// Decodes a JSON push. The batch holds at most `bytes_max`.
pub(crate) fn from_json(body: &[u8], bytes_max: usize) -> Result<Push, Refusal> {
    let mut push = Push::within(bytes_max);
    json::read(body, &mut push)?;
    Ok(push)
}

/// Decodes a protobuf push. The batch holds at most `bytes_max`.
pub(crate) fn from_protobuf(body: &[u8], bytes_max: usize) -> Result<Push, Refusal> {
    let mut push = Push::within(bytes_max);
    // Most of the body is lines.
    push.batch.reserve_text(body.len());
    protobuf::read(body, &mut push)?;
    Ok(push)
}

impl Push {
    fn within(bytes_max: usize) -> Push {
        Push {
            bytes_max,
            ..Push::default()
        }
    }

    /// The bound that everything read from the request keeps to.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Begins a stream with the labels given.
    pub fn open<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> OpenStream {
        self.streams += 1;
        let mut pairs: Vec<(&str, &str)> = labels.filter(|(_, value)| !value.is_empty()).collect();
        pairs.sort_by(|a, b| a.0.cmp(b.0));
        let duplicate = pairs.windows(2).find(|w| w[0].0 == w[1].0).map(|w| w[0].0);
        if let Some(name) = discover_service_name(&pairs) {
            pairs.push((SERVICE_NAME, name));
        }
        let labels = LabelSet::from_pairs(pairs.iter().copied());
        let bad = match duplicate {
            // A set would hide what is twice.
            Some(name) => {
                let written: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
                let written = written.join(", ");
                Some(format!("stream '{{{written}}}' has duplicate label name: '{name}'"))
            }
            None => bad_stream(&labels),
        };
        OpenStream {
            level: LevelDetector::DEFAULT.among(labels.iter()).map(str::to_owned),
            labels,
            bad,
            stream: None,
            is_told: false,
        }
    }

    /// Adds an entry to a stream, or says why not.
    pub fn entry(
        &mut self,
        open: &mut OpenStream,
        t: TimestampNs,
        line: &str,
        pairs: &[Pair<'_>],
    ) -> Result<(), Refusal> {
        if let Some(words) = &open.bad {
            self.rejected += 1;
            if !std::mem::replace(&mut open.is_told, true) {
                self.errors.add(words.clone());
            }
            return Ok(());
        }
        let bytes = pairs.iter().map(|(n, v)| n.len() + v.len()).sum();
        if let Some(words) = bad_entry(&open.labels, line, pairs.len(), bytes) {
            self.rejected += 1;
            self.errors.add(words);
            return Ok(());
        }
        let normal: Vec<Pair<'_>> = pairs
            .iter()
            .map(|(name, value)| {
                (
                    label_name_in(Cow::Borrowed(name), Manner::LOKI),
                    Cow::Borrowed(value.as_ref()),
                )
            })
            .collect();
        let metadata = normal.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        let level = LevelDetector::DEFAULT.of_entry(open.level.as_deref(), metadata.clone(), line);
        let kept = metadata.filter(|(n, v)| !v.is_empty() && !n.is_empty() && *n != DETECTED_LEVEL);
        let kept = kept.chain([(DETECTED_LEVEL, level)]);
        let stream = *open.stream.get_or_insert_with(|| self.batch.stream_of(&open.labels));
        self.batch.entry(stream, t, line, kept);
        self.check(self.batch.bytes())
    }

    /// Whether `bytes` of memory may still be held for this request.
    pub fn check(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.bytes_max {
            return Err(Refusal::TooLarge(format!(
                "request body too large: it unfolds to more than {} bytes in memory; send smaller batches",
                self.bytes_max
            )));
        }
        Ok(())
    }
}
