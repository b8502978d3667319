//! `trilobite healthcheck`: asks the running process whether it is ready, for containers that have no curl.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::listeners::{FACES, Face, address};
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
    let asked = on.next();
    let at = asked.ok_or("no HTTP listener is on, so there is nothing to ask")?;
    let at = at.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1);
    let failed = |e: std::io::Error| format!("{at}: {e}");
    let addr = at
        .to_socket_addrs()
        .map_err(failed)?
        .next()
        .ok_or_else(|| format!("{at}: no such address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut head = [0u8; 12];
    stream.read_exact(&mut head).map_err(failed)?;
    let status = String::from_utf8_lossy(&head[9..]).into_owned();
    if status == "200" {
        Ok(())
    } else {
        Err(format!("{at}: not ready (status {status})"))
    }
}
