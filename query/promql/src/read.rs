//! Selectors: from the store to rows, series by series and in parallel.
//!
//! What is read becomes a row at once, so that raw samples of only a few series are held at a time; an aggregation right
//! above a selector does not even hold the rows.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Histogram, LabelSet, METRIC_NAME, ResetHint, TimeRangeMs, TimestampMs, is_stale};
use query_exec::{
    AggregateOp, Aggregator, Cells, Dialect, ExecError, Grid, Grouping, METRIC_TYPE, METRIC_UNIT, Matrix, Remarks, Row,
    weight_of,
};
use rayon::prelude::*;
use storage_metrics::Samples;

use crate::Series;
use crate::functions::{Work, extended, smoothed};
use crate::lex::Span;
use crate::notes::About;
use crate::plan::{Moment, Node, NodeWork, Select};
use crate::run::{Evaluated, Run, Value, WHERE, data, histogram_weight, size};
use crate::syntax::Edges;
use crate::windows::Windows;

/// A selection, and what becomes of each series' samples.
struct Leaf<'n> {
    select: &'n Select,
    range: TimeRangeMs,
    /// Nothing but the newest sample is looked at, and of it nothing but time and value.
    only_newest: bool,
    #[allow(clippy::type_complexity)]
    cells: Box<dyn Fn(&mut Samples, &LabelSet) -> Result<Cells, ExecError> + Sync + 'n>,
}

/// Series that are read before their rows go into an aggregation.
const SERIES_AT_ONCE: usize = 256;

/// A series that windows slide over.
struct Source {
    labels: LabelSet,
    drop_name: bool,
    samples: Samples,
}

/// What of a selected sample is wanted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    Value,
    /// Its time, seconds.
    Time,
    /// When it began to count, seconds.
    Start,
}

