//! The pages: each is found under the path that Prometheus' users know, shows what it should, and shows it as text.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod lab;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use lab::{Lab, NOW, get, ms};
use model::{LabelSet, MetricMetadata};
use ui_api::{DroppedTarget, ScrapePool, Target, Targets};

/// What an attacker would put into a label, an error or a setting.
const EVIL: &str = "<script>alert('1')</script>\"&";
const HARMLESS: &str = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";

struct Evil;

fn evil_target(state: &str) -> Target {
    Target {
        pool: "shop".to_owned(),
        discovered: LabelSet::from_pairs([("__address__", "a:80"), ("__meta_note", EVIL)]),
        labels: LabelSet::from_pairs([("instance", state), ("note", EVIL)]),
        url: format!("http://{state}:80/metrics"),
        global_url: if state == "up" {
            "javascript:alert(1)"
        } else {
            "http://b:80/metrics"
        }
        .to_owned(),
        last_error: if state == "down" { EVIL } else { "" }.to_owned(),
        last_scrape: (state != "new").then(|| ms(NOW - 7)),
        last_duration: Duration::from_micros(1_500),
        interval: Duration::from_secs(15),
        timeout: Duration::from_secs(10),
    }
}

impl Targets for Evil {
    fn pools(&self) -> Vec<ScrapePool> {
        let names = ["shop", "idle"].map(str::to_owned);
        names
            .map(|name| ScrapePool {
                name,
                yaml: String::new(),
            })
            .to_vec()
    }

    fn active(&self) -> Vec<Target> {
        ["up", "down", "new"].map(evil_target).to_vec()
    }

    fn dropped(&self) -> Vec<DroppedTarget> {
        vec![DroppedTarget {
            pool: "shop".to_owned(),
            discovered: LabelSet::from_pairs([("__address__", "dropped:80")]),
        }]
    }

    fn metadata(&self, _: &Target) -> Vec<(String, MetricMetadata)> {
        Vec::new()
    }
}

fn evil_lab() -> Lab {
    Lab::with(|about| {
        about.targets = Arc::new(Evil);
        about.flags = vec![
            ("loki-addr".to_owned(), "0.0.0.0:3100".to_owned()),
            ("retention-logs".to_owned(), EVIL.to_owned()),
        ];
    })
}

/// The page at `path`, which must show each of `words`.
async fn check(router: &axum::Router, path: &str, query: &[(&str, &str)], words: &[&str]) -> String {
    let answer = get(router, path, query).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8", "{path}");
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
    let text = answer.text();
    for word in words {
        assert!(text.contains(word), "{path}: {word:?} is missing in\n{text}");
    }
    assert!(!text.contains("<script>alert"), "{path}: text became HTML");
    assert!(!text.contains("href=\"javascript"), "{path}: a link runs a script");
    // What a page needs is in it: nothing may be loaded from elsewhere.
    for outside in ["src=\"", "src=http", "@import", "url(http", "<link rel=stylesheet"] {
        assert!(!text.contains(outside), "{path}: {outside} in\n{text}");
    }
    text.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_says_what_it_should_and_escapes_it() {
    let lab = evil_lab();
    lab.fill().await;
    let api = &lab.prometheus;
    check(
        api,
        "/",
        &[],
        &[
            "active series",
            "targets, 1 up",
            "12 spans, 6 traces",
            HARMLESS,
            "0.0.0.0:3100",
        ],
    )
    .await;
    check(
        api,
        "/targets",
        &[],
        &[
            "shop",
            "(1/3 up)",
            "class=down",
            "7.0 s ago",
            "1.5 ms",
            HARMLESS,
            "never",
            "No targets.",
        ],
    )
    .await;
    check(
        api,
        "/service-discovery",
        &[],
        &["(3 active, 1 dropped)", "dropped:80", "__meta_note", HARMLESS],
    )
    .await;
    check(api, "/rules", &[], &["No rules"]).await;
    check(api, "/alerts", &[], &["No alerts"]).await;
    check(api, "/status", &[], &["Memory accounted", "Bytes of WAL", "No query."]).await;
    check(
        api,
        "/tsdb-status",
        &[],
        &["http_requests_total", "job=shop", "Active series"],
    )
    .await;
    check(api, "/flags", &[], &["--retention-logs", HARMLESS]).await;
    check(api, "/config", &[], &["retention-logs", "&lt;script&gt;"]).await;
    check(api, "/query", &[], &["api/v1/", "query_range", "<svg"]).await;
    check(
        &lab.loki,
        "/",
        &[],
        &["answers as Loki does", "loki/api/v1/labels", "12 entries, 3 streams"],
    )
    .await;
    check(&lab.tempo, "/", &[], &["answers as Tempo does", "api/search", HARMLESS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_failing_targets_are_shown_when_asked() {
    let lab = evil_lab();
    let text = check(
        &lab.prometheus,
        "/targets",
        &[("state", "down")],
        &["http://down:80", "http://new:80"],
    )
    .await;
    assert!(!text.contains("http://up:80"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_to_prometheus_graph_page_keep_their_expression() {
    let lab = Lab::empty();
    let answer = get(&lab.prometheus, "/graph", &[("g0.expr", "up == 0"), ("g0.tab", "1")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let to = answer.headers["location"].to_str().unwrap();
    assert!(to.starts_with("query?g0.expr=up") && to.ends_with("g0.tab=1"), "{to}");
}

/// Nobody can change anything with them.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_for_reading() {
    let lab = Lab::empty();
    for path in ["/", "/targets", "/status"] {
        let answer = lab::post(&lab.prometheus, path, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}
