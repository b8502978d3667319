//! Rows on a grid: the value of a vector expression over all its steps at once.

use hashbrown::HashMap;
use model::LabelSet;

use crate::{Cells, Dialect, ExecError, Grid};

/// What is said when two rows of one step come out with equal labels; clients know these words.
pub const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

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
            self.labels = dialect.without_name(&self.labels);
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
    pub fn settle_names(&mut self, dialect: Dialect) -> Result<(), ExecError> {
        let mut changed = false;
        for row in &mut self.rows {
            if std::mem::take(&mut row.drop_name) {
                row.labels = dialect.without_name(&row.labels);
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
