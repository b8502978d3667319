//! A block's chunks: one file for all series of a day, sorted by series id, then time.
//!
//! # Chunks file, version 1
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128. Times in ms since the epoch.
//!
//! ```text
//! 0   header     = magic "TLBC" · version u8 = 1 · zero [3]
//! 8   row*       = one chunk (`chunk.rs`); of one series after the other, rising by id, then by time
//! p   page*      = series count uv · offset of the page's first row uv · series* · crc u32
//!     series     = id - previous id uv · chunk count uv · chunk*          (the first id of a page counts from 0)
//!     chunk      = first time - last time of the chunk before iv · last - first uv · samples uv · row bytes uv
//!                  (the first chunk of a page counts from 0; rows follow each other without gaps)
//! i   ids        = Roaring bitmap of every id, portable format · crc u32
//!     directory  = page count uv · offset of the first page uv · (first id uv · page bytes uv)* · crc u32
//! -28 footer     = ids offset u64 · ids bytes u32 · directory bytes u32 · rank u64 · crc u32
//! ```
//!
//! Each `crc` is the CRC32C of its row so far. `rank` says whose sample stays when two blocks of a day have one at the
//! same time: that of the lower rank, which was stored first. A block that was cut has its own id as rank, a compacted
//! one the lowest rank of its inputs.
//!
//! A reader keeps only the directory in memory (one entry for [`PAGE_SERIES`] series) and reads pages as it needs
//! them. It refuses versions it does not know and never trusts a length. Golden file: `testdata/chunks_v1.bin`.

use std::io;
use std::path::{Path, PathBuf};

use model::{BlockId, TimeRangeMs, TimestampMs};
use roaring::RoaringBitmap;
use storage_catalogue::BlockMeta;
use storage_codec::{Malformed, Reader, crc32c, put_iv, put_uv};
use storage_disk::{Disk, ReadFile, Writer};

use crate::chunk::{Chunk, ChunkView};
use crate::{BlockError, Samples};

/// The file's name in a block's directory.
pub(crate) const FILE: &str = "chunks";
const MAGIC: [u8; 4] = *b"TLBC";
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;
const FOOTER_BYTES: u64 = 28;

/// Series in one page of the index, at most.
const PAGE_SERIES: usize = 64;
/// A page is closed when it has grown to this.
const PAGE_BYTES: usize = 16 << 10;
/// Rows are written in pieces of about this size.
const WRITE_BYTES: usize = 256 << 10;
/// Most bytes of any part that is read at once.
const PART_BYTES_MAX: usize = 1 << 30;

/// Writes a chunks file, series by series.
pub(crate) struct BlockWriter {
    path: PathBuf,
    file: Writer,
    pending: Vec<u8>,
    offset: u64,
    page: OpenPage,
    index: Vec<u8>,
    directory: Vec<(u32, u32)>,
    ids: RoaringBitmap,
    written: Written,
}

/// What a chunks file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

#[derive(Default)]
struct OpenPage {
    bytes: Vec<u8>,
    series: usize,
    first_id: u32,
    first_row: u64,
    last_id: u32,
    last_time: i64,
}

impl BlockWriter {
    pub(crate) fn create(disk: &Disk, dir: &Path) -> Result<BlockWriter, BlockError> {
        let path = dir.join(FILE);
        let file = disk.create(&path).map_err(|e| io_error(&path, e))?;
        let mut pending = MAGIC.to_vec();
        pending.extend_from_slice(&[VERSION, 0, 0, 0]);
        Ok(BlockWriter {
            path,
            file,
            pending,
            offset: HEADER_BYTES,
            page: OpenPage::default(),
            index: Vec::new(),
            directory: Vec::new(),
            ids: RoaringBitmap::new(),
            written: Written {
                series: 0,
                samples: 0,
                min: i64::MAX,
                max: i64::MIN,
            },
        })
    }

