//! The `prometheus.yml` in force: read at start, on SIGHUP and on request, and handed to whom it concerns.
//!
//! A file that cannot be used leaves the one before in force, and says so in the log, in the answer and in
//! `prometheus_config_last_reload_successful`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ingest::{ScrapeStats, Scrapes};
use model::{LabelSet, TimestampMs};
use notifier::Notifier;
use prometheus_config::PrometheusConfig;
use ui_api::Reload;

use crate::machine;
use crate::ruling::Ruling;
use crate::settings::{Settings, read_prometheus};

/// Scraping, and what it is configured with.
pub struct Scraping {
    /// The jobs at work.
    pub scrapes: Scrapes,
    /// What tells this server from others, for the APIs.
    pub external_labels: Arc<RwLock<LabelSet>>,
    /// Whether `/-/reload` may be asked.
    pub over_http: bool,
    /// The rules, which depend on the file too.
    pub ruling: Arc<Ruling>,
    /// Who is told of alerts.
    pub notifier: Notifier,
    path: Option<PathBuf>,
    in_force: Mutex<InForce>,
}

struct InForce {
    yaml: String,
    otlp: Vec<(String, String)>,
    reload: Reload,
}

impl Scraping {
    /// Of what the settings have read; nothing is scraped before [`Scraping::start`].
    pub fn new(settings: &Settings, scrapes: Scrapes, ruling: Arc<Ruling>, notifier: Notifier) -> Scraping {
        let config = &settings.prometheus;
        Scraping {
            scrapes,
            external_labels: Arc::new(RwLock::new(external_labels(config))),
            over_http: settings.enable_lifecycle,
            ruling,
            notifier,
            path: settings.prometheus_config.clone(),
            in_force: Mutex::new(InForce {
                yaml: config.yaml.clone(),
                otlp: otlp(config),
                reload: Reload {
                    success: true,
                    last_success: now(),
                },
            }),
        }
    }

    /// Begins to scrape and to tell of alerts, and puts the rules in force.
    pub fn start(&self, config: &PrometheusConfig) {
        self.scrapes.apply(config);
        self.notifier.apply(config);
        let rules = self.ruling.apply(config);
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        in_force.reload.success = rules.is_ok();
    }

    /// Reads the file and the rule files again; the error says all that is wrong with them.
    pub fn reload(&self) -> Result<(), String> {
        let Some(path) = &self.path else {
            return self.ruling.apply(&PrometheusConfig::default());
        };
        let env = |name: &str| std::env::var(name).ok();
        let read = std::fs::read_to_string(path)
            .map_err(|e| format!("{}: {e}", path.display()))
            .and_then(|text| read_prometheus(path, &text, &env));
        // Rules that end are waited for, so nobody else is kept from asking meanwhile.
        let in_force = || self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok((config, warnings)) => {
                for why in warnings {
                    tracing::warn!("{why}");
                }
                if in_force().otlp != otlp(&config) {
                    tracing::warn!(
                        "{}: the section otlp has changed; it is read at start only",
                        path.display()
                    );
                }
                *self.external_labels.write().unwrap_or_else(PoisonError::into_inner) = external_labels(&config);
                self.scrapes.apply(&config);
                self.notifier.apply(&config);
                let rules = self.ruling.apply(&config);
                let mut in_force = in_force();
                in_force.yaml = config.yaml;
                in_force.reload.success = rules.is_ok();
                if rules.is_ok() {
                    in_force.reload.last_success = now();
                }
                tracing::info!(path = %path.display(), "configuration read");
                rules
            }
            Err(why) => {
                in_force().reload.success = false;
                tracing::error!("the configuration before stays in force: {why}");
                Err(why)
            }
        }
    }

    /// As YAML; `None`: there is no file.
    pub fn yaml(&self) -> Option<String> {
        self.path.as_ref()?;
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        Some(in_force.yaml.clone())
    }

    /// How the last reading went; `None`: there is no file.
    pub fn last_reload(&self) -> Option<Reload> {
        self.path.as_ref()?;
        Some(self.in_force.lock().unwrap_or_else(PoisonError::into_inner).reload)
    }

    /// Counters.
    pub fn stats(&self) -> ScrapeStats {
        self.scrapes.stats()
    }
}

fn external_labels(config: &PrometheusConfig) -> LabelSet {
    LabelSet::from_pairs(config.global.external_labels.iter().map(|(n, v)| (n, v)))
}

fn otlp(config: &PrometheusConfig) -> Vec<(String, String)> {
    config
        .otlp
        .iter()
        .map(|(name, value, _)| (name.clone(), value.clone()))
        .collect()
}

fn now() -> TimestampMs {
    TimestampMs(machine::now_ns().div_euclid(1_000_000))
}
