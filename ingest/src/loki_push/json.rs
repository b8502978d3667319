//! The JSON form of a push.
//!
//!     {"streams": [{"stream": {name: value}, "values": [["<ns>", "line", {name: value}?]]}]}
//!     {"streams": [{"labels": "{a=\"b\"}", "entries": [{"ts": "<RFC 3339>", "line": ".."}]}]}       (the old form)
//!
//! Wrong types anywhere refuse the whole request; `null`, unknown names and further array elements are ignored. Times
//! may be numbers too, as some senders write them. The keys of a stream come in any order, so its entries are held
//! until all of it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use model::TimestampNs;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::decode::{Pair, Push};
use super::label_text;
use crate::refusal::Refusal;

/// Reads a push.
pub(crate) fn read(body: &[u8], push: &mut Push) -> Result<(), Refusal> {
    let mut refusal = None;
    let mut parser = serde_json::Deserializer::from_slice(body);
    let seed = Request {
        push,
        refusal: &mut refusal,
    };
    let read = seed.deserialize(&mut parser).and_then(|()| parser.end());
    match (refusal, read) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(e)) => Err(Refusal::Bad(format!("malformed push request: {e}"))),
        (None, Ok(())) => Ok(()),
    }
}

/// The request object. A refusal that is not about JSON is put aside, for the parser's errors can carry only text.
struct Request<'p> {
    push: &'p mut Push,
    refusal: &'p mut Option<Refusal>,
}

impl<'de> DeserializeSeed<'de> for Request<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with streams")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "streams" {
                map.next_value_seed(Streams {
                    push: &mut *self.push,
                    refusal: &mut *self.refusal,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Streams<'p> {
    push: &'p mut Push,
    refusal: &'p mut Option<Refusal>,
}

impl<'de> DeserializeSeed<'de> for Streams<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Streams<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of streams")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(stream) = seq.next_element_seed(OrNull(StreamOf {
            bytes_max: self.push.bytes_max(),
        }))? {
            let Some(stream) = stream else { continue };
            if let Err(refusal) = stream.put(self.push) {
                let words = refusal.to_string();
                *self.refusal = Some(refusal);
                return Err(de::Error::custom(words));
            }
        }
        Ok(())
    }
}

/// A stream, read whole.
#[derive(Default)]
struct Stream<'de> {
    labels: Vec<Pair<'de>>,
    label_text: Option<Cow<'de, str>>,
    entries: Vec<Entry<'de>>,
}

struct Entry<'de> {
    t: TimestampNs,
    line: Cow<'de, str>,
    metadata: Vec<Pair<'de>>,
}

impl Stream<'_> {
    fn put(&self, push: &mut Push) -> Result<(), Refusal> {
        let written = match &self.label_text {
            Some(text) => Some(Cow::Borrowed(text.as_ref())),
            // What cannot be a name is told as if the labels had come as text.
            None if !self.labels.iter().all(|(name, _)| label_text::is_name(name)) => Some(Cow::Owned(self.as_text())),
            None => None,
        };
        let mut open = match &written {
            Some(text) => {
                let labels = label_text::parse(text);
                let labels = labels.map_err(|why| Refusal::Bad(format!("couldn't parse labels: {why}")))?;
                push.open(labels.iter().map(|(n, v)| (*n, v.as_ref())))
            }
            None => push.open(last_of_each(&self.labels)),
        };
        for entry in &self.entries {
            push.entry(&mut open, entry.t, &entry.line, &entry.metadata)?;
        }
        Ok(())
    }

    fn as_text(&self) -> String {
        let mut labels: Vec<String> = self.labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        labels.sort();
        format!("{{{}}}", labels.join(", "))
    }
}

/// Of a name that an object has twice, the last value counts.
fn last_of_each<'a>(labels: &'a [Pair<'_>]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let by_name: BTreeMap<&str, &str> = labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
    by_name.into_iter()
}

#[derive(Clone, Copy)]
struct StreamOf {
    bytes_max: usize,
}