    /// Adds a series with its chunks, rising by time; ids must rise. A series without chunks is left out.
    pub(crate) fn add(&mut self, id: u32, chunks: &[Chunk]) -> Result<(), BlockError> {
        debug_assert!(self.ids.max().is_none_or(|last| last < id));
        if chunks.is_empty() {
            return Ok(());
        }
        let page = &mut self.page;
        if page.series == 0 {
            page.first_id = id;
            page.first_row = self.offset;
        }
        put_uv(&mut page.bytes, u64::from(id - page.last_id));
        put_uv(&mut page.bytes, chunks.len() as u64);
        for chunk in chunks {
            let bytes = chunk.put_row(&mut self.pending);
            put_iv(&mut page.bytes, chunk.min.wrapping_sub(page.last_time));
            put_uv(&mut page.bytes, chunk.max.wrapping_sub(chunk.min) as u64);
            put_uv(&mut page.bytes, u64::from(chunk.count));
            put_uv(&mut page.bytes, bytes as u64);
            page.last_time = chunk.max;
            self.offset += bytes as u64;
            self.written.samples += u64::from(chunk.count);
            self.written.min = self.written.min.min(chunk.min);
            self.written.max = self.written.max.max(chunk.max);
        }
        page.last_id = id;
        page.series += 1;
        self.written.series += 1;
        self.ids.insert(id);
        if page.series >= PAGE_SERIES || page.bytes.len() >= PAGE_BYTES {
            self.close_page();
        }
        if self.pending.len() >= WRITE_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Writes the index and the footer.
    pub(crate) fn finish(mut self, rank: u64) -> Result<Written, BlockError> {
        self.close_page();
        let first_page = self.offset;
        self.pending.append(&mut self.index);

        let start = self.pending.len();
        self.ids.optimize();
        self.ids
            .serialize_into(&mut self.pending)
            .map_err(|e| io_error(&self.path, e))?;
        seal(&mut self.pending, start);
        let ids_bytes = self.pending.len() - start;
        let pages: u64 = self.directory.iter().map(|page| u64::from(page.1)).sum();

        let start = self.pending.len();
        put_uv(&mut self.pending, self.directory.len() as u64);
        put_uv(&mut self.pending, first_page);
        for &(first_id, bytes) in &self.directory {
            put_uv(&mut self.pending, u64::from(first_id));
            put_uv(&mut self.pending, u64::from(bytes));
        }
        seal(&mut self.pending, start);
        let directory_bytes = self.pending.len() - start;

        let start = self.pending.len();
        self.pending.extend_from_slice(&(first_page + pages).to_le_bytes());
        self.pending.extend_from_slice(&(ids_bytes as u32).to_le_bytes());
        self.pending.extend_from_slice(&(directory_bytes as u32).to_le_bytes());
        self.pending.extend_from_slice(&rank.to_le_bytes());
        seal(&mut self.pending, start);
        self.write_pending()?;
        Ok(self.written)
    }

    fn close_page(&mut self) {
        let page = std::mem::take(&mut self.page);
        if page.series == 0 {
            return;
        }
        let start = self.index.len();
        put_uv(&mut self.index, page.series as u64);
        put_uv(&mut self.index, page.first_row);
        self.index.extend_from_slice(&page.bytes);
        seal(&mut self.index, start);
        self.directory.push((page.first_id, (self.index.len() - start) as u32));
    }

    fn write_pending(&mut self) -> Result<(), BlockError> {
        self.file
            .write_all(&self.pending)
            .map_err(|e| io_error(&self.path, e))?;
        self.pending.clear();
        Ok(())
    }
}

/// An open chunks file: a file handle and the directory of its index.
pub(crate) struct OpenBlock {
    path: PathBuf,
    file: ReadFile,
    rank: u64,
    directory: Box<[PageRef]>,
    ids: (u64, u32),
}

#[derive(Clone, Copy, Debug)]
struct PageRef {
    offset: u64,
    bytes: u32,
    first_id: u32,
}

/// Chunks of one series that lie one after the other in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// A chunk as the index has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkRef {
    pub(crate) min: i64,
    pub(crate) max: i64,
    offset: u64,
    bytes: u32,
}

