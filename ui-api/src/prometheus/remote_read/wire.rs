//! The messages of remote read, and those of the exposition format that `/federate` answers with. Field numbers are
//! Prometheus' (`remote.proto`, `types.proto`, `metrics.proto`).

use model::{BucketSpan, Buckets, Histogram, ResetHint};

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub queries: Vec<Query>,
    /// In the order of the client's liking.
    #[prost(int32, repeated, tag = "2")]
    pub accepted_response_types: Vec<i32>,
}

/// One selection.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Query {
    #[prost(int64, tag = "1")]
    pub start_timestamp_ms: i64,
    #[prost(int64, tag = "2")]
    pub end_timestamp_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub matchers: Vec<LabelMatcher>,
}

/// 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LabelMatcher {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub value: String,
}

/// A series with its samples. The answer has, in field 1, a result for each query, which has series in field 1.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<WireHistogram>,
}

/// A label.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A sample.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A run of buckets.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// A native histogram: whole counts as integers, others as floats.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireHistogram {
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    pub zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

impl WireHistogram {
    /// The histogram at `t`.
    pub fn of(t: i64, h: &Histogram) -> WireHistogram {
        let mut out = WireHistogram {
            sum: h.sum,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            negative_spans: spans(&h.negative),
            positive_spans: spans(&h.positive),
            reset_hint: match h.reset {
                ResetHint::Unknown => 0,
                ResetHint::Reset => 1,
                ResetHint::NotReset => 2,
                ResetHint::Gauge => 3,
            },
            timestamp: t,
            custom_values: h.bounds.to_vec(),
            ..WireHistogram::default()
        };
        if is_whole(h) {
            out.count_int = Some(h.count as u64);
            out.zero_count_int = Some(h.zero_count as u64);
            out.negative_deltas = deltas(&h.negative);
            out.positive_deltas = deltas(&h.positive);
        } else {
            out.count_float = Some(h.count);
            out.zero_count_float = Some(h.zero_count);
            out.negative_counts = h.negative.counts.clone();
            out.positive_counts = h.positive.counts.clone();
        }
        out
    }
}

fn spans(buckets: &Buckets) -> Vec<Span> {
    let span = |s: &BucketSpan| Span {
        offset: s.offset,
        length: s.length,
    };
    buckets.spans.iter().map(span).collect()
}

/// Whether every count is a whole number that a double holds exactly.
pub(super) fn is_whole(h: &Histogram) -> bool {
    let counts = [h.count, h.zero_count].into_iter();
    let mut counts = counts.chain(h.positive.counts.iter().chain(&h.negative.counts).copied());
    counts.all(|c| (0.0..=WHOLE_MAX).contains(&c) && c.trunc() == c && c.is_sign_positive())
}

const WHOLE_MAX: f64 = (1u64 << 53) as f64;

/// Each count as its difference to the one before.
pub(super) fn deltas(buckets: &Buckets) -> Vec<i64> {
    let mut last = 0;
    let difference = |count: &f64| {
        let now = *count as i64;
        let difference = now - last;
        last = now;
        difference
    };
    buckets.counts.iter().map(difference).collect()
}

/// A frame of the answer in chunks.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    pub chunked_series: Vec<ChunkedSeries>,
    /// Which query it answers.
    #[prost(int64, tag = "2")]
    pub query_index: i64,
}

/// A series, or a part of one, with its chunks.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<Chunk>,
}

/// A run of samples.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chunk {
    #[prost(int64, tag = "1")]
    pub min_time_ms: i64,
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    /// 1 XOR, 2 histograms, 3 float histograms.
    #[prost(int32, tag = "3")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// A family as it is exposed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricFamily {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "3")]
    pub kind: i32,
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

/// Kinds of families.
pub(crate) const UNTYPED: i32 = 3;
pub(crate) const HISTOGRAM: i32 = 4;
pub(crate) const GAUGE_HISTOGRAM: i32 = 5;

/// A series as it is exposed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<Label>,
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Untyped>,
    #[prost(int64, optional, tag = "6")]
    pub timestamp_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<ExposedHistogram>,
}

/// A value without a kind.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Untyped {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// A bucket of a histogram with bounds of its own.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ExposedBucket {
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
    /// Of this bucket and all below.
    #[prost(double, optional, tag = "4")]
    pub cumulative_count: Option<f64>,
}

/// A histogram as it is exposed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExposedHistogram {
    #[prost(uint64, optional, tag = "1")]
    pub count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sum: Option<f64>,
    /// Of custom bounds only; exponential buckets have spans.
    #[prost(message, repeated, tag = "3")]
    pub buckets: Vec<ExposedBucket>,
    #[prost(double, optional, tag = "4")]
    pub count_float: Option<f64>,
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "8")]
    pub zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "9")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "10")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "11")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "12")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "14")]
    pub positive_counts: Vec<f64>,
}

impl ExposedHistogram {
    /// The histogram without its time. Custom bounds are exposed as those of a classic histogram: the format has no
    /// other place for them.
    pub fn of(h: &Histogram) -> ExposedHistogram {
        if let Some(cumulative) = h.cumulative_custom() {
            let bucket = |(upper_bound, count)| ExposedBucket {
                upper_bound: Some(upper_bound),
                cumulative_count: Some(count),
            };
            return ExposedHistogram {
                sum: Some(h.sum),
                count_float: Some(h.count),
                buckets: cumulative.map(bucket).collect(),
                ..ExposedHistogram::default()
            };
        }
        let h = WireHistogram::of(0, h);
        ExposedHistogram {
            buckets: Vec::new(),
            count_int: h.count_int,
            sum: Some(h.sum),
            count_float: h.count_float,
            schema: Some(h.schema),
            zero_threshold: Some(h.zero_threshold),
            zero_count_int: h.zero_count_int,
            zero_count_float: h.zero_count_float,
            negative_spans: h.negative_spans,
            negative_deltas: h.negative_deltas,
            negative_counts: h.negative_counts,
            positive_spans: h.positive_spans,
            positive_deltas: h.positive_deltas,
            positive_counts: h.positive_counts,
        }
    }
}