impl Run<'_> {
    /// The newest sample at each step, not older than the lookback and not ended by a staleness marker.
    pub(crate) fn instant(&self, select: &Select, span: Span, grid: Grid, wanted: Wanted) -> Evaluated<Matrix> {
        self.leaf_rows(&self.newest_of(select, span, grid, wanted), grid)
    }

    /// The same, of samples alone that a selector with another shift reads.
    pub(crate) fn instant_among(
        &self,
        select: &Select,
        shift: &Moment,
        span: Span,
        grid: Grid,
        wanted: Wanted,
    ) -> Evaluated<Matrix> {
        let leaf = Leaf {
            range: reach_of(shift, self.options.lookback_ms, grid),
            ..self.newest_of(select, span, grid, wanted)
        };
        self.leaf_rows(&leaf, grid)
    }

    fn newest_of<'n>(&'n self, select: &'n Select, span: Span, grid: Grid, wanted: Wanted) -> Leaf<'n> {
        let (notes, lookback) = (self.notes, self.options.lookback_ms);
        let counter = self.counter;
        Leaf {
            select,
            range: reach(select, lookback, grid, lookback),
            only_newest: grid.len() == 1 && select.edges == Edges::Plain && wanted != Wanted::Start,
            cells: Box::new(move |samples, labels| {
                if select.edges == Edges::Smoothed && wanted == Wanted::Value {
                    drop_stale(samples);
                    let about = About {
                        notes,
                        span,
                        name: labels.metric_name(),
                    };
                    return Ok(smoothed(samples, &select.shift, lookback, grid, &about));
                }
                let cells = newest(samples, &select.shift, lookback, grid, wanted);
                if let Some(counter) = counter {
                    counter.cells(&cells);
                }
                Ok(cells)
            }),
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
                match leaf.only_newest.then(|| series.newest(leaf.range)).flatten() {
                    Some((t, v)) => {
                        samples.clear();
                        samples.t.push(t.0);
                        samples.v.push(v);
                    }
                    None => read(series, leaf.range, leaf.select, samples)?,
                }
                let (row, raw) = (grid.len() as u64, weight(samples));
                self.context.add_samples(row + raw)?;
                let cells = (leaf.cells)(samples, series.labels())?;
                // Windows end early when the query is to stop: what they have then is no answer.
                self.context.check(WHERE)?;
                self.now_holds(raw, cells.histogram_weight())?;
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
        remarks: &mut Remarks,
    ) -> Evaluated<Option<Matrix>> {
        let Some(mut groups) = Aggregator::new(op, grouping, grid, self.dialect) else {
            return Ok(None);
        };
        let (leaf, drops_names, counter) = match &inner.work {
            NodeWork::Instant(select) => (self.newest_of(select, inner.span, grid, Wanted::Value), false, None),
            NodeWork::Call { function, args } => {
                let (f, drops_names, counter) = match function.work {
                    Work::Window(f) => (f, true, None),
                    Work::WindowNamed(f) => (f, false, None),
                    Work::Counter(f) => (f, true, Some(place_of(&args[0]))),
                    _ => return Ok(None),
                };
                let NodeWork::Range { select, range_ms } = &args[0].work else {
                    return Ok(None);
                };
                let params = self.params(&args[1..], grid)?;
                (
                    self.windows_of(select, *range_ms, args[0].span, grid, move |w| Ok(f(w, &params))),
                    drops_names,
                    counter,
                )
            }
            _ => return Ok(None),
        };
        let selected = self.snapshot.select(&leaf.select.matchers, leaf.range)?;
        // Names that are dropped may make two series one, which is for the matrix to find out.
        let late = self.dialect.delayed_name_removal;
        if drops_names && !late && !self.one_name(&selected) {
            let mut seen = HashSet::with_capacity(selected.len());
            if !selected
                .iter()
                .all(|s| seen.insert(self.dialect.without_name(s.labels())))
            {
                return Ok(None);
            }
        }
        let strips = drops_names && (late || may_tell_names(grouping, self.dialect));
        let mut held = 0;
        for some in selected.chunks(SERIES_AT_ONCE) {
            let mut rows = self.read_rows(&leaf, some, grid)?;
            if let Some(span) = counter {
                self.doubt_counters(rows.iter(), span);
            }
            for row in &mut rows {
                // What is said of histograms must not name what has no name any more.
                if strips || drops_names && row.cells.has_histograms() {
                    row.remove_name(self.dialect);
                }
                groups.enter(row);
            }
            let hold = (groups.groups() * grid.len()) as u64 + groups.histogram_weight();
            self.now_holds(held, hold)?;
            held = hold;
            self.context
                .release_samples((rows.len() * grid.len()) as u64 + histogram_weight(&rows));
        }
        let out = groups.finish(remarks);
        self.now_holds(held, size(&out))?;
        Ok(Some(out))
    }

    /// Whether all have one name, type and unit, so that they stay different without.
    fn one_name(&self, selected: &[storage_metrics::Series]) -> bool {
        let name = |s: &'_ storage_metrics::Series| s.labels().metric_name() == selected[0].labels().metric_name();
        !self.dialect.type_and_unit && selected.iter().all(name)
    }

    /// A counter's name says what it counts; a rate of anything else is probably a mistake.
    pub(crate) fn doubt_counters<'r>(&self, rows: impl Iterator<Item = &'r Row>, span: Span) {
        let mut last = "";
        for row in rows.filter(|row| row.cells.iter().next().is_some()) {
            let name = row.labels.metric_name();
            if self.dialect.type_and_unit {
                let kind = row.labels.get(METRIC_TYPE).unwrap_or("");
                if !name.is_empty() && !matches!(kind, "counter" | "histogram") {
                    let what =
                        "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
                    self.notes.info(span, format!("{what}, got {kind:?}: {name:?}"));
                }
                continue;
            }
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
            NodeWork::Range { select, range_ms } => {
                self.leaf_rows(&self.windows_of(select, *range_ms, of.span, grid, f), grid)?
            }
            _ => {
                let (shift, range_ms) = window_of(of)?;
                let sources = self.sources(of, grid)?;
                self.context.add_samples((grid.len() * sources.len()) as u64)?;
                let span = place_of(of);
                let row_of = |s: &Source| -> Evaluated<Option<Row>> {
                    self.context.check(WHERE)?;
                    let about = About {
                        notes: self.notes,
                        span,
                        name: s.labels.metric_name(),
                    };
                    if let Some(counter) = self.counter {
                        counter.windows(&s.samples, &shift, range_ms, grid, false);
                    }
                    let windows = Windows::over(&s.samples, &grid, shift, range_ms, false, about, self.context);
                    let cells = f(&windows)?;
                    self.context.check(WHERE)?;
                    Ok((!cells.all_absent()).then(|| Row {
                        labels: s.labels.clone(),
                        cells,
                        drop_name: s.drop_name,
                    }))
                };
                let rows: Vec<Option<Row>> = sources.par_iter().map(row_of).collect::<Evaluated<_>>()?;
                let rows: Vec<Row> = rows.into_iter().flatten().collect();
                let held: u64 = sources.iter().map(|s| weight(&s.samples)).sum();
                let empty = ((sources.len() - rows.len()) * grid.len()) as u64;
                self.now_holds(held + empty, histogram_weight(&rows))?;
                Matrix { grid, rows }
            }
        };
        if drop_names { self.renamed(m) } else { Ok(m) }
    }

    fn windows_of<'n>(
        &'n self,
        select: &'n Select,
        range_ms: i64,
        span: Span,
        grid: Grid,
        f: impl Fn(&Windows<'_>) -> Result<Cells, ExecError> + Sync + 'n,
    ) -> Leaf<'n> {
        let (notes, lookback) = (self.notes, self.options.lookback_ms);
        let starts = self.options.use_start_timestamps;
        let (context, counter) = (self.context, self.counter);
        Leaf {
            select,
            range: reach(select, range_ms, grid, lookback),
            only_newest: false,
            cells: Box::new(move |samples, labels| {
                drop_stale(samples);
                let about = About {
                    notes,
                    span,
                    name: labels.metric_name(),
                };
                if let Some(counter) = counter {
                    counter.windows(samples, &select.shift, range_ms, grid, true);
                }
                let mut windows = Windows::over(samples, &grid, select.shift, range_ms, starts, about, context);
                windows.edges = select.edges;
                windows.lookback_ms = lookback;
                f(&windows)
            }),
        }
    }

    /// The series of a range vector, whole, for all steps of `grid`.
    fn sources(&self, node: &Node, grid: Grid) -> Evaluated<Vec<Source>> {
        let (shift, range_ms) = window_of(node)?;
        match &node.work {
            NodeWork::Range { select, .. } => {
                let range = reach(select, range_ms, grid, self.options.lookback_ms);
                (self.snapshot.select(&select.matchers, range)?.par_iter())
                    .map(|series| {
                        let mut samples = Samples::default();
                        read(series, range, select, &mut samples)?;
                        drop_stale(&mut samples);
                        self.context.add_samples(weight(&samples))?;
                        Ok(Source {
                            labels: series.labels().clone(),
                            drop_name: false,
                            samples,
                        })
                    })
                    .collect()
            }
            NodeWork::Subquery { inner, step_ms, .. } => {
                let range = reach_of(&shift, range_ms, grid);
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
                let m = match self.counted(0, || self.value(inner, inner_grid))? {
                    Value::Vector(m) => m,
                    _ => return Err(data("a subquery is over an instant vector")),
                };
                let used = size(&m);
                let sources: Vec<Source> = m
                    .rows
                    .into_iter()
                    .map(|row| {
                        let mut samples = Samples::default();
                        (samples.t, samples.v) = row.cells.iter().map(|(i, v)| (inner_grid.at(i), v)).unzip();
                        for (i, h) in row.cells.histograms() {
                            samples.histograms.t.push(inner_grid.at(i));
                            samples.histograms.h.push(without_hint(h));
                        }
                        Source {
                            labels: row.labels,
                            drop_name: row.drop_name,
                            samples,
                        }
                    })
                    .collect();
                self.now_holds(used, sources.iter().map(|s| weight(&s.samples)).sum())?;
                Ok(sources)
            }
            _ => Err(data("a range vector is missing")),
        }
    }

    /// A range vector on top of an instant query: its samples.
    pub(crate) fn raw(&self, node: &Node, at: i64) -> Evaluated<Vec<Series>> {
        let (shift, range_ms) = window_of(node)?;
        let range = reach_of(&shift, range_ms, Grid::instant(at));
        let mut out: Vec<Series> = Vec::new();
        for s in self.sources(node, Grid::instant(at))? {
            let inside = |t: &i64| range.contains(TimestampMs(*t));
            if let Some(counter) = self.counter {
                let stored = matches!(node.work, NodeWork::Range { .. });
                counter.windows(&s.samples, &shift, range_ms, Grid::instant(at), stored);
            }
            let (floats, histograms) = (&s.samples, &s.samples.histograms);
            let mut points: Vec<(TimestampMs, f64)> = (floats.t.iter().zip(&floats.v))
                .filter(|(t, _)| inside(t))
                .map(|(t, v)| (TimestampMs(*t), *v))
                .collect();
            if let NodeWork::Range { select, .. } = &node.work
                && select.edges != Edges::Plain
            {
                if !histograms.t.is_empty() {
                    let name = select.edges.name();
                    return Err(data(format!("{name} modifier is not supported with histograms")));
                }
                let (start, end) = (range.start.0.saturating_sub(1), range.end.0);
                let smoothed = select.edges == Edges::Smoothed;
                points = (extended(&floats.t, &floats.v, start, end, smoothed).into_iter())
                    .map(|(t, v)| (TimestampMs(t), v))
                    .collect();
            }
            let histograms: Vec<(TimestampMs, Arc<Histogram>)> = (histograms.t.iter().zip(&histograms.h))
                .filter(|(t, _)| inside(t))
                .map(|(t, h)| (TimestampMs(*t), h.clone()))
                .collect();
            if !points.is_empty() || !histograms.is_empty() {
                let labels = if s.drop_name {
                    self.dialect.without_name(&s.labels)
                } else {
                    s.labels
                };
                out.push(Series {
                    labels,
                    points,
                    histograms,
                });
            }
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        if out.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
            return Err(data(query_exec::SAME_LABELSET));
        }
        Ok(out)
    }
}

