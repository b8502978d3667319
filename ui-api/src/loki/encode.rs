//! Results as the Loki API writes them. The order of members matters to Grafana's streaming reader: `resultType` and
//! `encodingFlags` before `result`, `stats` after it.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use http::header;
use model::LabelSet;
use query_logql::{Line, Output, Series, Stats, Stream, Value};

use super::stats::push_stats;
use crate::number::{push_json, push_scalar};

/// How streams are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    /// Stream, structured-metadata and parsed labels in one set (Loki 3 without the flag).
    Merged,
    /// Stream and parsed labels in one set; structured metadata is left out, so that a stored stream stays whole.
    StreamOnly,
    /// Apart, in a third member of each entry (`X-Loki-Response-Encoding-Flags: categorize-labels`).
    Categorized,
}

/// A JSON answer, with the newline that Loki ends it with.
pub(crate) fn json(mut body: String) -> Response {
    body.push('\n');
    ([(header::CONTENT_TYPE, "application/json; charset=UTF-8")], body).into_response()
}

/// The answer of `query` and `query_range`.
pub(crate) fn query(output: &Output, labels: Labels, warnings: &[String], seconds: f64) -> Response {
    let mut out = String::with_capacity(8192);
    let kind = match &output.value {
        Value::Streams(_) => "streams",
        Value::Matrix(_) => "matrix",
        Value::Vector(_) => "vector",
        Value::Scalar(..) => "scalar",
    };
    out.push_str(r#"{"status":"success","#);
    if !warnings.is_empty() {
        out.push_str("\"warnings\":");
        push_list(&mut out, warnings.iter(), |out, warning| push_json(out, warning));
        out.push(',');
    }
    let _ = write!(out, r#""data":{{"resultType":"{kind}","#);
    if labels == Labels::Categorized {
        out.push_str(r#""encodingFlags":["categorize-labels"],"#);
    }
    out.push_str(r#""result":"#);
    match &output.value {
        Value::Streams(streams) => push_streams(&mut out, streams, labels),
        Value::Matrix(series) => push_list(&mut out, series.iter(), push_matrix_row),
        Value::Vector(series) => push_list(&mut out, series.iter().filter(|s| !s.points.is_empty()), |out, s| {
            out.push_str("{\"metric\":");
            push_labels(out, &s.labels);
            out.push_str(",\"value\":");
            push_point(out, s.points[0]);
            out.push('}');
        }),
        Value::Scalar(t, v) => push_point(&mut out, (*t, *v)),
    }
    out.push_str(",\"stats\":");
    push_stats(&mut out, &output.stats, seconds);
    out.push_str("}}");
    json(out)
}

/// The list of stream objects of a result or a tail frame.
pub(crate) fn push_streams(out: &mut String, streams: &[Stream], labels: Labels) {
    if labels == Labels::Categorized {
        push_list(out, streams.iter(), |out, s| {
            let lines: Vec<&Line> = s.lines.iter().collect();
            push_stream(out, &s.labels, &lines, true);
        });
        return;
    }
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
        push_stream(out, labels, lines, false)
    });
}

/// Entries in their order, one object for each.
pub(crate) fn push_entries(out: &mut String, streams: &[Stream], labels: Labels) {
    let entries = streams.iter().flat_map(|s| s.lines.iter().map(move |line| (s, line)));
    push_list(out, entries, |out, (s, line)| match labels {
        Labels::Categorized => push_stream(out, &s.labels, &[line], true),
        _ => push_stream(out, &all_labels(&s.labels, line, labels), &[line], false),
    });
}

/// One label set for an entry: later sources win.
pub(crate) fn all_labels(stream: &LabelSet, line: &Line, labels: Labels) -> LabelSet {
    let with_metadata = labels == Labels::Merged;
    if line.parsed.is_empty() && (!with_metadata || line.entry.metadata.is_empty()) {
        return stream.clone();
    }
    let mut all: BTreeMap<&str, &str> = stream.iter().collect();
    if with_metadata {
        all.extend(line.entry.metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    }
    // A parsed label may be there and empty.
    all.extend(line.parsed.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    all.remove("");
    LabelSet::from_map_with_empty(&all)
}

fn push_stream(out: &mut String, labels: &LabelSet, lines: &[&Line], categorized: bool) {
    out.push_str("{\"stream\":");
    push_labels(out, labels);
    out.push_str(",\"values\":");
    push_list(out, lines.iter(), |out, line| {
        let _ = write!(out, "[\"{}\",", line.entry.t.0);
        push_json(out, &line.entry.line);
        if categorized {
            out.push_str(",{");
            push_category(out, "structuredMetadata", &line.entry.metadata);
            if !line.entry.metadata.is_empty() && !line.parsed.is_empty() {
                out.push(',');
            }
            push_category(out, "parsed", &line.parsed);
            out.push('}');
        }
        out.push(']');
    });
    out.push('}');
}

fn push_category(out: &mut String, name: &str, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return;
    }
    let _ = write!(out, "\"{name}\":");
    let mut pairs: BTreeMap<&str, &str> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    pairs.remove("");
    push_labels(out, &LabelSet::from_map_with_empty(&pairs));
}

fn push_matrix_row(out: &mut String, s: &Series) {
    out.push_str("{\"metric\":");
    push_labels(out, &s.labels);
    out.push_str(",\"values\":");
    push_list(out, s.points.iter(), |out, p| push_point(out, *p));
    out.push('}');
}

fn push_point(out: &mut String, (t_ms, v): (i64, f64)) {
    let _ = write!(out, "[{},\"", t_ms as f64 / 1000.0);
    push_scalar(out, v);
    out.push_str("\"]");
}

/// A label set as an object.
pub(crate) fn push_labels(out: &mut String, labels: &LabelSet) {
    push_list_in(out, ('{', '}'), labels.iter(), |out, (n, v)| {
        push_json(out, n);
        out.push(':');
        push_json(out, v);
    });
}

/// A list.
pub(crate) fn push_list<T>(out: &mut String, items: impl Iterator<Item = T>, each: impl Fn(&mut String, T)) {
    push_list_in(out, ('[', ']'), items, each);
}

fn push_list_in<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    each: impl Fn(&mut String, T),
) {
    out.push(open);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(close);
}

/// `{"status":"success","data":[...]}` of strings; without `data` when there are none, as Loki does.
pub(crate) fn strings(all: &[String]) -> Response {
    let mut out = String::from("{\"status\":\"success\"");
    if !all.is_empty() {
        out.push_str(",\"data\":");
        push_list(&mut out, all.iter(), |out, s| push_json(out, s));
    }
    out.push('}');
    json(out)
}

/// A vector or matrix with figures, for the volume endpoints. With `names_only` the keys are label names, and their
/// values are shown empty.
pub(crate) fn volumes(kind: &str, series: &[Series], names_only: bool) -> Response {
    let mut out = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":"#);
    push_list(&mut out, series.iter().filter(|s| !s.points.is_empty()), |out, s| {
        out.push_str("{\"metric\":");
        if names_only {
            push_list_in(out, ('{', '}'), s.labels.iter(), |out, (n, _)| {
                push_json(out, n);
                out.push_str(":\"\"");
            });
        } else {
            push_labels(out, &s.labels);
        }
        if kind == "matrix" {
            out.push_str(",\"values\":");
            push_list(out, s.points.iter(), |out, p| push_point(out, *p));
        } else {
            out.push_str(",\"value\":");
            push_point(out, s.points[0]);
        }
        out.push('}');
    });
    out.push_str(",\"stats\":");
    push_stats(&mut out, &Stats::default(), 0.0);
    out.push_str("}}");
    json(out)
}

/// A string as Go quotes it.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Entry, TimestampNs};

    fn line(t: i64, text: &str, metadata: &[(&str, &str)], parsed: &[(&str, &str)]) -> Line {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Line {
            entry: Entry {
                t: TimestampNs(t),
                line: text.to_owned(),
                metadata: own(metadata),
            },
            parsed: own(parsed),
        }
    }

    fn check(labels: Labels, json: &str) {
        let stream = Stream {
            labels: LabelSet::from_pairs([("app", "x")]),
            lines: vec![
                line(1, "a", &[("trace_id", "7")], &[]),
                line(2, "b", &[], &[("lvl", "e")]),
                line(3, "c", &[], &[]),
            ],
        };
        let mut out = String::new();
        push_streams(&mut out, &[stream], labels);
        assert_eq!(out, json);
    }

    #[test]
    fn labels_are_merged_or_kept_apart() {
        check(
            Labels::Merged,
            r#"[{"stream":{"app":"x"},"values":[["3","c"]]},{"stream":{"app":"x","lvl":"e"},"values":[["2","b"]]},{"stream":{"app":"x","trace_id":"7"},"values":[["1","a"]]}]"#,
        );
        check(
            Labels::StreamOnly,
            r#"[{"stream":{"app":"x"},"values":[["1","a"],["3","c"]]},{"stream":{"app":"x","lvl":"e"},"values":[["2","b"]]}]"#,
        );
        check(
            Labels::Categorized,
            r#"[{"stream":{"app":"x"},"values":[["1","a",{"structuredMetadata":{"trace_id":"7"}}],["2","b",{"parsed":{"lvl":"e"}}],["3","c",{}]]}]"#,
        );
    }
}
