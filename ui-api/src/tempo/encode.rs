//! Search results, tags and metrics as the Tempo API writes them: proto3 JSON, defaults left out.

use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use http::header;
use model::AttributeValue;
use query_traceql::{FoundSpanset, FoundTrace, MetricExemplar, MetricsOutput, SearchOutput};

use crate::number::push_json;
use crate::otlp_trace::{push_any_value, push_double};

/// A JSON answer.
pub(crate) fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The members that say that an answer is partial, and what it lacks; none if it is complete.
pub(crate) fn partial(lacking: &str) -> String {
    let mut out = String::new();
    if !lacking.is_empty() {
        out.push_str(",\"status\":\"PARTIAL\",\"message\":");
        push_json(&mut out, lacking);
    }
    out
}

/// The answer of `search`. With `spansets` false (a search by tags) only the traces are listed, without their services.
pub(crate) fn search(output: &SearchOutput, spansets: bool) -> Response {
    let mut out = String::from("{\"traces\":[");
    join(&mut out, &output.traces, |out, t| push_trace(out, t, spansets));
    let _ = write!(
        out,
        r#"],"metrics":{{"inspectedTraces":{},"inspectedBytes":"{}","inspectedSpans":"{}","completedJobs":1,"totalJobs":1}}}}"#,
        output.inspected_traces, output.inspected_bytes, output.inspected_spans
    );
    json(out)
}

fn push_trace(out: &mut String, t: &FoundTrace, spansets: bool) {
    let _ = write!(out, "{{\"traceID\":\"{}\",\"rootServiceName\":", t.trace_id);
    push_json(out, &t.root_service);
    if !t.root_name.is_empty() {
        out.push_str(",\"rootTraceName\":");
        push_json(out, &t.root_name);
    }
    let _ = write!(out, ",\"startTimeUnixNano\":\"{}\"", t.start.0 as u64);
    if t.duration_ns >= 1_000_000 {
        let _ = write!(
            out,
            ",\"durationMs\":{}",
            (t.duration_ns / 1_000_000).min(u64::from(u32::MAX))
        );
    }
    if spansets && let Some(first) = t.spansets.first() {
        out.push_str(",\"spanSet\":");
        push_spanset(out, first);
        out.push_str(",\"spanSets\":[");
        join(out, &t.spansets, push_spanset);
        out.push(']');
    }
    if spansets && !t.services.is_empty() {
        out.push_str(",\"serviceStats\":{");
        join(out, &t.services, |out, s| {
            push_json(out, &s.service);
            let _ = write!(out, ":{{\"spanCount\":{}", s.spans);
            if s.errors > 0 {
                let _ = write!(out, ",\"errorCount\":{}", s.errors);
            }
            out.push('}');
        });
        out.push('}');
    }
    out.push('}');
}

fn push_spanset(out: &mut String, set: &FoundSpanset) {
    out.push_str("{\"spans\":[");
    join(out, &set.spans, |out, s| {
        let _ = write!(out, "{{\"spanID\":\"{}\"", s.span_id);
        if !s.name.is_empty() {
            out.push_str(",\"name\":");
            push_json(out, &s.name);
        }
        let _ = write!(out, ",\"startTimeUnixNano\":\"{}\"", s.start.0 as u64);
        if s.duration_ns > 0 {
            let _ = write!(out, ",\"durationNanos\":\"{}\"", s.duration_ns);
        }
        push_attributes(out, &s.attributes);
        out.push('}');
    });
    let _ = write!(out, "],\"matched\":{}", set.matched);
    push_attributes(out, &set.attributes);
    out.push('}');
}

fn push_attributes(out: &mut String, attributes: &[(String, AttributeValue)]) {
    if attributes.is_empty() {
        return;
    }
    out.push_str(",\"attributes\":[");
    join(out, attributes, push_pair);
    out.push(']');
}

fn push_pair(out: &mut String, (key, value): &(String, AttributeValue)) {
    out.push_str("{\"key\":");
    push_json(out, key);
    out.push_str(",\"value\":");
    push_any_value(out, value);
    out.push('}');
}

