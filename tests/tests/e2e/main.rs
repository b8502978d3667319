//! End to end: the real binary over the network, as its users drive it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test that cannot go on fails, and one that measures says what

mod acceptance_discovery;
mod acceptance_logs;
mod acceptance_metrics;
mod acceptance_operation;
mod acceptance_scraping;
mod acceptance_traces;
mod alertmanager;
mod bad_input;
mod browser;
mod collector;
mod command_line;
mod container;
mod crash;
mod delta;
mod derived_metrics;
mod lab;
mod lab_apps;
mod loki_api;
mod prometheus_agent;
mod prometheus_api;
mod provisioning;
mod recovery;
mod rules;
mod scraping;
mod scraping_secured;
mod senders;
mod snapshot;
mod sql_over_blocks;
mod streaming;
mod zipkin_and_jaeger;
