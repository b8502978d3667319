//! Blocks open for reading: footers kept within bounds, rows found by trace id, row groups read column by column.
//!
//! A footer is parsed when its block is first read and kept while [`FOOTER_BYTES_MAX`] allows, without page indexes: those
//! of one row group are read when one of its traces is looked up. Files are opened per reading. What the Parquet reader
//! makes of damaged bytes is kept in: its errors and panics become [`BlockError::Corrupt`].

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use model::{BlockId, TraceId};
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use rapidhash::RapidHashMap;
use storage_catalogue::BlockRef;
use storage_disk::{Disk, ReadFile};

use crate::BlockError;
use crate::block::{FILE, FORMAT, KEY_ATTRIBUTES, KEY_FORMAT, KEY_VERSION, VERSION};
use crate::columns::{Dedicated, Usage};

/// Footers kept in memory, all blocks together.
const FOOTER_BYTES_MAX: usize = 4 << 20;
/// Bytes read at once where the Parquet reader asks for a stream.
const STREAM_BYTES: usize = 16 << 10;
/// A bloom filter is asked for at most this many ids; more are surely not all absent.
const BLOOM_IDS_MAX: usize = 64;
/// Rows decoded at once.
pub(crate) const BATCH_ROWS: usize = 512;

/// The engine's blocks, as its snapshots read them.
pub(crate) struct Blocks {
    disk: Disk,
    footers: Mutex<Footers>,
    corrupt: AtomicU64,
}

#[derive(Default)]
struct Footers {
    by_block: RapidHashMap<BlockId, (u64, Arc<Footer>)>,
    by_use: BTreeMap<u64, BlockId>,
    uses: u64,
    bytes: usize,
}

impl Blocks {
    /// No footer known yet.
    pub(crate) fn new(disk: Disk) -> Blocks {
        Blocks {
            disk,
            footers: Mutex::default(),
            corrupt: AtomicU64::new(0),
        }
    }

    /// Opens a block for reading.
    pub(crate) fn open(&self, block: &BlockRef) -> Result<BlockFile, BlockError> {
        let path = block.dir().join(FILE);
        let known = self.footers.lock().get(block.meta().id);
        let file = BlockFile::open(&self.disk, path, known)?;
        self.footers.lock().put(block.meta().id, file.footer.clone());
        Ok(file)
    }

    /// Counts and reports rows that could not be read.
    pub(crate) fn skipped(&self, error: &BlockError) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "spans that could not be read were left out; they are counted in trilobite_corrupt_chunks_total");
    }

    /// How often rows could not be read.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt.load(Ordering::Relaxed)
    }
}

/// The blocks as one reading sees them: knows whether it had to leave out anything.
pub(crate) struct Reading {
    blocks: Arc<Blocks>,
    left_out: AtomicU64,
}

impl Reading {
    /// Nothing left out yet.
    pub(crate) fn new(blocks: Arc<Blocks>) -> Reading {
        Reading {
            blocks,
            left_out: AtomicU64::new(0),
        }
    }

    /// Opens a block for reading.
    pub(crate) fn open(&self, block: &BlockRef) -> Result<BlockFile, BlockError> {
        self.blocks.open(block)
    }

    /// Counts and reports rows that could not be read.
    pub(crate) fn skipped(&self, error: &BlockError) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.blocks.skipped(error);
    }

    /// How often rows had to be left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

impl Footers {
    fn get(&mut self, block: BlockId) -> Option<Arc<Footer>> {
        let (used, footer) = self.by_block.get_mut(&block)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, block);
        Some(footer.clone())
    }

    fn put(&mut self, block: BlockId, footer: Arc<Footer>) {
        if self.by_block.contains_key(&block) || footer.bytes > FOOTER_BYTES_MAX {
            return;
        }
        self.uses += 1;
        self.bytes += footer.bytes;
        self.by_block.insert(block, (self.uses, footer));
        self.by_use.insert(self.uses, block);
        while self.bytes > FOOTER_BYTES_MAX {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some((_, footer)) = self.by_block.remove(&oldest) {
                self.bytes -= footer.bytes;
            }
        }
    }
}

