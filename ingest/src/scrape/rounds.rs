//! One scrape's answer becomes one batch: samples with the target's labels, marks where series end, and the report.
//!
//! An answer counts as a whole. If any line is wrong, or a limit is met, nothing of it is stored: all series of the
//! target end, and `up` is 0.

use std::time::Duration;

use model::{
    Exemplar, Histogram, HistogramSample, LabelSet, LabelsBuilder, METRIC_NAME, MetricMetadata, SampleBatch,
    TimestampMs, stale_nan,
};
use prometheus_config::{ScrapeConfig, relabel};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::exposition::{self, About, Exposed, ExposedValue, Format, Visitor};
use super::series_cache::{EntryIx, Met, SeriesCache};
use super::target::ScrapeTarget;

/// Characters of an exemplar's labels, names and values.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// What one scrape may grow to in memory.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// Families whose metadata a target may leave here.
const FAMILIES_MAX: usize = 50_000;
/// Answers in a row that may leave a family out before it is forgotten.
const ANSWERS_WITHOUT_FAMILY_MAX: u64 = 10;
/// Times further ahead than this are refused.
const AHEAD_MS_MAX: i64 = 600_000;

/// What a target has shown so far.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub cache: SeriesCache,
    /// What it says of its families.
    pub families: BTreeMap<String, Known>,
    /// How many answers were taken.
    taken: u64,
    /// Whether `up` and its like are stored and must end with the target.
    pub is_reported: bool,
}

/// What is known of a family.
#[derive(Debug)]
pub(crate) struct Known {
    pub metadata: MetricMetadata,
    /// The answer that told of it last.
    seen: u64,
    /// It was stored as it is now.
    is_stored: bool,
}

/// What came of a scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Samples in the answer.
    pub scraped: u64,
    /// Those left by relabelling.
    pub kept: u64,
    /// Series that were not there before.
    pub series_added: u64,
    /// Samples that were dropped because their series was there already.
    pub duplicates: u64,
    /// Samples that were dropped because their time is too far ahead.
    pub too_new: u64,
    /// Why nothing was stored; empty: all is well.
    pub error: String,
}

/// What a report says beside the outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub took: Duration,
    /// Bytes of the answer, unpacked; `None`: too many.
    pub body_bytes: Option<u64>,
}

impl Shown {
    /// Puts an answer into `batch`, stamped `t`.
    pub fn take(
        &mut self,
        config: &ScrapeConfig,
        target: &ScrapeTarget,
        (body, format): (&[u8], Format),
        t: TimestampMs,
        batch: &mut SampleBatch,
    ) -> Outcome {
        self.cache.open();
        let mut taking = Taking {
            config,
            target: &target.labels,
            t,
            batch,
            shown: self,
            outcome: Outcome::default(),
            over_limit: None,
            metadata: BTreeMap::new(),
        };
        // An empty answer is one, whatever its format asks for.
        let read = match body {
            [] => Ok(()),
            body => exposition::read(body, format, target.habits, &mut taking),
        };
        let (mut outcome, metadata) = (taking.outcome, taking.metadata);
        let over_limit = taking.over_limit.map(str::to_owned);
        self.learn(metadata);
        if let Some(why) = read.err().or(over_limit) {
            outcome.error = why;
            outcome.series_added = 0;
            self.end_all(t, batch);
            return outcome;
        }
        self.cache
            .close(|labels, is_histogram| end(batch, labels, is_histogram, t));
        for (family, known) in self.families.iter_mut().filter(|(_, known)| !known.is_stored) {
            batch.metadata(family.clone(), known.metadata.clone());
            known.is_stored = true;
        }
        outcome
    }

    /// Takes note of what an answer says of its families, be there something wrong with it or not.
    fn learn(&mut self, told: BTreeMap<String, MetricMetadata>) {
        self.taken += 1;
        let seen = self.taken;
        for (family, metadata) in told {
            let is_stored = self
                .families
                .get(&family)
                .is_some_and(|k| k.is_stored && k.metadata == metadata);
            if self.families.len() < FAMILIES_MAX || self.families.contains_key(&family) {
                let known = Known {
                    metadata,
                    seen,
                    is_stored,
                };
                self.families.insert(family, known);
            }
        }
        self.families
            .retain(|_, known| seen - known.seen <= ANSWERS_WITHOUT_FAMILY_MAX);
    }

