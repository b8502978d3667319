//! The functions of templates. A pipe supplies the last argument, so argument order matters.

use jiff::tz::TimeZone;

use super::clock;
use super::decimal;
use super::run::Scope;
use super::value::Value;
use crate::regexp;
use crate::units;

/// Longest text that a function builds.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A function by name.
pub(super) struct Function {
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
    pub call: fn(&mut [Value], &Scope<'_>) -> Result<Value, String>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const MANY: usize = usize::MAX;

type Call = fn(&mut [Value], &Scope<'_>) -> Result<Value, String>;

const fn f(name: &'static str, least: usize, most: usize, call: Call) -> Function {
    Function {
        name,
        arguments: (least, most),
        call,
    }
}

fn text(value: impl Into<String>) -> Result<Value, String> {
    Ok(Value::Text(value.into()))
}

/// All functions there are.
pub(super) static FUNCTIONS: &[Function] = &[
    // Of the entry.
    f("__line__", 0, 0, |_, s| text(s.line)),
    f("__timestamp__", 0, 0, |_, s| Ok(Value::Time(s.at.0, TimeZone::UTC))),
    f("now", 0, 0, |_, s| Ok(Value::Time(s.now.0, TimeZone::UTC))),
    // Go's own.
    f("and", 1, MANY, |a, _| Ok(last(a))),
    f("or", 1, MANY, |a, _| Ok(last(a))),
    f("not", 1, 1, |a, _| Ok(Value::Bool(!a[0].truth()))),
    f("eq", 2, MANY, |a, _| {
        for other in &a[1..] {
            if compare(&a[0], other)?.is_eq() {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    f("ne", 2, 2, |a, _| Ok(Value::Bool(!compare(&a[0], &a[1])?.is_eq()))),
    f("lt", 2, 2, |a, _| Ok(Value::Bool(compare(&a[0], &a[1])?.is_lt()))),
    f("le", 2, 2, |a, _| Ok(Value::Bool(compare(&a[0], &a[1])?.is_le()))),
    f("gt", 2, 2, |a, _| Ok(Value::Bool(compare(&a[0], &a[1])?.is_gt()))),
    f("ge", 2, 2, |a, _| Ok(Value::Bool(compare(&a[0], &a[1])?.is_ge()))),
    f("len", 1, 1, |a, _| match &a[0] {
        Value::Text(t) => Ok(Value::Int(t.len() as i64)),
        Value::List(items) => Ok(Value::Int(items.len() as i64)),
        Value::Map(entries) => Ok(Value::Int(entries.len() as i64)),
        other => Err(format!("len of type {}", kind(other))),
    }),
    f("index", 1, MANY, index),
    f("slice", 1, 3, |a, _| {
        let from = a.get(1).map_or(0, Value::int);
        match &a[0] {
            Value::Text(t) => {
                let to = a.get(2).map_or(t.len() as i64, Value::int);
                let range = checked(from, to, t.len())?;
                text(String::from_utf8_lossy(&t.as_bytes()[range]))
            }
            Value::List(items) => {
                let to = a.get(2).map_or(items.len() as i64, Value::int);
                Ok(Value::List(items[checked(from, to, items.len())?].to_vec()))
            }
            other => Err(format!("can't slice item of type {}", kind(other))),
        }
    }),
    f("print", 0, MANY, |a, _| {
        let mut out = String::new();
        for (i, v) in a.iter().enumerate() {
            let texts = matches!(v, Value::Text(_)) || i > 0 && matches!(a[i - 1], Value::Text(_));
            out.push_str(if i > 0 && !texts { " " } else { "" });
            v.print(&mut out);
        }
        text(out)
    }),
    f("println", 0, MANY, |a, _| {
        let mut out = String::new();
        for (i, v) in a.iter().enumerate() {
            out.push_str(if i > 0 { " " } else { "" });
            v.print(&mut out);
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
    // Case and trimming; the older ones take the text first.
    f("ToLower", 1, 1, |a, _| text(a[0].text().to_lowercase())),
    f("ToUpper", 1, 1, |a, _| text(a[0].text().to_uppercase())),
    f("lower", 1, 1, |a, _| text(a[0].text().to_lowercase())),
    f("upper", 1, 1, |a, _| text(a[0].text().to_uppercase())),
    f("title", 1, 1, |a, _| {
        let mut out = String::new();
        let mut begins = true;
        for c in a[0].text().chars() {
            if begins {
                out.extend(c.to_uppercase());
            } else {
                out.push(c);
            }
            begins = !(c.is_alphanumeric() || c == '_' || c == '\'');
        }
        text(out)
    }),
    f("Trim", 2, 2, |a, _| text(trim(&a[0].text(), &a[1].text(), true, true))),
    f("TrimLeft", 2, 2, |a, _| {
        text(trim(&a[0].text(), &a[1].text(), true, false))
    }),
    f("TrimRight", 2, 2, |a, _| {
        text(trim(&a[0].text(), &a[1].text(), false, true))
    }),
    f("TrimPrefix", 2, 2, |a, _| {
        text(strip_prefix(&a[0].text(), &a[1].text()))
    }),
    f("TrimSuffix", 2, 2, |a, _| {
        text(strip_suffix(&a[0].text(), &a[1].text()))
    }),
    f("TrimSpace", 1, 1, |a, _| text(a[0].text().trim())),
    f("trim", 1, 1, |a, _| text(a[0].text().trim())),
    f("trimAll", 2, 2, |a, _| {
        text(trim(&a[1].text(), &a[0].text(), true, true))
    }),
    f("trimPrefix", 2, 2, |a, _| {
        text(strip_prefix(&a[1].text(), &a[0].text()))
    }),
    f("trimSuffix", 2, 2, |a, _| {
        text(strip_suffix(&a[1].text(), &a[0].text()))
    }),
    // Replacing and cutting.
    f("Replace", 4, 4, |a, _| {
        let n = usize::try_from(a[3].int()).unwrap_or(usize::MAX);
        text(replace(&a[0].text(), &a[1].text(), &a[2].text(), n)?)
    }),
    f("replace", 3, 3, |a, _| {
        text(replace(&a[2].text(), &a[0].text(), &a[1].text(), usize::MAX)?)
    }),
    f("regexReplaceAll", 3, 3, |a, _| {
        text(replace_all(&a[1].text(), &a[0].text(), &a[2].text(), false)?)
    }),
    f("regexReplaceAllLiteral", 3, 3, |a, _| {
        text(replace_all(&a[1].text(), &a[0].text(), &a[2].text(), true)?)
    }),
    f("count", 2, 2, |a, _| {
        let regex = regexp::compile(&a[0].text())?;
        Ok(Value::Int(regex.find_iter(&a[1].text()).count() as i64))
    }),
    f("trunc", 2, 2, |a, _| {
        let t = a[1].text();
        let len = t.len() as i64;
        let n = a[0].int();
        let range = match n {
            n if n < 0 && len + n > 0 => (len + n) as usize..t.len(),
            n if n >= 0 && n < len => 0..n as usize,
            _ => 0..t.len(),
        };
        text(String::from_utf8_lossy(&t.as_bytes()[range]))
    }),
    f("substr", 3, 3, |a, _| {
        let t = a[2].text();
        let len = t.len() as i64;
        let (start, end) = (a[0].int(), a[1].int());
        let end = if end < 0 || end > len { len } else { end };
        let start = start.clamp(0, end);
        text(String::from_utf8_lossy(&t.as_bytes()[start as usize..end as usize]))
    }),
    f("alignLeft", 2, 2, |a, _| {
        let t = a[1].text();
        let n = a[0].int();
        if n < 0 {
            return text(t);
        }
        let n = bounded_len(n)?;
        let mut out: String = t.chars().take(n).collect();
        out.extend(std::iter::repeat_n(' ', n.saturating_sub(t.chars().count())));
        text(out)
    }),
    f("alignRight", 2, 2, |a, _| {
        let t = a[1].text();
        let n = a[0].int();
        if n < 0 {
            return text(t);
        }
        let n = bounded_len(n)?;
        let len = t.chars().count();
        let mut out = " ".repeat(n.saturating_sub(len));
        out.extend(t.chars().skip(len.saturating_sub(n)));
        text(out)
    }),
    // Tests.
    f("contains", 2, 2, |a, _| {
        Ok(Value::Bool(a[1].text().contains(&*a[0].text())))
    }),
    f("hasPrefix", 2, 2, |a, _| {
        Ok(Value::Bool(a[1].text().starts_with(&*a[0].text())))
    }),
    f("hasSuffix", 2, 2, |a, _| {
        Ok(Value::Bool(a[1].text().ends_with(&*a[0].text())))
    }),
    f("default", 1, 2, |a, _| {
        let given = a.get(1).is_some_and(Value::truth);
        Ok(std::mem::replace(&mut a[usize::from(given)], Value::Nil))
    }),
    // Layout.
    f("indent", 2, 2, |a, _| text(indent(a[0].int(), &a[1].text())?)),
    f("nindent", 2, 2, |a, _| {
        text(format!("\n{}", indent(a[0].int(), &a[1].text())?))
    }),
    f("repeat", 2, 2, |a, _| {
        let t = a[1].text();
        let n = usize::try_from(a[0].int()).map_err(|_| "negative count")?;
        match n.checked_mul(t.len()) {
            Some(len) if len <= TEXT_BYTES_MAX => text(t.repeat(n)),
            _ => Err(too_long()),
        }
    }),
    // Encoding.
    f("b64enc", 1, 1, |a, _| text(base64_encode(a[0].text().as_bytes()))),
    f("b64dec", 1, 1, |a, _| {
        let bytes = base64_decode(a[0].text().trim_end_matches('=')).ok_or("illegal base64 data")?;
        text(String::from_utf8_lossy(&bytes))
    }),
    f("urlencode", 1, 1, |a, _| text(url_encode(&a[0].text()))),
    f("urldecode", 1, 1, |a, _| text(url_decode(&a[0].text())?)),
    f("fromJson", 1, 1, |a, _| {
        Ok(serde_json::from_str(&a[0].text()).map_or(Value::Nil, Value::from_json))
    }),
    // Whole numbers.
    f("add", 1, MANY, |a, _| {
        Ok(Value::Int(a.iter().fold(0i64, |n, v| n.wrapping_add(v.int()))))
    }),
    f("sub", 2, 2, |a, _| Ok(Value::Int(a[0].int().wrapping_sub(a[1].int())))),
    f("mul", 1, MANY, |a, _| {
        Ok(Value::Int(a.iter().fold(1i64, |n, v| n.wrapping_mul(v.int()))))
    }),
    f("div", 2, 2, |a, _| {
        let by = a[1].int();
        if by == 0 {
            return Err("runtime error: integer divide by zero".into());
        }
        Ok(Value::Int(a[0].int().wrapping_div(by)))
    }),
    f("mod", 2, 2, |a, _| {
        let by = a[1].int();
        if by == 0 {
            return Err("runtime error: integer divide by zero".into());
        }
        Ok(Value::Int(a[0].int().wrapping_rem(by)))
    }),
    f("max", 1, MANY, |a, _| {
        Ok(Value::Int(a.iter().map(Value::int).max().unwrap_or(0)))
    }),
    f("min", 1, MANY, |a, _| {
        Ok(Value::Int(a.iter().map(Value::int).min().unwrap_or(0)))
    }),
    f("int", 1, 1, |a, _| Ok(Value::Int(a[0].int()))),
    // Floats.
    f("addf", 1, MANY, |a, _| Ok(decimal::fold(a, decimal::add, |v, w| v + w))),
    f("subf", 1, MANY, |a, _| Ok(decimal::fold(a, decimal::sub, |v, w| v - w))),
    f("mulf", 1, MANY, |a, _| Ok(decimal::fold(a, decimal::mul, |v, w| v * w))),
    f("divf", 1, MANY, |a, _| Ok(decimal::fold(a, decimal::div, |v, w| v / w))),
    f("maxf", 1, MANY, |a, _| {
        Ok(Value::Float(
            a.iter().map(Value::float).fold(f64::NEG_INFINITY, f64::max),
        ))
    }),
    f("minf", 1, MANY, |a, _| {
        Ok(Value::Float(a.iter().map(Value::float).fold(f64::INFINITY, f64::min)))
    }),
    f("float64", 1, 1, |a, _| Ok(Value::Float(a[0].float()))),
    f("ceil", 1, 1, |a, _| Ok(Value::Float(a[0].float().ceil()))),
    f("floor", 1, 1, |a, _| Ok(Value::Float(a[0].float().floor()))),
    f("round", 2, 3, |a, _| {
        let up_from = a.get(2).map_or(0.5, Value::float);
        let scale = 10f64.powi(a[1].int().clamp(-300, 300) as i32);
        let scaled = a[0].float() * scale;
        let rounded = if scaled.fract() >= up_from {
            scaled.ceil()
        } else {
            scaled.floor()
        };
        Ok(Value::Float(rounded / scale))
    }),
    // Sizes and times.
    f("bytes", 1, 1, |a, _| {
        Ok(Value::Float(units::value_bytes(&a[0].text())? as f64))
    }),
    f("duration", 1, 1, |a, _| Ok(Value::Float(seconds(&a[0].text())?))),
    f("duration_seconds", 1, 1, |a, _| {
        Ok(Value::Float(seconds(&a[0].text())?))
    }),
    f("unixEpoch", 1, 1, |a, _| {
        text(instant(&a[0])?.div_euclid(1_000_000_000).to_string())
    }),
    f("unixEpochMillis", 1, 1, |a, _| {
        text(instant(&a[0])?.div_euclid(1_000_000).to_string())
    }),
    f("unixEpochNanos", 1, 1, |a, _| text(instant(&a[0])?.to_string())),
    f("toDate", 2, 2, |a, _| {
        Ok(to_date(&a[0].text(), &a[1].text(), &TimeZone::UTC))
    }),
    f("toDateInZone", 3, 3, |a, _| {
        let zone = TimeZone::get(&a[1].text()).unwrap_or(TimeZone::UTC);
        Ok(to_date(&a[0].text(), &a[2].text(), &zone))
    }),
    f("date", 2, 2, |a, _| {
        let mut out = String::new();
        match &a[1] {
            Value::Time(ns, zone) => clock::format(&a[0].text(), *ns, zone, &mut out),
            other => {
                let ns = other.int().saturating_mul(1_000_000_000);
                clock::format(&a[0].text(), ns, &TimeZone::UTC, &mut out);
            }
        }
        text(out)
    }),
    f("unixToTime", 1, 1, |a, _| {
        let t = a[0].text();
        let n: i64 = t.parse().map_err(|_| {
            format!(
                "unable to parse time '{t}': strconv.ParseInt: parsing {}: invalid syntax",
                units::quote(&t)
            )
        })?;
        let unit = match t.len() {
            5 => 86_400_000_000_000,
            10 => 1_000_000_000,
            13 => 1_000_000,
            16 => 1_000,
            19 => 1,
            _ => {
                return Err(format!(
                    "unable to parse time '{t}': strconv.ParseInt: unknown precision"
                ));
            }
        };
        Ok(Value::Time(n.saturating_mul(unit), TimeZone::UTC))
    }),
];

fn last(arguments: &mut [Value]) -> Value {
    arguments
        .last_mut()
        .map_or(Value::Nil, |v| std::mem::replace(v, Value::Nil))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::Time(..) => "time.Time",
        Value::List(_) => "[]interface {}",
        Value::Map(_) | Value::Labels => "map",
    }
}

fn compare(left: &Value, right: &Value) -> Result<std::cmp::Ordering, String> {
    let ordering = match (left, right) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).or(Some(std::cmp::Ordering::Less)),
        (Value::Time(a, _), Value::Time(b, _)) => Some(a.cmp(b)),
        (Value::Nil, Value::Nil) => Some(std::cmp::Ordering::Equal),
        (Value::Nil, _) | (_, Value::Nil) => Some(std::cmp::Ordering::Less),
        _ => None,
    };
    ordering.ok_or_else(|| "incompatible types for comparison".to_owned())
}

fn index(arguments: &mut [Value], scope: &Scope<'_>) -> Result<Value, String> {
    let mut value = std::mem::replace(&mut arguments[0], Value::Nil);
    for key in &arguments[1..] {
        value = match value {
            Value::List(mut items) => {
                let i = usize::try_from(key.int()).unwrap_or(usize::MAX);
                if i >= items.len() {
                    return Err(format!("index out of range: {}", key.int()));
                }
                items.swap_remove(i)
            }
            Value::Map(entries) => {
                let key = key.text();
                entries
                    .into_iter()
                    .find(|(k, _)| *k == key)
                    .map_or(Value::Nil, |(_, v)| v)
            }
            Value::Labels => {
                let key = key.text();
                let found = match scope.frozen {
                    Some(frozen) => scope.labels.get_frozen(frozen, &key),
                    None => scope.labels.get(&key),
                };
                Value::Text(found.unwrap_or("").to_owned())
            }
            Value::Text(t) => {
                let i = usize::try_from(key.int()).unwrap_or(usize::MAX);
                let byte = t.as_bytes().get(i).ok_or("reflect: string index out of range")?;
                Value::Int(i64::from(*byte))
            }
            Value::Nil => return Err("index of untyped nil".into()),
            other => return Err(format!("can't index item of type {}", kind(&other))),
        };
    }
    Ok(value)
}

fn checked(from: i64, to: i64, len: usize) -> Result<std::ops::Range<usize>, String> {
    match (usize::try_from(from), usize::try_from(to)) {
        (Ok(from), Ok(to)) if from <= to && to <= len => Ok(from..to),
        _ => Err(format!("index out of range: {to}")),
    }
}

fn joined(arguments: &[Value]) -> String {
    arguments.iter().map(Value::text).collect()
}

fn trim<'a>(t: &'a str, cut: &str, left: bool, right: bool) -> &'a str {
    let t = if left {
        t.trim_start_matches(|c| cut.contains(c))
    } else {
        t
    };
    if right {
        t.trim_end_matches(|c| cut.contains(c))
    } else {
        t
    }
}

fn strip_prefix<'a>(t: &'a str, prefix: &str) -> &'a str {
    t.strip_prefix(prefix).unwrap_or(t)
}

fn strip_suffix<'a>(t: &'a str, suffix: &str) -> &'a str {
    t.strip_suffix(suffix).unwrap_or(t)
}

/// Checks the length before it builds the result.
fn replace(t: &str, old: &str, new: &str, n: usize) -> Result<String, String> {
    let hits = t.matches(old).take(n).count();
    match hits.saturating_mul(new.len()).saturating_add(t.len()) <= TEXT_BYTES_MAX {
        true => Ok(t.replacen(old, new, n)),
        false => Err(too_long()),
    }
}

fn replace_all(t: &str, regex: &str, replacement: &str, literal: bool) -> Result<String, String> {
    let regex = regexp::compile(regex)?;
    // Each reference of the replacement can at most repeat the text.
    let hits = regex.find_iter(t).count();
    let longest = replacement.len().saturating_mul(hits.max(t.len()));
    if hits > 0 && longest > 64 * TEXT_BYTES_MAX {
        return Err(too_long());
    }
    Ok(match literal {
        true => regex.replace_all(t, regex::NoExpand(replacement)).into_owned(),
        false => regex.replace_all(t, replacement).into_owned(),
    })
}

fn bounded_len(n: i64) -> Result<usize, String> {
    usize::try_from(n)
        .ok()
        .filter(|n| *n <= TEXT_BYTES_MAX)
        .ok_or_else(too_long)
}

fn too_long() -> String {
    format!("the text would be longer than {TEXT_BYTES_MAX} bytes")
}

fn indent(spaces: i64, t: &str) -> Result<String, String> {
    let pad = " ".repeat(bounded_len(spaces)?);
    let lines = t.split('\n').count();
    bounded_len((pad.len() * lines + t.len()) as i64)?;
    Ok(format!("{pad}{}", t.replace('\n', &format!("\n{pad}"))))
}

fn seconds(t: &str) -> Result<f64, String> {
    Ok(units::go_duration(t)? as f64 / 1e9)
}

fn instant(value: &Value) -> Result<i64, String> {
    match value {
        Value::Time(ns, _) => Ok(*ns),
        other => Err(format!("wrong type for value; expected time.Time; got {}", kind(other))),
    }
}

/// What does not fit the layout is Go's zero time.
fn to_date(layout: &str, t: &str, zone: &TimeZone) -> Value {
    match clock::parse(layout, t, zone) {
        Some((ns, zone)) => Value::Time(ns, zone),
        None => Value::Time(i64::MIN, TimeZone::UTC),
    }
}

fn url_encode(t: &str) -> String {
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

fn url_decode(t: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut bytes = t.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                match (hex(bytes.next()), hex(bytes.next())) {
                    (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                    _ => return Err("invalid URL escape".into()),
                }
            }
            b => out.push(b),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            out.push(match i <= chunk.len() {
                true => BASE64[(n >> (18 - 6 * i)) as usize & 63] as char,
                false => '=',
            });
        }
    }
    out
}

