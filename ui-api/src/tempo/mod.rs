//! The Tempo HTTP API under `/api/`: what Grafana's Tempo datasource and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `trace.rs` writes whole traces (protobuf and JSON), `encode.rs` writes
//! the other results, `errors.rs` is the API's voice.

mod encode;
mod errors;
mod routes;
mod trace;

pub use routes::router;
