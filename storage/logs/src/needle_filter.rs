//! The needle filter: proves that a text stands in none of the lines it covers, so that they need not be read.
//!
//! It never says "absent" of a text that is there, wherever the text starts and whatever surrounds it. What goes in:
//!
//! - **Grams** of every *run*: a maximal stretch of ASCII letters, digits and hyphens of at least [`RUN_BYTES_MIN`]
//!   bytes, as ids, hashes, UUIDs and base64 are. Of each [`WINDOW`] neighbouring grams of [`GRAM_BYTES`] bytes the one
//!   that is smallest by hash goes in (its *minimizer*). Two runs that share [`RUN_BYTES_MIN`] bytes share the whole
//!   window over them, so they share its minimizer: a needle with such a run, be it a whole trace id, a bare span id or
//!   a part of a longer one, asks for the minimizers of all its windows.
//! - **Pairs**: name and value of structured metadata, but for values that are times in ns.
//!
//! Shorter words are not kept: they stand nearly everywhere, would take most of the room, and a needle can ask for one
//! only if it holds it complete on both sides.
//!
//! # Needle filter, version 1
//!
//! ```text
//! filter    = probes u8 · bytes uv · bits [bytes]   (a Bloom filter; no bytes: knows nothing, rules nothing out)
//! ```
//!
//! The *order* of a gram is its bytes as a number, first byte lowest, xor 0x5851f42d4c957f2d, times 0x9e3779b97f4a7c15;
//! the gram of the smallest order counts as the smallest, and its key is [`gram_hash`] of its order. A pair has two, see [`pair_hashes`]. Probe `i` of
//! key `h` looks at bit `(lo(h) + i * (hi(h) | 1)) mod 2^32 * bits >> 32`, where bit `b` is bit `b mod 8` of byte
//! `b / 8`. Golden file: `testdata/needle_filter_v1.bin`.

use std::ops::Range;

use rapidhash::v3::rapidhash_v3;
use storage_codec::{Malformed, Reader, put_uv};

use crate::entries::Entries;

/// A run of this length is found wherever it stands within a longer one: a span id has as many hexadecimal digits.
pub(crate) const RUN_BYTES_MIN: usize = GRAM_BYTES + WINDOW - 1;
/// Bytes of a gram: enough that unrelated hexadecimal runs of one chunk share hardly any.
pub(crate) const GRAM_BYTES: usize = 6;
/// Grams of which the smallest is kept. A trace id keeps 3.7 on average.
pub(crate) const WINDOW: usize = 11;

/// Bits for each key when there is room: 5.6% false answers to one key; a trace id asks for several.
const KEY_BITS: usize = 6;
/// A filter takes at most this share of the raw bytes it covers: 1/34 is 2.9%.
const RAW_SHARE: usize = 34;
const PROBES_MAX: usize = 16;
/// Digits of a time in ns.
const TIME_DIGITS_MIN: usize = 18;
/// Keys that are remembered so that one that repeats is counted once, nearly always.
const RECENT: usize = 1 << 12;

/// Collects what the lines of a group of chunks hold, then makes their filter.
#[derive(Default)]
pub(crate) struct FilterBuilder {
    keys: Keys,
    raw_bytes: usize,
    orders: Vec<u64>,
}

/// Where the runs of a text lie; found once and used for its ids (`ids.rs`) and for its filter.
#[derive(Default)]
pub(crate) struct Runs(Vec<Range<u32>>);

/// Keys, most of them once.
#[derive(Default)]
struct Keys {
    all: Vec<u64>,
    /// By the key's low bits the last such key; empty before the first.
    recent: Vec<u64>,
}

