//! OTLP metrics to samples and native histograms, as Prometheus 3 translates them.
//!
//! The request is walked on the wire, envelope by envelope: a first look at a message finds what its items need to know
//! (resource, scope, name, unit, temporality), a second look reads the items. Protobuf allows any order of fields, so the
//! two looks are not one. Labels go straight from the body into the batch's arena.
//!
//! Points of delta temporality become totals first (`delta.rs`), the first of a stream with a zero before it. Refused, point by point and told to the client:
//! unspecified temporality, histograms that do not add up, delta points that cannot be added any more, metrics whose name
//! has no usable character.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{
    Histogram, HistogramSample, METRIC_NAME, MetricKind, MetricMetadata, SampleBatch, SeriesIx, TimestampMs, stale_nan,
};

use super::any_value::{ATTRIBUTES_MAX, BadValue, read_pair};
use super::delta::{Deltas, Total, When};
use super::metric_exemplar::read_exemplar;
use super::metric_labels::{Origin, Pair, as_labels, scope_labels};
use super::metric_names::{NamedAs, metric_name, unit_name};
use super::native::{Explicit, Exponential, Side};
use super::translation::OtlpMetrics;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::wire::{BadWire, Field, Fields};

/// Name and help of the series that carries a resource's attributes.
const TARGET_INFO: (&str, &str) = ("target_info", "Target metadata");
/// Between two samples of `target_info`: half of PromQL's look-back.
const TARGET_INFO_STEP_MS: i64 = 150_000;
/// Samples of `target_info` in one request; beyond, only the last of each resource is written.
const TARGET_INFO_SAMPLES_MAX: i64 = 20_000;
/// Exemplars read of one data point.
const EXEMPLARS_MAX: usize = 1000;
/// Bit 0 of a data point's flags: the series ended.
const NO_RECORDED_VALUE: u64 = 1;
/// The values of `AggregationTemporality`.
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// How metrics are translated, and what their delta streams have counted. Shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    pub options: OtlpMetrics,
    deltas: Mutex<Deltas>,
}

impl Translator {
    /// With nothing counted yet.
    pub fn new(options: OtlpMetrics) -> Translator {
        Translator {
            options,
            deltas: Mutex::default(),
        }
    }

    /// The delta streams.
    pub fn deltas(&self) -> MutexGuard<'_, Deltas> {
        // A panic amid an addition spoils one stream's total at most.
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes an `ExportMetricsServiceRequest` that came at `now`, ms. The batch holds at most `bytes_max`.
    pub fn decode(&self, request: &[u8], now: TimestampMs, bytes_max: usize) -> Result<(SampleBatch, Report), Refusal> {
        let mut translation = Translation {
            translator: self,
            now,
            batch: SampleBatch::default(),
            report: Report::default(),
            room: Room::new(bytes_max),
            attributes: Vec::new(),
            pairs: Vec::new(),
            text: String::new(),
            exemplars: Vec::new(),
            target_info_left: TARGET_INFO_SAMPLES_MAX,
        };
        for field in Fields::new(request) {
            let field = field?;
            if field.number == 1 {
                translation.resource_metrics(field.bytes()?)?;
            }
        }
        Ok((translation.batch, translation.report))
    }
}

struct Translation<'a, 'o> {
    translator: &'o Translator,
    now: TimestampMs,
    batch: SampleBatch,
    report: Report,
    room: Room,
    /// Labels of the current data point, from its attributes.
    attributes: Vec<Pair<'a>>,
    /// Scratch for the labels of one series.
    pairs: Vec<(&'static str, &'static str)>,
    /// Scratch for a bound or quantile.
    text: String,
    /// Exemplars of the current data point: message bodies.
    exemplars: Vec<&'a [u8]>,
    target_info_left: i64,
}

/// A metric, but for its points.
struct Family<'a> {
    raw_name: Cow<'a, str>,
    kind: Kind,
    delta: bool,
    name: String,
    /// `name` with `_sum`, `_count`, `_bucket`, where the kind has them.
    sum: String,
    count: String,
    bucket: String,
}

/// What a metric is; the numbers are those of the fields of `Metric`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge = 5,
    Counter = 7,
    UpDown = 70,
    Histogram = 9,
    Exponential = 10,
    Summary = 11,
}

