//! How targets, discovery services and token servers are asked: one GET (or POST) at a time, bounded in size, over a
//! connection that its owner keeps for the next.
//!
//! Each target has a connection of its own, so there is no pool to share and none to grow. One that the server has closed
//! meanwhile is dialled anew, once. Credentials in files are read for each request, certificates for each connection.

mod body;
mod dial;
mod dns;
mod tls;
mod token;
mod url;

use std::path::Path;

use base64::Engine;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prometheus_config::{Auth, HttpClientConfig, Secret};

pub use dial::ProxyEnvironment;
use dial::{Connection, Dialled};
#[cfg(test)]
pub(crate) use dns::tests as dns_tests;
pub(crate) use dns::{Record, Resolver};
use token::Tokens;
pub(crate) use url::Url;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Asks servers, all in one manner.
pub struct Client {
    config: HttpClientConfig,
    network: Network,
    tokens: Tokens,
}

/// How hosts are reached.
#[derive(Clone, Default)]
pub struct Network {
    pub(crate) resolver: Resolver,
    pub(crate) proxies: ProxyEnvironment,
    /// `User-Agent`.
    pub(crate) agent: String,
}

impl Network {
    /// Says `agent` in `User-Agent`.
    pub fn new(agent: String, proxies: ProxyEnvironment) -> Network {
        Network {
            resolver: Resolver::default(),
            proxies,
            agent,
        }
    }
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// Where.
    pub url: &'a str,
    /// A socket file in place of the URL's host.
    pub socket: Option<&'a str>,
    /// Headers beside those that the client sets.
    pub headers: &'a [(HeaderName, &'a str)],
    /// Largest body, unpacked.
    pub bytes_max: u64,
    /// What is posted, with its `Content-Type`.
    pub post: Option<(&'static str, &'a str)>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// How it went.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, unpacked.
    pub body: Bytes,
}

/// An answer that is still being sent.
pub(crate) struct Opened {
    pub status: StatusCode,
    body: Incoming,
    /// Bytes that came and were not asked for yet.
    held: BytesMut,
    /// It lives as long as the answer.
    _connection: Connection,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The body is larger than was asked for.
    #[error("body size limit exceeded")]
    TooLarge,
    /// No answer came; with the method, the URL and the reason.
    #[error("{0}")]
    Failed(String),
}

impl Answered {
    /// The `Content-Type`, empty if there is none.
    pub fn content_type(&self) -> &str {
        let value = self.headers.get(http::header::CONTENT_TYPE);
        value.and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The status as it is told: `500 Internal Server Error`.
    pub fn status_words(&self) -> String {
        words(self.status)
    }
}

impl Opened {
    /// The status as it is told: `500 Internal Server Error`.
    pub fn status_words(&self) -> String {
        words(self.status)
    }

    /// The next line, without its end; `None`: the answer has ended. What follows the last line break is dropped. The
    /// caller bounds the time; one that does not wait for the end loses nothing.
    pub async fn line(&mut self, bytes_max: usize) -> Result<Option<BytesMut>, String> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.held[looked..]) {
                let mut line = self.held.split_to(looked + at + 1);
                line.truncate(looked + at);
                return Ok(Some(line));
            }
            looked = self.held.len();
            if looked > bytes_max {
                return Err(format!("a line has more than {bytes_max} bytes"));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| format!("the answer could not be read: {e}"))?;
            if let Ok(data) = frame.into_data() {
                self.held.extend_from_slice(&data);
            }
        }
    }
}

fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// A connection that is kept between requests.
#[derive(Default)]
pub struct Kept(Option<Connection>);

impl Client {
    /// Asks as the configuration says.
    pub fn new(config: &HttpClientConfig, network: &Network) -> Client {
        Client {
            config: config.clone(),
            network: network.clone(),
            tokens: Tokens::default(),
        }
    }

