//! Running a pipeline over the spans of one trace. Spansets are lists of places in the trace; what a span shows is asked
//! through [`Spans`], so that the same code runs on stored traces and on spans made up in tests.

use std::sync::Arc;

use query_exec::{Compensated, ExecError};
use rapidhash::RapidHashMap;

use crate::plan::{Node, Source, Step};
use crate::structural;
use crate::syntax::{Aggregate, CompareOp, Field, Kept, Scope, SpansetOp};
use crate::value::{Mismatch, Value, calculate, compare};

/// The spans of one trace.
pub(crate) trait Spans {
    /// The value of a field of the span at a place.
    fn value<'a>(&'a self, span: u32, field: &Field) -> Value<'a>;
    /// The same, but of the events and links of a span only the first that has a value.
    fn first<'a>(&'a self, span: u32, field: &Field) -> Value<'a> {
        self.value(span, field)
    }
    /// Whether the field has no value; of events and links one without it is enough.
    fn lacks(&self, span: u32, field: &Field) -> bool {
        self.value(span, field).is_nil()
    }
    /// Where a span stands in its trace.
    fn position(&self, span: u32) -> Position;
    /// All attributes of a span with their scopes and names, and the intrinsics (without a scope) that tell spans apart by
    /// something else than time or identity.
    fn each<'a>(&'a self, span: u32, visit: &mut dyn FnMut(Scope, &str, Value<'a>));
}

/// Nested-set numbers: a span's descendants have their left number between its two. Zero: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The parent's left number, -1 for a root.
    pub(crate) parent: i32,
    pub(crate) left: i32,
    pub(crate) right: i32,
}

/// No spans: constants are calculated on it.
pub(crate) struct NoSpans;

impl Spans for NoSpans {
    fn value<'a>(&'a self, _: u32, _: &Field) -> Value<'a> {
        Value::Nil
    }
    fn position(&self, _: u32) -> Position {
        Position::default()
    }
    fn each<'a>(&'a self, _: u32, _: &mut dyn FnMut(Scope, &str, Value<'a>)) {}
}

/// Spans that belong together, by their places in the trace, in rising order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spanset {
    pub(crate) spans: Vec<u32>,
    /// What `by()` and aggregates found.
    pub(crate) attributes: Vec<(Arc<str>, Value<'static>)>,
    /// What the last aggregate found.
    pub(crate) scalar: Option<Value<'static>>,
}

/// The value of an expression for a span.
pub(crate) fn eval<'a, S: Spans>(node: &'a Node, spans: &'a S, span: u32) -> Result<Value<'a>, Mismatch> {
    match node {
        Node::Constant(value) => Ok(borrowed(value)),
        Node::Field(field) => Ok(spans.value(span, field)),
        Node::Compare(op, left, right) => {
            let left = eval(left, spans, span)?;
            Ok(Value::Bool(compare(*op, &left, &eval(right, spans, span)?)))
        }
        Node::Exists(inner, true) => {
            let value = eval(inner, spans, span)?;
            Ok(Value::Bool(!matches!(value, Value::Nil | Value::Opaque)))
        }
        Node::Exists(inner, false) => Ok(Value::Bool(match &**inner {
            Node::Field(field) => spans.lacks(span, field),
            other => eval(other, spans, span)?.is_nil(),
        })),
        Node::Matches(inner, regex, wanted) => {
            let value = eval(inner, spans, span)?;
            Ok(Value::Bool(
                regex.as_ref().is_some_and(|regex| matches(regex, *wanted, &value)),
            ))
        }
        Node::Not(inner) => match eval(inner, spans, span)? {
            Value::Bool(b) => Ok(Value::Bool(!b)),
            _ => Err(Mismatch),
        },
        Node::Neg(inner) => match eval(inner, spans, span)? {
            Value::Int(i) => Ok(Value::Int(i.wrapping_neg())),
            Value::Duration(ns) => Ok(Value::Duration(ns.wrapping_neg())),
            Value::Float(d) => Ok(Value::Float(-d)),
            _ => Err(Mismatch),
        },
        Node::Arithmetic(op, left, right) => {
            let left = eval(left, spans, span)?;
            calculate(*op, &left, &eval(right, spans, span)?)
        }
        Node::Logic(first, rest) => logic(first, rest, spans, span).map(Value::Bool),
    }
}

