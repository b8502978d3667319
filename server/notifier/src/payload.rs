//! The body of `POST /api/v2/alerts`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::Alert;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    annotations: BTreeMap<&'a str, &'a str>,
    ends_at: String,
    starts_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

/// The alerts as a JSON array.
pub(crate) fn payload(alerts: &[Arc<Alert>]) -> String {
    let posted: Vec<Posted<'_>> = alerts
        .iter()
        .map(|alert| Posted {
            annotations: alert
                .annotations
                .iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
            ends_at: rfc3339(alert.ends_at_ms),
            starts_at: rfc3339(alert.starts_at_ms),
            generator_url: &alert.generator_url,
            labels: alert.labels.iter().collect(),
        })
        .collect();
    serde_json::to_string(&posted).unwrap_or_default()
}

/// In UTC, to the millisecond.
fn rfc3339(ms: i64) -> String {
    let instant = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{instant:.3}")
}

#[cfg(test)]
mod tests {
    use model::LabelSet;

    use super::*;

    #[test]
    fn alerts_are_written_as_alertmanager_reads_them() {
        let alert = Alert {
            labels: LabelSet::from_pairs([("alertname", "Down"), ("job", "a\"b")]),
            annotations: vec![
                ("summary".to_owned(), "it is\ndown".to_owned()),
                ("empty".to_owned(), String::new()),
            ],
            starts_at_ms: 1_700_000_000_000,
            ends_at_ms: 1_700_000_240_123,
            generator_url: "http://x/graph?g0.expr=up&g0.tab=1".to_owned(),
        };
        assert_eq!(
            payload(&[Arc::new(alert)]),
            r#"[{"annotations":{"summary":"it is\ndown"},"endsAt":"2023-11-14T22:17:20.123Z","startsAt":"2023-11-14T22:13:20.000Z","#
                .to_owned()
                + r#""generatorURL":"http://x/graph?g0.expr=up&g0.tab=1","labels":{"alertname":"Down","job":"a\"b"}}]"#
        );
    }
}
