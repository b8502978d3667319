//! What an alert is called where it goes: external labels, then the rules of `alert_relabel_configs`.

use model::{LabelSet, LabelsBuilder};
use prometheus_config::{RelabelRule, relabel};
use query_rules::OutgoingAlert;

use crate::Alert;

/// With the external labels that it lacks, relabelled; `None`: the rules drop it.
pub(crate) fn relabelled(alert: OutgoingAlert, external: &[(String, String)], rules: &[RelabelRule]) -> Option<Alert> {
    let mut labels = LabelsBuilder::default();
    for (name, value) in alert.labels {
        labels.set(name, value);
    }
    for (name, value) in external {
        if labels.get(name).is_none_or(str::is_empty) {
            labels.set(name.as_str(), value.as_str());
        }
    }
    Some(Alert {
        labels: passed(labels, rules)?,
        annotations: alert.annotations,
        starts_at_ms: alert.starts_at_ms,
        ends_at_ms: alert.ends_at_ms,
        generator_url: alert.generator_url,
    })
}

/// The labels after these rules; `None`: they drop what has them.
pub(crate) fn passed(mut labels: LabelsBuilder, rules: &[RelabelRule]) -> Option<LabelSet> {
    if !relabel(rules, &mut labels) {
        return None;
    }
    labels.retain(|_, value| !value.is_empty());
    Some(labels.build())
}
