//! Delta temporality: what each stream has counted so far, so that changes become totals as Prometheus has them.
//!
//! A *stream* is a series (of a histogram: its name without suffix). Its first point is copied; each later one is added.
//! A point that begins before its stream did comes from a second writer, one that ends no later than the stream's last
//! is late; neither can be added any more. Only the last point sent again, as clients do when an answer was lost, is
//! answered with the total it made. A stream that was silent for [`SILENT_MS_MAX`] is forgotten and begins anew.
//! Streams are bounded in number and in bytes; beyond, points of new ones are refused.
//!
//! Counters and histograms begin at *zero*: before its first total, a stream has a sample of nothing counted just after
//! its counting began ([`Added::zero`]). So `increase` has the first change too, and sees that a total began anew even
//! where the first new one is not below the last old one. One case is beyond it: a change that was stored, not answered,
//! and sent again after a crash meets its old total there, behind the new zero; the client is told of the conflict.
//!
//! The totals outlive the process (`delta_file.rs`). After a clean stop all are taken up again. After a crash the file
//! is older than what was stored since: a counter restored from it would fall, and PromQL would take all it had counted
//! for an increase, whereas one that begins anew from zero loses nothing. So a file that may meet a crash holds sums that are not
//! monotonic, and nothing else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::{Buckets, Histogram, TimestampMs};

use super::metrics::ms_of;
use super::native::Explicit;

/// Most streams.
const STREAMS_MAX: usize = 100_000;
/// Most memory of all streams, about.
const BYTES_MAX: usize = 96 << 20;
/// A stream without points for this long is forgotten.
const SILENT_MS_MAX: i64 = 300_000;
/// Native buckets of a total, both sides; beyond, its resolution is halved as long as there is a coarser schema.
const BUCKETS_KEPT_MAX: usize = 640;
/// Memory of a stream beside its key and buckets, about.
const STREAM_BYTES: usize = 200;

/// What all delta streams have counted.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    pub(super) streams: HashMap<Box<[u8]>, Stream>,
    bytes: usize,
    changed: bool,
}

/// One stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stream {
    /// When the counting began, ns; 0: not known.
    pub start: u64,
    /// End of the last point, ns.
    pub t: u64,
    /// When the last point came, ms.
    pub seen: i64,
    /// What marks the last point.
    pub last: [u64; 2],
    pub total: Total,
}

/// What is counted: a change in, a total out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Total {
    Sum { value: f64, monotonic: bool },
    Explicit(Explicit),
    Native(Box<Histogram>),
}

/// The span of time that a point speaks of, ns, and when it came, ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    pub start: u64,
    pub t: u64,
    pub came: i64,
}

/// What a stream has counted, with the point that was added.
#[derive(Debug, PartialEq)]
pub(crate) struct Added<'a> {
    pub total: &'a Total,
    /// When the counting began, ns; 0: not known.
    pub start: u64,
    /// The counting begins with this point, and at this moment there was nothing yet.
    pub zero: Option<TimestampMs>,
}

/// Why a point cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAdded {
    #[error("delta point begins before its stream did; two senders of one series? give each a service.instance.id")]
    Older,
    #[error("delta point is out of order: its stream has a later one")]
    Late,
    #[error("too many delta streams; send cumulative temporality, or fewer series")]
    Full,
}

