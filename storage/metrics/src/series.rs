//! One series in the head: an open chunk that grows in order, closed chunks before it, and a small buffer for what
//! comes late.
//!
//! Closed chunks are sorted and share no instant with each other nor with the open chunk, and none crosses midnight
//! (UTC), so a cut copies them into the blocks of their days. A late sample waits in a sorted buffer; when that is
//! full it is merged into the chunks it falls between, so that back-fill of any order costs a few microseconds a
//! sample. No two samples of a series in one head have the same time: the first one stays.
//!
//! Floats and native histograms share all this; of the two kinds of open chunks at most one has samples.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

use model::{DAY_MS, Day, Exemplar, Histogram, LabelSet, ResetHint, TimeRangeMs, TimestampMs};
use parking_lot::Mutex;

use crate::chunk::Chunk;
use crate::exemplar::ExemplarLog;
use crate::gorilla::OpenChunk;
use crate::histogram::bytes_of;
use crate::histogram_stream::{Fit, HistogramStream};
use crate::samples::{Mark, Samples};

/// Samples at which an open chunk is closed: an hour at 15 s.
const CLOSE_AT: usize = 240;
/// Samples a chunk may have after late ones were merged into it.
const MERGED_MAX: usize = 360;
/// Numbers at which an open chunk of histograms is closed, whatever its samples.
const CLOSE_AT_CELLS: usize = 1 << 15;
/// Late samples that wait before they are merged.
const LATE_MAX: usize = 256;
/// Stands for "no day yet".
const NO_DAY: i32 = i32::MIN;

/// A series of one head. Appends and readers lock only its own state, and only for a moment.
pub(crate) struct Cell {
    pub(crate) id: u32,
    pub(crate) hash: u64,
    pub(crate) labels: LabelSet,
    /// The day last defined in this head's WAL, so that the usual append asks no further.
    day: AtomicI32,
    min: AtomicI64,
    max: AtomicI64,
    /// Bits of the last value in the log, and since when values continue (`append.rs`).
    logged: AtomicU64,
    logged_in: AtomicU32,
    state: Mutex<State>,
}

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stored,
    Duplicate,
    Conflict,
}

/// What an append changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    /// Position of the first conflict in what was appended.
    pub(crate) first_conflict: Option<usize>,
    /// Growth of memory; negative when a chunk was closed.
    pub(crate) bytes: i64,
    /// Times of the first and last sample stored.
    pub(crate) extent: Option<(i64, i64)>,
}

