//! Range aggregations: lines in, rows out.
//!
//! Runs are read in waves, in parallel. What only counts (lines, bytes) keeps for each series how its value changes from
//! step to step, so that an entry costs two additions however many windows it is in, and no sample is held; entries of
//! one series between two edges of windows are added at once. What looks at values holds the samples and slides over them
//! when all are there.
//!
//! No more is read than the query looks at: for counting entries a closed chunk's tally if all of it lies in the same
//! windows, else the times and, where the series depends on it, some of the structured metadata.

use hashbrown::HashMap;
use model::{LabelSet, TimeRangeNs, TimestampNs};
use query_exec::{Cells, Context, ExecError, Grid, Matrix, Row};
use rayon::prelude::*;
use storage_logs::{Columns, Entries, Run, Snapshot};

use crate::labels::{ERROR, ERROR_DETAILS, Labels};
use crate::pipeline::Scratch;
use crate::plan::{Group, RangePlan};
use crate::syntax::RangeOp;
use crate::{EvalError, Stats, units, window};

/// How often a loop over lines looks whether to stop.
const CHECK_LINES: usize = 16;
/// Runs of a wave per thread.
const WAVE_RUNS: usize = 32;
/// What a series weighs against the limit on samples beside its name, twice, and what it counts: its places in the tables.
const SERIES_WEIGHT: u64 = 16;
/// Bytes of what weighs as a sample.
const SAMPLE_BYTES: usize = 16;
/// What is collected in between is weighed when it may be so much.
const UNWEIGHED_MAX: u64 = 4096;
/// Most combinations of metadata whose series are remembered within a run.
const KNOWN_MAX: usize = 32;

/// The aggregation on every step of `grid` (ns). More series than `series_max` are refused as soon as they are found.
pub(crate) fn aggregate(
    context: &Context,
    snapshot: &Snapshot,
    plan: &RangePlan,
    grid: Grid,
    now: TimestampNs,
    series_max: Option<u64>,
    stats: &mut Stats,
) -> Result<Matrix, EvalError> {
    let Some(range) = time_range(plan, &grid) else {
        return Ok(Matrix::empty(grid));
    };
    let needles = plan
        .log
        .needles(|| snapshot.series(std::slice::from_ref(&plan.log.matchers), range).ok());
    let mut runs = snapshot.runs(&plan.log.matchers, range, &needles)?;
    // The order decides which fault is reported, and the order of samples of one instant.
    runs.sort_by(|a, b| (a.labels(), a.min()).cmp(&(b.labels(), b.min())));
    let mut all = Collected::default();
    let collector = Collector {
        context,
        plan,
        now,
        windows: Windows::new(plan, &grid),
        counts_only: counts_only(plan),
    };
    for wave in runs.chunks(WAVE_RUNS * rayon::current_num_threads().max(1)) {
        // Neighbours are added up by the thread that reads them; the parts keep the order of the runs.
        let parts: Vec<Result<Collected, EvalError>> = wave
            .par_iter()
            .fold(
                || Ok((Collected::default(), Buffers::default())),
                |part: Result<(Collected, Buffers), EvalError>, run| {
                    let (mut sum, mut buffers) = part?;
                    collector.add(run, &mut buffers, &mut sum)?;
                    Ok((sum, buffers))
                },
            )
            .map(|part| part.map(|(sum, _)| sum))
            .collect();
        for part in parts {
            all.merge(part?, context)?;
            match series_max {
                Some(most) if all.keys.len() as u64 > most && plan.op != RangeOp::Absent => {
                    return Err(too_many_series(most).into());
                }
                _ => {}
            }
        }
    }
    stats.add(&all.stats);
    let matrix = all.finish(context, plan, grid)?;
    Ok(matrix)
}

/// From the first window's start to the last one's end.
fn time_range(plan: &RangePlan, grid: &Grid) -> Option<TimeRangeNs> {
    let start = grid
        .start()
        .checked_sub(plan.offset_ns)?
        .checked_sub(plan.range_ns)?
        .checked_add(1)?;
    let end = grid.end().checked_sub(plan.offset_ns)?.checked_add(1)?;
    Some(TimeRangeNs {
        start: TimestampNs(start),
        end: TimestampNs(end),
    })
}

