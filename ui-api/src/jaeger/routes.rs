//! The endpoints: parameters in, questions asked, answers out.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use model::{AttributeValue, Span, TimeRangeNs, TimestampNs, TraceId};
use query::{Language, Queries};
use query_traceql::{EvalError, Query, SearchOptions, SpanExample, TagName, calls, operations, tag_values};
use storage::Storage;

use super::encode::{self, ErrorEntry, envelope, kind_word};
use super::errors::ApiError;
use super::version3;
use crate::form::Form;
use crate::number::{go_duration_ns, prometheus_duration_ns};
use crate::shared_ids::told_apart;

const HOUR_NS: i64 = 3_600_000_000_000;

/// How far a search looks back when nothing is said.
const LOOKBACK_NS: i64 = 48 * HOUR_NS;
/// How far dependencies look back when nothing is said.
const DEPENDENCIES_NS: i64 = 24 * HOUR_NS;
/// Spans may be this far ahead of the clock.
const AHEAD_NS: i64 = 600_000_000_000;

/// Traces found when nothing is said, and at most.
pub(super) const LIMIT: usize = 100;
pub(super) const LIMIT_MAX: usize = 10_000;
/// Most spans in one answer; what is left out is said.
const SPANS_MAX: usize = 200_000;
/// Most services listed.
const SERVICES_MAX: usize = 100_000;

/// The Jaeger query API under `/api/`.
pub fn router(queries: &Queries) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/api/services", get(services))
        .route("/api/services/{service}/operations", get(operation_names))
        .route("/api/operations", get(operations_with_kinds))
        .route("/api/traces", get(search))
        .route("/api/traces/{id}", get(trace))
        .route("/api/dependencies", get(dependencies))
        .route("/api/metrics/{*rest}", get(no_metrics))
        .merge(version3::router())
        .with_state(queries.clone())
        .fallback(|| async { ApiError::not_found("404 page not found").into_response() })
}

/// There is no UI on this port.
async fn home() -> &'static str {
    "Trilobite answers Jaeger's query API here, under /api/. Add this address to Grafana as a Jaeger datasource.\n"
}

async fn services(State(queries): State<Queries>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let names = service_names(&queries).await?;
    Ok(answer(&form, envelope(&encode::texts(&names), names.len(), &[])))
}

/// Names of services, sorted.
pub(super) async fn service_names(queries: &Queries) -> Result<Vec<String>, ApiError> {
    let found = queries
        .run(Language::TraceQl, "services", None, |context, storage| {
            let range = TimeRangeNs::ALL;
            tag_values(
                context,
                storage.traces(),
                range,
                &TagName::Identifier("resource.service.name".to_owned()),
                None,
                SERVICES_MAX,
            )
        })
        .await??;
    let names = found.into_iter().filter_map(|value| match value {
        AttributeValue::Str(name) if !name.is_empty() => Some(name),
        _ => None,
    });
    Ok(names.collect())
}

async fn operation_names(
    State(queries): State<Queries>,
    Path(service): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let mut names: Vec<String> = operations_of(&queries, service)
        .await?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    names.dedup();
    Ok(answer(&form, envelope(&encode::texts(&names), names.len(), &[])))
}

async fn operations_with_kinds(State(queries): State<Queries>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let service = form
        .get("service")
        .ok_or_else(|| ApiError::bad("parameter 'service' is required"))?;
    let mut found = operations_of(&queries, service.to_owned()).await?;
    if let Some(kind) = form.get("spanKind") {
        found.retain(|(_, k)| kind_word(*k) == kind);
    }
    Ok(answer(&form, envelope(&encode::operations(&found), found.len(), &[])))
}

/// Operations of a service, sorted.
pub(super) async fn operations_of(
    queries: &Queries,
    service: String,
) -> Result<Vec<(String, model::SpanKind)>, ApiError> {
    let text = format!("operations of {service}");
    let found = queries
        .run(Language::TraceQl, &text, None, move |context, storage| {
            operations(context, storage.traces(), TimeRangeNs::ALL, &service)
        })
        .await??;
    Ok(found)
}

async fn search(State(queries): State<Queries>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let ids: Vec<TraceId> = form.all("traceID").map(trace_id).collect::<Result<_, _>>()?;
    let raw = form.get("raw") == Some("true");
    let found = if ids.is_empty() {
        let (example, limit) = asked(&form, queries.storage().now())?;
        found_by(&queries, example, limit, raw).await?
    } else {
        queries
            .run(Language::TraceQl, "traces by id", None, move |_, storage| {
                whole(storage, ids.into_iter(), raw)
            })
            .await??
    };
    let body = envelope(&encode::traces(&found.traces), found.traces.len(), &found.errors);
    Ok(answer(&form, body))
}

