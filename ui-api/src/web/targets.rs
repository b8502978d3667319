//! `/targets` and `/service-discovery`: who is scraped, how that goes, and what was found but not wanted.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::Pages;
use super::html::{Html, page, roughly};
use crate::{Target, scraped};

/// Rows that a page shows of the targets that were dropped.
const DROPPED_MAX: usize = 500;

#[derive(Deserialize)]
pub(crate) struct Asked {
    /// `down`: only those that are not up.
    state: Option<String>,
}

pub(crate) async fn targets(State(pages): State<Pages>, Query(asked): Query<Asked>) -> Response {
    let now = pages.queries.storage().now().floor_ms().0;
    let only_failing = asked.state.as_deref() == Some("down");
    let active = pages.about.targets.active();
    let mut body = Html::default();
    body.html("<p>");
    for (to, word, is_shown) in [
        ("targets", "All", !only_failing),
        ("targets?state=down", "Not up", only_failing),
    ] {
        if is_shown {
            body.html("<b>").html(word).html("</b> ");
        } else {
            body.link(to, word).html(" ");
        }
    }
    body.html("</p>");
    for pool in pages.about.targets.pools() {
        let of_pool: Vec<&Target> = active.iter().filter(|t| t.pool == pool.name).collect();
        let up = of_pool.iter().filter(|t| t.health() == scraped::Health::Up).count();
        let shown: Vec<&&Target> = (of_pool.iter())
            .filter(|t| !only_failing || t.health() != scraped::Health::Up)
            .collect();
        body.html("<h2>").text(&pool.name);
        body.html(" <span class=soft>")
            .text(format_args!("({up}/{} up)", of_pool.len()))
            .html("</span></h2>");
        if shown.is_empty() {
            body.html("<p class=soft>").html(if only_failing {
                "All are up.</p>"
            } else {
                "No targets.</p>"
            });
            continue;
        }
        body.html(
            "<table><thead><tr><th>Endpoint<th>State<th>Labels<th class=n>Last scrape<th class=n>Took<th>Error</thead>",
        );
        for target in shown {
            row(&mut body, target, now);
        }
        body.html("</table>");
    }
    page("Targets", Some("targets"), &body)
}

fn row(body: &mut Html, target: &Target, now: i64) {
    let health = target.health();
    body.html("<tr><td>").link(&target.global_url, &target.url);
    body.html("<td><span class=")
        .html(health.as_str())
        .html(">")
        .html(health.as_str())
        .html("</span>");
    body.html("<td>").labels(&target.labels);
    body.html("<td class=n>");
    match target.last_scrape {
        None => body.html("never"),
        Some(t) => {
            let ago = Duration::from_millis(u64::try_from(now.saturating_sub(t.0)).unwrap_or(0));
            body.text(roughly(ago)).html(" ago")
        }
    };
    body.html("<td class=n>").text(roughly(target.last_duration));
    body.html("<td class=bad>").text(&target.last_error);
}

pub(crate) async fn discovery(State(pages): State<Pages>) -> Response {
    let (active, dropped) = (pages.about.targets.active(), pages.about.targets.dropped());
    let mut body = Html::default();
    for pool in pages.about.targets.pools() {
        let kept: Vec<_> = active.iter().filter(|t| t.pool == pool.name).collect();
        let not_kept: Vec<_> = dropped.iter().filter(|t| t.pool == pool.name).collect();
        body.html("<h2>").text(&pool.name).html(" <span class=soft>");
        body.text(format_args!("({} active, {} dropped)", kept.len(), not_kept.len()))
            .html("</span></h2>");
        body.html("<table><thead><tr><th>Found<th>Becomes</thead>");
        for target in kept {
            body.html("<tr><td>")
                .labels(&target.discovered)
                .html("<td>")
                .labels(&target.labels);
        }
        for target in not_kept.iter().take(DROPPED_MAX) {
            body.html("<tr><td>")
                .labels(&target.discovered)
                .html("<td class=soft>dropped");
        }
        body.html("</table>");
        if let Some(more) = not_kept.len().checked_sub(DROPPED_MAX).filter(|n| *n > 0) {
            body.html("<p class=soft>").text(more).html(" more were dropped; ");
            body.link("api/v1/targets?state=dropped", "the API")
                .html(" lists them.</p>");
        }
    }
    page("Service discovery", Some("service-discovery"), &body)
}
