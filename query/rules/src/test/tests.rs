//! Test files of rules, read and run: what passes, what is told when something does not.

use super::*;
use crate::{Dialect, read_groups};

/// Runs all cases of a test file over one rule file; each failure with its case's name.
fn run(rules: &str, dialect: Dialect, tests: &str) -> Vec<String> {
    let (groups, faults) = read_groups("rules.yaml", rules, dialect);
    assert!(faults.is_empty(), "{faults:?}");
    let file = TestFile::read("test.yaml", tests).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut failures = Vec::new();
    for case in &file.cases {
        let scratch = tempfile::tempdir().unwrap();
        let found = runtime.block_on(file.run(case, &groups, scratch.path()));
        failures.extend(
            found
                .into_iter()
                .map(|failure| format!("{}: line {}: {}", case.name, failure.line, failure.what)),
        );
    }
    failures
}

fn check(rules: &str, tests: &str, expected: &[&str]) {
    assert_eq!(run(rules, Dialect::PromQl, tests), expected);
}

const DOWN: &str = r#"
groups:
  - name: g
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: Down
        expr: up == 0
        for: 2m
        labels: {severity: page}
        annotations: {summary: "{{ $labels.instance }} is down"}
"#;

#[test]
fn recordings_and_alerts_are_seen_as_time_passes() {
    check(
        DOWN,
        r#"
evaluation_interval: 1m
tests:
  - interval: 30s
    input_series:
      - {series: 'up{job="a", instance="x"}', values: '1x3 0x20'}
      - {series: 'up{job="a", instance="y"}', values: '1x23'}
    alert_rule_test:
      - {eval_time: 3m, alertname: Down}
      - {eval_time: 3m59s, alertname: Down}
      - eval_time: 4m
        alertname: Down
        exp_alerts:
          - exp_labels: {job: a, instance: x, severity: page}
            exp_annotations: {summary: x is down}
    promql_expr_test:
      - {expr: 'job:up:sum', eval_time: 1m, exp_samples: [{labels: 'job:up:sum{job="a"}', value: 2}]}
      - {expr: 'job:up:sum', eval_time: 5m, exp_samples: [{labels: 'job:up:sum{job="a"}', value: 1}]}
      - expr: ALERTS
        eval_time: 3m
        exp_samples:
          - {labels: 'ALERTS{alertname="Down", alertstate="pending", instance="x", job="a", severity="page"}', value: 1}
      - {expr: 'vector(3) + 1', eval_time: 0, exp_samples: [{labels: '{}', value: 4}]}
"#,
        &[],
    );
}

#[test]
fn differences_are_shown_line_by_line() {
    check(
        DOWN,
        r#"
tests:
  - name: down
    input_series:
      - {series: 'up{job="a", instance="x"}', values: '0x20'}
      - {series: 'up{job="a", instance="y"}', values: '0x20'}
    alert_rule_test:
      - eval_time: 5m
        alertname: Down
        exp_alerts:
          - exp_labels: {job: a, instance: x, severity: page}
            exp_annotations: {summary: x has gone}
          - exp_labels: {job: a, instance: z, severity: page}
      - {eval_time: 5m, alertname: Dwon, exp_alerts: [{}]}
    promql_expr_test:
      - {expr: 'up', eval_time: 1m, exp_samples: [{labels: 'up{job="a", instance="x"}', value: 1}]}
      - {expr: 'up[5m]', eval_time: 1m}
"#,
        &[
            "down: line 8: alert Down at 5m\n      {alertname=\"Down\", instance=\"x\", job=\"a\", severity=\"page\"}\n    -   summary: x has gone\n    +   summary: x is down\n    - {alertname=\"Down\", instance=\"z\", job=\"a\", severity=\"page\"}\n    + {alertname=\"Down\", instance=\"y\", job=\"a\", severity=\"page\"}\n    +   summary: y is down",
            "down: line 14: alert Dwon at 5m (no rule has this name)\n    - {alertname=\"Dwon\"}",
            "down: line 16: up at 1m\n    - {__name__=\"up\", instance=\"x\", job=\"a\"} 1\n    + {__name__=\"up\", instance=\"x\", job=\"a\"} 0\n    + {__name__=\"up\", instance=\"y\", job=\"a\"} 0",
            "down: line 17: up[5m] at 1m: rule result is not a vector or scalar",
        ],
    );
}

