//! Which ids match: matchers become lookups, scans and subtractions on the postings of each day.
//!
//! An absent label has the value `""`. A matcher that refuses `""` selects ids that have the label with a value that
//! passes. A matcher that accepts `""` removes ids that have the label with a value that fails, so that it never needs
//! a list of those without the label. Cheap selections come first; once few ids are left, their label sets are read
//! instead of scanning all values of a label.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use model::{Day, LabelSet, MatchOp, Matcher};
use roaring::RoaringBitmap;

use crate::database::Family;
use crate::day_cache::{Answer, Question};
use crate::error::CatalogueError;
use crate::label_index::Index;
use crate::post_key;

/// Up to this many label sets are read rather than a scan over a label's values begun.
const READ_MAX: u64 = 128;

/// What a matcher asks of the index.
struct Step<'a> {
    matcher: &'a Matcher,
    /// Ids found are kept (`true`) or removed.
    keeps: bool,
    source: Source<'a>,
}

/// Where the ids of a step come from; in rising order of cost.
enum Source<'a> {
    /// Nothing is found.
    Nothing,
    /// These values, looked up.
    Values(&'a [String]),
    /// One value, looked up.
    Value(&'a str),
    /// The label with any value.
    Name,
    /// Values that begin with `prefix` and that the matcher accepts (when keeping) or refuses (when removing).
    Scan { prefix: String },
}

impl Index {
    /// See [`crate::LabelIndex::postings`].
    pub(crate) fn postings(&self, days: (Day, Day), matchers: &[Matcher]) -> Result<RoaringBitmap, CatalogueError> {
        let steps = plan(matchers);
        let question = Question::postings(matchers);
        let mut ids = RoaringBitmap::new();
        for day in self.days_in(days) {
            let version = self.cache.version(day);
            if let Some(Answer::Ids(known)) = self.cache.get(day, version, &question) {
                ids |= &*known;
                continue;
            }
            let found = Arc::new(self.postings_of_day(day, &steps)?);
            self.cache
                .put(day, version, question.clone(), Answer::Ids(found.clone()));
            ids |= &*found;
        }
        Ok(ids)
    }

    /// See [`crate::LabelIndex::names`].
    pub(crate) fn names(&self, days: (Day, Day), ids: Option<&RoaringBitmap>) -> Result<Vec<String>, CatalogueError> {
        if let Some(few) = self.few_in_use(days, ids)? {
            let mut names = BTreeSet::new();
            self.each_label_set(&few, |_, labels| {
                for (name, _) in labels.iter() {
                    insert(&mut names, name);
                }
            })?;
            return Ok(names.into_iter().collect());
        }
        self.texts_of_days(days, Question::names(ids), ids, post_key::names)
    }

    /// See [`crate::LabelIndex::values`].
    pub(crate) fn values(
        &self,
        days: (Day, Day),
        name: &str,
        ids: Option<&RoaringBitmap>,
    ) -> Result<Vec<String>, CatalogueError> {
        if let Some(few) = self.few_in_use(days, ids)? {
            let mut values = BTreeSet::new();
            self.each_label_set(&few, |_, labels| {
                if let Some(value) = labels.get(name) {
                    insert(&mut values, value);
                }
            })?;
            return Ok(values.into_iter().collect());
        }
        self.texts_of_days(days, Question::values(name, ids), ids, |day| {
            post_key::values(day, name)
        })
    }

    /// The texts behind a key of each day that are stored for one of `ids`, sorted, each once.
    fn texts_of_days(
        &self,
        days: (Day, Day),
        question: Question,
        ids: Option<&RoaringBitmap>,
        base: impl Fn(Day) -> Vec<u8>,
    ) -> Result<Vec<String>, CatalogueError> {
        let mut lists = Vec::new();
        for day in self.days_in(days) {
            let version = self.cache.version(day);
            if let Some(Answer::Texts(known)) = self.cache.get(day, version, &question) {
                lists.push(known);
                continue;
            }
            // They come sorted: by their place in the keys.
            let mut found = Vec::new();
            self.texts_with_ids(&base(day), "", ids, |text| found.push(text.to_owned()))?;
            let found: Arc<[String]> = found.into();
            self.cache
                .put(day, version, question.clone(), Answer::Texts(found.clone()));
            lists.push(found);
        }
        if let [one] = &lists[..] {
            return Ok(one.to_vec());
        }
        let mut all: Vec<&String> = lists.iter().flat_map(|list| list.iter()).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all.into_iter().cloned().collect())
    }

    /// Those of `ids` that are in use in the range, if `ids` are so few that reading their label sets is the shorter way.
    fn few_in_use(
        &self,
        days: (Day, Day),
        ids: Option<&RoaringBitmap>,
    ) -> Result<Option<RoaringBitmap>, CatalogueError> {
        let Some(ids) = ids.filter(|ids| ids.len() <= READ_MAX) else {
            return Ok(None);
        };
        let mut few = RoaringBitmap::new();
        for day in self.days_in(days) {
            few |= self.ids_of(&post_key::all(day))? & ids;
        }
        Ok(Some(few))
    }

    fn postings_of_day(&self, day: Day, steps: &[Step]) -> Result<RoaringBitmap, CatalogueError> {
        let mut ids: Option<RoaringBitmap> = None;
        for step in steps {
            let mut left = match ids.take() {
                // Steps that keep come first, so nothing was selected yet and the first of them needs no start.
                None if step.keeps => {
                    ids = Some(self.found(day, step)?);
                    continue;
                }
                None => self.ids_of(&post_key::all(day))?,
                Some(left) => left,
            };
            if left.is_empty() {
                return Ok(left);
            }
            if matches!(step.source, Source::Scan { .. }) && left.len() <= READ_MAX {
                left = self.passing(&left, step.matcher)?;
            } else if step.keeps {
                left &= self.found(day, step)?;
            } else {
                left -= self.found(day, step)?;
            }
            ids = Some(left);
        }
        match ids {
            Some(ids) => Ok(ids),
            None => self.ids_of(&post_key::all(day)),
        }
    }

    /// The ids of a step's source.
    fn found(&self, day: Day, step: &Step) -> Result<RoaringBitmap, CatalogueError> {
        let name = step.matcher.name();
        match &step.source {
            Source::Nothing => Ok(RoaringBitmap::new()),
            Source::Name => self.ids_of(&post_key::name(day, name)),
            Source::Value(value) => self.ids_of(&post_key::value(day, name, value)),
            Source::Values(values) => {
                let mut ids = RoaringBitmap::new();
                for value in *values {
                    ids |= self.ids_of(&post_key::value(day, name, value))?;
                }
                Ok(ids)
            }
            Source::Scan { prefix } => {
                let mut ids = RoaringBitmap::new();
                self.texts(&post_key::values(day, name), prefix, |value, bytes| {
                    if step.matcher.matches(value) == step.keeps {
                        self.add_ids(&mut ids, bytes)?;
                    }
                    Ok(())
                })?;
                Ok(ids)
            }
        }
    }

    /// Those of `ids` whose label sets pass.
    fn passing(&self, ids: &RoaringBitmap, matcher: &Matcher) -> Result<RoaringBitmap, CatalogueError> {
        let mut passing = RoaringBitmap::new();
        self.each_label_set(ids, |id, labels: LabelSet| {
            if matcher.matches(labels.get(matcher.name()).unwrap_or("")) {
                passing.insert(id);
            }
        })?;
        Ok(passing)
    }

    /// Calls `each` with every text that follows `base` in the keys and is stored for one of `ids`.
    fn texts_with_ids(
        &self,
        base: &[u8],
        prefix: &str,
        ids: Option<&RoaringBitmap>,
        mut each: impl FnMut(&str),
    ) -> Result<(), CatalogueError> {
        self.texts(base, prefix, |text, bytes| {
            let wanted = match ids {
                None => true,
                Some(ids) => {
                    let mut stored = RoaringBitmap::new();
                    self.add_ids(&mut stored, bytes)?;
                    !stored.is_disjoint(ids)
                }
            };
            if wanted {
                each(text);
            }
            Ok(())
        })
    }

    /// Calls `each` with every text that begins with `prefix` and follows `base` in the keys, and its id list.
    fn texts(
        &self,
        base: &[u8],
        prefix: &str,
        mut each: impl FnMut(&str, &[u8]) -> Result<(), CatalogueError>,
    ) -> Result<(), CatalogueError> {
        let from = [base, prefix.as_bytes()].concat();
        self.database
            .scan(Family::Post(self.kind), &from, &post_key::after(&from), |key, bytes| {
                let text = key.get(base.len()..).and_then(|text| std::str::from_utf8(text).ok());
                let text = text.ok_or_else(|| self.database.malformed("a posting's key is not UTF-8"))?;
                each(text, bytes)?;
                Ok(ControlFlow::Continue(()))
            })
    }
}

