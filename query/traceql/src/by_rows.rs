//! Metrics straight from columns. A function that looks at each span for itself (filters, no structure, nothing of the
//! trace) needs neither whole traces nor whole spans: rows are sorted into *classes* of equal codes of the fields that
//! filters and `by (...)` look at, and what is decided of one row of a class holds for all of it. What depends on numbers
//! that hardly repeat, as durations, is asked row by row.

use std::ops::Range;

use model::{SpanKind, StatusCode};
use query_exec::{Context, ExecError};
use rapidhash::RapidHashMap;
use storage_traces::{Field as StoredField, SpanColumn, SpanRows};

use crate::exemplar::Origin;
use crate::intervals::Intervals;
use crate::metrics::{FunctionPlan, Groups};
use crate::plan::{Node, Source, Step, fields_of_node, stored};
use crate::run::{Position, Spans, passes};
use crate::syntax::{Field, Intrinsic, Scope};
use crate::value::Value;
use crate::view::known;

/// Classes are numbered by multiplication up to here, by hashing beyond.
const CLASSES_MAX: usize = 1 << 16;

/// What a function asks of each row.
pub(crate) struct RowPlan<'p> {
    function: &'p FunctionPlan,
    fields: Vec<Field>,
    /// The same as storage names them.
    pub(crate) stored: Vec<StoredField>,
    /// All must pass.
    filters: Vec<(&'p Node, Vec<usize>)>,
    by: Vec<usize>,
}

impl<'p> RowPlan<'p> {
    /// `None`: the function needs to see whole traces.
    pub(crate) fn of(function: &'p FunctionPlan) -> Option<RowPlan<'p>> {
        if function.comparison.is_some() {
            return None;
        }
        let mut nodes = Vec::new();
        for step in &function.plan.steps {
            match step {
                Step::Spansets(Source::Filter(node)) => conjuncts(node, &mut nodes),
                Step::Select => {}
                _ => return None,
            }
        }
        let fields = function.plan.fields.clone();
        let of_span = |field: &Field| match field {
            Field::Attribute { scope, .. } => matches!(scope, Scope::None | Scope::Span | Scope::Resource),
            // As many values as there are spans.
            Field::Intrinsic(Intrinsic::SpanId) => false,
            Field::Intrinsic(_) => true,
        };
        let known: Option<Vec<StoredField>> = fields.iter().map(|f| stored(f).filter(|_| of_span(f))).collect();
        let at = |field: &Field| fields.iter().position(|f| f == field);
        let mut filters = Vec::new();
        for node in nodes {
            let mut own = Vec::new();
            fields_of_node(node, &mut own);
            filters.push((node, own.iter().map(at).collect::<Option<Vec<usize>>>()?));
        }
        Some(RowPlan {
            stored: known?,
            filters,
            by: function.by.iter().map(at).collect::<Option<_>>()?,
            fields,
            function,
        })
    }

    /// Counts the rows of a batch.
    pub(crate) fn observe(
        &self,
        groups: &mut Groups,
        rows: &SpanRows,
        intervals: &Intervals,
        context: &Context,
    ) -> Result<(), ExecError> {
        let coded = |n: usize| !matches!(rows.columns[n], SpanColumn::Ints { .. } | SpanColumn::Doubles { .. });
        let of_class = |fields: &[usize]| fields.iter().all(|n| coded(*n) || self.by.contains(n));
        let (decided, open): (Vec<_>, Vec<_>) = self.filters.iter().partition(|(_, fields)| of_class(fields));
        let mut dimensions: Vec<usize> = decided.iter().flat_map(|(_, fields)| fields).copied().collect();
        dimensions.extend(&self.by);
        dimensions.sort_unstable();
        dimensions.dedup();
        let classes = Classes::of(dimensions.iter().map(|n| &rows.columns[*n]), rows.starts.len());
        let view = Rows { plan: self, rows };
        let mut known = vec![Class::New; classes.count];
        let mut last = (0..0, 0);
        for trace in &rows.traces {
            for row in trace.rows.clone() {
                let class = &mut known[classes.of_row(row)];
                let at = row as u32;
                if *class == Class::New {
                    *class = match decided.iter().all(|(filter, _)| passes(filter, &view, at)) {
                        true => Class::Passes,
                        false => Class::Fails,
                    };
                }
                if *class == Class::Fails || !open.iter().all(|(filter, _)| passes(filter, &view, at)) {
                    continue;
                }
                let start = rows.starts[row];
                let Some(interval) = interval(intervals, start, &mut last) else {
                    continue;
                };
                let Some(measured) = groups.measured(self.function, &view, at) else {
                    continue;
                };
                let group = match *class {
                    Class::Group(group) => group as usize,
                    _ => {
                        let group = groups.group_of(self.function, &view, at, intervals, context)?;
                        *class = Class::Group(group as u32);
                        group
                    }
                };
                let origin = (trace.mark, Origin::Row(rows.place(row)));
                groups.count(self.function, &view, at, (start, interval), (group, measured), origin);
            }
        }
        Ok(())
    }
}

/// What is known of all rows of a class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    New,
    Fails,
    Passes,
    /// It passes, and this group counts it.
    Group(u32),
}

