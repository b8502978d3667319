//! Rules and alerts, as the APIs tell of them. The server knows; this is how it is asked, what is left out on request, and
//! how it looks as JSON. Prometheus' and Loki's clients read nearly the same members.

use std::fmt::Write as _;

use model::{LabelSet, Matcher};
use query_exec::push_exponent_number;
use query_rules::{AlertStatus, Dialect, Group, GroupError, GroupStatus, RuleKind, RuleStatus};

use crate::form::Form;
use crate::number::push_json;

/// Rules and alerts; filled by the server.
pub trait Rules: Send + Sync {
    /// The groups in force, in any order.
    fn groups(&self) -> Vec<GroupStatus>;
    /// The groups that were made over Loki's API.
    fn made(&self) -> Vec<Group>;
    /// Makes a group of its YAML, or replaces the one of its name; it is durable and in force when this returns. Blocks.
    fn make(&self, namespace: &str, yaml: &str) -> Result<(), GroupError>;
    /// Takes back a group that was made, or all of a namespace; whether there was one. Blocks.
    fn unmake(&self, namespace: &str, name: Option<&str>) -> Result<bool, GroupError>;
}

/// No rules at all.
pub struct NoRules;

impl Rules for NoRules {
    fn groups(&self) -> Vec<GroupStatus> {
        Vec::new()
    }

    fn made(&self) -> Vec<Group> {
        Vec::new()
    }

    fn make(&self, _: &str, _: &str) -> Result<(), GroupError> {
        Err(GroupError::NotKept("rules are not evaluated here".to_owned()))
    }

    fn unmake(&self, _: &str, _: Option<&str>) -> Result<bool, GroupError> {
        Ok(false)
    }
}

/// Whose client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// A group is named with its whole file.
    Prometheus,
    /// A group is named with its namespace: the last part of its file.
    Loki,
}

impl Voice {
    /// What the voice calls the place that a group is from.
    pub fn file(self, group: &Group) -> &str {
        match self {
            Voice::Prometheus => &group.file,
            Voice::Loki => namespace(group),
        }
    }

    fn dialect(self) -> Dialect {
        match self {
            Voice::Prometheus => Dialect::PromQl,
            Voice::Loki => Dialect::LogQl,
        }
    }
}

/// Loki names a file of rules by its name alone.
pub(crate) fn namespace(group: &Group) -> &str {
    match group.origin {
        query_rules::Origin::LokiApi => &group.file,
        query_rules::Origin::File => group.file.rsplit('/').next().unwrap_or(&group.file),
    }
}

/// The groups in the language of a voice, sorted by where they are from and name.
pub(crate) fn groups_of(rules: &dyn Rules, voice: Voice) -> Vec<GroupStatus> {
    let mut groups = rules.groups();
    groups.retain(|status| status.group.dialect == voice.dialect());
    groups.sort_by(|a, b| {
        let key = |status: &GroupStatus| (voice.file(&status.group).to_owned(), status.group.name.clone());
        key(a).cmp(&key(b))
    });
    groups
}

/// Which rules are asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Alerting, recording.
    kinds: (bool, bool),
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    /// A rule's labels must match one of them.
    pub selectors: Vec<Vec<Matcher>>,
}

impl Wanted {
    /// Reads the filters that both APIs have; their names are known with and without brackets. The error is a kind of
    /// rule that there is not.
    pub fn read(form: &Form) -> Result<Wanted, String> {
        let all = |plain: &'static str, listed: &'static str| {
            let both = form
                .all(listed)
                .chain(form.all(plain))
                .filter(|value| !value.is_empty());
            both.map(str::to_owned).collect::<Vec<_>>()
        };
        let kinds = match form.get("type").map(str::to_lowercase).as_deref() {
            None => (true, true),
            Some("alert") => (true, false),
            Some("record") => (false, true),
            Some(other) => return Err(other.to_owned()),
        };
        Ok(Wanted {
            kinds,
            names: all("rule_name", "rule_name[]"),
            groups: all("rule_group", "rule_group[]"),
            files: all("file", "file[]"),
            selectors: Vec::new(),
        })
    }

    /// Takes out what is not asked for, and groups of which nothing is left.
    pub fn keep(&self, voice: Voice, groups: &mut Vec<GroupStatus>) {
        let among = |wanted: &[String], text: &str| wanted.is_empty() || wanted.iter().any(|w| w == text);
        groups.retain_mut(|status| {
            if !among(&self.groups, &status.group.name) || !among(&self.files, voice.file(&status.group)) {
                return false;
            }
            status.rules.retain(|rule| {
                let kind = if rule.rule().is_alerting() {
                    self.kinds.0
                } else {
                    self.kinds.1
                };
                kind && among(&self.names, rule.rule().name()) && self.selected(rule)
            });
            !status.rules.is_empty()
        });
    }

