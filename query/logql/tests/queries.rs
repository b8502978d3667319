//! Queries on a real logs engine: limits and order, early stops, structured metadata, fields; and log and metric queries
//! against a naive model.

#![allow(clippy::unwrap_used)] // A test may.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{LabelSet, LogBatch, TimestampNs};
use proptest::prelude::*;
use query_exec::{Context, Limits};
use query_logql::{Direction, EvalError, Options, Query, Value, detected_fields};
use storage_logs::Logs;

const SECOND: i64 = 1_000_000_000;
const BASE: i64 = 1_767_225_600 * SECOND;

struct Lab {
    logs: Logs,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

/// Stream, seconds from the base, line, metadata.
type Row = (&'static str, i64, String, Vec<(String, String)>);

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let disk = storage_disk::Disk::real();
        let (catalogue, _) = storage_catalogue::Catalogue::open(disk.clone(), dir.path()).unwrap();
        let parts = storage_logs::Parts {
            disk,
            catalogue,
            budget: storage_budget::Budget::new(1 << 30),
            dir: dir.path().join("logs"),
            wal: storage_wal::Options {
                sync: storage_wal::SyncMode::Never,
                segment_bytes: 16 << 20,
            },
        };
        let options = storage_logs::Options {
            retention_ns: i64::MAX / 4,
            ahead_ns: i64::MAX / 4,
        };
        let (logs, _) = Logs::open(parts, options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Lab {
            logs,
            runtime,
            _dir: dir,
        }
    }

    fn append(&self, rows: &[Row]) {
        let mut batch = LogBatch::default();
        for (app, t, line, metadata) in rows {
            let stream = batch.stream(&mut vec![("app", app), ("env", "test")]);
            let metadata = metadata.iter().map(|(n, v)| (n, v));
            batch.entry(stream, TimestampNs(BASE + t * SECOND), line, metadata);
        }
        self.runtime
            .block_on(self.logs.append(&batch, TimestampNs(BASE)))
            .unwrap();
    }

    /// Appends rows one batch after the other, with a cut where it is said.
    fn append_and_cut(&self, rows: &[(Row, bool)]) {
        let mut pending = Vec::new();
        for (row, cut) in rows {
            pending.push(row.clone());
            if *cut {
                self.append(&std::mem::take(&mut pending));
                self.logs.cut().unwrap();
            }
        }
        self.append(&pending);
    }

    /// Values by labels and second.
    fn matrix(&self, query: &str, from: i64, to: i64, step: i64) -> BTreeMap<(String, i64), f64> {
        let query = Query::parse(query).unwrap();
        let at = |t: i64| TimestampNs(BASE + t * SECOND);
        let output = query
            .range(&context(), &self.logs, at(from), at(to), step * SECOND, OPTIONS)
            .unwrap();
        let Value::Matrix(series) = output.value else { panic!() };
        let mut values = BTreeMap::new();
        for s in &series {
            for (t, v) in &s.points {
                values.insert((s.labels.to_string(), (t * 1_000_000 - BASE) / SECOND), *v);
            }
        }
        values
    }

    /// Entries as `app@seconds line`, by stream.
    fn log(&self, query: &str, from: i64, to: i64, limit: usize, direction: Direction) -> Vec<String> {
        let query = Query::parse(query).unwrap();
        let options = Options { limit, direction };
        let (from, to) = (TimestampNs(BASE + from * SECOND), TimestampNs(BASE + to * SECOND));
        let output = query.range(&context(), &self.logs, from, to, 0, options).unwrap();
        let Value::Streams(streams) = output.value else {
            panic!()
        };
        let mut out = Vec::new();
        for stream in streams {
            for line in stream.lines {
                let t = (line.entry.t.0 - BASE) / SECOND;
                out.push(format!(
                    "{}@{t} {}",
                    stream.labels.get("app").unwrap_or("-"),
                    line.entry.line
                ));
            }
        }
        out
    }

    fn metric(&self, query: &str, at: i64) -> Result<BTreeMap<String, f64>, EvalError> {
        let query = Query::parse(query)?;
        let at = TimestampNs(BASE + at * SECOND);
        let output = query.instant(&context(), &self.logs, at, OPTIONS)?;
        Ok(match output.value {
            Value::Vector(series) => series
                .into_iter()
                .map(|s| (s.labels.to_string(), s.points[0].1))
                .collect(),
            Value::Scalar(_, v) => BTreeMap::from([("scalar".to_owned(), v)]),
            other => panic!("{other:?}"),
        })
    }
}

const OPTIONS: Options = Options {
    limit: 100,
    direction: Direction::Backward,
};

fn context() -> Context {
    Context::new(
        Duration::from_secs(30),
        Limits {
            samples_max: 1_000_000,
            series_max: 500,
            bytes_max: 1 << 30,
        },
    )
}

fn row(app: &'static str, t: i64, line: &str) -> Row {
    (app, t, line.to_owned(), Vec::new())
}

#[test]
fn a_result_is_bounded_in_bytes() {
    let lab = Lab::new();
    let rows: Vec<Row> = (0..1200).map(|i| ("a", i, format!("line {i}"), Vec::new())).collect();
    lab.append(&rows);
    let ask = |bytes: usize, limit| {
        let query = format!("{{app=\"a\"}} | line_format `{{{{ repeat {bytes} \"x\" }}}}`");
        let (from, to) = (TimestampNs(BASE), TimestampNs(BASE + 2000 * SECOND));
        let direction = Direction::Backward;
        let options = Options { limit, direction };
        Query::parse(&query)
            .unwrap()
            .range(&context(), &lab.logs, from, to, 0, options)
    };
    assert!(ask(100_000, 1000).is_ok());
    let said = ask(1_000_000, 1000).unwrap_err().to_string();
    assert!(said.contains("would return more than 536870912 bytes"), "{said}");
}

#[test]
fn a_limit_keeps_the_newest_or_the_oldest_and_cuts_ties_by_stream_and_arrival() {
    let lab = Lab::new();
    lab.append(&[row("a", 1, "1"), row("b", 2, "2"), row("a", 3, "3x"), row("a", 3, "3y")]);
    lab.logs.cut().unwrap();
    lab.append(&[row("b", 3, "3z"), row("b", 4, "4")]);
    let check = |direction, limit, want: &[&str]| {
        assert_eq!(
            lab.log(r#"{app=~"a|b"}"#, 0, 10, limit, direction),
            want,
            "{direction:?} {limit}"
        );
    };
    check(
        Direction::Backward,
        9,
        &["a@3 3y", "a@3 3x", "a@1 1", "b@4 4", "b@3 3z", "b@2 2"],
    );
    check(Direction::Backward, 2, &["a@3 3y", "b@4 4"]);
    check(Direction::Backward, 3, &["a@3 3y", "a@3 3x", "b@4 4"]);
    check(Direction::Forward, 3, &["a@1 1", "a@3 3x", "b@2 2"]);
    check(Direction::Forward, 0, &[]);
    // The start is inside, the end is not.
    assert_eq!(lab.log(r#"{app="a"}"#, 1, 3, 9, Direction::Forward), ["a@1 1"]);
}

#[test]
fn a_filter_on_a_label_finds_metadata_and_stream_labels_alike() {
    let lab = Lab::new();
    let mut with = row("a", 1, "with");
    with.3
        .push(("trace_id".into(), "4bf92f3577b34da6a3ce929d0e0e4736".into()));
    lab.append(&[
        with,
        row("a", 2, "trace_id=4bf92f3577b34da6a3ce929d0e0e4736"),
        row("a", 3, "other"),
    ]);
    lab.logs.cut().unwrap();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let check =
        |query: String, want: &[&str]| assert_eq!(lab.log(&query, 0, 9, 9, Direction::Forward), want, "{query}");
    check(format!(r#"{{app="a"}} | trace_id="{id}""#), &["a@1 with"]);
    check(
        format!(r#"{{app="a"}} | logfmt | trace_id="{id}""#),
        &["a@1 with", &format!("a@2 trace_id={id}")],
    );
    check(r#"{app="a"} | env="test" |= "other""#.into(), &["a@3 other"]);
    check(
        format!(r#"{{app="a"}} |= "{}""#, &id[3..20]),
        &[&format!("a@2 trace_id={id}")],
    );
}

#[test]
fn metric_queries() {
    let lab = Lab::new();
    lab.append(&[
        row("a", 10, "level=info took=2s size=1kB"),
        row("a", 20, "level=error took=4s size=3kB"),
        row("b", 30, "level=error took=1s size=oops"),
        row("b", 70, "no pairs"),
    ]);
    let check = |query: &str, want: &[(&str, f64)]| {
        let want: BTreeMap<String, f64> = want.iter().map(|(l, v)| ((*l).to_owned(), *v)).collect();
        assert_eq!(lab.metric(query, 60).unwrap(), want, "{query}");
    };
    check(
        r#"count_over_time({app="a"}[1m])"#,
        &[(r#"{app="a", env="test"}"#, 2.0)],
    );
    check(r#"sum(rate({env="test"}[1m]))"#, &[("{}", 0.05)]);
    check(
        r#"sum by (level) (count_over_time({env="test"} | logfmt [1m]))"#,
        &[(r#"{level="error"}"#, 2.0), (r#"{level="info"}"#, 1.0)],
    );
    check(
        r#"max_over_time({app="a"} | logfmt | unwrap duration(took) [1m]) by (app)"#,
        &[(r#"{app="a"}"#, 4.0)],
    );
    check(
        r#"sum(count_over_time({env="test"} |= "error" [1m])) / 2"#,
        &[("{}", 1.0)],
    );
    check(r#"sum(rate({app="none"}[1m])) or vector(0)"#, &[("{}", 0.0)]);
    check(r#"absent_over_time({app="none"}[1m])"#, &[(r#"{app="none"}"#, 1.0)]);
    check("1 + 1", &[("scalar", 2.0)]);
    let error = lab
        .metric(r#"sum_over_time({app="b"} | logfmt | unwrap bytes(size) [1m])"#, 60)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("pipeline error: 'SampleExtractionErr' for series: '{"),
        "{error}"
    );
    assert!(error.contains(r#"app="b""#), "{error}");
    // A sum without labels needs no fields, so a line that is no JSON is no error.
    check(r#"sum(count_over_time({app="a"} | json [1m]))"#, &[("{}", 2.0)]);
    assert!(lab.metric(r#"count_over_time({app="a"} | json [1m])"#, 60).is_err());
    assert!(lab.metric(r#"{app="a"}"#, 60).is_err());
}

#[test]
fn limits_say_which() {
    let lab = Lab::new();
    let rows: Vec<Row> = (0..600).map(|i| row("a", 1, &format!("n={i}"))).collect();
    lab.append(&rows);
    let error = lab
        .metric(r#"count_over_time({app="a"} | logfmt [1m])"#, 60)
        .unwrap_err();
    assert!(
        error.to_string().starts_with("maximum number of series (500) reached"),
        "{error}"
    );
    let stopped = context();
    stopped.cancel();
    let query = Query::parse(r#"{app="a"}"#).unwrap();
    let (from, to) = (TimestampNs(BASE), TimestampNs(BASE + 9 * SECOND));
    assert!(matches!(
        query.range(&stopped, &lab.logs, from, to, 0, OPTIONS),
        Err(EvalError::Exec(_))
    ));
}

#[test]
fn fields_are_detected_with_type_parser_and_path() {
    let lab = Lab::new();
    let mut json = row("a", 2, r#"{"resp":{"status":200},"took":"15ms","env":"line"}"#);
    json.3.push(("trace_id".into(), "abc".into()));
    lab.append(&[json, row("a", 1, "took=2s size=10kB ok=true msg=hi")]);
    let query = Query::parse(r#"{app="a"}"#).unwrap();
    let (from, to) = (TimestampNs(BASE), TimestampNs(BASE + 9 * SECOND));
    let fields = detected_fields(&context(), &lab.logs, &query, from, to, 100, 100).unwrap();
    let got: Vec<String> = fields
        .iter()
        .map(|f| {
            let (parsers, path) = (f.parsers.join("+"), f.json_path.join("."));
            format!(
                "{} {} {} [{parsers}] {path} {:?}",
                f.label, f.kind, f.cardinality, f.values
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            r#"env_extracted string 1 [json] env ["line"]"#,
            r#"msg string 1 [logfmt]  ["hi"]"#,
            r#"ok boolean 1 [logfmt]  ["true"]"#,
            r#"resp_status int 1 [json] resp.status ["200"]"#,
            r#"size bytes 1 [logfmt]  ["10kB"]"#,
            r#"took duration 2 [json+logfmt] took ["15ms", "2s"]"#,
            r#"trace_id string 1 []  ["abc"]"#,
        ]
    );
}

fn rows() -> impl Strategy<Value = Vec<(Row, bool)>> {
    let row = (
        prop::sample::select(&["a", "b", "c"][..]),
        0i64..60,
        "[xyz]{1,3} k=[pq]",
    );
    prop::collection::vec((row, prop::bool::weighted(0.05)), 0..60).prop_map(|rows| {
        // Lines differ, since an entry that is there already is not stored again.
        rows.into_iter()
            .enumerate()
            .map(|(i, ((app, t, line), cut))| (row_of(app, t, &format!("{line} n={i}")), cut))
            .collect()
    })
}

fn row_of(app: &'static str, t: i64, line: &str) -> Row {
    (app, t, line.to_owned(), Vec::new())
}

/// Rows with levels in their metadata or not, lines in logfmt (with newlines at times) or JSON, times in any order.
fn rows_with_metadata() -> impl Strategy<Value = Vec<(Row, bool)>> {
    let text = prop_oneof![
        "[xyz]{1,3} k=[pq]",
        "[xyz]{1,2}\nk=[pq]",
        r#"\{"a":"[xyz]","k":"[pq]","#
    ];
    let level = prop::option::of(prop::sample::select(&["info", "error"][..]));
    let row = (
        prop::sample::select(&["a", "b"][..]),
        0i64..60,
        text,
        level.clone(),
        level,
    );
    let row = row.prop_map(|(app, t, text, level, detected)| {
        let pair = |name: &str, v: Option<&str>| v.map(|v| (name.to_owned(), v.to_owned()));
        let metadata = [pair("detected_level", detected), pair("level", level)];
        (app, t, text, metadata.into_iter().flatten().collect())
    });
    prop::collection::vec((row, prop::bool::weighted(0.06)), 0..60).prop_map(|mut rows: Vec<(Row, bool)>| {
        for (i, ((_, _, line, _), _)) in rows.iter_mut().enumerate() {
            *line = match line.starts_with('{') {
                true => format!("{line}\"n\":{i}}}"),
                false => format!("{line} n={i}"),
            };
        }
        rows
    })
}

/// The number that ends a line.
fn number(line: &str) -> usize {
    let digits = line.trim_end_matches('}').rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|d| d.parse().ok()).unwrap_or(0)
}

proptest! {
    // Each case opens an engine.
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Early stops, waves and needle filters must not change what is answered: the model sorts everything.
    #[test]
    fn queries_agree_with_a_model(rows in rows(), limit in 1usize..20, from in 0i64..40, span in 1i64..60) {
        let lab = Lab::new();
        lab.append_and_cut(&rows);
        let rows: Vec<&Row> = rows.iter().map(|(row, _)| row).collect();
        let to = from + span;
        for (query, filter) in [
            (r#"{env="test"}"#, None),
            (r#"{env="test"} |= "x""#, Some("x")),
            (r#"{env="test"} | logfmt | k="p""#, Some("k=p")),
        ] {
            for direction in [Direction::Forward, Direction::Backward] {
                let mut want: Vec<(i64, &str, usize)> = rows
                    .iter()
                    .enumerate()
                    .filter(|(_, r)| (from..to).contains(&r.1) && filter.is_none_or(|f| r.2.contains(f)))
                    .map(|(i, r)| (r.1, r.0, i))
                    .collect();
                want.sort_by_key(|(t, app, i)| match direction {
                    Direction::Forward => (*t, *app, *i as i64),
                    Direction::Backward => (-t, *app, -(*i as i64)),
                });
                want.truncate(limit);
                want.sort_by_key(|w| w.1);
                let want: Vec<String> =
                    want.iter().map(|(t, app, i)| format!("{app}@{t} {}", rows[*i].2)).collect();
                prop_assert_eq!(lab.log(query, from, to, limit, direction), want, "{} {:?}", query, direction);
            }
        }
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for r in rows.iter().filter(|r| r.1 > to - 30 && r.1 <= to) {
            let k = &r.2[r.2.find("k=").unwrap() + 2..][..1];
            *counts.entry(LabelSet::from_pairs([("app", r.0), ("k", k)]).to_string()).or_default() += 1.0;
        }
        let got = lab.metric(r#"sum by (app, k) (count_over_time({env="test"} | logfmt [30s]))"#, to).unwrap();
        prop_assert_eq!(&got, &counts);
        // Without the short cut of summing on the way.
        let slow = lab.metric(r#"sum by (app, k) (count_over_time({env="test"} | logfmt [30s]) + 0)"#, to).unwrap();
        prop_assert_eq!(&slow, &counts);
    }

    /// Reading only times, tallies and some metadata, and filtering whole blocks, must give what looking at every entry
    /// gives: the model does that.
    #[test]
    fn counts_agree_with_a_model(rows in rows_with_metadata(), from in 0i64..30, step in 1i64..20, range in 1i64..40, offset in 0i64..5) {
        let lab = Lab::new();
        lab.append_and_cut(&rows);
        for (stages, filter) in [
            ("", &(|_: &str| true) as &dyn Fn(&str) -> bool),
            (r#"|= "x""#, &|l| l.contains('x')),
            (r#"|= "x" != "q""#, &|l| l.contains('x') && !l.contains('q')),
            (r#"!= "yz""#, &|l| !l.contains("yz")),
            (r#"|= "z\nk" or "xx""#, &|l| l.contains("z\nk") || l.contains("xx")),
            (r#"|~ "x.*k=p" !~ "y|n=1""#, &|l| {
                l.find('x').is_some_and(|at| l[at..].split('\n').next().unwrap().contains("k=p")
                    || l.match_indices('x').any(|(at, _)| l[at..].split('\n').next().unwrap().contains("k=p")))
                    && !l.contains('y') && !l.contains("n=1")
            }),
        ] {
            for (by, names) in [("", &[][..]), ("app", &["app"]), ("level, detected_level", &["detected_level", "level"])] {
                for bytes in [false, true] {
                    let op = if bytes { "bytes_over_time" } else { "count_over_time" };
                    let query = format!(r#"sum by ({by}) ({op}({{env="test"}} {stages} [{range}s] offset {offset}s))"#);
                    let mut want: BTreeMap<(String, i64), f64> = BTreeMap::new();
                    for r in rows.iter().map(|(r, _)| r).filter(|r| filter(&r.2)) {
                        let pairs = std::iter::once(("app", r.0)).chain(r.3.iter().map(|(n, v)| (n.as_str(), v.as_str())));
                        let labels = LabelSet::from_pairs(pairs.filter(|(n, _)| names.contains(n))).to_string();
                        for at in (from..=60).step_by(step as usize).filter(|at| r.1 > at - offset - range && r.1 <= at - offset) {
                            *want.entry((labels.clone(), at)).or_default() += if bytes { r.2.len() as f64 } else { 1.0 };
                        }
                    }
                    prop_assert_eq!(lab.matrix(&query, from, 60, step), want, "{}", query);
                }
            }
        }
    }

    /// What the newest and the oldest entries are must not depend on where the search stops.
    #[test]
    fn searches_agree_with_a_model(rows in rows_with_metadata(), limit in 1usize..12) {
        let lab = Lab::new();
        lab.append_and_cut(&rows);
        for (stages, filter) in [
            ("", &(|_: &Row| true) as &dyn Fn(&Row) -> bool),
            (r#"|= "x" != "q""#, &|r| r.2.contains('x') && !r.2.contains('q')),
            (r#"| logfmt | k="p""#, &|r| r.2.contains("k=p")),
            (r#"| json | k="p" | n > 5"#, &|r| r.2.starts_with('{') && r.2.contains("\"p\"") && number(&r.2) > 5),
            (r#"| json | n > 5 | level != "info""#, &|r| {
                r.2.starts_with('{') && number(&r.2) > 5 && !r.3.iter().any(|(n, v)| n == "level" && v == "info")
            }),
            (r#"| json | __error__!="" "#, &|r| !r.2.starts_with('{')),
        ] {
            for direction in [Direction::Forward, Direction::Backward] {
                let mut want: Vec<(i64, &str, usize)> = rows.iter().enumerate()
                    .filter(|(_, (r, _))| filter(r))
                    .map(|(i, (r, _))| (r.1, r.0, i))
                    .collect();
                want.sort_by_key(|(t, app, i)| match direction {
                    Direction::Forward => (*t, *app, *i as i64),
                    Direction::Backward => (-t, *app, -(*i as i64)),
                });
                want.truncate(limit);
                let mut want: Vec<String> = want.iter().map(|(t, app, i)| format!("{app}@{t} {}", rows[*i].0.2)).collect();
                let mut got = lab.log(&format!(r#"{{env="test"}} {stages}"#), 0, 60, limit, direction);
                want.sort();
                got.sort();
                prop_assert_eq!(got, want, "{} {:?}", stages, direction);
            }
        }
    }
}

/// Lines in which a value stands plainly, escaped, in part or not at all.
fn line_with_values() -> impl Strategy<Value = String> {
    let value = r#"u-17|u-1|\\\\u0075-17|u\\\\u002d17|u-170|é|7"#;
    let key = "k|a_k|env|m";
    prop_oneof![
        (key, value, key, value).prop_map(|(k, v, l, w)| format!(r#"{{"{k}":"{v}","a":{{"{l}":"{w}"}}}}"#)),
        (key, value, key, value).prop_map(|(k, v, l, w)| format!(r#"{k}={v} {l}="{w}""#)),
        value.prop_map(|v| format!("broken {{\"k\":\"{v}\"")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Passing lines over before they are parsed must not lose any: live tail parses each, and finds the same.
    #[test]
    fn filters_on_parsed_labels_lose_nothing(
        rows in proptest::collection::vec((line_with_values(), proptest::option::of(("k|k_extracted|m", "u-17|x"))), 1..40),
    ) {
        let lab = Lab::new();
        let rows: Vec<Row> = rows
            .into_iter()
            .enumerate()
            .map(|(i, (line, metadata))| ("a", i as i64, line, Vec::from_iter(metadata)))
            .collect();
        lab.append(&rows);
        let labels = LabelSet::from_pairs([("app", "a"), ("env", "test")]);
        for query in [
            r#"{app="a"} | json | k="u-17""#,
            r#"{app="a"} |= "u" | json | logfmt | k="u-17" or a_k="7""#,
            r#"{app="a"} | logfmt | k="u-17" | json | a_k="u-17""#,
            r#"{app="a"} | json | k_extracted="u-17""#,
            r#"{app="a"} | json x="a.k" | x="u-17", k!="""#,
            r#"{app="a"} | json | env="test""#,
            r#"{app="a"} | json | __error__="JSONParserErr""#,
            r#"{app="a"} | regexp "(?P<k>u.17)" | k="u-17""#,
        ] {
            let parsed = Query::parse(query).unwrap();
            let passes = |(_, t, line, metadata): &&Row| {
                let entry = model::Entry {
                    t: TimestampNs(BASE + t * SECOND),
                    line: line.clone(),
                    metadata: metadata.clone(),
                };
                parsed.process(&labels, &entry).is_some()
            };
            let want: Vec<String> = rows.iter().filter(passes).map(|(_, t, line, _)| format!("{t} {line}")).collect();
            let mut found: Vec<(i64, String)> = Vec::new();
            for text in lab.log(query, 0, 100, 1000, Direction::Forward) {
                let (_, rest) = text.split_once('@').unwrap();
                let (t, line) = rest.split_once(' ').unwrap();
                found.push((t.parse().unwrap(), line.to_owned()));
            }
            found.sort();
            let found: Vec<String> = found.into_iter().map(|(t, line)| format!("{t} {line}")).collect();
            prop_assert_eq!(found, want, "{}", query);
        }
    }
}
