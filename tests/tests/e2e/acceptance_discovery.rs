//! Acceptance, discovery: targets that a Kubernetes API server and a Docker daemon tell of, here two small servers that speak
//! their API, and the `prometheus.yml` of a whole lab. `docs/acceptance.md` names the row of each test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, binary, get, repository, until};

fn started(dir: &Path, jobs: &str) -> Trilobite {
    let config = dir.join("prometheus.yml");
    std::fs::write(
        &config,
        format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"),
    )
    .unwrap();
    Trilobite::start(&dir.join("data"), &["--prometheus-config", config.to_str().unwrap()]).unwrap()
}

/// URL and labels of a job's targets, by URL.
fn targets(server: &Trilobite, job: &str) -> Vec<(String, Value)> {
    let path = format!("/api/v1/targets?state=active&scrapePool={job}");
    let told = get(server.prometheus(), &path).unwrap().json();
    let active = told["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<(String, Value)> = active
        .into_iter()
        .map(|t| (t["scrapeUrl"].as_str().unwrap().to_owned(), t["labels"].clone()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The target of a request.
fn asked(stream: &mut impl Read) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        request.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    text.split(' ').nth(1).unwrap_or("").to_owned()
}

fn answer(stream: &mut impl Write, body: &str) {
    let len = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    let _ = write!(stream, "{head} {len}\r\n\r\n{body}");
}

fn pod(name: &str, ip: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "5", "labels": {"app": name}, "annotations": annotations},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": ip},
    })
}

/// An API server with two pods; whoever watches is sent what the test sends.
fn api_server() -> (SocketAddr, Sender<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (events, sent): (Sender<Value>, Receiver<Value>) = channel();
    let sent = Arc::new(Mutex::new(sent));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let sent = sent.clone();
            std::thread::spawn(move || {
                let path = asked(&mut stream);
                if !path.starts_with("/api/v1/pods?") {
                    return answer(&mut stream, "{}");
                }
                if !path.contains("watch=1") {
                    let annotated = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/m"});
                    let items = [pod("web", "10.0.0.1", &annotated), pod("db", "10.0.0.2", &json!({}))];
                    let list = json!({"metadata": {"resourceVersion": "9"}, "items": items});
                    return answer(&mut stream, &list.to_string());
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
                let sent = sent.lock().unwrap();
                while let Ok(event) = sent.recv() {
                    if stream.write_all(format!("{event}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (addr, events)
}

/// The rules that every tutorial gives for annotated pods, and pods that come and go.
#[test]
fn annotated_pods_are_scraped_where_their_annotations_say() {
    let (addr, events) = api_server();
    let jobs = format!(
        r"- job_name: kubernetes-pods
  kubernetes_sd_configs: [{{role: pod, api_server: 'http://{addr}'}}]
  relabel_configs:
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: true}}
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], target_label: __metrics_path__, regex: (.+)}}
  - {{source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2', target_label: __address__}}
  - {{action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}}
  - {{source_labels: [__meta_kubernetes_namespace], target_label: kubernetes_namespace}}
"
    );
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), &jobs);
    let job = "kubernetes-pods";
    let urls = |wanted: &[&str]| {
        until(&format!("targets {wanted:?}"), || {
            let found = targets(&server, job);
            found.iter().map(|(url, _)| url).eq(wanted).then_some(found)
        })
    };
    let found = urls(&["http://10.0.0.1:8080/m"]);
    let labels = json!({"app": "web", "instance": "10.0.0.1:8080", "job": job, "kubernetes_namespace": "shop"});
    assert_eq!(found[0].1, labels);
    let dropped = get(server.prometheus(), "/api/v1/targets?state=dropped")
        .unwrap()
        .json();
    let of_dropped = &dropped["data"]["droppedTargets"][0]["discoveredLabels"];
    assert_eq!(of_dropped["__meta_kubernetes_pod_name"], "db", "{dropped}");

    let annotated = json!({"prometheus.io/scrape": "true"});
    let event = |kind: &str, object: Value| events.send(json!({"type": kind, "object": object})).unwrap();
    event("ADDED", pod("cache", "10.0.0.3", &annotated));
    urls(&["http://10.0.0.1:8080/m", "http://10.0.0.3:80/metrics"]);
    event("DELETED", pod("web", "10.0.0.1", &annotated));
    urls(&["http://10.0.0.3:80/metrics"]);
}

const CONTAINERS: &str = r#"[{"Id": "c1", "Names": ["/shop-web-1"], "Image": "web", "ImageID": "sha256:1",
  "Labels": {"com.docker.compose.service": "web", "metrics": "true", "metrics_port": "9102", "metrics_path": "/stats"},
  "Ports": [{"PrivatePort": 80, "PublicPort": 8000, "Type": "tcp", "IP": "0.0.0.0"}], "HostConfig": {"NetworkMode": "lab"},
  "NetworkSettings": {"Networks": {"lab": {"NetworkID": "n1", "IPAddress": "172.18.0.3"}}}}]"#;