impl Change {
    /// Adds what another append changed.
    pub(crate) fn add(&mut self, other: &Change) {
        self.stored += other.stored;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.bytes += other.bytes;
        self.extent = match (self.extent, other.extent) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    fn count(&mut self, at: usize, t: i64, outcome: Outcome) {
        match outcome {
            Outcome::Stored => {
                self.stored += 1;
                let (min, max) = self.extent.unwrap_or((t, t));
                self.extent = Some((min.min(t), max.max(t)));
            }
            Outcome::Duplicate => self.duplicates += 1,
            Outcome::Conflict => {
                self.conflicts += 1;
                self.first_conflict.get_or_insert(at);
            }
        }
    }
}

// Most series have neither late samples nor exemplars nor a second day: a box costs them 8 bytes, a vector 24.
#[allow(clippy::box_collection)]
#[derive(Default)]
struct State {
    closed: Vec<Chunk>,
    closed_bytes: usize,
    open: OpenChunk,
    open_histograms: Option<Box<HistogramStream>>,
    late: Option<Box<Samples>>,
    exemplars: Option<Box<ExemplarLog>>,
    /// Days defined in this head's WAL beside [`Cell::day`].
    more_days: Option<Box<Vec<i32>>>,
}

/// Samples of one series in memory, to be decoded without its lock.
#[derive(Default)]
pub(crate) struct View {
    closed: Vec<Chunk>,
    open: Option<OpenChunk>,
    open_histograms: Option<Box<HistogramStream>>,
    late: Samples,
}

/// What a series has at one time.
#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Cell {
    pub(crate) fn new(id: u32, hash: u64, labels: LabelSet) -> Cell {
        Cell {
            id,
            hash,
            labels,
            day: AtomicI32::new(NO_DAY),
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            logged: AtomicU64::new(0),
            logged_in: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    /// Notes the last value that goes into the log and returns the one before, 0.0 if that was not in this run of
    /// values. Who calls holds the log.
    pub(crate) fn swap_logged(&self, run: u32, bits: u64) -> u64 {
        let before = self.logged.load(Ordering::Relaxed);
        self.logged.store(bits, Ordering::Relaxed);
        if self.logged_in.load(Ordering::Relaxed) == run {
            before
        } else {
            self.logged_in.store(run, Ordering::Relaxed);
            0
        }
    }

    /// The series is defined in the log (again): values begin at 0.0.
    pub(crate) fn begin_logged(&self) {
        self.logged.store(0, Ordering::Relaxed);
    }

    /// Bytes of memory of a series without samples, places in the head's tables included.
    pub(crate) fn empty_bytes(&self) -> usize {
        size_of::<Cell>() + 16 + self.labels.as_bytes().len() + 16 + 28
    }

    /// Whether this head's WAL says already that the series is in use on `day`.
    pub(crate) fn is_defined_on(&self, day: Day) -> bool {
        self.day.load(Ordering::Acquire) == day.0
            || self
                .state
                .lock()
                .more_days
                .as_ref()
                .is_some_and(|days| days.contains(&day.0))
    }

    /// Notes that this head's WAL says so.
    pub(crate) fn defined_on(&self, day: Day) {
        let mut state = self.state.lock();
        let last = self.day.load(Ordering::Acquire);
        if last != NO_DAY && last != day.0 {
            let days = state.more_days.get_or_insert_default();
            if !days.contains(&last) {
                days.push(last);
            }
        }
        self.day.store(day.0, Ordering::Release);
    }

    /// Appends samples in the order given; any time, any value. `start` is as long as `t`, or empty; 0: not known.
    pub(crate) fn append(&self, t: &[i64], v: &[f64], start: &[i64]) -> Change {
        self.change(|state, change| {
            for (i, (&t, &v)) in t.iter().zip(v).enumerate() {
                let outcome = state.append(t, v, start.get(i).copied().unwrap_or(0));
                change.count(i, t, outcome);
            }
        })
    }

    /// Appends a native histogram; any time.
    pub(crate) fn append_histogram(&self, t: i64, start: i64, h: &Arc<Histogram>) -> Change {
        self.change(|state, change| {
            let outcome = state.append_histogram(t, start, h);
            change.count(0, t, outcome);
        })
    }

    fn change(&self, append: impl FnOnce(&mut State, &mut Change)) -> Change {
        let mut change = Change::default();
        let mut state = self.state.lock();
        let before = state.bytes();
        append(&mut state, &mut change);
        change.bytes = state.bytes() as i64 - before as i64;
        if let Some((min, max)) = change.extent {
            self.min.fetch_min(min, Ordering::Relaxed);
            self.max.fetch_max(max, Ordering::Relaxed);
        }
        change
    }

    /// Chunks in memory, the open one included.
    pub(crate) fn chunks(&self) -> u64 {
        let state = self.state.lock();
        (state.closed.len() + usize::from(state.first_open().is_some()) + usize::from(state.late.is_some())) as u64
    }

    /// Adds an exemplar unless it is the last one again; says how memory grew, `None` if it was there.
    pub(crate) fn add_exemplar(&self, exemplar: &Exemplar) -> Option<usize> {
        let mut state = self.state.lock();
        let log = state.exemplars.get_or_insert_default();
        let before = log.bytes();
        log.push(exemplar).then(|| log.bytes() - before)
    }

    /// Its exemplars, rising by time, each once.
    pub(crate) fn exemplars(&self) -> Vec<Exemplar> {
        let log = self.state.lock().exemplars.clone();
        log.map(|log| log.sorted()).unwrap_or_default()
    }

    /// Times of the first and last sample, if there are any.
    pub(crate) fn extent(&self) -> Option<(i64, i64)> {
        let (min, max) = (self.min.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed));
        (min <= max).then_some((min, max))
    }

    /// Whether samples may lie in `range`: exact to a chunk.
    pub(crate) fn overlaps(&self, range: TimeRangeMs) -> bool {
        let Some((min, max)) = self.extent() else {
            return false;
        };
        let (min, max) = (TimestampMs(min), TimestampMs(max));
        if !range.overlaps(min, max) {
            return false;
        }
        if range.contains(min) || range.contains(max) {
            return true;
        }
        // The range lies within: there may be a gap as large as it.
        let state = self.state.lock();
        state.closed_in(range).next().is_some()
            || state.open_in(range)
            || state.histograms_in(range)
            || state.late.as_ref().is_some_and(|late| {
                let (from, to) = late_in(late, range);
                from != to
            })
    }

    /// The newest sample, if it is a float in `range` that lies ready: nothing is decoded.
    pub(crate) fn newest_float(&self, range: TimeRangeMs) -> Option<(i64, f64)> {
        let state = self.state.lock();
        if state.open.is_empty() || state.open_histograms.is_some() {
            return None;
        }
        let (t, v) = (state.open.last(), f64::from_bits(state.open.last_bits()));
        let later = state
            .late
            .as_ref()
            .and_then(|late| late.last())
            .is_some_and(|late| late > t);
        (!later && range.contains(TimestampMs(t))).then_some((t, v))
    }

    /// What is needed to read `range`, copied so that the lock is held for a moment only.
    pub(crate) fn view(&self, range: TimeRangeMs) -> View {
        let state = self.state.lock();
        let mut late = Samples::default();
        if let Some(all) = &state.late {
            let (from, to) = late_in(all, range);
            late.extend_from(all, from, to);
        }
        View {
            closed: state.closed_in(range).cloned().collect(),
            open: state.open_in(range).then(|| state.open.clone()),
            open_histograms: state.open_histograms.clone().filter(|_| state.histograms_in(range)),
            late,
        }
    }

    /// Closes all its samples into chunks of one day each and notes the days. For a head that takes no more appends.
    pub(crate) fn seal(&self, days: &mut BTreeSet<Day>) {
        let mut state = self.state.lock();
        state.close();
        state.merge_late();
        days.extend(state.closed.iter().map(|chunk| day(chunk.min)));
    }

    /// The closed chunks of a day, rising by time; all of them once it is sealed.
    pub(crate) fn closed_on(&self, day: Day) -> Vec<Chunk> {
        let range = TimeRangeMs {
            start: day.start_ms(),
            end: TimestampMs(day.start_ms().0.saturating_add(DAY_MS - 1)),
        };
        self.state.lock().closed_in(range).cloned().collect()
    }
}

impl View {
    /// Appends the samples in `range` to `out`, rising by time.
    pub(crate) fn read(&self, range: TimeRangeMs, out: &mut Samples) {
        let base = out.mark();
        for chunk in &self.closed {
            out.append_within(range, |out| chunk.view().decode(out).is_ok());
        }
        if let Some(open) = &self.open {
            out.append_within(range, |out| open.decode(out).is_ok());
        }
        if let Some(open) = &self.open_histograms {
            out.append_within(range, |out| open.decode(out).is_ok());
        }
        if self.late.count() > 0 {
            let second = out.mark();
            out.extend_from(&self.late, Mark::START, self.late.mark());
            out.merge_tail(base, second);
        }
    }
}

impl State {
    fn bytes(&self) -> usize {
        self.closed_bytes
            + self.open.bytes()
            + self.open_histograms.as_ref().map_or(0, |open| open.bytes())
            + self.late.as_ref().map_or(0, |late| late_bytes(late))
            + self.more_days.as_ref().map_or(0, |days| 24 + days.capacity() * 4)
    }

