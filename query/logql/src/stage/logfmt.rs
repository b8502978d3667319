//! The `logfmt` decoder: `key=value`, `key="quoted value"`, bare `key`.

use memchr::memchr;

/// A pair, or why there is none at this place.
pub(crate) enum Pair<'a> {
    /// Key and raw value; `None` for a bare key.
    Pair(&'a str, Option<Value<'a>>),
    /// A malformed pair; it has been skipped.
    Bad(String),
}

/// A value as it stands in the line.
pub(crate) enum Value<'a> {
    Plain(&'a str),
    /// The inside of quotes, escapes and all.
    Quoted(&'a str),
}

impl Value<'_> {
    /// Appends the value as text; characters that were no UTF-8 become spaces.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Plain(text) => write_clean(text, out),
            Value::Quoted(inside) => {
                let mut text = String::new();
                match inside.contains('\\') {
                    true => {
                        unescape(inside, &mut text);
                    }
                    false => text.push_str(inside),
                }
                write_clean(&text, out);
            }
        }
    }

    /// Whether characters in it were no UTF-8.
    pub fn is_damaged(&self) -> bool {
        match self {
            Value::Plain(text) | Value::Quoted(text) => text.contains('\u{fffd}'),
        }
    }

    /// Whether the value is empty.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Plain(text) | Value::Quoted(text) => text.is_empty(),
        }
    }
}

fn write_clean(text: &str, out: &mut String) {
    if text.contains('\u{fffd}') {
        out.extend(text.chars().map(|c| if c == '\u{fffd}' { ' ' } else { c }));
    } else {
        out.push_str(text);
    }
}

/// Appends the inside of a quoted value, unescaped. A malformed escape becomes U+FFFD.
fn unescape(inside: &str, out: &mut String) -> Escapes {
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
enum Escapes {
    Sound,
    /// Half a surrogate pair, which became U+FFFD.
    Lone,
    /// No escapes at all.
    Broken,
}

/// The pairs of a line.
pub(crate) struct Pairs<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Pairs<'a> {
    pub fn new(line: &'a str) -> Pairs<'a> {
        Pairs { line, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.line.as_bytes()
    }

    fn bad(&mut self, pos: usize, what: &str) -> Pair<'a> {
        // On to the end of the word.
        while self.bytes().get(self.at).is_some_and(|b| *b > b' ') {
            self.at += 1;
        }
        Pair::Bad(format!("logfmt syntax error at pos {pos} : {what}"))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let bytes = self.bytes();
        while bytes.get(self.at).is_some_and(|b| *b <= b' ') {
            self.at += 1;
        }
        let start = self.at;
        bytes.get(start)?;
        while bytes
            .get(self.at)
            .is_some_and(|b| *b > b' ' && *b != b'=' && *b != b'"')
        {
            self.at += 1;
        }
        let key = &self.line[start..self.at];
        match bytes.get(self.at) {
            Some(b'"') => {
                let pos = self.at + 1;
                return Some(self.bad(pos, "unexpected '\"'"));
            }
            Some(b'=') if key.is_empty() => {
                let pos = self.at + 1;
                return Some(self.bad(pos, "unexpected '='"));
            }
            _ => {}
        }
        if key.contains('\u{fffd}') {
            let pos = self.at + 1;
            return Some(self.bad(pos, "invalid key"));
        }
        if bytes.get(self.at) != Some(&b'=') {
            return Some(Pair::Pair(key, None));
        }
        self.at += 1;
        let start = self.at;
        if bytes.get(start) == Some(&b'"') {
            let mut at = start + 1;
            loop {
                match bytes.get(at) {
                    None => {
                        self.at = bytes.len();
                        return Some(self.bad(bytes.len() + 1, "unterminated quoted value"));
                    }
                    Some(b'\\') => at += 2,
                    Some(b'"') => break,
                    Some(_) => at += 1,
                }
            }
            self.at = at + 1;
            let inside = &self.line[start + 1..at];
            if inside.contains('\\') && unescape(inside, &mut String::new()) == Escapes::Broken {
                return Some(self.bad(at + 2, "invalid quoted value"));
            }
            return Some(Pair::Pair(key, Some(Value::Quoted(&self.line[start + 1..at]))));
        }
        while let Some(b) = bytes.get(self.at).filter(|b| **b > b' ') {
            if matches!(b, b'=' | b'"') {
                let pos = self.at + 1;
                let what = if *b == b'=' {
                    "unexpected '='"
                } else {
                    "unexpected '\"'"
                };
                return Some(self.bad(pos, what));
            }
            self.at += 1;
        }
        Some(Pair::Pair(key, Some(Value::Plain(&self.line[start..self.at]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: &[&str]) {
        let got: Vec<String> = Pairs::new(line)
            .map(|pair| match pair {
                Pair::Pair(k, None) => k.to_owned(),
                Pair::Pair(k, Some(v)) => {
                    let mut text = format!("{k}=");
                    v.write(&mut text);
                    text
                }
                Pair::Bad(what) => format!("! {what}"),
            })
            .collect();
        assert_eq!(got, want, "{line}");
    }

    #[test]
    fn pairs_and_faults() {
        check(
            r#"a=1 b="x y" c d= e="q\"r\\s""#,
            &["a=1", "b=x y", "c", "d=", r#"e=q"r\s"#],
        );
        check(
            "foobar====wqe=sdad1r x=1",
            &["! logfmt syntax error at pos 8 : unexpected '='", "x=1"],
        );
        check(
            "a=1 =b c=2",
            &["a=1", "! logfmt syntax error at pos 5 : unexpected '='", "c=2"],
        );
        check(
            "foo=\"foo bar\" b\u{fffd}r=10ms",
            &["foo=foo bar", "! logfmt syntax error at pos 20 : invalid key"],
        );
        check("foo=b\u{fffd}r", &["foo=b r"]);
        check(
            "a=\"open",
            &["! logfmt syntax error at pos 8 : unterminated quoted value"],
        );
        check(
            "a=\"\\",
            &["! logfmt syntax error at pos 5 : unterminated quoted value"],
        );
        check(
            "bu\"zz=1 é=ü",
            &["! logfmt syntax error at pos 3 : unexpected '\"'", "é=ü"],
        );
    }
}
