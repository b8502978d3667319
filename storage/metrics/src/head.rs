//! The head: every series that had a sample since the last cut, found by its labels or by its id.
//!
//! Both tables are split into shards with a lock each. The usual append takes a shard's lock shared, only a new series
//! takes it alone; a reader copies what it needs of a series and never holds a lock while it decodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use storage_budget::{Budget, Reservation};

use crate::series::{Cell, Change};

/// Shards of each table; a power of two.
const SHARDS: usize = 16;
/// The reservation follows the head's size in steps of this many bytes.
const RESERVE_STEP: u64 = 64 << 10;

/// Series of a batch whose labels are fetched together: enough to keep the memory busy, few enough to stay in the cache.
const FETCHED_AT_ONCE: usize = 32;

type Table = RwLock<HashTable<Arc<Cell>>>;

/// The mutable part in memory, or one that is frozen and becomes blocks.
pub(crate) struct Head {
    by_labels: [Table; SHARDS],
    by_id: [Table; SHARDS],
    series: AtomicU64,
    samples: AtomicU64,
    exemplars: AtomicU64,
    bytes: AtomicU64,
    min: AtomicI64,
    max: AtomicI64,
    reserved: AtomicU64,
    reservation: Mutex<Reservation>,
}

impl Head {
    pub(crate) fn new(budget: &Budget) -> Head {
        Head {
            by_labels: std::array::from_fn(|_| Table::default()),
            by_id: std::array::from_fn(|_| Table::default()),
            series: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            exemplars: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            reserved: AtomicU64::new(0),
            reservation: Mutex::new(budget.take(0)),
        }
    }

    /// The series with these encoded labels.
    pub(crate) fn find(&self, hash: u64, encoded: &[u8]) -> Option<Arc<Cell>> {
        let table = self.labels_shard(hash).read();
        let cell = table.find(hash, |cell| cell.hash == hash && cell.labels.as_bytes() == encoded)?;
        Some(cell.clone())
    }

    /// The series of a batch, each by its encoded labels and their hash.
    ///
    /// What is known of a series lies anywhere in memory, so for a batch the time goes into waiting for it. Here many
    /// waits overlap: first all places of a group are found by hash alone, then all labels are fetched, then compared.
    pub(crate) fn find_all<'b>(
        &self,
        mut batch: impl ExactSizeIterator<Item = (&'b [u8], u64)>,
    ) -> Vec<Option<Arc<Cell>>> {
        let mut found = Vec::with_capacity(batch.len());
        if self.series() == 0 {
            found.resize(batch.len(), None);
            return found;
        }
        let tables = self.by_labels.each_ref().map(|table| table.read());
        let table_of = |hash| &tables[shard_of(hash)];
        let mut group = Vec::with_capacity(FETCHED_AT_ONCE);
        loop {
            group.clear();
            for (encoded, hash) in batch.by_ref().take(FETCHED_AT_ONCE) {
                group.push((encoded, hash, table_of(hash).find(hash, |cell| cell.hash == hash)));
            }
            if group.is_empty() {
                return found;
            }
            let cells = group.iter().filter_map(|(_, _, cell)| *cell);
            std::hint::black_box(cells.fold(0u8, |sum, cell| sum ^ one_byte_a_line(cell.labels.as_bytes())));
            for (encoded, hash, cell) in &group {
                let is_same = |cell: &Arc<Cell>| cell.hash == *hash && cell.labels.as_bytes() == *encoded;
                let cell = match cell {
                    Some(cell) if !is_same(cell) => table_of(*hash).find(*hash, is_same),
                    cell => *cell,
                };
                found.push(cell.cloned());
            }
        }
    }

