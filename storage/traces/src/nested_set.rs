//! Nested-set numbers: a span's descendants are those whose `left` lies between its `left` and `right`.

use model::{Span, SpanId, SpanKind};
use rapidhash::RapidHashMap;

/// A span's place in the tree of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nested {
    /// Number at which the walk entered the span, from 1; 0 if its parents go round in a circle.
    pub left: i32,
    /// Number at which the walk left it.
    pub right: i32,
    /// `left` of its parent; -1 for a root, 0 if its parent is not among the spans.
    pub parent: i32,
}

/// Numbers the spans of one trace, in their order; roots and orphans first come, first numbered.
pub(crate) fn nested_set(spans: &[Span]) -> Vec<Nested> {
    let mut by_id: RapidHashMap<SpanId, (Option<usize>, Option<usize>)> = RapidHashMap::default();
    for (n, span) in spans.iter().enumerate() {
        let (server, other) = by_id.entry(span.span_id).or_default();
        *(if span.kind == SpanKind::Server { server } else { other }) = Some(n);
    }
    // Zipkin's client and server may share an id: the server's span hangs below the client's, children below the server's.
    let parent = |span: &Span| -> Option<usize> {
        if span.kind == SpanKind::Server
            && let Some((_, Some(client))) = by_id.get(&span.span_id)
        {
            return Some(*client);
        }
        let (server, other) = by_id.get(&span.parent_span_id?)?;
        server.or(*other)
    };
    let parents: Vec<Option<usize>> = spans.iter().map(parent).collect();
    // Children as linked lists in two arrays, the later ones in front.
    let (mut first, mut next) = (vec![None; spans.len()], vec![None; spans.len()]);
    for (n, parent) in parents.iter().enumerate().rev() {
        if let Some(p) = parent {
            next[n] = first[*p];
            first[*p] = Some(n);
        }
    }
    let mut out = vec![Nested::default(); spans.len()];
    let mut number = 0i32;
    let mut path: Vec<usize> = Vec::new();
    for root in (0..spans.len()).filter(|n| parents[*n].is_none()) {
        number = number.saturating_add(1);
        out[root].left = number;
        out[root].parent = if spans[root].parent_span_id.is_none() { -1 } else { 0 };
        path.push(root);
        while let Some(&at) = path.last() {
            number = number.saturating_add(1);
            if let Some(child) = first[at] {
                first[at] = next[child];
                out[child].left = number;
                out[child].parent = out[at].left;
                path.push(child);
            } else {
                out[at].right = number;
                path.pop();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spans: &[(u64, u64, SpanKind)], want: &[(i32, i32, i32)]) {
        let spans: Vec<Span> = spans
            .iter()
            .map(|(id, parent, kind)| Span {
                span_id: SpanId(*id),
                parent_span_id: (*parent != 0).then_some(SpanId(*parent)),
                kind: *kind,
                ..Span::default()
            })
            .collect();
        let got: Vec<_> = nested_set(&spans).iter().map(|n| (n.left, n.right, n.parent)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn descendants_lie_within_their_ancestors() {
        use SpanKind::{Client, Internal, Server};
        let i = Internal;
        check(
            &[(1, 0, i), (2, 1, i), (3, 2, i), (4, 1, i)],
            &[(1, 8, -1), (2, 5, 1), (3, 4, 2), (6, 7, 1)],
        );
        check(&[(2, 9, i), (1, 0, i)], &[(1, 2, 0), (3, 4, -1)]);
        check(&[(1, 2, i), (2, 1, i), (3, 3, i)], &[(0, 0, 0); 3]);
        check(
            &[(1, 0, Client), (1, 0, Server), (2, 1, i)],
            &[(1, 6, -1), (2, 5, 1), (3, 4, 2)],
        );
        check(&[], &[]);
    }
}
