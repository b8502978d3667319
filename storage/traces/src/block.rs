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
//! have each key once all the same (`value_text.rs`), or DuckDB would refuse the file. Row groups hold 32 Ki
//! rows (what a lookup pays is the dictionaries of one row group), pages 2 Ki. Columns and their order may differ from
//! block to block; readers go by name. What else there is to know of a block lies beside it (`block_index.rs`). `SCHEMA.md` shows all of this to users of SQL. Golden file:
//! `testdata/spans_v1.parquet`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StructArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use model::{AttributeValue, KeyValue, Resource, Scope, Span, TimestampNs};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue as FileKeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rapidhash::{RapidHashMap, RapidHashSet};
use storage_disk::{Disk, Writer};

use crate::BlockError;
use crate::block_index::{INDEX_FILE, IndexWriter, Sums, times_of};
use crate::columns::{Dedicated, Kind, Usage};
use crate::nested_set::{Nested, nested_set};
use crate::record::{resource_key, scope_key};
use crate::request::AttributeScope;
use crate::value_text::{put_repeated, put_text};

/// The file within a block's directory.
pub(crate) const FILE: &str = "spans.parquet";
/// Newest schema version this build reads, and the one it writes.
pub(crate) const VERSION: u8 = 1;
/// Key-value metadata of the file.
pub(crate) const KEY_FORMAT: &str = "trilobite.format";
pub(crate) const KEY_VERSION: &str = "trilobite.version";
pub(crate) const KEY_ATTRIBUTES: &str = "trilobite.attributes";
pub(crate) const FORMAT: &str = "spans";

const GROUP_ROWS_MAX: usize = 32 << 10;
const GROUP_BYTES_MAX: usize = 64 << 20;
const PAGE_ROWS_MAX: usize = 2 << 10;
/// Rows gathered before they are encoded.
const BATCH_ROWS_MAX: usize = 2 << 10;
const BATCH_BYTES_MAX: usize = 16 << 20;
const BLOOM_FALSE_HITS: f64 = 0.01;
/// Addresses of resources and scopes that are remembered.
const ALIASES_MAX: usize = 64 << 10;

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
            usage: Usage::default(),
            written: Written::default(),
        })
    }

    /// Appends a trace: its spans sorted by start, each once, with their revisions. Traces must come in rising order of id.
    pub(crate) fn trace(&mut self, spans: &[Span], revisions: &[u64]) -> Result<(), BlockError> {
        let Some((first_start, last_end)) = times_of(spans) else {
            return Ok(());
        };
        self.index.trace(spans.len() as u64, first_start, last_end);
        let nested = nested_set(spans);
        for ((span, nested), revision) in spans.iter().zip(&nested).zip(revisions) {
            self.span(span, *nested, *revision);
            if self.rows.len >= BATCH_ROWS_MAX || self.rows.bytes >= BATCH_BYTES_MAX {
                self.flush()?;
            }
        }
        self.written.traces += 1;
        Ok(())
    }

    /// Completes the file. It is synced when its directory is published.
    pub(crate) fn finish(mut self) -> Result<Written, BlockError> {
        self.flush()?;
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

    fn span(&mut self, span: &Span, nested: Nested, revision: u64) {
        let dedicated = &self.rows.resource_columns;
        let resource = self
            .resources
            .number(&span.resource, resource_key, |r| kept_resource(r, dedicated));
        let scope = self.scopes.number(&span.scope, scope_key, kept_scope);
        let rows = &mut self.rows;
        rows.span(span, nested, revision, &mut self.usage);
        rows.resource(resource, &self.resources.kept[resource as usize]);
        rows.scope(scope, &self.scopes.kept[scope as usize]);
        let end = span.end.max(span.start);
        self.written.spans += 1;
        self.written.range = Some(match self.written.range {
            None => (span.start, end),
            Some((min, max)) => (min.min(span.start), max.max(end)),
        });
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

fn map_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ])
}

fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(map_fields()), false))
}

fn map_type() -> DataType {
    DataType::Map(map_entries(), false)
}

fn element(fields: Fields) -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(fields), false))
}

fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", instant(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", map_type(), false),
        Field::new("attribute_types", DataType::Utf8, true),
        Field::new("dropped_attributes", DataType::UInt32, false),
    ])
}

