//! The third version of the API, `/api/v3/`: the same questions, answered in OTLP/JSON without the envelope.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;
use model::{Span, TimeRangeNs, TimestampNs};
use query::Queries;
use query_traceql::SpanExample;

use super::encode;
use super::errors::ApiError;
use super::routes::{self, Found, LIMIT, LIMIT_MAX};
use crate::form::Form;
use crate::number::{push_json, time_by_digits_ns};
use crate::otlp_trace::{Groups, Spelling};

/// An error in this version's words.
struct Fault(ApiError);

/// The endpoints.
pub(super) fn router() -> Router<Queries> {
    Router::new()
        .route("/api/v3/services", get(services))
        .route("/api/v3/operations", get(operations))
        .route("/api/v3/traces", get(search))
        .route("/api/v3/traces/{id}", get(trace))
}

async fn services(State(queries): State<Queries>) -> Result<Response, Fault> {
    let names = routes::service_names(&queries).await?;
    Ok(json(format!("{{\"services\":{}}}", encode::texts(&names))))
}

async fn operations(State(queries): State<Queries>, request: Request) -> Result<Response, Fault> {
    let form = Form::read(request).await.map_err(ApiError::from)?;
    let service = form
        .get("service")
        .ok_or_else(|| malformed("service", "it is required"))?;
    let mut found = routes::operations_of(&queries, service.to_owned()).await?;
    if let Some(kind) = form.get("span_kind") {
        found.retain(|(_, k)| encode::kind_word(*k) == kind);
    }
    Ok(json(format!("{{\"operations\":{}}}", encode::operations(&found))))
}

async fn trace(State(queries): State<Queries>, Path(id): Path<String>, request: Request) -> Result<Response, Fault> {
    let form = Form::read(request).await.map_err(ApiError::from)?;
    let id = routes::trace_id(&id)?;
    let raw = form.get("raw_traces") == Some("true");
    Ok(result(routes::found_by_id(&queries, id, raw).await?))
}

async fn search(State(queries): State<Queries>, request: Request) -> Result<Response, Fault> {
    let form = Form::read(request).await.map_err(ApiError::from)?;
    let service = form
        .get("query.service_name")
        .ok_or_else(|| malformed("query.service_name", "it is required"))?;
    let time = |name: &str| {
        let text = form.get(name).ok_or_else(|| malformed(name, "it is required"))?;
        let ns = time_by_digits_ns(text).ok_or_else(|| malformed(name, "it is no RFC 3339 time"))?;
        Ok::<_, ApiError>(TimestampNs(ns))
    };
    let (start, end) = (time("query.start_time_min")?, time("query.start_time_max")?);
    // The name differs between versions.
    let depth = form.get("query.num_traces").or(form.get("query.search_depth"));
    let limit = match depth.map(str::parse::<usize>) {
        None | Some(Ok(0)) => LIMIT,
        Some(Ok(limit)) => limit.min(LIMIT_MAX),
        Some(Err(e)) => return Err(malformed("query.search_depth", &e.to_string()).into()),
    };
    let mut tags = Vec::new();
    for attributes in form.all("query.attributes").filter(|json| !json.is_empty()) {
        tags.extend(routes::tags_of_json("query.attributes", attributes)?);
    }
    let example = SpanExample {
        range: TimeRangeNs {
            start,
            end: TimestampNs(end.0.saturating_add(1)),
        },
        service: service.to_owned(),
        operation: form.get("query.operation_name").unwrap_or("").to_owned(),
        tags,
        min_duration_ns: routes::duration(&form, "query.duration_min")?,
        max_duration_ns: routes::duration(&form, "query.duration_max")?,
    };
    let raw = form.get("query.raw_traces") == Some("true");
    let found = routes::found_by(&queries, example, limit, raw).await?;
    if found.traces.is_empty() {
        return Err(ApiError::not_found("No traces found").into());
    }
    Ok(result(found))
}

fn result(found: Found) -> Response {
    let spans: Vec<Span> = found.traces.into_iter().flat_map(|(_, spans)| spans).collect();
    let groups = Groups::of(&spans).json("resourceSpans", Spelling::Otlp);
    json(format!("{{\"result\":{groups}}}"))
}

fn json(body: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn malformed(name: &str, why: &str) -> ApiError {
    ApiError::bad(format!("malformed parameter {name}: {why}"))
}

impl From<ApiError> for Fault {
    fn from(e: ApiError) -> Fault {
        Fault(e)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, message) = self.0.parts();
        let mut body = format!("{{\"error\":{{\"httpCode\":{},\"message\":", status.as_u16());
        push_json(&mut body, &message);
        body.push_str("}}");
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
