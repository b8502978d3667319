//! The language without storage, for tests and corpora: queries on spans made up by the caller, and the small functions
//! that metrics stand on.

use model::{AttributeValue, SpanKind, StatusCode, TraceId};
use query_exec::{Context, Limits};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::intervals::Intervals;
use crate::metrics::{Groups, MetricsPlan, series, sort};
use crate::plan::Plan;
use crate::run::{Position, Spans, passes, run};
use crate::syntax::{Body, Field, Intrinsic, Scope, Spansets, Stage};
use crate::trace_filter::{TraceFilter, TraceFilterError};
use crate::value::Value;
use crate::{EvalError, ParseError, check, lenient, lex, metrics, parse};

/// A value with TraceQL's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// None.
    Nil,
    /// Truth.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Floating point number.
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Text.
    Str(String),
    /// A status.
    Status(StatusCode),
    /// A kind.
    Kind(SpanKind),
    /// A list.
    List(Vec<Typed>),
}

/// A span made up: what it shows, under TraceQL's names.
#[derive(Clone, Debug, Default)]
pub struct MadeUpSpan {
    attributes: BTreeMap<Field, Value<'static>>,
    position: Position,
    start_ns: i64,
}

impl MadeUpSpan {
    /// A span that starts at an instant.
    pub fn new(start_ns: i64) -> MadeUpSpan {
        MadeUpSpan {
            start_ns,
            ..MadeUpSpan::default()
        }
    }

    /// Sets what an attribute or intrinsic is; a name without scope is the span's.
    pub fn set(&mut self, name: &str, value: Typed) -> Result<(), ParseError> {
        let field = match parse::field(name)? {
            Field::Attribute {
                scope: Scope::None,
                name,
                parent,
            } => Field::Attribute {
                scope: Scope::Span,
                name,
                parent,
            },
            field => field,
        };
        self.attributes.insert(field, value.into_value());
        Ok(())
    }

    /// Sets its nested-set numbers.
    pub fn place(&mut self, parent: i32, left: i32, right: i32) {
        self.position = Position { parent, left, right };
    }
}

impl Typed {
    fn into_value(self) -> Value<'static> {
        match self {
            Typed::Nil => Value::Nil,
            Typed::Bool(b) => Value::Bool(b),
            Typed::Int(i) => Value::Int(i),
            Typed::Float(d) => Value::Float(d),
            Typed::Duration(ns) => Value::Duration(ns),
            Typed::Str(s) => Value::Str(s.into()),
            Typed::Status(status) => Value::Status(status),
            Typed::Kind(kind) => Value::Kind(kind),
            Typed::List(items) => Value::List(items.into_iter().map(Typed::into_value).collect()),
        }
    }

    fn of(value: &Value<'_>) -> Typed {
        match value {
            Value::Nil | Value::Opaque => Typed::Nil,
            Value::Bool(b) => Typed::Bool(*b),
            Value::Int(i) => Typed::Int(*i),
            Value::Float(d) => Typed::Float(*d),
            Value::Duration(ns) => Typed::Duration(*ns),
            Value::Str(s) => Typed::Str(s.to_string()),
            Value::Status(status) => Typed::Status(*status),
            Value::Kind(kind) => Typed::Kind(*kind),
            Value::List(items) => Typed::List(items.iter().map(Typed::of).collect()),
        }
    }
}

struct MadeUp<'t>(&'t [MadeUpSpan]);

impl Spans for MadeUp<'_> {
    fn value<'a>(&'a self, at: u32, field: &Field) -> Value<'a> {
        let Some(span) = self.0.get(at as usize) else {
            return Value::Nil;
        };
        match field {
            Field::Intrinsic(Intrinsic::NestedSetLeft) => Value::Int(span.position.left.into()),
            Field::Intrinsic(Intrinsic::NestedSetRight) => Value::Int(span.position.right.into()),
            Field::Intrinsic(Intrinsic::NestedSetParent) => Value::Int(span.position.parent.into()),
            Field::Attribute {
                scope: Scope::None,
                name,
                parent,
            } => {
                let scoped = |scope| Field::Attribute {
                    scope,
                    name: name.clone(),
                    parent: *parent,
                };
                let found = [Scope::Span, Scope::Resource, Scope::Event, Scope::Link]
                    .into_iter()
                    .find_map(|scope| span.attributes.get(&scoped(scope)));
                found.map_or(Value::Nil, Clone::clone)
            }
            field => span.attributes.get(field).map_or(Value::Nil, Clone::clone),
        }
    }

    fn position(&self, at: u32) -> Position {
        self.0.get(at as usize).map(|span| span.position).unwrap_or_default()
    }

    fn each<'a>(&'a self, at: u32, visit: &mut dyn FnMut(Scope, &str, Value<'a>)) {
        for (field, value) in self.0.get(at as usize).iter().flat_map(|span| &span.attributes) {
            match field {
                Field::Intrinsic(intrinsic) => visit(Scope::None, intrinsic.short(), value.clone()),
                Field::Attribute { scope, name, .. } => visit(*scope, name, value.clone()),
            }
        }
    }
}

