//! Settings: one table from which come the command line, the environment variables, the keys of the config file,
//! `--help` and the table in the README.
//!
//! A value given as a flag wins over the environment, that over the config file, that over the default. Everything is
//! parsed here, at the edge; inside, a [`Settings`] is valid because it exists.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::{DerivedMetrics, OtlpMetrics};
use prometheus_config::PrometheusConfig;
use storage::{KeepStreams, SyncMode};
use ui_api::PromqlOptions;

use crate::{log_retention, unknown_names};

/// One setting: its flag without dashes, default as text, and help.
pub struct Setting {
    /// `data-dir`; the environment variable is `TRILOBITE_DATA_DIR`, the key in the config file `data-dir` or `data_dir`.
    pub name: &'static str,
    /// Shown in help; empty for "none".
    pub default: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
    /// What a value looks like; empty for a switch.
    pub value: &'static str,
}

const fn setting(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        default,
        help,
        value,
    }
}

/// All settings, in the order in which they are documented.
pub const SETTINGS: &[Setting] = &[
    setting("data-dir", "DIR", "./trilobite-data", "Everything on disk"),
    setting(
        "prometheus-addr",
        "ADDR",
        "127.0.0.1:9090",
        "Prometheus HTTP API, remote write, /api/v1/otlp/v1/metrics, /metrics",
    ),
    setting(
        "loki-addr",
        "ADDR",
        "127.0.0.1:3100",
        "Loki HTTP API, push, tail, /otlp/v1/logs",
    ),
    setting(
        "tempo-addr",
        "ADDR",
        "127.0.0.1:3200",
        "Tempo HTTP API, and its gRPC streaming API on the same port (h2c)",
    ),
    setting(
        "otlp-http-addr",
        "ADDR",
        "127.0.0.1:4318",
        "OTLP/HTTP traces, metrics, logs: protobuf and JSON",
    ),
    setting(
        "otlp-grpc-addr",
        "ADDR",
        "127.0.0.1:4317",
        "OTLP/gRPC traces, metrics, logs",
    ),
    setting(
        "prometheus-config",
        "FILE",
        "",
        "An existing prometheus.yml: its targets are scraped; read again on SIGHUP",
    ),
    setting("retention-metrics", "AGE", "15d", "How long metrics are kept"),
    setting("retention-logs", "AGE", "7d", "How long logs are kept"),
    setting(
        "retention-stream",
        "SELECTOR=AGE[@PRIORITY];...",
        "",
        "How long log streams are kept that a selector picks, such as {env=\"dev\"}=24h; the highest priority wins, then the \
         shortest age. In the config file also a list as in Loki",
    ),
    setting("retention-traces", "AGE", "48h", "How long traces are kept"),
    setting(
        "retention-size",
        "BYTES",
        "",
        "Most bytes on disk (blocks, WAL, catalogue); the oldest day goes first",
    ),
    setting(
        "memory-limit",
        "BYTES",
        "75%",
        "Memory for heads and requests; a share is of the cgroup's or machine's",
    ),
    setting(
        "free-disk-reserve",
        "BYTES",
        "1GiB or 5%, the smaller",
        "Disk space never used; ingest is refused when less is free",
    ),
    setting(
        "wal-sync",
        "MODE",
        "always",
        "When an append is durable: always (group commit), interval (1s), never",
    ),
    setting(
        "rules-dir",
        "DIR",
        "",
        "Rule files *.yaml and *.yml, also in folders below: PromQL, and LogQL in a folder loki or named *.logql.yaml; read \
         again on SIGHUP",
    ),
    setting(
        "web-external-url",
        "URL",
        "",
        "Where people reach the Prometheus port, for links in alerts; else http://HOSTNAME:PORT",
    ),
    setting(
        "rules-for-outage-tolerance",
        "TIME",
        "1h",
        "How long an outage may last for alerts to go on where they were",
    ),
    setting(
        "rules-for-grace-period",
        "TIME",
        "10m",
        "After a restart, alerts that were pending fire no sooner; alerts whose for is shorter start anew",
    ),
    setting(
        "rules-resend-delay",
        "TIME",
        "1m",
        "Least time between two notifications of one alert",
    ),
    setting(
        "rules-max-concurrent",
        "N",
        "0",
        "Rule groups that are evaluated at once; 0: two per core",
    ),
    setting("enable-admin-api", "", "off", "Answer /api/v1/admin/*"),
    setting(
        "enable-lifecycle",
        "",
        "off",
        "Read --prometheus-config again on POST /-/reload too, not only on SIGHUP",
    ),
    setting("jaeger-addr", "ADDR", "off", "Jaeger query API (usually port 16686)"),
    setting("zipkin-addr", "ADDR", "off", "Zipkin spans in (usually port 9411)"),
    setting(
        "jaeger-grpc-addr",
        "ADDR",
        "off",
        "Jaeger spans in, gRPC (usually port 14250)",
    ),
    setting(
        "jaeger-thrift-addr",
        "ADDR",
        "off",
        "Jaeger spans in, Thrift over HTTP (usually port 14268)",
    ),
    setting(
        "jaeger-udp-addr",
        "ADDR,...",
        "off",
        "Jaeger spans in, Thrift over UDP: one or more addresses (usually ports 6831 and 6832), each of which takes the \
         compact and the binary protocol",
    ),
    setting(
        "jaeger-admin-addr",
        "ADDR",
        "auto",
        "Health of what is Jaeger here: / answers 200. auto: port 14269 when another Jaeger listener is on",
    ),
    setting(
        "loki-merge-structured-metadata",
        "on|off",
        "on",
        "Merge structured metadata into the stream labels of Loki results when the caller does not ask for it apart, as \
         Loki 3 does; off: one result stream per label set",
    ),
    setting(
        "deletion-mode",
        "MODE",
        "filter-and-delete",
        "What Loki's delete API does: filter-and-delete hides entries at once and removes them later, filter-only hides them, \
         disabled refuses requests",
    ),
    setting(
        "delete-request-cancel-period",
        "TIME",
        "24h",
        "How long a delete request can be cancelled; then the entries are removed from disk",
    ),
    setting("query-timeout", "TIME", "2m", "Longest run of a query"),
    setting(
        "enable-feature",
        "NAME,...",
        "",
        "Prometheus features that change PromQL results: promql-delayed-name-removal, use-start-timestamps, \
         type-and-unit-labels",
    ),
    setting("query-threads", "N", "0", "CPU threads for queries; 0: one per core"),
    setting(
        "max-body-size",
        "BYTES",
        "64MiB",
        "Largest request, before and after decompression",
    ),
    setting(
        "otlp-translation-strategy",
        "NAME",
        "UnderscoreEscapingWithSuffixes",
        "What OTLP names become in metrics: UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, \
         NoUTF8EscapingWithSuffixes or NoTranslation",
    ),
    setting(
        "otlp-promote-resource-attributes",
        "NAME,...",
        "",
        "OTLP resource attributes that become labels of every series",
    ),
    setting(
        "otlp-promote-all-resource-attributes",
        "on|off",
        "off",
        "All OTLP resource attributes do, but those ignored",
    ),
    setting(
        "otlp-ignore-resource-attributes",
        "NAME,...",
        "",
        "Not promoted when all are",
    ),
    setting(
        "otlp-keep-identifying-resource-attributes",
        "on|off",
        "off",
        "Keep service.name, service.namespace and service.instance.id in target_info",
    ),
    setting(
        "otlp-convert-histograms-to-nhcb",
        "on|off",
        "off",
        "OTLP explicit-bucket histograms become native histograms with custom buckets",
    ),
    setting(
        "otlp-promote-scope-metadata",
        "on|off",
        "off",
        "OTLP scope name, version, schema URL and attributes become labels otel_scope_*",
    ),
    setting(
        "otlp-label-name-underscore-sanitization",
        "on|off",
        "on",
        "A single leading _ of a label made from an attribute gets the prefix key",
    ),
    setting(
        "otlp-label-name-preserve-multiple-underscores",
        "on|off",
        "on",
        "Runs of _ in labels made from attributes stay as long as they are",
    ),
    setting(
        "otlp-convert-delta",
        "on|off",
        "on",
        "Add OTLP sums and histograms of delta temporality up to cumulative ones; off: refuse them",
    ),
    setting(
        "span-metrics",
        "on|off",
        "on",
        "Derive calls, latency and size from spans: traces_spanmetrics_*, as Tempo's generator does",
    ),
    setting(
        "span-metrics-dimensions",
        "NAME,...",
        "",
        "Attributes of resource or span that become labels of span metrics",
    ),
    setting(
        "service-graphs",
        "on|off",
        "on",
        "Derive requests between services from spans: traces_service_graph_*, for Grafana's service map",
    ),
    setting(
        "service-graphs-dimensions",
        "NAME,...",
        "service.namespace",
        "Attributes that become labels client_* and server_* of the service graph",
    ),
    setting(
        "service-graphs-wait",
        "TIME",
        "10s",
        "How long a client's or server's span waits for its other side",
    ),
    setting(
        "service-graphs-max-items",
        "N",
        "10000",
        "Spans that may wait; more are counted as dropped",
    ),
    setting(
        "derived-metrics-interval",
        "TIME",
        "15s",
        "How often metrics derived from spans are stored",
    ),
    setting(
        "derived-metrics-max-series",
        "N",
        "100000",
        "Most series derived from spans; what would need more counts for `{metric_overflow=\"true\"}`",
    ),
    setting("log-format", "FORMAT", "text", "Log lines on stderr: text or json"),
    setting("config", "FILE", "", "A YAML file with these settings as keys"),
];

