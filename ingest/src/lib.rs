//! What comes in: OTLP, Prometheus remote write, Loki push, Zipkin, Jaeger. Decodes requests into batches and appends them; answers
//! in the protocol's own words.
//!
//! Every request takes the same road: the door (`admission`), the body read and decompressed within bounds (`body`),
//! the protocol's decoder (`otlp`, `remote_write`, `loki_push`, `zipkin`, `jaeger`), the storage (`sink`), the protocol's answer. Decoders
//! read the wire in place (`wire`) and write into a batch's arenas. Nothing is answered with success before it is
//! durable; a temporary fault is 503 with `Retry-After` (gRPC UNAVAILABLE with RetryInfo), never 500 or 429, on which
//! clients drop data.
//!
//! Whoever else asks servers, or is to find them as `prometheus.yml` says, uses scraping's [`Client`] and [`discover`].
//!
//! Not here: what is kept of a batch (`storage`), how it is asked for (`query`, `ui-api`), listeners (`server`).

mod admission;
mod body;
mod cors;
mod counters;
mod derived;
mod entry_limits;
mod grpc;
mod jaeger;
mod label_names;
mod level;
mod loki_push;
mod otlp;
mod refusal;
mod remote_write;
mod report;
mod room;
mod scrape;
#[cfg(test)]
mod shelf;
mod sink;
mod span_senders;
mod thrift;
mod wire;
mod zipkin;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use model::{Signal, Span, SpanBatch, TimestampNs};
use storage::{Budget, PackedSpans, Storage};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use admission::{Admission, Ticket};
use counters::Counters;
use derived::{Derived, Noted};
pub use derived::{DerivedMetrics, DerivedStats};
pub use level::{DETECTED_LEVEL, LevelDetector, detect_level, level_of_severity_number, level_of_words};
pub use otlp::{OtlpMetrics, Translation};
use refusal::Refusal;
use report::Report;
pub use scrape::{
    Answered, Ask, AskError, Client, Kept, Network, ProxyEnvironment, RelabelStep, ScrapeOptions, ScrapeStats,
    ScrapedTarget, Scrapes, TellTargets, discover,
};
use sink::Sink;

/// Limits and habits of the receivers; filled by the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest request body, before and after decompression.
    pub body_bytes_max: usize,
    /// How OTLP metrics become series.
    pub otlp_metrics: OtlpMetrics,
    /// Which metrics are derived from spans.
    pub derived_metrics: DerivedMetrics,
}

/// The receivers; cloning shares them.
#[derive(Clone)]
pub struct Ingest {
    shared: Shared,
}

/// Counters since start, by protocol, for the self-metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// One row per protocol and signal.
    pub receivers: Vec<ReceiverStats>,
    /// OTLP streams of delta temporality whose totals are held.
    pub delta_streams: u64,
    /// Of metrics derived from spans.
    pub derived: DerivedStats,
}

/// Counters of one receiver.
#[derive(Clone, Debug, Default)]
pub struct ReceiverStats {
    /// `otlp_grpc`, `otlp_http`, `remote_write`, `loki_push`, `zipkin`, `jaeger_grpc`, `jaeger_thrift_http`,
    /// `jaeger_thrift_udp`.
    pub protocol: &'static str,
    /// `metrics`, `logs`, `traces`.
    pub signal: &'static str,
    /// Requests answered with success.
    pub requests_ok: u64,
    /// Requests refused as bad (4xx).
    pub requests_bad: u64,
    /// Requests refused for now (5xx).
    pub requests_refused: u64,
    /// Bytes received on the wire.
    pub wire_bytes: u64,
    /// Bytes after decompression.
    pub decoded_bytes: u64,
    /// Samples, entries or spans stored.
    pub items_accepted: u64,
    /// Samples, entries or spans refused.
    pub items_rejected: u64,
}

impl Ingest {
    /// Over one storage; takes up what an earlier run has kept there.
    pub fn new(storage: Arc<Storage>, options: Options) -> Ingest {
        let budget = storage.budget().clone();
        Ingest::over(storage, &budget, options)
    }

    fn over(sink: Arc<dyn Sink>, budget: &Budget, options: Options) -> Ingest {
        let memory = usize::try_from(budget.limit()).unwrap_or(usize::MAX);
        let otlp = otlp::Translator::new(options.otlp_metrics.clone());
        otlp::restore(&otlp, &*sink);
        let derived = Derived::new(&options.derived_metrics, sink.now(), budget);
        Ingest {
            shared: Shared(Arc::new(Parts {
                sink,
                admission: Admission::new(memory / ADMITTED_SHARE),
                counters: Counters::default(),
                otlp,
                derived,
                options,
            })),
        }
    }

    /// Keeps in the storage what the next run needs should this one crash. Call it once a minute or so; blocks the
    /// thread, at most for the write of a small file.
    pub fn keep(&self) {
        otlp::keep(&self.shared.otlp, &*self.shared.sink, false);
    }

    /// Keeps in the storage all that the next run takes up. Call it when no receiver answers any more; blocks the thread.
    pub fn close(&self) {
        otlp::keep(&self.shared.otlp, &*self.shared.sink, true);
    }

    /// Lets time pass for the metrics that are derived from spans, and appends their samples when their interval has
    /// passed, or at once if `all` is asked for. Call it once a second, and with `all` at the end. An error in words says
    /// which samples were not stored.
    pub async fn derive(&self, now: TimestampNs, all: bool) -> Result<(), String> {
        let Some(collection) = self.shared.derived.collect(now, all) else {
            return Ok(());
        };
        let mut refused = Ok(());
        for batch in collection {
            let taken = self.shared.sink.append_samples(&batch).await;
            let taken = taken.map_err(|e| e.to_string())?;
            if taken.refused() > 0 && refused.is_ok() {
                refused = Err(taken.words());
            }
        }
        refused
    }

