//! Jaeger's gRPC collector: `PostSpans`, and the sampling strategy.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;

use super::{UNFOLD_MAX, protobuf, sampling};
use crate::Shared;
use crate::body;
use crate::counters::Receiver;
use crate::grpc::{self, is_grpc, unsupported_type};
use crate::refusal::Refusal;
use crate::report::Report;

/// The router of the Jaeger gRPC port.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/jaeger.api_v2.CollectorService/PostSpans", post(post_spans))
        .route("/jaeger.api_v2.SamplingManager/GetSamplingStrategy", post(strategy))
        .route("/grpc.health.v1.Health/Check", post(grpc::health))
        .fallback(grpc::unknown)
        .with_state(shared)
}

async fn post_spans(State(shared): State<Shared>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return unsupported_type();
    }
    let row = shared.counters.row(Receiver::JaegerGrpc);
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
            grpc::success(&[])
        }
        Err(refusal) => {
            row.refused(&refusal);
            grpc::refused(&refusal)
        }
    }
}

async fn receive(shared: &Shared, request: Request) -> Result<Report, Refusal> {
    let receiver = Receiver::JaegerGrpc;
    let (compression, message, ticket) = grpc::read_call(shared, receiver.signal(), request).await?;
    let bytes_max = shared.options.body_bytes_max;
    let decode = move |plain: &[u8]| protobuf::decode(plain, bytes_max.saturating_mul(UNFOLD_MAX));
    let row = shared.counters.row(receiver);
    let ((batch, mut report), _ticket) = body::decode(message, compression, bytes_max, ticket, row, decode).await?;
    shared.append_spans(batch, &mut report).await?;
    Ok(report)
}

async fn strategy(State(shared): State<Shared>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return unsupported_type();
    }
    match grpc::read_call(&shared, Receiver::JaegerGrpc.signal(), request).await {
        Ok(_) => grpc::success(&sampling::message()),
        Err(refusal) => grpc::refused(&refusal),
    }
}
