//! JSON lines: a scanner that is as forgiving as Loki's (what was found before a fault counts, what follows the object is
//! not looked at), and extraction paths such as `request.headers["X-Id"][0]`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::labels::Needed;

/// Deepest nesting of objects; more is a fault.
const DEPTH_MAX: usize = 64;

/// A value as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// The inside of quotes, escapes and all.
    Text(&'a str),
    /// A number, `true` or `false`, verbatim.
    Plain(&'a str),
    Null,
    /// From its bracket to its bracket.
    Object(&'a str),
    Array(&'a str),
}

impl Value<'_> {
    /// Appends the value as a label's value; of a string that cannot be unescaped nothing.
    pub fn write(&self, out: &mut String) {
        match self {
            // Loki unescapes an array's text, too.
            Value::Text(inside) | Value::Array(inside) => {
                let start = out.len();
                if !unescape(inside, out) {
                    out.truncate(start);
                } else if memchr(REPLACEMENT_FIRST, &out.as_bytes()[start..]).is_some() {
                    let clean = out[start..].replace('\u{fffd}', " ");
                    out.replace_range(start.., &clean);
                }
            }
            Value::Plain(text) | Value::Object(text) => out.push_str(text),
            Value::Null => {}
        }
    }
}

/// The first byte of U+FFFD in UTF-8.
const REPLACEMENT_FIRST: u8 = 0xef;

/// What to do after a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    Stop,
}

/// Calls `leaf` with the path of keys (raw, escapes and all) and the value of everything in the object that is no object
/// itself; keys that cannot end the name of a `needed` label may be passed over. The error is what is wrong with the line.
pub(crate) fn walk<'a>(
    line: &'a str,
    needed: &Needed,
    mut leaf: impl FnMut(&[&'a str], Value<'a>) -> Next,
) -> Result<(), &'static str> {
    let mut scanner = Scanner::new(line, 0);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(NO_OBJECT);
    }
    let mut path = Vec::new();
    // Of an object that never ends nothing is read. A line that ends with a brace and has as many that open as close is
    // taken at its word.
    let count = |brace| memchr::memchr_iter(brace, line.as_bytes()).count();
    scanner.looks_ahead = !line.trim_end().ends_with('}') || count(b'{') != count(b'}');
    scanner.object(&mut path, needed, &mut leaf).map(|_| ())
}

/// The members of the object that the line is.
pub(crate) fn members<'a>(
    line: &'a str,
    mut member: impl FnMut(&'a str, Value<'a>) -> Next,
) -> Result<(), &'static str> {
    let mut scanner = Scanner::new(line, 0);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(NO_OBJECT);
    }
    scanner.each_member(|scanner, key| {
        let value = scanner.value()?;
        Ok(member(key, value))
    })?;
    Ok(())
}

