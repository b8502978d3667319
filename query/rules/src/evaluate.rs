//! One evaluation of a group: its rules one after another at one instant, so that each reads what those before it wrote.
//!
//! A rule's result becomes a batch of samples that queries see at once; the whole group waits for durability once, at
//! the end. Series that the evaluation before wrote and this one did not are ended with staleness markers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hashbrown::HashSet;
use model::{HistogramSample, LabelSet, METRIC_NAME, SampleBatch, TimestampMs, stale_nan};
use query_exec::Context;
use storage::{Lsn, Storage};

use crate::alert::{Alert, AlertSeries, Seen};
use crate::expression::{Element, ElementValue, query_for_template};
use crate::live::{AlertWork, LiveGroup, LiveRule, Text, Work};
use crate::overlay::overlay;
use crate::restore;
use crate::schedule::Due;
use crate::status::Health;
use crate::templates::{TemplateData, TemplateValue};
use crate::{Notify, OutgoingAlert, Settings, link};

/// `ALERTS` says which alerts there are, `ALERTS_FOR_STATE` since when.
const ALERTS: &str = "ALERTS";
pub(crate) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";

const SAME_RECORDINGS: &str = "vector contains metrics with the same labelset after applying rule labels";
const SAME_ALERTS: &str = "vector contains metrics with the same labelset after applying alert labels";

/// What an evaluation needs.
pub(crate) struct Surroundings {
    pub storage: Arc<Storage>,
    pub settings: Arc<Settings>,
    pub notify: Arc<dyn Notify>,
}

/// What an evaluation has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evaluated {
    /// When this place is durable, all of it is; `None`: nothing was written.
    pub place: Option<Lsn>,
    /// Places of the rules that wrote.
    pub wrote: Vec<usize>,
    /// Samples written, staleness markers included.
    pub samples: u64,
    /// Rules that ran.
    pub rules: u64,
    /// Seconds they took.
    pub rules_s: f64,
}

/// What a rule has to write: samples, and of which series.
#[derive(Default)]
struct ToWrite {
    samples: Vec<(LabelSet, ElementValue)>,
    series: HashSet<LabelSet>,
}

impl ToWrite {
    fn with_capacity(n: usize) -> ToWrite {
        ToWrite {
            samples: Vec::with_capacity(n),
            series: HashSet::with_capacity(n),
        }
    }

    /// Whether there was no sample of the series yet.
    fn push(&mut self, labels: LabelSet, value: ElementValue) -> bool {
        let is_new = self.series.insert(labels.clone());
        self.samples.push((labels, value));
        is_new
    }
}

/// Runs the rules of a group at an instant; it is `now_ms`. Waits for whoever runs them still.
pub(crate) fn evaluate(group: &LiveGroup, due: Due, now_ms: i64, around: &Surroundings) -> Evaluated {
    let _turn = group.turn.lock();
    let started = Instant::now();
    let offset_ms = (group.config.query_offset_ms).unwrap_or(around.settings.query_offset_ms);
    let mut run = Run {
        group,
        around,
        at_ms: due.at_ms,
        sample_at: TimestampMs(due.at_ms.saturating_sub(offset_ms)),
        done: Evaluated::default(),
        failures: 0,
        results: 0,
        scratch: Vec::new(),
    };
    for index in 0..group.rules.len() {
        if group.is_stopped.load(Ordering::SeqCst) {
            return run.done;
        }
        let since = Instant::now();
        let began_ms = now_ms.saturating_add(started.elapsed().as_millis() as i64);
        run.rule(index);
        let took = since.elapsed().as_secs_f64();
        run.done.rules += 1;
        run.done.rules_s += took;
        let mut state = group.rules[index].state.lock();
        state.evaluation_time_s = took;
        state.last_evaluation_ms = Some(began_ms);
    }
    run.end_leftovers();
    let restored = (!group.is_restored())
        .then(|| group.until_restore.fetch_sub(1, Ordering::Relaxed) == 1)
        .filter(|is_time| *is_time)
        .map(|_| {
            let since = Instant::now();
            restore::restore(group, now_ms.max(due.at_ms), around);
            since.elapsed().as_secs_f64()
        });
    let Run {
        done,
        failures,
        results,
        ..
    } = run;
    let mut figures = group.figures.lock();
    figures.evaluation_time_s = started.elapsed().as_secs_f64();
    figures.rules_time_s = done.rules_s;
    figures.last_evaluation_ms = Some(now_ms);
    figures.last_samples = results;
    figures.evaluations += done.rules;
    figures.failures += failures;
    figures.restore_time_s = restored.or(figures.restore_time_s);
    done
}

struct Run<'a> {
    group: &'a LiveGroup,
    around: &'a Surroundings,
    at_ms: i64,
    /// The time of what is read and written.
    sample_at: TimestampMs,
    done: Evaluated,
    failures: u64,
    results: u64,
    scratch: Vec<u8>,
}

