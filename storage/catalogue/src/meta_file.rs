//! # Meta file, version 1
//!
//! `meta` in every block directory, and the same bytes as the block's row in the database. Little-endian;
//! `uv`/`iv` = LEB128, plain and zigzag. Times in ns since the epoch.
//!
//! ```text
//! header      = magic "TLBM" · version u8 = 1 · signal u8 · level u8 · zero u8
//! what        = id u64 · bytes u64 · day iv · min iv · max iv · items uv · keys uv
//! replaces    = count uv · (block id uv)*     what it was compacted from
//! dead        = count uv · (block id uv)*     left the catalogue earlier, but had a directory when this was written
//! checkpoint  = u8 0, or u8 1 · WAL place uv
//! crc         = CRC32C of all before, u32
//! ```
//!
//! signal: 0 metrics, 1 logs, 2 traces. A rebuild drops blocks that a readable `meta` names as replaced or dead, and takes
//! the highest checkpoint of a signal. Golden file: `testdata/meta_v1.bin`.

use std::path::Path;

use model::{BlockId, Day, Signal, TimestampNs};
use storage_codec::{Malformed, Reader, crc32c, put_iv, put_uv};
use storage_disk::Disk;

use crate::block::BlockMeta;

/// The file's name in a block directory.
pub(crate) const NAME: &str = "meta";

const MAGIC: &[u8; 4] = b"TLBM";
const VERSION: u8 = 1;
const BYTES_MAX: usize = 16 << 20;

/// What a meta file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaFile {
    /// The block.
    pub(crate) meta: BlockMeta,
    /// Blocks that must not come back in a rebuild, beside those replaced.
    pub(crate) dead: Vec<BlockId>,
    /// The signal's checkpoint when this was written.
    pub(crate) checkpoint: Option<u64>,
}

/// The file's bytes.
pub(crate) fn encode(file: &MetaFile) -> Vec<u8> {
    let meta = &file.meta;
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, meta.signal as u8, meta.level, 0]);
    out.extend_from_slice(&meta.id.0.to_le_bytes());
    out.extend_from_slice(&meta.bytes.to_le_bytes());
    put_iv(&mut out, i64::from(meta.day.0));
    put_iv(&mut out, meta.min.0);
    put_iv(&mut out, meta.max.0);
    put_uv(&mut out, meta.items);
    put_uv(&mut out, meta.keys);
    for ids in [&meta.replaces, &file.dead] {
        put_uv(&mut out, ids.len() as u64);
        for id in ids {
            put_uv(&mut out, id.0);
        }
    }
    match file.checkpoint {
        None => out.push(0),
        Some(place) => {
            out.push(1);
            put_uv(&mut out, place);
        }
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the file's bytes; the error says what is wrong with them.
pub(crate) fn decode(bytes: &[u8]) -> Result<MetaFile, String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("{} bytes are too many for a meta file", bytes.len()));
    }
    if !bytes.starts_with(MAGIC) {
        return Err(format!(
            "no meta file (starts with {:02x?}, not \"TLBM\")",
            &bytes[..bytes.len().min(4)]
        ));
    }
    match bytes.get(4) {
        Some(&VERSION) => {}
        Some(version) => {
            return Err(format!(
                "meta file version {version}, this build reads up to {VERSION}; start the newer trilobite, or restore a backup"
            ));
        }
        None => return Err("meta file is cut short".to_owned()),
    }
    let body = bytes
        .split_last_chunk::<4>()
        .and_then(|(body, crc)| (crc32c(body) == u32::from_le_bytes(*crc)).then_some(body));
    let body = body.ok_or("meta file fails its CRC32C")?;
    decode_body(&body[5..]).map_err(|e| format!("meta file: {e}"))
}

/// Reads a block's meta file.
pub(crate) fn read(disk: &Disk, block_dir: &Path) -> Result<MetaFile, String> {
    let bytes = disk
        .read(&block_dir.join(NAME))
        .map_err(|e| format!("meta file: {e}"))?;
    decode(&bytes)
}

fn decode_body(body: &[u8]) -> Result<MetaFile, Malformed> {
    let mut r = Reader::new(body);
    let bad = |r: &Reader, what| Malformed { at: r.position(), what };
    let signal = *Signal::ALL.get(usize::from(r.u8()?)).ok_or(bad(&r, "unknown signal"))?;
    let level = r.u8()?;
    r.u8()?;
    let id = BlockId(r.u64()?);
    let bytes = r.u64()?;
    let day = i32::try_from(r.iv()?).map_err(|_| bad(&r, "day out of range"))?;
    let (min, max) = (TimestampNs(r.iv()?), TimestampNs(r.iv()?));
    let (items, keys) = (r.uv()?, r.uv()?);
    let replaces = block_ids(&mut r)?;
    let dead = block_ids(&mut r)?;
    let checkpoint = match r.u8()? {
        0 => None,
        1 => Some(r.uv()?),
        _ => return Err(bad(&r, "bad checkpoint mark")),
    };
    if !r.is_empty() {
        return Err(bad(&r, "bytes after the checkpoint"));
    }
    Ok(MetaFile {
        meta: BlockMeta {
            id,
            signal,
            day: Day(day),
            min,
            max,
            level,
            items,
            keys,
            bytes,
            replaces,
        },
        dead,
        checkpoint,
    })
}

fn block_ids(r: &mut Reader) -> Result<Vec<BlockId>, Malformed> {
    let count = r.count(1)?;
    (0..count).map(|_| r.uv().map(BlockId)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn example() -> MetaFile {
        MetaFile {
            meta: BlockMeta {
                id: BlockId(0x0102_0304),
                signal: Signal::Logs,
                day: Day(20_000),
                min: TimestampNs(-1),
                max: TimestampNs(1_728_000_000_000_000_000),
                level: 2,
                items: 123_456,
                keys: 78,
                bytes: 9_999_999,
                replaces: vec![BlockId(5), BlockId(300)],
            },
            dead: vec![BlockId(4)],
            checkpoint: Some(77_000),
        }
    }

    #[test]
    fn golden_meta_v1() {
        crate::golden::check("meta_v1.bin", &encode(&example()));
        assert_eq!(decode(&crate::golden::read("meta_v1.bin")).unwrap(), example());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(&example());
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(decode(&bad).is_err(), "bit {at}");
        }
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn a_newer_version_says_so() {
        let mut bytes = encode(&example());
        bytes[4] = 2;
        assert!(
            decode(&bytes)
                .unwrap_err()
                .contains("version 2, this build reads up to 1")
        );
    }

    proptest! {
        /// Correct checksum, foreign content: whoever computes a CRC can still not make us panic.
        #[test]
        fn foreign_bytes_never_panic(tail in vec(any::<u8>(), 0..200)) {
            let mut bytes = [&b"TLBM\x01"[..], &tail].concat();
            let crc = crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = decode(&bytes);
        }
    }
}
