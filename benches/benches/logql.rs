//! LogQL piece by piece: what a line costs in each parser, in line filters, in label filters, in metric queries over
//! parsed fields, and what volume questions cost; without the network.
//!
//! The lines are made: JSON, logfmt and access log lines of three services, 200,000 each, in blocks. Each figure is the
//! median of some runs of a whole query, reading included; the queries without a stage tell what of it is reading.
//! `cargo bench -p benches --bench logql -- TEXT` asks only the queries whose text contains `TEXT`, for a profiler.
//! `LOG_SAMPLES=dir` adds the files `*.log` of a directory, each as a stream of its own (the public LogHub samples are a
//! good source), and the stages that lines of any form can bear.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use benches::{START_NS, context, noise, open};
use model::{LogBatch, MatchOp, Matcher, TimeRangeNs, TimestampNs};
use query_logql::{Direction, Options, Query};
use storage::Storage;

const LINES: usize = 200_000;
const LINES_PER_BATCH: usize = 2_000;
/// Lines of one stream are so far apart: 200 s of them.
const GAP_NS: i64 = 1_000_000;
const RUNS: usize = 7;
/// Most lines that are taken of a sample.
const SAMPLE_LINES_MAX: usize = 200_000;

/// What is asked of the service that writes JSON.
const JSON: [&str; 14] = [
    r#"sum(count_over_time({app="json"} |= "order" [1m]))"#,
    r#"sum(count_over_time({app="json"} |= "no such text" [1m]))"#,
    r#"sum(count_over_time({app="json"} |~ "order-9[0-9]+7\"" [1m]))"#,
    r#"sum(count_over_time({app="json"} | json | status >= 500 [1m]))"#,
    r#"sum(count_over_time({app="json"} | json status | status >= 500 [1m]))"#,
    r#"sum(count_over_time({app="json"} | json | status >= 500 | duration_ms > 50 [1m]))"#,
    r#"sum(count_over_time({app="json"} | json | level="error" [1m]))"#,
    r#"sum(count_over_time({app="json"} | json | level=~"err.*|warn" [1m]))"#,
    r#"sum by (status) (count_over_time({app="json"} | json | __error__="" [1m]))"#,
    r#"sum by (status) (count_over_time({app="json"} | json [1m]))"#,
    r#"sum by (route, status) (rate({app="json"} | json | level != "debug" [1m]))"#,
    r#"quantile_over_time(0.99, {app="json"} | json | unwrap duration_ms [1m]) by (route)"#,
    r#"sum by (detected_level) (rate({app="json"}[1m]))"#,
    r#"sum(count_over_time({app="json"} | json | line_format "{{.status}} {{.route}}" |= "500" [1m]))"#,
];

/// Of the one that writes logfmt.
const LOGFMT: [&str; 6] = [
    r#"sum(count_over_time({app="logfmt"} |= "upstream" [1m]))"#,
    r#"sum(count_over_time({app="logfmt"} | logfmt | status >= 500 [1m]))"#,
    r#"sum(count_over_time({app="logfmt"} | logfmt status | status >= 500 [1m]))"#,
    r#"sum by (status) (count_over_time({app="logfmt"} | logfmt | __error__="" [1m]))"#,
    r#"sum(count_over_time({app="logfmt"} | logfmt | duration > 500ms [1m]))"#,
    r#"quantile_over_time(0.99, {app="logfmt"} | logfmt | unwrap duration(duration) [1m]) by (status)"#,
];

/// Of the one that writes access logs.
const ACCESS: [&str; 5] = [
    r#"sum(count_over_time({app="access"} |= "GET" [1m]))"#,
    r#"sum by (status) (count_over_time({app="access"} | pattern "<ip> - - [<_>] \"<method> <path> <_>\" <status> <bytes> <_>" [1m]))"#,
    r#"sum by (status) (count_over_time({app="access"} | regexp "\" (?P<status>[0-9]{3}) (?P<bytes>[0-9]+) " [1m]))"#,
    r#"sum by (method) (bytes_over_time({app="access"} | regexp "^(?P<ip>\\S+) - - \\[[^]]+\\] \"(?P<method>\\w+) (?P<path>\\S+)" [1m]))"#,
    r#"sum(count_over_time({app="access"} |> "<_> 503 <_>" [1m]))"#,
];

/// Log queries, the newest 100.
const NEWEST: [&str; 5] = [
    r#"{app="json"} | json | status >= 500 | duration_ms > 50"#,
    r#"{app="json"} | json | status >= 500 | duration_ms > 5000"#,
    r#"{app="json"} | json"#,
    r#"{app="logfmt"} | logfmt | status >= 500 | duration > 10s"#,
    r#"{app="access"} |= "no such text""#,
];

/// Stages for lines of any form.
const ANY: [&str; 6] = [
    r#"sum(count_over_time({app="SAMPLE"} |= "error" [1m]))"#,
    r#"sum(count_over_time({app="SAMPLE"} |~ "(?i)fail(ed|ure)" [1m]))"#,
    r#"sum by (level) (count_over_time({app="SAMPLE"} | logfmt | __error__="" [1m]))"#,
    r#"sum by (level) (count_over_time({app="SAMPLE"} | json | __error__="" [1m]))"#,
    r#"sum by (a) (count_over_time({app="SAMPLE"} | pattern "<a> <b> <rest>" | __error__="" [1m]))"#,
    r#"sum by (n) (count_over_time({app="SAMPLE"} | regexp "(?P<n>[0-9]{3,4})" | __error__="" [1m]))"#,
];

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let asks = |text: &str| wanted.as_ref().is_none_or(|part| text.contains(part));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = open(dir.path());
    fill(&storage);
    for text in JSON.iter().chain(&LOGFMT).chain(&ACCESS).filter(|text| asks(text)) {
        per_line(&storage, text, LINES);
    }
    for text in NEWEST.iter().filter(|text| asks(text)) {
        let took = median(|| ask(&storage, text));
        tell(&format!(
            "{:>10.2} ms       {text}, newest 100",
            took.as_secs_f64() * 1e3
        ));
    }
    if asks("volume") {
        volumes(&storage);
    }
    drop(storage);
    if let Some(samples) = std::env::var_os("LOG_SAMPLES") {
        samples_in(Path::new(&samples), asks);
    }
}

