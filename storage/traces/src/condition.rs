//! Conditions on spans, tested as early as they can be: on a block's account of attributes, on the bounds of a row group,
//! on columns, on spans of the head. Every test here may err toward "perhaps", never toward "no".

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use model::{AttributeValue, KeyValue, Regex, RegexBudget, RegexUse, Span, SpanId};
use parquet::file::statistics::Statistics;

use crate::BlockError;
use crate::block_file::BlockFile;
use crate::columns::{Dedicated, Kind};
use crate::request::{AttributeScope, Condition, Field, Test};
use crate::rows::{Coded, TextMap, Values};
use crate::value_text::each_from_text;

const REGEX_BYTES_MAX: usize = 1 << 20;

/// Alternatives of conditions, ready to be tested.
pub(crate) struct Conditions {
    any_of: Vec<Vec<Ready>>,
}

struct Ready {
    field: Field,
    test: ReadyTest,
}

enum ReadyTest {
    Exists,
    In {
        texts: Vec<String>,
        numbers: Vec<Number>,
        truths: Vec<bool>,
        /// Whether there are values that this module does not compare.
        others: bool,
    },
    Matches(Regex),
    AtLeast(f64),
    AtMost(f64),
    /// Passed by everything that has a value.
    Perhaps,
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Str(&'a str),
    Number(Number),
    Bool(bool),
    /// Lists, maps, bytes: how a language compares them is its own affair.
    Other,
}

impl Conditions {
    /// `None` if no trace may be left out.
    pub(crate) fn new(any_of: &[Vec<Condition>]) -> Option<Conditions> {
        if any_of.is_empty() || any_of.iter().any(Vec::is_empty) {
            return None;
        }
        let ready = |c: &Condition| Ready {
            field: c.field.clone(),
            test: ReadyTest::new(&c.test),
        };
        Some(Conditions {
            any_of: any_of.iter().map(|all| all.iter().map(ready).collect()).collect(),
        })
    }

    /// Whether a span passes.
    pub(crate) fn span(&self, span: &Span) -> bool {
        self.any_of.iter().any(|all| all.iter().all(|c| c.span(span)))
    }

