//! The sampling strategy that Jaeger's SDKs poll: everything. Without an answer they fall back to one trace in a thousand.
//!
//!     SamplingStrategyResponse  1 strategyType (0 PROBABILISTIC), 2 probabilisticSampling {1 samplingRate double}

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::wire::{put_bytes, put_fixed64, put_number};

/// Over HTTP.
pub(super) async fn over_http() -> Response {
    Json(json!({"strategyType": "PROBABILISTIC", "probabilisticSampling": {"samplingRate": 1}})).into_response()
}

/// The message of the gRPC service.
pub(super) fn message() -> Vec<u8> {
    let mut rate = Vec::new();
    put_fixed64(&mut rate, 1, 1f64.to_bits());
    let mut out = Vec::new();
    put_number(&mut out, 1, 0);
    put_bytes(&mut out, 2, &rate);
    out
}
