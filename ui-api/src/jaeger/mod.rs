//! The Jaeger query API under `/api/`: what Jaeger's UI, Grafana's Jaeger datasource and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes traces and lists in Jaeger's envelope, `errors.rs`
//! is the API's voice. `version3.rs` is the newer API under `/api/v3/`, which answers in OTLP/JSON.

mod encode;
mod errors;
mod routes;
mod version3;

pub use routes::router;
