//! Ids in text: trace ids, span ids and UUIDs are cut out of lines and metadata and kept in binary.
//!
//! They are most of what a compressor cannot shorten, and half of their digits are waste. A mark takes the place of an
//! id in the text; the ids follow in order of the marks. A *wide* id has 16 bytes: 32 hexadecimal digits, or a UUID. A
//! *narrow* one has 8: 16 hexadecimal digits, at least one of them a letter, so that numbers stay text. Only lower-case
//! digits count, with neither letter nor digit on either side.
//!
//! # Ids of a chunk, version 1
//!
//! ```text
//! id codes  = wide ids uv · narrow ids uv · wide codes uv · source iv* · wide code uv* · narrow code uv*
//! id bytes  = (id u128)* · (id u64)*
//! ```
//!
//! Each id stands once, in the order of first use; each mark has a code: 0 = the next id not used so far, 1 + n = id n.
//! The *source* of a wide id is 0 if its bytes are in this chunk, else it stands in the block's table of ids (see
//! `id_table.rs`) and the source is its place there, less the place of the one before (the first: less 0), and one more
//! unless that is negative.

use hashbrown::HashTable;
use storage_codec::{Malformed, Reader, put_iv, put_uv};

use crate::needle_filter::Runs;

/// What takes the place of an id; none of them can stand in UTF-8.
const MARK_WIDE: u8 = 0xff;
const MARK_UUID: u8 = 0xfe;
const MARK_NARROW: u8 = 0xfd;

const UUID_BYTES: usize = 36;
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The ids of a chunk that is being encoded.
#[derive(Default)]
pub(crate) struct IdsOut {
    wide: Distinct,
    narrow: Distinct,
}

/// Ids in the order of first use, and a code for each mark.
#[derive(Default)]
struct Distinct {
    ids: Vec<u128>,
    known: HashTable<u32>,
    marks: u64,
    codes: Vec<u8>,
}

/// The ids of a chunk that is being decoded, and which of them comes next.
#[derive(Debug, Default)]
pub(crate) struct IdsIn {
    wide: Vec<u128>,
    narrow: Vec<u64>,
    wide_codes: Vec<u32>,
    narrow_codes: Vec<u32>,
    /// Wide ids that stand in the block's table: where in `wide`, and where there.
    pub shared: Vec<(u32, u32)>,
}

/// Copies `text`, whose runs are known, to `out` with marks for its ids. False, and `out` is as it was, if there are none.
pub(crate) fn cut_out(text: &[u8], runs: &Runs, ids: &mut IdsOut, out: &mut Vec<u8>) -> bool {
    let mut copied = 0;
    for run in runs.iter() {
        let mut at = run.start;
        while at < run.end {
            let word = memchr::memchr(b'-', &text[at..run.end]).unwrap_or(run.end - at);
            let (len, mark) = match word {
                32 => match hex(&text[at..at + 32]) {
                    Some(id) => (32, ids.wide.mark(id, MARK_WIDE)),
                    None => (32, None),
                },
                16 => match hex(&text[at..at + 16]) {
                    Some(id) if text[at..at + 16].iter().any(u8::is_ascii_alphabetic) => {
                        (16, ids.narrow.mark(id, MARK_NARROW))
                    }
                    _ => (16, None),
                },
                8 => match uuid(&text[at..run.end]) {
                    Some(id) => (UUID_BYTES, ids.wide.mark(id, MARK_UUID)),
                    None => (8, None),
                },
                other => (other, None),
            };
            if let Some(mark) = mark {
                out.extend_from_slice(&text[copied..at]);
                out.push(mark);
                copied = at + len;
            }
            at += len + 1;
        }
    }
    if copied > 0 {
        out.extend_from_slice(&text[copied..]);
    }
    copied > 0
}

/// How many bytes a byte of text with marks stands for.
pub(crate) fn bytes_marked(byte: u8) -> usize {
    match byte {
        MARK_WIDE => 32,
        MARK_UUID => UUID_BYTES,
        MARK_NARROW => 16,
        _ => 1,
    }
}

