//! Text to tokens, each with its place.
//!
//! Words are case-insensitive. Names of functions are ordinary identifiers unless `(`, `by` or `without` follows, so that
//! labels may be called `rate` or `duration`. A lexical fault becomes a [`Tok::Bad`] token: it is reported only if the
//! parser gets that far, since an earlier syntax error comes first.

use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::{opt, recognize};
use nom::{IResult, Parser};

use crate::ParseError;
use crate::units;

/// A query this long is refused, as Loki does.
pub(crate) const QUERY_BYTES_MAX: usize = 131_072;
/// Bytes of the longest duration: of what is longer, each place would be read to its end.
const DURATION_BYTES_MAX: usize = 256;

/// A token's kind and value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tok {
    End,
    Ident(String),
    Str(String),
    Number(String),
    Duration(i64),
    Bytes(u64),
    /// `[5m]`
    Range(i64),
    /// `--strict`
    Flag(String),
    /// A function that is called.
    Function(&'static str),
    /// An operator, a bracket or a keyword.
    Word(&'static str),
    /// No token: what is wrong.
    Bad(String),
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub tok: Tok,
    /// From 1; 0 where Loki has lost it (ranges, durations, symbols of two characters).
    pub line: usize,
    /// From 1, in characters.
    pub col: usize,
}

const SYMBOLS_TWO: &[&str] = &["!=", "=~", "!~", "|=", "|~", "|>", "!>", "==", ">=", "<="];
const SYMBOLS_ONE: &[&str] = &[
    ",", ".", "{", "}", "=", ">", "<", "(", ")", "+", "-", "*", "/", "%", "^", "|", "]",
];
const KEYWORDS: &[&str] = &[
    "by",
    "without",
    "bool",
    "offset",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "or",
    "and",
    "unless",
    "json",
    "regexp",
    "logfmt",
    "unpack",
    "pattern",
    "line_format",
    "label_format",
    "decolorize",
    "drop",
    "keep",
    "unwrap",
    "ip",
];
const FUNCTIONS: &[&str] = &[
    "rate",
    "rate_counter",
    "count_over_time",
    "bytes_rate",
    "bytes_over_time",
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "stdvar_over_time",
    "stddev_over_time",
    "quantile_over_time",
    "first_over_time",
    "last_over_time",
    "absent_over_time",
    "sum",
    "avg",
    "max",
    "min",
    "count",
    "stddev",
    "stdvar",
    "bottomk",
    "topk",
    "approx_topk",
    "sort",
    "sort_desc",
    "label_replace",
    "vector",
    "bytes",
    "duration",
    "duration_seconds",
];

/// All tokens of `text`; the last is [`Tok::End`] or [`Tok::Bad`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    if text.len() >= QUERY_BYTES_MAX {
        return Err(ParseError {
            message: format!("parse error : input size too long ({} > {QUERY_BYTES_MAX})", text.len()),
            line: 0,
            col: 0,
        });
    }
    let mut out = Vec::new();
    let mut rest = text;
    let (mut line, mut col) = (1, 1);
    let mut seen = text;
    loop {
        rest = blank(rest);
        // Counts lines and columns up to here, once.
        for c in seen[..seen.len() - rest.len()].chars() {
            (line, col) = if c == '\n' { (line + 1, 1) } else { (line, col + 1) };
        }
        seen = rest;
        let (mut tok, after) = next(rest);
        if after.len() == rest.len() && !matches!(tok, Tok::End | Tok::Bad(_)) {
            tok = Tok::Bad("syntax error: unexpected character".into());
        }
        let lost = matches!(tok, Tok::Range(_) | Tok::Duration(_) | Tok::Bytes(_) | Tok::Flag(_))
            || matches!(tok, Tok::Word(symbol) if SYMBOLS_TWO.contains(&symbol))
            || (rest.starts_with('[') && matches!(tok, Tok::Bad(_)));
        let last = matches!(tok, Tok::End | Tok::Bad(_));
        out.push(Token {
            tok,
            line: if lost { 0 } else { line },
            col,
        });
        if last {
            return Ok(out);
        }
        rest = after;
    }
}

/// Skips white space and comments.
fn blank(text: &str) -> &str {
    let mut rest = text.trim_start();
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    rest
}

