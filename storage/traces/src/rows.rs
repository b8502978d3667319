//! Rows back into spans, as far as they are wanted.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int8Type, Int32Type, Int64Type, TimestampNanosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, PrimitiveArray,
    RecordBatch, StringArray,
};
use model::{
    AttributeValue, Event, KeyValue, Link, Resource, Scope, Span, SpanId, SpanKind, StatusCode, TimestampNs, TraceId,
};
use rapidhash::{RapidHashMap, RapidHashSet};

use crate::block_file::BlockFile;
use crate::columns::{Dedicated, Kind};
use crate::request::{AttributeScope, Projection, ScanRequest};
use crate::value_text::each_from_text;

/// A copy of a span; of several copies the one with the highest revision counts.
pub(crate) struct Copied {
    /// Which copy.
    pub revision: u64,
    /// The span.
    pub span: Span,
}

/// What of a span is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    /// `None`: every attribute.
    only: Option<[RapidHashSet<String>; 5]>,
    /// Whether events are wanted.
    pub events: bool,
    /// Whether links are wanted.
    pub links: bool,
    lean: bool,
}

impl Wants {
    /// Everything.
    pub(crate) fn all() -> Wants {
        Wants {
            only: None,
            events: true,
            links: true,
            lean: false,
        }
    }

    /// What a scan asks for.
    pub(crate) fn of(request: &ScanRequest) -> Wants {
        let mut wants = Wants {
            only: None,
            events: request.events,
            links: request.links,
            lean: request.lean,
        };
        if let Projection::Only(attributes) = &request.attributes {
            let mut only: [RapidHashSet<String>; 5] = Default::default();
            only[place(AttributeScope::Resource)].insert("service.name".to_owned());
            for (scope, key) in attributes {
                let scopes: &[AttributeScope] = match scope {
                    AttributeScope::Any => &[AttributeScope::Span, AttributeScope::Resource],
                    one => std::slice::from_ref(one),
                };
                for scope in scopes {
                    only[place(*scope)].insert(key.clone());
                }
            }
            wants.only = Some(only);
        }
        wants
    }

    fn attribute(&self, scope: AttributeScope, key: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only[place(scope)].contains(key))
    }

    /// Whether a column of attributes without columns of their own must be read.
    fn map(&self, file: &BlockFile, scope: AttributeScope) -> bool {
        let Some(only) = &self.only else { return true };
        let usage = &file.footer.usage;
        only[place(scope)].iter().any(|key| match usage.get(scope, key) {
            Some(used) => used.outside > 0,
            None => !usage.is_complete(),
        })
    }

    /// Columns to read.
    pub(crate) fn columns(&self, file: &BlockFile) -> Vec<String> {
        let mut columns: Vec<&str> = ALWAYS.to_vec();
        if !self.lean {
            columns.extend(DETAILS);
        }
        if self.map(file, AttributeScope::Span) {
            columns.extend(["attributes", "attribute_types"]);
        }
        if self.map(file, AttributeScope::Resource) {
            columns.extend(["resource_attributes", "resource_attribute_types"]);
        }
        let scopes = !self.lean || self.only.as_ref().is_some_and(|only| !only[4].is_empty());
        if scopes && self.map(file, AttributeScope::Instrumentation) {
            columns.extend(["scope_attributes", "scope_attribute_types"]);
        }
        if self.events {
            columns.push("events");
        }
        if self.links {
            columns.push("links");
        }
        let mut columns: Vec<String> = columns.into_iter().map(str::to_owned).collect();
        let wanted = file.footer.dedicated.iter().filter(|d| self.attribute(d.scope, &d.key));
        columns.extend(wanted.map(Dedicated::column));
        columns
    }

    /// Takes from a span of the head what a block would not have brought.
    pub(crate) fn trim(&self, span: &mut Span, trimmed: &mut Trimmed) {
        if !self.events {
            span.events.clear();
        }
        if !self.links {
            span.links.clear();
        }
        if self.only.is_none() {
            return;
        }
        let keep = |scope, attributes: &mut Vec<KeyValue>| attributes.retain(|kv| self.attribute(scope, &kv.key));
        keep(AttributeScope::Span, &mut span.attributes);
        for event in &mut span.events {
            keep(AttributeScope::Event, &mut event.attributes);
        }
        for link in &mut span.links {
            keep(AttributeScope::Link, &mut link.attributes);
        }
        let whole = span.resource.clone();
        let (_, resource) = trimmed
            .resources
            .entry(Arc::as_ptr(&whole) as usize)
            .or_insert_with(|| {
                let mut part = Resource::clone(&whole);
                keep(AttributeScope::Resource, &mut part.attributes);
                (whole.clone(), Arc::new(part))
            });
        span.resource = resource.clone();
        if span
            .scope
            .attributes
            .iter()
            .any(|kv| !self.attribute(AttributeScope::Instrumentation, &kv.key))
        {
            keep(
                AttributeScope::Instrumentation,
                &mut Arc::make_mut(&mut span.scope).attributes,
            );
        }
    }
}

