//! OTLP/HTTP: on its own port, at Prometheus' path for metrics and at Loki's path for logs.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, middleware};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use model::Signal;

use super::{Encoding, answer, store};
use crate::Shared;
use crate::admission::Ticket;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::grpc::clipped;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::wire::put_bytes;

/// The router of the OTLP port.
pub(crate) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .route("/v1/logs", post(logs))
        .with_state(shared)
        .layer(middleware::from_fn(crate::cors::allow_any_origin))
}

/// OTLP traces.
pub(crate) async fn traces(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Traces, request).await
}

/// OTLP metrics.
pub(crate) async fn metrics(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Metrics, request).await
}

/// OTLP logs.
pub(crate) async fn logs(State(shared): State<Shared>, request: Request) -> Response {
    export(shared, Signal::Logs, request).await
}

/// OTLP logs as Loki's own endpoint answers: 204, and refused entries are an error though the others are stored.
pub(crate) async fn logs_as_loki(State(shared): State<Shared>, request: Request) -> Response {
    let receiver = Receiver::OtlpHttp(Signal::Logs);
    let row = shared.counters.row(receiver);
    let loki_error = |status: StatusCode, words: &str| {
        let mut message = Vec::new();
        put_bytes(&mut message, 2, clipped(words).as_bytes());
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        (status, [(header::CONTENT_TYPE, protobuf)], message).into_response()
    };
    match receive(&shared, receiver, request).await {
        Ok((report, _)) if report.items == 0 => {
            row.bad(0, 0);
            let words = "error at least one valid stream is required for ingestion";
            loki_error(StatusCode::UNPROCESSABLE_ENTITY, words)
        }
        Ok((report, _)) if report.rejected > 0 => {
            row.bad(report.accepted(), report.rejected);
            loki_error(StatusCode::BAD_REQUEST, &report.message())
        }
        Ok((report, _)) => {
            row.ok(report.accepted(), 0);
            StatusCode::NO_CONTENT.into_response()
        }
        Err((refusal, _)) => {
            row.refused(&refusal);
            let status = match &refusal {
                Refusal::ContentType(_) | Refusal::ContentEncoding(_) => StatusCode::BAD_REQUEST,
                _ => refusal.status(),
            };
            let mut response = loki_error(status, &refusal.to_string());
            if let Some(seconds) = refusal.retry_after_s() {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
    }
}

async fn export(shared: Shared, signal: Signal, request: Request) -> Response {
    let receiver = Receiver::OtlpHttp(signal);
    let row = shared.counters.row(receiver);
    match receive(&shared, receiver, request).await {
        Ok((report, encoding)) => {
            row.ok(report.accepted(), report.rejected);
            answer::success(&report, signal, encoding)
        }
        Err((refusal, encoding)) => {
            row.refused(&refusal);
            answer::refused(&refusal, encoding)
        }
    }
}

async fn receive(
    shared: &Shared,
    receiver: Receiver,
    request: Request,
) -> Result<(Report, Encoding), (Refusal, Encoding)> {
    let (parts, body) = request.into_parts();
    let encoding = match body::media_type(&parts.headers) {
        t if t.eq_ignore_ascii_case("application/x-protobuf") => Encoding::Protobuf,
        t if t.eq_ignore_ascii_case("application/json") => Encoding::Json,
        other => {
            let refusal = Refusal::ContentType(format!(
                "content type: {other} is not supported; send application/x-protobuf or application/json"
            ));
            body::drain(body).await;
            return Err((refusal, Encoding::Protobuf));
        }
    };
    let stored = async {
        let (wire, compression, ticket) = read(shared, receiver, &parts.headers, body).await?;
        store(shared, receiver, encoding, compression, wire, ticket).await
    };
    match stored.await {
        Ok(report) => Ok((report, encoding)),
        Err(refusal) => Err((refusal, encoding)),
    }
}

async fn read(
    shared: &Shared,
    receiver: Receiver,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Compression, Ticket), Refusal> {
    let name = body::content_encoding(headers);
    let Some(compression) = Compression::by_name(name) else {
        body::drain(body).await;
        return Err(Refusal::ContentEncoding(format!(
            "content encoding {name:?} is not supported; send gzip, zstd, deflate, snappy or none"
        )));
    };
    let (wire, ticket) = shared
        .read(receiver.signal(), body, shared.options.body_bytes_max)
        .await?;
    Ok((wire, compression, ticket))
}
