//! Appending: a batch is sorted out, logged, then joins the head.
//!
//! Everything between finding the series and counting the samples runs under the shared side of the *gate*, so that a
//! cut, which takes the other side for a moment, never parts a record from the head generation it belongs to. A
//! definition counts as logged only after the record that carries it was appended: a second append that meets the
//! series meanwhile defines it again, and no record ever precedes the definition it needs.
//!
//! Two appends that bring different values for one time of one series *at the same moment* may be logged in one order
//! and applied in the other; which of them was first is then decided anew by a replay. Nothing else depends on order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Day, Exemplar, HistogramSample, LabelSet, Sample, SampleBatch, SeriesIx, TimestampMs};
use storage_catalogue::CatalogueError;
use storage_wal::{Lsn, Wal, WalError};

use crate::head::Head;
use crate::histogram::flaw;
use crate::record::{KIND_BATCH, RecordWriter};
use crate::series::{Cell, Change};
use crate::{AppendError, Appended, Heads, Metrics};

/// What a batch will do, found out before anything is written.
#[derive(Default)]
struct Plan<'a> {
    targets: Vec<Target>,
    t: Vec<i64>,
    v: Vec<f64>,
    /// As long as `t`, or empty.
    start: Vec<i64>,
    /// With their starts.
    histograms: Vec<(Arc<Cell>, i64, &'a HistogramSample)>,
    definitions: Vec<(Arc<Cell>, Day)>,
    exemplars: Vec<(Arc<Cell>, &'a Exemplar)>,
}

/// A series and its samples in the plan's columns.
struct Target {
    cell: Arc<Cell>,
    samples: Range<usize>,
}

/// How values continue from record to record: records are made and appended one after the other.
#[derive(Default)]
pub(crate) struct Log {
    /// Rises when all series begin anew.
    run: u32,
    /// The last record, if the next one may follow it.
    last: Option<Lsn>,
    /// Samples since all began anew.
    samples: u64,
}

/// All series begin anew after so many samples for each.
const RUN_SAMPLES: u64 = 24;

impl Log {
    /// What the next record, of so many samples, follows.
    fn follows(&mut self, samples: usize, series: u64) -> Option<Lsn> {
        if self.samples >= RUN_SAMPLES * series.max(64) {
            self.last = None;
        }
        if self.last.is_none() {
            self.run = self.run.wrapping_add(1);
            self.samples = 0;
        }
        self.samples += samples as u64;
        self.last
    }

    fn append(&mut self, wal: &Wal, record: &[u8]) -> Result<Lsn, WalError> {
        // What is not in the log is not followed.
        self.last = None;
        let lsn = wal.append(KIND_BATCH, record)?;
        self.last = Some(lsn);
        Ok(lsn)
    }
}

/// Which times are accepted.
#[derive(Clone, Copy)]
struct Window {
    oldest: TimestampMs,
    newest: TimestampMs,
}

impl Metrics {
    /// All of an append but the wait. `None`: nothing was logged.
    pub(crate) fn append_now(
        &self,
        batch: &SampleBatch,
        now: TimestampMs,
    ) -> Result<(Appended, Option<Lsn>), AppendError> {
        let _room = self.budget.reserve(batch.bytes() as u64)?;
        let mut appended = Appended::default();
        let window = Window {
            oldest: TimestampMs(now.0.saturating_sub(self.options.retention_ms)),
            newest: TimestampMs(now.0.saturating_add(self.options.ahead_ms)),
        };
        let order = order(batch.samples());

        let _gate = self.gate.read();
        let heads = self.heads.load();
        let plan = self.plan(&heads, batch, order.as_deref(), window, &mut appended)?;
        let news = self.families.news(batch.all_metadata());
        if plan.targets.is_empty() && plan.histograms.is_empty() && plan.exemplars.is_empty() && news.is_empty() {
            return Ok((appended, None));
        }

        let definitions = plan.definitions.iter();
        let mut record = RecordWriter::new(definitions.map(|(cell, day)| (cell.id, *day, &cell.labels)));
        let mut log = self.log.lock();
        let follows = log.follows(plan.t.len(), heads.active.series());
        let run = log.run;
        for (cell, _) in &plan.definitions {
            cell.begin_logged();
        }
        let series = plan.targets.iter().map(|target| (target.cell.id, target.samples.len()));
        record.samples(follows, series, &plan.t, &plan.v, |place, bits| {
            plan.targets[place].cell.swap_logged(run, bits)
        });
        record.exemplars(plan.exemplars.iter().map(|(cell, exemplar)| (cell.id, *exemplar)));
        record.metadata(&news);
        let histograms = plan.histograms.iter();
        let record = record.histograms(
            &plan.start,
            histograms.map(|(cell, start, sample)| (cell.id, sample.t.0, *start, &*sample.histogram)),
        );
        let lsn = log.append(&self.wal, &record)?;
        drop(log);

        for (cell, day) in &plan.definitions {
            cell.defined_on(*day);
        }
        apply(&heads.active, &plan, &mut appended);
        for (family, metadata) in news {
            self.families.put(family, metadata);
        }
        self.appended
            .fetch_add(appended.stored + appended.histograms, Ordering::Relaxed);
        Ok((appended, Some(lsn)))
    }

    /// Finds or makes every series, refuses what lies outside the window.
    fn plan<'a>(
        &self,
        heads: &Heads,
        batch: &'a SampleBatch,
        order: Option<&[u32]>,
        window: Window,
        appended: &mut Appended,
    ) -> Result<Plan<'a>, CatalogueError> {
        let samples = batch.samples();
        let starts = batch.starts();
        let start_of = |place: u32| {
            let at = starts.binary_search_by_key(&place, |(place, _)| *place);
            at.map_or(0, |at| starts[at].1.0)
        };
        let mut plan = Plan {
            targets: Vec::with_capacity(batch.series_count()),
            t: Vec::with_capacity(samples.len()),
            v: Vec::with_capacity(samples.len()),
            ..Plan::default()
        };
        let mut found = heads.active.find_all(batch.all_labels());
        let mut current: Option<(SeriesIx, Day)> = None;
        for i in 0..samples.len() {
            let place = order.map_or(i, |order| order[i] as usize);
            let (series, Sample { t, v }) = samples[place];
            if t < window.oldest || t > window.newest {
                refuse(batch, series, t, window, appended);
                continue;
            }
            let day = t.day();
            if current != Some((series, day)) {
                let known = found.get_mut(series.0 as usize).and_then(Option::take);
                let cell = self.cell_for(heads, batch, series, known, day, &mut plan.definitions)?;
                current = Some((series, day));
                if !(plan.targets.last()).is_some_and(|target| Arc::ptr_eq(&target.cell, &cell)) {
                    let samples = plan.t.len()..plan.t.len();
                    plan.targets.push(Target { cell, samples });
                }
            }
            // The series at hand is always the last target.
            if let Some(target) = plan.targets.last_mut() {
                target.samples.end += 1;
            }
            plan.t.push(t.0);
            plan.v.push(v);
            if !starts.is_empty() {
                plan.start.push(known_start(start_of(place as u32), t.0));
            }
        }
        for (series, sample) in batch.histograms() {
            if sample.t < window.oldest || sample.t > window.newest {
                refuse(batch, *series, sample.t, window, appended);
                continue;
            }
            if let Some(flaw) = flaw(&sample.histogram) {
                appended.invalid += 1;
                let labels = LabelSet::from_encoded(batch.labels(*series).0).unwrap_or_default();
                (appended.example).get_or_insert_with(|| format!("invalid histogram of {labels}: {flaw}"));
                continue;
            }
            let known = found.get_mut(series.0 as usize).and_then(Option::take);
            let cell = self.cell_for(heads, batch, *series, known, sample.t.day(), &mut plan.definitions)?;
            let start = known_start(sample.start.0, sample.t.0);
            plan.histograms.push((cell, start, sample));
        }
        for (series, exemplar) in batch.exemplars() {
            if exemplar.t >= window.oldest && exemplar.t <= window.newest {
                let known = found.get_mut(series.0 as usize).and_then(Option::take);
                let cell = self.cell_for(heads, batch, *series, known, exemplar.t.day(), &mut plan.definitions)?;
                plan.exemplars.push((cell, exemplar));
            }
        }
        Ok(plan)
    }

    /// The series in the active head, defined on `day` or to be defined by this record. `known`: it was found already.
    fn cell_for(
        &self,
        heads: &Heads,
        batch: &SampleBatch,
        series: SeriesIx,
        known: Option<Arc<Cell>>,
        day: Day,
        definitions: &mut Vec<(Arc<Cell>, Day)>,
    ) -> Result<Arc<Cell>, CatalogueError> {
        let (encoded, hash) = batch.labels(series);
        let known = match known.or_else(|| heads.active.find(hash, encoded)) {
            Some(cell) if cell.is_defined_on(day) => return Ok(cell),
            known => known,
        };
        let id = self.index.intern(day, encoded, hash)?;
        let cell = match known.filter(|cell| cell.id == id) {
            Some(cell) => cell,
            None => {
                // Labels of a series that was active before the cut are shared with the frozen head.
                let before = heads
                    .frozen
                    .iter()
                    .rev()
                    .find_map(|frozen| frozen.head.find(hash, encoded));
                let labels = match before {
                    Some(cell) => cell.labels.clone(),
                    // A batch holds canonical encodings only; pairs would be read back from anything else.
                    None => LabelSet::from_encoded(encoded).unwrap_or_else(|_| LabelSet::empty()),
                };
                heads.active.insert(Cell::new(id, hash, labels))
            }
        };
        definitions.push((cell.clone(), day));
        Ok(cell)
    }
}

