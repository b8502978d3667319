//! Log queries: the newest (or oldest) entries that survive a pipeline, exactly as many as asked for.
//!
//! Runs are taken in the order of time in waves, each in parallel. Once the limit is filled, a run that cannot beat the
//! last entry kept ends the query. Entries of one instant are ordered by stream, then by arrival (or its reverse).

use hashbrown::HashMap;
use model::{Entry, LabelSet, TimeRangeNs, TimestampNs};
use query_exec::Context;
use rayon::prelude::*;
use storage_logs::{Entries, Logs, Run};

use crate::pipeline::{Scratch, Sorted};
use crate::plan::LogPlan;
use crate::{Direction, EvalError, Line, Options, Stats, Stream};

/// How often a loop over lines looks whether to stop.
const CHECK_LINES: usize = 1024;
/// Most runs of a wave per thread.
const WAVE_RUNS_MAX: usize = 16;

/// An entry that survived, and its place in the order.
struct Found {
    t: i64,
    /// The stream's number among the query's streams.
    stream: usize,
    /// Rises with arrival within the stream at one instant.
    arrival: usize,
    labels: LabelSet,
    line: Line,
}

/// Runs the query over `[start, end)`.
pub(crate) fn select(
    context: &Context,
    logs: &Logs,
    plan: &LogPlan,
    range: TimeRangeNs,
    options: Options,
    now: Option<TimestampNs>,
) -> Result<(Vec<Stream>, Stats), EvalError> {
    let mut stats = Stats::default();
    if options.limit == 0 || range.start >= range.end {
        return Ok((Vec::new(), stats));
    }
    let backward = options.direction == Direction::Backward;
    let now = now.unwrap_or(TimestampNs(range.end.0.saturating_sub(1)));
    let snapshot = logs.snapshot(range);
    let needles = plan.needles(|| snapshot.series(std::slice::from_ref(&plan.matchers), range).ok());
    let mut runs = snapshot.runs(&plan.matchers, range, &needles)?;
    runs.sort_by(|a, b| match backward {
        true => (b.max(), a.labels()).cmp(&(a.max(), b.labels())),
        false => (a.min(), a.labels()).cmp(&(b.min(), b.labels())),
    });
    let mut streams: Vec<&LabelSet> = runs.iter().map(Run::labels).collect();
    streams.sort_unstable();
    streams.dedup();
    let numbers: HashMap<&LabelSet, usize> = streams.iter().enumerate().map(|(i, l)| (*l, i)).collect();

    let mut kept: Vec<Found> = Vec::new();
    let threads = rayon::current_num_threads().max(1);
    let mut wave = threads;
    let mut next = 0;
    while next < runs.len() {
        context.check("log scan")?;
        // The last entry kept, once there are enough: what lies beyond it is not wanted.
        let bar = (kept.len() == options.limit)
            .then(|| kept.last().map(|f| f.t))
            .flatten();
        let reaches = |run: &Run| match bar {
            None => true,
            Some(bar) if backward => run.max().0 >= bar,
            Some(bar) => run.min().0 <= bar,
        };
        if !reaches(&runs[next]) {
            break;
        }
        let end = (next + wave).min(runs.len());
        let parts: Vec<Result<(Vec<Found>, Stats), EvalError>> = runs[next..end]
            .par_iter()
            .filter(|run| reaches(run))
            .map_init(
                || (Entries::default(), Scratch::default()),
                |(entries, scratch), run| {
                    let stream = numbers.get(run.labels()).copied().unwrap_or(0);
                    scan(context, plan, run, stream, now, options, bar, entries, scratch)
                },
            )
            .collect();
        for part in parts {
            let (found, part) = part?;
            kept.extend(found);
            stats.add(&part);
        }
        kept.sort_by(|a, b| match backward {
            true => (b.t, a.stream, b.arrival).cmp(&(a.t, b.stream, a.arrival)),
            false => (a.t, a.stream, a.arrival).cmp(&(b.t, b.stream, b.arrival)),
        });
        kept.truncate(options.limit);
        next = end;
        wave = (wave * 2).min(threads * WAVE_RUNS_MAX);
    }
    stats.entries = kept.len() as u64;
    Ok((group(kept), stats))
}

