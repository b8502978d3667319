//! Remote write as its senders see it: requests through the router, over a shelf.

use http::{Request, StatusCode, header};
use storage::AppendError;

use super::version1::tests::{request, series};
use super::version2::tests as v2;
use crate::shelf::{BODY_BYTES_MAX, ingest, post, send};
use crate::sink::SamplesTaken;

const V1: [(&str, &str); 2] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
];

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn one() -> Vec<u8> {
    snappy(&request(&[series(&[("__name__", "up"), ("job", "x")], &[(1000, 1.0)])]))
}

#[tokio::test]
async fn written_samples_are_204() {
    let (ingest, shelf) = ingest();
    let router = ingest.prometheus_router();
    for (path, content_type) in [
        ("/api/v1/write", "application/x-protobuf"),
        ("/api/v1/write", "application/x-protobuf;proto=prometheus.WriteRequest"),
        ("/api/v1/push", "application/x-protobuf ; proto=prometheus.WriteRequest"),
        ("/prometheus/api/v1/write", "application/x-protobuf"),
    ] {
        // The version header says nothing.
        let headers = [
            ("content-type", content_type),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "2.0.0"),
        ];
        let (status, headers, body) = post(&router, path, &headers, one()).await;
        assert_eq!(
            (status, body.len()),
            (StatusCode::NO_CONTENT, 0),
            "{path} {content_type}"
        );
        assert!(!headers.contains_key("x-prometheus-remote-write-samples-written"));
    }
    let (status, ..) = post(&router, "/api/v1/write", &[], one()).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "no headers at all is version 1");
    assert_eq!(shelf.samples.lock().len(), 5);
    assert_eq!(shelf.samples.lock()[0], r#"up{job="x"} 1 @1000"#);
}

