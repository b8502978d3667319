//! Questions to the three APIs, as a script asks them, and waiting for an answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{Trilobite, get};

/// How long an answer may take to become what it should be: long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Trilobite {
    /// The result of an instant query.
    pub fn promql(&self, query: &str) -> Result<Value> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        result(query, &get(self.prometheus(), &path)?)
    }

    /// The value of the only series of an instant query, if there is one.
    pub fn promql_value(&self, query: &str) -> Option<String> {
        let result = self.promql(query).ok()?;
        let series = result.as_array().filter(|r| r.len() == 1)?;
        series[0]["value"][1].as_str().map(str::to_owned)
    }

    /// The result of a log or metric query over the last hour.
    pub fn logql(&self, query: &str) -> Result<Value> {
        let path = format!("/loki/api/v1/query_range?limit=1000&query={}", encoded(query));
        result(query, &get(self.loki(), &path)?)
    }

    /// The lines that a log query finds, of all streams.
    pub fn lines(&self, query: &str) -> Result<Vec<String>> {
        let streams = self.logql(query)?;
        let entries = streams.as_array().into_iter().flatten();
        let entries = entries.flat_map(|s| s["values"].as_array().cloned().unwrap_or_default());
        Ok(entries.filter_map(|e| e[1].as_str().map(str::to_owned)).collect())
    }

    /// The traces that a TraceQL query finds.
    pub fn traceql(&self, query: &str) -> Result<Vec<Value>> {
        let answer = get(self.tempo(), &format!("/api/search?q={}", encoded(query)))?;
        ensure!(answer.status == 200, "{query}: {} {}", answer.status, answer.text());
        Ok(answer.json()["traces"].as_array().cloned().unwrap_or_default())
    }
}

fn result(query: &str, answer: &crate::Answer) -> Result<Value> {
    ensure!(answer.status == 200, "{query}: {} {}", answer.status, answer.text());
    Ok(answer.json()["data"]["result"].take())
}

/// Text as it stands in a URL's query: every byte escaped.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within a minute; `what` says of what.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