impl<'de> Visitor<'de> for StreamOf {
    type Value = Stream<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stream<'de>, A::Error> {
        let mut stream = Stream::default();
        let mut held = 0;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "stream" => stream.labels = map.next_value_seed(OrNull(Pairs))?.unwrap_or_default(),
                "labels" => stream.label_text = map.next_value_seed(OrNull(Text))?,
                "values" | "entries" => map
                    .next_value_seed(OrNull(Entries {
                        entries: &mut stream.entries,
                        held: &mut held,
                        bytes_max: self.bytes_max,
                    }))?
                    .unwrap_or_default(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(stream)
    }
}

struct Entries<'s, 'de> {
    entries: &'s mut Vec<Entry<'de>>,
    held: &'s mut usize,
    bytes_max: usize,
}

impl<'de> Visitor<'de> for Entries<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(entry) = seq.next_element_seed(OrNull(EntryOf))? {
            let Some(entry) = entry else { continue };
            *self.held += size_of::<Entry<'_>>() + entry.metadata.len() * size_of::<Pair<'_>>();
            if *self.held > self.bytes_max {
                return Err(de::Error::custom(
                    "too many entries in one stream; send smaller batches",
                ));
            }
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// An entry: `[ts, line, {..}?]`, or the old form's `{"ts": .., "line": ..}`.
#[derive(Clone, Copy)]
struct EntryOf;

impl<'de> Visitor<'de> for EntryOf {
    type Value = Entry<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry: [\"<unix nanoseconds>\", \"line\", {structured metadata}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry<'de>, A::Error> {
        let t = seq
            .next_element_seed(Instant)?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let line = seq
            .next_element_seed(Text)?
            .ok_or_else(|| de::Error::invalid_length(1, &self))?;
        let metadata = seq.next_element_seed(OrNull(Pairs))?.flatten().unwrap_or_default();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry { t, line, metadata })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry<'de>, A::Error> {
        let (mut t, mut line, mut metadata) = (None, Cow::Borrowed(""), Vec::new());
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "ts" => t = Some(map.next_value_seed(Instant)?),
                "line" => line = map.next_value_seed(Text)?,
                "structuredMetadata" => metadata = map.next_value_seed(OrNull(Pairs))?.unwrap_or_default(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let t = t.ok_or_else(|| de::Error::missing_field("ts"))?;
        Ok(Entry { t, line, metadata })
    }
}

/// A time: nanoseconds since the epoch as string or number, or RFC 3339.
struct Instant;

impl<'de> DeserializeSeed<'de> for Instant {
    type Value = TimestampNs;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<TimestampNs, D::Error> {
        d.deserialize_any(self)
    }
}

impl Visitor<'_> for Instant {
    type Value = TimestampNs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time: a string of unix nanoseconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimestampNs, E> {
        if let Ok(ns) = text.parse() {
            return Ok(TimestampNs(ns));
        }
        let instant = text.parse::<jiff::Timestamp>().ok();
        let ns = instant.and_then(|t| i64::try_from(t.as_nanosecond()).ok());
        ns.map(TimestampNs)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, ns: u64) -> Result<TimestampNs, E> {
        let ns = i64::try_from(ns).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(ns), &self))?;
        Ok(TimestampNs(ns))
    }

    fn visit_i64<E: de::Error>(self, ns: i64) -> Result<TimestampNs, E> {
        Ok(TimestampNs(ns))
    }
}

/// An object whose values are all strings.
#[derive(Clone, Copy)]
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<Pair<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Pair<'de>>, A::Error> {
        let mut pairs: Vec<Pair<'de>> = Vec::new();
        while let Some(name) = map.next_key_seed(Text)? {
            pairs.push((name, map.next_value_seed(Text)?));
        }
        Ok(pairs)
    }
}

/// A string, borrowed from the body unless it has escapes.
#[derive(Clone, Copy)]
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Cow<'de, str>, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(s))
    }

    fn visit_str<E>(self, s: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(s.to_owned()))
    }
}

/// What the visitor takes, or `null`.
struct OrNull<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for OrNull<V> {
    type Value = Option<V::Value>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrNull<V> {
    type Value = Option<V::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self.0).map(Some)
    }
}
