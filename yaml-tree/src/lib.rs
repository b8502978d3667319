//! YAML as a tree of which every node knows its line and column, so that a finding can say where it is.
//!
//! Aliases are resolved to copies of what they name and `<<` merges are left to the reader of fields (Prometheus knows
//! none). Foreign text is bounded in size, depth and in what its aliases unfold to.

use std::fmt::Write;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

/// Largest file that is read.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 100;
/// Most nodes, aliases unfolded.
const NODES_MAX: usize = 1_000_000;

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its line, counted from 1.
    pub line: u32,
    /// Its column, counted from 1.
    pub column: u32,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text, number, truth value or nothing; which of them is for the reader to say.
    Scalar {
        /// As written, escapes and folds resolved.
        text: String,
        /// Whether it stands without quotes.
        is_plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its line, counted from 1.
    pub line: u32,
    /// Its column, counted from 1.
    pub column: u32,
    /// Its text.
    pub text: String,
}

/// Text that is no YAML of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct BadYaml {
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
}

impl Node {
    /// A scalar made here.
    pub fn scalar(text: impl Into<String>) -> Node {
        Node {
            line: 0,
            column: 0,
            value: Value::Scalar {
                text: text.into(),
                is_plain: true,
            },
        }
    }

    /// A list made here.
    pub fn list(items: impl IntoIterator<Item = Node>) -> Node {
        Node {
            line: 0,
            column: 0,
            value: Value::List(items.into_iter().collect()),
        }
    }

    /// Whether it says nothing: empty, `~` or `null` without quotes.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, is_plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(pairs) => pairs.iter().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar { .. } => "a value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// As block YAML, keys in their order.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match &self.value {
            Value::Scalar { text, is_plain } => {
                put_scalar(&mut out, text, *is_plain);
                out.push('\n');
            }
            _ => put_block(&mut out, self, 0, false),
        }
        out
    }
}

/// Reads one document; a text without any is an empty node.
pub fn parse(text: &str) -> Result<Node, BadYaml> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(BadYaml {
            line: 1,
            column: 1,
            what: format!("the file has more than {TEXT_BYTES_MAX} bytes"),
        });
    }
    let mut reading = Reading {
        parser: Parser::new_from_str(text),
        anchors: Vec::new(),
        nodes: 0,
    };
    loop {
        let (event, span) = reading.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) => {}
            Event::StreamEnd | Event::DocumentEnd => {
                return Ok(Node {
                    line: line_of(&span),
                    column: column_of(&span),
                    ..Node::scalar("")
                });
            }
            event => {
                let node = reading.node(event, span, 0)?;
                return match reading.next()? {
                    (Event::DocumentEnd, _) => match reading.next()? {
                        (Event::StreamEnd, _) => Ok(node),
                        (_, span) => Err(bad(&span, "a second document in the file")),
                    },
                    (_, span) => Err(bad(&span, "something after the end of the document")),
                };
            }
        }
    }
}

struct Reading<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    /// Anchor id, how many nodes it holds, and the node.
    anchors: Vec<(usize, usize, Node)>,
    nodes: usize,
}

