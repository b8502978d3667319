//! What `deploy/` gives to Grafana, Compose and Kubernetes: the files are valid and linked, and every query in them finds
//! something in a server that two services of the lab send to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use trilobite_tests::{Trilobite, binary, encoded, get, python, repository, until};

use crate::lab_apps::App;

fn deploy(path: &str) -> PathBuf {
    repository().join("deploy").join(path)
}

/// The documents of a YAML or JSON file.
fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if path.extension().is_some_and(|e| e == "json") {
        return vec![serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))];
    }
    (text.split("\n---\n"))
        .map(|part| serde_saphyr::from_str(part).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect()
}

fn document(path: &str) -> Value {
    documents(&deploy(path)).remove(0)
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), out);
        } else {
            out.push(entry.path());
        }
    }
}

/// Every object below a value, with itself.
fn objects<'a>(value: &'a Value, out: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            out.push(value);
            members.values().for_each(|v| objects(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| objects(v, out)),
        _ => {}
    }
}

/// The provisioned datasources: type by uid.
fn datasources() -> BTreeMap<String, String> {
    let file = document("grafana/datasources/trilobite.yaml");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let sources = file["datasources"].as_array().unwrap().iter();
    sources.map(|d| (text(&d["uid"]), text(&d["type"]))).collect()
}

fn dashboards() -> Vec<Value> {
    let mut paths = Vec::new();
    files(&deploy("grafana/dashboards"), &mut paths);
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    assert_eq!(paths.len(), 2, "{paths:?}");
    paths.iter().flat_map(|p| documents(p)).collect()
}

#[test]
fn every_file_parses_and_every_link_between_datasources_leads_somewhere() {
    let mut all = Vec::new();
    files(&deploy(""), &mut all);
    let is_data = |p: &&PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    let parsed = all.iter().filter(is_data).map(|p| documents(p).len()).sum::<usize>();
    assert!(parsed > 10, "{parsed} documents");

    let uids = datasources();
    assert_eq!(
        uids.keys().map(String::as_str).collect::<Vec<_>>(),
        ["jaeger", "loki", "prometheus", "tempo"]
    );
    let file = document("grafana/datasources/trilobite.yaml");
    let mut found = Vec::new();
    objects(&file, &mut found);
    let links: Vec<&str> = found.iter().filter_map(|o| o["datasourceUid"].as_str()).collect();
    assert!(links.len() >= 8, "{links:?}");
    for uid in links {
        assert!(uids.contains_key(uid), "no datasource has the uid {uid}");
    }
    let mut ids = BTreeSet::new();
    for dashboard in dashboards() {
        assert!(ids.insert(dashboard["uid"].as_str().unwrap().to_owned()));
        let mut found = Vec::new();
        objects(&dashboard, &mut found);
        for source in found.iter().map(|o| &o["datasource"]).filter(|d| d.is_object()) {
            let (uid, kind) = (source["uid"].as_str().unwrap(), source["type"].as_str().unwrap());
            assert_eq!(uids.get(uid).map(String::as_str), Some(kind), "{source}");
        }
    }
}

