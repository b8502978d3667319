//! What one batch leaves in the WAL.
//!
//! # WAL record of the metrics engine, kind 1 (batch)
//!
//! `uv` = LEB128, `iv` = zigzag LEB128, numbers little-endian. The WAL frames and checks the record.
//!
//! ```text
//! record     = definitions · samples · exemplars · metadata · (starts · histograms, if there are any)
//! definitions= count uv · (id uv · day iv · labels (len uv · encoded label set))*
//! samples    = series count n uv · sample count m uv · ids [n] · counts [n] · times [m] · values [m]
//!   ids      = id - previous id iv, the first from 0
//!   counts   = samples of the series uv
//!   times    = ms since the epoch - the time before iv, the first from 0
//!   values   = bits u64
//! exemplars  = count uv · (id uv · exemplar (`exemplar.rs`))*
//! metadata   = count uv · (family (len uv · UTF-8) · kind u8 · unit (len uv · UTF-8) · help (len uv · UTF-8))*
//! starts     = count uv · (place among the samples - the place before uv · start - the start before iv)*
//!              when the counting of a sample began, ms; both from 0
//! histograms = count uv · (id uv · time iv · start iv · histogram (`histogram.rs`))*
//! ```
//!
//! A definition says: this id has this label set and is in use on this day. Each generation of the head defines an id
//! before its first use on a day (in the same record, or in an earlier one of the generation), so that the part of the
//! WAL that is not in blocks yet replays alone. Golden file: `testdata/wal_batch_v1.bin`.

use std::sync::Arc;

use model::{Day, Exemplar, Histogram, LabelSet, MetricKind, MetricMetadata};
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv};

use crate::exemplar::{get_exemplar, put_exemplar};
use crate::histogram::{get_histogram, put_histogram};

/// The kind of a batch record.
pub(crate) const KIND_BATCH: u8 = 1;

/// Builds a record piece by piece, in the order of the drawing.
pub(crate) struct RecordWriter {
    out: Vec<u8>,
}

impl RecordWriter {
    /// Starts with the definitions.
    pub(crate) fn new<'a>(definitions: impl ExactSizeIterator<Item = (u32, Day, &'a LabelSet)>) -> RecordWriter {
        let mut out = Vec::with_capacity(256);
        put_uv(&mut out, definitions.len() as u64);
        for (id, day, labels) in definitions {
            put_uv(&mut out, u64::from(id));
            put_iv(&mut out, i64::from(day.0));
            put_bytes(&mut out, labels.as_bytes());
        }
        RecordWriter { out }
    }

    /// `series`: id and number of samples, which follow each other in `t` and `v`.
    pub(crate) fn samples(
        &mut self,
        series: impl ExactSizeIterator<Item = (u32, usize)> + Clone,
        t: &[i64],
        v: &[f64],
    ) {
        let out = &mut self.out;
        out.reserve(series.len() * 3 + t.len() * 10);
        put_uv(out, series.len() as u64);
        put_uv(out, t.len() as u64);
        let mut last = 0;
        for (id, _) in series.clone() {
            put_iv(out, i64::from(id) - last);
            last = i64::from(id);
        }
        for (_, samples) in series {
            put_uv(out, samples as u64);
        }
        let mut last = 0i64;
        for &t in t {
            put_iv(out, t.wrapping_sub(last));
            last = t;
        }
        for v in v {
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }

    pub(crate) fn exemplars<'a>(&mut self, exemplars: impl ExactSizeIterator<Item = (u32, &'a Exemplar)>) {
        put_uv(&mut self.out, exemplars.len() as u64);
        for (id, exemplar) in exemplars {
            put_uv(&mut self.out, u64::from(id));
            put_exemplar(&mut self.out, exemplar);
        }
    }

    pub(crate) fn metadata(&mut self, metadata: &[&(String, MetricMetadata)]) {
        put_uv(&mut self.out, metadata.len() as u64);
        for (family, metadata) in metadata {
            put_metadata(&mut self.out, family, metadata);
        }
    }

    /// The last piece; returns the record. `starts` is as long as the samples, or empty; of each histogram the id, the
    /// time, the start and the value.
    pub(crate) fn histograms<'a>(
        mut self,
        starts: &[i64],
        histograms: impl ExactSizeIterator<Item = (u32, i64, i64, &'a Histogram)>,
    ) -> Vec<u8> {
        if starts.is_empty() && histograms.len() == 0 {
            return self.out;
        }
        let known = || starts.iter().enumerate().filter(|(_, start)| **start != 0);
        put_uv(&mut self.out, known().count() as u64);
        let (mut place, mut last) = (0, 0i64);
        for (at, &start) in known() {
            put_uv(&mut self.out, (at - place) as u64);
            put_iv(&mut self.out, start.wrapping_sub(last));
            (place, last) = (at, start);
        }
        put_uv(&mut self.out, histograms.len() as u64);
        for (id, t, start, h) in histograms {
            put_uv(&mut self.out, u64::from(id));
            put_iv(&mut self.out, t);
            put_iv(&mut self.out, start);
            put_histogram(&mut self.out, h);
        }
        self.out
    }
}

