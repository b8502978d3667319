//! OTLP metrics to samples, as Prometheus 3 translates them by default.
//!
//! The request is walked on the wire, envelope by envelope: a first look at a message finds what its items need to know
//! (resource, name, unit, temporality), a second look reads the items. Protobuf allows any order of fields, so the two
//! looks are not one. Labels go straight from the body into the batch's arena.
//!
//! Refused, point by point and told to the client: delta and unspecified temporality, exponential histograms, metrics
//! whose name has no usable character.

use std::borrow::Cow;
use std::fmt::Write;

use model::{
    Exemplar, LabelSet, METRIC_NAME, MetricKind, MetricMetadata, SampleBatch, SeriesIx, TimestampMs, stale_nan,
};

use super::any_value::{ATTRIBUTES_MAX, BadValue, read_pair};
use super::metric_names::{NamedAs, metric_name, unit_name};
use crate::label_names::label_name;
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
/// Characters of an exemplar's label set, names and values.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// Exemplars read of one data point.
const EXEMPLARS_MAX: usize = 1000;
/// Bit 0 of a data point's flags: the series ended.
const NO_RECORDED_VALUE: u64 = 1;

/// Decodes an `ExportMetricsServiceRequest`. The batch holds at most `bytes_max`.
pub(crate) fn decode(request: &[u8], bytes_max: usize) -> Result<(SampleBatch, Report), Refusal> {
    let mut translation = Translation {
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

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

struct Translation<'a> {
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

/// Who the samples come from.
#[derive(Default)]
struct Origin<'a> {
    job: String,
    instance: String,
    /// All attributes that do not identify, as labels.
    info: Vec<Pair<'a>>,
    /// First and last sample of this resource.
    seen: Option<(i64, i64)>,
}

/// A metric, but for its points.
struct Family<'a> {
    raw_name: Cow<'a, str>,
    name: String,
    /// `name` with `_sum`, `_count`, `_bucket`, where the kind has them.
    sum: String,
    count: String,
    bucket: String,
}

/// What a data point says beside its attributes and exemplars.
#[derive(Default)]
struct Point {
    t: TimestampMs,
    stale: bool,
    value: f64,
    count: u64,
    sum: Option<f64>,
}

impl Point {
    fn or_stale(&self, v: f64) -> f64 {
        if self.stale { stale_nan() } else { v }
    }
}

