//! Text to tokens. What a character means depends on where it stands: in braces there are only labels, in brackets there
//! are durations and colons. A fault becomes the last token, so that the parser reports whichever fault it meets first.

use std::fmt;

use nom::bytes::complete::{take_till, take_while};
use nom::character::complete::{char, one_of};
use nom::combinator::{recognize, value};
use nom::multi::fold_many0;
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::literals::{Scanned, duration_ms, go_quoted, go_quoted_char, number_value, scan, scan_string};

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
    /// A name without a colon that is no keyword.
    Name,
    /// A name with a colon in it.
    MetricName,
    /// A keyword in small letters; many may also name metrics and labels.
    Word(&'static str),
    /// A number, or why it has no value.
    Number(Result<f64, String>),
    /// A duration in seconds, or why it has no value.
    Duration(Result<f64, String>),
    Text(Vec<u8>),
    /// Brackets and separators.
    Punct(&'static str),
    Op(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) tok: Tok,
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

/// What a keyword is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Operator,
    Aggregator,
    Modifier,
    /// Named like a function: `start()`, `step()`.
    OfTheQuery,
}

const WORDS: [(&str, Class); 37] = {
    use Class::*;
    [
        ("and", Operator),
        ("or", Operator),
        ("unless", Operator),
        ("atan2", Operator),
        ("sum", Aggregator),
        ("avg", Aggregator),
        ("count", Aggregator),
        ("min", Aggregator),
        ("max", Aggregator),
        ("group", Aggregator),
        ("stddev", Aggregator),
        ("stdvar", Aggregator),
        ("topk", Aggregator),
        ("bottomk", Aggregator),
        ("count_values", Aggregator),
        ("quantile", Aggregator),
        ("limitk", Aggregator),
        ("limit_ratio", Aggregator),
        ("offset", Modifier),
        ("smoothed", Modifier),
        ("anchored", Modifier),
        ("by", Modifier),
        ("without", Modifier),
        ("on", Modifier),
        ("ignoring", Modifier),
        ("group_left", Modifier),
        ("group_right", Modifier),
        ("fill", Modifier),
        ("fill_left", Modifier),
        ("fill_right", Modifier),
        ("bool", Modifier),
        ("start", OfTheQuery),
        ("end", OfTheQuery),
        ("step", OfTheQuery),
        ("range", OfTheQuery),
        ("max_of", OfTheQuery),
        ("min_of", OfTheQuery),
    ]
};

/// The keyword that `text` is, in any case of letters.
fn word(text: &str) -> Option<(&'static str, Class)> {
    WORDS.iter().copied().find(|(word, _)| word.eq_ignore_ascii_case(text))
}

/// What a keyword is for.
pub(crate) fn class_of(word: &str) -> Option<Class> {
    WORDS.iter().find(|(w, _)| *w == word).map(|(_, class)| *class)
}

impl fmt::Display for Token<'_> {
    /// As an error message calls it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = || match self.text.char_indices().nth(10) {
            Some((cut, _)) if self.text.len() > 10 => format!("{}...", go_quoted(&self.text.as_bytes()[..cut])),
            _ if self.text.len() > 10 => format!("{}...", go_quoted(self.text.as_bytes())),
            _ => go_quoted(self.text.as_bytes()),
        };
        match &self.tok {
            Tok::End => f.write_str("end of input"),
            Tok::Fault(words) => f.write_str(words),
            Tok::Word(word) => match class_of(word) {
                Some(Class::Operator) => write!(f, "<op:{}>", self.text),
                Some(Class::Aggregator) => write!(f, "<aggr:{}>", self.text),
                Some(Class::Modifier) => write!(f, "<{}>", self.text),
                _ => f.write_str(&short()),
            },
            Tok::Name => write!(f, "identifier {}", go_quoted(self.text.as_bytes())),
            Tok::MetricName => write!(f, "metric identifier {}", go_quoted(self.text.as_bytes())),
            Tok::Number(_) => write!(f, "number {}", short()),
            Tok::Duration(_) => write!(f, "duration {}", short()),
            Tok::Text(_) => write!(f, "string {}", short()),
            Tok::Punct(p) => write!(f, "\"{p}\""),
            // Alone in this, `=` is no operator.
            Tok::Op("=") => f.write_str("\"=\""),
            Tok::Op(op) => write!(f, "<op:{op}>"),
        }
    }
}

/// All tokens of `text`; the last is [`Tok::End`] or [`Tok::Fault`], and no other is.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer {
        text,
        at: 0,
        parens: 0,
        place: Place::Outside,
        colon: false,
        digits: false,
    };
    let mut out = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let (tok, start) = match lexer.next() {
            Ok(tok) => (tok, start),
            Err(LexFault { at, what }) => (Tok::Fault(what), at.unwrap_or(start)),
        };
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

/// What the lexer cannot go on from, and where that is, if not at the token's start.
struct LexFault {
    at: Option<usize>,
    what: String,
}

