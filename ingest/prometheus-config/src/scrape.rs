//! `global` and `scrape_configs`: what is scraped, how often, and what becomes of it.

use std::time::Duration;

use crate::discovery::{self, Discovery};
use crate::http_client::HttpClientConfig;
use crate::mask::masked;
use crate::reader::{Fields, Reader, expand};
use crate::relabel::{NameScheme, RelabelRule};
use model::print_duration;
use yaml_tree::{Key, Node, Value};

/// What holds for every job that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalConfig {
    /// Between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Longest scrape.
    pub scrape_timeout: Duration,
    /// Between two evaluations of a rule group.
    pub evaluation_interval: Duration,
    /// How far behind the moment rules look.
    pub rule_query_offset: Duration,
    /// Labels that tell this server from others, where its data leave it.
    pub external_labels: Vec<(String, String)>,
    limits: Limits,
    protocols: Vec<ScrapeProtocol>,
    names: NameScheme,
    escaping: NameEscaping,
    native_histograms: bool,
    convert_classic: bool,
    always_classic: bool,
    extra_metrics: bool,
}

/// A format targets may answer in, named as in `scrape_protocols`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ScrapeProtocol {
    PrometheusProto,
    PrometheusText004,
    PrometheusText100,
    OpenMetricsText001,
    OpenMetricsText100,
}

impl ScrapeProtocol {
    /// All of them, with their names.
    pub const ALL: [(&'static str, ScrapeProtocol); 5] = [
        ("PrometheusProto", ScrapeProtocol::PrometheusProto),
        ("PrometheusText0.0.4", ScrapeProtocol::PrometheusText004),
        ("PrometheusText1.0.0", ScrapeProtocol::PrometheusText100),
        ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetricsText001),
        ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetricsText100),
    ];

    fn name(self) -> &'static str {
        ScrapeProtocol::ALL
            .iter()
            .find(|(_, p)| *p == self)
            .map_or("", |(name, _)| name)
    }
}

const PROTOCOLS: [ScrapeProtocol; 4] = [
    ScrapeProtocol::OpenMetricsText100,
    ScrapeProtocol::OpenMetricsText001,
    ScrapeProtocol::PrometheusText100,
    ScrapeProtocol::PrometheusText004,
];

/// How targets are to write names that are not legacy names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NameEscaping {
    #[default]
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl NameEscaping {
    /// As it is spelt in the configuration and in `Accept`.
    pub fn as_str(self) -> &'static str {
        match self {
            NameEscaping::AllowUtf8 => "allow-utf-8",
            NameEscaping::Underscores => "underscores",
            NameEscaping::Dots => "dots",
            NameEscaping::Values => "values",
        }
    }
}

