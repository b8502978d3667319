//! The parts of a URL that asking needs.

use std::fmt;

/// An `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    is_https: bool,
    user: Option<String>,
    /// Without brackets.
    host: String,
    port: Option<u16>,
    path_and_query: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or("a URL begins with http:// or https://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("unsupported protocol scheme {other:?}")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or("");
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => (Some(user.to_owned()), authority),
            None => (None, authority),
        };
        let (host, port) = split_port(authority)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{authority:?} is no host"));
        }
        Ok(Url {
            is_https,
            user,
            host: host.to_owned(),
            port,
            path_and_query: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
        })
    }

    /// Where a redirect leads.
    pub fn join(&self, location: &str) -> Result<Url, String> {
        if location.contains("://") {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.is_https { "https" } else { "http" };
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let mut url = self.clone();
        url.path_and_query = if location.starts_with('/') {
            location.to_owned()
        } else {
            let path = self.path_and_query.split('?').next().unwrap_or("/");
            let folder = &path[..=path.rfind('/').unwrap_or(0)];
            format!("{folder}{location}")
        };
        Ok(url)
    }

    pub fn is_https(&self) -> bool {
        self.is_https
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_https { 443 } else { 80 })
    }

    /// `host` or `host:port`, as it stands in the URL.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// What is asked for on the server.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Name and password that the URL holds.
    pub fn user(&self) -> Option<(String, String)> {
        let user = self.user.as_deref()?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        Some((decode(name), decode(password)))
    }

    /// As a proxy is told it.
    pub fn without_user(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path_and_query)
    }
}

impl fmt::Display for Url {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_user())
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| format!("{authority:?} lacks a ]"))?;
        (host, after.strip_prefix(':').unwrap_or(""))
    } else {
        authority.rsplit_once(':').unwrap_or((authority, ""))
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let port = port.parse().map_err(|_| format!("invalid port {port:?} after host"))?;
    Ok((host, Some(port)))
}

/// Percent-encoding undone.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let digits = bytes.get(i + 1..i + 3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(b) if bytes[i] == b'%' => {
                out.push(b);
                i += 3;
            }
            _ => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, path) in [
            ("http://a", "a", 80, "/"),
            ("https://a/x?y=z#f", "a", 443, "/x?y=z"),
            ("http://[::1]:9090/m", "::1", 9090, "/m"),
            ("http://me:p%40w@a:1?x", "a", 1, "/?x"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.host(), url.port(), url.path_and_query()),
                (host, port, path),
                "{text}"
            );
        }
        let url = Url::parse("http://me:p%40w@a:1/x/y?z").unwrap();
        assert_eq!(url.user(), Some(("me".to_owned(), "p@w".to_owned())));
        assert_eq!(url.to_string(), "http://a:1/x/y?z");
        for (location, want) in [
            ("/n", "http://a:1/n"),
            ("n", "http://a:1/x/n"),
            ("https://b", "https://b/"),
            ("//c/d", "http://c/d"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), want);
        }
        for bad in ["a", "ftp://a", "http://", "http://a:x", "http://[::1", "http://a b"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