    /// Columns that [`Conditions::rows`] wants to see, beside `trace_id`.
    pub(crate) fn columns(&self, file: &BlockFile) -> Vec<String> {
        let mut columns = Vec::new();
        for condition in self.any_of.iter().flatten() {
            columns_of(file, &condition.field, &mut columns);
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Whether a row group may have a span that passes.
    pub(crate) fn group(&self, file: &BlockFile, group: usize) -> bool {
        self.any_of.iter().any(|all| all.iter().all(|c| c.group(file, group)))
    }

    /// For every row of a batch whether it passes.
    pub(crate) fn rows(&self, file: &BlockFile, batch: &RecordBatch) -> Result<Vec<bool>, BlockError> {
        let mut out = vec![false; batch.num_rows()];
        if let [all] = self.any_of.as_slice()
            && let [only] = all.as_slice()
        {
            only.rows(file, batch, &mut out).map_err(|what| file.corrupt(what))?;
            return Ok(out);
        }
        let mut all_of = vec![true; batch.num_rows()];
        let mut one = vec![false; batch.num_rows()];
        for all in &self.any_of {
            all_of.fill(true);
            for condition in all {
                one.fill(false);
                condition
                    .rows(file, batch, &mut one)
                    .map_err(|what| file.corrupt(what))?;
                all_of.iter_mut().zip(&one).for_each(|(a, b)| *a &= *b);
            }
            out.iter_mut().zip(&all_of).for_each(|(a, b)| *a |= *b);
        }
        Ok(out)
    }
}

impl ReadyTest {
    fn new(test: &Test) -> ReadyTest {
        match test {
            Test::Exists => ReadyTest::Exists,
            Test::In(values) => {
                let (mut texts, mut numbers, mut truths, mut others) = (Vec::new(), Vec::new(), Vec::new(), false);
                for value in values {
                    match value {
                        AttributeValue::Str(s) => texts.push(s.clone()),
                        AttributeValue::Int(i) => numbers.push(Number::Int(*i)),
                        AttributeValue::Double(d) => numbers.push(Number::Double(*d)),
                        AttributeValue::Bool(b) => truths.push(*b),
                        _ => others = true,
                    }
                }
                ReadyTest::In {
                    texts,
                    numbers,
                    truths,
                    others,
                }
            }
            Test::Matches(pattern) => {
                let regex = RegexBudget::of(REGEX_BYTES_MAX).compile(pattern, RegexUse::Whole);
                regex.map_or(ReadyTest::Perhaps, ReadyTest::Matches)
            }
            Test::AtLeast(n) => ReadyTest::AtLeast(*n),
            Test::AtMost(n) => ReadyTest::AtMost(*n),
        }
    }

    fn passes(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (ReadyTest::Exists | ReadyTest::Perhaps, _) | (_, Value::Other) => true,
            (ReadyTest::In { others: true, .. }, _) => true,
            (ReadyTest::In { texts, .. }, Value::Str(s)) => texts.iter().any(|t| t == s),
            (ReadyTest::In { numbers, .. }, Value::Number(n)) => numbers.iter().any(|m| m.equals(n)),
            (ReadyTest::In { truths, .. }, Value::Bool(b)) => truths.contains(&b),
            (ReadyTest::Matches(regex), Value::Str(s)) => regex.is_match(s),
            (ReadyTest::AtLeast(min), Value::Number(n)) => n.as_f64() >= *min,
            (ReadyTest::AtMost(max), Value::Number(n)) => n.as_f64() <= *max,
            _ => false,
        }
    }

    /// Adds to `out` the numbers that pass.
    fn ints(&self, numbers: impl Iterator<Item = i64>, out: &mut [bool]) {
        let rows = out.iter_mut().zip(numbers);
        match self {
            ReadyTest::AtLeast(min) => {
                if let Some(least) = first_whole(|n| n as f64 >= *min) {
                    rows.for_each(|(pass, n)| *pass |= n >= least);
                }
            }
            ReadyTest::AtMost(max) => match first_whole(|n| n as f64 > *max || max.is_nan()) {
                Some(above) => rows.for_each(|(pass, n)| *pass |= n < above),
                None => out.fill(true),
            },
            _ => rows.for_each(|(pass, n)| *pass |= self.passes(Value::Number(Number::Int(n)))),
        }
    }

    /// Whether a value between two texts may pass; both bounds inclusive.
    fn passes_text_between(&self, min: &[u8], max: &[u8]) -> bool {
        match self {
            ReadyTest::In { texts, others, .. } => {
                *others || texts.iter().any(|t| min <= t.as_bytes() && t.as_bytes() <= max)
            }
            ReadyTest::AtLeast(_) | ReadyTest::AtMost(_) => false,
            _ => true,
        }
    }

    /// Whether a number between two may pass; both bounds inclusive.
    fn passes_number_between(&self, min: f64, max: f64) -> bool {
        match self {
            ReadyTest::In { numbers, others, .. } => {
                *others || numbers.iter().any(|n| min <= n.as_f64() && n.as_f64() <= max)
            }
            ReadyTest::AtLeast(least) => max >= *least,
            ReadyTest::AtMost(most) => min <= *most,
            ReadyTest::Matches(_) => false,
            _ => true,
        }
    }
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Number::Int(i) => i as f64,
            Number::Double(d) => d,
        }
    }

    fn equals(self, other: Number) -> bool {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a == b,
            (a, b) => a.as_f64() == b.as_f64(),
        }
    }
}

impl<'a> Value<'a> {
    fn of(value: &'a AttributeValue) -> Value<'a> {
        match value {
            AttributeValue::Str(s) => Value::Str(s),
            AttributeValue::Int(i) => Value::Number(Number::Int(*i)),
            AttributeValue::Double(d) => Value::Number(Number::Double(*d)),
            AttributeValue::Bool(b) => Value::Bool(*b),
            _ => Value::Other,
        }
    }
}

impl Ready {
    fn span(&self, span: &Span) -> bool {
        let int = |i: i64| self.test.passes(Value::Number(Number::Int(i)));
        match &self.field {
            Field::Name => self.test.passes(Value::Str(&span.name)),
            Field::Status => int(span.status as i64),
            Field::Kind => int(span.kind as i64),
            Field::Duration => int(span.duration_ns() as i64),
            Field::SpanId => self.test.passes(Value::Str(&span.span_id.to_string())),
            Field::Attribute(scope, key) => {
                let any = |attributes: &[KeyValue]| {
                    let named = attributes.iter().filter(|kv| kv.key == *key);
                    named.into_iter().any(|kv| self.test.passes(Value::of(&kv.value)))
                };
                match scope {
                    AttributeScope::Span => any(&span.attributes),
                    AttributeScope::Resource => any(&span.resource.attributes),
                    AttributeScope::Any => any(&span.attributes) || any(&span.resource.attributes),
                    AttributeScope::Event => span.events.iter().any(|e| any(&e.attributes)),
                    AttributeScope::Link => span.links.iter().any(|l| any(&l.attributes)),
                    AttributeScope::Instrumentation => any(&span.scope.attributes),
                }
            }
        }
    }

