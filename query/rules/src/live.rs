//! A group in force: its rules ready to run, and what they remember from one evaluation to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use hashbrown::HashSet;
use model::{LabelSet, METRIC_NAME};
use parking_lot::Mutex;
use query_exec::Context;

use crate::Settings;
use crate::alert::{Alerts, Policy};
use crate::expression::Expression;
use crate::group::{Group, Origin, Rule, RuleKind};
use crate::schedule::Schedule;
use crate::status::{AlertStatus, GroupStatus, Health, RuleStatus};
use crate::templates::Template;

/// Evaluations before alerts go on where an earlier process left them: in the first one, what they depend on may not be
/// there yet.
const EVALUATIONS_BEFORE_RESTORE: u8 = 2;

/// A group in force.
pub(crate) struct LiveGroup {
    pub config: Arc<Group>,
    /// With the default filled in.
    pub interval_ms: i64,
    pub rules: Vec<LiveRule>,
    pub schedule: Mutex<Schedule>,
    pub figures: Mutex<Figures>,
    /// An evaluation waits, runs, or is not durable yet.
    pub is_busy: AtomicBool,
    /// It is in force no more.
    pub is_stopped: AtomicBool,
    /// Held while rules run: whoever has it may look at what they remember.
    pub turn: Mutex<()>,
    /// What the rule that runs can be cancelled by.
    pub context: Mutex<Option<Context>>,
    /// Evaluations until alerts go on where an earlier process left them; 0: they have.
    pub until_restore: AtomicU8,
    /// Series of rules that are gone, to be ended with the next evaluation.
    pub leftovers: Mutex<Vec<LabelSet>>,
}

/// A rule of it.
pub(crate) struct LiveRule {
    pub expression: Expression,
    /// In canonical form.
    pub query: Arc<str>,
    /// As configured, the group's included, sorted by name.
    pub labels: Vec<(String, String)>,
    pub work: Work,
    pub state: Mutex<RuleState>,
    /// The series that the last evaluation wrote.
    pub written: Mutex<HashSet<LabelSet>>,
}

/// What becomes of its result.
pub(crate) enum Work {
    /// The labels of what is recorded, the name among them, sorted.
    Record(Vec<(String, String)>),
    Alert(AlertWork),
}

/// An alerting rule.
pub(crate) struct AlertWork {
    pub name: String,
    pub policy: Policy,
    /// Sorted by name.
    pub labels: Vec<(String, Text)>,
    /// Sorted by name.
    pub annotations: Vec<(String, Text)>,
}

/// A text that may have to be expanded.
pub(crate) enum Text {
    Plain(String),
    Template(Box<Template>),
}

/// What the APIs are told of a rule, and its alerts.
#[derive(Default)]
pub(crate) struct RuleState {
    pub health: Health,
    pub last_error: Option<String>,
    pub evaluation_time_s: f64,
    pub last_evaluation_ms: Option<i64>,
    pub alerts: Alerts,
}

/// What is counted of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub evaluation_time_s: f64,
    pub rules_time_s: f64,
    pub last_evaluation_ms: Option<i64>,
    pub last_samples: u64,
    pub iterations: u64,
    pub missed: u64,
    pub evaluations: u64,
    pub failures: u64,
    pub restore_time_s: Option<f64>,
}

/// What tells groups apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    origin: Origin,
    file: Arc<str>,
    name: String,
}

impl GroupKey {
    pub fn of(group: &Group) -> GroupKey {
        GroupKey {
            origin: group.origin.clone(),
            file: group.file.clone(),
            name: group.name.clone(),
        }
    }
}

impl LiveGroup {
    /// Ready to run from the first instant after `now_ms`. The error says which rule cannot be.
    pub fn new(config: Group, settings: &Settings, now_ms: i64, restore: bool) -> Result<LiveGroup, String> {
        let interval_ms = interval_of(&config, settings);
        let rules: Result<Vec<LiveRule>, String> = (config.rules.iter())
            .map(|rule| LiveRule::new(&config, rule).map_err(|why| format!("rule {:?}: {why}", rule.name())))
            .collect();
        Ok(LiveGroup {
            interval_ms,
            rules: rules?,
            schedule: Mutex::new(Schedule::new(&config.file, &config.name, interval_ms, now_ms)),
            figures: Mutex::default(),
            is_busy: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            turn: Mutex::new(()),
            context: Mutex::new(None),
            until_restore: AtomicU8::new(if restore { EVALUATIONS_BEFORE_RESTORE } else { 0 }),
            leftovers: Mutex::default(),
            config: Arc::new(config),
        })
    }

    /// Whether it would be the same under these settings.
    pub fn is_same(&self, config: &Group, settings: &Settings) -> bool {
        self.config.says_the_same(config) && self.interval_ms == interval_of(config, settings)
    }

