//! Connections: a socket or a file of one, perhaps through a proxy, perhaps with TLS, and HTTP on top.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_config::{HttpClientConfig, ProxyConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{Network, Url, reveal, tls};

/// Longest wait for one address of a host.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// Largest answer of a proxy to CONNECT.
const CONNECT_BYTES_MAX: usize = 16 << 10;

/// The proxies that the environment names.
#[derive(Clone, Debug, Default)]
pub struct ProxyEnvironment {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: String,
}

/// An open connection.
pub(super) struct Connection {
    sender: Sender,
    /// What it leads to.
    key: String,
    /// Whether requests name the whole URL.
    pub is_proxied: bool,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub(super) type Dialled = Result<Connection, String>;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Connection {
    /// Whether it leads to the server of this URL.
    pub fn serves(&self, url: &Url, socket: Option<&str>) -> bool {
        self.key == key_of(url, socket)
    }

    pub fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|e| words(&e))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|e| words(&e))?;
                sender.send_request(request).await
            }
        };
        sent.map_err(|e| words(&e))
    }
}

/// An error with its causes.
fn words(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut source = e.source();
    while let Some(inner) = source {
        out = format!("{out}: {inner}");
        source = inner.source();
    }
    out
}

fn key_of(url: &Url, socket: Option<&str>) -> String {
    format!(
        "{}|{}|{}|{}",
        url.is_https(),
        url.host(),
        url.port(),
        socket.unwrap_or("")
    )
}

pub(super) async fn dial(url: &Url, socket: Option<&str>, config: &HttpClientConfig, network: &Network) -> Dialled {
    let proxy = if socket.is_some() {
        None
    } else {
        proxy_for(url, &config.proxy, network)?
    };
    let mut is_proxied = false;
    let mut stream: Box<dyn Stream> = match (socket, &proxy) {
        (Some(path), _) => {
            let stream = UnixStream::connect(path).await;
            Box::new(stream.map_err(|e| format!("dial unix {path}: connect: {}", short(&e)))?)
        }
        (None, Some(proxy)) => {
            let mut stream: Box<dyn Stream> = Box::new(connect(proxy.host(), proxy.port(), network).await?);
            if proxy.is_https() {
                let tls = prometheus_config::TlsConfig::default();
                stream = Box::new(tls::handshake(stream, &tls, proxy.host(), false).await?.0);
            }
            if url.is_https() {
                tunnel(&mut stream, url, proxy, &config.proxy).await?;
            } else {
                is_proxied = true;
            }
            stream
        }
        (None, None) => Box::new(connect(url.host(), url.port(), network).await?),
    };
    let mut is_http2 = false;
    if url.is_https() {
        let (secured, agreed) = tls::handshake(stream, &config.tls, url.host(), config.enable_http2).await?;
        is_http2 = agreed;
        stream = Box::new(secured);
    }
    let io = TokioIo::new(stream);
    let sender = if is_http2 {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|e| words(&e))?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Sender::Http2(sender)
    } else {
        let (sender, connection) = http1::handshake(io).await.map_err(|e| words(&e))?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Sender::Http1(sender)
    };
    Ok(Connection {
        sender,
        key: key_of(url, socket),
        is_proxied,
    })
}

/// Tries each address of a host.
async fn connect(host: &str, port: u16, network: &Network) -> Result<TcpStream, String> {
    let addresses = network.resolver.addresses(host).await;
    let addresses = addresses.map_err(|why| format!("dial tcp: lookup {host}: {why}"))?;
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for ip in addresses {
        let addr = SocketAddr::new(ip, port);
        match tokio::time::timeout(CONNECT_WAIT_MAX, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => last = format!("dial tcp {addr}: connect: {}", short(&e)),
            Err(_) => last = format!("dial tcp {addr}: i/o timeout"),
        }
    }
    Err(last)
}

