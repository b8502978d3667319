//! Tempo's streaming API over real storage, spoken frame by frame; and what the HTTP API answers in the same messages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use lab::{Lab, NOW, ask, get, target};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use serde_json::json;
use tower::ServiceExt;

#[derive(Clone, PartialEq, Message)]
struct SearchRequest {
    #[prost(map = "string, string", tag = "1")]
    tags: std::collections::HashMap<String, String>,
    #[prost(uint32, tag = "4")]
    limit: u32,
    #[prost(uint32, tag = "5")]
    start: u32,
    #[prost(uint32, tag = "6")]
    end: u32,
    #[prost(string, tag = "8")]
    query: String,
    #[prost(uint32, tag = "9")]
    spss: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    traces: Vec<Trace>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<Metrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    root_service: String,
    #[prost(string, tag = "3")]
    root_name: String,
    #[prost(uint64, tag = "4")]
    start: u64,
    #[prost(uint32, tag = "5")]
    duration_ms: u32,
    #[prost(message, optional, tag = "6")]
    span_set: Option<SpanSet>,
    #[prost(message, repeated, tag = "7")]
    span_sets: Vec<SpanSet>,
    #[prost(map = "string, message", tag = "8")]
    services: std::collections::HashMap<String, Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(uint32, tag = "1")]
    spans: u32,
    #[prost(uint32, tag = "2")]
    errors: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SpanSet {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<FoundSpan>,
    #[prost(uint32, tag = "2")]
    matched: u32,
}

#[derive(Clone, PartialEq, Message)]
struct FoundSpan {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(uint64, tag = "4")]
    duration: u64,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Metrics {
    #[prost(uint32, tag = "1")]
    traces: u32,
    #[prost(uint32, tag = "4")]
    done: u32,
    #[prost(uint32, tag = "5")]
    jobs: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    /// Scope, or name of the tag.
    #[prost(string, tag = "1")]
    what: String,
    #[prost(string, tag = "2")]
    query: String,
}

#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(string, repeated, tag = "1")]
    texts: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Groups {
    #[prost(message, repeated, tag = "1")]
    groups: Vec<Group>,
}

#[derive(Clone, PartialEq, Message)]
struct Group {
    /// Scope, or type of the value.
    #[prost(string, tag = "1")]
    name: String,
    /// Tags, or the value.
    #[prost(string, repeated, tag = "2")]
    texts: Vec<String>,
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
    #[prost(message, optional, tag = "2")]
    metrics: Option<Metrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct InstantResponse {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Instant>,
}

#[derive(Clone, PartialEq, Message)]
struct Instant {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    value: f64,
}

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

/// Calls a method: headers and trailers together, and the bytes of the messages.
async fn call(lab: &Lab, method: &str, body: Vec<u8>) -> (HeaderMap, Vec<u8>) {
    let request =
        Request::post(format!("/tempopb.StreamingQuerier/{method}")).header("content-type", "application/grpc");
    let response = lab
        .tempo
        .clone()
        .oneshot(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers["content-type"], "application/grpc");
    let collected = body.collect().await.unwrap();
    let mut headers = parts.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (headers, collected.to_bytes().to_vec())
}

/// The messages of a call that goes well.
async fn messages<M: Message + Default>(lab: &Lab, method: &str, request: &impl Message) -> Vec<M> {
    let (headers, bytes) = call(lab, method, framed(request)).await;
    assert_eq!(headers["grpc-status"], "0", "{headers:?}");
    let mut out = Vec::new();
    let mut rest = &bytes[..];
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        assert_eq!(header[0], 0);
        let len = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        out.push(M::decode(&after[..len]).unwrap());
        rest = &after[len..];
    }
    assert!(rest.is_empty());
    out
}