fn next(text: &str) -> (Tok, &str) {
    let Some(first) = text.chars().next() else {
        return (Tok::End, "");
    };
    match first {
        '"' | '`' => return string(text, first),
        '[' => return range(text),
        '0'..='9' => return number(text),
        '.' if text[1..].starts_with(|c: char| c.is_ascii_digit()) => return number(text),
        '-' => {
            if let Some((flag, after)) = flag(text) {
                return (Tok::Flag(flag), after);
            }
            if text[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && let Some((ns, after)) = duration(text, 1)
            {
                return (Tok::Duration(ns), after);
            }
        }
        _ => {}
    }
    for set in [SYMBOLS_TWO, SYMBOLS_ONE] {
        if let Some(symbol) = set.iter().find(|s| text.starts_with(**s)) {
            return (Tok::Word(symbol), &text[symbol.len()..]);
        }
    }
    match identifier(text) {
        Ok((after, name)) => (word(name, after), after),
        // What is nothing else counts as a name.
        Err(_) => (Tok::Ident(first.into()), &text[first.len_utf8()..]),
    }
}

fn word(name: &str, after: &str) -> Tok {
    let lower = name.to_ascii_lowercase();
    if let Some(function) = FUNCTIONS.iter().find(|f| **f == lower)
        && is_called(after)
    {
        return Tok::Function(function);
    }
    // A label may be called so, too.
    if lower == "ip" && !is_called(after) {
        return Tok::Ident(name.to_owned());
    }
    match KEYWORDS.iter().find(|k| **k == lower) {
        Some(keyword) => Tok::Word(keyword),
        None => Tok::Ident(name.to_owned()),
    }
}

fn is_called(after: &str) -> bool {
    let after = blank(after);
    let Ok((tail, name)) = opt(identifier).parse_complete(after) else {
        return false;
    };
    match name {
        None => tail.starts_with('('),
        Some(name) => {
            (name.eq_ignore_ascii_case("by") || name.eq_ignore_ascii_case("without")) && blank(tail).starts_with('(')
        }
    }
}

fn identifier(text: &str) -> IResult<&str, &str> {
    recognize((
        take_while1(|c: char| c.is_alphabetic() || c == '_'),
        take_while(|c: char| c.is_alphanumeric() || c == '_'),
    ))
    .parse_complete(text)
}

/// A literal in double quotes or backquotes.
fn string(text: &str, quote: char) -> (Tok, &str) {
    let bad = |what: &str| (Tok::Bad(what.into()), text);
    let body = &text[1..];
    if quote == '`' {
        return match body.split_once('`') {
            Some((inside, after)) => (Tok::Str(inside.replace('\r', "")), after),
            None => bad("literal not terminated"),
        };
    }
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return bad("literal not terminated"),
            '"' => {
                return match units::unescape(&body[..at]) {
                    Some(inside) => (Tok::Str(inside), &body[at + 1..]),
                    None => bad("invalid char escape"),
                };
            }
            _ => {}
        }
    }
    bad("literal not terminated")
}

/// `[5m]`
fn range(text: &str) -> (Tok, &str) {
    match text[1..].split_once(']') {
        None => (Tok::Bad("missing closing ']' in duration".into()), text),
        Some((inside, after)) => match units::prometheus_duration(inside) {
            Ok(ns) => (Tok::Range(ns), after),
            Err(what) => (Tok::Bad(what), text),
        },
    }
}

/// A number, a duration or a byte size.
fn number(text: &str) -> (Tok, &str) {
    let digits = number_len(text);
    if let Some((ns, after)) = duration(text, 0) {
        return (Tok::Duration(ns), after);
    }
    let unit = text[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
    if unit > 0
        && let Some(bytes) = units::query_bytes(&text[..digits + unit])
    {
        return (Tok::Bytes(bytes), &text[digits + unit..]);
    }
    (Tok::Number(text[..digits].to_owned()), &text[digits..])
}

/// How long the number is that begins here: a decimal or hexadecimal float, or an integer of another base.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |b: &u8| b.is_ascii_digit() || *b == b'_';
    let run = |from: usize, part: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|b| part(b)).count();
    // An exponent needs digits, else its letter is no part of the number.
    let exponent = |at: usize, letters: &[u8]| match bytes.get(at) {
        Some(b) if letters.contains(b) => {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = run(at + 1 + sign, u8::is_ascii_digit);
            if end > at + 1 + sign { end } else { at }
        }
        _ => at,
    };
    match bytes {
        [b'0', b'x' | b'X', ..] => exponent(run(2, |b| b.is_ascii_hexdigit() || b"._".contains(b)), b"pP"),
        [b'0', b'b' | b'B' | b'o' | b'O', ..] => run(2, is_digit),
        _ => {
            let whole = run(0, is_digit);
            let end = match bytes.get(whole) {
                Some(b'.') => run(whole + 1, is_digit),
                _ => whole,
            };
            exponent(end, b"eE")
        }
    }
}