#[tokio::test]
async fn other_types_and_encodings_are_415() {
    let (ingest, shelf) = ingest();
    let router = ingest.prometheus_router();
    for (content_type, encoding) in [
        ("application/json", "snappy"),
        ("image/png", "snappy"),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "gzip"),
        ("application/x-protobuf;proto=other", "snappy"),
        ("application/x-protobuf", "gzip"),
        ("application/x-protobuf", "deflate"),
        ("application/x-protobuf", "identity"),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let (status, ..) = post(&router, "/api/v1/write", &headers, one()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type} {encoding}");
    }
    let get = Request::get("/api/v1/write").body(axum::body::Body::empty()).unwrap();
    assert_eq!(send(&router, get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert!(shelf.samples.lock().is_empty());
}

#[tokio::test]
async fn broken_and_oversize_bodies() {
    let (ingest, _) = ingest();
    let router = ingest.prometheus_router();
    let plain = request(&[series(&[("__name__", "up")], &[(1000, 1.0)])]);
    for (what, body, want) in [
        ("not snappy", b"garbage".to_vec(), StatusCode::BAD_REQUEST),
        ("not compressed", plain.clone(), StatusCode::BAD_REQUEST),
        ("truncated block", one()[..10].to_vec(), StatusCode::BAD_REQUEST),
        (
            "truncated message",
            snappy(&plain[..plain.len() - 2]),
            StatusCode::BAD_REQUEST,
        ),
        ("garbage inside", snappy(b"garbage"), StatusCode::BAD_REQUEST),
        ("empty body", vec![], StatusCode::BAD_REQUEST),
        (
            "bomb",
            snappy(&vec![0; 2 * BODY_BYTES_MAX]),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        ("oversize", vec![0; BODY_BYTES_MAX + 1], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let (status, _, body) = post(&router, "/api/v1/write", &V1, body).await;
        assert_eq!(status, want, "{what}");
        assert!(!body.is_empty(), "{what}");
    }
    let (status, ..) = post(&router, "/api/v1/write", &V1, snappy(b"")).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "an empty request");
}

#[tokio::test]
async fn unusable_labels_are_skipped_and_refused_times_are_told() {
    let (ingest, shelf) = ingest();
    let router = ingest.prometheus_router();
    let mixed = snappy(&request(&[
        series(&[("job", "x")], &[(1, 1.0)]),
        series(&[("__name__", "good")], &[(1, 1.0), (2, 2.0)]),
    ]));
    let (status, ..) = post(&router, "/api/v1/write", &V1, mixed.clone()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(*shelf.samples.lock(), ["good{} 1 @1", "good{} 2 @2"]);
    *shelf.samples_taken.lock() = SamplesTaken {
        too_old: 1,
        conflicts: 1,
        example: Some("good{} at 1 ms".to_owned()),
        ..SamplesTaken::default()
    };
    let (status, _, body) = post(&router, "/api/v1/write", &V1, mixed).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let words = String::from_utf8(body).unwrap();
    assert_eq!(
        words,
        "1 samples older than the retention, 1 samples with another value than the one stored for the same time; for example good{} at 1 ms\n"
    );
    let row = ingest
        .stats()
        .receivers
        .into_iter()
        .find(|r| r.protocol == "remote_write")
        .unwrap();
    assert_eq!((row.requests_ok, row.requests_bad), (1, 1));
    assert_eq!((row.items_accepted, row.items_rejected), (2, 4));
}

#[tokio::test]
async fn native_histograms_are_refused_and_the_rest_is_stored() {
    let (ingest, shelf) = ingest();
    let mut with_histogram = series(&[("__name__", "h")], &[(1, 1.0)]);
    crate::wire::put_bytes(&mut with_histogram, 4, &[]);
    let body = snappy(&request(&[with_histogram]));
    let (status, _, body) = post(&ingest.prometheus_router(), "/api/v1/write", &V1, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8(body).unwrap().contains("1 native histograms"));
    assert_eq!(shelf.samples.lock().len(), 1);
}

#[tokio::test]
async fn temporary_faults_are_503() {
    let (ingest, shelf) = ingest();
    *shelf.fault.lock() = Some(|| AppendError::DiskFull("disk full".into()));
    let (status, headers, body) = post(&ingest.prometheus_router(), "/api/v1/write", &V1, one()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        (&headers[header::RETRY_AFTER], &body[..]),
        (&"30".parse().unwrap(), &b"disk full\n"[..])
    );
}

#[tokio::test]
async fn version_2_is_told_what_was_written() {
    const V2: [(&str, &str); 2] = [
        (
            "content-type",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
        ("content-encoding", "snappy"),
    ];
    let (ingest, shelf) = ingest();
    let router = ingest.prometheus_router();
    let symbols = ["", "__name__", "m", "job", "x"];
    let good = || v2::with_exemplar(v2::series(&[1, 2, 3, 4], &[(1, 1.0), (2, 2.0)]), &[3, 4]);
    let written = |headers: &http::HeaderMap| {
        ["samples", "histograms", "exemplars"].map(|kind| {
            let name = format!("x-prometheus-remote-write-{kind}-written");
            headers[&name].to_str().unwrap().parse::<u64>().unwrap()
        })
    };
    let body = snappy(&v2::request(&symbols, &[good()]));
    let (status, headers, body) = post(&router, "/api/v1/write", &V2, body).await;
    assert_eq!(
        (status, body.len(), written(&headers)),
        (StatusCode::NO_CONTENT, 0, [2, 0, 1])
    );
    assert_eq!(*shelf.samples.lock(), [r#"m{job="x"} 1 @1"#, r#"m{job="x"} 2 @2"#]);
    let mixed = v2::request(
        &symbols,
        &[v2::series(&[3, 4], &[(1, 1.0)]), good(), v2::series(&[1, 2], &[])],
    );
    let (status, headers, body) = post(&router, "/api/v1/write", &V2, snappy(&mixed)).await;
    assert_eq!((status, written(&headers)), (StatusCode::BAD_REQUEST, [2, 0, 1]));
    let words = String::from_utf8(body).unwrap();
    assert_eq!(
        words,
        "2 series skipped, the first because series {job=\"x\"} has no __name__\n"
    );
    let (status, headers, _) = post(&router, "/api/v1/write", &V2, "garbage").await;
    assert_eq!((status, written(&headers)), (StatusCode::BAD_REQUEST, [0, 0, 0]));
}
