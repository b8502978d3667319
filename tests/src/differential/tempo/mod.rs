//! Tempo: spans by OTLP/HTTP, questions to its HTTP API.
//!
//! [`traces`] makes the spans, [`cases`] the questions: written ones that say what they are about, and generated ones over the
//! whole grammar ([`grammar`]). Tempo shows what it was sent to every endpoint once its block is complete, so that a fresh
//! one is written to first and asked a minute later (`again`).
//!
//! What Tempo leaves open is asked so that there is one answer: limits lie above what matches, and spansets are shown whole.
//! Where Tempo errs, [`exceptions`] says so.

mod answer;
mod case;
mod cases;
mod exceptions;
mod grammar;
mod traces;

use anyhow::{Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use serde_json::Value;

use super::{FNV_START, List, Peer, Server, fnv};
use crate::http::{post, request};
use crate::{get, repository};
pub use case::Case;

/// When the traces begin: midnight UTC.
const T0_MS: i64 = 1_748_736_000_000;

/// The peer.
pub struct Tempo;

impl Peer for Tempo {
    type Case = Case;

    const SEED: u64 = 0x7_e3b0;

    fn version(server: Server) -> Result<String> {
        let build = get(server.api, "/api/status/buildinfo")?.json();
        Ok(format!("Tempo {} {}", build["version"], build["revision"]))
    }

    fn write(server: Server, seed: u64) -> Result<()> {
        // One wave after the other: what comes late is part of the data.
        for wave in traces::traces(seed) {
            for part in wave.resource_spans.chunks(200) {
                let body = ExportTraceServiceRequest {
                    resource_spans: part.to_vec(),
                };
                let body = body.encode_to_vec();
                let answer = post(server.ingest, "/v1/traces", "application/x-protobuf", &body)?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
            }
        }
        Ok(())
    }

    fn checksum(seed: u64) -> u64 {
        let waves = traces::traces(seed);
        waves
            .iter()
            .fold(FNV_START, |hash, wave| fnv(hash, &wave.encode_to_vec()))
    }

    fn lists(seed: u64) -> Result<Vec<List<Case>>> {
        Ok(vec![List {
            path: repository().join("tests/testdata/differential_tempo_v1.zst"),
            answer_bytes_max: 120_000,
            row: Case::row,
            cases: cases::cases(seed),
        }])
    }

    fn text(case: &Case) -> String {
        case.text()
    }

    fn case(row: &[Value]) -> Result<Option<Case>> {
        let case = Case::of_row(row)?;
        Ok(Some(case).filter(Case::is_compared))
    }

    fn ask(server: Server, case: &Case) -> Result<Value> {
        let headers: &[(&str, &str)] = match case.protobuf {
            true => &[("Accept", "application/protobuf")],
            false => &[],
        };
        let answer = request(server.api, "GET", &case.path(), headers, b"")?;
        Ok(answer::answer(case, &answer))
    }

    fn difference(_: &Case, expected: &Value, found: &Value) -> Option<String> {
        answer::difference(expected, found)
    }

    fn error(answer: &Value) -> &str {
        answer::error(answer)
    }

    fn is_empty(answer: &Value) -> bool {
        answer::is_empty(answer)
    }

    fn is_breakdown(answer: &Value) -> bool {
        answer::status(answer) >= 500
    }
}
