//! Attribute values as text with a one-letter type, so that SQL sees plain text and nothing is lost.
//!
//! ```text
//! s  text as it is                      i  decimal whole number             b  true | false
//! d  shortest decimal that reads back as the same double (also NaN, inf, -inf)
//! n  no value, empty text               x  bytes in hexadecimal
//! j  an array or map as JSON; a number is a double exactly if it has a point or an exponent
//! r  several values of one key as a JSON array: a map has each key once, whatever was sent
//! R  the same, where JSON does not do: as z
//! z  anything else (bytes or non-finite doubles within arrays, NaNs with a payload): `value` of `span_bytes.rs` in
//!    hexadecimal
//! ```

use std::fmt::Write;

use model::{AttributeValue, KeyValue};
use storage_codec::Reader;

use crate::span_bytes::{InPlace, VALUE_DEPTH_MAX, get_value, put_value};

/// Appends the text of a value; returns its type.
pub(crate) fn put_text(out: &mut String, value: &AttributeValue) -> char {
    match value {
        AttributeValue::Empty => 'n',
        AttributeValue::Str(s) => {
            out.push_str(s);
            's'
        }
        AttributeValue::Bool(b) => {
            out.push_str(if *b { "true" } else { "false" });
            'b'
        }
        AttributeValue::Int(i) => {
            let _ = write!(out, "{i}");
            'i'
        }
        AttributeValue::Double(d) if !d.is_nan() || d.to_bits() == f64::NAN.to_bits() => {
            let _ = write!(out, "{d:?}");
            'd'
        }
        AttributeValue::Bytes(b) => {
            put_hex(out, b);
            'x'
        }
        AttributeValue::Array(_) | AttributeValue::Map(_) => {
            let start = out.len();
            if put_json(out, value, 0) {
                return 'j';
            }
            out.truncate(start);
            put_binary(out, value)
        }
        AttributeValue::Double(_) => put_binary(out, value),
    }
}

/// Reads what [`put_text`] wrote; `None` if it did not.
pub(crate) fn from_text(kind: char, text: &str) -> Option<AttributeValue> {
    Some(match kind {
        'n' => AttributeValue::Empty,
        's' => AttributeValue::Str(text.to_owned()),
        'b' => AttributeValue::Bool(text.parse().ok()?),
        'i' => AttributeValue::Int(text.parse().ok()?),
        'd' => AttributeValue::Double(text.parse().ok()?),
        'x' => AttributeValue::Bytes(from_hex(text)?),
        'j' => {
            let mut json = Json { rest: text };
            let value = json.value(0)?;
            json.rest.is_empty().then_some(value)?
        }
        'z' => {
            let bytes = from_hex(text)?;
            get_value(&mut Reader::new(&bytes), &InPlace).ok()?
        }
        _ => return None,
    })
}

/// Appends the text of several values of one key; returns its type.
pub(crate) fn put_repeated(out: &mut String, values: Vec<AttributeValue>) -> char {
    match put_text(out, &AttributeValue::Array(values)) {
        'j' => 'r',
        _ => 'R',
    }
}

/// Reads what [`put_text`] or [`put_repeated`] wrote, handing over each value; whether it did.
pub(crate) fn each_from_text(kind: char, text: &str, mut visit: impl FnMut(AttributeValue)) -> bool {
    let as_one = match kind {
        'r' => 'j',
        'R' => 'z',
        kind => kind,
    };
    match (from_text(as_one, text), kind) {
        (Some(AttributeValue::Array(values)), 'r' | 'R') => values.into_iter().for_each(visit),
        (Some(_), 'r' | 'R') | (None, _) => return false,
        (Some(value), _) => visit(value),
    }
    true
}

fn put_binary(out: &mut String, value: &AttributeValue) -> char {
    let mut bytes = Vec::new();
    put_value(&mut bytes, value);
    put_hex(out, &bytes);
    'z'
}

fn put_hex(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// Whether the value has a JSON form that reads back as the same value; what was written is junk otherwise.
fn put_json(out: &mut String, value: &AttributeValue, depth: usize) -> bool {
    if depth > VALUE_DEPTH_MAX {
        return false;
    }
    match value {
        AttributeValue::Empty => out.push_str("null"),
        AttributeValue::Str(s) => put_json_str(out, s),
        AttributeValue::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        AttributeValue::Int(i) => {
            let _ = write!(out, "{i}");
        }
        AttributeValue::Double(d) if d.is_finite() => {
            let _ = write!(out, "{d:?}");
        }
        AttributeValue::Double(_) | AttributeValue::Bytes(_) => return false,
        AttributeValue::Array(values) => {
            out.push('[');
            for (n, v) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                if !put_json(out, v, depth + 1) {
                    return false;
                }
            }
            out.push(']');
        }
        AttributeValue::Map(pairs) => {
            out.push('{');
            for (n, kv) in pairs.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                put_json_str(out, &kv.key);
                out.push(':');
                if !put_json(out, &kv.value, depth + 1) {
                    return false;
                }
            }
            out.push('}');
        }
    }
    true
}

