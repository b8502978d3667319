//! The answers that real peers gave, asked of the real binary: no difference beyond float noise.
//! How they were recorded: `tests/src/bin/differential.rs`.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use trilobite_tests::Trilobite;
use trilobite_tests::differential::{Loki, Peer, Prometheus, Server, Tempo, replay};

#[test]
fn answers_are_those_of_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention-metrics", "36500d", "--wal-sync", "never"];
    let server = Trilobite::start(dir.path(), &flags).unwrap();
    check::<Prometheus>(server.prometheus(), server.prometheus());
}

#[test]
fn answers_are_those_of_loki() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention-logs", "36500d", "--wal-sync", "never"];
    let server = Trilobite::start(dir.path(), &flags).unwrap();
    check::<Loki>(server.loki(), server.loki());
}

#[test]
fn answers_are_those_of_tempo() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--retention-traces", "36500d", "--wal-sync", "never"];
    let server = Trilobite::start(dir.path(), &flags).unwrap();
    check::<Tempo>(server.tempo(), server.otlp_http());
}

fn check<P: Peer>(api: std::net::SocketAddr, ingest: std::net::SocketAddr) {
    let server = Server { api, ingest };
    P::write(server, P::SEED).unwrap();
    let tally = replay::<P>(server, |_| true).unwrap();
    let differences = &tally.differences;
    assert!(
        differences.is_empty(),
        "{} of {} answers differ, among them\n{}",
        differences.len(),
        tally.asked,
        differences[..differences.len().min(20)].join("\n")
    );
}
