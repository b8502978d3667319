//! The endpoints: parameters in, questions asked, answers out.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use model::{AttributeValue, TimeRangeNs, TimestampNs, TraceId};
use prost::Message;
use query::{Language, Queries};
use query_traceql::{Query, SearchOptions, tag_names, tag_values};
use storage_traces::AttributeScope;

use super::encode;
use super::errors::ApiError;
use super::trace::{Groups, v2_protobuf};
use crate::About;
use crate::form::{Form, decode};
use crate::number::{go_duration_ns, prometheus_duration_ns, push_json, time_by_digits_ns};
use crate::shared_ids::told_apart;

const SECOND_NS: i64 = 1_000_000_000;

/// Where a range starts when nothing is said, before its end.
const SINCE_NS: i64 = 3_600 * SECOND_NS;

/// Traces found when nothing is said, and at most.
const LIMIT: u64 = 20;
const LIMIT_MAX: u64 = 262_144;

/// Spans shown per spanset when nothing is said, and at most.
const SPANS: u64 = 3;
const SPANS_MAX: u64 = 100;

/// Intervals that a metrics query may have.
const INTERVALS_MAX: i64 = 10_000;

/// Values listed when nothing is said.
const VALUES: u64 = 10_000;

/// The intrinsics that the tag endpoints list; always the same.
const INTRINSICS: [&str; 25] = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

#[derive(Clone)]
struct Api {
    queries: Queries,
    about: About,
}

/// The Tempo HTTP API under `/api/`.
pub fn router(queries: &Queries, about: &About) -> Router {
    let api = Api {
        queries: queries.clone(),
        about: about.clone(),
    };
    Router::new()
        .route("/api/echo", get(|| async { "echo\n" }))
        .route("/api/status/buildinfo", get(build_info))
        .route("/api/traces/{id}", get(trace_v1))
        .route("/api/v2/traces/{id}", get(trace_v2))
        .route("/api/search", get(search))
        .route("/api/search/tags", get(tags_v1))
        .route("/api/v2/search/tags", get(tags_v2))
        .route("/api/search/tag/{*rest}", get(values_v1))
        .route("/api/v2/search/tag/{*rest}", get(values_v2))
        .route("/api/metrics/query_range", get(metrics_range))
        .route("/api/metrics/query", get(metrics_instant))
        .with_state(api)
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
}

async fn build_info(State(api): State<Api>) -> Response {
    // Clients compare the version with Tempo's own to decide what they may ask; 2.2 would announce streaming search.
    let mut out = String::from(r#"{"version":"2.1.0","revision":"#);
    push_json(&mut out, &api.about.revision);
    out.push_str(r#","branch":"","buildUser":"#);
    push_json(&mut out, &format!("trilobite {}", api.about.version));
    out.push_str(r#","buildDate":"","goVersion":""}"#);
    encode::json(out)
}

async fn trace_v1(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let spans = find(&api, &id, request).await?;
    if spans.is_empty() {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let groups = Groups::of(&spans);
    if protobuf {
        return Ok(protobuf_answer(groups.protobuf().encode_to_vec()));
    }
    Ok(encode::json(groups.json("batches")))
}

async fn trace_v2(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let spans = find(&api, &id, request).await?;
    let groups = Groups::of(&spans);
    if protobuf {
        return Ok(protobuf_answer(v2_protobuf(&groups.protobuf())));
    }
    Ok(encode::json(format!(
        "{{\"trace\":{},\"metrics\":{{}}}}",
        groups.json("resourceSpans")
    )))
}

async fn find(api: &Api, id: &str, request: Request) -> Result<Vec<model::Span>, ApiError> {
    let trace_id = trace_id(id)?;
    let form = Form::read(request).await?;
    // The range only says where to look; without one, everywhere.
    let range = match (time(&form, "start")?, time(&form, "end")?) {
        (Some(start), Some(end)) if end <= start => {
            return Err(ApiError::bad("http parameter start must be before end"));
        }
        (start, end) => {
            let start = start.unwrap_or(TimeRangeNs::ALL.start);
            TimeRangeNs {
                start,
                end: end.unwrap_or(TimeRangeNs::ALL.end),
            }
        }
    };
    let spans = api
        .queries
        .run(Language::TraceQl, id, None, move |_, storage| {
            storage.traces().snapshot(range).trace(trace_id)
        })
        .await??;
    Ok(told_apart(spans))
}

fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(ApiError::bad(format!(
            "trace IDs can only contain hex characters: invalid character '{c}' at position {}",
            at + 1
        )));
    }
    text.parse()
        .map_err(|_| ApiError::bad("trace IDs can't be larger than 128 bits"))
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|v| v.contains("application/protobuf"))
}

fn protobuf_answer(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], body).into_response()
}

