//! Remote write from the request to the head, without the network: 10 000 series as a lab's exporters have them (113
//! names, about 180 bytes a sample before snappy), scraped again and again.

use std::sync::Arc;

use axum::body::Body;
use benches::remote_write::{labels, scrape};
use benches::{open, report};
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
    let requests: Vec<Vec<u8>> = (0..SCRAPES)
        .flat_map(|n| scrape(&labels, n, SAMPLES_PER_REQUEST))
        .collect();
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
