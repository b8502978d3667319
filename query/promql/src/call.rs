//! Calls: what each kind of function does with its arguments. Families have their own methods, which keeps the frames of
//! nested calls small.

use model::{LabelSet, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};
use query_exec::{Cells, Grid, Matrix, Row, label_join, label_replace, sort_by_label, sort_by_value};

use crate::functions::{Function, Work, double_exponential_smoothing, quantile_over_time};
use crate::lex::Span;
use crate::plan::{Node, NodeWork, Select};
use crate::read::{Wanted, place_of};
use crate::run::{Evaluated, Run, Value, data, size};
use crate::windows::{Made, Windows};

impl Run<'_> {
    pub(crate) fn call(&self, function: &Function, args: &[Node], span: Span, grid: Grid) -> Evaluated<Value> {
        let family = match function.work {
            Work::Value(_) | Work::ValueWith(_) | Work::Date(_) | Work::Timestamp => Self::of_values,
            Work::StartTimestamp => Self::of_values,
            Work::Info => Self::info,
            Work::Window(_) | Work::WindowNamed(_) | Work::Counter(_) => Self::of_windows,
            Work::QuantileOverTime | Work::Smoothing => Self::of_windows,
            Work::Absent | Work::AbsentOverTime | Work::Vector | Work::Scalar => Self::of_presence,
            Work::Time | Work::Pi | Work::Start | Work::End | Work::Range | Work::Step => Self::of_scalars,
            Work::MaxOf | Work::MinOf => Self::of_scalars,
            Work::Sort { .. } | Work::SortByLabel { .. } | Work::LabelReplace | Work::LabelJoin => Self::of_labels,
            Work::HistogramQuantile | Work::HistogramQuantiles => Self::of_histograms,
            Work::HistogramFraction | Work::OfHistogram(_) => Self::of_histograms,
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
                for row in &mut m.rows {
                    self.without_histograms(row);
                    row.cells.map(f);
                }
                Value::Vector(self.renamed(m)?)
            }
            Work::ValueWith(f) => {
                let params = self.params(&args[1..], grid)?;
                let mut m = vector(0)?;
                let mut of_step = vec![0.0; params.len()];
                for row in &mut m.rows {
                    self.without_histograms(row);
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
                for row in &mut m.rows {
                    self.without_histograms(row);
                    row.cells.map(f);
                }
                Value::Vector(self.renamed(m)?)
            }
            Work::Timestamp => {
                let m = if let Some(select) = selector(&args[0]) {
                    self.instant(select, args[0].span, grid, Wanted::Time)?
                } else {
                    let mut m = self.vector(&args[0], grid)?;
                    for row in &mut m.rows {
                        self.context.release_samples(row.cells.histogram_weight());
                        let steps: Vec<usize> = row.cells.steps().collect();
                        steps
                            .into_iter()
                            .for_each(|step| row.cells.set(step, seconds(grid.at(step))));
                    }
                    m
                };
                Value::Vector(self.renamed(m)?)
            }
            Work::StartTimestamp => {
                let m = match selector(&args[0]) {
                    Some(select) if self.options.use_start_timestamps => {
                        self.instant(select, args[0].span, grid, Wanted::Start)?
                    }
                    _ => Matrix::empty(grid),
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
                self.doubt_counters(m.rows.iter(), place_of(&args[0]));
                Value::Vector(self.renamed(m)?)
            }
            Work::QuantileOverTime => {
                let params = [self.scalar(&args[0], grid)?];
                // What is said of these windows is said of the first argument.
                let told_there = |w: &Windows<'_>| Ok(quantile_over_time(&w.told_at(args[0].span), &params));
                let m = self.over_windows(&args[1], grid, true, told_there)?;
                let asked = params[0].iter().enumerate();
                let answered = asked.filter(|(step, _)| m.rows.iter().any(|row| row.cells.has(*step)));
                self.warn_of_quantiles(answered.map(|(_, q)| *q), args[0].span);
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
                let ones = |w: &Windows<'_>| Ok(w.of_any(|_| Some(Made::Float(1.0))));
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

    /// The time of each step, and the larger or smaller of two numbers. What is the same at every step the planner has
    /// made a number.
    fn of_scalars(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        Ok(match function.work {
            Work::Time => Value::Scalar(grid.iter().map(|ms| ms as f64 / 1000.0).collect()),
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
                for row in &mut m.rows {
                    self.without_histograms(row);
                }
                m.drop_absent();
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
                let regex = model::anchored_regex(regex)
                    .map_err(|_| data(format!("invalid regular expression in label_replace(): {regex}")))?;
                Value::Vector(label_replace(self.context, m, dst, replacement, src, &regex)?)
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

    pub(crate) fn params(&self, args: &[Node], grid: Grid) -> Evaluated<Vec<Vec<f64>>> {
        args.iter().map(|a| self.scalar(a, grid)).collect()
    }

    pub(crate) fn texts(&self, args: &[Node]) -> Evaluated<Vec<String>> {
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

    /// Leaves histograms out, of which the function has nothing to say.
    fn without_histograms(&self, row: &mut Row) {
        self.context.release_samples(row.cells.histogram_weight());
        row.cells.drop_histograms();
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
        for step in m.rows.iter().flat_map(|row| row.cells.steps()) {
            cells.clear(step);
        }
        self.context.release_samples(size(m));
        self.single(labels, cells, grid)
    }
}

/// What is known of a series that is not there: its `=` matchers, but for labels that others match after them.
fn labels_of_absent(node: &Node) -> LabelSet {
    let matchers: &[Matcher] = match &node.work {
        NodeWork::Instant(select) | NodeWork::Range { select, .. } => &select.matchers,
        NodeWork::Once(inner) => return labels_of_absent(inner),
        _ => &[],
    };
    // Prometheus looks at the matchers in the order in which its storage has used them: last what only takes series away.
    let takes_away = |m: &&Matcher| matches!(m.op(), MatchOp::NotEqual | MatchOp::NotRegex) && m.matches("");
    let (last, first): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(takes_away);
    let mut labels = LabelsBuilder::default();
    let mut seen: Vec<&str> = Vec::new();
    for m in first.into_iter().chain(last).filter(|m| m.name() != METRIC_NAME) {
        if m.op() == MatchOp::Equal && !seen.contains(&m.name()) {
            labels.set(m.name(), m.value());
            seen.push(m.name());
        } else {
            labels.remove(m.name());
        }
    }
    labels.build()
}

/// The selector that an argument is, if it is nothing else.
fn selector(node: &Node) -> Option<&Select> {
    match &node.work {
        NodeWork::Instant(select) => Some(select),
        NodeWork::Once(inner) => selector(inner),
        _ => None,
    }
}