fn link_fields() -> Fields {
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
        .set_write_batch_size(PAGE_ROWS_MAX / 2)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_bloom_filter_enabled(trace_id.clone(), true)
        .set_column_bloom_filter_fpp(trace_id.clone(), BLOOM_FALSE_HITS)
        .set_column_bloom_filter_max_ndv(trace_id.clone(), GROUP_ROWS_MAX as u64)
        .set_column_statistics_enabled(trace_id, EnabledStatistics::Page)
        .set_column_dictionary_enabled(path(&["span_id"]), false)
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

/// Resources or scopes of the file, numbered.
struct Table<T> {
    by_key: RapidHashMap<Box<[u8]>, u32>,
    /// Numbers by address; the pointers are held so that no address is used twice.
    by_address: RapidHashMap<usize, (Arc<T>, u32)>,
    kept: Vec<Kept<T>>,
    rows: Vec<u64>,
    key: Vec<u8>,
}

/// A resource or scope as its rows show it.
struct Kept<T> {
    value: Arc<T>,
    /// Values of the dedicated columns, in their order.
    columns: Vec<Option<AttributeValue>>,
    /// For each attribute whether it is in the map rather than in a column.
    outside: Vec<bool>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            by_key: RapidHashMap::default(),
            by_address: RapidHashMap::default(),
            kept: Vec::new(),
            rows: Vec::new(),
            key: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    fn number(
        &mut self,
        item: &Arc<T>,
        put_key: impl FnOnce(&mut Vec<u8>, &T),
        keep: impl FnOnce(&Arc<T>) -> Kept<T>,
    ) -> u32 {
        let address = Arc::as_ptr(item) as usize;
        let number = match self.by_address.get(&address) {
            Some((_, number)) => *number,
            None => {
                put_key(&mut self.key, item);
                let number = match self.by_key.get(self.key.as_slice()) {
                    Some(number) => *number,
                    None => {
                        let number = self.kept.len() as u32;
                        self.by_key.insert(self.key.as_slice().into(), number);
                        self.kept.push(keep(item));
                        self.rows.push(0);
                        number
                    }
                };
                if self.by_address.len() >= ALIASES_MAX {
                    self.by_address.clear();
                }
                self.by_address.insert(address, (item.clone(), number));
                number
            }
        };
        self.rows[number as usize] += 1;
        number
    }

    fn in_use(&self) -> impl Iterator<Item = (&Kept<T>, u64)> {
        self.kept.iter().zip(self.rows.iter().copied())
    }
}

fn kept_resource(resource: &Arc<Resource>, dedicated: &[Dedicated]) -> Kept<Resource> {
    let mut outside = vec![true; resource.attributes.len()];
    let columns = dedicated.iter().map(|d| {
        let last = resource.attributes.iter().rposition(|kv| kv.key == d.key)?;
        let value = &resource.attributes[last].value;
        (Kind::of(value) == Some(d.kind)).then(|| {
            outside[last] = false;
            value.clone()
        })
    });
    Kept {
        columns: columns.collect(),
        outside,
        value: resource.clone(),
    }
}

fn kept_scope(scope: &Arc<Scope>) -> Kept<Scope> {
    Kept {
        columns: Vec::new(),
        outside: vec![true; scope.attributes.len()],
        value: scope.clone(),
    }
}

/// Rows on their way into the file, in columns.
struct Rows {
    len: usize,
    bytes: usize,
    span_columns: Vec<Dedicated>,
    resource_columns: Vec<Dedicated>,
    by_key: RapidHashMap<String, usize>,
    /// Which attribute of the current span goes into each column.
    slots: Vec<Option<usize>>,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    parent: FixedSizeBinaryBuilder,
    start: Vec<i64>,
    duration: Vec<i64>,
    name: StringBuilder,
    kind: Vec<i8>,
    status: Vec<i8>,
    status_message: StringBuilder,
    /// Dedicated columns in the order of the file.
    dedicated: Vec<(Source, ColumnBuilder)>,
    attributes: TextMap,
    dropped_attributes: Vec<u32>,
    events: Events,
    dropped_events: Vec<u32>,
    links: Links,
    dropped_links: Vec<u32>,
    resource_id: Vec<u32>,
    resource_attributes: TextMap,
    resource_dropped: Vec<u32>,
    resource_schema_url: StringBuilder,
    scope_id: Vec<u32>,
    scope_name: StringBuilder,
    scope_version: StringBuilder,
    scope_attributes: TextMap,
    scope_dropped: Vec<u32>,
    scope_schema_url: StringBuilder,
    trace_state: StringBuilder,
    flags: Vec<u32>,
    nested: [Vec<i32>; 3],
    revision: Vec<u64>,
}

/// Where a dedicated column takes its values: position among those of the span or of the resource.
#[derive(Clone, Copy)]
enum Source {
    Span(usize),
    Resource(usize),
}

impl Rows {
    fn new(dedicated: Vec<Dedicated>) -> Rows {
        let (mut span_columns, mut resource_columns, mut builders) = (Vec::new(), Vec::new(), Vec::new());
        for d in dedicated {
            let builder = ColumnBuilder::new(d.kind);
            if d.scope == AttributeScope::Resource {
                builders.push((Source::Resource(resource_columns.len()), builder));
                resource_columns.push(d);
            } else {
                builders.push((Source::Span(span_columns.len()), builder));
                span_columns.push(d);
            }
        }
        Rows {
            len: 0,
            bytes: 0,
            by_key: span_columns
                .iter()
                .enumerate()
                .map(|(n, d)| (d.key.clone(), n))
                .collect(),
            slots: vec![None; span_columns.len()],
            span_columns,
            resource_columns,
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent: FixedSizeBinaryBuilder::new(8),
            start: Vec::new(),
            duration: Vec::new(),
            name: StringBuilder::new(),
            kind: Vec::new(),
            status: Vec::new(),
            status_message: StringBuilder::new(),
            dedicated: builders,
            attributes: TextMap::default(),
            dropped_attributes: Vec::new(),
            events: Events::default(),
            dropped_events: Vec::new(),
            links: Links::default(),
            dropped_links: Vec::new(),
            resource_id: Vec::new(),
            resource_attributes: TextMap::default(),
            resource_dropped: Vec::new(),
            resource_schema_url: StringBuilder::new(),
            scope_id: Vec::new(),
            scope_name: StringBuilder::new(),
            scope_version: StringBuilder::new(),
            scope_attributes: TextMap::default(),
            scope_dropped: Vec::new(),
            scope_schema_url: StringBuilder::new(),
            trace_state: StringBuilder::new(),
            flags: Vec::new(),
            nested: Default::default(),
            revision: Vec::new(),
        }
    }

    fn span(&mut self, span: &Span, nested: Nested, revision: u64, usage: &mut Usage) {
        self.len += 1;
        self.trace_id.extend_from_slice(&span.trace_id.to_bytes());
        self.span_id.extend_from_slice(&span.span_id.to_bytes());
        match span.parent_span_id {
            // Eight bytes are what the builder was made for.
            Some(parent) => drop(self.parent.append_value(parent.to_bytes())),
            None => self.parent.append_null(),
        }
        self.start.push(span.start.0);
        self.duration.push(span.end.0.wrapping_sub(span.start.0));
        self.name.append_value(&span.name);
        self.kind.push(span.kind as i8);
        self.status.push(span.status as i8);
        put_optional(&mut self.status_message, &span.status_message);
        self.span_attributes(&span.attributes, usage);
        self.dropped_attributes.push(span.dropped_attributes);
        for event in &span.events {
            count_all(usage, AttributeScope::Event, &event.attributes);
            self.bytes += self.events.put(event);
        }
        self.events.end_row();
        self.dropped_events.push(span.dropped_events);
        for link in &span.links {
            count_all(usage, AttributeScope::Link, &link.attributes);
            self.bytes += self.links.put(link);
        }
        self.links.end_row();
        self.dropped_links.push(span.dropped_links);
        put_optional(&mut self.trace_state, &span.trace_state);
        self.flags.push(span.flags);
        for (column, n) in self.nested.iter_mut().zip([nested.left, nested.right, nested.parent]) {
            column.push(n);
        }
        self.revision.push(revision);
        self.bytes += 128 + span.name.len() + span.status_message.len() + span.trace_state.len();
    }

    fn span_attributes(&mut self, attributes: &[KeyValue], usage: &mut Usage) {
        self.slots.fill(None);
        for (n, kv) in attributes.iter().enumerate() {
            if let Some(column) = self.by_key.get(&kv.key) {
                let fits = Kind::of(&kv.value) == Some(self.span_columns[*column].kind);
                self.slots[*column] = fits.then_some(n);
            }
        }
        let inside = |n: usize| {
            let column = self.by_key.get(&attributes[n].key);
            column.is_some_and(|c| self.slots[*c] == Some(n))
        };
        for (n, kv) in attributes.iter().enumerate() {
            usage.count(AttributeScope::Span, &kv.key, &kv.value, 1, !inside(n));
        }
        self.bytes += self.attributes.row(attributes, |n| !inside(n));
        for (source, builder) in &mut self.dedicated {
            if let Source::Span(n) = source {
                self.bytes += builder.append(self.slots[*n].map(|at| &attributes[at].value));
            }
        }
    }

    fn resource(&mut self, id: u32, kept: &Kept<Resource>) {
        self.resource_id.push(id);
        for (source, builder) in &mut self.dedicated {
            if let Source::Resource(n) = source {
                self.bytes += builder.append(kept.columns[*n].as_ref());
            }
        }
        self.bytes += self
            .resource_attributes
            .row(&kept.value.attributes, |n| kept.outside[n]);
        self.resource_dropped.push(kept.value.dropped_attributes);
        put_optional(&mut self.resource_schema_url, &kept.value.schema_url);
    }

    fn scope(&mut self, id: u32, kept: &Kept<Scope>) {
        let scope = &kept.value;
        self.scope_id.push(id);
        put_optional(&mut self.scope_name, &scope.name);
        put_optional(&mut self.scope_version, &scope.version);
        self.bytes += self.scope_attributes.row(&scope.attributes, |_| true);
        self.scope_dropped.push(scope.dropped_attributes);
        put_optional(&mut self.scope_schema_url, &scope.schema_url);
        self.bytes += scope.name.len() + scope.version.len();
    }

    /// The columns in the order of [`schema`]; empties them.
    fn take(&mut self) -> Vec<ArrayRef> {
        (self.len, self.bytes) = (0, 0);
        let (attributes, attribute_types) = self.attributes.take();
        let (resource_attributes, resource_types) = self.resource_attributes.take();
        let (scope_attributes, scope_types) = self.scope_attributes.take();
        let mut columns: Vec<ArrayRef> = vec![
            fixed(16, &mut self.trace_id),
            fixed(8, &mut self.span_id),
            Arc::new(self.parent.finish()),
            instants(&mut self.start),
            Arc::new(Int64Array::from(std::mem::take(&mut self.duration))),
            Arc::new(self.name.finish()),
            Arc::new(Int8Array::from(std::mem::take(&mut self.kind))),
            Arc::new(Int8Array::from(std::mem::take(&mut self.status))),
            Arc::new(self.status_message.finish()),
        ];
        columns.extend(self.dedicated.iter_mut().map(|(_, builder)| builder.take()));
        columns.extend([
            attributes,
            attribute_types,
            numbers(&mut self.dropped_attributes),
            self.events.take(),
            numbers(&mut self.dropped_events),
            self.links.take(),
            numbers(&mut self.dropped_links),
            numbers(&mut self.resource_id),
            resource_attributes,
            resource_types,
            numbers(&mut self.resource_dropped),
            Arc::new(self.resource_schema_url.finish()),
            numbers(&mut self.scope_id),
            Arc::new(self.scope_name.finish()),
            Arc::new(self.scope_version.finish()),
            scope_attributes,
            scope_types,
            numbers(&mut self.scope_dropped),
            Arc::new(self.scope_schema_url.finish()),
            Arc::new(self.trace_state.finish()),
            numbers(&mut self.flags),
        ]);
        for column in &mut self.nested {
            columns.push(Arc::new(Int32Array::from(std::mem::take(column))));
        }
        columns.push(Arc::new(UInt64Array::from(std::mem::take(&mut self.revision))));
        columns
    }
}

fn count_all(usage: &mut Usage, scope: AttributeScope, attributes: &[KeyValue]) {
    for kv in attributes {
        usage.count(scope, &kv.key, &kv.value, 1, true);
    }
}

fn put_optional(builder: &mut StringBuilder, text: &str) {
    builder.append_option((!text.is_empty()).then_some(text));
}

fn fixed(width: i32, bytes: &mut Vec<u8>) -> ArrayRef {
    let bytes = Buffer::from_vec(std::mem::take(bytes));
    Arc::new(FixedSizeBinaryArray::new(width, bytes, None))
}

fn instants(times: &mut Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(std::mem::take(times)).with_timezone("UTC"))
}

