//! A block on disk: the chunks of one UTC day in one file, their needle filters in another, the ids that they share in a
//! third (`id_table.rs`).
//!
//! Chunks lie sorted by (stream, first time). Neighbours form *groups* of about [`GROUP_RAW_BYTES`] raw bytes, so that
//! many small streams share a page of records and a needle filter. A reader keeps only the directory of groups in
//! memory and reads pages, filters and chunks when a query asks for them.
//!
//! # Chunk file `chunks`, version 1
//!
//! Little-endian, uv = LEB128, iv = zigzag LEB128. Times in ns since the epoch. A `crc` is the CRC32C of its row so far.
//!
//! ```text
//! 0    header     = magic "TLLC" · version u8 = 1 · zero [3]
//! 8    chunk*     = see `chunk.rs`; they follow one another in the order of their records
//! p    page*      = record* · crc u32                  (one for each group)
//! d    directory  = pages offset uv · groups uv · group* · crc u32
//! -24  footer     = directory offset u64 · directory length u32 · zero u32 · magic "TLLC" · crc u32
//!
//! group    = chunks uv · chunk bytes uv · page bytes uv · filter bytes uv
//!            · first stream uv (less the last of the group before) · last stream uv (less the first)
//!            · first time iv · last time uv (less the first)
//! record   = stream uv (less the one before) · first time iv (less the one before; the first: less the group's)
//!            · last time uv (less the first) · entries uv · line bytes uv · metadata bytes uv
//!            · length of part uv [5] · level mask uv · count uv*
//! ```
//!
//! The level mask has a bit for each item of `chunk::LEVEL_VALUES` that any entry has; their counts follow.
//!
//! # Needle file `needles`, version 1
//!
//! ```text
//! 0    header     = magic "TLLN" · version u8 = 1 · zero [3]
//! 8    filter*    = see `needle_filter.rs` · crc u32   (one for each group)
//! ```
//!
//! A missing or damaged filter rules nothing out. A reader refuses versions it does not know and never trusts a length.
//! Golden files: `testdata/chunks_v1.bin`, `testdata/needles_v1.bin`.

use std::path::{Path, PathBuf};

use storage_codec::{Malformed, Reader, crc32c, put_iv, put_uv};
use storage_disk::{Disk, ReadFile, Writer};

use crate::BlockError;
use crate::chunk::{self, ChunkMeta, LEVELS, PARTS, Sealed};
use crate::entries::Entries;
use crate::id_table::{IDS, IdTable, IdTableWriter, MAGIC_IDS};
use crate::ids::IdsIn;
use crate::needle_filter::{FilterBuilder, Runs};

/// Raw bytes at which a group of chunks is full.
pub(crate) const GROUP_RAW_BYTES: usize = 256 << 10;
/// Chunks at which a group is full.
const GROUP_CHUNKS_MAX: usize = 256;

const CHUNKS: &str = "chunks";
const NEEDLES: &str = "needles";
const MAGIC_CHUNKS: [u8; 4] = *b"TLLC";
const MAGIC_NEEDLES: [u8; 4] = *b"TLLN";
const VERSION: u8 = 1;
/// Where the version stands in a header.
const VERSION_AT: u64 = 4;
pub(crate) const HEADER_BYTES: usize = 8;
const FOOTER_BYTES: usize = 24;
const GROUP_BYTES_MIN: usize = 8;
const RECORD_BYTES_MIN: usize = 7 + PARTS;
/// What a writer gathers before it writes.
const BUFFER_BYTES: usize = 256 << 10;

/// Neighbouring chunks that share a page of records and a needle filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub chunks: u32,
    pub first: u32,
    pub last: u32,
    pub min: i64,
    pub max: i64,
    data_at: u64,
    data_len: u64,
    page_at: u64,
    page_len: u32,
    filter_at: u64,
    filter_len: u32,
}

/// Writes the two files of a block. Chunks must come sorted by (stream, first time).
pub(crate) struct BlockWriter {
    chunks: File,
    needles: File,
    ids: IdTableWriter,
    /// A chunk before its ids are shared.
    chunk: Vec<u8>,
    runs: Runs,
    pages: Vec<u8>,
    groups: Vec<Group>,
    records: Vec<ChunkMeta>,
    filter: FilterBuilder,
    written: Written,
    last_stream: Option<u32>,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub min: i64,
    pub max: i64,
    pub entries: u64,
    pub chunks: u64,
    /// The streams, rising.
    pub streams: Vec<u32>,
}

