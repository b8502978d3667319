//! Version 1.0: a `prometheus.WriteRequest` to samples, read in place, with no allocation per series or sample.
//!
//!     WriteRequest     1 timeseries*, 3 metadata*
//!     TimeSeries       1 labels* {1 name, 2 value}, 2 samples* {1 value double, 2 timestamp int64 ms},
//!                      3 exemplars* {1 labels*, 2 value, 3 timestamp}, 4 histograms* (`histogram.rs`)
//!     MetricMetadata   1 type, 2 metric_family_name, 4 help, 5 unit
//!
//! A series with labels that cannot name one is skipped and counted; the rest of the request is stored. Values are
//! copied bit for bit, for the staleness marker is one certain NaN.

use model::{Exemplar, MetricMetadata, SeriesIx, TimestampMs};

use super::decoded::{Decoded, METADATA_BYTES, bad_labels, check_room, exemplar_of, kind_of};
use super::histogram::read_histogram;
use super::label_run::copy_labels;
use crate::refusal::Refusal;
use crate::wire::{BadWire, Field, Fields, read_text_pair};

/// Labels of one exemplar that are looked at.
const EXEMPLAR_LABELS_MAX: usize = 128;

/// Decodes a request. The batch holds at most `bytes_max`.
pub(crate) fn decode(request: &[u8], bytes_max: usize) -> Result<Decoded, Refusal> {
    let mut decoded = Decoded::default();
    let mut labels = Vec::new();
    let mut metadata_bytes = 0usize;
    for field in Fields::new(request) {
        let field = field?;
        match field.number {
            1 => read_series(field.bytes()?, &mut decoded, &mut labels, bytes_max)?,
            3 => {
                let (family, metadata) = read_metadata(field.bytes()?)?;
                metadata_bytes += METADATA_BYTES + family.len() + metadata.help.len() + metadata.unit.len();
                if !family.is_empty() {
                    decoded.batch.metadata(family, metadata);
                }
            }
            _ => {}
        }
        check_room(decoded.batch.bytes().saturating_add(metadata_bytes), bytes_max)?;
    }
    Ok(decoded)
}

fn read_series<'a>(
    message: &'a [u8],
    decoded: &mut Decoded,
    labels: &mut Vec<(&'a str, &'a str)>,
    bytes_max: usize,
) -> Result<(), Refusal> {
    let copied = (decoded.batch).series_encoded(|out| copy_labels(message, out).filter(|rest| !has_label(rest)));
    if let Some((series, rest)) = copied {
        return read_contents(rest, Some(series), decoded, bytes_max);
    }
    labels.clear();
    let mut bad: Option<&'static str> = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == 1 {
            match read_text_pair(field.bytes()?) {
                Ok(("", _)) => bad = Some("an empty label name"),
                Ok(label) => labels.push(label),
                Err(BadWire::Utf8 { .. }) => bad = Some("a label that is not UTF-8"),
                Err(e) => return Err(e.into()),
            }
        }
    }
    bad = bad.or_else(|| bad_labels(labels));
    let series = match bad {
        None => Some(decoded.batch.series(labels)),
        Some(why) => {
            decoded.skip(labels, why);
            None
        }
    };
    read_contents(message, series, decoded, bytes_max)
}

/// Whether a label comes after other fields, which protobuf allows and no sender does. Broken fields are found later.
fn has_label(rest: &[u8]) -> bool {
    // One sample and nothing else, as in nearly every series: tag, length, and no more than these.
    if let [0x12, len, sample @ ..] = rest
        && usize::from(*len) == sample.len()
        && *len < 0x80
    {
        return false;
    }
    Fields::new(rest).any(|field| field.is_ok_and(|f| f.number == 1))
}

