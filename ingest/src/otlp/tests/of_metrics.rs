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
    assert_eq!(String::from_utf8(body).unwrap(), "{}");
    let mut want: Vec<String> = expected
        .lines()
        .map(|line| line.split("   #").next().unwrap().replace("<stale marker>", "stale"))
        .filter(|line| !line.starts_with(['#']))
        .map(|line| format!("{line} @1761128135000").replace("), (", "),("))
        .collect();
    let all = |shelf: &Shelf| {
        let mut all = [shelf.samples.lock().clone(), shelf.histograms.lock().clone()].concat();
        all.sort();
        all
    };
    want.sort();
    // Delta streams begin at zero, before their first point.
    let with_zeros = |shelf: &Shelf| {
        let (at_point, before): (Vec<_>, Vec<_>) = all(shelf).into_iter().partition(|s| s.ends_with(" @1761128135000"));
        let nothing = |s: &String| s.contains("} 0 @") || s.contains(", count 0, sum 0 @");
        assert!(before.iter().all(nothing), "{before:?}");
        (at_point, before)
    };
    let (got, zeros) = with_zeros(&shelf);
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
    shelf.histograms.lock().clear();
    post(
        &ingest.prometheus_router(),
        "/api/v1/otlp/v1/metrics",
        &[PROTOBUF],
        protobuf,
    )
    .await;
    // Sent again, the delta points are added once.
    assert_eq!(with_zeros(&shelf), (want, zeros));
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

async fn translated(options: OtlpMetrics, body: Vec<u8>) -> Vec<String> {
    let shelf = Arc::new(Shelf::default());
    let router = ingest_over(&shelf, options).otlp_http_router();
    let (status, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], body).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.is_empty(), "{:?}", ExportMetricsServiceResponse::decode(&body[..]));
    let mut all = [shelf.samples.lock().clone(), shelf.histograms.lock().clone()].concat();
    all.iter_mut().for_each(|s| *s = s.replace(" @1761128135000", ""));
    all
}

#[tokio::test]
async fn options_change_labels_and_names() {
    let shop = || {
        vec![
            text("service.name", "shop"),
            text("service.instance.id", "i"),
            text("host.name", "h"),
            text("empty", ""),
            text("zone", "eu"),
        ]
    };
    let point = || vec![text("zone", "point"), text("_a..b", "x")];
    let default = OtlpMetrics::default;
    let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    for (what, options, sample, info) in [
        (
            "defaults",
            default(),
            r#"m_ratio{instance="i",job="shop",key_a__b="x",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "promotion fills what is empty",
            OtlpMetrics {
                promote_resource_attributes: list(&["host.name", "zone", "service.name", "none", "empty"]),
                ..default()
            },
            r#"m_ratio{host_name="h",instance="i",job="shop",key_a__b="x",service_name="shop",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "promotion of all but some",
            OtlpMetrics {
                promote_all_resource_attributes: true,
                ignore_resource_attributes: list(&["service.name", "service.instance.id"]),
                ..default()
            },
            r#"m_ratio{host_name="h",instance="i",job="shop",key_a__b="x",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "identifying attributes stay in target_info",
            OtlpMetrics {
                keep_identifying_resource_attributes: true,
                ..default()
            },
            r#"m_ratio{instance="i",job="shop",key_a__b="x",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",service_instance_id="i",service_name="shop",zone="eu"} 1"#,
        ),
        (
            "scopes",
            OtlpMetrics {
                promote_scope_metadata: true,
                ..default()
            },
            r#"m_ratio{instance="i",job="shop",key_a__b="x",otel_scope_lib_kind="web",otel_scope_name="lib",otel_scope_schema_url="url",otel_scope_version="1.2",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "underscores",
            OtlpMetrics {
                label_name_underscore_sanitization: false,
                label_name_preserve_multiple_underscores: false,
                ..default()
            },
            r#"m_ratio{_a_b="x",instance="i",job="shop",zone="point"} 1"#,
            r#"target_info{host_name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "UTF-8",
            OtlpMetrics {
                translation_strategy: Translation::NoUtf8EscapingWithSuffixes,
                promote_resource_attributes: list(&["host.name"]),
                ..default()
            },
            r#"m_ratio{_a..b="x",host.name="h",instance="i",job="shop",zone="point"} 1"#,
            r#"target_info{host.name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
        (
            "no translation",
            OtlpMetrics {
                translation_strategy: Translation::NoTranslation,
                ..default()
            },
            r#"m{_a..b="x",instance="i",job="shop",zone="point"} 1"#,
            r#"target_info{host.name="h",instance="i",job="shop",zone="eu"} 1"#,
        ),
    ] {
        let metric = Metric {
            unit: "1".to_owned(),
            ..gauge("m", point(), T)
        };
        let body = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: resource(shop()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope {
                        name: "lib".to_owned(),
                        version: "1.2".to_owned(),
                        attributes: vec![text("lib.kind", "web"), text("name", "other")],
                        ..Default::default()
                    }),
                    schema_url: "url".to_owned(),
                    metrics: vec![metric],
                }],
                ..Default::default()
            }],
        };
        let got = translated(options, body.encode_to_vec()).await;
        assert_eq!(got, [sample, info], "{what}");
    }
}