const NO_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const NO_ARRAY: &str = "Value is array, but can't find closing ']' symbol";
const NO_STRING: &str = "Value is string, but can't find closing '\"' symbol";
const MALFORMED: &str = "Malformed JSON error";
/// The error of an escape that JSON does not know.
pub(crate) const BAD_ESCAPE: &str = "Encountered an invalid escape sequence in a string";

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether the end of an inner object is looked for before its members are read.
    looks_ahead: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, at: usize) -> Scanner<'a> {
        Scanner {
            text,
            at,
            looks_ahead: false,
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn object(
        &mut self,
        path: &mut Vec<&'a str>,
        needed: &Needed,
        leaf: &mut impl FnMut(&[&'a str], Value<'a>) -> Next,
    ) -> Result<Next, &'static str> {
        if path.len() >= DEPTH_MAX {
            return Err("Nested too deeply");
        }
        self.each_member(|scanner, key| {
            if scanner.peek() == Some(b'{') {
                path.push(key);
                let next = if scanner.looks_ahead {
                    let mut inner = Scanner::new(scanner.bracketed()?, 0);
                    inner.looks_ahead = true;
                    inner.object(path, needed, leaf)?
                } else {
                    scanner.object(path, needed, leaf)?
                };
                path.pop();
                return Ok(next);
            }
            let value = scanner.value()?;
            if !needed.may_end_with(key) {
                return Ok(Next::Go);
            }
            path.push(key);
            let next = leaf(path, value);
            path.pop();
            Ok(next)
        })
    }

    /// Calls `member` at each value of the object that begins here.
    fn each_member(
        &mut self,
        mut member: impl FnMut(&mut Scanner<'a>, &'a str) -> Result<Next, &'static str>,
    ) -> Result<Next, &'static str> {
        if !self.take(b'{') {
            return Err(NO_OBJECT);
        }
        self.space();
        if self.peek().is_none() {
            return Err(MALFORMED);
        }
        loop {
            // A comma may stand before the end.
            if self.take(b'}') {
                return Ok(Next::Go);
            }
            if self.peek() != Some(b'"') {
                return Err(NO_OBJECT);
            }
            let key = self.string().map_err(|_| MALFORMED)?;
            if key.contains('\\') && !unescape(key, &mut String::new()) {
                return Err(BAD_ESCAPE);
            }
            if !self.take(b':') {
                return Err(MALFORMED);
            }
            self.space();
            if member(self, key)? == Next::Stop {
                return Ok(Next::Stop);
            }
            if self.take(b'}') {
                return Ok(Next::Go);
            }
            let more = self.take(b',');
            self.space();
            match self.peek() {
                None => return Err(NO_ARRAY),
                Some(_) if !more => return Err(NO_OBJECT),
                Some(_) => {}
            }
        }
    }

    /// The inside of the string that begins here.
    fn string(&mut self) -> Result<&'a str, &'static str> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut at = start;
        loop {
            let Some(found) = bytes.get(at..).and_then(quote_or_backslash) else {
                return Err(NO_STRING);
            };
            at += found;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return Ok(&self.text[start..at]);
            }
            at += 2;
        }
    }

    fn value(&mut self) -> Result<Value<'a>, &'static str> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'{') => Ok(Value::Object(self.bracketed()?)),
            Some(b'[') => Ok(Value::Array(self.bracketed()?)),
            None => Err(MALFORMED),
            _ => {
                let ends = |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']');
                while self.peek().is_some_and(|b| !ends(b)) {
                    self.at += 1;
                }
                let text = &self.text[start..self.at];
                match text.as_bytes().first() {
                    _ if text == "null" => Ok(Value::Null),
                    _ if text == "true" || text == "false" => Ok(Value::Plain(text)),
                    Some(b'-' | b'0'..=b'9') => Ok(Value::Plain(text)),
                    _ => Err("Unknown value type"),
                }
            }
        }
    }

    /// The object or array that begins here, as text. Brackets of its kind are counted.
    fn bracketed(&mut self) -> Result<&'a str, &'static str> {
        let start = self.at;
        let (opens, closes, fault) = match self.peek() {
            Some(b'{') => (b'{', b'}', NO_OBJECT),
            _ => (b'[', b']', NO_ARRAY),
        };
        let mut open = 0usize;
        while let Some(b) = self.peek() {
            if b == b'"' {
                self.string().map_err(|_| fault)?;
                continue;
            }
            self.at += 1;
            if b == opens {
                open += 1;
            } else if b == closes {
                open -= 1;
                if open == 0 {
                    return Ok(&self.text[start..self.at]);
                }
            }
        }
        Err(fault)
    }

    /// Calls `element` at each value of the array that begins here, and stops where there is no further one.
    fn each_element(&mut self, mut element: impl FnMut(usize, Value<'a>)) {
        self.at += 1;
        self.space();
        if self.peek().is_none_or(|b| b == b']') {
            return;
        }
        for i in 0.. {
            let start = self.at;
            self.space();
            let Ok(value) = self.value() else {
                self.at = start;
                return;
            };
            element(i, value);
            if !self.take(b',') {
                return;
            }
        }
    }
}

