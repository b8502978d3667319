//! Loki push as its senders see it: requests through the router, over a shelf.

use std::io::Write;

use http::{StatusCode, header};
use proptest::prelude::*;
use storage::AppendError;

use super::decode::{from_json, from_protobuf};
use crate::shelf::{BODY_BYTES_MAX, ingest, post};
use crate::wire::{put_bytes, put_number};

const PATH: &str = "/loki/api/v1/push";
const JSON: (&str, &str) = ("content-type", "application/json");
const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(plain).unwrap();
    e.finish().unwrap()
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(plain).unwrap();
    e.finish().unwrap()
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// Pushes one JSON body; what is stored and what is answered.
async fn push_json(body: &str) -> (StatusCode, String, Vec<String>) {
    let (ingest, shelf) = ingest();
    let (status, _, answer) = post(&ingest.loki_router(), PATH, &[JSON], body).await;
    let entries = shelf.entries.lock().clone();
    (status, String::from_utf8(answer).unwrap(), entries)
}

/// Seconds, nanoseconds, line, structured metadata.
type ProtobufEntry<'a> = (i64, i32, &'a [u8], &'a [(&'a str, &'a str)]);

fn protobuf(labels: &str, entries: &[ProtobufEntry<'_>]) -> Vec<u8> {
    let mut stream = Vec::new();
    put_bytes(&mut stream, 1, labels.as_bytes());
    for (seconds, nanos, line, metadata) in entries {
        let (mut t, mut entry) = (Vec::new(), Vec::new());
        put_number(&mut t, 1, *seconds as u64);
        put_number(&mut t, 2, *nanos as u64);
        put_bytes(&mut entry, 1, &t);
        put_bytes(&mut entry, 2, line);
        for (name, value) in *metadata {
            let mut pair = Vec::new();
            put_bytes(&mut pair, 1, name.as_bytes());
            put_bytes(&mut pair, 2, value.as_bytes());
            put_bytes(&mut entry, 3, &pair);
        }
        put_bytes(&mut stream, 2, &entry);
    }
    let mut request = Vec::new();
    put_bytes(&mut request, 1, &stream);
    request
}

#[tokio::test]
async fn the_corpus_sample() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus/ingest/loki_push.json");
    let Ok(body) = std::fs::read_to_string(path) else {
        return;
    };
    let (status, answer, entries) = push_json(&body).await;
    assert_eq!((status, answer.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(entries.len(), 6);
    assert_eq!(
        entries[0],
        r#"{container="api",job="docker",service="app",service_name="app"} @1761128130000000000 INFO:     10.0.0.9:52044 - "GET /healthz HTTP/1.1" 200 OK detected_level=info"#
    );
    assert!(entries[1].ends_with("took=5.01s detected_level=error"));
    assert!(
        entries[2].ends_with(" detected_level=info"),
        "from the label level=INFO"
    );
    assert_eq!(
        entries[3],
        r#"{app="worker",service_name="worker"} @1761128133000000000 job done trace_id=4c7d1e90a2b35f6817d0c3e5a9f8b264 user_id=u-17 detected_level=unknown"#
    );
    assert!(entries[4].contains("ünicode and a tab\there"));
    assert!(entries[5].contains("@1761128135000000000 numeric timestamp"));
}

/// The corpus of Loki's own cases; it lies beside the project, not in it.
#[tokio::test]
async fn corpus_of_pushes() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/corpus/logql/push_requests.json"
    );
    let Ok(text) = std::fs::read_to_string(path) else {
        return;
    };
    for case in serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap() {
        let plain = case["body"].as_str().unwrap().as_bytes();
        let body = match case["body_encoding"].as_str() {
            Some("gzip") => gzip(plain),
            Some("deflate") => deflate(plain),
            _ => plain.to_vec(),
        };
        let mut headers = vec![("content-type", case["content_type"].as_str().unwrap())];
        match case["content_encoding"].as_str().unwrap() {
            "" => {}
            encoding => headers.push(("content-encoding", encoding)),
        }
        let (ingest, _) = ingest();
        let (status, ..) = post(&ingest.loki_router(), case["path"].as_str().unwrap(), &headers, body).await;
        let accepted = status == StatusCode::NO_CONTENT;
        assert_eq!(accepted, case["valid"].as_bool().unwrap(), "{case}: {status}");
        assert!(accepted || status == StatusCode::BAD_REQUEST, "{case}: {status}");
    }
}

