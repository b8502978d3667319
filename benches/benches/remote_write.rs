//! Remote write from the request to the head, without the network: 10 000 series as a lab's exporters have them (113
//! names, about 180 bytes a sample before snappy), scraped again and again.

use std::sync::Arc;

use axum::body::Body;
use benches::{START_NS, open, report};
use ingest::{DerivedMetrics, Ingest, Options, OtlpMetrics};
use tower::ServiceExt;

const SERIES: usize = 10_000;
const SCRAPES: usize = 60;
const SAMPLES_PER_REQUEST: usize = 2_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = Arc::new(open(dir.path()));
    let options = Options {
        body_bytes_max: 64 << 20,
        otlp_metrics: OtlpMetrics::default(),
        derived_metrics: DerivedMetrics::default(),
    };
    let ingest = Ingest::new(storage, options);
    let router = ingest.prometheus_router();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let labels: Vec<Vec<u8>> = (0..SERIES).map(labels).collect();
    let requests: Vec<Vec<u8>> = (0..SCRAPES).flat_map(|n| scrape(&labels, n)).collect();
    let (first, later) = requests.split_at(SERIES / SAMPLES_PER_REQUEST);
    let send = |bodies: &[Vec<u8>]| {
        for body in bodies {
            let request = axum::http::Request::post("/api/v1/write").body(Body::from(body.clone()));
            let answer = runtime.block_on(router.clone().oneshot(request.expect("a request")));
            assert_eq!(answer.expect("an answer").status(), 204);
        }
    };
    report("remote write, new series", SERIES, "sample", || send(first));
    report("remote write, known series", SERIES * (SCRAPES - 1), "sample", || {
        send(later)
    });
}

/// The requests of one scrape, 15 s after the one before.
fn scrape(labels: &[Vec<u8>], n: usize) -> Vec<Vec<u8>> {
    let t = (START_NS / 1_000_000) as u64 + n as u64 * 15_000;
    let request = |labels: &[Vec<u8>]| {
        let mut request = Vec::new();
        for (i, labels) in labels.iter().enumerate() {
            let v = if i % 2 == 0 { i as f64 } else { (n * i) as f64 * 0.25 };
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&v.to_le_bytes());
            sample.push(2 << 3);
            varint(&mut sample, t);
            let mut series = labels.clone();
            field(&mut series, 2, &sample);
            field(&mut request, 1, &series);
        }
        snap::raw::Encoder::new().compress_vec(&request).expect("compresses")
    };
    labels.chunks(SAMPLES_PER_REQUEST).map(request).collect()
}

/// The labels of a series, as fields of a `TimeSeries`.
fn labels(i: usize) -> Vec<u8> {
    let host = i / 113 % 16;
    let pairs = [
        (
            "__name__",
            format!("lab_subsystem_operation_{}_seconds_bucket", i % 113),
        ),
        ("env", "lab".to_owned()),
        ("host", format!("host-{host:02}")),
        ("instance", format!("host-{host:02}:9100")),
        ("job", "node-exporter".to_owned()),
        ("le", format!("{}", i / 113 / 16)),
        ("service", "backend".to_owned()),
    ];
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut out, 1, &label);
    }
    out
}

fn field(out: &mut Vec<u8>, number: u8, payload: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}
