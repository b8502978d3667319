//! Which shapes do log lines have? Lines that differ only in their variable words become one pattern, counted over time.
//!
//! A line is cut into words and what stands between them. Lines with the same separators compete: a line joins the
//! pattern with which it shares most words, and the words in which they differ become `<_>`. The idea is that of Drain
//! (He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017), with the separators in place
//! of the tree. A pattern can be used as it is in a filter `|> "..."`, and then takes every line that was counted in it.

use hashbrown::HashMap;
use model::{Matcher, TimeRangeNs};
use query_exec::Context;
use storage_logs::{Entries, Logs, Needles};

use crate::EvalError;
use crate::stage::json::{self, Next, Value};

/// What a variable word is replaced by.
const ANY: &str = "<_>";
/// Longer lines have no shape that anyone would recognise.
const LINE_MAX: usize = 3000;
const WORDS_MAX: usize = 128;
/// Patterns kept for one level; lines that would need more are not counted.
const PATTERNS_MAX: usize = 300;
/// The share of words that a line must have in common with a pattern.
const LIKENESS: f64 = 0.3;
/// Where a JSON line keeps what it says.
const MESSAGE_KEYS: [&str; 6] = ["log", "message", "msg", "msg_", "_msg", "content"];
const CHECK_LINES: usize = 1024;

/// A shape of lines, and how many there were.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePattern {
    /// The pattern; fit for `|>`.
    pub pattern: String,
    /// The detected level of its lines; empty where none was detected.
    pub level: String,
    /// Start of an interval, Unix seconds, and the lines in it; rising, without empty intervals.
    pub samples: Vec<(i64, u64)>,
}

/// Patterns of the lines in `[start, end)` of streams that pass the matchers, counted in intervals of `step_ns`; the most
/// frequent first.
pub fn line_patterns(
    context: &Context,
    logs: &Logs,
    matchers: &[Matcher],
    range: TimeRangeNs,
    step_ns: i64,
) -> Result<Vec<LinePattern>, EvalError> {
    let step_ns = step_ns.max(1_000_000_000);
    let snapshot = logs.snapshot(range);
    let runs = snapshot.runs(matchers, range, &Needles::default())?;
    let mut miner = Miner::default();
    let mut entries = Entries::default();
    for run in &runs {
        context.check("pattern mining")?;
        run.read(&mut entries)?;
        for i in 0..entries.len() {
            if i % CHECK_LINES == 0 {
                context.check("pattern mining")?;
            }
            let level = entries.metadata(i).find(|(n, _)| *n == "detected_level");
            let t = entries.t(i).0;
            let interval = (t - t.rem_euclid(step_ns)).div_euclid(1_000_000_000);
            miner.look(entries.line(i), level.map_or("", |(_, v)| v), interval);
        }
    }
    Ok(miner.finish())
}

/// Patterns under way.
#[derive(Default)]
struct Miner {
    levels: HashMap<String, Level>,
    shape: Shape,
}

#[derive(Default)]
struct Level {
    /// Places in `clusters` by separators.
    by_shape: HashMap<String, Vec<usize>>,
    clusters: Vec<Cluster>,
}

struct Cluster {
    /// Separators around and between the words: one more than words.
    separators: Vec<Box<str>>,
    /// `None` is variable.
    words: Vec<Option<Box<str>>>,
    /// The pattern stands for a part of the line.
    inner: bool,
    counts: HashMap<i64, u64>,
}

/// Words of a line and what stands around them; its buffers are used again.
#[derive(Default)]
struct Shape {
    /// Separators, each ended by a byte that no text has.
    key: String,
    /// Start and end of words in the text.
    words: Vec<(usize, usize)>,
}

impl Miner {
    fn look(&mut self, line: &str, level: &str, interval: i64) {
        if line.len() > LINE_MAX {
            return;
        }
        let (text, inner) = match message_of(line) {
            Some(message) => (message, true),
            None => (line, false),
        };
        if !self.shape.cut(text) {
            return;
        }
        if inner {
            self.shape.key.push('\u{1}');
        }
        let level = self.levels.entry_ref(level).or_default();
        if let Some(cluster) = level.home(&self.shape, text, inner) {
            cluster.take(text, &self.shape.words);
            *cluster.counts.entry(interval).or_default() += 1;
        }
    }