async fn check_refused(lab: &Lab, method: &str, body: Vec<u8>, status: &str, words: &str) {
    let (headers, bytes) = call(lab, method, body).await;
    assert_eq!(headers["grpc-status"], status, "{headers:?}");
    let message = headers["grpc-message"].to_str().unwrap();
    assert!(message.contains(words), "{message}");
    assert!(bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_streamed() {
    let lab = Lab::filled().await;
    let request = SearchRequest {
        query: "{ resource.service.name = \"shop\" && span.http.status_code = 200 }".to_owned(),
        limit: 2,
        start: (NOW - 900) as u32,
        end: NOW as u32,
        ..SearchRequest::default()
    };
    let found: Vec<SearchResponse> = messages(&lab, "Search", &request).await;
    let last = found.last().unwrap();
    let ids: Vec<&str> = last.traces.iter().map(|t| t.id.as_str()).collect();
    assert_eq!(
        ids,
        ["0000000000000000000000004c7d1e95", "0000000000000000000000004c7d1e94"]
    );
    let trace = &last.traces[0];
    assert_eq!(
        (&*trace.root_service, &*trace.root_name, trace.duration_ms),
        ("shop", "GET /cart", 1200)
    );
    assert_eq!(trace.start, (NOW - 250) as u64 * 1_000_000_000);
    assert_eq!(trace.span_set.as_ref(), trace.span_sets.first());
    let set = &trace.span_sets[0];
    assert_eq!(
        (set.matched, &*set.spans[0].id, set.spans[0].duration),
        (1, "0000000000000001", 1_200_000_000)
    );
    let attributes: Vec<_> = set.spans[0]
        .attributes
        .iter()
        .map(|kv| (kv.key.as_str(), kv.value.as_ref().unwrap().value.clone().unwrap()))
        .collect();
    assert_eq!(
        attributes,
        [
            ("service.name", Value::StringValue("shop".to_owned())),
            ("http.status_code", Value::IntValue(200)),
        ]
    );
    assert_eq!(trace.services["db"], Service { spans: 1, errors: 0 });
    let metrics = last.metrics.as_ref().unwrap();
    assert!(
        metrics.jobs > 0 && metrics.done == metrics.jobs && metrics.traces >= 2,
        "{metrics:?}"
    );
}

/// As Grafana asks when a datasource is saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_datasource_connects_to_an_empty_database() {
    let lab = Lab::empty();
    let request = SearchRequest {
        query: "{}".to_owned(),
        limit: 1,
        start: (NOW - 900) as u32,
        end: NOW as u32,
        ..SearchRequest::default()
    };
    let found: Vec<SearchResponse> = messages(&lab, "Search", &request).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].traces.is_empty());
    let version = get(&lab.tempo, "/api/status/buildinfo", &[]).await.json()["version"].clone();
    let mut numbers = version.as_str().unwrap().split('.').map(|n| n.parse::<u32>().unwrap());
    let (major, minor) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert!(
        (major, minor) >= (2, 7),
        "{version} does not announce streaming metrics"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_tags_lists_traces_alone() {
    let lab = Lab::filled().await;
    let request = SearchRequest {
        tags: [("service.name".to_owned(), "db".to_owned())].into(),
        limit: 1,
        ..SearchRequest::default()
    };
    let found: Vec<SearchResponse> = messages(&lab, "Search", &request).await;
    assert_eq!(found[0].traces.len(), 1);
    assert!(found[0].traces[0].span_sets.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_streamed() {
    let lab = Lab::filled().await;
    let request = RangeRequest {
        query: "{} | count_over_time() by (resource.service.name)".to_owned(),
        start: (NOW - 300) as u64 * 1_000_000_000,
        end: NOW as u64 * 1_000_000_000,
        step: 60_000_000_000,
    };
    let found: Vec<RangeResponse> = messages(&lab, "MetricsQueryRange", &request).await;
    let last = found.last().unwrap();
    assert_eq!(last.series.len(), 2);
    for series in &last.series {
        assert_eq!(series.labels[0].key, "resource.service.name");
        assert_eq!(series.samples.iter().map(|s| s.value).sum::<f64>(), 6.0);
        assert!(series.samples.iter().all(|s| s.ms % 60_000 == 0));
    }
    let exemplars: Vec<&Exemplar> = last.series.iter().flat_map(|s| &s.exemplars).collect();
    assert!(!exemplars.is_empty());
    for exemplar in exemplars {
        let trace = exemplar.labels.iter().find(|kv| kv.key == "trace:id").unwrap();
        let Some(Value::StringValue(id)) = &trace.value.as_ref().unwrap().value else {
            panic!()
        };
        assert!(id.starts_with("0000000000000000000000004c7d1e9"), "{id}");
        assert!(
            exemplar.value > 0.0 && exemplar.ms >= (NOW - 300) * 1000,
            "{exemplar:?}"
        );
    }
    assert!(last.metrics.as_ref().unwrap().jobs > 0);
    // Without a step one is chosen.
    let chosen = RangeRequest {
        step: 0,
        ..request.clone()
    };
    let found: Vec<RangeResponse> = messages(&lab, "MetricsQueryRange", &chosen).await;
    assert!(found.last().unwrap().series[0].samples.len() > 100);
    let instant: Vec<InstantResponse> = messages(&lab, "MetricsQueryInstant", &request).await;
    let values: Vec<f64> = instant.last().unwrap().series.iter().map(|s| s.value).collect();
    assert_eq!(values, [6.0, 6.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_values_are_streamed() {
    let lab = Lab::filled().await;
    let request = |what: &str, query: &str| ListRequest {
        what: what.to_owned(),
        query: query.to_owned(),
    };
    let names: Vec<Texts> = messages(&lab, "SearchTags", &request("", "")).await;
    assert_eq!(names[0].texts, ["db.system", "http.status_code", "service.name"]);
    let scopes: Vec<Groups> = messages(&lab, "SearchTagsV2", &request("span", "")).await;
    assert_eq!(
        scopes[0].groups,
        [Group {
            name: "span".to_owned(),
            texts: vec!["db.system".to_owned(), "http.status_code".to_owned()],
        }]
    );
    let filtered: Vec<Groups> = messages(&lab, "SearchTagsV2", &request("span", "{ name = \"SELECT\" }")).await;
    assert_eq!(filtered[0].groups[0].texts, ["db.system"]);
    let values: Vec<Texts> = messages(&lab, "SearchTagValues", &request("service.name", "")).await;
    assert_eq!(values[0].texts, ["db", "shop"]);
    let typed: Vec<Groups> = messages(&lab, "SearchTagValuesV2", &request("span.http.status_code", "")).await;
    assert_eq!(
        typed[0].groups,
        [Group {
            name: "int".to_owned(),
            texts: vec!["200".to_owned()],
        }]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_status() {
    let lab = Lab::empty();
    let search = |query: &str| {
        framed(&SearchRequest {
            query: query.to_owned(),
            ..SearchRequest::default()
        })
    };
    check_refused(
        &lab,
        "Search",
        search("{"),
        "3",
        "invalid TraceQL query: parse error at line 1",
    )
    .await;
    let math = search("({} | rate()) / ({} | rate())");
    check_refused(&lab, "Search", math, "3", "math expressions not supported").await;
    let scope = ListRequest {
        what: "x".to_owned(),
        ..ListRequest::default()
    };
    check_refused(&lab, "SearchTagsV2", framed(&scope), "3", "invalid scope: x").await;
    check_refused(&lab, "Search", vec![0, 0, 0, 0, 9, 1], "3", "no whole message").await;
    check_refused(&lab, "Search", vec![0, 0, 0, 0, 2, 0x42, 9], "3", "malformed message").await;
    check_refused(&lab, "Search", vec![0, 0xff, 0, 0, 0], "8", "too large").await;
    check_refused(&lab, "Search", vec![1, 0, 0, 0, 0], "12", "compressed").await;
    check_refused(&lab, "Nothing", search("{}"), "12", "unknown method").await;
    let plain = Request::post("/tempopb.StreamingQuerier/Search")
        .body(Body::empty())
        .unwrap();
    assert_eq!(ask(&lab.tempo, plain).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(get(&lab.tempo, "/api/nothing", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_answers_the_same_messages() {
    let lab = Lab::filled().await;
    let ask_protobuf = |path: &'static str, query: &'static [(&str, &str)]| {
        let tempo = lab.tempo.clone();
        async move {
            let request = Request::get(target(path, query)).header("accept", "application/protobuf");
            let answer = ask(&tempo, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("content-type"), "application/protobuf");
            answer.body
        }
    };
    let found = ask_protobuf("/api/search", &[("q", "{}"), ("limit", "3")]).await;
    assert_eq!(SearchResponse::decode(&found[..]).unwrap().traces.len(), 3);
    let names = ask_protobuf("/api/search/tags", &[]).await;
    assert_eq!(Texts::decode(&names[..]).unwrap().texts.len(), 3);
    let scopes = ask_protobuf("/api/v2/search/tags", &[("scope", "resource")]).await;
    assert_eq!(Groups::decode(&scopes[..]).unwrap().groups[0].texts, ["service.name"]);
    let values = ask_protobuf("/api/v2/search/tag/name/values", &[]).await;
    assert_eq!(Groups::decode(&values[..]).unwrap().groups[1].texts, ["SELECT"]);
    let values = ask_protobuf("/api/search/tag/service.name/values", &[]).await;
    assert_eq!(Texts::decode(&values[..]).unwrap().texts, ["db", "shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_shown_in_part() {
    let lab = Lab::filled().await;
    let path = "/api/v2/traces/4c7d1e90";
    let names = |json: &serde_json::Value| {
        let groups = json["trace"]["resourceSpans"].as_array().cloned().unwrap_or_default();
        let spans = groups
            .iter()
            .flat_map(|g| g["scopeSpans"][0]["spans"].as_array().unwrap().clone());
        spans
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let whole = get(&lab.tempo, path, &[]).await.json();
    assert_eq!((names(&whole).len(), &whole["status"]), (2, &json!(null)));
    let q = ("q", "{ span.db.system = \"sqlite\" }");
    let part = get(&lab.tempo, path, &[q]).await.json();
    assert_eq!(names(&part), ["SELECT"]);
    assert_eq!(part["status"], "PARTIAL");
    assert_eq!(
        part["message"],
        "Trace filtered, only a subset of spans matching the filter is returned"
    );
    let kin = get(&lab.tempo, path, &[q, ("keep_hierarchy", "true")]).await.json();
    assert_eq!(names(&kin), ["GET /cart", "SELECT"]);
    let down = get(&lab.tempo, path, &[("q", "{ kind = server }"), ("match_depth", "-1")])
        .await
        .json();
    assert_eq!(names(&down).len(), 2);
    let none = get(&lab.tempo, path, &[("q", "{ name = \"none\" }")]).await.json();
    assert_eq!(none["trace"], json!({}));
    for query in [
        &[("q", "{} >> {}")][..],
        &[("q", "{ span:childCount > 0 }")],
        &[("q", "{")],
        &[("q", "{}"), ("match_depth", "-2")],
    ] {
        assert_eq!(
            get(&lab.tempo, path, query).await.status,
            StatusCode::BAD_REQUEST,
            "{query:?}"
        );
    }
}

#[tokio::test]
async fn the_process_tells_of_itself() {
    let lab = Lab::empty();
    let all = get(&lab.tempo, "/status", &[]).await;
    for section in [
        "version",
        "services",
        "endpoints",
        "config",
        "runtime_config",
        "overrides",
        "usage-stats",
    ] {
        let path = format!("/status/{section}");
        let one = get(&lab.tempo, &path, &[]).await;
        assert!(one.text().starts_with(&format!("GET {path}\n")), "{}", one.text());
        assert!(all.text().contains(one.text()), "{section}");
    }
    assert!(all.text().contains("data-dir: x"));
    assert_eq!(
        get(&lab.tempo, "/status/nothing", &[]).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        get(&lab.tempo, "/api/overrides", &[]).await.status,
        StatusCode::NOT_FOUND
    );
    // The limits that hold are shown, and there are no others.
    let own = get(&lab.tempo, "/status/overrides/anyone", &[]).await;
    assert!(own.text().contains("max_bytes_per_trace: 0"), "{}", own.text());
}

/// Destroys the first pages of every block of spans; the footers stay whole.
fn damage_blocks(dir: &std::path::Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            damaged += damage_blocks(&path);
        } else if path.file_name().is_some_and(|name| name == "spans.parquet") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[16..200].fill(0xff);
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said() {
    let lab = Lab::filled().await;
    lab.storage.flush().unwrap();
    assert!(damage_blocks(lab.dir()) > 0);
    // The same spans again are in memory, so that there is something to show.
    lab.fill().await;
    let words = "Some stored spans could not be read and were left out";
    let trace = get(&lab.tempo, "/api/v2/traces/4c7d1e90", &[]).await.json();
    assert_eq!(
        (&trace["status"], &trace["message"]),
        (&json!("PARTIAL"), &json!(words))
    );
    assert!(trace["trace"]["resourceSpans"].is_array());
    let found = get(&lab.tempo, "/api/search", &[("q", "{}")]).await;
    assert_eq!(found.json()["traces"].as_array().unwrap().len(), 6);
    assert_eq!(found.header("warning"), format!("199 - \"{words}\""));
    let series = get(&lab.tempo, "/api/metrics/query", &[("q", "{} | rate()")])
        .await
        .json();
    assert_eq!(
        (&series["status"], &series["message"]),
        (&json!("PARTIAL"), &json!(words))
    );
    let jaeger = get(&lab.jaeger, "/api/traces/4c7d1e90", &[]).await.json();
    assert_eq!(jaeger["data"][0]["spans"].as_array().unwrap().len(), 2);
    assert_eq!(jaeger["errors"][0]["code"], 206);
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_accompany_samples() {
    let lab = Lab::filled().await;
    let query = [
        ("q", "{ name = \"SELECT\" } | max_over_time(duration)"),
        ("exemplars", "2"),
    ];
    let series = get(&lab.tempo, "/api/metrics/query_range", &query).await.json()["series"][0].clone();
    let exemplars = series["exemplars"].as_array().unwrap();
    assert_eq!(exemplars.len(), 2);
    for exemplar in exemplars {
        assert_eq!(exemplar["value"], 0.0015);
        assert_eq!(exemplar["labels"][0]["key"], "trace:id");
        assert_eq!(
            exemplar["labels"][1],
            json!({"key": "name", "value": {"stringValue": "SELECT"}})
        );
        assert!(exemplar["timestampMs"].is_string());
    }
    let unsaid = get(&lab.tempo, "/api/metrics/query_range", &[query[0], ("exemplars", "0")])
        .await
        .json();
    assert!(unsaid["series"][0]["exemplars"].as_array().unwrap().len() > 2);
    let no = "{ name = \"SELECT\" } | max_over_time(duration) with(exemplars=false)";
    let without = get(&lab.tempo, "/api/metrics/query_range", &[("q", no)]).await.json();
    assert_eq!(without["series"][0].get("exemplars"), None);
    let instant = get(&lab.tempo, "/api/metrics/query", &query).await.json();
    assert_eq!(instant["series"][0].get("exemplars"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_cut_where_asked() {
    let lab = Lab::filled().await;
    let query = [("q", "{} | rate() by (resource.service.name)"), ("maxSeries", "1")];
    let cut = get(&lab.tempo, "/api/metrics/query_range", &query).await.json();
    assert_eq!(cut["series"].as_array().unwrap().len(), 1);
    assert_eq!(cut["status"], "PARTIAL");
    assert_eq!(
        cut["message"],
        "Response exceeds maximum of 1 series, a partial response is returned"
    );
    let whole = get(&lab.tempo, "/api/metrics/query_range", &query[..1]).await.json();
    assert_eq!(
        (whole["series"].as_array().unwrap().len(), &whole["status"]),
        (2, &json!(null))
    );
}

/// A trace that is too large for the memory there is, is shown in part, and the answer says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_very_large_trace_is_shown_in_part() {
    let lab = Lab::empty();
    let all = 20_000;
    let spans = (1..=all).map(|id| model::Span {
        trace_id: model::TraceId(5),
        span_id: model::SpanId(id),
        parent_span_id: (id > 1).then_some(model::SpanId(1)),
        name: "s".to_owned(),
        start: lab::ns(NOW - 60),
        end: lab::ns(NOW - 59),
        ..model::Span::default()
    });
    let batch = model::SpanBatch { spans: spans.collect() };
    lab.storage.append_spans(batch).await.unwrap();
    let json = get(&lab.tempo, "/api/v2/traces/5", &[]).await.json();
    let shown = json["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap()
        .len();
    assert!((10_000..all as usize).contains(&shown), "{shown}");
    assert_eq!(json["status"], "PARTIAL");
    let words = format!("Trace exceeds maximum size of {shown} spans, a partial trace is returned");
    assert_eq!(json["message"], words);
    let first = get(&lab.tempo, "/api/traces/5", &[]).await;
    assert_eq!(first.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(first.text().starts_with("trace exceeds max size"), "{}", first.text());
    let found = get(&lab.tempo, "/api/search", &[("q", "{ name = \"s\" }")])
        .await
        .json();
    assert_eq!(found["traces"][0]["spanSets"][0]["matched"], all);
}

/// Anything may come over the network: no request ends in a panic, which would be an internal error.
#[tokio::test(flavor = "multi_thread")]
async fn arbitrary_requests_are_answered() {
    let lab = Lab::filled().await;
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let methods = [
        "Search",
        "SearchTags",
        "SearchTagsV2",
        "SearchTagValues",
        "SearchTagValuesV2",
        "MetricsQueryRange",
        "MetricsQueryInstant",
    ];
    let sound = framed(&RangeRequest {
        query: "{} | rate()".to_owned(),
        start: (NOW - 300) as u64 * 1_000_000_000,
        end: NOW as u64 * 1_000_000_000,
        step: 15_000_000_000,
    });
    for round in 0..300 {
        let mut body = match round % 2 {
            0 => (0..next() % 60).map(|_| next() as u8).collect(),
            _ => sound.clone(),
        };
        for _ in 0..next() % 4 {
            let at = next() % body.len().max(1);
            if let Some(byte) = body.get_mut(at) {
                *byte = next() as u8;
            }
        }
        let (headers, _) = call(&lab, methods[next() % methods.len()], body.clone()).await;
        assert_ne!(headers["grpc-status"], "13", "{body:?}: {headers:?}");
    }
    let values = [
        "",
        "0",
        "-1",
        "1",
        "99999999999999999999",
        "x",
        "{",
        "%",
        "1h",
        "\u{0}",
        "error:true",
        "{\"a\":[1]}",
        "null",
    ];
    let names = [
        "service",
        "operation",
        "start",
        "end",
        "limit",
        "minDuration",
        "maxDuration",
        "tag",
        "tags",
        "lookback",
        "traceID",
        "endTs",
        "raw",
        "prettyPrint",
        "spanKind",
    ];
    let paths = [
        "/api/traces",
        "/api/traces/1",
        "/api/dependencies",
        "/api/operations",
        "/api/services",
    ];
    for _ in 0..500 {
        let pairs: Vec<(&str, &str)> = (0..next() % 6)
            .map(|_| (names[next() % names.len()], values[next() % values.len()]))
            .collect();
        let answer = get(&lab.jaeger, paths[next() % paths.len()], &pairs).await;
        assert!(answer.status.as_u16() < 500, "{pairs:?}: {}", answer.text());
    }
}
