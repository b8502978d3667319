//! Version 1, in which the side of a call and its times are annotations (`cs`, `cr`, `sr`, `ss`, `ms`, `mr`) and endpoints
//! hang on them; in JSON, and in Thrift as old clients and Jaeger's agent send it. A span that holds both sides becomes
//! two that share their id, as version 2 has them.
//!
//!     Span              1 trace_id, 3 name, 4 id, 5 parent_id, 6 annotations*, 8 binary_annotations*, 10 timestamp,
//!                       11 duration, 12 trace_id_high
//!     Annotation        1 timestamp, 2 value, 3 host
//!     BinaryAnnotation  1 key, 2 value, 3 type (0 bool, 1 bytes, 2 i16, 3 i32, 4 i64, 5 double, 6 string), 4 host
//!     Endpoint          1 ipv4 i32, 2 port i16, 3 service_name, 4 ipv6

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::json::{self, AnnotationJson, Bounded, EndpointJson, Micros, TagText};
use super::{Endpoint, Kind, ZipkinSpan};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::thrift::{Protocol, Reader, Value};

/// Decodes a JSON list of spans.
pub(super) fn decode_json(body: &[u8], room: &mut Room) -> Result<(Vec<ZipkinSpan>, Report), Refusal> {
    json::each(body, room, |raw, out| {
        let json: SpanJson = serde_json::from_str(raw).map_err(|e| e.to_string())?;
        json.into_span()?.into_version2(out);
        Ok(())
    })
}

/// Decodes a list of spans in Thrift's binary protocol.
pub(super) fn decode_thrift(body: &[u8], room: &mut Room) -> Result<(Vec<ZipkinSpan>, Report), Refusal> {
    let mut spans = Vec::new();
    Reader::new(body, Protocol::Binary)
        .elements(&mut |reader, element| thrift_span(reader, element, room, &mut spans))?;
    Ok((spans, Report::default()))
}

/// Reads one span in Thrift.
pub(crate) fn thrift_span(
    reader: &mut Reader<'_>,
    value: Value,
    room: &mut Room,
    out: &mut Vec<ZipkinSpan>,
) -> Result<(), Refusal> {
    room.take(2 * size_of::<ZipkinSpan>())?;
    let mut span = Version1::default();
    let (mut low, mut high) = (0, 0);
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => low = reader.int(field)? as u64,
            3 => span.name = counted(reader.text(field)?, room)?,
            4 => span.id = reader.int(field)? as u64,
            5 => span.parent = Some(reader.int(field)? as u64).filter(|id| *id != 0),
            6 => reader.list(field, &mut |reader, element| {
                room.take(size_of::<Annotation>())?;
                span.annotations.push(thrift_annotation(reader, element, room)?);
                Ok(())
            })?,
            8 => reader.list(field, &mut |reader, element| {
                room.take(size_of::<Binary>())?;
                span.binary.push(thrift_binary(reader, element, room)?);
                Ok(())
            })?,
            10 => span.timestamp = u64::try_from(reader.int(field)?).ok().filter(|us| *us > 0),
            11 => span.duration = u64::try_from(reader.int(field)?).unwrap_or(0),
            12 => high = reader.int(field)? as u64,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    span.trace_id = u128::from(high) << 64 | u128::from(low);
    span.into_version2(out);
    Ok(())
}

fn counted(text: String, room: &mut Room) -> Result<String, Refusal> {
    room.take(2 * text.len())?;
    Ok(text)
}