fn numbers(column: &mut Vec<u32>) -> ArrayRef {
    Arc::new(UInt32Array::from(std::mem::take(column)))
}

enum ColumnBuilder {
    Str(StringBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
}

impl ColumnBuilder {
    fn new(kind: Kind) -> ColumnBuilder {
        match kind {
            Kind::Str => ColumnBuilder::Str(StringBuilder::new()),
            Kind::Int => ColumnBuilder::Int(Int64Builder::new()),
            Kind::Double => ColumnBuilder::Double(Float64Builder::new()),
            Kind::Bool => ColumnBuilder::Bool(BooleanBuilder::new()),
        }
    }

    /// Appends a value of the column's type, or null. Returns about its bytes.
    fn append(&mut self, value: Option<&AttributeValue>) -> usize {
        match (self, value) {
            (ColumnBuilder::Str(b), Some(AttributeValue::Str(s))) => {
                b.append_value(s);
                return s.len() + 4;
            }
            (ColumnBuilder::Int(b), Some(AttributeValue::Int(i))) => b.append_value(*i),
            (ColumnBuilder::Double(b), Some(AttributeValue::Double(d))) => b.append_value(*d),
            (ColumnBuilder::Bool(b), Some(AttributeValue::Bool(v))) => b.append_value(*v),
            (ColumnBuilder::Str(b), _) => b.append_null(),
            (ColumnBuilder::Int(b), _) => b.append_null(),
            (ColumnBuilder::Double(b), _) => b.append_null(),
            (ColumnBuilder::Bool(b), _) => b.append_null(),
        }
        8
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            ColumnBuilder::Str(b) => Arc::new(b.finish()),
            ColumnBuilder::Int(b) => Arc::new(b.finish()),
            ColumnBuilder::Double(b) => Arc::new(b.finish()),
            ColumnBuilder::Bool(b) => Arc::new(b.finish()),
        }
    }
}

