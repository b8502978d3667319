//! Line filters: `|=`, `!=`, `|~`, `!~`, `|>`, `!>`, with `or` and `ip()`.
//!
//! A filter that asks for texts, or whose regular expressions and patterns each hold a text, is run on a whole block: its
//! text is searched from end to end before any line is looked at ([`LineTest::sift`]).

use std::ops::Range;

use memchr::memmem::Finder;
use model::Regex;
use storage_logs::Entries;

use super::ip::IpSet;
use super::pattern::Pattern;
use crate::regexp::Regexes;
use crate::syntax::{LineFilter, LineOp, LineValue};

/// A filter that is ready to run.
#[derive(Clone, Debug)]
pub(crate) struct LineTest {
    negated: bool,
    any: Vec<Test>,
}

#[derive(Clone, Debug)]
enum Test {
    Everything,
    Contains(Literal),
    /// With a text that every match contains, if there is one.
    Regex(Regex, Option<Literal>),
    Pattern(Pattern, Option<Literal>),
    Ip(IpSet),
}

type Literal = Box<Finder<'static>>;

/// A test is searched for in the whole block while at least one in this many entries is left, else line by line.
const BLOCK_SHARE: usize = 4;

impl LineTest {
    /// Compiles the filter.
    pub fn new(filter: &LineFilter, regexes: &Regexes) -> Result<LineTest, String> {
        let tests = filter.values.iter().map(|value| test(filter.op, value, regexes));
        let mut any = tests.collect::<Result<Vec<_>, _>>()?;
        // What lets every line pass is no alternative to what does not.
        if any.iter().any(|t| !matches!(t, Test::Everything)) {
            any.retain(|t| !matches!(t, Test::Everything));
        }
        Ok(LineTest {
            negated: filter.op.is_negative(),
            any,
        })
    }

    /// Whether the line survives.
    pub fn passes(&self, line: &str) -> bool {
        self.any.iter().any(|test| test.hits(line)) != self.negated
    }

    /// Of the entries `picked` (rising) keeps those whose lines survive. With `None` all of `range` are picked.
    pub fn sift(&self, entries: &Entries, range: Range<usize>, picked: &mut Option<Vec<u32>>) {
        let left = picked.as_ref().map_or(range.len(), Vec::len);
        let literals: Option<Vec<_>> = match left * BLOCK_SHARE >= range.len() {
            true => self.any.iter().map(Test::literal).collect(),
            false => None,
        };
        let Some(literals) = literals else {
            match picked {
                Some(picked) => picked.retain(|&i| self.passes(entries.line(i as usize))),
                None => {
                    let all = range.filter(|&i| self.passes(entries.line(i)));
                    *picked = Some(all.map(|i| i as u32).collect());
                }
            }
            return;
        };
        let mut hits: Vec<u32> = Vec::new();
        for (test, literal) in self.any.iter().zip(literals) {
            find_in_block(literal, entries, range.clone(), |i| {
                if matches!(test, Test::Contains(_)) || test.hits(entries.line(i)) {
                    hits.push(i as u32);
                }
            });
        }
        if self.any.len() > 1 {
            hits.sort_unstable();
            hits.dedup();
        }
        let mut hits = hits.into_iter().peekable();
        let mut passes = |i: u32| {
            while hits.next_if(|&hit| hit < i).is_some() {}
            (hits.peek() == Some(&i)) != self.negated
        };
        match picked {
            Some(picked) => picked.retain(|&i| passes(i)),
            None => *picked = Some((range.start as u32..range.end as u32).filter(|&i| passes(i)).collect()),
        }
    }

    /// Whether it lets every line pass.
    pub fn is_idle(&self) -> bool {
        !self.negated && self.any.iter().any(|t| matches!(t, Test::Everything))
    }
}

impl Test {
    fn hits(&self, line: &str) -> bool {
        match self {
            Test::Everything => true,
            Test::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Test::Regex(regex, _) => regex.is_match(line),
            Test::Pattern(pattern, _) => pattern.fits(line),
            Test::Ip(set) => set.found_in(line),
        }
    }

    /// A text that every line holds that the test hits.
    fn literal(&self) -> Option<&Finder<'static>> {
        match self {
            Test::Contains(finder) => Some(finder),
            Test::Regex(_, literal) | Test::Pattern(_, literal) => literal.as_deref(),
            Test::Everything | Test::Ip(_) => None,
        }
    }
}

/// Calls `found` with each entry of `range` whose line contains the text, in rising order.
pub(crate) fn find_in_block(
    literal: &Finder<'_>,
    entries: &Entries,
    range: Range<usize>,
    mut found: impl FnMut(usize),
) {
    let Some(last) = range.end.checked_sub(1).filter(|_| !range.is_empty()) else {
        return;
    };
    let text = &entries.text().as_bytes()[..entries.line_range(last).end];
    let len = literal.needle().len();
    let mut i = range.start;
    let mut line = entries.line_range(i);
    let mut at = line.start;
    while let Some(hit) = text.get(at..).and_then(|rest| literal.find(rest)) {
        let hit = at + hit;
        while line.end < hit {
            i += 1;
            line = entries.line_range(i);
        }
        if hit + len > line.end {
            // It lies across two lines.
            at = hit + 1;
            continue;
        }
        found(i);
        if i == last {
            return;
        }
        i += 1;
        line = entries.line_range(i);
        at = line.start;
    }
}

fn test(op: LineOp, value: &LineValue, regexes: &Regexes) -> Result<Test, String> {
    match (op, value) {
        (LineOp::Contains | LineOp::NotContains, LineValue::Ip(pattern)) => Ok(Test::Ip(IpSet::parse(pattern)?)),
        (_, LineValue::Ip(_)) => Err("ip: invalid operation".into()),
        (LineOp::Contains | LineOp::NotContains, LineValue::Text(text)) => Ok(contains(text)),
        (LineOp::Regex | LineOp::NotRegex, LineValue::Text(text)) => {
            let regex = regexes.search(text)?;
            Ok(if text.is_empty() || text == ".*" {
                Test::Everything
            } else if regex_syntax::escape(text) == *text {
                contains(text)
            } else {
                let literal = literal(regex.required_literal());
                Test::Regex(regex, literal)
            })
        }
        (LineOp::Pattern | LineOp::NotPattern, LineValue::Text(text)) => {
            let pattern = Pattern::for_filter(text)?;
            let longest = pattern.literals().max_by_key(|text| text.len()).and_then(literal);
            Ok(Test::Pattern(pattern, longest))
        }
    }
}

fn contains(text: &str) -> Test {
    literal(text).map_or(Test::Everything, Test::Contains)
}

fn literal(text: &str) -> Option<Literal> {
    (!text.is_empty()).then(|| Box::new(Finder::new(text.as_bytes()).into_owned()))
}

/// Adds to `needles` substrings that every line contains that passes the filter.
pub(crate) fn needles(filter: &LineFilter, regexes: &Regexes, needles: &mut Vec<String>) -> Result<(), String> {
    let [LineValue::Text(text)] = &filter.values[..] else {
        return Ok(());
    };
    match filter.op {
        LineOp::Contains if !text.is_empty() => needles.push(text.clone()),
        LineOp::Regex => {
            let regex = regexes.search(text)?;
            let literal = regex.required_literal();
            if !literal.is_empty() {
                needles.push(literal.to_owned());
            }
        }
        LineOp::Pattern => {
            if let Ok(pattern) = Pattern::for_filter(text) {
                needles.extend(pattern.literals().map(str::to_owned));
            }
        }
        _ => {}
    }
    Ok(())
}
