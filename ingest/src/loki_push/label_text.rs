//! The text form of a stream's labels, `{app="x", env="y"}`: names, `=`, and values quoted as Go quotes strings, or in
//! single quotes. An empty text is no labels. What is wrong is told as Loki tells it, line and byte first.

use std::borrow::Cow;

/// Labels in a text; far beyond what a stream may have.
const LABELS_MAX: usize = 1000;

/// The labels, in the order written. Empty values are kept. An error says what is wrong and where.
pub(crate) fn parse(text: &str) -> Result<Vec<(&str, Cow<'_, str>)>, String> {
    let mut parser = Parser { text, at: 0 };
    let mut labels = Vec::new();
    parser.skip_space();
    if parser.peek().is_none() {
        return Ok(labels);
    }
    if !parser.eat('{') {
        return Err(parser.unexpected(", expected \"{\"", ""));
    }
    loop {
        parser.skip_space();
        if parser.eat('}') {
            break;
        }
        if labels.len() >= LABELS_MAX {
            return Err(parser.error(parser.at, &format!("more than {LABELS_MAX} labels")));
        }
        let name = parser.name()?;
        parser.skip_space();
        if parser.ahead().starts_with("=~") || !parser.eat('=') {
            return Err(parser.unexpected_inside("\"=\""));
        }
        let value = parser.quoted()?;
        labels.push((name, value));
        parser.skip_space();
        if !parser.eat(',') {
            if !parser.eat('}') {
                return Err(parser.unexpected_inside("\",\" or \"}\""));
            }
            break;
        }
    }
    parser.skip_space();
    match parser.peek() {
        None => Ok(labels),
        Some(_) => Err(parser.unexpected("", "")),
    }
}

/// Whether a name can stand in the text form.
pub(crate) fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name_len(name) == name.len() && !name.is_empty()
}

fn name_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// As much of a text as an error shows.
fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn ahead(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.ahead().chars().next()
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

    /// Words about a place, with its line and byte.
    fn error(&self, at: usize, what: &str) -> String {
        let before = &self.text.as_bytes()[..at];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let begins = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        format!("{line}:{}: parse error: {what}", at - begins + 1)
    }

    fn unexpected_inside(&self, wanted: &str) -> String {
        self.unexpected(&format!(" in label set, expected {wanted}"), " inside braces")
    }

    /// Names what stands here. `wanted` follows whatever could be part of a text at all.
    fn unexpected(&self, wanted: &str, place: &str) -> String {
        let ahead = self.ahead();
        let operator = ["=~", "!~", "!="].iter().find(|op| ahead.starts_with(**op));
        let what = match (self.peek(), operator) {
            (None, _) => format!("unexpected end of input{place}"),
            (_, Some(operator)) => format!("unexpected <op:{operator}>{wanted}"),
            (Some(c), _) if c.is_ascii_alphabetic() || c == '_' => {
                format!("unexpected identifier {:?}{wanted}", shown(&ahead[..name_len(ahead)]))
            }
            (Some(c @ ('=' | ',')), _) => format!("unexpected \"{c}\"{wanted}"),
            (Some('"' | '\'' | '`'), _) => {
                let mut parser = Parser { ..*self };
                match parser.quoted() {
                    Ok(_) => format!("unexpected string {:?}{wanted}", shown(&self.text[self.at..parser.at])),
                    Err(why) => return why,
                }
            }
            (Some('}'), _) if !place.is_empty() => format!("unexpected \"}}\"{wanted}"),
            (Some('{'), _) => "unexpected left brace '{'".to_owned(),
            (Some(c), _) => format!("unexpected character{place}: '{c}'"),
        };
        self.error(self.at, &what)
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let ahead = self.ahead();
        let len = name_len(ahead);
        if len == 0 || ahead.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.unexpected_inside("identifier or \"}\""));
        }
        self.at += len;
        Ok(&ahead[..len])
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, String> {
        self.skip_space();
        let start = self.at;
        let quote = match self.peek() {
            Some(c @ ('"' | '\'' | '`')) => c,
            _ => return Err(self.unexpected_inside("string")),
        };
        self.at += 1;
        let rest = self.ahead();
        if quote == '`' {
            let Some(len) = rest.find('`') else {
                return Err(self.error(start, "unterminated raw string"));
            };
            self.at += len + 1;
            return Ok(Cow::Borrowed(&rest[..len]));
        }
        let mut out: Option<Vec<u8>> = None;
        let mut done = 0;
        loop {
            let plain = rest[done..].find([quote, '\\', '\n']);
            let at = match plain {
                Some(plain) if rest.as_bytes()[done + plain] != b'\n' => done + plain,
                _ => return Err(self.error(start, "unterminated quoted string")),
            };
            if rest.as_bytes()[at] != b'\\' {
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
            let out = out.get_or_insert_default();
            out.extend_from_slice(&rest.as_bytes()[done..at]);
            match unescape(&rest[at + 1..], quote, out) {
                Ok(len) => done = at + 1 + len,
                Err(why) => return Err(self.error(start, &why)),
            }
        }
    }
}

