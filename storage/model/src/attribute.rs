//! Typed attributes, as OTLP has them (`AnyValue`).

/// A value of an attribute.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum AttributeValue {
    /// No value at all; legal in OTLP.
    #[default]
    Empty,
    /// Text.
    Str(String),
    /// Truth.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Floating point number.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// A list; elements may differ in type.
    Array(Vec<AttributeValue>),
    /// A map; keys may repeat on the wire, the last wins.
    Map(Vec<KeyValue>),
}

/// A named attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value.
    pub value: AttributeValue,
}

impl KeyValue {
    /// A pair.
    pub fn new(key: impl Into<String>, value: AttributeValue) -> KeyValue {
        KeyValue { key: key.into(), value }
    }
}

impl From<&str> for AttributeValue {
    fn from(s: &str) -> Self {
        AttributeValue::Str(s.to_owned())
    }
}

impl From<i64> for AttributeValue {
    fn from(i: i64) -> Self {
        AttributeValue::Int(i)
    }
}
