//! Jaeger as its clients see it: batches in all encodings through the routers and a socket, over a shelf.

use std::net::SocketAddr;

use http::StatusCode;
use model::{AttributeValue, KeyValue, Span, SpanId, SpanKind, StatusCode as Status, TimestampNs, TraceId};
use proptest::prelude::*;
use storage::AppendError;
use tokio::net::UdpSocket;

use crate::shelf::{BODY_BYTES_MAX, ingest, post};
use crate::wire::{close_message, open_message, put_bytes, put_fixed64, put_number};

const THRIFT: (&str, &str) = ("content-type", "application/x-thrift");
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";

/// A Thrift value to be written in either protocol.
#[derive(Clone, Debug)]
enum T {
    Bool(bool),
    I16(i16),
    I32(i32),
    I64(i64),
    Double(f64),
    Text(&'static str),
    Raw(Vec<u8>),
    List(Vec<T>),
    Struct(Vec<(i16, T)>),
}

impl T {
    fn binary_type(&self) -> u8 {
        match self {
            T::Bool(_) => 2,
            T::Double(_) => 4,
            T::I16(_) => 6,
            T::I32(_) => 8,
            T::I64(_) => 10,
            T::Text(_) | T::Raw(_) => 11,
            T::Struct(_) => 12,
            T::List(_) => 15,
        }
    }

    fn binary(&self, out: &mut Vec<u8>) {
        match self {
            T::Bool(b) => out.push(u8::from(*b)),
            T::I16(v) => out.extend(v.to_be_bytes()),
            T::I32(v) => out.extend(v.to_be_bytes()),
            T::I64(v) => out.extend(v.to_be_bytes()),
            T::Double(v) => out.extend(v.to_be_bytes()),
            T::Text(text) => T::Raw(text.as_bytes().to_vec()).binary(out),
            T::Raw(bytes) => {
                out.extend((bytes.len() as u32).to_be_bytes());
                out.extend(bytes);
            }
            T::List(items) => {
                out.push(items.first().map_or(12, T::binary_type));
                out.extend((items.len() as u32).to_be_bytes());
                items.iter().for_each(|item| item.binary(out));
            }
            T::Struct(fields) => {
                for (id, field) in fields {
                    out.push(field.binary_type());
                    out.extend(id.to_be_bytes());
                    field.binary(out);
                }
                out.push(0);
            }
        }
    }

    fn compact_type(&self) -> u8 {
        match self {
            T::Bool(true) => 1,
            T::Bool(false) => 2,
            T::I16(_) => 4,
            T::I32(_) => 5,
            T::I64(_) => 6,
            T::Double(_) => 7,
            T::Text(_) | T::Raw(_) => 8,
            T::List(_) => 9,
            T::Struct(_) => 12,
        }
    }

