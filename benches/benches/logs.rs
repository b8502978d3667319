//! The logs engine piece by piece: append, encoding of chunks (a cut), compaction, search for needles, volumes, decoding;
//! without the network and without syncing.
//!
//! The lines are made: what HDFS, Apache, sshd, a JSON application, a logfmt proxy and a worker write, with trace ids that
//! several services share, span ids and UUIDs. `LOG_SAMPLES=dir` adds the files `*.log` of a directory, each as a stream
//! of its own (the public LogHub samples are a good source), and tells how well each compresses.

use std::fmt::Write;
use std::path::Path;

use benches::{START_NS, median, noise, open, report};
use model::{LogBatch, MatchOp, Matcher, TimeRangeNs, TimestampNs};
use storage::Storage;
use storage_logs::{Entries, Needles};

const STREAMS: usize = 60;
const BATCHES: usize = 600;
const LINES: usize = 1000;
const LINES_PER_TRACE: u64 = 10;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = open(dir.path());
    let batches: Vec<LogBatch> = (0..BATCHES).map(batch).collect();
    let raw: usize = batches.iter().map(LogBatch::text_bytes).sum();
    let quarter = BATCHES / 4;
    append(&storage, "append", &batches[..quarter]);
    append(&storage, "append, half of it again", &batches[quarter / 2..quarter]);
    questions(&storage, "head");
    for (i, batches) in batches.chunks(quarter).enumerate() {
        if i > 0 {
            append(&storage, "append", batches);
        }
        report("encode open chunks and write a block", quarter * LINES, "line", || {
            storage.flush().expect("cut")
        });
    }
    sizes("blocks as cut", dir.path(), raw);
    questions(&storage, "blocks");
    report("compact", BATCHES * LINES, "line", || {
        storage.tick(TimestampNs(START_NS + 24 * 3_600_000_000_000))
    });
    sizes("compacted", dir.path(), raw);
    questions(&storage, "compacted");
    drop(storage);
    if let Some(samples) = std::env::var_os("LOG_SAMPLES") {
        samples_in(Path::new(&samples));
    }
}

fn append(storage: &Storage, what: &str, batches: &[LogBatch]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    report(what, batches.len() * LINES, "line", || {
        for batch in batches {
            runtime.block_on(storage.append_logs(batch)).expect("stored");
        }
    });
}

/// A thousand lines of all services; each batch is a second.
fn batch(n: usize) -> LogBatch {
    let mut batch = LogBatch::default();
    let per_stream = LINES.div_ceil(STREAMS);
    let mut line = String::new();
    for stream_at in 0..STREAMS {
        let (kind, pod) = (stream_at % 6, format!("pod-{}", stream_at / 6));
        let app = ["hdfs", "apache", "sshd", "shop", "gateway", "worker"][kind];
        let stream = batch.stream(&mut vec![("app", app), ("pod", pod.as_str())]);
        for i in 0..(stream_at..LINES).step_by(STREAMS).len() {
            let seq = (n * per_stream + i) as u64;
            let at = START_NS + n as i64 * 1_000_000_000 + i as i64 * 50_000_000;
            line.clear();
            let level = write_line(&mut line, kind, seq, noise(seq * STREAMS as u64 + kind as u64));
            batch.entry(stream, TimestampNs(at), &line, [("detected_level", level)]);
        }
    }
    batch
}

/// The trace that all services work on at `seq`.
fn trace_id(seq: u64) -> u128 {
    let n = seq / LINES_PER_TRACE;
    u128::from(noise(n)) << 64 | u128::from(noise(n ^ 1 << 40))
}

/// A line of one kind; its level.
fn write_line(out: &mut String, kind: usize, seq: u64, r: u64) -> &'static str {
    let level = ["info", "info", "info", "debug", "warn", "error"][(r % 97 % 6) as usize];
    let (s, ms, trace, span) = (seq / 20 % 60, r % 1000, trace_id(seq), noise(r));
    let written = match kind {
        0 => write!(
            out,
            "081109 2036{s:02} {} INFO dfs.DataNode$PacketResponder: PacketResponder {} for block blk_{} terminating",
            r % 40,
            r % 3,
            (r >> 8) as i64
        ),
        1 => write!(
            out,
            "10.251.{}.{} - - [09/Nov/2008:20:36:{s:02} +0000] \"GET /image/{}.png HTTP/1.1\" {} {} trace={trace:032x}",
            r % 200,
            r % 199,
            r % 500,
            [200, 200, 304, 404][(r % 4) as usize],
            r % 90_000
        ),
        2 => write!(
            out,
            "Dec 10 06:55:{s:02} LabSZ sshd[{}]: Failed password for invalid user user{} from 173.234.{}.{} port {} ssh2",
            24_000 + r % 900,
            r % 700,
            r % 250,
            r % 249,
            r % 60_000
        ),
        3 => write!(
            out,
            r#"{{"ts":"2024-10-04T06:55:{s:02}.{ms:03}Z","level":"{level}","logger":"shop.orders","msg":"order created","trace_id":"{trace:032x}","span_id":"{span:016x}","order_id":{},"duration_ms":{}.{}}}"#,
            r % 1_000_000,
            r % 800,
            r % 10
        ),
        4 => write!(
            out,
            "ts=2024-10-04T06:55:{s:02}.{ms:03}Z level={level} caller=proxy.go:{} msg=\"upstream answered\" status={} duration={ms}ms trace_id={trace:032x} span_id={span:016x}",
            100 + r % 40,
            [200, 201, 404, 500][(r % 4) as usize]
        ),
        _ => write!(
            out,
            "[2024-10-04 06:55:{s:02},{ms:03}: {level}/Worker-{}] Task shop.tasks.send_mail[{}] succeeded in 0.{ms:03}s",
            r % 8,
            uuid(seq)
        ),
    };
    written.expect("a string takes all");
    level
}

