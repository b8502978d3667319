//! Structural operators: which spans of the right side have a given relation to one of the left. Relations are read off
//! nested-set numbers, by sorting instead of comparing every pair.

use crate::run::{Position, Spans};
use crate::syntax::{Kept, Relation};

/// The spans that `kept` keeps, in rising order.
pub(crate) fn related<S: Spans>(relation: Relation, kept: Kept, spans: &S, left: &[u32], right: &[u32]) -> Vec<u32> {
    let has = Side::new(spans, left).relatives(relation, spans, right);
    let mut out: Vec<u32> = match kept {
        Kept::Right => pick(right, &has, true),
        Kept::RightWithout => pick(right, &has, false),
        Kept::Both => {
            let mut out = pick(right, &has, true);
            let back = Side::new(spans, right).relatives(relation.reversed(), spans, left);
            out.extend(pick(left, &back, true));
            out
        }
    };
    out.sort_unstable();
    out.dedup();
    out
}

fn pick(spans: &[u32], flags: &[bool], wanted: bool) -> Vec<u32> {
    let picked = spans.iter().zip(flags).filter(|(_, flag)| **flag == wanted);
    picked.map(|(span, _)| *span).collect()
}

impl Relation {
    fn reversed(self) -> Relation {
        match self {
            Relation::Child => Relation::Parent,
            Relation::Parent => Relation::Child,
            Relation::Descendant => Relation::Ancestor,
            Relation::Ancestor => Relation::Descendant,
            Relation::Sibling => Relation::Sibling,
        }
    }
}

/// One side's positions, as questions about it need them.
struct Side {
    /// (left, right), rising.
    intervals: Vec<(i32, i32)>,
    /// The greatest right number of all intervals up to the same place.
    reach: Vec<i32>,
    /// Parents' left numbers, rising, one per span.
    parents: Vec<i32>,
}

impl Side {
    fn new<S: Spans>(spans: &S, side: &[u32]) -> Side {
        let known = side.iter().map(|span| spans.position(*span)).filter(|p| p.left != 0);
        let known: Vec<Position> = known.collect();
        let mut intervals: Vec<(i32, i32)> = known.iter().map(|p| (p.left, p.right)).collect();
        intervals.sort_unstable();
        let mut parents: Vec<i32> = known.iter().map(|p| p.parent).filter(|p| *p != 0).collect();
        parents.sort_unstable();
        let reach = intervals.iter().scan(0, |reach, (_, right)| {
            *reach = (*reach).max(*right);
            Some(*reach)
        });
        Side {
            reach: reach.collect(),
            intervals,
            parents,
        }
    }

    /// For each span of the other side whether it has the relation to one of this.
    fn relatives<S: Spans>(&self, relation: Relation, spans: &S, other: &[u32]) -> Vec<bool> {
        let lefts_below = |left: i32| self.intervals.partition_point(|(l, _)| *l < left);
        let has_left = |left: i32| self.intervals.get(lefts_below(left)).is_some_and(|(l, _)| *l == left);
        let has = |p: Position| match relation {
            Relation::Child => p.parent > 0 && has_left(p.parent),
            Relation::Parent => self.parents.binary_search(&p.left).is_ok(),
            Relation::Descendant => {
                let before = lefts_below(p.left);
                before > 0 && self.reach[before - 1] > p.left
            }
            Relation::Ancestor => {
                let next = self.intervals.get(lefts_below(p.left + 1));
                next.is_some_and(|(l, _)| *l < p.right)
            }
            Relation::Sibling => {
                let first = self.parents.partition_point(|parent| *parent < p.parent);
                let all = self.parents.partition_point(|parent| *parent <= p.parent) - first;
                // A span is not its own sibling; roots are siblings.
                p.parent != 0 && all > usize::from(has_left(p.left))
            }
        };
        let positions = other.iter().map(|span| spans.position(*span));
        positions.map(|p| p.left != 0 && has(p)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::{Field, Scope};
    use crate::value::Value;
    use proptest::prelude::*;

    struct Tree(Vec<Position>);

    impl Spans for Tree {
        fn value<'a>(&'a self, _: u32, _: &Field) -> Value<'a> {
            Value::Nil
        }
        fn position(&self, span: u32) -> Position {
            self.0[span as usize]
        }
        fn each<'a>(&'a self, _: u32, _: &mut dyn FnMut(Scope, &str, Value<'a>)) {}
    }

    /// Parents by place: every span hangs below an earlier one, or is a root, or is of unknown place.
    fn numbered(parents: &[Option<usize>]) -> Tree {
        let parents: Vec<Option<u32>> = parents.iter().map(|p| p.map(|p| p as u32)).collect();
        Tree(crate::tree::number(&parents, &vec![true; parents.len()]))
    }

    fn naive(relation: Relation, parents: &[Option<usize>], a: usize, b: usize) -> bool {
        match relation {
            Relation::Child => parents[b] == Some(a),
            Relation::Parent => parents[a] == Some(b),
            Relation::Descendant => std::iter::successors(parents[b], |p| parents[*p]).any(|p| p == a),
            Relation::Ancestor => naive(Relation::Descendant, parents, b, a),
            Relation::Sibling => a != b && parents[a] == parents[b],
        }
    }

    proptest! {
        /// Against the definition, pair by pair.
        #[test]
        fn relations_are_those_of_the_tree(
            picks in proptest::collection::vec((any::<Option<u8>>(), any::<bool>(), any::<bool>()), 1..20),
        ) {
            let parents: Vec<Option<usize>> = picks
                .iter()
                .enumerate()
                .map(|(i, (p, ..))| p.filter(|_| i > 0).map(|p| usize::from(p) % i))
                .collect();
            let tree = numbered(&parents);
            let side = |pick: fn(&(Option<u8>, bool, bool)) -> bool| -> Vec<u32> {
                (0..picks.len() as u32).filter(|i| pick(&picks[*i as usize])).collect()
            };
            let (left, right) = (side(|p| p.1), side(|p| p.2));
            for relation in [
                Relation::Child, Relation::Parent, Relation::Descendant, Relation::Ancestor, Relation::Sibling,
            ] {
                let rel = |a: u32, b: u32| naive(relation, &parents, a as usize, b as usize);
                let want: Vec<u32> = right.iter().copied().filter(|b| left.iter().any(|a| rel(*a, *b))).collect();
                let without: Vec<u32> = right.iter().copied().filter(|b| !want.contains(b)).collect();
                let mut both: Vec<u32> = left.iter().copied().filter(|a| right.iter().any(|b| rel(*a, *b))).collect();
                both.extend(&want);
                both.sort_unstable();
                both.dedup();
                prop_assert_eq!(related(relation, Kept::Right, &tree, &left, &right), want);
                prop_assert_eq!(related(relation, Kept::RightWithout, &tree, &left, &right), without);
                prop_assert_eq!(related(relation, Kept::Both, &tree, &left, &right), both);
            }
        }
    }
}
