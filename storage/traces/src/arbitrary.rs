//! Random spans for tests, and what makes two of them the same.

use std::path::Path;
use std::sync::Arc;

use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TimestampNs, TraceId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::span_bytes::{InPlace, put_body, put_resource, put_scope};

pub(crate) fn value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Empty),
        text().prop_map(AttributeValue::Str),
        any::<bool>().prop_map(AttributeValue::Bool),
        prop_oneof![any::<i64>(), 0..3i64].prop_map(AttributeValue::Int),
        any::<u64>().prop_map(|bits| AttributeValue::Double(f64::from_bits(bits))),
        prop_oneof![Just(0.5), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(1e300)]
            .prop_map(AttributeValue::Double),
        vec(any::<u8>(), 0..9).prop_map(AttributeValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(AttributeValue::Array),
            vec((text(), inner), 0..4)
                .prop_map(|pairs| AttributeValue::Map(pairs.into_iter().map(|(k, v)| KeyValue::new(k, v)).collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", any::<String>(), "\\PC{0,6}"]
}

pub(crate) fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let keys = prop_oneof![
        Just("http.method".to_owned()),
        Just("http.status_code".to_owned()),
        Just("service.name".to_owned()),
        "[k-m]",
        any::<String>(),
    ];
    vec((keys, value()), 0..6).prop_map(|pairs| pairs.into_iter().map(|(k, v)| KeyValue::new(k, v)).collect())
}

fn resource() -> impl Strategy<Value = Arc<Resource>> {
    (attributes(), 0..3u32, text()).prop_map(|(attributes, dropped_attributes, schema_url)| {
        Arc::new(Resource {
            attributes,
            dropped_attributes,
            schema_url,
        })
    })
}

fn scope() -> impl Strategy<Value = Arc<Scope>> {
    (text(), text(), attributes(), 0..3u32, text()).prop_map(
        |(name, version, attributes, dropped_attributes, schema_url)| {
            Arc::new(Scope {
                name,
                version,
                attributes,
                dropped_attributes,
                schema_url,
            })
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    (any::<i64>(), text(), attributes(), any::<u32>()).prop_map(|(t, name, attributes, dropped_attributes)| Event {
        t: TimestampNs(t),
        name,
        attributes,
        dropped_attributes,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (
        any::<u128>(),
        any::<u64>(),
        text(),
        attributes(),
        any::<u32>(),
        any::<u32>(),
    )
        .prop_map(
            |(trace, span, trace_state, attributes, dropped_attributes, flags)| Link {
                trace_id: TraceId(trace),
                span_id: SpanId(span),
                trace_state,
                attributes,
                dropped_attributes,
                flags,
            },
        )
}

prop_compose! {
    /// Any span at all.
    pub(crate) fn span()(
        ids in (prop_oneof![0..4u128, any::<u128>()], prop_oneof![0..6u64, any::<u64>()], proptest::option::of(0..6u64)),
        names in (text(), text(), text()),
        numbers in (any::<u32>(), 0..6i32, 0..3i32, any::<u32>(), any::<u32>(), any::<u32>()),
        times in (any::<i64>(), any::<i64>()),
        attributes in attributes(),
        events in vec(event(), 0..3),
        links in vec(link(), 0..3),
        resource in resource(),
        scope in scope(),
    ) -> Span {
        Span {
            trace_id: TraceId(ids.0),
            span_id: SpanId(ids.1),
            parent_span_id: ids.2.map(SpanId),
            name: names.0,
            trace_state: names.1,
            status_message: names.2,
            flags: numbers.0,
            kind: SpanKind::from_number(numbers.1),
            status: StatusCode::from_number(numbers.2),
            dropped_attributes: numbers.3,
            dropped_events: numbers.4,
            dropped_links: numbers.5,
            start: TimestampNs(times.0),
            end: TimestampNs(times.1),
            attributes, events, links, resource, scope,
        }
    }
}

/// All of a span as bytes, the attributes by key: a block keeps the order of equal keys only.
pub(crate) fn canonical(span: &Span) -> Vec<u8> {
    let mut span = span.clone();
    let by_key = |attributes: &mut Vec<KeyValue>| attributes.sort_by(|a, b| a.key.cmp(&b.key));
    by_key(&mut span.attributes);
    by_key(&mut Arc::make_mut(&mut span.resource).attributes);
    by_key(&mut Arc::make_mut(&mut span.scope).attributes);
    span.events.iter_mut().for_each(|e| by_key(&mut e.attributes));
    span.links.iter_mut().for_each(|l| by_key(&mut l.attributes));
    exact(&span)
}

/// All of a span as bytes, bit for bit.
pub(crate) fn exact(span: &Span) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(span.trace_id.to_bytes());
    out.extend(span.span_id.to_bytes());
    out.push(span.kind as u8);
    out.extend(span.start.0.to_le_bytes());
    out.extend(span.end.0.to_le_bytes());
    put_body(&mut out, span, &mut InPlace);
    put_resource(&mut out, &span.resource, &mut InPlace);
    put_scope(&mut out, &span.scope, &mut InPlace);
    out
}

/// A few spans with every kind of value, for golden files.
pub(crate) fn golden_spans() -> Vec<Span> {
    let every_kind = || {
        vec![
            KeyValue::new("http.method", "GET".into()),
            KeyValue::new("http.status_code", 200.into()),
            KeyValue::new("ratio", AttributeValue::Double(0.25)),
            KeyValue::new("nan", AttributeValue::Double(f64::from_bits(0x7ff8_0000_0000_0042))),
            KeyValue::new("cached", AttributeValue::Bool(true)),
            KeyValue::new("empty", AttributeValue::Empty),
            KeyValue::new("raw", AttributeValue::Bytes(vec![0, 1, 254, 255])),
            KeyValue::new(
                "list",
                AttributeValue::Array(vec!["a".into(), 1.into(), AttributeValue::Bytes(vec![7])]),
            ),
            KeyValue::new(
                "map",
                AttributeValue::Map(vec![KeyValue::new("k", "v".into()), KeyValue::new("n", 1.into())]),
            ),
            KeyValue::new("twice", "first".into()),
            KeyValue::new("twice", "second".into()),
            KeyValue::new("thrice", 1.into()),
            KeyValue::new("thrice", AttributeValue::Bytes(vec![2])),
            KeyValue::new("thrice", AttributeValue::Array(vec![3.into()])),
        ]
    };
    let resource = |name: &str| {
        Arc::new(Resource {
            attributes: vec![
                KeyValue::new("service.name", name.into()),
                KeyValue::new("k8s.pod.name", format!("{name}-0").as_str().into()),
                KeyValue::new("process.pid", 4711.into()),
                KeyValue::new("process.command_args", AttributeValue::Array(vec!["serve".into()])),
            ],
            dropped_attributes: 1,
            schema_url: "https://opentelemetry.io/schemas/1.26.0".to_owned(),
        })
    };
    let scope = Arc::new(Scope {
        name: "http".to_owned(),
        version: "1.2".to_owned(),
        attributes: vec![KeyValue::new("short", AttributeValue::Bool(false))],
        dropped_attributes: 2,
        schema_url: String::new(),
    });
    let (shop, cart) = (resource("shop"), resource("cart"));
    let start = 1_790_000_000_000_000_000;
    let span = |trace: u128, id: u64, parent: u64, kind, resource: &Arc<Resource>| Span {
        trace_id: TraceId(trace),
        span_id: SpanId(id),
        parent_span_id: (parent != 0).then_some(SpanId(parent)),
        name: format!("GET /{id}"),
        kind,
        start: TimestampNs(start + id as i64 * 1_000),
        end: TimestampNs(start + 1_000_000 - id as i64),
        resource: resource.clone(),
        scope: scope.clone(),
        ..Span::default()
    };
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    let mut spans = vec![
        span(7, 1, 0, SpanKind::Internal, &cart),
        span(trace, 1, 0, SpanKind::Server, &shop),
        span(trace, 2, 1, SpanKind::Client, &shop),
        span(trace, 3, 2, SpanKind::Server, &cart),
    ];
    spans[1].attributes = every_kind();
    spans[1].status = StatusCode::Error;
    spans[1].status_message = "no stock".to_owned();
    spans[1].trace_state = "a=b".to_owned();
    spans[1].flags = 0x101;
    spans[1].dropped_attributes = 3;
    spans[1].dropped_events = 4;
    spans[1].dropped_links = 5;
    spans[1].events = vec![Event {
        t: TimestampNs(start + 5_000),
        name: "exception".to_owned(),
        attributes: every_kind(),
        dropped_attributes: 6,
    }];
    spans[1].links = vec![Link {
        trace_id: TraceId(9),
        span_id: SpanId(8),
        trace_state: "c=d".to_owned(),
        attributes: every_kind(),
        dropped_attributes: 7,
        flags: 1,
    }];
    spans[3].end = TimestampNs(start - 1);
    spans
}

/// The bytes of a golden file. A missing one is made from `new` with `NEW_GOLDEN=1`; nothing overwrites one.
pub(crate) fn golden(name: &str, new: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if !path.exists() {
        assert_eq!(
            std::env::var("NEW_GOLDEN").as_deref(),
            Ok("1"),
            "{} is missing",
            path.display()
        );
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, new).unwrap();
    }
    std::fs::read(&path).unwrap()
}
