//! What the HTTP transport answers: success, refusals in the request's encoding, CORS.

use super::*;

#[tokio::test]
async fn success_is_an_empty_message_or_object() {
    let (router, shelf) = http();
    let (status, headers, body) = post(&router, "/v1/traces", &[PROTOBUF], spans(3).encode_to_vec()).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 0));
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    assert_eq!(shelf.spans.lock().len(), 3);
    assert_eq!(shelf.spans.lock()[0].resource.service_name(), "shop");
    for empty in [
        "{}",
        r#"{"resourceSpans":[]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{}]}]}"#,
    ] {
        let headers = [("content-type", "application/json; charset=utf-8")];
        let (status, headers, body) = post(&router, "/v1/traces", &headers, empty).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    }
    for path in ["/v1/metrics", "/v1/logs"] {
        let (status, _, body) = post(&router, path, &[PROTOBUF], []).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0), "{path}");
    }
}

#[tokio::test]
async fn every_compression_is_read() {
    use std::io::Write;
    let (router, shelf) = http();
    let plain = spans(1).encode_to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(&plain).unwrap();
    for (name, wire) in [
        ("gzip", gzip(&plain)),
        ("zstd", zstd::encode_all(&plain[..], 3).unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("snappy", snap::raw::Encoder::new().compress_vec(&plain).unwrap()),
        ("identity", plain.clone()),
    ] {
        let headers = [PROTOBUF, ("content-encoding", name)];
        let (status, ..) = post(&router, "/v1/traces", &headers, wire).await;
        assert_eq!(status, StatusCode::OK, "{name}");
    }
    assert_eq!(shelf.spans.lock().len(), 5);
    let (status, ..) = post(&router, "/v1/traces", &[PROTOBUF, ("content-encoding", "lz4")], plain).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn large_bodies_are_decoded_too() {
    let (router, shelf) = http();
    let many = spans(9000).encode_to_vec();
    assert!((300_000..BODY_BYTES_MAX).contains(&many.len()), "{}", many.len());
    let (status, ..) = post(&router, "/v1/traces", &[PROTOBUF], many.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let headers = [PROTOBUF, ("content-encoding", "gzip")];
    let (status, ..) = post(&router, "/v1/traces", &headers, gzip(&many)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(shelf.spans.lock().len(), 18_000);
}

#[tokio::test]
async fn refusals_speak_the_requests_encoding() {
    let (router, shelf) = http();
    let (status, headers, body) = post(&router, "/v1/traces", &[PROTOBUF], "not protobuf").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    let rpc = RpcStatus::decode(&body[..]).unwrap();
    assert!(rpc.code == 3 && rpc.message.contains("malformed protobuf"), "{rpc:?}");
    for body in [
        "",
        "not json",
        "[]",
        r#"{"resourceSpans":7}"#,
        r#"{"resourceSpans":[{}]"#,
    ] {
        let (status, headers, body) = post(&router, "/v1/traces", &[JSON], body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["code"], 3);
    }
    let truncated = &gzip(&spans(5).encode_to_vec())[..40];
    let headers = [PROTOBUF, ("content-encoding", "gzip")];
    let (status, ..) = post(&router, "/v1/traces", &headers, truncated).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    for content_type in ["text/plain", "application/grpc", "application/octet-stream"] {
        let (status, headers, _) = post(&router, "/v1/traces", &[("content-type", content_type)], "x").await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(
            headers[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with("text/plain")
        );
    }
    let (status, ..) = post(&router, "/v1/traces", &[], "x").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let get = Request::get("/v1/traces").body(Body::empty()).unwrap();
    assert_eq!(send(&router, get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let (status, ..) = post(&router, "/v1development/profiles", &[PROTOBUF], "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(shelf.spans.lock().is_empty());
}

#[tokio::test]
async fn oversize_and_bombs_are_413() {
    let (router, _) = http();
    let big = vec![0; BODY_BYTES_MAX + 1];
    let (status, _, body) = post(&router, "/v1/logs", &[PROTOBUF], big).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(RpcStatus::decode(&body[..]).unwrap().code, 8);
    let zeros = vec![0; 30 * BODY_BYTES_MAX];
    for (name, wire) in [
        ("gzip", gzip(&zeros)),
        ("zstd", zstd::encode_all(&zeros[..], 3).unwrap()),
    ] {
        let (status, ..) = post(&router, "/v1/logs", &[JSON, ("content-encoding", name)], wire).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
    }
    // Streamed without a length.
    let frames = (0..40).map(|_| Ok::<_, std::io::Error>(vec![0u8; BODY_BYTES_MAX / 20]));
    let body = Body::from_stream(futures_util::stream::iter(frames));
    let request = Request::post("/v1/logs").header("content-type", "application/json");
    let (status, ..) = send(&router, request.body(body).unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn temporary_faults_are_503_with_whole_seconds() {
    let (router, shelf) = http();
    type Fault = fn() -> AppendError;
    let faults: [(Fault, &str); 3] = [
        (|| AppendError::Overloaded("memory".into()), "2"),
        (|| AppendError::DiskFull("disk".into()), "30"),
        (|| AppendError::Failed("wal".into()), "5"),
    ];
    for (fault, seconds) in faults {
        *shelf.fault.lock() = Some(fault);
        let (status, headers, body) = post(&router, "/v1/traces", &[PROTOBUF], spans(1).encode_to_vec()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::RETRY_AFTER], seconds);
        assert_eq!(RpcStatus::decode(&body[..]).unwrap().code, 14);
    }
    *shelf.fault.lock() = None;
    *shelf.pressure.lock() = 1.01;
    let (status, headers, _) = post(&router, "/v1/traces", &[JSON], "{}").await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"2".parse().unwrap())
    );
}

#[tokio::test]
async fn partial_success_counts_and_explains() {
    let (router, shelf) = http();
    let mut request = spans(3);
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = vec![1];
    let (status, _, body) = post(&router, "/v1/traces", &[PROTOBUF], request.encode_to_vec()).await;
    assert_eq!(status, StatusCode::OK);
    let partial = ExportTraceServiceResponse::decode(&body[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(
        partial.error_message.contains("invalid trace id"),
        "{}",
        partial.error_message
    );
    assert_eq!(shelf.spans.lock().len(), 2);
    shelf.spans_taken.lock().too_old = 1;
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"07070707070707070707070707070707","spanId":"0000000000000001"}]}]}]}"#;
    let (_, _, body) = post(&router, "/v1/traces", &[JSON], json).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["partialSuccess"]["rejectedSpans"], "1");
    assert_eq!(
        body["partialSuccess"]["errorMessage"],
        "1 spans are older than the retention"
    );
}

#[tokio::test]
async fn browsers_may_post_from_any_page() {
    let (router, _) = http();
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/v1/traces")
        .header("origin", "http://localhost:8080")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-custom")
        .body(Body::empty())
        .unwrap();
    let (status, headers, body) = send(&router, preflight).await;
    assert_eq!((status, body.len()), (StatusCode::NO_CONTENT, 0));
    for (name, want) in [
        ("access-control-allow-origin", "http://localhost:8080"),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "content-type,x-custom"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "7200"),
        ("vary", "Origin"),
    ] {
        assert_eq!(headers[name], want);
    }
    for (path, content_type, origin) in [
        ("/v1/traces", JSON, "null"),
        ("/v1/traces", ("content-type", "text/plain"), "https://a"),
        ("/nowhere", JSON, "https://b"),
    ] {
        let (_, headers, _) = post(&router, path, &[content_type, ("origin", origin)], "{}").await;
        assert_eq!(headers["access-control-allow-origin"], origin);
        assert_eq!(headers["access-control-allow-credentials"], "true");
    }
    let (_, headers, _) = post(&router, "/v1/traces", &[JSON], "{}").await;
    assert!(!headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn counters_count() {
    let (ingest, _) = ingest();
    let router = ingest.otlp_http_router();
    post(&router, "/v1/traces", &[PROTOBUF], spans(2).encode_to_vec()).await;
    post(&router, "/v1/traces", &[PROTOBUF], "garbage").await;
    let row = ingest
        .stats()
        .receivers
        .into_iter()
        .find(|r| r.protocol == "otlp_http" && r.signal == "traces");
    let row = row.unwrap();
    assert_eq!((row.requests_ok, row.requests_bad, row.requests_refused), (1, 1, 0));
    assert_eq!((row.items_accepted, row.items_rejected), (2, 0));
    assert_eq!(row.wire_bytes, row.decoded_bytes);
    assert!(row.wire_bytes > 100);
}

/// A client of HTTP/1.1 writes all of its body before it reads; it must see the answer, not a reset.
#[tokio::test]
async fn an_early_refusal_is_seen_over_a_real_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (router, _) = http();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    for (content_type, want) in [("application/json", "HTTP/1.1 413"), ("text/plain", "HTTP/1.1 415")] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let len = 12 * BODY_BYTES_MAX;
        let head = format!(
            "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b' '; len]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(want), "{answer}");
    }
    server.abort();
}
