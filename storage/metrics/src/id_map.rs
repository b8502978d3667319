//! A map from ids to small things. Ids are given one after the other, so neighbours share a page: what a replay touches
//! again and again lies close together, as no hash table would have it.

use std::collections::HashMap;

use rapidhash::fast::RandomState;

const PAGE_BITS: u32 = 6;
const PAGE: usize = 1 << PAGE_BITS;

/// From ids to `T`.
pub(crate) struct IdMap<T> {
    pages: HashMap<u32, Box<[Option<T>; PAGE]>, RandomState>,
}

impl<T> Default for IdMap<T> {
    fn default() -> IdMap<T> {
        IdMap {
            pages: HashMap::default(),
        }
    }
}

impl<T> IdMap<T> {
    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.pages.get(&(id >> PAGE_BITS))?[id as usize % PAGE].as_ref()
    }

    #[inline]
    pub(crate) fn insert(&mut self, id: u32, item: T) {
        let page = self.pages.entry(id >> PAGE_BITS);
        let page = page.or_insert_with(|| Box::new(std::array::from_fn(|_| None)));
        page[id as usize % PAGE] = Some(item);
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_has_a_place() {
        let mut map = IdMap::default();
        for id in [0, 1, 63, 64, 1 << 20, u32::MAX] {
            assert_eq!(map.get(id), None);
            map.insert(id, id);
            map.insert(id, id / 2);
        }
        assert_eq!(
            [0, 2, 63, 64, u32::MAX].map(|id| map.get(id).copied()),
            [Some(0), None, Some(31), Some(32), Some(u32::MAX / 2)]
        );
        map.clear();
        assert_eq!(map.get(0), None);
    }
}
