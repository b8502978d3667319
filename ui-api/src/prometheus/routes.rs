//! The endpoints: which path is answered by what, by which methods, and for pages of which origin.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::{HeaderValue, Method, StatusCode, header};
use query::Queries;
use tokio::sync::Semaphore;

use super::{admin, features, federate, queries, remote_read, rules, series, status, targets};
use crate::{About, web};

#[derive(Clone)]
pub(crate) struct Api {
    pub queries: Queries,
    pub about: About,
    pub reads: remote_read::Places,
    /// Places of those who wait for notifications.
    pub listeners: Arc<Semaphore>,
}

/// The Prometheus HTTP API under `/api/v1/`, and `/federate`.
pub fn router(queries: &Queries, about: &About) -> Router {
    let api = Api {
        queries: queries.clone(),
        about: about.clone(),
        reads: remote_read::Places::default(),
        listeners: Arc::new(Semaphore::new(status::LISTENERS_MAX)),
    };
    Router::new()
        .route("/api/v1/query", both(queries::query))
        .route("/api/v1/query_range", both(queries::query_range))
        .route("/api/v1/query_exemplars", both(queries::query_exemplars))
        .route("/api/v1/format_query", both(queries::format_query))
        .route("/api/v1/parse_query", both(queries::parse_query))
        .route("/api/v1/series", both(series::series))
        .route("/api/v1/labels", both(series::labels))
        .route("/api/v1/label/{name}/values", one(series::label_values))
        .route("/api/v1/metadata", one(series::metadata))
        .route("/api/v1/targets", one(targets::targets))
        .route("/api/v1/targets/metadata", one(targets::metadata))
        .route("/api/v1/targets/relabel_steps", one(targets::relabel_steps))
        .route("/api/v1/scrape_pools", one(targets::scrape_pools))
        .route("/api/v1/scrape_pools/config", one(targets::scrape_pool_config))
        .route("/api/v1/alertmanagers", one(targets::alertmanagers))
        .route("/api/v1/rules", one(rules::rules))
        .route("/api/v1/alerts", one(rules::alerts))
        .route("/api/v1/status/buildinfo", one(status::build_info))
        .route("/api/v1/status/flags", one(status::flags))
        .route("/api/v1/status/config", one(status::config))
        .route("/api/v1/status/runtimeinfo", one(status::runtime_info))
        .route("/api/v1/status/tsdb", one(status::tsdb))
        .route("/api/v1/status/tsdb/blocks", one(status::blocks))
        .route("/api/v1/status/walreplay", one(status::wal_replay))
        .route("/api/v1/status/self_metrics", one(status::self_metrics))
        .route("/api/v1/openapi.yaml", one(status::description))
        .route("/api/v1/notifications/live", one(status::live_notifications))
        .route("/api/v1/features", one(features::features))
        .route("/api/v1/notifications", one(status::notifications))
        .route("/api/v1/read", post(remote_read::read).options(no_content))
        .route("/api/v1/search/metric_names", both(status::no_search))
        .route("/api/v1/search/label_names", both(status::no_search))
        .route("/api/v1/search/label_values", both(status::no_search))
        .route("/api/v1/admin/tsdb/delete_series", change(admin::delete_series))
        .route("/api/v1/admin/tsdb/clean_tombstones", change(admin::clean_tombstones))
        .route("/api/v1/admin/tsdb/snapshot", change(admin::snapshot))
        .route("/api/v1/admin/snapshot", change(admin::snapshot))
        .route("/federate", get(federate::federate))
        .route("/version", get(status::version))
        .with_state(api)
        .merge(web::prometheus_pages(queries, about))
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n") })
        .layer(axum::middleware::map_response(vary_on_origin))
        .layer(axum::middleware::from_fn(cors))
        .fallback(unknown)
}

fn one<H, T>(handler: H) -> MethodRouter<Api>
where
    H: Handler<T, Api>,
    T: 'static,
{
    get(handler).options(no_content)
}

fn both<H, T>(handler: H) -> MethodRouter<Api>
where
    H: Handler<T, Api>,
    T: 'static,
{
    get(handler.clone()).post(handler).options(no_content)
}

fn change<H, T>(handler: H) -> MethodRouter<Api>
where
    H: Handler<T, Api>,
    T: 'static,
{
    post(handler.clone()).put(handler).options(no_content)
}

async fn no_content() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Clients look for these words to learn that there is no such API.
async fn unknown(request: Request) -> Response {
    if request.method() == Method::OPTIONS && request.uri().path().starts_with("/api/v1/") {
        return StatusCode::NO_CONTENT.into_response();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn vary_on_origin(mut response: Response) -> Response {
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("Origin"));
    response
}

/// Any page may read, as Prometheus' default origin pattern allows.
async fn cors(request: Request, next: axum::middleware::Next) -> Response {
    let asked = request.headers().contains_key(header::ORIGIN);
    let mut response = next.run(request).await;
    if asked {
        for (name, value) in [
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Accept, Authorization, Content-Type, Origin",
            ),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
