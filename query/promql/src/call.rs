//! Calls: what each kind of function does with its arguments. Families have their own methods, which keeps the frames of
//! nested calls small.

use model::{LabelSet, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use query_exec::{Cells, Grid, Matrix, Row, label_join, label_replace, sort_by_label, sort_by_value};

use crate::functions::{
    Buckets, Fixed, Function, Work, bucket_fraction, bucket_quantile, collect_buckets, double_exponential_smoothing,
    function, quantile_over_time,
};
use crate::lex::Span;
use crate::notes::{for_metric, go_float};
use crate::plan::{Node, NodeWork};
use crate::run::{Evaluated, Run, Value, WHERE, data, size};
use crate::windows::Windows;

impl Run<'_> {
    pub(crate) fn call(&self, function: &Function, args: &[Node], span: Span, grid: Grid) -> Evaluated<Value> {
        let family = match function.work {
            Work::Value(_) | Work::ValueWith(_) | Work::Date(_) | Work::Timestamp => Self::of_values,
            Work::StartTimestamp | Work::Info => return Err(data(format!("{} has no samples to read", function.name))),
            Work::Window(_) | Work::WindowNamed(_) | Work::Counter(_) => Self::of_windows,
            Work::QuantileOverTime | Work::Smoothing => Self::of_windows,
            Work::Absent | Work::AbsentOverTime | Work::Vector | Work::Scalar => Self::of_presence,
            Work::Time | Work::Pi | Work::Start | Work::End | Work::Range | Work::Step => Self::of_scalars,
            Work::MaxOf | Work::MinOf => Self::of_scalars,
            Work::Sort { .. } | Work::SortByLabel { .. } | Work::LabelReplace | Work::LabelJoin => Self::of_labels,
            Work::HistogramQuantile | Work::HistogramQuantiles => Self::of_histograms,
            Work::HistogramFraction | Work::OfHistograms => Self::of_histograms,
        };
        family(self, function, args, span, grid)
    }

    /// Each value alone.
    fn of_values(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// The samples of windows.
    fn of_windows(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        Ok(match function.work {
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// Whether there is anything, and between vectors and scalars.
    fn of_presence(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
        Ok(match function.work {
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// Times of the query, and numbers.
    fn of_scalars(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let per_step = |f: &dyn Fn(i64) -> f64| Value::Scalar(grid.iter().map(f).collect());
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Ok(match function.work {
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// The labels and the order of rows.
    fn of_labels(&self, function: &Function, args: &[Node], span: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
        Ok(match function.work {
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// Classic histograms.
    fn of_histograms(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
        Ok(match function.work {
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
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    pub(crate) fn params(&self, args: &[Node], grid: Grid) -> Evaluated<Vec<Vec<f64>>> {
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
    let part = |name: &str| match function(name).map(|f| f.work) {
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
