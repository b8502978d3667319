//! OAuth 2 tokens by client credentials: fetched when needed, kept until shortly before they end.

use std::fmt::Write;
use std::time::Duration;

use prometheus_config::{Auth, HttpClientConfig, OAuth2};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Ask, Client, Kept, Network, reveal};

/// Largest answer of a token server.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// A token is not used this shortly before its end.
const MARGIN: Duration = Duration::from_secs(10);

/// The token in use.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Option<Token>>);

struct Token {
    header: String,
    until: Option<Instant>,
}

#[derive(serde::Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<f64>,
}

impl Tokens {
    /// The value of `Authorization`.
    pub async fn get(&self, oauth2: &OAuth2, network: &Network) -> Result<String, String> {
        let mut token = self.0.lock().await;
        if let Some(held) = &*token
            && held.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(held.header.clone());
        }
        let granted = fetch(oauth2, network).await?;
        let kind = match granted.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            _ => &granted.token_type,
        };
        let header = format!("{kind} {}", granted.access_token);
        let lasts = granted.expires_in.and_then(|s| Duration::try_from_secs_f64(s).ok());
        *token = Some(Token {
            header: header.clone(),
            until: lasts.map(|lasts| Instant::now() + lasts.saturating_sub(MARGIN)),
        });
        Ok(header)
    }
}

async fn fetch(oauth2: &OAuth2, network: &Network) -> Result<Granted, String> {
    let config = HttpClientConfig {
        auth: Auth::Basic {
            username: prometheus_config::Secret::Text(encode(&oauth2.client_id)),
            password: prometheus_config::Secret::Text(encode(&reveal(&oauth2.client_secret).await?)),
        },
        tls: oauth2.tls.clone(),
        proxy: oauth2.proxy.clone(),
        ..HttpClientConfig::default()
    };
    let mut form = "grant_type=client_credentials".to_owned();
    if !oauth2.scopes.is_empty() {
        let _ = write!(form, "&scope={}", encode(&oauth2.scopes.join(" ")));
    }
    for (name, value) in &oauth2.endpoint_params {
        let _ = write!(form, "&{}={}", encode(name), encode(value));
    }
    let client = Client::new(&config, network);
    let ask = Ask {
        url: &oauth2.token_url,
        bytes_max: ANSWER_BYTES_MAX,
        post: Some(("application/x-www-form-urlencoded", &form)),
        ..Ask::default()
    };
    let answered = client
        .ask(&ask, &mut Kept::default())
        .await
        .map_err(|e| format!("oauth2: {e}"))?;
    if !answered.status.is_success() {
        return Err(format!("oauth2: cannot fetch token: {}", answered.status_words()));
    }
    serde_json::from_slice(&answered.body).map_err(|e| format!("oauth2: cannot parse token: {e}"))
}

/// As form fields are encoded.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}
