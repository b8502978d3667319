//! One entry of `alertmanagers:`: what discovery finds becomes loops, one for each Alertmanager, and what it finds no more
//! ends. Alerts that come before discovery has found anything wait for it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, Weak};

use ingest::{Client, Network, discover};
use model::LabelsBuilder;
use prometheus_config::{AlertmanagerConfig, Discovery, TargetGroup};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::address::{Found, alertmanagers};
use crate::queue::Queue;
use crate::relabelling::passed;
use crate::send_loop::SendLoop;
use crate::{Alert, QUEUE_MAX, lock};

/// Dropped Alertmanagers that are remembered.
const DROPPED_MAX: usize = 1_000;

/// Stands for the URL of what waits until an Alertmanager is found.
const NOBODY: &str = "";

pub(crate) struct AlertmanagerSet {
    config: AlertmanagerConfig,
    client: Arc<Client>,
    state: Mutex<State>,
    /// Asks the sources.
    asking: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// What each source has found last.
    groups: Vec<Vec<TargetGroup>>,
    loops: Vec<Arc<SendLoop>>,
    dropped: Vec<String>,
    /// What waits for Alertmanagers of an entry that this one replaces.
    inherited: HashMap<String, Queue>,
    /// What came before any was found.
    waiting: Queue,
    /// What cannot be told, said once.
    said: HashSet<String>,
    has_ended: bool,
}

impl AlertmanagerSet {
    /// Begins to look for its members; takes over `queues`, by URL, of those it finds.
    pub fn start(
        config: &AlertmanagerConfig,
        network: &Network,
        failures: &Arc<AtomicU64>,
        queues: &mut HashMap<String, Queue>,
    ) -> Arc<AlertmanagerSet> {
        let set = Arc::new(AlertmanagerSet {
            config: config.clone(),
            client: Arc::new(Client::new(&config.client, network)),
            state: Mutex::new(State {
                groups: vec![Vec::new(); config.discovery.len()],
                ..State::default()
            }),
            asking: Mutex::default(),
        });
        {
            let mut state = lock(&set.state);
            state.inherited.clone_from(queues);
            state.waiting = state.inherited.remove(NOBODY).unwrap_or_default();
        }
        let mut asking = Vec::new();
        for (source, how) in config.discovery.iter().enumerate() {
            match how {
                Discovery::Static(groups) => lock(&set.state).groups[source].clone_from(groups),
                how => {
                    let weak = Arc::downgrade(&set);
                    let found = move |groups: Vec<TargetGroup>| found(&weak, source, groups);
                    asking.push(tokio::spawn(discover(
                        how.clone(),
                        network.clone(),
                        failures.clone(),
                        Box::new(found),
                    )));
                }
            }
        }
        *lock(&set.asking) = asking;
        set.sync();
        set
    }

    pub fn config(&self) -> &AlertmanagerConfig {
        &self.config
    }

    /// Queues alerts for each of its members.
    pub fn send(&self, alerts: &[Arc<Alert>]) {
        let rules = &self.config.alert_relabel;
        let relabelled: Vec<Arc<Alert>>;
        let alerts = match rules.is_empty() {
            true => alerts,
            false => {
                relabelled = (alerts.iter())
                    .filter_map(|alert| {
                        let labels = passed(LabelsBuilder::from(&alert.labels), rules)?;
                        match labels == alert.labels {
                            true => Some(alert.clone()),
                            false => Some(Arc::new(Alert {
                                labels,
                                ..(**alert).clone()
                            })),
                        }
                    })
                    .collect();
                &relabelled
            }
        };
        if alerts.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        if state.loops.is_empty() {
            for alert in alerts {
                state.waiting.push(alert.clone(), QUEUE_MAX);
            }
        }
        for sending in &state.loops {
            sending.add(alerts);
        }
    }

    pub fn loops(&self) -> Vec<Arc<SendLoop>> {
        lock(&self.state).loops.clone()
    }

    pub fn dropped(&self) -> Vec<String> {
        lock(&self.state).dropped.clone()
    }

    /// Sends what is queued, and takes no more; each receiver learns when one member has been told all.
    pub fn drain(&self) -> Vec<oneshot::Receiver<()>> {
        self.loops().iter().map(|sending| sending.drain()).collect()
    }

    /// Ends at once; hands over what waits, by URL, what waits for nobody in particular included.
    pub fn end(&self) -> Vec<(String, Queue)> {
        for asking in lock(&self.asking).drain(..) {
            asking.abort();
        }
        let mut state = lock(&self.state);
        state.has_ended = true;
        let loops = std::mem::take(&mut state.loops);
        let mut queues: Vec<(String, Queue)> = (loops.iter())
            .map(|sending| (sending.url.clone(), sending.end()))
            .collect();
        // What was inherited and never asked for again is handed on.
        queues.extend(state.inherited.drain());
        queues.push((NOBODY.to_owned(), std::mem::take(&mut state.waiting)));
        queues
    }

    /// Makes loops of what is found now.
    fn sync(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.has_ended {
            return;
        }
        let mut wanted = Vec::new();
        let mut dropped = Vec::new();
        let mut bad = Vec::new();
        for found in (state.groups.iter().flatten()).flat_map(|group| alertmanagers(&self.config, group)) {
            match found {
                Found::Kept(url) if !wanted.contains(&url) => wanted.push(url),
                Found::Kept(_) => {}
                Found::Dropped(url) if dropped.len() < DROPPED_MAX => dropped.push(url),
                Found::Dropped(_) => {}
                Found::Bad(why) => bad.push(why),
            }
        }
        for why in bad {
            if state.said.len() < 1000 && state.said.insert(why.clone()) {
                tracing::warn!(why, "what was found is no Alertmanager");
            }
        }
        let mut old = std::mem::take(&mut state.loops);
        let waiting = match wanted.is_empty() {
            true => Queue::default(),
            false => std::mem::take(&mut state.waiting),
        };
        for url in wanted {
            let running = match old.iter().position(|sending| sending.url == url) {
                Some(at) => old.swap_remove(at),
                None => {
                    let mut queue = waiting.clone();
                    if let Some(before) = state.inherited.remove(&url) {
                        queue.join(&before, QUEUE_MAX);
                    }
                    let (client, timeout) = (self.client.clone(), self.config.timeout);
                    Arc::new(SendLoop::start(url, client, timeout, queue))
                }
            };
            state.loops.push(running);
        }
        for gone in old {
            let left = gone.end().len();
            if left > 0 {
                tracing::warn!(
                    alertmanager = gone.url,
                    left,
                    "an Alertmanager is gone, and alerts that waited for it"
                );
            }
        }
        state.dropped = dropped;
    }
}

fn found(set: &Weak<AlertmanagerSet>, source: usize, groups: Vec<TargetGroup>) {
    let Some(set) = set.upgrade() else { return };
    {
        let mut state = lock(&set.state);
        if state.has_ended || state.groups[source] == groups {
            return;
        }
        state.groups[source] = groups;
    }
    set.sync();
}
