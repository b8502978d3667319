//! Batches: what one request brings, in columns, on the way from a decoder to an engine.
//!
//! A decoder reuses its buffers: label sets and lines go into one arena each, samples and entries are small records
//! that point into them. Nothing is allocated per sample or per line.

use std::ops::Range;

use crate::labels::encode_labels;
use crate::{Exemplar, HistogramSample, LabelSet, MetricMetadata, Sample, Span, TimestampMs, TimestampNs, hash_labels};

/// Position of a series within its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesIx(pub u32);

/// Position of a stream within its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIx(pub u32);

#[derive(Clone, Debug, Default)]
struct LabelArena {
    bytes: Vec<u8>,
    sets: Vec<(Range<u32>, u64)>,
}

impl LabelArena {
    fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let start = self.bytes.len();
        encode(&mut self.bytes);
        let hash = hash_labels(&self.bytes[start..]);
        self.sets.push((start as u32..self.bytes.len() as u32, hash));
        (self.sets.len() - 1) as u32
    }

    /// `None`, and nothing added, if `encode` says so.
    fn try_push<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Option<T>) -> Option<(u32, T)> {
        let start = self.bytes.len();
        let Some(more) = encode(&mut self.bytes) else {
            self.bytes.truncate(start);
            return None;
        };
        let hash = hash_labels(&self.bytes[start..]);
        self.sets.push((start as u32..self.bytes.len() as u32, hash));
        Some(((self.sets.len() - 1) as u32, more))
    }

    fn get(&self, ix: u32) -> (&[u8], u64) {
        let (range, hash) = &self.sets[ix as usize];
        (&self.bytes[range.start as usize..range.end as usize], *hash)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.sets.clear();
    }
}

/// Memory of a histogram beside its buckets, about.
const HISTOGRAM_BYTES: usize = 192;

/// Samples, exemplars and metadata of one request.
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    labels: LabelArena,
    samples: Vec<(SeriesIx, Sample)>,
    /// Place in `samples` and start; rising by place.
    starts: Vec<(u32, TimestampMs)>,
    histograms: Vec<(SeriesIx, HistogramSample)>,
    /// What the histograms occupy, about.
    histogram_bytes: usize,
    exemplars: Vec<(SeriesIx, Exemplar)>,
    metadata: Vec<(String, MetricMetadata)>,
}

impl SampleBatch {
    /// Adds a series; `pairs` may come in any order (see [`encode_labels`]) and is scratch space afterwards. The same
    /// label set may be added twice.
    pub fn series(&mut self, pairs: &mut Vec<(&str, &str)>) -> SeriesIx {
        SeriesIx(self.labels.push(|out| encode_labels(pairs, out)))
    }

    /// Adds a series whose label set `encode` appends in its canonical encoding (see [`LabelSet`]), for decoders that have
    /// it at hand. Gives on what `encode` returns; `None`, and nothing added, if that is `None`.
    pub fn series_encoded<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> Option<T>) -> Option<(SeriesIx, T)> {
        let (ix, more) = self.labels.try_push(encode)?;
        Some((SeriesIx(ix), more))
    }

    /// Adds a series by its label set.
    pub fn series_of(&mut self, labels: &LabelSet) -> SeriesIx {
        SeriesIx(self.labels.push(|out| out.extend_from_slice(labels.as_bytes())))
    }

    /// Adds a sample.
    pub fn sample(&mut self, series: SeriesIx, t: TimestampMs, v: f64) {
        self.samples.push((series, Sample { t, v }));
    }

    /// Adds a sample of a counter whose counting began at `start`.
    pub fn sample_from(&mut self, series: SeriesIx, t: TimestampMs, v: f64, start: TimestampMs) {
        self.starts.push((self.samples.len() as u32, start));
        self.sample(series, t, v);
    }

    /// Adds a native histogram.
    pub fn histogram(&mut self, series: SeriesIx, sample: HistogramSample) {
        let h = &sample.histogram;
        let numbers = h.positive.counts.len() + h.negative.counts.len() + h.bounds.len();
        let spans = h.positive.spans.len() + h.negative.spans.len();
        self.histogram_bytes += HISTOGRAM_BYTES + 8 * (numbers + spans);
        self.histograms.push((series, sample));
    }

    /// Adds an exemplar.
    pub fn exemplar(&mut self, series: SeriesIx, exemplar: Exemplar) {
        self.exemplars.push((series, exemplar));
    }

    /// Says what is known of a metric family.
    pub fn metadata(&mut self, family: impl Into<String>, metadata: MetricMetadata) {
        self.metadata.push((family.into(), metadata));
    }

    /// How many series.
    pub fn series_count(&self) -> usize {
        self.labels.sets.len()
    }

    /// Encoded label set and hash of a series.
    pub fn labels(&self, series: SeriesIx) -> (&[u8], u64) {
        self.labels.get(series.0)
    }

    /// The same of every series, in order of their positions.
    pub fn all_labels(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> {
        (0..self.series_count() as u32).map(|ix| self.labels.get(ix))
    }

    /// All samples in the order added.
    pub fn samples(&self) -> &[(SeriesIx, Sample)] {
        &self.samples
    }

    /// Start timestamps that are known: place in [`SampleBatch::samples`] (rising) and start.
    pub fn starts(&self) -> &[(u32, TimestampMs)] {
        &self.starts
    }

    /// All native histograms in the order added.
    pub fn histograms(&self) -> &[(SeriesIx, HistogramSample)] {
        &self.histograms
    }

    /// All exemplars in the order added.
    pub fn exemplars(&self) -> &[(SeriesIx, Exemplar)] {
        &self.exemplars
    }

    /// All metadata in the order added.
    pub fn all_metadata(&self) -> &[(String, MetricMetadata)] {
        &self.metadata
    }

    /// Whether it holds nothing to store.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// About how many bytes it occupies.
    pub fn bytes(&self) -> usize {
        let fixed = self.labels.sets.len() * 16 + self.samples.len() * 24 + self.exemplars.len() * 128;
        self.labels.bytes.len() + self.starts.len() * 16 + self.histogram_bytes + fixed
    }

    /// Empties it, keeping the buffers.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.starts.clear();
        self.histograms.clear();
        self.histogram_bytes = 0;
        self.exemplars.clear();
        self.metadata.clear();
    }
}

