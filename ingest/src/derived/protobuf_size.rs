//! How many bytes a span has as OTLP protobuf: what `traces_spanmetrics_size_total` counts, the same for spans that came
//! by another protocol.

use model::{AttributeValue, Event, KeyValue, Link, Span};

const FIXED64: u64 = 1 + 8;
const TRACE_ID: u64 = 2 + 16;
const SPAN_ID: u64 = 2 + 8;

/// Bytes of the message `opentelemetry.proto.trace.v1.Span`, without resource and scope.
pub(super) fn span_size(span: &Span) -> u64 {
    let status_len = text(&span.status_message) + small(u64::from(span.status as u8));
    TRACE_ID
        + SPAN_ID
        + text(&span.trace_state)
        + span.parent_span_id.map_or(0, |_| SPAN_ID)
        + text(&span.name)
        + small(u64::from(span.kind as u8))
        + fixed64(span.start.0)
        + fixed64(span.end.0)
        + attributes(&span.attributes)
        + small(u64::from(span.dropped_attributes))
        + span.events.iter().map(|e| message(event(e))).sum::<u64>()
        + small(u64::from(span.dropped_events))
        + span.links.iter().map(|l| message(link(l))).sum::<u64>()
        + small(u64::from(span.dropped_links))
        // A status is always written, as the receivers before Tempo do.
        + message(status_len)
        + if span.flags == 0 { 0 } else { 2 + 4 }
}

fn event(e: &Event) -> u64 {
    fixed64(e.t.0) + text(&e.name) + attributes(&e.attributes) + small(u64::from(e.dropped_attributes))
}

fn link(l: &Link) -> u64 {
    let flags = if l.flags == 0 { 0 } else { 1 + 4 };
    let attributes = attributes(&l.attributes) + small(u64::from(l.dropped_attributes));
    TRACE_ID + SPAN_ID + text(&l.trace_state) + attributes + flags
}

fn attributes(list: &[KeyValue]) -> u64 {
    list.iter().map(|kv| message(pair(kv))).sum()
}

fn pair(kv: &KeyValue) -> u64 {
    text(&kv.key) + message(value(&kv.value))
}

/// A value is written even if it is the default: the field says which type it has.
fn value(v: &AttributeValue) -> u64 {
    match v {
        AttributeValue::Empty => 0,
        AttributeValue::Str(s) => message(s.len() as u64),
        AttributeValue::Bool(_) => 2,
        AttributeValue::Int(n) => 1 + varint(*n as u64),
        AttributeValue::Double(_) => FIXED64,
        AttributeValue::Bytes(b) => message(b.len() as u64),
        AttributeValue::Array(list) => message(list.iter().map(|v| message(value(v))).sum()),
        AttributeValue::Map(list) => message(attributes(list)),
    }
}

/// A field with a length: one byte of tag (all our field numbers are below 16), length, contents.
fn message(len: u64) -> u64 {
    1 + varint(len) + len
}

fn text(s: &str) -> u64 {
    if s.is_empty() { 0 } else { message(s.len() as u64) }
}

fn fixed64(n: i64) -> u64 {
    if n == 0 { 0 } else { FIXED64 }
}

fn small(n: u64) -> u64 {
    if n == 0 { 0 } else { 1 + varint(n) }
}

fn varint(n: u64) -> u64 {
    u64::from((70 - (n | 1).leading_zeros()) / 7)
}
