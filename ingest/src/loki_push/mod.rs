//! Loki push: snappy protobuf and JSON at `POST /loki/api/v1/push`, as Promtail, Alloy, Fluent Bit and Docker send it.

mod decode;
mod errors;
mod json;
mod label_text;
mod protobuf;
pub(crate) mod routes;
#[cfg(test)]
mod tests;
