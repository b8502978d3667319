//! Rules and alerts at all doors: filters and pages of Prometheus' API, Loki's rule API, the pages for people. The rules are
//! evaluated for real, over the lab's storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Body;
use http::{Request, StatusCode};
use lab::{Answer, Lab, NOW, ask, get};
use model::{LabelSet, SampleBatch};
use query_rules::{
    Dialect, Group, GroupError, GroupStatus, KeptGroups, Notify, OutgoingAlert, Ruler, Settings, read_groups,
};
use serde_json::{Value, json};
use ui_api::Rules;

const METRICS: &str = r#"
groups:
  - name: first
    interval: 15s
    limit: 9
    rules:
      - record: job:up:sum
        expr: sum by(job) (up)
        labels: {team: a}
      - alert: Down
        expr: up == 0
        for: 1m
        keep_firing_for: 30s
        labels: {severity: page}
        annotations: {summary: "{{ $labels.job }} is down", more: x}
  - name: second
    labels: {team: b}
    rules:
      - alert: Quiet
        expr: up > 9
      - {record: "bad", expr: "up + on (x) group_left () up"}
"#;

const LOGS: &str = r#"
groups:
  - name: lines
    rules:
      - {alert: Loud, expr: 'count_over_time({app="none"}[1m]) > 1'}
"#;

/// As the server does it.
struct Book {
    ruler: Ruler,
    kept: KeptGroups,
    of_files: Vec<Group>,
    /// Where changes end up; the groups of files come first.
    loaded: Mutex<()>,
}

impl Book {
    fn load(&self) {
        let _one = self.loaded.lock().unwrap();
        let groups = self.of_files.iter().cloned().chain(self.kept.all()).collect();
        self.ruler.load(groups, NOW * 1000);
    }
}

struct Nobody;

impl Notify for Nobody {
    fn notify(&self, _: Vec<OutgoingAlert>) {}
}

/// Filled when the storage is there.
#[derive(Default)]
struct Late(OnceLock<Book>);

impl Rules for Late {
    fn groups(&self) -> Vec<GroupStatus> {
        self.0.get().unwrap().ruler.groups()
    }

    fn made(&self) -> Vec<Group> {
        self.0.get().unwrap().kept.all()
    }

    fn make(&self, namespace: &str, yaml: &str) -> Result<(), GroupError> {
        let book = self.0.get().unwrap();
        book.kept.set(namespace, yaml)?;
        book.load();
        Ok(())
    }

    fn unmake(&self, namespace: &str, name: Option<&str>) -> Result<bool, GroupError> {
        let book = self.0.get().unwrap();
        let was_there = book.kept.remove(namespace, name)?;
        book.load();
        Ok(was_there)
    }
}

async fn lab() -> Lab {
    let rules = Arc::new(Late::default());
    let lab = Lab::with(|about| about.rules = rules.clone());
    let read = |path: &str, text: &str, dialect| {
        let (groups, faults) = read_groups(path, text, dialect);
        assert!(faults.is_empty(), "{faults:?}");
        groups
    };
    let mut of_files = read("/etc/rules/metrics.yaml", METRICS, Dialect::PromQl);
    of_files.extend(read("/etc/rules/loki/lines.yaml", LOGS, Dialect::LogQl));
    let (kept, faults) = KeptGroups::open(lab.storage.clone());
    assert!(faults.is_empty(), "{faults:?}");
    let settings = Settings {
        restore: false,
        ..Settings::default()
    };
    let book = Book {
        ruler: Ruler::new(lab.storage.clone(), settings, Arc::new(Nobody)),
        kept,
        of_files,
        loaded: Mutex::default(),
    };
    book.load();
    rules.0.set(book).ok().unwrap();
    let mut batch = SampleBatch::default();
    for (job, value) in [("shop", 0.0), ("mail", 1.0)] {
        let series = batch.series_of(&LabelSet::from_pairs([("__name__", "up"), ("job", job)]));
        for ago in [120, 60, 0] {
            batch.sample(series, lab::ms(NOW - ago), value);
        }
    }
    lab.storage.append_samples(&batch).await.unwrap();
    for ago in [60, 0] {
        rules.0.get().unwrap().ruler.evaluate_all((NOW - ago) * 1000).await;
    }
    lab
}

