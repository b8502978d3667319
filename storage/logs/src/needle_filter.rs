//! The needle filter: proves that a text stands in none of the lines it covers, so that they need not be read.
//!
//! It never says "absent" of a text that is there, wherever the text starts and whatever surrounds it. What goes in:
//!
//! - **Tokens**: every maximal run of ASCII letters and digits shorter than [`RUN_BYTES_MIN`] bytes, whole. A needle
//!   asks for those of its tokens that it holds complete on both sides (`" 500 "` asks for `500`; `rror` asks for
//!   nothing, since the line may say `terrors`).
//! - **Grams**: from every longer run (ids, hashes, base64) its *minimizers*: of each [`WINDOW`] neighbouring grams of
//!   [`GRAM_BYTES`] bytes the one with the smallest hash. Two runs that share [`RUN_BYTES_MIN`] bytes share the whole
//!   window over them, so they share its minimizer: a needle with such a run asks for all minimizers of its windows.
//! - **Pairs**: name and value of structured metadata.
//!
//! # Needle filter, version 1
//!
//! ```text
//! filter    = tokens bloom · ids bloom              (ids: grams and pairs)
//! bloom     = probes u8 · bytes uv · bits [bytes]   (no bytes: knows nothing, rules nothing out)
//! ```
//!
//! A key's 64-bit hash is rapidhash v3 of its bytes; a gram's is that, xor [`GRAM_SALT`]; a pair's is
//! [`pair_hash`]. Probe `i` of hash `h` looks at bit `(lo(h) + i * (hi(h) | 1)) mod 2^32 * bits >> 32`, where bit `b`
//! is bit `b mod 8` of byte `b / 8`. Golden file: `testdata/needle_filter_v1.bin`.

use std::ops::Range;

use hashbrown::HashTable;
use rapidhash::v3::rapidhash_v3;
use storage_codec::{Malformed, Reader, put_uv};

use crate::entries::Entries;

/// A run of letters and digits of this length is found wherever it stands within a longer one.
pub(crate) const RUN_BYTES_MIN: usize = GRAM_BYTES + WINDOW - 1;
/// Bytes of a gram: enough that unrelated hexadecimal runs share none.
pub(crate) const GRAM_BYTES: usize = 12;
/// Grams of which the smallest is kept.
pub(crate) const WINDOW: usize = 13;
const GRAM_SALT: u64 = 0x5851_f42d_4c95_7f2d;

/// Bits for each key when there is room: 1% false answers.
const KEY_BITS: usize = 10;
/// Below this a filter of tokens is not worth its bytes.
const TOKEN_BITS_MIN: usize = 4;
/// A filter takes at most this share of the raw bytes it covers: 1/34 is 2.9%.
const RAW_SHARE: usize = 34;
const PROBES_MAX: usize = 16;

/// Collects what the lines of a group of chunks hold, then makes their filter.
#[derive(Default)]
pub(crate) struct FilterBuilder {
    tokens: HashTable<u64>,
    ids: HashTable<u64>,
    raw_bytes: usize,
    grams: Vec<u64>,
}

impl FilterBuilder {
    /// Adds all entries, whatever part of them is looked at.
    pub fn add(&mut self, entries: &Entries) {
        let FilterBuilder { tokens, ids, grams, .. } = self;
        let text = entries.text.as_bytes();
        for run in Runs::new(text) {
            let run = &text[run];
            if run.len() < RUN_BYTES_MIN {
                insert(tokens, rapidhash_v3(run));
            } else {
                minimizers(run, grams, |h| insert(ids, h));
            }
        }
        let strings = &entries.metadata.strings;
        let mut last = None;
        for &(n, v) in &entries.metadata.pairs {
            if last != Some((n, v)) {
                insert(ids, pair_hash(strings.get(n), strings.get(v)));
            }
            last = Some((n, v));
        }
        let metadata: usize = (0..entries.metadata.ends.len())
            .map(|i| entries.metadata_bytes(i))
            .sum();
        self.raw_bytes += text.len() - entries.times.len() + metadata;
    }

