//! The admin calls, refused and allowed.

use super::lab::{Lab, NOW, ask, get, post};
use super::{check_error, data};
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

const CALLS: [&str; 3] = ["delete_series", "clean_tombstones", "snapshot"];

#[tokio::test(flavor = "multi_thread")]
async fn they_are_refused_unless_turned_on() {
    let lab = Lab::empty();
    for call in CALLS {
        let path = format!("/api/v1/admin/tsdb/{call}");
        let answer = post(&lab.prometheus, &path, &[("match[]", "up")]).await;
        check_error(&answer, 500, "unavailable", "admin APIs disabled");
        let answer = get(&lab.prometheus, &path, &[]).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_series_are_gone() {
    let lab = Lab::with(|about| about.admin_api = true);
    lab.fill().await;
    let api = &lab.prometheus;
    let count = || async {
        let query = [("query", "count_over_time(http_requests_total[1h])")];
        let data = data(&get(api, "/api/v1/query", &query).await);
        let rows = data["result"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| (row["metric"]["instance"].clone(), row["value"][1].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        count().await,
        [(json!("a:80"), json!("41")), (json!("b:80"), json!("41"))]
    );
    let path = "/api/v1/admin/tsdb/delete_series";
    check_error(
        &post(api, path, &[]).await,
        400,
        "bad_data",
        "no match[] parameter provided",
    );
    check_error(
        &post(api, path, &[("match[]", "up[")]).await,
        400,
        "bad_data",
        "invalid parameter \"match[]\": 1:3: parse error: ",
    );
    let nothing = post(api, path, &[("match[]", "{}")]).await;
    assert_eq!(nothing.status, StatusCode::NO_CONTENT);
    assert_eq!(count().await.len(), 2);
    let end = (NOW - 300).to_string();
    let one = [
        ("match[]", r#"http_requests_total{instance="a:80"}"#),
        ("end", end.as_str()),
    ];
    let answer = post(api, path, &one).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(
        count().await,
        [(json!("a:80"), json!("20")), (json!("b:80"), json!("41"))]
    );
    let all = Request::put(format!("{path}?match[]=http_requests_total")).body(Body::empty());
    assert_eq!(ask(api, all.unwrap()).await.status, StatusCode::NO_CONTENT);
    assert!(count().await.is_empty());
    let answer = post(api, "/api/v1/admin/tsdb/clean_tombstones", &[]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, ""));
    assert!(count().await.is_empty());
    let names = data(&get(api, "/api/v1/label/__name__/values", &[("match[]", r#"{job!=""}"#)]).await);
    assert_eq!(names, json!(["room.temperature"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_a_name() {
    let lab = Lab::with(|about| about.admin_api = true);
    lab.fill().await;
    let path = "/api/v1/admin/tsdb/snapshot";
    let answer = data(&post(&lab.prometheus, path, &[("skip_head", "false")]).await);
    let name = answer["name"].as_str().unwrap();
    let (time, random) = name.split_once('-').unwrap();
    assert!(time.starts_with("20251022T1020") && time.ends_with('Z'), "{name}");
    assert!(
        random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()),
        "{name}"
    );
    check_error(
        &post(&lab.prometheus, path, &[("skip_head", "x")]).await,
        400,
        "bad_data",
        "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax",
    );
}