/// Offsets of the lists of a column.
#[derive(Default)]
struct Offsets(Vec<i32>);

impl Offsets {
    fn end_row(&mut self, items: usize) {
        if self.0.is_empty() {
            self.0.push(0);
        }
        // A batch is flushed long before its items exceed an i32.
        self.0.push(items as i32);
    }

    fn take(&mut self) -> OffsetBuffer<i32> {
        let offsets = std::mem::take(&mut self.0);
        if offsets.is_empty() {
            return OffsetBuffer::new_empty();
        }
        OffsetBuffer::new(ScalarBuffer::from(offsets))
    }
}

/// Whether two attributes have the same key. Looks at all pairs of a short list, which is faster than hashing.
fn keys_repeat(attributes: &[KeyValue]) -> bool {
    const PAIRS_UP_TO: usize = 24;
    if attributes.len() <= PAIRS_UP_TO {
        let mut rest = attributes;
        while let [first, others @ ..] = rest {
            if others.iter().any(|kv| kv.key == first.key) {
                return true;
            }
            rest = others;
        }
        return false;
    }
    let mut seen = RapidHashSet::default();
    !attributes.iter().all(|kv| seen.insert(kv.key.as_str()))
}

/// A map of texts and the column with the types of its entries.
#[derive(Default)]
struct TextMap {
    offsets: Offsets,
    keys: StringBuilder,
    values: StringBuilder,
    types: StringBuilder,
    items: usize,
    row_types: String,
    text: String,
}