    /// Ends it: what runs is cancelled, and over when this returns.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(context) = &*self.context.lock() {
            context.cancel();
        }
        drop(self.turn.lock());
    }

    /// From now on, [`LiveGroup::stop`] cancels what runs under this; at once if it was called already.
    pub fn can_be_cancelled_by(&self, context: &Context) {
        *self.context.lock() = Some(context.clone());
        if self.is_stopped.load(Ordering::SeqCst) {
            context.cancel();
        }
    }

    /// Whether series and alerts may be written: not before it is known how long alerts had been active.
    pub fn is_restored(&self) -> bool {
        self.until_restore.load(Ordering::Relaxed) == 0
    }

    /// Takes over what a stopped group of the same name remembers: each rule from the one with its name and labels.
    pub fn inherit(&self, old: &LiveGroup) {
        *self.figures.lock() = *old.figures.lock();
        self.until_restore
            .store(old.until_restore.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut heirs: HashMap<_, VecDeque<&LiveRule>> = HashMap::new();
        for (rule, config) in self.rules.iter().zip(&self.config.rules) {
            let key = (config.is_alerting(), config.name(), &rule.labels);
            heirs.entry(key).or_default().push_back(rule);
        }
        let mut leftovers = std::mem::take(&mut *old.leftovers.lock());
        for (rule, config) in old.rules.iter().zip(&old.config.rules) {
            let key = (config.is_alerting(), config.name(), &rule.labels);
            let written = std::mem::take(&mut *rule.written.lock());
            match heirs.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(heir) => {
                    *heir.written.lock() = written;
                    let (mut state, was) = (heir.state.lock(), rule.state.lock());
                    state.alerts = was.alerts.clone();
                    if heir.query == rule.query {
                        state.health = was.health;
                        state.last_error = was.last_error.clone();
                        state.evaluation_time_s = was.evaluation_time_s;
                        state.last_evaluation_ms = was.last_evaluation_ms;
                    }
                }
                None => leftovers.extend(written),
            }
        }
        *self.leftovers.lock() = leftovers;
    }

    /// Every series it has written last and not ended.
    pub fn take_series(&self) -> Vec<LabelSet> {
        let mut series = std::mem::take(&mut *self.leftovers.lock());
        for rule in &self.rules {
            series.extend(std::mem::take(&mut *rule.written.lock()));
        }
        series
    }

    /// For the APIs.
    pub fn status(&self, settings: &Settings) -> GroupStatus {
        let figures = *self.figures.lock();
        GroupStatus {
            group: self.config.clone(),
            interval_ms: self.interval_ms,
            query_offset_ms: self.config.query_offset_ms.unwrap_or(settings.query_offset_ms),
            evaluation_time_s: figures.evaluation_time_s,
            rules_time_s: figures.rules_time_s,
            last_evaluation_ms: figures.last_evaluation_ms,
            last_samples: figures.last_samples,
            iterations: figures.iterations,
            missed: figures.missed,
            evaluations: figures.evaluations,
            failures: figures.failures,
            restore_time_s: figures.restore_time_s,
            rules: (self.rules.iter().enumerate())
                .map(|(index, rule)| rule.status(self.config.clone(), index))
                .collect(),
        }
    }
}

impl LiveRule {
    fn new(group: &Group, rule: &Rule) -> Result<LiveRule, String> {
        let expression = Expression::parse(group.dialect, &rule.expr)?;
        let labels = group.labels_of(rule);
        let work = match &rule.kind {
            RuleKind::Recording { record } => {
                let mut over = labels.clone();
                over.push((METRIC_NAME.to_owned(), record.clone()));
                over.sort();
                Work::Record(over)
            }
            RuleKind::Alerting {
                alert,
                for_ms,
                keep_firing_for_ms,
                annotations,
            } => {
                let name = format!("__alert_{alert}");
                let texts = |pairs: &[(String, String)]| {
                    let mut texts = Vec::with_capacity(pairs.len());
                    for (n, text) in pairs {
                        texts.push((n.clone(), Text::parse(&name, text)?));
                    }
                    texts.sort_by(|(a, _), (b, _)| a.cmp(b));
                    Ok::<_, String>(texts)
                };
                Work::Alert(AlertWork {
                    name: alert.clone(),
                    policy: Policy {
                        for_ms: *for_ms,
                        keep_firing_for_ms: *keep_firing_for_ms,
                        limit: group.limit,
                    },
                    labels: texts(&labels)?,
                    annotations: texts(annotations)?,
                })
            }
        };
        Ok(LiveRule {
            query: expression.canonical().into(),
            expression,
            labels,
            work,
            state: Mutex::default(),
            written: Mutex::default(),
        })
    }

    fn status(&self, group: Arc<Group>, index: usize) -> RuleStatus {
        let state = self.state.lock();
        let is_alerting = matches!(self.work, Work::Alert(_));
        let alerts = state.alerts.active().map(|(labels, alert)| AlertStatus {
            labels: labels.clone(),
            annotations: alert.annotations.clone(),
            state: alert.state,
            active_at_ms: alert.active_at_ms,
            keep_firing_since_ms: alert.keep_firing_since_ms,
            value: alert.value,
        });
        RuleStatus {
            group,
            index,
            query: self.query.clone(),
            labels: self.labels.clone(),
            health: state.health,
            last_error: state.last_error.clone(),
            evaluation_time_s: state.evaluation_time_s,
            last_evaluation_ms: state.last_evaluation_ms,
            state: (is_alerting && state.last_evaluation_ms.is_some()).then(|| state.alerts.state()),
            alerts: alerts.collect(),
        }
    }
}

impl Text {
    fn parse(name: &str, text: &str) -> Result<Text, String> {
        if text.contains("{{") {
            Ok(Text::Template(Box::new(Template::parse(name, text)?)))
        } else {
            Ok(Text::Plain(text.to_owned()))
        }
    }
}

impl AlertWork {
    /// Whether an alert's state is worth restoring.
    pub fn may_go_on(&self, settings: &Settings) -> bool {
        self.policy.for_ms >= settings.for_grace_period_ms
    }
}

fn interval_of(config: &Group, settings: &Settings) -> i64 {
    config.interval_ms.unwrap_or(settings.evaluation_interval_ms).max(1)
}
