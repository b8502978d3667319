//! Answers as the Prometheus API writes them: the envelope, and lists of names, label sets, metadata and exemplars.
//!
//! A long list is written piece by piece while the client reads, so that it never lies in memory a second time, as text.
//! Query results are in `results.rs`.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderValue, header};
use model::{Exemplar, LabelSet, MetricMetadata};

use crate::number::{push_json, push_seconds, push_value};

/// At most this many warnings, and as many infos, are listed.
const ANNOTATIONS_MAX: usize = 10;

/// A piece of a long answer is sent when it has this many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// What a piece may grow beyond that by its last item without being copied.
const PIECE_SLACK_BYTES: usize = 16 << 10;

/// `{"status":"success","data":...}` around `data`, which is JSON already.
pub(crate) fn success(data: &str) -> Response {
    let mut body = String::with_capacity(data.len() + 32);
    open_envelope(&mut body);
    body.push_str(data);
    body.push('}');
    json(body.into())
}

/// A list of any length in the envelope: `[` and `]` around what `each` writes of each item.
pub(crate) fn list<T: Send + 'static>(
    items: Vec<T>,
    warnings: &[String],
    each: impl Fn(&mut String, T) + Send + 'static,
) -> Response {
    let mut head = String::new();
    open_envelope(&mut head);
    head.push('[');
    let mut tail = "]".to_owned();
    close_envelope(&mut tail, warnings, &[]);
    written(head, items, each, tail)
}

/// `head`, the items with commas between them, and `tail`: at once if it is short, else as the client reads.
pub(crate) fn written<T: Send + 'static>(
    head: String,
    items: Vec<T>,
    each: impl Fn(&mut String, T) + Send + 'static,
    tail: String,
) -> Response {
    let mut pieces = Pieces {
        begun: head,
        items: items.into_iter(),
        each,
        is_first: true,
        tail: Some(tail),
    };
    let first = pieces.next().unwrap_or_default();
    if pieces.tail.is_none() {
        return json(first.into());
    }
    let all = std::iter::once(first).chain(pieces).map(Ok::<_, Infallible>);
    json(Body::from_stream(stream::iter(all)))
}

/// The beginning of the envelope, up to its data.
pub(crate) fn open_envelope(out: &mut String) {
    out.push_str(r#"{"status":"success","data":"#);
}

/// The end of the envelope: annotations, where there are any.
pub(crate) fn close_envelope(out: &mut String, warnings: &[String], infos: &[String]) {
    annotations(out, "warnings", "warning", warnings);
    annotations(out, "infos", "info", infos);
    out.push('}');
}

fn json(body: Body) -> Response {
    let mut response = body.into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer in the making.
struct Pieces<T, F> {
    begun: String,
    items: std::vec::IntoIter<T>,
    each: F,
    is_first: bool,
    /// Taken when all is written.
    tail: Option<String>,
}

impl<T, F: Fn(&mut String, T)> Iterator for Pieces<T, F> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let tail = self.tail.take()?;
        let mut out = std::mem::take(&mut self.begun);
        let many = self.items.len() > 16;
        out.reserve(if many {
            PIECE_BYTES + PIECE_SLACK_BYTES
        } else {
            tail.len()
        });
        while out.len() < PIECE_BYTES {
            let Some(item) = self.items.next() else {
                out.push_str(&tail);
                return Some(out.into());
            };
            if !std::mem::take(&mut self.is_first) {
                out.push(',');
            }
            (self.each)(&mut out, item);
        }
        self.tail = Some(tail);
        Some(out.into())
    }
}

fn annotations(body: &mut String, key: &str, kind: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    let _ = write!(body, ",\"{key}\":[");
    join(body, all.iter().take(ANNOTATIONS_MAX), |body, text| {
        push_json(body, text)
    });
    if all.len() > ANNOTATIONS_MAX {
        let more = all.len() - ANNOTATIONS_MAX;
        let _ = write!(body, ",\"{more} more {kind} annotations omitted\"");
    }
    body.push(']');
}

/// A label set as an object.
pub(crate) fn label_set(out: &mut String, labels: &LabelSet) {
    out.push('{');
    join(out, labels.iter(), |out, (n, v)| {
        push_json(out, n);
        out.push(':');
        push_json(out, v);
    });
    out.push('}');
}

/// A metric family with what is known of it, as member of an object.
pub(crate) fn family(out: &mut String, (name, m): &(String, MetricMetadata)) {
    push_json(out, name);
    let _ = write!(out, ":[{{\"type\":\"{}\",\"unit\":", m.kind.as_str());
    push_json(out, &m.unit);
    out.push_str(",\"help\":");
    push_json(out, &m.help);
    out.push_str("}]");
}

/// The exemplars of a series.
pub(crate) fn exemplars(out: &mut String, (labels, exemplars): &(LabelSet, Vec<Exemplar>)) {
    out.push_str("{\"seriesLabels\":");
    label_set(out, labels);
    out.push_str(",\"exemplars\":[");
    join(out, exemplars.iter(), |out, e| {
        out.push_str("{\"labels\":");
        label_set(out, &e.labels);
        out.push_str(",\"value\":\"");
        push_value(out, e.value);
        out.push_str("\",\"timestamp\":");
        push_seconds(out, e.t.0);
        out.push('}');
    });
    out.push_str("]}");
}

/// What `each` writes of each item, with commas between.
pub(crate) fn join<T>(out: &mut String, items: impl Iterator<Item = T>, each: impl Fn(&mut String, T)) {
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_listed_up_to_ten() {
        let mut body = String::new();
        let many: Vec<String> = (0..12).map(|i| format!("w{i}")).collect();
        annotations(&mut body, "warnings", "warning", &many);
        assert!(
            body.ends_with(r#""w9","2 more warning annotations omitted"]"#),
            "{body}"
        );
    }

    #[test]
    fn a_long_answer_comes_in_pieces_that_join() {
        let items: Vec<u32> = (0..100_000).collect();
        let each = |out: &mut String, n: u32| _ = write!(out, "{n}");
        let pieces = Pieces {
            begun: "<".to_owned(),
            items: items.clone().into_iter(),
            each,
            is_first: true,
            tail: Some(">".to_owned()),
        };
        let pieces: Vec<Bytes> = pieces.collect();
        assert!(pieces.len() > 5);
        assert!(pieces.iter().all(|p| p.len() < PIECE_BYTES + 16));
        let whole = pieces.concat();
        let mut expected = String::from("<");
        join(&mut expected, items.into_iter(), each);
        expected.push('>');
        assert!(whole == expected.as_bytes());
    }
}
