//! What parses and yet makes no sense: static type errors, aggregates of constants, limits of metrics functions. Types of
//! attributes are known only at run time and go with everything.

use crate::ParseError;
use crate::plan::{constant, pattern};
use crate::syntax::{
    BinaryOp, Body, CompareOp, Expr, Field, Function, Intrinsic, Literal, Metrics, Operand, Pipeline, Rank, Scalar,
    Scope, Spansets, Stage, Tree,
};

/// Labels that `by (...)` of a metrics function may have.
const GROUP_BY_MAX: usize = 5;

/// Values that `compare()` may list per attribute.
const TOP_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    /// An attribute: any type at run time.
    Unknown,
    Nil,
    Bool,
    Number,
    Text,
    Status,
    Kind,
}

/// Refuses what makes no sense, and what is not supported.
pub(crate) fn check(tree: &Tree) -> Result<(), ParseError> {
    match &tree.body {
        Body::Spansets(pipeline) => check_pipeline(pipeline),
        Body::Metrics(metrics) => check_metrics(metrics),
    }
}

fn error<T>(message: String) -> Result<T, ParseError> {
    Err(ParseError { message })
}

/// Whether an error says that a query is fine but beyond what is supported.
pub(crate) fn is_unsupported(e: &ParseError) -> bool {
    e.message.ends_with(NOT_YET)
}

const NOT_YET: &str = "not yet supported";

fn check_pipeline(pipeline: &Pipeline) -> Result<(), ParseError> {
    pipeline.stages.iter().try_for_each(|stage| match stage {
        Stage::Spansets(spansets) => check_spansets(spansets),
        Stage::By(expr) => {
            type_of(expr)?;
            if !looks_at_span(expr) {
                return error(format!(
                    "grouping field expressions must reference the span: by({expr})"
                ));
            }
            Ok(())
        }
        Stage::Select(fields) => fields.iter().try_for_each(check_field),
        Stage::Coalesce => Ok(()),
        Stage::ScalarFilter(op, left, right) => {
            check_scalar(left)?;
            check_scalar(right)?;
            let simple = |a: &Scalar, b: &Scalar| matches!(a, Scalar::Aggregate(..)) && !b.is_aggregate();
            if !simple(left, right) && !simple(right, left) {
                return error(format!("scalar filter ({left} {op} {right}) {NOT_YET}"));
            }
            Ok(())
        }
    })
}

fn check_spansets(spansets: &Spansets) -> Result<(), ParseError> {
    match spansets {
        Spansets::Filter(expr) => check_filter(expr),
        Spansets::Group(pipeline) => check_pipeline(pipeline),
        Spansets::Combined(_, left, right) => {
            check_spansets(left)?;
            check_spansets(right)
        }
    }
}

pub(crate) fn check_filter(expr: &Expr) -> Result<(), ParseError> {
    match type_of(expr)? {
        Type::Bool | Type::Unknown => Ok(()),
        _ => error(format!(
            "span filter field expressions must resolve to a boolean: {{ {expr} }}"
        )),
    }
}

fn check_scalar(scalar: &Scalar) -> Result<(), ParseError> {
    match scalar {
        Scalar::Number(_) | Scalar::Aggregate(_, None) => Ok(()),
        Scalar::Aggregate(aggregate, Some(expr)) => {
            if !matches!(type_of(expr)?, Type::Number | Type::Unknown) {
                return error(format!(
                    "aggregate field expressions must resolve to a number type: {}({expr})",
                    aggregate.as_str()
                ));
            }
            if !looks_at_span(expr) {
                return error(format!(
                    "aggregate field expressions must reference the span: {}({expr})",
                    aggregate.as_str()
                ));
            }
            Ok(())
        }
        Scalar::Piped(pipeline, scalar) => {
            check_pipeline(pipeline)?;
            check_scalar(scalar)
        }
        Scalar::Arithmetic(_, left, right) => {
            check_scalar(left)?;
            check_scalar(right)
        }
    }
}

fn check_field(field: &Field) -> Result<(), ParseError> {
    match field {
        Field::Intrinsic(Intrinsic::Parent) => error(format!("intrinsic (parent) {NOT_YET}")),
        Field::Attribute { parent: true, .. } => error(format!("scope (parent.) {NOT_YET}")),
        _ => Ok(()),
    }
}

fn looks_at_span(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(_) => false,
        Expr::Field(_) => true,
        Expr::Neg(inner) | Expr::Not(inner) => looks_at_span(inner),
        Expr::Binary(_, left, right) => looks_at_span(left) || looks_at_span(right),
    }
}

fn type_of_field(field: &Field) -> Type {
    match field {
        Field::Attribute { .. } => Type::Unknown,
        Field::Intrinsic(intrinsic) => match intrinsic {
            Intrinsic::Status => Type::Status,
            Intrinsic::Kind => Type::Kind,
            Intrinsic::Duration
            | Intrinsic::TraceDuration
            | Intrinsic::EventTimeSinceStart
            | Intrinsic::ChildCount
            | Intrinsic::NestedSetLeft
            | Intrinsic::NestedSetRight
            | Intrinsic::NestedSetParent => Type::Number,
            Intrinsic::Parent => Type::Nil,
            _ => Type::Text,
        },
    }
}

