//! `histogram_quantile`, `histogram_fraction` and their kin, on classic histograms (a row for each bucket) and native ones
//! (a cell each), which may stand side by side in one vector.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use model::{Histogram, LabelSet};
use query_exec::{Cells, Grid, Matrix, NativeQuantile, Row, native_fraction, native_quantile};

use crate::functions::{BOUND, Buckets, Function, Work, bucket_fraction, bucket_quantile, collect_buckets};
use crate::lex::Span;
use crate::notes::{for_metric, go_float};
use crate::plan::Node;
use crate::run::{Evaluated, Run, Value, WHERE, data, size};

/// A φ for each step, and the label that says which, if one is asked for.
type Wanted = (Vec<f64>, Option<(String, String)>);

/// Histograms of both kinds in one vector. Where a classic and a native one have the same labels neither counts.
struct Histograms<'a> {
    classic: Vec<(Buckets<'a>, Vec<usize>)>,
    native: Vec<(&'a Row, Cow<'a, Cells>)>,
}

impl Run<'_> {
    pub(crate) fn of_histograms(&self, function: &Function, args: &[Node], _: Span, grid: Grid) -> Evaluated<Value> {
        let vector = |i: usize| self.vector(&args[i], grid);
        Ok(match function.work {
            Work::HistogramQuantile => {
                let q = self.scalar(&args[0], grid)?;
                let m = vector(1)?;
                self.warn_of_quantiles(q.iter().copied(), args[0].span);
                Value::Vector(self.quantiles(&[(q, None)], m, args[1].span, args[0].span)?)
            }
            Work::HistogramQuantiles => {
                let m = vector(0)?;
                let label = self.label_name(&args[1], "invalid label name ")?;
                let mut wanted = Vec::new();
                for arg in &args[2..] {
                    let q = self.scalar(arg, grid)?;
                    self.warn_of_quantiles(q.iter().copied(), arg.span);
                    let value = q.first().map(|q| label_float(*q)).unwrap_or_default();
                    wanted.push((q, Some((label.clone(), value))));
                }
                Value::Vector(self.quantiles(&wanted, m, args[0].span, args[0].span)?)
            }
            Work::HistogramFraction => {
                let (lower, upper) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let m = vector(2)?;
                Value::Vector(self.fractions(&lower, &upper, m, args[2].span, args[0].span)?)
            }
            Work::OfHistogram(f) => {
                let mut m = vector(0)?;
                for row in &mut m.rows {
                    let mut cells = Cells::absent(grid.len());
                    row.cells.histograms().for_each(|(i, h)| cells.set(i, f(h)));
                    self.context.release_samples(row.cells.histogram_weight());
                    row.cells = cells;
                }
                Value::Vector(self.renamed(m)?)
            }
            _ => return Err(data(format!("{} is none of these", function.name))),
        })
    }

    /// `first` is the place of the first argument: see [`Run::nan_place`].
    fn quantiles(&self, wanted: &[Wanted], m: Matrix, span: Span, first: Span) -> Evaluated<Matrix> {
        let found = self.histograms(&m, span);
        let mut out = Matrix::empty(m.grid);
        for (k, (q, label)) in wanted.iter().enumerate() {
            let mut put = |labels: &LabelSet, drop_name: bool, cells: Cells| -> Evaluated<()> {
                self.context.add_samples(m.grid.len() as u64)?;
                let labels = match label {
                    Some((name, value)) => labels.with(name, value),
                    None => labels.clone(),
                };
                out.rows.push(Row {
                    labels,
                    cells,
                    drop_name,
                });
                Ok(())
            };
            for (row, cells) in &found.native {
                self.context.check(WHERE)?;
                let cells = of_native(cells, |step, h| {
                    let found = native_quantile(q[step], h);
                    self.note_nan_quantile(found, row.labels.metric_name(), self.nan_place(span, first));
                    found.value
                });
                put(&row.labels, row.drop_name, cells)?;
            }
            for (group, blocked) in &found.classic {
                self.context.check(WHERE)?;
                // Once repaired, a histogram is not found broken again.
                let repaired = |step: usize| wanted[..k].iter().any(|(q, _)| (0.0..=1.0).contains(&q[step]));
                let cells = self.classic_quantiles(q, group, blocked, m.grid, span, repaired);
                put(&group.labels, false, cells)?;
            }
        }
        drop(found);
        self.finished(out, &m)
    }

    fn classic_quantiles(
        &self,
        q: &[f64],
        group: &Buckets<'_>,
        blocked: &[usize],
        grid: Grid,
        span: Span,
        repaired: impl Fn(usize) -> bool,
    ) -> Cells {
        of_buckets(group, blocked, grid, |step, buckets| {
            let (value, fixed) = bucket_quantile(q[step], buckets);
            if let Some(fixed) = fixed.filter(|_| !repaired(step)) {
                self.notes
                    .fixed_histogram(span, self.name_in_infos(group.name), fixed, grid.at(step));
            }
            value
        })
    }

    /// Prometheus has taken the name off when it says these things, unless names are taken off late.
    fn name_in_infos<'n>(&self, name: &'n str) -> &'n str {
        if self.dialect.delayed_name_removal { name } else { "" }
    }

    /// Of NaN observations Prometheus says the name and points to the histograms, where names are taken off late; else it
    /// has no name left and points to the first argument.
    fn nan_place(&self, histograms: Span, first: Span) -> Span {
        if self.dialect.delayed_name_removal {
            histograms
        } else {
            first
        }
    }

    fn note_nan_quantile(&self, found: NativeQuantile, name: &str, span: Span) {
        if found.nan_observations {
            let result = if found.value.is_nan() {
                "is NaN"
            } else {
                "is skewed higher"
            };
            let what = format!("input to histogram_quantile has NaN observations, result {result}");
            self.notes.info(span, what + &for_metric(self.name_in_infos(name)));
        }
    }

    fn fractions(&self, lower: &[f64], upper: &[f64], m: Matrix, span: Span, first: Span) -> Evaluated<Matrix> {
        let found = self.histograms(&m, span);
        let mut out = Matrix::empty(m.grid);
        for (row, cells) in &found.native {
            self.context.add_samples(m.grid.len() as u64)?;
            let cells = of_native(cells, |step, h| {
                let found = native_fraction(lower[step], upper[step], h);
                if found.nan_observations {
                    let what =
                        "input to histogram_fraction has NaN observations, which are excluded from all fractions";
                    self.notes.info(
                        self.nan_place(span, first),
                        format!("{what}{}", for_metric(self.name_in_infos(row.labels.metric_name()))),
                    );
                }
                found.value
            });
            out.rows.push(Row {
                labels: row.labels.clone(),
                cells,
                drop_name: row.drop_name,
            });
        }
        for (group, blocked) in &found.classic {
            self.context.add_samples(m.grid.len() as u64)?;
            let cells = of_buckets(group, blocked, m.grid, |step, buckets| {
                bucket_fraction(lower[step], upper[step], buckets)
            });
            out.rows.push(Row::new(group.labels.clone(), cells));
        }
        drop(found);
        self.finished(out, &m)
    }

    fn finished(&self, out: Matrix, input: &Matrix) -> Evaluated<Matrix> {
        self.context.release_samples(size(input));
        let mut out = self.renamed(out)?;
        out.merge_same_labels()?;
        Ok(out)
    }

    fn histograms<'m>(&self, m: &'m Matrix, span: Span) -> Histograms<'m> {
        let odd = |row: &Row, bound: &str| {
            let name = for_metric(self.name_in_infos(row.labels.metric_name()));
            let what = format!("bucket label \"le\" is missing or has a malformed value of {bound:?}{name}");
            self.notes.warn(span, what);
        };
        let floats = m.rows.iter().filter(|row| row.cells.iter().next().is_some());
        let mut classic: Vec<_> = collect_buckets(floats, odd)
            .into_iter()
            .map(|g| (g, Vec::new()))
            .collect();
        let places: HashMap<LabelSet, usize> = (classic.iter().enumerate())
            .map(|(i, (group, _))| (group.labels.clone(), i))
            .collect();
        let mut native = Vec::new();
        for row in m.rows.iter().filter(|row| row.cells.has_histograms()) {
            let mut cells = Cow::Borrowed(&row.cells);
            if let Some(&at) = places.get(&row.labels.without(&[BOUND])) {
                let (group, blocked) = &mut classic[at];
                for (step, _) in row.cells.histograms() {
                    if group.rows.iter().any(|(_, bucket)| bucket.cells.get(step).is_some()) {
                        blocked.push(step);
                        cells.to_mut().clear(step);
                    }
                }
                if !blocked.is_empty() {
                    let what = "vector contains a mix of classic and native histograms";
                    let name = for_metric(self.name_in_infos(row.labels.metric_name()));
                    self.notes.warn(span, format!("{what}{name}"));
                }
            }
            native.push((row, cells));
        }
        Histograms { classic, native }
    }
}

fn of_native(cells: &Cells, f: impl Fn(usize, &Arc<Histogram>) -> f64) -> Cells {
    let mut out = Cells::absent(cells.len());
    cells.histograms().for_each(|(step, h)| out.set(step, f(step, h)));
    out
}

/// The cells of one classic histogram, from its buckets at each step.
fn of_buckets(
    group: &Buckets<'_>,
    blocked: &[usize],
    grid: Grid,
    mut f: impl FnMut(usize, &mut Vec<(f64, f64)>) -> f64,
) -> Cells {
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
        if !buckets.is_empty() && !blocked.contains(&step) {
            let v = f(step, &mut buckets);
            cells.set(step, v);
        }
    }
    cells
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
