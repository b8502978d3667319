//! A filter for the spans of one trace: a lone `{...}` that looks at nothing beyond each span. Large traces are looked at
//! in part; on request with the ancestors and descendants of what matches.

use std::collections::HashMap;

use model::{Span, SpanId, TraceId};

use crate::plan::{Node, fields_of, node};
use crate::run::passes;
use crate::syntax::{Body, Expr, Field, Intrinsic, Spansets, Stage};
use crate::view::View;
use crate::{ParseError, check, parse};

/// A parsed filter.
#[derive(Clone, Debug)]
pub struct TraceFilter {
    node: Node,
}

/// A filter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceFilterError {
    /// It makes no sense.
    #[error("invalid TraceQL filter: failed to parse TraceQL spanset filter: {0}")]
    Invalid(ParseError),
    /// It needs more than the span itself.
    #[error("invalid TraceQL filter: {0}")]
    Unsupported(String),
}

/// Which relatives of a matching span are shown with it: so many levels up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinship {
    /// Levels of ancestors.
    pub ancestors: usize,
    /// Levels of descendants.
    pub descendants: usize,
}

impl TraceFilter {
    /// Parses and validates.
    pub fn parse(text: &str) -> Result<TraceFilter, TraceFilterError> {
        let unsupported = |what: String| Err(TraceFilterError::Unsupported(what));
        let not_single = |what: &str| format!("only a single TraceQL filter is supported: got {what}");
        let tree = parse::parse(text.trim()).map_err(TraceFilterError::Invalid)?;
        check::check(&tree).map_err(|e| match check::is_unsupported(&e) {
            true => TraceFilterError::Unsupported(format!("failed to parse TraceQL spanset filter: {e}")),
            false => TraceFilterError::Invalid(e),
        })?;
        let Body::Spansets(pipeline) = &tree.body else {
            return unsupported(not_single("a metrics query"));
        };
        let expr = match &pipeline.stages[..] {
            [Stage::Spansets(Spansets::Filter(expr))] => expr,
            stages
                if stages
                    .iter()
                    .all(|stage| matches!(stage, Stage::Spansets(Spansets::Filter(_)))) =>
            {
                return unsupported(not_single(&format!("{} pipeline elements", stages.len())));
            }
            _ => return unsupported(not_single("a structural or aggregate query")),
        };
        if let Some(field) = beyond_span(expr) {
            return unsupported(format!("intrinsic is not supported by this filter: \"{field}\""));
        }
        Ok(TraceFilter { node: node(expr) })
    }

    /// The spans that match, with their relatives, in the order given.
    pub fn keep(&self, id: TraceId, spans: Vec<Span>, kinship: Kinship) -> Vec<Span> {
        let view = View::new(id, &spans, false);
        let matching = (0..spans.len()).filter(|at| passes(&self.node, &view, *at as u32));
        let matching: Vec<usize> = matching.collect();
        let mut kept = vec![false; spans.len()];
        matching.iter().for_each(|at| kept[*at] = true);
        let mut by_id: HashMap<SpanId, Vec<usize>> = HashMap::new();
        let mut by_parent: HashMap<SpanId, Vec<usize>> = HashMap::new();
        for (at, span) in spans.iter().enumerate() {
            by_id.entry(span.span_id).or_default().push(at);
            if let Some(parent) = span.parent_span_id {
                by_parent.entry(parent).or_default().push(at);
            }
        }
        let parents = |at: usize| spans[at].parent_span_id.and_then(|parent| by_id.get(&parent));
        let children = |at: usize| by_parent.get(&spans[at].span_id);
        spread(&matching, kinship.ancestors, &mut kept, parents);
        spread(&matching, kinship.descendants, &mut kept, children);
        let mut kept = kept.into_iter();
        spans.into_iter().filter(|_| kept.next().unwrap_or(false)).collect()
    }
}