impl OpenBlock {
    /// Opens the chunks file of a block directory.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> Result<OpenBlock, BlockError> {
        let path = dir.join(FILE);
        let file = disk.open(&path).map_err(|e| io_error(&path, e))?;
        check_header(&path, &file, MAGIC, VERSION)?;
        let footer_at = file.len().checked_sub(FOOTER_BYTES).filter(|&at| at >= HEADER_BYTES);
        let footer_at = footer_at.ok_or_else(|| corrupt(&path, 0, "shorter than a footer"))?;
        let footer = read_part(&path, &file, footer_at, FOOTER_BYTES as usize)?;
        let mut reader = Reader::new(&footer);
        let mut fields = || Ok((reader.u64()?, reader.u32()?, reader.u32()?, reader.u64()?));
        let (ids_at, ids_bytes, directory_bytes, rank) =
            fields().map_err(|bad: Malformed| corrupt(&path, footer_at, bad.what))?;
        let directory_at = ids_at.saturating_add(u64::from(ids_bytes));
        if directory_at.saturating_add(u64::from(directory_bytes)) != footer_at {
            return Err(corrupt(&path, footer_at, "index does not lie before the footer"));
        }
        let directory = read_part(&path, &file, directory_at, directory_bytes as usize)?;
        let directory = parse_directory(&directory, ids_at)
            .map_err(|bad| corrupt(&path, directory_at + bad.at as u64, bad.what))?;
        Ok(OpenBlock {
            path,
            file,
            rank,
            directory,
            ids: (ids_at, ids_bytes),
        })
    }

    /// Whose sample stays: that of the lower rank.
    pub(crate) fn rank(&self) -> u64 {
        self.rank
    }

    /// Every id in the block.
    pub(crate) fn ids(&self) -> Result<RoaringBitmap, BlockError> {
        let (offset, bytes) = self.ids;
        let part = read_part(&self.path, &self.file, offset, bytes as usize)?;
        RoaringBitmap::deserialize_from(&part[..]).map_err(|e| corrupt(&self.path, offset, &e.to_string()))
    }

    /// Hands over, rising by id, where the chunks of those `ids` lie that overlap `range`. Returns the damaged pages.
    pub(crate) fn find(
        &self,
        ids: &RoaringBitmap,
        range: TimeRangeMs,
        found: &mut dyn FnMut(u32, Extent),
    ) -> Result<u64, BlockError> {
        self.each_of(ids, &mut |id, chunks| {
            let first = chunks.partition_point(|c| TimestampMs(c.max) < range.start);
            let end = first + chunks[first..].partition_point(|c| TimestampMs(c.min) <= range.end);
            if let [from, .., to] | [from @ to] = &chunks[first..end] {
                let bytes = to.offset - from.offset + u64::from(to.bytes);
                if let Ok(bytes) = u32::try_from(bytes) {
                    let offset = from.offset;
                    found(id, Extent { offset, bytes });
                }
            }
        })
    }

    /// Hands over, rising by id, the chunks of those `ids` that are here. Returns the damaged pages.
    pub(crate) fn each_of(
        &self,
        ids: &RoaringBitmap,
        each: &mut dyn FnMut(u32, &[ChunkRef]),
    ) -> Result<u64, BlockError> {
        let mut damaged = 0;
        for (i, page) in self.directory.iter().enumerate() {
            let end = self.directory.get(i + 1).map_or(u32::MAX, |next| next.first_id - 1);
            if ids.range_cardinality(page.first_id..=end) == 0 {
                continue;
            }
            damaged += u64::from(!self.each_series(page, &mut |id, chunks| {
                if ids.contains(id) {
                    each(id, chunks);
                }
            })?);
        }
        Ok(damaged)
    }

    /// Whether the index is whole, for a reader that cannot go on without one of its pages.
    pub(crate) fn check_index(&self) -> Result<(), BlockError> {
        for page in &self.directory {
            if !self.each_series(page, &mut |_, _| {})? {
                return Err(corrupt(&self.path, page.offset, "a page of the index is damaged"));
            }
        }
        Ok(())
    }

    /// Pages of its index.
    pub(crate) fn pages(&self) -> usize {
        self.directory.len()
    }

    /// Every series of one page with the extent of all its chunks, rising by id.
    pub(crate) fn page(&self, page: usize) -> Result<Vec<(u32, Extent)>, BlockError> {
        let mut list = Vec::with_capacity(PAGE_SERIES);
        let page = &self.directory[page];
        let whole = self.each_series(page, &mut |id, chunks| {
            if let [from, .., to] | [from @ to] = chunks
                && let Ok(bytes) = u32::try_from(to.offset - from.offset + u64::from(to.bytes))
            {
                let offset = from.offset;
                list.push((id, Extent { offset, bytes }));
            }
        })?;
        if !whole {
            return Err(corrupt(&self.path, page.offset, "a page of the index is damaged"));
        }
        Ok(list)
    }

    /// Appends the samples of an extent that lie in `range` to `out`, rising by time; skips damaged chunks and
    /// returns how many. `buffer` is scratch space.
    pub(crate) fn read(
        &self,
        id: u32,
        extent: Extent,
        range: TimeRangeMs,
        out: &mut Samples,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, BlockError> {
        let base = out.mark();
        read_into(&self.path, &self.file, extent.offset, extent.bytes as usize, buffer)?;
        let mut reader = Reader::new(buffer);
        let mut damaged = 0;
        while !reader.is_empty() {
            let Ok(chunk) = ChunkView::get_row(&mut reader) else {
                // Where the next row starts is known to the index only.
                out.truncate(base);
                return self.read_around_damage(id, extent, range, out, buffer);
            };
            damaged += u64::from(!read_chunk(&chunk, range, out));
        }
        Ok(damaged)
    }

    fn read_around_damage(
        &self,
        id: u32,
        extent: Extent,
        range: TimeRangeMs,
        out: &mut Samples,
        rows: &[u8],
    ) -> Result<u64, BlockError> {
        let page = self.directory.partition_point(|page| page.first_id <= id);
        let mut damaged = 0;
        let Some(page) = page.checked_sub(1).map(|page| &self.directory[page]) else {
            return Ok(1);
        };
        let whole = self.each_series(page, &mut |found, chunks| {
            for chunk in chunks.iter().filter(|_| found == id) {
                let Some(start) = chunk.offset.checked_sub(extent.offset).map(|at| at as usize) else {
                    continue;
                };
                let Some(row) = rows.get(start..start + chunk.bytes as usize) else {
                    continue;
                };
                let whole = ChunkView::get_row(&mut Reader::new(row)).is_ok_and(|chunk| read_chunk(&chunk, range, out));
                damaged += u64::from(!whole);
            }
        })?;
        tracing::warn!(
            path = %self.path.display(), offset = extent.offset, series = id, damaged,
            "chunks fail their checksum; they are skipped"
        );
        Ok(damaged + u64::from(!whole))
    }

    /// Hands over every series of a page; `false` if the page is damaged.
    fn each_series(&self, page: &PageRef, each: &mut dyn FnMut(u32, &[ChunkRef])) -> Result<bool, BlockError> {
        let bytes = match read_part(&self.path, &self.file, page.offset, page.bytes as usize) {
            Err(error @ BlockError::Corrupt { .. }) => {
                tracing::warn!(%error, "a page of the index is damaged; its series are skipped");
                return Ok(false);
            }
            bytes => bytes?,
        };
        let whole = parse_page(&bytes, page.offset, each);
        if let Err(bad) = whole {
            tracing::warn!(path = %self.path.display(), offset = page.offset, what = bad.what, "a page of the index is damaged");
        }
        Ok(whole.is_ok())
    }
}

