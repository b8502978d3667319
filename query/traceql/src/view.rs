//! A stored trace as queries see it: fields of its spans, its root, its tree.

use std::borrow::Cow;
use std::mem::discriminant;

use model::{Event, KeyValue, Link, Span, SpanId, TraceId};

use crate::run::{Position, Spans};
use crate::seen::Seen;
use crate::syntax::{Field, Intrinsic, Scope};
use crate::tree::Tree;
use crate::value::Value;

/// The service of a trace whose root is missing.
pub(crate) const ROOT_MISSING: &str = "<root span not yet received>";

/// All spans of a trace, sorted by start.
pub(crate) struct View<'t> {
    pub(crate) id: TraceId,
    pub(crate) spans: &'t [Span],
    /// Place of the root: the first span without a parent.
    pub(crate) root: Option<usize>,
    /// Start of the first span, ns.
    pub(crate) start: i64,
    /// From first start to last end, ns.
    pub(crate) duration: u64,
    tree: Option<Tree>,
    seen: Option<&'t Seen>,
}

impl<'t> View<'t> {
    pub(crate) fn new(id: TraceId, spans: &'t [Span], with_tree: bool) -> View<'t> {
        let start = spans.iter().map(|s| s.start.0).min().unwrap_or(0);
        let end = spans.iter().map(|s| s.end.max(s.start).0).max().unwrap_or(0);
        View {
            id,
            spans,
            root: spans.iter().position(|s| s.parent_span_id.is_none()),
            start,
            duration: end.saturating_sub(start).max(0) as u64,
            tree: with_tree.then(|| Tree::of(spans)),
            seen: None,
        }
    }

    /// The same through the eyes of a query.
    pub(crate) fn seeing(self, seen: &'t Seen) -> View<'t> {
        View {
            seen: Some(seen),
            ..self
        }
    }

    /// What an answer shows of a field: each value that the query sees.
    pub(crate) fn each_seen<'a>(&'a self, at: u32, field: &Field, show: &mut dyn FnMut(Value<'a>)) {
        let Some(span) = self.spans.get(at as usize) else {
            return;
        };
        let mut one = |value: Value<'a>| match self.part(field, value) {
            Value::Nil | Value::Opaque => {}
            value => show(value),
        };
        match field {
            Field::Attribute {
                scope: Scope::None,
                name,
                parent: false,
            } => {
                one(stored(&span.attributes, name));
                one(stored(&span.resource.attributes, name));
            }
            field if field.is_of_event() || field.is_of_link() => {
                if let Some(last) = self.places(span, field).into_iter().rev().find(|value| !value.is_nil()) {
                    match (last, field) {
                        // An answer spells ids of traces without leading zeros.
                        (Value::Str(id), Field::Intrinsic(Intrinsic::LinkTraceId)) => {
                            one(Value::Str(Cow::Owned(id.trim_start_matches('0').to_owned())));
                        }
                        (other, _) => one(other),
                    }
                }
            }
            Field::Intrinsic(intrinsic) => one(self.intrinsic(at, span, *intrinsic)),
            Field::Attribute { .. } => one(self.value(at, field)),
        }
    }

    fn part_of_list<'a>(&self, field: &Field, value: Value<'a>) -> Value<'a> {
        match self.seen {
            Some(seen) => seen.part_of_list(field, value),
            None => value,
        }
    }

    fn part<'a>(&self, field: &Field, value: Value<'a>) -> Value<'a> {
        match self.seen {
            Some(seen) => seen.part(field, value),
            None => value,
        }
    }

    /// The field of each event (or link) that the query looks at, in order; nil where there is none.
    fn places<'a>(&'a self, span: &'a Span, field: &Field) -> Vec<Value<'a>> {
        let text = |s: &'a str| Value::Str(Cow::Borrowed(s));
        let of_event = |event: &'a Event, field: &Field| match field {
            Field::Intrinsic(Intrinsic::EventName) => text(&event.name),
            Field::Intrinsic(Intrinsic::EventTimeSinceStart) => Value::Duration(event.t.0.saturating_sub(span.start.0)),
            Field::Attribute { name, .. } => stored(&event.attributes, name),
            Field::Intrinsic(_) => Value::Nil,
        };
        let of_link = |link: &'a Link, field: &Field| match field {
            Field::Intrinsic(Intrinsic::LinkTraceId) => Value::Str(Cow::Owned(link.trace_id.to_string())),
            Field::Intrinsic(Intrinsic::LinkSpanId) => Value::Str(Cow::Owned(link.span_id.to_string())),
            Field::Attribute { name, .. } => stored(&link.attributes, name),
            Field::Intrinsic(_) => Value::Nil,
        };
        let empty = Vec::new();
        if field.is_of_event() {
            let asks = self.seen.map_or(&empty, |seen| &seen.event);
            let wanted = |event: &&'a Event| asks.iter().all(|(field, ask)| ask.holds(&of_event(event, field)));
            let events = span.events.iter().filter(wanted);
            events.map(|event| self.part(field, of_event(event, field))).collect()
        } else {
            let asks = self.seen.map_or(&empty, |seen| &seen.link);
            let wanted = |link: &&'a Link| asks.iter().all(|(field, ask)| ask.holds(&of_link(link, field)));
            let links = span.links.iter().filter(wanted);
            links.map(|link| self.part(field, of_link(link, field))).collect()
        }
    }

    pub(crate) fn root_span(&self) -> Option<&'t Span> {
        self.root.and_then(|at| self.spans.get(at))
    }

    fn intrinsic<'a>(&'a self, at: u32, span: &'a Span, intrinsic: Intrinsic) -> Value<'a> {
        let text = |s: &'a str| Value::Str(Cow::Borrowed(s));
        let hex = |s: String| Value::Str(Cow::Owned(s));
        match intrinsic {
            Intrinsic::Name => text(&span.name),
            Intrinsic::Status => Value::Status(span.status),
            Intrinsic::StatusMessage => text(&span.status_message),
            Intrinsic::Kind => Value::Kind(span.kind),
            Intrinsic::Duration => Value::Duration(clamped(span.duration_ns())),
            Intrinsic::SpanId => hex(span.span_id.to_string()),
            Intrinsic::ParentId => hex(span.parent_span_id.unwrap_or(SpanId(0)).to_string()),
            Intrinsic::ChildCount => {
                let count = self.tree.as_ref().and_then(|tree| tree.children.get(at as usize));
                Value::Int(count.copied().unwrap_or(0).into())
            }
            Intrinsic::TraceId => hex(self.id.to_string()),
            Intrinsic::TraceDuration => Value::Duration(clamped(self.duration)),
            Intrinsic::RootName => text(self.root_span().map_or("", |root| &root.name)),
            Intrinsic::RootService => self
                .root_span()
                .map_or(text(""), |root| text(root.resource.service_name())),
            Intrinsic::EventName | Intrinsic::EventTimeSinceStart | Intrinsic::LinkTraceId | Intrinsic::LinkSpanId => {
                Value::collected(self.places(span, &Field::Intrinsic(intrinsic)).into_iter())
            }
            Intrinsic::InstrumentationName => text(&span.scope.name),
            Intrinsic::InstrumentationVersion => text(&span.scope.version),
            Intrinsic::NestedSetLeft => Value::Int(self.position(at).left.into()),
            Intrinsic::NestedSetRight => Value::Int(self.position(at).right.into()),
            Intrinsic::NestedSetParent => Value::Int(self.position(at).parent.into()),
            Intrinsic::Parent => Value::Nil,
        }
    }
}

