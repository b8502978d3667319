//! `/federate`: the newest sample of each series that is asked for, as another server scrapes it.
//!
//! Text (0.0.4) unless the scraper prefers protobuf, which alone can carry exponential histograms. Histograms with custom
//! bounds are classic ones in both.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use model::{Histogram, LabelSet, METRIC_NAME, Matcher, ResetHint, TimeRangeMs, TimestampMs, is_stale};
use query_exec::go_number;
use query_promql::Options;
use storage::Storage;
use storage_metrics::{BlockError, Samples};

use super::params::{read, selectors_or_none};
use super::remote_read::wire;
use super::routes::Api;
use super::series::ask;

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=";

/// The newest sample of a series.
struct Newest {
    labels: LabelSet,
    t: i64,
    value: Kind,
}

enum Kind {
    Float(f64),
    Histogram(Arc<Histogram>),
}

pub(crate) async fn federate(State(api): State<Api>, headers: HeaderMap, request: Request) -> Response {
    let form = match read(request).await {
        Ok(form) => form,
        Err(e) => return e.into_response(),
    };
    let selectors = match selectors_or_none(&form) {
        Ok(selectors) => selectors,
        Err(e) => return (StatusCode::BAD_REQUEST, format!("{e}\n")).into_response(),
    };
    let found = ask(&api, "federate", move |s| newest(s, &selectors)).await;
    let found = match found {
        Ok(found) => found,
        Err(e) => return e.into_plain_response(),
    };
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let wanted = Wanted::of(accept);
    let external = &api.about.external_labels();
    let series: Vec<Newest> = found.into_iter().map(|n| n.labelled(external)).collect();
    let body = match wanted {
        Wanted::Protobuf { utf8 } => protobuf(&series, utf8),
        Wanted::Text { utf8 } => text(&series, utf8).into_bytes(),
    };
    ([(header::CONTENT_TYPE, wanted.content_type())], body).into_response()
}

/// What the scraper can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// With or without names beyond letters, digits and underscores.
    Text {
        utf8: bool,
    },
    Protobuf {
        utf8: bool,
    },
}

impl Wanted {
    /// The first of ours with the highest weight in an `Accept` header.
    fn of(accept: &str) -> Wanted {
        let mut best = (0.0, Wanted::Text { utf8: false });
        for clause in accept.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let kind = parts.next().unwrap_or("");
            let mut weight = 1.0;
            let (mut is_family, mut is_delimited, mut utf8) = (false, false, false);
            for (name, value) in parts.filter_map(|p| p.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "proto" => is_family = value == "io.prometheus.client.MetricFamily",
                    "encoding" => is_delimited = value == "delimited",
                    "escaping" => utf8 = value == "allow-utf-8",
                    _ => {}
                }
            }
            let ours = match kind {
                "application/vnd.google.protobuf" if is_family && is_delimited => Wanted::Protobuf { utf8 },
                "text/plain" | "text/*" | "*/*" => Wanted::Text { utf8 },
                _ => continue,
            };
            if weight > best.0 {
                best = (weight, ours);
            }
        }
        best.1
    }

    fn content_type(self) -> String {
        let (kind, utf8) = match self {
            Wanted::Protobuf { utf8 } => (PROTOBUF, utf8),
            Wanted::Text { utf8 } => (TEXT, utf8),
        };
        format!("{kind}{}", if utf8 { "allow-utf-8" } else { "underscores" })
    }
}

/// The newest samples of the last minutes, by name, then labels; what has ended is left out.
fn newest(storage: &Storage, selectors: &[Vec<Matcher>]) -> Result<Vec<Newest>, BlockError> {
    let now = storage.now().floor_ms();
    let range = TimeRangeMs {
        start: TimestampMs(now.0.saturating_sub(Options::DEFAULT.lookback_ms - 1)),
        end: now,
    };
    let snapshot = storage.metrics().snapshot(range);
    let mut found: BTreeMap<(String, LabelSet), Newest> = BTreeMap::new();
    let mut samples = Samples::default();
    for matchers in selectors {
        for series in snapshot.select(matchers, range)? {
            let key = (series.labels().metric_name().to_owned(), series.labels().clone());
            if key.0.is_empty() || found.contains_key(&key) {
                continue;
            }
            samples = Samples::default();
            series.read(range, &mut samples)?;
            let float = samples.t.last().zip(samples.v.last());
            let histogram = samples.histograms.t.last().zip(samples.histograms.h.last());
            let value = match (float, histogram) {
                (Some((t, v)), other) if other.is_none_or(|(later, _)| later < t) => {
                    (!is_stale(*v)).then_some((*t, Kind::Float(*v)))
                }
                (_, Some((t, h))) => (!h.is_stale()).then(|| (*t, Kind::Histogram(h.clone()))),
                _ => None,
            };
            if let Some((t, value)) = value {
                let labels = key.1.clone();
                found.insert(key, Newest { labels, t, value });
            }
        }
    }
    drop(samples);
    Ok(found.into_values().collect())
}

