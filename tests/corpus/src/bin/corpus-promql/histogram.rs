//! How classic histograms become native ones with custom buckets, as `load_with_nhcb` asks.

use std::collections::BTreeMap;

use model::{Buckets, CUSTOM_BUCKETS, Histogram, LabelSet, METRIC_NAME};
use query_rules::notation::{Value, number};

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
