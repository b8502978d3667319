//! The Jaeger query API under `/api/`: what Jaeger's UI, Grafana's Jaeger datasource and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes traces and lists in Jaeger's envelope, `errors.rs`
//! is the API's voice.

mod encode;
mod errors;
mod routes;

pub use routes::router;
