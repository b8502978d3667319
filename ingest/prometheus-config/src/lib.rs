//! `prometheus.yml`, read as it stands: what is scraped and how, which rule files there are, who is told of alerts.
//!
//! [`PrometheusConfig::read`] takes the text of a file and gives the whole of it as values that are valid because they exist, or
//! all that is wrong with it, each with file and line. Keys that are unknown, or known and without effect here, are
//! warnings: a file of another version starts. Whoever runs rules or tells of alerts finds their sections in the same
//! type. Rules for relabelling are here too, since targets, samples and alerts pass through them alike.
//!
//! Not here: what is done with it (`ingest`'s scrapes, the rules' evaluation).

mod discovery;
mod file_pattern;
mod http_client;
mod mask;
mod reader;
mod relabel;
mod scrape;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use discovery::{
    Discovery, DnsDiscovery, DnsRecord, DockerDiscovery, FileDiscovery, HttpDiscovery, KubernetesDiscovery,
    KubernetesRole, TargetGroup, parse_target_groups,
};
pub use file_pattern::files_matching;
pub use http_client::{Auth, HttpClientConfig, OAuth2, ProxyConfig, Secret, TlsConfig, TlsVersion};
pub use model::{parse_duration, print_duration};
pub use reader::Finding;
pub use relabel::{NameScheme, RelabelAction, RelabelRule, RuleField, relabel};
pub use scrape::{GlobalConfig, Limits, NameEscaping, ScrapeConfig, ScrapeProtocol};
pub use yaml_tree::{BadYaml, Key, Node, Value, parse as parse_yaml};

use reader::Reader;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrometheusConfig {
    /// What holds for all jobs.
    pub global: GlobalConfig,
    /// The jobs, in the order of the file.
    pub scrapes: Vec<ScrapeConfig>,
    /// Paths of rule files; their parts may hold `*`, `?` and `[..]`.
    pub rule_files: Vec<PathBuf>,
    /// Who is told of alerts.
    pub alerting: AlertingConfig,
    /// The section `otlp`: name and value (several are separated by commas), with the line.
    pub otlp: Vec<(String, String, u32)>,
    /// As YAML, without secrets.
    pub yaml: String,
}

/// The section `alerting`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertingConfig {
    /// Rules for alerts before they are sent.
    pub relabel: Vec<RelabelRule>,
    /// Who is told.
    pub alertmanagers: Vec<AlertmanagerConfig>,
}

/// Some Alertmanagers.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertmanagerConfig {
    /// `http` or `https`.
    pub scheme: String,
    /// Before the path of the API.
    pub path_prefix: String,
    /// Longest request.
    pub timeout: Duration,
    /// How they are asked.
    pub client: HttpClientConfig,
    /// Where they are found.
    pub discovery: Vec<Discovery>,
    /// Rules for them.
    pub relabel: Vec<RelabelRule>,
    /// Rules for the alerts they are sent.
    pub alert_relabel: Vec<RelabelRule>,
}