/// Resources of a head, trimmed once each.
#[derive(Default)]
pub(crate) struct Trimmed {
    resources: RapidHashMap<usize, (Arc<Resource>, Arc<Resource>)>,
}

const ALWAYS: [&str; 10] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_time",
    "duration_ns",
    "name",
    "kind",
    "status",
    "resource_id",
    "revision",
];

const DETAILS: [&str; 13] = [
    "status_message",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
    "resource_dropped_attributes",
    "resource_schema_url",
    "scope_id",
    "scope_name",
    "scope_version",
    "scope_dropped_attributes",
    "scope_schema_url",
    "trace_state",
    "flags",
];

fn place(scope: AttributeScope) -> usize {
    match scope {
        AttributeScope::Span | AttributeScope::Any => 0,
        AttributeScope::Resource => 1,
        AttributeScope::Event => 2,
        AttributeScope::Link => 3,
        AttributeScope::Instrumentation => 4,
    }
}

/// Decodes the batches of one file; rows of one resource or scope share it.
pub(crate) struct Decoder {
    wants: Wants,
    dedicated: Arc<[Dedicated]>,
    resources: RapidHashMap<u32, Arc<Resource>>,
    scopes: RapidHashMap<u32, Arc<Scope>>,
    /// Of spans whose scope was not read.
    no_scope: Arc<Scope>,
}

impl Decoder {
    /// For a file.
    pub(crate) fn new(file: &BlockFile, wants: Wants) -> Decoder {
        Decoder {
            dedicated: file.footer.dedicated.as_slice().into(),
            wants,
            resources: RapidHashMap::default(),
            scopes: RapidHashMap::default(),
            no_scope: Arc::default(),
        }
    }

    /// Appends the spans of a batch; an error says what is wrong with it.
    pub(crate) fn decode(&mut self, batch: &RecordBatch, out: &mut Vec<Copied>) -> Result<(), String> {
        let dedicated = self.dedicated.clone();
        let columns = Columns::of(batch, &dedicated)?;
        for row in 0..batch.num_rows() {
            let span = self.span(&columns, row)?;
            let revision = columns.revision.value(row);
            out.push(Copied { revision, span });
        }
        Ok(())
    }

    fn span(&mut self, c: &Columns<'_>, row: usize) -> Result<Span, String> {
        let start = c.start.value(row);
        let mut attributes = match &c.attributes {
            None => Vec::new(),
            Some(map) => map.row(row, |key| self.wants.attribute(AttributeScope::Span, key))?,
        };
        put_dedicated(&c.dedicated, AttributeScope::Span, row, &mut attributes);
        let events = match &c.events {
            None => Vec::new(),
            Some(events) => events.row(row, |key| self.wants.attribute(AttributeScope::Event, key))?,
        };
        let links = match &c.links {
            None => Vec::new(),
            Some(links) => links.row(row, |key| self.wants.attribute(AttributeScope::Link, key))?,
        };
        Ok(Span {
            trace_id: TraceId(u128::from_be_bytes(id(c.trace_id, row))),
            span_id: SpanId(u64::from_be_bytes(id(c.span_id, row))),
            parent_span_id: c
                .parent_span_id
                .filter(|parent| parent.is_valid(row))
                .map(|parent| SpanId(u64::from_be_bytes(id(parent, row)))),
            trace_state: text(c.trace_state, row),
            flags: number(c.flags, row),
            name: c.name.value(row).to_owned(),
            kind: SpanKind::from_number(i32::from(c.kind.value(row))),
            start: TimestampNs(start),
            end: TimestampNs(start.wrapping_add(c.duration.value(row))),
            status: StatusCode::from_number(i32::from(c.status.value(row))),
            status_message: text(c.status_message, row),
            attributes,
            dropped_attributes: number(c.dropped_attributes, row),
            events,
            dropped_events: number(c.dropped_events, row),
            links,
            dropped_links: number(c.dropped_links, row),
            resource: self.resource(c, row)?,
            scope: self.scope(c, row)?,
        })
    }

