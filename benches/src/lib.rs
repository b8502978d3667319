//! What it costs: data shaped like a lab's, and a plain timer. `make bench` runs all of `benches/benches/`.
//!
//! Figures move with the machine: compare two runs on one machine, and quote ratios.

pub mod remote_write;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    AttributeValue, KeyValue, LogBatch, Resource, SampleBatch, Scope, Span, SpanBatch, SpanId, SpanKind, StatusCode,
    TimestampMs, TimestampNs, TraceId,
};
use query_exec::{Context, Limits};
use storage::{Options, Storage, SyncMode};

/// Midnight of an ordinary day, ns; all data lies in the hours after it.
pub const START_NS: i64 = 20_000 * model::DAY_NS;

/// A storage in `dir` that never syncs, so that the disk is not what is measured.
pub fn open(dir: &Path) -> Storage {
    let options = Options {
        data_dir: dir.to_owned(),
        retention_metrics_ms: 1 << 40,
        retention_logs_ns: 1 << 60,
        retention_traces_ns: 1 << 60,
        retention_size: None,
        memory_limit: 8 << 30,
        free_disk_reserve: 0,
        wal_sync: SyncMode::Never,
    };
    let clock = || TimestampNs(START_NS + 12 * 3_600_000_000_000);
    Storage::open(options, Arc::new(clock))
        .expect("the temporary directory can be opened")
        .0
}

/// A query's context that nothing limits but a minute.
pub fn context() -> Context {
    Context::new(
        Duration::from_secs(60),
        Limits {
            samples_max: u64::MAX,
            series_max: u64::MAX,
            bytes_max: u64::MAX,
        },
    )
}

/// One scrape of `hosts` hosts at step `n` (15 s): 100 series each, half of them constant.
pub fn scrape(hosts: usize, n: usize) -> SampleBatch {
    let mut batch = SampleBatch::default();
    let t = TimestampMs(START_NS / 1_000_000 + n as i64 * 15_000);
    for host in 0..hosts {
        let instance = format!("host-{host}:9100");
        for metric in 0..100 {
            let name = format!("node_metric_{metric}_total");
            let mut labels = vec![
                ("__name__", name.as_str()),
                ("instance", &instance),
                ("job", "node"),
                ("mode", "user"),
            ];
            let series = batch.series(&mut labels);
            let v = if metric % 2 == 0 {
                metric as f64
            } else {
                (n * (metric + host)) as f64 * 0.25
            };
            batch.sample(series, t, v);
        }
    }
    batch
}

/// `lines` log lines of ten services in the second `n`, JSON with a trace id.
pub fn lines(lines: usize, n: usize) -> LogBatch {
    let mut batch = LogBatch::default();
    let services: Vec<_> = (0..10)
        .map(|i| {
            let app = format!("service-{i}");
            batch.stream(&mut vec![("app", app.as_str()), ("env", "lab")])
        })
        .collect();
    for i in 0..lines {
        let at = START_NS + n as i64 * 1_000_000_000 + i as i64 * 1_000;
        let id = noise((n * lines + i) as u64 / 10);
        let level = if i % 50 == 0 { "error" } else { "info" };
        let line = format!(
            r#"{{"level":"{level}","msg":"request done","path":"/api/items/{}","ms":{},"trace_id":"{id:016x}{id:016x}"}}"#,
            i % 97,
            id % 500
        );
        batch.entry(services[i % 10], TimestampNs(at), &line, [("detected_level", level)]);
    }
    batch
}

/// `traces` traces of ten spans in the second `n`.
pub fn spans(traces: usize, n: usize) -> SpanBatch {
    let resource = |i: usize| {
        let name = AttributeValue::Str(format!("service-{i}"));
        Arc::new(Resource {
            attributes: vec![KeyValue::new("service.name", name)],
            ..Resource::default()
        })
    };
    let resources: Vec<_> = (0..5).map(resource).collect();
    let scope = Arc::new(Scope::default());
    let mut spans = Vec::with_capacity(traces * 10);
    for trace in 0..traces {
        let id = noise((n * traces + trace) as u64);
        for i in 0..10u64 {
            let start = START_NS + n as i64 * 1_000_000_000 + trace as i64 * 1_000 + i as i64;
            spans.push(Span {
                trace_id: TraceId(u128::from(id) << 64 | u128::from(id)),
                span_id: SpanId(id.wrapping_add(i) | 1),
                parent_span_id: (i > 0).then_some(SpanId(id | 1)),
                name: format!("GET /api/items/{i}"),
                kind: SpanKind::Server,
                start: TimestampNs(start),
                end: TimestampNs(start + (id % 900_000_000) as i64),
                status: if id.is_multiple_of(40) {
                    StatusCode::Error
                } else {
                    StatusCode::Unset
                },
                attributes: vec![
                    KeyValue::new("http.status_code", AttributeValue::Int(200 + (id % 4) as i64 * 100)),
                    KeyValue::new("http.route", AttributeValue::Str(format!("/api/items/{i}"))),
                ],
                resource: resources[i as usize % 5].clone(),
                scope: scope.clone(),
                ..Span::default()
            });
        }
    }
    SpanBatch { spans }
}

/// The same well-mixed bits for the same number.
pub fn noise(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Prints how many `items` of `unit` a second `work` handles, and what one costs.
#[allow(clippy::print_stdout)] // the product of a benchmark
pub fn report<T>(what: &str, items: usize, unit: &str, work: impl FnOnce() -> T) -> T {
    let since = Instant::now();
    let result = work();
    let took = since.elapsed();
    println!(
        "{what:<44} {:>12.0} {unit}/s {:>10.1} ns/{unit}",
        items as f64 / took.as_secs_f64(),
        took.as_nanos() as f64 / items as f64
    );
    result
}

/// Prints the median time of `work` over some runs.
#[allow(clippy::print_stdout)] // the product of a benchmark
pub fn median(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let since = Instant::now();
            work();
            since.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:<44} {:>12.2} ms", times[4].as_secs_f64() * 1000.0);
}
