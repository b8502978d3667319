//! Tombstones: which samples of which blocks were deleted. A published block never changes, so a deletion is noted
//! beside it; readers leave out what it covers, compaction writes it no more, and a block that goes takes its
//! tombstones with it.
//!
//! A tombstone belongs to one block by id. What is stored later lies in later blocks, so a sample that is sent again
//! after it was deleted is seen, at whatever time it lies. To delete from the head, the engine cuts it first: then all
//! that was stored before the deletion is in blocks.
//!
//! # Tombstones file, version 1
//!
//! `tombstones` in the engine's directory, rewritten as a whole. Little-endian; `uv`/`iv` = LEB128, plain and zigzag.
//!
//! ```text
//! header   = magic "TLBT" · version u8 = 1 · zero [3]
//! blocks   = count uv · (block id uv · count uv · mask*)*        rising by block id
//!   mask   = first time ms iv · last time ms iv · ids (len uv · Roaring bitmap, portable format)
//! crc      = CRC32C of all before, u32
//! ```
//!
//! Blocks that the catalogue does not know are ignored: they were removed after the file was written. Golden file:
//! `testdata/tombstones_v1.bin`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use model::{BlockId, Matcher, ResetHint, Signal, TimeRangeMs, TimestampMs};
use parking_lot::{Mutex, MutexGuard};
use roaring::RoaringBitmap;
use storage_catalogue::BlockRef;
use storage_codec::{Malformed, Reader, crc32c, put_bytes, put_iv, put_uv};
use storage_disk::Disk;

use crate::block::{corrupt, io_error, range_of};
use crate::samples::Mark;
use crate::{BlockError, Metrics, Samples};

/// The file's name in the engine's directory.
pub(crate) const FILE: &str = "tombstones";
const MAGIC: [u8; 4] = *b"TLBT";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;
/// Masks of all blocks together; more deletions are refused until they are cleaned.
pub(crate) const MASKS_MAX: usize = 20_000;

/// Samples of one block that were deleted: those of `ids` in `range`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mask {
    pub(crate) range: TimeRangeMs,
    pub(crate) ids: RoaringBitmap,
}

/// The masks of each block that has any.
pub(crate) type Masks = BTreeMap<BlockId, Arc<[Mask]>>;

/// What was deleted and is still in blocks.
pub(crate) struct Tombstones {
    disk: Disk,
    path: PathBuf,
    current: ArcSwap<Masks>,
    changing: Mutex<()>,
}

/// While it is held no tombstone comes or goes.
pub(crate) struct Held<'a> {
    tombstones: &'a Tombstones,
    _changing: MutexGuard<'a, ()>,
}

impl Metrics {
    /// Deletes what is stored now of the series that pass any of the `selectors`, in `range` (none: nothing), with their
    /// exemplars. Readers see it gone when this returns, and so do those after a crash. The head is cut first if it
    /// holds any of it; what is appended later is seen, also at times in `range`. Returns the series that were touched;
    /// exact to a chunk.
    pub fn delete(&self, selectors: &[Vec<Matcher>], range: TimeRangeMs) -> Result<u64, BlockError> {
        if selectors.is_empty() || range.start > range.end {
            return Ok(0);
        }
        if self.snapshot(range).is_in_head(selectors, range)? {
            self.cut()?;
        }
        // A compaction that publishes waits meanwhile, so that it knows of this.
        let held = self.tombstones.hold();
        let mut touched = RoaringBitmap::new();
        let mut news = Vec::new();
        self.snapshot(range)
            .each_block_with(selectors, range, &mut |block, mut ids| {
                let whole = range_of(block.meta());
                let range = if range.start <= whole.start && range.end >= whole.end {
                    whole
                } else {
                    range
                };
                for mask in held.masks().get(&block.meta().id).into_iter().flat_map(|m| m.iter()) {
                    if mask.range.start <= range.start && mask.range.end >= range.end {
                        ids -= &mask.ids;
                    }
                }
                if !ids.is_empty() {
                    touched |= &ids;
                    news.push((block.meta().id, Mask { range, ids }));
                }
            })?;
        held.add(news)?;
        Ok(touched.len())
    }

