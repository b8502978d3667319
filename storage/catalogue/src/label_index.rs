//! The label index: label sets by id, postings by day.
//!
//! A label set in use now is known in RAM ([`crate::active`]), and asking for it again on the same day is one hash
//! lookup. What is new, a label set or its use on another day, is collected in RAM and goes to the database in one
//! batch when enough has come together, when somebody reads, or before a flush. So a read sees all that was interned
//! before it, and a posting that a thousand new series share costs one write instead of a thousand.
//!
//! An id is given once. The next free id is stored with every batch; definitions met in a WAL raise it, so that ids
//! which were given after the last flush are not given again. Ids begin at 1.
//!
//! Not here: which ids match (`postings`), the keys (`post_key`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use model::{Day, LabelSet, Matcher, hash_labels};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

use crate::active::{Active, Found, Key};
use crate::database::{Database, Family};
use crate::day_cache::DayCache;
use crate::error::CatalogueError;
use crate::{id_list, post_key};

/// Collected uses (label set, day) before they are written.
const PENDING_MAX: usize = 1024;
/// Label sets removed per batch when a day expires.
const EXPIRE_BATCH: usize = 256;

/// Which index: ids of series or of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// Metric series.
    Series,
    /// Log streams.
    Streams,
}

/// Label sets by id, and postings by day; cloning shares it.
///
/// Writes are visible to reads at once. Active ids are also held in RAM (hash -> id), so that ingest makes no point
/// reads for a known label set.
#[derive(Clone)]
pub struct LabelIndex {
    pub(crate) index: Arc<Index>,
}

impl LabelIndex {
    /// The id of an encoded label set (see `model::LabelSet`), given if it is new, and notes that it is in use on `day`.
    /// `hash` is `model::hash_labels(encoded)`.
    /// Cheap when (labels, day) is known: one hash lookup, no allocation, no I/O.
    pub fn intern(&self, day: Day, encoded: &[u8], hash: u64) -> Result<u32, CatalogueError> {
        let index = &*self.index;
        let key = index.active.key(encoded, hash);
        match index.active.find(key, day) {
            Found::Noted(id) => Ok(id),
            Found::Unnoted(_) | Found::Unknown => index.intern_new(key, day, encoded, hash),
        }
    }

    /// Restores a definition met in a WAL: this id has this label set and is in use on `day`. Idempotent. If the label
    /// set has another id already (its definition was flushed), that id is returned and must be used instead.
    pub fn define(&self, id: u32, day: Day, labels: &LabelSet) -> Result<u32, CatalogueError> {
        self.index.define(id, day, labels)
    }

    /// Ids in use on any day of the range whose label set passes every matcher. With no matchers: all ids of those days.
    pub fn postings(&self, days: (Day, Day), matchers: &[Matcher]) -> Result<RoaringBitmap, CatalogueError> {
        self.index.settle()?;
        self.index.postings(days, matchers)
    }

    /// Label names in use in the range, sorted; only of `ids` if given.
    pub fn names(&self, days: (Day, Day), ids: Option<&RoaringBitmap>) -> Result<Vec<String>, CatalogueError> {
        self.index.settle()?;
        self.index.names(days, ids)
    }

    /// Values of one label in use in the range, sorted; only of `ids` if given.
    pub fn values(
        &self,
        days: (Day, Day),
        name: &str,
        ids: Option<&RoaringBitmap>,
    ) -> Result<Vec<String>, CatalogueError> {
        self.index.settle()?;
        self.index.values(days, name, ids)
    }

    /// Label sets of ids, rising by id; ids that are not known are left out.
    pub fn label_sets(&self, ids: &RoaringBitmap) -> Result<Vec<(u32, LabelSet)>, CatalogueError> {
        self.index.settle()?;
        let mut sets = Vec::with_capacity((ids.len() as usize).min(1 << 16));
        self.index.each_label_set(ids, |id, labels| sets.push((id, labels)))?;
        Ok(sets)
    }

    /// Forgets all days before `day`; ids not in use since are gone for good.
    pub fn expire(&self, day: Day) -> Result<(), CatalogueError> {
        self.index.expire(day)
    }

    /// Ids known in RAM now.
    pub fn active(&self) -> usize {
        self.index.active.len()
    }
}