impl Deltas {
    /// Adds a change.
    pub fn add(&mut self, key: &[u8], when: When, change: Total) -> Result<Added<'_>, NotAdded> {
        let last = change.mark();
        if !self.streams.contains_key(key) {
            self.check_room(key.len() + change.bytes(), when.came)?;
        }
        self.changed = true;
        let (key_len, anew) = (key.len(), |total| Stream {
            start: when.start,
            t: when.t,
            seen: when.came,
            last,
            total,
        });
        let stream = match self.streams.entry(key.into()) {
            Entry::Vacant(vacant) => {
                self.bytes += STREAM_BYTES + key_len + change.bytes();
                vacant.insert(anew(change))
            }
            Entry::Occupied(mut occupied) => {
                let stream = occupied.get_mut();
                let before = stream.total.bytes();
                if when.came - stream.seen > SILENT_MS_MAX {
                    *stream = anew(change);
                } else if when.t == stream.t && last == stream.last {
                    stream.seen = when.came;
                } else if when.start != 0 && when.start < stream.start {
                    return Err(NotAdded::Older);
                } else if when.t <= stream.t {
                    return Err(NotAdded::Late);
                } else {
                    (stream.t, stream.seen, stream.last) = (when.t, when.came, last);
                    if let Err(change) = stream.total.add(change) {
                        *stream = anew(change);
                    }
                }
                let after = stream.total.bytes();
                self.bytes = self.bytes - before + after;
                if after > before && self.bytes > BYTES_MAX {
                    self.bytes -= STREAM_BYTES + key_len + after;
                    occupied.remove();
                    return Err(NotAdded::Full);
                }
                occupied.into_mut()
            }
        };
        Ok(Added {
            total: &stream.total,
            start: stream.start,
            zero: stream.zero(),
        })
    }

    fn check_room(&mut self, bytes: usize, now: i64) -> Result<(), NotAdded> {
        let full = |d: &Deltas| d.streams.len() >= STREAMS_MAX || d.bytes + STREAM_BYTES + bytes > BYTES_MAX;
        if full(self) {
            self.forget_silent(now);
        }
        if full(self) { Err(NotAdded::Full) } else { Ok(()) }
    }

    /// Forgets the streams that have been silent for too long, `now` in ms.
    pub fn forget_silent(&mut self, now: i64) {
        let before = self.streams.len();
        self.streams.retain(|_, stream| now - stream.seen <= SILENT_MS_MAX);
        if self.streams.len() != before {
            self.changed = true;
            self.bytes = self
                .streams
                .iter()
                .map(|(key, s)| STREAM_BYTES + key.len() + s.total.bytes())
                .sum();
        }
    }

    /// Takes streams up again that an earlier run had.
    pub(super) fn restore(&mut self, streams: Vec<(Box<[u8]>, Stream)>) {
        for (key, stream) in streams.into_iter().take(STREAMS_MAX) {
            self.bytes += STREAM_BYTES + key.len() + stream.total.bytes();
            self.streams.insert(key, stream);
            self.changed = true;
        }
    }

    /// Whether anything was added or forgotten since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }
}

impl Stream {
    /// Whether a total that is somewhat old does more good than one that begins anew.
    pub fn survives_a_crash(&self) -> bool {
        matches!(self.total, Total::Sum { monotonic: false, .. })
    }
}

impl Stream {
    /// When nothing was counted yet, if the last point is the first that counted something; also when it came again.
    fn zero(&self) -> Option<TimestampMs> {
        let first = self.total.mark() == self.last;
        let counts = match &self.total {
            Total::Sum { value, monotonic } => *monotonic && *value != 0.0,
            Total::Explicit(explicit) => explicit.count > 0,
            Total::Native(histogram) => histogram.count > 0.0,
        };
        (first && counts).then(|| zero_at(self.start, self.t)).flatten()
    }
}

/// Just after the start, which may be the end of an earlier point; just before the first point if the start is not
/// known, too near, or so far back that it hardly speaks of this point.
fn zero_at(start: u64, t: u64) -> Option<TimestampMs> {
    let (start, t) = (ms_of(start).0, ms_of(t).0);
    let after_start = start.saturating_add(1);
    let known = start > 0 && after_start < t && t - start <= SILENT_MS_MAX;
    let at = if known { after_start } else { t.saturating_sub(1) };
    (at > 0).then_some(TimestampMs(at))
}

impl Total {
    /// The same with nothing counted.
    pub fn emptied(&self) -> Total {
        match self {
            Total::Sum { monotonic, .. } => Total::Sum {
                value: 0.0,
                monotonic: *monotonic,
            },
            Total::Explicit(explicit) => Total::Explicit(Explicit {
                count: 0,
                sum: explicit.sum.map(|_| 0.0),
                bounds: explicit.bounds.clone(),
                counts: vec![0; explicit.counts.len()],
            }),
            Total::Native(h) => Total::Native(Box::new(Histogram {
                zero_count: 0.0,
                count: 0.0,
                sum: 0.0,
                positive: Buckets::default(),
                negative: Buckets::default(),
                bounds: h.bounds.clone(),
                ..**h
            })),
        }
    }

    /// Tells a point from another of the same stream and time.
    fn mark(&self) -> [u64; 2] {
        match self {
            Total::Sum { value, .. } => [value.to_bits(), 0],
            Total::Explicit(e) => [e.count, e.sum.unwrap_or(0.0).to_bits()],
            Total::Native(h) => [h.count.to_bits(), h.sum.to_bits()],
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Total::Sum { .. } => 0,
            Total::Explicit(e) => 8 * (e.bounds.capacity() + e.counts.capacity()),
            Total::Native(h) => {
                let side = |b: &Buckets| 8 * (b.spans.capacity() + b.counts.capacity());
                size_of::<Histogram>() + side(&h.positive) + side(&h.negative) + 8 * h.bounds.len()
            }
        }
    }

