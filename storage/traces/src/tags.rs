//! Names and values of attributes, for the tag endpoints: from the accounts that blocks carry, the head's string table,
//! and, for values, the one or two columns where they are.

use std::collections::BTreeSet;

use arrow_array::Array;
use model::{AttributeValue, KeyValue, TraceId};
use rapidhash::RapidHashSet;

use crate::BlockError;
use crate::block_file::BlockFile;
use crate::columns::{Dedicated, Kind};
use crate::condition::map_columns;
use crate::head::Head;
use crate::request::{AttributeScope, Projection, ScanRequest};
use crate::rows::{Coded, Copied, Decoder, TextMap, Values, Wants};
use crate::scan::Snapshot;
use crate::span_bytes::{Place, put_value};
use crate::value_text::each_from_text;

/// Spans of the heads that are looked at for values.
const HEAD_SPANS_MAX: usize = 1 << 18;
/// Rows of a column that are looked at together.
const COLUMN_ROWS: usize = 8 << 10;

impl Snapshot {
    /// Names of attributes in use, by scope (never [`AttributeScope::Any`]), sorted. Of a block with thousands of names, not
    /// all are known.
    pub fn attribute_names(&self) -> Result<Vec<(AttributeScope, String)>, BlockError> {
        let mut names: BTreeSet<(AttributeScope, String)> = BTreeSet::new();
        for head in &self.heads {
            for (place, scope) in [
                (Place::SpanAttribute, AttributeScope::Span),
                (Place::EventAttribute, AttributeScope::Event),
                (Place::LinkAttribute, AttributeScope::Link),
            ] {
                let used = head.symbol_table().used_at(place);
                names.extend(used.iter().map(|name| (scope, name.to_string())));
            }
            let mut add =
                |scope, attributes: &[KeyValue]| names.extend(attributes.iter().map(|kv| (scope, kv.key.clone())));
            head.resources()
                .iter()
                .for_each(|r| add(AttributeScope::Resource, &r.attributes));
            head.scopes()
                .iter()
                .for_each(|s| add(AttributeScope::Instrumentation, &s.attributes));
        }
        for file in self.open(&self.blocks) {
            let used = file.footer.usage.iter();
            names.extend(used.map(|(scope, name, _)| (scope, name.to_owned())));
        }
        Ok(names.into_iter().collect())
    }

    /// Distinct values of an attribute, at most `limit`.
    pub fn attribute_values(
        &self,
        scope: AttributeScope,
        name: &str,
        limit: usize,
    ) -> Result<Vec<AttributeValue>, BlockError> {
        let scopes: &[AttributeScope] = match scope {
            AttributeScope::Any => &[AttributeScope::Span, AttributeScope::Resource],
            one => &[one],
        };
        let mut found = Distinct::new(limit);
        for scope in scopes {
            for head in &self.heads {
                found.head(head, *scope, name);
            }
            for file in self.open(&self.blocks) {
                if found.is_full() {
                    break;
                }
                if let Err(e) = found.block(&file, *scope, name) {
                    self.reader.skipped(&e);
                }
            }
        }
        Ok(found.values)
    }
}

/// Distinct values up to a limit.
struct Distinct {
    values: Vec<AttributeValue>,
    seen: RapidHashSet<Box<[u8]>>,
    key: Vec<u8>,
    limit: usize,
}

