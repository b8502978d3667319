//! The start pages: what is here, how it is, and where the rest is.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use http::header;
use model::Signal;
use storage::StorageStats;

use super::Pages;
use super::html::{Html, bytes_text, grouped, page, roughly};
use super::status::{up_for, wal_and_blocks};
use crate::scraped::Health;

/// A link to a page or an endpoint, and what is found there.
type Way = (&'static str, &'static str);

/// The ports, by the setting that moves them.
const PORTS: &[(&str, &str)] = &[
    (
        "prometheus-addr",
        "Prometheus API, remote write, this page's neighbours",
    ),
    ("loki-addr", "Loki API, push"),
    ("tempo-addr", "Tempo API"),
    ("otlp-http-addr", "OTLP over HTTP in"),
    ("otlp-grpc-addr", "OTLP over gRPC in"),
    ("zipkin-addr", "Zipkin in"),
    ("jaeger-addr", "Jaeger query API"),
    ("jaeger-grpc-addr", "Jaeger in, gRPC"),
    ("jaeger-thrift-addr", "Jaeger in, Thrift over HTTP"),
    ("jaeger-udp-addr", "Jaeger in, UDP"),
];

pub(crate) async fn prometheus(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let stats = pages.queries.storage().stats();
    let mut body = Html::default();
    body.html(
        "<p>Metrics, logs and traces in one process. Dashboards are in Grafana; here is what runs underneath.</p>",
    );
    cards(&mut body, &pages, &stats);
    signals(&mut body, &pages, &stats);
    body.html("<h2>Pages</h2>");
    ways(
        &mut body,
        &[
            ("query", "ask PromQL, see a chart"),
            ("targets", "who is scraped, and how the last scrape went"),
            ("service-discovery", "what was found, before and after relabelling"),
            ("rules", "recording and alerting rules"),
            ("alerts", "what fires"),
            ("status", "process, storage, running queries"),
            ("tsdb-status", "which metrics and labels have the most series"),
            ("flags", "every setting and its value"),
            ("config", "the configuration in force"),
            ("metrics", "its own metrics"),
            ("federate?match[]=up", "series for another Prometheus"),
        ],
    );
    ports(&mut body, &pages, &headers);
    page("Start", Some(""), &body)
}

pub(crate) async fn loki(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let mut body = Html::default();
    body.html("<p>This port answers as Loki does. In Grafana, add a Loki datasource with this URL.</p>");
    signals(&mut body, &pages, &pages.queries.storage().stats());
    body.html("<h2>Try</h2>");
    ways(
        &mut body,
        &[
            ("loki/api/v1/labels", "label names of the last hours"),
            ("loki/api/v1/label/service_name/values", "services that log"),
            (
                "loki/api/v1/query_range?query={service_name=~\".%2B\"}&limit=20",
                "the newest lines of all services",
            ),
            ("loki/api/v1/status/buildinfo", "the version it speaks for"),
            ("ready", "whether it is ready"),
            ("metrics", "its own metrics"),
        ],
    );
    body.html("<p>Lines come in at <code>/loki/api/v1/push</code> (Promtail, Alloy, Fluent Bit) and <code>/otlp/v1/logs</code>.</p>");
    ports(&mut body, &pages, &headers);
    page("Logs", None, &body)
}

pub(crate) async fn tempo(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let mut body = Html::default();
    body.html("<p>This port answers as Tempo does. In Grafana, add a Tempo datasource with this URL.</p>");
    signals(&mut body, &pages, &pages.queries.storage().stats());
    body.html("<h2>Try</h2>");
    ways(
        &mut body,
        &[
            ("api/search?limit=20", "traces of the last hour"),
            ("api/search?q={duration>500ms}", "slow ones"),
            ("api/v2/search/tags", "attributes that spans have"),
            ("api/search/tag/service.name/values", "services that send spans"),
            ("api/status/buildinfo", "the version it speaks for"),
            ("ready", "whether it is ready"),
            ("metrics", "its own metrics"),
        ],
    );
    body.html(
        "<p>One trace is at <code>/api/traces/&lt;trace id&gt;</code>. Spans come in over OTLP, Zipkin and Jaeger.</p>",
    );
    ports(&mut body, &pages, &headers);
    page("Traces", None, &body)
}