/// Copies `text` to `out` with ids in place of their marks. More than `bytes_max` is refused.
pub(crate) fn put_back(
    text: &[u8],
    marks: &mut Marks<'_>,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Malformed> {
    let end = out.len().saturating_add(bytes_max);
    let mut copied = 0;
    for at in memchr::memchr3_iter(MARK_WIDE, MARK_UUID, MARK_NARROW, text) {
        out.extend_from_slice(&text[copied..at]);
        copied = at + 1;
        if out.len() > end {
            break;
        }
        match text[at] {
            MARK_NARROW => {
                let digits = digits(u128::from(marks.narrow()?) << 64);
                out.extend_from_slice(&digits[..16]);
            }
            MARK_WIDE => out.extend_from_slice(&digits(marks.wide()?)),
            _ => {
                let digits = digits(marks.wide()?);
                let mut from = 0;
                for (i, len) in [8, 4, 4, 4, 12].into_iter().enumerate() {
                    if i > 0 {
                        out.push(b'-');
                    }
                    out.extend_from_slice(&digits[from..from + len]);
                    from += len;
                }
            }
        }
    }
    if out.len() <= end {
        out.extend_from_slice(&text[copied..]);
    }
    if out.len() > end {
        return Err(bad(0, "more text than the chunk's record says"));
    }
    Ok(())
}

impl IdsOut {
    pub fn clear(&mut self) {
        self.wide.clear();
        self.narrow.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.wide.ids.is_empty() && self.narrow.ids.is_empty()
    }

    /// Appends codes and bytes, all wide ids in place.
    pub fn put(&self, codes: &mut Vec<u8>, bytes: &mut Vec<u8>) {
        put_uv(codes, self.wide.ids.len() as u64);
        put_uv(codes, self.narrow.ids.len() as u64);
        put_uv(codes, self.wide.marks);
        codes.resize(codes.len() + self.wide.ids.len(), 0);
        codes.extend_from_slice(&self.wide.codes);
        codes.extend_from_slice(&self.narrow.codes);
        bytes.extend(self.wide.ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.narrow.ids.iter().flat_map(|id| (*id as u64).to_le_bytes()));
    }
}

impl Distinct {
    fn mark(&mut self, id: u128, mark: u8) -> Option<u8> {
        self.marks += 1;
        let hash = hash(id);
        let ids = &mut self.ids;
        match self.known.find(hash, |&i| ids[i as usize] == id) {
            Some(&i) => put_uv(&mut self.codes, u64::from(i) + 1),
            None => {
                ids.push(id);
                self.codes.push(0);
                self.known
                    .insert_unique(hash, ids.len() as u32 - 1, |&i| self::hash(ids[i as usize]));
            }
        }
        Some(mark)
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.known.clear();
        self.marks = 0;
        self.codes.clear();
    }
}

/// Hash of an id for tables in memory.
pub(crate) fn hash(id: u128) -> u64 {
    let h = ((id >> 64) as u64 ^ id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 32)
}

impl IdsIn {
    /// Reads the ids of a chunk; those in `shared` are still to be looked up, with [`IdsIn::put_shared`].
    pub fn read(codes: &[u8], bytes: &[u8]) -> Result<IdsIn, Malformed> {
        let mut r = Reader::new(codes);
        let mut ids = IdsIn::default();
        let wide = r.count(1)?;
        let narrow = usize::try_from(r.uv()?).ok().filter(|&n| n <= bytes.len() / 8);
        let narrow = narrow.ok_or(bad(0, "more ids than bytes"))?;
        let marks = usize::try_from(r.uv()?).ok().filter(|&n| n <= codes.len());
        let marks = marks.ok_or(bad(0, "more marks than codes"))?;
        let mut b = Reader::new(bytes);
        let mut place = 0i64;
        for i in 0..wide {
            let source = r.iv()?;
            if source == 0 {
                let low = b.u64()?;
                ids.wide.push(u128::from(b.u64()?) << 64 | u128::from(low));
                continue;
            }
            place = place.wrapping_add(source - i64::from(source > 0));
            let known = u32::try_from(place).map_err(|_| bad(r.position(), "no such place among the block's ids"))?;
            ids.shared.push((i as u32, known));
            ids.wide.push(0);
        }
        for _ in 0..narrow {
            ids.narrow.push(b.u64()?);
        }
        if !b.is_empty() {
            return Err(bad(b.position(), "more bytes than ids"));
        }
        let code = |r: &mut Reader<'_>, used: &mut usize, ids: usize| {
            let i = match r.uv()? {
                0 => *used,
                n => usize::try_from(n - 1).unwrap_or(usize::MAX),
            };
            *used = (*used).max(i.saturating_add(1));
            if i >= ids {
                return Err(bad(r.position(), "unknown id"));
            }
            Ok(i as u32)
        };
        let mut used = 0;
        for _ in 0..marks {
            ids.wide_codes.push(code(&mut r, &mut used, wide)?);
        }
        used = 0;
        while !r.is_empty() {
            ids.narrow_codes.push(code(&mut r, &mut used, narrow)?);
        }
        Ok(ids)
    }

    /// Tells a shared id.
    pub fn put_shared(&mut self, at: u32, id: u128) {
        if let Some(place) = self.wide.get_mut(at as usize) {
            *place = id;
        }
    }

    pub fn marks(&self) -> Marks<'_> {
        Marks {
            ids: self,
            wide: 0,
            narrow: 0,
        }
    }
}

