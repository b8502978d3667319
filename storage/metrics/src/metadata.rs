//! What is known of metric families: small, in memory, the last word wins.
//!
//! # Metadata file, version 1
//!
//! ```text
//! 0   header = magic "TLBM" · version u8 = 1 · zero [3]
//! 8   body   = count uv · family* (as in `record.rs`) · crc u32 of all before
//! ```
//!
//! The file is rewritten as a whole at a cut; what came since is in the WAL. Golden file: `testdata/metadata_v1.bin`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::MetricMetadata;
use parking_lot::RwLock;
use storage_codec::{Malformed, Reader, crc32c, put_uv};
use storage_disk::Disk;

use crate::BlockError;
use crate::block::io_error;
use crate::record::{get_metadata, put_metadata};

const FILE: &str = "metadata";
const HEADER: [u8; 8] = [b'T', b'L', b'B', b'M', 1, 0, 0, 0];
/// Families beyond this are not remembered.
const FAMILIES_MAX: usize = 100_000;
/// Help texts and units are cut to this many bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// Kind, unit and help by family.
pub(crate) struct Families {
    path: PathBuf,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    families: BTreeMap<String, MetricMetadata>,
    /// Whether the file lags behind.
    changed: bool,
}

impl Families {
    /// Reads the file in `dir`, if there is one. A damaged one is set aside in words: metadata comes again by itself.
    pub(crate) fn open(disk: &Disk, dir: &Path) -> Result<Families, BlockError> {
        let path = dir.join(FILE);
        let mut families = BTreeMap::new();
        if disk.exists(&path) {
            let bytes = disk.read(&path).map_err(|e| io_error(&path, e))?;
            if bytes.len() > 4 && bytes[..4] == HEADER[..4] && bytes[4] > HEADER[4] {
                let (found, newest) = (bytes[4], HEADER[4]);
                return Err(BlockError::TooNew { path, found, newest });
            }
            match decode(&bytes) {
                Ok(list) => families.extend(list),
                Err(bad) => {
                    tracing::warn!(path = %path.display(), %bad, "metadata of metric families is lost until it is sent again")
                }
            }
        }
        let state = RwLock::new(State {
            families,
            changed: false,
        });
        Ok(Families { path, state })
    }

    /// Those of `all` that say something new.
    pub(crate) fn news<'a>(&self, all: &'a [(String, MetricMetadata)]) -> Vec<&'a (String, MetricMetadata)> {
        if all.is_empty() {
            return Vec::new();
        }
        let state = self.state.read();
        let known = |family: &str, m: &MetricMetadata| match state.families.get(family) {
            Some(old) => old.kind == m.kind && old.unit == cut(&m.unit) && old.help == cut(&m.help),
            None => state.families.len() >= FAMILIES_MAX,
        };
        all.iter().filter(|(family, m)| !known(family, m)).collect()
    }

    /// Remembers one family.
    pub(crate) fn put(&self, family: &str, metadata: &MetricMetadata) {
        let mut state = self.state.write();
        if state.families.len() >= FAMILIES_MAX && !state.families.contains_key(family) {
            return;
        }
        let metadata = MetricMetadata {
            kind: metadata.kind,
            unit: cut(&metadata.unit).to_owned(),
            help: cut(&metadata.help).to_owned(),
        };
        state.changed |= state.families.get(family) != Some(&metadata);
        state.families.insert(family.to_owned(), metadata);
    }

    /// All families by name.
    pub(crate) fn all(&self) -> Vec<(String, MetricMetadata)> {
        let state = self.state.read();
        state.families.iter().map(|(f, m)| (f.clone(), m.clone())).collect()
    }

    /// Writes the file into another directory.
    pub(crate) fn save_in(&self, disk: &Disk, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(FILE);
        let bytes = encode(&self.state.read().families);
        disk.write_atomic(&path, &bytes).map_err(|e| io_error(&path, e))
    }

    /// Rewrites the file if it lags behind.
    pub(crate) fn save(&self, disk: &Disk) -> Result<(), BlockError> {
        let bytes = {
            let mut state = self.state.write();
            if !state.changed {
                return Ok(());
            }
            state.changed = false;
            encode(&state.families)
        };
        disk.write_atomic(&self.path, &bytes).map_err(|e| {
            self.state.write().changed = true;
            io_error(&self.path, e)
        })
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a text, whole characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn encode(families: &BTreeMap<String, MetricMetadata>) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    put_uv(&mut out, families.len() as u64);
    for (family, metadata) in families {
        put_metadata(&mut out, family, metadata);
    }
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<(String, MetricMetadata)>, Malformed> {
    let bad = |what| Malformed { at: 0, what };
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(bad("shorter than its checksum"))?;
    if crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(bad("fails its CRC32C"));
    }
    let body = body.strip_prefix(&HEADER).ok_or(bad("no metadata file"))?;
    let mut reader = Reader::new(body);
    let count = reader.count(4)?;
    (0..count).map(|_| get_metadata(&mut reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use model::MetricKind;
    use storage_disk::FaultyDisk;

    fn metadata(kind: MetricKind, help: &str) -> MetricMetadata {
        MetricMetadata {
            kind,
            unit: "seconds".into(),
            help: help.into(),
        }
    }

    #[test]
    fn golden_metadata_v1() {
        let disk = FaultyDisk::new().disk();
        let dir = Path::new("/m");
        disk.create_dir_all(dir).unwrap();
        let families = Families::open(&disk, dir).unwrap();
        families.put("up", &metadata(MetricKind::Gauge, "old words"));
        families.put("up", &metadata(MetricKind::Gauge, "1 = the target answers"));
        families.put("http_requests_total", &metadata(MetricKind::Counter, "Requests"));
        families.save(&disk).unwrap();
        let stored = golden("metadata_v1.bin", &disk.read(&dir.join(FILE)).unwrap());
        disk.write_atomic(&dir.join(FILE), &stored).unwrap();
        assert_eq!(Families::open(&disk, dir).unwrap().all(), families.all());

        let mut damaged = stored.clone();
        damaged[20] ^= 1;
        disk.write_atomic(&dir.join(FILE), &damaged).unwrap();
        assert!(Families::open(&disk, dir).unwrap().all().is_empty());
        disk.write_atomic(&dir.join(FILE), b"TLBM\x02").unwrap();
        assert!(matches!(
            Families::open(&disk, dir),
            Err(BlockError::TooNew { found: 2, .. })
        ));
    }

    #[test]
    fn only_news_are_written_and_long_texts_are_cut() {
        let disk = FaultyDisk::new().disk();
        disk.create_dir_all(Path::new("/m")).unwrap();
        let families = Families::open(&disk, Path::new("/m")).unwrap();
        let list = [("a".to_owned(), metadata(MetricKind::Gauge, &"é".repeat(TEXT_BYTES_MAX)))];
        assert_eq!(families.news(&list).len(), 1);
        families.put(&list[0].0, &list[0].1);
        assert!(families.news(&list).is_empty());
        assert_eq!(families.all()[0].1.help.len(), TEXT_BYTES_MAX);
    }
}