/// A duration with at least one unit, from the start of `text`; `sign` bytes of sign come first.
fn duration(text: &str, sign: usize) -> Option<(i64, &str)> {
    let mut body = sign;
    for c in text[sign..].chars() {
        if !(c.is_ascii_digit() || ".nsuµμmhdwy".contains(c)) {
            break;
        }
        body += c.len_utf8();
        if body > DURATION_BYTES_MAX {
            return None;
        }
    }
    let candidate = &text[..body];
    candidate[sign..]
        .contains(|c: char| c.is_alphabetic())
        .then(|| units::query_duration(candidate))
        .flatten()
        .map(|ns| (ns, &text[body..]))
}

/// `--strict`
fn flag(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix("--")?;
    let name = ["strict", "keep-empty"]
        .into_iter()
        .find(|name| body.starts_with(name))?;
    let after = &body[name.len()..];
    let goes_on = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-');
    (!goes_on).then(|| (text[..name.len() + 2].to_owned(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[Tok]) {
        let got: Vec<Tok> = tokens(text).unwrap().into_iter().map(|t| t.tok).collect();
        assert_eq!(&got[..got.len() - 1], want, "{text}");
        assert_eq!(got.last(), Some(&Tok::End), "{text}");
    }

    #[test]
    fn words_numbers_and_units() {
        let ident = |s: &str| Tok::Ident(s.into());
        let number = |s: &str| Tok::Number(s.into());
        check("rate (", &[Tok::Function("rate"), Tok::Word("(")]);
        check("rate =", &[ident("rate"), Tok::Word("=")]);
        check("SUM by (", &[Tok::Function("sum"), Tok::Word("by"), Tok::Word("(")]);
        check("sum by a", &[ident("sum"), Tok::Word("by"), ident("a")]);
        check("{~ é", &[Tok::Word("{"), ident("~"), ident("é")]);
        check(
            "250ms 1.5s -1s",
            &[
                Tok::Duration(250_000_000),
                Tok::Duration(1_500_000_000),
                Tok::Duration(-1_000_000_000),
            ],
        );
        check("5MB 1KiB", &[Tok::Bytes(5_000_000), Tok::Bytes(1024)]);
        check("1mb", &[Tok::Duration(60_000_000_000), ident("b")]);
        check(
            "1+1--1",
            &[
                number("1"),
                Tok::Word("+"),
                number("1"),
                Tok::Word("-"),
                Tok::Word("-"),
                number("1"),
            ],
        );
        check(
            "1e3 .5 0X1p3 0x1A 0b1010",
            &[
                number("1e3"),
                number(".5"),
                number("0X1p3"),
                number("0x1A"),
                number("0b1010"),
            ],
        );
        check(
            "[5m]# [\n \"a\\n#\" `b\\`",
            &[
                Tok::Range(300_000_000_000),
                Tok::Str("a\n#".into()),
                Tok::Str("b\\".into()),
            ],
        );
        check(
            "--strict --keep-empty x",
            &[
                Tok::Flag("--strict".into()),
                Tok::Flag("--keep-empty".into()),
                ident("x"),
            ],
        );
    }

    #[test]
    fn faults_have_places() {
        let last = |text: &str| tokens(text).unwrap().pop().unwrap();
        assert_eq!(
            last("{a=\"b}"),
            Token {
                tok: Tok::Bad("literal not terminated".into()),
                line: 1,
                col: 4
            }
        );
        assert_eq!((last(" \n [5").line, last(" \n [5").col), (0, 2));
        assert!(tokens(&"x".repeat(QUERY_BYTES_MAX)).is_err());
    }

    /// Reading to the end from each place would take minutes.
    #[test]
    fn long_runs_are_read_once() {
        for part in ["-", "1.1.", ".1", "1m", "--strict"] {
            let text = part.repeat(QUERY_BYTES_MAX / part.len() - 1);
            assert!(tokens(&text).is_ok(), "{part}");
        }
    }
}