/// The answer of `metrics/query_range`; with `instant`, of `metrics/query`: one value instead of samples. `lacking` says
/// why it is partial, if it is.
pub(crate) fn metrics(output: &MetricsOutput, instant: bool, lacking: &str) -> Response {
    let mut out = String::from("{\"series\":[");
    join(&mut out, &output.series, |out, s| {
        out.push_str("{\"labels\":[");
        join(out, &s.labels, push_pair);
        out.push(']');
        if instant {
            if let Some((_, v)) = s.points.last().filter(|p| p.1 != 0.0) {
                out.push_str(",\"value\":");
                push_double(out, *v);
            }
        } else {
            out.push_str(",\"samples\":[");
            join(out, &s.points, |out, (t, v)| {
                let _ = write!(out, "{{\"timestampMs\":\"{}\"", t.floor_ms().0);
                if *v != 0.0 {
                    out.push_str(",\"value\":");
                    push_double(out, *v);
                }
                out.push('}');
            });
            out.push(']');
            if !s.exemplars.is_empty() {
                out.push_str(",\"exemplars\":[");
                join(out, &s.exemplars, push_exemplar);
                out.push(']');
            }
            out.push_str(",\"promLabels\":");
            push_json(out, &s.prom_labels.to_string());
        }
        out.push('}');
    });
    let _ = write!(
        out,
        r#"],"metrics":{{"inspectedBytes":"{}","inspectedSpans":"{}","completedJobs":1,"totalJobs":1}}{}}}"#,
        output.inspected_bytes,
        output.inspected_spans,
        partial(lacking)
    );
    json(out)
}

fn push_exemplar(out: &mut String, e: &MetricExemplar) {
    out.push_str("{\"labels\":[");
    join(out, &e.labels, push_pair);
    out.push(']');
    if e.value != 0.0 {
        out.push_str(",\"value\":");
        push_double(out, e.value);
    }
    let _ = write!(out, ",\"timestampMs\":\"{}\"}}", e.t.floor_ms().0);
}

/// `{"tagNames":[...]}`.
pub(crate) fn tag_names(names: &[String]) -> Response {
    let mut out = String::from("{\"tagNames\":[");
    join(&mut out, names, |out, n| push_json(out, n));
    out.push_str("],\"metrics\":{}}");
    json(out)
}

/// `{"scopes":[{"name":...,"tags":[...]}]}`.
pub(crate) fn tag_scopes(scopes: &[(&str, Vec<String>)]) -> Response {
    let mut out = String::from("{\"scopes\":[");
    join(&mut out, scopes, |out, (name, tags)| {
        let _ = write!(out, "{{\"name\":\"{name}\",\"tags\":[");
        join(out, tags, |out, t| push_json(out, t));
        out.push_str("]}");
    });
    out.push_str("],\"metrics\":{}}");
    json(out)
}

/// Values as text (first API) or with their types (second API).
pub(crate) fn tag_values(values: &[(&str, String)], typed: bool) -> Response {
    let mut out = String::from("{\"tagValues\":[");
    join(&mut out, values, |out, (kind, text)| {
        match (typed, text.is_empty()) {
            (false, _) => push_json(out, text),
            // An empty text is the default, which is left out.
            (true, true) => {
                let _ = write!(out, "{{\"type\":\"{kind}\"}}");
            }
            (true, false) => {
                let _ = write!(out, "{{\"type\":\"{kind}\",\"value\":");
                push_json(out, text);
                out.push('}');
            }
        }
    });
    out.push_str("],\"metrics\":{}}");
    json(out)
}

fn join<T>(out: &mut String, items: &[T], each: impl Fn(&mut String, &T)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{SpanId, TimestampNs, TraceId};
    use query_traceql::{FoundSpan, ServiceStats};

    #[tokio::test]
    async fn a_found_trace_has_the_shape_of_the_api() {
        let span = FoundSpan {
            span_id: SpanId(0xab),
            name: String::new(),
            start: TimestampNs(7),
            duration_ns: 9,
            attributes: vec![("status".to_owned(), "error".into())],
        };
        let set = FoundSpanset {
            spans: vec![span],
            matched: 1,
            attributes: Vec::new(),
        };
        let trace = FoundTrace {
            trace_id: TraceId(0xf),
            root_service: "shop".to_owned(),
            root_name: "buy".to_owned(),
            start: TimestampNs(5),
            duration_ns: 2_500_000,
            spansets: vec![set],
            services: vec![ServiceStats {
                service: "shop".to_owned(),
                spans: 2,
                errors: 1,
            }],
        };
        let mut out = String::new();
        push_trace(&mut out, &trace, true);
        let set = r#"{"spans":[{"spanID":"00000000000000ab","startTimeUnixNano":"7","durationNanos":"9","attributes":[{"key":"status","value":{"stringValue":"error"}}]}],"matched":1}"#;
        assert_eq!(
            out,
            format!(
                r#"{{"traceID":"0000000000000000000000000000000f","rootServiceName":"shop","rootTraceName":"buy","startTimeUnixNano":"5","durationMs":2,"spanSet":{set},"spanSets":[{set}],"serviceStats":{{"shop":{{"spanCount":2,"errorCount":1}}}}}}"#
            )
        );
    }
}
