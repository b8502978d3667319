//! The life cycle: append, replay, cut, compact, expire.
//!
//! An append writes its record to the WAL and then to the head while it holds the *gate* for reading; a cut holds it for
//! writing only while it swaps in a fresh head and rolls the WAL. So each WAL segment belongs to one head, and once the
//! blocks of that head are in the catalogue, its segments can go.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use hashbrown::{HashMap, HashTable};
use model::{BlockId, Day, LabelSet, LogBatch, Matcher, Signal, StreamIx, TimeRangeNs, TimestampNs};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use storage_budget::{Budget, Reservation};
use storage_catalogue::{BlockMeta, BlockRef, CatalogueError, IndexKind, NewBlock};
use storage_disk::Disk;
use storage_wal::{Lsn, Replay, Wal};

use crate::block::{BlockWriter, corrupt};
use crate::chunk::{LEVEL_HEAD, Sealed};
use crate::compact;
use crate::entries::Entries;
use crate::head::{Head, Part, Place, SealJob, StreamView};
use crate::masks::{Keeping, LogPolicy, remove_deleted};
use crate::record::{BatchWriter, KIND_BATCH, KIND_DEFINE, RECORD_PLAIN_BYTES, get_batch, get_define, put_define};
use crate::scan::{Shared, Snapshot};
use crate::tail::{Listeners, Subscription};
use crate::tombstones::{Tombstone, Tombstones};
use crate::{AppendError, Appended, BlockError, Options, Parts, Stats};

/// Refused entries that are named to the client.
const REFUSED_NAMED_MAX: usize = 10;
/// Buffers that one large batch leaves behind are cut to this.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// The engine; share it behind an `Arc`.
pub struct Logs {
    shared: Arc<Shared>,
    options: Options,
    wal: Wal,
    budget: Budget,
    heads: ArcSwap<Heads>,
    gate: RwLock<()>,
    /// Held by the one cut that runs.
    cutting: Mutex<()>,
    /// Held by the one compaction that runs.
    compacting: Mutex<()>,
    /// What the heads take from the budget.
    held: Mutex<Reservation>,
    listeners: Arc<Listeners>,
    appended: AtomicU64,
    appended_bytes: AtomicU64,
    cuts: AtomicU64,
    compactions: AtomicU64,
}

struct Heads {
    current: Arc<Head>,
    /// A head that is being written to blocks, and the place in the WAL below which all its records lie.
    frozen: Option<(Arc<Head>, Lsn)>,
}

impl Logs {
    /// Opens or creates the engine and replays its WAL. All streams are kept as long, and nothing can be deleted.
    pub fn open(parts: Parts, options: Options) -> Result<(Logs, Replay), BlockError> {
        Logs::open_with(parts, options, LogPolicy::default())
    }

