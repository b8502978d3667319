//! Counters of what came in, by protocol and signal, for the self-metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::Signal;

use crate::{ReceiverStats, refusal::Refusal};

/// A receiver: one protocol and one signal. The discriminant is its row in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    OtlpGrpc(Signal),
    OtlpHttp(Signal),
    RemoteWrite,
    LokiPush,
    Zipkin,
    JaegerGrpc,
    JaegerThriftHttp,
    JaegerThriftUdp,
}

const RECEIVERS: [Receiver; 12] = [
    Receiver::OtlpGrpc(Signal::Metrics),
    Receiver::OtlpGrpc(Signal::Logs),
    Receiver::OtlpGrpc(Signal::Traces),
    Receiver::OtlpHttp(Signal::Metrics),
    Receiver::OtlpHttp(Signal::Logs),
    Receiver::OtlpHttp(Signal::Traces),
    Receiver::RemoteWrite,
    Receiver::LokiPush,
    Receiver::Zipkin,
    Receiver::JaegerGrpc,
    Receiver::JaegerThriftHttp,
    Receiver::JaegerThriftUdp,
];

impl Receiver {
    /// The signal it takes.
    pub fn signal(self) -> Signal {
        match self {
            Receiver::OtlpGrpc(signal) | Receiver::OtlpHttp(signal) => signal,
            Receiver::RemoteWrite => Signal::Metrics,
            Receiver::LokiPush => Signal::Logs,
            Receiver::Zipkin | Receiver::JaegerGrpc | Receiver::JaegerThriftHttp | Receiver::JaegerThriftUdp => {
                Signal::Traces
            }
        }
    }

    fn protocol(self) -> &'static str {
        match self {
            Receiver::OtlpGrpc(_) => "otlp_grpc",
            Receiver::OtlpHttp(_) => "otlp_http",
            Receiver::RemoteWrite => "remote_write",
            Receiver::LokiPush => "loki_push",
            Receiver::Zipkin => "zipkin",
            Receiver::JaegerGrpc => "jaeger_grpc",
            Receiver::JaegerThriftHttp => "jaeger_thrift_http",
            Receiver::JaegerThriftUdp => "jaeger_thrift_udp",
        }
    }
}

/// All counters; shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rows: [Row; RECEIVERS.len()],
}

/// The counters of one receiver.
#[derive(Debug, Default)]
pub(crate) struct Row {
    requests_ok: AtomicU64,
    requests_bad: AtomicU64,
    requests_refused: AtomicU64,
    wire_bytes: AtomicU64,
    decoded_bytes: AtomicU64,
    items_accepted: AtomicU64,
    items_rejected: AtomicU64,
}

impl Counters {
    /// The row of a receiver.
    pub fn row(&self, receiver: Receiver) -> &Row {
        let at = RECEIVERS.iter().position(|r| *r == receiver).unwrap_or(0);
        &self.rows[at]
    }

    /// A copy of all figures.
    pub fn stats(&self) -> Vec<ReceiverStats> {
        RECEIVERS
            .iter()
            .zip(&self.rows)
            .map(|(receiver, row)| ReceiverStats {
                protocol: receiver.protocol(),
                signal: receiver.signal().as_str(),
                requests_ok: row.requests_ok.load(Relaxed),
                requests_bad: row.requests_bad.load(Relaxed),
                requests_refused: row.requests_refused.load(Relaxed),
                wire_bytes: row.wire_bytes.load(Relaxed),
                decoded_bytes: row.decoded_bytes.load(Relaxed),
                items_accepted: row.items_accepted.load(Relaxed),
                items_rejected: row.items_rejected.load(Relaxed),
            })
            .collect()
    }
}

impl Row {
    /// A body was read.
    pub fn read(&self, wire_bytes: usize, decoded_bytes: usize) {
        self.wire_bytes.fetch_add(wire_bytes as u64, Relaxed);
        self.decoded_bytes.fetch_add(decoded_bytes as u64, Relaxed);
    }

    /// A request was answered with success, in whole or in part.
    pub fn ok(&self, accepted: u64, rejected: u64) {
        self.requests_ok.fetch_add(1, Relaxed);
        self.items(accepted, rejected);
    }

    /// A request was answered 4xx although some of it may be stored.
    pub fn bad(&self, accepted: u64, rejected: u64) {
        self.requests_bad.fetch_add(1, Relaxed);
        self.items(accepted, rejected);
    }

    /// A request was refused as a whole.
    pub fn refused(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::Busy { .. } => &self.requests_refused,
            _ => &self.requests_bad,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn items(&self, accepted: u64, rejected: u64) {
        self.items_accepted.fetch_add(accepted, Relaxed);
        self.items_rejected.fetch_add(rejected, Relaxed);
    }
}
