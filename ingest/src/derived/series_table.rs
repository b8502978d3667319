//! The totals: counters and classic histograms by label set, until they are collected as samples.
//!
//! A *row* is a label set with all its metrics. To count for a known row is one hash lookup and some additions. A row that
//! nothing was counted for in a while goes stale and is forgotten, and how many rows there are is bounded: what finds no room
//! counts for one row that they share.
//!
//! A counter first shows a 0, dated between the collection before and this one, so that `rate()` sees its first increment;
//! that is also its start timestamp. Buckets keep the last exemplar since the collection before.

use hashbrown::HashTable;
use model::{
    Exemplar, LabelSet, METRIC_NAME, MetricKind, SampleBatch, SeriesIx, TimestampMs, TraceId, hash_labels, stale_nan,
};

/// The label of exemplars, as Tempo's generator names it.
const EXEMPLAR_LABEL: &str = "traceID";

/// The label of what finds no room, as Tempo's generator names it.
const OVERFLOW_LABEL: &str = "metric_overflow";

/// What is counted for each row.
#[derive(Debug)]
pub(super) struct Shape {
    /// Counters.
    pub counters: &'static [Family],
    /// Histograms, in seconds.
    pub histograms: &'static [Family],
    /// Upper bounds of buckets, rising, but for the infinite one.
    pub bounds: &'static [f64],
}

/// A metric family.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name; of a histogram without suffix.
    pub name: &'static str,
    /// In one sentence.
    pub help: &'static str,
}

impl Shape {
    /// How many series a row has at most.
    pub fn series(&self) -> usize {
        self.counters.len() + self.histograms.len() * (self.bounds.len() + 3)
    }

    /// All families with their kinds.
    pub fn families(&self) -> impl Iterator<Item = (&Family, MetricKind)> {
        let counters = self.counters.iter().map(|f| (f, MetricKind::Counter));
        counters.chain(self.histograms.iter().map(|f| (f, MetricKind::Histogram)))
    }
}

/// Rows of one shape.
#[derive(Debug)]
pub(super) struct Table {
    shape: &'static Shape,
    rows: HashTable<Row>,
    /// What the rows hold but for their exemplars.
    bytes: usize,
    /// The labels of the row for what finds no room, and their hash.
    overflow: (LabelSet, u64),
}

/// The totals of one label set.
#[derive(Clone, Debug)]
pub(super) struct Row {
    labels: LabelSet,
    hash: u64,
    touched: TimestampMs,
    counters: Vec<Counter>,
    histograms: Vec<Distribution>,
    /// Nothing was counted for it in a while.
    gone: bool,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    total: u64,
    start: Option<TimestampMs>,
}

#[derive(Clone, Debug)]
struct Distribution {
    /// By bucket, not cumulative; the last is the infinite one.
    counts: Vec<u64>,
    sum: f64,
    start: Option<TimestampMs>,
    marks: Vec<Mark>,
}

/// What an exemplar is made from.
#[derive(Clone, Copy, Debug)]
struct Mark {
    bucket: u32,
    seen: Seen,
    value: f64,
}

/// The span behind an observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Its trace.
    pub trace: TraceId,
    /// Its end.
    pub t: TimestampMs,
}

/// When a collection is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The time of its samples.
    pub t: TimestampMs,
    /// The time of the zeros before; less than `t`.
    pub zero: TimestampMs,
    /// Rows that were not touched since are gone.
    pub idle: TimestampMs,
}

impl Table {
    /// Without rows.
    pub fn new(shape: &'static Shape) -> Table {
        let labels = LabelSet::from_pairs([(OVERFLOW_LABEL, "true")]);
        let hash = hash_labels(labels.as_bytes());
        Table {
            shape,
            rows: HashTable::new(),
            bytes: 0,
            overflow: (labels, hash),
        }
    }

    /// The row of a label set in canonical encoding, with its `model::hash_labels`, and whether it is its own. A new one takes
    /// its series from `room`; where there is none left, it is the row that all such share. `None`: these are no labels.
    pub fn row(&mut self, labels: &[u8], hash: u64, now: TimestampMs, room: &mut usize) -> Option<(&mut Row, bool)> {
        let is_known = self.find(labels, hash);
        if !is_known {
            let labels = LabelSet::from_encoded(labels).ok()?;
            let Some(left) = room.checked_sub(self.shape.series()) else {
                let (labels, hash) = self.overflow.clone();
                if !self.find(labels.as_bytes(), hash) {
                    self.insert(labels.clone(), hash);
                }
                let row = self.touch(labels.as_bytes(), hash, now)?;
                return Some((row, false));
            };
            *room = left;
            self.insert(labels, hash);
        }
        Some((self.touch(labels, hash, now)?, true))
    }

    fn find(&self, labels: &[u8], hash: u64) -> bool {
        self.rows.find(hash, |row| row.labels.as_bytes() == labels).is_some()
    }

    fn touch(&mut self, labels: &[u8], hash: u64, now: TimestampMs) -> Option<&mut Row> {
        let row = self.rows.find_mut(hash, |row| row.labels.as_bytes() == labels)?;
        row.touched = now;
        Some(row)
    }

    fn insert(&mut self, labels: LabelSet, hash: u64) {
        let shape = self.shape;
        let row = Row {
            labels,
            hash,
            touched: TimestampMs::default(),
            counters: vec![Counter::default(); shape.counters.len()],
            histograms: vec![Distribution::new(shape.bounds.len() + 1); shape.histograms.len()],
            gone: false,
        };
        self.bytes += row.bytes();
        self.rows.insert_unique(hash, row, |row| row.hash);
    }

