//! The command line as a person meets it: one-line errors with exit codes 1 and 2, check-config, healthcheck, version.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use trilobite_tests::{Trilobite, binary};

fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(binary().unwrap()).args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).trim().to_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The last line on stderr, which is the error; log lines may stand before it.
fn check_fails(args: &[&str], code: i32, words: &[&str]) {
    let (got, _, err) = run(args);
    let line = err.lines().last().unwrap_or_default();
    assert_eq!(got, code, "{args:?}: {err}");
    assert!(line.starts_with("trilobite: "), "{args:?}: {err}");
    assert!(
        line.matches("os error").count() <= 1,
        "the cause is told twice: {line:?}"
    );
    for word in words {
        assert!(line.contains(word), "{args:?}: {word:?} is missing in {line:?}");
    }
}

const OFF: [&str; 8] = [
    "--loki-addr",
    "off",
    "--tempo-addr",
    "off",
    "--otlp-http-addr",
    "off",
    "--otlp-grpc-addr",
    "off",
];

#[test]
fn faults_are_one_line_with_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    check_fails(&["--no-such-flag"], 2, &["--no-such-flag", "--help"]);
    check_fails(
        &["--wal-sync", "sometimes"],
        2,
        &["--wal-sync", "always, interval or never"],
    );
    check_fails(
        &["check-config", "--config", "/no/such/file.yaml"],
        2,
        &["/no/such/file.yaml"],
    );
    let config = dir.path().join("c.yaml");
    std::fs::write(&config, "data-dir: x\ncolour: red\n").unwrap();
    check_fails(
        &["serve", "--config", config.to_str().unwrap()],
        2,
        &["c.yaml:2", "colour"],
    );

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = busy.local_addr().unwrap().to_string();
    let with = |rest: &[&'static str]| -> Vec<String> {
        let mut args: Vec<String> = OFF.iter().chain(rest).map(|s| (*s).to_owned()).collect();
        args.extend(["--data-dir".to_owned(), path.to_owned()]);
        args
    };
    let mut args = with(&[]);
    args.extend(["--prometheus-addr".to_owned(), addr.clone()]);
    check_fails(
        &args.iter().map(String::as_str).collect::<Vec<_>>(),
        1,
        &["--prometheus-addr", &addr],
    );

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let mut args: Vec<&str> = OFF.to_vec();
    args.extend([
        "--prometheus-addr",
        "127.0.0.1:0",
        "--data-dir",
        inside.to_str().unwrap(),
    ]);
    check_fails(&args, 1, &["data directory", "cannot be used"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_data_directory_serves_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Trilobite::start(dir.path(), &[]).unwrap();
    let mut args: Vec<&str> = OFF.to_vec();
    args.extend([
        "--prometheus-addr",
        "127.0.0.1:0",
        "--data-dir",
        dir.path().to_str().unwrap(),
    ]);
    check_fails(&args, 1, &["in use by another trilobite", "--data-dir"]);
    assert!(first.is_running());
    assert!(first.stop().unwrap().success());
}

#[test]
fn healthcheck_check_config_and_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    let addr = server.prometheus().to_string();
    assert_eq!(run(&["healthcheck", "--prometheus-addr", &addr]).0, 0);
    server.kill().unwrap();
    assert_eq!(run(&["healthcheck", "--prometheus-addr", &addr]).0, 1);
    let (code, out, _) = run(&[
        "check-config",
        "--retention-logs",
        "3d",
        "--web.enable-remote-write-receiver",
    ]);
    assert_eq!(code, 0);
    assert!(
        out.contains("settings are valid") && out.contains("--web.enable-remote-write-receiver"),
        "{out}"
    );
    let (code, out, _) = run(&["--version"]);
    assert!(code == 0 && out.starts_with("trilobite "), "{out}");
}