/// The names under which the replaced services were known, and who owns the host's OTLP ports.
#[test]
fn compose_keeps_the_names_and_leaves_the_ports_of_a_collector() {
    let compose = document("compose.yaml");
    let ours = &compose["services"]["trilobite"];
    let aliases: Vec<&str> = ours["networks"]["default"]["aliases"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for name in ["prometheus", "loki", "tempo", "jaeger"] {
        assert!(aliases.contains(&name), "{aliases:?}");
    }
    assert_eq!(ours["read_only"], true);
    let published = |service: &Value| -> Vec<String> {
        let ports = service["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        ports.map(|p| p.rsplit(':').nth(1).unwrap().to_owned()).collect()
    };
    let of_ours = published(ours);
    assert!(of_ours.iter().all(|p| p != "4317" && p != "4318"), "{of_ours:?}");
    let lab = document("compose.lab.yaml");
    assert_eq!(published(&lab["services"]["collector"]), ["4317", "4318"]);
    for (file, services) in [
        ("compose.yaml", &compose["services"]),
        ("compose.lab.yaml", &lab["services"]),
    ] {
        for (name, service) in services.as_object().unwrap() {
            let mounts = service["volumes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let context = service["build"].as_str().or(service["build"]["context"].as_str());
            for path in mounts.chain(context).filter(|p| p.starts_with('.')) {
                let source = path.split(':').next().unwrap();
                assert!(deploy(source).exists(), "{file}: {name}: {source} does not exist");
            }
        }
    }
}

#[test]
fn the_prometheus_files_are_accepted() {
    for path in ["prometheus.yml", "lab/prometheus.yml"] {
        let output = Command::new(binary().unwrap())
            .args(["check-config", "--prometheus-config"])
            .arg(deploy(path))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{path}: {text}");
    }
}

#[test]
fn kubernetes_probes_ask_what_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let manifest = documents(&deploy("kubernetes.yaml"));
    let set = manifest.iter().find(|d| d["kind"] == "StatefulSet").unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], "prometheus");
        let answer = get(server.prometheus(), asked["path"].as_str().unwrap()).unwrap();
        assert_eq!(answer.status, 200, "{probe}");
    }
    let ports = container["ports"].as_array().unwrap();
    let named = |name: &Value| ports.iter().any(|p| p["name"] == *name);
    for service in manifest.iter().filter(|d| d["kind"] == "Service") {
        for port in service["spec"]["ports"].as_array().unwrap() {
            assert!(named(&port["targetPort"]), "{port}");
        }
    }
}

/// As Grafana fills variables in.
fn interpolated(query: &str) -> String {
    let values = [
        ("$__rate_interval", "1m"),
        ("$__range", "5m"),
        ("$__auto", "1m"),
        ("$service", ".+"),
        ("$instance", ".+"),
        ("$__tags", "service=\"frontend\""),
    ];
    let filled = values
        .iter()
        .fold(query.to_owned(), |q, (name, value)| q.replace(name, value));
    assert!(
        !filled.contains('$'),
        "a variable that this test does not know: {query}"
    );
    filled
}

/// Whether a query of a datasource of type `kind` finds something. A query that is refused fails the test.
fn finds_something(server: &Trilobite, kind: &str, query: &str) -> bool {
    let count = |v: &Value| v.as_array().map_or(0, Vec::len);
    match kind {
        "prometheus" => count(&server.promql(query).unwrap()) > 0,
        "loki" => count(&server.logql(query).unwrap()) > 0,
        "tempo" if query.contains("| rate(") => {
            let path = format!("/api/metrics/query_range?since=1h&step=10s&q={}", encoded(query));
            let answer = get(server.tempo(), &path).unwrap();
            assert_eq!(answer.status, 200, "{query}: {}", answer.text());
            count(&answer.json()["series"]) > 0
        }
        "tempo" => !server.traceql(query).unwrap().is_empty(),
        other => panic!("a datasource of type {other}"),
    }
}