#[derive(Clone, Debug)]
struct LogRow {
    stream: StreamIx,
    t: TimestampNs,
    line: Range<u32>,
    metadata: Range<u32>,
}

/// Log entries of one request.
#[derive(Clone, Debug, Default)]
pub struct LogBatch {
    labels: LabelArena,
    rows: Vec<LogRow>,
    text: String,
    metadata: Vec<(Range<u32>, Range<u32>)>,
}

impl LogBatch {
    /// Makes room for so many bytes of text.
    pub fn reserve_text(&mut self, bytes: usize) {
        self.text.reserve(bytes);
    }

    /// Adds a stream; `pairs` may come in any order and is scratch space afterwards.
    pub fn stream(&mut self, pairs: &mut Vec<(&str, &str)>) -> StreamIx {
        StreamIx(self.labels.push(|out| encode_labels(pairs, out)))
    }

    /// Adds a stream by its label set.
    pub fn stream_of(&mut self, labels: &LabelSet) -> StreamIx {
        StreamIx(self.labels.push(|out| out.extend_from_slice(labels.as_bytes())))
    }

    /// Adds an entry with its structured metadata. A batch holds less than 4 GiB of text; decoders bound it far lower.
    pub fn entry<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        stream: StreamIx,
        t: TimestampNs,
        line: &str,
        metadata: impl IntoIterator<Item = (N, V)>,
    ) {
        let line = self.put(line);
        let first = self.metadata.len() as u32;
        // Names, and many values, are what they were in the row before: those are not put again.
        let mut before = self.rows.last().map_or(0..0, |row| row.metadata.clone());
        for (n, v) in metadata {
            let (name, value) = match before.next() {
                Some(i) => self.metadata[i as usize].clone(),
                None => (0..0, 0..0),
            };
            let pair = (self.put_again(n.as_ref(), name), self.put_again(v.as_ref(), value));
            self.metadata.push(pair);
        }
        let metadata = first..self.metadata.len() as u32;
        self.rows.push(LogRow {
            stream,
            t,
            line,
            metadata,
        });
    }

    /// How many streams.
    pub fn stream_count(&self) -> usize {
        self.labels.sets.len()
    }

    /// Encoded label set and hash of a stream.
    pub fn labels(&self, stream: StreamIx) -> (&[u8], u64) {
        self.labels.get(stream.0)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Stream, time and line of the entry at `row`.
    pub fn row(&self, row: usize) -> (StreamIx, TimestampNs, &str) {
        let r = &self.rows[row];
        (r.stream, r.t, self.text(&r.line))
    }

    /// Structured metadata of the entry at `row`, in the order given.
    pub fn row_metadata(&self, row: usize) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let r = &self.rows[row].metadata;
        self.metadata[r.start as usize..r.end as usize]
            .iter()
            .map(|(n, v)| (self.text(n), self.text(v)))
    }

    /// About how many bytes it occupies.
    pub fn bytes(&self) -> usize {
        self.labels.bytes.len() + self.text.len() + self.rows.len() * 32 + self.metadata.len() * 16
    }

    /// Bytes of lines and structured metadata.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Empties it, keeping the buffers.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.rows.clear();
        self.text.clear();
        self.metadata.clear();
    }

    fn put(&mut self, s: &str) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.push_str(s);
        start..self.text.len() as u32
    }

    /// Where `s` stands: at `known`, if that is the same text.
    fn put_again(&mut self, s: &str, known: Range<u32>) -> Range<u32> {
        let there = &self.text.as_bytes()[known.start as usize..known.end as usize];
        if there == s.as_bytes() { known } else { self.put(s) }
    }

    fn text(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }
}

/// Spans of one request.
#[derive(Clone, Debug, Default)]
pub struct SpanBatch {
    /// The spans, in the order received.
    pub spans: Vec<Span>,
}
