//! Alerts that wait for an Alertmanager, the oldest first. One alert, told by its labels, waits once: what is said of it last
//! counts, in the place where it waited.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::LabelSet;

use crate::Alert;

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    order: VecDeque<LabelSet>,
    alerts: HashMap<LabelSet, Arc<Alert>>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Says how many of the oldest had to go, so that no more than `max` wait.
    pub fn push(&mut self, alert: Arc<Alert>, max: usize) -> usize {
        let labels = alert.labels.clone();
        if self.alerts.insert(labels.clone(), alert).is_none() {
            self.order.push_back(labels);
        }
        self.shorten(max)
    }

    /// The first of them, at most so many.
    pub fn take(&mut self, n: usize) -> Vec<Arc<Alert>> {
        let n = n.min(self.order.len());
        let taken = self.order.drain(..n);
        taken.filter_map(|labels| self.alerts.remove(&labels)).collect()
    }

    /// Those that were taken and could not be sent, to the front, unless something newer is known of them. Says how many
    /// of the oldest had to go.
    pub fn put_back(&mut self, batch: Vec<Arc<Alert>>, max: usize) -> usize {
        for alert in batch.into_iter().rev() {
            let labels = alert.labels.clone();
            if !self.alerts.contains_key(&labels) {
                self.alerts.insert(labels.clone(), alert);
                self.order.push_front(labels);
            }
        }
        self.shorten(max)
    }

    /// All of another, behind what is here; what is here is newer.
    pub fn join(&mut self, other: &Queue, max: usize) -> usize {
        let older = other
            .order
            .iter()
            .filter_map(|labels| other.alerts.get(labels).cloned());
        self.put_back(older.collect(), max)
    }

    fn shorten(&mut self, max: usize) -> usize {
        let mut gone = 0;
        while self.alerts.len() > max {
            let Some(labels) = self.order.pop_front() else { break };
            self.alerts.remove(&labels);
            gone += 1;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(name: &str, ends_at_ms: i64) -> Arc<Alert> {
        Arc::new(Alert {
            labels: LabelSet::from_pairs([("alertname", name)]),
            annotations: Vec::new(),
            starts_at_ms: 0,
            ends_at_ms,
            generator_url: String::new(),
        })
    }

    fn names(alerts: &[Arc<Alert>]) -> Vec<(String, i64)> {
        let alerts = alerts.iter();
        alerts
            .map(|a| (a.labels.get("alertname").unwrap_or("").to_owned(), a.ends_at_ms))
            .collect()
    }

    fn filled(alerts: &[(&str, i64)]) -> Queue {
        let mut queue = Queue::default();
        for (name, end) in alerts {
            assert_eq!(queue.push(alert(name, *end), 10), 0);
        }
        queue
    }

    fn check(mut queue: Queue, want: &[(&str, i64)]) {
        let want: Vec<_> = want.iter().map(|(name, end)| ((*name).to_owned(), *end)).collect();
        assert_eq!(names(&queue.take(100)), want);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_last_word_on_an_alert_counts() {
        check(filled(&[("a", 1), ("b", 1), ("a", 2)]), &[("a", 2), ("b", 1)]);
    }

    #[test]
    fn what_could_not_be_sent_goes_back_unless_something_newer_is_known() {
        let mut queue = filled(&[("a", 1), ("b", 1), ("c", 1)]);
        let batch = queue.take(2);
        assert_eq!(names(&batch), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
        queue.push(alert("b", 2), 10);
        assert_eq!(queue.put_back(batch, 10), 0);
        check(queue, &[("a", 1), ("c", 1), ("b", 2)]);
    }

    #[test]
    fn the_oldest_go_when_too_many_wait() {
        let mut queue = filled(&[("a", 1), ("b", 1)]);
        assert_eq!(queue.push(alert("c", 1), 2), 1);
        let batch = queue.take(1);
        queue.push(alert("d", 1), 2);
        assert_eq!(queue.put_back(batch, 2), 1);
        check(queue, &[("c", 1), ("d", 1)]);
    }

    #[test]
    fn queues_join() {
        let mut new = filled(&[("b", 2)]);
        new.join(&filled(&[("a", 1), ("b", 1)]), 10);
        check(new, &[("a", 1), ("b", 2)]);
    }
}
