//! Thrift over HTTP: `POST /api/traces`, and the sampling strategy that old SDKs poll on this port.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;

use super::{UNFOLD_MAX, sampling, thrift_batch};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::span_senders;

const CONTENT_TYPES: [&str; 2] = ["application/x-thrift", "application/vnd.apache.thrift.binary"];

/// The router of the Jaeger Thrift port.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/traces", post(traces))
        .route("/api/sampling", get(sampling::over_http))
        .route("/sampling", get(sampling::over_http))
        .with_state(shared)
}

async fn traces(State(shared): State<Shared>, request: Request) -> Response {
    let row = shared.counters.row(Receiver::JaegerThriftHttp);
    span_senders::answer(row, receive(&shared, request).await, status)
}

async fn receive(shared: &Shared, request: Request) -> Result<Report, Refusal> {
    let (parts, body) = request.into_parts();
    let media_type = body::media_type(&parts.headers);
    if !CONTENT_TYPES.iter().any(|t| media_type.eq_ignore_ascii_case(t)) {
        body::drain(body).await;
        return Err(Refusal::ContentType(format!(
            "content type {media_type:?} is not supported; send application/x-thrift"
        )));
    }
    let name = body::content_encoding(&parts.headers);
    let Some(compression) = Compression::by_name(name) else {
        body::drain(body).await;
        return Err(Refusal::ContentEncoding(format!(
            "content encoding {name:?} is not supported; send gzip, zstd, deflate or none"
        )));
    };
    let receiver = Receiver::JaegerThriftHttp;
    let bytes_max = shared.options.body_bytes_max;
    let (wire, ticket) = shared.read(receiver.signal(), body, bytes_max).await?;
    let decode = move |plain: &[u8]| thrift_batch::decode_body(plain, bytes_max.saturating_mul(UNFOLD_MAX));
    let row = shared.counters.row(receiver);
    let ((batch, mut report), _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decode).await?;
    shared.append_spans(batch, &mut report).await?;
    Ok(report)
}

/// Jaeger's collector answers 400 to what it cannot read, whatever the reason.
fn status(refusal: &Refusal) -> StatusCode {
    match refusal.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
        status => status,
    }
}