    /// Time of the newest sample that is not late.
    fn newest(&self) -> Option<i64> {
        if !self.open.is_empty() {
            return Some(self.open.last());
        }
        match &self.open_histograms {
            Some(open) => Some(open.last()),
            None => self.closed.last().map(|chunk| chunk.max),
        }
    }

    fn append(&mut self, t: i64, v: f64, start: i64) -> Outcome {
        match self.newest() {
            Some(newest) if t == newest && !self.open.is_empty() => return same_bits(self.open.last_bits(), v),
            Some(newest) if t <= newest => return self.append_late(t, Value::Float(v), start),
            _ => {}
        }
        let full = self.open.count() >= CLOSE_AT || (!self.open.is_empty() && day(self.open.first()) != day(t));
        if full || self.open_histograms.is_some() {
            self.close();
        }
        // A late buffer may reach beyond the newest sample only if it was late then; it never does now.
        self.open.push(t, v, start);
        Outcome::Stored
    }

    fn append_histogram(&mut self, t: i64, start: i64, h: &Arc<Histogram>) -> Outcome {
        let value = || Value::Histogram(h.clone());
        match (self.newest(), &self.open_histograms) {
            (Some(newest), Some(open)) if t == newest => {
                return same(&Value::Histogram(Arc::new(open.last_histogram())), &value());
            }
            (Some(newest), _) if t <= newest => return self.append_late(t, value(), start),
            _ => {}
        }
        if let Some(open) = &mut self.open_histograms {
            let full = open.count() >= CLOSE_AT || open.cells() >= CLOSE_AT_CELLS;
            if !full && day(open.first()) == day(t) && open.fit(h) == Fit::Joins {
                open.push(t, h, start);
                return Outcome::Stored;
            }
        }
        self.close();
        self.open_histograms = Some(Box::new(HistogramStream::new(t, h, start)));
        Outcome::Stored
    }

