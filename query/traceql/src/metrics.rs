//! Metrics over spans: each span that a pipeline leaves is counted in the interval of its start, by the values of the
//! `by (...)` fields; second stages and arithmetic work on the finished series.

use std::cmp::Ordering;

use model::{SpanKind, StatusCode, TraceId};
use query_exec::{BinaryOp, Cells, Compensated, Context, ExecError, TRACEQL, apply};
use rapidhash::RapidHashMap;
use storage_traces::{Projection, RowScan, ScanRequest, id_mark};

use crate::EvalError;
use crate::compare::{self, Comparison};
use crate::exemplar::{Candidate, Exemplar, Origin, Picked, Picking, shows_span};
use crate::intervals::Intervals;
use crate::plan::{Plan, constant, fields_of_function};
use crate::run::{Spans, Spanset, run};
use crate::syntax::{ArithmeticOp, CompareOp, Field, Function, Intrinsic, Metrics, Operand, OverTime, Rank, Scalar};
use crate::value::Value;

/// Intervals of a query; more would be no picture any more.
const INTERVALS_MAX: usize = 12_000;

pub(crate) type Labels = Vec<(String, Value<'static>)>;

/// A series while it is worked on.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) cells: Cells,
    pub(crate) exemplars: Vec<Exemplar>,
}

/// Metrics ready to run.
#[derive(Clone, Debug)]
pub(crate) enum MetricsPlan {
    Function(Box<FunctionPlan>),
    Rank(Rank, Box<MetricsPlan>),
    Filter(CompareOp, Box<MetricsPlan>, f64),
    Math(ArithmeticOp, Box<MathSide>, Box<MathSide>),
}

