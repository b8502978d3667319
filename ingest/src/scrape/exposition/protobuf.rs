//! The protobuf exposition: metric families, each with its length before it.
//!
//!     MetricFamily  1 name, 2 help, 3 type, 4 metric*, 5 unit
//!     Metric        1 label*, 2 gauge{1 value}, 3 counter{1 value, 2 exemplar, 3 start}, 4 summary{1 count, 2 sum,
//!                   3 quantile*{1 quantile, 2 value}, 4 start}, 5 untyped{1 value}, 6 time ms, 7 histogram
//!     Histogram     1 count, 4 count double, 2 sum, 3 bucket*{1 count, 4 count double, 2 bound, 3 exemplar}, 15 start,
//!                   5 schema sint32, 6 zero_threshold, 7 zero_count, 8 zero_count double, 9..11 negative spans, deltas,
//!                   counts, 12..14 positive ones, 16 exemplar*
//!     Exemplar      1 label*, 2 value, 3 time{1 seconds, 2 nanos}
//!
//! Summaries and classic histograms are spread to the series that the text formats have. The key of a series is its name, its labels
//! as sent, and what the spread adds.

use std::borrow::Cow;
use std::sync::Arc;

use model::{BucketSpan, Buckets, Histogram, METRIC_NAME, MetricKind, ResetHint};

use super::custom_buckets::Classic;
use super::{About, Exposed, ExposedExemplar, ExposedLabels, ExposedValue, HistogramHabits, Visitor, canonical_float};
use crate::remote_write::histogram::check_count;
use crate::wire::{BadWire, Field, Fields, read_text_pair, read_varint, unzigzag};

/// Buckets of one side that are read.
const BUCKETS_MAX: usize = 65_536;

/// Shows a whole answer.
pub(crate) fn read(body: &[u8], habits: HistogramHabits, visitor: &mut impl Visitor) -> Result<(), String> {
    let mut rest = body;
    let mut key = Vec::new();
    while !rest.is_empty() {
        let at = body.len() - rest.len();
        let cut = || format!("malformed protobuf: truncated metric family at byte {at}");
        let (len, after) = read_varint(rest).ok_or_else(cut)?;
        let len = usize::try_from(len).map_err(|_| cut())?;
        let (message, after) = after.split_at_checked(len).ok_or_else(cut)?;
        family(message, habits, visitor, &mut key).map_err(|fault| match fault {
            Fault::Wire(e) => format!("metric family at byte {at}: {e}"),
            Fault::Words(why) => why,
        })?;
        rest = after;
    }
    Ok(())
}

enum Fault {
    Wire(BadWire),
    Words(String),
}

impl From<BadWire> for Fault {
    fn from(e: BadWire) -> Fault {
        Fault::Wire(e)
    }
}

fn family(message: &[u8], habits: HistogramHabits, visitor: &mut impl Visitor, key: &mut Vec<u8>) -> Result<(), Fault> {
    let (mut name, mut kind, mut is_gauge_histogram) = ("", MetricKind::Unknown, false);
    let (mut help, mut unit) = (None, None);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => name = field.utf8()?,
            2 => help = Some(field.text()?),
            3 => {
                kind = match field.varint()? {
                    0 => MetricKind::Counter,
                    1 => MetricKind::Gauge,
                    2 => MetricKind::Summary,
                    4 => MetricKind::Histogram,
                    5 => MetricKind::GaugeHistogram,
                    _ => MetricKind::Unknown,
                };
                is_gauge_histogram = kind == MetricKind::GaugeHistogram;
            }
            5 => unit = Some(field.text()?),
            _ => {}
        }
    }
    // Counters have number 0, which is not sent.
    if !Fields::new(message).any(|f| f.is_ok_and(|f| f.number == 3)) {
        kind = MetricKind::Counter;
    }
    if name.is_empty() {
        return Err(Fault::Words("a metric family without a name".to_owned()));
    }
    visitor.about(name, About::Kind(kind));
    if let Some(help) = &help {
        visitor.about(name, About::Help(help));
    }
    if let Some(unit) = unit.as_ref().filter(|unit| !unit.is_empty()) {
        visitor.about(name, About::Unit(unit));
    }
    let mut family = Family {
        name,
        is_gauge_histogram,
        habits,
        key,
        visitor,
    };
    for field in Fields::new(message) {
        let field = field?;
        if field.number == 4 {
            family.metric(field.bytes()?)?;
        }
    }
    Ok(())
}