/// What a job may hold; 0: as much as it will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an answer, unpacked.
    pub body_size: u64,
    /// Samples of a scrape after relabelling.
    pub samples: u64,
    /// Labels of a sample.
    pub labels: u64,
    /// Bytes of a label's name.
    pub label_name_length: u64,
    /// Bytes of a label's value.
    pub label_value_length: u64,
    /// Targets of the job after relabelling.
    pub targets: u64,
    /// Dropped targets that are remembered.
    pub dropped_targets: u64,
}

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// Its name, and the value of `job`.
    pub job_name: String,
    /// Between two scrapes of a target.
    pub scrape_interval: Duration,
    /// Longest scrape.
    pub scrape_timeout: Duration,
    /// Formats asked for, the best first.
    pub protocols: Vec<ScrapeProtocol>,
    /// The format of answers that do not say theirs.
    pub fallback_protocol: Option<ScrapeProtocol>,
    /// Where on the target.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Parameters of the request.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether labels of samples win over labels of the target.
    pub honor_labels: bool,
    /// Whether times of samples count.
    pub honor_timestamps: bool,
    /// Whether series with times of their own end when they are missing.
    pub track_timestamps_staleness: bool,
    /// Whether gzip is asked for.
    pub enable_compression: bool,
    /// What it may hold.
    pub limits: Limits,
    /// Buckets of a native histogram beyond which its resolution is reduced; 0: none.
    pub native_histogram_bucket_limit: u64,
    /// Smallest growth from bucket to bucket; 0: any.
    pub native_histogram_min_bucket_factor: f64,
    /// Whether native histograms are asked for and stored.
    pub scrape_native_histograms: bool,
    /// Whether classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// Whether classic histograms are stored beside native ones.
    pub always_scrape_classic_histograms: bool,
    /// Whether `scrape_timeout_seconds` and two more are stored.
    pub extra_scrape_metrics: bool,
    /// Names that are accepted.
    pub names: NameScheme,
    /// How other names are asked for.
    pub escaping: NameEscaping,
    /// How targets are asked.
    pub client: HttpClientConfig,
    /// Rules for targets.
    pub relabel: Vec<RelabelRule>,
    /// Rules for samples.
    pub metric_relabel: Vec<RelabelRule>,
    /// Where targets come from.
    pub discovery: Vec<Discovery>,
    /// As YAML, with what was not said and without secrets.
    pub yaml: String,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        GlobalConfig {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::from_secs(10),
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::ZERO,
            external_labels: Vec::new(),
            limits: Limits::default(),
            protocols: PROTOCOLS.to_vec(),
            names: NameScheme::Utf8,
            escaping: NameEscaping::AllowUtf8,
            native_histograms: false,
            convert_classic: false,
            always_classic: false,
            extra_metrics: false,
        }
    }
}

impl GlobalConfig {
    pub(crate) fn names(&self) -> NameScheme {
        self.names
    }

    pub(crate) fn read(reader: &Reader<'_>, node: &Node) -> GlobalConfig {
        let mut f = reader.fields(node, "global");
        let d = GlobalConfig::default();
        let or = |given: Option<Duration>, default: Duration| given.filter(|d| !d.is_zero()).unwrap_or(default);
        let scrape_interval = or(f.duration("scrape_interval"), d.scrape_interval);
        let timeout = f.duration("scrape_timeout").filter(|t| !t.is_zero());
        if timeout.is_some_and(|t| t > scrape_interval) {
            reader.error(
                f.line_of("scrape_timeout"),
                "global scrape timeout greater than scrape interval",
            );
        }
        let names = read_names(&mut f);
        let global = GlobalConfig {
            scrape_interval,
            scrape_timeout: timeout.unwrap_or(d.scrape_timeout.min(scrape_interval)),
            evaluation_interval: or(f.duration("evaluation_interval"), d.evaluation_interval),
            rule_query_offset: f.duration("rule_query_offset").unwrap_or_default(),
            external_labels: read_external_labels(&mut f),
            limits: read_limits(&mut f, Limits::default()),
            names: names.unwrap_or_default(),
            escaping: read_escaping(&mut f).unwrap_or_default(),
            native_histograms: f.flag("scrape_native_histograms").unwrap_or(false),
            protocols: Vec::new(),
            convert_classic: f.flag("convert_classic_histograms_to_nhcb").unwrap_or(false),
            always_classic: f.flag("always_scrape_classic_histograms").unwrap_or(false),
            extra_metrics: f.flag("extra_scrape_metrics").unwrap_or(false),
        };
        let protocols = read_protocols(&mut f).unwrap_or_else(|| default_protocols(global.native_histograms));
        let not_logged = "queries and failed scrapes are not logged to a file";
        f.no_effect(&[("query_log_file", not_logged), ("scrape_failure_log_file", not_logged)]);
        f.finish();
        GlobalConfig { protocols, ..global }
    }
}

fn default_protocols(native_histograms: bool) -> Vec<ScrapeProtocol> {
    let first = native_histograms.then_some(ScrapeProtocol::PrometheusProto);
    first.into_iter().chain(PROTOCOLS).collect()
}

