//! What the process tells of itself as Tempo does: plain text under `/status`, each section begun by its path. And
//! `/api/overrides`: there are no limits that a user could set over HTTP.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use super::asked::Api;
use super::errors::ApiError;
use crate::form::Form;

/// The endpoints that `/status/endpoints` lists.
const ENDPOINTS: [&str; 15] = [
    "/api/echo",
    "/api/metrics/query",
    "/api/metrics/query_range",
    "/api/overrides",
    "/api/search",
    "/api/search/tag/{tagName}/values",
    "/api/search/tags",
    "/api/status/buildinfo",
    "/api/traces/{traceID}",
    "/api/v2/search/tag/{tagName}/values",
    "/api/v2/search/tags",
    "/api/v2/traces/{traceID}",
    "/metrics",
    "/ready",
    "/status/{section}",
];

/// The sections of `/status`, in their order there.
const SECTIONS: [&str; 7] = [
    "version",
    "services",
    "endpoints",
    "config",
    "runtime_config",
    "overrides",
    "usage-stats",
];

/// `/status`, its sections, and `/api/overrides`.
pub(super) fn router() -> Router<Api> {
    let overrides = get(read_overrides)
        .post(change_overrides)
        .patch(change_overrides)
        .delete(change_overrides);
    Router::new()
        .route("/status", get(all))
        .route("/status/{section}", get(one))
        .route("/status/overrides/{tenant}", get(tenant))
        .route("/api/overrides", overrides)
}

async fn all(State(api): State<Api>) -> Response {
    let sections: Vec<String> = SECTIONS.iter().filter_map(|name| section(&api, name)).collect();
    text(sections.join("\n"))
}

async fn one(State(api): State<Api>, Path(name): Path<String>) -> Response {
    match section(&api, &name) {
        Some(section) => text(section),
        None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

async fn tenant(Path(tenant): Path<String>) -> Response {
    text(format!("GET /status/overrides/{tenant}\nno overrides\n"))
}

fn section(api: &Api, name: &str) -> Option<String> {
    let mut out = format!("GET /status/{name}\n");
    let about = &api.about;
    match name {
        "version" => {
            let _ = writeln!(
                out,
                "trilobite, version {} (revision: {})",
                about.version, about.revision
            );
        }
        "services" => out.push_str("traces: Running\n"),
        "endpoints" => ENDPOINTS.iter().for_each(|path| {
            let _ = writeln!(out, "GET {path}");
        }),
        "config" => about.flags.iter().for_each(|(name, value)| {
            let _ = writeln!(out, "{name}: {value}");
        }),
        "runtime_config" | "overrides" => out.push_str("no overrides\n"),
        "usage-stats" => out.push_str("usage is not reported to anyone\n"),
        _ => return None,
    }
    Some(out)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// What a user has set is nothing; merged with what holds for all it is an empty document.
async fn read_overrides(request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    match form.get("scope") {
        None | Some("api") => Err(ApiError::not_found("no overrides are set")),
        Some("merged") => {
            let mut response = super::encode::json("{}".to_owned());
            response
                .headers_mut()
                .insert(header::ETAG, HeaderValue::from_static("0"));
            Ok(response)
        }
        Some(other) => Err(ApiError::bad(format!(
            "unknown scope {other:?}, valid options are api and merged"
        ))),
    }
}

async fn change_overrides() -> ApiError {
    ApiError::not_implemented("limits are set by the flags of the process; they cannot be changed over HTTP")
}
