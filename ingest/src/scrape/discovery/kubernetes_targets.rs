//! What becomes of Kubernetes objects: addresses and `__meta_kubernetes_*` labels, data in, data out.

use std::collections::HashMap;

use prometheus_config::{KubernetesRole, TargetGroup};
use serde_json::Value;

use super::label_name;

const META: &str = "__meta_kubernetes_";

/// Objects as the API server lists them.
#[derive(Default)]
pub(super) struct Objects<'a> {
    /// Those of the role.
    pub main: Vec<&'a Value>,
    pub services: Vec<&'a Value>,
    pub pods: Vec<&'a Value>,
    pub nodes: Vec<&'a Value>,
    pub namespaces: Vec<&'a Value>,
}

/// Namespace and name, which tell an object from others of its kind.
pub(super) fn key(object: &Value) -> (String, String) {
    (namespace_of(object).to_owned(), name_of(object).to_owned())
}

/// Objects by namespace and name.
struct ByName<'a> {
    services: HashMap<(&'a str, &'a str), &'a Value>,
    pods: HashMap<(&'a str, &'a str), &'a Value>,
    nodes: HashMap<(&'a str, &'a str), &'a Value>,
    namespaces: HashMap<(&'a str, &'a str), &'a Value>,
}

type Labels = Vec<(String, String)>;

/// One group for each object.
pub(super) fn groups(role: KubernetesRole, objects: &Objects<'_>) -> Vec<TargetGroup> {
    let by_name = ByName {
        services: index(&objects.services),
        pods: index(&objects.pods),
        nodes: index(&objects.nodes),
        namespaces: index(&objects.namespaces),
    };
    let groups = objects.main.iter().map(|object| match role {
        KubernetesRole::Node => node(object),
        KubernetesRole::Service => service(object, &by_name),
        KubernetesRole::Pod => pod(object, &by_name),
        KubernetesRole::Endpoints => endpoints(object, &by_name),
        KubernetesRole::EndpointSlice => endpoint_slice(object, &by_name),
        KubernetesRole::Ingress => ingress(object, &by_name),
    });
    groups.filter(|group| !group.targets.is_empty()).collect()
}

