//! Numbers, durations and strings: how they are scanned, what they are worth, how they are written again.
//!
//! A literal that looks right and has no value (`1e999`, `5m1h`) is still a token: what is wrong with it is said where it
//! stands for a value. All wording is the one that Prometheus' users know.

use std::fmt::{self, Write};

use nom::branch::alt;
use nom::bytes::complete::take_while_m_n;
use nom::character::complete::{anychar, char, digit1, satisfy};
use nom::combinator::{map, map_opt, recognize, value, verify};
use nom::multi::many1;
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

/// What digits turn out to be, and how many bytes were looked at to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    Number(usize),
    Duration(usize),
    Neither(usize),
}

/// Scans what begins with a digit, or a dot and a digit.
pub(crate) fn scan(text: &str) -> Scanned {
    let mut cursor = Cursor {
        bytes: text.as_bytes(),
        at: 0,
    };
    if cursor.number() {
        Scanned::Number(cursor.at)
    } else if cursor.duration() {
        Scanned::Duration(cursor.at)
    } else {
        Scanned::Neither(cursor.at)
    }
}

/// Goes over ASCII; how far it gets is what a message shows of a literal that is none.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
    fn is(&self, wanted: impl Fn(u8) -> bool) -> bool {
        self.peek().is_some_and(wanted)
    }
    fn accept(&mut self, wanted: impl Fn(u8) -> bool) -> bool {
        let found = self.is(wanted);
        self.at += usize::from(found);
        found
    }

    /// Not every number that this takes has a value; `0x1e` is not taken, as a sign or digits could follow the `e`.
    fn number(&mut self) -> bool {
        let any = |set: &'static [u8]| move |b: u8| set.contains(&b);
        let mut hex = false;
        if self.accept(any(b"0")) && self.accept(any(b"xX")) {
            self.accept(any(b"_"));
            hex = true;
        }
        let digit = move |b: u8| b.is_ascii_digit() || (hex && b.is_ascii_hexdigit());
        self.accept(any(b"."));
        self.accept(digit);
        let (mut dot, mut exponent) = (false, false);
        while self.is(|b| digit(b) || any(b"._eE")(b)) {
            if (dot && self.accept(any(b"."))) || (exponent && self.accept(any(b"eE"))) {
                return false;
            }
            if self.accept(any(b".")) {
                dot = true;
                if self.accept(any(b"_.")) || hex {
                    return false;
                }
            } else if self.accept(any(b"eE")) {
                exponent = true;
                self.accept(any(b"+-"));
                if self.accept(any(b"._eE")) || self.peek().is_none() {
                    return false;
                }
            } else if self.accept(any(b"_")) {
                if self.accept(any(b"._eE")) || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digit) {}
            }
        }
        !self.is(is_alphanumeric)
    }

    /// Goes on from where a number broke off.
    fn duration(&mut self) -> bool {
        if !self.accept(|b| b"smhdwy".contains(&b)) {
            return false;
        }
        self.accept(|b| b == b's');
        while self.accept(|b| b.is_ascii_digit()) {
            while self.accept(|b| b.is_ascii_digit()) {}
            // Years come first, so they cannot follow.
            if !self.accept(|b| b"smhdw".contains(&b)) {
                return false;
            }
            self.accept(|b| b == b's');
        }
        !self.accept(is_alphanumeric)
    }
}

fn is_alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The value of a number: an integer in Go's notations (hex, leading-zero octal), else a decimal with exponent; `_` may
/// stand between digits.
pub(crate) fn number_value(text: &str) -> Result<f64, String> {
    let bad = |why: &str| {
        let quoted = go_quoted(text.as_bytes());
        Err(format!(
            "error parsing number: strconv.ParseFloat: parsing {quoted}: {why}"
        ))
    };
    let hex = text.get(..2).is_some_and(|p| p.eq_ignore_ascii_case("0x"));
    let digits = if hex { &text[2..] } else { text };
    // After the base an underscore may come at once.
    let inner = if hex {
        digits.strip_prefix('_').unwrap_or(digits)
    } else {
        digits
    };
    let separates = |(i, _): (usize, &str)| {
        let (before, after) = (inner[..i].bytes().next_back(), inner[i + 1..].bytes().next());
        before.is_some_and(|b| b.is_ascii_hexdigit()) && after.is_some_and(|b| b.is_ascii_hexdigit())
    };
    if !inner.match_indices('_').all(separates) {
        return bad("invalid syntax");
    }
    let plain = inner.replace('_', "");
    if hex {
        return match i64::from_str_radix(&plain, 16) {
            Ok(v) => Ok(v as f64),
            Err(_) => bad("invalid syntax"),
        };
    }
    if plain.len() > 1
        && plain.starts_with('0')
        && let Ok(v) = i64::from_str_radix(&plain, 8)
    {
        return Ok(v as f64);
    }
    match plain.parse::<f64>() {
        Ok(v) if v.is_infinite() && plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            bad("value out of range")
        }
        Ok(v) => Ok(v),
        Err(_) => bad("invalid syntax"),
    }
}