    /// Writes the engine's files beside its blocks into another directory, and returns the blocks that belong to them.
    pub fn save_beside(&self, dir: &Path) -> Result<Vec<BlockRef>, BlockError> {
        self.families.save_in(&self.disk, dir)?;
        let held = self.tombstones.hold();
        let blocks = self.catalogue.blocks(Signal::Metrics, model::TimeRangeNs::ALL);
        let masks = held.masks();
        if !masks.is_empty() {
            let path = dir.join(FILE);
            self.disk
                .write_atomic(&path, &encode(&masks))
                .map_err(|e| io_error(&path, e))?;
        }
        Ok(blocks)
    }

    /// Rewrites the blocks that hold deleted samples without them; a block that held nothing else is dropped.
    pub fn clean_tombstones(&self) -> Result<(), BlockError> {
        let _one_at_a_time = self.compacting.lock();
        let blocks = self.catalogue.blocks(Signal::Metrics, model::TimeRangeNs::ALL);
        for block in blocks {
            if self.tombstones.masks().contains_key(&block.meta().id) {
                let level = block.meta().level;
                self.rewrite(&[block], level)?;
            }
        }
        self.forget_closed_blocks();
        Ok(())
    }
}

impl Tombstones {
    /// Reads the file in `dir`, if there is one, and forgets what belongs to none of `blocks`. A damaged file is an
    /// error: without it what was deleted would come back unseen.
    pub(crate) fn open(disk: &Disk, dir: &Path, blocks: &[BlockRef]) -> Result<Tombstones, BlockError> {
        let path = dir.join(FILE);
        let mut masks = Masks::new();
        if disk.exists(&path) {
            let bytes = disk.read(&path).map_err(|e| io_error(&path, e))?;
            masks = decode(&path, &bytes)?;
        }
        let tombstones = Tombstones {
            disk: disk.clone(),
            path,
            current: ArcSwap::from_pointee(masks),
            changing: Mutex::new(()),
        };
        // An id may be given again when the catalogue was lost: what belongs to no block must not wait for it.
        tombstones.retain(blocks)?;
        Ok(tombstones)
    }

    /// The masks now.
    pub(crate) fn masks(&self) -> Arc<Masks> {
        self.current.load_full()
    }

    pub(crate) fn hold(&self) -> Held<'_> {
        Held {
            tombstones: self,
            _changing: self.changing.lock(),
        }
    }

    /// Forgets all but those of `blocks`.
    pub(crate) fn retain(&self, blocks: &[BlockRef]) -> Result<(), BlockError> {
        if self.current.load().is_empty() {
            return Ok(());
        }
        let known: BTreeSet<BlockId> = blocks.iter().map(|block| block.meta().id).collect();
        let held = self.hold();
        let mut masks = Masks::clone(&held.masks());
        masks.retain(|id, _| known.contains(id));
        if masks.len() == held.masks().len() {
            return Ok(());
        }
        held.store(masks)
    }
}

impl Held<'_> {
    pub(crate) fn masks(&self) -> Arc<Masks> {
        self.tombstones.masks()
    }

    /// Adds masks, durably.
    pub(crate) fn add(&self, news: Vec<(BlockId, Mask)>) -> Result<(), BlockError> {
        if news.is_empty() {
            return Ok(());
        }
        let mut masks = Masks::clone(&self.masks());
        for (block, mask) in news {
            let mut list = masks.get(&block).map(|list| list.to_vec()).unwrap_or_default();
            match list.iter_mut().find(|old| old.range == mask.range) {
                Some(old) => old.ids |= mask.ids,
                None => list.push(mask),
            }
            masks.insert(block, list.into());
        }
        if masks.values().map(|list| list.len()).sum::<usize>() > MASKS_MAX {
            return Err(BlockError::TooManyTombstones { max: MASKS_MAX });
        }
        self.store(masks)
    }

    /// Lets `output`, written from `inputs` without what `applied` covers, inherit what was deleted from them since.
    pub(crate) fn inherit(&self, inputs: &[BlockRef], applied: &Masks, output: BlockId) -> Result<(), BlockError> {
        let now = self.masks();
        let mut news = Vec::new();
        for id in inputs.iter().map(|block| block.meta().id) {
            let before = applied.get(&id).map_or(&[][..], |list| list);
            for mask in now.get(&id).into_iter().flat_map(|list| list.iter()) {
                let mut ids = mask.ids.clone();
                for old in before.iter().filter(|old| old.range == mask.range) {
                    ids -= &old.ids;
                }
                if !ids.is_empty() {
                    let range = mask.range;
                    news.push((output, Mask { range, ids }));
                }
            }
        }
        self.add(news)
    }

    fn store(&self, masks: Masks) -> Result<(), BlockError> {
        let Tombstones { disk, path, .. } = self.tombstones;
        disk.write_atomic(path, &encode(&masks))
            .map_err(|e| io_error(path, e))?;
        self.tombstones.current.store(Arc::new(masks));
        Ok(())
    }
}

