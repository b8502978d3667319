//! Compiled regular expressions, and the memory that those of one query may take.
//!
//! A pattern is read by RE2's rules (`re2`) and compiled once. Programs are bounded one by one, but a text can hold thousands
//! of patterns; so whoever reads a text from outside keeps a [`RegexBudget`] for it, which charges what each program really
//! takes and gives a pattern that comes again the program of the first. Searching takes memory too, by thread: the
//! caches of lazily built automata become smaller the more patterns there are.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::{captures, interpolate};
use regex_syntax::hir::{Hir, HirKind};

use crate::BadMatcher;
use crate::re2::{refused, translate};

/// Bytes that one compiled pattern may take.
const PROGRAM_BYTES_MAX: usize = 4 << 20;
/// Bytes that all compiled patterns of a budget may take unless it says otherwise.
const BUDGET_BYTES_MAX: usize = 64 << 20;
/// Bytes of the cache of one lazily built automaton, at most.
const CACHE_BYTES_MAX: usize = 2 << 20;
/// The share of a budget that the caches of all its patterns take, were they all as large as that of the first.
const CACHES_SHARE: usize = 8;
/// Bytes of the automaton that finds groups in one pass, at most; without it they are found more slowly.
const ONE_PASS_BYTES_MAX: usize = 256 << 10;
/// Bytes that a compiled pattern takes besides its program.
const OVERHEAD_BYTES: usize = 4 << 10;
/// Bytes of a program that make a state, at least.
const STATE_BYTES_MIN: usize = 24;

/// A compiled regular expression. Cheap to clone.
#[derive(Clone)]
pub struct Regex {
    engine: Arc<meta::Regex>,
    pattern: Arc<str>,
    literal: Arc<str>,
}

/// Where the groups of a match lie. Made by [`Regex::new_captures`], reused from text to text.
#[derive(Clone, Debug)]
pub struct Captures(captures::Captures);

/// What is asked of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegexUse {
    /// Whether it matches the whole of a text; `.` also matches a newline.
    Whole,
    /// The same, and where its groups lie.
    WholeGroups,
    /// Whether it matches somewhere in a text, and where.
    Search,
    /// The same, and where its groups lie.
    SearchGroups,
}

/// Compiles the patterns of one query, which share a bound on memory.
#[derive(Debug)]
pub struct RegexBudget {
    bytes_max: usize,
    state: RefCell<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    /// Each pattern by its use.
    regexes: HashMap<(Box<str>, RegexUse), Regex>,
    bytes: usize,
}

/// Compiles a pattern that must match the whole of a text and whose groups are asked for; `.` also matches a newline. The
/// error is worded as RE2's users know it, `error parsing regexp: ` included.
pub fn anchored_regex(pattern: &str) -> Result<Regex, BadMatcher> {
    RegexBudget::default().compile(pattern, RegexUse::WholeGroups)
}

/// Compiles a pattern that may match anywhere in a text and whose groups are asked for; `.` matches no newline. Errors are
/// worded as above.
pub fn unanchored_regex(pattern: &str) -> Result<Regex, BadMatcher> {
    RegexBudget::default().compile(pattern, RegexUse::SearchGroups)
}

impl Default for RegexBudget {
    /// 64 MiB.
    fn default() -> RegexBudget {
        RegexBudget::of(BUDGET_BYTES_MAX)
    }
}

impl RegexBudget {
    /// One of so many bytes.
    pub fn of(bytes_max: usize) -> RegexBudget {
        RegexBudget {
            bytes_max,
            state: RefCell::default(),
        }
    }

    /// Compiles a pattern, or returns what was made of it before. The error is worded as RE2's users know it,
    /// `error parsing regexp: ` included; the budget is spent when this and all before it take more.
    pub fn compile(&self, pattern: &str, wanted: RegexUse) -> Result<Regex, BadMatcher> {
        let mut state = self.state.borrow_mut();
        let key = (Box::from(pattern), wanted);
        if let Some(regex) = state.regexes.get(&key) {
            return Ok(regex.clone());
        }
        let caches = self.bytes_max / CACHES_SHARE;
        let cache_bytes = (caches / (state.regexes.len() + 1)).min(CACHE_BYTES_MAX);
        let regex = Regex::new(pattern, wanted, cache_bytes)?;
        state.bytes = state.bytes.saturating_add(regex.bytes().saturating_add(pattern.len()));
        if state.bytes > self.bytes_max {
            return Err(BadMatcher {
                message: format!(
                    "error parsing regexp: expression too large: all regular expressions of a query may take \
                     {} bytes when they are compiled; ask with fewer or simpler ones",
                    self.bytes_max
                ),
            });
        }
        state.regexes.insert(key, regex.clone());
        Ok(regex)
    }

    /// Bytes that are charged so far.
    pub fn bytes(&self) -> usize {
        self.state.borrow().bytes
    }
}

