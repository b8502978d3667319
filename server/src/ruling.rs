//! Rules in force: read at start, on SIGHUP and on request, handed to the ruler; and the timer that lets it work.
//!
//! A group that became bad, or a file that cannot be read any more, leaves in force what ran before, and says so in the
//! log and in the answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_config::PrometheusConfig;
use query_rules::{Group, GroupError, GroupStatus, KeptGroups, Notify, Origin, Ruler};
use storage::Storage;
use tokio::sync::watch;
use ui_api::Rules;

use crate::rule_files;
use crate::settings::Settings;

/// Longest time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);

/// The ruler, and what it is configured with.
pub struct Ruling {
    /// The ruler at work.
    pub ruler: Ruler,
    storage: Arc<Storage>,
    dir: Option<PathBuf>,
    /// What does not depend on the prometheus.yml.
    base: query_rules::Settings,
    /// Groups that are in no file.
    made: KeptGroups,
    /// Held while groups are put in force, so that files and API do not undo each other's.
    loading: Mutex<()>,
}

impl Ruling {
    /// Without groups before [`Ruling::apply`]. `external_url` is where people reach this process if no setting says it.
    pub fn new(settings: &Settings, storage: Arc<Storage>, external_url: String, notify: Arc<dyn Notify>) -> Ruling {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let url = settings.web_external_url.clone().unwrap_or(external_url);
        let base = query_rules::Settings {
            external_url: url.trim_end_matches('/').to_owned(),
            for_outage_tolerance_ms: ms(settings.rules_for_outage_tolerance),
            for_grace_period_ms: ms(settings.rules_for_grace_period),
            resend_delay_ms: ms(settings.rules_resend_delay),
            concurrency: match settings.rules_max_concurrent {
                0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
                n => n,
            },
            timeout: settings.query_timeout,
            promql: settings.promql,
            ..query_rules::Settings::default()
        };
        let (made, faults) = KeptGroups::open(storage.clone());
        for fault in faults {
            tracing::error!("rule groups made over the Loki API: {fault}");
        }
        Ruling {
            ruler: Ruler::new(storage.clone(), base.clone(), notify),
            storage,
            dir: settings.rules_dir.clone(),
            base,
            made,
            loading: Mutex::default(),
        }
    }

    /// Reads the rule files and puts their groups in force; the error says all that is wrong with them. Waits for rules
    /// that end: not to be called where tasks run.
    pub fn apply(&self, config: &PrometheusConfig) -> Result<(), String> {
        let read = rule_files::read_all(&config.rule_files, self.dir.as_deref());
        for fault in &read.faults {
            if fault.is_warning {
                tracing::warn!("{fault}");
            } else {
                tracing::error!("{fault}");
            }
        }
        let errors = read.errors();
        let kept = self.ruler.standing_in(&read.faults);
        if !kept.is_empty() {
            let names: Vec<&str> = kept.iter().map(|group| group.name.as_str()).collect();
            tracing::warn!(
                groups = names.join(", "),
                "of rules that are bad now, those before stay in force"
            );
        }
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        self.ruler.configure(query_rules::Settings {
            evaluation_interval_ms: ms(config.global.evaluation_interval),
            query_offset_ms: ms(config.global.rule_query_offset),
            external_labels: config.global.external_labels.clone(),
            ..self.base.clone()
        });
        let groups: Vec<Group> = read.groups.into_iter().chain(kept).collect();
        if !groups.is_empty() {
            let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
            tracing::info!(files = read.files, groups = groups.len(), rules, "rules read");
        }
        let one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_in_force(groups);
        drop(one);
        match errors {
            None => Ok(()),
            Some(errors) => Err(errors),
        }
    }

    /// Puts in force what was made over the API, beside the groups of files.
    fn apply_made(&self) {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let statuses = self.ruler.groups().into_iter();
        let of_files = statuses.filter(|status| status.group.origin == Origin::File);
        let of_files = of_files.map(|status| Group::clone(&status.group)).collect();
        self.put_in_force(of_files);
    }

    fn put_in_force(&self, mut groups: Vec<Group>) {
        groups.extend(self.made.all());
        self.ruler.load(groups, self.now_ms());
    }

    /// Lets time pass for the ruler until the process is to stop; then what runs is ended.
    pub async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        loop {
            let now_ms = self.now_ms();
            let next_ms = self.ruler.tick(now_ms).saturating_sub(now_ms).max(1);
            let wait = Duration::from_millis(next_ms.unsigned_abs()).min(LOOK);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopping.wait_for(|s| *s) => break,
            }
        }
        self.ruler.stop().await;
    }

    fn now_ms(&self) -> i64 {
        self.storage.now().floor_ms().0
    }
}

impl Rules for Ruling {
    fn groups(&self) -> Vec<GroupStatus> {
        self.ruler.groups()
    }

    fn made(&self) -> Vec<Group> {
        self.made.all()
    }

    fn make(&self, namespace: &str, yaml: &str) -> Result<(), GroupError> {
        self.made.set(namespace, yaml)?;
        self.apply_made();
        Ok(())
    }

    fn unmake(&self, namespace: &str, name: Option<&str>) -> Result<bool, GroupError> {
        let was_there = self.made.remove(namespace, name)?;
        if was_there {
            self.apply_made();
        }
        Ok(was_there)
    }
}
