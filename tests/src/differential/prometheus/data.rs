//! The data: about two hundred series over a hundred minutes that have everything a query language can stumble over.
//!
//! Counters with resets, gaps and jitter; gauges with NaN, infinities, subnormal and huge values; series that come and go
//! with and without stale markers, sparser than the lookback, and at odd intervals; classic histograms, sound and broken;
//! native histograms of all kinds (integer, float, gauge, negative buckets, custom bounds, changing schemas, thresholds and
//! bounds, NaN observations), series that mix both types; info series; UTF-8 names.
//!
//! Only additions, multiplications and divisions of small numbers: the same bits on every machine.

use std::collections::BTreeMap;

use super::{LENGTH_MS, T0_MS};
use crate::differential::random::Random;

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Sorted by name, `__name__` included.
    pub labels: Vec<(String, String)>,
    /// Rising by time (ms).
    pub samples: Vec<(i64, Sample)>,
}

/// What a series holds at a time.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A number.
    Float(f64),
    /// The marker that the series ended, as a number.
    Stale,
    /// A native histogram.
    Native(Native),
}

/// A native histogram: counts by bucket index.
#[derive(Clone, Debug, Default)]
pub struct Native {
    /// -4 to 8, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in it.
    pub zero_count: f64,
    /// Sum of all observations. The stale marker's NaN makes the sample a stale one.
    pub sum: f64,
    /// Observations that are NaN: in the count and in no bucket.
    pub nan_count: f64,
    /// Counts by index.
    pub positive: BTreeMap<i32, f64>,
    /// Counts by index.
    pub negative: BTreeMap<i32, f64>,
    /// Upper bounds, rising, without `+Inf`.
    pub bounds: Vec<f64>,
    /// Hinted as a gauge.
    pub gauge: bool,
    /// Sent with float counts.
    pub float: bool,
}

impl Native {
    /// All observations.
    pub fn count(&self) -> f64 {
        self.zero_count + self.nan_count + self.positive.values().sum::<f64>() + self.negative.values().sum::<f64>()
    }
}

/// The NaN that marks the end of a series.
pub(crate) const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// All series for a seed.
pub fn dataset(seed: u64) -> Vec<Series> {
    let mut maker = Maker {
        random: Random::new(seed),
        out: Vec::new(),
    };
    maker.counters();
    maker.gauges();
    maker.comings_and_goings();
    maker.classic_histograms();
    maker.native_histograms();
    maker.custom_buckets();
    maker.mixed_types();
    maker.info_series();
    maker.odd_names();
    maker.demo();
    // Prometheus looks at series in the order in which they came; so they come in the order of their labels.
    maker.out.sort_by(|a, b| a.labels.cmp(&b.labels));
    maker.out
}

const JOBS: [&str; 2] = ["api", "web"];
const INSTANCES: [&str; 3] = ["a:9100", "b:9100", "c:9100"];

struct Maker {
    random: Random,
    out: Vec<Series>,
}

/// When samples are taken.
#[derive(Clone, Copy)]
struct Pace {
    every_ms: i64,
    offset_ms: i64,
    jitter_ms: u64,
}

const fn every(every_ms: i64) -> Pace {
    Pace {
        every_ms,
        offset_ms: 0,
        jitter_ms: 0,
    }
}

impl Maker {
    /// A series whose sample `k` is `value(k, random)`; `None` is a gap.
    fn add(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        pace: Pace,
        mut value: impl FnMut(i64, &mut Random) -> Option<Sample>,
    ) {
        let mut all: Vec<(String, String)> = labels.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        all.push(("__name__".into(), name.into()));
        all.sort();
        let mut random = self.random.fork(&format!("{all:?}"));
        let mut samples = Vec::new();
        for k in 0..LENGTH_MS / pace.every_ms {
            let jitter = random.below(pace.jitter_ms + 1) as i64;
            if let Some(sample) = value(k, &mut random) {
                samples.push((T0_MS + pace.offset_ms + k * pace.every_ms + jitter, sample));
            }
        }
        self.out.push(Series { labels: all, samples });
    }

    fn floats(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        pace: Pace,
        mut value: impl FnMut(i64, &mut Random) -> Option<f64>,
    ) {
        self.add(name, labels, pace, |k, random| value(k, random).map(Sample::Float));
    }