/// What is known of a file without reading rows.
pub(crate) struct Footer {
    metadata: Arc<ParquetMetaData>,
    roots: RapidHashMap<String, usize>,
    /// First leaf of each root column, and the number of leaves at the end.
    leaves: Vec<usize>,
    trace_leaf: usize,
    /// Attributes with columns of their own.
    pub(crate) dedicated: Vec<Dedicated>,
    /// The account of attributes.
    pub(crate) usage: Usage,
    groups: Vec<Group>,
    bytes: usize,
}

/// A row group: its rows and the ids of its first and last trace, if its statistics say.
struct Group {
    rows: usize,
    ids: Option<(TraceId, TraceId)>,
}

/// Which traces are wanted.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Ids from the first to the last, both inclusive.
    Between(TraceId, TraceId),
    /// These, rising.
    Ids(&'a [TraceId]),
}

impl Wanted<'_> {
    pub(crate) fn contains(&self, id: TraceId) -> bool {
        match self {
            Wanted::Between(first, last) => (*first..=*last).contains(&id),
            Wanted::Ids(ids) => ids.binary_search(&id).is_ok(),
        }
    }

    /// Whether some id from `min` to `max` is wanted.
    fn meets(&self, min: TraceId, max: TraceId) -> bool {
        match self {
            Wanted::Between(first, last) => min <= *last && *first <= max,
            Wanted::Ids(ids) => ids
                .get(ids.partition_point(|id| *id < min))
                .is_some_and(|id| *id <= max),
        }
    }

    fn covers(&self, min: TraceId, max: TraceId) -> bool {
        matches!(self, Wanted::Between(first, last) if *first <= min && max <= *last)
    }
}

/// A block's file, open.
pub(crate) struct BlockFile {
    input: Input,
    path: PathBuf,
    /// What is known without reading rows.
    pub(crate) footer: Arc<Footer>,
}

impl BlockFile {
    /// Opens a file; `footer` if it is known already.
    pub(crate) fn open(disk: &Disk, path: PathBuf, footer: Option<Arc<Footer>>) -> Result<BlockFile, BlockError> {
        let file = disk.open(&path).map_err(|source| BlockError::Io {
            path: path.clone(),
            source,
        })?;
        let input = Input {
            file,
            read: Arc::default(),
        };
        let footer = match footer {
            Some(footer) => footer,
            None => Arc::new(read_footer(&path, &input)?),
        };
        Ok(BlockFile { input, path, footer })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.input.read.load(Ordering::Relaxed)
    }

    /// Row groups that may hold wanted traces, by their bounds alone.
    pub(crate) fn groups(&self, wanted: Wanted<'_>) -> Vec<usize> {
        let groups = self.footer.groups.iter().enumerate();
        let meets = groups.filter(|(_, g)| g.rows > 0 && g.ids.is_none_or(|(min, max)| wanted.meets(min, max)));
        meets.map(|(n, _)| n).collect()
    }

    /// The rows of wanted traces in a row group. `None`: all of them.
    pub(crate) fn rows(&self, group: usize, wanted: Wanted<'_>) -> Result<Option<Vec<Range<usize>>>, BlockError> {
        let ids = self.footer.groups[group].ids;
        if ids.is_some_and(|(min, max)| wanted.covers(min, max)) {
            return Ok(None);
        }
        if let Wanted::Ids(wanted) = wanted
            && !self.bloom_may_hold(group, wanted)?
        {
            return Ok(Some(Vec::new()));
        }
        self.guarded(|| self.find_rows(group, wanted))
    }

    /// Reads columns (by name; unknown names are left out) of a row group's rows (all, or these ranges, rising).
    pub(crate) fn read(
        &self,
        group: usize,
        columns: &[&str],
        rows: Option<&[Range<usize>]>,
    ) -> Result<Batches, BlockError> {
        let roots: Vec<usize> = columns
            .iter()
            .filter_map(|c| self.footer.roots.get(*c).copied())
            .collect();
        let reader = self.guarded(|| self.reader(group, &roots, rows))?;
        Ok(Batches {
            reader: Some(reader),
            path: self.path.clone(),
        })
    }

    /// Row groups in the file.
    pub(crate) fn groups_count(&self) -> usize {
        self.footer.groups.len()
    }

