//! Scraping of targets that want to know who asks, and that we want to know: TLS on both sides, passwords and tokens.
//!
//! `tests/testdata/tls/` holds an authority, what it signed for a server called `app.lab` and for a client, and the certificate
//! of another authority; made with OpenSSL for these tests, good for a hundred years, of no use elsewhere.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use trilobite_tests::{Trilobite, get, python, repository, until};

/// A target in Python, so that another TLS than ours is on its side: `metric 1` for whoever has a certificate of the authority
/// (a first argument) or a password or token (none).
const TARGET: &str = r#"
import base64, http.server, ssl, sys
basic = 'Basic ' + base64.b64encode(b'lab:pass word').decode()
class Target(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        knows = len(sys.argv) > 1 or self.headers.get('Authorization') in (basic, 'Bearer tok-2', 'ApiKey k') or self.headers.get('X-Key') == 'k-1'
        self.send_response(200 if knows else 401)
        self.send_header('Content-Type', 'text/plain; version=0.0.4')
        self.end_headers()
        self.wfile.write(b'metric 1\n')
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Target)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1] + '/server.pem', sys.argv[1] + '/server.key')
    context.load_verify_locations(sys.argv[1] + '/ca.pem')
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running target and its port.
fn target(tls: Option<&Path>) -> (Running, String) {
    let mut child = Command::new(python().unwrap())
        .args(["-c", TARGET])
        .args(tls)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut port).unwrap();
    (Running(child), port.trim().to_owned())
}

fn started(dir: &Path, jobs: &str) -> Trilobite {
    let config = dir.join("prometheus.yml");
    std::fs::write(
        &config,
        format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"),
    )
    .unwrap();
    Trilobite::start(&dir.join("data"), &["--prometheus-config", config.to_str().unwrap()]).unwrap()
}

/// Health and last error of a job's only target, once it was scraped and `passes`.
fn scraped(server: &Trilobite, job: &str, passes: impl Fn(&str) -> bool) -> (String, String) {
    until(&format!("a scrape of {job}"), || {
        let path = format!("/api/v1/targets?scrapePool={job}");
        let told: Value = get(server.prometheus(), &path).unwrap().json();
        let target = &told["data"]["activeTargets"][0];
        let health = target["health"].as_str()?.to_owned();
        (health != "unknown" && passes(&health)).then(|| (health, target["lastError"].as_str().unwrap().to_owned()))
    })
}

#[test]
fn both_sides_of_a_scrape_over_tls_show_who_they_are() {
    let tls: PathBuf = repository().join("tests/testdata/tls").canonicalize().unwrap();
    let (_target, port) = target(Some(&tls));
    let at = tls.display();
    let own = format!("cert_file: {at}/client.pem, key_file: {at}/client.key");
    let jobs = [
        ("good", format!("ca_file: {at}/ca.pem, {own}, server_name: app.lab"), ""),
        ("blind", format!("insecure_skip_verify: true, {own}"), ""),
        (
            "another-authority",
            format!("ca_file: {at}/other_ca.pem, {own}, server_name: app.lab"),
            "UnknownIssuer",
        ),
        (
            "another-name",
            format!("ca_file: {at}/ca.pem, {own}, server_name: other.lab"),
            "certificate not valid for name \"other.lab\"",
        ),
        (
            "by-address",
            format!("ca_file: {at}/ca.pem, {own}"),
            "certificate not valid for name",
        ),
        (
            "nobody",
            format!("ca_file: {at}/ca.pem, server_name: app.lab"),
            "CertificateRequired",
        ),
        (
            "no-file",
            format!("ca_file: {at}/absent.pem, {own}"),
            "absent.pem: No such file",
        ),
    ];
    let yaml: String = jobs
        .iter()
        .map(|(job, tls, _)| {
            format!(
                "- job_name: {job}\n  scheme: https\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n  tls_config: {{{tls}}}\n"
            )
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), &yaml);
    for (job, _, wanted) in &jobs {
        let (health, error) = scraped(&server, job, |_| true);
        if wanted.is_empty() {
            assert_eq!((health.as_str(), error.as_str()), ("up", ""), "{job}");
            until(job, || server.promql_value(&format!("metric{{job=\"{job}\"}}")));
        } else {
            assert_eq!(health, "down", "{job}");
            assert!(error.contains(wanted), "{job}: {error}");
            let whole = format!("Get \"https://127.0.0.1:{port}/metrics\": ");
            assert!(error.starts_with(&whole), "{job}: {error}");
        }
    }
    assert_eq!(server.promql_value("count(metric)").unwrap(), "2");
}

#[test]
fn credentials_are_taken_from_files_for_each_scrape() {
    let (_target, port) = target(None);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (password, token) = (file("password", "pass word\n"), file("token", "tok-1\n"));
    let jobs = [
        ("nobody", String::new(), false),
        (
            "password",
            "basic_auth: {username: lab, password: pass word}".to_owned(),
            true,
        ),
        (
            "password-file",
            format!("basic_auth: {{username: lab, password_file: {password}}}"),
            true,
        ),
        (
            "wrong-password",
            "basic_auth: {username: lab, password: x}".to_owned(),
            false,
        ),
        (
            "scheme",
            "authorization: {type: ApiKey, credentials: k}".to_owned(),
            true,
        ),
        ("header", "http_headers: {X-Key: {secrets: [k-1]}}".to_owned(), true),
        (
            "token-file",
            format!("authorization: {{credentials_file: {token}}}"),
            false,
        ),
    ];
    let yaml: String = jobs
        .iter()
        .map(|(job, auth, _)| {
            format!("- job_name: {job}\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n  {auth}\n")
        })
        .collect();
    let server = started(dir.path(), &yaml);
    for (job, _, is_good) in &jobs {
        let (health, error) = scraped(&server, job, |_| true);
        let wanted = if *is_good {
            ("up", "")
        } else {
            ("down", "server returned HTTP status 401 Unauthorized")
        };
        assert_eq!((health.as_str(), error.as_str()), wanted, "{job}");
    }
    // A new token needs no reload. No secret is shown.
    file("token", "tok-2");
    scraped(&server, "token-file", |health| health == "up");
    let shown = get(server.prometheus(), "/api/v1/status/config").unwrap().text();
    assert!(shown.contains("<secret>") && !shown.contains("pass word"), "{shown}");
}
