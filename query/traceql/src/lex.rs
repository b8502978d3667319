//! Text to tokens, with their places. After a scope (`.`, `span.`, `parent.resource.`) nearly everything up to white space or
//! an operator is the attribute's name, so that `.foo+bar` is one attribute; a number with a unit right behind it is a
//! duration; `span:name` is one word.

use std::fmt;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_until, take_while, take_while1};
use nom::character::complete::{anychar, char, digit1, multispace1, one_of};
use nom::combinator::{opt, recognize, value};
use nom::multi::{many0_count, many1_count};
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

use crate::duration;
use crate::syntax::{Field, Intrinsic, Scope, is_plain};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Str(String),
    Field(Field),
    /// A keyword, a function or an unknown name.
    Word(String),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

/// A token and the byte at which it starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) at: usize,
}

/// What cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) what: String,
}

impl Token {
    pub(crate) fn is(&self, sign: &str) -> bool {
        matches!(self, Token::Sign(s) if *s == sign)
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(w) if w == word)
    }
}

impl fmt::Display for Token {
    /// As an error message calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Int(_) => f.write_str("INTEGER"),
            Token::Float(_) => f.write_str("FLOAT"),
            Token::Duration(_) => f.write_str("DURATION"),
            Token::Str(_) => f.write_str("STRING"),
            Token::Field(field) => write!(f, "{field}"),
            Token::Word(word) if KEYWORDS.contains(&word.as_str()) => f.write_str(word),
            Token::Word(_) => f.write_str("IDENTIFIER"),
            Token::Sign(sign) => f.write_str(sign),
            Token::End => f.write_str("$end"),
        }
    }
}

const KEYWORDS: [&str; 35] = [
    "true",
    "false",
    "nil",
    "ok",
    "error",
    "unset",
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
    "count",
    "avg",
    "max",
    "min",
    "sum",
    "by",
    "coalesce",
    "select",
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
    "topk",
    "bottomk",
    "with",
    "parent",
    "minInt",
    "maxInt",
];

/// Longest first.
const SIGNS: [&str; 31] = [
    "!>>", "!<<", "&>>", "&<<", "&&", "||", ">>", "<<", "!>", "!<", "!~", "&>", "&<", "&~", "!=", "=~", ">=", "<=",
    "=", "<", ">", "~", "!", "+", "-", "*", "/", "%", "^", "|", ",",
];

/// All tokens, [`Token::End`] last.
pub(crate) fn tokens(text: &str) -> Result<Vec<Placed>, Fault> {
    let mut out = Vec::new();
    let mut rest = skip(text)?;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let (after, token) = next(rest).map_err(|what| Fault { at, what })?;
        out.push(Placed { token, at });
        rest = skip(after).map_err(|fault| Fault {
            at: text.len() - after.len() + fault.at,
            what: fault.what,
        })?;
    }
    out.push(Placed {
        token: Token::End,
        at: text.len(),
    });
    Ok(out)
}

/// Behind white space and comments.
fn skip(text: &str) -> Result<&str, Fault> {
    let line = (tag("//"), take_till(|c| c == '\n'));
    let block = (tag("/*"), take_until("*/"), tag("*/"));
    let mut blank = many0_count(alt((
        value((), multispace1::<&str, nom::error::Error<&str>>),
        value((), line),
        value((), block),
    )));
    let rest = blank.parse(text).map_or(text, |(rest, _)| rest);
    if rest.starts_with("/*") {
        return Err(Fault {
            at: text.len() - rest.len(),
            what: "comment not terminated".to_owned(),
        });
    }
    Ok(rest)
}

fn next(text: &str) -> Result<(&str, Token), String> {
    let mut chars = text.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next());
    match first {
        '"' => string(text),
        '`' => match text[1..].split_once('`') {
            Some((raw, rest)) => Ok((rest, Token::Str(raw.to_owned()))),
            None => Err("literal not terminated".to_owned()),
        },
        '.' if !second.is_some_and(|c| c.is_ascii_digit()) => attribute(&text[1..], false, Scope::None),
        c if c.is_ascii_digit() || c == '.' => number(text),
        c if c.is_alphabetic() || c == '_' => word(text),
        _ => sign(text).ok_or_else(|| format!("syntax error: unexpected {first:?}")),
    }
}

fn sign(text: &str) -> Option<(&str, Token)> {
    let brackets = ["{", "}", "(", ")"];
    let found = SIGNS.iter().chain(&brackets).find(|sign| text.starts_with(**sign))?;
    Some((&text[found.len()..], Token::Sign(found)))
}

fn plain_float(text: &str) -> IResult<&str, &str> {
    let exponent = |text| recognize((one_of("eE"), opt(one_of("+-")), digit1)).parse(text);
    alt((
        recognize((digit1, char('.'), opt(digit1), opt(exponent))),
        recognize((char('.'), digit1, opt(exponent))),
        recognize((digit1, exponent)),
    ))
    .parse(text)
}

fn number(text: &str) -> Result<(&str, Token), String> {
    let unit = |c: char| c.is_alphanumeric() || c == '.' || c == '\u{b5}' || c == '\u{3bc}';
    let run = text.find(|c| !unit(c)).unwrap_or(text.len());
    let bad = |text: &str| Err(format!("syntax error: invalid number {text:?}"));
    // An exponent's sign is not part of the run.
    if let Ok((rest, digits)) = plain_float(text)
        && digits.len() >= run
    {
        return match digits.parse::<f64>() {
            Ok(d) if d.is_finite() => Ok((rest, Token::Float(d))),
            _ => bad(digits),
        };
    }
    let (digits, rest) = text.split_at(run);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits
            .parse()
            .map_or_else(|_| bad(digits), |i| Ok((rest, Token::Int(i))));
    }
    duration::from_text(digits).map_or_else(|| bad(digits), |ns| Ok((rest, Token::Duration(ns))))
}

