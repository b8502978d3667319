//! OTLP's voice: success, partial success and refusals, in the words of its HTTP and gRPC transports.
//!
//!     Export*Response       1 partial_success {1 rejected_* int64, 2 error_message}
//!     google.rpc.Status     1 code, 2 message, 3 details Any*
//!     google.protobuf.Any   1 type_url, 2 value
//!     google.rpc.RetryInfo  1 retry_delay {1 seconds}

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::Signal;
use serde_json::json;

use super::Encoding;
use super::report::Report;
use crate::refusal::Refusal;
use crate::wire::{put_bytes, put_number};

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

/// The body of a successful answer in protobuf: nothing at all, or a partial success.
pub(crate) fn response_message(report: &Report) -> Vec<u8> {
    let mut out = Vec::new();
    if !report.is_clean() {
        let mut partial = Vec::new();
        put_number(&mut partial, 1, report.rejected);
        put_bytes(&mut partial, 2, clipped(&report.message()).as_bytes());
        put_bytes(&mut out, 1, &partial);
    }
    out
}

/// The HTTP answer to a request that was stored, in whole or in part.
pub(crate) fn success(report: &Report, signal: Signal, encoding: Encoding) -> Response {
    match encoding {
        Encoding::Protobuf => with_type(StatusCode::OK, encoding, response_message(report)),
        Encoding::Json if report.is_clean() => with_type(StatusCode::OK, encoding, b"{}".to_vec()),
        Encoding::Json => {
            let rejected = match signal {
                Signal::Metrics => "rejectedDataPoints",
                Signal::Logs => "rejectedLogRecords",
                Signal::Traces => "rejectedSpans",
            };
            let message = report.message();
            let body = json!({"partialSuccess": {
                rejected: report.rejected.to_string(),
                "errorMessage": clipped(&message),
            }});
            with_type(StatusCode::OK, encoding, body.to_string().into_bytes())
        }
    }
}

/// The HTTP answer to a request of which nothing was stored: a `google.rpc.Status` in the request's encoding.
pub(crate) fn refused(refusal: &Refusal, encoding: Encoding) -> Response {
    let message = refusal.to_string();
    let body = match encoding {
        Encoding::Protobuf => status_message(code(refusal), &message, None),
        Encoding::Json => json!({"code": code(refusal) as i32, "message": clipped(&message)})
            .to_string()
            .into_bytes(),
    };
    let mut response = match refusal {
        Refusal::ContentType(_) => (refusal.status(), clipped(&message).to_owned()).into_response(),
        _ => with_type(refusal.status(), encoding, body),
    };
    if let Some(seconds) = refusal.retry_after_s() {
        // An integer always: the Go exporters read nothing else.
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
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

fn with_type(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Response {
    let content_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
