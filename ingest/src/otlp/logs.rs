//! OTLP logs to entries, as Loki 3 maps them.
//!
//! The well-known resource attributes become the labels of one stream per resource; everything else that is not the
//! body becomes structured metadata of each entry, in the order record, resource, scope, `detected_level`. Of equal
//! names the record's own fields win over its attributes, those over the resource's, those over the scope's.

use std::borrow::Cow;

use model::{LabelSet, LogBatch, StreamIx, TimestampNs};

use super::any_value::{AnyValue, BadValue, DEPTH_MAX, elements, read_pair};
use crate::entry_limits::{
    METADATA_BYTES_MAX, METADATA_PAIRS_MAX, SERVICE_NAME, bad_entry, bad_stream, discover_service_name,
};
use crate::label_names::{Manner, label_name_in};
use crate::level::{DETECTED_LEVEL, LevelDetector};
use crate::refusal::Refusal;
use crate::report::Report;
use crate::room::Room;
use crate::wire::{BadWire, Field, Fields};

/// Resource attributes that become labels.
const INDEX_LABELS: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// Decodes an `ExportLogsServiceRequest`; entries without any time get `now`. The batch holds at most `bytes_max`.
pub(crate) fn decode(request: &[u8], now: TimestampNs, bytes_max: usize) -> Result<(LogBatch, Report), Refusal> {
    let mut reading = Reading {
        batch: LogBatch::default(),
        report: Report::default(),
        room: Room::new(bytes_max),
        now,
    };
    // Most of the request is lines and metadata.
    reading.batch.reserve_text(request.len());
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 1 {
            reading.resource_logs(field.bytes()?)?;
        }
    }
    Ok((reading.batch, reading.report))
}

struct Reading {
    batch: LogBatch,
    report: Report,
    room: Room,
    now: TimestampNs,
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Structured metadata in the making: bounded, however much is put in.
#[derive(Clone, Debug, Default)]
struct Metadata<'a> {
    pairs: Vec<Pair<'a>>,
    count: usize,
    bytes: usize,
}

/// What all entries of a resource share.
struct Origin<'a> {
    labels: LabelSet,
    /// What Loki would say of the labels, if they are bad.
    bad: Option<String>,
    /// The level that the labels tell.
    level: Option<String>,
    stream: Option<StreamIx>,
    metadata: Metadata<'a>,
}

/// A record, but for its attributes.
#[derive(Default)]
struct Record<'a> {
    time: u64,
    observed: u64,
    severity_number: i32,
    severity_text: Cow<'a, str>,
    body: Option<AnyValue<'a>>,
    dropped: u64,
    flags: u32,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    event_name: Cow<'a, str>,
}

/// Puts a resource attribute among the labels; a map's members each become one.
fn put_label<'a>(labels: &mut Vec<Pair<'a>>, key: Cow<'a, str>, value: AnyValue<'a>) -> Result<(), BadValue> {
    if let AnyValue::Map(_) = value {
        let mut flat = Metadata::default();
        flat.put_attribute(key, value)?;
        labels.append(&mut flat.pairs);
    } else {
        labels.push((label_name_in(key, Manner::LOKI), value.into_text()?));
    }
    Ok(())
}