    /// A scrape without an answer: every series of the last one ends.
    pub fn miss(&mut self, t: TimestampMs, batch: &mut SampleBatch) {
        self.cache.open();
        self.end_all(t, batch);
    }

    fn end_all(&mut self, t: TimestampMs, batch: &mut SampleBatch) {
        batch.clear();
        self.cache
            .fail(|labels, is_histogram| end(batch, labels, is_histogram, t));
    }

    /// The series that tell of the scrape itself.
    pub fn report(
        &mut self,
        config: &ScrapeConfig,
        target: &LabelSet,
        (outcome, measured): (&Outcome, Measured),
        (t, timeout): (TimestampMs, Duration),
        batch: &mut SampleBatch,
    ) {
        self.is_reported = true;
        let up = if outcome.error.is_empty() { 1.0 } else { 0.0 };
        let mut put = |name: &str, value: f64| put(batch, target, name, t, value);
        put("up", up);
        put("scrape_duration_seconds", measured.took.as_secs_f64());
        put("scrape_samples_scraped", outcome.scraped as f64);
        put("scrape_samples_post_metric_relabeling", outcome.kept as f64);
        put("scrape_series_added", outcome.series_added as f64);
        if config.extra_scrape_metrics {
            put("scrape_timeout_seconds", timeout.as_secs_f64());
            put("scrape_sample_limit", config.limits.samples as f64);
            put("scrape_body_size_bytes", measured.body_bytes.map_or(-1.0, |n| n as f64));
        }
    }

    /// Ends everything, the report included, because the target is gone.
    pub fn end(&mut self, config: &ScrapeConfig, target: &LabelSet, t: TimestampMs, batch: &mut SampleBatch) {
        self.cache
            .each_live(|labels, is_histogram| end(batch, labels, is_histogram, t));
        if !self.is_reported {
            return;
        }
        let extra = if config.extra_scrape_metrics {
            &EXTRA_REPORT[..]
        } else {
            &[]
        };
        for name in REPORT.iter().chain(extra) {
            put(batch, target, name, t, stale_nan());
        }
    }
}

const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const EXTRA_REPORT: [&str; 3] = [
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

fn put(batch: &mut SampleBatch, target: &LabelSet, name: &str, t: TimestampMs, value: f64) {
    let mut pairs: Vec<(&str, &str)> = target.iter().collect();
    pairs.push((METRIC_NAME, name));
    let series = batch.series(&mut pairs);
    batch.sample(series, t, value);
}

/// The mark that a series has ended.
fn end(batch: &mut SampleBatch, labels: &[u8], is_histogram: bool, t: TimestampMs) {
    let Some((series, ())) = batch.series_encoded(|out| {
        out.extend_from_slice(labels);
        Some(())
    }) else {
        return;
    };
    if is_histogram {
        batch.histogram(
            series,
            HistogramSample {
                t,
                start: TimestampMs(0),
                histogram: Arc::new(Histogram::stale()),
            },
        );
    } else {
        batch.sample(series, t, stale_nan());
    }
}

/// An answer on its way into a batch.
struct Taking<'a> {
    config: &'a ScrapeConfig,
    target: &'a LabelSet,
    t: TimestampMs,
    batch: &'a mut SampleBatch,
    shown: &'a mut Shown,
    outcome: Outcome,
    /// A limit that was met; the rest is counted and not taken.
    over_limit: Option<&'static str>,
    metadata: BTreeMap<String, MetricMetadata>,
}

