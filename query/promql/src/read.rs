//! Selectors: from the store to rows, series by series and in parallel.
//!
//! What is read becomes a row at once, so that raw samples of only a few series are held at a time; an aggregation right
//! above a selector does not even hold the rows.

use std::collections::HashSet;

use model::{LabelSet, TimeRangeMs, TimestampMs, is_stale};
use query_exec::{AggregateOp, Aggregator, Cells, ExecError, Grid, Grouping, Matrix, Row};
use rayon::prelude::*;
use storage_metrics::Samples;

use crate::Series;
use crate::functions::Work;
use crate::lex::Span;
use crate::plan::{Moment, Node, NodeWork, Select};
use crate::run::{Evaluated, Run, Value, WHERE, data, size};
use crate::windows::Windows;

/// A selection, and what becomes of each series' samples.
struct Leaf<'n> {
    select: &'n Select,
    range: TimeRangeMs,
    #[allow(clippy::type_complexity)]
    cells: Box<dyn Fn(&mut Samples) -> Result<Cells, ExecError> + Sync + 'n>,
}

/// Series that are read before their rows go into an aggregation.
const SERIES_AT_ONCE: usize = 256;

/// A series that windows slide over.
struct Source {
    labels: LabelSet,
    drop_name: bool,
    t: Vec<i64>,
    v: Vec<f64>,
}

