//! Aggregations that need no more than one row at a time: a sum never has to see all its terms at once, so a query that
//! only sums holds its groups and not its series.

use hashbrown::HashMap;
use model::LabelSet;

use crate::{
    Added, AggregateOp, Cells, Compensated, Dialect, Grid, Grouping, HistogramMean, HistogramSum, Matrix, Mean,
    MixedSchemas, Remark, Remarks, Row,
};
use model::Histogram;

/// An aggregation under way: rows enter one by one and need not be kept.
pub struct Aggregator {
    op: AggregateOp,
    grouping: Grouping,
    grid: Grid,
    dialect: Dialect,
    known: HashMap<LabelSet, usize, rapidhash::fast::RandomState>,
    groups: Vec<Group>,
    remarks: Remarks,
}

struct Group {
    labels: LabelSet,
    drop_name: bool,
    fold: Box<dyn Fold>,
}

/// One group's values over all steps.
trait Fold: Send {
    fn enter(&mut self, cells: &Cells);
    /// Histograms of a row; `name` is the metric's.
    fn enter_histograms(&mut self, cells: &Cells, name: &str, remarks: &mut Remarks);
    /// What its histograms weigh against a query's limit on samples.
    fn histogram_weight(&self) -> u64 {
        0
    }
    fn finish(self: Box<Self>, remarks: &mut Remarks) -> Cells;
}

/// For aggregations that have no meaning for histograms.
fn ignore_histograms(remarks: &mut Remarks) {
    remarks.insert(Remark::IgnoredHistograms);
}

