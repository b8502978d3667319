//! What one batch leaves in the WAL.
//!
//! # WAL record of the metrics engine, kind 2 (batch)
//!
//! `uv` = LEB128, `iv` = zigzag LEB128, numbers little-endian; `steps` and `value` as in `record_columns.rs`. The WAL
//! frames and checks the record.
//!
//! ```text
//! record     = definitions · samples · exemplars · metadata · (starts · histograms, if there are any)
//! definitions= count uv · (if any: len uv · zstd frame of definition*)
//! definition = id uv · day iv · labels (len uv · encoded label set)
//! samples    = follows uv · series count n uv · sample count m uv · ids [n] · counts [n] · times [m] · values [m]
//!   follows  = Lsn of the record whose values these continue, the last one before this; 0: all series begin anew
//!   ids      = steps
//!   counts   = samples of each series, steps
//!   times    = ms since the epoch, steps
//!   values   = value*, each after the one before of its series
//! exemplars  = count uv · (id uv · exemplar (`exemplar.rs`))*
//! metadata   = count uv · (family (len uv · UTF-8) · kind u8 · unit (len uv · UTF-8) · help (len uv · UTF-8))*
//! starts     = count uv · (place among the samples - the place before uv · start - the start before iv)*
//!              when the counting of a sample began, ms; both from 0
//! histograms = count uv · (id uv · time iv · start iv · histogram (`histogram.rs`))*
//! ```
//!
//! A definition says: this id has this label set and is in use on this day. Each generation of the head defines an id
//! before its first use on a day (in the same record, or in an earlier one of the generation), so that the part of the
//! WAL that is not in blocks yet replays alone.
//!
//! A value continues the last one of its series in the log ([`Chains`]); a series begins at 0.0 where it is defined and
//! where all begin anew, which the writer lets happen often enough that this costs little and a damaged record loses
//! little. A record that follows another than the last one read has lost its beginnings: its values are unknown, but
//! for series that it defines, until all begin anew. Golden files: `testdata/wal_batch_v2.bin`,
//! `testdata/wal_batch_histograms_v2.bin`.

use std::sync::Arc;

use model::{Day, Exemplar, Histogram, LabelSet, MetricKind, MetricMetadata};
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv, unzstd_frame, zstd_frame};
use storage_wal::{Lsn, RECORD_BYTES_MAX};

use crate::exemplar::{get_exemplar, put_exemplar};
use crate::histogram::{get_histogram, put_histogram};
use crate::id_map::IdMap;
use crate::record_columns::{get_steps, get_value, put_steps, put_value};

/// The kind of a batch record.
pub(crate) const KIND_BATCH: u8 = 2;
const ZSTD_LEVEL: i32 = 1;

/// Builds a record piece by piece, in the order of the drawing.
pub(crate) struct RecordWriter {
    out: Vec<u8>,
}

