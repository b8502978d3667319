//! The Tempo API: HTTP under `/api/` and gRPC streaming on the same port, as Grafana's Tempo datasource and scripts ask.
//!
//! `asked.rs` reads parameters and asks the queries, for both ways; `routes.rs` is the HTTP way, `streaming.rs` the gRPC way.
//! `encode.rs` writes results as JSON, `messages.rs` as protobuf (whole traces: `otlp_trace.rs` of this crate); `status.rs` tells of the process, `errors.rs` is the API's voice.

mod asked;
mod encode;
mod errors;
mod messages;
mod routes;
mod status;
mod streaming;

pub use routes::router;
