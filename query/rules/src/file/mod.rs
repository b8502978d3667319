//! Rule files: YAML to groups, strictly. What is unknown is a fault, every fault says where it is, and reading goes on
//! after one, so that a person learns of all of them at once. A group with a fault is left out; the others count.
//!
//! A file is read as Prometheus reads it, in the dialect that [`dialect_of`] its path is; a group may say otherwise with a
//! field of our own, `dialect: logql`.

mod check;
mod fields;

use std::collections::HashSet;
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use yaml_tree::{Node, Value};

use crate::group::{Dialect, Group, Origin, Rule, RuleKind};
pub(crate) use fields::Fields;

/// Something wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line, counted from 1; 0: the file as a whole.
    pub line: u32,
    /// The column, counted from 1; 0: the line as a whole.
    pub column: u32,
    /// The group it is in, if it has a name; `None`: no group of the file could be read on its account.
    pub group: Option<String>,
    /// The rule it is in: its place in the group, counted from 1, and its name.
    pub rule: Option<(usize, String)>,
    /// Whether the group can be used in spite of it.
    pub is_warning: bool,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    /// `FILE:LINE:COLUMN: group "G", rule N, "NAME": REASON`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for place in [self.line, self.column] {
            if place > 0 {
                write!(f, ":{place}")?;
            }
        }
        f.write_str(": ")?;
        if let Some(group) = &self.group {
            write!(f, "group {group:?}")?;
            if let Some((number, name)) = &self.rule {
                write!(f, ", rule {number}, {name:?}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The dialect of a file in a folder of rules: LogQL below a folder `loki`, and of files named `*.logql.yaml` or
/// `*.logql.yml`; PromQL otherwise.
pub fn dialect_of(path: &Path) -> Dialect {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let below_loki = || {
        let folder = path.parent().unwrap_or(Path::new(""));
        folder
            .components()
            .any(|part| matches!(part, Component::Normal(name) if name == "loki"))
    };
    if name.ends_with(".logql.yaml") || name.ends_with(".logql.yml") || below_loki() {
        Dialect::LogQl
    } else {
        Dialect::PromQl
    }
}

/// Reads `text`, the contents of the file at `path`: the groups that can be used, and all that is wrong.
pub fn read_groups(path: &str, text: &str, default_dialect: Dialect) -> (Vec<Group>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut reading = Reading {
        place: Place::file(path),
        dialect: default_dialect,
        origin: Origin::File,
        faults: &mut faults,
    };
    let groups = match yaml_tree::parse(text) {
        Ok(node) => reading.groups(&node),
        Err(e) => {
            let fault = reading.place.at(e.line, e.column, e.what);
            reading.faults.push(fault);
            Vec::new()
        }
    };
    (groups, faults)
}

/// Reads the YAML of one group, as Loki's rule API is given it.
pub fn read_group(namespace: &str, text: &str, dialect: Dialect) -> Result<Group, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut reading = Reading {
        place: Place::file(namespace),
        dialect,
        origin: Origin::LokiApi,
        faults: &mut faults,
    };
    let group = match yaml_tree::parse(text) {
        Ok(node) => reading.group(&node),
        Err(e) => {
            let fault = reading.place.at(e.line, e.column, e.what);
            reading.faults.push(fault);
            None
        }
    };
    group.ok_or(faults)
}

/// Where the reading is.
#[derive(Clone)]
pub(crate) struct Place {
    file: Arc<str>,
    group: Option<String>,
    rule: Option<(usize, String)>,
}

impl Place {
    pub(crate) fn file(path: &str) -> Place {
        Place {
            file: path.into(),
            group: None,
            rule: None,
        }
    }

    pub(crate) fn fault(&self, node: &Node, reason: impl Into<String>) -> Fault {
        self.at(node.line, node.column, reason)
    }

    pub(crate) fn at(&self, line: u32, column: u32, reason: impl Into<String>) -> Fault {
        Fault {
            file: self.file.clone(),
            line,
            column,
            group: self.group.clone(),
            rule: self.rule.clone(),
            is_warning: false,
            reason: reason.into(),
        }
    }
}

struct Reading<'f> {
    place: Place,
    dialect: Dialect,
    origin: Origin,
    faults: &'f mut Vec<Fault>,
}

impl Reading<'_> {
    fn groups(&mut self, node: &Node) -> Vec<Group> {
        let place = self.place.clone();
        let mut fields = Fields::of(node, "a rule file", &place, self.faults);
        // Loki's own tool writes the namespace into the file; here it is the file's name.
        if self.dialect == Dialect::LogQl {
            let _ = fields.node("namespace");
        }
        let nodes = fields.items("groups");
        fields.finish();
        let mut groups: Vec<Group> = Vec::new();
        let mut names = HashSet::new();
        for node in nodes {
            let before = self.faults.len();
            let group = self.group(node);
            let name = node.get("name").and_then(text_of).unwrap_or_default();
            if !name.is_empty() && !names.insert(name) {
                let fault = place.fault(node, format!("groupname: \"{name}\" is repeated in the same file"));
                self.faults.insert(
                    before,
                    Fault {
                        group: Some(name.to_owned()),
                        ..fault
                    },
                );
                // Which of the two is meant cannot be told; the first one stays.
                continue;
            }
            groups.extend(group);
        }
        check::duplicates(&place, &groups, self.faults);
        groups
    }

    /// `None`: it has a fault.
    fn group(&mut self, node: &Node) -> Option<Group> {
        let before = self.faults.len();
        let name = node.get("name").and_then(text_of).unwrap_or_default();
        let place = Place {
            group: Some(name.to_owned()).filter(|name| !name.is_empty()),
            ..self.place.clone()
        };
        let mut fields = Fields::of(node, "a rule group", &place, self.faults);
        let dialect = match fields.text("dialect") {
            None => self.dialect,
            Some(("promql", _)) => Dialect::PromQl,
            Some(("logql", _)) => Dialect::LogQl,
            Some((other, node)) => {
                fields.fault(node, format!("dialect: {other:?} is neither promql nor logql"));
                self.dialect
            }
        };
        if fields.text("name").is_none_or(|(name, _)| name.is_empty()) {
            fields.fault(node, "Groupname must not be empty");
        }
        let interval_ms = fields.duration_ms("interval").filter(|ms| *ms > 0);
        let query_offset_ms = fields.duration_ms("query_offset");
        let limit = fields.count("limit").unwrap_or(0);
        let labels = fields.text_map("labels");
        let rule_nodes = fields.items("rules");
        fields.finish();
        check::label_names(&place, dialect, &labels, self.faults);
        let rules: Vec<Rule> = (rule_nodes.iter().enumerate())
            .filter_map(|(i, node)| self.rule(&place, dialect, i, node))
            .collect();
        (self.faults.len() == before).then(|| Group {
            name: name.to_owned(),
            file: self.place.file.clone(),
            dialect,
            origin: self.origin.clone(),
            interval_ms,
            limit,
            query_offset_ms,
            labels: owned(labels),
            rules,
        })
    }

    fn rule(&mut self, group: &Place, dialect: Dialect, index: usize, node: &Node) -> Option<Rule> {
        let before = self.faults.len();
        let named = |key| node.get(key).and_then(text_of).unwrap_or_default();
        let (record, alert) = (named("record"), named("alert"));
        let name = if alert.is_empty() { record } else { alert };
        let place = Place {
            rule: Some((index + 1, name.to_owned())),
            ..group.clone()
        };
        let mut fields = Fields::of(node, "a rule", &place, self.faults);
        let _ = (fields.text("record"), fields.text("alert"));
        let expr = fields.text("expr");
        let for_ms = fields.duration_ms("for").unwrap_or(0);
        let keep_firing_for_ms = fields.duration_ms("keep_firing_for").unwrap_or(0);
        let labels = fields.text_map("labels");
        let annotations = fields.text_map("annotations");
        fields.finish();
        let mut check = check::Checking {
            place: &place,
            dialect,
            node,
            faults: self.faults,
        };
        let is_recording = check.kind(record, alert);
        check.expression(expr, is_recording, name);
        check::label_names(&place, dialect, &labels, self.faults);
        let mut check = check::Checking {
            place: &place,
            dialect,
            node,
            faults: self.faults,
        };
        if is_recording {
            check.recording(record, for_ms, keep_firing_for_ms, &annotations);
        } else {
            check.alerting(alert, &labels, &annotations);
        }
        (self.faults.len() == before).then(|| Rule {
            kind: if is_recording {
                RuleKind::Recording {
                    record: record.to_owned(),
                }
            } else {
                RuleKind::Alerting {
                    alert: alert.to_owned(),
                    for_ms,
                    keep_firing_for_ms,
                    annotations: owned(annotations),
                }
            },
            expr: expr.map_or_else(String::new, |(text, _)| text.to_owned()),
            labels: owned(labels),
            line: node.line,
        })
    }
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

fn owned(pairs: Vec<(&yaml_tree::Key, &str)>) -> Vec<(String, String)> {
    let owned = pairs
        .into_iter()
        .map(|(key, value)| (key.text.clone(), value.to_owned()));
    owned.collect()
}

#[cfg(test)]
mod tests;