async fn search(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let by_tags = form.get("q").is_none();
    let parsed = match (form.get("q"), form.get("tags")) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad(
                "invalid request: can't specify tags and q in the same query",
            ));
        }
        (Some(q), None) => Query::parse(q)?,
        (None, tags) => Query::from_tags(tags.unwrap_or(""))?,
    };
    if parsed.is_metrics() {
        return Err(ApiError::bad(
            "invalid TraceQL query: a metrics query belongs to /api/metrics/query_range",
        ));
    }
    let (min, max) = (duration(&form, "minDuration")?, duration(&form, "maxDuration")?);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err(ApiError::bad("invalid maxDuration: must be greater than minDuration"));
    }
    let options = SearchOptions {
        range: search_range(&form, api.queries.storage().now())?,
        limit: number(&form, "limit", LIMIT, LIMIT_MAX)? as usize,
        spans_per_spanset: number(&form, "spss", SPANS, SPANS_MAX)? as usize,
        min_duration_ns: min,
        max_duration_ns: max,
    };
    let text = form.get("q").or(form.get("tags")).unwrap_or("").to_owned();
    let output = api
        .queries
        .run(Language::TraceQl, &text, None, move |context, storage| {
            parsed.search(context, storage.traces(), &options)
        })
        .await??;
    Ok(encode::search(&output, !by_tags))
}

/// `start` and `end`, both or neither; by default the last hour. The end is inclusive for the caller.
fn search_range(form: &Form, now: TimestampNs) -> Result<TimeRangeNs, ApiError> {
    if let Some(since) = form.get("since") {
        let since = prometheus_duration_ns(since)
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::bad(format!("invalid since: cannot parse {since:?} to a valid duration")))?;
        return Ok(back_from(now, since));
    }
    match (time(form, "start")?, time(form, "end")?) {
        (None, None) => Ok(back_from(now, SINCE_NS)),
        (Some(start), Some(end)) if start < end => Ok(TimeRangeNs {
            start,
            end: TimestampNs(end.0.saturating_add(1)),
        }),
        (Some(_), Some(_)) => Err(ApiError::bad("http parameter start must be before end")),
        _ => Err(ApiError::bad(
            "please provide non-zero values for http parameters start and end",
        )),
    }
}

/// The range that ends now; a little beyond, for senders whose clocks are ahead.
fn back_from(now: TimestampNs, since: i64) -> TimeRangeNs {
    TimeRangeNs {
        start: TimestampNs(now.0.saturating_sub(since)),
        end: TimestampNs(now.0.saturating_add(600 * SECOND_NS)),
    }
}

fn time(form: &Form, name: &str) -> Result<Option<TimestampNs>, ApiError> {
    let Some(text) = form.get(name).filter(|t| *t != "0") else {
        return Ok(None);
    };
    let ns = time_by_digits_ns(text).ok_or_else(|| ApiError::bad(format!("invalid {name}: cannot parse {text:?}")))?;
    Ok(Some(TimestampNs(ns)))
}

fn duration(form: &Form, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let ns = go_duration_ns(text)
        .ok_or_else(|| ApiError::bad(format!("invalid {name}: time: invalid duration {text:?}")))?;
    Ok(Some(ns.unsigned_abs()))
}

fn number(form: &Form, name: &str, default: u64, max: u64) -> Result<u64, ApiError> {
    let Some(text) = form.get(name) else { return Ok(default) };
    match text.parse::<u64>() {
        // Of tags and values, 0 asks for all.
        Ok(0) if name == "spss" || max == u64::MAX => Ok(default),
        Ok(0) => Err(ApiError::bad(format!("invalid {name}: must be a positive number"))),
        Ok(n) if n > max => Err(ApiError::bad(format!(
            "invalid {name}: {n} exceeds the maximum of {max}"
        ))),
        Ok(n) => Ok(n),
        Err(e) => Err(ApiError::bad(format!("invalid {name}: {text:?}: {e}"))),
    }
}

