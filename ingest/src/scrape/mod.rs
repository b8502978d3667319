//! Scraping: what a `prometheus.yml` asks for, done as Prometheus does it.
//!
//! A *job* of the file has sources of targets ([`discovery`]); what they find passes the job's rules ([`target`]) and becomes a loop
//! of its own ([`target_loop`]). At each tick the loop asks over HTTP ([`http`]), the answer is walked ([`exposition`]), each
//! series is looked up by the bytes that name it ([`series_cache`]), and all of it is appended as one batch together with
//! the marks of series that have vanished and the report on the scrape ([`rounds`]). A new configuration leaves alone what it
//! does not change.
//!
//! Not here: reading the file (`prometheus-config`), the API that tells of targets (`ui-api`), when it is read again (`server`).

mod discovery;
mod exposition;
mod http;
mod pool;
#[cfg(test)]
mod recorded;
mod rounds;
mod series_cache;
mod target;
mod target_loop;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{LabelSet, LabelsBuilder, MetricMetadata, TimestampMs};
use prometheus_config::{PrometheusConfig, RelabelRule, ScrapeConfig};

use crate::Ingest;
use crate::sink::Sink;
pub use discovery::{TellTargets, discover};
use http::Resolver;
pub use http::{Answered, Ask, AskError, Client, Kept, Network, ProxyEnvironment};
use pool::{Pool, Surroundings};
use rounds::Outcome;
use target_loop::{Fate, lock};

/// What scraping needs to know of its surroundings; filled by the server.
#[derive(Clone, Debug, Default)]
pub struct ScrapeOptions {
    /// The machine's name: with the external labels it decides when in an interval each target is scraped.
    pub hostname: String,
    /// What it is called in `User-Agent`.
    pub agent: String,
    /// Proxies for jobs that take them from the environment.
    pub proxies: ProxyEnvironment,
}

/// All jobs at work; cloning shares them.
#[derive(Clone)]
pub struct Scrapes(Arc<Shared>);

struct Shared {
    sink: Arc<dyn Sink>,
    network: Network,
    hostname: String,
    pools: Mutex<Vec<Arc<Pool>>>,
    counters: Arc<ScrapeCounters>,
}

/// Counters since start.
#[derive(Debug, Default)]
pub(crate) struct ScrapeCounters {
    scrapes: AtomicU64,
    failed: AtomicU64,
    samples: AtomicU64,
    duplicates: AtomicU64,
    too_new: AtomicU64,
    discovery_failures: Arc<AtomicU64>,
}

/// The same, read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeStats {
    /// Scrapes done.
    pub scrapes: u64,
    /// Scrapes that failed.
    pub failed: u64,
    /// Samples kept.
    pub samples: u64,
    /// Samples dropped because their series was there twice in an answer.
    pub duplicates: u64,
    /// Samples dropped because their time was too far ahead.
    pub too_new: u64,
    /// Times that a source of targets could not be asked.
    pub discovery_failures: u64,
    /// Targets that are scraped.
    pub targets: u64,
    /// Jobs.
    pub jobs: u64,
}

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapedTarget {
    /// Its job.
    pub job: String,
    /// Its labels before relabelling.
    pub discovered: LabelSet,
    /// The labels its series get.
    pub labels: LabelSet,
    /// Where it is scraped.
    pub url: String,
    /// Why the last scrape failed; empty if it did not.
    pub last_error: String,
    /// When the last scrape began; `None` before the first.
    pub last_scrape: Option<TimestampMs>,
    /// How long it took.
    pub last_duration: Duration,
    /// How often it is scraped.
    pub interval: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
}

/// A step of relabelling: the rule, the labels after it, and whether the target is still wanted.
pub type RelabelStep = (RelabelRule, LabelSet, bool);

impl ScrapeCounters {
    fn note(&self, outcome: &Outcome) {
        let is_good = outcome.error.is_empty();
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(!is_good), Ordering::Relaxed);
        self.samples
            .fetch_add(if is_good { outcome.kept } else { 0 }, Ordering::Relaxed);
        self.duplicates.fetch_add(outcome.duplicates, Ordering::Relaxed);
        self.too_new.fetch_add(outcome.too_new, Ordering::Relaxed);
    }
}

impl Scrapes {
    /// Stores where `ingest` does. Nothing is scraped before a configuration is applied.
    pub fn new(ingest: &Ingest, options: ScrapeOptions) -> Scrapes {
        Scrapes::over(ingest.shared.sink.clone(), options, Resolver::default())
    }