    fn resource(&mut self, c: &Columns<'_>, row: usize) -> Result<Arc<Resource>, String> {
        let id = c.resource_id.value(row);
        if let Some(known) = self.resources.get(&id) {
            return Ok(known.clone());
        }
        let mut attributes = match &c.resource_attributes {
            None => Vec::new(),
            Some(map) => map.row(row, |key| self.wants.attribute(AttributeScope::Resource, key))?,
        };
        put_dedicated(&c.dedicated, AttributeScope::Resource, row, &mut attributes);
        let resource = Arc::new(Resource {
            attributes,
            dropped_attributes: number(c.resource_dropped, row),
            schema_url: text(c.resource_schema_url, row),
        });
        self.resources.insert(id, resource.clone());
        Ok(resource)
    }

    fn scope(&mut self, c: &Columns<'_>, row: usize) -> Result<Arc<Scope>, String> {
        let Some(ids) = c.scope_id else {
            return Ok(self.no_scope.clone());
        };
        let id = ids.value(row);
        if let Some(known) = self.scopes.get(&id) {
            return Ok(known.clone());
        }
        let attributes = match &c.scope_attributes {
            None => Vec::new(),
            Some(map) => map.row(row, |key| self.wants.attribute(AttributeScope::Instrumentation, key))?,
        };
        let scope = Arc::new(Scope {
            name: text(c.scope_name, row),
            version: text(c.scope_version, row),
            attributes,
            dropped_attributes: number(c.scope_dropped, row),
            schema_url: text(c.scope_schema_url, row),
        });
        self.scopes.insert(id, scope.clone());
        Ok(scope)
    }
}

