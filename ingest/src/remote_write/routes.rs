//! `POST /api/v1/write`: which requests are spoken here, and what their senders are told.
//!
//! Senders retry 5xx for ever and drop a batch on any 4xx, so a temporary fault is always 503. Samples that are refused
//! for their time are told with 400 though the others are stored. Series with unusable labels are told to senders of
//! version 2 only (400); version 1 senders get 204, as Prometheus gives them. Histograms that are none are told to both.
//!
//! Version 2 answers carry how much was written, whatever the status; without these headers a sender takes us for a
//! version 1 receiver that understood nothing. Version 1 answers must not carry them.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::decoded::Decoded;
use super::{version1, version2};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::sink::SamplesTaken;

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Takes one request.
pub(crate) async fn write(State(shared): State<Shared>, request: Request) -> Response {
    let row = shared.counters.row(Receiver::RemoteWrite);
    let (parts, body) = request.into_parts();
    let (version, compression) = match spoken(&parts.headers) {
        Ok(spoken) => spoken,
        Err(refusal) => {
            body::drain(body).await;
            row.refused(&refusal);
            return refusal.in_words(refusal.status());
        }
    };
    let mut response = match receive(&shared, version, compression, body).await {
        Ok((decoded, taken)) => {
            let rejected = decoded.refused() + taken.refused();
            let kept = taken.kept + taken.histograms;
            let words = words(version, &decoded, &taken);
            let mut response = if words.is_empty() {
                row.ok(kept, rejected);
                StatusCode::NO_CONTENT.into_response()
            } else {
                row.bad(kept, rejected);
                (StatusCode::BAD_REQUEST, words + "\n").into_response()
            };
            if version == Version::Two {
                put_written(response.headers_mut(), [taken.kept, taken.histograms, taken.exemplars]);
            }
            return response;
        }
        Err(refusal) => {
            row.refused(&refusal);
            refusal.in_words(refusal.status())
        }
    };
    if version == Version::Two {
        put_written(response.headers_mut(), [0; 3]);
    }
    response
}

async fn receive(
    shared: &Shared,
    version: Version,
    compression: Compression,
    body: axum::body::Body,
) -> Result<(Decoded, SamplesTaken), Refusal> {
    let bytes_max = shared.options.body_bytes_max;
    let (wire, ticket) = shared.read(Receiver::RemoteWrite.signal(), body, bytes_max).await?;
    let row = shared.counters.row(Receiver::RemoteWrite);
    let unfolded_max = bytes_max.saturating_mul(UNFOLD_MAX);
    let decode = move |plain: &[u8]| match version {
        Version::One => version1::decode(plain, unfolded_max),
        Version::Two => version2::decode(plain, unfolded_max),
    };
    let (decoded, _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decode).await?;
    let taken = if decoded.batch.is_empty() {
        SamplesTaken::default()
    } else {
        shared.sink.append_samples(&decoded.batch).await?
    };
    Ok((decoded, taken))
}

/// Whether the headers announce remote write, in which version, and how it is compressed. The version header is never
/// looked at: only the `proto` parameter tells.
fn spoken(headers: &HeaderMap) -> Result<(Version, Compression), Refusal> {
    let content_type = body::header_text(headers, header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(Refusal::ContentType(format!(
            "content type {content_type:?} is not remote write; send application/x-protobuf"
        )));
    }
    let proto = parts.find_map(|p| p.strip_prefix("proto=")).unwrap_or("");
    let version = match proto.trim_matches('"') {
        "" | "prometheus.WriteRequest" => Version::One,
        "io.prometheus.write.v2.Request" => Version::Two,
        other => {
            return Err(Refusal::ContentType(format!(
                "remote write message {other:?} is not known; send prometheus.WriteRequest or io.prometheus.write.v2.Request"
            )));
        }
    };
    let encoding = body::content_encoding(headers);
    match Compression::by_name(encoding) {
        Some(Compression::Snappy) => Ok((version, Compression::Snappy)),
        Some(Compression::Zstd) => Ok((version, Compression::Zstd)),
        Some(Compression::None) if encoding.is_empty() => Ok((version, Compression::Snappy)),
        _ => Err(Refusal::ContentEncoding(format!(
            "content encoding {encoding:?} is not remote write; send snappy (the block format)"
        ))),
    }
}

/// What the sender must hear; empty if all is well.
fn words(version: Version, decoded: &Decoded, taken: &SamplesTaken) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(why) = &decoded.skipped_why {
        tracing::debug!(series = decoded.skipped_series, why, "remote write: series skipped");
        if version == Version::Two {
            words.push(format!(
                "{} series skipped, the first because {why}",
                decoded.skipped_series
            ));
        }
    }
    if taken.refused() > 0 {
        words.push(taken.words());
    }
    if let Some(why) = &decoded.unfit_why {
        words.push(format!(
            "{} native histograms refused, the first of {why}",
            decoded.unfit_histograms
        ));
    }
    if decoded.unreadable_exemplars > 0 {
        words.push(format!(
            "{} exemplars refused: their label references are odd in number or name no symbol in UTF-8",
            decoded.unreadable_exemplars
        ));
    }
    words.join("; ")
}

/// Samples, histograms and exemplars written.
fn put_written(headers: &mut HeaderMap, written: [u64; 3]) {
    let names = [SAMPLES_WRITTEN, HISTOGRAMS_WRITTEN, EXEMPLARS_WRITTEN];
    for (name, n) in names.into_iter().zip(written) {
        headers.insert(name, HeaderValue::from(n));
    }
}
