//! What the Loki API does beside queries: deleting, keeping streams for their own time, merged labels, the old push,
//! tailing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use trilobite_tests::{Answer, Trilobite, get, request};

use crate::senders;

const SECOND_NS: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02x}")).collect()
}

fn now_s() -> u64 {
    senders::now_ns() / SECOND_NS
}

/// Pushes lines, one second apart, the last of which is `age` seconds old.
fn push(server: &Trilobite, stream: Value, lines: &[Value], age: u64) -> Answer {
    let first = now_s() - age + 1 - lines.len() as u64;
    let at = |i: usize| ((first + i as u64) * SECOND_NS).to_string();
    let values: Vec<Value> = lines
        .iter()
        .enumerate()
        .map(|(i, line)| match line {
            Value::Array(line) => json!([at(i), line[0], line[1]]),
            line => json!([at(i), line]),
        })
        .collect();
    let body = json!({"streams": [{"stream": stream, "values": values}]}).to_string();
    let headers = [("Content-Type", "application/json")];
    request(server.loki(), "POST", "/loki/api/v1/push", &headers, body.as_bytes()).unwrap()
}

fn result(server: &Trilobite, query: &str) -> Vec<Value> {
    let (start, end) = (now_s() - 30 * DAY_S, now_s() + 60);
    let path = format!(
        "/loki/api/v1/query_range?query={}&start={start}&end={end}&limit=5000",
        encoded(query)
    );
    let answer = get(server.loki(), &path).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn lines(server: &Trilobite, query: &str) -> Vec<String> {
    let streams = result(server, query);
    let values = streams
        .iter()
        .flat_map(|s| s["values"].as_array().into_iter().flatten());
    let mut lines: Vec<String> = values.map(|v| v[1].as_str().unwrap_or_default().to_owned()).collect();
    lines.sort();
    lines
}

fn label_values(server: &Trilobite, name: &str) -> Value {
    let path = format!("/loki/api/v1/label/{name}/values?start={}", now_s() - 30 * DAY_S);
    get(server.loki(), &path).unwrap().json()["data"].take()
}

fn delete(server: &Trilobite, query: &str) -> String {
    let path = format!("/loki/api/v1/delete?query={}&start={}", encoded(query), now_s() - DAY_S);
    let answer = request(server.loki(), "POST", &path, &[], b"").unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    answer.header("x-delete-request-id").to_owned()
}

fn requests(server: &Trilobite) -> Value {
    get(server.loki(), "/loki/api/v1/delete").unwrap().json()
}

fn flush(server: &Trilobite) {
    assert_eq!(request(server.loki(), "POST", "/flush", &[], b"").unwrap().status, 204);
}

#[test]
fn what_is_deleted_stays_away_through_kill_9_and_leaves_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    let user = |n: u64| json!(format!("user=u{n} secret-of-u{n}"));
    assert_eq!(
        push(&server, json!({"app": "shop"}), &[user(1), user(2), user(1)], 5).status,
        204
    );
    assert_eq!(push(&server, json!({"app": "bank"}), &[user(1)], 5).status, 204);
    flush(&server);
    assert_eq!(
        push(&server, json!({"app": "shop"}), &[user(3), user(1)], 1).status,
        204
    );

    let by_field = delete(&server, r#"{app="shop"} | logfmt | user="u1""#);
    let whole = delete(&server, r#"{app="bank"}"#);
    let left = ["user=u2 secret-of-u2", "user=u3 secret-of-u3"];
    assert_eq!(lines(&server, r#"{app=~".+"}"#), left);
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(lines(&server, r#"{app=~".+"}"#), left);
    assert_eq!(label_values(&server, "app"), json!(["shop"]));
    let counted = result(&server, r#"{app="bank"} |= "u1""#);
    assert_eq!(counted, Vec::<Value>::new());
    let listed = requests(&server);
    assert_eq!(listed[0]["request_id"], by_field, "{listed}");
    assert_eq!(
        (&listed[0]["status"], &listed[1]["status"]),
        (&json!("received"), &json!("received"))
    );

    // One is cancelled; the other is carried out as soon as requests cannot be cancelled any more.
    let cancel = format!("/loki/api/v1/delete?request_id={whole}");
    assert_eq!(request(server.loki(), "DELETE", &cancel, &[], b"").unwrap().status, 204);
    assert_eq!(label_values(&server, "app"), json!(["bank", "shop"]));
    server.kill().unwrap();
    drop(server);
    let mut server = Trilobite::start(dir.path(), &["--delete-request-cancel-period=0s"]).unwrap();
    let since = std::time::Instant::now();
    while requests(&server)[0]["status"] != "processed" {
        assert!(
            since.elapsed().as_secs() < 60,
            "{}\n{}",
            requests(&server),
            server.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(lines(&server, r#"{app="shop"}"#), left);
    assert_eq!(lines(&server, r#"{app="bank"}"#), ["user=u1 secret-of-u1"]);
    // Sent again after that, an entry is new.
    assert_eq!(push(&server, json!({"app": "shop"}), &[user(1)], 3).status, 204);
    assert_eq!(lines(&server, r#"{app="shop"}"#).len(), 3);
    let cancel = format!("/loki/api/v1/delete?request_id={by_field}&force=true");
    assert_eq!(request(server.loki(), "DELETE", &cancel, &[], b"").unwrap().status, 400);
    assert!(server.stop().unwrap().success(), "{}", server.log());
    server.restart().unwrap();
    assert_eq!(lines(&server, r#"{app="shop"}"#).len(), 3);
}

#[test]
fn deleting_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &["--deletion-mode=disabled"]).unwrap();
    let answer = get(server.loki(), "/loki/api/v1/delete").unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("deletion is not available for this tenant"));
}

#[test]
fn streams_are_kept_for_their_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("trilobite.yaml");
    let yaml = "retention_stream:\n  - selector: '{env=\"dev\"}'\n    priority: 1\n    period: 1h\n  - selector: '{app=\"audit\"}'\n    period: 20d\n";
    std::fs::write(&config, yaml).unwrap();
    let data = dir.path().join("data");
    let arg = format!("--config={}", config.display());
    let mut server = Trilobite::start(&data, &[&arg]).unwrap();
    let old = |stream: Value, age: u64| push(&server, stream, &[json!("line")], age);
    assert_eq!(old(json!({"app": "audit"}), 15 * DAY_S).status, 204);
    assert_eq!(old(json!({"app": "audit", "env": "dev"}), 2 * 3600).status, 400);
    assert_eq!(old(json!({"app": "shop", "env": "dev"}), 1800).status, 204);
    assert_eq!(old(json!({"app": "shop", "env": "prod"}), 6 * DAY_S).status, 204);
    let refused = old(json!({"app": "shop", "env": "prod"}), 8 * DAY_S);
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("has timestamp too old"), "{}", refused.text());
    assert_eq!(result(&server, r#"{app=~".+"}"#).len(), 3);
    // With a shorter time, what is older is not seen from the start.
    std::fs::write(&config, yaml.replace("1h", "10m")).unwrap();
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(lines(&server, r#"{env="dev"}"#), Vec::<String>::new());
    assert_eq!(result(&server, r#"{app=~".+"}"#).len(), 2);
    assert_eq!(label_values(&server, "env"), json!(["prod"]));
}

#[test]
fn structured_metadata_is_merged_unless_the_caller_or_the_operator_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let entries = [
        json!(["level=info one", {"trace_id": "1"}]),
        json!(["level=info two", {"trace_id": "2"}]),
    ];
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    assert_eq!(push(&server, json!({"app": "shop"}), &entries, 1).status, 204);
    let streams = result(&server, r#"{app="shop"}"#);
    let mut labels: Vec<Value> = streams.iter().map(|s| s["stream"].clone()).collect();
    labels.sort_by_key(|l| l["trace_id"].to_string());
    let merged = |id: &str| json!({"app": "shop", "detected_level": "info", "service_name": "shop", "trace_id": id});
    assert_eq!(labels, [merged("1"), merged("2")]);
    drop(server);
    let server = Trilobite::start(dir.path(), &["--loki-merge-structured-metadata=false"]).unwrap();
    let streams = result(&server, r#"{app="shop"}"#);
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0]["stream"], json!({"app": "shop", "service_name": "shop"}));
    assert_eq!(streams[0]["values"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_old_push_is_taken_and_refused_as_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    let json = [("Content-Type", "application/json")];
    let old = |server: &Trilobite, body: &str| {
        request(server.loki(), "POST", "/api/prom/push", &json, body.as_bytes()).unwrap()
    };
    let at = senders::now_ns() - SECOND_NS;
    let written = jiff::Timestamp::from_nanosecond(at.into()).unwrap();
    let body = format!(
        r#"{{"streams":[{{"labels":"{{app=\"old\", quoted='a\\'b'}}","entries":[{{"ts":"{}","line":"one"}}]}}]}}"#,
        written
    );
    let answer = old(&server, &body);
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    let new = json!({"streams": [{"stream": {"app": "old"}, "values": [[at.to_string(), "two"]]}]});
    assert_eq!(old(&server, &new.to_string()).status, 204);
    assert_eq!(lines(&server, r#"{app="old"}"#), ["one", "two"]);
    assert_eq!(result(&server, r#"{quoted="a'b"}"#)[0]["values"][0][0], at.to_string());

    let refused = old(&server, r#"{"streams":[{"labels":"{app=old}","entries":[]}]}"#);
    let want = "couldn't parse labels: 1:6: parse error: unexpected identifier \"old\" in label set, expected string\n";
    assert_eq!((refused.status, refused.text().as_str()), (400, want));
    let refused = old(&server, r#"{"streams":[]}"#);
    let want = "error at least one valid stream is required for ingestion\n";
    assert_eq!((refused.status, refused.text().as_str()), (422, want));
    let long = "x".repeat(256 * 1024 + 1);
    let refused = old(&server, &body.replace("one", &long));
    assert_eq!(refused.status, 400);
    assert!(
        refused
            .text()
            .starts_with("max entry size '262144' bytes exceeded for stream '{app=\"old\"")
    );
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(lines(&server, r#"{app="old"}"#), ["one", "two"]);
}

/// A tail over WebSocket.
struct Tail(TcpStream);

impl Tail {
    fn open(server: &Trilobite, path: &str, headers: &str) -> Result<Tail, String> {
        let mut stream = TcpStream::connect(server.loki()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        match head.starts_with("HTTP/1.1 101 ") {
            true => Ok(Tail(stream)),
            false => Err(head),
        }
    }

    /// The next frame of text; pings are answered.
    fn frame(&mut self) -> Value {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).unwrap();
            let len = match head[1] {
                126 => {
                    let mut len = [0; 2];
                    self.0.read_exact(&mut len).unwrap();
                    usize::from(u16::from_be_bytes(len))
                }
                127 => panic!("a frame of more than 64 KiB"),
                short => usize::from(short),
            };
            let mut data = vec![0; len];
            self.0.read_exact(&mut data).unwrap();
            match head[0] & 0x0f {
                1 => return serde_json::from_slice(&data).unwrap(),
                9 => self.0.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).unwrap(),
                kind => panic!("frame {kind}: {}", String::from_utf8_lossy(&data)),
            }
        }
    }

    /// Frames until `count` streams, one for each entry, have come.
    fn streams(&mut self, count: usize) -> Vec<Value> {
        let mut out = Vec::new();
        while out.len() < count {
            out.extend(self.frame()["streams"].as_array().unwrap().iter().cloned());
        }
        out
    }
}

#[test]
fn a_tail_tells_history_and_then_what_is_pushed_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &[]).unwrap();
    let with_id = |line: &str, id: &str| json!([line, {"trace_id": id}]);
    let entries = [with_id("b", "2"), with_id("a", "1"), json!("other")];
    assert_eq!(push(&server, json!({"app": "shop"}), &entries, 2).status, 204);
    let query = encoded(r#"{app="shop"} !~ "other" | label_format x="y""#);
    let path = format!("/loki/api/v1/tail?query={query}&limit=10");
    let mut merged = Tail::open(&server, &path, "").unwrap();
    let flag = "X-Loki-Response-Encoding-Flags: categorize-labels\r\n";
    let mut categorized = Tail::open(&server, &path, flag).unwrap();
    let mut legacy = Tail::open(&server, &path.replace("/loki/api/v1/", "/api/prom/"), "").unwrap();

    let labels = |id: &str| json!({"app": "shop", "service_name": "shop", "trace_id": id, "detected_level": "unknown", "x": "y"});
    let check = |streams: &[Value], want: [(&str, &str); 2]| {
        for (stream, (line, id)) in streams.iter().zip(want) {
            assert_eq!(stream["stream"], labels(id));
            assert_eq!(stream["values"][0][1], line);
        }
    };
    check(&merged.streams(2), [("b", "2"), ("a", "1")]);
    let frame = categorized.frame();
    assert_eq!(frame["encodingFlags"], json!(["categorize-labels"]));
    let first = &frame["streams"][0];
    assert_eq!(first["stream"], json!({"app": "shop", "service_name": "shop"}));
    let apart = json!({"structuredMetadata": {"detected_level": "unknown", "trace_id": "2"}, "parsed": {"x": "y"}});
    assert_eq!(first["values"][0][2], apart);
    let old = legacy.streams(2);
    let text =
        |id: &str| format!(r#"{{app="shop", detected_level="unknown", service_name="shop", trace_id="{id}", x="y"}}"#);
    assert_eq!(
        (&old[0]["labels"], &old[1]["labels"]),
        (&json!(text("2")), &json!(text("1")))
    );
    assert_eq!(old[0]["entries"][0]["line"], "b");

    let entries = [with_id("d", "4"), json!("other"), with_id("c", "3")];
    assert_eq!(push(&server, json!({"app": "shop"}), &entries, 0).status, 204);
    check(&merged.streams(2), [("d", "4"), ("c", "3")]);
    assert_eq!(categorized.streams(2)[1]["values"][0][1], "c");
    assert_eq!(legacy.streams(2)[1]["entries"][0]["line"], "c");

    let refused = Tail::open(&server, &path.replace("&limit=10", "&delay_for=6"), "");
    assert!(refused.err().unwrap().starts_with("HTTP/1.1 400 "));
}