    fn counters(&mut self) {
        let mut place = 0;
        for job in JOBS {
            for instance in INSTANCES {
                for (code, scale) in [("200", 40), ("404", 5), ("500", 2)] {
                    place += 1;
                    let pace = Pace {
                        every_ms: 15_000,
                        offset_ms: place * 137,
                        jitter_ms: if job == "web" { 400 } else { 0 },
                    };
                    let mut total = place as f64 * 100.0;
                    let labels = [("job", job), ("instance", instance), ("code", code)];
                    self.floats("requests_total", &labels, pace, |k, random| {
                        total += random.below(scale) as f64 / if place % 2 == 0 { 1.0 } else { 3.0 };
                        // A restart: the counter begins again.
                        if random.one_in(90) {
                            total = random.below(3) as f64;
                        }
                        // A gap of five minutes in some, single losses in all.
                        let gap = place % 4 == 0 && (100..121).contains(&k);
                        (!gap && !random.one_in(40)).then_some(total)
                    });
                }
                let mut total = 0.0;
                self.floats(
                    "errors_total",
                    &[("job", job), ("instance", instance)],
                    every(30_000),
                    |_, random| {
                        total += random.below(3) as f64;
                        Some(total)
                    },
                );
            }
        }
        let mut value = -500.0;
        self.floats("backwards", &[("job", "api")], every(20_000), |_, random| {
            value += random.fraction(20) - 4.0;
            Some(value)
        });
    }

    fn gauges(&mut self) {
        for (i, instance) in INSTANCES.into_iter().enumerate() {
            for sensor in ["core", "disk", "inlet"] {
                let pace = Pace {
                    every_ms: 30_000,
                    offset_ms: 1_000 * i as i64,
                    jitter_ms: 20,
                };
                let labels = [("instance", instance), ("sensor", sensor), ("job", "api")];
                let mut level = 20.0 + i as f64;
                self.floats("temperature", &labels, pace, |_, random| {
                    level += random.fraction(8) - 4.0;
                    Some(level / 3.0)
                });
            }
            for job in JOBS {
                self.floats(
                    "queue_depth",
                    &[("job", job), ("instance", instance)],
                    every(15_000),
                    |k, random| {
                        let v = random.below(50) as f64 - 10.0;
                        Some(if k % 97 == 41 { f64::NAN } else { v + i as f64 / 7.0 })
                    },
                );
                self.floats(
                    "limits",
                    &[("job", job), ("instance", instance), ("owner", ["ann", "bob", ""][i])],
                    every(60_000),
                    |_, _| Some(25.0 * (i + 1) as f64),
                );
            }
        }
        self.floats("constant", &[("job", "api")], every(15_000), |_, _| Some(42.5));
        self.floats("zero", &[("job", "api")], every(15_000), |k, _| {
            Some(if k % 2 == 0 { 0.0 } else { -0.0 })
        });
        let extremes = [
            1e300,
            -1e300,
            f64::MAX,
            2.5e-308,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            0.1,
            -0.0,
            1e-300,
            123_456_789_012_345_680.0,
            1.5e21,
        ];
        for (kind, upto) in [("finite", 4), ("all", extremes.len())] {
            self.floats("extremes", &[("kind", kind)], every(60_000), |k, random| {
                Some(extremes[(k as usize * 5 + random.below(2) as usize) % upto])
            });
        }
        // Logarithms of these are wrong in Prometheus on x86-64, so they have a name of their own.
        self.floats("tiny", &[("job", "api")], every(60_000), |k, _| {
            Some([5e-324, -1e-310, 2.2e-308][k as usize % 3] * (k + 1) as f64)
        });
        self.floats("huge", &[("n", "1")], every(60_000), |k, _| {
            Some(8e307 + k as f64 * 1e305)
        });
        self.floats("huge", &[("n", "2")], every(60_000), |_, _| Some(1.7e308));
        self.floats("huge", &[("n", "3")], every(60_000), |k, _| {
            Some(-1e308 - k as f64 * 1e305)
        });
        self.floats("moments", &[("job", "api")], every(60_000), |k, random| {
            Some((k - 40) as f64 * 86_400.0 * 37.0 + 1.7e9 + random.fraction(1000))
        });
        self.floats("angles", &[("job", "api")], every(60_000), |k, _| {
            Some((k as f64 - 50.0) / 16.0)
        });
    }

