//! Acceptance, traces: what a lab's pipeline and Grafana ask right after an application was used, and spans that come as
//! they like. `docs/acceptance.md` names the row of each test.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData};
use prost::Message;
use serde_json::{Value, json};
use trilobite_tests::{Trilobite, get, post, request};

use crate::senders::now_ns;

/// A span of a service, `at` ms after the trace began a second ago.
struct Sent {
    service: &'static str,
    trace: u64,
    id: u64,
    parent: u64,
    name: &'static str,
    at_ms: u64,
    took_ms: u64,
}

/// One request with spans, as JSON. Each span stands in a group of its own.
fn export(server: &Trilobite, origin_ns: u64, spans: &[Sent]) {
    let groups: Vec<Value> = spans
        .iter()
        .map(|s| {
            let start = origin_ns + s.at_ms * 1_000_000;
            let mut span = json!({
                "traceId": format!("{:032x}", s.trace), "spanId": format!("{:016x}", s.id), "name": s.name, "kind": 2,
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + s.took_ms * 1_000_000).to_string(),
            });
            if s.parent != 0 {
                span["parentSpanId"] = json!(format!("{:016x}", s.parent));
            }
            json!({
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": s.service}}]},
                "scopeSpans": [{"spans": [span]}],
            })
        })
        .collect();
    let body = json!({"resourceSpans": groups}).to_string();
    let answer = post(server.otlp_http(), "/v1/traces", "application/json", body.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({})));
}

/// A request of a task list: the handler, its function, and the statement it ran. Slow ones take 700 ms.
fn task_list(trace: u64, took_ms: u64) -> [Sent; 3] {
    let span = |id, parent, name, at_ms, took_ms| Sent {
        service: "flask-backend",
        trace,
        id,
        parent,
        name,
        at_ms,
        took_ms,
    };
    [
        span(3, 2, "SELECT /app/data/tasks.db", 2, took_ms - 4),
        span(1, 0, "GET /api/tasks", 0, took_ms),
        span(2, 1, "get_all_tasks", 1, took_ms - 2),
    ]
}

/// The spans of a trace in the order of the answer: service, name.
fn spans_of(server: &Trilobite, id: &str) -> Vec<(String, String)> {
    let answer = get(server.tempo(), &format!("/api/traces/{id}")).unwrap();
    assert_eq!(answer.status, 200, "{id}");
    let json = answer.json();
    let mut out = Vec::new();
    for batch in json["batches"].as_array().unwrap() {
        let service = batch["resource"]["attributes"][0]["value"]["stringValue"]
            .as_str()
            .unwrap();
        for scope in batch["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                out.push((service.to_owned(), span["name"].as_str().unwrap().to_owned()));
            }
        }
    }
    out
}

#[test]
fn what_was_just_acknowledged_is_found_without_a_time_range() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let now = now_ns();
    for n in 1..=6 {
        export(
            &server,
            now - 1_000_000_000,
            &task_list(n, if n == 6 { 700 } else { 40 }),
        );
    }
    // A shell script's URL: the second `=` is part of the value.
    let found = get(server.tempo(), "/api/search?tags=service.name=flask-backend")
        .unwrap()
        .json();
    assert_eq!(found["traces"].as_array().unwrap().len(), 6, "{found}");
    assert_eq!(found["traces"][0]["rootServiceName"], "flask-backend");
    assert_eq!(found["traces"][0]["rootTraceName"], "GET /api/tasks");
    let slow = server.traceql("{duration > 500ms}").unwrap();
    assert_eq!(slow.len(), 1, "{slow:?}");
    assert!(
        (700..710).contains(&slow[0]["durationMs"].as_u64().unwrap()),
        "{slow:?}"
    );
    assert_eq!(
        server
            .traceql("{resource.service.name=\"flask-backend\"}")
            .unwrap()
            .len(),
        6
    );
    let statements = server
        .traceql("{name =~ \"SELECT.*\"} >> {} || {name = \"SELECT /app/data/tasks.db\"}")
        .unwrap();
    assert_eq!(statements.len(), 6);
}

#[test]
fn a_trace_is_found_by_any_spelling_of_its_id_with_spans_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    export(&server, now_ns() - 1_000_000_000, &task_list(0xabc1, 40));
    let names: Vec<String> = spans_of(&server, "abc1").into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["GET /api/tasks", "get_all_tasks", "SELECT /app/data/tasks.db"]);
    for id in ["0000000000000000000000000000abc1", "000000000000abc1", "ABC1"] {
        assert_eq!(spans_of(&server, id).len(), 3, "{id}");
    }
    assert_eq!(get(server.tempo(), "/api/traces/abc2").unwrap().status, 404);
    assert_eq!(get(server.tempo(), "/api/traces/xyz").unwrap().status, 400);
    let newer = get(server.tempo(), "/api/v2/traces/abc1").unwrap().json();
    assert!(newer["trace"]["resourceSpans"].is_array(), "{newer}");
}

