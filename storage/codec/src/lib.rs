//! Bits, varints, checksums and compressed frames: how bytes are laid out, knowing nothing of files or signals.
//!
//! Whoever writes a format appends to a `Vec<u8>` with [`put_uv`], [`put_iv`], [`put_bytes`] and [`zstd_frame`], or to a
//! [`BitWriter`]; whoever reads one walks it with a [`Reader`] or a [`BitReader`].
//! Everything that reads takes foreign bytes: it bounds what it trusts and returns [`Malformed`] instead of panicking.

mod bits;
mod frame;
mod reader;
mod varint;

pub use bits::{BitReader, BitWriter};
pub use frame::{unzstd_frame, zstd_frame};
pub use reader::Reader;
pub use varint::{put_bytes, put_iv, put_uv};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}: {what}")]
pub struct Malformed {
    /// Offset from the start of what was being read.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// CRC32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
}

/// CRC32C of what `crc` covers followed by `bytes`.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    ::crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xe306_9283);
    }
}
