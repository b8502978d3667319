//! What was appended and waits for the thread. Guarded by one mutex that is never held across I/O.

use std::sync::mpsc::SyncSender;

use crate::segment::{HEADER_BYTES, RECORD_OVERHEAD, put_record};
use crate::{Lsn, WalError};

/// What waits, and what the next append needs to know.
pub(crate) struct Queue {
    /// The place of the next record.
    pub(crate) next: Lsn,
    /// What the thread takes next.
    pub(crate) batch: Batch,
    /// Bytes appended that are not yet written, those in the thread's hands included.
    pub(crate) buffered: usize,
    /// Why appends are refused.
    pub(crate) failed: Option<WalError>,
    /// The log is being closed.
    pub(crate) stopping: bool,
    /// An empty buffer to be used again.
    pub(crate) spare: Vec<u8>,
    /// Bytes in the segment that the next record goes to.
    segment_bytes: u64,
}

/// What the thread writes at once.
#[derive(Default)]
pub(crate) struct Batch {
    /// In order. Each but the first starts a segment; the first may.
    pub(crate) runs: Vec<Run>,
    /// To be synced whatever the mode.
    pub(crate) sync: bool,
    /// Who wants to hear how it went.
    pub(crate) answers: Vec<SyncSender<Result<(), WalError>>>,
}

/// Records of one segment.
pub(crate) struct Run {
    /// A segment to start first.
    pub(crate) starts: Option<Lsn>,
    /// Encoded records.
    pub(crate) bytes: Vec<u8>,
}

impl Queue {
    /// Behind a segment that has `segment_bytes` bytes.
    pub(crate) fn new(next: Lsn, segment_bytes: u64) -> Queue {
        Queue {
            next,
            batch: Batch::default(),
            buffered: 0,
            failed: None,
            stopping: false,
            spare: Vec::new(),
            segment_bytes,
        }
    }

    /// Whether there is nothing for the thread to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.batch.runs.is_empty() && self.batch.answers.is_empty()
    }

    /// Encodes a record behind the others; starts a segment when the present one has `segment_bytes_max` or more.
    pub(crate) fn push(&mut self, kind: u8, payload: &[u8], payload_crc: u32, segment_bytes_max: u64) -> Lsn {
        if self.segment_bytes >= segment_bytes_max && !self.segment_is_empty() {
            self.start_segment();
        }
        if self.batch.runs.is_empty() {
            let bytes = std::mem::take(&mut self.spare);
            self.batch.runs.push(Run { starts: None, bytes });
        }
        let lsn = self.next;
        if let Some(run) = self.batch.runs.last_mut() {
            put_record(&mut run.bytes, lsn, kind, payload, payload_crc);
        }
        self.next = Lsn(lsn.0 + 1);
        self.buffered += RECORD_OVERHEAD + payload.len();
        self.segment_bytes += (RECORD_OVERHEAD + payload.len()) as u64;
        lsn
    }

    /// Whether the segment that the next record goes to has none yet.
    pub(crate) fn segment_is_empty(&self) -> bool {
        self.segment_bytes <= HEADER_BYTES as u64
    }

    /// The next record goes to a new segment.
    pub(crate) fn start_segment(&mut self) {
        let bytes = std::mem::take(&mut self.spare);
        self.batch.runs.push(Run {
            starts: Some(self.next),
            bytes,
        });
        self.segment_bytes = HEADER_BYTES as u64;
    }

    /// Drops what waits: it can no longer be written. The next segment must be a new one.
    pub(crate) fn fail(&mut self, error: &WalError) -> Vec<SyncSender<Result<(), WalError>>> {
        self.failed = Some(error.clone());
        self.buffered = 0;
        self.segment_bytes = u64::MAX;
        std::mem::take(&mut self.batch).answers
    }
}
