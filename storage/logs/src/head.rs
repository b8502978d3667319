//! The head: what was appended since the last cut, in memory, sharded by stream.
//!
//! A stream of one day is a list of *parts*: chunks that are full and compressed, then columns that are still open.
//! Open columns are shared with readers by reference count: a reader takes the columns as they are and goes; an append
//! that finds its tail shared copies it while it is small and else starts the next piece. So a reader holds a shard's
//! lock for no longer than it takes to clone a few pointers, and an append never waits for one to finish reading.
//!
//! A full chunk is compressed by the append that filled it, outside all locks ([`Head::seal`]).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use hashbrown::HashTable;
use model::{BlockId, Day, LabelSet};
use parking_lot::Mutex;

use crate::chunk::{self, LEVEL_HEAD, Sealed};
use crate::entries::{Entries, hash_entry};
use crate::needle_filter::{FilterBuilder, Runs};

/// Raw bytes at which a stream's open chunk is compressed.
pub(crate) const CHUNK_RAW_BYTES: usize = 256 << 10;
/// Entries at which it is compressed all the same: short ones take more memory than their bytes say.
const CHUNK_ENTRIES_MAX: usize = 32 << 10;
/// A tail that a reader shares is copied up to this size, and set aside beyond.
const PIECE_BYTES: usize = 16 << 10;
const SHARDS: usize = 16;
/// Entries of one instant that are compared one by one with another.
const SAME_TIME_MAX: usize = 8;
/// What a stream takes beside its entries and labels.
const STREAM_BYTES: usize = 512;
/// What an entry takes beside its line and metadata: time, end, its place in `seen`.
const ENTRY_BYTES: usize = 32;

pub(crate) struct Head {
    shards: Vec<Mutex<Shard>>,
    bytes: AtomicU64,
    entries: AtomicU64,
    streams: AtomicU64,
    min: AtomicI64,
    max: AtomicI64,
    /// The blocks this head is being written to.
    pub becomes: Mutex<Vec<BlockId>>,
}

/// Where a stream of one day is found in its head; stays valid for the head's life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub shard: u32,
    pub slot: u32,
    pub id: u32,
}

#[derive(Default)]
struct Shard {
    table: HashTable<u32>,
    streams: Vec<HeadStream>,
}

struct HeadStream {
    hash: u64,
    id: u32,
    day: Day,
    labels: LabelSet,
    /// Whether the WAL defines the id in this generation.
    defined: bool,
    /// Full chunks: compressed, or columns that are being compressed.
    full: Vec<Part>,
    /// The open chunk: pieces that were set aside, then the tail.
    pieces: Vec<Arc<Entries>>,
    tail: Tail,
    /// Hashes of the entries of the open chunk, so that a batch that is sent again is not stored again. Not kept while
    /// entries come in order: then only those of the last instant can come again.
    seen: Option<HashTable<u64>>,
    /// Entries of the open chunk.
    open_entries: usize,
    /// The last time in it.
    open_max: i64,
    /// Raw bytes of the open chunk.
    open_raw: usize,
    /// What it is accounted with.
    open_bytes: u64,
    entries: u64,
    min: i64,
    max: i64,
}

/// What a stream consists of, in the order of arrival.
#[derive(Clone)]
pub(crate) enum Part {
    /// Compressed.
    Sealed(Arc<Sealed>),
    /// In columns, in any order of time.
    Open(Arc<Entries>),
}

#[derive(Default)]
struct Tail {
    entries: Arc<Entries>,
    /// Codes of the tail's metadata strings.
    strings: HashTable<u32>,
}

/// A stream of one day as a reader or a cut sees it.
pub(crate) struct StreamView {
    pub id: u32,
    pub day: Day,
    pub labels: LabelSet,
    pub parts: Vec<Part>,
}

/// A full chunk to be compressed.
pub(crate) struct SealJob {
    place: Place,
    parts: Vec<Arc<Entries>>,
    bytes: u64,
}

/// Appends to one stream while its shard is locked.
pub(crate) struct StreamAppender<'a> {
    head: &'a Head,
    stream: &'a mut HeadStream,
    place: Place,
    grown: u64,
    stored: u64,
}

impl Head {
    pub fn new() -> Head {
        Head {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            becomes: Mutex::default(),
        }
    }

