//! Parameters of a request: the query string, merged with a form body. Every value is foreign: sizes are bounded, and
//! bytes that are no UTF-8 are an error instead of a guess.

use axum::body::Body;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};

/// Largest form body, bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Most parameters in one request.
const PAIRS_MAX: usize = 10_000;

/// Parameters in order; those of the body come first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

/// A request whose parameters cannot be read.
#[derive(Debug)]
pub(crate) struct BadForm {
    pub status: StatusCode,
    pub message: String,
}

impl Form {
    /// Reads the query string and, for POST and PUT with a form content type, the body.
    pub async fn read(request: Request<Body>) -> Result<Form, BadForm> {
        let (head, body) = request.into_parts();
        let mut form = Form::default();
        let is_form = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|v| v.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        if (head.method == Method::POST || head.method == Method::PUT) && is_form {
            let bytes = Limited::new(body, BODY_BYTES_MAX)
                .collect()
                .await
                .map_err(|e| BadForm {
                    status: StatusCode::PAYLOAD_TOO_LARGE,
                    message: format!("request body: {e}"),
                })?;
            form.add(&bytes.to_bytes())?;
        }
        form.add(head.uri.query().unwrap_or("").as_bytes())?;
        Ok(form)
    }

    /// Reads the query string of a URL alone.
    pub fn of_url(uri: &Uri) -> Result<Form, BadForm> {
        let mut form = Form::default();
        form.add(uri.query().unwrap_or("").as_bytes())?;
        Ok(form)
    }

    /// Parameters that come some other way; empty values are left out.
    pub fn of(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Form {
        let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        Form {
            pairs: pairs.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    /// The query string alone.
    #[cfg(test)]
    pub fn parse(query: &str) -> Result<Form, BadForm> {
        let mut form = Form::default();
        form.add(query.as_bytes())?;
        Ok(form)
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    /// All values of a parameter that may repeat.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    fn add(&mut self, encoded: &[u8]) -> Result<(), BadForm> {
        for pair in encoded.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            if self.pairs.len() == PAIRS_MAX {
                return Err(bad(format!("more than {PAIRS_MAX} parameters")));
            }
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let name = decode(&pair[..at], true)?;
            let value = decode(pair.get(at + 1..).unwrap_or_default(), true)?;
            self.pairs.push((name, value));
        }
        Ok(())
    }
}

fn bad(message: String) -> BadForm {
    BadForm {
        status: StatusCode::BAD_REQUEST,
        message,
    }
}

/// Percent-decodes a path segment or (with `plus`) a form value. A `%` that begins no escape stands for itself, as
/// scripts send it.
pub(crate) fn decode(encoded: &[u8], plus: bool) -> Result<String, BadForm> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut i = 0;
    while i < encoded.len() {
        let hex = |at: usize| encoded.get(at).and_then(|b| (*b as char).to_digit(16));
        match (encoded[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
                continue;
            }
            (b'+', _, _) if plus => out.push(b' '),
            (b, _, _) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).map_err(|_| bad("parameter is not valid UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_decode_and_repeat() {
        let form =
            Form::parse("query=up%7Ba%3D%22b%22%7D&match[]=a&match%5B%5D=b+c&tags=service.name=x&p=100%").unwrap();
        assert_eq!(form.get("query"), Some(r#"up{a="b"}"#));
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(form.get("tags"), Some("service.name=x"));
        assert_eq!(form.get("p"), Some("100%"));
        assert_eq!(form.get("absent"), None);
        assert!(Form::parse("a=%ff").is_err());
    }
}
