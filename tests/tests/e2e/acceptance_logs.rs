//! Acceptance, logs: what the Collector's `loki` exporter, Promtail and SDKs send, and what the labs' scripts and Grafana
//! ask. `docs/acceptance.md` names the row of each test.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::{Value, json};
use trilobite_tests::{Answer, Trilobite, encoded, get, post, request};

use crate::senders::{self, field};

/// A push as the protocol's client libraries make it: protobuf in a snappy block. Entries are time and line.
fn push(server: &Trilobite, labels: &str, entries: &[(u64, String)], headers: &[(&str, &str)]) -> Answer {
    let mut stream = Vec::new();
    field(&mut stream, 1, labels.as_bytes());
    for (ns, line) in entries {
        let (mut timestamp, mut entry) = (Vec::new(), Vec::new());
        for (number, value) in [(1, ns / 1_000_000_000), (2, ns % 1_000_000_000)] {
            prost::encoding::encode_varint(number << 3, &mut timestamp);
            prost::encoding::encode_varint(value, &mut timestamp);
        }
        field(&mut entry, 1, &timestamp);
        field(&mut entry, 2, line.as_bytes());
        field(&mut stream, 2, &entry);
    }
    let mut body = Vec::new();
    field(&mut body, 1, &stream);
    let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let mut all = vec![("Content-Type", "application/x-protobuf")];
    all.extend(headers);
    request(server.loki(), "POST", "/loki/api/v1/push", &all, &body).unwrap()
}

fn trace_id(n: u64) -> String {
    format!("4bf92f3577b34da6a3ce929d{n:08x}")
}

/// A line as the Collector's `loki` exporter lays out a record of Python's logging.
fn collector_line(message: &str, severity: &str, n: u64) -> String {
    let id = trace_id(n);
    format!(
        r#"{{"body":"{message}","traceid":"{id}","spanid":"00f067aa0ba902b7","severity":"{severity}","attributes":{{"otelServiceName":"flask-backend","otelTraceID":"{id}","path":"/api/tasks"}},"resources":{{"service.version":"1.0.0"}},"instrumentation_scope":{{"name":"app"}}}}"#
    )
}

const COLLECTOR_LABELS: &str = r#"{deployment_environment="lab", exporter="OTLP", instance="backend-1", job="flask-backend", level="LEVEL", service_instance_id="backend-1", service_name="flask-backend"}"#;

/// Seven requests and a failure, through the Collector's exporter.
fn send_as_collector(server: &Trilobite) {
    let now = senders::now_ns();
    let done: Vec<(u64, String)> = (0..7)
        .map(|n| (now + n, collector_line("Request completed", "INFO", n)))
        .collect();
    let failed = [(now + 8, collector_line("Request failed: error 500", "ERROR", 8))];
    for (level, entries) in [("INFO", &done[..]), ("ERROR", &failed[..])] {
        let labels = COLLECTOR_LABELS.replace("LEVEL", level);
        let answer = push(server, &labels, entries, &[("X-Scope-OrgID", "tenant1")]);
        assert_eq!((answer.status, answer.text()), (204, String::new()));
    }
}