fn base64_decode(t: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut have) = (0u32, 0);
    for b in t.bytes().filter(|b| !matches!(b, b'\n' | b'\r')) {
        let value = BASE64.iter().position(|c| *c == b)? as u32;
        bits = bits << 6 | value;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    (have != 6).then_some(out)
}

/// The verbs that log templates use: `%s %v %q %d %x %f %e %g %t %%`, with flags, width and precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments_left = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut minus, mut zero, mut plus, mut space, mut sharp) = (false, false, false, false, false);
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => minus = true,
                '0' => zero = true,
                '+' => plus = true,
                ' ' => space = true,
                '#' => sharp = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |out: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if out.peek() == Some(&'*') {
                out.next();
                return arguments_left.next().and_then(|v| usize::try_from(v.int()).ok());
            }
            let mut n = None;
            while let Some(d) = out.peek().and_then(|c| c.to_digit(10)) {
                n = Some(n.unwrap_or(0usize).saturating_mul(10).saturating_add(d as usize));
                out.next();
            }
            n
        };
        let width = number(&mut chars).unwrap_or(0);
        let precision = if chars.peek() == Some(&'.') {
            chars.next();
            Some(number(&mut chars).unwrap_or(0))
        } else {
            None
        };
        if width > 10_000 || precision.is_some_and(|p| p > 10_000) {
            return Err("width or precision too large".into());
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments_left.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let signed = |t: String, positive: bool| match (positive, plus, space) {
            (true, true, _) => format!("+{t}"),
            (true, false, true) => format!(" {t}"),
            _ => t,
        };
        let (t, numeric) = match (verb, value) {
            ('v', Value::Text(t)) if sharp => (units::quote(t), false),
            ('v', v) => (v.text_or_nil(), matches!(v, Value::Int(_) | Value::Float(_))),
            ('s', v @ (Value::Int(_) | Value::Float(_) | Value::Bool(_))) => {
                (format!("%!s({}={})", kind(v), v.text()), false)
            }
            ('s', v) => {
                let t = v.text_or_nil();
                (precision.map_or(t.clone(), |p| t.chars().take(p).collect()), false)
            }
            ('q', v) => (units::quote(&v.text()), false),
            ('d', Value::Int(n)) => (signed(n.to_string(), *n >= 0), true),
            ('x', Value::Int(n)) => (format!("{n:x}"), true),
            ('X', Value::Int(n)) => (format!("{n:X}"), true),
            ('o', Value::Int(n)) => (format!("{n:o}"), true),
            ('b', Value::Int(n)) => (format!("{n:b}"), true),
            ('c', Value::Int(n)) => (
                u32::try_from(*n)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}')
                    .to_string(),
                false,
            ),
            ('x', v @ Value::Text(_)) => (v.text().bytes().map(|b| format!("{b:02x}")).collect(), false),
            ('X', v @ Value::Text(_)) => (v.text().bytes().map(|b| format!("{b:02X}")).collect(), false),
            ('f' | 'F', Value::Float(v)) => (signed(format!("{v:.*}", precision.unwrap_or(6)), *v >= 0.0), true),
            ('e', Value::Float(v)) => (
                signed(exponent(&format!("{v:.*e}", precision.unwrap_or(6))), *v >= 0.0),
                true,
            ),
            ('g', Value::Float(v)) => (signed(units::print_float(*v), *v >= 0.0), true),
            ('t', Value::Bool(b)) => (b.to_string(), false),
            ('T', v) => (kind(v).to_owned(), false),
            (verb, v) => (format!("%!{verb}({}={})", kind(v), v.text_or_nil()), false),
        };
        let missing = width.saturating_sub(t.chars().count());
        if minus {
            out.push_str(&t);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if zero && numeric {
            let sign = usize::from(t.starts_with(['+', '-']));
            out.push_str(&t[..sign]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(&t[sign..]);
        } else {
            out.extend(std::iter::repeat_n(if zero { '0' } else { ' ' }, missing));
            out.push_str(&t);
        }
        if out.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    let extra: Vec<String> = arguments_left
        .map(|v| format!("{}={}", kind(v), v.text_or_nil()))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

/// `1.5e3` as `1.5e+03`.
fn exponent(t: &str) -> String {
    match t.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => t.to_owned(),
    }
}

impl Value {
    fn text_or_nil(&self) -> String {
        match self {
            Value::Nil => "<nil>".into(),
            other => other.text().into_owned(),
        }
    }
}
