//! Requests as clients build them: OTLP spans and logs, Loki push, remote write. Each batch is made from its number, so
//! that it can be sent again, byte for byte, and looked for afterwards.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// Items in every batch.
pub const ITEMS: u64 = 20;

/// The trace id of batch `n` of a run.
pub fn trace_id(run: u64, n: u64) -> String {
    format!("{run:016x}{:016x}", n + 1)
}

/// A trace of [`ITEMS`] spans.
pub fn spans(run: u64, n: u64, now_ns: u64) -> ExportTraceServiceRequest {
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&run.to_be_bytes());
    id[8..].copy_from_slice(&(n + 1).to_be_bytes());
    let spans = (0..ITEMS).map(|i| Span {
        trace_id: id.to_vec(),
        span_id: (n * ITEMS + i + 1).to_be_bytes().to_vec(),
        parent_span_id: if i == 0 {
            Vec::new()
        } else {
            (n * ITEMS + 1).to_be_bytes().to_vec()
        },
        name: format!("step {i}"),
        kind: 1,
        start_time_unix_nano: now_ns + i * 1_000,
        end_time_unix_nano: now_ns + i * 1_000 + 500_000,
        ..Span::default()
    });
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue("sender".to_owned())),
        }),
        ..KeyValue::default()
    };
    let scope = ScopeSpans {
        spans: spans.collect(),
        ..ScopeSpans::default()
    };
    let resource = Resource {
        attributes: vec![service],
        ..Resource::default()
    };
    let group = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![group],
    }
}

/// The same as protobuf.
pub fn spans_protobuf(run: u64, n: u64, now_ns: u64) -> Vec<u8> {
    spans(run, n, now_ns).encode_to_vec()
}

/// The line of item `i` of batch `n`.
pub fn line(n: u64, i: u64) -> String {
    format!("batch {n} item {i}")
}

/// A Loki push in JSON; all entries of a batch lie within its own ms.
pub fn loki_json(n: u64, batch_ns: u64) -> Vec<u8> {
    let values: Vec<String> = (0..ITEMS)
        .map(|i| format!(r#"["{}","{}",{{"item":"{i}"}}]"#, batch_ns + i, line(n, i)))
        .collect();
    format!(
        r#"{{"streams":[{{"stream":{{"sender":"loki"}},"values":[{}]}}]}}"#,
        values.join(",")
    )
    .into_bytes()
}

/// OTLP logs in JSON.
pub fn otlp_logs_json(n: u64, batch_ns: u64) -> Vec<u8> {
    let records: Vec<String> = (0..ITEMS)
        .map(|i| {
            format!(
                r#"{{"timeUnixNano":"{}","body":{{"stringValue":"{}"}}}}"#,
                batch_ns + i,
                line(n, i)
            )
        })
        .collect();
    format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"otlp-sender"}}}}]}},"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#,
        records.join(",")
    )
    .into_bytes()
}

/// A remote write request: [`ITEMS`] series with one sample each, of value `n` at `t_ms`.
pub fn remote_write(n: u64, t_ms: i64) -> Vec<u8> {
    let mut request = Vec::new();
    for i in 0..ITEMS {
        let mut series = Vec::new();
        for (name, value) in [("__name__", "sent".to_owned()), ("item", i.to_string())] {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&(n as f64).to_le_bytes());
        sample.push(2 << 3);
        prost::encoding::encode_varint(t_ms as u64, &mut sample);
        field(&mut series, 2, &sample);
        field(&mut request, 1, &series);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

/// A series as remote write sends it: labels sorted by name, samples of time in ms and value.
pub struct Series<'a> {
    pub labels: Vec<(&'a str, &'a str)>,
    pub samples: Vec<(i64, f64)>,
}

/// A remote write request of any series.
pub fn write_request(series: &[Series]) -> Vec<u8> {
    let mut request = Vec::new();
    for Series { labels, samples } in series {
        let mut of_series = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut of_series, 1, &label);
        }
        for (t_ms, value) in samples {
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(2 << 3);
            prost::encoding::encode_varint(*t_ms as u64, &mut sample);
            field(&mut of_series, 2, &sample);
        }
        field(&mut request, 1, &of_series);
    }
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

/// The headers of remote write 1.0.
pub const WRITE_HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// Appends a length-delimited protobuf field.
pub fn field(out: &mut Vec<u8>, number: u64, payload: &[u8]) {
    prost::encoding::encode_varint(number << 3 | 2, out);
    prost::encoding::encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// Nanoseconds since the epoch.
pub fn now_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}