    fn comings_and_goings(&mut self) {
        for (i, (name, up, down)) in [("a", 20, 13), ("b", 7, 40), ("c", 31, 3)].into_iter().enumerate() {
            // A marker ends each life of these,
            let labels = [("name", name), ("ends", "marked"), ("job", JOBS[i % 2])];
            self.add("flaky", &labels, every(15_000), |k, random| match k % (up + down) {
                at if at < up => Some(Sample::Float(random.below(1000) as f64 / 8.0)),
                at if at == up => Some(Sample::Stale),
                _ => None,
            });
            // and nothing the life of these.
            let labels = [("name", name), ("ends", "silently"), ("job", JOBS[i % 2])];
            self.floats("flaky", &labels, every(15_000), |k, random| {
                (k % (up + down) < up).then(|| random.below(1000) as f64 / 8.0)
            });
        }
        for (name, every_ms) in [("4m", 240_000), ("5m", 300_000), ("6m", 360_000), ("11m", 660_000)] {
            self.floats("sparse", &[("every", name)], every(every_ms), |k, random| {
                Some(k as f64 * 10.0 + random.fraction(4))
            });
        }
        for (name, every_ms) in [("7.3s", 7_300), ("13s", 13_000), ("59.999s", 59_999)] {
            let mut total = 0.0;
            self.floats(
                "odd_interval_total",
                &[("every", name)],
                every(every_ms),
                |k, random| {
                    total += random.fraction(5);
                    if k % 61 == 60 {
                        total = 0.0;
                    }
                    Some(total)
                },
            );
        }
        self.floats("once", &[("job", "web")], every(3_000_000), |k, _| {
            (k == 1).then_some(7.0)
        });
        self.floats("late", &[("job", "web")], every(30_000), |k, _| {
            (k > 120).then_some(k as f64)
        });
        self.floats("early", &[("job", "web")], every(30_000), |k, _| {
            (k < 80).then_some(k as f64)
        });
        // The same labels under two names that take turns, for results that merge.
        self.floats("turn_one", &[("job", "api")], every(30_000), |k, _| {
            (k / 20 % 2 == 0).then_some(k as f64)
        });
        self.floats("turn_two", &[("job", "api")], every(30_000), |k, _| {
            (k / 20 % 2 == 1).then_some(k as f64)
        });
    }

    fn classic_histograms(&mut self) {
        let bounds = ["0.1", "0.5", "1.0", "2.5", "10.0", "+Inf"];
        for job in JOBS {
            for instance in INSTANCES {
                let mut rows = Vec::new();
                let mut random = self.random.fork(&format!("latency {job} {instance}"));
                let mut counts = [0.0; 6];
                let mut sum = 0.0;
                for k in 0..LENGTH_MS / 15_000 {
                    for (i, count) in counts.iter_mut().enumerate() {
                        let more = random.below([20, 30, 9, 4, 2, 1][i] + 1) as f64;
                        *count += more;
                        sum += more * [0.07, 0.3, 0.8, 1.5, 4.0, 20.0][i];
                    }
                    if k % 150 == 149 {
                        counts = [0.0; 6];
                        sum = 0.0;
                    }
                    rows.push((counts, sum));
                }
                let base = [("job", job), ("instance", instance)];
                for (i, le) in bounds.into_iter().enumerate() {
                    let labels = [base[0], base[1], ("le", le)];
                    let upto = |k: i64| rows[k as usize].0[..=i].iter().sum::<f64>();
                    self.floats("latency_seconds_bucket", &labels, every(15_000), |k, _| Some(upto(k)));
                }
                let all = |k: i64| rows[k as usize].0.iter().sum::<f64>();
                self.floats("latency_seconds_count", &base, every(15_000), |k, _| Some(all(k)));
                self.floats("latency_seconds_sum", &base, every(15_000), |k, _| {
                    Some(rows[k as usize].1)
                });
            }
        }
        // Not monotonic, without +Inf, with a bound that is none, with equal bounds, with negative bounds, with one bucket.
        let broken: [(&str, &[(&str, f64)]); 6] = [
            (
                "falls",
                &[("1", 10.0), ("2", 9.0), ("4", 9.0 + 1e-13), ("8", 30.0), ("+Inf", 29.0)],
            ),
            ("open", &[("1", 10.0), ("2", 20.0)]),
            ("unparsable", &[("one", 10.0), ("2", 20.0), ("+Inf", 30.0)]),
            ("equal", &[("1", 10.0), ("1.0", 5.0), ("3", 20.0), ("+Inf", 21.0)]),
            (
                "negative",
                &[("-5", 3.0), ("-1", 10.0), ("0", 12.0), ("2", 20.0), ("+Inf", 25.0)],
            ),
            ("single", &[("+Inf", 25.0)]),
        ];
        for (kind, buckets) in broken {
            for (le, count) in buckets {
                self.floats("broken_bucket", &[("kind", kind), ("le", le)], every(60_000), |k, _| {
                    Some(count * (k + 1) as f64)
                });
            }
        }
        self.floats("broken_bucket", &[("kind", "unbounded")], every(60_000), |k, _| {
            Some(k as f64)
        });
        for (q, v) in [("0.5", 1.0), ("0.99", 9.0)] {
            self.floats(
                "rpc_seconds",
                &[("quantile", q), ("job", "web")],
                every(30_000),
                |k, random| Some(v + random.fraction(2) + k as f64 / 64.0),
            );
        }
    }

