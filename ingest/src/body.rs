//! Request bodies: read with a bound, decompressed with a bound, decoded off the network's threads when large.
//!
//! The bound holds before and after decompression, and decompressors write through a limited reader, so that a bomb
//! costs no more than an honest body of the largest size. What a compressed body claims about its own size only decides
//! how much room is asked for at the door, never how much is allocated or accepted.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::admission::Ticket;
use crate::counters::Row;
use crate::refusal::Refusal;

/// A body that makes no progress for this long is given up.
const PROGRESS_MAX: Duration = Duration::from_secs(30);
/// Bodies up to this size, decompressed, are decoded at once, on the thread that read them.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// How many large bodies are decoded at the same time.
const DECODERS: usize = 4;
/// After an early refusal this much of the rest of the body is read and dropped, so that an HTTP/1.1 client sees the
/// answer and not a reset.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// And for no longer than this.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// Windows of zstd up to 16 MiB: every level but the `--long` ones.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

static DECODER_SLOTS: Semaphore = Semaphore::const_new(DECODERS);

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip, also of several members.
    Gzip,
    /// zstd.
    Zstd,
    /// With or without zlib's header: clients disagree about the meaning of `deflate`.
    Deflate,
    /// A snappy block (not the framed format).
    Snappy,
}

impl Compression {
    /// By the name in a `Content-Encoding` or `grpc-encoding` header; empty is none.
    pub fn by_name(name: &str) -> Option<Compression> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Some(Compression::None),
            "gzip" | "x-gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            "deflate" | "zlib" => Some(Compression::Deflate),
            "snappy" => Some(Compression::Snappy),
            _ => None,
        }
    }
}

/// The value of the `Content-Encoding` header, empty if there is none.
pub(crate) fn content_encoding(headers: &HeaderMap) -> &str {
    header_text(headers, header::CONTENT_ENCODING)
}

/// The media type of the `Content-Type` header, without parameters, as sent; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let content_type = header_text(headers, header::CONTENT_TYPE);
    content_type.split(';').next().unwrap_or("").trim()
}

/// The value of a header as text, empty if there is none.
pub(crate) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// Reads a body of at most `bytes_max` bytes, the ticket growing with it.
pub(crate) async fn read(mut body: Body, bytes_max: usize, ticket: &mut Ticket) -> Result<Bytes, Refusal> {
    let result = read_frames(&mut body, bytes_max, ticket).await;
    if matches!(result, Err(Refusal::TooLarge(_) | Refusal::Busy { .. })) {
        drain(body).await;
    }
    result
}

