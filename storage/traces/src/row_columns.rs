//! Rows on their way into a block's file, in Arrow's columns.
//!
//! A span comes as the head has it, as bytes: what each attribute is to become, a value of its own column or an entry of the
//! map, is decided once per name and then looked up by the name's number, so that a row costs no allocation and no hash.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder,
};
use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, ListArray, MapArray, StructArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::Fields;
use model::{AttributeValue, KeyValue, Resource, Scope, Span, SpanId, SpanKind, TimestampNs, TraceId};
use rapidhash::{RapidHashMap, RapidHashSet};
use storage_codec::{Malformed, Reader};

use crate::block::{element, event_fields, link_fields, map_entries, map_fields};
use crate::columns::{Dedicated, Kind, Usage, Use};
use crate::nested_set::Nested;
use crate::request::AttributeScope;
use crate::span_bytes::{
    GetSymbols, Skimmed, get_attributes, get_head, get_tail, get_value, malformed, skim_attributes,
};
use crate::value_text::{put_repeated, put_text};

/// Addresses of resources and scopes that are remembered.
const ALIASES_MAX: usize = 64 << 10;

/// Resources or scopes of the file, numbered.
pub(crate) struct Table<T> {
    by_key: RapidHashMap<Box<[u8]>, u32>,
    /// Numbers by address; the pointers are held so that no address is used twice.
    by_address: RapidHashMap<usize, (Arc<T>, u32)>,
    kept: Vec<Kept<T>>,
    rows: Vec<u64>,
    /// The item asked for last.
    last: Option<(Arc<T>, u32)>,
    key: Vec<u8>,
}

/// A resource or scope as its rows show it.
pub(crate) struct Kept<T> {
    pub(crate) value: Arc<T>,
    /// Whether a key occurs twice.
    repeats: bool,
    /// Values of the dedicated columns, in their order.
    columns: Vec<Option<AttributeValue>>,
    /// For each attribute whether it is in the map rather than in a column.
    pub(crate) outside: Vec<bool>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            by_key: RapidHashMap::default(),
            by_address: RapidHashMap::default(),
            kept: Vec::new(),
            rows: Vec::new(),
            last: None,
            key: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    /// The number of an item; `keep` makes what is kept of a new one.
    pub(crate) fn number(
        &mut self,
        item: &Arc<T>,
        put_key: impl FnOnce(&mut Vec<u8>, &T),
        keep: impl FnOnce(&Arc<T>) -> Kept<T>,
    ) -> u32 {
        if let Some((last, number)) = &self.last
            && Arc::ptr_eq(last, item)
        {
            self.rows[*number as usize] += 1;
            return *number;
        }
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
        self.last = Some((item.clone(), number));
        number
    }

    /// What is kept under a number.
    pub(crate) fn get(&self, number: u32) -> &Kept<T> {
        &self.kept[number as usize]
    }

    /// All items, with the number of their rows.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (&Kept<T>, u64)> {
        self.kept.iter().zip(self.rows.iter().copied())
    }
}

pub(crate) fn kept_resource(resource: &Arc<Resource>, dedicated: &[Dedicated]) -> Kept<Resource> {
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
        repeats: keys_repeat(&resource.attributes),
        value: resource.clone(),
    }
}

pub(crate) fn kept_scope(scope: &Arc<Scope>) -> Kept<Scope> {
    Kept {
        columns: Vec::new(),
        outside: vec![true; scope.attributes.len()],
        repeats: keys_repeat(&scope.attributes),
        value: scope.clone(),
    }
}