/// Whether all of `[min, max]` of the series is covered by one of the masks.
pub(crate) fn covers(masks: &[Mask], id: u32, min: i64, max: i64) -> bool {
    masks
        .iter()
        .any(|mask| mask.range.start.0 <= min && max <= mask.range.end.0 && mask.ids.contains(id))
}

/// Whether a sample of the series at `t` is covered.
pub(crate) fn covers_at(masks: &[Mask], id: u32, t: TimestampMs) -> bool {
    covers(masks, id, t.0, t.0)
}

/// Removes what masks cover of a series from the rising runs of `out` that begin at `base`.
pub(crate) fn remove(masks: &[Mask], id: u32, out: &mut Samples, base: Mark) {
    for mask in masks.iter().filter(|mask| mask.ids.contains(id)) {
        let within = |t: &[i64], base: usize| {
            let start = base + t[base..].partition_point(|&t| t < mask.range.start.0);
            let end = start + t[start..].partition_point(|&t| t <= mask.range.end.0);
            start..end
        };
        let floats = within(&out.t, base.floats);
        if !floats.is_empty() {
            out.t.drain(floats.clone());
            out.v.drain(floats.clone());
            if !out.start.is_empty() {
                out.start.drain(floats);
            }
        }
        let list = &mut out.histograms;
        let gone = within(&list.t, base.histograms);
        if !gone.is_empty() {
            list.t.drain(gone.clone());
            list.h.drain(gone.clone());
            if !list.start.is_empty() {
                list.start.drain(gone.clone());
            }
            // What was known of a reset was known against one that is gone.
            if let Some(next) = list.h.get_mut(gone.start)
                && next.reset == ResetHint::NotReset
            {
                Arc::make_mut(next).reset = ResetHint::Unknown;
            }
        }
    }
}

pub(crate) fn encode(masks: &Masks) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[VERSION, 0, 0, 0]);
    put_uv(&mut out, masks.len() as u64);
    for (block, list) in masks {
        put_uv(&mut out, block.0);
        put_uv(&mut out, list.len() as u64);
        for Mask { range, ids } in list.iter() {
            put_iv(&mut out, range.start.0);
            put_iv(&mut out, range.end.0);
            let mut bitmap = Vec::with_capacity(ids.serialized_size());
            // Writing into memory does not fail.
            let _ = ids.serialize_into(&mut bitmap);
            put_bytes(&mut out, &bitmap);
        }
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Masks, BlockError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(path, 0, "shorter than a header"));
    };
    if header[..4] != MAGIC {
        let found = [header[0], header[1], header[2], header[3]];
        return Err(BlockError::Foreign {
            path: path.to_owned(),
            found,
        });
    }
    if header[4] > VERSION {
        return Err(BlockError::TooNew {
            path: path.to_owned(),
            found: header[4],
            newest: VERSION,
        });
    }
    let body = bytes
        .split_last_chunk::<4>()
        .and_then(|(body, crc)| (crc32c(body) == u32::from_le_bytes(*crc)).then_some(body));
    let body = body.and_then(|body| body.get(HEADER_BYTES..));
    let body = body.ok_or_else(|| corrupt(path, 0, "fails its CRC32C"))?;
    decode_body(body).map_err(|bad| corrupt(path, (HEADER_BYTES + bad.at) as u64, bad.what))
}

