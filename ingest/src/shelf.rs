//! A sink for tests: keeps what is appended as readable lines, and fails on demand.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use model::{Histogram, LabelSet, LogBatch, METRIC_NAME, SampleBatch, Span, TimestampNs, is_stale};
use parking_lot::Mutex;
use storage::{AppendError, Budget, PackedSpans};
use tower::ServiceExt;

use crate::sink::{Appending, EntriesTaken, SamplesTaken, Sink, SpansTaken};
use crate::{DerivedMetrics, Ingest, Options, OtlpMetrics};

/// The moment on a shelf: 2025-10-22T10:20:00Z, some minutes after the samples of the corpus.
pub(crate) const NOW: TimestampNs = TimestampNs(1_761_128_400_000_000_000);
/// Entries older than this are refused.
pub(crate) const OLDEST: TimestampNs = TimestampNs(1_000_000_000);
/// Entries newer than this are refused.
pub(crate) const NEWEST: TimestampNs = TimestampNs(NOW.0 + 600_000_000_000);

/// Largest body in tests.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// What was appended, as text.
#[derive(Default)]
pub(crate) struct Shelf {
    /// `name{label="value",..} value @ms`
    pub samples: Mutex<Vec<String>>,
    /// `name{label="value",..} native schema 0, count 1, .. @ms`
    pub histograms: Mutex<Vec<String>>,
    /// `sample # start ms` of samples and histograms whose start is known.
    pub starts: Mutex<Vec<String>>,
    /// `name{label="value",..} # {label="value",..} value @ms`
    pub exemplars: Mutex<Vec<String>>,
    /// `name kind unit help`
    pub metadata: Mutex<Vec<String>>,
    /// `{label="value",..} @ns line name=value ..`
    pub entries: Mutex<Vec<String>>,
    /// As they came.
    pub spans: Mutex<Vec<Span>>,
    /// What is kept beside the data.
    pub kept: Mutex<HashMap<String, Vec<u8>>>,
    /// What the next appends fail with.
    pub fault: Mutex<Option<fn() -> AppendError>>,
    /// What becomes of samples.
    pub samples_taken: Mutex<SamplesTaken>,
    /// What becomes of spans.
    pub spans_taken: Mutex<SpansTaken>,
    /// Share of the memory budget in use.
    pub pressure: Mutex<f64>,
    /// From when on the moment passes; `None`: it stands still.
    pub since: Option<std::time::Instant>,
}

/// Receivers over a shelf.
pub(crate) fn ingest() -> (Ingest, Arc<Shelf>) {
    let shelf = Arc::new(Shelf::default());
    (ingest_over(&shelf, OtlpMetrics::default()), shelf)
}

/// Receivers over a shelf, perhaps of an earlier run.
pub(crate) fn ingest_over(shelf: &Arc<Shelf>, otlp_metrics: OtlpMetrics) -> Ingest {
    let options = Options {
        body_bytes_max: BODY_BYTES_MAX,
        otlp_metrics,
        derived_metrics: DerivedMetrics::default(),
    };
    Ingest::over(shelf.clone(), &Budget::new(1 << 30), options)
}

/// One request through a router: status, headers (trailers added) and body.
pub(crate) async fn post(
    router: &Router,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(router, request.body(Body::from(body.into())).unwrap()).await
}

/// As [`post`], with any request.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let mut headers = parts.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (parts.status, headers, collected.to_bytes().to_vec())
}

fn pairs(labels: &LabelSet) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(n, _)| *n != METRIC_NAME)
        .map(|(n, v)| format!("{n}={v:?}"))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn series_text(encoded: &[u8]) -> String {
    let labels = LabelSet::from_encoded(encoded).unwrap();
    format!("{}{}", labels.metric_name(), pairs(&labels))
}

/// `value @ms`, with the staleness marker in words.
fn value_text(v: f64, t: i64) -> String {
    if is_stale(v) {
        format!("stale @{t}")
    } else {
        format!("{v} @{t}")
    }
}

/// As the corpus writes them; what is usual is left out.
fn histogram_text(h: &Histogram) -> String {
    if h.is_stale() {
        return "native stale".to_owned();
    }
    let mut text = format!("native schema {}, count {}, sum {}", h.schema, h.count, h.sum);
    if h.zero_count != 0.0 {
        let _ = write!(text, ", zero {}", h.zero_count);
        if h.zero_threshold != 1e-128 {
            let _ = write!(text, " up to {}", h.zero_threshold);
        }
    }
    for (side, buckets) in [("", &h.positive), ("negative ", &h.negative)] {
        if !buckets.counts.is_empty() {
            let spans: Vec<String> = buckets
                .spans
                .iter()
                .map(|s| format!("({},{})", s.offset, s.length))
                .collect();
            let counts: Vec<String> = buckets.counts.iter().map(f64::to_string).collect();
            let _ = write!(
                text,
                ", {side}spans [{}], {side}absolute counts [{}]",
                spans.join(","),
                counts.join(",")
            );
        }
    }
    if h.has_custom_buckets() {
        let _ = write!(text, ", bounds {:?}", h.bounds);
    }
    text
}

