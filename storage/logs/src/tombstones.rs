//! Tombstones: which entries were asked to be deleted. A published block never changes, so a deletion is noted beside the
//! blocks and hides what it covers until the blocks are written again without it.
//!
//! A *delete request* has a time range and a text that says which streams and which of their entries are meant. The
//! engine stores the text and leaves its meaning to the [`DeleteLanguage`] that it was opened with. From the moment the
//! request is durable its tombstone hides what it means from every reader, whenever that arrived. For a while it can
//! be cancelled: what it hid is seen again. After that [`Logs::carry_out`] writes the blocks again without the deleted
//! entries, and the request is *processed*: it hides nothing any more, so what is sent into its range from then on stays.
//!
//! # Tombstones file, version 1
//!
//! `tombstones` in the engine's directory, rewritten as a whole. Little-endian; `uv`/`iv` = LEB128, plain and zigzag.
//!
//! ```text
//! header   = magic "TLLT" · version u8 = 1 · zero [3]
//! requests = count uv · request*                          in the order of their creation
//!   request = id (len uv · bytes) · created ns iv · processed u8 (0, 1) · [processed ns iv if 1]
//!             · first time ns iv · last time ns iv (both belong to it) · text (len uv · bytes)
//! crc      = CRC32C of all before, u32
//! ```
//!
//! Golden file: `testdata/tombstones_v1.bin`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use arc_swap::ArcSwap;
use model::{LabelSet, Matcher, TimestampNs};
use parking_lot::Mutex;
use rapidhash::v3::rapidhash_v3;
use storage_catalogue::BlockRef;
use storage_codec::{Malformed, Reader, crc32c, put_bytes, put_iv, put_uv};
use storage_disk::Disk;

use crate::block::corrupt;
use crate::{BlockError, Entries, Logs};

/// The file's name in the engine's directory.
const FILE: &str = "tombstones";
const MAGIC: [u8; 4] = *b"TLLT";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// Requests that wait to be carried out; more are refused. A reader looks at each of them.
pub const DELETES_PENDING_MAX: usize = 2_000;
/// Bytes that the compiled patterns of the requests that wait may take.
const PATTERN_BYTES_MAX: usize = 64 << 20;
/// Bytes that those of a request may take which has been carried out.
const PROCESSED_BYTES_MAX: usize = 16 << 10;
/// Requests that are remembered in all; processed ones go first.
const REQUESTS_MAX: usize = 10_000;

/// Which streams a delete request means, and which of their entries.
pub struct Meant {
    /// The streams: those that pass every matcher.
    pub matchers: Vec<Matcher>,
    /// Which of their entries; `None`: all.
    pub filter: Option<Arc<dyn EntryFilter>>,
    /// What its compiled patterns take in memory.
    pub bytes: usize,
}

impl Meant {
    /// What is kept of it once the entries are gone: which streams have been deleted whole, for the label index does not
    /// know. Patterns that take much memory are not worth it.
    fn when_processed(&self) -> Meant {
        if self.filter.is_some() || self.bytes > PROCESSED_BYTES_MAX {
            return Meant::nothing();
        }
        Meant {
            matchers: self.matchers.clone(),
            filter: None,
            bytes: self.bytes,
        }
    }

    /// No entry of any stream.
    fn nothing() -> Meant {
        Meant {
            matchers: Vec::new(),
            filter: Some(Arc::new(Nothing)),
            bytes: 0,
        }
    }
}

/// Picks entries of a stream.
pub trait EntryFilter: Send + Sync {
    /// Calls `found` with the number of each entry that is picked.
    fn find(&self, stream: &LabelSet, entries: &Entries, found: &mut dyn FnMut(usize));
}

/// Says what the text of a delete request means, or why it means nothing.
pub type DeleteLanguage = Arc<dyn Fn(&str) -> Result<Meant, String> + Send + Sync>;

/// A request to delete entries, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Its name: 8 hex digits.
    pub id: String,
    /// When it was made.
    pub created: TimestampNs,
    /// Time of the first entry it may mean.
    pub first: TimestampNs,
    /// Time of the last; belongs to it.
    pub last: TimestampNs,
    /// Which entries it means.
    pub text: String,
    /// How far it is.
    pub state: DeleteState,
}

/// How far a delete request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteState {
    /// Its entries are hidden.
    Received,
    /// So many percent of the blocks have been written without them.
    Partly(u8),
    /// They are gone.
    Processed,
}

