//! The protobuf wire format, read in place and written by hand.
//!
//! Requests are walked field by field over the received bytes; nothing is copied and nothing is allocated for a field
//! that nobody asks for. Every length is checked against what is really there. Groups (wire types 3 and 4) do not
//! occur in the messages received here and are refused.

use std::borrow::Cow;

/// Bytes that are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadWire {
    /// The message ends in the middle of a field.
    #[error("malformed protobuf: truncated after field {after}")]
    Truncated { after: u32 },
    /// A varint of more than ten bytes.
    #[error("malformed protobuf: overlong varint after field {after}")]
    Varint { after: u32 },
    /// Field number 0, or a wire type that does not exist.
    #[error("malformed protobuf: illegal tag {tag} after field {after}")]
    Tag { tag: u64, after: u32 },
    /// A known field with another wire type than its own.
    #[error("malformed protobuf: field {field} has a wrong wire type")]
    Type { field: u32 },
    /// Text that is not UTF-8 where text is an identity.
    #[error("malformed protobuf: field {field} is not UTF-8")]
    Utf8 { field: u32 },
}

/// The fields of one message, in the order on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    last: u32,
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its number.
    pub number: u32,
    value: Wire<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// A message of two texts, `1` the name and `2` the value: the labels of remote write and of a scrape.
pub(crate) fn read_text_pair(message: &[u8]) -> Result<(&str, &str), BadWire> {
    let (mut name, mut value) = ("", "");
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => name = field.utf8()?,
            2 => value = field.utf8()?,
            _ => {}
        }
    }
    Ok((name, value))
}

impl<'a> Fields<'a> {
    /// Over the bytes of one message.
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message, last: 0 }
    }

    #[inline]
    fn read(&mut self) -> Result<Field<'a>, BadWire> {
        let after = self.last;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        if number == 0 || number > 0x1fff_ffff {
            return Err(BadWire::Tag { tag, after });
        }
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| BadWire::Truncated { after })?;
                Wire::Bytes(self.take(len)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(BadWire::Tag { tag, after }),
        };
        self.last = number;
        Ok(Field { number, value })
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, BadWire> {
        let Some((value, rest)) = read_varint(self.rest) else {
            return Err(match self.rest.len() < 10 {
                true => BadWire::Truncated { after: self.last },
                false => BadWire::Varint { after: self.last },
            });
        };
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadWire> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(BadWire::Truncated { after: self.last })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadWire> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, BadWire>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The bytes of a `bytes`, `string` or message field.
    pub fn bytes(&self) -> Result<&'a [u8], BadWire> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong_type()),
        }
    }

    /// A `string` field; what is not UTF-8 becomes U+FFFD, because senders in Go do not check.
    pub fn text(&self) -> Result<Cow<'a, str>, BadWire> {
        let bytes = self.bytes()?;
        // Checking text that is right, as nearly all is, takes a quarter of what looking for wrong places takes.
        Ok(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        })
    }

    /// A `string` field that must be UTF-8.
    pub fn utf8(&self) -> Result<&'a str, BadWire> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadWire::Utf8 { field: self.number })
    }

    /// A field of type `int32`, `int64`, `uint32`, `uint64`, `bool` or of an enum.
    pub fn varint(&self) -> Result<u64, BadWire> {
        match self.value {
            Wire::Varint(v) => Ok(v),
            _ => Err(self.wrong_type()),
        }
    }

    /// A field of type `int32` or of an enum; as in every protobuf library the high bits are cut off.
    pub fn int32(&self) -> Result<i32, BadWire> {
        self.varint().map(|v| v as i32)
    }

    /// A field of type `sint32`; the high bits are cut off.
    pub fn sint32(&self) -> Result<i32, BadWire> {
        self.varint().map(|v| unzigzag(v) as i32)
    }

    /// A `fixed64` or `sfixed64` field.
    pub fn fixed64(&self) -> Result<u64, BadWire> {
        match self.value {
            Wire::Fixed64(v) => Ok(v),
            _ => Err(self.wrong_type()),
        }
    }

    /// A `fixed32` field.
    pub fn fixed32(&self) -> Result<u32, BadWire> {
        match self.value {
            Wire::Fixed32(v) => Ok(v),
            _ => Err(self.wrong_type()),
        }
    }

    /// A `double` field, bit for bit.
    pub fn double(&self) -> Result<f64, BadWire> {
        self.fixed64().map(f64::from_bits)
    }

    /// One occurrence of a repeated `fixed64`, `sfixed64` or `double` field, packed or not.
    pub fn each_fixed64(&self, mut see: impl FnMut(u64)) -> Result<(), BadWire> {
        match self.value {
            Wire::Fixed64(v) => see(v),
            Wire::Bytes(packed) => {
                let (chunks, rest) = packed.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(BadWire::Truncated { after: self.number });
                }
                chunks.iter().for_each(|chunk| see(u64::from_le_bytes(*chunk)));
            }
            _ => return Err(self.wrong_type()),
        }
        Ok(())
    }

    /// One occurrence of a repeated varint field, packed or not.
    pub fn each_varint(&self, mut see: impl FnMut(u64)) -> Result<(), BadWire> {
        match self.value {
            Wire::Varint(v) => see(v),
            Wire::Bytes(mut packed) => {
                while !packed.is_empty() {
                    let (v, rest) = read_varint(packed).ok_or(BadWire::Truncated { after: self.number })?;
                    see(v);
                    packed = rest;
                }
            }
            _ => return Err(self.wrong_type()),
        }
        Ok(())
    }

    fn wrong_type(&self) -> BadWire {
        BadWire::Type { field: self.number }
    }
}

