//! `/rules` and `/alerts`: every rule, over metrics and over logs, how its last evaluation went, and what is pending or
//! firing.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use query_rules::{AlertState, AlertStatus, GroupStatus, Health, RuleKind, RuleStatus};
use serde::Deserialize;

use super::Pages;
use super::html::{Html, page, roughly};
use crate::ruled::time_text;

/// Alerts that a page shows of one rule.
const ALERTS_MAX: usize = 200;

#[derive(Deserialize)]
pub(crate) struct Asked {
    /// On `/rules`, `failing`: only rules whose last evaluation failed. On `/alerts`, `firing`, `pending` or `inactive`.
    state: Option<String>,
}

pub(crate) async fn rules(State(pages): State<Pages>, Query(asked): Query<Asked>) -> Response {
    let now = pages.queries.storage().now().floor_ms().0;
    let only_failing = asked.state.as_deref() == Some("failing");
    let groups = sorted(&pages);
    let mut body = Html::default();
    if groups.is_empty() {
        body.html(NONE);
        return page("Rules", Some("rules"), &body);
    }
    choices(
        &mut body,
        asked.state.as_deref(),
        &[("rules", "All", ""), ("rules?state=failing", "Failing", "failing")],
    );
    for status in &groups {
        let shown: Vec<&RuleStatus> = status
            .rules
            .iter()
            .filter(|rule| !only_failing || rule.health == Health::Err)
            .collect();
        if only_failing && shown.is_empty() {
            continue;
        }
        let group = &status.group;
        body.html("<h2>")
            .text(&group.name)
            .html(" <span class=soft>")
            .text(&group.file);
        body.text(format_args!(
            ", {}, every {}",
            group.dialect.as_str(),
            model::print_duration(ms(status.interval_ms))
        ));
        body.html("</span></h2><p class=soft>Last evaluated ");
        ago(&mut body, now, status.last_evaluation_ms);
        body.text(format_args!(", took {}", roughly(seconds(status.evaluation_time_s))));
        if status.missed > 0 {
            body.text(format_args!(
                "; {} of {} evaluations missed",
                status.missed, status.iterations
            ));
        }
        body.html(
            ".</p><table><thead><tr><th>Rule<th>State<th class=n>Last evaluated<th class=n>Took<th>Error</thead>",
        );
        for rule in shown {
            body.html("<tr><td>");
            definition(&mut body, rule);
            let health = match rule.health {
                Health::Ok => "up",
                Health::Err => "down",
                Health::Unknown => "unknown",
            };
            body.html("<td><span class=")
                .html(health)
                .html(">")
                .html(rule.health.as_str())
                .html("</span><td class=n>");
            ago(&mut body, now, rule.last_evaluation_ms);
            body.html("<td class=n>").text(roughly(seconds(rule.evaluation_time_s)));
            body.html("<td class=bad>")
                .text(rule.last_error.as_deref().unwrap_or_default());
        }
        body.html("</table>");
    }
    page("Rules", Some("rules"), &body)
}

pub(crate) async fn alerts(State(pages): State<Pages>, Query(asked): Query<Asked>) -> Response {
    let now = pages.queries.storage().now().floor_ms().0;
    let groups = sorted(&pages);
    let alerting: Vec<&RuleStatus> = groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter(|rule| rule.rule().is_alerting())
        .collect();
    let mut body = Html::default();
    if alerting.is_empty() {
        body.html("<p class=empty>No alerts: there are no rules that alert.</p>");
        return page("Alerts", Some("alerts"), &body);
    }
    let word = |rule: &RuleStatus| rule.state.unwrap_or(AlertState::Inactive);
    let mut counts: BTreeMap<AlertState, usize> = BTreeMap::new();
    for rule in &alerting {
        *counts.entry(word(rule)).or_default() += 1;
    }
    body.html("<p class=soft>").text(
        [AlertState::Firing, AlertState::Pending, AlertState::Inactive]
            .map(|state| format!("{} {}", counts.get(&state).unwrap_or(&0), state.as_str()))
            .join(", "),
    );
    body.html("</p>");
    choices(
        &mut body,
        asked.state.as_deref(),
        &[
            ("alerts", "All", ""),
            ("alerts?state=firing", "Firing", "firing"),
            ("alerts?state=pending", "Pending", "pending"),
            ("alerts?state=inactive", "Inactive", "inactive"),
        ],
    );
    for state in [AlertState::Firing, AlertState::Pending, AlertState::Inactive] {
        if asked
            .state
            .as_deref()
            .is_some_and(|asked| !asked.is_empty() && asked != state.as_str())
        {
            continue;
        }
        for rule in alerting.iter().filter(|rule| word(rule) == state) {
            one_alerting(&mut body, rule, state, now);
        }
    }
    page("Alerts", Some("alerts"), &body)
}