/// Traces with all their spans.
#[derive(Default)]
pub(super) struct Found {
    pub traces: Vec<(TraceId, Vec<Span>)>,
    pub errors: Vec<ErrorEntry>,
}

/// The newest traces with such a span.
pub(super) async fn found_by(
    queries: &Queries,
    example: SpanExample,
    limit: usize,
    raw: bool,
) -> Result<Found, ApiError> {
    let text = format!("jaeger search: {} {}", example.service, example.operation);
    let found = queries
        .run(Language::TraceQl, &text, None, move |context, storage| {
            let options = SearchOptions {
                range: example.range,
                limit,
                spans_per_spanset: 0,
                min_duration_ns: None,
                max_duration_ns: None,
            };
            let found = Query::by_example(example).search(context, storage.traces(), &options)?;
            whole(storage, found.traces.iter().map(|t| t.trace_id), raw)
        })
        .await??;
    Ok(found)
}

/// A trace by its id.
pub(super) async fn found_by_id(queries: &Queries, id: TraceId, raw: bool) -> Result<Found, ApiError> {
    let found = queries
        .run(Language::TraceQl, &id.to_string(), None, move |_, storage| {
            whole(storage, std::iter::once(id), raw)
        })
        .await??;
    if found.traces.is_empty() {
        return Err(ApiError::not_found("trace not found"));
    }
    Ok(found)
}

fn whole(storage: &Storage, ids: impl Iterator<Item = TraceId>, raw: bool) -> Result<Found, EvalError> {
    let snapshot = storage.traces().snapshot(TimeRangeNs::ALL);
    let mut found = Found::default();
    let mut spans_left = SPANS_MAX;
    for id in ids.take(LIMIT_MAX) {
        let (spans, cut) = snapshot.trace_up_to(id, spans_left)?;
        if cut {
            let words = format!("the answer would have more than {SPANS_MAX} spans; of this trace some are left out");
            found
                .errors
                .push((StatusCode::PAYLOAD_TOO_LARGE.as_u16(), words, Some(id)));
        }
        if spans.is_empty() {
            if !cut {
                let code = StatusCode::NOT_FOUND.as_u16();
                found.errors.push((code, "trace not found".to_owned(), Some(id)));
            }
            continue;
        }
        spans_left = spans_left.saturating_sub(spans.len());
        let spans = if raw { spans } else { told_apart(spans) };
        found.traces.push((id, spans));
    }
    if snapshot.is_incomplete() {
        let words = "some stored spans could not be read and were left out".to_owned();
        found.errors.push((StatusCode::PARTIAL_CONTENT.as_u16(), words, None));
    }
    Ok(found)
}

async fn trace(State(queries): State<Queries>, Path(id): Path<String>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let id = trace_id(&id)?;
    let raw = form.get("raw") == Some("true");
    // A range, if one is given, is a hint where to look; Grafana's versions disagree about its unit.
    let found = found_by_id(&queries, id, raw).await?;
    Ok(answer(
        &form,
        envelope(&encode::traces(&found.traces), 1, &found.errors),
    ))
}

async fn dependencies(State(queries): State<Queries>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let now = queries.storage().now();
    let ms = |name: &str| -> Result<Option<i64>, ApiError> {
        let Some(text) = form.get(name) else { return Ok(None) };
        let ms = text.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000_000));
        ms.map(Some).ok_or_else(|| {
            ApiError::bad(format!(
                "unable to parse param '{name}': {text:?} is no time in milliseconds"
            ))
        })
    };
    let end = ms("endTs")?.unwrap_or(now.0.saturating_add(AHEAD_NS));
    let start = end
        .min(now.0)
        .saturating_sub(ms("lookback")?.unwrap_or(DEPENDENCIES_NS));
    let range = TimeRangeNs {
        start: TimestampNs(start),
        end: TimestampNs(end.saturating_add(1)),
    };
    let mut found = queries
        .run(Language::TraceQl, "dependencies", None, move |context, storage| {
            calls(context, storage.traces(), range)
        })
        .await??;
    if let Some(service) = form.get("service") {
        found.retain(|c| c.parent == service || c.child == service);
    }
    Ok(answer(&form, envelope(&encode::dependencies(&found), found.len(), &[])))
}

async fn no_metrics() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "metrics of spans are answered by the Prometheus API",
    )
}