fn uuid(seq: u64) -> String {
    let (a, b) = (noise(seq ^ 7 << 50), noise(seq ^ 9 << 50));
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        a >> 32,
        a & 0xffff,
        b >> 52,
        b >> 40 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

fn all() -> TimeRangeNs {
    TimeRangeNs {
        start: TimestampNs(START_NS),
        end: TimestampNs(START_NS + 12 * 3_600_000_000_000),
    }
}

fn questions(storage: &Storage, place: &str) {
    let everything = [Matcher::new("app", MatchOp::Regex, ".+").expect("a matcher")];
    let mut entries = Entries::default();
    let trace = format!("{:032x}", trace_id(2000));
    for (what, needle) in [
        ("a trace id", trace.clone()),
        ("16 digits of one", trace[9..25].to_owned()),
        ("a UUID", uuid(2000)),
        ("an id that is nowhere", "0123456789abcdef0123456789abcdef".to_owned()),
    ] {
        let needles = Needles {
            contains: vec![needle.clone()],
            ..Needles::default()
        };
        let mut seen = (0, 0, 0);
        median(&format!("{place}: lines with {what}"), || {
            let snapshot = storage.logs().snapshot(all());
            let runs = snapshot.runs(&everything, all(), &needles).expect("readable");
            seen = (runs.len(), 0, 0);
            for run in runs {
                run.read(&mut entries).expect("readable");
                let found = (0..entries.len())
                    .filter(|&i| entries.line(i).contains(&needle))
                    .count();
                seen.1 += usize::from(found > 0);
                seen.2 += found;
            }
        });
        note(&format!(
            "{} chunks read, {} of them for a reason, {} lines",
            seen.0, seen.1, seen.2
        ));
    }
    median(&format!("{place}: volume of every stream"), || {
        let snapshot = storage.logs().snapshot(all());
        snapshot.volumes(&everything, all()).expect("readable");
    });
    let snapshot = storage.logs().snapshot(all());
    let runs = snapshot
        .runs(&everything, all(), &Needles::default())
        .expect("readable");
    let lines: u64 = runs.iter().map(|run| run.entries_max()).sum();
    report(&format!("{place}: decode everything"), lines as usize, "line", || {
        for run in &runs {
            run.read(&mut entries).expect("readable");
        }
    });
}

/// Tells what the blocks take, and of that the needle filters.
fn sizes(what: &str, dir: &Path, raw: usize) {
    let (mut all, mut needles) = (0, 0);
    let blocks = std::fs::read_dir(dir.join("logs/blocks")).expect("blocks");
    for block in blocks {
        for file in std::fs::read_dir(block.expect("a block").path()).expect("its files") {
            let file = file.expect("a file");
            let bytes = file.metadata().expect("its size").len();
            all += bytes;
            needles += if file.file_name() == "needles" { bytes } else { 0 };
        }
    }
    note(&format!(
        "{what}: {:.2} : 1, needle filters {:.2} % of the text",
        raw as f64 / all as f64,
        needles as f64 * 100.0 / raw as f64
    ));
}

/// How well each file of a directory compresses.
fn samples_in(samples: &Path) {
    let files = std::fs::read_dir(samples).expect("LOG_SAMPLES is a directory");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "log")) {
        let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = open(dir.path());
        let mut batch = LogBatch::default();
        let stream = batch.stream(&mut vec![("app", "sample")]);
        let mut raw = 0;
        for (i, line) in text.lines().enumerate() {
            raw += line.len();
            let at = TimestampNs(START_NS + i as i64 * 1_000_000);
            batch.entry(stream, at, line, [("detected_level", "unknown")]);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(storage.append_logs(&batch)).expect("stored");
        storage.flush().expect("cut");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sizes(&name, dir.path(), raw);
    }
}

#[allow(clippy::print_stdout)] // the product of a benchmark
fn note(what: &str) {
    println!("    {what}");
}
