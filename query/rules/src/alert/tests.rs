//! Alerts over invented times, and against a second, naive telling of their life.

use proptest::prelude::*;

use super::*;
use AlertState::{Firing, Inactive, Pending};

const MIN: i64 = 60_000;

fn labels(name: &str) -> LabelSet {
    LabelSet::from_pairs([("alertname", name)])
}

fn seen(value: f64) -> Seen {
    Seen {
        annotations: Vec::new(),
        value,
    }
}

fn policy(for_ms: i64, keep_firing_for_ms: i64) -> Policy {
    Policy {
        for_ms,
        keep_firing_for_ms,
        limit: 0,
    }
}

/// At each minute whether the element is there; which state the rule is in then, and whether a notice is due.
fn check(policy: Policy, minutes: &[(bool, AlertState, Option<&str>)]) {
    let mut alerts = Alerts::default();
    for (i, (is_there, state, notice)) in minutes.iter().enumerate() {
        let at = i as i64 * MIN;
        alerts
            .step(is_there.then(|| (labels("a"), seen(1.0))), at, policy)
            .unwrap();
        assert_eq!(alerts.state(), *state, "minute {i}");
        let notices = alerts.due_notices(at, MIN, MIN);
        let words = notices.first().map(|n| {
            let what = if n.ends_at_ms <= at { "resolved" } else { "firing" };
            format!("{what} {}..{}", n.starts_at_ms / MIN, n.ends_at_ms / MIN)
        });
        assert_eq!(words.as_deref(), *notice, "minute {i}");
    }
}

#[test]
fn an_alert_waits_fires_and_resolves() {
    check(
        policy(2 * MIN, 0),
        &[
            (true, Pending, None),
            (true, Pending, None),
            (true, Firing, Some("firing 2..6")),
            // Not again before the resend delay has passed, which it has not at its last instant.
            (true, Firing, None),
            (true, Firing, Some("firing 2..8")),
            (false, Inactive, Some("resolved 2..5")),
            (false, Inactive, None),
            (false, Inactive, Some("resolved 2..5")),
            // It comes back: a new life.
            (true, Pending, None),
            (false, Inactive, None),
            (true, Pending, None),
            (true, Pending, None),
            (true, Firing, Some("firing 12..16")),
        ],
    );
}

#[test]
fn without_for_it_fires_at_once() {
    check(
        policy(0, 0),
        &[
            (true, Firing, Some("firing 0..4")),
            (false, Inactive, Some("resolved 0..1")),
        ],
    );
}

#[test]
fn it_fires_on_for_as_long_as_it_is_to() {
    check(
        policy(0, 2 * MIN),
        &[
            (true, Firing, Some("firing 0..4")),
            (false, Firing, None),
            (false, Firing, Some("firing 0..6")),
            // Back in time: the count begins anew.
            (true, Firing, None),
            (false, Firing, Some("firing 0..8")),
            (false, Firing, None),
            (false, Inactive, Some("resolved 0..6")),
        ],
    );
}

#[test]
fn a_resolved_alert_is_forgotten_after_a_quarter_of_an_hour() {
    let mut alerts = Alerts::default();
    alerts.step([(labels("a"), seen(1.0))], 0, policy(0, 0)).unwrap();
    alerts.step([], MIN, policy(0, 0)).unwrap();
    for minute in [2, 16] {
        alerts.step([], minute * MIN, policy(0, 0)).unwrap();
        assert_eq!(alerts.due_notices(minute * MIN, MIN, MIN).len(), 1, "minute {minute}");
    }
    alerts.step([], 17 * MIN, policy(0, 0)).unwrap();
    assert!(alerts.due_notices(60 * MIN, MIN, MIN).is_empty());
}

#[test]
fn too_many_alerts_are_an_error_and_forgotten() {
    let mut alerts = Alerts::default();
    let limited = Policy {
        limit: 1,
        ..policy(0, 0)
    };
    alerts.step([(labels("a"), seen(1.0))], 0, limited).unwrap();
    let two = [(labels("a"), seen(1.0)), (labels("b"), seen(1.0))];
    assert_eq!(
        alerts.step(two, MIN, limited).unwrap_err(),
        "exceeded limit of 1 with 2 alerts"
    );
    assert_eq!(alerts.active().count(), 0);
}

#[test]
fn a_longer_for_makes_a_firing_alert_wait_again() {
    let mut alerts = Alerts::default();
    let one = || [(labels("a"), seen(1.0))];
    alerts.step(one(), 0, policy(0, 0)).unwrap();
    assert_eq!(alerts.state(), Firing);
    alerts.step(one(), MIN, policy(5 * MIN, 0)).unwrap();
    assert_eq!(alerts.state(), Pending);
}

#[test]
fn a_restart_lets_alerts_go_on() {
    let (hour, day) = (60 * MIN, 24 * 60 * MIN);
    for (what, stored, active, now, held_for, grace, restored) in [
        (
            "it had fired",
            day,
            day - 2 * hour,
            day + 5 * MIN,
            hour,
            10 * MIN,
            day - 2 * hour,
        ),
        (
            "the outage does not count",
            day,
            day - 20 * MIN,
            day + 5 * MIN,
            hour,
            10 * MIN,
            day - 15 * MIN,
        ),
        (
            "not before the grace period is over",
            day,
            day - 55 * MIN,
            day + 5 * MIN,
            hour,
            10 * MIN,
            day - 45 * MIN,
        ),
        (
            "parts of a second do not count",
            day + 999,
            day,
            day + 1000,
            2000,
            0,
            day + 1000,
        ),
    ] {
        assert_eq!(
            restored_active_at(stored, active, now, held_for, grace),
            restored,
            "{what}"
        );
    }
}

/// The same life as a history: what an alert is at an instant follows from which elements were there until then.
fn naive_state(history: &[bool], step_ms: i64, policy: Policy) -> AlertState {
    let mut state = Inactive;
    let (mut since, mut gone_since) = (0, None);
    for (i, is_there) in history.iter().enumerate() {
        let now = i as i64 * step_ms;
        match (state, is_there) {
            (Inactive, true) => (state, since) = (Pending, now),
            (Pending, false) => state = Inactive,
            (Firing, true) => gone_since = None,
            (Firing, false) => {
                let gone = *gone_since.get_or_insert(now);
                if now - gone >= policy.keep_firing_for_ms {
                    (state, gone_since) = (Inactive, None);
                }
            }
            _ => {}
        }
        if state == Pending && now - since >= policy.for_ms {
            state = Firing;
        }
    }
    state
}

proptest! {
    /// Several alerts in one rule do not touch each other, and each lives as it is told above.
    #[test]
    fn every_alert_lives_its_own_life(
        histories in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 40), 1..4),
        for_steps in 0_i64..5,
        keep_steps in 0_i64..5,
    ) {
        let step = 15_000;
        let policy = policy(for_steps * step, keep_steps * step);
        let mut alerts = Alerts::default();
        for i in 0..40 {
            let there = histories.iter().enumerate().filter(|(_, h)| h[i]);
            let elements: Vec<_> = there.map(|(n, _)| (labels(&n.to_string()), seen(i as f64))).collect();
            alerts.step(elements, i as i64 * step, policy).unwrap();
            for (n, history) in histories.iter().enumerate() {
                let found = alerts.active().find(|(l, _)| **l == labels(&n.to_string()));
                let state = found.map_or(Inactive, |(_, alert)| alert.state);
                prop_assert_eq!(state, naive_state(&history[..=i], step, policy), "alert {} at {}", n, i);
            }
        }
    }
}