/// The range of the tag endpoints: everything, unless one is given.
fn tags_range(form: &Form) -> Result<TimeRangeNs, ApiError> {
    let start = time(form, "start")?.unwrap_or(TimeRangeNs::ALL.start);
    Ok(TimeRangeNs {
        start,
        end: time(form, "end")?.unwrap_or(TimeRangeNs::ALL.end),
    })
}

/// Tags by scope, the intrinsics last.
async fn tags(api: &Api, form: &Form, default_intrinsics: bool) -> Result<Vec<(&'static str, Vec<String>)>, ApiError> {
    const SCOPES: [(&str, AttributeScope); 5] = [
        ("resource", AttributeScope::Resource),
        ("span", AttributeScope::Span),
        ("event", AttributeScope::Event),
        ("link", AttributeScope::Link),
        ("instrumentation", AttributeScope::Instrumentation),
    ];
    let asked = form.get("scope").unwrap_or("none");
    let scope = SCOPES.iter().find(|(name, _)| *name == asked).map(|(_, s)| *s);
    if scope.is_none() && !["none", "intrinsic", "trace"].contains(&asked) {
        return Err(ApiError::bad(format!("invalid scope: {asked}")));
    }
    let limit = number(form, "limit", u64::MAX, u64::MAX)? as usize;
    let mut out: Vec<(&'static str, Vec<String>)> = Vec::new();
    if scope.is_some() || asked == "none" {
        let range = tags_range(form)?;
        let found = api
            .queries
            .run(Language::TraceQl, "tags", None, move |context, storage| {
                tag_names(context, storage.traces(), range, scope)
            })
            .await??;
        for (name, scope) in SCOPES {
            let tags: Vec<String> = found
                .iter()
                .filter(|(s, _)| *s == scope)
                .map(|(_, n)| n.clone())
                .take(limit)
                .collect();
            if !tags.is_empty() {
                out.push((name, tags));
            }
        }
    }
    if asked == "intrinsic" || (asked == "none" && default_intrinsics) {
        out.push(("intrinsic", INTRINSICS.iter().map(|s| (*s).to_owned()).collect()));
    }
    Ok(out)
}

async fn tags_v1(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let mut names: Vec<String> = tags(&api, &form, false)
        .await?
        .into_iter()
        .flat_map(|(_, tags)| tags)
        .collect();
    names.sort();
    names.dedup();
    Ok(encode::tag_names(&names))
}

async fn tags_v2(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    Ok(encode::tag_scopes(&tags(&api, &form, true).await?))
}

async fn values_v1(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    Ok(encode::tag_values(
        &values(&api, request, "/api/search/tag/").await?,
        false,
    ))
}

async fn values_v2(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    Ok(encode::tag_values(
        &values(&api, request, "/api/v2/search/tag/").await?,
        true,
    ))
}

/// Values as (type, text). The tag stands between `/tag/` and the last `/values`, and may itself hold slashes.
async fn values(api: &Api, request: Request, prefix: &str) -> Result<Vec<(&'static str, String)>, ApiError> {
    let encoded = request
        .uri()
        .path()
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix("/values"));
    let encoded = encoded.ok_or_else(|| ApiError::bad("expected /search/tag/{name}/values"))?;
    let tag = decode(encoded.as_bytes(), false)?;
    let form = Form::read(request).await?;
    let range = tags_range(&form)?;
    let limit = number(&form, "limit", VALUES, u64::MAX)? as usize;
    let filter = form.get("q").map(str::to_owned);
    let is_word = ["status", "span:status", "kind", "span:kind", "status.code"].contains(&tag.as_str());
    let found = api
        .queries
        .run(Language::TraceQl, "tag values", None, move |context, storage| {
            tag_values(context, storage.traces(), range, &tag, filter.as_deref(), limit)
        })
        .await??;
    Ok(found.into_iter().filter_map(|v| value_text(v, is_word)).collect())
}

fn value_text(value: AttributeValue, is_word: bool) -> Option<(&'static str, String)> {
    match value {
        AttributeValue::Str(s) => Some((if is_word { "keyword" } else { "string" }, s)),
        AttributeValue::Bool(b) => Some(("bool", b.to_string())),
        AttributeValue::Int(i) => Some(("int", i.to_string())),
        AttributeValue::Double(d) => Some(("float", d.to_string())),
        AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => None,
    }
}

