//! The functions of log templates beside Go's own. A pipe supplies the last argument, so argument order matters.

use jiff::tz::TimeZone;

use query_template::{TEXT_BYTES_MAX, Value, clock, kind, quote, url_encode};

use super::Scope;
use super::decimal;
use crate::regexp::TemplateRegexes;
use crate::units;

/// A function by name.
pub(super) struct Function {
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
    pub call: fn(&mut [Value], &Scope<'_>) -> Result<Value, String>,
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
    f("regexReplaceAll", 3, 3, |a, s| {
        text(replace_all(&a[1].text(), s.regexes, &a[0].text(), &a[2].text(), false)?)
    }),
    f("regexReplaceAllLiteral", 3, 3, |a, s| {
        text(replace_all(&a[1].text(), s.regexes, &a[0].text(), &a[2].text(), true)?)
    }),
    f("count", 2, 2, |a, s| {
        let regex = s.regexes.search_groups(&a[0].text())?;
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
        // Where Go would panic it says what it cuts.
        let refused = |cut: String| Err(format!("runtime error: slice bounds out of range [{cut}]"));
        let (start, end) = match (start, end) {
            (..0, ..0) => return refused(format!(":{end}")),
            (..0, _) if end > len => {
                return Err(format!(
                    "runtime error: slice bounds out of range [:{end}] with length {len}"
                ));
            }
            (..0, _) => (0, end),
            _ if end < 0 || end > len => (start, len),
            bounds => bounds,
        };
        if start > end {
            return refused(format!("{start}:{end}"));
        }
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
                quote(&t)
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

fn replace_all(
    t: &str,
    regexes: &TemplateRegexes,
    regex: &str,
    replacement: &str,
    literal: bool,
) -> Result<String, String> {
    let regex = regexes.search_groups(regex)?;
    // Each reference of the replacement can at most repeat the text.
    let hits = regex.find_iter(t).count();
    let longest = replacement.len().saturating_mul(hits.max(t.len()));
    if hits > 0 && longest > 64 * TEXT_BYTES_MAX {
        return Err(too_long());
    }
    Ok(regex.replace_all(t, replacement, literal).into_owned())
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
