//! Entries in columns: what a chunk holds, open or decoded, and what a reader looks at.
//!
//! Lines lie end to end in one text arena, each followed by a newline, so that a search can run over the whole arena
//! before anything is split. Structured metadata is a list of (name, value) codes into a dictionary of strings; while
//! no entry carries any, its columns stay empty.

use std::ops::Range;

use hashbrown::HashTable;
use model::TimestampNs;
use rapidhash::v3::rapidhash_v3;

/// Entries in columns, rising by time; entries of equal time keep the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub(crate) times: Vec<i64>,
    /// Where each line ends in `text`, after its newline.
    pub(crate) ends: Vec<u32>,
    pub(crate) text: String,
    pub(crate) metadata: Metadata,
    /// The entries that are looked at; the columns may hold more on both sides.
    pub(crate) view: Range<usize>,
    /// Entries that were passed over, and bytes of their lines.
    pub(crate) left_out: (u64, u64),
}

/// Which columns a reader looks at. Times are always read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    /// The lines; if they are not read, all are empty.
    pub lines: bool,
    /// Structured metadata of these names only (`None`: of all).
    pub metadata: Option<&'a [String]>,
}

impl Columns<'_> {
    /// Everything.
    pub const ALL: Columns<'static> = Columns {
        lines: true,
        metadata: None,
    };

    /// Whether metadata is looked at.
    pub(crate) fn has_metadata(&self) -> bool {
        self.metadata.is_none_or(|names| !names.is_empty())
    }

    /// Whether metadata of this name is looked at.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.metadata.is_none_or(|names| names.iter().any(|n| n == name))
    }
}

/// The metadata columns. `ends` is empty while no entry has metadata, and else has one item for each entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) ends: Vec<u32>,
    pub(crate) pairs: Vec<(u32, u32)>,
    pub(crate) strings: Strings,
}

/// Strings by code.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    pub(crate) text: String,
    pub(crate) ends: Vec<u32>,
}

/// More text than a run can hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooMuchText;

/// Text of one set of columns stays below this, so that offsets fit 32 bits.
const TEXT_BYTES_MAX: usize = u32::MAX as usize;

impl Entries {
    /// How many.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// Time of entry `i`.
    pub fn t(&self, i: usize) -> TimestampNs {
        TimestampNs(self.times[self.view.start + i])
    }

    /// Times of all entries, rising.
    pub fn times(&self) -> impl ExactSizeIterator<Item = TimestampNs> {
        self.times[self.view.clone()].iter().map(|&t| TimestampNs(t))
    }

    /// How many of the entries lie before `t` or at it.
    pub fn count_until(&self, t: TimestampNs) -> usize {
        self.times[self.view.clone()].partition_point(|&at| at <= t.0)
    }

    /// Line of entry `i`.
    pub fn line(&self, i: usize) -> &str {
        let i = self.view.start + i;
        &self.text[self.line_start(i)..self.ends[i] as usize - 1]
    }

    /// Bytes of the lines of the entries of `range`.
    pub fn line_bytes(&self, range: Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (self.view.start + range.start, self.view.start + range.end - 1);
        self.ends[last] as usize - self.line_start(first) - range.len()
    }

    /// Structured metadata of entry `i`.
    pub fn metadata(&self, i: usize) -> impl Iterator<Item = (&str, &str)> {
        self.pairs(self.view.start + i)
    }

    /// Metadata of entry `i` as codes of name and value: within one reading equal codes are equal texts.
    pub fn metadata_codes(&self, i: usize) -> &[(u32, u32)] {
        &self.metadata.pairs[self.metadata.pair_range(self.view.start + i)]
    }

    /// All lines end to end, each followed by a newline: for searching them all at once. A hit may lie across two
    /// lines when what is looked for holds a newline; see [`Entries::line_range`].
    pub fn text(&self) -> &str {
        let end = match self.view.end.checked_sub(1) {
            Some(last) if !self.view.is_empty() => self.ends[last] as usize,
            _ => return "",
        };
        &self.text[self.line_start(self.view.start)..end]
    }

    /// Where line `i` lies in [`Entries::text`], without its newline.
    pub fn line_range(&self, i: usize) -> Range<usize> {
        let base = self.line_start(self.view.start);
        let i = self.view.start + i;
        self.line_start(i) - base..self.ends[i] as usize - 1 - base
    }

    /// Entries that are not here because their lines lack a needle that was asked for, and bytes of their lines; by share
    /// of time where the range asked for cuts a chunk.
    pub fn left_out(&self) -> (u64, u64) {
        self.left_out
    }

