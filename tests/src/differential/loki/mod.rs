//! Loki: entries by its push API and OTLP, questions to its HTTP API. `loki.yaml` is how the recorded one was set up.
//!
//! Not compared, because they are Loki's accidents: the time of a scalar (it overflows between Loki's parts), sizes that
//! its printing rounds (`1.5MiB`), figures of volumes and index statistics (what its store holds), the types of detected
//! fields (guessed anew for every stream), and which of them are told when there are more than the limit.
//!
//! Where these differ the recording leaves them out, for no answer is better than the other:
//! - means and sums of values near 1e308: whether they overflow hangs on the order of adding;
//! - `json x=""` and `logfmt x=""`: Loki refuses them here, its own cases take them;
//! - how a chain of `and`s nests in formatted text: commas bind to the right there, which means the same;
//! - `sum without (…)` over labels that are there and empty: Loki has two series of one name then.

mod answer;
mod case;
mod data;
mod endpoints;
mod queries;
mod vocabulary;
mod wire;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{FNV_START, List, Peer, Server, fnv};
use crate::{get, repository, request};
pub use case::Case;

/// When the data begins.
const T0_NS: i64 = 1_748_736_000_000_000_000;
/// How long it goes on.
const LENGTH_NS: i64 = 2_400_000_000_000;

/// The peer.
pub struct Loki;

impl Peer for Loki {
    type Case = Case;

    const SEED: u64 = 0x10c1_0b17e;

    fn version(server: Server) -> Result<String> {
        let build = get(server.api, "/loki/api/v1/status/buildinfo")?.json();
        let text = |name: &str| build[name].as_str().unwrap_or_default().to_owned();
        Ok(format!("Loki {} {}", text("version"), text("revision")))
    }

    fn write(server: Server, seed: u64) -> Result<()> {
        let mut refused = String::new();
        for push in wire::pushes(&data::dataset(seed), seed) {
            let body = match push.is_snappy {
                true => snap::raw::Encoder::new().compress_vec(&push.body)?,
                false => push.body,
            };
            let answer = request(
                server.ingest,
                "POST",
                push.path,
                &[("Content-Type", push.content_type)],
                &body,
            )?;
            if answer.status / 100 != 2 {
                refused = format!("{}: {} {}", push.path, answer.status, answer.text());
            }
        }
        ensure!(refused.is_empty(), "{refused}");
        Ok(())
    }

    fn checksum(seed: u64) -> u64 {
        let pushes = wire::pushes(&data::dataset(seed), seed);
        pushes.iter().fold(FNV_START, |hash, push| fnv(hash, &push.body))
    }

    fn lists(seed: u64) -> Result<Vec<List<Case>>> {
        Ok(vec![List {
            path: repository().join("tests/testdata/differential_loki_v1.zst"),
            answer_bytes_max: 6_000,
            row: Case::row,
            cases: queries::cases(seed),
        }])
    }

    fn text(case: &Case) -> String {
        let flag = if case.is_categorized { " categorized" } else { "" };
        let shown = case.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        format!("{}{flag} {}", case.endpoint, shown.collect::<Vec<_>>().join(" "))
    }

    fn case(row: &[Value]) -> Result<Option<Case>> {
        Case::of_row(row).map(Some)
    }

    fn ask(server: Server, case: &Case) -> Result<Value> {
        let flags: &[(&str, &str)] = match case.is_categorized {
            true => &[("X-Loki-Response-Encoding-Flags", "categorize-labels")],
            false => &[],
        };
        // Who breaks the connection or says nothing has answered, too.
        Ok(match request(server.api, "GET", &case.target(), flags, b"") {
            Ok(answer) => answer::answer(case, &answer),
            Err(error) => json!({"e": 599, "m": format!("{error:#}")}),
        })
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
        answer["e"] == 599 || Loki::error(answer).contains("panic")
    }
}
