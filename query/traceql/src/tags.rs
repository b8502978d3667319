//! Names and values of tags, as the tag endpoints list them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use model::{AttributeValue, KeyValue, Span, TimeRangeNs};
use query_exec::{Context, ExecError};
use storage_traces::{AttributeScope, Projection, ScanRequest, Traces};

use crate::plan::{conditions, fields_of, node, request, stored_scope};
use crate::run::{Spans, passes};
use crate::search::over_shards;
use crate::syntax::{Body, Expr, Field, Intrinsic, Pipeline, Scope, Spansets, Stage};
use crate::value::Value;
use crate::view::{View, is_alike};
use crate::{EvalError, ParseError, lenient, parse};

/// Names of attributes in use, by scope and sorted; only of spans that pass `filter` (a lenient `{...}`) if given.
pub fn tag_names(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    scope: Option<AttributeScope>,
    filter: Option<&str>,
) -> Result<Vec<(AttributeScope, String)>, EvalError> {
    context.check("tag names")?;
    let groups = filter.map_or(Ok(Vec::new()), lenient::groups)?;
    let mut names = match groups.is_empty() {
        true => traces.snapshot(range).attribute_names()?,
        false => names_of_matching(context, traces, range, &groups)?,
    };
    names.retain(|(s, name)| !name.is_empty() && scope.is_none_or(|scope| scope == AttributeScope::Any || scope == *s));
    Ok(names)
}

/// Names on spans that pass one of the groups.
fn names_of_matching(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    groups: &[Vec<Expr>],
) -> Result<Vec<(AttributeScope, String)>, EvalError> {
    let mut fields = Vec::new();
    groups.iter().flatten().for_each(|expr| fields_of(expr, &mut fields));
    let filter = joined(groups).map(|expr| node(&expr));
    let Some(filtered) = request(&fields, filter.as_ref().and_then(conditions)) else {
        return Ok(Vec::new());
    };
    let everything = ScanRequest {
        any_of: filtered.any_of,
        attributes: Projection::All,
        events: true,
        links: true,
        lean: false,
    };
    let with_tree = looks_at_tree(&fields);
    let snapshot = traces.snapshot(range);
    let (all, _) = over_shards(context, &snapshot, &everything, BTreeSet::new, |names, id, spans| {
        let view = View::new(id, spans, with_tree);
        for (at, span) in spans.iter().enumerate() {
            if filter.as_ref().is_none_or(|filter| passes(filter, &view, at as u32)) {
                add_names(span, names);
                if names.len() > NAMES_MAX {
                    return Err(ExecError::Limit(format!(
                        "more than {NAMES_MAX} names of attributes; filter more narrowly"
                    )));
                }
            }
        }
        Ok(())
    })?;
    let names: BTreeSet<(AttributeScope, String)> = all.into_iter().flatten().collect();
    Ok(names.into_iter().collect())
}

/// Most names gathered under a filter.
const NAMES_MAX: usize = 100_000;

fn add_names(span: &Span, names: &mut BTreeSet<(AttributeScope, String)>) {
    let mut add = |scope, attributes: &[KeyValue]| {
        for kv in attributes {
            let name = (scope, kv.key.clone());
            if !names.contains(&name) {
                names.insert(name);
            }
        }
    };
    add(AttributeScope::Span, &span.attributes);
    add(AttributeScope::Resource, &span.resource.attributes);
    add(AttributeScope::Instrumentation, &span.scope.attributes);
    span.events
        .iter()
        .for_each(|e| add(AttributeScope::Event, &e.attributes));
    span.links.iter().for_each(|l| add(AttributeScope::Link, &l.attributes));
}

fn looks_at_tree(fields: &[Field]) -> bool {
    fields.iter().any(|field| {
        matches!(
            field,
            Field::Intrinsic(
                Intrinsic::ChildCount
                    | Intrinsic::NestedSetLeft
                    | Intrinsic::NestedSetRight
                    | Intrinsic::NestedSetParent
            )
        )
    })
}

/// How a tag is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagName {
    /// As TraceQL names it (`resource.service.name`, `.http.method`, `status`, `span:name`).
    Identifier(String),
    /// As the first version of the API does: an attribute, in whatever scope, or one of its special tags.
    Bare(String),
}

