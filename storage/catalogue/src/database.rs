//! The RocksDB behind the catalogue: families, options, and the few operations the rest of the crate uses.
//!
//! It runs without a WAL of its own: what is written is visible at once and durable after [`Database::flush`], which
//! writes all families atomically. A process that dies loses what was not flushed; blocks and WAL bring it back.
//! Memory is bounded: one small block cache (index and filter blocks included) and a cap on all write buffers.
//!
//! # Families
//!
//! | family | key | value |
//! |---|---|---|
//! | `blocks` | `version` | [`FORMAT`], written last when the database is complete |
//! | | `next_block` | next block id, u64 big-endian |
//! | | `next_id` · kind u8 | the id the next new label set gets, u64 big-endian |
//! | | `checkpoint` · signal u8 | WAL place, u64 big-endian |
//! | | `b` · signal u8 · block id u64 big-endian | as in the `meta` file |
//! | `<kind>_labels` | id u32 big-endian | encoded label set |
//! | `<kind>_hash` | label hash u64 big-endian | id list: label sets with that hash |
//! | `<kind>_post` | see `post_key` | id list |

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    ErrorKind, FlushOptions, InfoLogger, LogLevel, LruCacheOptions, MergeOperands, Options, ReadOptions, WriteBatch,
    WriteBufferManager, WriteOptions,
};
use storage_disk::Disk;

use crate::error::CatalogueError;
use crate::id_list;
use crate::label_index::IndexKind;

/// Version of everything in the database; another one means rebuild.
pub(crate) const FORMAT: &[u8] = b"1";

const CACHE_BYTES: usize = 16 << 20;
const WRITE_BUFFERS_BYTES_MAX: usize = 16 << 20;
const POST_BUFFER_BYTES: usize = 8 << 20;
const OTHER_BUFFER_BYTES: usize = 4 << 20;
/// Memtables grow in steps of this size. From 128 KiB on the allocator maps them apart and gives them back after a flush;
/// what is not touched is not resident.
const ARENA_BYTES: usize = 256 << 10;
const OPEN_FILES_MAX: i32 = 64;

/// A key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Blocks, checkpoints, the format.
    Blocks,
    /// Id to label set.
    Labels(IndexKind),
    /// Label hash to ids.
    Hash(IndexKind),
    /// Postings by day.
    Post(IndexKind),
}

impl Family {
    const ALL: [Family; 7] = [
        Family::Blocks,
        Family::Labels(IndexKind::Series),
        Family::Hash(IndexKind::Series),
        Family::Post(IndexKind::Series),
        Family::Labels(IndexKind::Streams),
        Family::Hash(IndexKind::Streams),
        Family::Post(IndexKind::Streams),
    ];

    fn name(self) -> &'static str {
        match self {
            Family::Blocks => "blocks",
            Family::Labels(IndexKind::Series) => "series_labels",
            Family::Hash(IndexKind::Series) => "series_hash",
            Family::Post(IndexKind::Series) => "series_post",
            Family::Labels(IndexKind::Streams) => "streams_labels",
            Family::Hash(IndexKind::Streams) => "streams_hash",
            Family::Post(IndexKind::Streams) => "streams_post",
        }
    }
}

/// Why the database did not open.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// It is broken; a new one can be built from the blocks.
    Damaged(String),
    /// Something else is wrong (locked, no permission, no space): a new one would not help.
    Refused(String),
}

/// An open database.
pub(crate) struct Database {
    db: DB,
    path: PathBuf,
    write_options: WriteOptions,
    /// Whether something was written since the last flush began.
    dirty: AtomicBool,
    /// Held during a flush, so that whoever finds nothing to flush knows that it is durable, not just on its way.
    flushing: Mutex<()>,
    is_marked: AtomicBool,
}

