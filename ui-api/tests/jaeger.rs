//! The Jaeger query API over real storage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use http::StatusCode;
use lab::{Answer, Lab, NOW, get};
use serde_json::{Value, json};

/// The data of an answer that went well.
fn data(answer: &Answer) -> Value {
    let json = answer.json();
    assert_eq!(json["errors"], Value::Null);
    json["data"].clone()
}

fn check_error(answer: &Answer, status: u16, words: &str) {
    assert_eq!(
        answer.status,
        StatusCode::from_u16(status).unwrap(),
        "{}",
        answer.text()
    );
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["data"], Value::Null);
    assert_eq!(json["errors"][0]["code"], status);
    let message = json["errors"][0]["msg"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn an_empty_database_has_no_services() {
    let lab = Lab::empty();
    let answer = get(&lab.jaeger, "/api/services", &[]).await;
    assert_eq!(
        answer.text(),
        r#"{"data":[],"total":0,"limit":0,"offset":0,"errors":null}"#
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(data(&get(&lab.jaeger, "/api/dependencies", &[]).await), json!([]));
    let search = get(&lab.jaeger, "/api/traces", &[("service", "shop")]).await;
    assert_eq!(data(&search), json!([]));
}

#[tokio::test]
async fn services_and_their_operations_are_listed() {
    let lab = Lab::filled().await;
    let ask = |path: &'static str, query: &'static [(&str, &str)]| {
        let jaeger = lab.jaeger.clone();
        async move { data(&get(&jaeger, path, query).await) }
    };
    assert_eq!(ask("/api/services", &[]).await, json!(["db", "shop"]));
    assert_eq!(ask("/api/services/shop/operations", &[]).await, json!(["GET /cart"]));
    assert_eq!(ask("/api/services/nobody/operations", &[]).await, json!([]));
    assert_eq!(
        ask("/api/operations", &[("service", "db")]).await,
        json!([{"name": "SELECT", "spanKind": "client"}])
    );
    assert_eq!(
        ask("/api/operations", &[("service", "db"), ("spanKind", "server")]).await,
        json!([])
    );
    assert_eq!(
        ask("/api/dependencies", &[]).await,
        json!([{"parent": "shop", "child": "db", "callCount": 6}])
    );
    let answer = get(&lab.jaeger, "/api/operations", &[]).await;
    check_error(&answer, 400, "parameter 'service' is required");
}

/// Which traces a search finds, by the last two digits of their ids.
async fn found(lab: &Lab, query: &[(&str, &str)]) -> Vec<String> {
    let answer = get(&lab.jaeger, "/api/traces", query).await;
    let traces = data(&answer);
    let ids = traces.as_array().unwrap().iter().map(|t| {
        assert_eq!(
            t["spans"].as_array().unwrap().len(),
            2,
            "all spans of a trace are shown"
        );
        t["traceID"].as_str().unwrap()[30..].to_owned()
    });
    ids.collect()
}

#[tokio::test]
async fn traces_are_found_newest_first() {
    let lab = Lab::filled().await;
    let us = |seconds: i64| (seconds * 1_000_000).to_string();
    let (start, end) = (us(NOW - 285), us(NOW - 265));
    for (query, want) in [
        (&[("service", "shop")][..], &["95", "94", "93", "92", "91", "90"][..]),
        (&[("service", "shop"), ("limit", "2")], &["95", "94"]),
        (&[("service", "nobody")], &[]),
        (
            &[("service", "shop"), ("operation", "GET /cart"), ("limit", "1")],
            &["95"],
        ),
        (&[("service", "shop"), ("operation", "SELECT")], &[]),
        (&[("service", "shop"), ("operation", "all"), ("limit", "1")], &["95"]),
        (&[("service", "shop"), ("start", &start), ("end", &end)], &["93", "92"]),
        (&[("service", "shop"), ("lookback", "255s")], &["95"]),
        (
            &[
                ("service", "shop"),
                ("lookback", "custom"),
                ("start", &start),
                ("end", &end),
            ],
            &["93", "92"],
        ),
        (&[("service", "shop"), ("minDuration", "1s")], &["95", "94"]),
        (&[("service", "shop"), ("maxDuration", "200ms")], &["90"]),
        (&[("service", "shop"), ("tags", r#"{"error":"true"}"#)], &["90"]),
        (
            &[
                ("service", "shop"),
                ("tag", "error:true"),
                ("tag", "http.status_code:200"),
            ],
            &["90"],
        ),
        (
            &[
                ("service", "shop"),
                ("tags", r#"{"http.status_code":200,"span.kind":"server"}"#),
                ("limit", "1"),
            ],
            &["95"],
        ),
        (
            &[("service", "shop"), ("tags", r#"{"event":"began"}"#), ("limit", "1")],
            &["95"],
        ),
        (&[("service", "db"), ("tags", r#"{"http.status_code":"200"}"#)], &[]),
    ] {
        assert_eq!(found(&lab, query).await, want, "{query:?}");
    }
}

#[tokio::test]
async fn a_trace_is_found_by_its_id() {
    let lab = Lab::filled().await;
    let id = "0000000000000000000000004c7d1e90";
    for path in ["/api/traces/4c7d1e90", "/api/traces/0000000000000000000000004C7D1E90"] {
        let trace = data(&get(&lab.jaeger, path, &[]).await)[0].clone();
        assert_eq!(trace["traceID"], id);
        let names: Vec<_> = trace["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["operationName"].clone())
            .collect();
        assert_eq!(names, ["GET /cart", "SELECT"]);
        let db = trace["spans"][1]["processID"].as_str().unwrap();
        assert_eq!(trace["processes"][db], json!({"serviceName": "db", "tags": []}));
        assert_eq!(
            trace["spans"][1]["references"],
            json!([{"refType": "CHILD_OF", "traceID": id, "spanID": "0000000000000001"}])
        );
    }
    check_error(&get(&lab.jaeger, "/api/traces/77", &[]).await, 404, "trace not found");
    check_error(
        &get(&lab.jaeger, "/api/traces/xyz", &[]).await,
        400,
        "cannot parse trace id",
    );
    let both = get(
        &lab.jaeger,
        "/api/traces",
        &[("traceID", "4c7d1e91"), ("traceID", "77")],
    )
    .await
    .json();
    assert_eq!(both["data"].as_array().unwrap().len(), 1);
    assert_eq!(both["errors"][0]["code"], 404);
    let pretty = get(&lab.jaeger, "/api/traces/4c7d1e90", &[("prettyPrint", "true")]).await;
    assert!(pretty.text().starts_with("{\n"), "{}", pretty.text());
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let lab = Lab::empty();
    for (query, words) in [
        (&[][..], "parameter 'service' is required"),
        (&[("service", "s"), ("start", "now")], "unable to parse param 'start'"),
        (&[("service", "s"), ("limit", "-1")], "unable to parse param 'limit'"),
        (
            &[("service", "s"), ("minDuration", "5")],
            "unable to parse param 'minDuration'",
        ),
        (
            &[("service", "s"), ("minDuration", "2s"), ("maxDuration", "1s")],
            "'maxDuration' should be greater",
        ),
        (&[("service", "s"), ("tag", "x")], "malformed 'tag' parameter"),
        (&[("service", "s"), ("tags", "{")], "malformed 'tags' parameter"),
        (
            &[("service", "s"), ("lookback", "long")],
            "unable to parse param 'lookback'",
        ),
        (&[("traceID", "zz")], "cannot parse trace id"),
    ] {
        check_error(&get(&lab.jaeger, "/api/traces", query).await, 400, words);
    }
    check_error(&get(&lab.jaeger, "/api/nothing", &[]).await, 404, "not found");
    check_error(&get(&lab.jaeger, "/api/metrics/calls", &[]).await, 501, "metrics");
}

#[tokio::test]
async fn the_third_version_answers_in_otlp() {
    let lab = Lab::filled().await;
    let services = get(&lab.jaeger, "/api/v3/services", &[]).await;
    assert_eq!(services.text(), r#"{"services":["db","shop"]}"#);
    let operations = get(&lab.jaeger, "/api/v3/operations", &[("service", "db")]).await;
    assert_eq!(
        operations.text(),
        r#"{"operations":[{"name":"SELECT","spanKind":"client"}]}"#
    );
    let trace = get(&lab.jaeger, "/api/v3/traces/4c7d1e90", &[]).await.json();
    let shop = &trace["result"]["resourceSpans"][0];
    assert_eq!(shop["resource"]["attributes"][0]["value"]["stringValue"], "shop");
    let span = &shop["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "0000000000000000000000004c7d1e90");
    assert_eq!(
        (&span["spanId"], &span["kind"]),
        (&json!("0000000000000001"), &json!(2))
    );
    let range = [
        ("query.service_name", "shop"),
        ("query.start_time_min", "2025-10-22T10:15:00Z"),
        ("query.start_time_max", "2025-10-22T10:20:00Z"),
        ("query.duration_min", "1s"),
    ];
    let found = get(&lab.jaeger, "/api/v3/traces", &range).await.json();
    let spans = found["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap();
    let mut ids: Vec<&str> = spans.iter().map(|s| &s["traceId"].as_str().unwrap()[30..]).collect();
    ids.sort();
    assert_eq!(ids, ["94", "95"]);
    for (path, query, status) in [
        ("/api/v3/traces/77", &[][..], 404),
        ("/api/v3/traces/x", &[], 400),
        ("/api/v3/traces", &range[..2], 400),
        ("/api/v3/traces", &range[1..], 400),
        ("/api/v3/operations", &[], 400),
    ] {
        let answer = get(&lab.jaeger, path, query).await;
        let json: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status.as_u16(), status, "{path} {query:?}");
        assert_eq!(json["error"]["httpCode"], status);
    }
}