impl Distinct {
    fn new(limit: usize) -> Distinct {
        Distinct {
            values: Vec::new(),
            seen: RapidHashSet::default(),
            key: Vec::new(),
            limit,
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() >= self.limit
    }

    fn add(&mut self, value: &AttributeValue) {
        self.key.clear();
        put_value(&mut self.key, value);
        if !self.is_full() && !self.seen.contains(self.key.as_slice()) {
            self.seen.insert(self.key.as_slice().into());
            self.values.push(value.clone());
        }
    }

    fn add_named(&mut self, attributes: &[KeyValue], name: &str) {
        attributes
            .iter()
            .filter(|kv| kv.key == name)
            .for_each(|kv| self.add(&kv.value));
    }

    fn head(&mut self, head: &Head, scope: AttributeScope, name: &str) {
        match scope {
            AttributeScope::Resource => head
                .resources()
                .iter()
                .for_each(|r| self.add_named(&r.attributes, name)),
            AttributeScope::Instrumentation => head.scopes().iter().for_each(|s| self.add_named(&s.attributes, name)),
            _ => self.head_spans(head, scope, name),
        }
    }

    fn head_spans(&mut self, head: &Head, scope: AttributeScope, name: &str) {
        let mut left = HEAD_SPANS_MAX;
        let mut symbols = head.symbols();
        for id in head.ids(TraceId(0), TraceId(u128::MAX)) {
            let spans = head.trace(id);
            if symbols.is_behind(head.symbol_table()) {
                symbols = head.symbols();
            }
            for span in &spans {
                if self.is_full() || left == 0 {
                    return;
                }
                left -= 1;
                let span = span.decode(id, &symbols);
                match scope {
                    AttributeScope::Event => span.events.iter().for_each(|e| self.add_named(&e.attributes, name)),
                    AttributeScope::Link => span.links.iter().for_each(|l| self.add_named(&l.attributes, name)),
                    _ => self.add_named(&span.attributes, name),
                }
            }
        }
    }

    fn block(&mut self, file: &BlockFile, scope: AttributeScope, name: &str) -> Result<(), BlockError> {
        let footer = &file.footer;
        let outside = match footer.usage.get(scope, name) {
            Some(used) => used.outside > 0,
            None => !footer.usage.is_complete(),
        };
        let own = footer.dedicated.iter().find(|d| d.scope == scope && d.key == name);
        for group in 0..file.groups_count() {
            if self.is_full() {
                return Ok(());
            }
            if let Some(own) = own {
                self.column(file, group, own)?;
            }
            match map_columns(scope) {
                Some(columns) if outside => self.map(file, group, columns, name)?,
                None if outside => self.nested(file, group, scope, name)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn column(&mut self, file: &BlockFile, group: usize, own: &Dedicated) -> Result<(), BlockError> {
        let column = own.column();
        for batch in file.read_coded(group, &[&column], COLUMN_ROWS)? {
            let batch = batch?;
            let Some(values) = batch.column_by_name(&column) else {
                return Ok(());
            };
            let values = Values::of(values, own.kind);
            match values.ok_or_else(|| file.corrupt(format!("column {column} is of another type")))? {
                Values::Coded(coded) => self.coded(&coded),
                values => {
                    let mut last = None;
                    for row in 0..batch.num_rows() {
                        let value = values.value(row);
                        if value.is_some() && value != last {
                            value.iter().for_each(|v| self.add(v));
                            last = value;
                        }
                    }
                }
            }
            if self.is_full() || (own.kind == Kind::Bool && self.values.len() >= 2) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The texts of a dictionary that rows have, in the order in which rows show them.
    fn coded(&mut self, column: &Coded<'_>) {
        let mut shown = vec![false; column.texts.len()];
        for number in column.numbers.iter().flatten() {
            let Some(number) = usize::try_from(number).ok().filter(|n| shown.get(*n) == Some(&false)) else {
                continue;
            };
            shown[number] = true;
            self.add(&AttributeValue::Str(column.texts.value(number).to_owned()));
        }
    }

    fn map(
        &mut self,
        file: &BlockFile,
        group: usize,
        (map, types): (&str, &str),
        name: &str,
    ) -> Result<(), BlockError> {
        for batch in file.read(group, &[map, types], None)? {
            let batch = batch?;
            let map = TextMap::optional(batch.column_by_name(map), batch.column_by_name(types), map);
            let map = map.map_err(|what| file.corrupt(what))?;
            let Some(map) = map else { return Ok(()) };
            for row in 0..batch.num_rows() {
                for (_, kind, text) in map.entries(row).filter(|(key, ..)| *key == name) {
                    each_from_text(kind, text, |value| self.add(&value));
                }
            }
            if self.is_full() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Events and links: decoded as a scan would.
    fn nested(&mut self, file: &BlockFile, group: usize, scope: AttributeScope, name: &str) -> Result<(), BlockError> {
        let request = ScanRequest {
            attributes: Projection::Only(vec![(scope, name.to_owned())]),
            events: scope == AttributeScope::Event,
            links: scope == AttributeScope::Link,
            ..ScanRequest::default()
        };
        let wants = Wants::of(&request);
        let columns = wants.columns(file);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut decoder = Decoder::new(file, wants);
        let mut rows: Vec<Copied> = Vec::new();
        for batch in file.read(group, &columns, None)? {
            rows.clear();
            decoder.decode(&batch?, &mut rows).map_err(|what| file.corrupt(what))?;
            for span in rows.iter().map(|r| &r.span) {
                span.events.iter().for_each(|e| self.add_named(&e.attributes, name));
                span.links.iter().for_each(|l| self.add_named(&l.attributes, name));
            }
            if self.is_full() {
                return Ok(());
            }
        }
        Ok(())
    }
}
