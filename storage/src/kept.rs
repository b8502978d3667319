//! Small things that others want back after a restart, kept beside the data: one file for each name, replaced whole.
//!
//! # Kept file, version 1
//!
//! ```text
//! 0    header  = magic "TLBK" · version u8 = 1 · zero [3]
//! 8    bytes   = what was kept; its layout is its owner's
//! -4   footer  = crc u32, little-endian: CRC32C of all before
//! ```
//!
//! `<data-dir>/kept/NAME`. A reader refuses versions it does not know. Golden file: `testdata/kept_v1.bin`.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use storage_codec::crc32c;

use crate::Storage;

const MAGIC: &[u8; 4] = b"TLBK";
const VERSION: u8 = 1;
const HEADER: usize = 8;
const FOOTER: usize = 4;

/// Why something could not be kept or is not there any more.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The system's word.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Not what was written.
    #[error("{path}: {what}; it is left as it is until it is replaced")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

impl Storage {
    /// Keeps `bytes` under `name` (a plain file name), durably; replaces what was kept before.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), KeptError> {
        let path = self.kept_path(name);
        let io = |source| KeptError::Io {
            path: path.clone(),
            source,
        };
        if let Some(dir) = path.parent() {
            self.disk.create_dir_all(dir).map_err(io)?;
        }
        self.disk.write_atomic(&path, &sealed(bytes)).map_err(io)
    }

    /// What was kept under `name` last; `None` if nothing was.
    pub fn kept(&self, name: &str) -> Result<Option<Vec<u8>>, KeptError> {
        let path = self.kept_path(name);
        match self.disk.read(&path) {
            Ok(file) => opened(file).map(Some).map_err(|what| KeptError::Damaged { path, what }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeptError::Io { path, source }),
        }
    }

    fn kept_path(&self, name: &str) -> PathBuf {
        self.options.data_dir.join("kept").join(name)
    }
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(HEADER + bytes.len() + FOOTER);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&[VERSION, 0, 0, 0]);
    file.extend_from_slice(bytes);
    file.extend_from_slice(&crc32c(&file).to_le_bytes());
    file
}

fn opened(mut file: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if file.len() < HEADER + FOOTER || !file.starts_with(MAGIC) {
        return Err("not a kept file");
    }
    if file[MAGIC.len()] != VERSION {
        return Err("of a version that this build does not know; start the newer trilobite");
    }
    let footer = file.split_off(file.len() - FOOTER);
    if crc32c(&file).to_le_bytes()[..] != footer[..] {
        return Err("fails its CRC32C");
    }
    file.drain(..HEADER);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_kept_v1() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/kept_v1.bin");
        let file = sealed(b"what was kept");
        if std::env::var_os("NEW_GOLDEN").is_some() && !std::path::Path::new(path).exists() {
            std::fs::write(path, &file).expect("written");
        }
        let golden = std::fs::read(path).expect("testdata/kept_v1.bin (NEW_GOLDEN=1 creates it)");
        assert_eq!(file, golden);
        assert_eq!(opened(golden).expect("opens"), b"what was kept");
    }

    #[test]
    fn damage_is_told() {
        let good = sealed(b"bytes");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(opened(bad).is_err(), "byte {at}");
            assert!(opened(good[..at].to_vec()).is_err(), "cut at {at}");
        }
    }
}
