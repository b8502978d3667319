//! Aggregations that keep whole rows: `topk`, `bottomk`, `limitk`.

use std::cmp::Ordering;

use crate::aggregate::Groups;
use crate::{Cells, Context, Dialect, ExecError, Grouping, Matrix, Row, go_number};

/// Which rows of a group stay.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keep {
    Largest,
    Smallest,
    First,
}

/// Keeps `k[step]` rows of each group at each step. At one step only, rows come out by group and by rank; else in the
/// order they came.
pub(crate) fn select(
    context: &Context,
    keep: Keep,
    k: &[f64],
    grouping: &Grouping,
    input: Matrix,
    dialect: Dialect,
) -> Result<Matrix, ExecError> {
    let k = whole_numbers(k, input.rows.len())?;
    let Matrix { grid, rows } = input;
    let groups = Groups::of(&rows, grouping, dialect);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.labels.len()];
    for (row, &group) in groups.of_row.iter().enumerate() {
        members[group as usize].push(row);
    }
    let mut kept: Vec<Cells> = vec![Cells::absent(grid.len()); rows.len()];
    let mut order: Vec<usize> = Vec::new();
    let mut candidates: Vec<(f64, usize)> = Vec::new();
    for members in &members {
        for (i, &k) in k.iter().enumerate() {
            context.check("expression evaluation")?;
            if k == 0 {
                continue;
            }
            candidates.clear();
            if keep == Keep::First {
                let there = members.iter().filter(|&&r| rows[r].cells.has(i));
                candidates.extend(there.take(k).map(|&r| (0.0, r)));
            } else {
                candidates.extend(members.iter().filter_map(|&r| rows[r].cells.get(i).map(|v| (v, r))));
                best_first(&mut candidates, keep, k);
            }
            for &(_, r) in candidates.iter() {
                if let Some(cell) = rows[r].cells.cell(i) {
                    kept[r].set_cell(i, cell);
                }
            }
            if grid.len() == 1 {
                order.extend(candidates.iter().map(|&(_, r)| r));
            }
        }
    }
    let mut slots: Vec<Option<Row>> = rows
        .into_iter()
        .zip(kept)
        .map(|(row, cells)| Some(Row { cells, ..row }))
        .collect();
    let rows = if grid.len() == 1 {
        order.into_iter().filter_map(|r| slots[r].take()).collect()
    } else {
        slots.into_iter().flatten().collect()
    };
    let mut out = Matrix { grid, rows };
    out.drop_absent();
    Ok(out)
}

/// Leaves the first `k` in rank order; of equals the earlier row is first.
fn best_first(candidates: &mut Vec<(f64, usize)>, keep: Keep, k: usize) {
    let by_rank = |a: &(f64, usize), b: &(f64, usize)| {
        let by_value = match keep {
            Keep::Largest => nan_last(&b.0, &a.0, a.0, b.0),
            Keep::Smallest => nan_last(&a.0, &b.0, a.0, b.0),
            Keep::First => Ordering::Equal,
        };
        by_value.then(a.1.cmp(&b.1))
    };
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, by_rank);
    }
    candidates.truncate(k);
    candidates.sort_unstable_by(by_rank);
}

/// Orders `x` and `y`, which are `a` and `b` in either order; whichever of `a` and `b` is NaN comes last.
fn nan_last(x: &f64, y: &f64, a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => x.partial_cmp(y).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

/// Numbers rising, NaN first.
pub(crate) fn nan_first(a: &f64, b: &f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (a, b) => b.cmp(&a),
    }
}

fn whole_numbers(k: &[f64], most: usize) -> Result<Vec<usize>, ExecError> {
    let bad = |what: String| Err(ExecError::Data(what));
    // As Prometheus: the largest parameter is looked at first, then the smallest, then NaN.
    let largest = k.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = k.iter().copied().fold(f64::INFINITY, f64::min);
    if largest >= i64::MAX as f64 {
        return bad(format!("Scalar value {} overflows int64", go_number(largest)));
    }
    if smallest <= i64::MIN as f64 {
        return bad(format!("Scalar value {} underflows int64", go_number(smallest)));
    }
    if k.iter().any(|k| k.is_nan()) {
        return bad("Parameter value is NaN".to_owned());
    }
    Ok(k.iter().map(|k| (*k as i64).clamp(0, most as i64) as usize).collect())
}
