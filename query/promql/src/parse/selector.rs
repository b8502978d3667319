//! Selectors, and what may follow one: brackets, `offset`, `@`, `anchored`, `smoothed`.

use std::sync::Arc;

use model::{METRIC_NAME, MatchOp, Matcher};

use super::duration::{literal, offset, window};
use super::stream::{Fault, Parsed, Place, Stream, listed, punct, sign, within};
use crate::lex::{Tok, Token};
use crate::syntax::{At, Edges, Expr, Kind, Range, Selector, Shift, Subquery};

const LABEL_MATCHING: &str = "label matching";
static MATCHER: Place = Place {
    construct: LABEL_MATCHING,
    wanted: "identifier or \"}\"",
};
static MATCH_OP: Place = Place {
    construct: LABEL_MATCHING,
    wanted: "label matching operator",
};
static MATCH_VALUE: Place = Place {
    construct: LABEL_MATCHING,
    wanted: "string",
};
static NEXT_MATCHER: Place = Place {
    construct: LABEL_MATCHING,
    wanted: "\",\" or \"}\"",
};
static AT: Place = Place {
    construct: "@",
    wanted: "timestamp",
};

/// Whether a keyword, where an operand belongs, is the name of a metric.
pub(super) fn may_name_a_metric(word: &str) -> bool {
    !matches!(
        word,
        "bool" | "on" | "ignoring" | "group_left" | "group_right" | "atan2"
    )
}

