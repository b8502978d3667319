//! The ruler: which groups are in force, which are due, and what they last did.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use model::{LabelSet, SampleBatch, TimestampMs, stale_nan};
use parking_lot::Mutex;
use query_exec::Context;
use storage::Storage;
use tokio::sync::watch;

use crate::evaluate::{Surroundings, evaluate};
use crate::file::Fault;
use crate::group::{Group, Origin};
use crate::lanes::Lanes;
use crate::live::{GroupKey, LiveGroup};
use crate::schedule::Due;
use crate::status::{AlertStatus, Counters, GroupStatus, Health};
use crate::{Notify, Settings};

/// How soon to look again at what is due but not over yet, ms.
const LOOK_AGAIN_MS: i64 = 50;
/// A group whose last evaluation took longer than this is slow, seconds.
const SLOW_S: f64 = 1.0;

/// Evaluates rules; cloning shares it.
#[derive(Clone)]
pub struct Ruler {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<Storage>,
    settings: Mutex<Arc<Settings>>,
    notify: Arc<dyn Notify>,
    groups: Mutex<Arc<[Arc<LiveGroup>]>>,
    /// One change of groups at a time; whether there was one.
    loading: Mutex<bool>,
    lanes: Lanes,
    leaving: Mutex<Vec<Leaving>>,
    counters: Mutex<Counters>,
    /// Evaluations that wait, run, or are not durable yet.
    running: watch::Sender<u64>,
}

/// Series of a group that is gone, to be ended when nobody has taken them over.
struct Leaving {
    look_at_ms: i64,
    ended_at: TimestampMs,
    series: Vec<LabelSet>,
}

impl Ruler {
    /// Without groups. Results go into `storage`, alerts to `notify`.
    pub fn new(storage: Arc<Storage>, settings: Settings, notify: Arc<dyn Notify>) -> Ruler {
        let inner = Inner {
            storage,
            lanes: Lanes::new(settings.concurrency),
            settings: Mutex::new(Arc::new(settings)),
            notify,
            groups: Mutex::new(Arc::new([])),
            loading: Mutex::new(false),
            leaving: Mutex::default(),
            counters: Mutex::default(),
            running: watch::Sender::new(0),
        };
        Ruler { inner: Arc::new(inner) }
    }

    /// Other settings from the next evaluations on (but for the concurrency); call [`Ruler::load`] afterwards.
    pub fn configure(&self, settings: Settings) {
        *self.inner.settings.lock() = Arc::new(settings);
    }

    /// Puts these groups in force instead of those before. Groups that stay as they are keep their state and times; of
    /// groups that changed, rules keep theirs by name and labels; series of what is gone end. Waits for groups that end
    /// and are being evaluated, which is cancelled: not to be called where tasks run. Of several groups of one name in a file
    /// the first counts.
    pub fn load(&self, groups: Vec<Group>, now_ms: i64) {
        let inner = &*self.inner;
        let mut was_loaded = inner.loading.lock();
        let settings = inner.settings();
        let restore = settings.restore && !std::mem::replace(&mut *was_loaded, true);
        let before = inner.groups();
        let mut old: HashMap<GroupKey, &Arc<LiveGroup>> = HashMap::with_capacity(before.len());
        for group in before.iter() {
            old.insert(GroupKey::of(&group.config), group);
        }
        let mut live = Vec::with_capacity(groups.len());
        let mut known = HashSet::with_capacity(groups.len());
        for config in groups {
            if !known.insert(GroupKey::of(&config)) {
                // It may be bad in one place and good in another: what can be read goes first.
                continue;
            }
            let was = old.remove(&GroupKey::of(&config));
            if let Some(same) = was.filter(|was| was.is_same(&config, &settings)) {
                live.push(same.clone());
                continue;
            }
            let (file, name) = (config.file.clone(), config.name.clone());
            match LiveGroup::new(config, &settings, now_ms, restore) {
                Ok(group) => {
                    if let Some(was) = was {
                        was.stop();
                        group.inherit(was);
                    }
                    live.push(Arc::new(group));
                }
                Err(why) => {
                    // Who reads files has checked it; what runs goes on.
                    tracing::error!(%file, group = name, why, "a group cannot be put in force");
                    live.extend(was.cloned());
                }
            }
        }
        for gone in old.into_values() {
            gone.stop();
            let offset_ms = gone.config.query_offset_ms.unwrap_or(settings.query_offset_ms);
            let series = gone.take_series();
            if !series.is_empty() {
                inner.leaving.lock().push(Leaving {
                    // A renamed group may take them over until then.
                    look_at_ms: now_ms.saturating_add(2 * gone.interval_ms),
                    ended_at: TimestampMs(now_ms.saturating_sub(offset_ms)),
                    series,
                });
            }
        }
        *inner.groups.lock() = live.into();
    }

