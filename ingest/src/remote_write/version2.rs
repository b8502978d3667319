//! Version 2.0: an `io.prometheus.write.v2.Request` to samples. Labels and texts are references into one table of
//! symbols.
//!
//!     Request     4 symbols*, 5 timeseries*
//!     TimeSeries  1 labels_refs u32* (name, value, name, ..), 2 samples* {1 value, 2 timestamp ms, 3 start},
//!                 3 histograms* (`histogram.rs`), 4 exemplars* {1 labels_refs, 2 value, 3 timestamp}, 5 metadata {1 type, 3 help, 4 unit}
//!
//! A bad series or exemplar is skipped and counted; the rest of the request is stored. A series of exemplars alone is good if
//! the request has samples of it elsewhere: senders give each value a series of its own.

use std::collections::HashMap;

use model::{LabelSet, MetricKind, MetricMetadata, SeriesIx, TimestampMs};

use super::decoded::{Decoded, METADATA_BYTES, bad_labels, check_room, exemplar_of, kind_of};
use super::histogram::read_histogram;
use crate::refusal::Refusal;
use crate::wire::{BadWire, Fields};

/// Why a series is skipped that has no value.
const BARE: &str = "neither samples nor histograms";
/// Label references of one series or exemplar that are looked at.
const REFS_MAX: usize = 2000;

/// Decodes a request. The batch holds at most `bytes_max`.
pub(crate) fn decode(request: &[u8], bytes_max: usize) -> Result<Decoded, Refusal> {
    let mut symbols: Vec<Option<&str>> = Vec::new();
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 4 {
            // Only the series that use a symbol suffer when it is no text.
            symbols.push(std::str::from_utf8(field.bytes()?).ok());
            check_room(symbols.len() * size_of::<Option<&str>>(), bytes_max)?;
        }
    }
    if symbols.first().is_some_and(|s| *s != Some("")) {
        return Err(Refusal::Bad("symbols must begin with the empty string".to_owned()));
    }
    let mut reading = Reading {
        decoded: Decoded::default(),
        symbols,
        refs: Vec::new(),
        labels: Vec::new(),
        metadata_bytes: 0,
        bytes_max,
        alone: Vec::new(),
    };
    for field in Fields::new(request) {
        let field = field?;
        if field.number == 5 {
            reading.series(field.bytes()?)?;
        }
    }
    reading.exemplars_alone()?;
    Ok(reading.decoded)
}

struct Reading<'a> {
    decoded: Decoded,
    /// `None`: not UTF-8.
    symbols: Vec<Option<&'a str>>,
    refs: Vec<u32>,
    labels: Vec<(&'a str, &'a str)>,
    metadata_bytes: usize,
    bytes_max: usize,
    /// Series that have exemplars and nothing else.
    alone: Vec<&'a [u8]>,
}

