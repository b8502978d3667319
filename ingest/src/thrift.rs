//! Apache Thrift, read in place: the binary and the compact protocol behind one face.
//!
//!     binary   field    = type u8 · id i16 · value        stop = 0            numbers big-endian
//!              string   = len i32 · bytes                 list = type u8 · count i32 · value*
//!              map      = key type u8 · value type u8 · count i32 · (key · value)*
//!              message  = 0x8001 · 0 · kind u8 · name string · seq i32
//!              (old)    = name string · kind u8 · seq i32
//!     compact  field    = delta u4, type u4 · (id zigzag if delta = 0) · value    stop = 0
//!              integers = zigzag varints, doubles 8 bytes little-endian, a bool field lives in its type (1 true, 2 false)
//!              string   = len varint · bytes              list = count u4, type u4 · (count varint if 15) · value*
//!              map      = count varint · (key type u4, value type u4) if count > 0 · (key · value)*
//!              message  = 0x82 · kind u3, version u5 · seq varint · name string
//!
//! Every length is checked against what is really there, nesting is bounded (`DEPTH_MAX`), and an element takes at least
//! one byte, so that reading ends after as many steps as there are bytes.

use std::borrow::Cow;

use crate::refusal::Refusal;

/// Deepest nesting of structs, lists and maps.
const DEPTH_MAX: u32 = 32;

/// Bytes that are no Thrift of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadThrift {
    /// The value ends too early, or a count is larger than what could follow.
    #[error("malformed Thrift: truncated")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("malformed Thrift: overlong varint")]
    Varint,
    /// A type that does not exist.
    #[error("malformed Thrift: no type has the number {0}")]
    Type(u8),
    /// A known field with another type than its own.
    #[error("malformed Thrift: field {0} has a wrong type")]
    Field(i16),
    /// Nested too deeply.
    #[error("malformed Thrift: nested deeper than {DEPTH_MAX} levels")]
    Depth,
    /// No message of a protocol known here.
    #[error("malformed Thrift: neither a compact nor a binary message")]
    Message,
}

impl From<BadThrift> for Refusal {
    fn from(e: BadThrift) -> Refusal {
        Refusal::Bad(e.to_string())
    }
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Binary,
    Compact,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List,
    Map,
    Struct,
    Uuid,
}

/// A value that is about to be read: a field of a struct, or an element of a list (then its id is 0).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value {
    /// The field's id.
    pub id: i16,
    kind: Kind,
    /// A bool field of the compact protocol has been read already.
    known: Option<bool>,
}

/// Reads values one after the other.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    protocol: Protocol,
    depth: u32,
}

