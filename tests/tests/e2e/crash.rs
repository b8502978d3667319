//! `kill -9` under load: what was acknowledged is there afterwards, once; what was not can be sent again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use trilobite_tests::{Trilobite, get, request};

use crate::senders::{self, ITEMS};

/// How often the process is killed.
const ROUNDS: u64 = 6;

/// What a sender does with batch number `n` of its run.
type Send = Box<dyn Fn(&Ports, u64) -> bool + std::marker::Send>;

#[derive(Clone, Copy)]
struct Ports {
    prometheus: SocketAddr,
    loki: SocketAddr,
    otlp_http: SocketAddr,
}

fn ports(t: &Trilobite) -> Ports {
    Ports {
        prometheus: t.prometheus(),
        loki: t.loki(),
        otlp_http: t.otlp_http(),
    }
}

/// Sends batches one after another, each until it is acknowledged: a refused or broken request is sent again as it was,
/// also after the restart. Gives the number of acknowledged batches when told to stop.
fn run_sender(ports: Arc<Mutex<Ports>>, stop: Arc<AtomicBool>, send: Send) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut n = 0;
        loop {
            if send(&ports.lock().unwrap().clone(), n) {
                n += 1;
                if stop.load(Ordering::Relaxed) {
                    return n;
                }
            }
            std::thread::sleep(Duration::from_millis(4));
        }
    })
}

fn accepted(answer: anyhow::Result<trilobite_tests::Answer>) -> bool {
    match answer {
        Ok(a) => {
            assert!(a.status < 300 || a.status == 503, "refused: {} {}", a.status, a.text());
            assert!(!a.text().contains("partialSuccess"), "partly refused: {}", a.text());
            a.status < 300
        }
        Err(_) => false,
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &["--enable-admin-api"]).unwrap();
    let shared = Arc::new(Mutex::new(ports(&server)));
    let stop = Arc::new(AtomicBool::new(false));
    let base_ns = senders::now_ns() / 1_000_000 * 1_000_000;
    let run = base_ns;
    let at = move |n: u64| base_ns + n * 1_000_000;
    let json = &[("Content-Type", "application/json")];
    let proto = &[("Content-Type", "application/x-protobuf")];
    let snappy = &[
        ("Content-Type", "application/x-protobuf"),
        ("Content-Encoding", "snappy"),
    ];
    let sends: [Send; 4] = [
        Box::new(move |p, n| {
            accepted(request(
                p.otlp_http,
                "POST",
                "/v1/traces",
                proto,
                &senders::spans_protobuf(run, n, at(n)),
            ))
        }),
        Box::new(move |p, n| {
            accepted(request(
                p.loki,
                "POST",
                "/loki/api/v1/push",
                json,
                &senders::loki_json(n, at(n)),
            ))
        }),
        Box::new(move |p, n| {
            accepted(request(
                p.otlp_http,
                "POST",
                "/v1/logs",
                json,
                &senders::otlp_logs_json(n, at(n)),
            ))
        }),
        Box::new(move |p, n| {
            let body = senders::remote_write(n, (at(n) / 1_000_000) as i64);
            accepted(request(p.prometheus, "POST", "/api/v1/write", snappy, &body))
        }),
    ];
    let handles = sends.map(|send| run_sender(shared.clone(), stop.clone(), send));
    for round in 0..ROUNDS {
        let wait = 300 + senders::now_ns() / 1000 % 900;
        std::thread::sleep(Duration::from_millis(wait));
        if round % 3 == 1 {
            // A cut in the middle: some of the data is in blocks, some only in the WAL.
            let _ = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"");
        }
        server.kill().unwrap();
        let since = Instant::now();
        server.restart().unwrap();
        println!(
            "round {round}: killed after {wait} ms, ready again after {:?}",
            since.elapsed()
        );
        *shared.lock().unwrap() = ports(&server);
    }
    std::thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let [traces, loki, otlp, samples] = handles.map(|h| h.join().unwrap());
    println!("acknowledged batches of {ITEMS}: traces {traces}, loki {loki}, otlp logs {otlp}, samples {samples}");
    assert!(
        [traces, loki, otlp, samples].iter().all(|n| *n > 20),
        "the senders hardly sent anything"
    );

    for pass in ["after the last crash", "after a clean restart"] {
        check_spans(&server, run, traces, pass);
        check_lines(&server, r#"{sender="loki"}"#, base_ns, loki, pass);
        check_lines(&server, r#"{service_name="otlp-sender"}"#, base_ns, otlp, pass);
        check_samples(&server, (base_ns / 1_000_000) as i64, samples, pass);
        assert!(server.stop().unwrap().success());
        server.restart().unwrap();
    }
}

fn check_spans(server: &Trilobite, run: u64, batches: u64, pass: &str) {
    for n in 0..batches {
        let answer = get(server.tempo(), &format!("/api/traces/{}", senders::trace_id(run, n))).unwrap();
        assert_eq!(answer.status, 200, "{pass}: trace {n} of {batches}: {}", answer.text());
        let json = answer.json();
        let mut ids: Vec<String> = json["batches"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|b| b["scopeSpans"].as_array().cloned().unwrap_or_default())
            .flat_map(|s| s["spans"].as_array().cloned().unwrap_or_default())
            .map(|s| s["spanId"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(ids.len() as u64, ITEMS, "{pass}: trace {n}: spans missing or doubled");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len() as u64, ITEMS, "{pass}: trace {n}: spans doubled");
    }
}

fn check_lines(server: &Trilobite, selector: &str, base_ns: u64, batches: u64, pass: &str) {
    let selector: String = selector.bytes().map(|b| format!("%{b:02x}")).collect();
    let page = 5000 / ITEMS - 1;
    let mut first = 0;
    while first < batches {
        let (start, end) = (base_ns + first * 1_000_000, base_ns + (first + page) * 1_000_000);
        let path = format!("/loki/api/v1/query_range?query={selector}&start={start}&end={end}&limit=5000");
        let answer = get(server.loki(), &path).unwrap();
        assert_eq!(answer.status, 200, "{pass}: {}", answer.text());
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for stream in answer.json()["data"]["result"].as_array().into_iter().flatten() {
            for value in stream["values"].as_array().into_iter().flatten() {
                *seen
                    .entry(value[1].as_str().unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
        }
        for n in first..(first + page).min(batches) {
            for i in 0..ITEMS {
                assert_eq!(
                    seen.get(&senders::line(n, i)),
                    Some(&1),
                    "{pass}: {} of {batches}",
                    senders::line(n, i)
                );
            }
        }
        first += page;
    }
}

fn check_samples(server: &Trilobite, base_ms: i64, batches: u64, pass: &str) {
    let end = (base_ms + batches as i64) as f64 / 1000.0;
    let answer = get(server.prometheus(), &format!("/api/v1/query?query=sent[1h]&time={end}")).unwrap();
    assert_eq!(answer.status, 200, "{pass}: {}", answer.text());
    let json = answer.json();
    let series = json["data"]["result"].as_array().cloned().unwrap_or_default();
    assert_eq!(series.len() as u64, ITEMS, "{pass}: series");
    for s in series {
        let values: Vec<String> = s["values"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| v[1].as_str().unwrap_or_default().to_owned())
            .collect();
        let expected: Vec<String> = (0..batches).map(|n| n.to_string()).collect();
        assert_eq!(values, expected, "{pass}: {}", s["metric"]);
    }
}