async fn read_frames(body: &mut Body, bytes_max: usize, ticket: &mut Ticket) -> Result<Bytes, Refusal> {
    let announced = http_body::Body::size_hint(body).lower();
    if announced > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    let mut first = Bytes::new();
    let mut all: Option<BytesMut> = None;
    loop {
        let frame = match tokio::time::timeout(PROGRESS_MAX, body.frame()).await {
            Err(_) => return Err(Refusal::Stalled("request body made no progress for 30 s".to_owned())),
            Ok(None) => break,
            Ok(Some(Err(e))) => return Err(Refusal::Bad(format!("request body could not be read: {e}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let len = first.len() + all.as_ref().map_or(0, BytesMut::len) + data.len();
        if len > bytes_max {
            return Err(too_large(bytes_max));
        }
        ticket.grow_to(len).await?;
        match &mut all {
            Some(all) => all.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity(len.max(announced.min(ANNOUNCED_BYTES_MAX) as usize));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                first = Bytes::new();
                all = Some(joined);
            }
        }
    }
    Ok(all.map_or(first, BytesMut::freeze))
}

/// Room made in advance on the word of a client.
const ANNOUNCED_BYTES_MAX: u64 = 1 << 20;

/// Reads and drops what is left of a refused body, up to a bound.
pub(crate) async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES_MAX;
    let draining = async {
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(len) else { break };
            left = rest;
        }
    };
    // Who sends too slowly is cut off with the connection.
    let _ = tokio::time::timeout(DRAIN_WAIT_MAX, draining).await;
}

/// Decompresses and decodes a body that was read. `decode` sees the plain bytes; large ones on a thread of its own.
/// The ticket comes back grown, to be held until the batch is durable.
pub(crate) async fn decode<T, F>(
    wire: Bytes,
    compression: Compression,
    bytes_max: usize,
    mut ticket: Ticket,
    row: &Row,
    decode: F,
) -> Result<(T, Ticket), Refusal>
where
    T: Send + 'static,
    F: FnOnce(&[u8]) -> Result<T, Refusal> + Send + 'static,
{
    let wire_len = wire.len();
    ticket
        .grow_to(wire_len + expected_len(compression, &wire).min(bytes_max))
        .await?;
    if compression == Compression::None {
        row.read(wire_len, wire_len);
        if wire_len <= INLINE_BYTES_MAX {
            return Ok((decode(&wire)?, ticket));
        }
    } else if wire_len <= INLINE_BYTES_MAX {
        match decompress(compression, &wire, INLINE_BYTES_MAX.min(bytes_max)) {
            Ok(plain) => {
                row.read(wire_len, plain.len());
                return Ok((decode(&plain)?, ticket));
            }
            Err(Refusal::TooLarge(_)) if bytes_max > INLINE_BYTES_MAX => {}
            Err(refusal) => return Err(refusal),
        }
    }
    let _slot = DECODER_SLOTS.acquire().await;
    let (decoded, plain_len, ticket) = tokio::task::spawn_blocking(move || {
        if compression == Compression::None {
            return Ok::<_, Refusal>((decode(&wire)?, 0, ticket));
        }
        let plain = decompress(compression, &wire, bytes_max)?;
        ticket.try_grow_to(wire.len() + plain.len())?;
        Ok((decode(&plain)?, plain.len(), ticket))
    })
    .await
    .map_err(|e| Refusal::Busy {
        why: format!("the request could not be decoded: {e}"),
        retry_after_s: 1,
    })??;
    if compression != Compression::None {
        row.read(wire_len, plain_len);
    }
    Ok((decoded, ticket))
}

/// The plain bytes, at most `bytes_max` of them.
pub(crate) fn decompress(compression: Compression, wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    match compression {
        Compression::None if wire.len() > bytes_max => Err(too_large(bytes_max)),
        Compression::None => Ok(wire.to_vec()),
        Compression::Gzip => limited("gzip", flate2::bufread::MultiGzDecoder::new(wire), wire, bytes_max),
        Compression::Zstd => {
            let corrupt = |e| Refusal::Bad(format!("malformed zstd: {e}"));
            let mut decoder = zstd::stream::read::Decoder::with_buffer(wire).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
            limited("zstd", decoder, wire, bytes_max)
        }
        Compression::Deflate => {
            if looks_like_zlib(wire) {
                let zlib = limited("deflate", flate2::bufread::ZlibDecoder::new(wire), wire, bytes_max);
                if !matches!(zlib, Err(Refusal::Bad(_))) {
                    return zlib;
                }
            }
            limited("deflate", flate2::bufread::DeflateDecoder::new(wire), wire, bytes_max)
        }
        Compression::Snappy => {
            let corrupt = |e| Refusal::Bad(format!("malformed snappy block: {e}"));
            let len = snap::raw::decompress_len(wire).map_err(corrupt)?;
            if len > bytes_max {
                return Err(too_large(bytes_max));
            }
            if len > wire.len().saturating_mul(SNAPPY_RATIO_MAX) {
                return Err(Refusal::Bad(format!(
                    "malformed snappy block: {} bytes cannot hold the {len} that it declares",
                    wire.len()
                )));
            }
            let mut plain = vec![0; len];
            let written = snap::raw::Decoder::new()
                .decompress(wire, &mut plain)
                .map_err(corrupt)?;
            plain.truncate(written);
            Ok(plain)
        }
    }
}

/// Snappy's best case is a copy of 64 bytes in 3.
const SNAPPY_RATIO_MAX: usize = 32;

fn limited(what: &str, reader: impl Read, wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::with_capacity(wire.len().saturating_mul(4).min(bytes_max));
    reader
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|e| Refusal::Bad(format!("malformed {what}: {e}")))?;
    if plain.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(plain)
}

