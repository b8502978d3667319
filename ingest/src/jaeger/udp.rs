//! Thrift over UDP, as Jaeger's agent took it: one datagram is one message, in whichever of the two protocols.
//!
//! One task empties the socket and decodes, another appends everything that has come meanwhile in one batch, so that
//! datagrams do not wait in the kernel for a sync of the log. Nobody hears of a datagram that is refused; it is counted.

use std::io;

use model::{Signal, SpanBatch};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

use super::thrift_batch;
use crate::admission::Ticket;
use crate::counters::Receiver;
use crate::refusal::Refusal;
use crate::report::Report;
use crate::{PRESSURE_MAX, Shared};

/// The largest datagram that UDP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// What one datagram may unfold to: many small spans need more room than their bytes.
const UNFOLDED_BYTES_MAX: usize = 2 << 20;
/// Decoded datagrams that may wait to be appended.
const WAITING_MAX: usize = 1024;

struct Decoded {
    batch: SpanBatch,
    report: Report,
    /// Held until the spans are durable.
    _ticket: Ticket,
}

/// Serves one socket until `stop` turns true; what was received by then is stored.
pub(crate) async fn serve(shared: Shared, socket: UdpSocket, mut stop: watch::Receiver<bool>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let appending = tokio::spawn(append_all(shared.clone(), receiver));
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv(&mut buffer) => received,
            _ = stop.wait_for(|s| *s) => break,
        };
        match received {
            Ok(len) => take(&shared, &buffer[..len], &sender),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                tracing::warn!(error = %e, "a datagram could not be received");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    drop(sender);
    let _ = appending.await;
}

/// Decodes a datagram and puts it in line.
fn take(shared: &Shared, datagram: &[u8], sender: &mpsc::Sender<Decoded>) {
    let row = shared.counters.row(Receiver::JaegerThriftUdp);
    row.read(datagram.len(), datagram.len());
    let busy = |why: &str| Refusal::Busy {
        why: why.to_owned(),
        retry_after_s: 1,
    };
    let decoded = || {
        if shared.sink.pressure() >= PRESSURE_MAX {
            return Err(busy("memory budget exhausted"));
        }
        let mut ticket = shared.admission.ticket(Signal::Traces);
        ticket.try_grow_to(datagram.len())?;
        let (batch, report) = thrift_batch::decode_datagram(datagram, UNFOLDED_BYTES_MAX, shared.sink.now())?;
        Ok(Decoded {
            batch,
            report,
            _ticket: ticket,
        })
    };
    let sent = decoded().and_then(|decoded| sender.try_send(decoded).map_err(|_| busy("the line is full")));
    if let Err(refusal) = sent {
        row.refused(&refusal);
        tracing::debug!(why = %refusal, bytes = datagram.len(), "a Jaeger datagram was refused");
    }
}

async fn append_all(shared: Shared, mut receiver: mpsc::Receiver<Decoded>) {
    let row = shared.counters.row(Receiver::JaegerThriftUdp);
    let mut waiting = Vec::new();
    while receiver.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let datagrams = waiting.len();
        let (mut batch, mut report) = (SpanBatch::default(), Report::default());
        for decoded in &mut waiting {
            batch.spans.append(&mut decoded.batch.spans);
            report.items += decoded.report.items;
            report.rejected += decoded.report.rejected;
        }
        let appended = shared.append_spans(batch, &mut report).await;
        match &appended {
            Ok(()) => row.ok(report.accepted(), report.rejected),
            Err(refusal) => {
                row.refused(refusal);
                tracing::warn!(why = %refusal, datagrams, "Jaeger datagrams could not be stored");
            }
        }
        for _ in 1..datagrams {
            match &appended {
                Ok(()) => row.ok(0, 0),
                Err(refusal) => row.refused(refusal),
            }
        }
        waiting.clear();
    }
}
