//! The Prometheus HTTP API under `/api/v1/`: what Grafana's Prometheus datasource and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes results, `errors.rs` is the API's voice.

mod encode;
mod errors;
mod routes;
mod status;

pub use routes::router;
