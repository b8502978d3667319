//! A histogram times or over a number.

use model::{Buckets, Histogram, ResetHint};

/// All counts and the sum times `factor`, compact. A negative factor makes a gauge of it.
pub fn multiplied(h: &Histogram, factor: f64) -> Histogram {
    scaled(h, factor < 0.0, |v| v * factor)
}

/// All counts and the sum over `divisor`, compact. A negative divisor makes a gauge of it; zero leaves no buckets.
pub fn divided(h: &Histogram, divisor: f64) -> Histogram {
    let mut out = scaled(h, divisor < 0.0, |v| v / divisor);
    if divisor == 0.0 {
        (out.positive, out.negative) = (Buckets::default(), Buckets::default());
    }
    out
}

fn scaled(h: &Histogram, to_gauge: bool, f: impl Fn(f64) -> f64) -> Histogram {
    let side = |b: &Buckets| Buckets {
        spans: b.spans.clone(),
        counts: b.counts.iter().map(|c| f(*c)).collect(),
    };
    let mut out = Histogram {
        reset: if to_gauge { ResetHint::Gauge } else { h.reset },
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: if h.has_custom_buckets() { 0.0 } else { f(h.zero_count) },
        count: f(h.count),
        sum: f(h.sum),
        positive: side(&h.positive),
        negative: side(&h.negative),
        bounds: h.bounds.clone(),
    };
    out.compact();
    out
}
