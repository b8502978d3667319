//! What a real Prometheus answered: a zstd-compressed file of JSON lines.
//!
//! ```text
//! {"version":1, "seed":s, "data":checksum, "server":"…"}
//! [query or its checksum, start ms, end ms, step ms, answer]*
//! ```
//!
//! The checksum is the data's before compression: answers without their data say nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::answer::Answer;
use super::queries::Case;
use crate::repository;

/// A golden file's content.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What made data and queries.
    pub seed: u64,
    /// Checksum of the data.
    pub data: u64,
    /// Who answered.
    pub server: String,
    /// The cases in the order in which they were asked.
    pub cases: Vec<Recorded>,
}

/// A case and its answer.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What was asked; the query is empty where only its checksum is kept.
    pub case: Case,
    /// The checksum of the query's text.
    pub key: u64,
    /// What Prometheus said.
    pub answer: Answer,
}

/// The golden files: of the generated queries, and of the compliance list.
pub fn golden_files() -> [PathBuf; 2] {
    ["differential_v1.zst", "differential_compliance_v1.zst"].map(|name| repository().join("tests/testdata").join(name))
}

/// A query's checksum.
pub(crate) fn key(query: &str) -> u64 {
    (query.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Recorded {
    /// Of a case and its answer.
    pub fn new(case: Case, answer: Answer) -> Recorded {
        let key = key(&case.query);
        Recorded { case, key, answer }
    }
}

impl Golden {
    /// Writes the file. `texts` says whether queries are kept as text, or by checksum.
    pub fn write(&self, path: &Path, texts: bool) -> Result<()> {
        let head = json!({"version": 1, "seed": self.seed, "data": self.data, "server": self.server});
        let mut text = head.to_string();
        for one in &self.cases {
            let query = if texts { json!(one.case.query) } else { json!(one.key) };
            let Case {
                start_ms,
                end_ms,
                step_ms,
                ..
            } = one.case;
            text.push('\n');
            text.push_str(&json!([query, start_ms, end_ms, step_ms, one.answer.0]).to_string());
        }
        let packed = zstd::stream::encode_all(text.as_bytes(), 19)?;
        std::fs::write(path, packed).with_context(|| path.display().to_string())
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Golden> {
        let packed = std::fs::read(path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8(zstd::stream::decode_all(&packed[..])?)?;
        let mut lines = text.lines();
        let head: Value = serde_json::from_str(lines.next().unwrap_or_default())?;
        ensure!(
            head["version"] == 1,
            "{}: version {}, this test reads 1",
            path.display(),
            head["version"]
        );
        let cases = lines.map(|line| {
            let line: Value = serde_json::from_str(line)?;
            let number = |i: usize| line[i].as_i64().context("a time is missing");
            let query = line[0].as_str().unwrap_or_default().to_owned();
            let case = Case {
                start_ms: number(1)?,
                end_ms: number(2)?,
                step_ms: number(3)?,
                query,
            };
            let key = line[0].as_u64().unwrap_or_else(|| key(&case.query));
            Ok(Recorded {
                case,
                key,
                answer: Answer(line[4].clone()),
            })
        });
        Ok(Golden {
            seed: head["seed"].as_u64().context("no seed")?,
            data: head["data"].as_u64().context("no checksum of the data")?,
            server: head["server"].as_str().unwrap_or_default().to_owned(),
            cases: cases.collect::<Result<_>>()?,
        })
    }
}
