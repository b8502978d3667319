//! Tokens to syntax tree, on `nom`: a parser per construct over the [token slice](stream), operators by precedence
//! (`expression`), selectors and their modifiers (`selector`), durations (`duration`). Depth and length are bounded, so
//! that no text can exhaust the stack.

mod duration;
mod expression;
mod selector;
mod stream;

use std::sync::Arc;

use model::{Matcher, RegexBudget};

use crate::ParseError;
use crate::lex::{Tok, tokens};
pub(crate) use crate::literals::go_quoted;
use crate::syntax::Expr;
pub(crate) use expression::takes_a_parameter;
use stream::{Fault, Parsed, Stream};

/// Longest query, bytes.
const TEXT_BYTES_MAX: usize = 128 << 10;
/// Most expressions inside one another.
const NESTING_MAX: u32 = 120;
/// Most binary operators: a chain of them is as deep a tree as it is long.
const OPERATORS_MAX: u32 = 1500;
/// Most subqueries.
const SUBQUERIES_MAX: u32 = 32;

/// Parses an expression; its types are not checked yet.
pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    whole(text, &RegexBudget::default(), |input| {
        if *input.tok() == Tok::End {
            return Err(Fault::said(0, "no expression found in input"));
        }
        expression::expression(0)(input)
    })
}

/// Parses one selector without modifiers, as `match[]` carries it.
pub(crate) fn parse_selector(text: &str, regexes: &RegexBudget) -> Result<Arc<[Matcher]>, ParseError> {
    let matchers = whole(text, regexes, selector::bare)?.matchers;
    if matchers.iter().all(Matcher::matches_empty) {
        return Err(ParseError {
            message: "match[] must contain at least one non-empty matcher".to_owned(),
        });
    }
    Ok(matchers)
}

/// Parses all of `text`.
fn whole<T>(
    text: &str,
    regexes: &RegexBudget,
    parser: impl for<'t> Fn(Stream<'t>) -> Parsed<'t, T>,
) -> Result<T, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!(
            "the query has {} bytes, at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(fault(text, 0, what));
    }
    let tokens = tokens(text);
    let parsed = parser(Stream::new(&tokens, regexes)).and_then(|(rest, parsed)| match rest.tok() {
        Tok::End => Ok(parsed),
        _ => Err(rest.unexpected()),
    });
    parsed.map_err(|e| match e {
        nom::Err::Error(f) | nom::Err::Failure(f) => fault(text, f.at(&tokens), f.words(&tokens)),
        // Nothing here waits for more input.
        nom::Err::Incomplete(_) => fault(text, text.len(), "unexpected end of input"),
    })
}

/// `line:column: parse error: what`, both counted from 1.
pub(crate) fn fault(text: &str, at: usize, what: impl std::fmt::Display) -> ParseError {
    if text.is_empty() {
        return ParseError {
            message: format!("unknown position: parse error: {what}"),
        };
    }
    let (line, column) = line_column(text, at);
    ParseError {
        message: format!("{line}:{column}: parse error: {what}"),
    }
}

/// Line and column of a byte, both counted from 1, columns in bytes.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    (line, column)
}
