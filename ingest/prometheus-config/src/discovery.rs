//! Where targets come from: lists in the file, files beside it, and services that know.

use std::path::PathBuf;
use std::time::Duration;

use crate::http_client::HttpClientConfig;
use crate::reader::{Fields, Reader};
use yaml_tree::{Node, Value};

/// Targets with labels in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Labels of each target, `__address__` among them.
    pub targets: Vec<Vec<(String, String)>>,
    /// Labels of all of them; a target's own win.
    pub labels: Vec<(String, String)>,
}

/// One source of targets.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// `static_configs`.
    Static(Vec<TargetGroup>),
    /// `file_sd_configs`.
    File(FileDiscovery),
    /// `http_sd_configs`.
    Http(HttpDiscovery),
    /// `dns_sd_configs`.
    Dns(DnsDiscovery),
    /// `docker_sd_configs`.
    Docker(DockerDiscovery),
    /// `kubernetes_sd_configs`.
    Kubernetes(KubernetesDiscovery),
}

/// Lists of targets in files that may change.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDiscovery {
    /// Paths; the last part of one may hold `*`, `?` and `[..]`.
    pub files: Vec<PathBuf>,
    /// How often they are read even if they do not seem to change.
    pub refresh_interval: Duration,
}

/// A list of targets from a server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpDiscovery {
    /// Where.
    pub url: String,
    /// How often.
    pub refresh_interval: Duration,
    /// How.
    pub client: HttpClientConfig,
}

/// What is asked of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DnsRecord {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

/// Targets by name.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsDiscovery {
    /// The names.
    pub names: Vec<String>,
    /// What is asked of each.
    pub record: DnsRecord,
    /// The port, where the record has none.
    pub port: u16,
    /// How often.
    pub refresh_interval: Duration,
}

/// The containers of a Docker daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerDiscovery {
    /// `unix:///var/run/docker.sock`, `tcp://host:port`, `http://` or `https://`.
    pub host: String,
    /// Port of containers that expose none.
    pub port: u16,
    /// The address of containers in the host's network.
    pub host_networking_host: String,
    /// Whether only one network of each container counts.
    pub match_first_network: bool,
    /// Filters of the daemon's list: name and values.
    pub filters: Vec<(String, Vec<String>)>,
    /// How often.
    pub refresh_interval: Duration,
    /// How.
    pub client: HttpClientConfig,
}

/// What becomes a target in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KubernetesRole {
    Node,
    Service,
    Pod,
    Endpoints,
    EndpointSlice,
    Ingress,
}

/// The objects of a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesDiscovery {
    /// What becomes a target.
    pub role: KubernetesRole,
    /// The API server; none: the cluster we run in.
    pub api_server: Option<String>,
    /// A kubeconfig file that names server and credentials.
    pub kubeconfig_file: Option<PathBuf>,
    /// Whether our own namespace is one of those looked at.
    pub own_namespace: bool,
    /// The namespaces looked at; none: all.
    pub namespaces: Vec<String>,
    /// Role, label selector, field selector.
    pub selectors: Vec<(String, String, String)>,
    /// Whether a pod's targets carry labels of their node.
    pub attach_node: bool,
    /// Whether targets carry labels of their namespace.
    pub attach_namespace: bool,
    /// How.
    pub client: HttpClientConfig,
}