/// Why a delete request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The text means nothing.
    #[error("{0}")]
    Meaningless(String),
    /// Too many wait.
    #[error(
        "{DELETES_PENDING_MAX} delete requests wait to be carried out; ask again when some have been, or cancel some"
    )]
    TooMany,
    /// Those that wait have too many or too large patterns.
    #[error(
        "the patterns of delete requests that wait to be carried out would take more than {PATTERN_BYTES_MAX} bytes; ask \
         again when some have been, or with simpler patterns"
    )]
    TooLarge,
    /// It could not be written.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Logs {
    /// Deletes entries of `[first, last]` that the text means: readers do not see them when this returns, nor after a
    /// crash. Returns the request's id.
    pub fn delete(
        &self,
        text: &str,
        first: TimestampNs,
        last: TimestampNs,
        now: TimestampNs,
    ) -> Result<String, DeleteError> {
        let meant = self.policy().understand(text).map_err(DeleteError::Meaningless)?;
        self.tombstones().add(text, meant, first, last, now)
    }

    /// The delete requests that are remembered, in the order of their creation.
    pub fn delete_requests(&self) -> Vec<DeleteRequest> {
        self.tombstones().all().iter().map(|t| t.request()).collect()
    }

    /// Forgets a request that is not processed; what it hid and what is still in blocks is seen again. False: there is none.
    pub fn cancel_delete(&self, id: &str) -> Result<bool, BlockError> {
        self.tombstones().cancel(id)
    }

    /// Writes the engine's files beside its blocks into another directory, and returns the blocks that belong to them.
    pub fn save_beside(&self, dir: &Path) -> Result<Vec<BlockRef>, BlockError> {
        // First the tombstones: what is deleted meanwhile is in blocks all the same.
        let all = self.tombstones().all();
        let blocks = self.blocks();
        if !all.is_empty() {
            let path = dir.join(FILE);
            self.disk()
                .write_atomic(&path, &encode(&all))
                .map_err(|source| BlockError::Io { path, source })?;
        }
        Ok(blocks)
    }
}

/// A delete request and what it means.
pub(crate) struct Tombstone {
    pub id: String,
    pub created: i64,
    pub first: i64,
    pub last: i64,
    pub text: String,
    pub meant: Meant,
    processed: Option<i64>,
    percent: AtomicU8,
}

/// All of them.
pub(crate) struct Tombstones {
    disk: Disk,
    path: PathBuf,
    all: ArcSwap<Vec<Arc<Tombstone>>>,
    changing: Mutex<()>,
}

impl Tombstone {
    /// Whether it hides anything of `[min, max]` in streams that it means.
    pub fn touches(&self, min: i64, max: i64) -> bool {
        self.first <= max && min <= self.last
    }

    /// Whether streams with these labels are meant.
    pub fn means(&self, labels: &LabelSet) -> bool {
        let value = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or_default());
        self.meant.matchers.iter().all(value)
    }

    pub fn is_pending(&self) -> bool {
        self.processed.is_none()
    }

    /// Notes how much of the work is done; only until the process ends.
    pub fn progress(&self, done: usize, of: usize) {
        let percent = (done * 100).checked_div(of).unwrap_or(0).min(99);
        self.percent.store(percent as u8, Relaxed);
    }

    fn request(&self) -> DeleteRequest {
        let state = match (self.processed, self.percent.load(Relaxed)) {
            (Some(_), _) => DeleteState::Processed,
            (None, 0) => DeleteState::Received,
            (None, percent) => DeleteState::Partly(percent),
        };
        DeleteRequest {
            id: self.id.clone(),
            created: TimestampNs(self.created),
            first: TimestampNs(self.first),
            last: TimestampNs(self.last),
            text: self.text.clone(),
            state,
        }
    }
}

impl Tombstones {
    /// Reads the file in `dir`, if there is one. A damaged file, or a request that means nothing any more, is an error:
    /// without it what was deleted would come back unseen.
    pub fn open(
        disk: &Disk,
        dir: &Path,
        understand: impl Fn(&str) -> Result<Meant, String>,
    ) -> Result<Tombstones, BlockError> {
        let path = dir.join(FILE);
        let mut all = Vec::new();
        if disk.exists(&path) {
            let bytes = disk.read(&path).map_err(|source| BlockError::Io {
                path: path.clone(),
                source,
            })?;
            for stored in decode(&path, &bytes)? {
                let meant = match (understand(&stored.text), stored.processed) {
                    (Ok(meant), None) => meant,
                    (Ok(meant), Some(_)) => meant.when_processed(),
                    // It hides nothing; what it meant matters to nobody.
                    (Err(_), Some(_)) => Meant::nothing(),
                    (Err(why), None) => {
                        let what = format!(
                            "delete request {} ({:?}) is not understood: {why}",
                            stored.id, stored.text
                        );
                        return Err(corrupt(&path, 0, &what));
                    }
                };
                all.push(Arc::new(stored.with(meant)));
            }
        }
        Ok(Tombstones {
            disk: disk.clone(),
            path,
            all: ArcSwap::from_pointee(all),
            changing: Mutex::new(()),
        })
    }

