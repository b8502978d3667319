//! Sets of ids as RocksDB holds them, and the merge operator that unites them.
//!
//! # Id list (a value in the `post` and `hash` families, and every merge operand)
//!
//! ```text
//! few   = tag u8 0 · (id u32)*            little-endian; rising in stored values, any order in operands
//! many  = tag u8 1 · Roaring bitmap       the portable serialisation, run-optimised
//! ```
//!
//! Both forms are legal everywhere, so that full and partial merges are one function. Derived data: a build that
//! changes this raises `database::FORMAT`, and the database is rebuilt.

use roaring::RoaringBitmap;

const FEW: u8 = 0;
const MANY: u8 = 1;

/// Up to this many ids are stored plain: a bitmap of one container costs 16 bytes before its first id.
const FEW_MAX: u64 = 12;

/// A merge operand that adds `ids`.
pub(crate) fn operand(ids: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + ids.len() * 4);
    out.push(FEW);
    for id in ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

/// The stored form of a set.
pub(crate) fn encode(mut set: RoaringBitmap) -> Vec<u8> {
    if set.len() <= FEW_MAX {
        let mut out = Vec::with_capacity(1 + set.len() as usize * 4);
        out.push(FEW);
        for id in &set {
            out.extend_from_slice(&id.to_le_bytes());
        }
        return out;
    }
    set.optimize();
    let mut out = Vec::with_capacity(1 + set.serialized_size());
    out.push(MANY);
    // Writing to a Vec cannot fail.
    let _ = set.serialize_into(&mut out);
    out
}

/// Adds what `bytes` holds to `into`; `None` if they are malformed.
pub(crate) fn add_to(into: &mut RoaringBitmap, bytes: &[u8]) -> Option<()> {
    let (tag, rest) = bytes.split_first()?;
    match *tag {
        FEW => {
            let (ids, odd) = rest.as_chunks::<4>();
            if !odd.is_empty() {
                return None;
            }
            into.extend(ids.iter().map(|id| u32::from_le_bytes(*id)));
        }
        MANY => {
            let set = RoaringBitmap::deserialize_from(rest).ok()?;
            if into.is_empty() {
                *into = set;
            } else {
                *into |= set;
            }
        }
        _ => return None,
    }
    Some(())
}

/// RocksDB's merge: the union of what is there and all operands. `None` (malformed bytes) makes the read or the
/// compaction fail with a corruption error.
pub(crate) fn union<'a>(existing: Option<&'a [u8]>, operands: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut set = RoaringBitmap::new();
    let mut loose: Vec<u32> = Vec::new();
    for bytes in existing.into_iter().chain(operands) {
        match bytes.split_first()? {
            (&FEW, rest) => {
                let (ids, odd) = rest.as_chunks::<4>();
                if !odd.is_empty() {
                    return None;
                }
                loose.extend(ids.iter().map(|id| u32::from_le_bytes(*id)));
            }
            _ => add_to(&mut set, bytes)?,
        }
    }
    loose.sort_unstable();
    loose.dedup();
    if set.is_empty() {
        set = RoaringBitmap::from_sorted_iter(loose).ok()?;
    } else {
        set.extend(loose);
    }
    Some(encode(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<RoaringBitmap> {
        let mut set = RoaringBitmap::new();
        add_to(&mut set, bytes).map(|()| set)
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [&[][..], &[9], &[0, 1, 2, 3], &[1], &[1, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(read(bytes), None, "{bytes:?}");
            assert_eq!(union(Some(bytes), std::iter::empty()), None, "{bytes:?}");
        }
    }

    proptest! {
        /// Merging in any grouping gives the union, because RocksDB groups operands as it likes.
        #[test]
        fn merging_is_associative(lists in vec(vec(0u32..3000, 0..40), 1..8), split in 0usize..8) {
            let all: RoaringBitmap = lists.iter().flatten().copied().collect();
            let operands: Vec<Vec<u8>> = lists.iter().map(|l| operand(l)).collect();
            let (a, b) = operands.split_at(split.min(operands.len()));
            let at_once = union(None, operands.iter().map(|o| &o[..])).unwrap();
            let left = union(None, a.iter().map(|o| &o[..])).unwrap();
            let in_two = union(Some(&left), b.iter().map(|o| &o[..])).unwrap();
            prop_assert_eq!(read(&at_once).unwrap(), all.clone());
            prop_assert_eq!(read(&in_two).unwrap(), all);
            prop_assert_eq!(at_once, in_two);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = union(Some(&bytes), std::iter::empty());
        }
    }
}
