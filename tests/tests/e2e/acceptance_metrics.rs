//! Acceptance, metrics: the labs' queries on the labs' series, and what Grafana asks around them. `docs/acceptance.md`
//! names the row of each test.

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, encoded, get, post, request};

use crate::senders;

/// Ten minutes of samples, 15 s apart: counters that grow by their last label's worth, histograms, gauges.
fn send_the_labs_series(server: &Trilobite) {
    let now = (senders::now_ns() / 1_000_000) as i64;
    let mut series = Vec::new();
    let mut add = |labels: &[(&'static str, &'static str)], per_step: f64| {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        let samples = (0..=40)
            .map(|k| (now - 15_000 * (40 - k), 100.0 + per_step * k as f64))
            .collect();
        series.push(senders::Series { labels, samples });
    };
    let flask = [
        ("job", "flask-backend"),
        ("instance", "backend:5000"),
        ("service", "flask-backend"),
    ];
    let of = |name: &'static str, own: &[(&'static str, &'static str)], common: &[(&'static str, &'static str)]| {
        let mut labels = vec![("__name__", name)];
        labels.extend(own.iter().chain(common));
        labels
    };
    let route = [("method", "GET"), ("endpoint", "/api/tasks"), ("status_code", "200")];
    add(&of("http_requests_total", &route, &flask), 30.0);
    add(&of("http_errors_total", &route, &flask), 3.0);
    add(&of("http_request_duration_seconds_count", &route, &flask), 30.0);
    for (le, n) in [("0.1", 20.0), ("0.5", 28.0), ("+Inf", 30.0)] {
        let mut own = route.to_vec();
        own.push(("le", le));
        add(&of("http_request_duration_seconds_bucket", &own, &flask), n);
        add(
            &of(
                "db_query_duration_seconds_bucket",
                &[("operation", "select"), ("le", le)],
                &flask,
            ),
            n,
        );
        let fastapi = [
            ("job", "fastapi"),
            ("instance", "app:8000"),
            ("method", "GET"),
            ("path", "/chat"),
            ("le", le),
        ];
        add(&of("http_request_duration_seconds_bucket", &[], &fastapi), n);
        let llm = [
            ("job", "fastapi"),
            ("model", "m"),
            ("provider", "p"),
            ("endpoint", "/chat"),
            ("le", le),
        ];
        add(&of("llm_latency_seconds_bucket", &[], &llm), n);
    }
    let collector = [("job", "collector"), ("service", "otel-collector")];
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "otelcol_exporter_send_failed_spans",
        "otelcol_exporter_send_failed_metric_points",
    ] {
        add(&of(name, &[], &collector), 1.0);
    }
    let fastapi = [("job", "fastapi"), ("instance", "app:8000")];
    add(&of("process_start_time_seconds", &[], &fastapi), 0.0);
    for status in ["200", "500"] {
        add(
            &of(
                "http_requests_total",
                &[("method", "GET"), ("path", "/chat"), ("status", status)],
                &fastapi,
            ),
            5.0,
        );
    }
    let llm = [("model", "m"), ("provider", "p")];
    add(
        &of("llm_calls_total", &[("endpoint", "/chat")], &[llm, fastapi].concat()),
        2.0,
    );
    add(
        &of("llm_tokens_total", &[("type", "prompt")], &[llm, fastapi].concat()),
        200.0,
    );
    add(
        &of("llm_errors_total", &[("reason", "timeout")], &[llm, fastapi].concat()),
        1.0,
    );
    add(
        &of("up", &[], &[("job", "prometheus"), ("instance", "localhost:9090")]),
        0.0,
    );
    let body = senders::write_request(&series);
    let answer = request(
        server.prometheus(),
        "POST",
        "/api/v1/write",
        &senders::WRITE_HEADERS,
        &body,
    )
    .unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// The value of a query with one series, to two digits; otherwise how many series there are.
fn told(server: &Trilobite, query: &str) -> String {
    let result = server.promql(query).unwrap();
    let series = result.as_array().unwrap();
    match series.as_slice() {
        [one] => format!("{:.2}", one["value"][1].as_str().unwrap().parse::<f64>().unwrap()),
        many => format!("{} series", many.len()),
    }
}