/// The parts of a chain of `&&`, all of which must be true.
fn conjuncts<'p>(node: &'p Node, out: &mut Vec<&'p Node>) {
    match node {
        Node::Logic(first, rest) if rest.iter().all(|(and, _)| *and) => {
            conjuncts(first, out);
            rest.iter().for_each(|(_, node)| conjuncts(node, out));
        }
        Node::Constant(Value::Bool(true)) => {}
        one => out.push(one),
    }
}

/// The interval of an instant; neighbours mostly are in the same one.
fn interval(intervals: &Intervals, start: i64, last: &mut (Range<i64>, usize)) -> Option<usize> {
    if last.0.contains(&start) {
        return Some(last.1);
    }
    let interval = intervals.of(start)?;
    *last = (intervals.span_of(interval), interval);
    Some(interval)
}

/// Rows by what their fields of few values are.
struct Classes {
    /// `None`: all rows are of one class.
    of_rows: Option<Vec<u32>>,
    count: usize,
}

impl Classes {
    fn of<'c>(columns: impl Iterator<Item = &'c SpanColumn>, rows: usize) -> Classes {
        let mut all = Classes {
            of_rows: None,
            count: 1,
        };
        for column in columns {
            let (codes, count) = match column {
                SpanColumn::Absent => continue,
                SpanColumn::Coded { codes, values } => (codes.clone(), values.len() + 1),
                SpanColumn::Ints { values, there } => numbered(values.iter().map(|v| *v as u64), there.as_deref()),
                SpanColumn::Doubles { values, there } => numbered(values.iter().map(|v| v.to_bits()), there.as_deref()),
            };
            debug_assert_eq!(codes.len(), rows);
            all = all.and(codes, count);
        }
        all
    }

    fn of_row(&self, row: usize) -> usize {
        self.of_rows.as_ref().map_or(0, |of_rows| of_rows[row] as usize)
    }

    /// Divided further.
    fn and(self, codes: Vec<u32>, count: usize) -> Classes {
        let Some(mut of_rows) = self.of_rows else {
            return Classes {
                of_rows: Some(codes),
                count,
            };
        };
        if self.count * count <= CLASSES_MAX {
            let both = of_rows.iter_mut().zip(&codes);
            both.for_each(|(class, code)| *class = *class * count as u32 + code);
            return Classes {
                of_rows: Some(of_rows),
                count: self.count * count,
            };
        }
        let pairs = of_rows.iter().zip(&codes);
        let (of_rows, count) = numbered(
            pairs.map(|(class, code)| u64::from(*class) << 32 | u64::from(*code)),
            None,
        );
        Classes {
            of_rows: Some(of_rows),
            count,
        }
    }
}

/// Codes of numbers as they come, 0 for none; and one more than the highest.
fn numbered(values: impl Iterator<Item = u64>, there: Option<&[bool]>) -> (Vec<u32>, usize) {
    let mut known: RapidHashMap<u64, u32> = RapidHashMap::default();
    let code = |(row, value): (usize, u64)| {
        if there.is_some_and(|there| there.get(row) != Some(&true)) {
            return 0;
        }
        let next = known.len() as u32 + 1;
        *known.entry(value).or_insert(next)
    };
    let codes: Vec<u32> = values.enumerate().map(code).collect();
    (codes, known.len() + 1)
}

/// The rows of a batch as spans of one trace, as far as the plan's fields go.
struct Rows<'r> {
    plan: &'r RowPlan<'r>,
    rows: &'r SpanRows,
}

impl Rows<'_> {
    fn stored<'a>(&'a self, span: u32, field: &Field) -> Value<'a> {
        let Some(n) = self.plan.fields.iter().position(|f| f == field) else {
            return Value::Nil;
        };
        let row = span as usize;
        let is = |there: &Option<Vec<bool>>| there.as_ref().is_none_or(|there| there[row]);
        match (&self.rows.columns[n], field) {
            (SpanColumn::Ints { values, .. }, Field::Intrinsic(Intrinsic::Duration)) => Value::Duration(values[row]),
            (SpanColumn::Ints { values, there }, _) if is(there) => Value::Int(values[row]),
            (SpanColumn::Doubles { values, there }, _) if is(there) => Value::Float(values[row]),
            (SpanColumn::Coded { codes, values }, _) => {
                let value = (codes[row] as usize).checked_sub(1).and_then(|at| values.get(at));
                let number = |value: Value<'a>| value.as_int().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
                match (value.map_or(Value::Nil, Value::of), field) {
                    (value, Field::Intrinsic(Intrinsic::Kind)) => Value::Kind(SpanKind::from_number(number(value))),
                    (value, Field::Intrinsic(Intrinsic::Status)) => {
                        Value::Status(StatusCode::from_number(number(value)))
                    }
                    (value, _) => known(value),
                }
            }
            _ => Value::Nil,
        }
    }
}

impl Spans for Rows<'_> {
    fn value<'a>(&'a self, span: u32, field: &Field) -> Value<'a> {
        let seen = &self.plan.function.plan.seen;
        seen.part_of_list(field, self.stored(span, field))
    }

    fn lacks(&self, span: u32, field: &Field) -> bool {
        self.stored(span, field).is_nil()
    }

    fn position(&self, _: u32) -> Position {
        Position::default()
    }

    fn each<'a>(&'a self, _: u32, _: &mut dyn FnMut(Scope, &str, Value<'a>)) {}
}
