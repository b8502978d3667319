//! Where targets are: each source is asked again and again or tells by itself, and says all it knows each time. One that fails keeps what
//! it knew.

mod dns;
mod docker;
mod file;
mod http;
mod kubeconfig;
mod kubernetes;
mod kubernetes_targets;
mod kubernetes_watch;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_config::{Discovery, TargetGroup};
use serde::de::DeserializeOwned;

use super::http::{Answered, Ask, Client, Kept, Network};
use docker::Daemon;
use http::Lists;

/// Largest answer of a source.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Longest wait for one.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Shortest time between two questions, whatever the configuration says.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// Who is told of all groups of a source.
pub type TellTargets = Box<dyn Fn(Vec<TargetGroup>) + Send + Sync>;

/// Asks a source until the task is dropped, and counts how often it could not be asked.
pub async fn discover(source: Discovery, network: Network, failures: Arc<AtomicU64>, tell: TellTargets) {
    let (mut asked, every) = match &source {
        Discovery::Static(groups) => return tell(groups.clone()),
        Discovery::File(config) => return file::run(config, &failures, &tell).await,
        Discovery::Http(config) => (
            Asked::Http(Box::new(Lists::new(config, &network))),
            config.refresh_interval,
        ),
        Discovery::Dns(config) => (Asked::Dns, config.refresh_interval),
        Discovery::Docker(config) => (
            Asked::Docker(Box::new(Daemon::new(config, &network))),
            config.refresh_interval,
        ),
        Discovery::Kubernetes(config) => return kubernetes::run(config, &network, &failures, &tell).await,
    };
    let mut last_fault = String::new();
    loop {
        let found = match (&mut asked, &source) {
            (Asked::Http(lists), _) => lists.refresh().await,
            (Asked::Docker(daemon), _) => daemon.refresh().await,
            (Asked::Dns, Discovery::Dns(config)) => dns::refresh(config, &network).await,
            (Asked::Dns, _) => return,
        };
        match found {
            Ok(groups) => {
                tell(groups);
                last_fault.clear();
            }
            Err(why) => {
                failures.fetch_add(1, Ordering::Relaxed);
                // Told when it changes, not each time.
                if why != last_fault {
                    tracing::warn!(source = source_name(&source), why, "discovery keeps what it knew");
                    last_fault = why;
                }
            }
        }
        tokio::time::sleep(every.max(REFRESH_MIN)).await;
    }
}

enum Asked {
    Http(Box<Lists>),
    Dns,
    Docker(Box<Daemon>),
}

/// One answer of a source, or why there is none; `late` is said if none comes in time.
async fn ask_in_time(client: &Client, ask: &Ask<'_>, kept: &mut Kept, late: &str) -> Result<Answered, String> {
    let answered = tokio::time::timeout(ANSWER_WAIT_MAX, client.ask(ask, kept)).await;
    answered.map_err(|_| late.to_owned())?.map_err(|e| e.to_string())
}

/// One answer of an API in JSON; `who` is asked for `path`, which stands in what goes wrong.
async fn ask_json<T: DeserializeOwned>(
    client: &Client,
    ask: &Ask<'_>,
    kept: &mut Kept,
    path: &str,
    who: &str,
) -> Result<T, String> {
    let late = format!("{path}: no answer in time");
    let answered = ask_in_time(client, ask, kept, &late).await?;
    if answered.status.as_u16() != 200 {
        let status = answered.status_words();
        return Err(format!("{path}: {who} returned HTTP status {status}"));
    }
    serde_json::from_slice(&answered.body).map_err(|e| format!("{path}: {e}"))
}

fn source_name(source: &Discovery) -> &'static str {
    match source {
        Discovery::Static(_) => "static_configs",
        Discovery::File(_) => "file_sd_configs",
        Discovery::Http(_) => "http_sd_configs",
        Discovery::Dns(_) => "dns_sd_configs",
        Discovery::Docker(_) => "docker_sd_configs",
        Discovery::Kubernetes(_) => "kubernetes_sd_configs",
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// A name as part of a label name: what is neither letter nor digit becomes `_`.
fn label_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
