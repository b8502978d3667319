//! # WAL segment, version 1
//!
//! Little-endian. A file `%016x.wal`, named by the Lsn of its first record. A `crc` is a CRC32C.
//!
//! ```text
//! 0    header  = magic "TLBW" · version u8 = 1 · zero [3] · first lsn u64 · crc of these u32
//! 20   record* = len u32 · kind u8 · lsn u64 · payload [len] · crc u32
//! ```
//!
//! A record's `crc` covers the payload first and then len, kind and lsn, so that the long part is computed before the
//! place is known. Lsns follow one another without a gap; gaps are only between segments. The header keeps this shape in
//! all versions.
//!
//! A reader refuses versions it does not know. Where no good record stands it looks for the next one: byte by byte, for a
//! length that fits, an lsn that can have been reached by then, and a crc that agrees. Golden file: `testdata/segment_v1.bin`.

use std::io;

use storage_codec::{Reader, crc32c, crc32c_append};
use storage_disk::ReadFile;

use crate::{Lsn, RECORD_BYTES_MAX};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 20;
/// Bytes of a record beside its payload.
pub(crate) const RECORD_OVERHEAD: usize = FRONT_BYTES + 4;
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"TLBW";
/// len, kind and lsn.
const FRONT_BYTES: usize = 13;
/// Read at once when going front to back.
const READ_AHEAD_BYTES: usize = 256 << 10;
/// Looking for the next good record may checksum a segment this many times over, then it gives up.
const RESYNC_EFFORT: u64 = 8;

/// What a segment held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Whether the header is whole.
    pub(crate) header: bool,
    /// Records handed over.
    pub(crate) records: u64,
    /// Their payload bytes.
    pub(crate) bytes: u64,
    /// The place after the last record.
    pub(crate) next: Lsn,
    /// Where the last good record (or the header) ends.
    pub(crate) good_end: u64,
    /// Where good records end that are followed by bad bytes and then by a good record again.
    pub(crate) bad: Vec<u64>,
}

/// Why a segment could not be read at all.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The disk said no.
    Io(io::Error),
    /// Its version.
    TooNew(u8),
}

/// The file name of a segment whose first record has (or will have) this place.
pub(crate) fn file_name(first: Lsn) -> String {
    format!("{:016x}.wal", first.0)
}

/// The place in a segment's file name; `None` for other files.
pub(crate) fn parse_file_name(name: &str) -> Option<Lsn> {
    let first = Lsn(u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok()?);
    (file_name(first) == name).then_some(first)
}

/// The bytes every segment begins with.
pub(crate) fn header(first: Lsn) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = VERSION;
    bytes[8..16].copy_from_slice(&first.0.to_le_bytes());
    let crc = crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Appends a record. `payload_crc` is the CRC32C of the payload; the payload is within [`RECORD_BYTES_MAX`].
pub(crate) fn put_record(out: &mut Vec<u8>, lsn: Lsn, kind: u8, payload: &[u8], payload_crc: u32) {
    let mut front = [0; FRONT_BYTES];
    front[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    front[4] = kind;
    front[5..].copy_from_slice(&lsn.0.to_le_bytes());
    out.reserve(RECORD_OVERHEAD + payload.len());
    out.extend_from_slice(&front);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32c_append(payload_crc, &front).to_le_bytes());
}

