//! Answers, and when two of them are the same.
//!
//! What has no order is sorted and keyed by what identifies it: traces by id, spans by id, series by labels. Which resource a
//! span was sent with counts, whether two spans share one message does not. Numbers may differ by 1e-9 of the larger. Figures
//! about the work done are left out. Of an error status and words count.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Map, Value, json};

use super::case::Case;
use crate::differential::noise::brief;
use crate::differential::{FNV_START, fnv};
use crate::http;

/// Numbers may differ by this part of the larger.
const NOISE: f64 = 1e-9;

/// What a server said, without what does not matter.
pub(super) fn answer(case: &Case, answer: &http::Answer) -> Value {
    if answer.status != 200 {
        return json!({"status": answer.status, "message": answer.text().trim_end()});
    }
    let body = answer.json();
    match case.endpoint.as_str() {
        _ if case.protobuf => protobuf(case, &answer.body),
        "/api/search" => search(&body),
        "/api/metrics/query_range" | "/api/metrics/query" => metrics(&body),
        path if path.starts_with("/api/traces/") => spans(&body["batches"]),
        path if path.starts_with("/api/v2/traces/") => json!({
            "trace": spans(&body["trace"]["resourceSpans"]),
            "status": body["status"], "message": body["message"],
        }),
        path if path.contains("/search/tag") => tags(body),
        _ => json!({"text": answer.text()}),
    }
}

/// Why there is no answer; empty if there is one.
pub(super) fn error(answer: &Value) -> &str {
    match answer["status"].is_number() {
        true => answer["message"].as_str().unwrap_or_default(),
        false => "",
    }
}

/// The status of an error, 0 if it is none.
pub(super) fn status(answer: &Value) -> u64 {
    answer["status"].as_u64().unwrap_or_default()
}

/// Whether nothing was found.
pub(super) fn is_empty(answer: &Value) -> bool {
    ["traces", "series"]
        .iter()
        .any(|k| answer[*k].as_object().is_some_and(Map::is_empty))
}

/// How `found` differs from `expected`; `None` if it does not.
pub(super) fn difference(expected: &Value, found: &Value) -> Option<String> {
    match (status(expected), status(found)) {
        (0, 0) => differs("", expected, found),
        (a, b) if a == b => differs("", &expected["message"], &found["message"]),
        _ => Some(format!("expected {}, found {}", brief(expected), brief(found))),
    }
}

fn differs(path: &str, a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            if let Some((key, value)) = x.iter().find(|(k, _)| !y.contains_key(*k)) {
                return Some(format!(
                    "{path}: {key} is missing ({} of {}): {}",
                    y.len(),
                    x.len(),
                    brief(value)
                ));
            }
            if let Some((key, value)) = y.iter().find(|(k, _)| !x.contains_key(*k)) {
                return Some(format!(
                    "{path}: {key} is too much ({} of {}): {}",
                    y.len(),
                    x.len(),
                    brief(value)
                ));
            }
            x.iter().find_map(|(k, v)| differs(&format!("{path}/{k}"), v, &y[k]))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            let mut pairs = x.iter().zip(y).enumerate();
            pairs.find_map(|(n, (x, y))| differs(&format!("{path}[{n}]"), x, y))
        }
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap_or(f64::NAN), y.as_f64().unwrap_or(f64::NAN));
            let near = x == y || (x - y).abs() <= NOISE * x.abs().max(y.abs());
            (!near).then(|| format!("{path}: expected {x}, found {y}"))
        }
        _ => (a != b).then(|| format!("{path}: expected {}, found {}", brief(a), brief(b))),
    }
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

fn search(body: &Value) -> Value {
    let mut traces = Map::new();
    let mut order = Vec::new();
    for trace in list(&body["traces"]) {
        // With or without leading zeros is the same id.
        let id = text(&trace["traceID"]).trim_start_matches('0').to_owned();
        let mut sets: Vec<Value> = list(&trace["spanSets"]).iter().map(spanset).collect();
        sets.sort_by_key(Value::to_string);
        let first = trace["spanSet"].is_object().then(|| spanset(&trace["spanSet"]));
        let repeats = first.is_none_or(|first| sets.contains(&first));
        order.push(json!([id, trace["startTimeUnixNano"]]));
        let kept = json!({
            "service": trace["rootServiceName"], "name": trace["rootTraceName"], "start": trace["startTimeUnixNano"],
            "ms": trace["durationMs"].as_u64().unwrap_or(0), "stats": trace["serviceStats"], "sets": sets,
            "spanset_repeats_one": repeats,
        });
        traces.insert(id, kept);
    }
    json!({"traces": traces, "order": order})
}

fn spanset(set: &Value) -> Value {
    let mut spans = BTreeMap::new();
    for span in list(&set["spans"]) {
        let key = format!("{} {}", text(&span["spanID"]), text(&span["startTimeUnixNano"]));
        spans.insert(
            key,
            json!({
                "name": span["name"], "ns": span["durationNanos"].as_str().unwrap_or("0"),
                "attributes": attributes(&span["attributes"]),
            }),
        );
    }
    json!({"attributes": attributes(&set["attributes"]), "matched": set["matched"], "spans": spans})
}

