//! Blocks open for reading: footers kept within bounds, rows found by trace id, row groups read column by column.
//!
//! A footer is parsed when its block is first read and kept while [`FOOTER_BYTES_MAX`] allows, without page indexes: those
//! of one row group are read when one of its traces is looked up, and kept within [`GROUP_BYTES_MAX`]. Files are opened per
//! reading. A column that is empty throughout a row group is not read there: its statistics say so. What the Parquet
//! reader makes of damaged bytes is kept in: its errors and panics become [`BlockError::Corrupt`].

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch};
use arrow_schema::{DataType, Schema};
use model::{BlockId, TraceId};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMask, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::Length;
use parquet::file::statistics::Statistics;
use rapidhash::RapidHashMap;
use storage_catalogue::BlockRef;
use storage_disk::Disk;

use crate::BlockError;
use crate::block::{FILE, FORMAT, KEY_ATTRIBUTES, KEY_FORMAT, KEY_VERSION, VERSION};
use crate::block_index::{INDEX_FILE, IndexFile, Sums, Times, id_mark};
use crate::columns::{Dedicated, Usage};
use crate::input::{Damage, Input};
use crate::kept::Kept;
use crate::pages::OneGroup;

/// Footers kept in memory, all blocks together.
const FOOTER_BYTES_MAX: usize = 6 << 20;
/// Page indexes of row groups kept in memory, all blocks together.
const GROUP_BYTES_MAX: usize = 6 << 20;
/// Times of traces kept in memory, all blocks together.
const TIMES_BYTES_MAX: usize = 4 << 20;
/// A bloom filter is asked for at most this many ids; more are surely not all absent.
const BLOOM_IDS_MAX: usize = 64;
/// Rows decoded at once.
pub(crate) const BATCH_ROWS: usize = 512;

/// The engine's blocks, as its snapshots read them.
pub(crate) struct Blocks {
    disk: Disk,
    kept: Arc<Mutex<Known>>,
    corrupt: AtomicU64,
}

/// What was read of blocks and may be wanted again.
struct Known {
    footers: Kept<BlockId, Arc<Footer>>,
    groups: Kept<(BlockId, usize), ArrowReaderMetadata>,
    times: Kept<BlockId, Arc<Times>>,
}

impl Blocks {
    /// No footer known yet.
    pub(crate) fn new(disk: Disk) -> Blocks {
        Blocks {
            disk,
            kept: Arc::new(Mutex::new(Known {
                footers: Kept::new(FOOTER_BYTES_MAX),
                groups: Kept::new(GROUP_BYTES_MAX),
                times: Kept::new(TIMES_BYTES_MAX),
            })),
            corrupt: AtomicU64::new(0),
        }
    }

