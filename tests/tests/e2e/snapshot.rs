//! Backups: `trilobite snapshot` and the admin API save all three signals, and a Trilobite starts from what was saved.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use trilobite_tests::{Trilobite, binary, post, request};

use crate::senders;

fn snapshot(dir: &Path, prometheus: &str) -> Output {
    Command::new(binary().unwrap())
        .args(["snapshot", "--prometheus-addr", prometheus, "--data-dir"])
        .arg(dir)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The directory that the command printed.
fn saved(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", text(&output.stderr));
    PathBuf::from(text(&output.stdout))
}

/// One batch of each signal, named by its number.
fn send(server: &Trilobite, n: u64) {
    let now = senders::now_ns();
    let path = "/api/v1/write";
    let body = senders::remote_write(n, (now / 1_000_000) as i64);
    assert_eq!(
        request(server.prometheus(), "POST", path, &senders::WRITE_HEADERS, &body)
            .unwrap()
            .status,
        204
    );
    let body = senders::loki_json(n, now);
    let pushed = post(server.loki(), "/loki/api/v1/push", "application/json", &body).unwrap();
    assert_eq!(pushed.status, 204);
    let body = senders::spans_protobuf(5, n, now);
    let taken = post(server.otlp_http(), "/v1/traces", "application/x-protobuf", &body).unwrap();
    assert_eq!(taken.status, 200);
}

/// What a server has of all batches: the highest number among samples, the numbers among lines and traces.
fn holds(server: &Trilobite) -> (Option<String>, usize, usize) {
    (
        server.promql_value("max(max_over_time(sent[1h]))"),
        server.lines("{sender=\"loki\"}").unwrap().len() / senders::ITEMS as usize,
        server.traceql("{resource.service.name=\"sender\"}").unwrap().len(),
    )
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_snapshot_of_a_running_process_holds_all_that_was_acknowledged_and_starts_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Trilobite::start(&data, &["--enable-admin-api"]).unwrap();
    send(&server, 1);
    send(&server, 2);
    let first = saved(&snapshot(&data, &server.prometheus().to_string()));
    assert!(first.starts_with(data.join("snapshots")), "{first:?}");
    send(&server, 3);
    let answer = request(server.prometheus(), "POST", "/api/v1/admin/snapshot", &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.json()["data"]["name"].as_str().unwrap().to_owned();
    assert_eq!(holds(&server), (Some("3".to_owned()), 3, 3));
    server.kill().unwrap();

    // As a backup is restored: copied to another place, the first data directory gone.
    let [before, after] = ["before", "after"].map(|name| dir.path().join(name));
    copy(&first, &before);
    copy(&data.join("snapshots").join(name), &after);
    std::fs::remove_dir_all(&data).unwrap();
    let mut restored = Trilobite::start(&before, &[]).unwrap();
    assert_eq!(holds(&restored), (Some("2".to_owned()), 2, 2));
    send(&restored, 4);
    assert_eq!(holds(&restored), (Some("4".to_owned()), 3, 3));
    assert!(restored.stop().unwrap().success());
    let restored = Trilobite::start(&after, &[]).unwrap();
    assert_eq!(holds(&restored), (Some("3".to_owned()), 3, 3));
}

/// Who stopped the process, or lost it to `kill -9`, still gets everything: the WAL is replayed first.
#[test]
fn without_a_process_the_directory_is_saved_as_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Trilobite::start(&data, &[]).unwrap();
    let addr = server.prometheus().to_string();
    send(&server, 1);
    let refused = snapshot(&data, &addr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("--enable-admin-api"),
        "{}",
        text(&refused.stderr)
    );
    server.kill().unwrap();
    let copied = dir.path().join("copy");
    copy(&saved(&snapshot(&data, &addr)), &copied);
    let restored = Trilobite::start(&copied, &[]).unwrap();
    assert_eq!(holds(&restored), (Some("1".to_owned()), 1, 1));

    let nowhere = snapshot(&dir.path().join("mistyped"), "127.0.0.1:1");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(
        text(&nowhere.stderr).contains("no such data directory"),
        "{}",
        text(&nowhere.stderr)
    );
    assert!(!dir.path().join("mistyped").exists());
}

/// Someone else's answer is no snapshot, and a running process is never taken for a stopped one.
#[test]
fn the_wrong_port_is_said_to_be_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Trilobite::start(&data, &["--enable-admin-api"]).unwrap();
    let other = snapshot(&data, &server.loki().to_string());
    assert!(
        text(&other.stderr).contains("--prometheus-addr"),
        "{}",
        text(&other.stderr)
    );
    let locked = snapshot(&data, "127.0.0.1:1");
    assert!(
        text(&locked.stderr).contains("a trilobite that runs has it open"),
        "{}",
        text(&locked.stderr)
    );
}
