//! Version 2 in JSON, and the parts that version 1 shares with it. Senders are taken at their word where it does no harm:
//! numbers may be text, tags may be numbers or bools, ids may have upper case.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Endpoint, Kind, PARTS_MAX, ZipkinSpan};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;

/// Decodes a list of spans. One that cannot be used is reported and left out.
pub(super) fn decode(body: &[u8], room: &mut Room) -> Result<(Vec<ZipkinSpan>, Report), Refusal> {
    each(body, room, |raw, out| {
        let json: SpanJson = serde_json::from_str(raw).map_err(|e| e.to_string())?;
        out.push(json.into_span()?);
        Ok(())
    })
}

/// Walks a JSON list, item by item: a list is never held as a whole, because an item of two bytes would take many.
pub(super) fn each(
    body: &[u8],
    room: &mut Room,
    mut read: impl FnMut(&str, &mut Vec<ZipkinSpan>) -> Result<(), String>,
) -> Result<(Vec<ZipkinSpan>, Report), Refusal> {
    let mut spans = Vec::new();
    let mut report = Report::default();
    let mut full = None;
    let mut see = |raw: &RawValue| -> Result<(), &'static str> {
        if let Err(refusal) = room.take(size_of::<ZipkinSpan>() + 2 * raw.get().len()) {
            full = Some(refusal);
            return Err("too large");
        }
        report.items += 1;
        if let Err(why) = read(raw.get(), &mut spans) {
            report.reject(1, || why);
        }
        Ok(())
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let walked = Items(&mut see).deserialize(&mut json).and_then(|()| json.end());
    match (full, walked) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(e)) => Err(Refusal::Bad(format!("malformed JSON list of spans: {e}"))),
        (None, Ok(())) => Ok((spans, report)),
    }
}

/// Hands on the items of a list.
struct Items<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> Result<(), &'static str>> DeserializeSeed<'de> for Items<F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue) -> Result<(), &'static str>> Visitor<'de> for Items<F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            (self.0)(raw).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A list of which the first [`PARTS_MAX`] items are kept.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    pub kept: Vec<T>,
    pub dropped: u32,
}

