//! `and`, `or`, `unless`: rows are kept or left out whole, step by step. Sixty-four steps at a time.

use crate::matching::MatchGroups;
use crate::{BinaryOp, Context, Dialect, ExecError, Matching, Matrix};

pub(crate) fn set_operator(
    context: &Context,
    op: BinaryOp,
    matching: &Matching,
    mut left: Matrix,
    mut right: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    context.check("expression evaluation")?;
    let groups = MatchGroups::of(matching, &left.rows, &right.rows, dialect);
    match op {
        BinaryOp::Or => {
            let there = presence(&left, &groups.left, groups.count);
            for (row, &group) in right.rows.iter_mut().zip(&groups.right) {
                row.cells.keep(there[group as usize].iter().map(|word| !word));
            }
            left.rows.append(&mut right.rows);
            left.drop_absent();
            left.merge_same_labels()?;
        }
        _ => {
            let flip = if op == BinaryOp::Unless { u64::MAX } else { 0 };
            let there = presence(&right, &groups.right, groups.count);
            for (row, &group) in left.rows.iter_mut().zip(&groups.left) {
                row.cells.keep(there[group as usize].iter().map(|word| word ^ flip));
            }
            left.drop_absent();
        }
    }
    Ok(left)
}

/// For each group the steps at which any of its rows has a value.
pub(crate) fn presence(matrix: &Matrix, group_of: &[u32], groups: usize) -> Vec<Vec<u64>> {
    let mut there = vec![vec![0; matrix.grid.len().div_ceil(64)]; groups];
    for (row, &group) in matrix.rows.iter().zip(group_of) {
        for (bits, word) in there[group as usize].iter_mut().zip(row.cells.words()) {
            *bits |= word;
        }
    }
    there
}
