//! Zipkin and Jaeger clients against the real binary: every door in, and out through the Tempo and Jaeger APIs.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trilobite_tests::{Trilobite, get, post};

const ON: [&str; 10] = [
    "--zipkin-addr",
    "127.0.0.1:0",
    "--jaeger-addr",
    "127.0.0.1:0",
    "--jaeger-grpc-addr",
    "127.0.0.1:0",
    "--jaeger-thrift-addr",
    "127.0.0.1:0",
    "--jaeger-udp-addr",
    "127.0.0.1:0,127.0.0.1:0",
];

fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_micros() as i64
}

/// A Jaeger batch of one span in Thrift's binary protocol.
fn thrift_batch(service: &str, trace: i64, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, id: u8, text: &str| {
        out.extend([11, 0, id]);
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.as_bytes());
    };
    let long = |out: &mut Vec<u8>, id: u8, v: i64| {
        out.extend([10, 0, id]);
        out.extend(v.to_be_bytes());
    };
    out.extend([12, 0, 1]);
    text(&mut out, 1, service);
    out.push(0);
    out.extend([15, 0, 2, 12, 0, 0, 0, 1]);
    long(&mut out, 1, trace);
    long(&mut out, 2, 0);
    long(&mut out, 3, 7);
    long(&mut out, 4, 0);
    text(&mut out, 5, name);
    long(&mut out, 8, now_us());
    long(&mut out, 9, 1500);
    out.extend([0, 0]);
    out
}

/// The same as an `emitBatch` message.
fn binary_datagram(batch: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 1, 0, 4, 0, 0, 0, 9];
    out.extend(b"emitBatch\0\0\0\0");
    out.extend([12, 0, 1]);
    out.extend(batch);
    out.push(0);
    out
}

/// A span in Thrift's compact protocol.
fn compact_datagram(service: &str, trace: i64, name: &str) -> Vec<u8> {
    fn varint(out: &mut Vec<u8>, mut v: u64) {
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
    }
    let long = |out: &mut Vec<u8>, head: u8, v: i64| {
        out.push(head);
        varint(out, (v << 1) as u64);
    };
    let text = |out: &mut Vec<u8>, head: u8, text: &str| {
        out.push(head);
        varint(out, text.len() as u64);
        out.extend(text.as_bytes());
    };
    let mut out = vec![0x82, 0x81, 0, 9];
    out.extend(b"emitBatch");
    out.extend([0x1c, 0x1c]);
    text(&mut out, 0x18, service);
    out.push(0);
    out.extend([0x19, 0x1c]);
    long(&mut out, 0x16, trace);
    long(&mut out, 0x16, 0);
    long(&mut out, 0x16, 7);
    long(&mut out, 0x16, 0);
    text(&mut out, 0x18, name);
    long(&mut out, 0x36, now_us());
    long(&mut out, 0x16, 1500);
    out.extend([0, 0, 0]);
    out
}

/// Asks the Jaeger API until `ready` likes the answer.
fn until(t: &Trilobite, path: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let answer = get(t.listener("jaeger"), path).unwrap();
        let data = answer.json()["data"].clone();
        if ready(&data) {
            return data;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{path}: {data}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn every_door_leads_to_the_same_traces() {
    let dir = tempfile::tempdir().unwrap();
    let mut t = Trilobite::start(dir.path(), &ON).unwrap();
    let us = now_us();
    let zipkin = json!([
        {"traceId": "51", "id": "1", "kind": "CLIENT", "name": "get", "timestamp": us, "duration": 900,
            "localEndpoint": {"serviceName": "z-front"}},
        {"traceId": "51", "id": "1", "kind": "SERVER", "name": "get", "timestamp": us + 100, "duration": 500, "shared": true,
            "localEndpoint": {"serviceName": "z-back"}, "tags": {"error": "true"}},
    ]);
    let posted = post(
        t.listener("zipkin"),
        "/api/v2/spans",
        "application/json",
        zipkin.to_string().as_bytes(),
    );
    assert_eq!(posted.unwrap().status, 202);
    let batch = thrift_batch("j-http", 0x52, "over http");
    let path = "/api/traces?format=jaeger.thrift";
    let posted = post(t.listener("jaeger_thrift"), path, "application/x-thrift", &batch);
    assert_eq!(posted.unwrap().status, 202);
    let bad = post(t.listener("jaeger_thrift"), path, "application/x-thrift", b"no thrift");
    assert_eq!(bad.unwrap().status, 400);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let compact = compact_datagram("j-compact", 0x53, "over udp");
    socket.send_to(&compact, t.listener("jaeger_udp")).unwrap();
    let binary = binary_datagram(&thrift_batch("j-binary", 0x54, "over udp"));
    socket.send_to(&binary, t.listener("jaeger_udp")).unwrap();

    let all = json!(["j-binary", "j-compact", "j-http", "z-back", "z-front"]);
    until(&t, "/api/services", |data| *data == all);
    let found = until(&t, "/api/traces?service=j-compact", |data| data[0].is_object());
    assert_eq!(found[0]["traceID"], format!("{:032x}", 0x53));
    assert_eq!(found[0]["spans"][0]["duration"], 1500);
    let calls = until(&t, "/api/dependencies", Value::is_array);
    assert_eq!(calls, json!([{"parent": "z-front", "child": "z-back", "callCount": 1}]));
    let tempo = get(t.tempo(), "/api/v2/traces/51").unwrap().json();
    let groups = tempo["trace"]["resourceSpans"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{tempo}");
    let back = get(t.tempo(), "/api/search?tags=service.name%3Dz-back").unwrap().json();
    assert_eq!(back["traces"][0]["traceID"], format!("{:032x}", 0x51));

    let health = get(t.listener("jaeger_admin"), "/").unwrap();
    assert_eq!(health.status, 200);
    let metrics = get(t.prometheus(), "/metrics").unwrap().text();
    let line = r#"trilobite_ingest_accepted_total{protocol="jaeger_thrift_udp",signal="traces"} 2"#;
    assert!(metrics.contains(line), "{metrics}");
    let dropped = format!("trilobite_udp_dropped_total{{addr=\"{}\"}} 0", t.listener("jaeger_udp"));
    assert!(metrics.contains(&dropped), "{metrics}");

    // What was acknowledged, or stored from a datagram, survives.
    t.kill().unwrap();
    t.restart().unwrap();
    until(&t, "/api/services", |data| *data == all);
    assert!(t.stop().unwrap().success());
}

#[test]
fn the_doors_are_shut_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let t = Trilobite::start(dir.path(), &[]).unwrap();
    for name in [
        "zipkin",
        "jaeger",
        "jaeger_grpc",
        "jaeger_thrift",
        "jaeger_udp",
        "jaeger_admin",
    ] {
        assert_eq!(t.listener(name).port(), 0, "{name}");
    }
}
