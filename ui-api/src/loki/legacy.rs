//! The API under `/api/prom/` that old clients still speak: its queries answer in a form of their own, the rest as under
//! `/loki/api/v1/`. (`/api/prom/push` is taken by `ingest`.)

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use model::LabelSet;
use query::Language;
use query_logql::{Line, Query, Stream, Value};

use super::encode::{self, Labels, all_labels, json, push_list};
use super::errors::ApiError;
use super::params;
use super::routes::{self, Api, both};
use super::stats::push_stats;
use super::tail;
use crate::form::Form;
use crate::number::push_json;

/// The endpoints.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/api/prom/query", both(query))
        .route("/api/prom/label", both(routes::labels))
        .route("/api/prom/label/{name}/values", both(routes::label_values))
        .route("/api/prom/series", both(routes::series))
        .route("/api/prom/tail", any(tail::legacy_tail))
}

/// A log query over a range; `regexp` is one more filter.
async fn query(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let mut text = routes::required_query(&form)?;
    if let Some(regexp) = form.get("regexp") {
        text.push_str(" |~ ");
        push_json(&mut text, regexp);
    }
    let range = params::range(&form, api.queries.storage().now())?;
    let step = params::step_ns(&form, range)?;
    let parsed = query::read(&text, Query::parse)?;
    if parsed.is_metric() {
        return Err(ApiError::bad("legacy endpoints only support streams result type"));
    }
    let options = routes::options(&form, false)?;
    let since = Instant::now();
    let output = api
        .queries
        .run(Language::LogQl, &text, None, move |context, storage| {
            parsed.range(context, storage.logs(), range.start, range.end, step, options)
        })
        .await??;
    let mut out = String::from("{\"streams\":");
    match &output.value {
        Value::Streams(streams) => push_streams(&mut out, streams, routes::uncategorized(&api.about)),
        _ => out.push_str("[]"),
    }
    out.push_str(",\"stats\":");
    push_stats(&mut out, &output.stats, since.elapsed().as_secs_f64());
    out.push('}');
    Ok(json(out))
}

/// Streams with their labels as text, and times in words.
fn push_streams(out: &mut String, streams: &[Stream], labels: Labels) {
    let mut merged: BTreeMap<LabelSet, Vec<&Line>> = BTreeMap::new();
    for s in streams {
        for line in &s.lines {
            merged
                .entry(all_labels(&s.labels, line, labels))
                .or_default()
                .push(line);
        }
    }
    push_list(out, merged.iter(), |out, (labels, lines)| {
        push_stream(out, labels, lines)
    });
}

/// Entries in their order, one object for each.
pub(crate) fn push_entries(out: &mut String, streams: &[Stream], labels: Labels) {
    let entries = streams.iter().flat_map(|s| s.lines.iter().map(move |line| (s, line)));
    push_list(out, entries, |out, (s, line)| {
        push_stream(out, &all_labels(&s.labels, line, labels), &[line]);
    });
}

fn push_stream(out: &mut String, labels: &LabelSet, lines: &[&Line]) {
    out.push_str("{\"labels\":");
    push_json(out, &label_text(labels));
    out.push_str(",\"entries\":");
    push_list(out, lines.iter(), |out, line| {
        let t = jiff::Timestamp::from_nanosecond(line.entry.t.0.into());
        out.push_str("{\"ts\":");
        push_json(out, &t.map_or_else(|_| String::new(), |t| t.to_string()));
        out.push_str(",\"line\":");
        push_json(out, &line.entry.line);
        out.push('}');
    });
    out.push('}');
}

/// `{a="b", c="d"}`.
pub(crate) fn label_text(labels: &LabelSet) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(name);
        out.push('=');
        encode::push_quoted(&mut out, value);
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Entry, TimestampNs};

    #[test]
    fn streams_have_their_labels_as_text() {
        let line = Line {
            entry: Entry {
                t: TimestampNs(1_700_000_000_500_000_000),
                line: "a \"b\"".to_owned(),
                metadata: vec![("id".to_owned(), "7".to_owned())],
            },
            parsed: Vec::new(),
        };
        let stream = Stream {
            labels: LabelSet::from_pairs([("app", "x\"y")]),
            lines: vec![line],
        };
        let mut out = String::new();
        push_streams(&mut out, &[stream], Labels::Merged);
        let entry = r#"{"ts":"2023-11-14T22:13:20.5Z","line":"a \"b\""}"#;
        let want = format!(r#"[{{"labels":"{{app=\"x\\\"y\", id=\"7\"}}","entries":[{entry}]}}]"#);
        assert_eq!(out, want);
    }
}