/// Hands every good record of the segment whose name says `first` to `each`, in order.
pub(crate) fn read(file: &ReadFile, first: Lsn, each: &mut dyn FnMut(Lsn, u8, &[u8])) -> Result<Contents, Unreadable> {
    let mut window = Window {
        file,
        bytes: Vec::new(),
        start: 0,
    };
    let header = check_header(window.get(0, HEADER_BYTES as u64)?)?;
    let start = if header { HEADER_BYTES as u64 } else { 0 };
    let mut contents = Contents {
        header,
        next: first,
        good_end: start,
        ..Contents::default()
    };
    let mut effort = file.len().saturating_mul(RESYNC_EFFORT);
    let mut at = start;
    while at < file.len() && effort > 0 {
        // The fewest bytes a lost record can have taken bound how many were lost.
        let lost_max = (at - contents.good_end) / RECORD_OVERHEAD as u64;
        let places = contents.next.0..=contents.next.0.saturating_add(lost_max);
        let Some((len, kind, lsn)) = front(&mut window, at)?.filter(|(_, _, lsn)| places.contains(&lsn.0)) else {
            at += 1;
            continue;
        };
        match record(&mut window, at, len)? {
            Some(payload) => {
                each(lsn, kind, payload);
                if at != contents.good_end {
                    contents.bad.push(contents.good_end);
                }
                contents.records += 1;
                contents.bytes += u64::from(len);
                contents.next = Lsn(lsn.0.saturating_add(1));
                at += u64::from(len) + RECORD_OVERHEAD as u64;
                contents.good_end = at;
            }
            None => {
                effort = effort.saturating_sub(u64::from(len) + RECORD_OVERHEAD as u64);
                at += 1;
            }
        }
    }
    Ok(contents)
}

/// A part of a file in memory, moved along as it is read.
struct Window<'a> {
    file: &'a ReadFile,
    bytes: Vec<u8>,
    start: u64,
}

impl Window<'_> {
    /// `n` bytes at `at`, or `None` if the file ends before.
    fn get(&mut self, at: u64, n: u64) -> Result<Option<&[u8]>, Unreadable> {
        let Some(end) = at.checked_add(n).filter(|&end| end <= self.file.len()) else {
            return Ok(None);
        };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let left = self.file.len() - at;
            let take = n.max(READ_AHEAD_BYTES as u64).min(left);
            self.bytes.resize(take as usize, 0);
            self.start = at;
            self.file.read_exact_at(&mut self.bytes, at).map_err(Unreadable::Io)?;
        }
        let from = (at - self.start) as usize;
        Ok(Some(&self.bytes[from..from + n as usize]))
    }
}

/// Whether the header is whole, and of a version that can be read.
fn check_header(bytes: Option<&[u8]>) -> Result<bool, Unreadable> {
    let Some(bytes) = bytes else { return Ok(false) };
    let whole = bytes.starts_with(MAGIC) && bytes[16..] == crc32c(&bytes[..16]).to_le_bytes();
    match bytes[4] {
        version if whole && version > VERSION => Err(Unreadable::TooNew(version)),
        version => Ok(whole && version == VERSION),
    }
}

/// len, kind and lsn at `at`, if a record of that length can stand there.
fn front(window: &mut Window<'_>, at: u64) -> Result<Option<(u32, u8, Lsn)>, Unreadable> {
    let left = window.file.len() - at;
    let Some(bytes) = window.get(at, FRONT_BYTES as u64)? else {
        return Ok(None);
    };
    let mut reader = Reader::new(bytes);
    let (Ok(len), Ok(kind), Ok(lsn)) = (reader.u32(), reader.u8(), reader.u64()) else {
        return Ok(None);
    };
    let fits = len as usize <= RECORD_BYTES_MAX && u64::from(len) + RECORD_OVERHEAD as u64 <= left;
    Ok(fits.then_some((len, kind, Lsn(lsn))))
}

/// The payload of the record at `at`, if its crc agrees.
fn record<'w>(window: &'w mut Window<'_>, at: u64, len: u32) -> Result<Option<&'w [u8]>, Unreadable> {
    let Some(bytes) = window.get(at, u64::from(len) + RECORD_OVERHEAD as u64)? else {
        return Ok(None);
    };
    let (front, rest) = bytes.split_at(FRONT_BYTES);
    let (payload, crc) = rest.split_at(len as usize);
    let agrees = crc32c_append(crc32c(payload), front).to_le_bytes() == crc;
    Ok(agrees.then_some(payload))
}
