//! The syntax tree of the whole language, and its canonical text.
//!
//! A query is a pipeline of stages over spansets, or a metrics expression over such pipelines. Inside braces and function
//! arguments stand field expressions. What [`Display`](fmt::Display) prints parses into the same tree.

use std::fmt::{self, Write};

use model::{SpanKind, StatusCode};

use crate::duration;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) body: Body,
    pub(crate) hints: Vec<(String, Literal)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Spansets(Pipeline),
    Metrics(Metrics),
}

/// Stages, separated by `|`.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Pipeline {
    pub(crate) stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    Spansets(Spansets),
    ScalarFilter(CompareOp, Scalar, Scalar),
    By(Expr),
    Coalesce,
    Select(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Spansets {
    Filter(Expr),
    Combined(SpansetOp, Box<Spansets>, Box<Spansets>),
    /// A pipeline of several stages, or of one that is no spanset, in parentheses.
    Group(Pipeline),
}

/// A number of a spanset.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Number(Literal),
    Aggregate(Aggregate, Option<Expr>),
    /// `({...} | count())`
    Piped(Pipeline, Box<Scalar>),
    Arithmetic(ArithmeticOp, Box<Scalar>, Box<Scalar>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Metrics {
    Function(Pipeline, Function, Vec<Field>),
    Rank(Rank, Box<Metrics>),
    Filter(CompareOp, Box<Metrics>, Scalar),
    Math(ArithmeticOp, Box<Operand>, Box<Operand>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Series(Metrics),
    Number(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    Top(u32),
    Bottom(u32),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Function {
    Rate,
    CountOverTime,
    OverTime(OverTime, Field),
    Quantile(Field, Vec<f64>),
    Histogram(Field),
    Compare {
        selection: Expr,
        top: Option<i64>,
        between: Option<(i64, i64)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverTime {
    Min,
    Max,
    Sum,
    Avg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Count,
    Min,
    Max,
    Sum,
    Avg,
}

/// An expression over one span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Literal(Literal),
    Field(Field),
    Neg(Box<Expr>),
    Not(Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    And,
    Or,
    Compare(CompareOp),
    Matches,
    MatchesNot,
    Arithmetic(ArithmeticOp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArithmeticOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// How two spansets are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpansetOp {
    And,
    Or,
    Related(Relation, Kept),
}

/// What a span of the right side is to one of the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Child,
    Parent,
    Descendant,
    Ancestor,
    Sibling,
}

/// Which spans a structural operator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Those of the right side that have the relation.
    Right,
    /// Those of the right side that do not.
    RightWithout,
    /// Those of both sides that have it.
    Both,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Str(String),
    Status(StatusCode),
    Kind(SpanKind),
}

/// What is looked at on a span.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Field {
    Intrinsic(Intrinsic),
    Attribute { parent: bool, scope: Scope, name: String },
}

/// The scope that a name was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    None,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Intrinsic {
    Name,
    Status,
    StatusMessage,
    Kind,
    Duration,
    SpanId,
    ParentId,
    ChildCount,
    TraceId,
    TraceDuration,
    RootName,
    RootService,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    Parent,
}

/// (intrinsic, scoped name, short name); an empty name does not exist.
const INTRINSICS: [(Intrinsic, &str, &str); 22] = [
    (Intrinsic::Name, "span:name", "name"),
    (Intrinsic::Status, "span:status", "status"),
    (Intrinsic::StatusMessage, "span:statusMessage", "statusMessage"),
    (Intrinsic::Kind, "span:kind", "kind"),
    (Intrinsic::Duration, "span:duration", "duration"),
    (Intrinsic::SpanId, "span:id", ""),
    (Intrinsic::ParentId, "span:parentID", ""),
    (Intrinsic::ChildCount, "span:childCount", ""),
    (Intrinsic::TraceId, "trace:id", ""),
    (Intrinsic::TraceDuration, "trace:duration", "traceDuration"),
    (Intrinsic::RootName, "trace:rootName", "rootName"),
    (Intrinsic::RootService, "trace:rootService", "rootServiceName"),
    (Intrinsic::EventName, "event:name", ""),
    (Intrinsic::EventTimeSinceStart, "event:timeSinceStart", ""),
    (Intrinsic::LinkTraceId, "link:traceID", ""),
    (Intrinsic::LinkSpanId, "link:spanID", ""),
    (Intrinsic::InstrumentationName, "instrumentation:name", ""),
    (Intrinsic::InstrumentationVersion, "instrumentation:version", ""),
    (Intrinsic::NestedSetLeft, "", "nestedSetLeft"),
    (Intrinsic::NestedSetRight, "", "nestedSetRight"),
    (Intrinsic::NestedSetParent, "", "nestedSetParent"),
    (Intrinsic::Parent, "", "parent"),
];

impl Intrinsic {
    /// By either spelling.
    pub(crate) fn named(text: &str) -> Option<Intrinsic> {
        let found = INTRINSICS
            .iter()
            .find(|(_, scoped, short)| !text.is_empty() && (*scoped == text || *short == text));
        found.map(|(intrinsic, ..)| *intrinsic)
    }

    /// The short spelling where there is one: what labels and attributes of answers are called.
    pub(crate) fn short(self) -> &'static str {
        self.row()
            .map_or("", |(_, scoped, short)| if short.is_empty() { scoped } else { short })
    }

    /// The spelling with its scope where there is one.
    pub(crate) fn scoped(self) -> &'static str {
        self.row()
            .map_or("", |(_, scoped, short)| if scoped.is_empty() { short } else { scoped })
    }

    fn row(self) -> Option<&'static (Intrinsic, &'static str, &'static str)> {
        INTRINSICS.iter().find(|(intrinsic, ..)| *intrinsic == self)
    }
}

impl Field {
    /// The name without its scope: the key of an attribute in search results.
    pub(crate) fn bare(&self) -> &str {
        match self {
            Field::Intrinsic(intrinsic) => intrinsic.short(),
            Field::Attribute { name, .. } => name,
        }
    }
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scope::None => "",
            Scope::Span => "span",
            Scope::Resource => "resource",
            Scope::Event => "event",
            Scope::Link => "link",
            Scope::Instrumentation => "instrumentation",
        }
    }
}

