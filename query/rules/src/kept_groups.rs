//! Groups that are in no file: made over Loki's rule API, kept beside the data, and there again after a restart.
//!
//! A group belongs to a *namespace* and is LogQL. What is kept is the group as YAML, one to a (namespace, name).
//!
//! # Kept rule groups, version 1
//!
//! Little-endian, below the header of kept files (`storage/src/kept.rs`), which has magic and checksum.
//!
//! ```text
//! 0    version  = u8 = 1
//! 1    count    = u32
//! 5    group*   = namespace · yaml, each: len u32 · bytes
//! ```
//!
//! Golden file: `testdata/kept_groups_v1.bin`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use storage::Storage;
use yaml_tree::{Key, Node, Value};

use crate::file::{Fault, read_group};
use crate::group::{Dialect, Group, RuleKind};

/// Under this name.
const NAME: &str = "rule_groups";
const VERSION: u8 = 1;
/// Most groups that are kept.
const GROUPS_MAX: usize = 10_000;
/// Most bytes of all groups together.
const BYTES_MAX: usize = 16 << 20;

/// The groups made over Loki's rule API.
pub struct KeptGroups {
    storage: Arc<Storage>,
    /// By namespace and name.
    groups: Mutex<Groups>,
}

type Groups = BTreeMap<(String, String), Group>;

/// Why a group is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It is no YAML, or none of a group.
    #[error("unable to decoded rule group")]
    Undecoded,
    /// It says something that no rule may say.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("more than {GROUPS_MAX} rule groups or {BYTES_MAX} bytes of them; delete some first")]
    TooMany,
    /// It could not be written.
    #[error("{0}")]
    NotKept(String),
}

impl KeptGroups {
    /// Those that were kept in `storage`. What of them cannot be used any more is left out, and told.
    pub fn open(storage: Arc<Storage>) -> (KeptGroups, Vec<String>) {
        let mut faults = Vec::new();
        let mut groups = Groups::new();
        match storage.kept(NAME) {
            Ok(None) => {}
            Ok(Some(bytes)) => match decode(&bytes) {
                None => faults.push(format!("kept rule groups cannot be read (version {:?})", bytes.first())),
                Some(kept) => {
                    for (namespace, yaml) in kept {
                        match read_group(&namespace, &yaml, Dialect::LogQl) {
                            Ok(group) => drop(groups.insert((namespace, group.name.clone()), group)),
                            Err(why) => faults.extend(why.iter().map(ToString::to_string)),
                        }
                    }
                }
            },
            Err(e) => faults.push(e.to_string()),
        }
        let kept = KeptGroups {
            storage,
            groups: Mutex::new(groups),
        };
        (kept, faults)
    }

    /// All, by namespace and name.
    pub fn all(&self) -> Vec<Group> {
        self.groups.lock().values().cloned().collect()
    }

    /// Keeps a group, written as YAML; it replaces one of the same name. Returns when it is durable.
    pub fn set(&self, namespace: &str, yaml: &str) -> Result<(), GroupError> {
        let group = group_of(namespace, yaml)?;
        let mut groups = self.groups.lock();
        let mut next = groups.clone();
        next.insert((namespace.to_owned(), group.name.clone()), group);
        self.keep(&next)?;
        *groups = next;
        Ok(())
    }

    /// Forgets a group, or all of a namespace; whether there was one.
    pub fn remove(&self, namespace: &str, name: Option<&str>) -> Result<bool, GroupError> {
        let mut groups = self.groups.lock();
        let mut next = groups.clone();
        next.retain(|(of, group), _| of != namespace || name.is_some_and(|name| group != name));
        if next.len() == groups.len() {
            return Ok(false);
        }
        self.keep(&next)?;
        *groups = next;
        Ok(true)
    }

    fn keep(&self, groups: &Groups) -> Result<(), GroupError> {
        let pairs: Vec<(&str, String)> = groups
            .iter()
            .map(|((namespace, _), g)| (namespace.as_str(), g.to_yaml()))
            .collect();
        let bytes = encode(&pairs);
        if groups.len() > GROUPS_MAX || bytes.len() > BYTES_MAX {
            return Err(GroupError::TooMany);
        }
        self.storage
            .keep(NAME, &bytes)
            .map_err(|e| GroupError::NotKept(e.to_string()))
    }
}

/// Reads a group as Loki does: fields that it does not know are nothing to it.
fn group_of(namespace: &str, yaml: &str) -> Result<Group, GroupError> {
    let node = yaml_tree::parse(yaml).map_err(|_| GroupError::Undecoded)?;
    let Value::Map(_) = node.value else {
        return Err(GroupError::Undecoded);
    };
    let known = only(
        node,
        &[
            "name",
            "interval",
            "query_offset",
            "limit",
            "labels",
            "rules",
            "dialect",
        ],
    );
    let rule = [
        "record",
        "alert",
        "expr",
        "for",
        "keep_firing_for",
        "labels",
        "annotations",
    ];
    let known = with(known, "rules", |rules| match rules.value {
        Value::List(items) => Node::list(items.into_iter().map(|item| only(item, &rule))),
        _ => rules,
    });
    let joined = |faults: Vec<Fault>| {
        let reasons: Vec<String> = faults.into_iter().map(|fault| fault.reason).collect();
        GroupError::Invalid(reasons.join(", "))
    };
    read_group(namespace, &known.to_yaml(), Dialect::LogQl).map_err(joined)
}

fn only(node: Node, keys: &[&str]) -> Node {
    let value = match node.value {
        Value::Map(mut pairs) => {
            pairs.retain(|(key, _)| keys.contains(&key.text.as_str()));
            Value::Map(pairs)
        }
        other => other,
    };
    Node { value, ..node }
}

