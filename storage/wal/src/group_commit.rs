//! Group commit: tasks append to a queue, one thread writes and syncs what has gathered, and says how far it got.
//!
//! The thread sleeps while there is nothing to write; in mode `Interval` it also wakes once a period while something is
//! unsynced. A record is *settled* when it is known to be durable or known to be lost.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, mpsc::SyncSender};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use storage_codec::crc32c;
use storage_disk::{Disk, Writer};
use tokio::sync::watch;

use crate::queue::{Batch, Queue};
use crate::replay::{self, Opened, create_segment};
use crate::segment::{RECORD_OVERHEAD, file_name};
use crate::{BUFFER_BYTES_MAX, Lsn, Options, RECORD_BYTES_MAX, Replay, Stats, SyncMode, Wal, WalError};

/// What the face and the thread share.
pub(crate) struct Shared {
    disk: Disk,
    pub(crate) dir: PathBuf,
    options: Options,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Every record below is settled.
    settled: watch::Receiver<Lsn>,
    /// Settled records that were lost to a failure.
    lost: Mutex<Vec<(Range<Lsn>, WalError)>>,
    /// Segments and their bytes, oldest first.
    segments: Mutex<Vec<(Lsn, u64)>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    records: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    failures: AtomicU64,
}

/// The thread.
struct Committer {
    shared: Arc<Shared>,
    settled: watch::Sender<Lsn>,
    /// The segment that grows.
    file: Writer,
    first: Lsn,
    /// Its bytes up to the last settled record; what lies behind is cut off after a failure.
    kept_bytes: u64,
    /// When what was written must be synced; `None`: it is, or need not be.
    sync_due: Option<Instant>,
    /// Whether something was written since the last sync.
    unsynced: bool,
    /// Writing or syncing failed, and no new segment was started since.
    failed: Option<WalError>,
    /// After a failure: whether the segment's lost records are still in it.
    to_cut: bool,
    /// A segment whose creation failed halfway, to be removed.
    leftover: Option<Lsn>,
}

/// A buffer larger than this is not kept for reuse.
const KEPT_BUFFER_BYTES: usize = 1 << 20;
/// Failures that are told apart for those who still wait.
const LOST_RANGES_MAX: usize = 64;

