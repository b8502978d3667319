//! What the gRPC transport answers: frames, codes, trailers, a client of another make.

use super::*;

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

fn grpc() -> (Router, Arc<Shelf>) {
    let (ingest, shelf) = ingest();
    (ingest.otlp_grpc_router(), shelf)
}

async fn code(router: &Router, headers: &[(&str, &str)], body: Vec<u8>) -> (String, HeaderMap) {
    let (status, headers, _) = post(router, TRACE_EXPORT, headers, body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "application/grpc");
    (headers["grpc-status"].to_str().unwrap().to_owned(), headers)
}

#[tokio::test]
async fn success_is_a_framed_empty_message() {
    let (router, shelf) = grpc();
    let body = frame(0, &spans(2).encode_to_vec());
    let (_, headers, body) = post(&router, TRACE_EXPORT, &[GRPC], body).await;
    assert_eq!(
        (&headers["grpc-status"], &body[..]),
        (&"0".parse().unwrap(), &[0; 5][..])
    );
    assert_eq!(shelf.spans.lock().len(), 2);
    let gzipped = frame(1, &gzip(&spans(1).encode_to_vec()));
    assert_eq!(code(&router, &[GRPC, ("grpc-encoding", "gzip")], gzipped).await.0, "0");
    let zstd = frame(1, &zstd::encode_all(&spans(1).encode_to_vec()[..], 1).unwrap());
    assert_eq!(code(&router, &[GRPC, ("grpc-encoding", "zstd")], zstd).await.0, "0");
    assert_eq!(shelf.spans.lock().len(), 4);
}

#[tokio::test]
async fn codes() {
    let (router, shelf) = grpc();
    let whole = spans(1).encode_to_vec();
    for (what, headers, body, want) in [
        ("garbage", vec![GRPC], frame(0, b"garbage"), "3"),
        ("truncated", vec![GRPC], frame(0, &whole)[..20].to_vec(), "3"),
        ("no message", vec![GRPC], vec![], "3"),
        (
            "two messages",
            vec![GRPC],
            [frame(0, &whole), frame(0, &whole)].concat(),
            "3",
        ),
        ("bad flag", vec![GRPC], frame(9, &whole), "3"),
        ("oversize", vec![GRPC], frame(0, &vec![0; BODY_BYTES_MAX + 1]), "8"),
        ("declared oversize", vec![GRPC], vec![0, 0xff, 0xff, 0xff, 0xff, 1], "8"),
        (
            "bomb",
            vec![GRPC, ("grpc-encoding", "gzip")],
            frame(1, &gzip(&vec![0; 9 << 20])),
            "8",
        ),
        ("bad gzip", vec![GRPC, ("grpc-encoding", "gzip")], frame(1, &whole), "3"),
        (
            "unknown encoding",
            vec![GRPC, ("grpc-encoding", "br")],
            frame(1, &whole),
            "12",
        ),
    ] {
        let (got, headers) = code(&router, &headers, body).await;
        assert_eq!(got, want, "{what}: {headers:?}");
        assert!(!headers.contains_key("grpc-status-details-bin"), "{what}");
    }
    *shelf.fault.lock() = Some(|| AppendError::Overloaded("memory: 100%".into()));
    let (got, headers) = code(&router, &[GRPC], frame(0, &whole)).await;
    assert_eq!(
        (got.as_str(), headers["grpc-message"].to_str().unwrap()),
        ("14", "memory: 100%25")
    );
    use base64::Engine;
    let details = headers["grpc-status-details-bin"].to_str().unwrap();
    let details = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(details)
        .unwrap();
    let status = RpcStatus::decode(&details[..]).unwrap();
    assert_eq!((status.code, status.message.as_str()), (14, "memory: 100%"));
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    // RetryInfo { retry_delay: Duration { seconds: 2 } }
    assert_eq!(status.details[0].value, [0x0a, 2, 0x08, 2]);
}

#[tokio::test]
async fn health_unknown_methods_and_other_protocols() {
    let (router, _) = grpc();
    let (_, headers, body) = post(&router, "/grpc.health.v1.Health/Check", &[GRPC], frame(0, &[])).await;
    assert_eq!(
        (&headers["grpc-status"], &body[..]),
        (&"0".parse().unwrap(), &[0, 0, 0, 0, 2, 8, 1][..])
    );
    let profiles = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
    let (status, headers, _) = post(&router, profiles, &[GRPC], frame(0, &[])).await;
    assert_eq!(
        (status, &headers["grpc-status"]),
        (StatusCode::OK, &"12".parse().unwrap())
    );
    let (status, ..) = post(&router, "/v1/traces", &[JSON], "{}").await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

/// A real client over a real connection, because frames and trailers are written by hand.
#[tokio::test]
async fn a_client_of_another_make_is_understood() {
    let (router, shelf) = grpc();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = TraceServiceClient::connect(format!("http://{address}")).await.unwrap();
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut client = match encoding {
            Some(encoding) => client.clone().send_compressed(encoding),
            None => client.clone(),
        };
        let response = client.export(spans(500)).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None);
    }
    assert_eq!(shelf.spans.lock().len(), 1500);
    let mut client = client;
    let mut bad = spans(2);
    bad.resource_spans[0].scope_spans[0].spans[0].span_id = vec![];
    let partial = client.export(bad).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    let error = client.export(spans(30_000)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    *shelf.fault.lock() = Some(|| AppendError::DiskFull("größer geht's nicht".into()));
    let error = client.export(spans(1)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (tonic::Code::Unavailable, "größer geht's nicht")
    );
    assert!(!error.details().is_empty());
    server.abort();
}
