//! Rows on a grid: the value of a vector expression over all its steps at once.

use hashbrown::HashMap;
use model::LabelSet;

use crate::{Dialect, ExecError, Grid};

/// What is said when two rows of one step come out with equal labels; clients know these words.
pub const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// One value per step, or none.
#[derive(Clone, Debug)]
pub struct Cells {
    values: Vec<f64>,
    present: Vec<u64>,
}

/// A label set with its cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who.
    pub labels: LabelSet,
    /// Its values on the grid.
    pub cells: Cells,
    /// The metric's name is to be taken off when the whole expression is done (PromQL's delayed name removal); false
    /// in other languages. Aggregations pass it on: one marked member marks the group.
    pub drop_name: bool,
}

/// Rows on one grid: the value of a vector expression over all steps at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// The steps.
    pub grid: Grid,
    /// One row per label set, in an order that operators keep (sorting functions set it).
    pub rows: Vec<Row>,
}

impl Cells {
    /// `len` absent cells.
    pub fn absent(len: usize) -> Cells {
        Cells {
            values: vec![0.0; len],
            present: vec![0; len.div_ceil(64)],
        }
    }
    /// A value at every step.
    pub fn full(values: Vec<f64>) -> Cells {
        let len = values.len();
        let mut present = vec![u64::MAX; len.div_ceil(64)];
        if let Some(last) = present.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        Cells { values, present }
    }
    /// The value at a step.
    #[inline]
    pub fn get(&self, i: usize) -> Option<f64> {
        self.has(i).then(|| self.values[i])
    }
    /// Whether there is a value at a step.
    #[inline]
    pub fn has(&self, i: usize) -> bool {
        self.present[i / 64] >> (i % 64) & 1 == 1
    }
    /// Sets the value at a step.
    #[inline]
    pub fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.present[i / 64] |= 1 << (i % 64);
    }
    /// Removes the value at a step.
    #[inline]
    pub fn clear(&mut self, i: usize) {
        self.present[i / 64] &= !(1 << (i % 64));
    }
    /// How many steps.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// Whether every step is absent.
    pub fn all_absent(&self) -> bool {
        self.present.iter().all(|w| *w == 0)
    }
    /// How many cells are present.
    pub fn count(&self) -> usize {
        self.present.iter().map(|w| w.count_ones() as usize).sum()
    }
    /// Present cells as (step, value).
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        steps_of(&self.present).map(|i| (i, self.values[i]))
    }
    /// Replaces every present value.
    pub fn map(&mut self, f: impl Fn(f64) -> f64) {
        // Absent cells are computed as well: their values are never seen, and the loop stays free of branches.
        for v in &mut self.values {
            *v = f(*v);
        }
    }
    /// Replaces or removes every present value.
    pub fn filter_map(&mut self, mut f: impl FnMut(usize, f64) -> Option<f64>) {
        for i in 0..self.values.len() {
            if self.has(i) {
                match f(i, self.values[i]) {
                    Some(v) => self.values[i] = v,
                    None => self.clear(i),
                }
            }
        }
    }
    /// Which steps are present, 64 to a word, lowest bit first.
    pub(crate) fn words(&self) -> &[u64] {
        &self.present
    }
    /// Keeps the cells whose bit is set in `mask`.
    pub(crate) fn keep(&mut self, mask: impl IntoIterator<Item = u64>) {
        for (word, mask) in self.present.iter_mut().zip(mask) {
            *word &= mask;
        }
    }
    /// Whether some step is present in both.
    pub(crate) fn meets(&self, other: &Cells) -> bool {
        self.present.iter().zip(&other.present).any(|(a, b)| a & b != 0)
    }
    /// Takes over the other's present cells.
    pub(crate) fn absorb(&mut self, other: &Cells) {
        for (i, v) in other.iter() {
            self.set(i, v);
        }
    }
}

impl PartialEq for Cells {
    /// Equal where present; NaN equals NaN of the same bits.
    fn eq(&self, other: &Cells) -> bool {
        let bits = |c: &Cells| c.iter().map(|(i, v)| (i, v.to_bits())).collect::<Vec<_>>();
        self.len() == other.len() && bits(self) == bits(other)
    }
}