pub(crate) struct File {
    path: PathBuf,
    writer: Writer,
    buffer: Vec<u8>,
    at: u64,
}

impl BlockWriter {
    /// Creates the files in `dir`.
    pub fn create(disk: &Disk, dir: &Path) -> Result<BlockWriter, BlockError> {
        let mut chunks = File::create(disk, dir.join(CHUNKS))?;
        let mut needles = File::create(disk, dir.join(NEEDLES))?;
        chunks.put(|out| out.extend_from_slice(&header(MAGIC_CHUNKS)))?;
        needles.put(|out| out.extend_from_slice(&header(MAGIC_NEEDLES)))?;
        Ok(BlockWriter {
            chunks,
            needles,
            ids: IdTableWriter::create(disk, dir)?,
            chunk: Vec::new(),
            runs: Runs::default(),
            pages: Vec::new(),
            groups: Vec::new(),
            records: Vec::new(),
            filter: FilterBuilder::default(),
            written: Written {
                min: i64::MAX,
                max: i64::MIN,
                ..Written::default()
            },
            last_stream: None,
        })
    }

    /// Adds a chunk that is compressed already; it becomes a group of its own, with the filter it has.
    pub fn add_sealed(&mut self, sealed: &Sealed) -> Result<(), BlockError> {
        self.close_group(None)?;
        let meta = self.put_chunk(&sealed.meta, &sealed.data)?;
        self.add_record(meta);
        self.close_group(Some(&sealed.filter))
    }

    /// Adds entries (sorted, without duplicates, not empty) as one chunk.
    pub fn add(&mut self, stream: u32, entries: &Entries, level: i32) -> Result<(), BlockError> {
        let mut data = std::mem::take(&mut self.chunk);
        data.clear();
        self.runs.find(entries.text.as_bytes());
        let meta = chunk::encode(stream, entries, &self.runs, level, &mut data);
        let meta = self.put_chunk(&meta, &data)?;
        self.chunk = data;
        self.filter.add(entries, &self.runs);
        self.add_record(meta);
        if self.filter.raw_bytes() >= GROUP_RAW_BYTES || self.records.len() >= GROUP_CHUNKS_MAX {
            self.close_group(None)?;
        }
        Ok(())
    }

    /// Writes what is left. The files are synced when the block is published.
    pub fn finish(mut self) -> Result<Written, BlockError> {
        self.close_group(None)?;
        let pages_at = self.chunks.at;
        let (pages, groups) = (&self.pages, &self.groups);
        self.chunks.put(|out| out.extend_from_slice(pages))?;
        let directory_at = self.chunks.at;
        let len = self.chunks.put(|out| {
            let start = out.len();
            put_directory(out, pages_at, groups);
            put_crc(out, start);
            out.len() - start
        })?;
        self.chunks.put(|out| {
            let start = out.len();
            out.extend_from_slice(&directory_at.to_le_bytes());
            out.extend_from_slice(&(len as u32).to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&MAGIC_CHUNKS);
            put_crc(out, start);
        })?;
        self.chunks.drain()?;
        self.needles.drain()?;
        self.ids.finish()?;
        Ok(self.written)
    }

    /// Writes a chunk whose ids are in place, with the wide ones moved to the block's table.
    fn put_chunk(&mut self, meta: &ChunkMeta, data: &[u8]) -> Result<ChunkMeta, BlockError> {
        let BlockWriter { chunks, ids, .. } = self;
        let mut failed = None;
        let place = |id| match ids.place(id) {
            Ok(place) => place,
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        };
        let shared = chunks.put(|out| chunk::share_ids(meta, data, place, out))?;
        match failed {
            Some(error) => Err(error),
            None => shared.map_err(|e| corrupt(&chunks.path, chunks.at, e.what)),
        }
    }

