//! Thrift over HTTP: `POST /api/traces`, and the sampling strategy that old SDKs poll on this port.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, header};

use super::{UNFOLD_MAX, sampling, thrift_batch};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::report::Report;

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
    match receive(&shared, request).await {
        Ok(report) => {
            row.ok(report.accepted(), report.rejected);
            if report.rejected > 0 {
                tracing::debug!(
                    rejected = report.rejected,
                    why = report.message(),
                    "jaeger spans refused"
                );
            }
            StatusCode::ACCEPTED.into_response()
        }
        Err(refusal) => {
            row.refused(&refusal);
            refused(&refusal)
        }
    }
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
fn refused(refusal: &Refusal) -> Response {
    let status = match refusal.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => StatusCode::BAD_REQUEST,
        status => status,
    };
    let mut response = (status, format!("{refusal}\n")).into_response();
    if let Some(seconds) = refusal.retry_after_s() {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
