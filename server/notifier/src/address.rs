//! From what discovery finds to the URL that an Alertmanager is told at.

use model::LabelsBuilder;
use prometheus_config::{AlertmanagerConfig, TargetGroup, relabel};

/// What becomes of an Alertmanager that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// It is told, at this URL.
    Kept(String),
    /// No rule wants it.
    Dropped(String),
    /// It cannot be told.
    Bad(String),
}

/// The Alertmanagers of a group.
pub(crate) fn alertmanagers(config: &AlertmanagerConfig, group: &TargetGroup) -> Vec<Found> {
    let targets = group.targets.iter();
    targets.map(|target| one(config, group, target)).collect()
}

fn one(config: &AlertmanagerConfig, group: &TargetGroup, target: &[(String, String)]) -> Found {
    let mut labels = LabelsBuilder::default();
    for (name, value) in target {
        labels.set(name.as_str(), value.as_str());
    }
    labels.set("__scheme__", config.scheme.as_str());
    labels.set("__alerts_path__", path(&config.path_prefix));
    for (name, value) in &group.labels {
        if target.iter().all(|(n, _)| n != name) {
            labels.set(name.as_str(), value.as_str());
        }
    }
    let before = labels.clone();
    if !relabel(&config.relabel, &mut labels) {
        return Found::Dropped(url(&before));
    }
    match labels.get("__address__") {
        None | Some("") => Found::Bad("no address".to_owned()),
        Some(address) if address.contains('/') => Found::Bad(format!("{address:?} is not a valid hostname")),
        Some(_) => Found::Kept(url(&labels)),
    }
}

fn url(labels: &LabelsBuilder) -> String {
    let part = |name: &str| labels.get(name).unwrap_or("");
    let (scheme, address, path) = (part("__scheme__"), part("__address__"), part("__alerts_path__"));
    let slash = if path.starts_with('/') || path.is_empty() {
        ""
    } else {
        "/"
    };
    format!("{scheme}://{address}{slash}{path}")
}

/// The path of the API behind a prefix, without empty parts, `.` and `..`.
fn path(prefix: &str) -> String {
    let mut parts = Vec::new();
    for part in prefix.split('/').chain(["api", "v2", "alerts"]) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus_config::PrometheusConfig;

    use super::*;

    fn check(entry: &str, target: &[(&str, &str)], want: Found) {
        let text = format!("alerting: {{alertmanagers: [{entry}]}}");
        let (config, _) = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None).unwrap();
        let target = target.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let group = TargetGroup {
            targets: vec![target],
            labels: vec![("zone".to_owned(), "a".to_owned())],
        };
        assert_eq!(alertmanagers(&config.alerting.alertmanagers[0], &group), [want]);
    }

    #[test]
    fn an_alertmanager_gets_its_url() {
        let kept = |url: &str| Found::Kept(url.to_owned());
        let host = [("__address__", "am:9093")];
        check("{}", &host, kept("http://am:9093/api/v2/alerts"));
        check(
            "{scheme: https, path_prefix: /am/}",
            &host,
            kept("https://am:9093/am/api/v2/alerts"),
        );
        let to_zone = "{relabel_configs: [{source_labels: [zone], target_label: __address__, replacement: '$1.am:1'}]}";
        check(to_zone, &host, kept("http://a.am:1/api/v2/alerts"));
        check(
            "{relabel_configs: [{source_labels: [zone], regex: a, action: drop}]}",
            &host,
            Found::Dropped("http://am:9093/api/v2/alerts".to_owned()),
        );
        check("{}", &[("x", "y")], Found::Bad("no address".to_owned()));
        check(
            "{}",
            &[("__address__", "http://am")],
            Found::Bad("\"http://am\" is not a valid hostname".to_owned()),
        );
    }
}
