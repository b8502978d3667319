//! What the ruler's endpoints say while there are no rules: the lists that Grafana's alerting pages and scripts ask for.
//!
//! Paths below `rules/` are left to the 404 of unknown paths: Grafana reads in its words "page not found" that rules
//! cannot be edited here.

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::errors::ApiError;
use super::routes::Api;
use crate::form::Form;
use crate::number::push_json;

/// The lists of rules and alerts.
pub(crate) fn router() -> Router<Api> {
    Router::new()
        .route("/loki/api/v1/rules", get(groups))
        .route("/api/prom/rules", get(groups))
        .route("/prometheus/api/v1/rules", get(states))
        .route("/prometheus/api/v1/alerts", get(alerts))
}

/// The groups as YAML, of which there are none; Loki's word for that is a 404.
async fn groups() -> ApiError {
    ApiError::with_status(StatusCode::NOT_FOUND, "no rule groups found\n")
}

async fn states(request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    Ok(match form.get("type").map(str::to_lowercase).as_deref() {
        None | Some("alert" | "record") => prometheus(StatusCode::OK, r#"{"groups":[]}"#, "", ""),
        Some(other) => {
            let words = format!("not supported value {other:?}");
            prometheus(StatusCode::BAD_REQUEST, "null", "bad_data", &words)
        }
    })
}

async fn alerts() -> Response {
    prometheus(StatusCode::OK, r#"{"alerts":[]}"#, "", "")
}

/// An answer in the shape of Prometheus, with the members that Loki always writes.
fn prometheus(status: StatusCode, data: &str, kind: &str, error: &str) -> Response {
    let word = if status.is_success() { "success" } else { "error" };
    let mut out = format!(r#"{{"status":"{word}","data":{data},"errorType":"{kind}","error":"#);
    push_json(&mut out, error);
    out.push('}');
    (status, [(header::CONTENT_TYPE, "application/json")], out).into_response()
}
