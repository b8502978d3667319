//! Rules as their users see them: files in a folder, recordings and alerts over metrics and logs, a crash, a reload.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use trilobite_tests::{Trilobite, binary, escaped, get, post, request};

use crate::senders::{Series, WRITE_HEADERS, now_ns, write_request};

pub(crate) const METRICS: &str = "groups:
- name: metrics
  interval: 1s
  rules:
  - {record: 'm:twice', expr: 'm * 2', labels: {kind: recorded}}
  - alert: HighMetric
    expr: 'm:twice > 1'
    for: 12s
    labels: {severity: page}
    annotations: {summary: '{{ $labels.i }} is at {{ $value }}'}
";

pub(crate) const LOGS: &str = r#"groups:
- name: logs
  interval: 1s
  rules:
  - {record: 'app:errors', expr: 'sum by (app) (count_over_time({app="rules"} |= "error" [10s]))'}
  - alert: LogErrors
    expr: 'sum by (app) (count_over_time({app="rules"} |= "error" [10s])) > 0'
    for: 12s
"#;

/// Waits until `look` gives something.
pub(crate) fn wait<T>(what: &str, server: &Trilobite, look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} does not come about\n{}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a PromQL expression says: labels and value of each element.
fn ask(server: &Trilobite, expr: &str) -> Vec<(Value, f64)> {
    let path = format!("/api/v1/query?query={}", escaped(expr));
    let Ok(answer) = get(server.prometheus(), &path) else {
        return Vec::new();
    };
    let result = answer.json()["data"]["result"].clone();
    let elements = result.as_array().cloned().unwrap_or_default().into_iter();
    elements
        .map(|e| {
            let value = e["value"][1].as_str().unwrap_or_default().parse();
            (e["metric"].clone(), value.unwrap_or(f64::NAN))
        })
        .collect()
}

fn number(server: &Trilobite, expr: &str) -> Option<f64> {
    ask(server, expr).first().map(|(_, v)| *v)
}

