//! Beside `spans.parquet`: what Parquet has no place for. When each trace of the block begins and ends, so that the newest
//! are found without reading rows; a mark of each trace's id, so that traces that lie in several blocks are known; and a
//! checksum of every 4 KiB of the Parquet file, so that damage is noticed by whoever reads it through this engine. Who reads
//! the Parquet file with another program needs none of it.
//!
//! # `spans.index`, version 1
//!
//! Little-endian. `uv` = LEB128. Times in ms since the epoch, rounded down. A `crc` is the CRC32C of its row so far.
//!
//! ```text
//! 0    header  = magic "TLSI" · version u8 = 1 · zero [3]
//! 8    times*  = base i64 · traces u32 · len u32 · data [len] · crc u32        in the order of the rows
//!      data    = (CRC32C of the trace id u32 · rows uv · first start - base uv · last end - first start uv)*
//! i    sums    = bytes of spans.parquet u64 · count u32 · (CRC32C of 4 KiB)* · crc u32
//! -16  footer  = i u64 · traces u32 · crc u32
//! ```
//!
//! A reader refuses versions it does not know and never trusts `len`. A block without this file, or with a damaged one, is
//! read all the same: times come from the columns then, and only what the Parquet reader notices is damage.
//! Golden file: `testdata/spans_index_v1.bin`.

use std::ops::Range;
use std::path::Path;

use model::{Span, TimeRangeNs, TimestampNs, TraceId};
use storage_codec::{Malformed, Reader, crc32c, crc32c_append, put_uv};
use storage_disk::ReadFile;

/// The file within a block's directory.
pub(crate) const INDEX_FILE: &str = "spans.index";
/// Bytes under one checksum.
pub(crate) const UNIT: usize = 4096;

const MAGIC: [u8; 4] = *b"TLSI";
const VERSION: u8 = 1;
const HEADER: usize = 8;
const FOOTER: usize = 16;
/// Traces of one row of times.
const TRACES_MAX: u32 = 4096;
const MS: i64 = 1_000_000;

/// Gathers the index while the block is written.
pub(crate) struct IndexWriter {
    out: Vec<u8>,
    row: Vec<(u32, u64, i64, i64)>,
    traces: u32,
}

/// Checksums of a file, taken as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    units: Vec<u32>,
    /// Of the unit that is not full yet.
    crc: u32,
    bytes: u64,
}

impl IndexWriter {
    /// Nothing yet.
    pub(crate) fn new() -> IndexWriter {
        let mut out = MAGIC.to_vec();
        out.extend([VERSION, 0, 0, 0]);
        IndexWriter {
            out,
            row: Vec::new(),
            traces: 0,
        }
    }

    /// Adds the next trace: all its spans.
    pub(crate) fn trace(&mut self, id: TraceId, rows: u64, first_start: TimestampNs, last_end: TimestampNs) {
        let start = first_start.0.div_euclid(MS);
        self.row
            .push((id_mark(id), rows, start, last_end.0.div_euclid(MS).max(start)));
        self.traces = self.traces.saturating_add(1);
        if self.row.len() >= TRACES_MAX as usize {
            self.end_row();
        }
    }

    /// The bytes of the index, given the checksums of the whole Parquet file.
    pub(crate) fn finish(mut self, mut sums: Sums) -> Vec<u8> {
        self.end_row();
        let mut out = self.out;
        let at = out.len();
        let units = sums.finish();
        out.extend_from_slice(&sums.bytes.to_le_bytes());
        out.extend_from_slice(&(units.len() as u32).to_le_bytes());
        units.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        seal(&mut out, at);
        let footer = out.len();
        out.extend_from_slice(&(at as u64).to_le_bytes());
        out.extend_from_slice(&self.traces.to_le_bytes());
        seal(&mut out, footer);
        out
    }

