//! The text formats: Prometheus' 0.0.4 and 1.0.0, and OpenMetrics 1.0.
//!
//!     name{label="value",..} value [time] [# {label="value"} value [time]]
//!     {"any name",label="value",..} value
//!
//! Both are read by one walk over the bytes. Prometheus' takes any blanks between tokens, comments and empty lines, times
//! in whole ms and no exemplars; OpenMetrics has one space between tokens, times in seconds, exemplars, `# UNIT`, and ends
//! with `# EOF`. A fault anywhere is one of the whole answer. More is taken than Prometheus takes where the meaning is plain: one
//! trailing CR of a line, blanks after a type, times before 1970.

use std::borrow::Cow;

use memchr::memchr;
use model::{METRIC_NAME, MetricKind};

use super::number::parse_float;
use super::{About, Exposed, ExposedExemplar, ExposedLabels, ExposedValue, Visitor, canonical_float, quoted};

/// Which text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// Shows a whole answer.
pub(crate) fn read(body: &[u8], dialect: Dialect, visitor: &mut impl Visitor) -> Result<(), String> {
    let mut reading = Reading {
        dialect,
        kind: MetricKind::Unknown,
        labels: Labels::default(),
    };
    let mut rest = body;
    let mut line_number = 0usize;
    let mut ended = false;
    while !rest.is_empty() {
        line_number += 1;
        // Quoted values may hold line breaks in Prometheus' format, so the line's end is found while it is read.
        let mut cursor = Cursor { rest };
        if ended {
            return Err(format!("line {line_number}: unexpected data after # EOF"));
        }
        let whole = rest;
        match reading.line(&mut cursor, visitor) {
            Ok(Line::Eof) => ended = true,
            Ok(Line::Other) => {}
            Err(Fault::Visitor(why)) => return Err(why),
            Err(Fault::Line(why)) => {
                let shown = &whole[..memchr(b'\n', whole).unwrap_or(whole.len())];
                return Err(format!("line {line_number}: {why} while parsing: {}", quoted(shown)));
            }
        }
        line_number += whole[..whole.len() - cursor.rest.len()]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            .saturating_sub(1);
        rest = cursor.rest;
    }
    if dialect == Dialect::OpenMetrics && !ended {
        return Err("data does not end with # EOF".to_owned());
    }
    Ok(())
}

enum Line {
    Eof,
    Other,
}

/// What is wrong with a line: how it is written, or what the visitor says of it.
enum Fault {
    Line(String),
    Visitor(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Fault {
        Fault::Line(why)
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Fault {
        Fault::Line(why.to_owned())
    }
}

/// What is left to be read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    fn take(&mut self, b: u8) -> bool {
        let is_next = self.peek() == Some(b);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    #[inline]
    fn take_while(&mut self, passes: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|b| !passes(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    #[inline]
    fn blanks(&mut self) {
        if matches!(self.peek(), Some(b' ' | b'\t')) {
            self.take_while(|b| b == b' ' || b == b'\t');
        }
    }

    /// The rest of the line, which is taken with its end.
    fn line(&mut self) -> &'a [u8] {
        let (line, rest) = match memchr(b'\n', self.rest) {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// Whether the line ends here; its end is taken.
    #[inline]
    fn line_end(&mut self) -> bool {
        match self.rest {
            [] => true,
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => {
                self.rest = rest;
                true
            }
            [b'\r'] => {
                self.rest = &[];
                true
            }
            _ => false,
        }
    }

    /// What stands between quotes, and whether it has escapes; the cursor is at the first quote.
    #[inline]
    fn quoted(&mut self) -> Option<Text<'a>> {
        let inside = &self.rest[1..];
        let mut escaped = false;
        let mut at = 0;
        loop {
            at += memchr::memchr2(b'"', b'\\', &inside[at..])?;
            if inside[at] == b'"' {
                self.rest = &inside[at + 1..];
                return Some(Text {
                    raw: &inside[..at],
                    escaped,
                });
            }
            escaped = true;
            // Whatever follows a backslash is no end.
            at += 2;
            if at > inside.len() {
                return None;
            }
        }
    }
}

/// Text of an answer, perhaps with escapes.
#[derive(Clone, Copy, Debug, Default)]
struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    fn plain(raw: &'a [u8]) -> Text<'a> {
        Text { raw, escaped: false }
    }

    fn resolve(self, what: &str) -> Result<Cow<'a, str>, String> {
        let text = std::str::from_utf8(self.raw).map_err(|_| format!("invalid UTF-8 {what}: {}", quoted(self.raw)))?;
        Ok(if self.escaped {
            unescape(text, &['\\', '"'])
        } else {
            Cow::Borrowed(text)
        })
    }
}

/// `\n`, and those characters that a backslash takes the meaning from; other escapes stay as they are.
fn unescape<'a>(text: &'a str, plain: &[char]) -> Cow<'a, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c) if plain.contains(&c) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

struct Reading<'a> {
    dialect: Dialect,
    /// Of the family that the last `# TYPE` named.
    kind: MetricKind,
    labels: Labels<'a>,
}

