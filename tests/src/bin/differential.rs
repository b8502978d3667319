//! Records what a real peer answers, and compares servers.
//!
//!     differential PEER record SERVER     writes the data to a fresh peer, asks, and writes the golden files
//!     differential PEER record SERVER B   the same, but leaves out, and prints, what B answers differently
//!     differential PEER replay SERVER     writes the data to any server, and compares its answers with the golden files
//!     differential PEER compare A B       writes the data to the peer A and to B, asks both, reports every difference
//!
//! PEER is `prometheus`, `loki` or `tempo`; a server is `ADDR`, or `API+INGEST` where data has a listener of its own. `again` before
//! the command leaves the writing out: the data is there. `QUERY=text` leaves out questions without the text, and
//! `QUERY_SEED=n` makes `compare` ask other questions than the recorded ones.

#![allow(clippy::print_stdout)] // a report is what it is for

use anyhow::{Result, bail};
use trilobite_tests::differential::{Loki, Peer, Prometheus, Server, Tempo, compare, record, replay};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("prometheus") => run::<Prometheus>(args.collect()),
        Some("loki") => run::<Loki>(args.collect()),
        Some("tempo") => run::<Tempo>(args.collect()),
        _ => bail!("usage: differential prometheus|loki|tempo [again] record|replay SERVER, or compare SERVER SERVER"),
    }
}

fn run<P: Peer>(mut args: Vec<String>) -> Result<()> {
    let again = args.first().is_some_and(|a| a == "again");
    if again {
        args.remove(0);
    }
    let servers = args.iter().skip(1).map(|a| a.parse());
    let servers = servers.collect::<Result<Vec<Server>>>()?;
    if !again {
        for server in &servers {
            if let Err(refused) = P::write(*server, P::SEED) {
                println!("{}: {refused}", server.ingest);
            }
        }
    }
    let text = std::env::var("QUERY").unwrap_or_default();
    let wanted = |query: &str| query.contains(&text);
    let seed = std::env::var("QUERY_SEED").ok().and_then(|s| s.parse().ok());
    match (args.first().map(String::as_str), &servers[..]) {
        (Some("record"), [server]) => record::<P>(*server, None),
        (Some("record"), [server, other]) => record::<P>(*server, Some(*other)),
        (Some("replay"), [server]) => replay::<P>(*server, wanted)?.report(),
        (Some("compare"), [a, b]) => compare::<P>(*a, *b, seed.unwrap_or(P::SEED), wanted)?.report(),
        _ => bail!("record and replay take one server, compare takes two"),
    }
}
