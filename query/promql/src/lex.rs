//! Text to tokens. What a character means depends on where it stands: in braces there are only labels, in brackets a
//! colon separates. A fault becomes a token of its own, so that the parser reports whichever fault comes first.

use std::fmt;

/// Where something stands in the text: bytes `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tok {
    End,
    Fault(String),
    /// A name or a keyword; which of the two depends on the place.
    Name,
    /// A name with a colon in it.
    MetricName,
    Number(f64),
    /// A duration, in seconds.
    Duration(f64),
    Text(Vec<u8>),
    Punct(&'static str),
    Op(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) tok: Tok,
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

pub(crate) const AGGREGATORS: [&str; 14] = [
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "count_values",
    "quantile",
    "limitk",
    "limit_ratio",
];
const KEYWORDS: [&str; 11] = [
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "start",
    "end",
    "step",
];
const WORD_OPS: [&str; 4] = ["and", "or", "unless", "atan2"];

impl fmt::Display for Token<'_> {
    /// As an error message calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = self.text.to_lowercase();
        let quoted = || {
            if self.text.len() > 10 {
                let cut: String = self.text.chars().take(10).collect();
                format!("{cut:?}...")
            } else {
                format!("{:?}", self.text)
            }
        };
        match &self.tok {
            Tok::End => f.write_str("end of input"),
            Tok::Fault(words) => f.write_str(words),
            Tok::Name if AGGREGATORS.contains(&lower.as_str()) => write!(f, "<aggr:{}>", self.text),
            Tok::Name if WORD_OPS.contains(&lower.as_str()) => write!(f, "<op:{}>", self.text),
            Tok::Name if KEYWORDS.contains(&lower.as_str()) => write!(f, "<{}>", self.text),
            Tok::Name => write!(f, "identifier {:?}", self.text),
            Tok::MetricName => write!(f, "metric identifier {:?}", self.text),
            Tok::Number(_) => write!(f, "number {}", quoted()),
            Tok::Duration(_) => write!(f, "duration {}", quoted()),
            Tok::Text(_) => write!(f, "string {}", quoted()),
            Tok::Punct(p) => write!(f, "{p:?}"),
            Tok::Op(op) => write!(f, "<op:{op}>"),
        }
    }
}

pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        text,
        at: 0,
        parens: Vec::new(),
        braces: false,
        bracket: false,
    };
    let mut out = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let tok = lexer.next();
        let last = matches!(tok, Tok::End | Tok::Fault(_));
        out.push(Token {
            tok,
            text: text.get(start..lexer.at).unwrap_or(""),
            span: Span { start, end: lexer.at },
        });
        if last {
            return out;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: Vec<usize>,
    braces: bool,
    bracket: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            self.at += blanks;
            if self.peek() != Some('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn next(&mut self) -> Tok {
        let Some(c) = self.peek() else {
            return match () {
                () if self.braces => Tok::Fault("unexpected end of input inside braces".to_owned()),
                () if self.bracket => Tok::Fault("unclosed left bracket".to_owned()),
                () if !self.parens.is_empty() => Tok::Fault("unclosed left parenthesis".to_owned()),
                () => Tok::End,
            };
        };
        if c == '"' || c == '\'' || c == '`' {
            return self.string(c);
        }
        if self.braces {
            self.in_braces(c)
        } else {
            self.outside(c)
        }
    }

    fn in_braces(&mut self, c: char) -> Tok {
        match c {
            'a'..='z' | 'A'..='Z' | '_' => self.name(false),
            ',' => self.punct(","),
            '{' => Tok::Fault("unexpected left brace '{'".to_owned()),
            '}' => {
                self.braces = false;
                self.punct("}")
            }
            '=' => self.longest(&["=~", "="]),
            '!' => match self.longest(&["!~", "!="]) {
                Tok::Fault(_) => self.after('!'),
                op => op,
            },
            other => Tok::Fault(format!("unexpected character inside braces: {other:?}")),
        }
    }

    fn outside(&mut self, c: char) -> Tok {
        match c {
            ',' => self.punct(","),
            '(' => {
                self.parens.push(self.at);
                self.punct("(")
            }
            ')' => {
                if self.parens.pop().is_none() {
                    return Tok::Fault("unexpected right parenthesis ')'".to_owned());
                }
                self.punct(")")
            }
            '{' => {
                self.braces = true;
                self.punct("{")
            }
            '[' => {
                if self.bracket {
                    return Tok::Fault("unexpected left bracket '['".to_owned());
                }
                self.bracket = true;
                self.punct("[")
            }
            ']' => {
                if !self.bracket {
                    return Tok::Fault("unexpected right bracket ']'".to_owned());
                }
                self.bracket = false;
                self.punct("]")
            }
            ':' if self.bracket => self.punct(":"),
            '@' => self.punct("@"),
            '+' | '-' | '*' | '/' | '%' | '^' => self.longest(&["+", "-", "*", "/", "%", "^"]),
            '=' if self.rest().starts_with("=~") => self.after('='),
            '=' => self.longest(&["==", "="]),
            '!' => match self.longest(&["!="]) {
                Tok::Fault(_) => self.after('!'),
                op => op,
            },
            '<' => self.longest(&["</", "<=", "<"]),
            '>' => self.longest(&[">/", ">=", ">"]),
            '0'..='9' => self.number(),
            '.' if self.rest()[1..].starts_with(|d: char| d.is_ascii_digit()) => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => self.name(!self.bracket),
            ':' => self.name(true),
            other => Tok::Fault(format!("unexpected character: {other:?}")),
        }
    }

    fn after(&mut self, first: char) -> Tok {
        self.at += first.len_utf8();
        match self.peek() {
            Some(next) => Tok::Fault(format!("unexpected character after '{first}': {next:?}")),
            None => Tok::Fault(format!("unexpected end of input after '{first}'")),
        }
    }

    fn punct(&mut self, what: &'static str) -> Tok {
        self.at += what.len();
        Tok::Punct(what)
    }

    fn longest(&mut self, candidates: &[&'static str]) -> Tok {
        match candidates.iter().find(|op| self.rest().starts_with(**op)) {
            Some(&"=") => self.punct("="),
            Some(op) => {
                self.at += op.len();
                Tok::Op(op)
            }
            None => Tok::Fault("unexpected character".to_owned()),
        }
    }

    fn name(&mut self, colons: bool) -> Tok {
        let rest = self.rest();
        let len = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':')))
            .unwrap_or(rest.len());
        self.at += len;
        let name = &rest[..len];
        match () {
            () if name.contains(':') => Tok::MetricName,
            () if self.braces => Tok::Name,
            () if name.eq_ignore_ascii_case("inf") => Tok::Number(f64::INFINITY),
            () if name.eq_ignore_ascii_case("nan") => Tok::Number(f64::NAN),
            () => Tok::Name,
        }
    }

    fn number(&mut self) -> Tok {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let hex = rest.starts_with("0x") || rest.starts_with("0X");
        let mut len = 0;
        while let Some(&b) = bytes.get(len) {
            let exponent_sign = !hex
                && (b == b'+' || b == b'-')
                && len > 0
                && matches!(bytes[len - 1], b'e' | b'E')
                && bytes[..len - 1]
                    .iter()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_'));
            if !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_') || exponent_sign) {
                break;
            }
            len += 1;
        }
        self.at += len;
        let text = &rest[..len];
        if let Some(v) = parse_number(text) {
            return Tok::Number(v);
        }
        match parse_duration_ms(text) {
            Some(ms) => Tok::Duration(ms as f64 / 1000.0),
            None => Tok::Fault(format!("bad number or duration syntax: {text:?}")),
        }
    }

    fn string(&mut self, quote: char) -> Tok {
        let rest = self.rest();
        let mut escaped = false;
        for (i, c) in rest.char_indices().skip(1) {
            if quote == '`' {
                if c == '`' {
                    self.at += i + 1;
                    return Tok::Text(rest.as_bytes()[1..i].to_vec());
                }
                continue;
            }
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                c if c == quote => {
                    self.at += i + 1;
                    return match unescape(&rest[1..i], quote) {
                        Some(bytes) => Tok::Text(bytes),
                        None => Tok::Fault("invalid syntax in string escape".to_owned()),
                    };
                }
                _ => {}
            }
        }
        Tok::Fault(if quote == '`' {
            "unterminated raw string".to_owned()
        } else {
            "unterminated quoted string".to_owned()
        })
    }
}