pub(crate) fn put(server: &Trilobite, value: f64) {
    let series = Series {
        labels: vec![("__name__", "m"), ("i", "one")],
        samples: vec![((now_ns() / 1_000_000) as i64, value)],
    };
    let body = write_request(&[series]);
    let answer = request(server.prometheus(), "POST", "/api/v1/write", &WRITE_HEADERS, &body).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

pub(crate) fn log(server: &Trilobite) {
    let t = now_ns();
    let body = format!(r#"{{"streams":[{{"stream":{{"app":"rules"}},"values":[["{t}","an error at {t}"]]}}]}}"#);
    let answer = post(server.loki(), "/loki/api/v1/push", "application/json", body.as_bytes()).unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn start(dir: &Path) -> Trilobite {
    let rules = dir.join("rules");
    std::fs::create_dir_all(&rules).unwrap();
    std::fs::write(rules.join("m.yml"), METRICS).unwrap();
    std::fs::write(rules.join("l.logql.yml"), LOGS).unwrap();
    let rules = rules.display().to_string();
    let args = [
        "--rules-dir",
        &rules,
        "--rules-for-grace-period",
        "0s",
        "--enable-lifecycle",
    ];
    Trilobite::start(&dir.join("data"), &args).unwrap()
}

/// Seconds for which an alert has been active, as its stored state says.
pub(crate) fn held(server: &Trilobite, alert: &str) -> Option<f64> {
    let series = format!("ALERTS_FOR_STATE{{alertname=\"{alert}\"}}");
    number(server, &format!("timestamp({series}) - {series}"))
}

pub(crate) fn state(server: &Trilobite, alert: &str) -> Option<String> {
    let alerts = ask(server, &format!("ALERTS{{alertname=\"{alert}\"}}"));
    Some(alerts.first()?.0["alertstate"].as_str()?.to_owned())
}

#[test]
fn alerts_on_metrics_and_logs_wait_through_a_crash_fire_and_resolve() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    put(&server, 1.0);
    log(&server);
    let alerts = ["HighMetric", "LogErrors"];
    for alert in alerts {
        // As long as it is not there, the line is: only what is newer than ten seconds counts.
        wait("a pending alert", &server, || {
            log(&server);
            (state(&server, alert)? == "pending").then_some(())
        });
    }
    assert_eq!(number(&server, "m:twice{kind=\"recorded\",i=\"one\"}"), Some(2.0));
    assert!(number(&server, "app:errors{app=\"rules\"}") >= Some(1.0));
    let before: Vec<f64> = (alerts.iter())
        .map(|alert| {
            wait("some time held", &server, || {
                log(&server);
                held(&server, alert).filter(|held| *held >= 5.0)
            })
        })
        .collect();
    log(&server);
    server.kill().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let restarted_at = now_ns() as f64 / 1e9;
    server.restart().unwrap();
    for (alert, before) in alerts.into_iter().zip(before) {
        // What is written after the restart says that the alert goes on; had it begun anew, it would have been held for
        // two evaluations.
        let after = wait("the alert's state", &server, || {
            log(&server);
            let since = number(
                &server,
                &format!("timestamp(ALERTS_FOR_STATE{{alertname=\"{alert}\"}})"),
            )?;
            held(&server, alert).filter(|_| since > restarted_at)
        });
        assert!(
            after >= before - 1.0,
            "{alert}: held for {before} s, after the restart for {after} s"
        );
    }
    for alert in alerts {
        wait("a firing alert", &server, || {
            log(&server);
            (state(&server, alert)? == "firing").then_some(())
        });
    }
    put(&server, 0.0);
    for alert in alerts {
        wait("a resolved alert", &server, || {
            state(&server, alert).is_none().then_some(())
        });
    }
    let metrics = get(server.prometheus(), "/metrics").unwrap().text();
    for name in [
        "prometheus_rule_evaluations_total",
        "prometheus_rule_group_iterations_total",
        "prometheus_rule_group_interval_seconds",
    ] {
        let line = metrics
            .lines()
            .find(|l| l.starts_with(name) && l.contains("m.yml;metrics\""));
        let value: f64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= 1.0, "{line:?}");
    }
    assert!(server.stop().unwrap().success());
}

/// Acceptance row G3: the questions that Grafana's alerting pages ask of each datasource, and what they read in the answers.
#[test]
fn the_alerting_pages_list_rules_over_metrics_and_logs() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path());
    put(&server, 1.0);
    wait("alerts over both", &server, || {
        log(&server);
        (state(&server, "HighMetric").is_some() && state(&server, "LogErrors").is_some()).then_some(())
    });
    let build = get(server.prometheus(), "/api/v1/status/buildinfo").unwrap();
    assert_eq!(build.status, 200);
    assert_eq!(build.json()["data"].get("features"), None, "rules are read, not edited");
    // Metrics: no rule of logs is among them, nor the other way round.
    let rules_at = |address, path: &str| {
        let answer = get(address, path).unwrap();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "application/json")
        );
        answer.json()["data"].clone()
    };
    for (address, base, group, recording, alert) in [
        (server.prometheus(), "", "metrics", "m:twice", "HighMetric"),
        (server.loki(), "/prometheus", "logs", "app:errors", "LogErrors"),
    ] {
        // As long as they are new, the lines count.
        log(&server);
        let rules = rules_at(address, &format!("{base}/api/v1/rules"));
        let groups = rules["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 1, "{rules}");
        assert_eq!(
            (groups[0]["name"].as_str(), groups[0]["interval"].as_f64()),
            (Some(group), Some(1.0))
        );
        assert!(
            groups[0]["file"].is_string() && groups[0]["lastEvaluation"].is_string(),
            "{rules}"
        );
        let [recorded, alerting] = &groups[0]["rules"].as_array().unwrap()[..] else {
            panic!("{rules}");
        };
        for (rule, name, kind) in [(recorded, recording, "recording"), (alerting, alert, "alerting")] {
            assert_eq!((rule["name"].as_str(), rule["type"].as_str()), (Some(name), Some(kind)));
            assert_eq!(rule["health"], "ok", "{rule}");
            assert!(
                rule["query"].is_string() && rule["evaluationTime"].is_number(),
                "{rule}"
            );
        }
        // On a slow machine it fires meanwhile.
        assert!(
            ["pending", "firing"].contains(&alerting["state"].as_str().unwrap()),
            "{rules}"
        );
        assert_eq!(alerting["duration"].as_f64(), Some(12.0));
        assert_eq!(alerting["alerts"][0]["labels"]["alertname"], alert);
        let alerts = rules_at(address, &format!("{base}/api/v1/alerts"));
        let named = alerts["alerts"].as_array().unwrap();
        assert_eq!(named.len(), 1, "{alerts}");
        assert_eq!(named[0]["labels"], alerting["alerts"][0]["labels"]);
        assert!(
            named[0]["activeAt"].is_string() && named[0]["value"].is_string(),
            "{alerts}"
        );
    }
    // Of Loki it also asks for a group that is not there: the words say that there may be some.
    let probe = get(server.loki(), "/api/prom/rules/test/test").unwrap();
    assert_eq!((probe.status, probe.text().trim()), (404, "group does not exist"));
    let listed = get(server.loki(), "/api/prom/rules").unwrap();
    assert_eq!(
        (listed.status, listed.header("content-type")),
        (200, "application/yaml")
    );
    assert!(listed.text().contains("alert: LogErrors") && !listed.text().contains("HighMetric"));
    assert!(server.stop().unwrap().success());
}