    fn end_row(&mut self) {
        let Some(base) = self.row.iter().map(|(_, _, start, _)| *start).min() else {
            return;
        };
        let mut data = Vec::with_capacity(self.row.len() * 10);
        for (mark, rows, start, end) in &self.row {
            data.extend_from_slice(&mark.to_le_bytes());
            put_uv(&mut data, *rows);
            put_uv(&mut data, start.wrapping_sub(base) as u64);
            put_uv(&mut data, end.wrapping_sub(*start) as u64);
        }
        let at = self.out.len();
        self.out.extend_from_slice(&base.to_le_bytes());
        self.out.extend_from_slice(&(self.row.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&data);
        seal(&mut self.out, at);
        self.row.clear();
    }
}

fn seal(out: &mut Vec<u8>, from: usize) {
    let crc = crc32c(&out[from..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

impl Sums {
    /// Takes the file's next bytes into account.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = (self.bytes % UNIT as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(UNIT - used));
            self.crc = crc32c_append(self.crc, now);
            self.bytes += now.len() as u64;
            if used + now.len() == UNIT {
                self.units.push(std::mem::take(&mut self.crc));
            }
            bytes = later;
        }
    }

    fn finish(&mut self) -> Vec<u32> {
        if !self.bytes.is_multiple_of(UNIT as u64) {
            self.units.push(std::mem::take(&mut self.crc));
        }
        std::mem::take(&mut self.units)
    }

    /// Length of the file they are of.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.units.len() * 4
    }

    /// The first byte of `bytes`, which begin at the unit boundary `start` of the file and end at one or at its end, that
    /// fails its checksum's unit.
    pub(crate) fn damage(&self, start: u64, bytes: &[u8]) -> Option<u64> {
        let first = (start / UNIT as u64) as usize;
        let bad = bytes
            .chunks(UNIT)
            .enumerate()
            .find(|(n, unit)| self.units.get(first + n) != Some(&crc32c(unit)))?;
        Some(start + (bad.0 * UNIT) as u64)
    }
}

/// A number that equal ids share and others mostly do not.
pub fn id_mark(id: TraceId) -> u32 {
    crc32c(&id.to_bytes())
}

/// Times of a block's traces, in the order of its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// First row of each trace, and the number of rows at the end.
    rows: Vec<u32>,
    base: i64,
    starts: Vec<u32>,
    lengths: Vec<u32>,
    marks: Vec<u32>,
}

