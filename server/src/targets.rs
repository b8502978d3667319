//! Who is scraped, as `/api/v1/targets` tells it: today the process itself, whose metrics are stored as those of any
//! other job.

use std::sync::Arc;
use std::time::Duration;

use model::{LabelSet, MetricMetadata};
use ui_api::{OwnFamily, ScrapePool, Target, Targets};

use crate::telemetry::Telemetry;

/// The job its own series have.
pub const JOB: &str = "trilobite";

/// The process as its own target.
pub struct Itself {
    /// What gathers its metrics.
    pub telemetry: Arc<Telemetry>,
    /// The machine's name.
    pub hostname: String,
    /// How often its metrics are stored.
    pub interval: Duration,
}

impl Targets for Itself {
    fn pools(&self) -> Vec<ScrapePool> {
        let seconds = self.interval.as_secs();
        let yaml = format!(
            "job_name: {JOB}\nscrape_interval: {seconds}s\nmetrics_path: /metrics\nstatic_configs:\n- targets:\n  - {}\n",
            self.telemetry.instance
        );
        let name = JOB.to_owned();
        vec![ScrapePool { name, yaml }]
    }

    fn active(&self) -> Vec<Target> {
        let instance = self.telemetry.instance.as_str();
        let last = self.telemetry.last_scrape.lock().ok().and_then(|last| *last);
        let seconds = format!("{}s", self.interval.as_secs());
        let global = match instance.strip_prefix("localhost:") {
            Some(port) => format!("http://{}:{port}/metrics", self.hostname),
            None => format!("http://{instance}/metrics"),
        };
        vec![Target {
            pool: JOB.to_owned(),
            discovered: LabelSet::from_pairs([
                ("__address__", instance),
                ("__metrics_path__", "/metrics"),
                ("__scheme__", "http"),
                ("__scrape_interval__", &seconds),
                ("__scrape_timeout__", &seconds),
                ("job", JOB),
            ]),
            labels: LabelSet::from_pairs([("instance", instance), ("job", JOB)]),
            url: format!("http://{instance}/metrics"),
            global_url: global,
            last_error: String::new(),
            last_scrape: last.map(|last| last.t),
            last_duration: last.map_or(Duration::ZERO, |last| last.took),
            interval: self.interval,
            timeout: self.interval,
        }]
    }

    fn metadata(&self, _: &Target) -> Vec<(String, MetricMetadata)> {
        self.telemetry.metadata()
    }

    fn own(&self) -> Vec<OwnFamily> {
        self.telemetry.families()
    }
}