impl<'a> Translation<'a> {
    fn resource_metrics(&mut self, message: &'a [u8]) -> Result<(), Refusal> {
        let mut origin = Origin::default();
        let mut attributes: Vec<Pair<'a>> = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 1 {
                for field in Fields::new(field.bytes()?) {
                    let field = field?;
                    if field.number == 1 {
                        self.attribute(field.bytes()?, &mut attributes)?;
                    }
                }
            }
        }
        origin.fill(attributes);
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 2 {
                continue;
            }
            for field in Fields::new(field.bytes()?) {
                let field = field?;
                if field.number == 2 {
                    self.metric(field.bytes()?, &mut origin)?;
                }
            }
        }
        self.target_info(&origin)
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
        let Some((kind, data)) = data else { return Ok(()) };
        let mut points = 0;
        let mut temporality = 0;
        let mut monotonic = false;
        for field in Fields::new(data) {
            let field = field?;
            match field.number {
                1 => points += 1,
                2 if matches!(kind, 7 | 9 | 10) => temporality = field.int32()?,
                3 if kind == 7 => monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        self.report.items += points;
        if points == 0 {
            return Ok(());
        }
        if let Some(reason) = refused_kind(kind, temporality) {
            self.report.reject(points, || format!("{name}: {reason}"));
            return Ok(());
        }
        let (named_as, metric_kind) = match kind {
            5 => (NamedAs::Gauge, MetricKind::Gauge),
            7 if monotonic => (NamedAs::Counter, MetricKind::Counter),
            7 => (NamedAs::Other, MetricKind::Gauge),
            9 => (NamedAs::Other, MetricKind::Histogram),
            _ => (NamedAs::Other, MetricKind::Summary),
        };
        let Some(translated) = metric_name(&name, &unit, named_as) else {
            self.report.reject(points, || {
                format!("metric name {name:?} has no letter or digit to make a Prometheus name of")
            });
            return Ok(());
        };
        let derived = |suffix| match kind {
            9 | 11 => format!("{translated}{suffix}"),
            _ => String::new(),
        };
        let family = Family {
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
                9 => self.histogram(point, &family, origin),
                11 => self.summary(point, &family, origin),
                _ => self.number(point, &family, origin, metric_kind == MetricKind::Counter),
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

    fn number(
        &mut self,
        message: &'a [u8],
        family: &Family<'a>,
        origin: &Origin<'a>,
        counter: bool,
    ) -> Result<TimestampMs, BadValue> {
        self.begin_point();
        let mut point = Point::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                4 => point.value = field.double()?,
                6 => point.value = field.fixed64()? as i64 as f64,
                5 if counter => self.keep_exemplar(field.bytes()?),
                7 => self.point_attribute(field.bytes()?)?,
                8 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        let series = self.sample(&family.name, None, origin, point.t, point.or_stale(point.value));
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
    ) -> Result<TimestampMs, BadValue> {
        self.begin_point();
        let mut point = Point::default();
        let mut counts: Vec<u64> = Vec::new();
        let mut bounds: Vec<f64> = Vec::new();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                4 => point.count = field.fixed64()?,
                5 => point.sum = Some(field.double()?),
                6 => field.each_fixed64(|count| counts.push(count))?,
                7 => field.each_fixed64(|bound| bounds.push(f64::from_bits(bound)))?,
                8 => self.keep_exemplar(field.bytes()?),
                9 => self.point_attribute(field.bytes()?)?,
                10 => point.stale = field.varint()? & NO_RECORDED_VALUE != 0,
                _ => point.see_time(field)?,
            }
        }
        self.finish_attributes();
        if let Some(sum) = point.sum {
            self.sample(&family.sum, None, origin, point.t, point.or_stale(sum));
        }
        self.sample(&family.count, None, origin, point.t, point.or_stale(point.count as f64));
        let mut buckets: Vec<(f64, SeriesIx)> = Vec::new();
        let mut cumulative = 0u64;
        let mut text = std::mem::take(&mut self.text);
        for (&bound, &count) in bounds.iter().zip(&counts) {
            cumulative = cumulative.saturating_add(count);
            if !bound.is_finite() {
                continue;
            }
            text.clear();
            let _ = write!(text, "{bound}");
            let value = point.or_stale(cumulative as f64);
            let series = self.sample(&family.bucket, Some(("le", &text)), origin, point.t, value);
            if !self.exemplars.is_empty() {
                buckets.push((bound, series));
            }
            self.room.check(self.batch.bytes()).map_err(BadValue::Room)?;
        }
        self.text = text;
        let value = point.or_stale(point.count as f64);
        let infinite = self.sample(&family.bucket, Some(("le", "+Inf")), origin, point.t, value);
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

    fn summary(
        &mut self,
        message: &'a [u8],
        family: &Family<'a>,
        origin: &Origin<'a>,
    ) -> Result<TimestampMs, BadValue> {
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
        self.sample(&family.sum, None, origin, point.t, point.or_stale(point.value));
        self.sample(&family.count, None, origin, point.t, point.or_stale(point.count as f64));
        let mut text = std::mem::take(&mut self.text);
        for (quantile, value) in quantiles {
            text.clear();
            let _ = write!(text, "{quantile}");
            self.sample(
                &family.name,
                Some(("quantile", &text)),
                origin,
                point.t,
                point.or_stale(value),
            );
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
        let series = self.sample(name, None, origin, TimestampMs(last), 1.0);
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
        self.attributes = as_labels(attributes);
    }

    /// Adds a series with the current point's labels, and its sample. The later label of one name wins, so the order
    /// here is the order of precedence: attributes, job and instance, `le` or `quantile`, the metric's name.
    fn sample(
        &mut self,
        name: &str,
        extra: Option<(&str, &str)>,
        origin: &Origin<'a>,
        t: TimestampMs,
        v: f64,
    ) -> SeriesIx {
        let mut pairs = recycled(std::mem::take(&mut self.pairs));
        pairs.extend(self.attributes.iter().map(|(n, v)| (n.as_ref(), v.as_ref())));
        for (label, value) in [("job", origin.job.as_str()), ("instance", origin.instance.as_str())] {
            if !value.is_empty() {
                pairs.push((label, value));
            }
        }
        pairs.extend(extra);
        pairs.push((METRIC_NAME, name));
        let series = self.batch.series(&mut pairs);
        self.pairs = recycled(pairs);
        self.batch.sample(series, t, v);
        series
    }
}

/// Memory of a family's metadata beside its texts, about.
const METADATA_BYTES: usize = 96;

impl<'a> Origin<'a> {
    fn fill(&mut self, attributes: Vec<Pair<'a>>) {
        let text = |key: &str| {
            let found = attributes.iter().rev().find(|(k, _)| k == key);
            found.map_or("", |(_, value)| value.as_ref())
        };
        let (namespace, name) = (text("service.namespace"), text("service.name"));
        self.job = match (namespace.is_empty(), name.is_empty()) {
            (_, true) => String::new(),
            (true, false) => name.to_owned(),
            (false, false) => format!("{namespace}/{name}"),
        };
        self.instance = text("service.instance.id").to_owned();
        let identifying = ["service.namespace", "service.name", "service.instance.id"];
        self.info = attributes;
        self.info
            .retain(|(key, value)| !identifying.contains(&key.as_ref()) && !value.is_empty());
        self.info = as_labels(std::mem::take(&mut self.info));
    }

    fn saw(&mut self, t: TimestampMs) {
        let (first, last) = self.seen.unwrap_or((t.0, t.0));
        self.seen = Some((first.min(t.0), last.max(t.0)));
    }
}

impl Point {
    fn see_time(&mut self, field: Field<'_>) -> Result<(), BadWire> {
        if field.number == 3 {
            self.t = ms_of(field.fixed64()?);
        }
        Ok(())
    }
}

fn ms_of(unix_nano: u64) -> TimestampMs {
    TimestampMs((unix_nano / 1_000_000) as i64)
}

fn refused_kind(kind: u32, temporality: i32) -> Option<&'static str> {
    match (kind, temporality) {
        (10, _) => Some(
            "exponential histograms are not stored by this version; configure the explicit bucket histogram aggregation",
        ),
        (7 | 9, 1) => Some(
            "delta temporality is not converted by this version; set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative",
        ),
        (7 | 9, 2) | (5 | 11, _) => None,
        _ => Some("aggregation temporality is unspecified; it must be cumulative"),
    }
}

/// Attributes as labels: keys sanitised, of equal keys the last value, keys that fall together joined by `;` in the
/// order of the keys. `__name__` is not theirs to give.
fn as_labels(mut attributes: Vec<Pair<'_>>) -> Vec<Pair<'_>> {
    let plain = |(key, _): &Pair<'_>| matches!(label_name(Cow::Borrowed(key)), Cow::Borrowed(_));
    if attributes.is_sorted_by(|a, b| a.0 < b.0) && attributes.iter().all(plain) {
        attributes.retain(|(key, _)| key != METRIC_NAME);
        return attributes;
    }
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    // Of equal keys the last stays.
    attributes.reverse();
    attributes.dedup_by(|a, b| a.0 == b.0);
    attributes.reverse();
    let mut labels: Vec<Pair<'_>> = attributes
        .into_iter()
        .map(|(key, value)| (label_name(key), value))
        .collect();
    labels.retain(|(name, _)| name != METRIC_NAME && !name.is_empty());
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, first| {
        let collides = later.0 == first.0;
        if collides {
            let joined = first.1.to_mut();
            joined.push(';');
            joined.push_str(&later.1);
        }
        collides
    });
    labels
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

/// The ids come first and always; the filtered attributes only if all of it stays within the bound.
fn read_exemplar(message: &[u8], sample_t: TimestampMs) -> Result<Exemplar, BadValue> {
    let (mut t, mut value) = (TimestampMs(0), 0.0);
    let (mut span_id, mut trace_id): (&[u8], &[u8]) = (&[], &[]);
    let mut labels: Vec<Pair<'_>> = Vec::new();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            2 => t = ms_of(field.fixed64()?),
            3 => value = field.double()?,
            6 => value = field.fixed64()? as i64 as f64,
            4 => span_id = field.bytes()?,
            5 => trace_id = field.bytes()?,
            7 if labels.len() < EXEMPLAR_CHARS_MAX => {
                let (key, value) = read_pair(field.bytes()?)?;
                labels.push((key, value.into_text()?));
            }
            _ => {}
        }
    }
    let mut ids: Vec<Pair<'_>> = Vec::new();
    if let Some(id) = model::TraceId::from_wire(trace_id) {
        ids.push((Cow::Borrowed("trace_id"), Cow::Owned(id.to_string())));
    }
    if let Some(id) = model::SpanId::from_wire(span_id) {
        ids.push((Cow::Borrowed("span_id"), Cow::Owned(id.to_string())));
    }
    let chars = |(name, value): &Pair<'_>| name.chars().count() + value.chars().count();
    let total: usize = ids.iter().chain(&labels).map(chars).sum();
    if total > EXEMPLAR_CHARS_MAX {
        labels.clear();
    }
    labels.append(&mut ids);
    Ok(Exemplar {
        labels: LabelSet::from_pairs(labels),
        value,
        t: if t.0 == 0 { sample_t } else { t },
    })
}

/// The same allocation for pairs of another lifetime.
pub(crate) fn recycled<'b>(mut pairs: Vec<(&str, &str)>) -> Vec<(&'b str, &'b str)> {
    pairs.clear();
    pairs.into_iter().map(|_| ("", "")).collect()
}