    /// Whether any entry may carry structured metadata.
    pub fn has_metadata(&self) -> bool {
        !self.metadata.pairs.is_empty()
    }

    /// Takes every line, not read, for an empty one.
    pub(crate) fn without_lines(&mut self) {
        self.text.clear();
        self.text.push_str(&"\n".repeat(self.times.len()));
        self.ends.clear();
        self.ends.extend(1..=self.times.len() as u32);
    }

    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.ends.clear();
        self.text.clear();
        self.metadata.clear();
        self.view = 0..0;
        self.left_out = (0, 0);
    }

    /// Looks at all entries again.
    pub(crate) fn widen(&mut self) {
        self.view = 0..self.times.len();
    }

    /// Looks only at entries of `[min, max]`; the entries must rise by time.
    pub(crate) fn narrow(&mut self, min: i64, max: i64) {
        let start = self.times.partition_point(|&t| t < min);
        let end = self.times.partition_point(|&t| t <= max).max(start);
        self.view = start..end;
    }

    /// Takes entries out: those whose number in the view has `true` in `gone`. Only what was in the view is left.
    pub(crate) fn remove(&mut self, gone: &[bool]) {
        let mut left = Entries::default();
        for (i, _) in gone.iter().enumerate().filter(|(_, gone)| !**gone) {
            let i = self.view.start + i;
            left.push(self.times[i], self.line_at(i));
            for &(n, v) in &self.metadata.pairs[self.metadata.pair_range(i)] {
                left.push_pair(n, v);
            }
        }
        left.metadata.strings = std::mem::take(&mut self.metadata.strings);
        left.left_out = self.left_out;
        *self = left;
    }

    /// Of times and metadata keeps those of the entries `picked`, rising; lines are left as they are.
    pub(crate) fn pick(&mut self, picked: impl Iterator<Item = usize>) {
        let Entries { times, metadata, .. } = self;
        let with_metadata = !metadata.ends.is_empty();
        let (mut kept, mut pairs) = (0, 0);
        for i in picked {
            times[kept] = times[i];
            if with_metadata {
                let range = metadata.pair_range(i);
                let len = range.len();
                metadata.pairs.copy_within(range, pairs);
                pairs += len;
                // While all are kept this changes nothing, and later it lies behind what is read.
                metadata.ends[kept] = pairs as u32;
            }
            kept += 1;
        }
        times.truncate(kept);
        metadata.ends.truncate(kept);
        metadata.pairs.truncate(pairs);
    }

    /// Adds an entry without metadata; [`Entries::push_pair`] may follow.
    pub(crate) fn push(&mut self, t: i64, line: &str) {
        self.times.push(t);
        self.text.push_str(line);
        self.text.push('\n');
        self.ends.push(self.text.len() as u32);
        if !self.metadata.ends.is_empty() {
            self.metadata.ends.push(self.metadata.pairs.len() as u32);
        }
        self.view.end = self.times.len();
    }

    /// Adds metadata to the last entry.
    pub(crate) fn push_pair(&mut self, name: u32, value: u32) {
        if self.metadata.ends.is_empty() {
            self.metadata.ends.resize(self.times.len(), 0);
        }
        self.metadata.pairs.push((name, value));
        if let Some(end) = self.metadata.ends.last_mut() {
            *end = self.metadata.pairs.len() as u32;
        }
    }

    /// Adds an entry whose metadata strings get codes in `known`, the table of this dictionary. Says how many raw bytes
    /// the entry has, and how many bytes of memory its new strings take.
    pub(crate) fn push_interned<'a>(
        &mut self,
        known: &mut HashTable<u32>,
        t: i64,
        line: &str,
        metadata: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> (usize, usize) {
        let mut before = match self.times.len().checked_sub(1) {
            Some(last) => self.metadata.pair_range(last),
            None => 0..0,
        };
        self.push(t, line);
        let (mut raw, mut new) = (line.len(), 0);
        let mut code = |strings: &mut Strings, s: &str, before: Option<u32>| {
            raw += s.len();
            // Names, and many values, are what they were in the entry before.
            if let Some(code) = before
                && strings.bytes(code) == s.as_bytes()
            {
                return code;
            }
            let hash = rapidhash_v3(s.as_bytes());
            if let Some(&code) = known.find(hash, |&c| strings.get(c) == s) {
                return code;
            }
            new += s.len() + 16;
            let code = strings.push(s);
            known.insert_unique(hash, code, |&c| rapidhash_v3(strings.get(c).as_bytes()));
            code
        };
        for (n, v) in metadata {
            let before = before.next().map(|i| self.metadata.pairs[i]);
            let strings = &mut self.metadata.strings;
            let pair = (
                code(strings, n, before.map(|p| p.0)),
                code(strings, v, before.map(|p| p.1)),
            );
            self.push_pair(pair.0, pair.1);
        }
        (raw, new)
    }

    pub(crate) fn line_start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    /// Pairs of the entry at column position `i`.
    pub(crate) fn pairs(&self, i: usize) -> impl Iterator<Item = (&str, &str)> {
        let range = self.metadata.pair_range(i);
        self.metadata.pairs[range]
            .iter()
            .map(|&(n, v)| (self.metadata.strings.get(n), self.metadata.strings.get(v)))
    }

    /// Bytes of the metadata of the entry at column position `i`.
    pub(crate) fn metadata_bytes(&self, i: usize) -> usize {
        let strings = &self.metadata.strings;
        let pairs = &self.metadata.pairs[self.metadata.pair_range(i)];
        pairs
            .iter()
            .map(|&(n, v)| strings.bytes(n).len() + strings.bytes(v).len())
            .sum()
    }

    /// Bytes of all lines, and of each metadata string once.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.text.len() - self.times.len() + self.metadata.strings.text.len()
    }

    /// Line of the entry at column position `i`.
    pub(crate) fn line_at(&self, i: usize) -> &str {
        &self.text[self.line_start(i)..self.ends[i] as usize - 1]
    }

    fn same(&self, i: usize, other: &Entries, j: usize) -> bool {
        self.times[i] == other.times[j]
            && self.line_at(i) == other.line_at(j)
            && (self.metadata.ends.is_empty() && other.metadata.ends.is_empty() || self.pairs(i).eq(other.pairs(j)))
    }

    /// Whether one of the entries is exactly this one.
    pub(crate) fn contains(&self, t: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        (0..self.times.len()).any(|i| self.is(i, t, line, metadata))
    }

    /// Whether the entry at column position `i` is exactly this one.
    pub(crate) fn is(&self, i: usize, t: i64, line: &str, metadata: &[(&str, &str)]) -> bool {
        self.times[i] == t && self.line_at(i) == line && self.pairs(i).eq(metadata.iter().copied())
    }

    pub(crate) fn hash(&self, i: usize) -> u64 {
        hash_entry(self.times[i], self.line_at(i), self.pairs(i))
    }

    /// Makes this the entries of all `sources` that lie in `[min, max]`: sorted by time, entries of equal time in
    /// the order of the sources, exact duplicates dropped.
    pub(crate) fn merge(&mut self, sources: &[&Entries], min: i64, max: i64) -> Result<(), TooMuchText> {
        self.clear();
        let mut rows = rows_within(sources, min, max);
        drop_duplicates(sources, &mut rows);
        for source in sources {
            self.left_out.0 += source.left_out.0;
            self.left_out.1 += source.left_out.1;
        }
        let text: usize = rows
            .iter()
            .map(|&(_, s, i)| sources[s as usize].line_at(i as usize).len() + 1)
            .sum();
        let strings: usize = sources.iter().map(|s| s.metadata.strings.text.len()).sum();
        if text > TEXT_BYTES_MAX || strings > TEXT_BYTES_MAX {
            return Err(TooMuchText);
        }
        self.text.reserve(text);
        self.times.reserve(rows.len());
        self.ends.reserve(rows.len());
        let first_codes = self.join_strings(sources);
        for (t, s, i) in rows {
            let (source, i) = (sources[s as usize], i as usize);
            self.push(t, source.line_at(i));
            self.push_pairs(source, i, first_codes[s as usize]);
        }
        Ok(())
    }

    /// Like [`Entries::merge`], of sources whose lines may not have been read, and are left out. `false`: entries of two sources share an
    /// instant, so that only their lines could tell whether they are one.
    pub(crate) fn merge_without_lines(&mut self, sources: &[&Entries], min: i64, max: i64) -> bool {
        self.clear();
        if sources.iter().all(|s| !s.has_metadata() && s.times.is_sorted()) {
            for source in sources {
                self.times
                    .extend(source.times.iter().filter(|t| (min..=max).contains(*t)));
            }
            // Each source is in order, so this merges; whose an instant is matters only if it comes twice.
            self.times.sort();
            let once = |t: &i64| sources.iter().filter(|s| s.times.binary_search(t).is_ok()).count() < 2;
            let twice = self.times.windows(2).filter(|pair| pair[0] == pair[1]);
            let distinct = twice.map(|pair| &pair[0]).all(once);
            self.without_lines();
            self.widen();
            return distinct;
        }
        let rows = rows_within(sources, min, max);
        let distinct = rows.is_sorted_by(|a, b| a.0 < b.0 || a.1 == b.1);
        let strings: usize = sources.iter().map(|s| s.metadata.strings.text.len()).sum();
        if !distinct || strings > TEXT_BYTES_MAX {
            return false;
        }
        let first_codes = self.join_strings(sources);
        self.times.extend(rows.iter().map(|row| row.0));
        self.without_lines();
        self.widen();
        self.metadata.ends.reserve(rows.len());
        for (_, s, i) in rows {
            let (metadata, first) = (&sources[s as usize].metadata, first_codes[s as usize]);
            let pairs = &metadata.pairs[metadata.pair_range(i as usize)];
            self.metadata
                .pairs
                .extend(pairs.iter().map(|&(n, v)| (first + n, first + v)));
            self.metadata.ends.push(self.metadata.pairs.len() as u32);
        }
        true
    }

    /// Takes the dictionaries of all sources; says where each one's codes begin. They are joined, not merged: a string of
    /// two sources has two codes.
    fn join_strings(&mut self, sources: &[&Entries]) -> Vec<u32> {
        let mut first_codes = Vec::with_capacity(sources.len());
        for source in sources {
            first_codes.push(self.metadata.strings.len() as u32);
            self.metadata.strings.extend(&source.metadata.strings);
        }
        first_codes
    }

    fn push_pairs(&mut self, source: &Entries, i: usize, first_code: u32) {
        for &(n, v) in &source.metadata.pairs[source.metadata.pair_range(i)] {
            self.push_pair(first_code + n, first_code + v);
        }
    }
}