impl TextMap {
    /// Appends a row: the attributes whose place is `wanted`. Returns about its bytes.
    fn row(&mut self, attributes: &[KeyValue], wanted: impl Fn(usize) -> bool) -> usize {
        let mut bytes = 0;
        if keys_repeat(attributes) {
            let places = (0..attributes.len()).filter(|n| wanted(*n));
            bytes += self.put_repeating(&places.map(|n| &attributes[n]).collect::<Vec<_>>());
        } else {
            for (n, kv) in attributes.iter().enumerate() {
                if wanted(n) {
                    bytes += self.put(&kv.key, &kv.value);
                }
            }
        }
        self.end_row();
        bytes
    }

    fn put_repeating(&mut self, attributes: &[&KeyValue]) -> usize {
        let mut by_key: RapidHashMap<&str, Vec<&AttributeValue>> = RapidHashMap::default();
        for kv in attributes {
            by_key.entry(&kv.key).or_default().push(&kv.value);
        }
        let mut bytes = 0;
        for kv in attributes {
            // The first of a key brings all of them.
            match by_key.remove(kv.key.as_str()).as_deref() {
                None => {}
                Some([one]) => bytes += self.put(&kv.key, one),
                Some(several) => {
                    self.keys.append_value(&kv.key);
                    self.text.clear();
                    let several = several.iter().map(|v| (*v).clone()).collect();
                    self.row_types.push(put_repeated(&mut self.text, several));
                    self.values.append_value(&self.text);
                    self.items += 1;
                    bytes += kv.key.len() + self.text.len() + 8;
                }
            }
        }
        bytes
    }

