//! Expressions: operators by precedence, what modifies them, calls and aggregations.

use nom::Parser;
use nom::combinator::{cut, opt};
use nom::sequence::{delimited, preceded};
use query_exec::{BinaryOp, Cardinality, Grouping, Matching};

use super::duration::literal;
use super::go_quoted;
use super::selector;
use super::stream::{Fault, Parsed, Place, Stream, listed, punct, sign, within, word};
use crate::functions::function;
use crate::lex::{Class, Span, Tok, Token, class_of};
use crate::syntax::{Aggregate, Binary, Call, Expr, Kind, Number, Unary};

/// How strongly `^` binds; unary minus binds less, all else still less.
const POWER: u8 = 7;

const GROUPING_OPTS: &str = "grouping opts";
static AGGREGATION: Place = Place {
    construct: "aggregation",
    wanted: "",
};
static GROUPING: Place = Place {
    construct: GROUPING_OPTS,
    wanted: "\"(\"",
};
static LABEL: Place = Place {
    construct: GROUPING_OPTS,
    wanted: "label",
};
static NEXT_LABEL: Place = Place {
    construct: GROUPING_OPTS,
    wanted: "\",\" or \")\"",
};

/// An expression of operators that bind at least as strongly as `weakest`.
pub(super) fn expression<'t>(weakest: u8) -> impl Fn(Stream<'t>) -> Parsed<'t, Expr> {
    move |input| {
        let (mut rest, mut left) = unary(input.deeper()?)?;
        while let Some((op, strength)) = operator(rest.token()).filter(|(_, strength)| *strength >= weakest) {
            (rest, left) = binary(rest.operator_counted()?, left, op, strength)?;
        }
        Ok((rest.back(), left))
    }
}

/// The operator that a token is, and how strongly it binds.
pub(super) fn operator(token: &Token<'_>) -> Option<(BinaryOp, u8)> {
    use BinaryOp::*;
    let (Tok::Op(op) | Tok::Word(op)) = token.tok else {
        return None;
    };
    Some(match op {
        "^" => (Pow, POWER),
        "*" => (Mul, 5),
        "/" => (Div, 5),
        "%" => (Mod, 5),
        "atan2" => (Atan2, 5),
        "+" => (Add, 4),
        "-" => (Sub, 4),
        "==" => (Eq, 3),
        "!=" => (Ne, 3),
        ">" => (Gt, 3),
        "<" => (Lt, 3),
        ">=" => (Ge, 3),
        "<=" => (Le, 3),
        "</" => (TrimUpper, 3),
        ">/" => (TrimLower, 3),
        "and" => (And, 2),
        "unless" => (Unless, 2),
        "or" => (Or, 1),
        _ => return None,
    })
}

/// The weakest that the right side of an operator may hold: `^` goes on to the right, the others to the left.
pub(super) fn right_side(op: BinaryOp, strength: u8) -> u8 {
    if op == BinaryOp::Pow { strength } else { strength + 1 }
}

