//! The text form of a stream's labels, `{app="x", env="y"}`: names, `=`, and values quoted as Go quotes strings.

use std::borrow::Cow;

/// Labels in a text; far beyond what a stream may have.
const LABELS_MAX: usize = 1000;

/// The labels, in the order written. Empty values are kept. An error says what is wrong and where.
pub(crate) fn parse(text: &str) -> Result<Vec<(&str, Cow<'_, str>)>, String> {
    let mut parser = Parser { text, at: 0 };
    let mut labels = Vec::new();
    parser.expect('{')?;
    loop {
        parser.skip_space();
        if parser.eat('}') {
            break;
        }
        if labels.len() >= LABELS_MAX {
            return Err(format!("more than {LABELS_MAX} labels"));
        }
        let name = parser.name()?;
        parser.expect('=')?;
        let value = parser.quoted()?;
        labels.push((name, value));
        parser.skip_space();
        if !parser.eat(',') {
            parser.expect('}')?;
            break;
        }
    }
    parser.skip_space();
    match parser.peek() {
        None => Ok(labels),
        Some(c) => Err(parser.unexpected(c, "end of text")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let here = self.peek() == Some(c);
        if here {
            self.at += c.len_utf8();
        }
        here
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += self.peek().map_or(0, char::len_utf8);
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        self.skip_space();
        match self.peek() {
            Some(found) if found == c => {
                self.at += c.len_utf8();
                Ok(())
            }
            Some(found) => Err(self.unexpected(found, &format!("{c:?}"))),
            None => Err(format!("unexpected end of text, expected {c:?}")),
        }
    }

    fn unexpected(&self, found: char, wanted: &str) -> String {
        format!("unexpected {found:?} at byte {}, expected {wanted}", self.at)
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let rest = &self.text[self.at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..len];
        match rest.chars().next() {
            Some(c) if len == 0 || c.is_ascii_digit() => Err(self.unexpected(c, "a label name")),
            None => Err("unexpected end of text, expected a label name".to_owned()),
            Some(_) => {
                self.at += len;
                Ok(name)
            }
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, String> {
        self.skip_space();
        let start = self.at;
        let quote = match self.peek() {
            Some(c @ ('"' | '`')) => c,
            Some(c) => return Err(self.unexpected(c, "a quoted value")),
            None => return Err("unexpected end of text, expected a quoted value".to_owned()),
        };
        self.at += 1;
        let rest = &self.text[self.at..];
        if quote == '`' {
            let len = rest.find('`').ok_or_else(|| unterminated(start))?;
            self.at += len + 1;
            return Ok(Cow::Borrowed(&rest[..len]));
        }
        let mut out: Option<Vec<u8>> = None;
        let mut done = 0;
        loop {
            let plain = rest[done..]
                .find(['"', '\\', '\n'])
                .ok_or_else(|| unterminated(start))?;
            let at = done + plain;
            match rest.as_bytes()[at] {
                b'"' => {
                    self.at += at + 1;
                    return match out {
                        None => Ok(Cow::Borrowed(&rest[..at])),
                        Some(mut out) => {
                            out.extend_from_slice(&rest.as_bytes()[done..at]);
                            // Escapes can spell what is not UTF-8.
                            Ok(Cow::Owned(String::from_utf8_lossy(&out).into_owned()))
                        }
                    };
                }
                b'\n' => return Err(format!("line break in the value that starts at byte {start}")),
                _ => {
                    let out = out.get_or_insert_default();
                    out.extend_from_slice(&rest.as_bytes()[done..at]);
                    let len =
                        unescape(&rest[at + 1..], out).ok_or_else(|| format!("bad escape at byte {}", self.at + at))?;
                    done = at + 1 + len;
                }
            }
        }
    }
}

fn unterminated(start: usize) -> String {
    format!("value that starts at byte {start} is not closed")
}

/// Appends what the escape stands for; says how many bytes follow the backslash.
fn unescape(rest: &str, out: &mut Vec<u8>) -> Option<usize> {
    let kind = *rest.as_bytes().first()?;
    let simple = match kind {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' | b'"' => Some(kind),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Some(1);
    }
    let (start, digits, radix) = match kind {
        b'x' => (1, 2, 16),
        b'u' => (1, 4, 16),
        b'U' => (1, 8, 16),
        b'0'..=b'7' => (0, 3, 8),
        _ => return None,
    };
    let text = rest.get(start..start + digits)?;
    if !text.bytes().all(|b| (b as char).is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(text, radix).ok()?;
    if matches!(kind, b'u' | b'U') {
        let mut buffer = [0; 4];
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
    } else {
        out.push(u8::try_from(code).ok()?);
    }
    Some(start + digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels() {
        let check = |text: &str, want: &[(&str, &str)]| {
            let got = parse(text).unwrap();
            let got: Vec<(&str, &str)> = got.iter().map(|(n, v)| (*n, v.as_ref())).collect();
            assert_eq!(got, want, "{text}");
        };
        check(r#"{app="x", env="y"}"#, &[("app", "x"), ("env", "y")]);
        check(r#" { app = "x" , } "#, &[("app", "x")]);
        check("{}", &[]);
        check(r#"{a=""}"#, &[("a", "")]);
        check(r#"{a="q\"\\\n\t\u00e9\x41\101"}"#, &[("a", "q\"\\\n\té\u{41}A")]);
        check(r#"{a=`raw\n"`}"#, &[("a", r#"raw\n""#)]);
        check(r#"{__x__="größe, {a=\"b\"}"}"#, &[("__x__", r#"größe, {a="b"}"#)]);
    }

    #[test]
    fn bad_labels_say_where() {
        for (text, want) in [
            ("", "expected '{'"),
            ("app=\"x\"", "unexpected 'a' at byte 0, expected '{'"),
            ("{app}", "unexpected '}' at byte 4, expected '='"),
            ("{app=x}", "unexpected 'x' at byte 5, expected a quoted value"),
            (r#"{app="x"#, "value that starts at byte 5 is not closed"),
            (r#"{app="x"} y"#, "unexpected 'y' at byte 10, expected end of text"),
            (r#"{app="x" env="y"}"#, "unexpected 'e' at byte 9, expected '}'"),
            (r#"{1a="x"}"#, "unexpected '1' at byte 1, expected a label name"),
            (r#"{a.b="x"}"#, "unexpected '.' at byte 2, expected '='"),
            (r#"{a="\q"}"#, "bad escape at byte 4"),
            (r#"{a="\ud800"}"#, "bad escape at byte 4"),
            (r#"{a="\777"}"#, "bad escape at byte 4"),
            ("{a=\"\n\"}", "line break"),
            ("{a", "expected '='"),
            (r#"{a="b","#, "unexpected end of text"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_text_does_not_panic(text in "[{}=,\"`\\\\a-z0-9ué \n]{0,40}") {
            let _ = parse(&text);
        }
    }
}