/// The labels of the sample that is being read.
#[derive(Default)]
struct Labels<'a> {
    name: Text<'a>,
    pairs: Vec<(Text<'a>, Text<'a>)>,
    kind: MetricKind,
}

impl ExposedLabels for Labels<'_> {
    fn each(&self, see: &mut dyn FnMut(&str, &str)) -> Result<(), String> {
        see(METRIC_NAME, &self.name.resolve("metric name")?);
        for (name, value) in &self.pairs {
            let name = name.resolve("label name")?;
            let value = value.resolve("label value")?;
            let is_number = matches!(
                (self.kind, &*name),
                (MetricKind::Histogram, "le") | (MetricKind::Summary, "quantile")
            );
            match parse_float(value.as_bytes()).filter(|_| is_number) {
                Some(v) => {
                    let mut text = String::new();
                    canonical_float(v, &mut text);
                    see(&name, &text);
                }
                None => see(&name, &value),
            }
        }
        Ok(())
    }
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b':'
}

fn is_label_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// What was expected, and what is there instead.
fn expected(what: &str, cursor: &Cursor<'_>) -> String {
    let token = &cursor.rest[..cursor.rest.len().min(12)];
    let end = memchr(b'\n', token).unwrap_or(token.len());
    match &token[..end] {
        [] => format!("expected {what}, got the end of the line"),
        token => format!("expected {what}, got {}", quoted(token)),
    }
}

impl<'a> Reading<'a> {
    fn line(&mut self, cursor: &mut Cursor<'a>, visitor: &mut impl Visitor) -> Result<Line, Fault> {
        let lenient = self.dialect == Dialect::Prometheus;
        if lenient {
            cursor.blanks();
            if cursor.line_end() {
                return Ok(Line::Other);
            }
        }
        match cursor.peek() {
            Some(b'#') => match self.dialect {
                Dialect::Prometheus => self.comment(cursor, visitor),
                Dialect::OpenMetrics => self.descriptor(cursor, visitor),
            },
            _ => self.sample(cursor, visitor).map(|()| Line::Other),
        }
    }

    /// `# HELP`, `# TYPE`, or anything.
    fn comment(&mut self, cursor: &mut Cursor<'a>, visitor: &mut impl Visitor) -> Result<Line, Fault> {
        cursor.take(b'#');
        let is_apart = matches!(cursor.peek(), Some(b' ' | b'\t'));
        cursor.blanks();
        let word = cursor.rest.first_chunk::<4>().copied();
        let is_word = matches!(cursor.rest.get(4), Some(b' ' | b'\t'));
        let word = word.filter(|word| is_apart && is_word && matches!(word, b"HELP" | b"TYPE"));
        let Some(word) = word else {
            cursor.line();
            return Ok(Line::Other);
        };
        cursor.rest = &cursor.rest[4..];
        cursor.blanks();
        let family = self.family(cursor)?;
        let text = cursor.line();
        match &word {
            b"TYPE" => {
                let word = text.trim_ascii();
                self.kind = match word {
                    b"counter" => MetricKind::Counter,
                    b"gauge" => MetricKind::Gauge,
                    b"histogram" => MetricKind::Histogram,
                    b"summary" => MetricKind::Summary,
                    b"untyped" => MetricKind::Unknown,
                    _ => return Err(format!("invalid metric type {}", quoted(word)).into()),
                };
                visitor.about(&family, About::Kind(self.kind));
            }
            _ => {
                let help = Text::plain(text.get(1..).unwrap_or(&[])).resolve("help text")?;
                // Quotes are not escaped here, unlike in OpenMetrics.
                visitor.about(&family, About::Help(&unescape(&help, &['\\'])));
            }
        }
        Ok(Line::Other)
    }

