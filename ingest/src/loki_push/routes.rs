//! `POST /loki/api/v1/push`: what senders are told, in Loki's words. Good entries are stored even when the answer is
//! 400 for the bad ones. `X-Scope-OrgID` is ignored, as Loki ignores it with authentication off.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::decode::{Push, from_json, from_protobuf};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::entry_limits::bad_time;
use crate::refusal::Refusal;
use crate::sink::EntriesTaken;

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

/// Takes one push.
pub(crate) async fn push(State(shared): State<Shared>, request: Request) -> Response {
    let row = shared.counters.row(Receiver::LokiPush);
    match receive(&shared, request).await {
        Ok((push, _)) if push.streams == 0 => {
            row.bad(0, 0);
            let words = "error at least one valid stream is required for ingestion\n";
            (StatusCode::UNPROCESSABLE_ENTITY, words).into_response()
        }
        Ok((push, taken)) => {
            let refused = taken.too_old + taken.too_new;
            let rejected = push.rejected + refused;
            if rejected == 0 {
                row.ok(taken.kept, 0);
                return StatusCode::NO_CONTENT.into_response();
            }
            row.bad(taken.kept, rejected);
            let oldest = shared.sink.oldest_entry();
            let mut errors = push.errors;
            errors.add_untold(refused.saturating_sub(taken.refused.len() as u64));
            for (labels, t, too_new) in &taken.refused {
                errors.add(bad_time(labels, *t, *too_new, oldest));
            }
            (StatusCode::BAD_REQUEST, errors.words()).into_response()
        }
        Err(refusal) => {
            row.refused(&refusal);
            let status = match &refusal {
                Refusal::ContentType(_) | Refusal::ContentEncoding(_) => StatusCode::BAD_REQUEST,
                _ => refusal.status(),
            };
            refusal.in_words(status)
        }
    }
}

async fn receive(shared: &Shared, request: Request) -> Result<(Push, EntriesTaken), Refusal> {
    let (parts, body) = request.into_parts();
    let (json, compression) = match spoken(&parts.headers) {
        Ok(spoken) => spoken,
        Err(refusal) => {
            body::drain(body).await;
            return Err(refusal);
        }
    };
    let bytes_max = shared.options.body_bytes_max;
    let (wire, ticket) = shared.read(Receiver::LokiPush.signal(), body, bytes_max).await?;
    let unfolded_max = bytes_max.saturating_mul(UNFOLD_MAX);
    let decode = move |plain: &[u8]| match (json, compression) {
        (true, _) => from_json(plain, unfolded_max),
        (false, Compression::Snappy) => from_protobuf(plain, unfolded_max),
        // gzip or deflate around a snappy block.
        (false, _) => from_protobuf(&body::decompress(Compression::Snappy, plain, bytes_max)?, unfolded_max),
    };
    let row = shared.counters.row(Receiver::LokiPush);
    let (push, _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decode).await?;
    let taken = if push.batch.is_empty() {
        EntriesTaken::default()
    } else {
        shared.sink.append_logs(&push.batch).await?
    };
    Ok((push, taken))
}

/// Whether the body is JSON, and how it is compressed. Anything that does not call itself JSON is a snappy block.
fn spoken(headers: &HeaderMap) -> Result<(bool, Compression), Refusal> {
    let media_type = body::media_type(headers);
    if media_type.is_empty() {
        return Err(Refusal::ContentType(
            "mime: no media type; send application/json or application/x-protobuf".to_owned(),
        ));
    }
    let json = media_type.eq_ignore_ascii_case("application/json");
    let plain = if json { Compression::None } else { Compression::Snappy };
    let encoding = body::content_encoding(headers);
    let compression = match encoding {
        "" | "snappy" => plain,
        _ => match Compression::by_name(encoding) {
            Some(compression @ (Compression::Gzip | Compression::Deflate | Compression::Zstd)) => compression,
            Some(Compression::None) => plain,
            _ => {
                return Err(Refusal::ContentEncoding(format!(
                    "Content-Encoding {encoding:?} not supported"
                )));
            }
        },
    };
    Ok((json, compression))
}