impl Run<'_> {
    fn rule(&mut self, index: usize) {
        let rule = &self.group.rules[index];
        let context = Context::new(self.around.settings.timeout, self.around.settings.limits);
        self.group.can_be_cancelled_by(&context);
        let result = catch_unwind(AssertUnwindSafe(|| self.result(rule, &context)))
            .unwrap_or_else(|panic| Err(format!("internal error: {}", words_of(&*panic))));
        *self.group.context.lock() = None;
        if self.group.is_stopped.load(Ordering::SeqCst) {
            // Whoever follows begins where the evaluation before ended.
            return;
        }
        let outcome = result.and_then(|written| {
            self.results += written.samples.len() as u64;
            self.write(index, written)
        });
        let mut state = rule.state.lock();
        match outcome {
            Ok(()) => {
                state.health = Health::Ok;
                state.last_error = None;
            }
            Err(why) => {
                self.failures += 1;
                if state.last_error.as_ref() != Some(&why) {
                    let (config, name) = (&self.group.config, self.group.config.rules[index].name());
                    tracing::warn!(file = %config.file, group = config.name, rule = name, why, "a rule failed");
                }
                state.health = Health::Err;
                state.last_error = Some(why);
            }
        }
    }

    /// What the rule has to write; its alerts have lived on and were told of.
    fn result(&mut self, rule: &LiveRule, context: &Context) -> Result<ToWrite, String> {
        let Surroundings { storage, settings, .. } = self.around;
        let elements = rule.expression.evaluate(context, storage, self.sample_at.0, settings)?;
        match &rule.work {
            Work::Record(over) => self.recordings(over, elements),
            Work::Alert(alert) => self.alerts(rule, alert, &elements),
        }
    }

    fn recordings(&mut self, over: &[(String, String)], elements: Vec<Element>) -> Result<ToWrite, String> {
        let over: Vec<(&str, &str)> = over.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let count = elements.len();
        let mut written = ToWrite::with_capacity(count);
        for element in elements {
            let labels = overlay(&element.labels, &over, &mut self.scratch);
            if !written.push(labels, element.value) {
                return Err(SAME_RECORDINGS.to_owned());
            }
        }
        let limit = self.group.config.limit;
        if limit > 0 && count > limit {
            return Err(format!("exceeded limit of {limit} with {count} series"));
        }
        Ok(written)
    }

    fn alerts(&mut self, rule: &LiveRule, work: &AlertWork, elements: &[Element]) -> Result<ToWrite, String> {
        let mut seen = Vec::with_capacity(elements.len());
        let mut known = HashSet::with_capacity(elements.len());
        for element in elements {
            if self.group.is_stopped.load(Ordering::SeqCst) {
                // Templates may ask queries: many elements take long.
                return Err("the group has ended".to_owned());
            }
            let (labels, annotations) = self.expanded(work, element);
            if !known.insert(labels.clone()) {
                return Err(SAME_ALERTS.to_owned());
            }
            let value = element.value.as_float();
            seen.push((labels, Seen { annotations, value }));
        }
        let settings = &self.around.settings;
        let mut state = rule.state.lock();
        state.alerts.step(seen, self.at_ms, work.policy)?;
        let notices = (state.alerts).due_notices(self.at_ms, settings.resend_delay_ms, self.group.interval_ms);
        let mut written = ToWrite::default();
        if self.group.is_restored() {
            for (labels, alert) in state.alerts.active_mut() {
                let active_at = alert.active_at_ms.div_euclid(1000) as f64;
                let series = series_of(labels, alert, &rule.labels, &mut self.scratch);
                written.push(series.alerts.clone(), ElementValue::Float(1.0));
                written.push(series.for_state.clone(), ElementValue::Float(active_at));
            }
        }
        drop(state);
        if !notices.is_empty() {
            let generator_url = link::to_expression(&settings.external_url, self.group.config.dialect, &rule.query);
            let outgoing = notices.into_iter().map(|notice| OutgoingAlert {
                labels: notice
                    .labels
                    .iter()
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .collect(),
                annotations: notice.annotations,
                starts_at_ms: notice.starts_at_ms,
                ends_at_ms: notice.ends_at_ms,
                generator_url: generator_url.clone(),
            });
            self.around.notify.notify(outgoing.collect());
        }
        Ok(written)
    }

    /// An alert's labels and annotations.
    fn expanded(&mut self, work: &AlertWork, element: &Element) -> (LabelSet, Vec<(String, String)>) {
        let Surroundings { storage, settings, .. } = self.around;
        let dialect = self.group.config.dialect;
        let query = |text: &str| {
            let context = Context::new(settings.timeout, settings.limits);
            self.group.can_be_cancelled_by(&context);
            query_for_template(dialect, text, &context, storage, self.at_ms, settings)
        };
        let data = TemplateData {
            labels: &element.labels,
            value: match &element.value {
                ElementValue::Float(v) => TemplateValue::Float(*v),
                ElementValue::Histogram(h) => TemplateValue::Histogram(h),
            },
            external_labels: &settings.external_labels,
            external_url: &settings.external_url,
            now_ms: self.at_ms,
            query: &query,
        };
        let expand = |text: &Text| match text {
            Text::Plain(text) => text.clone(),
            Text::Template(template) => template.expand(&data).unwrap_or_else(|why| {
                tracing::warn!(alert = work.name, why, "a template could not be expanded");
                format!("<error expanding template: {why}>")
            }),
        };
        let mut over: Vec<(&str, String)> = (work.labels.iter())
            .filter(|(name, _)| name != ALERT_NAME)
            .map(|(name, text)| (name.as_str(), expand(text)))
            .collect();
        over.push((ALERT_NAME, work.name.clone()));
        over.sort_by_key(|(name, _)| *name);
        let over: Vec<(&str, &str)> = over.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let annotations = work.annotations.iter().map(|(n, text)| (n.clone(), expand(text)));
        let annotations = annotations.collect();
        (overlay(&element.labels, &over, &mut self.scratch), annotations)
    }

    fn write(&mut self, index: usize, written: ToWrite) -> Result<(), String> {
        let rule = &self.group.rules[index];
        let mut batch = SampleBatch::default();
        for (labels, value) in written.samples {
            let ix = batch.series_of(&labels);
            match value {
                ElementValue::Float(v) => batch.sample(ix, self.sample_at, v),
                ElementValue::Histogram(histogram) => batch.histogram(
                    ix,
                    HistogramSample {
                        t: self.sample_at,
                        start: TimestampMs(0),
                        histogram,
                    },
                ),
            }
        }
        let result = if batch.is_empty() {
            Ok(())
        } else {
            self.done.wrote.push(index);
            self.append(&batch).map(drop)
        };
        if let Err(Refused::All(why)) = result {
            return Err(why);
        }
        let before = std::mem::replace(&mut *rule.written.lock(), written.series);
        let gone: Vec<LabelSet> = {
            let now = rule.written.lock();
            before.into_iter().filter(|labels| !now.contains(labels)).collect()
        };
        let ended = self.end(&gone);
        match (result, ended) {
            (Err(Refused::Some(why)), _) => Err(why),
            (_, Err(Refused::All(why))) => Err(why),
            _ => Ok(()),
        }
    }

    /// Ends series. That one has a sample at this time is no fault: another rule writes it now.
    fn end(&mut self, gone: &[LabelSet]) -> Result<(), Refused> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut batch = SampleBatch::default();
        for labels in gone {
            let ix = batch.series_of(labels);
            batch.sample(ix, self.sample_at, stale_nan());
        }
        self.append(&batch)
    }

    fn end_leftovers(&mut self) {
        let leftovers = std::mem::take(&mut *self.group.leftovers.lock());
        if leftovers.is_empty() {
            return;
        }
        let rules = &self.group.rules;
        let is_written = |labels: &LabelSet| rules.iter().any(|rule| rule.written.lock().contains(labels));
        let gone: Vec<LabelSet> = leftovers.into_iter().filter(|labels| !is_written(labels)).collect();
        if let Err(Refused::All(why)) = self.end(&gone) {
            tracing::warn!(
                group = self.group.config.name,
                why,
                "series of rules that are gone were not ended"
            );
        }
    }

    fn append(&mut self, batch: &SampleBatch) -> Result<(), Refused> {
        match self.around.storage.begin_append_samples(batch) {
            Ok((appended, place)) => {
                self.done.place = self.done.place.max(place);
                self.done.samples += appended.stored + appended.histograms;
                let refused = appended.too_old + appended.too_new + appended.conflicts;
                if refused > 0 {
                    let example = appended.example.unwrap_or_default();
                    return Err(Refused::Some(format!("{refused} samples were not stored: {example}")));
                }
                Ok(())
            }
            Err(e) => Err(Refused::All(e.to_string())),
        }
    }
}

