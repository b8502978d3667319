//! A chunk: a run of one stream's entries, sorted by time, each once, in compressed columns.
//!
//! # Chunk, version 1
//!
//! Five parts, each checked and expanded alone. Their lengths, the number of entries and the first time stand in the
//! chunk's record ([`ChunkMeta`], written by `block.rs`), so a chunk is read in one go.
//!
//! ```text
//! chunk     = times part · lines part · metadata part · id codes part · id bytes part   (an empty part has length 0)
//! part      = encoding u8 (0 plain, 1 zstd) · plain len uv · data · crc u32
//!
//! times     = first delta of each entry after the first, then deltas of deltas: iv* · line length uv*
//! lines     = (line · "\n")*
//! metadata  = text len uv · text · columns uv · (name · values uv · value length uv*)*
//!             · shapes uv · (pairs uv · column uv*)* · shape uv* · code uv*
//! text      = (value · "\n")*, those of the first column first
//! ```
//!
//! Ids are cut out of lines and text; `ids.rs` says which, and draws the id parts, whose marks are those of the lines
//! and then those of the text. Line lengths are left out when no line holds a newline.
//!
//! A *column* is one metadata name with its distinct values in the order of first use; a *shape* is a list of
//! columns that some entry carries. Each entry names its shape; its codes follow column by column (all codes of the
//! first column, then of the second), 0 = the value before, 1 = the next value not used so far, 2 + n = value n.
//! Strings are `len uv · bytes`. A `crc` is the CRC32C of its part so far. Golden file: `testdata/chunk_v1.bin`.

use std::cell::RefCell;

use hashbrown::HashTable;
use rapidhash::v3::rapidhash_v3;
use storage_codec::{Malformed, Reader, crc32c, put_bytes, put_iv, put_uv, unzstd_frame, zstd_frame};

use crate::entries::{Columns, Entries};
use crate::ids::{self, IdsIn, IdsOut, Marks, cut_out, put_back};
use crate::needle_filter::Runs;

/// Compression when a chunk is made in the head: fast, and at this size no worse than level 3.
pub(crate) const LEVEL_HEAD: i32 = 1;
/// Compression when a block is compacted: a quarter of the speed for a tenth of the bytes.
pub(crate) const LEVEL_COMPACT: i32 = 6;

/// No part is larger than this when expanded; a WAL record, which a chunk comes from, is smaller.
const PART_BYTES_MAX: usize = 1 << 30;
/// Parts smaller than this are not worth a zstd frame.
const PLAIN_BYTES_MAX: usize = 48;

/// Parts of a chunk: times, lines, metadata, id codes, id bytes.
pub(crate) const PARTS: usize = 5;

/// What is known of a chunk without opening it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkMeta {
    pub stream: u32,
    pub min: i64,
    pub max: i64,
    pub entries: u32,
    /// Bytes of the lines, without newlines.
    pub line_bytes: u32,
    /// Bytes of the names and values of all metadata.
    pub metadata_bytes: u32,
    /// Lengths of the parts.
    pub parts: [u32; PARTS],
    pub levels: Levels,
}

/// Entries by the value of their structured metadata `detected_level`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels(pub [u32; LEVELS]);

/// The values of [`LEVEL_NAME`] that are counted apart; the first stands for entries without it, the last for others.
pub(crate) const LEVEL_VALUES: [&str; LEVELS] = [
    "", "trace", "debug", "info", "warn", "error", "critical", "fatal", "unknown", "*",
];
pub(crate) const LEVELS: usize = 10;
pub(crate) const LEVEL_NAME: &str = "detected_level";

/// A chunk in memory.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub meta: ChunkMeta,
    pub data: Vec<u8>,
    /// The needle filter of the chunk alone; see `needle_filter.rs`.
    pub filter: Vec<u8>,
}

impl ChunkMeta {
    pub fn len(&self) -> usize {
        self.parts.iter().map(|&n| n as usize).sum()
    }

    pub fn raw_bytes(&self) -> u64 {
        u64::from(self.line_bytes) + u64::from(self.metadata_bytes)
    }
}

