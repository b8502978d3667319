//! What engines ask for, made of a backend's single steps in an order that a crash may interrupt anywhere.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::Found;
use crate::os::Os;
use crate::{DirLock, Disk, ReadFile, Space, Writer, parent_of};

impl Disk {
    /// The operating system's.
    pub fn real() -> Disk {
        Disk { backend: Arc::new(Os) }
    }

    /// Creates a directory and its parents; syncs the parents.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let parent = parent_of(path);
        match self.backend.create_dir(path) {
            Ok(()) => self.backend.sync_dir(parent),
            Err(e) if e.kind() == ErrorKind::NotFound && parent != path => {
                self.create_dir_all(parent)?;
                // Once, not again and again: some file systems (/proc) answer `NotFound` although the parent is there.
                self.backend.create_dir(path).or_else(|e| match e.kind() {
                    ErrorKind::AlreadyExists if self.is_dir(path) => Ok(()),
                    _ => Err(e),
                })?;
                self.backend.sync_dir(parent)
            }
            // A predecessor may have died between creating and syncing it. A parent that cannot be opened was not ours.
            Err(e) if e.kind() == ErrorKind::AlreadyExists && self.is_dir(path) => {
                match self.backend.sync_dir(parent) {
                    Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
                    synced => synced,
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Creates a file that must not exist yet. Its name is durable after [`Disk::sync_dir`] of its directory.
    pub fn create(&self, path: &Path) -> io::Result<Writer> {
        Ok(Writer {
            file: self.backend.create(path)?,
            len: 0,
        })
    }

    /// Opens a file for appending at its end, cutting it to `len` first; `InvalidInput` if it is shorter than that.
    pub fn open_append(&self, path: &Path, len: u64) -> io::Result<Writer> {
        Ok(Writer {
            file: self.backend.open_append(path, len)?,
            len,
        })
    }

    /// Opens a file for reading.
    pub fn open(&self, path: &Path) -> io::Result<ReadFile> {
        let (file, len) = self.backend.open(path)?;
        Ok(ReadFile {
            file: file.into(),
            path: Arc::new(path.to_path_buf()),
            len,
        })
    }

    /// A whole file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let len = usize::try_from(file.len).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes a whole file so that after a crash there is the old one or the new one (write beside, sync, rename, sync parent).
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        self.remove_file(&beside)?;
        let mut writer = self.create(&beside)?;
        writer.write_all(bytes)?;
        writer.sync()?;
        drop(writer);
        self.backend.rename(&beside, path)?;
        self.sync_dir(parent_of(path))
    }

    /// Names in a directory with "is a directory", sorted; empty if the directory is missing.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<(String, bool)>> {
        match self.backend.list(dir) {
            Ok(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Whether something is there.
    pub fn exists(&self, path: &Path) -> bool {
        self.backend.look(path).is_ok()
    }

    /// Syncs every file of `staged` and the directory, renames it to `target`, syncs the parent. `target` must not exist.
    pub fn publish_dir(&self, staged: &Path, target: &Path) -> io::Result<()> {
        self.sync_tree(staged)?;
        self.backend.rename(staged, target)?;
        self.sync_dir(parent_of(target))?;
        if parent_of(staged) != parent_of(target) {
            self.sync_dir(parent_of(staged))?;
        }
        Ok(())
    }

    /// Gives a file that is never written again a second name, or copies it where the file system cannot. The name is
    /// durable after [`Disk::sync_dir`] of its directory, the bytes as they were (a copy's after [`Disk::publish_dir`]).
    pub fn link_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.backend.link(from, to) {
            Err(e) if cannot_link(e.kind()) => {}
            done => return done,
        }
        let file = self.open(from)?;
        let mut copy = self.create(to)?;
        let mut buffer = vec![0; COPY_BYTES.min(file.len as usize)];
        let mut offset = 0;
        while offset < file.len {
            let len = buffer.len().min((file.len - offset) as usize);
            file.read_exact_at(&mut buffer[..len], offset)?;
            copy.write_all(&buffer[..len])?;
            offset += len as u64;
        }
        Ok(())
    }

    /// Removes a file; no error if it is gone already.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        gone_is_fine(self.backend.remove_file(path))
    }

    /// Removes a directory and what it holds; no error if it is gone already.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for (name, is_dir) in self.list(path)? {
            match is_dir {
                true => self.remove_dir_all(&path.join(name))?,
                false => self.remove_file(&path.join(name))?,
            }
        }
        gone_is_fine(self.backend.remove_dir(path))
    }

    /// Makes creations, renames and removals in `dir` durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.backend.sync_dir(dir)
    }

    /// Bytes of all files below `path`, or of the file at `path`; 0 if nothing is there.
    pub fn size(&self, path: &Path) -> io::Result<u64> {
        match self.backend.look(path) {
            Ok(Found::File(bytes)) => Ok(bytes),
            Ok(Found::Dir) => self
                .list(path)?
                .into_iter()
                .try_fold(0u64, |sum, (name, _)| Ok(sum + self.size(&path.join(name))?)),
            // Files come and go while we count.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Free and total space where `path` lies.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        self.backend.space(path)
    }

    /// Takes the lock file of a data directory; `WouldBlock` if another process holds it.
    pub fn lock_dir(&self, dir: &Path) -> io::Result<DirLock> {
        Ok(DirLock {
            _held: self.backend.lock_dir(dir)?,
        })
    }

    fn is_dir(&self, path: &Path) -> bool {
        // A link to a directory serves as well.
        matches!(self.backend.look(path), Ok(Found::Dir)) || self.backend.list(path).is_ok()
    }

    fn sync_tree(&self, dir: &Path) -> io::Result<()> {
        for (name, is_dir) in self.backend.list(dir)? {
            match is_dir {
                true => self.sync_tree(&dir.join(name))?,
                false => self.backend.sync_file(&dir.join(name))?,
            }
        }
        self.sync_dir(dir)
    }
}

impl Writer {
    /// Appends. After an error any part may be in the file: cut it with [`Disk::open_append`] or give it up.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes all that was written durable (fdatasync).
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// So that an encoder can write straight into the file, behind a `BufWriter`. `flush` does not sync.
impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Writer::write_all(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadFile {
    /// Fills `buf` from `offset`; `UnexpectedEof` if the file is shorter.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// Bytes in the file when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file was empty when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A file is copied in pieces of this size.
const COPY_BYTES: usize = 1 << 20;

/// Whether the file system has no second names, or too many of this file.
fn cannot_link(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::CrossesDevices | ErrorKind::TooManyLinks
    )
}

fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