    /// Statistics of a column without children in a row group.
    pub(crate) fn statistics(&self, group: usize, column: &str) -> Option<&Statistics> {
        let leaf = self.footer.leaves[*self.footer.roots.get(column)?];
        self.footer.metadata.row_group(group).columns().get(leaf)?.statistics()
    }

    /// Rows of a row group.
    pub(crate) fn group_rows(&self, group: usize) -> usize {
        self.footer.groups[group].rows
    }

    /// An error about this file.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> BlockError {
        corrupt(&self.path, what)
    }

    fn bloom_may_hold(&self, group: usize, ids: &[TraceId]) -> Result<bool, BlockError> {
        let ids = match self.footer.groups[group].ids {
            Some((min, max)) => &ids[ids.partition_point(|id| *id < min)..ids.partition_point(|id| *id <= max)],
            None => ids,
        };
        if ids.len() > BLOOM_IDS_MAX {
            return Ok(true);
        }
        self.guarded(|| {
            let column = self.footer.metadata.row_group(group).column(self.footer.trace_leaf);
            let bloom = Sbbf::read_from_column_chunk(column, &self.input)?;
            Ok(bloom.is_none_or(|bloom| ids.iter().any(|id| bloom.check(&id.to_bytes()[..]))))
        })
    }

    fn find_rows(&self, group: usize, wanted: Wanted<'_>) -> Result<Option<Vec<Range<usize>>>, ParquetError> {
        let total = self.footer.groups[group].rows;
        let leaf = self.footer.trace_leaf;
        let metadata = self.group_metadata(group, &[leaf], &[leaf])?;
        let pages = candidate_pages(&metadata, leaf, total, wanted);
        if pages.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let root = self
            .footer
            .roots
            .get("trace_id")
            .copied()
            .into_iter()
            .collect::<Vec<_>>();
        let reader = self.build(metadata, &root, Some(&pages))?;
        let mut places = pages.iter().flat_map(|p| p.clone());
        let mut found: Vec<Range<usize>> = Vec::new();
        // Neighbours mostly are of one trace, and then the answer is the same.
        let mut last: Option<(TraceId, bool)> = None;
        for batch in reader {
            let batch = batch?;
            let ids = trace_ids(&batch).ok_or_else(|| ParquetError::General("trace_id is not 16 bytes".into()))?;
            for id in ids {
                let Some(row) = places.next() else { break };
                let inside = match last {
                    Some((same, inside)) if same == id => inside,
                    _ => wanted.contains(id),
                };
                last = Some((id, inside));
                match found.last_mut() {
                    Some(range) if inside && range.end == row => range.end += 1,
                    _ if inside => found.push(row..row + 1),
                    _ => {}
                }
            }
        }
        let all = matches!(found.as_slice(), [range] if *range == (0..total));
        Ok((!all).then_some(found))
    }

    fn reader(
        &self,
        group: usize,
        roots: &[usize],
        rows: Option<&[Range<usize>]>,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        // Pages are only skipped where rows are; otherwise their index is not worth reading.
        let leaves: Vec<usize> = match rows {
            None => Vec::new(),
            Some(_) => roots
                .iter()
                .flat_map(|r| self.footer.leaves[*r]..self.footer.leaves[*r + 1])
                .collect(),
        };
        let metadata = self.group_metadata(group, &[], &leaves)?;
        self.build(metadata, roots, rows)
    }

    fn build(
        &self,
        metadata: ParquetMetaData,
        roots: &[usize],
        rows: Option<&[Range<usize>]>,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let total = metadata.row_group_num_rows(0)?;
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), roots.iter().copied());
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), reader_options())?;
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.input.clone(), metadata)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS);
        if let Some(rows) = rows {
            let selection = RowSelection::from_consecutive_ranges(rows.iter().cloned(), total);
            builder = builder.with_row_selection(selection);
        }
        builder.build()
    }

    /// The metadata of one row group, as if it were the only one, with the page index of some leaves.
    fn group_metadata(
        &self,
        group: usize,
        bounds_of: &[usize],
        places_of: &[usize],
    ) -> Result<ParquetMetaData, ParquetError> {
        let whole = &self.footer.metadata;
        let file = whole.file_metadata().clone();
        let one = ParquetMetaData::new(file, vec![whole.row_group(group).clone()]);
        if places_of.is_empty() {
            return Ok(one);
        }
        let mut reader = ParquetMetaDataReader::new_with_metadata(one)
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_column_index_mask(ColumnChunkMask::columns(bounds_of.iter().copied()))
            .with_offset_index_mask(ColumnChunkMask::columns(places_of.iter().copied()));
        reader.read_page_indexes(&self.input)?;
        reader.finish()
    }

    fn guarded<T>(&self, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, BlockError> {
        guarded(&self.path, read)
    }
}