/// The same over OTLP, where the trace id is a field of the record and no part of its text.
fn records(n: std::ops::Range<u64>) -> ExportLogsServiceRequest {
    let text = |s: &str| AnyValue {
        value: Some(Any::StringValue(s.to_owned())),
    };
    let now = senders::now_ns();
    let record = |n: u64| LogRecord {
        time_unix_nano: now + n,
        severity_number: if n % 4 == 3 { 17 } else { 9 },
        severity_text: if n % 4 == 3 { "ERROR" } else { "INFO" }.to_owned(),
        body: Some(text(if n % 4 == 3 {
            "Request failed: error 500"
        } else {
            "Request completed"
        })),
        trace_id: u128::from_str_radix(&trace_id(n), 16).unwrap().to_be_bytes().to_vec(),
        span_id: vec![0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7],
        ..LogRecord::default()
    };
    let resource = Resource {
        attributes: vec![KeyValue {
            key: "service.name".to_owned(),
            value: Some(text("otlp-backend")),
            ..KeyValue::default()
        }],
        ..Resource::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                log_records: n.map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

fn started() -> (tempfile::TempDir, Trilobite) {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    (dir, server)
}

#[test]
fn the_collectors_loki_exporter_is_understood_to_the_letter() {
    let (_dir, server) = started();
    send_as_collector(&server);
    let streams = server.logql(r#"{service_name="flask-backend", level="INFO"}"#).unwrap();
    let stream = &streams[0];
    for (name, value) in [
        ("exporter", "OTLP"),
        ("job", "flask-backend"),
        ("instance", "backend-1"),
        ("level", "INFO"),
        ("service_instance_id", "backend-1"),
        ("deployment_environment", "lab"),
    ] {
        assert_eq!(stream["stream"][name], value, "{stream}");
    }
    assert_eq!(stream["values"][0][1], collector_line("Request completed", "INFO", 6));
    let parsed = server
        .lines(r#"{job="flask-backend"} | json | attributes_path="/api/tasks" | severity="ERROR""#)
        .unwrap();
    assert_eq!(parsed, [collector_line("Request failed: error 500", "ERROR", 8)]);
}

/// Promtail names a tenant; Grafana's datasource, as the labs provision it, does not.
#[test]
fn promtails_tenant_does_not_hide_its_lines() {
    let (_dir, server) = started();
    let now = senders::now_ns();
    let labels = r#"{container="app-1", job="docker", service="app"}"#;
    let headers = [("X-Scope-OrgID", "docker"), ("User-Agent", "promtail/2.9.3")];
    let answer = push(&server, labels, &[(now, "from a container".to_owned())], &headers);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let streams = server.logql(r#"{job="docker"}"#).unwrap();
    assert_eq!(streams[0]["values"][0][1], "from a container");
    for (name, value) in [("container", "app-1"), ("job", "docker"), ("service", "app")] {
        assert_eq!(streams[0]["stream"][name], value, "{streams}");
    }
    let path = format!("/loki/api/v1/query_range?query={}", encoded(r#"{container="app-1"}"#));
    let with_tenant = request(server.loki(), "GET", &path, &[("X-Scope-OrgID", "docker")], b"").unwrap();
    assert_eq!(
        with_tenant.json()["data"]["result"][0]["values"][0][1],
        "from a container"
    );
    // Scripts look for this label whoever sent the lines.
    let labels = get(server.loki(), "/loki/api/v1/labels").unwrap().json();
    assert!(
        labels["data"].as_array().unwrap().contains(&json!("service_name")),
        "{labels}"
    );
    let values = get(server.loki(), "/loki/api/v1/label/service_name/values")
        .unwrap()
        .json();
    assert_eq!(values["data"], json!(["app"]));
}

/// What a lab's pipeline asserts: at least five values in a stream, asked with seconds and nine zeros. Lines that came over
/// OTLP have a trace id each, which Loki's way of merging would make a stream of each; the setting is for such scripts.
#[test]
fn the_first_stream_holds_the_lines_though_each_has_a_trace_id_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    send_as_collector(&server);
    let body = records(0..16).encode_to_vec();
    let taken = post(server.otlp_http(), "/v1/logs", "application/x-protobuf", &body).unwrap();
    assert_eq!(taken.status, 200);
    // Streams come in the order of their labels: the level of the one failure stands before that of the rest.
    assert_eq!(lines_by_stream(&server, "flask-backend"), [1, 7]);
    assert!(server.stop().unwrap().success());
    let server = Trilobite::start(dir.path(), &["--loki-merge-structured-metadata=off"]).unwrap();
    assert_eq!(lines_by_stream(&server, "flask-backend"), [1, 7]);
    assert_eq!(lines_by_stream(&server, "otlp-backend"), [16]);
}

/// How many lines each stream of a service has, as a script asks.
fn lines_by_stream(server: &Trilobite, service: &str) -> Vec<usize> {
    let seconds = senders::now_ns() / 1_000_000_000;
    let path = format!(
        "/loki/api/v1/query_range?query={}&start={}000000000&end={}000000000&limit=100",
        encoded(&format!("{{service_name=\"{service}\"}}")),
        seconds - 3600,
        seconds + 60
    );
    let json = get(server.loki(), &path).unwrap().json();
    let streams = json["data"]["result"].as_array().unwrap().iter();
    streams.map(|s| s["values"].as_array().unwrap().len()).collect()
}

#[test]
fn text_and_trace_ids_are_found_in_lines() {
    let (_dir, server) = started();
    send_as_collector(&server);
    let id = trace_id(3);
    for (filter, wanted) in [
        (r#"|= "Request completed""#.to_owned(), 7),
        (r#"|= "error""#.to_owned(), 1),
        (format!("|= \"{id}\""), 1),
        (format!("|= \"{}\"", &id[20..]), 1),
        (format!("|= \"{}\"", &id[..12]), 8),
        (r#"|= "no such text""#.to_owned(), 0),
    ] {
        let query = format!("{{service_name=\"flask-backend\"}} {filter}");
        assert_eq!(server.lines(&query).unwrap().len(), wanted, "{query}");
    }
}

/// The queries that Grafana writes for "logs of this span": before version 11, since then, and by a custom query.
#[test]
fn grafanas_way_from_a_trace_to_its_logs_works_for_both_kinds_of_lines() {
    let (_dir, server) = started();
    send_as_collector(&server);
    let body = records(0..4).encode_to_vec();
    post(server.otlp_http(), "/v1/logs", "application/x-protobuf", &body).unwrap();
    let id = trace_id(2);
    let newer = |service: &str, or: &str| {
        format!(
            "{{service_name=\"{service}\"}} | label_format log_line_contains_trace_id=`{{{{ contains \"{id}\" __line__  }}}}` \
             | log_line_contains_trace_id=\"true\" {or} trace_id=\"{id}\""
        )
    };
    for query in [
        format!("{{service_name=\"flask-backend\"}} |= \"{id}\""),
        newer("flask-backend", "OR"),
        newer("flask-backend", "or"),
        newer("otlp-backend", "OR"),
        format!("{{service_name=\"otlp-backend\"}} | trace_id=\"{id}\""),
    ] {
        let lines = server.lines(&query).unwrap();
        assert_eq!(lines.len(), 1, "{query}: {lines:?}");
        assert!(lines[0].contains("Request completed"), "{query}: {lines:?}");
    }
}

/// The link from a line to its trace: in the text, or beside it as a label that `matcherType: label` reads.
#[test]
fn a_lines_trace_id_is_in_its_text_or_beside_it() {
    let (_dir, server) = started();
    send_as_collector(&server);
    let body = records(0..1).encode_to_vec();
    post(server.otlp_http(), "/v1/logs", "application/x-protobuf", &body).unwrap();
    let line = &server
        .lines(r#"{service_name="flask-backend", level="ERROR"}"#)
        .unwrap()[0];
    assert!(line.contains(&format!("\"otelTraceID\":\"{}\"", trace_id(8))), "{line}");
    // As Grafana asks.
    let path = format!(
        "/loki/api/v1/query_range?query={}",
        encoded(r#"{service_name="otlp-backend"}"#)
    );
    let flags = [("X-Loki-Response-Encoding-Flags", "categorize-labels")];
    let json = request(server.loki(), "GET", &path, &flags, b"").unwrap().json();
    let entry = &json["data"]["result"][0]["values"][0];
    assert_eq!(entry[2]["structuredMetadata"]["trace_id"], trace_id(0), "{json}");
}

#[test]
fn otlp_logs_over_http_and_grpc_have_their_levels() {
    let (_dir, server) = started();
    let body = records(0..4).encode_to_vec();
    let taken = post(server.otlp_http(), "/v1/logs", "application/x-protobuf", &body).unwrap();
    assert_eq!(taken.status, 200, "{}", taken.text());
    let native = post(
        server.loki(),
        "/otlp/v1/logs",
        "application/x-protobuf",
        &records(4..8).encode_to_vec(),
    )
    .unwrap();
    assert_eq!(native.status, 204, "{}", native.text());
    let endpoint = format!("http://{}", server.otlp_grpc());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = LogsServiceClient::connect(endpoint).await.unwrap();
        let answer = client.export(records(8..12)).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None);
    });
    for (level, wanted) in [("error", 3), ("info", 9)] {
        let query = format!("{{service_name=\"otlp-backend\"}} | detected_level=\"{level}\"");
        assert_eq!(server.lines(&query).unwrap().len(), wanted, "{query}");
    }
    let by_level = server
        .logql(r#"sum by (severity_text) (count_over_time({service_name="otlp-backend"}[1h]))"#)
        .unwrap();
    let levels: Vec<&Value> = by_level
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["metric"]["severity_text"])
        .collect();
    assert_eq!(levels, ["ERROR", "INFO"]);
}