impl Reading {
    fn resource_logs(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let mut index: Vec<Pair<'_>> = Vec::new();
        let mut metadata = Metadata::default();
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            for field in Fields::new(field.bytes()?) {
                let field = field?;
                if field.number != 1 {
                    continue;
                }
                let (key, value) = read_pair(field.bytes()?)?;
                let put = if INDEX_LABELS.contains(&key.as_ref()) {
                    put_label(&mut index, key, value)
                } else {
                    metadata.put_attribute(key, value)
                };
                self.shared(put)?;
            }
        }
        let pairs: Vec<(&str, &str)> = index.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        let discovered = discover_service_name(&pairs).map(|name| (SERVICE_NAME, name));
        let labels = LabelSet::from_pairs(pairs.iter().copied().chain(discovered));
        let mut origin = Origin {
            bad: bad_stream(&labels),
            level: LevelDetector::DEFAULT.among(labels.iter()).map(str::to_owned),
            labels,
            stream: None,
            metadata,
        };
        for field in Fields::new(message) {
            let field = field?;
            if field.number == 2 {
                self.scope_logs(field.bytes()?, &mut origin)?;
            }
        }
        Ok(())
    }

    fn scope_logs<'a>(&mut self, message: &'a [u8], origin: &mut Origin<'a>) -> Result<(), Refusal> {
        let mut metadata = Metadata::default();
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 1 {
                continue;
            }
            for field in Fields::new(field.bytes()?) {
                let field = field?;
                match field.number {
                    1 => metadata.put("scope_name", field.text()?),
                    2 => metadata.put("scope_version", field.text()?),
                    3 => {
                        let (key, value) = read_pair(field.bytes()?)?;
                        let put = metadata.put_attribute(key, value);
                        self.shared(put)?;
                    }
                    4 => metadata.put_number("scope_dropped_attributes_count", field.varint()?),
                    _ => {}
                }
            }
        }
        let mut scratch = Metadata::default();
        for field in Fields::new(message) {
            let field = field?;
            if field.number != 2 {
                continue;
            }
            self.report.items += 1;
            if let Some(words) = &origin.bad {
                self.report.reject(1, || words.clone());
                continue;
            }
            scratch.clear();
            match self.entry(field.bytes()?, origin, &metadata, &mut scratch) {
                Ok(()) => self.room.check(self.batch.bytes())?,
                Err(bad) => {
                    let words = bad.of_item()?;
                    self.report.reject(1, || words);
                }
            }
        }
        Ok(())
    }

    fn entry<'a>(
        &mut self,
        message: &'a [u8],
        origin: &mut Origin<'a>,
        scope: &Metadata<'a>,
        metadata: &mut Metadata<'a>,
    ) -> Result<(), BadValue> {
        let mut record = Record::default();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                6 => {
                    let (key, value) = read_pair(field.bytes()?)?;
                    metadata.put_attribute(key, value)?;
                }
                _ => record.see(&field)?,
            }
        }
        let line = match record.body.take() {
            Some(body) => body.into_text()?,
            None => Cow::Borrowed(""),
        };
        self.put_record_fields(&record, metadata);
        metadata.put_weaker(&origin.metadata);
        metadata.put_weaker(scope);
        if let Some(words) = bad_entry(&origin.labels, &line, metadata.count, metadata.bytes) {
            self.report.reject(1, || words);
            return Ok(());
        }
        let t = [record.time, record.observed].into_iter().find(|t| *t != 0);
        let t = t.map_or(self.now, |t| TimestampNs(i64::try_from(t).unwrap_or(i64::MAX)));
        let stream = *origin
            .stream
            .get_or_insert_with(|| self.batch.stream_of(&origin.labels));
        let pairs = metadata.pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref()));
        let level = LevelDetector::DEFAULT.of_entry(origin.level.as_deref(), pairs.clone(), &line);
        let kept = pairs.filter(|(name, _)| *name != DETECTED_LEVEL);
        self.batch
            .entry(stream, t, &line, kept.chain([(DETECTED_LEVEL, level)]));
        Ok(())
    }

    fn put_record_fields<'a>(&mut self, record: &Record<'a>, metadata: &mut Metadata<'a>) {
        if record.time != 0 && record.observed != 0 {
            metadata.put_number("observed_timestamp", record.observed);
        }
        if record.severity_number != 0 {
            metadata.put("severity_number", Cow::Owned(record.severity_number.to_string()));
        }
        metadata.put("severity_text", record.severity_text.clone());
        metadata.put_number("dropped_attributes_count", record.dropped);
        metadata.put_number("flags", u64::from(record.flags));
        match model::TraceId::from_wire(record.trace_id) {
            Some(id) => metadata.put("trace_id", Cow::Owned(id.to_string())),
            None => self.warn_of_id("trace", record.trace_id),
        }
        match model::SpanId::from_wire(record.span_id) {
            Some(id) => metadata.put("span_id", Cow::Owned(id.to_string())),
            None => self.warn_of_id("span", record.span_id),
        }
        metadata.put("event_name", record.event_name.clone());
    }

    /// A line is worth keeping without its broken id.
    fn warn_of_id(&mut self, what: &str, id: &[u8]) {
        if id.iter().any(|b| *b != 0) {
            self.report.warn(|| {
                format!(
                    "log records with an invalid {what} id of {} bytes were stored without it",
                    id.len()
                )
            });
        }
    }

    /// An attribute of a resource or scope; one nested too deeply is left out with a warning.
    fn shared(&mut self, put: Result<(), BadValue>) -> Result<(), Refusal> {
        if let Err(bad) = put {
            let words = bad.of_item()?;
            self.report
                .warn(|| format!("resource or scope attribute left out: {words}"));
        }
        Ok(())
    }
}