impl Row {
    /// A row whose labels are final.
    pub fn new(labels: LabelSet, cells: Cells) -> Row {
        Row {
            labels,
            cells,
            drop_name: false,
        }
    }
    /// Takes the metric's name off, or marks it to be taken off, as the dialect has it.
    pub fn remove_name(&mut self, dialect: Dialect) {
        if !dialect.metric_names {
            return;
        }
        if dialect.delayed_name_removal {
            self.drop_name = true;
        } else {
            self.labels = self.labels.without_metric_name();
        }
    }
}

impl Matrix {
    /// No rows.
    pub fn empty(grid: Grid) -> Matrix {
        Matrix { grid, rows: Vec::new() }
    }
    /// Drops rows without any value.
    pub fn drop_absent(&mut self) {
        self.rows.retain(|row| !row.cells.all_absent());
    }
    /// Makes rows of equal labels one row, in the place of the first; fails where two of them have a value at the same
    /// step.
    pub fn merge_same_labels(&mut self) -> Result<(), ExecError> {
        let hasher = rapidhash::fast::RandomState::default();
        let mut first: HashMap<LabelSet, usize, _> = HashMap::with_capacity_and_hasher(self.rows.len(), hasher);
        let mut out: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in self.rows.drain(..) {
            match first.get(&row.labels) {
                None => {
                    first.insert(row.labels.clone(), out.len());
                    out.push(row);
                }
                Some(&at) => {
                    let target = &mut out[at];
                    if target.cells.meets(&row.cells) {
                        return Err(ExecError::Data(SAME_LABELSET.to_owned()));
                    }
                    target.drop_name |= row.drop_name;
                    target.cells.absorb(&row.cells);
                }
            }
        }
        self.rows = out;
        Ok(())
    }
    /// Takes off the names that were marked for removal, and joins what has become equal.
    pub fn settle_names(&mut self) -> Result<(), ExecError> {
        let mut changed = false;
        for row in &mut self.rows {
            if std::mem::take(&mut row.drop_name) {
                row.labels = row.labels.without_metric_name();
                changed = true;
            }
        }
        if changed { self.merge_same_labels() } else { Ok(()) }
    }
    /// Sorts rows by their label sets.
    pub fn sort_by_labels(&mut self) {
        self.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
}

/// The set bits of a bitmap, rising.
pub(crate) fn steps_of(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(at, &word)| {
        let mut rest = word;
        std::iter::from_fn(move || {
            (rest != 0).then(|| {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                at * 64 + bit
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cells: &[(usize, f64)]) -> Row {
        let mut c = Cells::absent(70);
        for &(i, v) in cells {
            c.set(i, v);
        }
        Row::new(LabelSet::from_pairs([("a", name)]), c)
    }

    #[test]
    fn absent_cells_are_not_seen() {
        let mut cells = Cells::absent(70);
        assert!(cells.all_absent());
        cells.set(0, 1.0);
        cells.set(69, f64::NAN);
        assert_eq!(cells.count(), 2);
        assert_eq!(cells.iter().map(|(i, _)| i).collect::<Vec<_>>(), [0, 69]);
        cells.clear(69);
        assert_eq!(cells.get(69), None);
        assert_eq!(Cells::full(vec![1.0; 70]).count(), 70);
        assert_eq!(Cells::full(vec![1.0; 64]).count(), 64);
    }

    #[test]
    fn equal_labels_merge_only_where_they_do_not_meet() {
        let grid = Grid::range(0, 69, 1);
        let mut m = Matrix {
            grid,
            rows: vec![row("x", &[(0, 1.0)]), row("y", &[(0, 5.0)]), row("x", &[(65, 2.0)])],
        };
        m.merge_same_labels().unwrap();
        assert_eq!(m.rows, [row("x", &[(0, 1.0), (65, 2.0)]), row("y", &[(0, 5.0)])]);
        m.rows.push(row("y", &[(0, 6.0)]));
        assert_eq!(
            m.merge_same_labels().unwrap_err(),
            ExecError::Data(SAME_LABELSET.into())
        );
    }
}