fn type_of(expr: &Expr) -> Result<Type, ParseError> {
    match expr {
        Expr::Literal(literal) => Ok(match literal {
            Literal::Nil => Type::Nil,
            Literal::Bool(_) => Type::Bool,
            Literal::Int(_) | Literal::Float(_) | Literal::Duration(_) => Type::Number,
            Literal::Str(_) => Type::Text,
            Literal::Status(_) => Type::Status,
            Literal::Kind(_) => Type::Kind,
        }),
        Expr::Field(field) => {
            check_field(field)?;
            Ok(type_of_field(field))
        }
        Expr::Neg(inner) => match type_of(inner)? {
            Type::Number | Type::Unknown => Ok(Type::Number),
            _ => error(format!("illegal operation for the given type: {expr}")),
        },
        Expr::Not(inner) => match type_of(inner)? {
            Type::Bool | Type::Unknown => Ok(Type::Bool),
            _ => error(format!("illegal operation for the given type: {expr}")),
        },
        Expr::Binary(op, left, right) => type_of_binary(*op, left, right),
    }
}

fn type_of_binary(op: BinaryOp, left: &Expr, right: &Expr) -> Result<Type, ParseError> {
    let (l, r) = (type_of(left)?, type_of(right)?);
    let fits = l == r || [l, r].contains(&Type::Unknown) || [l, r].contains(&Type::Nil);
    let illegal = || error(format!("illegal operation for the given types: {left} {op} {right}"));
    if !fits {
        return error(format!(
            "binary operations must operate on the same type: {left} {op} {right}"
        ));
    }
    let both = |good: &[Type]| good.contains(&l) && good.contains(&r);
    match op {
        BinaryOp::And | BinaryOp::Or if both(&[Type::Bool, Type::Unknown]) => Ok(Type::Bool),
        BinaryOp::Arithmetic(_) if both(&[Type::Number, Type::Unknown]) => {
            // Of an attribute and a number the result is a number or nothing.
            Ok(if l == Type::Unknown && r == Type::Unknown {
                Type::Unknown
            } else {
                Type::Number
            })
        }
        BinaryOp::Compare(CompareOp::Eq) => {
            let nil = |a: Type, b: &Expr| a == Type::Nil && always_there(b);
            if nil(l, right) || nil(r, left) {
                return error(format!("{left} {op} {right}: it always has a value"));
            }
            Ok(Type::Bool)
        }
        BinaryOp::Compare(CompareOp::Ne) => Ok(Type::Bool),
        BinaryOp::Compare(_) if both(&[Type::Number, Type::Text, Type::Unknown]) => Ok(Type::Bool),
        BinaryOp::Matches | BinaryOp::MatchesNot => {
            let Expr::Literal(Literal::Str(text)) = right else {
                return illegal();
            };
            match pattern(text) {
                Ok(_) if both(&[Type::Text, Type::Unknown]) => Ok(Type::Bool),
                Ok(_) => illegal(),
                Err(e) => error(format!("invalid regex {text:?}: {e}")),
            }
        }
        _ => illegal(),
    }
}

/// Whether a comparison with `= nil` would make no sense.
fn always_there(expr: &Expr) -> bool {
    match expr {
        Expr::Field(Field::Intrinsic(_)) => true,
        Expr::Field(Field::Attribute { scope, name, .. }) => *scope == Scope::Resource && name == "service.name",
        _ => false,
    }
}

fn check_metrics(metrics: &Metrics) -> Result<(), ParseError> {
    match metrics {
        Metrics::Function(pipeline, function, by) => {
            check_pipeline(pipeline)?;
            by.iter().try_for_each(check_field)?;
            check_function(function)?;
            let max = match function {
                Function::Quantile(..) | Function::Histogram(_) => GROUP_BY_MAX - 1,
                _ => GROUP_BY_MAX,
            };
            if by.len() > max {
                return error(format!("metrics group by {} values {NOT_YET}", by.len()));
            }
            Ok(())
        }
        Metrics::Rank(rank, inner) => {
            check_not_compare(inner)?;
            if matches!(rank, Rank::Top(0) | Rank::Bottom(0)) {
                return error("topk and bottomk need a limit greater than 0".to_owned());
            }
            check_metrics(inner)
        }
        Metrics::Filter(_, inner, value) => {
            check_not_compare(inner)?;
            check_constant(value)?;
            check_metrics(inner)
        }
        Metrics::Math(_, left, right) => [left, right].into_iter().try_for_each(|side| match &**side {
            Operand::Series(metrics) => {
                check_not_compare(metrics)?;
                check_metrics(metrics)
            }
            Operand::Number(scalar) => check_constant(scalar),
        }),
    }
}

fn check_constant(scalar: &Scalar) -> Result<(), ParseError> {
    match constant(scalar) {
        Some(_) => Ok(()),
        None => error(format!("{scalar}: not a number")),
    }
}

fn check_not_compare(metrics: &Metrics) -> Result<(), ParseError> {
    match metrics {
        Metrics::Function(_, Function::Compare { .. }, _) => {
            error("compare() cannot be followed by another operation".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_function(function: &Function) -> Result<(), ParseError> {
    match function {
        Function::Rate | Function::CountOverTime => Ok(()),
        Function::OverTime(_, field) | Function::Histogram(field) => check_field(field),
        Function::Quantile(field, quantiles) => {
            if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                return error(format!("quantile must be between 0 and 1: {q}"));
            }
            check_field(field)
        }
        Function::Compare {
            selection,
            top,
            between,
        } => {
            check_filter(selection)?;
            if top.is_some_and(|top| !(1..=TOP_MAX).contains(&top)) {
                return error(format!(
                    "compare() top number of values must be between 1 and {TOP_MAX}"
                ));
            }
            if between.is_some_and(|(start, end)| end <= start) {
                return error("compare() end must be after its start".to_owned());
            }
            Ok(())
        }
    }
}
