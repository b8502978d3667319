//! An hour of a small lab: gauges, counters with resets, histograms, a series that comes and goes.

use std::sync::Arc;

use model::{
    Buckets, CUSTOM_BUCKETS, Histogram, HistogramSample, LabelSet, ResetHint, SampleBatch, TimestampMs, stale_nan,
};

/// 2023-11-14T22:00:00Z, a multiple of the scrape interval.
pub const START: i64 = 1_699_999_200_000;
pub const SCRAPE: i64 = 15_000;

pub fn an_hour() -> SampleBatch {
    let mut batch = SampleBatch::default();
    floats(&mut batch);
    histograms(&mut batch);
    batch
}

fn floats(batch: &mut SampleBatch) {
    let mut put = |labels: &[(&str, &str)], value: &dyn Fn(i64) -> Option<f64>| {
        let series = batch.series_of(&LabelSet::from_pairs(labels.iter().copied()));
        for k in 0..240 {
            if let Some(v) = value(k) {
                batch.sample(series, TimestampMs(START + k * SCRAPE), v);
            }
        }
    };
    for (i, instance) in ["a:1", "b:2", "c:3"].into_iter().enumerate() {
        let i = i as i64;
        let job = if i < 2 { "api" } else { "db" };
        let on = |name: &'static str| vec![("__name__", name), ("instance", instance), ("job", job)];
        put(&on("up"), &|_| Some(1.0));
        put(&on("cpus"), &|_| Some((2 + i) as f64));
        for kind in ["free", "used"] {
            let mut labels = on("memory_bytes");
            labels.push(("type", kind));
            put(&labels, &|k| Some(1e9 + ((k * 7919 + i * 31) % 997) as f64 * 1e5));
        }
        let mut labels = on("requests_total");
        labels.push(("code", "200"));
        // Restarts every 100 scrapes.
        put(&labels, &|k| Some(((k % 100) * (i + 1) * 3) as f64));
        for (le, share) in [("0.1", 5.0), ("0.5", 8.0), ("1.0", 9.0), ("+Inf", 10.0)] {
            let mut labels = on("latency_seconds_bucket");
            labels.push(("le", le));
            put(&labels, &|k| Some(k as f64 * share));
        }
    }
    put(&[("__name__", "flapping"), ("instance", "a:1")], &|k| match k % 40 {
        0..=19 => Some(k as f64),
        20 => Some(stale_nan()),
        _ => None,
    });
    for i in 0..600 {
        let i = i.to_string();
        put(&[("__name__", "wide_total"), ("i", &i)], &|k| {
            (k % 10 == 0).then_some(k as f64)
        });
    }
    for instance in ["a:1", "b:2"] {
        put(&[("__name__", "turned"), ("instance", instance)], &|k| {
            (k < 100).then_some(k as f64)
        });
    }
    put(&[("__name__", "odd"), ("kind", "nan")], &|_| Some(f64::NAN));
    put(&[("__name__", "odd"), ("kind", "inf")], &|k| {
        Some(if k % 2 == 0 { f64::INFINITY } else { -1.0 })
    });
}

/// Native histograms: counters whose schema, zero bucket or bounds change on the way, gauges, and a series that was
/// floats first.
fn histograms(batch: &mut SampleBatch) {
    let mut put = |name: &str, instance: &str, value: &dyn Fn(i64) -> Option<Histogram>| {
        let series = batch.series_of(&LabelSet::from_pairs([("__name__", name), ("instance", instance)]));
        for k in 0..240 {
            if let Some(h) = value(k) {
                let sample = HistogramSample {
                    t: TimestampMs(START + k * SCRAPE),
                    start: TimestampMs(0),
                    histogram: Arc::new(h),
                };
                batch.histogram(series, sample);
            }
        }
    };
    let exponential = |k: i64, schema: i32, zero_threshold: f64| {
        let counts: Vec<(i32, f64)> = (-2..6)
            .map(|i: i32| (i, (k * i64::from(i.abs() + 1) / 3) as f64))
            .collect();
        let negative = [(2, k as f64)];
        let count = counts.iter().map(|c| c.1).sum::<f64>() + 2.0 * k as f64;
        Histogram {
            reset: ResetHint::Unknown,
            schema,
            zero_threshold,
            zero_count: k as f64,
            count,
            sum: 0.7 * count,
            positive: Buckets::from_indexed(counts),
            negative: Buckets::from_indexed(negative),
            bounds: [].into(),
        }
    };
    for (i, instance) in ["a:1", "b:2"].into_iter().enumerate() {
        let i = i as i64;
        put("durations", instance, &|k| {
            let (schema, zero) = match k {
                0..=80 => (1, 0.001),
                81..=150 => (0, 0.001),
                _ => (0, 0.4),
            };
            (k % 50 != 7).then(|| exponential((k % 100) * (i + 1), schema, zero))
        });
        put("sizes", instance, &|k| {
            let bounds: &[f64] = if k < 120 + 20 * i {
                &[1.0, 2.0, 5.0]
            } else {
                &[1.0, 5.0, 9.0]
            };
            let counts: Vec<(i32, f64)> = (0..4).map(|b| (b, (k % 90 * i64::from(b + 1)) as f64)).collect();
            let count = counts.iter().map(|c| c.1).sum();
            Some(Histogram {
                schema: CUSTOM_BUCKETS,
                bounds: bounds.into(),
                count,
                sum: 3.0 * count,
                positive: Buckets::from_indexed(counts),
                ..Histogram::stale()
            })
        });
        put("queue", instance, &|k| {
            Some(Histogram {
                reset: ResetHint::Gauge,
                ..exponential((k * 7919 + i) % 31, 2, 0.0)
            })
        });
        put("turned", instance, &|k| (k >= 100).then(|| exponential(k, 0, 0.0)));
    }
}
