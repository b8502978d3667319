//! OTLP traces to spans. A span with a bad id is refused alone; its neighbours are stored.

use std::sync::Arc;

use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TimestampNs, TraceId,
};

use super::any_value::{ATTRIBUTES_MAX, AnyValue, BadValue, read_pair};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::wire::{BadWire, Field, Fields};

/// Most events, and most links, of one span; the rest counts as dropped.
const CHILDREN_MAX: usize = 1000;
/// Strings whose memory is kept for the next span.
const SPARE_MAX: usize = 256;

/// Decodes an `ExportTraceServiceRequest` that unfolds to about `bytes_max` at most, and shows each of its spans. They come in
/// the same place, whose memory is used again for the next one.
pub(crate) fn decode(request: &[u8], bytes_max: usize, see: &mut dyn FnMut(&Span)) -> Result<Report, Refusal> {
    let mut reading = Reading {
        see,
        spare: Vec::new(),
        report: Report::default(),
        room: Room::new(bytes_max),
    };
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 1 {
            reading.resource_spans(field.bytes()?)?;
        }
    }
    Ok(reading.report)
}

struct Reading<'s> {
    see: &'s mut dyn FnMut(&Span),
    /// Strings of spans that were shown.
    spare: Vec<String>,
    report: Report,
    room: Room,
}

/// Why one span is not taken.
enum BadSpan {
    Value(BadValue),
    Id(String),
}

impl<E: Into<BadValue>> From<E> for BadSpan {
    fn from(e: E) -> BadSpan {
        BadSpan::Value(e.into())
    }
}

impl From<Refusal> for BadValue {
    fn from(e: Refusal) -> BadValue {
        BadValue::Room(e)
    }
}

