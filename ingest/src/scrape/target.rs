//! From what discovery finds to what is scraped: labels, relabelling, the address and its URL.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{LabelSet, LabelsBuilder};
use prometheus_config::{ScrapeConfig, TargetGroup, parse_duration, print_duration, relabel};

use super::exposition::HistogramHabits;

/// Labels by which the rules of a job may decide on each target's histograms.
const NATIVE: &str = "__scrape_native_histograms__";
const CLASSIC_TOO: &str = "__always_scrape_classic_histograms__";
const CUSTOM_BUCKETS: &str = "__convert_classic_histograms_to_nhcb__";

/// One target of a job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScrapeTarget {
    /// Its labels before relabelling.
    pub discovered: LabelSet,
    /// The labels its series get.
    pub labels: LabelSet,
    /// Where it is scraped.
    pub url: String,
    /// The socket file it is scraped over, if any.
    pub socket: Option<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Which histograms are read.
    pub habits: HistogramHabits,
}

/// What becomes of a target that was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// It is scraped.
    Kept(ScrapeTarget),
    /// No rule wants it.
    Dropped(LabelSet),
    /// It cannot be scraped.
    Bad(LabelSet, String),
}

/// Labels that a target has before the rules of its job: its own, those of its group, and what the job says.
pub(crate) fn discovered(config: &ScrapeConfig, group: &TargetGroup, target: &[(String, String)]) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    for (name, value) in group.labels.iter().chain(target) {
        labels.set(name.as_str(), value.as_str());
    }
    let interval = print_duration(config.scrape_interval);
    let timeout = print_duration(config.scrape_timeout);
    let flag = |is_on: bool| if is_on { "true" } else { "false" };
    for (name, value) in [
        ("job", config.job_name.as_str()),
        (NATIVE, flag(config.scrape_native_histograms)),
        (CLASSIC_TOO, flag(config.always_scrape_classic_histograms)),
        (CUSTOM_BUCKETS, flag(config.convert_classic_histograms_to_nhcb)),
        ("__scrape_interval__", &interval),
        ("__scrape_timeout__", &timeout),
        ("__metrics_path__", &config.metrics_path),
        ("__scheme__", &config.scheme),
    ] {
        if labels.get(name).is_none() {
            labels.set(name, value);
        }
    }
    for (name, values) in &config.params {
        let name = format!("__param_{name}");
        if let (Some(value), None) = (values.first(), labels.get(&name)) {
            labels.set(name, value.as_str());
        }
    }
    labels
}

/// The targets of a group.
pub(crate) fn targets(config: &ScrapeConfig, group: &TargetGroup) -> Vec<Found> {
    let found = group.targets.iter();
    found
        .map(|target| one(config, discovered(config, group, target)))
        .collect()
}

fn one(config: &ScrapeConfig, before: LabelsBuilder) -> Found {
    let discovered = before.clone().build();
    let mut labels = before;
    if !relabel(&config.relabel, &mut labels) {
        return Found::Dropped(discovered);
    }
    match finished(config, &discovered, labels) {
        Ok(target) => Found::Kept(target),
        Err(why) => Found::Bad(discovered, why),
    }
}

fn finished(config: &ScrapeConfig, discovered: &LabelSet, mut labels: LabelsBuilder) -> Result<ScrapeTarget, String> {
    let address = labels.get("__address__").unwrap_or("").to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let duration = |name: &str| {
        let text = labels.get(name).unwrap_or("");
        let parsed = parse_duration(text)
            .ok_or_else(|| format!("error parsing {name}: not a valid duration string: {text:?}"))?;
        if parsed.is_zero() {
            return Err(format!("{name} cannot be 0"));
        }
        Ok(parsed)
    };
    let interval = duration("__scrape_interval__")?;
    let timeout = duration("__scrape_timeout__")?;
    if timeout > interval {
        return Err(
            "scrape timeout cannot be greater than scrape interval (\"__scrape_timeout__\" > \"__scrape_interval__\")"
                .to_owned(),
        );
    }
    let flag = |name: &str| match labels.get(name).unwrap_or("false") {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        text => Err(format!("error parsing {name}: {text:?} is neither true nor false")),
    };
    let habits = HistogramHabits {
        native: flag(NATIVE)?,
        classic_too: flag(CLASSIC_TOO)?,
        custom_buckets: flag(CUSTOM_BUCKETS)?,
    };
    if labels.get("instance").is_none() {
        labels.set("instance", address.as_str());
    }
    let url = url(config, &labels, &address);
    let socket = labels.get("__unix_socket__").map(str::to_owned);
    labels.retain(|name, _| !name.starts_with("__"));
    Ok(ScrapeTarget {
        discovered: discovered.clone(),
        labels: labels.build(),
        url,
        socket,
        interval,
        timeout,
        habits,
    })
}