fn read_external_labels(f: &mut Fields<'_>) -> Vec<(String, String)> {
    let reader = f.reader;
    let Some(node) = f.node("external_labels") else {
        return Vec::new();
    };
    let mut labels = reader.text_map(node, "external_labels");
    for (name, value) in &mut labels {
        let line = match &node.value {
            Value::Map(pairs) => pairs
                .iter()
                .find(|(k, _)| k.text == *name)
                .map_or(node.line, |(k, _)| k.line),
            _ => node.line,
        };
        if name.is_empty() {
            reader.error(line, "\"\" is not a valid label name");
        }
        *value = expand(value, reader.env, |variable| {
            reader.warn(
                line,
                format!("external label {name}: ${variable} is not set in the environment"),
            );
        });
    }
    labels
}

fn read_limits(f: &mut Fields<'_>, default: Limits) -> Limits {
    // 0 is "not said", as in Prometheus.
    let mut or = |key: &str, default: u64| f.number(key).filter(|n| *n > 0).unwrap_or(default);
    let limits = Limits {
        body_size: 0,
        samples: or("sample_limit", default.samples),
        labels: or("label_limit", default.labels),
        label_name_length: or("label_name_length_limit", default.label_name_length),
        label_value_length: or("label_value_length_limit", default.label_value_length),
        targets: or("target_limit", default.targets),
        dropped_targets: or("keep_dropped_targets", default.dropped_targets),
    };
    let body_size = f.bytes("body_size_limit").filter(|n| *n > 0);
    Limits {
        body_size: body_size.unwrap_or(default.body_size),
        ..limits
    }
}

fn read_protocols(f: &mut Fields<'_>) -> Option<Vec<ScrapeProtocol>> {
    if !f.has("scrape_protocols") {
        return None;
    }
    let line = f.line_of("scrape_protocols");
    let names = f.texts("scrape_protocols");
    if names.is_empty() {
        f.reader.error(line, "scrape_protocols cannot be empty");
    }
    let mut protocols = Vec::new();
    for name in names {
        match protocol_named(&name) {
            Some(p) if protocols.contains(&p) => {
                f.reader
                    .error(line, format!("duplicated protocol in scrape_protocols: {name}"));
            }
            Some(p) => protocols.push(p),
            None => f.reader.error(line, unknown_protocol(&name)),
        }
    }
    Some(protocols)
}

fn protocol_named(name: &str) -> Option<ScrapeProtocol> {
    ScrapeProtocol::ALL.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
}

fn unknown_protocol(name: &str) -> String {
    let known = ScrapeProtocol::ALL.map(|(name, _)| name).join(", ");
    format!("unknown scrape protocol {name}, supported: {known}")
}

fn read_names(f: &mut Fields<'_>) -> Option<NameScheme> {
    let line = f.line_of("metric_name_validation_scheme");
    match f.text("metric_name_validation_scheme")? {
        "utf8" => Some(NameScheme::Utf8),
        "legacy" => Some(NameScheme::Legacy),
        "" => None,
        other => {
            f.reader.error(
                line,
                format!("unknown metric_name_validation_scheme {other:?}, must be either 'legacy' or 'utf8'"),
            );
            None
        }
    }
}

fn read_escaping(f: &mut Fields<'_>) -> Option<NameEscaping> {
    let line = f.line_of("metric_name_escaping_scheme");
    match f.text("metric_name_escaping_scheme")? {
        "allow-utf-8" => Some(NameEscaping::AllowUtf8),
        "underscores" => Some(NameEscaping::Underscores),
        "dots" => Some(NameEscaping::Dots),
        "values" => Some(NameEscaping::Values),
        "" => None,
        other => {
            f.reader.error(line, format!("unknown metric_name_escaping_scheme {other:?}, must be one of 'allow-utf-8', 'underscores', 'dots' or 'values'"));
            None
        }
    }
}