impl<'a> Reader<'a> {
    /// Over bare values, without a message around them.
    pub fn new(bytes: &'a [u8], protocol: Protocol) -> Reader<'a> {
        Reader {
            rest: bytes,
            protocol,
            depth: 0,
        }
    }

    /// Over a message, whose first byte tells the protocol; its name, and a reader that stands before its arguments.
    pub fn of_message(bytes: &'a [u8]) -> Result<(Cow<'a, str>, Reader<'a>), BadThrift> {
        match bytes {
            [0x82, ..] => {
                let mut reader = Reader::new(&bytes[1..], Protocol::Compact);
                if reader.byte()? & 0x1f != 1 {
                    return Err(BadThrift::Message);
                }
                reader.varint()?;
                let name = reader.binary()?;
                Ok((String::from_utf8_lossy(name), reader))
            }
            [0x80, 0x01, ..] => {
                let mut reader = Reader::new(&bytes[2..], Protocol::Binary);
                reader.take(2)?;
                let name = reader.binary()?;
                reader.take(4)?;
                Ok((String::from_utf8_lossy(name), reader))
            }
            // Lengths of names are small: the first byte of an old binary message is 0.
            [0, ..] => {
                let mut reader = Reader::new(bytes, Protocol::Binary);
                let name = reader.binary()?;
                reader.take(5)?;
                Ok((String::from_utf8_lossy(name), reader))
            }
            _ => Err(BadThrift::Message),
        }
    }

    /// The struct that comes next; `visit` sees each field and reads it, or leaves it to [`Reader::skip`].
    pub fn fields(
        &mut self,
        visit: &mut dyn FnMut(&mut Reader<'a>, Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.deeper()?;
        let mut last = 0i16;
        while let Some(field) = self.field(last)? {
            last = field.id;
            visit(self, field)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// The fields of a struct that is a field or element itself.
    pub fn structure(
        &mut self,
        value: Value,
        visit: &mut dyn FnMut(&mut Reader<'a>, Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        value.expect(Kind::Struct)?;
        self.fields(visit)
    }

    /// The elements of a list or set.
    pub fn list(
        &mut self,
        value: Value,
        visit: &mut dyn FnMut(&mut Reader<'a>, Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        value.expect(Kind::List)?;
        self.elements(visit)
    }

    /// The elements of a list that stands alone, without a field around it.
    pub fn elements(
        &mut self,
        visit: &mut dyn FnMut(&mut Reader<'a>, Value) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.deeper()?;
        let (count, kind) = self.list_head()?;
        for _ in 0..count {
            let element = Value {
                id: 0,
                kind,
                known: None,
            };
            visit(self, element)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// An integer of any width.
    pub fn int(&mut self, value: Value) -> Result<i64, BadThrift> {
        match (value.kind, self.protocol) {
            (Kind::Byte, _) => Ok(i64::from(self.byte()? as i8)),
            (Kind::I16 | Kind::I32 | Kind::I64, Protocol::Compact) => self.zigzag(),
            (Kind::I16, Protocol::Binary) => Ok(i64::from(i16::from_be_bytes(self.array()?))),
            (Kind::I32, Protocol::Binary) => Ok(i64::from(i32::from_be_bytes(self.array()?))),
            (Kind::I64, Protocol::Binary) => Ok(i64::from_be_bytes(self.array()?)),
            _ => Err(BadThrift::Field(value.id)),
        }
    }

    /// A bool.
    pub fn bool(&mut self, value: Value) -> Result<bool, BadThrift> {
        value.expect(Kind::Bool)?;
        match value.known {
            Some(known) => Ok(known),
            None => Ok(self.byte()? == 1),
        }
    }

    /// A double.
    pub fn double(&mut self, value: Value) -> Result<f64, BadThrift> {
        value.expect(Kind::Double)?;
        Ok(match self.protocol {
            Protocol::Binary => f64::from_be_bytes(self.array()?),
            Protocol::Compact => f64::from_le_bytes(self.array()?),
        })
    }

    /// Raw bytes.
    pub fn bytes(&mut self, value: Value) -> Result<&'a [u8], BadThrift> {
        value.expect(Kind::Binary)?;
        self.binary()
    }

    /// Text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&mut self, value: Value) -> Result<String, BadThrift> {
        Ok(String::from_utf8_lossy(self.bytes(value)?).into_owned())
    }

    /// Reads a value that nobody asks for.
    pub fn skip(&mut self, value: Value) -> Result<(), Refusal> {
        match value.kind {
            Kind::Bool => {
                self.bool(value)?;
            }
            Kind::Byte | Kind::I16 | Kind::I32 | Kind::I64 => {
                self.int(value)?;
            }
            Kind::Double => {
                self.take(8)?;
            }
            Kind::Uuid => {
                self.take(16)?;
            }
            Kind::Binary => {
                self.binary()?;
            }
            Kind::Struct => self.fields(&mut |reader, field| reader.skip(field))?,
            Kind::List => self.elements(&mut |reader, element| reader.skip(element))?,
            Kind::Map => {
                self.deeper()?;
                let (count, key, value) = self.map_head()?;
                for _ in 0..count {
                    for kind in [key, value] {
                        self.skip(Value {
                            id: 0,
                            kind,
                            known: None,
                        })?;
                    }
                }
                self.depth -= 1;
            }
        }
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), BadThrift> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(BadThrift::Depth);
        }
        Ok(())
    }

    fn field(&mut self, last: i16) -> Result<Option<Value>, BadThrift> {
        let head = self.byte()?;
        match self.protocol {
            _ if head == 0 => Ok(None),
            Protocol::Binary => Ok(Some(Value {
                kind: binary_kind(head)?,
                id: i16::from_be_bytes(self.array()?),
                known: None,
            })),
            Protocol::Compact => {
                let kind = compact_kind(head & 0x0f)?;
                let id = match head >> 4 {
                    0 => self.zigzag()? as i16,
                    delta => last.wrapping_add(i16::from(delta)),
                };
                let known = (kind == Kind::Bool).then_some(head & 0x0f == 1);
                Ok(Some(Value { id, kind, known }))
            }
        }
    }

    fn list_head(&mut self) -> Result<(usize, Kind), BadThrift> {
        let head = self.byte()?;
        let (count, kind) = match self.protocol {
            Protocol::Binary => (self.count()?, head),
            Protocol::Compact if head >> 4 == 15 => (self.varint()?, head & 0x0f),
            Protocol::Compact => (u64::from(head >> 4), head & 0x0f),
        };
        let kind = match self.protocol {
            // Writers of empty lists leave the type open.
            _ if count == 0 => Kind::Byte,
            Protocol::Binary => binary_kind(kind)?,
            Protocol::Compact => compact_kind(kind)?,
        };
        Ok((self.fits(count)?, kind))
    }

    fn map_head(&mut self) -> Result<(usize, Kind, Kind), BadThrift> {
        match self.protocol {
            Protocol::Binary => {
                let (key, value) = (self.byte()?, self.byte()?);
                match self.count()? {
                    0 => Ok((0, Kind::Byte, Kind::Byte)),
                    count => Ok((self.fits(count)?, binary_kind(key)?, binary_kind(value)?)),
                }
            }
            Protocol::Compact => match self.varint()? {
                0 => Ok((0, Kind::Byte, Kind::Byte)),
                count => {
                    let kinds = self.byte()?;
                    Ok((
                        self.fits(count)?,
                        compact_kind(kinds >> 4)?,
                        compact_kind(kinds & 0x0f)?,
                    ))
                }
            },
        }
    }

    /// A count of the binary protocol.
    fn count(&mut self) -> Result<u64, BadThrift> {
        u64::try_from(i32::from_be_bytes(self.array()?)).map_err(|_| BadThrift::Truncated)
    }

    /// Each element takes a byte at least.
    fn fits(&self, count: u64) -> Result<usize, BadThrift> {
        match usize::try_from(count) {
            Ok(count) if count <= self.rest.len() => Ok(count),
            _ => Err(BadThrift::Truncated),
        }
    }

    fn binary(&mut self) -> Result<&'a [u8], BadThrift> {
        let len = match self.protocol {
            Protocol::Binary => self.count()?,
            Protocol::Compact => self.varint()?,
        };
        self.take(usize::try_from(len).map_err(|_| BadThrift::Truncated)?)
    }

    fn zigzag(&mut self) -> Result<i64, BadThrift> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn varint(&mut self) -> Result<u64, BadThrift> {
        let mut value = 0u64;
        for i in 0..10 {
            let b = self.byte()?;
            value |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(BadThrift::Varint)
    }

    fn byte(&mut self) -> Result<u8, BadThrift> {
        self.array::<1>().map(|[b]| b)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadThrift> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], BadThrift> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(BadThrift::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl Value {
    fn expect(self, kind: Kind) -> Result<(), BadThrift> {
        if self.kind == kind {
            Ok(())
        } else {
            Err(BadThrift::Field(self.id))
        }
    }
}

fn binary_kind(number: u8) -> Result<Kind, BadThrift> {
    Ok(match number {
        2 => Kind::Bool,
        3 => Kind::Byte,
        4 => Kind::Double,
        6 => Kind::I16,
        8 => Kind::I32,
        10 => Kind::I64,
        11 => Kind::Binary,
        12 => Kind::Struct,
        13 => Kind::Map,
        14 | 15 => Kind::List,
        16 => Kind::Uuid,
        other => return Err(BadThrift::Type(other)),
    })
}

fn compact_kind(number: u8) -> Result<Kind, BadThrift> {
    Ok(match number {
        1 | 2 => Kind::Bool,
        3 => Kind::Byte,
        4 => Kind::I16,
        5 => Kind::I32,
        6 => Kind::I64,
        7 => Kind::Double,
        8 => Kind::Binary,
        9 | 10 => Kind::List,
        11 => Kind::Map,
        12 => Kind::Struct,
        13 => Kind::Uuid,
        other => return Err(BadThrift::Type(other)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All fields of the struct that comes next, in words.
    fn words(bytes: &[u8], protocol: Protocol) -> Result<Vec<String>, Refusal> {
        let mut out = Vec::new();
        Reader::new(bytes, protocol).fields(&mut |reader, field| {
            let text = match field.kind {
                Kind::Bool => reader.bool(field)?.to_string(),
                Kind::Double => reader.double(field)?.to_string(),
                Kind::Binary => reader.text(field)?,
                Kind::Byte | Kind::I16 | Kind::I32 | Kind::I64 => reader.int(field)?.to_string(),
                Kind::List => {
                    let mut inner = Vec::new();
                    reader.list(field, &mut |reader, element| {
                        inner.push(reader.int(element)?);
                        Ok(())
                    })?;
                    format!("{inner:?}")
                }
                _ => {
                    reader.skip(field)?;
                    "skipped".to_owned()
                }
            };
            out.push(format!("{}={text}", field.id));
            Ok(())
        })?;
        Ok(out)
    }

    #[test]
    fn both_protocols_say_the_same() {
        let binary = [
            &[10, 0, 1][..],
            &(-3i64).to_be_bytes(),
            &[2, 0, 2, 1],
            &[4, 0, 3],
            &1.5f64.to_be_bytes(),
            &[11, 0, 20, 0, 0, 0, 2, b'h', b'i'],
            &[15, 0, 21, 8, 0, 0, 0, 2, 0, 0, 0, 7, 255, 255, 255, 255],
            &[13, 0, 22, 11, 2, 0, 0, 0, 1, 0, 0, 0, 1, b'k', 1],
            &[0],
        ]
        .concat();
        let compact = [
            &[0x16, 5][..],
            &[0x11],
            &[0x17],
            &1.5f64.to_le_bytes(),
            &[0x08, 40, 2, b'h', b'i'],
            &[0x19, 0x25, 14, 1],
            &[0x1b, 1, 0x81, 1, b'k', 1],
            &[0],
        ]
        .concat();
        let want = ["1=-3", "2=true", "3=1.5", "20=hi", "21=[7, -1]", "22=skipped"];
        assert_eq!(words(&binary, Protocol::Binary).unwrap(), want);
        assert_eq!(words(&compact, Protocol::Compact).unwrap(), want);
    }

    #[test]
    fn messages_name_their_protocol() {
        let name = |bytes: &[u8]| Reader::of_message(bytes).map(|(name, r)| (name.into_owned(), r.protocol));
        let compact = [&[0x82, 0x81, 0, 9][..], b"emitBatch"].concat();
        assert_eq!(name(&compact), Ok(("emitBatch".to_owned(), Protocol::Compact)));
        let strict = [&[0x80, 1, 0, 4, 0, 0, 0, 9][..], b"emitBatch", &[0; 4]].concat();
        assert_eq!(name(&strict), Ok(("emitBatch".to_owned(), Protocol::Binary)));
        let old = [&[0, 0, 0, 9][..], b"emitBatch", &[4, 0, 0, 0, 0]].concat();
        assert_eq!(name(&old), Ok(("emitBatch".to_owned(), Protocol::Binary)));
        assert_eq!(name(b"{}"), Err(BadThrift::Message));
        assert_eq!(name(&[]), Err(BadThrift::Message));
    }

    #[test]
    fn nesting_and_counts_are_bounded() {
        let deep = |levels: usize| [0x1c].repeat(levels);
        assert_eq!(
            words(&deep(100), Protocol::Compact),
            Err(Refusal::from(BadThrift::Depth))
        );
        // A list that declares a billion elements in ten bytes.
        let huge = [15, 0, 1, 3, 0x3b, 0x9a, 0xca, 0, 0, 0];
        assert_eq!(words(&huge, Protocol::Binary), Err(Refusal::from(BadThrift::Truncated)));
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = words(&bytes, Protocol::Binary);
            let _ = words(&bytes, Protocol::Compact);
            if let Ok((_, mut reader)) = Reader::of_message(&bytes) {
                let _ = reader.fields(&mut |reader, field| reader.skip(field));
            }
        }
    }
}