fn url(config: &ScrapeConfig, labels: &LabelsBuilder, address: &str) -> String {
    let mut params: BTreeMap<String, Vec<String>> = config.params.iter().cloned().collect();
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix("__param_") {
            let values = params.entry(name.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let scheme = labels.get("__scheme__").unwrap_or("http");
    let path = labels.get("__metrics_path__").unwrap_or("");
    let mut url = format!("{scheme}://{address}");
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    escape(path, |b| b"/-_.~$&+,:;=@!'()*%".contains(&b), &mut url);
    let mut separator = '?';
    for (name, value) in params
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
    {
        url.push(separator);
        separator = '&';
        escape(name, |b| b"-_.~".contains(&b), &mut url);
        url.push('=');
        escape(value, |b| b"-_.~".contains(&b), &mut url);
    }
    url
}

/// Letters, digits and what passes stay; the rest is percent-encoded.
fn escape(text: &str, passes: impl Fn(u8) -> bool, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || passes(b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
}

impl ScrapeTarget {
    /// What tells it from others of its job.
    pub fn hash(&self) -> u64 {
        let mut bytes = self.labels.as_bytes().to_vec();
        bytes.push(0xff);
        bytes.extend_from_slice(self.url.as_bytes());
        bytes.push(0xff);
        bytes.extend_from_slice(self.socket.as_deref().unwrap_or("").as_bytes());
        // FNV-1a: the same in every process, so that restarts keep the phase.
        fnv(&bytes)
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prometheus_config::PrometheusConfig;

    use super::*;

    fn found(job: &str, target: &[(&str, &str)]) -> Found {
        let text = format!("scrape_configs: [{job}]");
        let (config, _) = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None).unwrap();
        let target = target.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let group = TargetGroup {
            targets: vec![target],
            labels: vec![("env".to_owned(), "lab".to_owned())],
        };
        targets(&config.scrapes[0], &group).remove(0)
    }

    fn kept(job: &str, target: &[(&str, &str)]) -> (String, String) {
        match found(job, target) {
            Found::Kept(t) => (t.url, t.labels.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_gets_its_labels_and_url() {
        let a = [("__address__", "a:1")];
        assert_eq!(
            kept("{job_name: j}", &a),
            (
                "http://a:1/metrics".to_owned(),
                r#"{env="lab", instance="a:1", job="j"}"#.to_owned()
            )
        );
        let probe = "{job_name: j, metrics_path: /probe, params: {module: [http 2xx, x]}, relabel_configs: [\
                     {source_labels: [__address__], target_label: __param_target}, \
                     {source_labels: [__param_target], target_label: instance}, \
                     {target_label: __address__, replacement: 'blackbox:9115'}]}";
        assert_eq!(
            kept(probe, &[("__address__", "http://backend:5000/health")]),
            (
                "http://blackbox:9115/probe?module=http%202xx&module=x&target=http%3A%2F%2Fbackend%3A5000%2Fhealth"
                    .to_owned(),
                r#"{env="lab", instance="http://backend:5000/health", job="j"}"#.to_owned()
            )
        );
        let own = [
            ("__address__", "a"),
            ("__scheme__", "https"),
            ("__metrics_path__", "m?x"),
            ("env", "prod"),
        ];
        assert_eq!(
            kept("{job_name: j}", &own),
            (
                "https://a/m%3Fx".to_owned(),
                r#"{env="prod", instance="a", job="j"}"#.to_owned()
            )
        );
    }

    #[test]
    fn some_targets_are_dropped_or_cannot_be() {
        let drop = "{job_name: j, relabel_configs: [{source_labels: [env], regex: lab, action: drop}]}";
        assert!(matches!(found(drop, &[("__address__", "a")]), Found::Dropped(_)));
        for (target, why) in [
            (("env", "x"), "no address"),
            (("__address__", "http://a"), "is not a valid hostname"),
        ] {
            let Found::Bad(_, said) = found("{job_name: j}", &[target]) else {
                panic!()
            };
            assert!(said.contains(why), "{said}");
        }
        let Found::Bad(_, why) = found("{job_name: j}", &[("__address__", "a"), ("__scrape_timeout__", "5m")]) else {
            panic!()
        };
        assert!(why.contains("timeout cannot be greater"), "{why}");
    }
}