    /// Opens or creates the engine and replays its WAL.
    pub fn open_with(parts: Parts, options: Options, policy: LogPolicy) -> Result<(Logs, Replay), BlockError> {
        let labels = parts.catalogue.labels(IndexKind::Streams);
        let tombstones = Tombstones::open(&parts.disk, &parts.dir, |text| policy.understand(text))?;
        let keeping = Keeping::new(options.retention_ns, policy.keep.clone());
        let shared = Arc::new(Shared::new(
            parts.disk.clone(),
            parts.catalogue,
            labels,
            policy,
            keeping,
            tombstones,
        ));
        let head = Arc::new(Head::new());
        let checkpoint = Lsn(shared.catalogue.checkpoint(Signal::Logs).unwrap_or_default());
        let mut replayer = Replayer {
            shared: &shared,
            head: &head,
            checkpoint,
            streams: HashMap::new(),
            places: HashMap::new(),
            plain: Vec::new(),
            full: Vec::new(),
            failed: None,
            malformed: 0,
            homeless: 0,
        };
        let (wal, replay) = Wal::open(
            parts.disk,
            &parts.dir.join("wal"),
            parts.wal,
            &mut |lsn, kind, payload| replayer.record(lsn, kind, payload),
        )?;
        replayer.finish()?;
        if wal.next() < checkpoint {
            tracing::warn!(
                next = wal.next().0,
                checkpoint = checkpoint.0,
                "the log WAL ends before what is in blocks, as in a restored snapshot; elsewhere its files were lost"
            );
            wal.skip_to(checkpoint)?;
        }
        // A crash between publishing and truncating leaves segments that are in blocks already.
        if let Err(error) = wal.truncate(checkpoint) {
            tracing::warn!(%error, "WAL segments whose records are in blocks could not be removed");
        }
        let held = parts.budget.take(head.bytes());
        let logs = Logs {
            shared,
            options,
            wal,
            budget: parts.budget,
            heads: ArcSwap::from_pointee(Heads {
                current: head,
                frozen: None,
            }),
            gate: RwLock::new(()),
            cutting: Mutex::new(()),
            compacting: Mutex::new(()),
            held: Mutex::new(held),
            listeners: Arc::default(),
            appended: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
        };
        Ok((logs, replay))
    }

    /// Returns when the batch is durable; then no crash loses it. Says which entries were refused, and why.
    pub async fn append(&self, batch: &LogBatch, now: TimestampNs) -> Result<Appended, AppendError> {
        let (appended, lsn) = self.apply(batch, now)?;
        if let Some(lsn) = lsn {
            self.wal.durable(lsn).await?;
        }
        Ok(appended)
    }

    /// What is stored at this moment, for reading in peace.
    pub fn snapshot(&self, range: TimeRangeNs) -> Snapshot {
        // First the heads, then the blocks: a head that becomes blocks in between is seen twice rather than never, and
        // then left out.
        let masks = self.shared.masks(range);
        let heads = self.heads.load_full();
        let blocks = self.shared.catalogue.blocks(Signal::Logs, range);
        let frozen = heads.frozen.as_ref().map(|(head, _)| head.clone());
        let heads = frozen.into_iter().chain([heads.current.clone()]).collect();
        Snapshot::new(self.shared.clone(), range, masks, heads, blocks)
    }

    /// Freezes the head into blocks (one per day), then lets its WAL segments go. Empty: there was nothing to freeze.
    pub fn cut(&self) -> Result<Vec<BlockId>, BlockError> {
        let _one = self.cutting.lock();
        // A cut that failed has left its head: that comes first.
        let mut blocks = self.publish_frozen()?;
        // Also a log that has failed wants a new segment, even if nothing waits to be cut.
        if self.heads.load().current.stream_count() > 0 || self.wal.failed().is_some() {
            self.freeze()?;
            blocks.extend(self.publish_frozen()?);
        }
        Ok(blocks)
    }

    /// Merges blocks of one day into one; duplicates are resolved, and what is deleted for good or too old is left out.
    /// Readers keep the old blocks. A block that is damaged stays as it is, with a warning. `None`: nothing was left to
    /// merge, or nothing of it.
    pub fn compact(&self, blocks: &[BlockRef]) -> Result<Option<BlockId>, BlockError> {
        let _one = self.compacting.lock();
        let id = compact::compact(&self.shared, blocks)?;
        self.compactions.fetch_add(u64::from(id.is_some()), Relaxed);
        Ok(id)
    }

    /// Writes blocks again without what is deleted for good (`deletes_due`) and, with `expired`, without streams that are
    /// too old as a whole. Blocks the thread while it works. Says which blocks were made.
    pub fn remove(&self, now: TimestampNs, expired: bool) -> Result<Vec<BlockId>, BlockError> {
        self.let_pass(now);
        let _one = self.compacting.lock();
        let due = compact::deletes_due(&self.shared, now);
        if due.iter().any(|t| self.is_in_head(t)) {
            self.cut()?;
        }
        let made = compact::remove(&self.shared, &due, now, expired)?;
        self.compactions.fetch_add(made.len() as u64, Relaxed);
        Ok(made)
    }