fn read_chunk(chunk: &ChunkView<'_>, range: TimeRangeMs, out: &mut Samples) -> bool {
    !range.overlaps(TimestampMs(chunk.min), TimestampMs(chunk.max))
        || out.append_within(range, |out| chunk.decode(out).is_ok())
}

fn parse_page(bytes: &[u8], page_at: u64, each: &mut dyn FnMut(u32, &[ChunkRef])) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let mut chunks = Vec::new();
    let series = reader.count(6)?;
    let mut offset = reader.uv()?;
    let (mut id, mut last) = (0u32, 0i64);
    for _ in 0..series {
        let at = reader.position();
        let bad = |what| Malformed { at, what };
        let gap = u32::try_from(reader.uv()?).ok();
        id = gap
            .and_then(|gap| id.checked_add(gap))
            .ok_or(bad("impossible series id"))?;
        chunks.clear();
        for _ in 0..reader.count(4)? {
            let min = last.wrapping_add(reader.iv()?);
            let max = min.wrapping_add(reader.uv()? as i64);
            let _samples = reader.uv()?;
            let bytes = u32::try_from(reader.uv()?).map_err(|_| bad("impossible chunk"))?;
            chunks.push(ChunkRef {
                min,
                max,
                offset,
                bytes,
            });
            let end = offset.checked_add(u64::from(bytes)).filter(|&end| end <= page_at);
            offset = end.ok_or(bad("chunk beyond the index"))?;
            last = max;
        }
        each(id, &chunks);
    }
    Ok(())
}

