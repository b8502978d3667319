//! Range aggregations: lines in, rows out.
//!
//! Runs are read in waves, in parallel. What only counts (lines, bytes) keeps for each series how its value changes from
//! step to step, so that an entry costs two additions however many windows it is in, and no sample is held. What looks
//! at values holds the samples and slides over them when all are there.

use hashbrown::HashMap;
use model::{LabelSet, TimeRangeNs, TimestampNs};
use query_exec::{Cells, Context, Grid, Matrix, Row};
use rayon::prelude::*;
use storage_logs::{Entries, Run, Snapshot};

use crate::labels::{ERROR, ERROR_DETAILS, Labels};
use crate::pipeline::Scratch;
use crate::plan::{Group, RangePlan};
use crate::syntax::RangeOp;
use crate::{EvalError, Stats, units, window};

/// How often a loop over lines looks whether to stop.
const CHECK_LINES: usize = 1024;

/// The aggregation on every step of `grid` (ns).
pub(crate) fn aggregate(
    context: &Context,
    snapshot: &Snapshot,
    plan: &RangePlan,
    grid: Grid,
    now: TimestampNs,
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
    for wave in runs.chunks(8 * rayon::current_num_threads().max(1)) {
        let parts: Vec<Result<Collected, EvalError>> = wave
            .par_iter()
            .map_init(
                || (Entries::default(), Scratch::default()),
                |(entries, scratch), run| collect(context, plan, &grid, now, run, entries, scratch),
            )
            .collect();
        for part in parts {
            all.merge(part?, context)?;
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
    fn add(&mut self, from: usize, to: usize, bytes: i64) {
        self.reach(from);
        self.reach(to);
        let start = &mut self.by_step[from - self.first];
        (start.0, start.1) = (start.0 + 1, start.1 + bytes);
        let end = &mut self.by_step[to - self.first];
        (end.0, end.1) = (end.0 - 1, end.1 - bytes);
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
        self.series.insert(key.into(), number);
        self.keys.push(key.into());
        self.counts.push(Changes::default());
        self.samples.push(Samples::default());
        number
    }

    fn merge(&mut self, other: Collected, context: &Context) -> Result<(), EvalError> {
        self.stats.add(&other.stats);
        for ((key, counts), samples) in other.keys.iter().zip(other.counts).zip(other.samples) {
            let known = self.keys.len();
            let number = self.series_of(key);
            if number == known {
                context.add_samples(1)?;
            }
            if let Some(last) = counts.by_step.len().checked_sub(1) {
                let mine = &mut self.counts[number];
                let before = mine.by_step.len();
                mine.reach(counts.first);
                mine.reach(counts.first + last);
                context.add_samples((mine.by_step.len() - before) as u64)?;
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
        let mut rows = Vec::with_capacity(self.keys.len());
        for ((key, counts), samples) in self.keys.iter().zip(self.counts).zip(self.samples) {
            context.check("range aggregation")?;
            let Ok(labels) = LabelSet::from_encoded_with_empty(key) else {
                continue;
            };
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
                let held = samples.t.len() as u64;
                let (t, v) = samples.sorted();
                let cells = window::aggregate(plan.op, plan.parameter, &grid, plan.offset_ns, plan.range_ns, &t, &v);
                context.release_samples(held);
                cells
            };
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

fn collect(
    context: &Context,
    plan: &RangePlan,
    grid: &Grid,
    now: TimestampNs,
    run: &Run,
    entries: &mut Entries,
    scratch: &mut Scratch,
) -> Result<Collected, EvalError> {
    context.check("log scan")?;
    let mut out = Collected::default();
    let counts_only = counts_only(plan);
    out.stats.runs = 1;
    let bytes = run.read(entries)?;
    context.add_bytes(bytes)?;
    scratch.begin_stream(run.labels());
    let pipeline = &plan.log.pipeline;
    let by_nothing = matches!(&plan.group, Group::By(names) if names.is_empty());
    // With neither stages nor metadata every entry has the stream's series.
    let (mut order, mut key) = (Vec::new(), Vec::new());
    let mut own: Option<usize> = None;
    let windows = Windows::new(plan, grid);
    for i in 0..entries.len() {
        if i % CHECK_LINES == CHECK_LINES - 1 {
            context.check("log scan")?;
        }
        let t = entries.t(i);
        let (from, to) = windows.of(t.0);
        if from >= to {
            continue;
        }
        let line = entries.line(i);
        out.stats.lines += 1;
        out.stats.bytes += line.len() as u64;
        let bare = by_nothing && !plan.unwraps && pipeline.is_bare();
        let survives = match bare {
            true => pipeline.run(line, t, now, std::iter::empty(), scratch),
            false => pipeline.run(line, t, now, entries.metadata(i), scratch),
        };
        if !survives {
            continue;
        }
        let value = if plan.unwraps {
            match pipeline.sample(&mut scratch.labels) {
                Some(value) => value,
                None => continue,
            }
        } else {
            0.0
        };
        if !scratch.labels.error().is_empty() {
            return Err(pipeline_error(&scratch.labels));
        }
        let unchanged = by_nothing || scratch.labels.is_stream_only();
        let number = match own.filter(|_| unchanged) {
            Some(number) => number,
            None => {
                key.clear();
                match &plan.group {
                    Group::All => {
                        scratch
                            .labels
                            .encode(|n| Some(n) != pipeline.unwrapped(), true, &mut order, &mut key)
                    }
                    Group::By(names) => {
                        scratch
                            .labels
                            .encode(|n| names.iter().any(|k| k == n), false, &mut order, &mut key)
                    }
                    Group::Without(names) => scratch.labels.encode(
                        |n| Some(n) != pipeline.unwrapped() && !names.iter().any(|k| k == n),
                        false,
                        &mut order,
                        &mut key,
                    ),
                }
                let number = out.series_of(&key);
                if unchanged {
                    own = Some(number);
                }
                number
            }
        };
        if counts_only {
            out.counts[number].add(from, to, scratch.line(line).len() as i64);
        } else {
            out.samples[number].t.push(t.0);
            out.samples[number].v.push(value);
        }
    }
    if !counts_only {
        let held: usize = out.samples.iter().map(|s| s.t.len()).sum();
        context.add_samples(held as u64)?;
    }
    Ok(out)
}

/// Which steps' windows hold an instant.
struct Windows {
    grid: Grid,
    offset: i64,
    range: i64,
}

impl Windows {
    fn new(plan: &RangePlan, grid: &Grid) -> Windows {
        Windows {
            grid: *grid,
            offset: plan.offset_ns,
            range: plan.range_ns,
        }
    }

    /// From the first such step to the first after them.
    fn of(&self, t: i64) -> (usize, usize) {
        let seen = t.saturating_add(self.offset);
        (
            self.at_or_after(seen),
            self.at_or_after(seen.saturating_add(self.range)),
        )
    }

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
    let kind = labels.error();
    let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v, _)| (n, v)).collect();
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
        let windows = |range, offset, t| {
            Windows {
                grid: Grid::range(100, 200, 10),
                offset,
                range,
            }
            .of(t)
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
