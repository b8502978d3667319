//! The targets of one job: what discovery finds becomes loops, one for each target, and what it finds no more ends.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};

use model::LabelSet;
use prometheus_config::{Discovery, ScrapeConfig, TargetGroup};
use tokio::task::JoinHandle;

use super::discovery::discover;
use super::http::{Client, Network};
use super::rounds::Shown;
use super::target::{Found, ScrapeTarget, targets};
use super::target_loop::{Fate, Job, TargetLoop, lock};
use super::{ScrapeCounters, ScrapedTarget};
use crate::sink::Sink;

/// Dropped targets that are remembered if the job does not say how many.
const DROPPED_MAX: usize = 10_000;

/// One job at work.
pub(super) struct Pool {
    job: Arc<Job>,
    state: Mutex<State>,
    /// Asks the sources of targets.
    asking: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    /// What each source has found last.
    groups: Vec<Vec<TargetGroup>>,
    loops: HashMap<u64, TargetLoop>,
    /// The loops in the order of their targets.
    order: Vec<u64>,
    dropped: Vec<LabelSet>,
    dropped_count: usize,
    /// What cannot be a target, told once.
    told: HashSet<String>,
    has_ended: bool,
}

/// What pools are made with.
pub(super) struct Surroundings {
    pub sink: Arc<dyn Sink>,
    pub network: Network,
    pub seed: u64,
    pub counters: Arc<ScrapeCounters>,
}

