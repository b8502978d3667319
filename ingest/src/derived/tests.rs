//! Pairing, bounds, names and labels, collected as the metrics engine gets them.

use std::sync::Arc;

use model::{
    AttributeValue, Event, KeyValue, LabelSet, Link, Resource, SampleBatch, Span, SpanId, SpanKind, StatusCode,
    TimestampNs, TraceId, is_stale,
};
use prost::Message;
use storage::Budget;

use super::Noted;
use super::protobuf_size::span_size;
use super::{Derived, DerivedMetrics, DerivedStats};

/// 2026-11-25T10:00:05Z.
const START_S: i64 = 1_795_600_805;

fn at(seconds: i64) -> TimestampNs {
    TimestampNs((START_S + seconds) * 1_000_000_000)
}

/// `service kind name ms key=value ..`, in trace 1, ended half a second after the start.
fn span(words: &str, id: u64, parent: u64) -> Span {
    let mut words = words.split(' ');
    let mut next = || words.next().unwrap().to_owned();
    let (service, kind, name) = (next(), next(), next());
    let ms: i64 = next().parse().unwrap();
    let mut span = Span {
        trace_id: TraceId(1),
        span_id: SpanId(id),
        parent_span_id: (parent != 0).then_some(SpanId(parent)),
        name,
        kind: match kind.as_str() {
            "client" => SpanKind::Client,
            "server" => SpanKind::Server,
            "producer" => SpanKind::Producer,
            "consumer" => SpanKind::Consumer,
            "internal" => SpanKind::Internal,
            _ => SpanKind::Unspecified,
        },
        start: TimestampNs(at(0).0 + 500_000_000 - ms * 1_000_000),
        end: TimestampNs(at(0).0 + 500_000_000),
        ..Span::default()
    };
    let mut resource = Resource::default();
    if service != "-" {
        resource
            .attributes
            .push(KeyValue::new("service.name", service.as_str().into()));
    }
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => match (key.strip_prefix("resource."), value.parse::<i64>()) {
                (Some(key), _) => resource.attributes.push(KeyValue::new(key, value.into())),
                (None, Ok(n)) => span.attributes.push(KeyValue::new(key, n.into())),
                (None, Err(_)) => span.attributes.push(KeyValue::new(key, value.into())),
            },
            None => span.status = StatusCode::Error,
        }
    }
    span.resource = Arc::new(resource);
    span
}

fn count(derived: &Derived, spans: &[Span], seconds: i64) {
    let mut noted = Noted::at(at(seconds));
    spans.iter().for_each(|span| derived.note(&mut noted, span));
    derived.count(&noted);
}

/// `name{label="value",..} value @seconds since start`, zeros and stale markers among them.
fn samples_of(batch: &SampleBatch) -> Vec<String> {
    let text = |ix| {
        let labels = LabelSet::from_encoded(batch.labels(ix).0).unwrap();
        let pairs = labels.iter().filter(|(n, _)| *n != "__name__");
        let pairs: Vec<String> = pairs.map(|(n, v)| format!("{n}={v:?}")).collect();
        format!("{}{{{}}}", labels.metric_name(), pairs.join(","))
    };
    let samples = batch.samples().iter().map(|(ix, s)| {
        let t = (s.t.0 - START_S * 1000) as f64 / 1000.0;
        match is_stale(s.v) {
            true => format!("{} stale @{t}", text(*ix)),
            false => format!("{} {} @{t}", text(*ix), s.v),
        }
    });
    let exemplars = batch.exemplars().iter().map(|(ix, e)| {
        let trace = e.labels.get("traceID").unwrap().trim_start_matches('0');
        format!("{} # {trace} {}", text(*ix), e.value)
    });
    samples.chain(exemplars).collect()
}

fn collected(derived: &Derived, seconds: i64) -> Vec<String> {
    let batches = derived.collect(at(seconds), false).into_iter().flatten();
    batches.flat_map(|batch| samples_of(&batch)).collect()
}

