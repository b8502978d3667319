//! OTLP: traces, metrics and logs over HTTP (protobuf, JSON) and gRPC.
//!
//! Both transports end in [`store`]: one decoder and one set of rules for each signal, whatever the road. JSON is
//! rewritten as protobuf first (`json.rs`); the decoders read protobuf in place (`metrics.rs`, `logs.rs`, `traces.rs`).

mod answer;
mod any_value;
mod delta;
mod delta_file;
pub(crate) mod grpc;
mod json;
mod logs;
mod metric_exemplar;
mod metric_labels;
mod metric_names;
mod metrics;
mod native;
pub(crate) mod routes;
#[cfg(test)]
mod tests;
pub(crate) mod traces;
mod translation;

use bytes::Bytes;
use model::{LogBatch, SampleBatch, Signal};

use crate::admission::Ticket;
use crate::body::{self, Compression};
use crate::counters::Receiver;
use crate::entry_limits::bad_time;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::{Incoming, Shared};

pub(crate) use delta_file::{keep, restore};
pub(crate) use metrics::Translator;
pub use translation::{OtlpMetrics, Translation};

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

enum Batch {
    Samples(SampleBatch),
    Entries(LogBatch),
    Spans(Box<Incoming>),
}

/// Decodes a request that was read and appends it; returns when it is durable.
async fn store(
    shared: &Shared,
    receiver: Receiver,
    encoding: Encoding,
    compression: Compression,
    wire: Bytes,
    ticket: Ticket,
) -> Result<Report, Refusal> {
    let signal = receiver.signal();
    let now = shared.sink.now();
    let bytes_max = shared.options.body_bytes_max;
    let unfolded_max = bytes_max.saturating_mul(UNFOLD_MAX);
    let parts = shared.clone();
    let decode = move |plain: &[u8]| {
        let rewritten;
        let request = match encoding {
            Encoding::Protobuf => plain,
            Encoding::Json => {
                rewritten = json::to_protobuf(plain, signal)?;
                &rewritten
            }
        };
        Ok(match signal {
            Signal::Metrics => {
                let (batch, report) = parts.otlp.decode(request, now.floor_ms(), unfolded_max)?;
                (Batch::Samples(batch), report)
            }
            Signal::Logs => {
                let (batch, report) = logs::decode(request, now, unfolded_max)?;
                (Batch::Entries(batch), report)
            }
            Signal::Traces => {
                let mut incoming = Incoming::at(now, request.len());
                let report = traces::decode(request, unfolded_max, &mut |span| {
                    incoming.push(&parts.derived, span);
                })?;
                (Batch::Spans(Box::new(incoming)), report)
            }
        })
    };
    let row = shared.counters.row(receiver);
    let ((batch, mut report), _ticket) = body::decode(wire, compression, bytes_max, ticket, row, decode).await?;
    match batch {
        Batch::Samples(batch) if batch.is_empty() => {}
        Batch::Samples(batch) => {
            let taken = shared.sink.append_samples(&batch).await?;
            report.reject(taken.refused(), || taken.words());
        }
        Batch::Entries(batch) if batch.is_empty() => {}
        Batch::Entries(batch) => {
            let taken = shared.sink.append_logs(&batch).await?;
            let refused = taken.too_old + taken.too_new;
            for (labels, t, too_new) in &taken.refused {
                report.warn(|| bad_time(labels, *t, *too_new, shared.sink.oldest_entry()));
            }
            report.reject(refused, || {
                format!("{refused} log records are too old or too far in the future")
            });
        }
        Batch::Spans(incoming) => shared.append_incoming(*incoming, &mut report).await?,
    }
    Ok(report)
}