/// A listen address, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not listening.
    Off,
    /// `host:port`; port 0 picks a free one.
    At(String),
}

/// Everything the process is told at start, parsed.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each field is the setting of the same name in SETTINGS
pub struct Settings {
    pub data_dir: PathBuf,
    pub prometheus_addr: Listen,
    pub loki_addr: Listen,
    pub tempo_addr: Listen,
    pub otlp_http_addr: Listen,
    pub otlp_grpc_addr: Listen,
    pub jaeger_addr: Listen,
    pub zipkin_addr: Listen,
    pub jaeger_grpc_addr: Listen,
    pub jaeger_thrift_addr: Listen,
    pub jaeger_udp_addr: Vec<String>,
    pub jaeger_admin_addr: Listen,
    /// Nobody asked for the admin listener by name, so it may be missing when its port is busy.
    pub jaeger_admin_is_auto: bool,
    pub prometheus_config: Option<PathBuf>,
    /// What is in that file; without one, nothing is scraped.
    pub prometheus: PrometheusConfig,
    pub rules_dir: Option<PathBuf>,
    pub web_external_url: Option<String>,
    pub rules_for_outage_tolerance: Duration,
    pub rules_for_grace_period: Duration,
    pub rules_resend_delay: Duration,
    pub rules_max_concurrent: usize,
    pub retention_metrics: Duration,
    pub retention_logs: Duration,
    pub retention_stream: Vec<KeepStreams>,
    pub deletion_mode: DeletionMode,
    pub delete_request_cancel_period: Duration,
    pub retention_traces: Duration,
    pub retention_size: Option<u64>,
    pub memory_limit: Share,
    pub free_disk_reserve: Option<u64>,
    pub wal_sync: SyncMode,
    pub enable_admin_api: bool,
    pub enable_lifecycle: bool,
    pub loki_merge_structured_metadata: bool,
    pub query_timeout: Duration,
    /// How PromQL is evaluated when nobody asks otherwise.
    pub promql: PromqlOptions,
    pub query_threads: usize,
    pub max_body_size: u64,
    /// The settings `otlp-*` but for the listeners'.
    pub otlp_metrics: OtlpMetrics,
    /// The settings `span-metrics*`, `service-graphs*` and `derived-metrics-*`.
    pub derived_metrics: DerivedMetrics,
    pub log_format: LogFormat,
    /// Every setting as text, for `status/flags`.
    pub as_text: Vec<(String, String)>,
    /// Things to say once logging works.
    pub warnings: Vec<String>,
}

