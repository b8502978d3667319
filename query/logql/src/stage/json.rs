//! JSON lines: a scanner that is as forgiving as Loki's (what was found before a fault counts, what follows the object is
//! not looked at), and extraction paths such as `request.headers["X-Id"][0]`.

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
            Value::Text(inside) => {
                let start = out.len();
                if unescape(inside, out) != Escapes::Sound {
                    out.truncate(start);
                }
            }
            Value::Plain(text) | Value::Object(text) | Value::Array(text) => out.push_str(text),
            Value::Null => {}
        }
    }
}

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
    // Of an object that never ends nothing is read. A line that ends with a brace is taken at its word.
    scanner.looks_ahead = !line.trim_end().ends_with('}');
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
const MALFORMED: &str = "Malformed JSON error";

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
                if scanner.looks_ahead {
                    let start = scanner.at;
                    scanner.bracketed()?;
                    scanner.at = start;
                }
                path.push(key);
                let next = scanner.object(path, needed, leaf)?;
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
        if self.take(b'}') {
            return Ok(Next::Go);
        }
        loop {
            self.space();
            // A comma may stand before the end.
            if self.take(b'}') {
                return Ok(Next::Go);
            }
            if self.peek() != Some(b'"') {
                return Err(if self.text.contains('}') && self.at > 1 {
                    MALFORMED
                } else {
                    NO_OBJECT
                });
            }
            let key = self.string()?;
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
            if !self.take(b',') {
                return Err(MALFORMED);
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
                return Err("Value is string, but can't find closing '\"' symbol");
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
            _ => {
                while self
                    .peek()
                    .is_some_and(|b| b > b' ' && !matches!(b, b',' | b'}' | b']'))
                {
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

    /// The object or array that begins here, as text. Brackets are counted, not remembered.
    fn bracketed(&mut self) -> Result<&'a str, &'static str> {
        let start = self.at;
        let mut open = 0usize;
        while let Some(b) = self.peek() {
            match b {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Ok(&self.text[start..self.at]);
            }
        }
        Err(if self.text[start..].starts_with('{') {
            NO_OBJECT
        } else {
            "Value is array, but can't find closing ']' symbol"
        })
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

/// Appends the inside of a JSON string, unescaped. A malformed escape becomes U+FFFD.
pub(crate) fn unescape(inside: &str, out: &mut String) -> Escapes {
    let mut rest = inside;
    let mut escapes = Escapes::Sound;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(escape) = rest.chars().next() else {
            return Escapes::Broken;
        };
        rest = &rest[escape.len_utf8()..];
        out.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' | '\'' => escape,
            'u' => {
                let unit = |text: &str| text.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                match unit(rest) {
                    Some(high @ 0xd800..0xdc00) => {
                        let low = rest[4..].strip_prefix("\\u").and_then(unit);
                        rest = &rest[4..];
                        match low {
                            Some(low @ 0xdc00..0xe000) => {
                                rest = &rest[6..];
                                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}')
                            }
                            _ => {
                                escapes = escapes.max(Escapes::Lone);
                                '\u{fffd}'
                            }
                        }
                    }
                    Some(one) => {
                        rest = &rest[4..];
                        char::from_u32(one).unwrap_or_else(|| {
                            escapes = escapes.max(Escapes::Lone);
                            '\u{fffd}'
                        })
                    }
                    None => {
                        escapes = Escapes::Broken;
                        '\u{fffd}'
                    }
                }
            }
            _ => {
                escapes = Escapes::Broken;
                '\u{fffd}'
            }
        });
    }
    out.push_str(rest);
    escapes
}

/// What the escapes of a string are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Escapes {
    Sound,
    /// Half a surrogate pair, which became U+FFFD.
    Lone,
    /// No escapes of JSON.
    Broken,
}

/// A step of an extraction path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathStep {
    Key(String),
    Index(usize),
}

