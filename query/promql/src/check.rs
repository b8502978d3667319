//! Types: what may stand where. Runs after parsing, so that faults of syntax are reported first.

use model::Matcher;
use query_exec::{BinaryOp, Cardinality};

use crate::ParseError;
use crate::lex::Span;
use crate::parse::fault;
use crate::syntax::{Aggregate, Binary, Call, Duration, Expr, Kind, Selector, Type};

/// Checks an expression and everything below it.
pub(crate) fn check(text: &str, expr: &Expr) -> Result<(), ParseError> {
    let mut first = Ok(());
    let mut of_info = None;
    expr.walk(&mut |expr| {
        if let Kind::Call(call) = &expr.kind
            && call.function.name == "info"
        {
            // What `info` picks by may be anything at all.
            of_info = call.args.get(1).map(|labels| labels.span);
        }
        let exempt = of_info == Some(expr.span) && matches!(expr.kind, Kind::Selector(_));
        if first.is_ok() && !exempt {
            first = one(text, expr);
        }
    });
    first
}

fn one(text: &str, expr: &Expr) -> Result<(), ParseError> {
    let bad = |what: String| Err(fault(text, expr.span.start, what));
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) | Kind::Paren(_) => Ok(()),
        Kind::Selector(s) => selector(text, s, expr.span),
        Kind::Range(r) => {
            positive(text, &r.range)?;
            selector(text, &r.selector, expr.span)
        }
        Kind::Subquery(s) => {
            positive(text, &s.range)?;
            if let Some(step) = &s.step {
                positive(text, step)?;
            }
            match s.expr.value_type() {
                Type::Vector => Ok(()),
                other => bad(format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    other.words()
                )),
            }
        }
        Kind::Unary(u) => match u.expr.value_type() {
            Type::Scalar | Type::Vector => Ok(()),
            other => bad(format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                other.words()
            )),
        },
        Kind::Call(c) => call(text, c, expr.span),
        Kind::Aggregate(a) => aggregate(text, a, expr.span),
        Kind::Binary(b) => binary(text, b),
    }
}

/// A selector must say what it wants: one matcher at least that the empty text does not pass.
pub(crate) fn selector(text: &str, selector: &Selector, span: Span) -> Result<(), ParseError> {
    if selector.matchers.iter().all(Matcher::matches_empty) {
        let what = "vector selector must contain at least one non-empty matcher";
        return Err(fault(text, span.start, what));
    }
    Ok(())
}

fn positive(text: &str, duration: &Duration) -> Result<(), ParseError> {
    match duration.constant_ms() {
        Some(Ok(ms)) if ms <= 0 => Err(fault(text, duration.span.start, "duration must be greater than 0")),
        Some(Err(what)) => Err(fault(text, duration.span.start, what)),
        _ => Ok(()),
    }
}

fn expect(text: &str, expr: &Expr, wanted: Type, context: &str) -> Result<(), ParseError> {
    let found = expr.value_type();
    if found == wanted {
        return Ok(());
    }
    let what = format!("expected type {} in {context}, got {}", wanted.words(), found.words());
    Err(fault(text, expr.span.start, what))
}

fn call(text: &str, call: &Call, span: Span) -> Result<(), ParseError> {
    let function = call.function;
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
    if function.variadic > 0 && given + 1 > declared + function.variadic as usize {
        return wrong("at most ", declared - 1 + function.variadic as usize);
    }
    if function.name == "info"
        && let Some(labels) = call.args.get(1)
    {
        match &labels.kind {
            Kind::Selector(s) if s.name.is_none() => {}
            Kind::Selector(_) => {
                let what = "expected label selectors only, got vector selector instead";
                return Err(fault(text, labels.span.start, what));
            }
            _ => return Err(fault(text, labels.span.start, "expected label selectors only")),
        }
    }
    let types = function.args.iter().chain(std::iter::repeat_n(
        function.args.last().unwrap_or(&Type::Scalar),
        given.saturating_sub(declared),
    ));
    for (arg, wanted) in call.args.iter().zip(types) {
        expect(text, arg, *wanted, &format!("call to function {:?}", function.name))?;
    }
    Ok(())
}

fn aggregate(text: &str, aggregate: &Aggregate, span: Span) -> Result<(), ParseError> {
    let parameter = match aggregate.op {
        "topk" | "bottomk" | "quantile" | "limitk" | "limit_ratio" => Some(Type::Scalar),
        "count_values" => Some(Type::Text),
        _ => None,
    };
    let wanted = 1 + usize::from(parameter.is_some());
    let given = aggregate.args.len();
    if given == 0 {
        return Err(fault(
            text,
            span.start,
            "no arguments for aggregate expression provided",
        ));
    }
    if given != wanted {
        let what =
            format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {given}");
        return Err(fault(text, span.start, what));
    }
    expect(
        text,
        &aggregate.args[wanted - 1],
        Type::Vector,
        "aggregation expression",
    )?;
    match parameter {
        Some(parameter) => expect(text, &aggregate.args[0], parameter, "aggregation parameter"),
        None => Ok(()),
    }
}

fn binary(text: &str, binary: &Binary) -> Result<(), ParseError> {
    let bad = |what: String| Err(fault(text, binary.op_span.start, what));
    let (left, right) = (binary.left.value_type(), binary.right.value_type());
    let op = binary.op;
    if binary.return_bool && !op.is_comparison() {
        return bad("bool modifier can only be used on comparison operators".to_owned());
    }
    if op.is_comparison() && !binary.return_bool && left == Type::Scalar && right == Type::Scalar {
        return bad("comparisons between scalars must use BOOL modifier".to_owned());
    }
    if op.is_set() && binary.matching.cardinality != Cardinality::ManyToMany {
        return bad(format!("no grouping allowed for {:?} operation", op.as_str()));
    }
    if binary.matching.on
        && let Some(twice) = (binary.matching.labels.iter()).find(|l| binary.matching.include.contains(l))
    {
        return bad(format!("label {twice:?} must not occur in ON and GROUP clause at once"));
    }
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, Type::Scalar | Type::Vector) {
            let what = "binary expression must contain only scalar and instant vector types";
            return Err(fault(text, side.span.start, what));
        }
    }
    if left == Type::Vector && right == Type::Vector {
        return Ok(());
    }
    if binary.explicit {
        return bad("vector matching only allowed between instant vectors".to_owned());
    }
    if matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) {
        return bad(format!(
            "set operator {:?} not allowed in binary scalar expression",
            op.as_str()
        ));
    }
    Ok(())
}
