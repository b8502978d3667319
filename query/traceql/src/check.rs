//! What parses and yet makes no sense: static type errors, aggregates of constants, limits of metrics functions. Types of
//! attributes are known only at run time and go with everything.

use crate::ParseError;
use crate::plan::{constant, pattern};
use crate::spelled::Spelled;
use crate::syntax::{
    BinaryOp, Body, CompareOp, Expr, Field, Function, Intrinsic, Literal, Metrics, Operand, OverTime, Pipeline, Rank,
    Scalar, Scope, Spansets, Stage, Tree,
};

/// Labels that `by (...)` of a metrics function may have.
const GROUP_BY_MAX: usize = 5;

/// Values that `compare()` may list per attribute.
const TOP_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
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
            if !looks_at_span(expr) {
                return error(format!(
                    "grouping field expressions must reference the span: by({})",
                    Spelled(expr)
                ));
            }
            type_of(expr).map(|_| ())
        }
        Stage::Select(fields) => fields.iter().try_for_each(check_field),
        Stage::Coalesce => Ok(()),
        Stage::ScalarFilter(op, left, right) => {
            check_scalar(left)?;
            check_scalar(right)?;
            let (l, r) = (type_of_scalar(left), type_of_scalar(right));
            if l != r && ![l, r].contains(&Type::Unknown) {
                return error(format!(
                    "binary operations must operate on the same type: {left} {op} {right}"
                ));
            }
            // What Tempo says of these names no more than the side.
            if !matches!(left, Scalar::Aggregate(..)) {
                return error(format!("scalar filter lhs of type (%v) {NOT_YET}"));
            }
            if right.is_aggregate() {
                return error(format!("scalar filter rhs of type (%v) {NOT_YET}"));
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
            "span filter field expressions must resolve to a boolean: {{ {} }}",
            Spelled(expr)
        )),
    }
}

