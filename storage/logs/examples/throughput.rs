//! What the logs engine costs: bytes of log lines per second in, out, and past a needle filter.
//!
//! ```text
//! cargo run --release -p storage-logs --example throughput [MiB]
//! ```
//!
//! JSON lines of four services with a trace id in line and metadata, new with every sixth line, in requests of 1 000
//! entries, on the disk that holds the system's temporary directory.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use model::{LabelSet, LogBatch, Signal, TimeRangeNs, TimestampNs};
use storage_budget::Budget;
use storage_catalogue::{BlockRef, Catalogue};
use storage_disk::Disk;
use storage_logs::{Entries, Logs, Needles, Options, Parts};
use storage_wal::SyncMode;

const NOW: i64 = 1_800_000_000_000_000_000;

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(200);
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, _) = Catalogue::open(Disk::real(), dir.path()).unwrap();
    let parts = Parts {
        disk: Disk::real(),
        catalogue: catalogue.clone(),
        budget: Budget::new(4 << 30),
        dir: dir.path().join("logs"),
        wal: storage_wal::Options {
            sync: SyncMode::Always,
            segment_bytes: 64 << 20,
        },
    };
    let options = Options {
        retention_ns: 7 * model::DAY_NS,
        ahead_ns: 600_000_000_000,
    };
    let (logs, _) = Logs::open(parts, options).unwrap();
    let all = batches(mib << 20);
    let bytes: usize = all.iter().map(LogBatch::text_bytes).sum();
    let say = |what: &str, start: Instant| {
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{what:<32} {rate:7.0} MB/s");
    };
    let part = |what: &str, size: u64| println!("{what:<32} {:7.2} % of raw", size as f64 * 100.0 / bytes as f64);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let start = Instant::now();
    for batch in &all {
        runtime.block_on(logs.append(batch, TimestampNs(NOW))).unwrap();
    }
    say("append, one sender, synced", start);
    let stats = logs.stats();
    part("memory of the head", stats.head_bytes);
    part("WAL", stats.wal.disk_bytes);
    let scan = |what: &str| {
        let start = Instant::now();
        let mut entries = Entries::default();
        let snapshot = logs.snapshot(TimeRangeNs::ALL);
        for run in snapshot.runs(&[], TimeRangeNs::ALL, &Needles::default()).unwrap() {
            run.read(&mut entries).unwrap();
        }
        say(what, start);
    };
    scan("read all of the head");
    let start = Instant::now();
    logs.cut().unwrap();
    say("cut", start);
    scan("read all of the block");
    let sizes = |what: &str, block: &BlockRef| {
        for file in ["chunks", "needles"] {
            let size = std::fs::metadata(block.dir().join(file)).unwrap().len();
            part(&format!("{what} {file}"), size);
        }
    };
    for block in catalogue.blocks(Signal::Logs, TimeRangeNs::ALL) {
        sizes("block", &block);
        let start = Instant::now();
        logs.compact(&[block]).unwrap();
        say("compact", start);
    }
    for block in catalogue.blocks(Signal::Logs, TimeRangeNs::ALL) {
        sizes("compacted", &block);
    }
    scan("read all of the compacted block");
    let start = Instant::now();
    let mut runs = 0;
    for n in 0..100 {
        let needles = Needles {
            contains: vec![id(1 << 40 | n)],
            metadata: vec![],
        };
        let snapshot = logs.snapshot(TimeRangeNs::ALL);
        runs += snapshot.runs(&[], TimeRangeNs::ALL, &needles).unwrap().len();
    }
    let ms = start.elapsed().as_secs_f64() * 1000.0 / 100.0;
    println!(
        "an id that is nowhere            {ms:7.2} ms, {:.2} runs left to read",
        f64::from(runs as u32) / 100.0
    );
}

/// Ids that look random and are the same in every run.
fn id(n: u64) -> String {
    let a = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "{:016x}{:016x}",
        a ^ a >> 29,
        a.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ a >> 17
    )
}

fn batches(bytes: usize) -> Vec<LogBatch> {
    let mut all = Vec::new();
    let (mut made, mut n) = (0, 0u64);
    while made < bytes {
        let mut batch = LogBatch::default();
        let service = format!("service-{}", all.len() % 4);
        let stream = batch.stream_of(&LabelSet::from_pairs([
            ("service_name", service.as_str()),
            ("env", "lab"),
        ]));
        for _ in 0..1000 {
            n += 1;
            let trace = id(n / 6);
            let r = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let level = ["info", "info", "info", "warn"][n as usize % 4];
            let line = format!(
                r#"{{"level":"{level}","msg":"request done","method":"GET","path":"/api/v1/items/{}","status":{},"duration_ms":{},"user":"user-{}","trace_id":"{trace}"}}"#,
                r % 5000,
                [200, 200, 404][r as usize % 3],
                r % 977,
                r % 300
            );
            let t = TimestampNs(NOW - 3_600_000_000_000 + n as i64 * 1_000_000);
            batch.entry(
                stream,
                t,
                &line,
                [("trace_id", trace.as_str()), ("detected_level", level)],
            );
        }
        made += batch.text_bytes();
        all.push(batch);
    }
    all
}