fn cards(body: &mut Html, pages: &Pages, stats: &StorageStats) {
    let targets = pages.about.targets.active();
    let failing = (targets.iter()).filter(|t| t.health() != Health::Up).count();
    let word = if targets.len() == 1 { "target" } else { "targets" };
    let of_targets = format!("{word}, {} up", targets.len() - failing);
    let disk = stats.space.map_or_else(|| "?".to_owned(), |s| bytes_text(s.free));
    let cards = [
        (grouped(stats.metrics.head_series), "active series".to_owned()),
        (targets.len().to_string(), of_targets),
        (
            bytes_text(stats.budget_used),
            format!("of {} memory allowed", bytes_text(stats.budget_limit)),
        ),
        (
            disk,
            if stats.disk_full {
                "free: too little, ingest is refused"
            } else {
                "free disk"
            }
            .to_owned(),
        ),
        (roughly(up_for(pages)), format!("up, version {}", pages.about.version)),
    ];
    body.html("<div class=cards>");
    for (figure, what) in cards {
        body.html("<div class=card><b>")
            .text(figure)
            .html("</b><span>")
            .text(what)
            .html("</span></div>");
    }
    body.html("</div>");
}

/// One row per signal: what is in memory, what is on disk, how far it reaches back.
fn signals(body: &mut Html, pages: &Pages, stats: &StorageStats) {
    let head = [
        (stats.metrics.head_samples, stats.metrics.head_series),
        (stats.logs.head_entries, stats.logs.head_streams),
        (stats.traces.head_spans, stats.traces.head_traces),
    ];
    let words = [("samples", "series"), ("entries", "streams"), ("spans", "traces")];
    body.html(
        "<table><thead><tr><th>Signal<th class=n>In the head<th class=n>In blocks<th class=n>On disk<th>Oldest<th>Kept for</thead>",
    );
    for (i, signal) in Signal::ALL.into_iter().enumerate() {
        let blocks = pages.queries.storage().blocks(signal);
        let items: u64 = blocks.iter().map(|b| b.items).sum();
        let oldest = blocks.iter().map(|b| b.min).min();
        let (in_head, keys) = head[i];
        let (of_item, of_key) = words[i];
        body.html("<tr><td>").text(signal.as_str()).html("<td class=n>");
        body.text(format_args!(
            "{} {of_item}, {} {of_key}",
            grouped(in_head),
            grouped(keys)
        ));
        body.html("<td class=n>")
            .text(format_args!("{} {of_item}, {} blocks", grouped(items), blocks.len()));
        body.html("<td class=n>")
            .text(bytes_text(wal_and_blocks(stats, signal)));
        body.html("<td>").text(oldest.map_or_else(
            || "in the head".to_owned(),
            |t| {
                jiff::Timestamp::from_second(t.0.div_euclid(1_000_000_000))
                    .map_or_else(|_| String::new(), |t| t.to_string())
            },
        ));
        body.html("<td>")
            .text(setting(pages, &format!("retention-{}", signal.as_str())));
    }
    body.html("</table>");
}

fn ways(body: &mut Html, ways: &[Way]) {
    body.html("<table>");
    for (to, what) in ways {
        let shown = to.split('?').next().unwrap_or(to);
        body.html("<tr><td class=mono>").link(to, format_args!("/{shown}"));
        body.html("<td>").text(what);
    }
    body.html("</table>");
}

/// The listeners that are on. Their links lead to the host that the page was asked from, as ports inside a container
/// are rarely other ones outside.
fn ports(body: &mut Html, pages: &Pages, headers: &HeaderMap) {
    let asked = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    let host = asked.rsplit_once(':').map_or(asked, |(host, _)| host);
    let is_plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-[]:".contains(&b));
    body.html("<h2>Ports</h2><table>");
    for (name, what) in PORTS {
        let addr = setting(pages, name);
        if addr.is_empty() || addr == "off" {
            continue;
        }
        let port = addr.rsplit(':').next().unwrap_or("");
        let has_page = matches!(*name, "prometheus-addr" | "loki-addr" | "tempo-addr");
        body.html("<tr><td class=mono>");
        if has_page && is_plain && port != "0" {
            body.link(&format!("http://{host}:{port}/"), addr);
        } else {
            body.text(addr);
        }
        body.html("<td>").html(what);
    }
    body.html("</table>");
}

/// A setting as text; empty if there is none of that name.
fn setting<'a>(pages: &'a Pages, name: &str) -> &'a str {
    let found = pages.about.flags.iter().find(|(n, _)| n == name);
    found.map_or("", |(_, value)| value)
}