fn index<'a>(objects: &[&'a Value]) -> HashMap<(&'a str, &'a str), &'a Value> {
    objects.iter().map(|o| ((namespace_of(o), name_of(o)), *o)).collect()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn name_of(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn namespace_of(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

fn put(labels: &mut Labels, name: &str, value: impl Into<String>) {
    labels.push((format!("{META}{name}"), value.into()));
}

/// Labels and annotations of an object, each also with the word that it is there.
fn put_metadata(labels: &mut Labels, kind: &str, object: &Value) {
    for (path, word) in [("/metadata/labels", "label"), ("/metadata/annotations", "annotation")] {
        let pairs = object.pointer(path).and_then(Value::as_object).into_iter().flatten();
        for (name, value) in pairs {
            let name = label_name(name);
            put(labels, &format!("{kind}_{word}_{name}"), value.as_str().unwrap_or(""));
            put(labels, &format!("{kind}_{word}present_{name}"), "true");
        }
    }
}

fn put_namespace(labels: &mut Labels, object: &Value, all: &ByName<'_>) {
    let namespace = namespace_of(object);
    put(labels, "namespace", namespace);
    if let Some(object) = all.namespaces.get(&("", namespace)) {
        put_metadata(labels, "namespace", object);
    }
}

fn put_node(labels: &mut Labels, name: &str, all: &ByName<'_>) {
    if let Some(object) = all.nodes.get(&("", name)) {
        put(labels, "node_name", name);
        put_metadata(labels, "node", object);
    }
}

fn address(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn with_address(mut labels: Labels, address: String) -> Labels {
    labels.push(("__address__".to_owned(), address));
    labels
}

fn node(object: &Value) -> TargetGroup {
    let name = name_of(object);
    let mut labels = Labels::new();
    put(&mut labels, "node_name", name);
    put(&mut labels, "node_provider_id", text(object, "/spec/providerID"));
    put_metadata(&mut labels, "node", object);
    let addresses: Vec<(&str, &str)> = items(object, "/status/addresses")
        .map(|a| (text(a, "/type"), text(a, "/address")))
        .collect();
    for (kind, at) in addresses.iter().rev() {
        put(&mut labels, &format!("node_address_{}", label_name(kind)), *at);
    }
    let known = [
        "InternalIP",
        "InternalDNS",
        "ExternalIP",
        "ExternalDNS",
        "LegacyHostIP",
        "Hostname",
    ];
    let at = known.iter().find_map(|kind| addresses.iter().find(|(k, _)| k == kind));
    let port = object
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64);
    let Some((_, host)) = at else {
        return TargetGroup::default();
    };
    let own = vec![("instance".to_owned(), name.to_owned())];
    TargetGroup {
        targets: vec![with_address(own, address(host, port.unwrap_or(0)))],
        labels,
    }
}

fn service_labels(object: &Value) -> Labels {
    let mut labels = Labels::new();
    put(&mut labels, "service_name", name_of(object));
    put_metadata(&mut labels, "service", object);
    labels
}

fn service(object: &Value, all: &ByName<'_>) -> TargetGroup {
    let mut labels = service_labels(object);
    put_namespace(&mut labels, object, all);
    let (name, namespace, kind) = (name_of(object), namespace_of(object), text(object, "/spec/type"));
    let targets = items(object, "/spec/ports").map(|port| {
        let number = port["port"].as_u64().unwrap_or(0);
        let mut own = Labels::new();
        put(&mut own, "service_port_name", text(port, "/name"));
        put(&mut own, "service_port_number", number.to_string());
        put(&mut own, "service_port_protocol", text(port, "/protocol"));
        put(&mut own, "service_type", kind);
        if kind == "ExternalName" {
            put(&mut own, "service_external_name", text(object, "/spec/externalName"));
        } else {
            put(&mut own, "service_cluster_ip", text(object, "/spec/clusterIP"));
        }
        if kind == "LoadBalancer" {
            put(
                &mut own,
                "service_loadbalancer_ip",
                text(object, "/spec/loadBalancerIP"),
            );
        }
        with_address(own, format!("{name}.{namespace}.svc:{number}"))
    });
    TargetGroup {
        targets: targets.collect(),
        labels,
    }
}

fn pod_labels(object: &Value) -> Labels {
    let mut labels = Labels::new();
    let ready = items(object, "/status/conditions").find(|c| text(c, "/type") == "Ready");
    put(&mut labels, "pod_name", name_of(object));
    put(&mut labels, "pod_ip", text(object, "/status/podIP"));
    put(
        &mut labels,
        "pod_ready",
        ready.map_or_else(|| "unknown".to_owned(), |c| text(c, "/status").to_lowercase()),
    );
    put(&mut labels, "pod_phase", text(object, "/status/phase"));
    put(&mut labels, "pod_node_name", text(object, "/spec/nodeName"));
    put(&mut labels, "pod_host_ip", text(object, "/status/hostIP"));
    put(&mut labels, "pod_uid", text(object, "/metadata/uid"));
    put_metadata(&mut labels, "pod", object);
    let owners = || items(object, "/metadata/ownerReferences");
    if let Some(owner) = owners().find(|o| o["controller"] == true) {
        put(&mut labels, "pod_controller_kind", text(owner, "/kind"));
        put(&mut labels, "pod_controller_name", text(owner, "/name"));
    }
    labels
}

/// Containers, those that run before and beside the others last; with whether they are such.
fn containers(object: &Value) -> impl Iterator<Item = (&Value, bool)> {
    let usual = items(object, "/spec/containers").map(|c| (c, false));
    usual.chain(items(object, "/spec/initContainers").map(|c| (c, true)))
}

fn container_id<'a>(object: &'a Value, name: &str) -> &'a str {
    let statuses = items(object, "/status/containerStatuses").chain(items(object, "/status/initContainerStatuses"));
    let mut fitting = statuses.filter(|s| text(s, "/name") == name);
    fitting.next().map_or("", |s| text(s, "/containerID"))
}

