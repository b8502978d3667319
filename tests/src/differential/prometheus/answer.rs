//! Answers, and when two of them are the same.
//!
//! Numbers may differ by 1e-12 of the larger; equal numbers must be spelled alike. Series are compared by labels; their order
//! counts where the query sorts. Warnings and infos are sets. Of an error its kind counts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::queries::Case;
use crate::differential::noise::{brief, same};

/// What a server said without what does not matter, from the body of `/api/v1/query` or `/api/v1/query_range`.
pub(crate) fn answer(body: &[u8]) -> Result<Value> {
    let body: Value = serde_json::from_slice(body).with_context(|| String::from_utf8_lossy(body).into_owned())?;
    let mut kept = match body["status"].as_str() {
        Some("success") => json!({"t": body["data"]["resultType"], "r": body["data"]["result"]}),
        _ => json!({"e": body["errorType"], "m": body["error"]}),
    };
    for (from, to) in [("warnings", "w"), ("infos", "i")] {
        if let Some(list) = body[from].as_array() {
            let mut list: Vec<_> = list.iter().filter_map(Value::as_str).collect();
            list.sort_unstable();
            kept[to] = list.into();
        }
    }
    Ok(kept)
}

/// How `found` differs from `expected`; `None` if it does not.
pub(crate) fn difference(case: &Case, a: &Value, b: &Value) -> Option<String> {
    match (a["e"].as_str(), b["e"].as_str()) {
        (Some(x), Some(y)) if x == y => return None,
        (None, None) => {}
        _ => return Some(format!("expected {}, found {}", brief(a), brief(b))),
    }
    if a["t"] != b["t"] {
        return Some(format!("expected a {}, found a {}", a["t"], b["t"]));
    }
    let order = match case.query.split('(').next() {
        _ if case.step_ms != 0 => Order::Any,
        Some("sort" | "sort_desc") => Order::Values,
        Some("sort_by_label" | "sort_by_label_desc") => Order::Labels,
        _ => Order::Any,
    };
    let value = match a["t"].as_str() {
        Some("scalar" | "string") => point(&a["r"], &b["r"]),
        _ => series(&a["r"], &b["r"], order),
    };
    value
        .or_else(|| notes("warnings", &a["w"], &b["w"], case.step_ms != 0))
        .or_else(|| notes("infos", &a["i"], &b["i"], case.step_ms != 0))
}

/// What the order of series is by. Of equal values either may be first.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Any,
    Values,
    Labels,
}

fn series(a: &Value, b: &Value, order: Order) -> Option<String> {
    let empty = Vec::new();
    let (a, b) = (a.as_array().unwrap_or(&empty), b.as_array().unwrap_or(&empty));
    let by_labels = |list: &[Value]| -> BTreeMap<String, Value> {
        list.iter().map(|s| (s["metric"].to_string(), s.clone())).collect()
    };
    let (left, right) = (by_labels(a), by_labels(b));
    if left.len() != a.len() || right.len() != b.len() {
        return Some("a label set comes twice".to_owned());
    }
    if let Some(missing) = left.keys().find(|k| !right.contains_key(*k)) {
        return Some(format!(
            "{missing} is missing: {}; found {} of {}",
            brief(&left[missing]),
            b.len(),
            a.len()
        ));
    }
    if let Some(extra) = right.keys().find(|k| !left.contains_key(*k)) {
        return Some(format!("{extra} is too much: {}", brief(&right[extra])));
    }
    let displaced = |x: &Value, y: &Value| match order {
        Order::Any => false,
        Order::Values => points(&x["value"], &y["value"], false).is_some(),
        Order::Labels => x["metric"] != y["metric"],
    };
    if let Some((x, y)) = a.iter().zip(b).find(|(x, y)| displaced(x, y)) {
        return Some(format!(
            "the order differs: expected {}, found {}",
            x["metric"], y["metric"]
        ));
    }
    left.iter().find_map(|(labels, x)| {
        let y = &right[labels];
        ["value", "histogram", "values", "histograms"]
            .into_iter()
            .find_map(|kind| points(&x[kind], &y[kind], kind.ends_with('s')))
            .map(|why| format!("{labels}: {why}"))
    })
}

fn points(a: &Value, b: &Value, many: bool) -> Option<String> {
    match (a.as_array(), b.as_array()) {
        (Some(x), Some(y)) if many => {
            if x.len() != y.len() {
                return Some(format!(
                    "expected {} points, found {}: {} {}",
                    x.len(),
                    y.len(),
                    brief(a),
                    brief(b)
                ));
            }
            x.iter().zip(y).find_map(|(x, y)| point(x, y))
        }
        (Some(_), Some(_)) => point(a, b),
        (None, None) => None,
        _ => Some(format!("expected {}, found {}", brief(a), brief(b))),
    }
}

/// `[time, "number"]` or `[time, {histogram}]`.
fn point(a: &Value, b: &Value) -> Option<String> {
    let same_time = a[0].as_f64() == b[0].as_f64();
    (!same_time || !same(&a[1], &b[1])).then(|| format!("expected {}, found {}", brief(a), brief(b)))
}

/// The text without the count in "over 3 samples": over a range Prometheus doubles it at every step.
fn uncounted(text: &str) -> String {
    match text.split_once(", over ") {
        Some((before, after)) => format!(
            "{before}, over {}",
            after.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit())
        ),
        None => text.to_owned(),
    }
}

fn notes(kind: &str, a: &Value, b: &Value, ranged: bool) -> Option<String> {
    let set = |v: &Value| -> BTreeSet<String> {
        v.as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s.as_str().map(|s| if ranged { uncounted(s) } else { s.to_owned() }))
            .collect()
    };
    let (a, b) = (set(a), set(b));
    // Of more than ten an arbitrary ten are shown, and how many more there are.
    let cut = |s: &BTreeSet<String>| s.iter().any(|t| t.contains("annotations omitted"));
    if a == b || cut(&a) && cut(&b) && a.len() == b.len() {
        return None;
    }
    let lacking: Vec<_> = a.difference(&b).take(2).collect();
    let surplus: Vec<_> = b.difference(&a).take(2).collect();
    Some(format!("{kind}: lacking {lacking:?}, surplus {surplus:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differ(a: &str, b: &str) -> bool {
        let case = Case {
            query: "x".into(),
            start_ms: 0,
            end_ms: 0,
            step_ms: 0,
        };
        let body = |v: &str| {
            format!(
                r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1,"{v}"]}}]}}}}"#
            )
        };
        let answer = |v: &str| answer(body(v).as_bytes()).unwrap();
        difference(&case, &answer(a), &answer(b)).is_some()
    }

    #[test]
    fn numbers_differ_by_more_than_noise_and_by_spelling() {
        assert!(!differ("1.0000000000001", "1.00000000000011"));
        assert!(differ("1.00000000001", "1.00000000002"));
        assert!(differ("1", "1.0"));
        assert!(differ("0", "-0"));
        assert!(!differ("NaN", "NaN"));
        assert!(differ("+Inf", "-Inf"));
        assert!(differ("1e+300", "+Inf"));
    }
}