/// Time, source and position of each entry in `[min, max]`, sorted by time, then source, then position.
fn rows_within(sources: &[&Entries], min: i64, max: i64) -> Vec<(i64, u32, u32)> {
    let mut rows: Vec<(i64, u32, u32)> = Vec::new();
    for (s, source) in sources.iter().enumerate() {
        let inside = source
            .times
            .iter()
            .enumerate()
            .filter(|(_, t)| (min..=max).contains(*t));
        rows.extend(inside.map(|(i, &t)| (t, s as u32, i as u32)));
    }
    if !rows.is_sorted_by_key(|r| r.0) {
        rows.sort_by_key(|r| r.0);
    }
    rows
}

/// Hash of all that makes an entry one within its stream. In memory only.
pub(crate) fn hash_entry<'a>(t: i64, line: &str, metadata: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut h = rapidhash_v3(line.as_bytes()) ^ (t as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (n, v) in metadata {
        h = h.rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93)
            ^ rapidhash_v3(n.as_bytes())
            ^ rapidhash_v3(v.as_bytes()).rotate_left(32);
    }
    // Tables take their bucket from the low bits and their tag from the high ones.
    h ^ (h >> 29)
}

/// Of rows sorted by time keeps the first of each that are exactly the same entry.
fn drop_duplicates(sources: &[&Entries], rows: &mut Vec<(i64, u32, u32)>) {
    const SCAN_MAX: usize = 8;
    if rows.is_sorted_by(|a, b| a.0 < b.0) {
        return;
    }
    let same = |a: (i64, u32, u32), b: (i64, u32, u32)| {
        sources[a.1 as usize].same(a.2 as usize, sources[b.1 as usize], b.2 as usize)
    };
    let mut seen: HashTable<(u64, usize)> = HashTable::new();
    let mut kept = 0;
    let mut at = 0;
    while at < rows.len() {
        let end = at + rows[at..].iter().take_while(|r| r.0 == rows[at].0).count();
        let group = kept;
        let many = end - at > SCAN_MAX;
        seen.clear();
        for i in at..end {
            let row = rows[i];
            let known = if many {
                let h = sources[row.1 as usize].hash(row.2 as usize);
                let known = seen.find(h, |&(_, k)| same(rows[k], row)).is_some();
                if !known {
                    seen.insert_unique(h, (h, kept), |&(h, _)| h);
                }
                known
            } else {
                rows[group..kept].iter().any(|&k| same(k, row))
            };
            if !known {
                rows[kept] = row;
                kept += 1;
            }
        }
        at = end;
    }
    rows.truncate(kept);
}

