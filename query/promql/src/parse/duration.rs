//! Durations: in brackets, and after `offset`. A duration may be computed: `[2*5m]`, `[5m:step()*2]`, `offset -(1h-step())`.

use nom::Parser;
use nom::sequence::separated_pair;
use query_exec::BinaryOp;

use super::expression::{operator, right_side};
use super::stream::{Fault, Parsed, Place, Stream, punct, sign, within, word};
use crate::durations::SECONDS_MAX;
use crate::lex::{Span, Tok};
use crate::syntax::{Duration, DurationExpr, Number};

const DURATION: &str = "number, duration, step(), or range()";
static OFFSET: Place = Place {
    construct: "offset",
    wanted: DURATION,
};
static RANGE: Place = Place {
    construct: "subquery or range selector",
    wanted: DURATION,
};
static AFTER_RANGE: Place = Place {
    construct: "subquery or range",
    wanted: "\":\" or \"]\"",
};
static STEP: Place = Place {
    construct: "subquery selector",
    wanted: "number, duration, step(), range(), or \"]\"",
};
static AFTER_STEP: Place = Place {
    construct: "subquery selector",
    wanted: "\"]\"",
};

/// More than +, - and *: as strong as unary minus.
const SIGN: u8 = 5;

/// A number or a duration, in seconds, as it is written.
pub(super) fn literal(input: Stream<'_>) -> Parsed<'_, Number> {
    let token = input.token();
    let (value, duration) = match &token.tok {
        Tok::Number(value) => (value, false),
        Tok::Duration(value) => (value, true),
        _ => return Err(input.unexpected()),
    };
    match value {
        Ok(value) => Ok((
            input.past(),
            Number {
                value: *value,
                duration,
            },
        )),
        Err(what) => Err(Fault::said(token.span.start, what)),
    }
}

/// `[range]` or `[range:step]`; of a subquery there is a step, be it none.
pub(super) fn window(input: Stream<'_>) -> Parsed<'_, (Duration, Option<Option<Duration>>)> {
    let (rest, _) = punct("[")(input)?;
    let (rest, range) = within(&RANGE, positive)(rest)?;
    if !rest.is_punct(0, ":") {
        let (rest, _) = within(&AFTER_RANGE, punct("]"))(rest)?;
        return Ok((rest, (range, None)));
    }
    let rest = rest.subquery_counted()?.past();
    if rest.is_punct(0, "]") {
        return Ok((rest.past(), (range, Some(None))));
    }
    let (rest, step) = within(&STEP, positive)(rest)?;
    let (rest, _) = within(&AFTER_STEP, punct("]"))(rest)?;
    Ok((rest, (range, Some(Some(step)))))
}

/// A duration that, where it is written plainly, is more than nothing.
fn positive(input: Stream<'_>) -> Parsed<'_, Duration> {
    let (rest, duration) = duration(0)(input)?;
    let duration = duration.settled();
    match duration.expr {
        DurationExpr::Seconds(n) if n.value <= 0.0 => {
            let what = "duration must be greater than 0";
            Err(Fault::said_before(rest, duration.span.start, what))
        }
        _ => Ok((rest, duration)),
    }
}

/// After `offset`: one term with or without a sign, or an expression that begins with a parenthesis. None: there is no offset.
pub(super) fn offset(input: Stream<'_>) -> Parsed<'_, Option<Duration>> {
    let (rest, offset) = within(&OFFSET, |input| {
        if input.is_punct(0, "(") {
            return duration(0)(input);
        }
        let Ok((rest, negative)) = sign(input) else {
            return term(input, input.start());
        };
        if sign(rest).is_ok() {
            return duration(0)(input).map(|(rest, duration)| (rest, wrapped(duration)));
        }
        let (rest, inner) = term(rest, input.start())?;
        signed(input, negative, inner, rest)
    })(input)?;
    let offset = offset.settled();
    let none = matches!(offset.expr, DurationExpr::Seconds(n) if n.value == 0.0);
    Ok((rest, (!none).then_some(offset)))
}

fn duration<'t>(weakest: u8) -> impl Fn(Stream<'t>) -> Parsed<'t, Duration> {
    move |input| {
        let input = input.deeper()?;
        let (mut rest, mut left) = match sign(input) {
            Ok((rest, negative)) => {
                let (rest, inner) = duration(SIGN + 1)(rest)?;
                signed(input, negative, inner, rest)?
            }
            Err(_) => term(input, input.start())?,
        };
        while let Some((op, strength)) = operator(rest.token()).filter(|(op, s)| *s >= weakest && is_arithmetic(*op)) {
            let at = rest.start();
            let (after, right) = duration(right_side(op, strength))(rest.operator_counted()?.past())?;
            if let DurationExpr::Seconds(Number { value: 0.0, .. }) = right.expr {
                match op {
                    BinaryOp::Div => return Err(Fault::said_before(after, at, "division by zero")),
                    BinaryOp::Mod => return Err(Fault::said_before(after, at, "modulo by zero")),
                    _ => {}
                }
            }
            let span = Span {
                start: left.span.start,
                end: right.span.end,
            };
            let expr = DurationExpr::Binary(op, Box::new(left), Box::new(right));
            (rest, left) = (after, Duration { expr, span });
        }
        Ok((rest.back(), left))
    }
}

/// Behind a second sign there may be a whole expression, which then is written in parentheses.
fn wrapped(duration: Duration) -> Duration {
    let span = duration.span;
    match duration.expr {
        DurationExpr::Binary(..) => Duration {
            expr: DurationExpr::Paren(Box::new(duration)),
            span,
        },
        _ => duration,
    }
}

fn is_arithmetic(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow)
}

fn signed<'t>(input: Stream<'t>, negative: bool, inner: Duration, rest: Stream<'t>) -> Parsed<'t, Duration> {
    let span = Span {
        start: input.start(),
        end: inner.span.end,
    };
    let expr = match inner.expr {
        DurationExpr::Seconds(n) => DurationExpr::Seconds(Number {
            value: if negative { -n.value } else { n.value },
            ..n
        }),
        _ if negative => DurationExpr::Negative(Box::new(inner)),
        // A plus changes nothing, and is not kept.
        _ => return Ok((rest, inner)),
    };
    Ok((rest, Duration { expr, span }))
}

/// `number_start` is where a number begins that is told to be out of range: a sign may belong to it.
fn term(input: Stream<'_>, number_start: usize) -> Parsed<'_, Duration> {
    let start = input.start();
    let whole = |rest: Stream<'_>, expr| Duration {
        expr,
        span: rest.since(start),
    };
    match input.tok() {
        Tok::Number(_) | Tok::Duration(_) => {
            let (rest, number) = literal(input)?;
            if number.value.abs() > SECONDS_MAX || number.value.is_nan() {
                return Err(Fault::said(number_start, "duration out of range"));
            }
            Ok((rest, whole(rest, DurationExpr::Seconds(number))))
        }
        Tok::Punct("(") => {
            let (rest, inner) = duration(0)(input.past())?;
            let (rest, _) = punct(")")(rest)?;
            match inner.expr {
                // Parentheses around parentheses are not kept.
                DurationExpr::Paren(_) => Ok((rest, inner)),
                DurationExpr::Seconds(_) => Ok((rest, whole(rest, DurationExpr::Paren(Box::new(inner))))),
                // As Prometheus counts, parentheses are part of a place only around a number.
                _ => {
                    let span = inner.span;
                    let expr = DurationExpr::Paren(Box::new(inner));
                    Ok((rest, Duration { expr, span }))
                }
            }
        }
        Tok::Word(name @ ("step" | "range")) => {
            let (rest, _) = punct("(")(input.past())?;
            let (rest, _) = punct(")")(rest)?;
            let expr = match *name {
                "step" => DurationExpr::Step,
                _ => DurationExpr::Range,
            };
            Ok((rest, whole(rest, expr)))
        }
        Tok::Word(name @ ("min_of" | "max_of")) => {
            let both = separated_pair(duration(0), punct(","), duration(0));
            let (rest, (_, _, (a, b), _)) = (word(name), punct("("), both, punct(")")).parse(input)?;
            let (a, b) = (Box::new(a), Box::new(b));
            let expr = match *name {
                "min_of" => DurationExpr::Min(a, b),
                _ => DurationExpr::Max(a, b),
            };
            Ok((rest, whole(rest, expr)))
        }
        _ => Err(input.unexpected()),
    }
}
