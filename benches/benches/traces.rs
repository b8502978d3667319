//! Traces piece by piece: OTLP from the request to the head, a block written from the head and blocks merged, and trace by id,
//! TraceQL search and metrics over both; without the network and without syncing.

use std::sync::Arc;

use axum::body::Body;
use benches::{START_NS, context, median, open, report, spans};
use ingest::{DerivedMetrics, Ingest, Options, OtlpMetrics};
use model::{AttributeValue, DAY_NS, SpanBatch, TimeRangeNs, TimestampNs};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use storage::Storage;
use tower::ServiceExt;

const SECONDS: usize = 600;
const TRACES_PER_SECOND: usize = 50;
const SPANS: usize = SECONDS * TRACES_PER_SECOND * 10;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = Arc::new(open(dir.path()));
    let options = Options {
        body_bytes_max: 64 << 20,
        otlp_metrics: OtlpMetrics::default(),
        derived_metrics: DerivedMetrics::default(),
    };
    let router = Ingest::new(storage.clone(), options).otlp_http_router();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let requests: Vec<Vec<u8>> = (0..SECONDS).map(|n| otlp(&spans(TRACES_PER_SECOND, n))).collect();
    let send = |bodies: &[Vec<u8>]| {
        for body in bodies {
            let request = axum::http::Request::post("/v1/traces").header("Content-Type", "application/x-protobuf");
            let request = request.body(Body::from(body.clone())).expect("a request");
            let answer = runtime.block_on(router.clone().oneshot(request));
            assert_eq!(answer.expect("an answer").status(), 200);
        }
    };
    let (first, second) = requests.split_at(SECONDS / 2);
    report("OTLP to the head", SPANS / 2, "span", || send(first));
    ask(&storage, "head");
    report("block write", SPANS / 2, "span", || storage.flush().expect("cut"));
    send(second);
    storage.flush().expect("cut");
    ask(&storage, "two blocks");
    report("compaction", SPANS, "span", || {
        // The day is over, and its blocks become one.
        let (done, _) = storage.tick_blocks(TimestampNs(START_NS + 2 * DAY_NS));
        assert_eq!(done.compacted.len(), 1);
    });
    ask(&storage, "block");
}

fn ask(storage: &Storage, place: &str) {
    let range = TimeRangeNs {
        start: TimestampNs(START_NS),
        end: TimestampNs(START_NS + SECONDS as i64 * 1_000_000_000),
    };
    let ids: Vec<_> = spans(TRACES_PER_SECOND, 7).spans.iter().map(|s| s.trace_id).collect();
    let mut ids = ids.iter().cycle().step_by(10);
    median(&format!("{place}: trace by id"), || {
        let id = ids.next().expect("endless");
        let found = storage
            .traces()
            .snapshot(TimeRangeNs::ALL)
            .trace(*id)
            .expect("readable");
        assert_eq!(found.len(), 10);
    });
    let options = query_traceql::SearchOptions {
        range,
        limit: 20,
        spans_per_spanset: 3,
        min_duration_ns: None,
        max_duration_ns: None,
    };
    for (what, query) in [
        ("by service", r#"{ resource.service.name = "service-1" }"#),
        ("by duration", "{ duration > 890ms }"),
        (
            "by two attributes",
            r#"{ resource.service.name = "service-1" && span.http.status_code = 500 && status = error }"#,
        ),
        (
            "structural",
            r#"{ resource.service.name = "service-0" } >> { resource.service.name = "service-4" && status = error }"#,
        ),
    ] {
        let query = query_traceql::Query::parse(query).expect("parses");
        median(&format!("{place}: search {what}"), || {
            query.search(&context(), storage.traces(), &options).expect("runs");
        });
    }
    let query = query_traceql::Query::parse("{ kind = server } | rate() by (resource.service.name)").expect("parses");
    median(&format!("{place}: rate by service"), || {
        let step_ns = 60_000_000_000;
        let rates = query.metrics_range(&context(), storage.traces(), range, step_ns, 0);
        rates.expect("runs");
    });
}

/// The spans as a client would send them: a group for each resource.
fn otlp(batch: &SpanBatch) -> Vec<u8> {
    let mut groups: Vec<(Arc<model::Resource>, Vec<Span>)> = Vec::new();
    for span in &batch.spans {
        let at = groups
            .iter()
            .position(|(resource, _)| Arc::ptr_eq(resource, &span.resource));
        let at = at.unwrap_or_else(|| {
            groups.push((span.resource.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push(Span {
            trace_id: span.trace_id.to_bytes().to_vec(),
            span_id: span.span_id.to_bytes().to_vec(),
            parent_span_id: span.parent_span_id.map_or_else(Vec::new, |id| id.to_bytes().to_vec()),
            name: span.name.clone(),
            kind: span.kind as i32,
            start_time_unix_nano: span.start.0 as u64,
            end_time_unix_nano: span.end.0 as u64,
            attributes: attributes(&span.attributes),
            status: Some(Status {
                code: span.status as i32,
                ..Status::default()
            }),
            ..Span::default()
        });
    }
    let group = |(resource, spans): (Arc<model::Resource>, Vec<Span>)| ResourceSpans {
        resource: Some(Resource {
            attributes: attributes(&resource.attributes),
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: groups.into_iter().map(group).collect(),
    }
    .encode_to_vec()
}

fn attributes(list: &[model::KeyValue]) -> Vec<KeyValue> {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Int(n) => Value::IntValue(*n),
        AttributeValue::Str(s) => Value::StringValue(s.clone()),
        other => Value::StringValue(format!("{other:?}")),
    };
    let pair = |kv: &model::KeyValue| KeyValue {
        key: kv.key.clone(),
        value: Some(AnyValue {
            value: Some(value(&kv.value)),
        }),
        ..KeyValue::default()
    };
    list.iter().map(pair).collect()
}
