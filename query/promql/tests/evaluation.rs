//! Queries on a real engine: what a user sees, and that a range is its instants one after the other.
#![allow(clippy::unwrap_used)]

mod lab;

use std::sync::OnceLock;

use lab::hour::{SCRAPE, START, an_hour};
use lab::{Lab, lab_of, limits};
use model::{LabelSet, TimestampMs};
use proptest::prelude::*;
use query_exec::text_of;
use query_promql::{EvalError, Options, Output, Query, Series, Value};

const OPTIONS: Options = Options {
    lookback_ms: 300_000,
    subquery_step_ms: 60_000,
    ..Options::DEFAULT
};
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| lab_of(&an_hour(), START + 3_600_000))
}

fn instant(text: &str, at: i64) -> Result<Output, EvalError> {
    Query::parse(text)?.instant(&limits(1 << 24), &lab().metrics, TimestampMs(at), OPTIONS)
}

fn range(text: &str, start: i64, end: i64, step: i64) -> Result<Output, EvalError> {
    let query = Query::parse(text)?;
    query.range(
        &limits(1 << 24),
        &lab().metrics,
        TimestampMs(start),
        TimestampMs(end),
        step,
        OPTIONS,
    )
}

/// `{labels} value` lines of an instant vector, 30 minutes in.
fn check(text: &str, want: &[&str]) {
    let found = match instant(text, START + 1_800_000) {
        Err(e) => vec![format!("error: {e}")],
        Ok(output) => match output.value {
            Value::Scalar(_, v) => vec![format!("{v}")],
            Value::String(_, s) => vec![s],
            Value::Vector(series) => series
                .iter()
                .map(|s| format!("{} {}", s.labels, s.points[0].1))
                .collect(),
            Value::Matrix(series) => series
                .iter()
                .map(|s| format!("{} {}", s.labels, s.points.len()))
                .collect(),
        },
    };
    assert_eq!(found, want, "{text}");
}