fn fill(storage: &Storage) {
    let mut line = String::new();
    for first in (0..LINES).step_by(LINES_PER_BATCH) {
        let mut batch = LogBatch::default();
        for (kind, app) in ["json", "logfmt", "access"].into_iter().enumerate() {
            let stream = batch.stream(&mut vec![("app", app), ("env", "lab")]);
            for i in first..first + LINES_PER_BATCH {
                line.clear();
                let level = write_line(&mut line, kind, noise((i * 3 + kind) as u64));
                let at = TimestampNs(START_NS + i as i64 * GAP_NS);
                batch.entry(stream, at, &line, [("detected_level", level)]);
            }
        }
        store(storage, &batch);
    }
    storage.flush().expect("cut");
}

fn store(storage: &Storage, batch: &LogBatch) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(storage.append_logs(batch)).expect("stored");
}

/// A line of one kind; its level.
fn write_line(out: &mut String, kind: usize, r: u64) -> &'static str {
    let level = ["info", "info", "info", "debug", "warn", "error"][(r % 97 % 6) as usize];
    let status = [200, 200, 200, 201, 304, 404, 500, 503][(r % 8) as usize];
    let route = ["/api/cart", "/api/orders/{id}", "/api/login", "/healthz"][(r >> 8 & 3) as usize];
    let (s, ms, id) = (r % 60, (r >> 16) % 1000, r >> 20);
    let written = match kind {
        0 => write!(
            out,
            r#"{{"ts":"2024-10-04T06:55:{s:02}.{ms:03}Z","level":"{level}","logger":"shop.orders","msg":"order created for \"{}\"","trace_id":"{r:016x}{id:016x}","http":{{"method":"GET","route":"{route}"}},"route":"{route}","order":"order-{}","status":{status},"duration_ms":{ms}.{},"user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}}"#,
            id % 900,
            id % 100_000,
            r % 10
        ),
        1 => write!(
            out,
            "ts=2024-10-04T06:55:{s:02}.{ms:03}Z level={level} caller=proxy.go:{} msg=\"upstream answered\" route={route} trace_id={r:016x}{id:016x} status={status} duration={ms}ms",
            100 + r % 40
        ),
        _ => write!(
            out,
            "10.251.{}.{} - - [09/Nov/2008:20:36:{s:02} +0000] \"GET /image/{}.png HTTP/1.1\" {status} {} \"-\" \"curl/8.5.0\"",
            r % 200,
            r % 199,
            id % 500,
            r % 90_000
        ),
    };
    written.expect("a string takes all");
    level
}

fn per_line(storage: &Storage, text: &str, lines: usize) {
    let took = median(|| ask(storage, text));
    tell(&format!(
        "{:>10.1} ns/line  {text}",
        took.as_nanos() as f64 / lines as f64
    ));
}

/// Asks for everything there is, in steps of a minute.
fn ask(storage: &Storage, text: &str) {
    let query = Query::parse(text).expect("parses");
    let options = Options {
        limit: 100,
        direction: Direction::Backward,
    };
    let (start, end) = (START_NS, START_NS + (LINES as i64 + 60_000) * GAP_NS);
    let (start, end) = (TimestampNs(start), TimestampNs(end));
    query
        .range(&context(), storage.logs(), start, end, 60_000_000_000, options)
        .expect("an answer");
}

fn volumes(storage: &Storage) {
    let everything = [Matcher::new("app", MatchOp::Regex, ".+").expect("a matcher")];
    for (what, seconds) in [("everything", 3600), ("a part of a minute", 37)] {
        let range = TimeRangeNs {
            start: TimestampNs(START_NS),
            end: TimestampNs(START_NS + seconds * 1_000_000_000),
        };
        let took = median(|| {
            let snapshot = storage.logs().snapshot(range);
            snapshot.volumes(&everything, range).expect("readable");
        });
        tell(&format!(
            "{:>10.3} ms       volume of each stream, {what}",
            took.as_secs_f64() * 1e3
        ));
    }
}

/// Asks lines of the files of a directory, each file by itself.
fn samples_in(samples: &Path, asks: impl Fn(&str) -> bool) {
    let files = std::fs::read_dir(samples).expect("LOG_SAMPLES is a directory");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "log")) {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = open(dir.path());
        let mut batch = LogBatch::default();
        let stream = batch.stream(&mut vec![("app", "SAMPLE")]);
        let mut lines = 0;
        for line in text.lines().take(SAMPLE_LINES_MAX) {
            let at = TimestampNs(START_NS + lines as i64 * GAP_NS);
            batch.entry(stream, at, line, [("detected_level", "unknown")]);
            lines += 1;
        }
        store(&storage, &batch);
        storage.flush().expect("cut");
        tell(&format!(
            "{}, {lines} lines:",
            path.file_name().unwrap_or_default().to_string_lossy()
        ));
        for text in ANY.iter().filter(|text| asks(text)) {
            per_line(&storage, text, lines.max(1));
        }
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let since = Instant::now();
            work();
            since.elapsed()
        })
        .collect();
    times.sort();
    times[RUNS / 2]
}

#[allow(clippy::print_stdout)] // the product of a benchmark
fn tell(what: &str) {
    println!("{what}");
}
