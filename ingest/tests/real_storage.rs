//! The receivers over the real storage: what is sent is there, and sent twice it is there once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use ingest::{DerivedMetrics, Ingest, Options, OtlpMetrics};
use model::{TimeRangeNs, TimestampNs, TraceId};
use storage::{Storage, SyncMode};
use tower::ServiceExt;

/// Some minutes after the samples of the corpus.
const NOW: TimestampNs = TimestampNs(1_761_128_400_000_000_000);
const DAY_NS: i64 = 86_400_000_000_000;

fn open(dir: &std::path::Path) -> Arc<Storage> {
    let options = storage::Options {
        data_dir: dir.to_owned(),
        retention_metrics_ms: 15 * DAY_NS / 1_000_000,
        retention_logs_ns: 7 * DAY_NS,
        retention_traces_ns: 2 * DAY_NS,
        retention_size: None,
        memory_limit: 256 << 20,
        free_disk_reserve: 0,
        wal_sync: SyncMode::Always,
    };
    let (storage, _) = Storage::open(options, Arc::new(|| NOW)).unwrap();
    Arc::new(storage)
}

async fn post_json(router: &Router, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_twice_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let ingest = Ingest::new(
        storage.clone(),
        Options {
            body_bytes_max: 1 << 20,
            otlp_metrics: OtlpMetrics::default(),
            derived_metrics: DerivedMetrics::default(),
        },
    );
    let otlp = ingest.otlp_http_router();
    let trace = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeSpans":[{"spans":[
            {"traceId":"4c7d1e90a2b35f6817d0c3e5a9f8b264","spanId":"11aa22bb33cc44dd","name":"a","kind":2,
             "startTimeUnixNano":"1761128130000000000","endTimeUnixNano":"1761128130620000000"},
            {"traceId":"4c7d1e90a2b35f6817d0c3e5a9f8b264","spanId":"22bb33cc44dd55ee","name":"b",
             "startTimeUnixNano":"1761128130000000000","endTimeUnixNano":"1761128130620000000"}]}]}]}"#;
    let metric = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[
        {"timeUnixNano":"1761128135000000000","asInt":"7"}]}}]}]}]}"#;
    let log = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[
        {"timeUnixNano":"1761128135000000000","body":{"stringValue":"line"}}]}]}]}"#;
    for _ in 0..2 {
        for (path, body) in [("/v1/traces", trace), ("/v1/metrics", metric), ("/v1/logs", log)] {
            let (status, answer) = post_json(&otlp, path, body).await;
            assert_eq!((status, answer.as_str()), (StatusCode::OK, "{}"), "{path}");
        }
    }
    let id: TraceId = "4c7d1e90a2b35f6817d0c3e5a9f8b264".parse().unwrap();
    let spans = storage.traces().snapshot(TimeRangeNs::ALL).trace(id).unwrap();
    assert_eq!(spans.len(), 2);
    let push = r#"{"streams":[{"stream":{"app":"x"},"values":[
        ["1761128135000000000","good"],["1000000000","old"],["1861128135000000000","new"]]}]}"#;
    let (status, answer) = post_json(&ingest.loki_router(), "/loki/api/v1/push", push).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let stream = r#"entry for stream '{app="x", service_name="x"}'"#;
    assert_eq!(
        answer,
        format!(
            "1 errors like: {stream} has timestamp too new: 2028-12-22T20:02:15Z; 1 errors like: {stream} has timestamp \
             too old: 1970-01-01T00:00:01Z, oldest acceptable timestamp is: 2025-10-15T10:20:00Z\n"
        )
    );
    // Another value for a time that is taken: the first one stays, and the sender is told.
    let (status, answer) = post_json(&otlp, "/v1/metrics", &metric.replace("\"7\"", "\"8\"")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(answer.contains(r#""rejectedDataPoints":"1""#), "{answer}");
    let stats = ingest.stats();
    let accepted = |protocol: &str, signal: &str| {
        let mut rows = stats.receivers.iter();
        rows.find(|r| r.protocol == protocol && r.signal == signal)
            .unwrap()
            .items_accepted
    };
    assert_eq!(accepted("otlp_http", "traces"), 4);
    assert_eq!(accepted("otlp_http", "metrics"), 2);
    assert_eq!(accepted("loki_push", "logs"), 1);
}