impl Visitor for Taking<'_> {
    fn about(&mut self, family: &str, about: About<'_>) {
        if self.metadata.len() >= FAMILIES_MAX {
            return;
        }
        // Counters of OpenMetrics are known by the name without `_total`, as they are told.
        let known = match self.metadata.get_mut(family) {
            Some(known) => known,
            None => self.metadata.entry(family.to_owned()).or_default(),
        };
        match about {
            About::Kind(kind) => known.kind = kind,
            About::Help(help) => help.clone_into(&mut known.help),
            About::Unit(unit) => unit.clone_into(&mut known.unit),
        }
    }

    fn sample(&mut self, sample: &Exposed<'_>) -> Result<(), String> {
        self.outcome.scraped += 1;
        let told = sample.t.filter(|_| self.config.honor_timestamps);
        let is_histogram = matches!(sample.value, ExposedValue::Histogram(_));
        let (ix, is_new, again) = match self.shown.cache.meet(sample.key) {
            Met::Dropped => return Ok(()),
            Met::Known(ix) => (ix, false, false),
            Met::Again(ix) => (ix, false, true),
            Met::New => {
                let labels = self.labels(sample)?;
                if labels.is_empty() {
                    self.shown.cache.add(sample.key, &[], is_histogram);
                    return Ok(());
                }
                (
                    self.shown.cache.add(sample.key, labels.as_bytes(), is_histogram),
                    true,
                    false,
                )
            }
        };
        self.outcome.kept += 1;
        let limit = self.config.limits.samples;
        if limit > 0 && self.outcome.kept > limit {
            self.over_limit = Some("sample limit exceeded");
        }
        if self.batch.bytes() > BATCH_BYTES_MAX {
            return Err(format!(
                "the answer unfolds to more than {BATCH_BYTES_MAX} bytes; set sample_limit"
            ));
        }
        if self.over_limit.is_some() {
            return Ok(());
        }
        if again && told.is_none() {
            self.outcome.duplicates += 1;
            return Ok(());
        }
        let t = told.map_or(self.t, TimestampMs);
        if t.0.saturating_sub(self.t.0) > AHEAD_MS_MAX {
            self.outcome.too_new += 1;
            return Ok(());
        }
        if told.is_none() || self.config.track_timestamps_staleness {
            self.shown.cache.keep_alive(ix, is_histogram);
        }
        self.outcome.series_added += u64::from(is_new);
        self.store(ix, sample, t)
    }
}

