//! A block of spans: one Parquet file that any Parquet reader opens.
//!
//! # `spans.parquet`, schema version 1
//!
//! One row per span of one UTC day, sorted by (trace_id, start_time). Key-value metadata: `trilobite.format` = `spans`,
//! `trilobite.version` = `1`, `trilobite.attributes` (drawn in `columns.rs`).
//!
//! ```text
//! trace_id                     fixed[16]        big-endian, as on the wire; bloom filter, page index
//! span_id                      fixed[8]
//! parent_span_id               fixed[8]?        null: a root
//! start_time                   timestamp ns UTC
//! duration_ns                  int64            end - start, negative when clocks are off
//! name                         utf8
//! kind, status                 int8             OTLP's numbers
//! status_message               utf8?            null: empty
//! service_name                 utf8?            resource attribute service.name, if it is text
//! resource.<key>, span.<key>   utf8 | int64 | double | bool, nullable: attributes with a column of their own
//! attributes                   map<utf8, utf8>  the other attributes of the span, as text
//! attribute_types              utf8?            one letter per entry of `attributes`; null: all text (`value_text.rs`)
//! dropped_attributes           uint32
//! events                       list<struct<time, name, attributes, attribute_types, dropped_attributes>>
//! dropped_events               uint32
//! links                        list<struct<trace_id, span_id, trace_state, attributes, attribute_types,
//!                              dropped_attributes, flags>>
//! dropped_links                uint32
//! resource_id                  uint32           equal for rows of equal resources, within this file
//! resource_attributes, resource_attribute_types, resource_dropped_attributes, resource_schema_url
//! scope_id                     uint32           the same for scopes
//! scope_name, scope_version    utf8?
//! scope_attributes, scope_attribute_types, scope_dropped_attributes, scope_schema_url
//! trace_state                  utf8?
//! flags                        uint32
//! nested_set_left, nested_set_right, nested_set_parent   int32, among the spans of the trace in this file
//! revision                     uint64           the block into which the span was cut first; of copies the highest counts
//! ```
//!
//! A key that occurs twice on a span, as OTLP forbids, keeps its last value in the column and the others in the map; maps
//! have each key once all the same (`value_text.rs`), or DuckDB would refuse the file. Row groups hold 128 Ki rows, pages
//! 2 Ki; ids have no dictionary, since a lookup would have to read all of it. Columns and their order may differ from block
//! to block; readers go by name. What else there is to know of a block lies beside it (`block_index.rs`). `SCHEMA.md` shows
//! all of this to users of SQL. Golden file: `testdata/spans_v1.parquet`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use model::{Resource, Scope, Span, TimestampNs, TraceId};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue as FileKeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rapidhash::RapidHashMap;
use storage_codec::{Malformed, Reader};
use storage_disk::{Disk, Writer};

use crate::BlockError;
use crate::block_index::{INDEX_FILE, IndexWriter, Sums, times_of};
use crate::columns::{Dedicated, Usage};
use crate::head::HeadSpan;
use crate::nested_set::{Node, nested_set};
use crate::record::{resource_key, scope_key};
use crate::request::AttributeScope;
use crate::row_columns::{Row, Rows, Table, kept_resource, kept_scope};
use crate::span_bytes::{GetSymbols, Place, PutSymbols, parent, put_body};
use crate::symbols::SymbolView;

/// The file within a block's directory.
pub(crate) const FILE: &str = "spans.parquet";
/// Newest schema version this build reads, and the one it writes.
pub(crate) const VERSION: u8 = 1;
/// Key-value metadata of the file.
pub(crate) const KEY_FORMAT: &str = "trilobite.format";
pub(crate) const KEY_VERSION: &str = "trilobite.version";
pub(crate) const KEY_ATTRIBUTES: &str = "trilobite.attributes";
pub(crate) const FORMAT: &str = "spans";