    /// The groups in force that these faults concern: of a group that is bad now, or of a file that cannot be read, what
    /// ran before may be kept in force.
    pub fn standing_in(&self, faults: &[Fault]) -> Vec<Group> {
        let groups = self.inner.groups();
        let concerned = groups.iter().map(|group| &*group.config).filter(|group| {
            group.origin == Origin::File
                && faults.iter().any(|fault| {
                    !fault.is_warning
                        // A folder that cannot be listed concerns every file in it.
                        && Path::new(&*group.file).starts_with(&*fault.file)
                        && fault.group.as_ref().is_none_or(|name| *name == group.name)
                })
        });
        concerned.cloned().collect()
    }

    /// Starts the evaluation of what is due and does not wait for it. Says when it wants to be called again, ms. To be
    /// called within a tokio runtime.
    pub fn tick(&self, now_ms: i64) -> i64 {
        self.end_what_left(now_ms);
        let mut next_ms = i64::MAX;
        for group in self.inner.groups().iter() {
            let mut schedule = group.schedule.lock();
            if group.is_busy.load(Ordering::Acquire) {
                next_ms = next_ms.min(schedule.next_ms().max(now_ms.saturating_add(LOOK_AGAIN_MS)));
                continue;
            }
            if let Some(due) = schedule.due(now_ms) {
                {
                    let mut figures = group.figures.lock();
                    figures.iterations += 1 + due.missed;
                    figures.missed += due.missed;
                }
                let busy = Busy::new(&self.inner, group);
                let (inner, group) = (self.inner.clone(), group.clone());
                tokio::spawn(async move {
                    inner.evaluate(&group, due, now_ms).await;
                    drop(busy);
                });
            }
            next_ms = next_ms.min(schedule.next_ms());
        }
        next_ms
    }

    /// Evaluates every group at exactly this instant, one after another in the order they were loaded, and waits for
    /// it: for unit tests of rules, which let no time pass.
    pub async fn evaluate_all(&self, at_ms: i64) {
        for group in self.inner.groups().iter() {
            group.figures.lock().iterations += 1;
            let _busy = Busy::new(&self.inner, group);
            let due = Due { at_ms, missed: 0 };
            self.inner.evaluate(group, due, at_ms).await;
        }
    }

    /// Returns when no evaluation that was started is under way any more.
    pub async fn settle(&self) {
        let mut running = self.inner.running.subscribe();
        let _ = running.wait_for(|n| *n == 0).await;
    }

    /// Ends all groups; what runs is cancelled, and over when this returns.
    pub async fn stop(&self) {
        for group in self.inner.groups().iter() {
            group.is_stopped.store(true, Ordering::SeqCst);
            if let Some(context) = &*group.context.lock() {
                context.cancel();
            }
        }
        self.settle().await;
    }

    /// Every group in the order loaded.
    pub fn groups(&self) -> Vec<GroupStatus> {
        let settings = self.inner.settings();
        let groups = self.inner.groups();
        groups.iter().map(|group| group.status(&settings)).collect()
    }

    /// Every pending or firing alert, in the order of groups and rules.
    pub fn alerts(&self) -> Vec<AlertStatus> {
        let groups = self.groups().into_iter();
        groups.flat_map(|g| g.rules).flat_map(|r| r.alerts).collect()
    }