    fn group(&self, file: &BlockFile, group: usize) -> bool {
        let column = |name: &str, kind: Kind| self.column_bounds(file, group, name, kind);
        match &self.field {
            Field::Name => column("name", Kind::Str),
            // A negative duration counts as zero, so that the lower bound says little; the upper one holds.
            Field::Duration => {
                column("duration_ns", Kind::Int) || matches!(self.test, ReadyTest::In { .. } | ReadyTest::AtMost(_))
            }
            Field::Status => column("status", Kind::Int),
            Field::Kind => column("kind", Kind::Int),
            // Ids are spread over everything.
            Field::SpanId => true,
            Field::Attribute(scope, key) => scopes(*scope).iter().any(|scope| {
                let (own, outside) = places(file, *scope, key);
                outside || own.is_some_and(|own| column(&own.column(), own.kind))
            }),
        }
    }

    /// Whether a column may have a value that passes, by its bounds in a row group.
    fn column_bounds(&self, file: &BlockFile, group: usize, name: &str, kind: Kind) -> bool {
        let Some(statistics) = file.statistics(group, name) else {
            return true;
        };
        if statistics.null_count_opt() == Some(file.group_rows(group) as u64) {
            return false;
        }
        let (min, max) = match statistics {
            Statistics::ByteArray(s) => match (s.min_bytes_opt(), s.max_bytes_opt()) {
                (Some(min), Some(max)) => return self.test.passes_text_between(min, max),
                _ => return true,
            },
            Statistics::Int64(s) => (s.min_opt().map(|n| *n as f64), s.max_opt().map(|n| *n as f64)),
            Statistics::Int32(s) => (s.min_opt().map(|n| f64::from(*n)), s.max_opt().map(|n| f64::from(*n))),
            Statistics::Double(s) => (s.min_opt().copied(), s.max_opt().copied()),
            _ => return true,
        };
        match (min, max) {
            (Some(min), Some(max)) if kind != Kind::Bool => self.test.passes_number_between(min, max),
            _ => true,
        }
    }