/// What entries add up to, by series.
#[derive(Default)]
struct Collected {
    series: HashMap<Box<[u8]>, usize>,
    /// In the order of `series`' numbers.
    counts: Vec<Changes>,
    samples: Vec<Samples>,
    keys: Vec<Box<[u8]>>,
    /// What it has come to weigh against the limit on samples, and has not been told yet.
    unweighed: u64,
    stats: Stats,
}

/// How counts change from a step to the next, from step `first` on.
#[derive(Default)]
struct Changes {
    first: usize,
    /// Entries and bytes.
    by_step: Vec<(i64, i64)>,
}

/// Samples in the order of arrival.
#[derive(Default)]
struct Samples {
    t: Vec<i64>,
    v: Vec<f64>,
}

impl Changes {
    /// Says how many steps more are held.
    fn add(&mut self, span: &Span, entries: i64, bytes: i64) -> u64 {
        let before = self.by_step.len();
        self.reach(span.from);
        self.reach(span.to);
        let start = &mut self.by_step[span.from - self.first];
        (start.0, start.1) = (start.0 + entries, start.1 + bytes);
        let end = &mut self.by_step[span.to - self.first];
        (end.0, end.1) = (end.0 - entries, end.1 - bytes);
        (self.by_step.len() - before) as u64
    }

    fn reach(&mut self, step: usize) {
        if self.by_step.is_empty() {
            self.first = step;
        }
        if step < self.first {
            let more = self.first - step;
            self.by_step.splice(0..0, std::iter::repeat_n((0, 0), more));
            self.first = step;
        }
        let len = step - self.first + 1;
        if self.by_step.len() < len {
            self.by_step.resize(len, (0, 0));
        }
    }
}

impl Collected {
    fn series_of(&mut self, key: &[u8]) -> usize {
        if let Some(number) = self.series.get(key) {
            return *number;
        }
        let number = self.keys.len();
        self.unweighed += weight_of_series(key);
        self.series.insert(key.into(), number);
        self.keys.push(key.into());
        self.counts.push(Changes::default());
        self.samples.push(Samples::default());
        number
    }

    /// Adds entries to a series.
    fn count(&mut self, number: usize, span: &Span, entries: usize, bytes: usize) {
        self.unweighed += self.counts[number].add(span, entries as i64, bytes as i64);
    }

    /// Tells the query what is held, if it is not little.
    fn weigh(&mut self, context: &Context, least: u64) -> Result<(), ExecError> {
        if self.unweighed > least {
            context.add_samples(std::mem::take(&mut self.unweighed))?;
        }
        Ok(())
    }

    fn merge(&mut self, mut other: Collected, context: &Context) -> Result<(), EvalError> {
        other.weigh(context, 0)?;
        self.stats.add(&other.stats);
        for ((key, counts), samples) in other.keys.iter().zip(other.counts).zip(other.samples) {
            let known = self.keys.len();
            let number = self.series_of(key);
            // It has been weighed already, as the other's.
            self.unweighed = 0;
            if number < known {
                context.release_samples(weight_of_series(key));
            }
            if let Some(last) = counts.by_step.len().checked_sub(1) {
                let mine = &mut self.counts[number];
                let before = mine.by_step.len();
                mine.reach(counts.first);
                mine.reach(counts.first + last);
                context.add_samples((mine.by_step.len() - before) as u64)?;
                context.release_samples(counts.by_step.len() as u64);
                for (i, change) in counts.by_step.into_iter().enumerate() {
                    let slot = &mut mine.by_step[counts.first - mine.first + i];
                    (slot.0, slot.1) = (slot.0 + change.0, slot.1 + change.1);
                }
            }
            let mine = &mut self.samples[number];
            if mine.t.is_empty() {
                *mine = samples;
            } else {
                mine.t.extend(samples.t);
                mine.v.extend(samples.v);
            }
        }
        Ok(())
    }

