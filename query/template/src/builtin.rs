//! Go's own functions: logic, comparison, indexing, printing, escaping.

use super::printf::{printf, too_long};
use super::value::Value;
use super::{Call, Host, TEXT_BYTES_MAX};

/// A function of the language itself.
pub(crate) struct Builtin {
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
    pub call: Call,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const MANY: usize = usize::MAX;

const fn f(name: &'static str, least: usize, most: usize, call: Call) -> Builtin {
    Builtin {
        name,
        arguments: (least, most),
        call,
    }
}

fn text(value: impl Into<String>) -> Result<Value, String> {
    let text = value.into();
    match text.len() <= TEXT_BYTES_MAX {
        true => Ok(Value::Text(text)),
        false => Err(too_long()),
    }
}

/// All functions there are without a host's.
pub(crate) static BUILTINS: &[Builtin] = &[
    f("and", 1, MANY, |a, _| Ok(last(a))),
    f("or", 1, MANY, |a, _| Ok(last(a))),
    f("not", 1, 1, |a, _| Ok(Value::Bool(!a[0].truth()))),
    f("eq", 2, MANY, |a, _| {
        for other in &a[1..] {
            if equal(&a[0], other)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    f("ne", 2, 2, |a, _| Ok(Value::Bool(!equal(&a[0], &a[1])?))),
    f("lt", 2, 2, |a, _| Ok(Value::Bool(less(&a[0], &a[1])?))),
    f("le", 2, 2, |a, _| {
        Ok(Value::Bool(less(&a[0], &a[1])? || equal(&a[0], &a[1])?))
    }),
    f("gt", 2, 2, |a, _| {
        Ok(Value::Bool(!(less(&a[0], &a[1])? || equal(&a[0], &a[1])?)))
    }),
    f("ge", 2, 2, |a, _| Ok(Value::Bool(!less(&a[0], &a[1])?))),
    f("len", 1, 1, |a, _| match &a[0] {
        Value::Text(t) => Ok(Value::Int(t.len() as i64)),
        Value::List(_, items) => Ok(Value::Int(items.len() as i64)),
        Value::Map(entries) => Ok(Value::Int(entries.len() as i64)),
        Value::Texts(entries) => Ok(Value::Int(entries.len() as i64)),
        Value::Nil => Err("reflect: call of reflect.Value.Type on zero Value".into()),
        other => Err(format!("len of type {}", kind(other))),
    }),
    f("index", 1, MANY, index),
    f("call", 1, MANY, |a, _| {
        // No value of a template is a function.
        Err(match &a[0] {
            Value::Nil => "call of nil".to_owned(),
            other => format!("non-function {} of type {}", other.text(), kind(other)),
        })
    }),
    f("slice", 1, 3, |a, _| {
        let from = a.get(1).map_or(0, Value::int);
        match &a[0] {
            Value::Text(t) => {
                let to = a.get(2).map_or(t.len() as i64, Value::int);
                let range = checked(from, to, t.len())?;
                text(String::from_utf8_lossy(&t.as_bytes()[range]))
            }
            Value::List(of, items) => {
                let to = a.get(2).map_or(items.len() as i64, Value::int);
                Ok(Value::List(of, items[checked(from, to, items.len())?].into()))
            }
            other => Err(format!("can't slice item of type {}", kind(other))),
        }
    }),
    f("print", 0, MANY, |a, _| {
        let mut out = String::new();
        for (i, v) in a.iter().enumerate() {
            let texts = matches!(v, Value::Text(_)) || i > 0 && matches!(a[i - 1], Value::Text(_));
            out.push_str(if i > 0 && !texts { " " } else { "" });
            v.print_inside(&mut out);
        }
        text(out)
    }),
    f("println", 0, MANY, |a, _| {
        let mut out = String::new();
        for (i, v) in a.iter().enumerate() {
            out.push_str(if i > 0 { " " } else { "" });
            v.print_inside(&mut out);
        }
        out.push('\n');
        text(out)
    }),
    f("printf", 1, MANY, |a, _| {
        let format = a[0].text().into_owned();
        text(printf(&format, &a[1..])?)
    }),
    f("html", 0, MANY, |a, _| {
        let mut out = String::new();
        for c in joined(a).chars() {
            match c {
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '"' => out.push_str("&#34;"),
                '\'' => out.push_str("&#39;"),
                '\0' => out.push('\u{fffd}'),
                c => out.push(c),
            }
        }
        text(out)
    }),
    f("js", 0, MANY, |a, _| {
        let mut out = String::new();
        for c in joined(a).chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\'' => out.push_str("\\'"),
                '"' => out.push_str("\\\""),
                '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
                c => out.push(c),
            }
        }
        text(out)
    }),
    f("urlquery", 0, MANY, |a, _| text(url_encode(&joined(a)))),
];

fn last(arguments: &mut [Value]) -> Value {
    arguments
        .last_mut()
        .map_or(Value::Nil, |v| std::mem::replace(v, Value::Nil))
}

/// The name of its type in Go.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::Time(..) => "time.Time",
        Value::Duration(_) => "time.Duration",
        Value::List(name, _) | Value::Record(name, _) | Value::Opaque(name, _) => name,
        Value::Map(_) => "map[string]interface {}",
        Value::Texts(_) | Value::Host => "map[string]string",
    }
}

