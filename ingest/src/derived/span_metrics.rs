//! Span metrics: calls, latency and size by service, span name, kind and status, as Tempo's generator has them.

use model::{Span, SpanKind, StatusCode, hash_labels};

use super::label_source::{Dimension, encode};
use super::protobuf_size::span_size;
use super::series_table::{Family, Row, Seen, Shape};
use super::{Text, seen};

/// The families and buckets.
pub(super) static SHAPE: Shape = Shape {
    counters: &[
        Family {
            name: "traces_spanmetrics_calls_total",
            help: "Spans.",
        },
        Family {
            name: "traces_spanmetrics_size_total",
            help: "Bytes of spans as OTLP protobuf.",
        },
    ],
    histograms: &[Family {
        name: "traces_spanmetrics_latency",
        help: "Duration of spans in seconds.",
    }],
    bounds: &[
        0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
    ],
};

/// The labels that every span gives, in rising order.
const LABELS: [&str; 4] = ["service", "span_kind", "span_name", "status_code"];
/// Names that a dimension does not get.
const TAKEN: [&str; 8] = [
    "service",
    "span_kind",
    "span_name",
    "status_code",
    "status_message",
    "job",
    "instance",
    "le",
];

/// How a span's labels are made.
#[derive(Debug)]
pub(super) struct Labels {
    /// In rising order of labels; `None`: the label of [`LABELS`] that comes next.
    plan: Vec<Option<Dimension>>,
}

/// What a span counts for.
#[derive(Debug)]
pub(super) struct Observed {
    /// Its row's labels.
    pub labels: Text,
    seconds: f64,
    size: u64,
    seen: Seen,
}

impl Labels {
    /// With these attributes besides.
    pub fn new(dimensions: &[String]) -> Labels {
        let mut plan: Vec<(String, Option<Dimension>)> = LABELS.iter().map(|l| ((*l).to_owned(), None)).collect();
        let dimensions = Dimension::list(dimensions, "", &TAKEN);
        plan.extend(dimensions.into_iter().map(|d| (d.label.clone(), Some(d))));
        plan.sort_by(|a, b| a.0.cmp(&b.0));
        Labels {
            plan: plan.into_iter().map(|(_, source)| source).collect(),
        }
    }

    /// Notes a span; its labels go to `text`.
    pub fn note(&self, span: &Span, service: &str, text: &mut Vec<u8>) -> Observed {
        let start = text.len();
        let values = [service, kind(span.kind), &span.name, status(span.status)];
        let mut own = LABELS.iter().zip(values);
        for source in &self.plan {
            match source {
                Some(dimension) => dimension.encode(span, text),
                None => {
                    if let Some((label, value)) = own.next() {
                        encode(label, value, text);
                    }
                }
            }
        }
        Observed {
            labels: Text {
                start: start as u32,
                end: text.len() as u32,
                hash: hash_labels(&text[start..]),
            },
            seconds: span.duration_ns() as f64 / 1e9,
            size: span_size(span),
            seen: seen(span),
        }
    }
}

impl Observed {
    /// Counts it.
    pub fn count(&self, row: &mut Row) {
        row.add(0, 1);
        row.add(1, self.size);
        row.observe(&SHAPE, 0, self.seconds, self.seen);
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

fn status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "STATUS_CODE_UNSET",
        StatusCode::Ok => "STATUS_CODE_OK",
        StatusCode::Error => "STATUS_CODE_ERROR",
    }
}
