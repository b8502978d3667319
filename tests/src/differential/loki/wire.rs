//! How the data travels: some streams as protobuf, some as JSON, and records as OTLP.

use prost::encoding::encode_varint;
use serde_json::{Map, Value, json};

use super::T0_NS;
use super::data::{Entry, Stream};
use crate::differential::random::Random;

/// Entries of a stream that travel together.
const BATCH: usize = 25;

/// A request: path, content type, content.
pub(crate) struct Push {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    /// Before compression.
    pub(crate) body: Vec<u8>,
    /// Whether the content travels as one snappy block.
    pub(crate) is_snappy: bool,
}

/// Everything, in the order in which it is sent.
pub(crate) fn pushes(streams: &[Stream], seed: u64) -> Vec<Push> {
    let mut out = Vec::new();
    let batches = streams
        .iter()
        .map(|s| s.entries.len().div_ceil(BATCH))
        .max()
        .unwrap_or(0);
    for batch in 0..batches {
        for (number, stream) in streams.iter().enumerate() {
            let Some(entries) = stream.entries.chunks(BATCH).nth(batch) else {
                continue;
            };
            out.push(match number % 2 {
                0 => Push {
                    path: "/loki/api/v1/push",
                    content_type: "application/x-protobuf",
                    body: protobuf(&stream.labels, entries),
                    is_snappy: true,
                },
                _ => Push {
                    path: "/loki/api/v1/push",
                    content_type: "application/json",
                    body: loki_json(&stream.labels, entries).to_string().into_bytes(),
                    is_snappy: false,
                },
            });
        }
    }
    out.push(Push {
        path: "/otlp/v1/logs",
        content_type: "application/json",
        body: otlp(seed).to_string().into_bytes(),
        is_snappy: false,
    });
    out
}

fn object(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(n, v)| (n.clone(), json!(v))).collect::<Map<_, _>>())
}

fn loki_json(labels: &[(String, String)], entries: &[Entry]) -> Value {
    let values = entries.iter().map(|e| match e.metadata.is_empty() {
        true => json!([e.time_ns.to_string(), e.line]),
        false => json!([e.time_ns.to_string(), e.line, object(&e.metadata)]),
    });
    json!({"streams": [{"stream": object(labels), "values": values.collect::<Vec<_>>()}]})
}

fn protobuf(labels: &[(String, String)], entries: &[Entry]) -> Vec<u8> {
    let text: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    let mut stream = Vec::new();
    bytes(&mut stream, 1, format!("{{{}}}", text.join(", ")).as_bytes());
    for entry in entries {
        let mut time = Vec::new();
        varint(&mut time, 1, entry.time_ns.div_euclid(1_000_000_000) as u64);
        varint(&mut time, 2, entry.time_ns.rem_euclid(1_000_000_000) as u64);
        let mut out = Vec::new();
        bytes(&mut out, 1, &time);
        bytes(&mut out, 2, entry.line.as_bytes());
        for (name, value) in &entry.metadata {
            let mut pair = Vec::new();
            bytes(&mut pair, 1, name.as_bytes());
            bytes(&mut pair, 2, value.as_bytes());
            bytes(&mut out, 3, &pair);
        }
        bytes(&mut stream, 2, &out);
    }
    let mut request = Vec::new();
    bytes(&mut request, 1, &stream);
    request
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_varint(u64::from(number << 3 | 2), out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, number: u32, v: u64) {
    encode_varint(u64::from(number << 3), out);
    encode_varint(v, out);
}

/// Records of two services, with bodies and attributes of every type.
fn otlp(seed: u64) -> Value {
    let mut random = Random::new(seed).fork("otlp");
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let bodies = [
        json!({"stringValue": "text body level=warn"}),
        json!({"intValue": "42"}),
        json!({"doubleValue": 1.5}),
        json!({"boolValue": true}),
        json!({"kvlistValue": {"values": [text("b", "x"), {"key": "a", "value": {"intValue": "1"}}]}}),
        json!({"arrayValue": {"values": [{"stringValue": "p"}, {"intValue": "2"}, {"doubleValue": 0.5}]}}),
        json!({"bytesValue": "AAEC"}),
        json!({"stringValue": ""}),
    ];
    let mut record = |k: i64| {
        let mut one = json!({
            "timeUnixNano": (T0_NS + k * 47_000_000_000 + 3).to_string(),
            "body": bodies[k as usize % bodies.len()],
            "attributes": [
                text("http.method", random.pick(&["GET", "POST"])),
                {"key": "http.status", "value": {"intValue": (200 + random.below(3) * 100).to_string()}},
                {"key": "ratio", "value": {"doubleValue": random.fraction(2)}},
                {"key": "nested", "value": {"kvlistValue": {"values": [text("in.ner", "deep")]}}},
                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "z"}]}}},
            ],
        });
        if k % 2 == 0 {
            one["severityNumber"] = json!(1 + random.below(24));
            one["severityText"] = json!(random.pick(&["Info", "WARN", "odd"]));
        }
        if k % 3 == 0 {
            one["traceId"] = json!(format!("{:016x}{:016x}", random.next(), random.next()));
            one["spanId"] = json!(format!("{:016x}", random.next()));
            one["flags"] = json!(1);
        }
        if k % 5 == 0 {
            one["observedTimeUnixNano"] = json!((T0_NS + k * 47_000_000_000 + 9).to_string());
            one["eventName"] = json!("happened");
        }
        one
    };
    let first: Vec<Value> = (0..30).map(&mut record).collect();
    let second: Vec<Value> = (30..50).map(&mut record).collect();
    json!({"resourceLogs": [
        {
            "resource": {"attributes": [
                text("service.name", "checkout"), text("service.namespace", "shop"), text("host.name", "h-1"),
                text("k8s.pod.name", "checkout-7f"), {"key": "process.pid", "value": {"intValue": "17"}},
            ]},
            "scopeLogs": [{"scope": {"name": "lib", "version": "1.2", "attributes": [text("scope.attr", "s")]}, "logRecords": first}],
        },
        {
            "resource": {"attributes": [text("k8s.container.name", "box2"), text("deployment.environment", "dev")]},
            "scopeLogs": [{"logRecords": second}],
        },
    ]})
}