/// A Docker daemon at a live socket, with the rules of the labs.
#[test]
fn containers_are_scraped_where_their_labels_say() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let path = asked(&mut stream);
            let body = match path.split('?').next() {
                // Only who asks for the label gets the container.
                Some("/containers/json") if path.contains("%6D%65%74%72%69%63%73") => CONTAINERS,
                _ => "[]",
            };
            answer(&mut stream, body);
        }
    });
    let jobs = format!(
        r"- job_name: docker
  docker_sd_configs:
  - host: unix://{}
    refresh_interval: 1s
    filters: [{{name: label, values: ['metrics=true']}}]
  relabel_configs:
  - {{source_labels: [__meta_docker_container_name], regex: '/(.*)', target_label: container}}
  - {{source_labels: [__meta_docker_container_label_com_docker_compose_service], target_label: service}}
  - {{source_labels: [__meta_docker_container_label_metrics_port, __meta_docker_network_ip], regex: '(\d+);(.+)', replacement: '$2:$1', target_label: __address__}}
  - {{source_labels: [__meta_docker_container_label_metrics_path], regex: '(.+)', target_label: __metrics_path__}}
",
        socket.display()
    );
    let server = started(dir.path(), &jobs);
    let found = until("the container", || {
        Some(targets(&server, "docker")).filter(|found| !found.is_empty())
    });
    let labels = json!({"container": "shop-web-1", "instance": "172.18.0.3:9102", "job": "docker", "service": "web"});
    assert_eq!(found, [("http://172.18.0.3:9102/stats".to_owned(), labels)]);
}

/// The configuration of a whole lab, unchanged: every kind of discovery, none of which but the static one and the file has anybody
/// to ask here.
#[test]
fn the_prometheus_yml_of_a_lab_runs_unchanged() {
    let file: PathBuf = repository().join("../shared/corpus/ingest/prometheus.yml");
    if !file.exists() {
        let needed = std::env::var("CORPUS_REQUIRED").is_ok_and(|v| v == "1");
        assert!(!needed, "{} is missing and CORPUS_REQUIRED=1", file.display());
        eprintln!("NOT RUN: {} is missing", file.display());
        return;
    }
    let output = Command::new(binary().unwrap())
        .arg("check-config")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let flag = format!("--config.file={}", file.display());
    let server = Trilobite::start(dir.path(), &[&flag]).unwrap();
    let pools = get(server.prometheus(), "/api/v1/scrape_pools").unwrap().json();
    for job in [
        "prometheus",
        "flask-backend",
        "otel-collector",
        "tempo",
        "loki",
        "node",
        "docker",
        "dynamic",
        "blackbox",
        "kubernetes-pods",
    ] {
        let known = pools["data"]["scrapePools"].as_array().unwrap();
        assert!(known.iter().any(|pool| pool == job), "{job}: {pools}");
    }
    let flask = targets(&server, "flask-backend");
    let labels = json!({"instance": "backend:5000", "job": "flask-backend", "service": "flask-backend"});
    assert_eq!(flask, [("http://backend:5000/metrics".to_owned(), labels)]);
    let probes = targets(&server, "blackbox");
    let first = "http://blackbox:9115/probe?module=http_2xx&target=http%3A%2F%2Fbackend%3A5000%2Fhealth";
    assert_eq!(probes[0].0, first);
    assert_eq!(probes[0].1["instance"], "http://backend:5000/health");
    // Those of the file, each with its host.
    let nodes = until("targets of the file", || {
        Some(targets(&server, "node")).filter(|found| !found.is_empty())
    });
    assert!(nodes.iter().all(|(_, labels)| labels["host"].is_string()), "{nodes:?}");
    let own = get(server.prometheus(), "/metrics").unwrap().text();
    assert!(own.contains("\nprometheus_config_last_reload_successful 1\n"));
    let config = get(server.prometheus(), "/api/v1/status/config").unwrap().text();
    assert!(config.contains("cluster: otel-lab"), "{config}");
}
