//! The same traces and the same questions for Tempo and for us, and no difference between the answers.
//!
//! [`traces`] makes the spans, [`cases`] the questions: written ones that say what they are about, and generated ones over the
//! whole grammar ([`grammar`]). [`send`] brings the spans by OTLP/HTTP to either server, [`ask`] puts a case to it,
//! [`difference`] compares two answers. [`Golden`] keeps what a real Tempo answered: `tests/tests/differential_tempo.rs`
//! compares with it, `tests/src/bin/differential_tempo.rs` records it and compares live servers.
//!
//! What Tempo leaves open is asked so that there is one answer: limits lie above what matches, and spansets are shown whole. Where Tempo errs, [`exceptions`] says so.

mod answer;
mod cases;
mod exceptions;
mod golden;
mod grammar;
mod server;
mod traces;

pub use answer::{Answer, difference};
pub use cases::{Case, cases};
pub use golden::{Golden, golden_file};
pub use server::{ask, checksum, send};
pub use traces::{span_id, trace_id, traces};

/// When the traces begin: midnight UTC.
const T0_MS: i64 = 1_748_736_000_000;
/// The seed of the recorded run.
pub const SEED: u64 = 0x7_e3b0;