    /// `# HELP`, `# TYPE`, `# UNIT` or `# EOF`.
    fn descriptor(&mut self, cursor: &mut Cursor<'a>, visitor: &mut impl Visitor) -> Result<Line, Fault> {
        if let Some(rest) = cursor.rest.strip_prefix(b"# EOF") {
            cursor.rest = rest;
            return if cursor.line_end() {
                Ok(Line::Eof)
            } else {
                Err("unexpected data after # EOF".into())
            };
        }
        let word = match cursor.rest.first_chunk::<7>() {
            Some(word @ (b"# HELP " | b"# TYPE " | b"# UNIT ")) => word,
            _ => return Err(expected("# HELP, # TYPE, # UNIT or # EOF", cursor).into()),
        };
        cursor.rest = &cursor.rest[7..];
        let family = self.family(cursor)?;
        let text = cursor.line();
        if text.is_empty() {
            let word = String::from_utf8_lossy(&word[2..6]);
            return Err(format!("expected text in {word}").into());
        }
        let Some(text) = text.strip_prefix(b" ") else {
            let why = format!("expected one space after the metric name, got {}", quoted(text));
            return Err(why.into());
        };
        match word {
            b"# TYPE " => {
                self.kind = match text {
                    b"counter" => MetricKind::Counter,
                    b"gauge" => MetricKind::Gauge,
                    b"histogram" => MetricKind::Histogram,
                    b"gaugehistogram" => MetricKind::GaugeHistogram,
                    b"summary" => MetricKind::Summary,
                    b"info" => MetricKind::Info,
                    b"stateset" => MetricKind::StateSet,
                    b"unknown" => MetricKind::Unknown,
                    _ => return Err(format!("invalid metric type {}", quoted(text)).into()),
                };
                visitor.about(&family, About::Kind(self.kind));
            }
            b"# UNIT " => {
                let unit = Text::plain(text).resolve("unit")?;
                let fits = unit.is_empty() || family.strip_suffix(&*unit).is_some_and(|f| f.ends_with('_'));
                if !fits {
                    return Err(format!("unit {unit:?} not a suffix of metric {family:?}").into());
                }
                visitor.about(&family, About::Unit(&unit));
            }
            _ => {
                let help = Text {
                    raw: text,
                    escaped: true,
                };
                visitor.about(&family, About::Help(&help.resolve("help text")?));
            }
        }
        Ok(Line::Other)
    }

