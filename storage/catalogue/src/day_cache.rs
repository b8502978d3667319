//! Answers about a day, kept as long as the day does not change.
//!
//! A dashboard asks the same of the index again and again: which ids pass these matchers, which values has this label.
//! Days gone by do not change but for back-fill, and today changes only when a series is new to it. So an answer is
//! stored with the *version* of its day, and is right as long as the day has that version. A version rises after the
//! postings that change it were written and before anybody may rely on them.
//!
//! Memory is bounded; what was used longest ago goes first. An answer that would fill an eighth of it is not kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use model::{Day, Matcher};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;

/// Bytes of all answers of one index.
const BYTES_MAX: usize = 12 << 20;
/// Beside what an answer holds.
const ENTRY_BYTES: usize = 160;

/// What was asked of a day; equal questions have equal answers. Cloning shares it: it may hold a large set of ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question(Arc<[u8]>);

/// An answer; cloning shares it.
#[derive(Clone)]
pub(crate) enum Answer {
    Ids(Arc<RoaringBitmap>),
    /// Sorted, each once.
    Texts(Arc<[String]>),
}

/// The state of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

/// The answers of one index.
pub(crate) struct DayCache {
    versions: RwLock<Versions>,
    kept: Mutex<Kept>,
    clock: AtomicU64,
}

#[derive(Default)]
struct Versions {
    newest: u64,
    /// Of days that are not listed.
    others: u64,
    days: HashMap<Day, u64>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    entries: HashMap<(Day, Question), Entry>,
}

struct Entry {
    version: Version,
    answer: Answer,
    bytes: usize,
    used: u64,
}

impl Question {
    /// Which ids pass all of these?
    pub(crate) fn postings(matchers: &[Matcher]) -> Question {
        let mut parts: Vec<Vec<u8>> = matchers
            .iter()
            .map(|m| {
                let mut part = vec![m.op() as u8];
                put_text(&mut part, m.name());
                put_text(&mut part, m.value());
                part
            })
            .collect();
        parts.sort_unstable();
        Question([&b"p"[..], &parts.concat()].concat().into())
    }

    /// Which label names have these ids (none: all)?
    pub(crate) fn names(ids: Option<&RoaringBitmap>) -> Question {
        let mut bytes = b"n".to_vec();
        put_ids(&mut bytes, ids);
        Question(bytes.into())
    }