    fn over(sink: Arc<dyn Sink>, options: ScrapeOptions, resolver: Resolver) -> Scrapes {
        Scrapes(Arc::new(Shared {
            sink,
            network: Network {
                resolver,
                proxies: options.proxies,
                agent: options.agent,
            },
            hostname: options.hostname,
            pools: Mutex::default(),
            counters: Arc::default(),
        }))
    }

    /// Scrapes as `config` says from now on. Jobs that it does not change go on undisturbed; of changed ones, targets that
    /// are still there keep what is known of them. Call it within a runtime.
    pub fn apply(&self, config: &PrometheusConfig) {
        let shared = &self.0;
        let mut seed = shared.hostname.as_bytes().to_vec();
        for (name, value) in &config.global.external_labels {
            seed.extend_from_slice(format!("\u{ff}{name}\u{ff}{value}").as_bytes());
        }
        let around = Surroundings {
            sink: shared.sink.clone(),
            network: shared.network.clone(),
            seed: target::fnv(&seed),
            counters: shared.counters.clone(),
        };
        let mut pools = lock(&shared.pools);
        let mut old: Vec<Arc<Pool>> = std::mem::take(&mut *pools);
        for scrape in &config.scrapes {
            let at = old.iter().position(|pool| pool.config().job_name == scrape.job_name);
            let before = at.map(|at| old.swap_remove(at));
            let pool = match before {
                Some(pool) if **pool.config() == *scrape => pool,
                before => Pool::start(&Arc::new(scrape.clone()), &around, before.as_ref()),
            };
            pools.push(pool);
        }
        for gone in old {
            gone.end(Fate::Gone);
        }
    }

    /// Ends all scraping; no series ends by it.
    pub fn stop(&self) {
        for pool in lock(&self.0.pools).drain(..) {
            pool.end(Fate::Replaced);
        }
    }

    /// The jobs, in the order of the file.
    pub fn jobs(&self) -> Vec<Arc<ScrapeConfig>> {
        lock(&self.0.pools).iter().map(|pool| pool.config().clone()).collect()
    }

    /// The targets that are scraped, by job.
    pub fn active(&self) -> Vec<ScrapedTarget> {
        lock(&self.0.pools).iter().flat_map(|pool| pool.active()).collect()
    }

    /// The targets that the rules of a job have dropped: job, labels of some of them, and how many there are.
    pub fn dropped(&self) -> Vec<(String, Vec<LabelSet>, usize)> {
        let pools = lock(&self.0.pools);
        let dropped = pools.iter().map(|pool| {
            let (labels, count) = pool.dropped();
            (pool.config().job_name.clone(), labels, count)
        });
        dropped.collect()
    }

    /// What a target says of its metric families, by name.
    pub fn families(&self, job: &str, labels: &LabelSet, url: &str) -> Vec<(String, MetricMetadata)> {
        let pools = lock(&self.0.pools);
        let pool = pools.iter().find(|pool| pool.config().job_name == job);
        pool.and_then(|pool| pool.families(labels, url)).unwrap_or_default()
    }

    /// What each rule of a job makes of labels; `None`: there is no such job.
    pub fn relabel_steps(&self, job: &str, labels: LabelsBuilder) -> Option<Vec<RelabelStep>> {
        let pools = lock(&self.0.pools);
        let config = pools
            .iter()
            .find(|pool| pool.config().job_name == job)?
            .config()
            .clone();
        drop(pools);
        let mut labels = labels;
        let mut steps = Vec::new();
        for rule in &config.relabel {
            let is_kept = rule.apply(&mut labels);
            let after = if is_kept {
                labels.clone().build()
            } else {
                LabelSet::empty()
            };
            steps.push((rule.clone(), after, is_kept));
            if !is_kept {
                break;
            }
        }
        Some(steps)
    }

    /// Counters.
    pub fn stats(&self) -> ScrapeStats {
        let c = &self.0.counters;
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        ScrapeStats {
            scrapes: read(&c.scrapes),
            failed: read(&c.failed),
            samples: read(&c.samples),
            duplicates: read(&c.duplicates),
            too_new: read(&c.too_new),
            discovery_failures: read(&c.discovery_failures),
            targets: self.active().len() as u64,
            jobs: lock(&self.0.pools).len() as u64,
        }
    }
}
