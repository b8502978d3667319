//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.

use std::cmp::Ordering;

use hashbrown::HashMap;
use model::LabelSet;
use query_exec::Row;

/// The label that holds a bucket's upper bound.
pub(crate) const BOUND: &str = "le";

/// One histogram's rows: each an upper bound and the row that counts it.
pub(crate) struct Buckets<'a> {
    pub(crate) labels: LabelSet,
    pub(crate) name: &'a str,
    pub(crate) rows: Vec<(f64, &'a Row)>,
}

/// Rows by histogram: equal in all labels but the bound. `odd` gets rows without a usable bound.
pub(crate) fn collect_buckets<'a>(
    rows: impl Iterator<Item = &'a Row>,
    mut odd: impl FnMut(&'a Row, &'a str),
) -> Vec<Buckets<'a>> {
    let mut known: HashMap<LabelSet, usize> = HashMap::new();
    let mut out: Vec<Buckets<'a>> = Vec::new();
    for row in rows {
        let bound = row.labels.get(BOUND).unwrap_or("");
        let Some(upper) = parse_bound(bound) else {
            odd(row, bound);
            continue;
        };
        let labels = row.labels.without(&[BOUND]);
        let at = *known.entry(labels).or_insert_with_key(|labels| {
            out.push(Buckets {
                labels: labels.clone(),
                name: row.labels.metric_name(),
                rows: Vec::new(),
            });
            out.len() - 1
        });
        out[at].rows.push((upper, row));
    }
    for buckets in &mut out {
        buckets.rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    out
}

fn parse_bound(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.trim_start_matches('+') {
        "inf" | "infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "" => None,
        number => number.parse().ok(),
    }
}

/// What had to be done to a histogram that was not monotonic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fixed {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    pub(crate) by: f64,
}

/// The φ-quantile of (upper bound, cumulative count), sorted by bound; the buffer is used up.
pub(crate) fn bucket_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> (f64, Option<Fixed>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        return (f64::NAN, None);
    }
    join_equal_bounds(buckets);
    let fixed = make_monotonic(buckets);
    let n = buckets.len();
    let observations = buckets[n - 1].1;
    if n < 2 || observations == 0.0 {
        return (f64::NAN, fixed);
    }
    let mut rank = q * observations;
    let below = |count: f64| count.partial_cmp(&rank).is_none_or(Ordering::is_lt);
    let at = buckets[..n - 1].partition_point(|b| below(b.1));
    if at == n - 1 {
        return (buckets[n - 2].0, fixed);
    }
    if at == 0 && buckets[0].0 <= 0.0 {
        return (buckets[0].0, fixed);
    }
    let (end, mut count) = buckets[at];
    let mut start = 0.0;
    if at > 0 {
        start = buckets[at - 1].0;
        count -= buckets[at - 1].1;
        rank -= buckets[at - 1].1;
    }
    (start + (end - start) * (rank / count), fixed)
}

/// The share of observations in (lower, upper]; buckets as for [`bucket_quantile`].
pub(crate) fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        return f64::NAN;
    }
    join_equal_bounds(buckets);
    let total = buckets[buckets.len() - 1].1;
    if total == 0.0 || total.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_at = |at: f64, opens: bool| {
        let mut below = 0.0;
        let mut start = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for &(end, count) in buckets.iter() {
            if start >= at {
                return below;
            }
            if end > at {
                let share = (at - start) / (end - start);
                // Where in an infinite bucket the observations are is not known: none of them counts.
                return match () {
                    () if start.is_infinite() && opens => count,
                    () if start.is_infinite() || end.is_infinite() => below,
                    () => below + (count - below) * share,
                };
            }
            (below, start) = (count, end);
        }
        total
    };
    (rank_at(upper, false).min(total) - rank_at(lower, true).min(total)) / total
}

fn join_equal_bounds(buckets: &mut Vec<(f64, f64)>) {
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
}

/// Cumulative counts never fall; tiny differences come from arithmetic and are taken away.
fn make_monotonic(buckets: &mut [(f64, f64)]) -> Option<Fixed> {
    const TINY: f64 = 1e-12;
    let mut fixed: Option<Fixed> = None;
    let mut previous = buckets.first()?.1;
    for (bound, count) in &mut buckets[1..] {
        if nearly_equal(previous, *count, TINY) {
            *count = previous;
        } else if *count < previous {
            let f = fixed.get_or_insert(Fixed {
                lowest: *bound,
                highest: *bound,
                by: 0.0,
            });
            f.lowest = f.lowest.min(*bound);
            f.highest = f.highest.max(*bound);
            f.by = f.by.max(previous - *count);
            *count = previous;
        } else {
            previous = *count;
        }
    }
    fixed
}

fn nearly_equal(a: f64, b: f64, relative: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < relative * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < relative
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_linearly_inside_a_bucket() {
        let buckets = [(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)];
        let cases = [
            (0.0, 0.0),
            (0.125, 0.5),
            (0.5, 1.5),
            (0.75, 2.0),
            (0.9, 2.0),
            (1.1, f64::INFINITY),
        ];
        for (q, want) in cases {
            assert_eq!(bucket_quantile(q, &mut buckets.to_vec()).0, want, "{q}");
        }
        assert!(bucket_quantile(0.5, &mut buckets[..2].to_vec()).0.is_nan());
    }

    #[test]
    fn counts_that_fall_are_lifted_and_said() {
        let mut buckets = vec![(1.0, 10.0), (2.0, 8.0), (f64::INFINITY, 20.0)];
        let (value, fixed) = bucket_quantile(0.5, &mut buckets);
        assert_eq!(value, 1.0);
        let want = Fixed {
            lowest: 2.0,
            highest: 2.0,
            by: 2.0,
        };
        assert_eq!(fixed, Some(want));
    }

    #[test]
    fn fractions() {
        let buckets = vec![(1.0, 10.0), (2.0, 30.0), (f64::INFINITY, 40.0)];
        let cases = [
            ((0.0, 1.0), 0.25),
            ((0.0, 1.5), 0.5),
            ((1.0, f64::INFINITY), 0.75),
            ((2.0, 1.0), 0.0),
        ];
        for ((lower, upper), want) in cases {
            assert_eq!(
                bucket_fraction(lower, upper, &mut buckets.clone()),
                want,
                "{lower} {upper}"
            );
        }
    }
}
