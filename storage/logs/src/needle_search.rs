//! Lines that hold a needle, found in a chunk before its ids are put back: the others are neither split nor copied.
//!
//! Where an id is cut out of a line (`ids.rs`) a mark stands that no text holds, so a needle that is found between marks
//! is a needle of the line, and one that cannot overlap an id is found wherever it is. Whether it can is told by its
//! *words*, its longest stretches of ASCII letters and digits: an id has neither letter nor digit on either side, so a
//! needle that overlaps it shows at least one word, or the end of one, that is a word of an id.

use std::ops::Range;

use memchr::memmem::Finder;
use storage_codec::Malformed;

use crate::chunk::{self, ChunkMeta, bad};
use crate::entries::{Columns, Entries};
use crate::ids::IdsIn;

/// Lengths of the words of ids: narrow and wide ones, and the parts of a UUID.
const ID_WORDS: [usize; 5] = [4, 8, 12, 16, 32];

/// A text that can be looked for where ids are cut out, and that every wanted line holds.
pub(crate) struct Needle(Finder<'static>);

/// The lines of a chunk, ids cut out, and where those stand that hold the needle.
#[derive(Default)]
pub(crate) struct Hits {
    text: Vec<u8>,
    lines: Vec<Hit>,
}

struct Hit {
    entry: usize,
    /// Without its newline.
    line: Range<usize>,
}

impl Needle {
    /// The longest of `texts` that cannot overlap an id, if there is one.
    pub fn of(texts: &[String]) -> Option<Needle> {
        let texts = texts.iter().filter(|text| !text.is_empty() && !may_touch_an_id(text));
        let longest = texts.max_by_key(|text| text.len())?;
        Some(Needle(Finder::new(longest.as_bytes()).into_owned()))
    }
}

impl Hits {
    /// Looks through the lines of a chunk. Says how many hold the needle.
    pub fn find(&mut self, meta: &ChunkMeta, data: &[u8], needle: &Needle) -> Result<usize, Malformed> {
        self.lines.clear();
        chunk::read_part(chunk::split(meta, data)?[1], &mut self.text)?;
        // `at` is where the line of `entry` starts.
        let (mut at, mut entry) = (0, 0);
        while let Some(before) = needle.0.find(&self.text[at..]) {
            let hit = at + before;
            let passed = &self.text[at..hit];
            entry += memchr::memchr_iter(b'\n', passed).count();
            let start = memchr::memrchr(b'\n', passed).map_or(at, |newline| at + newline + 1);
            let len = memchr::memchr(b'\n', &self.text[hit..]).ok_or(bad(hit, "a line does not end"))?;
            let end = hit + len;
            self.lines.push(Hit {
                entry,
                line: start..end,
            });
            entry += 1;
            at = end + 1;
        }
        Ok(self.lines.len())
    }

    /// How many bytes were looked through.
    pub fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// Makes `out` the entries found, given the ids of the chunk. Says how many bytes were expanded, or `None` if lines
    /// hold newlines, so that the chunk must be read as a whole.
    pub fn decode(
        &self,
        meta: &ChunkMeta,
        data: &[u8],
        ids: &IdsIn,
        columns: Columns<'_>,
        out: &mut Entries,
    ) -> Result<Option<u64>, Malformed> {
        out.clear();
        let outcome = self.decode_into(meta, data, ids, columns, out);
        if !matches!(outcome, Ok(Some(_))) {
            out.clear();
        }
        out.widen();
        outcome
    }

    fn decode_into(
        &self,
        meta: &ChunkMeta,
        data: &[u8],
        ids: &IdsIn,
        columns: Columns<'_>,
        out: &mut Entries,
    ) -> Result<Option<u64>, Malformed> {
        let mut expanded = self.bytes();
        let parts = chunk::split(meta, data)?;
        let mut scratch = Vec::new();
        chunk::read_part(parts[0], &mut scratch)?;
        expanded += scratch.len() as u64;
        if !chunk::get_only_times(&scratch, meta, out)? {
            return Ok(None);
        }
        if self.lines.last().is_some_and(|hit| hit.entry >= out.times.len()) {
            return Err(bad(0, "more lines than entries"));
        }
        let mut marks = ids.marks();
        let mut text = std::mem::take(&mut out.text).into_bytes();
        let bytes_max = (meta.line_bytes as usize).saturating_add(meta.entries as usize);
        let mut at = 0;
        for hit in &self.lines {
            marks.pass(&self.text[at..hit.line.start]);
            let left = bytes_max.saturating_sub(text.len());
            crate::ids::put_back(&self.text[hit.line.clone()], &mut marks, &mut text, left)?;
            text.push(b'\n');
            at = hit.line.end;
            out.ends
                .push(u32::try_from(text.len()).map_err(|_| bad(0, "lines too long"))?);
        }
        out.text = String::from_utf8(text).map_err(|_| bad(0, "lines are not UTF-8"))?;
        if !parts[2].is_empty() && columns.has_metadata() {
            marks.pass(&self.text[at..]);
            chunk::read_part(parts[2], &mut scratch)?;
            expanded += scratch.len() as u64;
            chunk::get_metadata(&scratch, meta, Some(&mut marks), columns, out)?;
            if !marks.done() {
                return Err(bad(0, "more ids than marks"));
            }
        }
        out.pick(self.lines.iter().map(|hit| hit.entry));
        let left_out = (meta.entries as usize).saturating_sub(self.lines.len());
        let found_bytes = out.text.len() - self.lines.len();
        out.left_out = (
            left_out as u64,
            u64::from(meta.line_bytes).saturating_sub(found_bytes as u64),
        );
        Ok(Some(expanded))
    }
}

/// Whether some line may hold the text so that it overlaps an id of the line, or two lines may hold it together.
fn may_touch_an_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    for word in bytes.split(|b| !b.is_ascii_alphanumeric()) {
        let whole = at > 0 && at + word.len() < bytes.len();
        at += word.len() + 1;
        let of_id = word.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !word.is_empty() && of_id && (!whole || ID_WORDS.contains(&word.len())) {
            return true;
        }
    }
    text == "-" || text.contains('\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::LEVEL_HEAD;
    use crate::entries::tests::{Row, columns, rows};
    use crate::needle_filter::Runs;
    use proptest::prelude::*;

    #[test]
    fn what_may_touch_an_id() {
        let check = |text: &str, expected: bool| assert_eq!(may_touch_an_id(text), expected, "{text}");
        check("timeout", false);
        check("error: ", false);
        check("-", true);
        check("--", false);
        check(" - ", false);
        check("500", true);
        check("status=500", true);
        check("status=500 ", false);
        check("id=0123abcd-", true);
        check("dead", true);
        check("deadline", false);
        check("DEAD", false);
        check("4bf92f3577b34da6", true);
        check("trace 4bf92f3577b34da6 x", true);
        check("de: no", true);
        check("n: de", true);
        check("é", false);
        check("level=error\n", true);
    }

    proptest! {
        /// What is found where ids are cut out is what stands in the lines, with the metadata asked for.
        #[test]
        fn lines_with_the_needle_are_found(
            lines in proptest::collection::vec(
                "([0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|err|out|ed|[-= x5]|é){0,9}",
                1..20,
            ),
            needle in "(err|out|ed|[-= x5a]|é|fe|12){1,4}",
            names in proptest::option::of(proptest::collection::vec("[ab]", 0..2)),
        ) {
            let Some(finder) = Needle::of(std::slice::from_ref(&needle)) else { return Ok(()) };
            let asked = |name: &str| names.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
            let all: Vec<Row> = lines.iter().enumerate().map(|(i, line)| {
                let metadata = match i % 3 {
                    0 => Vec::new(),
                    n => vec![("a".into(), format!("{n}")), ("b".into(), format!("{i:032x}"))],
                };
                (i as i64, line.clone(), metadata)
            }).collect();
            let (entries, mut runs, mut data) = (columns(&all), Runs::default(), Vec::new());
            runs.find(entries.text.as_bytes());
            let meta = chunk::encode(7, &entries, &runs, LEVEL_HEAD, &mut data);
            let want: Vec<Row> = all.iter().filter(|row| row.1.contains(&needle)).map(|(t, line, metadata)| {
                (*t, line.clone(), metadata.iter().filter(|(n, _)| asked(n)).cloned().collect())
            }).collect();
            let mut hits = Hits::default();
            prop_assert_eq!(hits.find(&meta, &data, &finder).unwrap(), want.len());
            let ids = chunk::read_ids(&meta, &data).unwrap();
            let mut out = Entries::default();
            let asked = Columns { lines: true, metadata: names.as_deref() };
            hits.decode(&meta, &data, &ids, asked, &mut out).unwrap().unwrap();
            let left_out = all.iter().filter(|row| !row.1.contains(&needle));
            let left_out = left_out.fold((0, 0), |(n, bytes), row| (n + 1, bytes + row.1.len() as u64));
            prop_assert_eq!(out.left_out(), left_out);
            prop_assert_eq!(rows(&out), want);
        }
    }
}