/// Every query of the dashboards, of the links between datasources, and of the variables: kind and text.
fn all_queries() -> Vec<(String, String)> {
    let mut out = Vec::new();
    for dashboard in dashboards() {
        let mut found = Vec::new();
        objects(&dashboard["panels"], &mut found);
        for target in found.iter().filter(|o| o["refId"].is_string()) {
            let kind = target["datasource"]["type"].as_str().unwrap().to_owned();
            match (
                target["expr"].as_str().or(target["query"].as_str()),
                target["queryType"].as_str(),
            ) {
                // Grafana makes these itself.
                (None, Some("serviceMap")) => out.extend([
                    (
                        "prometheus".to_owned(),
                        "sum by (client, server) (rate(traces_service_graph_request_total[$__range]))".to_owned(),
                    ),
                    (
                        "prometheus".to_owned(),
                        "sum by (client, server) (rate(traces_service_graph_request_server_seconds_sum[$__range]))"
                            .to_owned(),
                    ),
                ]),
                (Some(query), _) => out.push((kind, query.to_owned())),
                (None, _) => panic!("a target without a query: {target}"),
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let definition = variable["definition"].as_str().unwrap();
            let inner = definition
                .strip_prefix("label_values(")
                .and_then(|d| d.strip_suffix(')'))
                .unwrap();
            let (metric, label) = inner.split_once(", ").unwrap();
            out.push(("prometheus".to_owned(), format!("{metric}{{{label}!=\"\"}}")));
        }
    }
    let file = document("grafana/datasources/trilobite.yaml");
    let mut found = Vec::new();
    objects(&file, &mut found);
    for query in found
        .iter()
        .filter(|o| o["name"].is_string())
        .filter_map(|o| o["query"].as_str())
    {
        out.push(("prometheus".to_owned(), query.replace("$$", "$")));
    }
    out
}

#[test]
fn every_query_of_the_dashboards_finds_something() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(
        dir.path(),
        &["--derived-metrics-interval", "1s", "--service-graphs-wait", "1s"],
    )
    .unwrap();
    let backend = App::start(&server, "backend", None);
    let frontend = App::start(&server, "frontend", Some(&backend));
    for path in ["/api/tasks", "/api/tasks", "/api/slow", "/api/fail"] {
        frontend.get(path);
    }
    let queries = all_queries();
    assert!(queries.len() > 35, "{}", queries.len());
    for (kind, query) in &queries {
        let query = interpolated(query);
        // Rates need two samples of the process' own metrics, which come every 15 s.
        until(&query, || finds_something(&server, kind, &query).then_some(()));
    }

    // A rule that waits for what never comes finds nothing either: the names must be real.
    let own = get(server.prometheus(), "/metrics").unwrap().text();
    let stored = get(server.prometheus(), "/api/v1/label/__name__/values")
        .unwrap()
        .json();
    let mut known: BTreeSet<&str> = own.lines().filter_map(|l| l.split(['{', ' ']).next()).collect();
    known.extend(stored["data"].as_array().unwrap().iter().filter_map(Value::as_str));
    let named = own_metrics();
    assert!(named.len() > 25, "{named:?}");
    let unknown: Vec<_> = named
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "nobody makes these: {unknown:?}");
}

/// The metrics of Trilobite, and those that it derives from spans, which dashboards and rules name, each with a file that does.
fn own_metrics() -> BTreeMap<String, PathBuf> {
    let mut paths = Vec::new();
    files(&deploy("grafana"), &mut paths);
    files(&deploy("rules"), &mut paths);
    let mut out = BTreeMap::new();
    for path in paths {
        for text in documents(&path).iter().flat_map(strings) {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            for word in words.filter(|w| w.starts_with("trilobite_") || w.starts_with("traces_")) {
                out.entry(word.to_owned()).or_insert_with(|| path.clone());
            }
        }
    }
    out
}

/// Every text within a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// The link from a line of text to its trace, in the spelling of several loggers.
#[test]
fn the_derived_field_finds_trace_ids_in_text() {
    let file = document("grafana/datasources/trilobite.yaml");
    let loki = file["datasources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["uid"] == "loki")
        .unwrap();
    let fields = loki["jsonData"]["derivedFields"].as_array().unwrap();
    assert!(
        fields
            .iter()
            .any(|f| f["matcherType"] == "label" && f["matcherRegex"] == "trace_id")
    );
    let by_text = fields.iter().find(|f| f["matcherType"].is_null()).unwrap();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let lines = [
        format!("{{\"message\":\"x\",\"otelTraceID\":\"{id}\"}}"),
        format!("otelTraceID={id} done"),
        format!("level=info trace_id={id}"),
        format!("{{\"traceId\": \"{id}\"}}"),
        format!("traceID={id}"),
    ];
    // The pattern means the same to JavaScript, where Grafana runs it, and to Python.
    let output = Command::new(python().unwrap())
        .args([
            "-c",
            "import re,sys; print(*[re.search(sys.argv[1], l).group(1) for l in sys.argv[2:]])",
        ])
        .arg(by_text["matcherRegex"].as_str().unwrap())
        .args(&lines)
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(found, [id; 5].join(" "), "{}", String::from_utf8_lossy(&output.stderr));
}
