//! `POST /api/v1/write`: which requests are spoken here, and what their senders are told.
//!
//! Senders retry 5xx for ever and drop a batch on any 4xx, so a temporary fault is always 503. Version 1 senders are
//! not told of series with unusable labels (204), as Prometheus does not tell them either; they are told with 400 of
//! samples that were refused for their time, though the others are stored.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::decode::{Decoded, decode};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::sink::SamplesTaken;

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

/// Takes one request.
pub(crate) async fn write(State(shared): State<Shared>, request: Request) -> Response {
    let row = shared.counters.row(Receiver::RemoteWrite);
    match receive(&shared, request).await {
        Ok((decoded, taken)) => {
            let rejected = decoded.skipped_samples + decoded.histograms + taken.refused();
            if let Some(why) = &decoded.skipped_why {
                tracing::debug!(samples = decoded.skipped_samples, why, "remote write: series skipped");
            }
            let mut words = taken.words();
            if decoded.histograms > 0 {
                let histograms = format!(
                    "{} native histograms are not stored by this version",
                    decoded.histograms
                );
                words = if words.is_empty() {
                    histograms
                } else {
                    format!("{words}; {histograms}")
                };
            }
            if words.is_empty() {
                row.ok(taken.kept, rejected);
                StatusCode::NO_CONTENT.into_response()
            } else {
                row.bad(taken.kept, rejected);
                (StatusCode::BAD_REQUEST, words + "\n").into_response()
            }
        }
        Err(refusal) => {
            row.refused(&refusal);
            let mut response = (refusal.status(), format!("{refusal}\n")).into_response();
            if let Some(seconds) = refusal.retry_after_s() {
                let headers = response.headers_mut();
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
    }
}

async fn receive(shared: &Shared, request: Request) -> Result<(Decoded, SamplesTaken), Refusal> {
    let (parts, body) = request.into_parts();
    let compression = match spoken(&parts.headers) {
        Ok(compression) => compression,
        Err(refusal) => {
            body::drain(body).await;
            return Err(refusal);
        }
    };
    let bytes_max = shared.options.body_bytes_max;
    let (wire, ticket) = shared.read(Receiver::RemoteWrite.signal(), body, bytes_max).await?;
    let row = shared.counters.row(Receiver::RemoteWrite);
    let unfolded_max = bytes_max.saturating_mul(UNFOLD_MAX);
    let decoder = move |plain: &[u8]| decode(plain, unfolded_max);
    let (decoded, _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decoder).await?;
    let taken = if decoded.batch.is_empty() {
        SamplesTaken::default()
    } else {
        shared.sink.append_samples(&decoded.batch).await?
    };
    Ok((decoded, taken))
}

/// Whether the headers announce version 1, and how it is compressed. The version header is never looked at: only the
/// `proto` parameter tells.
fn spoken(headers: &HeaderMap) -> Result<Compression, Refusal> {
    let content_type = body::header_text(headers, header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(Refusal::ContentType(format!(
            "content type {content_type:?} is not remote write; send application/x-protobuf"
        )));
    }
    let proto = parts
        .find_map(|p| p.strip_prefix("proto="))
        .unwrap_or("")
        .trim_matches('"');
    match proto {
        "" | "prometheus.WriteRequest" => {}
        other => {
            return Err(Refusal::ContentType(format!(
                "remote write message {other:?} is not accepted by this version; send prometheus.WriteRequest (version 1.0)"
            )));
        }
    }
    let encoding = body::content_encoding(headers);
    match Compression::by_name(encoding) {
        Some(Compression::Snappy) => Ok(Compression::Snappy),
        Some(Compression::Zstd) => Ok(Compression::Zstd),
        Some(Compression::None) if encoding.is_empty() => Ok(Compression::Snappy),
        _ => Err(Refusal::ContentEncoding(format!(
            "content encoding {encoding:?} is not remote write; send snappy (the block format)"
        ))),
    }
}
