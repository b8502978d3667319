//! Relabelling: rules that rewrite a label set, or drop what has it.
//!
//! Expressions are RE2's and must match the whole value; replacements know `$1`, `${1}`, `$name`, `${name}` and `$$`, where
//! a name is as long as it can be: `$1x` asks for a group called `1x`.

use md5::{Digest, Md5};
use model::{Captures, LabelsBuilder, METRIC_NAME, Regex, anchored_regex};

use crate::reader::Reader;
use yaml_tree::Node;

/// What a rule does with labels that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the words of prometheus.yml
pub enum RelabelAction {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

/// Which names metrics and labels may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameScheme {
    /// Any UTF-8.
    #[default]
    Utf8,
    /// Letters, digits, underscores; colons in metrics.
    Legacy,
}

impl NameScheme {
    /// Whether a label may be called so.
    pub fn label_is_valid(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy(name, false),
        }
    }

    /// Whether a metric may be called so.
    pub fn metric_is_valid(self, name: &str) -> bool {
        match self {
            NameScheme::Utf8 => !name.is_empty(),
            NameScheme::Legacy => is_legacy(name, true),
        }
    }
}

fn is_legacy(name: &str, with_colons: bool) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || with_colons && b == b':';
    !name.is_empty() && name.bytes().all(fits) && !name.as_bytes()[0].is_ascii_digit()
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RelabelRule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    target: Template,
    replacement_text: String,
    replacement: Template,
    action: RelabelAction,
    names: NameScheme,
    node: Node,
}

impl PartialEq for RelabelRule {
    fn eq(&self, other: &Self) -> bool {
        self.source_labels == other.source_labels
            && self.separator == other.separator
            && self.regex.as_str() == other.regex.as_str()
            && self.modulus == other.modulus
            && self.target_label == other.target_label
            && self.replacement_text == other.replacement_text
            && self.action == other.action
            && self.names == other.names
    }
}

/// A text with places for what groups have matched.
#[derive(Clone, Debug, PartialEq)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Index(usize),
    Name(String),
}