    /// Bytes of lines and metadata so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Appends the filter to `out` and starts anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let room = self.raw_bytes / RAW_SHARE * 8;
        // Ids are what people look for in a haystack; tokens get what is left.
        let id_bits = bloom_bits(self.ids.len(), room, 1);
        let token_bits = bloom_bits(self.tokens.len(), room - id_bits, TOKEN_BITS_MIN);
        put_bloom(out, &self.tokens, token_bits);
        put_bloom(out, &self.ids, id_bits);
        self.tokens.clear();
        self.ids.clear();
        self.raw_bytes = 0;
    }
}

/// What to ask filters for; made once for a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    tokens: Vec<u64>,
    ids: Vec<u64>,
}

impl Question {
    /// All these must be there: substrings of one line, pairs of its metadata.
    pub fn new(contains: &[String], metadata: &[(String, String)]) -> Question {
        let mut q = Question::default();
        let mut grams = Vec::new();
        for needle in contains {
            let bytes = needle.as_bytes();
            for run in Runs::new(bytes) {
                let complete = run.start > 0 && run.end < bytes.len();
                let run = &bytes[run];
                if run.len() >= RUN_BYTES_MIN {
                    minimizers(run, &mut grams, |h| q.ids.push(h));
                } else if complete {
                    q.tokens.push(rapidhash_v3(run));
                }
            }
        }
        q.ids.extend(metadata.iter().map(|(n, v)| pair_hash(n, v)));
        q
    }

    /// Whether it asks for nothing, so that no filter helps.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.ids.is_empty()
    }

    /// False only if what is asked for is surely not all there.
    pub fn may_match(&self, filter: &[u8]) -> Result<bool, Malformed> {
        let mut r = Reader::new(filter);
        let tokens = Bloom::read(&mut r)?;
        let ids = Bloom::read(&mut r)?;
        Ok(self.tokens.iter().all(|&h| tokens.may_hold(h)) && self.ids.iter().all(|&h| ids.may_hold(h)))
    }
}

/// Hash of a pair of metadata. Name and value are hashed apart, so that `a=bc` is not `ab=c`.
fn pair_hash(name: &str, value: &str) -> u64 {
    rapidhash_v3(name.as_bytes())
        .rotate_left(31)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ rapidhash_v3(value.as_bytes())
}

/// Calls `found` with the hash of the smallest gram of each window; neighbouring windows that share it count once.
fn minimizers(run: &[u8], grams: &mut Vec<u64>, mut found: impl FnMut(u64)) {
    grams.clear();
    grams.extend(run.windows(GRAM_BYTES).map(|g| rapidhash_v3(g) ^ GRAM_SALT));
    let mut smallest: Option<usize> = None;
    for start in 0..(grams.len() + 1).saturating_sub(WINDOW) {
        let end = start + WINDOW;
        let next = match smallest {
            Some(at) if at >= start => {
                if grams[end - 1] < grams[at] {
                    end - 1
                } else {
                    at
                }
            }
            _ => (start..end).fold(start, |least, i| if grams[i] < grams[least] { i } else { least }),
        };
        if smallest != Some(next) {
            found(grams[next]);
            smallest = Some(next);
        }
    }
}

/// The maximal runs of ASCII letters and digits.
struct Runs<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Runs<'a> {
    fn new(bytes: &'a [u8]) -> Runs<'a> {
        Runs { bytes, at: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = &self.bytes[self.at..];
        let start = self.at + rest.iter().position(|&b| ALPHANUMERIC[b as usize])?;
        let rest = &self.bytes[start..];
        let len = rest
            .iter()
            .position(|&b| !ALPHANUMERIC[b as usize])
            .unwrap_or(rest.len());
        self.at = start + len;
        Some(start..self.at)
    }
}

const ALPHANUMERIC: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    table
};

fn insert(set: &mut HashTable<u64>, h: u64) {
    // The hashes are well mixed already and serve as their own.
    if set.find(h, |&k| k == h).is_none() {
        set.insert_unique(h, h, |&k| k);
    }
}