async fn rules(lab: &Lab, query: &[(&str, &str)]) -> Value {
    let answer = get(&lab.prometheus, "/api/v1/rules", query).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json()["data"].clone()
}

/// `group/rule` of each rule.
fn names(data: &Value) -> Vec<String> {
    let groups = data["groups"].as_array().unwrap();
    let each = groups.iter().flat_map(|group| {
        let rules = group["rules"].as_array().unwrap().iter();
        rules.map(|rule| format!("{}/{}", group["name"].as_str().unwrap(), rule["name"].as_str().unwrap()))
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_tells_rules_over_metrics_as_grafana_reads_them() {
    let lab = lab().await;
    let data = rules(&lab, &[]).await;
    assert_eq!(
        names(&data),
        ["first/job:up:sum", "first/Down", "second/Quiet", "second/bad"]
    );
    let group = &data["groups"][0];
    assert_eq!(
        (&group["file"], &group["interval"], &group["limit"]),
        (&json!("/etc/rules/metrics.yaml"), &json!(15), &json!(9))
    );
    assert!(
        group["lastEvaluation"]
            .as_str()
            .unwrap()
            .starts_with("2025-10-22T10:20:00"),
        "{group}"
    );
    let recording = &group["rules"][0];
    assert_eq!(
        (
            &recording["type"],
            &recording["query"],
            &recording["labels"],
            &recording["health"]
        ),
        (
            &json!("recording"),
            &json!("sum by (job) (up)"),
            &json!({"team": "a"}),
            &json!("ok")
        )
    );
    assert!(
        recording.get("lastError").is_none() && recording.get("state").is_none(),
        "{recording}"
    );
    let alerting = &group["rules"][1];
    assert_eq!(
        (
            &alerting["state"],
            &alerting["duration"],
            &alerting["keepFiringFor"],
            &alerting["labels"]
        ),
        (&json!("firing"), &json!(60), &json!(30), &json!({"severity": "page"}))
    );
    // Templates in the definition, texts in the alert.
    assert_eq!(
        alerting["annotations"],
        json!({"more": "x", "summary": "{{ $labels.job }} is down"})
    );
    let alert = json!({
        "labels": {"alertname": "Down", "job": "shop", "severity": "page"},
        "annotations": {"more": "x", "summary": "shop is down"},
        "state": "firing", "activeAt": "2025-10-22T10:19:00Z", "value": "0e+00",
    });
    assert_eq!(alerting["alerts"], json!([alert]));
    let quiet = &data["groups"][1]["rules"][0];
    assert_eq!(
        (&quiet["state"], &quiet["labels"], &quiet["alerts"]),
        (&json!("inactive"), &json!({"team": "b"}), &json!([]))
    );
    let bad = &data["groups"][1]["rules"][1];
    assert_eq!(bad["health"], json!("err"), "{bad}");
    assert!(!bad["lastError"].as_str().unwrap().is_empty());
    let alerts = get(&lab.prometheus, "/api/v1/alerts", &[]).await.json();
    assert_eq!(alerts["data"], json!({"alerts": [alert]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_what_is_not_asked_for() {
    let lab = lab().await;
    for (query, expected) in [
        (&[("type", "alert")][..], &["first/Down", "second/Quiet"][..]),
        (&[("type", "RECORD")], &["first/job:up:sum", "second/bad"]),
        (
            &[("rule_name[]", "Down"), ("rule_name[]", "bad")],
            &["first/Down", "second/bad"],
        ),
        (&[("rule_name", "Down")], &["first/Down"]),
        (&[("rule_group[]", "second")], &["second/Quiet", "second/bad"]),
        (
            &[
                ("file[]", "/etc/rules/metrics.yaml"),
                ("type", "alert"),
                ("rule_group", "first"),
            ],
            &["first/Down"],
        ),
        (&[("file[]", "metrics.yaml")], &[]),
        (&[("match[]", "{severity=~\"p.*\"}")], &["first/Down"]),
        (
            &[("match[]", "{team=\"b\"}"), ("match[]", "{team=\"a\"}")],
            &["first/job:up:sum", "second/Quiet", "second/bad"],
        ),
        (&[("unknown", "x"), ("rule_name[]", "nobody")], &[]),
    ] {
        assert_eq!(names(&rules(&lab, query).await), expected, "{query:?}");
    }
    let without = rules(&lab, &[("exclude_alerts", "True"), ("rule_name[]", "Down")]).await;
    assert_eq!(without["groups"][0]["rules"][0]["alerts"], Value::Null);
    assert_eq!(without["groups"][0]["rules"][0]["state"], "firing");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_page_by_page() {
    let lab = lab().await;
    let first = rules(&lab, &[("group_limit", "1")]).await;
    assert_eq!(names(&first), ["first/job:up:sum", "first/Down"]);
    let token = first["groupNextToken"].as_str().unwrap();
    let second = rules(&lab, &[("group_limit", "1"), ("group_next_token", token)]).await;
    assert_eq!(names(&second), ["second/Quiet", "second/bad"]);
    assert!(second.get("groupNextToken").is_none(), "{second}");
    // A group of which a filter leaves nothing takes no place.
    let filtered = rules(&lab, &[("group_limit", "1"), ("rule_name[]", "Quiet")]).await;
    assert_eq!(names(&filtered), ["second/Quiet"]);
    let stale = get(
        &lab.prometheus,
        "/api/v1/rules",
        &[("group_limit", "1"), ("group_next_token", "00")],
    )
    .await;
    assert_eq!(stale.status, StatusCode::BAD_REQUEST);
    assert!(stale.text().contains("were rule groups changed?"), "{}", stale.text());
}

async fn change(lab: &Lab, method: &str, path: &str, body: &'static str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from(body))
        .unwrap();
    ask(&lab.loki, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_made_listed_and_deleted_over_lokis_api() {
    const GROUP: &str = "name: made\ninterval: 30s\nrules:\n- alert: Many\n  expr: rate({app=\"x\"}[1m]) > 5\n  for: 1m\n  labels: {a: b}\n";
    let lab = lab().await;
    for base in ["/loki/api/v1/rules", "/api/prom/rules"] {
        let list = get(&lab.loki, base, &[]).await;
        assert_eq!(
            (list.status, list.header("content-type")),
            (StatusCode::OK, "application/yaml")
        );
        assert!(list.text().starts_with("lines.yaml:\n"), "{}", list.text());
        let none = get(&lab.loki, &format!("{base}/my%2Fspace"), &[]).await;
        assert_eq!(
            (none.status, none.text()),
            (StatusCode::NOT_FOUND, "no rule groups found\n")
        );
        let none = get(&lab.loki, &format!("{base}/my%2Fspace/made"), &[]).await;
        assert_eq!(
            (none.status, none.text()),
            (StatusCode::NOT_FOUND, "group does not exist\n")
        );

        let made = change(&lab, "POST", &format!("{base}/my%2Fspace"), GROUP).await;
        assert_eq!(made.status, StatusCode::ACCEPTED, "{}", made.text());
        assert_eq!(
            made.text(),
            r#"{"status":"success","data":null,"errorType":"","error":""}"#
        );
        let one = get(&lab.loki, &format!("{base}/my%2Fspace/made"), &[]).await;
        assert!(
            one.text().starts_with("name: made\ninterval: 30s\nrules:\n"),
            "{}",
            one.text()
        );
        let list = get(&lab.loki, base, &[("labels", "a:b")]).await;
        assert!(list.text().starts_with("my/space:\n- name: made\n"), "{}", list.text());
        let states = get(&lab.loki, "/prometheus/api/v1/rules", &[("file", "my/space")])
            .await
            .json();
        let rule = &states["data"]["groups"][0]["rules"][0];
        assert_eq!(
            (
                &rule["name"],
                &rule["query"],
                &rule["lastError"],
                &rule["health"],
                &rule["lastEvaluation"]
            ),
            (
                &json!("Many"),
                &json!("(rate({app=\"x\"}[1m]) > 5)"),
                &json!(""),
                &json!("unknown"),
                &json!("0001-01-01T00:00:00Z")
            )
        );
        // What is durable is there again for who opens the storage.
        assert_eq!(KeptGroups::open(lab.storage.clone()).0.all().len(), 1);

        let gone = change(&lab, "DELETE", &format!("{base}/my%2Fspace/made"), "").await;
        assert_eq!(gone.status, StatusCode::ACCEPTED);
        let gone = change(&lab, "DELETE", &format!("{base}/my%2Fspace/made"), "").await;
        assert_eq!(
            (gone.status, gone.text()),
            (StatusCode::NOT_FOUND, "group does not exist\n")
        );
        change(&lab, "POST", &format!("{base}/other"), GROUP).await;
        assert_eq!(
            change(&lab, "DELETE", &format!("{base}/other"), "").await.status,
            StatusCode::ACCEPTED
        );
        let gone = change(&lab, "DELETE", &format!("{base}/other"), "").await;
        assert_eq!(
            (gone.status, gone.text()),
            (StatusCode::NOT_FOUND, "group namespace does not exist\n")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_groups_and_those_of_files_are_refused() {
    let lab = lab().await;
    for (method, path, body, status, words) in [
        ("POST", "/ns", "a: [", 400, "unable to decoded rule group\n"),
        (
            "POST",
            "/ns",
            "name: g\nrules: [{expr: 'rate({a=\"b\"}[1m])'}]",
            400,
            "one of 'record' or 'alert' must be set",
        ),
        (
            "POST",
            "/ns",
            "name: g\nrules: [{alert: A, expr: '{a=\"b\"}'}]",
            400,
            "could not parse expression for alert 'A' in group 'g'",
        ),
        (
            "POST",
            "/lines.yaml",
            "name: lines\nrules: []",
            400,
            "SetRuleGroup unsupported in rule local store",
        ),
        (
            "DELETE",
            "/lines.yaml/lines",
            "",
            400,
            "DeleteRuleGroup unsupported in rule local store",
        ),
        (
            "DELETE",
            "/lines.yaml",
            "",
            400,
            "DeleteNamespace unsupported in rule local store",
        ),
        ("POST", "/..%2Fup", "name: g\nrules: []", 500, "path traversal"),
    ] {
        let answer = change(&lab, method, &format!("/api/prom/rules{path}"), body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(words), "{method} {path}: {}", answer.text());
        assert!(!answer.text().contains("page not found"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_show_rules_over_both() {
    let lab = lab().await;
    let shows = |path: &'static str, query: &'static [(&'static str, &'static str)]| get(&lab.prometheus, path, query);
    let all = shows("/rules", &[]).await;
    for words in [
        "job:up:sum",
        "/etc/rules/loki/lines.yaml",
        "logql, every 1m",
        "keep firing for 30s",
        "query?g0.expr=up%20%3D%3D%200",
    ] {
        assert!(all.text().contains(words), "{words}: {}", all.text());
    }
    let failing = shows("/rules", &[("state", "failing")]).await;
    assert!(
        failing.text().contains("<b>bad</b>") && !failing.text().contains("job:up:sum"),
        "{}",
        failing.text()
    );
    let firing = shows("/alerts", &[("state", "firing")]).await;
    assert!(
        firing.text().contains("1 firing, 0 pending, 2 inactive"),
        "{}",
        firing.text()
    );
    assert!(
        firing.text().contains("shop is down") && !firing.text().contains("Loud"),
        "{}",
        firing.text()
    );
}
