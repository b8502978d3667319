//! Values while a template runs, and how Go prints them.

use std::sync::Arc;

use crate::spelling::{go_float, print_duration, print_float};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing; printed as `<no value>`.
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(String),
    /// Nanoseconds since the epoch, and the zone it is shown in.
    Time(i64, jiff::tz::TimeZone),
    /// Nanoseconds.
    Duration(i64),
    /// A slice, by the name of its type in Go.
    List(&'static str, Arc<[Value]>),
    /// In the order of keys; a key that is missing gives [`Value::Nil`].
    Map(Arc<[(String, Value)]>),
    /// Text by text, in the order of keys; a key that is missing gives the empty text.
    Texts(Arc<[(String, String)]>),
    /// A struct, by the name of its type in Go; a field that is missing is an error.
    Record(&'static str, Arc<[(&'static str, Value)]>),
    /// What can only be printed, by the name of its type in Go.
    Opaque(&'static str, Arc<str>),
    /// The map that the host brings: the dot at the top.
    Host,
}

/// The type of lists that are of no other.
pub const ANY_LIST: &str = "[]interface {}";

/// Longest print of one value: nested ones may share parts, and their print is far larger than they are.
const PRINT_BYTES_MAX: usize = 4 << 20;

impl Value {
    /// As an action shows it.
    pub fn print(&self, out: &mut String) {
        match self {
            Value::Nil => out.push_str("<no value>"),
            other => other.print_inside(out),
        }
    }

    /// As it is shown within others, and by `print`.
    pub(crate) fn print_inside(&self, out: &mut String) {
        if out.len() > PRINT_BYTES_MAX {
            return;
        }
        match self {
            Value::Nil => out.push_str("<nil>"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(v) => out.push_str(&print_float(*v)),
            Value::Text(text) => out.push_str(text),
            Value::Time(ns, zone) => {
                super::clock::format("2006-01-02 15:04:05.999999999 -0700 MST", *ns, zone, out);
            }
            Value::Duration(ns) => out.push_str(&print_duration(*ns)),
            Value::List(_, items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { " " });
                    item.print_inside(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.as_str(), value));
                print_map(entries, |value, out| value.print_inside(out), out);
            }
            Value::Texts(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.as_str(), value));
                print_map(entries, |value, out| out.push_str(value), out);
            }
            Value::Record(_, fields) => {
                out.push('{');
                for (i, (_, value)) in fields.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { " " });
                    value.print_inside(out);
                }
                out.push('}');
            }
            Value::Opaque(_, text) => out.push_str(text),
            Value::Host => out.push_str("map[]"),
        }
    }

    /// Bytes that a copy of it takes: of a text; lists and maps are shared.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            _ => 0,
        }
    }

    /// Bytes that it takes with all that is in it.
    pub(crate) fn bytes(&self) -> usize {
        let inside = match self {
            Value::Text(text) => text.len(),
            Value::List(_, items) => items.iter().map(Value::bytes).sum(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, value)| size_of::<String>() + key.len() + value.bytes())
                .sum(),
            Value::Texts(entries) => entries
                .iter()
                .map(|(key, value)| 2 * size_of::<String>() + key.len() + value.len())
                .sum(),
            Value::Record(_, fields) => fields.iter().map(|(_, value)| size_of::<&str>() + value.bytes()).sum(),
            _ => 0,
        };
        inside + size_of::<Value>()
    }

    /// As text, borrowed where it is text already.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Value::Text(text) => text.into(),
            Value::Nil => "".into(),
            other => {
                let mut out = String::new();
                other.print(&mut out);
                out.into()
            }
        }
    }

    /// Whether `if` takes it for true.
    pub fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(v) => *v != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(_, items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Texts(entries) => !entries.is_empty(),
            Value::Time(..) | Value::Duration(_) | Value::Record(..) | Value::Opaque(..) | Value::Host => true,
        }
    }

    /// As a whole number; what is none is 0.
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            Value::Float(v) => *v as i64,
            Value::Bool(b) => i64::from(*b),
            Value::Text(text) => text
                .parse()
                .or_else(|_| text.parse::<f64>().map(|v| v as i64))
                .unwrap_or(0),
            _ => 0,
        }
    }

    /// As a float; what is none is 0.
    pub fn float(&self) -> f64 {
        match self {
            Value::Int(n) => *n as f64,
            Value::Float(v) => *v,
            Value::Text(text) => go_float(text).unwrap_or(0.0),
            Value::Bool(b) => f64::from(*b),
            _ => 0.0,
        }
    }

    /// From parsed JSON; numbers become floats, as in Go.
    pub fn from_json(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::List(ANY_LIST, items.into_iter().map(Value::from_json).collect()),
            serde_json::Value::Object(map) => {
                let mut entries: Vec<(String, Value)> =
                    map.into_iter().map(|(k, v)| (k, Value::from_json(v))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Map(entries.into())
            }
        }
    }

    /// Whether it is nested no deeper than `depth` and has few parts, shared ones counted each time: functions that build
    /// values of values ask this, so that none grows beyond what can be walked.
    pub fn is_modest(&self, depth: usize) -> bool {
        fn walk(value: &Value, depth: usize, left: &mut usize) -> bool {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            match value {
                Value::List(_, items) => depth > 0 && items.iter().all(|item| walk(item, depth - 1, left)),
                Value::Map(entries) => depth > 0 && entries.iter().all(|(_, item)| walk(item, depth - 1, left)),
                _ => true,
            }
        }
        walk(self, depth, &mut 100_000)
    }
}

fn print_map<'a, V>(entries: impl Iterator<Item = (&'a str, V)>, print: impl Fn(V, &mut String), out: &mut String) {
    out.push_str("map[");
    for (i, (key, value)) in entries.enumerate() {
        out.push_str(if i == 0 { "" } else { " " });
        out.push_str(key);
        out.push(':');
        print(value, out);
    }
    out.push(']');
}
