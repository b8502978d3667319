//! Search: the newest traces in which a query leaves a spanset. Every matching trace is looked at, so that the answer is
//! exact and the same each time; each shard keeps only as many as are asked for.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;

use model::{Span, StatusCode, TimestampNs, TraceId};
use query_exec::{Context, ExecError};
use rayon::prelude::*;
use storage_traces::{ScanRequest, ScanStats, Snapshot, Traces};

use crate::plan::Plan;
use crate::run::{Spans, Spanset, run};
use crate::syntax::{Field, Intrinsic};
use crate::view::{ROOT_MISSING, View};
use crate::{EvalError, FoundSpan, FoundSpanset, FoundTrace, SearchOptions, SearchOutput, ServiceStats};

/// Shards per thread: enough that none is left with the last one for long.
const SHARDS_PER_THREAD: u32 = 4;

/// What a search asks of each trace.
pub(crate) trait Question: Sync {
    /// The spansets that answer it; empty: the trace is none of those sought.
    fn ask(&self, view: &View<'_>) -> Result<Vec<Spanset>, ExecError>;
    fn needs_tree(&self) -> bool;
    /// Fields to show for the spans found.
    fn shown(&self) -> &[Field];
}

impl Question for Plan {
    fn ask(&self, view: &View<'_>) -> Result<Vec<Spanset>, ExecError> {
        run(&self.steps, view, vec![whole(view)])
    }
    fn needs_tree(&self) -> bool {
        Plan::needs_tree(self)
    }
    fn shown(&self) -> &[Field] {
        &self.fields
    }
}

/// The spanset of all spans.
pub(crate) fn whole(view: &View<'_>) -> Spanset {
    Spanset {
        spans: (0..view.spans.len() as u32).collect(),
        ..Spanset::default()
    }
}

pub(crate) fn search(
    question: &impl Question,
    request: &ScanRequest,
    context: &Context,
    traces: &Traces,
    options: &SearchOptions,
) -> Result<SearchOutput, EvalError> {
    let snapshot = traces.snapshot(options.range);
    let (found, stats) = over_shards(
        context,
        &snapshot,
        request,
        || Newest::new(options.limit),
        |newest, id, spans| {
            let view = View::new(id, spans, question.needs_tree());
            let long = options.min_duration_ns.is_none_or(|min| view.duration >= min);
            let short = options.max_duration_ns.is_none_or(|max| view.duration <= max);
            if !long || !short || !newest.wants(&view) {
                return Ok(());
            }
            let sets = question.ask(&view)?;
            if !sets.is_empty() {
                newest.add(found_trace(&view, &sets, question.shown(), options.spans_per_spanset));
            }
            Ok(())
        },
    )?;
    let mut all: Vec<FoundTrace> = found.into_iter().flat_map(Newest::into_traces).collect();
    all.sort_by(newer_first);
    all.truncate(options.limit);
    Ok(SearchOutput {
        traces: all,
        incomplete: snapshot.is_incomplete(),
        inspected_traces: stats.traces,
        inspected_spans: stats.spans,
        inspected_bytes: stats.bytes,
    })
}

/// Visits all traces of a snapshot, shard by shard in parallel; what each shard gathered comes in the order of shards.
pub(crate) fn over_shards<T: Send>(
    context: &Context,
    snapshot: &Snapshot,
    request: &ScanRequest,
    start: impl Fn() -> T + Sync,
    visit: impl Fn(&mut T, TraceId, &[Span]) -> Result<(), ExecError> + Sync,
) -> Result<(Vec<T>, ScanStats), EvalError> {
    let shards = (rayon::current_num_threads() as u32)
        .saturating_mul(SHARDS_PER_THREAD)
        .max(1);
    context.add_parts(shards.into());
    let one = |shard: u32| -> Result<(T, ScanStats), EvalError> {
        context.check("a scan of traces")?;
        let mut gathered = start();
        let mut stopped: Option<ExecError> = None;
        let stats = snapshot.scan(request, shard, shards, &mut |id, spans| {
            let visited = context
                .check("a scan of traces")
                .and_then(|()| visit(&mut gathered, id, spans));
            match visited {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    stopped = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(e) = stopped {
            return Err(e.into());
        }
        context.add_bytes(stats.bytes)?;
        context.part_done();
        Ok((gathered, stats))
    };
    let results: Vec<Result<(T, ScanStats), EvalError>> = (0..shards).into_par_iter().map(one).collect();
    let mut all = Vec::with_capacity(results.len());
    let mut total = ScanStats::default();
    for result in results {
        let (gathered, stats) = result?;
        total.traces += stats.traces;
        total.spans += stats.spans;
        total.bytes += stats.bytes;
        all.push(gathered);
    }
    Ok((all, total))
}

/// Newest start first, then by id.
fn newer_first(a: &FoundTrace, b: &FoundTrace) -> Ordering {
    b.start.cmp(&a.start).then(a.trace_id.cmp(&b.trace_id))
}

/// The newest traces so far, at most `limit`; the oldest of them on top.
struct Newest {
    heap: BinaryHeap<ByAge>,
    limit: usize,
}

struct ByAge(FoundTrace);

impl Ord for ByAge {
    fn cmp(&self, other: &ByAge) -> Ordering {
        newer_first(&self.0, &other.0)
    }
}
impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &ByAge) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for ByAge {
    fn eq(&self, other: &ByAge) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for ByAge {}

impl Newest {
    fn new(limit: usize) -> Newest {
        Newest {
            heap: BinaryHeap::new(),
            limit,
        }
    }

    /// Whether a trace would be among them.
    fn wants(&self, view: &View<'_>) -> bool {
        if self.heap.len() < self.limit {
            return true;
        }
        let newer = |oldest: &ByAge| {
            let oldest = &oldest.0;
            (oldest.start.0, std::cmp::Reverse(oldest.trace_id)) < (view.start, std::cmp::Reverse(view.id))
        };
        self.heap.peek().is_some_and(newer)
    }

    fn add(&mut self, trace: FoundTrace) {
        self.heap.push(ByAge(trace));
        if self.heap.len() > self.limit {
            self.heap.pop();
        }
    }

    fn into_traces(self) -> Vec<FoundTrace> {
        self.heap.into_iter().map(|by_age| by_age.0).collect()
    }
}

fn found_trace(view: &View<'_>, sets: &[Spanset], fields: &[Field], spans_max: usize) -> FoundTrace {
    let root = view.root_span();
    FoundTrace {
        trace_id: view.id,
        root_service: root
            .map_or(ROOT_MISSING, |root| root.resource.service_name())
            .to_owned(),
        root_name: root.map_or_else(String::new, |root| root.name.clone()),
        start: TimestampNs(view.start),
        duration_ns: view.duration,
        spansets: sets
            .iter()
            .map(|set| found_spanset(view, set, fields, spans_max))
            .collect(),
        services: services(view.spans),
    }
}

fn found_spanset(view: &View<'_>, set: &Spanset, fields: &[Field], spans_max: usize) -> FoundSpanset {
    let with_name = fields.contains(&Field::Intrinsic(Intrinsic::Name));
    let spans = set.spans.iter().take(spans_max).filter_map(|at| {
        let span = view.spans.get(*at as usize)?;
        let attributes = fields.iter().filter(|field| is_shown(field)).filter_map(|field| {
            let value = view.value(*at, field);
            (!value.is_nil()).then(|| (field.bare().to_owned(), value.to_attribute()))
        });
        Some(FoundSpan {
            span_id: span.span_id,
            name: if with_name { span.name.clone() } else { String::new() },
            start: span.start,
            duration_ns: span.duration_ns(),
            attributes: attributes.collect(),
        })
    });
    let attributes = set.attributes.iter();
    FoundSpanset {
        spans: spans.collect(),
        matched: set.spans.len() as u64,
        attributes: attributes
            .map(|(name, value)| (name.to_string(), value.to_attribute()))
            .collect(),
    }
}

/// Whether a field stands among a span's attributes; the others have a place of their own in the answer.
fn is_shown(field: &Field) -> bool {
    !matches!(
        field,
        Field::Intrinsic(
            Intrinsic::Name
                | Intrinsic::Duration
                | Intrinsic::TraceDuration
                | Intrinsic::RootName
                | Intrinsic::RootService
                | Intrinsic::TraceId
                | Intrinsic::SpanId
        )
    )
}

/// By name of the service.
fn services(spans: &[Span]) -> Vec<ServiceStats> {
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for span in spans {
        let counts = by_name.entry(span.resource.service_name()).or_default();
        counts.0 += 1;
        counts.1 += u64::from(span.status == StatusCode::Error);
    }
    let stats = by_name.into_iter().map(|(service, (spans, errors))| ServiceStats {
        service: service.to_owned(),
        spans,
        errors,
    });
    stats.collect()
}