/// Appends the chunk of `entries` (looked at as a whole: sorted, without duplicates, not empty) to `out`. `runs` are
/// those of the text of all lines.
pub(crate) fn encode(stream: u32, entries: &Entries, runs: &Runs, level: i32, out: &mut Vec<u8>) -> ChunkMeta {
    let mut meta = ChunkMeta {
        stream,
        min: entries.times.first().copied().unwrap_or_default(),
        max: entries.times.last().copied().unwrap_or_default(),
        entries: entries.times.len() as u32,
        line_bytes: (entries.text.len() - entries.times.len()) as u32,
        ..ChunkMeta::default()
    };
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        put_times(scratch, entries);
        meta.parts[0] = put_part(out, scratch, level);
        IDS.with_borrow_mut(|ids| {
            ids.clear();
            scratch.clear();
            let lines = entries.text.as_bytes();
            let cut = cut_out(lines, runs, ids, scratch);
            meta.parts[1] = put_part(out, if cut { scratch } else { lines }, level);
            if entries.has_metadata() {
                scratch.clear();
                put_metadata(scratch, entries, ids, &mut meta);
                meta.parts[2] = put_part(out, scratch, level);
            } else {
                meta.levels.0[0] = meta.entries;
            }
            if !ids.is_empty() {
                scratch.clear();
                let mut bytes = Vec::new();
                ids.put(scratch, &mut bytes);
                meta.parts[3] = put_part(out, scratch, level);
                meta.parts[4] = put_part(out, &bytes, level);
            }
        });
        if scratch.capacity() > SCRATCH_BYTES_KEPT {
            *scratch = Vec::new();
            IDS.take();
        }
    });
    meta
}

/// Appends to `out` a chunk whose ids are all in place, with those left out that stand in the block's table: where,
/// `place` says.
pub(crate) fn share_ids(
    meta: &ChunkMeta,
    data: &[u8],
    place: impl FnMut(u128) -> Option<u32>,
    out: &mut Vec<u8>,
) -> Result<ChunkMeta, Malformed> {
    let parts = split(meta, data)?;
    let mut meta = meta.clone();
    let before = parts[0].len() + parts[1].len() + parts[2].len();
    out.extend_from_slice(&data[..before]);
    if parts[3].is_empty() {
        return Ok(meta);
    }
    let (mut codes, mut bytes) = (Vec::new(), Vec::new());
    read_part(parts[3], &mut codes)?;
    read_part(parts[4], &mut bytes)?;
    let (mut codes_out, mut bytes_out) = (Vec::new(), Vec::new());
    ids::share(&codes, &bytes, place, &mut codes_out, &mut bytes_out)?;
    meta.parts[3] = put_part(out, &codes_out, LEVEL_HEAD);
    meta.parts[4] = put_part(out, &bytes_out, LEVEL_HEAD);
    Ok(meta)
}

/// The ids of a chunk; those that stand in the block's table are still to be looked up there.
pub(crate) fn read_ids(meta: &ChunkMeta, data: &[u8]) -> Result<IdsIn, Malformed> {
    let parts = split(meta, data)?;
    if parts[3].is_empty() {
        return Ok(IdsIn::default());
    }
    let (mut codes, mut bytes) = (Vec::new(), Vec::new());
    read_part(parts[3], &mut codes)?;
    read_part(parts[4], &mut bytes)?;
    IdsIn::read(&codes, &bytes)
}