/// What the clones of a [`LabelIndex`] share.
pub(crate) struct Index {
    pub(crate) kind: IndexKind,
    pub(crate) database: Arc<Database>,
    active: Active,
    pub(crate) cache: DayCache,
    /// Days that have postings, written or pending.
    days: RwLock<BTreeSet<Day>>,
    pending: Mutex<Pending>,
    /// `Pending::uses`, readable without its lock.
    pending_uses: AtomicUsize,
    /// Ids that `expire` is removing: their rows may still be there, but they are not given to anybody.
    dying: RwLock<RoaringBitmap>,
    /// Rises when label sets leave RAM or the database, so that a look taken before is known to be old.
    generation: AtomicU64,
}

/// What is not yet in the database. Whoever adds or removes label sets holds its lock.
struct Pending {
    next_id: u64,
    uses: usize,
    sets: HashMap<u32, (u64, LabelSet)>,
    postings: HashMap<Vec<u8>, Vec<u32>>,
    evicted_before: Day,
}

impl Index {
    /// Reads what must be in RAM: the next id, the days, and the label sets of the newest two days.
    pub(crate) fn open(kind: IndexKind, database: Arc<Database>) -> Result<Index, CatalogueError> {
        let next_id = match database.get(Family::Blocks, &next_id_key(kind))? {
            None => 1,
            Some(bytes) => u64::from_be_bytes(
                bytes
                    .as_ref()
                    .try_into()
                    .map_err(|_| database.malformed("the next id is malformed"))?,
            ),
        };
        let days = stored_days(&database, kind)?;
        let index = Index {
            kind,
            database,
            active: Active::new(),
            cache: DayCache::new(),
            days: RwLock::new(days),
            pending: Mutex::new(Pending {
                next_id,
                uses: 0,
                sets: HashMap::new(),
                postings: HashMap::new(),
                evicted_before: Day(i32::MIN),
            }),
            pending_uses: AtomicUsize::new(0),
            dying: RwLock::new(RoaringBitmap::new()),
            generation: AtomicU64::new(0),
        };
        index.warm()?;
        Ok(index)
    }

    /// Puts the label sets of the newest two days into RAM, so that the first scrape after a start makes no point reads.
    pub(crate) fn warm(&self) -> Result<(), CatalogueError> {
        let newest: Vec<Day> = {
            let days = self.days.read();
            let Some(last) = days.last().copied() else {
                return Ok(());
            };
            days.range(Day(last.0.saturating_sub(1))..=last).copied().collect()
        };
        for day in newest {
            let ids = self.ids_of(&post_key::all(day))?;
            self.each_label_set(&ids, |id, labels| {
                self.active
                    .note(self.active.key(labels.as_bytes(), labels.hash64()), id, day);
            })?;
        }
        Ok(())
    }

    /// [`LabelIndex::intern`] when RAM does not know it all.
    #[cold]
    fn intern_new(&self, key: Key, day: Day, encoded: &[u8], hash: u64) -> Result<u32, CatalogueError> {
        let labels = LabelSet::from_encoded(encoded)
            .map_err(|e| crate::error::invalid(self.database.path(), format!("not a label set: {e}")))?;
        // Looked up before the lock, so that threads that meet many label sets after a start do not queue for the disk.
        let generation = self.generation.load(Ordering::Acquire);
        let stored_before = match self.active.find(key, day) {
            Found::Unknown => self.stored_id(hash, encoded)?,
            _ => None,
        };
        let mut pending = self.pending.lock();
        self.make_room(&mut pending)?;
        let id = match self.active.find(key, day) {
            Found::Noted(id) => return Ok(id),
            Found::Unnoted(id) => id,
            Found::Unknown => {
                let stored = if self.generation.load(Ordering::Acquire) == generation {
                    stored_before
                } else {
                    self.stored_id(hash, encoded)?
                };
                match stored {
                    Some(id) => id,
                    None => {
                        let id = self.new_id(&mut pending)?;
                        pending.sets.insert(id, (hash, labels.clone()));
                        id
                    }
                }
            }
        };
        self.note(&mut pending, key, id, day, &labels);
        Ok(id)
    }

