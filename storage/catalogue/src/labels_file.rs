//! # Labels file, version 1
//!
//! `labels` in every block directory of metrics and logs: the label sets the block uses, so that the label index can be
//! rebuilt from blocks. Little-endian; `uv` = LEB128. A `crc` is the CRC32C of its row before it.
//!
//! ```text
//! header   = magic "TLBL" · version u8 = 1 · zero [3]
//! frame*   = raw len uv > 0 · zstd len uv · zstd [zstd len] · crc u32
//! end      = u8 0 · count of label sets u64 · crc u32
//!
//! raw      = (id uv · len uv · encoded label set [len])*       ids rise strictly through all frames
//! ```
//!
//! A frame holds about 256 KiB raw, never more than 16 MiB. Nothing follows the end. Golden file: `testdata/labels_v1.bin`.

use std::io;
use std::path::Path;

use model::LabelSet;
use storage_codec::{Malformed, Reader, crc32c, put_bytes, put_uv, unzstd_frame, zstd_frame};
use storage_disk::Disk;

/// The file's name in a block directory.
pub(crate) const NAME: &str = "labels";

const MAGIC: &[u8; 4] = b"TLBL";
const VERSION: u8 = 1;
const FRAME_BYTES: usize = 256 << 10;
const FRAME_BYTES_MAX: usize = 16 << 20;
const ZSTD_LEVEL: i32 = 3;

/// Writes the file; `InvalidInput` if ids do not rise or a label set is larger than a frame.
pub(crate) fn write(disk: &Disk, block_dir: &Path, labels: &[(u32, LabelSet)]) -> io::Result<()> {
    let mut file = disk.create(&block_dir.join(NAME))?;
    encode(labels, |bytes| file.write_all(bytes))
}

/// Calls `each` with every label set of a block's file; the error says what is wrong with the file.
pub(crate) fn read(
    disk: &Disk,
    block_dir: &Path,
    each: impl FnMut(u32, LabelSet) -> Result<(), String>,
) -> Result<(), String> {
    let bytes = disk
        .read(&block_dir.join(NAME))
        .map_err(|e| format!("labels file: {e}"))?;
    decode(&bytes, each)
}

fn encode(labels: &[(u32, LabelSet)], mut out: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let mut raw = Vec::new();
    let mut piece = Vec::new();
    piece.extend_from_slice(MAGIC);
    piece.extend_from_slice(&[VERSION, 0, 0, 0]);
    let mut previous = None;
    for (i, (id, set)) in labels.iter().enumerate() {
        if previous.is_some_and(|p| p >= *id) {
            return Err(invalid(format!("label set ids must rise, {id} does not")));
        }
        if set.as_bytes().len() > FRAME_BYTES_MAX - FRAME_BYTES - 16 {
            return Err(invalid(format!("the label set of id {id} is larger than 15 MiB")));
        }
        previous = Some(*id);
        put_uv(&mut raw, u64::from(*id));
        put_bytes(&mut raw, set.as_bytes());
        if raw.len() >= FRAME_BYTES || i + 1 == labels.len() {
            put_frame(&mut piece, &raw);
            raw.clear();
            out(&piece)?;
            piece.clear();
        }
    }
    let end = piece.len();
    piece.push(0);
    piece.extend_from_slice(&(labels.len() as u64).to_le_bytes());
    let crc = crc32c(&piece[end..]);
    piece.extend_from_slice(&crc.to_le_bytes());
    out(&piece)
}

