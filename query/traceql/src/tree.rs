//! A trace as a tree, numbered as nested sets: depth first from 1, a left number on the way down and a right one on the way
//! up. What hangs below a span that is not there keeps zeros.

use model::{Span, SpanId, SpanKind};
use rapidhash::RapidHashMap;

use crate::run::Position;

/// Positions and child counts of a trace's spans; zeros all over where there is no root.
pub(crate) struct Tree {
    pub(crate) positions: Vec<Position>,
    pub(crate) children: Vec<u32>,
}

impl Tree {
    pub(crate) fn of(spans: &[Span]) -> Tree {
        let (parents, known) = parents(spans);
        let mut children = vec![0; spans.len()];
        let Some(known) = known.filter(|_| spans.iter().any(|span| span.parent_span_id.is_none())) else {
            return Tree {
                positions: vec![Position::default(); spans.len()],
                children,
            };
        };
        for parent in parents.iter().flatten() {
            children[*parent as usize] += 1;
        }
        let positions = number(&parents, &known);
        Tree { positions, children }
    }
}

/// For every span its parent's place, and whether it is a root or has a parent. No second part: an id occurs more than
/// twice, and nobody can tell what hangs where.
fn parents(spans: &[Span]) -> (Vec<Option<u32>>, Option<Vec<bool>>) {
    let mut by_id: RapidHashMap<SpanId, (u32, Option<u32>)> = RapidHashMap::default();
    let mut ambiguous = false;
    for (at, span) in spans.iter().enumerate() {
        let at = at as u32;
        let places = by_id.entry(span.span_id).or_insert((at, None));
        if places.0 != at {
            ambiguous |= places.1.is_some();
            places.1 = Some(at);
        }
    }
    let kind = |at: u32| spans[at as usize].kind;
    // Client and server may share an id (Zipkin): children belong to the server, the server to the client.
    let parents: Vec<Option<u32>> = spans
        .iter()
        .enumerate()
        .map(|(at, span)| {
            let (first, second) = by_id.get(&span.span_id).copied().unwrap_or((at as u32, None));
            if span.kind == SpanKind::Server
                && let Some(client) = [Some(first), second]
                    .into_iter()
                    .flatten()
                    .find(|p| kind(*p) == SpanKind::Client)
            {
                return Some(client);
            }
            let (first, second) = by_id.get(&span.parent_span_id?).copied()?;
            let server = second.filter(|p| kind(*p) == SpanKind::Server);
            Some(server.unwrap_or(first)).filter(|p| *p as usize != at)
        })
        .collect();
    let known = spans
        .iter()
        .zip(&parents)
        .map(|(span, parent)| span.parent_span_id.is_none() || parent.is_some());
    let known = (!ambiguous).then(|| known.collect());
    (parents, known)
}

/// Numbers for spans given by their parents' places; those neither root nor below one (`known` is false) get zeros.
pub(crate) fn number(parents: &[Option<u32>], known: &[bool]) -> Vec<Position> {
    let mut out = vec![Position::default(); parents.len()];
    let mut children: Vec<Vec<u32>> = vec![Vec::new(); parents.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            children[*parent as usize].push(at as u32);
        }
    }
    let mut next = 1;
    for root in (0..parents.len()).filter(|at| parents[*at].is_none() && known[*at]) {
        out[root].parent = -1;
        out[root].left = next;
        next += 1;
        // (span, which child is next)
        let mut path = vec![(root, 0)];
        while let Some((at, child)) = path.last_mut() {
            let at = *at;
            match children[at].get(*child) {
                Some(&below) => {
                    *child += 1;
                    out[below as usize].parent = out[at].left;
                    out[below as usize].left = next;
                    path.push((below as usize, 0));
                }
                None => {
                    out[at].right = next;
                    path.pop();
                }
            }
            next += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u64, parent: u64, kind: SpanKind) -> Span {
        Span {
            span_id: SpanId(id),
            parent_span_id: (parent != 0).then_some(SpanId(parent)),
            kind,
            ..Span::default()
        }
    }

    fn check(spans: &[Span], want: &[(i32, i32, i32)]) {
        let tree = Tree::of(spans);
        let got: Vec<(i32, i32, i32)> = tree.positions.iter().map(|p| (p.parent, p.left, p.right)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn spans_are_numbered_depth_first() {
        let internal = SpanKind::Internal;
        check(
            &[
                span(1, 0, internal),
                span(2, 1, internal),
                span(3, 2, internal),
                span(4, 1, internal),
            ],
            &[(-1, 1, 8), (1, 2, 5), (2, 3, 4), (1, 6, 7)],
        );
        // The parent of 2 is missing, and 3 hangs below 2.
        check(
            &[span(1, 0, internal), span(2, 9, internal), span(3, 2, internal)],
            &[(-1, 1, 2), (0, 0, 0), (0, 0, 0)],
        );
        // A circle and a span that is its own parent.
        check(
            &[span(1, 2, internal), span(2, 1, internal), span(3, 3, internal)],
            &[(0, 0, 0), (0, 0, 0), (0, 0, 0)],
        );
        // The same id three times.
        check(
            &[
                span(1, 0, internal),
                span(1, 0, SpanKind::Client),
                span(1, 0, SpanKind::Server),
            ],
            &[(0, 0, 0), (0, 0, 0), (0, 0, 0)],
        );
    }

    #[test]
    fn a_server_that_shares_its_clients_id_hangs_below_it() {
        check(
            &[
                span(1, 0, SpanKind::Client),
                span(1, 0, SpanKind::Server),
                span(2, 1, SpanKind::Internal),
            ],
            &[(-1, 1, 6), (1, 2, 5), (2, 3, 4)],
        );
    }
}