/// A record read back; its columns are decoded.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) definitions: Vec<(u32, Day, LabelSet)>,
    /// Id and number of samples.
    pub(crate) series: Vec<(u32, usize)>,
    pub(crate) t: Vec<i64>,
    pub(crate) v: Vec<f64>,
    pub(crate) exemplars: Vec<(u32, Exemplar)>,
    pub(crate) metadata: Vec<(String, MetricMetadata)>,
    /// As long as `t`, or empty.
    pub(crate) starts: Vec<i64>,
    pub(crate) histograms: Vec<(u32, i64, i64, Arc<Histogram>)>,
}

impl Record {
    pub(crate) fn decode(payload: &[u8]) -> Result<Record, Malformed> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        let mut record = Record::default();
        for _ in 0..r.count(3)? {
            let (id, day) = (get_id(r)?, r.iv()?);
            let at = r.position();
            let bad = |what| Malformed { at, what };
            let day = Day(i32::try_from(day).map_err(|_| bad("impossible day"))?);
            let labels = LabelSet::from_encoded(r.bytes()?).map_err(|e| bad(e.what))?;
            record.definitions.push((id, day, labels));
        }
        let series = r.count(2)?;
        let samples = r.count(9)?;
        let mut ids = Vec::with_capacity(series);
        let mut id = 0i64;
        for _ in 0..series {
            let at = r.position();
            id = id.wrapping_add(r.iv()?);
            ids.push(u32::try_from(id).map_err(|_| Malformed {
                at,
                what: "impossible series id",
            })?);
        }
        let mut left = samples;
        for id in ids {
            let at = r.position();
            let count = usize::try_from(r.uv()?).ok().filter(|&n| n <= left).ok_or(Malformed {
                at,
                what: "more samples than there are",
            })?;
            left -= count;
            record.series.push((id, count));
        }
        record.t.reserve(samples);
        record.v.reserve(samples);
        let mut t = 0i64;
        for _ in 0..samples {
            t = t.wrapping_add(r.iv()?);
            record.t.push(t);
        }
        for _ in 0..samples {
            record.v.push(f64::from_bits(r.u64()?));
        }
        for _ in 0..r.count(11)? {
            record.exemplars.push((get_id(r)?, get_exemplar(r)?));
        }
        for _ in 0..r.count(4)? {
            record.metadata.push(get_metadata(r)?);
        }
        if !r.is_empty() {
            record.starts = get_starts(r, samples)?;
            for _ in 0..r.count(20)? {
                let (id, t, start) = (get_id(r)?, r.iv()?, r.iv()?);
                record.histograms.push((id, t, start, Arc::new(get_histogram(r)?)));
            }
        }
        Ok(record)
    }
}

/// Appends one family as drawn above.
pub(crate) fn put_metadata(out: &mut Vec<u8>, family: &str, metadata: &MetricMetadata) {
    put_bytes(out, family.as_bytes());
    let kind = MetricKind::ALL.iter().position(|&k| k == metadata.kind).unwrap_or(0);
    out.push(kind as u8);
    put_bytes(out, metadata.unit.as_bytes());
    put_bytes(out, metadata.help.as_bytes());
}

/// Reads one family; a kind of a newer build is unknown here.
pub(crate) fn get_metadata(reader: &mut Reader<'_>) -> Result<(String, MetricMetadata), Malformed> {
    let family = reader.str()?.to_owned();
    let kind = MetricKind::ALL
        .get(usize::from(reader.u8()?))
        .copied()
        .unwrap_or_default();
    let (unit, help) = (reader.str()?.to_owned(), reader.str()?.to_owned());
    Ok((family, MetricMetadata { kind, unit, help }))
}

