//! The label sets in use now, in RAM: hash to id, and the days on which each is noted already.
//!
//! 24 bytes per label set and no label bytes. The 64-bit hash finds an entry; a second, keyed hash with a secret of
//! this process tells label sets apart whose first hashes are equal. An entry gets here only after its label bytes
//! were compared with the database or were found to be new, so a mistake needs two label sets that agree in both
//! hashes: 96 bits, 32 of them unknown to whoever chose the labels.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hashbrown::{HashSet, HashTable};
use model::Day;
use parking_lot::RwLock;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use roaring::RoaringBitmap;

const SHARDS: usize = 32;
/// Days further back than [`Known::before`] reaches are remembered one by one, up to this many per shard.
const OLD_NOTES_MAX: usize = 16_384;

/// What is known of (label set, day).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The label set has this id, and its use on the day is noted.
    Noted(u32),
    /// The label set has this id; the day is new to it, or was forgotten.
    Unnoted(u32),
    /// Not in RAM.
    Unknown,
}

/// Both hashes of a label set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    hash: u64,
    check: u32,
}

/// The map.
pub(crate) struct Active {
    shards: [RwLock<Shard>; SHARDS],
    secrets: RapidSecrets,
}

#[derive(Default)]
struct Shard {
    known: HashTable<Known>,
    old_notes: HashSet<(u32, Day), rapidhash::fast::RandomState>,
}

#[derive(Clone, Copy)]
struct Known {
    hash: u64,
    check: u32,
    id: u32,
    last_day: Day,
    /// Bit `k`: noted on day `last_day - 1 - k`.
    before: u32,
}

impl Active {
    /// Empty.
    pub(crate) fn new() -> Active {
        Active {
            shards: std::array::from_fn(|_| RwLock::default()),
            secrets: RapidSecrets::seed(RandomState::new().build_hasher().finish()),
        }
    }

    /// The key of a label set whose first hash is known.
    pub(crate) fn key(&self, encoded: &[u8], hash: u64) -> Key {
        Key {
            hash,
            check: rapidhash_v3_seeded(encoded, &self.secrets) as u32,
        }
    }

    /// Looks up; no allocation, one shard's read lock.
    pub(crate) fn find(&self, key: Key, day: Day) -> Found {
        let shard = self.shard(key).read();
        let Some(known) = shard.known.find(key.hash, |k| k.is(key)) else {
            return Found::Unknown;
        };
        if known.is_noted(day) || (day < known.last_day && shard.old_notes.contains(&(known.id, day))) {
            Found::Noted(known.id)
        } else {
            Found::Unnoted(known.id)
        }
    }

    /// Notes that the label set has this id and is in use on `day`.
    pub(crate) fn note(&self, key: Key, id: u32, day: Day) {
        let mut shard = self.shard(key).write();
        let Shard { known, old_notes } = &mut *shard;
        let entry = known.entry(key.hash, |k| k.is(key), |k| k.hash);
        let mut occupied = match entry {
            hashbrown::hash_table::Entry::Occupied(occupied) => occupied,
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(Known {
                    hash: key.hash,
                    check: key.check,
                    id,
                    last_day: day,
                    before: 0,
                });
                return;
            }
        };
        let entry = occupied.get_mut();
        if entry.id != id {
            *entry = Known {
                id,
                last_day: day,
                before: 0,
                ..*entry
            };
        } else if !entry.note(day) {
            if old_notes.len() >= OLD_NOTES_MAX {
                old_notes.clear();
            }
            old_notes.insert((id, day));
        }
    }

    /// Forgets all notes of days before `day`, and what was in use on such days only, and `dead`.
    pub(crate) fn expire(&self, day: Day, dead: &RoaringBitmap) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.old_notes.clear();
            shard.known.retain(|k| {
                k.forget_before(day);
                k.last_day >= day && !dead.contains(k.id)
            });
            shrink(&mut shard.known);
        }
    }

    /// Makes room: label sets last used before `day` leave; the database still knows them.
    pub(crate) fn evict(&self, day: Day) {
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.old_notes = HashSet::default();
            shard.known.retain(|k| k.last_day >= day);
            shrink(&mut shard.known);
        }
    }

    /// How many label sets.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().known.len()).sum()
    }

    fn shard(&self, key: Key) -> &RwLock<Shard> {
        // The table itself uses the lowest and the highest bits.
        &self.shards[(key.hash >> 40) as usize % SHARDS]
    }
}