/// The ids of a chunk, mark by mark.
pub(crate) struct Marks<'a> {
    ids: &'a IdsIn,
    wide: usize,
    narrow: usize,
}

impl Marks<'_> {
    fn wide(&mut self) -> Result<u128, Malformed> {
        let code = self.ids.wide_codes.get(self.wide);
        self.wide += 1;
        let id = code.and_then(|&i| self.ids.wide.get(i as usize));
        id.copied().ok_or(bad(0, "more marks than ids"))
    }

    fn narrow(&mut self) -> Result<u64, Malformed> {
        let code = self.ids.narrow_codes.get(self.narrow);
        self.narrow += 1;
        let id = code.and_then(|&i| self.ids.narrow.get(i as usize));
        id.copied().ok_or(bad(0, "more marks than ids"))
    }

    /// Passes by the marks of `text`.
    pub fn pass(&mut self, text: &[u8]) {
        if self.done() {
            return;
        }
        let count = |mark| memchr::memchr_iter(mark, text).count();
        self.wide += count(MARK_WIDE) + count(MARK_UUID);
        self.narrow += count(MARK_NARROW);
    }

    /// Whether all marks have been seen.
    pub fn done(&self) -> bool {
        self.wide == self.ids.wide_codes.len() && self.narrow == self.ids.narrow_codes.len()
    }
}

/// Rewrites codes and bytes of a chunk whose wide ids are all in place so that they stand in the block's table, where
/// `place` says; those that it does not place stay.
pub(crate) fn share(
    codes: &[u8],
    bytes: &[u8],
    mut place: impl FnMut(u128) -> Option<u32>,
    codes_out: &mut Vec<u8>,
    bytes_out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut r = Reader::new(codes);
    let wide = r.count(1)?;
    put_uv(codes_out, wide as u64);
    put_uv(codes_out, r.uv()?);
    put_uv(codes_out, r.uv()?);
    let mut b = Reader::new(bytes);
    let mut before = 0i64;
    for _ in 0..wide {
        if r.uv()? != 0 {
            return Err(bad(r.position(), "an id is shared already"));
        }
        let id = b.take(16)?;
        match place(u128::from_le_bytes(id.try_into().map_err(|_| bad(0, "short id"))?)) {
            Some(place) => {
                let step = i64::from(place) - before;
                put_iv(codes_out, step + i64::from(step >= 0));
                before = i64::from(place);
            }
            None => {
                codes_out.push(0);
                bytes_out.extend_from_slice(id);
            }
        }
    }
    codes_out.extend_from_slice(r.remaining());
    bytes_out.extend_from_slice(b.remaining());
    Ok(())
}

fn bad(at: usize, what: &'static str) -> Malformed {
    Malformed { at, what }
}

/// The number that lower-case hexadecimal digits tell, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    let mut id = 0;
    let mut seen = 0;
    for half in digits.chunks(16) {
        let mut part = 0u64;
        for &digit in half {
            let value = VALUES[digit as usize];
            seen |= value;
            part = part << 4 | u64::from(value & 15);
        }
        id = id << (4 * half.len()) | u128::from(part);
    }
    (seen < 16).then_some(id)
}

/// The UUID that `text` begins with, if no letter or digit follows it.
fn uuid(text: &[u8]) -> Option<u128> {
    if text.len() < UUID_BYTES || UUID_HYPHENS.iter().any(|&i| text[i] != b'-') {
        return None;
    }
    if text.get(UUID_BYTES).is_some_and(|b| *b != b'-') {
        return None;
    }
    let mut id = 0;
    for part in [0..8, 9..13, 14..18, 19..23, 24..36] {
        id = id << (4 * part.len()) | hex(&text[part])?;
    }
    Some(id)
}