/// Expands a chunk with its ids into `out`, whose buffers are used again, less the columns that are not asked for. Says
/// how many bytes that made.
pub(crate) fn decode(
    meta: &ChunkMeta,
    data: &[u8],
    ids: &IdsIn,
    columns: Columns<'_>,
    out: &mut Entries,
) -> Result<u64, Malformed> {
    out.clear();
    let parts = split(meta, data)?;
    let mut expanded = 0;
    let mut marks = ids.marks();
    let outcome = SCRATCH.with_borrow_mut(|scratch| {
        let mut text = std::mem::take(&mut out.text).into_bytes();
        let lines = read_lines(parts[1], meta, &mut marks, scratch, &mut text);
        expanded += text.len();
        out.text = String::from_utf8(text).map_err(|_| bad(0, "lines are not UTF-8"))?;
        lines?;
        read_part(parts[0], scratch)?;
        expanded += scratch.len();
        let mut r = Reader::new(scratch);
        get_times(&mut r, meta, out)?;
        get_ends(&mut r, meta, out)?;
        check_lines(out)?;
        if !parts[2].is_empty() && columns.has_metadata() {
            read_part(parts[2], scratch)?;
            expanded += scratch.len();
            get_metadata(scratch, meta, Some(&mut marks), columns, out)?;
        }
        if scratch.capacity() > SCRATCH_BYTES_KEPT {
            *scratch = Vec::new();
        }
        Ok(())
    });
    if let Err(e) = outcome {
        out.clear();
        return Err(e);
    }
    if columns.has_metadata() && !marks.done() {
        out.clear();
        return Err(bad(0, "more ids than marks"));
    }
    out.widen();
    Ok(expanded as u64)
}

/// Expands no more than the times and, where the names ask for it, the metadata of a chunk into `out`, given those parts.
/// `None`: values that are asked for hold ids, which takes all parts.
pub(crate) fn decode_without_lines(
    meta: &ChunkMeta,
    times: &[u8],
    metadata: &[u8],
    columns: Columns<'_>,
    out: &mut Entries,
) -> Result<Option<u64>, Malformed> {
    out.clear();
    let mut expanded = 0;
    let outcome = SCRATCH.with_borrow_mut(|scratch| {
        read_part(times, scratch)?;
        expanded += scratch.len();
        get_times(&mut Reader::new(scratch), meta, out)?;
        out.without_lines();
        if !metadata.is_empty() && columns.has_metadata() {
            read_part(metadata, scratch)?;
            expanded += scratch.len();
            return get_metadata(scratch, meta, None, columns, out);
        }
        Ok(true)
    });
    if !matches!(outcome, Ok(true)) {
        out.clear();
    }
    out.widen();
    outcome.map(|whole| whole.then_some(expanded as u64))
}

/// The bytes of each part.
pub(crate) fn split<'a>(meta: &ChunkMeta, data: &'a [u8]) -> Result<[&'a [u8]; PARTS], Malformed> {
    let mut r = Reader::new(data);
    let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
    for (part, len) in parts.iter_mut().zip(meta.parts) {
        *part = r.take(len as usize)?;
    }
    if !r.is_empty() {
        return Err(bad(r.position(), "chunk longer than its parts"));
    }
    Ok(parts)
}

/// Expands the lines into `text`, which is cleared first.
fn read_lines(
    part: &[u8],
    meta: &ChunkMeta,
    marks: &mut Marks<'_>,
    scratch: &mut Vec<u8>,
    text: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if marks.done() {
        return read_part(part, text);
    }
    text.clear();
    read_part(part, scratch)?;
    let bytes = (meta.line_bytes as usize).saturating_add(meta.entries as usize);
    text.reserve(bytes.min(scratch.len().saturating_mul(MARK_BYTES_MAX)));
    put_back(scratch, marks, text, bytes)
}

/// Which of [`LEVEL_VALUES`] counts this value.
pub(crate) fn level_index(value: &str) -> usize {
    LEVEL_VALUES[1..LEVELS - 1]
        .iter()
        .position(|&v| v == value)
        .map_or(LEVELS - 1, |i| i + 1)
}

const SCRATCH_BYTES_KEPT: usize = 1 << 20;
/// A mark of one byte stands for no more than a UUID.
const MARK_BYTES_MAX: usize = 36;

