//! What the catalogue costs: resident memory and time, with no data, with a day's new series, and idle afterwards.
//!
//! `cargo run --release -p storage-catalogue --example footprint -- 100000`

#![allow(clippy::print_stdout, clippy::unwrap_used)] // it exists to print, and one that cannot go on stops

use std::time::Instant;

use model::{Day, LabelSet, MatchOp, Matcher};
use storage_catalogue::{Catalogue, IndexKind};
use storage_disk::Disk;

fn main() {
    let series: u32 = std::env::args().nth(1).map_or(20_000, |n| n.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("trilobite-footprint-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut clock = Instant::now();
    let mut report = |what: &str| {
        println!(
            "{what:<44} {:>8.1} ms   rss {:>6} KiB",
            clock.elapsed().as_secs_f64() * 1e3,
            rss_kib()
        );
        clock = Instant::now();
    };
    report("process");
    let (catalogue, _) = Catalogue::open(Disk::real(), &dir).unwrap();
    report("open, empty");
    let index = catalogue.labels(IndexKind::Series);
    let sets: Vec<LabelSet> = (0..series)
        .map(|i| {
            LabelSet::from_pairs([
                ("__name__", format!("http_server_metric_{}_total", i % 500)),
                ("instance", format!("10.0.{}.{}:9100", i / 2000, i / 500 % 4)),
                ("pod", format!("checkout-7d9f8b6c5-{:05x}", i / 500)),
                ("job", "kubernetes-pods".to_owned()),
                ("namespace", format!("team-{}", i % 12)),
                ("code", format!("{}", 200 + i % 5)),
                ("method", ["GET", "POST", "PUT"][i as usize % 3].to_owned()),
                ("cluster", "lab".to_owned()),
            ])
        })
        .collect();
    report("(label sets made)");
    for (day, what) in [(1, "new series"), (1, "known series"), (2, "known series, new day")] {
        for set in &sets {
            index.intern(Day(day), set.as_bytes(), set.hash64()).unwrap();
        }
        report(what);
    }
    let matchers = [
        Matcher::equal("__name__", "http_server_metric_7_total"),
        Matcher::new("code", MatchOp::NotEqual, "200").unwrap(),
        Matcher::new("pod", MatchOp::Regex, "checkout-7d9f8b6c5-0.*").unwrap(),
    ];
    for what in ["postings, unflushed", "postings, again"] {
        index.postings((Day(1), Day(2)), &matchers).unwrap();
        report(what);
    }
    catalogue.flush().unwrap();
    report("flush");
    let found = index.postings((Day(1), Day(2)), &matchers).unwrap();
    report("postings, flushed");
    index.label_sets(&found).unwrap();
    report("label sets of those");
    println!(
        "{} ids found, {} active, {} KiB on disk",
        found.len(),
        index.active(),
        catalogue.disk_bytes() >> 10
    );
    drop((sets, index, catalogue));
    report("(dropped)");
    let (catalogue, _) = Catalogue::open(Disk::real(), &dir).unwrap();
    report("open again");
    std::thread::sleep(std::time::Duration::from_secs(2));
    report("idle");
    catalogue.labels(IndexKind::Series).expire(Day(3)).unwrap();
    report("expire all");
    drop(catalogue);
    std::fs::remove_dir_all(&dir).unwrap();
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