fn check_scalar(scalar: &Scalar) -> Result<(), ParseError> {
    match scalar {
        Scalar::Number(_) | Scalar::Aggregate(_, None) => Ok(()),
        Scalar::Aggregate(aggregate, Some(expr)) => {
            if !matches!(type_of(expr)?, Type::Number | Type::Unknown) {
                return error(format!(
                    "aggregate field expressions must resolve to a number type: {}({})",
                    aggregate.as_str(),
                    Spelled(expr)
                ));
            }
            if !looks_at_span(expr) {
                return error(format!(
                    "aggregate field expressions must reference the span: {}({})",
                    aggregate.as_str(),
                    Spelled(expr)
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
        Field::Attribute { parent: true, .. } => error(format!("parent {NOT_YET}")),
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
            // These are what they are, but Tempo learns it only when it sees them.
            Intrinsic::InstrumentationName | Intrinsic::InstrumentationVersion => Type::Unknown,
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
            _ => error(format!("illegal operation for the given type: {}", Spelled(expr))),
        },
        Expr::Not(inner) => match type_of(inner)? {
            Type::Bool | Type::Unknown => Ok(Type::Bool),
            _ => error(format!("illegal operation for the given type: {}", Spelled(expr))),
        },
        Expr::Binary(op, left, right) => type_of_binary(*op, left, right),
    }
}

/// The type of an expression of literals that fit together; `None` for any other.
pub(crate) fn type_of_literals(expr: &Expr) -> Option<Type> {
    match expr {
        Expr::Literal(_) => type_of(expr).ok(),
        Expr::Field(_) => None,
        Expr::Neg(inner) => type_of_literals(inner).filter(|t| *t == Type::Number),
        Expr::Not(inner) => type_of_literals(inner).filter(|t| *t == Type::Bool),
        Expr::Binary(op, left, right) => {
            let both = type_of_literals(left).filter(|l| type_of_literals(right) == Some(*l))?;
            let (good, result): (&[Type], Type) = match op {
                BinaryOp::And | BinaryOp::Or => (&[Type::Bool], Type::Bool),
                BinaryOp::Arithmetic(_) => (&[Type::Number], Type::Number),
                BinaryOp::Compare(CompareOp::Eq | CompareOp::Ne) => return Some(Type::Bool),
                BinaryOp::Compare(_) => (&[Type::Number, Type::Text], Type::Bool),
                BinaryOp::Matches | BinaryOp::MatchesNot => return None,
            };
            good.contains(&both).then_some(result)
        }
    }
}

fn type_of_binary(op: BinaryOp, left: &Expr, right: &Expr) -> Result<Type, ParseError> {
    if let BinaryOp::Compare(op) = op {
        let nil = Expr::Literal(Literal::Nil);
        if let Some(one) = [(left, right), (right, left)]
            .iter()
            .find(|(_, b)| **b == nil)
            .map(|(a, _)| a)
        {
            type_of(one)?;
            if op == CompareOp::Eq
                && let Some(what) = always_there(one)
            {
                return error(format!(
                    "{}=nil is not valid because {what} cannot be nil",
                    Spelled(one)
                ));
            }
            return Ok(Type::Bool);
        }
    }
    let (l, r) = (type_of(left)?, type_of(right)?);
    let whole = || Expr::Binary(op, Box::new(left.clone()), Box::new(right.clone()));
    let fits = l == r || [l, r].contains(&Type::Unknown) || [l, r].contains(&Type::Nil);
    if !fits {
        return error(format!(
            "binary operations must operate on the same type: {}",
            Spelled(&whole())
        ));
    }
    let both = |good: &[Type]| good.contains(&l) && good.contains(&r);
    match op {
        BinaryOp::And | BinaryOp::Or if both(&[Type::Bool, Type::Unknown]) => Ok(Type::Bool),
        // Of an attribute and a number the result is a number or nothing.
        BinaryOp::Arithmetic(_) if both(&[Type::Number, Type::Unknown]) => Ok(if l == Type::Unknown { r } else { l }),
        BinaryOp::Compare(CompareOp::Eq | CompareOp::Ne) => Ok(Type::Bool),
        BinaryOp::Compare(_) if both(&[Type::Number, Type::Text, Type::Unknown]) => Ok(Type::Bool),
        BinaryOp::Matches | BinaryOp::MatchesNot if both(&[Type::Text, Type::Unknown]) => match right {
            Expr::Literal(Literal::Str(text)) if pattern(text).is_ok() => Ok(Type::Bool),
            Expr::Literal(Literal::Str(_)) => error(format!("invalid regex: {}", Spelled(right))),
            _ => error(format!("invalid type for =~ or !~: {}", Spelled(right))),
        },
        _ => error(format!("illegal operation for the given types: {}", Spelled(&whole()))),
    }
}

/// Why a comparison with `= nil` makes no sense, in Tempo's words.
fn always_there(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::Field(Field::Intrinsic(_)) => Some("intrinsics"),
        Expr::Field(Field::Attribute { scope, name, .. }) if *scope == Scope::Resource && name == "service.name" => {
            Some("resource.service.name")
        }
        _ => None,
    }
}

/// The type of a scalar, as far as its fields tell.
fn type_of_scalar(scalar: &Scalar) -> Type {
    match scalar {
        Scalar::Number(_) | Scalar::Aggregate(_, None) => Type::Number,
        Scalar::Aggregate(_, Some(expr)) => type_of(expr).unwrap_or(Type::Unknown),
        Scalar::Piped(_, scalar) => type_of_scalar(scalar),
        Scalar::Arithmetic(_, left, right) => match type_of_scalar(left) {
            Type::Unknown => type_of_scalar(right),
            known => known,
        },
    }
}

fn check_metrics(metrics: &Metrics) -> Result<(), ParseError> {
    match metrics {
        Metrics::Function(pipeline, function, by) => {
            check_pipeline(pipeline)?;
            // These need a label of their own, and what averages are made of one, too.
            let max = match function {
                Function::Quantile(..) | Function::Histogram(_) | Function::OverTime(OverTime::Avg, _) => {
                    GROUP_BY_MAX - 1
                }
                _ => GROUP_BY_MAX,
            };
            if by.len() > max {
                return error(format!("metrics group by {} values {NOT_YET}", by.len()));
            }
            check_function(function)
        }
        Metrics::Rank(rank, inner) => {
            check_not_compare(inner)?;
            if matches!(rank, Rank::Top(0) | Rank::Bottom(0)) {
                return error("limit must be greater than 0".to_owned());
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
            error("`compare()` cannot be used with second stage functions".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_function(function: &Function) -> Result<(), ParseError> {
    match function {
        Function::Rate | Function::CountOverTime | Function::OverTime(..) | Function::Histogram(_) => Ok(()),
        Function::Quantile(_, quantiles) => match quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            Some(q) => error(format!("quantile must be between 0 and 1: {q}")),
            None => Ok(()),
        },
        Function::Compare {
            selection,
            top,
            between,
        } => {
            check_filter(selection)?;
            if top.is_some_and(|top| !(1..=TOP_MAX).contains(&top)) {
                return error(format!(
                    "compare() top number of values must be an integer between 1 and {TOP_MAX}"
                ));
            }
            match between {
                None | Some((0, 0)) => {}
                Some((start, end)) if *start <= 0 || *end <= 0 => {
                    return error("compare() timestamps must be positive integer unix nanoseconds".to_owned());
                }
                Some((start, end)) if end <= start => {
                    return error("compare() end timestamp must be greater than start timestamp".to_owned());
                }
                Some(_) => {}
            }
            Ok(())
        }
    }
}