fn apply(head: &Head, plan: &Plan<'_>, appended: &mut Appended) {
    let mut sum = Change::default();
    for target in &plan.targets {
        let (t, v) = (&plan.t[target.samples.clone()], &plan.v[target.samples.clone()]);
        let start = plan.start.get(target.samples.clone()).unwrap_or(&[]);
        let change = target.cell.append(t, v, start);
        sum.add(&change);
        if let Some(at) = change.first_conflict
            && appended.example.is_none()
        {
            appended.example = Some(format!(
                "duplicate sample for timestamp {}: {} has another value there already, which stays (new value {})",
                t[at], target.cell.labels, v[at]
            ));
        }
    }
    appended.stored = sum.stored;
    let duplicate_floats = sum.duplicates;
    for (cell, start, sample) in &plan.histograms {
        let change = cell.append_histogram(sample.t.0, *start, &sample.histogram);
        sum.add(&change);
        if change.conflicts > 0 {
            appended.example.get_or_insert_with(|| {
                format!(
                    "duplicate sample for timestamp {}: {} has another value there already, which stays",
                    sample.t.0, cell.labels
                )
            });
        }
    }
    appended.histograms = sum.stored - appended.stored;
    head.count(&sum);
    for (cell, exemplar) in &plan.exemplars {
        if let Some(bytes) = cell.add_exemplar(exemplar) {
            head.count_exemplar(exemplar.t.0, bytes);
        }
    }
    appended.exemplars = plan.exemplars.len() as u64;
    appended.duplicates = sum.duplicates;
    appended.duplicate_histograms = sum.duplicates - duplicate_floats;
    appended.conflicts = sum.conflicts;
}

