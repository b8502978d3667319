//! What a file system must be able to do: the single steps that everything in [`Disk`](crate::Disk) is made of.

use std::io;
use std::path::Path;

use crate::Space;

/// Single steps. Each either happens or fails; what survives a crash is decided by `sync` and `sync_dir` alone.
pub(crate) trait Backend: Send + Sync {
    /// One directory; `AlreadyExists` if something is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// An empty file; `AlreadyExists` if something is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Append>>;
    /// A file cut to `len`, to be appended to; `InvalidInput` if it is shorter.
    fn open_append(&self, path: &Path, len: u64) -> io::Result<Box<dyn Append>>;
    /// A file for reading, and its length.
    fn open(&self, path: &Path) -> io::Result<(Box<dyn ReadAt>, u64)>;
    /// What is at `path`; `NotFound` if nothing is.
    fn look(&self, path: &Path) -> io::Result<Found>;
    /// Names in a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, bool)>>;
    /// Renames a file or directory; replaces a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; `AlreadyExists` if something is there.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file's bytes durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Free and total bytes.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Locks a directory; `WouldBlock` if it is locked.
    fn lock_dir(&self, dir: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// What stands at a path. Links are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A directory.
    Dir,
    /// A file of so many bytes.
    File(u64),
}

/// A file that grows.
pub(crate) trait Append: Send {
    /// Appends; after an error any part may have been written.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's bytes durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read.
pub(crate) trait ReadAt: Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file is shorter.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
}
