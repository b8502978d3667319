//! OTLP's `AnyValue`: read in place, then turned into text (labels, lines) or into the model's attribute values.
//!
//! Nesting is bounded (`DEPTH_MAX`); so is what a request may unfold to (`Room`), because two bytes on the wire can
//! become a hundred in memory.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{AttributeValue, KeyValue};

use crate::refusal::Refusal;
use crate::room::Room;
use crate::wire::{BadWire, Fields};

/// Deepest nesting of arrays and maps in one value.
pub(crate) const DEPTH_MAX: u32 = 32;
/// Most attributes of one span, event, link, resource or scope; the rest counts as dropped.
pub(crate) const ATTRIBUTES_MAX: usize = 1000;

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadValue {
    /// The message is broken: the whole request is.
    Wire(BadWire),
    /// Nested too deeply: only the item is refused.
    Depth,
    /// More attributes than an item may have, where they are its identity: only the item is refused.
    TooMany,
    /// The request unfolds to more than may be held.
    Room(Refusal),
}

impl From<BadWire> for BadValue {
    fn from(e: BadWire) -> BadValue {
        BadValue::Wire(e)
    }
}

impl BadValue {
    /// What is wrong with the item, in words; an error if it is the whole request.
    pub fn of_item(self) -> Result<String, Refusal> {
        match self {
            BadValue::Wire(e) => Err(e.into()),
            BadValue::Room(e) => Err(e),
            BadValue::Depth => Ok(format!("an attribute is nested deeper than {DEPTH_MAX} levels")),
            BadValue::TooMany => Ok(format!("more than {ATTRIBUTES_MAX} attributes")),
        }
    }
}

