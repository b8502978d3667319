//! The metrics engine and PromQL piece by piece: append, encoding and decoding of chunks, compaction, postings, and
//! evaluation over a range; without the network and without syncing.

use std::sync::Arc;

use benches::{START_NS, context, median, noise, open, report};
use model::{Buckets, Histogram, HistogramSample, MatchOp, Matcher, ResetHint, SampleBatch, TimeRangeMs, TimestampMs};
use storage_metrics::Samples;

const SERIES: usize = 10_000;
const SCRAPES: usize = 240;
const NEW_SERIES: usize = 200_000;
const HISTOGRAMS: usize = 200;
const STEP_MS: i64 = 15_000;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let append = |batch: &SampleBatch| runtime.block_on(storage.append_samples(batch)).expect("stored");

    let scrapes: Vec<_> = (0..SCRAPES).map(scrape).collect();
    report("append, known series", SCRAPES * SERIES, "sample", || {
        scrapes.iter().for_each(|batch| _ = append(batch));
    });
    let histograms: Vec<_> = (0..SCRAPES).map(histograms).collect();
    report(
        "append, histograms of 20 buckets",
        SCRAPES * HISTOGRAMS,
        "histogram",
        || {
            histograms.iter().for_each(|batch| _ = append(batch));
        },
    );
    read_all(&storage, "head");
    evaluate(&storage, "head");
    report("encode chunks and write blocks", SCRAPES * SERIES, "sample", || {
        storage.flush().expect("cut")
    });
    read_all(&storage, "block");
    evaluate(&storage, "block");

    let new = new_series();
    report("append, new series", NEW_SERIES, "series", || append(&new));
    postings(&storage);
}

fn at(n: usize) -> TimestampMs {
    TimestampMs(START_NS / 1_000_000 + n as i64 * STEP_MS)
}

/// Counters, gauges and constants of 100 hosts, and classic buckets.
fn scrape(n: usize) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for i in 0..SERIES {
        let (host, kind) = (format!("host-{:03}:9100", i % 100), i / 100);
        let le = format!("{}", kind % 10);
        let name = match kind {
            0..40 => format!("requests_{}_total", kind % 8),
            40..80 => "latency_seconds_bucket".to_owned(),
            _ => format!("memory_{kind}_bytes"),
        };
        let route = format!("/api/{}", kind / 10);
        let mut labels = vec![
            ("__name__", name.as_str()),
            ("instance", &host),
            ("job", "lab"),
            ("le", &le),
            ("route", &route),
        ];
        let series = batch.series(&mut labels);
        let v = match kind {
            0..80 => (n * (i % 17 + 1) * (kind % 10 + 1)) as f64,
            80..90 => (noise((n * SERIES + i) as u64) % 1_000_000) as f64 / 100.0,
            _ => i as f64,
        };
        batch.sample(series, at(n), v);
    }
    batch
}

fn histograms(n: usize) -> SampleBatch {
    let mut batch = SampleBatch::default();
    for i in 0..HISTOGRAMS {
        let host = format!("host-{i:03}:9100");
        let series = batch.series(&mut vec![("__name__", "latency_seconds"), ("instance", &host)]);
        let counts = (0..20).map(|b| (b, ((n + 1) * (i % 7 + b as usize)) as f64));
        let positive = Buckets::from_indexed(counts);
        let count = positive.counts.iter().sum();
        let histogram = Histogram {
            reset: ResetHint::Unknown,
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 0.0,
            count,
            sum: count * 0.3,
            positive,
            negative: Buckets::default(),
            bounds: Arc::new([]),
        };
        let sample = HistogramSample {
            t: at(n),
            start: TimestampMs(0),
            histogram: Arc::new(histogram),
        };
        batch.histogram(series, sample);
    }
    batch
}

fn new_series() -> SampleBatch {
    let mut batch = SampleBatch::default();
    for i in 0..NEW_SERIES {
        let (pod, app) = (format!("pod-{:05}", i / 20), format!("app-{}", i % 97));
        let name = format!("churn_{}_total", i % 20);
        let series = batch.series(&mut vec![("__name__", name.as_str()), ("app", &app), ("pod", &pod)]);
        batch.sample(series, at(SCRAPES), i as f64);
    }
    batch
}

fn all() -> TimeRangeMs {
    TimeRangeMs {
        start: at(0),
        end: at(SCRAPES),
    }
}

fn matcher(name: &str, op: MatchOp, value: &str) -> Matcher {
    Matcher::new(name, op, value).expect("a matcher")
}

fn read_all(storage: &storage::Storage, place: &str) {
    let select = |what: &str, matcher: Matcher, items: usize| {
        let snapshot = storage.metrics().snapshot(all());
        let series = snapshot.select(&[matcher], all()).expect("readable");
        let mut samples = Samples::default();
        report(&format!("{place}: decode {what}"), items, "sample", || {
            for series in &series {
                samples.clear();
                series.read(all(), &mut samples).expect("readable");
            }
        });
    };
    select("floats", matcher("job", MatchOp::Equal, "lab"), SCRAPES * SERIES);
    let native = matcher("__name__", MatchOp::Equal, "latency_seconds");
    select("histograms", native, SCRAPES * HISTOGRAMS);
}

fn postings(storage: &storage::Storage) {
    let count = |what: &str, matchers: Vec<Matcher>| {
        let selectors = [matchers];
        median(&format!("postings of 210 000 series: {what}"), || {
            let snapshot = storage.metrics().snapshot(all());
            snapshot.series(&selectors, all()).expect("readable");
        });
    };
    count(
        "one name and one host",
        vec![
            matcher("__name__", MatchOp::Equal, "requests_1_total"),
            matcher("instance", MatchOp::Equal, "host-001:9100"),
        ],
    );
    count(
        "a pattern over 10 000 values",
        vec![matcher("pod", MatchOp::Regex, "pod-0..1.")],
    );
    count(
        "all but a value, and one name",
        vec![
            matcher("app", MatchOp::NotEqual, "app-1"),
            matcher("__name__", MatchOp::Equal, "churn_1_total"),
        ],
    );
}

fn evaluate(storage: &storage::Storage, place: &str) {
    let queries = [
        "sum by (route) (rate(requests_1_total[5m]))",
        "histogram_quantile(0.95, sum by (le, route) (rate(latency_seconds_bucket[5m])))",
        "histogram_quantile(0.95, sum(rate(latency_seconds[5m])))",
        "max_over_time(memory_81_bytes[10m])",
        "memory_85_bytes / on (instance) group_left memory_95_bytes",
        "topk(5, avg_over_time(memory_82_bytes[1h]))",
        "count by (__name__) ({__name__=~\".+\"})",
    ];
    for text in queries {
        let query = query_promql::Query::parse(text).expect("parses");
        median(&format!("{place}: {text}, 240 steps"), || {
            let context = context();
            let options = query_promql::Options::DEFAULT;
            (query.range(&context, storage.metrics(), at(0), at(SCRAPES), STEP_MS, options)).expect("runs");
        });
    }
}