    fn finish(self, context: &Context, plan: &RangePlan, grid: Grid) -> Result<Matrix, EvalError> {
        let seconds = plan.range_ns as f64 / 1e9;
        let row_weight = weight_of_row(&grid);
        let mut rows = Vec::with_capacity(self.keys.len());
        for ((key, counts), samples) in self.keys.iter().zip(self.counts).zip(self.samples) {
            context.check("range aggregation")?;
            let Ok(labels) = LabelSet::from_encoded_with_empty(key) else {
                continue;
            };
            context.add_samples(row_weight)?;
            let held = weight_of_series(key) + (counts.by_step.len() + samples.t.len()) as u64;
            let cells = if counts_only(plan) {
                let mut cells = Cells::absent(grid.len());
                let (mut entries, mut bytes) = (0, 0);
                for step in counts.first..grid.len() {
                    let Some(change) = counts.by_step.get(step - counts.first) else {
                        break;
                    };
                    entries += change.0;
                    bytes += change.1;
                    if entries > 0 {
                        cells.set(
                            step,
                            match plan.op {
                                RangeOp::Rate => entries as f64 / seconds,
                                RangeOp::Bytes => bytes as f64,
                                RangeOp::BytesRate => bytes as f64 / seconds,
                                _ => entries as f64,
                            },
                        );
                    }
                }
                cells
            } else {
                let (t, v) = samples.sorted();
                window::aggregate(plan.op, plan.parameter, &grid, plan.offset_ns, plan.range_ns, &t, &v)
            };
            context.release_samples(held);
            rows.push(Row::new(labels, cells));
        }
        let mut matrix = Matrix { grid, rows };
        if plan.op == RangeOp::Absent {
            let there = matrix.rows.first().map(|row| row.cells.clone());
            let mut cells = Cells::absent(grid.len());
            for step in 0..grid.len() {
                if there.as_ref().is_none_or(|there| !there.has(step)) {
                    cells.set(step, 1.0);
                }
            }
            matrix.rows = vec![Row::new(plan.absent_labels(), cells)];
        }
        matrix.drop_absent();
        matrix.sort_by_labels();
        Ok(matrix)
    }
}

/// What a series weighs beside what it counts.
fn weight_of_series(key: &[u8]) -> u64 {
    SERIES_WEIGHT + (2 * key.len() / SAMPLE_BYTES) as u64
}

/// What a row of the answer weighs: it has a place for every step.
pub(crate) fn weight_of_row(grid: &Grid) -> u64 {
    (grid.len() * size_of::<f64>() / SAMPLE_BYTES) as u64 + 1
}

/// Loki's refusal of an answer of many series.
pub(crate) fn too_many_series(most: u64) -> ExecError {
    ExecError::Limit(format!(
        "maximum number of series ({most}) reached for a single query; consider reducing query cardinality by adding more \
         specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()"
    ))
}

impl Samples {
    /// By time; those of one instant in the order of streams and arrival.
    fn sorted(self) -> (Vec<i64>, Vec<f64>) {
        if self.t.is_sorted() {
            return (self.t, self.v);
        }
        let mut order: Vec<u32> = (0..self.t.len() as u32).collect();
        order.sort_by_key(|i| self.t[*i as usize]);
        (
            order.iter().map(|i| self.t[*i as usize]).collect(),
            order.iter().map(|i| self.v[*i as usize]).collect(),
        )
    }
}

/// Whether values play no part.
fn counts_only(plan: &RangePlan) -> bool {
    match plan.op {
        RangeOp::Count | RangeOp::Bytes | RangeOp::BytesRate | RangeOp::Absent => true,
        RangeOp::Rate => !plan.unwraps,
        _ => false,
    }
}

/// Whether lengths of lines play a part.
fn counts_bytes(plan: &RangePlan) -> bool {
    matches!(plan.op, RangeOp::Bytes | RangeOp::BytesRate)
}

/// Adds up runs.
struct Collector<'a> {
    context: &'a Context,
    plan: &'a RangePlan,
    now: TimestampNs,
    windows: Windows,
    counts_only: bool,
}

/// What is used again from run to run.
#[derive(Default)]
struct Buffers {
    entries: Entries,
    scratch: Scratch,
    order: Vec<u32>,
    key: Vec<u8>,
}