fn histogram(name: &str, temporality: i32, points: Vec<HistogramDataPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        data: Some(metric::Data::Histogram(Histogram {
            data_points: points,
            aggregation_temporality: temporality,
        })),
        ..Default::default()
    }
}

#[tokio::test]
async fn explicit_buckets_become_native_ones_if_so_told() {
    let nhcb = OtlpMetrics {
        convert_histograms_to_nhcb: true,
        ..OtlpMetrics::default()
    };
    let point = HistogramDataPoint {
        time_unix_nano: T,
        count: 6,
        sum: Some(3.5),
        explicit_bounds: vec![0.5, 1.0],
        bucket_counts: vec![0, 2, 4],
        ..Default::default()
    };
    let stale = HistogramDataPoint {
        time_unix_nano: T,
        flags: 1,
        ..Default::default()
    };
    let body = request(
        vec![],
        vec![histogram("h", 2, vec![point]), histogram("s", 2, vec![stale])],
    );
    assert_eq!(
        translated(nhcb, body).await,
        [
            "h{} native schema -53, count 6, sum 3.5, spans [(1,2)], absolute counts [2,4], bounds [0.5, 1.0]",
            "s{} native stale",
        ]
    );
}

fn exponential(temporality: i32, points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    Metric {
        name: "e".to_owned(),
        data: Some(metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: points,
            aggregation_temporality: temporality,
        })),
        ..Default::default()
    }
}

fn buckets(offset: i32, bucket_counts: &[u64]) -> Option<exponential_histogram_data_point::Buckets> {
    Some(exponential_histogram_data_point::Buckets {
        offset,
        bucket_counts: bucket_counts.to_vec(),
    })
}

