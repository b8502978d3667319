//! Pages for people: what somebody finds who opens a port in a browser.
//!
//! Plain HTML, made here from what the APIs know and sent at once: no framework, no resource from elsewhere, nothing to
//! wait for. The Prometheus port has the pages that Prometheus' users look for, under the same paths; the Loki and Tempo
//! ports have a start page that says what answers there. Only the query page runs a script, which asks the API that it
//! stands beside.
//!
//! Text from outside (labels, errors, settings) can only get into a page through [`html::Html::text`], which escapes it.
//! Grafana is where dashboards are; nothing here is meant to grow into one.

mod html;
mod query;
mod rules;
mod start;
mod status;
mod targets;

use ::query::Queries;
use axum::Router;
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use http::Uri;

use crate::About;

/// What the pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    pub queries: Queries,
    pub about: About,
}

/// The pages of the Prometheus port.
pub(crate) fn prometheus_pages(queries: &Queries, about: &About) -> Router {
    Router::new()
        .route("/", get(start::prometheus))
        .route("/query", get(query::ask))
        .route("/graph", get(to_query))
        .route("/targets", get(targets::targets))
        .route("/service-discovery", get(targets::discovery))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/status", get(status::status))
        .route("/tsdb-status", get(status::tsdb))
        .route("/flags", get(status::flags))
        .route("/config", get(status::config))
        .with_state(pages(queries, about))
}

/// The start page of the Loki port.
pub(crate) fn loki_pages(queries: &Queries, about: &About) -> Router {
    Router::new()
        .route("/", get(start::loki))
        .with_state(pages(queries, about))
}

/// The start page of the Tempo port.
pub(crate) fn tempo_pages(queries: &Queries, about: &About) -> Router {
    Router::new()
        .route("/", get(start::tempo))
        .with_state(pages(queries, about))
}

fn pages(queries: &Queries, about: &About) -> Pages {
    Pages {
        queries: queries.clone(),
        about: about.clone(),
    }
}

/// Alerts and old bookmarks link to `/graph?g0.expr=…`.
async fn to_query(uri: Uri) -> impl IntoResponse {
    let query = uri.query().unwrap_or("");
    Redirect::to(&format!("query?{query}"))
}
