//! Bodies of answers: read and unpacked within a bound.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::AskError;

/// The body, unpacked; of at most `bytes_max` bytes.
pub(super) async fn read(mut body: Incoming, headers: &HeaderMap, bytes_max: u64) -> Result<Bytes, AskError> {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| AskError::Failed(format!("the body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > bytes_max {
            return Err(AskError::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    let encoding = headers
        .get(CONTENT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    match encoding.to_ascii_lowercase().as_str() {
        "gzip" => unpack(&all, bytes_max),
        // Nothing else was asked for. Some exporters say what they are written in, as in `utf-8`.
        _ => Ok(all.freeze()),
    }
}

fn unpack(packed: &[u8], bytes_max: usize) -> Result<Bytes, AskError> {
    let mut out = Vec::with_capacity(packed.len().saturating_mul(4).min(bytes_max));
    let mut unpacked = MultiGzDecoder::new(packed).take(bytes_max as u64 + 1);
    let read = unpacked.read_to_end(&mut out);
    read.map_err(|e| AskError::Failed(format!("the body is no gzip: {e}")))?;
    if out.len() > bytes_max {
        return Err(AskError::TooLarge);
    }
    Ok(out.into())
}