    fn rows(&self, file: &BlockFile, batch: &RecordBatch, out: &mut [bool]) -> Result<(), String> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| format!("column {name} is missing"))
        };
        match &self.field {
            Field::Name => {
                let names = Values::of(column("name")?, Kind::Str).ok_or("column name is not text")?;
                self.values(&names, out);
            }
            Field::Duration => {
                let ns = column("duration_ns")?
                    .as_primitive_opt::<Int64Type>()
                    .ok_or("column duration_ns is no int64")?;
                self.test.ints(ns.values().iter().map(|ns| (*ns).max(0)), out);
            }
            Field::Status | Field::Kind => {
                let name = if self.field == Field::Kind { "kind" } else { "status" };
                let numbers = column(name)?
                    .as_primitive_opt::<Int8Type>()
                    .ok_or("column kind or status is no int8")?;
                self.test.ints(numbers.values().iter().map(|n| i64::from(*n)), out);
            }
            Field::SpanId => {
                let ids = span_ids(batch).ok_or("column span_id is not 8 bytes")?;
                let mut text = String::with_capacity(16);
                for (pass, id) in out.iter_mut().zip(ids) {
                    text.clear();
                    let _ = write!(text, "{id}");
                    *pass |= self.test.passes(Value::Str(&text));
                }
            }
            Field::Attribute(scope, key) => {
                for scope in scopes(*scope) {
                    let (own, outside) = places(file, *scope, key);
                    // One that is not there has no value in this row group.
                    if let Some(own) = own
                        && let Some(values) = batch.column_by_name(&own.column())
                    {
                        let values = Values::of(values, own.kind).ok_or("a column of another type")?;
                        self.values(&values, out);
                    }
                    if outside {
                        self.map_rows(batch, *scope, key, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn map_rows(&self, batch: &RecordBatch, scope: AttributeScope, key: &str, out: &mut [bool]) -> Result<(), String> {
        let Some((map, types)) = map_columns(scope) else {
            // Attributes of events and links are looked at when the span is there in full.
            out.fill(true);
            return Ok(());
        };
        let map = TextMap::optional(batch.column_by_name(map), batch.column_by_name(types), map)?;
        let Some(map) = map else { return Ok(()) };
        for (row, pass) in out.iter_mut().enumerate() {
            if *pass {
                continue;
            }
            *pass = map
                .entries(row)
                .filter(|(k, ..)| *k == key)
                .any(|(_, kind, text)| match kind {
                    's' => self.test.passes(Value::Str(text)),
                    _ => {
                        let mut passes = false;
                        let read = each_from_text(kind, text, |v| passes |= self.test.passes(Value::of(&v)));
                        passes || !read
                    }
                });
        }
        Ok(())
    }

    fn values(&self, values: &Values<'_>, out: &mut [bool]) {
        match values {
            Values::Str(column) => self.texts(column, out),
            Values::Coded(column) => self.coded(column, out),
            Values::Int(column) if column.null_count() == 0 => self.test.ints(column.values().iter().copied(), out),
            Values::Int(column) => {
                for (row, pass) in out.iter_mut().enumerate() {
                    *pass |= column.is_valid(row) && self.test.passes(Value::Number(Number::Int(column.value(row))));
                }
            }
            Values::Double(column) => {
                for (row, pass) in out.iter_mut().enumerate() {
                    *pass |= column.is_valid(row) && self.test.passes(Value::Number(Number::Double(column.value(row))));
                }
            }
            Values::Bool(column) => {
                for (row, pass) in out.iter_mut().enumerate() {
                    *pass |= column.is_valid(row) && self.test.passes(Value::Bool(column.value(row)));
                }
            }
        }
    }

    /// Tests each text of the dictionary once, then looks rows up.
    fn coded(&self, column: &Coded<'_>, out: &mut [bool]) {
        let texts = column.texts;
        let passes = |n: usize| texts.is_valid(n) && self.test.passes(Value::Str(texts.value(n)));
        let passing: Vec<bool> = (0..texts.len()).map(passes).collect();
        let passes = |n: i32| usize::try_from(n).is_ok_and(|n| passing.get(n) == Some(&true));
        let mut found = (0..).zip(&passing).filter(|(_, passes)| **passes).map(|(n, _)| n);
        let (first, second): (Option<i32>, Option<i32>) = (found.next(), found.next());
        match (column.numbers.nulls(), first, second) {
            (_, None, _) => {}
            (None, Some(only), None) => {
                let numbers = column.numbers.values().iter();
                out.iter_mut().zip(numbers).for_each(|(pass, n)| *pass |= *n == only);
            }
            (None, ..) => {
                let numbers = column.numbers.values().iter();
                out.iter_mut().zip(numbers).for_each(|(pass, n)| *pass |= passes(*n));
            }
            (Some(nulls), ..) => {
                let numbers = column.numbers.values().iter().zip(nulls.iter());
                let rows = out.iter_mut().zip(numbers);
                rows.for_each(|(pass, (n, there))| *pass |= there && passes(*n));
            }
        }
    }

    fn texts(&self, column: &arrow_array::StringArray, out: &mut [bool]) {
        // Neighbours often are equal, and a regex is dear.
        let mut last: Option<(&str, bool)> = None;
        for (row, pass) in out.iter_mut().enumerate().filter(|(row, _)| column.is_valid(*row)) {
            let text = column.value(row);
            let passes = match last {
                Some((same, passes)) if same == text => passes,
                _ => self.test.passes(Value::Str(text)),
            };
            last = Some((text, passes));
            *pass |= passes;
        }
    }
}

/// The least number from which on something holds, if it does: it compares as it is, without becoming a double for each row.
fn first_whole(holds: impl Fn(i64) -> bool) -> Option<i64> {
    if !holds(i64::MAX) {
        return None;
    }
    let (mut fails, mut least) = (i128::from(i64::MIN) - 1, i128::from(i64::MAX));
    while least - fails > 1 {
        let middle = (fails + least).div_euclid(2);
        match i64::try_from(middle) {
            Ok(n) if holds(n) => least = middle,
            _ => fails = middle,
        }
    }
    i64::try_from(least).ok()
}

/// The ids of a batch's spans.
pub(crate) fn span_ids(batch: &RecordBatch) -> Option<impl Iterator<Item = SpanId> + '_> {
    let ids = batch.column_by_name("span_id")?.as_fixed_size_binary_opt()?;
    let id = |row| {
        ids.value(row)
            .try_into()
            .map_or(SpanId(0), |id| SpanId(u64::from_be_bytes(id)))
    };
    (ids.value_length() == 8).then(|| (0..ids.len()).map(id))
}

/// The places where an attribute may be: its own column, and whether the map is one of them.
pub(crate) fn places<'f>(file: &'f BlockFile, scope: AttributeScope, key: &str) -> (Option<&'f Dedicated>, bool) {
    let footer = &file.footer;
    let own = footer.dedicated.iter().find(|d| d.scope == scope && d.key == *key);
    let outside = match footer.usage.get(scope, key) {
        Some(used) => used.outside > 0,
        None => !footer.usage.is_complete(),
    };
    (own, outside)
}

/// Appends the columns that show a field.
pub(crate) fn columns_of(file: &BlockFile, field: &Field, out: &mut Vec<String>) {
    match field {
        Field::Name => out.push("name".to_owned()),
        Field::Status => out.push("status".to_owned()),
        Field::Kind => out.push("kind".to_owned()),
        Field::Duration => out.push("duration_ns".to_owned()),
        Field::SpanId => out.push("span_id".to_owned()),
        Field::Attribute(scope, key) => {
            for scope in scopes(*scope) {
                let (own, outside) = places(file, *scope, key);
                out.extend(own.map(Dedicated::column));
                if let (true, Some((map, types))) = (outside, map_columns(*scope)) {
                    out.extend([map.to_owned(), types.to_owned()]);
                }
            }
        }
    }
}

/// Where to look for an attribute, one place after another.
pub(crate) fn scopes(scope: AttributeScope) -> &'static [AttributeScope] {
    match scope {
        AttributeScope::Any => &[AttributeScope::Span, AttributeScope::Resource],
        AttributeScope::Span => &[AttributeScope::Span],
        AttributeScope::Resource => &[AttributeScope::Resource],
        AttributeScope::Event => &[AttributeScope::Event],
        AttributeScope::Link => &[AttributeScope::Link],
        AttributeScope::Instrumentation => &[AttributeScope::Instrumentation],
    }
}

/// The columns of a scope's attributes that have no columns of their own.
pub(crate) fn map_columns(scope: AttributeScope) -> Option<(&'static str, &'static str)> {
    match scope {
        AttributeScope::Span => Some(("attributes", "attribute_types")),
        AttributeScope::Resource => Some(("resource_attributes", "resource_attribute_types")),
        AttributeScope::Instrumentation => Some(("scope_attributes", "scope_attribute_types")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound() -> impl Strategy<Value = f64> {
        let odd = prop::sample::select(vec![
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            9_223_372_036_854_775_808.0,
            -9_223_372_036_854_775_808.0,
            0.5,
            -0.0,
        ]);
        prop_oneof![odd, any::<f64>(), (-10.0..10.0), any::<i64>().prop_map(|n| n as f64)]
    }

    proptest! {
        /// Many numbers at once pass where each alone does.
        #[test]
        fn whole_numbers_pass_as_one_by_one(bound in bound(), n in any::<i64>(), near in -3..4i64, least in any::<bool>()) {
            let near_bound = (bound as i64).saturating_add(near);
            let numbers = [n, near, near_bound, i64::MIN, i64::MAX, 0];
            let test = if least { ReadyTest::AtLeast(bound) } else { ReadyTest::AtMost(bound) };
            let mut many = [false; 6];
            test.ints(numbers.into_iter(), &mut many);
            let one_by_one = numbers.map(|n| test.passes(Value::Number(Number::Int(n))));
            prop_assert_eq!(many, one_by_one);
        }
    }
}