    fn finish(self) -> Vec<LinePattern> {
        let mut patterns: HashMap<(String, String), HashMap<i64, u64>> = HashMap::new();
        for (level, found) in self.levels {
            for cluster in found.clusters {
                let Some(pattern) = cluster.pattern() else { continue };
                // Patterns that grew alike are one.
                let counts = patterns.entry((pattern, level.clone())).or_default();
                for (interval, n) in cluster.counts {
                    *counts.entry(interval).or_default() += n;
                }
            }
        }
        let mut list: Vec<(u64, LinePattern)> = Vec::with_capacity(patterns.len());
        for ((pattern, level), counts) in patterns {
            let mut samples: Vec<(i64, u64)> = counts.into_iter().collect();
            samples.sort_unstable();
            let total = samples.iter().map(|(_, n)| n).sum();
            list.push((
                total,
                LinePattern {
                    pattern,
                    level,
                    samples,
                },
            ));
        }
        list.sort_unstable_by(|(a, p), (b, q)| (b, &p.pattern, &p.level).cmp(&(a, &q.pattern, &q.level)));
        list.into_iter().map(|(_, pattern)| pattern).collect()
    }
}

impl Level {
    /// The cluster that a line belongs to; a new one if there is none yet and room for it.
    fn home(&mut self, shape: &Shape, text: &str, inner: bool) -> Option<&mut Cluster> {
        let places = self.by_shape.entry_ref(shape.key.as_str()).or_default();
        let mut best: Option<(usize, usize)> = None;
        for &place in places.iter() {
            let alike = self.clusters[place].likeness(text, &shape.words);
            if best.is_none_or(|(most, _)| alike > most) {
                best = Some((alike, place));
            }
        }
        let enough = |alike: usize| alike as f64 >= LIKENESS * shape.words.len() as f64;
        if let Some((_, place)) = best.filter(|(alike, _)| enough(*alike)) {
            return self.clusters.get_mut(place);
        }
        if self.clusters.len() >= PATTERNS_MAX {
            return None;
        }
        places.push(self.clusters.len());
        self.clusters.push(Cluster::new(shape, text, inner));
        self.clusters.last_mut()
    }
}

impl Cluster {
    fn new(shape: &Shape, text: &str, inner: bool) -> Cluster {
        let mut separators = Vec::with_capacity(shape.words.len() + 1);
        let mut end = 0;
        for &(from, to) in &shape.words {
            separators.push(text[end..from].into());
            end = to;
        }
        separators.push(text[end..].into());
        // A word that a filter would read as a capture cannot stand for itself.
        let word = |&(from, to): &(usize, usize)| Some(&text[from..to]).filter(|w| !w.contains('<')).map(Box::from);
        Cluster {
            separators,
            words: shape.words.iter().map(word).collect(),
            inner,
            counts: HashMap::new(),
        }
    }

    /// Words in common; two numbers count as that.
    fn likeness(&self, text: &str, words: &[(usize, usize)]) -> usize {
        let alike = |(mine, &(from, to)): (&Option<Box<str>>, &(usize, usize))| {
            let word = &text[from..to];
            match mine {
                Some(mine) => **mine == *word || (has_digit(mine) && has_digit(word)),
                None => has_digit(word),
            }
        };
        self.words.iter().zip(words).filter(|pair| alike(*pair)).count()
    }

    /// Makes variable what differs.
    fn take(&mut self, text: &str, words: &[(usize, usize)]) {
        for (mine, &(from, to)) in self.words.iter_mut().zip(words) {
            if mine.as_ref().is_some_and(|mine| **mine != text[from..to]) {
                *mine = None;
            }
        }
    }

    /// The pattern, unless it says nothing.
    fn pattern(&self) -> Option<String> {
        let mut out = String::new();
        if self.inner {
            out.push_str(ANY);
        }
        for (separator, word) in self.separators.iter().zip(&self.words) {
            out.push_str(separator);
            match word {
                Some(word) => out.push_str(word),
                None if out.ends_with(ANY) => {}
                None => out.push_str(ANY),
            }
        }
        out.push_str(self.separators.last()?);
        if self.inner && !out.ends_with(ANY) {
            out.push_str(ANY);
        }
        out.replace(ANY, "").contains(char::is_alphabetic).then_some(out)
    }
}

impl Shape {
    /// Cuts a text into words; `false` if it has none, or too many.
    fn cut(&mut self, text: &str) -> bool {
        self.key.clear();
        self.words.clear();
        let mut from = None;
        for (at, c) in text.char_indices() {
            let in_word = c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '<' | '>');
            match (from, in_word) {
                (None, true) => {
                    self.key.push('\u{0}');
                    from = Some(at);
                }
                (Some(start), false) => {
                    self.words.push((start, at));
                    self.key.push(c);
                    from = None;
                }
                (None, false) => self.key.push(c),
                (Some(_), true) => {}
            }
        }
        if let Some(start) = from {
            self.words.push((start, text.len()));
        }
        !self.words.is_empty() && self.words.len() <= WORDS_MAX
    }
}