impl Regex {
    fn new(pattern: &str, wanted: RegexUse, cache_bytes: usize) -> Result<Regex, BadMatcher> {
        let translated = translate(pattern)?;
        let (whole, groups) = match wanted {
            RegexUse::Whole => (true, false),
            RegexUse::WholeGroups => (true, true),
            RegexUse::Search => (false, false),
            RegexUse::SearchGroups => (false, true),
        };
        let spelled = if whole {
            format!("^(?s:{translated})$")
        } else {
            translated
        };
        let hir = regex_syntax::parse(&spelled).map_err(|e| {
            let text = e.to_string();
            let last = text.lines().last().unwrap_or_default();
            refused(last.trim_start_matches("error: "), pattern)
        })?;
        let config = meta::Config::new()
            .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
            .onepass_size_limit(Some(ONE_PASS_BYTES_MAX))
            .hybrid_cache_capacity(cache_bytes)
            .which_captures(if groups {
                WhichCaptures::All
            } else {
                WhichCaptures::Implicit
            });
        let engine = meta::Builder::new()
            .configure(config)
            .build_from_hir(&hir)
            .map_err(|e| {
                if e.size_limit().is_some() {
                    refused("expression too large", pattern)
                } else {
                    refused(&e.to_string(), pattern)
                }
            })?;
        let mut literal = Vec::new();
        longest_literal(&hir, &mut literal);
        Ok(Regex {
            engine: Arc::new(engine),
            pattern: pattern.into(),
            literal: String::from_utf8(literal).unwrap_or_default().into(),
        })
    }

    /// What it takes in memory: the program, and what a search for groups takes at worst, which is a place for every group
    /// in every state.
    fn bytes(&self) -> usize {
        let program = self.engine.memory_usage();
        let slots = match self.engine.group_info().all_group_len() {
            0 | 1 => 0,
            groups => 2 * groups * size_of::<usize>(),
        };
        let states = program / STATE_BYTES_MIN;
        OVERHEAD_BYTES
            .saturating_add(program)
            .saturating_add(states.saturating_mul(slots))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether it matches the text, as it was asked for: the whole or a part of it.
    pub fn is_match(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    /// A text that is part of every match, the longest that was found; empty if there is none.
    pub fn required_literal(&self) -> &str {
        &self.literal
    }

    /// The names of its groups by number; the first is the whole match and has none.
    pub fn group_names(&self) -> impl Iterator<Item = Option<&str>> {
        self.engine.group_info().pattern_names(regex_automata::PatternID::ZERO)
    }

    /// Room for the groups of a match.
    pub fn new_captures(&self) -> Captures {
        Captures(self.engine.create_captures())
    }

    /// Finds the first match and its groups; whether there is one. `found` must be this expression's.
    pub fn captures(&self, text: &str, found: &mut Captures) -> bool {
        self.engine.captures(text, &mut found.0);
        found.0.is_match()
    }

    /// The matches in a text with their groups, from left to right.
    pub fn captures_iter<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Captures> + 't {
        self.engine.captures_iter(text).map(Captures)
    }

    /// The matches in a text, from left to right.
    pub fn find_iter<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.engine.find_iter(text).map(|found| found.range())
    }

    /// The text with every match replaced; `$1`, `${1}` and `$name` in the replacement stand for groups unless it is
    /// `literal`.
    pub fn replace_all<'t>(&self, text: &'t str, replacement: &str, literal: bool) -> Cow<'t, str> {
        let mut out = String::new();
        let mut copied = 0;
        if literal || !replacement.contains('$') {
            for found in self.engine.find_iter(text) {
                out.push_str(&text[copied..found.start()]);
                out.push_str(replacement);
                copied = found.end();
            }
        } else {
            for groups in self.engine.captures_iter(text) {
                let Some(found) = groups.get_match() else { break };
                out.push_str(&text[copied..found.start()]);
                expand(&groups, text, replacement, &mut out);
                copied = found.end();
            }
        }
        if copied == 0 && out.is_empty() {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[copied..]);
        Cow::Owned(out)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({:?})", self.pattern)
    }
}

impl PartialEq for Regex {
    /// Whether they were written alike.
    fn eq(&self, other: &Regex) -> bool {
        self.pattern == other.pattern
    }
}

impl Captures {
    /// Whether there is room for the groups of this expression, no more and no less.
    pub fn are_of(&self, regex: &Regex) -> bool {
        self.0.group_info().all_group_len() == regex.engine.group_info().all_group_len()
    }

    /// Where a group lies, by number; 0 is the whole match.
    pub fn get(&self, group: usize) -> Option<Range<usize>> {
        self.0.get_group(group).map(|span| span.range())
    }

    /// Where a group lies, by name.
    pub fn named(&self, name: &str) -> Option<Range<usize>> {
        self.0.get_group_by_name(name).map(|span| span.range())
    }

