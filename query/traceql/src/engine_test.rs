//! The language on the real engine: what a user sees in answers, and the law that pushdown changes nothing.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Scope, Span, SpanBatch, SpanId, SpanKind, StatusCode, TimeRangeNs,
    TimestampNs, TraceId,
};
use proptest::prelude::*;
use query_exec::{Context, Limits};
use storage_budget::Budget;
use storage_catalogue::Catalogue;
use storage_disk::Disk;
use storage_traces::{Options, Parts, ScanRequest, Traces};
use storage_wal::SyncMode;

use crate::counting::Counting;
use crate::intervals::Intervals;
use crate::metrics::{Groups, MetricsPlan};
use crate::plan::Plan;
use crate::syntax::Body;
use crate::{
    MetricSeries, MetricsOutput, Query, SearchOptions, SearchOutput, TagName, check, parse, search, tag_names,
    tag_values,
};

const SECOND: i64 = 1_000_000_000;
/// A round hour of the past, so that steps of the tests lie well.
const BASE: i64 = 1_790_000_000 / 3_600 * 3_600 * SECOND;

fn context() -> Context {
    Context::new(
        Duration::from_secs(60),
        Limits {
            samples_max: 1_000_000,
            series_max: 10_000,
            bytes_max: u64::MAX,
        },
    )
}

fn engine(spans: Vec<Span>) -> (Traces, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::real();
    let (catalogue, _) = Catalogue::open(disk.clone(), dir.path()).unwrap();
    let parts = Parts {
        disk,
        catalogue,
        budget: Budget::new(1 << 30),
        dir: dir.path().join("traces"),
        wal: storage_wal::Options {
            sync: SyncMode::Never,
            segment_bytes: 1 << 20,
        },
    };
    let options = Options {
        retention_ns: 86_400 * SECOND,
        ahead_ns: 600 * SECOND,
    };
    let (traces, _) = Traces::open(parts, options).unwrap();
    append(&traces, spans);
    (traces, dir)
}

fn append(traces: &Traces, spans: Vec<Span>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let now = TimestampNs(BASE + 600 * SECOND);
    let appended = runtime.block_on(traces.append(SpanBatch { spans }, now)).unwrap();
    assert_eq!(appended.too_old + appended.too_new, 0);
}

fn kv(key: &str, value: impl Into<AttributeValue>) -> KeyValue {
    KeyValue::new(key, value.into())
}

fn service(name: &str) -> Arc<Resource> {
    Arc::new(Resource {
        attributes: vec![kv("service.name", name), kv("region", "eu")],
        ..Resource::default()
    })
}

struct At {
    trace: u128,
    id: u64,
    parent: u64,
    start_s: i64,
    ms: i64,
}

fn span(at: At, name: &str, kind: SpanKind, resource: &Arc<Resource>, attributes: Vec<KeyValue>) -> Span {
    let start = BASE + at.start_s * SECOND;
    Span {
        trace_id: TraceId(at.trace),
        span_id: SpanId(at.id),
        parent_span_id: (at.parent != 0).then_some(SpanId(at.parent)),
        name: name.to_owned(),
        kind,
        start: TimestampNs(start),
        end: TimestampNs(start + at.ms * 1_000_000),
        attributes,
        resource: resource.clone(),
        ..Span::default()
    }
}

/// Two shops and a half: a request with a failing database call, one that is well, and one whose root is missing.
fn shop() -> Vec<Span> {
    use SpanKind::{Client, Internal, Server};
    let (front, back) = (service("frontend"), service("flask-backend"));
    let at = |trace, id, parent, start_s, ms| At {
        trace,
        id,
        parent,
        start_s,
        ms,
    };
    let mut failing = span(
        at(1, 3, 2, 12, 300),
        "SELECT",
        Client,
        &back,
        vec![kv("db.system", "postgresql"), kv("rows", 7)],
    );
    failing.status = StatusCode::Error;
    failing.status_message = "deadlock".to_owned();
    failing.events = vec![
        Event {
            t: TimestampNs(failing.start.0 + 1_000_000),
            name: "exception".to_owned(),
            attributes: vec![kv("exception.type", "OperationalError")],
            dropped_attributes: 0,
        },
        Event {
            t: TimestampNs(failing.start.0 + 2_000_000),
            name: "retry".to_owned(),
            ..Event::default()
        },
    ];
    let mut linked = span(at(2, 2, 1, 21, 20), "render", Internal, &back, vec![]);
    linked.links = vec![Link {
        trace_id: TraceId(1),
        span_id: SpanId(3),
        ..Link::default()
    }];
    linked.scope = Arc::new(Scope {
        name: "flask".to_owned(),
        version: "3.1".to_owned(),
        ..Scope::default()
    });
    vec![
        span(
            at(1, 1, 0, 10, 3_000),
            "GET /cart",
            Server,
            &front,
            vec![kv("http.status_code", 500)],
        ),
        span(
            at(1, 2, 1, 11, 1_500),
            "POST /pay",
            Server,
            &back,
            vec![kv("http.status_code", 500)],
        ),
        failing,
        span(
            at(2, 1, 0, 20, 100),
            "GET /",
            Server,
            &front,
            vec![kv("http.status_code", 200)],
        ),
        linked,
        span(
            at(3, 2, 9, 30, 50),
            "job",
            Internal,
            &back,
            vec![kv("rows", AttributeValue::Double(2.5))],
        ),
    ]
}