/// Everything but labels. `series` is `None` if they are unusable.
fn read_contents(
    message: &[u8],
    series: Option<SeriesIx>,
    decoded: &mut Decoded,
    bytes_max: usize,
) -> Result<(), Refusal> {
    for field in Fields::new(message) {
        let field = field?;
        match (field.number, series) {
            (2, Some(series)) => {
                let (t, v) = read_sample(field.bytes()?)?;
                decoded.batch.sample(series, t, v);
                check_room(decoded.batch.bytes(), bytes_max)?;
            }
            (2, None) => decoded.skipped_samples += 1,
            (3, Some(series)) => {
                if let Some(exemplar) = read_exemplar(&field)? {
                    decoded.batch.exemplar(series, exemplar);
                    check_room(decoded.batch.bytes(), bytes_max)?;
                }
            }
            (4, Some(series)) => {
                decoded.histogram(series, read_histogram(field.bytes()?)?);
                check_room(decoded.batch.bytes(), bytes_max)?;
            }
            (4, None) => decoded.skipped_histograms += 1,
            _ => {}
        }
    }
    Ok(())
}

#[inline]
fn read_sample(message: &[u8]) -> Result<(TimestampMs, f64), BadWire> {
    let (mut t, mut v) = (0, 0.0);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => v = field.double()?,
            2 => t = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((TimestampMs(t), v))
}

/// `None`: its labels are too long or not UTF-8; samples do not suffer for it.
fn read_exemplar(field: &Field<'_>) -> Result<Option<Exemplar>, BadWire> {
    let (mut t, mut value) = (0, 0.0);
    let mut labels: Vec<(&str, &str)> = Vec::new();
    for field in Fields::new(field.bytes()?) {
        let field = field?;
        match field.number {
            1 if labels.len() >= EXEMPLAR_LABELS_MAX => return Ok(None),
            1 => match read_text_pair(field.bytes()?) {
                Ok(label) => labels.push(label),
                Err(BadWire::Utf8 { .. }) => return Ok(None),
                Err(e) => return Err(e),
            },
            2 => value = field.double()?,
            3 => t = field.varint()? as i64,
            _ => {}
        }
    }
    Ok(exemplar_of(labels, value, t))
}

fn read_metadata(message: &[u8]) -> Result<(String, MetricMetadata), BadWire> {
    let mut family = String::new();
    let mut metadata = MetricMetadata::default();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => {
                metadata.kind = kind_of(field.varint()?);
            }
            2 => family = field.text()?.into_owned(),
            4 => metadata.help = field.text()?.into_owned(),
            5 => metadata.unit = field.text()?.into_owned(),
            _ => {}
        }
    }
    Ok((family, metadata))
}

#[cfg(test)]
pub(crate) mod tests {
    use model::{LabelSet, MetricKind};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{put_bytes, put_fixed64, put_number};

    const ROOM: usize = 1 << 20;