/// Starts of `samples` samples; empty if none is known.
fn get_starts(reader: &mut Reader<'_>, samples: usize) -> Result<Vec<i64>, Malformed> {
    let (mut place, mut last) = (0usize, 0i64);
    let mut starts = Vec::new();
    for _ in 0..reader.count(2)? {
        let at = reader.position();
        place = place.saturating_add(usize::try_from(reader.uv()?).unwrap_or(usize::MAX));
        last = last.wrapping_add(reader.iv()?);
        starts.resize(samples, 0);
        *starts.get_mut(place).ok_or(Malformed {
            at,
            what: "start of a sample that is not there",
        })? = last;
    }
    Ok(starts)
}

fn get_id(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let at = reader.position();
    u32::try_from(reader.uv()?).map_err(|_| Malformed {
        at,
        what: "impossible series id",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::tests::counter;
    use crate::testing::golden;
    use model::TimestampMs;
    use proptest::prelude::*;

    fn encode(record: &Record) -> Vec<u8> {
        let mut writer = RecordWriter::new(record.definitions.iter().map(|(id, day, labels)| (*id, *day, labels)));
        writer.samples(record.series.iter().copied(), &record.t, &record.v);
        writer.exemplars(record.exemplars.iter().map(|(id, e)| (*id, e)));
        writer.metadata(&record.metadata.iter().collect::<Vec<_>>());
        let histograms = record.histograms.iter();
        writer.histograms(
            &record.starts,
            histograms.map(|(id, t, start, h)| (*id, *t, *start, &**h)),
        )
    }

    #[test]
    fn golden_wal_batch_v1() {
        let labels = LabelSet::from_pairs([("__name__", "up"), ("job", "trilobite")]);
        let exemplar = Exemplar {
            labels: LabelSet::from_pairs([("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")]),
            value: 0.25,
            t: TimestampMs(1_700_000_000_123),
        };
        let record = Record {
            definitions: vec![(7, Day(19_675), labels)],
            series: vec![(7, 2), (3, 1)],
            t: vec![1_700_000_000_000, 1_700_000_015_000, -1],
            v: vec![1.0, 0.0, f64::INFINITY],
            exemplars: vec![(7, exemplar)],
            metadata: vec![(
                "up".into(),
                MetricMetadata {
                    kind: MetricKind::Gauge,
                    unit: String::new(),
                    help: "1 = the target answers".into(),
                },
            )],
            ..Record::default()
        };
        let stored = golden("wal_batch_v1.bin", &encode(&record));
        assert_eq!(Record::decode(&stored).unwrap(), record);
        for len in 0..stored.len() {
            assert!(Record::decode(&stored[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn golden_wal_batch_with_histograms_v1() {
        let record = Record {
            series: vec![(7, 2), (3, 1)],
            t: vec![1_700_000_000_000, 1_700_000_015_000, 1_700_000_000_000],
            v: vec![1.0, 2.0, 3.0],
            starts: vec![1_699_999_990_000, 1_699_999_990_000, 0],
            histograms: vec![(9, 1_700_000_000_000, 1_699_999_000_000, Arc::new(counter(&[1.0, 5.0])))],
            ..Record::default()
        };
        let stored = golden("wal_batch_histograms_v1.bin", &encode(&record));
        assert_eq!(Record::decode(&stored).unwrap(), record);
    }

    proptest! {
        #[test]
        fn a_record_returns_what_it_was_given(series in proptest::collection::vec((any::<u32>(), proptest::collection::vec((any::<i64>(), any::<u64>()), 0..5)), 0..20)) {
            let record = Record {
                series: series.iter().map(|(id, s)| (*id, s.len())).collect(),
                t: series.iter().flat_map(|(_, s)| s.iter().map(|s| s.0)).collect(),
                v: series.iter().flat_map(|(_, s)| s.iter().map(|s| f64::from_bits(s.1))).collect(),
                ..Record::default()
            };
            let back = Record::decode(&encode(&record)).unwrap();
            let bits = |r: &Record| r.v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&record));
            prop_assert_eq!((back.series, back.t), (record.series, record.t));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
        }
    }
}