    /// Whether a delete request can no longer be cancelled and waits for [`Logs::remove`].
    pub fn deletes_due(&self, now: TimestampNs) -> bool {
        !compact::deletes_due(&self.shared, now).is_empty()
    }

    /// How long a delete request can be cancelled, ns.
    pub fn cancel_ns(&self) -> i64 {
        self.shared.policy.cancel_ns
    }

    /// The longest that any stream is kept, ns.
    pub fn keeps_at_most(&self) -> i64 {
        self.shared.keeping.longest()
    }

    /// Tells the engine the time: by it, entries become too old for their stream.
    pub fn let_pass(&self, now: TimestampNs) {
        self.shared.now.fetch_max(now.0, Relaxed);
    }

    pub(crate) fn policy(&self) -> &LogPolicy {
        &self.shared.policy
    }

    pub(crate) fn tombstones(&self) -> &Tombstones {
        &self.shared.tombstones
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    pub(crate) fn blocks(&self) -> Vec<BlockRef> {
        self.shared.catalogue.blocks(Signal::Logs, TimeRangeNs::ALL)
    }

    fn is_in_head(&self, tombstone: &Tombstone) -> bool {
        let heads = self.heads.load();
        let frozen = heads.frozen.as_ref().map(|(head, _)| head);
        frozen.into_iter().chain([&heads.current]).any(|head| {
            let views = head.streams(tombstone.first, tombstone.last, |_, _| true);
            views.iter().any(|view| tombstone.means(&view.labels))
        })
    }

    /// Drops from the label index and the head what ended before `before`. (Blocks are retired by `storage`.)
    pub fn expire(&self, before: TimestampNs) -> Result<(), BlockError> {
        let heads = self.heads.load_full();
        heads.current.expire(before.day());
        if let Some((frozen, _)) = &heads.frozen {
            frozen.expire(before.day());
        }
        self.shared.labels.expire(before.day())?;
        self.shared.close_retired();
        self.account();
        Ok(())
    }

    /// Entries from now on of streams that pass every matcher, for live tail. A slow receiver loses entries, and is told how many.
    pub fn subscribe(&self, matchers: Vec<Matcher>) -> Subscription {
        self.listeners.subscribe(matchers)
    }

    /// Figures for the self-metrics.
    pub fn stats(&self) -> Stats {
        let heads = self.heads.load_full();
        let frozen = heads.frozen.as_ref().map(|(head, _)| &**head);
        let all = || frozen.into_iter().chain([&*heads.current]);
        let blocks = self.shared.catalogue.blocks(Signal::Logs, TimeRangeNs::ALL);
        Stats {
            head_streams: all().map(Head::stream_count).sum(),
            head_entries: all().map(Head::entry_count).sum(),
            head_bytes: all().map(Head::bytes).sum(),
            head_min: all().filter_map(Head::span).map(|s| TimestampNs(s.0)).min(),
            head_max: all().filter_map(Head::span).map(|s| TimestampNs(s.1)).max(),
            appended: self.appended.load(Relaxed),
            appended_bytes: self.appended_bytes.load(Relaxed),
            blocks: blocks.len() as u64,
            block_bytes: blocks.iter().map(|b| b.meta().bytes).sum(),
            wal: self.wal.stats(),
            corrupt_chunks: self.shared.corrupt.load(Relaxed),
            cuts: self.cuts.load(Relaxed),
            compactions: self.compactions.load(Relaxed),
            damaged_blocks: self.shared.damaged.lock().len() as u64,
            deletes_pending: self.tombstones().all().iter().filter(|t| t.is_pending()).count() as u64,
        }
    }

    /// Syncs the WAL for a clean stop.
    pub fn sync(&self) -> Result<(), BlockError> {
        Ok(self.wal.sync()?)
    }

    /// Writes a batch to WAL and head. Says what to wait for.
    fn apply(&self, batch: &LogBatch, now: TimestampNs) -> Result<(Appended, Option<Lsn>), AppendError> {
        let room = self.budget.reserve(batch.bytes() as u64)?;
        let mut full = Vec::new();
        let gate = self.gate.read();
        let head = self.heads.load().current.clone();
        let outcome = SCRATCH.with_borrow_mut(|scratch| {
            let outcome = self.apply_with(batch, now, &head, scratch, &mut full);
            scratch.shrink();
            outcome
        });
        drop(gate);
        for job in full {
            head.seal(job);
        }
        self.account();
        drop(room);
        outcome
    }

    fn apply_with(
        &self,
        batch: &LogBatch,
        now: TimestampNs,
        head: &Head,
        scratch: &mut Scratch,
        full: &mut Vec<SealJob>,
    ) -> Result<(Appended, Option<Lsn>), AppendError> {
        let mut appended = Appended::default();
        self.plan(batch, now, head, scratch, &mut appended)?;
        let Scratch {
            rows, groups, record, ..
        } = scratch;
        let mut lsn = None;
        for group in groups.iter() {
            let mut rest = &rows[group.rows.clone()];
            while !rest.is_empty() {
                let fits = rows_that_fit(batch, rest);
                let (now, later) = rest.split_at(fits);
                record.group(group.place.id, now.len());
                for &row in now {
                    let (_, t, line) = batch.row(row as usize);
                    record.entry(t.0, line, batch.row_metadata(row as usize));
                }
                if record.plain_bytes() >= RECORD_PLAIN_BYTES {
                    lsn = Some(self.wal.append(KIND_BATCH, record.finish())?);
                }
                rest = later;
            }
        }
        if record.plain_bytes() > 0 {
            lsn = Some(self.wal.append(KIND_BATCH, record.finish())?);
        }
        let mut metadata = Vec::new();
        let mut bytes = 0;
        for group in groups.iter() {
            head.append(group.place, full, |stream, full| {
                let labels = stream.labels().clone();
                let wanted = self.listeners.wanted(&labels);
                for &row in &rows[group.rows.clone()] {
                    let (_, t, line) = batch.row(row as usize);
                    metadata.clear();
                    metadata.extend(batch.row_metadata(row as usize));
                    if !stream.push(t.0, line, &metadata, full) {
                        appended.duplicates += 1;
                        continue;
                    }
                    appended.stored += 1;
                    bytes += line.len() + metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
                    if let Some(wanted) = &wanted
                        && !self.is_deleted(&labels, t.0, line, &metadata)
                    {
                        wanted.send(&labels, t.0, line, &metadata);
                    }
                }
            });
        }
        self.appended.fetch_add(appended.stored, Relaxed);
        self.appended_bytes.fetch_add(bytes as u64, Relaxed);
        Ok((appended, lsn))
    }

    /// Refuses what is too old or too new, finds each stream's place in the head and groups the rest by stream and day.
    fn plan(
        &self,
        batch: &LogBatch,
        now: TimestampNs,
        head: &Head,
        scratch: &mut Scratch,
        appended: &mut Appended,
    ) -> Result<(), AppendError> {
        self.let_pass(now);
        let keeping = &self.shared.keeping;
        let oldest = now.0.saturating_sub(keeping.longest());
        let newest = now.0.saturating_add(self.options.ahead_ns);
        // Where streams are kept for different times, what each of the batch may have at most.
        let mut oldest_of = Vec::new();
        if !keeping.is_uniform() {
            let labels = |i| LabelSet::from_encoded(batch.labels(StreamIx(i as u32)).0).unwrap_or_default();
            oldest_of.extend((0..batch.stream_count()).map(|i| now.0.saturating_sub(keeping.of(&labels(i)))));
        }
        let Scratch {
            rows,
            groups,
            places,
            define,
            record,
        } = scratch;
        rows.clear();
        groups.clear();
        places.clear();
        places.resize(batch.stream_count(), None);
        record.shrink(SCRATCH_BYTES_KEPT);
        for row in 0..batch.len() {
            let (stream, t, _) = batch.row(row);
            let oldest = oldest_of.get(stream.0 as usize).copied().unwrap_or(oldest);
            if t.0 < oldest || t.0 > newest {
                let too_new = t.0 > newest;
                *(if too_new {
                    &mut appended.too_new
                } else {
                    &mut appended.too_old
                }) += 1;
                if appended.refused.len() < REFUSED_NAMED_MAX {
                    let labels = LabelSet::from_encoded(batch.labels(stream).0).unwrap_or_default();
                    appended.refused.push((labels, t, too_new));
                }
                continue;
            }
            let day = t.day();
            let known = &mut places[stream.0 as usize];
            let place = match known {
                Some((d, place)) if *d == day => *place,
                _ => {
                    let (encoded, hash) = batch.labels(stream);
                    let place = head.place(day, encoded, hash, || self.define(day, encoded, hash, define))?;
                    *known = Some((day, place));
                    place
                }
            };
            let at = rows.len() as u32 as usize;
            rows.push(row as u32);
            match groups.last_mut() {
                Some(g) if g.stream == stream && g.day == day => g.rows.end = at + 1,
                _ => groups.push(Group {
                    stream,
                    day,
                    place,
                    rows: at..at + 1,
                }),
            }
        }
        Ok(())
    }

    /// Whether an entry is hidden by a delete request already when it arrives.
    fn is_deleted(&self, labels: &LabelSet, t: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        let all = self.tombstones().all();
        let mut deletes = all
            .iter()
            .filter(|d| d.is_pending() && d.touches(t, t) && d.means(labels));
        let Some(first) = deletes.next() else { return false };
        let mut entry = Entries::default();
        entry.push_interned(&mut HashTable::new(), t, line, metadata.iter().copied());
        let deletes: Vec<Arc<Tombstone>> = [first].into_iter().chain(deletes).cloned().collect();
        remove_deleted(&deletes, labels, &mut entry);
        entry.is_empty()
    }

    /// Gets a stream's id and writes its definition to the WAL.
    fn define(
        &self,
        day: Day,
        encoded: &[u8],
        hash: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(u32, LabelSet), AppendError> {
        let labels = LabelSet::from_encoded(encoded).map_err(|e| CatalogueError::Io {
            path: "logs".into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, e.to_string()),
        })?;
        let id = self.shared.labels.intern(day, encoded, hash)?;
        buffer.clear();
        put_define(buffer, id, day, encoded);
        self.wal.append(KIND_DEFINE, buffer)?;
        Ok((id, labels))
    }

    /// Swaps in a fresh head. From here on, the WAL's records below the checkpoint are the frozen head's. Appends wait
    /// for the swap, not for the disk.
    fn freeze(&self) -> Result<(), BlockError> {
        let rolling = {
            let _gate = self.gate.write();
            let (checkpoint, rolling) = self.wal.begin_roll();
            let full = self.heads.load_full();
            self.heads.store(Arc::new(Heads {
                current: Arc::new(Head::new()),
                frozen: Some((full.current.clone(), checkpoint)),
            }));
            rolling
        };
        // If the disk says no, the log refuses appends until the next cut, which begins with what is frozen here.
        Ok(rolling.wait()?)
    }

    /// Writes the frozen head, if there is one, to blocks; then it and its WAL segments can go.
    fn publish_frozen(&self) -> Result<Vec<BlockId>, BlockError> {
        let heads = self.heads.load_full();
        let Some((head, checkpoint)) = &heads.frozen else {
            return Ok(Vec::new());
        };
        let mut days: BTreeMap<Day, Vec<StreamView>> = BTreeMap::new();
        for view in head.streams(i64::MIN, i64::MAX, |_, _| true) {
            days.entry(view.day).or_default().push(view);
        }
        let blocks = days
            .into_iter()
            .map(|(day, streams)| self.write_day(day, streams))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<BlockId> = blocks.iter().map(|b| b.meta.id).collect();
        *head.becomes.lock() = ids.clone();
        self.shared.catalogue.publish(blocks, Some(checkpoint.0))?;
        // No append touches `current` here: freezing is ours alone, and nothing else swaps heads.
        self.heads.store(Arc::new(Heads {
            current: heads.current.clone(),
            frozen: None,
        }));
        self.account();
        self.cuts.fetch_add(1, Relaxed);
        self.shared.catalogue.flush()?;
        self.wal.truncate(*checkpoint)?;
        Ok(ids)
    }

    fn write_day(&self, day: Day, mut streams: Vec<StreamView>) -> Result<NewBlock, BlockError> {
        streams.sort_by_key(|s| s.id);
        let staged = self.shared.catalogue.stage(Signal::Logs)?;
        let mut writer = BlockWriter::create(&self.shared.disk, staged.dir())?;
        for stream in &streams {
            write_stream(stream, &mut writer)?;
        }
        let written = writer.finish()?;
        let labels: Vec<(u32, LabelSet)> = streams.into_iter().map(|s| (s.id, s.labels)).collect();
        let meta = BlockMeta {
            id: staged.id(),
            signal: Signal::Logs,
            day,
            min: TimestampNs(written.min),
            max: TimestampNs(written.max),
            level: 0,
            items: written.entries,
            keys: labels.len() as u64,
            bytes: 0,
            replaces: Vec::new(),
        };
        Ok(NewBlock { staged, meta, labels })
    }

    /// Tells the budget what the heads take now.
    fn account(&self) {
        let heads = self.heads.load();
        let frozen = heads.frozen.as_ref().map_or(0, |(head, _)| head.bytes());
        self.held.lock().resize(heads.current.bytes() + frozen);
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.listeners.close();
    }
}

/// Rows of a batch that go to one stream of one day, and follow one another.
struct Group {
    stream: StreamIx,
    day: Day,
    place: Place,
    /// Where they stand in the list of accepted rows.
    rows: Range<usize>,
}

/// Buffers of a thread that appends.
#[derive(Default)]
struct Scratch {
    rows: Vec<u32>,
    groups: Vec<Group>,
    places: Vec<Option<(Day, Place)>>,
    define: Vec<u8>,
    record: BatchWriter,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn shrink(&mut self) {
        self.rows.shrink_to(SCRATCH_BYTES_KEPT / 8);
        self.groups.shrink_to(SCRATCH_BYTES_KEPT / 64);
        self.places.shrink_to(SCRATCH_BYTES_KEPT / 64);
        self.record.shrink(SCRATCH_BYTES_KEPT);
    }
}

/// How many of `rows` go into one WAL record; at least one.
fn rows_that_fit(batch: &LogBatch, rows: &[u32]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take_while(|&&row| {
        let (_, _, line) = batch.row(row as usize);
        let before = bytes;
        let metadata = batch.row_metadata(row as usize).map(|(n, v)| n.len() + v.len() + 4);
        bytes += line.len() + 16 + metadata.sum::<usize>();
        before < RECORD_PLAIN_BYTES
    });
    fits.count().max(1)
}

/// Writes a stream's full chunks as they are, and what was open as one more.
fn write_stream(stream: &StreamView, writer: &mut BlockWriter) -> Result<(), BlockError> {
    let mut sealed: Vec<&Sealed> = Vec::new();
    let mut open: Vec<&Entries> = Vec::new();
    for part in &stream.parts {
        match part {
            Part::Sealed(s) => sealed.push(s),
            Part::Open(e) => open.push(e),
        }
    }
    let mut rest = Entries::default();
    if rest.merge(&open, i64::MIN, i64::MAX).is_err() {
        return Err(corrupt(
            Path::new("head"),
            0,
            "a stream's open chunk holds more than 4 GiB",
        ));
    }
    sealed.sort_by_key(|s| s.meta.min);
    let mut rest = rest.times.first().copied().map(|min| (min, rest));
    for s in sealed {
        if let Some((_, entries)) = rest.take_if(|(min, _)| *min < s.meta.min) {
            writer.add(stream.id, &entries, LEVEL_HEAD)?;
        }
        writer.add_sealed(s)?;
    }
    match rest {
        Some((_, entries)) => writer.add(stream.id, &entries, LEVEL_HEAD),
        None => Ok(()),
    }
}

/// Fills a head from WAL records.
struct Replayer<'a> {
    shared: &'a Shared,
    head: &'a Head,
    checkpoint: Lsn,
    /// Label sets and their hashes by the ids that the WAL uses.
    streams: HashMap<u32, (LabelSet, u64)>,
    places: HashMap<(u32, Day), Place>,
    plain: Vec<u8>,
    full: Vec<SealJob>,
    failed: Option<CatalogueError>,
    malformed: u64,
    /// Entries of streams that nothing defines.
    homeless: u64,
}