/// Where the first `"` or `\\` is. Most strings are short, so the first words are looked at without a call.
#[inline]
fn quote_or_backslash(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // The highest bit of each byte that is zero; a byte after such a one may be told wrongly, the first never is.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    for _ in 0..SHORT_WORDS {
        let Some(word) = rest.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', &rest[at..]).map(|found| at + found)
}

/// Words of eight bytes that are looked at one by one.
const SHORT_WORDS: usize = 3;

/// Appends the inside of a JSON string, unescaped. Says whether all escapes were sound; if not, part of it is there.
pub(crate) fn unescape(inside: &str, out: &mut String) -> bool {
    let mut rest = inside;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (escape, length) = match rest.as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(&c @ (b'"' | b'\\' | b'/')) => (char::from(c), 2),
            Some(b'u') => match (unit(rest), rest.get(6..).and_then(unit)) {
                (Some(high @ 0xd800..=0xdfff), Some(low @ 0xdc00..)) => {
                    let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).unwrap_or('\u{fffd}'), 12)
                }
                (Some(0xd800..=0xdfff), _) => return false,
                (Some(one), _) => (char::from_u32(one).unwrap_or('\u{fffd}'), 6),
                (None, _) => return false,
            },
            _ => return false,
        };
        out.push(escape);
        rest = &rest[length..];
    }
    out.push_str(rest);
    true
}

/// The number that four hex digits after two bytes, `\u`, write.
fn unit(escape: &str) -> Option<u32> {
    let digits = escape.as_bytes().get(2..6)?;
    let digit = |n: u32, b: &u8| Some(n * 16 + char::from(*b).to_digit(16)?);
    digits.iter().try_fold(0, digit)
}

/// A step of an extraction path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathStep {
    Key(String),
    Index(usize),
}

/// Parses an extraction path; an empty one finds nothing. The error is the grammar's, without its prefix.
pub(crate) fn parse_path(text: &str) -> Result<Vec<PathStep>, String> {
    #[derive(PartialEq)]
    enum Token {
        Dot,
        Open,
        Close,
        Text(String),
        Index(usize),
        Field(String),
        /// It ends the expression, which is at fault at last.
        Foreign(char),
        End,
    }
    fn next(rest: &str) -> Result<(Token, &str), String> {
        let rest = rest.trim_start();
        let Some(c) = rest.chars().next() else {
            return Ok((Token::End, ""));
        };
        match c {
            '.' => Ok((Token::Dot, &rest[1..])),
            '[' => Ok((Token::Open, &rest[1..])),
            ']' => Ok((Token::Close, &rest[1..])),
            '"' => {
                // There are no escapes. A bracket ends a string as a quote does, and is gone with it.
                let body = &rest[1..];
                let end = body.find(['"', ']']).unwrap_or(body.len());
                Ok((Token::Text(body[..end].to_owned()), body.get(end + 1..).unwrap_or("")))
            }
            '0'..='9' => {
                let len = rest.bytes().take_while(u8::is_ascii_digit).count();
                // A number that anything else follows is none.
                if !rest[len..].starts_with([' ', '\t', '\n', ']']) {
                    return Ok((Token::End, ""));
                }
                let index = rest[..len]
                    .parse()
                    .map_err(|_| "syntax error: unexpected INDEX".to_owned())?;
                Ok((Token::Index(index), &rest[len..]))
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let len = rest
                    .bytes()
                    .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                    .count();
                Ok((Token::Field(rest[..len].to_owned()), &rest[len..]))
            }
            other => Ok((Token::Foreign(other), &rest[other.len_utf8()..])),
        }
    }
    fn unexpected(token: &Token, expecting: &str) -> String {
        let what = match token {
            Token::Dot => "DOT",
            Token::Open => "LSB",
            Token::Close => "RSB",
            Token::Text(_) => "STRING",
            Token::Index(_) => "INDEX",
            Token::Field(_) => "FIELD",
            Token::Foreign(_) | Token::End => "$end",
        };
        let expecting = if expecting.is_empty() {
            String::new()
        } else {
            format!(", expecting {expecting}")
        };
        format!("syntax error: unexpected {what}{expecting}")
    }

    let mut path = Vec::new();
    let mut rest = text;
    loop {
        let (token, after) = next(rest)?;
        rest = after;
        match token {
            Token::End | Token::Foreign(_) if path.is_empty() && !text.is_empty() => {
                return Err(unexpected(&Token::End, "LSB or FIELD"));
            }
            Token::End => return Ok(path),
            Token::Foreign(c) => return Err(format!("unexpected char {c}")),
            Token::Open => {
                let (inside, after) = next(rest)?;
                path.push(match inside {
                    Token::Text(key) => PathStep::Key(key),
                    Token::Index(index) => PathStep::Index(index),
                    other => return Err(unexpected(&other, "STRING or INDEX")),
                });
                let (close, after) = next(after)?;
                if close != Token::Close {
                    return Err(unexpected(&close, "RSB"));
                }
                rest = after;
            }
            Token::Dot if !path.is_empty() => {
                let (field, after) = next(rest)?;
                match field {
                    Token::Field(name) => path.push(PathStep::Key(name)),
                    other => return Err(unexpected(&other, "FIELD")),
                }
                rest = after;
            }
            Token::Field(name) if path.is_empty() => path.push(PathStep::Key(name)),
            other if path.is_empty() => return Err(unexpected(&other, "LSB or FIELD")),
            other => return Err(unexpected(&other, "")),
        }
    }
}

