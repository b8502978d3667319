//! What a query sees of a field that has several values: a list, the events and links of a span; and what an answer shows.
//!
//! As in Tempo, whose storage hands out only values that some condition of the query asks for: of the elements of a list and
//! of several events those are seen that satisfy a condition on the field, so `!=` holds if any value differs. An answer
//! shows of every field only such values, and of a name that is both the span's and the resource's both. A field that is
//! selected, grouped by, or compared with another is seen whole.
//!
//! Conditions of a filter that is one chain of `&&` speak of one event (and one link): the rest is not seen at all.

use model::Regex;

use crate::plan::{Node, Source, Step};
use crate::run::matches;
use crate::syntax::{CompareOp, Field, Intrinsic, Scope};
use crate::value::{Value, compare};

/// What is asked of each field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    fields: Vec<(Field, Vec<Ask>)>,
    /// What one event must satisfy, all of it.
    pub(crate) event: Vec<(Field, Ask)>,
    /// What one link must satisfy.
    pub(crate) link: Vec<(Field, Ask)>,
}

/// One condition on a field.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Any value will do.
    All,
    /// There must be none.
    Missing,
    Compare(CompareOp, Value<'static>),
    Matches(Regex, bool),
}

impl Ask {
    /// Whether a single value satisfies it.
    pub(crate) fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Ask::All => !value.is_nil(),
            Ask::Missing => value.is_nil(),
            Ask::Compare(op, literal) => match value {
                Value::List(items) => items.iter().any(|item| compare(*op, item, literal)),
                one => compare(*op, one, literal),
            },
            Ask::Matches(regex, wanted) => match value {
                Value::List(items) => items.iter().any(|item| matches(regex, *wanted, item)),
                one => matches(regex, *wanted, one),
            },
        }
    }
}

impl Seen {
    pub(crate) fn of(steps: &[Step], selected: &[Field]) -> Seen {
        let mut seen = Seen::default();
        steps.iter().for_each(|step| seen.step(step));
        for field in selected {
            seen.ask(field, Ask::All);
        }
        let mut together = Vec::new();
        if steps.iter().all(|step| one_chain(step, &mut together)) {
            let of = |own: fn(&Field) -> bool| together.iter().filter(|(f, _)| own(f)).cloned().collect();
            seen.event = of(Field::is_of_event);
            seen.link = of(Field::is_of_link);
        }
        seen
    }

    /// Asks for a field whole.
    pub(crate) fn whole(&mut self, field: &Field) {
        self.ask(field, Ask::All);
    }

    /// Whether a value of this field is seen.
    pub(crate) fn shows(&self, field: &Field, value: &Value<'_>) -> bool {
        let asks = self.asks(field);
        asks.is_empty() || asks.iter().any(|ask| matches!(ask, Ask::All) || ask.holds(value))
    }

