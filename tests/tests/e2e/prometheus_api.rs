//! The Prometheus API of the real binary: what only a whole process shows, beside the tests of `ui-api`.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, get, request};

/// The data of a good answer.
fn data(server: &Trilobite, path: &str) -> Value {
    let answer = get(server.prometheus(), path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()["data"].clone()
}

/// A server that has stored its own metrics.
fn started(dir: &std::path::Path, args: &[&str]) -> Trilobite {
    let server = Trilobite::start(dir, args).unwrap();
    let since = Instant::now();
    while data(&server, "/api/v1/query?query=up")["result"] == json!([]) {
        assert!(since.elapsed() < Duration::from_secs(20), "no metrics of its own");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

#[test]
fn it_is_its_own_target() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), &[]);
    let instance = format!("localhost:{}", server.prometheus().port());
    let targets = data(&server, "/api/v1/targets");
    let target = &targets["activeTargets"][0];
    assert_eq!(target["labels"], json!({"instance": instance, "job": "trilobite"}));
    assert_eq!(target["health"], "up");
    assert_eq!(target["scrapeInterval"], "15s");
    assert!(target["lastScrapeDuration"].as_f64().unwrap() > 0.0);
    assert_eq!(
        data(&server, "/api/v1/scrape_pools"),
        json!({"scrapePools": ["trilobite"]})
    );
    let about = data(&server, "/api/v1/targets/metadata?metric=trilobite_queries_total");
    assert_eq!(about[0]["type"], "counter");
    let federated = get(server.prometheus(), "/federate?match[]=up").unwrap().text();
    let line = format!("# TYPE up untyped\nup{{instance=\"{instance}\",job=\"trilobite\"}} 1 ");
    assert!(federated.starts_with(&line), "{federated}");
    let runtime = data(&server, "/api/v1/status/runtimeinfo");
    assert!(!runtime["hostname"].as_str().unwrap().is_empty());
    assert!(runtime["CWD"].as_str().unwrap().starts_with('/'));
}

#[test]
fn answers_are_compressed_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let server = started(dir.path(), &[]);
    let path = "/api/v1/label/__name__/values?limit=40000";
    let plain = get(server.prometheus(), path).unwrap();
    let ask = |encoding| request(server.prometheus(), "GET", path, &[("Accept-Encoding", encoding)], b"").unwrap();
    let gzip = ask("gzip");
    assert_eq!(gzip.header("content-encoding"), "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&gzip.body[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
    let zstd = ask("zstd");
    assert_eq!(zstd.header("content-encoding"), "zstd");
    assert_eq!(zstd::decode_all(&zstd.body[..]).unwrap(), plain.body);
    assert_eq!(ask("br").header("content-encoding"), "");
}

#[test]
fn admin_calls_need_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = |server: &Trilobite| {
        let path = "/api/v1/admin/tsdb/snapshot";
        request(server.prometheus(), "POST", path, &[], b"").unwrap()
    };
    let mut server = started(dir.path(), &[]);
    let refused = snapshot(&server);
    assert_eq!(refused.status, 500);
    assert_eq!(
        refused.json(),
        json!({"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"})
    );
    server.stop().unwrap();
    let server = started(dir.path(), &["--enable-admin-api"]);
    let name = snapshot(&server).json()["data"]["name"].as_str().unwrap().to_owned();
    assert!(dir.path().join("snapshots").join(&name).is_dir(), "{name}");
    let path = "/api/v1/admin/tsdb/delete_series?match[]=up";
    let deleted = request(server.prometheus(), "PUT", path, &[], b"").unwrap();
    assert_eq!((deleted.status, deleted.text()), (204, String::new()));
    let flags = data(&server, "/api/v1/status/flags");
    assert!(flags["enable-admin-api"].is_string());
}