    pub fn all(&self) -> Arc<Vec<Arc<Tombstone>>> {
        self.all.load_full()
    }

    fn add(
        &self,
        text: &str,
        meant: Meant,
        first: TimestampNs,
        last: TimestampNs,
        now: TimestampNs,
    ) -> Result<String, DeleteError> {
        let _changing = self.changing.lock();
        let mut all = Vec::clone(&self.all.load());
        if all.iter().filter(|t| t.is_pending()).count() >= DELETES_PENDING_MAX {
            return Err(DeleteError::TooMany);
        }
        let waiting = all.iter().filter(|t| t.is_pending()).map(|t| t.meant.bytes);
        if waiting.sum::<usize>().saturating_add(meant.bytes) > PATTERN_BYTES_MAX {
            return Err(DeleteError::TooLarge);
        }
        while all.len() >= REQUESTS_MAX {
            match all.iter().position(|t| !t.is_pending()) {
                Some(oldest) => drop(all.remove(oldest)),
                None => return Err(DeleteError::TooMany),
            }
        }
        let mut hash = rapidhash_v3(text.as_bytes()) ^ rapidhash_v3(&now.0.to_le_bytes()).rotate_left(21);
        let id = loop {
            let id = format!("{:08x}", hash as u32);
            if !all.iter().any(|t| t.id == id) {
                break id;
            }
            hash = hash.rotate_left(32).wrapping_add(1);
        };
        let stored = Stored {
            id: id.clone(),
            created: now.0,
            processed: None,
            first: first.0,
            last: last.0,
            text: text.to_owned(),
        };
        all.push(Arc::new(stored.with(meant)));
        self.store(all)?;
        Ok(id)
    }

    fn cancel(&self, id: &str) -> Result<bool, BlockError> {
        let _changing = self.changing.lock();
        let mut all = Vec::clone(&self.all.load());
        let before = all.len();
        all.retain(|t| t.id != id || !t.is_pending());
        if all.len() == before {
            return Ok(false);
        }
        self.store(all)?;
        Ok(true)
    }

    /// Notes that what these hid is gone. One that was cancelled meanwhile stays cancelled.
    pub fn processed(&self, done: &[Arc<Tombstone>], now: i64) -> Result<(), BlockError> {
        let _changing = self.changing.lock();
        let mut all = Vec::clone(&self.all.load());
        for tombstone in &mut all {
            if done.iter().any(|d| Arc::ptr_eq(d, tombstone)) {
                *tombstone = Arc::new(Tombstone {
                    id: tombstone.id.clone(),
                    created: tombstone.created,
                    first: tombstone.first,
                    last: tombstone.last,
                    text: tombstone.text.clone(),
                    meant: tombstone.meant.when_processed(),
                    processed: Some(now),
                    percent: AtomicU8::new(0),
                });
            }
        }
        self.store(all)
    }

    /// Forgets processed requests of times before `first`, of which nothing is stored any more, that were processed
    /// before `since`.
    pub fn forget(&self, first: i64, since: i64) -> Result<(), BlockError> {
        let is_old = |t: &Arc<Tombstone>| t.processed.is_some_and(|at| at < since) && t.last < first;
        if !self.all.load().iter().any(is_old) {
            return Ok(());
        }
        let _changing = self.changing.lock();
        let mut all = Vec::clone(&self.all.load());
        all.retain(|t| !is_old(t));
        self.store(all)
    }

    fn store(&self, all: Vec<Arc<Tombstone>>) -> Result<(), BlockError> {
        self.disk
            .write_atomic(&self.path, &encode(&all))
            .map_err(|source| BlockError::Io {
                path: self.path.clone(),
                source,
            })?;
        self.all.store(Arc::new(all));
        Ok(())
    }
}

/// A request as the file has it.
#[derive(Debug, PartialEq)]
struct Stored {
    id: String,
    created: i64,
    processed: Option<i64>,
    first: i64,
    last: i64,
    text: String,
}

impl Stored {
    fn with(self, meant: Meant) -> Tombstone {
        Tombstone {
            id: self.id,
            created: self.created,
            first: self.first,
            last: self.last,
            text: self.text,
            meant,
            processed: self.processed,
            percent: AtomicU8::new(0),
        }
    }
}

/// Picks no entry.
struct Nothing;