/// What a data point says beside its attributes and exemplars.
#[derive(Default)]
struct Point {
    /// Begin and end, ns.
    start_ns: u64,
    t_ns: u64,
    t: TimestampMs,
    stale: bool,
    value: f64,
    count: u64,
}

/// Why a point is not taken.
enum BadPoint {
    Value(BadValue),
    Unfit(String),
}

impl From<BadValue> for BadPoint {
    fn from(e: BadValue) -> BadPoint {
        BadPoint::Value(e)
    }
}

impl From<BadWire> for BadPoint {
    fn from(e: BadWire) -> BadPoint {
        BadPoint::Value(e.into())
    }
}

impl BadPoint {
    /// What is wrong with the point, in words; an error if it is the whole request.
    fn of_item(self) -> Result<String, Refusal> {
        match self {
            BadPoint::Value(bad) => bad.of_item(),
            BadPoint::Unfit(words) => Ok(words),
        }
    }
}

impl<'a> Translation<'a, '_> {
    fn resource_metrics(&mut self, message: &'a [u8]) -> Result<(), Refusal> {
        let mut attributes: Vec<Pair<'a>> = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 1 {
                self.attributes_of(field.bytes()?, 1, &mut attributes)?;
            }
        }
        let mut origin = Origin::new(attributes, &self.translator.options);
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 2 {
                continue;
            }
            let scope_metrics = field.bytes()?;
            if self.translator.options.promote_scope_metadata {
                origin.scope = self.scope(scope_metrics)?;
            }
            for field in Fields::new(scope_metrics) {
                let field = field?;
                if field.number == 2 {
                    self.metric(field.bytes()?, &mut origin)?;
                }
            }
        }
        origin.scope.clear();
        origin.promoted.clear();
        self.target_info(&origin)
    }

    /// Labels from the scope of a `ScopeMetrics`.
    fn scope(&mut self, message: &'a [u8]) -> Result<Vec<Pair<'a>>, Refusal> {
        let (mut name, mut version, mut schema_url) = (Cow::Borrowed(""), Cow::Borrowed(""), Cow::Borrowed(""));
        let mut attributes = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => {
                    let scope = field.bytes()?;
                    for field in Fields::new(scope) {
                        let field = field?;
                        match field.number {
                            1 => name = field.text()?,
                            2 => version = field.text()?,
                            _ => {}
                        }
                    }
                    self.attributes_of(scope, 3, &mut attributes)?;
                }
                3 => schema_url = field.text()?,
                _ => {}
            }
        }
        let options = &self.translator.options;
        Ok(scope_labels(name, version, schema_url, attributes, options))
    }

    /// Attributes of a resource or scope, in the fields of this number.
    fn attributes_of(&mut self, message: &'a [u8], number: u32, out: &mut Vec<Pair<'a>>) -> Result<(), Refusal> {
        for field in Fields::new(message) {
            let field = field?;
            if field.number == number {
                self.attribute(field.bytes()?, out)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, message: &'a [u8], origin: &mut Origin<'a>) -> Result<(), Refusal> {
        let (mut name, mut help, mut unit) = (Cow::Borrowed(""), Cow::Borrowed(""), Cow::Borrowed(""));
        let mut data = None;
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => name = field.text()?,
                2 => help = field.text()?,
                3 => unit = field.text()?,
                5 | 7 | 9 | 10 | 11 => data = Some((field.number, field.bytes()?)),
                _ => {}
            }
        }
        let Some((number, data)) = data else { return Ok(()) };
        let mut points = 0;
        let mut temporality = 0;
        let mut monotonic = false;
        for field in Fields::new(data) {
            let field = field?;
            match field.number {
                1 => points += 1,
                2 if matches!(number, 7 | 9 | 10) => temporality = field.int32()?,
                3 if number == 7 => monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        self.report.items += points;
        if points == 0 {
            return Ok(());
        }
        let kind = match number {
            5 => Kind::Gauge,
            7 if monotonic => Kind::Counter,
            7 => Kind::UpDown,
            9 => Kind::Histogram,
            10 => Kind::Exponential,
            _ => Kind::Summary,
        };
        let options = &self.translator.options;
        if let Some(reason) = refused_temporality(kind, temporality, options.convert_delta) {
            self.report.reject(points, || format!("{name}: {reason}"));
            return Ok(());
        }
        let (named_as, metric_kind) = match kind {
            Kind::Gauge => (NamedAs::Gauge, MetricKind::Gauge),
            Kind::Counter => (NamedAs::Counter, MetricKind::Counter),
            Kind::UpDown => (NamedAs::Other, MetricKind::Gauge),
            Kind::Histogram | Kind::Exponential => (NamedAs::Other, MetricKind::Histogram),
            Kind::Summary => (NamedAs::Other, MetricKind::Summary),
        };
        let Some(translated) = metric_name(options.translation_strategy, &name, &unit, named_as) else {
            self.report.reject(points, || {
                format!("metric name {name:?} has no letter or digit to make a Prometheus name of")
            });
            return Ok(());
        };
        let derived = |suffix| match kind {
            Kind::Histogram | Kind::Summary => format!("{translated}{suffix}"),
            _ => String::new(),
        };
        let family = Family {
            kind,
            delta: temporality == DELTA && kind.has_temporality(),
            sum: derived("_sum"),
            count: derived("_count"),
            bucket: derived("_bucket"),
            raw_name: name,
            name: translated,
        };
        self.room.take(family.name.len() + help.len() + METADATA_BYTES)?;
        self.batch.metadata(
            family.name.as_str(),
            MetricMetadata {
                kind: metric_kind,
                unit: unit_name(&unit),
                help: help.into_owned(),
            },
        );
        for field in Fields::new(data) {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            let point = field.bytes()?;
            let taken = match kind {
                Kind::Histogram => self.histogram(point, &family, origin),
                Kind::Exponential => self.exponential(point, &family, origin),
                Kind::Summary => self.summary(point, &family, origin),
                Kind::Gauge | Kind::Counter | Kind::UpDown => self.number(point, &family, origin),
            };
            match taken {
                Ok(t) => origin.saw(t),
                Err(bad) => {
                    let words = bad.of_item()?;
                    self.report.reject(1, || format!("{}: {words}", family.raw_name));
                }
            }
            self.room.check(self.batch.bytes())?;
        }
        Ok(())
    }

    fn number(&mut self, message: &'a [u8], family: &Family<'a>, origin: &Origin<'a>) -> Result<TimestampMs, BadPoint> {
        self.begin_point();
        let mut point = Point::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                4 => point.value = field.double()?,
                6 => point.value = field.fixed64()? as i64 as f64,
                5 if family.kind != Kind::Gauge => self.keep_exemplar(field.bytes()?),
                7 => self.point_attribute(field.bytes()?)?,
                8 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        let series = self.series(&family.name, None, origin);
        if family.delta && !point.stale {
            let monotonic = family.kind == Kind::Counter;
            let change = Total::Sum {
                value: point.value,
                monotonic,
            };
            let (total, zero) = self.total(series, &mut point, change)?;
            if let Some(zero) = zero {
                self.put(series, &point.at(zero), 0.0);
            }
            if let Total::Sum { value, .. } = total {
                point.value = value;
            }
        }
        if family.kind != Kind::Counter {
            point.start_ns = 0;
        }
        self.put(series, &point, point.value);
        for at in 0..self.exemplars.len() {
            let exemplar = read_exemplar(self.exemplars[at], point.t)?;
            self.batch.exemplar(series, exemplar);
        }
        Ok(point.t)
    }

    fn histogram(
        &mut self,
        message: &'a [u8],
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        self.begin_point();
        let mut point = Point::default();
        let mut explicit = Explicit::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                4 => explicit.count = field.fixed64()?,
                5 => explicit.sum = Some(field.double()?),
                6 => field.each_fixed64(|count| explicit.counts.push(count))?,
                7 => field.each_fixed64(|bound| explicit.bounds.push(f64::from_bits(bound)))?,
                8 => self.keep_exemplar(field.bytes()?),
                9 => self.point_attribute(field.bytes()?)?,
                10 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        if family.delta && !point.stale {
            let series = self.series(&family.name, None, origin);
            let change = Total::Explicit(std::mem::take(&mut explicit));
            let (total, zero) = self.total(series, &mut point, change)?;
            if let Some(zero) = zero
                && let Total::Explicit(empty) = total.emptied()
            {
                let exemplars = std::mem::take(&mut self.exemplars);
                self.explicit(&empty, &point.at(zero), family, origin)?;
                self.exemplars = exemplars;
            }
            if let Total::Explicit(total) = total {
                explicit = total;
            }
        }
        self.explicit(&explicit, &point, family, origin)
    }

    /// A histogram with explicit buckets, in either of its forms.
    fn explicit(
        &mut self,
        explicit: &Explicit,
        point: &Point,
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        if self.translator.options.convert_histograms_to_nhcb {
            let histogram = if point.stale {
                Histogram::stale()
            } else {
                explicit.to_native().map_err(BadPoint::Unfit)?
            };
            return self.native(histogram, point, family, origin);
        }
        self.buckets(explicit, point, family, origin)
    }

    /// A histogram as series, one for each bucket.
    fn buckets(
        &mut self,
        explicit: &Explicit,
        point: &Point,
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        if let Some(sum) = explicit.sum {
            self.sample(&family.sum, None, origin, point, sum);
        }
        self.sample(&family.count, None, origin, point, explicit.count as f64);
        let mut buckets: Vec<(f64, SeriesIx)> = Vec::new();
        let mut cumulative = 0u64;
        let mut text = std::mem::take(&mut self.text);
        for (&bound, &count) in explicit.bounds.iter().zip(&explicit.counts) {
            cumulative = cumulative.saturating_add(count);
            if !bound.is_finite() {
                continue;
            }
            text.clear();
            let _ = write!(text, "{bound}");
            let series = self.sample(&family.bucket, Some(("le", &text)), origin, point, cumulative as f64);
            if !self.exemplars.is_empty() {
                buckets.push((bound, series));
            }
            self.room.check(self.batch.bytes()).map_err(BadValue::Room)?;
        }
        self.text = text;
        let le = Some(("le", "+Inf"));
        let infinite = self.sample(&family.bucket, le, origin, point, explicit.count as f64);
        self.bucket_exemplars(&buckets, infinite, point.t)?;
        Ok(point.t)
    }

    /// Each exemplar goes to the first bucket that holds its value.
    fn bucket_exemplars(
        &mut self,
        buckets: &[(f64, SeriesIx)],
        infinite: SeriesIx,
        t: TimestampMs,
    ) -> Result<(), BadValue> {
        let mut exemplars = Vec::with_capacity(self.exemplars.len());
        for message in &self.exemplars {
            exemplars.push(read_exemplar(message, t)?);
        }
        exemplars.sort_by(|a, b| a.value.total_cmp(&b.value));
        for exemplar in exemplars {
            let at = buckets.iter().find(|(bound, _)| *bound >= exemplar.value);
            self.batch
                .exemplar(at.map_or(infinite, |(_, series)| *series), exemplar);
        }
        Ok(())
    }

    fn exponential(
        &mut self,
        message: &'a [u8],
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        self.begin_point();
        let mut point = Point::default();
        let mut sent = Exponential::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => self.point_attribute(field.bytes()?)?,
                4 => sent.count = field.fixed64()?,
                5 => sent.sum = Some(field.double()?),
                6 => sent.scale = field.sint32()?,
                7 => sent.zero_count = field.fixed64()?,
                8 => sent.positive = Side::read(field.bytes()?)?,
                9 => sent.negative = Side::read(field.bytes()?)?,
                10 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                11 => self.keep_exemplar(field.bytes()?),
                14 => sent.zero_threshold = field.double()?,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        if point.stale {
            return self.native(Histogram::stale(), &point, family, origin);
        }
        if sent.count == 0 && sent.sum.is_some_and(|sum| sum != 0.0) {
            let name = &family.raw_name;
            self.report
                .warn(|| format!("{name}: a histogram without observations has a sum"));
        }
        let mut histogram = sent.to_native().map_err(BadPoint::Unfit)?;
        if family.delta {
            let series = self.series(&family.name, None, origin);
            let (total, zero) = self.total(series, &mut point, Total::Native(Box::new(histogram)))?;
            if let Some(zero) = zero
                && let Total::Native(empty) = total.emptied()
            {
                let exemplars = std::mem::take(&mut self.exemplars);
                self.native(*empty, &point.at(zero), family, origin)?;
                self.exemplars = exemplars;
            }
            match total {
                Total::Native(total) => histogram = *total,
                Total::Sum { .. } | Total::Explicit(_) => return Ok(point.t),
            }
        }
        self.native(histogram, &point, family, origin)
    }

    /// A histogram as one series of native histograms.
    fn native(
        &mut self,
        histogram: Histogram,
        point: &Point,
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        let series = self.series(&family.name, None, origin);
        let sample = HistogramSample {
            t: point.t,
            start: point.start().unwrap_or_default(),
            histogram: Arc::new(histogram),
        };
        self.batch.histogram(series, sample);
        for at in 0..self.exemplars.len() {
            let exemplar = read_exemplar(self.exemplars[at], point.t)?;
            self.batch.exemplar(series, exemplar);
        }
        Ok(point.t)
    }

    /// What a delta stream has counted with this point's change, and when it had counted nothing yet, if it begins with
    /// this point; the point's start becomes the stream's.
    fn total(
        &mut self,
        series: SeriesIx,
        point: &mut Point,
        change: Total,
    ) -> Result<(Total, Option<TimestampMs>), BadPoint> {
        let when = When {
            start: point.start_ns,
            t: point.t_ns,
            came: self.now.0,
        };
        let mut deltas = self.translator.deltas();
        let added =
            (deltas.add(self.batch.labels(series).0, when, change)).map_err(|why| BadPoint::Unfit(why.to_string()))?;
        point.start_ns = added.start;
        Ok((added.total.clone(), added.zero))
    }

    fn summary(
        &mut self,
        message: &'a [u8],
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadPoint> {
        self.begin_point();
        let mut point = Point::default();
        let mut quantiles: Vec<(f64, f64)> = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                4 => point.count = field.fixed64()?,
                5 => point.value = field.double()?,
                6 => quantiles.push(read_quantile(field.bytes()?)?),
                7 => self.point_attribute(field.bytes()?)?,
                8 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        self.sample(&family.sum, None, origin, &point, point.value);
        self.sample(&family.count, None, origin, &point, point.count as f64);
        let mut text = std::mem::take(&mut self.text);
        for (quantile, value) in quantiles {
            text.clear();
            let _ = write!(text, "{quantile}");
            self.sample(&family.name, Some(("quantile", &text)), origin, &point, value);
            self.room.check(self.batch.bytes()).map_err(BadValue::Room)?;
        }
        self.text = text;
        Ok(point.t)
    }

    fn target_info(&mut self, origin: &Origin<'a>) -> Result<(), Refusal> {
        let Some((first, last)) = origin.seen else {
            return Ok(());
        };
        if origin.info.is_empty() || (origin.job.is_empty() && origin.instance.is_empty()) {
            return Ok(());
        }
        self.attributes.clear();
        self.attributes.extend(origin.info.iter().cloned());
        let (name, help) = TARGET_INFO;
        self.batch.metadata(
            name,
            MetricMetadata {
                kind: MetricKind::Gauge,
                unit: String::new(),
                help: help.to_owned(),
            },
        );
        let series = self.series(name, None, origin);
        self.batch.sample(series, TimestampMs(last), 1.0);
        let steps = (last.saturating_sub(first) - 1).div_euclid(TARGET_INFO_STEP_MS) + 1;
        if (1..=self.target_info_left).contains(&steps) {
            self.target_info_left -= steps;
            for step in 0..steps {
                let t = TimestampMs(first + step * TARGET_INFO_STEP_MS);
                self.batch.sample(series, t, 1.0);
            }
        }
        self.room.check(self.batch.bytes())
    }

    fn begin_point(&mut self) {
        self.attributes.clear();
        self.exemplars.clear();
    }

    fn keep_exemplar(&mut self, message: &'a [u8]) {
        if self.exemplars.len() < EXEMPLARS_MAX {
            self.exemplars.push(message);
        }
    }

    fn point_attribute(&mut self, message: &'a [u8]) -> Result<(), BadValue> {
        if self.attributes.len() >= ATTRIBUTES_MAX {
            return Err(BadValue::TooMany);
        }
        let (key, value) = read_pair(message)?;
        self.attributes.push((key, value.into_text()?));
        Ok(())
    }

    /// An attribute of a resource; a bad one is left out with a warning, for the points are sound.
    fn attribute(&mut self, message: &'a [u8], attributes: &mut Vec<Pair<'a>>) -> Result<(), Refusal> {
        let (key, value) = read_pair(message)?;
        let value = match value.into_text() {
            Ok(_) if attributes.len() >= ATTRIBUTES_MAX => Err(BadValue::TooMany),
            other => other,
        };
        match value {
            Ok(value) => attributes.push((key, value)),
            Err(bad) => {
                let words = bad.of_item()?;
                self.report.warn(|| format!("resource attribute left out: {words}"));
            }
        }
        Ok(())
    }

    fn finish_attributes(&mut self) {
        let attributes = std::mem::take(&mut self.attributes);
        self.attributes = as_labels(attributes, &self.translator.options);
    }

    /// Adds a series with the current point's labels. The later label of one name wins, so the order here is the order
    /// of precedence.
    fn series(&mut self, name: &str, extra: Option<(&str, &str)>, origin: &Origin<'a>) -> SeriesIx {
        let mut pairs = recycled(std::mem::take(&mut self.pairs));
        let own = origin.promoted.iter().chain(&self.attributes);
        pairs.extend(own.map(|(n, v)| (n.as_ref(), v.as_ref())));
        for (label, value) in [("job", origin.job.as_str()), ("instance", origin.instance.as_str())] {
            if !value.is_empty() {
                pairs.push((label, value));
            }
        }
        pairs.extend(origin.scope.iter().map(|(n, v)| (n.as_ref(), v.as_ref())));
        pairs.extend(extra);
        pairs.push((METRIC_NAME, name));
        let series = self.batch.series(&mut pairs);
        self.pairs = recycled(pairs);
        series
    }

    /// Adds a series and its sample at the point's time.
    fn sample(
        &mut self,
        name: &str,
        extra: Option<(&str, &str)>,
        origin: &Origin<'a>,
        point: &Point,
        v: f64,
    ) -> SeriesIx {
        let series = self.series(name, extra, origin);
        self.put(series, point, v);
        series
    }

    fn put(&mut self, series: SeriesIx, point: &Point, v: f64) {
        let v = if point.stale { stale_nan() } else { v };
        match point.start() {
            Some(start) => self.batch.sample_from(series, point.t, v, start),
            None => self.batch.sample(series, point.t, v),
        }
    }
}

/// Memory of a family's metadata beside its texts, about.
const METADATA_BYTES: usize = 96;

impl Kind {
    fn has_temporality(self) -> bool {
        !matches!(self, Kind::Gauge | Kind::Summary)
    }
}

impl Point {
    fn see_time(&mut self, field: Field<'_>) -> Result<(), BadWire> {
        match field.number {
            2 => self.start_ns = field.fixed64()?,
            3 => {
                self.t_ns = field.fixed64()?;
                self.t = ms_of(self.t_ns);
            }
            _ => {}
        }
        Ok(())
    }

    /// A point of the same counting at another time.
    fn at(&self, t: TimestampMs) -> Point {
        Point {
            start_ns: self.start_ns,
            t,
            ..Point::default()
        }
    }

    /// When the counting began, if that is known and makes sense.
    fn start(&self) -> Option<TimestampMs> {
        let start = ms_of(self.start_ns);
        (start.0 > 0 && start <= self.t && !self.stale).then_some(start)
    }
}

/// The millisecond of an OTLP time.
pub(crate) fn ms_of(unix_nano: u64) -> TimestampMs {
    TimestampMs((unix_nano / 1_000_000) as i64)
}

fn refused_temporality(kind: Kind, temporality: i32, convert_delta: bool) -> Option<&'static str> {
    match temporality {
        _ if !kind.has_temporality() => None,
        CUMULATIVE => None,
        DELTA if convert_delta => None,
        DELTA => Some(
            "delta temporality is not converted (--otlp-convert-delta off); set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative",
        ),
        _ => Some("aggregation temporality is unspecified; it must be cumulative or delta"),
    }
}

fn read_quantile(message: &[u8]) -> Result<(f64, f64), BadWire> {
    let (mut quantile, mut value) = (0.0, 0.0);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => quantile = field.double()?,
            2 => value = field.double()?,
            _ => {}
        }
    }
    Ok((quantile, value))
}

/// The same allocation for pairs of another lifetime.
pub(crate) fn recycled<'b>(mut pairs: Vec<(&str, &str)>) -> Vec<(&'b str, &'b str)> {
    pairs.clear();
    pairs.into_iter().map(|_| ("", "")).collect()
}
