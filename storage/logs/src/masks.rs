//! Masks: what a reader does not see though it is stored, because it was deleted or is older than its stream is kept.
//!
//! A [`Masks`] is what holds at one moment for all streams; [`Masks::of`] makes of it the [`Mask`] of one stream. Readers
//! leave out what a mask covers; a compaction that removes for good uses masks as well, of those delete requests only
//! that can no longer be cancelled.

use std::sync::Arc;

use model::{LabelSet, Matcher, TimestampNs};

use crate::Entries;
use crate::tombstones::{DeleteLanguage, Meant, Tombstone};

/// How long streams are kept, and how they are deleted from. The default: all streams as long, and no delete requests.
#[derive(Clone, Default)]
pub struct LogPolicy {
    /// Streams that are kept for another time than the engine's retention.
    pub keep: Vec<KeepStreams>,
    /// Understands delete requests; without it there are none.
    pub deletes: Option<DeleteLanguage>,
    /// How long a delete request can be cancelled before it is carried out, ns.
    pub cancel_ns: i64,
}

/// How long the streams are kept that pass every matcher. If several apply to a stream, the highest priority wins, and
/// among equals the shortest time.
#[derive(Clone, Debug)]
pub struct KeepStreams {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// Its weight against others.
    pub priority: i64,
    /// How long, ns.
    pub keep_ns: i64,
}

impl LogPolicy {
    pub(crate) fn understand(&self, text: &str) -> Result<Meant, String> {
        match &self.deletes {
            Some(language) => language(text),
            None => Err("this process does not understand delete requests".to_owned()),
        }
    }
}

/// How long each stream is kept.
pub(crate) struct Keeping {
    /// Of streams that no rule names, ns.
    default_ns: i64,
    /// The one that wins comes first.
    rules: Vec<KeepStreams>,
}

impl Keeping {
    pub fn new(default_ns: i64, mut rules: Vec<KeepStreams>) -> Keeping {
        rules.sort_by_key(|r| (std::cmp::Reverse(r.priority), r.keep_ns));
        Keeping { default_ns, rules }
    }

    /// Whether all streams are kept as long.
    pub fn is_uniform(&self) -> bool {
        self.rules.is_empty()
    }

    /// How long the stream is kept, ns.
    pub fn of(&self, labels: &LabelSet) -> i64 {
        let rule = self.rules.iter().find(|r| {
            r.matchers
                .iter()
                .all(|m| m.matches(labels.get(m.name()).unwrap_or_default()))
        });
        rule.map_or(self.default_ns, |r| r.keep_ns)
    }

    /// The longest that any stream is kept, ns.
    pub fn longest(&self) -> i64 {
        self.times().max().unwrap_or(self.default_ns)
    }

    /// All times for which streams are kept, ns; some may come twice.
    pub fn times(&self) -> impl Iterator<Item = i64> {
        self.rules.iter().map(|r| r.keep_ns).chain([self.default_ns])
    }
}

/// What is hidden at one moment.
pub(crate) struct Masks {
    /// Delete requests that hide something of the range they were asked for.
    deletes: Vec<Arc<Tombstone>>,
    /// Whole streams that were deleted for good within the range: the label index still knows them.
    gone: Vec<Arc<Tombstone>>,
    keeping: Option<(Arc<Keeping>, i64)>,
}

/// What is hidden of one stream.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    /// Entries before this are too old.
    pub from: Option<i64>,
    deletes: Vec<Arc<Tombstone>>,
}

impl Masks {
    /// Those of the tombstones that `counts` picks, within `[min, max]`, and of age at `now` where streams differ in that.
    pub fn new(
        all: &[Arc<Tombstone>],
        counts: impl Fn(&Tombstone) -> bool,
        keeping: &Arc<Keeping>,
        (min, max): (i64, i64),
        now: TimestampNs,
    ) -> Masks {
        let inside = || all.iter().filter(|t| t.touches(min, max));
        Masks {
            deletes: inside().filter(|t| t.is_pending() && counts(t)).cloned().collect(),
            gone: inside()
                .filter(|t| !t.is_pending() && t.meant.filter.is_none())
                .cloned()
                .collect(),
            keeping: (!keeping.is_uniform()).then(|| (keeping.clone(), now.0)),
        }
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.keeping.is_none()
    }

    /// What is hidden of a stream.
    pub fn of(&self, labels: &LabelSet) -> Mask {
        Mask {
            from: (self.keeping.as_ref()).map(|(keeping, now)| now.saturating_sub(keeping.of(labels))),
            deletes: self.deletes.iter().filter(|t| t.means(labels)).cloned().collect(),
        }
    }

    /// Whether streams may be hidden whole, so that what the label index says of them must be checked against chunks.
    pub fn may_hide_streams(&self) -> bool {
        self.keeping.is_some() || self.selectors().next().is_some()
    }

    /// Matchers of streams that may be hidden whole; `None`: any may be.
    pub fn hidden_selectors(&self) -> Option<Vec<&[Matcher]>> {
        self.keeping.is_none().then(|| self.selectors().collect())
    }

    fn selectors(&self) -> impl Iterator<Item = &[Matcher]> {
        let whole = self.deletes.iter().filter(|t| t.meant.filter.is_none());
        whole.chain(&self.gone).map(|t| &t.meant.matchers[..])
    }
}

impl Mask {
    /// Whether all of `[min, max]` is hidden, whatever the entries are.
    pub fn covers(&self, min: i64, max: i64) -> bool {
        self.from.is_some_and(|from| max < from)
            || self
                .deletes
                .iter()
                .any(|t| t.meant.filter.is_none() && t.first <= min && max <= t.last)
    }

    /// Whether a delete request may hide entries of `[min, max]`.
    pub fn deletes_touch(&self, min: i64, max: i64) -> bool {
        self.deletes.iter().any(|t| t.touches(min, max))
    }

    /// The requests that may.
    pub fn deletes_of(&self, min: i64, max: i64) -> Vec<Arc<Tombstone>> {
        self.deletes.iter().filter(|t| t.touches(min, max)).cloned().collect()
    }
}

/// Takes what the requests delete out of a stream's entries.
pub(crate) fn remove_deleted(deletes: &[Arc<Tombstone>], stream: &LabelSet, entries: &mut Entries) {
    let mut gone = vec![false; entries.len()];
    let mut any = false;
    for tombstone in deletes {
        let inside = |entries: &Entries, i: usize| (tombstone.first..=tombstone.last).contains(&entries.t(i).0);
        let mut mark = |i: usize| {
            if inside(entries, i) {
                gone[i] = true;
                any = true;
            }
        };
        match &tombstone.meant.filter {
            None => (0..entries.len()).for_each(mark),
            Some(filter) => filter.find(stream, entries, &mut mark),
        }
    }
    if any {
        entries.remove(&gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priority_wins_then_the_shortest_time() {
        let rule = |name: &str, value: &str, priority, keep_ns| KeepStreams {
            matchers: vec![Matcher::equal(name, value)],
            priority,
            keep_ns,
        };
        let keeping = Keeping::new(
            7,
            vec![
                rule("env", "dev", 1, 3),
                rule("env", "dev", 1, 2),
                rule("app", "audit", 5, 90),
            ],
        );
        let check = |pairs: &[(&str, &str)]| keeping.of(&LabelSet::from_pairs(pairs.iter().copied()));
        assert_eq!(check(&[("env", "prod")]), 7);
        assert_eq!(check(&[("env", "dev")]), 2);
        assert_eq!(check(&[("env", "dev"), ("app", "audit")]), 90);
        assert_eq!(keeping.longest(), 90);
    }
}