impl Newest {
    /// With the labels that tell this server from others, where the series has none of that name.
    fn labelled(mut self, external: &LabelSet) -> Newest {
        for (name, value) in external.iter() {
            if self.labels.get(name).is_none() {
                self.labels = self.labels.with(name, value);
            }
        }
        self
    }

    /// Its labels but for the name. An absent `instance` is said to be empty, so that the scraper does not put its own.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = self.labels.iter().filter(|(n, _)| *n != METRIC_NAME).collect();
        if self.labels.get("instance").is_none() {
            pairs.push(("instance", ""));
        }
        pairs
    }
}

fn text(series: &[Newest], utf8: bool) -> String {
    let mut out = String::new();
    let mut last = ("", "");
    for n in series {
        let name = n.labels.metric_name();
        let kind = match &n.value {
            Kind::Float(_) => "untyped",
            Kind::Histogram(h) if h.cumulative_custom().is_none() => continue,
            Kind::Histogram(h) if h.reset == ResetHint::Gauge => "gaugehistogram",
            Kind::Histogram(_) => "histogram",
        };
        if (name, kind) != last {
            out.push_str("# TYPE ");
            push_name(&mut out, name, utf8);
            let _ = writeln!(out, " {kind}");
            last = (name, kind);
        }
        match &n.value {
            Kind::Float(v) => push_sample(&mut out, n, "", None, *v, utf8),
            Kind::Histogram(h) => {
                for (bound, count) in h.cumulative_custom().into_iter().flatten() {
                    push_sample(&mut out, n, "_bucket", Some(&go_number(bound)), count, utf8);
                }
                push_sample(&mut out, n, "_bucket", Some("+Inf"), h.count, utf8);
                push_sample(&mut out, n, "_sum", None, h.sum, utf8);
                push_sample(&mut out, n, "_count", None, h.count, utf8);
            }
        }
    }
    out
}

/// A line: a sample of a family, `suffix` after its name, with a bucket's bound if it is one.
fn push_sample(out: &mut String, n: &Newest, suffix: &str, bound: Option<&str>, v: f64, utf8: bool) {
    let name = n.labels.metric_name();
    let quoted = utf8 && !is_plain_name(name);
    let mut separator = '{';
    if quoted {
        out.push('{');
        push_quoted(out, &format!("{name}{suffix}"));
        separator = ',';
    } else {
        push_name(out, name, utf8);
        out.push_str(suffix);
    }
    for (label, value) in n.pairs().into_iter().chain(bound.map(|b| ("le", b))) {
        out.push(separator);
        separator = ',';
        push_name(out, label, utf8);
        out.push('=');
        push_quoted(out, value);
    }
    out.push_str("} ");
    let _ = writeln!(out, "{} {}", go_number(v), n.t);
}

/// A name as protobuf carries it: as it is, if the scraper reads UTF-8.
fn fitted(name: &str, utf8: bool) -> String {
    let mut out = String::new();
    if utf8 {
        out.push_str(name);
    } else {
        push_name(&mut out, name, false);
    }
    out
}