/// Applies rules in their order. `false`: a rule drops what has these labels, which are then of no use.
pub fn relabel(rules: &[RelabelRule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl RelabelRule {
    /// Reads a rule; faults go to the reader and make it `None`.
    pub(crate) fn read(reader: &Reader<'_>, node: &Node, names: NameScheme) -> Option<RelabelRule> {
        let mut f = reader.fields(node, "a relabel rule");
        let action = f.string("action").unwrap_or_else(|| "replace".to_owned());
        let source_labels = f.texts("source_labels");
        let separator = f.string("separator");
        let pattern = f.string("regex");
        let modulus = f.number("modulus");
        let target_label = f.string("target_label").unwrap_or_default();
        let replacement = f.string("replacement");
        // What is given as "" is given.
        let has_empty = |key: &str| node.get(key).is_some();
        let replacement = replacement.or_else(|| has_empty("replacement").then(String::new));
        let separator = separator.or_else(|| has_empty("separator").then(String::new));
        let pattern = pattern.or_else(|| has_empty("regex").then(String::new));
        let line = node.line;
        let lines = [f.line_of("action"), f.line_of("target_label"), f.line_of("regex")];
        f.finish();
        let Some(kind) = action_named(&action) else {
            reader.error(lines[0], format!("unknown relabel action {action:?}"));
            return None;
        };
        let action = action.to_ascii_lowercase();
        let given = Given {
            separator: separator.as_deref().is_some_and(|s| s != ";"),
            regex: pattern.as_deref().is_some_and(|s| s != "(.*)"),
            modulus: modulus.unwrap_or(0) != 0,
            replacement: replacement.as_deref().is_some_and(|s| s != "$1"),
        };
        let replacement = replacement.unwrap_or_else(|| "$1".to_owned());
        if let Some(fault) = fault(
            kind,
            &action,
            &given,
            &source_labels,
            &target_label,
            &replacement,
            names,
        ) {
            reader.error(line, fault);
            return None;
        }
        let pattern = pattern.unwrap_or_else(|| "(.*)".to_owned());
        let regex = match anchored_regex(&pattern) {
            Ok(regex) => regex,
            Err(e) => {
                reader.error(lines[2], format!("regex: {e}"));
                return None;
            }
        };
        Some(RelabelRule {
            source_labels,
            separator: separator.unwrap_or_else(|| ";".to_owned()),
            regex,
            modulus: modulus.unwrap_or(0),
            target: Template::new(&target_label),
            target_label,
            replacement: Template::new(&replacement),
            replacement_text: replacement,
            action: kind,
            names,
            node: node.clone(),
        })
    }

    /// What it does.
    pub fn action(&self) -> RelabelAction {
        self.action
    }

    /// As it stands in the file.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The rule with every field, as `relabel_steps` shows it: name and value in JSON.
    pub fn to_members(&self) -> Vec<(&'static str, RuleField<'_>)> {
        let word = ACTIONS.iter().find(|(_, a)| *a == self.action).map_or("", |(w, _)| *w);
        // The pattern is told as it was written, not as it was compiled.
        let pattern = self.node.get("regex").and_then(|n| match &n.value {
            yaml_tree::Value::Scalar { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let mut members = Vec::new();
        if !self.source_labels.is_empty() {
            members.push(("source_labels", RuleField::Texts(&self.source_labels)));
        }
        members.push(("separator", RuleField::Text(&self.separator)));
        members.push(("regex", RuleField::Text(pattern.unwrap_or("(.*)"))));
        if self.modulus != 0 {
            members.push(("modulus", RuleField::Number(self.modulus)));
        }
        if !self.target_label.is_empty() {
            members.push(("target_label", RuleField::Text(&self.target_label)));
        }
        members.push(("replacement", RuleField::Text(&self.replacement_text)));
        members.push(("action", RuleField::Text(word)));
        members
    }

    /// Applies the rule. `false`: it drops what has these labels.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let value = self.value(labels);
        match self.action {
            RelabelAction::Replace => self.replace(&value, labels),
            RelabelAction::Keep => return self.regex.is_match(&value),
            RelabelAction::Drop => return !self.regex.is_match(&value),
            RelabelAction::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == value,
            RelabelAction::DropEqual => return labels.get(&self.target_label).unwrap_or("") != value,
            RelabelAction::HashMod => {
                let rest = hash(&value).checked_rem(self.modulus).unwrap_or(0);
                labels.set(self.target_label.clone(), rest.to_string());
            }
            RelabelAction::Lowercase => labels.set(self.target_label.clone(), value.to_lowercase()),
            RelabelAction::Uppercase => labels.set(self.target_label.clone(), value.to_uppercase()),
            RelabelAction::LabelMap => {
                let mut copies = Vec::new();
                let mut captures = self.regex.new_captures();
                for (name, value) in labels.iter() {
                    if self.regex.captures(name, &mut captures) {
                        copies.push((self.replacement.expand(name, &captures), value.to_owned()));
                    }
                }
                for (name, value) in copies {
                    labels.set(name, value);
                }
            }
            RelabelAction::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            RelabelAction::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }

    fn value(&self, labels: &LabelsBuilder) -> String {
        let mut value = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(labels.get(name).unwrap_or(""));
        }
        value
    }

    fn replace(&self, value: &str, labels: &mut LabelsBuilder) {
        let mut captures = self.regex.new_captures();
        if !self.regex.captures(value, &mut captures) {
            return;
        }
        let target = self.target.expand(value, &captures);
        if self.names.label_is_valid(&target) {
            labels.set(target, self.replacement.expand(value, &captures));
        }
    }
}

/// A field of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleField<'a> {
    /// One text.
    Text(&'a str),
    /// Several.
    Texts(&'a [String]),
    /// A number.
    Number(u64),
}

fn action_named(word: &str) -> Option<RelabelAction> {
    let word = word.to_ascii_lowercase();
    ACTIONS
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, action)| *action)
}

/// Which fields say something else than by default.
struct Given {
    separator: bool,
    regex: bool,
    modulus: bool,
    replacement: bool,
}

/// Why fields do not go together with an action.
fn fault(
    kind: RelabelAction,
    action: &str,
    given: &Given,
    source_labels: &[String],
    target_label: &str,
    replacement: &str,
    names: NameScheme,
) -> Option<String> {
    use RelabelAction::*;
    let needs_target = matches!(kind, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
    if kind == HashMod && !given.modulus {
        return Some("relabel configuration for hashmod requires non-zero modulus".to_owned());
    }
    if needs_target && target_label.is_empty() {
        return Some(format!(
            "relabel configuration for {action} action requires 'target_label' value"
        ));
    }
    let is_name = |text: &str| names.label_is_valid(text);
    // A name with groups in it is known only when they have matched.
    let may_be_name = |text: &str| Template::new(text).has_groups() || is_name(text);
    if needs_target
        && !(if kind == Replace {
            may_be_name(target_label)
        } else {
            is_name(target_label)
        })
    {
        return Some(format!(
            "{target_label:?} is invalid 'target_label' for {action} action"
        ));
    }
    if kind == LabelMap && !may_be_name(replacement) {
        return Some(format!("{replacement:?} is invalid 'replacement' for {action} action"));
    }
    if matches!(kind, Lowercase | Uppercase | KeepEqual | DropEqual) && given.replacement {
        return Some(format!("'replacement' can not be set for {action} action"));
    }
    let others = given.modulus || given.separator || given.replacement;
    if matches!(kind, KeepEqual | DropEqual) && (given.regex || others) {
        return Some(format!(
            "{action} action requires only 'source_labels' and `target_label`, and no other fields"
        ));
    }
    if matches!(kind, LabelDrop | LabelKeep) && (!source_labels.is_empty() || !target_label.is_empty() || others) {
        return Some(format!("{action} action requires only 'regex', and no other fields"));
    }
    source_labels
        .iter()
        .find(|name| !is_name(name) && name.as_str() != METRIC_NAME)
        .map(|name| format!("{name:?} is not a valid label name"))
}

/// The last eight bytes of the MD5, big-endian.
fn hash(value: &str) -> u64 {
    let digest = Md5::digest(value.as_bytes());
    let mut last = [0; 8];
    last.copy_from_slice(&digest[8..16]);
    u64::from_be_bytes(last)
}

impl Template {
    fn new(text: &str) -> Template {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            match group(after) {
                Some((name, after)) => {
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    let is_number = name.bytes().all(|b| b.is_ascii_digit());
                    pieces.push(match name.parse() {
                        Ok(index) if is_number => Piece::Index(index),
                        _ => Piece::Name(name.to_owned()),
                    });
                    rest = after;
                }
                // A dollar that begins no group is one.
                None => {
                    plain.push('$');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Template(pieces)
    }

    fn has_groups(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    fn expand(&self, text: &str, captures: &Captures) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Index(index) => out.push_str(captures.get(*index).map_or("", |group| &text[group])),
                Piece::Name(name) => out.push_str(captures.named(name).map_or("", |group| &text[group])),
            }
        }
        out
    }
}

/// The name of the group that `text`, what follows a dollar, begins with, and what follows.
fn group(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len())),
    };
    (!name.is_empty() && name.chars().all(is_word)).then_some((name, rest))
}
