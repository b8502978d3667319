//! zstd frames that carry their own size, expanded within a bound.
//!
//! Contexts are kept per thread: making one costs more than compressing a small chunk does.

use std::cell::RefCell;
use std::io::{Cursor, Read};
use std::ops::Range;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::Malformed;

/// Appends `bytes` to `out` as one zstd frame; says where it stands.
pub fn zstd_frame(out: &mut Vec<u8>, bytes: &[u8], level: i32) -> Range<usize> {
    let start = out.len();
    out.reserve(zstd_safe::compress_bound(bytes.len()));
    let mut end = Cursor::new(std::mem::take(out));
    end.set_position(start as u64);
    COMPRESSORS.with_borrow_mut(|known| {
        let at = known.iter().position(|(l, _)| *l == level).unwrap_or_else(|| {
            known.truncate(LEVELS_KEPT - 1);
            known.push((level, Compressor::new(level).expect("a zstd context can be allocated")));
            known.len() - 1
        });
        known[at]
            .1
            .compress_to_buffer(bytes, &mut end)
            .expect("the buffer has zstd's own upper bound");
    });
    *out = end.into_inner();
    start..out.len()
}

/// Expands one zstd frame into `out` (cleared first), refusing more than `bytes_max`. On an error `out` is empty.
pub fn unzstd_frame(frame: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Malformed> {
    out.clear();
    let expanded = expand(frame, out, bytes_max);
    if expanded.is_err() {
        out.clear();
    }
    expanded
}

/// Contexts for this many levels are kept by each thread.
const LEVELS_KEPT: usize = 3;

thread_local! {
    static COMPRESSORS: RefCell<Vec<(i32, Compressor<'static>)>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

const DAMAGED: Malformed = Malformed {
    at: 0,
    what: "not a whole zstd frame",
};
const TOO_LARGE: Malformed = Malformed {
    at: 0,
    what: "a zstd frame expands to more than is allowed here",
};

fn expand(frame: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Malformed> {
    if zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(DAMAGED);
    }
    let declared = zstd_safe::get_frame_content_size(frame).map_err(|_| DAMAGED)?;
    let Some(declared) = declared else {
        return expand_unsized(frame, out, bytes_max);
    };
    let len = usize::try_from(declared)
        .ok()
        .filter(|&len| len <= bytes_max)
        .ok_or(TOO_LARGE)?;
    out.reserve(len);
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new().map_err(|_| DAMAGED)?),
        };
        decompressor.decompress_to_buffer(frame, out).map_err(|_| DAMAGED)
    })?;
    if out.len() == len { Ok(()) } else { Err(DAMAGED) }
}

/// Streams never know their size in advance; ours do, so this serves frames made elsewhere.
fn expand_unsized(frame: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Malformed> {
    let decoder = zstd::stream::read::Decoder::with_buffer(frame).map_err(|_| DAMAGED)?;
    let bound = (bytes_max as u64).saturating_add(1);
    decoder
        .single_frame()
        .take(bound)
        .read_to_end(out)
        .map_err(|_| DAMAGED)?;
    if out.len() <= bytes_max { Ok(()) } else { Err(TOO_LARGE) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bomb_is_refused_before_it_is_expanded() {
        let mut frame = Vec::new();
        zstd_frame(&mut frame, &vec![0; 10 << 20], 3);
        assert!(frame.len() < 2000);
        let mut out = Vec::new();
        assert_eq!(unzstd_frame(&frame, &mut out, (10 << 20) - 1), Err(TOO_LARGE));
        assert_eq!(out.capacity(), 0);
        assert_eq!(unzstd_frame(&frame, &mut out, 10 << 20), Ok(()));
        assert_eq!(out.len(), 10 << 20);
    }

    #[test]
    fn a_frame_without_a_size_is_bounded_too() {
        let frame = zstd::stream::encode_all(&[7; 100_000][..], 1).unwrap();
        let mut out = Vec::new();
        assert_eq!(unzstd_frame(&frame, &mut out, 99_999), Err(TOO_LARGE));
        assert!(out.is_empty());
        assert_eq!(unzstd_frame(&frame, &mut out, 100_000), Ok(()));
        assert_eq!(out, [7; 100_000]);
    }

    #[test]
    fn two_frames_are_not_one() {
        let mut frames = Vec::new();
        let first = zstd_frame(&mut frames, b"first", 1);
        let second = zstd_frame(&mut frames, b"second", 1);
        let mut out = Vec::new();
        assert_eq!(unzstd_frame(&frames, &mut out, 100), Err(DAMAGED));
        unzstd_frame(&frames[first], &mut out, 100).unwrap();
        assert_eq!(out, b"first");
        unzstd_frame(&frames[second], &mut out, 100).unwrap();
        assert_eq!(out, b"second");
    }

    proptest! {
        /// Whatever the level and whatever stands before, a frame expands to what went in.
        #[test]
        fn frames_come_back(bytes in vec(0u8..4, 0..5000), before in vec(any::<u8>(), 0..10), level in 1..5) {
            let mut out = before.clone();
            let place = zstd_frame(&mut out, &bytes, level);
            prop_assert_eq!(&out[..place.start], &before[..]);
            prop_assert_eq!(place.end, out.len());
            let mut expanded = vec![9; 3];
            unzstd_frame(&out[place], &mut expanded, bytes.len())?;
            prop_assert_eq!(expanded, bytes);
        }

        /// Damage is an error or other bytes within the bound, never a panic or more memory.
        #[test]
        fn damage_is_survived(bytes in vec(0u8..4, 1..500), at in any::<proptest::sample::Index>(), flip in 1u8..) {
            let mut frame = Vec::new();
            zstd_frame(&mut frame, &bytes, 1);
            let cut = at.index(frame.len());
            let mut out = Vec::new();
            prop_assert!(unzstd_frame(&frame[..cut], &mut out, 1000).is_err());
            frame[cut] ^= flip;
            let _ = unzstd_frame(&frame, &mut out, 1000);
            prop_assert!(out.len() <= 1000);
        }
    }
}
