//! Expressions as Tempo spells them: where the parts of an operation are operations themselves they stand in parentheses,
//! and texts in backticks. Refusals show them so, and so are `by(...)` and aggregates named in answers.

use std::fmt;

use crate::check::type_of_literals;
use crate::plan::{Node, node};
use crate::syntax::{BinaryOp, CompareOp, Expr, Literal};
use crate::value::Value;

/// Displays an expression.
pub(crate) struct Spelled<'a>(pub(crate) &'a Expr);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = constant(self.0) {
            return f.write_str(&value);
        }
        match self.0 {
            Expr::Literal(Literal::Str(s)) => write!(f, "`{s}`"),
            Expr::Literal(Literal::Int(i)) => write!(f, "{i}"),
            Expr::Literal(Literal::Float(d)) => f.write_str(&float_text(*d)),
            Expr::Literal(literal) => write!(f, "{literal}"),
            Expr::Field(field) => write!(f, "{field}"),
            Expr::Neg(inner) => write!(f, "-{}", Part(inner)),
            Expr::Not(inner) => write!(f, "!{}", Part(inner)),
            Expr::Binary(op @ BinaryOp::Compare(CompareOp::Eq | CompareOp::Ne), left, right) => {
                match (&**left, &**right) {
                    (one, Expr::Literal(Literal::Nil)) | (Expr::Literal(Literal::Nil), one) => {
                        write!(f, "{} {op} nil", Part(one))
                    }
                    _ => write!(f, "{} {op} {}", Part(left), Part(right)),
                }
            }
            Expr::Binary(op, left, right) => write!(f, "{} {op} {}", Part(left), Part(right)),
        }
    }
}

struct Part<'a>(&'a Expr);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            leaf @ (Expr::Literal(_) | Expr::Field(_)) => Spelled(leaf).fmt(f),
            other if constant(other).is_some() => Spelled(other).fmt(f),
            other => write!(f, "({})", Spelled(other)),
        }
    }
}

/// What an operation on nothing but literals comes to.
fn constant(expr: &Expr) -> Option<String> {
    if matches!(expr, Expr::Literal(_)) || type_of_literals(expr).is_none() {
        return None;
    }
    match node(expr) {
        Node::Constant(Value::Str(s)) => Some(format!("`{s}`")),
        Node::Constant(Value::Float(d)) => Some(float_text(d)),
        Node::Constant(value) => Some(value.to_text()),
        _ => None,
    }
}

/// The shortest text of a float that reads back; with an exponent where it is far from 1, as Go's `%g` has it.
pub fn float_text(d: f64) -> String {
    if d.is_infinite() {
        return if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{d:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    if exponent.parse().is_ok_and(|e: i32| (-4..6).contains(&e)) {
        return format!("{d:?}");
    }
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::syntax::{Body, Spansets, Stage};

    #[test]
    fn parts_stand_in_parentheses() {
        let check = |text: &str, want: &str| {
            let tree = parse(&format!("{{ {text} }}")).unwrap();
            let Body::Spansets(pipeline) = &tree.body else { panic!() };
            let Stage::Spansets(Spansets::Filter(expr)) = &pipeline.stages[0] else {
                panic!()
            };
            assert_eq!(Spelled(expr).to_string(), want);
        };
        check("1 + .a * 2 = -span.b", "(1 + (.a * 2)) = (-span.b)");
        check("nil != .a && name = \"x\"", "(.a != nil) && (name = `x`)");
        check("!(.a || .b)", "!(.a || .b)");
        check(".a = 1e30", ".a = 1e+30");
        check(".a = 2.0", ".a = 2.0");
        check(".a = 1000000.0", ".a = 1e+06");
        check(".a = 999999.9999999999", ".a = 999999.9999999999");
        check(".a = -0.00001", ".a = -1e-05");
        check("1 + 1", "2");
        check("true > false", "true > false");
        check(".a > (2 * 3) - span.b", ".a > (6 - span.b)");
    }

    #[test]
    fn floats_beyond_all_numbers_have_texts() {
        let texts = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(float_text);
        assert_eq!(texts, ["+Inf", "-Inf", "NaN"]);
    }
}