fn fault<T>(what: impl Into<String>) -> Result<T, LexFault> {
    Err(LexFault {
        at: None,
        what: what.into(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Braces,
    /// In brackets, up to the first number.
    Bracket,
    /// In brackets, from the first number on: comments may stand here, and anything that is no name.
    AfterNumber,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Parentheses that are open.
    parens: usize,
    place: Place,
    /// Whether there was a colon in these brackets.
    colon: bool,
    /// Whether there was a number in any brackets.
    digits: bool,
}

type Lexed = Result<Tok, LexFault>;

/// Spaces, and comments where there may be some.
fn blanks(comments: bool) -> impl Fn(&str) -> IResult<&str, ()> {
    move |text| {
        let space = value((), one_of(" \t\n\r"));
        if comments {
            let comment = value((), preceded(char('#'), take_till(|c| c == '\n' || c == '\r')));
            fold_many0(nom::branch::alt((space, comment)), || (), |(), ()| ()).parse(text)
        } else {
            fold_many0(space, || (), |(), ()| ()).parse(text)
        }
    }
}

/// A name; the first letter has been looked at.
fn name(colons: bool) -> impl Fn(&str) -> IResult<&str, &str> {
    move |text| {
        recognize(take_while(|c: char| {
            c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':')
        }))
        .parse(text)
    }
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn in_brackets(&self) -> bool {
        matches!(self.place, Place::Bracket | Place::AfterNumber)
    }

    fn skip_blanks(&mut self) {
        if let Ok((rest, ())) = blanks(self.place != Place::Bracket)(self.rest()) {
            self.at = self.text.len() - rest.len();
        }
    }

    fn next(&mut self) -> Lexed {
        let Some(c) = self.peek() else {
            return match self.place {
                Place::Braces => fault("unexpected end of input inside braces"),
                Place::Bracket => fault("unexpected end of input in duration expression"),
                _ if self.parens > 0 => fault("unclosed left parenthesis"),
                Place::AfterNumber => fault("unclosed left bracket"),
                Place::Outside => Ok(Tok::End),
            };
        };
        match self.place {
            Place::Braces => self.in_braces(c),
            Place::Bracket => self.in_bracket(c),
            Place::Outside | Place::AfterNumber => self.outside(c),
        }
    }

    fn in_braces(&mut self, c: char) -> Lexed {
        match c {
            '"' | '\'' | '`' => self.string(),
            'a'..='z' | 'A'..='Z' | '_' => {
                self.name(false);
                Ok(Tok::Name)
            }
            ',' => self.punct(","),
            '}' => {
                self.place = Place::Outside;
                self.punct("}")
            }
            '=' => self.longest(&["=~", "="]),
            '!' if self.rest().starts_with("!~") || self.rest().starts_with("!=") => self.longest(&["!~", "!="]),
            '!' => fault(format!(
                "unexpected character after '!' inside braces: {}",
                self.second()
            )),
            '{' => fault("unexpected left brace '{'"),
            other => fault(format!(
                "unexpected character inside braces: {}",
                go_quoted_char(Some(other))
            )),
        }
    }

    /// Up to the first number there are only durations in brackets.
    fn in_bracket(&mut self, c: char) -> Lexed {
        match c {
            ']' => self.close_bracket(),
            ':' => {
                self.at += 1;
                let what = match (self.digits, self.colon) {
                    (false, _) => "unexpected colon before duration in duration expression",
                    (true, true) => "unexpected repeated colon in duration expression",
                    (true, false) => {
                        self.colon = true;
                        return Ok(Tok::Punct(":"));
                    }
                };
                Err(LexFault {
                    at: Some(self.at),
                    what: what.to_owned(),
                })
            }
            '(' | ')' => self.paren(c),
            '+' | '-' | '*' | '/' | '%' | '^' => self.longest(&["+", "-", "*", "/", "%", "^"]),
            ',' => self.punct(","),
            '0'..='9' => self.number(),
            '.' if self.is_fraction() => self.number(),
            _ => match self.duration_word() {
                Some(word) => Ok(Tok::Word(word)),
                None => fault(format!(
                    "unexpected character in duration expression: {}",
                    go_quoted_char(Some(c))
                )),
            },
        }
    }

    fn outside(&mut self, c: char) -> Lexed {
        match c {
            '"' | '\'' | '`' => self.string(),
            ',' => self.punct(","),
            '(' | ')' => self.paren(c),
            '{' => {
                self.place = Place::Braces;
                self.punct("{")
            }
            '[' if self.in_brackets() => fault("unexpected left bracket '['"),
            '[' => {
                self.place = Place::Bracket;
                self.colon = false;
                self.punct("[")
            }
            ']' if !self.in_brackets() => fault("unexpected right bracket ']'"),
            ']' => self.close_bracket(),
            '@' => {
                self.at += 1;
                Ok(Tok::Op("@"))
            }
            '+' | '-' | '*' | '/' | '%' | '^' => self.longest(&["+", "-", "*", "/", "%", "^"]),
            '=' if self.rest().starts_with("=~") => fault("unexpected character after '=': '~'"),
            '=' => self.longest(&["==", "="]),
            '!' if self.rest().starts_with("!=") => self.longest(&["!="]),
            '!' => fault(format!("unexpected character after '!': {}", self.second())),
            '<' => self.longest(&["</", "<=", "<"]),
            '>' => self.longest(&[">/", ">=", ">"]),
            '0'..='9' => self.number(),
            '.' if self.is_fraction() => self.number(),
            ':' if self.in_brackets() => {
                if self.colon {
                    return fault("unexpected colon ':'");
                }
                self.colon = true;
                self.punct(":")
            }
            'a'..='z' | 'A'..='Z' | '_' if self.in_brackets() => match self.duration_word() {
                Some(word) => Ok(Tok::Word(word)),
                None => fault(format!(
                    "unexpected character: {}, expected ':'",
                    go_quoted_char(Some(c))
                )),
            },
            'a'..='z' | 'A'..='Z' | '_' | ':' => Ok(self.name_or_word()),
            other => fault(format!("unexpected character: {}", go_quoted_char(Some(other)))),
        }
    }

    fn second(&self) -> String {
        go_quoted_char(self.rest().chars().nth(1))
    }
    fn is_fraction(&self) -> bool {
        self.rest().as_bytes().get(1).is_some_and(u8::is_ascii_digit)
    }

    fn punct(&mut self, what: &'static str) -> Lexed {
        self.at += what.len();
        Ok(Tok::Punct(what))
    }

    /// The first of the candidates that stands here; a caller knows that one does.
    fn longest(&mut self, candidates: &[&'static str]) -> Lexed {
        let op = candidates
            .iter()
            .find(|op| self.rest().starts_with(**op))
            .unwrap_or(&"");
        self.at += op.len();
        Ok(Tok::Op(op))
    }

    fn paren(&mut self, c: char) -> Lexed {
        if c == '(' {
            self.parens += 1;
            return self.punct("(");
        }
        self.at += 1;
        match self.parens.checked_sub(1) {
            Some(open) => {
                self.parens = open;
                Ok(Tok::Punct(")"))
            }
            None => Err(LexFault {
                at: Some(self.at),
                what: "unexpected right parenthesis ')'".to_owned(),
            }),
        }
    }

    fn close_bracket(&mut self) -> Lexed {
        self.place = Place::Outside;
        self.punct("]")
    }

    fn name(&mut self, colons: bool) -> &'a str {
        let rest = self.rest();
        let name = name(colons)(rest).map_or("", |(_, name)| name);
        self.at += name.len();
        name
    }

    fn name_or_word(&mut self) -> Tok {
        let name = self.name(true);
        match word(name) {
            // Older than these modifiers are metrics of that name: only a parenthesis makes the modifier.
            Some(("fill" | "fill_left" | "fill_right", _)) if !self.paren_follows() => Tok::Name,
            Some((word, _)) => Tok::Word(word),
            None if name.eq_ignore_ascii_case("inf") => Tok::Number(Ok(f64::INFINITY)),
            None if name.eq_ignore_ascii_case("nan") => Tok::Number(Ok(f64::NAN)),
            None if name.contains(':') => Tok::MetricName,
            None => Tok::Name,
        }
    }

    fn paren_follows(&self) -> bool {
        blanks(false)(self.rest()).is_ok_and(|(rest, ())| rest.starts_with('('))
    }

    /// `step`, `range`, `min_of` or `max_of`.
    fn duration_word(&mut self) -> Option<&'static str> {
        let rest = self.rest();
        let len = (rest.find(|c: char| !(c.is_ascii_alphabetic() || c == '_'))).unwrap_or(rest.len());
        let (word, _) = word(&rest[..len]).filter(|(word, _)| ["step", "range", "max_of", "min_of"].contains(word))?;
        self.at += len;
        Some(word)
    }

    fn number(&mut self) -> Lexed {
        if self.place == Place::Bracket {
            self.place = Place::AfterNumber;
            self.digits = true;
        }
        let rest = self.rest();
        match scan(rest) {
            Scanned::Number(len) => {
                self.at += len;
                Ok(Tok::Number(number_value(&rest[..len])))
            }
            Scanned::Duration(len) => {
                self.at += len;
                Ok(Tok::Duration(duration_ms(&rest[..len]).map(|ms| ms as f64 / 1000.0)))
            }
            Scanned::Neither(len) => {
                let shown = go_quoted(&rest.as_bytes()[..len]);
                fault(format!("bad number or duration syntax: {shown}"))
            }
        }
    }

    fn string(&mut self) -> Lexed {
        match scan_string(self.rest()) {
            Ok((len, bytes)) => {
                self.at += len;
                Ok(Tok::Text(bytes))
            }
            Err(what) => fault(what),
        }
    }
}
