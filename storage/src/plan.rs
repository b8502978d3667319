//! Decisions over figures: what to cut, what to compact, what to expire. Neither clock nor disk: data in, data out.

use std::collections::BTreeMap;

use model::{BlockId, DAY_NS, Day, Signal, TimestampNs};
use storage_catalogue::BlockMeta;

/// What is known of a head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadFigures {
    /// Samples, entries or spans.
    pub items: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// Bytes of its WAL on disk: what a restart has to replay.
    pub wal_bytes: u64,
    /// Time since it was started, ns.
    pub age_ns: i64,
}

/// When to cut.
#[derive(Clone, Copy, Debug)]
pub struct CutPolicy {
    /// A head is cut at this age, ns.
    pub age_ns: i64,
    /// ... or at this size in memory.
    pub bytes: u64,
    /// ... or when its WAL is this long, so that replay stays short.
    pub wal_bytes: u64,
    /// ... or when it holds at least this much while memory in all is short.
    pub bytes_under_pressure: u64,
}

/// Whether to cut a head now; `pressure` is the share of the memory limit in use.
pub fn plan_cut(head: &HeadFigures, pressure: f64, policy: &CutPolicy) -> bool {
    head.items > 0
        && (head.age_ns >= policy.age_ns
            || head.bytes >= policy.bytes
            || head.wal_bytes >= policy.wal_bytes
            || (pressure > 0.7 && head.bytes >= policy.bytes_under_pressure))
}

/// When to compact.
#[derive(Clone, Copy, Debug)]
pub struct CompactionPolicy {
    /// This many blocks of one level and day are merged.
    pub fan_in: usize,
    /// A merged block is not planned to exceed this, bytes of its inputs.
    pub bytes_max: u64,
    /// Writing no more than this again costs nothing worth saving, bytes.
    pub bytes_small: u64,
    /// A day is over, and becomes one block, this long after its end, ns.
    pub settle_ns: i64,
}

/// The blocks of one signal that are worth merging, oldest day first; each job is of one day and rises by id.
pub fn plan_compaction(blocks: &[BlockMeta], now: TimestampNs, policy: &CompactionPolicy) -> Vec<Vec<BlockId>> {
    let mut days: BTreeMap<Day, Vec<&BlockMeta>> = BTreeMap::new();
    for block in blocks {
        days.entry(block.day).or_default().push(block);
    }
    let mut jobs = Vec::new();
    for (day, mut of_day) in days {
        of_day.sort_by_key(|b| b.id);
        let over = now.0 >= day.start_ns().0.saturating_add(DAY_NS).saturating_add(policy.settle_ns);
        if over {
            jobs.extend(fitting(of_day, policy).filter(|job| job.len() > 1 && is_worth(job, blocks, policy)));
            continue;
        }
        let mut levels: BTreeMap<u8, Vec<&BlockMeta>> = BTreeMap::new();
        for block in of_day {
            levels.entry(block.level).or_default().push(block);
        }
        jobs.extend(
            levels
                .into_values()
                .flat_map(|l| fitting(l, policy))
                .filter(|job| job.len() >= policy.fan_in),
        );
    }
    jobs
}

/// Whether a finished day's blocks shall become one now. Back-fill brings a small block with each cut, for each of the days
/// it touches; a large block is not written again for one of them, but when enough have come together.
fn is_worth(job: &[BlockId], blocks: &[BlockMeta], policy: &CompactionPolicy) -> bool {
    let sizes = blocks.iter().filter(|b| job.contains(&b.id)).map(|b| b.bytes);
    let (total, largest) = sizes.fold((0u64, 0u64), |(sum, max), bytes| {
        (sum.saturating_add(bytes), max.max(bytes))
    });
    let rest = total - largest;
    total <= policy.bytes_small || job.len() > 2 * policy.fan_in || rest >= largest / policy.fan_in.max(1) as u64
}

/// Runs of neighbours whose bytes stay within the policy's maximum.
fn fitting<'a>(blocks: Vec<&'a BlockMeta>, policy: &'a CompactionPolicy) -> impl Iterator<Item = Vec<BlockId>> + 'a {
    let mut jobs: Vec<Vec<BlockId>> = Vec::new();
    let mut bytes = 0u64;
    for block in blocks {
        if jobs.is_empty() || bytes.saturating_add(block.bytes) > policy.bytes_max {
            jobs.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(block.bytes);
        if let Some(job) = jobs.last_mut() {
            job.push(block.id);
        }
    }
    jobs.into_iter()
}

/// What to keep.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryPolicy {
    /// Age of metrics, ns.
    pub metrics_ns: i64,
    /// Age of logs, ns.
    pub logs_ns: i64,
    /// Age of traces, ns.
    pub traces_ns: i64,
    /// Bytes on disk in all.
    pub bytes_max: Option<u64>,
}

impl ExpiryPolicy {
    /// What ended before this is too old.
    pub fn horizon(&self, signal: Signal, now: TimestampNs) -> TimestampNs {
        let age = match signal {
            Signal::Metrics => self.metrics_ns,
            Signal::Logs => self.logs_ns,
            Signal::Traces => self.traces_ns,
        };
        TimestampNs(now.0.saturating_sub(age))
    }
}

