//! The queries: first every function, operator and modifier over every kind of series, then compositions at random.

use super::{LENGTH_MS, T0_MS};
use crate::differential::random::Random;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// PromQL.
    pub query: String,
    /// The time of an instant query, or the first step (ms).
    pub start_ms: i64,
    /// The last step; equals `start_ms` for an instant query.
    pub end_ms: i64,
    /// 0 for an instant query.
    pub step_ms: i64,
}

/// All cases for a seed.
pub fn cases(seed: u64) -> Vec<Case> {
    let mut maker = Maker {
        random: Random::new(seed).fork("queries"),
        out: Vec::new(),
    };
    maker.selectors();
    maker.range_functions();
    maker.instant_functions();
    maker.aggregations();
    maker.operators();
    maker.histogram_functions();
    maker.labels_and_order();
    maker.extended_selectors();
    maker.time_and_duration_expressions();
    maker.info();
    maker.compositions(4000);
    maker.out
}

/// A metric: its name, its labels and what it holds.
struct Family {
    name: &'static str,
    labels: &'static [&'static str],
    holds: Holds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Counters,
    Gauges,
    Buckets,
    Natives,
    Both,
}

use Holds::{Both, Buckets, Counters, Gauges, Natives};

const fn family(name: &'static str, holds: Holds, labels: &'static [&'static str]) -> Family {
    Family { name, labels, holds }
}

const FAMILIES: &[Family] = &[
    family("requests_total", Counters, &["job", "instance", "code"]),
    family("errors_total", Counters, &["job", "instance"]),
    family("backwards", Counters, &["job"]),
    family("odd_interval_total", Counters, &["every"]),
    family("latency_seconds_count", Counters, &["job", "instance"]),
    family("latency_seconds_sum", Counters, &["job", "instance"]),
    family("temperature", Gauges, &["instance", "sensor", "job"]),
    family("queue_depth", Gauges, &["job", "instance"]),
    family("limits", Gauges, &["job", "instance", "owner"]),
    family("constant", Gauges, &["job"]),
    family("zero", Gauges, &["job"]),
    family("extremes", Gauges, &["kind"]),
    family("huge", Gauges, &["n"]),
    family("tiny", Gauges, &["job"]),
    family("moments", Gauges, &["job"]),
    family("angles", Gauges, &["job"]),
    family("flaky", Gauges, &["name", "ends", "job"]),
    family("sparse", Gauges, &["every"]),
    family("late", Gauges, &["job"]),
    family("early", Gauges, &["job"]),
    family("once", Gauges, &["job"]),
    family("release", Gauges, &["release", "odd"]),
    family("rpc_seconds", Gauges, &["quantile", "job"]),
    family("ns:recorded:rate5m", Gauges, &["job", "text"]),
    family("latency_seconds_bucket", Buckets, &["job", "instance", "le"]),
    family("broken_bucket", Buckets, &["kind", "le"]),
    family("duration_seconds", Natives, &["job", "instance"]),
    family("balance", Natives, &["n"]),
    family("weighted", Natives, &["kind"]),
    family("changing", Natives, &["job"]),
    family("degenerate", Natives, &["kind"]),
    family("flaky_seconds", Natives, &["marker"]),
    family("size_bytes", Natives, &["job", "bounds"]),
    family("regrouped", Natives, &["job"]),
    family("turncoat", Both, &["job"]),
    family("motley", Both, &["kind", "job"]),
    family("both", Both, &["job", "le"]),
];

const VALUES: &[(&str, &[&str])] = &[
    ("job", &["api", "web", "a.*", ".+", "", "api|web", "(?i)API"]),
    (
        "instance",
        &["a:9100", "b:9100", "c:9100", "[ab]:.*", ".*:9100", "", "a|b"],
    ),
    ("code", &["200", "404", "500", "[45]..", "200|404", ".{3}"]),
    ("sensor", &["core", "disk", "inlet", "core|inlet", "(in|out)let"]),
    ("owner", &["ann", "bob", "", ".+"]),
    ("every", &["7.3s", "13s", "4m", "6m", ".*s", "5m|6m"]),
    (
        "kind",
        &[
            "finite", "all", "counter", "gauge", "number", "custom", "falls", "negative", "nan", ".*a.*",
        ],
    ),
    ("name", &["a", "b", "c", "a|b"]),
    ("ends", &["marked", "silently"]),
    ("release", &["v2", "v10", "v1.*", ".*1.*"]),
    ("odd", &["yes", "no"]),
    ("le", &["0.5", "1.0", "+Inf", "", "10.*"]),
    ("quantile", &["0.5", "0.99"]),
    ("n", &["1", "2", "1|2"]),
    ("marker", &["float", "histogram"]),
    ("bounds", &["one", "two", "signed", "one|two"]),
    ("text", &["a\\nb\\tc", ".*"]),
];

const RANGES: &[&str] = &[
    "1s", "15s", "45s500ms", "1m", "90s", "2m", "3m", "5m", "5m", "7m30s", "10m", "10m", "13m20s", "20m", "30m", "1h",
    "300",
];
const OFFSETS: &[&str] = &["15s", "1m", "5m", "-1m", "-7m30s", "30m", "1h", "0s", "1m30s250ms"];
const STEPS: &[i64] = &[
    1_000, 7_300, 13_000, 15_000, 30_000, 60_000, 61_500, 150_000, 300_000, 1_020_000,
];
const PARAMETERS: &[&str] = &["0.5", "0.9", "0.99", "0", "1", "0.123456", "-1", "1.5", "NaN", "0.25"];
const LITERALS: &[&str] = &[
    "0", "1", "-1", "2", "0.5", "3.7", "10", "100", "-42.5", "1e3", "1e-9", "NaN", "Inf", "-Inf", "0x1F", "1_000",
    "5m", "1.5h", "7",
];
const ARITHMETIC: &[&str] = &["+", "-", "*", "/", "^", "atan2", "%"];
/// Without those that make large differences of small ones.
const SMOOTH: &[&str] = &["+", "-", "*", "/", "^", "atan2"];
const COMPARISONS: &[&str] = &["==", "!=", "<", ">", "<=", ">="];
const SETS: &[&str] = &["and", "or", "unless"];
const AGGREGATES: &[&str] = &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];

