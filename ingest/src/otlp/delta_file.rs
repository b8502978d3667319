//! The totals of delta streams between two runs.
//!
//! # Delta streams, version 1
//!
//! Kept by the storage under [`NAME`], in its envelope with a checksum (`storage/src/kept.rs`). A protobuf message:
//!
//!     State      1 version = 1, 2 stream*
//!     Stream     1 series: encoded label set, 2 start fixed64 ns, 3 end of the last point fixed64 ns,
//!                4 when it came, int64 ms, 5 and 6 its mark fixed64, then one of
//!                7 sum double (with 8 whether monotonic bool), 9 Explicit, 10 Histogram of remote write, float
//!     Explicit   1 count fixed64, 2 sum double (absent: not known), 3 bounds double*, 4 counts fixed64*
//!
//! A reader takes versions that it knows and begins anew with others. Golden file: `testdata/otlp_deltas_v1.bin`.

use super::delta::{Deltas, Stream, Total};
use super::metrics::Translator;
use super::native::Explicit;
use crate::remote_write::histogram::{read_histogram, write_histogram};
use crate::sink::Sink;
use crate::wire::{BadWire, Fields, close_message, open_message, put_bytes, put_fixed64, put_number};

/// The name under which the storage keeps it.
pub(crate) const NAME: &str = "otlp-deltas";

const VERSION: u64 = 1;

/// Streams by their series, as an encoded label set.
type Streams = Vec<(Box<[u8]>, Stream)>;

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadState {
    #[error(transparent)]
    Wire(#[from] BadWire),
    #[error("format version {0}, this build reads version {VERSION}")]
    Version(u64),
    #[error("a stream without a total")]
    Empty,
}

/// Takes up what an earlier run has left. Then the file holds only what may meet a crash.
pub(crate) fn restore(translator: &Translator, sink: &dyn Sink) {
    let streams = match sink.kept(NAME).map(|kept| kept.map(|bytes| read(&bytes))) {
        Ok(None) => return,
        Ok(Some(Ok(streams))) => streams,
        Ok(Some(Err(why))) => return tracing::warn!(%why, "totals of OTLP delta streams begin anew"),
        Err(why) => return tracing::warn!(why, "totals of OTLP delta streams begin anew"),
    };
    tracing::info!(streams = streams.len(), "OTLP delta streams taken up");
    translator.deltas().restore(streams);
    keep(translator, sink, false);
}

/// Writes down what the next run shall take up, if anything changed: everything at a clean stop (`last`), before only
/// what may meet a crash.
pub(crate) fn keep(translator: &Translator, sink: &dyn Sink, last: bool) {
    let bytes = {
        let mut deltas = translator.deltas();
        deltas.forget_silent(sink.now().floor_ms().0);
        let (changed, empty) = (deltas.take_changed(), deltas.streams.is_empty());
        if !changed && (empty || !last) {
            return;
        }
        write(&deltas, |stream| last || stream.survives_a_crash())
    };
    if let Err(why) = sink.keep(NAME, &bytes) {
        tracing::warn!(
            why,
            "totals of OTLP delta streams could not be kept; after a restart they begin anew"
        );
    }
}

/// The streams that `keeps` wants kept.
pub(crate) fn write(deltas: &Deltas, keeps: impl Fn(&Stream) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, 1, VERSION);
    let mut streams: Vec<_> = deltas.streams.iter().filter(|(_, stream)| keeps(stream)).collect();
    streams.sort_by(|a, b| a.0.cmp(b.0));
    for (key, stream) in streams {
        let open = open_message(&mut out, 2);
        put_bytes(&mut out, 1, key);
        put_fixed64(&mut out, 2, stream.start);
        put_fixed64(&mut out, 3, stream.t);
        put_number(&mut out, 4, stream.seen as u64);
        put_fixed64(&mut out, 5, stream.last[0]);
        put_fixed64(&mut out, 6, stream.last[1]);
        match &stream.total {
            Total::Sum { value, monotonic } => {
                put_fixed64(&mut out, 7, value.to_bits());
                put_number(&mut out, 8, u64::from(*monotonic));
            }
            Total::Explicit(explicit) => {
                let open = open_message(&mut out, 9);
                put_fixed64(&mut out, 1, explicit.count);
                if let Some(sum) = explicit.sum {
                    put_fixed64(&mut out, 2, sum.to_bits());
                }
                let bounds: Vec<u8> = explicit.bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
                put_bytes(&mut out, 3, &bounds);
                let counts: Vec<u8> = explicit.counts.iter().flat_map(|c| c.to_le_bytes()).collect();
                put_bytes(&mut out, 4, &counts);
                close_message(&mut out, open);
            }
            Total::Native(histogram) => put_bytes(&mut out, 10, &write_histogram(histogram, 0, 0, true)),
        }
        close_message(&mut out, open);
    }
    out
}

