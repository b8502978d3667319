//! The Tempo API: HTTP under `/api/` and gRPC streaming on the same port, as Grafana's Tempo datasource and scripts ask.
//!
//! `asked.rs` reads parameters and asks the queries, for both ways; `routes.rs` is the HTTP way, `streaming.rs` the gRPC way.
//! `trace.rs` writes whole traces (protobuf and JSON), `encode.rs` other results as JSON, `messages.rs` as protobuf;
//! `status.rs` tells of the process, `errors.rs` is the API's voice.

mod asked;
mod encode;
mod errors;
mod messages;
mod routes;
mod status;
mod streaming;
mod trace;

pub use routes::router;