    /// Which values has the label, of these ids (none: all)?
    pub(crate) fn values(name: &str, ids: Option<&RoaringBitmap>) -> Question {
        let mut bytes = b"v".to_vec();
        put_text(&mut bytes, name);
        put_ids(&mut bytes, ids);
        Question(bytes.into())
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_ids(out: &mut Vec<u8>, ids: Option<&RoaringBitmap>) {
    if let Some(ids) = ids {
        out.push(1);
        // Writing into memory does not fail.
        let _ = ids.serialize_into(out);
    }
}

impl DayCache {
    pub(crate) fn new() -> DayCache {
        DayCache {
            versions: RwLock::default(),
            kept: Mutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// To be asked before the database is read for an answer.
    pub(crate) fn version(&self, day: Day) -> Version {
        let versions = self.versions.read();
        Version(versions.days.get(&day).copied().unwrap_or(versions.others))
    }

    /// Postings of these days were written.
    pub(crate) fn changed(&self, days: impl IntoIterator<Item = Day>) {
        let mut versions = self.versions.write();
        versions.newest += 1;
        let newest = versions.newest;
        for day in days {
            versions.days.insert(day, newest);
        }
    }

    /// Whole days were removed.
    pub(crate) fn all_changed(&self) {
        let mut versions = self.versions.write();
        versions.newest += 1;
        versions.others = versions.newest;
        versions.days = HashMap::new();
        drop(versions);
        *self.kept.lock() = Kept::default();
    }

    pub(crate) fn get(&self, day: Day, version: Version, question: &Question) -> Option<Answer> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let entry = kept.entries.get_mut(&(day, question.clone()))?;
        if entry.version != version {
            return None;
        }
        entry.used = now;
        Some(entry.answer.clone())
    }

    pub(crate) fn put(&self, day: Day, version: Version, question: Question, answer: Answer) {
        let bytes = ENTRY_BYTES + question.0.len() + answer.bytes();
        if bytes > BYTES_MAX / 8 {
            return;
        }
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let entry = Entry {
            version,
            answer,
            bytes,
            used,
        };
        kept.bytes += bytes;
        if let Some(old) = kept.entries.insert((day, question), entry) {
            kept.bytes -= old.bytes;
        }
        while kept.bytes > BYTES_MAX {
            kept.make_room();
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    /// Lets the longer unused half go.
    fn make_room(&mut self) {
        let mut used: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
        let middle = used.len() / 2;
        let (_, &mut median, _) = used.select_nth_unstable(middle);
        self.entries.retain(|_, entry| entry.used >= median);
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Answer::Ids(ids) => ids.serialized_size() + 64,
            Answer::Texts(texts) => texts.iter().map(|text| text.len() + 32).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    fn ids(n: u32) -> Answer {
        Answer::Ids(Arc::new((0..n).collect()))
    }

    #[test]
    fn an_answer_is_right_until_its_day_changes() {
        let cache = DayCache::new();
        let question = || Question::values("job", None);
        let get = |day: i32| cache.get(Day(day), cache.version(Day(day)), &question()).is_some();
        for day in [1, 2] {
            cache.put(Day(day), cache.version(Day(day)), question(), ids(3));
        }
        assert!(get(1) && get(2) && !get(3));
        let before = cache.version(Day(2));
        cache.changed([Day(2)]);
        assert!(get(1) && !get(2));
        // Read before the change, stored after it.
        cache.put(Day(2), before, question(), ids(3));
        assert!(!get(2));
        let before = cache.version(Day(1));
        cache.all_changed();
        cache.put(Day(1), before, question(), ids(3));
        assert!(!get(1));
    }

    #[test]
    fn questions_differ_where_answers_may() {
        let matcher = |op, name: &str, value: &str| Matcher::new(name, op, value).unwrap();
        let a = matcher(MatchOp::Equal, "a", "bc");
        let b = matcher(MatchOp::Equal, "ab", "c");
        let same = [
            Question::postings(&[a.clone(), b.clone()]),
            Question::postings(&[b.clone(), a.clone()]),
        ];
        assert_eq!(same[0], same[1], "order does not matter");
        let few: RoaringBitmap = [1, 2].into_iter().collect();
        let all = [
            Question::postings(&[]),
            Question::postings(std::slice::from_ref(&a)),
            Question::postings(&[b]),
            Question::postings(&[matcher(MatchOp::Regex, "a", "bc")]),
            Question::names(None),
            Question::names(Some(&few)),
            Question::names(Some(&RoaringBitmap::new())),
            Question::values("", None),
            Question::values("a", None),
            Question::values("a", Some(&few)),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| one != other), "{one:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let cache = DayCache::new();
        let version = cache.version(Day(0));
        let question = |n: usize| Question::values(&n.to_string(), None);
        let texts = || Answer::Texts(vec!["x".repeat(10_000); 20].into());
        for n in 0..500 {
            cache.put(Day(0), version, question(n), texts());
            assert!(cache.get(Day(0), version, &question(0)).is_some(), "after {n}");
            assert!(cache.bytes() <= BYTES_MAX);
        }
        assert!(cache.get(Day(0), version, &question(1)).is_none());
        cache.put(
            Day(0),
            version,
            question(1),
            Answer::Texts(vec!["x".repeat(10_000); 300].into()),
        );
        assert!(cache.get(Day(0), version, &question(1)).is_none(), "too large to keep");
    }
}
