//! What the process tells of itself under `/api/v1/status/`.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use model::{LabelSet, METRIC_NAME, TimeRangeMs, TimestampMs};

use super::encode::success;
use super::errors::ApiError;
use super::routes::{Api, ask, read};
use crate::number::push_json;

/// Rows of each list of `status/tsdb` when nothing is said, and at most.
const TOP: usize = 10;
const TOP_MAX: usize = 10_000;

/// How far `status/tsdb` looks, ms: what a head of Prometheus would hold.
const RECENT_MS: i64 = 7_200_000;

pub(crate) async fn build_info(State(api): State<Api>) -> Response {
    // Clients compare the version with Prometheus' own to decide what they may ask.
    let mut data = String::from(r#"{"version":"3.5.0","revision":"#);
    push_json(&mut data, &api.about.revision);
    data.push_str(r#","branch":"","buildUser":"#);
    push_json(&mut data, &format!("trilobite {}", api.about.version));
    data.push_str(r#","buildDate":"","goVersion":""}"#);
    success(&data, &[], &[])
}

pub(crate) async fn flags(State(api): State<Api>) -> Response {
    let mut data = String::from("{");
    for (i, (name, value)) in api.about.flags.iter().enumerate() {
        if i > 0 {
            data.push(',');
        }
        push_json(&mut data, name);
        data.push(':');
        push_json(&mut data, value);
    }
    data.push('}');
    success(&data, &[], &[])
}

/// The settings as YAML.
pub(crate) async fn config(State(api): State<Api>) -> Response {
    let mut yaml = String::new();
    for (name, value) in &api.about.flags {
        yaml.push_str(name);
        yaml.push_str(": ");
        push_json(&mut yaml, value);
        yaml.push('\n');
    }
    let mut data = String::from("{\"yaml\":");
    push_json(&mut data, &yaml);
    data.push('}');
    success(&data, &[], &[])
}

pub(crate) async fn runtime_info(State(api): State<Api>) -> Response {
    let start = rfc3339((api.about.start_seconds * 1000.0) as i64);
    let now = rfc3339(api.queries.storage().now().floor_ms().0);
    let corrupt = api.queries.storage().metrics().stats().corrupt_chunks;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut data = format!(
        r#"{{"startTime":"{start}","CWD":"","hostname":"","serverTime":"{now}","reloadConfigSuccess":true,"lastConfigTime":"{start}","corruptionCount":{corrupt},"goroutineCount":0,"GOMAXPROCS":{threads},"GOMEMLIMIT":0,"GOGC":"","GODEBUG":"","storageRetention":"#
    );
    push_json(&mut data, &api.about.retention);
    data.push('}');
    success(&data, &[], &[])
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| t.to_string())
}

/// Replay is over when this answers.
pub(crate) async fn wal_replay() -> Response {
    success(r#"{"min":0,"max":0,"current":0}"#, &[], &[])
}

/// How many series and pairs there have been lately, and which names and labels have the most.
pub(crate) async fn tsdb(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let limit = match form.get("limit").map(str::parse::<usize>) {
        None => TOP,
        Some(Ok(n)) if (1..=TOP_MAX).contains(&n) => n,
        Some(_) => {
            return Err(ApiError::parameter(
                "limit",
                format!("limit must be between 1 and {TOP_MAX}"),
            ));
        }
    };
    let now = api.queries.storage().now().floor_ms();
    let recent = TimeRangeMs {
        start: TimestampMs(now.0.saturating_sub(RECENT_MS)),
        end: TimestampMs(now.0.saturating_add(RECENT_MS)),
    };
    let head = api.queries.storage().metrics().stats();
    let series = ask(&api, "status/tsdb", move |s| {
        s.metrics().snapshot(recent).series(&[], recent)
    })
    .await?;
    let counts = Counts::of(&series);
    let mut data = format!(
        r#"{{"headStats":{{"numSeries":{},"numLabelPairs":{},"chunkCount":{},"minTime":{},"maxTime":{}}}"#,
        head.head_series,
        counts.by_pair.len(),
        head.head_series,
        head.head_min.map_or(i64::MAX, |t| t.0),
        head.head_max.map_or(i64::MIN, |t| t.0),
    );
    let owned = |counts: &BTreeMap<&str, u64>| counts.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>();
    for (key, rows) in [
        ("seriesCountByMetricName", owned(&counts.by_metric)),
        ("labelValueCountByLabelName", owned(&counts.values)),
        ("memoryInBytesByLabelName", owned(&counts.bytes)),
        (
            "seriesCountByLabelValuePair",
            counts
                .by_pair
                .iter()
                .map(|((n, v), c)| (format!("{n}={v}"), *c))
                .collect(),
        ),
    ] {
        push_top(&mut data, key, rows, limit);
    }
    data.push('}');
    Ok(success(&data, &[], &[]))
}

/// Series and bytes by name, label and pair.
#[derive(Default)]
struct Counts<'a> {
    by_metric: BTreeMap<&'a str, u64>,
    by_pair: BTreeMap<(&'a str, &'a str), u64>,
    values: BTreeMap<&'a str, u64>,
    bytes: BTreeMap<&'a str, u64>,
}

impl<'a> Counts<'a> {
    fn of(series: &'a [LabelSet]) -> Counts<'a> {
        let mut counts = Counts::default();
        for (name, value) in series.iter().flat_map(LabelSet::iter) {
            *counts.by_pair.entry((name, value)).or_default() += 1;
            *counts.bytes.entry(name).or_default() += value.len() as u64;
            if name == METRIC_NAME {
                *counts.by_metric.entry(value).or_default() += 1;
            }
        }
        for (name, _) in counts.by_pair.keys() {
            *counts.values.entry(*name).or_default() += 1;
        }
        counts
    }
}

fn push_top(out: &mut String, key: &str, mut rows: Vec<(String, u64)>, limit: usize) {
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    out.push_str(&format!(",\"{key}\":["));
    for (i, (name, value)) in rows.iter().take(limit).enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str("{\"name\":");
        push_json(out, name);
        out.push_str(&format!(",\"value\":{value}}}"));
    }
    out.push(']');
}
