//! A block's Parquet file as the Parquet reader wants it: bytes at a place, or a stream from one. Whatever is read is read in
//! whole units and checked against the checksums of the block's index, if it has them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use storage_disk::ReadFile;

use crate::block_index::{Sums, UNIT};

/// Bytes read at once where the Parquet reader asks for a stream.
const STREAM_BYTES: u64 = 16 << 10;

/// The file.
#[derive(Clone)]
pub(crate) struct Input {
    file: ReadFile,
    read: Arc<AtomicU64>,
    sums: Option<Arc<Sums>>,
    /// Parts that were read ahead, each with its place.
    ahead: Arc<[(u64, Bytes)]>,
}

/// A unit of the file is not what was written.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the 4 KiB at byte {offset} fail their CRC32C")]
pub(crate) struct Damage {
    /// Where it begins.
    pub(crate) offset: u64,
}

impl Input {
    /// A file that was opened, to be checked against its checksums.
    pub(crate) fn new(file: ReadFile, sums: Option<Arc<Sums>>) -> Input {
        Input {
            file,
            read: Arc::default(),
            sums,
            ahead: Arc::default(),
        }
    }

    /// The same file with parts (start and length) that are read now, each at once, because all of them will be wanted.
    pub(crate) fn with_ahead(&self, parts: impl Iterator<Item = (u64, u64)>) -> Result<Input, ParquetError> {
        let read = parts.map(|(start, length)| {
            let length = usize::try_from(length).map_err(|_| ParquetError::General("a part is too large".into()))?;
            Ok((start, self.get_bytes(start, length)?))
        });
        let ahead: Result<Vec<(u64, Bytes)>, ParquetError> = read.collect();
        Ok(Input {
            ahead: ahead?.into(),
            ..self.clone()
        })
    }

    /// What was read ahead from a place on.
    fn ahead(&self, start: u64) -> Option<Bytes> {
        self.ahead.iter().find_map(|(from, bytes)| {
            let used = usize::try_from(start.checked_sub(*from)?).ok()?;
            (used < bytes.len()).then(|| bytes.slice(used..))
        })
    }

    /// Bytes read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Its first four bytes; zeros if it is too short for a Parquet file.
    pub(crate) fn magic(&self) -> [u8; 4] {
        let mut magic = [0; 4];
        if self.file.len() < 12 || self.file.read_exact_at(&mut magic, 0).is_err() {
            return [0; 4];
        }
        magic
    }

    fn bytes(&self, start: u64, end: u64) -> Result<Bytes, ParquetError> {
        let unit = UNIT as u64;
        let (from, to) = match self.sums {
            None => (start, end),
            Some(_) => (start - start % unit, end.next_multiple_of(unit).min(self.file.len())),
        };
        let mut bytes = vec![0; (to - from) as usize];
        self.file
            .read_exact_at(&mut bytes, from)
            .map_err(|e| ParquetError::External(Box::new(e)))?;
        self.read.fetch_add(to - from, Ordering::Relaxed);
        if let Some(offset) = self.sums.as_ref().and_then(|sums| sums.damage(from, &bytes)) {
            return Err(ParquetError::External(Box::new(Damage { offset })));
        }
        Ok(Bytes::from(bytes).slice((start - from) as usize..(end - from) as usize))
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Input {
    type T = Stream;

    fn get_read(&self, start: u64) -> Result<Stream, ParquetError> {
        let buffer = self.ahead(start).unwrap_or_default();
        Ok(Stream {
            at: start + buffer.len() as u64,
            buffer,
            input: self.clone(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if let Some(bytes) = self.ahead(start).filter(|bytes| bytes.len() >= length) {
            return Ok(bytes.slice(..length));
        }
        match start.checked_add(length as u64).filter(|end| *end <= self.file.len()) {
            Some(end) => self.bytes(start, end),
            None => Err(ParquetError::EOF(format!(
                "{length} bytes at {start} reach beyond the end of the file"
            ))),
        }
    }
}

/// Reads on from a place in the file, through a small buffer.
pub(crate) struct Stream {
    input: Input,
    at: u64,
    buffer: Bytes,
}

impl io::Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let left = self.input.file.len().saturating_sub(self.at);
            let len = left.min(STREAM_BYTES.max(out.len() as u64));
            if len == 0 {
                return Ok(0);
            }
            self.buffer = self
                .input
                .bytes(self.at, self.at + len)
                .map_err(|e| io::Error::other(e.to_string()))?;
            self.at += len;
        }
        let n = out.len().min(self.buffer.len());
        out[..n].copy_from_slice(&self.buffer.split_to(n));
        Ok(n)
    }
}