/// How many bits to spend on `keys` when there are at most `room`; 0 if each key would get less than `bits_min`.
fn bloom_bits(keys: usize, room: usize, bits_min: usize) -> usize {
    let bits = (keys * KEY_BITS).div_ceil(8).max(8) * 8;
    let bits = bits.min(room / 8 * 8).min(u32::MAX as usize / 8 * 8);
    if bits < keys * bits_min { 0 } else { bits }
}

fn put_bloom(out: &mut Vec<u8>, keys: &HashTable<u64>, bits: usize) {
    let probes = match (bits, keys.len()) {
        (0, _) => 0,
        (_, 0) => 1,
        // Bits for each key times ln 2.
        (bits, keys) => (bits * 693 / 1000 / keys).clamp(1, PROBES_MAX),
    };
    out.push(probes as u8);
    put_uv(out, bits as u64 / 8);
    let start = out.len();
    out.resize(start + bits / 8, 0);
    let filter = &mut out[start..];
    if bits > 0 {
        for &h in keys {
            for bit in probe_bits(h, probes, bits) {
                filter[bit / 8] |= 1 << (bit % 8);
            }
        }
    }
}

fn probe_bits(h: u64, probes: usize, bits: usize) -> impl Iterator<Item = usize> {
    let (first, step) = (h as u32, (h >> 32) as u32 | 1);
    (0..probes as u32).map(move |i| {
        let x = first.wrapping_add(i.wrapping_mul(step));
        ((u64::from(x) * bits as u64) >> 32) as usize
    })
}

/// A Bloom filter as it lies in a file.
struct Bloom<'a> {
    probes: usize,
    bits: &'a [u8],
}

