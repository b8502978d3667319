//! How a server is asked over HTTP: who asks, over which TLS, through which proxy. The same fields stand in scrape
//! configurations, in service discovery and beside Alertmanagers.

use std::path::PathBuf;

use crate::reader::{Fields, Reader};
use yaml_tree::{Node, Value};

/// A client's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClientConfig {
    /// Who asks.
    pub auth: Auth,
    /// For `https`.
    pub tls: TlsConfig,
    /// Between us and the server.
    pub proxy: ProxyConfig,
    /// Whether 3xx answers are followed.
    pub follow_redirects: bool,
    /// Whether TLS may agree on HTTP/2.
    pub enable_http2: bool,
    /// More headers: name and values.
    pub headers: Vec<(String, Vec<Secret>)>,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        HttpClientConfig {
            auth: Auth::None,
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: Vec::new(),
        }
    }
}

/// Something that is not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// As it stands in the configuration.
    Text(String),
    /// In a file, read anew for each request.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Text(_) => f.write_str("<secret>"),
            Secret::File(path) => write!(f, "<in {}>", path.display()),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// Name and password.
    Basic {
        /// The name.
        username: Secret,
        /// The password.
        password: Secret,
    },
    /// `Authorization: <scheme> <credentials>`.
    Header {
        /// `Bearer`, mostly.
        scheme: String,
        /// What follows it.
        credentials: Secret,
    },
    /// A token from an authorization server, by client credentials.
    OAuth2(Box<OAuth2>),
}

/// Where a token is fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// The client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// The server's endpoint.
    pub token_url: String,
    /// More form fields of the request.
    pub endpoint_params: Vec<(String, String)>,
    /// For the request of the token.
    pub tls: TlsConfig,
    /// For the request of the token.
    pub proxy: ProxyConfig,
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// Certificates that are trusted, PEM; none: the system's.
    pub ca: Option<Secret>,
    /// Our certificate, PEM.
    pub cert: Option<Secret>,
    /// Its key, PEM.
    pub key: Option<Secret>,
    /// The name the server's certificate must have, if it is not the address.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// Lowest version.
    pub min_version: Option<TlsVersion>,
    /// Highest version.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS; the two older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V12,
    V13,
}

/// What stands between.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// The proxy for every request.
    pub url: Option<String>,
    /// Hosts that are reached without it, as in `NO_PROXY`.
    pub no_proxy: String,
    /// Whether the environment names the proxy.
    pub from_environment: bool,
    /// Headers of CONNECT requests.
    pub connect_headers: Vec<(String, Vec<Secret>)>,
}

impl HttpClientConfig {
    /// Takes the client's fields out of a map that has others too.
    pub(crate) fn read(f: &mut Fields<'_>) -> HttpClientConfig {
        HttpClientConfig {
            auth: read_auth(f),
            tls: read_tls(f),
            proxy: read_proxy(f),
            follow_redirects: f.flag("follow_redirects").unwrap_or(true),
            enable_http2: f.flag("enable_http2").unwrap_or(true),
            headers: read_headers(f),
        }
    }
}

fn secret(f: &mut Fields<'_>, text_key: &str, file_key: &str) -> Option<Secret> {
    let text = f.string(text_key).filter(|t| !t.is_empty());
    let file = f.path(file_key);
    if text.is_some() && file.is_some() {
        let line = f.line_of(file_key);
        f.reader.error(
            line,
            format!("at most one of {text_key} & {file_key} must be configured"),
        );
    }
    text.map(Secret::Text).or(file.map(Secret::File))
}

fn read_auth(f: &mut Fields<'_>) -> Auth {
    let reader = f.reader;
    let mut found: Vec<(&str, Auth)> = Vec::new();
    if let Some(node) = f.node("basic_auth") {
        let mut b = reader.fields(node, "basic_auth");
        let empty = || Secret::Text(String::new());
        let username = secret(&mut b, "username", "username_file").unwrap_or_else(empty);
        let password = secret(&mut b, "password", "password_file").unwrap_or_else(empty);
        b.no_effect(&[("username_ref", NO_SECRET_STORE), ("password_ref", NO_SECRET_STORE)]);
        b.finish();
        found.push(("basic_auth", Auth::Basic { username, password }));
    }
    if let Some(node) = f.node("authorization") {
        let mut a = reader.fields(node, "authorization");
        let scheme = a.string("type").unwrap_or_else(|| "Bearer".to_owned());
        let scheme = scheme.trim().to_owned();
        if scheme.eq_ignore_ascii_case("basic") {
            reader.error(
                a.line_of("type"),
                "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
            );
        }
        let credentials = secret(&mut a, "credentials", "credentials_file");
        a.no_effect(&[("credentials_ref", NO_SECRET_STORE)]);
        a.finish();
        if let Some(credentials) = credentials {
            found.push(("authorization", Auth::Header { scheme, credentials }));
        }
    }
    if let Some(credentials) = secret(f, "bearer_token", "bearer_token_file") {
        let scheme = "Bearer".to_owned();
        found.push(("bearer_token", Auth::Header { scheme, credentials }));
    }
    if let Some(node) = f.node("oauth2") {
        found.push(("oauth2", read_oauth2(reader, node)));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        let line = f.line_of(names[1]);
        reader.error(line, format!("at most one of {} must be configured", names.join(" & ")));
    }
    found.pop().map_or(Auth::None, |(_, auth)| auth)
}

const NO_SECRET_STORE: &str = "there is no store of secrets";

