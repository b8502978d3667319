//! Classic histograms as native ones with custom buckets, where a job asks for that.
//!
//! In the text formats a classic histogram is a run of lines: `_bucket`, `_sum` and `_count` of one label set, below the `# TYPE` of
//! its family. [`Joining`] stands between a reader and its visitor, keeps such lines until another series begins, and then shows
//! them as one histogram. Lines of OpenMetrics that tell when counting began become its start. A run whose counts
//! fall, or disagree with each other, is no histogram and is not shown.

use std::borrow::Cow;

use model::{Buckets, CUSTOM_BUCKETS, Histogram, METRIC_NAME, MetricKind, ResetHint};

use super::number::parse_float;
use super::{About, Exposed, ExposedExemplar, ExposedLabels, ExposedValue, Visitor};

/// What a classic histogram says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Classic {
    /// Upper bounds and how many observations lie below them.
    pub buckets: Vec<(f64, f64)>,
    pub sum: f64,
    pub count: Option<f64>,
}

impl Classic {
    /// As a native histogram; `None`: it contradicts itself.
    pub fn to_custom(&self) -> Option<Histogram> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The sort is stable: of two lines for one bound the first counts.
        buckets.dedup_by(|later, first| later.0 == first.0);
        let infinite = buckets.pop_if(|(bound, _)| *bound == f64::INFINITY);
        let last = buckets.last().map(|(_, count)| *count);
        let count = match (infinite, self.count) {
            (Some((_, total)), Some(count)) if total != count => return None,
            (Some((_, total)), _) => total,
            (None, count) => count.or(last)?,
        };
        let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
        let mut places = Vec::with_capacity(buckets.len() + 1);
        let mut below = 0.0;
        let totals = buckets.iter().map(|(_, total)| *total).chain([count]);
        for (place, total) in (0i32..).zip(totals) {
            let held = total - below;
            if held.is_nan() || held < 0.0 {
                return None;
            }
            if held > 0.0 {
                places.push((place, held));
            }
            below = total;
        }
        let histogram = Histogram {
            reset: ResetHint::Unknown,
            schema: CUSTOM_BUCKETS,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count,
            sum: self.sum,
            positive: Buckets::from_indexed(places),
            negative: Buckets::default(),
            bounds: bounds.into(),
        };
        histogram.validate().is_ok().then_some(histogram)
    }
}

/// Joins lines on their way to a visitor.
pub(super) struct Joining<'a, V> {
    visitor: &'a mut V,
    /// Whether the lines are shown too.
    keeps_lines: bool,
    /// Whether `_created` tells when counting began.
    has_starts: bool,
    /// The histogram that the last `# TYPE` named; empty: it named something else.
    family: String,
    run: Option<Run>,
}

/// The lines of one histogram so far.
struct Run {
    family: String,
    /// Without `le`, sorted.
    labels: Pairs,
    classic: Classic,
    t: Option<i64>,
    start: Option<i64>,
    exemplars: Vec<ExposedExemplar<'static>>,
}

/// Names and values of labels.
type Pairs = Vec<(String, String)>;

/// What a line adds to its histogram.
enum Part {
    Bucket(f64),
    Sum,
    Count,
    Created,
}

impl<'a, V: Visitor> Joining<'a, V> {
    pub fn new(visitor: &'a mut V, keeps_lines: bool, has_starts: bool) -> Joining<'a, V> {
        Joining {
            visitor,
            keeps_lines,
            has_starts,
            family: String::new(),
            run: None,
        }
    }

    /// Shows what is still kept back.
    pub fn finish(mut self) -> Result<(), String> {
        self.show_run()
    }

    fn show_run(&mut self) -> Result<(), String> {
        let Some(mut run) = self.run.take() else { return Ok(()) };
        let Some(histogram) = run.classic.to_custom() else {
            return Ok(());
        };
        // In a native histogram an exemplar's place in time is all that orders it.
        run.exemplars.retain(|e| e.t.is_some());
        self.visitor.sample(&Exposed {
            key: &run.key(),
            labels: &run,
            value: ExposedValue::Histogram(Box::new(histogram)),
            t: run.t,
            start: run.start,
            exemplars: &run.exemplars,
        })
    }

    /// The part that a sample is of the family's histogram, and the other labels, sorted.
    fn part(&self, sample: &Exposed<'_>) -> Result<Option<(Part, Pairs)>, String> {
        if self.family.is_empty() {
            return Ok(None);
        }
        let mut name = String::new();
        let mut bound = None;
        let mut labels = Vec::new();
        sample.labels.each(&mut |label, value| match label {
            METRIC_NAME => value.clone_into(&mut name),
            "le" => bound = parse_float(value.as_bytes()).filter(|v| !v.is_nan()),
            _ => labels.push((label.to_owned(), value.to_owned())),
        })?;
        labels.sort();
        let part = match (name.strip_prefix(self.family.as_str()), bound) {
            (Some("_bucket"), Some(bound)) => Part::Bucket(bound),
            (Some("_sum"), None) => Part::Sum,
            (Some("_count"), None) => Part::Count,
            (Some("_created"), None) if self.has_starts => Part::Created,
            _ => return Ok(None),
        };
        Ok(Some((part, labels)))
    }
}

impl<V: Visitor> Visitor for Joining<'_, V> {
    fn about(&mut self, family: &str, about: About<'_>) {
        if let About::Kind(kind) = about {
            self.family.clear();
            if kind == MetricKind::Histogram {
                self.family.push_str(family);
            }
        }
        self.visitor.about(family, about);
    }

