//! `POST /api/v2/spans` and `/api/v1/spans`: 202 for what was stored, also in part; clients hear 400 only of requests in
//! which nothing can be read. Browsers may send, as to Zipkin itself.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};

use super::{UNFOLD_MAX, json, protobuf, translate, version1};
use crate::Shared;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::span_senders;

#[derive(Clone, Copy, Debug)]
enum Format {
    Json,
    Protobuf,
    Json1,
    Thrift1,
}

/// The router of the Zipkin port.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/v2/spans", post(version_2))
        .route("/api/v1/spans", post(version_1))
        .route(
            "/health",
            get(|| async { axum::Json(serde_json::json!({"status": "UP"})) }),
        )
        .with_state(shared)
        .layer(middleware::from_fn(crate::cors::allow_any_origin))
}

async fn version_2(State(shared): State<Shared>, request: Request) -> Response {
    let media_type = body::media_type(request.headers());
    let format = match media_type.eq_ignore_ascii_case("application/x-protobuf") {
        true => Format::Protobuf,
        false => Format::Json,
    };
    answer(shared, format, request).await
}

async fn version_1(State(shared): State<Shared>, request: Request) -> Response {
    let media_type = body::media_type(request.headers());
    let format = match media_type.eq_ignore_ascii_case("application/x-thrift") {
        true => Format::Thrift1,
        false => Format::Json1,
    };
    answer(shared, format, request).await
}

async fn answer(shared: Shared, format: Format, request: Request) -> Response {
    let row = shared.counters.row(Receiver::Zipkin);
    span_senders::answer(row, receive(&shared, format, request).await, Refusal::status)
}

async fn receive(shared: &Shared, format: Format, request: Request) -> Result<Report, Refusal> {
    let (parts, body) = request.into_parts();
    let name = body::content_encoding(&parts.headers);
    let Some(compression) = Compression::by_name(name) else {
        body::drain(body).await;
        return Err(Refusal::ContentEncoding(format!(
            "content encoding {name:?} is not supported; send gzip, deflate, zstd or none"
        )));
    };
    let bytes_max = shared.options.body_bytes_max;
    let now = shared.sink.now();
    let (wire, ticket) = shared.read(Receiver::Zipkin.signal(), body, bytes_max).await?;
    let decode = move |plain: &[u8]| {
        let mut room = Room::new(bytes_max.saturating_mul(UNFOLD_MAX));
        let (spans, report) = match format {
            Format::Json => json::decode(plain, &mut room)?,
            Format::Protobuf => protobuf::decode(plain, &mut room)?,
            Format::Json1 => version1::decode_json(plain, &mut room)?,
            Format::Thrift1 => version1::decode_thrift(plain, &mut room)?,
        };
        if spans.is_empty() && report.rejected > 0 {
            return Err(Refusal::Bad(format!("no span can be read: {}", report.message())));
        }
        translate::translated(spans, report, now, &mut room)
    };
    let row = shared.counters.row(Receiver::Zipkin);
    let ((batch, mut report), _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decode).await?;
    shared.append_spans(batch, &mut report).await?;
    Ok(report)
}