struct Family<'a, V> {
    name: &'a str,
    is_gauge_histogram: bool,
    habits: HistogramHabits,
    key: &'a mut Vec<u8>,
    visitor: &'a mut V,
}

/// The labels of one series: those sent, and perhaps one of the spread.
struct Labels<'a> {
    name: &'a str,
    suffix: &'a str,
    pairs: &'a [(&'a str, &'a str)],
    more: Option<(&'a str, f64)>,
}

impl ExposedLabels for Labels<'_> {
    fn each(&self, see: &mut dyn FnMut(&str, &str)) -> Result<(), String> {
        see(METRIC_NAME, &format!("{}{}", self.name, self.suffix));
        for (name, value) in self.pairs {
            see(name, value);
        }
        if let Some((name, value)) = self.more {
            let mut text = String::new();
            canonical_float(value, &mut text);
            see(name, &text);
        }
        Ok(())
    }
}

impl<V: Visitor> Family<'_, V> {
    fn metric(&mut self, message: &[u8]) -> Result<(), Fault> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        let mut t = None;
        self.key.clear();
        self.key.extend_from_slice(self.name.as_bytes());
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => {
                    let bytes = field.bytes()?;
                    self.key.push(0xff);
                    self.key.extend_from_slice(bytes);
                    pairs.push(read_text_pair(bytes)?);
                }
                6 => t = Some(field.varint()? as i64).filter(|t| *t != 0),
                _ => {}
            }
        }
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                2 | 5 => self.number(field.bytes()?, &pairs, t)?,
                3 => self.number(field.bytes()?, &pairs, t)?,
                4 => self.summary(field.bytes()?, &pairs, t)?,
                7 => self.histogram(field.bytes()?, &pairs, t)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows one series of the metric.
    fn show(
        &mut self,
        (suffix, more): (&str, Option<(&str, f64)>),
        pairs: &[(&str, &str)],
        value: ExposedValue,
        (t, start): (Option<i64>, Option<i64>),
        exemplars: &[ExposedExemplar<'_>],
    ) -> Result<(), Fault> {
        let len = self.key.len();
        self.key.push(0xfe);
        self.key.extend_from_slice(suffix.as_bytes());
        if let Some((_, v)) = more {
            self.key.extend_from_slice(&v.to_le_bytes());
        }
        let labels = Labels {
            name: self.name,
            suffix,
            pairs,
            more,
        };
        let shown = self.visitor.sample(&Exposed {
            key: self.key,
            labels: &labels,
            value,
            t,
            start,
            exemplars,
        });
        self.key.truncate(len);
        shown.map_err(Fault::Words)
    }

    /// A gauge, counter or untyped value.
    fn number(&mut self, message: &[u8], pairs: &[(&str, &str)], t: Option<i64>) -> Result<(), Fault> {
        let (mut value, mut start, mut exemplars) = (0.0, None, Vec::new());
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => value = field.double()?,
                2 => exemplars.extend(exemplar(field.bytes()?)?),
                3 => start = Some(time(field.bytes()?)?),
                _ => {}
            }
        }
        self.show(("", None), pairs, ExposedValue::Float(value), (t, start), &exemplars)
    }

    fn summary(&mut self, message: &[u8], pairs: &[(&str, &str)], t: Option<i64>) -> Result<(), Fault> {
        let (mut count, mut sum, mut start, mut quantiles) = (0.0, 0.0, None, Vec::new());
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => count = field.varint()? as f64,
                2 => sum = field.double()?,
                3 => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    for field in Fields::new(field.bytes()?) {
                        let field = field?;
                        match field.number {
                            1 => quantile = field.double()?,
                            2 => value = field.double()?,
                            _ => {}
                        }
                    }
                    quantiles.push((quantile, value));
                }
                4 => start = Some(time(field.bytes()?)?),
                _ => {}
            }
        }
        self.show(("_count", None), pairs, ExposedValue::Float(count), (t, start), &[])?;
        self.show(("_sum", None), pairs, ExposedValue::Float(sum), (t, start), &[])?;
        for (quantile, value) in quantiles {
            let more = Some(("quantile", quantile));
            self.show(("", more), pairs, ExposedValue::Float(value), (t, None), &[])?;
        }
        Ok(())
    }

    fn histogram(&mut self, message: &[u8], pairs: &[(&str, &str)], t: Option<i64>) -> Result<(), Fault> {
        let mut h = Sent::default();
        for field in Fields::new(message) {
            h.field(&field?)?;
        }
        let is_native = h.is_native && self.habits.native;
        let is_joined = !is_native && self.habits.custom_buckets;
        let is_classic = match (is_native, is_joined) {
            (true, _) => !h.buckets.is_empty() && self.habits.classic_too,
            (_, true) => self.habits.classic_too,
            _ => true,
        };
        let times = (t, h.start);
        if is_classic {
            self.show(("_count", None), pairs, ExposedValue::Float(h.count), times, &[])?;
            self.show(("_sum", None), pairs, ExposedValue::Float(h.sum), times, &[])?;
            let mut has_inf = false;
            for (bound, count, exemplars) in &h.buckets {
                has_inf |= *bound == f64::INFINITY;
                let more = Some(("le", *bound));
                self.show(("_bucket", more), pairs, ExposedValue::Float(*count), times, exemplars)?;
            }
            if !has_inf {
                let more = Some(("le", f64::INFINITY));
                self.show(("_bucket", more), pairs, ExposedValue::Float(h.count), times, &[])?;
            }
        }
        if is_native {
            let (histogram, exemplars) = h.native(self.is_gauge_histogram).map_err(Fault::Words)?;
            let value = ExposedValue::Histogram(Box::new(histogram));
            self.show(("", None), pairs, value, times, &exemplars)?;
        } else if is_joined && let Some(mut histogram) = h.classic().to_custom() {
            if self.is_gauge_histogram {
                histogram.reset = ResetHint::Gauge;
            }
            let value = ExposedValue::Histogram(Box::new(histogram));
            self.show(("", None), pairs, value, times, &h.placed_exemplars())?;
        }
        Ok(())
    }
}

