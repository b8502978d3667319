//! gRPC, spoken by hand over HTTP/2: the calls are unary and need no more than frames and trailers.
//!
//!     request body   = compressed u8 (0|1) · length u32 big-endian · message        (one frame)
//!     response body  = 0 · length u32 big-endian · message, then the trailers `grpc-status`, `grpc-message`
//!     refusal        = no body; `grpc-status`, `grpc-message` and `grpc-status-details-bin` as headers
//!
//!     google.rpc.Status     1 code, 2 message, 3 details Any*
//!     google.protobuf.Any   1 type_url, 2 value
//!     google.rpc.RetryInfo  1 retry_delay {1 seconds}
//!
//! By hand, because then all transports share one bounded road from body to batch, and because the answers matter: an
//! oversize message must be RESOURCE_EXHAUSTED (clients resend on OUT_OF_RANGE for ever), an undecodable one
//! INVALID_ARGUMENT, and a temporary fault UNAVAILABLE with a RetryInfo.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use model::Signal;

use crate::Shared;
use crate::admission::Ticket;
use crate::body::{self, Compression};
use crate::refusal::Refusal;
use crate::wire::{Fields, put_bytes, put_number};

const FRAME_HEADER_BYTES: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ACCEPTED_ENCODINGS: &str = "identity,gzip,zstd,deflate";

/// `SERVING` in `grpc.health.v1.HealthCheckResponse`, field 1.
const SERVING: u64 = 1;
/// Largest health check request.
const HEALTH_BYTES_MAX: usize = 4096;

/// Longest text that is sent back; clients only log it.
const MESSAGE_BYTES_MAX: usize = 4096;

/// gRPC's status codes, as far as they are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
}

/// gRPC's code for a refusal.
pub(crate) fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Bad(_) => Code::InvalidArgument,
        Refusal::TooLarge(_) => Code::ResourceExhausted,
        Refusal::ContentType(_) | Refusal::ContentEncoding(_) => Code::Unimplemented,
        Refusal::Stalled(_) | Refusal::Busy { .. } => Code::Unavailable,
    }
}

/// `grpc.health.v1.Health/Check`: serving.
pub(crate) async fn health(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_grpc(&parts.headers) {
        return unsupported_type();
    }
    let asked = async {
        let (wire, _ticket) = shared.read(Signal::Metrics, body, HEALTH_BYTES_MAX).await?;
        let (compression, message) = unframe(wire, &parts.headers, HEALTH_BYTES_MAX)?;
        let message = body::decompress(compression, &message, HEALTH_BYTES_MAX)?;
        for field in Fields::new(&message) {
            field?;
        }
        Ok::<(), Refusal>(())
    };
    match asked.await {
        Ok(()) => {
            let mut message = Vec::new();
            put_number(&mut message, 1, SERVING);
            success(&message)
        }
        Err(refusal) => refused(&refusal),
    }
}

/// Any method that does not exist.
pub(crate) async fn unknown(request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return unsupported_type();
    }
    let method = request.uri().path();
    trailers_only(
        Code::Unimplemented,
        &format!("unknown method {}", clipped(method)),
        None,
    )
}

/// Reads the one message of a call, still compressed.
pub(crate) async fn read_call(
    shared: &Shared,
    signal: Signal,
    request: Request,
) -> Result<(Compression, Bytes, Ticket), Refusal> {
    let (parts, body) = request.into_parts();
    let bytes_max = shared.options.body_bytes_max;
    let frame_bytes_max = bytes_max.saturating_add(FRAME_HEADER_BYTES);
    let (wire, ticket) = shared.read(signal, body, frame_bytes_max).await?;
    let (compression, message) = unframe(wire, &parts.headers, bytes_max)?;
    Ok((compression, message, ticket))
}

