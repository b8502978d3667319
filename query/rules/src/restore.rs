//! After a restart: alerts go on where an earlier process left them, by what it stored in `ALERTS_FOR_STATE`.
//!
//! Only alerts that wait long (`for` of at least the grace period) are looked up; those that wait shorter start anew. What
//! was stored longer ago than the outage tolerance does not count.

use hashbrown::HashMap;
use model::{LabelSet, METRIC_NAME, Matcher, TimeRangeMs, TimestampMs, is_stale};
use storage_metrics::{BlockError, Samples};

use crate::alert::restored_active_at;
use crate::evaluate::{ALERTS_FOR_STATE, Surroundings};
use crate::live::{AlertWork, LiveGroup, Text, Work};

/// Sets since when the alerts of a group have been active; it is `now_ms`.
pub(crate) fn restore(group: &LiveGroup, now_ms: i64, around: &Surroundings) {
    for rule in &group.rules {
        let Work::Alert(work) = &rule.work else { continue };
        if !work.may_go_on(&around.settings) || rule.state.lock().alerts.active().next().is_none() {
            continue;
        }
        let stored = match stored(work, &rule.labels, now_ms, around) {
            Ok(stored) => stored,
            Err(e) => {
                tracing::error!(alert = work.name, error = %e, "what was known of its alerts could not be read; they start anew");
                continue;
            }
        };
        let grace_ms = around.settings.for_grace_period_ms;
        let mut state = rule.state.lock();
        for (labels, alert) in state.alerts.active_mut() {
            let Some((stored_at_ms, active_at_ms)) = stored.get(labels) else {
                continue;
            };
            alert.active_at_ms = restored_active_at(*stored_at_ms, *active_at_ms, now_ms, work.policy.for_ms, grace_ms);
            tracing::debug!(alert = work.name, %labels, active_at_ms = alert.active_at_ms, "goes on");
        }
    }
}

/// By the alert's labels: when its state was stored last, and since when it had been active then, ms.
fn stored(
    work: &AlertWork,
    rule_labels: &[(String, String)],
    now_ms: i64,
    around: &Surroundings,
) -> Result<HashMap<LabelSet, (i64, i64)>, BlockError> {
    let range = TimeRangeMs {
        start: TimestampMs(now_ms.saturating_sub(around.settings.for_outage_tolerance_ms)),
        end: TimestampMs(now_ms),
    };
    let mut matchers = vec![
        Matcher::equal(METRIC_NAME, ALERTS_FOR_STATE),
        Matcher::equal("alertname", &work.name),
    ];
    for (name, text) in &work.labels {
        if let Text::Plain(value) = text
            && name != "alertname"
        {
            matchers.push(Matcher::equal(name, value));
        }
    }
    let snapshot = around.storage.metrics().snapshot(range);
    let mut found = HashMap::new();
    let mut samples = Samples::default();
    for series in snapshot.select(&matchers, range)? {
        samples.clear();
        series.read(range, &mut samples)?;
        if let (Some(t), Some(v)) = (samples.t.last(), samples.v.last())
            && !is_stale(*v)
        {
            let active_at_ms = (*v as i64).saturating_mul(1000);
            // Of a label whose template came out empty, the template stands in the series (see `evaluate`).
            let is_template = |n: &str, v: &str| v.contains("{{") && rule_labels.iter().any(|l| l.0 == n && l.1 == v);
            let labels = series.labels().without_metric_name();
            let labels = LabelSet::from_pairs(labels.iter().filter(|(n, v)| !is_template(n, v)));
            found.insert(labels, (*t, active_at_ms));
        }
    }
    Ok(found)
}
