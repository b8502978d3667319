//! Exemplars: in the head as a log of bytes per series, in a block as one file beside the chunks.
//!
//! # Exemplars file, version 1
//!
//! Little-endian. `uv` = LEB128, `iv` = zigzag LEB128. Groups and index rise by series id.
//!
//! ```text
//! 0   header     = magic "TLBE" · version u8 = 1 · zero [3]
//! 8   group*     = exemplar* · crc u32
//!     exemplar   = time iv · value bits u64 · labels (len uv · encoded label set)      rising by time in a group
//! i   index      = count uv · (id - previous id uv · group bytes uv)* · crc u32
//! -16 footer     = index offset u64 · index bytes u32 · crc u32
//! ```
//!
//! Each `crc` is the CRC32C of its row so far; the first group starts at byte 8, each at the end of the one before.
//! Golden file: `testdata/exemplars_v1.bin`.

use std::path::{Path, PathBuf};

use model::{Exemplar, LabelSet, TimestampMs};
use roaring::RoaringBitmap;
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv};
use storage_disk::{Disk, ReadFile};

use crate::BlockError;
use crate::block::{check_header, corrupt, io_error, read_part, seal};

/// The file's name in a block's directory.
pub(crate) const FILE: &str = "exemplars";
const MAGIC: [u8; 4] = *b"TLBE";
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;
const FOOTER_BYTES: u64 = 16;

/// Exemplars of one series in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExemplarLog {
    bytes: Vec<u8>,
    last: usize,
}

impl ExemplarLog {
    /// Appends, unless it is the last one again: clients repeat an exemplar until there is a newer one.
    pub(crate) fn push(&mut self, exemplar: &Exemplar) -> bool {
        let start = self.bytes.len();
        put_exemplar(&mut self.bytes, exemplar);
        let (before, new) = self.bytes.split_at(start);
        if &before[self.last..] == new {
            self.bytes.truncate(start);
            return false;
        }
        self.last = start;
        true
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<ExemplarLog>() + self.bytes.capacity()
    }

    /// All of them, rising by time, each once.
    pub(crate) fn sorted(&self) -> Vec<Exemplar> {
        let mut reader = Reader::new(&self.bytes);
        let mut list = Vec::new();
        while let (false, Ok(exemplar)) = (reader.is_empty(), get_exemplar(&mut reader)) {
            list.push(exemplar);
        }
        sort_and_dedup(&mut list);
        list
    }
}

/// Sorts by time and leaves each exemplar once.
pub(crate) fn sort_and_dedup(list: &mut Vec<Exemplar>) {
    let key = |e: &Exemplar| (e.t, e.value.to_bits());
    list.sort_by(|a, b| {
        key(a)
            .cmp(&key(b))
            .then_with(|| a.labels.as_bytes().cmp(b.labels.as_bytes()))
    });
    list.dedup_by(|a, b| key(a) == key(b) && a.labels == b.labels);
}

/// Appends one exemplar as drawn above.
pub(crate) fn put_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    put_iv(out, exemplar.t.0);
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    put_bytes(out, exemplar.labels.as_bytes());
}

/// Reads one exemplar.
pub(crate) fn get_exemplar(reader: &mut Reader<'_>) -> Result<Exemplar, Malformed> {
    let t = TimestampMs(reader.iv()?);
    let value = f64::from_bits(reader.u64()?);
    let at = reader.position();
    let labels = LabelSet::from_encoded(reader.bytes()?).map_err(|bad| Malformed { at, what: bad.what })?;
    Ok(Exemplar { labels, value, t })
}

/// Builds the file of a block; `series` rise by id.
pub(crate) fn encode_file<'a>(series: impl Iterator<Item = (u32, &'a [Exemplar])>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    let mut index = Vec::new();
    let (mut count, mut last) = (0, 0);
    for (id, exemplars) in series {
        let start = out.len();
        for exemplar in exemplars {
            put_exemplar(&mut out, exemplar);
        }
        seal(&mut out, start);
        put_uv(&mut index, u64::from(id - last));
        put_uv(&mut index, (out.len() - start) as u64);
        (count, last) = (count + 1, id);
    }
    let offset = out.len();
    put_uv(&mut out, count);
    out.extend_from_slice(&index);
    seal(&mut out, offset);
    let footer = out.len();
    out.extend_from_slice(&(offset as u64).to_le_bytes());
    out.extend_from_slice(&((footer - offset) as u32).to_le_bytes());
    seal(&mut out, footer);
    out
}

/// An open exemplars file with its index.
pub(crate) struct ExemplarFile {
    path: PathBuf,
    file: ReadFile,
    /// Series id, offset and bytes of its group, rising by id.
    groups: Vec<(u32, u64, u32)>,
}

