//! Acceptance, scraping: a `prometheus.yml` as labs have it, real exporters behind it, and the way from a histogram's exemplar
//! to a trace and its logs. `docs/acceptance.md` names the row of each test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trilobite_tests::{Trilobite, agent, encoded, get, until};

use crate::collector::{self, Collector};
use crate::lab_apps::{App, free_addr};

/// Scrapes every second, and adds what `targets` names later: addresses that are known only when something runs.
fn started(dir: &Path, scrape_configs: &str) -> Trilobite {
    let text = format!(
        "global:\n  scrape_interval: 1s\n  external_labels: {{lab: outside}}\nscrape_configs:\n{scrape_configs}"
    );
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, text).unwrap();
    Trilobite::start(&dir.join("data"), &["--prometheus-config", config.to_str().unwrap()]).unwrap()
}

/// A job whose targets are in a file that [`put_target`] writes.
fn job_of_file(dir: &Path, job: &str, labels: &str) -> String {
    let file = dir.join(format!("{job}.json")).display().to_string();
    format!(
        "  - job_name: {job}\n    file_sd_configs:\n      - files: [{file}]\n        refresh_interval: 1s\n    relabel_configs: [{labels}]\n"
    )
}

fn put_target(dir: &Path, job: &str, addr: &str) {
    std::fs::write(
        dir.join(format!("{job}.json")),
        format!("[{{\"targets\": [\"{addr}\"]}}]"),
    )
    .unwrap();
}

fn value(server: &Trilobite, query: &str, wanted: &str) {
    until(&format!("{query} to be {wanted}"), || {
        server.promql_value(query).filter(|v| v == wanted)
    });
}