// A search pays for each row group that it reads a few spans of, and for its dictionaries. Tests want several groups soon.
const GROUP_ROWS_MAX: usize = if cfg!(test) { 32 << 10 } else { 128 << 10 };
/// Texts that repeat less than this allows are written as they are: who looks up one trace reads the whole dictionary.
const DICTIONARY_BYTES_MAX: usize = 256 << 10;
const GROUP_BYTES_MAX: usize = 64 << 20;
const PAGE_ROWS_MAX: usize = 2 << 10;
/// Rows gathered before they are encoded.
const BATCH_ROWS_MAX: usize = 2 << 10;
const BATCH_BYTES_MAX: usize = 16 << 20;
const BLOOM_FALSE_HITS: f64 = 0.01;
/// Names that are numbered while spans are written; further ones are looked up one by one.
const NAMES_MAX: usize = 64 << 10;

/// What a finished file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Rows.
    pub spans: u64,
    /// Distinct trace ids.
    pub traces: u64,
    /// First start and last end.
    pub range: Option<(TimestampNs, TimestampNs)>,
}

/// Writes one file, trace by trace.
pub(crate) struct BlockWriter {
    disk: Disk,
    path: PathBuf,
    index: IndexWriter,
    writer: ArrowWriter<Sink>,
    schema: SchemaRef,
    rows: Rows,
    resources: Table<Resource>,
    scopes: Table<Scope>,
    names: Names,
    body: Vec<u8>,
    usage: Usage,
    written: Written,
}

struct Sink {
    writer: Writer,
    sums: Sums,
}

