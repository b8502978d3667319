//! The messages of Tempo's streaming API, which its HTTP API answers in protobuf too. The field numbers are the contract.

use std::collections::HashMap;

use model::AttributeValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;
use query_traceql::{FoundSpanset, FoundTrace, MetricSeries, MetricsOutput, SearchOutput};

use crate::otlp_trace::any_value;

/// What to search for. Times are seconds since the epoch.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchRequest {
    #[prost(map = "string, string", tag = "1")]
    pub tags: HashMap<String, String>,
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    #[prost(uint32, tag = "5")]
    pub start: u32,
    #[prost(uint32, tag = "6")]
    pub end: u32,
    #[prost(string, tag = "8")]
    pub query: String,
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceSearchMetadata {
    #[prost(string, tag = "1")]
    pub trace_id: String,
    #[prost(string, tag = "2")]
    pub root_service_name: String,
    #[prost(string, tag = "3")]
    pub root_trace_name: String,
    #[prost(uint64, tag = "4")]
    pub start_time_unix_nano: u64,
    #[prost(uint32, tag = "5")]
    pub duration_ms: u32,
    #[prost(message, optional, tag = "6")]
    pub span_set: Option<SpanSet>,
    #[prost(message, repeated, tag = "7")]
    pub span_sets: Vec<SpanSet>,
    #[prost(map = "string, message", tag = "8")]
    pub service_stats: HashMap<String, ServiceStats>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceStats {
    #[prost(uint32, tag = "1")]
    pub span_count: u32,
    #[prost(uint32, tag = "2")]
    pub error_count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SpanSet {
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
    #[prost(uint32, tag = "2")]
    pub matched: u32,
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(string, tag = "1")]
    pub span_id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    pub start_time_unix_nano: u64,
    #[prost(uint64, tag = "4")]
    pub duration_nanos: u64,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct SearchMetrics {
    #[prost(uint32, tag = "1")]
    pub inspected_traces: u32,
    #[prost(uint64, tag = "2")]
    pub inspected_bytes: u64,
    #[prost(uint32, tag = "4")]
    pub completed_jobs: u32,
    #[prost(uint32, tag = "5")]
    pub total_jobs: u32,
    #[prost(uint64, tag = "7")]
    pub inspected_spans: u64,
}

/// Which names to list.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagsRequest {
    #[prost(string, tag = "1")]
    pub scope: String,
    #[prost(string, tag = "2")]
    pub query: String,
    #[prost(uint32, tag = "3")]
    pub start: u32,
    #[prost(uint32, tag = "4")]
    pub end: u32,
    #[prost(uint32, tag = "5")]
    pub max_tags_per_scope: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagsResponse {
    #[prost(string, repeated, tag = "1")]
    pub tag_names: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagsV2Response {
    #[prost(message, repeated, tag = "1")]
    pub scopes: Vec<SearchTagsV2Scope>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagsV2Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Which values to list.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagValuesRequest {
    #[prost(string, tag = "1")]
    pub tag_name: String,
    #[prost(string, tag = "2")]
    pub query: String,
    #[prost(uint32, tag = "4")]
    pub start: u32,
    #[prost(uint32, tag = "5")]
    pub end: u32,
    #[prost(uint32, tag = "6")]
    pub max_tag_values: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagValuesResponse {
    #[prost(string, repeated, tag = "1")]
    pub tag_values: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagValuesV2Response {
    #[prost(message, repeated, tag = "1")]
    pub tag_values: Vec<TagValue>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TagValue {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct MetadataMetrics {
    #[prost(uint32, tag = "2")]
    pub total_jobs: u32,
    #[prost(uint32, tag = "3")]
    pub completed_jobs: u32,
}

/// Which series to compute. Times and step are ns.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryRangeRequest {
    #[prost(string, tag = "1")]
    pub query: String,
    #[prost(uint64, tag = "2")]
    pub start: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
    #[prost(uint64, tag = "4")]
    pub step: u64,
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
    #[prost(uint32, tag = "17")]
    pub max_series: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryRangeResponse {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    #[prost(int32, tag = "3")]
    pub status: i32,
    #[prost(string, tag = "4")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp_ms: i64,
}

/// Which values to compute. Times are ns.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryInstantRequest {
    #[prost(string, tag = "1")]
    pub query: String,
    #[prost(uint64, tag = "2")]
    pub start: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryInstantResponse {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
    #[prost(int32, tag = "3")]
    pub status: i32,
    #[prost(string, tag = "4")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InstantSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// Figures of a search of which so many parts in all are done.
pub(super) fn search_metrics(output: &SearchOutput, parts: u64) -> SearchMetrics {
    SearchMetrics {
        inspected_traces: clamped(output.inspected_traces),
        inspected_bytes: output.inspected_bytes,
        inspected_spans: output.inspected_spans,
        ..progress(parts, parts)
    }
}

/// Figures of a metrics query of which so many parts in all are done.
pub(super) fn series_metrics(output: &MetricsOutput, parts: u64) -> SearchMetrics {
    SearchMetrics {
        inspected_bytes: output.inspected_bytes,
        inspected_spans: output.inspected_spans,
        ..progress(parts, parts)
    }
}

/// Nothing but progress.
pub(super) fn progress(done: u64, parts: u64) -> SearchMetrics {
    SearchMetrics {
        completed_jobs: clamped(done),
        total_jobs: clamped(parts),
        ..SearchMetrics::default()
    }
}

/// Figures of a list.
pub(super) fn list_metrics() -> MetadataMetrics {
    MetadataMetrics {
        total_jobs: 1,
        completed_jobs: 1,
    }
}

/// A found trace; of a search by tags without its spansets.
pub(super) fn found_trace(t: &FoundTrace, spansets: bool) -> TraceSearchMetadata {
    let sets: Vec<SpanSet> = match spansets {
        true => t.spansets.iter().map(span_set).collect(),
        false => Vec::new(),
    };
    let stats = t.services.iter().filter(|_| spansets).map(|s| {
        let stats = ServiceStats {
            span_count: clamped(s.spans),
            error_count: clamped(s.errors),
        };
        (s.service.clone(), stats)
    });
    TraceSearchMetadata {
        trace_id: t.trace_id.to_string(),
        root_service_name: t.root_service.clone(),
        root_trace_name: t.root_name.clone(),
        start_time_unix_nano: t.start.0 as u64,
        duration_ms: clamped(t.duration_ns / 1_000_000),
        span_set: sets.first().cloned(),
        span_sets: sets,
        service_stats: stats.collect(),
    }
}

fn span_set(set: &FoundSpanset) -> SpanSet {
    let spans = set.spans.iter().map(|s| Span {
        span_id: s.span_id.to_string(),
        name: s.name.clone(),
        start_time_unix_nano: s.start.0 as u64,
        duration_nanos: s.duration_ns,
        attributes: pairs(&s.attributes),
    });
    SpanSet {
        spans: spans.collect(),
        matched: clamped(set.matched),
        attributes: pairs(&set.attributes),
    }
}

/// A series with its samples and exemplars.
pub(super) fn time_series(series: &MetricSeries) -> TimeSeries {
    let samples = series.points.iter().map(|(t, value)| Sample {
        value: *value,
        timestamp_ms: t.floor_ms().0,
    });
    let exemplars = series.exemplars.iter().map(|e| Exemplar {
        labels: pairs(&e.labels),
        value: e.value,
        timestamp_ms: e.t.floor_ms().0,
    });
    TimeSeries {
        labels: pairs(&series.labels),
        samples: samples.collect(),
        exemplars: exemplars.collect(),
    }
}

/// A series with its only value.
pub(super) fn instant_series(series: &MetricSeries) -> InstantSeries {
    InstantSeries {
        labels: pairs(&series.labels),
        value: series.points.last().map_or(0.0, |(_, value)| *value),
    }
}

/// Names by scope.
pub(super) fn tag_scopes(scopes: Vec<(&'static str, Vec<String>)>) -> SearchTagsV2Response {
    let scopes = scopes.into_iter().map(|(name, tags)| SearchTagsV2Scope {
        name: name.to_owned(),
        tags,
    });
    SearchTagsV2Response {
        scopes: scopes.collect(),
        metrics: Some(list_metrics()),
    }
}

/// Names, whatever their scope.
pub(super) fn tag_names(tag_names: Vec<String>) -> SearchTagsResponse {
    SearchTagsResponse {
        tag_names,
        metrics: Some(list_metrics()),
    }
}

/// Values as text.
pub(super) fn tag_values(values: Vec<(&'static str, String)>) -> SearchTagValuesResponse {
    SearchTagValuesResponse {
        tag_values: values.into_iter().map(|(_, value)| value).collect(),
        metrics: Some(list_metrics()),
    }
}

/// Values with their types.
pub(super) fn typed_tag_values(values: Vec<(&'static str, String)>) -> SearchTagValuesV2Response {
    let values = values.into_iter().map(|(kind, value)| TagValue {
        kind: kind.to_owned(),
        value,
    });
    SearchTagValuesV2Response {
        tag_values: values.collect(),
        metrics: Some(list_metrics()),
    }
}

fn pairs(attributes: &[(String, AttributeValue)]) -> Vec<KeyValue> {
    let pair = |(key, value): &(String, AttributeValue)| KeyValue {
        key: key.clone(),
        value: Some(any_value(value)),
        ..KeyValue::default()
    };
    attributes.iter().map(pair).collect()
}

fn clamped(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
