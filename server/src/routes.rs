//! Which router stands behind which door: the APIs, the receivers, and what every HTTP door answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ingest::Ingest;
use query::Queries;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use ui_api::About;

use crate::listeners::Face;
use crate::scraping::Scraping;
use crate::telemetry::Telemetry;

/// The router of a face.
pub fn router(face: Face, queries: &Queries, ingest: &Ingest, about: &About, telemetry: &Arc<Telemetry>) -> Router {
    let compressed = |r: Router| r.layer(CompressionLayer::new().quality(CompressionLevel::Fastest));
    let router = match face {
        Face::OtlpGrpc => return ingest.otlp_grpc_router().layer(CatchPanicLayer::new()),
        Face::JaegerGrpc => return ingest.jaeger_grpc_router().layer(CatchPanicLayer::new()),
        Face::OtlpHttp => ingest.otlp_http_router(),
        Face::Zipkin => ingest.zipkin_router(),
        Face::JaegerThrift => ingest.jaeger_thrift_router(),
        Face::JaegerAdmin => Router::new().route("/", get(jaeger_health)),
        Face::Jaeger => compressed(ui_api::jaeger_router(queries)),
        Face::Prometheus => {
            let api = ui_api::prometheus_router(queries, about).merge(admin(queries, about.admin_api));
            compressed(api)
                .merge(ingest.prometheus_router())
                .merge(lifecycle(&telemetry.scraping))
        }
        Face::Loki => compressed(ui_api::loki_router(queries, about)).merge(ingest.loki_router()),
        Face::Tempo => compressed(ui_api::tempo_router(queries, about)),
    };
    router.merge(for_operators(telemetry)).layer(CatchPanicLayer::new())
}

/// What every HTTP door answers. The doors are only opened when replay is over, so ready means ready.
fn for_operators(telemetry: &Arc<Telemetry>) -> Router {
    Router::new()
        .route("/ready", get(|| async { "ready\n" }))
        .route("/-/ready", get(|| async { "Trilobite Server is Ready.\n" }))
        .route("/-/healthy", get(|| async { "Trilobite Server is Healthy.\n" }))
        .route("/metrics", get(metrics))
        .with_state(telemetry.clone())
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        telemetry.exposition(),
    )
        .into_response()
}

/// As Jaeger says that it is well.
async fn jaeger_health() -> Response {
    axum::Json(serde_json::json!({"status": "Server available"})).into_response()
}

/// Reload over HTTP, if that is on, and quit, which never is.
fn lifecycle(scraping: &Arc<Scraping>) -> Router {
    let refused = || async { REFUSED };
    Router::new()
        .route("/-/reload", post(reload).put(reload))
        .route("/-/quit", post(refused).put(refused))
        .with_state(scraping.clone())
}

const REFUSED: (StatusCode, &str) = (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n");

async fn reload(State(scraping): State<Arc<Scraping>>) -> Response {
    if !scraping.over_http {
        return REFUSED.into_response();
    }
    let why = match tokio::task::spawn_blocking(move || scraping.reload()).await {
        Ok(Ok(())) => return StatusCode::OK.into_response(),
        Ok(Err(why)) => why,
        Err(e) => e.to_string(),
    };
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("failed to reload config: {why}\n"),
    )
        .into_response()
}

fn admin(queries: &Queries, enabled: bool) -> Router {
    if !enabled {
        return Router::new();
    }
    Router::new()
        .route("/api/v1/admin/flush", post(flush))
        .with_state(queries.clone())
}

/// Cuts all three heads and answers when their blocks are in the catalogue.
async fn flush(State(queries): State<Queries>) -> Response {
    ui_api::flush(&queries, StatusCode::SERVICE_UNAVAILABLE).await
}