impl<'a> Reading<'a> {
    fn series(&mut self, message: &'a [u8]) -> Result<(), Refusal> {
        let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
        self.refs.clear();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => field.each_varint(|r| push_ref(&mut self.refs, r))?,
                2 => samples += 1,
                3 => histograms += 1,
                4 => exemplars += 1,
                _ => {}
            }
        }
        if samples + histograms == 0 && exemplars > 0 {
            self.alone.push(message);
            return Ok(());
        }
        let mut labels = std::mem::take(&mut self.labels);
        let bad = match self.resolve(&mut labels) {
            Err(why) => Some(why),
            Ok(()) if samples + histograms == 0 => Some(BARE),
            Ok(()) => bad_labels(&mut labels),
        };
        let result = match bad {
            Some(why) => {
                self.decoded.skip(&labels, why);
                self.decoded.skipped_samples += samples;
                self.decoded.skipped_histograms += histograms;
                Ok(())
            }
            None => self.contents(message, &mut labels),
        };
        self.labels = labels;
        result
    }

    /// Takes the exemplars of series whose samples came with the same request, and skips the others.
    fn exemplars_alone(&mut self) -> Result<(), Refusal> {
        if self.alone.is_empty() {
            return Ok(());
        }
        let batch = &self.decoded.batch;
        let all = (0..batch.series_count())
            .filter_map(|ix| u32::try_from(ix).ok())
            .map(SeriesIx);
        let known: HashMap<Vec<u8>, SeriesIx> = all.map(|ix| (batch.labels(ix).0.to_vec(), ix)).collect();
        for message in std::mem::take(&mut self.alone) {
            self.refs.clear();
            for field in Fields::new(message) {
                let field = field?;
                if field.number == 1 {
                    field.each_varint(|r| push_ref(&mut self.refs, r))?;
                }
            }
            let mut labels = std::mem::take(&mut self.labels);
            let bad = self.resolve(&mut labels).err().or_else(|| bad_labels(&mut labels));
            let series = known.get(LabelSet::from_pairs(labels.iter().copied()).as_bytes());
            match (bad, series) {
                (None, Some(series)) => {
                    for field in Fields::new(message) {
                        let field = field?;
                        if field.number == 4 {
                            self.exemplar(field.bytes()?, *series)?;
                        }
                    }
                    check_room(self.decoded.batch.bytes() + self.metadata_bytes, self.bytes_max)?;
                }
                (bad, _) => self.decoded.skip(&labels, bad.unwrap_or(BARE)),
            }
            self.labels = labels;
        }
        Ok(())
    }

    fn contents(&mut self, message: &'a [u8], labels: &mut Vec<(&'a str, &'a str)>) -> Result<(), Refusal> {
        let name = labels
            .iter()
            .find(|(n, _)| *n == model::METRIC_NAME)
            .map_or("", |(_, v)| *v);
        let series = self.decoded.batch.series(labels);
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                2 => {
                    let (t, v, start) = read_sample(field.bytes()?)?;
                    if start == 0 || start > t {
                        self.decoded.batch.sample(series, TimestampMs(t), v);
                    } else {
                        let (t, start) = (TimestampMs(t), TimestampMs(start));
                        self.decoded.batch.sample_from(series, t, v, start);
                    }
                }
                3 => self.decoded.histogram(series, read_histogram(field.bytes()?)?),
                4 => self.exemplar(field.bytes()?, series)?,
                5 => self.metadata(field.bytes()?, name)?,
                _ => continue,
            }
            check_room(self.decoded.batch.bytes() + self.metadata_bytes, self.bytes_max)?;
        }
        Ok(())
    }

    fn exemplar(&mut self, message: &'a [u8], series: SeriesIx) -> Result<(), Refusal> {
        let (mut value, mut t) = (0.0, 0);
        self.refs.clear();
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => field.each_varint(|r| push_ref(&mut self.refs, r))?,
                2 => value = field.double()?,
                3 => t = field.varint()? as i64,
                _ => {}
            }
        }
        let mut labels = Vec::new();
        if self.resolve(&mut labels).is_err() {
            self.decoded.unreadable_exemplars += 1;
        } else if let Some(exemplar) = exemplar_of(labels, value, t) {
            self.decoded.batch.exemplar(series, exemplar);
        }
        Ok(())
    }

    /// Metadata comes with a series and is kept by family: the parts of a histogram or summary share one.
    fn metadata(&mut self, message: &'a [u8], name: &str) -> Result<(), Refusal> {
        let mut metadata = MetricMetadata::default();
        let symbol = |r: u64| {
            let symbol = usize::try_from(r).ok().and_then(|r| self.symbols.get(r));
            symbol.copied().flatten().map_or(String::new(), str::to_owned)
        };
        for field in Fields::new(message) {
            let field = field?;
            match field.number {
                1 => metadata.kind = kind_of(field.varint()?),
                3 => metadata.help = symbol(field.varint()?),
                4 => metadata.unit = symbol(field.varint()?),
                _ => {}
            }
        }
        if metadata == MetricMetadata::default() {
            return Ok(());
        }
        let suffixes: &[&str] = match metadata.kind {
            MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_count", "_sum"],
            MetricKind::Summary => &["_count", "_sum"],
            _ => &[],
        };
        let family = suffixes.iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
        // The series of one family come together and say the same.
        let last = self.decoded.batch.all_metadata().last();
        if last.is_none_or(|(f, m)| f != family || *m != metadata) {
            self.metadata_bytes += METADATA_BYTES + family.len() + metadata.help.len() + metadata.unit.len();
            self.decoded.batch.metadata(family, metadata);
        }
        Ok(())
    }

    /// The labels that the references name.
    fn resolve(&self, labels: &mut Vec<(&'a str, &'a str)>) -> Result<(), &'static str> {
        labels.clear();
        let (pairs, rest) = self.refs.as_chunks::<2>();
        let symbol = |r: u32| self.symbols.get(r as usize).copied();
        for [name, value] in pairs {
            match (symbol(*name), symbol(*value)) {
                (Some(Some(name)), Some(Some(value))) => labels.push((name, value)),
                (Some(_), Some(_)) => return Err("a label that is not UTF-8"),
                _ => return Err("a reference to a symbol that is not there"),
            }
        }
        if self.refs.len() >= REFS_MAX {
            return Err("too many labels");
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err("an odd number of label references")
        }
    }
}

