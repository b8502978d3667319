//! Sources of targets against servers of our own: a list over HTTP, a name server, a Docker socket, an API server.

use std::collections::HashMap;
use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use prometheus_config::PrometheusConfig;
use tokio::net::{TcpListener, UnixListener};

use super::super::http::Resolver;
use super::*;

/// What a server answers, by path and query.
type Answers = Arc<HashMap<String, (&'static str, String)>>;

fn router(answers: &[(&str, &'static str, &str)]) -> Router {
    let answers = answers
        .iter()
        .map(|(path, kind, body)| ((*path).to_owned(), (*kind, (*body).to_owned())));
    let answers: Answers = Arc::new(answers.collect());
    let answer = |State(answers): State<Answers>, uri: axum::http::Uri| async move {
        match answers.get(uri.to_string().as_str()) {
            Some((kind, body)) => ([("content-type", *kind)], body.clone()).into_response(),
            None => {
                let asked: Response = (axum::http::StatusCode::NOT_FOUND, uri.to_string()).into_response();
                asked
            }
        }
    };
    Router::new().fallback(answer).with_state(answers)
}

async fn server(answers: &[(&str, &'static str, &str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = router(answers);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{addr}")
}

fn source(text: &str) -> Discovery {
    let text = format!("scrape_configs: [{{job_name: j, {text}}}]");
    let read = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None);
    let (mut config, _) = read.unwrap_or_else(|e| panic!("{e:?}"));
    config.scrapes.remove(0).discovery.remove(0)
}

/// Groups as lines: the labels of each target and its group.
fn lines(groups: &[TargetGroup]) -> Vec<String> {
    let targets = groups.iter().flat_map(|g| g.targets.iter().map(move |t| (g, t)));
    targets
        .map(|(group, target)| {
            let pairs = group.labels.iter().chain(target).map(|(n, v)| (n.as_str(), v.as_str()));
            model::LabelSet::from_pairs(pairs).to_string()
        })
        .collect()
}

#[tokio::test]
async fn a_list_over_http() {
    let good = r#"[{"targets": ["a:1"], "labels": {"x": "y"}}]"#;
    let base = server(&[
        ("/good", "application/json; charset=utf-8", good),
        ("/text", "text/plain", good),
        ("/null", "application/json", "null"),
        ("/odd", "application/json", "[{\"targets\": 5}]"),
    ])
    .await;
    for (path, want) in [
        (
            "/good",
            Ok(vec![format!(
                r#"{{__address__="a:1", __meta_url="{base}/good", x="y"}}"#
            )]),
        ),
        ("/text", Err("unsupported content type \"text/plain\"")),
        ("/null", Err("a list of target groups is expected")),
        ("/odd", Err("targets must be a list")),
        ("/none", Err("server returned HTTP status 404 Not Found")),
    ] {
        let Discovery::Http(config) = source(&format!("http_sd_configs: [{{url: '{base}{path}'}}]")) else {
            panic!()
        };
        let got = Lists::new(&config, &Network::default()).refresh().await;
        match (got, want) {
            (Ok(groups), Ok(want)) => assert_eq!(lines(&groups), want),
            (Err(why), Err(want)) => assert!(why.contains(want), "{path}: {why}"),
            (got, _) => panic!("{path}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn targets_by_name() {
    use super::super::http::dns_tests::{encode_name, serve};
    let service = [vec![0, 1, 0, 2, 0x23, 0x82], encode_name("a.example")].concat();
    let server = serve(vec![(1, vec![10, 0, 0, 1]), (33, service)]).await;
    let network = Network {
        resolver: Resolver::at(vec![server]),
        ..Network::default()
    };
    for (text, want) in [
        (
            "{names: [w.x], type: A, port: 9102}",
            r#"{__address__="10.0.0.1:9102", __meta_dns_name="w.x"}"#,
        ),
        (
            "{names: [_w._tcp.x]}",
            r#"{__address__="a.example:9090", __meta_dns_name="_w._tcp.x", __meta_dns_srv_record_port="9090", __meta_dns_srv_record_target="a.example."}"#,
        ),
    ] {
        let Discovery::Dns(config) = source(&format!("dns_sd_configs: [{text}]")) else {
            panic!()
        };
        assert_eq!(lines(&dns::refresh(&config, &network).await.unwrap()), [want]);
    }
}

const CONTAINERS: &str = r#"[
 {"Id": "c1", "Names": ["/web"], "Image": "nginx", "ImageID": "sha256:1", "Labels": {"com.docker.compose.service": "web", "metrics_port": "8080"},
  "Ports": [{"PrivatePort": 80, "PublicPort": 8000, "Type": "tcp", "IP": "0.0.0.0"}, {"PrivatePort": 53, "Type": "udp"}, {"PrivatePort": 8080, "Type": "tcp"}],
  "HostConfig": {"NetworkMode": "lab"},
  "NetworkSettings": {"Networks": {"zz": {"NetworkID": "n2", "IPAddress": "10.2.0.2"}, "lab": {"NetworkID": "n1", "IPAddress": "172.18.0.3"}}}},
 {"Id": "c2", "Names": ["/sidecar"], "Image": "s", "ImageID": "", "Ports": [], "HostConfig": {"NetworkMode": "container:c1"}, "NetworkSettings": {"Networks": {}}},
 {"Id": "c3", "Names": ["/node"], "Image": "n", "ImageID": "", "Ports": [], "Labels": null, "HostConfig": {"NetworkMode": "host"},
  "NetworkSettings": {"Networks": {"host": {"NetworkID": "n3", "IPAddress": ""}}}}]"#;
const NETWORKS: &str =
    r#"[{"Id": "n1", "Name": "lab", "Scope": "local", "Internal": false, "Ingress": false, "Labels": {"a.b": "c"}}]"#;

#[tokio::test]
async fn containers_over_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let filters = r#"{"label":["metrics=true"]}"#.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let router = router(&[
        (
            &format!("/containers/json?filters={filters}"),
            "application/json",
            CONTAINERS,
        ),
        ("/networks", "application/json", NETWORKS),
    ]);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let text = format!(
        "docker_sd_configs: [{{host: 'unix://{}', filters: [{{name: label, values: ['metrics=true']}}]}}]",
        path.display()
    );
    let Discovery::Docker(config) = source(&text) else {
        panic!()
    };
    let got = lines(&Daemon::new(&config, &Network::default()).refresh().await.unwrap());
    assert_eq!(got.len(), 4, "{got:#?}");
    assert_eq!(
        got[0],
        r#"{__address__="172.18.0.3:80", __meta_docker_container_id="c1", __meta_docker_container_image="nginx", __meta_docker_container_image_id="sha256:1", __meta_docker_container_label_com_docker_compose_service="web", __meta_docker_container_label_metrics_port="8080", __meta_docker_container_name="/web", __meta_docker_container_network_mode="lab", __meta_docker_network_id="n1", __meta_docker_network_ingress="false", __meta_docker_network_internal="false", __meta_docker_network_ip="172.18.0.3", __meta_docker_network_label_a_b="c", __meta_docker_network_name="lab", __meta_docker_network_scope="local", __meta_docker_port_private="80", __meta_docker_port_public="8000", __meta_docker_port_public_ip="0.0.0.0"}"#
    );
    for (line, address) in got[1..].iter().zip(["172.18.0.3:8080", "172.18.0.3:80", "localhost"]) {
        assert!(line.starts_with(&format!("{{__address__=\"{address}\", ")), "{line}");
    }
    let text = text.replace("filters:", "match_first_network: false, filters:");
    let Discovery::Docker(config) = source(&text) else {
        panic!()
    };
    assert_eq!(
        Daemon::new(&config, &Network::default()).refresh().await.unwrap()[0]
            .targets
            .len(),
        7
    );
}

const PODS: &str = r#"{"metadata": {}, "items": [{"metadata": {"name": "web-1", "namespace": "lab", "uid": "u1",
  "labels": {"app.kubernetes.io/name": "web"}, "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
  "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": true}]},
 "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "web:1", "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]}]},
 "status": {"phase": "Running", "podIP": "10.1.2.3", "hostIP": "192.168.0.1", "conditions": [{"type": "Ready", "status": "True"}],
  "containerStatuses": [{"name": "app", "containerID": "containerd://x"}]}},
 {"metadata": {"name": "new", "namespace": "lab"}, "spec": {"containers": []}, "status": {}}]}"#;