/// Go's number syntax: decimal, exponent, hex, leading-zero octal, underscores between digits.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    let underscores_fit = !lower.starts_with('_') && !lower.ends_with('_') && !lower.contains("__");
    let plain = lower.replace('_', "");
    if !underscores_fit || plain.is_empty() {
        return None;
    }
    if let Some(hex) = plain.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|v| v as f64);
    }
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit()) {
        return i64::from_str_radix(&plain, 8)
            .ok()
            .map(|v| v as f64)
            .or_else(|| plain.parse().ok());
    }
    if !plain
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'))
    {
        return None;
    }
    plain.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// `1h30m`, units from large to small, each at most once, in ms.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let n: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let at = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
        if at < next_unit {
            return None;
        }
        next_unit = at + 1;
        total = total.checked_add(n.checked_mul(UNITS[at].1)?)?;
        rest = &rest[letters..];
    }
    Some(total)
}

/// Go's escapes; the result may be any bytes.
fn unescape(text: &str, quote: char) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut digits = |n: usize, radix: u32, first: Option<char>| {
            let mut value = first.map_or(Some(0), |c| c.to_digit(radix))?;
            for _ in 0..n {
                value = value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
            }
            Some(value)
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            'x' => out.push(digits(2, 16, None)? as u8),
            '0'..='7' => out.push(u8::try_from(digits(2, 8, Some(escape))?).ok()?),
            'u' | 'U' => {
                let c = char::from_u32(digits(if escape == 'u' { 4 } else { 8 }, 16, None)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c if c == quote => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_many_ways() {
        let cases = [
            ("1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-2", 0.01),
            ("0x1F", 31.0),
            ("0755", 493.0),
            ("1_000", 1000.0),
            ("0x_5F", 95.0),
            (".5_0", 0.5),
        ];
        for (text, want) in cases {
            assert_eq!(tokens(text)[0].tok, Tok::Number(want), "{text}");
        }
        for text in ["1..2", "0xg", "1_", "5mm", "1m1h", "1h1h", "1.5h"] {
            assert!(matches!(tokens(text)[0].tok, Tok::Fault(_)), "{text}");
        }
    }

    #[test]
    fn durations_are_numbers_of_seconds() {
        for (text, want) in [
            ("1h30m", 5400.0),
            ("100ms", 0.1),
            ("1y", 31_536_000.0),
            ("1d12h5s", 129_605.0),
        ] {
            assert_eq!(tokens(text)[0].tok, Tok::Duration(want), "{text}");
        }
        assert_eq!(parse_duration_ms("9999999999999y"), None);
    }

    #[test]
    fn strings_have_go_escapes() {
        let cases: [(&str, &[u8]); 5] = [
            (r#""a\n\t\\\"""#, b"a\n\t\\\""),
            (r"'\x41\101\u00e9'", "AA\u{e9}".as_bytes()),
            (r#""\xff""#, b"\xff"),
            (r"`\d+`", br"\d+"),
            ("'\"'", b"\""),
        ];
        for (text, want) in cases {
            assert_eq!(tokens(text)[0].tok, Tok::Text(want.to_vec()), "{text}");
        }
        for text in [r#""\q""#, "\"a", "`a", "\"a\nb\"", r#""\x4""#, r"'\400'"] {
            assert!(matches!(tokens(text)[0].tok, Tok::Fault(_)), "{text}");
        }
    }
}