fn insert(texts: &mut BTreeSet<String>, text: &str) {
    if !texts.contains(text) {
        texts.insert(text.to_owned());
    }
}

/// What to ask, in which order: what keeps before what removes, what is cheap before what is dear.
fn plan(matchers: &[Matcher]) -> Vec<Step<'_>> {
    let mut steps: Vec<Step> = matchers.iter().map(step).collect();
    steps.sort_by_key(|step| {
        let cost = match &step.source {
            Source::Nothing => 0,
            Source::Value(_) => 1,
            Source::Values(_) => 2,
            Source::Name => 3,
            Source::Scan { prefix } if !prefix.is_empty() => 4,
            Source::Scan { .. } => 5,
        };
        (!step.keeps, cost)
    });
    steps
}

fn step(matcher: &Matcher) -> Step<'_> {
    let keeps = !matcher.matches_empty();
    let value = matcher.value();
    let literals = matcher.literal_set();
    // What the pattern alone says; `=` and `!=` (or `=~` and `!~`) differ only in whether they keep or remove it.
    let by_pattern = match matcher.op() {
        MatchOp::Equal | MatchOp::NotEqual if value.is_empty() => Source::Name,
        MatchOp::Equal | MatchOp::NotEqual => Source::Value(value),
        MatchOp::Regex | MatchOp::NotRegex if !literals.is_empty() => Source::Values(literals),
        MatchOp::Regex | MatchOp::NotRegex => match value {
            "" | ".+" => Source::Name,
            // Keeping: `!~".*"`, which nothing passes. Removing: `=~".*"`, which everything does.
            ".*" => Source::Nothing,
            _ => Source::Scan {
                prefix: scan_prefix(matcher.op(), keeps, value),
            },
        },
    };
    Step {
        matcher,
        keeps,
        source: by_pattern,
    }
}