/// The number of a `sint32` or `sint64`, of which small ones of either sign are short on the wire.
pub(crate) fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // Tags and most lengths are one byte.
    match bytes {
        [b, rest @ ..] if *b < 0x80 => Some((u64::from(*b), rest)),
        _ => read_long_varint(bytes),
    }
}

fn read_long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().enumerate().take(10) {
        value |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a `bytes`, `string` or message field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field, zero included.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, v: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, v);
}

/// Appends a `fixed64`, `sfixed64` or `double` field, zero included.
pub(crate) fn put_fixed64(out: &mut Vec<u8>, number: u32, v: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

/// Appends a `fixed32` field, zero included.
pub(crate) fn put_fixed32(out: &mut Vec<u8>, number: u32, v: u32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&v.to_le_bytes());
}

/// Opens a nested message whose length is not known yet; [`close_message`] fills it in.
pub(crate) fn open_message(out: &mut Vec<u8>, number: u32) -> usize {
    put_varint(out, u64::from(number) << 3 | 2);
    out.extend_from_slice(&[0; OPEN_LENGTH_BYTES]);
    out.len()
}

/// Closes the message opened at `start`. Its length is a varint padded to five bytes, which every reader accepts.
pub(crate) fn close_message(out: &mut [u8], start: usize) {
    let mut len = out.len() - start;
    for (i, byte) in out[start - OPEN_LENGTH_BYTES..start].iter_mut().enumerate() {
        *byte = (len & 0x7f) as u8 | if i + 1 < OPEN_LENGTH_BYTES { 0x80 } else { 0 };
        len >>= 7;
    }
}

/// Room for lengths up to 32 GiB; bodies are far smaller.
const OPEN_LENGTH_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_never_trusted() {
        for bytes in [
            &[0x0a, 0x05, b'a'][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x09, 1, 2, 3],
            &[0x08, 0x80],
            &[0x00],
            &[0x0b],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(Fields::new(bytes).any(|f| f.is_err()), "{bytes:02x?}");
        }
    }

    #[test]
    fn packed_and_unpacked_numbers_read_alike() {
        let mut packed = Vec::new();
        put_bytes(&mut packed, 6, &[1u64.to_le_bytes(), 2u64.to_le_bytes()].concat());
        let mut unpacked = Vec::new();
        put_fixed64(&mut unpacked, 6, 1);
        put_fixed64(&mut unpacked, 6, 2);
        for bytes in [packed, unpacked] {
            let mut seen = Vec::new();
            for field in Fields::new(&bytes) {
                field.unwrap().each_fixed64(|v| seen.push(v)).unwrap();
            }
            assert_eq!(seen, [1, 2]);
        }
    }

    #[test]
    fn signed_numbers_of_either_sign() {
        for (wire, want) in [(0, 0), (1, -1), (2, 1), (u64::MAX, i64::MIN), (u64::MAX - 1, i64::MAX)] {
            assert_eq!(unzigzag(wire), want);
        }
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Fields::new(&bytes).count() <= bytes.len());
        }

        /// What the writer writes, the reader reads.
        #[test]
        fn written_fields_are_read_back(v in any::<u64>(), w in any::<u32>(), text in ".{0,40}") {
            let mut out = Vec::new();
            put_number(&mut out, 1, v);
            put_fixed64(&mut out, 2, v);
            put_fixed32(&mut out, 3, w);
            put_bytes(&mut out, 4, text.as_bytes());
            let start = open_message(&mut out, 5);
            put_number(&mut out, 1, v);
            close_message(&mut out, start);
            let f: Vec<Field<'_>> = Fields::new(&out).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(f[0].varint().unwrap(), v);
            prop_assert_eq!(f[1].fixed64().unwrap(), v);
            prop_assert_eq!(f[2].fixed32().unwrap(), w);
            prop_assert_eq!(f[3].utf8().unwrap(), text);
            let inner = Fields::new(f[4].bytes().unwrap()).next().unwrap().unwrap();
            prop_assert_eq!(inner.varint().unwrap(), v);
        }
    }
}
