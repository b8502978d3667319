//! The fields of a map in a rule file: asked for by name, and whatever nobody asked for is a fault.

use yaml_tree::{Key, Node, Value};

use super::{Fault, Place};

/// The fields of one map.
pub(crate) struct Fields<'n, 'f> {
    pairs: &'n [(Key, Node)],
    asked: Vec<bool>,
    /// What the map is, for error texts.
    what: &'static str,
    place: &'f Place,
    faults: &'f mut Vec<Fault>,
}

impl<'n, 'f> Fields<'n, 'f> {
    /// Of a node that should be a map; an empty one has no fields.
    pub fn of(node: &'n Node, what: &'static str, place: &'f Place, faults: &'f mut Vec<Fault>) -> Fields<'n, 'f> {
        let pairs: &[(Key, Node)] = match &node.value {
            Value::Map(pairs) => pairs,
            _ if node.is_null() => &[],
            _ => {
                faults.push(place.fault(node, format!("{what} must be a map, this is {}", node.kind())));
                &[]
            }
        };
        Fields {
            pairs,
            asked: vec![false; pairs.len()],
            what,
            place,
            faults,
        }
    }

    /// The value of a key; an empty one counts as absent.
    pub fn node(&mut self, key: &str) -> Option<&'n Node> {
        let at = self.pairs.iter().position(|(k, _)| k.text == key)?;
        self.asked[at] = true;
        let node = &self.pairs[at].1;
        (!node.is_null()).then_some(node)
    }

    /// A text, with where it stands.
    pub fn text(&mut self, key: &str) -> Option<(&'n str, &'n Node)> {
        let node = self.node(key)?;
        match &node.value {
            Value::Scalar { text, .. } => Some((text, node)),
            _ => {
                self.fault(node, format!("{key} must be a text, this is {}", node.kind()));
                None
            }
        }
    }

    /// A duration in ms.
    pub fn duration_ms(&mut self, key: &str) -> Option<i64> {
        let (text, node) = self.text(key)?;
        let reason = match model::parse_duration(text) {
            Some(duration) => return i64::try_from(duration.as_millis()).ok(),
            None if text.is_empty() => format!("{key}: empty duration string"),
            None => format!("{key}: not a valid duration string: {text:?}"),
        };
        self.fault(node, reason);
        None
    }

    /// A whole number; one below zero is 0.
    pub fn count(&mut self, key: &str) -> Option<usize> {
        let (text, node) = self.text(key)?;
        match text.replace('_', "").parse::<i64>() {
            Ok(n) => Some(usize::try_from(n).unwrap_or(0)),
            Err(_) => {
                self.fault(node, format!("{key}: {text:?} is not a whole number"));
                None
            }
        }
    }

    /// Names and texts in the order of the file, with where each name stands.
    pub fn text_map(&mut self, key: &str) -> Vec<(&'n Key, &'n str)> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Value::Map(pairs) = &node.value else {
            self.fault(node, format!("{key} must be a map, this is {}", node.kind()));
            return Vec::new();
        };
        let mut out = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            match &value.value {
                _ if value.is_null() => out.push((name, "")),
                Value::Scalar { text, .. } => out.push((name, text.as_str())),
                _ => self.fault(
                    value,
                    format!("{key}: {} must be a text, this is {}", name.text, value.kind()),
                ),
            }
        }
        out
    }

    /// The items of a list.
    pub fn items(&mut self, key: &str) -> &'n [Node] {
        let Some(node) = self.node(key) else { return &[] };
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.fault(node, format!("{key} must be a list, this is {}", node.kind()));
                &[]
            }
        }
    }

    /// Notes a fault at a node.
    pub fn fault(&mut self, node: &Node, reason: impl Into<String>) {
        self.faults.push(self.place.fault(node, reason));
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(self) {
        for ((key, _), asked) in self.pairs.iter().zip(&self.asked) {
            if !asked {
                let reason = format!("field {:?} is unknown in {}", key.text, self.what);
                self.faults.push(self.place.at(key.line, key.column, reason));
            }
        }
    }
}
