//! Types: what may stand where. Runs after parsing, so that faults of syntax are reported first; of several faults of type
//! the one is reported that Prometheus finds first, operands before what is made of them.

use model::{METRIC_NAME, Matcher};
use query_exec::Cardinality;

use crate::ParseError;
use crate::lex::Span;
use crate::parse::{fault, go_quoted, takes_a_parameter};
use crate::syntax::{Aggregate, Binary, Call, Expr, Kind, Selector, Type};

/// Checks an expression and everything below it.
pub(crate) fn check(text: &str, expr: &Expr) -> Result<(), ParseError> {
    // A chain of operators may be long: it is checked along, not down.
    let mut links = Vec::new();
    let mut first = expr;
    while let Kind::Binary(binary) = &first.kind {
        links.push((binary, first.span));
        first = &binary.left;
    }
    operand(text, first)?;
    for (link, span) in links.into_iter().rev() {
        check(text, &link.right)?;
        binary(text, link, span)?;
    }
    Ok(())
}

fn operand(text: &str, expr: &Expr) -> Result<(), ParseError> {
    let bad = |what: String| Err(fault(text, expr.span.start, what));
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => Ok(()),
        Kind::Paren(inner) => check(text, inner),
        Kind::Selector(s) => selector(text, s, expr.span, true),
        Kind::Range(r) => selector(text, &r.selector, expr.span, true),
        Kind::Subquery(s) => {
            check(text, &s.expr)?;
            match s.expr.value_type() {
                Type::Vector => Ok(()),
                other => bad(format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    other.short()
                )),
            }
        }
        Kind::Unary(u) => {
            check(text, &u.expr)?;
            match u.expr.value_type() {
                Type::Scalar | Type::Vector => Ok(()),
                other => bad(format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    other.words()
                )),
            }
        }
        Kind::Call(c) => call(text, c, expr.span),
        Kind::Aggregate(a) => aggregate(text, a),
        Kind::Binary(_) => check(text, expr),
    }
}

/// A selector has one name, and says what it wants: one matcher at least that the empty text does not pass.
fn selector(text: &str, selector: &Selector, span: Span, must_want: bool) -> Result<(), ParseError> {
    let Some(name) = &selector.name else {
        if must_want && selector.matchers.iter().all(Matcher::matches_empty) {
            let what = "vector selector must contain at least one non-empty matcher";
            return Err(fault(text, span.start, what));
        }
        return Ok(());
    };
    // The last matcher is the name's own.
    let others = selector.matchers.split_last().map_or(&[][..], |(_, others)| others);
    match others.iter().find(|m| m.name() == METRIC_NAME) {
        Some(twice) => {
            let (first, second) = (go_quoted(name.as_bytes()), go_quoted(twice.value().as_bytes()));
            let what = format!("metric name must not be set twice: {first} or {second}");
            Err(fault(text, span.start, what))
        }
        None => Ok(()),
    }
}

fn expect(text: &str, expr: &Expr, wanted: Type, context: &str) -> Result<(), ParseError> {
    check(text, expr)?;
    let found = expr.value_type();
    if found == wanted {
        return Ok(());
    }
    let what = format!("expected type {} in {context}, got {}", wanted.words(), found.words());
    Err(fault(text, expr.span.start, what))
}

fn call(text: &str, call: &Call, span: Span) -> Result<(), ParseError> {
    let function = call.function;
    let context = format!("call to function {:?}", function.name);
    let (given, declared) = (call.args.len(), function.args.len());
    let wrong = |how: &str, wanted: usize| {
        let what = format!(
            "expected {how}{wanted} argument(s) in call to {:?}, got {given}",
            function.name
        );
        Err(fault(text, span.start, what))
    };
    if function.variadic == 0 && given != declared {
        return wrong("", declared);
    }
    if function.variadic != 0 && given + 1 < declared {
        return wrong("at least ", declared - 1);
    }
    if let Ok(more @ 1..) = usize::try_from(function.variadic)
        && given + 1 > declared + more
    {
        return wrong("at most ", declared - 1 + more);
    }
    let labels = call.args.get(1).filter(|_| function.name == "info");
    if let Some(labels) = labels {
        let found = labels.value_type();
        if found != Type::Vector {
            let what = format!("expected type instant vector in {context}, got {}", found.words());
            return Err(fault(text, span.start, what));
        }
        let what = match &labels.kind {
            Kind::Selector(s) if s.name.is_none() => "",
            Kind::Selector(_) => "expected label selectors only, got vector selector instead",
            _ => "expected label selectors only",
        };
        if !what.is_empty() {
            return Err(fault(text, labels.span.start, what));
        }
    }
    let last = function.args.last().copied().unwrap_or(Type::Scalar);
    for (i, arg) in call.args.iter().enumerate() {
        // What `info` picks by may be anything at all.
        if labels.is_none() || i != 1 {
            let wanted = function.args.get(i).copied().unwrap_or(last);
            expect(text, arg, wanted, &context)?;
        }
    }
    Ok(())
}

fn aggregate(text: &str, aggregate: &Aggregate) -> Result<(), ParseError> {
    if let Some(vector) = aggregate.args.last() {
        expect(text, vector, Type::Vector, "aggregation expression")?;
    }
    match aggregate.args.first() {
        Some(parameter) if takes_a_parameter(aggregate.op) => {
            let wanted = if aggregate.op == "count_values" {
                Type::Text
            } else {
                Type::Scalar
            };
            expect(text, parameter, wanted, "aggregation parameter")
        }
        _ => Ok(()),
    }
}

/// Checks what is made of two operands that have been checked.
fn binary(text: &str, binary: &Binary, span: Span) -> Result<(), ParseError> {
    let bad = |at: usize, what: String| Err(fault(text, at, what));
    let start = span.start;
    // What stands first after the left side; that is the operator, but for a comment before it.
    let after = text.get(binary.left.span.end..).unwrap_or_default();
    let op_start = text.len() - after.trim_start_matches([' ', '\t', '\n', '\r']).len();
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    let (op, matching) = (binary.op, &binary.matching);
    if binary.return_bool && !op.is_comparison() {
        return bad(
            op_start,
            "bool modifier can only be used on comparison operators".to_owned(),
        );
    }
    if op.is_comparison() && !binary.return_bool && left == Type::Scalar && right == Type::Scalar {
        return bad(
            op_start,
            "comparisons between scalars must use BOOL modifier".to_owned(),
        );
    }
    if matching.on
        && let Some(twice) = (matching.labels.iter()).find(|l| matching.include.contains(l))
    {
        let twice = go_quoted(twice.as_bytes());
        return bad(
            op_start,
            format!("label {twice} must not occur in ON and GROUP clause at once"),
        );
    }
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, Type::Scalar | Type::Vector) {
            let what = "binary expression must contain only scalar and instant vector types";
            return bad(side.span.start, what.to_owned());
        }
    }
    let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
    if binary.matched().is_none() {
        if !matching.labels.is_empty() {
            return bad(start, "vector matching only allowed between instant vectors".to_owned());
        }
        if fills {
            let what = "filling in missing series only allowed between instant vectors";
            return bad(start, what.to_owned());
        }
        if op.is_set() {
            let op = op.as_str();
            return bad(
                start,
                format!("set operator \"{op}\" not allowed in binary scalar expression"),
            );
        }
    } else if op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            return bad(start, format!("no grouping allowed for \"{}\" operation", op.as_str()));
        }
        if fills {
            let what = "filling in missing series not allowed for set operators";
            return bad(start, what.to_owned());
        }
    }
    Ok(())
}