fn shrink(known: &mut HashTable<Known>) {
    if known.len() < known.capacity() / 4 {
        known.shrink_to(known.len() * 2, |k| k.hash);
    }
}

impl Known {
    fn is(&self, key: Key) -> bool {
        self.hash == key.hash && self.check == key.check
    }

    fn is_noted(&self, day: Day) -> bool {
        match i64::from(self.last_day.0) - i64::from(day.0) {
            0 => true,
            back @ 1..=32 => self.before & (1 << (back - 1)) != 0,
            _ => false,
        }
    }

    /// `false` if the day is too far back to be held here.
    fn note(&mut self, day: Day) -> bool {
        match i64::from(self.last_day.0) - i64::from(day.0) {
            0 => {}
            back @ 1..=32 => self.before |= 1 << (back - 1),
            33.. => return false,
            ahead => {
                let ahead = ahead.unsigned_abs();
                self.before = match ahead {
                    1..32 => self.before << ahead | 1 << (ahead - 1),
                    32 => 1 << 31,
                    _ => 0,
                };
                self.last_day = day;
            }
        }
        true
    }

    fn forget_before(&mut self, day: Day) {
        let kept = i64::from(self.last_day.0) - i64::from(day.0);
        self.before &= match kept {
            32.. => u32::MAX,
            1..32 => (1 << kept) - 1,
            _ => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn equal_hashes_do_not_merge_label_sets() {
        let active = Active::new();
        let (a, b) = (active.key(b"a", 7), active.key(b"b", 7));
        active.note(a, 1, Day(5));
        assert_eq!(active.find(b, Day(5)), Found::Unknown);
        active.note(b, 2, Day(5));
        assert_eq!(active.find(a, Day(5)), Found::Noted(1));
        assert_eq!(active.find(b, Day(5)), Found::Noted(2));
    }

    #[test]
    fn evicted_label_sets_are_unknown() {
        let active = Active::new();
        let key = active.key(b"a", 7);
        active.note(key, 1, Day(5));
        active.evict(Day(5));
        assert_eq!(active.find(key, Day(5)), Found::Noted(1));
        active.evict(Day(6));
        assert_eq!(active.find(key, Day(5)), Found::Unknown);
    }

    proptest! {
        /// A day that was not noted, or expired, never counts as noted: its posting would be missing. To forget a note is
        /// harmless (the posting is written again), but the last one and its 32 days are remembered.
        #[test]
        fn days_are_remembered(steps in vec((any::<bool>(), -50i32..50), 1..60)) {
            let active = Active::new();
            let key = active.key(b"a", 7);
            let mut noted = BTreeSet::new();
            for (is_expire, day) in steps {
                if is_expire && day % 7 == 0 {
                    active.expire(Day(day), &RoaringBitmap::new());
                    noted.retain(|d| *d >= day);
                } else {
                    active.note(key, 1, Day(day));
                    noted.insert(day);
                    prop_assert_eq!(active.find(key, Day(day)), Found::Noted(1));
                }
                let last = noted.last().copied().unwrap_or(0);
                for d in -60..60 {
                    let is_noted = active.find(key, Day(d)) == Found::Noted(1);
                    prop_assert!(!is_noted || noted.contains(&d), "day {} was never noted", d);
                    prop_assert!(is_noted || !noted.contains(&d) || d < last - 32, "day {} is forgotten", d);
                }
            }
        }
    }
}
