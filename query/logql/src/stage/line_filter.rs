//! Line filters: `|=`, `!=`, `|~`, `!~`, `|>`, `!>`, with `or` and `ip()`.

use memchr::memmem::Finder;
use regex::Regex;

use super::ip::IpSet;
use super::pattern::Pattern;
use crate::regexp;
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
    Contains(Box<Finder<'static>>),
    Regex(Regex),
    Pattern(Pattern),
    Ip(IpSet),
}

impl LineTest {
    /// Compiles the filter.
    pub fn new(filter: &LineFilter) -> Result<LineTest, String> {
        let any = filter
            .values
            .iter()
            .map(|value| test(filter.op, value))
            .collect::<Result<_, _>>()?;
        Ok(LineTest {
            negated: filter.op.is_negative(),
            any,
        })
    }

    /// Whether the line survives.
    pub fn passes(&self, line: &str) -> bool {
        let hit = self.any.iter().any(|test| match test {
            Test::Everything => true,
            Test::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Test::Regex(regex) => regex.is_match(line),
            Test::Pattern(pattern) => pattern.fits(line),
            Test::Ip(set) => set.found_in(line),
        });
        hit != self.negated
    }

    /// Whether it lets every line pass.
    pub fn is_idle(&self) -> bool {
        !self.negated && self.any.iter().any(|t| matches!(t, Test::Everything))
    }
}

fn test(op: LineOp, value: &LineValue) -> Result<Test, String> {
    match (op, value) {
        (LineOp::Contains | LineOp::NotContains, LineValue::Ip(pattern)) => Ok(Test::Ip(IpSet::parse(pattern)?)),
        (_, LineValue::Ip(_)) => Err("ip: invalid operation".into()),
        (LineOp::Contains | LineOp::NotContains, LineValue::Text(text)) => Ok(contains(text)),
        (LineOp::Regex | LineOp::NotRegex, LineValue::Text(text)) => {
            let regex = regexp::compile(text)?;
            Ok(if text.is_empty() || text == ".*" {
                Test::Everything
            } else if regex_syntax::escape(text) == *text {
                contains(text)
            } else {
                Test::Regex(regex)
            })
        }
        (LineOp::Pattern | LineOp::NotPattern, LineValue::Text(text)) => Ok(Test::Pattern(
            Pattern::for_filter(text).map_err(|e| format!("pattern: {e}"))?,
        )),
    }
}

fn contains(text: &str) -> Test {
    if text.is_empty() {
        Test::Everything
    } else {
        Test::Contains(Box::new(Finder::new(text.as_bytes()).into_owned()))
    }
}

/// Adds to `needles` substrings that every line contains that passes the filter.
pub(crate) fn needles(filter: &LineFilter, needles: &mut Vec<String>) {
    let [LineValue::Text(text)] = &filter.values[..] else {
        return;
    };
    match filter.op {
        LineOp::Contains if !text.is_empty() => needles.push(text.clone()),
        LineOp::Regex => {
            let literal = regexp::required_literal(text);
            if !literal.is_empty() {
                needles.push(literal);
            }
        }
        LineOp::Pattern => {
            if let Ok(pattern) = Pattern::for_filter(text) {
                needles.extend(pattern.literals().map(str::to_owned));
            }
        }
        _ => {}
    }
}
