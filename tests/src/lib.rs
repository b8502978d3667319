//! The harness of the end-to-end tests: the real binary on free ports and a directory of its own, and a small HTTP
//! client. `make test` builds the binary and installs the Python packages that the clients need.

pub mod differential;
mod http;
mod process;
mod questions;

pub use http::{Answer, escaped, get, post, request};
pub use process::{Trilobite, agent, binary, python, repository};
pub use questions::{encoded, until};