impl Reading<'_> {
    fn resource_spans(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let mut resource = Resource::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => self.resource(field.bytes()?, &mut resource)?,
                3 => resource.schema_url = field.text()?.into_owned(),
                _ => {}
            }
        }
        let resource = Arc::new(resource);
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 2 {
                self.scope_spans(field.bytes()?, &resource)?;
            }
        }
        Ok(())
    }

    fn resource(&mut self, message: &[u8], resource: &mut Resource) -> Result<(), Refusal> {
        self.room.take(size_of::<Resource>())?;
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => self.shared_attribute(&field, &mut resource.attributes, &mut resource.dropped_attributes)?,
                2 => resource.dropped_attributes = resource.dropped_attributes.saturating_add(field.varint()? as u32),
                _ => {}
            }
        }
        Ok(())
    }

    fn scope_spans(&mut self, message: &[u8], resource: &Arc<Resource>) -> Result<(), Refusal> {
        let mut scope = Scope::default();
        self.room.take(size_of::<Scope>())?;
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => {
                    for field in Fields::new(field.bytes()?) {
                        let field = field?;
                        match field.number {
                            1 => scope.name = field.text()?.into_owned(),
                            2 => scope.version = field.text()?.into_owned(),
                            3 => {
                                self.shared_attribute(&field, &mut scope.attributes, &mut scope.dropped_attributes)?;
                            }
                            4 => {
                                let dropped = field.varint()? as u32;
                                scope.dropped_attributes = scope.dropped_attributes.saturating_add(dropped);
                            }
                            _ => {}
                        }
                    }
                }
                3 => scope.schema_url = field.text()?.into_owned(),
                _ => {}
            }
        }
        let mut span = Span::of(resource.clone(), Arc::new(scope));
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 2 {
                continue;
            }
            self.report.items += 1;
            self.clear(&mut span);
            match self.span(field.bytes()?, &mut span) {
                Ok(()) => (self.see)(&span),
                Err(BadSpan::Id(reason)) => self.report.reject(1, || reason),
                Err(BadSpan::Value(bad)) => {
                    let words = bad.of_item()?;
                    self.report.reject(1, || format!("span {:?}: {words}", span.name));
                }
            }
        }
        Ok(())
    }

    fn span(&mut self, message: &[u8], span: &mut Span) -> Result<(), BadSpan> {
        self.room.take(size_of::<Span>() + message.len())?;
        let (mut trace_id, mut span_id, mut parent): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => trace_id = field.bytes()?,
                2 => span_id = field.bytes()?,
                3 => span.trace_state = self.text(&field.text()?),
                4 => parent = field.bytes()?,
                5 => span.name = self.text(&field.text()?),
                6 => span.kind = SpanKind::from_number(field.int32()?),
                7 => span.start = instant(field.fixed64()?),
                8 => span.end = instant(field.fixed64()?),
                9 => self.attribute(&field, &mut span.attributes, &mut span.dropped_attributes)?,
                10 => add_dropped(&mut span.dropped_attributes, &field)?,
                11 if span.events.len() >= CHILDREN_MAX => drop_one(&mut span.dropped_events),
                11 => {
                    let event = self.event(field.bytes()?)?;
                    span.events.push(event);
                }
                12 => add_dropped(&mut span.dropped_events, &field)?,
                13 if span.links.len() >= CHILDREN_MAX => drop_one(&mut span.dropped_links),
                13 => match self.link(field.bytes()?)? {
                    Some(link) => span.links.push(link),
                    None => drop_one(&mut span.dropped_links),
                },
                14 => add_dropped(&mut span.dropped_links, &field)?,
                15 => self.status(field.bytes()?, span)?,
                16 => span.flags = field.fixed32()?,
                _ => {}
            }
        }
        let bad = |what: &str, bytes: &[u8], len: usize| {
            BadSpan::Id(format!(
                "span {:?} has an invalid {what} {} (it must be {len} bytes, not all zero)",
                span.name,
                hex_words(bytes)
            ))
        };
        span.trace_id = TraceId::from_wire(trace_id).ok_or_else(|| bad("trace id", trace_id, 16))?;
        span.span_id = SpanId::from_wire(span_id).ok_or_else(|| bad("span id", span_id, 8))?;
        // All zero is how some SDKs write "no parent".
        span.parent_span_id = SpanId::from_wire(parent);
        if span.parent_span_id.is_none() && parent.iter().any(|b| *b != 0) {
            return Err(bad("parent span id", parent, 8));
        }
        Ok(())
    }

    fn event(&mut self, message: &[u8]) -> Result<Event, BadValue> {
        self.room.take(size_of::<Event>())?;
        let mut event = Event::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => event.t = instant(field.fixed64()?),
                2 => event.name = self.text(&field.text()?),
                3 => self.attribute(&field, &mut event.attributes, &mut event.dropped_attributes)?,
                4 => add_dropped(&mut event.dropped_attributes, &field)?,
                _ => {}
            }
        }
        Ok(event)
    }

    /// `None`: it points nowhere, its ids being invalid.
    fn link(&mut self, message: &[u8]) -> Result<Option<Link>, BadValue> {
        self.room.take(size_of::<Link>())?;
        let mut link = Link::default();
        let (mut trace_id, mut span_id) = (None, None);
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => trace_id = TraceId::from_wire(field.bytes()?),
                2 => span_id = SpanId::from_wire(field.bytes()?),
                3 => link.trace_state = self.text(&field.text()?),
                4 => self.attribute(&field, &mut link.attributes, &mut link.dropped_attributes)?,
                5 => add_dropped(&mut link.dropped_attributes, &field)?,
                6 => link.flags = field.fixed32()?,
                _ => {}
            }
        }
        let (Some(trace_id), Some(span_id)) = (trace_id, span_id) else {
            return Ok(None);
        };
        Ok(Some(Link {
            trace_id,
            span_id,
            ..link
        }))
    }

    fn attribute(
        &mut self,
        field: &Field<'_>,
        attributes: &mut Vec<KeyValue>,
        dropped: &mut u32,
    ) -> Result<(), BadValue> {
        if attributes.len() >= ATTRIBUTES_MAX {
            drop_one(dropped);
            return Ok(());
        }
        self.room.take(size_of::<KeyValue>())?;
        let (key, value) = read_pair(field.bytes()?)?;
        let key = self.text(&key);
        let value = match value {
            AnyValue::Str(text) => AttributeValue::Str(self.text(&text)),
            other => other.into_attribute(&mut self.room)?,
        };
        attributes.push(KeyValue { key, value });
        Ok(())
    }

    fn status(&mut self, message: &[u8], span: &mut Span) -> Result<(), BadWire> {
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                2 => span.status_message = self.text(&field.text()?),
                3 => span.status = StatusCode::from_number(field.int32()?),
                _ => {}
            }
        }
        Ok(())
    }

    /// A copy, in memory that was used before if there is some.
    fn text(&mut self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.push_str(text);
        copy
    }

    /// Takes a string's memory for the next one.
    fn spare(&mut self, mut text: String) {
        if text.capacity() > 0 && self.spare.len() < SPARE_MAX {
            text.clear();
            self.spare.push(text);
        }
    }

    /// Makes a span as if new, but for its resource and scope.
    fn clear(&mut self, span: &mut Span) {
        let attributes = std::mem::take(&mut span.attributes);
        let attributes = self.clear_attributes(attributes);
        let mut events = std::mem::take(&mut span.events);
        for event in events.drain(..) {
            self.clear_attributes(event.attributes);
            self.spare(event.name);
        }
        let mut links = std::mem::take(&mut span.links);
        for link in links.drain(..) {
            self.clear_attributes(link.attributes);
            self.spare(link.trace_state);
        }
        let (resource, scope) = (span.resource.clone(), span.scope.clone());
        let old = std::mem::replace(span, Span::of(resource, scope));
        for text in [old.name, old.trace_state, old.status_message] {
            self.spare(text);
        }
        (span.attributes, span.events, span.links) = (attributes, events, links);
    }

    fn clear_attributes(&mut self, mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
        for kv in attributes.drain(..) {
            if let AttributeValue::Str(text) = kv.value {
                self.spare(text);
            }
            self.spare(kv.key);
        }
        attributes
    }

    /// An attribute of a resource or scope; one nested too deeply is dropped with a warning, for the spans are sound.
    fn shared_attribute(
        &mut self,
        field: &Field<'_>,
        attributes: &mut Vec<KeyValue>,
        dropped: &mut u32,
    ) -> Result<(), Refusal> {
        self.room.take(field.bytes()?.len())?;
        if let Err(bad) = self.attribute(field, attributes, dropped) {
            let words = bad.of_item()?;
            drop_one(dropped);
            self.report
                .warn(|| format!("resource or scope attribute left out: {words}"));
        }
        Ok(())
    }
}