#[test]
fn a_reload_takes_what_is_good_and_keeps_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path());
    put(&server, 1.0);
    wait("a pending alert", &server, || state(&server, "HighMetric"));
    let since = number(&server, "ALERTS_FOR_STATE{alertname=\"HighMetric\"}").unwrap();
    let bad = METRICS.replace("for: 12s", "for: ages");
    let good = LOGS.replace("app:errors", "app:faults");
    std::fs::write(dir.path().join("rules/m.yml"), &bad).unwrap();
    std::fs::write(dir.path().join("rules/l.logql.yml"), &good).unwrap();
    let answer = request(server.prometheus(), "POST", "/-/reload", &[], b"").unwrap();
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(
        text.contains(
            "rules/m.yml:8:10: group \"metrics\", rule 2, \"HighMetric\": for: not a valid duration string: \"ages\""
        ),
        "{text}"
    );
    log(&server);
    wait("the new rule", &server, || {
        log(&server);
        number(&server, "app:faults")
    });
    wait("the end of the old rule", &server, || {
        number(&server, "app:errors").is_none().then_some(())
    });
    wait("the old alert still firing", &server, || {
        (state(&server, "HighMetric")? == "firing").then_some(())
    });
    assert_eq!(
        number(&server, "ALERTS_FOR_STATE{alertname=\"HighMetric\"}"),
        Some(since)
    );
    // SIGHUP does the same: a group is taken out, and its series end.
    std::fs::remove_file(dir.path().join("rules/m.yml")).unwrap();
    let status = Command::new("kill")
        .args(["-HUP", &server.pid().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    wait("the end of the group", &server, || {
        state(&server, "HighMetric").is_none().then_some(())
    });
}

#[test]
fn rule_files_are_checked_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("m.yml"), METRICS).unwrap();
    std::fs::write(path("l.logql.yml"), LOGS).unwrap();
    std::fs::write(path("prometheus.yml"), "rule_files: ['*.yml.bad', 'm.yml']\n").unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(binary().unwrap()).args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(&["check-rules", &path("m.yml"), &path("l.logql.yml")]);
    assert_eq!(
        (code, text.trim()),
        (Some(0), "rules are valid: 2 files, 2 groups, 4 rules")
    );
    let (code, text) = run(&["check-config", &path("prometheus.yml")]);
    assert!(code == Some(0) && text.contains("1 files, 1 groups, 2 rules"), "{text}");
    std::fs::write(path("x.yml.bad"), METRICS.replace("m * 2", "m * ")).unwrap();
    for args in [
        vec!["check-rules".to_owned(), path("m.yml"), path("x.yml.bad")],
        vec!["check-config".to_owned(), path("prometheus.yml")],
    ] {
        let (code, text) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(code, Some(1), "{text}");
        let fault = "x.yml.bad:5:31: group \"metrics\", rule 1, \"m:twice\": could not parse expression: 1:5: parse error: unexpected end of input";
        assert!(text.contains(fault), "{text}");
    }
    let (code, text) = run(&["check-rules", &path("nowhere.yml")]);
    assert!(code == Some(1) && text.contains("nowhere.yml: No such file"), "{text}");
}