impl Wal {
    /// Opens or creates the log in `dir` and hands every record (place, kind, payload) to `replay`, in order.
    ///
    /// A record whose append failed may be among them if the process died before the log was rolled, and so may records
    /// that were truncated just before a crash.
    pub fn open(
        disk: Disk,
        dir: &std::path::Path,
        options: Options,
        replay: &mut dyn FnMut(Lsn, u8, &[u8]),
    ) -> Result<(Wal, Replay), WalError> {
        let Opened {
            segments,
            file,
            next,
            report,
        } = replay::open(&disk, dir, replay)?;
        let first = segments.last().map_or(next, |&(first, _)| first);
        let (sender, settled) = watch::channel(next);
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_path_buf(),
            options,
            queue: Mutex::new(Queue::new(next, file.len())),
            wake: Condvar::new(),
            settled,
            lost: Mutex::new(Vec::new()),
            segments: Mutex::new(segments),
            counters: Counters::default(),
        });
        let kept_bytes = file.len();
        let committer = Committer {
            shared: shared.clone(),
            settled: sender,
            file,
            first,
            kept_bytes,
            sync_due: None,
            unsynced: false,
            failed: None,
            to_cut: false,
            leftover: None,
        };
        let spawned = std::thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || committer.run());
        let thread = spawned.map_err(|e| WalError::io(dir, e))?;
        Ok((
            Wal {
                shared,
                thread: Some(thread),
            },
            report,
        ))
    }

    /// Appends one record; the place says what to wait for. Never waits for a sync.
    ///
    /// Fails if the record is [too large](RECORD_BYTES_MAX), if [too much](BUFFER_BYTES_MAX) waits to be written, or if the
    /// disk failed before and the log was not [rolled](Wal::roll) since.
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<Lsn, WalError> {
        let appended = self.push(kind, payload);
        let count = if appended.is_ok() {
            &self.shared.counters.records
        } else {
            &self.shared.counters.failures
        };
        count.fetch_add(1, Relaxed);
        appended
    }

    /// Returns when the record at `lsn` is durable by the sync mode. `lsn` comes from [`Wal::append`] of this log.
    pub async fn durable(&self, lsn: Lsn) -> Result<(), WalError> {
        if *self.shared.settled.borrow() <= lsn {
            let mut settled = self.shared.settled.clone();
            let reached = settled.wait_for(|settled| *settled > lsn).await.is_ok();
            if !reached {
                return Err(self.shared.gone());
            }
        }
        match self.shared.lost.lock().iter().find(|(range, _)| range.contains(&lsn)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Starts a new segment; all records so far lie below the returned place, all later ones at or above it.
    ///
    /// Waits for the disk: not to be called where tasks run. After a failure this is what makes the log usable again:
    /// it first cuts off what was lost, and leaves the log failed if the disk still says no.
    pub fn roll(&self) -> Result<Lsn, WalError> {
        let (place, rolling) = self.begin_roll();
        rolling.wait()?;
        Ok(place)
    }

    /// The quick half of [`Wal::roll`]: from here on, records get places at or above the returned one and go to the new
    /// segment. Whether the disk could start it is told by [`Rolling::wait`].
    pub fn begin_roll(&self) -> (Lsn, Rolling<'_>) {
        let mut queue = self.shared.queue.lock();
        let place = queue.next;
        let is_empty = queue.segment_is_empty();
        if !is_empty {
            queue.start_segment();
        }
        let answer = (!is_empty || queue.failed.is_some()).then(|| self.ask(&mut queue, false));
        (place, Rolling { wal: self, answer })
    }

    /// Makes sure that all later records lie at or above `place`. For a log whose files were lost: what is behind its
    /// engine's checkpoint already must not be counted again, or replay would take new records for old ones. Waits for the
    /// disk.
    pub fn skip_to(&self, place: Lsn) -> Result<(), WalError> {
        let answer = {
            let mut queue = self.shared.queue.lock();
            if queue.next >= place {
                return Ok(());
            }
            queue.next = place;
            queue.start_segment();
            self.ask(&mut queue, true)
        };
        answer.recv().unwrap_or_else(|_| Err(self.shared.gone()))
    }

    /// Deletes the segments that lie wholly below `before`. The segment that grows stays: it remembers the next place.
    pub fn truncate(&self, before: Lsn) -> Result<(), WalError> {
        let shared = &self.shared;
        let mut doomed: Vec<(Lsn, u64)> = {
            let mut segments = shared.segments.lock();
            let below = segments.windows(2).take_while(|pair| pair[1].0 <= before).count();
            segments.drain(..below).collect()
        };
        let mut removed = Ok(());
        if !doomed.is_empty() {
            let remove = |&(first, _): &(Lsn, u64)| {
                let path = shared.dir.join(file_name(first));
                shared.disk.remove_file(&path).map_err(|e| WalError::io(&path, e))
            };
            let done = doomed.iter().take_while(|&segment| {
                removed = remove(segment);
                removed.is_ok()
            });
            let done = done.count();
            doomed.drain(..done);
            removed = removed.and(
                shared
                    .disk
                    .sync_dir(&shared.dir)
                    .map_err(|e| WalError::io(&shared.dir, e)),
            );
            shared.segments.lock().splice(..0, doomed);
        }
        removed
    }

    /// Syncs what is buffered, whatever the mode. For a clean stop. Waits for the disk.
    pub fn sync(&self) -> Result<(), WalError> {
        let answer = self.ask(&mut self.shared.queue.lock(), true);
        answer.recv().unwrap_or_else(|_| Err(self.shared.gone()))
    }

    /// The place the next record will get.
    pub fn next(&self) -> Lsn {
        self.shared.queue.lock().next
    }

    /// Why appends are refused, if they are. [`Wal::roll`] is the way out.
    pub fn failed(&self) -> Option<WalError> {
        self.shared.queue.lock().failed.clone()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let segments = self.shared.segments.lock();
        Stats {
            disk_bytes: segments.iter().map(|(_, bytes)| bytes).sum(),
            segments: segments.len() as u64,
            records: counters.records.load(Relaxed),
            syncs: counters.syncs.load(Relaxed),
            sync_seconds: Duration::from_nanos(counters.sync_nanos.load(Relaxed)).as_secs_f64(),
            failures: counters.failures.load(Relaxed),
        }
    }

    fn push(&self, kind: u8, payload: &[u8]) -> Result<Lsn, WalError> {
        if payload.len() > RECORD_BYTES_MAX {
            return Err(WalError::TooLarge {
                bytes: payload.len(),
                max: RECORD_BYTES_MAX,
            });
        }
        // The long part of the work is done outside of the lock.
        let crc = crc32c(payload);
        let lsn = {
            let mut queue = self.shared.queue.lock();
            if let Some(error) = &queue.failed {
                return Err(error.clone());
            }
            let buffered = queue.buffered;
            if buffered > 0 && buffered + RECORD_OVERHEAD + payload.len() > BUFFER_BYTES_MAX {
                return Err(WalError::Behind {
                    dir: self.shared.dir.clone(),
                    buffered,
                    max: BUFFER_BYTES_MAX,
                });
            }
            queue.push(kind, payload, crc, self.shared.options.segment_bytes)
        };
        self.shared.wake.notify_one();
        Ok(lsn)
    }

    fn ask(&self, queue: &mut Queue, sync: bool) -> mpsc::Receiver<Result<(), WalError>> {
        let (sender, answer) = mpsc::sync_channel(1);
        queue.batch.answers.push(sender);
        queue.batch.sync |= sync;
        self.shared.wake.notify_one();
        answer
    }
}

/// A segment that is being started.
#[must_use = "only wait() says whether the segment could be started"]
pub struct Rolling<'a> {
    wal: &'a Wal,
    answer: Option<mpsc::Receiver<Result<(), WalError>>>,
}

