//! Log queries: the newest (or oldest) entries that survive a pipeline, exactly as many as asked for.
//!
//! Runs are taken in the order of time in waves: those that hold the next lines wanted are read in parallel, then looked
//! at slice by slice of time, so that a stream full of hits spares the others a long look. Once the limit is filled, what
//! cannot beat the last entry kept ends the query. Entries of one instant are ordered by stream, then by arrival (or its reverse).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::HashMap;
use model::{Entry, LabelSet, TimeRangeNs, TimestampNs};
use query_exec::{Context, ExecError};
use rayon::prelude::*;
use storage_logs::{Entries, Logs, Run};

use crate::pipeline::{Scratch, Sorted};
use crate::plan::LogPlan;
use crate::{Direction, EvalError, Line, Options, Stats, Stream};

/// How often a loop over lines looks whether to stop.
const CHECK_LINES: usize = 16;
/// Most runs that are open at once, and most raw bytes of them, unless one alone has more.
const WAVE_RUNS_MAX: usize = 64;
const WAVE_BYTES_MAX: u64 = 32 << 20;
/// Lines of the first slice, if the limit is lower, and how much larger each slice is than the one before.
const SLICE_LINES_MIN: usize = 256;
const SLICE_GROWTH: usize = 4;

/// Bytes of lines and labels that a result may hold, with what is found on the way to it.
const RESULT_BYTES_MAX: usize = 512 << 20;

/// An entry that survived, and its place in the order.
struct Found {
    t: i64,
    /// The stream's number among the query's streams.
    stream: usize,
    /// Rises with arrival within the stream at one instant.
    arrival: usize,
    labels: LabelSet,
    line: Line,
    /// What it holds.
    bytes: usize,
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

    let search = Search {
        context,
        plan,
        options,
        backward,
        now,
        held: AtomicUsize::new(0),
    };
    let mut kept: Vec<Found> = Vec::new();
    let mut buffers: Vec<Entries> = Vec::new();
    let mut lines = options.limit.saturating_mul(2).max(SLICE_LINES_MIN);
    let mut rest = &runs[..];
    while let Some(first) = rest.first() {
        if search
            .bar(&kept)
            .is_some_and(|bar| search.beyond(search.begin(first), bar))
        {
            break;
        }
        let (wave, later) = rest.split_at(search.wave_len(rest, lines));
        rest = later;
        buffers.resize_with(wave.len().max(buffers.len()), Entries::default);
        let jobs: Vec<(&Run, Entries)> = wave.iter().zip(buffers.drain(..wave.len())).collect();
        let opened = jobs.into_par_iter().map(|(run, entries)| {
            let stream = numbers.get(run.labels()).copied().unwrap_or(0);
            search.open(run, stream, entries)
        });
        let mut opened = opened.collect::<Vec<_>>().into_iter().collect::<Result<Vec<_>, _>>()?;
        stats.runs += opened.len() as u64;
        for (lines, bytes) in opened.iter().map(|open| open.entries.left_out()) {
            stats.lines += lines;
            stats.bytes += bytes;
        }
        while search.narrow(&mut opened, search.bar(&kept)) > 0 {
            context.check("log scan")?;
            let edge = search.edge(&opened, lines);
            let parts: Vec<Result<(Vec<Found>, Stats), EvalError>> = opened
                .par_iter_mut()
                .map_init(Scratch::default, |scratch, open| search.scan(open, edge, scratch))
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
            search.held.store(kept.iter().map(|found| found.bytes).sum(), Relaxed);
            lines = lines.saturating_mul(SLICE_GROWTH);
        }
        buffers.extend(opened.into_iter().map(|open| open.entries));
    }
    stats.entries = kept.len() as u64;
    stats.damaged_chunks = snapshot.skipped_chunks();
    Ok((group(kept), stats))
}

/// What a search does not change.
struct Search<'a> {
    context: &'a Context,
    plan: &'a LogPlan,
    options: Options,
    backward: bool,
    now: TimestampNs,
    /// Bytes of what is kept, and of what was found since.
    held: AtomicUsize,
}

/// A run that is read, and which of its entries are still to be looked at.
struct Open<'a> {
    run: &'a Run,
    stream: usize,
    entries: Entries,
    left: Range<usize>,
}

