//! The nouns of the field: labels, time, ids, samples, log entries, spans, and the batches in which they arrive.
//!
//! A type lives here when two rooms of the house speak it, it is a noun of the field, and it needs no I/O, clock,
//! async runtime, wire format or setting.

mod attribute;
mod batch;
mod duration;
mod exemplar;
mod histogram;
mod ids;
mod labels;
mod log;
mod matcher;
mod metadata;
mod re2;
mod regex;
mod sample;
mod span;
mod time;

pub use attribute::{AttributeValue, KeyValue};
pub use batch::{LogBatch, SampleBatch, SeriesIx, SpanBatch, StreamIx};
pub use duration::{parse_duration, print_duration};
pub use exemplar::Exemplar;
pub use histogram::{
    BadHistogram, Bucket, BucketSpan, Buckets, CUSTOM_BUCKETS, Histogram, HistogramSample, ResetHint, coarser_index,
    exponential_bound,
};
pub use ids::{BlockId, ParseIdError, SeriesId, Signal, SpanId, StreamId, TraceId};
pub use labels::{BadLabels, LabelSet, LabelsBuilder, METRIC_NAME, encode_label, encode_labels, hash_labels};
pub use log::Entry;
pub use matcher::{BadMatcher, MatchOp, Matcher};
pub use metadata::{MetricKind, MetricMetadata};
pub use regex::{Captures, Regex, RegexBudget, RegexUse, anchored_regex, unanchored_regex};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use span::{Event, Link, Resource, Scope, Span, SpanKind, StatusCode};
pub use time::{DAY_MS, DAY_NS, Day, TimeRangeMs, TimeRangeNs, TimestampMs, TimestampNs};