impl<'a> Reading<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), BadYaml> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(e)) => {
                    return Err(BadYaml {
                        line: u32::try_from(e.marker().line()).unwrap_or(0),
                        column: u32::try_from(e.marker().col() + 1).unwrap_or(0),
                        what: e.info(),
                    });
                }
                None => {
                    return Err(BadYaml {
                        line: 1,
                        column: 1,
                        what: "the file ends too early".to_owned(),
                    });
                }
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, BadYaml> {
        if depth > DEPTH_MAX {
            return Err(bad(&span, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let before = self.nodes;
        self.count(&span, 1)?;
        let (line, column) = (line_of(&span), column_of(&span));
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                (
                    Value::Scalar {
                        text: text.into_owned(),
                        is_plain,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (Value::Map(self.pairs(depth)?), anchor),
            Event::Alias(id) => {
                let Some((_, size, node)) = self.anchors.iter().find(|a| a.0 == id) else {
                    return Err(bad(&span, "an alias of nothing"));
                };
                let (size, node) = (*size, node.clone());
                self.count(&span, size)?;
                return Ok(node);
            }
            _ => return Err(bad(&span, "unexpected YAML")),
        };
        let node = Node { line, column, value };
        if anchor != 0 {
            self.anchors.push((anchor, self.nodes - before, node.clone()));
        }
        Ok(node)
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, BadYaml> {
        let mut pairs: Vec<(Key, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(pairs);
            }
            let key = self.node(event, span, depth + 1)?;
            let Value::Scalar { text, .. } = key.value else {
                return Err(bad(&span, format!("a key must be a text, this is {}", key.kind())));
            };
            if !seen.insert(text.clone()) {
                return Err(bad(&span, format!("key {text:?} is there twice")));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let (line, column) = (key.line, key.column);
            pairs.push((Key { line, column, text }, value));
        }
    }

    /// Anchored nodes are copied, so a few lines of aliases could unfold without end.
    fn count(&mut self, span: &Span, n: usize) -> Result<(), BadYaml> {
        self.nodes = self.nodes.saturating_add(n);
        if self.nodes > NODES_MAX {
            return Err(bad(
                span,
                format!("more than {NODES_MAX} values, what aliases stand for included"),
            ));
        }
        Ok(())
    }
}

fn line_of(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn column_of(span: &Span) -> u32 {
    u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX)
}

fn bad(span: &Span, what: impl Into<String>) -> BadYaml {
    BadYaml {
        line: line_of(span),
        column: column_of(span),
        what: what.into(),
    }
}

/// `is_item`: it begins after a `- `, so its first line is indented already.
fn put_block(out: &mut String, node: &Node, indent: usize, is_item: bool) {
    match &node.value {
        Value::Scalar { text, is_plain } => {
            put_scalar(out, text, *is_plain);
            out.push('\n');
        }
        Value::List(items) => {
            for item in items {
                pad(out, indent);
                out.push_str("- ");
                match &item.value {
                    Value::List(_) => {
                        put_flow(out, item);
                        out.push('\n');
                    }
                    _ => put_block(out, item, indent + 2, true),
                }
            }
        }
        Value::Map(pairs) => {
            if pairs.is_empty() {
                out.push_str("{}\n");
            }
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 || !is_item {
                    pad(out, indent);
                }
                put_scalar(out, &key.text, true);
                out.push(':');
                match &value.value {
                    Value::Scalar { text, is_plain } => {
                        out.push(' ');
                        put_scalar(out, text, *is_plain);
                        out.push('\n');
                    }
                    Value::List(items) if items.is_empty() => out.push_str(" []\n"),
                    Value::Map(pairs) if pairs.is_empty() => out.push_str(" {}\n"),
                    Value::List(_) => {
                        out.push('\n');
                        put_block(out, value, indent, false);
                    }
                    Value::Map(_) => {
                        out.push('\n');
                        put_block(out, value, indent + 2, false);
                    }
                }
            }
        }
    }
}

fn put_flow(out: &mut String, node: &Node) {
    match &node.value {
        Value::Scalar { text, is_plain } => put_scalar(out, text, *is_plain),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                put_flow(out, item);
            }
            out.push(']');
        }
        Value::Map(pairs) => {
            out.push('{');
            for (i, (key, value)) in pairs.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                put_scalar(out, &key.text, false);
                out.push_str(": ");
                put_flow(out, value);
            }
            out.push('}');
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Without quotes where that reads the same.
fn put_scalar(out: &mut String, text: &str, is_plain: bool) {
    let starts_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '<' | '(' | '+' | '$' | '^' | '\\');
    let goes_on =
        |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '{' | '}' | '[' | ']' | ',' | '"' | '\'') || c == ' ';
    let reads_as_text = !matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n" | ".nan" | ".inf" | "+.inf"
    ) && text.parse::<f64>().is_err();
    let as_it_is = text.starts_with(starts_plain)
        && text.chars().all(goes_on)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && (is_plain || reads_as_text);
    if as_it_is {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c == '\u{7f}' || ('\u{80}'..='\u{9f}').contains(&c) => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_node_knows_its_line() {
        let node = parse("a: 1\nb:\n  - x\n  - {c: d}\n").unwrap();
        assert_eq!(node.get("a").unwrap().line, 1);
        let Value::List(items) = &node.get("b").unwrap().value else {
            panic!("{node:?}")
        };
        assert_eq!((items[0].line, items[1].line), (3, 4));
        assert_eq!(node.to_yaml(), "a: 1\nb:\n- x\n- c: d\n");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, what) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 3, ""),
            ("a: 1\na: 2\n", 2, "key \"a\" is there twice"),
            ("a: *nobody\n", 1, ""),
            ("a: 1\n---\nb: 2\n", 2, "a second document in the file"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.line.abs_diff(line) <= 1 && e.what.contains(what), "{text:?}: {e:?}");
        }
    }

    #[test]
    fn aliases_are_copied_but_not_without_end() {
        let node = parse("a: &x {k: v}\nb: *x\n").unwrap();
        assert_eq!(node.get("a").unwrap(), node.get("b").unwrap());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..10 {
            let names = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{names}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().what.contains("aliases"));
        let deep = "[".repeat(300) + &"]".repeat(300);
        assert!(parse(&deep).is_err());
    }

    proptest! {
        /// What `status/config` shows can be given back to the process.
        #[test]
        fn what_is_written_is_read_again(texts in proptest::collection::vec("\\PC{0,12}", 0..5), plain in "[a-z0-9.:/ -]{0,8}") {
            let items = texts.iter().map(|text| Node { line: 0, column: 0, value: Value::Scalar { text: text.clone(), is_plain: false } });
            let map = |i: usize, node: Node| (Key { line: 0, column: 0, text: format!("k{i}") }, node);
            let mut pairs = vec![map(0, Node::list(items)), map(1, Node { line: 0, column: 0, value: Value::Scalar { text: plain, is_plain: false } })];
            let inner = Node { line: 0, column: 0, value: Value::Map(pairs.clone()) };
            pairs.push(map(2, Node::list([inner.clone(), inner])));
            let node = Node { line: 0, column: 0, value: Value::Map(pairs) };
            let again = parse(&node.to_yaml()).unwrap();
            prop_assert_eq!(texts_of(&again), texts_of(&node), "{}", node.to_yaml());
        }

        /// A file may hold anything.
        #[test]
        fn any_text_is_a_tree_or_an_error(text in "[-a-z:&*!|>{}\\[\\], \n\"'#%]{0,200}") {
            let _ = parse(&text);
        }
    }

    /// Without lines and quotes.
    fn texts_of(node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(texts_of).collect::<Vec<_>>().join(",")),
            Value::Map(pairs) => pairs
                .iter()
                .map(|(k, v)| format!("{}:{};", k.text, texts_of(v)))
                .collect(),
        }
    }
}
