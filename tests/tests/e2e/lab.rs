//! A lab with real clients: the OpenTelemetry Python SDK on Flask and SQLAlchemy, `prometheus_client`, curl and jq; and
//! the same data after a cut, a clean stop and a restart.

use std::path::Path;
use std::process::Command;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use trilobite_tests::{Trilobite, get, python, repository, request};

use crate::senders;

fn run_app(server: &Trilobite, protocol: &str, service: &str) -> serde_json::Value {
    let endpoint = match protocol {
        "grpc" => format!("http://{}", server.otlp_grpc()),
        _ => format!("http://{}", server.otlp_http()),
    };
    let output = Command::new(python().unwrap())
        .arg(clients().join("lab_app.py"))
        .arg(service)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "the app failed:\n{out}\n{err}\n{}",
        server.log()
    );
    let told = out
        .lines()
        .last()
        .and_then(|l| serde_json::from_str(l).ok())
        .unwrap_or_default();
    let told: serde_json::Value = told;
    assert_eq!(told["flushed"], true, "the SDK could not flush:\n{out}\n{err}");
    assert!(!err.contains("Failed to export"), "{err}");
    told
}

fn clients() -> std::path::PathBuf {
    repository().join("tests/clients")
}

fn lab_check(server: &Trilobite, service: &str, told: &serde_json::Value) {
    let output = Command::new("bash")
        .arg(clients().join("lab_check.sh"))
        .args([server.prometheus(), server.loki(), server.tempo()].map(|a| a.to_string()))
        .arg(service)
        .args([
            told["trace_id"].as_str().unwrap(),
            told["error_trace_id"].as_str().unwrap(),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    println!("{text}");
}

fn check_lab(protocol: &str, service: &str, dir: &Path) {
    let args = ["--enable-admin-api", "--loki-merge-structured-metadata=off"];
    let mut server = Trilobite::start(dir, &args).unwrap();
    let told = run_app(&server, protocol, service);
    lab_check(&server, service, &told);
    let flushed = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
    assert_eq!(flushed.status, 204, "{}", flushed.text());
    lab_check(&server, service, &told);
    assert!(server.stop().unwrap().success(), "{}", server.log());
    server.restart().unwrap();
    lab_check(&server, service, &told);
}

#[test]
fn a_lab_over_grpc_finds_its_signals_before_and_after_a_cut_and_a_restart() {
    check_lab("grpc", "flask-backend", tempfile::tempdir().unwrap().path());
}

#[test]
fn a_lab_over_http_finds_its_signals_before_and_after_a_cut_and_a_restart() {
    check_lab("http/protobuf", "flask-backend", tempfile::tempdir().unwrap().path());
}

#[test]
fn prometheus_client_data_comes_in_by_remote_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let url = format!("http://{}/api/v1/write", server.prometheus());
    let output = Command::new(python().unwrap())
        .arg(clients().join("remote_write.py"))
        .arg(url)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "204", "{output:?}");
    let value = |query: &str| {
        let json = get(server.prometheus(), &format!("/api/v1/query?query={query}"))
            .unwrap()
            .json();
        json["data"]["result"][0]["value"][1]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(value("sum(lab_jobs_total)"), "7");
    assert_eq!(value("lab_temperature_celsius"), "21.5");
    assert_eq!(value("lab_latency_seconds_bucket{le=\"1.0\"}"), "2");
    assert_eq!(value("histogram_quantile(0.5,lab_latency_seconds_bucket)"), "0.55");
    assert_eq!(value("histogram_count(lab_native_seconds)"), "3");
    assert_eq!(value("histogram_sum(lab_native_seconds)"), "7");
    assert_eq!(value("histogram_fraction(1,2,lab_native_seconds)*3"), "1");
}

#[test]
fn a_fresh_start_has_its_own_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let up = wait_for(|| {
        let json = get(server.prometheus(), "/api/v1/query?query=up").unwrap().json();
        json["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    assert_eq!(up, "1");
    for addr in [server.prometheus(), server.loki(), server.tempo(), server.otlp_http()] {
        let metrics = get(addr, "/metrics").unwrap();
        assert_eq!(metrics.status, 200);
        assert!(
            metrics
                .text()
                .contains("\ntrilobite_wal_syncs_total{signal=\"metrics\"} ")
        );
        assert_eq!(get(addr, "/ready").unwrap().status, 200);
        assert_eq!(get(addr, "/-/healthy").unwrap().status, 200);
        assert_eq!(get(addr, "/-/ready").unwrap().status, 200);
        assert_eq!(get(addr, "/no/such/path").unwrap().status, 404);
    }
}

#[test]
fn grpc_takes_compressed_batches_and_large_ones() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let now = senders::now_ns();
    runtime.block_on(async {
        use tonic::codec::CompressionEncoding::{Gzip, Zstd};
        for (n, encoding) in [(0, None), (1, Some(Gzip)), (2, Some(Zstd))] {
            let mut client = TraceServiceClient::connect(format!("http://{}", server.otlp_grpc()))
                .await
                .unwrap();
            if let Some(encoding) = encoding {
                client = client.send_compressed(encoding).accept_compressed(encoding);
            }
            let answer = client.export(senders::spans(7, n, now)).await.unwrap().into_inner();
            assert_eq!(answer.partial_success, None);
        }
        let mut client = TraceServiceClient::connect(format!("http://{}", server.otlp_grpc()))
            .await
            .unwrap();
        let mut large = senders::spans(8, 0, now);
        large.resource_spans[0].scope_spans[0].spans[0].name = "x".repeat(70 << 20);
        let refused = client.export(large).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused:?}");
    });
    for n in 0..3 {
        assert_eq!(
            get(server.tempo(), &format!("/api/traces/{}", senders::trace_id(7, n)))
                .unwrap()
                .status,
            200
        );
    }
}

/// Asks until there is an answer, for a few seconds.
fn wait_for<T>(ask: impl Fn() -> Option<T>) -> T {
    for _ in 0..100 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("no answer within 5 s");
}
