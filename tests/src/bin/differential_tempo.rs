//! Records what a real Tempo answers, and compares servers.
//!
//!     differential_tempo send OTLP             sends the traces to an OTLP/HTTP address
//!     differential_tempo record API            asks a Tempo that has them, and writes the golden file
//!     differential_tempo replay API            asks a server that has them, and compares with the golden file
//!     differential_tempo compare API API       asks both, and reports every difference
//!
//! `QUERY=text` leaves out cases without the text, `QUERY_SEED=n` makes `compare` ask other generated queries than the
//! recorded ones, `VERBOSE=1` prints whole answers. Tempo shows what it was sent to every endpoint once its block is complete.

#![allow(clippy::print_stdout)] // a report is what it is for

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use trilobite_tests::differential::tempo::{
    Answer, Case, Golden, SEED, ask, cases, checksum, difference, golden_file, send, traces,
};
use trilobite_tests::get;

/// Longer answers are not worth their place in the golden file.
const ANSWER_BYTES_MAX: usize = 120_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let addrs = args.iter().skip(1).map(|a| a.parse().with_context(|| a.clone()));
    let addrs = addrs.collect::<Result<Vec<SocketAddr>>>()?;
    match (args.first().map(String::as_str), &addrs[..]) {
        (Some("send"), [otlp]) => send(*otlp, &traces(SEED)),
        (Some("record"), [server]) => record(*server),
        (Some("replay"), [server]) => replay(*server),
        (Some("compare"), [a, b]) => compare(*a, *b),
        _ => bail!("usage: differential_tempo send OTLP, record|replay API, or compare API API"),
    }
}

fn wanted(case: &Case) -> bool {
    std::env::var("QUERY").map_or(true, |text| case.to_string().contains(&text))
}

fn record(server: SocketAddr) -> Result<()> {
    let build = get(server, "/api/status/buildinfo")?.json();
    let (mut kept, mut long, mut unstable) = (Vec::new(), 0, 0);
    for case in cases(SEED) {
        let answer = ask(server, &case)?;
        // A breakdown is no answer.
        if answer.status() >= 500 {
            println!("BROKEN {case}");
        } else if answer.bytes() > ANSWER_BYTES_MAX {
            long += 1;
        } else if ask(server, &case).map_or(true, |again| difference(&answer, &again).is_some()) {
            unstable += 1;
            println!("UNSTABLE {case}");
        } else {
            kept.push((case, answer));
        }
    }
    let count = |p: fn(&Answer) -> bool| kept.iter().filter(|(_, a)| p(a)).count();
    let (failed, empty) = (count(|a| a.status() != 0), count(Answer::is_empty));
    println!(
        "{} cases ({failed} errors, {empty} without result); left out: {long} long, {unstable} unstable",
        kept.len()
    );
    let golden = Golden {
        seed: SEED,
        data: checksum(&traces(SEED)),
        server: format!("Tempo {} {}", build["version"], build["revision"]),
        cases: kept,
    };
    golden.write(&golden_file())
}

fn replay(server: SocketAddr) -> Result<()> {
    let golden = Golden::read(&golden_file())?;
    ensure!(
        golden.data == checksum(&traces(golden.seed)),
        "the golden file is of other data; record again"
    );
    let mut tally = Tally::default();
    for (case, expected) in golden.cases.iter().filter(|(case, _)| wanted(case)) {
        tally.add(case, expected, &ask(server, case)?);
    }
    tally.finish()
}

fn compare(a: SocketAddr, b: SocketAddr) -> Result<()> {
    let seed = std::env::var("QUERY_SEED").ok().and_then(|s| s.parse().ok());
    let mut tally = Tally::default();
    for case in cases(seed.unwrap_or(SEED)).iter().filter(|case| wanted(case)) {
        let expected = ask(a, case)?;
        if expected.status() >= 500 {
            continue;
        }
        let found = ask(b, case)?;
        if std::env::var("VERBOSE").is_ok() {
            println!("{case}\n  {expected:?}\n  {found:?}");
        }
        // What Tempo answers now this way, now that way, is no difference.
        if difference(&expected, &found).is_some() && difference(&expected, &ask(a, case)?).is_some() {
            println!("UNSTABLE {case}");
            continue;
        }
        tally.add(case, &expected, &found);
    }
    tally.finish()
}

#[derive(Default)]
struct Tally {
    asked: usize,
    differ: usize,
    reworded: BTreeMap<(String, String), String>,
}

impl Tally {
    fn add(&mut self, case: &Case, expected: &Answer, found: &Answer) {
        self.asked += 1;
        if let Some(why) = difference(expected, found) {
            self.differ += 1;
            println!("DIFFER {case}\n    {why}");
        } else if expected.error() != found.error() {
            let words = (expected.error().to_owned(), found.error().to_owned());
            self.reworded.entry(words).or_insert_with(|| case.to_string());
        }
    }

    fn finish(self) -> Result<()> {
        for ((expected, found), case) in &self.reworded {
            println!("REWORDED {case}\n    {expected}\n    {found}");
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
