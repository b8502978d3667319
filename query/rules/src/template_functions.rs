//! What the templates of alerts can call beside Go's own functions: queries, numbers for people, times, strings, links.

use model::{parse_duration, unanchored_regex};
use query_exec::go_number;
use query_template::{Parameter, TEXT_BYTES_MAX, Value, go_float, kind, print_float_short, quote, url_encode};

use crate::templates::{TemplateData, TemplateSample};

/// A function by name.
pub(crate) struct Function {
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arguments: (usize, usize),
    pub parameters: &'static [Parameter],
    pub call: Call,
}

type Call = fn(&mut [Value], &TemplateData<'_>) -> Result<Value, String>;

const TEXT: Parameter = Parameter::Text;
const ANY: Parameter = Parameter::Any;
const SAMPLES: &str = "template.queryResult";
const SAMPLE: &str = "*template.sample";

/// The functions that templates of alerts have beside Go's own, sorted.
pub fn template_function_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = FUNCTIONS.iter().map(|f| f.name).collect();
    names.sort_unstable();
    names
}

/// How deep values that `args` makes may be nested.
const NESTING_MAX: usize = 16;

/// With as many arguments as parameters.
const fn f(name: &'static str, parameters: &'static [Parameter], call: Call) -> Function {
    Function {
        name,
        arguments: (parameters.len(), parameters.len()),
        parameters,
        call,
    }
}

