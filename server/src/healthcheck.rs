//! `trilobite healthcheck`: asks the running process whether it is ready, for containers that have no curl.

use std::time::Duration;

use crate::listeners::{FACES, Face, address};
use crate::local_request;
use crate::settings::{Listen, Settings};

const TIMEOUT: Duration = Duration::from_secs(3);

/// `GET /ready` at the first HTTP listener that is on. An error says what was wrong.
pub fn ask(settings: &Settings) -> Result<(), String> {
    let http = FACES
        .iter()
        .map(|(face, ..)| *face)
        .filter(|face| !matches!(face, Face::OtlpGrpc | Face::JaegerGrpc));
    let mut on = http.filter_map(|face| match address(settings, face) {
        Listen::At(at) => Some(at),
        Listen::Off => None,
    });
    let at = on.next().ok_or("no HTTP listener is on, so there is nothing to ask")?;
    let asked = local_request::connect(at).and_then(|stream| local_request::ask(stream, "GET", "/ready", TIMEOUT));
    match asked.map_err(|e| format!("{at}: {e}"))? {
        (200, _) => Ok(()),
        (status, _) => Err(format!("{at}: not ready (status {status})")),
    }
}
