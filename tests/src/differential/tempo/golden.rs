//! What a real Tempo answered: a zstd-compressed file of JSON lines.
//!
//! ```text
//! {"version":1, "seed":s, "data":checksum, "server":"…"}
//! [endpoint, [[parameter, value]*], protobuf, answer]*
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::answer::Answer;
use super::cases::Case;
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
    /// What was asked, and what was said.
    pub cases: Vec<(Case, Answer)>,
}

/// Where it is kept.
pub fn golden_file() -> PathBuf {
    repository().join("tests/testdata/differential_tempo_v1.zst")
}

impl Golden {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let head = json!({"version": 1, "seed": self.seed, "data": self.data, "server": self.server});
        let mut text = head.to_string();
        for (case, answer) in &self.cases {
            text.push('\n');
            let line = json!([case.endpoint, case.parameters, case.protobuf, answer.0]);
            text.push_str(&line.to_string());
        }
        let packed = zstd::stream::encode_all(text.as_bytes(), 19)?;
        std::fs::write(path, packed).with_context(|| path.display().to_string())
    }

    /// Reads a file; what has become an exception since is left out.
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
            let mut line: Value = serde_json::from_str(line)?;
            let answer = Answer(line[3].take());
            let parameters = serde_json::from_value(line[1].take())?;
            let case = Case {
                endpoint: line[0].as_str().context("no endpoint")?.to_owned(),
                parameters,
                protobuf: line[2] == true,
            };
            Ok((case, answer))
        });
        Ok(Golden {
            seed: head["seed"].as_u64().context("no seed")?,
            data: head["data"].as_u64().context("no checksum of the data")?,
            server: head["server"].as_str().unwrap_or_default().to_owned(),
            cases: cases
                .filter(|one: &Result<(Case, Answer)>| one.as_ref().map_or(true, |(case, _)| case.is_compared()))
                .collect::<Result<_>>()?,
        })
    }
}