/// Units, longest first, in ms.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// Longest duration, ms: what 63 bits of nanoseconds hold.
const DURATION_MS_MAX: u64 = (i64::MAX / 1_000_000) as u64;

/// The ms of `1h30m`: units from long to short, each at most once.
pub(crate) fn duration_ms(text: &str) -> Result<i64, String> {
    let invalid = || format!("not a valid duration string: {}", go_quoted(text.as_bytes()));
    let part = pair(digit1, recognize(many1(satisfy(|c| !c.is_ascii_digit()))));
    let parts: IResult<&str, Vec<(&str, &str)>> = many1(part).parse(text);
    let Ok(("", parts)) = parts else {
        return Err(invalid());
    };
    let (mut total, mut next) = (0u64, 0);
    for (digits, unit) in parts {
        let count: u64 = digits.parse().map_err(|_| invalid())?;
        let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
            let (unit, text) = (go_quoted(unit.as_bytes()), go_quoted(text.as_bytes()));
            return Err(format!("unknown unit {unit} in duration {text}"));
        };
        if place < next {
            return Err(invalid());
        }
        next = place + 1;
        total = (count.checked_mul(UNITS[place].1))
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or_else(|| "duration out of range".to_owned())?;
    }
    Ok(total as i64)
}

/// Milliseconds as a duration; years and weeks only where nothing is left over (`90d`, not `12w6d`).
pub(crate) struct DurationMs(pub(crate) i64);

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.unsigned_abs();
        if rest == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_char('-')?;
        }
        for (unit, ms) in UNITS {
            let whole = !matches!(unit, "y" | "w") || rest.is_multiple_of(ms);
            if whole && rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

/// Scans a string from its opening quote on: how many bytes it takes, and which bytes it means. `\xff` is one byte, so the
/// meaning need not be text; back quotes know no escapes.
pub(crate) fn scan_string(text: &str) -> Result<(usize, Vec<u8>), String> {
    let quote = text.chars().next().unwrap_or('"');
    let inner = &text[quote.len_utf8()..];
    if quote == '`' {
        let len = inner.find('`').ok_or("unterminated raw string")?;
        return Ok((len + 2, inner.as_bytes()[..len].to_vec()));
    }
    let mut bytes = Vec::new();
    let mut rest = inner;
    loop {
        let plain = rest.find(['\\', '\n', quote]).unwrap_or(rest.len());
        bytes.extend_from_slice(&rest.as_bytes()[..plain]);
        rest = &rest[plain..];
        if let Some(after) = rest.strip_prefix('\\') {
            let (left, escaped) = escape(after, quote).map_err(|_| escape_fault(after))?;
            escaped.push_to(&mut bytes);
            rest = left;
        } else if let Some(after) = rest.strip_prefix(quote) {
            return Ok((text.len() - after.len(), bytes));
        } else {
            return Err("unterminated quoted string".to_owned());
        }
    }
}

/// What an escape stands for.
#[derive(Clone, Copy)]
enum Escaped {
    Byte(u8),
    Char(char),
}

impl Escaped {
    fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Escaped::Byte(b) => bytes.push(b),
            Escaped::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// One of Go's escapes, after the backslash.
fn escape(text: &str, quote: char) -> IResult<&str, Escaped> {
    let digits = |n: usize, radix: u32| {
        map_opt(take_while_m_n(n, n, move |c: char| c.is_digit(radix)), move |d| {
            u32::from_str_radix(d, radix).ok()
        })
    };
    let simple = alt((
        value(7, char('a')),
        value(8, char('b')),
        value(12, char('f')),
        value(10, char('n')),
        value(13, char('r')),
        value(9, char('t')),
        value(11, char('v')),
        value(b'\\', char('\\')),
    ));
    let byte = alt((preceded(char('x'), digits(2, 16)), digits(3, 8)));
    let wide = alt((preceded(char('u'), digits(4, 16)), preceded(char('U'), digits(8, 16))));
    alt((
        map(simple, Escaped::Byte),
        map(verify(anychar, move |c| *c == quote), Escaped::Char),
        map(map_opt(byte, |v| u8::try_from(v).ok()), Escaped::Byte),
        map(map_opt(wide, char::from_u32), Escaped::Char),
    ))
    .parse(text)
}

/// What is wrong with an escape, after its backslash.
fn escape_fault(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return "escape sequence not terminated".to_owned();
    };
    let (digits, radix) = match first {
        '0'..='7' => (2, 8),
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        _ => return format!("unknown escape sequence {}", code_point(first)),
    };
    for _ in 0..digits {
        match chars.next() {
            None => return "escape sequence not terminated".to_owned(),
            Some(c) if !c.is_digit(radix) => {
                return format!("illegal character {} in escape sequence", code_point(c));
            }
            Some(_) => {}
        }
    }
    "escape sequence is an invalid Unicode code point".to_owned()
}

/// `U+0071 'q'`
fn code_point(c: char) -> String {
    let number = format!("U+{:04X}", u32::from(c));
    if is_printable(c) {
        format!("{number} '{c}'")
    } else {
        number
    }
}

/// Whether Go shows a character as itself.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // A mark is shown when it follows something, so it is asked about in company.
    let company: String = ['x', c].iter().collect();
    !company.escape_debug().skip(1).take(2).eq("\\u".chars())
}

