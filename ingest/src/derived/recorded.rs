//! Spans of every kind that matters here, and the series that a real Tempo's generator made of them: plain pairs in both orders,
//! messaging, databases under all their names, virtual nodes, spans that stay alone, failures, odd durations and names.
//!
//! Left out is what we do otherwise on purpose: services without a name have no node, lists are no names, and trace ids of
//! exemplars keep their zeros.

use std::collections::BTreeMap;

use base64::Engine;
use model::{LabelSet, METRIC_NAME, Span, TimestampNs, is_stale};
use serde::Deserialize;
use storage::Budget;

use super::{Derived, DerivedMetrics, Noted};

#[derive(Deserialize)]
struct Recorded {
    now_ns: i64,
    request: String,
    series: Vec<(String, BTreeMap<String, String>, String)>,
}

#[test]
fn spans_count_as_tempo_s_generator_counts_them() {
    let recorded = include_str!("../../testdata/derived_by_tempo_v1.json");
    let recorded: Recorded = serde_json::from_str(recorded).unwrap();
    let request = base64::engine::general_purpose::STANDARD.decode(&recorded.request);
    let options = DerivedMetrics {
        service_graphs_dimensions: Vec::new(),
        ..DerivedMetrics::default()
    };
    let at = |seconds: i64| TimestampNs(recorded.now_ns + seconds * 1_000_000_000);
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    let mut noted = Noted::at(at(1));
    let see = &mut |span: &Span| derived.note(&mut noted, span);
    crate::otlp::traces::decode(&request.unwrap(), 1 << 30, see).unwrap();
    derived.count(&noted);
    // What found no other side has expired by then.
    let mut got: BTreeMap<String, f64> = BTreeMap::new();
    for batch in [12, 30]
        .into_iter()
        .flat_map(|s| derived.collect(at(s), true).into_iter().flatten())
    {
        for (series, sample) in batch.samples().iter().filter(|(_, s)| !is_stale(s.v)) {
            let labels = LabelSet::from_encoded(batch.labels(*series).0).unwrap();
            got.insert(labels.to_string(), sample.v);
        }
    }
    let mut wrong = Vec::new();
    for (name, labels, value) in &recorded.series {
        let pairs = labels.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let labels = LabelSet::from_pairs(pairs.chain([(METRIC_NAME, name.as_str())])).to_string();
        let want: f64 = value.parse().unwrap();
        match got.remove(&labels) {
            Some(v) if (v - want).abs() <= 1e-9 * want.abs() => {}
            other => wrong.push(format!("{labels}: {other:?}, Tempo has {want}")),
        }
    }
    got.retain(|labels, _| !labels.contains("_bucket\""));
    wrong.extend(got.keys().map(|labels| format!("{labels}: Tempo has no such series")));
    assert!(recorded.series.len() > 300, "{}", recorded.series.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
