//! Any server that takes remote write 2.0 and answers the Prometheus API.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::answer::answer;
use super::data::Series;
use super::queries::Case;
use super::wire::requests;
use crate::http::{escaped, request};

/// Writes all of it, in the order of time. An error if anything was refused, which keeps nothing else from being written.
pub(crate) fn write(server: SocketAddr, series: &[Series]) -> Result<()> {
    let headers = [
        (
            "Content-Type",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
        ("Content-Encoding", "snappy"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
    ];
    let mut refused = String::new();
    for body in requests(series) {
        let answer = request(server, "POST", "/api/v1/write", &headers, &body)?;
        if answer.status / 100 != 2 {
            refused = format!("remote write: {} {}", answer.status, answer.text());
        }
    }
    ensure!(refused.is_empty(), "{refused}");
    Ok(())
}

/// Asks one question.
pub(crate) fn ask(server: SocketAddr, case: &Case) -> Result<Value> {
    let mut form = format!("query={}", escaped(&case.query));
    let path = if case.step_ms == 0 {
        form.push_str(&format!("&time={}", seconds(case.start_ms)));
        "/api/v1/query"
    } else {
        let (start, end, step) = (seconds(case.start_ms), seconds(case.end_ms), seconds(case.step_ms));
        form.push_str(&format!("&start={start}&end={end}&step={step}"));
        "/api/v1/query_range"
    };
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    answer(&request(server, "POST", path, &headers, form.as_bytes())?.body)
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
