//! The names that dashboards and alerts of the replaced backends look for: what we count anyway, said in their words.
//!
//! Only names with a true counterpart here are lent; a panel that asks for another is empty rather than wrong.

use ingest::ReceiverStats;
use model::MetricKind;
use storage::StorageStats;

use crate::telemetry::{Family, counter, gauge};

/// Figures of Prometheus, Loki and Tempo.
pub fn families(storage: &StorageStats, ingest: &ingest::Stats, out: &mut Vec<Family>) {
    for name in ["prometheus_build_info", "loki_build_info", "tempo_build_info"] {
        let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        out.push(Family {
            name,
            kind: MetricKind::Gauge,
            help: "Constant 1, labelled with the version.",
            samples: vec![(labels, 1.0)],
        });
    }
    let sum = |signal: &str, value: fn(&ReceiverStats) -> u64| {
        let of_signal = ingest.receivers.iter().filter(|r| r.signal == signal);
        of_signal.map(value).sum::<u64>() as f64
    };
    let (m, l, t) = (&storage.metrics, &storage.logs, &storage.traces);
    for (name, help, value) in [
        (
            "prometheus_tsdb_head_samples_appended_total",
            "Samples stored.",
            m.appended as f64,
        ),
        (
            "prometheus_tsdb_compactions_total",
            "Compactions of metrics.",
            m.compactions as f64,
        ),
        (
            "loki_distributor_lines_received_total",
            "Log lines stored.",
            sum("logs", |r| r.items_accepted),
        ),
        (
            "loki_distributor_bytes_received_total",
            "Log bytes received.",
            sum("logs", |r| r.decoded_bytes),
        ),
        (
            "loki_distributor_errors_total",
            "Requests with log lines that were not taken.",
            sum("logs", |r| r.requests_bad + r.requests_refused),
        ),
        (
            "tempo_distributor_spans_received_total",
            "Spans stored.",
            sum("traces", |r| r.items_accepted),
        ),
        (
            "tempo_distributor_bytes_received_total",
            "Span bytes received.",
            sum("traces", |r| r.decoded_bytes),
        ),
        (
            "tempo_ingester_spans_received_total",
            "Spans stored.",
            sum("traces", |r| r.items_accepted),
        ),
        (
            "tempo_receiver_accepted_spans",
            "Spans stored.",
            sum("traces", |r| r.items_accepted),
        ),
        (
            "tempo_receiver_refused_spans",
            "Spans refused.",
            sum("traces", |r| r.items_rejected),
        ),
    ] {
        out.push(counter(name, help, value));
    }
    for (name, help, value) in [
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "Bytes of metrics blocks.",
            m.block_bytes,
        ),
        (
            "prometheus_tsdb_wal_storage_size_bytes",
            "Bytes of the metrics WAL.",
            m.wal.disk_bytes,
        ),
        ("prometheus_tsdb_blocks_loaded", "Metrics blocks.", m.blocks),
        ("prometheus_tsdb_head_series", "Series in the head.", m.head_series),
        ("loki_ingester_memory_streams", "Streams in the head.", l.head_streams),
        ("tempo_ingester_live_traces", "Traces in the head.", t.head_traces),
    ] {
        out.push(gauge(name, help, value as f64));
    }
}
