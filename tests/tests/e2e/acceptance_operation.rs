//! Acceptance, operation: the process takes the place of Prometheus, Loki and Tempo in a lab's scripts and Compose files.
//! `docs/acceptance.md` names the row of each test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use trilobite_tests::{Trilobite, binary, encoded, get, post, request, until};

use crate::senders;

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command lines that the labs give their Prometheus, as they stand in their Compose files.
#[test]
fn the_command_lines_of_a_prometheus_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "global:\n  scrape_interval: 15s\n").unwrap();
    let free = || {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    for (n, flags) in [
        "--storage.tsdb.retention.time=15d --web.console.libraries=/usr/share/prometheus/console_libraries \
         --web.console.templates=/usr/share/prometheus/consoles --web.enable-lifecycle --web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=30d --storage.tsdb.retention.size=10GB --storage.tsdb.wal-compression \
         --web.enable-admin-api --enable-feature=exemplar-storage --log.level=info",
        "--storage.tsdb.retention.time 2h --web.enable-otlp-receiver --query.lookback-delta=5m --no-storage.tsdb.wal-compression",
    ]
    .into_iter()
    .enumerate()
    {
        let addr = free();
        let data = dir.path().join(n.to_string());
        let child = Command::new(binary().unwrap())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={addr}"))
            .args(flags.split_whitespace())
            .envs(["LOKI", "TEMPO", "OTLP_HTTP", "OTLP_GRPC"].map(|name| (format!("TRILOBITE_{name}_ADDR"), "off")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _running = Running(child);
        until(flags, || get(addr, "/-/ready").ok().filter(|a| a.status == 200));
        assert!(data.exists(), "{flags}");
    }
}

#[test]
fn each_face_answers_the_probes_of_the_service_it_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &["--jaeger-addr", "127.0.0.1:0"]).unwrap();
    let (prometheus, loki, tempo) = (server.prometheus(), server.loki(), server.tempo());
    for (addr, path, word) in [
        (prometheus, "/-/healthy", "Healthy"),
        (prometheus, "/-/ready", "Ready"),
        (prometheus, "/api/v1/status/buildinfo", "\"version\""),
        (prometheus, "/api/v1/query?query=1%2B1", "\"2\""),
        (loki, "/ready", "ready"),
        (loki, "/loki/api/v1/status/buildinfo", "\"version\""),
        (loki, "/loki/api/v1/query?query=vector(1)%2Bvector(1)", "\"2\""),
        (tempo, "/ready", "ready"),
        (tempo, "/api/echo", "echo"),
        (tempo, "/api/status/buildinfo", "\"version\""),
        (server.listener("jaeger"), "/api/services", "\"data\""),
        (server.listener("jaeger_admin"), "/", "available"),
    ] {
        let answer = get(addr, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(answer.text().contains(word), "{path}: {}", answer.text());
    }
    // A script that reloads after it changed rules gets an answer that says how things stand, and never "no such path".
    let reload = request(prometheus, "POST", "/-/reload", &[], b"").unwrap();
    assert!(matches!(reload.status, 200 | 403), "{}", reload.text());
}

/// The queries by which the labs watch their backends; they ask `/metrics` of each port.
#[test]
fn what_watches_the_replaced_backends_finds_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let body = senders::loki_json(1, senders::now_ns());
    assert_eq!(
        post(server.loki(), "/loki/api/v1/push", "application/json", &body)
            .unwrap()
            .status,
        204
    );
    assert_eq!(
        post(server.loki(), "/loki/api/v1/push", "application/json", b"{")
            .unwrap()
            .status,
        400
    );
    let body = senders::spans_protobuf(5, 1, senders::now_ns());
    post(server.otlp_http(), "/v1/traces", "application/x-protobuf", &body).unwrap();
    for addr in [server.prometheus(), server.loki(), server.tempo()] {
        let text = get(addr, "/metrics").unwrap().text();
        let value = |name: &str| {
            let line = text.lines().find(|l| l.split([' ', '{']).next() == Some(name));
            let value = line
                .and_then(|l| l.rsplit(' ').next())
                .and_then(|v| v.parse::<f64>().ok());
            value.unwrap_or_else(|| panic!("{name} is missing in\n{text}"))
        };
        for (name, wanted) in [
            ("prometheus_build_info", 1.0),
            ("loki_build_info", 1.0),
            ("tempo_build_info", 1.0),
            ("loki_distributor_lines_received_total", senders::ITEMS as f64),
            ("loki_distributor_errors_total", 1.0),
            ("tempo_distributor_spans_received_total", senders::ITEMS as f64),
            ("tempo_ingester_spans_received_total", senders::ITEMS as f64),
            ("tempo_receiver_accepted_spans", senders::ITEMS as f64),
            ("prometheus_tsdb_storage_blocks_bytes", 0.0),
        ] {
            assert_eq!(value(name), wanted, "{name}");
        }
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            assert!(value(name) > 0.0, "{name}");
        }
    }
    for query in [
        "rate(tempo_ingester_spans_received_total[5m])",
        "rate(loki_distributor_errors_total[5m])",
        "rate(loki_distributor_lines_received_total[5m])",
        "prometheus_tsdb_storage_blocks_bytes",
        "process_resident_memory_bytes",
    ] {
        until(query, || {
            server.promql(query).ok().filter(|r| !r.as_array().unwrap().is_empty())
        });
    }
}

/// An age in minutes that lies on another day, and so in blocks of its own: those are retired as a whole.
const YESTERDAY: u64 = 30 * 60;