/// Parses an extraction path. The error is the grammar's, without its prefix.
pub(crate) fn parse_path(text: &str) -> Result<Vec<PathStep>, String> {
    #[derive(PartialEq)]
    enum Token {
        Dot,
        Open,
        Close,
        Text(String),
        Index(usize),
        Field(String),
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
                let body = &rest[1..];
                let mut escaped = false;
                for (at, c) in body.char_indices() {
                    match c {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        '"' => {
                            let text = crate::units::unescape(&body[..at]).unwrap_or_else(|| body[..at].to_owned());
                            return Ok((Token::Text(text), &body[at + 1..]));
                        }
                        _ => {}
                    }
                }
                // An open string swallows the rest.
                Ok((Token::End, ""))
            }
            '0'..='9' => {
                let len = rest.bytes().take_while(u8::is_ascii_digit).count();
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
            other => Err(format!("unexpected char {other}")),
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
            Token::End => "$end",
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
            Token::End if path.is_empty() && !text.trim().is_empty() => {
                return Err(unexpected(&Token::End, "LSB or FIELD"));
            }
            Token::End => return Ok(path),
            Token::Open => {
                let (inside, after) = next(rest)?;
                path.push(match inside {
                    Token::Text(key) => PathStep::Key(key),
                    Token::Index(index) => PathStep::Index(index),
                    Token::End if rest.trim_start().starts_with('"') => return Err(unexpected(&Token::End, "RSB")),
                    other => return Err(unexpected(&other, "STRING or INDEX")),
                });
                let (close, after) = next(after)?;
                if close != Token::Close {
                    return Err(unexpected(&close, "RSB"));
                }
                rest = after;
            }
            Token::Dot => {
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

/// The value at a path, if it is there. The error is what is wrong with the line.
pub(crate) fn look_up<'a>(line: &'a str, path: &[PathStep]) -> Result<Option<Value<'a>>, &'static str> {
    let mut scanner = Scanner::new(line, 0);
    scanner.space();
    let mut value = match scanner.peek() {
        Some(b'{') => Value::Object(&line[scanner.at..]),
        Some(b'[') => Value::Array(&line[scanner.at..]),
        _ => return Err(NO_OBJECT),
    };
    for step in path {
        let mut found = None;
        match (step, value) {
            (PathStep::Key(key), Value::Object(text)) => {
                let mut name = String::new();
                members(text, |raw, member| {
                    name.clear();
                    unescape(raw, &mut name);
                    if name != *key {
                        return Next::Go;
                    }
                    found = Some(member);
                    Next::Stop
                })?;
            }
            (PathStep::Index(index), Value::Array(text)) => {
                let mut scanner = Scanner::new(text, 1);
                for i in 0..=*index {
                    scanner.space();
                    if scanner.peek() == Some(b']') {
                        break;
                    }
                    let element = scanner.value()?;
                    if i == *index {
                        found = Some(element);
                    } else if !scanner.take(b',') {
                        break;
                    }
                }
            }
            _ => {}
        }
        match found {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
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
        check("{}", &[], None);
    }

    #[test]
    fn paths() {
        let key = |k: &str| PathStep::Key(k.into());
        for (text, want) in [
            (r#"["a b"]"#, vec![key("a b")]),
            ("[0]", vec![PathStep::Index(0)]),
            (".a", vec![key("a")]),
            (
                r#"pod["uuid"].x[3]"#,
                vec![key("pod"), key("uuid"), key("x"), PathStep::Index(3)],
            ),
            ("", vec![]),
        ] {
            assert_eq!(parse_path(text), Ok(want), "{text}");
        }
        for (text, want) in [
            (r#""pod"]"#, "unexpected STRING, expecting LSB or FIELD"),
            (r#"["pod""uuid"]"#, "unexpected STRING, expecting RSB"),
            ("pod..uuid", "unexpected DOT, expecting FIELD"),
            (r#"["key"#, "unexpected $end, expecting RSB"),
            (r#"["pod""#, "unexpected $end, expecting RSB"),
            ("field with space", "unexpected FIELD"),
        ] {
            assert_eq!(parse_path(text), Err(format!("syntax error: {want}")), "{text}");
        }
        let line = r#"{"a":{"b":[1,{"c":"x"}]},"n":null}"#;
        let find = |path: &str| look_up(line, &parse_path(path).unwrap());
        assert_eq!(find("a.b[1].c"), Ok(Some(Value::Text("x"))));
        assert_eq!(find("a.b[2]"), Ok(None));
        assert_eq!(find("n"), Ok(Some(Value::Null)));
        assert_eq!(find("a.b.c"), Ok(None));
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
                let _ = look_up(&line, &path);
            }
        }

        /// What serde reads, the scanner reads alike.
        #[test]
        fn strings_are_those_of_serde(text in "\\PC{0,20}|[\\x00-\\x1f\"\\\\é😀]{0,8}") {
            let line = serde_json::json!({ "k": text }).to_string();
            let mut got = String::new();
            walk(&line, &Needed::all(), |_, value| {
                value.write(&mut got);
                Next::Go
            }).unwrap();
            prop_assert_eq!(got, text);
        }
    }
}