/// What a JSON line says, as it stands in the line.
fn message_of(line: &str) -> Option<&str> {
    if !line.trim_start().starts_with('{') {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    let _ = json::members(line, |key, value| {
        if let (Some(rank), Value::Text(text)) = (MESSAGE_KEYS.iter().position(|k| *k == key), value)
            && !text.is_empty()
            && best.is_none_or(|(known, _)| rank < known)
        {
            best = Some((rank, text));
        }
        Next::Go
    });
    best.map(|(_, text)| text)
}

fn has_digit(word: &str) -> bool {
    word.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::pattern::Pattern;
    use proptest::prelude::*;

    fn mine(lines: &[&str]) -> Vec<(String, u64)> {
        let mut miner = Miner::default();
        for line in lines {
            miner.look(line, "info", 0);
        }
        let count = |p: LinePattern| (p.pattern, p.samples.iter().map(|(_, n)| n).sum());
        miner.finish().into_iter().map(count).collect()
    }

    fn is(pattern: &str, count: u64) -> (String, u64) {
        (pattern.to_owned(), count)
    }

    #[test]
    fn words_that_differ_become_variable() {
        let lines = [
            "user alice logged in from 10.0.0.1",
            "user bob logged in from 10.0.0.2",
            "disk sda1 is full",
            "user carol logged in from 10.0.0.1",
        ];
        let want = [is("user <_> logged in from <_>", 3), is("disk sda1 is full", 1)];
        assert_eq!(mine(&lines), want);
    }

    #[test]
    fn json_lines_are_known_by_their_message() {
        let lines = [
            r#"{"level":"info","msg":"order 17 placed","t":1}"#,
            r#"{"msg":"order 18 placed"}"#,
        ];
        assert_eq!(mine(&lines), [is("<_>order <_> placed<_>", 2)]);
    }

    #[test]
    fn lines_that_say_nothing_or_too_much_have_no_pattern() {
        let long = "x ".repeat(2000);
        assert_eq!(mine(&["", "--- 17 ---", "1 2 3", &long]), []);
        // What looks like a capture is variable.
        assert_eq!(mine(&["got <nil> here"]), [is("got <_> here", 1)]);
    }

    #[test]
    fn counts_go_to_their_level_and_interval() {
        let mut miner = Miner::default();
        for (level, interval) in [("warn", 20), ("error", 10), ("error", 20), ("error", 10)] {
            miner.look("it broke", level, interval);
        }
        let found: Vec<_> = miner.finish().into_iter().map(|p| (p.level, p.samples)).collect();
        assert_eq!(
            found,
            [
                ("error".to_owned(), vec![(10, 2), (20, 1)]),
                ("warn".to_owned(), vec![(20, 1)])
            ]
        );
    }

    fn line() -> impl Strategy<Value = String> {
        let word = proptest::sample::select(vec![
            "a",
            "GET",
            "/x/y",
            "17",
            "0.5",
            "<_>",
            "<b>",
            "=",
            "\"",
            ",",
            "[",
            "]",
            "{",
            "}",
            "user=",
            "é",
            "{\"msg\":\"",
        ]);
        let gap = proptest::sample::select(vec![" ", " ", "", "  "]);
        proptest::collection::vec((word, gap), 1..12)
            .prop_map(|parts| parts.iter().map(|(w, g)| format!("{w}{g}")).collect())
    }

    proptest! {
        /// What is shown as a pattern must work as a filter, on every line that it stands for.
        #[test]
        fn a_pattern_takes_its_lines(lines in proptest::collection::vec(line(), 1..20)) {
            let mut miner = Miner::default();
            for line in &lines {
                miner.look(line, "", 0);
            }
            let patterns = miner.finish();
            let filters: Vec<Pattern> = patterns.iter().map(|p| Pattern::for_filter(&p.pattern).unwrap()).collect();
            let counted: u64 = patterns.iter().flat_map(|p| &p.samples).map(|(_, n)| n).sum();
            let taken = lines.iter().filter(|line| filters.iter().any(|f| f.fits(line))).count() as u64;
            prop_assert!(taken >= counted, "{patterns:?} take {taken} lines of {counted}");
        }
    }
}