/// The blocks to retire: those that ended before their signal's horizon, then, while the rest and the `other_bytes` (WAL,
/// catalogue) exceed the size limit, the oldest day of all signals together.
pub fn plan_expiry(blocks: &[BlockMeta], other_bytes: u64, now: TimestampNs, policy: &ExpiryPolicy) -> Vec<BlockId> {
    let (old, mut kept): (Vec<&BlockMeta>, Vec<&BlockMeta>) =
        blocks.iter().partition(|b| b.max < policy.horizon(b.signal, now));
    let mut out: Vec<BlockId> = old.into_iter().map(|b| b.id).collect();
    if let Some(limit) = policy.bytes_max {
        kept.sort_by_key(|b| (b.day, b.id));
        let mut total = kept.iter().fold(other_bytes, |sum, b| sum.saturating_add(b.bytes));
        let mut rest = kept.as_slice();
        while let (true, Some(first)) = (total > limit, rest.first()) {
            let day = first.day;
            let of_day = rest.iter().take_while(|b| b.day == day).count();
            for block in &rest[..of_day] {
                out.push(block.id);
                total -= block.bytes;
            }
            rest = &rest[of_day..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn block(id: u64, signal: Signal, day: i32, level: u8, bytes: u64) -> BlockMeta {
        let start = Day(day).start_ns().0;
        BlockMeta {
            id: BlockId(id),
            signal,
            day: Day(day),
            min: TimestampNs(start),
            max: TimestampNs(start + DAY_NS - 1),
            level,
            items: 1,
            keys: 1,
            bytes,
            replaces: Vec::new(),
        }
    }

    #[test]
    fn a_head_is_cut_by_age_size_wal_or_pressure_but_never_when_empty() {
        let policy = CutPolicy {
            age_ns: 2 * HOUR,
            bytes: 100,
            wal_bytes: 50,
            bytes_under_pressure: 10,
        };
        let head = HeadFigures {
            items: 1,
            bytes: 10,
            wal_bytes: 1,
            age_ns: HOUR,
        };
        for (figures, pressure, cut) in [
            (head, 0.1, false),
            (
                HeadFigures {
                    age_ns: 2 * HOUR,
                    ..head
                },
                0.1,
                true,
            ),
            (HeadFigures { bytes: 100, ..head }, 0.1, true),
            (HeadFigures { wal_bytes: 50, ..head }, 0.1, true),
            (head, 0.8, true),
            (HeadFigures { bytes: 9, ..head }, 0.8, false),
            (
                HeadFigures {
                    items: 0,
                    age_ns: 9 * HOUR,
                    ..head
                },
                0.9,
                false,
            ),
        ] {
            assert_eq!(plan_cut(&figures, pressure, &policy), cut, "{figures:?} at {pressure}");
        }
    }

    #[test]
    fn small_blocks_of_one_level_merge_and_a_finished_day_becomes_one_block() {
        let policy = CompactionPolicy {
            fan_in: 3,
            bytes_max: 1000,
            bytes_small: 10,
            settle_ns: 2 * HOUR,
        };
        let m = Signal::Metrics;
        let today = [
            block(1, m, 10, 0, 1),
            block(2, m, 10, 0, 1),
            block(3, m, 10, 1, 1),
            block(4, m, 10, 0, 1),
        ];
        let noon = TimestampNs(Day(10).start_ns().0 + 12 * HOUR);
        assert_eq!(
            plan_compaction(&today, noon, &policy),
            [vec![BlockId(1), BlockId(2), BlockId(4)]]
        );
        assert!(plan_compaction(&today[..3], noon, &policy).is_empty());
        let tomorrow = TimestampNs(Day(11).start_ns().0 + 3 * HOUR);
        assert_eq!(
            plan_compaction(&today[..3], tomorrow, &policy),
            [vec![BlockId(1), BlockId(2), BlockId(3)]]
        );
        assert!(plan_compaction(&today[..1], tomorrow, &policy).is_empty());
        let late = |n: u64| -> Vec<BlockMeta> {
            let small = (2..2 + n).map(|id| block(id, m, 10, 0, 20));
            std::iter::once(block(1, m, 10, 1, 300)).chain(small).collect()
        };
        assert!(
            plan_compaction(&late(1), tomorrow, &policy).is_empty(),
            "one late block waits"
        );
        assert_eq!(
            plan_compaction(&late(5), tomorrow, &policy)[0].len(),
            6,
            "a third of the large one has come"
        );
        let tiny: Vec<BlockMeta> = (1..8)
            .map(|id| block(id, m, 10, 0, if id == 1 { 900 } else { 1 }))
            .collect();
        assert_eq!(
            plan_compaction(&tiny, tomorrow, &policy)[0].len(),
            7,
            "many files are slow to read"
        );
        let large = [block(1, m, 10, 0, 900), block(2, m, 10, 0, 200)];
        assert!(plan_compaction(&large, tomorrow, &policy).is_empty());
    }

    #[test]
    fn age_goes_first_then_the_oldest_day_of_all_signals() {
        let ns = |days: i64| days * DAY_NS;
        let mut policy = ExpiryPolicy {
            metrics_ns: ns(15),
            logs_ns: ns(7),
            traces_ns: ns(2),
            bytes_max: None,
        };
        let blocks = [
            block(1, Signal::Metrics, 90, 0, 10),
            block(2, Signal::Logs, 90, 0, 10),
            block(3, Signal::Traces, 99, 0, 10),
            block(4, Signal::Metrics, 99, 0, 10),
        ];
        let now = Day(100).start_ns();
        assert_eq!(plan_expiry(&blocks, 1000, now, &policy), [BlockId(2)]);
        policy.bytes_max = Some(30);
        assert_eq!(plan_expiry(&blocks, 0, now, &policy), [BlockId(2)]);
        assert_eq!(plan_expiry(&blocks, 1, now, &policy), [BlockId(2), BlockId(1)]);
        policy.bytes_max = Some(20);
        assert_eq!(plan_expiry(&blocks, 0, now, &policy), [BlockId(2), BlockId(1)]);
        policy.bytes_max = Some(5);
        assert_eq!(plan_expiry(&blocks, 0, now, &policy).len(), 4);
    }
}
