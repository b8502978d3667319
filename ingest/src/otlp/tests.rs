//! OTLP as its clients see it: requests through the routers, over a shelf.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use storage::AppendError;
use tonic::codec::CompressionEncoding;

use crate::shelf::{BODY_BYTES_MAX, NOW, Shelf, ingest, post, send};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const TRACE_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn kv(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..Default::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    kv(key, Value::StringValue(value.to_owned()))
}

fn resource(attributes: Vec<KeyValue>) -> Option<Resource> {
    Some(Resource {
        attributes,
        ..Default::default()
    })
}

fn spans(count: usize) -> ExportTraceServiceRequest {
    let span = |i: usize| Span {
        trace_id: vec![7; 16],
        span_id: (i as u64 + 1).to_be_bytes().to_vec(),
        name: format!("op {i}"),
        attributes: vec![text("k", "v")],
        ..Default::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(vec![text("service.name", "shop")]),
            scope_spans: vec![ScopeSpans {
                spans: (0..count).map(span).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    e.write_all(plain).unwrap();
    e.finish().unwrap()
}

fn corpus(name: &str) -> Option<String> {
    let path = format!("{}/../../shared/corpus/ingest/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).ok()
}

fn http() -> (Router, Arc<Shelf>) {
    let (ingest, shelf) = ingest();
    (ingest.otlp_http_router(), shelf)
}

/// The fields of a `google.rpc.Status` body.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types_any::Any>,
}

mod prost_types_any {
    /// `google.protobuf.Any`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Any {
        #[prost(string, tag = "1")]
        pub type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
    }
}

mod over_http {
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
        let faults: [(fn() -> AppendError, &str); 3] = [
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
}

mod over_grpc {
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
}

mod of_metrics {
    use super::*;

    const T: u64 = 1_761_128_135_000_000_000;

    fn gauge(name: &str, attributes: Vec<KeyValue>, t: u64) -> Metric {
        Metric {
            name: name.to_owned(),
            data: Some(metric::Data::Gauge(Gauge {
                data_points: vec![NumberDataPoint {
                    attributes,
                    time_unix_nano: t,
                    value: Some(number_data_point::Value::AsInt(1)),
                    ..Default::default()
                }],
            })),
            ..Default::default()
        }
    }

    fn request(attributes: Vec<KeyValue>, metrics: Vec<Metric>) -> Vec<u8> {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: resource(attributes),
                scope_metrics: vec![ScopeMetrics {
                    metrics,
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    async fn samples(body: Vec<u8>) -> Vec<String> {
        let (router, shelf) = http();
        let (status, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], body).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.is_empty(), "{:?}", ExportMetricsServiceResponse::decode(&body[..]));
        let samples = shelf.samples.lock();
        samples.clone()
    }

    async fn rejected(body: Vec<u8>) -> (i64, String, Vec<String>) {
        let (router, shelf) = http();
        let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], body).await;
        let partial = ExportMetricsServiceResponse::decode(&body[..])
            .unwrap()
            .partial_success
            .unwrap();
        let samples = shelf.samples.lock();
        (partial.rejected_data_points, partial.error_message, samples.clone())
    }

    #[tokio::test]
    async fn the_corpus_sample_becomes_the_series_expected() {
        let (Some(json), Some(expected)) = (corpus("otlp_metrics.json"), corpus("expected_metrics.txt")) else {
            return;
        };
        let (ingest, shelf) = ingest();
        let (status, _, body) = post(&ingest.otlp_http_router(), "/v1/metrics", &[JSON], json.clone()).await;
        assert_eq!(status, StatusCode::OK);
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        // One delta point, two exponential histograms: neither is stored yet.
        assert_eq!(body["partialSuccess"]["rejectedDataPoints"], "3");
        let message = body["partialSuccess"]["errorMessage"].as_str().unwrap();
        assert!(message.contains("jobs.processed: delta temporality"), "{message}");
        assert!(message.contains("queue.wait: exponential histograms"), "{message}");
        let mut want: Vec<String> = expected
            .lines()
            .map(|line| line.split("   #").next().unwrap().replace("<stale marker>", "stale"))
            .filter(|line| !line.starts_with(['#']) && !line.contains("native schema") && !line.starts_with("jobs_"))
            .map(|line| format!("{line} @1761128135000"))
            .collect();
        let mut got = shelf.samples.lock().clone();
        want.sort();
        got.sort();
        assert_eq!(got, want);
        let mut exemplars = shelf.exemplars.lock().clone();
        exemplars.sort();
        let labels = r#"http_method="GET",instance="flask-7f9c",job="flask-backend""#;
        assert_eq!(
            exemplars,
            [
                format!(
                    r#"http_request_duration_seconds_bucket{{{labels},le="0.1"}} # {{span_id="b2b2b2b2b2b2b2b2",trace_id="a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"}} 0.07 @1761128130300"#
                ),
                format!(
                    r#"http_request_duration_seconds_bucket{{{labels},le="1"}} # {{span_id="22bb33cc44dd55ee",trace_id="4c7d1e90a2b35f6817d0c3e5a9f8b264"}} 0.58 @1761128130600"#
                ),
                r#"http_requests_total{endpoint="get_tasks",instance="flask-7f9c",job="flask-backend",method="GET",status_code="200"} # {span_id="22bb33cc44dd55ee",trace_id="4c7d1e90a2b35f6817d0c3e5a9f8b264",user.tier="free"} 1 @1761128130600"#.to_owned(),
            ]
        );
        let metadata = shelf.metadata.lock().clone();
        for want in [
            r#"http_requests_total counter "" "Total number of HTTP requests""#,
            r#"tasks_open gauge "" """#,
            r#"http_request_duration_seconds histogram "seconds" "HTTP request duration""#,
            r#"rpc_latency_seconds summary "seconds" """#,
            r#"target_info gauge "" "Target metadata""#,
        ] {
            assert!(metadata.iter().any(|m| m == want), "{want} in {metadata:?}");
        }
        // The same request, as protobuf at Prometheus' path.
        let protobuf = super::super::json::to_protobuf(json.as_bytes(), model::Signal::Metrics).unwrap();
        shelf.samples.lock().clear();
        post(
            &ingest.prometheus_router(),
            "/api/v1/otlp/v1/metrics",
            &[PROTOBUF],
            protobuf,
        )
        .await;
        let mut got = shelf.samples.lock().clone();
        got.sort();
        assert_eq!(got, want);
    }

    #[tokio::test]
    async fn labels() {
        let check = async |resource: Vec<KeyValue>, attributes: Vec<KeyValue>, want: &str| {
            let got = samples(request(resource, vec![gauge("m", attributes, T)])).await;
            assert_eq!(got[0], format!("m{want} 1 @1761128135000"));
        };
        check(vec![], vec![text("b", "2"), text("a", "1")], r#"{a="1",b="2"}"#).await;
        check(
            vec![],
            vec![text("a.b", "x"), text("a/b", "y"), text("a_b", "z")],
            r#"{a_b="x;y;z"}"#,
        )
        .await;
        check(vec![], vec![text("a", "1"), text("a", "2")], r#"{a="2"}"#).await;
        check(
            vec![],
            vec![text("a.b", "1"), text("a_b", "2"), text("a_b", "3")],
            r#"{a_b="1;3"}"#,
        )
        .await;
        check(
            vec![],
            vec![text("__name__", "evil"), text("e", ""), text("9", "n")],
            r#"{key_9="n"}"#,
        )
        .await;
        check(
            vec![],
            vec![kv("n", Value::IntValue(5)), kv("d", Value::DoubleValue(0.5))],
            r#"{d="0.5",n="5"}"#,
        )
        .await;
        check(
            vec![],
            vec![kv(
                "l",
                Value::ArrayValue(ArrayValue {
                    values: vec![any(Value::BoolValue(true))],
                }),
            )],
            r#"{l="[true]"}"#,
        )
        .await;
        check(
            vec![
                text("service.name", "shop"),
                text("service.namespace", "eu"),
                text("service.instance.id", "i"),
            ],
            vec![text("job", "mine"), text("instance", "mine")],
            r#"{instance="i",job="eu/shop"}"#,
        )
        .await;
        check(
            vec![text("service.namespace", "eu")],
            vec![text("job", "mine")],
            r#"{job="mine"}"#,
        )
        .await;
    }

    #[tokio::test]
    async fn target_info_follows_its_rules() {
        let info = async |resource: Vec<KeyValue>, times: &[u64]| {
            let metrics = times.iter().map(|t| gauge("m", vec![], *t)).collect();
            let all = samples(request(resource, metrics)).await;
            let mut info: Vec<String> = all.into_iter().filter(|s| s.starts_with("target_info")).collect();
            info.sort();
            info
        };
        let shop = text("service.name", "shop");
        assert!(info(vec![shop.clone()], &[T]).await.is_empty());
        assert!(info(vec![text("host.name", "h")], &[T]).await.is_empty());
        assert!(info(vec![shop.clone(), text("host.name", "h")], &[]).await.is_empty());
        let minute = 60_000_000_000;
        let got = info(vec![shop.clone(), text("host.name", "h")], &[T, T - 6 * minute]).await;
        let want = [1761127775000i64, 1761127925000, 1761128075000, 1761128135000];
        assert_eq!(
            got,
            want.map(|t| format!(r#"target_info{{host_name="h",job="shop"}} 1 @{t}"#))
        );
        // A sample of 1970 among today's does not fill the years between.
        assert_eq!(info(vec![shop, text("host.name", "h")], &[T, 0]).await.len(), 1);
    }

    #[tokio::test]
    async fn histograms_are_cumulative_with_short_bounds() {
        let point = HistogramDataPoint {
            time_unix_nano: T,
            count: 10,
            explicit_bounds: vec![0.005, 1.0, 2.5e9, f64::INFINITY],
            bucket_counts: vec![1, 2, 3, 4],
            ..Default::default()
        };
        let bare = HistogramDataPoint {
            time_unix_nano: T,
            count: 3,
            sum: Some(1.5),
            ..Default::default()
        };
        let stale = HistogramDataPoint {
            flags: 1,
            bucket_counts: vec![1, 2],
            explicit_bounds: vec![1.0],
            ..bare.clone()
        };
        let histogram = |name: &str, point| Metric {
            name: name.to_owned(),
            data: Some(metric::Data::Histogram(Histogram {
                data_points: vec![point],
                aggregation_temporality: 2,
            })),
            ..Default::default()
        };
        let all = samples(request(
            vec![],
            vec![histogram("h", point), histogram("b", bare), histogram("s", stale)],
        ));
        let all: Vec<String> = all.await.iter().map(|s| s.replace(" @1761128135000", "")).collect();
        assert_eq!(
            all,
            [
                "h_count{} 10",
                r#"h_bucket{le="0.005"} 1"#,
                r#"h_bucket{le="1"} 3"#,
                r#"h_bucket{le="2500000000"} 6"#,
                r#"h_bucket{le="+Inf"} 10"#,
                "b_sum{} 1.5",
                "b_count{} 3",
                r#"b_bucket{le="+Inf"} 3"#,
                "s_sum{} stale",
                "s_count{} stale",
                r#"s_bucket{le="1"} stale"#,
                r#"s_bucket{le="+Inf"} stale"#,
            ]
        );
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_refused_point_by_point() {
        let sum = |temporality| Metric {
            name: "s".to_owned(),
            data: Some(metric::Data::Sum(Sum {
                data_points: vec![NumberDataPoint::default(); 2],
                aggregation_temporality: temporality,
                is_monotonic: true,
            })),
            ..Default::default()
        };
        for (metric, count, why) in [
            (sum(0), 2, "unspecified"),
            (sum(1), 2, "delta"),
            (sum(9), 2, "unspecified"),
            (gauge("..", vec![], T), 1, "no letter or digit"),
        ] {
            let (n, message, kept) = rejected(request(vec![], vec![metric, gauge("good", vec![], T)])).await;
            assert!(n == count && message.contains(why), "{n} {message}");
            assert_eq!(kept, ["good{} 1 @1761128135000"]);
        }
        let mut deep = any(Value::BoolValue(true));
        for _ in 0..40 {
            deep = any(Value::ArrayValue(ArrayValue { values: vec![deep] }));
        }
        let deep = KeyValue {
            key: "deep".to_owned(),
            value: Some(deep),
            ..Default::default()
        };
        let (n, message, kept) = rejected(request(
            vec![],
            vec![gauge("m", vec![deep], T), gauge("good", vec![], T)],
        ))
        .await;
        assert!(n == 1 && message.contains("nested deeper than 32"), "{n} {message}");
        assert_eq!(kept.len(), 1);
    }

    #[tokio::test]
    async fn samples_refused_by_the_storage_are_counted() {
        let (router, shelf) = http();
        *shelf.samples_taken.lock() = crate::sink::SamplesTaken {
            too_new: 1,
            example: Some("m{} at 2100".to_owned()),
            ..Default::default()
        };
        let body = request(vec![], vec![gauge("m", vec![], T), gauge("n", vec![], T)]);
        let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], body).await;
        let partial = ExportMetricsServiceResponse::decode(&body[..])
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(partial.rejected_data_points, 1);
        assert_eq!(
            partial.error_message,
            "1 samples too far in the future; for example m{} at 2100"
        );
    }
}

mod of_logs {
    use super::*;

    const TRACE: [u8; 16] = [0xab; 16];

    fn request(attributes: Vec<KeyValue>, scope: Option<InstrumentationScope>, records: Vec<LogRecord>) -> Vec<u8> {
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: resource(attributes),
                scope_logs: vec![ScopeLogs {
                    scope,
                    log_records: records,
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    fn record(line: &str) -> LogRecord {
        LogRecord {
            time_unix_nano: 1_700_000_000_000_000_001,
            body: Some(any(Value::StringValue(line.to_owned()))),
            ..Default::default()
        }
    }

    async fn entries(body: Vec<u8>) -> Vec<String> {
        let (router, shelf) = http();
        let (status, _, body) = post(&router, "/v1/logs", &[PROTOBUF], body).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        let entries = shelf.entries.lock();
        entries.clone()
    }

    #[tokio::test]
    async fn the_corpus_sample() {
        let Some(json) = corpus("otlp_logs.json") else { return };
        let (router, shelf) = http();
        let (status, _, body) = post(&router, "/v1/logs", &[JSON], json).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
        let stream = r#"{deployment_environment="lab",service_instance_id="flask-7f9c",service_name="flask-backend"}"#;
        let shared = "service_version=1.0.0 host_name=labvm scope_name=root";
        let trace = "4c7d1e90a2b35f6817d0c3e5a9f8b264";
        assert_eq!(
            *shelf.entries.lock(),
            [
                format!(
                    "{stream} @1761128130020999936 Incoming request method=GET path=/api/tasks otelTraceID={trace} otelSpanID=22bb33cc44dd55ee trace_id={trace} observed_timestamp=1761128130022000128 severity_number=9 severity_text=INFO flags=1 span_id=22bb33cc44dd55ee {shared} detected_level=info"
                ),
                format!(
                    "{stream} @1761128130589999872 Error reading tasks: database is locked exc_type=OperationalError otelTraceID={trace} severity_number=17 severity_text=ERROR trace_id={trace} span_id=33cc44dd55ee66ff {shared} detected_level=error"
                ),
                format!(
                    r#"{stream} @1761128130601000192 {{"duration_seconds":0.58,"event":"Request completed","nested":{{"k":"v"}},"status_code":500}} severity_number=9 severity_text=INFO trace_id={trace} span_id=22bb33cc44dd55ee {shared} detected_level=info"#
                ),
                format!(
                    "{stream} @1761128131500000000 line without severity or trace event_name=app.heartbeat {shared} detected_level=trace"
                ),
            ]
        );
    }

    #[tokio::test]
    async fn services_without_a_name_are_discovered() {
        for (attributes, want) in [
            (vec![], r#"{service_name="unknown_service"}"#),
            (
                vec![text("container.name", "c")],
                r#"{container_name="c",service_name="c"}"#,
            ),
            (
                vec![text("service.name", ""), text("k8s.job.name", "j")],
                r#"{k8s_job_name="j",service_name="j"}"#,
            ),
        ] {
            let got = entries(request(attributes, None, vec![record("x")])).await;
            assert!(got[0].starts_with(want), "{}", got[0]);
        }
    }

    #[tokio::test]
    async fn metadata_is_flattened_named_and_ranked() {
        let map = |values| Value::KvlistValue(KeyValueList { values });
        let scope = InstrumentationScope {
            name: "lib".to_owned(),
            version: "2".to_owned(),
            attributes: vec![text("who", "scope"), text("s", "1")],
            ..Default::default()
        };
        let one = LogRecord {
            attributes: vec![
                kv(
                    "a",
                    map(vec![kv("b.c", map(vec![kv("d", Value::IntValue(1))])), text("e", "")]),
                ),
                text("9x", "n"),
                text("who", "record"),
                text("trace_id", "not mine"),
                kv(
                    "l",
                    Value::ArrayValue(ArrayValue {
                        values: vec![any(Value::IntValue(7))],
                    }),
                ),
            ],
            trace_id: TRACE.to_vec(),
            span_id: vec![0; 8],
            severity_number: 13,
            ..record("x")
        };
        let got = entries(request(
            vec![text("who", "resource"), text("r", "1")],
            Some(scope),
            vec![one],
        ))
        .await;
        let trace = "ab".repeat(16);
        assert_eq!(
            got,
            [format!(
                r#"{{service_name="unknown_service"}} @1700000000000000001 x a_b_c_d=1 key_9x=n who=record trace_id={trace} l=[7] severity_number=13 r=1 scope_name=lib scope_version=2 s=1 detected_level=warn"#
            )]
        );
    }

    #[tokio::test]
    async fn an_entry_without_time_is_of_now() {
        let one = LogRecord {
            time_unix_nano: 0,
            ..record("x")
        };
        let got = entries(request(vec![], None, vec![one])).await;
        assert!(got[0].contains(&format!("@{} x", NOW.0)), "{}", got[0]);
    }

    #[tokio::test]
    async fn limits_refuse_the_entry_and_keep_the_others() {
        let too_many = LogRecord {
            attributes: (0..129).map(|i| text(&format!("k{i}"), "v")).collect(),
            ..record("x")
        };
        let too_large = LogRecord {
            attributes: vec![text("k", &"v".repeat(65 * 1024))],
            ..record("x")
        };
        let too_old = LogRecord {
            time_unix_nano: 1,
            ..record("x")
        };
        for (bad, why) in [
            (
                record(&"x".repeat(256 * 1024 + 1)),
                "max entry size '262144' bytes exceeded",
            ),
            (too_many, "too many structured metadata labels"),
            (too_large, "structured metadata too large"),
            (
                too_old,
                "has timestamp too old: 1970-01-01T00:00:00Z, oldest acceptable timestamp is: 1970-01-01T00:00:01Z",
            ),
        ] {
            let body = request(vec![], None, vec![bad, record("good")]);
            let (router, shelf) = http();
            let (status, _, answer) = post(&router, "/v1/logs", &[PROTOBUF], body.clone()).await;
            assert_eq!(status, StatusCode::OK);
            let partial = ExportLogsServiceResponse::decode(&answer[..])
                .unwrap()
                .partial_success
                .unwrap();
            assert_eq!(partial.rejected_log_records, 1);
            assert!(partial.error_message.contains(why), "{}", partial.error_message);
            assert_eq!(shelf.entries.lock().len(), 1);
            // Loki's own endpoint calls it an error.
            let (ingest, shelf) = ingest();
            let (status, _, answer) = post(&ingest.loki_router(), "/otlp/v1/logs", &[PROTOBUF], body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            let rpc = RpcStatus::decode(&answer[..]).unwrap();
            assert!(rpc.code == 0 && rpc.message.contains(why), "{rpc:?}");
            assert_eq!(shelf.entries.lock().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_line_is_kept_without_its_broken_id() {
        let (router, shelf) = http();
        let one = LogRecord {
            trace_id: vec![1, 2],
            ..record("x")
        };
        let (_, _, answer) = post(&router, "/v1/logs", &[PROTOBUF], request(vec![], None, vec![one])).await;
        let partial = ExportLogsServiceResponse::decode(&answer[..])
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(partial.rejected_log_records, 0);
        assert!(
            partial.error_message.contains("invalid trace id of 2 bytes"),
            "{}",
            partial.error_message
        );
        assert_eq!(shelf.entries.lock().len(), 1);
    }

    #[tokio::test]
    async fn one_resource_times_many_records_meets_the_bound() {
        let wide: Vec<KeyValue> = (0..60).map(|i| text(&format!("k{i}"), &"v".repeat(1000))).collect();
        let body = request(wide, None, vec![record("x"); 1000]);
        let (router, shelf) = http();
        let (status, ..) = post(&router, "/v1/logs", &[PROTOBUF], body).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(shelf.entries.lock().is_empty());
    }

    #[tokio::test]
    async fn lokis_endpoint_answers_as_loki() {
        let (ingest, shelf) = ingest();
        let router = ingest.loki_router();
        let body = request(vec![], None, vec![record("x")]);
        let (status, _, answer) = post(&router, "/otlp/v1/logs", &[PROTOBUF], body.clone()).await;
        assert_eq!((status, answer.len()), (StatusCode::NO_CONTENT, 0));
        let (status, ..) = post(&router, "/otlp/v1/logs", &[PROTOBUF], []).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let (status, _, answer) = post(&router, "/otlp/v1/logs", &[("content-type", "text/plain")], []).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let rpc = RpcStatus::decode(&answer[..]).unwrap();
        assert!(
            rpc.message.starts_with("content type: text/plain is not supported"),
            "{rpc:?}"
        );
        *shelf.fault.lock() = Some(|| AppendError::Failed("wal".into()));
        let (status, headers, _) = post(&router, "/otlp/v1/logs", &[PROTOBUF], body).await;
        assert_eq!(
            (status, &headers[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
        );
    }
}

mod of_traces {
    use super::*;

    #[tokio::test]
    async fn the_corpus_sample() {
        use model::{AttributeValue, SpanKind, StatusCode as Outcome};
        let Some(json) = corpus("otlp_traces.json") else { return };
        let (router, shelf) = http();
        let (status, _, body) = post(&router, "/v1/traces", &[JSON], json).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
        let spans = shelf.spans.lock();
        assert_eq!(spans.len(), 4);
        assert!(
            spans
                .iter()
                .all(|s| s.trace_id.to_string() == "4c7d1e90a2b35f6817d0c3e5a9f8b264")
        );
        let flask = &spans[1];
        assert_eq!((flask.kind, flask.status), (SpanKind::Server, Outcome::Error));
        assert_eq!(flask.status_message, "database is locked");
        assert_eq!(flask.start.0, 1_761_128_130_020_000_000);
        assert_eq!(flask.parent_span_id.unwrap().to_string(), "11aa22bb33cc44dd");
        assert_eq!((flask.events.len(), flask.events[0].name.as_str()), (1, "exception"));
        assert_eq!(flask.links[0].span_id.to_string(), "0a1b2c3d4e5f6071");
        assert_eq!(flask.resource.schema_url, "https://opentelemetry.io/schemas/1.21.0");
        assert_eq!(flask.scope.name, "opentelemetry.instrumentation.flask");
        assert!(Arc::ptr_eq(&spans[1].resource, &spans[3].resource));
        let tags = spans[2].attributes.iter().find(|a| a.key == "task.tags").unwrap();
        assert_eq!(tags.value, AttributeValue::Array(vec!["a".into(), "b".into()]));
        assert_eq!(spans[0].flags, 257);
    }
}
