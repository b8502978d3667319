//! Rules over a real storage, on invented times: what they record, which alerts they raise, and what becomes of both when
//! rules change or the process starts again.
#![allow(clippy::unwrap_used)]

mod lab;

use std::sync::atomic::Ordering;

use lab::{Lab, MIN, START};
use query_rules::{AlertState, Health, Settings};

#[tokio::test]
async fn recordings_carry_labels_and_later_rules_read_them() {
    let lab = Lab::new();
    lab.load(
        "groups:
- name: g
  labels: {team: a, tier: x}
  rules:
  - {record: job:up:sum, expr: 'sum by (job, zone) (up)', labels: {team: b, zone: ''}}
  - {record: twice, expr: 'job:up:sum * 2'}
  - {record: number, expr: '42'}
",
    );
    lab.go_to(0.0);
    lab.put(&[("up{job=\"x\",zone=\"1\"}", 1.0), ("up{job=\"y\",zone=\"1\"}", 2.0)])
        .await;
    lab.at(0.0).await;
    assert_eq!(
        lab.ask("{__name__=~'job:up:sum|twice|number'}"),
        [
            r#"{__name__="job:up:sum", job="x", team="b", tier="x"} 1"#,
            r#"{__name__="job:up:sum", job="y", team="b", tier="x"} 2"#,
            r#"{__name__="number", team="a", tier="x"} 42"#,
            r#"{__name__="twice", job="x", team="a", tier="x"} 2"#,
            r#"{__name__="twice", job="y", team="a", tier="x"} 4"#,
        ]
    );
    let groups = lab.ruler.groups();
    assert_eq!(
        (groups[0].last_samples, groups[0].evaluations, groups[0].failures),
        (5, 3, 0)
    );
    assert!(
        groups[0]
            .rules
            .iter()
            .all(|rule| rule.health == Health::Ok && rule.state.is_none())
    );
}