impl Collector<'_> {
    fn add(&self, run: &Run, buffers: &mut Buffers, out: &mut Collected) -> Result<(), EvalError> {
        self.context.check("log scan")?;
        out.stats.runs += 1;
        let pipeline = &self.plan.log.pipeline;
        let only_filters = pipeline.only_filters() && !self.plan.unwraps;
        let times_only = only_filters && pipeline.is_empty();
        if times_only && self.add_tally(run, buffers, out) {
            return Ok(out.weigh(self.context, UNWEIGHED_MAX)?);
        }
        let mut columns = Columns {
            lines: !times_only || counts_bytes(self.plan),
            metadata: match only_filters && self.by_nothing() {
                true => Some(&[]),
                false => self.plan.metadata.as_deref(),
            },
        };
        if !run.has_metadata() {
            columns.metadata = None;
        }
        let bytes = run.read_columns(columns, &mut buffers.entries)?;
        self.context.add_bytes(bytes)?;
        if !columns.lines {
            // They count as looked at, as far as can be said without them.
            out.stats.bytes += run.bytes_max();
        }
        let (lines, line_bytes) = buffers.entries.left_out();
        out.stats.lines += lines;
        out.stats.bytes += line_bytes;
        buffers.scratch.begin_stream(run.labels());
        let mut add = |buffers: &mut Buffers| match only_filters {
            true => self.add_unparsed(buffers, out),
            false => self.add_parsed(buffers, out),
        };
        match add(buffers) {
            Err(EvalError::Pipeline(first)) if columns.metadata.is_some() => {
                // The message tells all labels.
                run.read(&mut buffers.entries)?;
                buffers.scratch.begin_stream(run.labels());
                add(buffers).and(Err(EvalError::Pipeline(first)))
            }
            outcome => outcome,
        }
    }

    fn by_nothing(&self) -> bool {
        matches!(&self.plan.group, Group::By(names) if names.is_empty())
    }

    /// Adds a run by what is known of it unopened, if that is enough.
    fn add_tally(&self, run: &Run, buffers: &mut Buffers, out: &mut Collected) -> bool {
        let span = self.windows.of(run.min().0);
        if span.until < run.max().0 {
            return false;
        }
        let Some(tally) = run.tally().filter(|t| t.metadata_bytes == 0 || self.by_nothing()) else {
            return false;
        };
        if span.from < span.to {
            buffers.scratch.begin_stream(run.labels());
            let number = self.series(&buffers.scratch.labels, &mut buffers.order, &mut buffers.key, out);
            out.count(number, &span, tally.entries as usize, tally.line_bytes as usize);
            out.stats.lines += tally.entries;
            out.stats.bytes += tally.line_bytes;
        }
        true
    }

    /// Adds entries that pass the filters on the line; nothing else changes them.
    fn add_unparsed(&self, buffers: &mut Buffers, out: &mut Collected) -> Result<(), EvalError> {
        let Buffers {
            entries,
            scratch,
            order,
            key,
        } = buffers;
        let picked = self.plan.log.pipeline.filter(entries, 0..entries.len(), scratch);
        let with_metadata = entries.has_metadata() && !self.by_nothing();
        // Series by the metadata of entries, the last used first.
        let mut known: Vec<(Vec<(u32, u32)>, usize)> = Vec::new();
        let mut own = None;
        let mut next = 0;
        let mut at = 0;
        while at < entries.len() {
            self.context.check("log scan")?;
            let span = self.windows.of(entries.t(at).0);
            let end = entries.count_until(TimestampNs(span.until)).max(at + 1);
            let inside = at..end;
            at = end;
            let first = next;
            if let Some(picked) = &picked {
                next += picked[first..].partition_point(|&i| (i as usize) < end);
            }
            if span.from >= span.to {
                continue;
            }
            out.stats.lines += inside.len() as u64;
            out.stats.bytes += entries.line_bytes(inside.clone()) as u64;
            if !with_metadata {
                let (count, bytes) = match &picked {
                    None => (inside.len(), entries.line_bytes(inside)),
                    Some(picked) => {
                        let hits = &picked[first..next];
                        let bytes = hits.iter().map(|&i| entries.line_bytes(i as usize..i as usize + 1));
                        (hits.len(), bytes.sum())
                    }
                };
                if count > 0 {
                    let number = match own {
                        Some(number) => number,
                        None => *own.insert(self.series(&scratch.labels, order, key, out)),
                    };
                    out.count(number, &span, count, bytes);
                }
                continue;
            }
            let count = picked.as_ref().map_or(inside.len(), |_| next - first);
            for n in 0..count {
                let i = picked
                    .as_ref()
                    .map_or(inside.start + n, |picked| picked[first + n] as usize);
                let codes = entries.metadata_codes(i);
                let number = match known.iter().position(|(k, _)| k == codes) {
                    Some(0) => known[0].1,
                    Some(place) => {
                        known.swap(0, place);
                        known[0].1
                    }
                    None => {
                        scratch.labels.next_line();
                        for (name, value) in entries.metadata(i) {
                            scratch.labels.add_metadata(name, value);
                        }
                        if !scratch.labels.error().is_empty() {
                            return Err(pipeline_error(&scratch.labels));
                        }
                        let number = self.series(&scratch.labels, order, key, out);
                        if known.len() < KNOWN_MAX {
                            known.push((codes.to_vec(), number));
                        }
                        number
                    }
                };
                out.count(number, &span, 1, entries.line_bytes(i..i + 1));
                out.weigh(self.context, UNWEIGHED_MAX)?;
            }
        }
        Ok(())
    }

    /// Adds what is left of entries after the pipeline.
    fn add_parsed(&self, buffers: &mut Buffers, out: &mut Collected) -> Result<(), EvalError> {
        let Buffers {
            entries,
            scratch,
            order,
            key,
        } = buffers;
        let pipeline = &self.plan.log.pipeline;
        let picked = pipeline.filter(entries, 0..entries.len(), scratch);
        let mut own: Option<usize> = None;
        let mut span: Option<Span> = None;
        for n in 0..picked.as_ref().map_or(entries.len(), Vec::len) {
            if n % CHECK_LINES == CHECK_LINES - 1 {
                self.context.check("log scan")?;
            }
            let i = picked.as_ref().map_or(n, |picked| picked[n] as usize);
            let t = entries.t(i);
            let span = match span {
                Some(span) if t.0 <= span.until => span,
                _ => *span.insert(self.windows.of(t.0)),
            };
            if span.from >= span.to {
                continue;
            }
            let line = entries.line(i);
            if picked.is_none() {
                out.stats.lines += 1;
                out.stats.bytes += line.len() as u64;
            }
            if !pipeline.run_filtered(line, t, self.now, entries.metadata(i), scratch) {
                continue;
            }
            let value = if self.plan.unwraps {
                match pipeline.sample(&mut scratch.labels) {
                    Some(value) => value,
                    None => continue,
                }
            } else {
                0.0
            };
            if pipeline.fails(&scratch.labels) {
                return Err(pipeline_error(&scratch.labels));
            }
            // What a line itself calls an error is one if it stays among the labels.
            if scratch.labels.error().is_empty()
                && let Some(kind) = scratch.labels.get_label(ERROR)
                && self.keeps(ERROR)
            {
                return Err(pipeline_error_of(kind, &scratch.labels, |n| self.keeps(n)));
            }
            // Entries whose labels are the stream's own have the stream's series.
            let unchanged = self.by_nothing() || scratch.labels.is_stream_only();
            let number = match own.filter(|_| unchanged) {
                Some(number) => number,
                None => {
                    let number = self.series(&scratch.labels, order, key, out);
                    if unchanged {
                        own = Some(number);
                    }
                    number
                }
            };
            if self.counts_only {
                out.count(number, &span, 1, scratch.line(line).len());
            } else {
                out.samples[number].t.push(t.0);
                out.samples[number].v.push(value);
                out.unweighed += 1;
            }
            out.weigh(self.context, UNWEIGHED_MAX)?;
        }
        if picked.is_some() {
            out.stats.lines += entries.len() as u64;
            out.stats.bytes += entries.line_bytes(0..entries.len()) as u64;
        }
        Ok(())
    }

    /// Whether series keep the label.
    fn keeps(&self, name: &str) -> bool {
        match &self.plan.group {
            Group::All => Some(name) != self.plan.log.pipeline.unwrapped(),
            Group::By(names) => names.iter().any(|n| n == name),
            Group::Without(names) => names.iter().all(|n| n != name),
        }
    }

    /// The number of the series of an entry with these labels.
    fn series(&self, labels: &Labels, order: &mut Vec<u32>, key: &mut Vec<u8>, out: &mut Collected) -> usize {
        let unwrapped = self.plan.log.pipeline.unwrapped();
        key.clear();
        match &self.plan.group {
            Group::All if unwrapped.is_none() => labels.encode(|_| true, true, order, key),
            Group::All => labels.encode(|n| Some(n) != unwrapped && n != ERROR_DETAILS, true, order, key),
            Group::By(names) => {
                let is_kept = |n: &str| names.iter().any(|k| k == n) && n != ERROR_DETAILS && !labels.was_dropped(n);
                labels.encode(is_kept, true, order, key);
            }
            Group::Without(names) => labels.encode(
                |n| Some(n) != unwrapped && n != ERROR_DETAILS && !names.iter().any(|k| k == n),
                !self.plan.is_summed,
                order,
                key,
            ),
        }
        out.series_of(key)
    }
}