/// Whether groups may show what is taken off with a name; the name itself is taken off by `without` anyway.
fn may_tell_names(grouping: &Grouping, dialect: Dialect) -> bool {
    match grouping {
        Grouping::By(names) => (names.iter()).any(|name| [METRIC_NAME, METRIC_TYPE, METRIC_UNIT].contains(&&**name)),
        Grouping::Without(_) => dialect.type_and_unit,
    }
}

/// What annotations on a range vector point at: Prometheus has lost the place of a subquery by then.
pub(crate) fn place_of(node: &Node) -> Span {
    match &node.work {
        NodeWork::Subquery { .. } => Span { start: 0, end: 0 },
        NodeWork::Once(inner) => place_of(inner),
        _ => node.span,
    }
}

/// Reads a series anew into `samples`; of histograms without buckets if nobody looks at them.
fn read(series: &storage_metrics::Series, range: TimeRangeMs, select: &Select, samples: &mut Samples) -> Evaluated<()> {
    samples.clear();
    series.read(range, samples)?;
    if select.stats_only {
        keep_statistics(&mut samples.histograms.h);
    }
    Ok(())
}

/// Takes buckets away, and finds out by them where a counter was reset, as far as that is not known.
fn keep_statistics(histograms: &mut [Arc<Histogram>]) {
    let mut previous: Option<Arc<Histogram>> = None;
    for h in histograms.iter_mut().filter(|h| !h.is_stale()) {
        let reset = match &previous {
            Some(previous) if h.reset == ResetHint::Unknown => {
                if h.is_reset_after(previous) {
                    ResetHint::Reset
                } else {
                    ResetHint::NotReset
                }
            }
            _ => h.reset,
        };
        let statistics = Histogram {
            reset,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..Histogram::stale()
        };
        previous = Some(std::mem::replace(h, Arc::new(statistics)));
    }
}