/// What a search asks for, and of how many traces.
fn asked(form: &Form, now: TimestampNs) -> Result<(SpanExample, usize), ApiError> {
    let service = form
        .get("service")
        .ok_or_else(|| ApiError::bad("parameter 'service' is required"))?;
    let end = micros(form, "end")?.unwrap_or(now.0.saturating_add(AHEAD_NS));
    let lookback = match form.get("lookback") {
        // The UI says `custom` when start and end are given.
        None | Some("custom") => LOOKBACK_NS,
        Some(text) => {
            lookback_ns(text).ok_or_else(|| ApiError::bad(format!("unable to parse param 'lookback': {text:?}")))?
        }
    };
    let start = micros(form, "start")?.unwrap_or(end.min(now.0).saturating_sub(lookback));
    let min = duration(form, "minDuration")?;
    let max = duration(form, "maxDuration")?;
    if let (Some(min), Some(max)) = (min, max)
        && max < min
    {
        return Err(ApiError::bad("'maxDuration' should be greater than 'minDuration'"));
    }
    let limit = match form.get("limit").map(str::parse::<usize>) {
        None | Some(Ok(0)) => LIMIT,
        Some(Ok(limit)) => limit.min(LIMIT_MAX),
        Some(Err(e)) => return Err(ApiError::bad(format!("unable to parse param 'limit': {e}"))),
    };
    let example = SpanExample {
        range: TimeRangeNs {
            start: TimestampNs(start),
            end: TimestampNs(end.saturating_add(1)),
        },
        service: service.to_owned(),
        // The UI's word for any.
        operation: form.get("operation").filter(|o| *o != "all").unwrap_or("").to_owned(),
        tags: tags(form)?,
        min_duration_ns: min,
        max_duration_ns: max,
    };
    Ok((example, limit))
}

/// `tag=key:value`, repeatable, and `tags={"key":"value"}`.
fn tags(form: &Form) -> Result<Vec<(String, String)>, ApiError> {
    let mut tags = Vec::new();
    for tag in form.all("tag") {
        let (key, value) = tag.split_once(':').ok_or_else(|| {
            ApiError::bad(format!(
                "malformed 'tag' parameter, expecting key:value, received: {tag}"
            ))
        })?;
        tags.push((key.to_owned(), value.to_owned()));
    }
    for json in form.all("tags").filter(|json| !json.is_empty()) {
        tags.extend(tags_of_json("tags", json)?);
    }
    Ok(tags)
}

/// `{"key":"value"}`; values that are no text stand for their text.
pub(super) fn tags_of_json(name: &str, json: &str) -> Result<Vec<(String, String)>, ApiError> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
        .map_err(|e| ApiError::bad(format!("malformed '{name}' parameter, cannot unmarshal JSON: {e}")))?;
    let tags = object.into_iter().map(|(key, value)| match value {
        serde_json::Value::String(text) => (key, text),
        other => (key, other.to_string()),
    });
    Ok(tags.collect())
}

/// A time in µs since the epoch, as ns.
fn micros(form: &Form, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let ns = text.parse::<i64>().ok().and_then(|us| us.checked_mul(1000));
    ns.map(Some).ok_or_else(|| {
        ApiError::bad(format!(
            "unable to parse param '{name}': {text:?} is no time in microseconds"
        ))
    })
}

/// `1h`, `2d`, or µs.
fn lookback_ns(text: &str) -> Option<i64> {
    let micros = || text.parse::<i64>().ok().and_then(|us| us.checked_mul(1000));
    prometheus_duration_ns(text).or_else(micros).filter(|ns| *ns > 0)
}

/// A Go duration, ns.
pub(super) fn duration(form: &Form, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let ns = go_duration_ns(text).and_then(|ns| u64::try_from(ns).ok());
    ns.map(Some).ok_or_else(|| {
        ApiError::bad(format!(
            "unable to parse param '{name}': time: invalid duration {text:?}"
        ))
    })
}

/// A trace id as it is asked for.
pub(super) fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    text.parse::<TraceId>()
        .map_err(|e| ApiError::bad(format!("cannot parse trace id: {e}")))
}

/// A JSON answer, indented on request.
fn answer(form: &Form, body: String) -> Response {
    let pretty = form.get("prettyPrint").is_some_and(|v| v != "false");
    let parsed = pretty.then(|| serde_json::from_str::<serde_json::Value>(&body).ok());
    let body = parsed.flatten().map_or(body, |value| format!("{value:#}"));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
