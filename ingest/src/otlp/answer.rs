//! OTLP's voice: success, partial success and refusals, in the words of its HTTP and gRPC transports.
//!
//!     Export*Response       1 partial_success {1 rejected_* int64, 2 error_message}

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use model::Signal;
use serde_json::json;

use super::Encoding;
use crate::grpc::{clipped, code, status_message};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::wire::{put_bytes, put_number};

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
