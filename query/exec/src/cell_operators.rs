//! Binary operators on whole columns: floats in a plain loop; where a histogram may stand on either side, cell by cell.

use std::sync::Arc;

use model::Histogram;

use crate::remarks::Latest;
use crate::{
    Added, BinaryOp, Cell, Cells, Dialect, MixedSchemas, Remark, Remarks, Side, apply, difference, divided, multiplied,
    sum_of_two, trimmed,
};

/// How an operator works here.
#[derive(Clone, Copy)]
pub(crate) struct Operator {
    pub(crate) op: BinaryOp,
    /// A comparison gives 1 or 0 and does not filter.
    pub(crate) return_bool: bool,
    pub(crate) dialect: Dialect,
}

/// Which operand a filter keeps.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keep {
    Left,
    Right,
}

/// What an operator makes of two cells.
enum Outcome {
    Float(f64),
    Histogram(Histogram),
    Truth(bool),
}

impl Operator {
    pub(crate) fn filters(&self) -> bool {
        self.op.is_comparison() && !self.return_bool
    }

    /// `left op right` at every step at which both have something.
    pub(crate) fn combine(&self, left: &Cells, right: &Cells, remarks: &mut Latest) -> Cells {
        let mut out = left.clone();
        out.keep(right.words());
        if left.has_histograms() || right.has_histograms() || self.op.is_trim() {
            for i in 0..left.len() {
                if let (Some(l), Some(r)) = (left.cell(i), right.cell(i)) {
                    self.put(&mut out, i, l, r, Keep::Left, remarks);
                }
            }
            return out;
        }
        let filters = self.filters();
        out.filter_map(|i, l| {
            let result = apply(self.op, l, right.get(i)?, self.dialect);
            if filters {
                (result != 0.0).then_some(l)
            } else {
                Some(result)
            }
        });
        out
    }

    /// The steps at which a comparison of the two means something, whatever comes of it.
    pub(crate) fn comparable(&self, left: &Cells, right: &Cells) -> Cells {
        let equality = matches!(self.op, BinaryOp::Eq | BinaryOp::Ne);
        let mut out = Cells::absent(left.len());
        for i in left.steps() {
            match (left.cell(i), right.cell(i)) {
                (Some(Cell::Float(_)), Some(Cell::Float(_))) => out.set(i, 1.0),
                (Some(Cell::Histogram(_)), Some(Cell::Histogram(_))) if equality => out.set(i, 1.0),
                _ => {}
            }
        }
        out
    }

    /// The same with a number per step on one side; a filter keeps the other.
    pub(crate) fn combine_scalar(&self, cells: &mut Cells, scalar: &[f64], scalar_left: bool, remarks: &mut Latest) {
        if cells.has_histograms() || self.op.is_trim() {
            for (i, &number) in scalar.iter().enumerate().take(cells.len()) {
                let Some(cell) = cells.cell(i) else { continue };
                let held;
                let cell = match cell {
                    Cell::Float(v) => Cell::Float(v),
                    Cell::Histogram(h) => {
                        held = h.clone();
                        Cell::Histogram(&held)
                    }
                };
                let number = Cell::Float(number);
                if scalar_left {
                    self.put(cells, i, number, cell, Keep::Right, remarks);
                } else {
                    self.put(cells, i, cell, number, Keep::Left, remarks);
                }
            }
            return;
        }
        let filters = self.filters();
        cells.filter_map(|i, v| {
            let (l, r) = if scalar_left { (scalar[i], v) } else { (v, scalar[i]) };
            let result = apply(self.op, l, r, self.dialect);
            if filters {
                (result != 0.0).then_some(v)
            } else {
                Some(result)
            }
        });
    }

    fn put(&self, out: &mut Cells, i: usize, l: Cell<'_>, r: Cell<'_>, keep: Keep, remarks: &mut Latest) {
        let mut met = Remarks::new();
        let outcome = self.outcome(l, r, &mut met);
        remarks.put(i, met);
        match outcome {
            None => out.clear(i),
            Some(Outcome::Float(v)) => out.set(i, v),
            Some(Outcome::Histogram(h)) => out.set_histogram(i, Arc::new(h)),
            Some(Outcome::Truth(truth)) if self.return_bool => out.set(i, f64::from(u8::from(truth))),
            Some(Outcome::Truth(true)) if keep == Keep::Left => out.set_cell(i, l),
            Some(Outcome::Truth(true)) => out.set_cell(i, r),
            Some(Outcome::Truth(false)) => out.clear(i),
        }
    }

    fn outcome(&self, l: Cell<'_>, r: Cell<'_>, remarks: &mut Remarks) -> Option<Outcome> {
        use BinaryOp::{Add, Div, Eq, Mul, Ne, Sub, TrimLower, TrimUpper};
        let kinds = match (l, r) {
            (Cell::Float(l), Cell::Float(r)) => match self.op {
                TrimLower | TrimUpper => ("float", "float"),
                op if op.is_comparison() => return Some(Outcome::Truth(apply(op, l, r, self.dialect) != 0.0)),
                op => return Some(Outcome::Float(apply(op, l, r, self.dialect))),
            },
            (Cell::Float(l), Cell::Histogram(r)) => match self.op {
                Mul => return Some(Outcome::Histogram(multiplied(r, l))),
                _ => ("float", "histogram"),
            },
            (Cell::Histogram(l), Cell::Float(r)) => match self.op {
                Mul => return Some(Outcome::Histogram(multiplied(l, r))),
                Div => return Some(Outcome::Histogram(divided(l, r))),
                TrimUpper => return Some(Outcome::Histogram(trimmed(l, r, Side::Below))),
                TrimLower => return Some(Outcome::Histogram(trimmed(l, r, Side::Above))),
                _ => ("histogram", "float"),
            },
            (Cell::Histogram(l), Cell::Histogram(r)) => match self.op {
                Add => return added(sum_of_two(l, r), remarks),
                Sub => return added(difference(l, r), remarks),
                Eq => return Some(Outcome::Truth(l.same_bits(r))),
                Ne => return Some(Outcome::Truth(!l.same_bits(r))),
                _ => ("histogram", "histogram"),
            },
        };
        remarks.insert(Remark::IncompatibleKinds(kinds.0, kinds.1));
        None
    }
}

fn added(result: Result<(Histogram, Added), MixedSchemas>, remarks: &mut Remarks) -> Option<Outcome> {
    match result {
        Ok((h, added)) => {
            if added.conflicting_resets {
                remarks.insert(Remark::ConflictingResets);
            }
            if added.reconciled_bounds {
                remarks.insert(Remark::ReconciledBounds);
            }
            Some(Outcome::Histogram(h))
        }
        Err(MixedSchemas) => {
            remarks.insert(Remark::IncompatibleLayouts);
            None
        }
    }
}
