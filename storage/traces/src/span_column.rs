//! One field of many spans, as close to the file as it is of use: texts and other values that repeat as codes, numbers as
//! they are. What a field means is the same as on a decoded span: an attribute's last value counts, and one without a scope
//! is the span's or, failing that, the resource's.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use model::AttributeValue;
use rapidhash::RapidHashMap;

use crate::block_file::BlockFile;
use crate::condition::{map_columns, places, scopes, span_ids};
use crate::request::{AttributeScope, Field};
use crate::rows::{Coded, TextMap, Values};
use crate::value_text::{each_from_text, put_text};

/// A field of each span of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanColumn {
    /// No span has a value.
    Absent,
    /// Each span's code: 0 for no value, n for `values[n - 1]`. A value may have several codes.
    Coded {
        /// One per span.
        codes: Vec<u32>,
        /// What the codes stand for.
        values: Vec<AttributeValue>,
    },
    /// Whole numbers.
    Ints {
        /// One per span.
        values: Vec<i64>,
        /// Which spans have one; `None`: all.
        there: Option<Vec<bool>>,
    },
    /// Floating point numbers.
    Doubles {
        /// One per span.
        values: Vec<f64>,
        /// Which spans have one; `None`: all.
        there: Option<Vec<bool>>,
    },
}

impl SpanColumn {
    /// The value of a span.
    pub fn value(&self, row: usize) -> Option<AttributeValue> {
        let is = |there: &Option<Vec<bool>>| there.as_ref().is_none_or(|there| there.get(row) == Some(&true));
        match self {
            SpanColumn::Absent => None,
            SpanColumn::Coded { codes, values } => {
                let code = (*codes.get(row)? as usize).checked_sub(1)?;
                values.get(code).cloned()
            }
            SpanColumn::Ints { values, there } => {
                is(there).then(|| values.get(row).map(|v| AttributeValue::Int(*v)))?
            }
            SpanColumn::Doubles { values, there } => {
                is(there).then(|| values.get(row).map(|v| AttributeValue::Double(*v)))?
            }
        }
    }

    /// A field of a batch that holds the columns of `columns_of`; an error says what is wrong with it.
    pub(crate) fn of(file: &BlockFile, batch: &RecordBatch, field: &Field) -> Result<SpanColumn, String> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| wrong(name));
        match field {
            Field::Name => of_texts(column("name")?).ok_or_else(|| wrong("name")),
            Field::Status => of_small(column("status")?).ok_or_else(|| wrong("status")),
            Field::Kind => of_small(column("kind")?).ok_or_else(|| wrong("kind")),
            Field::Duration => durations(batch).ok_or_else(|| wrong("duration_ns")),
            Field::SpanId => of_ids(batch).ok_or_else(|| wrong("span_id")),
            Field::Attribute(scope, key) => {
                let mut found = SpanColumn::Absent;
                for scope in scopes(*scope) {
                    found = found.or(of_attribute(file, batch, *scope, key)?, batch.num_rows());
                }
                Ok(found)
            }
        }
    }

    /// The values of this one or, where there is none, of the other.
    fn or(self, other: SpanColumn, rows: usize) -> SpanColumn {
        match (self, other) {
            (SpanColumn::Absent, one) | (one, SpanColumn::Absent) => one,
            (first, second) => {
                let mut codes = Codes::default();
                for row in 0..rows {
                    match first.value(row).or_else(|| second.value(row)) {
                        Some(value) => codes.put(&value),
                        None => codes.put_none(),
                    }
                }
                codes.finish()
            }
        }
    }
}

fn wrong(column: &str) -> String {
    format!("column {column} is missing or of another type")
}

fn of_attribute(file: &BlockFile, batch: &RecordBatch, scope: AttributeScope, key: &str) -> Result<SpanColumn, String> {
    let (own, outside) = places(file, scope, key);
    let own = match own {
        None => None,
        Some(own) => match batch.column_by_name(&own.column()) {
            None => None,
            Some(column) => Some(Values::of(column, own.kind).ok_or_else(|| wrong(&own.column()))?),
        },
    };
    let map = match map_columns(scope) {
        Some((map, types)) if outside => {
            TextMap::optional(batch.column_by_name(map), batch.column_by_name(types), map)?
        }
        _ => None,
    };
    let Some(map) = map else {
        return Ok(own.map_or(SpanColumn::Absent, |own| of_values(&own)));
    };
    let mut codes = Codes::default();
    for row in 0..batch.num_rows() {
        // What stands in the column came last.
        if let Some(value) = own.as_ref().and_then(|own| own.value(row)) {
            codes.put(&value);
            continue;
        }
        match map.entries(row).filter(|(k, ..)| *k == key).last() {
            Some((_, kind, text)) => codes.put_stored(kind, text)?,
            None => codes.put_none(),
        }
    }
    Ok(codes.finish())
}