fn put_dedicated(
    dedicated: &[(&Dedicated, Values<'_>)],
    scope: AttributeScope,
    row: usize,
    attributes: &mut Vec<KeyValue>,
) {
    for (column, values) in dedicated.iter().filter(|(d, _)| d.scope == scope) {
        if let Some(value) = values.value(row) {
            attributes.push(KeyValue::new(column.key.as_str(), value));
        }
    }
}

fn id<const N: usize>(column: &FixedSizeBinaryArray, row: usize) -> [u8; N] {
    // `Columns::of` has checked the width.
    column.value(row).try_into().unwrap_or([0; N])
}

fn text(column: Option<&StringArray>, row: usize) -> String {
    let there = column.filter(|column| column.is_valid(row));
    there.map_or_else(String::new, |column| column.value(row).to_owned())
}

/// A number that is zero where its column was not read.
fn number(column: Option<&PrimitiveArray<UInt32Type>>, row: usize) -> u32 {
    column.map_or(0, |column| column.value(row))
}

/// The columns of a batch by their names. Those that may be absent are empty in their row group, or not wanted.
struct Columns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent_span_id: Option<&'a FixedSizeBinaryArray>,
    start: &'a PrimitiveArray<TimestampNanosecondType>,
    duration: &'a PrimitiveArray<Int64Type>,
    name: &'a StringArray,
    kind: &'a PrimitiveArray<Int8Type>,
    status: &'a PrimitiveArray<Int8Type>,
    status_message: Option<&'a StringArray>,
    trace_state: Option<&'a StringArray>,
    flags: Option<&'a PrimitiveArray<UInt32Type>>,
    dropped_attributes: Option<&'a PrimitiveArray<UInt32Type>>,
    dropped_events: Option<&'a PrimitiveArray<UInt32Type>>,
    dropped_links: Option<&'a PrimitiveArray<UInt32Type>>,
    resource_id: &'a PrimitiveArray<UInt32Type>,
    resource_dropped: Option<&'a PrimitiveArray<UInt32Type>>,
    resource_schema_url: Option<&'a StringArray>,
    scope_id: Option<&'a PrimitiveArray<UInt32Type>>,
    scope_name: Option<&'a StringArray>,
    scope_version: Option<&'a StringArray>,
    scope_dropped: Option<&'a PrimitiveArray<UInt32Type>>,
    scope_schema_url: Option<&'a StringArray>,
    revision: &'a PrimitiveArray<UInt64Type>,
    dedicated: Vec<(&'a Dedicated, Values<'a>)>,
    attributes: Option<TextMap<'a>>,
    resource_attributes: Option<TextMap<'a>>,
    scope_attributes: Option<TextMap<'a>>,
    events: Option<Events<'a>>,
    links: Option<Links<'a>>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, dedicated: &'a [Dedicated]) -> Result<Columns<'a>, String> {
        let get = |name: &str| batch.column_by_name(name);
        let mut own = Vec::new();
        for d in dedicated {
            if let Some(column) = get(&d.column()) {
                let values = Values::of(column, d.kind).ok_or_else(|| wrong(&d.column()))?;
                own.push((d, values));
            }
        }
        let events = get("events")
            .map(|c| Events::of(c).ok_or_else(|| wrong("events")))
            .transpose()?;
        let links = get("links")
            .map(|c| Links::of(c).ok_or_else(|| wrong("links")))
            .transpose()?;
        Ok(Columns {
            trace_id: fixed(get("trace_id"), 16).ok_or_else(|| wrong("trace_id"))?,
            span_id: fixed(get("span_id"), 8).ok_or_else(|| wrong("span_id"))?,
            parent_span_id: optional(get("parent_span_id"), "parent_span_id", |column, name| {
                fixed(column, 8).ok_or_else(|| wrong(name))
            })?,
            start: numbers(get("start_time"), "start_time")?,
            duration: numbers(get("duration_ns"), "duration_ns")?,
            name: strings(get("name"), "name")?,
            kind: numbers(get("kind"), "kind")?,
            status: numbers(get("status"), "status")?,
            status_message: optional(get("status_message"), "status_message", strings)?,
            trace_state: optional(get("trace_state"), "trace_state", strings)?,
            flags: optional(get("flags"), "flags", numbers)?,
            dropped_attributes: optional(get("dropped_attributes"), "dropped_attributes", numbers)?,
            dropped_events: optional(get("dropped_events"), "dropped_events", numbers)?,
            dropped_links: optional(get("dropped_links"), "dropped_links", numbers)?,
            resource_id: numbers(get("resource_id"), "resource_id")?,
            resource_dropped: optional(
                get("resource_dropped_attributes"),
                "resource_dropped_attributes",
                numbers,
            )?,
            resource_schema_url: optional(get("resource_schema_url"), "resource_schema_url", strings)?,
            scope_id: optional(get("scope_id"), "scope_id", numbers)?,
            scope_name: optional(get("scope_name"), "scope_name", strings)?,
            scope_version: optional(get("scope_version"), "scope_version", strings)?,
            scope_dropped: optional(get("scope_dropped_attributes"), "scope_dropped_attributes", numbers)?,
            scope_schema_url: optional(get("scope_schema_url"), "scope_schema_url", strings)?,
            revision: numbers(get("revision"), "revision")?,
            dedicated: own,
            attributes: TextMap::optional(get("attributes"), get("attribute_types"), "attributes")?,
            resource_attributes: TextMap::optional(
                get("resource_attributes"),
                get("resource_attribute_types"),
                "resource_attributes",
            )?,
            scope_attributes: TextMap::optional(
                get("scope_attributes"),
                get("scope_attribute_types"),
                "scope_attributes",
            )?,
            events,
            links,
        })
    }
}

fn wrong(column: &str) -> String {
    format!("column {column} is missing or of another type")
}

fn fixed(column: Option<&ArrayRef>, width: i32) -> Option<&FixedSizeBinaryArray> {
    column?.as_fixed_size_binary_opt().filter(|c| c.value_length() == width)
}

