//! `compare({...})`: spans that pass the selection against all others, counted by every value of every attribute.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use query_exec::{Cells, Context, ExecError};
use rapidhash::RapidHashMap;

use crate::intervals::Intervals;
use crate::metrics::Series;
use crate::plan::{Node, node};
use crate::run::{Spans, passes};
use crate::syntax::{Field, Function, Intrinsic, Scope};
use crate::value::Value;

/// Values listed per attribute when nothing is said.
const TOP: i64 = 10;

#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    selection: Node,
    top: usize,
    between: Option<(i64, i64)>,
}

/// What was counted, by attribute: sorted, so that the answer is always the same.
#[derive(Default)]
pub(crate) struct Counts {
    attributes: BTreeMap<Scope, BTreeMap<String, Attribute>>,
}

#[derive(Default)]
struct Attribute {
    values: RapidHashMap<Vec<u8>, (Value<'static>, Two)>,
    total: Two,
}

/// Counts per interval: of the baseline and of the selection.
#[derive(Default)]
struct Two([Vec<u64>; 2]);

const TYPES: [(&str, &str); 2] = [("baseline", "baseline_total"), ("selection", "selection_total")];

impl Comparison {
    pub(crate) fn of(function: &Function) -> Option<Comparison> {
        match function {
            Function::Compare {
                selection,
                top,
                between,
            } => Some(Comparison {
                selection: node(selection),
                top: top.unwrap_or(TOP).max(1) as usize,
                between: between.filter(|between| *between != (0, 0)),
            }),
            _ => None,
        }
    }
}

impl Two {
    fn add(&mut self, selected: bool, interval: usize, intervals: usize) {
        let counts = &mut self.0[usize::from(selected)];
        if counts.is_empty() {
            counts.resize(intervals, 0);
        }
        counts[interval] += 1;
    }

    fn merge(&mut self, other: Two) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if mine.is_empty() {
                *mine = theirs;
            } else {
                mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
            }
        }
    }
}

impl Counts {
    /// Counts a span; says whether it is of the selection.
    pub(crate) fn observe<S: Spans>(
        &mut self,
        comparison: &Comparison,
        spans: &S,
        span: u32,
        start: i64,
        (interval, intervals): (usize, &Intervals),
        context: &Context,
    ) -> Result<bool, ExecError> {
        let inside = comparison.between.is_none_or(|(from, to)| from < start && start <= to);
        let selected = inside && passes(&comparison.selection, spans, span);
        let intervals = intervals.len();
        let (mut key, mut result) = (Vec::new(), Ok(selected));
        spans.each(span, &mut |scope, name, value| {
            if matches!(value, Value::Nil | Value::Duration(_) | Value::Opaque) {
                return;
            }
            let named = self.attributes.entry(scope).or_default();
            let attribute = match named.get_mut(name) {
                Some(attribute) => attribute,
                None => named.entry(name.to_owned()).or_default(),
            };
            attribute.total.add(selected, interval, intervals);
            key.clear();
            value.put_key(&mut key);
            match attribute.values.get_mut(&key) {
                Some((_, counts)) => counts.add(selected, interval, intervals),
                None => {
                    if let Err(e) = context.add_samples(intervals as u64) {
                        result = Err(e);
                        return;
                    }
                    let mut counts = Two::default();
                    counts.add(selected, interval, intervals);
                    attribute.values.insert(key.clone(), (value.into_owned(), counts));
                }
            }
        });
        result
    }

    pub(crate) fn merge(&mut self, other: Counts) {
        for (scope, named) in other.attributes {
            let mine = self.attributes.entry(scope).or_default();
            for (name, attribute) in named {
                let into = mine.entry(name).or_default();
                into.total.merge(attribute.total);
                for (key, (value, counts)) in attribute.values {
                    into.values
                        .entry(key)
                        .or_insert_with(|| (value, Two::default()))
                        .1
                        .merge(counts);
                }
            }
        }
    }

    pub(crate) fn into_series(self, comparison: &Comparison, intervals: &Intervals, out: &mut Vec<Series>) {
        let mut push = |kind: &'static str, label: &str, value: Value<'static>, counts: &[u64]| {
            let labels = vec![
                ("__meta_type".to_owned(), Value::Str(kind.into())),
                (label.to_owned(), value),
            ];
            let mut cells = vec![0.0; intervals.len()];
            cells.iter_mut().zip(counts).for_each(|(cell, n)| *cell = *n as f64);
            out.push(Series {
                labels,
                cells: Cells::full(cells),
                exemplars: Vec::new(),
            });
        };
        for (scope, named) in self.attributes {
            for (name, attribute) in named {
                let label = label(scope, &name);
                for (side, (kind, total)) in TYPES.iter().enumerate() {
                    let mut values: Vec<(Reverse<u64>, String, &(Value<'static>, Two))> = attribute
                        .values
                        .values()
                        .filter(|(_, counts)| !counts.0[side].is_empty())
                        .map(|entry| (Reverse(entry.1.0[side].iter().sum()), entry.0.to_text(), entry))
                        .collect();
                    values.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
                    for (_, _, (value, counts)) in values.iter().take(comparison.top) {
                        push(kind, &label, value.clone(), &counts.0[side]);
                    }
                    if !attribute.total.0[side].is_empty() {
                        push(total, &label, Value::Str("nil".into()), &attribute.total.0[side]);
                    }
                }
            }
        }
    }
}

/// All that is told of a span: each attribute once.
pub(crate) fn told<S: Spans>(spans: &S, span: u32) -> Vec<(String, Value<'static>)> {
    let mut out: BTreeMap<(Scope, String), Value<'static>> = BTreeMap::new();
    spans.each(span, &mut |scope, name, value| {
        if !matches!(value, Value::Nil | Value::Opaque) {
            out.entry((scope, name.to_owned()))
                .or_insert_with(|| value.into_owned());
        }
    });
    out.into_iter()
        .map(|((scope, name), value)| (label(scope, &name), value))
        .collect()
}

/// Whether a series has the exemplars of the selection (or of the baseline): Tempo hangs them on totals of any attributes,
/// we on those of the name, which every span has.
pub(crate) fn holds_exemplars(one: &Series, selected: bool) -> bool {
    let (_, total) = TYPES[usize::from(selected)];
    match &one.labels[..] {
        [(_, Value::Str(kind)), (name, _)] => kind == total && name == Intrinsic::Name.short(),
        _ => false,
    }
}

/// Intrinsics come without a scope.
fn label(scope: Scope, name: &str) -> String {
    if scope == Scope::None {
        return name.to_owned();
    }
    Field::Attribute {
        parent: false,
        scope,
        name: name.to_owned(),
    }
    .to_string()
}