#[tokio::test]
async fn a_series_that_vanishes_ends_at_once() {
    let lab = Lab::new();
    lab.load("groups: [{name: g, rules: [{record: r, expr: 'm > 1'}]}]");
    lab.go_to(0.0);
    lab.put(&[("m{i=\"1\"}", 5.0), ("m{i=\"2\"}", 5.0)]).await;
    lab.at(0.0).await;
    assert_eq!(lab.ask("count(r)"), ["{} 2"]);
    lab.go_to(1.0);
    lab.put(&[("m{i=\"1\"}", 5.0), ("m{i=\"2\"}", 0.0)]).await;
    lab.at(1.0).await;
    assert_eq!(lab.ask("r"), [r#"{__name__="r", i="1"} 5"#]);
}

#[tokio::test]
async fn a_rule_that_fails_says_why_and_ends_nothing() {
    let lab = Lab::new();
    lab.load(
        "groups:
- name: g
  limit: 2
  rules:
  - {record: r, expr: 'm'}
  - {record: same, expr: 'm', labels: {i: ''}}
  - {alert: A, expr: 'm'}
  - {record: after, expr: '1'}
  - {record: text, expr: '\"text\"'}
",
    );
    lab.go_to(0.0);
    lab.put(&[("m{i=\"1\"}", 5.0), ("m{i=\"2\"}", 5.0)]).await;
    lab.at(0.0).await;
    assert_eq!(lab.health(0, 0), (Health::Ok, None));
    let err = |why: &str| (Health::Err, Some(why.to_owned()));
    assert_eq!(
        lab.health(0, 1),
        err("vector contains metrics with the same labelset after applying rule labels")
    );
    assert_eq!(lab.health(0, 4), err("rule result is not a vector or scalar"));
    lab.go_to(1.0);
    lab.put(&[("m{i=\"3\"}", 5.0)]).await;
    lab.at(1.0).await;
    assert_eq!(lab.health(0, 0), err("exceeded limit of 2 with 3 series"));
    assert_eq!(lab.health(0, 2), err("exceeded limit of 2 with 3 alerts"));
    assert_eq!(lab.ask("count(r)"), ["{} 2"], "what was there stays");
    assert_eq!(lab.ask("after"), [r#"{__name__="after"} 1"#]);
    assert!(lab.ruler.alerts().is_empty());
    assert_eq!(lab.ruler.groups()[0].failures, 6);
}

#[tokio::test]
async fn an_alert_is_told_of_and_leaves_its_series() {
    let lab = Lab::new();
    lab.load(
        "groups:
- name: g
  interval: 1m
  rules:
  - alert: High
    expr: m > 1
    for: 1m
    labels: {severity: page}
    annotations: {what: too much}
",
    );
    let alerts = "{__name__=~'ALERTS.*'}";
    lab.go_to(0.0);
    lab.put(&[("m{i=\"1\"}", 5.0)]).await;
    lab.at(0.0).await;
    assert_eq!(
        lab.ask(alerts),
        [
            r#"{__name__="ALERTS", alertname="High", alertstate="pending", i="1", severity="page"} 1"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="High", i="1", severity="page"} 1700002800"#,
        ]
    );
    assert_eq!(lab.told.take(), Vec::<String>::new());
    lab.at(1.0).await;
    assert_eq!(
        lab.ask(alerts),
        [
            r#"{__name__="ALERTS", alertname="High", alertstate="firing", i="1", severity="page"} 1"#,
            r#"{__name__="ALERTS_FOR_STATE", alertname="High", i="1", severity="page"} 1700002800"#,
        ]
    );
    assert_eq!(lab.told.take(), [r#"{alertname="High", i="1", severity="page"} 1..5"#]);
    let alert = &lab.ruler.alerts()[0];
    assert_eq!(
        (alert.state, alert.value, alert.active_at_ms),
        (AlertState::Firing, 5.0, START)
    );
    assert_eq!(alert.annotations, [("what".to_owned(), "too much".to_owned())]);
    lab.go_to(2.0);
    lab.put(&[("m{i=\"1\"}", 0.0)]).await;
    lab.at(2.0).await;
    assert_eq!(lab.ask(alerts), Vec::<String>::new());
    assert_eq!(lab.told.take(), [r#"{alertname="High", i="1", severity="page"} 1..2"#]);
    assert_eq!(lab.ruler.groups()[0].rules[0].state, Some(AlertState::Inactive));
}

#[tokio::test]
async fn two_alerts_with_the_same_labels_are_an_error() {
    let lab = Lab::new();
    lab.load("groups: [{name: g, rules: [{alert: A, expr: m, labels: {i: same}}]}]");
    lab.go_to(0.0);
    lab.put(&[("m{i=\"1\"}", 5.0)]).await;
    lab.at(0.0).await;
    assert_eq!(lab.ruler.alerts().len(), 1);
    lab.go_to(1.0);
    lab.put(&[("m{i=\"2\"}", 5.0)]).await;
    lab.at(1.0).await;
    let why = "vector contains metrics with the same labelset after applying alert labels";
    assert_eq!(lab.health(0, 0), (Health::Err, Some(why.to_owned())));
    assert_eq!(lab.ruler.alerts().len(), 1, "the alert stays as it was");
}

#[tokio::test]
async fn rules_may_look_behind() {
    let lab = Lab::new();
    lab.load("groups: [{name: g, query_offset: 1m, rules: [{record: r, expr: m}]}]");
    lab.go_to(0.0);
    lab.put(&[("m", 1.0)]).await;
    lab.go_to(1.0);
    lab.put(&[("m", 2.0)]).await;
    lab.at(1.0).await;
    assert_eq!(lab.ask("r"), [r#"{__name__="r"} 1"#]);
    assert_eq!(lab.ask("timestamp(r)"), [format!("{{}} {}", START / 1000)]);
}

const TWO: &str = "groups:
- {name: g, rules: [{alert: A, expr: m > 0, for: 2m}, {record: a, expr: m}, {record: b, expr: m}]}
- {name: h, interval: 30s, rules: [{record: c, expr: m}]}
";

#[tokio::test]
async fn a_reload_keeps_what_stays_and_ends_what_goes() {
    let lab = Lab::new();
    lab.load(TWO);
    lab.go_to(0.0);
    lab.put(&[("m", 1.0)]).await;
    lab.at(0.0).await;
    // The same file: nothing happens. Then `for` and an expression change, `b` goes, and with it the group `h`.
    lab.load(TWO);
    lab.at(1.0).await;
    lab.go_to(1.1);
    let changed =
        "groups: [{name: g, rules: [{record: a, expr: m * 2}, {alert: A, expr: m > 0, for: 2m, annotations: {x: y}}]}]";
    lab.load(changed);
    assert_eq!(lab.ruler.alerts()[0].active_at_ms, START);
    lab.at(2.0).await;
    assert_eq!(lab.ruler.alerts()[0].state, AlertState::Firing);
    assert_eq!(
        lab.ask("{__name__=~'[abc]'}"),
        [r#"{__name__="a"} 2"#, r#"{__name__="c"} 1"#],
        "the series of a rule that is gone ends with the next evaluation"
    );
    assert_eq!(lab.ruler.groups()[0].evaluations, 2 * 3 + 2);
    // Two intervals after it was taken out, a group's series end at the time at which it was.
    lab.ruler.tick(lab.go_to(2.05));
    lab.ruler.settle().await;
    assert_eq!(lab.ask("c").len(), 1);
    lab.ruler.tick(lab.go_to(2.1));
    lab.ruler.settle().await;
    assert_eq!(lab.ask("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_group_with_another_name_takes_its_series_over() {
    let lab = Lab::new();
    lab.load("groups: [{name: g, rules: [{record: r, expr: m}]}]");
    lab.go_to(0.0);
    lab.put(&[("m", 1.0)]).await;
    lab.at(0.0).await;
    lab.load("groups: [{name: other, rules: [{record: r, expr: m}]}]");
    lab.at(1.0).await;
    lab.ruler.tick(lab.go_to(4.0));
    lab.ruler.settle().await;
    assert_eq!(lab.ask("r").len(), 1);
}

#[tokio::test]
async fn a_bad_group_leaves_in_force_what_ran_before() {
    let lab = Lab::new();
    lab.load(TWO);
    let text = TWO.replace("record: c", "rekord: c");
    let (groups, faults) = query_rules::read_groups("rules.yml", &text, query_rules::Dialect::PromQl);
    let names = |groups: &[query_rules::Group]| groups.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&groups), ["g"]);
    assert_eq!(names(&lab.ruler.standing_in(&faults)), ["h"]);
    let (_, faults) = query_rules::read_groups("rules.yml", "groups: [", query_rules::Dialect::PromQl);
    assert_eq!(names(&lab.ruler.standing_in(&faults)), ["g", "h"]);
    let (_, faults) = query_rules::read_groups("other.yml", "groups: [", query_rules::Dialect::PromQl);
    assert!(lab.ruler.standing_in(&faults).is_empty());
    // The first group of a name counts, whoever comes second.
    lab.ruler.load([lab::read(TWO), lab::read(TWO)].concat(), lab.now());
    assert_eq!(lab.ruler.groups().len(), 2);
}

#[tokio::test]
async fn after_a_restart_alerts_go_on_where_they_were() {
    let rules = "groups:
- name: g
  interval: 1m
  rules:
  - {alert: Long, expr: m > 0, for: 30m, labels: {kind: '{{ $labels.i }}', none: '{{ $labels.nothing }}'}}
  - {alert: Short, expr: m > 0, for: 5m}
";
    let settings = || Settings::default();
    let mut lab = Lab::with(Settings {
        restore: false,
        ..settings()
    });
    lab.load(rules);
    for minute in 0..=20 {
        lab.go_to(f64::from(minute));
        lab.put(&[("m{i=\"1\"}", 1.0)]).await;
        lab.at(f64::from(minute)).await;
    }
    // Down for ten minutes, of which nothing counts.
    lab = lab.restart(settings());
    lab.go_to(29.5);
    lab.load(rules);
    let mut states = Vec::new();
    for minute in 30..=45 {
        lab.go_to(f64::from(minute));
        lab.put(&[("m{i=\"1\"}", 1.0)]).await;
        if minute == 31 {
            assert_eq!(
                lab.ask("last_over_time(ALERTS[2m])"),
                Vec::<String>::new(),
                "nothing is written before it is known how long they have been active"
            );
        }
        lab.at(f64::from(minute)).await;
        let long = lab
            .ruler
            .alerts()
            .iter()
            .find(|a| a.labels.get("alertname") == Some("Long"))
            .unwrap()
            .clone();
        states.push(((long.active_at_ms - START) / MIN, long.state.as_str()));
    }
    // Held for 20 of 30 minutes when it went down at 20; looked at again at 31: 10 more minutes, which is the grace period.
    assert_eq!(states[0], (30, "pending"));
    assert_eq!(states[1], (11, "pending"));
    assert_eq!(states[10], (11, "pending"));
    assert_eq!(states[11], (11, "firing"));
    assert_eq!(lab.ask("ALERTS{alertname='Long'}").len(), 1);
}

#[tokio::test]
async fn rules_over_logs_write_metrics_and_alerts() {
    let lab = Lab::new();
    lab.load(
        r#"groups:
- name: g
  dialect: logql
  rules:
  - {record: app:errors:rate, expr: 'sum by (app) (count_over_time({env="prod"} |= "error" [5m]))', labels: {source: logs}}
  - {alert: Errors, expr: 'sum by (app) (count_over_time({env="prod"} |= "error" [5m])) > 1', annotations: {n: 'many'}}
  - {record: number, expr: '2'}
"#,
    );
    lab.go_to(0.0);
    lab.log("{app=\"x\",env=\"prod\"}", "an error").await;
    lab.at(0.1).await;
    assert_eq!(
        lab.ask("app:errors:rate"),
        [r#"{__name__="app:errors:rate", app="x", source="logs"} 1"#]
    );
    assert!(lab.ruler.alerts().is_empty());
    lab.go_to(0.5);
    lab.log("{app=\"x\",env=\"prod\"}", "another error").await;
    lab.at(1.0).await;
    assert_eq!(
        lab.ask("ALERTS"),
        [r#"{__name__="ALERTS", alertname="Errors", alertstate="firing", app="x"} 1"#]
    );
    assert_eq!(lab.told.take(), [r#"{alertname="Errors", app="x"} 1..5"#]);
    lab.at(10.0).await;
    assert_eq!(lab.ask("ALERTS"), Vec::<String>::new());
    assert_eq!(lab.ask("number"), [r#"{__name__="number"} 2"#]);
}

#[tokio::test]
async fn groups_run_at_their_instants_and_missed_ones_are_counted() {
    let lab = Lab::new();
    lab.load("groups: [{name: g, interval: 10s, rules: [{record: r, expr: time()}]}]");
    let first = lab.ruler.tick(START);
    assert!((START + 1..=START + 10_000).contains(&first));
    let minute = |ms: i64| (ms - START) as f64 / MIN as f64;
    for (now, instant, missed) in [
        (first - 1, None, 0),
        (first, Some(first), 0),
        (first + 9_999, Some(first), 0),
        (first + 12_000, Some(first + 10_000), 0),
        (first + 55_000, Some(first + 50_000), 3),
    ] {
        lab.go_to(minute(now));
        lab.ruler.tick(now);
        lab.ruler.settle().await;
        let expected: Vec<String> = instant
            .iter()
            .map(|at| format!(r#"{{__name__="r"}} {}"#, *at as f64 / 1000.0))
            .collect();
        assert_eq!(lab.ask("r"), expected, "{now}");
        assert_eq!(lab.ruler.groups()[0].missed, missed, "{now}");
    }
    assert_eq!(lab.ruler.groups()[0].iterations, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rule_holds_up_no_other_group() {
    let lab = Lab::with(Settings {
        restore: false,
        concurrency: 2,
        ..Settings::default()
    });
    lab.load(
        "groups:
- {name: slow, interval: 1s, rules: [{alert: A, expr: '1'}, {record: after, expr: '1'}]}
- {name: quick, interval: 1s, rules: [{record: r, expr: '1'}]}
",
    );
    lab.told.is_held.store(true, Ordering::SeqCst);
    let mut now = START;
    for n in 1..=5 {
        now = lab.go_to(((now - START) + 1000) as f64 / MIN as f64);
        while lab.ruler.groups()[1].evaluations < n {
            lab.ruler.tick(now);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    assert_eq!(lab.ruler.groups()[0].evaluations, 0);
    lab.told.is_held.store(false, Ordering::SeqCst);
    lab.ruler.settle().await;
    lab.ruler.tick(now + 1000);
    lab.ruler.settle().await;
    let slow = &lab.ruler.groups()[0];
    assert!(slow.missed >= 3 && slow.evaluations == 4, "{slow:?}");
}
