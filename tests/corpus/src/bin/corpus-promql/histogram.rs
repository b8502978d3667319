//! The notation of histograms in `.test` files, `{{schema:1 count:5 buckets:[1 4]}}`, progressions of them, and how
//! classic ones become native ones with custom buckets.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use model::{Buckets, CUSTOM_BUCKETS, Histogram, LabelSet, METRIC_NAME, ResetHint};
use query_exec::HistogramSum;

use crate::series::{Value, number, repeats};

/// `{{...}}`, `{{...}}xN`, `{{a}}+{{b}}xN` or `{{a}}-{{b}}xN`.
pub fn series(text: &str, out: &mut Vec<Value>) -> anyhow::Result<()> {
    let (body, times) = match text.rsplit_once("}}x") {
        Some((body, n)) => (body, repeats(n)?),
        None => (text.strip_suffix("}}").context("a histogram ends with }}")?, 0),
    };
    let body = body.strip_prefix("{{").context("a histogram begins with {{")?;
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
            ensure!(added.is_ok(), "exponential and custom buckets do not add up");
            h = sum.total();
        }
        out.push(Value::Histogram(Box::new(h.clone()), named));
    }
    Ok(())
}

/// The fields between the braces; whether a reset hint is among them.
fn histogram(text: &str) -> anyhow::Result<(Histogram, bool)> {
    let mut h = Histogram {
        sum: 0.0,
        ..Histogram::stale()
    };
    let mut named = false;
    let (mut positive, mut negative) = ((0, Vec::new()), (0, Vec::new()));
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').with_context(|| format!("a field in {rest:?}"))?;
        let end = if after.starts_with('[') {
            after.find(']').context("a list ends with ]")? + 1
        } else {
            after.find(char::is_whitespace).unwrap_or(after.len())
        };
        let (value, after) = after.split_at(end);
        rest = after.trim_start();
        let list = || -> anyhow::Result<Vec<f64>> {
            let inner = value.trim_start_matches('[').trim_end_matches(']');
            inner.split_whitespace().map(number).collect()
        };
        match key.trim() {
            "schema" => h.schema = value.parse()?,
            "count" => h.count = number(value)?,
            "sum" => h.sum = number(value)?,
            "z_bucket" => h.zero_count = number(value)?,
            "z_bucket_w" => h.zero_threshold = number(value)?,
            "buckets" => positive.1 = list()?,
            "offset" => positive.0 = value.parse()?,
            "n_buckets" => negative.1 = list()?,
            "n_offset" => negative.0 = value.parse()?,
            "custom_values" => h.bounds = list()?.into(),
            "counter_reset_hint" => {
                named = true;
                h.reset = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => bail!("unknown reset hint {other:?}"),
                };
            }
            other => bail!("unknown field {other:?}"),
        }
    }
    let side = |(offset, counts): (i32, Vec<f64>)| {
        Buckets::from_indexed(counts.into_iter().enumerate().map(|(i, c)| (offset + i as i32, c)))
    };
    (h.positive, h.negative) = (side(positive), side(negative));
    Ok((h, named))
}

/// One classic histogram at one time.
#[derive(Default)]
struct Classic {
    buckets: BTreeMap<Bound, f64>,
    count: Option<f64>,
    sum: f64,
}

/// An upper bound, ordered as a number.
#[derive(PartialEq)]
struct Bound(f64);

impl Eq for Bound {}
impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Bound) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Bound {
    fn cmp(&self, other: &Bound) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Classic {
    fn native(&self) -> Histogram {
        let bounds: Vec<f64> = self.buckets.keys().map(|b| b.0).filter(|b| b.is_finite()).collect();
        let highest = self.buckets.values().next_back().copied().unwrap_or(0.0);
        let count = self
            .buckets
            .get(&Bound(f64::INFINITY))
            .copied()
            .or(self.count)
            .unwrap_or(highest);
        let mut below = 0.0;
        let cumulative = self.buckets.iter().filter(|(b, _)| b.0.is_finite()).map(|(_, c)| *c);
        let counts: Vec<(i32, f64)> = (cumulative.chain([count]).enumerate())
            .map(|(i, c)| (i as i32, c - std::mem::replace(&mut below, c)))
            .collect();
        let mut h = Histogram {
            schema: CUSTOM_BUCKETS,
            count,
            sum: self.sum,
            positive: Buckets::from_indexed(counts),
            bounds: bounds.into(),
            ..Histogram::stale()
        };
        h.compact();
        h
    }
}

/// The native series with custom buckets that the classic ones among `series` are.
pub fn with_custom_buckets(series: &[(LabelSet, Vec<Value>)]) -> Vec<(LabelSet, Vec<Value>)> {
    let mut classic: BTreeMap<LabelSet, Vec<Option<Classic>>> = BTreeMap::new();
    for (labels, values) in series {
        let name = labels.metric_name();
        let part = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| Some((name.strip_suffix(end)?, *end)));
        let Some((base, part)) = part else { continue };
        let bound = labels.get("le").and_then(|le| number(le).ok());
        if part == "_bucket" && bound.is_none() {
            continue;
        }
        let of = classic
            .entry(labels.without(&["le"]).with(METRIC_NAME, base))
            .or_default();
        if of.len() < values.len() {
            of.resize_with(values.len(), || None);
        }
        for (slot, value) in of.iter_mut().zip(values) {
            let Value::Float(v) = value else { continue };
            let at = slot.get_or_insert_with(Classic::default);
            match (part, bound) {
                ("_bucket", Some(bound)) => {
                    at.buckets.insert(Bound(bound), *v);
                }
                ("_count", _) => at.count = Some(*v),
                _ => at.sum = *v,
            }
        }
    }
    let native = |at: Option<Classic>| match at {
        Some(at) if !at.buckets.is_empty() => Value::Histogram(Box::new(at.native()), false),
        _ => Value::None,
    };
    classic
        .into_iter()
        .map(|(labels, values)| (labels, values.into_iter().map(native).collect()))
        .collect()
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
    fn classic_histograms_become_native_ones() {
        let of = |name: &str, le: &str, v: f64| {
            (
                LabelSet::from_pairs([("__name__", name), ("le", le)]),
                vec![Value::Float(v)],
            )
        };
        let all = [
            of("a_bucket", "1", 2.0),
            of("a_bucket", "2.5", 5.0),
            of("a_bucket", "+Inf", 6.0),
            of("a_sum", "", 9.0),
            of("a_bucket", "x", 9.0),
        ];
        let native = with_custom_buckets(&all);
        let [(labels, values)] = &native[..] else {
            panic!("{native:?}")
        };
        let Value::Histogram(h, _) = &values[0] else {
            panic!("{values:?}")
        };
        assert_eq!(
            (labels.metric_name(), h.count, h.sum, &h.bounds[..]),
            ("a", 6.0, 9.0, &[1.0, 2.5][..])
        );
        assert_eq!(h.positive.counts, [2.0, 3.0, 1.0]);
    }
}
