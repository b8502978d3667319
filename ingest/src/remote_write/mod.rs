//! Prometheus remote write, versions 1.0 and 2.0: snappy blocks of protobuf at `POST /api/v1/write`.

mod decoded;
pub(crate) mod histogram;
mod label_run;
pub(crate) mod routes;
#[cfg(test)]
mod tests;
mod version1;
mod version2;