impl<'a> Bloom<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Bloom<'a>, Malformed> {
        let probes = usize::from(r.u8()?);
        let bits = r.bytes()?;
        if probes > PROBES_MAX || bits.len() > (u32::MAX / 8) as usize {
            return Err(Malformed {
                at: r.position(),
                what: "no such Bloom filter",
            });
        }
        Ok(Bloom { probes, bits })
    }

    fn may_hold(&self, h: u64) -> bool {
        self.bits.is_empty()
            || probe_bits(h, self.probes, self.bits.len() * 8).all(|b| self.bits[b / 8] & (1 << (b % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::tests::{Row, columns};
    use crate::golden::golden;
    use proptest::prelude::*;

    fn filter_of(rows: &[Row]) -> Vec<u8> {
        let mut builder = FilterBuilder::default();
        builder.add(&columns(rows));
        let mut out = Vec::new();
        builder.finish(&mut out);
        out
    }

    fn asks(needle: &str) -> Question {
        Question::new(&[needle.to_owned()], &[])
    }

    /// Ids that look random and are the same in every run.
    fn id(n: u64) -> String {
        let a = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{:016x}{:016x}",
            a ^ a >> 29,
            a.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ a >> 17
        )
    }

    /// Lines of a service, with a trace id that changes with every sixth.
    fn service_lines(first: u64, n: u64) -> Vec<Row> {
        (first..first + n)
            .map(|i| {
                let line = format!(
                    "{{\"ts\":\"2026-01-02T03:04:{:02}.{:03}Z\",\"level\":\"info\",\"msg\":\"request done\",\"path\":\"/api/v1/items/{}\",\"status\":200,\"duration_ms\":{},\"trace_id\":\"{}\"}}",
                    i % 60, i * 7 % 1000, i * 31 % 5000, i * 13 % 900, id(i / 6)
                );
                (i as i64, line, vec![("trace_id".to_owned(), id(i / 6))])
            })
            .collect()
    }

    #[test]
    fn what_a_needle_asks_for() {
        let check = |needle: &str, tokens: usize, ids: usize| {
            let q = asks(needle);
            assert_eq!(q.tokens.len(), tokens, "{needle}");
            assert_eq!(q.ids.len() >= ids.min(1), ids > 0 || q.ids.is_empty(), "{needle}");
        };
        check("error", 0, 0);
        check(" error ", 1, 0);
        check("a b c", 1, 0);
        check("4bf92f3577b34da6a3ce929d0e0e4736", 0, 1);
        check("trace_id=4bf92f3577b34da6a3ce929d0e0e4736", 1, 1);
        check("4bf92f3577b34da6a3ce929", 0, 0);
        check("", 0, 0);
    }

    #[test]
    fn absent_ids_skip_nearly_all_and_present_ones_none() {
        let chunks: Vec<(u64, Vec<u8>)> = (0..40)
            .map(|c| (c * 300, filter_of(&service_lines(c * 300, 300))))
            .collect();
        let mut skipped = 0;
        for n in 0..50 {
            let absent = id(1_000_000 + n);
            skipped += chunks
                .iter()
                .filter(|(_, f)| !asks(&absent).may_match(f).unwrap())
                .count();
        }
        assert!(skipped > 40 * 50 * 95 / 100, "{skipped} of 2000");
        for (first, filter) in &chunks {
            let there = id(first / 6 + 1);
            assert!(asks(&there).may_match(filter).unwrap());
            // Also from the middle of the id on, and with its surroundings.
            assert!(asks(&there[3..28]).may_match(filter).unwrap());
            assert!(asks(&format!("\"trace_id\":\"{there}\"")).may_match(filter).unwrap());
            let pair = Question::new(&[], &[("trace_id".into(), there.clone())]);
            assert!(pair.may_match(filter).unwrap());
        }
        let pair = |n| Question::new(&[], &[("trace_id".into(), id(2_000_000 + n as u64))]);
        let skipped = (0..50).flat_map(|n| chunks.iter().map(move |(_, f)| !pair(n).may_match(f).unwrap()));
        assert!(skipped.filter(|s| *s).count() > 40 * 50 * 95 / 100);
    }

    #[test]
    fn a_filter_takes_at_most_three_percent() {
        for lines in [
            service_lines(0, 1000),
            (0..1000).map(|i| (i, id(i as u64), vec![])).collect(),
        ] {
            let raw: usize = lines
                .iter()
                .map(|r| r.1.len() + r.2.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>())
                .sum();
            let filter = filter_of(&lines);
            assert!(filter.len() * 100 <= raw * 3, "{} of {raw}", filter.len());
        }
    }

    #[test]
    fn golden_needle_filter_v1() {
        let filter = filter_of(&service_lines(0, 50));
        assert_eq!(golden("needle_filter_v1.bin", &filter), filter);
    }

    proptest! {
        /// A needle that stands in a line is never ruled out, wherever it starts.
        #[test]
        fn no_substring_is_ruled_out(
            lines in proptest::collection::vec("([a-f0-9]{1,60}|[a-z]{1,6}|[ =/:\\-\"]|é|\\n){0,12}", 1..20),
            pick in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<Row> = lines.iter().enumerate().map(|(t, l)| (t as i64, l.clone(), vec![])).collect();
            let filter = filter_of(&rows);
            let line = pick.get(&lines);
            let bounds: Vec<usize> = line.char_indices().map(|(i, _)| i).chain([line.len()]).collect();
            let (a, b) = (*from.get(&bounds), *to.get(&bounds));
            let needle = &line[a.min(b)..a.max(b)];
            prop_assert!(asks(needle).may_match(&filter).unwrap(), "{:?} in {:?}", needle, line);
        }

        /// The same for lines long enough to give the filter room, and ids cut out of longer runs.
        #[test]
        fn no_part_of_a_long_run_is_ruled_out(
            runs in proptest::collection::vec("[a-z0-9]{24,200}", 1..60), pick in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(), len in 24usize..60,
        ) {
            let rows: Vec<Row> = runs.iter().enumerate().map(|(t, l)| (t as i64, format!("id={l};"), vec![])).collect();
            let filter = filter_of(&rows);
            let run = pick.get(&runs);
            let start = at.index(run.len() - 23);
            let needle = &run[start..(start + len).min(run.len())];
            prop_assert!(asks(needle).may_match(&filter).unwrap());
            prop_assert!(!asks(needle).is_empty());
        }

        #[test]
        fn garbage_never_panics(filter in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = asks("4bf92f3577b34da6a3ce929d0e0e4736").may_match(&filter);
        }
    }
}
