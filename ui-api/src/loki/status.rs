//! What Loki says of itself: settings, modules, log level, and the ways to make it write what it holds.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};

use super::encode::json;
use super::errors::ApiError;
use super::routes::Api;
use crate::form::Form;
use crate::number::push_json;

const TEXT: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

/// The endpoints beside `/loki/api/v1/`.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/config", get(config))
        .route("/config/tenant/v1/limits", get(limits))
        .route("/services", get(|| async { (TEXT, "trilobite => Running\n") }))
        .route("/log_level", get(log_level).post(set_log_level))
        .route("/flush", get(flush).post(flush))
        .route("/ingester/flush", post(flush))
}

/// The settings in force, as YAML.
async fn config(State(api): State<Api>) -> Response {
    (TEXT, api.about.settings_yaml()).into_response()
}

/// The limits that a client may meet, as YAML.
async fn limits(State(api): State<Api>) -> Response {
    let mut out = String::new();
    for (name, value) in super::routes::limits(&api) {
        out.push_str(&format!("{name}: {value}\n"));
    }
    (TEXT, out).into_response()
}

async fn log_level(State(api): State<Api>) -> Response {
    let mut out = String::from("{\"message\":");
    push_json(&mut out, &format!("Current log level is {}", api.about.log_level.get()));
    out.push('}');
    json(out)
}

async fn set_log_level(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let asked = form.get("log_level").unwrap_or("");
    let (status, word, message) = match api.about.log_level.set(asked) {
        Ok(()) => (StatusCode::OK, "success", format!("Log level set to {asked}")),
        Err(what) => (StatusCode::BAD_REQUEST, "failed", what),
    };
    let mut out = String::from("{\"message\":");
    push_json(&mut out, &message);
    out.push_str(",\"status\":");
    push_json(&mut out, word);
    out.push('}');
    Ok((status, json(out)).into_response())
}

/// Makes blocks of what is in the heads.
async fn flush(State(api): State<Api>) -> Response {
    crate::flush(&api.queries, StatusCode::INTERNAL_SERVER_ERROR).await
}
