//! `docker_sd_configs`: the containers of a Docker daemon, over its socket or TCP.
//!
//! One target for each network of a container and each TCP port that it exposes. `GET /containers/json` and
//! `GET /networks` are all that is asked.

use std::collections::{BTreeMap, HashMap};

use prometheus_config::{DockerDiscovery, TargetGroup};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::http::{Ask, Client, Kept, Network};
use super::{ANSWER_BYTES_MAX, ask_json, label_name};

const META: &str = "__meta_docker_";

/// Asks one daemon.
pub(super) struct Daemon {
    config: DockerDiscovery,
    base: String,
    socket: Option<String>,
    client: Client,
    kept: Kept,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    host_config: HostConfig,
    #[serde(default)]
    network_settings: Option<NetworkSettings>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default, rename = "NetworkID")]
    network_id: String,
    #[serde(default, rename = "IPAddress")]
    ip: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(default, rename = "IP")]
    ip: String,
    private_port: u16,
    #[serde(default)]
    public_port: u16,
    #[serde(default, rename = "Type")]
    kind: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerNetwork {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    ingress: bool,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Daemon {
    pub fn new(config: &DockerDiscovery, network: &Network) -> Daemon {
        let host = config.host.as_str();
        let (base, socket) = match host.strip_prefix("unix://") {
            Some(path) => ("http://localhost".to_owned(), Some(path.to_owned())),
            None => (
                host.replacen("tcp://", "http://", 1).trim_end_matches('/').to_owned(),
                None,
            ),
        };
        Daemon {
            client: Client::new(&config.client, network),
            config: config.clone(),
            base,
            socket,
            kept: Kept::default(),
        }
    }

    pub async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let filters: BTreeMap<&str, &Vec<String>> = self.config.filters.iter().map(|(n, v)| (n.as_str(), v)).collect();
        let filters = serde_json::to_string(&filters).unwrap_or_default();
        let query = if self.config.filters.is_empty() {
            String::new()
        } else {
            format!(
                "?filters={}",
                filters.bytes().map(|b| format!("%{b:02X}")).collect::<String>()
            )
        };
        let containers: Vec<Container> = self.get(&format!("/containers/json{query}")).await?;
        let networks: Vec<DockerNetwork> = self.get("/networks").await?;
        let targets = targets(&self.config, &containers, &networks);
        Ok(vec![TargetGroup {
            targets,
            labels: Vec::new(),
        }])
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, String> {
        let url = format!("{}{path}", self.base);
        let ask = Ask {
            url: &url,
            socket: self.socket.as_deref(),
            bytes_max: ANSWER_BYTES_MAX,
            ..Ask::default()
        };
        ask_json(&self.client, &ask, &mut self.kept, path, "the daemon").await
    }
}

type Labels = Vec<(String, String)>;

fn targets(config: &DockerDiscovery, containers: &[Container], networks: &[DockerNetwork]) -> Vec<Labels> {
    let by_id: HashMap<&str, &Container> = containers.iter().map(|c| (c.id.as_str(), c)).collect();
    let network_labels: HashMap<&str, Labels> = networks.iter().map(|n| (n.id.as_str(), of_network(n))).collect();
    let mut out = Vec::new();
    for container in containers {
        let Some(name) = container.names.first() else { continue };
        let mode = container.host_config.network_mode.as_str();
        let mut common = vec![
            (format!("{META}container_id"), container.id.clone()),
            (format!("{META}container_name"), name.clone()),
            (format!("{META}container_image"), container.image.clone()),
            (format!("{META}container_image_id"), container.image_id.clone()),
            (format!("{META}container_network_mode"), mode.to_owned()),
        ];
        for (name, value) in container.labels.iter().flatten() {
            common.push((format!("{META}container_label_{}", label_name(name)), value.clone()));
        }
        let mut attached = endpoints(container);
        // A container in another's network is found at that one's addresses.
        let mut lender = container;
        for _ in 0..MODES_MAX {
            let Some(id) = lender.host_config.network_mode.strip_prefix("container:") else {
                break;
            };
            let Some(next) = by_id.get(id) else { break };
            lender = next;
            if attached.is_empty() {
                attached = endpoints(lender);
            }
        }
        if config.match_first_network {
            // By the network's name; the map is sorted by it.
            attached.truncate(1);
        }
        for endpoint in attached {
            let mut of_network = common.clone();
            if let Some(labels) = network_labels.get(endpoint.network_id.as_str()) {
                of_network.extend(labels.iter().cloned());
            }
            of_network.push((format!("{META}network_ip"), endpoint.ip.clone()));
            let ports = container.ports.iter().flatten().filter(|port| port.kind == "tcp");
            let mut any = false;
            for port in ports {
                any = true;
                let mut labels = of_network.clone();
                labels.push((format!("{META}port_private"), port.private_port.to_string()));
                if port.public_port > 0 {
                    labels.push((format!("{META}port_public"), port.public_port.to_string()));
                    labels.push((format!("{META}port_public_ip"), port.ip.clone()));
                }
                labels.push(("__address__".to_owned(), at(&endpoint.ip, port.private_port)));
                out.push(labels);
            }
            if !any {
                let address = if mode == "host" {
                    config.host_networking_host.clone()
                } else {
                    at(&endpoint.ip, config.port)
                };
                of_network.push(("__address__".to_owned(), address));
                out.push(of_network);
            }
        }
    }
    out
}

/// Containers that lend one another their network, at most so many in a row.
const MODES_MAX: usize = 8;

fn endpoints(container: &Container) -> Vec<&Endpoint> {
    let networks = container.network_settings.as_ref().and_then(|s| s.networks.as_ref());
    networks.map_or_else(Vec::new, |networks| networks.values().collect())
}

fn at(ip: &str, port: u16) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn of_network(network: &DockerNetwork) -> Labels {
    let mut labels = vec![
        (format!("{META}network_id"), network.id.clone()),
        (format!("{META}network_name"), network.name.clone()),
        (format!("{META}network_scope"), network.scope.clone()),
        (format!("{META}network_internal"), network.internal.to_string()),
        (format!("{META}network_ingress"), network.ingress.to_string()),
    ];
    for (name, value) in network.labels.iter().flatten() {
        labels.push((format!("{META}network_label_{}", label_name(name)), value.clone()));
    }
    labels
}
