//! Lines that cannot pass a filter on a parsed label are passed over before anything of them is parsed.
//!
//! `| json | user="u-17"` lets only entries pass whose label is this text. A parser takes values from the line as they
//! stand, but for escapes; so a line without a backslash that does not hold the text has no such label, unless the stream
//! or the entry's metadata brings it.

use std::ops::Range;

use memchr::memchr;
use memchr::memmem::Finder;
use model::MatchOp;
use storage_logs::Entries;

use super::Step;
use crate::labels::{Labels, unsuffixed};
use crate::stage::label_filter::LabelTest;
use crate::stage::line_filter::find_in_block;

/// A text that one label must be.
#[derive(Clone, Debug)]
pub(super) struct Prefilter {
    name: String,
    value: Finder<'static>,
}

impl Prefilter {
    /// What follows from the first steps: filters, parsers, and filters on what they found.
    pub fn of(steps: &[Step]) -> Vec<Prefilter> {
        let mut out = Vec::new();
        let mut parses = false;
        for step in steps {
            match step {
                Step::Line(_) => {}
                Step::Json
                | Step::JsonPaths(_)
                | Step::Logfmt { .. }
                | Step::LogfmtKeys { .. }
                | Step::Regexp(..)
                | Step::Pattern(_) => parses = true,
                Step::Labels(test) if parses => add(test, &mut out),
                Step::Labels(_) => {}
                _ => break,
            }
        }
        out
    }

    /// Of the entries `picked` (rising) keeps those that may pass. With `None` all of `range` are picked. `stream` are the
    /// labels of their stream.
    pub fn sift(&self, stream: &Labels, entries: &Entries, range: Range<usize>, picked: &mut Option<Vec<u32>>) {
        if stream.get_label(&self.name).is_some() {
            return;
        }
        let may_pass = |i: u32| {
            memchr(b'\\', entries.line(i as usize).as_bytes()).is_some() || self.is_metadata(entries, i as usize)
        };
        match picked {
            Some(picked) => picked.retain(|&i| {
                let line = entries.line(i as usize).as_bytes();
                self.value.find(line).is_some() || may_pass(i)
            }),
            None => {
                let mut kept = Vec::new();
                let mut next = range.start;
                find_in_block(&self.value, entries, range.clone(), |hit| {
                    kept.extend((next as u32..hit as u32).filter(|&i| may_pass(i)));
                    kept.push(hit as u32);
                    next = hit + 1;
                });
                kept.extend((next as u32..range.end as u32).filter(|&i| may_pass(i)));
                *picked = Some(kept);
            }
        }
    }

    /// Whether the label may come from the entry's metadata, whose names may get a suffix.
    fn is_metadata(&self, entries: &Entries, i: usize) -> bool {
        entries
            .metadata(i)
            .any(|(name, _)| unsuffixed(&self.name).any(|n| n == name))
    }
}

fn add(test: &LabelTest, out: &mut Vec<Prefilter>) {
    match test {
        LabelTest::Text(m) if m.op() == MatchOp::Equal && !m.name().starts_with("__") && is_verbatim(m.value()) => {
            out.push(Prefilter {
                name: m.name().to_owned(),
                value: Finder::new(m.value()).into_owned(),
            });
        }
        LabelTest::And(all) => all.iter().for_each(|test| add(test, out)),
        _ => {}
    }
}

/// Whether a parser can only find the text where it stands in the line: a space may have been another character.
fn is_verbatim(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}
