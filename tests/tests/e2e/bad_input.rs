//! Bad input of every protocol: the right status, the process goes on, and nothing that was there is lost.

use std::io::Write;
use std::net::SocketAddr;

use trilobite_tests::{Trilobite, get, request};

use crate::senders;

struct Case {
    what: &'static str,
    port: fn(&Trilobite) -> SocketAddr,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    status: u16,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PROTO: (&str, &str) = ("Content-Type", "application/x-protobuf");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const SNAPPY: (&str, &str) = ("Content-Encoding", "snappy");
const GZIP: (&str, &str) = ("Content-Encoding", "gzip");

fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    let mut case = |what, port, path, headers, body: &[u8], status| {
        out.push(Case {
            what,
            port,
            path,
            headers,
            body: body.to_vec(),
            status,
        });
    };
    let good = senders::spans_protobuf(1, 1, senders::now_ns());
    let bomb = gzip(&vec![0u8; 300 << 20]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes();
    let snappy_liar = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let otlp: fn(&Trilobite) -> SocketAddr = Trilobite::otlp_http;
        case("truncated protobuf", otlp, path, &[PROTO], &good[..good.len() - 3], 400);
        case(
            "garbage protobuf",
            otlp,
            path,
            &[PROTO],
            &[0xde, 0xad, 0xbe, 0xef, 0xff, 0xff],
            400,
        );
        case("garbage JSON", otlp, path, &[JSON], b"{\"resourceSpans\": [", 400);
        case("deep JSON", otlp, path, &[JSON], &deep, 400);
        case(
            "wrong type",
            otlp,
            path,
            &[("Content-Type", "text/plain")],
            b"hello",
            415,
        );
        case("no gzip", otlp, path, &[PROTO, GZIP], b"this is not gzip", 400);
        case(
            "unknown encoding",
            otlp,
            path,
            &[PROTO, ("Content-Encoding", "br")],
            b"x",
            415,
        );
        case("gzip bomb", otlp, path, &[PROTO, GZIP], &bomb, 413);
    }
    let loki: fn(&Trilobite) -> SocketAddr = Trilobite::loki;
    let push = "/loki/api/v1/push";
    case("garbage snappy", loki, push, &[PROTO], b"garbage", 400);
    case(
        "snappy that lies about its length",
        loki,
        push,
        &[PROTO],
        &snappy_liar,
        413,
    );
    case("garbage JSON", loki, push, &[JSON], b"{\"streams\": [{", 400);
    case("deep JSON", loki, push, &[JSON], &deep, 400);
    case("gzip bomb", loki, push, &[JSON, GZIP], &bomb, 413);
    case(
        "bad labels",
        loki,
        push,
        &[JSON],
        br#"{"streams":[{"stream":{"a b":"c"},"values":[["1","x"]]}]}"#,
        400,
    );
    let prometheus: fn(&Trilobite) -> SocketAddr = Trilobite::prometheus;
    let write = "/api/v1/write";
    case("garbage snappy", prometheus, write, &[PROTO, SNAPPY], b"garbage", 400);
    case(
        "snappy that lies about its length",
        prometheus,
        write,
        &[PROTO, SNAPPY],
        &snappy_liar,
        413,
    );
    case("wrong type", prometheus, write, &[JSON, SNAPPY], b"{}", 415);
    case("wrong encoding", prometheus, write, &[PROTO, GZIP], b"x", 415);
    let snappy_garbage = snap::raw::Encoder::new()
        .compress_vec(&[0x0a, 0xff, 0xff, 0xff])
        .unwrap();
    case(
        "garbage protobuf",
        prometheus,
        write,
        &[PROTO, SNAPPY],
        &snappy_garbage,
        400,
    );
    out
}

#[test]
fn bad_input_gets_its_status_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    let now = senders::now_ns();
    let good = senders::spans_protobuf(5, 0, now);
    assert_eq!(
        request(server.otlp_http(), "POST", "/v1/traces", &[PROTO], &good)
            .unwrap()
            .status,
        200
    );
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = request((case.port)(&server), "POST", case.path, case.headers, &case.body);
        match answer {
            Ok(a) if a.status == case.status => {}
            other => wrong.push(format!(
                "{} {}: wanted {}, got {other:?}",
                case.path, case.what, case.status
            )),
        }
    }
    assert!(server.is_running(), "{}", server.log());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(
        get(server.tempo(), &format!("/api/traces/{}", senders::trace_id(5, 0)))
            .unwrap()
            .status,
        200
    );
    let resident = resident_bytes(server.pid());
    assert!(resident < 512 << 20, "{resident} bytes resident after the bombs");
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn bad_queries_get_400_and_the_words_of_their_api() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Trilobite::start(dir.path(), &[]).unwrap();
    let deep = "(".repeat(20_000) + "1" + &")".repeat(20_000);
    let long = "a".repeat(300_000);
    for (addr, path) in [
        (server.prometheus(), "/api/v1/query?query="),
        (server.prometheus(), "/api/v1/query_range?start=0&end=60&step=15&query="),
        (server.loki(), "/loki/api/v1/query_range?query="),
        (server.loki(), "/loki/api/v1/query?query="),
        (server.tempo(), "/api/search?q="),
        (server.tempo(), "/api/metrics/query_range?q="),
    ] {
        for query in ["{", "sum(", "rate(x)", "%ff%fe", "", deep.as_str()] {
            if query.is_empty() && addr == server.tempo() {
                continue; // an empty q searches everything
            }
            let answer = get(addr, &format!("{path}{query}")).unwrap();
            assert_eq!(
                answer.status,
                400,
                "{path}{} -> {}",
                &query[..query.len().min(60)],
                answer.text()
            );
        }
        let answer = get(addr, &format!("{path}{long}"));
        assert!(
            !matches!(&answer, Ok(a) if a.status >= 500),
            "{path}aaa... -> {answer:?}"
        );
    }
    let json = get(server.prometheus(), "/api/v1/query?query=sum(").unwrap().json();
    assert_eq!(
        (json["status"].as_str(), json["errorType"].as_str()),
        (Some("error"), Some("bad_data"))
    );
    let text = get(server.loki(), "/loki/api/v1/query_range?query={").unwrap().text();
    assert!(text.starts_with("parse error at line 1, col "), "{text}");
    assert!(
        server.is_running() && !server.log().contains("panicked"),
        "{}",
        server.log()
    );
}