fn put_json_str(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads the JSON that [`put_json`] writes: no blanks, and no escapes but those above.
struct Json<'a> {
    rest: &'a str,
}

impl Json<'_> {
    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<AttributeValue> {
        if depth > VALUE_DEPTH_MAX {
            return None;
        }
        Some(match self.rest.bytes().next()? {
            b'n' => self.eat("null").then_some(AttributeValue::Empty)?,
            b't' => self.eat("true").then_some(AttributeValue::Bool(true))?,
            b'f' => self.eat("false").then_some(AttributeValue::Bool(false))?,
            b'"' => AttributeValue::Str(self.string()?),
            b'[' => {
                self.eat("[");
                let mut values = Vec::new();
                if !self.eat("]") {
                    loop {
                        values.push(self.value(depth + 1)?);
                        if self.eat("]") {
                            break;
                        }
                        self.eat(",").then_some(())?;
                    }
                }
                AttributeValue::Array(values)
            }
            b'{' => {
                self.eat("{");
                let mut pairs = Vec::new();
                if !self.eat("}") {
                    loop {
                        let key = self.string()?;
                        self.eat(":").then_some(())?;
                        let value = self.value(depth + 1)?;
                        pairs.push(KeyValue { key, value });
                        if self.eat("}") {
                            break;
                        }
                        self.eat(",").then_some(())?;
                    }
                }
                AttributeValue::Map(pairs)
            }
            _ => self.number()?,
        })
    }

    fn number(&mut self) -> Option<AttributeValue> {
        let inside = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e');
        let len = self.rest.bytes().take_while(|b| inside(*b)).count();
        let (number, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(match number.contains(['.', 'e']) {
            true => AttributeValue::Double(number.parse().ok()?),
            false => AttributeValue::Int(number.parse().ok()?),
        })
    }

    fn string(&mut self) -> Option<String> {
        self.eat("\"").then_some(())?;
        let mut out = String::new();
        loop {
            let plain = self.rest.find(['"', '\\'])?;
            out.push_str(&self.rest[..plain]);
            self.rest = &self.rest[plain..];
            if self.eat("\"") {
                return Some(out);
            }
            self.eat("\\");
            let escape = self.rest.chars().next()?;
            self.rest = &self.rest[escape.len_utf8()..];
            out.push(match escape {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits = self.rest.get(..4)?;
                    self.rest = &self.rest[4..];
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                '"' | '\\' => escape,
                _ => return None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_readable_text() {
        let s = |s: &str| AttributeValue::Str(s.to_owned());
        let list = AttributeValue::Array(vec![
            s("a\"b"),
            7.into(),
            AttributeValue::Double(7.0),
            AttributeValue::Empty,
        ]);
        let map = AttributeValue::Map(vec![KeyValue::new("k", list.clone()), KeyValue::new("k", s("é"))]);
        let odd = AttributeValue::Array(vec![AttributeValue::Bytes(vec![1])]);
        for (value, kind, text) in [
            (s("GET"), 's', "GET"),
            (200.into(), 'i', "200"),
            (AttributeValue::Double(0.1), 'd', "0.1"),
            (AttributeValue::Double(f64::INFINITY), 'd', "inf"),
            (AttributeValue::Bool(true), 'b', "true"),
            (AttributeValue::Empty, 'n', ""),
            (AttributeValue::Bytes(vec![0, 255]), 'x', "00ff"),
            (list, 'j', r#"["a\"b",7,7.0,null]"#),
            (map, 'j', r#"{"k":["a\"b",7,7.0,null],"k":"é"}"#),
            (odd, 'z', "0701060101"),
        ] {
            let mut out = String::new();
            assert_eq!((put_text(&mut out, &value), out.as_str()), (kind, text));
            assert_eq!(from_text(kind, text), Some(value));
        }
    }

    #[test]
    fn text_that_is_none_of_ours_is_refused() {
        for (kind, text) in [
            ('i', "1.5"),
            ('x', "0"),
            ('x', "zz"),
            ('j', "[1"),
            ('j', "{\"a\"1}"),
            ('z', "07ff"),
            ('?', ""),
        ] {
            assert_eq!(from_text(kind, text), None, "{kind} {text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(from_text('j', &deep), None);
    }
}