/// A name as it is, where the text format has it; else in quotes, or with underscores.
fn push_name(out: &mut String, name: &str, utf8: bool) {
    if is_plain_name(name) {
        out.push_str(name);
    } else if utf8 {
        push_quoted(out, name);
    } else {
        let mut first = true;
        out.extend(name.chars().map(|c| {
            let fits = c.is_ascii_alphabetic() || c == '_' || c == ':' || c.is_ascii_digit() && !first;
            first = false;
            if fits { c } else { '_' }
        }));
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn protobuf(series: &[Newest], utf8: bool) -> Vec<u8> {
    use prost::Message;
    let mut out = Vec::new();
    for family in series.chunk_by(|a, b| {
        a.labels.metric_name() == b.labels.metric_name()
            && matches!(a.value, Kind::Float(_)) == matches!(b.value, Kind::Float(_))
    }) {
        let Some(first) = family.first() else { continue };
        let message = wire::MetricFamily {
            name: fitted(first.labels.metric_name(), utf8),
            kind: match &first.value {
                Kind::Float(_) => wire::UNTYPED,
                Kind::Histogram(h) if h.reset == ResetHint::Gauge => wire::GAUGE_HISTOGRAM,
                Kind::Histogram(_) => wire::HISTOGRAM,
            },
            metric: family.iter().map(|n| metric(n, utf8)).collect(),
        };
        // Writing to a Vec never fails for want of room.
        let _ = message.encode_length_delimited(&mut out);
    }
    out
}

fn metric(n: &Newest, utf8: bool) -> wire::Metric {
    let label = |(name, value): (&str, &str)| wire::Label {
        name: fitted(name, utf8),
        value: value.to_owned(),
    };
    let (untyped, histogram) = match &n.value {
        Kind::Float(v) => (Some(wire::Untyped { value: Some(*v) }), None),
        Kind::Histogram(h) => (None, Some(wire::ExposedHistogram::of(h))),
    };
    wire::Metric {
        label: n.pairs().into_iter().map(label).collect(),
        untyped,
        timestamp_ms: Some(n.t),
        histogram,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_says_what_it_reads() {
        let text = |utf8| Wanted::Text { utf8 };
        for (accept, wanted) in [
            ("", text(false)),
            ("*/*", text(false)),
            ("application/openmetrics-text;version=1.0.0", text(false)),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
                text(true),
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.5",
                Wanted::Protobuf { utf8: false },
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                text(false),
            ),
        ] {
            assert_eq!(Wanted::of(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn names_and_values_fit_the_text_format() {
        let series = [Newest {
            labels: LabelSet::from_pairs([("__name__", "room.temp"), ("no. 1", "a\"b\\\n")]),
            t: 7,
            value: Kind::Float(0.00001),
        }];
        assert_eq!(
            text(&series, false),
            "# TYPE room_temp untyped\nroom_temp{no__1=\"a\\\"b\\\\\\n\",instance=\"\"} 1e-05 7\n"
        );
        assert_eq!(
            text(&series, true),
            "# TYPE \"room.temp\" untyped\n{\"room.temp\",\"no. 1\"=\"a\\\"b\\\\\\n\",instance=\"\"} 1e-05 7\n"
        );
    }

    #[test]
    fn custom_bounds_are_exposed_as_classic_buckets() {
        let mut h = Histogram {
            schema: model::CUSTOM_BUCKETS,
            count: 9.0,
            sum: 1.5,
            ..Histogram::stale()
        };
        h.positive = model::Buckets::from_indexed([(1, 4.0), (2, 5.0)]);
        h.bounds = Arc::new([1.0, 2.5, 3.0]);
        let series = [Newest {
            labels: LabelSet::from_pairs([("__name__", "wait"), ("job", "a")]),
            t: 7,
            value: Kind::Histogram(Arc::new(h)),
        }];
        assert_eq!(
            text(&series, false),
            "# TYPE wait histogram\n\
             wait_bucket{job=\"a\",instance=\"\",le=\"1\"} 0 7\n\
             wait_bucket{job=\"a\",instance=\"\",le=\"2.5\"} 4 7\n\
             wait_bucket{job=\"a\",instance=\"\",le=\"3\"} 9 7\n\
             wait_bucket{job=\"a\",instance=\"\",le=\"+Inf\"} 9 7\n\
             wait_sum{job=\"a\",instance=\"\"} 1.5 7\n\
             wait_count{job=\"a\",instance=\"\"} 9 7\n"
        );
        let Kind::Histogram(h) = &series[0].value else {
            unreachable!()
        };
        let exposed = wire::ExposedHistogram::of(h);
        let buckets: Vec<_> = exposed.buckets.iter().map(|b| b.cumulative_count).collect();
        assert_eq!(buckets, [Some(0.0), Some(4.0), Some(9.0)]);
        assert_eq!((exposed.schema, exposed.positive_spans.len()), (None, 0));
    }
}