/// Bytes, or a share of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths.
    Percent(f64),
}

/// What the delete API of logs does, as Loki names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionMode {
    /// It refuses.
    Disabled,
    /// Entries are hidden.
    FilterOnly,
    /// Entries are hidden, and removed when the request can no longer be cancelled.
    FilterAndDelete,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one JSON object per line.
    Json,
}

/// A setting that cannot be used; exit code 2.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsError(pub String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value with its source's words for messages.
type Sourced = (String, String);

/// Values by setting name.
type Values = BTreeMap<&'static str, Sourced>;

impl Settings {
    /// A setting as text; empty if it has none.
    pub fn text(&self, name: &str) -> &str {
        let found = self.as_text.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value)
    }

    /// From flags (by setting name), the environment, and the file that `config` names.
    pub fn gather(
        flags: &[(String, String)],
        env: impl Fn(&str) -> Option<String>,
        read: impl Fn(&Path) -> std::io::Result<String>,
    ) -> Result<Settings, SettingsError> {
        let mut values = Values::new();
        for s in SETTINGS {
            if let Some(v) = env(&env_name(s.name)) {
                values.insert(s.name, (v, env_name(s.name)));
            }
        }
        for (name, value) in flags {
            if let Some(s) = SETTINGS.iter().find(|s| s.name == name) {
                values.insert(s.name, (value.clone(), format!("--{name}")));
            }
        }
        if let Some((path, source)) = values.get("config").cloned() {
            let text = read(Path::new(&path)).map_err(|e| SettingsError(format!("{source}: {path}: {e}")))?;
            for (name, value) in from_file(&path, &text)? {
                values.entry(name).or_insert(value);
            }
        }
        let mut warnings = Vec::new();
        let mut prometheus = PrometheusConfig::default();
        if let Some((path, source)) = values
            .get("prometheus-config")
            .filter(|(path, _)| !path.is_empty())
            .cloned()
        {
            let text = read(Path::new(&path)).map_err(|e| SettingsError(format!("{source}: {path}: {e}")))?;
            let (config, findings) = read_prometheus(Path::new(&path), &text, &env).map_err(SettingsError)?;
            warnings.extend(findings);
            // Its section `otlp` says what ours say too; ours win.
            for (key, value, line) in &config.otlp {
                let name = format!("otlp-{}", key.replace('_', "-"));
                match SETTINGS.iter().find(|s| s.name == name) {
                    Some(s) => {
                        let of = format!("{path}:{line}: {key}");
                        values.entry(s.name).or_insert((value.clone(), of));
                    }
                    None => warnings.push(format!("{path}:{line}: unknown key {key:?} in otlp is ignored")),
                }
            }
            prometheus = config;
        }
        Settings::parse(values, prometheus, warnings)
    }

    fn parse(
        values: Values,
        prometheus: PrometheusConfig,
        mut warnings: Vec<String>,
    ) -> Result<Settings, SettingsError> {
        let jaeger_addr = one(&values, "jaeger-addr", listen)?;
        let jaeger_grpc_addr = one(&values, "jaeger-grpc-addr", listen)?;
        let jaeger_thrift_addr = one(&values, "jaeger-thrift-addr", listen)?;
        let jaeger_udp_addr = one(&values, "jaeger-udp-addr", listen_list)?;
        let admin = one(&values, "jaeger-admin-addr", listen_or_auto)?;
        let jaeger_admin_is_auto = admin.is_none();
        let jaeger_admin_addr = admin.unwrap_or_else(|| {
            let tcp = [&jaeger_addr, &jaeger_grpc_addr, &jaeger_thrift_addr];
            let on = tcp.into_iter().filter_map(|listen| match listen {
                Listen::At(at) => Some(at),
                Listen::Off => None,
            });
            on.chain(&jaeger_udp_addr)
                .next()
                .map_or(Listen::Off, |at| admin_beside(at))
        });
        let path = |name| {
            values
                .get(name)
                .filter(|(v, _)| !v.is_empty())
                .map(|(v, _)| PathBuf::from(v))
        };
        let (promql, unknown) = features(&one(&values, "enable-feature", names)?);
        warnings.extend(unknown);
        let settings = Settings {
            data_dir: path("data-dir").unwrap_or_else(|| PathBuf::from("./trilobite-data")),
            prometheus_addr: one(&values, "prometheus-addr", listen)?,
            loki_addr: one(&values, "loki-addr", listen)?,
            tempo_addr: one(&values, "tempo-addr", listen)?,
            otlp_http_addr: one(&values, "otlp-http-addr", listen)?,
            otlp_grpc_addr: one(&values, "otlp-grpc-addr", listen)?,
            jaeger_addr,
            zipkin_addr: one(&values, "zipkin-addr", listen)?,
            jaeger_grpc_addr,
            jaeger_thrift_addr,
            jaeger_udp_addr,
            jaeger_admin_addr,
            jaeger_admin_is_auto,
            prometheus_config: path("prometheus-config"),
            prometheus,
            rules_dir: path("rules-dir"),
            web_external_url: optional(&values, "web-external-url", url)?,
            rules_for_outage_tolerance: one(&values, "rules-for-outage-tolerance", age_or_none)?,
            rules_for_grace_period: one(&values, "rules-for-grace-period", age_or_none)?,
            rules_resend_delay: one(&values, "rules-resend-delay", age_or_none)?,
            rules_max_concurrent: one(&values, "rules-max-concurrent", whole)?,
            retention_metrics: one(&values, "retention-metrics", age)?,
            retention_logs: one(&values, "retention-logs", age)?,
            retention_stream: one(&values, "retention-stream", log_retention::parse)?,
            deletion_mode: one(&values, "deletion-mode", deletion_mode)?,
            delete_request_cancel_period: one(&values, "delete-request-cancel-period", age_or_none)?,
            retention_traces: one(&values, "retention-traces", age)?,
            retention_size: optional(&values, "retention-size", bytes)?,
            memory_limit: one(&values, "memory-limit", share)?,
            free_disk_reserve: optional(&values, "free-disk-reserve", bytes)?,
            wal_sync: one(&values, "wal-sync", sync_mode)?,
            enable_admin_api: one(&values, "enable-admin-api", switch)?,
            enable_lifecycle: one(&values, "enable-lifecycle", switch)?,
            loki_merge_structured_metadata: one(&values, "loki-merge-structured-metadata", switch)?,
            query_timeout: one(&values, "query-timeout", age)?,
            promql,
            query_threads: one(&values, "query-threads", whole)?,
            max_body_size: one(&values, "max-body-size", bytes)?,
            otlp_metrics: otlp_metrics(&values)?,
            derived_metrics: derived_metrics(&values)?,
            log_format: one(&values, "log-format", log_format)?,
            as_text: SETTINGS
                .iter()
                .map(|s| {
                    let value = values.get(s.name).map_or(s.default, |(v, _)| v.as_str());
                    (s.name.to_owned(), value.to_owned())
                })
                .collect(),
            warnings,
        };
        Ok(settings)
    }
}

