//! What a rule must be, beside being made of the right fields. Worded as Prometheus and Loki word it.

use std::collections::HashMap;

use yaml_tree::{Key, Node};

use super::{Fault, Place};
use crate::group::{Dialect, Group};
use crate::templates::Template;

/// One rule under inspection.
pub(super) struct Checking<'a> {
    pub place: &'a Place,
    pub dialect: Dialect,
    /// The rule.
    pub node: &'a Node,
    pub faults: &'a mut Vec<Fault>,
}

impl Checking<'_> {
    /// Whether it records; it must do one of the two.
    pub fn kind(&mut self, record: &str, alert: &str) -> bool {
        match (record.is_empty(), alert.is_empty()) {
            (false, false) => self.fault("record", "only one of 'record' and 'alert' must be set"),
            (true, true) => self.fault("record", "one of 'record' or 'alert' must be set"),
            _ => {}
        }
        !record.is_empty()
    }

    /// It must have an expression that can be parsed and gives a vector or a number.
    pub fn expression(&mut self, expr: Option<(&str, &Node)>, is_recording: bool, name: &str) {
        let Some((text, node)) = expr.filter(|(text, _)| !text.is_empty()) else {
            return self.fault("expr", "field 'expr' must be set in rule");
        };
        let parsed = match self.dialect {
            Dialect::PromQl => query_promql::Query::parse(text).map(drop).map_err(|e| e.to_string()),
            Dialect::LogQl => match query_logql::Query::parse(text) {
                Ok(query) if query.is_metric() => Ok(()),
                Ok(_) => Err("a rule needs numbers, and this is a query for log lines".to_owned()),
                Err(e) => Err(e.to_string()),
            },
        };
        let Err(why) = parsed else { return };
        let reason = match self.dialect {
            Dialect::PromQl => format!("could not parse expression: {why}"),
            Dialect::LogQl => {
                let kind = if is_recording { "record" } else { "alert" };
                let group = self.place.group.as_deref().unwrap_or_default();
                format!("could not parse expression for {kind} '{name}' in group '{group}': {why}")
            }
        };
        self.faults.push(self.place.fault(node, reason));
    }

    /// What is not for recordings, and the name.
    pub fn recording(&mut self, record: &str, for_ms: i64, keep_ms: i64, annotations: &[(&Key, &str)]) {
        if !annotations.is_empty() {
            self.fault("annotations", "invalid field 'annotations' in recording rule");
        }
        if for_ms != 0 {
            self.fault("for", "invalid field 'for' in recording rule");
        }
        if keep_ms != 0 {
            self.fault("keep_firing_for", "invalid field 'keep_firing_for' in recording rule");
        }
        if !is_name(record, self.dialect, true) {
            self.fault("record", format!("invalid recording rule name: {record}"));
        }
        if record.contains(['{', '}']) {
            let reason = format!("braces present in the recording rule name; should it be in expr?: {record}");
            self.fault("record", reason);
        }
    }

    /// Its templates must parse, and its annotations need names.
    pub fn alerting(&mut self, alert: &str, labels: &[(&Key, &str)], annotations: &[(&Key, &str)]) {
        for (key, _) in annotations {
            if !is_name(&key.text, self.dialect, false) {
                self.fault_at(key, format!("invalid annotation name: {}", key.text));
            }
        }
        let name = format!("__alert_{alert}");
        for (kind, pairs) in [("label", labels), ("annotation", annotations)] {
            for (key, text) in pairs {
                if let Err(why) = Template::parse(&name, text) {
                    self.fault_at(key, format!("{kind} {:?}: {why}", key.text));
                }
            }
        }
    }

    /// At the value of a field, or the rule if it has none.
    fn fault(&mut self, field: &str, reason: impl Into<String>) {
        let node = self.node.get(field).unwrap_or(self.node);
        self.faults.push(self.place.fault(node, reason));
    }

    fn fault_at(&mut self, key: &Key, reason: String) {
        self.faults.push(self.place.at(key.line, key.column, reason));
    }
}

/// Names of labels that a group or rule may set.
pub(super) fn label_names(place: &Place, dialect: Dialect, labels: &[(&Key, &str)], faults: &mut Vec<Fault>) {
    for (key, _) in labels {
        if !is_name(&key.text, dialect, false) || key.text == model::METRIC_NAME {
            let reason = format!("invalid label name: {}", key.text);
            faults.push(place.at(key.line, key.column, reason));
        }
    }
}

/// Rules that record or alert the same under the same labels: one of them is probably a mistake. As for promtool, a warning.
pub(super) fn duplicates(place: &Place, groups: &[Group], faults: &mut Vec<Fault>) {
    let mut seen = HashMap::new();
    for group in groups {
        for (i, rule) in group.rules.iter().enumerate() {
            let mut labels = rule.labels.clone();
            labels.sort();
            let key = (rule.is_alerting(), rule.name(), labels);
            if let Some(first) = seen.insert(key, rule.line) {
                let what = if rule.is_alerting() { "alert" } else { "recording" };
                faults.push(Fault {
                    group: Some(group.name.clone()),
                    rule: Some((i + 1, rule.name().to_owned())),
                    is_warning: true,
                    ..place.at(
                        rule.line,
                        0,
                        format!(
                            "the {what} {:?} with these labels is there already, in line {first}",
                            rule.name()
                        ),
                    )
                });
            }
        }
    }
}

/// Prometheus takes any text as a name; what Loki records must have names of the old kind.
fn is_name(name: &str, dialect: Dialect, may_have_colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && may_have_colons);
    !name.is_empty()
        && (dialect == Dialect::PromQl || (name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())))
}
