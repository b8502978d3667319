//! Snapshots: a directory of its own from which a Trilobite can start and answer the same queries.
//!
//! `<data-dir>/snapshots/<name>` is laid out like a data directory. Blocks never change, so their files are second
//! names (hard links) of the ones in use and cost no space until those go; what is small is written anew. There is no
//! WAL and no catalogue in it: heads are cut first, and opening a directory without a catalogue builds one from the
//! blocks. Retention and the size limit do not look at snapshots; whoever takes one removes it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use model::{DAY_NS, Signal, TimeRangeNs, TimestampNs};
use storage_catalogue::BlockRef;
use storage_disk::Disk;

use crate::Storage;

/// The directory of snapshots in a data directory.
const SNAPSHOTS: &str = "snapshots";
/// A snapshot that is being made.
const UNFINISHED: &str = "tmp";

/// Why a snapshot was not made; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A head could not be cut.
    #[error(transparent)]
    Cut(#[from] crate::TickError),
    /// The metrics engine's files could not be written.
    #[error(transparent)]
    Metrics(#[from] storage_metrics::BlockError),
    /// The logs engine's files could not be written.
    #[error(transparent)]
    Logs(#[from] storage_logs::BlockError),
    /// A file could not be linked or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Storage {
    /// Makes a snapshot of all three signals and returns its name, `<UTC time>-<16 hex digits>`, below
    /// `<data-dir>/snapshots/`. The heads are cut first, so that all that was acknowledged before is in it; with
    /// `skip_head` it holds the blocks that are there. Blocks the thread while it works.
    pub fn snapshot(&self, skip_head: bool) -> Result<String, SnapshotError> {
        if !skip_head {
            self.flush()?;
        }
        let now = self.now();
        let name = format!("{}-{:016x}", compact_utc(now), RandomState::new().hash_one(now.0));
        let dir = self.options.data_dir.join(SNAPSHOTS).join(&name);
        let staged = dir.with_extension(UNFINISHED);
        let made = self.fill_snapshot(&staged).and_then(|()| {
            self.disk
                .publish_dir(&staged, &dir)
                .map_err(|source| SnapshotError::Io {
                    path: dir.clone(),
                    source,
                })
        });
        if let Err(error) = made {
            if let Err(left) = self.disk.remove_dir_all(&staged) {
                tracing::warn!(dir = %staged.display(), error = %left, "an unfinished snapshot stays until the next start");
            }
            return Err(error);
        }
        Ok(name)
    }

    fn fill_snapshot(&self, dir: &Path) -> Result<(), SnapshotError> {
        for signal in Signal::ALL {
            let of_signal = dir.join(signal.as_str());
            let blocks_dir = of_signal.join("blocks");
            self.disk.create_dir_all(&blocks_dir).map_err(at(&blocks_dir))?;
            let blocks = match signal {
                Signal::Metrics => self.metrics.save_beside(&of_signal)?,
                Signal::Logs => self.logs.save_beside(&of_signal)?,
                Signal::Traces => self.catalogue.blocks(signal, TimeRangeNs::ALL),
            };
            for block in &blocks {
                self.link_block(block, &blocks_dir.join(block.meta().id.to_string()))?;
            }
        }
        Ok(())
    }

    fn link_block(&self, block: &BlockRef, to: &Path) -> Result<(), SnapshotError> {
        self.disk.create_dir_all(to).map_err(at(to))?;
        for (name, is_dir) in self.disk.list(block.dir()).map_err(at(block.dir()))? {
            if !is_dir {
                let to = to.join(&name);
                self.disk.link_file(&block.dir().join(&name), &to).map_err(at(&to))?;
            }
        }
        Ok(())
    }
}

/// Removes what a crash left of snapshots that were being made.
pub(crate) fn remove_unfinished(disk: &Disk, data_dir: &Path) -> io::Result<()> {
    let dir = data_dir.join(SNAPSHOTS);
    for (name, is_dir) in disk.list(&dir)? {
        let path = dir.join(name);
        if is_dir && path.extension().is_some_and(|extension| extension == UNFINISHED) {
            disk.remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

/// An instant as `20260101T000000Z`; the calendar counts days from 1970-01-01 in years that begin in March.
fn compact_utc(t: TimestampNs) -> String {
    let (days, second) = (t.0.div_euclid(DAY_NS), t.0.rem_euclid(DAY_NS) / 1_000_000_000);
    let from_march_0000 = days + 719_468;
    let (era, of_era) = (from_march_0000.div_euclid(146_097), from_march_0000.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_utc() {
        for (seconds, name) in [
            (0, "19700101T000000Z"),
            (951_827_696, "20000229T123456Z"),
            (1_767_225_599, "20251231T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (-1, "19691231T235959Z"),
        ] {
            assert_eq!(compact_utc(TimestampNs(seconds * 1_000_000_000)), name);
        }
    }
}