/// The text of a prometheus.yml as a configuration and what there is to warn of; else what is wrong, a line each.
pub fn read_prometheus(
    path: &Path,
    text: &str,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<(PrometheusConfig, Vec<String>), String> {
    match PrometheusConfig::read(path, text, env) {
        Ok((config, findings)) => {
            let warnings = findings.iter().map(ToString::to_string).collect();
            Ok((config, warnings))
        }
        Err(findings) => {
            let errors = findings.iter().filter(|f| !f.is_warning).map(ToString::to_string);
            Err(errors.collect::<Vec<_>>().join("\n"))
        }
    }
}

fn otlp_metrics(values: &Values) -> Result<OtlpMetrics, SettingsError> {
    let on = |name| one(values, name, switch);
    let list = |name| one(values, name, names);
    Ok(OtlpMetrics {
        translation_strategy: one(values, "otlp-translation-strategy", str::parse)?,
        promote_resource_attributes: list("otlp-promote-resource-attributes")?,
        promote_all_resource_attributes: on("otlp-promote-all-resource-attributes")?,
        ignore_resource_attributes: list("otlp-ignore-resource-attributes")?,
        keep_identifying_resource_attributes: on("otlp-keep-identifying-resource-attributes")?,
        convert_histograms_to_nhcb: on("otlp-convert-histograms-to-nhcb")?,
        promote_scope_metadata: on("otlp-promote-scope-metadata")?,
        label_name_underscore_sanitization: on("otlp-label-name-underscore-sanitization")?,
        label_name_preserve_multiple_underscores: on("otlp-label-name-preserve-multiple-underscores")?,
        convert_delta: on("otlp-convert-delta")?,
    })
}

fn derived_metrics(values: &Values) -> Result<DerivedMetrics, SettingsError> {
    Ok(DerivedMetrics {
        span_metrics: one(values, "span-metrics", switch)?,
        span_metrics_dimensions: one(values, "span-metrics-dimensions", names)?,
        service_graphs: one(values, "service-graphs", switch)?,
        service_graphs_dimensions: one(values, "service-graphs-dimensions", names)?,
        service_graphs_wait: one(values, "service-graphs-wait", age)?,
        service_graphs_max_items: one(values, "service-graphs-max-items", whole)?,
        interval: one(values, "derived-metrics-interval", age)?,
        max_series: one(values, "derived-metrics-max-series", whole)?,
    })
}

/// `data-dir` -> `TRILOBITE_DATA_DIR`.
pub fn env_name(name: &str) -> String {
    format!("TRILOBITE_{}", name.to_uppercase().replace('-', "_"))
}

fn one<T>(values: &Values, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, SettingsError> {
    let default = SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
    match values.get(name) {
        Some((v, source)) => {
            parse(v).map_err(|want| SettingsError(format!("{source}: {v:?} is not valid; expected {want}")))
        }
        None => parse(default).map_err(|want| SettingsError(format!("--{name}: expected {want}"))),
    }
}

fn optional<T>(
    values: &Values,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    match values.get(name) {
        Some((v, _)) if !v.is_empty() && v != "0" => one(values, name, parse).map(Some),
        _ => Ok(None),
    }
}

fn from_file(path: &str, text: &str) -> Result<Vec<(&'static str, Sourced)>, SettingsError> {
    let parsed: Option<BTreeMap<String, serde_json::Value>> =
        serde_saphyr::from_str(text).map_err(|e| SettingsError(format!("{path}: {e}")))?;
    let mut out = Vec::new();
    for (key, value) in parsed.unwrap_or_default() {
        match value {
            // As prometheus.yml has it: `otlp: {translation_strategy: ..}` is `otlp-translation-strategy`.
            serde_json::Value::Object(section) if key == "otlp" => {
                for (name, value) in section {
                    out.push(one_from_file(path, text, Some("otlp"), &name, value)?);
                }
            }
            value => out.push(one_from_file(path, text, None, &key, value)?),
        }
    }
    Ok(out)
}

/// The setting that the file calls `key`, in this section if in any.
fn one_from_file(
    path: &str,
    text: &str,
    section: Option<&str>,
    key: &str,
    value: serde_json::Value,
) -> Result<(&'static str, Sourced), SettingsError> {
    let line = text
        .lines()
        .position(|l| l.trim_start().starts_with(key))
        .map_or(1, |i| i + 1);
    let name = section.map_or(key.to_owned(), |section| format!("{section}-{key}"));
    let name = name.replace('_', "-");
    let Some(s) = SETTINGS.iter().find(|s| s.name == name && s.name != "config") else {
        return Err(SettingsError(format!(
            "{path}:{line}: {}",
            unknown_names::in_file(section, key)
        )));
    };
    let single = || SettingsError(format!("{path}:{line}: {key}: expected a single value"));
    let text = match value {
        serde_json::Value::Array(list)
            if s.name == "retention-stream" && list.iter().any(serde_json::Value::is_object) =>
        {
            log_retention::from_list(&list).map_err(|want| SettingsError(format!("{path}:{line}: {key}: {want}")))?
        }
        serde_json::Value::Array(list) => {
            let words = list.iter().map(|v| v.as_str().ok_or_else(single));
            words.collect::<Result<Vec<_>, _>>()?.join(",")
        }
        serde_json::Value::String(s) => s,
        serde_json::Value::Bool(b) => (if b { "on" } else { "off" }).to_owned(),
        serde_json::Value::Number(n) => n.to_string(),
        serde_json::Value::Null => String::new(),
        serde_json::Value::Object(_) => return Err(single()),
    };
    Ok((s.name, (text, format!("{path}:{line}: {key}"))))
}

fn listen(s: &str) -> Result<Listen, String> {
    match s {
        "off" | "" => Ok(Listen::Off),
        _ if s.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            let s = if let Some(port) = s.strip_prefix(':') {
                format!("0.0.0.0:{port}")
            } else {
                s.to_owned()
            };
            Ok(Listen::At(s))
        }
        _ => Err("host:port, :port, or off".to_owned()),
    }
}

fn url(s: &str) -> Result<String, String> {
    let rest = s.strip_prefix("http://").or_else(|| s.strip_prefix("https://"));
    rest.filter(|rest| !rest.is_empty() && !s.contains(|c: char| c.is_whitespace() || c.is_control()))
        .map(|_| s.to_owned())
        .ok_or_else(|| "a URL such as https://example.org/metrics".to_owned())
}

fn whole(s: &str) -> Result<usize, String> {
    s.parse().map_err(|_| "a whole number".to_owned())
}

/// Several names, separated by commas.
fn names(s: &str) -> Result<Vec<String>, String> {
    let names = s.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// Several addresses, separated by commas.
fn listen_list(s: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for one in s.split(',').map(str::trim) {
        match listen(one).map_err(|want| format!("{want}; several are separated by commas"))? {
            Listen::At(at) => out.push(at),
            Listen::Off => {}
        }
    }
    Ok(out)
}

/// `None`: to be derived from the other listeners.
fn listen_or_auto(s: &str) -> Result<Option<Listen>, String> {
    match s {
        "auto" => Ok(None),
        _ => listen(s).map(Some).map_err(|want| format!("{want}, or auto")),
    }
}

/// Jaeger's admin port on the same host; where ports are picked, one of these.
fn admin_beside(at: &str) -> Listen {
    match at.rsplit_once(':') {
        Some((host, "0")) => Listen::At(format!("{host}:0")),
        Some((host, _)) => Listen::At(format!("{host}:{JAEGER_ADMIN_PORT}")),
        None => Listen::Off,
    }
}

/// Where Jaeger answers health checks.
const JAEGER_ADMIN_PORT: u16 = 14269;

/// `15d`, `1h30m`, `500ms`, `2w`, `1y` (365 days); as Prometheus writes durations.
pub(crate) fn age(s: &str) -> Result<Duration, String> {
    let want = || "a duration such as 15d, 48h, 1h30m".to_owned();
    let mut rest = s;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let n: u64 = rest[..digits].parse().map_err(|_| want())?;
        rest = &rest[digits..];
        let unit_len = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms: u64 = match &rest[..unit_len] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return Err(want()),
        };
        rest = &rest[unit_len..];
        total_ms = n
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(want)?;
    }
    // A hundred years fit into ns; more is a typing error.
    (total_ms > 0 && total_ms <= 3_153_600_000_000)
        .then(|| Duration::from_millis(total_ms))
        .ok_or_else(want)
}

