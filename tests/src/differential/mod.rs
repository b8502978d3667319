//! The differential test: the same data and the same queries for Prometheus and for us, and no difference between the
//! answers beyond float noise.
//!
//! [`dataset`] makes the series, [`cases`] the queries; both from a seed, so that every machine makes the same. [`write`]
//! sends the data by remote write 2.0 to any server, [`ask`] puts a case to it, [`difference`] compares two answers.
//! [`Golden`] keeps what a real Prometheus answered, so that the comparison repeats without one:
//! `tests/tests/differential.rs` does that, `tests/src/bin/differential.rs` records and compares live servers.
//!
//! The compliance list is not ours to keep: its cases are read from beside the checkout where it is, and the golden file
//! knows them by a checksum of their text.

mod answer;
mod compliance;
mod data;
mod golden;
mod queries;
mod random;
mod server;
mod wire;

pub use answer::{Answer, difference};
pub use compliance::compliance_cases;
pub use data::{Native, Sample, Series, dataset};
pub use golden::{Golden, Recorded, golden_files};
pub use queries::{Case, cases};
pub use server::{ask, write};
pub use wire::{checksum, requests};

/// When the data begins: midnight UTC, so that all of it lies in one of Prometheus' two-hour ranges.
pub const T0_MS: i64 = 1_748_736_000_000;
/// How long the data goes on.
pub const LENGTH_MS: i64 = 6_000_000;
/// The seed of the recorded run.
pub const SEED: u64 = 0x7219_0b17e;