    fn append_late(&mut self, t: i64, value: Value, start: i64) -> Outcome {
        let waiting = self.late.as_ref().and_then(|late| value_at(late, t));
        if let Some(stored) = waiting.or_else(|| self.find(t)) {
            return same(&stored, &value);
        }
        let late = self.late.get_or_insert_default();
        match value {
            Value::Float(v) => late.insert(t, v, start),
            Value::Histogram(mut h) => {
                if h.reset == ResetHint::NotReset {
                    Arc::make_mut(&mut h).reset = ResetHint::Unknown;
                }
                late.histograms.insert(t, start, h);
            }
        }
        if late.count() >= LATE_MAX {
            self.merge_late();
        }
        Outcome::Stored
    }

    /// What is at exactly `t` in the open and closed chunks.
    fn find(&self, t: i64) -> Option<Value> {
        let mut samples = Samples::default();
        if let Some(open) = self.open_histograms.as_ref().filter(|open| t >= open.first()) {
            open.decode(&mut samples).ok()?;
        } else if !self.open.is_empty() && t >= self.open.first() {
            self.open.decode(&mut samples).ok()?;
        } else {
            let at = self.closed.partition_point(|chunk| chunk.max < t);
            let chunk = self.closed.get(at).filter(|chunk| chunk.min <= t)?;
            chunk.view().decode(&mut samples).ok()?;
        }
        value_at(&samples, t)
    }

    fn closed_in(&self, range: TimeRangeMs) -> impl Iterator<Item = &Chunk> {
        let first = self.closed.partition_point(|chunk| chunk.max < range.start.0);
        self.closed[first..]
            .iter()
            .take_while(move |chunk| chunk.min <= range.end.0)
    }

    fn open_in(&self, range: TimeRangeMs) -> bool {
        !self.open.is_empty() && range.overlaps(TimestampMs(self.open.first()), TimestampMs(self.open.last()))
    }

    fn histograms_in(&self, range: TimeRangeMs) -> bool {
        (self.open_histograms.as_ref())
            .is_some_and(|open| range.overlaps(TimestampMs(open.first()), TimestampMs(open.last())))
    }

    /// Closes the open chunk, if there is one.
    fn close(&mut self) {
        let mut samples = Samples::default();
        if let Some(open) = self.open_histograms.take()
            && open.decode(&mut samples).is_ok()
        {
            self.push_runs(&samples);
        }
        if self.open.is_empty() {
            return;
        }
        let open = std::mem::take(&mut self.open);
        samples.clear();
        if open.decode(&mut samples).is_ok() {
            self.push_closed(Chunk::encode(&samples.t, &samples.v, &samples.start));
        }
    }

    fn push_closed(&mut self, chunk: Chunk) {
        self.closed_bytes += chunk.bytes();
        self.closed.push(chunk);
    }

    /// Merges the late samples into the chunks they fall between.
    fn merge_late(&mut self) {
        let Some(late) = self.late.take() else {
            return;
        };
        let (Some(last), first_open) = (late.last(), self.first_open()) else {
            return;
        };
        if first_open.is_some_and(|first| last >= first) {
            self.close();
        }
        let old = std::mem::take(&mut self.closed);
        self.closed.reserve(old.len() + 2);
        self.closed_bytes = 0;
        let mut samples = Samples::default();
        let mut from = old.first().map_or(late.mark(), |chunk| late.mark_at(chunk.min));
        samples.extend_from(&late, Mark::START, from);
        self.push_runs(&samples);
        for (i, chunk) in old.iter().enumerate() {
            // A chunk owns the time up to the next one.
            let to = old.get(i + 1).map_or(late.mark(), |next| late.mark_at(next.min));
            let inside = chunk.max.checked_add(1).map_or(to, |after| late.mark_at(after));
            samples.clear();
            if from == to || (from == inside && chunk.count as usize >= CLOSE_AT) {
                self.push_closed(chunk.clone());
                samples.extend_from(&late, from, to);
            } else if chunk.view().decode(&mut samples).is_ok() {
                let second = samples.mark();
                samples.extend_from(&late, from, to);
                samples.merge_tail(Mark::START, second);
            }
            from = to;
            self.push_runs(&samples);
        }
    }

