//! What one log entry and one stream may be: Loki's default limits, and its words when they are exceeded. Both ways in,
//! Loki push and OTLP logs, keep to them.

use model::{LabelSet, TimestampNs};

/// Label names of a stream, `service_name` not counted.
pub(crate) const LABEL_NAMES_MAX: usize = 15;
/// Bytes of a label's name.
pub(crate) const LABEL_NAME_BYTES_MAX: usize = 1024;
/// Bytes of a label's value.
pub(crate) const LABEL_VALUE_BYTES_MAX: usize = 2048;
/// Bytes of a line.
pub(crate) const LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an entry's structured metadata, names and values.
pub(crate) const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Pairs of an entry's structured metadata.
pub(crate) const METADATA_PAIRS_MAX: usize = 128;

/// Labels that may serve as `service_name`, most telling first.
const SERVICE_NAMES: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// The label that names the service.
pub(crate) const SERVICE_NAME: &str = "service_name";

/// The `service_name` to add to a stream: `None` if it has one, or is one of Loki's own.
pub(crate) fn discover_service_name<'a>(labels: &[(&'a str, &'a str)]) -> Option<&'a str> {
    let value = |name: &str| {
        labels
            .iter()
            .find(|(n, v)| *n == name && !v.is_empty())
            .map(|(_, v)| *v)
    };
    let own = ["__aggregated_metric__", "__pattern__", SERVICE_NAME];
    if own.iter().any(|name| value(name).is_some()) {
        return None;
    }
    Some(
        SERVICE_NAMES
            .iter()
            .find_map(|name| value(name))
            .unwrap_or("unknown_service"),
    )
}

/// What is wrong with a stream's labels, in Loki's words.
pub(crate) fn bad_stream(labels: &LabelSet) -> Option<String> {
    let names = labels.iter().filter(|(name, _)| *name != SERVICE_NAME).count();
    if names > LABEL_NAMES_MAX {
        return Some(format!(
            "entry for stream '{labels}' has {names} label names; limit {LABEL_NAMES_MAX}"
        ));
    }
    labels.iter().find_map(|(name, value)| {
        if name.len() > LABEL_NAME_BYTES_MAX {
            Some(format!("stream '{labels}' has label name too long: '{name}'"))
        } else if value.len() > LABEL_VALUE_BYTES_MAX {
            Some(format!("stream '{labels}' has label value too long: '{value}'"))
        } else {
            None
        }
    })
}

/// What is wrong with an entry, in Loki's words.
pub(crate) fn bad_entry(labels: &LabelSet, line: &str, metadata_pairs: usize, metadata_bytes: usize) -> Option<String> {
    if line.len() > LINE_BYTES_MAX {
        return Some(format!(
            "max entry size '{LINE_BYTES_MAX}' bytes exceeded for stream '{labels}' while adding an entry with length '{}' bytes",
            line.len()
        ));
    }
    if metadata_bytes > METADATA_BYTES_MAX {
        return Some(format!(
            "stream '{labels}' has structured metadata too large: '{metadata_bytes}' bytes, limit: '{METADATA_BYTES_MAX}' bytes. Please send less structured metadata with each entry"
        ));
    }
    (metadata_pairs > METADATA_PAIRS_MAX).then(|| {
        format!(
            "stream '{labels}' has too many structured metadata labels: '{metadata_pairs}', limit: '{METADATA_PAIRS_MAX}'. Please send fewer structured metadata labels with each entry"
        )
    })
}

/// What is wrong with an entry's time, in Loki's words.
pub(crate) fn bad_time(labels: &LabelSet, t: TimestampNs, too_new: bool, oldest: TimestampNs) -> String {
    if too_new {
        format!("entry for stream '{labels}' has timestamp too new: {}", rfc3339(t))
    } else {
        format!(
            "entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
            rfc3339(t),
            rfc3339(oldest)
        )
    }
}

fn rfc3339(t: TimestampNs) -> String {
    match jiff::Timestamp::from_second(t.0.div_euclid(1_000_000_000)) {
        Ok(t) => t.to_string(),
        Err(_) => format!("{} ns", t.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        for (labels, want) in [
            (vec![("job", "j"), ("container", "c")], Some("c")),
            (vec![("app", ""), ("job", "j")], Some("j")),
            (vec![("foo", "x")], Some("unknown_service")),
            (vec![("service_name", "s"), ("app", "a")], None),
            (vec![("service_name", ""), ("app", "a")], Some("a")),
            (vec![("__aggregated_metric__", "x"), ("job", "j")], None),
        ] {
            assert_eq!(discover_service_name(&labels), want, "{labels:?}");
        }
    }

    #[test]
    fn words_for_times() {
        let labels = LabelSet::from_pairs([("app", "x")]);
        assert_eq!(
            bad_time(&labels, TimestampNs(1_500_000_000), false, TimestampNs(60_000_000_000)),
            r#"entry for stream '{app="x"}' has timestamp too old: 1970-01-01T00:00:01Z, oldest acceptable timestamp is: 1970-01-01T00:01:00Z"#
        );
    }
}
