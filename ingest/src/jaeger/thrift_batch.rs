//! Jaeger's Thrift model, in either protocol.
//!
//!     Batch    1 process, 2 spans*                              Process  1 serviceName, 2 tags*
//!     Span     1 traceIdLow, 2 traceIdHigh, 3 spanId, 4 parentSpanId, 5 operationName, 6 references*,
//!              8 startTime µs, 9 duration µs, 10 tags*, 11 logs*
//!     SpanRef  1 refType (0 CHILD_OF, 1 FOLLOWS_FROM), 2 traceIdLow, 3 traceIdHigh, 4 spanId
//!     Log      1 timestamp µs, 2 fields*
//!     Tag      1 key, 2 vType (0 string, 1 double, 2 bool, 3 long, 4 binary), 3 vStr, 4 vDouble, 5 vBool, 6 vLong, 7 vBinary
//!
//! A datagram is the message `emitBatch` whose argument 1 is a batch, or `emitZipkinBatch` with a list of Zipkin's spans.

use std::sync::Arc;

use model::{AttributeValue, Event, KeyValue, Resource, Span, SpanBatch, TimestampNs};

use super::translate::{Translation, resource_of};
use super::{JaegerSpan, Process, Reference, Relation, micros, push_bounded};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::thrift::{Protocol, Reader, Value};
use crate::zipkin;

/// Decodes the body of `POST /api/traces`: one batch in the binary protocol.
pub(super) fn decode_body(body: &[u8], bytes_max: usize) -> Result<(SpanBatch, Report), Refusal> {
    let mut room = Room::new(bytes_max);
    let mut translation = Translation::default();
    batch(&mut Reader::new(body, Protocol::Binary), &mut room, &mut translation)?;
    Ok(translation.finish())
}

/// Decodes a datagram.
pub(super) fn decode_datagram(
    datagram: &[u8],
    bytes_max: usize,
    arrived: TimestampNs,
) -> Result<(SpanBatch, Report), Refusal> {
    let (name, mut reader) = Reader::of_message(datagram)?;
    let mut room = Room::new(bytes_max);
    match &*name {
        "emitBatch" => {
            let mut translation = Translation::default();
            reader.fields(&mut |reader, field| match field.id {
                1 => reader.structure(field, &mut |reader, field| {
                    in_batch(reader, field, &mut room, &mut translation)
                }),
                _ => reader.skip(field),
            })?;
            Ok(translation.finish())
        }
        "emitZipkinBatch" => {
            let mut spans = Vec::new();
            reader.fields(&mut |reader, field| match field.id {
                1 => reader.list(field, &mut |reader, element| {
                    zipkin::version1::thrift_span(reader, element, &mut room, &mut spans)
                }),
                _ => reader.skip(field),
            })?;
            zipkin::translate::translated(spans, Report::default(), arrived, &mut room)
        }
        other => Err(Refusal::Bad(format!(
            "Thrift message {other:?} is not known; send emitBatch or emitZipkinBatch"
        ))),
    }
}

fn batch(reader: &mut Reader<'_>, room: &mut Room, translation: &mut Translation) -> Result<(), Refusal> {
    reader.fields(&mut |reader, field| in_batch(reader, field, room, translation))?;
    if !translation.saw_batch() {
        return Err(Refusal::Bad("malformed Thrift: not a batch of spans".to_owned()));
    }
    Ok(())
}

fn in_batch(
    reader: &mut Reader<'_>,
    field: Value,
    room: &mut Room,
    translation: &mut Translation,
) -> Result<(), Refusal> {
    match field.id {
        1 => {
            let process = process(reader, field, room)?;
            translation.process(resource_of(process));
            Ok(())
        }
        2 => {
            translation.begin();
            reader.list(field, &mut |reader, element| {
                let span = span(reader, element, room)?;
                translation.span(span);
                Ok(())
            })
        }
        _ => reader.skip(field),
    }
}