impl Shelf {
    /// One on which time passes.
    pub fn ticking() -> Shelf {
        Shelf {
            since: Some(std::time::Instant::now()),
            ..Shelf::default()
        }
    }

    fn fail(&self) -> Result<(), AppendError> {
        self.fault.lock().map_or(Ok(()), |fault| Err(fault()))
    }
}

impl Sink for Shelf {
    fn now(&self) -> TimestampNs {
        let passed = self.since.map_or(0, |since| since.elapsed().as_nanos() as i64);
        TimestampNs(NOW.0 + passed)
    }

    fn oldest_entry(&self) -> TimestampNs {
        OLDEST
    }

    fn pressure(&self) -> f64 {
        *self.pressure.lock()
    }

    fn append_samples<'a>(&'a self, batch: &'a SampleBatch) -> Appending<'a, SamplesTaken> {
        Box::pin(async move {
            self.fail()?;
            for (series, sample) in batch.samples() {
                let series = series_text(batch.labels(*series).0);
                self.samples
                    .lock()
                    .push(format!("{series} {}", value_text(sample.v, sample.t.0)));
            }
            for (place, start) in batch.starts() {
                let (series, sample) = batch.samples()[*place as usize];
                let (series, value) = (series_text(batch.labels(series).0), value_text(sample.v, sample.t.0));
                self.starts.lock().push(format!("{series} {value} from {}", start.0));
            }
            for (series, sample) in batch.histograms() {
                let text = format!(
                    "{} {} @{}",
                    series_text(batch.labels(*series).0),
                    histogram_text(&sample.histogram),
                    sample.t.0
                );
                if sample.start.0 != 0 {
                    self.starts.lock().push(format!("{text} from {}", sample.start.0));
                }
                self.histograms.lock().push(text);
            }
            for (series, exemplar) in batch.exemplars() {
                let series = series_text(batch.labels(*series).0);
                let (labels, value) = (pairs(&exemplar.labels), value_text(exemplar.value, exemplar.t.0));
                self.exemplars.lock().push(format!("{series} # {labels} {value}"));
            }
            for (family, metadata) in batch.all_metadata() {
                let kind = metadata.kind.as_str();
                let words = format!("{family} {kind} {:?} {:?}", metadata.unit, metadata.help);
                self.metadata.lock().push(words);
            }
            let mut taken = self.samples_taken.lock().clone();
            taken.kept = batch.samples().len() as u64 - taken.refused();
            taken.histograms = batch.histograms().len() as u64;
            taken.exemplars = batch.exemplars().len() as u64;
            Ok(taken)
        })
    }

    fn append_logs<'a>(&'a self, batch: &'a LogBatch) -> Appending<'a, EntriesTaken> {
        Box::pin(async move {
            self.fail()?;
            let mut taken = EntriesTaken::default();
            for row in 0..batch.len() {
                let (stream, t, line) = batch.row(row);
                let labels = LabelSet::from_encoded(batch.labels(stream).0).unwrap();
                if t < OLDEST || t > NEWEST {
                    let too_new = t > NEWEST;
                    taken.too_old += u64::from(!too_new);
                    taken.too_new += u64::from(too_new);
                    taken.refused.push((labels, t, too_new));
                    continue;
                }
                taken.kept += 1;
                let metadata: Vec<String> = batch.row_metadata(row).map(|(n, v)| format!(" {n}={v}")).collect();
                let words = format!("{} @{} {line}{}", pairs(&labels), t.0, metadata.concat());
                self.entries.lock().push(words);
            }
            Ok(taken)
        })
    }

    fn append_spans(&self, spans: PackedSpans) -> Appending<'_, SpansTaken> {
        Box::pin(async move {
            self.fail()?;
            let mut taken = *self.spans_taken.lock();
            taken.kept = spans.len() as u64 - taken.too_old - taken.too_new;
            self.spans.lock().extend(spans.spans());
            Ok(taken)
        })
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.kept.lock().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.kept.lock().get(name).cloned())
    }
}
