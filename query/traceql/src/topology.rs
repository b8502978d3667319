//! Which operations a service has, and which service calls which: what is drawn beside traces.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{AttributeValue, Span, SpanId, SpanKind, TimeRangeNs};
use query_exec::{Context, ExecError};
use storage_traces::{AttributeScope, Condition, Field, Projection, ScanRequest, Test, Traces};

use crate::EvalError;
use crate::search::over_shards;

/// Most operations that are listed; the first by name.
const OPERATIONS_MAX: usize = 10_000;

/// Calls from one service to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Who calls.
    pub parent: String,
    /// Who is called.
    pub child: String,
    /// How often.
    pub count: u64,
}

/// The operations of a service: names and kinds of its spans, sorted.
pub fn operations(
    context: &Context,
    traces: &Traces,
    range: TimeRangeNs,
    service: &str,
) -> Result<Vec<(String, SpanKind)>, EvalError> {
    let condition = Condition {
        field: Field::Attribute(AttributeScope::Resource, "service.name".to_owned()),
        test: Test::In(vec![AttributeValue::Str(service.to_owned())]),
    };
    let request = ScanRequest {
        any_of: vec![vec![condition]],
        attributes: Projection::Only(Vec::new()),
        events: false,
        links: false,
        lean: true,
    };
    let snapshot = traces.snapshot(range);
    let (shards, _) = over_shards(context, &snapshot, &request, BTreeSet::new, |found, _, spans| {
        for span in spans.iter().filter(|span| span.resource.service_name() == service) {
            // Looked up by reference first: almost every span's operation is known already.
            let known = (found as &BTreeSet<(String, SpanKind)>)
                .range((span.name.clone(), span.kind)..)
                .next()
                .is_some_and(|(name, kind)| *name == span.name && *kind == span.kind);
            if !known {
                found.insert((span.name.clone(), span.kind));
                if found.len() > OPERATIONS_MAX {
                    found.pop_last();
                }
            }
        }
        Ok(())
    })?;
    let all: BTreeSet<_> = shards.into_iter().flatten().collect();
    Ok(all.into_iter().take(OPERATIONS_MAX).collect())
}

/// Who calls whom: a span whose parent belongs to another service is a call, counted if it starts within `range`.
pub fn calls(context: &Context, traces: &Traces, range: TimeRangeNs) -> Result<Vec<Calls>, EvalError> {
    let request = ScanRequest {
        any_of: Vec::new(),
        attributes: Projection::Only(Vec::new()),
        events: false,
        links: false,
        lean: true,
    };
    let snapshot = traces.snapshot(range);
    let edges_max = context.limits().series_max as usize;
    let (shards, _) = over_shards(context, &snapshot, &request, BTreeMap::new, |edges, _, spans| {
        count_calls(spans, range, edges);
        if edges.len() > edges_max {
            return Err(ExecError::Limit(format!(
                "more than {edges_max} pairs of services call one another; ask for a shorter time"
            )));
        }
        Ok(())
    })?;
    let mut total: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (edge, count) in shards.into_iter().flatten() {
        *total.entry(edge).or_default() += count;
    }
    let calls = total
        .into_iter()
        .map(|((parent, child), count)| Calls { parent, child, count });
    Ok(calls.collect())
}

fn count_calls(spans: &[Span], range: TimeRangeNs, edges: &mut BTreeMap<(String, String), u64>) {
    // Of two spans that share an id, as Zipkin's client and server do, the server is the parent of what comes after.
    let mut by_id: HashMap<SpanId, &Span> = HashMap::with_capacity(spans.len());
    let mut clients: HashMap<SpanId, &Span> = HashMap::new();
    for span in spans {
        if span.kind == SpanKind::Client {
            clients.insert(span.span_id, span);
        }
        let place = by_id.entry(span.span_id).or_insert(span);
        if span.kind == SpanKind::Server {
            *place = span;
        }
    }
    for span in spans.iter().filter(|span| range.contains(span.start)) {
        let twin = (span.kind == SpanKind::Server)
            .then(|| clients.get(&span.span_id))
            .flatten();
        let named = span.parent_span_id.and_then(|id| by_id.get(&id));
        let Some(parent) = twin.or(named) else { continue };
        let (from, to) = (parent.resource.service_name(), span.resource.service_name());
        if from != to && !from.is_empty() && !to.is_empty() {
            *edges.entry((from.to_owned(), to.to_owned())).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{KeyValue, Resource, TimestampNs};

    use super::*;

    fn span(id: u64, parent: Option<u64>, kind: SpanKind, service: &str) -> Span {
        Span {
            span_id: SpanId(id),
            parent_span_id: parent.map(SpanId),
            kind,
            start: TimestampNs(5),
            resource: Arc::new(Resource {
                attributes: vec![KeyValue::new("service.name", service.into())],
                ..Resource::default()
            }),
            ..Span::default()
        }
    }

    fn check(spans: &[Span], want: &[(&str, &str, u64)]) {
        let mut edges = BTreeMap::new();
        count_calls(spans, TimeRangeNs::ALL, &mut edges);
        let edges: Vec<_> = edges.iter().map(|((a, b), n)| (a.as_str(), b.as_str(), *n)).collect();
        assert_eq!(edges, want);
    }

    #[test]
    fn a_call_is_a_child_in_another_service() {
        use SpanKind::{Client, Internal, Server};
        let spans = [
            span(1, None, Server, "web"),
            span(2, Some(1), Client, "web"),
            span(3, Some(2), Server, "api"),
            span(4, Some(3), Internal, "api"),
            span(5, Some(2), Server, "api"),
            span(6, Some(99), Server, "lost"),
            span(7, Some(3), Server, ""),
        ];
        check(&spans, &[("web", "api", 2)]);
    }

    #[test]
    fn halves_that_share_an_id_are_a_call() {
        use SpanKind::{Client, Server};
        let spans = [
            span(1, None, Client, "web"),
            span(1, None, Server, "api"),
            span(2, Some(1), Client, "api"),
            span(2, Some(1), Server, "db"),
        ];
        check(&spans, &[("api", "db", 1), ("web", "api", 1)]);
    }
}