/// All functions there are.
pub(crate) static FUNCTIONS: &[Function] = &[
    // Queries and what they answer.
    f("query", &[TEXT], |a, data| {
        let samples = (data.query)(&a[0].text())?;
        Ok(Value::List(SAMPLES, samples.into_iter().map(sample).collect()))
    }),
    f("first", &[Parameter::Named(SAMPLES)], |a, _| match &a[0] {
        Value::List(_, samples) if !samples.is_empty() => Ok(samples[0].clone()),
        _ => Err("first() called on vector with no elements".to_owned()),
    }),
    f("label", &[TEXT, Parameter::Named(SAMPLE)], |a, _| {
        Ok(Value::Text(label(&a[1], &a[0].text()).to_owned()))
    }),
    f("value", &[Parameter::Named(SAMPLE)], |a, _| match &a[0] {
        Value::Record(_, fields) => Ok(fields.get(1).map_or(Value::Nil, |(_, value)| value.clone())),
        _ => Ok(Value::Nil),
    }),
    f("strvalue", &[Parameter::Named(SAMPLE)], |a, _| {
        Ok(Value::Text(label(&a[0], "__value__").to_owned()))
    }),
    f("sortByLabel", &[TEXT, Parameter::Named(SAMPLES)], |a, _| {
        let Value::List(of, samples) = &a[1] else {
            return Ok(Value::Nil);
        };
        let name = a[0].text();
        let mut sorted = samples.to_vec();
        sorted.sort_by(|x, y| label(x, &name).cmp(label(y, &name)));
        Ok(Value::List(of, sorted.into()))
    }),
    // Numbers for people.
    f("humanize", &[ANY], |a, _| Ok(Value::Text(humanize(number(&a[0])?)))),
    f("humanize1024", &[ANY], |a, _| {
        Ok(Value::Text(humanize1024(number(&a[0])?)))
    }),
    f("humanizeDuration", &[ANY], |a, _| {
        Ok(Value::Text(humanize_duration(number(&a[0])?)))
    }),
    f("humanizePercentage", &[ANY], |a, _| {
        Ok(Value::Text(format!("{}%", short(number(&a[0])? * 100.0))))
    }),
    // Times.
    f("humanizeTimestamp", &[ANY], |a, _| {
        let v = number(&a[0])?;
        match v.is_finite() {
            true => Ok(Value::Text(time(v)?.text().into_owned())),
            false => Ok(Value::Text(short(v))),
        }
    }),
    f("toTime", &[ANY], |a, _| time(number(&a[0])?)),
    f("toDuration", &[ANY], |a, _| {
        Ok(Value::Duration((number(&a[0])? * 1e9) as i64))
    }),
    f("now", &[], |_, data| Ok(Value::Float(data.now_ms as f64 / 1000.0))),
    f("parseDuration", &[TEXT], |a, _| {
        let text = a[0].text();
        let (sign, bare) = match text.strip_prefix('-') {
            Some(bare) => (-1.0, bare),
            None => (1.0, &*text),
        };
        match parse_duration(bare) {
            Some(duration) => Ok(Value::Float(sign * duration.as_secs_f64())),
            None if bare.is_empty() => Err("empty duration string".to_owned()),
            None => Err(format!("not a valid duration string: {}", quote(bare))),
        }
    }),
    // Strings.
    f("title", &[TEXT], |a, _| Ok(Value::Text(title(&a[0].text())))),
    f("toUpper", &[TEXT], |a, _| {
        Ok(Value::Text(a[0].text().chars().map(upper).collect()))
    }),
    f("toLower", &[TEXT], |a, _| {
        Ok(Value::Text(a[0].text().chars().map(lower).collect()))
    }),
    f("match", &[TEXT, TEXT], |a, _| {
        let regex = unanchored_regex(&a[0].text()).map_err(|e| e.to_string())?;
        Ok(Value::Bool(regex.is_match(&a[1].text())))
    }),
    f("reReplaceAll", &[TEXT, TEXT, TEXT], |a, _| {
        replace_all(&a[0].text(), &a[1].text(), &a[2].text()).map(Value::Text)
    }),
    f("stripPort", &[TEXT], |a, _| {
        let text = a[0].text();
        Ok(Value::Text(
            split_host_port(&text).map_or(&*text, |(host, _)| host).to_owned(),
        ))
    }),
    f("stripDomain", &[TEXT], |a, _| {
        Ok(Value::Text(strip_domain(&a[0].text())))
    }),
    f("safeHtml", &[TEXT], |a, _| Ok(Value::Text(a[0].text().into_owned()))),
    f("urlQueryEscape", &[TEXT], |a, _| {
        Ok(Value::Text(url_encode(&a[0].text())))
    }),
    // Links.
    f("graphLink", &[TEXT], |a, _| Ok(Value::Text(link(&a[0].text(), 0)))),
    f("tableLink", &[TEXT], |a, _| Ok(Value::Text(link(&a[0].text(), 1)))),
    f("externalURL", &[], |_, data| {
        Ok(Value::Text(data.external_url.to_owned()))
    }),
    f("pathPrefix", &[], |_, data| {
        let rest = data.external_url.split_once("://").map_or("", |(_, rest)| rest);
        Ok(Value::Text(rest.find('/').map_or("", |at| &rest[at..]).to_owned()))
    }),
    // Several values as one, for templates that take more than one.
    Function {
        name: "args",
        arguments: (0, usize::MAX),
        parameters: &[],
        call: |a, _| {
            let entries = a.iter_mut().enumerate();
            let mut entries: Vec<(String, Value)> = entries
                .map(|(i, value)| (format!("arg{i}"), std::mem::replace(value, Value::Nil)))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            let map = Value::Map(entries.into());
            match map.is_modest(NESTING_MAX) {
                true => Ok(map),
                false => Err("arguments are nested too deeply".to_owned()),
            }
        },
    },
];

fn sample(sample: TemplateSample) -> Value {
    let labels = sample.labels.iter();
    let labels = labels
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let value = match sample.histogram {
        Some(histogram) => Value::Opaque("*histogram.FloatHistogram", query_exec::text_of(&histogram).into()),
        None => Value::Float(sample.value),
    };
    Value::Record(SAMPLE, [("Labels", Value::Texts(labels)), ("Value", value)].into())
}

fn label<'a>(sample: &'a Value, name: &str) -> &'a str {
    let Value::Record(_, fields) = sample else { return "" };
    let Some((_, Value::Texts(labels))) = fields.first() else {
        return "";
    };
    let found = labels.iter().find(|(n, _)| n == name);
    found.map_or("", |(_, value)| value)
}

