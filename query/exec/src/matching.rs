//! Which rows of two matrices meet.

use hashbrown::HashMap;
use model::{LabelSet, METRIC_NAME};

use crate::{Dialect, Row};

/// Which labels must agree for two rows to meet.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Matching {
    /// `on(labels)` if true, `ignoring(labels)` if false.
    pub on: bool,
    /// The labels.
    pub labels: Vec<String>,
    /// How many rows may meet how many.
    pub cardinality: Cardinality,
    /// Labels that `group_left(...)` or `group_right(...)` copies from the "one" side.
    pub include: Vec<String>,
    /// The value of a left row that is missing (`fill_left`, `fill`); `None`: then there is no result. Under `group_right`
    /// of a right row: the sides trade places.
    pub fill_left: Option<f64>,
    /// The value of a right row that is missing (`fill_right`, `fill`).
    pub fill_right: Option<f64>,
}

/// How many rows may meet how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Cardinality {
    #[default]
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

impl Matching {
    /// The labels by which a row is matched.
    pub fn group_of(&self, labels: &LabelSet, dialect: Dialect) -> LabelSet {
        if self.on {
            labels.keep(&self.labels)
        } else {
            let rest = labels.without(&self.labels);
            if dialect.metric_names {
                rest.without(&[METRIC_NAME])
            } else {
                rest
            }
        }
    }
}

/// Match groups of both sides, numbered.
pub(crate) struct MatchGroups {
    pub(crate) left: Vec<u32>,
    pub(crate) right: Vec<u32>,
    pub(crate) count: usize,
}

impl MatchGroups {
    pub(crate) fn of(matching: &Matching, left: &[Row], right: &[Row], dialect: Dialect) -> MatchGroups {
        let hasher = rapidhash::fast::RandomState::default();
        let mut known: HashMap<LabelSet, u32, _> = HashMap::with_hasher(hasher);
        let mut number = |rows: &[Row]| -> Vec<u32> {
            rows.iter()
                .map(|row| {
                    let next = known.len() as u32;
                    *known.entry(matching.group_of(&row.labels, dialect)).or_insert(next)
                })
                .collect()
        };
        let (left, right) = (number(left), number(right));
        MatchGroups {
            left,
            right,
            count: known.len(),
        }
    }
}