#[test]
fn what_a_dashboard_asks() {
    check("sum by (job) (up)", &[r#"{job="api"} 2"#, r#"{job="db"} 1"#]);
    check("sum(rate(requests_total[5m]))", &["{} 1.2"]);
    check("sum(increase(requests_total[5m] offset 10m))", &["{} 360"]);
    check(
        "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))",
        &["{} 1"],
    );
    check(
        "count(memory_bytes) by (type) > 2",
        &[r#"{type="free"} 3"#, r#"{type="used"} 3"#],
    );
    check("topk(1, cpus)", &[r#"{__name__="cpus", instance="c:3", job="db"} 4"#]);
    check(
        "sort_desc(cpus * 2)",
        &[
            r#"{instance="c:3", job="db"} 8"#,
            r#"{instance="b:2", job="api"} 6"#,
            r#"{instance="a:1", job="api"} 4"#,
        ],
    );
    check(
        r#"cpus * on(instance) group_left(type) memory_bytes{type="free",job="db"} < bool 0"#,
        &[r#"{instance="c:3", job="db", type="free"} 0"#],
    );
    check(r#"absent(nothing{job="x",y=~"z"})"#, &[r#"{job="x"} 1"#]);
    check(
        r#"label_replace(up{job="db"}, "host", "$1", "instance", "(.*):.*")"#,
        &[r#"{__name__="up", host="c", instance="c:3", job="db"} 1"#],
    );
    check("scalar(sum(up)) + 1", &["4"]);
    check("vector(time())", &[&format!("{{}} {}", (START + 1_800_000) / 1000)]);
    check("\"words\"", &["words"]);
    check(
        "count_over_time(up{job=\"db\"}[1m])",
        &[r#"{instance="c:3", job="db"} 4"#],
    );
    check(
        "up{job=\"db\"}[1m]",
        &[r#"{__name__="up", instance="c:3", job="db"} 4"#],
    );
    check("max_over_time(sum(up)[10m:1m])", &["{} 3"]);
    check("hour(vector(0)) or minute()", &["{} 0"]);
    check("nothing", &[]);
}

#[test]
fn a_series_ends_at_its_staleness_marker_and_at_the_lookback() {
    // Scrape 20 brings the marker; the last sample is scrape 19.
    let at = |k: i64| match instant("flapping", START + k * SCRAPE).unwrap().value {
        Value::Vector(v) => v.first().map(|s| s.points[0].1),
        _ => None,
    };
    assert_eq!((at(19), at(20), at(21), at(40)), (Some(19.0), None, None, Some(40.0)));
    let last = START + 239 * SCRAPE;
    let count = |t: i64| match instant("up", t).unwrap().value {
        Value::Vector(v) => v.len(),
        _ => 0,
    };
    assert_eq!((count(last + 299_999), count(last + 300_000)), (3, 0));
}

#[test]
fn what_the_data_does_not_allow_is_said() {
    check(
        r#"label_replace(up, "instance", "", "", "")"#,
        &["error: vector cannot contain metrics with the same labelset"],
    );
    check(
        "up + on(job) up",
        &[
            "error: found duplicate series for the match group {job=\"api\"} on the right hand-side of the operation: \
         [{__name__=\"up\", instance=\"a:1\", job=\"api\"}, {__name__=\"up\", instance=\"b:2\", job=\"api\"}]\
         ;many-to-many matching not allowed: matching labels must be unique on one side",
        ],
    );
    check("topk(NaN, up)", &["error: Parameter value is NaN"]);
    check(
        "rate({__name__=~\"up|cpus\"}[5m])",
        &["error: vector cannot contain metrics with the same labelset"],
    );
}

#[test]
fn odd_input_is_remarked() {
    let output = instant("rate(cpus[5m])", START + 1_800_000).unwrap();
    let want =
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"cpus\" (1:6)";
    assert_eq!(output.infos, [want]);
    let output = instant("quantile(1.5, up)", START + 1_800_000).unwrap();
    assert_eq!(
        output.warnings,
        ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)"]
    );
    let output = range("sort(up)", START, START + 60_000, 60_000).unwrap();
    assert_eq!(output.warnings.len(), 1);
    assert!(instant("rate(requests_total[5m])", START).unwrap().infos.is_empty());
}

#[test]
fn a_query_may_not_hold_more_than_its_share() {
    let query = Query::parse("memory_bytes").unwrap();
    let run = |samples_max: u64| {
        let context = limits(samples_max);
        let (start, end) = (TimestampMs(START), TimestampMs(START + 3_600_000));
        query
            .range(&context, &lab().metrics, start, end, SCRAPE, OPTIONS)
            .map(|_| context.usage().samples_peak)
    };
    let words = "query processing would load too many samples into memory in query execution";
    assert_eq!(run(1000).unwrap_err().to_string(), words);
    assert!(run(100_000).unwrap() >= 6 * 240);
    // A subquery of a billion steps is refused before it is made.
    let deep = Query::parse("sum_over_time(vector(1)[100y:1ms])").unwrap();
    let refused = deep.instant(&limits(1 << 20), &lab().metrics, TimestampMs(START), OPTIONS);
    assert_eq!(refused.unwrap_err().to_string(), words);
}

#[test]
fn what_is_used_up_is_given_back() {
    // Each operand is an hour by seconds; held all at once they would not fit.
    let text = vec!["sum(memory_bytes)"; 40].join(" + ");
    let query = Query::parse(&text).unwrap();
    let context = limits(60_000);
    let (start, end) = (TimestampMs(START), TimestampMs(START + 3_600_000));
    query
        .range(&context, &lab().metrics, start, end, 1000, OPTIONS)
        .unwrap();
}

#[test]
fn histograms_weigh_what_they_take_and_are_given_back() {
    let ask = |text: &str, samples_max: u64| {
        let (start, end) = (TimestampMs(START), TimestampMs(START + 3_600_000));
        let query = Query::parse(text).unwrap();
        query.range(&limits(samples_max), &lab().metrics, start, end, SCRAPE, OPTIONS)
    };
    // Three series over 241 steps: as floats they fit, as histograms they do not.
    assert!(ask("cpus", 3_000).is_ok());
    let refused = ask("durations", 3_000).unwrap_err().to_string();
    assert!(refused.contains("too many samples"), "{refused}");
    let calls = [
        "sum(durations)",
        "-durations",
        "histogram_quantile(0.5, durations)",
        "histogram_count(rate(durations[5m]))",
        "sum_over_time(durations[5m:1m])",
        "abs(durations)",
        "timestamp(durations)",
        "count(durations @ end())",
    ];
    for call in calls {
        ask(&vec![format!("count({call})"); 30].join(" or "), 40_000).unwrap_or_else(|e| panic!("{call}: {e}"));
    }
}

#[test]
fn a_cancelled_query_stops() {
    let context = limits(1 << 24);
    context.cancel();
    let query = Query::parse("sum(up)").unwrap();
    let stopped = query.instant(&context, &lab().metrics, TimestampMs(START), OPTIONS);
    assert_eq!(
        stopped.unwrap_err().to_string(),
        "query was canceled in expression evaluation"
    );
}

#[test]
fn a_range_is_of_numbers_over_time() {
    let refused = range("up[5m]", START, START, 1000).unwrap_err().to_string();
    let words = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    assert_eq!(refused, words);
    match range("1 + 1", START, START + 2000, 1000).unwrap().value {
        Value::Matrix(m) => assert_eq!((m.len(), m[0].points.len(), m[0].labels.is_empty()), (1, 3, true)),
        other => panic!("{other:?}"),
    }
}

/// Queries with something of everything; the placeholders are filled in all ways.
const TEMPLATES: &[&str] = &[
    "cpus",
    "memory_bytes{type!=\"free\"}",
    "memory_bytes{instance=~\"a.*|c.*\"} offset 5m",
    "memory_bytes offset -2m",
    "flapping",
    "odd",
    "-cpus",
    "nothing",
    "OVER(memory_bytes[RANGE])",
    "OVER(flapping[RANGE])",
    "OVER(requests_total[RANGE] offset 3m)",
    "OVER(odd[RANGE])",
    "OVER(sum by (job) (requests_total)[RANGE:SUB])",
    "OVER(up[RANGE] @ end())",
    "quantile_over_time(0.3, memory_bytes[RANGE])",
    "predict_linear(memory_bytes[RANGE], 600)",
    "double_exponential_smoothing(memory_bytes[RANGE], 0.4, 0.3)",
    "AGG(memory_bytes)",
    "AGG by (job) (memory_bytes)",
    "AGG without (instance, type) (memory_bytes)",
    "AGG by (kind) (odd)",
    "topk by (type) (2, memory_bytes)",
    "bottomk(2, memory_bytes)",
    "quantile by (job) (0.7, memory_bytes)",
    "count_values(\"v\", cpus)",
    "limitk(2, memory_bytes)",
    "limit_ratio(0.5, memory_bytes)",
    "memory_bytes OP 1.002e9",
    "1.002e9 OP memory_bytes",
    "cpus OP on(instance) group_right memory_bytes",
    "memory_bytes{type=\"free\"} OP ignoring(type) memory_bytes{type=\"used\"}",
    "flapping OP flapping offset 2m",
    "memory_bytes > bool 1.002e9",
    "cpus and on(instance) flapping",
    "cpus or flapping",
    "cpus unless on(instance) flapping",
    "FN(memory_bytes)",
    "FN(odd)",
    "clamp(memory_bytes, 1.001e9, 1.002e9)",
    "round(memory_bytes, 1e7)",
    "histogram_quantile(0.8, rate(latency_seconds_bucket[RANGE]))",
    "histogram_fraction(0.1, 0.7, latency_seconds_bucket)",
    "histogram_quantile(scalar(count(flapping)) / 2, latency_seconds_bucket)",
    "absent(flapping)",
    "absent_over_time(flapping[RANGE])",
    "scalar(flapping)",
    "vector(time() % 7)",
    "timestamp(flapping)",
    "timestamp(flapping * 1)",
    "minute()",
    "day_of_week(flapping)",
    "label_join(up, \"x\", \"-\", \"job\", \"instance\")",
    "sum(cpus) / count(up) * 100 - time() % 5",
    "sum_over_time(OVER(memory_bytes[RANGE])[10m:SUB])",
    "max_over_time(cpus[RANGE] @ start())",
    "durations",
    "HIST(durations)",
    "HIST(rate(durations[RANGE]))",
    "HIST(sum by (instance) (rate(sizes[RANGE])))",
    "OVER(durations[RANGE])",
    "OVER(sizes[RANGE])",
    "OVER(queue[RANGE])",
    "OVER(turned[RANGE] offset 1m)",
    "OVER(durations[RANGE:SUB])",
    "AGG(durations)",
    "AGG(sizes)",
    "AGG({__name__=~\"turned|durations\"})",
    "durations OP on(instance) queue",
    "durations OP 2",
    "3 OP sizes",
    "queue </ 1.5",
    "sizes >/ 1.5",
    "-durations",
    "histogram_quantile(0.3, rate(durations[RANGE]))",
    "histogram_quantile(0.9, sum(increase(sizes[RANGE])))",
    "histogram_quantiles(queue, \"q\", 0.1, 0.9)",
    "histogram_fraction(-1, 1.5, durations)",
    "histogram_count(rate(durations[RANGE]))",
    "count_values(\"v\", queue)",
    "limitk(1, durations)",
    "limit_ratio(0.5, durations)",
    "timestamp(turned)",
    "absent(durations)",
    "durations @ end() + queue",
    "increase(requests_total[RANGE] anchored)",
    "rate(requests_total[RANGE] smoothed)",
    "delta(flapping[RANGE] smoothed)",
    "changes(flapping[RANGE] anchored)",
    "flapping smoothed",
    "cpus + fill(3) flapping",
    "memory_bytes OP on(instance, type) group_left fill_right(7) flapping",
];

fn queries() -> Vec<String> {
    let choices: &[(&str, &[&str])] = &[
        (
            "OVER",
            &[
                "avg_over_time",
                "min_over_time",
                "max_over_time",
                "sum_over_time",
                "count_over_time",
                "last_over_time",
                "first_over_time",
                "present_over_time",
                "stddev_over_time",
                "stdvar_over_time",
                "mad_over_time",
                "ts_of_max_over_time",
                "ts_of_min_over_time",
                "ts_of_last_over_time",
                "rate",
                "irate",
                "increase",
                "delta",
                "idelta",
                "deriv",
                "changes",
                "resets",
            ],
        ),
        (
            "AGG",
            &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"],
        ),
        (
            "OP",
            &["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "atan2"],
        ),
        (
            "FN",
            &[
                "abs",
                "ceil",
                "exp",
                "ln",
                "log2",
                "sgn",
                "sqrt",
                "deg",
                "sin",
                "sort",
                "timestamp",
            ],
        ),
        (
            "HIST",
            &[
                "histogram_avg",
                "histogram_count",
                "histogram_sum",
                "histogram_stddev",
                "histogram_stdvar",
            ],
        ),
        ("RANGE", &["45s", "5m", "20m"]),
        ("SUB", &["", "17s", "2m"]),
    ];
    let mut queries: Vec<String> = TEMPLATES.iter().map(|t| (*t).to_owned()).collect();
    for (hole, words) in choices {
        queries = (queries.into_iter())
            .flat_map(|q| {
                let n = if q.contains(hole) { words.len() } else { 1 };
                (0..n).map(move |i| q.replace(hole, words[i])).collect::<Vec<_>>()
            })
            .collect();
    }
    queries
}

/// What a step holds: a number, or a histogram as text.
type Held = Result<f64, String>;

fn at_step(m: &[Series], t: i64) -> Vec<(String, Held)> {
    let held = |s: &Series| {
        let float = s.points.iter().find(|p| p.0.0 == t).map(|p| Ok(p.1));
        let histogram = || s.histograms.iter().find(|p| p.0.0 == t).map(|p| Err(text_of(&p.1)));
        float.or_else(histogram)
    };
    let mut step: Vec<_> = m
        .iter()
        .filter_map(|s| Some((s.labels.to_string(), held(s)?)))
        .collect();
    step.sort_by(|a, b| a.0.cmp(&b.0));
    step
}

/// Equal but for the rounding of sums over long windows, which a range slides over and an instant adds up.
fn alike(a: &[(String, Held)], b: &[(String, Held)]) -> bool {
    let close = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
    let same = |a: &Held, b: &Held| match (a, b) {
        (Ok(a), Ok(b)) => close(*a, *b),
        (a, b) => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
}

/// The range's steps against instants; `start()` and `end()` are the range's, so they are written out.
fn range_is_its_instants(text: &str, start: i64, steps: i64, step: i64) -> Result<(), TestCaseError> {
    let end = start + (steps - 1) * step;
    let at = |t: i64| format!("@ {}", t as f64 / 1000.0);
    let text = text.replace("@ start()", &at(start)).replace("@ end()", &at(end));
    let Value::Matrix(whole) = range(&text, start, end, step).unwrap().value else {
        panic!("a range gives a matrix: {text}");
    };
    prop_assert!(whole.is_sorted_by(|a, b| a.labels < b.labels), "{}", text);
    for i in 0..steps {
        let t = start + i * step;
        let alone = match instant(&text, t).unwrap().value {
            Value::Vector(v) => at_step(&v, t),
            Value::Scalar(_, v) => at_step(
                &[Series {
                    labels: LabelSet::empty(),
                    points: vec![(TimestampMs(t), v)],
                    histograms: Vec::new(),
                }],
                t,
            ),
            other => panic!("{other:?}"),
        };
        let step_of_whole = at_step(&whole, t);
        prop_assert!(
            alike(&step_of_whole, &alone),
            "{text} at step {i}: {step_of_whole:?}, alone {alone:?}"
        );
    }
    Ok(())
}

#[test]
fn every_kind_of_query_over_a_range_is_its_instants() {
    for text in queries() {
        range_is_its_instants(&text, START + 1_200_007, 4, 47_000).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Sliding windows must see what a fresh look sees, wherever the range starts and however wide its steps are.
    #[test]
    fn a_range_is_its_instants(
        text in proptest::sample::select(queries()), start in 0i64..3_900_000, steps in 1i64..6, step in 1i64..600_000,
    ) {
        range_is_its_instants(&text, START - 200_000 + start, steps, step)?;
    }
}

/// A sum needs its groups only: a query over more series than may be held at once is answered all the same.
#[test]
fn a_sum_does_not_hold_its_series() {
    let sums = |text: &str, samples_max: u64| {
        let (start, end) = (TimestampMs(START), TimestampMs(START + 3_600_000));
        let context = limits(samples_max);
        let query = Query::parse(text).unwrap();
        query
            .range(&context, &lab().metrics, start, end, 1000, OPTIONS)
            .map(|_| context.usage().samples_peak)
    };
    let dense = 600 * 3601;
    assert!(sums("wide_total", dense * 9 / 10).is_err());
    let peak = sums("sum(rate(wide_total[10m]))", dense).unwrap();
    assert!(peak < dense / 2, "{peak}");
}

/// The deepest that the parser lets through must run on the stack of an ordinary thread.
#[test]
fn the_deepest_query_has_room_on_the_stack() {
    let nest = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for text in [
        nest("abs(", "cpus", ")", 110),
        nest("-(", "cpus", ")", 55),
        nest("sum(", "cpus", ")", 110),
        nest("1 + (", "cpus", ")", 55),
        nest("cpus or (", "cpus", ")", 55),
        nest("max_over_time(", "cpus", "[2m:1m])", 30),
        format!("cpus{}", " or cpus".repeat(1400)),
        format!("1{}", " + 1".repeat(1400)),
    ] {
        let query = Query::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", &text[..20]));
        let at = TimestampMs(START + 1_800_000);
        query.instant(&limits(1 << 24), &lab().metrics, at, OPTIONS).unwrap();
        query
            .range(
                &limits(1 << 24),
                &lab().metrics,
                at,
                TimestampMs(at.0 + 1000),
                1000,
                OPTIONS,
            )
            .unwrap();
        query
            .pinned(at)
            .instant(&limits(1 << 24), &lab().metrics, at, OPTIONS)
            .unwrap();
    }
}