/// Bytes as Go quotes them.
pub(crate) fn go_quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_quoted(&mut out, c, '"');
        }
        for b in chunk.invalid() {
            push(&mut out, format_args!("\\x{b:02x}"));
        }
    }
    out.push('"');
    out
}

/// A character as Go quotes it; nothing, for the end of the text, is shown as the replacement character.
pub(crate) fn go_quoted_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    push_quoted(&mut out, c.unwrap_or(char::REPLACEMENT_CHARACTER), '\'');
    out.push('\'');
    out
}

fn push_quoted(out: &mut String, c: char, quote: char) {
    match c {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if c == quote || c == '\\' => out.extend(['\\', c]),
        c if is_printable(c) => out.push(c),
        c if c.is_ascii() => push(out, format_args!("\\x{:02x}", u32::from(c))),
        c if u32::from(c) < 0x1_0000 => push(out, format_args!("\\u{:04x}", u32::from(c))),
        c => push(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

fn push(out: &mut String, words: fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = out.write_fmt(words);
}

/// A number as Go prints it with no exponent: the shortest digits that mean it.
pub(crate) fn go_decimal(v: f64) -> String {
    if v.is_infinite() {
        return (if v > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    v.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_many_ways() {
        for (text, want) in [
            ("1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-2", 0.01),
            ("0x1F", 31.0),
            ("0755", 493.0),
            ("0899", 899.0),
            ("1_000", 1000.0),
            ("0x_5F", 95.0),
            (".5_0", 0.5),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(scan(text), Scanned::Number(text.len()), "{text}");
            assert_eq!(number_value(text), Ok(want), "{text}");
        }
        for text in ["1e999", "0x", "0x8000000000000000", ".5.5"] {
            assert_eq!(scan(text), Scanned::Number(text.len()), "{text}");
            assert!(number_value(text).is_err(), "{text}");
        }
        for (text, shown) in [
            ("1.2.3", "1.2."),
            ("0xg", "0x"),
            ("1_", "1_"),
            ("1__0", "1__"),
            ("0x1e", "0x1e"),
            ("5mm", "5mm"),
            ("5m1", "5m1"),
            ("1h5y", "1h5"),
        ] {
            assert_eq!(scan(text), Scanned::Neither(shown.len()), "{text}");
        }
    }

    #[test]
    fn durations_run_from_long_to_short_units() {
        for (text, ms, again) in [
            ("1h30m", 5_400_000, "1h30m"),
            ("100ms", 100, "100ms"),
            ("1y2w", 379 * 86_400_000, "379d"),
            ("90d", 90 * 86_400_000, "90d"),
            ("14d", 14 * 86_400_000, "2w"),
            ("1d12h5s", 129_605_000, "1d12h5s"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
            assert_eq!(DurationMs(ms).to_string(), again);
        }
        assert_eq!(DurationMs(-90_000).to_string(), "-1m30s");
        for (text, why) in [
            ("9999999999999y", "duration out of range"),
            ("300y", "duration out of range"),
            ("1m1h", "not a valid duration string: \"1m1h\""),
            ("5ss", "unknown unit \"ss\" in duration \"5ss\""),
        ] {
            assert_eq!(duration_ms(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn strings_have_go_escapes() {
        let cases: [(&str, &[u8]); 5] = [
            (r#""a\n\t\\\"" rest"#, b"a\n\t\\\""),
            (r"'\x41\101\u00e9'", "AA\u{e9}".as_bytes()),
            (r#""\xff""#, b"\xff"),
            (r"`\d+`", br"\d+"),
            ("'\"'", b"\""),
        ];
        for (text, want) in cases {
            assert_eq!(scan_string(text).map(|(_, bytes)| bytes), Ok(want.to_vec()), "{text}");
        }
        for (text, why) in [
            (r#""\q""#, "unknown escape sequence U+0071 'q'"),
            (r#""\u00""#, "illegal character U+0022 '\"' in escape sequence"),
            (r"'\400'", "escape sequence is an invalid Unicode code point"),
            (r#""\ud800""#, "escape sequence is an invalid Unicode code point"),
            (r#""\x4"#, "escape sequence not terminated"),
            ("\"a", "unterminated quoted string"),
            ("\"a\nb\"", "unterminated quoted string"),
            ("`a", "unterminated raw string"),
        ] {
            assert_eq!(scan_string(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn quoting_shows_what_can_be_shown() {
        for (bytes, want) in [
            ("a\"\\\n\u{1}\u{7f}".as_bytes(), r#""a\"\\\n\x01\x7f""#),
            (b"\xffx", r#""\xffx""#),
            (
                "é\u{301}\u{a0}\u{200b}\u{1f600}\u{e0001}".as_bytes(),
                "\"é\u{301}\\u00a0\\u200b\u{1f600}\\U000e0001\"",
            ),
        ] {
            assert_eq!(go_quoted(bytes), want);
        }
        assert_eq!(go_quoted_char(Some('\'')), "'\\''");
    }
}
