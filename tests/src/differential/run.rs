//! Recording, replaying and comparing, for every peer alike.

#![allow(clippy::print_stdout)] // a report is what it is for

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::golden::{Golden, Recorded};
use super::noise::brief;
use super::{Peer, Server};

/// Asks the peer everything and writes its golden files. What `other` answers differently is printed and left out.
pub fn record<P: Peer>(server: Server, other: Option<Server>) -> Result<()> {
    let version = P::version(server)?;
    for list in P::lists(P::SEED)? {
        let mut recorded = Vec::new();
        let (mut long, mut failed, mut empty) = (0, 0, 0);
        for case in list.cases {
            let answer = P::ask(server, &case)?;
            if answer.to_string().len() > list.answer_bytes_max {
                long += 1;
                continue;
            }
            if P::is_breakdown(&answer) {
                println!("BREAKDOWN {}\n    {}", P::text(&case), brief(&answer));
                continue;
            }
            // What a peer adds up in any order, or chooses among equals, says nothing.
            let again = (0..1).map(|_| P::ask(server, &case)).collect::<Result<Vec<_>>>()?;
            if again.iter().any(|again| P::difference(&case, &answer, again).is_some()) {
                println!("UNSTABLE {}", P::text(&case));
                continue;
            }
            if let Some(other) = other
                && let Some(why) = P::difference(&case, &answer, &P::ask(other, &case)?)
            {
                println!("DIFFER {}\n    {why}", P::text(&case));
                continue;
            }
            failed += usize::from(!P::error(&answer).is_empty());
            empty += usize::from(P::is_empty(&answer));
            let row = (list.row)(&case);
            recorded.push(Recorded { row, answer });
        }
        println!(
            "{}: {} cases ({failed} errors, {empty} without result), {long} left out for their length",
            list.path.display(),
            recorded.len()
        );
        let golden = Golden {
            seed: P::SEED,
            data: P::checksum(P::SEED),
            server: version.clone(),
            recorded,
        };
        golden.write(&list.path)?;
    }
    Ok(())
}

/// Asks the server what is in the golden files, as far as `wanted` says so.
pub fn replay<P: Peer>(server: Server, wanted: impl Fn(&str) -> bool) -> Result<Tally> {
    let mut tally = Tally::default();
    for list in P::lists(P::SEED)? {
        let golden = Golden::read(&list.path)?;
        ensure!(
            golden.data == P::checksum(golden.seed),
            "{}: of other data; record again",
            list.path.display()
        );
        for one in golden.recorded {
            if let Some(case) = P::case(&one.row)?
                && wanted(&P::text(&case))
            {
                let found = P::ask(server, &case)?;
                tally.add::<P>(&case, &one.answer, &found);
            }
        }
    }
    Ok(tally)
}

/// Asks the peer and another server everything that `seed` makes, as far as `wanted` says so.
pub fn compare<P: Peer>(peer: Server, other: Server, seed: u64, wanted: impl Fn(&str) -> bool) -> Result<Tally> {
    let mut tally = Tally::default();
    let cases = P::lists(seed)?.into_iter().flat_map(|list| list.cases);
    for case in cases.filter(|case| wanted(&P::text(case))) {
        let (expected, found) = (P::ask(peer, &case)?, P::ask(other, &case)?);
        let unstable = || Ok::<_, anyhow::Error>(P::difference(&case, &expected, &P::ask(peer, &case)?).is_some());
        if P::is_breakdown(&expected) || P::difference(&case, &expected, &found).is_some() && unstable()? {
            continue;
        }
        tally.add::<P>(&case, &expected, &found);
    }
    Ok(tally)
}

/// What came of the asking.
#[derive(Default)]
pub struct Tally {
    /// How many questions were asked.
    pub asked: usize,
    /// The differences, each with its question.
    pub differences: Vec<String>,
    reworded: BTreeMap<(String, String), (usize, String)>,
}

impl Tally {
    fn add<P: Peer>(&mut self, case: &P::Case, expected: &Value, found: &Value) {
        self.asked += 1;
        if let Some(why) = P::difference(case, expected, found) {
            self.differences.push(format!("{}\n    {why}", P::text(case)));
        } else if P::error(expected) != P::error(found) {
            let words = (P::error(expected).to_owned(), P::error(found).to_owned());
            self.reworded.entry(words).or_insert_with(|| (0, P::text(case))).0 += 1;
        }
    }

    /// Prints everything; an error if there was a difference.
    pub fn report(self) -> Result<()> {
        for difference in &self.differences {
            println!("DIFFER {difference}");
        }
        for ((expected, found), (times, text)) in &self.reworded {
            println!("REWORDED {times}x {text}\n    {expected}\n    {found}");
        }
        println!(
            "{} asked, {} differ, {} errors in other words",
            self.asked,
            self.differences.len(),
            self.reworded.len()
        );
        ensure!(self.differences.is_empty(), "the answers differ");
        Ok(())
    }
}