/// A spanset: spans by their index, what was added to it, and the number of its last aggregate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spanset {
    /// Indices of spans, rising.
    pub spans: Vec<usize>,
    /// Names and values.
    pub attributes: Vec<(String, Typed)>,
    /// The last aggregate.
    pub scalar: Option<Typed>,
}

/// Whether a text parses; that it makes sense is not asked.
pub fn parses(query: &str) -> Result<(), ParseError> {
    parse::parse(query).map(|_| ())
}

/// The canonical text of a query.
pub fn canonical(query: &str) -> Result<String, ParseError> {
    parse::parse(query).map(|tree| tree.to_string())
}

/// What a text that is a single attribute or intrinsic means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// An intrinsic, by its scoped name where it has one.
    Intrinsic(&'static str),
    /// An attribute.
    Attribute {
        /// `span`, `resource`, ..., `none`.
        scope: &'static str,
        /// Whether it is the parent span's.
        parent: bool,
        /// Its name.
        name: String,
    },
}

/// Parses a single attribute or intrinsic.
pub fn identifier(text: &str) -> Result<Identifier, ParseError> {
    Ok(match parse::field(text)? {
        Field::Intrinsic(intrinsic) => Identifier::Intrinsic(intrinsic.scoped()),
        Field::Attribute { scope, parent, name } => Identifier::Attribute {
            scope: if scope == Scope::None { "none" } else { scope.as_str() },
            parent,
            name,
        },
    })
}

/// A duration literal in nanoseconds.
pub fn duration_ns(text: &str) -> Option<i64> {
    match lex::tokens(text).ok()?.first()?.token {
        lex::Token::Duration(ns) => Some(ns),
        _ => None,
    }
}

/// Whether a lone filter keeps a span. It need not make sense (types are not checked).
pub fn keeps(query: &str, span: &MadeUpSpan) -> Result<bool, ParseError> {
    let tree = parse::parse(query)?;
    if let Body::Spansets(pipeline) = &tree.body
        && let [Stage::Spansets(Spansets::Filter(expr))] = &pipeline.stages[..]
    {
        let node = crate::plan::node(expr);
        return Ok(passes(&node, &MadeUp(std::slice::from_ref(span)), 0));
    }
    Err(ParseError {
        message: format!("not a lone filter: {query}"),
    })
}

/// Runs a pipeline on spansets, given by the indices of their spans.
pub fn pipeline(query: &str, spans: &[MadeUpSpan], input: Vec<Spanset>) -> Result<Vec<Spanset>, EvalError> {
    let tree = parse::parse(query)?;
    check::check(&tree)?;
    let Body::Spansets(pipeline) = &tree.body else {
        return Err(ParseError {
            message: format!("not a pipeline of spansets: {query}"),
        }
        .into());
    };
    let input = input.into_iter().map(|set| crate::run::Spanset {
        spans: set.spans.into_iter().map(|at| at as u32).collect(),
        attributes: set
            .attributes
            .into_iter()
            .map(|(name, value)| (name.into(), value.into_value()))
            .collect(),
        scalar: set.scalar.map(Typed::into_value),
    });
    let sets = run(&Plan::of(pipeline).steps, &MadeUp(spans), input.collect())?;
    let sets = sets.into_iter().map(|set| Spanset {
        spans: set.spans.into_iter().map(|at| at as usize).collect(),
        attributes: set
            .attributes
            .iter()
            .map(|(name, value)| (name.to_string(), Typed::of(value)))
            .collect(),
        scalar: set.scalar.as_ref().map(Typed::of),
    });
    Ok(sets.collect())
}

