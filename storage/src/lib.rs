//! The face of the room: opens the three engines over one directory, guards disk and memory, and lets time pass.
//!
//! ```text
//! append(batch) -> WAL -> head -> (cut) -> block -> (compact) -> block -> (expire) gone
//! ```
//!
//! What to cut, compact and expire is decided by pure functions over figures ([`plan_cut`], [`plan_compaction`],
//! [`plan_expiry`]); the engines do it; [`Storage::tick`] drives both. Nothing here reads a clock: it is handed in.
//!
//! Start reading at `life.rs` for the life cycle, at `guard.rs` for what is refused and when.

mod guard;
mod kept;
mod life;
mod open;
mod plan;
mod snapshot;

pub use guard::AppendError;
pub use kept::KeptError;
pub use life::{TickError, Ticked};
pub use open::{Clock, OpenError, OpenReport, Options, Storage, StorageStats};
pub use plan::{CompactionPolicy, CutPolicy, ExpiryPolicy, HeadFigures, plan_compaction, plan_cut, plan_expiry};
pub use snapshot::SnapshotError;
pub use storage_budget::{Budget, OverBudget, Reservation};
pub use storage_catalogue::BlockMeta;
pub use storage_logs::{DeleteLanguage, KeepStreams, LogPolicy, Logs};
pub use storage_metrics::Metrics;
pub use storage_traces::{PackedSpans, Traces};
pub use storage_wal::{Lsn, Stats as WalStats, SyncMode};