#[test]
fn the_labs_queries_find_what_the_labs_send() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    send_the_labs_series(&server);
    for (query, wanted) in [
        (
            "count by (__name__, job) (http_requests_total{job=\"flask-backend\"})",
            "1.00",
        ),
        ("http_requests_total{job=\"flask-backend\"}", "1300.00"),
        ("http_request_duration_seconds_count", "1300.00"),
        ("rate(http_requests_total{job=\"flask-backend\"}[5m])", "2.00"),
        (
            "rate(http_errors_total[5m]) / rate(http_requests_total[5m]) > 0.01",
            "0.10",
        ),
        ("sum(http_requests_total)", "1900.00"),
        ("sum(http_errors_total)", "220.00"),
        (
            "histogram_quantile(0.95,sum(rate(http_request_duration_seconds_bucket{job=\"flask-backend\"}[5m]))by(le))",
            "0.50",
        ),
        ("process_cpu_seconds_total{service=\"otel-collector\"}", "140.00"),
        ("process_resident_memory_bytes{service=\"otel-collector\"}", "140.00"),
        ("rate(otelcol_exporter_send_failed_spans[5m])", "0.07"),
        ("rate(otelcol_exporter_send_failed_metric_points[5m])", "0.07"),
        (
            "time() - process_start_time_seconds{job=\"fastapi\"} > bool 1e9",
            "1.00",
        ),
        (
            "sum by (method, path) (rate(http_requests_total{job=\"fastapi\"}[1m]))",
            "0.67",
        ),
        (
            "sum by (method, path) (rate(http_requests_total{status=~\"5..\", job=\"fastapi\"}[1m]))",
            "0.33",
        ),
        (
            "histogram_quantile(0.95, sum by (le, method, path) (rate(http_request_duration_seconds_bucket{job=\"fastapi\"}[5m])))",
            "0.50",
        ),
        ("sum by (model) (rate(llm_calls_total[1m]))", "0.13"),
        (
            "histogram_quantile(0.95, sum by (le, model, endpoint) (rate(llm_latency_seconds_bucket[5m])))",
            "0.50",
        ),
        ("sum by (model, type) (rate(llm_tokens_total[5m]))", "13.33"),
        ("sum by (reason) (rate(llm_errors_total[5m]))", "0.07"),
        ("up{job=\"prometheus\"}", "100.00"),
        (
            "histogram_quantile(0.95, sum by (le, operation) (rate(db_query_duration_seconds_bucket[5m])))",
            "0.50",
        ),
    ] {
        assert_eq!(told(&server, query), wanted, "{query}");
    }
    // These stand in the labs' dashboards too; what they find is the process' own.
    for query in [
        "rate(tempo_ingester_spans_received_total[5m])",
        "rate(loki_distributor_errors_total[5m])",
        "prometheus_tsdb_storage_blocks_bytes",
    ] {
        server.promql(query).unwrap();
    }
}

/// What Grafana sends for panels, variables, the metric browser and annotations of a datasource that POSTs.
#[test]
fn grafana_asks_in_forms_and_gets_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    send_the_labs_series(&server);
    let now = senders::now_ns() / 1_000_000_000;
    let range = format!("start={}&end={now}", now - 600);
    let form = |path: &str, body: &str| -> Value {
        let answer = post(
            server.prometheus(),
            path,
            "application/x-www-form-urlencoded",
            body.as_bytes(),
        )
        .unwrap();
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
        let json = answer.json();
        assert_eq!(json["status"], "success", "{json}");
        json["data"].clone()
    };
    let query = encoded("sum by (status) (rate(http_requests_total{job=\"fastapi\"}[1m0s]))");
    let panel = form("/api/v1/query_range", &format!("query={query}&{range}&step=15"));
    assert_eq!(panel["resultType"], "matrix");
    assert_eq!(panel["result"].as_array().unwrap().len(), 2, "{panel}");
    assert!(panel["result"][0]["values"].as_array().unwrap().len() > 30, "{panel}");
    let stat = form("/api/v1/query", &format!("query={query}&time={now}"));
    assert_eq!(stat["resultType"], "vector");
    // Annotations are ranges too: a point for each step at which the expression holds.
    let annotation = encoded("http_errors_total > 150");
    let annotations = form("/api/v1/query_range", &format!("query={annotation}&{range}&step=60"));
    let shown = annotations["result"][0]["values"].as_array().unwrap().len();
    assert!((5..11).contains(&shown), "{annotations}");
    let names = form(
        "/api/v1/labels",
        &format!("{range}&match[]={}", encoded("http_requests_total")),
    );
    assert!(names.as_array().unwrap().contains(&json!("status_code")), "{names}");
    let series = form(
        "/api/v1/series",
        &format!("{range}&match[]={}", encoded("llm_calls_total")),
    );
    assert_eq!(series[0]["model"], "m");
    // Variables: label_values(metric, label), and label_values(label).
    let values = |path: &str| get(server.prometheus(), path).unwrap().json()["data"].clone();
    let path = format!(
        "/api/v1/label/job/values?{range}&match[]={}",
        encoded("http_requests_total")
    );
    assert_eq!(values(&path), json!(["fastapi", "flask-backend"]));
    assert!(
        values("/api/v1/label/__name__/values")
            .as_array()
            .unwrap()
            .contains(&json!("llm_calls_total"))
    );
    assert!(values("/api/v1/metadata").is_object());
    // "Manage alerts" asks what kind of Prometheus this is, then for rules.
    let build = values("/api/v1/status/buildinfo");
    assert!(build["version"].is_string() && build["features"].is_null(), "{build}");
    assert_eq!(values("/api/v1/rules")["groups"], json!([]));
    let loki_rules = get(server.loki(), "/prometheus/api/v1/rules").unwrap();
    assert_eq!(
        (loki_rules.status, loki_rules.json()["data"]["groups"].clone()),
        (200, json!([]))
    );
}

/// The Collector sends what it knows of metrics in requests without samples.
#[test]
fn a_write_request_without_samples_is_welcome() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let (mut metadata, mut body) = (vec![1 << 3, 1], Vec::new());
    senders::field(&mut metadata, 2, b"http_requests_total");
    senders::field(&mut metadata, 4, b"Requests served.");
    senders::field(&mut body, 3, &metadata);
    let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let answer = request(
        server.prometheus(),
        "POST",
        "/api/v1/write",
        &senders::WRITE_HEADERS,
        &body,
    )
    .unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    let known = get(server.prometheus(), "/api/v1/metadata?metric=http_requests_total")
        .unwrap()
        .json();
    assert_eq!(
        known["data"]["http_requests_total"][0]["help"], "Requests served.",
        "{known}"
    );
}