/// One sample, line and span, all of the same moment; the sample's value and the line's text are its age in minutes.
fn send_aged(server: &Trilobite, minutes: u64) -> [u16; 3] {
    let at = senders::now_ns() - minutes * 60_000_000_000;
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "aged"}}]});
    let metrics = json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [
        {"name": "age", "gauge": {"dataPoints": [{"timeUnixNano": at.to_string(), "asDouble": minutes}]}}]}]}]});
    let logs = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [
        {"timeUnixNano": at.to_string(), "body": {"stringValue": format!("{minutes} minutes")}}]}]}]});
    let spans = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [
        {"traceId": format!("{minutes:032x}"), "spanId": "00000000000000a1", "name": "aged", "kind": 2,
         "startTimeUnixNano": at.to_string(), "endTimeUnixNano": (at + 1_000_000).to_string()}]}]}]});
    [("/v1/metrics", metrics), ("/v1/logs", logs), ("/v1/traces", spans)].map(|(path, body)| {
        let answer = post(
            server.otlp_http(),
            path,
            "application/json",
            body.to_string().as_bytes(),
        )
        .unwrap();
        // What is too old is refused in part: the request is in order, its items are not.
        let refused = answer.text().contains("rejected");
        if refused { 400 } else { answer.status }
    })
}

/// The ages that are found, by signal.
fn found_ages(server: &Trilobite) -> [Vec<u64>; 3] {
    let now = senders::now_ns() / 1_000_000_000;
    let path = format!("/api/v1/query?query={}", encoded("age[3d]"));
    let json = get(server.prometheus(), &path).unwrap().json();
    let samples = json["data"]["result"][0]["values"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut samples: Vec<u64> = samples
        .iter()
        .map(|v| v[1].as_str().unwrap().parse().unwrap())
        .collect();
    let range = format!("start={}&end={}&limit=100", now - 3 * 86_400, now + 10);
    let path = format!(
        "/loki/api/v1/query_range?{range}&query={}",
        encoded("{service_name=\"aged\"}")
    );
    let json = get(server.loki(), &path).unwrap().json();
    let lines = json["data"]["result"][0]["values"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut lines: Vec<u64> = (lines.iter())
        .map(|v| v[1].as_str().unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    let path = format!("/api/search?{range}&q={}", encoded("{resource.service.name=\"aged\"}"));
    let json = get(server.tempo(), &path).unwrap().json();
    let traces = json["traces"].as_array().cloned().unwrap_or_default();
    let mut traces: Vec<u64> = (traces.iter())
        .map(|t| u64::from_str_radix(t["traceID"].as_str().unwrap(), 16).unwrap())
        .collect();
    for ages in [&mut samples, &mut lines, &mut traces] {
        ages.sort_unstable();
    }
    [samples, lines, traces]
}

fn start_keeping(dir: &Path, kept: [&str; 3]) -> Trilobite {
    let mut args = vec!["--enable-admin-api"];
    for (flag, age) in ["--retention-metrics", "--retention-logs", "--retention-traces"]
        .into_iter()
        .zip(kept)
    {
        args.extend([flag, age]);
    }
    Trilobite::start(dir, &args).unwrap()
}

/// Retention is each signal's own, and a lab may keep two hours of everything.
#[test]
fn each_signal_is_kept_as_long_as_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_keeping(dir.path(), ["15d", "7d", "48h"]);
    assert_eq!(send_aged(&server, YESTERDAY), [200; 3]);
    let flushed = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
    assert_eq!(flushed.status, 204);
    assert_eq!(send_aged(&server, 60), [200; 3]);
    assert_eq!(
        found_ages(&server),
        [vec![60, YESTERDAY], vec![60, YESTERDAY], vec![60, YESTERDAY]]
    );
    assert!(server.stop().unwrap().success());

    // Logs are told to be kept for a shorter time than the others.
    let mut server = start_keeping(dir.path(), ["15d", "2h", "48h"]);
    until("old lines to go", || (found_ages(&server)[1] == [60]).then_some(()));
    assert_eq!(
        found_ages(&server),
        [vec![60, YESTERDAY], vec![60], vec![60, YESTERDAY]]
    );
    assert!(server.stop().unwrap().success());

    let server = start_keeping(dir.path(), ["2h"; 3]);
    until("everything old to go", || {
        found_ages(&server).iter().all(|ages| ages == &[60]).then_some(())
    });
    assert_eq!(send_aged(&server, 240), [400; 3]);
    assert_eq!(send_aged(&server, 30), [200; 3]);
    assert_eq!(found_ages(&server), [vec![30, 60], vec![30, 60], vec![30, 60]]);
}

/// curl without `-g`, old scripts and other clients send queries as they are.
#[test]
fn queries_need_not_be_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    until("own metrics", || server.promql_value("up{job=\"trilobite\"}"));
    for (query, wanted) in [
        ("up{job=\"trilobite\"}", "1"),
        ("sum(up{job=~\"trilobite|x\"})by(job)", "1"),
        ("count_over_time(up{job=\"trilobite\"}[5m])>bool(0)", "1"),
        (
            "label_replace(up{job=\"trilobite\"},\"a\",\"[$1]\",\"job\",\"(.*)\")",
            "1",
        ),
    ] {
        let answer = get(server.prometheus(), &format!("/api/v1/query?query={query}")).unwrap();
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(answer.json()["data"]["result"][0]["value"][1], wanted, "{query}");
    }
}

/// `bc` knows no exponents.
#[test]
fn values_are_written_without_exponents() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    for (query, wanted) in [
        ("123456789012", "123456789012"),
        ("1e20", "100000000000000000000"),
        ("0.000001", "0.000001"),
        ("1/3", "0.3333333333333333"),
        ("-2.5e3", "-2500"),
    ] {
        let answer = get(server.prometheus(), &format!("/api/v1/query?query={}", encoded(query))).unwrap();
        let value = answer.json()["data"]["result"][1].clone();
        assert_eq!(value, json!(wanted), "{query}: {}", answer.text());
    }
}
