//! The Tempo API over real storage, asked as Grafana and scripts ask it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use axum::body::Body;
use http::{Request, StatusCode};
use lab::{Answer, Lab, NOW, ask, get};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};

/// The first trace of the lab, as clients write its id.
const TRACE: &str = "0000000000000000000000004c7d1e90";

fn good(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

/// An error is plain text.
fn check_error(answer: &Answer, words: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert!(answer.text().starts_with(words), "{}", answer.text());
}

async fn protobuf(lab: &Lab, path: &str) -> Answer {
    let request = Request::get(path).header("accept", "application/protobuf");
    ask(&lab.tempo, request.body(Body::empty()).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datasource_connects_to_an_empty_database() {
    let lab = Lab::empty();
    let api = &lab.tempo;
    let echo = get(api, "/api/echo", &[]).await;
    assert_eq!((echo.status, echo.text()), (StatusCode::OK, "echo\n"));
    assert!(good(&get(api, "/api/status/buildinfo", &[]).await)["version"].is_string());
    for query in [vec![], vec![("q", "{}")], vec![("tags", "service.name=x")]] {
        let body = good(&get(api, "/api/search", &query).await);
        assert_eq!(body["traces"], json!([]), "{query:?}");
        assert!(body["metrics"].is_object());
    }
    let tags = good(&get(api, "/api/v2/search/tags", &[("limit", "5000")]).await);
    assert_eq!(tags["scopes"].as_array().unwrap().len(), 1);
    assert_eq!(tags["scopes"][0]["name"], "intrinsic");
    assert_eq!(good(&get(api, "/api/search/tags", &[]).await)["tagNames"], json!([]));
    let values = get(
        api,
        "/api/v2/search/tag/resource.service.name/values",
        &[("limit", "5000")],
    )
    .await;
    assert_eq!(good(&values)["tagValues"], json!([]));
    let metrics = get(
        api,
        "/api/metrics/query_range",
        &[("q", "{} | rate()"), ("step", "60s")],
    )
    .await;
    assert_eq!(good(&metrics)["series"], json!([]));
    assert_eq!(
        get(api, "/api/metrics/summary", &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_found_by_its_id() {
    let lab = Lab::filled().await;
    for id in [TRACE, "4c7d1e90", "04C7D1E90"] {
        let body = good(&get(&lab.tempo, &format!("/api/traces/{id}"), &[]).await);
        let batches = body["batches"].as_array().unwrap();
        assert_eq!(batches.len(), 2);
        let shop = batches
            .iter()
            .find(|b| b["resource"]["attributes"][0]["value"]["stringValue"] == "shop")
            .unwrap();
        assert_eq!(
            shop["scopeSpans"][0],
            json!({"scope": {"name": "lab"}, "spans": [{
                "traceId": "AAAAAAAAAAAAAAAATH0ekA==", "spanId": "AAAAAAAAAAE=", "name": "GET /cart",
                "kind": "SPAN_KIND_SERVER",
                "startTimeUnixNano": "1761128100000000000", "endTimeUnixNano": "1761128100200000000",
                "attributes": [{"key": "http.status_code", "value": {"intValue": "200"}}],
                "events": [{"timeUnixNano": "1761128100000000000", "name": "began"}],
                "status": {"code": "STATUS_CODE_ERROR"},
            }]})
        );
        let body = good(&get(&lab.tempo, &format!("/api/v2/traces/{id}"), &[]).await);
        assert_eq!(body["trace"]["resourceSpans"].as_array().unwrap().len(), 2);
        assert_eq!(body.get("status"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_as_protobuf_has_what_grafana_dereferences() {
    let lab = Lab::filled().await;
    let v1 = protobuf(&lab, &format!("/api/traces/{TRACE}")).await;
    assert_eq!(v1.header("content-type"), "application/protobuf");
    let trace = TracesData::decode(v1.body.as_slice()).unwrap();
    assert_eq!(trace.resource_spans.len(), 2);
    for resource in &trace.resource_spans {
        assert!(!resource.resource.as_ref().unwrap().attributes.is_empty());
        for scope in &resource.scope_spans {
            assert!(scope.scope.is_some());
            assert!(scope.spans.iter().all(|s| s.status.is_some()));
        }
    }
    let roots = trace
        .resource_spans
        .iter()
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans);
    let parents: Vec<usize> = roots.map(|s| s.parent_span_id.len()).collect();
    assert!(parents.contains(&0) && parents.contains(&8), "{parents:?}");
    // The second API wraps it: field 1, length-delimited.
    let v2 = protobuf(&lab, &format!("/api/v2/traces/{TRACE}")).await;
    assert_eq!(v2.body[0], 0x0a);
    assert!(v2.body.ends_with(&v1.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_trace_is_404_or_empty() {
    let lab = Lab::filled().await;
    let v1 = get(&lab.tempo, "/api/traces/abc", &[]).await;
    assert_eq!((v1.status, v1.text()), (StatusCode::NOT_FOUND, ""));
    let v2 = get(&lab.tempo, "/api/v2/traces/abc", &[]).await;
    assert_eq!(good(&v2)["trace"], json!({}));
    let v2 = protobuf(&lab, "/api/v2/traces/abc").await;
    assert_eq!((v2.status, v2.body.as_slice()), (StatusCode::OK, [0x0a, 0].as_slice()));
    check_error(
        &get(&lab.tempo, "/api/traces/xyz", &[]).await,
        "trace IDs can only contain hex characters: invalid character 'x' at position 1",
    );
    check_error(
        &get(&lab.tempo, &format!("/api/v2/traces/{TRACE}0"), &[]).await,
        "trace IDs can't be larger than 128 bits",
    );
    let range = [("start", "20"), ("end", "10")];
    check_error(
        &get(&lab.tempo, &format!("/api/traces/{TRACE}"), &range).await,
        "http parameter start must be before end. received start=20 end=10",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_searched_by_traceql_and_by_tags() {
    let lab = Lab::filled().await;
    let search = |query: &'static str| {
        let lab = &lab;
        // The server's door escapes these.
        let query = query.replace('{', "%7B").replace('}', "%7D").replace('>', "%3E");
        async move { good(&get(&lab.tempo, &format!("/api/search?{query}"), &[]).await) }
    };
    let count = |body: &Value| body["traces"].as_array().unwrap().len();
    // As scripts write it: no range, and an `=` that is not escaped.
    let by_tags = search("tags=service.name=shop").await;
    assert_eq!(count(&by_tags), 6);
    assert_eq!(by_tags["traces"][0].get("spanSet"), None);
    assert_eq!(count(&search("tags=service.name%3Dnobody").await), 0);
    assert_eq!(count(&search("tags=service.name=shop&minDuration=500ms").await), 4);
    assert_eq!(count(&search("").await), 6);
    assert_eq!(count(&search("q=%7B%7D&limit=2").await), 2);
    assert_eq!(count(&search("q={duration%20>%20500ms}").await), 4);
    assert_eq!(
        count(&search("q={resource.service.name=%22shop%22}&start=1761128000&end=1761128100").await),
        1
    );
    let found = search("q={resource.service.name=%22shop%22%20%26%26%20status=error}").await;
    let trace = &found["traces"][0];
    assert_eq!(count(&found), 1);
    assert_eq!(trace["traceID"], TRACE);
    assert_eq!(
        (&trace["rootServiceName"], &trace["rootTraceName"]),
        (&json!("shop"), &json!("GET /cart"))
    );
    assert_eq!(trace["startTimeUnixNano"], "1761128100000000000");
    assert_eq!(trace["durationMs"], 200);
    assert_eq!(
        trace["serviceStats"],
        json!({"shop": {"spanCount": 1, "errorCount": 1}, "db": {"spanCount": 1}})
    );
    let spanset = &trace["spanSet"];
    assert_eq!(spanset["matched"], 1);
    assert_eq!(trace["spanSets"], json!([spanset]));
    let span = &spanset["spans"][0];
    assert_eq!(
        (&span["spanID"], &span["durationNanos"]),
        (&json!("0000000000000001"), &json!("200000000"))
    );
    let attributes = span["attributes"].as_array().unwrap();
    assert!(attributes.contains(&json!({"key": "status", "value": {"stringValue": "error"}})));
    assert!(attributes.contains(&json!({"key": "service.name", "value": {"stringValue": "shop"}})));
    let order = search("q=%7B%7D").await;
    let starts = order["traces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["startTimeUnixNano"].as_str().unwrap());
    assert!(starts.rev().is_sorted(), "newest first");
    let structural = search("q={resource.service.name=%22shop%22}%20>>%20{.db.system=%22sqlite%22}").await;
    assert_eq!(count(&structural), 6);
    for key in found
        .as_object()
        .unwrap()
        .keys()
        .chain(trace.as_object().unwrap().keys())
    {
        // Grafana's decoder refuses members that it does not know.
        let known = [
            "traces",
            "metrics",
            "traceID",
            "rootServiceName",
            "rootTraceName",
            "startTimeUnixNano",
            "durationMs",
            "spanSet",
            "spanSets",
            "serviceStats",
        ];
        assert!(known.contains(&key.as_str()), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_as_tempo_says_it() {
    let lab = Lab::filled().await;
    for (path, query, words) in [
        (
            "/api/search",
            vec![("q", "{")],
            "invalid TraceQL query: parse error at line 1, col ",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("tags", "a=b")],
            "invalid request: can't specify tags and q",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("limit", "0")],
            "invalid limit: must be a positive number",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("limit", "262145")],
            "limit 262145 exceeds max limit 262144",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("spss", "101")],
            "spans per span set exceeds 100. received 101",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("start", "10")],
            "http parameter start must be before end. received start=10 end=0",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("start", "20"), ("end", "10")],
            "http parameter start must be before end. received start=20 end=10",
        ),
        (
            "/api/search",
            vec![("q", "{}"), ("start", "x"), ("end", "10")],
            "invalid start: strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "/api/search",
            vec![("tags", "a=b"), ("minDuration", "5")],
            "invalid minDuration: time: invalid duration",
        ),
        (
            "/api/search",
            vec![("tags", "a=b"), ("minDuration", "5s"), ("maxDuration", "1s")],
            "invalid maxDuration: must be greater than minDuration",
        ),
        ("/api/v2/search/tags", vec![("scope", "x")], "invalid scope: x"),
        (
            "/api/metrics/query_range",
            vec![],
            "parse error : syntax error: unexpected $end",
        ),
        ("/api/metrics/query_range", vec![("q", "{}")], "not a metrics query"),
        (
            "/api/metrics/query_range",
            vec![("q", "{} | rate()"), ("step", "x")],
            "rpc error: code = Code(400) desc = cannot parse \"x\" to a valid duration",
        ),
        (
            "/api/metrics/query_range",
            vec![("q", "{} | rate()"), ("step", "10ms")],
            "step of 10ms is too small",
        ),
    ] {
        check_error(&get(&lab.tempo, path, &query).await, words);
    }
    let post = Request::post("/api/search").body(Body::empty()).unwrap();
    assert_eq!(ask(&lab.tempo, post).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_their_values() {
    let lab = Lab::filled().await;
    let tags = good(&get(&lab.tempo, "/api/v2/search/tags", &[("limit", "5000")]).await);
    let scope = |name: &str| {
        let scopes = tags["scopes"].as_array().unwrap();
        scopes
            .iter()
            .find(|s| s["name"] == name)
            .map(|s| s["tags"].clone())
            .unwrap_or_default()
    };
    assert_eq!(scope("resource"), json!(["service.name"]));
    assert_eq!(scope("span"), json!(["db.system", "http.status_code"]));
    assert_eq!(scope("intrinsic").as_array().unwrap().len(), 25);
    let one = good(&get(&lab.tempo, "/api/v2/search/tags", &[("scope", "span"), ("limit", "1")]).await);
    assert_eq!(one["scopes"], json!([{"name": "span", "tags": ["db.system"]}]));
    let all = good(&get(&lab.tempo, "/api/search/tags", &[("limit", "0")]).await);
    assert_eq!(
        all["tagNames"],
        json!(["db.system", "http.status_code", "service.name"])
    );
    let values = |path: &'static str, query: Vec<(&'static str, &'static str)>| {
        let lab = &lab;
        async move { good(&get(&lab.tempo, path, &query).await)["tagValues"].clone() }
    };
    assert_eq!(
        values("/api/search/tag/service.name/values", vec![]).await,
        json!(["db", "shop"])
    );
    assert_eq!(
        values(
            "/api/v2/search/tag/resource.service.name/values",
            vec![("tag", "resource.service.name")]
        )
        .await,
        json!([{"type": "string", "value": "db"}, {"type": "string", "value": "shop"}])
    );
    assert_eq!(
        values("/api/v2/search/tag/span.http.status_code/values", vec![]).await,
        json!([{"type": "int", "value": "200"}])
    );
    // A half-typed filter is no error.
    assert_eq!(
        values(
            "/api/v2/search/tag/name/values",
            vec![("q", "{ resource.service.name = ")]
        )
        .await,
        json!([{"type": "string", "value": "GET /cart"}, {"type": "string", "value": "SELECT"}])
    );
    assert_eq!(
        values(
            "/api/v2/search/tag/name/values",
            vec![("q", r#"{resource.service.name="db"}"#)]
        )
        .await,
        json!([{"type": "string", "value": "SELECT"}])
    );
    let keyword = |word: &str| json!({"type": "keyword", "value": word});
    assert_eq!(
        values("/api/v2/search/tag/status/values", vec![]).await,
        json!([keyword("error"), keyword("ok"), keyword("unset")])
    );
    assert_eq!(values("/api/v2/search/tag/duration/values", vec![]).await, json!([]));
    assert_eq!(
        values("/api/v2/search/tag/span.no%2Fsuch/values", vec![]).await,
        json!([])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_computed_from_spans() {
    let lab = Lab::filled().await;
    let (start, end) = ((NOW - 300).to_string(), NOW.to_string());
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let query = [("q", "{} | rate() by (resource.service.name)"), ("step", "60s")];
    let body = good(&get(&lab.tempo, "/api/metrics/query_range", &[&query[..], &range].concat()).await);
    let series = body["series"].as_array().unwrap();
    assert_eq!(series.len(), 2);
    assert_eq!(
        series[0]["labels"],
        json!([{"key": "resource.service.name", "value": {"stringValue": "db"}}])
    );
    // Six spans within the first minute.
    let samples = series[0]["samples"].as_array().unwrap();
    let total: f64 = samples.iter().filter_map(|s| s["value"].as_f64()).sum();
    assert!((total - 0.1).abs() < 1e-9, "{samples:?}");
    assert!(
        samples
            .iter()
            .all(|s| s["timestampMs"].as_str().unwrap().parse::<i64>().unwrap() % 60_000 == 0)
    );
    let query = [("q", "{} | count_over_time()")];
    let body = good(&get(&lab.tempo, "/api/metrics/query", &[&query[..], &range].concat()).await);
    assert_eq!(body["series"].as_array().unwrap().len(), 1);
    assert_eq!(body["series"][0]["value"], 12);
    assert_eq!(body["series"][0].get("samples"), None);
    assert_eq!(body["series"][0].get("promLabels"), None);
}
