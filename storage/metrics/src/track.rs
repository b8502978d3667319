//! The native histograms of one series in the head, beside its floats.
//!
//! The newest histograms wait as they came, sorted by time, until there are enough for chunks; what comes earlier than
//! the last closed chunk ends waits apart until it is merged into the chunks. Closed chunks share no instant and none
//! crosses midnight (UTC). The first histogram at a time stays.

use std::sync::Arc;

use model::{Histogram, ResetHint, TimeRangeMs, TimestampMs};

use crate::Samples;
use crate::chunk::Chunk;
use crate::histogram::bytes_of;
use crate::samples::{Histograms, goes_on};
use crate::series::Outcome;

/// Histograms that wait before they are closed.
const OPEN_MAX: usize = 60;
/// Their bytes, at most (but for the last one's).
const OPEN_BYTES_MAX: usize = 256 << 10;
/// Late histograms that wait before they are merged.
const LATE_MAX: usize = 64;

/// One series' histograms.
#[derive(Default)]
pub(crate) struct Track {
    closed: Vec<Chunk>,
    closed_bytes: usize,
    open: Histograms,
    open_bytes: usize,
    /// Earlier than the last closed chunk ends.
    late: Histograms,
}

/// What a reader needs of a track.
#[derive(Default)]
pub(crate) struct TrackView {
    closed: Vec<Chunk>,
    late: Histograms,
    open: Histograms,
}

impl Track {
    /// Adds a histogram; any time, any value that [`crate::histogram::flaw`] has nothing against.
    pub(crate) fn append(&mut self, t: i64, start: i64, h: &Arc<Histogram>) -> Outcome {
        let waiting = if self.closed.last().is_some_and(|chunk| t <= chunk.max) {
            if let Some(known) = self.find_closed(t) {
                return same(&known, h);
            }
            &mut self.late
        } else {
            &mut self.open
        };
        let at = match waiting.t.binary_search(&t) {
            Ok(at) => return same(&waiting.h[at], h),
            Err(at) => at,
        };
        // What a sender believes of the sample before is found out anew: another one may come between.
        let h = match h.reset {
            ResetHint::NotReset => Arc::new(Histogram {
                reset: ResetHint::Unknown,
                ..(**h).clone()
            }),
            _ => h.clone(),
        };
        self.open_bytes += bytes_of(&h) + 24;
        waiting.insert(at, t, start, h);
        if self.open.t.len() >= OPEN_MAX || self.open_bytes >= OPEN_BYTES_MAX {
            self.close();
        }
        if self.late.t.len() >= LATE_MAX {
            self.merge_late();
        }
        Outcome::Stored
    }

    /// Whether there is a histogram at `t`.
    pub(crate) fn has(&self, t: i64) -> bool {
        let waits = |list: &Histograms| list.t.binary_search(&t).is_ok();
        waits(&self.open) || waits(&self.late) || self.find_closed(t).is_some()
    }

    /// Whether there may be histograms in `range`: exact to a chunk.
    pub(crate) fn overlaps(&self, range: TimeRangeMs) -> bool {
        let waits = |list: &Histograms| list.t.iter().any(|&t| range.contains(TimestampMs(t)));
        self.closed_in(range).next().is_some() || waits(&self.open) || waits(&self.late)
    }

    /// What is needed to read `range`.
    pub(crate) fn view(&self, range: TimeRangeMs) -> TrackView {
        TrackView {
            closed: self.closed_in(range).cloned().collect(),
            late: self.late.within(range),
            open: self.open_within(range),
        }
    }

    /// Those of the open ones in `range`. What is known of the first one does not depend on where a reader begins.
    fn open_within(&self, range: TimeRangeMs) -> Histograms {
        let mut open = self.open.within(range);
        if let Some(first) = open.h.first_mut()
            && first.reset == ResetHint::Unknown
            && let Some(before) = self.open.t.partition_point(|t| *t < open.t[0]).checked_sub(1)
            && goes_on(&self.open.h[before], first)
        {
            Arc::make_mut(first).reset = ResetHint::NotReset;
        }
        open
    }

    /// Closes everything into chunks.
    pub(crate) fn seal(&mut self) {
        self.merge_late();
        self.close();
    }

    /// The closed chunks, rising by time.
    pub(crate) fn closed(&self) -> &[Chunk] {
        &self.closed
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Track>() + self.closed_bytes + self.open_bytes
    }

    fn closed_in(&self, range: TimeRangeMs) -> impl Iterator<Item = &Chunk> {
        let first = self.closed.partition_point(|chunk| chunk.max < range.start.0);
        self.closed[first..]
            .iter()
            .take_while(move |chunk| chunk.min <= range.end.0)
    }

    fn find_closed(&self, t: i64) -> Option<Arc<Histogram>> {
        let at = self.closed.partition_point(|chunk| chunk.max < t);
        let chunk = self.closed.get(at).filter(|chunk| chunk.min <= t)?;
        let mut samples = Samples::default();
        chunk.view().decode(&mut samples).ok()?;
        let at = samples.histograms.t.binary_search(&t).ok()?;
        Some(samples.histograms.h[at].clone())
    }

    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.push_closed(&open);
        self.count_waiting();
    }

    fn push_closed(&mut self, list: &Histograms) {
        let first = self.closed.len();
        Chunk::encode_histograms(list, 0..list.t.len(), &mut self.closed);
        self.closed_bytes += self.closed[first..].iter().map(Chunk::bytes).sum::<usize>();
    }

    fn count_waiting(&mut self) {
        let lists = [&self.open, &self.late];
        self.open_bytes = lists.iter().flat_map(|list| &list.h).map(|h| bytes_of(h) + 24).sum();
    }

    /// Merges what is late into the chunks from the first one that it may lie in.
    fn merge_late(&mut self) {
        let late = std::mem::take(&mut self.late);
        let Some(&first) = late.t.first() else { return };
        let from = self.closed.partition_point(|chunk| chunk.max < first);
        let mut samples = Samples::default();
        let base = samples.mark();
        for chunk in self.closed.drain(from..) {
            // What was just encoded decodes.
            let _ = chunk.view().decode(&mut samples);
        }
        let second = samples.mark();
        samples.histograms.append(&late);
        samples.merge_tail(base, second);
        self.closed_bytes = self.closed.iter().map(Chunk::bytes).sum();
        self.push_closed(&samples.histograms);
        self.count_waiting();
    }
}

impl TrackView {
    /// Appends the histograms in `range` to `out`, rising by time.
    pub(crate) fn read(&self, range: TimeRangeMs, out: &mut Samples) {
        let base = out.mark();
        for chunk in &self.closed {
            out.append_within(range, |out| chunk.view().decode(out).is_ok());
        }
        let second = out.mark();
        out.histograms.append(&self.late);
        out.histograms.merge_from(base, second);
        out.histograms.append(&self.open);
    }
}

fn same(stored: &Histogram, h: &Histogram) -> Outcome {
    if stored.same_bits(h) {
        Outcome::Duplicate
    } else {
        Outcome::Conflict
    }
}
