//! The life cycle: [`Storage::tick`] asks the plans and lets the engines do what they say. The server calls it on a
//! timer from a thread of its own; a test calls it with invented days and lives through a week in a second.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use model::{BlockId, Signal, TimeRangeNs, TimestampMs, TimestampNs};
use storage_catalogue::{BlockMeta, BlockRef};

use crate::Storage;
use crate::plan::{CompactionPolicy, CutPolicy, ExpiryPolicy, HeadFigures, plan_compaction, plan_cut, plan_expiry};

const HOUR_NS: i64 = 3_600_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// How often compaction and retention are considered, ns; cuts are considered on every tick.
const SLOW_TICK_NS: i64 = 10 * MINUTE_NS;

/// A cut that failed is tried again after this long, ns: a disk that is full or failing is not written to without pause.
const CUT_AGAIN_NS: i64 = 5_000_000_000;

/// A WAL longer than this is cut, so that replay after a crash stays well below two seconds.
const WAL_BYTES_MAX: u64 = 96 << 20;

/// The same for metrics, whose WAL has two bytes for a sample: a replay reads six million samples a second.
const METRICS_WAL_BYTES_MAX: u64 = 16 << 20;

/// A head larger than this is cut, whatever the memory limit allows.
const HEAD_BYTES_MAX: u64 = 256 << 20;

/// Heads smaller than this are not worth cutting even when memory is short.
const HEAD_BYTES_MIN: u64 = 4 << 20;

const COMPACTION: CompactionPolicy = CompactionPolicy {
    fan_in: 4,
    bytes_max: 1 << 30,
    bytes_small: 8 << 20,
    settle_ns: 2 * HOUR_NS,
};

/// What a tick did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Blocks cut from heads.
    pub cut: Vec<BlockId>,
    /// Blocks made by compaction.
    pub compacted: Vec<BlockId>,
    /// Blocks retired.
    pub expired: Vec<BlockId>,
}

/// A step of the life cycle that failed; the next tick tries again.
#[derive(Debug, thiserror::Error)]
#[error("{step} of {signal}: {message}", signal = .signal.as_str())]
pub struct TickError {
    /// `cut`, `compaction`, `deletion`, `retention`.
    pub step: &'static str,
    /// Whose.
    pub signal: Signal,
    /// The engine's words.
    pub message: String,
}

/// When each head was started, and which cuts failed when.
#[derive(Debug)]
pub(crate) struct Life {
    head_since: [TimestampNs; 3],
    cut_failed: [Option<TimestampNs>; 3],
}

impl Life {
    pub(crate) fn begin(now: TimestampNs) -> Life {
        Life {
            head_since: [now; 3],
            cut_failed: [None; 3],
        }
    }
}

impl Storage {
    /// Lets time pass: [`Storage::tick_heads`], then [`Storage::tick_blocks`].
    pub fn tick(&self, now: TimestampNs) -> (Ticked, Vec<TickError>) {
        let (mut done, mut errors) = self.tick_heads(now);
        let (of_blocks, more) = self.tick_blocks(now);
        done.compacted = of_blocks.compacted;
        done.expired = of_blocks.expired;
        errors.extend(more);
        (done, errors)
    }

    /// Looks at the disk and cuts heads that are due. Blocks the thread while it works; one step failing does not keep
    /// the others from running.
    pub fn tick_heads(&self, now: TimestampNs) -> (Ticked, Vec<TickError>) {
        let mut life = self.life.lock();
        let (mut done, mut errors) = (Ticked::default(), Vec::new());
        self.look_at_disk();
        self.logs.let_pass(now);
        for signal in Signal::ALL {
            let since = &mut life.head_since[signal as usize];
            let head = self.head_figures(signal, now.0.saturating_sub(since.0));
            let wal_failed = self.wal_failed[signal as usize].load(Ordering::Relaxed);
            let due = wal_failed || plan_cut(&head, self.budget.pressure(), &self.cut_policy(signal));
            if head.items == 0 && !wal_failed {
                *since = now;
            } else if due && has_passed(life.cut_failed[signal as usize], now, CUT_AGAIN_NS) {
                // Cleared before the cut: an append that fails meanwhile shall bring the next one.
                self.wal_failed[signal as usize].store(false, Ordering::Relaxed);
                match self.cut(signal) {
                    Ok(blocks) => {
                        life.head_since[signal as usize] = now;
                        life.cut_failed[signal as usize] = None;
                        done.cut.extend(blocks);
                    }
                    Err(message) => {
                        self.wal_failed[signal as usize].fetch_or(wal_failed, Ordering::Relaxed);
                        life.cut_failed[signal as usize] = Some(now);
                        errors.push(TickError {
                            step: "cut",
                            signal,
                            message,
                        });
                    }
                }
            }
        }
        (done, errors)
    }

