//! Zipkin as its clients see it: requests through the router, over a shelf.

use http::StatusCode;
use model::{AttributeValue, KeyValue, Span, SpanId, SpanKind, StatusCode as Status, TimestampNs, TraceId};
use proptest::prelude::*;

use crate::room::Room;
use crate::shelf::{NOW, ingest, post};
use crate::wire::{put_bytes, put_fixed64, put_number};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn stored(path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Vec<Span> {
    let (ingest, shelf) = ingest();
    let headers = [("content-type", content_type)];
    let (status, _, answer) = post(&ingest.zipkin_router(), path, &headers, body).await;
    assert_eq!((status, &*answer), (StatusCode::ACCEPTED, &b""[..]));
    shelf.spans.lock().clone()
}

fn kv(key: &str, value: impl Into<AttributeValue>) -> KeyValue {
    KeyValue::new(key, value.into())
}

/// The samples that all projects here share; absent in a checkout of its own.
#[tokio::test]
async fn the_corpus_is_understood() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/ingest/zipkin_v2.json");
    let path = [path, "../../shared/corpus/ingest/zipkin_v2.json".into()]
        .into_iter()
        .find(|p| p.exists());
    let Some(body) = path.and_then(|p| std::fs::read(p).ok()) else {
        return;
    };
    let spans = stored("/api/v2/spans", "application/json", body).await;
    let brief: Vec<_> = spans
        .iter()
        .map(|s| {
            (
                s.trace_id.to_string(),
                s.name.as_str(),
                s.kind,
                s.status,
                s.resource.service_name(),
            )
        })
        .collect();
    let long = "4c7d1e90a2b35f6817d0c3e5a9f8b264".to_owned();
    let short = "00000000000000009e3f6b1c2d4a5871".to_owned();
    assert_eq!(
        brief,
        [
            (
                long.clone(),
                "get /api/tasks",
                SpanKind::Client,
                Status::Unset,
                "frontend"
            ),
            (long, "get /api/tasks", SpanKind::Server, Status::Error, "flask-backend"),
            (short.clone(), "ping", SpanKind::Client, Status::Unset, "frontend"),
            (short.clone(), "ping", SpanKind::Server, Status::Error, "flask-backend"),
            (
                short,
                "no-start-time",
                SpanKind::Internal,
                Status::Unset,
                "flask-backend"
            ),
        ]
    );
    let [client, server, _, shared, timeless] = &spans[..] else {
        panic!()
    };
    assert_eq!(
        client.attributes,
        [
            kv("net.host.ip", "10.0.0.4"),
            kv("peer.service", "flask-backend"),
            kv("net.peer.ip", "10.0.0.5"),
            kv("net.peer.port", 5000),
            kv("http.method", "GET"),
            kv("http.path", "/api/tasks"),
        ]
    );
    assert_eq!(server.resource.attributes[1], kv("host.name", "labvm"));
    assert_eq!(server.events[0].name, "cache.miss");
    assert_eq!(server.attributes.last().unwrap(), &kv("error", "database is locked"));
    assert_eq!(shared.scope.name, "manual");
    assert!(shared.attributes.is_empty(), "{:?}", shared.attributes);
    let absent = KeyValue::new("otel.zipkin.absentField.startTime", AttributeValue::Bool(true));
    assert_eq!(timeless.attributes, [absent]);
    assert_eq!(timeless.start, TimestampNs(1_761_128_130_700_000_000));
    assert_eq!(timeless.duration_ns(), 100_000);
}

#[tokio::test]
async fn tags_go_to_their_places() {
    let body = r#"[{"traceId":"A1","id":"0b","parentId":"0b","name":"x","timestamp":"1000","duration":5.0,
        "localEndpoint":{"serviceName":"s","ipv4":"no address","ipv6":"::1","port":null},
        "annotations":[{"timestamp":7,"value":"ev|{\"a\":1,\"b\":\"t\"}|2"},{"timestamp":8,"value":"a|b"}],
        "tags":{"otel.status_code":"STATUS_CODE_OK","otel.status_description":"fine","w3c.tracestate":"k=v",
            "otel.scope.name":"lib","otel.scope.version":"2","n":3,"t":true,"deployment.environment":"lab",
            "otlp.link.0":"c|d||{\"r\":true}|0","otlp.link.x":"stays","null":null}}]"#;
    let spans = stored("/api/v2/spans", "application/json; charset=utf-8", body).await;
    let s = &spans[0];
    assert_eq!(
        (s.trace_id, s.span_id, s.parent_span_id),
        (TraceId(0xa1), SpanId(0xb), None)
    );
    assert_eq!((s.start, s.duration_ns()), (TimestampNs(1_000_000), 5_000));
    assert_eq!((s.status, &*s.status_message), (Status::Ok, "fine"));
    assert_eq!(
        (&*s.trace_state, &*s.scope.name, &*s.scope.version),
        ("k=v", "lib", "2")
    );
    assert_eq!(
        s.resource.attributes,
        [kv("service.name", "s"), kv("deployment.environment", "lab")]
    );
    assert_eq!(
        s.attributes,
        [
            kv("net.host.ip", "::1"),
            kv("n", "3"),
            kv("t", "true"),
            kv("otlp.link.x", "stays")
        ]
    );
    assert_eq!(s.events[0].name, "ev");
    assert_eq!(s.events[0].attributes, [kv("a", 1), kv("b", "t")]);
    assert_eq!(s.events[0].dropped_attributes, 2);
    assert_eq!(s.events[1].name, "a|b");
    assert_eq!((s.links[0].trace_id, s.links[0].span_id), (TraceId(0xc), SpanId(0xd)));
}