    fn family(&self, cursor: &mut Cursor<'a>) -> Result<Cow<'a, str>, String> {
        let name = if cursor.peek() == Some(b'"') {
            cursor.quoted().ok_or("unterminated quoted metric name")?
        } else {
            Text::plain(cursor.take_while(is_name))
        };
        if name.raw.is_empty() || !name.escaped && name.raw[0].is_ascii_digit() {
            return Err(expected("a metric name", cursor));
        }
        name.resolve("metric name")
    }

    fn sample(&mut self, cursor: &mut Cursor<'a>, visitor: &mut impl Visitor) -> Result<(), Fault> {
        let start = cursor.rest;
        self.labels.pairs.clear();
        self.labels.kind = self.kind;
        let name = cursor.take_while(is_name);
        if name.first().is_some_and(u8::is_ascii_digit) {
            return Err("a metric name does not begin with a digit".into());
        }
        let mut named = (!name.is_empty()).then_some(Text::plain(name));
        let after_name = cursor.rest;
        if self.dialect == Dialect::Prometheus {
            cursor.blanks();
        }
        let key_end = if cursor.take(b'{') {
            let name = label_run(cursor, &mut self.labels.pairs, named.is_some(), self.dialect)?;
            named = named.or(name);
            cursor.rest
        } else {
            cursor.rest = after_name;
            after_name
        };
        let Some(name) = named else {
            return Err(if key_end.len() == start.len() {
                expected("a metric name", cursor)
            } else {
                "metric name not set".to_owned()
            }
            .into());
        };
        self.labels.name = name;
        let key = &start[..start.len() - key_end.len()];
        let value = self
            .token(cursor)
            .ok_or_else(|| expected("a value after the metric", cursor))?;
        let value = parse_float(value).ok_or_else(|| format!("invalid value {}", quoted(value)))?;
        let mut t = None;
        let mut exemplar = None;
        if self.dialect == Dialect::Prometheus {
            cursor.blanks();
            if !cursor.line_end() {
                let text = cursor.take_while(|b| b.is_ascii_digit() || b == b'-');
                t = Some(parse_ms(text).ok_or_else(|| expected("a timestamp or a new line", cursor))?);
                cursor.blanks();
                if !cursor.line_end() {
                    return Err(expected("a new line after the timestamp", cursor).into());
                }
            }
        } else {
            if !cursor.rest.starts_with(b" # {")
                && let Some(text) = self.token(cursor)
            {
                t = Some(parse_seconds(text)?);
            }
            if let Some(rest) = cursor.rest.strip_prefix(b" # {") {
                cursor.rest = rest;
                exemplar = Some(self.exemplar(cursor)?);
            }
            if !cursor.line_end() {
                return Err(expected("a new line", cursor).into());
            }
        }
        let shown = visitor.sample(&Exposed {
            key,
            labels: &self.labels,
            value: ExposedValue::Float(value),
            t,
            start: None,
            exemplars: exemplar.as_slice(),
        });
        shown.map_err(Fault::Visitor)
    }

    /// What stands before the next blank or the line's end; `None` if nothing does. OpenMetrics wants one space before it.
    #[inline]
    fn token(&self, cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
        match self.dialect {
            Dialect::Prometheus => cursor.blanks(),
            Dialect::OpenMetrics => {
                if !matches!(cursor.rest, [b' ', next, ..] if !matches!(next, b' ' | b'\n' | b'\r')) {
                    return None;
                }
                cursor.take(b' ');
            }
        }
        let token = cursor.take_while(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        (!token.is_empty()).then_some(token)
    }

    /// What follows ` # {`.
    fn exemplar(&self, cursor: &mut Cursor<'a>) -> Result<ExposedExemplar<'a>, String> {
        let mut pairs = Vec::new();
        if label_run(cursor, &mut pairs, true, self.dialect)?.is_some() {
            return Err("an exemplar has no name".to_owned());
        }
        let value = self
            .token(cursor)
            .ok_or_else(|| expected("a value after the exemplar's labels", cursor))?;
        let value = parse_float(value).ok_or_else(|| format!("invalid exemplar value {}", quoted(value)))?;
        let t = self.token(cursor).map(parse_seconds).transpose()?;
        let labels: Result<Vec<_>, String> = pairs
            .into_iter()
            .map(|(name, value)| Ok((name.resolve("label name")?, value.resolve("label value")?)))
            .collect();
        Ok(ExposedExemplar {
            labels: labels?,
            value,
            t,
        })
    }
}

/// Reads what stands in braces, the first of which is taken; gives the metric's name if that is among it.
fn label_run<'a>(
    cursor: &mut Cursor<'a>,
    pairs: &mut Vec<(Text<'a>, Text<'a>)>,
    is_named: bool,
    dialect: Dialect,
) -> Result<Option<Text<'a>>, String> {
    let lenient = dialect == Dialect::Prometheus;
    let blanks = |cursor: &mut Cursor<'a>| {
        if lenient {
            cursor.blanks();
        }
    };
    let mut metric = None;
    loop {
        blanks(cursor);
        let (name, is_quoted) = match cursor.peek() {
            Some(b'}') => {
                cursor.take(b'}');
                return Ok(metric);
            }
            Some(b'"') => (cursor.quoted().ok_or("unterminated quoted name")?, true),
            Some(b) if is_label_name(b) && !b.is_ascii_digit() => {
                (Text::plain(cursor.take_while(is_label_name)), false)
            }
            _ => return Err(expected("a label name", cursor)),
        };
        blanks(cursor);
        if is_quoted && matches!(cursor.peek(), Some(b',' | b'}')) {
            if is_named || metric.is_some() {
                return Err("metric name already set".to_owned());
            }
            metric = Some(name);
            cursor.take(b',');
            continue;
        }
        if !cursor.take(b'=') {
            return Err(expected("= after the label name", cursor));
        }
        blanks(cursor);
        if cursor.peek() != Some(b'"') {
            return Err(expected("a label value in quotes", cursor));
        }
        let value = cursor.quoted().ok_or("unterminated label value")?;
        if !lenient && memchr(b'\n', value.raw).is_some() {
            return Err("unterminated label value".to_owned());
        }
        pairs.push((name, value));
        blanks(cursor);
        if !cursor.take(b',') && cursor.peek() != Some(b'}') && !lenient {
            return Err(expected(", or } after the label value", cursor));
        }
    }
}

fn parse_ms(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds as a float, in ms.
fn parse_seconds(text: &[u8]) -> Result<i64, String> {
    let seconds = parse_float(text).filter(|s| s.is_finite());
    let seconds = seconds.ok_or_else(|| format!("invalid timestamp {}", quoted(text)))?;
    Ok((seconds * 1000.0) as i64)
}