impl CompareOp {
    /// What the operator is when its sides are swapped.
    pub(crate) fn swapped(self) -> CompareOp {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            same => same,
        }
    }
}

/// Operators bind the tighter the higher the number.
pub(crate) mod precedence {
    pub(crate) const LOGIC: u8 = 1;
    pub(crate) const COMPARE: u8 = 2;
    pub(crate) const SUM: u8 = 3;
    pub(crate) const NOT: u8 = 4;
    pub(crate) const PRODUCT: u8 = 5;
    pub(crate) const POWER: u8 = 6;
    pub(crate) const ATOM: u8 = 7;
}
use precedence::{ATOM, COMPARE, LOGIC, NOT, POWER, PRODUCT, SUM};

impl ArithmeticOp {
    pub(crate) fn precedence(self) -> u8 {
        match self {
            ArithmeticOp::Add | ArithmeticOp::Sub => SUM,
            ArithmeticOp::Mul | ArithmeticOp::Div | ArithmeticOp::Mod => PRODUCT,
            ArithmeticOp::Pow => POWER,
        }
    }
}

impl BinaryOp {
    pub(crate) fn precedence(self) -> u8 {
        match self {
            BinaryOp::And | BinaryOp::Or => LOGIC,
            BinaryOp::Compare(_) | BinaryOp::Matches | BinaryOp::MatchesNot => COMPARE,
            BinaryOp::Arithmetic(op) => op.precedence(),
        }
    }
}

impl Expr {
    fn precedence(&self) -> u8 {
        match self {
            Expr::Literal(_) | Expr::Field(_) => ATOM,
            Expr::Neg(_) => SUM,
            Expr::Not(_) => NOT,
            Expr::Binary(op, ..) => op.precedence(),
        }
    }
}

/// Prints a part, in parentheses if it binds less tight than `least`.
fn part(f: &mut fmt::Formatter<'_>, what: &impl fmt::Display, binds: u8, least: u8) -> fmt::Result {
    if binds < least {
        write!(f, "({what})")
    } else {
        write!(f, "{what}")
    }
}

