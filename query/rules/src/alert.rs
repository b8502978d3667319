//! The life of a rule's alerts: pending, firing, resolved; when to tell of them; and where an alert stands that an earlier
//! process knew. Data in, data out: no clock, no storage.
//!
//! ```text
//!  element appears ──► pending ── held `for` ──► firing ── element gone, `keep_firing_for` over ──► inactive ── 15 min ──► forgotten
//!                         └── element gone ──► forgotten
//! ```

use std::collections::BTreeMap;

use model::LabelSet;

use crate::status::AlertState;

/// How long a resolved alert is told of.
const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

/// A rule's alerts by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alerts {
    by_labels: BTreeMap<LabelSet, Alert>,
    /// Counts evaluations, so that an alert knows whether its element is in the last result.
    round: u64,
}

/// One alert.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    /// Expanded, sorted by name.
    pub annotations: Vec<(String, String)>,
    /// The expression's value.
    pub value: f64,
    pub state: AlertState,
    /// Since when the element is there.
    pub active_at_ms: i64,
    /// Since when it fires, if it does or did.
    pub fired_at_ms: i64,
    pub resolved_at_ms: Option<i64>,
    /// Since when it only fires because it is to fire on.
    pub keep_firing_since_ms: Option<i64>,
    last_sent_ms: Option<i64>,
    round: u64,
    /// What stands for it in storage, kept while its state stays.
    pub series: Option<AlertSeries>,
}

/// The series of an alert: `ALERTS` and `ALERTS_FOR_STATE`.
#[derive(Clone, Debug)]
pub(crate) struct AlertSeries {
    pub state: AlertState,
    pub alerts: LabelSet,
    pub for_state: LabelSet,
}

/// What an element of the result brings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub annotations: Vec<(String, String)>,
    pub value: f64,
}

/// What a rule says of its alerts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    /// Most pending and firing alerts; 0: no limit.
    pub limit: usize,
}

/// A notification that is due.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub labels: LabelSet,
    pub annotations: Vec<(String, String)>,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
}

impl Alerts {
    /// Lets an evaluation at `at_ms` have found these elements. The error says that there are too many; then all are
    /// forgotten.
    pub fn step(
        &mut self,
        seen: impl IntoIterator<Item = (LabelSet, Seen)>,
        at_ms: i64,
        policy: Policy,
    ) -> Result<(), String> {
        self.round += 1;
        for (labels, Seen { annotations, value }) in seen {
            match self.by_labels.get_mut(&labels) {
                Some(alert) if alert.state != AlertState::Inactive => {
                    alert.annotations = annotations;
                    alert.value = value;
                    alert.round = self.round;
                }
                _ => {
                    let alert = Alert::new(annotations, value, at_ms, self.round);
                    self.by_labels.insert(labels, alert);
                }
            }
        }
        let round = self.round;
        let mut active = 0;
        self.by_labels.retain(|_, alert| {
            let stays = if alert.round == round {
                alert.keep_firing_since_ms = None;
                true
            } else {
                alert.miss(at_ms, policy.keep_firing_for_ms)
            };
            if stays && alert.state != AlertState::Inactive {
                active += 1;
                alert.settle(at_ms, policy.for_ms);
            }
            stays
        });
        if policy.limit > 0 && active > policy.limit {
            self.by_labels.clear();
            return Err(format!("exceeded limit of {} with {active} alerts", policy.limit));
        }
        Ok(())
    }