    /// Time of the first sample of the open chunk.
    fn first_open(&self) -> Option<i64> {
        let floats = (!self.open.is_empty()).then(|| self.open.first());
        floats.or(self.open_histograms.as_ref().map(|open| open.first()))
    }

    /// Closes samples into chunks.
    fn push_runs(&mut self, samples: &Samples) {
        let mut chunks = Vec::new();
        encode(samples, MERGED_MAX, &mut chunks);
        chunks.into_iter().for_each(|chunk| self.push_closed(chunk));
    }
}

/// Where the late samples in a range begin and end.
fn late_in(late: &Samples, range: TimeRangeMs) -> (Mark, Mark) {
    let from = late.mark_at(range.start.0);
    let to = range
        .end
        .0
        .checked_add(1)
        .map_or(late.mark(), |after| late.mark_at(after));
    if range.start > range.end {
        (from, from)
    } else {
        (from, to)
    }
}

fn late_bytes(late: &Samples) -> usize {
    let histograms: usize = late.histograms.h.iter().map(|h| bytes_of(h) + 24).sum();
    size_of::<Samples>() + (late.t.capacity() * 2 + late.start.capacity()) * 8 + histograms
}

fn value_at(samples: &Samples, t: i64) -> Option<Value> {
    if let Ok(at) = samples.t.binary_search(&t) {
        return Some(Value::Float(samples.v[at]));
    }
    let at = samples.histograms.t.binary_search(&t).ok()?;
    Some(Value::Histogram(samples.histograms.h[at].clone()))
}

/// Encodes samples as chunks that rise by time and share no instant: of one day each, and of at most `most` floats.
pub(crate) fn encode(samples: &Samples, most: usize, chunks: &mut Vec<Chunk>) {
    let (floats, histograms) = (&samples.t, &samples.histograms.t);
    let (mut i, mut j) = (0, 0);
    while i < floats.len() || j < histograms.len() {
        let next = histograms.get(j).copied().unwrap_or(i64::MAX);
        let to = i + floats[i..].partition_point(|&t| t < next);
        encode_floats(samples, i..to, most, chunks);
        i = to;
        let next = floats.get(i).copied();
        let to = j + histograms[j..].partition_point(|&t| next.is_none_or(|next| t < next));
        Chunk::encode_histograms(&samples.histograms, j..to, chunks);
        if to == j && j < histograms.len() {
            // A float and a histogram at one time, which readers never hand over: the float stays.
            j += 1;
        } else {
            j = to;
        }
    }
}

/// Encodes a range of floats as chunks of one day each and of about even length.
fn encode_floats(samples: &Samples, range: Range<usize>, most: usize, chunks: &mut Vec<Chunk>) {
    let mut start = range.start;
    while start < range.end {
        let today = day(samples.t[start]);
        let len = samples.t[start..range.end].partition_point(|&t| day(t) == today);
        let pieces = len.div_ceil(most);
        for piece in 0..pieces {
            let (from, to) = (start + len * piece / pieces, start + len * (piece + 1) / pieces);
            let starts = samples.start.get(from..to).unwrap_or(&[]);
            chunks.push(Chunk::encode(&samples.t[from..to], &samples.v[from..to], starts));
        }
        start += len;
    }
}

fn same(stored: &Value, new: &Value) -> Outcome {
    let same = match (stored, new) {
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Histogram(a), Value::Histogram(b)) => a.same_bits(b),
        _ => false,
    };
    if same { Outcome::Duplicate } else { Outcome::Conflict }
}

fn same_bits(stored: u64, v: f64) -> Outcome {
    if stored == v.to_bits() {
        Outcome::Duplicate
    } else {
        Outcome::Conflict
    }
}