const SERVICES: &str = r#"{"items": [{"metadata": {"name": "web", "namespace": "lab", "labels": {"a": "b"}},
 "spec": {"type": "ClusterIP", "clusterIP": "10.9.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}]}"#;
const ENDPOINTS: &str = r#"{"items": [{"metadata": {"name": "web", "namespace": "lab"}, "subsets": [{"ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
 "addresses": [{"ip": "10.1.2.3", "nodeName": "node-1", "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "lab"}}], "notReadyAddresses": [{"ip": "10.1.2.4"}]}]}]}"#;
const SLICES: &str = r#"{"items": [{"metadata": {"name": "web-x", "namespace": "lab", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
 "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}], "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "nodeName": "node-1", "targetRef": {"kind": "Pod", "name": "web-1"}}]}]}"#;
const NODES: &str = r#"{"items": [{"metadata": {"name": "node-1", "labels": {"zone": "a"}}, "spec": {"providerID": "kind://1"},
 "status": {"addresses": [{"type": "Hostname", "address": "node-1"}, {"type": "InternalIP", "address": "192.168.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}}]}"#;
const INGRESSES: &str = r#"{"items": [{"metadata": {"name": "in", "namespace": "lab"}, "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.x.org"]}],
 "rules": [{"host": "a.x.org", "http": {"paths": [{"path": "/p"}, {}]}}, {"host": "b.org"}]}}]}"#;