fn push_ref(refs: &mut Vec<u32>, r: u64) {
    if refs.len() < REFS_MAX {
        refs.push(u32::try_from(r).unwrap_or(u32::MAX));
    }
}

#[inline]
fn read_sample(message: &[u8]) -> Result<(i64, f64, i64), BadWire> {
    let (mut t, mut v, mut start) = (0, 0.0, 0);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => v = field.double()?,
            2 => t = field.varint()? as i64,
            3 => start = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((t, v, start))
}

#[cfg(test)]
pub(crate) mod tests {
    use model::LabelSet;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{put_bytes, put_fixed64, put_number, put_varint};

    const ROOM: usize = 1 << 20;

    fn refs(refs: &[u32]) -> Vec<u8> {
        let mut packed = Vec::new();
        refs.iter().for_each(|r| put_varint(&mut packed, u64::from(*r)));
        packed
    }

    /// A series: label references and samples.
    pub fn series(labels: &[u32], samples: &[(i64, f64)]) -> Vec<u8> {
        let mut series = Vec::new();
        put_bytes(&mut series, 1, &refs(labels));
        for (t, v) in samples {
            let mut sample = Vec::new();
            put_fixed64(&mut sample, 1, v.to_bits());
            put_number(&mut sample, 2, *t as u64);
            put_bytes(&mut series, 2, &sample);
        }
        series
    }

    /// A series with an exemplar whose labels are references too.
    pub fn with_exemplar(mut series: Vec<u8>, labels: &[u32]) -> Vec<u8> {
        let mut exemplar = Vec::new();
        put_bytes(&mut exemplar, 1, &refs(labels));
        put_fixed64(&mut exemplar, 2, 0.5f64.to_bits());
        put_number(&mut exemplar, 3, 9);
        put_bytes(&mut series, 4, &exemplar);
        series
    }

    /// A series with a histogram.
    pub fn with_histogram(mut series: Vec<u8>, message: &[u8]) -> Vec<u8> {
        put_bytes(&mut series, 3, message);
        series
    }

    /// A request of symbols and series.
    pub fn request(symbols: &[&str], all: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        symbols.iter().for_each(|s| put_bytes(&mut out, 4, s.as_bytes()));
        all.iter().for_each(|s| put_bytes(&mut out, 5, s));
        out
    }

