//! `kubernetes_sd_configs`: nodes, services, pods, endpoints, endpoint slices and ingresses of a cluster.
//!
//! What the role needs is followed list by list ([`super::kubernetes_watch`]): listed once, then told of as it changes.
//! When all lists are there, and then whenever something has changed and a moment of quiet has passed, they become targets; of
//! which objects, and with which labels, is in [`super::kubernetes_targets`]. Server, certificate and credentials are those of the
//! configuration, of a kubeconfig file, or, inside a cluster, where every pod finds them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_config::{Auth, HttpClientConfig, KubernetesDiscovery, KubernetesRole, Secret};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::http::{Client, Network};
use super::kubernetes_targets::{Objects, groups, key};
use super::kubernetes_watch::{List, Seen, Server, follow};
use super::{TellTargets, kubeconfig};

/// How long to wait where nothing can be asked.
const RETRY: Duration = Duration::from_secs(15);
/// Changes within this time are told together.
const SETTLE: Duration = Duration::from_millis(250);
/// Changes on their way.
const QUEUE: usize = 256;
/// Objects of one list.
const OBJECTS_MAX: usize = 200_000;
/// Where a pod finds its token, the server's certificate and its namespace.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Main,
    Services,
    Pods,
    Nodes,
    Namespaces,
}

/// The objects of a list by namespace and name; `None` until it was listed.
type Held = Option<BTreeMap<(String, String), Value>>;

/// Tells of a cluster's targets until the task is dropped.
pub(super) async fn run(config: &KubernetesDiscovery, network: &Network, failures: &AtomicU64, tell: &TellTargets) {
    let mut faults = Faults {
        failures,
        last: String::new(),
    };
    let (server, namespaces) = loop {
        let found = async { Ok::<_, String>((server(config, network).await?, namespaces(config).await?)) };
        match found.await {
            Ok(found) => break found,
            Err(why) => faults.note(why),
        }
        tokio::time::sleep(RETRY).await;
    };
    let server = Arc::new(server);
    let lists = lists(config, &namespaces);
    let (told, mut seen) = mpsc::channel(QUEUE);
    // Dropping it ends the tasks.
    let mut following = JoinSet::new();
    for (place, (_, list)) in lists.iter().enumerate() {
        following.spawn(follow(server.clone(), list.clone(), place, told.clone()));
    }
    let mut held: Vec<Held> = vec![None; lists.len()];
    while let Some((place, first)) = seen.recv().await {
        let mut is_changed = faults.apply(first, &mut held[place]);
        let quiet = Instant::now() + SETTLE;
        while let Ok(Some((place, more))) = timeout_at(quiet, seen.recv()).await {
            is_changed |= faults.apply(more, &mut held[place]);
        }
        if is_changed && held.iter().all(Option::is_some) {
            let of = |purpose: Purpose| {
                let fitting = lists.iter().zip(&held).filter(move |((p, _), _)| *p == purpose);
                fitting
                    .flat_map(|(_, objects)| objects.iter().flat_map(BTreeMap::values))
                    .collect()
            };
            tell(groups(
                config.role,
                &Objects {
                    main: of(Purpose::Main),
                    services: of(Purpose::Services),
                    pods: of(Purpose::Pods),
                    nodes: of(Purpose::Nodes),
                    namespaces: of(Purpose::Namespaces),
                },
            ));
        }
    }
}

/// What goes wrong, told when it changes and not each time.
struct Faults<'a> {
    failures: &'a AtomicU64,
    last: String,
}

impl Faults<'_> {
    fn note(&mut self, why: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if why != self.last {
            tracing::warn!(source = "kubernetes_sd_configs", why, "discovery keeps what it knew");
            self.last = why;
        }
    }

    /// Takes in what was seen; says whether anything is different now.
    fn apply(&mut self, seen: Seen, held: &mut Held) -> bool {
        match seen {
            Seen::All(objects) => {
                *held = Some(objects.into_iter().map(|object| (key(&object), object)).collect());
                self.last.clear();
                true
            }
            Seen::Now(object) => {
                let held = held.get_or_insert_default();
                if held.len() >= OBJECTS_MAX {
                    self.note(format!("a list has more than {OBJECTS_MAX} objects"));
                    return false;
                }
                held.insert(key(&object), object);
                true
            }
            Seen::Gone(object) => held.as_mut().is_some_and(|held| held.remove(&key(&object)).is_some()),
            Seen::Fault(why) => {
                self.note(why);
                false
            }
        }
    }
}