    /// Whom it is time to tell of, at `at_ms`: of what fires and what is resolved, again after `resend_delay_ms`.
    /// `interval_ms` is between two evaluations: of an alert of which nothing more is heard, two may fail.
    pub fn due_notices(&mut self, at_ms: i64, resend_delay_ms: i64, interval_ms: i64) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (labels, alert) in &mut self.by_labels {
            if alert.needs_sending(at_ms, resend_delay_ms) {
                alert.last_sent_ms = Some(at_ms);
                let valid_for = resend_delay_ms.max(interval_ms).saturating_mul(4);
                notices.push(Notice {
                    labels: labels.clone(),
                    annotations: alert.annotations.clone(),
                    starts_at_ms: alert.fired_at_ms,
                    ends_at_ms: alert.resolved_at_ms.unwrap_or(at_ms.saturating_add(valid_for)),
                });
            }
        }
        notices
    }

    /// Pending and firing alerts, sorted by labels.
    pub fn active(&self) -> impl Iterator<Item = (&LabelSet, &Alert)> {
        let all = self.by_labels.iter();
        all.filter(|(_, alert)| alert.state != AlertState::Inactive)
    }

    /// The same, to be changed.
    pub fn active_mut(&mut self) -> impl Iterator<Item = (&LabelSet, &mut Alert)> {
        let all = self.by_labels.iter_mut();
        all.filter(|(_, alert)| alert.state != AlertState::Inactive)
    }

    /// The highest state of any.
    pub fn state(&self) -> AlertState {
        let states = self.by_labels.values().map(|alert| alert.state);
        states.max().unwrap_or(AlertState::Inactive)
    }
}

impl Alert {
    fn new(annotations: Vec<(String, String)>, value: f64, at_ms: i64, round: u64) -> Alert {
        Alert {
            annotations,
            value,
            state: AlertState::Pending,
            active_at_ms: at_ms,
            fired_at_ms: 0,
            resolved_at_ms: None,
            keep_firing_since_ms: None,
            last_sent_ms: None,
            round,
            series: None,
        }
    }

    /// Its element is not there. Whether it is still worth remembering.
    fn miss(&mut self, at_ms: i64, keep_firing_for_ms: i64) -> bool {
        match self.state {
            AlertState::Pending => false,
            AlertState::Inactive => self
                .resolved_at_ms
                .is_some_and(|resolved| at_ms.saturating_sub(resolved) <= RESOLVED_RETENTION_MS),
            AlertState::Firing => {
                if keep_firing_for_ms > 0 {
                    let since = *self.keep_firing_since_ms.get_or_insert(at_ms);
                    if at_ms.saturating_sub(since) < keep_firing_for_ms {
                        return true;
                    }
                }
                self.state = AlertState::Inactive;
                self.resolved_at_ms = Some(at_ms);
                true
            }
        }
    }

    /// It fires when it has been there long enough; no more if that became longer meanwhile.
    fn settle(&mut self, at_ms: i64, for_ms: i64) {
        let is_held = at_ms.saturating_sub(self.active_at_ms) >= for_ms;
        match self.state {
            AlertState::Pending if is_held => {
                self.state = AlertState::Firing;
                self.fired_at_ms = at_ms;
            }
            AlertState::Firing if !is_held => {
                self.state = AlertState::Pending;
                self.fired_at_ms = 0;
                self.last_sent_ms = None;
                self.keep_firing_since_ms = None;
            }
            _ => {}
        }
    }

    fn needs_sending(&self, at_ms: i64, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(sent) = self.last_sent_ms else { return true };
        self.resolved_at_ms.is_some_and(|resolved| resolved > sent) || sent.saturating_add(resend_delay_ms) < at_ms
    }
}

/// Since when an alert counts as active, of which an earlier process last stored at `stored_at_ms` that it had been
/// active since `active_at_ms`; it is now `now_ms`. What was pending does not fire within `grace_ms` from now, and the time
/// in which nobody looked does not count.
pub(crate) fn restored_active_at(stored_at_ms: i64, active_at_ms: i64, now_ms: i64, for_ms: i64, grace_ms: i64) -> i64 {
    // Both are told in whole seconds, as Prometheus counts here.
    let down_at_ms = stored_at_ms.div_euclid(1000).saturating_mul(1000);
    let remaining_ms = for_ms.saturating_sub(down_at_ms.saturating_sub(active_at_ms));
    if remaining_ms <= 0 {
        active_at_ms
    } else if remaining_ms < grace_ms {
        now_ms.saturating_add(grace_ms).saturating_sub(for_ms)
    } else {
        active_at_ms.saturating_add(now_ms.saturating_sub(down_at_ms))
    }
}

#[cfg(test)]
mod tests;