    /// OTLP/HTTP: `POST /v1/{traces,metrics,logs}`, with CORS.
    pub fn otlp_http_router(&self) -> Router {
        otlp::routes::router(self.shared.clone())
    }

    /// OTLP/gRPC: the three Export services and grpc.health.v1, as one router for h2c.
    pub fn otlp_grpc_router(&self) -> Router {
        otlp::grpc::router(self.shared.clone())
    }

    /// What the Prometheus port takes in: `POST /api/v1/write`, `POST /api/v1/otlp/v1/metrics`, and aliases.
    pub fn prometheus_router(&self) -> Router {
        Router::new()
            .route("/api/v1/write", post(remote_write::routes::write))
            .route("/api/v1/push", post(remote_write::routes::write))
            .route("/prometheus/api/v1/write", post(remote_write::routes::write))
            .route("/api/v1/otlp/v1/metrics", post(otlp::routes::metrics))
            .with_state(self.shared.clone())
    }

    /// What the Loki port takes in: `POST /loki/api/v1/push`, `POST /otlp/v1/logs`, and aliases.
    pub fn loki_router(&self) -> Router {
        Router::new()
            .route("/loki/api/v1/push", post(loki_push::routes::push))
            .route("/api/prom/push", post(loki_push::routes::push))
            .route("/otlp/v1/logs", post(otlp::routes::logs_as_loki))
            .with_state(self.shared.clone())
    }

    /// Zipkin: `POST /api/v2/spans` and `/api/v1/spans`.
    pub fn zipkin_router(&self) -> Router {
        zipkin::routes::router(self.shared.clone())
    }

    /// Jaeger's gRPC collector: `PostSpans`, as a router for h2c.
    pub fn jaeger_grpc_router(&self) -> Router {
        jaeger::grpc::router(self.shared.clone())
    }

    /// Jaeger's Thrift over HTTP: `POST /api/traces`.
    pub fn jaeger_thrift_router(&self) -> Router {
        jaeger::routes::router(self.shared.clone())
    }

    /// Takes Jaeger's Thrift datagrams, compact or binary, from a bound socket until `stop` turns true; then returns when
    /// what was received is durable.
    pub async fn serve_jaeger_udp(&self, socket: UdpSocket, stop: watch::Receiver<bool>) {
        jaeger::udp::serve(self.shared.clone(), socket, stop).await;
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        Stats {
            delta_streams: self.shared.otlp.deltas().len() as u64,
            derived: self.shared.derived.stats(),
            receivers: self.shared.counters.stats(),
        }
    }
}

/// Requests in flight may hold one part in so many of the memory budget.
const ADMITTED_SHARE: usize = 4;
/// Above this share of the memory budget in use, nothing more is let in.
const PRESSURE_MAX: f64 = 1.0;

/// What all handlers share.
#[derive(Clone)]
struct Shared(Arc<Parts>);

struct Parts {
    sink: Arc<dyn Sink>,
    admission: Admission,
    counters: Counters,
    otlp: otlp::Translator,
    derived: Derived,
    options: Options,
}

impl std::ops::Deref for Shared {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Shared {
    /// Reads a request's body, of at most `bytes_max` bytes, unless memory is spent already.
    async fn read(&self, signal: Signal, body: Body, bytes_max: usize) -> Result<(Bytes, Ticket), Refusal> {
        if self.sink.pressure() >= PRESSURE_MAX {
            body::drain(body).await;
            return Err(Refusal::Busy {
                why: "memory budget exhausted; retry later, or raise --memory-limit".to_owned(),
                retry_after_s: 2,
            });
        }
        let mut ticket = self.admission.ticket(signal);
        let wire = body::read(body, bytes_max, &mut ticket).await?;
        Ok((wire, ticket))
    }

    /// Stores spans as [`Shared::append_incoming`] does.
    async fn append_spans(&self, batch: SpanBatch, report: &mut Report) -> Result<(), Refusal> {
        let mut incoming = Incoming::at(self.sink.now(), 0);
        batch.spans.iter().for_each(|span| incoming.push(&self.derived, span));
        drop(batch);
        self.append_incoming(incoming, report).await
    }

    /// Stores spans, durably, and reports those that are refused for their time.
    async fn append_incoming(&self, incoming: Incoming, report: &mut Report) -> Result<(), Refusal> {
        if incoming.spans.is_empty() {
            return Ok(());
        }
        let taken = self.sink.append_spans(incoming.spans).await?;
        self.derived.count(&incoming.noted);
        report.reject(taken.too_old, || {
            format!("{} spans are older than the retention", taken.too_old)
        });
        report.reject(taken.too_new, || {
            format!("{} spans are too far in the future", taken.too_new)
        });
        Ok(())
    }
}

/// Spans on their way in: as the storage takes them, and what metrics are derived from them.
struct Incoming {
    spans: PackedSpans,
    noted: Noted,
}

impl Incoming {
    /// None yet; they will take about so many bytes.
    fn at(now: TimestampNs, bytes: usize) -> Incoming {
        Incoming {
            spans: PackedSpans::with_capacity(bytes),
            noted: Noted::at(now),
        }
    }

    fn push(&mut self, derived: &Derived, span: &Span) {
        derived.note(&mut self.noted, span);
        self.spans.push(span);
    }
}