impl EntryFilter for Nothing {
    fn find(&self, _: &LabelSet, _: &Entries, _: &mut dyn FnMut(usize)) {}
}

fn encode(all: &[Arc<Tombstone>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    put_uv(&mut out, all.len() as u64);
    for t in all {
        put_bytes(&mut out, t.id.as_bytes());
        put_iv(&mut out, t.created);
        out.push(u8::from(t.processed.is_some()));
        if let Some(processed) = t.processed {
            put_iv(&mut out, processed);
        }
        put_iv(&mut out, t.first);
        put_iv(&mut out, t.last);
        put_bytes(&mut out, t.text.as_bytes());
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Stored>, BlockError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(path, 0, "shorter than a header"));
    };
    let [a, b, c, d, version, ..] = *header;
    if [a, b, c, d] != MAGIC {
        return Err(BlockError::Foreign {
            path: path.to_owned(),
            found: [a, b, c, d],
        });
    }
    if version > VERSION {
        return Err(BlockError::TooNew {
            path: path.to_owned(),
            found: version,
            newest: VERSION,
        });
    }
    let body = bytes
        .split_last_chunk::<4>()
        .and_then(|(body, crc)| (crc32c(body) == u32::from_le_bytes(*crc)).then_some(body));
    let body = body.and_then(|body| body.get(HEADER_BYTES..));
    let body = body.ok_or_else(|| corrupt(path, 0, "fails its CRC32C"))?;
    decode_body(body).map_err(|bad| corrupt(path, (HEADER_BYTES + bad.at) as u64, bad.what))
}

fn decode_body(body: &[u8]) -> Result<Vec<Stored>, Malformed> {
    const REQUEST_BYTES_MIN: usize = 6;
    let mut reader = Reader::new(body);
    let count = reader.count(REQUEST_BYTES_MIN)?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(Stored {
            id: text(&mut reader)?,
            created: reader.iv()?,
            processed: match reader.take(1)? {
                [0] => None,
                _ => Some(reader.iv()?),
            },
            first: reader.iv()?,
            last: reader.iv()?,
            text: text(&mut reader)?,
        });
    }
    Ok(all)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let at = reader.position();
    String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| Malformed {
        at,
        what: "a text is not UTF-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::golden;
    use proptest::prelude::*;

    fn stored(id: &str, processed: Option<i64>, first: i64, last: i64, text: &str) -> Stored {
        Stored {
            id: id.to_owned(),
            created: 1_700_000_000_000_000_000,
            processed,
            first,
            last,
            text: text.to_owned(),
        }
    }

    fn all() -> Vec<Stored> {
        vec![
            stored("0123abcd", None, -5, 1_700_000_000_000_000_000, r#"{app="a"} |= "é""#),
            stored("ffffffff", Some(1_700_000_100_000_000_000), i64::MIN, i64::MAX, "{}"),
        ]
    }

    fn encoded(all: Vec<Stored>) -> Vec<u8> {
        let nothing = Meant::nothing;
        let all: Vec<Arc<Tombstone>> = all.into_iter().map(|s| Arc::new(s.with(nothing()))).collect();
        encode(&all)
    }

    #[test]
    fn golden_tombstones_v1() {
        let path = Path::new("/t");
        let file = golden("tombstones_v1.bin", &encoded(all()));
        assert_eq!(decode(path, &file).unwrap(), all());
        for at in 0..file.len() {
            let mut bad = file.clone();
            bad[at] ^= 0x20;
            assert!(decode(path, &bad).is_err(), "byte {at}");
            assert!(decode(path, &file[..at]).is_err(), "cut to {at}");
        }
        let mut newer = file.clone();
        newer[4] = 2;
        let said = decode(path, &newer).unwrap_err().to_string();
        assert!(said.contains("format version 2, this build reads up to 1"), "{said}");
    }

    #[test]
    fn a_pending_request_that_nobody_understands_keeps_the_engine_closed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::real();
        let write = |all| std::fs::write(dir.path().join(FILE), encoded(all)).unwrap();
        let open = || Tombstones::open(&disk, dir.path(), |_| Err("what?".to_owned()));
        write(all());
        let said = open().err().unwrap().to_string();
        assert!(said.contains("0123abcd") && said.contains("what?"), "{said}");
        write(all().split_off(1));
        assert_eq!(open().unwrap().all().len(), 1);
    }

    proptest! {
        /// Correct checksum, foreign content.
        #[test]
        fn garbage_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = [&b"TLLT\x01\0\0\0"[..], &tail].concat();
            let crc = crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = decode(Path::new("/t"), &bytes);
        }
    }
}