    fn native_histograms(&mut self) {
        for job in JOBS {
            for (i, instance) in INSTANCES.into_iter().enumerate() {
                // Latencies as a counter that restarts; every instance has another schema.
                let schema = [3, 2, 0][i];
                let mut h = Native {
                    schema,
                    zero_threshold: 0.001,
                    ..Native::default()
                };
                let base = [("job", job), ("instance", instance)];
                self.add("duration_seconds", &base, every(15_000), |k, random| {
                    if k % 130 == 129 {
                        h = Native {
                            schema,
                            zero_threshold: 0.001,
                            ..Native::default()
                        };
                    }
                    observe(&mut h.positive, random, 6, (-9, 8));
                    h.zero_count += random.below(3) as f64;
                    h.sum += random.fraction(9);
                    (!random.one_in(50)).then(|| Sample::Native(h.clone()))
                });
            }
        }
        // Both signs, with gauges' ups and downs.
        for n in ["1", "2"] {
            self.add("balance", &[("n", n)], every(30_000), |_, random| {
                let mut h = Native {
                    schema: 1,
                    zero_threshold: 0.5,
                    gauge: true,
                    ..Native::default()
                };
                observe(&mut h.positive, random, 5, (0, 6));
                observe(&mut h.negative, random, 5, (0, 6));
                h.zero_count = random.below(4) as f64;
                h.sum = random.fraction(100) - 50.0;
                Some(Sample::Native(h))
            });
        }
        // Float counts; the second one is a gauge.
        for gauge in [false, true] {
            let mut h = Native {
                schema: 4,
                zero_threshold: 1e-128,
                float: true,
                gauge,
                ..Native::default()
            };
            let kind = if gauge { "gauge" } else { "counter" };
            self.add("weighted", &[("kind", kind)], every(30_000), |k, random| {
                let i = random.below(20) as i32 - 10;
                *h.positive.entry(i).or_default() += random.fraction(4) / 3.0;
                h.zero_count += random.fraction(1);
                h.sum += random.fraction(7);
                if k % 80 == 79 {
                    (h.positive, h.zero_count, h.sum) = (BTreeMap::new(), 0.0, 0.0);
                }
                Some(Sample::Native(h.clone()))
            });
        }
        // Schema and zero threshold change while it counts; a bucket vanishes; nothing at all for a while.
        let mut h = Native {
            zero_threshold: 0.01,
            ..Native::default()
        };
        self.add("changing", &[("job", "api")], every(20_000), |k, random| {
            match k % 100 {
                0 => {
                    h = Native {
                        schema: 5,
                        zero_threshold: 0.01,
                        ..Native::default()
                    }
                }
                25 => {
                    h = Native {
                        schema: 2,
                        zero_threshold: 0.01,
                        ..Native::default()
                    }
                }
                50 => h.zero_threshold = 0.75,
                75 => {
                    h.positive.pop_last();
                }
                _ => {}
            }
            let from = if h.zero_threshold > 0.5 { 2 } else { -6 };
            if k % 100 > 25 {
                h.positive.retain(|i, _| *i >= from);
            }
            observe(&mut h.positive, random, 3, (from, 12));
            if k % 100 >= 25 {
                observe(&mut h.negative, random, 2, (4, 9));
            }
            h.zero_count += 1.0;
            h.sum += random.fraction(5);
            Some(Sample::Native(h.clone()))
        });
        // Observations that are NaN, and empty histograms.
        for kind in ["nan", "empty"] {
            let mut h = Native {
                zero_threshold: 0.001,
                ..Native::default()
            };
            self.add("degenerate", &[("kind", kind)], every(30_000), |k, random| {
                if kind == "nan" {
                    observe(&mut h.positive, random, 4, (-2, 5));
                    h.nan_count += random.below(3) as f64;
                    h.sum = if h.nan_count > 0.0 { f64::NAN } else { k as f64 };
                }
                Some(Sample::Native(h.clone()))
            });
        }
        // Comes and goes, with each kind of stale marker.
        for marker in ["float", "histogram"] {
            let mut h = Native {
                schema: 1,
                zero_threshold: 0.001,
                ..Native::default()
            };
            self.add(
                "flaky_seconds",
                &[("marker", marker)],
                every(15_000),
                |k, random| match k % 47 {
                    at if at < 30 => {
                        observe(&mut h.positive, random, 4, (-3, 4));
                        h.sum += random.fraction(6);
                        Some(Sample::Native(h.clone()))
                    }
                    30 if marker == "float" => Some(Sample::Stale),
                    30 => Some(Sample::Native(Native {
                        sum: f64::from_bits(STALE_BITS),
                        ..Native::default()
                    })),
                    _ => None,
                },
            );
        }
    }