    fn compact(&self, out: &mut Vec<u8>) {
        let zigzag = |v: i64| (v << 1 ^ v >> 63) as u64;
        match self {
            T::Bool(b) => out.push(if *b { 1 } else { 2 }),
            T::I16(v) => crate::wire::put_varint(out, zigzag(i64::from(*v))),
            T::I32(v) => crate::wire::put_varint(out, zigzag(i64::from(*v))),
            T::I64(v) => crate::wire::put_varint(out, zigzag(*v)),
            T::Double(v) => out.extend(v.to_le_bytes()),
            T::Text(text) => T::Raw(text.as_bytes().to_vec()).compact(out),
            T::Raw(bytes) => {
                crate::wire::put_varint(out, bytes.len() as u64);
                out.extend(bytes);
            }
            T::List(items) => {
                let kind = items.first().map_or(12, T::compact_type);
                if items.len() < 15 {
                    out.push((items.len() as u8) << 4 | kind);
                } else {
                    out.push(0xf0 | kind);
                    crate::wire::put_varint(out, items.len() as u64);
                }
                items.iter().for_each(|item| item.compact(out));
            }
            T::Struct(fields) => {
                let mut last = 0;
                for (id, field) in fields {
                    let delta = id - last;
                    if (1..=15).contains(&delta) {
                        out.push((delta as u8) << 4 | field.compact_type());
                    } else {
                        out.push(field.compact_type());
                        crate::wire::put_varint(out, zigzag(i64::from(*id)));
                    }
                    last = *id;
                    if !matches!(field, T::Bool(_)) {
                        field.compact(out);
                    }
                }
                out.push(0);
            }
        }
    }
}

fn tag(key: &'static str, kind: i32, id: i16, value: T) -> T {
    T::Struct(vec![(1, T::Text(key)), (2, T::I32(kind)), (id, value)])
}

const START_US: i64 = 1_761_128_130_000_000;

fn batch() -> T {
    let reference = |kind, low, high, span| {
        T::Struct(vec![
            (1, T::I32(kind)),
            (2, T::I64(low)),
            (3, T::I64(high)),
            (4, T::I64(span)),
        ])
    };
    let log = T::Struct(vec![
        (1, T::I64(START_US + 5)),
        (
            2,
            T::List(vec![tag("event", 0, 3, T::Text("retry")), tag("n", 3, 6, T::I64(2))]),
        ),
    ]);
    let server = T::Struct(vec![
        (1, T::I64(-2)),
        (2, T::I64(7)),
        (3, T::I64(0x0a)),
        (4, T::I64(0)),
        (5, T::Text("GET /")),
        (6, T::List(vec![reference(0, -2, 7, 9), reference(1, 5, 0, 6)])),
        (7, T::I32(1)),
        (8, T::I64(START_US)),
        (9, T::I64(1500)),
        (
            10,
            T::List(vec![
                tag("span.kind", 0, 3, T::Text("server")),
                tag("error", 2, 5, T::Bool(true)),
                tag("http.status_message", 0, 3, T::Text("gone")),
                tag("load", 1, 4, T::Double(0.5)),
                tag("raw", 4, 7, T::Raw(vec![1, 2])),
                tag("otel.library.name", 0, 3, T::Text("flask")),
                tag("w3c.tracestate", 0, 3, T::Text("a=b")),
            ]),
        ),
        (11, T::List(vec![log])),
    ]);
    let client = T::Struct(vec![
        (1, T::I64(0xbeef)),
        (2, T::I64(0)),
        (3, T::I64(1)),
        (4, T::I64(3)),
        (5, T::Text("call")),
        (7, T::I32(1)),
        (8, T::I64(START_US)),
        (9, T::I64(-4)),
        (
            10,
            T::List(vec![
                tag("span.kind", 0, 3, T::Text("client")),
                tag("http.status_code", 3, 6, T::I64(404)),
            ]),
        ),
    ]);
    let process = T::Struct(vec![
        (1, T::Text("shop")),
        (
            2,
            T::List(vec![
                tag("hostname", 0, 3, T::Text("vm1")),
                tag("jaeger.version", 0, 3, T::Text("Python-4.8")),
                tag("n", 3, 6, T::I64(3)),
            ]),
        ),
    ]);
    T::Struct(vec![(1, process), (2, T::List(vec![server, client])), (3, T::I64(1))])
}

fn binary(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.binary(&mut out);
    out
}

fn compact_message(name: &str, args: &T) -> Vec<u8> {
    let mut out = vec![0x82, 0x81, 0];
    crate::wire::put_varint(&mut out, name.len() as u64);
    out.extend(name.as_bytes());
    args.compact(&mut out);
    out
}

fn binary_message(name: &str, args: &T) -> Vec<u8> {
    let mut out = vec![0x80, 1, 0, 4];
    out.extend((name.len() as u32).to_be_bytes());
    out.extend(name.as_bytes());
    out.extend([0; 4]);
    args.binary(&mut out);
    out
}

fn check_batch(spans: &[Span]) {
    let [server, client] = spans else {
        panic!("two spans expected: {spans:#?}")
    };
    let kv = |key: &str, value: AttributeValue| KeyValue::new(key, value);
    assert_eq!(server.trace_id, TraceId(7 << 64 | u128::from(-2i64 as u64)));
    assert_eq!(server.span_id, SpanId(0x0a));
    assert_eq!(server.parent_span_id, Some(SpanId(9)));
    assert_eq!(server.kind, SpanKind::Server);
    assert_eq!(server.name, "GET /");
    assert_eq!(server.start, TimestampNs(START_US * 1000));
    assert_eq!(server.duration_ns(), 1_500_000);
    assert_eq!((server.status, &*server.status_message), (Status::Error, "gone"));
    assert_eq!(server.trace_state, "a=b");
    assert_eq!(server.scope.name, "flask");
    assert_eq!(
        server.attributes,
        [
            kv("http.status_message", "gone".into()),
            kv("load", AttributeValue::Double(0.5)),
            kv("raw", AttributeValue::Bytes(vec![1, 2])),
        ]
    );
    assert_eq!(server.links.len(), 1);
    assert_eq!(
        (server.links[0].trace_id, server.links[0].span_id),
        (TraceId(5), SpanId(6))
    );
    assert_eq!(
        server.links[0].attributes,
        [kv("opentracing.ref_type", "follows_from".into())]
    );
    assert_eq!(server.events.len(), 1);
    assert_eq!(server.events[0].name, "retry");
    assert_eq!(server.events[0].t, TimestampNs((START_US + 5) * 1000));
    assert_eq!(server.events[0].attributes, [kv("n", 2.into())]);
    assert_eq!(
        server.resource.attributes,
        [
            kv("service.name", "shop".into()),
            kv("host.name", "vm1".into()),
            kv("opencensus.exporterversion", "Jaeger-Python-4.8".into()),
            kv("n", 3.into()),
        ]
    );
    assert_eq!(client.trace_id, TraceId(0xbeef));
    assert_eq!(client.parent_span_id, Some(SpanId(3)));
    assert_eq!((client.kind, client.status), (SpanKind::Client, Status::Error));
    assert_eq!(client.duration_ns(), 0);
}

#[tokio::test]
async fn thrift_over_http_is_stored_and_answered_202() {
    let (ingest, shelf) = ingest();
    let router = ingest.jaeger_thrift_router();
    let body = binary(&batch());
    let (status, _, answer) = post(&router, "/api/traces?format=jaeger.thrift", &[THRIFT], body).await;
    assert_eq!((status, &*answer), (StatusCode::ACCEPTED, &b""[..]));
    check_batch(&shelf.spans.lock());
    let stats = ingest.stats();
    let row = stats.receivers.iter().find(|r| r.protocol == "jaeger_thrift_http");
    let row = row.unwrap();
    assert_eq!((row.requests_ok, row.items_accepted, row.signal), (1, 2, "traces"));
}

#[tokio::test]
async fn http_refuses_what_it_cannot_read() {
    let (ingest, shelf) = ingest();
    let router = ingest.jaeger_thrift_router();
    let body = binary(&batch());
    for (headers, body, want) in [
        (
            &[THRIFT][..],
            b"{\"not\": \"thrift\"}".to_vec(),
            StatusCode::BAD_REQUEST,
        ),
        (&[THRIFT], body[..body.len() - 4].to_vec(), StatusCode::BAD_REQUEST),
        (&[THRIFT], Vec::new(), StatusCode::BAD_REQUEST),
        (&[THRIFT], vec![0], StatusCode::BAD_REQUEST),
        (
            &[("content-type", "application/json")],
            body.clone(),
            StatusCode::BAD_REQUEST,
        ),
        (
            &[("content-type", "application/vnd.apache.thrift.binary")],
            vec![0; BODY_BYTES_MAX + 1],
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let (status, _, answer) = post(&router, "/api/traces", headers, body).await;
        assert_eq!(status, want, "{}", String::from_utf8_lossy(&answer));
    }
    assert!(shelf.spans.lock().is_empty());
    *shelf.fault.lock() = Some(|| AppendError::DiskFull("full".to_owned()));
    let (status, headers, _) = post(&router, "/api/traces", &[THRIFT], body).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"30".parse().unwrap())
    );
}