    /// Counters since start.
    pub fn counters(&self) -> Counters {
        let mut counters = *self.inner.counters.lock();
        counters.running = *self.inner.running.borrow();
        counters
    }

    fn end_what_left(&self, now_ms: i64) {
        let mut leaving = self.inner.leaving.lock();
        let due: Vec<Leaving> = leaving.extract_if(.., |l| l.look_at_ms <= now_ms).collect();
        drop(leaving);
        if due.is_empty() {
            return;
        }
        // Who has taken them over goes through the shorter of both lists.
        let mut gone: HashMap<LabelSet, TimestampMs> = HashMap::new();
        for left in due {
            gone.extend(left.series.into_iter().map(|labels| (labels, left.ended_at)));
        }
        for rule in self.inner.groups().iter().flat_map(|group| &group.rules) {
            let written = rule.written.lock();
            if written.len() < gone.len() {
                for labels in written.iter() {
                    gone.remove(labels);
                }
            } else {
                gone.retain(|labels, _| !written.contains(labels));
            }
        }
        let mut batch = SampleBatch::default();
        for (labels, ended_at) in &gone {
            let ix = batch.series_of(labels);
            batch.sample(ix, *ended_at, stale_nan());
        }
        if batch.is_empty() {
            return;
        }
        let (inner, busy) = (self.inner.clone(), Running::new(&self.inner));
        tokio::spawn(async move {
            if let Err(e) = inner.storage.append_samples(&batch).await {
                tracing::warn!(error = %e, "series of groups that are gone were not ended");
            }
            drop(busy);
        });
    }
}

impl Inner {
    fn settings(&self) -> Arc<Settings> {
        self.settings.lock().clone()
    }

    fn groups(&self) -> Arc<[Arc<LiveGroup>]> {
        self.groups.lock().clone()
    }

    async fn evaluate(&self, group: &Arc<LiveGroup>, due: Due, now_ms: i64) {
        let is_slow = group.figures.lock().evaluation_time_s > SLOW_S;
        let lane = self.lanes.take(is_slow).await;
        let Some(pool) = lane.pool() else { return };
        let since = Instant::now();
        let settings = self.settings();
        let context = Context::new(settings.timeout, settings.limits);
        let around = Surroundings {
            storage: self.storage.clone(),
            settings,
            notify: self.notify.clone(),
        };
        let inside = group.clone();
        let result = pool
            .run(&context, move || evaluate(&inside, due, now_ms, &around))
            .await;
        drop(lane);
        let done = match result {
            Ok(done) => done,
            Err(panic) => {
                tracing::error!(
                    group = group.config.name,
                    panic,
                    "the evaluation of a group ended in a bug"
                );
                return;
            }
        };
        {
            let mut counters = self.counters.lock();
            counters.group_evaluations += 1;
            counters.group_seconds += since.elapsed().as_secs_f64();
            counters.rule_evaluations += done.rules;
            counters.rule_seconds += done.rules_s;
            counters.samples_written += done.samples;
        }
        let Some(place) = done.place else { return };
        if let Err(e) = self.storage.durable_samples(place).await {
            let why = e.to_string();
            tracing::warn!(group = group.config.name, why, "results of rules were not stored");
            group.figures.lock().failures += done.wrote.len() as u64;
            for index in done.wrote {
                let mut state = group.rules[index].state.lock();
                state.health = Health::Err;
                state.last_error = Some(why.clone());
            }
        }
    }
}

/// While it lives, something runs.
struct Running {
    inner: Arc<Inner>,
}

impl Running {
    fn new(inner: &Arc<Inner>) -> Running {
        inner.running.send_modify(|n| *n += 1);
        Running { inner: inner.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.running.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// While it lives, a group is busy.
struct Busy {
    group: Arc<LiveGroup>,
    _running: Running,
}

impl Busy {
    fn new(inner: &Arc<Inner>, group: &Arc<LiveGroup>) -> Busy {
        group.is_busy.store(true, Ordering::Release);
        Busy {
            group: group.clone(),
            _running: Running::new(inner),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.group.is_busy.store(false, Ordering::Release);
    }
}