/// A histogram as sent.
#[derive(Default)]
struct Sent<'a> {
    count: f64,
    is_float: bool,
    sum: f64,
    buckets: Vec<(f64, f64, Vec<ExposedExemplar<'a>>)>,
    start: Option<i64>,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    positive: Side,
    negative: Side,
    exemplars: Vec<ExposedExemplar<'a>>,
    is_native: bool,
    too_many: bool,
}

#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    last: i64,
    whole: Vec<f64>,
    floats: Vec<f64>,
}

impl<'a> Sent<'a> {
    fn field(&mut self, field: &Field<'a>) -> Result<(), Fault> {
        match field.number {
            1 => self.count = field.varint()? as f64,
            2 => self.sum = field.double()?,
            3 => self.bucket(field.bytes()?)?,
            4 => {
                let count = field.double()?;
                if count > 0.0 {
                    (self.is_float, self.count) = (true, count);
                }
            }
            5 => self.schema = field.sint32()?,
            6 => {
                self.zero_threshold = field.double()?;
                self.is_native |= self.zero_threshold > 0.0;
            }
            7 => {
                self.zero_count = field.varint()? as f64;
                self.is_native |= self.zero_count > 0.0;
            }
            8 => {
                let count = field.double()?;
                if count > 0.0 {
                    self.zero_count = count;
                    self.is_native = true;
                }
            }
            9 => self.is_native |= self.negative.span(field.bytes()?)?,
            10 => self.negative.deltas(field)?,
            11 => field.each_fixed64(|v| self.negative.floats.push(f64::from_bits(v)))?,
            12 => self.is_native |= self.positive.span(field.bytes()?)?,
            13 => self.positive.deltas(field)?,
            14 => field.each_fixed64(|v| self.positive.floats.push(f64::from_bits(v)))?,
            15 => self.start = Some(time(field.bytes()?)?),
            16 => self.exemplars.extend(exemplar(field.bytes()?)?),
            _ => {}
        }
        self.too_many |= self.positive.len() > BUCKETS_MAX || self.negative.len() > BUCKETS_MAX;
        Ok(())
    }