#[tokio::test]
async fn a_span_with_a_bad_id_is_refused_alone() {
    let span = |id| T::Struct(vec![(1, T::I64(1)), (3, T::I64(id)), (8, T::I64(START_US))]);
    let body = binary(&T::Struct(vec![(2, T::List(vec![span(0), span(5)]))]));
    let (ingest, shelf) = ingest();
    let (status, _, _) = post(&ingest.jaeger_thrift_router(), "/api/traces", &[THRIFT], body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        shelf.spans.lock().iter().map(|s| s.span_id).collect::<Vec<_>>(),
        [SpanId(5)]
    );
    let stats = ingest.stats();
    let row = stats.receivers.iter().find(|r| r.protocol == "jaeger_thrift_http");
    assert_eq!(row.unwrap().items_rejected, 1);
}

#[tokio::test]
async fn old_sdks_are_told_to_sample_everything() {
    let (ingest, _) = ingest();
    let router = ingest.jaeger_thrift_router();
    for path in ["/api/sampling?service=x", "/sampling?service=x"] {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let (status, _, body) = crate::shelf::send(&router, request).await;
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(json["strategyType"], "PROBABILISTIC");
        assert_eq!(json["probabilisticSampling"]["samplingRate"], 1);
    }
    let frame = [&[0, 0, 0, 0, 3][..], &[0x0a, 1, b'x']].concat();
    let path = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";
    let (_, headers, body) = post(&ingest.jaeger_grpc_router(), path, &[GRPC], frame).await;
    assert_eq!(headers["grpc-status"], "0");
    assert_eq!(body[5..], [0x08, 0, 0x12, 9, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
}

/// The batch of [`batch`] as an `api_v2.PostSpansRequest`.
fn post_spans_request() -> Vec<u8> {
    fn tag(out: &mut Vec<u8>, number: u32, key: &str, kind: u64, put: impl Fn(&mut Vec<u8>)) {
        let start = open_message(out, number);
        put_bytes(out, 1, key.as_bytes());
        put_number(out, 2, kind);
        put(out);
        close_message(out, start);
    }
    fn text(out: &mut Vec<u8>, number: u32, key: &str, value: &str) {
        tag(out, number, key, 0, |out| put_bytes(out, 3, value.as_bytes()));
    }
    fn time(out: &mut Vec<u8>, number: u32, us: i64) {
        let start = open_message(out, number);
        put_number(out, 1, (us / 1_000_000) as u64);
        put_number(out, 2, (us % 1_000_000 * 1000) as u64);
        close_message(out, start);
    }
    fn reference(out: &mut Vec<u8>, trace: u128, span: u64, kind: u64) {
        let start = open_message(out, 4);
        put_bytes(out, 1, &trace.to_be_bytes());
        put_bytes(out, 2, &span.to_be_bytes());
        put_number(out, 3, kind);
        close_message(out, start);
    }
    let trace = 7u128 << 64 | u128::from(-2i64 as u64);
    let mut out = Vec::new();
    let request = open_message(&mut out, 1);
    let span = open_message(&mut out, 1);
    put_bytes(&mut out, 1, &trace.to_be_bytes());
    put_bytes(&mut out, 2, &10u64.to_be_bytes());
    put_bytes(&mut out, 3, b"GET /");
    reference(&mut out, trace, 9, 0);
    reference(&mut out, 5, 6, 1);
    put_number(&mut out, 5, 1);
    time(&mut out, 6, START_US);
    time(&mut out, 7, 1500);
    text(&mut out, 8, "span.kind", "server");
    tag(&mut out, 8, "error", 1, |out| put_number(out, 4, 1));
    text(&mut out, 8, "http.status_message", "gone");
    tag(&mut out, 8, "load", 3, |out| put_fixed64(out, 6, 0.5f64.to_bits()));
    tag(&mut out, 8, "raw", 4, |out| put_bytes(out, 7, &[1, 2]));
    text(&mut out, 8, "otel.library.name", "flask");
    text(&mut out, 8, "w3c.tracestate", "a=b");
    let log = open_message(&mut out, 9);
    time(&mut out, 1, START_US + 5);
    text(&mut out, 2, "event", "retry");
    tag(&mut out, 2, "n", 2, |out| put_number(out, 5, 2));
    close_message(&mut out, log);
    close_message(&mut out, span);
    let process = open_message(&mut out, 2);
    put_bytes(&mut out, 1, b"shop");
    text(&mut out, 2, "hostname", "vm1");
    text(&mut out, 2, "jaeger.version", "Python-4.8");
    tag(&mut out, 2, "n", 2, |out| put_number(out, 5, 3));
    close_message(&mut out, process);
    let span = open_message(&mut out, 1);
    put_bytes(&mut out, 1, &0xbeefu64.to_be_bytes());
    put_bytes(&mut out, 2, &1u64.to_be_bytes());
    reference(&mut out, 0xbeef, 3, 0);
    time(&mut out, 6, START_US);
    text(&mut out, 8, "span.kind", "client");
    tag(&mut out, 8, "http.status_code", 2, |out| put_number(out, 5, 404));
    close_message(&mut out, span);
    close_message(&mut out, request);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

#[tokio::test]
async fn spans_over_grpc_are_the_same_spans() {
    let (ingest, shelf) = ingest();
    let router = ingest.jaeger_grpc_router();
    let (status, headers, body) = post(&router, POST_SPANS, &[GRPC], framed(&post_spans_request())).await;
    assert_eq!(
        (status, &headers["grpc-status"]),
        (StatusCode::OK, &"0".parse().unwrap())
    );
    assert_eq!(body, [0; 5]);
    check_batch(&shelf.spans.lock());
    let (_, headers, _) = post(&router, POST_SPANS, &[GRPC], framed(&[0x0a, 50, 1])).await;
    assert_eq!(headers["grpc-status"], "3");
    *shelf.fault.lock() = Some(|| AppendError::DiskFull("full".to_owned()));
    let (_, headers, _) = post(&router, POST_SPANS, &[GRPC], framed(&post_spans_request())).await;
    assert_eq!(headers["grpc-status"], "14");
}

#[tokio::test]
async fn a_span_s_own_process_beats_that_of_the_batch() {
    let mut out = Vec::new();
    let request = open_message(&mut out, 1);
    for (id, service) in [(1u64, None), (2, Some("b")), (3, Some("b"))] {
        let span = open_message(&mut out, 1);
        put_bytes(&mut out, 1, &1u128.to_be_bytes());
        put_bytes(&mut out, 2, &id.to_be_bytes());
        if let Some(service) = service {
            let process = open_message(&mut out, 10);
            put_bytes(&mut out, 1, service.as_bytes());
            close_message(&mut out, process);
        }
        close_message(&mut out, span);
    }
    let process = open_message(&mut out, 2);
    put_bytes(&mut out, 1, b"a");
    close_message(&mut out, process);
    close_message(&mut out, request);
    let (ingest, shelf) = ingest();
    post(&ingest.jaeger_grpc_router(), POST_SPANS, &[GRPC], framed(&out)).await;
    let spans = shelf.spans.lock();
    let services: Vec<&str> = spans.iter().map(|s| s.resource.service_name()).collect();
    assert_eq!(services, ["a", "b", "b"]);
    assert!(std::sync::Arc::ptr_eq(&spans[1].resource, &spans[2].resource));
}

async fn listening() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

#[tokio::test]
async fn datagrams_in_both_protocols_are_stored() {
    let zipkin = T::List(vec![T::Struct(vec![
        (1, T::I64(0x77)),
        (3, T::Text("old")),
        (4, T::I64(8)),
        (10, T::I64(START_US)),
        (11, T::I64(3)),
        (
            6,
            T::List(vec![T::Struct(vec![
                (1, T::I64(START_US)),
                (2, T::Text("sr")),
                (3, T::Struct(vec![(2, T::I16(80)), (3, T::Text("older"))])),
            ])]),
        ),
    ])]);
    let (ingest, shelf) = ingest();
    let (socket, addr) = listening().await;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let serving = {
        let ingest = ingest.clone();
        tokio::spawn(async move { ingest.serve_jaeger_udp(socket, stopping).await })
    };
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let args = |value: T| T::Struct(vec![(1, value)]);
    for datagram in [
        compact_message("emitBatch", &args(batch())),
        b"nonsense".to_vec(),
        binary_message("emitBatch", &args(batch())),
        compact_message("emitZipkinBatch", &args(zipkin)),
        compact_message("emitSomething", &args(batch())),
    ] {
        sender.send_to(&datagram, addr).await.unwrap();
    }
    for _ in 0..200 {
        if shelf.spans.lock().len() == 5 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    stop.send(true).unwrap();
    serving.await.unwrap();
    let spans = shelf.spans.lock();
    check_batch(&spans[..2]);
    check_batch(&spans[2..4]);
    assert_eq!((spans[4].trace_id, spans[4].kind), (TraceId(0x77), SpanKind::Server));
    assert_eq!(spans[4].resource.service_name(), "older");
    let stats = ingest.stats();
    let row = stats
        .receivers
        .iter()
        .find(|r| r.protocol == "jaeger_thrift_udp")
        .unwrap();
    assert_eq!((row.requests_ok, row.requests_bad, row.items_accepted), (3, 2, 5));
}

proptest! {
    /// Anything may come over the network.
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = super::thrift_batch::decode_body(&bytes, 1 << 20);
        let _ = super::thrift_batch::decode_datagram(&bytes, 1 << 20, TimestampNs(0));
        let _ = super::protobuf::decode(&bytes, 1 << 20);
    }

    /// A sound message with some bytes changed gets further into the decoders than noise does.
    #[test]
    fn damaged_batches_do_not_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let args = T::Struct(vec![(1, batch())]);
        for mut bytes in [
            binary(&batch()),
            compact_message("emitBatch", &args),
            binary_message("emitBatch", &args),
            post_spans_request(),
        ] {
            for (at, byte) in &changes {
                let at = at % bytes.len();
                bytes[at] = *byte;
            }
            let _ = super::thrift_batch::decode_body(&bytes, 1 << 20);
            let _ = super::thrift_batch::decode_datagram(&bytes, 1 << 20, TimestampNs(0));
            let _ = super::protobuf::decode(&bytes, 1 << 20);
        }
    }
}
