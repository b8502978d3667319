//! From nodes to values: reads the fields of a map by name, and notes what is wrong or unknown with file and line.
//!
//! Reading goes on after a fault, so that a person learns of all of them at once. What nobody asked for by the end is
//! unknown: a warning, because configurations in the field carry keys of other versions.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::parse_duration;
use yaml_tree::{Key, Node, Value};

/// Something to say about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line, counted from 1; 0: the file as a whole.
    pub line: u32,
    /// Whether it can be used in spite of it.
    pub is_warning: bool,
    /// What there is to say.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// What is known while one file is read.
pub(crate) struct Reader<'a> {
    pub file: Arc<str>,
    /// What relative paths are relative to.
    pub dir: PathBuf,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub findings: &'a RefCell<Vec<Finding>>,
}

impl Reader<'_> {
    pub fn error(&self, line: u32, what: impl Into<String>) {
        self.note(line, false, what.into());
    }

    pub fn warn(&self, line: u32, what: impl Into<String>) {
        self.note(line, true, what.into());
    }

    fn note(&self, line: u32, is_warning: bool, what: String) {
        self.findings.borrow_mut().push(Finding {
            file: self.file.clone(),
            line,
            is_warning,
            what,
        });
    }

    /// A path of the file, relative ones from the file's folder.
    pub fn path(&self, text: &str) -> PathBuf {
        if text.is_empty() {
            return PathBuf::new();
        }
        self.dir.join(Path::new(text))
    }

    /// The fields of a map; an empty node has none.
    pub fn fields<'n>(&'n self, node: &'n Node, what: &'static str) -> Fields<'n> {
        let pairs: &[(Key, Node)] = match &node.value {
            Value::Map(pairs) => pairs,
            _ if node.is_null() => &[],
            _ => {
                self.error(node.line, format!("{what} must be a map, this is {}", node.kind()));
                &[]
            }
        };
        Fields {
            reader: self,
            what,
            line: node.line,
            pairs,
            asked: vec![false; pairs.len()],
        }
    }

    /// The items of a list.
    pub fn items<'n>(&self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ if node.is_null() => &[],
            _ => {
                self.error(node.line, format!("{what} must be a list, this is {}", node.kind()));
                &[]
            }
        }
    }

    /// The text of a scalar.
    pub fn text<'n>(&self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            _ if node.is_null() => Some(""),
            Value::Scalar { text, .. } => Some(text),
            _ => {
                self.error(node.line, format!("{what} must be a text, this is {}", node.kind()));
                None
            }
        }
    }

    /// Text to text, in the order of the file.
    pub fn text_map(&self, node: &Node, what: &str) -> Vec<(String, String)> {
        match &node.value {
            Value::Map(pairs) => pairs
                .iter()
                .filter_map(|(k, v)| Some((k.text.clone(), self.text(v, what)?.to_owned())))
                .collect(),
            _ if node.is_null() => Vec::new(),
            _ => {
                self.error(node.line, format!("{what} must be a map, this is {}", node.kind()));
                Vec::new()
            }
        }
    }

    /// A list of texts.
    pub fn texts(&self, node: &Node, what: &str) -> Vec<String> {
        let items = self.items(node, what).iter();
        items
            .filter_map(|item| self.text(item, what).map(str::to_owned))
            .collect()
    }
}

/// The fields of one map.
pub(crate) struct Fields<'n> {
    pub reader: &'n Reader<'n>,
    what: &'static str,
    /// Where the map begins.
    pub line: u32,
    pairs: &'n [(Key, Node)],
    asked: Vec<bool>,
}