/// The least precedence of both sides of an operator that need no parentheses.
fn sides(precedence: u8) -> (u8, u8) {
    if precedence == POWER {
        (precedence + 1, precedence)
    } else {
        (precedence, precedence + 1)
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Spansets(pipeline) => write!(f, "{pipeline}")?,
            Body::Metrics(metrics) => write!(f, "{metrics}")?,
        }
        if !self.hints.is_empty() {
            f.write_str(" with(")?;
            for (i, (name, value)) in self.hints.iter().enumerate() {
                write!(f, "{}{name}={value}", if i == 0 { "" } else { ", " })?;
            }
            f.write_char(')')?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.stages.iter().enumerate() {
            write!(f, "{}{stage}", if i == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Spansets(spansets) => write!(f, "{spansets}"),
            Stage::ScalarFilter(op, left, right) => {
                part(f, left, left.precedence(), COMPARE)?;
                write!(f, " {op} ")?;
                part(f, right, right.precedence(), SUM)
            }
            Stage::By(expr) => write!(f, "by({expr})"),
            Stage::Coalesce => f.write_str("coalesce()"),
            Stage::Select(fields) => {
                f.write_str("select(")?;
                list(f, fields)?;
                f.write_char(')')
            }
        }
    }
}

impl Spansets {
    fn precedence(&self) -> u8 {
        match self {
            Spansets::Filter(_) | Spansets::Group(_) => ATOM,
            Spansets::Combined(SpansetOp::And | SpansetOp::Or, ..) => LOGIC,
            Spansets::Combined(..) => COMPARE,
        }
    }
}

impl fmt::Display for Spansets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spansets::Filter(expr) => write!(f, "{{ {expr} }}"),
            Spansets::Group(pipeline) => write!(f, "({pipeline})"),
            Spansets::Combined(op, left, right) => {
                let (l, r) = sides(self.precedence());
                part(f, left, left.precedence(), l)?;
                write!(f, " {op} ")?;
                part(f, right, right.precedence(), r)
            }
        }
    }
}

impl Scalar {
    fn precedence(&self) -> u8 {
        match self {
            Scalar::Number(_) | Scalar::Aggregate(..) | Scalar::Piped(..) => ATOM,
            Scalar::Arithmetic(op, ..) => op.precedence(),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Number(number) => write!(f, "{number}"),
            Scalar::Aggregate(aggregate, None) => write!(f, "{}()", aggregate.as_str()),
            Scalar::Aggregate(aggregate, Some(expr)) => write!(f, "{}({expr})", aggregate.as_str()),
            Scalar::Piped(pipeline, scalar) => write!(f, "({pipeline} | {scalar})"),
            Scalar::Arithmetic(op, left, right) => {
                let (l, r) = sides(op.precedence());
                part(f, left, left.precedence(), l)?;
                write!(f, " {op} ")?;
                part(f, right, right.precedence(), r)
            }
        }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metrics::Function(pipeline, function, by) => {
                write!(f, "{pipeline} | {function}")?;
                if !by.is_empty() {
                    f.write_str(" by(")?;
                    list(f, by)?;
                    f.write_char(')')?;
                }
                Ok(())
            }
            Metrics::Rank(Rank::Top(n), inner) => write!(f, "{inner} | topk({n})"),
            Metrics::Rank(Rank::Bottom(n), inner) => write!(f, "{inner} | bottomk({n})"),
            Metrics::Filter(op, inner, value) => {
                write!(f, "{inner} {op} ")?;
                part(f, value, value.precedence(), ATOM)
            }
            Metrics::Math(op, left, right) => {
                for (i, side) in [left, right].into_iter().enumerate() {
                    match &**side {
                        Operand::Series(metrics) => write!(f, "({metrics})")?,
                        Operand::Number(value) => part(f, value, value.precedence(), ATOM)?,
                    }
                    if i == 0 {
                        write!(f, " {op} ")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Function::OverTime(_, field) | Function::Histogram(field) => write!(f, "{}({field})", self.name()),
            Function::Quantile(field, quantiles) => {
                write!(f, "{}({field}", self.name())?;
                for q in quantiles {
                    write!(f, ", {}", Literal::Float(*q))?;
                }
                f.write_char(')')
            }
            Function::Compare {
                selection,
                top,
                between,
            } => {
                write!(f, "{}({{ {selection} }}", self.name())?;
                if let Some(top) = top {
                    write!(f, ", {top}")?;
                }
                if let Some((start, end)) = between {
                    write!(f, ", {start}, {end}")?;
                }
                f.write_char(')')
            }
            Function::Rate | Function::CountOverTime => write!(f, "{}()", self.name()),
        }
    }
}

impl Function {
    /// As written, and as `__name__` says it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Function::Rate => "rate",
            Function::CountOverTime => "count_over_time",
            Function::OverTime(OverTime::Min, _) => "min_over_time",
            Function::OverTime(OverTime::Max, _) => "max_over_time",
            Function::OverTime(OverTime::Sum, _) => "sum_over_time",
            Function::OverTime(OverTime::Avg, _) => "avg_over_time",
            Function::Quantile(..) => "quantile_over_time",
            Function::Histogram(_) => "histogram_over_time",
            Function::Compare { .. } => "compare",
        }
    }
}