/// Which steps' windows hold an instant.
struct Windows {
    grid: Grid,
    offset: i64,
    range: i64,
}

/// The steps `from..to`, whose windows hold an instant and all later ones up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: usize,
    to: usize,
    until: i64,
}

impl Windows {
    fn new(plan: &RangePlan, grid: &Grid) -> Windows {
        Windows {
            grid: *grid,
            offset: plan.offset_ns,
            range: plan.range_ns,
        }
    }

    fn of(&self, t: i64) -> Span {
        let seen = t.saturating_add(self.offset);
        let from = self.at_or_after(seen);
        let to = self.at_or_after(seen.saturating_add(self.range));
        let until = self
            .last_before(from)
            .min(self.last_before(to).saturating_sub(self.range))
            .saturating_sub(self.offset);
        Span {
            from,
            to,
            until: until.max(t),
        }
    }

    /// The last instant for which `at_or_after` says `step`.
    fn last_before(&self, step: usize) -> i64 {
        if step < self.grid.len() {
            self.grid.at(step)
        } else {
            i64::MAX
        }
    }

    /// The first step that is not before `t`.
    fn at_or_after(&self, t: i64) -> usize {
        let from_start = t.saturating_sub(self.grid.start());
        if from_start <= 0 {
            return 0;
        }
        let step = self.grid.step();
        let steps = from_start / step + i64::from(from_start % step != 0);
        usize::try_from(steps).unwrap_or(usize::MAX).min(self.grid.len())
    }
}