/// What a source tells first.
async fn first_told(source: Discovery) -> Vec<TargetGroup> {
    let (told, mut found) = tokio::sync::mpsc::unbounded_channel();
    let tell = Box::new(move |groups| drop(told.send(groups)));
    let asking = tokio::spawn(discover(source, Network::default(), Arc::default(), tell));
    let groups = tokio::time::timeout(Duration::from_secs(20), found.recv()).await;
    asking.abort();
    groups.unwrap().unwrap()
}

async fn cluster() -> String {
    let json = "application/json";
    server(&[
        ("/api/v1/pods?limit=500", json, PODS),
        (
            "/api/v1/namespaces/lab/pods?limit=500&labelSelector=%61%3D%62",
            json,
            PODS,
        ),
        ("/api/v1/services?limit=500", json, SERVICES),
        ("/api/v1/endpoints?limit=500", json, ENDPOINTS),
        ("/apis/discovery.k8s.io/v1/endpointslices?limit=500", json, SLICES),
        ("/api/v1/nodes?limit=500", json, NODES),
        ("/apis/networking.k8s.io/v1/ingresses?limit=500", json, INGRESSES),
    ])
    .await
}

#[tokio::test]
async fn objects_of_a_cluster() {
    let base = cluster().await;
    for (more, want) in [
        (
            "role: pod, namespaces: {names: [lab]}, selectors: [{role: pod, label: 'a=b'}]",
            &[&[
                "__address__=\"10.1.2.3:8000\"",
                "__meta_kubernetes_namespace=\"lab\"",
                "__meta_kubernetes_pod_name=\"web-1\"",
                "__meta_kubernetes_pod_ready=\"true\"",
                "__meta_kubernetes_pod_phase=\"Running\"",
                "__meta_kubernetes_pod_node_name=\"node-1\"",
                "__meta_kubernetes_pod_controller_kind=\"ReplicaSet\"",
                "__meta_kubernetes_pod_label_app_kubernetes_io_name=\"web\"",
                "__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name=\"true\"",
                "__meta_kubernetes_pod_annotation_prometheus_io_scrape=\"true\"",
                "__meta_kubernetes_pod_container_name=\"app\"",
                "__meta_kubernetes_pod_container_id=\"containerd://x\"",
                "__meta_kubernetes_pod_container_port_number=\"8000\"",
            ][..]][..],
        ),
        (
            "role: pod, attach_metadata: {node: true}",
            &[&[
                "__meta_kubernetes_node_label_zone=\"a\"",
                "__meta_kubernetes_node_name=\"node-1\"",
            ]],
        ),
        (
            "role: service",
            &[&[
                "__address__=\"web.lab.svc:80\"",
                "__meta_kubernetes_service_label_a=\"b\"",
                "__meta_kubernetes_service_cluster_ip=\"10.9.0.1\"",
                "__meta_kubernetes_service_port_name=\"http\"",
                "__meta_kubernetes_service_type=\"ClusterIP\"",
            ]],
        ),
        (
            "role: endpoints",
            &[
                &[
                    "__address__=\"10.1.2.3:8000\"",
                    "__meta_kubernetes_endpoints_name=\"web\"",
                    "__meta_kubernetes_endpoint_ready=\"true\"",
                    "__meta_kubernetes_endpoint_address_target_name=\"web-1\"",
                    "__meta_kubernetes_pod_container_port_name=\"http\"",
                    "__meta_kubernetes_service_name=\"web\"",
                ],
                &[
                    "__address__=\"10.1.2.4:8000\"",
                    "__meta_kubernetes_endpoint_ready=\"false\"",
                ],
            ],
        ),
        (
            "role: endpointslice",
            &[&[
                "__address__=\"10.1.2.3:8000\"",
                "__meta_kubernetes_endpointslice_name=\"web-x\"",
                "__meta_kubernetes_endpointslice_endpoint_conditions_ready=\"true\"",
                "__meta_kubernetes_service_name=\"web\"",
                "__meta_kubernetes_pod_name=\"web-1\"",
            ]],
        ),
        (
            "role: node",
            &[&[
                "__address__=\"192.168.0.1:10250\"",
                "instance=\"node-1\"",
                "__meta_kubernetes_node_address_Hostname=\"node-1\"",
                "__meta_kubernetes_node_provider_id=\"kind://1\"",
            ]],
        ),
        (
            "role: ingress",
            &[
                &[
                    "__address__=\"a.x.org\"",
                    "__meta_kubernetes_ingress_scheme=\"https\"",
                    "__meta_kubernetes_ingress_path=\"/p\"",
                ],
                &["__meta_kubernetes_ingress_path=\"/\""],
                &["__address__=\"b.org\"", "__meta_kubernetes_ingress_scheme=\"http\""],
            ],
        ),
    ] {
        let Discovery::Kubernetes(config) =
            source(&format!("kubernetes_sd_configs: [{{api_server: '{base}', {more}}}]"))
        else {
            panic!()
        };
        let got = lines(&first_told(Discovery::Kubernetes(config)).await);
        assert_eq!(got.len(), want.len(), "{more}: {got:#?}");
        for (line, parts) in got.iter().zip(want) {
            for part in *parts {
                assert!(line.contains(part), "{more}: {part} in {line}");
            }
        }
    }
}