    /// Asks once, redirects followed. The caller bounds the time.
    pub async fn ask(&self, ask: &Ask<'_>, kept: &mut Kept) -> Result<Answered, AskError> {
        let method = if ask.post.is_some() { "Post" } else { "Get" };
        let failed = |url: &str, why: String| AskError::Failed(format!("{method} {url:?}: {why}"));
        let mut url = Url::parse(ask.url).map_err(|why| failed(ask.url, why))?;
        let first = url.authority();
        for _ in 0..=REDIRECTS_MAX {
            let shown = url.to_string();
            // Credentials are for the server they were meant for.
            let is_first = url.authority() == first;
            let answered = self.once(&url, ask, is_first, kept).await;
            let answered = answered.map_err(|e| match e {
                AskError::Failed(why) => failed(&shown, why),
                other => other,
            })?;
            let location = answered.headers.get(LOCATION).and_then(|v| v.to_str().ok());
            match location {
                Some(location) if answered.status.is_redirection() && self.config.follow_redirects => {
                    url = url.join(location).map_err(|why| failed(&shown, why))?;
                }
                _ => return Ok(answered),
            }
        }
        Err(failed(ask.url, format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    /// Asks once over a connection of its own, and does not wait for the end of the answer.
    pub(crate) async fn open(&self, ask: &Ask<'_>) -> Result<Opened, AskError> {
        let failed = |why: String| AskError::Failed(format!("Get {:?}: {why}", ask.url));
        let url = Url::parse(ask.url).map_err(failed)?;
        let headers = self.headers(&url, ask, true).await.map_err(failed)?;
        let mut connection = self.dial(&url, ask.socket).await?;
        let request = request(&url, ask, &headers, connection.is_proxied)?;
        let (parts, body) = connection.send(request).await.map_err(failed)?.into_parts();
        Ok(Opened {
            status: parts.status,
            body,
            held: BytesMut::new(),
            _connection: connection,
        })
    }

    async fn once(&self, url: &Url, ask: &Ask<'_>, with_secrets: bool, kept: &mut Kept) -> Result<Answered, AskError> {
        let headers = self.headers(url, ask, with_secrets).await.map_err(AskError::Failed)?;
        let reused = kept.0.take_if(|c| c.serves(url, ask.socket) && c.is_open());
        let mut was_reused = reused.is_some();
        let mut connection = match reused {
            Some(connection) => connection,
            None => self.dial(url, ask.socket).await?,
        };
        loop {
            let request = request(url, ask, &headers, connection.is_proxied)?;
            match connection.send(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = body::read(body, &parts.headers, ask.bytes_max).await?;
                    kept.0 = Some(connection);
                    return Ok(Answered {
                        status: parts.status,
                        headers: parts.headers,
                        body,
                    });
                }
                // The server had closed it while it was idle.
                Err(_) if was_reused => {
                    was_reused = false;
                    connection = self.dial(url, ask.socket).await?;
                }
                Err(why) => return Err(AskError::Failed(why)),
            }
        }
    }

    async fn dial(&self, url: &Url, socket: Option<&str>) -> Result<Connection, AskError> {
        let dialled: Dialled = dial::dial(url, socket, &self.config, &self.network).await;
        dialled.map_err(AskError::Failed)
    }

    async fn headers(&self, url: &Url, ask: &Ask<'_>, with_secrets: bool) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str| {
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("the value of header {name} cannot be sent"))?;
            headers.append(name, value);
            Ok::<(), String>(())
        };
        put(USER_AGENT, &self.network.agent)?;
        for (name, value) in ask.headers {
            put(name.clone(), value)?;
        }
        if with_secrets {
            for (name, values) in &self.config.headers {
                let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
                for value in values {
                    put(name.clone(), &reveal(value).await?)?;
                }
            }
            match &self.config.auth {
                Auth::None => {
                    if let Some((user, password)) = url.user() {
                        put(AUTHORIZATION, &basic(&user, &password))?;
                    }
                }
                Auth::Basic { username, password } => {
                    put(
                        AUTHORIZATION,
                        &basic(&reveal(username).await?, &reveal(password).await?),
                    )?;
                }
                Auth::Header { scheme, credentials } => {
                    put(AUTHORIZATION, &format!("{scheme} {}", reveal(credentials).await?))?;
                }
                Auth::OAuth2(oauth2) => {
                    let token = Box::pin(self.tokens.get(oauth2, &self.network)).await?;
                    put(AUTHORIZATION, &token)?;
                }
            }
        }
        Ok(headers)
    }
}

fn request(url: &Url, ask: &Ask<'_>, headers: &HeaderMap, is_proxied: bool) -> Result<Request<Full<Bytes>>, AskError> {
    let target = if is_proxied {
        url.without_user()
    } else {
        url.path_and_query().to_owned()
    };
    let method = if ask.post.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder().method(method).uri(target);
    if let Some(all) = request.headers_mut() {
        all.clone_from(headers);
        if let Ok(host) = HeaderValue::from_str(&url.authority()) {
            all.insert(HOST, host);
        }
        if let Some((content_type, _)) = ask.post {
            all.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
    }
    let body = Bytes::from(ask.post.map_or("", |(_, body)| body).to_owned());
    request
        .body(Full::new(body))
        .map_err(|e| AskError::Failed(e.to_string()))
}

/// A secret as text; one in a file loses the blanks around it.
pub(crate) async fn reveal(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => Ok(read_file(path).await?.trim().to_owned()),
    }
}

async fn read_file(path: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|e| format!("unable to read {}: {e}", path.display()))
}

fn basic(user: &str, password: &str) -> String {
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {both}")
}

#[cfg(test)]
mod tests;