/// Keeps the relatives of `from`, level by level. Each span is passed once, so that circles end.
fn spread<'a>(from: &[usize], levels: usize, kept: &mut [bool], relatives: impl Fn(usize) -> Option<&'a Vec<usize>>) {
    let mut passed = vec![false; kept.len()];
    let mut level = from.to_vec();
    from.iter().for_each(|at| passed[*at] = true);
    for _ in 0..levels {
        let mut next = Vec::new();
        for at in level.iter().filter_map(|at| relatives(*at)).flatten() {
            if !std::mem::replace(&mut passed[*at], true) {
                kept[*at] = true;
                next.push(*at);
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
}

/// The first field that needs more than the span.
fn beyond_span(expr: &Expr) -> Option<Field> {
    let mut fields = Vec::new();
    fields_of(expr, &mut fields);
    fields.into_iter().find(|field| {
        matches!(
            field,
            Field::Intrinsic(
                Intrinsic::TraceDuration
                    | Intrinsic::RootName
                    | Intrinsic::RootService
                    | Intrinsic::TraceId
                    | Intrinsic::ChildCount
                    | Intrinsic::NestedSetLeft
                    | Intrinsic::NestedSetRight
                    | Intrinsic::NestedSetParent
            )
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 > 2 > 3 > 4, and 5 below 1.
    fn check(filter: &str, ancestors: usize, descendants: usize, want: &[u64]) {
        let span = |id: u64, parent: Option<u64>| Span {
            span_id: SpanId(id),
            parent_span_id: parent.map(SpanId),
            name: format!("s{id}"),
            ..Span::default()
        };
        let spans = vec![
            span(1, None),
            span(2, Some(1)),
            span(3, Some(2)),
            span(4, Some(3)),
            span(5, Some(1)),
        ];
        let kinship = Kinship { ancestors, descendants };
        let kept = TraceFilter::parse(filter).unwrap().keep(TraceId(1), spans, kinship);
        assert_eq!(kept.iter().map(|s| s.span_id.0).collect::<Vec<_>>(), want, "{filter}");
    }

    #[test]
    fn relatives_are_kept_as_far_as_asked() {
        check(r#"{ name = "s3" }"#, 0, 0, &[3]);
        check(r#"{ name = "s3" }"#, 1, 0, &[2, 3]);
        check(r#"{ name = "s3" }"#, usize::MAX, 0, &[1, 2, 3]);
        check(r#"{ name = "s2" }"#, 0, 1, &[2, 3]);
        check(r#"{ name = "s2" }"#, 0, usize::MAX, &[2, 3, 4]);
        check(r#"{ name = "s1" || name = "s3" }"#, 0, 0, &[1, 3]);
        check("{ }", 0, 0, &[1, 2, 3, 4, 5]);
        check(r#"{ name = "none" }"#, usize::MAX, usize::MAX, &[]);
    }

    #[test]
    fn circles_end() {
        let span = |id: u64, parent: u64| Span {
            span_id: SpanId(id),
            parent_span_id: Some(SpanId(parent)),
            ..Span::default()
        };
        let all = Kinship {
            ancestors: usize::MAX,
            descendants: usize::MAX,
        };
        let spans = vec![span(1, 2), span(2, 1), span(3, 3)];
        assert_eq!(TraceFilter::parse("{}").unwrap().keep(TraceId(1), spans, all).len(), 3);
    }

    #[test]
    fn what_needs_more_than_a_span_is_refused() {
        for text in [
            "{} >> {}",
            "{} | count() > 1",
            "{} | rate()",
            "{ trace:duration > 1s }",
            "{ nestedSetLeft > 0 }",
        ] {
            let e = TraceFilter::parse(text).unwrap_err();
            assert!(matches!(e, TraceFilterError::Unsupported(_)), "{text}: {e}");
        }
        assert!(matches!(
            TraceFilter::parse("{ .a = }"),
            Err(TraceFilterError::Invalid(_))
        ));
    }
}
