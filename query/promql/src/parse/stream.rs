//! What the parsers read: tokens that are left, what is told of a token that does not fit here, and how deep we are. It is
//! handed on by value, so going back is free and nothing has to be undone.

use model::RegexBudget;
use nom::IResult;
use nom::error::{ErrorKind, ParseError};

use super::{NESTING_MAX, OPERATORS_MAX, SUBQUERIES_MAX};
use crate::lex::{Span, Tok, Token};

pub(super) type Parsed<'t, T> = IResult<Stream<'t>, T, Fault>;

#[derive(Clone, Copy)]
pub(super) struct Stream<'t> {
    /// All of them; the last is an end or a fault.
    tokens: &'t [Token<'t>],
    /// Where patterns are compiled.
    regexes: &'t RegexBudget,
    at: usize,
    place: &'static Place,
    depth: u32,
    operators: u32,
    subqueries: u32,
}

/// What is said of a token that does not fit: `unexpected x in {construct}, expected {wanted}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) construct: &'static str,
    pub(super) wanted: &'static str,
}

/// Where nothing more is said than what was unexpected.
static ANYWHERE: Place = Place {
    construct: "",
    wanted: "",
};

/// Why a text does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The token of that number does not fit where it stands.
    Unexpected { token: usize, place: &'static Place },
    /// Something else, at a byte.
    Said { at: usize, what: String },
}

impl Fault {
    /// A fault that no other way of parsing would heal.
    pub(super) fn said(at: usize, what: impl Into<String>) -> nom::Err<Fault> {
        nom::Err::Failure(Fault::Said { at, what: what.into() })
    }
    /// The same of what is known only when the token after it is: what the lexer has to say of that one comes first.
    pub(super) fn said_before(next: Stream<'_>, at: usize, what: impl Into<String>) -> nom::Err<Fault> {
        match next.tok() {
            Tok::Fault(_) => next.unexpected(),
            _ => Fault::said(at, what),
        }
    }
    pub(super) fn at(&self, tokens: &[Token<'_>]) -> usize {
        match self {
            Fault::Unexpected { token, .. } => tokens.get(*token).map_or(0, |t| t.span.start),
            Fault::Said { at, .. } => *at,
        }
    }
    pub(super) fn words(&self, tokens: &[Token<'_>]) -> String {
        let (token, place) = match self {
            Fault::Unexpected { token, place } => (tokens.get(*token), place),
            Fault::Said { what, .. } => return what.clone(),
        };
        let Some(token) = token else {
            return "unexpected end of input".to_owned();
        };
        if let Tok::Fault(words) = &token.tok {
            return words.clone();
        }
        let mut words = format!("unexpected {token}");
        for (before, what) in [(" in ", place.construct), (", expected ", place.wanted)] {
            if !what.is_empty() {
                words.push_str(before);
                words.push_str(what);
            }
        }
        words
    }
}

impl<'t> ParseError<Stream<'t>> for Fault {
    fn from_error_kind(input: Stream<'t>, _: ErrorKind) -> Fault {
        Fault::Unexpected {
            token: input.at,
            place: input.place,
        }
    }
    fn append(_: Stream<'t>, _: ErrorKind, other: Fault) -> Fault {
        other
    }
}

impl<'t> Stream<'t> {
    pub(super) fn new(tokens: &'t [Token<'t>], regexes: &'t RegexBudget) -> Stream<'t> {
        Stream {
            tokens,
            regexes,
            at: 0,
            place: &ANYWHERE,
            depth: 0,
            operators: 0,
            subqueries: 0,
        }
    }
    /// Where patterns are compiled.
    pub(super) fn regexes(&self) -> &'t RegexBudget {
        self.regexes
    }
    /// The token `n` places on; the last one (an end or a fault) again, if that is past it.
    pub(super) fn ahead(&self, n: usize) -> &'t Token<'t> {
        &self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }
    pub(super) fn token(&self) -> &'t Token<'t> {
        self.ahead(0)
    }
    pub(super) fn tok(&self) -> &'t Tok {
        &self.token().tok
    }
    pub(super) fn start(&self) -> usize {
        self.token().span.start
    }
    /// From a byte to the end of the last token that was taken.
    pub(super) fn since(&self, start: usize) -> Span {
        let end = (self.at.checked_sub(1)).map_or(start, |before| self.tokens[before].span.end);
        Span { start, end }
    }
    /// What follows the next token.
    pub(super) fn past(self) -> Stream<'t> {
        Stream {
            at: (self.at + 1).min(self.tokens.len() - 1),
            ..self
        }
    }
    pub(super) fn is_punct(&self, n: usize, punct: &str) -> bool {
        matches!(self.ahead(n).tok, Tok::Punct(p) if p == punct)
    }
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.tok(), Tok::Word(w) if *w == word)
    }
    /// One level deeper; frames of nested parsers lie on the stack, so there is a limit.
    pub(super) fn deeper(self) -> Result<Stream<'t>, nom::Err<Fault>> {
        if self.depth >= NESTING_MAX {
            let what = format!("expressions are nested more than {NESTING_MAX} deep");
            return Err(Fault::said(self.start(), what));
        }
        Ok(Stream {
            depth: self.depth + 1,
            ..self
        })
    }
    /// What was left over by a parser that ran one level deeper.
    pub(super) fn back(self) -> Stream<'t> {
        Stream {
            depth: self.depth.saturating_sub(1),
            ..self
        }
    }
    pub(super) fn unexpected(&self) -> nom::Err<Fault> {
        nom::Err::Error(Fault::from_error_kind(*self, ErrorKind::Tag))
    }
    /// The same with one more operator seen; a chain of operators is as deep a tree as it is long.
    pub(super) fn operator_counted(self) -> Result<Stream<'t>, nom::Err<Fault>> {
        if self.operators >= OPERATORS_MAX {
            return Err(Fault::said(
                self.start(),
                format!("more than {OPERATORS_MAX} operators"),
            ));
        }
        Ok(Stream {
            operators: self.operators + 1,
            ..self
        })
    }
    pub(super) fn subquery_counted(self) -> Result<Stream<'t>, nom::Err<Fault>> {
        if self.subqueries >= SUBQUERIES_MAX {
            return Err(Fault::said(
                self.start(),
                format!("more than {SUBQUERIES_MAX} subqueries"),
            ));
        }
        Ok(Stream {
            subqueries: self.subqueries + 1,
            ..self
        })
    }
}

