//! The whole way through one process: append, cut, and the questions a lab's dashboards ask, without the network.

use benches::{START_NS, context, lines, median, noise, open, report, scrape, spans};
use model::{TimeRangeNs, TimestampMs, TimestampNs, TraceId};

const HOSTS: usize = 20;
const SCRAPES: usize = 480;
const SECONDS: usize = 100;
const LINES: usize = 2_000;
const TRACES: usize = 200;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let scrapes: Vec<_> = (0..SCRAPES).map(|n| scrape(HOSTS, n)).collect();
    let logs: Vec<_> = (0..SECONDS).map(|n| lines(LINES, n)).collect();
    let traces: Vec<_> = (0..SECONDS).map(|n| spans(TRACES, n)).collect();

    report("append samples (2 000 series)", SCRAPES * HOSTS * 100, "sample", || {
        for batch in &scrapes {
            runtime.block_on(storage.append_samples(batch)).expect("stored");
        }
    });
    report("append log lines (150 B)", SECONDS * LINES, "line", || {
        for batch in &logs {
            runtime.block_on(storage.append_logs(batch)).expect("stored");
        }
    });
    report("append spans", SECONDS * TRACES * 10, "span", || {
        for batch in traces {
            runtime.block_on(storage.append_spans(batch)).expect("stored");
        }
    });
    ask(&storage, "head");
    let items = SCRAPES * HOSTS * 100 + SECONDS * LINES + SECONDS * TRACES * 10;
    report("cut all three heads", items, "item", || storage.flush().expect("cut"));
    let s = storage.stats();
    let per = |bytes: u64, items: usize| bytes as f64 / items as f64;
    #[allow(clippy::print_stdout)] // the product of a benchmark
    {
        println!(
            "bytes per sample {:>10.2}",
            per(s.metrics.block_bytes, SCRAPES * HOSTS * 100)
        );
        println!("bytes per line   {:>10.2}", per(s.logs.block_bytes, SECONDS * LINES));
        println!(
            "bytes per span   {:>10.2}",
            per(s.traces.block_bytes, SECONDS * TRACES * 10)
        );
    }
    ask(&storage, "blocks");
}

fn ask(storage: &storage::Storage, place: &str) {
    let (start, end) = (START_NS, START_NS + SCRAPES as i64 * 15_000_000_000);
    let options = query_promql::Options::DEFAULT;
    let query = query_promql::Query::parse("sum by (instance) (rate(node_metric_1_total[5m]))").expect("parses");
    let ms = |ns: i64| TimestampMs(ns / 1_000_000);
    median(&format!("{place}: PromQL sum by of a rate, 480 steps"), || {
        query
            .range(&context(), storage.metrics(), ms(start), ms(end), 15_000, options)
            .expect("runs");
    });
    let range = TimeRangeNs {
        start: TimestampNs(START_NS),
        end: TimestampNs(START_NS + SECONDS as i64 * 1_000_000_000),
    };
    let logs = |text: &str, what: &str| {
        let query = query_logql::Query::parse(text).expect("parses");
        let options = query_logql::Options {
            limit: 100,
            direction: query_logql::Direction::Backward,
        };
        median(&format!("{place}: LogQL {what}"), || {
            query
                .range(
                    &context(),
                    storage.logs(),
                    range.start,
                    range.end,
                    10_000_000_000,
                    options,
                )
                .expect("runs");
        });
    };
    let id = noise(1234);
    logs(r#"{env="lab"} |= "error""#, "newest 100 lines");
    logs(&format!(r#"{{env="lab"}} |= "{id:016x}{id:016x}""#), "needle");
    logs(
        r#"sum by (app) (count_over_time({env="lab"} | json | level="error" [10s]))"#,
        "count by, json",
    );
    median(&format!("{place}: a trace by its id"), || {
        let found = storage
            .traces()
            .snapshot(range)
            .trace(TraceId(u128::from(id) << 64 | u128::from(id)));
        assert!(!found.expect("readable").is_empty());
    });
    let query =
        query_traceql::Query::parse(r#"{ resource.service.name = "service-1" && span.http.status_code = 500 }"#);
    let query = query.expect("parses");
    let options = query_traceql::SearchOptions {
        range,
        limit: 20,
        spans_per_spanset: 3,
        min_duration_ns: None,
        max_duration_ns: None,
    };
    median(&format!("{place}: TraceQL search"), || {
        query.search(&context(), storage.traces(), &options).expect("runs");
    });
}