    fn add_record(&mut self, meta: ChunkMeta) {
        let w = &mut self.written;
        w.min = w.min.min(meta.min);
        w.max = w.max.max(meta.max);
        w.entries += u64::from(meta.entries);
        w.chunks += 1;
        if self.last_stream != Some(meta.stream) {
            w.streams.push(meta.stream);
            self.last_stream = Some(meta.stream);
        }
        self.records.push(meta);
    }

    fn close_group(&mut self, filter: Option<&[u8]>) -> Result<(), BlockError> {
        let (Some(first), Some(last)) = (self.records.first(), self.records.last()) else {
            return Ok(());
        };
        let (first, last) = (first.stream, last.stream);
        let min = self.records.iter().map(|m| m.min).min().unwrap_or_default();
        let max = self.records.iter().map(|m| m.max).max().unwrap_or_default();
        let page_start = self.pages.len();
        put_records(&mut self.pages, &self.records, first, min);
        put_crc(&mut self.pages, page_start);
        let builder = &mut self.filter;
        let filter_len = self.needles.put(|out| {
            let start = out.len();
            match filter {
                Some(filter) => out.extend_from_slice(filter),
                None => builder.finish(out),
            }
            put_crc(out, start);
            out.len() - start
        })?;
        self.groups.push(Group {
            chunks: self.records.len() as u32,
            first,
            last,
            min,
            max,
            data_at: 0,
            data_len: self.records.iter().map(|m| m.len() as u64).sum(),
            page_at: 0,
            page_len: (self.pages.len() - page_start) as u32,
            filter_at: 0,
            filter_len: filter_len as u32,
        });
        self.records.clear();
        Ok(())
    }
}

