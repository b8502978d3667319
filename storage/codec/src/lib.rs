//! Bits, varints, checksums and compressed frames: how bytes are laid out, knowing nothing of files or signals.
//!
//! Everything that reads takes foreign bytes: it bounds what it trusts and returns [`Malformed`] instead of panicking.

use std::ops::Range;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {what}")]
pub struct Malformed {
    /// Offset from the start of what was being read.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Appends a LEB128 varint.
pub fn put_uv(out: &mut Vec<u8>, n: u64) {
    let _ = (out, n);
    todo!()
}
/// Appends a zigzag varint.
pub fn put_iv(out: &mut Vec<u8>, n: i64) {
    let _ = (out, n);
    todo!()
}
/// Appends a length-prefixed field: `len uv · bytes`.
pub fn put_bytes(out: &mut Vec<u8>, field: &[u8]) {
    let _ = (out, field);
    todo!()
}
/// CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let _ = bytes;
    todo!()
}

/// Reads a byte slice front to back; every read is checked.
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
    pub fn uv(&mut self) -> Result<u64, Malformed> {
        todo!()
    }
    /// A zigzag varint.
    pub fn iv(&mut self) -> Result<i64, Malformed> {
        todo!()
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        todo!()
    }
    /// Little-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        todo!()
    }
    /// Little-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        todo!()
    }
    /// Exactly `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let _ = n;
        todo!()
    }
    /// A length-prefixed field.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        todo!()
    }
    /// A length-prefixed field that is UTF-8.
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        todo!()
    }
    /// A count of items of at least `item_bytes_min` bytes each: refused when that many cannot be left.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let _ = item_bytes_min;
        todo!()
    }
}

/// Writes single bits, most significant first.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    /// Appends the low `n` bits of `bits` (n <= 64).
    pub fn put(&mut self, bits: u64, n: u32) {
        let _ = (bits, n, self.used);
        todo!()
    }
    /// Bits written so far.
    pub fn bit_len(&self) -> usize {
        todo!()
    }
    /// The bytes so far; the last one is padded with zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
    /// Gives up the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads single bits, most significant first.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// At the first bit.
    pub fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }
    /// The next `n` bits (n <= 64) as the low bits of the result.
    pub fn get(&mut self, n: u32) -> Result<u64, Malformed> {
        let _ = (n, self.bytes, self.at);
        todo!()
    }
}

/// Appends `bytes` to `out` as one zstd frame; says where it stands.
pub fn zstd_frame(out: &mut Vec<u8>, bytes: &[u8], level: i32) -> Range<usize> {
    let _ = (out, bytes, level);
    todo!()
}
/// Expands one zstd frame into `out` (cleared first), refusing more than `bytes_max`.
pub fn unzstd_frame(frame: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Malformed> {
    let _ = (frame, out, bytes_max);
    todo!()
}