fn binary(input: Stream<'_>, left: Expr, op: BinaryOp, strength: u8) -> Parsed<'_, Expr> {
    let (rest, (return_bool, mut matching)) = modifiers(input.past())?;
    if op.is_set() && matching.cardinality == Cardinality::OneToOne {
        matching.cardinality = Cardinality::ManyToMany;
    }
    let (rest, right) = expression(right_side(op, strength))(rest)?;
    let span = Span {
        start: left.span.start,
        end: right.span.end,
    };
    let binary = Binary {
        op,
        return_bool,
        matching,
        left,
        right,
    };
    Ok((rest, Expr::new(Kind::Binary(Box::new(binary)), span)))
}

/// What may stand between an operator and its right side; whether there is a `bool`.
fn modifiers(input: Stream<'_>) -> Parsed<'_, (bool, Matching)> {
    let (rest, return_bool) = opt(word("bool")).parse(input)?;
    let (rest, mut matching) = matching(rest)?;
    let (rest, fill) = fills(rest)?;
    (matching.fill_left, matching.fill_right) = fill;
    Ok((rest, (return_bool.is_some(), matching)))
}

/// `on (a) group_left (b)`, if it is there.
fn matching(input: Stream<'_>) -> Parsed<'_, Matching> {
    let mut matching = Matching {
        on: input.is_word("on"),
        ..Matching::default()
    };
    if !matching.on && !input.is_word("ignoring") {
        return Ok((input, matching));
    }
    let (rest, names) = labels(input.past())?;
    matching.labels = names;
    matching.cardinality = match rest.tok() {
        Tok::Word("group_left") => Cardinality::ManyToOne,
        Tok::Word("group_right") => Cardinality::OneToMany,
        _ => return Ok((rest, matching)),
    };
    let rest = rest.past();
    // A parenthesis after `group_left` is always a list of labels, never an operand.
    if rest.is_punct(0, "(") {
        let (rest, names) = labels(rest)?;
        matching.include = names;
        return Ok((rest, matching));
    }
    if !starts_an_expression(&rest) {
        return within(&GROUPING, |input| Err(input.unexpected()))(rest);
    }
    Ok((rest, matching))
}

/// `fill (x)`, or `fill_left (x)` and `fill_right (x)`, one or both, in any order.
fn fills(input: Stream<'_>) -> Parsed<'_, (Option<f64>, Option<f64>)> {
    if input.is_word("fill") {
        let (rest, fill) = fill_value(input.past())?;
        return Ok((rest, (Some(fill), Some(fill))));
    }
    let left = || preceded(word("fill_left"), cut(fill_value));
    let right = || preceded(word("fill_right"), cut(fill_value));
    if input.is_word("fill_right") {
        let (rest, (right, left)) = (opt(right()), opt(left())).parse(input)?;
        return Ok((rest, (left, right)));
    }
    (opt(left()), opt(right())).parse(input)
}

fn fill_value(input: Stream<'_>) -> Parsed<'_, f64> {
    let signed = |input| {
        let (rest, negative) = opt(sign).parse(input)?;
        let (rest, number) = literal(rest)?;
        let value = if negative == Some(true) {
            -number.value
        } else {
            number.value
        };
        Ok((rest, value))
    };
    delimited(punct("("), signed, punct(")")).parse(input)
}

fn unary(input: Stream<'_>) -> Parsed<'_, Expr> {
    let start = input.start();
    let (rest, negative) = match sign(input) {
        Ok(signed) => signed,
        Err(_) => {
            let (rest, operand) = primary(input)?;
            return selector::modified(rest, operand);
        }
    };
    let (rest, expr) = expression(POWER)(rest)?;
    let span = Span {
        start,
        end: expr.span.end,
    };
    let kind = match expr.kind {
        Kind::Number(n) => Kind::Number(Number {
            value: if negative { -n.value } else { n.value },
            ..n
        }),
        _ => Kind::Unary(Box::new(Unary { negative, expr })),
    };
    Ok((rest, Expr::new(kind, span)))
}

fn primary(input: Stream<'_>) -> Parsed<'_, Expr> {
    let called = input.is_punct(1, "(");
    match input.tok() {
        Tok::Punct("(") => parentheses(input),
        Tok::Name if called => call(input),
        Tok::Word(op) => match class_of(op) {
            Some(Class::Aggregator) if called => aggregate(input, op),
            Some(Class::Aggregator) if matches!(input.ahead(1).tok, Tok::Word("by" | "without")) => {
                aggregate(input, op)
            }
            Some(Class::OfTheQuery) if called => call(input),
            _ => selector::selector(input),
        },
        _ => leaf(input),
    }
}

fn leaf(input: Stream<'_>) -> Parsed<'_, Expr> {
    let kind = match input.tok() {
        Tok::Number(_) | Tok::Duration(_) => Kind::Number(literal(input)?.1),
        Tok::Text(bytes) => Kind::Text(bytes.clone()),
        _ => return selector::selector(input),
    };
    Ok((input.past(), Expr::new(kind, input.token().span)))
}

fn parentheses(input: Stream<'_>) -> Parsed<'_, Expr> {
    let (rest, inner) = expression(0)(input.past())?;
    let (rest, _) = punct(")")(rest)?;
    let span = rest.since(input.start());
    Ok((rest, Expr::new(Kind::Paren(Box::new(inner)), span)))
}

fn call(input: Stream<'_>) -> Parsed<'_, Expr> {
    let name = input.token();
    let (rest, args) = arguments(input.past())?;
    let Some(function) = function(name.text) else {
        let what = format!("unknown function with name {}", go_quoted(name.text.as_bytes()));
        return Err(Fault::said(name.span.start, what));
    };
    let call = Kind::Call(Box::new(Call { function, args }));
    Ok((rest, Expr::new(call, rest.since(name.span.start))))
}

fn arguments(input: Stream<'_>) -> Parsed<'_, Vec<Expr>> {
    let (mut rest, _) = punct("(")(input)?;
    let mut args = Vec::new();
    if rest.is_punct(0, ")") {
        return Ok((rest.past(), args));
    }
    loop {
        let (after, arg) = expression(0)(rest)?;
        args.push(arg);
        if !after.is_punct(0, ",") {
            let (rest, _) = punct(")")(after)?;
            return Ok((rest, args));
        }
        rest = after.past();
        if !starts_an_expression(&rest) {
            let what = "trailing commas not allowed in function call args";
            return Err(Fault::said(after.start(), what));
        }
    }
}

fn starts_an_expression(input: &Stream<'_>) -> bool {
    match input.tok() {
        Tok::End | Tok::Punct(")" | "}" | "[" | "]" | "," | ":") => false,
        Tok::Op(op) => matches!(*op, "+" | "-"),
        Tok::Word(word) => selector::may_name_a_metric(word),
        // Of a fault the lexer says what it is.
        _ => true,
    }
}

fn aggregate<'t>(input: Stream<'t>, op: &'static str) -> Parsed<'t, Expr> {
    let start = input.start();
    let (rest, (grouping, args)) = within(&AGGREGATION, aggregated)(input.past())?;
    let wanted = if takes_a_parameter(op) { 2 } else { 1 };
    if args.len() != wanted {
        let what = wrong_number(wanted, args.len());
        return Err(match grouping {
            Some(_) => Fault::said(start, what),
            None => Fault::said_before(rest, start, what),
        });
    }
    let aggregate = Aggregate {
        op,
        args,
        grouping: grouping.unwrap_or(Grouping::By(Vec::new())),
    };
    Ok((rest, Expr::new(Kind::Aggregate(Box::new(aggregate)), rest.since(start))))
}

/// Grouping and arguments, in either order.
fn aggregated(input: Stream<'_>) -> Parsed<'_, (Option<Grouping>, Vec<Expr>)> {
    let (rest, before) = grouping(input)?;
    let (rest, args) = arguments(rest)?;
    match before {
        Some(grouping) => Ok((rest, (Some(grouping), args))),
        None => {
            let (rest, after) = grouping(rest)?;
            Ok((rest, (after, args)))
        }
    }
}

fn wrong_number(wanted: usize, given: usize) -> String {
    match given {
        0 => "no arguments for aggregate expression provided".to_owned(),
        _ => format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {given}"),
    }
}

/// Whether an aggregation has an argument before the vector.
pub(crate) fn takes_a_parameter(op: &str) -> bool {
    matches!(
        op,
        "topk" | "bottomk" | "count_values" | "quantile" | "limitk" | "limit_ratio"
    )
}

fn grouping(input: Stream<'_>) -> Parsed<'_, Option<Grouping>> {
    let by = preceded(word("by"), cut(labels)).map(Grouping::By);
    let without = preceded(word("without"), cut(labels)).map(Grouping::Without);
    opt(nom::branch::alt((by, without))).parse(input)
}

/// `(a, b, "c.d",)`
fn labels(input: Stream<'_>) -> Parsed<'_, Vec<String>> {
    let (rest, _) = within(&GROUPING, punct("("))(input)?;
    listed(")", &LABEL, &NEXT_LABEL, label)(rest)
}

fn label(input: Stream<'_>) -> Parsed<'_, String> {
    let token = input.token();
    let name = match &token.tok {
        Tok::Name | Tok::MetricName => token.text.to_owned(),
        Tok::Word(word) if *word != "without" => token.text.to_owned(),
        Tok::Text(bytes) => match String::from_utf8(bytes.clone()) {
            Ok(name) if !name.is_empty() => name,
            _ => {
                let what = format!("invalid label name for grouping: {}", go_quoted(bytes));
                return Err(Fault::said(token.span.start, what));
            }
        },
        _ => return Err(input.unexpected()),
    };
    Ok((input.past(), name))
}