fn put_frame(out: &mut Vec<u8>, raw: &[u8]) {
    let mut packed = Vec::new();
    zstd_frame(&mut packed, raw, ZSTD_LEVEL);
    let start = out.len();
    put_uv(out, raw.len() as u64);
    put_bytes(out, &packed);
    let crc = crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn decode(bytes: &[u8], mut each: impl FnMut(u32, LabelSet) -> Result<(), String>) -> Result<(), String> {
    let Some(header) = bytes.first_chunk::<8>().filter(|h| h.starts_with(MAGIC)) else {
        let found = &bytes[..bytes.len().min(4)];
        return Err(format!("no labels file (starts with {found:02x?}, not \"TLBL\")"));
    };
    if header[4] != VERSION {
        return Err(format!(
            "labels file version {}, this build reads up to {VERSION}; start the newer trilobite, or restore a backup",
            header[4]
        ));
    }
    if header[5..] != [0, 0, 0] {
        return Err("labels file: malformed header".to_owned());
    }
    let failed = |e: Malformed| format!("labels file: {e}");
    let mut r = Reader::new(bytes);
    r.take(8).map_err(failed)?;
    let mut raw = Vec::new();
    let mut previous = None;
    let mut count = 0u64;
    loop {
        let start = r.position();
        let raw_len = r.uv().map_err(failed)?;
        if raw_len == 0 {
            let expected = r.u64().map_err(failed)?;
            check_crc(bytes, start, &mut r)?;
            if expected != count || !r.is_empty() {
                return Err("labels file: malformed end".to_owned());
            }
            return Ok(());
        }
        let raw_len = usize::try_from(raw_len).unwrap_or(usize::MAX);
        if raw_len > FRAME_BYTES_MAX {
            return Err(format!(
                "labels file: a frame of {raw_len} bytes at byte {start} is too large"
            ));
        }
        let packed = r.bytes().map_err(failed)?;
        check_crc(bytes, start, &mut r)?;
        unzstd_frame(packed, &mut raw, raw_len).map_err(failed)?;
        let mut sets = Reader::new(&raw);
        while !sets.is_empty() {
            let id = sets.uv().map_err(failed)?;
            let id = u32::try_from(id).ok().filter(|id| previous.is_none_or(|p| p < *id));
            let id = id.ok_or_else(|| format!("labels file: ids do not rise in the frame at byte {start}"))?;
            previous = Some(id);
            let encoded = sets.bytes().map_err(failed)?;
            let set = LabelSet::from_encoded(encoded).map_err(|e| format!("labels file: id {id}: {e}"))?;
            each(id, set)?;
            count += 1;
        }
    }
}

fn check_crc(bytes: &[u8], start: usize, r: &mut Reader) -> Result<(), String> {
    let crc = crc32c(&bytes[start..r.position()]);
    let stored = r.u32().map_err(|e| format!("labels file: {e}"))?;
    if crc == stored {
        Ok(())
    } else {
        Err(format!("labels file: CRC32C fails at byte {start}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encoded(labels: &[(u32, LabelSet)]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        encode(labels, |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(out)
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<(u32, LabelSet)>, String> {
        let mut labels = Vec::new();
        decode(bytes, |id, set| {
            labels.push((id, set));
            Ok(())
        })?;
        Ok(labels)
    }

    fn example() -> Vec<(u32, LabelSet)> {
        vec![
            (1, LabelSet::from_pairs([("__name__", "up"), ("job", "node")])),
            (7, LabelSet::empty()),
            (u32::MAX, LabelSet::from_pairs([("__name__", "up"), ("job", "é")])),
        ]
    }

    #[test]
    fn golden_labels_v1() {
        crate::golden::check("labels_v1.bin", &encoded(&example()).unwrap());
        assert_eq!(decoded(&crate::golden::read("labels_v1.bin")).unwrap(), example());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encoded(&example()).unwrap();
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(decoded(&bad).is_err(), "bit {at}");
        }
        for len in 0..good.len() {
            assert!(decoded(&good[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn many_label_sets_take_many_frames() {
        let labels: Vec<_> = (0..20_000)
            .map(|i| {
                (
                    i * 3,
                    LabelSet::from_pairs([("pod", format!("pod-{i}-{}", "x".repeat(30)))]),
                )
            })
            .collect();
        assert_eq!(decoded(&encoded(&labels).unwrap()).unwrap(), labels);
        assert_eq!(decoded(&encoded(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn ids_must_rise() {
        let labels = [(2, LabelSet::empty()), (2, LabelSet::empty())];
        assert!(encoded(&labels).is_err());
    }

    proptest! {
        #[test]
        fn foreign_frames_never_panic(raw in vec(any::<u8>(), 1..100), tail in vec(any::<u8>(), 0..40)) {
            let mut bytes = [&MAGIC[..], &[VERSION, 0, 0, 0]].concat();
            put_frame(&mut bytes, &raw);
            bytes.extend_from_slice(&tail);
            let _ = decoded(&bytes);
        }
    }
}
