//! A plan on a snapshot: the evaluator.
//!
//! Every node is computed for all steps of its grid at once, series by series and in parallel; what a selector reads
//! becomes a row as soon as it is read, so that raw samples of only a few series are held at a time. All rows are
//! counted against the query's limit before they are made, and given back when an operator has used them up.

use std::collections::HashSet;

use model::{LabelSet, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, TimeRangeMs, TimestampMs, is_stale};
use query_exec::{
    AggregateOp, Aggregator, BinaryOp, Cells, Context, Dialect, ExecError, Grid, Grouping, Matching, Matrix, Row,
    aggregate, apply, binary, binary_scalar, label_join, label_replace, sort_by_label, sort_by_value,
};
use rayon::prelude::*;
use storage_metrics::{Samples, Snapshot};

use crate::durations::QueryTimes;
use crate::functions::{
    Buckets, Fixed, Function, Work, bucket_fraction, bucket_quantile, collect_buckets, double_exponential_smoothing,
    quantile_over_time,
};
use crate::lex::Span;
use crate::notes::{Notes, for_metric};
use crate::parse::go_quoted;
use crate::plan::{Moment, Node, NodeWork, Select};
use crate::windows::Windows;
use crate::{EvalError, Options, Series};

const WHERE: &str = "expression evaluation";

/// One evaluation.
pub(crate) struct Run<'a> {
    pub(crate) context: &'a Context,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) options: Options,
    pub(crate) dialect: Dialect,
    pub(crate) times: QueryTimes,
    pub(crate) notes: &'a Notes<'a>,
    /// Whether results are series over time.
    pub(crate) ranged: bool,
}

/// What a node gives, over all steps.
pub(crate) enum Value {
    Scalar(Vec<f64>),
    Vector(Matrix),
    Text(Vec<u8>),
}

