//! What was read and may be wanted again, within a bound of bytes: the values used longest ago go first.

use std::collections::BTreeMap;
use std::hash::Hash;

use rapidhash::RapidHashMap;

/// Values by key, all together within a bound.
pub(crate) struct Kept<K, V> {
    by_key: RapidHashMap<K, One<V>>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

struct One<V> {
    used: u64,
    bytes: usize,
    value: V,
}

impl<K: Copy + Eq + Hash, V: Clone> Kept<K, V> {
    /// Nothing yet.
    pub(crate) fn new(bytes_max: usize) -> Kept<K, V> {
        Kept {
            by_key: RapidHashMap::default(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// A value that is there.
    pub(crate) fn get(&mut self, key: K) -> Option<V> {
        let one = self.by_key.get_mut(&key)?;
        self.by_use.remove(&one.used);
        self.uses += 1;
        one.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(one.value.clone())
    }

    /// Keeps a value, unless one is there or it is larger than everything together may be.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        if self.by_key.contains_key(&key) || bytes > self.bytes_max {
            return;
        }
        self.uses += 1;
        self.bytes += bytes;
        let used = self.uses;
        self.by_key.insert(key, One { used, bytes, value });
        self.by_use.insert(used, key);
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some(one) = self.by_key.remove(&oldest) {
                self.bytes -= one.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept: Kept<u8, char> = Kept::new(10);
        kept.put(1, 'a', 4);
        kept.put(2, 'b', 4);
        assert_eq!(kept.get(1), Some('a'));
        kept.put(3, 'c', 4);
        assert_eq!([kept.get(1), kept.get(2), kept.get(3)], [Some('a'), None, Some('c')]);
        kept.put(4, 'd', 11);
        assert_eq!(kept.get(4), None);
        assert_eq!(kept.bytes, 8);
    }
}