fn container_labels(object: &Value, container: &Value, is_init: bool) -> Labels {
    let name = text(container, "/name");
    let mut labels = Labels::new();
    put(&mut labels, "pod_container_name", name);
    put(&mut labels, "pod_container_id", container_id(object, name));
    put(&mut labels, "pod_container_image", text(container, "/image"));
    put(&mut labels, "pod_container_init", is_init.to_string());
    labels
}

fn put_port(labels: &mut Labels, port: &Value) {
    put(labels, "pod_container_port_name", text(port, "/name"));
    put(
        labels,
        "pod_container_port_number",
        port["containerPort"].as_u64().unwrap_or(0).to_string(),
    );
    put(labels, "pod_container_port_protocol", text(port, "/protocol"));
}

fn pod(object: &Value, all: &ByName<'_>) -> TargetGroup {
    let ip = text(object, "/status/podIP");
    // One that has no address yet is not there yet.
    if ip.is_empty() {
        return TargetGroup::default();
    }
    let mut labels = pod_labels(object);
    put_namespace(&mut labels, object, all);
    put_node(&mut labels, text(object, "/spec/nodeName"), all);
    let mut targets = Vec::new();
    for (container, is_init) in containers(object) {
        let own = container_labels(object, container, is_init);
        let ports: Vec<&Value> = items(container, "/ports").collect();
        if ports.is_empty() {
            let host = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            targets.push(with_address(own, host));
            continue;
        }
        for port in ports {
            let mut own = own.clone();
            put_port(&mut own, port);
            let at = address(ip, port["containerPort"].as_u64().unwrap_or(0));
            targets.push(with_address(own, at));
        }
    }
    TargetGroup { targets, labels }
}

/// Labels of the pod behind an endpoint, and of its container that has the port.
fn put_pod(labels: &mut Labels, reference: &Value, namespace: &str, port: Option<u64>, all: &ByName<'_>) {
    let kind = text(reference, "/kind");
    let name = text(reference, "/name");
    let of = match text(reference, "/namespace") {
        "" => namespace,
        of => of,
    };
    let Some(pod) = all.pods.get(&(of, name)).filter(|_| kind == "Pod") else {
        return;
    };
    labels.extend(pod_labels(pod));
    put_node(labels, text(pod, "/spec/nodeName"), all);
    for (container, is_init) in containers(pod) {
        let with_port = items(container, "/ports").find(|p| p["containerPort"].as_u64() == port && port.is_some());
        if let Some(with_port) = with_port {
            labels.extend(container_labels(pod, container, is_init));
            put_port(labels, with_port);
            return;
        }
    }
}

fn endpoints(object: &Value, all: &ByName<'_>) -> TargetGroup {
    let (name, namespace) = (name_of(object), namespace_of(object));
    let mut labels = Labels::new();
    put(&mut labels, "endpoints_name", name);
    put_metadata(&mut labels, "endpoints", object);
    put_namespace(&mut labels, object, all);
    if let Some(service) = all.services.get(&(namespace, name)) {
        labels.extend(service_labels(service));
    }
    let mut targets = Vec::new();
    for subset in items(object, "/subsets") {
        for port in items(subset, "/ports") {
            for (path, ready) in [("/addresses", "true"), ("/notReadyAddresses", "false")] {
                for at in items(subset, path) {
                    let number = port["port"].as_u64();
                    let mut own = Labels::new();
                    put(&mut own, "endpoint_port_name", text(port, "/name"));
                    put(&mut own, "endpoint_port_protocol", text(port, "/protocol"));
                    put(&mut own, "endpoint_ready", ready);
                    for (word, from) in [("endpoint_node_name", "/nodeName"), ("endpoint_hostname", "/hostname")] {
                        if !text(at, from).is_empty() {
                            put(&mut own, word, text(at, from));
                        }
                    }
                    put_reference(&mut own, &at["targetRef"], "endpoint");
                    put_pod(&mut own, &at["targetRef"], namespace, number, all);
                    targets.push(with_address(own, address(text(at, "/ip"), number.unwrap_or(0))));
                }
            }
        }
    }
    TargetGroup { targets, labels }
}

