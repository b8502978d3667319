//! When two JSON values are the same: numbers, also those that are spelled as text, may differ by 1e-12 of the larger.

use serde_json::Value;

const NOISE: f64 = 1e-12;

/// Equal but for noise. Equal numbers must be spelled alike, and NaN is NaN.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            a == b
                || match (a.parse::<f64>(), b.parse::<f64>()) {
                    (Ok(x), Ok(y)) => {
                        x != y && (x - y).abs() <= NOISE * x.abs().max(y.abs()) && x.is_finite() && y.is_finite()
                    }
                    _ => false,
                }
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// The beginning of a value, for a report.
pub(crate) fn brief(v: &Value) -> String {
    v.to_string().chars().take(400).collect()
}
