//! What a real Prometheus made of the same rules over the same series, instant by instant: recordings, alert states, when
//! series end, and errors. How it was recorded: `tests/clients/record_rules.py`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::{LabelSet, SampleBatch, TimestampMs, TimestampNs, stale_nan};
use query_exec::Context;
use query_promql::{Options, Query, Series, Value};
use query_rules::{Dialect, Group, Health, Notify, OutgoingAlert, Ruler, Settings, read_groups};
use serde_json::Value as Json;
use storage::{Storage, SyncMode};

/// Time and value, by labels.
type Points = BTreeMap<LabelSet, Vec<(i64, f64)>>;

#[derive(Default)]
struct Recorded {
    begin_ms: i64,
    end_ms: i64,
    /// What was remote-written.
    input: Points,
    /// What rules made of it, as it is stored.
    output: Points,
    /// What a range query finds of that.
    seen: Points,
    /// Group, name, query, health, last error.
    rules: Vec<[String; 5]>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn recorded() -> Recorded {
    let packed = std::fs::read(folder().join("as_prometheus_v1.zst")).unwrap();
    let text = String::from_utf8(zstd::stream::decode_all(&packed[..]).unwrap()).unwrap();
    let mut out = Recorded::default();
    for line in text.lines() {
        let row: Json = serde_json::from_str(line).unwrap();
        let points = |labels: &Json, points: &Json| {
            let labels = labels.as_object().unwrap().iter();
            let labels: LabelSet = labels.map(|(n, v)| (n, v.as_str().unwrap())).collect();
            let points = points.as_array().unwrap().iter();
            (
                labels,
                points.map(|p| (p[0].as_i64().unwrap(), number(&p[1]))).collect(),
            )
        };
        match row[0].as_str() {
            Some("in") => out.input.extend([points(&row[1], &row[2])]),
            Some("out") => out.output.extend([points(&row[1], &row[2])]),
            Some("seen") => out.seen.extend([points(&row[1], &row[2])]),
            Some("rule") => out
                .rules
                .push([1, 2, 3, 4, 5].map(|i| row[i].as_str().unwrap().to_owned())),
            _ => (out.begin_ms, out.end_ms) = (row["begin"].as_i64().unwrap(), row["end"].as_i64().unwrap()),
        }
    }
    out
}

fn number(json: &Json) -> f64 {
    match json.as_str() {
        Some("stale") => stale_nan(),
        Some("NaN") => f64::NAN,
        Some(text) => text.parse().unwrap(),
        None => json.as_f64().unwrap(),
    }
}

struct Nobody;

impl Notify for Nobody {
    fn notify(&self, _: Vec<OutgoingAlert>) {}
}

fn opened(dir: &Path) -> (Arc<Storage>, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(0));
    let clock = now.clone();
    let options = storage::Options {
        data_dir: dir.to_owned(),
        retention_metrics_ms: 1 << 50,
        retention_logs_ns: 1 << 60,
        retention_traces_ns: 1 << 60,
        retention_size: None,
        memory_limit: 1 << 30,
        free_disk_reserve: 0,
        wal_sync: SyncMode::Never,
    };
    let clock: storage::Clock = Arc::new(move || TimestampNs(clock.load(Ordering::Relaxed)));
    (Arc::new(Storage::open(options, clock).unwrap().0), now)
}

/// Each group at the instants at which Prometheus evaluated it: those of a rule in it that always answers.
async fn evaluate(storage: &Arc<Storage>, recorded: &Recorded, groups: &[Group]) -> Vec<Ruler> {
    let settings = Settings {
        external_labels: vec![("region".to_owned(), "here".to_owned())],
        external_url: "http://p:9090/x".to_owned(),
        ..Settings::default()
    };
    let mut rulers = Vec::new();
    for group in groups {
        let ruler = Ruler::new(storage.clone(), settings.clone(), Arc::new(Nobody));
        ruler.load(vec![group.clone()], recorded.begin_ms);
        let heartbeat = format!("evaluated:{}", group.name);
        let instants: BTreeSet<i64> = (recorded.output.iter())
            .filter(|(labels, _)| labels.metric_name() == heartbeat)
            .flat_map(|(_, points)| points.iter().map(|(t, _)| t + group.query_offset_ms.unwrap()))
            .collect();
        assert!(instants.len() > 30, "{heartbeat}: {}", instants.len());
        for t in instants {
            ruler.evaluate_all(t).await;
        }
        rulers.push(ruler);
    }
    rulers
}

