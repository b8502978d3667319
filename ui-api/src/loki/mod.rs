//! The Loki HTTP API under `/loki/api/v1/`: what Grafana's Loki datasource, its Explore and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes results, `tail.rs` is the live tail, `status.rs`
//! what Loki says of itself, `deletes.rs` takes delete requests, `rules.rs` says that there are no rules, `errors.rs` the API's voice.

mod deletes;
mod encode;
mod errors;
mod params;
mod routes;
mod rules;
mod status;
mod tail;

pub use routes::router;