thread_local! {
    static IDS: RefCell<IdsOut> = RefCell::default();
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn bad(at: usize, what: &'static str) -> Malformed {
    Malformed { at, what }
}

fn put_part(out: &mut Vec<u8>, plain: &[u8], level: i32) -> u32 {
    let start = out.len();
    out.push(1);
    put_uv(out, plain.len() as u64);
    let data = out.len();
    if plain.len() > PLAIN_BYTES_MAX {
        zstd_frame(out, plain, level);
    }
    if plain.len() <= PLAIN_BYTES_MAX || out.len() - data >= plain.len() {
        out.truncate(data);
        out.extend_from_slice(plain);
        out[start] = 0;
    }
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    (out.len() - start) as u32
}

/// Checks and expands a part into `out`, which is cleared first.
pub(crate) fn read_part(part: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    let split = part.len().checked_sub(4).ok_or(bad(0, "part too short"))?;
    let (body, crc) = part.split_at(split);
    if crc32c(body).to_le_bytes() != crc {
        return Err(bad(split, "part fails its CRC32C"));
    }
    let mut r = Reader::new(body);
    let encoding = r.u8()?;
    let len = usize::try_from(r.uv()?).ok().filter(|&n| n <= PART_BYTES_MAX);
    let len = len.ok_or(bad(1, "part too large"))?;
    match encoding {
        0 => out.extend_from_slice(r.remaining()),
        1 => unzstd_frame(r.remaining(), out, len)?,
        _ => return Err(bad(0, "unknown part encoding")),
    }
    if out.len() != len {
        return Err(bad(1, "part has another length than it says"));
    }
    Ok(())
}

fn put_times(out: &mut Vec<u8>, entries: &Entries) {
    let mut previous = entries.times.first().copied().unwrap_or_default();
    let mut delta = 0i64;
    for &t in entries.times.iter().skip(1) {
        let d = t.wrapping_sub(previous);
        put_iv(out, d.wrapping_sub(delta));
        (previous, delta) = (t, d);
    }
    if newlines(entries.text.as_bytes()).count() == entries.ends.len() {
        return;
    }
    let mut start = 0;
    for &end in &entries.ends {
        put_uv(out, u64::from(end - start - 1));
        start = end;
    }
}

fn newlines(text: &[u8]) -> memchr::Memchr<'_> {
    memchr::memchr_iter(b'\n', text)
}

fn get_times(r: &mut Reader<'_>, meta: &ChunkMeta, out: &mut Entries) -> Result<(), Malformed> {
    let n = meta.entries as usize;
    // Every entry but the first takes a byte for its time.
    if n == 0 || r.remaining().len() < n - 1 {
        return Err(bad(0, "fewer times than entries"));
    }
    out.times.reserve(n);
    let (mut t, mut delta) = (meta.min, 0i64);
    out.times.push(t);
    for _ in 1..n {
        delta = delta.wrapping_add(r.iv()?);
        let next = t.wrapping_add(delta);
        if next < t {
            return Err(bad(r.position(), "times fall"));
        }
        t = next;
        out.times.push(t);
    }
    Ok(())
}

/// Reads times that nothing follows; `false`: lengths of lines do.
pub(crate) fn get_only_times(plain: &[u8], meta: &ChunkMeta, out: &mut Entries) -> Result<bool, Malformed> {
    let mut r = Reader::new(plain);
    get_times(&mut r, meta, out)?;
    Ok(r.is_empty())
}

/// Where the lines end, which follows the times.
fn get_ends(r: &mut Reader<'_>, meta: &ChunkMeta, out: &mut Entries) -> Result<(), Malformed> {
    let n = meta.entries as usize;
    // Every entry takes a byte for its newline.
    if out.text.len() < n {
        return Err(bad(0, "fewer lines than entries"));
    }
    out.ends.reserve(n);
    if r.is_empty() {
        // Parts are too short for offsets beyond 32 bits.
        out.ends
            .extend(newlines(out.text.as_bytes()).take(n).map(|at| at as u32 + 1));
        return if out.ends.len() == n {
            Ok(())
        } else {
            Err(bad(0, "fewer lines than entries"))
        };
    }
    let mut end = 0u64;
    for _ in 0..n {
        end = end.saturating_add(r.uv()?).saturating_add(1);
        out.ends
            .push(u32::try_from(end).map_err(|_| bad(r.position(), "lines too long"))?);
    }
    if !r.is_empty() {
        return Err(bad(r.position(), "more times than entries"));
    }
    Ok(())
}

/// Every line ends in a newline inside the text; that also makes its ends boundaries of characters.
fn check_lines(out: &Entries) -> Result<(), Malformed> {
    let text = out.text.as_bytes();
    let whole = out.ends.last().map_or(0, |&e| e as usize);
    if whole != text.len() || out.ends.iter().any(|&e| text[e as usize - 1] != b'\n') {
        return Err(bad(whole.min(text.len()), "lines and lengths disagree"));
    }
    Ok(())
}

