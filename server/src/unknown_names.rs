//! Names that are no setting: what they probably meant, in words.
//!
//! An environment variable may be there for other reasons, so it is a warning; a key of the config file is an error.

use crate::settings::{SETTINGS, env_name};

/// What the environment's variables are called that are settings.
const PREFIX: &str = "TRILOBITE_";
/// Variables that are for builds and tests.
const NO_SETTINGS: [&str; 3] = ["TRILOBITE_REVISION", "TRILOBITE_BIN", "TRILOBITE_TEST_"];
/// Longer names are not compared.
const NAME_BYTES_MAX: usize = 64;
/// The sections of a prometheus.yml that are not also ours.
const OF_PROMETHEUS: [&str; 10] = [
    "alerting",
    "global",
    "remote_read",
    "remote_write",
    "rule_files",
    "runtime",
    "scrape_config_files",
    "scrape_configs",
    "storage",
    "tracing",
];

/// A warning for each variable that looks like a setting and names none.
pub fn in_environment(variables: impl Iterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = SETTINGS.iter().map(|s| env_name(s.name)).collect();
    let mut unknown: Vec<String> = variables
        .filter(|v| v.starts_with(PREFIX) && !names.contains(v) && !is_for_others(v))
        .collect();
    unknown.sort();
    let warning = |variable: String| match nearest(&variable, names.iter().map(String::as_str)) {
        Some(near) => format!("{variable} names no setting and has no effect; did you mean {near}?"),
        None => format!("{variable} names no setting and has no effect; see trilobite --help"),
    };
    unknown.into_iter().map(warning).collect()
}

/// An error for a key of the config file, in this section if in any.
pub fn in_file(section: Option<&str>, key: &str) -> String {
    if section.is_none() && OF_PROMETHEUS.contains(&key) {
        return format!("unknown setting {key:?}; if this is a prometheus.yml, give it to --prometheus-config");
    }
    let place = section.map_or(String::new(), |section| format!(" in section {section:?}"));
    let prefix = section.map_or(String::new(), |section| format!("{section}-"));
    let names = SETTINGS.iter().filter(|s| s.name != "config");
    let names = names.filter_map(|s| s.name.strip_prefix(prefix.as_str()));
    match nearest(&key.replace('_', "-"), names) {
        Some(near) if key.contains('_') => format!(
            "unknown setting {key:?}{place}; did you mean {:?}?",
            near.replace('-', "_")
        ),
        Some(near) => format!("unknown setting {key:?}{place}; did you mean {near:?}?"),
        None => format!("unknown setting {key:?}{place}; see trilobite --help"),
    }
}

/// For builds and tests, or what Kubernetes sets for a service of this name (`TRILOBITE_PORT_9090_TCP`).
fn is_for_others(variable: &str) -> bool {
    NO_SETTINGS.iter().any(|n| variable.starts_with(n))
        || variable.split('_').any(|word| matches!(word, "PORT" | "SERVICE"))
}

/// The name that differs least, if it differs in less than a third.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names
        .map(|name| (edits(word, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    let bare = word.strip_prefix(PREFIX).unwrap_or(word);
    (distance * 3 <= bare.len()).then_some(name)
}

/// How many bytes to insert, remove or replace to come from one word to the other.
fn edits(a: &str, b: &str) -> usize {
    if a.len().max(b.len()) > NAME_BYTES_MAX {
        return usize::MAX / 4;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_variable(variable: &str, want: &[&str]) {
        assert_eq!(in_environment(std::iter::once(variable.to_owned())), want, "{variable}");
    }

    #[test]
    fn a_variable_that_names_no_setting_is_told_of_its_neighbour() {
        check_variable(
            "TRILOBITE_RETENTION_METRIX",
            &[
                "TRILOBITE_RETENTION_METRIX names no setting and has no effect; did you mean TRILOBITE_RETENTION_METRICS?",
            ],
        );
        check_variable(
            "TRILOBITE_DATADIR",
            &["TRILOBITE_DATADIR names no setting and has no effect; did you mean TRILOBITE_DATA_DIR?"],
        );
        let far = format!("TRILOBITE_{}", "X".repeat(1000));
        for variable in ["TRILOBITE_ZZZZZZ", "TRILOBITE_", &far] {
            let want = format!("{variable} names no setting and has no effect; see trilobite --help");
            check_variable(variable, &[&want]);
        }
    }

    #[test]
    fn settings_and_what_is_for_others_are_fine() {
        for variable in [
            "TRILOBITE_DATA_DIR",
            "TRILOBITE_CONFIG",
            "TRILOBITE_REVISION",
            "TRILOBITE_TEST_PYTHON",
            "TRILOBITE_BIN",
            "TRILOBITE_PORT_9090_TCP",
            "TRILOBITE_SERVICE_HOST",
            "PATH",
        ] {
            check_variable(variable, &[]);
        }
    }

    #[test]
    fn keys_of_the_file_are_told_of_their_neighbours() {
        for (section, key, want) in [
            (None, "colour", r#"unknown setting "colour"; see trilobite --help"#),
            (
                None,
                "retention_metric",
                r#"unknown setting "retention_metric"; did you mean "retention_metrics"?"#,
            ),
            (
                None,
                "loki-adr",
                r#"unknown setting "loki-adr"; did you mean "loki-addr"?"#,
            ),
            (
                Some("otlp"),
                "convert-deltas",
                r#"unknown setting "convert-deltas" in section "otlp"; did you mean "convert-delta"?"#,
            ),
            (
                Some("otlp"),
                "global",
                r#"unknown setting "global" in section "otlp"; see trilobite --help"#,
            ),
            (
                None,
                "scrape_configs",
                r#"unknown setting "scrape_configs"; if this is a prometheus.yml, give it to --prometheus-config"#,
            ),
        ] {
            assert_eq!(in_file(section, key), want);
        }
    }
}