    /// The place of a stream on a day. `define` is asked for the id when this generation's WAL does not define it yet,
    /// while the shard is locked, so that nobody can use the id before its definition is in the WAL.
    pub fn place<E>(
        &self,
        day: Day,
        encoded: &[u8],
        hash: u64,
        define: impl FnOnce() -> Result<(u32, LabelSet), E>,
    ) -> Result<Place, E> {
        let (key, shard_at) = (key(hash, day), shard_of(hash));
        let mut shard = self.shards[shard_at].lock();
        let Shard { table, streams } = &mut *shard;
        let known = table.find(key, |&s| {
            let s = &streams[s as usize];
            s.day == day && s.hash == hash && s.labels.as_bytes() == encoded
        });
        if let Some(&slot) = known {
            let stream = &mut streams[slot as usize];
            if !stream.defined {
                (stream.id, stream.labels) = define()?;
                stream.defined = true;
            }
            return Ok(Place {
                shard: shard_at as u32,
                slot,
                id: stream.id,
            });
        }
        let (id, labels) = define()?;
        let slot = streams.len() as u32;
        self.bytes
            .fetch_add((STREAM_BYTES + labels.as_bytes().len()) as u64, Relaxed);
        self.streams.fetch_add(1, Relaxed);
        streams.push(HeadStream {
            hash,
            id,
            day,
            labels,
            defined: true,
            full: Vec::new(),
            pieces: Vec::new(),
            tail: Tail::default(),
            seen: None,
            open_entries: 0,
            open_max: i64::MIN,
            open_raw: 0,
            open_bytes: 0,
            entries: 0,
            min: i64::MAX,
            max: i64::MIN,
        });
        table.insert_unique(key, slot, |&s| {
            let s = &streams[s as usize];
            self::key(s.hash, s.day)
        });
        Ok(Place {
            shard: shard_at as u32,
            slot,
            id,
        })
    }

    /// Lets the next append of this stream define it again.
    pub fn undefine(&self, place: Place) {
        self.shards[place.shard as usize].lock().streams[place.slot as usize].defined = false;
    }

