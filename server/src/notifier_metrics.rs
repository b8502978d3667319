//! What the notifier counts, under the names that Prometheus gives it.

use model::MetricKind;
use notifier::{AlertmanagerStats, Latency, Notifier, QUEUE_MAX};

use crate::telemetry::{Family, gauge};

/// Adds the families.
pub(crate) fn families(notifier: &Notifier, out: &mut Vec<Family>) {
    use MetricKind::{Counter, Gauge};
    type Value = fn(&AlertmanagerStats) -> u64;
    let stats = notifier.stats();
    let told = |s: &AlertmanagerStats| ("alertmanager", s.url.clone());
    let by_alertmanager: [(&'static str, MetricKind, &'static str, Value); 6] = [
        (
            "prometheus_notifications_sent_total",
            Counter,
            "Alerts that an Alertmanager took.",
            |s| s.sent,
        ),
        (
            "prometheus_notifications_errors_total",
            Counter,
            "Alerts that could not be sent to an Alertmanager, once for each try.",
            |s| s.errors,
        ),
        (
            "prometheus_notifications_dropped_total",
            Counter,
            "Alerts that an Alertmanager will not be told of.",
            |s| s.dropped,
        ),
        (
            "prometheus_notifications_queue_length",
            Gauge,
            "Alerts that wait for an Alertmanager.",
            |s| s.queued,
        ),
        (
            "prometheus_notifications_latency_seconds_count",
            Counter,
            "Requests that an Alertmanager answered.",
            |s| s.latency.count,
        ),
        (
            "prometheus_notifications_latency_histogram_seconds_count",
            Counter,
            "Requests that an Alertmanager answered.",
            |s| s.latency.count,
        ),
    ];
    for (name, kind, help, value) in by_alertmanager {
        let samples = stats.iter().map(|s| (vec![told(s)], value(s) as f64)).collect();
        out.push(Family {
            name,
            kind,
            help,
            samples,
        });
    }
    let quantiles = stats.iter().flat_map(|s| {
        [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")]
            .map(|(q, text)| (vec![told(s), ("quantile", text.to_owned())], s.latency.quantile(q)))
    });
    out.push(Family {
        name: "prometheus_notifications_latency_seconds",
        kind: Gauge,
        help: "How long an Alertmanager took to answer, over the last requests.",
        samples: quantiles.collect(),
    });
    for name in [
        "prometheus_notifications_latency_seconds_sum",
        "prometheus_notifications_latency_histogram_seconds_sum",
    ] {
        out.push(Family {
            name,
            kind: Counter,
            help: "How long an Alertmanager took to answer, all requests together.",
            samples: stats.iter().map(|s| (vec![told(s)], s.latency.sum_s)).collect(),
        });
    }
    let buckets = stats.iter().flat_map(|s| {
        let bounded = Latency::BOUNDS_S.iter().zip(s.latency.within);
        let bounded = bounded.map(|(bound, n)| (bound.to_string(), n));
        let all = std::iter::once(("+Inf".to_owned(), s.latency.count));
        bounded
            .chain(all)
            .map(|(le, n)| (vec![told(s), ("le", le)], n as f64))
            .collect::<Vec<_>>()
    });
    out.push(Family {
        name: "prometheus_notifications_latency_histogram_seconds_bucket",
        kind: Counter,
        help: "Requests that an Alertmanager answered within so many seconds.",
        samples: buckets.collect(),
    });
    out.push(gauge(
        "prometheus_notifications_queue_capacity",
        "Alerts that may wait for an Alertmanager.",
        QUEUE_MAX as f64,
    ));
    out.push(gauge(
        "prometheus_notifications_alertmanagers_discovered",
        "Alertmanagers that are told of alerts.",
        stats.len() as f64,
    ));
}
