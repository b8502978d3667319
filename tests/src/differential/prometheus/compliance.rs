//! The compliance list: queries to compare with a real server. Read from the shared corpus beside the checkout, or from a
//! folder named in `PROMQL_CORPUS`; without it there are no cases.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::queries::Case;
use super::{T0_MS, key};
use crate::repository;

#[derive(Deserialize)]
struct List {
    variants: BTreeMap<String, Vec<String>>,
    test_cases: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    query: String,
    #[serde(default)]
    variant_args: Vec<String>,
}

/// Ten minutes at ten seconds, and an hour of data before them.
const START_MS: i64 = T0_MS + 4_000_000;

/// Every case of the list, its placeholders replaced.
pub(crate) fn compliance_cases() -> Result<Vec<Case>> {
    let named = std::env::var("PROMQL_CORPUS").unwrap_or_default();
    let folders = std::iter::once(repository().join("../shared/corpus/promql"))
        .chain(named.split(':').filter(|f| !f.is_empty()).map(PathBuf::from));
    let Some(file) = folders.map(|f| f.join("compliance-queries.yaml")).find(|f| f.exists()) else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let list: List = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
    let expanded = list.test_cases.iter().flat_map(|entry| expand(entry, &list.variants));
    Ok(expanded
        .map(|query| Case {
            query,
            start_ms: START_MS,
            end_ms: START_MS + 600_000,
            step_ms: 60_000,
        })
        .collect())
}

/// The query with this checksum, if the list is there and has it.
pub(crate) fn text(checksum: u64) -> Option<String> {
    static TEXTS: LazyLock<BTreeMap<u64, String>> = LazyLock::new(|| {
        let cases = compliance_cases().unwrap_or_default();
        cases.into_iter().map(|case| (key(&case.query), case.query)).collect()
    });
    TEXTS.get(&checksum).cloned()
}

fn expand(entry: &Entry, variants: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut queries = vec![entry.query.clone()];
    for name in &entry.variant_args {
        let hole = format!("{{{{.{name}}}}}");
        let values = variants.get(name).map(Vec::as_slice).unwrap_or_default();
        queries = (queries.iter())
            .flat_map(|q| values.iter().map(|v| q.replace(&hole, v)))
            .collect();
    }
    queries
}