type Evaluated<T> = Result<T, EvalError>;

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
    pub(crate) fn value(&self, node: &Node, grid: Grid) -> Evaluated<Value> {
        self.context.check(WHERE)?;
        Ok(match &node.work {
            NodeWork::Number(v) => Value::Scalar(vec![*v; grid.len()]),
            NodeWork::Text(t) => Value::Text(t.clone()),
            NodeWork::Instant(select) => Value::Vector(self.instant(select, grid, false)?),
            NodeWork::Range { .. } | NodeWork::Subquery { .. } => {
                return Err(data("a range vector stands where an instant vector belongs"));
            }
            NodeWork::Once(inner) => repeat(self.value(inner, Grid::instant(grid.start()))?, grid, self.context)?,
            NodeWork::Negative(inner) => match self.value(inner, grid)? {
                Value::Scalar(mut values) => {
                    values.iter_mut().for_each(|v| *v = -*v);
                    Value::Scalar(values)
                }
                Value::Vector(mut m) => {
                    for row in &mut m.rows {
                        row.cells.map(|v| -v);
                    }
                    Value::Vector(self.renamed(m)?)
                }
                text => text,
            },
            NodeWork::Binary { .. } => self.chain(node, grid)?,
            NodeWork::Aggregate {
                op,
                grouping,
                param,
                inner,
            } => Value::Vector(self.aggregation(op, grouping, param.as_deref(), inner, grid)?),
            NodeWork::Call { function, args } => self.call(function, args, node.span, grid)?,
        })
    }

    fn vector(&self, node: &Node, grid: Grid) -> Evaluated<Matrix> {
        match self.value(node, grid)? {
            Value::Vector(m) => Ok(m),
            _ => Err(data("an instant vector is missing")),
        }
    }

    fn scalar(&self, node: &Node, grid: Grid) -> Evaluated<Vec<f64>> {
        match self.value(node, grid)? {
            Value::Scalar(s) => Ok(s),
            _ => Err(data("a scalar is missing")),
        }
    }

    fn text(&self, node: &Node) -> Evaluated<String> {
        match &node.work {
            NodeWork::Text(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            _ => Err(data("a string is missing")),
        }
    }

    /// A label's name as an argument; `complaint` is what is said of one that cannot be.
    fn label_name(&self, node: &Node, complaint: &str) -> Evaluated<String> {
        match &node.work {
            NodeWork::Text(bytes) => match String::from_utf8(bytes.clone()) {
                Ok(name) if !name.is_empty() => Ok(name),
                _ => Err(data(format!("{complaint}{}", String::from_utf8_lossy(bytes)))),
            },
            _ => Err(data("a string is missing")),
        }
    }

    /// Operators of one chain, from the left; a chain may be long, so it is no recursion.
    fn chain(&self, node: &Node, grid: Grid) -> Evaluated<Value> {
        let mut links = Vec::new();
        let mut at = node;
        while let NodeWork::Binary {
            op,
            return_bool,
            matching,
            left,
            right,
        } = &at.work
        {
            links.push((*op, *return_bool, matching, right));
            at = left;
        }
        let mut left = self.value(at, grid)?;
        for (op, return_bool, matching, right) in links.into_iter().rev() {
            left = self.operator(op, return_bool, matching, left, self.value(right, grid)?)?;
        }
        Ok(left)
    }

    fn operator(
        &self,
        op: BinaryOp,
        return_bool: bool,
        matching: &Matching,
        left: Value,
        right: Value,
    ) -> Evaluated<Value> {
        let (context, dialect) = (self.context, self.dialect);
        Ok(match (left, right) {
            (Value::Scalar(mut left), Value::Scalar(right)) => {
                for (l, r) in left.iter_mut().zip(right) {
                    *l = apply(op, *l, r, dialect);
                }
                Value::Scalar(left)
            }
            (Value::Vector(m), Value::Scalar(s)) => self.traded(&[size(&m)], || {
                binary_scalar(context, op, return_bool, m, &s, false, dialect)
            })?,
            (Value::Scalar(s), Value::Vector(m)) => self.traded(&[size(&m)], || {
                binary_scalar(context, op, return_bool, m, &s, true, dialect)
            })?,
            (Value::Vector(left), Value::Vector(right)) => self.traded(&[size(&left), size(&right)], || {
                binary(context, op, matching, return_bool, left, right, dialect)
            })?,
            _ => return Err(data("an operator stands beside a string")),
        })
    }

    /// Gives back what an operator used, and counts what it made.
    fn traded(&self, used: &[u64], make: impl FnOnce() -> Result<Matrix, ExecError>) -> Evaluated<Value> {
        let made = make()?;
        self.context.add_samples(size(&made))?;
        self.context.release_samples(used.iter().sum());
        Ok(Value::Vector(made))
    }

    fn aggregation(
        &self,
        op: &str,
        grouping: &Grouping,
        param: Option<&Node>,
        inner: &Node,
        grid: Grid,
    ) -> Evaluated<Matrix> {
        let number = || param.map_or(Ok(Vec::new()), |p| self.scalar(p, grid));
        let span = param.map_or(inner.span, |p| p.span);
        let op = match op {
            "sum" => AggregateOp::Sum,
            "avg" => AggregateOp::Avg,
            "min" => AggregateOp::Min,
            "max" => AggregateOp::Max,
            "count" => AggregateOp::Count,
            "group" => AggregateOp::Group,
            "stddev" => AggregateOp::Stddev,
            "stdvar" => AggregateOp::Stdvar,
            "topk" => AggregateOp::TopK(number()?),
            "bottomk" => AggregateOp::BottomK(number()?),
            "limitk" => AggregateOp::LimitK(number()?),
            "quantile" => {
                let q = number()?;
                self.warn_of_quantiles(&q, span);
                AggregateOp::Quantile(q)
            }
            "limit_ratio" => {
                let ratios = number()?;
                for r in ratios.iter().filter(|r| r.abs() > 1.0) {
                    let (bound, r) = (r.signum(), go_float(*r));
                    let what = format!("ratio value should be between -1 and 1, got {r}, capping to {bound}");
                    self.notes.warn(span, what);
                }
                AggregateOp::LimitRatio(ratios)
            }
            "count_values" => match param.map(|p| &p.work) {
                Some(NodeWork::Text(bytes)) => match String::from_utf8(bytes.clone()) {
                    Ok(label) if !label.is_empty() => AggregateOp::CountValues(label),
                    _ => return Err(data(format!("invalid label name {}", go_quoted(bytes)))),
                },
                _ => return Err(data("count_values takes a string")),
            },
            other => return Err(data(format!("unknown aggregation {other}"))),
        };
        if let Some(folded) = self.folded(&op, grouping, inner, grid)? {
            return Ok(folded);
        }
        let input = self.vector(inner, grid)?;
        let used = size(&input);
        match self.traded(&[used], || aggregate(self.context, &op, grouping, input, self.dialect))? {
            Value::Vector(m) => Ok(m),
            _ => Err(data("an aggregation gives a vector")),
        }
    }

    fn warn_of_quantiles(&self, q: &[f64], span: Span) {
        for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            let what = format!("quantile value should be between 0 and 1, got {}", go_float(*q));
            self.notes.warn(span, what);
        }
    }

    /// Takes names off, as functions do, and joins what has become equal.
    fn renamed(&self, mut m: Matrix) -> Evaluated<Matrix> {
        for row in &mut m.rows {
            row.remove_name(self.dialect);
        }
        let before = size(&m);
        m.drop_absent();
        self.context.release_samples(before - size(&m));
        if !self.dialect.delayed_name_removal {
            m.merge_same_labels()?;
        }
        Ok(m)
    }

    fn call(&self, function: &Function, args: &[Node], span: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
        let per_step = |f: &dyn Fn(i64) -> f64| Value::Scalar(grid.iter().map(f).collect());
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match function.work {
            Work::Value(f) => {
                let mut m = vector(0)?;
                m.rows.iter_mut().for_each(|row| row.cells.map(f));
                Value::Vector(self.renamed(m)?)
            }
            Work::ValueWith(f) => {
                let params = self.params(&args[1..], grid)?;
                let mut m = vector(0)?;
                let mut of_step = vec![0.0; params.len()];
                for row in &mut m.rows {
                    row.cells.filter_map(|step, v| {
                        of_step.iter_mut().zip(&params).for_each(|(p, all)| *p = all[step]);
                        f(v, &of_step)
                    });
                }
                Value::Vector(self.renamed(m)?)
            }
            Work::Date(f) => {
                if args.is_empty() {
                    let cells = Cells::full(grid.iter().map(|t| f(seconds(t))).collect());
                    return Ok(Value::Vector(self.single(LabelSet::empty(), cells, grid)?));
                }
                let mut m = vector(0)?;
                m.rows.iter_mut().for_each(|row| row.cells.map(f));
                Value::Vector(self.renamed(m)?)
            }
            Work::Window(f) => Value::Vector(self.windowed(&args[0], &args[1..], grid, true, f)?),
            Work::WindowNamed(f) => Value::Vector(self.windowed(&args[0], &args[1..], grid, false, f)?),
            Work::Counter(f) => {
                let m = self.over_windows(&args[0], grid, false, |w| Ok(f(w, &[])))?;
                self.doubt_counters(m.rows.iter(), args[0].span);
                Value::Vector(self.renamed(m)?)
            }
            Work::QuantileOverTime => {
                let q = self.scalar(&args[0], grid)?;
                self.warn_of_quantiles(&q, args[0].span);
                let params = [q];
                let m = self.over_windows(&args[1], grid, true, |w| Ok(quantile_over_time(w, &params)))?;
                Value::Vector(m)
            }
            Work::Smoothing => {
                let (level, trend) = (self.scalar(&args[1], grid)?, self.scalar(&args[2], grid)?);
                let smooth = |w: &Windows<'_>| double_exponential_smoothing(w, &level, &trend);
                Value::Vector(self.over_windows(&args[0], grid, true, smooth)?)
            }
            Work::Absent => {
                let m = vector(0)?;
                let labels = labels_of_absent(&args[0]);
                Value::Vector(self.where_nothing_is(&m, labels, grid)?)
            }
            Work::AbsentOverTime => {
                let ones = |w: &Windows<'_>| Ok(w.each(|_| Some(1.0)));
                let m = self.over_windows(&args[0], grid, false, ones)?;
                let labels = labels_of_absent(&args[0]);
                Value::Vector(self.where_nothing_is(&m, labels, grid)?)
            }
            Work::Scalar => {
                let m = vector(0)?;
                let mut seen = vec![0u32; grid.len()];
                let mut values = vec![f64::NAN; grid.len()];
                for (step, v) in m.rows.iter().flat_map(|row| row.cells.iter()) {
                    seen[step] += 1;
                    values[step] = if seen[step] == 1 { v } else { f64::NAN };
                }
                self.context.release_samples(size(&m));
                Value::Scalar(values)
            }
            Work::Vector => {
                let cells = Cells::full(self.scalar(&args[0], grid)?);
                Value::Vector(self.single(LabelSet::empty(), cells, grid)?)
            }
            Work::Time => per_step(&seconds),
            Work::Pi => per_step(&|_| std::f64::consts::PI),
            Work::Start => per_step(&|_| seconds(self.times.start)),
            Work::End => per_step(&|_| seconds(self.times.end)),
            Work::Range => per_step(&|_| seconds(self.times.range())),
            Work::Step => per_step(&|_| seconds(self.times.step)),
            Work::MaxOf | Work::MinOf => {
                let (mut a, b) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let largest = matches!(function.work, Work::MaxOf);
                for (a, b) in a.iter_mut().zip(b) {
                    *a = match () {
                        () if a.is_nan() || b.is_nan() => f64::NAN,
                        () if largest => a.max(b),
                        () => a.min(b),
                    };
                }
                Value::Scalar(a)
            }
            Work::Timestamp => {
                let arg = match &args[0].work {
                    NodeWork::Once(inner) => inner,
                    _ => &args[0],
                };
                let m = if let NodeWork::Instant(select) = &arg.work {
                    self.instant(select, grid, true)?
                } else {
                    let mut m = self.vector(&args[0], grid)?;
                    m.rows
                        .iter_mut()
                        .for_each(|row| row.cells.filter_map(|step, _| Some(seconds(grid.at(step)))));
                    m
                };
                Value::Vector(self.renamed(m)?)
            }
            Work::Sort { descending } => {
                let mut m = vector(0)?;
                if self.sorts(span) {
                    sort_by_value(&mut m, descending);
                }
                Value::Vector(m)
            }
            Work::SortByLabel { descending } => {
                let mut m = vector(0)?;
                let names = self.texts(&args[1..])?;
                if self.sorts(span) {
                    sort_by_label(&mut m, &names, descending);
                }
                Value::Vector(m)
            }
            Work::LabelReplace => {
                self.label_name(&args[1], "invalid destination label name in label_replace(): ")?;
                let m = vector(0)?;
                let [dst, replacement, src, regex] = &self.texts(&args[1..])?[..] else {
                    return Err(data("label_replace takes four strings"));
                };
                Value::Vector(label_replace(self.context, m, dst, replacement, src, regex)?)
            }
            Work::LabelJoin => {
                self.label_name(&args[1], "invalid destination label name in label_join(): ")?;
                for src in &args[3..] {
                    self.label_name(src, "invalid source label name in label_join(): ")?;
                }
                let m = vector(0)?;
                let texts = self.texts(&args[1..])?;
                let [dst, separator, src @ ..] = &texts[..] else {
                    return Err(data("label_join takes two strings and more"));
                };
                Value::Vector(label_join(self.context, m, dst, separator, src)?)
            }
            Work::HistogramQuantile => {
                let q = self.scalar(&args[0], grid)?;
                let m = vector(1)?;
                self.warn_of_quantiles(&q, args[0].span);
                Value::Vector(self.quantiles(&[(q, None)], &m, args[1].span)?)
            }
            Work::HistogramQuantiles => {
                let m = vector(0)?;
                let label = self.label_name(&args[1], "invalid label name ")?;
                let mut wanted = Vec::new();
                for arg in &args[2..] {
                    let q = self.scalar(arg, grid)?;
                    self.warn_of_quantiles(&q, arg.span);
                    let value = q.first().map(|q| label_float(*q)).unwrap_or_default();
                    wanted.push((q, Some((label.clone(), value))));
                }
                Value::Vector(self.quantiles(&wanted, &m, args[0].span)?)
            }
            Work::HistogramFraction => {
                let (lower, upper) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let m = vector(2)?;
                let span = args[2].span;
                let groups = collect_buckets(&m.rows, |row, bound| self.odd_bound(row, bound, span));
                let mut out = Matrix::empty(grid);
                for group in &groups {
                    let cells = of_buckets(group, grid, |step, buckets| {
                        bucket_fraction(lower[step], upper[step], buckets)
                    });
                    self.context.add_samples(grid.len() as u64)?;
                    out.rows.push(Row::new(group.labels.clone(), cells));
                }
                self.context.release_samples(size(&m));
                Value::Vector(self.renamed(out)?)
            }
            Work::OfHistograms => {
                let m = vector(0)?;
                self.context.release_samples(size(&m));
                Value::Vector(Matrix::empty(grid))
            }
        })
    }

    fn params(&self, args: &[Node], grid: Grid) -> Evaluated<Vec<Vec<f64>>> {
        args.iter().map(|a| self.scalar(a, grid)).collect()
    }

    fn texts(&self, args: &[Node]) -> Evaluated<Vec<String>> {
        args.iter().map(|a| self.text(a)).collect()
    }

    /// Whether sorting has any effect; says so where it has none.
    fn sorts(&self, span: Span) -> bool {
        if self.ranged {
            let what = "sort is ineffective for range queries since results are always ordered by labels";
            self.notes.warn(span, what);
        }
        !self.ranged
    }

    fn single(&self, labels: LabelSet, cells: Cells, grid: Grid) -> Evaluated<Matrix> {
        self.context.add_samples(grid.len() as u64)?;
        let mut m = Matrix {
            grid,
            rows: vec![Row::new(labels, cells)],
        };
        m.drop_absent();
        Ok(m)
    }

    /// One row with 1 at the steps at which no row has anything.
    fn where_nothing_is(&self, m: &Matrix, labels: LabelSet, grid: Grid) -> Evaluated<Matrix> {
        let mut cells = Cells::full(vec![1.0; grid.len()]);
        for (step, _) in m.rows.iter().flat_map(|row| row.cells.iter()) {
            cells.clear(step);
        }
        self.context.release_samples(size(m));
        self.single(labels, cells, grid)
    }

    fn odd_bound(&self, row: &Row, bound: &str, span: Span) {
        let name = for_metric(row.labels.metric_name());
        let what = format!("bucket label \"le\" is missing or has a malformed value of {bound:?}{name}");
        self.notes.warn(span, what);
    }

    /// Quantiles of classic histograms: for each wanted φ a row per histogram, with a label for φ if one is asked for.
    #[allow(clippy::type_complexity)]
    fn quantiles(&self, wanted: &[(Vec<f64>, Option<(String, String)>)], m: &Matrix, span: Span) -> Evaluated<Matrix> {
        let groups = collect_buckets(&m.rows, |row, bound| self.odd_bound(row, bound, span));
        let mut out = Matrix::empty(m.grid);
        for group in &groups {
            self.context.check(WHERE)?;
            for (q, label) in wanted {
                self.context.add_samples(m.grid.len() as u64)?;
                let mut fixes: Option<(Fixed, usize, i64, i64)> = None;
                let cells = of_buckets(group, m.grid, |step, buckets| {
                    let (value, fixed) = bucket_quantile(q[step], buckets);
                    if let Some(fixed) = fixed {
                        let at = m.grid.at(step);
                        let (all, n, _, last) = fixes.get_or_insert((fixed, 0, at, at));
                        all.lowest = all.lowest.min(fixed.lowest);
                        all.highest = all.highest.max(fixed.highest);
                        all.by = all.by.max(fixed.by);
                        (*n, *last) = (*n + 1, at);
                    }
                    value
                });
                if let Some((fixed, n, first, last)) = fixes {
                    let what = format!(
                        "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/\
                         prometheus/latest/querying/functions/#histogram_quantile){}, from buckets {} to {}, with a max \
                         diff of {}, over {n} samples from {} to {}",
                        for_metric(group.name),
                        go_float(fixed.lowest),
                        go_float(fixed.highest),
                        go_float(fixed.by),
                        rfc3339(first),
                        rfc3339(last),
                    );
                    self.notes.info(span, what);
                }
                let labels = match label {
                    Some((name, value)) => group.labels.with(name, value),
                    None => group.labels.clone(),
                };
                out.rows.push(Row::new(labels, cells));
            }
        }
        self.context.release_samples(size(m));
        let mut out = self.renamed(out)?;
        out.merge_same_labels()?;
        Ok(out)
    }

    /// The newest value (or its time) at each step, not older than the lookback and not ended by a staleness marker.
    fn instant(&self, select: &Select, grid: Grid, times: bool) -> Evaluated<Matrix> {
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
    fn folded(&self, op: &AggregateOp, grouping: &Grouping, inner: &Node, grid: Grid) -> Evaluated<Option<Matrix>> {
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
    fn doubt_counters<'r>(&self, rows: impl Iterator<Item = &'r Row>, span: Span) {
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

    fn windowed(
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
    fn over_windows(
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

fn data(words: impl Into<String>) -> EvalError {
    EvalError::Exec(ExecError::Data(words.into()))
}

/// Cells a matrix holds.
pub(crate) fn size(m: &Matrix) -> u64 {
    (m.rows.len() * m.grid.len()) as u64
}

/// One step's value at every step.
fn repeat(value: Value, grid: Grid, context: &Context) -> Evaluated<Value> {
    Ok(match value {
        Value::Scalar(s) => Value::Scalar(vec![s.first().copied().unwrap_or(f64::NAN); grid.len()]),
        Value::Vector(m) => {
            context.add_samples((m.rows.len() * grid.len()) as u64)?;
            context.release_samples(size(&m));
            let rows = m.rows.into_iter().filter_map(|row| {
                let v = row.cells.get(0)?;
                Some(Row {
                    cells: Cells::full(vec![v; grid.len()]),
                    ..row
                })
            });
            Value::Vector(Matrix {
                grid,
                rows: rows.collect(),
            })
        }
        text => text,
    })
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

/// The cells of one classic histogram, from its buckets at each step.
fn of_buckets(group: &Buckets<'_>, grid: Grid, mut f: impl FnMut(usize, &mut Vec<(f64, f64)>) -> f64) -> Cells {
    let mut cells = Cells::absent(grid.len());
    let mut buckets = Vec::new();
    for step in 0..grid.len() {
        buckets.clear();
        buckets.extend(
            group
                .rows
                .iter()
                .filter_map(|(bound, row)| Some((*bound, row.cells.get(step)?))),
        );
        if !buckets.is_empty() {
            let v = f(step, &mut buckets);
            cells.set(step, v);
        }
    }
    cells
}

/// What is known of a series that is not there: its `=` matchers, each label once.
fn labels_of_absent(node: &Node) -> LabelSet {
    let matchers: &[Matcher] = match &node.work {
        NodeWork::Instant(select) | NodeWork::Range { select, .. } => &select.matchers,
        NodeWork::Once(inner) => return labels_of_absent(inner),
        _ => &[],
    };
    let mut labels = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for m in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if m.op() == MatchOp::Equal && !seen.contains(&m.name()) {
            labels.set(m.name(), m.value());
            seen.push(m.name());
        } else {
            labels.remove(m.name());
        }
    }
    labels.build()
}

/// A number as Go's `%g` prints it.
fn go_float(v: f64) -> String {
    if v.is_infinite() {
        return (if v > 0.0 { "+Inf" } else { "-Inf" }).to_owned();
    }
    let magnitude = v.abs();
    if v != 0.0 && v.is_finite() && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{v:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    v.to_string()
}

/// A number as the value of a label: whole numbers keep a `.0`.
fn label_float(v: f64) -> String {
    let text = go_float(v);
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        text + ".0"
    } else {
        text
    }
}

/// A time as RFC 3339 in UTC.
fn rfc3339(ms: i64) -> String {
    let s = ms.div_euclid(1000);
    let part = |name: &str| match crate::functions::function(name).map(|f| f.work) {
        Some(Work::Date(f)) => f(s as f64) as i64,
        _ => 0,
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        part("year"),
        part("month"),
        part("day_of_month"),
        part("hour"),
        part("minute"),
        s.rem_euclid(60)
    )
}