async fn metrics_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let (text, parsed, range) = metrics_asked(&api, &form)?;
    let length = range.end.0.saturating_sub(range.start.0);
    let step = match form.get("step") {
        Some(step) => go_duration_ns(step)
            .or_else(|| prometheus_duration_ns(step))
            .filter(|ns| *ns > 0)
            .ok_or_else(|| ApiError::bad(format!("invalid step: cannot parse {step:?} to a valid duration")))?,
        None => default_step(length),
    };
    if length / step > INTERVALS_MAX {
        let least = (length / INTERVALS_MAX).max(1) as f64 / 1e9;
        return Err(ApiError::bad(format!(
            "step of {}s is too small, minimum step for given range is {least}s",
            step as f64 / 1e9
        )));
    }
    let output = api
        .queries
        .run(Language::TraceQl, &text, None, move |context, storage| {
            parsed.metrics_range(context, storage.traces(), range, step)
        })
        .await??;
    Ok(encode::metrics(&output, false))
}

/// One interval over the whole range.
async fn metrics_instant(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let (text, parsed, range) = metrics_asked(&api, &form)?;
    let output = api
        .queries
        .run(Language::TraceQl, &text, None, move |context, storage| {
            parsed.metrics_instant(context, storage.traces(), range)
        })
        .await??;
    Ok(encode::metrics(&output, true))
}

fn metrics_asked(api: &Api, form: &Form) -> Result<(String, Query, TimeRangeNs), ApiError> {
    let text = form
        .get("q")
        .or(form.get("query"))
        .ok_or_else(|| ApiError::bad("q is required"))?
        .to_owned();
    let parsed = Query::parse(&text)?;
    if !parsed.is_metrics() {
        return Err(ApiError::bad("invalid TraceQL query: not a metrics query"));
    }
    let now = api.queries.storage().now();
    let end = time(form, "end")?.unwrap_or(now);
    let since = match form.get("since") {
        Some(text) => prometheus_duration_ns(text).ok_or_else(|| ApiError::bad(format!("invalid since: {text:?}")))?,
        None => SINCE_NS,
    };
    let start = time(form, "start")?.unwrap_or(TimestampNs(end.0.saturating_sub(since)));
    if end <= start {
        return Err(ApiError::bad("http parameter start must be before end"));
    }
    Ok((text, parsed, TimeRangeNs { start, end }))
}

/// About 240 steps over the range, in round numbers.
fn default_step(length_ns: i64) -> i64 {
    if length_ns < 60 * SECOND_NS {
        let unit = 50_000_000;
        return (length_ns / 240 / unit * unit)
            .max(unit)
            .max(length_ns / 240 / unit * unit);
    }
    let ideal = length_ns / 240;
    let unit = [3600, 300, 60, 15, 5, 1]
        .iter()
        .map(|s| s * SECOND_NS)
        .find(|unit| *unit < ideal)
        .unwrap_or(SECOND_NS);
    (ideal / unit * unit).max(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_of_up_to_128_bits() {
        assert_eq!(trace_id("1").ok(), Some(TraceId(1)));
        assert_eq!(trace_id("00000000000000000000000000000001").ok(), Some(TraceId(1)));
        assert!(trace_id("xyz").is_err());
        assert!(trace_id(&"0".repeat(33)).is_err());
    }

    #[test]
    fn steps_are_round_numbers() {
        assert_eq!(default_step(59 * SECOND_NS), 200_000_000);
        for (minutes, seconds) in [
            (15, 3),
            (30, 5),
            (60, 15),
            (180, 45),
            (360, 60),
            (720, 180),
            (1440, 300),
            (10080, 2400),
        ] {
            assert_eq!(
                default_step(minutes * 60 * SECOND_NS),
                seconds * SECOND_NS,
                "{minutes} min"
            );
        }
    }

    #[test]
    fn ranges_need_both_ends_or_neither() {
        let now = TimestampNs(10_000 * SECOND_NS);
        let check = |text: &str| {
            search_range(&Form::parse(text).unwrap(), now)
                .map(|r| (r.start.0, r.end.0))
                .ok()
        };
        assert_eq!(check(""), Some((6_400 * SECOND_NS, 10_600 * SECOND_NS)));
        assert_eq!(check("start=5&end=7"), Some((5 * SECOND_NS, 7 * SECOND_NS + 1)));
        assert_eq!(check("start=5"), None);
        assert_eq!(check("start=7&end=5"), None);
    }
}