/// The rules that charts and tutorials give for annotated pods, over what the API server says.
#[tokio::test]
async fn annotated_pods_become_targets() {
    let base = cluster().await;
    let text = format!(
        r#"scrape_configs: [{{job_name: j, kubernetes_sd_configs: [{{role: pod, api_server: '{base}'}}], relabel_configs: [
        {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: true}},
        {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], target_label: __metrics_path__, regex: (.+)}},
        {{source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2', target_label: __address__}},
        {{action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}}]}}]"#
    );
    let config = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None)
        .unwrap()
        .0
        .scrapes
        .remove(0);
    let groups = first_told(config.discovery[0].clone()).await;
    let found: Vec<_> = groups
        .iter()
        .flat_map(|group| super::super::target::targets(&config, group))
        .collect();
    let [super::super::target::Found::Kept(target)] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(target.url, "http://10.1.2.3:8080/metrics");
    assert_eq!(
        target.labels.to_string(),
        r#"{app_kubernetes_io_name="web", instance="10.1.2.3:8080", job="j"}"#
    );
}

/// An API server that lists one pod, and then sends the lines that the test hands over to whoever watches.
async fn watched_cluster() -> (
    String,
    tokio::sync::mpsc::UnboundedSender<String>,
    Arc<parking_lot::Mutex<Vec<String>>>,
) {
    use futures_util::StreamExt;
    let (events, lines) = tokio::sync::mpsc::unbounded_channel::<String>();
    let lines = Arc::new(tokio::sync::Mutex::new(lines));
    let asked: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    let answer = move |uri: axum::http::Uri| {
        let (lines, seen) = (lines.clone(), seen.clone());
        async move {
            let uri = uri.to_string();
            seen.lock().push(uri.clone());
            if !uri.contains("watch=1") {
                let body = format!(
                    r#"{{"metadata": {{"resourceVersion": "7"}}, "items": [{}]}}"#,
                    pod("a", "10.0.0.1")
                );
                return ([("content-type", "application/json")], body).into_response();
            }
            let sent = futures_util::stream::unfold(lines.lock_owned().await, |mut lines| async move {
                let line = lines.recv().await?;
                (line != "end").then_some((Ok::<_, std::io::Error>(line), lines))
            });
            axum::body::Body::from_stream(sent.boxed()).into_response()
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (base, events, asked)
}

fn pod(name: &str, ip: &str) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "namespace": "lab", "resourceVersion": "{}"}}, "spec": {{"containers": [{{"name": "c"}}]}}, "status": {{"podIP": "{ip}"}}}}"#,
        name.len() + 8
    )
}

