//! The differential test: the same data and the same queries for a real peer and for us, and no difference between the
//! answers beyond float noise.
//!
//! A [`Peer`] makes data and questions from a seed, so that every machine makes the same, and knows when two answers are
//! the same. [`record`] keeps what a real one answered as a golden file; [`replay`] puts the file's questions to any
//! server, [`compare`] asks two servers. `tests/tests/differential.rs` replays against the real binary,
//! `tests/src/bin/differential.rs` does all three against live servers.

mod golden;
pub mod loki;
mod noise;
pub mod prometheus;
mod random;
mod run;
pub mod tempo;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde_json::Value;

pub use golden::{Golden, Recorded};
pub use loki::Loki;
pub use prometheus::Prometheus;
pub use run::{Tally, compare, record, replay};
pub use tempo::Tempo;

/// A system whose answers ours must equal.
pub trait Peer {
    /// One question.
    type Case: Clone + Debug;

    /// The seed of the recorded run.
    const SEED: u64;

    /// Which release answers, for the golden file.
    fn version(server: Server) -> Result<String>;
    /// Sends the data; an error if any of it was refused, which keeps nothing else from being sent.
    fn write(server: Server, seed: u64) -> Result<()>;
    /// A checksum of the data: whether it is what was recorded.
    fn checksum(seed: u64) -> u64;
    /// The golden files, and the questions that each holds.
    fn lists(seed: u64) -> Result<Vec<List<Self::Case>>>;
    /// The question's own words, for the reader of a report.
    fn text(case: &Self::Case) -> String;
    /// Reads what a list's `row` wrote. `None`: the question is not kept here and cannot be asked.
    fn case(row: &[Value]) -> Result<Option<Self::Case>>;
    /// Asks.
    fn ask(server: Server, case: &Self::Case) -> Result<Value>;
    /// How `found` differs from `expected`; `None` if it does not.
    fn difference(case: &Self::Case, expected: &Value, found: &Value) -> Option<String>;
    /// An answer's error, empty if it is none. Two that are no difference may still be worded otherwise.
    fn error(answer: &Value) -> &str;
    /// Whether nothing was found.
    fn is_empty(answer: &Value) -> bool;
    /// Whether the peer broke down over the question, so that there is nothing to compare with.
    fn is_breakdown(answer: &Value) -> bool;
}

/// A golden file and its questions.
pub struct List<Case> {
    /// Where it is.
    pub path: PathBuf,
    /// Longer answers are not worth their place in the file (bytes).
    pub answer_bytes_max: usize,
    /// The question as elements of a row of the file.
    pub row: fn(&Case) -> Vec<Value>,
    /// In the order in which they are asked.
    pub cases: Vec<Case>,
}

/// Where a server takes questions and where it takes data. As text `ADDR`, or `API+INGEST`.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The query API.
    pub api: SocketAddr,
    /// Where data comes in.
    pub ingest: SocketAddr,
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Server> {
        let addr = |part: &str| part.parse().with_context(|| format!("{part:?} is no address"));
        let (api, ingest) = text.split_once('+').unwrap_or((text, text));
        Ok(Server {
            api: addr(api)?,
            ingest: addr(ingest)?,
        })
    }
}

/// The 64-bit FNV-1a hash.
pub(crate) fn fnv(start: u64, bytes: &[u8]) -> u64 {
    (bytes.iter()).fold(start, |hash, b| {
        (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Where [`fnv`] starts.
pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