impl Times {
    /// From the block's rows: pushes in their order, `base` not above any start.
    pub(crate) fn with_base(base_ms: i64) -> Times {
        Times {
            rows: vec![0],
            base: base_ms,
            starts: Vec::new(),
            lengths: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Adds a trace; its times as far as 32 bits of ms reach, which is longer than a block's day.
    pub(crate) fn push(&mut self, mark: u32, rows: u64, start_ms: i64, length_ms: u64) -> Option<()> {
        let last = *self.rows.last()?;
        self.rows.push(last.checked_add(u32::try_from(rows).ok()?)?);
        let start = start_ms.checked_sub(self.base).unwrap_or(0).clamp(0, u32::MAX.into());
        self.starts.push(start as u32);
        self.marks.push(mark);
        self.lengths.push(u32::try_from(length_ms).unwrap_or(u32::MAX));
        Some(())
    }

    /// Traces.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The marks of all ids.
    pub(crate) fn marks(&self) -> &[u32] {
        &self.marks
    }

    /// Rows of a trace.
    pub(crate) fn rows(&self, trace: usize) -> Range<usize> {
        match (self.rows.get(trace), self.rows.get(trace + 1)) {
            (Some(start), Some(end)) => *start as usize..*end as usize,
            _ => 0..0,
        }
    }

    /// All rows.
    pub(crate) fn total_rows(&self) -> usize {
        self.rows.last().map_or(0, |n| *n as usize)
    }

    /// The trace that a row belongs to.
    pub(crate) fn trace_at(&self, row: usize) -> usize {
        self.rows
            .partition_point(|first| *first as usize <= row)
            .saturating_sub(1)
    }

    /// A time that is not before the trace's first start, and less than a millisecond after it (unless it lies beyond what
    /// [`Times::push`] takes).
    pub(crate) fn start_bound(&self, trace: usize) -> TimestampNs {
        match self.starts.get(trace) {
            None | Some(&u32::MAX) => TimestampNs(i64::MAX),
            Some(start) => up_to(self.base.saturating_add(i64::from(*start))),
        }
    }

    /// Whether the trace may touch a range.
    pub(crate) fn touches(&self, trace: usize, range: TimeRangeNs) -> bool {
        let (Some(start), Some(length)) = (self.starts.get(trace), self.lengths.get(trace)) else {
            return true;
        };
        if *start == u32::MAX || *length == u32::MAX {
            return true;
        }
        let first = self.base.saturating_add(i64::from(*start));
        let end = up_to(first.saturating_add(i64::from(*length)));
        range.overlaps(TimestampNs(first.saturating_mul(MS)), end)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.starts.len() * 16 + 64
    }
}

/// The last nanosecond of a millisecond.
fn up_to(ms: i64) -> TimestampNs {
    TimestampNs(ms.saturating_mul(MS).saturating_add(MS - 1))
}

/// An index file, open.
pub(crate) struct IndexFile {
    file: ReadFile,
    sums_at: u64,
    traces: u32,
}

/// Why there is no use in an index file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadIndex {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Other(&'static str),
}

impl IndexFile {
    /// Opens a file; also says what the Parquet file's checksums are.
    pub(crate) fn open(disk: &storage_disk::Disk, path: &Path) -> Result<(IndexFile, Sums), BadIndex> {
        let file = disk.open(path)?;
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0)?;
        if head[..4] != MAGIC || head[4] != VERSION {
            return Err(BadIndex::Other("no index of spans, or one of another version"));
        }
        let len = file.len();
        let footer_at = len.checked_sub(FOOTER as u64).ok_or(BadIndex::Other("too short"))?;
        let footer = sealed(&file, footer_at, FOOTER - 4)?;
        let mut r = Reader::new(&footer);
        let (sums_at, traces) = (r.u64()?, r.u32()?);
        let sums_len = footer_at
            .checked_sub(sums_at)
            .and_then(|n| n.checked_sub(4))
            .filter(|_| sums_at >= HEADER as u64)
            .ok_or(BadIndex::Other("checksums lie outside"))?;
        let sums = sealed(&file, sums_at, sums_len as usize)?;
        let mut r = Reader::new(&sums);
        let bytes = r.u64()?;
        let count = r.u32()? as usize;
        if count as u64 != bytes.div_ceil(UNIT as u64) || r.remaining().len() != count * 4 {
            return Err(BadIndex::Other(
                "another number of checksums than the file's length needs",
            ));
        }
        let units = r.remaining().as_chunks::<4>().0;
        let sums = Sums {
            units: units.iter().map(|sum| u32::from_le_bytes(*sum)).collect(),
            crc: 0,
            bytes,
        };
        let index = IndexFile { file, sums_at, traces };
        Ok((index, sums))
    }

    /// Reads the times.
    pub(crate) fn times(&self) -> Result<Times, BadIndex> {
        let len = self.sums_at as usize - HEADER;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, HEADER as u64)?;
        let mut base = i64::MAX;
        each_row(&bytes, |row_base, _, _| {
            base = base.min(row_base);
            Ok(())
        })?;
        let mut times = Times::with_base(base);
        times.rows.reserve((self.traces as usize).min(len));
        times.starts.reserve((self.traces as usize).min(len));
        times.lengths.reserve((self.traces as usize).min(len));
        times.marks.reserve((self.traces as usize).min(len));
        each_row(&bytes, |base, traces, data| {
            let mut r = Reader::new(data);
            for _ in 0..traces {
                let (mark, rows, start, length) = (r.u32()?, r.uv()?, r.uv()?, r.uv()?);
                let start = base.saturating_add(i64::try_from(start).unwrap_or(i64::MAX));
                times
                    .push(mark, rows, start, length)
                    .ok_or(BadIndex::Other("more rows than a block has"))?;
            }
            Ok(())
        })?;
        if times.len() != self.traces as usize {
            return Err(BadIndex::Other("another number of traces than it says"));
        }
        Ok(times)
    }
}

fn each_row(bytes: &[u8], mut see: impl FnMut(i64, u32, &[u8]) -> Result<(), BadIndex>) -> Result<(), BadIndex> {
    let mut r = Reader::new(bytes);
    while !r.is_empty() {
        let from = r.position();
        let base = r.u64()? as i64;
        let traces = r.u32()?;
        let len = r.u32()? as usize;
        let data = r.take(len)?;
        let crc = crc32c(&bytes[from..r.position()]);
        if r.u32()? != crc {
            return Err(BadIndex::Other("times fail their CRC32C"));
        }
        see(base, traces, data)?;
    }
    Ok(())
}