impl Taking<'_> {
    fn store(&mut self, ix: EntryIx, sample: &Exposed<'_>, t: TimestampMs) -> Result<(), String> {
        let labels = self.shown.cache.labels(ix);
        let Some((series, ())) = self.batch.series_encoded(|out| {
            out.extend_from_slice(labels);
            Some(())
        }) else {
            return Ok(());
        };
        match &sample.value {
            ExposedValue::Float(v) => match sample.start {
                Some(start) => self.batch.sample_from(series, t, *v, TimestampMs(start)),
                None => self.batch.sample(series, t, *v),
            },
            ExposedValue::Histogram(histogram) => {
                let mut histogram = (**histogram).clone();
                if !self.fits(&mut histogram) {
                    self.over_limit = Some("histogram bucket limit exceeded");
                    return Ok(());
                }
                self.batch.histogram(
                    series,
                    HistogramSample {
                        t,
                        start: TimestampMs(sample.start.unwrap_or(0)),
                        histogram: Arc::new(histogram),
                    },
                );
            }
        }
        for exemplar in sample.exemplars {
            let chars = exemplar
                .labels
                .iter()
                .map(|(n, v)| n.chars().count() + v.chars().count());
            if chars.sum::<usize>() > EXEMPLAR_CHARS_MAX {
                continue;
            }
            self.batch.exemplar(
                series,
                Exemplar {
                    labels: LabelSet::from_pairs(exemplar.labels.iter().map(|(n, v)| (&**n, &**v))),
                    value: exemplar.value,
                    t: exemplar.t.map_or(t, TimestampMs),
                },
            );
        }
        Ok(())
    }

    /// Coarsens a histogram until it fits the job's limits; `false`: it cannot.
    fn fits(&self, histogram: &mut Histogram) -> bool {
        let factor = self.config.native_histogram_min_bucket_factor;
        if factor > 1.0 && !histogram.has_custom_buckets() {
            while histogram.schema > -4 && 2f64.powf(2f64.powi(-histogram.schema)) < factor {
                let coarser = histogram.schema - 1;
                histogram.reduce_to(coarser);
            }
        }
        let limit = usize::try_from(self.config.native_histogram_bucket_limit).unwrap_or(usize::MAX);
        if limit == 0 {
            return true;
        }
        let held = |h: &Histogram| h.positive.counts.len() + h.negative.counts.len();
        while held(histogram) > limit {
            if histogram.has_custom_buckets() || histogram.schema <= -4 {
                return false;
            }
            let coarser = histogram.schema - 1;
            histogram.reduce_to(coarser);
        }
        true
    }

    /// The labels under which a series is stored; none: it is dropped.
    fn labels(&mut self, sample: &Exposed<'_>) -> Result<LabelSet, String> {
        let mut scraped = LabelsBuilder::default();
        // An empty label takes the place of the target's where the job honours labels.
        let mut empty: Vec<String> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        let honors = self.config.honor_labels;
        sample.labels.each(&mut |name, value| {
            if value.is_empty() && honors {
                empty.push(name.to_owned());
            }
            names.push(name.to_owned());
            scraped.set(name, value);
        })?;
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("label name {:?} is not unique: invalid sample", pair[0]));
        }
        let mut labels = scraped;
        if honors {
            for (name, value) in self.target.iter() {
                if labels.get(name).is_none() && !empty.iter().any(|e| e == name) {
                    labels.set(name, value);
                }
            }
        } else {
            let conflicts = self
                .target
                .iter()
                .filter_map(|(name, _)| Some((name.to_owned(), labels.get(name)?.to_owned())));
            let mut conflicts: Vec<(String, String)> = conflicts.collect();
            conflicts.sort_by_key(|(name, _)| name.len());
            for (name, value) in self.target.iter() {
                labels.set(name, value);
            }
            for (name, value) in conflicts {
                let mut moved = format!("exported_{name}");
                while labels.get(&moved).is_some() {
                    moved.insert_str(0, "exported_");
                }
                labels.set(moved, value);
            }
        }
        if !relabel(&self.config.metric_relabel, &mut labels) {
            return Ok(LabelSet::empty());
        }
        let labels = labels.build();
        if labels.is_empty() {
            return Ok(labels);
        }
        self.check(&labels)?;
        Ok(labels)
    }

    fn check(&self, labels: &LabelSet) -> Result<(), String> {
        let name = labels.metric_name();
        if name.is_empty() {
            return Err("missing metric name (__name__ label)".to_owned());
        }
        let names = self.config.names;
        if !names.metric_is_valid(name) || !labels.iter().all(|(name, _)| names.label_is_valid(name)) {
            return Err(format!("invalid metric name or label names: {labels}"));
        }
        let limits = &self.config.limits;
        let short = |text: &str| text.chars().take(50).collect::<String>();
        let n = labels.len() as u64;
        if limits.labels > 0 && n > limits.labels {
            let (name, limit) = (short(name), limits.labels);
            return Err(format!(
                "label_limit exceeded (metric: {name}, number of labels: {n}, limit: {limit})"
            ));
        }
        for (label, value) in labels.iter() {
            let (name_len, value_len) = (label.len() as u64, value.len() as u64);
            let (name_limit, value_limit) = (limits.label_name_length, limits.label_value_length);
            if name_limit > 0 && name_len > name_limit {
                return Err(format!(
                    "label_name_length_limit exceeded (metric: {}, label name: {}, length: {name_len}, limit: {name_limit})",
                    short(name),
                    short(label)
                ));
            }
            if value_limit > 0 && value_len > value_limit {
                return Err(format!(
                    "label_value_length_limit exceeded (metric: {}, label name: {}, value: {:?}, length: {value_len}, limit: {value_limit})",
                    short(name),
                    short(label),
                    short(value)
                ));
            }
        }
        Ok(())
    }
}