const NONE: &str = "<p class=empty>No rules. Name rule files in <code>rule_files</code> of <code>--prometheus-config</code>, or put \
                    them into the folder of <code>--rules-dir</code>; <code>deploy/rules</code> has some to begin with.</p>";

fn one_alerting(body: &mut Html, rule: &RuleStatus, state: AlertState, now: i64) {
    body.html("<h2>").text(rule.rule().name()).html(" <span class=");
    body.html(match state {
        AlertState::Firing => "down",
        AlertState::Pending => "unknown",
        AlertState::Inactive => "up",
    });
    body.html(">").html(state.as_str()).html("</span> <span class=soft>");
    body.text(&rule.group.file)
        .html(" ")
        .text(&rule.group.name)
        .html("</span></h2><p>");
    definition(body, rule);
    body.html("</p>");
    if rule.alerts.is_empty() {
        return;
    }
    body.html("<table><thead><tr><th>Labels<th>State<th class=n>Active<th class=n>Value<th>Annotations</thead>");
    for alert in rule.alerts.iter().take(ALERTS_MAX) {
        alert_row(body, alert, now);
    }
    body.html("</table>");
    if let Some(more) = rule.alerts.len().checked_sub(ALERTS_MAX).filter(|n| *n > 0) {
        body.html("<p class=soft>").text(more).html(" more are active.</p>");
    }
}

fn alert_row(body: &mut Html, alert: &AlertStatus, now: i64) {
    body.html("<tr><td>").labels(&alert.labels).html("<td><span class=");
    body.html(if alert.state == AlertState::Firing {
        "down"
    } else {
        "unknown"
    });
    body.html(">")
        .html(alert.state.as_str())
        .html("</span><td class=n title=\"");
    body.text(time_text(Some(alert.active_at_ms))).html("\">");
    ago(body, now, Some(alert.active_at_ms));
    body.html("<td class=n>")
        .text(query_exec::go_number(alert.value))
        .html("<td>");
    for (name, value) in &alert.annotations {
        body.html("<b>").text(name).html("</b> ").text(value).html("<br>");
    }
}

/// What a rule says, its expression as a link to the query page where that understands it.
fn definition(body: &mut Html, rule: &RuleStatus) {
    let (word, extra) = match &rule.rule().kind {
        RuleKind::Recording { .. } => ("record", String::new()),
        RuleKind::Alerting {
            for_ms,
            keep_firing_for_ms,
            ..
        } => {
            let mut extra = String::new();
            for (name, value) in [(" for ", *for_ms), (", keep firing for ", *keep_firing_for_ms)] {
                if value > 0 {
                    extra.push_str(name);
                    extra.push_str(&model::print_duration(ms(value)));
                }
            }
            ("alert", extra)
        }
    };
    body.html("<span class=soft>")
        .html(word)
        .html("</span> <b>")
        .text(rule.rule().name())
        .html("</b><br><code>");
    if rule.group.dialect == query_rules::Dialect::PromQl {
        body.link(&format!("query?g0.expr={}", encoded(&rule.query)), &rule.query);
    } else {
        body.text(&rule.query);
    }
    body.html("</code>").text(extra);
    if !rule.labels.is_empty() {
        body.html("<br>")
            .labels(&rule.labels.iter().map(|(n, v)| (n, v)).collect());
    }
}

fn sorted(pages: &Pages) -> Vec<GroupStatus> {
    let mut groups = pages.about.rules.groups();
    groups.sort_by(|a, b| (&a.group.file, &a.group.name).cmp(&(&b.group.file, &b.group.name)));
    groups
}

/// Links to other views of a page; the one that is shown is none.
fn choices(body: &mut Html, asked: Option<&str>, all: &[(&'static str, &'static str, &str)]) {
    body.html("<p>");
    for (to, word, state) in all {
        if asked.unwrap_or_default() == *state {
            body.html("<b>").html(word).html("</b> ");
        } else {
            body.link(to, word).html(" ");
        }
    }
    body.html("</p>");
}

fn ago(body: &mut Html, now: i64, then: Option<i64>) {
    match then {
        None => body.html("never"),
        Some(then) => body.text(roughly(ms(now.saturating_sub(then)))).html(" ago"),
    };
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// For the query part of a URL.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
