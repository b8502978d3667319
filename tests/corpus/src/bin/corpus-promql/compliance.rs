//! `compliance-queries.yaml`: queries without expected answers. They are put to two ways of our own, a range and its
//! steps one by one, and what the list says must fail has to fail.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use model::{LabelSet, TimestampMs};
use query_promql::{Query, Value as Answer};
use query_rules::notation::Value;
use serde::Deserialize;

use crate::script::Load;
use crate::store::Store;
use crate::{OPTIONS, context};

#[derive(Deserialize)]
struct List {
    variants: BTreeMap<String, Vec<String>>,
    test_cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    query: String,
    #[serde(default)]
    variant_args: Vec<String>,
    #[serde(default)]
    should_fail: bool,
}

const STEP: i64 = 10_000;
/// The first step; data begins an hour and a half before it and goes on after the last.
const START: i64 = 5_400_000;
const END: i64 = START + 600_000;

/// Names every query whose two answers differ; an error if there is one.
pub fn run(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let list: List = serde_saphyr::from_str(&text).with_context(|| file.display().to_string())?;
    let mut store = Store::new()?;
    store.load(demo());
    let mut bad = 0;
    for case in &list.test_cases {
        for query in expand(case, &list.variants) {
            if let Err(e) = both_ways(&mut store, &query, case.should_fail) {
                bad += 1;
                eprintln!("DIFFER promql {query}: {e:#}");
            }
        }
    }
    ensure!(
        bad == 0,
        "{}: {bad} queries are not answered alike both ways",
        file.display()
    );
    Ok(())
}

fn expand(case: &Case, variants: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut queries = vec![case.query.clone()];
    for name in &case.variant_args {
        let hole = format!("{{{{.{name}}}}}");
        let values = variants.get(name).map(Vec::as_slice).unwrap_or_default();
        queries = queries
            .iter()
            .flat_map(|q| values.iter().map(|v| q.replace(&hole, v)))
            .collect();
    }
    queries
}

fn both_ways(store: &mut Store, text: &str, should_fail: bool) -> anyhow::Result<()> {
    let metrics = store.metrics()?;
    let evaluated = Query::parse(text)
        .map_err(query_promql::EvalError::from)
        .and_then(|query| {
            let output = query.range(&context(), metrics, TimestampMs(START), TimestampMs(END), STEP, OPTIONS)?;
            Ok((query, output.value))
        });
    let (query, range) = match evaluated {
        Err(_) if should_fail => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok((query, Answer::Matrix(range))) => (query, range),
        Ok((_, other)) => anyhow::bail!("a range gives a matrix, not {other:?}"),
    };
    ensure!(!should_fail, "it should fail");
    for at in (START..=END).step_by(6 * STEP as usize) {
        let mut alone: Vec<(LabelSet, f64)> = match query.instant(&context(), metrics, TimestampMs(at), OPTIONS)?.value
        {
            Answer::Scalar(_, v) => vec![(LabelSet::empty(), v)],
            Answer::Vector(v) => v.into_iter().map(|s| (s.labels, s.points[0].1)).collect(),
            other => anyhow::bail!("an instant gives no {other:?}"),
        };
        alone.sort_by(|a, b| a.0.cmp(&b.0));
        let step: Vec<(LabelSet, f64)> = range
            .iter()
            .filter_map(|s| Some((s.labels.clone(), s.points.iter().find(|p| p.0.0 == at)?.1)))
            .collect();
        let alike = alone.len() == step.len() && (alone.iter().zip(&step)).all(|(a, b)| a.0 == b.0 && close(a.1, b.1));
        ensure!(alike, "at {at} ms the range says {step:?}, the instant {alone:?}");
    }
    Ok(())
}

/// Equal but for the rounding of sums over long windows.
fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

/// Two hours of the metrics that the list asks for, a sample every 15 s.
fn demo() -> Load {
    let mut series = Vec::new();
    let mut add = |labels: &[(&str, &str)], value: &dyn Fn(i64) -> Option<f64>| {
        let values = (0..480).map(|k| value(k).map_or(Value::None, Value::Float)).collect();
        series.push((LabelSet::from_pairs(labels.iter().copied()), values));
    };
    for (i, port) in ["10000", "10001", "10002"].into_iter().enumerate() {
        let instance = format!("demo.promlabs.com:{port}");
        let i = i as i64;
        let on = |name: &'static str| vec![("__name__", name), ("instance", instance.as_str()), ("job", "demo")];
        add(&on("demo_num_cpus"), &|_| Some(4.0));
        for (j, kind) in ["free", "used", "cached", "buffers"].into_iter().enumerate() {
            let mut labels = on("demo_memory_usage_bytes");
            labels.push(("type", kind));
            let j = j as i64;
            add(&labels, &|k| {
                Some(((k * 7919 + i * 131 + j * 17) % 1009) as f64 * 1e6 + j as f64 * 1e8)
            });
        }
        add(&on("demo_intermittent_metric"), &|k| (k % 37 < 11).then_some(k as f64));
    }
    Load {
        step_ms: 15_000,
        series,
        ..Load::default()
    }
}