/// Rows on their way into the file, in columns.
pub(crate) struct Rows {
    pub(crate) len: usize,
    pub(crate) bytes: usize,
    span_columns: Vec<Dedicated>,
    pub(crate) resource_columns: Vec<Dedicated>,
    by_key: RapidHashMap<String, usize>,
    /// Which attribute of the current span goes into each column.
    slots: Vec<Option<usize>>,
    /// Where the column of each of `span_columns` is among `dedicated`.
    places: Vec<usize>,
    /// What becomes of attributes, by the number of their key.
    plans: Vec<Option<Plan>>,
    /// Rows so far, those that were taken too.
    row: u64,
    skimmed: Vec<Skimmed>,
    tail: Span,
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

/// What becomes of the attributes with a key, and what became of those so far.
struct Plan {
    key: Box<str>,
    /// Its column: place among `dedicated`, and type.
    column: Option<(usize, Kind)>,
    used: Use,
    /// The last row that it was in, from 1.
    row: u64,
}

/// A span on its way into a row.
pub(crate) struct Row<'a> {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// Its kind.
    pub kind: SpanKind,
    /// Its start.
    pub start: TimestampNs,
    /// Its end.
    pub end: TimestampNs,
    /// Its place in the tree.
    pub nested: Nested,
    /// The block that it was written into first.
    pub revision: u64,
    /// All else but resource and scope, see `span_bytes.rs`.
    pub body: &'a [u8],
}

/// Where a dedicated column takes its values: from the span, or from this place among those of the resource.
#[derive(Clone, Copy)]
enum Source {
    Span,
    Resource(usize),
}