    fn define(&self, id: u32, day: Day, labels: &LabelSet) -> Result<u32, CatalogueError> {
        let hash = labels.hash64();
        let key = self.active.key(labels.as_bytes(), hash);
        let mut pending = self.pending.lock();
        let never_given = u64::from(id) >= pending.next_id;
        pending.next_id = pending.next_id.max(u64::from(id) + 1);
        self.make_room(&mut pending)?;
        let known = match self.active.find(key, day) {
            Found::Noted(known) => return Ok(known),
            Found::Unnoted(known) => Some(known),
            Found::Unknown => self.stored_id(hash, labels.as_bytes())?,
        };
        let id = match known {
            Some(known) => known,
            None => {
                let id = if never_given || !self.is_taken(&pending, id)? {
                    id
                } else {
                    self.new_id(&mut pending)?
                };
                pending.sets.insert(id, (hash, labels.clone()));
                id
            }
        };
        self.note(&mut pending, key, id, day, labels);
        Ok(id)
    }

    /// Enters what a block's `labels` file says, when the database is rebuilt: exactly this id, even if the label set
    /// has another one in another block. RAM is filled by [`Index::warm`] afterwards.
    pub(crate) fn restore(&self, id: u32, day: Day, labels: LabelSet) -> Result<(), CatalogueError> {
        let mut pending = self.pending.lock();
        pending.next_id = pending.next_id.max(u64::from(id) + 1);
        self.make_room(&mut pending)?;
        self.add_postings(&mut pending, id, day, &labels);
        pending.sets.insert(id, (labels.hash64(), labels));
        Ok(())
    }

    /// Makes all that was interned visible in the database.
    pub(crate) fn settle(&self) -> Result<(), CatalogueError> {
        if self.pending_uses.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        self.write_pending(&mut self.pending.lock())
    }

    /// Once a new day has begun, label sets not used since the day before leave RAM.
    pub(crate) fn evict(&self) -> Result<(), CatalogueError> {
        let Some(newest) = self.days.read().last().copied() else {
            return Ok(());
        };
        let before = Day(newest.0.saturating_sub(1));
        let mut pending = self.pending.lock();
        if pending.evicted_before >= before {
            return Ok(());
        }
        self.write_pending(&mut pending)?;
        self.active.evict(before);
        self.generation.fetch_add(1, Ordering::AcqRel);
        pending.evicted_before = before;
        Ok(())
    }

    /// The days of the range that have postings, oldest first.
    pub(crate) fn days_in(&self, (first, last): (Day, Day)) -> Vec<Day> {
        if first > last {
            return Vec::new();
        }
        self.days.read().range(first..=last).copied().collect()
    }

    /// The ids stored under a `post` key.
    pub(crate) fn ids_of(&self, key: &[u8]) -> Result<RoaringBitmap, CatalogueError> {
        let mut ids = RoaringBitmap::new();
        if let Some(bytes) = self.database.get(Family::Post(self.kind), key)? {
            self.add_ids(&mut ids, &bytes)?;
        }
        Ok(ids)
    }

    /// Adds a stored id list to `into`.
    pub(crate) fn add_ids(&self, into: &mut RoaringBitmap, bytes: &[u8]) -> Result<(), CatalogueError> {
        id_list::add_to(into, bytes).ok_or_else(|| self.database.malformed("an id list is malformed"))
    }

    /// Calls `each` with the label sets of `ids` that the database knows, rising.
    pub(crate) fn each_label_set(
        &self,
        ids: &RoaringBitmap,
        mut each: impl FnMut(u32, LabelSet),
    ) -> Result<(), CatalogueError> {
        let (Some(min), Some(max)) = (ids.min(), ids.max()) else {
            return Ok(());
        };
        let end = (u64::from(max) + 1).to_be_bytes();
        // The end of the last id's key range: five bytes, so that it exists above `u32::MAX` too.
        let end = if max == u32::MAX {
            vec![0xff; 5]
        } else {
            end[4..].to_vec()
        };
        let mut cursor = self
            .database
            .cursor(Family::Labels(self.kind), &min.to_be_bytes(), &end)?;
        cursor.seek(&min.to_be_bytes())?;
        for id in ids {
            let key = id.to_be_bytes();
            // Neighbours are a step away; a seek costs about as much as a handful of steps.
            let mut steps = 0;
            loop {
                match cursor.item() {
                    None => return Ok(()),
                    Some((at, _)) if at >= &key[..] => break,
                    Some(_) if steps < 4 => cursor.next()?,
                    Some(_) => cursor.seek(&key)?,
                }
                steps += 1;
            }
            if let Some((at, encoded)) = cursor.item()
                && at == key
            {
                let labels = LabelSet::from_encoded(encoded)
                    .map_err(|e| self.database.malformed(&format!("the label set of id {id}: {e}")))?;
                each(id, labels);
            }
        }
        Ok(())
    }

