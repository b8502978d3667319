//! What a real Tempo answered, in the file that all peers' answers are kept in ([`golden`]). A question is
//! `endpoint, [[parameter, value]*], protobuf`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::answer::Answer;
use super::cases::Case;
use crate::differential::golden::{self, Recorded};
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
        let recorded = self.cases.iter().map(|(case, answer)| Recorded {
            row: vec![json!(case.endpoint), json!(case.parameters), json!(case.protobuf)],
            answer: answer.0.clone(),
        });
        let file = golden::Golden {
            seed: self.seed,
            data: self.data,
            server: self.server.clone(),
            recorded: recorded.collect(),
        };
        file.write(path)
    }

    /// Reads a file; what has become an exception since is left out.
    pub fn read(path: &Path) -> Result<Golden> {
        let file = golden::Golden::read(path)?;
        let mut cases = Vec::with_capacity(file.recorded.len());
        for Recorded { row, answer } in file.recorded {
            let [endpoint, parameters, protobuf] = &row[..] else {
                bail!("{}: a case of {} elements, not 3", path.display(), row.len());
            };
            let case = Case {
                endpoint: endpoint.as_str().context("no endpoint")?.to_owned(),
                parameters: serde_json::from_value(parameters.clone())?,
                protobuf: *protobuf == true,
            };
            if case.is_compared() {
                cases.push((case, Answer(answer)));
            }
        }
        Ok(Golden {
            seed: file.seed,
            data: file.data,
            server: file.server,
            cases,
        })
    }
}