    fn bucket(&mut self, message: &'a [u8]) -> Result<(), Fault> {
        let (mut bound, mut count, mut exemplars) = (0.0, 0.0, Vec::new());
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => count = field.varint()? as f64,
                2 => bound = field.double()?,
                3 => exemplars.extend(exemplar(field.bytes()?)?),
                4 => {
                    let float = field.double()?;
                    count = if float > 0.0 { float } else { count };
                }
                _ => {}
            }
        }
        self.buckets.push((bound, count, exemplars));
        Ok(())
    }

    /// The native histogram and its exemplars; those of classic buckets where it has none of its own.
    fn native(mut self, is_gauge: bool) -> Result<(Histogram, Vec<ExposedExemplar<'a>>), String> {
        if self.too_many {
            return Err(format!(
                "a native histogram has more than {BUCKETS_MAX} buckets on one side"
            ));
        }
        let exemplars = self.placed_exemplars();
        let reduced = self.schema > SCHEMA_MAX && self.schema <= SCHEMA_REDUCED_MAX;
        let mut histogram = Histogram {
            reset: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            schema: if reduced { SCHEMA_MAX } else { self.schema },
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count,
            count: self.count,
            sum: self.sum,
            positive: self.positive.buckets(self.is_float),
            negative: self.negative.buckets(self.is_float),
            bounds: Arc::new([]),
        };
        histogram
            .validate()
            .map_err(|e| format!("invalid native histogram: {e}"))?;
        if !self.is_float {
            check_count(&histogram).map_err(|e| format!("invalid native histogram: {e}"))?;
        }
        if reduced {
            histogram.schema = self.schema;
            histogram.reduce_to(SCHEMA_MAX);
        }
        Ok((histogram, exemplars))
    }

    /// Its classic form.
    fn classic(&self) -> Classic {
        Classic {
            buckets: self.buckets.iter().map(|(bound, count, _)| (*bound, *count)).collect(),
            sum: self.sum,
            count: Some(self.count),
        }
    }

    /// Its exemplars; those of classic buckets where it has none of its own.
    fn placed_exemplars(&mut self) -> Vec<ExposedExemplar<'a>> {
        let mut exemplars = std::mem::take(&mut self.exemplars);
        if exemplars.is_empty() {
            let buckets = self.buckets.iter_mut();
            exemplars = buckets
                .flat_map(|(_, _, exemplars)| std::mem::take(exemplars))
                .collect();
        }
        // In a native histogram an exemplar's place in time is all that orders it.
        exemplars.retain(|e| e.t.is_some());
        exemplars
    }
}

/// The finest schema that is stored, and the finest that is understood and reduced to it.
const SCHEMA_MAX: i32 = 8;
const SCHEMA_REDUCED_MAX: i32 = 52;

impl Side {
    fn len(&self) -> usize {
        self.spans.len().max(self.whole.len()).max(self.floats.len())
    }

    /// Whether there is a run at all, be it empty.
    fn span(&mut self, message: &[u8]) -> Result<bool, Fault> {
        let (mut offset, mut length) = (0, 0);
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => offset = field.sint32()?,
                2 => length = field.varint()? as u32,
                _ => {}
            }
        }
        // One without length says only that this is a native histogram.
        if length > 0 || offset != 0 {
            self.spans.push(BucketSpan { offset, length });
        }
        Ok(true)
    }

    fn deltas(&mut self, field: &Field<'_>) -> Result<(), Fault> {
        field.each_varint(|v| {
            self.last = self.last.wrapping_add(unzigzag(v));
            self.whole.push(self.last as f64);
        })?;
        Ok(())
    }

    fn buckets(self, is_float: bool) -> Buckets {
        Buckets {
            spans: self.spans,
            counts: if is_float { self.floats } else { self.whole },
        }
    }
}

fn exemplar(message: &[u8]) -> Result<Option<ExposedExemplar<'_>>, BadWire> {
    let mut exemplar = ExposedExemplar {
        labels: Vec::new(),
        value: 0.0,
        t: None,
    };
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => {
                let (name, value) = read_text_pair(field.bytes()?)?;
                exemplar.labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
            2 => exemplar.value = field.double()?,
            3 => exemplar.t = Some(time(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(Some(exemplar))
}

/// A timestamp message, in ms.
fn time(message: &[u8]) -> Result<i64, BadWire> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => seconds = field.varint()? as i64,
            2 => nanos = i64::from(field.int32()?),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}