fn numbers<'a, T: ArrowPrimitiveType>(
    column: Option<&'a ArrayRef>,
    name: &str,
) -> Result<&'a PrimitiveArray<T>, String> {
    column
        .and_then(|c| c.as_primitive_opt::<T>())
        .ok_or_else(|| wrong(name))
}

/// A column that may be absent.
fn optional<'a, T>(
    column: Option<&'a ArrayRef>,
    name: &str,
    see: impl FnOnce(Option<&'a ArrayRef>, &str) -> Result<&'a T, String>,
) -> Result<Option<&'a T>, String> {
    column.map(|column| see(Some(column), name)).transpose()
}

fn strings<'a>(column: Option<&'a ArrayRef>, name: &str) -> Result<&'a StringArray, String> {
    column.and_then(|c| c.as_string_opt::<i32>()).ok_or_else(|| wrong(name))
}

/// An attribute's own column.
pub(crate) enum Values<'a> {
    Str(&'a StringArray),
    /// Text as numbers of a dictionary.
    Coded(Coded<'a>),
    Int(&'a PrimitiveArray<Int64Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Bool(&'a BooleanArray),
}

impl<'a> Values<'a> {
    /// Sees a column as one of a type.
    pub(crate) fn of(column: &'a ArrayRef, kind: Kind) -> Option<Values<'a>> {
        Some(match kind {
            Kind::Str => match column.as_string_opt::<i32>() {
                Some(texts) => Values::Str(texts),
                None => Values::Coded(Coded::of(column)?),
            },
            Kind::Int => Values::Int(column.as_primitive_opt()?),
            Kind::Double => Values::Double(column.as_primitive_opt()?),
            Kind::Bool => Values::Bool(column.as_boolean_opt()?),
        })
    }

    /// The value of a row.
    pub(crate) fn value(&self, row: usize) -> Option<AttributeValue> {
        match self {
            Values::Str(c) => c.is_valid(row).then(|| AttributeValue::Str(c.value(row).to_owned())),
            Values::Coded(c) => c.text(row).map(|text| AttributeValue::Str(text.to_owned())),
            Values::Int(c) => c.is_valid(row).then(|| AttributeValue::Int(c.value(row))),
            Values::Double(c) => c.is_valid(row).then(|| AttributeValue::Double(c.value(row))),
            Values::Bool(c) => c.is_valid(row).then(|| AttributeValue::Bool(c.value(row))),
        }
    }
}

/// Texts as numbers of a dictionary.
#[derive(Clone, Copy)]
pub(crate) struct Coded<'a> {
    /// Which text each row has.
    pub numbers: &'a PrimitiveArray<Int32Type>,
    /// The texts.
    pub texts: &'a StringArray,
}

impl<'a> Coded<'a> {
    /// Sees a column as one.
    pub(crate) fn of(column: &'a ArrayRef) -> Option<Coded<'a>> {
        let column = column.as_dictionary_opt::<Int32Type>()?;
        Some(Coded {
            numbers: column.keys(),
            texts: column.values().as_string_opt()?,
        })
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        let number = self.numbers.is_valid(row).then(|| self.numbers.value(row))?;
        let number = usize::try_from(number).ok().filter(|n| *n < self.texts.len())?;
        self.texts.is_valid(number).then(|| self.texts.value(number))
    }
}

/// A map of texts with the types of its entries.
pub(crate) struct TextMap<'a> {
    offsets: &'a [i32],
    keys: &'a StringArray,
    values: &'a StringArray,
    /// `None`: all are text.
    types: Option<&'a StringArray>,
}

impl<'a> TextMap<'a> {
    fn of(map: &'a MapArray, types: Option<&'a ArrayRef>) -> Option<TextMap<'a>> {
        let types = match types {
            None => None,
            Some(types) => Some(types.as_string_opt()?),
        };
        Some(TextMap {
            offsets: map.value_offsets(),
            keys: map.keys().as_string_opt()?,
            values: map.values().as_string_opt()?,
            types,
        })
    }

    /// From two columns of a batch; either is absent when it is empty or was not read.
    pub(crate) fn optional(
        map: Option<&'a ArrayRef>,
        types: Option<&'a ArrayRef>,
        name: &str,
    ) -> Result<Option<TextMap<'a>>, String> {
        let Some(map) = map else { return Ok(None) };
        let map = map.as_map_opt().and_then(|map| TextMap::of(map, types));
        map.map(Some).ok_or_else(|| wrong(name))
    }

    /// The entries of a row as (key, type, text).
    pub(crate) fn entries(&self, row: usize) -> impl Iterator<Item = (&'a str, char, &'a str)> {
        let types = self.types.filter(|t| t.is_valid(row)).map(|types| types.value(row));
        let (start, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        (start..end).enumerate().map(move |(n, at)| {
            let kind = types.map_or('s', |types| types.as_bytes().get(n).map_or('?', |b| *b as char));
            (self.keys.value(at), kind, self.values.value(at))
        })
    }

    fn row(&self, row: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<KeyValue>, String> {
        let mut out = Vec::with_capacity((self.offsets[row + 1] - self.offsets[row]) as usize);
        for (key, kind, text) in self.entries(row).filter(|(key, ..)| wanted(key)) {
            if !each_from_text(kind, text, |value| out.push(KeyValue::new(key, value))) {
                return Err(format!("attribute {key:?} is no value of type {kind:?}"));
            }
        }
        Ok(out)
    }
}

struct Events<'a> {
    offsets: &'a [i32],
    time: &'a PrimitiveArray<TimestampNanosecondType>,
    name: &'a StringArray,
    attributes: TextMap<'a>,
    dropped: &'a PrimitiveArray<UInt32Type>,
}