fn digits(id: u128) -> [u8; 32] {
    let mut out = [0; 32];
    for (pair, byte) in out.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair.copy_from_slice(&PAIRS[byte as usize]);
    }
    out
}

/// Values of digits; other bytes have 16.
const VALUES: [u8; 256] = {
    let mut values = [16; 256];
    let mut i = 0;
    while i < 16 {
        values[b"0123456789abcdef"[i] as usize] = i as u8;
        i += 1;
    }
    values
};

const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        pairs[i] = [b"0123456789abcdef"[i >> 4], b"0123456789abcdef"[i & 15]];
        i += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cuts the ids out of both texts, shares some of them, and puts all back. Says how many ids were shared and kept.
    fn round_trip(texts: [&str; 2], shared: impl Fn(u128) -> bool) -> (usize, usize) {
        let mut ids = IdsOut::default();
        let cut: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| {
                let mut out = Vec::new();
                let mut runs = Runs::default();
                runs.find(text.as_bytes());
                let any = cut_out(text.as_bytes(), &runs, &mut ids, &mut out);
                if any { out } else { text.as_bytes().to_vec() }
            })
            .collect();
        let (mut codes, mut bytes) = (Vec::new(), Vec::new());
        ids.put(&mut codes, &mut bytes);
        let mut table = Vec::new();
        let (mut codes2, mut bytes2) = (Vec::new(), Vec::new());
        let place = |id| {
            shared(id).then(|| {
                table.push(id);
                table.len() as u32 - 1
            })
        };
        share(&codes, &bytes, place, &mut codes2, &mut bytes2).unwrap();
        for (codes, bytes) in [(&codes, &bytes), (&codes2, &bytes2)] {
            let mut ids = IdsIn::read(codes, bytes).unwrap();
            for (at, place) in ids.shared.clone() {
                ids.put_shared(at, table[place as usize]);
            }
            let mut marks = ids.marks();
            for (cut, text) in cut.iter().zip(texts) {
                let mut out = Vec::new();
                put_back(cut, &mut marks, &mut out, text.len()).unwrap();
                assert_eq!(std::str::from_utf8(&out).unwrap(), text);
            }
            assert!(marks.done());
        }
        (table.len(), ids.wide.ids.len() + ids.narrow.ids.len() - table.len())
    }

    #[test]
    fn what_is_an_id() {
        let check = |text: &str, ids: usize| assert_eq!(round_trip([text, ""], |_| false).1, ids, "{text}");
        check("trace=4bf92f3577b34da6a3ce929d0e0e4736 span=00f067aa0ba902b7", 2);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 2);
        check("pod-f47ac10b-58cc-4372-a567-0e02b2c3d479-x", 1);
        check("f47ac10b-58cc-4372-a567-0e02b2c3d4790", 0);
        check("f47ac10b-58cc-4372-a567 0e02b2c3d479", 0);
        check("4BF92F3577B34DA6A3CE929D0E0E4736", 0);
        check("4bf92f3577b34da6a3ce929d0e0e4736a 1234567890123456", 0);
        check("00000000000000000000000000000000", 1);
        check("00f067aa0ba902b7 00f067aa0ba902b7,00f067aa0ba902b7", 1);
        check("é00f067aa0ba902b7é", 1);
    }

    proptest! {
        #[test]
        fn text_comes_back(
            lines in proptest::collection::vec("([0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-f]{7,9}|[-= \\nxF]|é){0,9}", 2),
            share in any::<u128>(),
        ) {
            round_trip([&lines[0], &lines[1]], |id| id & share & 3 == 0);
        }

        #[test]
        fn garbage_never_panics(
            codes in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            text in proptest::collection::vec(prop_oneof![0xfcu8..=0xff, any::<u8>()], 0..40),
        ) {
            if let Ok(ids) = IdsIn::read(&codes, &bytes) {
                let mut out = Vec::new();
                if put_back(&text, &mut ids.marks(), &mut out, 200).is_ok() {
                    prop_assert!(out.len() <= 200);
                }
            }
            let _ = share(&codes, &bytes, |_| Some(7), &mut Vec::new(), &mut Vec::new());
        }
    }
}