fn equal(left: &Value, right: &Value) -> Result<bool, String> {
    Ok(match (left, right) {
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Time(a, _), Value::Time(b, _)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Nil, Value::Nil) => true,
        (Value::Nil, _) | (_, Value::Nil) => false,
        _ => return Err(incompatible(left, right)),
    })
}

fn incompatible(left: &Value, right: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", kind(left), kind(right))
}

fn less(left: &Value, right: &Value) -> Result<bool, String> {
    Ok(match (left, right) {
        (Value::Text(a), Value::Text(b)) => a < b,
        (Value::Int(a), Value::Int(b)) => a < b,
        (Value::Float(a), Value::Float(b)) => a < b,
        (Value::Time(a, _), Value::Time(b, _)) => a < b,
        (Value::Duration(a), Value::Duration(b)) => a < b,
        (Value::Bool(_), Value::Bool(_)) | (Value::Nil, _) | (_, Value::Nil) => {
            return Err("invalid type for comparison".to_owned());
        }
        _ => return Err(incompatible(left, right)),
    })
}

fn index(arguments: &mut [Value], host: &dyn Host) -> Result<Value, String> {
    let mut value = std::mem::replace(&mut arguments[0], Value::Nil);
    for key in &arguments[1..] {
        value = match value {
            Value::List(_, items) => items[place(key, items.len(), "slice")?].clone(),
            Value::Map(entries) => {
                let key = key.text();
                let found = entries.iter().find(|(k, _)| *k == key);
                found.map_or(Value::Nil, |(_, v)| v.clone())
            }
            Value::Texts(entries) => {
                let key = key.text();
                let found = entries.iter().find(|(k, _)| *k == key);
                Value::Text(found.map_or_else(String::new, |(_, v)| v.clone()))
            }
            Value::Host => {
                let key = key.text();
                Value::Text(host.get(&key).unwrap_or("").to_owned())
            }
            Value::Text(t) => {
                let byte = t.as_bytes()[place(key, t.len(), "string")?];
                Value::Int(i64::from(byte))
            }
            Value::Nil => return Err("index of untyped nil".into()),
            other => return Err(format!("can't index item of type {}", kind(&other))),
        };
    }
    Ok(value)
}

/// Where an index points to in what has this length.
fn place(index: &Value, len: usize, what: &str) -> Result<usize, String> {
    let Value::Int(n) = index else {
        return Err(match index {
            Value::Nil => "cannot index slice/array with nil".to_owned(),
            other => format!("cannot index slice/array with type {}", kind(other)),
        });
    };
    match usize::try_from(*n) {
        Ok(i) if i < len => Ok(i),
        Ok(i) if i == len => Err(format!("reflect: {what} index out of range")),
        _ => Err(format!("index out of range: {n}")),
    }
}

fn checked(from: i64, to: i64, len: usize) -> Result<std::ops::Range<usize>, String> {
    let inside = |at: i64| usize::try_from(at).ok().filter(|at| *at <= len);
    match (inside(from), inside(to)) {
        (Some(from), Some(to)) if from <= to => Ok(from..to),
        (Some(_), Some(_)) => Err(format!("invalid slice index: {from} > {to}")),
        (None, _) => Err(format!("index out of range: {from}")),
        (_, None) => Err(format!("index out of range: {to}")),
    }
}

/// As `print` puts them together, but for what is not there.
fn joined(arguments: &[Value]) -> String {
    let mut out = String::new();
    let is_text = |value: &Value| matches!(value, Value::Text(_) | Value::Nil);
    for (i, value) in arguments.iter().enumerate() {
        if i > 0 && !is_text(value) && !is_text(&arguments[i - 1]) {
            out.push(' ');
        }
        match value {
            Value::Nil => out.push_str("<no value>"),
            value => value.print_inside(&mut out),
        }
    }
    out
}

/// As in a query string: a space becomes `+`.
pub fn url_encode(t: &str) -> String {
    let mut out = String::new();
    for b in t.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b as char),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
