//! Recording and alerting rules, on time that is handed in: expressions over metrics (PromQL) and logs (LogQL), whose results
//! become series of the metrics engine and alerts.
//!
//! [`read_groups`] makes [`Group`]s of a file, strictly, and says of every fault where it is; one bad group never takes
//! good ones down. [`Ruler::load`] puts groups in force and keeps the state of those that stay. [`Ruler::tick`] starts what
//! is due; a group's rules run one after another, groups run beside each other in a bounded number of places. An
//! alert's life is decided in `alert.rs`, when a group is due in `schedule.rs`: both without clock and storage.
//!
//! Not here: who is told of alerts (a [`Notify`] of the server's), files and clock (`server`), HTTP (`ui-api`).

mod alert;
mod evaluate;
mod expression;
mod file;
mod group;
mod kept_groups;
mod lanes;
mod link;
mod live;
pub mod notation;
mod overlay;
mod restore;
mod ruler;
mod schedule;
mod status;
mod template_functions;
mod templates;
pub mod test;

pub use file::{Fault, dialect_of, read_group, read_groups};
pub use group::{Dialect, Group, Origin, Rule, RuleKind};
pub use kept_groups::{GroupError, KeptGroups};
pub use ruler::Ruler;
pub use status::{AlertState, AlertStatus, Counters, GroupStatus, Health, RuleStatus};
pub use template_functions::template_function_names;
pub use templates::{Template, TemplateData, TemplateSample, TemplateValue};

use std::time::Duration;

/// How rules are evaluated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two evaluations of groups that do not say, ms.
    pub evaluation_interval_ms: i64,
    /// How far behind the moment rules of groups look that do not say, ms.
    pub query_offset_ms: i64,
    /// Labels that tell this server from others, for templates.
    pub external_labels: Vec<(String, String)>,
    /// Where people reach this server, for templates and links; without a slash at its end.
    pub external_url: String,
    /// How long an outage may last for alerts to go on where they were, ms.
    pub for_outage_tolerance_ms: i64,
    /// Least time from a restart until an alert fires that was pending before, ms; alerts with a shorter `for` start anew.
    pub for_grace_period_ms: i64,
    /// Least time between two notifications of one alert, ms.
    pub resend_delay_ms: i64,
    /// Whether alerts go on where an earlier process left them.
    pub restore: bool,
    /// Groups that are evaluated at once.
    pub concurrency: usize,
    /// Longest evaluation of an expression.
    pub timeout: Duration,
    /// Limits of one evaluation.
    pub limits: query_exec::Limits,
    /// How PromQL is evaluated.
    pub promql: query_promql::Options,
}

impl Default for Settings {
    /// As Prometheus does when nothing is configured.
    fn default() -> Settings {
        Settings {
            evaluation_interval_ms: 60_000,
            query_offset_ms: 0,
            external_labels: Vec::new(),
            external_url: String::new(),
            for_outage_tolerance_ms: 3_600_000,
            for_grace_period_ms: 600_000,
            resend_delay_ms: 60_000,
            restore: true,
            concurrency: 4,
            timeout: Duration::from_secs(120),
            limits: query_exec::Limits {
                samples_max: 50_000_000,
                series_max: 200_000,
                bytes_max: 32 << 30,
            },
            promql: query_promql::Options::DEFAULT,
        }
    }
}

/// Who is told of alerts.
pub trait Notify: Send + Sync {
    /// Takes alerts to send; never blocks.
    fn notify(&self, alerts: Vec<OutgoingAlert>);
}

/// An alert as an Alertmanager is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingAlert {
    /// Its labels, sorted by name; external labels are not among them.
    pub labels: Vec<(String, String)>,
    /// Its annotations, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// When it began to fire, ms.
    pub starts_at_ms: i64,
    /// When it was resolved; while it fires, when it is to count as resolved if nothing more is heard. ms.
    pub ends_at_ms: i64,
    /// Where its expression can be seen.
    pub generator_url: String,
}
