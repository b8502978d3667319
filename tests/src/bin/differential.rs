//! Records what a real Prometheus answers, and compares servers.
//!
//!     differential record ADDR      writes the data to a fresh Prometheus at ADDR, asks, and writes the golden files
//!     differential replay ADDR      writes the data to the server at ADDR, and compares its answers with the golden files
//!     differential compare A B      writes the data to both, asks both, and reports every difference
//!
//! `again` before the command leaves the writing out: the data is there. `QUERY=text` leaves out cases without the text, and
//! `QUERY_SEED=n` makes `compare` ask other queries than the recorded ones.

#![allow(clippy::print_stdout)] // a report is what it is for

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use trilobite_tests::differential::{
    Answer, Case, Golden, Recorded, SEED, ask, cases, checksum, compliance_cases, dataset, difference, write,
};
use trilobite_tests::{get, golden_files};

/// Longer answers are not worth their place in the golden file.
const ANSWER_BYTES_MAX: usize = 6_000;

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let again = args.first().is_some_and(|a| a == "again");
    if again {
        args.remove(0);
    }
    let addrs = args.iter().skip(1).map(|a| a.parse().with_context(|| a.clone()));
    let addrs = addrs.collect::<Result<Vec<SocketAddr>>>()?;
    if !again {
        let series = dataset(SEED);
        for addr in &addrs {
            if let Err(refused) = write(*addr, &series) {
                println!("{addr}: {refused}");
            }
        }
    }
    match (args.first().map(String::as_str), &addrs[..]) {
        (Some("record"), [server]) => record(*server),
        (Some("replay"), [server]) => replay(*server),
        (Some("compare"), [a, b]) => compare(*a, *b),
        _ => bail!("usage: differential [again] record|replay ADDR, or compare ADDR ADDR"),
    }
}

fn wanted(case: &Case) -> bool {
    std::env::var("QUERY").map_or(true, |text| case.query.contains(&text))
}

fn record(server: SocketAddr) -> Result<()> {
    let build = get(server, "/api/v1/status/buildinfo")?.json();
    let version = build["data"]["version"].as_str().unwrap_or("?").to_owned();
    let [generated, listed] = golden_files();
    for (path, cases, texts) in [(generated, cases(SEED), true), (listed, compliance_cases()?, false)] {
        let mut recorded = Vec::new();
        let mut long = 0;
        for case in cases {
            let answer = ask(server, &case)?;
            if texts && answer.bytes() > ANSWER_BYTES_MAX {
                long += 1;
                continue;
            }
            // A panic is no answer.
            if answer.error().starts_with("unexpected error") {
                continue;
            }
            // Prometheus adds up some vectors in any order.
            let again = (0..2).map(|_| ask(server, &case)).collect::<Result<Vec<_>>>()?;
            if again.iter().any(|again| difference(&case, &answer, again).is_some()) {
                println!("UNSTABLE {}", case.query);
                continue;
            }
            recorded.push(Recorded::new(case, answer));
        }
        let answers = |p: fn(&Answer) -> bool| recorded.iter().filter(|r| p(&r.answer)).count();
        let (failed, empty) = (answers(|a| !a.error().is_empty()), answers(Answer::is_empty));
        println!(
            "{}: {} cases ({failed} errors, {empty} without result), {long} left out for their length",
            path.display(),
            recorded.len()
        );
        let golden = Golden {
            seed: SEED,
            data: checksum(&dataset(SEED)),
            server: format!("Prometheus {version}"),
            cases: recorded,
        };
        golden.write(&path, texts)?;
    }
    Ok(())
}

fn replay(server: SocketAddr) -> Result<()> {
    let listed: BTreeMap<u64, Case> = (compliance_cases()?.into_iter())
        .map(|case| (Recorded::new(case.clone(), Answer::none()).key, case))
        .collect();
    let mut tally = Tally::default();
    for path in golden_files() {
        let golden = Golden::read(&path)?;
        ensure!(
            golden.data == checksum(&dataset(golden.seed)),
            "{}: of other data; record again",
            path.display()
        );
        for one in golden.cases {
            let case = match one.case.query.is_empty() {
                false => one.case,
                true => match listed.get(&one.key) {
                    Some(case) => case.clone(),
                    None => continue,
                },
            };
            if wanted(&case) {
                let found = ask(server, &case)?;
                tally.add(&case, &one.answer, &found);
            }
        }
    }
    tally.finish()
}

fn compare(a: SocketAddr, b: SocketAddr) -> Result<()> {
    let mut tally = Tally::default();
    let seed = std::env::var("QUERY_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(SEED);
    for case in cases(seed).into_iter().chain(compliance_cases()?).filter(wanted) {
        let (expected, found) = (ask(a, &case)?, ask(b, &case)?);
        // What Prometheus adds up in any order is no difference.
        let panicked = expected.error().starts_with("unexpected error");
        if panicked
            || difference(&case, &expected, &found).is_some() && difference(&case, &expected, &ask(a, &case)?).is_some()
        {
            continue;
        }
        tally.add(&case, &expected, &found);
    }
    tally.finish()
}

#[derive(Default)]
struct Tally {
    asked: usize,
    differ: usize,
    reworded: BTreeMap<(String, String), usize>,
}

impl Tally {
    fn add(&mut self, case: &Case, expected: &Answer, found: &Answer) {
        self.asked += 1;
        if let Some(why) = difference(case, expected, found) {
            self.differ += 1;
            println!(
                "DIFFER {} [{} {} {}]\n    {why}",
                case.query, case.start_ms, case.end_ms, case.step_ms
            );
        } else if expected.error() != found.error() {
            *self
                .reworded
                .entry((expected.error().to_owned(), found.error().to_owned()))
                .or_default() += 1;
        }
    }

    fn finish(self) -> Result<()> {
        for ((expected, found), times) in &self.reworded {
            println!("REWORDED {times}x\n    {expected}\n    {found}");
        }
        println!(
            "{} asked, {} differ, {} errors in other words",
            self.asked,
            self.differ,
            self.reworded.len()
        );
        ensure!(self.differ == 0, "the answers differ");
        Ok(())
    }
}