impl Run<'_> {
    /// The newest value (or its time) at each step, not older than the lookback and not ended by a staleness marker.
    pub(crate) fn instant(&self, select: &Select, grid: Grid, times: bool) -> Evaluated<Matrix> {
        self.leaf_rows(&self.newest_of(select, grid, times), grid)
    }

    fn newest_of<'n>(&self, select: &'n Select, grid: Grid, times: bool) -> Leaf<'n> {
        let lookback = self.options.lookback_ms;
        Leaf {
            select,
            range: reach(&select.shift, lookback, grid),
            cells: Box::new(move |samples| Ok(newest(samples, &select.shift, lookback, grid, times))),
        }
    }

    /// All rows of a leaf, read in parallel, in the order of their labels.
    fn leaf_rows(&self, leaf: &Leaf<'_>, grid: Grid) -> Evaluated<Matrix> {
        let selected = self.snapshot.select(&leaf.select.matchers, leaf.range)?;
        let rows = self.read_rows(leaf, &selected, grid)?;
        Ok(Matrix { grid, rows })
    }

    fn read_rows(&self, leaf: &Leaf<'_>, selected: &[storage_metrics::Series], grid: Grid) -> Evaluated<Vec<Row>> {
        let rows: Vec<Option<Row>> = selected
            .par_iter()
            .map_init(Samples::default, |samples, series| -> Evaluated<Option<Row>> {
                self.context.check(WHERE)?;
                samples.t.clear();
                samples.v.clear();
                series.read(leaf.range, samples)?;
                let (row, raw) = (grid.len() as u64, samples.t.len() as u64);
                self.context.add_samples(row + raw)?;
                let cells = (leaf.cells)(samples)?;
                self.context.release_samples(raw);
                if cells.all_absent() {
                    self.context.release_samples(row);
                    return Ok(None);
                }
                Ok(Some(Row::new(series.labels().clone(), cells)))
            })
            .collect::<Evaluated<_>>()?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// An aggregation of what is read straight from the store: series by series, so that only groups are held. `None`
    /// if it has to be done otherwise.
    pub(crate) fn folded(
        &self,
        op: &AggregateOp,
        grouping: &Grouping,
        inner: &Node,
        grid: Grid,
    ) -> Evaluated<Option<Matrix>> {
        let Some(mut groups) = Aggregator::new(op, grouping, grid, self.dialect) else {
            return Ok(None);
        };
        let (leaf, drops_names, counter) = match &inner.work {
            NodeWork::Instant(select) => (self.newest_of(select, grid, false), false, None),
            NodeWork::Call { function, args } => {
                let (f, drops_names, counter) = match function.work {
                    Work::Window(f) => (f, true, None),
                    Work::WindowNamed(f) => (f, false, None),
                    Work::Counter(f) => (f, true, Some(args[0].span)),
                    _ => return Ok(None),
                };
                let NodeWork::Range { select, range_ms } = &args[0].work else {
                    return Ok(None);
                };
                let params = self.params(&args[1..], grid)?;
                (
                    windows_of(select, *range_ms, grid, move |w| Ok(f(w, &params))),
                    drops_names,
                    counter,
                )
            }
            _ => return Ok(None),
        };
        let selected = self.snapshot.select(&leaf.select.matchers, leaf.range)?;
        // Names that are dropped may make two series one, which is for the matrix to find out.
        if drops_names && !self.dialect.delayed_name_removal {
            let mut seen = HashSet::with_capacity(selected.len());
            if !selected.iter().all(|s| seen.insert(s.labels().without_metric_name())) {
                return Ok(None);
            }
        }
        let mut held = 0;
        for some in selected.chunks(SERIES_AT_ONCE) {
            let mut rows = self.read_rows(&leaf, some, grid)?;
            if let Some(span) = counter {
                self.doubt_counters(rows.iter(), span);
            }
            for row in &mut rows {
                if drops_names {
                    row.remove_name(self.dialect);
                }
                groups.enter(row);
            }
            let hold = (groups.groups() * grid.len()) as u64;
            self.context.add_samples(hold - held)?;
            held = hold;
            self.context.release_samples((rows.len() * grid.len()) as u64);
        }
        let out = groups.finish();
        self.context.release_samples(held - size(&out));
        Ok(Some(out))
    }

    /// A counter's name says what it counts; a rate of anything else is probably a mistake.
    pub(crate) fn doubt_counters<'r>(&self, rows: impl Iterator<Item = &'r Row>, span: Span) {
        let mut last = "";
        for row in rows {
            let name = row.labels.metric_name();
            let is_counter = ["_total", "_sum", "_count", "_bucket"]
                .iter()
                .any(|end| name.ends_with(end));
            if !name.is_empty() && !is_counter && name != last {
                let what =
                    format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}");
                self.notes.info(span, what);
            }
            last = name;
        }
    }

    pub(crate) fn windowed(
        &self,
        of: &Node,
        params: &[Node],
        grid: Grid,
        drop_names: bool,
        f: fn(&Windows<'_>, &[Vec<f64>]) -> Cells,
    ) -> Evaluated<Matrix> {
        let params = self.params(params, grid)?;
        self.over_windows(of, grid, drop_names, |w| Ok(f(w, &params)))
    }

    /// A row for each series of a range vector.
    pub(crate) fn over_windows(
        &self,
        of: &Node,
        grid: Grid,
        drop_names: bool,
        f: impl Fn(&Windows<'_>) -> Result<Cells, ExecError> + Sync,
    ) -> Evaluated<Matrix> {
        let m = match &of.work {
            NodeWork::Range { select, range_ms } => self.leaf_rows(&windows_of(select, *range_ms, grid, f), grid)?,
            _ => {
                let (shift, range_ms) = window_of(of)?;
                let sources = self.sources(of, grid)?;
                self.context.add_samples((grid.len() * sources.len()) as u64)?;
                let row_of = |s: &Source| -> Evaluated<Option<Row>> {
                    self.context.check(WHERE)?;
                    let windows = Windows {
                        grid: &grid,
                        shift,
                        range_ms,
                        t: &s.t,
                        v: &s.v,
                    };
                    let cells = f(&windows)?;
                    Ok((!cells.all_absent()).then(|| Row {
                        labels: s.labels.clone(),
                        cells,
                        drop_name: s.drop_name,
                    }))
                };
                let rows: Vec<Option<Row>> = sources.par_iter().map(row_of).collect::<Evaluated<_>>()?;
                let rows: Vec<Row> = rows.into_iter().flatten().collect();
                let held: u64 = sources.iter().map(|s| s.t.len() as u64).sum();
                let empty = ((sources.len() - rows.len()) * grid.len()) as u64;
                self.context.release_samples(held + empty);
                Matrix { grid, rows }
            }
        };
        if drop_names { self.renamed(m) } else { Ok(m) }
    }

    /// The series of a range vector, whole, for all steps of `grid`.
    fn sources(&self, node: &Node, grid: Grid) -> Evaluated<Vec<Source>> {
        let (shift, range_ms) = window_of(node)?;
        let range = reach(&shift, range_ms, grid);
        match &node.work {
            NodeWork::Range { select, .. } => self
                .snapshot
                .select(&select.matchers, range)?
                .par_iter()
                .map(|series| {
                    let mut samples = Samples::default();
                    series.read(range, &mut samples)?;
                    drop_stale(&mut samples.t, &mut samples.v);
                    self.context.add_samples(samples.t.len() as u64)?;
                    Ok(Source {
                        labels: series.labels().clone(),
                        drop_name: false,
                        t: samples.t,
                        v: samples.v,
                    })
                })
                .collect(),
            NodeWork::Subquery { inner, step_ms, .. } => {
                // Inner steps are multiples of the step, counted from the epoch.
                let first = next_multiple(range.start.0, *step_ms);
                let last = range.end.0.div_euclid(*step_ms).saturating_mul(*step_ms);
                if first > last {
                    return Ok(Vec::new());
                }
                let steps = (last as i128 - first as i128) / i128::from(*step_ms) + 1;
                let steps_max = i128::from(self.context.limits().samples_max);
                if steps > steps_max {
                    // Says it in the words of the limit that it would hit.
                    self.context.add_samples(steps_max as u64 + 1)?;
                }
                let inner_grid = Grid::range(first, last, *step_ms);
                let m = match self.value(inner, inner_grid)? {
                    Value::Vector(m) => m,
                    _ => return Err(data("a subquery is over an instant vector")),
                };
                self.context.add_samples(size(&m))?;
                let used = size(&m);
                let sources = m
                    .rows
                    .into_iter()
                    .map(|row| {
                        let (t, v) = row.cells.iter().map(|(i, v)| (inner_grid.at(i), v)).unzip();
                        Source {
                            labels: row.labels,
                            drop_name: row.drop_name,
                            t,
                            v,
                        }
                    })
                    .collect();
                self.context.release_samples(used);
                Ok(sources)
            }
            _ => Err(data("a range vector is missing")),
        }
    }

    /// A range vector on top of an instant query: its samples.
    pub(crate) fn raw(&self, node: &Node, at: i64) -> Evaluated<Vec<Series>> {
        let (shift, range_ms) = window_of(node)?;
        let range = reach(&shift, range_ms, Grid::instant(at));
        let mut out: Vec<Series> = Vec::new();
        for s in self.sources(node, Grid::instant(at))? {
            let points: Vec<(TimestampMs, f64)> = (s.t.iter().zip(&s.v))
                .filter(|(t, _)| range.contains(TimestampMs(**t)))
                .map(|(t, v)| (TimestampMs(*t), *v))
                .collect();
            if !points.is_empty() {
                let labels = if s.drop_name {
                    s.labels.without_metric_name()
                } else {
                    s.labels
                };
                out.push(Series { labels, points });
            }
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        if out.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(data(query_exec::SAME_LABELSET));
        }
        Ok(out)
    }
}

/// The times that windows of `range` over `grid` can contain.
fn reach(shift: &Moment, range_ms: i64, grid: Grid) -> TimeRangeMs {
    let first = shift.of(grid.start()).saturating_sub(range_ms).saturating_add(1);
    TimeRangeMs {
        start: TimestampMs(first),
        end: TimestampMs(shift.of(grid.end())),
    }
}

fn window_of(node: &Node) -> Evaluated<(Moment, i64)> {
    match &node.work {
        NodeWork::Range { select, range_ms } => Ok((select.shift, *range_ms)),
        NodeWork::Subquery { range_ms, shift, .. } => Ok((*shift, *range_ms)),
        _ => Err(data("a range vector is missing")),
    }
}

/// The first multiple of `step` that is not before `t`.
fn next_multiple(t: i64, step: i64) -> i64 {
    let floor = t.div_euclid(step).saturating_mul(step);
    if floor < t { floor.saturating_add(step) } else { floor }
}

fn newest(samples: &Samples, shift: &Moment, lookback: i64, grid: Grid, times: bool) -> Cells {
    let mut cells = Cells::absent(grid.len());
    let mut next = 0;
    for (step, at) in grid.iter().enumerate() {
        let end = shift.of(at);
        while next < samples.t.len() && samples.t[next] <= end {
            next += 1;
        }
        let Some(last) = next.checked_sub(1) else { continue };
        let (t, v) = (samples.t[last], samples.v[last]);
        if t > end.saturating_sub(lookback) && !is_stale(v) {
            cells.set(step, if times { t as f64 / 1000.0 } else { v });
        }
    }
    cells
}

fn windows_of<'n>(
    select: &'n Select,
    range_ms: i64,
    grid: Grid,
    f: impl Fn(&Windows<'_>) -> Result<Cells, ExecError> + Sync + 'n,
) -> Leaf<'n> {
    Leaf {
        select,
        range: reach(&select.shift, range_ms, grid),
        cells: Box::new(move |samples| {
            drop_stale(&mut samples.t, &mut samples.v);
            f(&Windows {
                grid: &grid,
                shift: select.shift,
                range_ms,
                t: &samples.t,
                v: &samples.v,
            })
        }),
    }
}

fn drop_stale(t: &mut Vec<i64>, v: &mut Vec<f64>) {
    if !v.iter().any(|v| is_stale(*v)) {
        return;
    }
    let mut kept = 0;
    for i in 0..v.len() {
        if !is_stale(v[i]) {
            t[kept] = t[i];
            v[kept] = v[i];
            kept += 1;
        }
    }
    t.truncate(kept);
    v.truncate(kept);
}