fn with(node: Node, key: &str, change: impl Fn(Node) -> Node) -> Node {
    let value = match node.value {
        Value::Map(pairs) => {
            let changed = pairs
                .into_iter()
                .map(|(k, v)| if k.text == key { (k, change(v)) } else { (k, v) });
            Value::Map(changed.collect())
        }
        other => other,
    };
    Node { value, ..node }
}

impl Group {
    /// As YAML that is read again as the same group.
    pub fn to_yaml(&self) -> String {
        self.to_node().to_yaml()
    }

    /// The same as a tree.
    pub fn to_node(&self) -> Node {
        let duration = |ms: i64| model::print_duration(std::time::Duration::from_millis(ms.unsigned_abs()));
        let mut fields = vec![("name", text(&self.name))];
        fields.extend(self.interval_ms.map(|ms| ("interval", text(&duration(ms)))));
        fields.extend(self.query_offset_ms.map(|ms| ("query_offset", text(&duration(ms)))));
        if self.limit > 0 {
            fields.push(("limit", Node::scalar(self.limit.to_string())));
        }
        if !self.labels.is_empty() {
            fields.push(("labels", texts(&self.labels)));
        }
        let rules = self.rules.iter().map(|rule| {
            let mut fields = match &rule.kind {
                RuleKind::Recording { record } => vec![("record", text(record))],
                RuleKind::Alerting { alert, .. } => vec![("alert", text(alert))],
            };
            fields.push(("expr", text(&rule.expr)));
            if let RuleKind::Alerting {
                for_ms,
                keep_firing_for_ms,
                ..
            } = &rule.kind
            {
                for (name, ms) in [("for", *for_ms), ("keep_firing_for", *keep_firing_for_ms)] {
                    if ms > 0 {
                        fields.push((name, text(&duration(ms))));
                    }
                }
            }
            if !rule.labels.is_empty() {
                fields.push(("labels", texts(&rule.labels)));
            }
            if let RuleKind::Alerting { annotations, .. } = &rule.kind
                && !annotations.is_empty()
            {
                fields.push(("annotations", texts(annotations)));
            }
            map(fields)
        });
        fields.push(("rules", Node::list(rules)));
        map(fields)
    }
}

fn text(text: &str) -> Node {
    let mut node = Node::scalar(text);
    if let Value::Scalar { is_plain, .. } = &mut node.value {
        *is_plain = false;
    }
    node
}

fn texts(pairs: &[(String, String)]) -> Node {
    map(pairs.iter().map(|(name, value)| (name.as_str(), text(value))))
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    let pairs = fields.into_iter().map(|(name, node)| {
        let key = Key {
            line: 0,
            column: 0,
            text: name.to_owned(),
        };
        (key, node)
    });
    Node {
        line: 0,
        column: 0,
        value: Value::Map(pairs.collect()),
    }
}

fn encode(groups: &[(&str, String)]) -> Vec<u8> {
    let mut out = vec![VERSION];
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length(groups.len()));
    for (namespace, yaml) in groups {
        for part in [namespace.as_bytes(), yaml.as_bytes()] {
            out.extend_from_slice(&length(part.len()));
            out.extend_from_slice(part);
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let (&version, mut rest) = bytes.split_first()?;
    if version != VERSION {
        return None;
    }
    let count = take_u32(&mut rest)?;
    let mut out = Vec::new();
    for _ in 0..count {
        out.push((take_text(&mut rest)?, take_text(&mut rest)?));
    }
    rest.is_empty().then_some(out)
}

fn take_u32(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = take_u32(rest)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUP: &str = r#"
name: g
interval: 1m
limit: 5
source_tenants: [a]
rules:
  - alert: Errors
    expr: |
      sum by (app) (rate({app="x"} |= "boo: no" [5m])) > 1
    for: 5m
    keep_firing_for: 1h30m
    labels: {severity: page, number: "1"}
    annotations: {summary: "{{ $labels.app }}: {{ $value }}"}
    unknown: 1
  - record: app:errors
    expr: 'count_over_time({app="x"}[1m])'
"#;

    #[test]
    fn a_group_is_the_same_when_it_is_written_and_read() {
        let group = group_of("ns", GROUP).unwrap();
        assert_eq!((group.rules.len(), group.limit, group.dialect), (2, 5, Dialect::LogQl));
        let mut again = read_group("ns", &group.to_yaml(), Dialect::LogQl).unwrap();
        for (rule, was) in again.rules.iter_mut().zip(&group.rules) {
            rule.line = was.line;
        }
        assert_eq!(again, group, "{}", group.to_yaml());
    }

    #[test]
    fn what_is_no_group_is_told_as_loki_tells_it() {
        for (yaml, words) in [
            ("a: [", "unable to decoded rule group"),
            ("just text", "unable to decoded rule group"),
            ("rules: []", "Groupname must not be empty"),
            ("{name: g, rules: [{alert: A}]}", "field 'expr' must be set in rule"),
            (
                "{name: g, rules: [{alert: A, expr: '{a=\"b\"'}]}",
                "could not parse expression for alert 'A' in group 'g': ",
            ),
        ] {
            let error = group_of("ns", yaml).unwrap_err().to_string();
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }

    #[test]
    fn golden_kept_groups_v1() {
        let group = group_of("ns", GROUP).unwrap();
        let bytes = encode(&[("ns", group.to_yaml())]);
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kept_groups_v1.bin");
        if !path.exists() && std::env::var_os("NEW_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let read = decode(&bytes).unwrap();
        assert!(read_group(&read[0].0, &read[0].1, Dialect::LogQl).is_ok());
    }

    proptest! {
        /// The bytes are from a disk.
        #[test]
        fn any_bytes_are_groups_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = bytes;
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }
}