/// Two services send their halves of a trace ten seconds apart, children before parents, and the process cuts its head and
/// restarts in between.
#[test]
fn late_spans_end_in_their_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &["--enable-admin-api"]).unwrap();
    let origin = now_ns() - 20_000_000_000;
    let span = |service, id, parent, name, at_ms| Sent {
        service,
        trace: 7,
        id,
        parent,
        name,
        at_ms,
        took_ms: 10,
    };
    export(
        &server,
        origin,
        &[
            span("backend", 3, 2, "find", 12_000),
            span("backend", 4, 3, "SELECT", 13_000),
        ],
    );
    let flush = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
    assert_eq!(flush.status, 204);
    export(&server, origin, &[span("frontend", 2, 1, "GET backend", 11_000)]);
    server.kill().unwrap();
    server.restart().unwrap();
    export(&server, origin, &[span("frontend", 1, 0, "GET /", 0)]);
    let wanted = [
        ("frontend", "GET /"),
        ("frontend", "GET backend"),
        ("backend", "find"),
        ("backend", "SELECT"),
    ];
    let mut wanted: Vec<(String, String)> = wanted.map(|(s, n)| (s.to_owned(), n.to_owned())).to_vec();
    let mut found = spans_of(&server, "7");
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    let traces = server
        .traceql("{resource.service.name=\"frontend\"} && {resource.service.name=\"backend\"}")
        .unwrap();
    assert_eq!(traces.len(), 1, "{traces:?}");
    assert_eq!(traces[0]["rootTraceName"], "GET /");
}

/// A browser's SDK: asked first from another origin, with credentials, then posted as JSON, also when it is refused.
#[test]
fn a_page_of_another_origin_may_send_spans() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    for origin in ["http://localhost:8080", "https://lab.example", "null"] {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-lab-token"),
        ];
        let preflight = request(server.otlp_http(), "OPTIONS", "/v1/traces", &asked, b"").unwrap();
        assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status);
        assert_eq!(preflight.header("access-control-allow-origin"), origin);
        assert_eq!(preflight.header("access-control-allow-credentials"), "true");
        let allowed = preflight.header("access-control-allow-headers").to_lowercase();
        assert!(
            allowed.contains("content-type") && allowed.contains("x-lab-token"),
            "{allowed}"
        );
        for (body, status) in [(&b"{\"resourceSpans\":[]}"[..], 200), (b"{", 400)] {
            let headers = [("Origin", origin), ("Content-Type", "application/json")];
            let answer = request(server.otlp_http(), "POST", "/v1/traces", &headers, body).unwrap();
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), origin);
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
        }
    }
}

/// Spans of the one large trace.
const LARGE: u64 = 200_000;

/// Sends a trace of [`LARGE`] spans in many requests.
fn export_large(server: &Trilobite) {
    let start = now_ns() - 1_000_000_000;
    for first in (1..=LARGE).step_by(10_000) {
        let spans = (first..first + 10_000).map(|n| Span {
            trace_id: 0xb16_u128.to_be_bytes().to_vec(),
            span_id: n.to_be_bytes().to_vec(),
            parent_span_id: if n == 1 {
                Vec::new()
            } else {
                (n / 2).to_be_bytes().to_vec()
            },
            name: "step".to_owned(),
            start_time_unix_nano: start + n,
            end_time_unix_nano: start + n + 10,
            ..Span::default()
        });
        let body = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans {
                    spans: spans.collect(),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let body = body.encode_to_vec();
        let answer = post(server.otlp_http(), "/v1/traces", "application/x-protobuf", &body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The answer of `/api/v2/traces/{id}`, by its field numbers.
#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(int32, tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

fn count(trace: &TracesData) -> usize {
    let scopes = trace.resource_spans.iter().flat_map(|r| &r.scope_spans);
    scopes.map(|s| s.spans.len()).sum()
}

fn as_protobuf(server: &Trilobite, path: &str) -> trilobite_tests::Answer {
    request(server.tempo(), "GET", path, &[("Accept", "application/protobuf")], b"").unwrap()
}

#[test]
fn a_trace_of_any_size_is_stored_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &["--memory-limit", "4GiB", "--enable-admin-api"]).unwrap();
    export_large(&server);
    for flushed in [false, true] {
        if flushed {
            let flush = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
            assert_eq!(flush.status, 204);
        }
        let v1 = as_protobuf(&server, "/api/traces/b16");
        assert_eq!(v1.status, 200, "{}", v1.text());
        let trace = TracesData::decode(&v1.body[..]).unwrap();
        assert_eq!(count(&trace), LARGE as usize);
        let v2 = Found::decode(&as_protobuf(&server, "/api/v2/traces/b16").body[..]).unwrap();
        assert_eq!((v2.status, v2.message.as_str()), (0, ""));
        assert_eq!(v2.trace.as_ref().map(count), Some(LARGE as usize));
    }
    let found = server.traceql("{} | count() = 200000").unwrap();
    assert_eq!(found.len(), 1, "all of it is looked at");
}

/// With little memory a part is shown, and it is said that it is one.
#[test]
fn a_trace_beyond_the_limit_is_shown_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &["--memory-limit", "768MiB"]).unwrap();
    export_large(&server);
    let v2 = Found::decode(&as_protobuf(&server, "/api/v2/traces/b16").body[..]).unwrap();
    let shown = v2.trace.as_ref().map_or(0, count);
    assert!((10_000..LARGE as usize).contains(&shown), "{shown}");
    assert_eq!(v2.status, 1);
    assert_eq!(
        v2.message,
        format!("Trace exceeds maximum size of {shown} spans, a partial trace is returned")
    );
    // The first version has no place for a warning.
    let v1 = as_protobuf(&server, "/api/traces/b16");
    assert_eq!(v1.status, 422);
    assert!(v1.text().starts_with("trace exceeds max size"), "{}", v1.text());
    let filtered = get(server.tempo(), "/api/v2/traces/b16?q=%7B%20name%20=%20%22step%22%20%7D").unwrap();
    let filtered = filtered.json();
    assert_eq!(filtered["status"], "PARTIAL");
    let words = filtered["message"].as_str().unwrap_or_default();
    assert!(words.contains("; Trace exceeds maximum size"), "{words}");
}
