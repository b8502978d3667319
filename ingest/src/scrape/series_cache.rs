//! What a target has shown before: from the bytes that name a series in its answer to the label set under which it is
//! stored, and which series must end because they are no longer shown.
//!
//! A scrape opens a *round*; each series met is marked with it. When the round is closed, whoever carries the mark of the
//! round before and not of this one has vanished. Targets show their series in the same order each time, so the entry that
//! came next last time is tried before the table is asked.

use hashbrown::HashTable;

/// Position of an entry in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryIx(u32);

/// What is known of a key.
#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Box<[u8]>,
    /// Canonical encoding of the label set that is stored; empty: dropped by relabelling.
    labels: Box<[u8]>,
    is_histogram: bool,
    /// The round in which it was met last.
    seen: u64,
    /// The round in which it was last met as a series that must end when it is missing.
    live: u64,
    /// The same before this round.
    live_before: u64,
    /// The round in which it was added.
    born: u64,
    /// The entry that was met after it.
    next: u32,
}

/// The series of one target.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    table: HashTable<u32>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    round: u64,
    /// The last round that was closed with success, and how many series were live in it.
    good: u64,
    good_live: usize,
    /// In this round: entries met, live ones, and those of them that were live in the last good one.
    met: usize,
    live: usize,
    stayed: usize,
    last: u32,
}

const NONE: u32 = u32::MAX;

/// How a key was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// Never before.
    New,
    /// Relabelling drops it.
    Dropped,
    /// Before, and not yet in this round.
    Known(EntryIx),
    /// In this round already.
    Again(EntryIx),
}

impl SeriesCache {
    /// Opens a round.
    pub fn open(&mut self) {
        self.round += 1;
        (self.met, self.live, self.stayed) = (0, 0, 0);
        self.last = NONE;
    }

    /// Looks a key up and marks it.
    #[inline]
    pub fn meet(&mut self, key: &[u8]) -> Met {
        let Some(ix) = self.expected(key).or_else(|| self.find(key)) else {
            return Met::New;
        };
        self.follow(ix);
        let round = self.round;
        let Some(entry) = &mut self.entries[ix as usize] else {
            return Met::New;
        };
        if entry.labels.is_empty() {
            if entry.seen != round {
                entry.seen = round;
                self.met += 1;
            }
            return Met::Dropped;
        }
        if entry.seen == round {
            return Met::Again(EntryIx(ix));
        }
        entry.seen = round;
        self.met += 1;
        Met::Known(EntryIx(ix))
    }

    /// The entry that came after the last one in the round before, if it has this key.
    #[inline]
    fn expected(&self, key: &[u8]) -> Option<u32> {
        let next = self.entries.get(self.last as usize)?.as_ref()?.next;
        let entry = self.entries.get(next as usize)?.as_ref()?;
        (*entry.key == *key).then_some(next)
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = model::hash_labels(key);
        let is_it = |ix: &u32| self.entries[*ix as usize].as_ref().is_some_and(|e| *e.key == *key);
        self.table.find(hash, is_it).copied()
    }

    #[inline]
    fn follow(&mut self, ix: u32) {
        if let Some(Some(last)) = self.entries.get_mut(self.last as usize) {
            last.next = ix;
        }
        self.last = ix;
    }