/// A scan may skip values that lack the pattern's literal beginning when it looks for values that match the pattern.
fn scan_prefix(op: MatchOp, keeps: bool, pattern: &str) -> String {
    if keeps == (op == MatchOp::Regex) {
        literal_prefix(pattern)
    } else {
        String::new()
    }
}

/// Text with which every match of an anchored pattern begins; possibly empty, which is always right.
fn literal_prefix(pattern: &str) -> String {
    if pattern.contains('|') {
        return String::new();
    }
    let end = pattern
        .find(|c: char| "\\.+*?()[]{}^$#&-~".contains(c) || c.is_whitespace())
        .unwrap_or(pattern.len());
    let mut prefix = pattern[..end].to_owned();
    // A repetition that allows none takes the last character back.
    if pattern[end..].starts_with(['*', '?', '{']) {
        prefix.pop();
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_beginning_of_a_pattern() {
        for (pattern, prefix) in [
            ("foo.*", "foo"),
            ("foo", "foo"),
            ("foo*", "fo"),
            ("foo?x", "fo"),
            ("fo{0,2}", "f"),
            ("foo+", "foo"),
            ("a|b", ""),
            ("x(a|b)", ""),
            ("(?i)foo", ""),
            ("[ab]c", ""),
            ("é.*", "é"),
            ("é?", ""),
            ("a\\.b", "a"),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
    }

    #[test]
    fn cheap_selections_come_first() {
        let matchers = [
            Matcher::new("a", MatchOp::NotRegex, "x.*").unwrap(),
            Matcher::new("b", MatchOp::Regex, "x.*").unwrap(),
            Matcher::new("c", MatchOp::NotEqual, "").unwrap(),
            Matcher::equal("d", "x"),
        ];
        let order: Vec<&str> = plan(&matchers).iter().map(|s| s.matcher.name()).collect();
        assert_eq!(order, ["d", "c", "b", "a"]);
    }
}
