//! What an operator may meet on one data directory: data partly in blocks and partly in the WAL, a lost catalogue, damaged
//! files, a full disk. Queries go on, nothing acknowledged is lost or doubled, and a refusal says when to come back.

use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point,
};
use trilobite_tests::{Answer, Trilobite, get, request};

use crate::senders::{self, ITEMS};

const RUN: u64 = 77;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const PROTO: (&str, &str) = ("Content-Type", "application/x-protobuf");
const SNAPPY: (&str, &str) = ("Content-Encoding", "snappy");

/// A server with batches of the three signals, `ms` apart from a start in the past.
struct Lab {
    dir: tempfile::TempDir,
    server: Trilobite,
    base_ns: u64,
}

impl Lab {
    fn start() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let server = Trilobite::start(dir.path(), &["--enable-admin-api"]).unwrap();
        let base_ns = senders::now_ns() / 1_000_000_000 * 1_000_000_000 - 60_000_000_000;
        Lab { dir, server, base_ns }
    }

    /// Sends batch `n` of every signal; all must be taken.
    fn send(&self, n: u64) {
        for answer in self.try_send(n) {
            assert!(answer.status < 300, "batch {n}: {} {}", answer.status, answer.text());
            assert!(!answer.text().contains("partialSuccess"), "{}", answer.text());
        }
    }

    fn try_send(&self, n: u64) -> Vec<Answer> {
        let (t, base) = (&self.server, self.base_ns + n * 1_000_000);
        let spans = senders::spans_protobuf(RUN, n, base);
        let lines = senders::loki_json(n, base);
        let otlp_lines = senders::otlp_logs_json(n, base);
        let samples = senders::remote_write(n, (base / 1_000_000) as i64);
        let json: &[(&str, &str)] = &[JSON];
        vec![
            request(t.otlp_http(), "POST", "/v1/traces", &[PROTO], &spans).unwrap(),
            request(t.loki(), "POST", "/loki/api/v1/push", json, &lines).unwrap(),
            request(t.otlp_http(), "POST", "/v1/logs", json, &otlp_lines).unwrap(),
            request(t.loki(), "POST", "/otlp/v1/logs", json, &otlp_lines).unwrap(),
            request(t.prometheus(), "POST", "/api/v1/write", &[PROTO, SNAPPY], &samples).unwrap(),
        ]
    }

    fn flush(&self) {
        let flushed = request(self.server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
        assert_eq!(flushed.status, 204, "{}", flushed.text());
    }

    /// Every item of batches `0..batches` is found once through every API, counted and listed.
    fn check(&self, batches: u64, when: &str) {
        for n in 0..batches {
            assert_eq!(self.spans(n), ITEMS, "{when}: spans of batch {n}");
        }
        for selector in [r#"{sender="loki"}"#, r#"{service_name="otlp-sender"}"#] {
            assert_eq!(self.lines(selector), self.expected_lines(batches), "{when}: {selector}");
            let counted = self.counted(&format!("sum(count_over_time({selector}[5m]))"));
            assert_eq!(counted, (batches * ITEMS) as f64, "{when}: count of {selector}");
        }
        let expected: Vec<f64> = (0..batches).map(|n| n as f64).collect();
        let samples = self.samples();
        assert_eq!(
            samples.len() as u64,
            if batches > 0 { ITEMS } else { 0 },
            "{when}: series"
        );
        for values in samples {
            assert_eq!(values, expected, "{when}: samples");
        }
    }

    fn spans(&self, n: u64) -> u64 {
        let answer = get(
            self.server.tempo(),
            &format!("/api/traces/{}", senders::trace_id(RUN, n)),
        )
        .unwrap();
        if answer.status == 404 {
            return 0;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        let batches = json["batches"].as_array().into_iter().flatten();
        let scopes = batches.flat_map(|b| b["scopeSpans"].as_array().into_iter().flatten());
        scopes.map(|s| s["spans"].as_array().map_or(0, Vec::len) as u64).sum()
    }

    fn expected_lines(&self, batches: u64) -> Vec<String> {
        let mut lines: Vec<String> = (0..batches)
            .flat_map(|n| (0..ITEMS).map(move |i| senders::line(n, i)))
            .collect();
        lines.sort();
        lines
    }

    fn lines(&self, selector: &str) -> Vec<String> {
        let (start, end) = (self.base_ns, self.base_ns + 60_000_000_000);
        let path = format!(
            "/loki/api/v1/query_range?query={}&start={start}&end={end}&limit=5000",
            encoded(selector)
        );
        let json = ok(get(self.server.loki(), &path).unwrap());
        let streams = json["data"]["result"].as_array().into_iter().flatten();
        let values = streams.flat_map(|s| s["values"].as_array().into_iter().flatten());
        let mut lines: Vec<String> = values.map(|v| v[1].as_str().unwrap_or_default().to_owned()).collect();
        lines.sort();
        lines
    }

    fn counted(&self, query: &str) -> f64 {
        let time = self.base_ns + 60_000_000_000;
        let path = format!("/loki/api/v1/query?query={}&time={time}", encoded(query));
        let json = ok(get(self.server.loki(), &path).unwrap());
        json["data"]["result"][0]["value"][1]
            .as_str()
            .and_then(|v| v.parse().ok())
            .unwrap_or(0.0)
    }

    fn samples(&self) -> Vec<Vec<f64>> {
        let time = self.base_ns / 1_000_000_000 + 60;
        let json = ok(get(
            self.server.prometheus(),
            &format!("/api/v1/query?query=sent[5m]&time={time}"),
        )
        .unwrap());
        let series = json["data"]["result"].as_array().into_iter().flatten();
        series
            .map(|s| {
                let values = s["values"].as_array().into_iter().flatten();
                values.filter_map(|v| v[1].as_str()?.parse().ok()).collect()
            })
            .collect()
    }

    /// Files of that name in the blocks of a signal.
    fn block_files(&self, signal: &str, name: &str) -> Vec<PathBuf> {
        let blocks = std::fs::read_dir(self.dir.path().join(signal).join("blocks")).unwrap();
        let files = blocks.map(|b| b.unwrap().path().join(name)).filter(|f| f.exists());
        files.collect()
    }

    fn own_metric(&self, name: &str) -> String {
        let text = get(self.server.prometheus(), "/metrics").unwrap().text();
        text.lines()
            .filter(|l| l.starts_with(name))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|b| format!("%{b:02x}")).collect()
}

fn ok(answer: Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

/// Blocks, the WAL of a killed process and a head at once; then the catalogue is deleted, as someone does who needs space.
#[test]
fn a_restart_finds_blocks_and_wal_also_without_the_catalogue() {
    let mut lab = Lab::start();
    for n in 0..4 {
        lab.send(n);
    }
    lab.flush();
    for n in 2..7 {
        // Two of them again: their acknowledgement was lost, and the first copies are in a block by now.
        lab.send(n);
    }
    lab.check(7, "blocks and head");
    lab.server.kill().unwrap();
    lab.server.restart().unwrap();
    lab.check(7, "blocks and replayed WAL");
    lab.flush();
    lab.check(7, "two blocks that overlap");
    for n in 6..9 {
        lab.send(n);
    }
    assert!(lab.server.stop().unwrap().success());

    remove(&lab.dir.path().join("catalogue"));
    lab.server.restart().unwrap();
    assert!(
        lab.server.log().contains("catalogue was rebuilt"),
        "{}",
        lab.server.log()
    );
    lab.check(9, "rebuilt catalogue");
    lab.send(9);
    lab.flush();
    lab.server.kill().unwrap();
    lab.server.restart().unwrap();
    lab.check(10, "after the rebuild");
}

/// A few bytes that a bad sector changes: at the file's head, in its middle, at its end.
#[test]
fn damaged_blocks_are_counted_and_queries_go_on() {
    for (what, place) in [("head", 0.0), ("middle", 0.5), ("end", 1.0)] {
        let mut lab = Lab::start();
        lab.send(0);
        lab.flush();
        lab.send(1);
        assert!(lab.server.stop().unwrap().success());
        for (signal, name) in [("metrics", "chunks"), ("logs", "chunks"), ("traces", "spans.parquet")] {
            let files = lab.block_files(signal, name);
            assert!(!files.is_empty(), "{signal} has no block");
            for file in files {
                let mut bytes = std::fs::read(&file).unwrap();
                let at = ((bytes.len() - 4) as f64 * place) as usize;
                bytes[at..at + 4].iter_mut().for_each(|b| *b ^= 0x5a);
                std::fs::write(&file, bytes).unwrap();
            }
        }
        lab.server.restart().unwrap();
        assert_eq!(lab.spans(1), ITEMS, "{what}: spans of the head");
        lab.spans(0);
        let lines = lab.lines(r#"{sender="loki"}"#);
        assert!(
            (0..ITEMS).all(|i| lines.contains(&senders::line(1, i))),
            "{what}: {lines:?}"
        );
        let samples = lab.samples();
        assert!(
            samples.len() as u64 == ITEMS && samples.iter().all(|v| v.last() == Some(&1.0)),
            "{what}: {samples:?}"
        );
        let counted = lab.own_metric("trilobite_corrupt_chunks_total");
        for signal in ["metrics", "logs", "traces"] {
            // In the middle it may be a part that no query here reads.
            assert!(
                what == "middle" || !counted.contains(&format!("{{signal=\"{signal}\"}} 0\n")),
                "{what}: damage of {signal} is not counted:\n{counted}\n{}",
                lab.server.log()
            );
        }
        lab.send(2);
        lab.flush();
        assert_eq!(lab.spans(2), ITEMS, "{what}: new spans");
        assert!(
            lab.server.is_running() && !lab.server.log().contains("panicked"),
            "{what}: {}",
            lab.server.log()
        );
    }
}

/// A reserve that no disk has stands for a full one: ingest is refused on every protocol in a way that makes clients try
/// again, and what is there can be asked for.
#[test]
fn a_full_disk_refuses_ingest_on_every_protocol_and_queries_go_on() {
    let mut lab = Lab::start();
    lab.send(0);
    assert!(lab.server.stop().unwrap().success());
    lab.server = Trilobite::start(lab.dir.path(), &["--free-disk-reserve", "1000TiB"]).unwrap();
    lab.check(1, "full disk");
    for answer in lab.try_send(1) {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(
            answer.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0),
            "{answer:?}"
        );
    }
    check_grpc_is_unavailable(&lab);
    assert_eq!(lab.own_metric("trilobite_disk_full "), "trilobite_disk_full 1");
    assert!(lab.server.log().contains("disk nearly full"), "{}", lab.server.log());
    assert!(lab.server.stop().unwrap().success());

    lab.server = Trilobite::start(lab.dir.path(), &["--enable-admin-api"]).unwrap();
    lab.send(1);
    lab.check(2, "space is back");
}

/// With so little memory that nothing fits.
#[test]
fn overload_is_unavailable_and_says_when_to_come_back() {
    let mut lab = Lab::start();
    assert!(lab.server.stop().unwrap().success());
    lab.server = Trilobite::start(lab.dir.path(), &["--memory-limit", "1KiB"]).unwrap();
    for answer in lab.try_send(0) {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(
            answer.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0),
            "{answer:?}"
        );
    }
    check_grpc_is_unavailable(&lab);
    lab.check(0, "nothing was stored in part");
}

fn check_grpc_is_unavailable(lab: &Lab) {
    let at = format!("http://{}", lab.server.otlp_grpc());
    let now = senders::now_ns();
    let spans = senders::spans(RUN, 1, now);
    let logs = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs {
                log_records: vec![LogRecord {
                    time_unix_nano: now,
                    severity_text: "more than the memory that is allowed ".repeat(100),
                    ..LogRecord::default()
                }],
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    let point = NumberDataPoint {
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(1.0)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "refused".repeat(500),
        data: Some(Data::Gauge(Gauge {
            data_points: vec![point],
        })),
        ..Metric::default()
    };
    let metrics = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![metric],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(async {
        [
            TraceServiceClient::connect(at.clone())
                .await
                .unwrap()
                .export(spans)
                .await
                .map(|_| ()),
            LogsServiceClient::connect(at.clone())
                .await
                .unwrap()
                .export(logs)
                .await
                .map(|_| ()),
            MetricsServiceClient::connect(at)
                .await
                .unwrap()
                .export(metrics)
                .await
                .map(|_| ()),
        ]
    });
    for result in refused {
        let status = result.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
        assert!(!status.details().is_empty(), "no RetryInfo: {status:?}");
    }
}