impl Pool {
    /// Starts a job; goes on with the targets of `before`, which it takes the place of.
    pub fn start(config: &Arc<ScrapeConfig>, around: &Surroundings, before: Option<&Arc<Pool>>) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            job: Arc::new(Job {
                config: config.clone(),
                client: Client::new(&config.client, &around.network),
                sink: around.sink.clone(),
                seed: around.seed,
                refused: Mutex::default(),
                counters: around.counters.clone(),
            }),
            state: Mutex::new(State {
                groups: vec![Vec::new(); config.discovery.len()],
                ..State::default()
            }),
            asking: Mutex::default(),
        });
        if let Some(before) = before {
            pool.take_over(before);
        }
        let mut asking = Vec::new();
        for (source, how) in config.discovery.iter().enumerate() {
            match how {
                Discovery::Static(groups) => lock(&pool.state).groups[source].clone_from(groups),
                how => {
                    let weak = Arc::downgrade(&pool);
                    let found = move |groups: Vec<TargetGroup>| found(&weak, source, groups);
                    asking.push(tokio::spawn(discover(
                        how.clone(),
                        around.network.clone(),
                        around.counters.discovery_failures.clone(),
                        Box::new(found),
                    )));
                }
            }
        }
        *lock(&pool.asking) = asking;
        pool.sync();
        pool
    }

    pub fn config(&self) -> &Arc<ScrapeConfig> {
        &self.job.config
    }

    /// Ends all loops. `fate` says whether their series end too.
    pub fn end(&self, fate: Fate) {
        for asking in lock(&self.asking).drain(..) {
            asking.abort();
        }
        let mut state = lock(&self.state);
        state.has_ended = true;
        for (_, target) in state.loops.drain() {
            let _ = target.fate.send(fate);
        }
    }

    /// Takes over what is known of a job whose configuration has changed: what dynamic sources have found, so that their
    /// targets do not vanish until they are asked again, and what each target has shown.
    fn take_over(&self, before: &Pool) {
        let reads_alike = before.config().honor_labels == self.config().honor_labels
            && before.config().metric_relabel == self.config().metric_relabel
            && before.config().honor_timestamps == self.config().honor_timestamps
            && before.config().limits == self.config().limits
            && before.config().names == self.config().names
            && before.config().track_timestamps_staleness == self.config().track_timestamps_staleness;
        for asking in lock(&before.asking).drain(..) {
            asking.abort();
        }
        let (mut old, mut new) = (lock(&before.state), lock(&self.state));
        old.has_ended = true;
        for (source, how) in self.config().discovery.iter().enumerate() {
            let was = before.config().discovery.iter().position(|d| d == how);
            if let Some(groups) = was.and_then(|was| old.groups.get(was)) {
                new.groups[source].clone_from(groups);
            }
        }
        for (hash, target) in old.loops.drain() {
            // Whether its target is still wanted turns out when this pool looks at its groups.
            let shown = if reads_alike {
                target.shown.clone()
            } else {
                Arc::default()
            };
            let kept = TargetLoop { shown, ..target };
            new.loops.insert(hash, kept);
        }
    }

    /// Makes loops of what is found now.
    fn sync(self: &Arc<Pool>) {
        let config = self.config();
        let mut state = lock(&self.state);
        if state.has_ended {
            return;
        }
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        let mut dropped = Vec::new();
        let mut dropped_count = 0;
        let dropped_max = match usize::try_from(config.limits.dropped_targets) {
            Ok(0) | Err(_) => DROPPED_MAX,
            Ok(n) => n,
        };
        let mut bad = Vec::new();
        for group in state.groups.iter().flatten() {
            for found in targets(config, group) {
                match found {
                    Found::Kept(target) => {
                        let hash = target.hash();
                        if seen.insert(hash) {
                            wanted.push((hash, Arc::new(target)));
                        }
                    }
                    Found::Dropped(labels) => {
                        dropped_count += 1;
                        if dropped.len() < dropped_max {
                            dropped.push(labels);
                        }
                    }
                    Found::Bad(labels, why) => bad.push(format!("{labels}: {why}")),
                }
            }
        }
        for why in bad {
            if state.told.len() < 1000 && state.told.insert(why.clone()) {
                tracing::warn!(job = config.job_name, why, "what was found is no target");
            }
        }
        let limit = config.limits.targets;
        let n = wanted.len() as u64;
        *lock(&self.job.refused) = if limit > 0 && n > limit {
            format!("target_limit exceeded (number of targets: {n}, limit: {limit})")
        } else {
            String::new()
        };
        let mut loops = HashMap::with_capacity(wanted.len());
        let mut order = Vec::with_capacity(wanted.len());
        let mut old = std::mem::take(&mut state.loops);
        for (hash, target) in wanted {
            order.push(hash);
            let running = match old.remove(&hash) {
                Some(running) if Arc::ptr_eq(&running.job, &self.job) && *running.target == *target => running,
                // The same target under another configuration, or found with other labels before relabelling.
                Some(running) => {
                    let _ = running.fate.send(Fate::Replaced);
                    self.start_loop(target, running.shown)
                }
                None => self.start_loop(target, Arc::default()),
            };
            loops.insert(hash, running);
        }
        for (_, gone) in old {
            let _ = gone.fate.send(Fate::Gone);
        }
        (state.loops, state.order) = (loops, order);
        (state.dropped, state.dropped_count) = (dropped, dropped_count);
    }

    fn start_loop(self: &Arc<Pool>, target: Arc<ScrapeTarget>, shown: Arc<Mutex<Shown>>) -> TargetLoop {
        let weak = Arc::downgrade(self);
        let still_there = move |target: &ScrapeTarget| {
            weak.upgrade().is_some_and(|pool| {
                lock(&pool.state)
                    .loops
                    .values()
                    .any(|l| l.target.labels == target.labels)
            })
        };
        TargetLoop::start(&self.job, target, shown, still_there)
    }

    /// The targets that are scraped.
    pub fn active(&self) -> Vec<ScrapedTarget> {
        let state = lock(&self.state);
        let loops = state.order.iter().filter_map(|hash| state.loops.get(hash));
        loops
            .map(|l| {
                let status = lock(&l.status).clone();
                ScrapedTarget {
                    job: self.config().job_name.clone(),
                    discovered: l.target.discovered.clone(),
                    labels: l.target.labels.clone(),
                    url: l.target.url.clone(),
                    last_error: status.last_error,
                    last_scrape: status.last_scrape,
                    last_duration: status.last_duration,
                    interval: l.target.interval,
                    timeout: l.target.timeout,
                }
            })
            .collect()
    }

    /// The targets that were dropped, some of them, and how many there are.
    pub fn dropped(&self) -> (Vec<LabelSet>, usize) {
        let state = lock(&self.state);
        (state.dropped.clone(), state.dropped_count)
    }

    /// What targets with these labels and this URL say of their families.
    pub fn families(&self, labels: &LabelSet, url: &str) -> Option<Vec<(String, model::MetricMetadata)>> {
        let state = lock(&self.state);
        let found = state
            .loops
            .values()
            .find(|l| l.target.url == url && l.target.labels == *labels)?;
        let shown = lock(&found.shown);
        Some(
            shown
                .families
                .iter()
                .map(|(n, known)| (n.clone(), known.metadata.clone()))
                .collect(),
        )
    }
}

fn found(pool: &Weak<Pool>, source: usize, groups: Vec<TargetGroup>) {
    let Some(pool) = pool.upgrade() else { return };
    {
        let mut state = lock(&pool.state);
        if state.has_ended || state.groups[source] == groups {
            return;
        }
        state.groups[source] = groups;
    }
    pool.sync();
}