/// The label names of the only series of a query.
fn label_names(server: &Trilobite, query: &str) -> Vec<String> {
    let result = server.promql(query).unwrap();
    let series = result.as_array().unwrap();
    assert_eq!(series.len(), 1, "{query}: {result}");
    series[0]["metric"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_flask_app_is_scraped_and_its_exemplars_lead_to_traces_and_logs() {
    let dir = tempfile::tempdir().unwrap();
    let addr = free_addr();
    let flask = format!(
        "  - job_name: flask-backend\n    static_configs:\n      - targets: ['{addr}']\n        labels: {{service: flask-backend}}\n"
    );
    let server = started(dir.path(), &(flask + &job_of_file(dir.path(), "prometheus", "")));
    put_target(dir.path(), "prometheus", &server.prometheus().to_string());
    value(&server, "up{job=\"flask-backend\"}", "0");
    let app = App::start_at(addr, &server, "flask-backend", None);
    value(&server, "up{job=\"flask-backend\"}", "1");
    value(&server, "up{job=\"prometheus\"}", "1");

    for _ in 0..3 {
        assert_eq!(app.get("/api/tasks").status, 200);
    }
    let count = "http_requests_total{endpoint=\"/api/tasks\"}";
    value(&server, count, "3");
    let labels = [
        "__name__",
        "endpoint",
        "instance",
        "job",
        "method",
        "service",
        "status_code",
    ];
    assert_eq!(label_names(&server, count), labels);
    assert_eq!(server.promql(count).unwrap()[0]["metric"]["instance"], addr.to_string());
    value(&server, "http_request_duration_seconds_bucket{le=\"+Inf\"}", "3");
    value(&server, "http_request_duration_seconds_count", "3");
    for query in [
        "http_requests_created",
        "process_resident_memory_bytes{job=\"flask-backend\"}",
        "scrape_samples_scraped{job=\"flask-backend\"} > 10",
        "scrape_duration_seconds{job=\"flask-backend\"}",
        "scrape_series_added{job=\"flask-backend\"}",
        "scrape_samples_post_metric_relabeling{job=\"flask-backend\"}",
        "process_resident_memory_bytes{job=\"prometheus\"}",
    ] {
        until(query, || server.promql_value(query));
    }
    // OpenMetrics names families without their suffix, and so does Prometheus then.
    let path = "/api/v1/metadata?metric=http_requests";
    let known = get(server.prometheus(), path).unwrap().json();
    assert!(known.to_string().contains("Requests served."), "{known}");

    // From the histogram's exemplar to the trace, to its logs.
    let range = format!("start={}&end={}", now_s() - 600, now_s() + 10);
    let query = encoded("http_request_duration_seconds_bucket{job=\"flask-backend\"}");
    let path = format!("/api/v1/query_exemplars?query={query}&{range}");
    let id = until("exemplars", || {
        let json = get(server.prometheus(), &path).unwrap().json();
        json["data"][0]["exemplars"][0]["labels"]["trace_id"]
            .as_str()
            .map(str::to_owned)
    });
    let path = format!("/api/traces/{id}");
    let trace = until("the trace", || {
        get(server.tempo(), &path).ok().filter(|a| a.status == 200)
    });
    assert!(trace.text().contains("find tasks"), "{}", trace.text());
    let query = format!("{{service_name=\"flask-backend\"}} | trace_id=\"{id}\"");
    let lines = until("its lines", || server.lines(&query).ok().filter(|l| !l.is_empty()));
    assert!(lines[0].starts_with("Request completed"), "{lines:?}");

    // Gone: down, and its series end at once.
    drop(app);
    value(&server, "up{job=\"flask-backend\"}", "0");
    assert_eq!(server.promql(count).unwrap(), Value::Array(Vec::new()));
    until("the page to say so", || {
        let page = get(server.prometheus(), "/targets").unwrap().text();
        (page.contains("class=down") && page.contains("flask-backend")).then_some(())
    });
    let targets = get(server.prometheus(), "/api/v1/targets?state=active").unwrap().json();
    let of_app = targets["data"]["activeTargets"].as_array().unwrap();
    let of_app = of_app.iter().find(|t| t["scrapePool"] == "flask-backend").unwrap();
    assert_eq!(of_app["health"], "down");
    assert!(!of_app["lastError"].as_str().unwrap().is_empty());
}

fn now_s() -> u64 {
    crate::senders::now_ns() / 1_000_000_000
}

/// The Collector exposes an application's `job` and `instance`, which are not those of the scrape.
#[test]
fn what_a_collector_exposes_keeps_the_applications_names_as_exported_ones() {
    let Some(binary) = agent("collector") else { return };
    let dir = tempfile::tempdir().unwrap();
    let job = "otel-collector-prometheus-exporter";
    let server = started(
        dir.path(),
        &job_of_file(dir.path(), job, "{target_label: service, replacement: otel-metrics}"),
    );
    let collector = Collector::start(binary, &server);
    collector::run_app(&collector);
    put_target(dir.path(), job, &collector.exporter.to_string());
    let query = format!("sum by (exported_job, exported_instance, service) (http_requests_total{{job=\"{job}\"}})");
    value(&server, &query, "13");
    let labels = &server.promql(&query).unwrap()[0]["metric"];
    for (name, value) in [
        ("exported_job", "flask-backend"),
        ("exported_instance", "backend-1"),
        ("service", "otel-metrics"),
    ] {
        assert_eq!(labels[name], value, "{labels}");
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn node_exporter(binary: &Path, addr: SocketAddr) -> Running {
    let child = Command::new(binary)
        .arg(format!("--web.listen-address={addr}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

#[test]
fn a_node_exporter_fills_the_machines_dashboard() {
    let Some(binary) = agent("node_exporter") else { return };
    let dir = tempfile::tempdir().unwrap();
    let addr = free_addr();
    let server = started(
        dir.path(),
        &format!("  - job_name: node\n    static_configs: [{{targets: ['{addr}']}}]\n"),
    );
    let _exporter = node_exporter(&binary, addr);
    value(&server, "up{job=\"node\"}", "1");
    for query in [
        "100 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[1m])) * 100",
        "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
        "min(node_filesystem_avail_bytes / node_filesystem_size_bytes)",
        "sum(rate(node_network_receive_bytes_total[1m]))",
        "node_load1",
        "scrape_samples_scraped{job=\"node\"} > 300",
    ] {
        until(query, || server.promql_value(query));
    }
}
