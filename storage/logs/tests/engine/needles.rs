//! Needles against a plain scan, over lines as services write them.

use ::model::TimeRangeNs;
use storage_logs::{Entries, Needles};

use crate::lab::{Lab, NOON, Row, batch, row, with};

/// Well-mixed bits.
fn noise(n: u64) -> u64 {
    let x = (n ^ n >> 30)
        .wrapping_add(0x9e37_79b9_7f4a_7c15)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn trace(n: u64) -> String {
    format!("{:016x}{:016x}", noise(n), noise(n ^ 1 << 60))
}

fn uuid(n: u64) -> String {
    let t = trace(n ^ 5 << 40);
    format!("{}-{}-{}-{}-{}", &t[..8], &t[8..12], &t[12..16], &t[16..20], &t[20..])
}

fn line(n: u64) -> String {
    let (t, s, r) = (
        trace(n / 10),
        format!("{:016x}", noise(n ^ 3 << 50)),
        noise(n ^ 9 << 50),
    );
    match n % 7 {
        0 => format!(
            r#"{{"level":"info","msg":"done","path":"/api/items/{}","trace_id":"{t}","span_id":"{s}"}}"#,
            r % 999
        ),
        1 => format!(
            "ts=2024-10-04T06:55:{:02}.123Z level=warn msg=\"slow upstream\" took={}ms traceID={t} ü",
            n % 60,
            r % 900
        ),
        2 => format!("[{}] worker/{} took task_{s}_v2 of pod-{}-x", n % 100, r % 9, uuid(n)),
        3 => format!("00-{t}-{s}-01 sampled, {}", "nothing else ".repeat((r % 4) as usize)),
        4 => format!("commit {}{s} by {}", &t[..24], t.to_uppercase()),
        5 => format!(
            "10.0.{}.{} - - \"GET /img/{}.png?v={s}\" 200 {}",
            r % 200,
            r % 199,
            r % 50,
            r % 90_000
        ),
        _ => format!("{}{}", "0".repeat((r % 40) as usize), uuid(n / 3).to_uppercase()),
    }
}

/// Lines that hold the needle in the runs that are read for it, and how many runs that are.
fn found(lab: &Lab, needle: &str) -> (usize, usize) {
    let needles = Needles {
        contains: vec![needle.to_owned()],
        metadata: vec![],
    };
    let runs = lab
        .logs
        .snapshot(TimeRangeNs::ALL)
        .runs(&[], TimeRangeNs::ALL, &needles)
        .unwrap();
    let mut entries = Entries::default();
    let mut lines = 0;
    for run in &runs {
        run.read(&mut entries).unwrap();
        lines += (0..entries.len()).filter(|&i| entries.line(i).contains(needle)).count();
    }
    (lines, runs.len())
}

/// Whatever is cut out of a line, wherever and however long, is found in all the lines that hold it; and what is long
/// and rare is not looked for everywhere.
#[test]
fn every_part_of_every_line_is_found_and_ids_are_not_looked_for_everywhere() {
    let streams = ["a", "b", "c"];
    let mut lab = Lab::new();
    let mut all: Vec<String> = Vec::new();
    for round in 0..2 {
        for (s, app) in streams.iter().enumerate() {
            let rows: Vec<Row> = (0..3000u64)
                .map(|i| {
                    let n = i * 7 + s as u64 + round * 40_000;
                    with(row(NOON + n as i64, &line(n)), "k", &trace(n / 20))
                })
                .collect();
            all.extend(rows.iter().map(|r| r.1.clone()));
            lab.append(&batch(&[(app, rows)]), NOON);
        }
        if round == 0 {
            lab.logs.cut().unwrap();
        }
    }
    let mut parts: Vec<String> = Vec::new();
    for i in 0..30 {
        let pick = |what: u64, n: usize| noise(what << 32 | i) as usize % n;
        let line: Vec<char> = all[pick(1, all.len())].chars().collect();
        let len = 1 + pick(2, 60.min(line.len()));
        let from = pick(3, line.len() - len + 1);
        parts.push(line[from..from + len].iter().collect());
    }
    let there: Vec<usize> = parts
        .iter()
        .map(|part| all.iter().filter(|l| l.contains(part.as_str())).count())
        .collect();
    let check = |lab: &Lab, place: &str| {
        for (part, there) in parts.iter().zip(&there) {
            assert_eq!(found(lab, part).0, *there, "{place}: {part:?}");
        }
        let runs = lab
            .logs
            .snapshot(TimeRangeNs::ALL)
            .runs(&[], TimeRangeNs::ALL, &Needles::default())
            .unwrap();
        let mut read = 0;
        for n in 0..20u64 {
            let absent = 1 << 33 | n;
            let span = format!("{:016x}", noise(absent));
            for needle in [trace(absent), span, uuid(absent), trace(absent)[5..25].to_owned()] {
                let (lines, runs) = found(lab, &needle);
                assert_eq!(lines, 0);
                read += runs;
            }
        }
        // Open chunks have no filter and are always read: at most one for each stream and round.
        let open = if place == "head" { streams.len() } else { 0 };
        let filtered = runs.len() - open;
        assert!(
            read <= 80 * open + 80 * filtered / 10 + 20,
            "{place}: {read} of {}",
            80 * runs.len()
        );
    };
    check(&lab, "head");
    lab.logs.cut().unwrap();
    check(&lab, "blocks");
    lab.compact_all();
    check(&lab, "compacted");
    lab = lab.crash(false);
    check(&lab, "after a crash");
}