impl Database {
    /// Opens the database in `path`, or creates an empty one.
    pub(crate) fn open(path: &Path) -> Result<Database, OpenFailure> {
        let cache = {
            let mut options = LruCacheOptions::default();
            options.set_capacity(CACHE_BYTES);
            // Few shards: a cache this small cut in 64 pieces cannot hold one filter block per piece.
            options.set_num_shard_bits(1);
            Cache::new_lru_cache_opts(&options)
        };
        let options = db_options().map_err(|e| OpenFailure::Refused(e.to_string()))?;
        let families = std::iter::once(ColumnFamilyDescriptor::new("default", family_options(None, &cache))).chain(
            Family::ALL
                .iter()
                .map(|f| ColumnFamilyDescriptor::new(f.name(), family_options(Some(*f), &cache))),
        );
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|e| {
            let message = e.to_string();
            match e.kind() {
                ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::NotSupported => {
                    OpenFailure::Damaged(message)
                }
                ErrorKind::IOError if message.contains("No such file") => OpenFailure::Damaged(message),
                _ => OpenFailure::Refused(message),
            }
        })?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Database {
            db,
            path: path.to_owned(),
            write_options,
            dirty: AtomicBool::new(false),
            flushing: Mutex::new(()),
            is_marked: AtomicBool::new(false),
        })
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One value.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, CatalogueError> {
        self.db
            .get_pinned_cf(&self.family(family)?, key)
            .map_err(|e| self.failed(&e))
    }

    /// Calls `each` with the pairs of `[from, to)`, rising, until it breaks.
    pub(crate) fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, CatalogueError>,
    ) -> Result<(), CatalogueError> {
        let mut cursor = self.cursor(family, from, to)?;
        cursor.seek(from)?;
        while let Some((key, value)) = cursor.item() {
            if each(key, value)?.is_break() {
                break;
            }
            cursor.next()?;
        }
        Ok(())
    }

    /// A cursor over `[from, to)`, not yet placed.
    pub(crate) fn cursor(&self, family: Family, from: &[u8], to: &[u8]) -> Result<Cursor<'_>, CatalogueError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        Ok(Cursor {
            inner: self.db.raw_iterator_cf_opt(&self.family(family)?, options),
            database: self,
        })
    }

    /// An empty batch.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            inner: WriteBatch::default(),
            database: self,
        }
    }

    /// Makes all that was written durable, all families at one point.
    pub(crate) fn flush(&self) -> Result<(), CatalogueError> {
        let _flushing = self.flushing.lock();
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let flushed = self.flush_families();
        if flushed.is_err() {
            self.dirty.store(true, Ordering::Release);
        }
        flushed
    }

    fn flush_families(&self) -> Result<(), CatalogueError> {
        let handles: Vec<_> = Family::ALL.iter().map(|f| self.family(*f)).collect::<Result<_, _>>()?;
        let handles: Vec<&Arc<BoundColumnFamily<'_>>> = handles.iter().collect();
        self.db
            .flush_cfs_opt(&handles, &FlushOptions::default())
            .map_err(|e| self.failed(&e))
    }

    /// Drops whole files that lie in `[from, to)`; what shares a file with other keys stays.
    pub(crate) fn drop_files(&self, family: Family, from: &[u8], to: &[u8]) -> Result<(), CatalogueError> {
        self.db
            .delete_file_in_range_cf(&self.family(family)?, from, to)
            .map_err(|e| self.failed(&e))
    }

    /// An error about what is stored; the next opening rebuilds the database.
    pub(crate) fn malformed(&self, what: &str) -> CatalogueError {
        self.mark_damaged(what);
        CatalogueError::Database {
            path: self.path.clone(),
            message: format!("{what}; {REBUILD}"),
        }
    }

    /// Leaves a note for [`damage_met`].
    fn mark_damaged(&self, what: &str) {
        if self.is_marked.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(path = %self.path.display(), what, "the database is damaged; {REBUILD}");
        if let Err(error) = Disk::real().write_atomic(&self.path.join(DAMAGED), what.as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "the damage could not be noted");
        }
    }

    fn family(&self, family: Family) -> Result<Arc<BoundColumnFamily<'_>>, CatalogueError> {
        self.db
            .cf_handle(family.name())
            .ok_or_else(|| CatalogueError::Database {
                path: self.path.clone(),
                message: format!("column family {} is missing", family.name()),
            })
    }

    fn failed(&self, e: &rocksdb::Error) -> CatalogueError {
        let mut message = e.to_string();
        if e.kind() == ErrorKind::Corruption {
            self.mark_damaged(&message);
            message = format!("{message}; {REBUILD}");
        }
        CatalogueError::Database {
            path: self.path.clone(),
            message,
        }
    }
}

/// What an earlier process found wrong with the database in `path` while it used it.
pub(crate) fn damage_met(path: &Path) -> Option<String> {
    let what = Disk::real().read(&path.join(DAMAGED)).ok()?;
    Some(String::from_utf8_lossy(&what).into_owned())
}

