//! The Prometheus API over real storage, asked as Grafana and scripts ask it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod features;
mod federation;
#[path = "../lab/mod.rs"]
mod lab;
mod remote_read;
mod targets;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use lab::{Answer, Lab, NOW, ask, get, post};
use serde_json::{Value, json};

/// The data of a good answer.
fn data(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(body["status"], "success");
    body["data"].clone()
}

/// An error has a status, a type and words that begin so.
fn check_error(answer: &Answer, status: u16, kind: &str, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["status"], "error");
    assert_eq!(body["errorType"], kind);
    let error = body["error"].as_str().unwrap();
    assert!(error.starts_with(words), "{error}");
    assert_eq!(body.as_object().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datasource_connects_to_an_empty_database() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    let health = [("query", "1+1"), ("time", "4")];
    let two = json!({"resultType": "scalar", "result": [4, "2"]});
    assert_eq!(data(&get(api, "/api/v1/query", &health).await), two);
    assert_eq!(data(&post(api, "/api/v1/query", &health).await), two);
    let info = data(&get(api, "/api/v1/status/buildinfo", &[]).await);
    let keys: Vec<&String> = info.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"]
    );
    assert_eq!(
        data(&get(api, "/api/v1/rules", &[("type", "alert")]).await),
        json!({"groups": []})
    );
    assert_eq!(data(&get(api, "/api/v1/alerts", &[]).await), json!({"alerts": []}));
    // Milliseconds where seconds belong: Grafana probes so.
    let probe = [("query", "test"), ("start", "1761128400000"), ("end", "1761132000000")];
    assert_eq!(data(&get(api, "/api/v1/query_exemplars", &probe).await), json!([]));
    for path in [
        "/api/v1/labels",
        "/api/v1/label/__name__/values",
        "/api/v1/label/job/values",
    ] {
        assert_eq!(data(&get(api, path, &[("limit", "40000")]).await), json!([]), "{path}");
    }
    assert_eq!(
        data(&get(api, "/api/v1/metadata", &[("limit", "40000")]).await),
        json!({})
    );
    assert_eq!(
        data(&get(api, "/api/v1/query", &[("query", "up")]).await),
        json!({"resultType": "vector", "result": []})
    );
    let range = [("query", "up"), ("start", "0"), ("end", "60"), ("step", "15")];
    assert_eq!(
        data(&get(api, "/api/v1/query_range", &range).await),
        json!({"resultType": "matrix", "result": []})
    );
    let unknown = get(api, "/rules/test/test", &[]).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.text().contains("404 page not found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_have_the_four_shapes() {
    let lab = Lab::filled().await;
    let api = &lab.prometheus;
    let now = NOW.to_string();
    let instant = |query: &'static str| get(api, "/api/v1/query", vec![("query", query)].leak());
    assert_eq!(
        data(&instant(r#"http_requests_total{instance="a:80"}"#).await),
        json!({"resultType": "vector", "result": [{
            "metric": {"__name__": "http_requests_total", "instance": "a:80", "job": "shop"},
            "value": [NOW, "600"],
        }]})
    );
    assert_eq!(
        data(&instant(r#""text""#).await),
        json!({"resultType": "string", "result": [NOW, "text"]})
    );
    let raw = data(&instant(r#"http_requests_total{instance="a:80"}[30s]"#).await);
    assert_eq!(raw["resultType"], "matrix");
    assert_eq!(raw["result"][0]["values"], json!([[NOW - 15, "585"], [NOW, "600"]]));
    assert_eq!(
        data(&instant(r#"{"room.temperature"}"#).await)["result"][0]["value"][1],
        "21.5"
    );
    let start = (NOW - 30).to_string();
    let form = [
        ("query", "sum by (job) (http_requests_total)"),
        ("start", start.as_str()),
        ("end", now.as_str()),
        ("step", "15s"),
    ];
    let expected = json!({"resultType": "matrix", "result": [{
        "metric": {"job": "shop"}, "values": [[NOW - 30, "1710"], [NOW - 15, "1755"], [NOW, "1800"]],
    }]});
    assert_eq!(data(&get(api, "/api/v1/query_range", &form).await), expected);
    assert_eq!(data(&post(api, "/api/v1/query_range", &form).await), expected);
    // A body and a query string are one form.
    let request = Request::post("/api/v1/query?time=60.5")
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .body(Body::from("query=time()"))
        .unwrap();
    assert_eq!(
        data(&ask(api, request).await),
        json!({"resultType": "scalar", "result": [60.5, "60.5"]})
    );
    let at = [("query", "vector(1)"), ("time", "2025-10-22T10:20:00.500Z")];
    assert!(
        get(api, "/api/v1/query", &at)
            .await
            .text()
            .contains("[1761128400.500,\"1\"]")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_cut_and_say_so() {
    let lab = Lab::filled().await;
    let api = &lab.prometheus;
    let cut = json!(["results truncated due to limit"]);
    for (path, query, full) in [
        ("/api/v1/query", vec![("query", "http_requests_total")], "2"),
        ("/api/v1/series", vec![("match[]", "http_requests_total")], "2"),
        ("/api/v1/labels", vec![], "3"),
        ("/api/v1/label/job/values", vec![], "2"),
    ] {
        let mut query = query.clone();
        query.push(("limit", "1"));
        let body = get(api, path, &query).await.json();
        assert_eq!(body["warnings"], cut, "{path}");
        query.pop();
        for all in ["0", full] {
            query.push(("limit", all));
            let body = get(api, path, &query).await.json();
            assert_eq!(body.get("warnings"), None, "{path} {all}");
            query.pop();
        }
        query.push(("limit", "-1"));
        let words = "invalid parameter \"limit\": limit must be non-negative";
        check_error(&get(api, path, &query).await, 400, "bad_data", words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_series_is_found() {
    let lab = Lab::filled().await;
    let api = &lab.prometheus;
    let both = [
        ("match[]", r#"http_requests_total{instance=~"a.*"}"#),
        ("match[]", r#"{job="lab"}"#),
    ];
    let series = json!([
        {"__name__": "http_requests_total", "instance": "a:80", "job": "shop"},
        {"__name__": "room.temperature", "job": "lab"},
    ]);
    assert_eq!(data(&get(api, "/api/v1/series", &both).await), series);
    assert_eq!(data(&post(api, "/api/v1/series", &both).await), series);
    assert_eq!(
        data(&post(api, "/api/v1/labels", &[]).await),
        json!(["__name__", "instance", "job"])
    );
    assert_eq!(
        data(&get(api, "/api/v1/labels", &[("match[]", "{\"room.temperature\"}")]).await),
        json!(["__name__", "job"])
    );
    let values = |path: &'static str, m: &'static [(&'static str, &'static str)]| get(api, path, m);
    assert_eq!(
        data(&values("/api/v1/label/__name__/values", &[]).await),
        json!(["http_requests_total", "room.temperature"])
    );
    assert_eq!(
        data(
            &values(
                "/api/v1/label/job/values",
                &[("match[]", r#"{__ignore_usage__="",instance="b:80"}"#)]
            )
            .await
        ),
        json!(["shop"])
    );
    assert_eq!(
        data(&values("/api/v1/label/U__no_2e_such/values", &[]).await),
        json!([])
    );
    let past = [("start", "1000"), ("end", "2000")];
    assert_eq!(data(&get(api, "/api/v1/label/job/values", &past).await), json!([]));
    let one = json!({"http_requests_total": [{"type": "counter", "unit": "", "help": "Requests \"served\"."}]});
    assert_eq!(data(&get(api, "/api/v1/metadata", &[]).await), one);
    let asked = [("metric", "http_requests_total"), ("limit_per_metric", "1")];
    assert_eq!(data(&get(api, "/api/v1/metadata", &asked).await), one);
    assert_eq!(
        data(&get(api, "/api/v1/metadata", &[("metric", "nope")]).await),
        json!({})
    );
    assert_eq!(data(&get(api, "/api/v1/metadata", &[("limit", "0")]).await), json!({}));
    assert_eq!(
        data(&get(api, "/api/v1/metadata", &[("limit_per_metric", "0")]).await),
        one
    );
    check_error(
        &get(api, "/api/v1/metadata", &[("limit", "x")]).await,
        400,
        "bad_data",
        "limit must be a number",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_are_found_by_expression() {
    let lab = Lab::filled().await;
    let (start, end) = ((NOW - 600).to_string(), NOW.to_string());
    let query = [
        ("query", r#"sum(rate(http_requests_total{instance="a:80"}[1m])) / 2"#),
        ("start", start.as_str()),
        ("end", end.as_str()),
    ];
    let expected = json!([{
        "seriesLabels": {"__name__": "http_requests_total", "instance": "a:80", "job": "shop"},
        "exemplars": [{
            "labels": {"trace_id": "4c7d1e90a2b35f6817d0c3e5a9f8b264"}, "value": "0.25", "timestamp": NOW - 60,
        }],
    }]);
    assert_eq!(
        data(&get(&lab.prometheus, "/api/v1/query_exemplars", &query).await),
        expected
    );
    assert_eq!(
        data(&post(&lab.prometheus, "/api/v1/query_exemplars", &query).await),
        expected
    );
    let none = get(&lab.prometheus, "/api/v1/query_exemplars", &[("query", "1+1")]).await;
    assert_eq!((none.status, none.text()), (StatusCode::NO_CONTENT, ""));
    let backwards = [("query", "up"), ("start", "60"), ("end", "0")];
    check_error(
        &get(&lab.prometheus, "/api/v1/query_exemplars", &backwards).await,
        400,
        "bad_data",
        "end timestamp must not be before start timestamp",
    );
    check_error(
        &get(&lab.prometheus, "/api/v1/query_exemplars", &[("query", "up[")]).await,
        400,
        "bad_data",
        "1:4: parse error: ",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_as_prometheus_says_it() {
    let lab = Lab::filled().await;
    let api = &lab.prometheus;
    let range = |start: &'static str, end: &'static str, step: &'static str| {
        let query = vec![("query", "up"), ("start", start), ("end", end), ("step", step)];
        get(api, "/api/v1/query_range", query.leak())
    };
    for (answer, words) in [
        (
            range("", "60", "15").await,
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            range("x", "60", "15").await,
            "invalid parameter \"start\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            range("0", "60", "x").await,
            "invalid parameter \"step\": cannot parse \"x\" to a valid duration",
        ),
        (
            range("0", "60", "0").await,
            "invalid parameter \"step\": zero or negative query resolution step widths",
        ),
        (
            range("60", "0", "15").await,
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            range("0", "11001", "1").await,
            "exceeded maximum resolution of 11,000 points per timeseries.",
        ),
        (
            get(api, "/api/v1/query", &[("query", "up"), ("time", "x")]).await,
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
        ),
        (
            get(api, "/api/v1/query", &[("query", "up"), ("timeout", "x")]).await,
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            get(api, "/api/v1/query", &[("query", "up"), ("lookback_delta", "x")]).await,
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            get(api, "/api/v1/query", &[("query", "sum(")]).await,
            "invalid parameter \"query\": 1:5: parse error: ",
        ),
        (get(api, "/api/v1/query", &[]).await, "invalid parameter \"query\": "),
        (
            get(
                api,
                "/api/v1/query_range",
                &[("query", "up[1m]"), ("start", "0"), ("end", "60"), ("step", "15")],
            )
            .await,
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or \
             instant Vector",
        ),
        (get(api, "/api/v1/series", &[]).await, "no match[] parameter provided"),
        (
            get(api, "/api/v1/series", &[("match[]", "{}")]).await,
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        (get(api, "/api/v1/labels", &[("match[]", "up[1m]")]).await, "1:"),
        (
            get(api, "/api/v1/query", &[("query", "up"), ("limit", "x")]).await,
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            get(api, "/api/v1/format_query", &[("query", "sum(")]).await,
            "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis",
        ),
        (
            get(api, "/api/v1/parse_query", &[]).await,
            "invalid parameter \"query\": unknown position: parse error: no expression found in input",
        ),
        (
            get(api, "/api/v1/query?query=%ff", &[]).await,
            "parameter is not valid UTF-8",
        ),
    ] {
        check_error(&answer, 400, "bad_data", words);
    }
    assert_eq!(range("0", "11000", "1").await.status, StatusCode::OK);
    let clash = [("query", "http_requests_total + ignoring(instance) http_requests_total")];
    check_error(
        &get(api, "/api/v1/query", &clash).await,
        422,
        "execution",
        "found duplicate series",
    );
    let late = [("query", "count({__name__=~\".+\"})"), ("timeout", "0")];
    check_error(
        &get(api, "/api/v1/query", &late).await,
        503,
        "timeout",
        "query timed out in ",
    );
    assert_eq!(
        post(api, "/api/v1/label/job/values", &[]).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        post(api, "/api/v1/metadata", &[]).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_any_origin_may_read() {
    let lab = Lab::empty();
    let request = |method: Method| {
        Request::builder()
            .method(method)
            .uri("/api/v1/query?query=1")
            .header("origin", "https://lab.example")
            .body(Body::empty())
            .unwrap()
    };
    let answer = ask(&lab.prometheus, request(Method::GET)).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("vary"), "Origin");
    let preflight = ask(&lab.prometheus, request(Method::OPTIONS)).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    assert_eq!(preflight.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    let head = ask(&lab.prometheus, request(Method::HEAD)).await;
    assert_eq!((head.status, head.text()), (StatusCode::OK, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_and_figures_accompany_an_answer() {
    let lab = Lab::filled().await;
    let query = [("query", r#"rate({"room.temperature"}[5m])"#), ("stats", "true")];
    let body = get(&lab.prometheus, "/api/v1/query", &query).await.json();
    let info = body["infos"][0].as_str().unwrap();
    assert!(info.starts_with("PromQL info: ") && info.ends_with("(1:6)"), "{info}");
    let odd = [("query", "1"), ("stats", "x")];
    let body = get(&lab.prometheus, "/api/v1/query", &odd).await.json();
    assert_eq!(
        body["warnings"],
        json!([
            "value \"x\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" \
             or \"all\""
        ])
    );
    let query = [("query", "sum(http_requests_total)"), ("stats", "true")];
    let body = get(&lab.prometheus, "/api/v1/query", &query).await.json();
    let stats = &body["data"]["stats"];
    assert!(stats["timings"]["evalTotalTime"].is_number());
    assert_eq!(stats["samples"]["totalQueryableSamples"], 2, "{stats}");
    assert_eq!(stats["samples"]["samplesRead"], 2, "{stats}");
    assert!(stats["samples"]["peakSamples"].as_u64().unwrap() >= 2, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_tells_of_itself() {
    let lab = Lab::filled().await;
    let api = &lab.prometheus;
    assert_eq!(
        data(&get(api, "/api/v1/status/flags", &[]).await),
        json!({"data-dir": "x"})
    );
    let config = data(&get(api, "/api/v1/status/config", &[]).await);
    assert_eq!(config["yaml"], "data-dir: \"x\"\n");
    let runtime = data(&get(api, "/api/v1/status/runtimeinfo", &[]).await);
    assert_eq!(runtime["startTime"], "2025-10-22T10:19:00Z");
    assert_eq!(runtime["serverTime"], "2025-10-22T10:20:00Z");
    assert_eq!(runtime["storageRetention"], "15d");
    assert_eq!(runtime["reloadConfigSuccess"], true);
    let tsdb = data(&get(api, "/api/v1/status/tsdb", &[]).await);
    assert_eq!(tsdb["headStats"]["numSeries"], 3);
    assert_eq!(tsdb["headStats"]["maxTime"], NOW * 1000);
    assert_eq!(
        tsdb["seriesCountByMetricName"],
        json!([{"name": "http_requests_total", "value": 2}, {"name": "room.temperature", "value": 1}])
    );
    assert_eq!(
        tsdb["seriesCountByLabelValuePair"][0],
        json!({"name": "__name__=http_requests_total", "value": 2})
    );
    let one = data(&get(api, "/api/v1/status/tsdb", &[("limit", "1")]).await);
    assert_eq!(one["labelValueCountByLabelName"].as_array().unwrap().len(), 1);
    check_error(
        &get(api, "/api/v1/status/tsdb", &[("limit", "0")]).await,
        400,
        "bad_data",
        "limit must be a positive number",
    );
    check_error(
        &get(api, "/api/v1/status/tsdb", &[("limit", "10001")]).await,
        400,
        "bad_data",
        "limit must not exceed 10000",
    );
    let replay = data(&get(api, "/api/v1/status/walreplay", &[]).await);
    assert_eq!(replay, json!({"min": 0, "max": 0, "current": 0}));
    assert_eq!(runtime["hostname"], "lab");
    assert_eq!(runtime["CWD"], "/lab");
    assert_eq!(data(&get(api, "/api/v1/notifications", &[]).await), json!([]));
    let features = data(&get(api, "/api/v1/features", &[]).await);
    assert_eq!(features["promql_functions"]["histogram_quantile"], true);
    assert_eq!(features["api"]["admin"], false);
    assert_eq!(features["templating_functions"]["humanize"], true);
    check_error(
        &get(api, "/api/v1/search/metric_names", &[]).await,
        500,
        "unavailable",
        "search API disabled",
    );
    let version: Value = serde_json::from_str(get(api, "/version", &[]).await.text()).unwrap();
    assert!(version["version"].is_string());
    assert_eq!(
        data(&get(api, "/api/v1/status/tsdb/blocks", &[]).await),
        json!({"blocks": []})
    );
    lab.storage.flush().unwrap();
    let blocks = data(&get(api, "/api/v1/status/tsdb/blocks", &[]).await);
    let block = &blocks["blocks"][0];
    assert_eq!(block["minTime"], (NOW - 600) * 1000);
    assert_eq!(block["maxTime"], NOW * 1000 + 1);
    assert_eq!(block["stats"], json!({"numSamples": 84, "numSeries": 3}));
    assert_eq!(block["compaction"], json!({"level": 1, "sources": [block["ulid"]]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_formatted_and_taken_apart() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    let query = [("query", "sum(rate(up{a='b'}[5m]))by(job)")];
    let formatted = json!(r#"sum by (job) (rate(up{a="b"}[5m]))"#);
    assert_eq!(data(&get(api, "/api/v1/format_query", &query).await), formatted);
    assert_eq!(data(&post(api, "/api/v1/format_query", &query).await), formatted);
    let tree = data(&post(api, "/api/v1/parse_query", &[("query", "-up offset 5m")]).await);
    assert_eq!(
        tree,
        json!({"type": "unaryExpr", "op": "-", "expr": {
            "type": "vectorSelector", "name": "up", "offset": 300_000, "offsetExpr": null,
            "matchers": [{"name": "__name__", "type": "=", "value": "up"}],
            "timestamp": null, "startOrEnd": null, "anchored": false, "smoothed": false,
        }})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_none_and_questions_about_them_are_checked() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    let rules = |query: &'static [(&'static str, &'static str)]| get(api, "/api/v1/rules", query);
    let none = json!({"groups": []});
    for query in [
        &[("type", "record")][..],
        &[("rule_group", "g"), ("file", "f"), ("unknown", "x")],
        &[("exclude_alerts", "t"), ("group_limit", "2"), ("match[]", r#"{a="b"}"#)],
    ] {
        assert_eq!(data(&rules(query).await), none);
    }
    for (query, words) in [
        (
            &[("type", "x")][..],
            "invalid parameter \"type\": not supported value \"x\"",
        ),
        (
            &[("group_limit", "0")],
            "invalid parameter \"group_limit\": group_limit needs to be greater than 0",
        ),
        (
            &[("group_limit", "x")],
            "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            &[("group_next_token", "x")],
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        (
            &[("group_next_token", "x"), ("group_limit", "1")],
            "invalid parameter \"group_next_token\": invalid group_next_token 'x'. were rule groups changed?",
        ),
        (
            &[("exclude_alerts", "x")],
            "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (&[("match[]", "x[")], "1:2: parse error: "),
    ] {
        check_error(&rules(query).await, 400, "bad_data", words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_in_plain_text() {
    let lab = Lab::empty();
    let api = &lab.prometheus;
    for path in ["/api/v1/nope", "/api/v1/", "/rules/test/test"] {
        let unknown = get(api, path, &[]).await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(unknown.text(), "404 page not found\n");
        assert!(unknown.header("content-type").starts_with("text/plain"));
    }
    let request = |method: &str, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let wrong = ask(api, request("DELETE", "/api/v1/query")).await;
    assert_eq!(
        (wrong.status, wrong.text()),
        (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
    );
    let preflight = ask(api, request("OPTIONS", "/api/v1/nope")).await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_answer_comes_whole() {
    let lab = Lab::empty();
    let mut batch = model::SampleBatch::default();
    for i in 0..3000 {
        let i = i.to_string();
        let series = batch.series(&mut vec![("__name__", "wide"), ("i", i.as_str())]);
        for k in 0..5 {
            batch.sample(series, lab::ms(NOW - 60 + 15 * k), k as f64 + 0.5);
        }
    }
    lab.storage.append_samples(&batch).await.unwrap();
    let (start, end) = ((NOW - 60).to_string(), NOW.to_string());
    let query = [
        ("query", "wide"),
        ("start", start.as_str()),
        ("end", end.as_str()),
        ("step", "15"),
    ];
    let answer = get(&lab.prometheus, "/api/v1/query_range", &query).await;
    assert!(answer.body.len() > 400_000);
    let data = data(&answer);
    let rows = data["result"].as_array().unwrap();
    assert_eq!(rows.len(), 3000);
    assert!(rows.iter().all(|row| row["values"].as_array().unwrap().len() == 5));
    assert_eq!(rows[2999]["metric"]["i"], "999");
    let series = get(&lab.prometheus, "/api/v1/series", &[("match[]", "wide")]).await;
    assert_eq!(series.json()["data"].as_array().unwrap().len(), 3000);
}