const OVER_TIME: &[&str] = &[
    "avg_over_time",
    "sum_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "changes",
    "resets",
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
];
const ELEMENTWISE: &[&str] = &[
    "abs", "ceil", "floor", "sqrt", "exp", "ln", "log2", "log10", "sgn", "deg", "rad", "sin", "cos", "tan", "asin",
    "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "round",
];
const CALENDAR: &[&str] = &[
    "year",
    "month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "timestamp",
];
const OF_NATIVES: &[&str] = &[
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "histogram_stdvar",
];

struct Maker {
    random: Random,
    out: Vec<Case>,
}

impl Maker {
    // Asking.

    /// The query at an instant or over a range, as it comes.
    fn ask(&mut self, query: impl Into<String>) {
        if self.random.below(5) < 2 {
            self.instant(query);
        } else {
            self.range(query);
        }
    }

    fn instant(&mut self, query: impl Into<String>) {
        let at = self.time();
        self.push(query.into(), at, at, 0);
    }

    fn range(&mut self, query: impl Into<String>) {
        let step = STEPS[self.random.below(STEPS.len() as u64) as usize];
        let start = self.time();
        let end = start + step * (1 + self.random.below(6) as i64) + self.random.below(3) as i64 * (step / 3);
        self.push(query.into(), start, end, step);
    }

    fn push(&mut self, query: String, start_ms: i64, end_ms: i64, step_ms: i64) {
        self.out.push(Case {
            query,
            start_ms,
            end_ms,
            step_ms,
        });
    }

    /// On samples, between them, to the millisecond; a few before and after all data.
    fn time(&mut self) -> i64 {
        match self.random.below(24) {
            0 => T0_MS + self.random.below((LENGTH_MS + 900_000) as u64) as i64 - 300_000,
            1 => T0_MS + LENGTH_MS - 20_000 + 5_000 * self.random.below(80) as i64,
            2..10 => T0_MS + 600_000 + self.random.below(5_200_000) as i64,
            _ => T0_MS + 600_000 + 15_000 * self.random.below(340) as i64,
        }
    }

    // Parts.