/// Distinct values of a tag, sorted; only of spans that pass `filter` (a lenient `{...}`) if given; at most `limit`.
pub fn tag_values(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    tag: &TagName,
    filter: Option<&str>,
    limit: usize,
) -> Result<Vec<AttributeValue>, EvalError> {
    context.check("tag values")?;
    let words = |words: &[&str]| Ok(words.iter().take(limit).map(|w| (*w).into()).collect());
    let field = match tag {
        TagName::Identifier(text) => identifier(text)?,
        TagName::Bare(name) => match name.as_str() {
            "status.code" => return words(&["error", "ok", "unset"]),
            "error" => return words(&["true"]),
            name => bare(name),
        },
    };
    let groups = filter.map_or(Ok(Vec::new()), lenient::groups)?;
    match &field {
        Field::Intrinsic(Intrinsic::Status) => return words(&["error", "ok", "unset"]),
        Field::Intrinsic(Intrinsic::Kind) => {
            return words(&["client", "consumer", "internal", "producer", "server", "unspecified"]);
        }
        Field::Intrinsic(
            Intrinsic::Name
            | Intrinsic::StatusMessage
            | Intrinsic::RootName
            | Intrinsic::RootService
            | Intrinsic::EventName
            | Intrinsic::InstrumentationName
            | Intrinsic::InstrumentationVersion,
        ) => {}
        // There are too many of them to be listed.
        Field::Intrinsic(_) | Field::Attribute { parent: true, .. } => return Ok(Vec::new()),
        Field::Attribute { scope, name, .. } if groups.is_empty() => {
            let snapshot = traces.snapshot(range);
            let mut found = snapshot.attribute_values(stored_scope(*scope), name, limit)?;
            if *scope == Scope::None {
                found.extend(snapshot.attribute_values(AttributeScope::Instrumentation, name, limit)?);
            }
            let mut distinct = Distinct::default();
            for value in &found {
                // Lists of several types are no values that could be asked for.
                match Value::of(value) {
                    Value::List(items) if !is_alike(&items) => {}
                    value => distinct.add(&value, limit),
                }
            }
            return Ok(distinct.into_values(limit));
        }
        Field::Attribute { .. } => {}
    }
    scanned(context, traces, range, &field, &groups, limit)
}

/// Values that spans show which pass one of the groups.
fn scanned(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    field: &Field,
    groups: &[Vec<Expr>],
    limit: usize,
) -> Result<Vec<AttributeValue>, EvalError> {
    let mut fields = vec![field.clone()];
    groups.iter().flatten().for_each(|expr| fields_of(expr, &mut fields));
    let filter = joined(groups).map(|expr| node(&expr));
    let Some(request) = request(&fields, filter.as_ref().and_then(conditions)) else {
        return Ok(Vec::new());
    };
    let with_tree = looks_at_tree(&fields);
    let snapshot = traces.snapshot(range);
    let (all, _) = over_shards(
        context,
        &snapshot,
        &request,
        Distinct::default,
        |distinct, id, spans| {
            let view = View::new(id, spans, with_tree);
            for at in 0..spans.len() as u32 {
                if filter.as_ref().is_none_or(|filter| passes(filter, &view, at)) {
                    distinct.add(&view.value(at, field), limit);
                }
            }
            Ok(())
        },
    )?;
    let mut total = Distinct::default();
    all.into_iter().for_each(|one| total.values.extend(one.values));
    Ok(total.into_values(limit))
}

/// The groups as one expression.
fn joined(groups: &[Vec<Expr>]) -> Option<Expr> {
    use crate::syntax::BinaryOp::{And, Or};
    let join = |op, all: Vec<Expr>| {
        all.into_iter()
            .reduce(|a, b| Expr::Binary(op, Box::new(a), Box::new(b)))
    };
    join(Or, groups.iter().filter_map(|group| join(And, group.clone())).collect())
}

/// An identifier as it stands in a filter.
fn identifier(text: &str) -> Result<Field, ParseError> {
    let refused = |why: String| ParseError {
        message: format!("please provide a valid tagName: failed to parse identifier {text}: {why}"),
    };
    let tree = parse::parse(&format!("{{{text}}}")).map_err(|e| refused(e.message))?;
    let stages = match tree.body {
        Body::Spansets(Pipeline { stages }) => stages,
        Body::Metrics(_) => Vec::new(),
    };
    match stages.into_iter().next() {
        Some(Stage::Spansets(Spansets::Filter(Expr::Field(field)))) => Ok(field),
        _ => Err(refused("expected Attribute".to_owned())),
    }
}

/// A name of the first version of the API; what Tempo has columns for is looked up where it belongs.
fn bare(name: &str) -> Field {
    let scope = match name {
        "name" => return Field::Intrinsic(Intrinsic::Name),
        "root.name" => return Field::Intrinsic(Intrinsic::RootName),
        "root.service.name" => return Field::Intrinsic(Intrinsic::RootService),
        "service.name" => Scope::Resource,
        "http.method" | "http.url" | "http.status_code" => Scope::Span,
        _ => Scope::None,
    };
    Field::Attribute {
        parent: false,
        scope,
        name: name.to_owned(),
    }
}

/// Distinct values by their text and type; lists count by their elements.
#[derive(Default)]
struct Distinct {
    values: BTreeMap<(String, Vec<u8>), AttributeValue>,
    key: Vec<u8>,
}

impl Distinct {
    fn add(&mut self, value: &Value<'_>, limit: usize) {
        match value {
            Value::Nil | Value::Opaque => {}
            Value::List(items) => items.iter().for_each(|item| self.add(item, limit)),
            one => {
                self.key.clear();
                one.put_key(&mut self.key);
                let key = (one.to_text(), self.key.clone());
                if let Entry::Vacant(place) = self.values.entry(key) {
                    place.insert(one.to_attribute());
                    // The first by text are kept, so that the answer does not depend on the order of visits.
                    if self.values.len() > limit {
                        self.values.pop_last();
                    }
                }
            }
        }
    }

    fn into_values(self, limit: usize) -> Vec<AttributeValue> {
        self.values.into_values().take(limit).collect()
    }
}
