//! One request to the process that runs on this machine, for the subcommands that ask it something.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read, bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// Connects to where a listener was told to listen; one on all addresses is asked on loopback.
pub fn connect(listen: &str) -> std::io::Result<TcpStream> {
    let at = listen
        .replacen("0.0.0.0:", "127.0.0.1:", 1)
        .replacen("[::]:", "[::1]:", 1);
    let at = if at.starts_with(':') {
        format!("127.0.0.1{at}")
    } else {
        at
    };
    let mut refused = std::io::Error::new(std::io::ErrorKind::NotFound, "no such address");
    for addr in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}

/// Sends a request without a body; the status and the body of the answer.
pub fn ask(mut stream: TcpStream, method: &str, path: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
    stream.set_read_timeout(Some(timeout))?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let no_http = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(no_http)?;
    Ok((status, body.to_owned()))
}
