//! The notation of histograms, `{{schema:1 count:5 buckets:[1 4]}}`, and progressions of them.

use model::{Buckets, Histogram, ResetHint};
use query_exec::{HistogramSum, go_number};

use super::{BadNotation, Value, bad, number, repeats};

/// Most buckets that one histogram is written with.
const BUCKETS_MAX: i64 = 100_000;

/// `{{...}}`, `{{...}}xN`, `{{a}}+{{b}}xN` or `{{a}}-{{b}}xN`.
pub(super) fn series(text: &str, out: &mut Vec<Value>) -> Result<(), BadNotation> {
    let (body, times) = match text.rsplit_once("}}x") {
        Some((body, n)) => (body, repeats(n)?),
        None => (
            text.strip_suffix("}}")
                .ok_or_else(|| bad("histogram", "it ends with }}"))?,
            0,
        ),
    };
    let body = body
        .strip_prefix("{{")
        .ok_or_else(|| bad("histogram", "it begins with {{"))?;
    let (first, by) = match (body.split_once("}}+{{"), body.split_once("}}-{{")) {
        (Some((first, by)), _) => (first, Some((by, false))),
        (None, Some((first, by))) => (first, Some((by, true))),
        (None, None) => (body, None),
    };
    let (mut h, named) = histogram(first)?;
    out.push(Value::Histogram(Box::new(h.clone()), named));
    for _ in 0..times {
        if let Some((by, subtract)) = by {
            let (by, _) = histogram(by)?;
            let mut sum = HistogramSum::starting_with(&h);
            let added = if subtract { sum.subtract(&by) } else { sum.add(&by) };
            if added.is_err() {
                return Err(bad("histogram", "exponential and custom buckets do not add up"));
            }
            h = sum.total();
        }
        out.push(Value::Histogram(Box::new(h.clone()), named));
    }
    Ok(())
}

/// The fields between the braces; whether a reset hint is among them.
fn histogram(text: &str) -> Result<(Histogram, bool), BadNotation> {
    let mut h = Histogram {
        sum: 0.0,
        ..Histogram::stale()
    };
    let mut named = false;
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once(':')
            .ok_or_else(|| bad("histogram", format!("no field in {rest:?}")))?;
        let end = if after.starts_with('[') {
            after.find(']').ok_or_else(|| bad("histogram", "a list ends with ]"))? + 1
        } else {
            after.find(char::is_whitespace).unwrap_or(after.len())
        };
        let (value, after) = after.split_at(end);
        rest = after.trim_start();
        let list = || -> Result<Vec<f64>, BadNotation> {
            let inner = value.trim_start_matches('[').trim_end_matches(']');
            inner.split_whitespace().map(number).collect()
        };
        match key.trim() {
            "schema" => h.schema = whole(key, value)?,
            "count" => h.count = number(value)?,
            "sum" => h.sum = number(value)?,
            "z_bucket" => h.zero_count = number(value)?,
            "z_bucket_w" => h.zero_threshold = number(value)?,
            "buckets" => positive.1 = list()?,
            "offset" => positive.0 = whole(key, value)?,
            "n_buckets" => negative.1 = list()?,
            "n_offset" => negative.0 = whole(key, value)?,
            "custom_values" => h.bounds = list()?.into(),
            "counter_reset_hint" => {
                named = true;
                h.reset = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(bad("histogram", format!("unknown reset hint {other:?}"))),
                };
            }
            other => return Err(bad("histogram", format!("unknown field {other:?}"))),
        }
    }
    let side = |(offset, counts): (i32, Vec<f64>)| {
        Buckets::from_indexed(
            counts
                .into_iter()
                .enumerate()
                .map(|(i, c)| (offset.saturating_add(i as i32), c)),
        )
    };
    (h.positive, h.negative) = (side(positive), side(negative));
    Ok((h, named))
}

fn whole(key: &str, value: &str) -> Result<i32, BadNotation> {
    value.parse().map_err(|e| bad(&format!("{key}:{value}"), e))
}

/// A histogram in this notation, each side's buckets as one run from the first to the last that is not empty.
pub fn histogram_text(h: &Histogram) -> String {
    let mut parts = Vec::new();
    let mut put = |name: &str, v: f64| {
        if v != 0.0 {
            parts.push(format!("{name}:{}", go_number(v)));
        }
    };
    put("schema", f64::from(h.schema));
    put("count", h.count);
    put("sum", h.sum);
    put("z_bucket", h.zero_count);
    put("z_bucket_w", h.zero_threshold);
    if h.has_custom_buckets() {
        parts.push(format!("custom_values:{}", list_text(&h.bounds)));
    }
    match h.reset {
        ResetHint::Unknown => {}
        ResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
        ResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
    }
    for (side, buckets) in [("", &h.positive), ("n_", &h.negative)] {
        let filled: Vec<(i32, f64)> = buckets.iter().filter(|(_, count)| *count != 0.0).collect();
        let (Some(&(first, _)), Some(&(last, _))) = (filled.first(), filled.last()) else {
            continue;
        };
        if first != 0 {
            parts.push(format!("{side}offset:{first}"));
        }
        let width = i64::from(last) - i64::from(first);
        if width > BUCKETS_MAX {
            let each = filled.iter().map(|(i, count)| format!("{i}={}", go_number(*count)));
            parts.push(format!("{side}buckets at {}", each.collect::<Vec<_>>().join(" ")));
            continue;
        }
        let mut run = vec![0.0; usize::try_from(width).unwrap_or(0) + 1];
        for (i, count) in filled {
            if let Some(slot) = usize::try_from(i64::from(i) - i64::from(first))
                .ok()
                .and_then(|at| run.get_mut(at))
            {
                *slot = count;
            }
        }
        parts.push(format!("{side}buckets:{}", list_text(&run)));
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

fn list_text(numbers: &[f64]) -> String {
    let texts: Vec<String> = numbers.iter().map(|v| go_number(*v)).collect();
    format!("[{}]", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_written_field_by_field() {
        let mut out = Vec::new();
        let text = "{{schema:1 sum:2 count:3 z_bucket:1 z_bucket_w:0.001 buckets:[1 2] offset:-1 n_buckets:[4]}}+{{schema:1 count:1 buckets:[1]}}x2";
        series(text, &mut out).unwrap();
        assert_eq!(out.len(), 3);
        let Value::Histogram(h, false) = &out[2] else {
            panic!("{out:?}")
        };
        assert_eq!((h.count, h.sum, h.zero_count, h.zero_threshold), (5.0, 2.0, 1.0, 0.001));
        assert_eq!(h.positive.iter().collect::<Vec<_>>(), [(-1, 1.0), (0, 4.0)]);
        assert_eq!(h.negative.iter().collect::<Vec<_>>(), [(0, 4.0)]);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for text in [
            "{{}}",
            "{{schema:1 count:3 sum:2 z_bucket:1 z_bucket_w:0.001 offset:-1 buckets:[1 0 2] n_buckets:[4]}}",
            "{{schema:-53 count:1 custom_values:[1 2.5] counter_reset_hint:gauge offset:1 buckets:[1]}}",
        ] {
            let mut out = Vec::new();
            series(text, &mut out).unwrap();
            let Value::Histogram(h, _) = &out[0] else {
                panic!("{out:?}")
            };
            assert_eq!(histogram_text(h), text);
        }
    }
}
