//! A question to the API: a path, its parameters, and how the answer is wanted.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::exceptions::{exception, exception_of_path};
use crate::escaped;

/// One question, as it is put by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The path.
    pub endpoint: String,
    /// Names and values, in order.
    pub parameters: Vec<(String, String)>,
    /// Whether protobuf is asked for.
    pub protobuf: bool,
}

impl Case {
    pub(super) fn get(endpoint: &str, parameters: &[(&str, &str)]) -> Case {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Case {
            endpoint: endpoint.to_owned(),
            parameters: parameters.iter().map(own).collect(),
            protobuf: false,
        }
    }

    /// Whether no exception keeps it from being asked.
    pub(super) fn is_compared(&self) -> bool {
        let query = self.parameters.iter().find(|(name, _)| name == "q");
        query.is_none_or(|(_, q)| exception(q).is_none())
            && exception_of_path(&self.endpoint, &self.parameters).is_none()
    }

    /// Path and query string.
    pub(super) fn path(&self) -> String {
        let mut path = self.endpoint.clone();
        for (n, (name, value)) in self.parameters.iter().enumerate() {
            path.push(if n == 0 { '?' } else { '&' });
            path.push_str(name);
            path.push('=');
            path.push_str(&escaped(value));
        }
        path
    }

    /// As a report shows it.
    pub(super) fn text(&self) -> String {
        let mut text = self.endpoint.clone();
        for (name, value) in &self.parameters {
            let _ = write!(text, " {name}={value}");
        }
        if self.protobuf {
            text.push_str(" (protobuf)");
        }
        text
    }

    /// As a row of the golden file: endpoint, parameters as pairs, protobuf.
    pub(super) fn row(&self) -> Vec<Value> {
        vec![json!(self.endpoint), json!(self.parameters), json!(self.protobuf)]
    }

    /// Of a row.
    pub(super) fn of_row(row: &[Value]) -> Result<Case> {
        let [endpoint, parameters, protobuf] = row else {
            bail!("a question of {} elements, not 3", row.len());
        };
        Ok(Case {
            endpoint: endpoint.as_str().context("no endpoint")?.to_owned(),
            parameters: serde_json::from_value(parameters.clone())?,
            protobuf: *protobuf == true,
        })
    }
}