    /// Adds to `out` the replacement with groups of the match in `text` put in for `$1`, `${1}` and `$name`.
    pub fn expand(&self, text: &str, replacement: &str, out: &mut String) {
        expand(&self.0, text, replacement, out);
    }
}

fn expand(groups: &captures::Captures, text: &str, replacement: &str, out: &mut String) {
    interpolate::string(
        replacement,
        |group, out| {
            if let Some(span) = groups.get_group(group) {
                out.push_str(&text[span.range()]);
            }
        },
        |name| groups.group_info().to_index(regex_automata::PatternID::ZERO, name),
        out,
    );
}

fn longest_literal(hir: &Hir, best: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.len() > best.len() => {
            best.clear();
            best.extend_from_slice(&literal.0);
        }
        HirKind::Concat(parts) => parts.iter().for_each(|part| longest_literal(part, best)),
        HirKind::Capture(capture) => longest_literal(&capture.sub, best),
        HirKind::Repetition(repetition) if repetition.min > 0 => longest_literal(&repetition.sub, best),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(pattern: &str, wanted: RegexUse) -> Regex {
        RegexBudget::default().compile(pattern, wanted).unwrap()
    }

    #[test]
    fn a_search_finds_parts_and_dots_end_at_lines() {
        for (pattern, text, want) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{661}\u{662}", false),
            (r"^[\w-]+$", "é", false),
            (r"\bfoo\b", "éfoo", true),
            ("a.c", "xabcx", true),
            ("a.c", "a\nc", false),
            ("(?s)a.c", "a\nc", true),
        ] {
            assert_eq!(
                regex(pattern, RegexUse::Search).is_match(text),
                want,
                "{pattern} {text:?}"
            );
        }
    }

    #[test]
    fn a_required_literal_is_in_every_match() {
        for (pattern, want) in [
            ("err.*timeout", "timeout"),
            ("(?i)err", ""),
            ("a|b", ""),
            ("(foo)+x?", "foo"),
            ("x*", ""),
            (r"code=5\d\d", "code=5"),
        ] {
            assert_eq!(regex(pattern, RegexUse::Search).required_literal(), want, "{pattern}");
        }
    }

    #[test]
    fn replacing_as_it_is_known() {
        for (pattern, text, replacement, literal, want) in [
            ("(a)(?P<n>b)?", "ab a", "<$1${n}>", false, "<ab> <a>"),
            ("(a)", "ab a", "<$1>", true, "<$1>b <$1>"),
            ("x*", "ab", "-", false, "-a-b-"),
            ("x*", "", "-", true, "-"),
            ("z", "ab", "-", false, "ab"),
            ("a", "aéa", "", false, "é"),
            ("a", "a", "$$1$", false, "$1$"),
        ] {
            let found = regex(pattern, RegexUse::SearchGroups)
                .replace_all(text, replacement, literal)
                .into_owned();
            assert_eq!(found, want, "{pattern} {text}");
            let old = regex_as_known(pattern, text, replacement, literal);
            assert_eq!(found, old, "{pattern} {text}");
        }
    }

    fn regex_as_known(pattern: &str, text: &str, replacement: &str, literal: bool) -> String {
        let known = regex::Regex::new(pattern).unwrap();
        match literal {
            true => known.replace_all(text, regex::NoExpand(replacement)).into_owned(),
            false => known.replace_all(text, replacement).into_owned(),
        }
    }

    #[test]
    fn many_patterns_share_one_budget() {
        let budget = RegexBudget::default();
        for n in 0..1000 {
            budget
                .compile(&format!("pod-{n}-.*|service-{n}"), RegexUse::Whole)
                .unwrap();
        }
        assert!(budget.bytes() < BUDGET_BYTES_MAX / 2, "{}", budget.bytes());
        let spent = budget.bytes();
        budget.compile("pod-7-.*|service-7", RegexUse::Whole).unwrap();
        assert_eq!(budget.bytes(), spent, "what was compiled before costs nothing");

        let large: Result<Vec<_>, _> = (0..200)
            .map(|n| budget.compile(&format!(r"\pL{{20}}{n}"), RegexUse::Search))
            .collect();
        let refusal = large.unwrap_err().message;
        assert!(
            refusal.starts_with("error parsing regexp: expression too large: all "),
            "{refusal}"
        );
        assert!(budget.bytes() < BUDGET_BYTES_MAX + 4 * PROGRAM_BYTES_MAX);
    }

    #[test]
    fn groups_of_many_states_are_charged() {
        let groups = format!(r"(?:{}\pL{{5}})", "(a)|".repeat(1000));
        let search = RegexBudget::default().compile(&groups, RegexUse::Search);
        assert!(search.is_ok());
        assert!(RegexBudget::default().compile(&groups, RegexUse::SearchGroups).is_err());
    }
}
