//! The Loki API over real storage, asked as Grafana, logcli and scripts ask it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use lab::{Answer, Lab, NOW, ask, get, ns, post, target};
use model::LogBatch;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const V1: &str = "/loki/api/v1";

/// A good answer.
fn good(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/json; charset=UTF-8");
    assert!(answer.text().ends_with("}\n"), "{}", answer.text());
    answer.json()
}

/// An error is plain text.
fn check_error(answer: &Answer, words: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.text().starts_with(words), "{}", answer.text());
}

async fn at(lab: &Lab, path: &str, query: &[(&str, &str)]) -> Answer {
    get(&lab.loki, &format!("{V1}{path}"), query).await
}

/// As Grafana asks, with the header it always sends.
async fn categorized(lab: &Lab, path: &str, query: &[(&str, &str)]) -> Answer {
    let request = Request::get(target(&format!("{V1}{path}"), query))
        .header("X-Loki-Response-Encoding-Flags", "categorize-labels")
        .body(Body::empty())
        .unwrap();
    ask(&lab.loki, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datasource_connects_to_an_empty_database() {
    let lab = Lab::empty();
    let health = [("query", "vector(1)+vector(1)"), ("time", "4000000000")];
    for answer in [
        at(&lab, "/query", &health).await,
        post(&lab.loki, &format!("{V1}/query"), &health).await,
    ] {
        let body = good(&answer);
        assert_eq!(
            body["data"]["result"],
            json!([{"metric": {}, "value": [4_000_000_000_u64, "2"]}])
        );
        assert_eq!(body["data"]["resultType"], "vector");
    }
    // Nothing there: no data at all for labels, an empty list elsewhere.
    for path in ["/labels", "/label", "/label/x/values", "/label/__stream_shard__/values"] {
        assert_eq!(good(&at(&lab, path, &[]).await), json!({"status": "success"}), "{path}");
    }
    assert_eq!(
        good(&at(&lab, "/series", &[]).await),
        json!({"status": "success", "data": []})
    );
    let all = [("query", r#"{service_name=~".+"}"#)];
    assert_eq!(
        good(&at(&lab, "/index/stats", &all).await),
        json!({"streams": 0, "chunks": 0, "bytes": 0, "entries": 0})
    );
    let volume = good(&at(&lab, "/index/volume", &all).await);
    assert_eq!(volume["data"]["resultType"], "vector");
    assert_eq!(volume["data"]["result"], json!([]));
    assert_eq!(good(&at(&lab, "/detected_labels", &[]).await), json!({}));
    assert_eq!(good(&at(&lab, "/detected_fields", &all).await), json!({}));
    assert_eq!(good(&at(&lab, "/detected_field/x/values", &all).await), json!({}));
    let info = good(&at(&lab, "/status/buildinfo", &[]).await);
    assert!(info["version"].is_string() && info.get("data").is_none(), "{info}");
    let limits = good(&at(&lab, "/drilldown-limits", &[]).await);
    assert_eq!(limits["pattern_ingester_enabled"], true);
    assert_eq!(limits["limits"]["volume_enabled"], true);
    let rules = get(&lab.loki, "/prometheus/api/v1/rules", &[]).await;
    assert_eq!(rules.header("content-type"), "application/json");
    assert_eq!(rules.json()["data"]["groups"], json!([]));
    let odd = get(&lab.loki, "/prometheus/api/v1/rules", &[("type", "x")]).await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
    assert!(
        odd.text()
            .contains(r#""errorType":"bad_data","error":"not supported value \"x\"""#)
    );
    let alerts = get(&lab.loki, "/prometheus/api/v1/alerts", &[]).await;
    assert_eq!(alerts.json()["data"]["alerts"], json!([]));
    for path in ["/loki/api/v1/rules", "/api/prom/rules"] {
        let none = get(&lab.loki, path, &[]).await;
        assert_eq!(
            (none.status, none.text()),
            (StatusCode::NOT_FOUND, "no rule groups found\n")
        );
    }
    let probe = get(&lab.loki, "/api/prom/rules/test/test", &[]).await;
    assert_eq!(
        (probe.status, probe.text()),
        (StatusCode::NOT_FOUND, "group does not exist\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_queries_keep_a_stream_whole_or_take_labels_apart() {
    let lab = Lab::filled().await;
    let query = [("query", r#"{service_name="shop",env="lab"} | json"#), ("limit", "3")];
    let body = good(&at(&lab, "/query_range", &[query[0]]).await);
    assert_eq!(body["data"]["resultType"], "streams");
    assert_eq!(body["data"].get("encodingFlags"), None);
    let whole = good(&at(&lab, "/query_range", &[("query", r#"{env="lab",service_name="shop"}"#)]).await);
    let streams = whole["data"]["result"].as_array().unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0]["stream"], json!({"env": "lab", "service_name": "shop"}));
    assert_eq!(streams[0]["values"].as_array().unwrap().len(), 10);
    assert_eq!(
        streams[0]["values"][0],
        json!([
            ns(NOW - 10).0.to_string(),
            r#"{"level":"info","msg":"Request completed","ms":90}"#
        ])
    );
    let answer = categorized(&lab, "/query_range", &query).await;
    let data = &good(&answer)["data"];
    let order: Vec<&String> = data.as_object().unwrap().keys().collect();
    assert_eq!(order, ["resultType", "encodingFlags", "result", "stats"]);
    assert_eq!(data["encodingFlags"], json!(["categorize-labels"]));
    let streams = data["result"].as_array().unwrap();
    assert_eq!(
        streams
            .iter()
            .map(|s| s["values"].as_array().unwrap().len())
            .sum::<usize>(),
        3
    );
    assert_eq!(streams[0]["stream"], json!({"env": "lab", "service_name": "shop"}));
    assert_eq!(
        streams[0]["values"][0][2],
        json!({
            "structuredMetadata": {"detected_level": "info", "trace_id": format!("{:032x}", 16)},
            "parsed": {"level": "info", "msg": "Request completed", "ms": "90"},
        })
    );
    let plain = categorized(&lab, "/query_range", &[("query", r#"{service_name="bank"}"#)]).await;
    assert_eq!(good(&plain)["data"]["result"][0]["values"][0][2], json!({}));
    assert!(data["stats"]["summary"]["execTime"].is_number());
    let nothing = good(&at(&lab, "/query_range", &[("query", r#"{service_name="nobody"}"#)]).await);
    assert_eq!(nothing["data"]["result"], json!([]));
    assert_eq!(nothing["data"]["resultType"], "streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_may_ask_for_merged_labels_as_loki_gives_them() {
    let lab = Lab::with(|about| about.merge_structured_metadata = true);
    lab.fill().await;
    let body = good(&at(&lab, "/query_range", &[("query", r#"{service_name="shop",env="lab"}"#)]).await);
    let streams = body["data"]["result"].as_array().unwrap();
    assert_eq!(streams.len(), 10);
    assert!(streams[0]["stream"]["trace_id"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_answers_in_the_old_form() {
    let lab = Lab::filled().await;
    let old = async |path: &str, query: &[(&str, &str)]| get(&lab.loki, &format!("/api/prom/{path}"), query).await;
    let query = [("query", r#"{service_name="shop",env="lab"}"#), ("limit", "1")];
    let body = good(&old("query", &query).await);
    let entry = &body["streams"][0]["entries"][0];
    assert_eq!(entry["line"], r#"{"level":"info","msg":"Request completed","ms":90}"#);
    assert!(entry["ts"].as_str().unwrap().ends_with('Z'), "{entry}");
    let labels = body["streams"][0]["labels"].as_str().unwrap();
    assert_eq!(labels, r#"{env="lab", service_name="shop"}"#);
    assert_eq!(body["stats"]["summary"]["totalEntriesReturned"], 1);
    let filtered = good(&old("query", &[query[0], ("regexp", "no such [a-z]+")]).await);
    assert_eq!(filtered["streams"], json!([]));
    let metric = old("query", &[("query", r#"rate({env="lab"}[1m])"#)]).await;
    check_error(&metric, "legacy endpoints only support streams result type");
    let values = good(&old("label/env/values", &[]).await);
    assert!(values["data"].as_array().unwrap().contains(&json!("lab")));
    assert!(good(&old("label", &[]).await)["data"].is_array());
    let series = good(&old("series", &[("match", r#"{service_name="shop"}"#)]).await);
    assert!(!series["data"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_made_listed_and_cancelled_as_in_loki() {
    let lab = Lab::filled().await;
    let ask_delete = async |method: &str, query: &[(&str, &str)]| {
        let request = Request::builder()
            .method(method)
            .uri(target("/loki/api/v1/delete", query))
            .body(Body::empty())
            .unwrap();
        ask(&lab.loki, request).await
    };
    let lines = async || {
        let query = [("query", r#"{service_name="shop",env="lab"}"#)];
        let body = good(&at(&lab, "/query_range", &query).await);
        let streams = body["data"]["result"].as_array().cloned().unwrap_or_default();
        let count = |s: &Value| s["values"].as_array().map_or(0, Vec::len);
        streams.iter().map(count).sum::<usize>()
    };
    assert_eq!(ask_delete("GET", &[]).await.text(), "[]\n");
    assert_eq!(lines().await, 10);
    let (start, end) = ((NOW - 35).to_string(), (NOW - 15).to_string());
    let query = ("query", r#"{service_name="shop"} | json | msg="Request completed""#);
    let all = [query, ("start", start.as_str()), ("end", end.as_str())];
    let made = ask_delete("POST", &all).await;
    assert_eq!((made.status, made.text()), (StatusCode::NO_CONTENT, ""));
    let id = made.header("x-delete-request-id").to_owned();
    assert_eq!(id.len(), 8);
    let hidden = 10 - lines().await;
    assert!(hidden > 0);
    assert_eq!(
        ask_delete("GET", &[]).await.json(),
        json!([{
            "request_id": id, "start_time": NOW - 35, "end_time": NOW - 15, "query": query.1, "status": "received",
            "created_at": NOW, "user_id": "",
        }])
    );
    let elsewhere = [("start", "1600000000"), ("end", "1600000001")];
    assert_eq!(ask_delete("GET", &elsewhere).await.json(), json!([]));
    let gone = ask_delete("DELETE", &[("request_id", &id)]).await;
    assert_eq!((gone.status, gone.text()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(lines().await, 10);
    let again = ask_delete("DELETE", &[("request_id", &id)]).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert!(again.text().starts_with("could not find delete request with given id"));

    let later = (NOW + 60).to_string();
    let (q, s) = (query, ("start", start.as_str()));
    for (parameters, words) in [
        (&[][..], "query not set"),
        (&[("query", "{app=")], "invalid query expression"),
        (&[("query", r#"rate({a="b"}[1m])"#)], "invalid query expression"),
        (&[q], "start time not set"),
        (
            &[q, ("start", "1700000000000")],
            "invalid start time: require unix seconds or RFC3339 format",
        ),
        (
            &[q, s, ("end", "x")],
            "invalid end time: require unix seconds or RFC3339 format",
        ),
        (&[q, s, ("end", &later)], "deletes in the future are not allowed"),
        (
            &[q, s, ("end", &start)],
            "start time can't be greater than or equal to end time",
        ),
        (
            &[q, s, ("end", &end), ("max_interval", "1d")],
            "invalid max_interval: valid time units are 's', 'm', 'h'",
        ),
        (
            &[q, s, ("end", &end), ("max_interval", "25h")],
            "max_interval can't be greater than 24h0m0s",
        ),
        (
            &[q, s, ("end", &end), ("max_interval", "1m")],
            "max_interval can't be greater than the interval to be deleted (20s)",
        ),
    ] {
        check_error(&ask_delete("PUT", parameters).await, words);
    }
    let off = Lab::with(|about| about.log_deletes = false);
    let refused = get(&off.loki, "/loki/api/v1/delete", &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text().starts_with("deletion is not available for this tenant"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_directions_and_limits() {
    let lab = Lab::filled().await;
    let times = |answer: &Answer| -> Vec<i64> {
        let body = good(answer);
        let values = body["data"]["result"][0]["values"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let seconds = |v: &Value| v[0].as_str().unwrap().parse::<i64>().unwrap() / 1_000_000_000 - NOW;
        values.iter().map(seconds).collect()
    };
    let lines = ("query", r#"{service_name="shop",env="lab"}"#);
    let (start, end) = ((NOW - 40).to_string(), format!("{}000000000", NOW - 20));
    let range = [lines, ("start", start.as_str()), ("end", end.as_str())];
    // The start is inside, the end is not.
    assert_eq!(times(&at(&lab, "/query_range", &range).await), [-30, -40]);
    let forward = [&range[..], &[("direction", "FORWARD"), ("limit", "1")]].concat();
    assert_eq!(times(&at(&lab, "/query_range", &forward).await), [-40]);
    let iso = [
        lines,
        ("start", "2025-10-22T10:19:20.000Z"),
        ("end", "2025-10-22T10:19:40.000Z"),
    ];
    assert_eq!(times(&at(&lab, "/query_range", &iso).await), [-30, -40]);
    assert_eq!(
        times(&at(&lab, "/query_range", &[lines, ("since", "25s")]).await),
        [-10, -20]
    );
    let sparse = [lines, ("interval", "30s")];
    assert_eq!(times(&at(&lab, "/query_range", &sparse).await), [-10, -40, -70, -100]);
    assert_eq!(
        times(&post(&lab.loki, &format!("{V1}/query_range"), &range).await),
        [-30, -40]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_text_trace_and_level() {
    let lab = Lab::filled().await;
    let count = async |query: &str| -> usize {
        let body = good(&at(&lab, "/query_range", &[("query", query)]).await);
        let streams = body["data"]["result"].as_array().unwrap();
        streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum()
    };
    let id = format!("{:032x}", 9);
    assert_eq!(count(r#"{service_name="shop"} |= "Request completed""#).await, 10);
    assert_eq!(count(r#"{service_name="shop"} |= "error""#).await, 1);
    assert_eq!(count(&format!(r#"{{service_name="shop"}} | trace_id="{id}""#)).await, 1);
    assert_eq!(count(r#"{service_name=~".+"} | detected_level=~"error|warn""#).await, 1);
    // What Grafana writes behind a span's button.
    let generated = format!(
        "{{service_name=\"shop\"}} | label_format log_line_contains_trace_id=`{{{{ contains \"{id}\" __line__  }}}}` \
         | log_line_contains_trace_id=\"true\" OR trace_id=\"{id}\""
    );
    assert_eq!(count(&generated).await, 1);
    let volume = r#"sum by (level, detected_level) (count_over_time({service_name="shop"} | drop __error__[60s]))"#;
    let body = good(&categorized(&lab, "/query_range", &[("query", volume), ("step", "60000ms")]).await);
    assert_eq!(body["data"]["resultType"], "matrix");
    assert_eq!(body["data"]["encodingFlags"], json!(["categorize-labels"]));
    let series = body["data"]["result"].as_array().unwrap();
    let levels: Vec<&Value> = series.iter().map(|s| &s["metric"]["detected_level"]).collect();
    assert_eq!(levels, [&json!("error"), &json!("info")]);
    // Points stand at multiples of the step.
    for point in series.iter().flat_map(|s| s["values"].as_array().unwrap()) {
        assert_eq!(point[0].as_i64().unwrap() % 60, 0);
    }
    let sum = r#"sum(count_over_time({service_name="shop"} |= "Request completed" [5m]))"#;
    let body = good(&at(&lab, "/query", &[("query", sum)]).await);
    assert_eq!(body["data"]["result"], json!([{"metric": {}, "value": [NOW, "10"]}]));
    let scalar = good(&at(&lab, "/query", &[("query", "1+1"), ("time", "4")]).await);
    assert_eq!(
        (&scalar["data"]["resultType"], &scalar["data"]["result"]),
        (&json!("scalar"), &json!([4, "2"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_as_loki_says_it() {
    let lab = Lab::filled().await;
    let range = async |name: &str, value: &str| {
        at(
            &lab,
            "/query_range",
            &[("query", r#"{service_name="shop"}"#), (name, value)],
        )
        .await
    };
    for (answer, words) in [
        (at(&lab, "/query_range", &[]).await, "parse error"),
        (
            at(&lab, "/query_range", &[("query", r#"{a="b""#)]).await,
            "parse error at line 1, col ",
        ),
        (
            at(&lab, "/query", &[("query", r#"{service_name="shop"}"#)]).await,
            "log queries are not supported as an instant query type, please change your query to a range query type",
        ),
        (range("limit", "0").await, "limit must be a positive value"),
        (
            range("limit", "5001").await,
            "max entries limit per query exceeded, limit > max_entries_limit_per_query (5001 > 5000)",
        ),
        (range("direction", "up").await, "invalid direction 'up'"),
        (
            range("step", "0").await,
            "zero or negative query resolution step widths are not accepted.",
        ),
        (range("step", "x").await, "cannot parse \"x\" to a valid duration"),
        (
            range("step", "10ms").await,
            "exceeded maximum resolution of 11,000 points per time series.",
        ),
        (range("interval", "-1").await, "interval must be >= 0"),
        (at(&lab, "/query_range", &[("query", "{}")]).await, "parse error"),
        (at(&lab, "/series", &[("match[]", r#"{a=""}"#)]).await, "parse error"),
        (
            at(&lab, "/series", &[("match", r#"{a="b"} |= "x""#)]).await,
            "only label matchers are supported",
        ),
        (
            at(&lab, "/index/volume", &[("query", "{}"), ("aggregateBy", "x")]).await,
            "invalid aggregation option",
        ),
        (at(&lab, "/index/stats", &[]).await, "parse error"),
        (
            at(&lab, "/labels", &[("start", "yesterday")]).await,
            "could not parse 'start'",
        ),
    ] {
        check_error(&answer, words);
    }
    let wide = [
        ("query", r#"{service_name="shop"}"#),
        ("start", "20"),
        ("end", "10"),
        ("step", "1"),
    ];
    check_error(
        &at(&lab, "/query_range", &wide).await,
        "end timestamp must not be before or equal to start time",
    );
    let put = Request::put(format!("{V1}/labels")).body(Body::empty()).unwrap();
    assert_eq!(ask(&lab.loki, put).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_values_and_series() {
    let lab = Lab::filled().await;
    let list = |data: Value| json!({"status": "success", "data": data});
    assert_eq!(
        good(&at(&lab, "/labels", &[]).await),
        list(json!(["env", "service_name"]))
    );
    assert_eq!(
        good(&post(&lab.loki, &format!("{V1}/labels"), &[("query", r#"{env="prod"}"#)]).await),
        list(json!(["env", "service_name"]))
    );
    let values = "/label/service_name/values";
    assert_eq!(good(&at(&lab, values, &[]).await), list(json!(["bank", "shop"])));
    assert_eq!(at(&lab, values, &[("query", "{}")]).await.status, 400);
    assert_eq!(
        good(&at(&lab, values, &[("query", r#"{env="prod"}"#)]).await),
        list(json!(["shop"]))
    );
    assert_eq!(
        good(&at(&lab, "/label/trace_id/values", &[]).await),
        json!({"status": "success"})
    );
    let series = |query: Vec<(&'static str, &'static str)>| {
        let lab = &lab;
        async move { good(&at(lab, "/series", &query).await)["data"].clone() }
    };
    assert_eq!(series(vec![]).await.as_array().unwrap().len(), 3);
    assert_eq!(series(vec![("match[]", "{}")]).await.as_array().unwrap().len(), 3);
    assert_eq!(
        series(vec![
            ("match[]", r#"{env="prod"}"#),
            ("match", r#"{service_name="bank"}"#)
        ])
        .await,
        json!([{"env": "lab", "service_name": "bank"}, {"env": "prod", "service_name": "shop"}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_the_largest_first() {
    let lab = Lab::filled().await;
    let all = ("query", r#"{service_name=~".+"}"#);
    let body = good(&at(&lab, "/index/volume", &[all, ("limit", "5000")]).await);
    let result = body["data"]["result"].as_array().unwrap();
    assert_eq!(body["data"]["resultType"], "vector");
    let names: Vec<&Value> = result.iter().map(|r| &r["metric"]).collect();
    assert_eq!(
        names,
        [&json!({"service_name": "shop"}), &json!({"service_name": "bank"})]
    );
    assert_eq!(result[1]["value"], json!([NOW, "5"]));
    let one = good(&at(&lab, "/index/volume", &[all, ("limit", "1")]).await);
    assert_eq!(one["data"]["result"].as_array().unwrap().len(), 1);
    let targets = good(&at(&lab, "/index/volume", &[all, ("targetLabels", "env")]).await);
    assert_eq!(targets["data"]["result"][0]["metric"], json!({"env": "lab"}));
    let labels = good(&at(&lab, "/index/volume", &[("query", "{}"), ("aggregateBy", "labels")]).await);
    let names: Vec<&Value> = labels["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["metric"])
        .collect();
    assert_eq!(names, [&json!({"env": ""}), &json!({"service_name": ""})]);
    let (start, end) = ((NOW - 120).to_string(), NOW.to_string());
    let range = [all, ("start", start.as_str()), ("end", end.as_str()), ("step", "60")];
    let body = good(&at(&lab, "/index/volume_range", &range).await);
    assert_eq!(body["data"]["resultType"], "matrix");
    let shop = &body["data"]["result"][0];
    assert_eq!(shop["metric"], json!({"service_name": "shop"}));
    assert_eq!(shop["values"].as_array().unwrap().len(), 2);
    assert_eq!(shop["values"][1][0], NOW);
    let once = [all, range[1], range[2], ("step", "120")];
    assert_eq!(
        good(&at(&lab, "/index/volume_range", &once).await)["data"]["resultType"],
        "vector"
    );
    let stats = good(&at(&lab, "/index/stats", &[all]).await);
    assert_eq!((&stats["streams"], &stats["entries"]), (&json!(3), &json!(12)));
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_fields_are_detected() {
    let lab = Lab::filled().await;
    assert_eq!(
        good(&at(&lab, "/detected_labels", &[("query", r#"{service_name="shop"}"#)]).await),
        json!({"detectedLabels": [{"label": "env", "cardinality": 2}, {"label": "service_name", "cardinality": 1}]})
    );
    let query = [("query", r#"{service_name="shop"}"#)];
    let body = good(&at(&lab, "/detected_fields", &query).await);
    assert_eq!(body["limit"], 1000);
    let field = |name: &str| {
        let fields = body["fields"].as_array().unwrap();
        fields.iter().find(|f| f["label"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(
        field("ms"),
        json!({"label": "ms", "type": "int", "cardinality": 10, "parsers": ["json"], "jsonPath": ["ms"]})
    );
    assert_eq!(
        field("msg")["parsers"].as_array().map(Vec::len),
        Some(2),
        "{}",
        field("msg")
    );
    assert_eq!(field("took")["type"], "duration");
    assert_eq!(
        (&field("trace_id")["parsers"], &field("trace_id")["cardinality"]),
        (&Value::Null, &json!(10))
    );
    let values = good(&at(&lab, "/detected_field/took/values", &query).await);
    assert_eq!(values, json!({"values": ["1.5s"], "limit": 1000}));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_series_are_an_error_but_for_drilldown() {
    let lab = Lab::empty();
    let mut batch = LogBatch::default();
    for k in 0..501 {
        let stream = batch.stream(&mut vec![("service_name", "x"), ("pod", k.to_string().as_str())]);
        batch.entry(stream, ns(NOW - 10), "line", [("", ""); 0]);
    }
    lab.storage.append_logs(&batch).await.unwrap();
    let query = [("query", r#"count_over_time({service_name="x"}[1m])"#)];
    check_error(
        &at(&lab, "/query", &query).await,
        "maximum number of series (500) reached for a single query; consider reducing query cardinality",
    );
    let request = Request::get(target("/loki/api/v1/query", &query))
        .header("X-Query-Tags", "Source=Grafana-LokiExplore-App")
        .body(Body::empty())
        .unwrap();
    let body = good(&ask(&lab.loki, request).await);
    let words = "maximum number of series (500) reached for a single query; returning partial results";
    assert_eq!(body["warnings"], json!([words]));
    assert_eq!(body["data"]["result"].as_array().unwrap().len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_count_lines_of_one_shape() {
    let lab = Lab::empty();
    let mut batch = LogBatch::default();
    let stream = batch.stream(&mut vec![("service_name", "x")]);
    for k in 0..6 {
        let level = if k < 4 { "info" } else { "error" };
        let line = format!("request {k} took {}ms", k * 7);
        batch.entry(stream, ns(NOW - 60 + k), &line, [("detected_level", level)]);
    }
    lab.storage.append_logs(&batch).await.unwrap();
    let query = [("query", r#"{service_name="x"} |= "ignored""#), ("step", "60s")];
    let body = good(&at(&lab, "/patterns", &query).await);
    let interval = NOW - 60 - (NOW - 60).rem_euclid(60);
    assert_eq!(
        body["data"],
        json!([
            {"pattern": "request <_> took <_>", "level": "info", "samples": [[interval, 4]]},
            {"pattern": "request <_> took <_>", "level": "error", "samples": [[interval, 2]]},
        ])
    );
    let empty = good(&at(&lab, "/patterns", &[("query", r#"{service_name="y"}"#)]).await);
    assert_eq!(empty["data"], json!([]));
    check_error(&at(&lab, "/patterns", &[("query", "{")]).await, "parse error");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_has_everything() {
    let lab = Lab::filled().await;
    let query = ("query", r#"{env="lab"}"#);
    let shards = at(&lab, "/index/shards", &[query, ("targetBytesPerShard", "500MB")])
        .await
        .json();
    let stats = at(&lab, "/index/stats", &[query]).await.json();
    assert_eq!(shards["shards"].as_array().unwrap().len(), 1);
    assert_eq!(shards["shards"][0]["stats"], stats);
    assert_eq!(shards["shards"][0]["bounds"]["max"], u64::MAX);
    for size in ["0", "-1MB", "much"] {
        let bad = at(&lab, "/index/shards", &[query, ("targetBytesPerShard", size)]).await;
        check_error(&bad, "targetBytesPerShard must be a positive value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_of_itself() {
    let lab = Lab::filled().await;
    let text = |answer: Answer| answer.text().to_owned();
    assert!(text(get(&lab.loki, "/config", &[]).await).contains("data-dir: \"x\"\n"));
    let limits = text(get(&lab.loki, "/config/tenant/v1/limits", &[]).await);
    assert!(limits.contains("max_query_series: 500\n"), "{limits}");
    assert_eq!(text(get(&lab.loki, "/services", &[]).await), "trilobite => Running\n");

    let level = get(&lab.loki, "/log_level", &[]).await.json();
    assert_eq!(level["message"], "Current log level is info");
    let set = post(&lab.loki, "/log_level", &[("log_level", "debug")]).await.json();
    assert_eq!(set, json!({"status": "success", "message": "Log level set to debug"}));
    assert_eq!(
        get(&lab.loki, "/log_level", &[]).await.json()["message"],
        "Current log level is debug"
    );
    let refused = post(&lab.loki, "/log_level", &[("log_level", "loud")]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains(r#""status":"failed""#), "{}", refused.text());

    let blocks = || lab.storage.logs().stats().blocks;
    assert_eq!(blocks(), 0);
    assert_eq!(post(&lab.loki, "/flush", &[]).await.status, StatusCode::NO_CONTENT);
    assert!(blocks() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_formatted() {
    let lab = Lab::empty();
    let formatted = good(&at(&lab, "/format_query", &[("query", r#"{ a = "b" }|="x"|json"#)]).await);
    assert_eq!(
        formatted,
        json!({"status": "success", "data": r#"{a="b"} |= "x" | json"#})
    );
    let bad = at(&lab, "/format_query", &[("query", "{")]).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    let body: Value = serde_json::from_slice(&bad.body).unwrap();
    assert_eq!(body["status"], "invalid-query");
    assert!(body["error"].as_str().unwrap().starts_with("parse error"));
}

/// A WebSocket client that knows just enough.
struct Tail(TcpStream);

impl Tail {
    async fn open(lab: &Lab, query: &[(&str, &str)]) -> Result<Tail, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router = lab.loki.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            target("/loki/api/v1/tail", query)
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
            Ok(Tail(stream))
        } else {
            Err(head)
        }
    }

    /// The next frame: its kind and what it carries.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let kind = self.0.read_u8().await.unwrap() & 0x0f;
        let len = match self.0.read_u8().await.unwrap() {
            126 => u64::from(self.0.read_u16().await.unwrap()),
            127 => self.0.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut data = vec![0; len as usize];
        self.0.read_exact(&mut data).await.unwrap();
        (kind, data)
    }

    /// The next frame of text; pings are answered, as browsers do.
    async fn text(&mut self) -> Value {
        let wait = async {
            loop {
                match self.frame().await {
                    (1, text) => return serde_json::from_slice(&text).unwrap(),
                    (9, _) => self.0.write_all(&[0x8a, 0x80, 1, 2, 3, 4]).await.unwrap(),
                    (kind, data) => panic!("frame {kind}: {data:?}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
    }
}

async fn push(lab: &Lab, at: i64, lines: &[&str]) {
    let mut batch = LogBatch::default();
    let stream = batch.stream(&mut vec![("service_name", "shop"), ("env", "lab")]);
    for (k, line) in lines.iter().enumerate() {
        batch.entry(
            stream,
            model::TimestampNs(ns(at).0 + k as i64),
            line,
            [("trace_id", "7")],
        );
    }
    lab.storage.append_logs(&batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_begins_with_history_and_goes_on_live() {
    let lab = Lab::filled().await;
    let query = [
        ("query", r#"{service_name="shop",env="lab"} |= "Request""#),
        ("limit", "2"),
    ];
    let mut tail = Tail::open(&lab, &query).await.unwrap();
    let history = tail.text().await;
    let trace = format!("{:032x}", 15);
    let labels = json!({"detected_level": "info", "env": "lab", "service_name": "shop", "trace_id": trace});
    assert_eq!(history["streams"][0]["stream"], labels);
    let times = |frame: &Value| -> Vec<String> {
        let values = frame["streams"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|s| s["values"].as_array().unwrap());
        values.map(|v| v[0].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        times(&history),
        [ns(NOW - 20).0.to_string(), ns(NOW - 10).0.to_string()]
    );
    push(&lab, NOW, &["Request new", "other"]).await;
    let live = tail.text().await;
    assert_eq!(times(&live), [ns(NOW).0.to_string()]);
    assert_eq!(live.get("dropped_entries"), None);
    // What comes late is shown as well.
    push(&lab, NOW - 500, &["Request late"]).await;
    assert_eq!(times(&tail.text().await), [ns(NOW - 500).0.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_tail_loses_nothing_to_pings() {
    let lab = Lab::empty();
    let query = [("query", r#"{service_name="shop"}"#), ("delay_for", "2")];
    let mut tail = Tail::open(&lab, &query).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lines: Vec<String> = (0..150).map(|k| format!("line {k}")).collect();
    push(&lab, NOW, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 150 {
        let frame = tail.text().await;
        let streams = frame["streams"].as_array().unwrap();
        sizes.push(streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum());
    }
    assert_eq!(sizes, [100, 50]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_cannot_be_is_refused_before_the_upgrade() {
    let lab = Lab::empty();
    for query in [
        [("query", "{"), ("limit", "1")],
        [("query", r#"rate({a="b"}[1m])"#), ("limit", "1")],
        [("query", r#"{a="b"}"#), ("delay_for", "6")],
        [("query", r#"{a="b"}"#), ("limit", "0")],
    ] {
        let refused = Tail::open(&lab, &query).await.err().unwrap();
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    }
}
