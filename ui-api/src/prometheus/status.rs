//! What the process tells of itself under `/api/v1/status/`.

use std::convert::Infallible;
use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use model::{MetricKind, Signal, TimestampMs};

use super::encode::{join, list, success};
use super::errors::ApiError;
use super::params::read;
use super::routes::Api;
use super::series::ask;
use crate::OwnFamily;
use crate::number::{push_json, push_value};

/// Rows of each list of `status/tsdb` when nothing is said, and at most.
const TOP: usize = 10;
const TOP_MAX: usize = 10_000;

/// Clients that may wait for notifications at once.
pub(crate) const LISTENERS_MAX: usize = 16;

pub(crate) async fn build_info(State(api): State<Api>) -> Response {
    success(&build(&api))
}

/// The same outside of the API.
pub(crate) async fn version(State(api): State<Api>) -> Response {
    let mut text = build(&api);
    text.push('\n');
    text.into_response()
}

fn build(api: &Api) -> String {
    // Clients compare the version with Prometheus' own to decide what they may ask.
    let mut data = String::from(r#"{"version":"3.5.0","revision":"#);
    push_json(&mut data, &api.about.revision);
    data.push_str(r#","branch":"","buildUser":"#);
    push_json(&mut data, &format!("trilobite {}", api.about.version));
    data.push_str(r#","buildDate":"","goVersion":""}"#);
    data
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
    success(&data)
}

/// The configuration as YAML.
pub(crate) async fn config(State(api): State<Api>) -> Response {
    let mut data = String::from("{\"yaml\":");
    push_json(&mut data, &api.about.config_yaml());
    data.push('}');
    success(&data)
}

pub(crate) async fn runtime_info(State(api): State<Api>) -> Response {
    let start = rfc3339((api.about.start_seconds * 1000.0) as i64);
    let now = rfc3339(api.queries.storage().now().floor_ms().0);
    let corrupt = api.queries.storage().metrics().stats().corrupt_chunks;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let reload = api.about.targets.last_reload();
    let reloaded = reload.is_none_or(|r| r.success);
    let configured = reload.map_or_else(|| start.clone(), |r| rfc3339(r.last_success.0));
    let mut data = format!(r#"{{"startTime":"{start}","CWD":"#);
    push_json(&mut data, &api.about.working_dir);
    data.push_str(",\"hostname\":");
    push_json(&mut data, &api.about.hostname);
    data.push_str(&format!(
        r#","serverTime":"{now}","reloadConfigSuccess":{reloaded},"lastConfigTime":"{configured}","corruptionCount":{corrupt},"goroutineCount":0,"GOMAXPROCS":{threads},"GOMEMLIMIT":0,"GOGC":"","GODEBUG":"","storageRetention":"#
    ));
    push_json(&mut data, &api.about.retention);
    data.push('}');
    success(&data)
}

/// A time as RFC 3339 in UTC.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |t| t.to_string())
}

/// Replay is over when this answers.
pub(crate) async fn wal_replay() -> Response {
    success(r#"{"min":0,"max":0,"current":0}"#)
}

/// The blocks on disk, in the members that Prometheus' own have.
pub(crate) async fn blocks(State(api): State<Api>) -> Response {
    let blocks = api.queries.storage().blocks(Signal::Metrics);
    let mut data = String::from("{\"blocks\":[");
    join(&mut data, blocks.iter(), |out, block| {
        let sources = if block.replaces.is_empty() {
            std::slice::from_ref(&block.id)
        } else {
            &block.replaces
        };
        let sources: Vec<String> = sources.iter().map(|id| format!("\"{id}\"")).collect();
        // Prometheus' end is exclusive.
        let end = block.max.floor_ms().0.saturating_add(1);
        let _ = write!(
            out,
            r#"{{"ulid":"{}","minTime":{},"maxTime":{end},"stats":{{"numSamples":{},"numSeries":{}}},"compaction":{{"level":{},"sources":[{}]}},"version":1}}"#,
            block.id,
            block.min.floor_ms().0,
            block.items,
            block.keys,
            u32::from(block.level) + 1,
            sources.join(",")
        );
    });
    data.push_str("]}");
    success(&data)
}

/// Nothing is wrong that a person would have to be told.
pub(crate) async fn notifications() -> Response {
    success("[]")
}

/// The same as a stream of events, open until the client leaves; there are so many places.
pub(crate) async fn live_notifications(State(api): State<Api>) -> Response {
    let Ok(place) = api.listeners.try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    // The place is free again when the body is dropped.
    let until = (place, api.about.stopping);
    let never = futures_util::stream::unfold(until, |(_place, mut stopping)| async move {
        if stopping.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        None::<(Result<Bytes, Infallible>, _)>
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from_stream(never)).into_response()
}

/// Its own metric families with their values.
pub(crate) async fn self_metrics(State(api): State<Api>) -> Response {
    list(api.about.targets.own(), &[], |out, family| own_family(out, &family))
}

fn own_family(out: &mut String, family: &OwnFamily) {
    // What has buckets or quantiles is series of single values here.
    let (kind, member) = match family.metadata.kind {
        MetricKind::Counter => ("COUNTER", "counter"),
        MetricKind::Gauge => ("GAUGE", "gauge"),
        _ => ("UNTYPED", "untyped"),
    };
    out.push_str("{\"name\":");
    push_json(out, &family.name);
    out.push_str(",\"help\":");
    push_json(out, &family.metadata.help);
    let _ = write!(out, ",\"type\":\"{kind}\",\"metric\":[");
    join(out, family.samples.iter(), |out, (labels, value)| {
        out.push('{');
        if !labels.is_empty() {
            out.push_str("\"label\":[");
            join(out, labels.iter(), |out, (name, value)| {
                out.push_str("{\"name\":");
                push_json(out, name);
                out.push_str(",\"value\":");
                push_json(out, value);
                out.push('}');
            });
            out.push_str("],");
        }
        let _ = write!(out, "\"{member}\":{{\"value\":");
        if value.is_finite() {
            push_value(out, *value);
        } else {
            out.push('"');
            push_value(out, *value);
            out.push('"');
        }
        out.push_str("}}");
    });
    out.push(']');
    if !family.metadata.unit.is_empty() {
        out.push_str(",\"unit\":");
        push_json(out, &family.metadata.unit);
    }
    out.push('}');
}

/// The API, described for machines.
pub(crate) async fn description() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/yaml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    (headers, include_str!("openapi.yaml")).into_response()
}

/// As Prometheus answers where the search API is not turned on.
pub(crate) async fn no_search() -> ApiError {
    ApiError::unavailable("search API disabled")
}

/// What makes the head large: how many series and pairs it has, and which names and labels have the most.
pub(crate) async fn tsdb(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let limit = match form.get("limit").map(str::parse::<usize>) {
        None => TOP,
        Some(Ok(n)) if (1..=TOP_MAX).contains(&n) => n,
        Some(Ok(n)) if n > TOP_MAX => return Err(ApiError::bad_data(format!("limit must not exceed {TOP_MAX}"))),
        Some(_) => return Err(ApiError::bad_data("limit must be a positive number")),
    };
    let head = ask(&api, "status/tsdb", move |s| Ok(s.metrics().cardinality(limit))).await?;
    let (min, max) = head.extent.unwrap_or((TimestampMs(i64::MAX), TimestampMs(i64::MIN)));
    let mut data = format!(
        r#"{{"headStats":{{"numSeries":{},"numLabelPairs":{},"chunkCount":{},"minTime":{},"maxTime":{}}}"#,
        head.series, head.label_pairs, head.chunks, min.0, max.0,
    );
    for (key, rows) in [
        ("seriesCountByMetricName", &head.series_by_metric),
        ("labelValueCountByLabelName", &head.values_by_label),
        ("memoryInBytesByLabelName", &head.bytes_by_label),
        ("seriesCountByLabelValuePair", &head.series_by_pair),
    ] {
        let _ = write!(data, ",\"{key}\":[");
        join(&mut data, rows.iter(), |out, (name, value)| {
            out.push_str("{\"name\":");
            push_json(out, name);
            let _ = write!(out, ",\"value\":{value}}}");
        });
        data.push(']');
    }
    data.push('}');
    Ok(success(&data))
}
