//! Spans in by any door, and out come the answers to what Grafana's service map asks of the Prometheus API, with no
//! configuration but short waits.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, get, post};

const QUICK: [&str; 6] = [
    "--zipkin-addr",
    "127.0.0.1:0",
    "--derived-metrics-interval",
    "1s",
    "--service-graphs-wait",
    "1s",
];

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_nanos() as u64
}

/// A request from `front` to `shop`, which asks its database, as OTLP/JSON.
fn request(trace: u64, failed: bool) -> Value {
    let now = now_ns();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = |id: u64, parent: u64, name: &str, kind: u8, ms: u64, more: Value| {
        let mut span = json!({
            "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "name": name, "kind": kind,
            "startTimeUnixNano": (now - ms * 1_000_000).to_string(), "endTimeUnixNano": now.to_string(),
            "status": {"code": if failed && kind == 2 { 2 } else { 0 }},
        });
        if parent != 0 {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if let (Some(span), Value::Object(more)) = (span.as_object_mut(), more) {
            span.extend(more);
        }
        span
    };
    let of = |service: &str, spans: Value| {
        json!({
            "resource": {"attributes": [text("service.name", service), text("service.namespace", "demo")]},
            "scopeSpans": [{"spans": spans}],
        })
    };
    let database = json!({"attributes": [text("db.system", "postgresql"), text("server.address", "orders-db")]});
    json!({"resourceSpans": [
        of("front", json!([span(1, 0, "GET /", 2, 400, json!({})), span(2, 1, "GET", 3, 300, json!({}))])),
        of("shop", json!([span(3, 2, "GET /cart", 2, 200, json!({})), span(4, 3, "SELECT", 3, 50, database)])),
    ]})
}

fn encoded(query: &str) -> String {
    query.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// The result of an instant query: `label=value .. value`, labels sorted, the metric's name left out.
fn ask(t: &Trilobite, query: &str) -> Vec<String> {
    let path = format!("/api/v1/query?query={}", encoded(query));
    let json = get(t.prometheus(), &path).unwrap().json();
    assert_eq!(json["status"], "success", "{query}: {json}");
    let mut lines: Vec<String> = Vec::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels = labels.filter(|(name, _)| *name != "__name__");
        let mut words: Vec<String> = labels.map(|(n, v)| format!("{n}={}", v.as_str().unwrap())).collect();
        words.sort();
        words.push(series["value"][1].as_str().unwrap().to_owned());
        lines.push(words.join(" "));
    }
    lines.sort();
    lines
}

/// Asks until the answer is as expected.
fn until(t: &Trilobite, query: &str, want: &[&str]) {
    let since = Instant::now();
    loop {
        let lines = ask(t, query);
        if lines == want {
            return;
        }
        assert!(
            since.elapsed() < Duration::from_secs(15),
            "{query}: {lines:#?}, log: {}",
            t.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The labels of an answer, once there is one; all values are positive numbers.
fn positive(t: &Trilobite, query: &str) -> Vec<String> {
    let lines = ask(t, query);
    let split = lines.iter().map(|line| line.rsplit_once(' ').unwrap_or(("", line)));
    let mut labels = Vec::new();
    for (of, value) in split {
        let value: f64 = value.parse().unwrap();
        assert!(value.is_finite() && value > 0.0, "{query}: {lines:?}");
        labels.push(of.to_owned());
    }
    labels
}

#[test]
fn the_service_map_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut t = Trilobite::start(dir.path(), &QUICK).unwrap();
    for (trace, failed) in [(1, false), (2, true)] {
        let body = request(trace, failed).to_string();
        let answer = post(t.otlp_http(), "/v1/traces", "application/json", body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until(
        &t,
        "sum by (client, server) (traces_service_graph_request_total)",
        &[
            "client=front server=shop 2",
            "client=shop server=orders-db 2",
            "client=user server=front 2",
        ],
    );
    until(
        &t,
        "sum by (client, server) (traces_service_graph_request_failed_total)",
        &["client=front server=shop 1", "client=user server=front 1"],
    );
    let kinds = [
        "client=front client_service_namespace=demo server=shop server_service_namespace=demo 1",
        "client=shop client_service_namespace=demo connection_type=database server=orders-db 1",
        "client=user connection_type=virtual_node server=front server_service_namespace=demo 1",
    ];
    for metric in [
        "request_total",
        "request_server_seconds_sum",
        "request_server_seconds_bucket",
    ] {
        let by = "client, connection_type, server, client_service_namespace, server_service_namespace";
        until(
            &t,
            &format!("group by ({by}) (traces_service_graph_{metric}{{}})"),
            &kinds,
        );
    }
    let edges = [
        "client=front server=shop",
        "client=shop server=orders-db",
        "client=user server=front",
    ];
    for metric in [
        "request_server_seconds_sum",
        "request_total",
        "request_server_seconds_bucket",
    ] {
        let query = format!("sum by (client, server) (rate(traces_service_graph_{metric}{{}}[5m]))");
        assert_eq!(positive(&t, &query), edges, "{query}");
    }
    let failed = "sum by (client, server) (rate(traces_service_graph_request_failed_total{}[5m]))";
    assert_eq!(positive(&t, failed).len(), 2);
    // The table beside it.
    let names =
        r#"topk(5, sum(rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[5m])) by (span_name))"#;
    assert_eq!(positive(&t, names), ["span_name=GET /", "span_name=GET /cart"]);
    let errors = r#"topk(5, sum(rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR",span_name=~"GET /|GET /cart"}[5m])) by (span_name))"#;
    assert_eq!(positive(&t, errors), ["span_name=GET /", "span_name=GET /cart"]);
    let p90 =
        r#"histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{span_name=~"GET /cart"}[5m])) by (le))"#;
    let p90: f64 = ask(&t, p90)[0].parse().unwrap();
    assert!((0.128..=0.256).contains(&p90), "{p90}");
    // From the histogram to a trace.
    let now = now_ns() / 1_000_000_000;
    let path = format!(
        "/api/v1/query_exemplars?query={}&start={}&end={}",
        encoded(r#"traces_spanmetrics_latency_bucket{span_name="GET /cart"}"#),
        now - 60,
        now + 60
    );
    let exemplars = get(t.prometheus(), &path).unwrap().json();
    let trace = exemplars["data"][0]["exemplars"][0]["labels"]["traceID"]
        .as_str()
        .unwrap();
    assert!(
        trace == format!("{:032x}", 1) || trace == format!("{:032x}", 2),
        "{exemplars}"
    );
    assert_eq!(get(t.tempo(), &format!("/api/traces/{trace}")).unwrap().status, 200);
    let kinds = get(t.prometheus(), "/api/v1/metadata?metric=traces_spanmetrics_latency").unwrap();
    assert_eq!(
        kinds.json()["data"]["traces_spanmetrics_latency"][0]["type"],
        "histogram"
    );

    // What was counted last is there after a stop; the next run begins anew.
    let zipkin = json!([
        {"traceId": "7", "id": "1", "kind": "CLIENT", "name": "put", "timestamp": now_ns() / 1000 - 9000, "duration": 9000,
            "localEndpoint": {"serviceName": "z-front"}},
        {"traceId": "7", "id": "1", "kind": "SERVER", "name": "put", "timestamp": now_ns() / 1000 - 8000, "duration": 8000,
            "shared": true, "localEndpoint": {"serviceName": "z-shop"}}]);
    let answer = post(
        t.listener("zipkin"),
        "/api/v2/spans",
        "application/json",
        zipkin.to_string().as_bytes(),
    )
    .unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    t.stop().unwrap();
    t.restart().unwrap();
    until(
        &t,
        r#"traces_spanmetrics_calls_total{service="z-front"}"#,
        &["service=z-front span_kind=SPAN_KIND_CLIENT span_name=put status_code=STATUS_CODE_UNSET 1"],
    );
    let body = request(3, false).to_string();
    post(t.otlp_http(), "/v1/traces", "application/json", body.as_bytes()).unwrap();
    let cart = r#"increase(traces_spanmetrics_calls_total{span_name="GET /cart",status_code="STATUS_CODE_UNSET"}[5m])"#;
    until(&t, &format!("sum(round({cart}))"), &["2"]);
    let own = get(t.prometheus(), "/metrics").unwrap().text();
    assert!(own.contains("\ntraces_service_graph_dropped_spans_total 0\n"), "{own}");
}

#[test]
fn nothing_is_derived_when_it_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let off = [
        "--span-metrics",
        "off",
        "--service-graphs",
        "off",
        "--derived-metrics-interval",
        "1s",
    ];
    let mut t = Trilobite::start(dir.path(), &off).unwrap();
    let body = request(1, false).to_string();
    post(t.otlp_http(), "/v1/traces", "application/json", body.as_bytes()).unwrap();
    t.stop().unwrap();
    t.restart().unwrap();
    assert_eq!(
        ask(&t, r#"{__name__=~"traces_(span|service_graph_request).*"}"#),
        Vec::<String>::new()
    );
}