/// Kinds of discovery that other servers know and this one does not.
const UNSUPPORTED: &[&str] = &[
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Takes every kind of discovery out of a map that has other fields too.
pub(crate) fn read(f: &mut Fields<'_>) -> Vec<Discovery> {
    let mut found = Vec::new();
    if f.has("static_configs") {
        found.push(Discovery::Static(f.each("static_configs", read_group)));
    }
    found.extend(f.each("file_sd_configs", read_file).into_iter().flatten());
    found.extend(f.each("http_sd_configs", read_http).into_iter().flatten());
    found.extend(f.each("dns_sd_configs", read_dns).into_iter().flatten());
    found.extend(f.each("docker_sd_configs", read_docker).into_iter().flatten());
    found.extend(f.each("kubernetes_sd_configs", read_kubernetes).into_iter().flatten());
    for key in UNSUPPORTED {
        let line = f.line_of(key);
        if f.node(key).is_some() {
            f.reader
                .warn(line, format!("{key} is not supported; none of its targets is scraped"));
        }
    }
    found
}

/// Target groups of a file of `file_sd_configs`, in YAML or (the same) JSON; the error has the line.
pub fn parse_target_groups(text: &str) -> Result<Vec<TargetGroup>, String> {
    let node = yaml_tree::parse(text).map_err(|e| format!("line {}: {}", e.line, e.what))?;
    let findings = std::cell::RefCell::default();
    let reader = Reader {
        file: "".into(),
        dir: PathBuf::new(),
        env: &|_| None,
        findings: &findings,
    };
    let groups: Vec<TargetGroup> = match &node.value {
        Value::List(items) => items.iter().map(|item| read_group(&reader, item)).collect(),
        _ if node.is_null() => Vec::new(),
        _ => {
            return Err(format!(
                "line {}: a list of target groups is expected, this is {}",
                node.line,
                node.kind()
            ));
        }
    };
    // Here what is unknown is an error, as a list that somebody's program writes is right or wrong.
    match findings.into_inner().into_iter().next() {
        Some(finding) => Err(format!("line {}: {}", finding.line, finding.what)),
        None => Ok(groups),
    }
}

fn read_group(reader: &Reader<'_>, node: &Node) -> TargetGroup {
    let mut f = reader.fields(node, "a target group");
    let targets = f.texts("targets");
    let labels = f.node("labels");
    let labels = labels.map_or_else(Vec::new, |node| reader.text_map(node, "labels"));
    if let Some((name, _)) = labels.iter().find(|(name, _)| name.is_empty()) {
        reader.error(f.line_of("labels"), format!("{name:?} is not a valid label name"));
    }
    f.finish();
    TargetGroup {
        targets: targets
            .into_iter()
            .map(|t| vec![("__address__".to_owned(), t)])
            .collect(),
        labels,
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn read_file(reader: &Reader<'_>, node: &Node) -> Option<Discovery> {
    let mut f = reader.fields(node, "file_sd_configs");
    let line = f.line_of("files");
    let files = f.texts("files");
    let refresh_interval = f.duration("refresh_interval").unwrap_or(SECONDS(300));
    f.finish();
    if files.is_empty() {
        reader.error(
            line,
            "file service discovery config must contain at least one path name",
        );
    }
    for file in &files {
        let is_known = [".json", ".yml", ".yaml"]
            .iter()
            .any(|end| file.to_ascii_lowercase().ends_with(end));
        if !is_known {
            reader.error(
                line,
                format!("path name {file:?} is not valid for file discovery; it ends in .json, .yml or .yaml"),
            );
        }
    }
    Some(Discovery::File(FileDiscovery {
        files: files.iter().map(|file| reader.path(file)).collect(),
        refresh_interval,
    }))
}

fn read_http(reader: &Reader<'_>, node: &Node) -> Option<Discovery> {
    let mut f = reader.fields(node, "http_sd_configs");
    let line = f.line_of("url");
    let url = f.string("url").unwrap_or_default();
    let refresh_interval = f.duration("refresh_interval").unwrap_or(SECONDS(60));
    let client = HttpClientConfig::read(&mut f);
    f.finish();
    if url.is_empty() {
        reader.error(line, "URL is missing");
    } else if !url.starts_with("http://") && !url.starts_with("https://") {
        reader.error(line, format!("URL scheme must be 'http' or 'https': {url:?}"));
    }
    Some(Discovery::Http(HttpDiscovery {
        url,
        refresh_interval,
        client,
    }))
}

fn read_dns(reader: &Reader<'_>, node: &Node) -> Option<Discovery> {
    let mut f = reader.fields(node, "dns_sd_configs");
    let names = f.texts("names");
    let record = match f.text("type").unwrap_or("SRV").to_ascii_uppercase().as_str() {
        "SRV" => DnsRecord::Srv,
        "A" => DnsRecord::A,
        "AAAA" => DnsRecord::Aaaa,
        "MX" => DnsRecord::Mx,
        "NS" => DnsRecord::Ns,
        other => {
            reader.error(f.line_of("type"), format!("invalid DNS-SD records type {other}"));
            DnsRecord::Srv
        }
    };
    let port = port(&mut f, 0);
    let refresh_interval = f.duration("refresh_interval").unwrap_or(SECONDS(30));
    if names.is_empty() {
        reader.error(node.line, "DNS-SD config must contain at least one SRV record name");
    }
    if record != DnsRecord::Srv && port == 0 {
        reader.error(
            node.line,
            "a port is required in DNS-SD configs for all record types except SRV",
        );
    }
    f.finish();
    Some(Discovery::Dns(DnsDiscovery {
        names,
        record,
        port,
        refresh_interval,
    }))
}

fn port(f: &mut Fields<'_>, default: u16) -> u16 {
    let line = f.line_of("port");
    match f.number("port") {
        None => default,
        Some(port) => u16::try_from(port).unwrap_or_else(|_| {
            f.reader.error(line, format!("port: {port} is no port"));
            default
        }),
    }
}

fn read_docker(reader: &Reader<'_>, node: &Node) -> Option<Discovery> {
    let mut f = reader.fields(node, "docker_sd_configs");
    let line = f.line_of("host");
    let host = f.string("host").unwrap_or_default();
    if host.is_empty() {
        reader.error(line, "host missing");
    } else if !["unix://", "tcp://", "http://", "https://"]
        .iter()
        .any(|s| host.starts_with(s))
    {
        reader.error(
            line,
            format!("host: {host:?} begins with none of unix://, tcp://, http://, https://"),
        );
    }
    let filters = f.each("filters", |reader, node| {
        let mut f = reader.fields(node, "a filter");
        let filter = (f.string("name").unwrap_or_default(), f.texts("values"));
        f.finish();
        filter
    });
    let docker = DockerDiscovery {
        host,
        port: port(&mut f, 80),
        host_networking_host: f
            .string("host_networking_host")
            .unwrap_or_else(|| "localhost".to_owned()),
        match_first_network: f.flag("match_first_network").unwrap_or(true),
        filters,
        refresh_interval: f.duration("refresh_interval").unwrap_or(SECONDS(60)),
        client: HttpClientConfig::read(&mut f),
    };
    f.finish();
    Some(Discovery::Docker(docker))
}

fn read_kubernetes(reader: &Reader<'_>, node: &Node) -> Option<Discovery> {
    let mut f = reader.fields(node, "kubernetes_sd_configs");
    let role = match f.text("role").unwrap_or("").to_ascii_lowercase().as_str() {
        "node" => KubernetesRole::Node,
        "service" => KubernetesRole::Service,
        "pod" => KubernetesRole::Pod,
        "endpoints" => KubernetesRole::Endpoints,
        "endpointslice" => KubernetesRole::EndpointSlice,
        "ingress" => KubernetesRole::Ingress,
        "" => {
            reader.error(
                node.line,
                "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)",
            );
            return None;
        }
        other => {
            reader.error(f.line_of("role"), format!("unknown Kubernetes SD role {other:?}"));
            return None;
        }
    };
    let (mut own_namespace, mut namespaces) = (false, Vec::new());
    if let Some(node) = f.node("namespaces") {
        let mut n = reader.fields(node, "namespaces");
        own_namespace = n.flag("own_namespace").unwrap_or(false);
        namespaces = n.texts("names");
        n.finish();
    }
    let selectors = f.each("selectors", |reader, node| {
        let mut s = reader.fields(node, "a selector");
        let selector = (
            s.string("role").unwrap_or_default().to_ascii_lowercase(),
            s.string("label").unwrap_or_default(),
            s.string("field").unwrap_or_default(),
        );
        s.finish();
        selector
    });
    let (mut attach_node, mut attach_namespace) = (false, false);
    if let Some(node) = f.node("attach_metadata") {
        let mut a = reader.fields(node, "attach_metadata");
        attach_node = a.flag("node").unwrap_or(false);
        attach_namespace = a.flag("namespace").unwrap_or(false);
        a.finish();
    }
    let kubernetes = KubernetesDiscovery {
        role,
        api_server: f.string("api_server").filter(|url| !url.is_empty()),
        kubeconfig_file: f.path("kubeconfig_file"),
        own_namespace,
        namespaces,
        selectors,
        attach_node,
        attach_namespace,
        client: HttpClientConfig::read(&mut f),
    };
    f.finish();
    if kubernetes.api_server.is_some() && kubernetes.kubeconfig_file.is_some() {
        reader.error(
            node.line,
            "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
        );
    }
    Some(Discovery::Kubernetes(kubernetes))
}