/// Where the API server is, and how it is asked.
async fn server(config: &KubernetesDiscovery, network: &Network) -> Result<Server, String> {
    let mut client: HttpClientConfig = config.client.clone();
    let base = match (&config.api_server, &config.kubeconfig_file) {
        (Some(server), _) => server.clone(),
        (None, Some(path)) => {
            let text = tokio::fs::read_to_string(path).await;
            let read = text.map_err(|e| e.to_string());
            let dir = path.parent().unwrap_or(Path::new(""));
            let read = read.and_then(|text| kubeconfig::read(&text, dir, &mut client));
            read.map_err(|why| format!("kubeconfig_file {}: {why}", path.display()))?
        }
        (None, None) => {
            let file = |name: &str| Secret::File(Path::new(ACCOUNT).join(name));
            client.auth = Auth::Header {
                scheme: "Bearer".to_owned(),
                credentials: file("token"),
            };
            client.tls.ca = Some(file("ca.crt"));
            // The name under which every cluster's server is known in its pods.
            "https://kubernetes.default.svc".to_owned()
        }
    };
    Ok(Server {
        base: base.trim_end_matches('/').to_owned(),
        client: Client::new(&client, network),
    })
}

async fn namespaces(config: &KubernetesDiscovery) -> Result<Vec<String>, String> {
    let mut names = config.namespaces.clone();
    if config.own_namespace {
        let path = Path::new(ACCOUNT).join("namespace");
        let own = tokio::fs::read_to_string(&path).await;
        let own = own.map_err(|e| format!("own namespace: {}: {e}", path.display()))?;
        names.push(own.trim().to_owned());
    }
    Ok(names)
}

/// The lists that a role needs, in some namespaces or in all.
fn lists(config: &KubernetesDiscovery, namespaces: &[String]) -> Vec<(Purpose, List)> {
    let (path, word) = match config.role {
        KubernetesRole::Node => ("/api/v1/nodes", "node"),
        KubernetesRole::Service => ("/api/v1/services", "service"),
        KubernetesRole::Pod => ("/api/v1/pods", "pod"),
        KubernetesRole::Endpoints => ("/api/v1/endpoints", "endpoints"),
        KubernetesRole::EndpointSlice => ("/apis/discovery.k8s.io/v1/endpointslices", "endpointslice"),
        KubernetesRole::Ingress => ("/apis/networking.k8s.io/v1/ingresses", "ingress"),
    };
    let is_node = config.role == KubernetesRole::Node;
    let mut wanted = vec![(Purpose::Main, path, word, !is_node)];
    if matches!(config.role, KubernetesRole::Endpoints | KubernetesRole::EndpointSlice) {
        wanted.push((Purpose::Services, "/api/v1/services", "service", true));
        wanted.push((Purpose::Pods, "/api/v1/pods", "pod", true));
    }
    if config.attach_node && !is_node {
        wanted.push((Purpose::Nodes, "/api/v1/nodes", "node", false));
    }
    if config.attach_namespace && !is_node {
        wanted.push((Purpose::Namespaces, "/api/v1/namespaces", "namespace", false));
    }
    let mut lists = Vec::new();
    for (purpose, path, word, is_in_namespaces) in wanted {
        let mut query = String::new();
        if let Some((_, label, field)) = config.selectors.iter().find(|(of, ..)| of == word) {
            for (name, value) in [("labelSelector", label), ("fieldSelector", field)] {
                if !value.is_empty() {
                    query.push_str(&format!("&{name}={}", super::encoded(value)));
                }
            }
        }
        let (group, kind) = path.rsplit_once('/').unwrap_or(("", path));
        let paths: Vec<String> = if is_in_namespaces && !namespaces.is_empty() {
            let within = namespaces.iter();
            within.map(|ns| format!("{group}/namespaces/{ns}/{kind}")).collect()
        } else {
            vec![path.to_owned()]
        };
        for path in paths {
            let query = query.clone();
            lists.push((purpose, List { path, query }));
        }
    }
    lists
}