/// Appends what the escape stands for; says how many bytes follow the backslash.
fn unescape(rest: &str, quote: char, out: &mut Vec<u8>) -> Result<usize, String> {
    let Some(kind) = rest.chars().next() else {
        return Err("unterminated quoted string".to_owned());
    };
    let simple = match kind {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' => Some(b'\\'),
        c if c == quote => u8::try_from(c).ok(),
        _ => None,
    };
    if let Some(byte) = simple {
        out.push(byte);
        return Ok(1);
    }
    let (start, digits, radix) = match kind {
        'x' => (1, 2, 16),
        'u' => (1, 4, 16),
        'U' => (1, 8, 16),
        '0'..='7' => (0, 3, 8),
        c => return Err(format!("unknown escape sequence U+{:04X} '{c}'", c as u32)),
    };
    let mut code = 0u32;
    let mut ahead = rest[start..].chars();
    for _ in 0..digits {
        let Some(c) = ahead.next() else {
            return Err("escape sequence not terminated".to_owned());
        };
        let Some(digit) = c.to_digit(radix) else {
            return Err(format!("illegal character U+{:04X} '{c}' in escape sequence", c as u32));
        };
        code = code.wrapping_mul(radix) | digit;
    }
    let invalid = || "escape sequence is an invalid Unicode code point".to_owned();
    if matches!(kind, 'u' | 'U') {
        let mut buffer = [0; 4];
        let c = char::from_u32(code).ok_or_else(invalid)?;
        out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    } else {
        out.push(u8::try_from(code).map_err(|_| invalid())?);
    }
    Ok(start + digits)
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
        check(" ", &[]);
        check(r#"{a='q"\''}"#, &[("a", "q\"'")]);
        check(r#"{a=""}"#, &[("a", "")]);
        check(r#"{a="q\"\\\n\t\u00e9\x41\101"}"#, &[("a", "q\"\\\n\té\u{41}A")]);
        check(r#"{a=`raw\n"`}"#, &[("a", r#"raw\n""#)]);
        check(r#"{__x__="größe, {a=\"b\"}"}"#, &[("__x__", r#"größe, {a="b"}"#)]);
    }

    #[test]
    fn bad_labels_say_where() {
        for (text, want) in [
            (
                "app=\"x\"",
                r#"1:1: parse error: unexpected identifier "app", expected "{""#,
            ),
            (
                "{app}",
                "1:5: parse error: unexpected \"}\" in label set, expected \"=\"",
            ),
            (
                "{app=x}",
                r#"1:6: parse error: unexpected identifier "x" in label set, expected string"#,
            ),
            (r#"{a="b"#, "1:4: parse error: unterminated quoted string"),
            ("{a=`b", "1:4: parse error: unterminated raw string"),
            ("{a=\"\n\"}", "1:4: parse error: unterminated quoted string"),
            (
                "{\na=\"b\",\nc d}",
                "3:3: parse error: unexpected identifier \"d\" in label set",
            ),
            (r#"{a="b"} z"#, r#"1:9: parse error: unexpected identifier "z""#),
            (r#"{a="b"} "c""#, r#"1:9: parse error: unexpected string "\"c\"""#),
            (r#"{a="b"}}"#, "1:8: parse error: unexpected character: '}'"),
            (
                r#"{a="x" b="y"}"#,
                r#"1:8: parse error: unexpected identifier "b" in label set, expected "," or "}""#,
            ),
            (
                r#"{1a="x"}"#,
                "1:2: parse error: unexpected character inside braces: '1'",
            ),
            (
                r#"{a.b="x"}"#,
                "1:3: parse error: unexpected character inside braces: '.'",
            ),
            (r#"{{a="x"}"#, "1:2: parse error: unexpected left brace '{'"),
            (
                r#"{a=~"x"}"#,
                r#"1:3: parse error: unexpected <op:=~> in label set, expected "=""#,
            ),
            (
                r#"{a!="x"}"#,
                r#"1:3: parse error: unexpected <op:!=> in label set, expected "=""#,
            ),
            (
                "{,}",
                r#"1:2: parse error: unexpected "," in label set, expected identifier or "}""#,
            ),
            (r#"{a="\q"}"#, "1:4: parse error: unknown escape sequence U+0071 'q'"),
            (r#"{a="\'"}"#, "1:4: parse error: unknown escape sequence U+0027 '''"),
            (
                r#"{a="\x4"}"#,
                "1:4: parse error: illegal character U+0022 '\"' in escape sequence",
            ),
            (
                r#"{a="\ud800"}"#,
                "1:4: parse error: escape sequence is an invalid Unicode code point",
            ),
            (
                r#"{a="\777"}"#,
                "1:4: parse error: escape sequence is an invalid Unicode code point",
            ),
            ("{a", "1:3: parse error: unexpected end of input inside braces"),
            (r#"{a="b","#, "1:8: parse error: unexpected end of input inside braces"),
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