impl ScrapeConfig {
    pub(crate) fn read(reader: &Reader<'_>, node: &Node, global: &GlobalConfig) -> ScrapeConfig {
        let mut f = reader.fields(node, "a scrape config");
        let job_name = f.string("job_name").unwrap_or_default();
        if job_name.is_empty() {
            reader.error(node.line, "job_name is empty");
        }
        let set = |d: Option<Duration>| d.filter(|d| !d.is_zero());
        let scrape_interval = set(f.duration("scrape_interval")).unwrap_or(global.scrape_interval);
        let timeout = set(f.duration("scrape_timeout"));
        if timeout.is_some_and(|t| t > scrape_interval) {
            let line = f.line_of("scrape_timeout");
            reader.error(
                line,
                format!("scrape timeout greater than scrape interval for scrape config with job name {job_name:?}"),
            );
        }
        let names = read_names(&mut f).unwrap_or(global.names);
        let escaping = read_escaping(&mut f);
        let native = f.flag("scrape_native_histograms");
        let protocols = read_protocols(&mut f).unwrap_or_else(|| match native {
            Some(native) if native != global.native_histograms => default_protocols(native),
            _ => global.protocols.clone(),
        });
        let old_classic = f.flag("scrape_classic_histograms");
        let rules = |reader: &Reader<'_>, node: &Node| RelabelRule::read(reader, node, names);
        let mut config = ScrapeConfig {
            scrape_interval,
            scrape_timeout: timeout.unwrap_or(global.scrape_timeout.min(scrape_interval)),
            protocols,
            fallback_protocol: read_fallback(&mut f),
            metrics_path: f.string("metrics_path").unwrap_or_else(|| "/metrics".to_owned()),
            scheme: f
                .string("scheme")
                .unwrap_or_else(|| "http".to_owned())
                .to_ascii_lowercase(),
            params: read_params(&mut f),
            honor_labels: f.flag("honor_labels").unwrap_or(false),
            honor_timestamps: f.flag("honor_timestamps").unwrap_or(true),
            track_timestamps_staleness: f.flag("track_timestamps_staleness").unwrap_or(false),
            enable_compression: f.flag("enable_compression").unwrap_or(true),
            limits: read_limits(&mut f, global.limits),
            native_histogram_bucket_limit: f.number("native_histogram_bucket_limit").unwrap_or(0),
            native_histogram_min_bucket_factor: f.float("native_histogram_min_bucket_factor").unwrap_or(0.0),
            scrape_native_histograms: native.unwrap_or(global.native_histograms),
            convert_classic_histograms_to_nhcb: f
                .flag("convert_classic_histograms_to_nhcb")
                .unwrap_or(global.convert_classic),
            always_scrape_classic_histograms: f
                .flag("always_scrape_classic_histograms")
                .or(old_classic)
                .unwrap_or(global.always_classic),
            extra_scrape_metrics: f.flag("extra_scrape_metrics").unwrap_or(global.extra_metrics),
            names,
            escaping: escaping.unwrap_or(
                if names == NameScheme::Legacy && global.escaping == NameEscaping::AllowUtf8 {
                    NameEscaping::Underscores
                } else {
                    global.escaping
                },
            ),
            client: HttpClientConfig::read(&mut f),
            relabel: f.each("relabel_configs", rules).into_iter().flatten().collect(),
            metric_relabel: f.each("metric_relabel_configs", rules).into_iter().flatten().collect(),
            discovery: discovery::read(&mut f),
            job_name,
            yaml: String::new(),
        };
        if config.relabel.is_empty()
            && let Some(address) = config.static_addresses().find(|address| address.contains('/'))
        {
            let line = f.line_of("static_configs");
            reader.error(line, format!("{address:?} is not a valid hostname"));
        }
        if !matches!(config.scheme.as_str(), "http" | "https") {
            reader.error(
                f.line_of("scheme"),
                format!("scheme: {:?} is neither http nor https", config.scheme),
            );
        }
        f.no_effect(&[("scrape_failure_log_file", "failed scrapes are not logged to a file")]);
        f.finish();
        config.yaml = config.printed(node).to_yaml();
        config
    }