    /// Opens a block for reading.
    pub(crate) fn open(&self, block: &BlockRef) -> Result<BlockFile, BlockError> {
        let path = block.dir().join(FILE);
        let id = block.meta().id;
        let known = self.kept.lock().footers.get(id);
        let mut file = BlockFile::open(&self.disk, path, known)?;
        self.kept.lock().footers.put(id, file.footer.clone(), file.footer.bytes);
        file.kept = Some((id, self.kept.clone()));
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

/// Columns whose zeros need not be read.
const ZERO_WHEN_ABSENT: [&str; 6] = [
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
    "resource_dropped_attributes",
    "scope_dropped_attributes",
    "flags",
];

/// What is known of a file without reading rows.
pub(crate) struct Footer {
    metadata: Arc<ParquetMetaData>,
    /// For reading whole columns: texts as texts, or as numbers of a dictionary.
    plain: ArrowReaderMetadata,
    coded: ArrowReaderMetadata,
    sums: Option<Arc<Sums>>,
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

impl Footer {
    fn total_rows(&self) -> usize {
        self.groups.iter().map(|g| g.rows).sum()
    }
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
    disk: Disk,
    input: Input,
    path: PathBuf,
    kept: Option<(BlockId, Arc<Mutex<Known>>)>,
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
        let footer = match footer {
            Some(footer) => footer,
            None => {
                let sums = checksums(disk, &path);
                Arc::new(read_footer(&path, &Input::new(file.clone(), sums.clone()), sums)?)
            }
        };
        Ok(BlockFile {
            disk: disk.clone(),
            input: Input::new(file, footer.sums.clone()),
            path,
            kept: None,
            footer,
        })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.input.bytes_read()
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

    /// Reads columns (by name; unknown names and columns that are empty here are left out) of a row group's rows (all, or
    /// these ranges, rising).
    pub(crate) fn read(
        &self,
        group: usize,
        columns: &[&str],
        rows: Option<&[Range<usize>]>,
    ) -> Result<Batches, BlockError> {
        let roots = self.roots(group, columns);
        let reader = self.guarded(|| match rows {
            // Pages are only skipped where rows are; otherwise their index is not worth reading.
            None => self.build(&self.footer.plain, group, &roots, None, BATCH_ROWS),
            Some(rows) => self.build(&self.with_pages(group)?, 0, &roots, Some(rows), BATCH_ROWS),
        })?;
        Ok(Batches {
            reader: Some(reader),
            path: self.path.clone(),
        })
    }

    /// As [`BlockFile::read`] of all rows, but texts come as numbers of a dictionary where the file has them so.
    pub(crate) fn read_coded(&self, group: usize, columns: &[&str], batch_rows: usize) -> Result<Batches, BlockError> {
        let roots = self.roots(group, columns);
        let reader = self.guarded(|| self.build(&self.footer.coded, group, &roots, None, batch_rows))?;
        Ok(Batches {
            reader: Some(reader),
            path: self.path.clone(),
        })
    }

    /// When the block's traces begin and end.
    pub(crate) fn times(&self) -> Result<Arc<Times>, BlockError> {
        if let Some((id, kept)) = &self.kept
            && let Some(times) = kept.lock().times.get(*id)
        {
            return Ok(times);
        }
        let path = self.path.with_file_name(INDEX_FILE);
        let read = IndexFile::open(&self.disk, &path).and_then(|(index, _)| index.times());
        let times = match read {
            Ok(times) if times.total_rows() == self.footer.total_rows() => times,
            _ => self.times_of_rows()?,
        };
        let times = Arc::new(times);
        if let Some((id, kept)) = &self.kept {
            kept.lock().times.put(*id, times.clone(), times.memory());
        }
        Ok(times)
    }

    /// Rows before a row group.
    pub(crate) fn rows_before(&self, group: usize) -> usize {
        self.footer.groups[..group].iter().map(|g| g.rows).sum()
    }

    /// The times when there is no index to tell them.
    fn times_of_rows(&self) -> Result<Times, BlockError> {
        const MS: i64 = 1_000_000;
        let mut traces: Vec<(TraceId, u64, i64, i64)> = Vec::new();
        for group in 0..self.groups_count() {
            for batch in self.read(group, &["trace_id", "start_time", "duration_ns"], None)? {
                let batch = batch?;
                let ids = trace_ids(&batch).ok_or_else(|| self.corrupt("column trace_id is not 16 bytes"))?;
                let (starts, durations) =
                    spans_times(&batch).ok_or_else(|| self.corrupt("columns of time are missing"))?;
                for ((id, start), duration) in ids.zip(starts).zip(durations) {
                    let end = start.wrapping_add(*duration).max(*start);
                    match traces.last_mut() {
                        Some(last) if last.0 == id => {
                            *last = (id, last.1 + 1, last.2.min(*start), last.3.max(end));
                        }
                        _ => traces.push((id, 1, *start, end)),
                    }
                }
            }
        }
        let base = traces.iter().map(|t| t.2.div_euclid(MS)).min().unwrap_or(0);
        let mut times = Times::with_base(base);
        for (id, rows, start, end) in traces {
            let (start, end) = (start.div_euclid(MS), end.div_euclid(MS));
            let pushed = times.push(id_mark(id), rows, start, end.saturating_sub(start).max(0) as u64);
            pushed.ok_or_else(|| self.corrupt("more rows than a block has"))?;
        }
        Ok(times)
    }

    fn roots(&self, group: usize, columns: &[&str]) -> Vec<usize> {
        let roots = columns.iter().filter_map(|c| self.footer.roots.get(*c).copied());
        roots.filter(|root| !self.is_empty(group, *root)).collect()
    }

    /// Whether a column holds nothing but nulls, empty lists or zeros in a row group, going by its statistics.
    fn is_empty(&self, group: usize, root: usize) -> bool {
        let leaves = self.footer.leaves[root]..self.footer.leaves[root + 1];
        let group = self.footer.metadata.row_group(group);
        // Of lists and maps the first leaf tells: it is there in every element.
        let Some(column) = group.columns().get(leaves.start) else {
            return false;
        };
        let Some(statistics) = column.statistics() else {
            return false;
        };
        if statistics.null_count_opt() == u64::try_from(column.num_values()).ok() {
            return true;
        }
        let zero = match statistics {
            Statistics::Int32(s) => s.min_opt() == Some(&0) && s.max_opt() == Some(&0),
            _ => false,
        };
        zero && leaves.len() == 1 && ZERO_WHEN_ABSENT.contains(&column.column_descr().name())
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
        let prepared = self.with_pages(group)?;
        let pages = candidate_pages(prepared.metadata(), leaf, total, wanted);
        if pages.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let root: Vec<usize> = self.footer.roots.get("trace_id").copied().into_iter().collect();
        let reader = self.build(&prepared, 0, &root, Some(&pages), BATCH_ROWS)?;
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

    fn build(
        &self,
        metadata: &ArrowReaderMetadata,
        group: usize,
        roots: &[usize],
        rows: Option<&[Range<usize>]>,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let total = metadata.metadata().row_group_num_rows(group)?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied());
        let input = match rows {
            Some(_) => self.input.clone(),
            None => {
                let columns = metadata.metadata().row_group(group).columns();
                let leaves = roots
                    .iter()
                    .flat_map(|r| self.footer.leaves[*r]..self.footer.leaves[*r + 1]);
                let wanted = leaves.filter_map(|leaf| columns.get(leaf));
                self.input.with_ahead(wanted.map(|column| column.byte_range()))?
            }
        };
        let selection = rows.map(|rows| RowSelection::from_consecutive_ranges(rows.iter().cloned(), total));
        let fields = metadata.schema().fields();
        let levels = parquet_to_arrow_field_levels(metadata.parquet_schema(), mask, Some(fields))?;
        let one = OneGroup {
            input: Arc::new(input),
            metadata: metadata.metadata().clone(),
            group,
        };
        ParquetRecordBatchReader::try_new_with_row_groups(&levels, &one, batch_rows.min(total), selection)
    }

    /// The metadata of one row group, as if it were the only one, with the places of all pages and the bounds of those of
    /// the trace ids.
    fn with_pages(&self, group: usize) -> Result<ArrowReaderMetadata, ParquetError> {
        if let Some((id, kept)) = &self.kept
            && let Some(known) = kept.lock().groups.get((*id, group))
        {
            return Ok(known);
        }
        let whole = &self.footer.metadata;
        let file = whole.file_metadata().clone();
        let one = ParquetMetaData::new(file, vec![whole.row_group(group).clone()]);
        let mut reader = ParquetMetaDataReader::new_with_metadata(one)
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_column_index_mask(ColumnChunkMask::columns([self.footer.trace_leaf]));
        reader.read_page_indexes(&self.input)?;
        let metadata = Arc::new(reader.finish()?);
        let bytes = metadata.memory_size();
        let prepared = ArrowReaderMetadata::try_new(metadata, reader_options())?;
        if let Some((id, kept)) = &self.kept {
            kept.lock().groups.put((*id, group), prepared.clone(), bytes);
        }
        Ok(prepared)
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

/// Starts and durations of a batch's spans; `None` if it has no such columns.
pub(crate) fn spans_times(batch: &RecordBatch) -> Option<(&[i64], &[i64])> {
    let starts = batch.column_by_name("start_time")?;
    let starts = starts.as_primitive_opt::<TimestampNanosecondType>()?;
    let durations = batch.column_by_name("duration_ns")?.as_primitive_opt::<Int64Type>()?;
    (starts.null_count() + durations.null_count() == 0).then(|| (&starts.values()[..], &durations.values()[..]))
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

/// The checksums of a Parquet file, if there is an index and it is about this file.
fn checksums(disk: &Disk, path: &Path) -> Option<Arc<Sums>> {
    let index = path.with_file_name(INDEX_FILE);
    match IndexFile::open(disk, &index) {
        Ok((_, sums)) => Some(Arc::new(sums)),
        Err(error) => {
            tracing::debug!(index = %index.display(), %error, "spans are read without checking them");
            None
        }
    }
}

fn read_footer(path: &Path, input: &Input, sums: Option<Arc<Sums>>) -> Result<Footer, BlockError> {
    let found = input.magic();
    if found != *b"PAR1" {
        let path = path.to_owned();
        return Err(BlockError::Foreign { path, found });
    }
    if sums.as_ref().is_some_and(|sums| sums.file_bytes() != input.len()) {
        return Err(corrupt(path, "its length is not what its index says"));
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
    let metadata = Arc::new(metadata);
    let file = metadata.file_metadata();
    let plain = guarded(path, || {
        ArrowReaderMetadata::try_new(metadata.clone(), reader_options())
    })?;
    let schema = plain.schema().clone();
    let coded = guarded(path, || {
        let options = reader_options().with_schema(Arc::new(with_dictionaries(&schema)));
        ArrowReaderMetadata::try_new(metadata.clone(), options)
    })?;
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
    let checks = sums.as_ref().map_or(0, |sums| sums.memory());
    let bytes = metadata.memory_size() + 3 * names + account + checks;
    Ok(Footer {
        plain,
        coded,
        sums,
        metadata: metadata.clone(),
        roots,
        leaves,
        trace_leaf,
        dedicated,
        usage,
        groups,
        bytes,
    })
}

/// Texts as numbers of a dictionary.
fn with_dictionaries(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 if !field.name().ends_with("attribute_types") => {
            let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(field.as_ref().clone().with_data_type(coded))
        }
        _ => field.clone(),
    });
    Schema::new(fields.collect::<Vec<_>>())
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
            let path = path.to_owned();
            let e = match e.downcast::<Damage>() {
                Ok(damage) => {
                    return Err(BlockError::Corrupt {
                        path,
                        offset: damage.offset,
                        what: damage.to_string(),
                    });
                }
                Err(e) => e,
            };
            let source = e.downcast::<io::Error>().map_or_else(io::Error::other, |e| *e);
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