/// `len` bytes at a place, which their CRC32C follows.
fn sealed(file: &ReadFile, at: u64, len: usize) -> Result<Vec<u8>, BadIndex> {
    if at.checked_add(len as u64 + 4).is_none_or(|end| end > file.len()) {
        return Err(BadIndex::Other("ends too early"));
    }
    let mut bytes = vec![0; len + 4];
    file.read_exact_at(&mut bytes, at)?;
    let crc = bytes.split_off(len);
    if crc != crc32c(&bytes).to_le_bytes() {
        return Err(BadIndex::Other("fails its CRC32C"));
    }
    Ok(bytes)
}

/// First start and last end of a trace's spans.
pub(crate) fn times_of(spans: &[Span]) -> Option<(TimestampNs, TimestampNs)> {
    let first = spans.iter().map(|s| s.start).min()?;
    let last = spans.iter().map(|s| s.end.max(s.start)).max()?;
    Some((first, last))
}

#[cfg(test)]
mod tests {
    use storage_disk::FaultyDisk;

    use super::*;
    use crate::arbitrary::golden;

    fn index(traces: &[(u64, i64, i64)], file: &[u8]) -> Vec<u8> {
        let mut writer = IndexWriter::new();
        for (n, (rows, start, end)) in traces.iter().enumerate() {
            writer.trace(TraceId(n as u128), *rows, TimestampNs(*start), TimestampNs(*end));
        }
        let mut sums = Sums::default();
        file.chunks(1000).for_each(|part| sums.add(part));
        writer.finish(sums)
    }

    fn open(bytes: &[u8]) -> Result<(Times, Sums), BadIndex> {
        let disk = FaultyDisk::new().disk();
        let path = Path::new("/spans.index");
        disk.write_atomic(path, bytes)?;
        let (index, sums) = IndexFile::open(&disk, path)?;
        Ok((index.times()?, sums))
    }

    const TRACES: [(u64, i64, i64); 3] = [
        (3, 1_700_000_000_000_999_999, 1_700_000_001_000_000_000),
        (1, -5, -5),
        (70_000, 86_400_000_000_000, 86_400_001_000_000),
    ];

    #[test]
    fn golden_index_v1() {
        let bytes = index(&TRACES, &[7; 10_000]);
        assert_eq!(golden("spans_index_v1.bin", &bytes), bytes);
        let (times, _) = open(&bytes).unwrap();
        assert_eq!(times.len(), 3);
        assert_eq!(times.marks(), [0, 1, 2].map(|n| id_mark(TraceId(n))));
        assert_eq!([times.rows(0), times.rows(1), times.rows(2)], [0..3, 3..4, 4..70_004]);
        assert_eq!(
            [times.trace_at(2), times.trace_at(3), times.trace_at(70_003)],
            [0, 1, 2]
        );
        assert_eq!(times.start_bound(1), TimestampNs(-1));
        assert_eq!(times.start_bound(2), TimestampNs(86_400_000_999_999));
        let range = |start, end| TimeRangeNs {
            start: TimestampNs(start),
            end: TimestampNs(end),
        };
        assert!(times.touches(2, range(86_400_001_000_000, i64::MAX)));
        assert!(!times.touches(2, range(86_400_003_000_000, i64::MAX)));
        assert!(!times.touches(2, range(0, 86_399_999_999_999)));
    }

    #[test]
    fn a_changed_byte_of_the_parquet_file_is_found() {
        let mut file: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        let (_, sums) = open(&index(&TRACES, &file)).unwrap();
        assert_eq!(sums.file_bytes(), 10_000);
        assert_eq!(sums.damage(0, &file), None);
        assert_eq!(sums.damage(8192, &file[8192..]), None);
        file[9_000] ^= 1;
        assert_eq!(sums.damage(0, &file), Some(8192));
        assert_eq!(sums.damage(4096, &file[4096..8192]), None);
    }

    #[test]
    fn a_damaged_index_is_refused() {
        let whole = index(&TRACES, &[7; 10_000]);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            // The three bytes behind the version say nothing.
            assert!(open(&bytes).is_err() || (5..8).contains(&at), "byte {at}");
            assert!(open(&whole[..at]).is_err(), "cut at {at}");
        }
    }
}
