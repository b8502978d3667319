//! The syntax tree: what a query says, with where it says it. Knows nothing of data.

use std::sync::Arc;

use model::Matcher;
use query_exec::{BinaryOp, Grouping, Matching};

use crate::functions::Function;
use crate::lex::Span;

/// An expression and where it stands in the text.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
    returns: Type,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Number(Number),
    /// A text; bytes, because an escape may make it anything.
    Text(Vec<u8>),
    Selector(Box<Selector>),
    Range(Box<Range>),
    Subquery(Box<Subquery>),
    Call(Box<Call>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
    Unary(Box<Unary>),
    Paren(Box<Expr>),
}

/// A number, and whether it was written as a duration (`1h30m` is 5400).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    pub(crate) value: f64,
    pub(crate) duration: bool,
}

/// `name{matchers} anchored offset d @ t`
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The name that stands before the braces or, alone and quoted, in them; also the last of the matchers.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) matchers: Arc<[Matcher]>,
    pub(crate) edges: Edges,
    pub(crate) shift: Shift,
}

/// What stands at the edges of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Edges {
    /// Nothing: only the samples inside count, and functions extrapolate.
    #[default]
    Plain,
    /// `anchored`: the sample at or before the left edge stands in for it.
    Anchored,
    /// `smoothed`: values are interpolated between the samples around an edge.
    Smoothed,
}

impl Edges {
    /// As it is written; empty for the plain ones.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Edges::Plain => "",
            Edges::Anchored => "anchored",
            Edges::Smoothed => "smoothed",
        }
    }

    /// How far before and after a window its edges look, ms.
    pub(crate) fn beyond(self, lookback: i64) -> (i64, i64) {
        match self {
            Edges::Plain => (0, 0),
            Edges::Anchored => (lookback, 0),
            Edges::Smoothed => (lookback, lookback),
        }
    }
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shift {
    pub(crate) offset: Option<Duration>,
    pub(crate) at: Option<At>,
}

/// `@ ...`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    /// A time, ms.
    Time(i64),
    Start,
    End,
}

/// `selector[range]`; the shift is the selector's.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) selector: Selector,
    pub(crate) range: Duration,
}

/// `expr[range:step] offset d @ t`
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) expr: Expr,
    pub(crate) range: Duration,
    pub(crate) step: Option<Duration>,
    pub(crate) shift: Shift,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) args: Vec<Expr>,
}

/// `op(param, expr) by (...)`
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub(crate) op: &'static str,
    pub(crate) args: Vec<Expr>,
    pub(crate) grouping: Grouping,
}

#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) return_bool: bool,
    pub(crate) matching: Matching,
    pub(crate) left: Expr,
    pub(crate) right: Expr,
}

impl Binary {
    /// How rows meet, if the operands have any.
    pub(crate) fn matched(&self) -> Option<&Matching> {
        let vectors = self.left.value_type() == Type::Vector && self.right.value_type() == Type::Vector;
        vectors.then_some(&self.matching)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Unary {
    pub(crate) negative: bool,
    pub(crate) expr: Expr,
}

/// A duration in seconds, known or to be computed from the query's step and range.
#[derive(Clone, Debug)]
pub(crate) struct Duration {
    pub(crate) expr: DurationExpr,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum DurationExpr {
    Seconds(Number),
    Step,
    Range,
    Negative(Box<Duration>),
    Binary(BinaryOp, Box<Duration>, Box<Duration>),
    Min(Box<Duration>, Box<Duration>),
    Max(Box<Duration>, Box<Duration>),
    Paren(Box<Duration>),
}

/// What an expression evaluates to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    Vector,
    Range,
    Text,
}

impl Type {
    /// As error messages call it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Type::Scalar => "scalar",
            Type::Vector => "instant vector",
            Type::Range => "range vector",
            Type::Text => "string",
        }
    }

    /// As syntax trees and some messages call it.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Type::Vector => "vector",
            Type::Range => "matrix",
            other => other.words(),
        }
    }
}

impl Expr {
    pub(crate) fn new(kind: Kind, span: Span) -> Expr {
        let returns = match &kind {
            Kind::Number(_) => Type::Scalar,
            Kind::Text(_) => Type::Text,
            Kind::Selector(_) | Kind::Aggregate(_) => Type::Vector,
            Kind::Range(_) | Kind::Subquery(_) => Type::Range,
            Kind::Call(call) => call.function.returns,
            Kind::Unary(unary) => unary.expr.returns,
            Kind::Paren(inner) => inner.returns,
            Kind::Binary(b) if b.left.returns == Type::Scalar && b.right.returns == Type::Scalar => Type::Scalar,
            Kind::Binary(_) => Type::Vector,
        };
        Expr { kind, span, returns }
    }

    /// What it evaluates to.
    pub(crate) fn value_type(&self) -> Type {
        self.returns
    }

    /// `offset` and `@` of the first selector in it.
    pub(crate) fn first_shift(&self) -> Option<&Shift> {
        let mut first = None;
        self.walk(&mut |expr| {
            let shift = match &expr.kind {
                Kind::Selector(s) => &s.shift,
                Kind::Range(r) => &r.selector.shift,
                _ => return,
            };
            first.get_or_insert(shift);
        });
        first
    }

    /// Puts `@ at` wherever there is none.
    pub(crate) fn pin(&mut self, at: i64) {
        let at_time = At::Time(at);
        match &mut self.kind {
            Kind::Number(_) | Kind::Text(_) => {}
            Kind::Selector(s) => {
                s.shift.at.get_or_insert(at_time);
            }
            Kind::Range(r) => {
                r.selector.shift.at.get_or_insert(at_time);
            }
            Kind::Subquery(s) => {
                s.shift.at.get_or_insert(at_time);
            }
            Kind::Call(c) => c.args.iter_mut().for_each(|a| a.pin(at)),
            Kind::Aggregate(a) => a.args.iter_mut().for_each(|a| a.pin(at)),
            Kind::Unary(u) => u.expr.pin(at),
            Kind::Paren(inner) => inner.pin(at),
            Kind::Binary(b) => {
                b.left.pin(at);
                b.right.pin(at);
            }
        }
    }

    /// Calls `see` for this expression and all below it.
    pub(crate) fn walk<'a>(&'a self, see: &mut impl FnMut(&'a Expr)) {
        see(self);
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Range(_) => {}
            Kind::Subquery(s) => s.expr.walk(see),
            Kind::Call(c) => c.args.iter().for_each(|a| a.walk(see)),
            Kind::Aggregate(a) => a.args.iter().for_each(|a| a.walk(see)),
            Kind::Unary(u) => u.expr.walk(see),
            Kind::Paren(inner) => inner.walk(see),
            Kind::Binary(b) => {
                b.left.walk(see);
                b.right.walk(see);
            }
        }
    }
}