impl<T> Default for Bounded<T> {
    fn default() -> Bounded<T> {
        Bounded {
            kept: Vec::new(),
            dropped: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bounded<T>, D::Error> {
        struct First<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
            type Value = Bounded<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E>(self) -> Result<Bounded<T>, E> {
                Ok(Bounded::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bounded<T>, A::Error> {
                let mut list = Bounded::default();
                while list.kept.len() < PARTS_MAX {
                    match seq.next_element()? {
                        Some(item) => list.kept.push(item),
                        None => return Ok(list),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    list.dropped = list.dropped.saturating_add(1);
                }
                Ok(list)
            }
        }
        deserializer.deserialize_any(First(PhantomData))
    }
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
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    timestamp: Micros,
    #[serde(default)]
    duration: Micros,
    #[serde(default)]
    local_endpoint: Option<EndpointJson>,
    #[serde(default)]
    remote_endpoint: Option<EndpointJson>,
    #[serde(default)]
    annotations: Bounded<AnnotationJson>,
    #[serde(default)]
    tags: Tags,
}

impl SpanJson<'_> {
    fn into_span(self) -> Result<ZipkinSpan, String> {
        let kind = match self.kind.as_deref() {
            Some("CLIENT") => Some(Kind::Client),
            Some("SERVER") => Some(Kind::Server),
            Some("PRODUCER") => Some(Kind::Producer),
            Some("CONSUMER") => Some(Kind::Consumer),
            _ => None,
        };
        let mut span = ZipkinSpan {
            trace_id: trace_id(&self.trace_id)?,
            id: span_id(&self.id)?,
            parent: parent_id(self.parent_id.as_deref())?,
            kind,
            name: self.name.unwrap_or_default(),
            timestamp: self.timestamp.0.filter(|us| *us > 0),
            duration: self.duration.0.unwrap_or(0),
            local: self.local_endpoint.map(EndpointJson::into_endpoint).unwrap_or_default(),
            remote: self
                .remote_endpoint
                .map(EndpointJson::into_endpoint)
                .unwrap_or_default(),
            ..ZipkinSpan::default()
        };
        for annotation in self.annotations.kept {
            span.annotate(annotation.timestamp.0.unwrap_or(0), annotation.value);
        }
        for (key, value) in self.tags.kept {
            span.tag(key, value);
        }
        span.dropped_annotations = self.annotations.dropped;
        span.dropped_tags = self.tags.dropped;
        Ok(span)
    }
}

/// 1 to 32 hexadecimal digits, not all zero.
pub(super) fn trace_id(text: &str) -> Result<u128, String> {
    hex(text, 32).ok_or_else(|| format!("invalid traceId {}", shown(text)))
}

/// 1 to 16 hexadecimal digits, not all zero.
pub(super) fn span_id(text: &str) -> Result<u64, String> {
    let id = hex(text, 16).ok_or_else(|| format!("invalid id {}", shown(text)))?;
    Ok(id as u64)
}

/// A parent that is absent, empty or all zero is none.
pub(super) fn parent_id(text: Option<&str>) -> Result<Option<u64>, String> {
    match text {
        None => Ok(None),
        Some(text) if text.bytes().all(|b| b == b'0') => Ok(None),
        Some(text) => match hex(text, 16) {
            Some(id) => Ok(Some(id as u64)),
            None => Err(format!("invalid parentId {}", shown(text))),
        },
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = !text.is_empty() && text.len() <= digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let id = fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    (id != 0).then_some(id)
}

fn shown(text: &str) -> String {
    format!("{:?}", &text[..text.floor_char_boundary(64)])
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointJson {
    #[serde(default)]
    service_name: Option<String>,
    #[serde(default)]
    ipv4: Option<String>,
    #[serde(default)]
    ipv6: Option<String>,
    #[serde(default)]
    port: Micros,
}

impl EndpointJson {
    pub fn into_endpoint(self) -> Endpoint {
        // An address that is none says nothing.
        let address = |text: Option<String>| text.and_then(|t| t.parse::<IpAddr>().ok());
        Endpoint {
            service: self.service_name.unwrap_or_default(),
            ipv4: address(self.ipv4),
            ipv6: address(self.ipv6),
            port: self.port.0.and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct AnnotationJson {
    #[serde(default)]
    pub timestamp: Micros,
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub endpoint: Option<EndpointJson>,
}

/// A whole number, also as text or with a fraction; what is none of these is absent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Micros(pub Option<u64>);

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Micros;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E>(self, v: u64) -> Result<Micros, E> {
                Ok(Micros(Some(v)))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Micros, E> {
                Ok(Micros(None))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Micros, E> {
                Ok(Micros((v >= 0.0).then_some(v as u64)))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Micros, E> {
                v.parse().map(|v| Micros(Some(v))).map_err(E::custom)
            }
            fn visit_unit<E>(self) -> Result<Micros, E> {
                Ok(Micros(None))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Tags in their order, of which the first [`PARTS_MAX`] are kept.
#[derive(Debug, Default)]
struct Tags {
    kept: Vec<(String, String)>,
    dropped: u32,
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Tags;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tags")
            }
            fn visit_unit<E>(self) -> Result<Tags, E> {
                Ok(Tags::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while tags.kept.len() < PARTS_MAX {
                    match map.next_entry::<String, TagText>()? {
                        Some((key, TagText(value))) => tags.kept.extend(value.map(|value| (key, value))),
                        None => return Ok(tags),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    tags.dropped = tags.dropped.saturating_add(1);
                }
                Ok(tags)
            }
        }
        deserializer.deserialize_any(Pairs)
    }
}

/// A tag's value as text; null, lists and objects are none.
pub(super) struct TagText(pub Option<String>);

impl<'de> Deserialize<'de> for TagText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TagText, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = TagText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag's value")
            }
            fn visit_str<E>(self, v: &str) -> Result<TagText, E> {
                Ok(TagText(Some(v.to_owned())))
            }
            fn visit_string<E>(self, v: String) -> Result<TagText, E> {
                Ok(TagText(Some(v)))
            }
            fn visit_bool<E>(self, v: bool) -> Result<TagText, E> {
                Ok(TagText(Some(v.to_string())))
            }
            fn visit_u64<E>(self, v: u64) -> Result<TagText, E> {
                Ok(TagText(Some(v.to_string())))
            }
            fn visit_i64<E>(self, v: i64) -> Result<TagText, E> {
                Ok(TagText(Some(v.to_string())))
            }
            fn visit_f64<E>(self, v: f64) -> Result<TagText, E> {
                Ok(TagText(Some(v.to_string())))
            }
            fn visit_unit<E>(self) -> Result<TagText, E> {
                Ok(TagText(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TagText, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(TagText(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TagText, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(TagText(None))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
