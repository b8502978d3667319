//! Which streams and entries log records become.

use super::*;

const TRACE: [u8; 16] = [0xab; 16];

fn request(attributes: Vec<KeyValue>, scope: Option<InstrumentationScope>, records: Vec<LogRecord>) -> Vec<u8> {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(attributes),
            scope_logs: vec![ScopeLogs {
                scope,
                log_records: records,
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

fn record(line: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_700_000_000_000_000_001,
        body: Some(any_value(Value::StringValue(line.to_owned()))),
        ..Default::default()
    }
}

async fn entries(body: Vec<u8>) -> Vec<String> {
    let (router, shelf) = http();
    let (status, _, body) = post(&router, "/v1/logs", &[PROTOBUF], body).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    let entries = shelf.entries.lock();
    entries.clone()
}

#[tokio::test]
async fn the_corpus_sample() {
    let Some(json) = corpus("otlp_logs.json") else { return };
    let (router, shelf) = http();
    let (status, _, body) = post(&router, "/v1/logs", &[JSON], json).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
    let stream = r#"{deployment_environment="lab",service_instance_id="flask-7f9c",service_name="flask-backend"}"#;
    let shared = "service_version=1.0.0 host_name=labvm scope_name=root";
    let trace = "4c7d1e90a2b35f6817d0c3e5a9f8b264";
    assert_eq!(
        *shelf.entries.lock(),
        [
            format!(
                "{stream} @1761128130020999936 Incoming request method=GET path=/api/tasks otelTraceID={trace} otelSpanID=22bb33cc44dd55ee trace_id={trace} observed_timestamp=1761128130022000128 severity_number=9 severity_text=INFO flags=1 span_id=22bb33cc44dd55ee {shared} detected_level=info"
            ),
            format!(
                "{stream} @1761128130589999872 Error reading tasks: database is locked exc_type=OperationalError otelTraceID={trace} severity_number=17 severity_text=ERROR trace_id={trace} span_id=33cc44dd55ee66ff {shared} detected_level=error"
            ),
            format!(
                r#"{stream} @1761128130601000192 {{"duration_seconds":0.58,"event":"Request completed","nested":{{"k":"v"}},"status_code":500}} severity_number=9 severity_text=INFO trace_id={trace} span_id=22bb33cc44dd55ee {shared} detected_level=info"#
            ),
            format!(
                "{stream} @1761128131500000000 line without severity or trace event_name=app.heartbeat {shared} detected_level=trace"
            ),
        ]
    );
}

#[tokio::test]
async fn services_without_a_name_are_discovered() {
    for (attributes, want) in [
        (vec![], r#"{service_name="unknown_service"}"#),
        (
            vec![text("container.name", "c")],
            r#"{container_name="c",service_name="c"}"#,
        ),
        (
            vec![text("service.name", ""), text("k8s.job.name", "j")],
            r#"{k8s_job_name="j",service_name="j"}"#,
        ),
    ] {
        let got = entries(request(attributes, None, vec![record("x")])).await;
        assert!(got[0].starts_with(want), "{}", got[0]);
    }
}

#[tokio::test]
async fn metadata_is_flattened_named_and_ranked() {
    let map = |values| Value::KvlistValue(KeyValueList { values });
    let scope = InstrumentationScope {
        name: "lib".to_owned(),
        version: "2".to_owned(),
        attributes: vec![text("who", "scope"), text("s", "1")],
        ..Default::default()
    };
    let one = LogRecord {
        attributes: vec![
            kv(
                "a",
                map(vec![kv("b.c", map(vec![kv("d", Value::IntValue(1))])), text("e", "")]),
            ),
            text("9x", "n"),
            text("who", "record"),
            text("trace_id", "not mine"),
            kv(
                "l",
                Value::ArrayValue(ArrayValue {
                    values: vec![any_value(Value::IntValue(7))],
                }),
            ),
        ],
        trace_id: TRACE.to_vec(),
        span_id: vec![0; 8],
        severity_number: 13,
        ..record("x")
    };
    let got = entries(request(
        vec![text("who", "resource"), text("r", "1")],
        Some(scope),
        vec![one],
    ))
    .await;
    let trace = "ab".repeat(16);
    assert_eq!(
        got,
        [format!(
            r#"{{service_name="unknown_service"}} @1700000000000000001 x a_b_c_d=1 key_9x=n who=record trace_id={trace} l=[7] severity_number=13 r=1 scope_name=lib scope_version=2 s=1 detected_level=warn"#
        )]
    );
}

#[tokio::test]
async fn an_entry_without_time_is_of_now() {
    let one = LogRecord {
        time_unix_nano: 0,
        ..record("x")
    };
    let got = entries(request(vec![], None, vec![one])).await;
    assert!(got[0].contains(&format!("@{} x", NOW.0)), "{}", got[0]);
}

#[tokio::test]
async fn limits_refuse_the_entry_and_keep_the_others() {
    let too_many = LogRecord {
        attributes: (0..129).map(|i| text(&format!("k{i}"), "v")).collect(),
        ..record("x")
    };
    let too_large = LogRecord {
        attributes: vec![text("k", &"v".repeat(65 * 1024))],
        ..record("x")
    };
    let too_old = LogRecord {
        time_unix_nano: 1,
        ..record("x")
    };
    for (bad, why) in [
        (
            record(&"x".repeat(256 * 1024 + 1)),
            "max entry size '262144' bytes exceeded",
        ),
        (too_many, "too many structured metadata labels"),
        (too_large, "structured metadata too large"),
        (
            too_old,
            "has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable timestamp is: 1970-01-01T00:00:01Z",
        ),
    ] {
        let body = request(vec![], None, vec![bad, record("good")]);
        let (router, shelf) = http();
        let (status, _, answer) = post(&router, "/v1/logs", &[PROTOBUF], body.clone()).await;
        assert_eq!(status, StatusCode::OK);
        let partial = ExportLogsServiceResponse::decode(&answer[..])
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(partial.rejected_log_records, 1);
        assert!(partial.error_message.contains(why), "{}", partial.error_message);
        assert_eq!(shelf.entries.lock().len(), 1);
        // Loki's own endpoint calls it an error.
        let (ingest, shelf) = ingest();
        let (status, _, answer) = post(&ingest.loki_router(), "/otlp/v1/logs", &[PROTOBUF], body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let rpc = RpcStatus::decode(&answer[..]).unwrap();
        assert!(rpc.code == 0 && rpc.message.contains(why), "{rpc:?}");
        assert_eq!(shelf.entries.lock().len(), 1);
    }
}

#[tokio::test]
async fn a_line_is_kept_without_its_broken_id() {
    let (router, shelf) = http();
    let one = LogRecord {
        trace_id: vec![1, 2],
        ..record("x")
    };
    let (_, _, answer) = post(&router, "/v1/logs", &[PROTOBUF], request(vec![], None, vec![one])).await;
    let partial = ExportLogsServiceResponse::decode(&answer[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_log_records, 0);
    assert!(
        partial.error_message.contains("invalid trace id of 2 bytes"),
        "{}",
        partial.error_message
    );
    assert_eq!(shelf.entries.lock().len(), 1);
}

#[tokio::test]
async fn one_resource_times_many_records_meets_the_bound() {
    let wide: Vec<KeyValue> = (0..60)
        .map(|i| text(&format!("k{i}"), &format!("{i}").repeat(500)))
        .collect();
    // What the record before has at the same place is held once; these shift it back and forth.
    let shifted = LogRecord {
        attributes: vec![text("own", "v")],
        ..record("x")
    };
    let body = request(
        wide,
        None,
        (0..500).flat_map(|_| [record("x"), shifted.clone()]).collect(),
    );
    let (router, shelf) = http();
    let (status, ..) = post(&router, "/v1/logs", &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(shelf.entries.lock().is_empty());
}

#[tokio::test]
async fn lokis_endpoint_answers_as_loki() {
    let (ingest, shelf) = ingest();
    let router = ingest.loki_router();
    let body = request(vec![], None, vec![record("x")]);
    let (status, _, answer) = post(&router, "/otlp/v1/logs", &[PROTOBUF], body.clone()).await;
    assert_eq!((status, answer.len()), (StatusCode::NO_CONTENT, 0));
    let (status, ..) = post(&router, "/otlp/v1/logs", &[PROTOBUF], []).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, _, answer) = post(&router, "/otlp/v1/logs", &[("content-type", "text/plain")], []).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let rpc = RpcStatus::decode(&answer[..]).unwrap();
    assert!(
        rpc.message.starts_with("content type: text/plain is not supported"),
        "{rpc:?}"
    );
    *shelf.fault.lock() = Some(|| AppendError::Failed("wal".into()));
    let (status, headers, _) = post(&router, "/otlp/v1/logs", &[PROTOBUF], body).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
}