/// The same spans in the head, and in a block.
static SHOPS: LazyLock<[(Traces, tempfile::TempDir); 2]> = LazyLock::new(|| {
    let (head, block) = (engine(shop()), engine(shop()));
    assert_eq!(block.0.cut().unwrap().len(), 1);
    [head, block]
});

fn everything() -> SearchOptions {
    SearchOptions {
        range: TimeRangeNs {
            start: TimestampNs(BASE),
            end: TimestampNs(BASE + 100 * SECOND),
        },
        limit: 20,
        spans_per_spanset: 10,
        min_duration_ns: None,
        max_duration_ns: None,
    }
}

/// Found traces as `trace: spans of the first spanset; ...`.
fn told(output: &SearchOutput) -> String {
    let traces = output.traces.iter().map(|trace| {
        let spans = trace.spansets.iter().map(|set| {
            let ids: Vec<String> = set.spans.iter().map(|s| s.span_id.0.to_string()).collect();
            ids.join(" ")
        });
        format!("{}: {}", trace.trace_id.0, spans.collect::<Vec<_>>().join(" / "))
    });
    traces.collect::<Vec<_>>().join("; ")
}

fn check_search(query: &str, want: &str) {
    for (traces, _) in SHOPS.iter() {
        let output = Query::parse(query)
            .unwrap()
            .search(&context(), traces, &everything())
            .unwrap();
        assert_eq!(told(&output), want, "{query}");
    }
}

#[test]
fn filters_find_spans() {
    check_search("{}", "3: 2; 2: 1 2; 1: 1 2 3");
    check_search("{ false }", "");
    check_search("{ status = error }", "1: 3");
    check_search("{ name = `SELECT` }", "1: 3");
    check_search("{ span:name =~ `GET.*` }", "2: 1; 1: 1");
    check_search("{ .http.status_code = 500 && kind = server }", "1: 1 2");
    check_search("{ span.http.status_code != 500 }", "2: 1");
    check_search("{ !(span.http.status_code = 500) }", "3: 2; 2: 1 2; 1: 3");
    check_search("{ span.http.status_code = nil }", "3: 2; 2: 2; 1: 3");
    check_search("{ rows > 2 }".replace("rows", ".rows").as_str(), "3: 2; 1: 3");
    check_search("{ duration > 1s }", "1: 1 2");
    check_search("{ traceDuration >= 3s && name = `SELECT` }", "1: 3");
    check_search(
        "{ resource.service.name = `frontend` || .db.system != nil }",
        "2: 1; 1: 1 3",
    );
    check_search("{ statusMessage = `deadlock` }", "1: 3");
    check_search("{ rootName = `GET /` }", "2: 1 2");
    check_search("{ trace:rootService = `frontend` && duration < 50ms }", "2: 2");
    check_search("{ event:name = `retry` }", "1: 3");
    check_search("{ event.exception.type =~ `Oper.*` }", "1: 3");
    check_search("{ event:timeSinceStart > 1ms }", "1: 3");
    check_search("{ link:traceID = `1` }", "2: 2");
    check_search("{ instrumentation:name = `flask` }", "2: 2");
    check_search("{ trace:id = `0002` }", "2: 1 2");
    check_search("{ span:id = `2` }", "3: 2; 2: 2; 1: 2");
    check_search("{ span:parentID = `0000000000000009` }", "3: 2");
    check_search("{ span:childCount = 1 }", "2: 1; 1: 1 2");
    check_search("{ nestedSetParent < 0 }", "2: 1; 1: 1");
    check_search("{ nestedSetLeft = 0 }", "3: 2");
}