impl Aggregate {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Aggregate::Count => "count",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Sum => "sum",
            Aggregate::Avg => "avg",
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Literal(literal) => write!(f, "{literal}"),
            Expr::Field(field) => write!(f, "{field}"),
            Expr::Neg(inner) => {
                f.write_char('-')?;
                part(f, inner, inner.precedence(), SUM + 1)
            }
            Expr::Not(inner) => {
                f.write_char('!')?;
                part(f, inner, inner.precedence(), NOT + 1)
            }
            Expr::Binary(op, left, right) => {
                let (l, r) = sides(op.precedence());
                part(f, left, left.precedence(), l)?;
                write!(f, " {op} ")?;
                part(f, right, right.precedence(), r)
            }
        }
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BinaryOp::And => f.write_str("&&"),
            BinaryOp::Or => f.write_str("||"),
            BinaryOp::Matches => f.write_str("=~"),
            BinaryOp::MatchesNot => f.write_str("!~"),
            BinaryOp::Compare(op) => write!(f, "{op}"),
            BinaryOp::Arithmetic(op) => write!(f, "{op}"),
        }
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CompareOp::Eq => "=",
            CompareOp::Ne => "!=",
            CompareOp::Lt => "<",
            CompareOp::Le => "<=",
            CompareOp::Gt => ">",
            CompareOp::Ge => ">=",
        })
    }
}

impl fmt::Display for ArithmeticOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ArithmeticOp::Add => "+",
            ArithmeticOp::Sub => "-",
            ArithmeticOp::Mul => "*",
            ArithmeticOp::Div => "/",
            ArithmeticOp::Mod => "%",
            ArithmeticOp::Pow => "^",
        })
    }
}

impl fmt::Display for SpansetOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (relation, kept) = match self {
            SpansetOp::And => return f.write_str("&&"),
            SpansetOp::Or => return f.write_str("||"),
            SpansetOp::Related(relation, kept) => (relation, kept),
        };
        f.write_str(match kept {
            Kept::Right => "",
            Kept::RightWithout => "!",
            Kept::Both => "&",
        })?;
        f.write_str(match relation {
            Relation::Child => ">",
            Relation::Parent => "<",
            Relation::Descendant => ">>",
            Relation::Ancestor => "<<",
            Relation::Sibling => "~",
        })
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Nil => f.write_str("nil"),
            Literal::Bool(b) => write!(f, "{b}"),
            Literal::Int(i64::MIN) => f.write_str("minInt"),
            Literal::Int(i) => write!(f, "{i}"),
            Literal::Float(d) => write!(f, "{d:?}"),
            Literal::Duration(ns) => f.write_str(&duration::to_text(*ns)),
            Literal::Str(s) => quoted(f, s),
            Literal::Status(status) => f.write_str(status_text(*status)),
            Literal::Kind(kind) => f.write_str(kind_text(*kind)),
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parent, scope, name) = match self {
            Field::Intrinsic(intrinsic) => return f.write_str(intrinsic.short()),
            Field::Attribute { parent, scope, name } => (*parent, *scope, name.as_str()),
        };
        if parent {
            f.write_str("parent.")?;
        }
        match scope {
            Scope::None if parent => {}
            scope => write!(f, "{}.", scope.as_str())?,
        }
        let misread = match scope {
            // `.3` is a number, and a scope would be taken for one.
            Scope::None if parent => ["span.", "resource."].iter().any(|s| name.starts_with(s)),
            Scope::None => name.starts_with(|c: char| c.is_ascii_digit()),
            _ => false,
        };
        if misread || name.is_empty() || !name.chars().all(|c| is_plain(c) && c != '\\') {
            f.write_char('"')?;
            for c in name.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(c)?;
            }
            return f.write_char('"');
        }
        f.write_str(name)
    }
}

/// Whether a character may stand in an attribute's name without quotes.
pub(crate) fn is_plain(c: char) -> bool {
    !c.is_whitespace()
        && !matches!(
            c,
            '{' | '}' | '(' | ')' | '=' | '~' | '!' | '<' | '>' | '&' | '|' | '^' | ',' | '"'
        )
}

/// A status as the language writes it.
pub(crate) fn status_text(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "unset",
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
    }
}

/// A kind as the language writes it.
pub(crate) fn kind_text(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}