#[tokio::test]
async fn snappy_protobuf_plain_and_wrapped() {
    let (ingest, shelf) = ingest();
    let router = ingest.loki_router();
    let plain = protobuf(
        r#"{job="docker", app="x"}"#,
        &[
            (1_700_000_000, 7, b"one", &[("trace.id", "t"), ("empty", "")]),
            (1_700_000_001, 0, b"warn \xff", &[]),
        ],
    );
    let block = snappy(&plain);
    for (headers, body) in [
        (vec![PROTOBUF], block.clone()),
        (vec![PROTOBUF, ("x-scope-orgid", "docker")], block.clone()),
        (vec![("content-type", "anything/else")], block.clone()),
        (vec![PROTOBUF, ("content-encoding", "snappy")], block.clone()),
        (vec![PROTOBUF, ("content-encoding", "gzip")], gzip(&block)),
    ] {
        shelf.entries.lock().clear();
        let (status, ..) = post(&router, PATH, &headers, body).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{headers:?}");
        assert_eq!(
            *shelf.entries.lock(),
            [
                r#"{app="x",job="docker",service_name="x"} @1700000000000000007 one trace_id=t detected_level=unknown"#,
                "{app=\"x\",job=\"docker\",service_name=\"x\"} @1700000001000000000 warn \u{fffd} detected_level=warn",
            ]
        );
    }
    let (status, ..) = post(&router, PATH, &[PROTOBUF, ("content-encoding", "br")], block).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, ..) = post(&router, PATH, &[], "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a content type is required");
}