impl ExemplarFile {
    /// Opens the file of a block directory; `None` if the block has none.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> Result<Option<ExemplarFile>, BlockError> {
        let path = dir.join(FILE);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let file = disk.open(&path).map_err(|e| io_error(&path, e))?;
        check_header(&path, &file, MAGIC, VERSION)?;
        let footer_at = file.len().checked_sub(FOOTER_BYTES).filter(|&at| at >= HEADER_BYTES);
        let footer_at = footer_at.ok_or_else(|| corrupt(&path, 0, "shorter than a footer"))?;
        let footer = read_part(&path, &file, footer_at, FOOTER_BYTES as usize)?;
        let mut reader = Reader::new(&footer);
        let mut field = || -> Result<(u64, u32), Malformed> { Ok((reader.u64()?, reader.u32()?)) };
        let (index_at, index_bytes) = field().map_err(|bad| corrupt(&path, footer_at, bad.what))?;
        if index_at < HEADER_BYTES || index_at.checked_add(u64::from(index_bytes)) != Some(footer_at) {
            return Err(corrupt(&path, footer_at, "index does not lie before the footer"));
        }
        let index = read_part(&path, &file, index_at, index_bytes as usize)?;
        let groups = parse_index(&index, index_at).map_err(|bad| corrupt(&path, index_at + bad.at as u64, bad.what))?;
        Ok(Some(ExemplarFile { path, file, groups }))
    }

    /// Every series in it, rising by id.
    pub(crate) fn ids(&self) -> RoaringBitmap {
        self.groups.iter().map(|g| g.0).collect()
    }

    /// Exemplars of a series, rising by time.
    pub(crate) fn read(&self, id: u32) -> Result<Vec<Exemplar>, BlockError> {
        let Ok(at) = self.groups.binary_search_by_key(&id, |g| g.0) else {
            return Ok(Vec::new());
        };
        let (_, offset, bytes) = self.groups[at];
        let group = read_part(&self.path, &self.file, offset, bytes as usize)?;
        let mut reader = Reader::new(&group);
        let mut list = Vec::new();
        while !reader.is_empty() {
            let exemplar = get_exemplar(&mut reader).map_err(|bad| corrupt(&self.path, offset, bad.what))?;
            list.push(exemplar);
        }
        Ok(list)
    }
}

fn parse_index(index: &[u8], index_at: u64) -> Result<Vec<(u32, u64, u32)>, Malformed> {
    let mut reader = Reader::new(index);
    let bad = |at, what| Malformed { at, what };
    let mut groups = Vec::new();
    let (mut id, mut offset) = (0u32, HEADER_BYTES);
    for _ in 0..reader.count(2)? {
        let at = reader.position();
        let gap = u32::try_from(reader.uv()?).ok();
        id = gap
            .and_then(|gap| id.checked_add(gap))
            .ok_or(bad(at, "impossible series id"))?;
        let bytes = u32::try_from(reader.uv()?).map_err(|_| bad(at, "impossible group"))?;
        let end = offset
            .checked_add(u64::from(bytes))
            .filter(|&end| bytes >= 4 && end <= index_at);
        groups.push((id, offset, bytes));
        offset = end.ok_or(bad(at, "group beyond the index"))?;
    }
    if !groups.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(bad(0, "series ids do not rise"));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use storage_disk::FaultyDisk;

    fn exemplar(t: i64, trace: &str) -> Exemplar {
        Exemplar {
            labels: LabelSet::from_pairs([("trace_id", trace)]),
            value: t as f64 / 2.0,
            t: TimestampMs(t),
        }
    }

    #[test]
    fn a_repeated_exemplar_is_kept_once() {
        let mut log = ExemplarLog::default();
        assert!(log.push(&exemplar(5, "b")));
        assert!(!log.push(&exemplar(5, "b")));
        assert!(log.push(&exemplar(3, "a")));
        assert!(log.push(&exemplar(5, "b")), "only the last one is compared at once");
        assert_eq!(log.sorted(), [exemplar(3, "a"), exemplar(5, "b")]);
    }

    #[test]
    fn golden_exemplars_v1() {
        let (one, two) = ([exemplar(1, "aa"), exemplar(2, "bb")], [exemplar(-7, "cc")]);
        let bytes = encode_file([(3, &one[..]), (900, &two[..])].into_iter());
        let stored = golden("exemplars_v1.bin", &bytes);
        let disk = FaultyDisk::new().disk();
        let dir = Path::new("/b");
        disk.create_dir_all(dir).unwrap();
        assert!(ExemplarFile::open(&disk, dir).unwrap().is_none());
        disk.write_atomic(&dir.join(FILE), &stored).unwrap();
        let file = ExemplarFile::open(&disk, dir).unwrap().unwrap();
        assert_eq!(file.ids().iter().collect::<Vec<_>>(), [3, 900]);
        assert_eq!(file.read(3).unwrap(), one);
        assert_eq!(file.read(900).unwrap(), two);
        assert!(file.read(4).unwrap().is_empty());

        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x40;
            disk.write_atomic(&dir.join(FILE), &damaged).unwrap();
            let read = ExemplarFile::open(&disk, dir).map(|f| f.map(|f| (f.read(3), f.read(900))));
            let zero_padding = (5..8).contains(&at);
            let noticed = !matches!(read, Ok(Some((Ok(_), Ok(_)))));
            assert!(noticed || zero_padding, "byte {at}");
        }
    }
}
