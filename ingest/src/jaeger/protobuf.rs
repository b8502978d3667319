//! Jaeger's `api_v2` messages, read in place.
//!
//!     PostSpansRequest  1 batch                    Batch     1 spans*, 2 process
//!     Process           1 service_name, 2 tags*    SpanRef   1 trace_id, 2 span_id, 3 ref_type (0 CHILD_OF, 1 FOLLOWS_FROM)
//!     Span              1 trace_id, 2 span_id, 3 operation_name, 4 references*, 6 start_time, 7 duration, 8 tags*, 9 logs*,
//!                       10 process
//!     Log               1 timestamp, 2 fields*     Timestamp, Duration   1 seconds, 2 nanos
//!     KeyValue          1 key, 2 v_type (0 string, 1 bool, 2 int64, 3 float64, 4 binary), 3 v_str, 4 v_bool, 5 v_int64,
//!                       6 v_float64, 7 v_binary
//!
//! A span's own process beats that of the batch.

use std::collections::HashMap;
use std::sync::Arc;

use model::{AttributeValue, Event, KeyValue, Resource, Span, SpanBatch, TimestampNs};

use super::translate::{Translation, resource_of};
use super::{JaegerSpan, Process, Reference, Relation, push_bounded};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::wire::{Field, Fields};

/// Decodes a `PostSpansRequest`. What it unfolds to holds about `bytes_max` at most.
pub(super) fn decode(request: &[u8], bytes_max: usize) -> Result<(SpanBatch, Report), Refusal> {
    let mut reading = Reading {
        room: Room::new(bytes_max),
        translation: Translation::default(),
        resources: HashMap::new(),
    };
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 1 {
            reading.batch(field.bytes()?)?;
        }
    }
    Ok(reading.translation.finish())
}

struct Reading<'a> {
    room: Room,
    translation: Translation,
    /// Resources by the bytes of their process: equal ones are shared.
    resources: HashMap<&'a [u8], Arc<Resource>>,
}

impl<'a> Reading<'a> {
    fn batch(&mut self, message: &'a [u8]) -> Result<(), Refusal> {
        let mut shared = Arc::default();
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 2 {
                shared = self.resource(field.bytes()?)?;
            }
        }
        self.translation.begin();
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 1 {
                let span = self.span(field.bytes()?, &shared)?;
                self.translation.span(span);
            }
        }
        Ok(())
    }

    fn resource(&mut self, message: &'a [u8]) -> Result<Arc<Resource>, Refusal> {
        if let Some(known) = self.resources.get(message) {
            return Ok(known.clone());
        }
        self.room.take(size_of::<Resource>() + message.len())?;
        let mut process = Process::default();
        let mut dropped = 0;
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => process.service = field.text()?.into_owned(),
                2 => self.tag(&field, &mut process.tags, &mut dropped)?,
                _ => {}
            }
        }
        let resource = Arc::new(resource_of(process));
        self.resources.insert(message, resource.clone());
        Ok(resource)
    }

    fn span(&mut self, message: &'a [u8], shared: &Arc<Resource>) -> Result<JaegerSpan, Refusal> {
        self.room.take(size_of::<Span>() + message.len())?;
        let mut span = JaegerSpan {
            resource: shared.clone(),
            ..JaegerSpan::default()
        };
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => span.trace_id = trace_id(&field)?,
                2 => span.span_id = span_id(&field)?,
                3 => span.name = field.text()?.into_owned(),
                4 => {
                    self.room.take(size_of::<Reference>())?;
                    push_bounded(&mut span.references, &mut 0, reference(field.bytes()?)?);
                }
                6 => span.start = TimestampNs(nanos(field.bytes()?)?),
                7 => span.duration_ns = nanos(field.bytes()?)?,
                8 => self.tag(&field, &mut span.tags, &mut span.dropped_tags)?,
                9 => {
                    let event = self.log(field.bytes()?)?;
                    push_bounded(&mut span.logs, &mut span.dropped_logs, event);
                }
                10 => span.resource = self.resource(field.bytes()?)?,
                _ => {}
            }
        }
        Ok(span)
    }

    fn log(&mut self, message: &'a [u8]) -> Result<Event, Refusal> {
        self.room.take(size_of::<Event>())?;
        let mut event = Event::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => event.t = TimestampNs(nanos(field.bytes()?)?),
                2 => self.tag(&field, &mut event.attributes, &mut event.dropped_attributes)?,
                _ => {}
            }
        }
        Ok(event)
    }

    fn tag(&mut self, field: &Field<'a>, tags: &mut Vec<KeyValue>, dropped: &mut u32) -> Result<(), Refusal> {
        self.room.take(size_of::<KeyValue>())?;
        let (mut key, mut kind) = (String::new(), 0);
        let (mut text, mut binary) = (String::new(), Vec::new());
        let (mut truth, mut int, mut double) = (false, 0, 0.0);
        for field in Fields::new(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => key = field.text()?.into_owned(),
                2 => kind = field.int32()?,
                3 => text = field.text()?.into_owned(),
                4 => truth = field.varint()? != 0,
                5 => int = field.varint()? as i64,
                6 => double = field.double()?,
                7 => binary = field.bytes()?.to_vec(),
                _ => {}
            }
        }
        let value = match kind {
            1 => AttributeValue::Bool(truth),
            2 => AttributeValue::Int(int),
            3 => AttributeValue::Double(double),
            4 => AttributeValue::Bytes(binary),
            _ => AttributeValue::Str(text),
        };
        push_bounded(tags, dropped, KeyValue { key, value });
        Ok(())
    }
}

fn reference(message: &[u8]) -> Result<Reference, Refusal> {
    let mut reference = Reference {
        relation: Relation::ChildOf,
        trace_id: 0,
        span_id: 0,
    };
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => reference.trace_id = trace_id(&field)?,
            2 => reference.span_id = span_id(&field)?,
            3 if field.int32()? == 1 => reference.relation = Relation::FollowsFrom,
            _ => {}
        }
    }
    Ok(reference)
}

/// Ids of another length are 0, which no span has.
fn trace_id(field: &Field<'_>) -> Result<u128, Refusal> {
    let bytes = field.bytes()?;
    Ok(match (<[u8; 16]>::try_from(bytes), <[u8; 8]>::try_from(bytes)) {
        (Ok(long), _) => u128::from_be_bytes(long),
        (_, Ok(short)) => u128::from(u64::from_be_bytes(short)),
        _ => 0,
    })
}

fn span_id(field: &Field<'_>) -> Result<u64, Refusal> {
    let bytes = <[u8; 8]>::try_from(field.bytes()?);
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

fn nanos(message: &[u8]) -> Result<i64, Refusal> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = field.int32()?,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos)))
}
