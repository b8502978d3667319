//! What the ruler tells of itself: groups, rules and alerts as the APIs show them, and counters.

use std::sync::Arc;

use model::LabelSet;

use crate::group::{Group, Rule};

/// A group and how its last evaluation went.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// As configured.
    pub group: Arc<Group>,
    /// Between two evaluations, ms, the default filled in.
    pub interval_ms: i64,
    /// How far behind the moment its rules look, ms, the default filled in.
    pub query_offset_ms: i64,
    /// What its last evaluation took, seconds.
    pub evaluation_time_s: f64,
    /// What the rules of its last evaluation took together, seconds.
    pub rules_time_s: f64,
    /// When its last evaluation began, ms.
    pub last_evaluation_ms: Option<i64>,
    /// Samples of its last evaluation.
    pub last_samples: u64,
    /// Evaluations that were due, missed ones included.
    pub iterations: u64,
    /// Evaluations that were skipped because the one before was not over.
    pub missed: u64,
    /// Evaluations of rules.
    pub evaluations: u64,
    /// Evaluations of rules that failed.
    pub failures: u64,
    /// What it took to find out how long alerts had been active before the start, seconds.
    pub restore_time_s: Option<f64>,
    /// Its rules in order.
    pub rules: Vec<RuleStatus>,
}

/// A rule and how its last evaluation went.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// The group it is in.
    pub group: Arc<Group>,
    /// Its place in the group.
    pub index: usize,
    /// The expression in canonical form.
    pub query: Arc<str>,
    /// Its labels as configured, the group's included, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Whether the last evaluation went well.
    pub health: Health,
    /// Why not.
    pub last_error: Option<String>,
    /// What the last evaluation took, seconds.
    pub evaluation_time_s: f64,
    /// When the last evaluation began, ms.
    pub last_evaluation_ms: Option<i64>,
    /// The highest state of its alerts; `None`: it records, or was not evaluated yet.
    pub state: Option<AlertState>,
    /// Its pending and firing alerts, sorted by labels.
    pub alerts: Vec<AlertStatus>,
}

impl RuleStatus {
    /// As configured.
    pub fn rule(&self) -> &Rule {
        &self.group.rules[self.index]
    }
}

/// Whether a rule's last evaluation went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It was not evaluated yet.
    #[default]
    Unknown,
    /// It did.
    Ok,
    /// It did not.
    Err,
}

impl Health {
    /// `unknown`, `ok` or `err`.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Ok => "ok",
            Health::Err => "err",
        }
    }
}

/// What an alert is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertState {
    /// Nothing any more.
    Inactive,
    /// Waiting whether it lasts.
    Pending,
    /// Calling.
    Firing,
}

impl AlertState {
    /// `inactive`, `pending` or `firing`.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertStatus {
    /// Its labels, `alertname` included.
    pub labels: LabelSet,
    /// Its annotations, expanded, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// Pending or firing.
    pub state: AlertState,
    /// Since when the expression holds, ms.
    pub active_at_ms: i64,
    /// Since when it only fires because of `keep_firing_for`, ms.
    pub keep_firing_since_ms: Option<i64>,
    /// The expression's value; 0 for a native histogram.
    pub value: f64,
}

/// Counters since start; those by group are in [`GroupStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Evaluations of groups.
    pub group_evaluations: u64,
    /// Seconds they took.
    pub group_seconds: f64,
    /// Evaluations of rules.
    pub rule_evaluations: u64,
    /// Seconds they took.
    pub rule_seconds: f64,
    /// Samples written, staleness markers included.
    pub samples_written: u64,
    /// Groups that are evaluated now.
    pub running: u64,
}
