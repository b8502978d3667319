//! Which series metrics become.

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
    let protobuf = crate::otlp::json::to_protobuf(json.as_bytes(), model::Signal::Metrics).unwrap();
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
                values: vec![any_value(Value::BoolValue(true))],
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
    let mut deep = any_value(Value::BoolValue(true));
    for _ in 0..40 {
        deep = any_value(Value::ArrayValue(ArrayValue { values: vec![deep] }));
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
async fn too_many_attributes_are_not_another_series() {
    let attributes = (0..1001).map(|i| text(&format!("k{i}"), "v")).collect();
    let body = request(vec![], vec![gauge("m", attributes, T), gauge("good", vec![], T)]);
    let (n, message, kept) = rejected(body).await;
    assert_eq!(
        (n, message.as_str(), kept.len()),
        (1, "m: more than 1000 attributes", 1)
    );
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