/// When the counting of a sample at `t` began; 0: not known. A start after its sample says nothing.
fn known_start(start: i64, t: i64) -> i64 {
    if start <= t { start } else { 0 }
}

fn refuse(batch: &SampleBatch, series: SeriesIx, t: TimestampMs, window: Window, appended: &mut Appended) {
    let (count, why, bound) = if t < window.oldest {
        (
            &mut appended.too_old,
            "older than the retention allows; the oldest is",
            window.oldest,
        )
    } else {
        (
            &mut appended.too_new,
            "too far in the future; the newest is",
            window.newest,
        )
    };
    *count += 1;
    if appended.example.is_none() {
        let labels = LabelSet::from_encoded(batch.labels(series).0).unwrap_or_default();
        appended.example = Some(format!(
            "out of bounds: {labels} has a sample at {}, {why} {}",
            t.0, bound.0
        ));
    }
}

/// Positions of the samples by series, then time, those of one time in the order added. `None`: they are so already.
fn order(samples: &[(SeriesIx, Sample)]) -> Option<Vec<u32>> {
    let key = |(series, sample): &(SeriesIx, Sample)| (*series, sample.t);
    if samples.is_sorted_by_key(key) {
        return None;
    }
    let mut order: Vec<u32> = (0..samples.len() as u32).collect();
    order.sort_by_key(|&i| key(&samples[i as usize]));
    Some(order)
}