/// Rows of one row group, batch by batch.
pub(crate) struct Batches {
    reader: Option<ParquetRecordBatchReader>,
    path: PathBuf,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let batch = guarded(&self.path, || reader.next().transpose().map_err(ParquetError::from)).transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.reader = None;
        }
        batch
    }
}

/// The trace ids of a batch; `None` if it has no such column.
pub(crate) fn trace_ids(batch: &RecordBatch) -> Option<impl Iterator<Item = TraceId>> {
    let column = batch
        .column_by_name("trace_id")?
        .as_any()
        .downcast_ref::<FixedSizeBinaryArray>()?;
    if column.value_length() != 16 || column.null_count() > 0 {
        return None;
    }
    Some((0..column.len()).map(|row| {
        let mut id = [0; 16];
        id.copy_from_slice(column.value(row));
        TraceId(u128::from_be_bytes(id))
    }))
}

fn candidate_pages(metadata: &ParquetMetaData, leaf: usize, total: usize, wanted: Wanted<'_>) -> Vec<Range<usize>> {
    let index = metadata.page_index_for_row_group(0);
    let everything: Vec<Range<usize>> = std::iter::once(0..total).collect();
    let (Some(ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(bounds)), Some(places)) =
        (index.column_index(leaf), index.page_locations(leaf))
    else {
        return everything;
    };
    let mut pages: Vec<Range<usize>> = Vec::new();
    for (n, place) in places.iter().enumerate() {
        let start = usize::try_from(place.first_row_index).unwrap_or(total);
        let end = places
            .get(n + 1)
            .map_or(total, |next| usize::try_from(next.first_row_index).unwrap_or(total));
        if start > end || end > total || pages.last().is_some_and(|p| p.end > start) {
            return everything;
        }
        let id = |bytes: Option<&[u8]>| Some(TraceId(u128::from_be_bytes(bytes?.try_into().ok()?)));
        let meets = match (id(bounds.min_value(n)), id(bounds.max_value(n))) {
            (Some(min), Some(max)) => wanted.meets(min, max),
            _ => true,
        };
        match pages.last_mut() {
            Some(page) if meets && page.end == start => page.end = end,
            _ if meets => pages.push(start..end),
            _ => {}
        }
    }
    pages
}