    fn custom_buckets(&mut self) {
        let bounds: [&[f64]; 3] = [&[0.1, 0.5, 1.0, 5.0], &[0.1, 1.0, 2.5, 5.0], &[-2.0, -0.5, 0.0, 3.0]];
        for (i, bounds) in bounds.into_iter().enumerate() {
            for job in JOBS {
                let empty = Native {
                    schema: -53,
                    bounds: bounds.to_vec(),
                    ..Native::default()
                };
                let mut h = empty.clone();
                let labels = [("job", job), ("bounds", ["one", "two", "signed"][i])];
                self.add("size_bytes", &labels, every(30_000), |k, random| {
                    if k % 90 == 89 {
                        h = empty.clone();
                    }
                    observe(&mut h.positive, random, 5, (0, 4));
                    h.sum += random.fraction(3);
                    Some(Sample::Native(h.clone()))
                });
            }
        }
        // Bounds that change under way.
        let mut h = Native {
            schema: -53,
            bounds: vec![1.0, 2.0, 4.0],
            ..Native::default()
        };
        self.add("regrouped", &[("job", "web")], every(30_000), |k, random| {
            if k == 70 {
                let count = |i| h.positive.get(&i).copied().unwrap_or_default();
                let merged = BTreeMap::from([(0, count(0) + count(1)), (1, count(2)), (2, count(3))]);
                h.bounds = vec![2.0, 4.0];
                h.positive = merged;
            }
            observe(&mut h.positive, random, 4, (0, if k < 70 { 3 } else { 2 }));
            h.sum += random.fraction(3);
            Some(Sample::Native(h.clone()))
        });
    }