    /// The rows as they are now; those that are gone are forgotten and give their series back to `room`.
    pub fn collect(&mut self, moment: Moment, room: &mut usize) -> Vec<Row> {
        let mut collected = Vec::with_capacity(self.rows.len());
        self.rows.retain(|row| {
            row.gone = row.touched < moment.idle;
            row.start(moment.zero);
            collected.push(row.clone());
            row.histograms.iter_mut().for_each(|h| h.marks.clear());
            if row.gone {
                self.bytes -= row.bytes();
            }
            !row.gone
        });
        let overflow = self.overflow.0.as_bytes();
        let freed = collected
            .iter()
            .filter(|row| row.gone && row.labels.as_bytes() != overflow);
        *room += freed.count() * self.shape.series();
        collected
    }

    /// Memory that is held, as if each bucket had an exemplar.
    pub fn bytes(&self) -> usize {
        let marks = self.shape.histograms.len() * (self.shape.bounds.len() + 1) * size_of::<Mark>();
        self.bytes + self.rows.len() * marks
    }

    /// How many series there are at most.
    pub fn series(&self) -> usize {
        self.rows.len() * self.shape.series()
    }
}

impl Distribution {
    fn new(buckets: usize) -> Distribution {
        Distribution {
            counts: vec![0; buckets],
            sum: 0.0,
            start: None,
            marks: Vec::new(),
        }
    }
}

impl Row {
    /// Adds to the counter at this place of the shape.
    pub fn add(&mut self, counter: usize, n: u64) {
        self.counters[counter].total += n;
    }

    /// Observes seconds in the histogram at this place of the shape.
    pub fn observe(&mut self, shape: &Shape, histogram: usize, seconds: f64, seen: Seen) {
        let bucket = shape.bounds.partition_point(|bound| *bound < seconds);
        let h = &mut self.histograms[histogram];
        h.counts[bucket] += 1;
        h.sum += seconds;
        let mark = Mark {
            bucket: bucket as u32,
            seen,
            value: seconds,
        };
        match h.marks.iter_mut().find(|m| m.bucket == mark.bucket) {
            Some(last) => *last = mark,
            None => h.marks.push(mark),
        }
    }

    /// Memory that is held, without exemplars: the same for as long as the row lives.
    fn bytes(&self) -> usize {
        let counts = self.histograms.iter().map(|h| size_of_val(&*h.counts));
        let own = size_of::<Row>() + self.labels.as_bytes().len() + size_of_val(&*self.counters);
        own + size_of_val(&*self.histograms) + counts.sum::<usize>()
    }

    fn start(&mut self, zero: TimestampMs) {
        for counter in self.counters.iter_mut().filter(|c| c.total > 0) {
            counter.start.get_or_insert(zero);
        }
        for h in &mut self.histograms {
            h.start.get_or_insert(zero);
        }
    }

    /// Appends its samples to a batch.
    pub fn write(&self, shape: &Shape, bucket_labels: &[String], moment: Moment, batch: &mut SampleBatch) {
        let mut writing = Writing {
            row: self,
            moment,
            batch,
        };
        for (family, counter) in shape.counters.iter().zip(&self.counters) {
            if let Some(start) = counter.start {
                writing.series(family.name, None, counter.total as f64, start);
            }
        }
        let mut name = String::new();
        for (family, h) in shape.histograms.iter().zip(&self.histograms) {
            let Some(start) = h.start else { continue };
            with_suffix(&mut name, family.name, "_bucket");
            let mut total = 0;
            let first = writing.batch.series_count() as u32;
            for (count, le) in h.counts.iter().zip(bucket_labels) {
                total += count;
                writing.series(&name, Some(le), total as f64, start);
            }
            for mark in &h.marks {
                writing.exemplar(SeriesIx(first + mark.bucket), mark);
            }
            with_suffix(&mut name, family.name, "_sum");
            writing.series(&name, None, h.sum, start);
            with_suffix(&mut name, family.name, "_count");
            writing.series(&name, None, total as f64, start);
        }
    }
}

struct Writing<'a> {
    row: &'a Row,
    moment: Moment,
    batch: &'a mut SampleBatch,
}

impl Writing<'_> {
    fn series(&mut self, name: &str, le: Option<&str>, v: f64, start: TimestampMs) -> SeriesIx {
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(12);
        pairs.push((METRIC_NAME, name));
        pairs.extend(self.row.labels.iter());
        pairs.extend(le.map(|le| ("le", le)));
        let series = self.batch.series(&mut pairs);
        let Moment { t, zero, .. } = self.moment;
        if start == zero {
            self.batch.sample_from(series, zero, 0.0, start);
        }
        match self.row.gone {
            true => self.batch.sample(series, t, stale_nan()),
            // A clock that was set back must not make a counter begin after its samples.
            false => self.batch.sample_from(series, t, v, start.min(t)),
        }
        series
    }

    fn exemplar(&mut self, series: SeriesIx, mark: &Mark) {
        let trace = mark.seen.trace.to_string();
        let exemplar = Exemplar {
            labels: LabelSet::from_pairs([(EXEMPLAR_LABEL, trace.as_str())]),
            value: mark.value,
            t: mark.seen.t,
        };
        self.batch.exemplar(series, exemplar);
    }
}

fn with_suffix(name: &mut String, family: &str, suffix: &str) {
    name.clear();
    name.extend([family, suffix]);
}

/// The values of `le`, the infinite one last.
pub(super) fn bucket_labels(bounds: &[f64]) -> Vec<String> {
    let finite = bounds.iter().map(f64::to_string);
    finite.chain(["+Inf".to_owned()]).collect()
}
