//! Spans that share an id: Zipkin gives client and server of one call the same. Whoever draws a trace expects ids to be
//! unique, so the server's half gets an id of its own below the client's, and what hung on the shared id hangs on the
//! server's half.

use std::collections::{HashMap, HashSet};

use model::{Span, SpanId, SpanKind};

/// Gives the server's half of shared ids an id of its own. The new ids are the same each time.
pub(crate) fn told_apart(mut spans: Vec<Span>) -> Vec<Span> {
    let mut seen: HashMap<SpanId, (bool, bool)> = HashMap::with_capacity(spans.len());
    for span in &spans {
        let (client, server) = seen.entry(span.span_id).or_default();
        *client |= span.kind == SpanKind::Client;
        *server |= span.kind == SpanKind::Server;
    }
    let mut shared: Vec<SpanId> = seen
        .iter()
        .filter(|(_, both)| **both == (true, true))
        .map(|(id, _)| *id)
        .collect();
    if shared.is_empty() {
        return spans;
    }
    shared.sort();
    let mut used: HashSet<SpanId> = seen.into_keys().collect();
    let mut own: HashMap<SpanId, SpanId> = HashMap::with_capacity(shared.len());
    let mut next = SpanId(0);
    for id in shared {
        loop {
            next.0 += 1;
            if used.insert(next) {
                break;
            }
        }
        own.insert(id, next);
    }
    for span in &mut spans {
        if span.kind == SpanKind::Server
            && let Some(fresh) = own.get(&span.span_id)
        {
            span.parent_span_id = Some(span.span_id);
            span.span_id = *fresh;
        } else if let Some(fresh) = span.parent_span_id.and_then(|parent| own.get(&parent)) {
            span.parent_span_id = Some(*fresh);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spans: &[(u64, Option<u64>, SpanKind)], want: &[(u64, Option<u64>)]) {
        let spans = spans.iter().map(|(id, parent, kind)| Span {
            span_id: SpanId(*id),
            parent_span_id: parent.map(SpanId),
            kind: *kind,
            ..Span::default()
        });
        let apart = told_apart(spans.collect());
        let got: Vec<_> = apart
            .iter()
            .map(|s| (s.span_id.0, s.parent_span_id.map(|p| p.0)))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn the_server_s_half_moves_below_the_client_s() {
        use SpanKind::{Client, Internal, Server};
        let spans = [
            (1, None, Client),
            (1, None, Server),
            (2, Some(1), Internal),
            (3, Some(2), Client),
        ];
        check(&spans, &[(1, None), (4, Some(1)), (2, Some(4)), (3, Some(2))]);
    }

    #[test]
    fn chains_of_shared_ids_stay_chains() {
        use SpanKind::{Client, Server};
        let spans = [
            (5, None, Client),
            (5, None, Server),
            (6, Some(5), Client),
            (6, Some(5), Server),
        ];
        check(&spans, &[(5, None), (1, Some(5)), (6, Some(1)), (2, Some(6))]);
    }

    #[test]
    fn unique_ids_stay_as_they_are() {
        use SpanKind::{Client, Server};
        check(&[(1, None, Client), (2, Some(1), Server)], &[(1, None), (2, Some(1))]);
    }
}