/// Why samples were not stored.
enum Refused {
    /// None of them: the next evaluation begins where this one did.
    All(String),
    /// Some of them.
    Some(String),
}

/// What stands for an alert in storage; made anew when its state has changed.
fn series_of<'a>(
    labels: &LabelSet,
    alert: &'a mut Alert,
    rule_labels: &[(String, String)],
    scratch: &mut Vec<u8>,
) -> &'a AlertSeries {
    let state = alert.state;
    if alert.series.as_ref().is_none_or(|series| series.state != state) {
        // A label whose template came out empty is not among the alert's, but Prometheus leaves its template in the series.
        let mut over: Vec<(&str, &str)> = (rule_labels.iter())
            .filter(|(name, _)| name != ALERT_STATE && labels.get(name).is_none())
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let at = |over: &[(&str, &str)], name: &str| over.partition_point(|(n, _)| *n < name);
        over.insert(at(&over, METRIC_NAME), (METRIC_NAME, ALERTS_FOR_STATE));
        let for_state = overlay(labels, &over, scratch);
        for pair in &mut over {
            if pair.0 == METRIC_NAME {
                pair.1 = ALERTS;
            }
        }
        over.insert(at(&over, ALERT_STATE), (ALERT_STATE, state.as_str()));
        alert.series = Some(AlertSeries {
            state,
            alerts: overlay(labels, &over, scratch),
            for_state,
        });
    }
    alert.series.get_or_insert_with(|| AlertSeries {
        state,
        alerts: labels.clone(),
        for_state: labels.clone(),
    })
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a message")
        .to_owned()
}