fn process(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<Process, Refusal> {
    room.take(size_of::<Resource>())?;
    let mut process = Process::default();
    let mut dropped = 0;
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => process.service = text(reader, field, room)?,
            2 => tags(reader, field, room, &mut process.tags, &mut dropped)?,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    Ok(process)
}

fn span(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<JaegerSpan, Refusal> {
    room.take(size_of::<Span>())?;
    let mut span = JaegerSpan {
        resource: Arc::default(),
        ..JaegerSpan::default()
    };
    let (mut low, mut high) = (0, 0);
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => low = reader.int(field)? as u64,
            2 => high = reader.int(field)? as u64,
            3 => span.span_id = reader.int(field)? as u64,
            4 => span.parent_id = reader.int(field)? as u64,
            5 => span.name = text(reader, field, room)?,
            6 => reader.list(field, &mut |reader, element| {
                room.take(size_of::<Reference>())?;
                let one = reference(reader, element)?;
                push_bounded(&mut span.references, &mut 0, one);
                Ok(())
            })?,
            8 => span.start = TimestampNs(micros(reader.int(field)?)),
            9 => span.duration_ns = micros(reader.int(field)?),
            10 => tags(reader, field, room, &mut span.tags, &mut span.dropped_tags)?,
            11 => reader.list(field, &mut |reader, element| {
                room.take(size_of::<Event>())?;
                let one = log(reader, element, room)?;
                push_bounded(&mut span.logs, &mut span.dropped_logs, one);
                Ok(())
            })?,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    span.trace_id = u128::from(high) << 64 | u128::from(low);
    Ok(span)
}

fn reference(reader: &mut Reader<'_>, value: Value) -> Result<Reference, Refusal> {
    let (mut kind, mut low, mut high, mut span_id) = (0, 0, 0, 0);
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => kind = reader.int(field)?,
            2 => low = reader.int(field)? as u64,
            3 => high = reader.int(field)? as u64,
            4 => span_id = reader.int(field)? as u64,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    Ok(Reference {
        relation: if kind == 1 {
            Relation::FollowsFrom
        } else {
            Relation::ChildOf
        },
        trace_id: u128::from(high) << 64 | u128::from(low),
        span_id,
    })
}

fn log(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<Event, Refusal> {
    let mut event = Event::default();
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => event.t = TimestampNs(micros(reader.int(field)?)),
            2 => tags(
                reader,
                field,
                room,
                &mut event.attributes,
                &mut event.dropped_attributes,
            )?,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    Ok(event)
}

fn tags(
    reader: &mut Reader<'_>,
    list: Value,
    room: &mut Room,
    tags: &mut Vec<KeyValue>,
    dropped: &mut u32,
) -> Result<(), Refusal> {
    reader.list(list, &mut |reader, element| {
        room.take(size_of::<KeyValue>())?;
        let one = tag(reader, element, room)?;
        push_bounded(tags, dropped, one);
        Ok(())
    })
}

fn tag(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<KeyValue, Refusal> {
    let (mut key, mut kind) = (String::new(), 0);
    let (mut text_value, mut binary) = (String::new(), Vec::new());
    let (mut double, mut truth, mut long) = (0.0, false, 0);
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => key = text(reader, field, room)?,
            2 => kind = reader.int(field)?,
            3 => text_value = text(reader, field, room)?,
            4 => double = reader.double(field)?,
            5 => truth = reader.bool(field)?,
            6 => long = reader.int(field)?,
            7 => {
                let bytes = reader.bytes(field)?;
                room.take(bytes.len())?;
                binary = bytes.to_vec();
            }
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    let value = match kind {
        1 => AttributeValue::Double(double),
        2 => AttributeValue::Bool(truth),
        3 => AttributeValue::Int(long),
        4 => AttributeValue::Bytes(binary),
        _ => AttributeValue::Str(text_value),
    };
    Ok(KeyValue { key, value })
}

fn text(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<String, Refusal> {
    let text = reader.text(value)?;
    room.take(text.len())?;
    Ok(text)
}
