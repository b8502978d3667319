//! Search: the newest traces in which a query leaves a spanset. Storage brings traces in the order of the answer, so that
//! it is exact and the same each time, and reading ends with the last trace asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use model::{Span, StatusCode, TimestampNs, TraceId};
use query_exec::{Context, ExecError};
use rayon::prelude::*;
use storage_traces::{ScanRequest, ScanStats, Snapshot, Traces};

use crate::plan::Plan;
use crate::run::{Spanset, run};
use crate::seen::Seen;
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
    /// The only traces that can answer (rising), if it is known which.
    fn trace_ids(&self) -> Option<&[TraceId]> {
        None
    }
    /// What is seen of fields with several values; `None`: all.
    fn seen(&self) -> Option<&Seen> {
        None
    }
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
    fn trace_ids(&self) -> Option<&[TraceId]> {
        self.trace_ids.as_deref()
    }
    fn seen(&self) -> Option<&Seen> {
        Some(&self.seen)
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
    let mut found: Vec<FoundTrace> = Vec::new();
    let mut stopped: Option<ExecError> = None;
    let look = |id: TraceId, spans: &[Span]| -> Result<Option<FoundTrace>, ExecError> {
        context.check("a scan of traces")?;
        let view = View::new(id, spans, question.needs_tree());
        let view = match question.seen() {
            Some(seen) => view.seeing(seen),
            None => view,
        };
        let long = options.min_duration_ns.is_none_or(|min| view.duration >= min);
        let short = options.max_duration_ns.is_none_or(|max| view.duration <= max);
        if !long || !short {
            return Ok(None);
        }
        let sets = question.ask(&view)?;
        Ok((!sets.is_empty()).then(|| found_trace(&view, &sets, question.shown(), options.spans_per_spanset)))
    };
    let stats = if options.limit == 0 {
        ScanStats::default()
    } else if let Some(ids) = question.trace_ids() {
        // Filters of ids say which blocks have them, so that nothing else is read.
        let stats = snapshot.scan_ids(request, ids, &mut |id, spans| {
            match look(id, spans) {
                Ok(one) => found.extend(one),
                Err(e) => stopped = Some(e),
            }
            match stopped.is_some() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        found.sort_by_key(|trace| (Reverse(trace.start), trace.trace_id));
        found.truncate(options.limit);
        stats
    } else {
        snapshot.newest(request, options.limit, &spread(context), &mut |id, spans| {
            match look(id, spans) {
                Ok(one) => found.extend(one),
                Err(e) => stopped = Some(e),
            }
            match stopped.is_some() || found.len() >= options.limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?
    };
    match stopped {
        Some(e) => return Err(e.into()),
        // Parts of the work that were not begun in time are missing without a word.
        None => context.check("a scan of traces")?,
    }
    context.add_bytes(stats.bytes)?;
    Ok(SearchOutput {
        traces: found,
        incomplete: snapshot.is_incomplete(),
        inspected_traces: stats.traces,
        inspected_spans: stats.spans,
        inspected_bytes: stats.bytes,
    })
}

/// Spreads work over the threads, for as long as there is time.
fn spread(context: &Context) -> impl Fn(usize, &(dyn Fn(usize) + Sync)) + Sync {
    move |parts, work| {
        context.add_parts(parts as u64);
        (0..parts).into_par_iter().for_each(|part| {
            if context.check("a scan of traces").is_ok() {
                work(part);
            }
            context.part_done();
        });
    }
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
    let results: Result<Vec<(T, ScanStats)>, EvalError> = results.into_iter().collect();
    Ok(totalled(results?))
}

/// As [`over_shards`], of these traces (rising) alone.
pub(crate) fn over_ids<T: Send>(
    context: &Context,
    snapshot: &Snapshot,
    request: &ScanRequest,
    ids: &[TraceId],
    start: impl Fn() -> T + Sync,
    visit: impl Fn(&mut T, TraceId, &[Span]) -> Result<(), ExecError> + Sync,
) -> Result<(Vec<T>, ScanStats), EvalError> {
    let shards = rayon::current_num_threads() * SHARDS_PER_THREAD as usize;
    let chunks: Vec<&[TraceId]> = ids.chunks(ids.len().div_ceil(shards).max(1)).collect();
    let results = over_parts(context, chunks.len(), |part| {
        let mut gathered = start();
        let mut stopped: Option<ExecError> = None;
        let stats = snapshot.scan_ids(request, chunks[part], &mut |id, spans| {
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
        Ok((gathered, stats))
    })?;
    Ok(totalled(results))
}

fn totalled<T>(results: Vec<(T, ScanStats)>) -> (Vec<T>, ScanStats) {
    let mut total = ScanStats::default();
    let gathered = results.into_iter().map(|(gathered, stats)| {
        total.traces += stats.traces;
        total.spans += stats.spans;
        total.bytes += stats.bytes;
        gathered
    });
    let gathered = gathered.collect();
    (gathered, total)
}

/// Does parts of some work in parallel, for as long as there is time.
pub(crate) fn over_parts<T: Send>(
    context: &Context,
    parts: usize,
    work: impl Fn(usize) -> Result<T, EvalError> + Sync,
) -> Result<Vec<T>, EvalError> {
    context.add_parts(parts as u64);
    let one = |part: usize| {
        context.check("a scan of traces")?;
        let done = work(part)?;
        context.part_done();
        Ok(done)
    };
    (0..parts).into_par_iter().map(one).collect()
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
        let mut attributes = Vec::new();
        for field in fields.iter().filter(|field| is_shown(field)) {
            view.each_seen(*at, field, &mut |value| {
                attributes.push((field.bare().to_owned(), value.to_attribute()));
            });
        }
        let mut named = false;
        if with_name {
            view.each_seen(*at, &Field::Intrinsic(Intrinsic::Name), &mut |_| named = true);
        }
        Some(FoundSpan {
            span_id: span.span_id,
            name: if named { span.name.clone() } else { String::new() },
            start: span.start,
            duration_ns: span.duration_ns(),
            attributes,
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