    fn selected(&self, rule: &RuleStatus) -> bool {
        let value = |name: &str| {
            let found = rule.labels.iter().find(|(n, _)| n == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let fits = |selector: &Vec<Matcher>| selector.iter().all(|m| m.matches(value(m.name())));
        self.selectors.is_empty() || self.selectors.iter().any(fits)
    }
}

/// A group with its rules as an object; `with_alerts`: else their alerts are null.
pub(crate) fn push_group(out: &mut String, status: &GroupStatus, voice: Voice, with_alerts: bool) {
    let group = &status.group;
    out.push_str("{\"name\":");
    push_json(out, &group.name);
    out.push_str(",\"file\":");
    push_json(out, voice.file(group));
    out.push_str(",\"rules\":[");
    for (i, rule) in status.rules.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        push_rule(out, rule, voice, with_alerts);
    }
    out.push_str("],\"interval\":");
    seconds(out, status.interval_ms);
    let _ = write!(out, ",\"limit\":{}", group.limit);
    ended(out, status.evaluation_time_s, status.last_evaluation_ms);
    out.push('}');
}

fn push_rule(out: &mut String, status: &RuleStatus, voice: Voice, with_alerts: bool) {
    let rule = status.rule();
    out.push('{');
    if rule.is_alerting() {
        let state = status.state.map_or("unknown", |state| state.as_str());
        let _ = write!(out, "\"state\":\"{state}\",");
    }
    out.push_str("\"name\":");
    push_json(out, rule.name());
    out.push_str(",\"query\":");
    push_json(out, &status.query);
    if let RuleKind::Alerting {
        for_ms,
        keep_firing_for_ms,
        ..
    } = &rule.kind
    {
        out.push_str(",\"duration\":");
        seconds(out, *for_ms);
        out.push_str(",\"keepFiringFor\":");
        seconds(out, *keep_firing_for_ms);
    }
    out.push_str(",\"labels\":");
    push_pairs(out, &status.labels);
    if let RuleKind::Alerting { annotations, .. } = &rule.kind {
        let mut annotations = annotations.clone();
        annotations.sort();
        out.push_str(",\"annotations\":");
        push_pairs(out, &annotations);
        out.push_str(",\"alerts\":");
        if with_alerts {
            push_alerts(out, status.alerts.iter());
        } else {
            out.push_str("null");
        }
    }
    let _ = write!(out, ",\"health\":\"{}\"", status.health.as_str());
    // Loki writes the member always, Prometheus where there is an error.
    if voice == Voice::Loki || status.last_error.is_some() {
        out.push_str(",\"lastError\":");
        push_json(out, status.last_error.as_deref().unwrap_or_default());
    }
    ended(out, status.evaluation_time_s, status.last_evaluation_ms);
    let kind = if rule.is_alerting() { "alerting" } else { "recording" };
    let _ = write!(out, ",\"type\":\"{kind}\"}}");
}

/// Alerts as an array.
pub(crate) fn push_alerts<'a>(out: &mut String, alerts: impl Iterator<Item = &'a AlertStatus>) {
    out.push('[');
    for (i, alert) in alerts.enumerate() {
        out.push_str(if i > 0 { ",{\"labels\":" } else { "{\"labels\":" });
        push_labels(out, &alert.labels);
        out.push_str(",\"annotations\":");
        push_pairs(out, &alert.annotations);
        let _ = write!(out, ",\"state\":\"{}\",\"activeAt\":", alert.state.as_str());
        push_json(out, &time_text(Some(alert.active_at_ms)));
        if let Some(since) = alert.keep_firing_since_ms {
            out.push_str(",\"keepFiringSince\":");
            push_json(out, &time_text(Some(since)));
        }
        out.push_str(",\"value\":\"");
        if alert.value.is_finite() {
            push_exponent_number(out, alert.value);
        } else {
            out.push_str(&query_exec::go_number(alert.value));
        }
        out.push_str("\"}");
    }
    out.push(']');
}

/// A time as RFC 3339; of what never was, the time that Go has for that.
pub(crate) fn time_text(ms: Option<i64>) -> String {
    let never = || "0001-01-01T00:00:00Z".to_owned();
    let Some(ms) = ms else { return never() };
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| never(), |t| t.to_string())
}

fn ended(out: &mut String, took_s: f64, at_ms: Option<i64>) {
    let took = if took_s.is_finite() { took_s } else { 0.0 };
    let _ = write!(out, ",\"evaluationTime\":{took},\"lastEvaluation\":");
    push_json(out, &time_text(at_ms));
}

fn seconds(out: &mut String, ms: i64) {
    let _ = write!(out, "{}", ms as f64 / 1000.0);
}

fn push_labels(out: &mut String, labels: &LabelSet) {
    object(out, labels.iter());
}

fn push_pairs(out: &mut String, pairs: &[(String, String)]) {
    object(out, pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
}

fn object<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    for (i, (name, value)) in pairs.enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        push_json(out, name);
        out.push(':');
        push_json(out, value);
    }
    out.push('}');
}