impl Search<'_> {
    /// The last entry kept, once there are enough: what lies beyond it is not wanted.
    fn bar(&self, kept: &[Found]) -> Option<i64> {
        kept.last().filter(|_| kept.len() == self.options.limit).map(|f| f.t)
    }

    fn beyond(&self, t: i64, bar: i64) -> bool {
        if self.backward { t < bar } else { t > bar }
    }

    /// The time of a run that comes first.
    fn begin(&self, run: &Run) -> i64 {
        if self.backward { run.max().0 } else { run.min().0 }
    }

    /// How many of the next runs hold about as many `lines` before the first run that is not among them; no more than
    /// may be open at once.
    fn wave_len(&self, runs: &[Run], lines: usize) -> usize {
        let mut bytes = 0;
        let most = runs.len().min(WAVE_RUNS_MAX);
        for n in 1..most {
            bytes += runs[n - 1].bytes_max();
            if bytes + runs[n].bytes_max() > WAVE_BYTES_MAX {
                return n;
            }
            let edge = self.begin(&runs[n]);
            let share = |run: &Run| {
                let span = run.min().0.abs_diff(run.max().0) as f64 + 1.0;
                let before = self.begin(run).abs_diff(edge) as f64;
                run.entries_max() as f64 * (before / span).min(1.0)
            };
            if runs[..n].iter().map(share).sum::<f64>() >= lines as f64 {
                return n;
            }
        }
        most
    }

    fn open<'r>(&self, run: &'r Run, stream: usize, mut entries: Entries) -> Result<Open<'r>, EvalError> {
        self.context.check("log scan")?;
        let bytes = run.read(&mut entries)?;
        self.context.add_bytes(bytes)?;
        let left = 0..entries.len();
        Ok(Open {
            run,
            stream,
            entries,
            left,
        })
    }

    /// Leaves out what lies beyond the bar. Says how many entries are left.
    fn narrow(&self, opened: &mut [Open<'_>], bar: Option<i64>) -> usize {
        if let Some(bar) = bar {
            for open in opened.iter_mut() {
                open.left = self.split(open, bar).1;
            }
        }
        opened.iter().map(|open| open.left.len()).sum()
    }

    /// The entries left beyond an instant, and those up to it and at it.
    fn split(&self, open: &Open<'_>, edge: i64) -> (Range<usize>, Range<usize>) {
        let Range { start, end } = open.left;
        if self.backward {
            let before = edge
                .checked_sub(1)
                .map_or(0, |t| open.entries.count_until(TimestampNs(t)));
            let at = before.clamp(start, end);
            (start..at, at..end)
        } else {
            let at = open.entries.count_until(TimestampNs(edge)).clamp(start, end);
            (at..end, start..at)
        }
    }

    /// The instant up to which at least so many lines are left to look at; `None`: look at all.
    fn edge(&self, opened: &[Open<'_>], lines: usize) -> Option<i64> {
        let left: usize = opened.iter().map(|open| open.left.len()).sum();
        if left / 2 <= lines {
            return None;
        }
        let some = opened.iter().filter(|open| !open.left.is_empty());
        let mut low = some.clone().map(|o| o.entries.t(o.left.start).0).min()?;
        let mut high = some.map(|o| o.entries.t(o.left.end - 1).0).max()?;
        while low < high {
            let middle = low.wrapping_add((low.abs_diff(high) / 2) as i64);
            // Rounded away from the newest when going back, so that the range shrinks.
            let middle = if self.backward { middle + 1 } else { middle };
            let enough = opened.iter().map(|o| self.split(o, middle).1.len()).sum::<usize>() >= lines;
            match (self.backward, enough) {
                (true, true) => low = middle,
                (true, false) => high = middle - 1,
                (false, true) => high = middle,
                (false, false) => low = middle + 1,
            }
        }
        Some(low)
    }

    /// Counts bytes held; fails when there are too many.
    fn hold(&self, bytes: usize) -> Result<(), EvalError> {
        if self.held.fetch_add(bytes, Relaxed).saturating_add(bytes) > RESULT_BYTES_MAX {
            return Err(EvalError::Exec(ExecError::Limit(format!(
                "the query would return more than {RESULT_BYTES_MAX} bytes; ask for fewer or shorter lines"
            ))));
        }
        Ok(())
    }

    /// Looks at the entries up to the edge.
    fn scan(
        &self,
        open: &mut Open<'_>,
        edge: Option<i64>,
        scratch: &mut Scratch,
    ) -> Result<(Vec<Found>, Stats), EvalError> {
        let (later, now) = match edge {
            None => (0..0, open.left.clone()),
            Some(edge) => self.split(open, edge),
        };
        open.left = later;
        let Open {
            run, stream, entries, ..
        } = open;
        let mut stats = Stats::default();
        let mut found: Vec<Found> = Vec::new();
        if now.is_empty() {
            return Ok((found, stats));
        }
        scratch.begin_stream(run.labels());
        let pipeline = &self.plan.pipeline;
        let picked = pipeline.filter(entries, now.clone(), scratch);
        if picked.is_some() {
            stats.lines += now.len() as u64;
            stats.bytes += entries.line_bytes(now.clone()) as u64;
        }
        let count = picked.as_ref().map_or(now.len(), Vec::len);
        for n in 0..count {
            if n % CHECK_LINES == CHECK_LINES - 1 {
                self.context.check("log scan")?;
            }
            if found.len() == self.options.limit {
                break;
            }
            let place = if self.backward { count - 1 - n } else { n };
            let i = picked
                .as_ref()
                .map_or(now.start + place, |picked| picked[place] as usize);
            let t = entries.t(i);
            let line = entries.line(i);
            if picked.is_none() {
                stats.lines += 1;
                stats.bytes += line.len() as u64;
            }
            if pipeline.run_filtered(line, t, self.now, entries.metadata(i), scratch) {
                let (labels, line) = survivor(run.labels(), t, line, scratch);
                let bytes = bytes_of(&line);
                self.hold(bytes)?;
                found.push(Found {
                    t: t.0,
                    stream: *stream,
                    arrival: i,
                    labels,
                    line,
                    bytes,
                });
            }
        }
        Ok((found, stats))
    }
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

/// What a line of a result holds, about.
fn bytes_of(line: &Line) -> usize {
    let pairs = line.parsed.iter().chain(&line.entry.metadata);
    let text: usize = pairs
        .map(|(n, v)| n.len() + v.len() + size_of::<(String, String)>())
        .sum();
    text + line.entry.line.len()
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