    /// What is seen of a value: of a list the elements that are asked for.
    pub(crate) fn part<'a>(&self, field: &Field, value: Value<'a>) -> Value<'a> {
        match value {
            Value::List(mut items) => {
                items.retain(|item| self.shows(field, item));
                match items.len() {
                    0 => Value::Nil,
                    1 => items.pop().unwrap_or(Value::Nil),
                    _ => Value::List(items),
                }
            }
            one if self.shows(field, &one) => one,
            _ => Value::Nil,
        }
    }

    /// The same, but a scalar is as good as seen: what its conditions say of it decides.
    pub(crate) fn part_of_list<'a>(&self, field: &Field, value: Value<'a>) -> Value<'a> {
        match value {
            Value::List(_) => self.part(field, value),
            one => one,
        }
    }

    fn asks(&self, field: &Field) -> &[Ask] {
        let found = self.fields.iter().find(|(f, _)| f == field);
        found.map_or(&[], |(_, asks)| asks)
    }

    fn ask(&mut self, field: &Field, ask: Ask) {
        match self.fields.iter_mut().find(|(f, _)| f == field) {
            Some((_, asks)) => asks.push(ask),
            None => self.fields.push((field.clone(), vec![ask])),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Spansets(source) => self.source(source),
            Step::By(node, _) | Step::ScalarFilter(_, Some(node), ..) => self.node(node),
            Step::ScalarFilter(..) | Step::Coalesce | Step::Select | Step::Unsupported(_) => {}
        }
    }

    fn source(&mut self, source: &Source) {
        match source {
            Source::Filter(node) => self.node(node),
            Source::Group(steps) => steps.iter().for_each(|step| self.step(step)),
            Source::Combined(_, left, right) => {
                self.source(left);
                self.source(right);
            }
        }
    }

    fn node(&mut self, node: &Node) {
        if let Some((field, ask)) = condition(node) {
            self.ask(field, ask);
            return;
        }
        match node {
            Node::Constant(_) => {}
            Node::Field(field) => self.ask(field, Ask::All),
            Node::Neg(inner) | Node::Not(inner) | Node::Exists(inner, _) | Node::Matches(inner, ..) => self.node(inner),
            Node::Logic(first, rest) => {
                self.node(first);
                rest.iter().for_each(|(_, node)| self.node(node));
            }
            Node::Compare(_, left, right) | Node::Arithmetic(_, left, right) => {
                self.node(left);
                self.node(right);
            }
        }
    }
}

/// A condition on one field, if a node is no more than that.
fn condition(node: &Node) -> Option<(&Field, Ask)> {
    match node {
        Node::Compare(op, left, right) => match (&**left, &**right) {
            (Node::Field(field), Node::Constant(value)) => Some((field, Ask::Compare(*op, value.clone()))),
            (Node::Constant(value), Node::Field(field)) => Some((field, Ask::Compare(op.swapped(), value.clone()))),
            _ => None,
        },
        Node::Matches(inner, Some(regex), wanted) => match &**inner {
            Node::Field(field) => Some((field, Ask::Matches(regex.clone(), *wanted))),
            _ => None,
        },
        Node::Exists(inner, false) => match &**inner {
            Node::Field(field) => Some((field, Ask::Missing)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a step is a chain of `&&`, or leaves spans as they are; its conditions.
fn one_chain(step: &Step, out: &mut Vec<(Field, Ask)>) -> bool {
    match step {
        Step::Spansets(Source::Filter(node)) => chain(node, out),
        Step::Spansets(Source::Group(steps)) => steps.iter().all(|step| one_chain(step, out)),
        Step::Spansets(Source::Combined(..)) | Step::Unsupported(_) => false,
        Step::ScalarFilter(..) | Step::By(..) | Step::Coalesce | Step::Select => true,
    }
}

fn chain(node: &Node, out: &mut Vec<(Field, Ask)>) -> bool {
    match node {
        Node::Logic(first, rest) => chain(first, out) && rest.iter().all(|(and, node)| *and && chain(node, out)),
        Node::Not(_) => false,
        Node::Field(field) => {
            out.push((field.clone(), Ask::Compare(CompareOp::Eq, Value::Bool(true))));
            true
        }
        Node::Exists(inner, true) => {
            if let Node::Field(field) = &**inner {
                out.push((field.clone(), Ask::All));
            }
            true
        }
        other => {
            if let Some((field, ask)) = condition(other) {
                out.push((field.clone(), ask));
            }
            true
        }
    }
}

impl Field {
    /// Whether each event of a span has its own.
    pub(crate) fn is_of_event(&self) -> bool {
        matches!(
            self,
            Field::Intrinsic(Intrinsic::EventName | Intrinsic::EventTimeSinceStart)
                | Field::Attribute {
                    scope: Scope::Event,
                    ..
                }
        )
    }

    /// Whether each link of a span has its own.
    pub(crate) fn is_of_link(&self) -> bool {
        matches!(
            self,
            Field::Intrinsic(Intrinsic::LinkTraceId | Intrinsic::LinkSpanId)
                | Field::Attribute { scope: Scope::Link, .. }
        )
    }
}
