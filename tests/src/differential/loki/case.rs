//! A question to the API: an endpoint and its parameters.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{LENGTH_NS, T0_NS};
use crate::differential::random::Random;
use crate::escaped;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Below `/loki/api/v1/`.
    pub endpoint: String,
    /// Name and value, unescaped.
    pub parameters: Vec<(String, String)>,
    /// Whether structured metadata and parsed labels are wanted apart.
    pub is_categorized: bool,
}

/// How a log query is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Backward,
    Forward,
    Categorized,
}

const MINUTE: i64 = 60_000_000_000;

impl Case {
    /// Any question.
    pub(crate) fn of(endpoint: &str, parameters: &[(&str, &str)]) -> Case {
        Case {
            endpoint: endpoint.to_owned(),
            parameters: parameters.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            is_categorized: false,
        }
    }

    /// A log query over some of the data.
    pub(crate) fn log(query: String, shape: Shape, r: &mut Random) -> Case {
        let (from, to) = [(0, 40), (5, 35), (10, 20), (0, 60)][r.below(4) as usize];
        let limit = r.pick(&["20", "20", "7", "60", "1"]);
        let mut case = Case::between("query_range", &query, T0_NS + from * MINUTE, T0_NS + to * MINUTE);
        case.parameters.push(("limit".into(), limit.into()));
        if shape == Shape::Forward {
            case.parameters.push(("direction".into(), "forward".into()));
        }
        case.is_categorized = shape == Shape::Categorized;
        case
    }

    /// A log query over all of the data.
    pub(crate) fn all(query: String) -> Case {
        let mut case = Case::between("query_range", &query, T0_NS, T0_NS + LENGTH_NS);
        case.parameters.push(("limit".into(), "1000".into()));
        case
    }

    /// A query at a time.
    pub(crate) fn instant(query: String, r: &mut Random) -> Case {
        let at = T0_NS + [10, 20, 30, 40][r.below(4) as usize] * MINUTE;
        Case::of("query", &[("query", &query), ("time", &at.to_string())])
    }

    /// A metric query over steps.
    pub(crate) fn range(query: String, r: &mut Random) -> Case {
        let (from, to, step) = [
            (0, 40, "5m"),
            (10, 30, "150"),
            (5, 20, "1m"),
            (0, 60, "10m"),
            (3, 17, "7m"),
        ][r.below(5) as usize];
        let mut case = Case::between("query_range", &query, T0_NS + from * MINUTE, T0_NS + to * MINUTE);
        case.parameters.push(("step".into(), step.into()));
        case
    }

    /// A query to be made pretty.
    pub(crate) fn format(query: String) -> Case {
        Case::of("format_query", &[("query", &query)])
    }

    /// Between two instants (ns).
    pub(crate) fn between(endpoint: &str, query: &str, start: i64, end: i64) -> Case {
        let (start, end) = (start.to_string(), end.to_string());
        Case::of(endpoint, &[("query", query), ("start", &start), ("end", &end)])
    }

    /// A parameter's value, empty if it is absent.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// Path and query string.
    pub(crate) fn target(&self) -> String {
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|(n, v)| format!("{}={}", escaped(n), escaped(v)))
            .collect();
        format!("/loki/api/v1/{}?{}", self.endpoint, parameters.join("&"))
    }

    /// As a row of the golden file.
    pub(crate) fn row(&self) -> Vec<Value> {
        let flat: Vec<&String> = self.parameters.iter().flat_map(|(n, v)| [n, v]).collect();
        vec![json!(self.endpoint), json!(flat), json!(u8::from(self.is_categorized))]
    }

    /// Of a row.
    pub(crate) fn of_row(row: &[Value]) -> Result<Case> {
        let [Value::String(endpoint), Value::Array(flat), categorized] = row else {
            anyhow::bail!("not a question: {row:?}");
        };
        let flat = flat
            .iter()
            .map(|v| v.as_str().map(str::to_owned).context("a parameter is no text"));
        let flat = flat.collect::<Result<Vec<String>>>()?;
        ensure!(flat.len() % 2 == 0, "a parameter without value");
        Ok(Case {
            endpoint: endpoint.clone(),
            parameters: flat.chunks_exact(2).map(|p| (p[0].clone(), p[1].clone())).collect(),
            is_categorized: categorized == 1,
        })
    }
}