    /// The series with this id.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Cell>> {
        self.id_shard(id)
            .read()
            .find(id_hash(id), |cell| cell.id == id)
            .cloned()
    }

    /// Adds a series and returns it, or the one that is there. A series of the same labels whose id has died gives
    /// its place by labels to the new one; what it holds is still found by id.
    pub(crate) fn insert(&self, new: Cell) -> Arc<Cell> {
        let mut by_labels = self.labels_shard(new.hash).write();
        let same = |cell: &Arc<Cell>| cell.hash == new.hash && cell.labels == new.labels;
        if let Some(cell) = by_labels.find_mut(new.hash, same) {
            if cell.id == new.id {
                return cell.clone();
            }
            let cell_again = self.insert_by_id(new);
            *cell = cell_again.clone();
            return cell_again;
        }
        let hash = new.hash;
        let cell = self.insert_by_id(new);
        by_labels.insert_unique(hash, cell.clone(), |cell| cell.hash);
        cell
    }

    fn insert_by_id(&self, new: Cell) -> Arc<Cell> {
        let mut by_id = self.id_shard(new.id).write();
        let hash = id_hash(new.id);
        if let Some(cell) = by_id.find(hash, |cell| cell.id == new.id) {
            return cell.clone();
        }
        self.grow(new.empty_bytes() as i64);
        self.series.fetch_add(1, Ordering::Relaxed);
        let cell = Arc::new(new);
        by_id.insert_unique(hash, cell.clone(), |cell| id_hash(cell.id));
        cell
    }

    /// Every series, rising by id.
    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells = Vec::with_capacity(self.series() as usize);
        for table in &self.by_id {
            cells.extend(table.read().iter().cloned());
        }
        cells.sort_unstable_by_key(|cell| cell.id);
        cells
    }

    /// Calls `each` for every series, in no order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Arc<Cell>)) {
        for table in &self.by_id {
            table.read().iter().for_each(&mut each);
        }
    }

    /// Counts what a batch changed.
    pub(crate) fn count(&self, change: &Change) {
        self.samples.fetch_add(change.stored, Ordering::Relaxed);
        if let Some((min, max)) = change.extent {
            self.extend(min, max);
        }
        self.grow(change.bytes);
    }

    /// Counts an exemplar.
    pub(crate) fn count_exemplar(&self, t: i64, bytes: usize) {
        self.exemplars.fetch_add(1, Ordering::Relaxed);
        self.extend(t, t);
        self.grow(bytes as i64);
    }

    fn extend(&self, min: i64, max: i64) {
        self.min.fetch_min(min, Ordering::AcqRel);
        self.max.fetch_max(max, Ordering::AcqRel);
    }

    fn grow(&self, bytes: i64) {
        let now = self
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed)
            .wrapping_add(bytes as u64);
        if now.abs_diff(self.reserved.load(Ordering::Relaxed)) >= RESERVE_STEP {
            let mut reservation = self.reservation.lock();
            let now = self.bytes();
            reservation.resize(now);
            self.reserved.store(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn series(&self) -> u64 {
        self.series.load(Ordering::Relaxed)
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.bytes.load(Ordering::Relaxed) as i64).max(0) as u64
    }

    /// Whether there is nothing to freeze.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples() == 0 && self.exemplars.load(Ordering::Relaxed) == 0
    }

    /// Times of the first and last sample or exemplar.
    pub(crate) fn extent(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.min.load(Ordering::Acquire), self.max.load(Ordering::Acquire));
        (min <= max).then_some((min, max))
    }

    fn labels_shard(&self, hash: u64) -> &Table {
        &self.by_labels[shard_of(hash)]
    }

    fn id_shard(&self, id: u32) -> &Table {
        &self.by_id[id as usize % SHARDS]
    }
}

fn shard_of(hash: u64) -> usize {
    // The low bits place a series within its table, the top ones tag it there.
    (hash >> 40) as usize % SHARDS
}

/// Reads something of every line of the cache that the bytes lie in.
fn one_byte_a_line(bytes: &[u8]) -> u8 {
    bytes.iter().step_by(64).fold(0, |sum, byte| sum ^ byte)
}

/// Ids come one after the other; this spreads them.
fn id_hash(id: u32) -> u64 {
    u64::from(id).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use model::LabelSet;

    use super::*;

    /// Found one by one and all at once, over several groups; two label sets of one hash are told apart.
    #[test]
    fn the_series_of_a_batch_are_found_as_one_by_one() {
        let head = Head::new(&Budget::new(1 << 20));
        let labels: Vec<LabelSet> = (0..100)
            .map(|i| LabelSet::from_pairs([("__name__", "m"), ("i", &i.to_string())]))
            .collect();
        let batch = || labels.iter().enumerate().map(|(i, l)| (l.as_bytes(), i as u64 / 2));
        assert!(head.find_all(batch()).iter().all(Option::is_none));
        for (i, (labels, (_, hash))) in labels.iter().zip(batch()).enumerate().filter(|(i, _)| i % 3 != 0) {
            head.insert(Cell::new(i as u32, hash, labels.clone()));
        }
        let all = head.find_all(batch());
        assert_eq!(all.len(), labels.len());
        for (i, (found, (encoded, hash))) in all.iter().zip(batch()).enumerate() {
            let id = found.as_ref().map(|cell| cell.id);
            assert_eq!(id, head.find(hash, encoded).map(|cell| cell.id));
            assert_eq!(id, (i % 3 != 0).then_some(i as u32));
        }
    }
}