    /// A series of a request: labels and samples.
    pub fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
        let mut series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut series, 1, &label);
        }
        for (t, v) in samples {
            let mut sample = Vec::new();
            put_fixed64(&mut sample, 1, v.to_bits());
            put_number(&mut sample, 2, *t as u64);
            put_bytes(&mut series, 2, &sample);
        }
        series
    }

    /// A request of some series.
    pub fn request(all: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for one in all {
            put_bytes(&mut out, 1, one);
        }
        out
    }

    fn rows(decoded: &Decoded) -> Vec<String> {
        let batch = &decoded.batch;
        let row = |(series, sample): &(model::SeriesIx, model::Sample)| {
            let labels = LabelSet::from_encoded(batch.labels(*series).0).unwrap();
            format!("{labels} {:x}@{}", sample.v.to_bits(), sample.t.0)
        };
        batch.samples().iter().map(row).collect()
    }

    #[test]
    fn series_are_sorted_checked_and_kept_to_the_bit() {
        let stale = model::stale_nan();
        let all = request(&[
            series(&[("z", "1"), ("__name__", "m"), ("a", "")], &[(5, stale), (-6, -0.0)]),
            series(&[("__name__", "resource cpu usage"), ("l", "new\nline")], &[(1, 1.0)]),
            series(&[("a", "1")], &[(1, 1.0), (2, 2.0)]),
            series(&[("__name__", "")], &[(1, 1.0)]),
            series(&[("__name__", "m"), ("a", "1"), ("a", "2")], &[(1, 1.0)]),
            series(&[("__name__", "m"), ("", "2")], &[(1, 1.0)]),
            series(&[], &[(1, 1.0)]),
        ]);
        let decoded = decode(&all, ROOM).unwrap();
        assert_eq!(
            rows(&decoded),
            [
                r#"{__name__="m", z="1"} 7ff0000000000002@5"#,
                r#"{__name__="m", z="1"} 8000000000000000@-6"#,
                r#"{__name__="resource cpu usage", l="new\nline"} 3ff0000000000000@1"#,
            ]
        );
        assert_eq!(decoded.skipped_samples, 6);
        assert_eq!(
            decoded.skipped_why.as_deref(),
            Some(r#"series {a="1"} has no __name__"#)
        );
    }

    #[test]
    fn metadata_comes_alone() {
        let mut metadata = Vec::new();
        put_number(&mut metadata, 1, 5);
        put_bytes(&mut metadata, 2, b"rpc_seconds");
        put_bytes(&mut metadata, 4, b"How long.");
        put_bytes(&mut metadata, 5, b"seconds");
        let mut out = Vec::new();
        put_bytes(&mut out, 3, &metadata);
        let decoded = decode(&out, ROOM).unwrap();
        let (family, metadata) = &decoded.batch.all_metadata()[0];
        assert_eq!((family.as_str(), metadata.kind), ("rpc_seconds", MetricKind::Summary));
        assert_eq!(
            (metadata.help.as_str(), metadata.unit.as_str()),
            ("How long.", "seconds")
        );
    }

    #[test]
    fn exemplars_within_their_bound() {
        let exemplar = |value: &str| {
            let mut label = Vec::new();
            put_bytes(&mut label, 1, b"trace_id");
            put_bytes(&mut label, 2, value.as_bytes());
            let mut exemplar = Vec::new();
            put_bytes(&mut exemplar, 1, &label);
            put_fixed64(&mut exemplar, 2, 0.5f64.to_bits());
            put_number(&mut exemplar, 3, 9);
            exemplar
        };
        let mut one = series(&[("__name__", "m")], &[(1, 1.0)]);
        put_bytes(&mut one, 3, &exemplar("abc"));
        put_bytes(&mut one, 3, &exemplar(&"é".repeat(121)));
        put_bytes(&mut one, 3, &exemplar(&"é".repeat(120)));
        let decoded = decode(&request(&[one]), ROOM).unwrap();
        let kept: Vec<usize> = decoded
            .batch
            .exemplars()
            .iter()
            .map(|(_, e)| e.labels.metric_name().len())
            .collect();
        assert_eq!(kept.len(), 2);
        let first = &decoded.batch.exemplars()[0].1;
        assert_eq!(
            (first.labels.get("trace_id"), first.value, first.t.0),
            (Some("abc"), 0.5, 9)
        );
    }

    #[test]
    fn empty_samples_cannot_unfold_without_bound() {
        let mut one = series(&[("__name__", "m")], &[]);
        one.extend([0x12, 0].repeat(100_000));
        assert!(matches!(decode(&request(&[one]), ROOM), Err(Refusal::TooLarge(_))));
    }

    #[test]
    fn truncated_requests_are_bad() {
        let whole = request(&[series(&[("__name__", "m"), ("a", "b")], &[(1, 1.0)])]);
        for len in 1..whole.len() {
            assert!(decode(&whole[..len], ROOM).is_err(), "{len}");
        }
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
            let mut bytes = request(&[series(&[("__name__", "m"), ("a", "b")], &[(1, 1.0), (2, 3.0)])]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes, ROOM);
        }

        /// Order, values and times of all samples survive.
        #[test]
        fn samples_come_through(samples in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..50)) {
            let samples: Vec<(i64, f64)> = samples.into_iter().map(|(t, v)| (t, f64::from_bits(v))).collect();
            let decoded = decode(&request(&[series(&[("__name__", "m")], &samples)]), ROOM).unwrap();
            let got: Vec<(i64, u64)> = decoded.batch.samples().iter().map(|(_, s)| (s.t.0, s.v.to_bits())).collect();
            prop_assert_eq!(got, samples.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>());
        }
    }
}
