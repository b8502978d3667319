//! The Prometheus HTTP API under `/api/v1/`: what Grafana's Prometheus datasource and scripts ask.
//!
//! `routes.rs` says which path is answered by what; a file per family of endpoints reads parameters and asks; `encode.rs`
//! and `results.rs` write answers, `errors.rs` is the API's voice.

mod admin;
mod encode;
mod errors;
mod features;
mod federate;
mod params;
mod queries;
mod remote_read;
mod results;
mod routes;
mod rules;
mod series;
mod status;
mod targets;

pub use routes::router;
