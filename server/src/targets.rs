//! Who is scraped, as `/api/v1/targets` tells it: the process itself, whose metrics are stored as those of any other
//! job, and the targets of the jobs in `--prometheus-config`.

use std::sync::Arc;
use std::time::Duration;

use ingest::ScrapedTarget;
use model::{LabelSet, LabelsBuilder, MetricMetadata};
use prometheus_config::{RelabelRule, RuleField};
use serde_json::Value;
use ui_api::{DroppedTarget, OwnFamily, RelabelStep, Reload, ScrapePool, Target, Targets};

use crate::scraping::Scraping;
use crate::telemetry::Telemetry;

/// The job its own series have.
pub const JOB: &str = "trilobite";

/// The process as its own target, and all others.
pub struct AllTargets {
    /// What gathers its metrics.
    pub telemetry: Arc<Telemetry>,
    /// What is configured.
    pub scraping: Arc<Scraping>,
    /// The machine's name.
    pub hostname: String,
    /// How often its metrics are stored.
    pub interval: Duration,
}

impl AllTargets {
    fn itself(&self) -> Target {
        let instance = self.telemetry.instance.as_str();
        let last = self.telemetry.last_scrape.lock().ok().and_then(|last| *last);
        let seconds = format!("{}s", self.interval.as_secs());
        let url = format!("http://{instance}/metrics");
        Target {
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
            global_url: self.global(&url),
            url,
            last_error: String::new(),
            last_scrape: last.map(|last| last.t),
            last_duration: last.map_or(Duration::ZERO, |last| last.took),
            interval: self.interval,
            timeout: self.interval,
        }
    }

    fn scraped(&self, target: ScrapedTarget) -> Target {
        Target {
            pool: target.job,
            discovered: target.discovered,
            labels: target.labels,
            global_url: self.global(&target.url),
            url: target.url,
            last_error: target.last_error,
            last_scrape: target.last_scrape,
            last_duration: target.last_duration,
            interval: target.interval,
            timeout: target.timeout,
        }
    }

    /// A URL of this machine for somebody on another.
    fn global(&self, url: &str) -> String {
        for local in ["localhost", "127.0.0.1", "[::1]"] {
            for (scheme, rest) in [
                ("http://", url.strip_prefix("http://")),
                ("https://", url.strip_prefix("https://")),
            ] {
                let rest = rest.and_then(|rest| rest.strip_prefix(local));
                if let Some(rest) = rest.filter(|rest| rest.starts_with([':', '/'])) {
                    return format!("{scheme}{}{rest}", self.hostname);
                }
            }
        }
        url.to_owned()
    }
}

impl Targets for AllTargets {
    fn pools(&self) -> Vec<ScrapePool> {
        let seconds = self.interval.as_secs();
        let yaml = format!(
            "job_name: {JOB}\nscrape_interval: {seconds}s\nmetrics_path: /metrics\nstatic_configs:\n- targets:\n  - {}\n",
            self.telemetry.instance
        );
        let name = JOB.to_owned();
        let itself = ScrapePool { name, yaml };
        let jobs = self.scraping.scrapes.jobs().into_iter().map(|job| ScrapePool {
            name: job.job_name.clone(),
            yaml: job.yaml.clone(),
        });
        std::iter::once(itself).chain(jobs).collect()
    }

    fn active(&self) -> Vec<Target> {
        let scraped = self.scraping.scrapes.active().into_iter().map(|t| self.scraped(t));
        std::iter::once(self.itself()).chain(scraped).collect()
    }

    fn dropped(&self) -> Vec<DroppedTarget> {
        let jobs = self.scraping.scrapes.dropped().into_iter();
        jobs.flat_map(|(pool, dropped, _)| {
            dropped.into_iter().map(move |discovered| DroppedTarget {
                pool: pool.clone(),
                discovered,
            })
        })
        .collect()
    }

    fn dropped_counts(&self) -> Vec<(String, u64)> {
        let jobs = self.scraping.scrapes.dropped().into_iter();
        let counts = jobs.map(|(pool, _, count)| (pool, count as u64));
        std::iter::once((JOB.to_owned(), 0)).chain(counts).collect()
    }

    fn relabel_steps(&self, pool: &str, labels: &[(String, String)]) -> Option<Vec<RelabelStep>> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in labels {
            builder.set(name.as_str(), value.as_str());
        }
        match self.scraping.scrapes.relabel_steps(pool, builder) {
            Some(steps) => Some(steps.into_iter().map(step).collect()),
            None => (pool == JOB).then(Vec::new),
        }
    }

    fn alertmanagers(&self) -> (Vec<String>, Vec<String>) {
        self.scraping.notifier.alertmanagers()
    }

    fn config_yaml(&self) -> Option<String> {
        self.scraping.yaml()
    }

    fn last_reload(&self) -> Option<Reload> {
        self.scraping.last_reload()
    }

    fn metadata(&self, target: &Target) -> Vec<(String, MetricMetadata)> {
        if target.pool == JOB && target.url == self.itself().url {
            return self.telemetry.metadata();
        }
        self.scraping
            .scrapes
            .families(&target.pool, &target.labels, &target.url)
    }

    fn own(&self) -> Vec<OwnFamily> {
        self.telemetry.families()
    }
}

fn step((rule, output, keep): (RelabelRule, LabelSet, bool)) -> RelabelStep {
    let members = rule.to_members().into_iter().map(|(name, field)| {
        let value = match field {
            RuleField::Text(text) => Value::from(text),
            RuleField::Texts(texts) => Value::from(texts.to_vec()),
            RuleField::Number(n) => Value::from(n),
        };
        (name.to_owned(), value)
    });
    RelabelStep {
        rule: Value::Object(members.collect()).to_string(),
        output,
        keep,
    }
}
