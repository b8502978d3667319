//! The table of a block's wide ids: each stands there once, however many chunks hold it.
//!
//! A request's trace id is logged by all services that it passes, so by streams whose chunks lie apart. Chunks name an
//! id by its place in the table, which rises with first use; neighbours in a chunk are mostly neighbours here.
//!
//! # Id file `ids`, version 1
//!
//! ```text
//! 0    header   = magic "TLLI" · version u8 = 1 · zero [3]
//! 8    page*    = id u128 [256] (the last page: as many as there are) · crc u32
//! ```
//!
//! Little-endian. A `crc` is the CRC32C of its page. Golden file: `testdata/ids_v1.bin`.

use std::path::Path;

use hashbrown::HashTable;
use storage_disk::{Disk, ReadFile};

use crate::BlockError;
use crate::block::{File, HEADER_BYTES, checked, corrupt, header, open_file, put_crc, read};
use crate::ids::{IdsIn, hash};

pub(crate) const IDS: &str = "ids";
pub(crate) const MAGIC_IDS: [u8; 4] = *b"TLLI";
const ID_BYTES: usize = 16;
const PAGE_IDS: usize = 256;
const PAGE_BYTES: usize = PAGE_IDS * ID_BYTES + 4;
/// Pages that are read at once; between two that are wanted, up to `PAGES_APART_MAX` are read in vain.
const PAGES_AT_ONCE: u64 = 16;
const PAGES_APART_MAX: u64 = 2;
/// Ids that are remembered while a block is written (about 24 bytes each). Of those beyond, each gets a place whenever it
/// comes. The first are the ones to keep: every stream begins with the same hours.
const REMEMBERED_MAX: usize = 2 << 20;

/// Writes the table of a block.
pub(crate) struct IdTableWriter {
    file: File,
    /// The ids that are remembered; each stands at its place.
    ids: Vec<u128>,
    known: HashTable<u32>,
    /// Places so far.
    places: u32,
    /// Those of the page that is being filled.
    page: Vec<u8>,
}

impl IdTableWriter {
    pub fn create(disk: &Disk, dir: &Path) -> Result<IdTableWriter, BlockError> {
        let mut file = File::create(disk, dir.join(IDS))?;
        file.put(|out| out.extend_from_slice(&header(MAGIC_IDS)))?;
        Ok(IdTableWriter {
            file,
            ids: Vec::new(),
            known: HashTable::new(),
            places: 0,
            page: Vec::new(),
        })
    }

    /// The place of an id, a new one if need be. `None`: there is no room.
    pub fn place(&mut self, id: u128) -> Result<Option<u32>, BlockError> {
        let hash = hash(id);
        let ids = &self.ids;
        if let Some(&at) = self.known.find(hash, |&i| ids[i as usize] == id) {
            return Ok(Some(at));
        }
        let place = self.places;
        let Some(places) = place.checked_add(1) else {
            return Ok(None);
        };
        self.places = places;
        if self.ids.len() < REMEMBERED_MAX {
            self.ids.push(id);
            let ids = &self.ids;
            self.known
                .insert_unique(hash, place, |&i| crate::ids::hash(ids[i as usize]));
        }
        self.page.extend_from_slice(&id.to_le_bytes());
        if self.page.len() == PAGE_IDS * ID_BYTES {
            self.close_page()?;
        }
        Ok(Some(place))
    }

    pub fn finish(mut self) -> Result<(), BlockError> {
        if !self.page.is_empty() {
            self.close_page()?;
        }
        self.file.drain()
    }

    fn close_page(&mut self) -> Result<(), BlockError> {
        put_crc(&mut self.page, 0);
        let page = &self.page;
        self.file.put(|out| out.extend_from_slice(page))?;
        self.page.clear();
        Ok(())
    }
}

/// The table of a block, open for reading.
pub(crate) struct IdTable {
    file: ReadFile,
}

impl IdTable {
    pub fn open(disk: &Disk, dir: &Path) -> Result<IdTable, BlockError> {
        let (file, _) = open_file(disk, dir.join(IDS), MAGIC_IDS)?;
        Ok(IdTable { file })
    }

    /// Looks up the ids of a chunk that stand here.
    pub fn look_up(&self, ids: &mut IdsIn) -> Result<(), BlockError> {
        let mut wanted = std::mem::take(&mut ids.shared);
        wanted.sort_unstable_by_key(|w| w.1);
        let page_of = |w: &(u32, u32)| u64::from(w.1) / PAGE_IDS as u64;
        let mut rest = &wanted[..];
        while let Some(first) = rest.first().map(page_of) {
            let mut end = first + 1;
            let mut taken = 0;
            for page in rest.iter().map(page_of) {
                if page > end + PAGES_APART_MAX || page >= first + PAGES_AT_ONCE {
                    break;
                }
                end = page + 1;
                taken += 1;
            }
            let (now, later) = rest.split_at(taken);
            let at = HEADER_BYTES as u64 + first * PAGE_BYTES as u64;
            let len = ((end - first) * PAGE_BYTES as u64).min(self.file.len().saturating_sub(at));
            let bytes = read(&self.file, at, len as usize)?;
            let mut page: (u64, &[u8]) = (u64::MAX, &[]);
            for w in now {
                let which = page_of(w);
                let start = (which - first) as usize * PAGE_BYTES;
                if page.0 != which {
                    let stored = bytes
                        .get(start..bytes.len().min(start + PAGE_BYTES))
                        .unwrap_or_default();
                    let ids = checked(stored).map_err(|e| corrupt(self.file.path(), at + start as u64, e.what))?;
                    page = (which, ids);
                }
                let place = w.1 as usize % PAGE_IDS;
                let id = page.1.get(place * ID_BYTES..(place + 1) * ID_BYTES);
                let id = id.and_then(|id| id.try_into().ok()).map(u128::from_le_bytes);
                let id = id.ok_or_else(|| corrupt(self.file.path(), at + start as u64, "the table has no such id"))?;
                ids.put_shared(w.0, id);
            }
            rest = later;
        }
        Ok(())
    }
}