impl io::Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write_all(buf)?;
        self.sums.add(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlockWriter {
    /// Creates the file in a block's directory.
    pub(crate) fn create(disk: &Disk, dir: &Path, dedicated: Vec<Dedicated>) -> Result<BlockWriter, BlockError> {
        let path = dir.join(FILE);
        let io = |source| BlockError::Io {
            path: path.clone(),
            source,
        };
        let sink = Sink {
            writer: disk.create(&path).map_err(io)?,
            sums: Sums::default(),
        };
        let schema = schema(&dedicated);
        let options = ArrowWriterOptions::new()
            .with_properties(properties()?)
            .with_skip_arrow_metadata(true)
            .with_schema_root("spans".to_owned());
        let writer = ArrowWriter::try_new_with_options(sink, schema.clone(), options).map_err(|e| failed(&path, e))?;
        Ok(BlockWriter {
            disk: disk.clone(),
            path,
            index: IndexWriter::new(),
            writer,
            schema,
            rows: Rows::new(dedicated),
            resources: Table::default(),
            scopes: Table::default(),
            names: Names::default(),
            body: Vec::new(),
            usage: Usage::default(),
            written: Written::default(),
        })
    }

    /// Appends a trace: its spans sorted by start, each once, with their revisions. Traces must come in rising order of id.
    pub(crate) fn trace(&mut self, spans: &[Span], revisions: &[u64]) -> Result<(), BlockError> {
        let (Some((first_start, last_end)), Some(id)) = (times_of(spans), spans.first().map(|s| s.trace_id)) else {
            return Ok(());
        };
        self.index.trace(id, spans.len() as u64, first_start, last_end);
        let nodes: Vec<Node> = spans.iter().map(Node::of).collect();
        let (mut body, mut names) = (std::mem::take(&mut self.body), std::mem::take(&mut self.names));
        for ((span, nested), revision) in spans.iter().zip(nested_set(&nodes)).zip(revisions) {
            body.clear();
            put_body(&mut body, span, &mut names);
            let row = Row {
                trace_id: span.trace_id,
                span_id: span.span_id,
                kind: span.kind,
                start: span.start,
                end: span.end,
                nested,
                revision: *revision,
                body: &body,
            };
            self.row(&row, &span.resource, &span.scope, &names)?;
        }
        (self.body, self.names) = (body, names);
        self.written.traces += 1;
        self.flush_full()
    }

    /// As [`BlockWriter::trace`], with spans as the head has them. One writer takes either those or others.
    pub(crate) fn head_trace(
        &mut self,
        id: TraceId,
        spans: &[&HeadSpan],
        symbols: &SymbolView,
        revision: u64,
    ) -> Result<(), BlockError> {
        let first = spans.iter().map(|s| s.start).min();
        let last = spans.iter().map(|s| s.end.max(s.start)).max();
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(());
        };
        self.index.trace(id, spans.len() as u64, first, last);
        let node = |span: &&HeadSpan| {
            Ok(Node {
                id: span.span_id,
                parent: parent(&mut Reader::new(span.body()))?,
                kind: span.kind,
            })
        };
        let nodes: Result<Vec<Node>, Malformed> = spans.iter().map(node).collect();
        let nodes = nodes.map_err(|e| self.unreadable(&e))?;
        for (span, nested) in spans.iter().zip(nested_set(&nodes)) {
            let row = Row {
                trace_id: id,
                span_id: span.span_id,
                kind: span.kind,
                start: span.start,
                end: span.end,
                nested,
                revision,
                body: span.body(),
            };
            self.row(&row, span.resource(), span.scope(), symbols)?;
        }
        self.written.traces += 1;
        Ok(())
    }

    /// Completes the file. It is synced when its directory is published.
    pub(crate) fn finish(mut self) -> Result<Written, BlockError> {
        self.flush()?;
        self.rows.account(&mut self.usage);
        for (resource, rows) in self.resources.in_use() {
            for (kv, outside) in resource.value.attributes.iter().zip(&resource.outside) {
                self.usage
                    .count(AttributeScope::Resource, &kv.key, &kv.value, rows, *outside);
            }
        }
        for (scope, rows) in self.scopes.in_use() {
            for kv in &scope.value.attributes {
                self.usage
                    .count(AttributeScope::Instrumentation, &kv.key, &kv.value, rows, true);
            }
        }
        for (key, value) in [
            (KEY_FORMAT, FORMAT.to_owned()),
            (KEY_VERSION, VERSION.to_string()),
            (KEY_ATTRIBUTES, self.usage.to_text()),
        ] {
            self.writer
                .append_key_value_metadata(FileKeyValue::new(key.to_owned(), value));
        }
        let sink = self.writer.into_inner().map_err(|e| failed(&self.path, e))?;
        let path = self.path.with_file_name(INDEX_FILE);
        let index = self.index.finish(sink.sums);
        let written = self.disk.create(&path).and_then(|mut file| file.write_all(&index));
        written.map_err(|source| BlockError::Io { path, source })?;
        Ok(self.written)
    }

    fn row(
        &mut self,
        row: &Row<'_>,
        resource: &Arc<Resource>,
        scope: &Arc<Scope>,
        symbols: &impl GetSymbols,
    ) -> Result<(), BlockError> {
        let dedicated = &self.rows.resource_columns;
        let resource = self
            .resources
            .number(resource, resource_key, |r| kept_resource(r, dedicated));
        let scope = self.scopes.number(scope, scope_key, kept_scope);
        let put = self.rows.span(row, symbols, &mut self.usage);
        put.map_err(|e| self.unreadable(&e))?;
        self.rows.resource(resource, self.resources.get(resource));
        self.rows.scope(scope, self.scopes.get(scope));
        let end = row.end.max(row.start);
        self.written.spans += 1;
        self.written.range = Some(match self.written.range {
            None => (row.start, end),
            Some((min, max)) => (min.min(row.start), max.max(end)),
        });
        match self.rows.len >= 2 * BATCH_ROWS_MAX || self.rows.bytes >= 2 * BATCH_BYTES_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes the rows so far, if they are many. Meant to be called between traces: a row itself writes only in a trace that is
    /// very long.
    pub(crate) fn flush_full(&mut self) -> Result<(), BlockError> {
        match self.rows.len >= BATCH_ROWS_MAX || self.rows.bytes >= BATCH_BYTES_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// A span's bytes, which this process made, are not what they should be.
    fn unreadable(&self, error: &Malformed) -> BlockError {
        BlockError::Corrupt {
            path: self.path.clone(),
            offset: 0,
            what: format!("a span in memory is unreadable: {error}"),
        }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        if self.rows.len == 0 {
            return Ok(());
        }
        let arrays = self.rows.take();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays);
        let written = batch.map_err(ParquetError::from).and_then(|b| self.writer.write(&b));
        written.map_err(|e| failed(&self.path, e))
    }
}

/// Names of attributes and spans by number, for spans that do not come from a head.
#[derive(Default)]
struct Names {
    numbers: RapidHashMap<Arc<str>, u64>,
    list: Vec<Arc<str>>,
}

impl PutSymbols for Names {
    fn number(&mut self, text: &str, place: Place) -> u64 {
        if place != Place::SpanAttribute {
            return 0;
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        if self.list.len() >= NAMES_MAX {
            return 0;
        }
        let text: Arc<str> = text.into();
        self.list.push(text.clone());
        self.numbers.insert(text, self.list.len() as u64);
        self.list.len() as u64
    }
}

impl GetSymbols for Names {
    fn text(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.list.get(at).map(|name| &**name)
    }
}

/// Names of the columns that are in every block, in their order; dedicated ones follow `service_name`.
fn schema(dedicated: &[Dedicated]) -> SchemaRef {
    let required = |name: &str, t: DataType| Field::new(name, t, false);
    let optional = |name: &str, t: DataType| Field::new(name, t, true);
    let mut fields = vec![
        required("trace_id", DataType::FixedSizeBinary(16)),
        required("span_id", DataType::FixedSizeBinary(8)),
        optional("parent_span_id", DataType::FixedSizeBinary(8)),
        required("start_time", instant()),
        required("duration_ns", DataType::Int64),
        required("name", DataType::Utf8),
        required("kind", DataType::Int8),
        required("status", DataType::Int8),
        optional("status_message", DataType::Utf8),
    ];
    fields.extend(dedicated.iter().map(|d| optional(&d.column(), d.kind.data_type())));
    fields.extend([
        required("attributes", map_type()),
        optional("attribute_types", DataType::Utf8),
        required("dropped_attributes", DataType::UInt32),
        required("events", DataType::List(element(event_fields()))),
        required("dropped_events", DataType::UInt32),
        required("links", DataType::List(element(link_fields()))),
        required("dropped_links", DataType::UInt32),
        required("resource_id", DataType::UInt32),
        required("resource_attributes", map_type()),
        optional("resource_attribute_types", DataType::Utf8),
        required("resource_dropped_attributes", DataType::UInt32),
        optional("resource_schema_url", DataType::Utf8),
        required("scope_id", DataType::UInt32),
        optional("scope_name", DataType::Utf8),
        optional("scope_version", DataType::Utf8),
        required("scope_attributes", map_type()),
        optional("scope_attribute_types", DataType::Utf8),
        required("scope_dropped_attributes", DataType::UInt32),
        optional("scope_schema_url", DataType::Utf8),
        optional("trace_state", DataType::Utf8),
        required("flags", DataType::UInt32),
        required("nested_set_left", DataType::Int32),
        required("nested_set_right", DataType::Int32),
        required("nested_set_parent", DataType::Int32),
        required("revision", DataType::UInt64),
    ]);
    Arc::new(Schema::new(fields))
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

pub(crate) fn map_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ])
}