    /// Every ten minutes compacts and expires. Blocks the thread while it works, for a minute if blocks are large: heads are
    /// better looked after by another thread meanwhile.
    pub fn tick_blocks(&self, now: TimestampNs) -> (Ticked, Vec<TickError>) {
        let mut since = self.blocks_since.lock();
        let (mut done, mut errors) = (Ticked::default(), Vec::new());
        let slow = has_passed(*since, now, SLOW_TICK_NS);
        // The reserve is for cuts: writing blocks again needs room for both the old and the new.
        let has_room = !self.disk_full.load(Ordering::Relaxed);
        if slow {
            *since = Some(now);
            self.expire(now, &mut done, &mut errors);
            if has_room {
                self.compact(now, &mut done, &mut errors);
            }
        }
        if has_room && (slow || self.logs.deletes_due(now)) {
            self.remove(now, slow, &mut done, &mut errors);
        }
        (done, errors)
    }

    /// Cuts all three heads and returns when their blocks are in the catalogue. Blocks the thread.
    pub fn flush(&self) -> Result<Vec<BlockId>, TickError> {
        let mut life = self.life.lock();
        let mut blocks = Vec::new();
        for signal in Signal::ALL {
            blocks.extend(self.cut(signal).map_err(|message| TickError {
                step: "cut",
                signal,
                message,
            })?);
            life.head_since[signal as usize] = self.now();
        }
        Ok(blocks)
    }

    /// Syncs what is in the WALs, for a clean stop.
    pub fn sync(&self) -> Result<(), TickError> {
        let failed = |signal, e: String| TickError {
            step: "sync",
            signal,
            message: e,
        };
        self.metrics
            .sync()
            .map_err(|e| failed(Signal::Metrics, e.to_string()))?;
        self.logs.sync().map_err(|e| failed(Signal::Logs, e.to_string()))?;
        self.traces.sync().map_err(|e| failed(Signal::Traces, e.to_string()))
    }

    fn cut(&self, signal: Signal) -> Result<Vec<BlockId>, String> {
        contained(|| match signal {
            Signal::Metrics => self.metrics.cut().map_err(|e| e.to_string()),
            Signal::Logs => self.logs.cut().map_err(|e| e.to_string()),
            Signal::Traces => self.traces.cut().map_err(|e| e.to_string()),
        })
    }

    fn compact(&self, now: TimestampNs, done: &mut Ticked, errors: &mut Vec<TickError>) {
        for signal in Signal::ALL {
            let blocks = self.catalogue.blocks(signal, TimeRangeNs::ALL);
            let metas: Vec<BlockMeta> = blocks.iter().map(|b| b.meta().clone()).collect();
            for job in plan_compaction(&metas, now, &COMPACTION) {
                let inputs: Vec<BlockRef> = blocks.iter().filter(|b| job.contains(&b.meta().id)).cloned().collect();
                let result = contained(|| match signal {
                    Signal::Metrics => self.metrics.compact(&inputs).map_err(|e| e.to_string()),
                    Signal::Logs => self.logs.compact(&inputs).map_err(|e| e.to_string()),
                    Signal::Traces => self.traces.compact(&inputs).map(Some).map_err(|e| e.to_string()),
                });
                match result {
                    Ok(Some(block)) => {
                        tracing::info!(signal = signal.as_str(), inputs = inputs.len(), block = %block, "compacted");
                        done.compacted.push(block);
                    }
                    Ok(None) => {}
                    Err(message) => errors.push(TickError {
                        step: "compaction",
                        signal,
                        message,
                    }),
                }
            }
        }
    }

