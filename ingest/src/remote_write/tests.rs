//! Remote write as its senders see it: requests through the router, over a shelf.

use http::{Request, StatusCode, header};
use model::Histogram;
use storage::AppendError;

use super::histogram::{tests as histogram, write_histogram};
use super::version1::tests::{request, series};
use super::version2::tests as v2;
use crate::shelf::{BODY_BYTES_MAX, ingest, post, send};
use crate::sink::SamplesTaken;
use crate::wire::{put_bytes, put_number};

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
async fn native_histograms_are_stored_and_unfit_ones_told() {
    let (ingest, shelf) = ingest();
    let router = ingest.prometheus_router();
    let fit = write_histogram(&histogram::sound(), 1000, 0, false);
    let unfit = Histogram {
        count: 11.0,
        ..histogram::sound()
    };
    let unfit = write_histogram(&unfit, 2000, 0, false);
    let of = |messages: &[&Vec<u8>]| {
        let mut series = series(&[("__name__", "h")], &[]);
        messages.iter().for_each(|m| put_bytes(&mut series, 4, m));
        snappy(&request(&[series]))
    };
    let text = "h{} native schema 0, count 10, sum 7.5, zero 1 up to 0.001, spans [(-2,1),(4,1)], \
                absolute counts [2,3], negative spans [(1,1)], negative absolute counts [4] @1000";
    let (status, ..) = post(&router, "/api/v1/write", &V1, of(&[&fit])).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(*shelf.histograms.lock(), [text]);
    let (status, _, body) = post(&router, "/api/v1/write", &V1, of(&[&unfit, &fit])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "1 native histograms refused, the first of {__name__=\"h\"}: \
         3 buckets and the zero bucket hold 10 observations, the count says 11\n"
    );
    assert_eq!(*shelf.histograms.lock(), [text, text]);
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

const V2: [(&str, &str); 2] = [
    (
        "content-type",
        "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    ),
    ("content-encoding", "snappy"),
];

/// Status, samples, histograms and exemplars written.
type Written = (StatusCode, [u64; 3]);

async fn write2(symbols: &[&str], all: &[Vec<u8>]) -> (Written, String) {
    let (ingest, _) = ingest();
    let body = snappy(&v2::request(symbols, all));
    let (status, headers, body) = post(&ingest.prometheus_router(), "/api/v1/write", &V2, body).await;
    let written = ["samples", "histograms", "exemplars"].map(|kind| {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        headers[&name].to_str().unwrap().parse().unwrap()
    });
    ((status, written), String::from_utf8(body).unwrap())
}

/// What the protocol's compliance suite asks of a receiver, row by row.
#[tokio::test]
async fn written_counts_are_what_was_written() {
    const OK: StatusCode = StatusCode::NO_CONTENT;
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let symbols = [
        "",
        "__name__",
        "m",
        "label with spaces",
        "value\nof two lines",
        "resource cpu usage",
        "some.metric",
        "größe",
        "trace_id",
    ];
    let one = |labels: &[u32]| v2::series(labels, &[(1, 1.0)]);
    let h = |h: &Histogram| v2::with_histogram(v2::series(&[1, 2], &[]), &write_histogram(h, 1, 0, false));
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.0].map(f64::to_bits);
    let odd: Vec<(i64, f64)> = odd.iter().zip(1..).map(|(v, t)| (t, f64::from_bits(*v))).collect();
    let custom = Histogram {
        schema: model::CUSTOM_BUCKETS,
        count: 3.0,
        positive: model::Buckets::from_indexed([(0, 3.0)]),
        bounds: [0.5, 1.0].into(),
        sum: 1.0,
        ..Histogram::stale()
    };
    let wrong = Histogram {
        count: 11.0,
        ..histogram::sound()
    };
    let many: Vec<u32> = [1, 2].into_iter().chain((0..200).flat_map(|_| [3, 4])).collect();
    for (what, series, want) in [
        ("a sample", vec![one(&[1, 2])], (OK, [1, 0, 0])),
        ("a newline in a value", vec![one(&[1, 2, 3, 4])], (OK, [1, 0, 0])),
        ("spaces in a name", vec![one(&[1, 5])], (OK, [1, 0, 0])),
        ("dots in a name", vec![one(&[1, 6])], (OK, [1, 0, 0])),
        ("unicode", vec![one(&[1, 7])], (OK, [1, 0, 0])),
        ("labels out of order", vec![one(&[3, 4, 1, 2])], (OK, [1, 0, 0])),
        ("odd values", vec![v2::series(&[1, 2], &odd)], (OK, [5, 0, 0])),
        ("no name", vec![one(&[3, 4])], (BAD, [0, 0, 0])),
        ("no labels", vec![one(&[])], (BAD, [0, 0, 0])),
        ("a label twice", vec![one(&many)], (BAD, [0, 0, 0])),
        ("a reference into nothing", vec![one(&[1, 99])], (BAD, [0, 0, 0])),
        (
            "one bad of four",
            vec![one(&[1, 2]), one(&[3, 4]), one(&[1, 5]), one(&[1, 6])],
            (BAD, [3, 0, 0]),
        ),
        ("a histogram", vec![h(&histogram::sound())], (OK, [0, 1, 0])),
        ("custom buckets", vec![h(&custom)], (OK, [0, 1, 0])),
        ("a histogram that ended", vec![h(&Histogram::stale())], (OK, [0, 1, 0])),
        ("a wrong count", vec![h(&wrong), one(&[1, 2])], (BAD, [1, 0, 0])),
        (
            "exemplars with and without labels",
            vec![v2::with_exemplar(v2::with_exemplar(one(&[1, 2]), &[8, 2]), &[])],
            (OK, [1, 0, 2]),
        ),
        (
            "an exemplar without a sample",
            vec![v2::with_exemplar(v2::series(&[1, 2], &[]), &[8, 2])],
            (BAD, [0, 0, 0]),
        ),
        (
            "both kinds and an exemplar",
            vec![v2::with_exemplar(
                v2::with_histogram(one(&[1, 2]), &write_histogram(&custom, 2, 0, true)),
                &[8, 2],
            )],
            (OK, [1, 1, 1]),
        ),
        ("nothing", vec![], (OK, [0, 0, 0])),
    ] {
        let (got, words) = write2(&symbols, &series).await;
        assert_eq!(got, want, "{what}: {words}");
        assert_eq!(words.is_empty(), want.0 == OK, "{what}: {words}");
    }
}

#[tokio::test]
async fn starts_are_kept() {
    let (ingest, shelf) = ingest();
    let symbols = ["", "__name__", "m"];
    let mut one = v2::series(&[1, 2], &[]);
    for (t, start) in [(2000u64, 1000u64), (3000, 0), (4000, 5000)] {
        let mut sample = Vec::new();
        put_number(&mut sample, 2, t);
        put_number(&mut sample, 3, start);
        put_bytes(&mut one, 2, &sample);
    }
    let one = v2::with_histogram(one, &write_histogram(&histogram::sound(), 6000, 1500, false));
    let body = snappy(&v2::request(&symbols, &[one]));
    let (status, ..) = post(&ingest.prometheus_router(), "/api/v1/write", &V2, body).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let starts = shelf.starts.lock();
    assert_eq!((starts.len(), starts[0].as_str()), (2, "m{} 0 @2000 from 1000"));
    assert!(starts[1].ends_with("@6000 from 1500"), "{}", starts[1]);
}