/// An attribute as the language knows it: a list of one is that one; bytes, maps and lists of several types are there, and
/// that is all.
pub(crate) fn known(value: Value<'_>) -> Value<'_> {
    match value {
        Value::List(mut items) => match items.len() {
            _ if !is_alike(&items) => Value::Opaque,
            0 => Value::Opaque,
            1 => items.pop().unwrap_or(Value::Nil),
            _ => Value::List(items),
        },
        one => one,
    }
}

fn stored<'a>(attributes: &'a [KeyValue], name: &str) -> Value<'a> {
    known(Value::named(attributes, name))
}

/// Whether all values are of one type.
pub(crate) fn is_alike(items: &[Value<'_>]) -> bool {
    let mut pairs = items.windows(2);
    pairs.all(|pair| discriminant(&pair[0]) == discriminant(&pair[1]))
}

fn clamped(ns: u64) -> i64 {
    ns.min(i64::MAX as u64) as i64
}

impl Spans for View<'_> {
    fn value<'a>(&'a self, at: u32, field: &Field) -> Value<'a> {
        let Some(span) = self.spans.get(at as usize) else {
            return Value::Nil;
        };
        let (scope, name) = match field {
            Field::Intrinsic(intrinsic) => return self.intrinsic(at, span, *intrinsic),
            Field::Attribute { parent: true, .. } => return Value::Nil,
            Field::Attribute { scope, name, .. } => (*scope, name.as_str()),
        };
        match scope {
            Scope::Span => self.part_of_list(field, stored(&span.attributes, name)),
            Scope::Resource => self.part_of_list(field, stored(&span.resource.attributes, name)),
            Scope::Instrumentation => self.part_of_list(field, stored(&span.scope.attributes, name)),
            Scope::None => match stored(&span.attributes, name) {
                Value::Nil => self.part_of_list(field, stored(&span.resource.attributes, name)),
                value => self.part_of_list(field, value),
            },
            Scope::Event | Scope::Link => Value::collected(self.places(span, field).into_iter()),
        }
    }

    fn first<'a>(&'a self, at: u32, field: &Field) -> Value<'a> {
        match self.spans.get(at as usize) {
            Some(span) if field.is_of_event() || field.is_of_link() => {
                let mut places = self.places(span, field).into_iter();
                places.find(|value| !value.is_nil()).unwrap_or(Value::Nil)
            }
            _ => self.value(at, field),
        }
    }

    fn lacks(&self, at: u32, field: &Field) -> bool {
        let Some(span) = self.spans.get(at as usize) else {
            return true;
        };
        match field {
            Field::Attribute {
                scope: Scope::None,
                name,
                ..
            } => stored(&span.attributes, name).is_nil() && stored(&span.resource.attributes, name).is_nil(),
            field if field.is_of_event() || field.is_of_link() => self.places(span, field).iter().any(Value::is_nil),
            Field::Attribute { scope, name, .. } => {
                let attributes = match scope {
                    Scope::Resource => &span.resource.attributes,
                    Scope::Instrumentation => &span.scope.attributes,
                    _ => &span.attributes,
                };
                stored(attributes, name).is_nil()
            }
            Field::Intrinsic(_) => self.value(at, field).is_nil(),
        }
    }

    fn position(&self, at: u32) -> Position {
        let positions = self.tree.as_ref().map(|tree| &tree.positions);
        positions.and_then(|p| p.get(at as usize)).copied().unwrap_or_default()
    }

    fn each<'a>(&'a self, at: u32, visit: &mut dyn FnMut(Scope, &str, Value<'a>)) {
        const TOLD: [Intrinsic; 8] = [
            Intrinsic::Name,
            Intrinsic::Status,
            Intrinsic::StatusMessage,
            Intrinsic::Kind,
            Intrinsic::RootName,
            Intrinsic::RootService,
            Intrinsic::InstrumentationName,
            Intrinsic::InstrumentationVersion,
        ];
        let Some(span) = self.spans.get(at as usize) else {
            return;
        };
        for intrinsic in TOLD {
            visit(Scope::None, intrinsic.short(), self.intrinsic(at, span, intrinsic));
        }
        for event in &span.events {
            visit(
                Scope::None,
                Intrinsic::EventName.short(),
                Value::Str(Cow::Borrowed(&event.name)),
            );
        }
        let mut attributes = |scope: Scope, attributes: &'a [KeyValue]| {
            for kv in attributes {
                visit(scope, &kv.key, Value::of(&kv.value));
            }
        };
        attributes(Scope::Span, &span.attributes);
        attributes(Scope::Resource, &span.resource.attributes);
        attributes(Scope::Instrumentation, &span.scope.attributes);
        span.events.iter().for_each(|e| attributes(Scope::Event, &e.attributes));
        span.links.iter().for_each(|l| attributes(Scope::Link, &l.attributes));
    }
}