impl<'a> Record<'a> {
    fn see(&mut self, field: &Field<'a>) -> Result<(), BadWire> {
        match field.number {
            1 => self.time = field.fixed64()?,
            2 => self.severity_number = field.int32()?,
            3 => self.severity_text = field.text()?,
            5 => self.body = Some(AnyValue::read(field.bytes()?)?),
            7 => self.dropped = field.varint()?,
            8 => self.flags = field.fixed32()?,
            9 => self.trace_id = field.bytes()?,
            10 => self.span_id = field.bytes()?,
            11 => self.observed = field.fixed64()?,
            12 => self.event_name = field.text()?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Metadata<'a> {
    /// Puts a pair; an equal name is replaced, an empty value is nothing.
    fn put(&mut self, name: impl Into<Cow<'a, str>>, value: Cow<'a, str>) {
        let name = name.into();
        if value.is_empty() || name.is_empty() {
            return;
        }
        match self.pairs.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => {
                self.bytes = self.bytes - old.len() + value.len();
                *old = value;
            }
            None => self.put_new(name, value),
        }
    }

    fn put_new(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        self.count += 1;
        self.bytes += name.len() + value.len();
        if !self.is_over() {
            self.pairs.push((name, value));
        }
    }

    fn put_number(&mut self, name: &'static str, value: u64) {
        if value != 0 {
            self.put(name, Cow::Owned(value.to_string()));
        }
    }

    /// Puts an attribute; maps are flattened, their keys joined by `_`.
    fn put_attribute(&mut self, key: Cow<'a, str>, value: AnyValue<'a>) -> Result<(), BadValue> {
        self.put_attribute_at(key, value, DEPTH_MAX)
    }

    fn put_attribute_at(&mut self, key: Cow<'a, str>, value: AnyValue<'a>, depth_left: u32) -> Result<(), BadValue> {
        // An entry over the limits is refused anyway; its paths need not be spelled out.
        if self.is_over() {
            return Ok(());
        }
        let AnyValue::Map(message) = value else {
            self.put(label_name_in(key, Manner::LOKI), value.into_text()?);
            return Ok(());
        };
        let depth_left = depth_left.checked_sub(1).ok_or(BadValue::Depth)?;
        for pair in elements(message) {
            let (inner, value) = read_pair(pair?)?;
            self.put_attribute_at(Cow::Owned(format!("{key}_{inner}")), value, depth_left)?;
            if self.is_over() {
                break;
            }
        }
        Ok(())
    }

    /// Adds the pairs whose names are not there yet.
    fn put_weaker(&mut self, weaker: &Metadata<'a>) {
        if weaker.is_over() {
            self.count += weaker.count;
            self.bytes += weaker.bytes;
        }
        for (name, value) in &weaker.pairs {
            if self.is_over() {
                return;
            }
            if !self.pairs.iter().any(|(n, _)| n == name) {
                self.put_new(name.clone(), value.clone());
            }
        }
    }

    fn is_over(&self) -> bool {
        self.count > METADATA_PAIRS_MAX || self.bytes > METADATA_BYTES_MAX
    }

    fn clear(&mut self) {
        self.pairs.clear();
        self.count = 0;
        self.bytes = 0;
    }
}