    fn static_addresses(&self) -> impl Iterator<Item = &str> {
        let groups = self.discovery.iter().filter_map(|discovery| match discovery {
            Discovery::Static(groups) => Some(groups),
            _ => None,
        });
        let pairs = groups.flatten().flat_map(|group| group.targets.iter().flatten());
        pairs.map(|(_, address)| address.as_str())
    }

    /// With the fields that were not said, in the order in which they are documented, and without secrets.
    fn printed(&self, node: &Node) -> Node {
        let flag = |b: bool| Node::scalar(if b { "true" } else { "false" });
        let protocols = self.protocols.iter().map(|p| Node::scalar(p.name()));
        let names = match self.names {
            NameScheme::Utf8 => "utf8",
            NameScheme::Legacy => "legacy",
        };
        let defaults = [
            ("job_name", Node::scalar(&self.job_name)),
            ("honor_timestamps", flag(self.honor_timestamps)),
            ("track_timestamps_staleness", flag(self.track_timestamps_staleness)),
            ("scrape_interval", Node::scalar(print_duration(self.scrape_interval))),
            ("scrape_timeout", Node::scalar(print_duration(self.scrape_timeout))),
            ("scrape_protocols", Node::list(protocols)),
            ("scrape_native_histograms", flag(self.scrape_native_histograms)),
            (
                "always_scrape_classic_histograms",
                flag(self.always_scrape_classic_histograms),
            ),
            (
                "convert_classic_histograms_to_nhcb",
                flag(self.convert_classic_histograms_to_nhcb),
            ),
            ("metrics_path", Node::scalar(&self.metrics_path)),
            ("scheme", Node::scalar(&self.scheme)),
            ("enable_compression", flag(self.enable_compression)),
            ("metric_name_validation_scheme", Node::scalar(names)),
            ("metric_name_escaping_scheme", Node::scalar(self.escaping.as_str())),
            ("follow_redirects", flag(self.client.follow_redirects)),
            ("enable_http2", flag(self.client.enable_http2)),
        ];
        let given = masked(node);
        let mut pairs: Vec<(Key, Node)> = Vec::new();
        for (name, default) in defaults {
            let value = given.get(name).cloned().unwrap_or(default);
            let text = name.to_owned();
            pairs.push((
                Key {
                    line: 0,
                    column: 0,
                    text,
                },
                value,
            ));
        }
        if let Value::Map(given) = given.value {
            let others = given.into_iter().filter(|(k, _)| !defaults_hold(&pairs, &k.text));
            let others: Vec<_> = others.collect();
            pairs.extend(others);
        }
        Node {
            line: 0,
            column: 0,
            value: Value::Map(pairs),
        }
    }
}

fn defaults_hold(pairs: &[(Key, Node)], name: &str) -> bool {
    pairs.iter().any(|(k, _)| k.text == name)
}

fn read_fallback(f: &mut Fields<'_>) -> Option<ScrapeProtocol> {
    let line = f.line_of("fallback_scrape_protocol");
    let name = f.text("fallback_scrape_protocol").filter(|name| !name.is_empty())?;
    let protocol = protocol_named(name);
    if protocol.is_none() {
        f.reader.error(
            line,
            format!("invalid fallback_scrape_protocol: {}", unknown_protocol(name)),
        );
    }
    protocol
}

fn read_params(f: &mut Fields<'_>) -> Vec<(String, Vec<String>)> {
    let reader = f.reader;
    match f.node("params") {
        Some(Node {
            value: Value::Map(pairs),
            ..
        }) => {
            let mut params: Vec<(String, Vec<String>)> = pairs
                .iter()
                .map(|(name, values)| (name.text.clone(), reader.texts(values, "params")))
                .collect();
            params.sort();
            params
        }
        Some(node) => {
            reader.error(node.line, format!("params must be a map, this is {}", node.kind()));
            Vec::new()
        }
        None => Vec::new(),
    }
}