    /// Locks a stream's shard and appends to it; chunks that became full are added to `full`.
    pub fn append<T>(
        &self,
        place: Place,
        full: &mut Vec<SealJob>,
        work: impl FnOnce(&mut StreamAppender<'_>, &mut Vec<SealJob>) -> T,
    ) -> T {
        let mut shard = self.shards[place.shard as usize].lock();
        let stream = &mut shard.streams[place.slot as usize];
        let mut appender = StreamAppender {
            head: self,
            stream,
            place,
            grown: 0,
            stored: 0,
        };
        let value = work(&mut appender, full);
        self.bytes.fetch_add(appender.grown, Relaxed);
        self.entries.fetch_add(appender.stored, Relaxed);
        value
    }

    /// Compresses a full chunk and puts it in place of its columns.
    pub fn seal(&self, job: SealJob) {
        let sealed = match &job.parts[..] {
            // An open chunk holds each entry once; what came in order is as it should be.
            [only] if only.times.is_sorted() => seal(job.place.id, only),
            parts => {
                let sources: Vec<&Entries> = parts.iter().map(|p| &**p).collect();
                let mut merged = Entries::default();
                if merged.merge(&sources, i64::MIN, i64::MAX).is_err() {
                    return;
                }
                seal(job.place.id, &merged)
            }
        };
        let sealed = Arc::new(sealed);
        let mut shard = self.shards[job.place.shard as usize].lock();
        let parts = &mut shard.streams[job.place.slot as usize].full;
        let is = |part: &Part, entries| matches!(part, Part::Open(p) if Arc::ptr_eq(p, entries));
        self.bytes.fetch_sub(job.bytes, Relaxed);
        let Some(at) = parts.iter().position(|p| is(p, &job.parts[0])) else {
            // The stream expired meanwhile.
            return;
        };
        let bytes = (sealed.data.len() + sealed.filter.len() + size_of::<Sealed>()) as u64;
        parts[at] = Part::Sealed(sealed);
        parts.retain(|p| !job.parts[1..].iter().any(|j| is(p, j)));
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// The streams that touch `[min, max]` and that `wanted` (id, day) picks, as they are now, less full chunks that lie
    /// outside.
    pub fn streams(&self, min: i64, max: i64, mut wanted: impl FnMut(u32, Day) -> bool) -> Vec<StreamView> {
        let mut views = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            for s in &shard.streams {
                if s.min <= s.max && s.min <= max && min <= s.max && wanted(s.id, s.day) {
                    views.push(s.view(min, max));
                }
            }
        }
        views
    }

    /// Drops the streams of days before `day`.
    pub fn expire(&self, day: Day) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Shard { table, streams } = &mut *shard;
            table.retain(|&mut s| streams[s as usize].day >= day);
            for s in streams.iter_mut().filter(|s| s.day < day && s.min <= s.max) {
                let sealed = s.full.iter().map(|p| match p {
                    Part::Sealed(c) => (c.data.len() + c.filter.len() + size_of::<Sealed>()) as u64,
                    Part::Open(_) => 0,
                });
                self.bytes.fetch_sub(sealed.sum::<u64>() + s.open_bytes, Relaxed);
                self.entries.fetch_sub(s.entries, Relaxed);
                s.clear();
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub fn entry_count(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    pub fn stream_count(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// First and last time, if there is an entry.
    pub fn span(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.min.load(Relaxed), self.max.load(Relaxed));
        (min <= max).then_some((min, max))
    }
}

impl StreamAppender<'_> {
    pub fn labels(&self) -> &LabelSet {
        &self.stream.labels
    }

    /// Adds an entry; false if it was there already.
    pub fn push(&mut self, t: i64, line: &str, metadata: &[(&str, &str)], full: &mut Vec<SealJob>) -> bool {
        let s = &mut *self.stream;
        if s.is_known(t, line, metadata) {
            return false;
        }
        let (raw, new_strings) = s.tail.push(&mut s.pieces, t, line, metadata);
        s.open_raw += raw;
        s.open_entries += 1;
        s.entries += 1;
        let bytes = (line.len() + ENTRY_BYTES + new_strings + 8 * metadata.len()) as u64;
        s.open_bytes += bytes;
        self.grown += bytes;
        self.stored += 1;
        if t < s.min {
            s.min = t;
            self.head.min.fetch_min(t, Relaxed);
        }
        if t > s.max {
            s.max = t;
            self.head.max.fetch_max(t, Relaxed);
        }
        if s.open_raw >= CHUNK_RAW_BYTES || s.open_entries >= CHUNK_ENTRIES_MAX {
            full.push(s.close(self.place));
        }
        true
    }
}

impl HeadStream {
    fn view(&self, min: i64, max: i64) -> StreamView {
        let inside = |part: &&Part| match part {
            Part::Sealed(s) => s.meta.min <= max && min <= s.meta.max,
            Part::Open(_) => true,
        };
        let mut parts: Vec<Part> = self.full.iter().filter(inside).cloned().collect();
        parts.extend(self.pieces.iter().cloned().map(Part::Open));
        if !self.tail.entries.is_empty() {
            parts.push(Part::Open(self.tail.entries.clone()));
        }
        StreamView {
            id: self.id,
            day: self.day,
            labels: self.labels.clone(),
            parts,
        }
    }

    /// Whether the open chunk holds exactly this entry; if not, it is about to.
    fn is_known(&mut self, t: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        let newest = self.open_max;
        self.open_max = newest.max(t);
        if self.seen.is_none() && t > newest {
            return false;
        }
        if self.seen.is_none()
            && t == newest
            && let Some(known) = self.tail.ends_with(t, line, metadata, self.pieces.is_empty())
        {
            return known;
        }
        let hash = hash_entry(t, line, metadata.iter().copied());
        let open = self.pieces.iter().chain([&self.tail.entries]);
        let seen = self.seen.get_or_insert_with(|| {
            let mut seen = HashTable::with_capacity(self.open_entries + 1);
            for entries in open {
                for i in 0..entries.times.len() {
                    let hash = entries.hash(i);
                    seen.insert_unique(hash, hash, |&h| h);
                }
            }
            seen
        });
        if seen.find(hash, |&h| h == hash).is_some() && self.holds(t, line, metadata) {
            return true;
        }
        if let Some(seen) = &mut self.seen {
            seen.insert_unique(hash, hash, |&h| h);
        }
        false
    }

    fn holds(&self, t: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        let open = self.pieces.iter().chain([&self.tail.entries]);
        open.into_iter().any(|entries| entries.contains(t, line, metadata))
    }

    /// Ends the open chunk; its columns stay readable until [`Head::seal`] has compressed them.
    fn close(&mut self, place: Place) -> SealJob {
        self.tail.set_aside(&mut self.pieces);
        let parts = std::mem::take(&mut self.pieces);
        self.full.extend(parts.iter().cloned().map(Part::Open));
        if self.open_raw >= CHUNK_RAW_BYTES {
            self.tail.expect_as_much(&parts);
        }
        self.seen = None;
        self.open_max = i64::MIN;
        self.open_entries = 0;
        self.open_raw = 0;
        SealJob {
            place,
            parts,
            bytes: std::mem::take(&mut self.open_bytes),
        }
    }

    fn clear(&mut self) {
        self.full = Vec::new();
        self.pieces = Vec::new();
        self.tail = Tail::default();
        self.seen = None;
        (self.open_entries, self.open_max) = (0, i64::MIN);
        (self.open_raw, self.open_bytes, self.entries) = (0, 0, 0);
        (self.min, self.max) = (i64::MAX, i64::MIN);
    }
}

impl Tail {
    /// Adds an entry; says what [`Entries::push_interned`] does.
    fn push(
        &mut self,
        pieces: &mut Vec<Arc<Entries>>,
        t: i64,
        line: &str,
        metadata: &[(&str, &str)],
    ) -> (usize, usize) {
        if Arc::get_mut(&mut self.entries).is_none() && self.entries.text.len() >= PIECE_BYTES {
            self.set_aside(pieces);
        }
        Arc::make_mut(&mut self.entries).push_interned(&mut self.strings, t, line, metadata.iter().copied())
    }

    /// Of entries that rise by time, none is after `t`: whether they hold this one. `None`: that takes more looking, or
    /// there are others before these.
    fn ends_with(&self, t: i64, line: &str, metadata: &[(&str, &str)], all: bool) -> Option<bool> {
        let entries = &*self.entries;
        let equal = entries
            .times
            .iter()
            .rev()
            .take_while(|&&at| at == t)
            .take(SAME_TIME_MAX)
            .count();
        if equal == SAME_TIME_MAX || equal == entries.times.len() && !all {
            return None;
        }
        let last = entries.times.len() - equal..entries.times.len();
        Some(last.into_iter().any(|i| entries.is(i, t, line, metadata)))
    }

    /// Makes room for a chunk like the one that is made of `parts`, in place of growing to it step by step.
    fn expect_as_much(&mut self, parts: &[Arc<Entries>]) {
        if let (Some(entries), [like]) = (Arc::get_mut(&mut self.entries), parts) {
            let room = |len: usize| len + len / 8;
            entries.text.reserve(like.text.len() + like.text.len() / 32);
            entries.times.reserve(room(like.times.len()));
            entries.ends.reserve(room(like.times.len()));
            entries.metadata.ends.reserve(room(like.metadata.ends.len()));
            entries.metadata.pairs.reserve(room(like.metadata.pairs.len()));
            entries.metadata.strings.reserve_like(&like.metadata.strings);
        }
    }

    fn set_aside(&mut self, pieces: &mut Vec<Arc<Entries>>) {
        let entries = std::mem::take(&mut self.entries);
        self.strings.clear();
        if !entries.is_empty() {
            pieces.push(entries);
        }
    }
}

/// Compresses entries (sorted, without duplicates, not empty) and makes their needle filter.
fn seal(stream: u32, entries: &Entries) -> Sealed {
    SEALING.with_borrow_mut(|Sealing { runs, filter, out }| {
        runs.find(entries.text.as_bytes());
        out.clear();
        let meta = chunk::encode(stream, entries, runs, LEVEL_HEAD, out);
        let data = out.clone();
        out.clear();
        filter.add(entries, runs);
        filter.finish(out);
        Sealed {
            meta,
            data,
            filter: out.clone(),
        }
    })
}

/// What a thread that seals chunks uses again; a chunk's size bounds it.
#[derive(Default)]
struct Sealing {
    runs: Runs,
    filter: FilterBuilder,
    out: Vec<u8>,
}

thread_local! {
    static SEALING: RefCell<Sealing> = RefCell::default();
}

fn key(hash: u64, day: Day) -> u64 {
    hash ^ (day.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