/// The one message of a unary call.
fn unframe(wire: Bytes, headers: &HeaderMap, bytes_max: usize) -> Result<(Compression, Bytes), Refusal> {
    let Some((header, rest)) = wire.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Err(Refusal::Bad(
            "malformed gRPC frame: the call carries no message".to_owned(),
        ));
    };
    let [flag, length @ ..] = *header;
    let length = u32::from_be_bytes(length) as usize;
    if length > bytes_max {
        return Err(Refusal::TooLarge(format!(
            "message of {length} bytes is too large: the limit is {bytes_max} bytes; send smaller batches"
        )));
    }
    if rest.len() != length {
        return Err(Refusal::Bad(format!(
            "malformed gRPC frame: it declares {length} bytes and carries {}",
            rest.len()
        )));
    }
    let name = body::header_text(headers, GRPC_ENCODING);
    let compression = match (flag, Compression::by_name(name)) {
        (0, _) => Compression::None,
        (1, Some(Compression::None)) => {
            return Err(Refusal::Bad("compressed gRPC frame without a grpc-encoding".to_owned()));
        }
        // gRPC's own snappy is framed, which is another format.
        (1, Some(compression)) if compression != Compression::Snappy => compression,
        (1, _) => {
            return Err(Refusal::ContentEncoding(format!(
                "grpc-encoding {name:?} is not supported; send one of {ACCEPTED_ENCODINGS}"
            )));
        }
        _ => return Err(Refusal::Bad(format!("malformed gRPC frame: flag {flag}"))),
    };
    Ok((compression, wire.slice(FRAME_HEADER_BYTES..)))
}

/// Whether a request is a gRPC call with protobuf messages.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = body::media_type(headers);
    media_type == "application/grpc" || media_type.starts_with("application/grpc+proto")
}

/// The answer to what is no gRPC.
pub(crate) fn unsupported_type() -> Response {
    let mut response = Response::new(Body::from(
        "this port speaks gRPC (application/grpc); HTTP receivers have ports of their own, OTLP/HTTP by default 4318\n",
    ));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// The answer to a call that went well.
pub(crate) fn success(message: &[u8]) -> Response {
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + message.len());
    frame.push(0);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from(Code::Ok as u16));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    grpc_response(Body::new(body))
}

/// The answer to a refused call.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let code = code(refusal);
    // A body that stalled was cut off by the network; the client may try at once.
    let retry = refusal.retry_after_s();
    trailers_only(code, &refusal.to_string(), retry)
}

fn trailers_only(code: Code, message: &str, retry_after_s: Option<u32>) -> Response {
    let mut response = grpc_response(Body::empty());
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(clipped(message))) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if retry_after_s.is_some() {
        let details = status_message(code, message, retry_after_s);
        if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(details)) {
            headers.insert(GRPC_STATUS_DETAILS, details);
        }
    }
    response
}

fn grpc_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_ENCODINGS));
    response
}

/// As `grpc-message` is written: printable ASCII but `%`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for b in message.bytes() {
        match b {
            b' '..=b'~' if b != b'%' => out.push(b as char),
            _ => {
                out.push('%');
                out.extend(
                    [b >> 4, b & 15].map(|d| char::from_digit(u32::from(d), 16).unwrap_or('0').to_ascii_uppercase()),
                );
            }
        }
    }
    out
}

/// A `google.rpc.Status`, with a `RetryInfo` if the client shall come back.
pub(crate) fn status_message(code: Code, message: &str, retry_after_s: Option<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, code as u64);
    put_bytes(&mut out, 2, clipped(message).as_bytes());
    if let Some(seconds) = retry_after_s {
        let mut delay = Vec::new();
        put_number(&mut delay, 1, u64::from(seconds));
        let mut info = Vec::new();
        put_bytes(&mut info, 1, &delay);
        let mut any = Vec::new();
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut out, 3, &any);
    }
    out
}

/// A text cut to what is sent back.
pub(crate) fn clipped(message: &str) -> &str {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    &message[..end]
}