/// As the system words it, without the number.
fn short(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or("");
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// Asks a proxy to connect us through.
async fn tunnel(stream: &mut Box<dyn Stream>, url: &Url, proxy: &Url, config: &ProxyConfig) -> Result<(), String> {
    let at = if url.host().contains(':') {
        format!("[{}]:{}", url.host(), url.port())
    } else {
        format!("{}:{}", url.host(), url.port())
    };
    let mut request = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n");
    if let Some((user, password)) = proxy.user() {
        request.push_str(&format!("Proxy-Authorization: {}\r\n", super::basic(&user, &password)));
    }
    for (name, values) in &config.connect_headers {
        for value in values {
            let value = reveal(value).await?;
            if value.contains(['\r', '\n']) || name.contains(['\r', '\n', ':']) {
                return Err(format!("proxy_connect_header {name:?} cannot be sent"));
            }
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    let io = |e: io::Error| format!("proxy {proxy}: {e}");
    stream.write_all(request.as_bytes()).await.map_err(io)?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of the tunnel is taken.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= CONNECT_BYTES_MAX {
            return Err(format!("proxy {proxy}: its answer has no end"));
        }
        answer.push(stream.read_u8().await.map_err(io)?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or(&[]);
    let line = String::from_utf8_lossy(line);
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(format!(
            "proxy {proxy}: {}",
            line.split_once(' ').map_or("no answer", |(_, s)| s)
        )),
    }
}

/// The proxy between us and a server.
fn proxy_for(url: &Url, config: &ProxyConfig, network: &Network) -> Result<Option<Url>, String> {
    let environment = &network.proxies;
    let (proxy, no_proxy) = if config.from_environment {
        let named = if url.is_https() {
            &environment.https
        } else {
            &environment.http
        };
        (named, &environment.no_proxy)
    } else {
        (&config.url, &config.no_proxy)
    };
    let Some(proxy) = proxy.as_ref().filter(|_| !is_excepted(url, no_proxy)) else {
        return Ok(None);
    };
    let is_local = url.host() == "localhost" || url.host().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if config.from_environment && is_local {
        return Ok(None);
    }
    let proxy = if proxy.contains("://") {
        proxy.clone()
    } else {
        format!("http://{proxy}")
    };
    Url::parse(&proxy).map(Some).map_err(|why| format!("proxy_url: {why}"))
}

/// Whether `NO_PROXY` names the host: `*`, a domain and what is below it, an address, a network, each perhaps with a port.
fn is_excepted(url: &Url, no_proxy: &str) -> bool {
    let host = url.host().to_ascii_lowercase();
    let ip: Option<IpAddr> = host.parse().ok();
    no_proxy
        .split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .any(|pattern| {
            let pattern = pattern.to_ascii_lowercase();
            if pattern == "*" {
                return true;
            }
            if let (Some((network, bits)), Some(ip)) = (pattern.split_once('/'), ip) {
                return is_within(ip, network, bits);
            }
            let pattern = match pattern.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => {
                    if port.parse() != Ok(url.port()) {
                        return false;
                    }
                    name.to_owned()
                }
                _ => pattern,
            };
            let domain = pattern.trim_start_matches("*.").trim_start_matches('.');
            let is_below = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
            is_below || host == domain && !pattern.starts_with('.')
        })
}

fn is_within(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_hosts_are_reached_without_a_proxy() {
        for (host, no_proxy, excepted) in [
            ("http://a.b", "*", true),
            ("http://a.b", "b", true),
            ("http://b", ".b", false),
            ("http://xb", "b", false),
            ("http://10.1.2.3", "10.0.0.0/8", true),
            ("http://11.1.2.3", "10.0.0.0/8", false),
            ("http://a:81", "a:80", false),
            ("http://a", "x, a:80", true),
            ("http://[fd00::1]", "fd00::/8", true),
            ("http://a", "", false),
        ] {
            assert_eq!(
                is_excepted(&Url::parse(host).unwrap(), no_proxy),
                excepted,
                "{host} {no_proxy}"
            );
        }
    }
}