impl Replayer<'_> {
    fn record(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) {
        if lsn < self.checkpoint || self.failed.is_some() {
            return;
        }
        match kind {
            KIND_DEFINE => match get_define(payload) {
                Ok((id, _, labels)) => {
                    let hash = labels.hash64();
                    self.streams.insert(id, (labels, hash));
                }
                Err(_) => self.malformed += 1,
            },
            KIND_BATCH => {
                let mut plain = std::mem::take(&mut self.plain);
                let read = get_batch(payload, &mut plain, |id, t, line, metadata| {
                    self.entry(id, t, line, metadata);
                });
                self.plain = plain;
                if read.is_err() {
                    self.malformed += 1;
                }
                for job in self.full.drain(..) {
                    self.head.seal(job);
                }
            }
            _ => self.malformed += 1,
        }
    }

    fn entry(&mut self, id: u32, t: i64, line: &str, metadata: &[(&str, &str)]) {
        let day = TimestampNs(t).day();
        let place = match self.places.get(&(id, day)) {
            Some(&place) => place,
            None => match self.place(id, day) {
                Ok(Some(place)) => place,
                Ok(None) => {
                    self.homeless += 1;
                    return;
                }
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return;
                }
            },
        };
        self.head.append(place, &mut self.full, |stream, full| {
            stream.push(t, line, metadata, full);
        });
    }

    fn place(&mut self, id: u32, day: Day) -> Result<Option<Place>, CatalogueError> {
        let index = &self.shared.labels;
        if !self.streams.contains_key(&id) {
            // Its definition was in a record that is lost; the index may know it all the same.
            let known = index.label_sets(&RoaringBitmap::from_iter([id]))?;
            let known = known
                .into_iter()
                .map(|(id, labels)| (id, (labels.clone(), labels.hash64())));
            self.streams.extend(known);
        }
        let Some((labels, hash)) = self.streams.get(&id) else {
            return Ok(None);
        };
        let define = || Ok::<_, CatalogueError>((index.define(id, day, labels)?, labels.clone()));
        let place = self.head.place(day, labels.as_bytes(), *hash, define)?;
        if place.id != id {
            // The WAL knows the stream by another id; it must learn the right one before the next entry.
            self.head.undefine(place);
        }
        self.places.insert((id, day), place);
        Ok(Some(place))
    }

    fn finish(self) -> Result<(), BlockError> {
        if self.malformed > 0 || self.homeless > 0 {
            tracing::warn!(
                records = self.malformed,
                entries = self.homeless,
                "log WAL: malformed records, and entries of streams that nothing defines, were skipped"
            );
        }
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}