impl FilterBuilder {
    /// Adds all entries, whatever part of them is looked at, with the runs of their text.
    pub fn add(&mut self, entries: &Entries, runs: &Runs) {
        let FilterBuilder { keys, orders, .. } = self;
        let text = entries.text.as_bytes();
        for run in runs.iter() {
            minimizers(&text[run], orders, |h| keys.add(h));
        }
        let strings = &entries.metadata.strings;
        let mut metadata = 0;
        let mut before: &[(u32, u32)] = &[];
        for i in 0..entries.metadata.ends.len() {
            let pairs = &entries.metadata.pairs[entries.metadata.pair_range(i)];
            for (i, &(n, v)) in pairs.iter().enumerate() {
                let (name, value) = (strings.bytes(n), strings.bytes(v));
                metadata += name.len() + value.len();
                // Most pairs are what they were in the entry before.
                if before.get(i) != Some(&(n, v)) && is_asked_for(value) {
                    for h in pair_hashes(name, value) {
                        keys.add(h);
                    }
                }
            }
            before = pairs;
        }
        self.raw_bytes += text.len() - entries.times.len() + metadata;
    }

    /// Bytes of lines and metadata so far.
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Appends the filter to `out` and starts anew.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let room = self.raw_bytes / RAW_SHARE * 8;
        put_bloom(out, &self.keys.all, bloom_bits(self.keys.all.len(), room));
        self.keys.clear();
        self.raw_bytes = 0;
    }
}

impl Runs {
    /// Finds the runs of a text of less than 4 GiB.
    pub fn find(&mut self, text: &[u8]) {
        self.0.clear();
        for_each_run(text, |run| self.0.push(run.start as u32..run.end as u32));
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.0.iter().map(|run| run.start as usize..run.end as usize)
    }
}

impl Keys {
    fn add(&mut self, key: u64) {
        if self.recent.is_empty() {
            // Each place begins with a key that belongs to another, so that nothing is taken for seen that was not.
            self.recent.extend((0..RECENT as u64).map(|place| !place));
        }
        let place = &mut self.recent[key as usize % RECENT];
        if *place != key {
            *place = key;
            self.all.push(key);
        }
    }

    fn clear(&mut self) {
        self.all.clear();
        self.recent.clear();
    }
}

/// What to ask filters for; made once for a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Question {
    keys: Vec<u64>,
}

impl Question {
    /// All these must be there: substrings of one line, pairs of its metadata.
    pub fn new(contains: &[String], metadata: &[(String, String)]) -> Question {
        let mut keys = Vec::new();
        let mut orders = Vec::new();
        for needle in contains {
            let bytes = needle.as_bytes();
            for_each_run(bytes, |run| minimizers(&bytes[run], &mut orders, |h| keys.push(h)));
        }
        let pairs = metadata.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
        let pairs = pairs.filter(|(_, v)| is_asked_for(v));
        keys.extend(pairs.flat_map(|(n, v)| pair_hashes(n, v)));
        Question { keys }
    }

    /// Whether it asks for nothing, so that no filter helps.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// False only if what is asked for is surely not all there.
    pub fn may_match(&self, filter: &[u8]) -> Result<bool, Malformed> {
        let bloom = Bloom::read(&mut Reader::new(filter))?;
        Ok(self.keys.iter().all(|&h| bloom.may_hold(h)))
    }
}

/// Whether pairs with this value are kept. Times in ns are not: every entry has its own, and nobody looks for one.
fn is_asked_for(value: &[u8]) -> bool {
    value.len() < TIME_DIGITS_MIN || !value.iter().all(u8::is_ascii_digit)
}

/// Hashes of a pair of metadata: two, so that a question for one pair is answered as surely as one for a long needle.
/// Name and value are hashed apart, so that `a=bc` is not `ab=c`.
fn pair_hashes(name: &[u8], value: &[u8]) -> [u64; 2] {
    let h = rapidhash_v3(name).rotate_left(31).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ rapidhash_v3(value);
    [h, h.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93)]
}

