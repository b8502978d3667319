//! Why the catalogue could not do it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the catalogue could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// RocksDB said no.
    #[error("{path}: {message}")]
    Database {
        /// The database's directory.
        path: PathBuf,
        /// Its words.
        message: String,
    },
    /// A block directory could not be written or read.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Names the path an I/O error is about.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> CatalogueError + '_ {
    move |source| CatalogueError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Something handed in, or read back, that cannot be.
pub(crate) fn invalid(path: &Path, what: impl Into<String>) -> CatalogueError {
    at(path)(io::Error::new(io::ErrorKind::InvalidData, what.into()))
}