/// One value; arrays and maps are still the bytes of their message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnyValue<'a> {
    Empty,
    Str(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    Array(&'a [u8]),
    Map(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    /// Reads one `AnyValue` message; the last of several values wins.
    pub fn read(message: &'a [u8]) -> Result<AnyValue<'a>, BadWire> {
        let mut value = AnyValue::Empty;
        for field in Fields::new(message) {
            let field = field?;
            value = match field.number {
                1 => AnyValue::Str(field.text()?),
                2 => AnyValue::Bool(field.varint()? != 0),
                3 => AnyValue::Int(field.varint()? as i64),
                4 => AnyValue::Double(field.double()?),
                5 => AnyValue::Array(field.bytes()?),
                6 => AnyValue::Map(field.bytes()?),
                7 => AnyValue::Bytes(field.bytes()?),
                _ => continue,
            };
        }
        Ok(value)
    }

    /// As text: strings as they are, numbers as JSON prints them, bytes in base64, arrays and maps as compact JSON
    /// with sorted keys, nothing as `""`.
    pub fn into_text(self) -> Result<Cow<'a, str>, BadValue> {
        Ok(match self {
            AnyValue::Empty => Cow::Borrowed(""),
            AnyValue::Str(s) => s,
            AnyValue::Bool(true) => Cow::Borrowed("true"),
            AnyValue::Bool(false) => Cow::Borrowed("false"),
            AnyValue::Int(i) => Cow::Owned(i.to_string()),
            AnyValue::Double(d) => Cow::Owned(double_text(d)),
            AnyValue::Bytes(b) => Cow::Owned(STANDARD.encode(b)),
            AnyValue::Array(_) | AnyValue::Map(_) => {
                let mut out = String::new();
                self.write_json(&mut out, DEPTH_MAX)?;
                Cow::Owned(out)
            }
        })
    }

    fn write_json(self, out: &mut String, depth_left: u32) -> Result<(), BadValue> {
        match self {
            AnyValue::Empty => out.push_str("null"),
            AnyValue::Str(s) => quote_json(&s, out),
            AnyValue::Bool(b) => out.push_str(if b { "true" } else { "false" }),
            AnyValue::Int(i) => {
                let _ = write!(out, "{i}");
            }
            // JSON has no word for these.
            AnyValue::Double(d) if !d.is_finite() => quote_json(&double_text(d), out),
            AnyValue::Double(d) => out.push_str(&double_text(d)),
            AnyValue::Bytes(b) => quote_json(&STANDARD.encode(b), out),
            AnyValue::Array(message) => {
                let depth_left = depth_left.checked_sub(1).ok_or(BadValue::Depth)?;
                out.push('[');
                for (i, value) in elements(message).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    AnyValue::read(value?)?.write_json(out, depth_left)?;
                }
                out.push(']');
            }
            AnyValue::Map(message) => {
                let depth_left = depth_left.checked_sub(1).ok_or(BadValue::Depth)?;
                out.push('{');
                for (i, (key, value)) in sorted(message)?.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    quote_json(&key, out);
                    out.push(':');
                    value.write_json(out, depth_left)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    /// As the model has it.
    pub fn into_attribute(self, room: &mut Room) -> Result<AttributeValue, BadValue> {
        self.into_attribute_at(room, DEPTH_MAX)
    }

    fn into_attribute_at(self, room: &mut Room, depth_left: u32) -> Result<AttributeValue, BadValue> {
        Ok(match self {
            AnyValue::Empty => AttributeValue::Empty,
            AnyValue::Str(s) => AttributeValue::Str(s.into_owned()),
            AnyValue::Bool(b) => AttributeValue::Bool(b),
            AnyValue::Int(i) => AttributeValue::Int(i),
            AnyValue::Double(d) => AttributeValue::Double(d),
            AnyValue::Bytes(b) => AttributeValue::Bytes(b.to_vec()),
            AnyValue::Array(message) => {
                let depth_left = depth_left.checked_sub(1).ok_or(BadValue::Depth)?;
                let mut values = Vec::new();
                for value in elements(message) {
                    let value = value?;
                    room.take(size_of::<AttributeValue>() + value.len())
                        .map_err(BadValue::Room)?;
                    values.push(AnyValue::read(value)?.into_attribute_at(room, depth_left)?);
                }
                AttributeValue::Array(values)
            }
            AnyValue::Map(message) => {
                let depth_left = depth_left.checked_sub(1).ok_or(BadValue::Depth)?;
                let mut pairs = Vec::new();
                for pair in elements(message) {
                    let pair = pair?;
                    room.take(size_of::<KeyValue>() + pair.len()).map_err(BadValue::Room)?;
                    let (key, value) = read_pair(pair)?;
                    pairs.push(KeyValue::new(key, value.into_attribute_at(room, depth_left)?));
                }
                AttributeValue::Map(pairs)
            }
        })
    }
}

/// Reads one `KeyValue` message.
pub(crate) fn read_pair(message: &[u8]) -> Result<(Cow<'_, str>, AnyValue<'_>), BadWire> {
    let mut key = Cow::Borrowed("");
    let mut value = AnyValue::Empty;
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => key = field.text()?,
            2 => value = AnyValue::read(field.bytes()?)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The elements of an `ArrayValue` or `KeyValueList` message: both keep them in field 1.
pub(crate) fn elements(message: &[u8]) -> impl Iterator<Item = Result<&[u8], BadWire>> {
    Fields::new(message).filter_map(|field| match field {
        Ok(field) if field.number == 1 => Some(field.bytes()),
        Ok(_) => None,
        Err(e) => Some(Err(e)),
    })
}

fn sorted(message: &[u8]) -> Result<Vec<(Cow<'_, str>, AnyValue<'_>)>, BadWire> {
    let mut pairs = elements(message)
        .map(|pair| read_pair(pair?))
        .collect::<Result<Vec<_>, _>>()?;
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    // Of equal keys the last stays.
    pairs.reverse();
    pairs.dedup_by(|a, b| a.0 == b.0);
    pairs.reverse();
    Ok(pairs)
}

/// A double as Go's JSON encoder prints it: the shortest digits that read back the same, with an exponent only when it
/// is very large or very small.
pub(crate) fn double_text(d: f64) -> String {
    if d.is_nan() {
        "NaN".to_owned()
    } else if d.is_infinite() {
        if d > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if d == 0.0 || (1e-6..1e21).contains(&d.abs()) {
        format!("{d}")
    } else {
        let text = format!("{d:e}");
        if d.abs() >= 1.0 { text.replace('e', "e+") } else { text }
    }
}

fn quote_json(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1 as proto;
    use proptest::prelude::*;
    use prost::Message;
    use proto::any_value::Value;

    use super::*;

    fn text(value: Value) -> Result<String, BadValue> {
        let bytes = proto::AnyValue { value: Some(value) }.encode_to_vec();
        let text = AnyValue::read(&bytes)?.into_text()?.into_owned();
        Ok(text)
    }

    fn string(s: &str) -> proto::AnyValue {
        proto::AnyValue {
            value: Some(Value::StringValue(s.to_owned())),
        }
    }

    fn pair(key: &str, value: Option<Value>) -> proto::KeyValue {
        proto::KeyValue {
            key: key.to_owned(),
            value: Some(proto::AnyValue { value }),
            ..Default::default()
        }
    }

    #[test]
    fn values_as_text() {
        let nested = proto::KeyValueList {
            values: vec![
                pair("z", Some(Value::IntValue(-1))),
                pair("a", Some(Value::StringValue("q\"\n\u{1}<".to_owned()))),
                pair("z", Some(Value::DoubleValue(2.0))),
                pair("e", None),
                pair(
                    "list",
                    Some(Value::ArrayValue(proto::ArrayValue {
                        values: vec![string("x"), proto::AnyValue::default()],
                    })),
                ),
            ],
        };
        for (value, want) in [
            (Value::StringValue("as is".to_owned()), "as is"),
            (Value::BoolValue(false), "false"),
            (Value::IntValue(i64::MIN), "-9223372036854775808"),
            (Value::DoubleValue(0.58), "0.58"),
            (Value::DoubleValue(3.0), "3"),
            (Value::DoubleValue(1e21), "1e+21"),
            (Value::DoubleValue(1.5e-7), "1.5e-7"),
            (Value::DoubleValue(f64::NAN), "NaN"),
            (Value::DoubleValue(f64::NEG_INFINITY), "-Inf"),
            (Value::BytesValue(vec![1, 2, 255]), "AQL/"),
            (Value::ArrayValue(proto::ArrayValue::default()), "[]"),
            (
                Value::KvlistValue(nested),
                r#"{"a":"q\"\n\u0001<","e":null,"list":["x",null],"z":2}"#,
            ),
        ] {
            assert_eq!(text(value).unwrap(), want);
        }
        assert_eq!(AnyValue::read(&[]).unwrap().into_text().unwrap(), "");
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let nest = |depth: usize| {
            let mut value = string("x");
            for _ in 0..depth {
                value = proto::AnyValue {
                    value: Some(Value::ArrayValue(proto::ArrayValue { values: vec![value] })),
                };
            }
            value.encode_to_vec()
        };
        let deep = nest(DEPTH_MAX as usize + 1);
        assert_eq!(AnyValue::read(&deep).unwrap().into_text(), Err(BadValue::Depth));
        let attribute = AnyValue::read(&deep).unwrap().into_attribute(&mut Room::new(1 << 20));
        assert_eq!(attribute, Err(BadValue::Depth));
        assert!(AnyValue::read(&nest(DEPTH_MAX as usize)).unwrap().into_text().is_ok());
    }

    #[test]
    fn many_empty_values_meet_the_bound() {
        let bytes = [0x0a, 0].repeat(10_000);
        let unfolded = AnyValue::Array(&bytes).into_attribute(&mut Room::new(100_000));
        assert!(matches!(unfolded, Err(BadValue::Room(Refusal::TooLarge(_)))));
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = AnyValue::read(&bytes) {
                let _ = value.clone().into_text();
                let _ = value.into_attribute(&mut Room::new(1 << 20));
            }
        }
    }
}