fn of_values(values: &Values<'_>) -> SpanColumn {
    let there = |column: &dyn Array| column.nulls().map(|nulls| nulls.iter().collect());
    match values {
        Values::Coded(coded) => of_coded(*coded),
        Values::Int(column) => SpanColumn::Ints {
            values: column.values().to_vec(),
            there: there(*column),
        },
        Values::Double(column) => SpanColumn::Doubles {
            values: column.values().to_vec(),
            there: there(*column),
        },
        Values::Bool(column) => {
            let code = |row| match (column.is_valid(row), column.is_valid(row) && column.value(row)) {
                (false, _) => 0,
                (true, truth) => 1 + u32::from(truth),
            };
            SpanColumn::Coded {
                codes: (0..column.len()).map(code).collect(),
                values: vec![AttributeValue::Bool(false), AttributeValue::Bool(true)],
            }
        }
        Values::Str(column) => {
            let mut codes = Codes::default();
            for row in 0..column.len() {
                if column.is_null(row) {
                    codes.put_none();
                } else {
                    codes.put_text(column.value(row));
                }
            }
            codes.finish()
        }
    }
}

fn of_texts(column: &ArrayRef) -> Option<SpanColumn> {
    match column.as_string_opt::<i32>() {
        Some(texts) => Some(of_values(&Values::Str(texts))),
        None => Coded::of(column).map(of_coded),
    }
}

fn of_coded(column: Coded<'_>) -> SpanColumn {
    let texts = column.texts;
    // A number that the dictionary does not have stands for no value.
    let code = |n: i32| match usize::try_from(n) {
        Ok(n) if n < texts.len() && texts.is_valid(n) => n as u32 + 1,
        _ => 0,
    };
    let numbers = column.numbers.values().iter();
    let codes = match column.numbers.nulls() {
        None => numbers.map(|n| code(*n)).collect(),
        Some(nulls) => {
            let rows = numbers.zip(nulls.iter());
            rows.map(|(n, there)| if there { code(*n) } else { 0 }).collect()
        }
    };
    let text = |n: usize| match texts.is_valid(n) {
        true => AttributeValue::Str(texts.value(n).to_owned()),
        false => AttributeValue::Empty,
    };
    SpanColumn::Coded {
        codes,
        values: (0..texts.len()).map(text).collect(),
    }
}

/// OTLP's numbers of kinds and states.
fn of_small(column: &ArrayRef) -> Option<SpanColumn> {
    let column = column.as_primitive_opt::<Int8Type>()?;
    let code = |n: &i8| u32::from(n.cast_unsigned()) + 1;
    let values = (0..=u8::MAX).map(|n| AttributeValue::Int(n.cast_signed().into()));
    (column.null_count() == 0).then(|| SpanColumn::Coded {
        codes: column.values().iter().map(code).collect(),
        values: values.collect(),
    })
}

/// Each id has a code of its own.
fn of_ids(batch: &RecordBatch) -> Option<SpanColumn> {
    let values: Vec<AttributeValue> = span_ids(batch)?.map(|id| AttributeValue::Str(id.to_string())).collect();
    Some(SpanColumn::Coded {
        codes: (1..=values.len() as u32).collect(),
        values,
    })
}

/// As [`model::Span::duration_ns`] has them.
fn durations(batch: &RecordBatch) -> Option<SpanColumn> {
    let durations = batch.column_by_name("duration_ns")?.as_primitive_opt::<Int64Type>()?;
    let starts = batch.column_by_name("start_time")?;
    let starts = starts.as_primitive_opt::<TimestampNanosecondType>()?;
    let of = |(start, duration): (&i64, &i64)| start.wrapping_add(*duration).saturating_sub(*start).max(0);
    (durations.null_count() + starts.null_count() == 0).then(|| SpanColumn::Ints {
        values: starts.values().iter().zip(durations.values()).map(of).collect(),
        there: None,
    })
}

/// Gives values codes as they come.
#[derive(Default)]
struct Codes {
    known: RapidHashMap<(char, String), u32>,
    values: Vec<AttributeValue>,
    codes: Vec<u32>,
    scratch: (char, String),
}

impl Codes {
    fn put_none(&mut self) {
        self.codes.push(0);
    }

    fn put_text(&mut self, text: &str) {
        self.scratch.0 = 's';
        self.scratch.1.clear();
        self.scratch.1.push_str(text);
        self.put_scratch(|| Some(AttributeValue::Str(text.to_owned())));
    }

    fn put(&mut self, value: &AttributeValue) {
        self.scratch.1.clear();
        self.scratch.0 = put_text(&mut self.scratch.1, value);
        self.put_scratch(|| Some(value.clone()));
    }

    /// A value as maps have it; of several the last one.
    fn put_stored(&mut self, kind: char, text: &str) -> Result<(), String> {
        if kind == 's' {
            self.put_text(text);
            return Ok(());
        }
        let mut last = None;
        if !each_from_text(kind, text, |value| last = Some(value)) {
            return Err(format!("{text:?} is no value of type {kind:?}"));
        }
        match last {
            Some(value) => self.put(&value),
            None => self.put_none(),
        }
        Ok(())
    }

    fn put_scratch(&mut self, value: impl FnOnce() -> Option<AttributeValue>) {
        if let Some(code) = self.known.get(&self.scratch) {
            self.codes.push(*code);
            return;
        }
        let code = match value() {
            None | Some(AttributeValue::Empty) => 0,
            Some(value) => {
                self.values.push(value);
                self.values.len() as u32
            }
        };
        self.known.insert(self.scratch.clone(), code);
        self.codes.push(code);
    }

    fn finish(self) -> SpanColumn {
        if self.values.is_empty() {
            return SpanColumn::Absent;
        }
        SpanColumn::Coded {
            codes: self.codes,
            values: self.values,
        }
    }
}