/// Runs `parser` where `place` tells what is wanted.
pub(super) fn within<'t, T>(
    place: &'static Place,
    mut parser: impl FnMut(Stream<'t>) -> Parsed<'t, T>,
) -> impl FnMut(Stream<'t>) -> Parsed<'t, T> {
    move |input| {
        let (rest, parsed) = parser(Stream { place, ..input })?;
        Ok((
            Stream {
                place: input.place,
                ..rest
            },
            parsed,
        ))
    }
}

/// A bracket or separator.
pub(super) fn punct<'t>(wanted: &'static str) -> impl Fn(Stream<'t>) -> Parsed<'t, &'t Token<'t>> {
    one(move |token| matches!(token.tok, Tok::Punct(p) if p == wanted))
}

/// After the opening bracket: items with commas between them, perhaps one after the last, up to and with `close`.
pub(super) fn listed<'t, T>(
    close: &'static str,
    item_place: &'static Place,
    next_place: &'static Place,
    item: impl Fn(Stream<'t>) -> Parsed<'t, T>,
) -> impl Fn(Stream<'t>) -> Parsed<'t, Vec<T>> {
    move |mut input| {
        let mut items = Vec::new();
        loop {
            if input.is_punct(0, close) {
                return Ok((input.past(), items));
            }
            let (rest, parsed) = within(item_place, &item)(input)?;
            items.push(parsed);
            if rest.is_punct(0, ",") {
                input = rest.past();
                continue;
            }
            let (rest, _) = within(next_place, punct(close))(rest)?;
            return Ok((rest, items));
        }
    }
}

/// A keyword.
pub(super) fn word<'t>(wanted: &'static str) -> impl Fn(Stream<'t>) -> Parsed<'t, &'t Token<'t>> {
    one(move |token| matches!(token.tok, Tok::Word(w) if w == wanted))
}

/// `+` or `-`; whether it is `-`.
pub(super) fn sign(input: Stream<'_>) -> Parsed<'_, bool> {
    match input.tok() {
        Tok::Op("-") => Ok((input.past(), true)),
        Tok::Op("+") => Ok((input.past(), false)),
        _ => Err(input.unexpected()),
    }
}

fn one<'t>(wanted: impl Fn(&Token<'t>) -> bool) -> impl Fn(Stream<'t>) -> Parsed<'t, &'t Token<'t>> {
    move |input| {
        let token = input.token();
        if wanted(token) {
            Ok((input.past(), token))
        } else {
            Err(input.unexpected())
        }
    }
}