/// By key; the same key twice has its values one after the other.
fn attributes(of: &Value) -> Value {
    let mut out: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for one in list(of) {
        let (key, value) = (text(&one["key"]), &one["value"]);
        let of_many = key.starts_with("event:") || key.starts_with("link:");
        // Whether nothing is shown as nothing depends on the column it is in, and numbers on the order of children.
        let empty = value["stringValue"] == "nil" || (of_many && ["", "0s"].contains(&text(&value["stringValue"])));
        if !empty && !key.starts_with("nestedSet") {
            out.entry(key.to_owned()).or_default().push(value.clone());
        }
    }
    for values in out.values_mut() {
        values.sort_by_key(Value::to_string);
    }
    json!(out)
}

fn metrics(body: &Value) -> Value {
    let number = |v: &Value| match v {
        Value::Null => json!(0.0),
        other => other.clone(),
    };
    let mut series = Map::new();
    for one in list(&body["series"]) {
        let mut samples = Map::new();
        for sample in list(&one["samples"]) {
            samples.insert(text(&sample["timestampMs"]).to_owned(), number(&sample["value"]));
        }
        // Which spans are picked is chance; that each names its trace is not.
        let named = |e: &Value| attributes(&e["labels"])["trace:id"].is_array();
        let whole = list(&one["exemplars"]).iter().all(named);
        let mut kept = json!({"samples": samples, "exemplars_name_traces": whole});
        if one["samples"].is_null() {
            kept["value"] = number(&one["value"]);
        }
        series.insert(labels(&one["labels"]), kept);
    }
    json!({"series": series, "partial": [body["status"], body["message"]]})
}

fn labels(of: &Value) -> String {
    let mut all: Vec<String> = list(of)
        .iter()
        .map(|l| format!("{}={}", text(&l["key"]), l["value"]))
        .collect();
    all.sort();
    all.join(" ")
}

fn tags(body: Value) -> Value {
    let mut kept = body;
    if let Some(body) = kept.as_object_mut() {
        body.remove("metrics");
        for (_, v) in body.iter_mut() {
            sort(v);
        }
    }
    kept
}

fn sort(v: &mut Value) {
    match v {
        Value::Array(values) => {
            values.iter_mut().for_each(sort);
            values.sort_by_key(Value::to_string);
        }
        Value::Object(fields) => fields.values_mut().for_each(sort),
        _ => {}
    }
}

/// Spans by id and kind, each with its resource and scope.
fn spans(resource_spans: &Value) -> Value {
    let mut out: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for resource in list(resource_spans) {
        for scope in list(&resource["scopeSpans"]) {
            for span in list(&scope["spans"]) {
                let mut span = json!({"resource": resource["resource"], "scope": scope["scope"], "span": span});
                order_attributes(&mut span);
                out.entry(span_key(text(&span["span"]["spanId"])))
                    .or_default()
                    .push(span);
            }
        }
    }
    for spans in out.values_mut() {
        spans.sort_by_key(Value::to_string);
    }
    json!(out)
}

fn span_key(base64: &str) -> String {
    let id = STANDARD.decode(base64).unwrap_or_default();
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// The order of attributes and events is not kept by Tempo, and neither are flags.
fn order_attributes(v: &mut Value) {
    match v {
        Value::Object(fields) => {
            fields.remove("flags");
            for (name, field) in fields.iter_mut() {
                order_attributes(field);
                if let (true, Value::Array(list)) = (["attributes", "events", "links"].contains(&name.as_str()), field)
                {
                    list.sort_by_key(Value::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(order_attributes),
        _ => {}
    }
}

/// Spans by id, a checksum of the content of each.
fn protobuf(case: &Case, body: &[u8]) -> Value {
    let trace = match case.endpoint.starts_with("/api/v2/") {
        true => ByIdResponse::decode(body).map(|r| r.trace.unwrap_or_default()),
        false => TracesData::decode(body),
    };
    let Ok(trace) = trace else {
        return json!({"text": "no protobuf"});
    };
    let mut out: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for resource_spans in trace.resource_spans {
        let mut resource = resource_spans.resource.unwrap_or_default();
        by_key(&mut resource.attributes);
        for scope_spans in resource_spans.scope_spans {
            let mut scope = scope_spans.scope.unwrap_or_default();
            by_key(&mut scope.attributes);
            for mut span in scope_spans.spans {
                by_key(&mut span.attributes);
                span.events.iter_mut().for_each(|e| by_key(&mut e.attributes));
                span.links.iter_mut().for_each(|l| {
                    by_key(&mut l.attributes);
                    l.flags = 0;
                });
                span.flags = 0;
                span.links.sort_by_key(|l| format!("{l:?}"));
                span.events.sort_by_key(|e| format!("{e:?}"));
                // Absent and empty are the same.
                span.status.get_or_insert_default();
                let id = span.span_id.iter().map(|b| format!("{b:02x}")).collect();
                let content = format!("{resource:?} {scope:?} {span:?}");
                out.entry(id).or_default().push(fnv(FNV_START, content.as_bytes()));
            }
        }
    }
    out.values_mut().for_each(|sums| sums.sort_unstable());
    json!({"checksums": out})
}

fn by_key(attributes: &mut [KeyValue]) {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}

/// The answer of `/api/v2/traces/{id}`.
#[derive(Clone, PartialEq, Message)]
struct ByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
}