impl Rows {
    /// Without rows; these columns, in this order, follow `service_name`.
    pub(crate) fn new(dedicated: Vec<Dedicated>) -> Rows {
        let (mut span_columns, mut resource_columns, mut builders) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = Vec::new();
        for d in dedicated {
            let builder = ColumnBuilder::new(d.kind);
            if d.scope == AttributeScope::Resource {
                builders.push((Source::Resource(resource_columns.len()), builder));
                resource_columns.push(d);
            } else {
                places.push(builders.len());
                builders.push((Source::Span, builder));
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
            places,
            plans: Vec::new(),
            row: 0,
            skimmed: Vec::new(),
            tail: Span::default(),
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

    /// Appends a span. `symbols` are the same for all of them; strings without a number are counted in `usage`.
    pub(crate) fn span(
        &mut self,
        row: &Row<'_>,
        symbols: &impl GetSymbols,
        usage: &mut Usage,
    ) -> Result<(), Malformed> {
        self.len += 1;
        self.row += 1;
        self.trace_id.extend_from_slice(&row.trace_id.to_bytes());
        self.span_id.extend_from_slice(&row.span_id.to_bytes());
        self.start.push(row.start.0);
        self.duration.push(row.end.0.wrapping_sub(row.start.0));
        self.kind.push(row.kind as i8);
        self.revision.push(row.revision);
        for (column, n) in self
            .nested
            .iter_mut()
            .zip([row.nested.left, row.nested.right, row.nested.parent])
        {
            column.push(n);
        }
        let mut r = Reader::new(row.body);
        let head = get_head(&mut r, symbols)?;
        match head.parent {
            // Eight bytes are what the builder was made for.
            Some(parent) => drop(self.parent.append_value(parent.to_bytes())),
            None => self.parent.append_null(),
        }
        self.name.append_value(head.name);
        self.status.push(head.status as i8);
        put_optional(&mut self.status_message, head.status_message);
        put_optional(&mut self.trace_state, head.trace_state);
        self.flags.push(head.flags);
        self.bytes += 128 + head.name.len() + head.status_message.len() + head.trace_state.len();
        self.attributes(&mut r, row.body, symbols, usage)?;
        self.tail.start = row.start;
        get_tail(&mut r, &mut self.tail, symbols)?;
        let tail = &self.tail;
        self.dropped_attributes.push(tail.dropped_attributes);
        for event in &tail.events {
            count_all(usage, AttributeScope::Event, &event.attributes);
            self.bytes += self.events.put(event);
        }
        self.events.end_row();
        self.dropped_events.push(tail.dropped_events);
        for link in &tail.links {
            count_all(usage, AttributeScope::Link, &link.attributes);
            self.bytes += self.links.put(link);
        }
        self.links.end_row();
        self.dropped_links.push(tail.dropped_links);
        Ok(())
    }

    fn attributes(
        &mut self,
        r: &mut Reader<'_>,
        body: &[u8],
        symbols: &impl GetSymbols,
        usage: &mut Usage,
    ) -> Result<(), Malformed> {
        let start = r.position();
        let mut skimmed = std::mem::take(&mut self.skimmed);
        skim_attributes(r, &mut skimmed)?;
        // A key without a number is rare, one that occurs twice is forbidden: both take the long way.
        let mut plain = true;
        for attribute in &skimmed {
            plain &= attribute.symbol != 0;
            if let Some(plan) = self.plan(attribute.symbol, symbols) {
                plain &= plan.row != self.row;
                let row = self.row;
                if let Some(Some(plan)) = self.plans.get_mut(attribute.symbol as usize) {
                    plan.row = row;
                }
            }
        }
        if plain {
            for attribute in &skimmed {
                let value = Reader::new(&body[attribute.value.clone()]);
                self.attribute(attribute, value, symbols)?;
            }
            self.bytes += self.attributes.pending();
            self.attributes.end_row();
        } else {
            let all = get_attributes(&mut Reader::new(&body[start..]), symbols)?;
            self.many_attributes(&all, usage);
        }
        self.skimmed = skimmed;
        Ok(())
    }

    /// One of a span whose attributes all have different keys, which have numbers.
    fn attribute(
        &mut self,
        attribute: &Skimmed,
        mut value: Reader<'_>,
        symbols: &impl GetSymbols,
    ) -> Result<(), Malformed> {
        let Some(Some(plan)) = self.plans.get_mut(attribute.symbol as usize) else {
            return Err(malformed(&value, "string number beyond the table"));
        };
        plan.used.by_kind[attribute.kind] += 1;
        let own = plan.column.filter(|(_, kind)| *kind as usize == attribute.kind);
        if own.is_none() {
            plan.used.outside += 1;
        }
        if attribute.kind == Kind::Str as usize {
            value.u8()?;
            let text = value.str()?;
            match own {
                Some((place, _)) => self.bytes += self.dedicated[place].1.put_text(self.len - 1, text),
                None => self.attributes.put_str(&plan.key, text),
            }
            return Ok(());
        }
        let value = get_value(&mut value, symbols)?;
        match own {
            Some((place, _)) => self.bytes += self.dedicated[place].1.put(self.len - 1, &value),
            None => self.bytes += self.attributes.put(&plan.key, &value),
        }
        Ok(())
    }

    fn plan(&mut self, symbol: u64, symbols: &impl GetSymbols) -> Option<&Plan> {
        let at = usize::try_from(symbol).ok().filter(|at| *at > 0)?;
        if at >= self.plans.len() {
            // The number comes from a table that is there, so that it is not large.
            symbols.text(symbol)?;
            self.plans.resize_with(at + 1, || None);
        }
        if self.plans[at].is_none() {
            let key: Box<str> = symbols.text(symbol)?.into();
            let column = self.by_key.get(&*key).copied();
            self.plans[at] = Some(Plan {
                column: column.map(|n| (self.places[n], self.span_columns[n].kind)),
                key,
                used: Use::default(),
                row: 0,
            });
        }
        self.plans[at].as_ref()
    }

    /// Adds what was counted by number.
    pub(crate) fn account(&self, usage: &mut Usage) {
        for plan in self.plans.iter().flatten() {
            usage.add_use(AttributeScope::Span, &plan.key, &plan.used);
        }
    }

    fn many_attributes(&mut self, attributes: &[KeyValue], usage: &mut Usage) {
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
        self.bytes += self.attributes.row(attributes, keys_repeat(attributes), |n| !inside(n));
        for (slot, place) in self.slots.iter().zip(&self.places) {
            if let Some(n) = slot {
                self.bytes += self.dedicated[*place].1.put(self.len - 1, &attributes[*n].value);
            }
        }
    }

    /// Appends the resource of the span appended last.
    pub(crate) fn resource(&mut self, id: u32, kept: &Kept<Resource>) {
        self.resource_id.push(id);
        for (source, builder) in &mut self.dedicated {
            if let Source::Resource(n) = source
                && let Some(value) = &kept.columns[*n]
            {
                self.bytes += builder.put(self.len - 1, value);
            }
        }
        self.bytes += self
            .resource_attributes
            .row(&kept.value.attributes, kept.repeats, |n| kept.outside[n]);
        self.resource_dropped.push(kept.value.dropped_attributes);
        put_optional(&mut self.resource_schema_url, &kept.value.schema_url);
    }

    /// Appends the scope of the span appended last.
    pub(crate) fn scope(&mut self, id: u32, kept: &Kept<Scope>) {
        let scope = &kept.value;
        self.scope_id.push(id);
        put_optional(&mut self.scope_name, &scope.name);
        put_optional(&mut self.scope_version, &scope.version);
        self.bytes += self.scope_attributes.row(&scope.attributes, kept.repeats, |_| true);
        self.scope_dropped.push(scope.dropped_attributes);
        put_optional(&mut self.scope_schema_url, &scope.schema_url);
        self.bytes += scope.name.len() + scope.version.len();
    }

    /// The columns in the order of the file's schema; empties them.
    pub(crate) fn take(&mut self) -> Vec<ArrayRef> {
        let rows = self.len;
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
        columns.extend(self.dedicated.iter_mut().map(|(_, builder)| builder.take(rows)));
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

    fn len(&self) -> usize {
        match self {
            ColumnBuilder::Str(b) => b.len(),
            ColumnBuilder::Int(b) => b.len(),
            ColumnBuilder::Double(b) => b.len(),
            ColumnBuilder::Bool(b) => b.len(),
        }
    }

    /// Appends nulls until there are so many rows.
    fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        match self {
            ColumnBuilder::Str(b) => b.append_nulls(missing),
            ColumnBuilder::Int(b) => b.append_nulls(missing),
            ColumnBuilder::Double(b) => b.append_nulls(missing),
            ColumnBuilder::Bool(b) => b.append_nulls(missing),
        }
    }

    /// Puts text into a row of a column of texts. Returns about its bytes.
    fn put_text(&mut self, row: usize, text: &str) -> usize {
        self.fill(row);
        if let ColumnBuilder::Str(b) = self {
            b.append_value(text);
        }
        text.len() + 4
    }

    /// Puts a value of the column's type into a row. Returns about its bytes.
    fn put(&mut self, row: usize, value: &AttributeValue) -> usize {
        self.fill(row);
        match (self, value) {
            (ColumnBuilder::Str(b), AttributeValue::Str(s)) => {
                b.append_value(s);
                return s.len() + 4;
            }
            (ColumnBuilder::Int(b), AttributeValue::Int(i)) => b.append_value(*i),
            (ColumnBuilder::Double(b), AttributeValue::Double(d)) => b.append_value(*d),
            (ColumnBuilder::Bool(b), AttributeValue::Bool(v)) => b.append_value(*v),
            _ => {}
        }
        8
    }

    fn take(&mut self, rows: usize) -> ArrayRef {
        self.fill(rows);
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
    row_bytes: usize,
    text: String,
}

impl TextMap {
    /// Appends a row: the attributes whose place is `wanted`; `repeats` if a key occurs twice. Returns about its bytes.
    fn row(&mut self, attributes: &[KeyValue], repeats: bool, wanted: impl Fn(usize) -> bool) -> usize {
        let mut bytes = 0;
        if repeats {
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

    /// Puts a text into the row that is not ended yet.
    fn put_str(&mut self, key: &str, text: &str) {
        self.keys.append_value(key);
        self.row_types.push('s');
        self.values.append_value(text);
        self.items += 1;
        self.row_bytes += key.len() + text.len() + 8;
    }

    /// About the bytes that [`TextMap::put_str`] put since it was asked last.
    fn pending(&mut self) -> usize {
        std::mem::take(&mut self.row_bytes)
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
        let bytes = self
            .attributes
            .row(&event.attributes, keys_repeat(&event.attributes), |_| true);
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
        let bytes = self
            .attributes
            .row(&link.attributes, keys_repeat(&link.attributes), |_| true);
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
