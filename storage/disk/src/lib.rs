//! The disk: the only crate that syncs, renames and removes. Crash tests stand on this seam ([`FaultyDisk`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A handle to a file system; cloning shares it. Paths are absolute or relative to the process, as given.
#[derive(Clone)]
pub struct Disk {
    _inner: Arc<()>,
}

/// An open file for appending.
pub struct Writer {
    _inner: (),
}

/// An open file for reading at offsets; safe to share between threads.
pub struct ReadFile {
    _inner: (),
}

/// An advisory lock on a directory, given back on drop.
pub struct DirLock {
    _inner: (),
}

/// Free and total bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free to an unprivileged process.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Disk {
    /// The operating system's.
    pub fn real() -> Disk {
        todo!()
    }
    /// Creates a directory and its parents; syncs the parents.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        todo!()
    }
    /// Creates a file that must not exist yet.
    pub fn create(&self, path: &Path) -> io::Result<Writer> {
        let _ = path;
        todo!()
    }
    /// Opens a file for appending at its end, cutting it to `len` first.
    pub fn open_append(&self, path: &Path, len: u64) -> io::Result<Writer> {
        let _ = (path, len);
        todo!()
    }
    /// Opens a file for reading.
    pub fn open(&self, path: &Path) -> io::Result<ReadFile> {
        let _ = path;
        todo!()
    }
    /// A whole file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let _ = path;
        todo!()
    }
    /// Writes a whole file so that after a crash there is the old one or the new one (write beside, sync, rename, sync parent).
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let _ = (path, bytes);
        todo!()
    }
    /// Names in a directory with "is a directory", sorted; empty if the directory is missing.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<(String, bool)>> {
        let _ = dir;
        todo!()
    }
    /// Whether something is there.
    pub fn exists(&self, path: &Path) -> bool {
        let _ = path;
        todo!()
    }
    /// Syncs every file of `staged` and the directory, renames it to `target`, syncs the parent.
    pub fn publish_dir(&self, staged: &Path, target: &Path) -> io::Result<()> {
        let _ = (staged, target);
        todo!()
    }
    /// Removes a file; no error if it is gone already.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        todo!()
    }
    /// Removes a directory and what it holds; no error if it is gone already.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        todo!()
    }
    /// Makes creations, renames and removals in `dir` durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let _ = dir;
        todo!()
    }
    /// Bytes of all files below `path`.
    pub fn size(&self, path: &Path) -> io::Result<u64> {
        let _ = path;
        todo!()
    }
    /// Free and total space where `path` lies.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        let _ = path;
        todo!()
    }
    /// Takes the lock file of a data directory; `WouldBlock` if another process holds it.
    pub fn lock_dir(&self, dir: &Path) -> io::Result<DirLock> {
        let _ = dir;
        todo!()
    }
}

impl Writer {
    /// Appends.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let _ = bytes;
        todo!()
    }
    /// Makes all that was written durable (fdatasync).
    pub fn sync(&mut self) -> io::Result<()> {
        todo!()
    }
    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ReadFile {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file is shorter.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let _ = (buf, offset);
        todo!()
    }
    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        todo!()
    }
}

/// An in-memory disk that keeps only what was synced across [`FaultyDisk::crash`], and can fail at a chosen operation.
#[derive(Clone)]
pub struct FaultyDisk {
    _inner: Arc<()>,
}

impl FaultyDisk {
    /// Empty.
    #[allow(clippy::new_without_default)]
    pub fn new() -> FaultyDisk {
        todo!()
    }
    /// The disk to hand to an engine.
    pub fn disk(&self) -> Disk {
        todo!()
    }
    /// From the `n`-th mutating operation on (0 = the next), every operation fails with an I/O error.
    pub fn fail_after(&self, n: u64) {
        let _ = n;
        todo!()
    }
    /// Mutating operations so far.
    pub fn operations(&self) -> u64 {
        todo!()
    }
    /// The disk as a crash now would leave it: only what was synced (files' bytes and directory entries alike), faults cleared.
    pub fn crash(&self) -> FaultyDisk {
        todo!()
    }
}

#[allow(dead_code)]
fn _path(_: PathBuf) {}
