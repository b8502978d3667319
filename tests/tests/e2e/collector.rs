//! A lab with its Collector: the OpenTelemetry Python SDK sends to the OpenTelemetry Collector 0.96, that to us as it did to
//! Tempo, Loki and Prometheus. The Collector is built by `make agents`; where that cannot be, the test says so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trilobite_tests::{Trilobite, agent, get, python, repository, until};

use crate::lab_apps::free_addr;

/// A running Collector; killed when dropped.
pub struct Collector {
    child: Child,
    otlp_http: SocketAddr,
    /// Where it exposes what it received, as for a Prometheus.
    pub exporter: SocketAddr,
    /// Its own metrics.
    own: SocketAddr,
}

impl Collector {
    pub fn start(binary: PathBuf, server: &Trilobite) -> Collector {
        let [otlp_grpc, otlp_http, exporter, own] = [(); 4].map(|()| free_addr());
        let child = Command::new(binary)
            .arg("--config")
            .arg(repository().join("tests/clients/collector/config.yaml"))
            .env("OTLP_GRPC", otlp_grpc.to_string())
            .env("OTLP_HTTP", otlp_http.to_string())
            .env("EXPORTER", exporter.to_string())
            .env("SELF", own.to_string())
            .env("PROMETHEUS", server.prometheus().to_string())
            .env("LOKI", server.loki().to_string())
            .env("TEMPO", server.otlp_grpc().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let collector = Collector {
            child,
            otlp_http,
            exporter,
            own,
        };
        until("the Collector", || {
            get(own, "/metrics").ok().filter(|a| a.status == 200)
        });
        until("the Collector's receiver", || {
            std::net::TcpStream::connect(otlp_http).ok()
        });
        collector
    }

    /// The sum of its counter `name`.
    fn counted(&self, name: &str) -> f64 {
        let text = get(self.own, "/metrics").unwrap().text();
        let lines = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lab's application, which sends to the Collector; what it says a check should find.
pub fn run_app(collector: &Collector) -> Value {
    let output = Command::new(python().unwrap())
        .arg(repository().join("tests/clients/lab_app.py"))
        .arg("flask-backend")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", collector.otlp_http))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !err.contains("Failed to export"), "{err}");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(out.lines().last().unwrap()).unwrap()
}

#[test]
fn what_passes_a_collector_has_the_names_and_labels_that_its_users_know() {
    let Some(binary) = agent("collector") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let collector = Collector::start(binary, &server);
    let told = run_app(&collector);
    let trace = told["trace_id"].as_str().unwrap();

    // Traces: OTLP over gRPC, compressed, as to `tempo:4317`.
    let path = format!("/api/traces/{trace}");
    let found = until("the trace", || {
        get(server.tempo(), &path).ok().filter(|a| a.status == 200)
    });
    let names = found.text();
    assert!(names.contains("get_all_tasks") && names.contains("SELECT"), "{names}");

    // Logs: the `loki` exporter's labels, and its JSON around the text.
    let lines = until("lines", || {
        let lines = server
            .lines(r#"{service_name="flask-backend", level="INFO"} |= "Request completed""#)
            .unwrap();
        (lines.len() >= 12).then_some(lines)
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(
        line["body"].as_str().unwrap().starts_with("Request completed"),
        "{line}"
    );
    assert_eq!(line["severity"], "INFO");
    let stream = &server
        .logql(r#"{service_name="flask-backend", level="ERROR"}"#)
        .unwrap()[0]["stream"];
    for (name, value) in [
        ("exporter", "OTLP"),
        ("job", "flask-backend"),
        ("instance", "backend-1"),
        ("service_instance_id", "backend-1"),
        ("deployment_environment", "lab"),
    ] {
        assert_eq!(stream[name], value, "{stream}");
    }
    assert_eq!(
        server
            .lines(&format!("{{service_name=\"flask-backend\"}} |= \"{trace}\""))
            .unwrap()
            .len(),
        1
    );

    // Metrics: remote write, with the names that OTel's instruments get, and no label but those of the instrument.
    until("metrics", || {
        server.promql_value("sum(http_requests_total)").filter(|v| v == "13")
    });
    let series = server.promql("http_requests_total{endpoint=\"/api/fail\"}").unwrap();
    let labels: Vec<&String> = series[0]["metric"].as_object().unwrap().keys().collect();
    assert_eq!(
        labels,
        ["__name__", "endpoint", "instance", "job", "method", "status_code"],
        "{series}"
    );
    assert_eq!(series[0]["metric"]["job"], "flask-backend");
    assert_eq!(series[0]["metric"]["instance"], "backend-1");
    let p95 = "histogram_quantile(0.95,sum(http_request_duration_seconds_bucket)by(le))";
    assert!(server.promql_value(p95).unwrap().parse::<f64>().unwrap() > 0.0);
    assert_eq!(
        server
            .promql_value("target_info{job=\"flask-backend\",service_version=\"1.0.0\"}")
            .as_deref(),
        Some("1")
    );

    // And nothing was lost on the way: the Collector counts what was refused.
    for name in [
        "otelcol_exporter_sent_spans",
        "otelcol_exporter_sent_log_records",
        "otelcol_exporter_sent_metric_points",
    ] {
        assert!(collector.counted(name) > 0.0, "{name}");
    }
    for name in [
        "otelcol_exporter_send_failed_spans",
        "otelcol_exporter_send_failed_log_records",
        "otelcol_exporter_send_failed_metric_points",
    ] {
        assert_eq!(collector.counted(name), 0.0, "{name}");
    }
    assert!(
        get(collector.exporter, "/metrics")
            .unwrap()
            .text()
            .contains("http_requests_total{")
    );
}
