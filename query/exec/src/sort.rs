//! Sorting the rows of an instant vector.

use std::cmp::Ordering;

use crate::{Matrix, Row};

/// Sorts rows of an instant vector by value; NaN last.
pub fn sort_by_value(matrix: &mut Matrix, descending: bool) {
    let value = |row: &Row| row.cells.get(0).unwrap_or(f64::NAN);
    matrix.rows.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (false, false) => {
                let rising = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                if descending { rising.reverse() } else { rising }
            }
            (a, b) => a.cmp(&b),
        }
    });
}

/// Sorts rows by the values of these labels in natural order; ties are broken by the whole label set.
pub fn sort_by_label<S: AsRef<str>>(matrix: &mut Matrix, names: &[S], descending: bool) {
    matrix.rows.sort_by(|a, b| {
        let rising = names
            .iter()
            .map(|name| {
                let value = |row: &Row| row.labels.get(name.as_ref()).unwrap_or("").to_owned();
                natural_order(&value(a), &value(b))
            })
            .find(|order| order.is_ne())
            .unwrap_or_else(|| a.labels.cmp(&b.labels));
        if descending { rising.reverse() } else { rising }
    });
}

/// Texts with their numbers compared as numbers: `a2` before `a10`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (number_of(&mut a), number_of(&mut b));
            let significant = |digits: &[u8]| digits.iter().skip_while(|d| **d == b'0').copied().collect::<Vec<u8>>();
            let (p, q) = (significant(m), significant(n));
            let order = p
                .len()
                .cmp(&q.len())
                .then_with(|| p.cmp(&q))
                .then(m.len().cmp(&n.len()));
            if order.is_ne() {
                return order;
            }
        } else {
            if x != y {
                return x.cmp(y);
            }
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

fn number_of<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_compare_as_numbers() {
        let mut names = ["a10", "a2", "a", "b1", "a02", "10", "9"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["9", "10", "a", "a2", "a02", "a10", "b1"]);
    }
}