/// What the service graph counts of spans that come in this order, at these seconds, after all have expired:
/// `client -> server [connection type] failed? server seconds/client seconds`, sorted.
fn edges(spans: &[(i64, Span)]) -> (Vec<String>, DerivedStats) {
    let options = DerivedMetrics {
        span_metrics: false,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    for (seconds, span) in spans {
        derived.collect(at(*seconds), false);
        count(&derived, std::slice::from_ref(span), *seconds);
    }
    derived.collect(at(12), false);
    let lines = collected(&derived, 40);
    let value = |name: &str, labels: &str| {
        let start = format!("{name}{labels} ");
        let line = lines.iter().find(|l| l.starts_with(&start) && l.ends_with("@40"))?;
        line[start.len()..].split(' ').next().map(str::to_owned)
    };
    let mut out = Vec::new();
    for line in &lines {
        let Some(rest) = line.strip_prefix("traces_service_graph_request_total") else {
            continue;
        };
        let Some((labels, n)) = rest.rsplit_once("} ") else {
            continue;
        };
        let Some(n) = n.strip_suffix(" @40") else { continue };
        let labels = format!("{labels}}}");
        let failed = value("traces_service_graph_request_failed_total", &labels).map_or("", |_| " failed");
        let server = value("traces_service_graph_request_server_seconds_sum", &labels).unwrap();
        let client = value("traces_service_graph_request_client_seconds_sum", &labels).unwrap();
        out.push(format!("{labels} {n}{failed} {server}/{client}"));
    }
    out.sort();
    (out, derived.stats())
}

fn check_edges(spans: &[(i64, Span)], want: &[&str]) {
    assert_eq!(edges(spans).0, want);
}

#[test]
fn a_client_and_a_server_are_an_edge_in_either_order() {
    let (client, server) = (span("front client get 300", 1, 0), span("shop server get 200", 2, 1));
    let want = [r#"{client="front",server="shop"} 1 0.2/0.3"#];
    check_edges(&[(0, client.clone()), (0, server.clone())], &want);
    check_edges(&[(0, server.clone()), (0, client.clone())], &want);
    check_edges(&[(0, server.clone()), (9, client.clone())], &want);
    // Ten seconds are the wait; then the client, which names no peer, is unpaired, and so is the server in the end.
    let (late, stats) = edges(&[(0, client), (10, server)]);
    assert_eq!((late.len(), stats.unpaired, stats.open_edges), (0, 2, 0));
}

#[test]
fn either_side_s_error_fails_the_request() {
    let want = [r#"{client="front",server="shop"} 1 failed 0.2/0.3"#];
    check_edges(
        &[
            (0, span("front client get 300 error", 1, 0)),
            (0, span("shop server get 200", 2, 1)),
        ],
        &want,
    );
    check_edges(
        &[
            (0, span("front client get 300", 1, 0)),
            (0, span("shop server get 200 error", 2, 1)),
        ],
        &want,
    );
}

#[test]
fn queues_and_databases_say_their_connection_type() {
    check_edges(
        &[
            (0, span("front producer put 100", 1, 0)),
            (0, span("mail consumer take 200", 2, 1)),
        ],
        &[r#"{client="front",connection_type="messaging_system",server="mail"} 1 0.2/0.1"#],
    );
    for (attributes, name) in [
        ("db.system=redis", "redis"),
        ("db.system.name=postgresql db.namespace=orders", "orders"),
        ("db.name=orders server.address=db1", "db1"),
        ("db.name=orders network.peer.address=10.0.0.7", "10.0.0.7"),
        (
            "db.name=orders network.peer.address=10.0.0.7 network.peer.port=5432",
            "10.0.0.7:5432",
        ),
        ("db.name=orders server.address=db1 peer.service=main", "main"),
        ("resource.db.name=of-resource db.namespace=orders", "orders"),
        ("resource.db.namespace=of-resource db.namespace=orders", "of-resource"),
    ] {
        check_edges(
            &[(0, span(&format!("shop client select 250 {attributes}"), 1, 0))],
            &[&format!(
                r#"{{client="shop",connection_type="database",server={name:?}}} 1 0.25/0.25"#
            )],
        );
    }
}

#[test]
fn a_missing_side_is_a_virtual_node_where_something_is_known_of_it() {
    let check = |span: Span, want: &[&str]| check_edges(&[(0, span)], want);
    check(
        span("shop server get 200", 2, 0),
        &[r#"{client="user",connection_type="virtual_node",server="shop"} 1 0.2/0"#],
    );
    check(
        span("shop server get 200 peer.service=browser", 2, 0),
        &[r#"{client="browser",connection_type="virtual_node",server="shop"} 1 0.2/0"#],
    );
    check(
        span("shop client get 200 peer.service=bank", 2, 1),
        &[r#"{client="shop",connection_type="virtual_node",server="bank"} 1 0/0.2"#],
    );
    let unpaired = [span("shop client get 200", 2, 1), span("shop server get 200", 2, 1)];
    for span in unpaired {
        assert_eq!(edges(&[(0, span)]).1.unpaired, 1);
    }
    for other in [
        "shop internal get 1",
        "shop unspecified get 1",
        "- client get 1 db.system=redis",
    ] {
        let (lines, stats) = edges(&[(0, span(other, 2, 0))]);
        assert_eq!((lines.len(), stats.unpaired, stats.open_edges), (0, 0, 0), "{other}");
    }
}

#[test]
fn namespaces_are_labels_of_either_side() {
    check_edges(
        &[
            (0, span("front client get 300 resource.service.namespace=web", 1, 0)),
            (0, span("shop server get 200 resource.service.namespace=back", 2, 1)),
        ],
        &[r#"{client="front",client_service_namespace="web",server="shop",server_service_namespace="back"} 1 0.2/0.3"#],
    );
}

#[test]
fn open_edges_are_bounded() {
    let options = DerivedMetrics {
        service_graphs_max_items: 2,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    let spans: Vec<Span> = (1..=5).map(|id| span("front client get 1", id, 0)).collect();
    count(&derived, &spans, 0);
    let stats = derived.stats();
    assert_eq!((stats.open_edges, stats.dropped), (2, 3));
    // What is there can be completed, and a place is free again; so it is when the wait is over.
    count(
        &derived,
        &[span("shop server get 1", 9, 1), span("front client get 1", 6, 0)],
        1,
    );
    assert_eq!((derived.stats().open_edges, derived.stats().dropped), (2, 3));
    count(
        &derived,
        &[span("front client get 1", 7, 0), span("front client get 1", 8, 0)],
        11,
    );
    let stats = derived.stats();
    assert_eq!((stats.open_edges, stats.dropped, stats.unpaired), (2, 3, 2));
}

#[test]
fn the_queue_does_not_remember_completed_edges() {
    let derived = Derived::new(&DerivedMetrics::default(), at(0), &Budget::new(1 << 30));
    for id in 1..20_000 {
        count(
            &derived,
            &[span("front client get 1", id, 0), span("shop server get 1", 0, id)],
            0,
        );
    }
    let state = derived.state();
    assert_eq!(state.edges.open(), 0);
    assert!(state.edges.queued() < 2000, "{}", state.edges.queued());
}

#[test]
fn span_metrics_have_tempo_s_names_labels_and_buckets() {
    let options = DerivedMetrics {
        service_graphs: false,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    let one = span("shop server GET 3", 2, 1);
    let size = span_size(&one);
    count(&derived, std::slice::from_ref(&one), 1);
    let labels = r#"service="shop",span_kind="SPAN_KIND_SERVER",span_name="GET",status_code="STATUS_CODE_UNSET""#;
    let mut want = vec![];
    let mut two = |name: &str, labels: &str, v: &str| {
        want.push(format!("{name}{{{labels}}} 0 @0.001"));
        want.push(format!("{name}{{{labels}}} {v} @15"));
    };
    two("traces_spanmetrics_calls_total", labels, "1");
    two("traces_spanmetrics_size_total", labels, &size.to_string());
    for le in [
        "0.002", "0.004", "0.008", "0.016", "0.032", "0.064", "0.128", "0.256", "0.512", "1.024", "2.048", "4.096",
        "8.192", "16.384", "+Inf",
    ] {
        let labels = format!("le={le:?},{labels}");
        two(
            "traces_spanmetrics_latency_bucket",
            &labels,
            if le == "0.002" { "0" } else { "1" },
        );
    }
    two("traces_spanmetrics_latency_sum", labels, "0.003");
    two("traces_spanmetrics_latency_count", labels, "1");
    want.push(format!(
        "traces_spanmetrics_latency_bucket{{le=\"0.004\",{labels}}} # 1 0.003"
    ));
    assert_eq!(collected(&derived, 15), want);
    // The next collection has neither zeros nor exemplars; a clock that stands still has none.
    let again = collected(&derived, 30);
    assert_eq!(again.len(), 19);
    assert!(again.iter().all(|line| line.ends_with(" @30")), "{again:?}");
    assert!(collected(&derived, 30).is_empty() && collected(&derived, 44).is_empty());
}

#[test]
fn the_service_graph_has_tempo_s_buckets() {
    let options = DerivedMetrics {
        span_metrics: false,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    count(&derived, &[span("shop client get 150 db.system=redis error", 1, 0)], 1);
    let lines: Vec<String> = collected(&derived, 15)
        .into_iter()
        .filter(|l| !l.contains("@0.001"))
        .collect();
    let labels = r#"client="shop",connection_type="database",server="redis""#;
    let labels_le = |le: &str| format!(r#"client="shop",connection_type="database",le={le:?},server="redis""#);
    let mut want = vec![
        format!("traces_service_graph_request_total{{{labels}}} 1 @15"),
        format!("traces_service_graph_request_failed_total{{{labels}}} 1 @15"),
    ];
    for side in ["server", "client"] {
        let name = format!("traces_service_graph_request_{side}_seconds");
        for le in ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2", "6.4", "12.8", "+Inf"] {
            let n = i32::from(le != "0.1");
            want.push(format!("{name}_bucket{{{}}} {n} @15", labels_le(le)));
        }
        want.push(format!("{name}_sum{{{labels}}} 0.15 @15"));
        want.push(format!("{name}_count{{{labels}}} 1 @15"));
    }
    for side in ["server", "client"] {
        let labels = labels_le("0.2");
        want.push(format!(
            "traces_service_graph_request_{side}_seconds_bucket{{{labels}}} # 1 0.15"
        ));
    }
    assert_eq!(lines, want);
}

#[test]
fn dimensions_are_looked_up_in_the_resource_and_then_in_the_span() {
    let options = DerivedMetrics {
        span_metrics_dimensions: ["zone", "http.method", "service", "http.status", "none", "http_method"]
            .map(str::to_owned)
            .to_vec(),
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    let one = span(
        "shop internal get 1 resource.zone=a zone=b http.method=PUT service=x http.status=200",
        1,
        0,
    );
    count(&derived, &[one], 0);
    let lines = collected(&derived, 20);
    let labels = "{__service=\"x\",http_method=\"PUT\",http_status=\"200\",service=\"shop\",span_kind=\"SPAN_KIND_INTERNAL\",\
                  span_name=\"get\",status_code=\"STATUS_CODE_UNSET\",zone=\"a\"}";
    assert!(
        lines.contains(&format!("traces_spanmetrics_calls_total{labels} 1 @20")),
        "{lines:#?}"
    );
}

#[test]
fn series_are_bounded_and_idle_ones_make_room() {
    let options = DerivedMetrics {
        max_series: 2 * 19 + 5,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    let named = |name: &str| span(&format!("shop internal {name} 1"), 1, 0);
    count(&derived, &[named("a"), named("b"), named("c"), named("a")], 0);
    let stats = derived.stats();
    // Two rows, and the one that all others share.
    assert_eq!((stats.series, stats.over_limit), (57, 1));
    let mut other = named("c");
    other.end = at(890);
    count(&derived, &[other.clone()], 890);
    assert_eq!(derived.stats().over_limit, 2);
    let stale = collected(&derived, 901);
    assert_eq!(stale.iter().filter(|l| l.ends_with(" stale @901")).count(), 38);
    let shared = "traces_spanmetrics_calls_total{metric_overflow=\"true\"} 2 @901";
    assert!(stale.iter().any(|l| l == shared), "{stale:#?}");
    assert_eq!(derived.stats().series, 19);
    count(&derived, &[other], 902);
    assert_eq!((derived.stats().series, derived.stats().over_limit), (38, 2));
    // Anew from 0, after the stale markers.
    let lines = collected(&derived, 920);
    assert!(
        lines.iter().any(|l| l.contains("\"c\"") && l.ends_with(" 0 @901.001"))
            && lines.iter().any(|l| l.contains("\"c\"") && l.ends_with(" 1 @920")),
        "{lines:?}"
    );
}

#[test]
fn spans_of_another_time_are_left_out() {
    let derived = Derived::new(&DerivedMetrics::default(), at(0), &Budget::new(1 << 30));
    for seconds in [31, -30] {
        count(&derived, &[span("shop internal a 1", 1, 0)], seconds);
    }
    assert_eq!((derived.stats().spans_outside, derived.stats().series), (2, 0));
    count(&derived, &[span("shop internal a 1", 1, 0)], 30);
    assert_eq!((derived.stats().spans_outside, derived.stats().series), (2, 19));
}

#[test]
fn nothing_is_derived_when_both_are_off() {
    let options = DerivedMetrics {
        span_metrics: false,
        service_graphs: false,
        ..DerivedMetrics::default()
    };
    let derived = Derived::new(&options, at(0), &Budget::new(1 << 30));
    count(&derived, &[span("shop server a 1", 1, 0)], 0);
    assert!(derived.collect(at(60), true).is_none());
    assert_eq!(derived.stats(), DerivedStats::default());
}

#[test]
fn totals_and_edges_are_counted_in_the_memory_budget() {
    let budget = Budget::new(1 << 30);
    let derived = Derived::new(&DerivedMetrics::default(), at(0), &budget);
    assert_eq!(budget.used(), 0);
    count(&derived, &[span("front client get 1", 1, 0)], 0);
    let one = budget.used();
    let spans: Vec<Span> = (2..=100)
        .map(|id| span(&format!("front client get{id} 1"), id, 0))
        .collect();
    count(&derived, &spans, 1);
    // A row with its buckets and an edge each.
    let all = budget.used();
    assert!(one > 300 && all > 90 * one && all < 110 * one, "{one}, {all}");
    // The same again needs no more.
    count(&derived, &spans, 1);
    assert_eq!(budget.used(), all);
    // The edges have expired; what is collected is there twice until it is appended.
    let collection = derived.collect(at(15), false).unwrap();
    let twice = budget.used();
    drop(collection);
    let rows = budget.used();
    assert!(rows > 0 && rows < all && twice == 2 * rows, "{all}, {twice}, {rows}");
    drop(derived.collect(at(1000), false));
    assert_eq!((budget.used(), derived.stats().series), (0, 0));
}

#[test]
fn a_clock_that_is_set_back_is_the_new_time() {
    let derived = Derived::new(&DerivedMetrics::default(), at(0), &Budget::new(1 << 30));
    assert!(derived.collect(at(15), false).is_none());
    count(&derived, &[span("shop internal a 1", 1, 0)], 16);
    assert!(derived.collect(at(-7200), false).is_none());
    let lines = collected(&derived, -7180);
    assert!(
        !lines.is_empty() && lines.iter().all(|l| l.contains(" @-7") || l.contains(" # ")),
        "{lines:?}"
    );
}

#[test]
fn long_names_are_cut_at_a_character() {
    let derived = Derived::new(&DerivedMetrics::default(), at(0), &Budget::new(1 << 30));
    let long = "ä".repeat(1500);
    count(&derived, &[span(&format!("shop internal x{long} 1"), 1, 0)], 0);
    let lines = collected(&derived, 20);
    let cut = format!("span_name=\"x{}\"", "ä".repeat(1023));
    assert!(lines[0].contains(&cut));
}

/// The sizes are those of the protobuf library that OTLP's own types use.
#[test]
fn a_span_s_size_is_its_protobuf_s() {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue as PbKeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::{Span as PbSpan, Status, span};
    let pb_value = |value| Some(AnyValue { value: Some(value) });
    let pb_pair = |key: &str, value| PbKeyValue {
        key: key.to_owned(),
        value: pb_value(value),
        ..PbKeyValue::default()
    };
    let long = "x".repeat(200);
    let attributes = vec![
        KeyValue::new("s", long.as_str().into()),
        KeyValue::new("n", (-1).into()),
        KeyValue::new("m", 300.into()),
        KeyValue::new("b", AttributeValue::Bool(false)),
        KeyValue::new("d", AttributeValue::Double(0.5)),
        KeyValue::new("y", AttributeValue::Bytes(vec![0; 3])),
        KeyValue::new("a", AttributeValue::Array(vec!["".into(), 1.into()])),
    ];
    let pb_attributes = vec![
        pb_pair("s", Value::StringValue(long.clone())),
        pb_pair("n", Value::IntValue(-1)),
        pb_pair("m", Value::IntValue(300)),
        pb_pair("b", Value::BoolValue(false)),
        pb_pair("d", Value::DoubleValue(0.5)),
        pb_pair("y", Value::BytesValue(vec![0; 3])),
        pb_pair(
            "a",
            Value::ArrayValue(ArrayValue {
                values: [Value::StringValue(String::new()), Value::IntValue(1)]
                    .into_iter()
                    .filter_map(pb_value)
                    .collect(),
            }),
        ),
    ];
    let span = Span {
        trace_id: TraceId(1),
        span_id: SpanId(2),
        parent_span_id: Some(SpanId(3)),
        trace_state: "k=v".to_owned(),
        flags: 257,
        name: "get".to_owned(),
        kind: SpanKind::Server,
        start: at(0),
        end: at(1),
        status: StatusCode::Error,
        status_message: "no".to_owned(),
        attributes: attributes.clone(),
        dropped_attributes: 200,
        events: vec![Event {
            t: at(0),
            name: "e".to_owned(),
            attributes: attributes.clone(),
            dropped_attributes: 1,
        }],
        dropped_events: 2,
        links: vec![Link {
            trace_id: TraceId(5),
            span_id: SpanId(6),
            trace_state: "a".to_owned(),
            attributes,
            dropped_attributes: 3,
            flags: 1,
        }],
        dropped_links: 4,
        ..Span::default()
    };
    let pb = PbSpan {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        parent_span_id: vec![1; 8],
        trace_state: "k=v".to_owned(),
        flags: 257,
        name: "get".to_owned(),
        kind: 2,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: pb_attributes.clone(),
        dropped_attributes_count: 200,
        events: vec![span::Event {
            time_unix_nano: 1,
            name: "e".to_owned(),
            attributes: pb_attributes.clone(),
            dropped_attributes_count: 1,
        }],
        dropped_events_count: 2,
        links: vec![span::Link {
            trace_id: vec![1; 16],
            span_id: vec![1; 8],
            trace_state: "a".to_owned(),
            attributes: pb_attributes,
            dropped_attributes_count: 3,
            flags: 1,
        }],
        dropped_links_count: 4,
        status: Some(Status {
            message: "no".to_owned(),
            code: 2,
        }),
    };
    assert_eq!(span_size(&span), pb.encoded_len() as u64);
    assert_eq!(span_size(&Span::default()), 30);
}
