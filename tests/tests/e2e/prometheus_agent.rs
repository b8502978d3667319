//! A real Prometheus 3 in agent mode, which scrapes an application and itself and passes on what it found: to one server by the
//! first version of remote write, to another by the second. It is built by `make agents`; where that cannot be, the test says so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use trilobite_tests::{Trilobite, agent, encoded, get, python, until};

use crate::lab_apps::free_addr;

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const APP: &str = "
import time
from prometheus_client import Counter, Histogram, start_http_server
requests = Counter('app_requests', 'Requests served.', ['method'])
seconds = Histogram('app_seconds', 'Time to answer.')
requests.labels('GET').inc(3)
seconds.observe(0.2, {'trace_id': '4c7d1e90a2b35f6817d0c3e5a9f8b264'})
server, thread = start_http_server(0, addr='127.0.0.1')
print(server.server_port, flush=True)
time.sleep(600)
";

fn app() -> (Running, String) {
    let mut child = Command::new(python().unwrap())
        .args(["-c", APP])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut port).unwrap();
    (Running(child), port.trim().to_owned())
}

fn prometheus(binary: &Path, dir: &Path, addr: std::net::SocketAddr, config: &str) -> Running {
    let file = dir.join("agent.yml");
    std::fs::write(&file, config).unwrap();
    let child = Command::new(binary)
        .args(["--agent", "--enable-feature=exemplar-storage"])
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.agent.path={}", dir.join("agent").display()))
        .arg(format!("--web.listen-address={addr}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

#[test]
fn what_an_agent_scrapes_arrives_by_both_versions_of_remote_write() {
    let Some(binary) = agent("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let servers = ["v1", "v2"].map(|name| Trilobite::start(&dir.path().join(name), &[]).unwrap());
    let (app, port) = app();
    let addr = free_addr();
    let mut config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{agent: lab}}}}\nscrape_configs:\n\
         - job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: agent\n  scrape_native_histograms: true\n  static_configs: [{{targets: ['{addr}']}}]\nremote_write:\n"
    );
    for (server, message) in servers
        .iter()
        .zip(["prometheus.WriteRequest", "io.prometheus.write.v2.Request"])
    {
        config.push_str(&format!(
            "- url: http://{}/api/v1/write\n  protobuf_message: {message}\n  send_exemplars: true\n  send_native_histograms: true\n  \
             queue_config: {{batch_send_deadline: 500ms}}\n  metadata_config: {{send_interval: 1s}}\n",
            server.prometheus()
        ));
    }
    let _agent = prometheus(&binary, dir.path(), addr, &config);
    for server in &servers {
        let value = |query: &str, wanted: &str| {
            until(&format!("{query} to be {wanted}"), || {
                server.promql_value(query).filter(|v| v == wanted)
            });
        };
        value("app_requests_total{agent=\"lab\"}", "3");
        value("up{job=\"app\"}", "1");
        value("app_seconds_bucket{le=\"+Inf\"}", "1");
        let native = "prometheus_http_request_duration_seconds{handler=\"/metrics\"}";
        until("a native histogram", || {
            let count = server.promql_value(&format!("histogram_count({native})"))?;
            (count.parse::<f64>().unwrap() > 1.0).then_some(())
        });
        // It is one, and no set of buckets.
        assert_eq!(
            server
                .promql("prometheus_http_request_duration_seconds_bucket")
                .unwrap()
                .as_array()
                .unwrap()
                .len(),
            0
        );
        until("its rate", || {
            server.promql_value(&format!("histogram_quantile(0.9, rate({native}[1m]))"))
        });
        let query = encoded("app_seconds_bucket");
        let path = format!("/api/v1/query_exemplars?query={query}&start=0&end=9999999999");
        let id = until("exemplars", || {
            let told = get(server.prometheus(), &path).unwrap().json();
            told["data"][0]["exemplars"][0]["labels"]["trace_id"]
                .as_str()
                .map(str::to_owned)
        });
        assert_eq!(id, "4c7d1e90a2b35f6817d0c3e5a9f8b264");
    }
    // In the second version an agent sends no metadata.
    until("what is known of its metrics", || {
        let told = get(servers[0].prometheus(), "/api/v1/metadata").unwrap().text();
        told.contains("Requests served.").then_some(())
    });
    // The application ends, and so do its series, which the agent says by their last sample.
    drop(app);
    for server in &servers {
        until("the end of its series", || {
            let left = server.promql("app_requests_total").unwrap();
            left.as_array().unwrap().is_empty().then_some(())
        });
        assert_eq!(server.promql_value("up{job=\"app\"}").as_deref(), Some("0"));
    }
    // Nothing was refused on the way.
    let own = get(addr, "/metrics").unwrap().text();
    for name in [
        "prometheus_remote_storage_samples_failed_total",
        "prometheus_remote_storage_histograms_failed_total",
        "prometheus_remote_storage_exemplars_failed_total",
        "prometheus_remote_storage_samples_retried_total",
        "prometheus_remote_storage_metadata_failed_total",
    ] {
        let values: Vec<&str> = own.lines().filter(|l| l.starts_with(&format!("{name}{{"))).collect();
        assert!(
            !values.is_empty() && values.iter().all(|l| l.ends_with(" 0")),
            "{values:?}"
        );
    }
}