fn ask(storage: &Storage, text: &str, recorded: &Recorded, step_ms: Option<i64>) -> Points {
    let context = Context::new(Duration::from_secs(60), Settings::default().limits);
    let query = Query::parse(text).unwrap();
    let output = match step_ms {
        None => query.instant(
            &context,
            storage.metrics(),
            TimestampMs(recorded.end_ms),
            Options::DEFAULT,
        ),
        Some(step) => {
            let (start, end) = (TimestampMs(recorded.begin_ms - 500), TimestampMs(recorded.end_ms - 500));
            query.range(&context, storage.metrics(), start, end, step, Options::DEFAULT)
        }
    };
    let Value::Matrix(found) = output.unwrap().value else {
        panic!("no matrix")
    };
    let points = |series: Series| (series.labels, series.points.iter().map(|(t, v)| (t.0, *v)).collect());
    found
        .into_iter()
        .map(points)
        .filter(|(labels, _)| !recorded.input.contains_key(labels))
        .collect()
}

/// Lines that say what differs.
fn differences(what: &str, expected: &Points, found: &Points) -> Vec<String> {
    let mut out = Vec::new();
    for labels in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (Some(want), Some(got)) = (expected.get(labels), found.get(labels)) else {
            let has = if found.contains_key(labels) {
                "is not there"
            } else {
                "is missing"
            };
            out.push(format!("{what}: {labels} {has}"));
            continue;
        };
        let close =
            |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
        let first = want.iter().zip(got).find(|((t, a), (u, b))| t != u || !close(*a, *b));
        if let Some((want, got)) = first {
            out.push(format!("{what}: {labels}: {want:?} is expected, found {got:?}"));
        } else if want.len() != got.len() {
            out.push(format!(
                "{what}: {labels}: {} samples are expected, found {}",
                want.len(),
                got.len()
            ));
        }
    }
    out
}

#[tokio::test]
async fn rules_make_what_prometheus_makes_of_them() {
    let recorded = recorded();
    let dir = tempfile::tempdir().unwrap();
    let (storage, now) = opened(dir.path());
    now.store((recorded.end_ms + 10_000) * 1_000_000, Ordering::Relaxed);
    let mut batch = SampleBatch::default();
    for (labels, points) in &recorded.input {
        let series = batch.series_of(labels);
        for (t, v) in points {
            batch.sample(series, TimestampMs(*t), *v);
        }
    }
    storage.append_samples(&batch).await.unwrap();
    let text = std::fs::read_to_string(folder().join("as_prometheus.yaml")).unwrap();
    let (groups, faults) = read_groups("rules.yaml", &text, Dialect::PromQl);
    assert!(faults.iter().all(|fault| fault.is_warning), "{faults:?}");
    let rulers = evaluate(&storage, &recorded, &groups).await;

    let length = recorded.end_ms - recorded.begin_ms + 60_000;
    let stored = ask(&storage, &format!("{{__name__=~'.+'}}[{length}ms]"), &recorded, None);
    assert!(recorded.output.len() > 60, "{}", recorded.output.len());
    let mut all = differences("stored", &recorded.output, &stored);
    let seen = ask(&storage, "{__name__=~'.+'}", &recorded, Some(1000));
    all.extend(differences("seen", &recorded.seen, &seen));
    let statuses = rulers.iter().flat_map(Ruler::groups).flat_map(|group| group.rules);
    for status in statuses {
        let (group, name) = (status.group.name.as_str(), status.rule().name());
        let want = recorded
            .rules
            .iter()
            .find(|rule| rule[0] == group && rule[1] == name)
            .unwrap();
        let health = if status.health == Health::Err { "err" } else { "ok" };
        // Which of two series an error names first is not said.
        let without_series = |error: &str| error.split("[{").next().unwrap_or_default().to_owned();
        let error = without_series(status.last_error.as_deref().unwrap_or_default());
        let got = (&*status.query, health, error);
        if got != (want[2].as_str(), want[3].as_str(), without_series(&want[4])) {
            all.push(format!("{group} {name}: {:?} is expected, found {got:?}", &want[2..]));
        }
    }
    assert!(
        all.is_empty(),
        "{} differences, among them\n{}",
        all.len(),
        all[..all.len().min(40)].join("\n")
    );
}