#[test]
fn rules_over_logs_are_tested_with_log_lines() {
    let rules = r#"
groups:
  - name: logs
    rules:
      - record: app:errors:count1m
        expr: sum by (app) (count_over_time({app=~".+"} | level="error" [1m]))
      - alert: Errors
        expr: sum by (app) (count_over_time({app=~".+"} |= "boo" [1m])) > 4
        annotations: {summary: "{{ $labels.app }}: {{ $value }}"}
"#;
    let tests = r#"
tests:
  - name: logs
    input_streams:
      - stream: '{app="shop"}'
        entries:
          - {line: boo, at: 10s, every: 10s, times: 30, metadata: {level: error}}
          - {line: ok, every: 1s, times: 300}
    alert_rule_test:
      - {eval_time: 0, alertname: Errors}
      - eval_time: 3m
        alertname: Errors
        exp_alerts: [{exp_labels: {app: shop}, exp_annotations: {summary: "shop: 6"}}]
      - {eval_time: 7m, alertname: Errors}
    promql_expr_test:
      - {expr: 'app:errors:count1m', eval_time: 2m, exp_samples: [{labels: 'app:errors:count1m{app="shop"}', value: 6}]}
    logql_expr_test:
      - {expr: 'count_over_time({app="shop"} |= "ok" [1m])', eval_time: 2m, exp_samples: [{labels: '{app="shop"}', value: 60}]}
"#;
    assert_eq!(run(rules, Dialect::LogQl, tests), [""; 0]);
}

#[test]
fn histograms_stale_markers_and_a_start_time() {
    check(
        "groups: []",
        r#"
evaluation_interval: 1m
fuzzy_compare: true
tests:
  - name: h
    start_timestamp: 2026-01-02T03:04:05Z
    input_series:
      - {series: h, values: '{{schema:1 count:2 sum:3 buckets:[1 1]}}+{{schema:1 count:2 buckets:[1 1]}}x5'}
      - {series: gone, values: '1 2 stale'}
      - {series: tenth, values: 0.1}
    promql_expr_test:
      - {expr: 'increase(h[2m])', eval_time: 5m, exp_samples: [{labels: '{}', histogram: '{{schema:1 count:4 counter_reset_hint:gauge buckets:[2 2]}}'}]}
      - {expr: gone, eval_time: 1m, exp_samples: [{labels: gone, value: 2}]}
      - {expr: gone, eval_time: 2m}
      - {expr: 'time()', eval_time: 1m, exp_samples: [{labels: '{}', value: 1767323105}]}
      - {expr: 'tenth * 3', eval_time: 0, exp_samples: [{labels: '{}', value: 0.3}]}
"#,
        &[],
    );
}

#[test]
fn a_rule_that_fails_ends_its_case() {
    let failures = run(
        "groups: [{name: g, rules: [{record: x, expr: 'up + on (job) group_left up'}]}]",
        Dialect::PromQl,
        r#"
tests:
  - name: t
    input_series:
      - {series: 'up{job="a", i="1"}', values: 1x5}
      - {series: 'up{job="a", i="2"}', values: 1x5}
    promql_expr_test: [{expr: x, eval_time: 5m}]
"#,
    );
    assert!(
        failures.len() == 1 && failures[0].starts_with("t: line 3: the rule x (rules.yaml:1) fails at 0s: "),
        "{failures:?}"
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    for (text, faults) in [
        (
            "tests: [{intervall: 1m}]",
            vec!["test.yaml:1:10: field \"intervall\" is unknown in a test"],
        ),
        (
            "tests:\n- alert_rule_test:\n  - eval_time: 1m",
            vec!["test.yaml:3:5: an item under alert_rule_test misses required attribute alertname"],
        ),
        (
            "group_eval_order: [a, a]",
            vec!["test.yaml:1:1: group name repeated in evaluation order: a"],
        ),
        (
            "tests: [{start_timestamp: soon}]",
            vec!["test.yaml:1:27: cannot parse \"soon\" to a valid timestamp"],
        ),
        (
            "tests: [{promql_expr_test: [{expr: a, exp_samples: [{labels: a, value: much}]}]}]",
            vec!["test.yaml:1:53: value \"much\" is no number"],
        ),
    ] {
        let found: Vec<String> = TestFile::read("test.yaml", text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, faults, "{text}");
    }
    let values = TestFile::read("t", "tests: [{input_series: [{series: a, values: 1+}]}]").unwrap_err();
    assert!(values[0].reason.contains("\"1+\""), "{values:?}");
}