/// `name`, `name{...}` or `{...}`
pub(super) fn selector(input: Stream<'_>) -> Parsed<'_, Expr> {
    let start = input.start();
    let (rest, selector) = bare(input)?;
    Ok((rest, Expr::new(Kind::Selector(Box::new(selector)), rest.since(start))))
}

/// A selector without modifiers.
pub(super) fn bare(input: Stream<'_>) -> Parsed<'_, Selector> {
    let (name, rest) = match input.tok() {
        Tok::Name | Tok::MetricName => (Some(input.token().text), input.past()),
        Tok::Word(word) if may_name_a_metric(word) => (Some(input.token().text), input.past()),
        Tok::Punct("{") => (None, input),
        _ => return Err(input.unexpected()),
    };
    let (rest, mut matchers) = match rest.is_punct(0, "{") {
        true => listed("}", &MATCHER, &NEXT_MATCHER, matcher)(rest.past())?,
        false => (rest, Vec::new()),
    };
    matchers.extend(name.map(|name| Matcher::equal(METRIC_NAME, name)));
    let selector = Selector {
        name: name.map(Arc::from),
        matchers: matchers.into(),
        edges: Edges::Plain,
        shift: Shift::default(),
    };
    Ok((rest, selector))
}

/// `label="value"`, `"label"="value"`, or the metric's name in quotes.
fn matcher(input: Stream<'_>) -> Parsed<'_, Matcher> {
    let label = input.token();
    let rest = input.past();
    match &label.tok {
        Tok::Name => {
            let (rest, op) = within(&MATCH_OP, match_op)(rest)?;
            matched(rest, label, label.text.to_owned(), op)
        }
        Tok::Text(bytes) => match match_op(rest) {
            Ok((rest, op)) => matched(rest, label, text(bytes), op),
            Err(_) => Ok((rest, Matcher::equal(METRIC_NAME, text(bytes)))),
        },
        _ => Err(input.unexpected()),
    }
}

fn matched<'t>(input: Stream<'t>, token: &Token<'t>, label: String, op: MatchOp) -> Parsed<'t, Matcher> {
    let (rest, value) = within(&MATCH_VALUE, |input| match input.tok() {
        Tok::Text(bytes) => Ok((input.past(), text(bytes))),
        _ => Err(input.unexpected()),
    })(input)?;
    match Matcher::within(input.regexes(), label, op, value) {
        Ok(matcher) => Ok((rest, matcher)),
        Err(e) => Err(Fault::said(token.span.start, e.message)),
    }
}

/// Labels are UTF-8, so other bytes can only be compared as something that no label is.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn match_op(input: Stream<'_>) -> Parsed<'_, MatchOp> {
    let op = match input.tok() {
        Tok::Op("=") => MatchOp::Equal,
        Tok::Op("!=") => MatchOp::NotEqual,
        Tok::Op("=~") => MatchOp::Regex,
        Tok::Op("!~") => MatchOp::NotRegex,
        _ => return Err(input.unexpected()),
    };
    Ok((input.past(), op))
}

/// An operand with all that modifies it.
pub(super) fn modified(mut rest: Stream<'_>, mut expr: Expr) -> Parsed<'_, Expr> {
    let start = expr.span.start;
    loop {
        match rest.tok() {
            Tok::Punct("[") => {
                (rest, expr) = brackets(rest, expr)?;
                continue;
            }
            Tok::Word("offset") => {
                let (after, offset) = offset(rest.past())?;
                let shift = shift_of(&mut expr, "offset modifier")?;
                if shift.offset.is_some() {
                    return Err(Fault::said(start, "offset may not be set multiple times"));
                }
                shift.offset = offset;
                rest = after;
            }
            Tok::Op("@") => {
                let (after, time) = within(&AT, |input| at(input, start))(rest.past())?;
                let shift = shift_of(&mut expr, "@ modifier")?;
                if shift.at.replace(time).is_some() {
                    return Err(Fault::said(start, "@ <timestamp> may not be set multiple times"));
                }
                rest = after;
            }
            Tok::Word(word @ "anchored") => {
                set_edges(&mut expr, word, Edges::Anchored)?;
                rest = rest.past();
                continue;
            }
            Tok::Word(word @ "smoothed") => {
                set_edges(&mut expr, word, Edges::Smoothed)?;
                rest = rest.past();
                continue;
            }
            _ => return Ok((rest, expr)),
        }
        // As Prometheus counts, `anchored` and `smoothed` lie outside.
        expr.span = rest.since(start);
    }
}

fn shift_of<'e>(expr: &'e mut Expr, what: &str) -> Result<&'e mut Shift, nom::Err<Fault>> {
    let start = expr.span.start;
    match &mut expr.kind {
        Kind::Selector(selector) => Ok(&mut selector.shift),
        Kind::Range(range) => Ok(&mut range.selector.shift),
        Kind::Subquery(subquery) => Ok(&mut subquery.shift),
        _ => Err(Fault::said(
            start,
            format!("{what} must be preceded by an instant vector selector or range vector selector or a subquery"),
        )),
    }
}

fn set_edges(expr: &mut Expr, word: &str, wanted: Edges) -> Result<(), nom::Err<Fault>> {
    let start = expr.span.start;
    let edges = match &mut expr.kind {
        Kind::Selector(selector) => &mut selector.edges,
        Kind::Range(range) => &mut range.selector.edges,
        Kind::Subquery(_) => {
            let what = format!("{word} modifier is not supported for subqueries");
            return Err(Fault::said(start, what));
        }
        _ => return Err(Fault::said(start, format!("{word} modifier not implemented"))),
    };
    if *edges != Edges::Plain && *edges != wanted {
        let what = "anchored and smoothed modifiers cannot be used together";
        return Err(Fault::said(start, what));
    }
    *edges = wanted;
    Ok(())
}

/// `[range]` or `[range:step]`
fn brackets(input: Stream<'_>, expr: Expr) -> Parsed<'_, Expr> {
    let (start, open) = (expr.span.start, input.start());
    let (rest, (range, step)) = window(input)?;
    if let Some(step) = step {
        let subquery = Subquery {
            expr,
            range,
            step,
            shift: Shift::default(),
        };
        let kind = Kind::Subquery(Box::new(subquery));
        return Ok((rest, Expr::new(kind, rest.since(start))));
    }
    let what = match expr.kind {
        Kind::Selector(selector) => match selector.shift {
            Shift { offset: Some(_), .. } => "no offset modifiers allowed before range",
            Shift { at: Some(_), .. } => "no @ modifiers allowed before range",
            _ => {
                let range = Kind::Range(Box::new(Range {
                    selector: *selector,
                    range,
                }));
                return Ok((rest, Expr::new(range, rest.since(start))));
            }
        },
        _ => "ranges only allowed for vector selectors",
    };
    Err(Fault::said(open, what))
}

/// After `@`: a time in seconds, `start()` or `end()`; `selector` is where the text of the selector begins.
fn at(input: Stream<'_>, selector: usize) -> Parsed<'_, At> {
    for (word, at) in [("start", At::Start), ("end", At::End)] {
        if input.is_word(word) {
            let (rest, _) = punct("(")(input.past())?;
            let (rest, _) = punct(")")(rest)?;
            return Ok((rest, at));
        }
    }
    let (rest, negative) = sign(input).unwrap_or((input, false));
    let (rest, number) = literal(rest)?;
    let seconds = if negative { -number.value } else { number.value };
    // Beyond these, milliseconds are cut off at the ends of time.
    if seconds.abs() < i64::MAX as f64 {
        return Ok((rest, At::Time((seconds * 1000.0).round() as i64)));
    }
    let what = format!(
        "timestamp out of bounds for @ modifier: {}",
        if seconds.is_finite() {
            format!("{seconds:.6}")
        } else {
            crate::literals::go_decimal(seconds)
        }
    );
    Err(Fault::said(selector, what))
}