/// Key of a gram from its order.
fn gram_hash(order: u64) -> u64 {
    (order ^ (order >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Calls `found` with the key of the smallest gram of each window; neighbouring windows that share it count once.
fn minimizers(run: &[u8], orders: &mut Vec<u64>, mut found: impl FnMut(u64)) {
    const LAST: u32 = 8 * (GRAM_BYTES as u32 - 1);
    orders.clear();
    let mut gram = 0u64;
    let (head, tail) = run.split_at(run.len().min(GRAM_BYTES - 1));
    for &b in head {
        gram = (gram >> 8) | (u64::from(b) << LAST);
    }
    orders.extend(tail.iter().map(|&b| {
        gram = (gram >> 8) | (u64::from(b) << LAST);
        (gram ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }));
    let mut smallest = usize::MAX;
    for (start, window) in orders.windows(WINDOW).enumerate() {
        let last = start + WINDOW - 1;
        let next = if smallest >= start && smallest < last {
            if window[WINDOW - 1] < orders[smallest] {
                last
            } else {
                smallest
            }
        } else {
            let (mut least, mut at) = (window[0], 0);
            for (i, &order) in window.iter().enumerate().skip(1) {
                if order < least {
                    (least, at) = (order, i);
                }
            }
            start + at
        };
        if smallest != next {
            found(gram_hash(orders[next]));
            smallest = next;
        }
    }
}

/// Calls `found` with each run. Looks at the byte where a run would end first, so that most bytes between runs are never
/// looked at.
pub(crate) fn for_each_run(bytes: &[u8], mut found: impl FnMut(Range<usize>)) {
    // No run starts before `start`, and all of `start..known` are bytes of runs.
    let (mut start, mut known) = (0, 0);
    while start + RUN_BYTES_MIN <= bytes.len() {
        let end = start + RUN_BYTES_MIN;
        match bytes[known..end].iter().rposition(|&b| !OF_RUNS[b as usize]) {
            Some(gap) => {
                start = known + gap + 1;
                known = end;
            }
            None => {
                let more = bytes[end..].iter().position(|&b| !OF_RUNS[b as usize]);
                let end = more.map_or(bytes.len(), |n| end + n);
                found(start..end);
                (start, known) = (end, end);
            }
        }
    }
}

const OF_RUNS: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric() || b as u8 == b'-';
        b += 1;
    }
    table
};

/// How many bits to spend on `keys` when there are at most `room`; 0 if each key would get less than one.
fn bloom_bits(keys: usize, room: usize) -> usize {
    let bits = (keys * KEY_BITS).div_ceil(8).max(8) * 8;
    let bits = bits.min(room / 8 * 8).min(u32::MAX as usize / 8 * 8);
    if bits < keys { 0 } else { bits }
}

fn put_bloom(out: &mut Vec<u8>, keys: &[u64], bits: usize) {
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
        let (mut builder, mut runs) = (FilterBuilder::default(), Runs::default());
        let entries = columns(rows);
        runs.find(entries.text.as_bytes());
        builder.add(&entries, &runs);
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
        let check = |needle: &str, asks_something: bool| {
            assert_eq!(!asks(needle).is_empty(), asks_something, "{needle}");
        };
        check("error", false);
        check(" error ", false);
        check("a-rather-long-name", true);
        check("4bf92f3577b34da6a3ce929d0e0e4736", true);
        check("trace_id=4bf92f3577b34da6a3ce929d0e0e4736", true);
        check("00f067aa0ba902b7", true);
        check("00f067aa0ba902b", false);
        check("58cc-4372-a567-0e02", true);
        check("f067 aa0b a902 b7aa", false);
        check("", false);
    }

    #[test]
    fn runs_are_maximal_and_long() {
        let check = |text: &str, want: &[&str]| {
            let mut runs = Vec::new();
            for_each_run(text.as_bytes(), |run| runs.push(&text[run]));
            assert_eq!(runs, want, "{text}");
        };
        check("", &[]);
        check("0123456789abcde", &[]);
        check("0123456789abcdef", &["0123456789abcdef"]);
        check("=0123456789abcdef,", &["0123456789abcdef"]);
        check("0123456789abcde.0123456789abcde", &[]);
        check(
            "short words here and 0123456789-abcdef-g\"there",
            &["0123456789-abcdef-g"],
        );
        check(
            "a.0123456789abcdefé0123456789abcdef",
            &["0123456789abcdef", "0123456789abcdef"],
        );
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
            assert!(asks(&there[9..25]).may_match(filter).unwrap());
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
            runs in proptest::collection::vec("[a-z0-9-]{16,200}", 1..60), pick in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(), len in 16usize..60,
        ) {
            let rows: Vec<Row> = runs.iter().enumerate().map(|(t, l)| (t as i64, format!("id={l};"), vec![])).collect();
            let filter = filter_of(&rows);
            let run = pick.get(&runs);
            let start = at.index(run.len() - 15);
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
