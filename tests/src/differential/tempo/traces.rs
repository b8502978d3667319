//! The traces that both servers are given: about two hundred, in the shapes that break trace stores.
//!
//! Services call one another in deep and wide trees; roots and parents are missing, roots are many, span ids repeat across
//! traces. Every type of value is there at every scope, the same name at several scopes,
//! names with spaces, quotes and dots, lists with nothing in them. A sixth of the spans comes in a second wave.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::super::random::Random;
use super::T0_MS;

/// How many traces there are.
const TRACES: u64 = 200;
/// Over how long they begin, in ns.
const LENGTH_NS: u64 = 1_200_000_000_000;
/// Fewer than the spans that a search shows per spanset, so that none is left out.
const SPANS_MAX: u64 = 60;

/// Everything in two waves: the second brings the spans that are late.
pub fn traces(seed: u64) -> [ExportTraceServiceRequest; 2] {
    let random = Random::new(seed);
    let mut waves = [Vec::new(), Vec::new()];
    for number in 0..TRACES {
        let mut maker = Maker::new(number, random.fork(&format!("trace {number}")));
        let (early, late) = maker.make();
        waves[0].extend(early);
        waves[1].extend(late);
    }
    waves.map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// The id of the trace with this number. Some begin with zeros, the first needs only 64 bits.
pub fn trace_id(number: u64) -> u128 {
    let mut random = Random::new(number).fork("trace id");
    let id = u128::from(random.next()) << 64 | u128::from(random.next());
    match number {
        0 => id >> 64 | 1,
        n if n.is_multiple_of(7) => id >> 8,
        _ => id,
    }
}

/// The span ids of one trace are the same as in another.
pub fn span_id(number: u64, span: u64) -> u64 {
    let mut random = Random::new(number % 50).fork(&format!("span {span}"));
    random.next() | 1
}

struct Maker {
    number: u64,
    random: Random,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Parents are drawn from all spans before.
    Bushy,
    /// Each span is below the one before.
    Deep,
    /// All below the root.
    Wide,
    /// The root was never sent.
    Rootless,
    /// Several roots.
    ManyRoots,
    /// A span in the middle was never sent.
    Torn,
    /// A single span.
    Lone,
}

const SHAPES: [Shape; 12] = [
    Shape::Bushy,
    Shape::Deep,
    Shape::Wide,
    Shape::Bushy,
    Shape::Rootless,
    Shape::ManyRoots,
    Shape::Bushy,
    Shape::Torn,
    Shape::Torn,
    Shape::Lone,
    Shape::Wide,
    Shape::Bushy,
];

const SERVICES: [&str; 7] = ["shop", "cart", "pay", "mail", "edge", "db-proxy", "Ünïcode shop"];
const NAMES: [&str; 10] = [
    "GET /",
    "GET /cart",
    "POST /pay",
    "SELECT",
    "publish",
    "consume",
    "render \"page\"",
    "HTTP GET",
    "cache.get",
    "",
];

impl Maker {
    fn new(number: u64, random: Random) -> Maker {
        let shape = SHAPES[(number % SHAPES.len() as u64) as usize];
        Maker { number, random, shape }
    }

    fn make(&mut self) -> (Vec<ResourceSpans>, Vec<ResourceSpans>) {
        let count = match self.shape {
            Shape::Lone => 1,
            Shape::Deep | Shape::Wide => 8 + self.random.below(SPANS_MAX - 20),
            _ => 3 + self.random.below(18),
        };
        let start = T0_MS as u64 * 1_000_000 + self.number * (LENGTH_NS / TRACES) + self.random.below(5_000_000_000);
        let torn = count / 2;
        let mut spans: Vec<(usize, Span)> = Vec::new();
        let mut starts = vec![start];
        let mut service = self.random.below(SERVICES.len() as u64) as usize;
        for n in 0..count {
            let parent = self.parent(n);
            let id = span_id(self.number, n);
            let begin = parent.map_or(start, |p| starts[p as usize]) + self.random.below(40_000_000);
            if starts.len() <= n as usize {
                starts.push(begin);
            }
            if self.random.one_in(3) {
                service = self.random.below(SERVICES.len() as u64) as usize;
            }
            let mut span = self.span(id, parent.map_or(0, |p| span_id(self.number, p)), starts[n as usize]);
            // Of several roots either may name the trace, so they are alike.
            if self.shape == Shape::ManyRoots && parent.is_none() {
                service = (self.number % 7) as usize;
                span.name = "GET /".to_owned();
            }
            if (self.shape == Shape::Rootless && n == 0) || (self.shape == Shape::Torn && n == torn) {
                continue;
            }
            spans.push((service, span));
        }
        let mut waves = [Vec::new(), Vec::new()];
        for (service, span) in spans {
            let late = usize::from(!self.number.is_multiple_of(5) && self.random.one_in(6));
            waves[late].push((service, span));
        }
        let [early, late] = waves.map(|wave| self.resources(wave));
        (early, late)
    }

    fn parent(&mut self, n: u64) -> Option<u64> {
        match (self.shape, n) {
            (_, 0) => None,
            (Shape::Deep, _) => Some(n - 1),
            (Shape::Wide, _) => Some(0),
            (Shape::ManyRoots, _) if n.is_multiple_of(3) => None,
            _ => Some(self.random.below(n)),
        }
    }

    fn span(&mut self, id: u64, parent: u64, start: u64) -> Span {
        let r = &mut self.random;
        // Below a microsecond, below a millisecond, and up to some seconds.
        let longest = *[900, 900_000, 50_000_000, 900_000_000, 4_000_000_000]
            .get(r.below(5) as usize)
            .unwrap_or(&1);
        let duration = if r.one_in(40) { 0 } else { r.below(longest) };
        let code = [0, 0, 0, 1, 2][r.below(5) as usize];
        Span {
            trace_id: trace_id(self.number).to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: if parent == 0 {
                Vec::new()
            } else {
                parent.to_be_bytes().to_vec()
            },
            trace_state: if r.one_in(5) {
                "ot=th:8,vendor=1".to_owned()
            } else {
                String::new()
            },
            name: r.pick(&NAMES).to_owned(),
            kind: r.below(6) as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: start + duration,
            attributes: span_attributes(r),
            dropped_attributes_count: r.below(20).saturating_sub(17) as u32,
            events: events(r, start, duration),
            links: links(r),
            status: match (code, r.one_in(4)) {
                (0, true) => None,
                (2, _) => Some(Status {
                    code,
                    message: r.pick(&["boom", "timeout", ""]).to_owned(),
                }),
                _ => Some(Status {
                    code,
                    message: String::new(),
                }),
            },
            flags: r.below(2) as u32,
            ..Span::default()
        }
    }

    /// Spans by service, each service's in one or two scopes.
    fn resources(&mut self, spans: Vec<(usize, Span)>) -> Vec<ResourceSpans> {
        let mut out = Vec::new();
        for (service, name) in SERVICES.iter().enumerate() {
            let mine: Vec<Span> = spans
                .iter()
                .filter(|(s, _)| *s == service)
                .map(|(_, s)| s.clone())
                .collect();
            if mine.is_empty() {
                continue;
            }
            let (one, other): (Vec<_>, Vec<_>) = mine.into_iter().partition(|s| s.span_id[7] % 3 != 1);
            let scopes = [(scope(service as u64), one), (scope(service as u64 + 1), other)];
            let scope_spans = (scopes.into_iter())
                .filter(|(_, spans)| !spans.is_empty())
                .map(|(scope, spans)| ScopeSpans {
                    scope: Some(scope),
                    spans,
                    ..ScopeSpans::default()
                });
            out.push(ResourceSpans {
                resource: Some(Resource {
                    attributes: resource_attributes(service as u64, name),
                    ..Resource::default()
                }),
                scope_spans: scope_spans.collect(),
                ..ResourceSpans::default()
            });
        }
        out
    }
}

fn scope(n: u64) -> InstrumentationScope {
    let mut attributes = Vec::new();
    if n.is_multiple_of(2) {
        attributes.push(text("lang", ["go", "rust", "java"][(n / 2 % 3) as usize]));
        attributes.push(text("level", "library"));
    }
    if n.is_multiple_of(3) {
        attributes.push(int("lib.build", n as i64 * 10));
        attributes.push(of("lib.stable", Value::BoolValue(n > 2)));
    }
    InstrumentationScope {
        name: ["otel-go", "otel-rust", ""][(n % 3) as usize].to_owned(),
        version: ["1.2", "0.9", "", "2.0"][(n % 4) as usize].to_owned(),
        attributes,
        dropped_attributes_count: 0,
    }
}

fn resource_attributes(n: u64, name: &str) -> Vec<KeyValue> {
    let mut out = vec![
        text("service.name", name),
        int("host.cpus", 1 << (n % 4)),
        text("level", ["gold", "silver"][(n % 2) as usize]),
        text("deployment.environment", ["prod", "staging", "Prod"][(n % 3) as usize]),
    ];
    if n != 4 {
        out.push(text("service.namespace", ["front", "back"][(n % 2) as usize]));
        out.push(text("k8s.pod.name", &format!("{}-{n}", name.replace(' ', "-"))));
        out.push(of("ephemeral", Value::BoolValue(n.is_multiple_of(2))));
    }
    if n % 3 == 1 {
        out.push(of("load", Value::DoubleValue(n as f64 * 0.25)));
        out.push(list("zones", vec![string("a"), string(["b", "c"][(n % 2) as usize])]));
        out.push(text("odd name", "x y"));
    }
    // The same name as one of the spans.
    if n == 2 {
        out.push(text("http.method", "from the resource"));
        out.push(int("retries", 100));
    }
    out
}

fn span_attributes(r: &mut Random) -> Vec<KeyValue> {
    let mut out = Vec::new();
    if !r.one_in(3) {
        out.push(text("http.method", r.pick(&["GET", "POST", "PUT", "get"])));
        let code = [200, 201, 404, 500, 503][r.below(5) as usize];
        out.push(int("http.status_code", code));
        out.push(text(
            "http.url",
            &format!("http://x/{}?q=%20&a={}", r.below(9), r.below(3)),
        ));
    }
    if r.one_in(3) {
        out.push(text("db.system", r.pick(&["postgresql", "redis"])));
        out.push(int("db.rows", r.below(5000) as i64 - 1000));
    }
    if r.one_in(3) {
        out.push(int("retries", r.below(4) as i64));
    }
    if r.one_in(3) {
        out.push(of(
            "ratio",
            Value::DoubleValue([0.5, -1.25, 3.0, 1e9, 0.1][r.below(5) as usize]),
        ));
    }
    if r.one_in(3) {
        out.push(of("cached", Value::BoolValue(r.one_in(2))));
    }
    if r.one_in(3) {
        out.push(match r.below(5) {
            0 => int("level", 3),
            1 => of("level", Value::BoolValue(true)),
            2 => of("level", Value::DoubleValue(2.5)),
            _ => text("level", r.pick(&["info", "warn", "gold", ""])),
        });
    }
    if r.one_in(6) {
        out.push(of("payload", Value::BytesValue(vec![0, 1, 0xfe, r.below(3) as u8])));
    }
    if r.one_in(4) {
        let words = (0..r.below(4))
            .map(|_| string(r.pick(&["red", "green", "blue"])))
            .collect();
        out.push(list("tags", words));
    }
    if r.one_in(4) {
        let numbers = (0..r.below(4)).map(|_| Value::IntValue(r.below(6) as i64)).collect();
        out.push(list("codes", numbers));
    }
    if r.one_in(6) {
        let numbers = (0..1 + r.below(3))
            .map(|_| Value::DoubleValue(r.below(6) as f64 / 2.0))
            .collect();
        out.push(list("weights", numbers));
    }
    if r.one_in(6) {
        let bools = (0..1 + r.below(3)).map(|_| Value::BoolValue(r.one_in(2))).collect();
        out.push(list("flags", bools));
    }
    if r.one_in(8) {
        out.push(list(
            "mixed",
            vec![string("red"), Value::IntValue(1), Value::BoolValue(true)],
        ));
    }
    if r.one_in(8) {
        let values = vec![text("a", "b"), int("n", 1)];
        out.push(of("nested", Value::KvlistValue(KeyValueList { values })));
    }
    if r.one_in(5) {
        out.push(text("quoted name", r.pick(&["one", "two words", "th\"ree"])));
        out.push(int("a.b \"c\"", r.below(3) as i64));
    }
    if r.one_in(5) {
        out.push(text("service.name", "from the span"));
    }
    if r.one_in(10) {
        out.push(text("duration", "an attribute"));
        out.push(int("size", i64::MAX - r.below(2) as i64));
    }
    if r.one_in(5) {
        out.push(text("peer.service", r.pick(&["redis", "mail"])));
    }
    out
}

fn events(r: &mut Random, start: u64, duration: u64) -> Vec<Event> {
    let count = r.below(6).saturating_sub(2);
    (0..count)
        .map(|_| {
            let mut attributes = Vec::new();
            if r.one_in(2) {
                attributes.push(text("exception.type", r.pick(&["IOError", "Timeout"])));
                attributes.push(text("exception.message", r.pick(&["no route", "gone"])));
            }
            if r.one_in(2) {
                attributes.push(int("attempt", r.below(4) as i64));
            }
            if r.one_in(3) {
                attributes.push(text("level", r.pick(&["error", "gold"])));
                attributes.push(of("fatal", Value::BoolValue(r.one_in(2))));
            }
            if r.one_in(4) {
                attributes.push(of("share", Value::DoubleValue(r.below(4) as f64 / 4.0)));
                attributes.push(list("tags", vec![string("red"), string(r.pick(&["pink", "green"]))]));
            }
            Event {
                time_unix_nano: start + r.below(duration + 1),
                name: r.pick(&["exception", "retry", "cache.miss"]).to_owned(),
                attributes,
                dropped_attributes_count: 0,
            }
        })
        .collect()
}

fn links(r: &mut Random) -> Vec<Link> {
    let count = r.below(8).saturating_sub(5);
    (0..count)
        .map(|_| {
            let other = r.below(6);
            let mut attributes = Vec::new();
            if r.one_in(2) {
                attributes.push(text("relation", r.pick(&["follows", "child_of"])));
                attributes.push(int("attempt", r.below(3) as i64));
            }
            if r.one_in(3) {
                attributes.push(text("level", "gold"));
            }
            Link {
                trace_id: trace_id(other).to_be_bytes().to_vec(),
                span_id: span_id(other, 0).to_be_bytes().to_vec(),
                trace_state: String::new(),
                attributes,
                dropped_attributes_count: 0,
                flags: 0,
            }
        })
        .collect()
}

fn string(v: &str) -> Value {
    Value::StringValue(v.to_owned())
}

fn text(key: &str, v: &str) -> KeyValue {
    of(key, string(v))
}

fn int(key: &str, v: i64) -> KeyValue {
    of(key, Value::IntValue(v))
}

fn list(key: &str, values: Vec<Value>) -> KeyValue {
    let values = values.into_iter().map(|v| AnyValue { value: Some(v) }).collect();
    of(key, Value::ArrayValue(ArrayValue { values }))
}

fn of(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