fn logic<S: Spans>(first: &Node, rest: &[(bool, Node)], spans: &S, span: u32) -> Result<bool, Mismatch> {
    // What is no truth counts as false here, as a lone attribute does.
    let truth = |node| Ok(eval(node, spans, span)? == Value::Bool(true));
    let mut so_far = truth(first)?;
    for (and, node) in rest {
        if so_far == *and {
            so_far = truth(node)?;
        }
    }
    Ok(so_far)
}

fn borrowed<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Str(s) => Value::Str(s.as_ref().into()),
        Value::List(items) => Value::List(items.iter().map(borrowed).collect()),
        other => other.clone(),
    }
}

pub(crate) fn matches(regex: &model::Regex, wanted: bool, value: &Value<'_>) -> bool {
    match value {
        Value::Str(s) => regex.is_match(s) == wanted,
        Value::List(items) if wanted => items.iter().any(|item| matches(regex, wanted, item)),
        Value::List(items) => items.iter().all(|item| matches(regex, wanted, item)),
        _ => false,
    }
}

/// Whether a span passes a filter; a filter that makes no sense for it does not pass.
pub(crate) fn passes<S: Spans>(filter: &Node, spans: &S, span: u32) -> bool {
    match filter {
        Node::Constant(value) => *value == Value::Bool(true),
        _ => eval(filter, spans, span) == Ok(Value::Bool(true)),
    }
}

/// Runs the steps, one after another.
pub(crate) fn run<S: Spans>(steps: &[Step], spans: &S, input: Vec<Spanset>) -> Result<Vec<Spanset>, ExecError> {
    let mut sets = input;
    for step in steps {
        sets = match step {
            Step::Spansets(source) => {
                let mut out = Vec::with_capacity(sets.len());
                for set in sets {
                    out.extend(run_source(source, spans, set)?);
                }
                out
            }
            Step::By(node, name) => sets.iter().flat_map(|set| split(node, name, spans, set)).collect(),
            Step::Coalesce => coalesced(sets),
            Step::Select => sets,
            Step::ScalarFilter(aggregate, of, name, op, limit) => sets
                .into_iter()
                .filter_map(|mut set| {
                    let value = aggregated(*aggregate, of.as_ref(), spans, &set)?;
                    set.attributes.push((name.clone(), value.clone()));
                    set.scalar = Some(value.clone());
                    compare(*op, &value, limit).then_some(set)
                })
                .collect(),
            Step::Unsupported(what) => {
                return Err(ExecError::Data(format!("({what}) not yet supported")));
            }
        };
        sets.retain(|set| !set.spans.is_empty());
        if sets.is_empty() {
            break;
        }
    }
    Ok(sets)
}

fn run_source<S: Spans>(source: &Source, spans: &S, set: Spanset) -> Result<Vec<Spanset>, ExecError> {
    match source {
        Source::Filter(Node::Constant(Value::Bool(true))) => Ok(vec![set]),
        Source::Filter(filter) => {
            let mut set = set;
            set.spans.retain(|span| passes(filter, spans, *span));
            Ok(if set.spans.is_empty() { Vec::new() } else { vec![set] })
        }
        Source::Group(steps) => run(steps, spans, vec![set]),
        Source::Combined(op, left, right) => {
            let left = run_source(left, spans, set.clone())?;
            // Nothing comes of an empty left side, but for `||` and "none on the left".
            let needed = matches!(op, SpansetOp::Or | SpansetOp::Related(_, Kept::RightWithout));
            if left.is_empty() && !needed {
                return Ok(Vec::new());
            }
            let attributes = set.attributes.clone();
            let right = run_source(right, spans, set)?;
            let kept = match op {
                SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                SpansetOp::And | SpansetOp::Or => union(left.iter().chain(&right)),
                SpansetOp::Related(relation, kept) => {
                    let (left, right) = (only(left)?, only(right)?);
                    structural::related(*relation, *kept, spans, &left, &right)
                }
            };
            Ok(if kept.is_empty() {
                Vec::new()
            } else {
                vec![Spanset {
                    spans: kept,
                    attributes,
                    scalar: None,
                }]
            })
        }
    }
}

