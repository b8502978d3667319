//! What the ruler counts, under the names that Prometheus gives it: dashboards and alerts about rules ask for those.

use model::MetricKind;
use query_rules::{GroupStatus, Ruler};

use crate::telemetry::{Family, counter, gauge};

/// Adds the families.
pub(crate) fn families(ruler: &Ruler, out: &mut Vec<Family>) {
    let groups = ruler.groups();
    let counters = ruler.counters();
    use MetricKind::{Counter, Gauge};
    type Value = fn(&GroupStatus) -> Option<f64>;
    let by_group: [(&'static str, MetricKind, &'static str, Value); 12] = [
        (
            "prometheus_rule_evaluations_total",
            Counter,
            "Evaluations of rules.",
            |g| Some(g.evaluations as f64),
        ),
        (
            "prometheus_rule_evaluation_failures_total",
            Counter,
            "Evaluations of rules that failed.",
            |g| Some(g.failures as f64),
        ),
        (
            "prometheus_rule_group_iterations_total",
            Counter,
            "Evaluations of a group that were due, done or missed.",
            |g| Some(g.iterations as f64),
        ),
        (
            "prometheus_rule_group_iterations_missed_total",
            Counter,
            "Evaluations of a group that were missed because the one before took too long.",
            |g| Some(g.missed as f64),
        ),
        (
            "prometheus_rule_group_interval_seconds",
            Gauge,
            "Time between two evaluations of a group.",
            |g| Some(g.interval_ms as f64 / 1000.0),
        ),
        ("prometheus_rule_group_rules", Gauge, "Rules of a group.", |g| {
            Some(g.rules.len() as f64)
        }),
        (
            "prometheus_rule_group_last_evaluation_timestamp_seconds",
            Gauge,
            "When a group was evaluated last.",
            |g| Some(g.last_evaluation_ms.unwrap_or(0) as f64 / 1000.0),
        ),
        (
            "prometheus_rule_group_last_duration_seconds",
            Gauge,
            "What the last evaluation of a group took.",
            |g| Some(g.evaluation_time_s),
        ),
        (
            "prometheus_rule_group_last_rule_duration_sum_seconds",
            Gauge,
            "What the rules of the last evaluation of a group took together.",
            |g| Some(g.rules_time_s),
        ),
        (
            "prometheus_rule_group_last_evaluation_samples",
            Gauge,
            "Samples that the last evaluation of a group gave.",
            |g| Some(g.last_samples as f64),
        ),
        (
            "prometheus_rule_group_last_restore_duration_seconds",
            Gauge,
            "What it took to find out how long alerts of a group had been active before the start.",
            |g| g.restore_time_s,
        ),
        (
            "trilobite_rule_alerts",
            Gauge,
            "Alerts of a group that are pending or firing.",
            |g| Some(g.rules.iter().map(|rule| rule.alerts.len()).sum::<usize>() as f64),
        ),
    ];
    for (name, kind, help, value) in by_group {
        let samples = groups.iter().filter_map(|group| {
            let labels = vec![("rule_group", group.group.key())];
            Some((labels, value(group)?))
        });
        let samples: Vec<_> = samples.collect();
        if !samples.is_empty() {
            out.push(Family {
                name,
                kind,
                help,
                samples,
            });
        }
    }
    for (name, help, value) in [
        (
            "prometheus_rule_group_duration_seconds_sum",
            "Time that evaluations of groups took.",
            counters.group_seconds,
        ),
        (
            "prometheus_rule_group_duration_seconds_count",
            "Evaluations of groups.",
            counters.group_evaluations as f64,
        ),
        (
            "prometheus_rule_evaluation_duration_seconds_sum",
            "Time that evaluations of rules took.",
            counters.rule_seconds,
        ),
        (
            "prometheus_rule_evaluation_duration_seconds_count",
            "Evaluations of rules.",
            counters.rule_evaluations as f64,
        ),
        (
            "trilobite_rule_samples_total",
            "Samples that rules have written, staleness markers included.",
            counters.samples_written as f64,
        ),
    ] {
        out.push(counter(name, help, value));
    }
    out.push(gauge(
        "trilobite_rule_groups_running",
        "Rule groups that are being evaluated, or wait for a place.",
        counters.running as f64,
    ));
}