/// Loki's answer to a metric query that meets an entry with an error.
fn pipeline_error(labels: &Labels) -> EvalError {
    pipeline_error_of(labels.error(), labels, |_| true)
}

/// The same for an error of this kind, with labels as far as series `keep` them.
fn pipeline_error_of(kind: &str, labels: &Labels, keep: impl Fn(&str) -> bool) -> EvalError {
    let kept = labels.iter().filter(|(n, ..)| *n != ERROR && keep(n));
    let mut pairs: Vec<(&str, &str)> = kept.map(|(n, v, _)| (n, v)).collect();
    pairs.push((ERROR, kind));
    if !labels.details().is_empty() {
        pairs.push((ERROR_DETAILS, labels.details()));
    }
    pairs.sort_unstable();
    let series: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={}", units::quote(v))).collect();
    let series = series.join(", ");
    EvalError::Pipeline(format!(
        "pipeline error: '{kind}' for series: '{{{series}}}'.\n\
         Use a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\n\
         To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_in_the_windows_that_end_at_it_or_later() {
        let grid = Grid::range(100, 200, 10);
        let windows = |range, offset, t| {
            let windows = Windows { grid, offset, range };
            let span = windows.of(t);
            for later in [t.saturating_add(1), t.saturating_add(7), span.until] {
                let same = |s: Span| (s.from, s.to) == (span.from, span.to);
                assert_eq!(same(windows.of(later)), later <= span.until, "{t} {later}");
            }
            (span.from, span.to)
        };
        assert_eq!(windows(10, 0, 100), (0, 1));
        assert_eq!(windows(10, 0, 101), (1, 2));
        assert_eq!(windows(5, 0, 101), (1, 1));
        assert_eq!(windows(30, 0, 85), (0, 2));
        assert_eq!(windows(10, 20, 100), (2, 3));
        assert_eq!(windows(10, 0, 500), (11, 11));
        assert_eq!(windows(10, 0, i64::MIN), (0, 0));
    }
}