impl File {
    pub fn create(disk: &Disk, path: PathBuf) -> Result<File, BlockError> {
        let writer = disk.create(&path).map_err(|source| BlockError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(File {
            path,
            writer,
            buffer: Vec::new(),
            at: 0,
        })
    }

    pub fn put<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, BlockError> {
        let before = self.buffer.len();
        let value = write(&mut self.buffer);
        self.at += (self.buffer.len() - before) as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(value)
    }

    pub fn drain(&mut self) -> Result<(), BlockError> {
        let written = self.writer.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| BlockError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// The files of a block, open for reading, and the directory of its groups.
pub(crate) struct OpenBlock {
    chunks: ReadFile,
    needles: Option<ReadFile>,
    ids: Result<IdTable, String>,
    pub groups: Vec<Group>,
}

impl OpenBlock {
    /// Opens the files in `dir` and checks headers and directory. Without a usable needle file nothing is ruled out.
    pub fn open(disk: &Disk, dir: &Path) -> Result<OpenBlock, BlockError> {
        let (chunks, head) =
            open_file(disk, dir.join(CHUNKS), MAGIC_CHUNKS).map_err(|error| newer_or_damaged(disk, dir, error))?;
        let needles = match open_file(disk, dir.join(NEEDLES), MAGIC_NEEDLES) {
            Ok((file, _)) => Some(file),
            Err(error) => {
                tracing::warn!(%error, "no needle filters for this block: its chunks are all read");
                None
            }
        };
        // Most chunks can be read without it, and each that cannot says so.
        let ids = IdTable::open(disk, dir).map_err(|error| error.to_string());
        let footer_at = chunks
            .len()
            .checked_sub(FOOTER_BYTES as u64)
            .filter(|&at| at >= head)
            .ok_or_else(|| corrupt(chunks.path(), 0, "shorter than header and footer"))?;
        let footer = read(&chunks, footer_at, FOOTER_BYTES)?;
        let bad_footer = |what| corrupt(chunks.path(), footer_at, what);
        let mut r = Reader::new(checked(&footer).map_err(|e| bad_footer(e.what))?);
        let (at, len) = (|| Ok::<_, Malformed>((r.u64()?, r.u32()?)))().map_err(|e| bad_footer(e.what))?;
        if at < head || at.checked_add(u64::from(len)) != Some(footer_at) {
            return Err(bad_footer("directory does not end at the footer"));
        }
        let directory = read(&chunks, at, len as usize)?;
        let groups = checked(&directory)
            .and_then(|d| get_directory(d, at))
            .map_err(|e| corrupt(chunks.path(), at + e.at as u64, e.what))?;
        Ok(OpenBlock {
            chunks,
            needles,
            ids,
            groups,
        })
    }

    /// The records of a group with the offset of each chunk.
    pub fn records(&self, group: &Group) -> Result<Vec<(ChunkMeta, u64)>, BlockError> {
        let page = read(&self.chunks, group.page_at, group.page_len as usize)?;
        checked(&page)
            .and_then(|p| get_records(p, group))
            .map_err(|e| corrupt(self.chunks.path(), group.page_at + e.at as u64, e.what))
    }

    /// The needle filter of a group, if it can be read.
    pub fn filter(&self, group: &Group) -> Option<Vec<u8>> {
        let mut filter = read(self.needles.as_ref()?, group.filter_at, group.filter_len as usize).ok()?;
        let len = checked(&filter).ok()?.len();
        filter.truncate(len);
        Some(filter)
    }

    /// Reads a chunk's bytes into `out`.
    pub fn chunk(&self, meta: &ChunkMeta, at: u64, out: &mut Vec<u8>) -> Result<(), BlockError> {
        out.clear();
        out.resize(meta.len(), 0);
        self.chunks
            .read_exact_at(out, at)
            .map_err(|e| broken(&self.chunks, at, e))
    }

    /// Reads parts of a chunk into `out`, end to end.
    pub fn parts(&self, meta: &ChunkMeta, at: u64, which: &[usize], out: &mut Vec<u8>) -> Result<(), BlockError> {
        out.clear();
        for &part in which {
            let before: u64 = meta.parts[..part].iter().map(|&n| u64::from(n)).sum();
            let start = out.len();
            out.resize(start + meta.parts[part] as usize, 0);
            self.chunks
                .read_exact_at(&mut out[start..], at + before)
                .map_err(|e| broken(&self.chunks, at + before, e))?;
        }
        Ok(())
    }

    /// The ids of a chunk.
    pub fn ids(&self, meta: &ChunkMeta, at: u64, data: &[u8]) -> Result<IdsIn, BlockError> {
        let bad = |at: u64, what: &str| corrupt(self.chunks.path(), at, what);
        let mut ids = chunk::read_ids(meta, data).map_err(|e| bad(at + e.at as u64, e.what))?;
        match &self.ids {
            _ if ids.shared.is_empty() => {}
            Ok(table) => table.look_up(&mut ids)?,
            Err(error) => return Err(bad(at, &format!("its ids are lost: {error}"))),
        }
        Ok(ids)
    }

    pub fn path(&self) -> &Path {
        self.chunks.path()
    }

    /// About how many bytes of memory this takes.
    pub fn heap_bytes(&self) -> usize {
        self.groups.len() * size_of::<Group>() + 512
    }
}

/// A version that this build does not know is a newer one if every file of the block has it; else the byte is damaged.
fn newer_or_damaged(disk: &Disk, dir: &Path, error: BlockError) -> BlockError {
    let BlockError::TooNew { path, found, newest } = error else {
        return error;
    };
    let agrees = |name: &str, magic| {
        let version = open_file(disk, dir.join(name), magic).map(|_| newest);
        matches!(version, Err(BlockError::TooNew { found: other, .. }) if other == found)
    };
    if agrees(NEEDLES, MAGIC_NEEDLES) && agrees(IDS, MAGIC_IDS) {
        return BlockError::TooNew { path, found, newest };
    }
    let what = format!("the block's files do not agree on format version {found}");
    corrupt(&path, VERSION_AT, &what)
}

pub(crate) fn corrupt(path: &Path, offset: u64, what: &str) -> BlockError {
    BlockError::Corrupt {
        path: path.to_owned(),
        offset,
        what: what.to_owned(),
    }
}

pub(crate) fn header(magic: [u8; 4]) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = magic;
    [a, b, c, d, VERSION, 0, 0, 0]
}

pub(crate) fn open_file(disk: &Disk, path: PathBuf, magic: [u8; 4]) -> Result<(ReadFile, u64), BlockError> {
    let file = disk.open(&path).map_err(|source| BlockError::Io {
        path: path.clone(),
        source,
    })?;
    let head = read(&file, 0, HEADER_BYTES)?;
    if head[..4] != magic {
        return Err(BlockError::Foreign {
            path,
            found: [head[0], head[1], head[2], head[3]],
        });
    }
    if head[4] > VERSION {
        return Err(BlockError::TooNew {
            path,
            found: head[4],
            newest: VERSION,
        });
    }
    Ok((file, HEADER_BYTES as u64))
}

pub(crate) fn read(file: &ReadFile, at: u64, len: usize) -> Result<Vec<u8>, BlockError> {
    if at.checked_add(len as u64).is_none_or(|end| end > file.len()) {
        return Err(corrupt(file.path(), at, "reaches beyond the end of the file"));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).map_err(|e| broken(file, at, e))?;
    Ok(bytes)
}

fn broken(file: &ReadFile, at: u64, source: std::io::Error) -> BlockError {
    if source.kind() == std::io::ErrorKind::UnexpectedEof {
        return corrupt(file.path(), at, "reaches beyond the end of the file");
    }
    BlockError::Io {
        path: file.path().to_owned(),
        source,
    }
}

pub(crate) fn put_crc(out: &mut Vec<u8>, start: usize) {
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The bytes before a CRC that is right.
pub(crate) fn checked(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let bad = |what| Malformed { at: 0, what };
    let split = bytes.len().checked_sub(4).ok_or(bad("too short"))?;
    let (body, crc) = bytes.split_at(split);
    if crc32c(body).to_le_bytes() != crc {
        return Err(bad("CRC32C does not match"));
    }
    Ok(body)
}

fn put_directory(out: &mut Vec<u8>, pages_at: u64, groups: &[Group]) {
    put_uv(out, pages_at);
    put_uv(out, groups.len() as u64);
    let mut stream = 0;
    for g in groups {
        put_uv(out, u64::from(g.chunks));
        put_uv(out, g.data_len);
        put_uv(out, u64::from(g.page_len));
        put_uv(out, u64::from(g.filter_len));
        put_uv(out, u64::from(g.first - stream));
        put_uv(out, u64::from(g.last - g.first));
        put_iv(out, g.min);
        put_uv(out, g.max.abs_diff(g.min));
        stream = g.last;
    }
}

/// `directory_at` bounds the chunks and pages.
fn get_directory(bytes: &[u8], directory_at: u64) -> Result<Vec<Group>, Malformed> {
    let mut r = Reader::new(bytes);
    let mut page_at = r.uv()?;
    let pages_at = page_at;
    let mut data_at = HEADER_BYTES as u64;
    let mut filter_at = HEADER_BYTES as u64;
    let mut stream = 0u32;
    let n = r.count(GROUP_BYTES_MIN)?;
    let mut groups = Vec::with_capacity(n);
    for _ in 0..n {
        let at = r.position();
        let bad = |what| Malformed { at, what };
        let chunks = small(&mut r)?;
        let data_len = r.uv()?;
        let page_len = small(&mut r)?;
        let filter_len = small(&mut r)?;
        let first = stream.checked_add(small(&mut r)?).ok_or(bad("stream id too large"))?;
        let last = first.checked_add(small(&mut r)?).ok_or(bad("stream id too large"))?;
        let min = r.iv()?;
        let max = min.checked_add_unsigned(r.uv()?).ok_or(bad("time too large"))?;
        groups.push(Group {
            chunks,
            first,
            last,
            min,
            max,
            data_at,
            data_len,
            page_at,
            page_len,
            filter_at,
            filter_len,
        });
        stream = last;
        data_at = data_at
            .checked_add(data_len)
            .filter(|&e| e <= pages_at)
            .ok_or(bad("chunks overlap pages"))?;
        page_at = page_at
            .checked_add(u64::from(page_len))
            .filter(|&e| e <= directory_at)
            .ok_or(bad("pages overlap directory"))?;
        filter_at = filter_at
            .checked_add(u64::from(filter_len))
            .ok_or(bad("filters too long"))?;
    }
    if !r.is_empty() || data_at != pages_at || page_at != directory_at {
        return Err(Malformed {
            at: r.position(),
            what: "directory and file disagree",
        });
    }
    Ok(groups)
}

fn put_records(out: &mut Vec<u8>, records: &[ChunkMeta], first: u32, min: i64) {
    let (mut stream, mut time) = (first, min);
    for m in records {
        put_uv(out, u64::from(m.stream - stream));
        put_iv(out, m.min.wrapping_sub(time));
        put_uv(out, m.max.abs_diff(m.min));
        put_uv(out, u64::from(m.entries));
        put_uv(out, u64::from(m.line_bytes));
        put_uv(out, u64::from(m.metadata_bytes));
        for p in m.parts {
            put_uv(out, u64::from(p));
        }
        let mask = (0..LEVELS)
            .filter(|&i| m.levels.0[i] > 0)
            .fold(0u64, |mask, i| mask | 1 << i);
        put_uv(out, mask);
        for &n in m.levels.0.iter().filter(|&&n| n > 0) {
            put_uv(out, u64::from(n));
        }
        (stream, time) = (m.stream, m.min);
    }
}

fn get_records(bytes: &[u8], group: &Group) -> Result<Vec<(ChunkMeta, u64)>, Malformed> {
    let mut r = Reader::new(bytes);
    let n = group.chunks as usize;
    if n > bytes.len() / RECORD_BYTES_MIN {
        return Err(Malformed {
            at: 0,
            what: "more chunks than records",
        });
    }
    let mut records = Vec::with_capacity(n);
    let (mut stream, mut time, mut at) = (group.first, group.min, group.data_at);
    for _ in 0..n {
        let here = r.position();
        let bad = |what| Malformed { at: here, what };
        stream = stream.checked_add(small(&mut r)?).ok_or(bad("stream id too large"))?;
        time = time.wrapping_add(r.iv()?);
        let mut meta = ChunkMeta {
            stream,
            min: time,
            max: time.checked_add_unsigned(r.uv()?).ok_or(bad("time too large"))?,
            entries: small(&mut r)?,
            line_bytes: small(&mut r)?,
            metadata_bytes: small(&mut r)?,
            parts: {
                let mut parts = [0; PARTS];
                for part in &mut parts {
                    *part = small(&mut r)?;
                }
                parts
            },
            ..ChunkMeta::default()
        };
        let mask = r.uv()?;
        if mask >> LEVELS != 0 {
            return Err(bad("unknown level"));
        }
        for i in (0..LEVELS).filter(|i| mask >> i & 1 == 1) {
            meta.levels.0[i] = small(&mut r)?;
        }
        let len = meta.len() as u64;
        records.push((meta, at));
        at += len;
    }
    if !r.is_empty() || at != group.data_at + group.data_len {
        return Err(Malformed {
            at: r.position(),
            what: "records and directory disagree",
        });
    }
    Ok(records)
}

fn small(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    let at = r.position();
    u32::try_from(r.uv()?).map_err(|_| Malformed {
        at,
        what: "number exceeds 32 bits",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::LEVEL_HEAD;
    use crate::entries::Columns;
    use crate::entries::tests::{Row, columns, rows};
    use crate::golden::golden;
    use crate::needle_filter::Question;
    use proptest::prelude::*;

    fn lines(stream: u32) -> Vec<Row> {
        let pair = |v: &str| vec![("detected_level".to_owned(), v.to_owned())];
        (0..4)
            .map(|i| {
                (
                    i64::from(stream) * 1000 + i,
                    format!(
                        "stream {stream} line {i} trace {:032x} span 5eed{stream:012x}",
                        7 * i / 2
                    ),
                    pair(["warn", "odd"][i as usize % 2]),
                )
            })
            .collect()
    }

    /// A block of many small streams and one with a chunk of its own.
    fn write(dir: &Path) -> Written {
        let mut writer = BlockWriter::create(&Disk::real(), dir).unwrap();
        for stream in 0..300 {
            writer.add(stream, &columns(&lines(stream)), LEVEL_HEAD).unwrap();
        }
        let entries = columns(&lines(900));
        let mut data = Vec::new();
        let mut runs = Runs::default();
        runs.find(entries.text.as_bytes());
        let meta = chunk::encode(900, &entries, &runs, LEVEL_HEAD, &mut data);
        let (mut builder, mut filter) = (FilterBuilder::default(), Vec::new());
        builder.add(&entries, &runs);
        builder.finish(&mut filter);
        writer.add_sealed(&Sealed { meta, data, filter }).unwrap();
        writer.finish().unwrap()
    }

    fn check(dir: &Path) {
        let block = OpenBlock::open(&Disk::real(), dir).unwrap();
        let (mut buffer, mut entries, mut seen) = (Vec::new(), Entries::default(), Vec::new());
        for group in &block.groups {
            assert!(
                Question::new(&[" line ".into()], &[])
                    .may_match(&block.filter(group).unwrap())
                    .unwrap()
            );
            for (meta, at) in block.records(group).unwrap() {
                assert!(group.first <= meta.stream && meta.stream <= group.last);
                assert!(group.min <= meta.min && meta.max <= group.max);
                block.chunk(&meta, at, &mut buffer).unwrap();
                let ids = block.ids(&meta, at, &buffer).unwrap();
                chunk::decode(&meta, &buffer, &ids, Columns::ALL, &mut entries).unwrap();
                assert_eq!(rows(&entries), lines(meta.stream));
                assert_eq!(meta.levels.0, [0, 0, 0, 0, 2, 0, 0, 0, 0, 2]);
                seen.push(meta.stream);
            }
        }
        assert_eq!(seen, (0..300).chain([900]).collect::<Vec<u32>>());
    }

    #[test]
    fn golden_block_v1() {
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path());
        assert_eq!(
            (written.min, written.max, written.entries, written.chunks),
            (0, 900_003, 1204, 301)
        );
        check(dir.path());
        let old = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("chunks_v1.bin", CHUNKS),
            ("needles_v1.bin", NEEDLES),
            ("ids_v1.bin", "ids"),
        ] {
            let fresh = std::fs::read(dir.path().join(file)).unwrap();
            std::fs::write(old.path().join(file), golden(name, &fresh)).unwrap();
        }
        check(old.path());
    }

    #[test]
    fn foreign_and_newer_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        let path = dir.path().join(CHUNKS);
        let mut bytes = std::fs::read(&path).unwrap();
        let open = || OpenBlock::open(&Disk::real(), dir.path()).err().unwrap();
        bytes[4] = 9;
        std::fs::write(&path, &bytes).unwrap();
        assert!(
            matches!(open(), BlockError::Corrupt { offset: 4, .. }),
            "one byte is damaged"
        );
        for name in [NEEDLES, IDS] {
            let mut bytes = std::fs::read(dir.path().join(name)).unwrap();
            bytes[4] = 9;
            std::fs::write(dir.path().join(name), &bytes).unwrap();
        }
        assert!(matches!(open(), BlockError::TooNew { found: 9, .. }));
        std::fs::write(&path, b"PAR1....").unwrap();
        assert!(matches!(open(), BlockError::Foreign { .. }));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(open(), BlockError::Corrupt { .. }));
    }

    #[test]
    fn without_needle_file_nothing_is_ruled_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        std::fs::remove_file(dir.path().join(NEEDLES)).unwrap();
        let block = OpenBlock::open(&Disk::real(), dir.path()).unwrap();
        assert!(block.filter(&block.groups[0]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_anywhere_is_an_error_or_harmless(at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path());
            let path = dir.path().join(CHUNKS);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = with }
            std::fs::write(&path, &bytes).unwrap();
            let Ok(block) = OpenBlock::open(&Disk::real(), dir.path()) else { return Ok(()) };
            let (mut buffer, mut entries) = (Vec::new(), Entries::default());
            for group in &block.groups {
                for (meta, at) in block.records(group).unwrap_or_default() {
                    block.chunk(&meta, at, &mut buffer).unwrap();
                    let Ok(ids) = block.ids(&meta, at, &buffer) else { continue };
                    if chunk::decode(&meta, &buffer, &ids, Columns::ALL, &mut entries).is_ok() {
                        prop_assert_eq!(rows(&entries), lines(meta.stream));
                    }
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..80), chunks in 0u32..9) {
            let _ = get_directory(&bytes, 100);
            let group = Group {
                chunks, first: 0, last: 9, min: 0, max: 9, data_at: 8, data_len: 5, page_at: 0, page_len: 0, filter_at: 0, filter_len: 0,
            };
            let _ = get_records(&bytes, &group);
        }
    }
}