fn read_footer(path: &Path, input: &Input) -> Result<Footer, BlockError> {
    let mut magic = [0; 4];
    if input.file.len() < 12 || input.file.read_exact_at(&mut magic, 0).is_err() || magic != *b"PAR1" {
        let (path, found) = (path.to_owned(), magic);
        return Err(BlockError::Foreign { path, found });
    }
    let metadata = guarded(path, || {
        ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Skip)
            .parse_and_finish(input)
    })?;
    let file = metadata.file_metadata();
    let value = |key: &str| {
        let pairs = file.key_value_metadata().into_iter().flatten();
        pairs.filter(|kv| kv.key == key).find_map(|kv| kv.value.clone())
    };
    if value(KEY_FORMAT).as_deref() != Some(FORMAT) {
        return Err(corrupt(path, "a Parquet file, but not of spans"));
    }
    match value(KEY_VERSION).and_then(|v| v.parse::<u8>().ok()) {
        Some(found) if found > VERSION => {
            return Err(BlockError::TooNew {
                path: path.to_owned(),
                found,
                newest: VERSION,
            });
        }
        Some(_) => {}
        None => return Err(corrupt(path, "no schema version")),
    }
    let usage = value(KEY_ATTRIBUTES)
        .map(|text| Usage::from_text(&text))
        .unwrap_or_default();
    let schema = arrow_schema(path, &metadata)?;
    let descr = file.schema_descr();
    let mut leaves: Vec<usize> = (0..schema.fields().len())
        .map(|root| {
            (0..descr.num_columns())
                .position(|leaf| descr.get_column_root_idx(leaf) == root)
                .unwrap_or(0)
        })
        .collect();
    leaves.push(descr.num_columns());
    let fields = schema.fields().iter().enumerate();
    let roots: RapidHashMap<String, usize> = fields.map(|(n, f)| (f.name().clone(), n)).collect();
    let fields = schema.fields().iter();
    let dedicated = fields
        .filter_map(|f| Dedicated::from_column(f.name(), f.data_type()))
        .collect();
    let trace_root = roots.get("trace_id").copied();
    let trace_root = trace_root.filter(|r| *schema.field(*r).data_type() == DataType::FixedSizeBinary(16));
    let trace_leaf = leaves[trace_root.ok_or_else(|| corrupt(path, "no column trace_id of 16 bytes"))?];
    let mut groups = Vec::new();
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows()).map_err(|_| corrupt(path, "a negative number of rows"))?;
        let statistics = group.columns().get(trace_leaf).and_then(|c| c.statistics());
        let id = |bytes: Option<&[u8]>| Some(TraceId(u128::from_be_bytes(bytes?.try_into().ok()?)));
        let bounds = statistics.map(|s| (id(s.min_bytes_opt()), id(s.max_bytes_opt())));
        groups.push(Group {
            rows,
            ids: match bounds {
                Some((Some(min), Some(max))) => Some((min, max)),
                _ => None,
            },
        });
    }
    let names: usize = roots.keys().map(|k| k.len() + 48).sum();
    let account: usize = usage.iter().map(|(_, key, _)| key.len() + 80).sum();
    let bytes = metadata.memory_size() + names + account;
    Ok(Footer {
        metadata: Arc::new(metadata),
        roots,
        leaves,
        trace_leaf,
        dedicated,
        usage,
        groups,
        bytes,
    })
}

fn arrow_schema(path: &Path, metadata: &ParquetMetaData) -> Result<SchemaRef, BlockError> {
    guarded(path, || {
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata.clone()), reader_options())?;
        Ok(metadata.schema().clone())
    })
}

fn reader_options() -> ArrowReaderOptions {
    ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_page_index_policy(PageIndexPolicy::Optional)
}

fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, BlockError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(e))) => {
            let source = match e.downcast::<io::Error>() {
                Ok(e) => *e,
                Err(e) => io::Error::other(e),
            };
            let path = path.to_owned();
            Err(BlockError::Io { path, source })
        }
        Ok(Err(e)) => Err(corrupt(path, e.to_string())),
        Err(_) => Err(corrupt(path, "the Parquet reader panicked")),
    }
}

fn corrupt(path: &Path, what: impl Into<String>) -> BlockError {
    BlockError::Corrupt {
        path: path.to_owned(),
        offset: 0,
        what: what.into(),
    }
}

/// The file as the Parquet reader wants it.
#[derive(Clone)]
struct Input {
    file: ReadFile,
    read: Arc<AtomicU64>,
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Input {
    type T = Stream;

    fn get_read(&self, start: u64) -> Result<Stream, ParquetError> {
        Ok(Stream {
            input: self.clone(),
            at: start,
            buffer: Vec::new(),
            used: 0,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.file.len());
        if end.is_none() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} reach beyond the end of the file"
            )));
        }
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, start)
            .map_err(|e| ParquetError::External(Box::new(e)))?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(bytes.into())
    }
}

/// Reads on from a place in the file, through a small buffer.
struct Stream {
    input: Input,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl io::Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() {
            let left = self.input.file.len().saturating_sub(self.at);
            let len = left.min(STREAM_BYTES.max(out.len()) as u64) as usize;
            self.buffer.resize(len, 0);
            self.used = 0;
            self.input.file.read_exact_at(&mut self.buffer, self.at)?;
            self.input.read.fetch_add(len as u64, Ordering::Relaxed);
            self.at += len as u64;
        }
        let n = out.len().min(self.buffer.len() - self.used);
        out[..n].copy_from_slice(&self.buffer[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}