    /// Adds a change; gives it back if the two are not of one kind.
    fn add(&mut self, change: Total) -> Result<(), Total> {
        match (self, change) {
            (
                Total::Sum { value, monotonic },
                Total::Sum {
                    value: more,
                    monotonic: kind,
                },
            ) if *monotonic == kind => *value += more,
            (Total::Explicit(total), Total::Explicit(more))
                if total.bounds == more.bounds && total.counts.len() == more.counts.len() =>
            {
                total.count = total.count.saturating_add(more.count);
                total.sum = total.sum.zip(more.sum).map(|(a, b)| a + b);
                for (count, more) in total.counts.iter_mut().zip(more.counts) {
                    *count = count.saturating_add(more);
                }
            }
            (Total::Native(total), Total::Native(more)) => add_native(total, *more),
            (_, change) => return Err(change),
        }
        Ok(())
    }
}

/// Adds one histogram to another, at the coarser of their resolutions and the wider of their zero buckets.
fn add_native(total: &mut Histogram, mut more: Histogram) {
    let schema = total.schema.min(more.schema);
    total.reduce_to(schema);
    more.reduce_to(schema);
    // Widening takes whole buckets, so that one may end beyond the other; each round takes one bucket at least.
    while total.zero_threshold != more.zero_threshold {
        let wider = total.zero_threshold.max(more.zero_threshold);
        let before = (total.zero_threshold, more.zero_threshold);
        total.widen_zero_bucket(wider);
        more.widen_zero_bucket(wider);
        if before == (total.zero_threshold, more.zero_threshold) {
            total.zero_threshold = wider;
            more.zero_threshold = wider;
        }
    }
    total.zero_count += more.zero_count;
    total.count += more.count;
    total.sum += more.sum;
    total.positive = joined(&total.positive, &more.positive);
    total.negative = joined(&total.negative, &more.negative);
    while total.positive.counts.len() + total.negative.counts.len() > BUCKETS_KEPT_MAX && total.schema > -4 {
        total.reduce_to(total.schema - 1);
    }
}