#[tokio::test]
async fn exponential_histograms_are_refused_point_by_point() {
    let good = ExponentialHistogramDataPoint {
        time_unix_nano: T,
        start_time_unix_nano: T - 1_000_000_000,
        count: 3,
        sum: Some(2.0),
        zero_count: 1,
        positive: buckets(0, &[1]),
        negative: buckets(-1, &[1]),
        exemplars: vec![Exemplar {
            trace_id: vec![7; 16],
            ..Default::default()
        }],
        ..Default::default()
    };
    let coarse = ExponentialHistogramDataPoint {
        scale: -5,
        ..good.clone()
    };
    let miscounted = ExponentialHistogramDataPoint {
        count: 4,
        ..good.clone()
    };
    let stale = ExponentialHistogramDataPoint {
        flags: 1,
        ..good.clone()
    };
    let (router, shelf) = http();
    let body = request(vec![], vec![exponential(2, vec![coarse, good, miscounted, stale])]);
    let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], body).await;
    let partial = ExportMetricsServiceResponse::decode(&body[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    assert_eq!(
        partial.error_message,
        "e: scale -5 is coarser than -4; \
         e: 2 buckets and the zero bucket hold 3 observations, the count says 4"
    );
    let text = "e{} native schema 0, count 3, sum 2, zero 1, spans [(1,1)], absolute counts [1], \
                negative spans [(0,1)], negative absolute counts [1] @1761128135000";
    assert_eq!(*shelf.histograms.lock(), [text, "e{} native stale @1761128135000"]);
    assert_eq!(*shelf.starts.lock(), [format!("{text} from 1761128134000")]);
    let trace = "07".repeat(16);
    let exemplar = format!(r#"e{{}} # {{trace_id="{trace}"}} 0 @1761128135000"#);
    assert_eq!(*shelf.exemplars.lock(), [exemplar.clone(), exemplar]);
}

const S: u64 = 1_000_000_000;
/// A millisecond.
const MS: u64 = 1_000_000;

/// A request of a delta counter, histogram and exponential histogram, each of one change at `t`.
fn delta_request(t: u64, value: f64) -> Vec<u8> {
    let sum = |name: &str, is_monotonic| Metric {
        name: name.to_owned(),
        data: Some(metric::Data::Sum(Sum {
            data_points: vec![NumberDataPoint {
                start_time_unix_nano: t - 10 * S,
                time_unix_nano: t,
                value: Some(number_data_point::Value::AsDouble(value)),
                ..Default::default()
            }],
            aggregation_temporality: 1,
            is_monotonic,
        })),
        ..Default::default()
    };
    let count = value as u64;
    let explicit = HistogramDataPoint {
        start_time_unix_nano: t - 10 * S,
        time_unix_nano: t,
        count,
        sum: Some(value),
        explicit_bounds: vec![1.0],
        bucket_counts: vec![count, 0],
        ..Default::default()
    };
    let native = ExponentialHistogramDataPoint {
        start_time_unix_nano: t - 10 * S,
        time_unix_nano: t,
        count,
        sum: Some(value),
        positive: buckets(1, &[count]),
        ..Default::default()
    };
    let metrics = vec![
        sum("c", true),
        sum("u", false),
        histogram("h", 1, vec![explicit]),
        exponential(1, vec![native]),
    ];
    request(vec![], metrics)
}

/// What is stored of `t`.
fn stored(shelf: &Shelf, t: u64) -> Vec<String> {
    let at = format!(" @{}", t / 1_000_000);
    let all = [shelf.samples.lock().clone(), shelf.histograms.lock().clone()].concat();
    all.iter()
        .filter_map(|s| s.strip_suffix(&at))
        .map(str::to_owned)
        .collect()
}

fn totals(n: u64) -> Vec<String> {
    vec![
        format!("c_total{{}} {n}"),
        format!("u{{}} {n}"),
        format!("h_sum{{}} {n}"),
        format!("h_count{{}} {n}"),
        format!(r#"h_bucket{{le="1"}} {n}"#),
        format!(r#"h_bucket{{le="+Inf"}} {n}"#),
        format!("e{{}} native schema 0, count {n}, sum {n}, spans [(2,1)], absolute counts [{n}]"),
    ]
}

/// What is stored where the streams begin; what goes up and down has no such place.
fn zeros() -> Vec<String> {
    let mut zeros = totals(0);
    zeros.remove(1);
    zeros[5] = "e{} native schema 0, count 0, sum 0".to_owned();
    zeros
}

#[tokio::test]
async fn delta_becomes_cumulative() {
    let (router, shelf) = http();
    for (t, value) in [(T, 1.0), (T + 10 * S, 2.0), (T + 20 * S, 4.0), (T + 20 * S, 4.0)] {
        let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], delta_request(t, value)).await;
        assert!(body.is_empty(), "{:?}", ExportMetricsServiceResponse::decode(&body[..]));
    }
    assert_eq!(stored(&shelf, T - 10 * S + MS), zeros());
    assert_eq!(stored(&shelf, T), totals(1));
    assert_eq!(stored(&shelf, T + 10 * S), totals(3));
    assert!(stored(&shelf, T + MS).is_empty() && stored(&shelf, T + 10 * S + MS).is_empty());
    let last = stored(&shelf, T + 20 * S);
    assert_eq!(last.len(), 14, "an answer that was lost makes the same samples again");
    assert!(
        totals(7).iter().all(|s| last.iter().filter(|l| *l == s).count() == 2),
        "{last:?}"
    );
    let start = format!(
        "c_total{{}} 7 @{} from {}",
        (T + 20 * S) / 1_000_000,
        (T - 10 * S) / 1_000_000
    );
    assert!(shelf.starts.lock().contains(&start));
    let (start, zero) = ((T - 10 * S) / 1_000_000, (T - 10 * S + MS) / 1_000_000);
    for zero in [
        format!("c_total{{}} 0 @{zero}"),
        format!("e{{}} native schema 0, count 0, sum 0 @{zero}"),
    ] {
        assert!(shelf.starts.lock().contains(&format!("{zero} from {start}")), "{zero}");
    }
    let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], delta_request(T + 15 * S, 1.0)).await;
    let partial = ExportMetricsServiceResponse::decode(&body[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_data_points, 4);
    assert!(
        partial.error_message.starts_with("c: delta point is out of order"),
        "{}",
        partial.error_message
    );
}

#[tokio::test]
async fn totals_outlive_a_clean_stop_and_after_a_crash_counters_begin_anew() {
    let shelf = Arc::new(Shelf::default());
    let run = async |t, value| {
        let ingest = ingest_over(&shelf, OtlpMetrics::default());
        let (_, _, body) = post(
            &ingest.otlp_http_router(),
            "/v1/metrics",
            &[PROTOBUF],
            delta_request(t, value),
        )
        .await;
        assert!(body.is_empty(), "{:?}", ExportMetricsServiceResponse::decode(&body[..]));
        ingest
    };
    run(T, 1.0).await.close();
    run(T + 10 * S, 2.0).await.close();
    assert_eq!(stored(&shelf, T + 10 * S), totals(3));
    // This run ends in a crash after the timer, the next before.
    run(T + 20 * S, 4.0).await.keep();
    assert_eq!(stored(&shelf, T + 20 * S), totals(7));
    run(T + 30 * S, 1.0).await;
    let mut want = totals(1);
    want[1] = "u{} 8".to_owned();
    assert_eq!(stored(&shelf, T + 30 * S), want);
    // From zero, which lies between the last total of the run before and the first of this.
    assert_eq!(stored(&shelf, T + 20 * S + MS), zeros());
    for t in [T + MS, T + 10 * S + MS] {
        assert!(
            stored(&shelf, t).is_empty(),
            "a stream that was taken up began anew at {t}"
        );
    }
}

#[tokio::test]
async fn the_first_delta_sent_again_brings_its_zero_again() {
    let (router, shelf) = http();
    *shelf.fault.lock() = Some(|| AppendError::Overloaded("full".to_owned()));
    post(&router, "/v1/metrics", &[PROTOBUF], delta_request(T, 2.0)).await;
    *shelf.fault.lock() = None;
    for _ in 0..2 {
        post(&router, "/v1/metrics", &[PROTOBUF], delta_request(T, 2.0)).await;
    }
    let got = stored(&shelf, T - 10 * S + MS);
    let twice = zeros()
        .iter()
        .all(|zero| got.iter().filter(|g| *g == zero).count() == 2);
    assert!(twice && got.len() == 12, "{got:?}");
}

#[tokio::test]
async fn delta_is_refused_if_so_told() {
    let off = OtlpMetrics {
        convert_delta: false,
        ..OtlpMetrics::default()
    };
    let shelf = Arc::new(Shelf::default());
    let router = ingest_over(&shelf, off).otlp_http_router();
    let (_, _, body) = post(&router, "/v1/metrics", &[PROTOBUF], delta_request(T, 1.0)).await;
    let partial = ExportMetricsServiceResponse::decode(&body[..])
        .unwrap()
        .partial_success
        .unwrap();
    assert_eq!(partial.rejected_data_points, 4);
    assert!(
        partial.error_message.contains("c: delta temporality is not converted"),
        "{}",
        partial.error_message
    );
}
