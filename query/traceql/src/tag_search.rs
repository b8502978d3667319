//! The `tags=` form of search: `key=value` pairs, each of which some span of one resource shows, on itself or on the
//! resource; what every span has, its name, status and service, may also be shown by another span of the trace. Older
//! clients and scripts speak it.

use std::borrow::Cow;

use model::{Span, SpanKind, StatusCode};
use query_exec::ExecError;
use storage_traces::{AttributeScope, Condition, Field as StoredField, Projection, ScanRequest, Test};

use crate::ParseError;
use crate::run::Spanset;
use crate::search::{Question, whole};
use crate::syntax::{Field, kind_text, status_text};
use crate::value::Value;
use crate::view::View;

/// Pairs of one search; each is a bit of a word.
const PAIRS_MAX: usize = 64;

/// Pairs that any span of the trace may show.
const ANYWHERE: [&str; 5] = ["service.name", "name", "status.code", "root.name", "root.service.name"];

/// A parsed list of tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagSearch {
    pairs: Vec<(String, String)>,
}

impl TagSearch {
    pub(crate) fn parse(text: &str) -> Result<TagSearch, ParseError> {
        let mut pairs = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            if key.is_empty() || key.contains('"') {
                return Err(ParseError {
                    message: format!("invalid tags {text:?}: expected key=value pairs"),
                });
            }
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => value(after).ok_or_else(|| ParseError {
                    message: format!("invalid tags {text:?}: the value of {key} is not terminated"),
                })?,
                None => (String::new(), after),
            };
            pairs.push((key.to_owned(), value));
            rest = after.trim_start();
        }
        if pairs.len() > PAIRS_MAX {
            return Err(ParseError {
                message: format!("invalid tags: {} pairs exceed the maximum of {PAIRS_MAX}", pairs.len()),
            });
        }
        Ok(TagSearch { pairs })
    }

    pub(crate) fn request(&self) -> ScanRequest {
        let special = [
            "name",
            "root.name",
            "root.service.name",
            "status.code",
            "error",
            "span.kind",
        ];
        let plain = self.pairs.iter().filter(|(key, _)| !special.contains(&key.as_str()));
        let attributes = plain.clone().map(|(key, _)| (AttributeScope::Any, key.clone()));
        // Each pair must be shown by some span, so any one of them will do.
        let condition = plain.clone().next().map(|(key, _)| Condition {
            field: StoredField::Attribute(AttributeScope::Any, key.clone()),
            test: Test::Exists,
        });
        ScanRequest {
            any_of: condition.into_iter().map(|c| vec![c]).collect(),
            attributes: Projection::Only(
                attributes
                    .chain([(AttributeScope::Any, "error".to_owned())])
                    .chain([(AttributeScope::Any, "span.kind".to_owned())])
                    .collect(),
            ),
            events: false,
            links: false,
            lean: false,
        }
    }

    fn shows(&self, view: &View<'_>, span: &Span, key: &str, wanted: &str) -> bool {
        let root = view.root_span();
        let special = match key {
            "service.name" => Some(span.resource.service_name().contains(wanted)),
            "name" => Some(span.name.contains(wanted)),
            "root.name" => Some(root.is_some_and(|root| root.name.contains(wanted))),
            "root.service.name" => Some(root.is_some_and(|root| root.resource.service_name().contains(wanted))),
            "status.code" => Some(status_text(span.status) == wanted),
            "error" if wanted == "true" => Some(span.status == StatusCode::Error),
            "span.kind" => Some(span.kind != SpanKind::Unspecified && kind_text(span.kind) == wanted),
            _ => None,
        };
        special == Some(true)
            || [&span.attributes, &span.resource.attributes]
                .into_iter()
                .any(|attributes| match Value::named(attributes, key) {
                    Value::Nil | Value::Opaque => false,
                    Value::Str(s) => s == Cow::Borrowed(wanted),
                    other => other.to_text() == wanted,
                })
    }
}

/// A value and what follows; quoted ones end at their quote, others at white space, whatever else is in them.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((out, chars.as_str())),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
}

impl Question for TagSearch {
    fn ask(&self, view: &View<'_>) -> Result<Vec<Spanset>, ExecError> {
        let all = if self.pairs.is_empty() {
            0
        } else {
            u64::MAX >> (PAIRS_MAX - self.pairs.len())
        };
        let wide = self.pairs.iter().enumerate().fold(0, |bits, (i, (key, _))| {
            bits | u64::from(ANYWHERE.contains(&key.as_str())) << i
        });
        // What any span has shown of the wide ones, and what spans of one resource have shown.
        let mut anywhere = 0;
        let mut shown: Vec<(&Span, u64)> = Vec::new();
        for span in view.spans {
            let bits = self.pairs.iter().enumerate().fold(0, |bits, (i, (key, wanted))| {
                bits | u64::from(self.shows(view, span, key, wanted)) << i
            });
            anywhere |= bits & wide;
            let same = |other: &Span| {
                std::sync::Arc::ptr_eq(&other.resource, &span.resource) || other.resource == span.resource
            };
            match shown.iter_mut().find(|(other, _)| same(other)) {
                Some((_, so_far)) => *so_far |= bits,
                None => shown.push((span, bits)),
            }
        }
        if shown.iter().any(|(_, bits)| bits | anywhere == all) {
            return Ok(vec![whole(view)]);
        }
        Ok(Vec::new())
    }

    fn needs_tree(&self) -> bool {
        false
    }

    fn shown(&self) -> &[Field] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&[(&str, &str)]>) {
        let got = TagSearch::parse(text).ok().map(|t| t.pairs);
        let want = want.map(|pairs| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn tags_are_logfmt_pairs() {
        check("", Some(&[]));
        check("service.name=flask-backend", Some(&[("service.name", "flask-backend")]));
        check(
            r#"a=b=c  k="v \"2\" = 3" n=5"#,
            Some(&[("a", "b=c"), ("k", "v \"2\" = 3"), ("n", "5")]),
        );
        check(r#"a="b"#, None);
        check("=b", None);
        check("flag x=1", Some(&[("flag", ""), ("x", "1")]));
    }
}