impl Rolling<'_> {
    /// Returns when the segment is there. Waits for the disk.
    pub fn wait(self) -> Result<(), WalError> {
        match self.answer {
            Some(answer) => answer.recv().unwrap_or_else(|_| Err(self.wal.shared.gone())),
            None => Ok(()),
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn gone(&self) -> WalError {
        let message = "the thread that writes the WAL has ended; restart the process".to_owned();
        WalError::Io {
            path: self.dir.clone(),
            message,
            full: false,
        }
    }
}

impl Committer {
    fn run(mut self) {
        while let Some((batch, end)) = self.wait() {
            let written: usize = batch.runs.iter().map(|run| run.bytes.len()).sum();
            match self.commit(&batch, end) {
                Ok(()) => self.succeed(batch, written),
                // Only asked again while nothing has changed.
                Err(error) if batch.runs.is_empty() && self.failed.is_some() => answer(batch.answers, &Err(error)),
                Err(error) => self.fail(batch.answers, error),
            }
        }
    }

    /// The next batch and the place behind it; an empty one when a sync is due; `None` to end.
    fn wait(&self) -> Option<(Batch, Lsn)> {
        let mut queue = self.shared.queue.lock();
        while queue.is_idle() {
            match self.sync_due {
                _ if queue.stopping && self.unsynced && self.failed.is_none() => {
                    let last = Batch {
                        sync: true,
                        ..Batch::default()
                    };
                    return Some((last, queue.next));
                }
                _ if queue.stopping => return None,
                Some(due) => {
                    if self.shared.wake.wait_until(&mut queue, due).timed_out() {
                        break;
                    }
                }
                None => self.shared.wake.wait(&mut queue),
            }
        }
        Some((std::mem::take(&mut queue.batch), queue.next))
    }

    /// Writes a batch and syncs it if the mode says so; settles what it can.
    fn commit(&mut self, batch: &Batch, end: Lsn) -> Result<(), WalError> {
        for run in &batch.runs {
            match (run.starts, &self.failed) {
                (Some(first), _) => self.start_segment(first)?,
                (None, Some(error)) => return Err(error.clone()),
                (None, None) => {}
            }
            if !run.bytes.is_empty() {
                self.unsynced = true;
                self.on_file(|file| file.write_all(&run.bytes))?;
                self.measure(self.file.len());
            }
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let due = match self.shared.options.sync {
            SyncMode::Always => true,
            SyncMode::Interval(period) => {
                let now = Instant::now();
                self.unsynced && *self.sync_due.get_or_insert(now + period) <= now
            }
            SyncMode::Never => false,
        };
        if due || batch.sync {
            self.sync()?;
        }
        self.settle(end);
        Ok(())
    }

    /// Closes the segment that grows and starts the next one.
    fn start_segment(&mut self, first: Lsn) -> Result<(), WalError> {
        if self.failed.is_some() {
            self.cut()?;
        } else {
            // In every mode: a segment that is not the last is whole, and a clean stop need not look back.
            self.sync()?;
            self.settle(first);
        }
        // The segment that grows, if it is the one to be started again, stays: its name remembers the next place.
        self.leftover = (first != self.first).then_some(first);
        self.file = create_segment(&self.shared.disk, &self.shared.dir, first)?;
        self.leftover = None;
        {
            let mut segments = self.shared.segments.lock();
            segments.retain(|&(known, _)| known != first);
            segments.push((first, self.file.len()));
        }
        self.first = first;
        self.kept_bytes = self.file.len();
        self.unsynced = true;
        self.failed = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        self.sync_due = None;
        if !self.unsynced {
            return Ok(());
        }
        let start = Instant::now();
        let synced = self.on_file(Writer::sync);
        let counters = &self.shared.counters;
        counters.syncs.fetch_add(1, Relaxed);
        counters
            .sync_nanos
            .fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
        synced?;
        self.unsynced = false;
        Ok(())
    }

    /// Tells that all below `end` is written, and synced if it must be.
    fn settle(&mut self, end: Lsn) {
        self.kept_bytes = self.file.len();
        self.settled
            .send_if_modified(|settled| std::mem::replace(settled, end) != end);
    }

    fn succeed(&mut self, batch: Batch, written: usize) {
        {
            let mut queue = self.shared.queue.lock();
            queue.failed = None;
            queue.buffered -= written;
            // The buffer goes back to where the next records gather, if none have meanwhile.
            let spare = batch.runs.into_iter().next_back().map(|run| run.bytes);
            if let Some(mut spare) = spare.filter(|spare| spare.capacity() <= KEPT_BUFFER_BYTES) {
                spare.clear();
                queue.spare = spare;
            }
        }
        answer(batch.answers, &Ok(()));
    }

    /// Refuses appends from now on and tells all who wait. What was lost is cut off at once if the disk lets us.
    fn fail(&mut self, answers: Vec<SyncSender<Result<(), WalError>>>, error: WalError) {
        if self.failed.is_none() {
            tracing::error!(%error, "the WAL cannot be written: appends are refused until a new segment can be started");
            self.to_cut = true;
        }
        self.shared.counters.failures.fetch_add(1, Relaxed);
        self.failed = Some(error.clone());
        self.sync_due = None;
        let _ = self.cut();
        let (lost, more_answers) = {
            let mut queue = self.shared.queue.lock();
            let more = queue.fail(&error);
            (*self.settled.borrow()..queue.next, more)
        };
        if !lost.is_empty() {
            let end = lost.end;
            remember(&mut self.shared.lost.lock(), lost, &error);
            self.settled.send_replace(end);
        }
        answer(answers, &Err(error.clone()));
        answer(more_answers, &Err(error));
    }

    /// Cuts off what was lost, so that no replay brings it back after its client was told; half a segment goes as well.
    fn cut(&mut self) -> Result<(), WalError> {
        if let Some(first) = self.leftover {
            let path = self.shared.dir.join(file_name(first));
            let remove = || {
                self.shared.disk.remove_file(&path)?;
                self.shared.disk.sync_dir(&self.shared.dir)
            };
            remove().map_err(|e| WalError::io(&path, e))?;
            self.leftover = None;
        }
        if self.to_cut {
            let path = self.shared.dir.join(file_name(self.first));
            let cut = || {
                let mut file = self.shared.disk.open_append(&path, self.kept_bytes)?;
                file.sync()
            };
            cut().map_err(|e| WalError::io(&path, e))?;
            self.to_cut = false;
            self.measure(self.kept_bytes);
        }
        Ok(())
    }

    fn on_file(&mut self, step: impl FnOnce(&mut Writer) -> std::io::Result<()>) -> Result<(), WalError> {
        step(&mut self.file).map_err(|e| WalError::io(&self.shared.dir.join(file_name(self.first)), e))
    }

    fn measure(&self, len: u64) {
        for (_, bytes) in self
            .shared
            .segments
            .lock()
            .iter_mut()
            .filter(|(first, _)| *first == self.first)
        {
            *bytes = len;
        }
    }
}

/// Keeps a lost range. When there are too many, the oldest two become one with what lies between: an error too many is
/// better than one too few.
fn remember(lost: &mut Vec<(Range<Lsn>, WalError)>, range: Range<Lsn>, error: &WalError) {
    if lost.len() >= LOST_RANGES_MAX {
        let (oldest, _) = lost.remove(0);
        if let Some((next, _)) = lost.first_mut() {
            next.start = oldest.start;
        }
    }
    lost.push((range, error.clone()));
}

fn answer(answers: Vec<SyncSender<Result<(), WalError>>>, result: &Result<(), WalError>) {
    for sender in answers {
        // Who no longer listens does not mind.
        let _ = sender.try_send(result.clone());
    }
}