    fn put(&mut self, key: &str, value: &AttributeValue) -> usize {
        self.keys.append_value(key);
        if let AttributeValue::Str(s) = value {
            self.row_types.push('s');
            self.values.append_value(s);
            self.items += 1;
            return key.len() + s.len() + 8;
        }
        self.text.clear();
        self.row_types.push(put_text(&mut self.text, value));
        self.values.append_value(&self.text);
        self.items += 1;
        key.len() + self.text.len() + 8
    }

    fn end_row(&mut self) {
        self.offsets.end_row(self.items);
        let all_text = self.row_types.bytes().all(|t| t == b's');
        self.types.append_option((!all_text).then_some(&self.row_types));
        self.row_types.clear();
    }

    fn take(&mut self) -> (ArrayRef, ArrayRef) {
        self.items = 0;
        let pairs: Vec<ArrayRef> = vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish())];
        let entries = StructArray::new(map_fields(), pairs, None);
        let map = MapArray::new(map_entries(), self.offsets.take(), entries, None, false);
        (Arc::new(map), Arc::new(self.types.finish()))
    }
}

#[derive(Default)]
struct Events {
    offsets: Offsets,
    time: Vec<i64>,
    name: StringBuilder,
    attributes: TextMap,
    dropped: Vec<u32>,
}

impl Events {
    fn put(&mut self, event: &model::Event) -> usize {
        self.time.push(event.t.0);
        self.name.append_value(&event.name);
        let bytes = self.attributes.row(&event.attributes, |_| true);
        self.dropped.push(event.dropped_attributes);
        bytes + event.name.len() + 32
    }

    fn end_row(&mut self) {
        self.offsets.end_row(self.time.len());
    }

    fn take(&mut self) -> ArrayRef {
        let (attributes, types) = self.attributes.take();
        let columns = vec![
            instants(&mut self.time),
            Arc::new(self.name.finish()),
            attributes,
            types,
            numbers(&mut self.dropped),
        ];
        list(event_fields(), self.offsets.take(), columns)
    }
}

#[derive(Default)]
struct Links {
    offsets: Offsets,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    trace_state: StringBuilder,
    attributes: TextMap,
    dropped: Vec<u32>,
    flags: Vec<u32>,
}

impl Links {
    fn put(&mut self, link: &model::Link) -> usize {
        self.trace_id.extend_from_slice(&link.trace_id.to_bytes());
        self.span_id.extend_from_slice(&link.span_id.to_bytes());
        put_optional(&mut self.trace_state, &link.trace_state);
        let bytes = self.attributes.row(&link.attributes, |_| true);
        self.dropped.push(link.dropped_attributes);
        self.flags.push(link.flags);
        bytes + link.trace_state.len() + 48
    }

    fn end_row(&mut self) {
        self.offsets.end_row(self.flags.len());
    }

    fn take(&mut self) -> ArrayRef {
        let (attributes, types) = self.attributes.take();
        let columns = vec![
            fixed(16, &mut self.trace_id),
            fixed(8, &mut self.span_id),
            Arc::new(self.trace_state.finish()),
            attributes,
            types,
            numbers(&mut self.dropped),
            numbers(&mut self.flags),
        ];
        list(link_fields(), self.offsets.take(), columns)
    }
}

fn list(fields: Fields, offsets: OffsetBuffer<i32>, columns: Vec<ArrayRef>) -> ArrayRef {
    let items = StructArray::new(fields.clone(), columns, None);
    Arc::new(ListArray::new(element(fields), offsets, Arc::new(items), None))
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