#[test]
fn spansets_combine() {
    check_search("{ status = error } && { name = `GET /cart` }", "1: 1 3");
    check_search("{ status = error } || { name = `GET /` }", "2: 1; 1: 3");
    check_search("{ kind = server } > { kind = client }", "1: 3");
    check_search("{ name = `GET /cart` } >> { }", "1: 2 3");
    check_search("{ kind = client } << { .http.status_code = 500 }", "1: 1 2");
    check_search("{ kind = client } < { }", "1: 2");
    check_search("{ } !> { kind != server }", "3: 2");
    check_search("{ kind = server } &> { kind = client }", "1: 2 3");
    check_search("{ nestedSetParent < 0 } >> { status = error }", "1: 3");
    check_search("{ kind = server } | count() > 1", "1: 1 2");
    check_search("{ kind = server } | avg(duration) < 1s", "2: 1");
    check_search("{ } | by(resource.service.name)", "3: 2; 2: 1 / 2; 1: 1 / 2 3");
    check_search("{ } | by(resource.service.name) | count() > 1", "1: 2 3");
    check_search("{ } | by(resource.service.name) | coalesce() | count() > 2", "1: 1 2 3");
    check_search("max(duration) > 1s | { status = error }", "1: 3");
}

#[test]
fn a_search_tells_what_the_query_looks_at() {
    let query =
        Query::parse("{ status = error } | select(name, resource.service.name, event:name, nestedSetLeft)").unwrap();
    for (traces, _) in SHOPS.iter() {
        let output = query.search(&context(), traces, &everything()).unwrap();
        let trace = &output.traces[0];
        assert_eq!(
            (trace.root_service.as_str(), trace.root_name.as_str()),
            ("frontend", "GET /cart")
        );
        assert_eq!((trace.start.0, trace.duration_ns), (BASE + 10 * SECOND, 3_000_000_000));
        let services: Vec<_> = trace
            .services
            .iter()
            .map(|s| (s.service.as_str(), s.spans, s.errors))
            .collect();
        assert_eq!(services, [("flask-backend", 2, 1), ("frontend", 1, 0)]);
        let span = &trace.spansets[0].spans[0];
        assert_eq!((span.name.as_str(), span.duration_ns), ("SELECT", 300_000_000));
        let want: Vec<(String, AttributeValue)> = [
            ("status", "error".into()),
            ("service.name", "flask-backend".into()),
            ("event:name", "retry".into()),
            ("nestedSetLeft", AttributeValue::Int(3)),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        assert_eq!(span.attributes, want);
        let lost = Query::parse("{ name = `job` }")
            .unwrap()
            .search(&context(), traces, &everything())
            .unwrap();
        assert_eq!(lost.traces[0].root_service, "<root span not yet received>");
    }
}

#[test]
fn limits_keep_the_newest() {
    for (traces, _) in SHOPS.iter() {
        let check = |options: SearchOptions, want: &str| {
            let output = Query::parse("{}")
                .unwrap()
                .search(&context(), traces, &options)
                .unwrap();
            assert_eq!(told(&output), want);
        };
        let all = everything();
        check(
            SearchOptions {
                limit: 1,
                ..all.clone()
            },
            "3: 2",
        );
        check(
            SearchOptions {
                limit: 0,
                ..all.clone()
            },
            "",
        );
        check(
            SearchOptions {
                min_duration_ns: Some(900_000_000),
                max_duration_ns: Some(1_100_000_000),
                ..all.clone()
            },
            "2: 1 2",
        );
        check(
            SearchOptions {
                spans_per_spanset: 1,
                ..all
            },
            "3: 2; 2: 1; 1: 1",
        );
    }
}

#[test]
fn tags_find_traces() {
    for (traces, _) in SHOPS.iter() {
        let check = |tags: &str, want: &[u128]| {
            let output = Query::from_tags(tags)
                .unwrap()
                .search(&context(), traces, &everything())
                .unwrap();
            let got: Vec<u128> = output.traces.iter().map(|t| t.trace_id.0).collect();
            assert_eq!(got, want, "{tags}");
        };
        check("", &[3, 2, 1]);
        check("service.name=flask-backend", &[3, 2, 1]);
        check("service.name=flask db.system=postgresql", &[1]);
        // Names, services and statuses may be another span's; attributes are of one resource.
        check("service.name=frontend db.system=postgresql", &[1]);
        check("http.status_code=200", &[2]);
        check(r#"name="GET /cart""#, &[1]);
        check("error=true", &[1]);
        check("status.code=error", &[1]);
        check("root.service.name=front name=render", &[2]);
    }
}

/// Series as `{labels} points`, times in seconds from the base.
fn series(output: &MetricsOutput) -> Vec<String> {
    let one = |s: &crate::MetricSeries| {
        let points = s.points.iter().map(|(t, v)| format!("{}={v}", (t.0 - BASE) / SECOND));
        format!("{} {}", s.prom_labels, points.collect::<Vec<_>>().join(" "))
    };
    output.series.iter().map(one).collect()
}

fn check_metrics(query: &str, want: &[&str]) {
    let range = TimeRangeNs {
        start: TimestampNs(BASE + 10 * SECOND),
        end: TimestampNs(BASE + 30 * SECOND),
    };
    for (traces, _) in SHOPS.iter() {
        let output = Query::parse(query)
            .unwrap()
            .metrics_range(&context(), traces, range, 10 * SECOND, 10)
            .unwrap();
        assert_eq!(series(&output), want, "{query}");
    }
}

/// Exemplars as `{series labels} value@seconds {labels}`.
fn check_exemplars(query: &str, asked: usize, want: &[&str]) {
    let range = TimeRangeNs {
        start: TimestampNs(BASE + 10 * SECOND),
        end: TimestampNs(BASE + 30 * SECOND),
    };
    for (traces, _) in SHOPS.iter() {
        let query = Query::parse(query).unwrap();
        let output = query
            .metrics_range(&context(), traces, range, 10 * SECOND, asked)
            .unwrap();
        let got = output.series.iter().flat_map(|s| {
            s.exemplars.iter().map(|e| {
                assert_eq!(e.labels[0].0, "trace:id");
                let labels: Vec<String> = e.labels[1..].iter().map(|(k, v)| format!("{k}={v:?}")).collect();
                let seconds = (e.t.0 - BASE) as f64 / SECOND as f64;
                format!("{} {}@{seconds} {}", s.prom_labels, e.value, labels.join(","))
            })
        });
        assert_eq!(got.collect::<Vec<_>>(), want);
    }
}

#[test]
fn exemplars_stand_behind_samples() {
    check_exemplars("{ name = `job` } | rate() with(exemplars=false)", 100, &[]);
    check_exemplars("{ name = `job` } | rate()", 0, &[]);
    check_exemplars(
        "{ name = `job` } | rate()",
        100,
        &[r#"{__name__="rate"} 0.1@30 name=Str("job")"#],
    );
    check_exemplars(
        "{ name = `job` } | max_over_time(duration) by (resource.service.name) with(exemplars=true)",
        0,
        &[
            r#"{resource.service.name="flask-backend"} 0.05@30 name=Str("job"),resource.service.name=Str("flask-backend"),duration=Str("50ms")"#,
        ],
    );
    check_exemplars(
        "{ name = `job` } | histogram_over_time(duration)",
        100,
        &[r#"{__bucket="0.067108864"} 1@30 name=Str("job"),duration=Str("50ms")"#],
    );
    check_exemplars(
        "{ name = `job` } | quantile_over_time(duration, 0.5, 1)",
        100,
        &[r#"{p="0.5"} 0.05@30 name=Str("job"),duration=Str("50ms")"#],
    );
    // Nothing is left of the point.
    check_exemplars("{ name = `job` } | rate() > 5", 100, &[]);
}

#[test]
fn exemplars_of_a_comparison_hang_on_the_names_totals() {
    let range = everything().range;
    for (traces, _) in SHOPS.iter() {
        let query = Query::parse("{ } | compare({ status = error })").unwrap();
        let output = query
            .metrics_range(&context(), traces, range, 10 * SECOND, 100)
            .unwrap();
        let with = output.series.iter().filter(|s| !s.exemplars.is_empty());
        let told = |s: &MetricSeries| {
            let labels: Vec<String> = s.labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
            format!("{} {}", labels.join(","), s.exemplars.len())
        };
        let told: Vec<String> = with.map(told).collect();
        let want = [
            r#"__meta_type=Str("baseline_total"),name=Str("nil") 4"#,
            r#"__meta_type=Str("selection_total"),name=Str("nil") 1"#,
        ];
        assert_eq!(told, want);
        for exemplar in output.series.iter().flat_map(|s| &s.exemplars) {
            assert_eq!(exemplar.labels[0].0, "trace:id");
            assert!(exemplar.labels.iter().any(|(name, _)| name == "resource.service.name"));
            assert!(exemplar.value > 0.0);
        }
    }
}

/// Whoever asks for traces by their ids pays for those traces.
#[test]
fn conditions_on_ids_read_those_traces_alone() {
    for (traces, _) in SHOPS.iter() {
        let all = Query::parse("{}")
            .unwrap()
            .search(&context(), traces, &everything())
            .unwrap();
        let ids: Vec<TraceId> = all.traces.iter().map(|t| t.trace_id).collect();
        let (a, b) = (ids[0], ids[1]);
        for (query, want) in [
            (format!(r#"{{ trace:id = "{a}" }}"#), vec![a]),
            (format!(r#"{{ "{a}" = trace:id && name != nil }}"#), vec![a]),
            (
                format!(r#"{{ trace:id = "{}" }}"#, a.to_string().trim_start_matches('0')),
                vec![a],
            ),
            (format!(r#"{{ trace:id = "{b}" || trace:id = "{a}" }}"#), vec![a, b]),
            (
                format!(r#"{{ trace:id = "{a}" }} || {{ trace:id = "{b}" }}"#),
                vec![a, b],
            ),
            (format!(r#"{{ trace:id = "{a}" }} && {{ trace:id = "{b}" }}"#), vec![]),
            (format!(r#"{{}} !> {{ trace:id = "{a}" && name = `none` }}"#), vec![]),
            (
                format!(r#"{{ trace:id = "{a}" }} | {{ name != nil }} | count() > 0"#),
                vec![a],
            ),
            (r#"{ trace:id = "nonsense" }"#.to_owned(), vec![]),
        ] {
            let output = Query::parse(&query)
                .unwrap()
                .search(&context(), traces, &everything())
                .unwrap();
            let got: Vec<TraceId> = output.traces.iter().map(|t| t.trace_id).collect();
            assert_eq!(got, want, "{query}");
            assert!(output.inspected_traces <= 2, "{query}: {}", output.inspected_traces);
        }
        // Ids of spans are a column that tells the traces to look at.
        let of_span = &all.traces[0].spansets[0].spans[0];
        let query = format!(r#"{{ span:id = "{}" }}"#, of_span.span_id);
        let output = Query::parse(&query)
            .unwrap()
            .search(&context(), traces, &everything())
            .unwrap();
        assert!(output.traces.iter().any(|t| t.trace_id == a), "{query}");
        assert_eq!(output.inspected_traces, output.traces.len() as u64, "{query}");
        // Where another alternative has no id, all must be looked at.
        let query = format!(r#"{{ trace:id = "{a}" || name != nil }}"#);
        let output = Query::parse(&query)
            .unwrap()
            .search(&context(), traces, &everything())
            .unwrap();
        assert_eq!(output.traces.len(), ids.len());
        let counted = format!(r#"{{ trace:id = "{a}" }} | count_over_time() by(trace:id)"#);
        let counted = Query::parse(&counted).unwrap();
        let output = counted.metrics_instant(&context(), traces, everything().range).unwrap();
        assert_eq!(output.series.len(), 1);
    }
}

/// The same question costs the same, and says so.
#[test]
fn figures_of_what_was_looked_at_repeat() {
    for (traces, _) in SHOPS.iter() {
        for text in [
            "{}",
            "{ status = error }",
            "{ .http.status_code = 500 } << {}",
            "{ name = `none` }",
        ] {
            let query = Query::parse(text).unwrap();
            let ask = || {
                let mut output = query.search(&context(), traces, &everything()).unwrap();
                output.traces.clear();
                output
            };
            let first = ask();
            (0..5).for_each(|_| assert_eq!(ask(), first, "{text}"));
        }
        for text in [
            "{} | rate() by(name)",
            "{} | compare({ status = error })",
            "{ status = error } | rate()",
        ] {
            let query = Query::parse(text).unwrap();
            let ask = || query.metrics_instant(&context(), traces, everything().range).unwrap();
            let first = ask();
            (0..5).for_each(|_| assert_eq!(ask(), first, "{text}"));
        }
    }
}

#[test]
fn metrics_count_spans_by_their_start() {
    check_metrics(
        "{} | count_over_time()",
        &[r#"{__name__="count_over_time"} 10=1 20=3 30=2"#],
    );
    check_metrics("{} | rate()", &[r#"{__name__="rate"} 10=0.1 20=0.3 30=0.2"#]);
    check_metrics(
        "{ } | count_over_time() by (resource.service.name)",
        &[
            r#"{resource.service.name="flask-backend"} 10=0 20=2 30=2"#,
            r#"{resource.service.name="frontend"} 10=1 20=1 30=0"#,
        ],
    );
    check_metrics(
        "{ } | count_over_time() by (span.db.system, status)",
        &[
            r#"{status="unset"} 10=1 20=2 30=2"#,
            r#"{span.db.system="postgresql", status="error"} 10=0 20=1 30=0"#,
        ],
    );
    check_metrics(
        "{ } | count_over_time() by (span.db.system)",
        &[
            r#"{span.db.system="nil"} 10=1 20=2 30=2"#,
            r#"{span.db.system="postgresql"} 10=0 20=1 30=0"#,
        ],
    );
    check_metrics(
        "{ } | max_over_time(duration)",
        &[r#"{__name__="max_over_time"} 10=3 20=1.5 30=0.05"#],
    );
    check_metrics(
        "{ } | sum_over_time(.rows)",
        &[r#"{__name__="sum_over_time"} 20=7 30=2.5"#],
    );
    check_metrics(
        "{ } | avg_over_time(span.rows) | topk(1)",
        &[r#"{__name__="avg_over_time"} 20=7 30=2.5"#],
    );
    check_metrics("{ } | min_over_time(name)", &[]);
    check_metrics("{ false } | rate()", &[]);
    check_metrics(
        "{ kind = server } > { kind = client } | count_over_time()",
        &[r#"{__name__="count_over_time"} 10=0 20=1 30=0"#],
    );
    check_metrics(
        "{} | count_over_time() > 1",
        &[r#"{__name__="count_over_time"} 20=3 30=2"#],
    );
    check_metrics(
        "({ status = error } | count_over_time()) / ({} | count_over_time())",
        &[r#"{__name__="(count_over_time / count_over_time)"} 10=0 20=0.3333333333333333 30=0"#],
    );
    check_metrics(
        "{ name = `job` } | histogram_over_time(duration)",
        &[r#"{__bucket="0.067108864"} 10=0 20=0 30=1"#],
    );
    check_metrics(
        "{ name = `job` } | quantile_over_time(duration, 1)",
        &[r#"{p="1"} 10=0 20=0 30=0.067108864"#],
    );
}

#[test]
fn compare_sets_a_selection_against_the_rest() {
    let query = Query::parse("{ } | compare({ status = error }, 1)").unwrap();
    let range = everything().range;
    for (traces, _) in SHOPS.iter() {
        let output = query.metrics_instant(&context(), traces, range).unwrap();
        let told = series(&output);
        for want in [
            r#"{__meta_type="baseline", name="GET /"} 100=1"#,
            r#"{__meta_type="selection", name="SELECT"} 100=1"#,
            r#"{__meta_type="baseline_total", name="nil"} 100=5"#,
            r#"{__meta_type="selection", span.db.system="postgresql"} 100=1"#,
            r#"{__meta_type="baseline", resource.service.name="flask-backend"} 100=3"#,
        ] {
            assert!(told.iter().any(|s| s == want), "{want}: {told:#?}");
        }
    }
}

#[test]
fn tags_are_listed() {
    for (traces, _) in SHOPS.iter() {
        let check = |tag: &str, filter: Option<&str>, want: &[&str]| {
            let bare = ["service.name", "http.status_code", "status.code", "nothing"].contains(&tag);
            let name = match bare {
                true => TagName::Bare(tag.to_owned()),
                false => TagName::Identifier(tag.to_owned()),
            };
            let got = tag_values(&context(), traces, everything().range, &name, filter, 100).unwrap();
            let got: Vec<String> = got.iter().map(|v| crate::value::Value::of(v).to_text()).collect();
            assert_eq!(got, want, "{tag} {filter:?}");
        };
        check("resource.service.name", None, &["flask-backend", "frontend"]);
        check("service.name", None, &["flask-backend", "frontend"]);
        check("http.status_code", None, &["200", "500"]);
        check(".http.status_code", Some("{ name = `GET /` && .x = }"), &["200"]);
        check(
            "name",
            Some("{ resource.service.name = `frontend` }"),
            &["GET /", "GET /cart"],
        );
        check("span:name", Some("{ status = error"), &["SELECT"]);
        check("status", None, &["error", "ok", "unset"]);
        check("rootServiceName", None, &["", "frontend"]);
        check("event:name", None, &["exception", "retry"]);
        check("event.exception.type", None, &["OperationalError"]);
        check("duration", None, &[]);
        check("status.code", None, &["error", "ok", "unset"]);
        check("nothing", None, &[]);
        assert!(
            tag_values(
                &context(),
                traces,
                everything().range,
                &TagName::Identifier("{ .a }".into()),
                None,
                100
            )
            .is_err()
        );
        let names = tag_names(&context(), traces, everything().range, None, None).unwrap();
        assert!(names.iter().any(|(_, name)| name == "db.system"), "{names:?}");
        let of = |filter| {
            let names = tag_names(&context(), traces, everything().range, None, Some(filter)).unwrap();
            names.into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert!(!of("{ name = `GET /` }").contains(&"db.system".to_owned()));
        assert!(of("{ .db.system != nil && name = }").contains(&"db.system".to_owned()));
        assert!(of("{ name = `no such name` }").is_empty());
        assert_eq!(of("{ half-typed").len(), names.len());
    }
}

#[test]
fn a_stopped_query_says_so() {
    let stopped = context();
    stopped.cancel();
    let result = Query::parse("{}").unwrap().search(&stopped, &SHOPS[0].0, &everything());
    assert_eq!(
        result.unwrap_err().to_string(),
        "query was canceled in a scan of traces"
    );
    let few = Context::new(
        Duration::from_secs(60),
        Limits {
            samples_max: 1_000,
            series_max: 2,
            bytes_max: u64::MAX,
        },
    );
    let query = Query::parse("{} | rate() by (name)").unwrap();
    assert!(query.metrics_instant(&few, &SHOPS[0].0, everything().range).is_err());
}

/// Spans of all sorts: few keys and values, so that conditions meet them.
fn noise() -> Vec<Span> {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let resources = [service("a"), service("b"), Arc::new(Resource::default())];
    let mut out = Vec::new();
    for trace in 1..=60u128 {
        for id in 1..=1 + next(6) {
            let mut attributes = Vec::new();
            for key in ["a", "b", "region"] {
                let value = match next(9) {
                    0 => AttributeValue::Str("x".into()),
                    1 => AttributeValue::Str("y".into()),
                    2 => AttributeValue::Int(1),
                    3 => AttributeValue::Int(2),
                    4 => AttributeValue::Double(1.5),
                    5 => AttributeValue::Bool(true),
                    6 => AttributeValue::Array(vec![AttributeValue::Int(1), AttributeValue::Int(2)]),
                    7 => AttributeValue::Empty,
                    _ => continue,
                };
                attributes.push(KeyValue::new(key, value));
            }
            let at = At {
                trace,
                id,
                parent: next(id),
                start_s: next(60) as i64,
                ms: next(3_000) as i64,
            };
            let kind = SpanKind::from_number(next(6) as i32);
            let mut one = span(
                at,
                ["x", "y", "z"][next(3) as usize],
                kind,
                &resources[next(3) as usize],
                attributes,
            );
            one.status = StatusCode::from_number(next(3) as i32);
            if next(4) == 0 {
                one.events = vec![Event {
                    t: one.start,
                    name: "x".to_owned(),
                    attributes: vec![kv("a", 1)],
                    dropped_attributes: 0,
                }];
            }
            out.push(one);
        }
    }
    out
}

static NOISE: LazyLock<[(Traces, tempfile::TempDir); 2]> = LazyLock::new(|| {
    let (head, block) = (engine(noise()), engine(noise()));
    block.0.cut().unwrap();
    [head, block]
});

/// Noise in three blocks and the head, of which some traces lie in several: partly, and in copies that differ.
static SPREAD: LazyLock<(Traces, tempfile::TempDir)> = LazyLock::new(|| {
    let all = noise();
    let of = |part: u128| {
        let mine = all.iter().filter(|s| s.trace_id.0 % 3 == part);
        let late = all
            .iter()
            .filter(|s| s.trace_id.0 % 10 == 1 && u128::from(s.span_id.0 % 3) == part);
        let copies = all.iter().filter(|s| s.trace_id.0 % 17 == 2);
        let copies = copies.map(|s| Span {
            start: TimestampNs(s.start.0 + part as i64 * SECOND),
            attributes: vec![kv("a", part as i64)],
            ..s.clone()
        });
        let mine = mine.filter(|s| s.trace_id.0 % 10 != 1 && s.trace_id.0 % 17 != 2);
        mine.chain(late).cloned().chain(copies).collect::<Vec<Span>>()
    };
    let (traces, dir) = engine(of(0));
    for part in 1..3 {
        traces.cut().unwrap();
        append(&traces, of(part));
    }
    traces.cut().unwrap();
    append(&traces, all.into_iter().filter(|s| s.trace_id.0 % 29 == 0).collect());
    (traces, dir)
});

fn arbitrary_filter() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        ".a",
        ".b",
        "span.a",
        "resource.region",
        ".region",
        "resource.service.name",
        "event.a",
        "name",
        "duration",
        "status",
        "kind",
        "span.b",
        ".none",
        "nestedSetParent",
        "rootName",
    ]);
    let op = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">=", "=~", "!~"]);
    let value = prop::sample::select(vec![
        "`x`", "`eu`", "1", "2", "1.5", "true", "error", "server", "1s", "nil", "`x|a`", "0", ".b",
    ]);
    let leaf = prop_oneof![
        8 => (field, op, value).prop_map(|(f, o, v)| match v {
            "nil" if o != "!=" => format!("{f} = nil"),
            _ => format!("{f} {o} {v}"),
        }),
        1 => Just(".a".to_owned()),
        1 => Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn arbitrary_query() -> impl Strategy<Value = String> {
    let op = prop::sample::select(vec!["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!~", "&>>", "|"]);
    prop_oneof![
        3 => arbitrary_filter().prop_map(|a| format!("{{ {a} }}")),
        1 => (arbitrary_filter(), op, arbitrary_filter()).prop_map(|(a, op, b)| format!("{{ {a} }} {op} {{ {b} }}")),
    ]
}

/// Filters that look at each span for itself.
fn arbitrary_row_filter() -> impl Strategy<Value = String> {
    let whole = ["nestedSetParent", "rootName", "event.a"];
    arbitrary_filter().prop_filter("of traces", move |f| whole.iter().all(|w| !f.contains(w)))
}

fn arbitrary_function() -> impl Strategy<Value = String> {
    let function = prop::sample::select(vec![
        "rate()",
        "count_over_time()",
        "min_over_time(duration)",
        "max_over_time(.a)",
        "avg_over_time(span.b)",
        "sum_over_time(duration)",
        "quantile_over_time(duration, 0.5, 0.9)",
        "histogram_over_time(.b)",
    ]);
    let by = prop::sample::select(vec![
        "",
        " by (resource.service.name)",
        " by (name, .a)",
        " by (span.b, kind, status)",
        " by (.region, duration)",
        " by (.none)",
    ]);
    (function, by).prop_map(|(function, by)| format!("{function}{by}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is pushed down to storage, the answer is that of looking at every span in full.
    #[test]
    fn pushdown_changes_nothing(query in arbitrary_query()) {
        let tree = parse::parse(&query).unwrap();
        prop_assume!(check::check(&tree).is_ok());
        let Body::Spansets(pipeline) = &tree.body else { unreachable!() };
        let plan = Plan::of(pipeline);
        let options = SearchOptions { limit: 100, ..everything() };
        let full = ScanRequest { events: true, links: true, ..ScanRequest::default() };
        let want = search::search(&plan, &full, &context(), &NOISE[0].0, &options).unwrap().traces;
        for (traces, _) in NOISE.iter() {
            let got = Query::parse(&query).unwrap().search(&context(), traces, &options).unwrap().traces;
            prop_assert_eq!(&got, &want, "{}", query);
        }
    }

    /// Counting rows gives what counting in whole traces gives, exemplars and all, wherever spans lie.
    #[test]
    fn rows_count_as_traces_do(filter in arbitrary_row_filter(), function in arbitrary_function(), exemplars in 0..30usize) {
        let query = format!("{{ {filter} }} | {function}");
        let tree = parse::parse(&query).unwrap();
        prop_assume!(check::check(&tree).is_ok());
        let Body::Metrics(metrics) = &tree.body else { unreachable!() };
        let MetricsPlan::Function(plan) = MetricsPlan::of(metrics) else { unreachable!() };
        let intervals = Intervals::for_request(BASE, BASE + 50 * SECOND, 7 * SECOND);
        for traces in [&NOISE[0].0, &NOISE[1].0, &SPREAD.0] {
            let context = context();
            let Some(counting) = Counting::new(&plan, &context, traces, &intervals, exemplars) else { continue };
            let told = |groups: Groups| groups.told(&plan, &intervals);
            let want = told(counting.by_traces().unwrap().0);
            let got = told(counting.by_rows().unwrap().unwrap().0);
            prop_assert_eq!(got, want, "{}", query);
        }
    }
}