    /// Label sets leave first and postings last, so that a crash in between leaves what the next call still finds.
    fn expire(&self, day: Day) -> Result<(), CatalogueError> {
        if self.days.read().first().is_none_or(|first| *first >= day) {
            return Ok(());
        }
        // Usually one round; another one when a label set was noted on an old day meanwhile.
        let last_expired = Day(day.0.saturating_sub(1));
        loop {
            let dead = {
                let mut pending = self.pending.lock();
                self.write_pending(&mut pending)?;
                let expired = self.days_in((Day(i32::MIN), last_expired));
                let mut dead = RoaringBitmap::new();
                for old in &expired {
                    dead |= self.ids_of(&post_key::all(*old))?;
                }
                for kept in self.days_in((day, Day(i32::MAX))) {
                    dead -= self.ids_of(&post_key::all(kept))?;
                }
                dead -= &*self.dying.read();
                if dead.is_empty() {
                    let mut batch = self.database.batch();
                    batch.delete_range(
                        Family::Post(self.kind),
                        &post_key::day_start(Day(i32::MIN)),
                        &post_key::day_end(last_expired),
                    )?;
                    batch.write()?;
                    self.days.write().retain(|d| *d >= day);
                    self.cache.all_changed();
                    self.active.expire(day, &RoaringBitmap::new());
                    break;
                }
                *self.dying.write() |= &dead;
                self.active.expire(day, &dead);
                self.generation.fetch_add(1, Ordering::AcqRel);
                dead
            };
            if let Err(e) = self.remove_label_sets(&dead) {
                *self.dying.write() = RoaringBitmap::new();
                return Err(e);
            }
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.dying.write().clear();
        // The removal must be durable before whole files go, or a crash would bring label sets back without postings.
        self.database.flush()?;
        if self.days.read().first().is_none_or(|first| *first >= day) {
            self.database.drop_files(
                Family::Post(self.kind),
                &post_key::day_start(Day(i32::MIN)),
                &post_key::day_end(last_expired),
            )?;
        }
        Ok(())
    }

    fn remove_label_sets(&self, dead: &RoaringBitmap) -> Result<(), CatalogueError> {
        let (labels_family, hash_family) = (Family::Labels(self.kind), Family::Hash(self.kind));
        let mut rest = dead.iter().peekable();
        while rest.peek().is_some() {
            let chunk: RoaringBitmap = rest.by_ref().take(EXPIRE_BATCH).collect();
            let mut hashes = Vec::with_capacity(EXPIRE_BATCH);
            self.each_label_set(&chunk, |_, labels| hashes.push(hash_labels(labels.as_bytes())))?;
            hashes.sort_unstable();
            hashes.dedup();
            // Under the lock, because somebody may be adding a new id for the same hash.
            let mut pending = self.pending.lock();
            self.write_pending(&mut pending)?;
            let mut batch = self.database.batch();
            for id in &chunk {
                batch.delete(labels_family, &id.to_be_bytes())?;
            }
            for hash in hashes {
                let key = hash.to_be_bytes();
                let Some(bytes) = self.database.get(hash_family, &key)? else {
                    continue;
                };
                let mut ids = RoaringBitmap::new();
                self.add_ids(&mut ids, &bytes)?;
                ids -= &chunk;
                if ids.is_empty() {
                    batch.delete(hash_family, &key)?;
                } else {
                    batch.put(hash_family, &key, &id_list::encode(ids))?;
                }
            }
            batch.write()?;
        }
        Ok(())
    }

    /// The id the database has for a label set; the newest if a rebuild found several.
    fn stored_id(&self, hash: u64, encoded: &[u8]) -> Result<Option<u32>, CatalogueError> {
        let Some(bytes) = self.database.get(Family::Hash(self.kind), &hash.to_be_bytes())? else {
            return Ok(None);
        };
        let mut ids = RoaringBitmap::new();
        self.add_ids(&mut ids, &bytes)?;
        for id in ids.iter().rev() {
            let stored = self.database.get(Family::Labels(self.kind), &id.to_be_bytes())?;
            if stored.is_some_and(|s| *s == *encoded) && !self.dying.read().contains(id) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn is_taken(&self, pending: &Pending, id: u32) -> Result<bool, CatalogueError> {
        Ok(pending.sets.contains_key(&id)
            || self
                .database
                .get(Family::Labels(self.kind), &id.to_be_bytes())?
                .is_some())
    }

    fn new_id(&self, pending: &mut Pending) -> Result<u32, CatalogueError> {
        let id = u32::try_from(pending.next_id).map_err(|_| CatalogueError::Database {
            path: self.database.path().to_owned(),
            message: "all 4294967295 ids of label sets were given; send fewer short-lived label sets".to_owned(),
        })?;
        pending.next_id += 1;
        Ok(id)
    }

    fn note(&self, pending: &mut Pending, key: Key, id: u32, day: Day, labels: &LabelSet) {
        self.add_postings(pending, id, day, labels);
        self.active.note(key, id, day);
    }

    fn add_postings(&self, pending: &mut Pending, id: u32, day: Day, labels: &LabelSet) {
        let mut add = |key: Vec<u8>| pending.postings.entry(key).or_default().push(id);
        add(post_key::all(day));
        for (name, value) in labels.iter() {
            add(post_key::name(day, name));
            add(post_key::value(day, name, value));
        }
        pending.uses += 1;
        self.pending_uses.store(pending.uses, Ordering::Release);
        if !self.days.read().contains(&day) {
            self.days.write().insert(day);
        }
    }

    fn make_room(&self, pending: &mut Pending) -> Result<(), CatalogueError> {
        if pending.uses < PENDING_MAX {
            return Ok(());
        }
        self.write_pending(pending)
    }

    /// One batch; on failure all stays pending.
    fn write_pending(&self, pending: &mut Pending) -> Result<(), CatalogueError> {
        if pending.uses == 0 {
            return Ok(());
        }
        let mut batch = self.database.batch();
        for (id, (hash, labels)) in &pending.sets {
            batch.put(Family::Labels(self.kind), &id.to_be_bytes(), labels.as_bytes())?;
            batch.add_ids(Family::Hash(self.kind), &hash.to_be_bytes(), &[*id])?;
        }
        for (key, ids) in &pending.postings {
            batch.add_ids(Family::Post(self.kind), key, ids)?;
        }
        batch.put(Family::Blocks, &next_id_key(self.kind), &pending.next_id.to_be_bytes())?;
        batch.write()?;
        // Before anybody is told that nothing is pending.
        let days: BTreeSet<Day> = pending
            .postings
            .keys()
            .filter_map(|key| post_key::day_of(key))
            .collect();
        self.cache.changed(days);
        // Given back, not cleared: an idle index holds no buffers.
        pending.sets = HashMap::new();
        pending.postings = HashMap::new();
        pending.uses = 0;
        self.pending_uses.store(0, Ordering::Release);
        Ok(())
    }
}

fn next_id_key(kind: IndexKind) -> [u8; 8] {
    let [n, e, x, t, under, i, d] = *b"next_id";
    [n, e, x, t, under, i, d, kind as u8]
}

/// One seek per day.
fn stored_days(database: &Database, kind: IndexKind) -> Result<BTreeSet<Day>, CatalogueError> {
    let mut days = BTreeSet::new();
    let mut from = post_key::day_start(Day(i32::MIN));
    loop {
        let mut next = None;
        database.scan(Family::Post(kind), &from, &[0xff; 6], |key, _| {
            next = post_key::day_of(key);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(day) = next else { return Ok(days) };
        days.insert(day);
        from = post_key::day_end(day);
    }
}
