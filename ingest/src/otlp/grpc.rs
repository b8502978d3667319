//! OTLP/gRPC: the three Export services, each a unary call.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use model::Signal;

use super::{Encoding, answer, store};
use crate::Shared;
use crate::counters::Receiver;
use crate::grpc::{self, is_grpc, unsupported_type};
use crate::refusal::Refusal;
use crate::report::Report;

/// The router of the OTLP/gRPC port: three Export services and the health service.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            post(traces),
        )
        .route(
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            post(metrics),
        )
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(logs))
        .route("/grpc.health.v1.Health/Check", post(grpc::health))
        .fallback(grpc::unknown)
        .with_state(shared)
}

async fn traces(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Traces, request).await
}

async fn metrics(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Metrics, request).await
}

async fn logs(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Logs, request).await
}

async fn export(shared: Shared, signal: Signal, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        return unsupported_type();
    }
    let receiver = Receiver::OtlpGrpc(signal);
    let row = shared.counters.row(receiver);
    match receive(&shared, receiver, request).await {
        Ok(report) => {
            row.ok(report.accepted(), report.rejected);
            grpc::success(&answer::response_message(&report))
        }
        Err(refusal) => {
            row.refused(&refusal);
            grpc::refused(&refusal)
        }
    }
}

async fn receive(shared: &Shared, receiver: Receiver, request: Request) -> Result<Report, Refusal> {
    let (compression, message, ticket) = grpc::read_call(shared, receiver.signal(), request).await?;
    store(shared, receiver, Encoding::Protobuf, compression, message, ticket).await
}