impl Aggregator {
    /// `None` if the operation has to see all rows at once.
    pub fn new(op: &AggregateOp, grouping: &Grouping, grid: Grid, dialect: Dialect) -> Option<Aggregator> {
        new_fold(op, 0, dialect)?;
        Some(Aggregator {
            op: op.clone(),
            grouping: grouping.clone(),
            grid,
            dialect,
            known: HashMap::default(),
            groups: Vec::new(),
            remarks: Remarks::new(),
        })
    }
    /// Takes in one row. The order of rows is the order in which values are added up.
    pub fn enter(&mut self, row: &Row) {
        let labels = self.grouping.labels_of(&row.labels, self.dialect);
        let at = match self.known.get(&labels) {
            Some(at) => *at,
            None => {
                let Some(fold) = new_fold(&self.op, self.grid.len(), self.dialect) else {
                    return;
                };
                self.known.insert(labels.clone(), self.groups.len());
                self.groups.push(Group {
                    labels,
                    drop_name: false,
                    fold,
                });
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[at];
        group.drop_name |= row.drop_name;
        group.fold.enter(&row.cells);
        if row.cells.has_histograms() {
            let name = row.labels.metric_name();
            group.fold.enter_histograms(&row.cells, name, &mut self.remarks);
        }
    }
    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
    /// What the groups' histograms weigh against a query's limit on samples, beside the groups' steps.
    pub fn histogram_weight(&self) -> u64 {
        self.groups.iter().map(|g| g.fold.histogram_weight()).sum()
    }
    /// The groups, in order of their first rows; what was met on the way goes to `remarks`.
    pub fn finish(mut self, remarks: &mut Remarks) -> Matrix {
        remarks.append(&mut self.remarks);
        let row = |group: Group| Row {
            labels: group.labels,
            cells: group.fold.finish(remarks),
            drop_name: group.drop_name,
        };
        let mut out = Matrix {
            grid: self.grid,
            rows: self.groups.into_iter().map(row).collect(),
        };
        out.drop_absent();
        out
    }
}

fn new_fold(op: &AggregateOp, steps: usize, dialect: Dialect) -> Option<Box<dyn Fold>> {
    Some(match op {
        AggregateOp::Sum => Box::new(Sums::new(steps)),
        AggregateOp::Avg => Box::new(Means::new(steps)),
        AggregateOp::Min => Box::new(Extremes::new(steps, |best, v| best > v || best.is_nan())),
        AggregateOp::Max => Box::new(Extremes::new(steps, |best, v| best < v || best.is_nan())),
        AggregateOp::Count => Box::new(Counts::new(steps)),
        AggregateOp::Group => Box::new(Ones::new(steps)),
        AggregateOp::Stdvar => Box::new(Spreads::new(steps, false, dialect)),
        AggregateOp::Stddev => Box::new(Spreads::new(steps, true, dialect)),
        _ => return None,
    })
}

/// Histograms of one group over all steps.
struct HistogramFold<T> {
    of_step: Vec<Option<T>>,
    /// Steps at which schemas met that cannot be added up.
    broken: Vec<bool>,
}

/// Sums and means of histograms.
trait Terms: Sized + Send {
    fn starting_with(h: &Histogram) -> Self;
    fn add(&mut self, h: &Histogram) -> Result<Added, MixedSchemas>;
    fn conflicts(&self) -> bool;
    fn weight(&self) -> u64;
    fn value(&self) -> Histogram;
}

impl Terms for HistogramSum {
    fn starting_with(h: &Histogram) -> Self {
        HistogramSum::starting_with(h)
    }
    fn add(&mut self, h: &Histogram) -> Result<Added, MixedSchemas> {
        HistogramSum::add(self, h)
    }
    fn conflicts(&self) -> bool {
        self.has_conflicting_resets()
    }
    fn weight(&self) -> u64 {
        HistogramSum::weight(self)
    }
    fn value(&self) -> Histogram {
        self.total()
    }
}

impl Terms for HistogramMean {
    fn starting_with(h: &Histogram) -> Self {
        HistogramMean::starting_with(h)
    }
    fn add(&mut self, h: &Histogram) -> Result<Added, MixedSchemas> {
        HistogramMean::add(self, h)
    }
    fn conflicts(&self) -> bool {
        self.has_conflicting_resets()
    }
    fn weight(&self) -> u64 {
        HistogramMean::weight(self)
    }
    fn value(&self) -> Histogram {
        HistogramMean::value(self)
    }
}

impl<T: Terms> HistogramFold<T> {
    fn enter(slot: &mut Option<Box<Self>>, cells: &Cells, name: &str, remarks: &mut Remarks) {
        let fold = slot.get_or_insert_with(|| {
            Box::new(HistogramFold {
                of_step: (0..cells.len()).map(|_| None).collect(),
                broken: vec![false; cells.len()],
            })
        });
        for (i, h) in cells.histograms() {
            match &mut fold.of_step[i] {
                slot @ None => *slot = Some(T::starting_with(h)),
                Some(terms) => match terms.add(h) {
                    Ok(added) if added.reconciled_bounds => {
                        remarks.insert(Remark::ReconciledBounds);
                    }
                    Ok(_) => {}
                    Err(MixedSchemas) => {
                        fold.broken[i] = true;
                        remarks.insert(Remark::MixedSchemas(name.to_owned()));
                    }
                },
            }
        }
    }

    fn weight(slot: &Option<Box<Self>>) -> u64 {
        let terms = slot.iter().flat_map(|fold| fold.of_step.iter().flatten());
        terms.map(Terms::weight).sum()
    }

    /// Puts histograms beside the floats; where both are is nothing.
    fn finish(slot: Option<Box<Self>>, cells: &mut Cells, remarks: &mut Remarks) {
        let Some(fold) = slot else { return };
        for (i, terms) in fold.of_step.into_iter().enumerate() {
            let Some(terms) = terms else { continue };
            if cells.has(i) {
                remarks.insert(Remark::MixedKinds);
                cells.clear(i);
                continue;
            }
            if fold.broken[i] {
                continue;
            }
            if terms.conflicts() {
                remarks.insert(Remark::ConflictingResets);
            }
            cells.set_histogram(i, terms.value().into());
        }
    }
}

struct Sums {
    sums: Vec<Compensated>,
    present: Cells,
    histograms: Option<Box<HistogramFold<HistogramSum>>>,
}

impl Sums {
    fn new(steps: usize) -> Sums {
        Sums {
            sums: vec![Compensated::default(); steps],
            present: Cells::absent(steps),
            histograms: None,
        }
    }
}

impl Fold for Sums {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            if self.present.has(i) {
                self.sums[i].add(v);
            } else {
                self.sums[i] = Compensated::starting_with(v);
                self.present.set(i, 0.0);
            }
        }
    }
    fn enter_histograms(&mut self, cells: &Cells, name: &str, remarks: &mut Remarks) {
        HistogramFold::enter(&mut self.histograms, cells, name, remarks);
    }
    fn histogram_weight(&self) -> u64 {
        HistogramFold::weight(&self.histograms)
    }
    fn finish(mut self: Box<Self>, remarks: &mut Remarks) -> Cells {
        self.present.filter_map(|i, _| Some(self.sums[i].total()));
        HistogramFold::finish(self.histograms, &mut self.present, remarks);
        self.present
    }
}