    /// Adds a key that was met as new; no labels: it is dropped.
    pub fn add(&mut self, key: &[u8], labels: &[u8], is_histogram: bool) -> EntryIx {
        let hash = model::hash_labels(key);
        let entry = Entry {
            hash,
            key: key.into(),
            labels: labels.into(),
            is_histogram,
            seen: self.round,
            live: 0,
            live_before: 0,
            born: self.round,
            next: NONE,
        };
        let ix = match self.free.pop() {
            Some(ix) => {
                self.entries[ix as usize] = Some(entry);
                ix
            }
            None => {
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        };
        let entries = &self.entries;
        let rehash = |ix: &u32| entries[*ix as usize].as_ref().map_or(0, |e| e.hash);
        self.table.insert_unique(hash, ix, rehash);
        self.met += 1;
        self.follow(ix);
        EntryIx(ix)
    }

    /// The label set of an entry, encoded.
    #[inline]
    pub fn labels(&self, ix: EntryIx) -> &[u8] {
        self.entries[ix.0 as usize].as_ref().map_or(&[], |e| &e.labels)
    }

    /// Marks a series that must end when it is missing.
    #[inline]
    pub fn keep_alive(&mut self, ix: EntryIx, is_histogram: bool) {
        let (round, good) = (self.round, self.good);
        let Some(entry) = &mut self.entries[ix.0 as usize] else {
            return;
        };
        if entry.live == round {
            return;
        }
        entry.is_histogram = is_histogram;
        self.stayed += usize::from(entry.live == good && good > 0);
        entry.live_before = entry.live;
        entry.live = round;
        self.live += 1;
    }

    /// Closes a round with success: gives each series that has vanished (labels, whether it was a histogram) and forgets
    /// keys that were not met.
    pub fn close(&mut self, mut vanished: impl FnMut(&[u8], bool)) {
        let (round, good) = (self.round, self.good);
        if self.stayed < self.good_live {
            // A series may have come back under another key.
            let present: std::collections::HashSet<&[u8]> = (self.entries.iter().flatten())
                .filter(|e| e.live == round)
                .map(|e| &*e.labels)
                .collect();
            for e in self.entries.iter().flatten() {
                if e.live == good && good > 0 && !present.contains(&*e.labels) {
                    vanished(&e.labels, e.is_histogram);
                }
            }
        }
        if self.met < self.table.len() {
            self.forget(|e| e.seen != round);
        }
        (self.good, self.good_live) = (round, self.live);
    }

    /// Closes a round as failed: what it added is undone, and all series of the last good round end.
    pub fn fail(&mut self, mut vanished: impl FnMut(&[u8], bool)) {
        let (round, good) = (self.round, self.good);
        for e in self.entries.iter_mut().flatten() {
            let was = if e.live == round { e.live_before } else { e.live };
            if was == good && good > 0 && !e.labels.is_empty() {
                vanished(&e.labels, e.is_histogram);
            }
            (e.live, e.live_before) = (0, 0);
        }
        self.forget(|e| e.born == round);
        (self.good, self.good_live) = (round, 0);
    }

    /// The series that would end if the target were gone.
    pub fn each_live(&self, mut see: impl FnMut(&[u8], bool)) {
        for e in self.entries.iter().flatten() {
            if e.live == self.good && self.good > 0 && !e.labels.is_empty() {
                see(&e.labels, e.is_histogram);
            }
        }
    }

    fn forget(&mut self, is_over: impl Fn(&Entry) -> bool) {
        for ix in 0..self.entries.len() {
            let Some(entry) = self.entries[ix].take_if(|e| is_over(e)) else {
                continue;
            };
            if let Ok(found) = self.table.find_entry(entry.hash, |other| *other as usize == ix) {
                found.remove();
            }
            self.free.push(ix as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    /// One round over keys that are their own labels; gives what vanished.
    fn round(cache: &mut SeriesCache, keys: &[String], is_good: bool) -> BTreeSet<String> {
        cache.open();
        for key in keys {
            let ix = match cache.meet(key.as_bytes()) {
                Met::New => cache.add(key.as_bytes(), key.as_bytes(), false),
                Met::Known(ix) | Met::Again(ix) => ix,
                Met::Dropped => panic!("nothing is dropped here"),
            };
            assert_eq!(cache.labels(ix), key.as_bytes());
            cache.keep_alive(ix, false);
        }
        let mut gone = BTreeSet::new();
        let note = |labels: &[u8], _: bool| {
            assert!(gone.insert(String::from_utf8(labels.to_vec()).unwrap()), "twice");
        };
        if is_good {
            cache.close(note);
        } else {
            cache.fail(note);
        }
        gone
    }

    proptest! {
        /// A series ends exactly when it was in the last good scrape and is in this one no more, or this one failed.
        #[test]
        fn what_vanishes_is_what_was_there(
            rounds in proptest::collection::vec((proptest::collection::vec("[a-e]", 0..8), prop::bool::weighted(0.8)), 1..12),
        ) {
            let mut cache = SeriesCache::default();
            let mut before = BTreeSet::new();
            for (keys, is_good) in rounds {
                let now: BTreeSet<String> = if is_good { keys.iter().cloned().collect() } else { BTreeSet::new() };
                let gone = round(&mut cache, &keys, is_good);
                prop_assert_eq!(gone, before.difference(&now).cloned().collect());
                let mut live = BTreeSet::new();
                cache.each_live(|labels, _| { live.insert(String::from_utf8(labels.to_vec()).unwrap()); });
                prop_assert_eq!(&live, &now);
                prop_assert!(!is_good || cache.table.len() == now.len());
                before = now;
            }
        }
    }

    #[test]
    fn a_key_is_known_again_and_met_twice() {
        let mut cache = SeriesCache::default();
        cache.open();
        assert_eq!(cache.meet(b"x"), Met::New);
        let ix = cache.add(b"x", b"labels", false);
        cache.add(b"y", b"", false);
        assert_eq!(cache.meet(b"x"), Met::Again(ix));
        cache.close(|_, _| panic!());
        cache.open();
        assert_eq!(cache.meet(b"x"), Met::Known(ix));
        assert_eq!(cache.meet(b"y"), Met::Dropped);
    }
}
