//! The Loki HTTP API under `/loki/api/v1/`: what Grafana's Loki datasource, its Explore and scripts ask.
//!
//! `routes.rs` reads parameters and asks the queries, `encode.rs` writes results, `tail.rs` is the live tail, `status.rs`
//! what Loki says of itself, `deletes.rs` takes delete requests, `rules.rs` says that there are no rules, `legacy.rs`
//! answers old clients, `stats.rs` writes what a query took, `errors.rs` is the voice of the API.

mod deletes;
mod encode;
mod errors;
mod legacy;
mod params;
mod routes;
mod rules;
mod stats;
mod status;
mod tail;

pub use routes::router;
