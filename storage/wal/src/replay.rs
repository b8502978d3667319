//! Opening a log: what was in it is handed over, and its last segment is made ready to grow.

use std::path::Path;

use storage_disk::{Disk, Writer};

use crate::segment::{self, Contents, HEADER_BYTES, Unreadable, VERSION};
use crate::{Lsn, Replay, WalError};

/// A log whose last segment can be appended to.
pub(crate) struct Opened {
    /// Segments and their bytes, oldest first; the last one is `file`.
    pub(crate) segments: Vec<(Lsn, u64)>,
    /// The segment that grows. What it holds is synced.
    pub(crate) file: Writer,
    /// The place of the next record.
    pub(crate) next: Lsn,
    /// What replay met.
    pub(crate) report: Replay,
}

/// Opens or creates the log in `dir` and hands its records to `each`.
pub(crate) fn open(disk: &Disk, dir: &Path, each: &mut dyn FnMut(Lsn, u8, &[u8])) -> Result<Opened, WalError> {
    disk.create_dir_all(dir).map_err(|e| WalError::io(dir, e))?;
    let names = disk.list(dir).map_err(|e| WalError::io(dir, e))?;
    let mut places: Vec<Lsn> = names
        .iter()
        .filter_map(|(name, _)| segment::parse_file_name(name))
        .collect();
    places.sort_unstable();

    let mut segments = Vec::new();
    let mut report = Replay::default();
    let mut next = Lsn(1);
    let mut last = None;
    for (i, &first) in places.iter().enumerate() {
        let is_last = i + 1 == places.len();
        let (contents, bytes) = replay_segment(disk, dir, first, is_last, each, &mut report)?;
        next = next.max(contents.next);
        segments.push((first, if is_last { contents.good_end } else { bytes }));
        if is_last {
            last = Some((first, contents, bytes));
        }
    }
    let resumed = match last {
        Some((first, contents, bytes)) => resume(disk, dir, first, &contents, bytes)?,
        None => None,
    };
    let file = match resumed {
        Some(file) => file,
        None => {
            let file = create_segment(disk, dir, next)?;
            segments.retain(|&(first, _)| first != next);
            segments.push((next, 0));
            file
        }
    };
    if let Some((_, bytes)) = segments.last_mut() {
        *bytes = file.len();
    }
    Ok(Opened {
        segments,
        file,
        next,
        report,
    })
}

/// Creates the segment whose first record will have the place `first`; its name is durable on return. A file of that name
/// can only be left over from an attempt that failed, since its first record was never written: it is used again.
pub(crate) fn create_segment(disk: &Disk, dir: &Path, first: Lsn) -> Result<Writer, WalError> {
    let path = dir.join(segment::file_name(first));
    let create = || {
        let mut file = match disk.create(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => disk.open_append(&path, 0)?,
            other => other?,
        };
        file.write_all(&segment::header(first))?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    create().map_err(|e| WalError::io(&path, e))
}

fn replay_segment(
    disk: &Disk,
    dir: &Path,
    first: Lsn,
    is_last: bool,
    each: &mut dyn FnMut(Lsn, u8, &[u8]),
    report: &mut Replay,
) -> Result<(Contents, u64), WalError> {
    let path = dir.join(segment::file_name(first));
    let file = disk.open(&path).map_err(|e| WalError::io(&path, e))?;
    let contents = segment::read(&file, first, each).map_err(|e| match e {
        Unreadable::Io(e) => WalError::io(&path, e),
        Unreadable::TooNew(found) => WalError::TooNew {
            path: path.clone(),
            found,
            newest: VERSION,
        },
    })?;
    report.records += contents.records;
    report.bytes += contents.bytes;
    let mut skip = |offset: u64| {
        tracing::error!(
            segment = %path.display(), offset,
            "bad record in the WAL: skipped up to the next good one; the disk or its memory is failing, or something else wrote here"
        );
        report.skipped.push((path.clone(), offset));
    };
    contents.bad.iter().for_each(|&offset| skip(offset));
    let tail = file.len() - contents.good_end;
    match (is_last, tail) {
        (_, 0) => {}
        (false, _) => skip(contents.good_end),
        (true, _) => {
            tracing::warn!(
                segment = %path.display(), offset = contents.good_end, bytes = tail,
                "the WAL ends in a torn record, as after a crash or power loss: cut at the last good one"
            );
            report.torn_bytes += tail;
        }
    }
    Ok((contents, file.len()))
}

/// Cuts the last segment behind its last good record and opens it there. `None`: it must not grow any more. What was
/// read is synced, because what is built on it from now on must not outlive it.
fn resume(disk: &Disk, dir: &Path, first: Lsn, contents: &Contents, bytes: u64) -> Result<Option<Writer>, WalError> {
    let path = dir.join(segment::file_name(first));
    let open = || {
        let mut file = disk.open_append(&path, contents.good_end.min(bytes))?;
        let unused = contents.records == 0;
        if !contents.header && unused {
            file.write_all(&segment::header(first))?;
        }
        file.sync()?;
        disk.sync_dir(dir)?;
        Ok((contents.header || unused).then_some(file))
    };
    debug_assert!(!contents.header || contents.good_end >= HEADER_BYTES as u64);
    open().map_err(|e| WalError::io(&path, e))
}
