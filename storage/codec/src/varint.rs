//! Writing integers and fields of varying length.
//!
//! ```text
//! uv     = LEB128: seven bits per byte, lowest first, the high bit says that more follow
//! iv     = uv of the zigzag number: 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...
//! bytes  = len uv · data [len]
//! ```

/// Appends a LEB128 varint.
#[inline]
pub fn put_uv(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a zigzag varint.
#[inline]
pub fn put_iv(out: &mut Vec<u8>, n: i64) {
    put_uv(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// Appends a length-prefixed field: `len uv · bytes`.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: &[u8]) {
    put_uv(out, field.len() as u64);
    out.extend_from_slice(field);
}