/// A series: labels and one value per interval.
pub type MadeUpSeries = (Vec<(String, Typed)>, Vec<Option<f64>>);

/// Runs a metrics query on spans, over the whole steps that cover `(start, end]`, all in ns.
pub fn metrics_range(
    query: &str,
    spans: &[MadeUpSpan],
    (start, end, step): (i64, i64, i64),
) -> Result<Vec<MadeUpSeries>, EvalError> {
    let tree = parse::parse(query)?;
    check::check(&tree)?;
    let Body::Metrics(metrics) = &tree.body else {
        return Err(ParseError {
            message: format!("not a metrics query: {query}"),
        }
        .into());
    };
    let context = Context::new(
        Duration::from_secs(60),
        Limits {
            samples_max: 1_000_000,
            series_max: 10_000,
            bytes_max: u64::MAX,
        },
    );
    let intervals = Intervals::new(start, end, step);
    let mut scan = |function: &metrics::FunctionPlan| -> Result<Groups, EvalError> {
        let mut groups = Groups::default();
        let all = crate::run::Spanset {
            spans: (0..spans.len() as u32).collect(),
            ..crate::run::Spanset::default()
        };
        let known = |at: u32| {
            let start = spans.get(at as usize).map_or(i64::MIN, |span| span.start_ns);
            (start, TraceId(0))
        };
        groups.observe(function, &MadeUp(spans), all, known, &intervals, &context)?;
        Ok(groups)
    };
    let mut all = series(&MetricsPlan::of(metrics), &intervals, &mut scan)?;
    sort(&mut all);
    let all = all.iter().map(|one| {
        let labels = one.labels.iter().map(|(name, value)| (name.clone(), Typed::of(value)));
        (
            labels.collect(),
            (0..intervals.len()).map(|at| one.cells.get(at)).collect(),
        )
    });
    Ok(all.collect())
}

/// The step when none is given, for a window, both ns.
pub fn default_step(window_ns: i64) -> i64 {
    crate::intervals::default_step(window_ns)
}

/// The upper bound of the bucket of a value; `None`: it is not counted.
pub fn log2_bucket(value: i64) -> Option<f64> {
    metrics::log2_bucket(value).map(|exponent| 2f64.powi(exponent.into()))
}

/// The interval of an instant, and the time of an interval.
pub struct Steps(Intervals);

impl Steps {
    /// Whole steps that cover `(start, end]`, or one interval `[start, end]`.
    pub fn new(start: i64, end: i64, step: i64, instant: bool) -> Steps {
        Steps(if instant {
            Intervals::instant(start, end)
        } else {
            Intervals::new(start, end, step)
        })
    }

    /// Which interval an instant lies in.
    pub fn interval_of(&self, t: i64) -> Option<usize> {
        self.0.of(t)
    }

    /// The time of an interval's sample.
    pub fn timestamp_of(&self, interval: usize) -> i64 {
        self.0.time(interval)
    }
}

/// Whether the filter of a tag endpoint lets everything through; `None`: nothing can be made of it (which filters nothing
/// either).
pub fn lenient_matches_all(text: &str) -> Option<bool> {
    lenient::repaired(text).map(|tree| lenient::matches_all(&tree))
}

/// How many alternatives the filter of a tag endpoint has; 0: it filters nothing.
pub fn lenient_groups(text: &str) -> Result<usize, ParseError> {
    lenient::groups(text).map(|groups| groups.len())
}

/// Whether a value is what an answer says: durations, kinds and statuses are text there.
pub fn as_answered(value: Typed) -> AttributeValue {
    value.into_value().to_attribute()
}

/// How a filter for the spans of one trace fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFilterFault {
    /// It makes no sense.
    Invalid,
    /// It needs more than the span itself.
    Unsupported,
}

/// Checks a filter for the spans of one trace: a lone `{...}` that looks at nothing beyond each span.
pub fn trace_filter(text: &str) -> Result<(), TraceFilterFault> {
    match TraceFilter::parse(text) {
        Ok(_) => Ok(()),
        Err(TraceFilterError::Invalid(_)) => Err(TraceFilterFault::Invalid),
        Err(TraceFilterError::Unsupported(_)) => Err(TraceFilterFault::Unsupported),
    }
}
