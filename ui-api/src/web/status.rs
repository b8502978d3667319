//! `/status`, `/tsdb-status`, `/flags`, `/config`: the process as it is, and as it was told to be.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use model::Signal;
use query::Language;
use storage::StorageStats;

use super::Pages;
use super::html::{Html, bytes_text, grouped, page, roughly};

/// Rows of each list of `/tsdb-status`.
const TOP: usize = 15;

pub(crate) async fn status(State(pages): State<Pages>) -> Response {
    let storage = pages.queries.storage();
    let (stats, asked) = (storage.stats(), pages.queries.stats());
    let mut body = Html::default();
    let started = jiff::Timestamp::from_millisecond((pages.about.start_seconds * 1e3) as i64);
    body.html("<h2>Process</h2>").facts(&[
        ("Version", format!("{} {}", pages.about.version, pages.about.revision)),
        ("Started", started.map_or_else(|_| String::new(), |t| t.to_string())),
        ("Up for", roughly(up_for(&pages))),
        ("Machine", pages.about.hostname.clone()),
        ("Working directory", pages.about.working_dir.clone()),
        (
            "Cores",
            std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        ),
        (
            "Memory accounted",
            format!(
                "{} of {}",
                bytes_text(stats.budget_used),
                bytes_text(stats.budget_limit)
            ),
        ),
        (
            "Free disk",
            stats.space.map_or_else(
                || "unknown".to_owned(),
                |s| format!("{} of {}", bytes_text(s.free), bytes_text(s.total)),
            ),
        ),
        (
            "Takes data",
            if stats.disk_full {
                "no: too little disk is free"
            } else {
                "yes"
            }
            .to_owned(),
        ),
    ]);
    engines(&mut body, &stats);
    body.html("<h2>Queries since the start</h2><table><thead><tr><th>Language<th class=n>Run<th class=n>Given up<th class=n>Time</thead>");
    for (i, language) in Language::ALL.iter().enumerate() {
        body.html("<tr><td>").text(language.as_str());
        body.html("<td class=n>").text(grouped(asked.run[i]));
        body.html("<td class=n>").text(grouped(asked.given_up[i]));
        body.html("<td class=n>")
            .text(format_args!("{:.1} s", asked.seconds[i]));
    }
    body.html("</table><h2>Running now</h2>");
    let active = pages.queries.active();
    if active.is_empty() {
        body.html("<p class=soft>No query.</p>");
    } else {
        body.html("<table><thead><tr><th>Language<th class=n>For<th>Query</thead>");
        for query in active {
            body.html("<tr><td>").text(query.language.as_str());
            body.html("<td class=n>").text(roughly(query.running));
            body.html("<td class=mono>").text(&query.text);
        }
        body.html("</table>");
    }
    page("Status", Some("status"), &body)
}

/// A figure of each engine: what it is, its values, and how they are printed.
type Row = (&'static str, [u64; 3], fn(u64) -> String);

fn engines(body: &mut Html, stats: &StorageStats) {
    let (m, l, t) = (&stats.metrics, &stats.logs, &stats.traces);
    let rows: [Row; 11] = [
        ("Stored since the start", [m.appended, l.appended, t.appended], grouped),
        (
            "Items in the head",
            [m.head_samples, l.head_entries, t.head_spans],
            grouped,
        ),
        (
            "Series, streams, traces in the head",
            [m.head_series, l.head_streams, t.head_traces],
            grouped,
        ),
        (
            "Memory of the head",
            [m.head_bytes, l.head_bytes, t.head_bytes],
            bytes_text,
        ),
        ("Blocks", [m.blocks, l.blocks, t.blocks], grouped),
        (
            "Bytes of blocks",
            [m.block_bytes, l.block_bytes, t.block_bytes],
            bytes_text,
        ),
        (
            "Bytes of WAL",
            [m.wal.disk_bytes, l.wal.disk_bytes, t.wal.disk_bytes],
            bytes_text,
        ),
        (
            "WAL failures",
            [m.wal.failures, l.wal.failures, t.wal.failures],
            grouped,
        ),
        ("Heads cut", [m.cuts, l.cuts, t.cuts], grouped),
        ("Compactions", [m.compactions, l.compactions, t.compactions], grouped),
        (
            "Damaged chunks met",
            [m.corrupt_chunks, l.corrupt_chunks, t.corrupt_chunks],
            grouped,
        ),
    ];
    body.html("<h2>Storage</h2><table><thead><tr><th><th class=n>Metrics<th class=n>Logs<th class=n>Traces</thead>");
    for (what, values, text) in rows {
        body.html("<tr><td>").html(what);
        for value in values {
            body.html("<td class=n>").text(text(value));
        }
    }
    body.html("</table>");
}

pub(crate) async fn tsdb(State(pages): State<Pages>) -> Response {
    let mut body = Html::default();
    let counted = pages
        .queries
        .run(Language::PromQl, "tsdb-status page", None, |_, storage| {
            storage.metrics().cardinality(TOP)
        });
    let head = match counted.await {
        Ok(head) => head,
        Err(why) => {
            body.html("<p class=\"empty bad\">").text(why).html("</p>");
            return page("Cardinality", Some("tsdb-status"), &body);
        }
    };
    body.facts(&[
        ("Active series", grouped(head.series)),
        ("Label pairs", grouped(head.label_pairs)),
        ("Chunks in memory", grouped(head.chunks)),
    ]);
    for (title, of, rows, text) in [
        (
            "Metrics with the most series",
            "Metric",
            &head.series_by_metric,
            grouped as fn(u64) -> String,
        ),
        ("Labels with the most values", "Label", &head.values_by_label, grouped),
        (
            "Labels that take the most memory",
            "Label",
            &head.bytes_by_label,
            bytes_text,
        ),
        ("Pairs with the most series", "Pair", &head.series_by_pair, grouped),
    ] {
        body.html("<h2>")
            .html(title)
            .html("</h2><table><thead><tr><th>")
            .html(of)
            .html("<th class=n></thead>");
        for (name, n) in rows {
            body.html("<tr><td class=mono>")
                .text(name)
                .html("<td class=n>")
                .text(text(*n));
        }
        body.html("</table>");
    }
    page("Cardinality", Some("tsdb-status"), &body)
}

pub(crate) async fn flags(State(pages): State<Pages>) -> Response {
    let mut body = Html::default();
    body.html("<table><thead><tr><th>Flag<th>Value</thead>");
    for (name, value) in &pages.about.flags {
        body.html("<tr><td class=mono>--")
            .text(name)
            .html("<td class=mono>")
            .text(value);
    }
    body.html("</table>");
    page("Flags", Some("flags"), &body)
}

pub(crate) async fn config(State(pages): State<Pages>) -> Response {
    let mut body = Html::default();
    body.html("<pre>").text(pages.about.config_yaml()).html("</pre>");
    page("Configuration", Some("config"), &body)
}

/// How long the process has been running.
pub(crate) fn up_for(pages: &Pages) -> Duration {
    let now = pages.queries.storage().now().0 as f64 / 1e9;
    Duration::try_from_secs_f64(now - pages.about.start_seconds).unwrap_or_default()
}

/// Bytes on disk of a signal.
pub(crate) fn wal_and_blocks(stats: &StorageStats, signal: Signal) -> u64 {
    let (blocks, wal) = match signal {
        Signal::Metrics => (stats.metrics.block_bytes, stats.metrics.wal.disk_bytes),
        Signal::Logs => (stats.logs.block_bytes, stats.logs.wal.disk_bytes),
        Signal::Traces => (stats.traces.block_bytes, stats.traces.wal.disk_bytes),
    };
    blocks + wal
}