#[tokio::test]
async fn a_span_that_cannot_be_used_is_refused_alone() {
    let (ingest, shelf) = ingest();
    let router = ingest.zipkin_router();
    let body =
        r#"[{"traceId":"0","id":"1"},{"traceId":"1","id":"1","timestamp":1},{"id":"1"},{"traceId":"1","id":"xyz"}, 7]"#;
    let (status, _, _) = post(&router, "/api/v2/spans", &[JSON], body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(shelf.spans.lock().len(), 1);
    let stats = ingest.stats();
    let row = stats.receivers.iter().find(|r| r.protocol == "zipkin").unwrap();
    assert_eq!((row.requests_ok, row.items_accepted, row.items_rejected), (1, 1, 4));
    for (path, body, want) in [
        ("/api/v2/spans", "[]", StatusCode::ACCEPTED),
        ("/api/v2/spans", "{}", StatusCode::BAD_REQUEST),
        (
            "/api/v2/spans",
            "[{\"traceId\":\"zz\",\"id\":\"1\"}]",
            StatusCode::BAD_REQUEST,
        ),
        ("/api/v2/spans", "[", StatusCode::BAD_REQUEST),
        ("/api/v1/spans", "nothing", StatusCode::BAD_REQUEST),
        ("/api/v2/nothing", "[]", StatusCode::NOT_FOUND),
    ] {
        let (status, _, _) = post(&router, path, &[JSON], body).await;
        assert_eq!(status, want, "{path} {body}");
    }
}

/// A list of small things must not take many times its bytes.
#[tokio::test]
async fn lists_are_bounded() {
    let (ingest, shelf) = ingest();
    let router = ingest.zipkin_router();
    let many = |item: &str, n: usize| vec![item; n].join(",");
    let (status, _, _) = post(&router, "/api/v2/spans", &[JSON], format!("[{}]", many("1", 500_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let annotations = many(r#"{"value":"a"}"#, 3000);
    let tags: Vec<String> = (0..3000).map(|n| format!("\"t{n}\":\"\"")).collect();
    let tags = tags.join(",");
    let span = format!(r#"[{{"traceId":"1","id":"1","timestamp":1,"annotations":[{annotations}],"tags":{{{tags}}}}}]"#);
    let (status, _, _) = post(&router, "/api/v2/spans", &[JSON], span).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let spans = shelf.spans.lock();
    assert_eq!((spans[0].events.len(), spans[0].dropped_events), (1000, 2000));
    assert_eq!((spans[0].attributes.len(), spans[0].dropped_attributes), (1000, 2000));
}

#[tokio::test]
async fn bodies_may_be_compressed() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(br#"[{"traceId":"1","id":"2","timestamp":3}]"#).unwrap();
    let (ingest, shelf) = ingest();
    let headers = [JSON, ("content-encoding", "gzip")];
    let (status, _, _) = post(
        &ingest.zipkin_router(),
        "/api/v2/spans",
        &headers,
        gzip.finish().unwrap(),
    )
    .await;
    assert_eq!((status, shelf.spans.lock().len()), (StatusCode::ACCEPTED, 1));
}

#[tokio::test]
async fn protobuf_is_spoken_too() {
    let mut endpoint = Vec::new();
    put_bytes(&mut endpoint, 1, b"shop");
    put_bytes(&mut endpoint, 2, &[10, 0, 0, 1]);
    put_number(&mut endpoint, 4, 8080);
    let mut annotation = Vec::new();
    put_fixed64(&mut annotation, 1, 12);
    put_bytes(&mut annotation, 2, b"went");
    let mut tag = Vec::new();
    put_bytes(&mut tag, 1, b"error");
    put_bytes(&mut tag, 2, b"true");
    let mut span = Vec::new();
    put_bytes(&mut span, 1, &5u64.to_be_bytes());
    put_bytes(&mut span, 2, &3u64.to_be_bytes());
    put_bytes(&mut span, 3, &4u64.to_be_bytes());
    put_number(&mut span, 4, 3);
    put_bytes(&mut span, 5, b"send");
    put_fixed64(&mut span, 6, 10);
    put_number(&mut span, 7, 20);
    put_bytes(&mut span, 8, &endpoint);
    put_bytes(&mut span, 10, &annotation);
    put_bytes(&mut span, 11, &tag);
    let mut body = Vec::new();
    put_bytes(&mut body, 1, &span);
    let spans = stored("/api/v2/spans", "application/x-protobuf", body).await;
    let s = &spans[0];
    assert_eq!(
        (s.trace_id, s.span_id, s.parent_span_id),
        (TraceId(5), SpanId(4), Some(SpanId(3)))
    );
    assert_eq!(
        (s.kind, s.status, &*s.name),
        (SpanKind::Producer, Status::Error, "send")
    );
    assert_eq!((s.start.0, s.end.0), (10_000, 30_000));
    assert_eq!(s.attributes, [kv("net.host.ip", "10.0.0.1"), kv("net.host.port", 8080)]);
    assert_eq!((s.events[0].t.0, &*s.events[0].name), (12_000, "went"));
}

#[tokio::test]
async fn both_sides_in_one_span_of_version_1_become_two() {
    let body = r#"[{"traceId":"1","id":"2","name":"get","timestamp":100,"duration":50,
        "annotations":[
            {"timestamp":100,"value":"cs","endpoint":{"serviceName":"web","ipv4":"10.0.0.1"}},
            {"timestamp":110,"value":"sr","endpoint":{"serviceName":"api","ipv4":"10.0.0.2"}},
            {"timestamp":120,"value":"cache","endpoint":{"serviceName":"api"}},
            {"timestamp":140,"value":"ss","endpoint":{"serviceName":"api"}},
            {"timestamp":150,"value":"cr","endpoint":{"serviceName":"web"}}],
        "binaryAnnotations":[
            {"key":"http.path","value":"/","endpoint":{"serviceName":"web"}},
            {"key":"sa","value":true,"endpoint":{"serviceName":"api","port":80}}]},
      {"traceId":"1","id":"3","name":"local","binaryAnnotations":[{"key":"lc","value":"","endpoint":{"serviceName":"web"}}]}]"#;
    let spans = stored("/api/v1/spans", "application/json", body).await;
    let brief: Vec<_> = spans
        .iter()
        .map(|s| {
            (
                s.span_id.0,
                s.kind,
                s.resource.service_name(),
                s.start.0 / 1000,
                s.duration_ns() / 1000,
            )
        })
        .collect();
    assert_eq!(
        brief,
        [
            (2, SpanKind::Client, "web", 100, 50),
            (2, SpanKind::Server, "api", 110, 30),
            (3, SpanKind::Unspecified, "web", 100, 0),
        ]
    );
    assert_eq!(
        spans[0].attributes,
        [
            kv("net.host.ip", "10.0.0.1"),
            kv("peer.service", "api"),
            kv("net.peer.port", 80),
            kv("http.path", "/"),
        ]
    );
    assert_eq!(spans[1].events[0].name, "cache");
    assert!(spans[0].events.is_empty());
}

#[tokio::test]
async fn a_span_without_any_time_is_as_old_as_its_arrival() {
    let spans = stored("/api/v2/spans", "application/json", r#"[{"traceId":"1","id":"2"}]"#).await;
    assert_eq!(spans[0].start, NOW);
}

proptest! {
    /// Anything may come over the network.
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut room = Room::new(1 << 20);
        let _ = super::protobuf::decode(&bytes, &mut room);
        let _ = super::version1::decode_thrift(&bytes, &mut room);
        let _ = super::json::decode(&bytes, &mut room);
    }

    /// Any text may stand where a span expects one.
    #[test]
    fn arbitrary_texts_do_not_panic(a in ".{0,20}", b in ".{0,20}", n in any::<f64>(), v1 in any::<bool>()) {
        let body = serde_json::json!([{
            "traceId": a, "id": "1", "name": b, "timestamp": n, "duration": n,
            "tags": {"otlp.link.0": b, "error": a, "span.kind": b},
            "annotations": [{"timestamp": n, "value": format!("{a}|{b}|1")}],
            "binaryAnnotations": [{"key": a, "value": b}],
        }, {"traceId": "1", "id": "1", "annotations": [{"value": format!("{a}|{b}|1")}], "tags": {"otlp.link.0": a}}])
        .to_string();
        let mut room = Room::new(1 << 20);
        let decoded = match v1 {
            true => super::version1::decode_json(body.as_bytes(), &mut room),
            false => super::json::decode(body.as_bytes(), &mut room),
        };
        if let Ok((spans, report)) = decoded {
            let _ = super::translate::translated(spans, report, NOW, &mut room);
        }
    }
}