fn day(t: i64) -> Day {
    TimestampMs(t).day()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ALL: TimeRangeMs = TimeRangeMs::ALL;

    fn sealed(cell: &Cell) -> Vec<Chunk> {
        let mut days = BTreeSet::new();
        cell.seal(&mut days);
        days.iter().flat_map(|&day| cell.closed_on(day)).collect()
    }

    fn cell() -> Cell {
        Cell::new(1, 1, LabelSet::empty())
    }

    fn read(cell: &Cell, range: TimeRangeMs) -> Vec<(i64, u64)> {
        let mut out = Samples::default();
        cell.view(range).read(range, &mut out);
        out.t.iter().zip(&out.v).map(|(&t, v)| (t, v.to_bits())).collect()
    }

    #[test]
    fn the_first_value_at_a_time_stays() {
        let cell = cell();
        let change = cell.append(
            &[10, 20, 20, 20, 10, 10, 15, 15, 15],
            &[1.0, 2.0, 2.0, 3.0, 1.0, 9.0, 5.0, 5.0, 6.0],
            &[],
        );
        assert_eq!((change.stored, change.duplicates, change.conflicts), (3, 3, 3));
        assert_eq!(change.first_conflict, Some(3));
        assert_eq!(
            read(&cell, ALL),
            [(10, 1f64.to_bits()), (15, 5f64.to_bits()), (20, 2f64.to_bits())]
        );
    }

    #[test]
    fn back_fill_from_new_to_old_is_kept_in_few_chunks() {
        let cell = cell();
        for i in (0..5000).rev() {
            assert_eq!(cell.append(&[i * 1000], &[i as f64], &[]).stored, 1);
        }
        assert_eq!(read(&cell, ALL).len(), 5000);
        assert!(sealed(&cell).len() < 5000 / 100);
    }

    #[test]
    fn no_chunk_crosses_midnight() {
        let cell = cell();
        for i in 0..40 {
            cell.append(
                &[DAY_MS - 20_000 + i * 1000, DAY_MS * 2 - 500 - i * 10],
                &[1.0, 2.0],
                &[],
            );
        }
        for chunk in sealed(&cell) {
            assert_eq!(day(chunk.min), day(chunk.max));
        }
        assert_eq!(read(&cell, ALL).len(), 80);
    }

    #[test]
    fn a_range_in_a_gap_finds_nothing() {
        let cell = cell();
        cell.append(&[0, 1000], &[1.0, 1.0], &[]);
        cell.seal(&mut BTreeSet::new());
        cell.append(&[50_000], &[1.0], &[]);
        let range = |a, b| TimeRangeMs {
            start: TimestampMs(a),
            end: TimestampMs(b),
        };
        assert!(!cell.overlaps(range(2000, 49_000)) && !cell.overlaps(range(50_001, 60_000)));
        assert!(cell.overlaps(range(1000, 1000)) && cell.overlaps(range(-5, 70_000)));
    }

    proptest! {
        /// Any order, any age: what the series says is what a map would say, before and after it is sealed.
        #[test]
        fn a_series_is_a_map(steps in proptest::collection::vec((0i64..3000, 0u8..3), 1..900), scale in prop_oneof![Just(1000i64), Just(60_000)],
                             a in 0i64..3000, b in 0i64..3000) {
            let cell = cell();
            let mut model = BTreeMap::new();
            for (i, &(t, v)) in steps.iter().enumerate() {
                // Mostly in order, with any number of late ones.
                let t = if i % 3 == 0 { t } else { i as i64 } * scale;
                let v = f64::from(v);
                let change = cell.append(&[t], &[v], &[]);
                match model.get(&t) {
                    None => { prop_assert_eq!(change.stored, 1); model.insert(t, v.to_bits()); }
                    Some(&old) if old == v.to_bits() => prop_assert_eq!(change.duplicates, 1),
                    Some(_) => prop_assert_eq!(change.conflicts, 1),
                }
            }
            let range = TimeRangeMs { start: TimestampMs(a.min(b) * scale), end: TimestampMs(a.max(b) * scale) };
            let expected: Vec<(i64, u64)> = model.range(range.start.0..=range.end.0).map(|(&t, &v)| (t, v)).collect();
            prop_assert_eq!(read(&cell, range), expected.clone());
            prop_assert!(expected.is_empty() || cell.overlaps(range));
            let chunks = sealed(&cell);
            prop_assert!(chunks.is_sorted_by(|a, b| a.max < b.min));
            prop_assert_eq!(chunks.iter().map(|c| c.count as usize).sum::<usize>(), model.len());
            prop_assert_eq!(read(&cell, range), expected);
        }
    }
}