/// `512MB`, `1GiB`, `10GB`, `1048576`; as Prometheus, `KB` and `KiB` alike count 1024.
fn bytes(s: &str) -> Result<u64, String> {
    let want = || "a size such as 512MiB, 10GB or a number of bytes".to_owned();
    let digits = s.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let n: f64 = s[..digits].parse().map_err(|_| want())?;
    let unit = match s[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(want()),
    };
    let total = n * 1024f64.powi(unit);
    (1.0..1e18).contains(&total).then_some(total as u64).ok_or_else(want)
}

fn share(s: &str) -> Result<Share, String> {
    match s.strip_suffix('%') {
        Some(p) => match p.trim().parse::<f64>() {
            Ok(p) if p > 0.0 && p <= 100.0 => Ok(Share::Percent(p)),
            _ => Err("a size, or a share between 1% and 100%".to_owned()),
        },
        None => bytes(s).map(Share::Bytes),
    }
}

fn deletion_mode(s: &str) -> Result<DeletionMode, String> {
    match s {
        "disabled" => Ok(DeletionMode::Disabled),
        "filter-only" => Ok(DeletionMode::FilterOnly),
        "filter-and-delete" => Ok(DeletionMode::FilterAndDelete),
        _ => Err("disabled, filter-only or filter-and-delete".to_owned()),
    }
}