    #[test]
    fn series_by_reference() {
        let symbols = [
            "",
            "__name__",
            "rpc_seconds_count",
            "job",
            "x",
            "How long.",
            "seconds",
            "trace_id",
            "t",
        ];
        let mut one = with_exemplar(series(&[3, 4, 1, 2], &[(5, model::stale_nan())]), &[7, 8]);
        let mut metadata = Vec::new();
        put_number(&mut metadata, 1, 5);
        put_number(&mut metadata, 3, 5);
        put_number(&mut metadata, 4, 6);
        put_bytes(&mut one, 5, &metadata);
        let all = [
            one,
            series(&[1, 2, 3], &[(1, 1.0)]),
            series(&[1, 99], &[(1, 1.0)]),
            series(&[3, 4], &[(1, 1.0), (2, 1.0)]),
            series(&[1, 2], &[]),
            series(&[1, 2, 3, 4, 3, 4], &[(1, 1.0)]),
        ];
        let decoded = decode(&request(&symbols, &all), ROOM).unwrap();
        let batch = &decoded.batch;
        let (ix, sample) = batch.samples()[0];
        let labels = LabelSet::from_encoded(batch.labels(ix).0).unwrap();
        assert_eq!(labels.to_string(), r#"{__name__="rpc_seconds_count", job="x"}"#);
        assert_eq!((batch.samples().len(), sample.v.to_bits()), (1, model::STALE_NAN_BITS));
        assert_eq!(batch.exemplars()[0].1.labels.get("trace_id"), Some("t"));
        let (family, metadata) = &batch.all_metadata()[0];
        assert_eq!((family.as_str(), metadata.kind), ("rpc_seconds", MetricKind::Summary));
        assert_eq!(
            (metadata.help.as_str(), metadata.unit.as_str()),
            ("How long.", "seconds")
        );
        assert_eq!((decoded.skipped_series, decoded.skipped_samples), (5, 5));
        assert!(decoded.skipped_why.unwrap().contains("odd number"));
    }

    #[test]
    fn symbols_begin_with_the_empty_one() {
        assert!(decode(&request(&["a"], &[]), ROOM).is_err());
        assert!(decode(&request(&[""], &[]), ROOM).is_ok());
        assert!(matches!(
            decode(&request(&[""; 100_000], &[]), ROOM),
            Err(Refusal::TooLarge(_))
        ));
    }

    #[test]
    fn exemplars_that_refer_to_nothing_are_told() {
        let one = with_exemplar(series(&[1, 2], &[(1, 1.0)]), &[1, 9]);
        let decoded = decode(&request(&["", "__name__", "m"], &[one]), ROOM).unwrap();
        assert_eq!(decoded.unreadable_exemplars, 1);
        assert_eq!(decoded.batch.exemplars().len(), 0);
    }

    #[test]
    fn exemplars_sent_alone_belong_to_the_samples_of_the_request() {
        let symbols = ["", "__name__", "m", "n", "job", "x", "trace_id", "t"];
        let all = [
            with_exemplar(series(&[4, 5, 1, 2], &[]), &[6, 7]),
            series(&[1, 2], &[(1, 1.0)]),
            series(&[1, 2, 4, 5], &[(1, 2.0)]),
            with_exemplar(series(&[1, 3], &[]), &[6, 7]),
            with_exemplar(series(&[1, 99], &[]), &[6, 7]),
        ];
        let decoded = decode(&request(&symbols, &all), ROOM).unwrap();
        let batch = &decoded.batch;
        let [(ix, exemplar)] = batch.exemplars() else {
            panic!("{:?}", batch.exemplars())
        };
        let labels = LabelSet::from_encoded(batch.labels(*ix).0).unwrap();
        assert_eq!(labels.to_string(), r#"{__name__="m", job="x"}"#);
        assert_eq!(exemplar.labels.get("trace_id"), Some("t"));
        assert_eq!((batch.samples().len(), batch.series_count()), (2, 2));
        // Nobody sent samples of the one, and the other has no name.
        assert_eq!((decoded.skipped_series, decoded.skipped_samples), (2, 0));
        assert!(decoded.skipped_why.unwrap().contains(BARE));
    }

    proptest! {
        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, ROOM);
        }

        /// A valid request with some bytes changed reaches deeper than noise does.
        #[test]
        fn damaged_requests_do_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let one = with_exemplar(series(&[1, 2], &[(1, 1.0)]), &[1, 2]);
            let mut bytes = request(&["", "__name__", "m"], &[one]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes, ROOM);
        }
    }
}