fn thrift_annotation(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<Annotation, Refusal> {
    let mut annotation = Annotation::default();
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => annotation.t = u64::try_from(reader.int(field)?).unwrap_or(0),
            2 => annotation.value = counted(reader.text(field)?, room)?,
            3 => annotation.host = thrift_endpoint(reader, field, room)?,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    Ok(annotation)
}

fn thrift_binary(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<Binary, Refusal> {
    let mut binary = Binary::default();
    let (mut bytes, mut kind): (&[u8], i64) = (&[], 6);
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => binary.key = counted(reader.text(field)?, room)?,
            2 => bytes = reader.bytes(field)?,
            3 => kind = reader.int(field)?,
            4 => binary.host = thrift_endpoint(reader, field, room)?,
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    let number = bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    binary.is_bool = kind == 0;
    binary.value = match (kind, bytes.len()) {
        (0, _) => (number == 1).to_string(),
        (2, 2) => (number as u16 as i16).to_string(),
        (3, 4) => (number as u32 as i32).to_string(),
        (4, 8) => (number as i64).to_string(),
        (5, 8) => f64::from_bits(number).to_string(),
        _ => counted(String::from_utf8_lossy(bytes).into_owned(), room)?,
    };
    Ok(binary)
}

fn thrift_endpoint(reader: &mut Reader<'_>, value: Value, room: &mut Room) -> Result<Endpoint, Refusal> {
    let mut endpoint = Endpoint::default();
    reader.structure(value, &mut |reader, field| {
        match field.id {
            1 => {
                let bits = reader.int(field)? as i32 as u32;
                endpoint.ipv4 = (bits != 0).then(|| IpAddr::V4(Ipv4Addr::from_bits(bits)));
            }
            2 => endpoint.port = reader.int(field)? as i16 as u16,
            3 => endpoint.service = counted(reader.text(field)?, room)?,
            4 => endpoint.ipv6 = <[u8; 16]>::try_from(reader.bytes(field)?).ok().map(IpAddr::from),
            _ => reader.skip(field)?,
        }
        Ok(())
    })?;
    Ok(endpoint)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct SpanJson<'a> {
    #[serde(borrow)]
    trace_id: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    parent_id: Option<Cow<'a, str>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    timestamp: Micros,
    #[serde(default)]
    duration: Micros,
    #[serde(default)]
    annotations: Bounded<AnnotationJson>,
    #[serde(default)]
    binary_annotations: Bounded<BinaryJson>,
}

#[derive(Deserialize)]
struct BinaryJson {
    key: String,
    value: TagText,
    #[serde(default)]
    endpoint: Option<EndpointJson>,
}

impl SpanJson<'_> {
    fn into_span(self) -> Result<Version1, String> {
        let endpoint = |json: Option<EndpointJson>| json.map(EndpointJson::into_endpoint).unwrap_or_default();
        let (dropped_annotations, dropped_binary) = (self.annotations.dropped, self.binary_annotations.dropped);
        let annotations = self.annotations.kept.into_iter().map(|a| Annotation {
            t: a.timestamp.0.unwrap_or(0),
            value: a.value,
            host: endpoint(a.endpoint),
        });
        let binary = self.binary_annotations.kept.into_iter().map(|b| {
            let value = b.value.0.unwrap_or_default();
            Binary {
                is_bool: value == "true" || value == "false",
                key: b.key,
                value,
                host: endpoint(b.endpoint),
            }
        });
        Ok(Version1 {
            trace_id: json::trace_id(&self.trace_id)?,
            id: json::span_id(&self.id)?,
            parent: json::parent_id(self.parent_id.as_deref())?,
            name: self.name.unwrap_or_default(),
            timestamp: self.timestamp.0.filter(|us| *us > 0),
            duration: self.duration.0.unwrap_or(0),
            annotations: annotations.collect(),
            dropped_annotations,
            binary: binary.collect(),
            dropped_binary,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Annotation {
    t: u64,
    value: String,
    host: Endpoint,
}

#[derive(Clone, Debug, Default)]
struct Binary {
    key: String,
    value: String,
    is_bool: bool,
    host: Endpoint,
}

#[derive(Clone, Debug, Default)]
struct Version1 {
    trace_id: u128,
    id: u64,
    parent: Option<u64>,
    name: String,
    timestamp: Option<u64>,
    duration: u64,
    annotations: Vec<Annotation>,
    dropped_annotations: u32,
    binary: Vec<Binary>,
    dropped_binary: u32,
}

/// The sides of a call: the annotations that begin and end it, and the address of the other side.
const SIDES: [(Kind, &str, &str, &str); 4] = [
    (Kind::Client, "cs", "cr", "sa"),
    (Kind::Server, "sr", "ss", "ca"),
    (Kind::Producer, "ms", "", "ma"),
    (Kind::Consumer, "mr", "", "ma"),
];

impl Version1 {
    /// The sides that the span tells of become a span each; without any it is a local one.
    fn into_version2(self, out: &mut Vec<ZipkinSpan>) {
        let find = |value: &str| self.annotations.iter().find(|a| !value.is_empty() && a.value == value);
        let sides: Vec<_> = SIDES
            .iter()
            .filter(|(_, begins, ends, _)| find(begins).is_some() || find(ends).is_some())
            .collect();
        let hosts = self.annotations.iter().map(|a| &a.host);
        let all_hosts = hosts.chain(self.binary.iter().filter(|b| !b.is_bool).map(|b| &b.host));
        let fallback = all_hosts.into_iter().find(|host| !host.service.is_empty()).cloned();
        let plain = ZipkinSpan {
            trace_id: self.trace_id,
            id: self.id,
            parent: self.parent,
            name: self.name.clone(),
            timestamp: self.timestamp,
            duration: self.duration,
            local: fallback.unwrap_or_default(),
            dropped_annotations: self.dropped_annotations,
            dropped_tags: self.dropped_binary,
            ..ZipkinSpan::default()
        };
        if sides.is_empty() {
            let mut span = plain;
            self.describe(&mut span, None);
            out.push(span);
            return;
        }
        let several = sides.len() > 1;
        for (kind, begins, ends, other) in sides {
            let (begin, end) = (find(begins), find(ends));
            let mut span = plain.clone();
            span.kind = Some(*kind);
            if let Some(side) = begin.or(end).filter(|a| a.host != Endpoint::default()) {
                span.local = side.host.clone();
            }
            // Times of the span are those of the side that made it.
            if several && *kind == Kind::Server || span.timestamp.is_none() {
                span.timestamp = begin.map(|a| a.t).filter(|t| *t > 0);
            }
            if let (true, Some(begin), Some(end)) = (span.duration == 0 || several, begin, end) {
                span.duration = end.t.saturating_sub(begin.t);
            }
            if let Some(address) = self.binary.iter().find(|b| b.key == *other && b.is_bool) {
                span.remote = address.host.clone();
            }
            let service = span.local.service.clone();
            self.describe(&mut span, several.then_some(&*service));
            out.push(span);
        }
    }

    /// Tags and annotations; with a service, only those that its host gave.
    fn describe(&self, span: &mut ZipkinSpan, service: Option<&str>) {
        let ours = |host: &Endpoint| service.is_none_or(|s| host.service.is_empty() || host.service == s);
        let core = |value: &str| {
            SIDES
                .iter()
                .any(|(_, begins, ends, _)| value == *begins || value == *ends)
        };
        for a in self.annotations.iter().filter(|a| ours(&a.host) && !core(&a.value)) {
            span.annotate(a.t, a.value.clone());
        }
        let address = |b: &Binary| b.is_bool && SIDES.iter().any(|(_, _, _, other)| b.key == *other);
        for b in self.binary.iter().filter(|b| ours(&b.host) && !address(b)) {
            if b.key != "lc" || !b.value.is_empty() {
                span.tag(b.key.clone(), b.value.clone());
            }
        }
    }
}