/// What samples weigh against the limit.
fn weight(samples: &Samples) -> u64 {
    samples.t.len() as u64 + samples.histograms.h.iter().map(|h| weight_of(h)).sum::<u64>()
}

/// A step's neighbour in a subquery is not its neighbour in the store, so what is known of resets is void.
fn without_hint(h: &Arc<Histogram>) -> Arc<Histogram> {
    match h.reset {
        ResetHint::Unknown | ResetHint::Gauge => h.clone(),
        _ => Arc::new(Histogram {
            reset: ResetHint::Unknown,
            ..Histogram::clone(h)
        }),
    }
}

/// The times that windows of `range` over `grid` can contain, with what their edges look at.
fn reach(select: &Select, range_ms: i64, grid: Grid, lookback: i64) -> TimeRangeMs {
    let range = reach_of(&select.shift, range_ms, grid);
    let (before, after) = select.edges.beyond(lookback);
    TimeRangeMs {
        start: TimestampMs(range.start.0.saturating_sub(before)),
        end: TimestampMs(range.end.0.saturating_add(after)),
    }
}

/// The times that windows of `range` over `grid` can contain.
fn reach_of(shift: &Moment, range_ms: i64, grid: Grid) -> TimeRangeMs {
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

fn newest(samples: &Samples, shift: &Moment, lookback: i64, grid: Grid, wanted: Wanted) -> Cells {
    let mut cells = Cells::absent(grid.len());
    let histograms = &samples.histograms;
    let (mut next, mut next_histogram) = (0, 0);
    for (step, at) in grid.iter().enumerate() {
        let end = shift.of(at);
        while next < samples.t.len() && samples.t[next] <= end {
            next += 1;
        }
        while next_histogram < histograms.t.len() && histograms.t[next_histogram] <= end {
            next_histogram += 1;
        }
        let float = next.checked_sub(1);
        if let Some(i) = next_histogram.checked_sub(1)
            && float.is_none_or(|f| samples.t[f] < histograms.t[i])
        {
            let (t, h) = (histograms.t[i], &histograms.h[i]);
            if t > end.saturating_sub(lookback) && !h.is_stale() {
                match wanted {
                    Wanted::Value => cells.set_histogram(step, h.clone()),
                    Wanted::Time => cells.set(step, t as f64 / 1000.0),
                    Wanted::Start => cells.set(step, start_of(&histograms.start, i)),
                }
            }
            continue;
        }
        let Some(last) = float else { continue };
        let (t, v) = (samples.t[last], samples.v[last]);
        if t > end.saturating_sub(lookback) && !is_stale(v) {
            let found = match wanted {
                Wanted::Value => v,
                Wanted::Time => t as f64 / 1000.0,
                Wanted::Start => start_of(&samples.start, last),
            };
            cells.set(step, found);
        }
    }
    cells
}

fn start_of(starts: &[i64], i: usize) -> f64 {
    starts.get(i).copied().unwrap_or(0) as f64 / 1000.0
}

/// Leaves staleness markers out.
fn drop_stale(samples: &mut Samples) {
    if samples.v.iter().any(|v| is_stale(*v)) {
        let kept: Vec<bool> = samples.v.iter().map(|v| !is_stale(*v)).collect();
        keep(&mut samples.t, &kept);
        keep(&mut samples.v, &kept);
        keep(&mut samples.start, &kept);
    }
    let histograms = &mut samples.histograms;
    if histograms.h.iter().any(|h| h.is_stale()) {
        let kept: Vec<bool> = histograms.h.iter().map(|h| !h.is_stale()).collect();
        keep(&mut histograms.t, &kept);
        keep(&mut histograms.h, &kept);
        keep(&mut histograms.start, &kept);
    }
}

fn keep<T>(column: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    column.retain(|_| flags.next().copied().unwrap_or(false));
}
