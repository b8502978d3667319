//! Prometheus' features that change results, which are off unless asked for.

use serde_json::json;

use crate::data;
use crate::lab::{Lab, get};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_off_late_where_that_is_on() {
    for (late, named) in [(false, json!(null)), (true, json!("http_requests_total"))] {
        let lab = Lab::with(|about| about.promql.delayed_name_removal = late);
        lab.fill().await;
        let text = r#"label_replace(count_over_time(http_requests_total{instance="a:80"}[1h]), "n", "$1", "__name__", "(.+)")"#;
        let answer = data(&get(&lab.prometheus, "/api/v1/query", &[("query", text)]).await);
        let metric = &answer["result"][0]["metric"];
        assert_eq!((&metric["n"], &metric["__name__"]), (&named, &json!(null)), "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_what_is_answered() {
    let lab = Lab::with(|about| about.admin_api = true);
    let answer = get(&lab.prometheus, "/api/v1/openapi.yaml", &[]).await;
    assert_eq!(answer.header("content-type"), "application/yaml; charset=utf-8");
    let paths: Vec<&str> = (answer.text().lines())
        .filter_map(|line| line.strip_prefix("  /")?.strip_suffix(':'))
        .collect();
    assert!(paths.len() > 30, "{paths:?}");
    // Writing is another crate's; the stream never ends.
    let elsewhere = ["write", "otlp/v1/metrics", "notifications/live"];
    for path in paths.into_iter().filter(|p| !elsewhere.contains(p)) {
        let path = format!("/api/v1/{}", path.replace("{name}", "job"));
        let answer = get(&lab.prometheus, &path, &[]).await;
        assert!(!answer.text().contains("page not found"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_shows_its_own_metrics() {
    let lab = Lab::empty();
    let answer = get(&lab.prometheus, "/api/v1/status/self_metrics", &[]).await;
    assert_eq!(
        data(&answer),
        serde_json::json!([{
            "name": "lab_runs_total",
            "help": "Runs.",
            "type": "COUNTER",
            "metric": [
                {"label": [{"name": "result", "value": "good"}], "counter": {"value": 3}},
                {"counter": {"value": "NaN"}},
            ],
        }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_may_wait_for_notifications() {
    let lab = Lab::empty();
    let request = || {
        let request = http::Request::get("/api/v1/notifications/live");
        tower::ServiceExt::oneshot(lab.prometheus.clone(), request.body(axum::body::Body::empty()).unwrap())
    };
    let mut open = Vec::new();
    for _ in 0..16 {
        let answer = request().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        open.push(answer);
    }
    assert_eq!(request().await.unwrap().status(), 204);
    open.pop();
    assert_eq!(request().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_notifications_ends_when_the_process_does() {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let lab = Lab::with(|about| about.stopping = stopping);
    let request = http::Request::get("/api/v1/notifications/live");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let answer = tower::ServiceExt::oneshot(lab.prometheus.clone(), request)
        .await
        .unwrap();
    stop.send(true).unwrap();
    let body = axum::body::to_bytes(answer.into_body(), 1).await.unwrap();
    assert!(body.is_empty());
}
