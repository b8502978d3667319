//! Who is scraped, as Grafana's and Prometheus' pages ask.

use super::lab::{Lab, get};
use super::{check_error, data};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_their_metadata_are_listed() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    let target = json!({
        "discoveredLabels": {"__address__": "a:80", "job": "shop"},
        "labels": {"instance": "a:80", "job": "shop"},
        "scrapePool": "shop",
        "scrapeUrl": "http://a:80/metrics",
        "globalUrl": "http://a.lab:80/metrics",
        "lastError": "",
        "lastScrape": "2025-10-22T10:19:00Z",
        "lastScrapeDuration": 0.0015,
        "health": "up",
        "scrapeInterval": "15s",
        "scrapeTimeout": "10s",
    });
    let none: [serde_json::Value; 0] = [];
    let targets = |query: &'static [(&'static str, &'static str)]| get(api, "/api/v1/targets", query);
    for (query, active, counts) in [
        (&[][..], vec![&target], json!({"shop": 0})),
        (
            &[("state", "any"), ("scrapePool", "shop")],
            vec![&target],
            json!({"shop": 0}),
        ),
        (&[("state", "active")], vec![&target], json!(null)),
        (&[("state", "active"), ("scrapePool", "x")], vec![], json!(null)),
        (&[("state", "dropped")], vec![], json!({"shop": 0})),
    ] {
        assert_eq!(
            data(&targets(query).await),
            json!({"activeTargets": active, "droppedTargets": none, "droppedTargetCounts": counts}),
            "{query:?}"
        );
    }
    let metadata = |query: &'static [(&'static str, &'static str)]| get(api, "/api/v1/targets/metadata", query);
    let labels = json!({"instance": "a:80", "job": "shop"});
    assert_eq!(
        data(&metadata(&[("limit", "1")]).await),
        json!([{"target": labels, "metric": "http_requests_total", "type": "counter", "help": "Requests.", "unit": ""}])
    );
    assert_eq!(
        data(&metadata(&[("metric", "other_total"), ("match_target", r#"{job="shop"}"#)]).await),
        json!([{"target": labels, "type": "counter", "help": "Requests.", "unit": ""}])
    );
    assert_eq!(data(&metadata(&[("match_target", r#"{job="x"}"#)]).await), json!([]));
    check_error(
        &metadata(&[("limit", "x")]).await,
        400,
        "bad_data",
        "limit must be a number",
    );
    check_error(
        &metadata(&[("match_target", "x[")]).await,
        400,
        "bad_data",
        "invalid parameter \"match_target\": 1:2: parse error: ",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_have_a_configuration() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    assert_eq!(
        data(&get(api, "/api/v1/scrape_pools", &[]).await),
        json!({"scrapePools": ["shop"]})
    );
    let config = |pool: &'static str| get(api, "/api/v1/scrape_pools/config", vec![("scrapePool", pool)].leak());
    assert_eq!(data(&config("shop").await), json!({"yaml": "job_name: shop\n"}));
    check_error(&config("x").await, 404, "not_found", "scrape pool \"x\" not found");
    let steps = |query: &'static [(&'static str, &'static str)]| get(api, "/api/v1/targets/relabel_steps", query);
    assert_eq!(
        data(&steps(&[("scrapePool", "shop"), ("labels", r#"{"a":"b"}"#)]).await),
        json!({"steps": []})
    );
    for (query, words) in [
        (&[("labels", "{}")][..], "no scrapePool parameter provided"),
        (&[("scrapePool", "shop")], "no labels parameter provided"),
        (&[("scrapePool", "shop"), ("labels", "x")], "error parsing labels: "),
        (
            &[("scrapePool", "x"), ("labels", "{}")],
            "error retrieving scrape config: scrape pool \"x\" not found",
        ),
    ] {
        check_error(&steps(query).await, 400, "bad_data", words);
    }
    assert_eq!(
        data(&get(api, "/api/v1/alertmanagers", &[]).await),
        json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})
    );
}