impl Metadata {
    pub(crate) fn clear(&mut self) {
        self.ends.clear();
        self.pairs.clear();
        self.strings.clear();
    }

    pub(crate) fn pair_range(&self, i: usize) -> Range<usize> {
        match self.ends.get(i) {
            None => 0..0,
            Some(&end) => (if i == 0 { 0 } else { self.ends[i - 1] as usize })..end as usize,
        }
    }
}

impl Strings {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, code: u32) -> &str {
        let i = code as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text[start..self.ends[i] as usize]
    }

    /// The bytes of a string.
    pub(crate) fn bytes(&self, code: u32) -> &[u8] {
        let i = code as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.text.as_bytes()[start..self.ends[i] as usize]
    }

    pub(crate) fn push(&mut self, s: &str) -> u32 {
        self.text.push_str(s);
        self.ends.push(self.text.len() as u32);
        (self.ends.len() - 1) as u32
    }

    fn extend(&mut self, other: &Strings) {
        let base = self.text.len() as u32;
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|e| base + e));
    }

    /// Makes room for about as much as another holds.
    pub(crate) fn reserve_like(&mut self, other: &Strings) {
        self.text.reserve(other.text.len() + other.text.len() / 8);
        self.ends.reserve(other.ends.len() + other.ends.len() / 8);
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Time, line and metadata of one entry.
    pub(crate) type Row = (i64, String, Vec<(String, String)>);

    /// Columns of the rows, in the order given.
    pub(crate) fn columns(rows: &[Row]) -> Entries {
        let mut entries = Entries::default();
        let mut known = HashTable::new();
        for (t, line, metadata) in rows {
            let pairs = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            entries.push_interned(&mut known, *t, line, pairs);
        }
        entries
    }

    /// What a reader sees.
    pub(crate) fn rows(entries: &Entries) -> Vec<Row> {
        let row = |i| {
            let metadata = entries.metadata(i).map(|(n, v)| (n.to_owned(), v.to_owned()));
            (entries.t(i).0, entries.line(i).to_owned(), metadata.collect())
        };
        (0..entries.len()).map(row).collect()
    }

    /// Sorted by time, each once, the first of equals kept.
    pub(crate) fn distinct(mut all: Vec<Row>) -> Vec<Row> {
        all.sort_by_key(|r| r.0);
        let mut out: Vec<Row> = Vec::new();
        for row in all {
            let equals = out.iter().rev().take_while(|r| r.0 == row.0);
            if !equals.into_iter().any(|r| *r == row) {
                out.push(row);
            }
        }
        out
    }

    /// Rows with few distinct times, lines and names, so that duplicates and ties happen.
    pub(crate) fn any_rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
        let pair = ("[a-c]{1,2}", "[x-z]{0,2}");
        let metadata = prop_oneof![3 => Just(vec![]), 2 => proptest::collection::vec(pair, 0..4)];
        let line = prop_oneof![4 => "[ab]{0,2}", 1 => ".{0,40}", 1 => "[\\nä☃a]{0,5}"];
        let t = prop_oneof![8 => 0i64..12, 1 => any::<i64>()];
        proptest::collection::vec((t, line, metadata), 0..max)
    }

    #[test]
    fn the_text_of_a_narrowed_view_is_what_its_lines_say() {
        let all: Vec<Row> = (0..5).map(|t| (t, format!("line {t}"), vec![])).collect();
        let mut entries = columns(&all);
        entries.narrow(1, 3);
        assert_eq!(entries.text(), "line 1\nline 2\nline 3\n");
        assert_eq!(&entries.text()[entries.line_range(1)], "line 2");
        entries.narrow(9, 9);
        assert_eq!((entries.text(), entries.len()), ("", 0));
    }

    /// Many lines in one instant must not cost the square of their number.
    #[test]
    fn a_hundred_thousand_entries_of_one_instant_merge() {
        let all: Vec<Row> = (0..100_000).map(|i| (7, (i % 50_000).to_string(), vec![])).collect();
        let entries = columns(&all);
        let mut out = Entries::default();
        out.merge(&[&entries], i64::MIN, i64::MAX).unwrap();
        assert_eq!(out.len(), 50_000);
    }

    proptest! {
        /// Sorted, each once, equal times in order of arrival: the promise of `Run::read`.
        #[test]
        fn merging_is_sorting_and_dropping_duplicates(
            a in any_rows(40), b in any_rows(40), min in -1i64..12, len in 0i64..14,
        ) {
            let (x, y) = (columns(&a), columns(&b));
            let mut out = Entries::default();
            out.merge(&[&x, &y], min, min + len).unwrap();
            let inside = a.into_iter().chain(b).filter(|r| (min..=min + len).contains(&r.0)).collect();
            prop_assert_eq!(rows(&out), distinct(inside));
        }
    }
}
