//! Nested-set numbers: a span's descendants are those whose `left` lies between its `left` and `right`.

use model::{Span, SpanId, SpanKind};

/// What a span's place depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// Its id.
    pub id: SpanId,
    /// Its parent's id.
    pub parent: Option<SpanId>,
    /// Its kind.
    pub kind: SpanKind,
}

impl Node {
    /// Of a span.
    pub(crate) fn of(span: &Span) -> Node {
        Node {
            id: span.span_id,
            parent: span.parent_span_id,
            kind: span.kind,
        }
    }
}

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
pub(crate) fn nested_set(spans: &[Node]) -> Vec<Nested> {
    let mut by_id: Vec<(SpanId, usize)> = spans.iter().enumerate().map(|(n, span)| (span.id, n)).collect();
    by_id.sort_unstable();
    // The last server span with an id, and the last other one.
    let find = |id: SpanId| {
        let from = by_id.partition_point(|(other, _)| *other < id);
        let same = by_id[from..].iter().take_while(|(other, _)| *other == id);
        same.fold((None, None), |(server, other), (_, n)| match spans[*n].kind {
            SpanKind::Server => (Some(*n), other),
            _ => (server, Some(*n)),
        })
    };
    // Zipkin's client and server may share an id: the server's span hangs below the client's, children below the server's.
    let parent = |span: &Node| -> Option<usize> {
        if span.kind == SpanKind::Server
            && let (_, Some(client)) = find(span.id)
        {
            return Some(client);
        }
        let (server, other) = find(span.parent?);
        server.or(other)
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
        out[root].parent = if spans[root].parent.is_none() { -1 } else { 0 };
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
        let nodes: Vec<Node> = spans.iter().map(Node::of).collect();
        let got: Vec<_> = nested_set(&nodes).iter().map(|n| (n.left, n.right, n.parent)).collect();
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
