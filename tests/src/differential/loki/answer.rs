//! Answers, and when two of them are the same.
//!
//! Kept is what a client sees of an answer but its statistics and the order of streams and series: status and text of a
//! refusal, entries in their order, points. Of equal values that a query sorts either may be first, and of equal values
//! among which it picks either may be picked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::case::Case;
use crate::differential::noise::{brief, same};
use crate::http;

/// What a server said without what does not matter.
pub(crate) fn answer(case: &Case, answer: &http::Answer) -> Value {
    let body = answer.json();
    if answer.status != 200 || body.is_null() {
        return json!({"e": answer.status, "m": answer.text().trim_end_matches('\n')});
    }
    let data = &body["data"];
    match case.endpoint.as_str() {
        "query" | "query_range" | "index/volume" | "index/volume_range" => {
            let mut out = json!({"t": data["resultType"], "r": data["result"]});
            for (from, to) in [(&data["encodingFlags"], "f"), (&body["warnings"], "w")] {
                if !from.is_null() {
                    out[to] = from.clone();
                }
            }
            // A scalar's time overflows on its way through Loki's parts.
            if out["t"] == "scalar" {
                out["r"][0] = Value::Null;
                return out;
            }
            // Volumes count what a store holds, which is not the same for two.
            if case.endpoint.starts_with("index/") {
                out["r"].as_array_mut().into_iter().flatten().for_each(without_numbers);
            } else if is_sorted(case) {
                return out;
            }
            if let Some(list) = out["r"].as_array_mut() {
                list.sort_by_cached_key(labels);
            }
            out
        }
        "index/stats" => json!({"o": body.as_object().map(|o| o.keys().collect::<BTreeSet<_>>())}),
        // Types are guessed anew for every stream, and which comes first is chance.
        "detected_fields" => {
            let fields = body["fields"].as_array().into_iter().flatten();
            let mut names: Vec<&Value> = fields.map(|field| &field["label"]).collect();
            names.sort_by_cached_key(|name| name.to_string());
            if !case.parameter("limit").is_empty() {
                return json!({"o": names.len()});
            }
            json!({"o": names})
        }
        "series" | "detected_labels" => {
            let mut body = body.clone();
            for name in ["data", "detectedLabels"] {
                if let Some(list) = body.get_mut(name).and_then(Value::as_array_mut) {
                    list.sort_by_cached_key(Value::to_string);
                }
            }
            json!({"o": body})
        }
        name if name.starts_with("detected_field/") => {
            let mut body = body.clone();
            if let Some(list) = body.get_mut("values").and_then(Value::as_array_mut) {
                list.sort_by_cached_key(Value::to_string);
            }
            json!({"o": body})
        }
        _ => json!({"o": body}),
    }
}

/// Leaves of a series its labels.
fn without_numbers(series: &mut Value) {
    *series = json!({"metric": series["metric"]});
}

/// Whether the order of a vector's samples is asked for.
fn is_sorted(case: &Case) -> bool {
    case.endpoint == "query" && case.parameter("query").starts_with("sort")
}

fn labels(one: &Value) -> String {
    let labels = if one["stream"].is_null() {
        &one["metric"]
    } else {
        &one["stream"]
    };
    sorted(labels)
}

/// An object's text, its members by name.
fn sorted(object: &Value) -> String {
    let members: BTreeMap<&String, &Value> = object.as_object().into_iter().flatten().collect();
    json!(members).to_string()
}

/// How `b` differs from `a`.
pub(crate) fn difference(case: &Case, a: &Value, b: &Value) -> Option<String> {
    match (a["e"].as_u64(), b["e"].as_u64()) {
        (Some(x), Some(y)) if x == y => return None,
        (None, None) => {}
        _ => return Some(format!("expected {}, found {}", brief(a), brief(b))),
    }
    if a["t"] != b["t"] {
        return Some(format!("expected a {}, found a {}: {}", a["t"], b["t"], brief(&b["r"])));
    }
    for member in ["f", "w"] {
        if a[member] != b[member] {
            return Some(format!("expected {member} {}, found {}", a[member], b[member]));
        }
    }
    match a["t"].as_str() {
        Some("matrix" | "vector") if picks(case) => {
            let (a, b) = (points(&a["r"]), points(&b["r"]));
            (!same(&a, &b)).then(|| parted(&a, &b))
        }
        Some("streams" | "matrix" | "vector") if !is_sorted(case) => series(&a["r"], &b["r"]),
        Some(_) => (!same(&a["r"], &b["r"])).then(|| parted(&a["r"], &b["r"])),
        None => (!same(&a["o"], &b["o"])).then(|| parted(&a["o"], &b["o"])),
    }
}

/// Whether the query picks series; among equals Loki picks any.
fn picks(case: &Case) -> bool {
    ["topk", "bottomk"]
        .iter()
        .any(|op| case.parameter("query").contains(op))
}

/// All points, of whichever series.
fn points(list: &Value) -> Value {
    let series = list.as_array().into_iter().flatten();
    let mut points: Vec<&Value> = Vec::new();
    for one in series {
        match one["values"].as_array() {
            Some(values) => points.extend(values),
            None => points.push(&one["value"]),
        }
    }
    points.sort_by_cached_key(|point| point.to_string());
    json!(points)
}

fn series(a: &Value, b: &Value) -> Option<String> {
    let (a, b) = (by_labels(a), by_labels(b));
    if let Some((name, one)) = a.iter().find(|(name, _)| !b.contains_key(*name)) {
        return Some(format!(
            "{name} is missing: {}; found {:?}",
            brief(one),
            b.keys().take(3).collect::<Vec<_>>()
        ));
    }
    if let Some((name, one)) = b.iter().find(|(name, _)| !a.contains_key(*name)) {
        return Some(format!("{name} is surplus: {}", brief(one)));
    }
    a.iter().find_map(|(name, one)| {
        let other = &b[name];
        (!same(one, other)).then(|| format!("{name}: {}", parted(one, other)))
    })
}

fn by_labels(list: &Value) -> BTreeMap<String, Value> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| {
        let points = if one["values"].is_null() {
            &one["value"]
        } else {
            &one["values"]
        };
        (labels(one), points.clone())
    })
    .collect()
}

/// Where two values part.
fn parted(a: &Value, b: &Value) -> String {
    if let (Some(x), Some(y)) = (a.as_array(), b.as_array())
        && let Some(at) = (0..x.len().max(y.len())).find(|i| match (x.get(*i), y.get(*i)) {
            (Some(x), Some(y)) => !same(x, y),
            _ => true,
        })
    {
        let show = |list: &[Value]| list.get(at).map_or("nothing".to_owned(), brief);
        return format!(
            "at {at} of {} expected {}, found {} (of {})",
            x.len(),
            show(x),
            show(y),
            y.len()
        );
    }
    if let (Some(x), Some(y)) = (a.as_object(), b.as_object())
        && let Some((name, value)) = x
            .iter()
            .find(|(name, value)| !y.get(*name).is_some_and(|other| same(value, other)))
    {
        return format!("{name}: {}", parted(value, y.get(name).unwrap_or(&Value::Null)));
    }
    format!("expected {}, found {}", brief(a), brief(b))
}