/// Calls `found` with the number of each path and the value there, or with what is wrong with the line. A line may be
/// damaged: what stands before the damage is found. Faults within what no path asks for are not seen.
pub(crate) fn extract<'a>(
    line: &'a str,
    paths: &[&[PathStep]],
    mut found: impl FnMut(usize, Result<Value<'a>, &'static str>),
) {
    let bytes = line.as_bytes();
    let longest = paths.iter().map(|path| path.len()).max().unwrap_or(0);
    let mut done = vec![false; paths.len()];
    // The latest key at each depth.
    let mut keys: Vec<Cow<'a, str>> = vec![Cow::Borrowed(""); longest];
    let mut left = paths.len();
    let mut depth = 0i64;
    let mut scanner = Scanner::new(line, 0);
    while let Some(&byte) = bytes.get(scanner.at) {
        match byte {
            b'"' => {
                let Ok(raw) = scanner.string() else { return };
                scanner.space();
                match scanner.peek() {
                    None => return,
                    Some(b':') => scanner.at += 1,
                    Some(_) => continue,
                }
                let mut key = Cow::Borrowed(raw);
                if raw.contains('\\') {
                    let mut text = String::new();
                    if !unescape(raw, &mut text) {
                        return;
                    }
                    key = Cow::Owned(text);
                }
                if depth > longest as i64 {
                    continue;
                }
                let Some(place) = usize::try_from(depth - 1).ok() else {
                    return found(NO_PATH, Err(MALFORMED));
                };
                keys[place] = key;
                for (i, path) in paths.iter().enumerate() {
                    if path.len() == place + 1 && !done[i] && leads_to(path, &keys[..=place]) {
                        done[i] = true;
                        left -= 1;
                        let mut value = Scanner::new(line, scanner.at);
                        value.space();
                        found(i, value.value());
                    }
                }
                if left == 0 {
                    return;
                }
            }
            b'[' => {
                let Ok(place) = usize::try_from(depth) else {
                    return found(NO_PATH, Err(MALFORMED));
                };
                let index = |i: usize| match paths[i].get(place) {
                    Some(PathStep::Index(index)) if leads_to(&paths[i][..place], &keys[..place]) => Some(*index),
                    _ => None,
                };
                let wanted: Vec<(usize, usize)> = (0..paths.len())
                    .filter(|i| !done[*i])
                    .filter_map(|i| Some((i, index(i)?)))
                    .collect();
                if wanted.is_empty() {
                    if scanner.bracketed().is_err() {
                        return;
                    }
                    continue;
                }
                depth += 1;
                scanner.each_element(|at, element| {
                    for (i, _) in wanted.iter().filter(|(_, index)| *index == at) {
                        done[*i] = true;
                        left -= 1;
                        if let Some(value) = inner(element, &paths[*i][place + 1..]) {
                            found(*i, Ok(value));
                        }
                    }
                });
                if left == 0 {
                    return;
                }
            }
            b'{' => {
                depth += 1;
                scanner.at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                scanner.at += 1;
            }
            _ => scanner.at += 1,
        }
    }
}

