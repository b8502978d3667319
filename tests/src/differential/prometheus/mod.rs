//! Prometheus: series by remote write 2.0, queries over its API.
//!
//! The compliance list is not ours to keep: its cases are read from beside the checkout where it is, and the golden file
//! knows them by a checksum of their text.

mod answer;
mod compliance;
mod data;
mod queries;
mod server;
mod wire;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{FNV_START, List, Peer, Server, fnv};
use crate::{get, repository};
pub use queries::Case;

/// When the data begins: midnight UTC, so that all of it lies in one of Prometheus' two-hour ranges.
const T0_MS: i64 = 1_748_736_000_000;
/// How long the data goes on.
const LENGTH_MS: i64 = 6_000_000;

/// The peer.
pub struct Prometheus;

impl Peer for Prometheus {
    type Case = Case;

    const SEED: u64 = 0x7219_0b17e;

    fn version(server: Server) -> Result<String> {
        let build = get(server.api, "/api/v1/status/buildinfo")?.json();
        Ok(format!(
            "Prometheus {}",
            build["data"]["version"].as_str().unwrap_or("?")
        ))
    }

    fn write(server: Server, seed: u64) -> Result<()> {
        server::write(server.ingest, &data::dataset(seed))
    }

    fn checksum(seed: u64) -> u64 {
        wire::checksum(&data::dataset(seed))
    }

    fn lists(seed: u64) -> Result<Vec<List<Case>>> {
        let data = repository().join("tests/testdata");
        let generated = List {
            path: data.join("differential_v1.zst"),
            answer_bytes_max: 6_000,
            row: |case: &Case| row(json!(case.query), case),
            cases: queries::cases(seed),
        };
        let listed = List {
            path: data.join("differential_compliance_v1.zst"),
            answer_bytes_max: usize::MAX,
            row: |case: &Case| row(json!(key(&case.query)), case),
            cases: compliance::compliance_cases()?,
        };
        Ok(vec![generated, listed])
    }

    fn text(case: &Case) -> String {
        format!("{} [{} {} {}]", case.query, case.start_ms, case.end_ms, case.step_ms)
    }

    fn case(row: &[Value]) -> Result<Option<Case>> {
        let number = |i: usize| row.get(i).and_then(Value::as_i64).context("a time is missing");
        let query = match row.first() {
            Some(Value::String(query)) => query.clone(),
            Some(key) => match compliance::text(key.as_u64().context("neither query nor checksum")?) {
                Some(query) => query,
                None => return Ok(None),
            },
            None => anyhow::bail!("no query"),
        };
        Ok(Some(Case {
            query,
            start_ms: number(1)?,
            end_ms: number(2)?,
            step_ms: number(3)?,
        }))
    }

    fn ask(server: Server, case: &Case) -> Result<Value> {
        server::ask(server.api, case)
    }

    fn difference(case: &Case, expected: &Value, found: &Value) -> Option<String> {
        answer::difference(case, expected, found)
    }

    fn error(answer: &Value) -> &str {
        answer["m"].as_str().unwrap_or_default()
    }

    fn is_empty(answer: &Value) -> bool {
        answer["r"].as_array().is_some_and(Vec::is_empty)
    }

    fn is_breakdown(answer: &Value) -> bool {
        Prometheus::error(answer).starts_with("unexpected error")
    }
}

fn row(query: Value, case: &Case) -> Vec<Value> {
    vec![query, json!(case.start_ms), json!(case.end_ms), json!(case.step_ms)]
}

/// A query's checksum.
fn key(query: &str) -> u64 {
    fnv(FNV_START, query.as_bytes())
}
