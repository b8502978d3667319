//! `kubernetes_sd_configs`: nodes, services, pods, endpoints, endpoint slices and ingresses of a cluster.
//!
//! The API server's lists are asked for in pages, every [`REFRESH`]. What becomes a target of each object, and with which labels, is in
//! [`super::kubernetes_targets`]. Inside a cluster the server, its certificate and our token are where every pod finds them.

use std::path::Path;
use std::time::Duration;

use prometheus_config::{Auth, KubernetesDiscovery, KubernetesRole, Secret, TargetGroup};
use serde_json::Value;

use super::super::http::{Ask, Client, Kept, Network};
use super::kubernetes_targets::{Objects, groups};
use super::{ANSWER_BYTES_MAX, ask_json};

/// How often the lists are asked for.
pub(super) const REFRESH: Duration = Duration::from_secs(15);
/// Objects of one page.
const PAGE: usize = 500;
/// Objects of one list.
const OBJECTS_MAX: usize = 200_000;
/// Where a pod finds its token, the server's certificate and its namespace.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Asks one API server.
pub(super) struct Cluster {
    config: KubernetesDiscovery,
    base: Result<String, String>,
    client: Client,
    kept: Kept,
}

impl Cluster {
    pub fn new(config: &KubernetesDiscovery, network: &Network) -> Cluster {
        let mut client = config.client.clone();
        let base = match (&config.api_server, &config.kubeconfig_file) {
            (Some(server), _) => Ok(server.trim_end_matches('/').to_owned()),
            (None, Some(path)) => Err(format!(
                "kubeconfig_file {} is not supported; name api_server",
                path.display()
            )),
            (None, None) => {
                let file = |name: &str| Secret::File(Path::new(ACCOUNT).join(name));
                client.auth = Auth::Header {
                    scheme: "Bearer".to_owned(),
                    credentials: file("token"),
                };
                client.tls.ca = Some(file("ca.crt"));
                // The name under which every cluster's server is known in its pods.
                Ok("https://kubernetes.default.svc".to_owned())
            }
        };
        Cluster {
            client: Client::new(&client, network),
            config: config.clone(),
            base,
            kept: Kept::default(),
        }
    }

    pub async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let namespaces = self.namespaces().await?;
        let role = self.config.role;
        let mut objects = Objects::default();
        let (path, word) = match role {
            KubernetesRole::Node => ("/api/v1/nodes", "node"),
            KubernetesRole::Service => ("/api/v1/services", "service"),
            KubernetesRole::Pod => ("/api/v1/pods", "pod"),
            KubernetesRole::Endpoints => ("/api/v1/endpoints", "endpoints"),
            KubernetesRole::EndpointSlice => ("/apis/discovery.k8s.io/v1/endpointslices", "endpointslice"),
            KubernetesRole::Ingress => ("/apis/networking.k8s.io/v1/ingresses", "ingress"),
        };
        let scoped = if role == KubernetesRole::Node {
            &[][..]
        } else {
            &namespaces
        };
        objects.main = self.list(path, word, scoped).await?;
        if matches!(role, KubernetesRole::Endpoints | KubernetesRole::EndpointSlice) {
            objects.services = self.list("/api/v1/services", "service", scoped).await?;
            objects.pods = self.list("/api/v1/pods", "pod", scoped).await?;
        }
        if self.config.attach_node && role != KubernetesRole::Node {
            objects.nodes = self.list("/api/v1/nodes", "node", &[]).await?;
        }
        if self.config.attach_namespace && role != KubernetesRole::Node {
            objects.namespaces = self.list("/api/v1/namespaces", "namespace", &[]).await?;
        }
        Ok(groups(role, &objects))
    }

    async fn namespaces(&self) -> Result<Vec<String>, String> {
        let mut names = self.config.namespaces.clone();
        if self.config.own_namespace {
            let path = Path::new(ACCOUNT).join("namespace");
            let own = tokio::fs::read_to_string(&path).await;
            names.push(
                own.map_err(|e| format!("own namespace: {}: {e}", path.display()))?
                    .trim()
                    .to_owned(),
            );
        }
        Ok(names)
    }

    /// All objects of a kind, in some namespaces or in all.
    async fn list(&mut self, path: &str, role: &str, namespaces: &[String]) -> Result<Vec<Value>, String> {
        let (group, kind) = path.rsplit_once('/').unwrap_or(("", path));
        let paths: Vec<String> = if namespaces.is_empty() {
            vec![path.to_owned()]
        } else {
            namespaces
                .iter()
                .map(|ns| format!("{group}/namespaces/{ns}/{kind}"))
                .collect()
        };
        let selector = self.config.selectors.iter().find(|(of, ..)| of == role);
        let mut query = format!("limit={PAGE}");
        if let Some((_, label, field)) = selector {
            for (name, value) in [("labelSelector", label), ("fieldSelector", field)] {
                if !value.is_empty() {
                    query.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
        }
        let mut all = Vec::new();
        for path in paths {
            let mut next = String::new();
            loop {
                let more = if next.is_empty() {
                    String::new()
                } else {
                    format!("&continue={}", encoded(&next))
                };
                let mut page = self.get(&format!("{path}?{query}{more}")).await?;
                if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                    all.extend(items);
                }
                next = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
                if all.len() > OBJECTS_MAX {
                    return Err(format!("{path}: more than {OBJECTS_MAX} objects"));
                }
                if next.is_empty() {
                    break;
                }
            }
        }
        Ok(all)
    }

    async fn get(&mut self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.base.as_ref().map_err(Clone::clone)?);
        let ask = Ask {
            url: &url,
            headers: &[(http::header::ACCEPT, "application/json")],
            bytes_max: ANSWER_BYTES_MAX,
            ..Ask::default()
        };
        ask_json(&self.client, &ask, &mut self.kept, path, "the server").await
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}