fn looks_like_zlib(wire: &[u8]) -> bool {
    matches!(wire, [a, b, ..] if a & 0x0f == 8 && (u16::from(*a) << 8 | u16::from(*b)) % 31 == 0)
}

/// About how long the plain bytes will be, going by what the body says of itself.
fn expected_len(compression: Compression, wire: &[u8]) -> usize {
    match compression {
        Compression::None => 0,
        Compression::Gzip => match wire.last_chunk::<4>() {
            Some(len) => u32::from_le_bytes(*len) as usize,
            None => 0,
        },
        Compression::Snappy => snap::raw::decompress_len(wire).unwrap_or(0),
        Compression::Zstd | Compression::Deflate => wire.len().saturating_mul(8),
    }
}

fn too_large(bytes_max: usize) -> Refusal {
    Refusal::TooLarge(format!(
        "request body too large: the limit is {bytes_max} bytes, before and after decompression; send smaller batches"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 4] = [
        Compression::Gzip,
        Compression::Zstd,
        Compression::Deflate,
        Compression::Snappy,
    ];

    fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip => {
                let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                e.write_all(plain).unwrap();
                e.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Compression::Deflate => {
                let mut e = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
                e.write_all(plain).unwrap();
                e.finish().unwrap()
            }
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        }
    }

    #[test]
    fn bombs_are_refused_and_never_unfolded() {
        let zeros = vec![0; 8 << 20];
        for compression in ALL {
            let bomb = compress(compression, &zeros);
            let refusal = decompress(compression, &bomb, 1 << 20).unwrap_err();
            assert!(matches!(refusal, Refusal::TooLarge(_)), "{compression:?}: {refusal}");
        }
    }

    #[test]
    fn truncated_and_foreign_bytes_are_bad() {
        for compression in ALL {
            let whole = compress(compression, b"hello hello hello hello");
            for wire in [&whole[..whole.len() - 3], b"this is plain text", &[0xff; 40]] {
                let refusal = decompress(compression, wire, 1 << 20).unwrap_err();
                assert!(
                    matches!(refusal, Refusal::Bad(_) | Refusal::TooLarge(_)),
                    "{compression:?}: {refusal}"
                );
            }
        }
    }

    #[test]
    fn deflate_is_zlib_or_raw() {
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(b"hello").unwrap();
        let raw = raw.finish().unwrap();
        for wire in [raw, compress(Compression::Deflate, b"hello")] {
            assert_eq!(decompress(Compression::Deflate, &wire, 100).unwrap(), b"hello");
        }
    }

    #[test]
    fn a_snappy_block_cannot_reserve_what_it_cannot_hold() {
        // Declares 32 MiB and holds three bytes.
        let refusal = decompress(Compression::Snappy, &[0x80, 0x80, 0x80, 0x10, 0, 0], 64 << 20).unwrap_err();
        assert!(refusal.to_string().contains("cannot hold"), "{refusal}");
    }

    proptest! {
        /// A client's compressor is not ours.
        #[test]
        fn what_was_compressed_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
            for compression in ALL {
                let wire = compress(compression, &plain);
                prop_assert_eq!(decompress(compression, &wire, 4000).unwrap(), plain.clone());
            }
        }

        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(wire in proptest::collection::vec(any::<u8>(), 0..200)) {
            for compression in ALL {
                let _ = decompress(compression, &wire, 4000);
            }
        }
    }
}
