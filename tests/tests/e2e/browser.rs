//! A frontend's spans from a real browser: a page of one origin sends to the OTLP port of another with the OpenTelemetry
//! JavaScript SDK, which asks first, and with a beacon. Needs Chromium and the bundle that `make agents` makes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trilobite_tests::{Trilobite, agent, get, until};

/// Killed when dropped, with what it started: the browser is several processes.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves the files of `dir` from an origin of its own, for as long as the test runs.
fn serve(dir: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let asked = String::from_utf8_lossy(&head[..n]).into_owned();
            let script = asked.starts_with("GET /page.js");
            let (file, kind) = if script {
                ("page.js", "text/javascript")
            } else {
                ("index.html", "text/html")
            };
            let body = std::fs::read(dir.join(file)).unwrap_or_default();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    addr
}

fn chromium() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        });
    if found.is_none() {
        println!("NOT RUN: no Chromium is installed");
    }
    found
}

#[test]
fn a_page_in_a_browser_sends_its_spans_to_another_origin() {
    let (Some(bundle), Some(chromium)) = (agent("browser"), chromium()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(&dir.path().join("data"), &[]).unwrap();
    let page = serve(&bundle);
    let child = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!(
            "http://localhost:{}/?otlp=http://{}",
            page.port(),
            server.otlp_http()
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _browser = Browser(child);
    let found = until("the page's trace", || {
        server
            .traceql("{resource.service.name=\"frontend-browser\"}")
            .unwrap()
            .pop()
    });
    assert_eq!(found["rootTraceName"], "documentLoad");
    let id = found["traceID"].as_str().unwrap();
    let trace = get(server.tempo(), &format!("/api/traces/{id}")).unwrap().json();
    let spans: Vec<&Value> = (trace["batches"].as_array().unwrap().iter())
        .flat_map(|b| b["scopeSpans"].as_array().unwrap())
        .flat_map(|s| s["spans"].as_array().unwrap())
        .map(|s| &s["name"])
        .collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
    let beacon = until("the beacon's span", || {
        server
            .traceql("{resource.service.name=\"frontend-beacon\"}")
            .unwrap()
            .pop()
    });
    assert_eq!(beacon["traceID"], "b".repeat(32));
}
