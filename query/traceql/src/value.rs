//! Values while a query runs, and how they compare and calculate. Types are known only now: what does not fit together
//! never matches, neither with `=` nor with `!=`.

use std::borrow::Cow;

use model::{AttributeValue, KeyValue, SpanKind, StatusCode};

use crate::duration;
use crate::syntax::{ArithmeticOp, CompareOp, Literal, kind_text, status_text};

/// A value of a field of a span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// There is none.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Str(Cow<'a, str>),
    Status(StatusCode),
    Kind(SpanKind),
    List(Vec<Value<'a>>),
    /// Bytes or a map: it exists, and that is all.
    Opaque,
}

/// An expression has no value here (arithmetic on text, `!` of what is no truth): the span does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

impl<'a> Value<'a> {
    pub(crate) fn of(value: &'a AttributeValue) -> Value<'a> {
        match value {
            AttributeValue::Empty => Value::Nil,
            AttributeValue::Str(s) => Value::Str(Cow::Borrowed(s)),
            AttributeValue::Bool(b) => Value::Bool(*b),
            AttributeValue::Int(i) => Value::Int(*i),
            AttributeValue::Double(d) => Value::Float(*d),
            AttributeValue::Array(items) => Value::List(items.iter().map(Value::of).collect()),
            AttributeValue::Bytes(_) | AttributeValue::Map(_) => Value::Opaque,
        }
    }

    pub(crate) fn literal(literal: &Literal) -> Value<'static> {
        match literal {
            Literal::Nil => Value::Nil,
            Literal::Bool(b) => Value::Bool(*b),
            Literal::Int(i) => Value::Int(*i),
            Literal::Float(d) => Value::Float(*d),
            Literal::Duration(ns) => Value::Duration(*ns),
            Literal::Str(s) => Value::Str(Cow::Owned(s.clone())),
            Literal::Status(status) => Value::Status(*status),
            Literal::Kind(kind) => Value::Kind(*kind),
        }
    }

    /// The last attribute of that name, if it has a value.
    pub(crate) fn named(attributes: &'a [KeyValue], name: &str) -> Value<'a> {
        let found = attributes.iter().rev().find(|kv| kv.key == name);
        found.map_or(Value::Nil, |kv| Value::of(&kv.value))
    }

    /// Values of several places (events, links): none, the one, or a list.
    pub(crate) fn collected(values: impl Iterator<Item = Value<'a>>) -> Value<'a> {
        let mut found: Vec<Value<'a>> = Vec::new();
        for value in values {
            match value {
                Value::Nil => {}
                Value::List(items) => found.extend(items),
                one => found.push(one),
            }
        }
        match found.len() {
            0 => Value::Nil,
            1 => found.pop().unwrap_or(Value::Nil),
            _ => Value::List(found),
        }
    }

    pub(crate) fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Value::Nil => Value::Nil,
            Value::Bool(b) => Value::Bool(b),
            Value::Int(i) => Value::Int(i),
            Value::Float(d) => Value::Float(d),
            Value::Duration(ns) => Value::Duration(ns),
            Value::Str(s) => Value::Str(Cow::Owned(s.into_owned())),
            Value::Status(status) => Value::Status(status),
            Value::Kind(kind) => Value::Kind(kind),
            Value::List(items) => Value::List(items.into_iter().map(Value::into_owned).collect()),
            Value::Opaque => Value::Opaque,
        }
    }

    /// As answers carry it.
    pub(crate) fn to_attribute(&self) -> AttributeValue {
        match self {
            Value::Nil => "nil".into(),
            Value::Bool(b) => AttributeValue::Bool(*b),
            Value::Int(i) => AttributeValue::Int(*i),
            Value::Float(d) => AttributeValue::Double(*d),
            Value::Duration(ns) => AttributeValue::Str(duration::to_text(*ns)),
            Value::Str(s) => s.as_ref().into(),
            Value::Status(status) => status_text(*status).into(),
            Value::Kind(kind) => kind_text(*kind).into(),
            Value::List(items) => AttributeValue::Array(items.iter().map(Value::to_attribute).collect()),
            Value::Opaque => AttributeValue::Empty,
        }
    }

    /// Its text, for label sets.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Value::Str(s) => s.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(d) => d.to_string(),
            Value::Duration(ns) => duration::to_text(*ns),
            Value::Status(status) => status_text(*status).to_owned(),
            Value::Kind(kind) => kind_text(*kind).to_owned(),
            Value::Nil => "nil".to_owned(),
            Value::Opaque => String::new(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::to_text).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    /// Appends bytes that are equal exactly when the values are: keys of groups.
    pub(crate) fn put_key(&self, out: &mut Vec<u8>) {
        let mut fixed = |tag: u8, bits: u64| {
            out.push(tag);
            out.extend(bits.to_le_bytes());
        };
        match self {
            Value::Nil => out.push(0),
            Value::Opaque => out.push(1),
            Value::Bool(b) => fixed(2, u64::from(*b)),
            Value::Int(i) => fixed(3, *i as u64),
            Value::Float(d) => fixed(4, d.to_bits()),
            Value::Duration(ns) => fixed(5, *ns as u64),
            Value::Status(status) => fixed(6, *status as u64),
            Value::Kind(kind) => fixed(7, *kind as u64),
            Value::Str(s) => {
                fixed(8, s.len() as u64);
                out.extend(s.as_bytes());
            }
            Value::List(items) => {
                fixed(9, items.len() as u64);
                items.iter().for_each(|item| item.put_key(out));
            }
        }
    }

    /// A whole number, durations in nanoseconds.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(i) | Value::Duration(i) => Some(*i),
            _ => None,
        }
    }

    /// A number, durations in nanoseconds.
    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Value::Float(d) => Some(*d),
            _ => self.as_int().map(|i| i as f64),
        }
    }
}