    /// Takes out of the log blocks what was deleted, or is too old for its stream.
    fn remove(&self, now: TimestampNs, expired: bool, done: &mut Ticked, errors: &mut Vec<TickError>) {
        match contained(|| self.logs.remove(now, expired).map_err(|e| e.to_string())) {
            Ok(blocks) => {
                if !blocks.is_empty() {
                    tracing::info!(
                        blocks = blocks.len(),
                        "log blocks written again without what is deleted or too old"
                    );
                }
                done.compacted.extend(blocks);
            }
            Err(message) => errors.push(TickError {
                step: "deletion",
                signal: Signal::Logs,
                message,
            }),
        }
    }

    fn expire(&self, now: TimestampNs, done: &mut Ticked, errors: &mut Vec<TickError>) {
        let metas: Vec<BlockMeta> = Signal::ALL
            .iter()
            .flat_map(|s| self.catalogue.blocks(*s, TimeRangeNs::ALL))
            .map(|b| b.meta().clone())
            .collect();
        let policy = self.expiry_policy();
        let old = plan_expiry(&metas, self.other_bytes(), now, &policy);
        if !old.is_empty() {
            match self.catalogue.retire(&old) {
                Ok(()) => {
                    tracing::info!(blocks = old.len(), "expired");
                    done.expired = old;
                }
                Err(e) => {
                    errors.push(TickError {
                        step: "retention",
                        signal: Signal::Metrics,
                        message: e.to_string(),
                    });
                    return;
                }
            }
        }
        for signal in Signal::ALL {
            let before = policy.horizon(signal, now);
            let result = contained(|| match signal {
                Signal::Metrics => self.metrics.expire(before.floor_ms()).map_err(|e| e.to_string()),
                Signal::Logs => self.logs.expire(before).map_err(|e| e.to_string()),
                Signal::Traces => self.traces.expire(before).map_err(|e| e.to_string()),
            });
            if let Err(message) = result {
                errors.push(TickError {
                    step: "retention",
                    signal,
                    message,
                });
            }
        }
    }

    fn head_figures(&self, signal: Signal, age_ns: i64) -> HeadFigures {
        let (items, bytes, wal) = match signal {
            Signal::Metrics => {
                let s = self.metrics.stats();
                (s.head_samples, s.head_bytes, s.wal)
            }
            Signal::Logs => {
                let s = self.logs.stats();
                (s.head_entries, s.head_bytes, s.wal)
            }
            Signal::Traces => {
                let s = self.traces.stats();
                (s.head_spans, s.head_bytes, s.wal)
            }
        };
        HeadFigures {
            items,
            bytes,
            wal_bytes: wal.disk_bytes,
            age_ns,
        }
    }

    fn cut_policy(&self, signal: Signal) -> CutPolicy {
        CutPolicy {
            age_ns: match signal {
                Signal::Metrics => 2 * HOUR_NS,
                Signal::Logs => HOUR_NS,
                Signal::Traces => 30 * MINUTE_NS,
            },
            bytes: (self.budget.limit() / 6).min(HEAD_BYTES_MAX),
            wal_bytes: match signal {
                Signal::Metrics => METRICS_WAL_BYTES_MAX,
                Signal::Logs | Signal::Traces => WAL_BYTES_MAX,
            },
            bytes_under_pressure: HEAD_BYTES_MIN,
        }
    }

    /// Bytes on disk that are in no block: WALs and the catalogue.
    fn other_bytes(&self) -> u64 {
        if self.options.retention_size.is_none() {
            return 0;
        }
        let wals = [
            self.metrics.stats().wal.disk_bytes,
            self.logs.stats().wal.disk_bytes,
            self.traces.stats().wal.disk_bytes,
        ];
        wals.iter().sum::<u64>() + self.catalogue.disk_bytes()
    }

    fn expiry_policy(&self) -> ExpiryPolicy {
        ExpiryPolicy {
            metrics_ns: TimestampMs(self.options.retention_metrics_ms).to_ns().0,
            logs_ns: self.logs.keeps_at_most(),
            traces_ns: self.options.retention_traces_ns,
            bytes_max: self.options.retention_size,
        }
    }
}

/// Whether `ns` have passed since `since`, if there was one. A clock that was set back does not make anybody wait.
fn has_passed(since: Option<TimestampNs>, now: TimestampNs, ns: i64) -> bool {
    since.is_none_or(|t| now.0.saturating_sub(t.0) >= ns || now < t)
}

/// A panic in one step, say of a file library on a damaged block, is that step's error: the thread that lets time pass
/// lives on, and with it the other signals.
fn contained<T>(step: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|_| Err("it panicked; the log above says where, please report it".to_owned()))
}