/// The buckets of both, counts of one place added.
fn joined(a: &Buckets, b: &Buckets) -> Buckets {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    loop {
        both.push(match (a.peek(), b.peek()) {
            (None, None) => return Buckets::from_indexed(both),
            (Some(&(i, x)), Some(&(j, y))) if i == j => {
                a.next();
                b.next();
                (i, x + y)
            }
            (Some(&(i, x)), other) if other.is_none_or(|(j, _)| i < *j) => {
                a.next();
                (i, x)
            }
            (_, Some(&more)) => {
                b.next();
                more
            }
            (Some(_), None) => return Buckets::from_indexed(both),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn when(start: u64, t: u64) -> When {
        When {
            start,
            t,
            came: t as i64,
        }
    }

    fn sum(value: f64) -> Total {
        Total::Sum { value, monotonic: true }
    }

    /// Adds sums of one stream and says what came of each.
    fn check(points: &[(When, f64)], want: &[Result<(f64, u64), NotAdded>]) {
        let mut deltas = Deltas::default();
        for ((when, value), want) in points.iter().zip(want) {
            let got = deltas.add(b"k", *when, sum(*value)).map(|added| match added.total {
                Total::Sum { value, .. } => (*value, added.start),
                other => panic!("{other:?}"),
            });
            assert_eq!(got, *want, "{when:?}");
        }
    }

    #[test]
    fn changes_become_totals() {
        check(
            &[
                (when(10, 20), 1.0),
                (when(20, 30), 2.0),
                (when(35, 40), 0.0),
                (when(0, 50), 4.0),
            ],
            &[Ok((1.0, 10)), Ok((3.0, 10)), Ok((3.0, 10)), Ok((7.0, 10))],
        );
        let silent = When {
            came: 20 + SILENT_MS_MAX + 1,
            ..when(20, 30)
        };
        check(&[(when(10, 20), 1.0), (silent, 2.0)], &[Ok((1.0, 10)), Ok((2.0, 20))]);
    }

    #[test]
    fn what_cannot_be_added_any_more_is_told() {
        check(
            &[
                (when(10, 20), 1.0),
                (when(5, 30), 2.0),
                (when(10, 15), 2.0),
                (when(20, 30), 4.0),
            ],
            &[Ok((1.0, 10)), Err(NotAdded::Older), Err(NotAdded::Late), Ok((5.0, 10))],
        );
    }

    #[test]
    fn the_last_point_sent_again_makes_the_same_total() {
        check(
            &[
                (when(10, 20), 1.0),
                (when(20, 30), 2.0),
                (when(20, 30), 2.0),
                (when(20, 30), 3.0),
            ],
            &[Ok((1.0, 10)), Ok((3.0, 10)), Ok((3.0, 10)), Err(NotAdded::Late)],
        );
    }

    /// What `increase` makes of samples, but for the stretching to the window's ends.
    fn increase(samples: &[(i64, f64)]) -> f64 {
        let steps = samples.windows(2).map(|pair| match (pair[0].1, pair[1].1) {
            (before, after) if after < before => after,
            (before, after) => after - before,
        });
        steps.sum()
    }

    /// Adds changes of one counter, in runs between which the process crashed, each a second after the one before; says
    /// what `increase` makes of the samples. The last point of each run came twice.
    fn check_crashes(runs: &[&[f64]], want: f64) {
        let mut stored = std::collections::BTreeMap::new();
        let mut store = |t: i64, v: f64| assert_eq!(*stored.entry(t).or_insert(v), v, "two values at {t}");
        let mut t = 1_000_000;
        for run in runs {
            let mut deltas = Deltas::default();
            let again = run.last().map(|value| (0, value));
            for (step, value) in run.iter().map(|value| (1000, value)).chain(again) {
                t += step;
                let when = When {
                    start: (t as u64 - 1000) * 1_000_000,
                    t: t as u64 * 1_000_000,
                    came: t,
                };
                let added = deltas.add(b"k", when, sum(*value)).unwrap();
                if let Some(zero) = added.zero {
                    store(zero.0, 0.0);
                }
                if let Total::Sum { value, .. } = added.total {
                    store(t, *value);
                }
            }
        }
        let samples: Vec<(i64, f64)> = stored.into_iter().collect();
        assert_eq!(increase(&samples), want, "{samples:?}");
    }

    #[test]
    fn increase_has_all_that_was_counted_also_over_crashes() {
        check_crashes(&[&[2.0]], 2.0);
        check_crashes(&[&[2.0], &[2.0]], 4.0);
        check_crashes(&[&[2.0], &[5.0]], 7.0);
        check_crashes(&[&[5.0], &[2.0]], 7.0);
        check_crashes(&[&[1.0, 2.0], &[9.0, 10.0]], 22.0);
        check_crashes(&[&[0.0, 2.0], &[0.0, 0.0, 3.0, 0.0]], 5.0);
        check_crashes(&[&[1.0], &[1.0], &[1.0, 1.0]], 4.0);
    }

    #[test]
    fn zero_is_just_after_the_start_or_just_before_the_point() {
        let check = |start_ms: u64, t_ms: u64, want: Option<i64>| {
            let got = zero_at(start_ms * 1_000_000, t_ms * 1_000_000 + 999_999);
            assert_eq!(got, want.map(TimestampMs), "{start_ms} to {t_ms}");
        };
        check(1000, 2000, Some(1001));
        check(1000, 1002, Some(1001));
        check(1000, 1001, Some(1000));
        check(1000, 1000, Some(999));
        check(0, 2000, Some(1999));
        check(3000, 2000, Some(1999));
        check(1000, 1000 + SILENT_MS_MAX as u64, Some(1001));
        check(1000, 1001 + SILENT_MS_MAX as u64, Some(1000 + SILENT_MS_MAX));
        check(0, 1, None);
        check(0, 0, None);
        assert!(zero_at(u64::MAX, u64::MAX).is_some());
    }

    #[test]
    fn only_what_counts_begins_at_zero() {
        let zero = |change: Total| {
            let mut deltas = Deltas::default();
            let added = deltas.add(b"k", when(5_000_000, 20_000_000), change).unwrap();
            added.zero.map(|zero| (zero.0, added.total.emptied()))
        };
        assert_eq!(zero(sum(1.0)), Some((6, sum(0.0))));
        let gauge = Total::Sum {
            value: 1.0,
            monotonic: false,
        };
        assert_eq!(zero(gauge), None);
        let explicit = Explicit {
            count: 3,
            sum: Some(2.0),
            bounds: vec![1.0],
            counts: vec![1, 2],
        };
        let none = Explicit {
            count: 0,
            sum: Some(0.0),
            counts: vec![0, 0],
            ..explicit.clone()
        };
        assert_eq!(zero(Total::Explicit(none.clone())), None);
        assert_eq!(zero(Total::Explicit(explicit)), Some((6, Total::Explicit(none))));
        let (_, empty) = zero(Total::Native(Box::new(native(3, 0.5, &[(1, 2.0)])))).unwrap();
        let Total::Native(empty) = empty else {
            panic!("{empty:?}")
        };
        assert_eq!(
            (empty.schema, empty.zero_threshold, empty.count, empty.sum),
            (3, 0.5, 0.0, 0.0)
        );
        assert!(empty.positive.counts.is_empty() && empty.validate().is_ok());
    }

    #[test]
    fn streams_are_bounded_and_silent_ones_make_room() {
        let mut deltas = Deltas::default();
        for i in 0..STREAMS_MAX as u32 {
            deltas.add(&i.to_le_bytes(), when(1, 2), sum(1.0)).unwrap();
        }
        let late = |came| When { came, ..when(1, 2) };
        assert_eq!(deltas.add(b"new", late(3), sum(1.0)).unwrap_err(), NotAdded::Full);
        assert!(deltas.add(b"new", late(3 + SILENT_MS_MAX), sum(1.0)).is_ok());
        assert_eq!(deltas.len(), 1);
        let huge = Explicit {
            bounds: vec![0.0; BYTES_MAX / 8],
            ..Explicit::default()
        };
        let refused = deltas.add(b"huge", late(3 + SILENT_MS_MAX), Total::Explicit(huge));
        assert_eq!(refused.unwrap_err(), NotAdded::Full);
    }

    #[test]
    fn histograms_with_other_bounds_begin_anew() {
        let explicit = |bounds: &[f64], counts: &[u64]| {
            Total::Explicit(Explicit {
                count: counts.iter().sum(),
                sum: Some(1.0),
                bounds: bounds.to_vec(),
                counts: counts.to_vec(),
            })
        };
        let mut deltas = Deltas::default();
        deltas.add(b"k", when(1, 2), explicit(&[1.0], &[1, 2])).unwrap();
        let Added { total, start, .. } = deltas.add(b"k", when(2, 3), explicit(&[1.0], &[1, 1])).unwrap();
        let Total::Explicit(e) = total else { panic!("{total:?}") };
        assert_eq!((e.count, e.sum, &e.counts[..], start), (5, Some(2.0), &[2, 3][..], 1));
        let anew = explicit(&[2.0], &[1, 1]);
        let added = deltas.add(b"k", when(3, 4), anew.clone()).unwrap();
        assert_eq!((added.total, added.start), (&anew, 3));
    }

    fn native(schema: i32, threshold: f64, places: &[(i32, f64)]) -> Histogram {
        let positive = Buckets::from_indexed(places.iter().copied());
        Histogram {
            schema,
            zero_threshold: threshold,
            count: positive.total(),
            sum: 1.0,
            positive,
            ..Histogram::stale()
        }
    }

    #[test]
    fn native_histograms_meet_at_the_coarser_resolution() {
        let mut total = native(1, 1e-128, &[(0, 1.0), (2, 1.0), (9, 1.0)]);
        add_native(&mut total, native(0, 0.75, &[(0, 5.0), (1, 2.0)]));
        // 0.75 cuts bucket 0, which ends at 1: so does the zero bucket of both.
        assert_eq!((total.schema, total.zero_threshold, total.zero_count), (0, 1.0, 6.0));
        assert_eq!(total.positive.iter().collect::<Vec<_>>(), [(1, 3.0), (5, 1.0)]);
        assert_eq!((total.count, total.sum), (10.0, 2.0));
        let wide: Vec<(i32, f64)> = (0..2000).map(|i| (i, 1.0)).collect();
        let mut total = native(8, 1e-128, &wide);
        add_native(&mut total, native(8, 1e-128, &wide));
        assert!(total.positive.counts.len() <= BUCKETS_KEPT_MAX);
        assert_eq!(total.positive.total(), 4000.0);
    }

    proptest! {
        /// A total has all that was observed, whatever the resolutions.
        #[test]
        fn nothing_is_lost_by_adding(
            a in proptest::collection::btree_map(-300i32..300, 0u32..9, 0..20),
            b in proptest::collection::btree_map(-300i32..300, 0u32..9, 0..20),
            schemas in (-4i32..=8, -4i32..=8), thresholds in (0u32..40, 0u32..40),
        ) {
            let of = |m: std::collections::BTreeMap<i32, u32>, schema, threshold: u32| {
                let places: Vec<(i32, f64)> = m.into_iter().map(|(i, c)| (i, f64::from(c))).collect();
                native(schema, f64::from(threshold) * 0.1, &places)
            };
            let (mut total, more) = (of(a, schemas.0, thresholds.0), of(b, schemas.1, thresholds.1));
            let count = total.count + more.count;
            add_native(&mut total, more);
            prop_assert_eq!(total.count, count);
            prop_assert_eq!(total.positive.total() + total.zero_count, count);
            prop_assert_eq!(total.validate(), Ok(()));
        }
    }
}
