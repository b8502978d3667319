//! Who is scraped, as the Prometheus API tells it. The server knows; this is how it is asked.

use std::time::Duration;

use model::{LabelSet, MetricMetadata, TimestampMs};

/// What is scraped; filled by the server.
pub trait Targets: Send + Sync {
    /// The pools, by name.
    fn pools(&self) -> Vec<ScrapePool>;
    /// The targets that are scraped, in the order of pools and targets.
    fn active(&self) -> Vec<Target>;
    /// The targets that were found and that no pool wanted.
    fn dropped(&self) -> Vec<DroppedTarget> {
        Vec::new()
    }
    /// How many targets each pool dropped; [`Targets::dropped`] may list fewer.
    fn dropped_counts(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = self.pools().into_iter().map(|pool| (pool.name, 0)).collect();
        for target in self.dropped() {
            if let Some((_, n)) = counts.iter_mut().find(|(pool, _)| *pool == target.pool) {
                *n += 1;
            }
        }
        counts
    }
    /// What each relabelling rule of a pool makes of labels; `None`: there is no such pool.
    fn relabel_steps(&self, pool: &str, _labels: &[(String, String)]) -> Option<Vec<RelabelStep>> {
        self.pools().iter().any(|p| p.name == pool).then(Vec::new)
    }
    /// URLs of the Alertmanagers that are told of alerts, and of those that relabelling dropped.
    fn alertmanagers(&self) -> (Vec<String>, Vec<String>) {
        (Vec::new(), Vec::new())
    }
    /// The configuration of scraping and rules, as YAML without secrets; `None`: there is none.
    fn config_yaml(&self) -> Option<String> {
        None
    }
    /// How the last reading of the configuration went; `None`: there is none.
    fn last_reload(&self) -> Option<Reload> {
        None
    }
    /// What a target says of its metric families, by name.
    fn metadata(&self, target: &Target) -> Vec<(String, MetricMetadata)>;
    /// The process' own metric families, as they are now.
    fn own(&self) -> Vec<OwnFamily> {
        Vec::new()
    }
}

/// What one rule makes of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelStep {
    /// The rule, as a JSON object.
    pub rule: String,
    /// The labels after it; none if it drops the target.
    pub output: LabelSet,
    /// Whether the target is still wanted.
    pub keep: bool,
}

/// A reading of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Whether the last one succeeded.
    pub success: bool,
    /// When one last succeeded.
    pub last_success: TimestampMs,
}

/// A metric family of the process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFamily {
    /// Its name.
    pub name: String,
    /// What it is.
    pub metadata: MetricMetadata,
    /// Labels and value of each series.
    pub samples: Vec<(Vec<(String, String)>, f64)>,
}

/// Targets that are scraped alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapePool {
    /// Its name: the job's.
    pub name: String,
    /// Its configuration, as YAML.
    pub yaml: String,
}

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The pool it belongs to.
    pub pool: String,
    /// Its labels before relabelling.
    pub discovered: LabelSet,
    /// The labels its series get.
    pub labels: LabelSet,
    /// Where it is scraped.
    pub url: String,
    /// The same for somebody on another machine.
    pub global_url: String,
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

/// How a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The last scrape went well.
    Up,
    /// The last scrape failed.
    Down,
    /// It has not been scraped yet.
    Unknown,
}

impl Health {
    /// The word that the API has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Up => "up",
            Health::Down => "down",
            Health::Unknown => "unknown",
        }
    }
}

impl Target {
    /// How it is, by its last scrape.
    pub fn health(&self) -> Health {
        match self.last_scrape {
            None => Health::Unknown,
            Some(_) if self.last_error.is_empty() => Health::Up,
            Some(_) => Health::Down,
        }
    }
}

/// A target that is not scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct DroppedTarget {
    /// The pool that dropped it.
    pub pool: String,
    /// Its labels.
    pub discovered: LabelSet,
}
