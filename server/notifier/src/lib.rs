//! Tells Alertmanagers of alerts, as `alerting:` of a `prometheus.yml` says.
//!
//! [`Notifier::notify`](query_rules::Notify::notify) adds the external labels, relabels ([`relabelling`]) and puts each alert into the *queue* of every
//! Alertmanager; it never blocks. An entry of `alertmanagers:` is a *set* ([`alertmanager_set`]): discovery finds its
//! members, relabelling gives them addresses, and each has a loop of its own ([`send_loop`]) that posts what is queued in
//! batches. Where that fails for a reason that passes, the batch goes back and is tried again; a later word on the same
//! alert replaces an earlier one ([`queue`]), so an outage of any length costs no more than the room for distinct
//! alerts, and who was resolved during it is told as resolved after it.
//!
//! Not here: which alerts there are (`query-rules`), reading the file (`prometheus-config`), when it is read again (`server`).

mod address;
mod alertmanager_set;
mod payload;
mod queue;
mod relabelling;
mod send_loop;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ingest::{Network, ProxyEnvironment};
use model::LabelSet;
use prometheus_config::{PrometheusConfig, RelabelRule};
use query_rules::{Notify, OutgoingAlert};

use alertmanager_set::AlertmanagerSet;
use queue::Queue;
use relabelling::relabelled;
pub use send_loop::Latency;

/// Alerts that wait for one Alertmanager, at most.
pub const QUEUE_MAX: usize = 10_000;

/// An alert on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    pub labels: LabelSet,
    pub annotations: Vec<(String, String)>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub generator_url: String,
}

/// Tells Alertmanagers of alerts; cloning shares it.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

struct Shared {
    network: Network,
    discovery_failures: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    external_labels: Vec<(String, String)>,
    relabel: Vec<RelabelRule>,
    sets: Vec<Arc<AlertmanagerSet>>,
    has_ended: bool,
}

/// What is known of one Alertmanager.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertmanagerStats {
    /// Where it is told.
    pub url: String,
    /// Alerts it took.
    pub sent: u64,
    /// Alerts that could not be sent, once for each try.
    pub errors: u64,
    /// Alerts it will not be told of.
    pub dropped: u64,
    /// Alerts that wait.
    pub queued: u64,
    /// How long it took to answer.
    pub latency: Latency,
}

impl Notifier {
    /// Says `agent` in `User-Agent`. Nobody is told before a configuration is applied.
    pub fn new(agent: String, proxies: ProxyEnvironment) -> Notifier {
        Notifier(Arc::new(Shared {
            network: Network::new(agent, proxies),
            discovery_failures: Arc::default(),
            state: Mutex::default(),
        }))
    }

    /// Tells whom `config` names from now on. Entries that it does not change go on undisturbed; of changed ones,
    /// Alertmanagers that are still there keep their queues. Call it within a runtime.
    pub fn apply(&self, config: &PrometheusConfig) {
        let shared = &self.0;
        let mut state = lock(&shared.state);
        if state.has_ended {
            return;
        }
        state.external_labels.clone_from(&config.global.external_labels);
        state.relabel.clone_from(&config.alerting.relabel);
        let mut old = std::mem::take(&mut state.sets);
        let mut kept = Vec::new();
        for entry in &config.alerting.alertmanagers {
            let at = old.iter().position(|set| set.config() == entry);
            kept.push(at.map(|at| old.swap_remove(at)));
        }
        let mut queues: HashMap<String, Queue> = HashMap::new();
        for (url, queue) in old.iter().flat_map(|gone| gone.end()) {
            // What waits is told twice rather than not at all.
            queues.entry(url).or_default().join(&queue, QUEUE_MAX);
        }
        for (entry, kept) in config.alerting.alertmanagers.iter().zip(kept) {
            let set = kept.unwrap_or_else(|| {
                AlertmanagerSet::start(entry, &shared.network, &shared.discovery_failures, &mut queues)
            });
            state.sets.push(set);
        }
    }

    /// Where alerts are sent, and where they are not since relabelling dropped the Alertmanager.
    pub fn alertmanagers(&self) -> (Vec<String>, Vec<String>) {
        let state = lock(&self.0.state);
        let (mut active, mut dropped) = (Vec::new(), Vec::new());
        for set in &state.sets {
            active.extend(set.loops().iter().map(|sending| sending.url.clone()));
            dropped.extend(set.dropped());
        }
        (active, dropped)
    }

    /// What is known of each Alertmanager, by URL.
    pub fn stats(&self) -> Vec<AlertmanagerStats> {
        let state = lock(&self.0.state);
        let mut by_url: BTreeMap<String, AlertmanagerStats> = BTreeMap::new();
        for sending in state.sets.iter().flat_map(|set| set.loops()) {
            let stats = sending.stats();
            match by_url.get_mut(&stats.url) {
                // Two entries may name the same one.
                Some(before) => {
                    before.sent += stats.sent;
                    before.errors += stats.errors;
                    before.dropped += stats.dropped;
                    before.queued += stats.queued;
                    before.latency.join(&stats.latency);
                }
                None => drop(by_url.insert(stats.url.clone(), stats)),
            }
        }
        by_url.into_values().collect()
    }

    /// Times that a source of Alertmanagers could not be asked.
    pub fn discovery_failures(&self) -> u64 {
        self.0.discovery_failures.load(Ordering::Relaxed)
    }

    /// Sends what is queued and ends; what has not been taken after `wait` is dropped.
    pub async fn stop(&self, wait: Duration) {
        let sets = {
            let mut state = lock(&self.0.state);
            state.has_ended = true;
            std::mem::take(&mut state.sets)
        };
        let drained: Vec<_> = sets.iter().flat_map(|set| set.drain()).collect();
        let all = async {
            for done in drained {
                let _ = done.await;
            }
        };
        if tokio::time::timeout(wait, all).await.is_err() {
            tracing::warn!("some Alertmanagers were not told of all alerts in time");
        }
        for set in sets {
            let left: usize = set.end().iter().map(|(_, queue)| queue.len()).sum();
            if left > 0 {
                tracing::warn!(left, "alerts that no Alertmanager took are dropped");
            }
        }
    }
}

impl Notify for Notifier {
    fn notify(&self, alerts: Vec<OutgoingAlert>) {
        let state = lock(&self.0.state);
        if state.sets.is_empty() {
            return;
        }
        let alerts: Vec<Arc<Alert>> = alerts
            .into_iter()
            .filter_map(|alert| relabelled(alert, &state.external_labels, &state.relabel))
            .map(Arc::new)
            .collect();
        for set in &state.sets {
            set.send(&alerts);
        }
    }
}

/// A panic elsewhere has left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