    fn sample(&mut self, sample: &Exposed<'_>) -> Result<(), String> {
        let part = match &sample.value {
            ExposedValue::Float(v) => self.part(sample)?.map(|(part, labels)| (part, labels, *v)),
            ExposedValue::Histogram(_) => None,
        };
        let Some((part, labels, v)) = part else {
            self.show_run()?;
            return self.visitor.sample(sample);
        };
        let is_same = |run: &Run| run.family == self.family && run.labels == labels;
        if !self.run.as_ref().is_some_and(is_same) {
            self.show_run()?;
        }
        let run = self.run.get_or_insert_with(|| Run {
            family: self.family.clone(),
            labels,
            classic: Classic::default(),
            t: sample.t,
            start: None,
            exemplars: Vec::new(),
        });
        let is_start = matches!(part, Part::Created);
        match part {
            Part::Bucket(bound) => run.classic.buckets.push((bound, v)),
            Part::Sum => run.classic.sum = v,
            Part::Count => run.classic.count = Some(v),
            Part::Created => run.start = Some((v * 1000.0) as i64),
        }
        run.exemplars.extend(sample.exemplars.iter().map(owned));
        if self.keeps_lines && !is_start {
            return self.visitor.sample(sample);
        }
        Ok(())
    }
}

impl Run {
    /// No line of text begins like this.
    fn key(&self) -> Vec<u8> {
        let mut key = vec![0xff];
        key.extend_from_slice(self.family.as_bytes());
        for (name, value) in &self.labels {
            key.push(0xff);
            key.extend_from_slice(name.as_bytes());
            key.push(0xfe);
            key.extend_from_slice(value.as_bytes());
        }
        key
    }
}

impl ExposedLabels for Run {
    fn each(&self, see: &mut dyn FnMut(&str, &str)) -> Result<(), String> {
        see(METRIC_NAME, &self.family);
        for (name, value) in &self.labels {
            see(name, value);
        }
        Ok(())
    }
}

fn owned(exemplar: &ExposedExemplar<'_>) -> ExposedExemplar<'static> {
    let own = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
    ExposedExemplar {
        labels: exemplar.labels.iter().map(|(n, v)| (own(n), own(v))).collect(),
        value: exemplar.value,
        t: exemplar.t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bounds, what each bucket holds (place and count), count; or that it is none. As Prometheus converts them.
    #[test]
    fn what_adds_up_becomes_a_histogram() {
        let inf = f64::INFINITY;
        type Want<'a> = Option<(&'a [f64], &'a [(i32, f64)], f64)>;
        type Case<'a> = (&'a [(f64, f64)], Option<f64>, Want<'a>);
        let cases: [Case<'_>; 11] = [
            (
                &[(1.0, 1.0), (5.0, 3.0), (inf, 4.0)],
                Some(4.0),
                Some((&[1.0, 5.0], &[(0, 1.0), (1, 2.0), (2, 1.0)], 4.0)),
            ),
            (&[(1.0, 0.0), (inf, 2.0)], None, Some((&[1.0], &[(1, 2.0)], 2.0))),
            (&[(1.0, 1.0)], Some(4.0), Some((&[1.0], &[(0, 1.0), (1, 3.0)], 4.0))),
            (&[(1.0, 1.0)], None, Some((&[1.0], &[(0, 1.0)], 1.0))),
            (&[], Some(6.0), Some((&[], &[(0, 6.0)], 6.0))),
            (
                &[(inf, 6.0), (2.0, 3.0), (1.0, 2.0)],
                Some(6.0),
                Some((&[1.0, 2.0], &[(0, 2.0), (1, 1.0), (2, 3.0)], 6.0)),
            ),
            (
                &[(1.0, 1.0), (1.0, 2.0), (inf, 6.0)],
                Some(6.0),
                Some((&[1.0], &[(0, 1.0), (1, 5.0)], 6.0)),
            ),
            (&[(1.0, 5.0), (2.0, 3.0), (inf, 6.0)], Some(6.0), None),
            (&[(1.0, 1.0), (inf, 6.0)], Some(7.0), None),
            (&[(1.0, -1.0), (inf, 6.0)], Some(6.0), None),
            (&[], None, None),
        ];
        for (buckets, count, want) in cases {
            let classic = Classic {
                buckets: buckets.to_vec(),
                sum: 3.0,
                count,
            };
            let got = classic.to_custom();
            let got = got.map(|h| (h.bounds.to_vec(), h.positive.iter().collect::<Vec<_>>(), h.count));
            let want = want.map(|(bounds, held, count)| (bounds.to_vec(), held.to_vec(), count));
            assert_eq!(got, want, "{classic:?}");
        }
    }
}
