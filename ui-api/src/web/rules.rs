//! `/rules` and `/alerts`. The rules engine is not part of this version, and the pages say what to do instead.

use axum::response::Response;

use super::html::{Html, page};

pub(crate) async fn rules() -> Response {
    let mut body = Html::default();
    body.html(
        "<p class=empty>No rules. Recording and alerting rules are not evaluated by this version: keep them in a Prometheus that \
         reads from here (<code>remote_read</code>), or in Grafana.</p>",
    );
    page("Rules", Some("rules"), &body)
}

pub(crate) async fn alerts() -> Response {
    let mut body = Html::default();
    body.html(
        "<p class=empty>No alerts. Alerting rules are not evaluated by this version; Grafana's own alerting works on all three \
         datasources.</p>",
    );
    page("Alerts", Some("alerts"), &body)
}