impl RecordWriter {
    /// Starts with the definitions.
    pub(crate) fn new<'a>(definitions: impl ExactSizeIterator<Item = (u32, Day, &'a LabelSet)>) -> RecordWriter {
        let mut out = Vec::with_capacity(256);
        put_uv(&mut out, definitions.len() as u64);
        if definitions.len() > 0 {
            let mut list = Vec::with_capacity(definitions.len() * 200);
            for (id, day, labels) in definitions {
                put_uv(&mut list, u64::from(id));
                put_iv(&mut list, i64::from(day.0));
                put_bytes(&mut list, labels.as_bytes());
            }
            let mut frame = Vec::new();
            zstd_frame(&mut frame, &list, ZSTD_LEVEL);
            put_bytes(&mut out, &frame);
        }
        RecordWriter { out }
    }

    /// `series`: id and number of samples, which follow each other in `t` and `v`. `swap` is given the place of a series
    /// and its last value here, and returns the value before the first, as bits.
    pub(crate) fn samples(
        &mut self,
        follows: Option<Lsn>,
        series: impl ExactSizeIterator<Item = (u32, usize)> + Clone,
        t: &[i64],
        v: &[f64],
        mut swap: impl FnMut(usize, u64) -> u64,
    ) {
        let out = &mut self.out;
        out.reserve(series.len() + t.len() * 3 + 32);
        put_uv(out, follows.map_or(0, |lsn| lsn.0));
        put_uv(out, series.len() as u64);
        put_uv(out, t.len() as u64);
        put_steps(out, series.clone().map(|(id, _)| i64::from(id)));
        put_steps(out, series.clone().map(|(_, samples)| samples as i64));
        put_steps(out, t.iter().copied());
        let mut rest = v;
        for (place, (_, samples)) in series.enumerate() {
            let (own, others) = rest.split_at(samples);
            rest = others;
            let Some(last) = own.last() else {
                continue;
            };
            let mut before = swap(place, last.to_bits());
            for v in own {
                put_value(out, before, v.to_bits());
                before = v.to_bits();
            }
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
    /// Series whose values are unknown, as they continue some that were lost; their values in `v` mean nothing.
    pub(crate) unknown: Vec<bool>,
    pub(crate) exemplars: Vec<(u32, Exemplar)>,
    pub(crate) metadata: Vec<(String, MetricMetadata)>,
    /// As long as `t`, or empty.
    pub(crate) starts: Vec<i64>,
    pub(crate) histograms: Vec<(u32, i64, i64, Arc<Histogram>)>,
}

/// The last value of each series in the part of the log that was read.
#[derive(Default)]
pub(crate) struct Chains {
    /// The record that the next one follows.
    last: Option<Lsn>,
    /// Whether every series that is not listed is at 0.0; else it is unknown.
    is_whole: bool,
    values: IdMap<u64>,
}

impl Chains {
    /// Where a series is.
    fn before(&self, id: u32) -> Option<u64> {
        let known = self.values.get(id).copied();
        known.or(self.is_whole.then_some(0))
    }

    /// The record that could not be read, or was not there, had an end that nobody knows.
    pub(crate) fn break_off(&mut self) {
        self.last = None;
        self.is_whole = false;
        self.values.clear();
    }
}

impl Record {
    /// Reads the record at `lsn`.
    pub(crate) fn decode(lsn: Lsn, payload: &[u8], chains: &mut Chains) -> Result<Record, Malformed> {
        let read = Record::read(payload, chains);
        match read {
            Ok(_) => chains.last = Some(lsn),
            Err(_) => chains.break_off(),
        }
        read
    }

    fn read(payload: &[u8], chains: &mut Chains) -> Result<Record, Malformed> {
        let mut reader = Reader::new(payload);
        let r = &mut reader;
        let mut record = Record {
            definitions: get_definitions(r)?,
            ..Record::default()
        };
        match r.uv()? {
            0 => {
                chains.values.clear();
                chains.is_whole = true;
            }
            follows if chains.last == Some(Lsn(follows)) => {}
            _ => chains.break_off(),
        }
        for (id, ..) in &record.definitions {
            chains.values.insert(*id, 0);
        }
        // A series takes no byte where ids and counts are even, but it has a sample, and that has a value.
        let series = r.uv()?;
        let samples = r.count(1)?;
        let at = r.position();
        let bad = |what| Malformed { at, what };
        let series = usize::try_from(series).ok().filter(|&n| n <= samples);
        let series = series.ok_or(bad("more series than samples"))?;
        record.series.reserve(series);
        get_steps(r, series, &mut |id| {
            let id = u32::try_from(id).map_err(|_| bad("impossible series id"))?;
            record.series.push((id, 0));
            Ok(())
        })?;
        let (mut left, mut place) = (samples, 0);
        get_steps(r, series, &mut |count| {
            let count = usize::try_from(count).ok().filter(|&n| n <= left);
            let count = count.ok_or(bad("more samples than there are"))?;
            left -= count;
            record.series[place].1 = count;
            place += 1;
            Ok(())
        })?;
        if left > 0 {
            return Err(bad("samples without a series"));
        }
        record.t.reserve(samples);
        get_steps(r, samples, &mut |t| {
            record.t.push(t);
            Ok(())
        })?;
        record.v.reserve(samples);
        for (place, &(id, count)) in record.series.iter().enumerate() {
            let before = chains.before(id);
            let mut value = before.unwrap_or(0);
            for _ in 0..count {
                value = get_value(r, value)?;
                record.v.push(f64::from_bits(value));
            }
            if before.is_none() {
                record.unknown.resize(series, false);
                record.unknown[place] = true;
            } else if count > 0 {
                chains.values.insert(id, value);
            }
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

fn get_definitions(reader: &mut Reader<'_>) -> Result<Vec<(u32, Day, LabelSet)>, Malformed> {
    let count = reader.uv()?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let at = reader.position();
    let bad = |what| Malformed { at, what };
    let mut list = Vec::new();
    unzstd_frame(reader.bytes()?, &mut list, RECORD_BYTES_MAX).map_err(|e| bad(e.what))?;
    let mut reader = Reader::new(&list);
    let r = &mut reader;
    let count = usize::try_from(count).ok().filter(|&count| count <= list.len() / 3);
    let count = count.ok_or(bad("more definitions than there are"))?;
    let mut definitions = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, day) = (get_id(r).map_err(|e| bad(e.what))?, r.iv().map_err(|e| bad(e.what))?);
        let day = Day(i32::try_from(day).map_err(|_| bad("impossible day"))?);
        let labels = r.bytes().map_err(|e| bad(e.what))?;
        let labels = LabelSet::from_encoded(labels).map_err(|e| bad(e.what))?;
        definitions.push((id, day, labels));
    }
    if !r.is_empty() {
        return Err(bad("bytes after the definitions"));
    }
    Ok(definitions)
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
    use std::collections::HashMap;

    fn encode(record: &Record) -> Vec<u8> {
        let mut writer = RecordWriter::new(record.definitions.iter().map(|(id, day, labels)| (*id, *day, labels)));
        let mut last: HashMap<u32, u64> = HashMap::new();
        let series = record.series.iter().copied();
        writer.samples(None, series, &record.t, &record.v, |place, bits| {
            last.insert(record.series[place].0, bits).unwrap_or(0)
        });
        writer.exemplars(record.exemplars.iter().map(|(id, e)| (*id, e)));
        writer.metadata(&record.metadata.iter().collect::<Vec<_>>());
        let histograms = record.histograms.iter();
        writer.histograms(
            &record.starts,
            histograms.map(|(id, t, start, h)| (*id, *t, *start, &**h)),
        )
    }

    fn decode(payload: &[u8]) -> Result<Record, Malformed> {
        Record::decode(Lsn(1), payload, &mut Chains::default())
    }

    #[test]
    fn golden_wal_batch_v2() {
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
        let stored = golden("wal_batch_v2.bin", &encode(&record));
        assert_eq!(decode(&stored).unwrap(), record);
        for len in 0..stored.len() {
            assert!(decode(&stored[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn golden_wal_batch_with_histograms_v2() {
        let record = Record {
            series: vec![(7, 2), (3, 1)],
            t: vec![1_700_000_000_000, 1_700_000_015_000, 1_700_000_000_000],
            v: vec![1.0, 2.0, 3.0],
            starts: vec![1_699_999_990_000, 1_699_999_990_000, 0],
            histograms: vec![(9, 1_700_000_000_000, 1_699_999_000_000, Arc::new(counter(&[1.0, 5.0])))],
            ..Record::default()
        };
        let stored = golden("wal_batch_histograms_v2.bin", &encode(&record));
        assert_eq!(decode(&stored).unwrap(), record);
    }

    /// Values of a series continue from record to record; after one is lost they are unknown, never wrong.
    #[test]
    fn a_lost_record_makes_values_unknown_until_all_begin_anew() {
        let mut last: HashMap<u32, u64> = HashMap::new();
        let mut write = |follows: Option<Lsn>, defines: Option<u32>, values: &[(u32, f64)]| {
            if follows.is_none() {
                last.clear();
            }
            let labels = LabelSet::empty();
            if let Some(id) = defines {
                last.remove(&id);
            }
            let mut writer = RecordWriter::new(defines.iter().map(|id| (*id, Day(0), &labels)));
            let v: Vec<f64> = values.iter().map(|(_, v)| *v).collect();
            let series = values.iter().map(|(id, _)| (*id, 1));
            writer.samples(follows, series, &vec![0; v.len()], &v, |place, bits| {
                last.insert(values[place].0, bits).unwrap_or(0)
            });
            writer.exemplars([].into_iter());
            writer.metadata(&[]);
            writer.histograms(&[], [].into_iter())
        };
        let log = [
            write(None, None, &[(1, 10.0), (2, 20.0)]),
            write(Some(Lsn(1)), None, &[(1, 11.0), (2, 21.0)]),
            write(Some(Lsn(2)), Some(3), &[(1, 12.0), (3, 31.0)]),
            write(Some(Lsn(3)), None, &[(3, 32.0), (2, 22.0)]),
            write(None, None, &[(1, 13.0)]),
            write(Some(Lsn(5)), None, &[(2, 23.0), (1, 14.0)]),
        ];
        let read = |lost: &[usize]| -> Vec<f64> {
            let mut chains = Chains::default();
            let mut known = Vec::new();
            for at in (0..log.len()).filter(|at| !lost.contains(at)) {
                let record = Record::decode(Lsn(at as u64 + 1), &log[at], &mut chains).unwrap();
                let unknown = |place: usize| record.unknown.get(place) == Some(&true);
                known.extend((0..record.v.len()).filter(|&i| !unknown(i)).map(|i| record.v[i]));
            }
            known
        };
        assert_eq!(
            read(&[]),
            [10.0, 20.0, 11.0, 21.0, 12.0, 31.0, 32.0, 22.0, 13.0, 23.0, 14.0]
        );
        assert_eq!(read(&[1]), [10.0, 20.0, 31.0, 32.0, 13.0, 23.0, 14.0]);
        assert_eq!(read(&[0]), [31.0, 32.0, 13.0, 23.0, 14.0]);
        assert_eq!(read(&[4]), [10.0, 20.0, 11.0, 21.0, 12.0, 31.0, 32.0, 22.0]);
    }

    proptest! {
        #[test]
        fn a_record_returns_what_it_was_given(series in proptest::collection::vec((any::<u32>(), proptest::collection::vec((any::<i64>(), any::<u64>()), 1..5)), 0..20)) {
            let record = Record {
                series: series.iter().map(|(id, s)| (*id, s.len())).collect(),
                t: series.iter().flat_map(|(_, s)| s.iter().map(|s| s.0)).collect(),
                v: series.iter().flat_map(|(_, s)| s.iter().map(|s| f64::from_bits(s.1))).collect(),
                ..Record::default()
            };
            let back = decode(&encode(&record)).unwrap();
            let bits = |r: &Record| r.v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&record));
            prop_assert_eq!((back.series, back.t), (record.series, record.t));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