    fn mixed_types(&mut self) {
        // Numbers, then histograms, then both in turn.
        let mut h = Native {
            schema: 1,
            zero_threshold: 0.001,
            ..Native::default()
        };
        let mut total = 0.0;
        self.add("turncoat", &[("job", "api")], every(30_000), |k, random| {
            observe(&mut h.positive, random, 3, (-2, 5));
            h.sum += random.fraction(4);
            total += random.fraction(4);
            let native = match k {
                0..60 => false,
                60..120 => true,
                _ => k % 4 < 2,
            };
            Some(if native {
                Sample::Native(h.clone())
            } else {
                Sample::Float(total)
            })
        });
        // One name, several types.
        for (i, kind) in ["number", "exponential", "custom", "gauge"].into_iter().enumerate() {
            let mut h = match kind {
                "custom" => Native {
                    schema: -53,
                    bounds: vec![0.5, 2.0, 8.0],
                    ..Native::default()
                },
                _ => Native {
                    schema: 1,
                    zero_threshold: 0.001,
                    gauge: kind == "gauge",
                    ..Native::default()
                },
            };
            let labels = [("kind", kind), ("job", JOBS[i % 2])];
            self.add("motley", &labels, every(30_000), |k, random| {
                observe(&mut h.positive, random, 3, (0, 3));
                h.sum += random.fraction(4);
                Some(if kind == "number" {
                    Sample::Float(k as f64)
                } else {
                    Sample::Native(h.clone())
                })
            });
        }
        // Classic and native at once.
        let mut h = Native {
            schema: 2,
            zero_threshold: 0.001,
            ..Native::default()
        };
        self.add("both", &[("job", "web")], every(30_000), |_, random| {
            observe(&mut h.positive, random, 3, (-4, 5));
            h.sum += random.fraction(4);
            Some(Sample::Native(h.clone()))
        });
        for (le, share) in [("0.5", 1.0), ("1.0", 3.0), ("+Inf", 4.0)] {
            self.floats("both_bucket", &[("job", "web"), ("le", le)], every(30_000), |k, _| {
                Some(k as f64 * share)
            });
            self.floats("both", &[("job", "web"), ("le", le)], every(30_000), |k, _| {
                Some(k as f64 * share)
            });
        }
    }

    fn info_series(&mut self) {
        for (i, instance) in INSTANCES.into_iter().enumerate() {
            for job in JOBS {
                let base = [("job", job), ("instance", instance)];
                // The version changes half way.
                for (version, old) in [("1.0", true), ("2.0", false)] {
                    let labels = [
                        base[0],
                        base[1],
                        ("version", version),
                        ("region", ["eu", "us", "ap"][i]),
                    ];
                    self.add("target_info", &labels, every(60_000), |k, _| match (k < 50, k == 50) {
                        (now, _) if now == old => Some(Sample::Float(1.0)),
                        (_, true) => Some(Sample::Stale),
                        _ => None,
                    });
                }
                if job == "api" {
                    let labels = [
                        base[0],
                        base[1],
                        ("revision", ["x1", "x2", "x10"][i]),
                        ("branch", "main"),
                    ];
                    self.floats("build_info", &labels, every(60_000), |_, _| Some(1.0));
                }
            }
        }
        for (i, release) in ["v2", "v10", "v1", "v1.10", "v1.9", "a10b2", "a2b10"]
            .into_iter()
            .enumerate()
        {
            self.floats(
                "release",
                &[("release", release), ("odd", ["no", "yes"][i % 2])],
                every(30_000),
                |k, _| Some((i as i64 * 31 + k % 7) as f64),
            );
        }
    }

    fn odd_names(&mut self) {
        self.floats(
            "http.server.duration",
            &[("http.route", "/a/{id}"), ("job", "api")],
            every(30_000),
            |k, _| Some(k as f64 / 3.0),
        );
        self.floats(
            "größe_total",
            &[("straße", "Ä \"quoted\" \\ back"), ("job", "web")],
            every(30_000),
            |k, _| Some(k as f64),
        );
        self.floats(
            "ns:recorded:rate5m",
            &[("job", "api"), ("text", "a\nb\tc")],
            every(30_000),
            |k, _| Some(k as f64),
        );
    }

    /// What the compliance list asks for.
    fn demo(&mut self) {
        for (i, port) in ["10000", "10001", "10002"].into_iter().enumerate() {
            let instance = format!("demo.promlabs.com:{port}");
            let base = [("instance", instance.as_str()), ("job", "demo")];
            self.floats("demo_num_cpus", &base, every(15_000), |_, _| Some(4.0));
            for kind in ["free", "used", "cached", "buffers"] {
                let labels = [base[0], base[1], ("type", kind)];
                self.floats("demo_memory_usage_bytes", &labels, every(15_000), |_, random| {
                    Some(random.below(1 << 32) as f64 + i as f64)
                });
            }
            self.floats("demo_intermittent_metric", &base, every(15_000), |k, _| {
                (k % 37 < 11).then_some(k as f64)
            });
        }
    }
}

/// Up to `most` observations, each in a bucket of `range` (both ends included).
fn observe(buckets: &mut BTreeMap<i32, f64>, random: &mut Random, most: u64, range: (i32, i32)) {
    for _ in 0..=random.below(most) {
        let i = range.0 + random.below((range.1 - range.0 + 1) as u64) as i32;
        *buckets.entry(i).or_default() += 1.0;
    }
}