fn parse_directory(bytes: &[u8], ids_at: u64) -> Result<Box<[PageRef]>, Malformed> {
    let mut reader = Reader::new(bytes);
    let pages = reader.count(2)?;
    let mut offset = reader.uv()?;
    let mut directory = Vec::with_capacity(pages);
    for _ in 0..pages {
        let at = reader.position();
        let bad = |what| Malformed { at, what };
        let first_id = u32::try_from(reader.uv()?).map_err(|_| bad("impossible series id"))?;
        let bytes = u32::try_from(reader.uv()?).map_err(|_| bad("impossible page"))?;
        directory.push(PageRef {
            offset,
            bytes,
            first_id,
        });
        offset = offset.checked_add(u64::from(bytes)).ok_or(bad("impossible page"))?;
    }
    if offset != ids_at || !directory.is_sorted_by(|a, b| a.first_id < b.first_id) {
        return Err(Malformed {
            at: 0,
            what: "pages do not fit",
        });
    }
    Ok(directory.into())
}

/// Appends the CRC32C of what was appended since `start`.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize) {
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads a part that ends with its CRC32C, checks it and returns the rest.
pub(crate) fn read_part(path: &Path, file: &ReadFile, offset: u64, bytes: usize) -> Result<Vec<u8>, BlockError> {
    let mut part = Vec::new();
    read_into(path, file, offset, bytes, &mut part)?;
    let Some((body, crc)) = part.split_last_chunk::<4>() else {
        return Err(corrupt(path, offset, "shorter than its checksum"));
    };
    if crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(corrupt(path, offset, "fails its CRC32C"));
    }
    part.truncate(bytes - 4);
    Ok(part)
}