/// The streams of an earlier run.
pub(crate) fn read(bytes: &[u8]) -> Result<Streams, BadState> {
    let mut version = 0;
    let mut streams = Vec::new();
    for field in Fields::new(bytes) {
        let field = field?;
        match field.number {
            1 => version = field.varint()?,
            2 if version == VERSION => streams.push(read_stream(field.bytes()?)?),
            _ => {}
        }
    }
    if version != VERSION {
        return Err(BadState::Version(version));
    }
    Ok(streams)
}

fn read_stream(message: &[u8]) -> Result<(Box<[u8]>, Stream), BadState> {
    let mut key: &[u8] = &[];
    let (mut start, mut t, mut seen, mut last) = (0, 0, 0, [0; 2]);
    let (mut total, mut monotonic) = (None, false);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => key = field.bytes()?,
            2 => start = field.fixed64()?,
            3 => t = field.fixed64()?,
            4 => seen = field.varint()? as i64,
            5 => last[0] = field.fixed64()?,
            6 => last[1] = field.fixed64()?,
            7 => {
                total = Some(Total::Sum {
                    value: field.double()?,
                    monotonic,
                });
            }
            8 => monotonic = field.varint()? != 0,
            9 => total = Some(Total::Explicit(read_explicit(field.bytes()?)?)),
            10 => {
                let sample = read_histogram(field.bytes()?)?.map_err(|_| BadState::Empty)?;
                total = Some(Total::Native(Box::new((*sample.histogram).clone())));
            }
            _ => {}
        }
    }
    if let Some(Total::Sum { monotonic: kind, .. }) = &mut total {
        *kind = monotonic;
    }
    let stream = Stream {
        start,
        t,
        seen,
        last,
        total: total.ok_or(BadState::Empty)?,
    };
    Ok((key.into(), stream))
}

fn read_explicit(message: &[u8]) -> Result<Explicit, BadWire> {
    let mut explicit = Explicit::default();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => explicit.count = field.fixed64()?,
            2 => explicit.sum = Some(field.double()?),
            3 => field.each_fixed64(|b| explicit.bounds.push(f64::from_bits(b)))?,
            4 => field.each_fixed64(|c| explicit.counts.push(c))?,
            _ => {}
        }
    }
    Ok(explicit)
}

#[cfg(test)]
mod tests {
    use model::{Buckets, Histogram, LabelSet};
    use proptest::prelude::*;

    use super::*;
    use crate::otlp::delta::When;

    fn some() -> Deltas {
        let mut deltas = Deltas::default();
        let explicit = Explicit {
            count: 3,
            sum: None,
            bounds: vec![0.5, 1.0],
            counts: vec![1, 0, 2],
        };
        let positive = Buckets::from_indexed([(-3, 1.0), (4, 2.0)]);
        let native = Histogram {
            zero_threshold: 1e-128,
            count: positive.total(),
            sum: 7.5,
            positive,
            ..Histogram::stale()
        };
        let totals = [
            (
                "counter",
                Total::Sum {
                    value: 1.5,
                    monotonic: true,
                },
            ),
            (
                "gauge",
                Total::Sum {
                    value: -2.0,
                    monotonic: false,
                },
            ),
            ("explicit", Total::Explicit(explicit)),
            ("native", Total::Native(Box::new(native))),
        ];
        for (name, total) in totals {
            let key = LabelSet::from_pairs([("__name__", name)]);
            let when = When {
                start: 10,
                t: 20,
                came: 1_761_128_135_000,
            };
            deltas.add(key.as_bytes(), when, total).unwrap();
        }
        deltas
    }

    #[test]
    fn golden_otlp_deltas_v1() {
        let deltas = some();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/otlp_deltas_v1.bin");
        let bytes = write(&deltas, |_| true);
        if std::env::var_os("NEW_GOLDEN").is_some() && !std::path::Path::new(path).exists() {
            std::fs::write(path, &bytes).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        assert_eq!(bytes, golden, "a new layout needs a new version and a new file");
        let read: std::collections::HashMap<_, _> = read(&golden).unwrap().into_iter().collect();
        assert_eq!(read, deltas.streams);
    }

    #[test]
    fn a_crash_finds_only_what_may_be_old() {
        let kept = read(&write(&some(), Stream::survives_a_crash)).unwrap();
        let names: Vec<_> = kept
            .iter()
            .map(|(key, _)| LabelSet::from_encoded(key).unwrap().to_string())
            .collect();
        assert_eq!(names, [r#"{__name__="gauge"}"#]);
    }

    #[test]
    fn other_versions_are_not_read() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, 1, 2);
        assert_eq!(read(&bytes), Err(BadState::Version(2)));
        assert_eq!(read(&[]), Err(BadState::Version(0)));
    }

    proptest! {
        /// The file may be anything.
        #[test]
        fn damage_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = write(&some(), |_| true);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