/// A Go string.
fn string(text: &str) -> Result<(&str, Token), String> {
    let mut out = String::new();
    let mut rest = &text[1..];
    loop {
        let (after, c) = character(rest)?;
        rest = after;
        match c {
            Some(c) => out.push(c),
            None => return Ok((rest, Token::Str(out))),
        }
    }
}

/// A character of a Go string; `None` for its end.
fn character(text: &str) -> Result<(&str, Option<char>), String> {
    let mut chars = text.chars();
    match chars.next() {
        None | Some('\n') => Err("literal not terminated".to_owned()),
        Some('"') => Ok((chars.as_str(), None)),
        Some('\\') => {
            let escape = chars.next().unwrap_or(' ');
            let plain = match escape {
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'a' => Some('\u{7}'),
                'b' => Some('\u{8}'),
                'f' => Some('\u{c}'),
                'v' => Some('\u{b}'),
                '\\' | '"' => Some(escape),
                _ => None,
            };
            if plain.is_some() {
                return Ok((chars.as_str(), plain));
            }
            let (digits, radix, skipped) = match escape {
                'x' => (2, 16, 1),
                'u' => (4, 16, 1),
                'U' => (8, 16, 1),
                '0'..='7' => (3, 8, 0),
                _ => return Err("invalid char escape".to_owned()),
            };
            let from = text.get(1 + skipped..).unwrap_or("");
            let code = from
                .get(..digits)
                .filter(|d| d.chars().all(|c| c.is_digit(radix)))
                .and_then(|d| u32::from_str_radix(d, radix).ok())
                .and_then(char::from_u32);
            match code {
                Some(c) => Ok((&from[digits..], Some(c))),
                None => Err("invalid char escape".to_owned()),
            }
        }
        Some(c) => Ok((chars.as_str(), Some(c))),
    }
}

fn identifier(text: &str) -> IResult<&str, &str> {
    let letter = |c: char| c.is_alphabetic() || c == '_';
    recognize(pair(
        take_while1(letter),
        take_while(|c: char| c.is_alphanumeric() || c == '_'),
    ))
    .parse(text)
}

fn word(text: &str) -> Result<(&str, Token), String> {
    let (rest, name) = identifier(text).map_err(|_| "syntax error".to_owned())?;
    if let Some(rest) = rest.strip_prefix('.') {
        let scope = [
            Scope::Span,
            Scope::Resource,
            Scope::Event,
            Scope::Link,
            Scope::Instrumentation,
        ]
        .into_iter()
        .find(|scope| scope.as_str() == name);
        match scope {
            Some(scope) => return attribute(rest, false, scope),
            None if name == "parent" => {
                for scope in [Scope::Span, Scope::Resource] {
                    let inner = rest.strip_prefix(scope.as_str()).and_then(|r| r.strip_prefix('.'));
                    if let Some(inner) = inner {
                        return attribute(inner, true, scope);
                    }
                }
                return attribute(rest, true, Scope::None);
            }
            None => {}
        }
    }
    let scoped: IResult<&str, &str> = recognize((tag(name), char(':'), identifier)).parse(text);
    if let Ok((rest, scoped)) = scoped {
        return match Intrinsic::named(scoped) {
            Some(intrinsic) => Ok((rest, Token::Field(Field::Intrinsic(intrinsic)))),
            None => Err(format!("syntax error: unknown identifier: {scoped}")),
        };
    }
    Ok((
        rest,
        match Intrinsic::named(name) {
            Some(intrinsic) => Token::Field(Field::Intrinsic(intrinsic)),
            None => Token::Word(name.to_owned()),
        },
    ))
}

/// The name behind a scope; parts of it may be quoted.
fn attribute(text: &str, parent: bool, scope: Scope) -> Result<(&str, Token), String> {
    let part = alt((
        value((), (char('"'), many0_count(quoted_character), char('"'))),
        value((), take_while1(is_plain)),
    ));
    let mut parts = recognize(many1_count(part));
    let (rest, raw) = parts
        .parse(text)
        .map_err(|_| "syntax error: invalid attribute name".to_owned())?;
    if rest.starts_with('"') {
        return Err("literal not terminated".to_owned());
    }
    let mut name = String::with_capacity(raw.len());
    let mut inside = false;
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => inside = !inside,
            '\\' if inside && matches!(chars.peek(), Some('"' | '\\')) => name.extend(chars.next()),
            c => name.push(c),
        }
    }
    Ok((rest, Token::Field(Field::Attribute { parent, scope, name })))
}

fn quoted_character(text: &str) -> IResult<&str, char> {
    let plain = |text| -> IResult<&str, char> {
        let (rest, c) = anychar(text)?;
        if matches!(c, '"' | '\\') {
            return Err(nom::Err::Error(nom::error::Error::new(
                text,
                nom::error::ErrorKind::Char,
            )));
        }
        Ok((rest, c))
    };
    alt((preceded(char('\\'), anychar), plain)).parse(text)
}