pub(crate) fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(map_fields()), false))
}

fn map_type() -> DataType {
    DataType::Map(map_entries(), false)
}

pub(crate) fn element(fields: Fields) -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(fields), false))
}

pub(crate) fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", instant(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", map_type(), false),
        Field::new("attribute_types", DataType::Utf8, true),
        Field::new("dropped_attributes", DataType::UInt32, false),
    ])
}

pub(crate) fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("span_id", DataType::FixedSizeBinary(8), false),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("attributes", map_type(), false),
        Field::new("attribute_types", DataType::Utf8, true),
        Field::new("dropped_attributes", DataType::UInt32, false),
        Field::new("flags", DataType::UInt32, false),
    ])
}

fn properties() -> Result<WriterProperties, BlockError> {
    let path = |parts: &[&str]| ColumnPath::new(parts.iter().map(|p| (*p).to_owned()).collect());
    let level = ZstdLevel::try_new(1).map_err(|e| failed(Path::new(FILE), e))?;
    let trace_id = path(&["trace_id"]);
    let by_trace_id = SortingColumn {
        column_idx: 0,
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("trilobite ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
        .set_max_row_group_bytes(Some(GROUP_BYTES_MAX))
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES_MAX)
        .set_write_batch_size(PAGE_ROWS_MAX)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_bloom_filter_enabled(trace_id.clone(), true)
        .set_column_bloom_filter_fpp(trace_id.clone(), BLOOM_FALSE_HITS)
        .set_column_bloom_filter_max_ndv(trace_id.clone(), GROUP_ROWS_MAX as u64)
        .set_column_statistics_enabled(trace_id, EnabledStatistics::Page)
        // Who looks up a trace reads pages of ids, not a dictionary of all ids of the row group.
        .set_column_dictionary_enabled(path(&["trace_id"]), false)
        .set_column_dictionary_enabled(path(&["span_id"]), false)
        .set_column_dictionary_enabled(path(&["parent_span_id"]), false)
        .set_sorting_columns(Some(vec![by_trace_id]));
    for packed in [
        &["start_time"][..],
        &["duration_ns"],
        &["events", "list", "element", "time"],
    ] {
        properties = properties
            .set_column_dictionary_enabled(path(packed), false)
            .set_column_encoding(path(packed), Encoding::DELTA_BINARY_PACKED);
    }
    // Bounds of random ids and of whole maps tell nothing.
    for map in [
        &["attributes"][..],
        &["resource_attributes"],
        &["scope_attributes"],
        &["events", "list", "element", "attributes"],
        &["links", "list", "element", "attributes"],
    ] {
        // Those of the keys say whether there is any.
        let leaf = path(&[map, &["key_value", "value"]].concat());
        properties = properties.set_column_statistics_enabled(leaf, EnabledStatistics::None);
    }
    for ids in [
        &["span_id"][..],
        &["parent_span_id"],
        &["links", "list", "element", "trace_id"],
        &["links", "list", "element", "span_id"],
    ] {
        properties = properties.set_column_statistics_enabled(path(ids), EnabledStatistics::None);
    }
    Ok(properties.build())
}

fn failed(path: &Path, error: ParquetError) -> BlockError {
    let source = match error {
        ParquetError::External(e) => io::Error::other(e),
        e => io::Error::other(e),
    };
    BlockError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{SpanId, SpanKind, TraceId};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use storage_disk::FaultyDisk;

    use super::*;
    use crate::arbitrary::{canonical, golden, golden_spans, span};
    use crate::block_file::{BlockFile, Blocks, Reading, Wanted};
    use crate::columns::choose;
    use crate::cursor::{BlockCursor, Cursor, OnIoError};
    use crate::rows::Wants;

    fn write(disk: &Disk, spans: &[Span]) -> PathBuf {
        let dir = Path::new("/block");
        disk.create_dir_all(dir).unwrap();
        let mut traces: BTreeMap<TraceId, BTreeMap<(SpanId, SpanKind), Span>> = BTreeMap::new();
        let mut usage = Usage::default();
        for span in spans {
            for kv in &span.attributes {
                usage.count(AttributeScope::Span, &kv.key, &kv.value, 1, false);
            }
            for kv in &span.resource.attributes {
                usage.count(AttributeScope::Resource, &kv.key, &kv.value, 1, false);
            }
            traces
                .entry(span.trace_id)
                .or_default()
                .insert((span.span_id, span.kind), span.clone());
        }
        let mut writer = BlockWriter::create(disk, dir, choose(&usage, spans.len() as u64)).unwrap();
        for trace in traces.into_values() {
            let mut spans: Vec<Span> = trace.into_values().collect();
            spans.sort_by_key(|s| s.start);
            writer.trace(&spans, &vec![1; spans.len()]).unwrap();
        }
        writer.finish().unwrap();
        dir.join(FILE)
    }

    fn read(disk: &Disk, path: &Path, wanted: Wanted<'_>) -> Result<Vec<Vec<u8>>, BlockError> {
        let file = BlockFile::open(disk, path.to_owned(), None)?;
        let reading = Reading::new(Arc::new(Blocks::new(disk.clone())));
        let cursor = BlockCursor::new(&reading, &file, wanted, Wants::all(), OnIoError::LeaveOut);
        let mut cursor = Cursor::Block(Box::new(cursor));
        let mut copies = Vec::new();
        while cursor.peek()?.is_some() {
            cursor.take(&mut copies, usize::MAX)?;
        }
        let mut spans: Vec<Vec<u8>> = copies.iter().map(|c| canonical(&c.span)).collect();
        spans.sort();
        Ok(spans)
    }

    fn all() -> Wanted<'static> {
        Wanted::Between(TraceId(0), TraceId(u128::MAX))
    }

    fn kept<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Vec<Vec<u8>> {
        let last: BTreeMap<_, _> = spans
            .into_iter()
            .map(|s| ((s.trace_id, s.span_id, s.kind), canonical(s)))
            .collect();
        let mut spans: Vec<Vec<u8>> = last.into_values().collect();
        spans.sort();
        spans
    }

    #[test]
    fn golden_block_v1_opens_forever() {
        let spans = golden_spans();
        let disk = FaultyDisk::new().disk();
        let fresh = disk.read(&write(&disk, &spans)).unwrap();
        let path = Path::new("/golden.parquet");
        disk.write_atomic(path, &golden("spans_v1.parquet", &fresh)).unwrap();
        assert_eq!(read(&disk, path, all()).unwrap(), kept(&spans));
    }

    #[test]
    fn a_trace_among_many_row_groups_is_found_by_id() {
        let disk = FaultyDisk::new().disk();
        let one = golden_spans().remove(1);
        let spans: Vec<Span> = (0..70_000u64)
            .map(|n| Span {
                trace_id: TraceId(u128::from(n / 7) << 100 | 1),
                span_id: SpanId(n + 1),
                attributes: one.attributes[..2].to_vec(),
                resource: one.resource.clone(),
                start: TimestampNs(n as i64),
                ..Span::default()
            })
            .collect();
        let path = write(&disk, &spans);
        for trace in [0u128, 4_681, 9_999] {
            let id = TraceId(trace << 100 | 1);
            let want = kept(spans.iter().filter(|s| s.trace_id == id));
            assert_eq!(read(&disk, &path, Wanted::Ids(&[id])).unwrap(), want);
            assert_eq!(read(&disk, &path, Wanted::Between(id, id)).unwrap(), want);
        }
        // A bit that Parquet would not miss: the row group is left out, the others are read.
        let mut bytes = disk.read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        disk.write_atomic(&path, &bytes).unwrap();
        let left = read(&disk, &path, all()).unwrap();
        assert!(!left.is_empty() && left.len() < spans.len(), "{}", left.len());
        let whole = kept(&spans);
        assert!(left.iter().all(|span| whole.binary_search(span).is_ok()));
        bytes[at] ^= 1;
        disk.write_atomic(&path, &bytes).unwrap();
        let absent = [TraceId(2), TraceId(5 << 100)];
        assert!(read(&disk, &path, Wanted::Ids(&absent)).unwrap().is_empty());
        let file = BlockFile::open(&disk, path, None).unwrap();
        assert_eq!(file.groups_count(), 3);
        assert_eq!(file.groups(Wanted::Ids(&absent)), [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Every value of every type comes back, whichever column it went into.
        #[test]
        fn a_block_returns_the_spans(spans in vec(span(), 1..12)) {
            let disk = FaultyDisk::new().disk();
            let path = write(&disk, &spans);
            prop_assert_eq!(read(&disk, &path, all()).unwrap(), kept(&spans));
            for id in spans.iter().map(|s| s.trace_id) {
                let want = kept(spans.iter().filter(|s| s.trace_id == id));
                prop_assert_eq!(read(&disk, &path, Wanted::Ids(&[id])).unwrap(), want);
            }
        }

        /// Whatever the disk makes of a file, reading it ends, with an error or with rows left out.
        #[test]
        fn damaged_files_never_panic(
            spans in vec(span(), 1..4),
            cut in any::<prop::sample::Index>(),
            flips in vec((any::<prop::sample::Index>(), 1..=255u8), 0..6),
            shorten in any::<bool>(),
        ) {
            let disk = FaultyDisk::new().disk();
            let path = write(&disk, &spans);
            let mut bytes = disk.read(&path).unwrap();
            for (at, bits) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            let path = Path::new("/damaged.parquet");
            disk.write_atomic(path, &bytes).unwrap();
            let _ = read(&disk, path, all());
        }
    }
}
