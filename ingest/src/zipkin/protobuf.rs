//! Version 2 in protobuf (`zipkin.proto3`), read in place.
//!
//!     ListOfSpans  1 spans*
//!     Span         1 trace_id, 2 parent_id, 3 id, 4 kind (1 CLIENT .. 4 CONSUMER), 5 name, 6 timestamp fixed64 µs,
//!                  7 duration µs, 8 local_endpoint, 9 remote_endpoint, 10 annotations*, 11 tags*
//!     Endpoint     1 service_name, 2 ipv4, 3 ipv6, 4 port      Annotation  1 timestamp fixed64 µs, 2 value
//!     a tag        1 key, 2 value

use std::net::IpAddr;

use super::{Endpoint, Kind, ZipkinSpan};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::wire::{BadWire, Fields};

/// Decodes a `ListOfSpans`. A span with a bad id is reported and left out.
pub(super) fn decode(body: &[u8], room: &mut Room) -> Result<(Vec<ZipkinSpan>, Report), Refusal> {
    let mut spans = Vec::new();
    let mut report = Report::default();
    for field in Fields::new(body) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        report.items += 1;
        let message = field.bytes()?;
        room.take(size_of::<ZipkinSpan>() + 2 * message.len())?;
        let read = span(message)?;
        match read.trace_id != 0 && read.id != 0 {
            true => spans.push(read),
            false => report.reject(1, || format!("span {:?} has an invalid id", read.name)),
        }
    }
    Ok((spans, report))
}

fn span(message: &[u8]) -> Result<ZipkinSpan, BadWire> {
    let mut span = ZipkinSpan::default();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => span.trace_id = big_endian(field.bytes()?, 16),
            2 => span.parent = Some(big_endian(field.bytes()?, 8) as u64).filter(|id| *id != 0),
            3 => span.id = big_endian(field.bytes()?, 8) as u64,
            4 => {
                span.kind = match field.varint()? {
                    1 => Some(Kind::Client),
                    2 => Some(Kind::Server),
                    3 => Some(Kind::Producer),
                    4 => Some(Kind::Consumer),
                    _ => None,
                }
            }
            5 => span.name = field.text()?.into_owned(),
            6 => span.timestamp = Some(field.fixed64()?).filter(|us| *us > 0),
            7 => span.duration = field.varint()?,
            8 => span.local = endpoint(field.bytes()?)?,
            9 => span.remote = endpoint(field.bytes()?)?,
            10 => {
                let (mut t, mut value) = (0, String::new());
                for field in Fields::new(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        1 => t = field.fixed64()?,
                        2 => value = field.text()?.into_owned(),
                        _ => {}
                    }
                }
                span.annotate(t, value);
            }
            11 => {
                let (mut key, mut value) = (String::new(), String::new());
                for field in Fields::new(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        1 => key = field.text()?.into_owned(),
                        2 => value = field.text()?.into_owned(),
                        _ => {}
                    }
                }
                span.tag(key, value);
            }
            _ => {}
        }
    }
    Ok(span)
}

fn endpoint(message: &[u8]) -> Result<Endpoint, BadWire> {
    let mut endpoint = Endpoint::default();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => endpoint.service = field.text()?.into_owned(),
            2 => endpoint.ipv4 = <[u8; 4]>::try_from(field.bytes()?).ok().map(IpAddr::from),
            3 => endpoint.ipv6 = <[u8; 16]>::try_from(field.bytes()?).ok().map(IpAddr::from),
            4 => endpoint.port = u16::try_from(field.int32()?).unwrap_or(0),
            _ => {}
        }
    }
    Ok(endpoint)
}

/// An id of at most so many bytes; a longer one is 0, which no span has.
fn big_endian(bytes: &[u8], bytes_max: usize) -> u128 {
    if bytes.len() > bytes_max {
        return 0;
    }
    bytes.iter().fold(0, |id, b| id << 8 | u128::from(*b))
}
