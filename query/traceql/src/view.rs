//! A stored trace as queries see it: fields of its spans, its root, its tree.

use std::borrow::Cow;

use model::{KeyValue, Span, TraceId};

use crate::run::{Position, Spans};
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
            Intrinsic::ParentId => hex(span.parent_span_id.map_or_else(String::new, |id| id.to_string())),
            Intrinsic::ChildCount => {
                let count = self.tree.as_ref().and_then(|tree| tree.children.get(at as usize));
                Value::Int(count.copied().unwrap_or(0).into())
            }
            Intrinsic::TraceId => hex(self.id.to_string()),
            Intrinsic::TraceDuration => Value::Duration(clamped(self.duration)),
            Intrinsic::RootName => self.root_span().map_or(Value::Nil, |root| text(&root.name)),
            Intrinsic::RootService => self
                .root_span()
                .map_or(Value::Nil, |root| text(root.resource.service_name())),
            Intrinsic::EventName => Value::collected(span.events.iter().map(|e| text(&e.name))),
            Intrinsic::EventTimeSinceStart => Value::collected(
                span.events
                    .iter()
                    .map(|e| Value::Duration(e.t.0.saturating_sub(span.start.0))),
            ),
            Intrinsic::LinkTraceId => Value::collected(span.links.iter().map(|l| hex(l.trace_id.to_string()))),
            Intrinsic::LinkSpanId => Value::collected(span.links.iter().map(|l| hex(l.span_id.to_string()))),
            Intrinsic::InstrumentationName => text(&span.scope.name),
            Intrinsic::InstrumentationVersion => text(&span.scope.version),
            Intrinsic::NestedSetLeft => Value::Int(self.position(at).left.into()),
            Intrinsic::NestedSetRight => Value::Int(self.position(at).right.into()),
            Intrinsic::NestedSetParent => Value::Int(self.position(at).parent.into()),
            Intrinsic::Parent => Value::Nil,
        }
    }
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
            Scope::Span => Value::named(&span.attributes, name),
            Scope::Resource => Value::named(&span.resource.attributes, name),
            Scope::None => match Value::named(&span.attributes, name) {
                Value::Nil => Value::named(&span.resource.attributes, name),
                value => value,
            },
            Scope::Event => Value::collected(span.events.iter().map(|e| Value::named(&e.attributes, name))),
            Scope::Link => Value::collected(span.links.iter().map(|l| Value::named(&l.attributes, name))),
            Scope::Instrumentation => Value::named(&span.scope.attributes, name),
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