/// A time that may be 0.
fn age_or_none(s: &str) -> Result<Duration, String> {
    if s.trim_end_matches(char::is_alphabetic) == "0" {
        return Ok(Duration::ZERO);
    }
    age(s)
}

fn sync_mode(s: &str) -> Result<SyncMode, String> {
    match s {
        "always" => Ok(SyncMode::Always),
        "interval" => Ok(SyncMode::Interval(Duration::from_secs(1))),
        "never" => Ok(SyncMode::Never),
        _ => Err("always, interval or never".to_owned()),
    }
}

fn switch(s: &str) -> Result<bool, String> {
    match s {
        "on" | "true" | "1" | "yes" => Ok(true),
        "off" | "false" | "0" | "no" | "" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

/// The features that change results; those that are always on change nothing, others are warned of.
fn features(names: &[String]) -> (PromqlOptions, Vec<String>) {
    const ALWAYS_ON: [&str; 6] = [
        "promql-experimental-functions",
        "promql-duration-expr",
        "promql-extended-range-selectors",
        "promql-binop-fill-modifiers",
        "exemplar-storage",
        "native-histograms",
    ];
    let mut promql = PromqlOptions::DEFAULT;
    let mut warnings = Vec::new();
    for name in names {
        match name.as_str() {
            "promql-delayed-name-removal" => promql.delayed_name_removal = true,
            "use-start-timestamps" => promql.use_start_timestamps = true,
            "type-and-unit-labels" => promql.type_and_unit_labels = true,
            name if ALWAYS_ON.contains(&name) => {}
            name => warnings.push(format!("--enable-feature: {name:?} is accepted and has no effect")),
        }
    }
    (promql, warnings)
}

fn log_format(s: &str) -> Result<LogFormat, String> {
    match s {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: &[(&str, &str)], env: &[(&str, &str)], file: &str) -> Result<Settings, String> {
        let mut flags: Vec<(String, String)> = flags.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        if !file.is_empty() {
            flags.push(("config".to_owned(), "t.yaml".to_owned()));
        }
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Settings::gather(&flags, env, |_| Ok(file.to_owned())).map_err(|e| e.0)
    }

    #[test]
    fn flag_beats_env_beats_file_beats_default() {
        let file = "retention-logs: 1d\nretention_traces: 3h\nloki-addr: off\n";
        let s = check(&[("retention-logs", "2d")], &[("TRILOBITE_RETENTION_LOGS", "3d")], file).unwrap();
        assert_eq!(s.retention_logs, Duration::from_secs(2 * 86_400));
        assert_eq!(s.retention_traces, Duration::from_secs(3 * 3600));
        assert_eq!(s.retention_metrics, Duration::from_secs(15 * 86_400));
        assert_eq!(s.loki_addr, Listen::Off);
        let s = check(&[], &[("TRILOBITE_RETENTION_LOGS", "3d")], file).unwrap();
        assert_eq!(s.retention_logs, Duration::from_secs(3 * 86_400));
    }

    #[test]
    fn bad_values_are_named_with_their_source() {
        for (result, message) in [
            (
                check(&[("wal-sync", "x")], &[], ""),
                r#"--wal-sync: "x" is not valid; expected always, interval or never"#,
            ),
            (
                check(&[], &[("TRILOBITE_LOKI_ADDR", "nine")], ""),
                r#"TRILOBITE_LOKI_ADDR: "nine" is not valid; expected host:port, :port, or off"#,
            ),
            (
                check(&[], &[], "data-dir: x\nretention-logs: never\n"),
                r#"t.yaml:2: retention-logs: "never" is not valid; expected a duration such as 15d, 48h, 1h30m"#,
            ),
            (
                check(&[], &[], "\ncolour: red\n"),
                r#"t.yaml:2: unknown setting "colour"; see trilobite --help"#,
            ),
            (
                check(
                    &[],
                    &[],
                    "# ours?\nglobal:\n  scrape_interval: 15s\nscrape_configs: []\n",
                ),
                r#"t.yaml:2: unknown setting "global"; if this is a prometheus.yml, give it to --prometheus-config"#,
            ),
        ] {
            assert_eq!(result.unwrap_err(), message);
        }
        assert!(check(&[], &[], "a: [").is_err());
        assert!(check(&[("retention-logs", "99999999999999999999d")], &[], "").is_err());
    }

    #[test]
    fn the_otlp_section_is_prometheus_ymls() {
        let file = "otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [service.name, host.name]\n  \
                    convert_histograms_to_nhcb: true\n";
        let s = check(&[("otlp-convert-delta", "off")], &[], file).unwrap();
        let want = OtlpMetrics {
            translation_strategy: ingest::Translation::NoTranslation,
            promote_resource_attributes: vec!["service.name".to_owned(), "host.name".to_owned()],
            convert_histograms_to_nhcb: true,
            convert_delta: false,
            ..OtlpMetrics::default()
        };
        assert_eq!(s.otlp_metrics, want);
        assert_eq!(check(&[], &[], "").unwrap().otlp_metrics, OtlpMetrics::default());
        let flag = check(&[("otlp-promote-resource-attributes", "a, b")], &[], file).unwrap();
        assert_eq!(flag.otlp_metrics.promote_resource_attributes, ["a", "b"]);
        assert_eq!(
            check(&[], &[], "otlp:\n  translation_strategy: Latin\n").unwrap_err(),
            "t.yaml:2: translation_strategy: \"Latin\" is not valid; expected UnderscoreEscapingWithSuffixes, \
             UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation"
        );
        assert_eq!(
            check(&[], &[], "otlp:\n  colour: red\n").unwrap_err(),
            r#"t.yaml:2: unknown setting "colour" in section "otlp"; see trilobite --help"#
        );
        assert!(check(&[], &[], "loki-addr: {a: b}\n").is_err());
    }

    #[test]
    fn metrics_are_derived_from_spans_by_default() {
        assert_eq!(
            check(&[], &[], "").map(|s| s.derived_metrics),
            Ok(DerivedMetrics::default())
        );
        let env = [
            ("TRILOBITE_SERVICE_GRAPHS", "off"),
            ("TRILOBITE_SERVICE_GRAPHS_DIMENSIONS", ""),
        ];
        let s = check(
            &[("span-metrics-dimensions", "http.method, zone")],
            &env,
            "service-graphs-wait: 3s\n",
        )
        .unwrap();
        let want = DerivedMetrics {
            span_metrics_dimensions: vec!["http.method".to_owned(), "zone".to_owned()],
            service_graphs: false,
            service_graphs_dimensions: Vec::new(),
            service_graphs_wait: Duration::from_secs(3),
            ..DerivedMetrics::default()
        };
        assert_eq!(s.derived_metrics, want);
        assert_eq!(
            check(&[("derived-metrics-max-series", "many")], &[], "").unwrap_err(),
            r#"--derived-metrics-max-series: "many" is not valid; expected a whole number"#
        );
    }

    #[test]
    fn features_of_prometheus_are_switched_on_by_name() {
        assert_eq!(check(&[], &[], "").map(|s| s.promql.delayed_name_removal), Ok(false));
        let names = "promql-delayed-name-removal, native-histograms,no-such";
        let s = check(&[("enable-feature", names)], &[], "").unwrap();
        assert!(s.promql.delayed_name_removal && !s.promql.use_start_timestamps);
        assert_eq!(
            s.warnings,
            [r#"--enable-feature: "no-such" is accepted and has no effect"#]
        );
    }

    #[test]
    fn jaeger_s_health_is_beside_its_other_listeners() {
        let admin =
            |flags: &[(&str, &str)]| check(flags, &[], "").map(|s| (s.jaeger_admin_addr, s.jaeger_admin_is_auto));
        let at = |at: &str| Listen::At(at.to_owned());
        assert_eq!(admin(&[]), Ok((Listen::Off, true)));
        assert_eq!(admin(&[("jaeger-addr", ":16686")]), Ok((at("0.0.0.0:14269"), true)));
        assert_eq!(admin(&[("jaeger-udp-addr", "[::1]:0")]), Ok((at("[::1]:0"), true)));
        let both = [("jaeger-addr", ":16686"), ("jaeger-admin-addr", "off")];
        assert_eq!(admin(&both), Ok((Listen::Off, false)));
        let udp = check(&[("jaeger-udp-addr", "127.0.0.1:6831, :6832")], &[], "");
        assert_eq!(
            udp.map(|s| s.jaeger_udp_addr),
            Ok(vec!["127.0.0.1:6831".to_owned(), "0.0.0.0:6832".to_owned()])
        );
        assert!(check(&[("jaeger-udp-addr", "127.0.0.1:6831,x")], &[], "").is_err());
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(bytes("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(bytes("512MB"), Ok(536_870_912));
        assert!(bytes("-1").is_err());
        assert_eq!(share("50%"), Ok(Share::Percent(50.0)));
        assert!(share("0%").is_err());
    }
}