    fn one_of(&mut self, from: &'static [&'static str]) -> &'static str {
        self.random.pick(from)
    }

    fn literal(&mut self) -> &'static str {
        self.one_of(LITERALS)
    }

    fn family(&mut self, holds: &[Holds]) -> &'static Family {
        loop {
            let family = &FAMILIES[self.random.below(FAMILIES.len() as u64) as usize];
            if holds.contains(&family.holds) {
                return family;
            }
        }
    }

    fn matchers(&mut self, family: &Family, most: u64) -> Vec<String> {
        (0..self.random.below(most + 1))
            .map(|_| {
                let label = match self.random.one_in(16) {
                    true => VALUES[self.random.below(VALUES.len() as u64) as usize].0,
                    false => family.labels[self.random.below(family.labels.len() as u64) as usize],
                };
                let values = VALUES.iter().find(|(n, _)| *n == label).map_or(&["x"][..], |(_, v)| v);
                let value = values[self.random.below(values.len() as u64) as usize];
                let regex = value.contains(['.', '|', '*', '(']);
                let op = match (regex, self.random.below(6)) {
                    (true, 0..4) => "=~",
                    (true, _) => "!~",
                    (_, 0..4) => "=",
                    (_, 4) => "!=",
                    _ => "=~",
                };
                // A plus is an operator of regular expressions.
                let op = if value.starts_with('+') { "=" } else { op };
                format!("{label}{op}\"{value}\"")
            })
            .collect()
    }

    /// A selector without modifiers.
    fn plain(&mut self, family: &Family) -> String {
        let most = if self.random.one_in(3) { 2 } else { 0 };
        let matchers = self.matchers(family, most);
        let list = matchers.join(", ");
        match self.random.below(12) {
            0 if list.is_empty() => format!("{{__name__=\"{}\"}}", family.name),
            0 => format!("{{__name__=\"{}\", {list}}}", family.name),
            1 if !list.is_empty() => format!("{{\"{}\", {list}}}", family.name),
            _ if list.is_empty() => family.name.to_owned(),
            _ => format!("{}{{{list}}}", family.name),
        }
    }

    /// `offset`, `@`, both, or most often neither.
    fn modifier(&mut self) -> String {
        let at = match self.random.below(4) {
            0 => " @ start()".to_owned(),
            1 => " @ end()".to_owned(),
            2 => format!(" @ {}", T0_MS / 1000 + 600 + self.random.below(5_000) as i64),
            _ => format!(
                " @ {}.{:03}",
                T0_MS / 1000 + 600 + self.random.below(5_000) as i64,
                self.random.below(1000)
            ),
        };
        let offset = format!(" offset {}", self.one_of(OFFSETS));
        match self.random.below(14) {
            0 => at,
            1 => at + &offset,
            2 => offset + &at,
            3 | 4 => offset,
            _ => String::new(),
        }
    }

    fn selector(&mut self, holds: &[Holds]) -> String {
        let family = self.family(holds);
        self.plain(family) + &self.modifier()
    }

    fn ranged(&mut self, family: &Family) -> String {
        let selector = self.plain(family);
        let range = self.one_of(RANGES);
        format!("{selector}[{range}]{}", self.modifier())
    }

    fn subquery(&mut self, inner: &str) -> String {
        let range = self.random.pick(&["1m", "5m", "10m", "90s", "7m30s", "33m"]);
        let step = self.random.pick(&["", "15s", "1m", "30s", "7s", "2m", "47s"]);
        format!("{inner}[{range}:{step}]{}", self.modifier())
    }

    fn grouping(&mut self) -> String {
        let labels = [
            "job", "instance", "code", "kind", "le", "nothing", "__name__", "n", "bounds",
        ];
        let mut list: Vec<&str> = (0..self.random.below(3)).map(|_| self.random.pick(&labels)).collect();
        list.dedup();
        match self.random.below(5) {
            0 => String::new(),
            1 | 2 => format!(" by ({})", list.join(", ")),
            _ => format!(" without ({})", list.join(", ")),
        }
    }

    // Every feature over every kind of series.

    fn selectors(&mut self) {
        for family in FAMILIES {
            self.instant(family.name);
            self.range(family.name);
            for _ in 0..3 {
                let query = self.plain(family) + &self.modifier();
                self.ask(query);
            }
            let query = self.ranged(family);
            self.instant(query);
            let inner = self.plain(family);
            let query = self.subquery(&inner);
            self.instant(query);
            // Not `@` and `offset` at once: Prometheus then forgets the offset, but has read no samples without it.
            let (selector, offset) = (self.plain(family), self.one_of(OFFSETS));
            let modifier = match self.random.below(3) {
                0 => String::new(),
                1 => format!(" offset {offset}"),
                _ => format!(" @ {}", T0_MS / 1000 + 600 + self.random.below(5_000) as i64),
            };
            self.ask(format!("timestamp({selector}{modifier})"));
            let query = format!("-{}", self.plain(family));
            self.ask(query);
        }
        for query in [
            r#"{__name__=~"turn_.*"}"#,
            r#"rate({__name__=~"turn_.*"}[5m])"#,
            r#"-{__name__=~"turn_.*"}"#,
            r#"abs({__name__=~"(errors|requests)_total", job="api"})"#,
            r#"{"http.server.duration"}"#,
            r#"{"http.server.duration", "http.route"=~"/a/.*"}"#,
            r#"sum by ("http.route") ({"http.server.duration"})"#,
            r#"rate({"größe_total"}[5m])"#,
            r#"{"größe_total", "straße"!=""}"#,
            r#"label_replace({"größe_total"}, "kurz", "$1", "straße", "(.).*")"#,
            "nothing_at_all",
            r#"{job="nobody"}"#,
            r#"absent(nothing_at_all{job="x", code=~"y", le!="z"})"#,
            r#"absent(requests_total)"#,
            r#"absent(sum(nothing_at_all{job="x"}))"#,
            r#"absent(requests_total{job="x", job="y"})"#,
            r#"absent_over_time(once{job="web"}[5m])"#,
            r#"absent_over_time(nothing_at_all{a="b"}[5m:1m])"#,
            "{__name__=~\".*\"}",
            "requests_total[5m]",
            "sum(requests_total[5m])",
            "rate(requests_total)",
            "1 == 2",
            "unknown(requests_total)",
            "\"a string\"",
            "1 + 2 * 3 ^ 2 ^ 0.5 % 4",
            "-1 ^ 2",
            "1 > bool 2 < bool 3",
            "2 atan2 -3",
            "1_000 + 0x_5F + .5_0 + 1h30m",
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    fn range_functions(&mut self) {
        for function in OVER_TIME {
            for family in FAMILIES {
                let query = format!("{function}({})", self.ranged(family));
                self.ask(query);
            }
            for _ in 0..6 {
                let family = self.family(&[Counters, Gauges, Natives, Both]);
                let inner = match self.random.below(3) {
                    0 => self.plain(family),
                    1 => format!("rate({})", self.ranged(family)),
                    _ => format!("sum by (job) ({})", self.plain(family)),
                };
                let query = format!("{function}({})", self.subquery(&inner));
                self.ask(query);
            }
        }
        for family in FAMILIES {
            if family.name != "zero" {
                // Which of two zeros is the lower one depends on how they are sorted.
                let parameter = self.one_of(PARAMETERS);
                let query = format!("quantile_over_time({parameter}, {})", self.ranged(family));
                self.ask(query);
            }
            let seconds = self.literal();
            let query = format!("predict_linear({}, {seconds})", self.ranged(family));
            self.ask(query);
            let (s, t) = (self.one_of(PARAMETERS), self.one_of(PARAMETERS));
            let query = format!("double_exponential_smoothing({}, {s}, {t})", self.ranged(family));
            self.ask(query);
            let query = format!("double_exponential_smoothing({}, 0.3, 0.7)", self.ranged(family));
            self.ask(query);
        }
    }

    fn instant_functions(&mut self) {
        for function in ELEMENTWISE {
            for family in ["angles", "extremes", "queue_depth", "requests_total", "motley"] {
                self.ask(format!("{function}({family})"));
            }
        }
        for function in CALENDAR {
            for operand in [
                "moments",
                "extremes",
                "vector(time())",
                "motley",
                "vector(-1e9)",
                "moments * -3",
            ] {
                self.ask(format!("{function}({operand})"));
            }
            if *function != "timestamp" {
                self.ask(format!("{function}()"));
            }
        }
        for _ in 0..60 {
            let of = self.selector(&[Counters, Gauges, Both]);
            let (a, b) = (self.literal(), self.literal());
            let function = self.random.below(5);
            self.ask(match function {
                0 => format!("clamp({of}, {a}, {b})"),
                1 => format!("clamp_min({of}, {a})"),
                2 => format!("clamp_max({of}, {a})"),
                3 => format!("round({of}, {a})"),
                _ => format!("vector(scalar({of}) + {a})"),
            });
        }
    }

    fn aggregations(&mut self) {
        for aggregate in AGGREGATES {
            for family in FAMILIES {
                let grouping = self.grouping();
                let query = format!("{aggregate}{grouping} ({})", self.plain(family) + &self.modifier());
                self.ask(query);
            }
            for _ in 0..6 {
                let family = self.family(&[Counters, Natives, Both, Buckets]);
                let query = format!("{aggregate}{} (rate({}))", self.grouping(), self.ranged(family));
                self.ask(query);
            }
        }
        for family in FAMILIES {
            let of = self.plain(family);
            let parameter = self.one_of(PARAMETERS);
            let query = format!("quantile{} ({parameter}, {of})", self.grouping());
            self.ask(query);
            let query = format!("count_values{} (\"value\", {of})", self.grouping());
            self.ask(query);
            let k = self.random.pick(&["1", "2", "3", "0", "-1", "100", "2.9"]);
            let query = format!("count(limitk{} ({k}, {of}))", self.grouping());
            self.ask(query);
            let ratio = self.random.pick(&["0.3", "-0.7", "0.5", "-0.5", "1", "-1", "0", "2"]);
            let query = format!("limit_ratio{} ({ratio}, {of})", self.grouping());
            self.ask(query);
        }
        for family in [
            "requests_total",
            "temperature",
            "queue_depth",
            "latency_seconds_sum",
            "motley",
            "extremes",
            "balance",
        ] {
            for aggregate in ["topk", "bottomk"] {
                for _ in 0..5 {
                    let k = self.random.pick(&[
                        "1",
                        "2",
                        "3",
                        "5",
                        "0",
                        "-1",
                        "100",
                        "scalar(errors_total{job=\"api\", instance=\"a:9100\"}) % 4",
                    ]);
                    let query = format!("{aggregate}{} ({k}, {family})", self.grouping());
                    self.ask(query);
                }
            }
        }
        for query in [
            "topk(NaN, temperature)",
            "topk(1e300, temperature)",
            "bottomk(NaN, temperature)",
            "limitk(NaN, temperature)",
            "limitk(1e300, temperature)",
            "limit_ratio(NaN, temperature)",
            "count_values(\"a\\xff\", temperature)",
            "count_values(\"\", temperature)",
            "count_values(\"a b\", temperature)",
            "quantile(NaN, temperature)",
            "quantile(0.5, nothing_at_all)",
            "count_values by (job) (\"job\", temperature)",
            "sum(huge)",
            "avg(huge)",
            "stddev(huge)",
            "avg_over_time(huge[20m])",
            "sum_over_time(huge[20m])",
            "avg(sum_over_time(huge[3m]))",
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    fn operators(&mut self) {
        let all: Vec<&'static str> = ARITHMETIC.iter().chain(COMPARISONS).copied().collect();
        for op in &all {
            let comparison = COMPARISONS.contains(op);
            let bools: &[&str] = if comparison { &["", " bool"] } else { &[""] };
            for bool in bools {
                for family in [
                    "requests_total",
                    "queue_depth",
                    "extremes",
                    "zero",
                    "motley",
                    "duration_seconds",
                    "size_bytes",
                    "balance",
                ] {
                    for left in [false, true] {
                        let number = match self.literal() {
                            // Empty buckets become visible, and which there are depends on the chunk.
                            "NaN" | "Inf" | "-Inf" if *op == "*" && family.ends_with(['s', 'y', 'e']) => "2.5",
                            number => number,
                        };
                        self.ask(if left {
                            format!("{number} {op}{bool} {family}")
                        } else {
                            format!("{family} {op}{bool} {number}")
                        });
                    }
                }
                for (left, right) in [
                    ("requests_total", "requests_total offset 1m"),
                    ("errors_total", "queue_depth"),
                    ("duration_seconds", "duration_seconds offset 2m"),
                    ("size_bytes", "size_bytes offset 1m"),
                    ("size_bytes{bounds=\"one\"}", "on (job) size_bytes{bounds=\"two\"}"),
                    ("errors_total", "duration_seconds"),
                    ("duration_seconds", "errors_total"),
                    ("motley", "motley offset 30s"),
                    ("motley", "on () motley{kind=\"exponential\"}"),
                    ("balance", "ignoring (n) balance{n=\"2\"}"),
                    ("changing", "changing offset 10m"),
                    ("flaky{ends=\"marked\"}", "on (name) flaky{ends=\"silently\"}"),
                    ("errors_total", "on (job, instance) limits"),
                    ("errors_total", "ignoring (owner) limits"),
                    ("errors_total", "limits"),
                    ("requests_total", "on (job, instance) group_left errors_total"),
                    ("requests_total", "on (job, instance) group_left (owner) limits"),
                    ("limits", "on (job, instance) group_right (owner) requests_total"),
                    ("requests_total", "ignoring (code) group_left errors_total"),
                    (
                        "requests_total",
                        "ignoring (code, owner) group_left (owner, nothing) limits",
                    ),
                    ("requests_total", "on (job) group_left errors_total"),
                    ("requests_total", "on (job, instance) errors_total"),
                    ("errors_total", "on (job, instance) requests_total"),
                    ("sum by (job) (requests_total)", "sum by (job) (errors_total)"),
                    ("requests_total", "on (job, instance) group_left (code) errors_total"),
                    (
                        "requests_total",
                        "on (job) group_left (instance) sum by (job) (errors_total)",
                    ),
                ] {
                    self.ask(format!("{left} {op}{bool} {right}"));
                }
            }
            for fill in [
                "fill (0)",
                "fill_left (-1.5)",
                "fill_right (NaN)",
                "fill_left (1) fill_right (2)",
                "on (job) fill (0)",
                "on (name) fill_right (3)",
            ] {
                self.ask(format!(
                    "flaky{{ends=\"marked\", name!=\"a\"}} {op} {fill} flaky{{ends=\"marked\", name!=\"b\"}}"
                ));
            }
            self.ask(format!(
                "requests_total{{code!=\"404\"}} {op} on (job, instance) group_left fill (1) errors_total{{job=\"web\"}}"
            ));
        }
        for op in SETS {
            for (left, right) in [
                ("requests_total", "requests_total{code=\"200\"}"),
                ("requests_total", "on (job, instance) errors_total{job=\"api\"}"),
                (
                    "requests_total{code=\"200\"}",
                    "ignoring (code) requests_total{code=\"500\", job=\"web\"}",
                ),
                ("flaky", "flaky offset 5m"),
                ("flaky", "on (name) flaky{ends=\"marked\"}"),
                ("errors_total", "duration_seconds"),
                ("motley", "on (job) turncoat"),
                ("errors_total", "queue_depth > 10"),
                ("turn_one", "turn_two"),
                ("nothing_at_all", "errors_total"),
                ("errors_total", "nothing_at_all"),
                ("errors_total", "on () vector(1)"),
                ("errors_total", "on () nothing_at_all"),
                ("vector(1)", "vector(2)"),
            ] {
                self.instant(format!("{left} {op} {right}"));
                self.range(format!("{left} {op} {right}"));
            }
        }
        for op in ["</", ">/"] {
            for family in FAMILIES.iter().filter(|f| matches!(f.holds, Natives | Both)) {
                for _ in 0..4 {
                    let at = self.random.pick(&[
                        "1", "0.5", "0", "-1", "2.7", "Inf", "-Inf", "0.0005", "4", "100", "NaN", "-0.25", "1.5",
                    ]);
                    self.ask(format!("{} {op} {at}", family.name));
                }
                self.ask(format!("histogram_count({} {op} 1.2)", family.name));
            }
            self.ask(format!("requests_total {op} 5"));
            self.ask(format!("duration_seconds {op} on (job, instance) errors_total"));
            self.ask(format!("2 {op} duration_seconds"));
        }
        for _ in 0..40 {
            let (a, b) = (self.literal(), self.literal());
            let op = self.random.pick(ARITHMETIC);
            self.ask(format!("{a} {op} {b}"));
            let op = self.random.pick(COMPARISONS);
            self.ask(format!("{a} {op} bool {b}"));
        }
    }

    fn histogram_functions(&mut self) {
        for function in OF_NATIVES {
            for family in FAMILIES.iter().filter(|f| matches!(f.holds, Natives | Both)) {
                self.ask(format!("{function}({})", family.name));
                let query = format!("{function}(rate({}))", self.ranged(family));
                self.ask(query);
                let query = format!("{function}(sum{} ({}))", self.grouping(), family.name);
                self.ask(query);
            }
            self.ask(format!("{function}(requests_total)"));
            self.ask(format!("{function}(sum(rate(duration_seconds[5m])))"));
            self.ask(format!("{function}(increase(changing[10m]))"));
        }
        for family in FAMILIES.iter().filter(|f| matches!(f.holds, Natives | Both | Buckets)) {
            for parameter in PARAMETERS {
                self.ask(format!("histogram_quantile({parameter}, {})", family.name));
            }
            for _ in 0..3 {
                let parameter = self.one_of(PARAMETERS);
                let query = format!("histogram_quantile({parameter}, rate({}))", self.ranged(family));
                self.ask(query);
                let query = format!(
                    "histogram_quantile({parameter}, sum by (le, job) (rate({})))",
                    self.ranged(family)
                );
                self.ask(query);
                let (low, high) = (self.literal(), self.literal());
                let query = format!("histogram_fraction({low}, {high}, {})", self.plain(family));
                self.ask(query);
                let query = format!("histogram_fraction(0.2, 3, rate({}))", self.ranged(family));
                self.ask(query);
            }
            // Prometheus adds equal bounds up again for every quantile.
            let unequal = if family.name == "broken_bucket" {
                "{kind!=\"equal\"}"
            } else {
                ""
            };
            self.ask(format!(
                "histogram_quantiles({}{unequal}, \"q\", 0.1, 0.5, 0.99)",
                family.name
            ));
            self.ask(format!(
                "histogram_quantiles({}{unequal}, \"job\", 0.5, 2)",
                family.name
            ));
        }
        for query in [
            "histogram_quantile(0.5, both or both_bucket)",
            "histogram_quantile(0.5, {__name__=~\"both|both_bucket\"})",
            "histogram_quantile(0.9, requests_total)",
            "histogram_quantile(scalar(errors_total{job=\"api\", instance=\"a:9100\"}) / 300, latency_seconds_bucket)",
            "histogram_fraction(-Inf, Inf, size_bytes)",
            "histogram_fraction(NaN, 1, size_bytes)",
            "sum(size_bytes)",
            "sum by (job) (size_bytes)",
            "avg(size_bytes)",
            "sum(motley)",
            "avg(motley)",
            "avg_over_time(turncoat[10m])",
            "sum_over_time(turncoat[3m])",
            "rate(turncoat[10m])",
            "rate(balance[5m])",
            "delta(balance[5m])",
            "delta(duration_seconds[5m])",
            "irate(duration_seconds[5m])",
            "idelta(balance[5m])",
            "changes(changing[20m])",
            "resets(changing[20m])",
            "resets(duration_seconds[50m])",
            "resets(turncoat[50m])",
            "count_values(\"h\", duration_seconds)",
            "count_values(\"h\", size_bytes)",
            "duration_seconds == duration_seconds",
            "duration_seconds != duration_seconds offset 1m",
            "histogram_count(duration_seconds) == bool 1",
            "-duration_seconds",
            "duration_seconds * -1",
            "duration_seconds / 0",
            "sum(balance) - sum(balance offset 5m)",
            "histogram_count(sum(duration_seconds))",
            "histogram_sum(sum(size_bytes))",
            "histogram_avg(duration_seconds + duration_seconds offset 5m)",
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    fn labels_and_order(&mut self) {
        for _ in 0..70 {
            let of = self.selector(&[Counters, Gauges, Natives, Both]);
            let to = self
                .random
                .pick(&["new", "job", "instance", "__name__", "with space", "größe"]);
            let from = self
                .random
                .pick(&["job", "instance", "code", "nothing", "kind", "__name__"]);
            let regex = self.random.pick(&[
                "(.*)",
                "(.).*",
                "a(.*)",
                "(?P<first>.)(?P<rest>.*)",
                "nomatch",
                "",
                "(.*):(.*)",
                ".*",
            ]);
            let into = self.random.pick(&[
                "$1",
                "x-$1",
                "${1}y",
                "$first-$rest",
                "",
                "$2:$1",
                "$$1",
                "constant",
                "$nope",
            ]);
            self.ask(format!(
                "label_replace({of}, \"{to}\", \"{into}\", \"{from}\", \"{regex}\")"
            ));
            let (a, b) = (
                self.random.pick(&["job", "nothing", "kind"]),
                self.random.pick(&["instance", "code", "n"]),
            );
            let with = self.random.pick(&["-", "", ", "]);
            self.ask(format!("label_join({of}, \"{to}\", \"{with}\", \"{a}\", \"{b}\")"));
        }
        self.ask("label_replace(errors_total, \"\", \"x\", \"job\", \".*\")");
        self.ask("label_replace(errors_total, \"a\", \"x\", \"job\", \"(\")");
        self.ask("label_replace(errors_total, \"instance\", \"same\", \"job\", \".*\")");
        self.ask("label_join(errors_total, \"job\", \"-\")");
        for function in ["sort", "sort_desc"] {
            for family in FAMILIES {
                if !matches!(family.name, "limits" | "zero" | "late" | "early" | "huge" | "both") {
                    self.instant(format!("{function}({})", family.name));
                }
            }
            self.range(format!("{function}(temperature)"));
        }
        for function in ["sort_by_label", "sort_by_label_desc"] {
            for of in [
                "release, \"release\"",
                "release, \"odd\", \"release\"",
                "requests_total, \"code\", \"instance\"",
                "requests_total, \"nothing\"",
                "flaky, \"ends\", \"name\"",
                "motley, \"kind\"",
                "requests_total",
                "latency_seconds_bucket, \"le\"",
            ] {
                self.instant(format!("{function}({of})"));
            }
            self.range(format!("{function}(release, \"release\")"));
        }
    }

    fn extended_selectors(&mut self) {
        for family in FAMILIES {
            for function in ["rate", "increase", "delta"] {
                for how in ["anchored", "smoothed"] {
                    let (selector, range) = (self.plain(family), self.one_of(RANGES));
                    let modifier = self.modifier();
                    self.ask(format!("{function}({selector}[{range}] {how}{modifier})"));
                }
            }
            for function in ["changes", "resets"] {
                let (selector, range) = (self.plain(family), self.one_of(RANGES));
                self.ask(format!("{function}({selector}[{range}] anchored)"));
            }
            let query = format!("{} smoothed{}", self.plain(family), self.modifier());
            self.ask(query);
            for how in ["anchored", "smoothed"] {
                let query = format!("{}[5m] {how}{}", self.plain(family), self.modifier());
                self.instant(query);
            }
        }
        self.ask("avg_over_time(temperature[5m] anchored)");
        self.ask("changes(temperature[5m] smoothed)");
        self.ask("sum(requests_total smoothed)");
    }

    fn time_and_duration_expressions(&mut self) {
        for query in [
            "time()",
            "start()",
            "end()",
            "step()",
            "range()",
            "max_of(step(), range())",
            "min_of(1, time())",
            "pi()",
            "rate(requests_total[step()])",
            "rate(requests_total[step() + 1m])",
            "rate(requests_total[max_of(step() * 4, 1m)])",
            "rate(requests_total[min_of(1h, range() + 5m)])",
            "rate(requests_total[2 * 2m30s])",
            "rate(requests_total[(1m + 30s) * 2])",
            "rate(requests_total[10m - 1m30s])",
            "rate(requests_total[5m ^ 1])",
            "rate(requests_total[10m % 7m])",
            "rate(requests_total[10m / 3])",
            "rate(requests_total[-5m])",
            "rate(requests_total[0])",
            "rate(requests_total[1m - 1m])",
            "temperature offset (1m + 30s)",
            "temperature offset -(1m + 30s)",
            "temperature offset step()",
            "temperature offset (step() * 2)",
            "temperature offset -step()",
            "temperature offset max_of(30s, step())",
            "max_over_time(temperature[5m + 1m:30s * 2])",
            "max_over_time(temperature[range() + 2m:step() + 5s])",
            "max_over_time(temperature[10m:]) @ end()",
            "max_over_time((temperature @ start())[10m:2m])",
            "sum_over_time(time()[10m:1m])",
            "sum_over_time(vector(time())[10m:47s] offset -1m)",
            "avg_over_time(rate(requests_total[5m:30s])[10m:1m])",
            "max_over_time(max_over_time(temperature[2m:15s])[10m:70s] @ start())",
            "temperature @ 1748738000.5",
            "temperature @ -1748738000",
            "temperature @ 1.748738e9 offset 3m",
            "predict_linear(temperature[10m] @ end(), 600)",
            "timestamp(temperature @ end())",
            "timestamp(temperature offset 10m)",
            "timestamp((temperature))",
            "timestamp(-temperature)",
            "timestamp(timestamp(temperature))",
            "year(moments) + on () group_left () vector(1)",
            "(temperature) @ start()",
            "sum(temperature) @ start()",
            "vector(scalar(temperature))",
            "scalar(constant)",
            "scalar(motley)",
            "vector(1) offset 5m",
            "start_timestamp(requests_total)",
        ] {
            self.instant(query);
            self.range(query);
            self.range(query);
        }
    }

    fn info(&mut self) {
        for query in [
            "info(requests_total)",
            "info(errors_total, {version=~\".+\"})",
            "info(errors_total, {version=\"1.0\"})",
            "info(errors_total, {region=\"eu\"})",
            "info(errors_total, {region!=\"eu\"})",
            "info(errors_total, {region=~\".*\"})",
            "info(errors_total, {nothing=\"x\"})",
            "info(errors_total, {nothing=~\".*\"})",
            "info(errors_total, {__name__=\"build_info\"})",
            "info(errors_total, {__name__=~\".+_info\"})",
            "info(errors_total, {__name__=~\".+_info\", revision=~\"x.*\"})",
            "info(errors_total, {__name__!=\"build_info\"})",
            "info(rate(requests_total[5m]), {region=~\".+\"})",
            "info(errors_total offset 30m)",
            "info(errors_total @ start())",
            "info(duration_seconds)",
            "info(target_info)",
            "info(build_info)",
            "info(temperature, {region=~\"e.*|u.*\"})",
            "info(sum by (job, instance) (requests_total), {region=~\".+\", version=~\".+\"})",
            "info(motley)",
            "sum by (region) (info(rate(requests_total[5m]), {region=~\".+\"}))",
            "info({__name__=~\"errors_total|target_info\"})",
        ] {
            self.instant(query);
            self.range(query);
            self.range(query);
        }
    }

    // Compositions.

    fn compositions(&mut self, count: usize) {
        for _ in 0..count {
            let query = self.vector(3);
            // Quantiles of negative counts depend on which empty buckets a chunk happens to have.
            let (_, inner) = query.split_once("histogram_quantile(").unwrap_or_default();
            let of_negative = inner.contains("-(") || inner.contains("* -");
            // So do products with what is no number,
            let without_number = ["* NaN", "* Inf", "* -Inf", "NaN * ", "Inf * "]
                .iter()
                .any(|p| query.contains(p));
            // and on x86-64 Prometheus has wrong logarithms of subnormal numbers.
            let tiny_logarithm = query.contains("tiny") && (query.contains("log") || query.contains("ln("));
            if !of_negative && !without_number && !tiny_logarithm {
                self.ask(query);
            }
        }
    }

    fn scalar(&mut self, depth: u32) -> String {
        match self.random.below(8) {
            0 => "time()".to_owned(),
            1 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            2 => "step()".to_owned(),
            3 if depth > 0 => {
                let (a, b) = (self.scalar(depth - 1), self.scalar(depth - 1));
                format!("({a} {} {b})", self.one_of(SMOOTH))
            }
            _ => self.literal().to_owned(),
        }
    }

    fn vector(&mut self, depth: u32) -> String {
        if depth == 0 {
            return self.selector(&[Counters, Gauges, Buckets, Natives, Both]);
        }
        let depth = depth - 1;
        match self.random.below(20) {
            0 | 1 => {
                let aggregate = self.one_of(AGGREGATES);
                format!("{aggregate}{} ({})", self.grouping(), self.vector(depth))
            }
            2 => {
                let parameter = self.one_of(PARAMETERS);
                format!("quantile{} ({parameter}, {})", self.grouping(), self.vector(depth))
            }
            3 | 4 => {
                // Of large numbers the last digits decide.
                let function = match self.one_of(ELEMENTWISE) {
                    "sin" | "cos" | "tan" => "atan",
                    function => function,
                };
                format!("{function}({})", self.vector(depth))
            }
            5..8 => {
                let function = self.one_of(OVER_TIME);
                let family = self.family(&[Counters, Gauges, Buckets, Natives, Both]);
                format!("{function}({})", self.ranged(family))
            }
            8 | 9 => {
                let function = self.one_of(OVER_TIME);
                let inner = self.vector(depth);
                format!("{function}({})", self.subquery(&format!("({inner})")))
            }
            10 | 11 => {
                let scalar = self.scalar(1);
                let op = match self.random.one_in(3) {
                    true => self.one_of(COMPARISONS),
                    false => self.one_of(SMOOTH),
                };
                let bool = if COMPARISONS.contains(&op) && self.random.one_in(2) {
                    " bool"
                } else {
                    ""
                };
                let vector = self.vector(depth);
                match self.random.one_in(2) {
                    true => format!("({vector}) {op}{bool} {scalar}"),
                    false => format!("{scalar} {op}{bool} ({vector})"),
                }
            }
            12 | 13 => {
                let op = match self.random.below(4) {
                    0 => self.one_of(COMPARISONS),
                    1 => self.one_of(SETS),
                    _ => self.one_of(SMOOTH),
                };
                // One side is often an altered copy of the other, so that they match.
                let left = self.vector(depth);
                let right = match self.random.below(3) {
                    0 => self.vector(depth),
                    1 => format!("abs({left})"),
                    _ => format!("({left}) * 2"),
                };
                let how = match self.random.below(6) {
                    0 => " on (job, instance)",
                    1 => " ignoring (code)",
                    2 if !SETS.contains(&op) => " on (job) group_left ()",
                    _ => "",
                };
                format!("({left}) {op}{how} ({right})")
            }
            14 => format!("-({})", self.vector(depth)),
            15 => {
                let parameter = self.one_of(PARAMETERS);
                format!("histogram_quantile({parameter}, {})", self.vector(depth))
            }
            16 => {
                let function = self.one_of(OF_NATIVES);
                format!("{function}({})", self.vector(depth))
            }
            17 => format!(
                "label_replace({}, \"made\", \"$1\", \"job\", \"(.).*\")",
                self.vector(depth)
            ),
            18 => {
                let function = self.random.pick(&["timestamp(0 + ", "absent(", "hour(", "sgn("]);
                format!("{function}{})", self.vector(depth))
            }
            _ => {
                let (a, b) = (self.literal(), self.literal());
                format!("clamp({}, {a}, {b})", self.vector(depth))
            }
        }
    }
}