fn read_oauth2(reader: &Reader<'_>, node: &Node) -> Auth {
    let mut o = reader.fields(node, "oauth2");
    let client_id = o.string("client_id").unwrap_or_default();
    let client_secret = secret(&mut o, "client_secret", "client_secret_file");
    let token_url = o.string("token_url").unwrap_or_default();
    if client_id.is_empty() {
        reader.error(node.line, "oauth2 client_id must be configured");
    }
    if client_secret.is_none() {
        reader.error(
            node.line,
            "either oauth2 client_secret or client_secret_file must be configured",
        );
    }
    if token_url.is_empty() {
        reader.error(node.line, "oauth2 token_url must be configured");
    }
    if let Some(grant) = o.text("grant_type")
        && !matches!(grant, "" | "client_credentials")
    {
        reader.error(
            o.line_of("grant_type"),
            format!("oauth2 grant_type {grant:?} is not supported, only client_credentials"),
        );
    }
    let params = o.node("endpoint_params");
    let oauth2 = OAuth2 {
        client_id,
        client_secret: client_secret.unwrap_or_else(|| Secret::Text(String::new())),
        scopes: o.texts("scopes"),
        token_url,
        endpoint_params: params.map_or_else(Vec::new, |node| reader.text_map(node, "endpoint_params")),
        tls: read_tls(&mut o),
        proxy: read_proxy(&mut o),
    };
    o.no_effect(&[("client_secret_ref", NO_SECRET_STORE)]);
    o.finish();
    Auth::OAuth2(Box::new(oauth2))
}

fn read_tls(f: &mut Fields<'_>) -> TlsConfig {
    let reader = f.reader;
    let Some(node) = f.node("tls_config") else {
        return TlsConfig::default();
    };
    let mut t = reader.fields(node, "tls_config");
    let tls = TlsConfig {
        ca: secret(&mut t, "ca", "ca_file"),
        cert: secret(&mut t, "cert", "cert_file"),
        key: secret(&mut t, "key", "key_file"),
        server_name: t.string("server_name").filter(|name| !name.is_empty()),
        insecure_skip_verify: t.flag("insecure_skip_verify").unwrap_or(false),
        min_version: tls_version(&mut t, "min_version"),
        max_version: tls_version(&mut t, "max_version"),
    };
    if tls.cert.is_some() != tls.key.is_some() {
        reader.error(
            node.line,
            "exactly one of the client's certificate and its key is configured; both are needed",
        );
    }
    if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
        && min > max
    {
        reader.error(
            node.line,
            "tls_config.max_version must be greater than or equal to tls_config.min_version",
        );
    }
    t.no_effect(&[
        ("ca_ref", NO_SECRET_STORE),
        ("cert_ref", NO_SECRET_STORE),
        ("key_ref", NO_SECRET_STORE),
    ]);
    t.finish();
    tls
}

fn tls_version(t: &mut Fields<'_>, key: &str) -> Option<TlsVersion> {
    let line = t.line_of(key);
    match t.text(key)? {
        "TLS13" => Some(TlsVersion::V13),
        "TLS12" => Some(TlsVersion::V12),
        old @ ("TLS10" | "TLS11") => {
            t.reader
                .warn(line, format!("{key}: {old} is not spoken, TLS12 is the lowest version"));
            Some(TlsVersion::V12)
        }
        other => {
            t.reader.error(line, format!("{key}: unknown TLS version: {other}"));
            None
        }
    }
}

fn read_proxy(f: &mut Fields<'_>) -> ProxyConfig {
    let reader = f.reader;
    let url = f.string("proxy_url").filter(|url| !url.is_empty());
    let line = f.line_of("proxy_url");
    if let Some(url) = &url {
        let known = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !known {
            reader.error(
                line,
                format!("proxy_url: {url:?} is no http or https URL; other proxies are not supported"),
            );
        }
    }
    let proxy = ProxyConfig {
        url,
        no_proxy: f.string("no_proxy").unwrap_or_default(),
        from_environment: f.flag("proxy_from_environment").unwrap_or(false),
        connect_headers: match f.node("proxy_connect_header") {
            Some(Node {
                value: Value::Map(pairs),
                ..
            }) => pairs
                .iter()
                .map(|(name, values)| {
                    let values = reader.texts(values, "proxy_connect_header");
                    (name.text.clone(), values.into_iter().map(Secret::Text).collect())
                })
                .collect(),
            _ => Vec::new(),
        },
    };
    if proxy.from_environment && (proxy.url.is_some() || !proxy.no_proxy.is_empty()) {
        let line = f.line_of("proxy_from_environment");
        reader.error(
            line,
            "if proxy_from_environment is configured, proxy_url and no_proxy must not be configured",
        );
    } else if proxy.url.is_none() && !proxy.no_proxy.is_empty() {
        reader.error(
            f.line_of("no_proxy"),
            "if no_proxy is configured, proxy_url must also be configured",
        );
    }
    proxy
}

/// Headers that the client sets itself.
const RESERVED_HEADERS: [&str; 13] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-scrape-timeout-seconds",
];

fn read_headers(f: &mut Fields<'_>) -> Vec<(String, Vec<Secret>)> {
    let reader = f.reader;
    let Some(node) = f.node("http_headers") else {
        return Vec::new();
    };
    let Value::Map(pairs) = &node.value else {
        reader.error(
            node.line,
            format!("http_headers must be a map, this is {}", node.kind()),
        );
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, node) in pairs {
        if RESERVED_HEADERS.contains(&name.text.to_ascii_lowercase().as_str()) {
            reader.error(name.line, format!("setting header {:?} is not allowed", name.text));
        }
        let mut h = reader.fields(node, "a header");
        let mut values: Vec<Secret> = h.texts("values").into_iter().map(Secret::Text).collect();
        values.extend(h.texts("secrets").into_iter().map(Secret::Text));
        values.extend(
            h.texts("files")
                .into_iter()
                .map(|file| Secret::File(reader.path(&file))),
        );
        h.finish();
        headers.push((name.text.clone(), values));
    }
    headers
}