impl<'n> Fields<'n> {
    /// The value of a key; one that is empty counts as absent.
    pub fn node(&mut self, key: &str) -> Option<&'n Node> {
        let at = self.pairs.iter().position(|(k, _)| k.text == key)?;
        self.asked[at] = true;
        let node = &self.pairs[at].1;
        (!node.is_null()).then_some(node)
    }

    /// Where a key stands, else the map.
    pub fn line_of(&self, key: &str) -> u32 {
        let found = self.pairs.iter().find(|(k, _)| k.text == key);
        found.map_or(self.line, |(k, _)| k.line)
    }

    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(k, v)| k.text == key && !v.is_null())
    }

    pub fn text(&mut self, key: &str) -> Option<&'n str> {
        let node = self.node(key)?;
        self.reader.text(node, key)
    }

    pub fn string(&mut self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }

    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key).filter(|t| !t.is_empty())?;
        Some(self.reader.path(text))
    }

    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let node = self.node(key);
        node.map_or_else(Vec::new, |node| self.reader.texts(node, key))
    }

    /// `parse` gives what was expected instead.
    fn parsed<T>(&mut self, key: &str, want: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let node = self.node(key)?;
        let text = self.reader.text(node, key)?;
        let parsed = parse(text);
        if parsed.is_none() {
            self.reader.error(node.line, format!("{key}: {text:?} is not {want}"));
        }
        parsed
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        self.parsed(key, "true or false", |text| match text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
            _ => None,
        })
    }

    pub fn number(&mut self, key: &str) -> Option<u64> {
        self.parsed(key, "a whole number", |text| text.replace('_', "").parse().ok())
    }

    pub fn float(&mut self, key: &str) -> Option<f64> {
        self.parsed(key, "a number", |text| text.parse().ok())
    }

    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.parsed(key, "a duration such as 15s, 1m30s", parse_duration)
    }

    /// `100MB`, `1GiB`, `1024`; units count 1024.
    pub fn bytes(&mut self, key: &str) -> Option<u64> {
        self.parsed(key, "a size such as 100MB", parse_bytes)
    }

    /// Reads each item of a list.
    pub fn each<T>(&mut self, key: &str, read: impl Fn(&'n Reader<'n>, &'n Node) -> T) -> Vec<T> {
        let reader = self.reader;
        let node = self.node(key);
        node.map_or_else(Vec::new, |node| {
            reader.items(node, key).iter().map(|item| read(reader, item)).collect()
        })
    }

    /// Warns of keys that exist elsewhere and have no effect here, and gives them no further thought.
    pub fn no_effect(&mut self, keys: &[(&str, &str)]) {
        for (key, why) in keys {
            let line = self.line_of(key);
            if self.node(key).is_some() {
                self.reader.warn(line, format!("{key} has no effect: {why}"));
            }
        }
    }

    /// Takes keys that need no word.
    pub fn accept(&mut self, keys: &[&str]) {
        for key in keys {
            let _ = self.node(key);
        }
    }

    /// Ends the reading: what was not asked for is unknown.
    pub fn finish(self) {
        for ((key, _), asked) in self.pairs.iter().zip(&self.asked) {
            if !asked {
                let (key_text, what) = (&key.text, self.what);
                self.reader
                    .warn(key.line, format!("unknown key {key_text:?} in {what} is ignored"));
            }
        }
    }
}

/// `$name` and `${name}` replaced; `$$` is a dollar.
pub(crate) fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>, mut unset: impl FnMut(&str)) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            Some(braced) => braced,
            None => {
                let len = rest
                    .bytes()
                    .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                    .count();
                rest.split_at(len)
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            match value(name) {
                Some(v) => out.push_str(&v),
                None => unset(name),
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let n: f64 = text[..digits].parse().ok()?;
    let power = match text[digits..].trim() {
        "" | "B" => 0,
        "KB" | "KiB" | "K" => 1,
        "MB" | "MiB" | "M" => 2,
        "GB" | "GiB" | "G" => 3,
        "TB" | "TiB" | "T" => 4,
        "PB" | "PiB" => 5,
        "EB" | "EiB" => 6,
        _ => return None,
    };
    let bytes = n * 1024f64.powi(power);
    (0.0..1.8e19).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded() {
        let value = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, expanded) in [("a-$A-${A}b", "a-x-xb"), ("$$A", "$A"), ("$B|${B}", "|"), ("5$", "5$")] {
            let mut unset = Vec::new();
            let got = expand(text, &value, |name| unset.push(name.to_owned()));
            assert_eq!(got, expanded, "{text}");
            assert_eq!(unset.len(), text.matches('B').count(), "{text}");
        }
    }

    #[test]
    fn sizes_count_1024() {
        for (text, bytes) in [
            ("100", 100),
            ("1KB", 1024),
            ("2MiB", 2 << 20),
            ("1.5GB", 3 << 29),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_bytes("x"), None);
        assert_eq!(parse_bytes("5 parsecs"), None);
    }
}
