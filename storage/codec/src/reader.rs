//! Reading bytes front to back, every step checked.

use crate::Malformed;

/// Reads a byte slice front to back; every read is checked. A failed read leaves the position where it was.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What is left.
    pub fn remaining(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// A LEB128 varint of at most 64 bits.
    #[inline]
    pub fn uv(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_uv(),
        }
    }

    /// A zigzag varint.
    #[inline]
    pub fn iv(&mut self) -> Result<i64, Malformed> {
        let n = self.uv()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>("ends before a byte")?[0])
    }

    /// Little-endian.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array("ends inside a u32")?))
    }

    /// Little-endian.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array("ends inside a u64")?))
    }

    /// Exactly `n` bytes.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        match self.remaining().get(..n) {
            Some(taken) => {
                self.at += n;
                Ok(taken)
            }
            None => Err(self.malformed("ends inside a field")),
        }
    }

    /// A length-prefixed field.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        let len = self.uv()?;
        match usize::try_from(len).ok().and_then(|len| self.remaining().get(..len)) {
            Some(field) => {
                self.at += field.len();
                Ok(field)
            }
            None => {
                self.at = start;
                Err(self.malformed("a field's length exceeds what is left"))
            }
        }
    }

    /// A length-prefixed field that is UTF-8.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        let start = self.at;
        let field = self.bytes()?;
        std::str::from_utf8(field).map_err(|_| {
            self.at = start;
            self.malformed("a text field is not UTF-8")
        })
    }

    /// A count of items of at least `item_bytes_min` bytes each: refused when that many cannot be left. What is
    /// allocated for the items is so bounded by what was read. Items of no bytes at all are bounded as if each took one.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let start = self.at;
        let count = self.uv()?;
        let fits = self.remaining().len() / item_bytes_min.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= fits => Ok(count),
            _ => {
                self.at = start;
                Err(self.malformed("a count exceeds what is left"))
            }
        }
    }

    fn long_uv(&mut self) -> Result<u64, Malformed> {
        // Eight bytes at once: the first without a continuation bit ends it, and its bits of seven move together.
        if let Some(word) = self.remaining().first_chunk() {
            let word = u64::from_le_bytes(*word);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                let bits = ends.trailing_zeros() + 1;
                let n = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
                let n = n & 0x007f_007f_007f_007f | (n & 0x7f00_7f00_7f00_7f00) >> 1;
                let n = n & 0x0000_3fff_0000_3fff | (n & 0x3fff_0000_3fff_0000) >> 2;
                let n = n & 0x0fff_ffff | (n & 0x0fff_ffff_0000_0000) >> 4;
                self.at += bits as usize / 8;
                return Ok(n);
            }
        }
        let mut n = 0u64;
        for (i, &byte) in self.remaining().iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                break;
            }
            n |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Ok(n);
            }
        }
        Err(self.malformed(if self.remaining().len() < 10 {
            "ends inside a varint"
        } else {
            "a varint exceeds 64 bits"
        }))
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        match self.remaining().first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.malformed(what)),
        }
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::{put_bytes, put_iv, put_uv};

    #[track_caller]
    fn check_uv(bytes: &[u8], want: Result<u64, &str>) {
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.uv().map_err(|e| e.what), want);
        assert_eq!(reader.position(), if want.is_ok() { bytes.len() } else { 0 });
    }

    /// They are read eight bytes at once where there are as many.
    #[test]
    fn what_follows_a_varint_is_not_part_of_it() {
        for bit in 0..64 {
            for n in [1 << bit, u64::MAX >> bit, 0x5bd1_e995_97f4_a7c1 >> bit] {
                for (next, more) in [(0u8, 9), (0xff, 9), (0xff, 0)] {
                    let mut bytes = Vec::new();
                    crate::put_uv(&mut bytes, n);
                    let len = bytes.len();
                    bytes.resize(len + more, next);
                    let mut reader = Reader::new(&bytes);
                    assert_eq!((reader.uv(), reader.position()), (Ok(n), len));
                }
            }
        }
    }

    #[test]
    fn varints_end_within_64_bits() {
        check_uv(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Ok((1 << 56) - 1));
        check_uv(&[0], Ok(0));
        check_uv(&[0x7f], Ok(127));
        check_uv(&[0x80, 1], Ok(128));
        check_uv(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Ok(u64::MAX));
        check_uv(&[], Err("ends inside a varint"));
        check_uv(&[0x80], Err("ends inside a varint"));
        check_uv(&[0xff; 9], Err("ends inside a varint"));
        check_uv(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            Err("a varint exceeds 64 bits"),
        );
        check_uv(&[0x80; 20], Err("a varint exceeds 64 bits"));
    }

    #[test]
    fn zigzag_keeps_small_numbers_small() {
        for (n, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (-64, vec![127]),
            (64, vec![0x80, 1]),
        ] {
            let mut out = Vec::new();
            put_iv(&mut out, n);
            assert_eq!(out, bytes, "{n}");
        }
    }

    #[test]
    fn a_count_is_bounded_by_what_is_left() {
        let mut out = Vec::new();
        put_uv(&mut out, 3);
        out.extend([0; 12]);
        assert_eq!(Reader::new(&out).count(4), Ok(3));
        assert_eq!(
            Reader::new(&out).count(5),
            Err(Malformed {
                at: 0,
                what: "a count exceeds what is left"
            })
        );
        let mut out = Vec::new();
        put_uv(&mut out, u64::MAX);
        assert!(Reader::new(&out).count(0).is_err());
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Field {
        Uv(u64),
        Iv(i64),
        Bytes(Vec<u8>),
        Str(String),
        Raw(u8, u32, u64),
    }

    fn field() -> impl Strategy<Value = Field> {
        prop_oneof![
            any::<u64>().prop_map(Field::Uv),
            (0u64..300).prop_map(Field::Uv),
            any::<i64>().prop_map(Field::Iv),
            vec(any::<u8>(), 0..200).prop_map(Field::Bytes),
            any::<String>().prop_map(Field::Str),
            any::<(u8, u32, u64)>().prop_map(|(a, b, c)| Field::Raw(a, b, c)),
        ]
    }

    fn write(fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        for field in fields {
            match field {
                Field::Uv(n) => put_uv(&mut out, *n),
                Field::Iv(n) => put_iv(&mut out, *n),
                Field::Bytes(bytes) => put_bytes(&mut out, bytes),
                Field::Str(text) => put_bytes(&mut out, text.as_bytes()),
                Field::Raw(a, b, c) => {
                    out.push(*a);
                    out.extend(b.to_le_bytes());
                    out.extend(c.to_le_bytes());
                }
            }
        }
        out
    }

    fn read_as(reader: &mut Reader, shape: &Field) -> Result<Field, Malformed> {
        Ok(match shape {
            Field::Uv(_) => Field::Uv(reader.uv()?),
            Field::Iv(_) => Field::Iv(reader.iv()?),
            Field::Bytes(_) => Field::Bytes(reader.bytes()?.to_vec()),
            Field::Str(_) => Field::Str(reader.str()?.to_owned()),
            Field::Raw(..) => Field::Raw(reader.u8()?, reader.u32()?, reader.u64()?),
        })
    }

    proptest! {
        /// What was written is read, and nothing is left over.
        #[test]
        fn fields_come_back(fields in vec(field(), 0..20)) {
            let bytes = write(&fields);
            let mut reader = Reader::new(&bytes);
            for field in &fields {
                prop_assert_eq!(&read_as(&mut reader, field)?, field);
            }
            prop_assert!(reader.is_empty());
        }

        /// A cut file must be noticed, wherever it was cut.
        #[test]
        fn a_cut_is_noticed(fields in vec(field(), 1..20), cut in any::<proptest::sample::Index>()) {
            let bytes = write(&fields);
            let mut reader = Reader::new(&bytes[..cut.index(bytes.len())]);
            prop_assert!(fields.iter().any(|field| read_as(&mut reader, field).is_err()));
        }

        /// Foreign bytes never panic and never move the reader past its end.
        #[test]
        fn garbage_is_survived(bytes in vec(any::<u8>(), 0..100), shapes in vec(field(), 0..20)) {
            let mut reader = Reader::new(&bytes);
            for shape in &shapes {
                let _ = read_as(&mut reader, shape);
                let _ = reader.count(3);
                let _ = reader.take(usize::MAX);
                prop_assert!(reader.position() <= bytes.len());
            }
        }
    }
}