/// What [`extract`] calls the line as a whole.
pub(crate) const NO_PATH: usize = usize::MAX;

fn leads_to(path: &[PathStep], keys: &[Cow<str>]) -> bool {
    let is = |(step, key): (&PathStep, &Cow<str>)| matches!(step, PathStep::Key(name) if name == key);
    path.iter().zip(keys).all(is)
}

/// The value at a path within another.
fn inner<'a>(value: Value<'a>, path: &[PathStep]) -> Option<Value<'a>> {
    let Some((step, rest)) = path.split_first() else {
        return Some(value);
    };
    let mut found = None;
    match (step, value) {
        (PathStep::Key(key), Value::Object(text)) => {
            let mut name = String::new();
            let _ = members(text, |raw, member| {
                name.clear();
                unescape(raw, &mut name);
                if name != *key {
                    return Next::Go;
                }
                found = Some(member);
                Next::Stop
            });
        }
        (PathStep::Index(index), Value::Array(text)) => {
            Scanner::new(text, 0).each_element(|at, element| {
                if at == *index {
                    found = Some(element);
                }
            });
        }
        _ => {}
    }
    inner(found?, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, want: &[&str], error: Option<&str>) {
        let mut got = Vec::new();
        let result = walk(line, &Needed::all(), |path, value| {
            let mut text = format!("{}=", path.join("/"));
            value.write(&mut text);
            got.push(text);
            Next::Go
        });
        assert_eq!(got, want, "{line}");
        assert_eq!(result.err(), error, "{line}");
    }

    #[test]
    fn leaves_of_objects() {
        check(
            r#"{"a":1,"b":{"c":"x\n\u00e9\ud83d\ude00"},"d":[1,{"e":"]"}],"f":true}"#,
            &["a=1", "b/c=x\né😀", "d=[1,{\"e\":\"]\"}]", "f=true"],
            None,
        );
        check(r#"{"a":1}"x"#, &["a=1"], None);
        check("{n}", &[], Some(NO_OBJECT));
        check("not json", &[], Some(NO_OBJECT));
        check(r#"{"a":1,"b"}"#, &["a=1"], Some(MALFORMED));
        check(r#"{"a":oops}"#, &[], Some("Unknown value type"));
        check(r#"{"a":1 "b":2}"#, &["a=1"], Some(NO_OBJECT));
        check(r#"{"a":1"#, &["a=1"], Some(NO_ARRAY));
        check(r#"{"a":1,"#, &["a=1"], Some(NO_ARRAY));
        check(r#"{"a"#, &[], Some(MALFORMED));
        check(r#"{"a":"#, &[], Some(MALFORMED));
        check(r#"{"a":1,"b":"x"#, &["a=1"], Some(NO_STRING));
        check(r#"{"a":{"b":{"c":1}"#, &[], Some(NO_OBJECT));
        check(r#"{"a":{"b":1}"#, &["a/b=1"], Some(NO_ARRAY));
        check(r#"{"\x":1}"#, &[], Some(BAD_ESCAPE));
        check(
            "{\"a\":\"x\u{fffd}\",\"b\":\"\\'\",\"c\":\"\\ud83d\"}",
            &["a=x ", "b=", "c="],
            None,
        );
        check("{}", &[], None);
    }

    #[test]
    fn paths() {
        let key = |k: &str| PathStep::Key(k.into());
        for (text, want) in [
            (r#"["a b"]"#, vec![key("a b")]),
            ("", vec![]),
            ("[0]", vec![PathStep::Index(0)]),
            (
                r#"pod["uuid"].x[3]"#,
                vec![key("pod"), key("uuid"), key("x"), PathStep::Index(3)],
            ),
        ] {
            assert_eq!(parse_path(text), Ok(want), "{text}");
        }
        for (text, want) in [
            (r#""pod"]"#, "unexpected STRING, expecting LSB or FIELD"),
            (r#"["pod""uuid"]"#, "unexpected STRING, expecting RSB"),
            (" ", "unexpected $end, expecting LSB or FIELD"),
            (".a", "unexpected DOT, expecting LSB or FIELD"),
            ("a[0", "unexpected $end, expecting STRING or INDEX"),
            ("a[-1]", "unexpected $end, expecting STRING or INDEX"),
            ("pod..uuid", "unexpected DOT, expecting FIELD"),
            (r#"["key"#, "unexpected $end, expecting RSB"),
            (r#"["a]"]"#, "unexpected STRING, expecting RSB"),
            (r#"["pod""#, "unexpected $end, expecting RSB"),
            ("field with space", "unexpected FIELD"),
        ] {
            assert_eq!(parse_path(text), Err(format!("syntax error: {want}")), "{text}");
        }
        let line = r#"{"a":{"b":[1,{"c":"x"}]},"n":null}"#;
        let found = |line: &str, path: &str| {
            let mut out = Vec::new();
            let path = parse_path(path).unwrap();
            extract(line, &[&path], |_, value| {
                let mut text = String::new();
                value.map(|v| v.write(&mut text)).unwrap_or_else(|e| text.push_str(e));
                out.push(text);
            });
            out
        };
        assert_eq!(found(line, "a.b[1].c"), ["x"]);
        assert!(found(line, "a.b[2]").is_empty());
        assert_eq!(found(line, "n"), [""]);
        assert!(found(line, "a.b.c").is_empty());
        // Damage counts only where something is asked for.
        assert_eq!(found(r#"{"a":1,"b":oops,"c":3"#, "c"), ["3"]);
        assert_eq!(found(r#"{"a":1,"b":oops"#, "b"), ["Unknown value type"]);
        assert!(found(r#"{"a":1,"b"#, "b").is_empty());
        assert_eq!(found(r#""a":1"#, "a"), [MALFORMED]);
        assert_eq!(found(r#"[[1],{"k":["x\ty"]}]"#, "[1].k"), ["[\"x\ty\"]"]);
    }

    proptest! {
        /// Lines come from outside; the scanner takes any bytes and stays on character boundaries.
        #[test]
        fn any_line_is_scanned(line in r#"[{}\[\]",:\\u0-9a-e. é-]{0,40}"#, path in r#"[a\.\[\]"0]{0,10}"#) {
            let _ = walk(&line, &Needed::all(), |_, value| {
                value.write(&mut String::new());
                Next::Go
            });
            if let Ok(path) = parse_path(&path) {
                extract(&line, &[&path], |_, _| {});
            }
        }

        /// What serde reads, the scanner reads alike, but for the character that stands for what was none.
        #[test]
        fn strings_are_those_of_serde(text in "\\PC{0,20}|[\\x00-\\x1f\"\\\\é😀]{0,8}") {
            let line = serde_json::json!({ "k": text }).to_string();
            let mut got = String::new();
            walk(&line, &Needed::all(), |_, value| {
                value.write(&mut got);
                Next::Go
            }).unwrap();
            prop_assert_eq!(got, text.replace('\u{fffd}', " "));
        }
    }
}
