//! What the process tells of itself as Tempo does: plain text under `/status`, each section begun by its path. There are no
//! limits that a user could set over HTTP, so `/api/overrides` does not exist, as in a Tempo that has them switched off.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};

use super::asked::Api;

/// The endpoints that `/status/endpoints` lists.
const ENDPOINTS: [&str; 14] = [
    "/api/echo",
    "/api/metrics/query",
    "/api/metrics/query_range",
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

/// `/status` and its sections.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/status", get(all))
        .route("/status/{section}", get(one))
        .route("/status/overrides/{tenant}", get(tenant))
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

/// What holds for a tenant: the same as for all.
async fn tenant(State(api): State<Api>, Path(tenant): Path<String>) -> Response {
    text(format!(
        "GET /status/overrides/{tenant}\n# user-configurable overrides are not enabled\n{}",
        limits(&api, "")
    ))
}

/// The limits that hold for all, as YAML.
fn limits(api: &Api, indent: &str) -> String {
    let retention = api
        .about
        .flags
        .iter()
        .find(|(name, _)| name.ends_with("retention-traces"));
    let retention = retention.map_or("0s", |(_, value)| value);
    let mut out = String::new();
    for line in [
        "compaction:".to_owned(),
        format!("  block_retention: {retention}"),
        "global:".to_owned(),
        // Traces of any size are stored.
        "  max_bytes_per_trace: 0".to_owned(),
    ] {
        let _ = writeln!(out, "{indent}{line}");
    }
    out
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
        "runtime_config" | "overrides" => {
            let _ = write!(out, "---\ndefaults:\n{}overrides: {{}}\n", limits(api, "  "));
        }
        "usage-stats" => out.push_str("usage is not reported to anyone\n"),
        _ => return None,
    }
    Some(out)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}
