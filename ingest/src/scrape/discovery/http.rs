//! `http_sd_configs`: lists from a server.

use prometheus_config::{HttpDiscovery, TargetGroup, parse_target_groups};

use super::super::http::{Ask, Client, Kept, Network};
use super::{ANSWER_BYTES_MAX, ask_in_time};

/// Asks one server.
pub(super) struct Lists {
    url: String,
    interval_s: String,
    client: Client,
    kept: Kept,
}

impl Lists {
    pub fn new(config: &HttpDiscovery, network: &Network) -> Lists {
        Lists {
            url: config.url.clone(),
            interval_s: config.refresh_interval.as_secs_f64().to_string(),
            client: Client::new(&config.client, network),
            kept: Kept::default(),
        }
    }

    pub async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let header = http::HeaderName::from_static("x-prometheus-refresh-interval-seconds");
        let ask = Ask {
            url: &self.url,
            headers: &[(http::header::ACCEPT, "application/json"), (header, &self.interval_s)],
            bytes_max: ANSWER_BYTES_MAX,
            ..Ask::default()
        };
        let answered = ask_in_time(&self.client, &ask, &mut self.kept, "no answer in time").await?;
        if answered.status.as_u16() != 200 {
            return Err(format!("server returned HTTP status {}", answered.status_words()));
        }
        let media_type = answered
            .content_type()
            .split(';')
            .next()
            .unwrap_or("")
            .trim()
            .to_ascii_lowercase();
        if media_type != "application/json" {
            return Err(format!("unsupported content type {:?}", answered.content_type()));
        }
        let text = std::str::from_utf8(&answered.body).map_err(|e| e.to_string())?;
        // JSON first, for its own words on what is no JSON; `null` is no list.
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if !value.is_array() {
            return Err("a list of target groups is expected".to_owned());
        }
        let mut groups = parse_target_groups(text)?;
        for group in &mut groups {
            group.labels.push(("__meta_url".to_owned(), self.url.clone()));
        }
        Ok(groups)
    }
}