#[derive(Clone, Debug)]
pub(crate) enum MathSide {
    Series(MetricsPlan),
    Number(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct FunctionPlan {
    pub(crate) plan: Plan,
    pub(crate) function: Function,
    pub(crate) by: Vec<Field>,
    pub(crate) comparison: Option<Comparison>,
}

impl MetricsPlan {
    pub(crate) fn of(metrics: &Metrics) -> MetricsPlan {
        match metrics {
            Metrics::Function(pipeline, function, by) => {
                let mut plan = Plan::of(pipeline);
                by.iter()
                    .chain(&fields_of_function(function))
                    .for_each(|field| plan.also(field));
                MetricsPlan::Function(Box::new(FunctionPlan {
                    plan,
                    function: function.clone(),
                    by: by.clone(),
                    comparison: Comparison::of(function),
                }))
            }
            Metrics::Rank(rank, inner) => MetricsPlan::Rank(*rank, Box::new(MetricsPlan::of(inner))),
            Metrics::Filter(op, inner, value) => {
                MetricsPlan::Filter(*op, Box::new(MetricsPlan::of(inner)), number(value))
            }
            Metrics::Math(op, left, right) => {
                let side = |operand: &Operand| {
                    Box::new(match operand {
                        Operand::Series(metrics) => MathSide::Series(MetricsPlan::of(metrics)),
                        Operand::Number(scalar) => MathSide::Number(number(scalar)),
                    })
                };
                MetricsPlan::Math(*op, side(left), side(right))
            }
        }
    }
}

impl MetricsPlan {
    /// The function whose series it ranks or filters; `None` of mathematics.
    pub(crate) fn function(&self) -> Option<&FunctionPlan> {
        match self {
            MetricsPlan::Function(function) => Some(function),
            MetricsPlan::Rank(_, inner) | MetricsPlan::Filter(_, inner, _) => inner.function(),
            MetricsPlan::Math(..) => None,
        }
    }
}

impl FunctionPlan {
    /// `None`: no span can match.
    pub(crate) fn request(&self) -> Option<ScanRequest> {
        let mut request = self.plan.request()?;
        if self.comparison.is_some() {
            request.attributes = Projection::All;
            request.events = true;
            request.links = true;
        }
        Some(request)
    }
}

/// A constant; durations in seconds.
fn number(scalar: &Scalar) -> f64 {
    match constant(scalar) {
        Some(Value::Duration(ns)) => ns as f64 / 1e9,
        Some(value) => value.as_number().unwrap_or(f64::NAN),
        None => f64::NAN,
    }
}

/// Computes all series; `scan` finds those of one function.
pub(crate) fn series(
    plan: &MetricsPlan,
    intervals: &Intervals,
    scan: &mut dyn FnMut(&FunctionPlan) -> Result<Groups, EvalError>,
) -> Result<Vec<Series>, EvalError> {
    if intervals.len() > INTERVALS_MAX {
        let message = format!(
            "{} intervals exceed the maximum of {INTERVALS_MAX}: raise the step",
            intervals.len()
        );
        return Err(ExecError::Limit(message).into());
    }
    match plan {
        MetricsPlan::Function(function) => Ok(scan(function)?.into_series(function, intervals)),
        MetricsPlan::Rank(rank, inner) => {
            let mut all = series(inner, intervals, scan)?;
            ranked(*rank, &mut all, intervals.len());
            Ok(all)
        }
        MetricsPlan::Filter(op, inner, limit) => {
            let mut all = series(inner, intervals, scan)?;
            for one in &mut all {
                one.cells.filter_map(|_, v| holds(*op, v, *limit).then_some(v));
            }
            all.retain(|one| !one.cells.all_absent());
            Ok(all)
        }
        MetricsPlan::Math(op, left, right) => {
            let mut side = |side: &MathSide| match side {
                MathSide::Series(inner) => series(inner, intervals, scan).map(Ok),
                MathSide::Number(n) => Ok(Err(*n)),
            };
            let (left, right) = (side(left)?, side(right)?);
            Ok(math(*op, left, right, intervals.len()))
        }
    }
}

fn holds(op: CompareOp, value: f64, limit: f64) -> bool {
    match op {
        CompareOp::Eq => value == limit,
        CompareOp::Ne => value != limit,
        CompareOp::Lt => value < limit,
        CompareOp::Le => value <= limit,
        CompareOp::Gt => value > limit,
        CompareOp::Ge => value >= limit,
    }
}

/// In each interval only the highest (or lowest) series keep their point; of equals the highest those that come first by
/// the text of their labels, the lowest those that come last, as Tempo has it.
fn ranked(rank: Rank, all: &mut Vec<Series>, intervals: usize) {
    let n = match rank {
        Rank::Top(n) | Rank::Bottom(n) => n as usize,
    };
    if all.len() <= n {
        return;
    }
    all.sort_by(|a, b| by_rank(&a.labels, &b.labels));
    if matches!(rank, Rank::Top(_)) {
        all.reverse();
    }
    let mut present: Vec<(usize, f64)> = Vec::with_capacity(all.len());
    for at in 0..intervals {
        present.clear();
        present.extend(
            all.iter()
                .enumerate()
                .filter_map(|(i, one)| Some((i, one.cells.get(at)?))),
        );
        present.sort_by(|(i, a), (j, b)| {
            let by_value = match rank {
                Rank::Top(_) => b.total_cmp(a),
                Rank::Bottom(_) => a.total_cmp(b),
            };
            by_value.then(i.cmp(j))
        });
        present.iter().skip(n).for_each(|(i, _)| all[*i].cells.clear(at));
    }
    all.retain(|one| !one.cells.all_absent());
}

/// The order of equals: label by label texts and names, the later ones first, then types and numbers.
fn by_rank(a: &Labels, b: &Labels) -> Ordering {
    fn parts<'a>(label: Option<&'a (String, Value<'static>)>) -> (&'a str, &'a str, u8, u64) {
        let Some((name, value)) = label else {
            return ("", "", 0, 0);
        };
        match value {
            Value::Nil | Value::Opaque => ("", name, 0, 0),
            Value::Int(i) => ("", name, 3, *i as u64),
            Value::Float(d) => ("", name, 4, d.to_bits()),
            Value::Str(text) => (text, name, 5, 0),
            Value::Bool(b) => ("", name, 6, u64::from(*b)),
            Value::List(_) => ("", name, 7, 0),
            Value::Duration(ns) => ("", name, 11, *ns as u64),
            Value::Status(StatusCode::Error) => ("", name, 12, 0),
            Value::Status(StatusCode::Ok) => ("", name, 12, 1),
            Value::Status(StatusCode::Unset) => ("", name, 12, 2),
            Value::Kind(SpanKind::Client) => ("", name, 13, 2),
            Value::Kind(SpanKind::Server) => ("", name, 13, 3),
            Value::Kind(kind) => ("", name, 13, *kind as u64),
        }
    }
    let pairs = (0..a.len().max(b.len())).map(|at| (parts(a.get(at)), parts(b.get(at))));
    pairs
        .map(|(a, b)| b.0.cmp(a.0).then(b.1.cmp(a.1)).then((a.2, a.3).cmp(&(b.2, b.3))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

const NAME: &str = "__name__";

fn math(
    op: ArithmeticOp,
    left: Result<Vec<Series>, f64>,
    right: Result<Vec<Series>, f64>,
    intervals: usize,
) -> Vec<Series> {
    let operator = match op {
        ArithmeticOp::Add => BinaryOp::Add,
        ArithmeticOp::Sub => BinaryOp::Sub,
        ArithmeticOp::Mul => BinaryOp::Mul,
        ArithmeticOp::Div => BinaryOp::Div,
        ArithmeticOp::Mod => BinaryOp::Mod,
        ArithmeticOp::Pow => BinaryOp::Pow,
    };
    // What is no number is no point.
    let point = |a: f64, b: f64| Some(apply(operator, a, b, TRACEQL)).filter(|v| !v.is_nan());
    let mut out = match (left, right) {
        (Ok(mut all), Err(n)) => {
            all.iter_mut().for_each(|one| one.cells.filter_map(|_, v| point(v, n)));
            all
        }
        (Err(n), Ok(mut all)) => {
            all.iter_mut().for_each(|one| one.cells.filter_map(|_, v| point(n, v)));
            all
        }
        (Ok(left), Ok(right)) => joined(op, &left, &right, |a, b| {
            let mut cells = Cells::absent(intervals);
            for (at, v) in a.iter() {
                if let Some(v) = b.get(at).and_then(|w| point(v, w)) {
                    cells.set(at, v);
                }
            }
            cells
        }),
        (Err(_), Err(_)) => Vec::new(),
    };
    out.retain(|one| !one.cells.all_absent());
    out
}

/// Pairs of series with equal labels, names aside; a series without labels goes with all of the other side.
fn joined(op: ArithmeticOp, left: &[Series], right: &[Series], cells: impl Fn(&Cells, &Cells) -> Cells) -> Vec<Series> {
    let key = |one: &Series| {
        let mut labels: Vec<_> = one.labels.iter().filter(|(name, _)| name != NAME).collect();
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        let mut key = Vec::new();
        for (name, value) in labels {
            key.extend((name.len() as u64).to_le_bytes());
            key.extend(name.as_bytes());
            value.put_key(&mut key);
        }
        key
    };
    let pair = |a: &Series, b: &Series| {
        let name = |one: &Series| one.labels.iter().find(|(n, _)| n == NAME).map(|(_, v)| v.to_text());
        let from = if key(a).is_empty() { b } else { a };
        let mut labels: Labels = from.labels.iter().filter(|(n, _)| n != NAME).cloned().collect();
        if let (Some(a), Some(b)) = (name(a), name(b)) {
            labels.push((NAME.to_owned(), Value::Str(format!("({a} {op} {b})").into())));
        }
        Series {
            labels,
            cells: cells(&a.cells, &b.cells),
            exemplars: a.exemplars.iter().chain(&b.exemplars).cloned().collect(),
        }
    };
    let lone = |side: &[Series]| side.len() == 1 && side.first().is_some_and(|one| key(one).is_empty());
    if lone(left) {
        return right.iter().map(|b| pair(&left[0], b)).collect();
    }
    if lone(right) {
        return left.iter().map(|a| pair(a, &right[0])).collect();
    }
    let by_key: RapidHashMap<Vec<u8>, &Series> = right.iter().map(|one| (key(one), one)).collect();
    left.iter()
        .filter_map(|a| by_key.get(&key(a)).map(|b| pair(a, b)))
        .collect()
}

/// Fewer labels first, then by names, then by the text of the values.
pub(crate) fn sort(all: &mut [Series]) {
    all.sort_by_cached_key(|one| {
        let names: Vec<String> = one.labels.iter().map(|(name, _)| name.clone()).collect();
        let values: Vec<SortKey> = one.labels.iter().map(|(_, value)| SortKey::of(value)).collect();
        (one.labels.len(), names, values)
    });
}

/// Numbers by size, all else by its text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(i64, String),
    Text(String),
}

impl SortKey {
    fn of(value: &Value<'_>) -> SortKey {
        match value.as_number() {
            // The order of floats as the order of their bits.
            Some(n) => {
                let bits = n.to_bits() as i64;
                SortKey::Number(bits ^ ((bits >> 63) as u64 >> 1) as i64, value.to_text())
            }
            None => SortKey::Text(value.to_text()),
        }
    }
}

/// What a function gathered, group by group.
#[derive(Default)]
pub(crate) struct Groups {
    places: RapidHashMap<Vec<u8>, usize>,
    groups: Vec<Group>,
    pub(crate) comparison: compare::Counts,
    picked: Picked,
    /// Whether there were spans to look at; what can match nothing has no series.
    pub(crate) asked: bool,
    /// Scratch.
    key: Vec<u8>,
}

struct Group {
    key: Vec<u8>,
    values: Vec<Value<'static>>,
    data: Data,
}

/// One value per interval, as each function needs it.
enum Data {
    Counts(Vec<u64>),
    /// Least or greatest.
    Extreme(Cells),
    Sums(Vec<(Compensated, u64)>),
    /// Counts by interval and power of two.
    Buckets(RapidHashMap<(u32, u8), u64>),
}

/// The exponent of the smallest power of two that holds `v`; nothing for what is below 2.
pub(crate) fn log2_bucket(v: i64) -> Option<u8> {
    (v >= 2).then(|| (64 - (v - 1).leading_zeros()) as u8)
}

fn is_duration(field: &Field) -> bool {
    *field == Field::Intrinsic(Intrinsic::Duration)
}

impl Groups {
    /// Nothing counted yet; exemplars are picked on the way.
    pub(crate) fn picking(picking: Picking) -> Groups {
        Groups {
            picked: Picked::new(picking),
            ..Groups::default()
        }
    }

    /// Counts the spans that the function's pipeline leaves of one trace.
    pub(crate) fn observe<S: Spans>(
        &mut self,
        function: &FunctionPlan,
        spans: &S,
        all: Spanset,
        known: impl Fn(u32) -> (i64, TraceId),
        intervals: &Intervals,
        context: &Context,
    ) -> Result<(), ExecError> {
        let mut mark = None;
        for set in run(&function.plan.steps, spans, vec![all])? {
            for span in set.spans {
                let (start, trace_id) = known(span);
                let Some(interval) = intervals.of(start) else { continue };
                if let Some(comparison) = &function.comparison {
                    let selected =
                        self.comparison
                            .observe(comparison, spans, span, start, (interval, intervals), context)?;
                    let mark = *mark.get_or_insert_with(|| id_mark(trace_id));
                    self.picked.offer(start, mark, || Candidate {
                        group: vec![u8::from(selected)],
                        bucket: None,
                        exemplar: Exemplar {
                            start,
                            interval,
                            value: None,
                            origin: Origin::Trace(trace_id),
                            labels: compare::told(spans, span),
                        },
                    });
                    continue;
                }
                let Some(measured) = self.measured(function, spans, span) else {
                    continue;
                };
                let group = self.group_of(function, spans, span, intervals, context)?;
                let mark = *mark.get_or_insert_with(|| id_mark(trace_id));
                let origin = (mark, Origin::Trace(trace_id));
                self.count(function, spans, span, (start, interval), (group, measured), origin);
            }
        }
        Ok(())
    }

    /// What the function looks at; `None`: the span has nothing of it.
    pub(crate) fn measured<S: Spans>(&self, function: &FunctionPlan, spans: &S, span: u32) -> Option<Measured> {
        match &function.function {
            Function::OverTime(_, field) => {
                let n = spans.first(span, field).as_number()?;
                Some(Measured::Number(if is_duration(field) { n / 1e9 } else { n }))
            }
            Function::Quantile(field, _) | Function::Histogram(field) => {
                let exponent = spans.first(span, field).as_int().and_then(log2_bucket)?;
                Some(Measured::Bucket(exponent))
            }
            _ => Some(Measured::One),
        }
    }

    /// The group that a span counts in.
    pub(crate) fn group_of<S: Spans>(
        &mut self,
        function: &FunctionPlan,
        spans: &S,
        span: u32,
        intervals: &Intervals,
        context: &Context,
    ) -> Result<usize, ExecError> {
        self.key.clear();
        for field in &function.by {
            spans.first(span, field).put_key(&mut self.key);
        }
        if let Some(at) = self.places.get(&self.key) {
            return Ok(*at);
        }
        let values = function.by.iter().map(|field| spans.first(span, field).into_owned());
        let data = Data::new(&function.function, intervals.len());
        context.add_samples(intervals.len() as u64)?;
        self.add(self.key.clone(), values.collect(), data, context)
    }

    /// Counts a span in its group; it may become an exemplar.
    pub(crate) fn count<S: Spans>(
        &mut self,
        function: &FunctionPlan,
        spans: &S,
        span: u32,
        (start, interval): (i64, usize),
        (group, measured): (usize, Measured),
        (mark, origin): (u32, Origin),
    ) {
        let group = &mut self.groups[group];
        group.data.observe(&function.function, interval, measured);
        self.picked.offer(start, mark, || Candidate {
            group: group.key.clone(),
            bucket: match measured {
                Measured::Bucket(exponent) => Some(exponent),
                _ => None,
            },
            exemplar: exemplar(function, spans, span, (start, interval), origin),
        });
    }

    /// Finds out the traces of exemplars that were picked from rows.
    pub(crate) fn find_traces(&mut self, scan: &RowScan<'_>) {
        let places = self.picked.places();
        self.picked.tell(scan.trace_ids(&places));
    }

    fn add(
        &mut self,
        key: Vec<u8>,
        values: Vec<Value<'static>>,
        data: Data,
        context: &Context,
    ) -> Result<usize, ExecError> {
        let at = self.groups.len();
        if at as u64 >= context.limits().series_max {
            return Err(ExecError::Limit(format!(
                "the query has more than {at} series; group by fewer values, or raise the limit"
            )));
        }
        self.places.insert(key.clone(), at);
        self.groups.push(Group { key, values, data });
        Ok(at)
    }

    /// Adds what another shard gathered.
    pub(crate) fn merge(&mut self, other: Groups, function: &Function, context: &Context) -> Result<(), ExecError> {
        self.comparison.merge(other.comparison);
        self.picked.merge(other.picked);
        for group in other.groups {
            match self.places.get(&group.key) {
                Some(at) => self.groups[*at].data.merge(function, group.data),
                None => {
                    self.add(group.key, group.values, group.data, context)?;
                }
            }
        }
        Ok(())
    }

    /// All that came of it, sums to nine digits.
    #[cfg(test)]
    pub(crate) fn told(self, function: &FunctionPlan, intervals: &Intervals) -> Vec<String> {
        let told = |one: &Series| {
            let points: Vec<String> = one.cells.iter().map(|(at, v)| format!("{at}={v:.9e}")).collect();
            format!("{:?} {points:?} {:?}", one.labels, one.exemplars)
        };
        self.into_series(function, intervals).iter().map(told).collect()
    }

    fn into_series(self, function: &FunctionPlan, intervals: &Intervals) -> Vec<Series> {
        let mut all = Vec::new();
        if let Some(comparison) = &function.comparison {
            self.comparison.into_series(comparison, intervals, &mut all);
        }
        let mut candidates: RapidHashMap<Vec<u8>, Vec<Candidate>> = RapidHashMap::default();
        for candidate in self.picked.into_candidates() {
            candidates.entry(candidate.group.clone()).or_default().push(candidate);
        }
        if function.comparison.is_some() {
            for selected in [false, true] {
                let of_side = candidates.remove(&vec![u8::from(selected)]).unwrap_or_default();
                if let Some(one) = all.iter_mut().find(|one| compare::holds_exemplars(one, selected)) {
                    one.exemplars
                        .extend(of_side.into_iter().map(|candidate| candidate.exemplar));
                }
            }
        }
        let counts = matches!(function.function, Function::Rate | Function::CountOverTime);
        if counts && self.asked && self.groups.is_empty() && function.by.is_empty() {
            let none = Data::new(&function.function, intervals.len());
            none.into_series(&function.function, Labels::new(), intervals, &mut all);
        }
        for group in self.groups {
            let own = all.len();
            let mut labels: Labels = Vec::new();
            for (field, value) in function.by.iter().zip(&group.values) {
                if !value.is_nil() {
                    labels.push((field.to_string(), value.clone()));
                }
            }
            // A bucket or a quantile is label enough.
            let bare = labels.is_empty() && !matches!(group.data, Data::Buckets(_));
            if let (true, Some(first)) = (bare, function.by.first()) {
                labels.push((first.to_string(), Value::Str("nil".into())));
            }
            group.data.into_series(&function.function, labels, intervals, &mut all);
            for candidate in candidates.remove(&group.key).unwrap_or_default() {
                attach(candidate, &function.function, &mut all[own..]);
            }
        }
        sort(&mut all);
        all
    }
}

/// What is told of a span: the fields that the query looks at.
fn exemplar<S: Spans>(
    function: &FunctionPlan,
    spans: &S,
    span: u32,
    (start, interval): (i64, usize),
    origin: Origin,
) -> Exemplar {
    let fields = function.plan.fields.iter().filter_map(|field| {
        let value = spans.first(span, field);
        (!value.is_nil() && *field != Field::Intrinsic(Intrinsic::TraceId))
            .then(|| (field.to_string(), value.into_owned()))
    });
    let value = match &function.function {
        Function::OverTime(_, field) | Function::Quantile(field, _) => {
            let number = spans.first(span, field).as_number();
            number.map(|n| if is_duration(field) { n / 1e9 } else { n })
        }
        _ => None,
    };
    Exemplar {
        start,
        interval,
        value: value.filter(|_| shows_span(&function.function)),
        origin,
        labels: fields.collect(),
    }
}

/// Hangs an exemplar on the series of its group where it belongs: on its bucket's, on the nearest quantile's, or on the
/// only one.
fn attach(candidate: Candidate, function: &Function, series: &mut [Series]) {
    let Candidate { bucket, exemplar, .. } = candidate;
    let of_label = |one: &Series, label: &str, wanted: f64| {
        let found = one.labels.iter().find(|(name, _)| name == label);
        found.is_some_and(|(_, value)| *value == Value::Float(wanted))
    };
    let place = match (function, bucket, exemplar.value) {
        (Function::Histogram(field), Some(exponent), _) => {
            let wanted = bound(field, exponent);
            series.iter().position(|one| of_label(one, "__bucket", wanted))
        }
        (Function::Quantile(..), _, Some(value)) => {
            let distance = |one: &Series| (one.cells.get(exemplar.interval).unwrap_or(0.0) - value).abs();
            let nearest = series
                .iter()
                .enumerate()
                .min_by(|(_, a), (_, b)| distance(a).total_cmp(&distance(b)));
            nearest.map(|(at, _)| at)
        }
        _ => (!series.is_empty()).then_some(0),
    };
    if let Some(one) = place.and_then(|at| series.get_mut(at)) {
        one.exemplars.push(exemplar);
    }
}

/// What a function sees of a span.
#[derive(Clone, Copy)]
pub(crate) enum Measured {
    One,
    Number(f64),
    /// The exponent of a power of two.
    Bucket(u8),
}

impl Data {
    fn new(function: &Function, intervals: usize) -> Data {
        match function {
            Function::OverTime(OverTime::Min | OverTime::Max, _) => Data::Extreme(Cells::absent(intervals)),
            Function::OverTime(OverTime::Sum | OverTime::Avg, _) => {
                Data::Sums(vec![(Compensated::default(), 0); intervals])
            }
            Function::Quantile(..) | Function::Histogram(_) => Data::Buckets(RapidHashMap::default()),
            Function::Rate | Function::CountOverTime | Function::Compare { .. } => Data::Counts(vec![0; intervals]),
        }
    }

    fn observe(&mut self, function: &Function, interval: usize, measured: Measured) {
        match (self, measured) {
            (Data::Counts(counts), _) => counts[interval] += 1,
            (Data::Extreme(cells), Measured::Number(v)) => extreme(function, cells, interval, v),
            (Data::Sums(sums), Measured::Number(v)) => {
                sums[interval].0.add(v);
                sums[interval].1 += 1;
            }
            (Data::Buckets(buckets), Measured::Bucket(exponent)) => {
                *buckets.entry((interval as u32, exponent)).or_default() += 1;
            }
            _ => {}
        }
    }

    fn merge(&mut self, function: &Function, other: Data) {
        match (self, other) {
            (Data::Counts(a), Data::Counts(b)) => a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
            (Data::Extreme(a), Data::Extreme(b)) => b.iter().for_each(|(at, v)| extreme(function, a, at, v)),
            (Data::Sums(a), Data::Sums(b)) => a.iter_mut().zip(b).for_each(|(a, (sum, count))| {
                a.0.add(sum.total());
                a.1 += count;
            }),
            (Data::Buckets(a), Data::Buckets(b)) => {
                b.into_iter().for_each(|(key, n)| *a.entry(key).or_default() += n);
            }
            _ => {}
        }
    }

    fn into_series(self, function: &Function, labels: Labels, intervals: &Intervals, out: &mut Vec<Series>) {
        let n = intervals.len();
        let named = |mut labels: Labels| {
            if labels.is_empty() {
                labels.push((NAME.to_owned(), Value::Str(function.name().into())));
            }
            labels
        };
        match self {
            Data::Counts(counts) => {
                let per = if *function == Function::Rate {
                    intervals.step_seconds()
                } else {
                    1.0
                };
                let cells = Cells::full(counts.into_iter().map(|c| c as f64 / per).collect());
                out.push(Series {
                    labels: named(labels),
                    cells,
                    exemplars: Vec::new(),
                });
            }
            Data::Extreme(cells) => out.push(Series {
                labels: named(labels),
                cells,
                exemplars: Vec::new(),
            }),
            Data::Sums(sums) => {
                let mut cells = Cells::absent(n);
                let mean = matches!(function, Function::OverTime(OverTime::Avg, _));
                for (at, (sum, count)) in sums.iter().enumerate().filter(|(_, (_, count))| *count > 0) {
                    cells.set(at, if mean { sum.total() / *count as f64 } else { sum.total() });
                }
                out.push(Series {
                    labels: named(labels),
                    cells,
                    exemplars: Vec::new(),
                });
            }
            Data::Buckets(buckets) => {
                let mut sorted: Vec<((u32, u8), u64)> = buckets.into_iter().collect();
                sorted.sort_unstable();
                match function {
                    Function::Quantile(field, quantiles) => {
                        quantile_series(field, quantiles, &sorted, &labels, n, out);
                    }
                    Function::Histogram(field) => histogram_series(field, &sorted, &labels, n, out),
                    _ => {}
                }
            }
        }
    }
}

fn extreme(function: &Function, cells: &mut Cells, at: usize, v: f64) {
    let better = match (cells.get(at), function) {
        (None, _) => true,
        (Some(so_far), Function::OverTime(OverTime::Min, _)) => v < so_far,
        (Some(so_far), _) => v > so_far,
    };
    if better {
        cells.set(at, v);
    }
}

/// The upper bound of a bucket: seconds of a span's duration, else as it is.
fn bound(field: &Field, exponent: u8) -> f64 {
    let bound = 2f64.powi(exponent.into());
    let timed = matches!(
        field,
        Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart)
    );
    if timed { bound / 1e9 } else { bound }
}

fn histogram_series(field: &Field, sorted: &[((u32, u8), u64)], labels: &Labels, n: usize, out: &mut Vec<Series>) {
    let mut exponents: Vec<u8> = sorted.iter().map(|((_, exponent), _)| *exponent).collect();
    exponents.sort_unstable();
    exponents.dedup();
    for exponent in exponents {
        let mut values = vec![0.0; n];
        for ((at, _), count) in sorted.iter().filter(|((_, e), _)| *e == exponent) {
            values[*at as usize] = *count as f64;
        }
        let mut labels = labels.clone();
        labels.push(("__bucket".to_owned(), Value::Float(bound(field, exponent))));
        out.push(Series {
            labels,
            cells: Cells::full(values),
            exemplars: Vec::new(),
        });
    }
}

fn quantile_series(
    field: &Field,
    quantiles: &[f64],
    sorted: &[((u32, u8), u64)],
    labels: &Labels,
    n: usize,
    out: &mut Vec<Series>,
) {
    for q in quantiles {
        let mut values = vec![0.0; n];
        for interval in sorted.chunk_by(|a, b| a.0.0 == b.0.0) {
            let buckets: Vec<(f64, u64)> = interval
                .iter()
                .map(|((_, e), count)| (bound(field, *e), *count))
                .collect();
            if let Some(((at, _), _)) = interval.first() {
                values[*at as usize] = log2_quantile(*q, &buckets);
            }
        }
        let mut labels = labels.clone();
        labels.push(("p".to_owned(), Value::Float(*q)));
        out.push(Series {
            labels,
            cells: Cells::full(values),
            exemplars: Vec::new(),
        });
    }
}

/// The quantile of counts in buckets given by their upper bounds, exponential between the bounds of a bucket; that of the
/// first bucket reaches down to half its upper bound.
pub(crate) fn log2_quantile(q: f64, buckets: &[(f64, u64)]) -> f64 {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let wanted = ((q * total as f64).ceil() as u64).max(1);
    let (mut passed, mut below) = (0, None);
    for (bound, count) in buckets {
        if passed + count == wanted {
            return *bound;
        }
        if passed + count > wanted {
            let part = (wanted - passed) as f64 / *count as f64;
            let top = bound.log2();
            let bottom = below.map_or(top - 1.0, f64::log2);
            return 2f64.powf(bottom + (top - bottom) * part);
        }
        passed += count;
        below = Some(*bound);
    }
    0.0
}
