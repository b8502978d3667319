//! What a real peer answered: a zstd-compressed file of JSON lines.
//!
//! ```text
//! {"version":1, "seed":s, "data":checksum, "server":"…"}
//! [question…, answer]*
//! ```
//!
//! The checksum is the data's before compression: answers without their data say nothing. What a question's elements are
//! is the peer's business; Prometheus' are the query or its checksum, start, end and step (ms).

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A golden file's content.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What made data and questions.
    pub seed: u64,
    /// Checksum of the data.
    pub data: u64,
    /// Who answered.
    pub server: String,
    /// In the order in which they were asked.
    pub recorded: Vec<Recorded>,
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The question's elements.
    pub row: Vec<Value>,
    /// What the peer said.
    pub answer: Value,
}

impl Golden {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let head = json!({"version": 1, "seed": self.seed, "data": self.data, "server": self.server});
        let mut text = head.to_string();
        for one in &self.recorded {
            let line: Vec<&Value> = one.row.iter().chain([&one.answer]).collect();
            text.push('\n');
            text.push_str(&serde_json::to_string(&line)?);
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
        let recorded = lines.map(|line| {
            let mut row: Vec<Value> = serde_json::from_str(line)?;
            let answer = row.pop().context("an empty line")?;
            Ok(Recorded { row, answer })
        });
        Ok(Golden {
            seed: head["seed"].as_u64().context("no seed")?,
            data: head["data"].as_u64().context("no checksum of the data")?,
            server: head["server"].as_str().unwrap_or_default().to_owned(),
            recorded: recorded.collect::<Result<_>>()?,
        })
    }
}