/// A number, or a text that is one.
fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Float(v) => Ok(*v),
        Value::Int(n) => Ok(*n as f64),
        Value::Text(text) => go_float(text),
        Value::Duration(ns) => Ok(*ns as f64 / 1e9),
        Value::Nil => Err("can't convert <nil> to float".to_owned()),
        other => Err(format!("can't convert {} to float", kind(other))),
    }
}

/// In four significant digits.
fn short(v: f64) -> String {
    print_float_short(v, 4)
}

fn humanize(mut v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return short(v);
    }
    if v.abs() < 1.0 {
        return small(v, "");
    }
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        if v.abs() < 1000.0 {
            break;
        }
        prefix = next;
        v /= 1000.0;
    }
    short(v) + prefix
}

/// What is below 1, with the prefix that lifts it.
fn small(mut v: f64, unit: &str) -> String {
    let mut prefix = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        prefix = next;
        v *= 1000.0;
    }
    format!("{}{prefix}{unit}", short(v))
}

fn humanize1024(mut v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return short(v);
    }
    let mut prefix = "";
    for next in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if v.abs() < 1024.0 {
            break;
        }
        prefix = next;
        v /= 1024.0;
    }
    short(v) + prefix
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return short(v);
    }
    if v == 0.0 {
        return short(v) + "s";
    }
    if v.abs() < 1.0 {
        return small(v, "s");
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let whole = v.abs() as i64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", short(v.abs())),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, ..) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// Seconds since the epoch as a time, to the millisecond.
fn time(v: f64) -> Result<Value, String> {
    if !v.is_finite() {
        return Err("value is NaN or Inf".to_owned());
    }
    let ns = v * 1e9;
    if ns > i64::MAX as f64 || ns < i64::MIN as f64 {
        let v = go_number(v);
        return Err(format!(
            "{v} cannot be represented as a nanoseconds timestamp since it overflows int64"
        ));
    }
    let ns = ns as i64;
    Ok(Value::Time(ns - ns % 1_000_000, query_template::clock::utc()))
}

/// The first letter of each word in upper case, the others as they are.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut begins = true;
    while let Some(c) = chars.next() {
        match begins {
            true => out.push(upper(c)),
            false => out.push(c),
        }
        let is_within = |c: char| c.is_alphanumeric() || c == '_';
        // A dot, a colon or an apostrophe between letters parts no words.
        let joins =
            matches!(c, '.' | ':' | '\'' | '\u{2019}') && !begins && chars.peek().is_some_and(|c| is_within(*c));
        begins = !is_within(c) && !joins;
    }
    out
}

/// In upper case, if that is one letter as well.
fn upper(c: char) -> char {
    let mut upper = c.to_uppercase();
    upper.next().filter(|_| upper.next().is_none()).unwrap_or(c)
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

fn replace_all(pattern: &str, replacement: &str, text: &str) -> Result<String, String> {
    let regex = unanchored_regex(pattern).map_err(|e| {
        let shown = match pattern.contains(['`', '\n', '\r', '\u{7f}']) {
            true => quote(pattern),
            false => format!("`{pattern}`"),
        };
        format!("regexp: Compile({shown}): {e}")
    })?;
    let mut out = String::new();
    let mut copied = 0;
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        out.push_str(&text[copied..whole.start]);
        captures.expand(text, replacement, &mut out);
        copied = whole.end;
        if out.len() > TEXT_BYTES_MAX {
            return Err(format!("the text would be longer than {TEXT_BYTES_MAX} bytes"));
        }
    }
    out.push_str(&text[copied..]);
    Ok(out)
}

/// `host:port`, `[v6]:port`; `None` if it is neither.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (before, port) = text.rsplit_once(':')?;
    let host = match before.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?,
        None if before.contains(':') => return None,
        None => before,
    };
    let is_plain = |text: &str| !text.contains(['[', ']']);
    (is_plain(host) && is_plain(port)).then_some((host, port))
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return text.to_owned();
    }
    let first = host.split('.').next().unwrap_or(host);
    match port {
        "" => first.to_owned(),
        port if first.contains(':') => format!("[{first}]:{port}"),
        port => format!("{first}:{port}"),
    }
}

fn link(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", url_encode(expression))
}