fn only(mut sets: Vec<Spanset>) -> Result<Vec<u32>, ExecError> {
    match sets.len() {
        0 => Ok(Vec::new()),
        1 => Ok(sets.pop().map(|set| set.spans).unwrap_or_default()),
        n => Err(ExecError::Data(format!(
            "structural operators need one spanset on each side, there are {n}: add coalesce() behind by()"
        ))),
    }
}

fn union<'a>(sets: impl Iterator<Item = &'a Spanset>) -> Vec<u32> {
    let mut all: Vec<u32> = sets.flat_map(|set| set.spans.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn coalesced(sets: Vec<Spanset>) -> Vec<Spanset> {
    let spans = union(sets.iter());
    vec![Spanset {
        spans,
        ..Spanset::default()
    }]
}

/// The value of an expression that shall be one value.
fn single<'a, S: Spans>(node: &'a Node, spans: &'a S, span: u32) -> Result<Value<'a>, Mismatch> {
    match node {
        Node::Field(field) => Ok(spans.first(span, field)),
        other => eval(other, spans, span),
    }
}

/// One spanset per value, in the order of their first spans.
fn split<S: Spans>(node: &Node, name: &Arc<str>, spans: &S, set: &Spanset) -> Vec<Spanset> {
    let mut places: RapidHashMap<Vec<u8>, usize> = RapidHashMap::default();
    let mut out: Vec<Spanset> = Vec::new();
    let mut key = Vec::new();
    for &span in &set.spans {
        let value = single(node, spans, span).unwrap_or(Value::Nil);
        key.clear();
        value.put_key(&mut key);
        let at = match places.get(&key) {
            Some(at) => *at,
            None => {
                let mut attributes = set.attributes.clone();
                attributes.push((name.clone(), value.into_owned()));
                places.insert(key.clone(), out.len());
                out.push(Spanset {
                    attributes,
                    ..Spanset::default()
                });
                out.len() - 1
            }
        };
        out[at].spans.push(span);
    }
    out
}

/// The aggregate of a spanset; `None` if no span has a number.
fn aggregated<S: Spans>(aggregate: Aggregate, of: Option<&Node>, spans: &S, set: &Spanset) -> Option<Value<'static>> {
    let Some(node) = of else {
        return Some(Value::Int(set.spans.len() as i64));
    };
    let values = set.spans.iter().filter_map(|span| {
        let value = single(node, spans, *span).ok()?;
        value.as_number().is_some().then_some(value)
    });
    match aggregate {
        Aggregate::Count => Some(Value::Int(set.spans.len() as i64)),
        Aggregate::Min | Aggregate::Max => {
            let op = if aggregate == Aggregate::Min {
                CompareOp::Lt
            } else {
                CompareOp::Gt
            };
            let best = values.reduce(|best, value| if compare(op, &value, &best) { value } else { best });
            best.map(Value::into_owned)
        }
        Aggregate::Sum | Aggregate::Avg => {
            let (mut count, mut timed, mut whole) = (0u64, true, true);
            let (mut ints, mut floats) = (0i128, Compensated::default());
            for value in values {
                count += 1;
                timed &= matches!(value, Value::Duration(_));
                match value.as_int() {
                    Some(i) => ints += i128::from(i),
                    None => {
                        whole = false;
                        floats.add(value.as_number()?);
                    }
                }
            }
            if count == 0 {
                return None;
            }
            let total = ints as f64 + floats.total();
            let clamped = |i: i128| i.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            Some(match (aggregate, timed, whole) {
                (Aggregate::Sum, true, _) => Value::Duration(clamped(ints)),
                (Aggregate::Sum, _, true) => Value::Int(clamped(ints)),
                (Aggregate::Sum, ..) => Value::Float(total),
                (_, true, _) => Value::Duration(clamped(ints / i128::from(count))),
                _ => Value::Float(total / count as f64),
            })
        }
    }
}