#[allow(clippy::too_many_arguments)]
fn scan(
    context: &Context,
    plan: &LogPlan,
    run: &Run,
    stream: usize,
    now: TimestampNs,
    options: Options,
    bar: Option<i64>,
    entries: &mut Entries,
    scratch: &mut Scratch,
) -> Result<(Vec<Found>, Stats), EvalError> {
    let backward = options.direction == Direction::Backward;
    let mut stats = Stats {
        runs: 1,
        ..Stats::default()
    };
    let bytes = run.read(entries)?;
    context.add_bytes(bytes)?;
    scratch.begin_stream(run.labels());
    let mut found: Vec<Found> = Vec::new();
    // What lies beyond the bar is not wanted.
    let (from, to) = match bar {
        None => (0, entries.len()),
        Some(bar) if backward => (entries.count_until(TimestampNs(bar.saturating_sub(1))), entries.len()),
        Some(bar) => (0, entries.count_until(TimestampNs(bar))),
    };
    let picked = plan.pipeline.filter(entries, from..to);
    if picked.is_some() {
        stats.lines += (to - from) as u64;
        stats.bytes += entries.line_bytes(from..to) as u64;
    }
    for n in 0..picked.as_ref().map_or(to - from, Vec::len) {
        if n % CHECK_LINES == CHECK_LINES - 1 {
            context.check("log scan")?;
        }
        if found.len() == options.limit {
            break;
        }
        let i = match (&picked, backward) {
            (None, false) => from + n,
            (None, true) => to - 1 - n,
            (Some(picked), false) => picked[n] as usize,
            (Some(picked), true) => picked[picked.len() - 1 - n] as usize,
        };
        let t = entries.t(i);
        let line = entries.line(i);
        if picked.is_none() {
            stats.lines += 1;
            stats.bytes += line.len() as u64;
        }
        if plan.pipeline.run_filtered(line, t, now, entries.metadata(i), scratch) {
            let (labels, line) = survivor(run.labels(), t, line, scratch);
            found.push(Found {
                t: t.0,
                stream,
                arrival: i,
                labels,
                line,
            });
        }
    }
    Ok((found, stats))
}

/// An entry as the pipeline left it. `line` is the line that went in.
pub(crate) fn survivor(stream: &LabelSet, t: TimestampNs, line: &str, scratch: &Scratch) -> (LabelSet, Line) {
    let line = scratch.line(line).to_owned();
    if scratch.labels.is_stream_only() {
        let metadata = Vec::new();
        return (
            stream.clone(),
            Line {
                entry: Entry { t, line, metadata },
                parsed: Vec::new(),
            },
        );
    }
    let sorted = Sorted::of(&scratch.labels);
    let unchanged = sorted.stream.len() == stream.len();
    let labels = if unchanged {
        stream.clone()
    } else {
        LabelSet::from_pairs(sorted.stream)
    };
    let metadata = sorted.metadata;
    (
        labels,
        Line {
            entry: Entry { t, line, metadata },
            parsed: sorted.parsed,
        },
    )
}

/// Entries by their stream's labels, sorted by those; within a stream the order stays.
fn group(kept: Vec<Found>) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    let mut numbers: HashMap<LabelSet, usize> = HashMap::new();
    for found in kept {
        let number = *numbers.entry_ref(&found.labels).or_insert_with(|| {
            streams.push(Stream {
                labels: found.labels.clone(),
                lines: Vec::new(),
            });
            streams.len() - 1
        });
        streams[number].lines.push(found.line);
    }
    streams.sort_by(|a, b| a.labels.cmp(&b.labels));
    streams
}
