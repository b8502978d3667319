//! Noise, damage and truncation, for all three signals.

use model::{Signal, TimestampMs};
use proptest::prelude::*;

use super::*;
use crate::otlp::{json, logs, metrics, traces};

const ROOM: usize = 1 << 20;

fn decode_all(bytes: &[u8]) {
    let _ = metrics::Translator::default().decode(bytes, TimestampMs(1), ROOM);
    let _ = logs::decode(bytes, NOW, ROOM);
    let _ = traces::decode(bytes, ROOM, &mut |_| {});
}

proptest! {
    /// Anything may come over the network.
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
    }

    /// A valid request with some bytes changed reaches deeper than noise does.
    #[test]
    fn damaged_requests_do_not_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        file in 0..3usize,
    ) {
        let (name, signal) = [
            ("otlp_metrics.json", Signal::Metrics),
            ("otlp_logs.json", Signal::Logs),
            ("otlp_traces.json", Signal::Traces),
        ][file];
        let Some(text) = corpus(name) else { return Ok(()) };
        let mut bytes = json::to_protobuf(text.as_bytes(), signal).unwrap();
        let mut text = text.into_bytes();
        for (at, byte) in &changes {
            let here = at.index(bytes.len());
            bytes[here] = *byte;
            let here = at.index(text.len());
            text[here] = *byte;
        }
        decode_all(&bytes);
        if let Ok(bytes) = json::to_protobuf(&text, signal) {
            decode_all(&bytes);
        }
    }
}

#[test]
fn truncated_requests_are_bad() {
    let Some(text) = corpus("otlp_metrics.json") else {
        return;
    };
    let whole = json::to_protobuf(text.as_bytes(), Signal::Metrics).unwrap();
    for len in (1..whole.len()).step_by(7) {
        assert!(
            metrics::Translator::default()
                .decode(&whole[..len], TimestampMs(1), ROOM)
                .is_err(),
            "{len}"
        );
    }
    let text = corpus("otlp_logs.json").unwrap();
    let whole = json::to_protobuf(text.as_bytes(), Signal::Logs).unwrap();
    for len in (1..whole.len()).step_by(7) {
        assert!(logs::decode(&whole[..len], NOW, ROOM).is_err(), "{len}");
    }
}
