//! Prometheus remote write, version 1.0: snappy blocks of protobuf at `POST /api/v1/write`.

mod decode;
pub(crate) mod routes;
#[cfg(test)]
mod tests;
