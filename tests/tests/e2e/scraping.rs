//! Scraping as its users see it: a `prometheus.yml`, targets that come and go, and the API that tells of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, binary, get, python, request};

/// A target of our own, on a thread of its own; it ends when it is dropped.
struct Target {
    addr: SocketAddr,
    body: Arc<Mutex<(String, String)>>,
    over: Arc<AtomicBool>,
}

impl Target {
    fn start(content_type: &str, body: &str) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let body = Arc::new(Mutex::new((content_type.to_owned(), body.to_owned())));
        let over = Arc::new(AtomicBool::new(false));
        let (shown, ends) = (body.clone(), over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    request.push(byte[0]);
                }
                let (content_type, body) = shown.lock().unwrap().clone();
                let len = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Target { addr, body, over }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.addr);
    }
}

fn data(server: &Trilobite, path: &str) -> Value {
    let answer = get(server.prometheus(), path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"].clone()
}

/// Waits until a query's answer passes; gives its series.
fn until(server: &Trilobite, query: &str, passes: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let path = format!("/api/v1/query?query={}", percent(query));
    let since = Instant::now();
    loop {
        let found = data(server, &path)["result"].as_array().unwrap().clone();
        if passes(&found) {
            return found;
        }
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{query}: {found:?}\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

fn started(dir: &Path, config: &str) -> Trilobite {
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    // As a lab that ran Prometheus starts it.
    let file = format!("--config.file={}", file.display());
    Trilobite::start(&data, &[&file, "--web.enable-lifecycle"]).unwrap()
}

#[test]
fn a_prometheus_yml_is_followed_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::start(
        "text/plain; version=0.0.4",
        "# TYPE a gauge\n# HELP a About a.\na{x=\"1\"} 1\nb 2\n",
    );
    let addr = target.addr;
    let config = |more: &str| {
        format!(
            "global: {{scrape_interval: 1s, external_labels: {{cluster: lab}}}}\nscrape_configs:\n- job_name: app\n  static_configs: \
             [{{targets: ['{addr}', '127.0.0.1:1'], labels: {{service: flask}}}}]\n  relabel_configs: [{{source_labels: [__address__], regex: '.*:7', action: drop}}]\n{more}"
        )
    };
    let server = started(dir.path(), &config(""));
    let found = until(&server, "a", |s| !s.is_empty());
    // The labels of the target are on each sample, external ones on none.
    let instance = addr.to_string();
    assert_eq!(
        found[0]["metric"],
        json!({"__name__": "a", "instance": instance, "job": "app", "service": "flask", "x": "1"})
    );
    until(&server, "up{job=\"app\"} == 0", |s| s.len() == 1);
    assert_eq!(until(&server, "up{job=\"app\"} == 1", |s| s.len() == 1).len(), 1);
    let targets = data(&server, "/api/v1/targets?scrapePool=app");
    let active = targets["activeTargets"].as_array().unwrap();
    assert_eq!(active.len(), 2);
    let (up, down) = (&active[0], &active[1]);
    assert_eq!((&up["health"], &up["lastError"]), (&json!("up"), &json!("")));
    assert_eq!(up["discoveredLabels"]["__scrape_timeout__"], "1s");
    assert_eq!(
        (&up["scrapeInterval"], &up["scrapeTimeout"]),
        (&json!("1s"), &json!("1s"))
    );
    assert_eq!(
        down["lastError"],
        "Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    let metadata = data(&server, "/api/v1/targets/metadata?metric=a");
    assert_eq!(
        (&metadata[0]["help"], &metadata[0]["type"]),
        (&json!("About a."), &json!("gauge"))
    );
    assert_eq!(
        data(&server, "/api/v1/scrape_pools"),
        json!({"scrapePools": ["trilobite", "app"]})
    );
    let yaml = data(&server, "/api/v1/scrape_pools/config?scrapePool=app")["yaml"].clone();
    assert!(yaml.as_str().unwrap().starts_with("job_name: app\n"), "{yaml}");
    let labels = percent("{\"__address__\": \"x:7\"}");
    let steps = data(
        &server,
        &format!("/api/v1/targets/relabel_steps?scrapePool=app&labels={labels}"),
    );
    assert_eq!(
        (&steps["steps"][0]["keep"], &steps["steps"][0]["rule"]["action"]),
        (&json!(false), &json!("drop"))
    );
    let yaml = data(&server, "/api/v1/status/config")["yaml"].clone();
    assert!(yaml.as_str().unwrap().contains("cluster: lab"), "{yaml}");

    // A series that is no longer shown ends at once.
    target.body.lock().unwrap().1 = "a{x=\"1\"} 3\n".to_owned();
    until(&server, "b", <[Value]>::is_empty);
    until(&server, "a == 3", |s| s.len() == 1);

    // A broken file leaves the old configuration in force, and says so.
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config("- job_name: app\n")).unwrap();
    let reload = || request(server.prometheus(), "POST", "/-/reload", &[], b"").unwrap();
    let answer = reload();
    assert_eq!(answer.status, 500);
    assert!(
        answer
            .text()
            .contains("found multiple scrape configs with job name \"app\""),
        "{}",
        answer.text()
    );
    assert_eq!(
        data(&server, "/api/v1/status/runtimeinfo")["reloadConfigSuccess"],
        false
    );
    let own = get(server.prometheus(), "/metrics").unwrap().text();
    assert!(own.contains("\nprometheus_config_last_reload_successful 0\n"));
    assert_eq!(
        data(&server, "/api/v1/targets?scrapePool=app")["activeTargets"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // A new job, that of every prometheus.yml.
    let own_port = server.prometheus().port();
    let more = format!("- job_name: prometheus\n  static_configs: [{{targets: ['localhost:{own_port}']}}]\n");
    std::fs::write(&file, config(&more)).unwrap();
    assert_eq!(reload().status, 200);
    assert_eq!(data(&server, "/api/v1/status/runtimeinfo")["reloadConfigSuccess"], true);
    until(&server, "up{job=\"prometheus\"} == 1", |s| s.len() == 1);
    until(
        &server,
        "prometheus_config_last_reload_successful{job=\"prometheus\"} == 1",
        |s| s.len() == 1,
    );
    until(&server, "up{job=\"trilobite\"}", |s| s.len() == 1);

    // SIGHUP does the same; a target that is gone leaves the lists at once.
    std::fs::write(&file, "global: {scrape_interval: 1s}\n").unwrap();
    Command::new("kill")
        .args(["-HUP", &server.pid().to_string()])
        .status()
        .unwrap();
    let since = Instant::now();
    while data(&server, "/api/v1/scrape_pools") != json!({"scrapePools": ["trilobite"]}) {
        assert!(since.elapsed() < Duration::from_secs(10), "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    until(&server, "a", <[Value]>::is_empty);
}

#[test]
fn exemplars_of_a_scrape_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 5 # {trace_id=\"4c7d1e90a2b35f6817d0c3e5a9f8b264\"} 0.5\nh_bucket{le=\"+Inf\"} 5\nh_count 5\nh_sum 2\n# EOF\n";
    let target = Target::start("application/openmetrics-text; version=1.0.0; charset=utf-8", body);
    let config = format!(
        "scrape_configs:\n- job_name: app\n  scrape_interval: 1s\n  static_configs: [{{targets: ['{}']}}]\n",
        target.addr
    );
    let server = started(dir.path(), &config);
    until(&server, "h_count", |s| !s.is_empty());
    let found = data(&server, "/api/v1/query_exemplars?query=h_bucket&start=0&end=9999999999");
    assert_eq!(found[0]["seriesLabels"]["le"], "1.0");
    assert_eq!(
        found[0]["exemplars"][0]["labels"]["trace_id"],
        "4c7d1e90a2b35f6817d0c3e5a9f8b264"
    );
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const APP: &str = "
import sys, time
from prometheus_client import Counter, Histogram, start_http_server
requests = Counter('app_requests', 'Requests served.', ['method'])
seconds = Histogram('app_seconds', 'Time to answer.')
requests.labels('GET').inc(3)
seconds.observe(0.2, {'trace_id': '4c7d1e90a2b35f6817d0c3e5a9f8b264'})
server, thread = start_http_server(0, addr='127.0.0.1')
print(server.server_port, flush=True)
time.sleep(600)
";

#[test]
fn a_prometheus_client_app_is_scraped_and_its_series_end_when_it_is_killed() {
    let python = python().unwrap();
    let mut app = Running(
        Command::new(python)
            .args(["-c", APP])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut port = String::new();
    let mut stdout = std::io::BufReader::new(app.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut port).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "scrape_configs:\n- job_name: app\n  scrape_interval: 1s\n  static_configs: [{{targets: ['localhost:{}']}}]\n",
        port.trim()
    );
    let server = started(dir.path(), &config);
    let found = until(&server, "app_requests_total", |s| !s.is_empty());
    assert_eq!(found[0]["value"][1], "3");
    until(&server, "app_requests_created", |s| s.len() == 1);
    until(&server, "app_seconds_bucket{le=\"+Inf\"}", |s| s.len() == 1);
    for name in [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    ] {
        assert_eq!(
            until(&server, &format!("{name}{{job=\"app\"}}"), |s| s.len() == 1).len(),
            1
        );
    }
    // It is asked for OpenMetrics, in which it tells of exemplars.
    let found = data(
        &server,
        "/api/v1/query_exemplars?query=app_seconds_bucket&start=0&end=9999999999",
    );
    assert_eq!(
        found[0]["exemplars"][0]["labels"]["trace_id"],
        "4c7d1e90a2b35f6817d0c3e5a9f8b264"
    );
    app.0.kill().unwrap();
    until(&server, "up{job=\"app\"} == 0", |s| s.len() == 1);
    assert_eq!(until(&server, "app_requests_total", <[Value]>::is_empty).len(), 0);
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_without_starting() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.yml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(binary().unwrap())
            .arg("check-config")
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = check("global:\n  retention: {time: 15d}\nscrape_configs:\n- job_name: a\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!(
            "{}:2: unknown key \"retention\" in global is ignored",
            file.display()
        )),
        "{said}"
    );
    let (code, said) = check("scrape_configs:\n- job_name: a\n  scheme: ftp\n  scrape_interval: fast\n");
    assert_eq!(code, Some(2), "{said}");
    for line in [":3: scheme: \"ftp\"", ":4: scrape_interval: \"fast\""] {
        assert!(said.contains(line), "{said}");
    }
}
