//! Tempo's streaming API with a gRPC client whose messages are made from the field numbers alone, over cleartext HTTP/2 on
//! the port of the HTTP API, as Grafana dials it; and Jaeger's collector the same way.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use trilobite_tests::{Trilobite, get, post};

use crate::senders;

#[derive(Clone, PartialEq, Message)]
struct SearchRequest {
    #[prost(uint32, tag = "4")]
    limit: u32,
    #[prost(uint32, tag = "5")]
    start: u32,
    #[prost(uint32, tag = "6")]
    end: u32,
    #[prost(string, tag = "8")]
    query: String,
}

#[derive(Clone, PartialEq, Message)]
struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    traces: Vec<Trace>,
}

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    root_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(string, tag = "1")]
    query: String,
    #[prost(uint64, tag = "2")]
    start: u64,
    #[prost(uint64, tag = "3")]
    end: u64,
    #[prost(uint64, tag = "4")]
    step: u64,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
}

/// A span as `jaeger.api_v2` has it, in its batch and request.
#[derive(Clone, PartialEq, Message)]
struct PostSpansRequest {
    #[prost(message, optional, tag = "1")]
    batch: Option<Batch>,
}

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<JaegerSpan>,
    #[prost(message, optional, tag = "2")]
    process: Option<Process>,
}

#[derive(Clone, PartialEq, Message)]
struct Process {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct JaegerSpan {
    #[prost(bytes, tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes, tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    operation: String,
    #[prost(message, optional, tag = "6")]
    start: Option<Seconds>,
    #[prost(message, optional, tag = "7")]
    duration: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

async fn connected(addr: SocketAddr) -> Grpc<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let mut client = Grpc::new(endpoint.connect().await.unwrap());
    client.ready().await.unwrap();
    client
}

/// All messages of a call to the streaming API.
async fn streamed<Q, A>(addr: SocketAddr, method: &str, request: Q) -> Result<Vec<A>, Status>
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let path = PathAndQuery::try_from(format!("/tempopb.StreamingQuerier/{method}")).unwrap();
    let codec = ProstCodec::<Q, A>::default();
    let answer = connected(addr)
        .await
        .server_streaming(Request::new(request), path, codec)
        .await?;
    let mut stream = answer.into_inner();
    let mut out = Vec::new();
    while let Some(message) = stream.message().await? {
        out.push(message);
    }
    Ok(out)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

#[test]
fn a_client_made_from_field_numbers_streams_a_search_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let t = Trilobite::start(dir.path(), &[]).unwrap();
    let now = now_ns();
    for n in 0..3 {
        let body = senders::spans_protobuf(7, n, now - 60_000_000_000);
        let sent = post(t.otlp_http(), "/v1/traces", "application/x-protobuf", &body);
        assert_eq!(sent.unwrap().status, 200);
    }
    let seconds = (now / 1_000_000_000) as u32;
    let search = SearchRequest {
        query: "{ name = \"step 3\" }".to_owned(),
        limit: 20,
        start: seconds - 900,
        end: seconds + 1,
    };
    let metrics = RangeRequest {
        query: "{} | count_over_time()".to_owned(),
        start: now - 300_000_000_000,
        end: now,
        step: 60_000_000_000,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let found: Vec<SearchResponse> = streamed(t.tempo(), "Search", search).await.unwrap();
        let mut ids: Vec<String> = found.iter().flat_map(|m| &m.traces).map(|t| t.id.clone()).collect();
        ids.sort();
        assert_eq!(ids, [0, 1, 2].map(|n| senders::trace_id(7, n)));
        assert!(found[0].traces.iter().all(|t| t.root_name == "step 0"));
        let found: Vec<RangeResponse> = streamed(t.tempo(), "MetricsQueryRange", metrics).await.unwrap();
        let series = &found.last().unwrap().series;
        let total: f64 = series[0].samples.iter().map(|s| s.value).sum();
        assert_eq!(total, (3 * senders::ITEMS) as f64);
        let bad = SearchRequest {
            query: "{ nonsense".to_owned(),
            ..SearchRequest::default()
        };
        let refused = streamed::<_, SearchResponse>(t.tempo(), "Search", bad)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("parse error"), "{refused}");
    });
}

#[test]
fn a_jaeger_client_posts_spans_over_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let t = Trilobite::start(
        dir.path(),
        &["--jaeger-grpc-addr", "127.0.0.1:0", "--jaeger-addr", "127.0.0.1:0"],
    )
    .unwrap();
    let span = JaegerSpan {
        trace_id: 0x99u128.to_be_bytes().to_vec(),
        span_id: 1u64.to_be_bytes().to_vec(),
        operation: "op".to_owned(),
        start: Some(Seconds {
            seconds: (now_ns() / 1_000_000_000) as i64,
            nanos: 0,
        }),
        duration: Some(Seconds {
            seconds: 0,
            nanos: 2_000_000,
        }),
    };
    let request = PostSpansRequest {
        batch: Some(Batch {
            spans: vec![span],
            process: Some(Process {
                service: "g".to_owned(),
            }),
        }),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let path = PathAndQuery::from_static("/jaeger.api_v2.CollectorService/PostSpans");
        let mut client = connected(t.listener("jaeger_grpc")).await;
        let codec = ProstCodec::<PostSpansRequest, Nothing>::default();
        client.unary(Request::new(request), path, codec).await.unwrap();
    });
    let trace = get(t.listener("jaeger"), "/api/traces/99").unwrap().json();
    assert_eq!(trace["data"][0]["spans"][0]["operationName"], "op");
    assert_eq!(trace["data"][0]["spans"][0]["duration"], 2000);
    assert_eq!(trace["data"][0]["processes"]["p1"]["serviceName"], "g");
}