fn read_into(path: &Path, file: &ReadFile, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Result<(), BlockError> {
    let end = offset.saturating_add(bytes as u64);
    if end > file.len() || bytes > PART_BYTES_MAX {
        return Err(corrupt(path, offset, "reaches beyond the file's end"));
    }
    out.clear();
    out.resize(bytes, 0);
    file.read_exact_at(out, offset).map_err(|e| io_error(path, e))
}

/// Checks magic and version at the start of a file.
pub(crate) fn check_header(path: &Path, file: &ReadFile, magic: [u8; 4], version: u8) -> Result<(), BlockError> {
    let mut header = [0u8; 8];
    let bytes = header.len().min(file.len() as usize);
    file.read_exact_at(&mut header[..bytes], 0)
        .map_err(|e| io_error(path, e))?;
    let found = [header[0], header[1], header[2], header[3]];
    if found != magic {
        return Err(BlockError::Foreign {
            path: path.to_owned(),
            found,
        });
    }
    match header[4] {
        0 => Err(corrupt(path, 4, "format version 0 does not exist")),
        found if found > version => Err(BlockError::TooNew {
            path: path.to_owned(),
            found,
            newest: version,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn corrupt(path: &Path, offset: u64, what: &str) -> BlockError {
    BlockError::Corrupt {
        path: path.to_owned(),
        offset,
        what: what.to_owned(),
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> BlockError {
    BlockError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Times of a block's first and last item.
pub(crate) fn range_of(meta: &BlockMeta) -> TimeRangeMs {
    TimeRangeMs {
        start: meta.min.floor_ms(),
        end: meta.max.floor_ms(),
    }
}

/// The rank of a block that is cut from a head: those come one after the other, so its id says when it was stored.
pub(crate) fn rank_of(id: BlockId) -> u64 {
    id.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use proptest::prelude::*;
    use storage_disk::FaultyDisk;

    const DIR: &str = "/b";

    fn disk() -> Disk {
        let disk = FaultyDisk::new().disk();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk
    }

    fn chunk(first: i64, values: &[f64]) -> Chunk {
        let t: Vec<i64> = (0..values.len() as i64).map(|i| first + i * 1000).collect();
        Chunk::encode(&t, values, &[])
    }

    fn write(disk: &Disk, series: &[(u32, Vec<Chunk>)]) -> Written {
        let mut writer = BlockWriter::create(disk, Path::new(DIR)).unwrap();
        for (id, chunks) in series {
            writer.add(*id, chunks).unwrap();
        }
        writer.finish(7).unwrap()
    }

    /// Everything a block holds, by series, and how much of it is damaged.
    fn read_all(block: &OpenBlock, range: TimeRangeMs) -> Result<(Vec<(u32, Samples)>, u64), BlockError> {
        let mut extents = Vec::new();
        let ids = block.ids()?;
        let mut damaged = block.find(&ids, range, &mut |id, extent| extents.push((id, extent)))?;
        let mut all = Vec::new();
        for (id, extent) in extents {
            let mut out = Samples::default();
            damaged += block.read(id, extent, range, &mut out, &mut Vec::new())?;
            all.push((id, out));
        }
        Ok((all, damaged))
    }

    fn three_series() -> Vec<(u32, Vec<Chunk>)> {
        vec![
            (1, vec![chunk(0, &[1.0; 20]), chunk(60_000, &[2.5, 3.25])]),
            (5, vec![chunk(-500, &[0.1])]),
            (70_000, vec![chunk(10_000, &[1.0, 1.0 / 3.0, f64::NAN, 7.0])]),
        ]
    }

    #[test]
    fn golden_chunks_v1() {
        let disk = disk();
        let written = write(&disk, &three_series());
        assert_eq!(
            (written.series, written.samples, written.min, written.max),
            (3, 27, -500, 61_000)
        );
        let path = Path::new(DIR).join(FILE);
        let stored = golden("chunks_v1.bin", &disk.read(&path).unwrap());
        disk.write_atomic(&path, &stored).unwrap();
        let block = OpenBlock::open(&disk, Path::new(DIR)).unwrap();
        assert_eq!(block.rank(), 7);
        let (all, damaged) = read_all(&block, TimeRangeMs::ALL).unwrap();
        assert_eq!(damaged, 0);
        assert_eq!(
            all.iter().map(|(id, s)| (*id, s.t.len())).collect::<Vec<_>>(),
            [(1, 22), (5, 1), (70_000, 4)]
        );
        assert_eq!((all[0].1.t[21], all[0].1.v[21]), (61_000, 3.25));
    }

    #[test]
    fn only_chunks_of_the_range_are_found() {
        let disk = disk();
        write(&disk, &three_series());
        let block = OpenBlock::open(&disk, Path::new(DIR)).unwrap();
        let range = TimeRangeMs {
            start: TimestampMs(13_000),
            end: TimestampMs(60_000),
        };
        let (all, _) = read_all(&block, range).unwrap();
        assert_eq!(
            all.iter().map(|(id, s)| (*id, s.t.len())).collect::<Vec<_>>(),
            [(1, 8), (70_000, 1)]
        );
    }

    #[test]
    fn many_series_take_many_pages() {
        let disk = disk();
        let series: Vec<_> = (0..1000u32)
            .map(|id| (id * 3, vec![chunk(i64::from(id), &[f64::from(id)])]))
            .collect();
        write(&disk, &series);
        let block = OpenBlock::open(&disk, Path::new(DIR)).unwrap();
        assert_eq!(block.pages(), 1000usize.div_ceil(PAGE_SERIES));
        assert_eq!(read_all(&block, TimeRangeMs::ALL).unwrap().0.len(), 1000);
        let ids: RoaringBitmap = [0, 1, 600, 2997, 5000].into_iter().collect();
        let mut found = Vec::new();
        block.find(&ids, TimeRangeMs::ALL, &mut |id, _| found.push(id)).unwrap();
        assert_eq!(found, [0, 600, 2997]);
        let pages = (0..block.pages()).flat_map(|page| block.page(page).unwrap());
        assert_eq!(
            pages.map(|(id, _)| id).collect::<Vec<_>>(),
            series.iter().map(|s| s.0).collect::<Vec<_>>()
        );
    }

    /// Whatever bit rots: no panic, no wrong sample, and what is lost is counted or said.
    #[test]
    fn damage_costs_no_more_than_what_it_hits() {
        let disk = disk();
        write(&disk, &three_series());
        let path = Path::new(DIR).join(FILE);
        let whole = disk.read(&path).unwrap();
        let (expected, _) = read_all(&OpenBlock::open(&disk, Path::new(DIR)).unwrap(), TimeRangeMs::ALL).unwrap();
        let bits = |s: &Samples| s.t.iter().zip(&s.v).map(|(&t, v)| (t, v.to_bits())).collect::<Vec<_>>();
        let mut lost_a_chunk_only = 0;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x11;
            disk.write_atomic(&path, &bytes).unwrap();
            let Ok((all, damaged)) =
                OpenBlock::open(&disk, Path::new(DIR)).and_then(|block| read_all(&block, TimeRangeMs::ALL))
            else {
                continue;
            };
            for (id, samples) in &all {
                let (_, right) = expected.iter().find(|(e, _)| e == id).unwrap();
                assert!(bits(samples).iter().all(|s| bits(right).contains(s)), "byte {at}");
            }
            let samples: usize = all.iter().map(|(_, s)| s.t.len()).sum();
            assert!(
                samples == 27 || damaged > 0,
                "byte {at}: {samples} samples, nothing said"
            );
            lost_a_chunk_only += u64::from(samples == 27 - 20 && damaged == 1);
        }
        assert!(
            lost_a_chunk_only > 10,
            "the second chunk is read although the first is damaged"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn garbage_never_panics(head in any::<bool>(), tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let disk = disk();
            let mut bytes = if head { b"TLBC\x01\0\0\0".to_vec() } else { Vec::new() };
            bytes.extend_from_slice(&tail);
            disk.write_atomic(&Path::new(DIR).join(FILE), &bytes).unwrap();
            if let Ok(block) = OpenBlock::open(&disk, Path::new(DIR)) {
                let _ = read_all(&block, TimeRangeMs::ALL);
            }
            let mut each = |_: u32, _: &[ChunkRef]| {};
            let _ = parse_page(&tail, 1000, &mut each);
            let _ = parse_directory(&tail, 100);
        }
    }

    #[test]
    fn foreign_and_newer_files_are_named() {
        let disk = disk();
        let path = Path::new(DIR).join(FILE);
        let open = |bytes: &[u8]| {
            disk.write_atomic(&path, bytes).unwrap();
            OpenBlock::open(&disk, Path::new(DIR)).err().unwrap().to_string()
        };
        assert_eq!(open(b"PAR1"), "/b/chunks: no chunk file (starts with [50, 41, 52, 31])");
        assert!(open(b"TLBC\x02\0\0\0").contains("format version 2, this build reads up to 1"));
        assert!(open(b"TLBC\x01\0\0\0").contains("shorter than a footer"));
    }
}