fn put_reference(labels: &mut Labels, reference: &Value, kind: &str) {
    if reference.is_object() {
        put(labels, &format!("{kind}_address_target_kind"), text(reference, "/kind"));
        put(labels, &format!("{kind}_address_target_name"), text(reference, "/name"));
    }
}

fn endpoint_slice(object: &Value, all: &ByName<'_>) -> TargetGroup {
    let namespace = namespace_of(object);
    let mut labels = Labels::new();
    put(&mut labels, "endpointslice_name", name_of(object));
    put(&mut labels, "endpointslice_address_type", text(object, "/addressType"));
    put_metadata(&mut labels, "endpointslice", object);
    put_namespace(&mut labels, object, all);
    let service = text(object, "/metadata/labels/kubernetes.io~1service-name");
    if let Some(service) = all.services.get(&(namespace, service)) {
        labels.extend(service_labels(service));
    }
    let mut targets = Vec::new();
    for port in items(object, "/ports") {
        for endpoint in items(object, "/endpoints") {
            for at in items(endpoint, "/addresses").filter_map(Value::as_str) {
                let number = port["port"].as_u64();
                let mut own = Labels::new();
                put(&mut own, "endpointslice_port", number.unwrap_or(0).to_string());
                put(&mut own, "endpointslice_port_name", text(port, "/name"));
                put(&mut own, "endpointslice_port_protocol", text(port, "/protocol"));
                put(&mut own, "endpointslice_port_app_protocol", text(port, "/appProtocol"));
                for condition in ["ready", "serving", "terminating"] {
                    if let Some(is_so) = endpoint["conditions"][condition].as_bool() {
                        put(
                            &mut own,
                            &format!("endpointslice_endpoint_conditions_{condition}"),
                            is_so.to_string(),
                        );
                    }
                }
                for (word, from) in [
                    ("endpointslice_endpoint_hostname", "/hostname"),
                    ("endpointslice_endpoint_node_name", "/nodeName"),
                    ("endpointslice_endpoint_zone", "/zone"),
                ] {
                    if !text(endpoint, from).is_empty() {
                        put(&mut own, word, text(endpoint, from));
                    }
                }
                put_reference(&mut own, &endpoint["targetRef"], "endpointslice");
                put_pod(&mut own, &endpoint["targetRef"], namespace, number, all);
                targets.push(with_address(own, address(at, number.unwrap_or(0))));
            }
        }
    }
    TargetGroup { targets, labels }
}

fn ingress(object: &Value, all: &ByName<'_>) -> TargetGroup {
    let mut labels = Labels::new();
    put(&mut labels, "ingress_name", name_of(object));
    put(
        &mut labels,
        "ingress_class_name",
        text(object, "/spec/ingressClassName"),
    );
    put_metadata(&mut labels, "ingress", object);
    put_namespace(&mut labels, object, all);
    let secured: Vec<&str> = items(object, "/spec/tls")
        .flat_map(|t| items(t, "/hosts"))
        .filter_map(Value::as_str)
        .collect();
    let mut targets = Vec::new();
    for rule in items(object, "/spec/rules") {
        let host = text(rule, "/host");
        let is_secured = secured.iter().any(|pattern| {
            let below = pattern.strip_prefix("*.").zip(host.split_once('.'));
            *pattern == host || below.is_some_and(|(domain, (_, rest))| domain == rest)
        });
        let scheme = if is_secured { "https" } else { "http" };
        let mut paths: Vec<&str> = items(rule, "/http/paths").map(|p| text(p, "/path")).collect();
        if paths.is_empty() {
            paths.push("/");
        }
        for path in paths {
            let mut own = Labels::new();
            put(&mut own, "ingress_scheme", scheme);
            put(&mut own, "ingress_host", host);
            put(&mut own, "ingress_path", if path.is_empty() { "/" } else { path });
            targets.push(with_address(own, host.to_owned()));
        }
    }
    TargetGroup { targets, labels }
}
