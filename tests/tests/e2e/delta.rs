//! Delta temporality and exponential histograms from the OpenTelemetry Python SDK: totals go on over a restart, and
//! over a crash `increase` has all that was counted.

use std::process::Command;

use trilobite_tests::{Trilobite, get, python, repository};

fn run_app(server: &Trilobite) {
    let output = Command::new(python().unwrap())
        .arg(repository().join("tests/clients/delta_histograms.py"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", server.otlp_http()))
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(out.contains(r#""flushed": true"#), "{out}\n{err}\n{}", server.log());
    assert!(!err.contains("rejected") && !err.contains("Failed to export"), "{err}");
}

fn value(server: &Trilobite, query: &str) -> f64 {
    let json = get(server.prometheus(), &format!("/api/v1/query?query={query}"))
        .unwrap()
        .json();
    let text = json["data"]["result"][0]["value"][1].as_str();
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{query}: {json}"))
}

/// Totals after so many runs of the app.
fn check(server: &Trilobite, runs: f64) {
    for (query, want) in [
        ("lab_jobs_total{job=\"delta\",instance=\"one\"}", 6.0),
        ("histogram_count(lab_native_seconds)", 6.0),
        ("histogram_sum(lab_native_seconds)", 13.5),
        (
            "histogram_fraction(2,4,lab_native_seconds)*histogram_count(lab_native_seconds)",
            3.0,
        ),
        ("lab_explicit_seconds_count", 6.0),
        ("lab_explicit_seconds_sum", 13.5),
        ("lab_explicit_seconds_bucket{le=\"2\"}", 3.0),
        ("lab_explicit_seconds_bucket{le=\"%2BInf\"}", 6.0),
    ] {
        let got = value(server, query);
        assert!((got - want * runs).abs() < 1e-6, "{query}: {got} after {runs} runs");
    }
}

#[test]
fn delta_totals_go_on_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    run_app(&server);
    check(&server, 1.0);
    assert!(server.stop().unwrap().success(), "{}", server.log());
    server.restart().unwrap();
    check(&server, 1.0);
    run_app(&server);
    check(&server, 2.0);
}

/// What was counted in the last minutes after so many runs of the app; `anchored`, so that nothing is stretched to the
/// window's ends.
fn check_increase(server: &Trilobite, runs: f64) {
    for (series, want) in [
        ("lab_jobs_total", 6.0),
        ("lab_explicit_seconds_count", 6.0),
        ("lab_explicit_seconds_sum", 13.5),
        ("lab_explicit_seconds_bucket{le=\"2\"}", 3.0),
    ] {
        let got = value(server, &format!("increase({series}[5m]%20anchored)"));
        assert!((got - want * runs).abs() < 1e-6, "{series}: {got} after {runs} runs");
    }
}

#[test]
fn increase_has_all_that_was_counted_over_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    run_app(&server);
    check_increase(&server, 1.0);
    for runs in [2.0, 3.0] {
        server.kill().unwrap();
        server.restart().unwrap();
        run_app(&server);
        // The totals began anew, at values that the run before had too.
        check(&server, 1.0);
        check_increase(&server, runs);
    }
}
