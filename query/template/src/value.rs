//! Values while a template runs, and how Go prints and compares them.

use crate::spelling::{go_float, print_float};

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
    /// A slice.
    List(Vec<Value>),
    /// In the order of keys.
    Map(Vec<(String, Value)>),
    /// The map that the host brings: the dot at the top.
    Host,
}

impl Value {
    /// As `print` shows it.
    pub fn print(&self, out: &mut String) {
        match self {
            Value::Nil => out.push_str("<no value>"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(v) => out.push_str(&print_float(*v)),
            Value::Text(text) => out.push_str(text),
            Value::Time(ns, zone) => {
                super::clock::format("2006-01-02 15:04:05.999999999 -0700 MST", *ns, zone, out);
            }
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { " " });
                    item.print(out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push_str("map[");
                for (i, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { " " });
                    out.push_str(key);
                    out.push(':');
                    value.print(out);
                }
                out.push(']');
            }
            Value::Host => out.push_str("map[]"),
        }
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
            Value::List(items) => !items.is_empty(),
            Value::Map(entries) => !entries.is_empty(),
            Value::Time(..) | Value::Host => true,
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
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Value::from_json).collect()),
            serde_json::Value::Object(map) => {
                let mut entries: Vec<(String, Value)> =
                    map.into_iter().map(|(k, v)| (k, Value::from_json(v))).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Map(entries)
            }
        }
    }
}
