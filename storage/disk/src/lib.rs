//! The disk: the only crate that syncs, renames and removes.
//!
//! A [`Disk`] offers what a storage engine needs, each with its promise after a crash: files that grow and are synced
//! ([`Writer`]), files that are read at offsets ([`ReadFile`]), a file replaced whole ([`Disk::write_atomic`]), a directory
//! published whole ([`Disk::publish_dir`]). Each is made of single steps that a `Backend` performs: the operating
//! system's ([`Disk::real`]), or [`FaultyDisk`], which forgets what was not synced. Crash tests stand on this seam.

mod backend;
mod faulty;
mod os;
mod steps;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend::{Append, Backend, ReadAt};

pub use faulty::FaultyDisk;

/// A handle to a file system; cloning shares it. Paths are absolute or relative to the process, as given.
#[derive(Clone)]
pub struct Disk {
    backend: Arc<dyn Backend>,
}

/// An open file for appending.
pub struct Writer {
    file: Box<dyn Append>,
    len: u64,
}

/// An open file for reading at offsets; safe and cheap to share between threads.
#[derive(Clone)]
pub struct ReadFile {
    file: Arc<dyn ReadAt>,
    path: Arc<PathBuf>,
    len: u64,
}

/// An advisory lock on a directory, given back on drop.
pub struct DirLock {
    _held: Box<dyn Send + Sync>,
}

/// Free and total bytes of the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free to an unprivileged process.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl std::fmt::Debug for ReadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadFile({}, {} bytes)", self.path.display(), self.len)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} bytes)", self.len)
    }
}

impl std::fmt::Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

/// The parent directory as the system wants it named: `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