#[tokio::test]
async fn json_forms() {
    for (body, want) in [
        (
            r#"{"streams":[{"values":[["1700000000000000001","l"]],"stream":{"app":"x"},"extra":[1]}],"more":{}}"#,
            "l detected",
        ),
        (
            r#"{"streams":[{"stream":{"app":"x"},"values":[["1700000000000000001","l",{"a.b":"c"},9,"x"],null]}]}"#,
            "l a_b=c detected",
        ),
        (
            r#"{"streams":[{"stream":{"app":"x"},"values":[["1700000000000000001","l",null]]}, null]}"#,
            "l detected",
        ),
        (
            r#"{"streams":[{"labels":"{app=\"x\"}","entries":[{"ts":"2023-11-14T22:13:20.000000001Z","line":"l"}]}]}"#,
            "l detected",
        ),
        (
            r#"{"streams":[{"stream":{"app":"x","empty":""},"values":[["1700000000000000001","\u006c"]]}]}"#,
            "l detected",
        ),
        (
            r#"{"streams":[{"stream":{"app":"y","app":"x"},"values":[["1700000000000000001","l"]]}]}"#,
            "l detected",
        ),
    ] {
        let (status, answer, entries) = push_json(body).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{body}: {answer}");
        let want = format!(r#"{{app="x",service_name="x"}} @1700000000000000001 {want}"#);
        assert!(
            entries.len() == 1 && entries[0].starts_with(&want),
            "{body}: {entries:?}"
        );
    }
    let (status, _, entries) =
        push_json(r#"{"streams":[{"stream":{"app":"x"},"values":[]},{"stream":{"app":"y"},"values":null}]}"#).await;
    assert_eq!(
        (status, entries.len()),
        (StatusCode::NO_CONTENT, 0),
        "streams without entries are skipped"
    );
}

#[tokio::test]
async fn a_stream_without_labels_is_of_an_unknown_service() {
    for labels in ["{}", r#"{"app":""}"#, "null"] {
        let body = format!(r#"{{"streams":[{{"stream":{labels},"values":[["1700000000000000001","l"]]}}]}}"#);
        let (status, answer, entries) = push_json(&body).await;
        assert_eq!((status, answer.as_str()), (StatusCode::NO_CONTENT, ""));
        assert!(entries[0].starts_with(r#"{service_name="unknown_service"} @1700000000000000001 l "#));
    }
}

#[tokio::test]
async fn wrong_json_refuses_the_whole_request() {
    for (body, want) in [
        ("", "EOF"),
        ("[]", "an object with streams"),
        (r#"{"streams":{}}"#, "an array of streams"),
        (r#"{"streams":[7]}"#, "a stream object"),
        (r#"{"streams":[{"stream":{"a":1},"values":[]}]}"#, "expected a string"),
        (r#"{"streams":[{"stream":{"a":"b"},"values":[["x","l"]]}]}"#, "a time"),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#,
            "invalid length 1",
        ),
        (r#"{"streams":[{"stream":{"a":"b"},"values":[["1",2]]}]}"#, "a string"),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[["1","l",{"a":{}}]]}]}"#,
            "a string",
        ),
        (r#"{"streams":[{"stream":{"a":"b"},"values":[["1","l"]]}"#, "EOF"),
        (
            r#"{"streams":[{"labels":"{a=b}","entries":[]}]}"#,
            "couldn't parse labels: 1:4: parse error: unexpected identifier \"b\" in label set, expected string",
        ),
        (
            r#"{"streams":[{"stream":{"ab":"c","a.b":"c"},"values":[["1","l"]]}]}"#,
            "couldn't parse labels: 1:3: parse error: unexpected character inside braces: '.'",
        ),
        (
            r#"{"streams":[{"stream":{"":"c"},"values":[["1","l"]]}]}"#,
            "unexpected \"=\" in label set, expected identifier or \"}\"",
        ),
        (
            r#"{"streams":[{"stream":{"a":"b"},"values":[{"line":"l"}]}]}"#,
            "missing field `ts`",
        ),
    ] {
        let (status, answer, entries) = push_json(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(answer.contains(want), "{body}: {answer}");
        assert!(entries.is_empty());
    }
    for body in ["{}", "null", r#"{"streams":[]}"#, r#"{"streams":null}"#] {
        let (status, answer, _) = push_json(body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer, "error at least one valid stream is required for ingestion\n");
    }
}

#[tokio::test]
async fn bad_entries_are_named_and_good_ones_stored() {
    let long = "x".repeat(256 * 1024 + 1);
    let good = r#"["1700000000000000000","good"]"#;
    let stream = |labels: &str, values: &str| {
        format!(
            r#"{{"streams":[{{"stream":{labels},"values":[{values},{good}]}},{{"stream":{{"app":"ok"}},"values":[{good}]}}]}}"#
        )
    };
    let many: Vec<String> = (0..16).map(|i| format!(r#""l{i}":"v""#)).collect();
    for (body, want, kept) in [
        (
            stream(r#"{"app":"x"}"#, &format!(r#"["1700000000000000000","{long}"]"#)),
            "max entry size '262144' bytes exceeded for stream '{app=\"x\", service_name=\"x\"}' while adding an entry with length '262145' bytes\n".to_owned(),
            2,
        ),
        (
            stream(r#"{"app":"x"}"#, r#"["999999999","old"],["1900000000000000000","new"]"#),
            "1 errors like: entry for stream '{app=\"x\", service_name=\"x\"}' has timestamp too new: 2030-03-17T17:46:40Z; 1 errors like: entry for stream '{app=\"x\", service_name=\"x\"}' has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable timestamp is: 1970-01-01T00:00:01Z\n".to_owned(),
            2,
        ),
        (
            stream(r#"{"app":"x"}"#, &format!(r#"["1700000000000000000","{long}"],["1700000000000000001","{long}"]"#)),
            "2 errors like: max entry size '262144' bytes exceeded for stream '{app=\"x\", service_name=\"x\"}' while adding an entry with length '262145' bytes\n".to_owned(),
            2,
        ),
        (
            stream(&format!("{{{}}}", many.join(",")), good),
            "has 16 label names; limit 15\n".to_owned(),
            1,
        ),
        (
            stream(&format!(r#"{{"app":"{}"}}"#, "v".repeat(2049)), good),
            "has label value too long: 'vvv".to_owned(),
            1,
        ),
    ] {
        let (status, answer, entries) = push_json(&body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer.contains(&want), "{answer}");
        assert_eq!(entries.len(), kept, "{entries:?}");
    }
    let (ingest, shelf) = ingest();
    let body = snappy(&protobuf(r#"{a="1", a="2"}"#, &[(1_700_000_000, 0, b"l", &[])]));
    let (status, _, answer) = post(&ingest.loki_router(), PATH, &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let answer = String::from_utf8(answer).unwrap();
    let want = "stream '{a=\"1\", a=\"2\", service_name=\"unknown_service\"}' has duplicate label name: 'a'\n";
    assert_eq!(answer, want);
    assert!(shelf.entries.lock().is_empty());
}

#[tokio::test]
async fn broken_and_oversize_bodies() {
    let (ingest, shelf) = ingest();
    let router = ingest.loki_router();
    let whole = protobuf(r#"{app="x"}"#, &[(1_700_000_000, 0, b"l", &[])]);
    for (what, headers, body, want) in [
        ("not snappy", vec![PROTOBUF], b"garbage".to_vec(), 400),
        ("truncated block", vec![PROTOBUF], snappy(&whole)[..9].to_vec(), 400),
        (
            "truncated message",
            vec![PROTOBUF],
            snappy(&whole[..whole.len() - 1]),
            400,
        ),
        ("garbage inside", vec![PROTOBUF], snappy(b"garbage"), 400),
        ("bad labels", vec![PROTOBUF], snappy(&protobuf("app=x", &[])), 400),
        (
            "bad gzip",
            vec![JSON, ("content-encoding", "gzip")],
            b"{}".to_vec(),
            400,
        ),
        ("snappy bomb", vec![PROTOBUF], snappy(&vec![0; 2 * BODY_BYTES_MAX]), 413),
        (
            "gzip bomb",
            vec![JSON, ("content-encoding", "gzip")],
            gzip(&vec![b' '; 20 * BODY_BYTES_MAX]),
            413,
        ),
        (
            "wrapped bomb",
            vec![PROTOBUF, ("content-encoding", "gzip")],
            gzip(&snappy(&vec![0; 2 * BODY_BYTES_MAX])),
            413,
        ),
        ("oversize", vec![JSON], vec![b' '; BODY_BYTES_MAX + 1], 413),
    ] {
        let (status, _, body) = post(&router, PATH, &headers, body).await;
        assert_eq!(status.as_u16(), want, "{what}: {}", String::from_utf8_lossy(&body));
    }
    *shelf.fault.lock() = Some(|| AppendError::Overloaded("memory".into()));
    let (status, headers, _) = post(&router, PATH, &[PROTOBUF], snappy(&whole)).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"2".parse().unwrap())
    );
    assert!(shelf.entries.lock().is_empty());
}

proptest! {
    /// Anything may come over the network.
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = from_protobuf(&bytes, 1 << 20);
        let _ = from_json(&bytes, 1 << 20);
    }

    /// A valid request with some bytes changed reaches deeper than noise does.
    #[test]
    fn damaged_requests_do_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = protobuf(r#"{app="x"}"#, &[(1, 2, b"line", &[("n", "v")])]);
        let here = at.index(bytes.len());
        bytes[here] = byte;
        let _ = from_protobuf(&bytes, 1 << 20);
        let mut text = br#"{"streams":[{"stream":{"app":"x"},"values":[["1","l",{"a":"b"}]]}]}"#.to_vec();
        let here = at.index(text.len());
        text[here] = byte;
        let _ = from_json(&text, 1 << 20);
    }
}
