//! The lab's workload over the network: the real binary, synced as by default, takes remote write and Loki push while
//! dashboards ask. What counts is the CPU time of the server, which other work on the machine changes least.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use benches::remote_write::{labels, scrape};
use trilobite_tests::{Trilobite, request};

const SERIES: usize = 10_000;
const SCRAPES: usize = 240;
const SAMPLES_PER_REQUEST: usize = 2_000;
const PUSHES: usize = 400;
const LINES_PER_PUSH: usize = 500;

#[allow(clippy::print_stdout)] // the product of a benchmark
fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The requests' times are not of today.
    let server = Trilobite::start(dir.path(), &["--retention-metrics", "100y", "--retention-logs", "100y"]);
    let mut server = server.expect("the release binary starts (make build)");
    let cpu = |server: &Trilobite| cpu_seconds(server.pid());

    let labels: Vec<Vec<u8>> = (0..SERIES).map(labels).collect();
    let requests: Vec<Vec<u8>> = (0..SCRAPES)
        .flat_map(|n| scrape(&labels, n, SAMPLES_PER_REQUEST))
        .collect();
    let before = cpu(&server);
    for body in &requests {
        send(
            server.prometheus(),
            "/api/v1/write",
            "application/x-protobuf",
            Some("snappy"),
            body,
        );
    }
    tell("remote write, samples", SCRAPES * SERIES, cpu(&server) - before);

    let pushes: Vec<String> = (0..PUSHES).map(push).collect();
    let before = cpu(&server);
    for body in &pushes {
        send(
            server.loki(),
            "/loki/api/v1/push",
            "application/json",
            None,
            body.as_bytes(),
        );
    }
    tell(
        "Loki push (JSON), lines",
        PUSHES * LINES_PER_PUSH,
        cpu(&server) - before,
    );

    let start = benches::START_NS / 1_000_000_000;
    let end = start + SCRAPES as i64 * 15;
    let query = "sum%20by%20(host)%20(rate(lab_subsystem_operation_1_seconds_bucket%5B5m%5D))";
    let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step=15");
    let before = cpu(&server);
    for _ in 0..20 {
        let answer = request(server.prometheus(), "GET", &path, &[], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    tell("range queries of an hour", 20, cpu(&server) - before);
    println!("resident after it all: {} MB", resident_mb(server.pid()));
    server.stop().expect("stops");
}

fn send(addr: SocketAddr, path: &str, kind: &str, encoding: Option<&str>, body: &[u8]) {
    let mut headers = vec![("Content-Type", kind)];
    headers.extend(encoding.map(|encoding| ("Content-Encoding", encoding)));
    let answer = request(addr, "POST", path, &headers, body).expect("an answer");
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn push(n: usize) -> String {
    let entry = |i: usize| {
        let t = benches::START_NS + (n * LINES_PER_PUSH + i) as i64 * 1_000_000;
        let id = benches::noise((n * LINES_PER_PUSH + i) as u64 / 10);
        format!(
            r#"["{t}","level=info msg=\"request done\" path=/api/{} trace_id={id:016x}{id:016x}"]"#,
            i % 97
        )
    };
    let entries: Vec<String> = (0..LINES_PER_PUSH).map(entry).collect();
    format!(
        r#"{{"streams":[{{"stream":{{"app":"shop","env":"lab"}},"values":[{}]}}]}}"#,
        entries.join(",")
    )
}

#[allow(clippy::print_stdout)] // the product of a benchmark
fn tell(what: &str, items: usize, cpu: Duration) {
    let each = cpu.as_secs_f64() / items as f64;
    println!(
        "{what:<28} {:>12.0} a CPU second {:>12.1} µs each",
        1.0 / each,
        each * 1e6
    );
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> Duration {
    let stat = read(&format!("/proc/{pid}/stat"));
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn resident_mb(pid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|kb| kb.parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(path)).unwrap_or_default()
}
