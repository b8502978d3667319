//! The logs engine: log lines in, log lines out. Label-indexed, compressed chunks.
//!
//! A batch becomes durable in the WAL, then joins its streams' open chunks in the *head*. [`Logs::cut`] freezes the head
//! into *blocks*, one per UTC day: chunks in columns, many to a file, each with a needle filter. Late lines land in a
//! later block; [`Logs::compact`] joins blocks of one day. What is deleted, or older than its stream is kept, is hidden at
//! once and taken out of the blocks later ([`Logs::remove`]). A reader holds a [`Snapshot`] and never makes an append wait.
//!
//! Not here: LogQL (`query-logql`), push protocols (`ingest`), when to cut (`storage::tick`).

mod block;
mod chunk;
mod compact;
mod engine;
mod entries;
#[cfg(test)]
mod golden;
mod head;
mod id_table;
mod ids;
mod masks;
mod needle_filter;
mod needle_search;
mod record;
mod scan;
mod tail;
mod tombstones;
mod volumes;

use std::path::PathBuf;

use model::{LabelSet, TimestampNs};
use storage_budget::Budget;
use storage_catalogue::Catalogue;
use storage_disk::Disk;

pub use engine::Logs;
pub use entries::{Columns, Entries};
pub use masks::{KeepStreams, LogPolicy};
pub use scan::{Needles, Run, Snapshot, Tally};
pub use tail::Subscription;
pub use tombstones::{
    DELETES_PENDING_MAX, DeleteError, DeleteLanguage, DeleteRequest, DeleteState, EntryFilter, Meant,
};
pub use volumes::Volume;

/// What an engine is built from.
pub struct Parts {
    /// Where to write.
    pub disk: Disk,
    /// Which blocks and label sets exist.
    pub catalogue: Catalogue,
    /// Memory accounting.
    pub budget: Budget,
    /// The engine's own directory (its WAL lies in `wal/` below).
    pub dir: PathBuf,
    /// How the WAL runs.
    pub wal: storage_wal::Options,
}

/// How the engine behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries older than this before now are refused; also what `expire` is called with.
    pub retention_ns: i64,
    /// Entries further than this ahead of now are refused (10 minutes).
    pub ahead_ns: i64,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Entries stored.
    pub stored: u64,
    /// Entries that were there already: same stream, time, line and metadata.
    pub duplicates: u64,
    /// Entries older than retention.
    pub too_old: u64,
    /// Entries too far in the future.
    pub too_new: u64,
    /// The refused entries (stream labels, time, whether too new): at most 10, for the client's message.
    pub refused: Vec<(LabelSet, TimestampNs, bool)>,
}

/// Why a batch was not stored at all.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log could not take it.
    #[error(transparent)]
    Wal(#[from] storage_wal::WalError),
    /// The label index could not take it.
    #[error(transparent)]
    Catalogue(#[from] storage_catalogue::CatalogueError),
    /// No memory left for it.
    #[error(transparent)]
    OverBudget(#[from] storage_budget::OverBudget),
}

/// Why blocks could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// No block file of ours.
    #[error("{path}: no chunk file (starts with {found:02x?})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: [u8; 4],
    },
    /// A newer format.
    #[error(
        "{path}: format version {found}, this build reads up to {newest}; start the newer trilobite, or restore a backup"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        newest: u8,
    },
    /// Damage.
    #[error("{path}: damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What.
        what: String,
    },
    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The catalogue said no.
    #[error(transparent)]
    Catalogue(#[from] storage_catalogue::CatalogueError),
    /// The log said no.
    #[error(transparent)]
    Wal(#[from] storage_wal::WalError),
}

/// Figures for the self-metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Streams in the head.
    pub head_streams: u64,
    /// Entries in the head.
    pub head_entries: u64,
    /// Bytes of memory of the head.
    pub head_bytes: u64,
    /// Time of the head's first entry, if it has one.
    pub head_min: Option<TimestampNs>,
    /// Time of the head's last entry.
    pub head_max: Option<TimestampNs>,
    /// Entries stored since start.
    pub appended: u64,
    /// Bytes of lines and metadata stored since start.
    pub appended_bytes: u64,
    /// Blocks on disk.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// The log's counters.
    pub wal: storage_wal::Stats,
    /// Chunks that failed their checksum since start.
    pub corrupt_chunks: u64,
    /// Cuts done since start.
    pub cuts: u64,
    /// Compactions done since start.
    pub compactions: u64,
    /// Blocks that compaction leaves alone because some of it is damaged.
    pub damaged_blocks: u64,
    /// Delete requests that wait to be carried out.
    pub deletes_pending: u64,
}