impl PrometheusConfig {
    /// Reads `text`, the contents of the file at `path`. Reads the files that `scrape_config_files` names, and asks
    /// `env` for variables. Gives warnings beside the configuration, or all findings if one of them is an error.
    pub fn read(
        path: &Path,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(PrometheusConfig, Vec<Finding>), Vec<Finding>> {
        let findings = RefCell::default();
        let reader = Reader {
            file: path.display().to_string().into(),
            dir: path.parent().unwrap_or(Path::new("")).to_owned(),
            env,
            findings: &findings,
        };
        let config = match yaml_tree::parse(text) {
            Ok(node) => read_top(&reader, &node),
            Err(e) => {
                reader.error(e.line, e.what);
                PrometheusConfig::default()
            }
        };
        let mut findings = findings.into_inner();
        findings.sort_by_key(|f| (f.is_warning, f.file.clone(), f.line));
        if findings.iter().any(|f| !f.is_warning) {
            return Err(findings);
        }
        Ok((config, findings))
    }
}

const ONLY_RECEIVES: &str = "this server receives, and sends nothing on";

fn read_top(reader: &Reader<'_>, node: &Node) -> PrometheusConfig {
    let mut f = reader.fields(node, "the configuration");
    let global = f.node("global");
    let global = global.map_or_else(GlobalConfig::default, |node| GlobalConfig::read(reader, node));
    let mut scrapes = f.each("scrape_configs", |reader, node| {
        (node.line, ScrapeConfig::read(reader, node, &global))
    });
    let mut jobs = HashSet::new();
    for (line, scrape) in &scrapes {
        if !jobs.insert(scrape.job_name.clone()) {
            reader.error(
                *line,
                format!("found multiple scrape configs with job name {:?}", scrape.job_name),
            );
        }
    }
    let line = f.line_of("scrape_config_files");
    for pattern in f.texts("scrape_config_files") {
        for (line, scrape) in read_scrape_files(reader, line, &pattern, &global) {
            if !jobs.insert(scrape.job_name.clone()) {
                reader.error(
                    line,
                    format!("found multiple scrape configs with job name {:?}", scrape.job_name),
                );
            }
            scrapes.push((line, scrape));
        }
    }
    let alerting = f.node("alerting");
    let config = PrometheusConfig {
        scrapes: scrapes.into_iter().map(|(_, scrape)| scrape).collect(),
        rule_files: f.texts("rule_files").iter().map(|p| reader.path(p)).collect(),
        alerting: alerting.map_or_else(AlertingConfig::default, |node| {
            read_alerting(reader, node, global.names())
        }),
        otlp: f.node("otlp").map_or_else(Vec::new, |node| read_otlp(reader, node)),
        yaml: mask::masked(node).to_yaml(),
        global,
    };
    f.no_effect(&[
        ("remote_write", ONLY_RECEIVES),
        ("remote_read", "what other servers hold is not asked for"),
        ("tracing", "its own requests are not traced"),
    ]);
    if let Some(node) = f.node("runtime") {
        let mut r = reader.fields(node, "runtime");
        r.accept(&["gogc"]);
        r.finish();
    }
    if let Some(node) = f.node("storage") {
        read_storage(reader, node);
    }
    f.finish();
    config
}

/// Any age and order is taken, and exemplars have no limit; so there is nothing to set.
fn read_storage(reader: &Reader<'_>, node: &Node) {
    let mut s = reader.fields(node, "storage");
    if let Some(node) = s.node("tsdb") {
        let mut t = reader.fields(node, "tsdb");
        t.accept(&["out_of_order_time_window", "stale_series_compaction_threshold"]);
        t.no_effect(&[("retention", "--retention-metrics and --retention-size say it")]);
        t.finish();
    }
    if let Some(node) = s.node("exemplars") {
        let mut e = reader.fields(node, "exemplars");
        e.accept(&["max_exemplars"]);
        e.finish();
    }
    s.finish();
}

/// Names are checked by whoever knows them.
fn read_otlp(reader: &Reader<'_>, node: &Node) -> Vec<(String, String, u32)> {
    let Value::Map(pairs) = &node.value else {
        reader.error(node.line, format!("otlp must be a map, this is {}", node.kind()));
        return Vec::new();
    };
    let mut out = Vec::new();
    for (key, value) in pairs {
        let text = match &value.value {
            Value::List(_) => reader.texts(value, &key.text).join(","),
            _ => match reader.text(value, &key.text) {
                Some(text) => text.to_owned(),
                None => continue,
            },
        };
        out.push((key.text.clone(), text, key.line));
    }
    out
}

fn read_scrape_files(reader: &Reader<'_>, line: u32, pattern: &str, global: &GlobalConfig) -> Vec<(u32, ScrapeConfig)> {
    let files = match files_matching(&reader.path(pattern)) {
        Ok(files) => files,
        Err(e) => {
            reader.error(line, format!("scrape_config_files: {pattern:?}: {e}"));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for file in files {
        let inner = Reader {
            file: file.display().to_string().into(),
            dir: file.parent().unwrap_or(Path::new("")).to_owned(),
            env: reader.env,
            findings: reader.findings,
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) => {
                inner.error(0, e.to_string());
                continue;
            }
        };
        match yaml_tree::parse(&text) {
            Ok(node) => {
                let mut f = inner.fields(&node, "a file of scrape configs");
                found.extend(f.each("scrape_configs", |_, node| {
                    (node.line, ScrapeConfig::read(&inner, node, global))
                }));
                f.finish();
            }
            Err(e) => inner.error(e.line, e.what),
        }
    }
    found
}

fn read_alerting(reader: &Reader<'_>, node: &Node, names: NameScheme) -> AlertingConfig {
    let rules = |reader: &Reader<'_>, node: &Node| RelabelRule::read(reader, node, names);
    let mut f = reader.fields(node, "alerting");
    let alerting = AlertingConfig {
        relabel: f.each("alert_relabel_configs", rules).into_iter().flatten().collect(),
        alertmanagers: f.each("alertmanagers", |reader, node| {
            let mut a = reader.fields(node, "an alertmanager");
            let version = a.text("api_version").unwrap_or("v2").to_owned();
            if version != "v2" {
                let line = a.line_of("api_version");
                reader.error(
                    line,
                    format!("expected Alertmanager api version to be one of [v2] but got {version}"),
                );
            }
            let alertmanager = AlertmanagerConfig {
                scheme: a.string("scheme").unwrap_or_else(|| "http".to_owned()),
                path_prefix: a.string("path_prefix").unwrap_or_default(),
                timeout: a.duration("timeout").unwrap_or(Duration::from_secs(10)),
                client: HttpClientConfig::read(&mut a),
                discovery: discovery::read(&mut a),
                relabel: a.each("relabel_configs", rules).into_iter().flatten().collect(),
                alert_relabel: a.each("alert_relabel_configs", rules).into_iter().flatten().collect(),
            };
            a.no_effect(&[("sigv4", "requests are not signed")]);
            a.finish();
            alertmanager
        }),
    };
    f.finish();
    alerting
}