fn holds<T: PartialOrd + ?Sized>(op: CompareOp, a: &T, b: &T) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

/// Whether a comparison holds. A list matches when any element does; with `!=`, when all do.
pub(crate) fn compare(op: CompareOp, left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::List(_), Value::List(_)) => false,
        (Value::List(items), one) if !one.is_nil() => over_list(op, items, one),
        (one, Value::List(items)) if !one.is_nil() => over_list(op.swapped(), items, one),
        (Value::Str(a), Value::Str(b)) => holds(op, a.as_bytes(), b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => holds_equal(op, a == b),
        (Value::Status(a), Value::Status(b)) => holds_equal(op, a == b),
        (Value::Kind(a), Value::Kind(b)) => holds_equal(op, a == b),
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => holds(op, &a, &b),
            _ => match (left.as_number(), right.as_number()) {
                (Some(a), Some(b)) => holds(op, &a, &b),
                _ => false,
            },
        },
    }
}

fn over_list(op: CompareOp, items: &[Value<'_>], one: &Value<'_>) -> bool {
    if op == CompareOp::Ne {
        items.iter().all(|item| compare(op, item, one))
    } else {
        items.iter().any(|item| compare(op, item, one))
    }
}

/// For types that have no order.
fn holds_equal(op: CompareOp, equal: bool) -> bool {
    match op {
        CompareOp::Eq => equal,
        CompareOp::Ne => !equal,
        _ => false,
    }
}

/// Whole numbers stay whole, durations stay durations, a fraction makes the result one.
pub(crate) fn calculate<'a>(op: ArithmeticOp, left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>, Mismatch> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        let whole = match op {
            ArithmeticOp::Add => a.wrapping_add(b),
            ArithmeticOp::Sub => a.wrapping_sub(b),
            ArithmeticOp::Mul => a.wrapping_mul(b),
            ArithmeticOp::Div | ArithmeticOp::Mod if b == 0 => return Err(Mismatch),
            ArithmeticOp::Div => a.wrapping_div(b),
            ArithmeticOp::Mod => a.wrapping_rem(b),
            ArithmeticOp::Pow => power(a, b),
        };
        let timed = matches!(left, Value::Duration(_)) || matches!(right, Value::Duration(_));
        return Ok(if timed {
            Value::Duration(whole)
        } else {
            Value::Int(whole)
        });
    }
    match (left.as_number(), right.as_number()) {
        (Some(a), Some(b)) => Ok(Value::Float(match op {
            ArithmeticOp::Add => a + b,
            ArithmeticOp::Sub => a - b,
            ArithmeticOp::Mul => a * b,
            ArithmeticOp::Div => a / b,
            ArithmeticOp::Mod => a % b,
            ArithmeticOp::Pow => a.powf(b),
        })),
        _ => Ok(Value::Nil),
    }
}

/// Exact where it fits, else the nearest whole number.
fn power(a: i64, b: i64) -> i64 {
    let exact = u32::try_from(b).ok().and_then(|b| a.checked_pow(b));
    exact.unwrap_or_else(|| (a as f64).powf(b as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use CompareOp::{Eq, Ge, Gt, Lt, Ne};

    #[test]
    fn values_compare_by_their_types() {
        let s = |s: &'static str| Value::Str(Cow::Borrowed(s));
        let list = |items: &[i64]| Value::List(items.iter().map(|i| Value::Int(*i)).collect());
        let cases = [
            (Value::Int(1), Eq, Value::Float(1.0), true),
            (Value::Duration(1), Eq, Value::Int(1), true),
            (Value::Int(i64::MAX), Gt, Value::Int(i64::MAX - 1), true),
            (s("123"), Eq, Value::Int(123), false),
            (s("123"), Ne, Value::Int(123), false),
            (s("b"), Gt, s("a"), true),
            (Value::Bool(true), Gt, Value::Bool(false), false),
            (Value::Nil, Eq, Value::Nil, false),
            (Value::Nil, Ne, s("a"), false),
            (list(&[1, 2]), Eq, Value::Int(2), true),
            (list(&[1, 2]), Ne, Value::Int(2), false),
            (list(&[1, 2]), Ne, Value::Int(3), true),
            (list(&[]), Ne, Value::Int(3), true),
            (list(&[]), Eq, Value::Int(3), false),
            (Value::Int(3), Ge, list(&[4, 3]), true),
            (Value::Int(3), Lt, list(&[2, 3]), false),
        ];
        for (left, op, right, want) in cases {
            assert_eq!(compare(op, &left, &right), want, "{left:?} {op} {right:?}");
        }
    }

    #[test]
    fn arithmetic_keeps_whole_numbers_whole() {
        use ArithmeticOp::{Div, Mod, Mul, Pow};
        let cases = [
            (Value::Int(1), Div, Value::Int(10), Ok(Value::Int(0))),
            (Value::Int(1), Div, Value::Float(10.0), Ok(Value::Float(0.1))),
            (Value::Int(1), Div, Value::Int(0), Err(Mismatch)),
            (Value::Int(1), Mod, Value::Int(0), Err(Mismatch)),
            (Value::Int(i64::MIN), Div, Value::Int(-1), Ok(Value::Int(i64::MIN))),
            (Value::Int(2), Pow, Value::Int(3), Ok(Value::Int(8))),
            (Value::Duration(2), Mul, Value::Int(3), Ok(Value::Duration(6))),
            (Value::Bool(true), Mul, Value::Int(3), Ok(Value::Nil)),
        ];
        for (left, op, right, want) in cases {
            assert_eq!(calculate(op, &left, &right), want, "{left:?} {op} {right:?}");
        }
    }
}
