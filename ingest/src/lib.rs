//! What comes in: OTLP, Prometheus remote write, Loki push. Decodes requests into batches and appends them; answers
//! in the protocol's own words.

use std::sync::Arc;

use storage::Storage;

/// Limits and habits of the receivers; filled by the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest request body, before and after decompression.
    pub body_bytes_max: usize,
}

/// The receivers; cloning shares them.
#[derive(Clone)]
pub struct Ingest {
    _inner: Arc<()>,
}

/// Counters since start, by protocol, for the self-metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// One row per protocol and signal.
    pub receivers: Vec<ReceiverStats>,
}

/// Counters of one receiver.
#[derive(Clone, Debug, Default)]
pub struct ReceiverStats {
    /// `otlp_grpc`, `otlp_http`, `remote_write`, `loki_push`.
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
    /// Over one storage.
    pub fn new(storage: Arc<Storage>, options: Options) -> Ingest {
        let _ = (storage, options);
        todo!()
    }
    /// OTLP/HTTP: `POST /v1/{traces,metrics,logs}`, with CORS.
    pub fn otlp_http_router(&self) -> axum::Router {
        todo!()
    }
    /// OTLP/gRPC: the three Export services and grpc.health.v1, as one router for h2c.
    pub fn otlp_grpc_router(&self) -> axum::Router {
        todo!()
    }
    /// What the Prometheus port takes in: `POST /api/v1/write`, `POST /api/v1/otlp/v1/metrics`, and aliases.
    pub fn prometheus_router(&self) -> axum::Router {
        todo!()
    }
    /// What the Loki port takes in: `POST /loki/api/v1/push`, `POST /otlp/v1/logs`, and aliases.
    pub fn loki_router(&self) -> axum::Router {
        todo!()
    }
    /// Counters.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
