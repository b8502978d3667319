//! The HTTP endpoints: parameters in, questions asked, answers out.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;
use query::Queries;
use query_traceql::TagName;

use super::asked::{Api, DAMAGED, MetricsAsked, SearchAsked, TagsAsked, TraceAsked, ValuesAsked};
use super::errors::ApiError;
use super::{encode, messages, status, streaming};
use crate::About;
use crate::form::{Form, decode};
use crate::number::push_json;
use crate::otlp_trace::{Groups, Spelling, v2_protobuf};

/// The Tempo HTTP API under `/api/`, and its streaming API.
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
        .merge(status::router())
        .merge(streaming::router())
        .with_state(api)
        .merge(crate::web::tempo_pages(queries, about))
        .fallback(streaming::unknown)
}

async fn build_info(State(api): State<Api>) -> Response {
    // Clients compare the version with Tempo's own to decide what they may ask: 2.2 announces streaming search, 2.7 streaming
    // metrics.
    let mut out = String::from(r#"{"version":"2.9.0","revision":"#);
    push_json(&mut out, &api.about.revision);
    out.push_str(r#","branch":"","buildUser":"#);
    push_json(&mut out, &format!("trilobite {}", api.about.version));
    out.push_str(r#","buildDate":"","goVersion":""}"#);
    encode::json(out)
}

async fn trace_v1(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let form = Form::read(request).await?;
    let (spans, lacking) = api.trace(TraceAsked::read(&id, &form)?).await?;
    if spans.is_empty() {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    // There is no place for a warning in this answer.
    if let Some(most) = lacking.beyond {
        return Err(ApiError::unprocessable(format!(
            "trace exceeds max size (max spans: {most}); /api/v2/traces shows part of it"
        )));
    }
    let groups = Groups::of(&spans);
    if protobuf {
        return Ok(protobuf_answer(groups.protobuf().encode_to_vec()));
    }
    Ok(encode::json(groups.json("batches", Spelling::Proto)))
}

async fn trace_v2(State(api): State<Api>, Path(id): Path<String>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let form = Form::read(request).await?;
    let asked = TraceAsked::read(&id, &form)?.filtered(&form)?;
    let (spans, lacking) = api.trace(asked).await?;
    let lacking = lacking.words();
    let groups = Groups::of(&spans);
    if protobuf {
        return Ok(protobuf_answer(v2_protobuf(&groups.protobuf(), &lacking)));
    }
    Ok(encode::json(format!(
        "{{\"trace\":{},\"metrics\":{{}}{}}}",
        groups.json("resourceSpans", Spelling::Proto),
        encode::partial(&lacking)
    )))
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|v| v.contains("application/protobuf"))
}

fn protobuf_answer(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], body).into_response()
}

async fn search(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let form = Form::read(request).await?;
    let asked = SearchAsked::read(&form, api.now())?;
    let spansets = !asked.by_tags;
    let output = api.search(asked, None).await?;
    if protobuf {
        let message = messages::SearchResponse {
            traces: output
                .traces
                .iter()
                .map(|t| messages::found_trace(t, spansets))
                .collect(),
            metrics: Some(messages::search_metrics(&output, 1)),
        };
        return Ok(protobuf_answer(message.encode_to_vec()));
    }
    let mut response = encode::search(&output, spansets);
    if output.incomplete {
        // Clients read the body strictly; a header does not hurt them.
        let warning = HeaderValue::from_str(&format!("199 - \"{DAMAGED}\""));
        response
            .headers_mut()
            .extend(warning.map(|warning| (header::WARNING, warning)));
    }
    Ok(response)
}

async fn tags_v1(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let form = Form::read(request).await?;
    let names = api.tag_names(TagsAsked::read(&form)?).await?;
    if protobuf {
        return Ok(protobuf_answer(messages::tag_names(names).encode_to_vec()));
    }
    Ok(encode::tag_names(&names))
}

async fn tags_v2(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let form = Form::read(request).await?;
    let scopes = api.tags(TagsAsked::read(&form)?, true).await?;
    if protobuf {
        return Ok(protobuf_answer(messages::tag_scopes(scopes).encode_to_vec()));
    }
    Ok(encode::tag_scopes(&scopes))
}

async fn values_v1(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let values = values(&api, request, "/api/search/tag/").await?;
    if protobuf {
        return Ok(protobuf_answer(messages::tag_values(values).encode_to_vec()));
    }
    Ok(encode::tag_values(&values, false))
}

async fn values_v2(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let protobuf = wants_protobuf(request.headers());
    let values = values(&api, request, "/api/v2/search/tag/").await?;
    if protobuf {
        return Ok(protobuf_answer(messages::typed_tag_values(values).encode_to_vec()));
    }
    Ok(encode::tag_values(&values, true))
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
    let tag = match prefix.starts_with("/api/v2/") {
        true => TagName::Identifier(tag),
        false => TagName::Bare(tag),
    };
    let form = Form::read(request).await?;
    api.tag_values(ValuesAsked::read(tag, &form)?).await
}

async fn metrics_range(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let (output, lacking) = api.metrics_range(MetricsAsked::read(&form, api.now())?, None).await?;
    Ok(encode::metrics(&output, false, &lacking))
}

/// One interval over the whole range.
async fn metrics_instant(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let (output, lacking) = api.metrics_instant(MetricsAsked::read(&form, api.now())?, None).await?;
    Ok(encode::metrics(&output, true, &lacking))
}