struct Means {
    means: Vec<Mean>,
    present: Cells,
    histograms: Option<Box<HistogramFold<HistogramMean>>>,
}

impl Means {
    fn new(steps: usize) -> Means {
        Means {
            means: vec![Mean::default(); steps],
            present: Cells::absent(steps),
            histograms: None,
        }
    }
}

impl Fold for Means {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            self.means[i].add(v);
            self.present.set(i, 0.0);
        }
    }
    fn enter_histograms(&mut self, cells: &Cells, name: &str, remarks: &mut Remarks) {
        HistogramFold::enter(&mut self.histograms, cells, name, remarks);
    }
    fn histogram_weight(&self) -> u64 {
        HistogramFold::weight(&self.histograms)
    }
    fn finish(mut self: Box<Self>, remarks: &mut Remarks) -> Cells {
        self.present.filter_map(|i, _| Some(self.means[i].value()));
        HistogramFold::finish(self.histograms, &mut self.present, remarks);
        self.present
    }
}

struct Extremes<B> {
    best: Cells,
    beaten: B,
}

impl<B: Fn(f64, f64) -> bool> Extremes<B> {
    fn new(steps: usize, beaten: B) -> Extremes<B> {
        Extremes {
            best: Cells::absent(steps),
            beaten,
        }
    }
}

impl<B: Fn(f64, f64) -> bool + Send> Fold for Extremes<B> {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            if self.best.get(i).is_none_or(|best| (self.beaten)(best, v)) {
                self.best.set(i, v);
            }
        }
    }
    fn enter_histograms(&mut self, _: &Cells, _: &str, remarks: &mut Remarks) {
        ignore_histograms(remarks);
    }
    fn finish(self: Box<Self>, _: &mut Remarks) -> Cells {
        self.best
    }
}

struct Counts(Cells);

impl Counts {
    fn new(steps: usize) -> Counts {
        Counts(Cells::absent(steps))
    }
}

impl Fold for Counts {
    fn enter(&mut self, cells: &Cells) {
        for i in cells.steps() {
            let n = self.0.get(i).unwrap_or(0.0);
            self.0.set(i, n + 1.0);
        }
    }
    // Both kinds were counted.
    fn enter_histograms(&mut self, _: &Cells, _: &str, _: &mut Remarks) {}
    fn finish(self: Box<Self>, _: &mut Remarks) -> Cells {
        self.0
    }
}

struct Ones(Cells);

impl Ones {
    fn new(steps: usize) -> Ones {
        Ones(Cells::absent(steps))
    }
}

impl Fold for Ones {
    fn enter(&mut self, cells: &Cells) {
        for i in cells.steps() {
            self.0.set(i, 1.0);
        }
    }
    // Both kinds were counted.
    fn enter_histograms(&mut self, _: &Cells, _: &str, _: &mut Remarks) {}
    fn finish(self: Box<Self>, _: &mut Remarks) -> Cells {
        self.0
    }
}

/// Welford's running variance.
struct Spreads {
    count: Vec<f64>,
    mean: Vec<f64>,
    squares: Cells,
    root: bool,
    dialect: Dialect,
}

impl Spreads {
    fn new(steps: usize, root: bool, dialect: Dialect) -> Spreads {
        Spreads {
            count: vec![0.0; steps],
            mean: vec![0.0; steps],
            squares: Cells::absent(steps),
            root,
            dialect,
        }
    }
}

impl Fold for Spreads {
    fn enter(&mut self, cells: &Cells) {
        for (i, v) in cells.iter() {
            self.count[i] += 1.0;
            if self.count[i] == 1.0 {
                self.mean[i] = v;
                let spreads = self.dialect.lone_infinity_deviates && !v.is_finite();
                self.squares.set(i, if spreads { f64::NAN } else { 0.0 });
            } else {
                let delta = v - self.mean[i];
                self.mean[i] += delta / self.count[i];
                let squares = self.squares.get(i).unwrap_or(0.0);
                self.squares.set(i, squares + delta * (v - self.mean[i]));
            }
        }
    }
    fn enter_histograms(&mut self, _: &Cells, _: &str, remarks: &mut Remarks) {
        ignore_histograms(remarks);
    }
    fn finish(mut self: Box<Self>, _: &mut Remarks) -> Cells {
        self.squares.filter_map(|i, squares| {
            let variance = squares / self.count[i];
            Some(if self.root { variance.sqrt() } else { variance })
        });
        self.squares
    }
}
