//! How much there is of each stream, and when: answered from what is known of chunks without opening them.
//!
//! Where a chunk does not lie within one step of the question, the times of its entries are read, but no lines: entries
//! are counted exactly, and have the chunk's average size. Beyond [`OPENED_MAX`] such chunks it is estimated by share of
//! time.

use model::{LabelSet, Matcher, TimeRangeNs};

use crate::BlockError;
use crate::entries::{Columns, Entries};
use crate::needle_filter::Question;
use crate::scan::{Chunk, Gathered, Snapshot, Source, make_runs};

/// Chunks that one question opens to count their entries.
const OPENED_MAX: usize = 2_000;
const TIMES: Columns<'static> = Columns {
    lines: false,
    metadata: Some(&[]),
};

/// How much of a stream lies in a range.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// The stream.
    pub labels: LabelSet,
    /// Chunks touched.
    pub chunks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes of lines and metadata.
    pub bytes: u64,
    /// The same by step: number of the step from the range's start, and bytes; rising, without empty steps.
    pub steps: Vec<(u64, u64)>,
}

impl Snapshot {
    /// How much there is, by stream, without opening lines.
    pub fn volumes(&self, matchers: &[Matcher], range: TimeRangeNs) -> Result<Vec<Volume>, BlockError> {
        self.volumes_by_step(matchers, range, i64::MAX, &mut || true)
    }

    /// How much there is, by stream and by steps of `step` ns (at least 1). `go_on` is asked for each stream; the rest is
    /// left out when it says no.
    pub fn volumes_by_step(
        &self,
        matchers: &[Matcher],
        range: TimeRangeNs,
        step: i64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Volume>, BlockError> {
        let Some((clipped, min, max)) = self.clip(range) else {
            return Ok(Vec::new());
        };
        let ids = self.shared.labels.postings(clipped.days(), matchers)?;
        let Gathered { streams, labels } = self.gather(&ids, clipped, &Question::default())?;
        let mut volumes = Vec::new();
        let mut entries = Entries::default();
        let mut opened = 0;
        for (id, mut chunks) in streams {
            if !go_on() {
                break;
            }
            let Some(labels) = labels.get(&id) else { continue };
            let mask = self.mask_of(labels, &mut chunks);
            let mut sum = Sum {
                start: range.start.0,
                step: step.max(1),
                min: mask.from.map_or(min, |from| from.max(min)),
                max,
                entries: 0,
                steps: Vec::new(),
            };
            let touched = chunks.len() as u64;
            let (deleted_from, rest): (Vec<Chunk>, Vec<Chunk>) = chunks
                .into_iter()
                .partition(|c| mask.deletes_touch(c.min.max(sum.min), c.max.min(sum.max)));
            for chunk in &rest {
                if sum.add_whole(chunk) {
                    continue;
                }
                if let Source::Open(open) = &chunk.source {
                    for (i, &t) in open.times.iter().enumerate() {
                        sum.add(t, 1, (open.line_at(i).len() + open.metadata_bytes(i)) as u64);
                    }
                } else if opened < OPENED_MAX {
                    opened += 1;
                    self.read_times(chunk, &mut entries)?;
                    let size = chunk.raw_bytes as f64 / chunk.entries.max(1) as f64;
                    for i in 0..entries.len() {
                        let bytes = (size * (i + 1) as f64) as u64 - (size * i as f64) as u64;
                        sum.add(entries.t(i).0, 1, bytes);
                    }
                } else {
                    sum.estimate(chunk);
                }
            }
            for run in make_runs(&self.shared, labels, &deleted_from, sum.min, sum.max, &mask) {
                run.read(&mut entries)?;
                for i in 0..entries.len() {
                    let metadata: usize = entries.metadata(i).map(|(n, v)| n.len() + v.len()).sum();
                    sum.add(entries.t(i).0, 1, (entries.line(i).len() + metadata) as u64);
                }
            }
            volumes.extend(sum.volume(labels, touched));
        }
        Ok(volumes)
    }

    fn read_times(&self, chunk: &Chunk, out: &mut Entries) -> Result<(), BlockError> {
        out.clear();
        if let Err(error) = chunk.expand(TIMES, None, out) {
            out.clear();
            self.shared.skip_damage(error, 1)?;
        }
        Ok(())
    }
}

/// What one stream adds up to.
struct Sum {
    start: i64,
    step: i64,
    min: i64,
    max: i64,
    entries: u64,
    /// Number of a step and bytes, in the order of arrival.
    steps: Vec<(u64, u64)>,
}

impl Sum {
    fn step_of(&self, t: i64) -> u64 {
        t.abs_diff(self.start) / self.step.unsigned_abs()
    }

    fn add(&mut self, t: i64, entries: u64, bytes: u64) {
        if !(self.min..=self.max).contains(&t) {
            return;
        }
        let step = self.step_of(t);
        self.entries += entries;
        match self.steps.last_mut() {
            Some((last, sum)) if *last == step => *sum += bytes,
            _ => self.steps.push((step, bytes)),
        }
    }

    /// Adds all of a chunk, if it lies within one step.
    fn add_whole(&mut self, chunk: &Chunk) -> bool {
        let inside = self.min <= chunk.min && chunk.max <= self.max;
        let whole = inside && self.step_of(chunk.min) == self.step_of(chunk.max);
        // What is open has no sums; its strings are counted once.
        let closed = !matches!(chunk.source, Source::Open(_));
        if whole && closed {
            self.add(chunk.min, chunk.entries, chunk.raw_bytes);
        }
        whole && closed
    }

    /// Adds a chunk as if its entries lay evenly in its time.
    fn estimate(&mut self, chunk: &Chunk) {
        let length = chunk.max.abs_diff(chunk.min) as f64 + 1.0;
        let mut from = chunk.min.max(self.min);
        let last = chunk.max.min(self.max);
        while from <= last {
            let next = i128::from(self.start) + (i128::from(self.step_of(from)) + 1) * i128::from(self.step);
            let to = i64::try_from(next - 1).unwrap_or(i64::MAX).min(last);
            let share = (to.abs_diff(from) as f64 + 1.0) / length;
            let of = |n: u64| (n as f64 * share).ceil() as u64;
            self.add(from, of(chunk.entries), of(chunk.raw_bytes));
            let Some(after) = to.checked_add(1) else { break };
            from = after;
        }
    }

    fn volume(mut self, labels: &LabelSet, chunks: u64) -> Option<Volume> {
        self.steps.sort_unstable_by_key(|s| s.0);
        self.steps.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        (self.entries > 0).then(|| Volume {
            labels: labels.clone(),
            chunks,
            entries: self.entries,
            bytes: self.steps.iter().map(|s| s.1).sum(),
            steps: self.steps,
        })
    }
}