#[tokio::test]
async fn a_cluster_tells_of_changes_by_itself() {
    let (base, events, asked) = watched_cluster().await;
    let (told, mut found) = tokio::sync::mpsc::unbounded_channel();
    let tell = Box::new(move |groups: Vec<TargetGroup>| drop(told.send(groups)));
    let source = source(&format!("kubernetes_sd_configs: [{{role: pod, api_server: '{base}'}}]"));
    let asking = tokio::spawn(discover(source, Network::default(), Arc::default(), tell));
    let mut next = async || {
        let groups = tokio::time::timeout(Duration::from_secs(20), found.recv()).await;
        let groups: Vec<TargetGroup> = groups.unwrap().unwrap();
        let address = |t: &Vec<(String, String)>| t.iter().find(|(n, _)| n == "__address__").unwrap().1.clone();
        groups.iter().flat_map(|g| &g.targets).map(address).collect::<Vec<_>>()
    };
    let event = |kind: &str, object: &str| events.send(format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n"));
    assert_eq!(next().await, ["10.0.0.1"]);
    // What comes together is told together; a line may come in parts.
    let whole = pod("bb", "10.0.0.2");
    let (first, rest) = whole.split_at(20);
    events
        .send(format!("{{\"type\": \"ADDED\", \"object\": {first}"))
        .unwrap();
    events.send(format!("{rest}}}\n")).unwrap();
    event("MODIFIED", &pod("a", "10.0.0.9")).unwrap();
    assert_eq!(next().await, ["10.0.0.9", "10.0.0.2"]);
    event("DELETED", &pod("a", "")).unwrap();
    assert_eq!(next().await, ["10.0.0.2"]);
    // The server ends the watch: the next one goes on from the newest version, here a bookmark's.
    event("BOOKMARK", r#"{"metadata": {"resourceVersion": "99"}}"#).unwrap();
    events.send("end".to_owned()).unwrap();
    event("ADDED", &pod("ccc", "10.0.0.3")).unwrap();
    assert_eq!(next().await, ["10.0.0.2", "10.0.0.3"]);
    // A version that is too old: the list is asked for again, and what it does not have is gone.
    event("ERROR", r#"{"code": 410, "message": "too old resource version"}"#).unwrap();
    assert_eq!(next().await, ["10.0.0.1"]);
    asking.abort();
    let asked = asked.lock();
    let of_watch = |version: &str| {
        asked
            .iter()
            .any(|uri| uri.contains(&format!("resourceVersion={version}")))
    };
    // %37 is 7, %39%39 is 99.
    assert!(of_watch("%37&") || of_watch("%37"), "{asked:?}");
    assert!(of_watch("%39%39"), "{asked:?}");
    assert_eq!(
        asked.iter().filter(|uri| uri.contains("limit=")).count(),
        2,
        "{asked:?}"
    );
}