/// A metadata name while it is encoded.
struct Column {
    name: u32,
    /// Codes of the distinct values, by first use.
    values: Vec<u32>,
    known: HashTable<u32>,
    last: u32,
    codes: Vec<u8>,
}

fn put_metadata(out: &mut Vec<u8>, entries: &Entries, ids: &mut IdsOut, meta: &mut ChunkMeta) {
    let strings = &entries.metadata.strings;
    let mut columns: Vec<Column> = Vec::new();
    let mut shapes: Vec<Vec<u32>> = Vec::new();
    let mut shapes_known: HashTable<u32> = HashTable::new();
    let mut rows: Vec<u8> = Vec::new();
    let mut shape: Vec<u32> = Vec::new();
    let mut last_shape = u32::MAX;
    let shape_hash = |s: &[u32]| {
        s.iter().fold(s.len() as u64, |h, &c| {
            (h ^ u64::from(c)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    };
    // A dictionary joined of several has several codes for one name, so columns are found by code, else by text.
    let mut column_of: Vec<u32> = vec![u32::MAX; strings.len()];
    let mut by_name: HashTable<u32> = HashTable::new();
    let mut level_column = u32::MAX;
    for i in 0..entries.times.len() {
        shape.clear();
        let mut level = 0;
        for &(name, value) in &entries.metadata.pairs[entries.metadata.pair_range(i)] {
            let bytes = strings.bytes(name).len() + strings.bytes(value).len();
            meta.metadata_bytes = meta.metadata_bytes.saturating_add(bytes as u32);
            let mut column = column_of[name as usize];
            if column == u32::MAX {
                let name_text = strings.get(name);
                let h = rapidhash_v3(name_text.as_bytes());
                let known = by_name.find(h, |&c| strings.get(columns[c as usize].name) == name_text);
                column = known.copied().unwrap_or(columns.len() as u32);
                if name_text == LEVEL_NAME {
                    level_column = column;
                }
                if known.is_none() {
                    columns.push(Column::new(name));
                    by_name.insert_unique(h, column, |&c| {
                        rapidhash_v3(strings.get(columns[c as usize].name).as_bytes())
                    });
                }
                column_of[name as usize] = column;
            }
            shape.push(column);
            if column == level_column {
                level = level_index(strings.get(value));
            }
            columns[column as usize].put(value, |v| strings.get(v));
        }
        meta.levels.0[level] += 1;
        // Most entries carry what the one before carries.
        if shapes.get(last_shape as usize) == Some(&shape) {
            put_uv(&mut rows, u64::from(last_shape));
            continue;
        }
        let h = shape_hash(&shape);
        let known = shapes_known.find(h, |&s| shapes[s as usize] == shape).copied();
        let code = known.unwrap_or_else(|| {
            let code = shapes.len() as u32;
            shapes.push(shape.clone());
            shapes_known.insert_unique(h, code, |&s| shape_hash(&shapes[s as usize]));
            code
        });
        last_shape = code;
        put_uv(&mut rows, u64::from(code));
    }
    let mut text = Vec::new();
    for &v in columns.iter().flat_map(|c| &c.values) {
        text.extend_from_slice(strings.get(v).as_bytes());
        text.push(b'\n');
    }
    let mut cut = Vec::new();
    let mut runs = Runs::default();
    runs.find(&text);
    let any = cut_out(&text, &runs, ids, &mut cut);
    put_bytes(out, if any { &cut } else { &text });
    put_uv(out, columns.len() as u64);
    for c in &columns {
        put_bytes(out, strings.get(c.name).as_bytes());
        put_uv(out, c.values.len() as u64);
        for &v in &c.values {
            put_uv(out, strings.get(v).len() as u64);
        }
    }
    put_uv(out, shapes.len() as u64);
    for s in &shapes {
        put_uv(out, s.len() as u64);
        for &c in s {
            put_uv(out, u64::from(c));
        }
    }
    out.extend_from_slice(&rows);
    for c in &columns {
        out.extend_from_slice(&c.codes);
    }
}

impl Column {
    fn new(name: u32) -> Column {
        Column {
            name,
            values: Vec::new(),
            known: HashTable::new(),
            last: u32::MAX,
            codes: Vec::new(),
        }
    }

    fn put<'a>(&mut self, value: u32, get: impl Fn(u32) -> &'a str) {
        if self.values.get(self.last as usize) == Some(&value) {
            self.codes.push(0);
            return;
        }
        let text = get(value);
        let h = rapidhash_v3(text.as_bytes());
        let values = &self.values;
        let known = self
            .known
            .find(h, |&i| values[i as usize] == value || get(values[i as usize]) == text)
            .copied();
        match known {
            Some(i) if i == self.last => self.codes.push(0),
            Some(i) => {
                put_uv(&mut self.codes, u64::from(i) + 2);
                self.last = i;
            }
            None => {
                let i = self.values.len() as u32;
                self.values.push(value);
                let values = &self.values;
                self.known
                    .insert_unique(h, i, |&i| rapidhash_v3(get(values[i as usize]).as_bytes()));
                self.codes.push(1);
                self.last = i;
            }
        }
    }
}

/// A metadata name while it is decoded: its values are `first .. first + values` in the dictionary.
struct ColumnReader {
    name: u32,
    /// Whether it is looked at; else it is only passed by.
    wanted: bool,
    first: u32,
    values: u32,
    used: u32,
    last: Option<u32>,
    /// Where its codes start, then: how many there are.
    codes: usize,
}

/// Reads the metadata that is asked for, with the marks of its ids. Without these it is `false` if they would be needed.
pub(crate) fn get_metadata(
    plain: &[u8],
    meta: &ChunkMeta,
    marks: Option<&mut Marks<'_>>,
    asked: Columns<'_>,
    out: &mut Entries,
) -> Result<bool, Malformed> {
    let mut r = Reader::new(plain);
    let cut = r.bytes()?;
    let with_ids = marks.is_some();
    let mut whole = Vec::new();
    let text = match marks {
        Some(marks) => {
            // No more than all of it is ids.
            put_back(cut, marks, &mut whole, cut.len().saturating_mul(MARK_BYTES_MAX))?;
            &whole[..]
        }
        None => cut,
    };
    let mut rest = text;
    let mut columns: Vec<ColumnReader> = Vec::new();
    let strings = &mut out.metadata.strings;
    for _ in 0..r.count(2)? {
        let name = r.str()?;
        let wanted = asked.wants(name);
        let name = if wanted { strings.push(name) } else { 0 };
        let values = r.count(1)? as u32;
        let first = strings.len() as u32;
        for _ in 0..values {
            let len = usize::try_from(r.uv()?).unwrap_or(usize::MAX);
            let stored = match with_ids {
                true => Some(len).filter(|&len| len <= rest.len()),
                false => marked_len(rest, len),
            };
            let stored = stored.ok_or(bad(r.position(), "values longer than their text"))?;
            let value = &rest[..stored];
            rest = rest[stored..]
                .strip_prefix(b"\n")
                .ok_or(bad(r.position(), "a value does not end where it should"))?;
            if wanted {
                if stored != len {
                    return Ok(false);
                }
                strings.push(std::str::from_utf8(value).map_err(|_| bad(r.position(), "metadata is not UTF-8"))?);
            }
        }
        columns.push(ColumnReader {
            name,
            wanted,
            first,
            values,
            used: 0,
            last: None,
            codes: 0,
        });
    }
    if !rest.is_empty() {
        return Err(bad(r.position(), "more text than values"));
    }
    if asked.metadata.is_some() && !columns.iter().any(|c| c.wanted) {
        return Ok(true);
    }
    let mut shapes: Vec<Vec<u32>> = Vec::new();
    for _ in 0..r.count(1)? {
        let mut shape = Vec::new();
        for _ in 0..r.count(1)? {
            let column = r.uv()?;
            if column >= columns.len() as u64 {
                return Err(bad(r.position(), "shape names an unknown column"));
            }
            shape.push(column as u32);
        }
        shapes.push(shape);
    }
    // First the shapes say where each pair stands, then each column fills in its own.
    let n = meta.entries as usize;
    let mut codes = 0usize;
    out.metadata.ends.reserve(n);
    for _ in 0..n {
        let shape = usize::try_from(r.uv()?).ok().and_then(|s| shapes.get(s));
        let shape = shape.ok_or(bad(r.position(), "unknown shape"))?;
        codes += shape.len();
        // Each pair has a code of at least a byte still to come.
        if codes > plain.len() {
            return Err(bad(r.position(), "more pairs than codes"));
        }
        for &c in shape {
            let column = &mut columns[c as usize];
            column.codes += 1;
            if column.wanted {
                out.metadata.pairs.push((c, 0));
            }
        }
        out.metadata.ends.push(out.metadata.pairs.len() as u32);
    }
    let mut starts = Vec::with_capacity(columns.len());
    let mut values = Vec::with_capacity(out.metadata.pairs.len());
    for c in &mut columns {
        starts.push(values.len());
        if !c.wanted {
            for _ in 0..c.codes {
                r.uv()?;
            }
            continue;
        }
        for _ in 0..c.codes {
            let i = match r.uv()? {
                0 => c.last,
                1 => Some(c.used),
                n => u32::try_from(n - 2).ok(),
            };
            let i = i.filter(|&i| i < c.values).ok_or(bad(r.position(), "unknown value"))?;
            c.used = c.used.max(i + 1);
            c.last = Some(i);
            values.push(c.first + i);
        }
    }
    if !r.is_empty() {
        return Err(bad(r.position(), "more codes than pairs"));
    }
    for pair in &mut out.metadata.pairs {
        let c = pair.0 as usize;
        *pair = (columns[c].name, values[starts[c]]);
        starts[c] += 1;
    }
    Ok(true)
}

/// How many bytes with marks stand for `len` bytes.
fn marked_len(text: &[u8], len: usize) -> Option<usize> {
    let (mut stored, mut stands_for) = (0, 0);
    while stands_for < len {
        stands_for += ids::bytes_marked(*text.get(stored)?);
        stored += 1;
    }
    (stands_for == len).then_some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::tests::{Row, any_rows, columns, distinct, rows};
    use crate::golden::golden;
    use proptest::prelude::*;

    fn encoded(all: &[Row]) -> (ChunkMeta, Vec<u8>) {
        let mut data = Vec::new();
        let (entries, mut runs) = (columns(all), Runs::default());
        runs.find(entries.text.as_bytes());
        let meta = encode(7, &entries, &runs, LEVEL_HEAD, &mut data);
        (meta, data)
    }

    fn expand(meta: &ChunkMeta, data: &[u8], out: &mut Entries) -> Result<u64, Malformed> {
        decode(meta, data, &read_ids(meta, data)?, Columns::ALL, out)
    }

    fn sample_rows() -> Vec<Row> {
        let pair = |n: &str, v: String| (n.to_owned(), v);
        (0..60i64)
            .map(|i| {
                let mut metadata = Vec::new();
                if i % 3 != 0 {
                    metadata.push(pair(
                        "trace_id",
                        format!("{:032x}", (i as u128 / 6 + 1) * 0x1234_5678_9abc_def1),
                    ));
                    metadata.push(pair("detected_level", ["info", "error"][i as usize % 2].to_owned()));
                }
                let t = 1_700_000_000_000_000_000 + i * 1_000_003;
                (t, format!("GET /api/items/{i} 200 in {} ms", i * 7 % 40), metadata)
            })
            .collect()
    }

    #[test]
    fn golden_chunk_v1() {
        let all = sample_rows();
        let (meta, data) = encoded(&all);
        // The lengths of the parts come first, as they would stand in a record.
        let mut file: Vec<u8> = meta.parts.iter().flat_map(|p| p.to_le_bytes()).collect();
        file.extend_from_slice(&data);
        let file = golden("chunk_v1.bin", &file);
        let (lengths, old) = file.split_at(4 * PARTS);
        let parts = std::array::from_fn(|i| 4 * i).map(|i| u32::from_le_bytes(lengths[i..i + 4].try_into().unwrap()));
        let old_meta = ChunkMeta { parts, ..meta.clone() };
        let mut out = Entries::default();
        expand(&old_meta, old, &mut out).unwrap();
        assert_eq!(rows(&out), all);
        assert_eq!(meta.levels.0, [20, 0, 0, 20, 0, 20, 0, 0, 0, 0]);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let (meta, data) = encoded(&sample_rows());
        let mut out = Entries::default();
        for at in 0..data.len() {
            let mut bad = data.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(expand(&meta, &bad, &mut out).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_chunk_returns_what_it_was_given(all in any_rows(60)) {
            let all = distinct(all);
            prop_assume!(!all.is_empty());
            let (meta, data) = encoded(&all);
            let mut out = Entries::default();
            expand(&meta, &data, &mut out).unwrap();
            prop_assert_eq!(rows(&out), &all[..]);
            prop_assert_eq!(meta.line_bytes as usize, all.iter().map(|r| r.1.len()).sum::<usize>());
            let metadata = all.iter().flat_map(|r| &r.2).map(|(n, v)| n.len() + v.len());
            prop_assert_eq!(meta.metadata_bytes as usize, metadata.sum::<usize>());
            prop_assert_eq!(meta.levels.0.iter().sum::<u32>(), meta.entries);
        }

        /// What is not asked for is not there, and what is asked for is the same.
        #[test]
        fn a_chunk_returns_the_columns_asked_for(
            all in any_rows(60),
            id in any::<u64>(),
            names in proptest::option::of(proptest::collection::vec("[a-c]", 0..3)),
        ) {
            let mut all = distinct(all);
            prop_assume!(!all.is_empty());
            // Some values are ids, of a column of their own or of one with other values too.
            for (i, row) in all.iter_mut().enumerate().filter(|(i, _)| i % 3 == 0) {
                row.2.push((["i", "a"][usize::from(id % 8 == 0)].into(), format!("{:032x}", id / 8 * 8 + i as u64)));
            }
            let (meta, data) = encoded(&all);
            let parts = split(&meta, &data).unwrap();
            let mut out = Entries::default();
            for lines in [true, false] {
                let columns = Columns { lines, metadata: names.as_deref() };
                let line = |line: &String| if lines { line.clone() } else { String::new() };
                let asked = |n: &str| names.as_ref().is_none_or(|names| names.iter().any(|name| name == n));
                let pairs = |pairs: &Vec<(String, String)>| pairs.iter().filter(|(n, _)| asked(n)).cloned().collect();
                let want: Vec<Row> = all.iter().map(|(t, l, m)| (*t, line(l), pairs(m))).collect();
                if lines {
                    decode(&meta, &data, &read_ids(&meta, &data).unwrap(), columns, &mut out).unwrap();
                } else if decode_without_lines(&meta, parts[0], parts[2], columns, &mut out).unwrap().is_none() {
                    prop_assert!(want.iter().flat_map(|r| &r.2).any(|(_, v)| v.len() == 32));
                    continue;
                }
                prop_assert_eq!(rows(&out), want);
            }
        }

        /// A checksum can be right and the bytes below still be foreign.
        #[test]
        fn garbage_never_panics(
            times in proptest::collection::vec(any::<u8>(), 0..40),
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40),
            metadata in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60),
            codes in proptest::collection::vec(0u8..4, 0..12),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            entries in 0u32..12, line_bytes in 0u32..100,
        ) {
            let mut data = Vec::new();
            let parts = [&times, &text, &metadata, &codes, &bytes].map(|p| put_part(&mut data, p, LEVEL_HEAD));
            let meta = ChunkMeta { entries, parts, line_bytes, ..ChunkMeta::default() };
            let mut out = Entries::default();
            if expand(&meta, &data, &mut out).is_ok() {
                prop_assert_eq!(rows(&out).len(), entries as usize);
            }
            out.clear();
            if get_metadata(&metadata, &meta, Some(&mut IdsIn::default().marks()), Columns::ALL, &mut out).is_ok() {
                prop_assert_eq!(out.metadata.ends.len(), entries as usize);
            }
            let _ = read_part(&metadata, &mut Vec::new());
        }
    }
}