const DAMAGED: &str = "DAMAGED";
const REBUILD: &str = "restart trilobite: it then rebuilds this database from the blocks";

/// A place in a family.
pub(crate) struct Cursor<'a> {
    inner: rocksdb::DBRawIterator<'a>,
    database: &'a Database,
}

impl Cursor<'_> {
    /// To the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<(), CatalogueError> {
        self.inner.seek(key);
        self.check()
    }

    /// To the next key.
    pub(crate) fn next(&mut self) -> Result<(), CatalogueError> {
        self.inner.next();
        self.check()
    }

    /// What is there; `None` at the end.
    pub(crate) fn item(&self) -> Option<(&[u8], &[u8])> {
        self.inner.item()
    }

    fn check(&self) -> Result<(), CatalogueError> {
        if self.inner.valid() {
            return Ok(());
        }
        self.inner.status().map_err(|e| self.database.failed(&e))
    }
}

/// Writes that happen together.
pub(crate) struct Batch<'a> {
    inner: WriteBatch,
    database: &'a Database,
}

impl Batch<'_> {
    /// Sets a value.
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), CatalogueError> {
        self.inner.put_cf(&self.database.family(family)?, key, value);
        Ok(())
    }

    /// Adds ids to an id list.
    pub(crate) fn add_ids(&mut self, family: Family, key: &[u8], ids: &[u32]) -> Result<(), CatalogueError> {
        self.inner
            .merge_cf(&self.database.family(family)?, key, id_list::operand(ids));
        Ok(())
    }

    /// Removes a value.
    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) -> Result<(), CatalogueError> {
        self.inner.delete_cf(&self.database.family(family)?, key);
        Ok(())
    }

    /// Removes all of `[from, to)`.
    pub(crate) fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) -> Result<(), CatalogueError> {
        self.inner.delete_range_cf(&self.database.family(family)?, from, to);
        Ok(())
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Writes it: visible at once, durable after the next flush.
    pub(crate) fn write(self) -> Result<(), CatalogueError> {
        let Batch { inner, database } = self;
        if inner.is_empty() {
            return Ok(());
        }
        database.dirty.store(true, Ordering::Release);
        let written = database.db.write_opt(inner, &database.write_options);
        // Again: a flush that began meanwhile may have cleared the mark before the write was in.
        database.dirty.store(true, Ordering::Release);
        written.map_err(|e| database.failed(&e))
    }
}

fn db_options() -> Result<Options, rocksdb::Error> {
    // What is not flushed comes back from the WAL; a process that stops need not wait for a flush.
    let mut options = Options::default().get_options_from_string("avoid_flush_during_shutdown=true")?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
        WRITE_BUFFERS_BYTES_MAX,
        false,
    ));
    options.set_max_background_jobs(2);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_file_opening_threads(1);
    options.set_table_cache_num_shard_bits(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_max_manifest_file_size(1 << 20);
    options.set_manifest_preallocation_size(64 << 10);
    options.set_info_logger(InfoLogger::new_callback_logger(
        LogLevel::Warn,
        |level, message| match level {
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
            // Headers (the whole list of options at each start) pass every level, and arrive as information.
            _ => tracing::trace!(target: "rocksdb", "{message}"),
        },
    ));
    Ok(options)
}

fn family_options(family: Option<Family>, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);
    let mut options = Options::default();
    options.set_arena_block_size(ARENA_BYTES);
    options.set_write_buffer_size(OTHER_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(16 << 20);
    options.set_max_bytes_for_level_base(64 << 20);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Zstd);
    // No age-driven rewriting of files: an idle catalogue is idle.
    options.set_periodic_compaction_seconds(0);
    options.set_ttl(0);
    match family {
        Some(Family::Labels(_)) => table.set_block_size(8 << 10),
        Some(Family::Hash(_)) => {
            table.set_bloom_filter(10.0, false);
            table.set_block_size(4 << 10);
            merges_ids(&mut options);
        }
        Some(Family::Post(_)) => {
            table.set_block_size(16 << 10);
            options.set_write_buffer_size(POST_BUFFER_BYTES);
            merges_ids(&mut options);
        }
        Some(Family::Blocks) | None => {}
    }
    options.set_block_based_table_factory(&table);
    options
}

fn merges_ids(options: &mut Options) {
    options.set_merge_operator_associative(
        "trilobite id union",
        |_key: &[u8], existing: Option<&[u8]>, operands: &MergeOperands| id_list::union(existing, operands.iter()),
    );
}