/// Instants beyond 2262 are the end of time.
fn instant(unix_nano: u64) -> TimestampNs {
    TimestampNs(i64::try_from(unix_nano).unwrap_or(i64::MAX))
}

fn add_dropped(dropped: &mut u32, field: &Field<'_>) -> Result<(), BadWire> {
    *dropped = dropped.saturating_add(field.varint()? as u32);
    Ok(())
}

fn drop_one(dropped: &mut u32) {
    *dropped = dropped.saturating_add(1);
}

fn hex_words(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().take(32).map(|b| format!("{b:02x}")).collect();
    if hex.is_empty() { "(none)".to_owned() } else { hex }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1 as proto;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    const ROOM: usize = 1 << 20;

    fn decode(request: &[u8], bytes_max: usize) -> Result<(Vec<Span>, Report), Refusal> {
        let mut spans = Vec::new();
        let report = super::decode(request, bytes_max, &mut |span| spans.push(span.clone()))?;
        Ok((spans, report))
    }

    fn request(spans: Vec<proto::Span>) -> Vec<u8> {
        ExportTraceServiceRequest {
            resource_spans: vec![proto::ResourceSpans {
                scope_spans: vec![proto::ScopeSpans {
                    spans,
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    fn span(trace_id: &[u8], span_id: &[u8], parent: &[u8]) -> proto::Span {
        proto::Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id: parent.to_vec(),
            name: "op".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn bad_ids_refuse_that_span_only() {
        let (t, s) = ([7; 16], [9; 8]);
        let all = request(vec![
            span(&t, &s, &[]),
            span(&t, &s, &[0; 8]),
            span(&t, &s, &[3; 8]),
            span(&[], &s, &[]),
            span(&[0; 16], &s, &[]),
            span(&t[..15], &s, &[]),
            span(&t, &[], &[]),
            span(&t, &[0; 8], &[]),
            span(&t, &s, &[1; 7]),
        ]);
        let (spans, report) = decode(&all, ROOM).unwrap();
        let parents: Vec<Option<SpanId>> = spans.iter().map(|s| s.parent_span_id).collect();
        assert_eq!(parents, [None, None, Some(SpanId(0x0303_0303_0303_0303))]);
        assert_eq!((report.items, report.rejected), (9, 6));
        assert!(
            report.message().contains("invalid trace id (none)"),
            "{}",
            report.message()
        );
    }

    #[test]
    fn links_to_nowhere_and_too_many_children_count_as_dropped() {
        let mut one = span(&[7; 16], &[9; 8], &[]);
        one.links = vec![proto::span::Link::default()];
        one.dropped_links_count = 2;
        one.events = vec![proto::span::Event::default(); CHILDREN_MAX + 5];
        let (spans, report) = decode(&request(vec![one]), ROOM).unwrap();
        let span = &spans[0];
        assert_eq!((span.links.len(), span.dropped_links), (0, 3));
        assert_eq!((span.events.len(), span.dropped_events), (CHILDREN_MAX, 5));
        assert!(report.is_clean());
    }

    #[test]
    fn a_request_that_unfolds_is_refused() {
        let one = proto::Span {
            events: vec![proto::span::Event::default(); 900],
            ..span(&[7; 16], &[9; 8], &[])
        };
        let refusal = decode(&request(vec![one; 100]), ROOM).unwrap_err();
        assert!(matches!(refusal, Refusal::TooLarge(_)), "{refusal}");
    }

    #[test]
    fn truncated_requests_are_bad() {
        let whole = request(vec![span(&[7; 16], &[9; 8], &[])]);
        for len in 1..whole.len() {
            assert!(decode(&whole[..len], ROOM).is_err(), "{len}");
        }
    }

    #[test]
    fn nothing_is_left_of_the_span_before() {
        let attribute = |key: &str| opentelemetry_proto::tonic::common::v1::KeyValue {
            key: key.to_owned(),
            value: Some(opentelemetry_proto::tonic::common::v1::AnyValue {
                value: Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(
                    key.repeat(3),
                )),
            }),
            ..Default::default()
        };
        let full = |id: u8| proto::Span {
            trace_state: "a=b".to_owned(),
            flags: 3,
            kind: 2,
            start_time_unix_nano: 5,
            end_time_unix_nano: 6,
            attributes: vec![attribute("key"), attribute("other")],
            dropped_attributes_count: 1,
            events: vec![proto::span::Event {
                name: "event".to_owned(),
                attributes: vec![attribute("x")],
                ..Default::default()
            }],
            dropped_events_count: 2,
            links: vec![proto::span::Link {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                trace_state: "c=d".to_owned(),
                attributes: vec![attribute("y")],
                ..Default::default()
            }],
            dropped_links_count: 3,
            status: Some(proto::Status {
                message: "why".to_owned(),
                code: 2,
            }),
            ..span(&[7; 16], &[id; 8], &[9; 8])
        };
        let bad = proto::Span {
            trace_id: Vec::new(),
            ..full(5)
        };
        let all = [
            full(1),
            span(&[7; 16], &[2; 8], &[]),
            full(3),
            bad,
            span(&[8; 16], &[4; 8], &[]),
        ];
        let alone = all
            .iter()
            .flat_map(|one| decode(&request(vec![one.clone()]), ROOM).unwrap().0);
        let alone: Vec<Span> = alone.collect();
        let (together, report) = decode(&request(all.to_vec()), ROOM).unwrap();
        assert_eq!((together.len(), report.rejected), (4, 1));
        assert_eq!(together, alone);
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, ROOM);
        }

        /// A valid request with some bytes changed reaches deeper than noise does.
        #[test]
        fn damaged_requests_do_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = request(vec![span(&[7; 16], &[9; 8], &[1; 8])]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes, ROOM);
        }
    }
}