fn decode_body(body: &[u8]) -> Result<Masks, Malformed> {
    let mut reader = Reader::new(body);
    let mut masks = Masks::new();
    for _ in 0..reader.count(2)? {
        let block = BlockId(reader.uv()?);
        let count = reader.count(3)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            let range = TimeRangeMs {
                start: TimestampMs(reader.iv()?),
                end: TimestampMs(reader.iv()?),
            };
            let at = reader.position();
            let ids = RoaringBitmap::deserialize_from(reader.bytes()?).map_err(|_| Malformed {
                at,
                what: "a bitmap is malformed",
            })?;
            list.push(Mask { range, ids });
        }
        masks.insert(block, list.into());
    }
    Ok(masks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use model::Histogram;
    use proptest::prelude::*;

    fn mask(start: i64, end: i64, ids: &[u32]) -> Mask {
        let range = TimeRangeMs {
            start: TimestampMs(start),
            end: TimestampMs(end),
        };
        Mask {
            range,
            ids: ids.iter().copied().collect(),
        }
    }

    #[test]
    fn golden_tombstones_v1() {
        let masks = Masks::from([
            (BlockId(3), vec![mask(-5, 1_700_000_000_000, &[1, 2, 70_000])].into()),
            (
                BlockId(300),
                vec![mask(0, 0, &[7]), mask(i64::MIN, i64::MAX, &[8])].into(),
            ),
        ]);
        let path = Path::new("/t");
        let stored = golden("tombstones_v1.bin", &encode(&masks));
        assert_eq!(decode(path, &stored).unwrap(), masks);
        for at in 0..stored.len() {
            let mut bad = stored.clone();
            bad[at] ^= 0x20;
            // Three bytes of the header mean nothing, and are covered by the checksum.
            assert!(decode(path, &bad).is_err(), "byte {at}");
            assert!(decode(path, &stored[..at]).is_err(), "cut to {at}");
        }
        let mut newer = stored.clone();
        newer[4] = 2;
        let said = decode(path, &newer).unwrap_err().to_string();
        assert!(said.contains("format version 2, this build reads up to 1"), "{said}");
    }

    proptest! {
        /// Correct checksum, foreign content.
        #[test]
        fn garbage_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = [&b"TLBT\x01\0\0\0"[..], &tail].concat();
            let crc = crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            let _ = decode(Path::new("/t"), &bytes);
        }
    }

    #[test]
    fn covered_samples_leave_every_column() {
        let mut out = Samples {
            t: vec![9, 1, 2, 3, 4],
            v: vec![0.0, 1.0, 2.0, 3.0, 4.0],
            start: vec![0, 10, 20, 30, 40],
            ..Samples::default()
        };
        let histogram = |count| {
            Arc::new(Histogram {
                reset: ResetHint::NotReset,
                schema: 0,
                zero_threshold: 0.0,
                zero_count: count,
                count,
                sum: 0.0,
                positive: model::Buckets::default(),
                negative: model::Buckets::default(),
                bounds: Arc::new([]),
            })
        };
        out.histograms.t = vec![5, 6, 7];
        out.histograms.h = vec![histogram(1.0), histogram(2.0), histogram(3.0)];
        let masks = [mask(2, 3, &[1]), mask(6, 6, &[1]), mask(0, 100, &[2])];
        let base = Mark {
            floats: 1,
            histograms: 0,
        };
        remove(&masks, 1, &mut out, base);
        assert_eq!((&out.t[..], &out.v[..]), (&[9, 1, 4][..], &[0.0, 1.0, 4.0][..]));
        assert_eq!(out.start, [0, 10, 40]);
        assert_eq!(out.histograms.t, [5, 7]);
        assert_eq!(out.histograms.h[0].reset, ResetHint::NotReset);
        assert_eq!(out.histograms.h[1].reset, ResetHint::Unknown);
        assert!(covers(&masks, 1, 2, 3) && !covers(&masks, 1, 2, 4) && !covers(&masks, 3, 2, 3));
    }
}
