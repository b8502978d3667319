//! The Loki HTTP API under `/loki/api/v1/`: what Grafana's Loki datasource, its Explore and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes results, `tail.rs` is the live tail, `errors.rs`
//! is the API's voice.

mod encode;
mod errors;
mod params;
mod routes;
mod tail;

pub use routes::router;