impl<'a> Events<'a> {
    fn of(column: &'a ArrayRef) -> Option<Events<'a>> {
        let list: &ListArray = column.as_list_opt()?;
        let items = list.values().as_struct_opt()?;
        Some(Events {
            offsets: list.value_offsets(),
            time: items.column_by_name("time")?.as_primitive_opt()?,
            name: items.column_by_name("name")?.as_string_opt()?,
            attributes: TextMap::of(
                items.column_by_name("attributes")?.as_map_opt()?,
                Some(items.column_by_name("attribute_types")?),
            )?,
            dropped: items.column_by_name("dropped_attributes")?.as_primitive_opt()?,
        })
    }

    fn row(&self, row: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<Event>, String> {
        (self.offsets[row] as usize..self.offsets[row + 1] as usize)
            .map(|at| {
                Ok(Event {
                    t: TimestampNs(self.time.value(at)),
                    name: self.name.value(at).to_owned(),
                    attributes: self.attributes.row(at, &wanted)?,
                    dropped_attributes: self.dropped.value(at),
                })
            })
            .collect()
    }
}

struct Links<'a> {
    offsets: &'a [i32],
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    trace_state: &'a StringArray,
    attributes: TextMap<'a>,
    dropped: &'a PrimitiveArray<UInt32Type>,
    flags: &'a PrimitiveArray<UInt32Type>,
}

impl<'a> Links<'a> {
    fn of(column: &'a ArrayRef) -> Option<Links<'a>> {
        let list: &ListArray = column.as_list_opt()?;
        let items = list.values().as_struct_opt()?;
        Some(Links {
            offsets: list.value_offsets(),
            trace_id: fixed(items.column_by_name("trace_id"), 16)?,
            span_id: fixed(items.column_by_name("span_id"), 8)?,
            trace_state: items.column_by_name("trace_state")?.as_string_opt()?,
            attributes: TextMap::of(
                items.column_by_name("attributes")?.as_map_opt()?,
                Some(items.column_by_name("attribute_types")?),
            )?,
            dropped: items.column_by_name("dropped_attributes")?.as_primitive_opt()?,
            flags: items.column_by_name("flags")?.as_primitive_opt()?,
        })
    }

    fn row(&self, row: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<Link>, String> {
        (self.offsets[row] as usize..self.offsets[row + 1] as usize)
            .map(|at| {
                Ok(Link {
                    trace_id: TraceId(u128::from_be_bytes(id(self.trace_id, at))),
                    span_id: SpanId(u64::from_be_bytes(id(self.span_id, at))),
                    trace_state: text(Some(self.trace_state), at),
                    attributes: self.attributes.row(at, &wanted)?,
                    dropped_attributes: self.dropped.value(at),
                    flags: self.flags.value(at),
                })
            })
            .collect()
    }
}
