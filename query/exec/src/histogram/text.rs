//! The text form: `{count:4, sum:5, [-2,-1):1, [-0.001,0.001]:1, (0.5,1]:2}`.

use std::fmt::Write as _;

use model::{Bucket, Histogram};

use crate::go_number;

/// A histogram as `count_values` and messages write it: buckets rising, empty ones left out.
pub fn text_of(h: &Histogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", go_number(h.count), go_number(h.sum));
    let mut put = |opens: char, b: &Bucket, closes: char| {
        if b.count != 0.0 {
            let (lower, upper, count) = (go_number(b.lower), go_number(b.upper), go_number(b.count));
            let _ = write!(out, ", {opens}{lower},{upper}{closes}:{count}");
        }
    };
    let mut negative: Vec<Bucket> = h.negative_buckets().collect();
    negative.reverse();
    negative.iter().for_each(|b| put('[', b, ')'));
    put('[', &h.zero_bucket(), ']');
    for b in h.positive_buckets() {
        put(if b.lower.is_infinite() { '[' } else { '(' }, &b, ']');
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Buckets, CUSTOM_BUCKETS};

    #[test]
    fn buckets_stand_in_order() {
        let h = Histogram {
            count: 4.0,
            sum: 5.0,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: Buckets::from_indexed([(0, 2.0), (3, 0.0)]),
            negative: Buckets::from_indexed([(1, 1.0)]),
            ..Histogram::stale()
        };
        assert_eq!(text_of(&h), "{count:4, sum:5, [-2,-1):1, [-0.001,0.001]:1, (0.5,1]:2}");
        let h = Histogram {
            schema: CUSTOM_BUCKETS,
            count: 3.0,
            sum: 1e7,
            positive: Buckets::from_indexed([(0, 1.0), (1, 2.0)]),
            bounds: [5.0].into(),
            ..Histogram::stale()
        };
        assert_eq!(text_of(&h), "{count:3, sum:1e+07, [-Inf,5]:1, (5,+Inf]:2}");
    }
}
