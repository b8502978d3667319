//! The label index from the outside, against a naive model: a map that is searched from end to end.

#![allow(clippy::unwrap_used)] // a test that cannot go on fails

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use model::{Day, LabelSet, MatchOp, Matcher};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use storage_catalogue::{Catalogue, IndexKind, LabelIndex};
use storage_disk::Disk;

const EVER: (Day, Day) = (Day(i32::MIN), Day(i32::MAX));

fn open(dir: &Path) -> (Catalogue, LabelIndex) {
    let (catalogue, opened) = Catalogue::open(Disk::real(), dir).unwrap();
    assert_eq!(opened.rebuilt, None);
    let labels = catalogue.labels(IndexKind::Series);
    (catalogue, labels)
}

fn intern(index: &LabelIndex, day: i32, labels: &LabelSet) -> u32 {
    index.intern(Day(day), labels.as_bytes(), labels.hash64()).unwrap()
}

fn set(pairs: &[(&str, &str)]) -> LabelSet {
    LabelSet::from_pairs(pairs.iter().copied())
}

fn ids(index: &LabelIndex, days: (i32, i32), matchers: &[Matcher]) -> Vec<u32> {
    let found = index.postings((Day(days.0), Day(days.1)), matchers).unwrap();
    found.iter().collect()
}

#[test]
fn matchers_select_as_prometheus_does() {
    let dir = tempfile::tempdir().unwrap();
    let (_catalogue, index) = open(dir.path());
    let sets = [
        set(&[]),
        set(&[("job", "a")]),
        set(&[("job", "b")]),
        set(&[("job", "ab"), ("env", "prod")]),
        set(&[("env", "dev")]),
    ];
    let given: Vec<u32> = sets.iter().map(|s| intern(&index, 3, s)).collect();
    let check = |name: &str, op: MatchOp, value: &str, expected: &[usize]| {
        let matcher = Matcher::new(name, op, value).unwrap();
        let expected: Vec<u32> = expected.iter().map(|i| given[*i]).collect();
        assert_eq!(
            ids(&index, (3, 3), std::slice::from_ref(&matcher)),
            expected,
            "{matcher}"
        );
    };
    use MatchOp::*;
    check("job", Equal, "a", &[1]);
    check("job", Equal, "", &[0, 4]);
    check("job", NotEqual, "a", &[0, 2, 3, 4]);
    check("job", NotEqual, "", &[1, 2, 3]);
    check("job", Regex, "a|b", &[1, 2]);
    check("job", Regex, "a.*", &[1, 3]);
    check("job", Regex, "a?", &[0, 1, 4]);
    check("job", Regex, ".*", &[0, 1, 2, 3, 4]);
    check("job", Regex, ".+", &[1, 2, 3]);
    check("job", Regex, "", &[0, 4]);
    check("job", NotRegex, "a|b", &[0, 3, 4]);
    check("job", NotRegex, "a.*", &[0, 2, 4]);
    check("job", NotRegex, "a?", &[2, 3]);
    check("job", NotRegex, ".*", &[]);
    check("job", NotRegex, ".+", &[0, 4]);
    check("job", NotRegex, "", &[1, 2, 3]);
    check("nowhere", NotEqual, "x", &[0, 1, 2, 3, 4]);
    check("nowhere", Equal, "x", &[]);
    check("nowhere", Regex, "x?", &[0, 1, 2, 3, 4]);
    let both = [
        Matcher::new("job", Regex, "a.*").unwrap(),
        Matcher::new("env", NotEqual, "prod").unwrap(),
    ];
    assert_eq!(ids(&index, (i32::MIN, i32::MAX), &both), [given[1]]);
    assert_eq!(ids(&index, (4, 9), &[]), Vec::<u32>::new());
    assert_eq!(ids(&index, (9, 4), &[]), Vec::<u32>::new());
}

/// Scans and lookups of many ids, which the random test below is too small to reach.
#[test]
fn many_series_are_found_by_lookup_scan_and_subtraction() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, index) = open(dir.path());
    let sets: Vec<LabelSet> = (0..3_000)
        .map(|i| {
            LabelSet::from_pairs([
                ("__name__", format!("metric_{}", i % 3)),
                ("instance", format!("host-{}", i / 3)),
            ])
        })
        .collect();
    let given: Vec<u32> = sets.iter().map(|s| intern(&index, 3, s)).collect();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), sets.len());
    for round in 0..2 {
        for (name, op, value) in [
            ("instance", MatchOp::Regex, "host-1.*"),
            ("instance", MatchOp::NotRegex, "host-1.*"),
            ("instance", MatchOp::Regex, ".*9"),
            ("instance", MatchOp::Regex, "host-7?"),
            ("instance", MatchOp::NotRegex, "host-5|host-999|nope"),
            ("instance", MatchOp::NotEqual, "host-5"),
        ] {
            let matchers = [
                Matcher::new(name, op, value).unwrap(),
                Matcher::equal("__name__", "metric_1"),
            ];
            let expected: Vec<u32> = sets
                .iter()
                .zip(&given)
                .filter(|(s, _)| matchers.iter().all(|m| m.matches(s.get(m.name()).unwrap_or(""))))
                .map(|(_, id)| *id)
                .collect();
            assert_eq!(ids(&index, (0, 9), &matchers), expected, "{matchers:?} round {round}");
        }
        let all: RoaringBitmap = given.iter().copied().collect();
        assert_eq!(index.names(EVER, Some(&all)).unwrap(), ["__name__", "instance"]);
        assert_eq!(index.values(EVER, "instance", None).unwrap().len(), 1_000);
        let some: RoaringBitmap = given.iter().copied().take(600).collect();
        assert_eq!(index.values(EVER, "instance", Some(&some)).unwrap().len(), 200);
        let few: RoaringBitmap = given.iter().copied().take(6).collect();
        assert_eq!(
            index.values(EVER, "instance", Some(&few)).unwrap(),
            ["host-0", "host-1"]
        );
        let read = index.label_sets(&all).unwrap();
        assert_eq!(
            read.iter().map(|(_, s)| s).collect::<Vec<_>>(),
            sets.iter().collect::<Vec<_>>()
        );
        catalogue.flush().unwrap();
    }
}

#[test]
fn equal_hashes_do_not_merge_label_sets() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (set(&[("a", "1")]), set(&[("b", "1")]));
    let (catalogue, index) = open(dir.path());
    let a_id = index.intern(Day(1), a.as_bytes(), 7).unwrap();
    let b_id = index.intern(Day(1), b.as_bytes(), 7).unwrap();
    assert_ne!(a_id, b_id);
    catalogue.flush().unwrap();
    drop((catalogue, index));
    let (_catalogue, index) = open(dir.path());
    assert_eq!(index.intern(Day(2), b.as_bytes(), 7).unwrap(), b_id);
    assert_eq!(index.intern(Day(2), a.as_bytes(), 7).unwrap(), a_id);
    assert_eq!(ids(&index, (2, 2), &[Matcher::equal("a", "1")]), [a_id]);
}

#[test]
fn a_definition_from_the_wal_keeps_its_id_unless_the_label_set_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (set(&[("a", "1")]), set(&[("b", "1")]), set(&[("c", "1")]));
    let (catalogue, index) = open(dir.path());
    let a_id = intern(&index, 1, &a);
    catalogue.flush().unwrap();
    let b_id = intern(&index, 1, &b);
    drop((catalogue, index));
    // The process died: `a` was flushed, `b` is known to the WAL only.
    let (_catalogue, index) = open(dir.path());
    assert_eq!(ids(&index, (1, 1), &[]), [a_id]);
    assert_eq!(index.define(b_id, Day(1), &b).unwrap(), b_id);
    assert_eq!(index.define(b_id, Day(1), &b).unwrap(), b_id, "idempotent");
    assert_eq!(
        index.define(b_id + 50, Day(2), &a).unwrap(),
        a_id,
        "`a` has an id already"
    );
    let c_id = index.define(a_id, Day(2), &c).unwrap();
    assert!(c_id != a_id && c_id != b_id, "that id belongs to `a`");
    assert_eq!(ids(&index, (1, 2), &[]), [a_id, b_id, c_id]);
    assert!(
        intern(&index, 2, &set(&[("d", "1")])) > b_id + 50,
        "ids seen in a WAL are not given again"
    );
}

#[test]
fn an_expired_id_is_gone_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (old, both) = (set(&[("k", "old")]), set(&[("k", "both")]));
    let (catalogue, index) = open(dir.path());
    let old_id = intern(&index, 1, &old);
    let both_id = intern(&index, 1, &both);
    assert_eq!(intern(&index, 5, &both), both_id);
    index.expire(Day(3)).unwrap();
    assert_eq!(ids(&index, (i32::MIN, i32::MAX), &[]), [both_id]);
    assert_eq!(index.values(EVER, "k", None).unwrap(), ["both"]);
    let known: RoaringBitmap = [old_id, both_id].into_iter().collect();
    assert_eq!(index.label_sets(&known).unwrap(), [(both_id, both.clone())]);
    assert_eq!(index.active(), 1);
    let again = intern(&index, 5, &old);
    assert!(again > both_id, "a label set that comes back gets a new id");
    catalogue.flush().unwrap();
    drop((catalogue, index));
    let (_catalogue, index) = open(dir.path());
    assert_eq!(ids(&index, (i32::MIN, i32::MAX), &[]), [both_id, again]);
    assert_eq!(intern(&index, 5, &old), again);
}

#[test]
fn label_sets_out_of_use_leave_ram_and_keep_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, index) = open(dir.path());
    let (gone, stays) = (set(&[("k", "gone")]), set(&[("k", "stays")]));
    let gone_id = intern(&index, 1, &gone);
    for day in 1..=4 {
        intern(&index, day, &stays);
    }
    assert_eq!(index.active(), 2);
    catalogue.flush().unwrap();
    assert_eq!(index.active(), 1);
    assert_eq!(intern(&index, 4, &gone), gone_id);
    assert_eq!(ids(&index, (4, 4), &[]).len(), 2);
}

/// Whoever comes first gives the id; all others get the same one, while readers read and days are flushed.
#[test]
fn threads_agree_on_ids() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, index) = open(dir.path());
    let sets: Vec<LabelSet> = (0..2_000)
        .map(|i| LabelSet::from_pairs([("instance", format!("host-{i}")), ("job", "node".to_owned())]))
        .collect();
    let given: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4usize)
            .map(|worker| {
                let (index, sets) = (&index, &sets);
                scope.spawn(move || {
                    let mut given = vec![0; sets.len()];
                    for i in 0..sets.len() {
                        let at = if worker % 2 == 0 { i } else { sets.len() - 1 - i };
                        given[at] = intern(index, (i % 3) as i32, &sets[at]);
                    }
                    given
                })
            })
            .collect();
        for _ in 0..20 {
            index.postings(EVER, &[Matcher::equal("job", "node")]).unwrap();
            catalogue.flush().unwrap();
        }
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    assert!(given.iter().all(|g| *g == given[0]));
    assert_eq!(given[0].iter().collect::<BTreeSet<_>>().len(), sets.len());
    assert_eq!(ids(&index, (0, 2), &[]).len(), sets.len());
}

/// Label sets come, expire and come back while threads intern them: no id ever belongs to two, and what is in use is found.
#[test]
fn interning_goes_on_while_days_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (catalogue, index) = open(dir.path());
    let sets: Vec<LabelSet> = (0..400)
        .map(|i| LabelSet::from_pairs([("k", format!("v{i}"))]))
        .collect();
    let today = AtomicI32::new(0);
    let given: Vec<BTreeSet<(u32, usize)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3usize)
            .map(|worker| {
                let (index, sets, today) = (&index, &sets, &today);
                scope.spawn(move || {
                    let mut given = BTreeSet::new();
                    for round in 0..12 {
                        for (i, labels) in sets.iter().enumerate() {
                            // A third of them pauses in every round, so that some expire.
                            if (i + round) % 3 != 0 {
                                let day = today.load(Ordering::Relaxed) - (i % 2) as i32;
                                given.insert((intern(index, day, labels), i));
                            }
                        }
                        if worker == 0 {
                            today.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    given
                })
            })
            .collect();
        while !workers.iter().all(|w| w.is_finished()) {
            index.expire(Day(today.load(Ordering::Relaxed) - 1)).unwrap();
            catalogue.flush().unwrap();
        }
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let mut owner = BTreeMap::new();
    for (id, i) in given.into_iter().flatten() {
        assert_eq!(*owner.entry(id).or_insert(i), i, "id {id} belongs to one label set");
    }
    let last = today.load(Ordering::Relaxed) + 1;
    index.expire(Day(last)).unwrap();
    let known: Vec<u32> = sets.iter().map(|s| intern(&index, last, s)).collect();
    let expected: BTreeSet<u32> = known.iter().copied().collect();
    assert_eq!(expected.len(), sets.len());
    assert_eq!(ids(&index, (i32::MIN, i32::MAX), &[]), Vec::from_iter(expected));
    let everything: RoaringBitmap = owner.keys().copied().chain(known).collect();
    assert_eq!(
        index.label_sets(&everything).unwrap().len(),
        sets.len(),
        "expired label sets are gone"
    );
    assert_eq!(index.active(), sets.len());
}

/// What the index should say, found by looking at everything.
#[derive(Default)]
struct Model {
    sets: BTreeMap<LabelSet, (u32, BTreeSet<i32>)>,
    ever_given: BTreeSet<u32>,
    /// What a WAL would hold since the last flush.
    unflushed: Vec<(u32, i32, LabelSet)>,
}

impl Model {
    fn note(&mut self, id: u32, day: i32, labels: &LabelSet) {
        let (known, days) = self.sets.entry(labels.clone()).or_insert((id, BTreeSet::new()));
        assert_eq!(*known, id, "{labels} has one id");
        if days.is_empty() {
            assert!(
                self.ever_given.insert(id) || !self.unflushed.is_empty(),
                "id {id} was given before"
            );
        }
        days.insert(day);
    }

    fn in_use(&self, (first, last): (i32, i32)) -> impl Iterator<Item = (u32, &LabelSet)> {
        self.sets
            .iter()
            .filter(move |(_, (_, days))| days.iter().any(|d| first <= *d && *d <= last))
            .map(|(labels, (id, _))| (*id, labels))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Intern {
        day: i32,
        labels: LabelSet,
    },
    Ask {
        days: (i32, i32),
        matchers: Vec<Matcher>,
        only: Option<Vec<u32>>,
    },
    Flush,
    Expire {
        day: i32,
    },
    Crash,
}

fn labels() -> impl Strategy<Value = LabelSet> {
    vec(("[a-c]", prop::sample::select(vec!["x", "y", "x1", "xy", "é"])), 0..4).prop_map(LabelSet::from_pairs)
}

fn matcher() -> impl Strategy<Value = Matcher> {
    use MatchOp::*;
    let values = vec!["", "x", "y", "x1", "é", "nope"];
    let patterns = vec![
        "", ".*", ".+", "x.*", "x|y", "é", "x?", "x1?", "[xy]", "(x|y)?", ".*1", "nope", "x|y|", "(?i)X.*",
    ];
    let literal = (
        prop::sample::select(vec![Equal, NotEqual]),
        prop::sample::select(values),
    );
    let regex = (
        prop::sample::select(vec![Regex, NotRegex]),
        prop::sample::select(patterns),
    );
    ("[a-d]", prop_oneof![literal, regex]).prop_map(|(name, (op, value))| Matcher::new(name, op, value).unwrap())
}

fn step() -> impl Strategy<Value = Step> {
    let day = || prop_oneof![-2i32..4, Just(-60)];
    let days = prop_oneof![(-3i32..4, -3i32..5), Just((i32::MIN, i32::MAX))];
    prop_oneof![
        12 => (day(), labels()).prop_map(|(day, labels)| Step::Intern { day, labels }),
        6 => (days, vec(matcher(), 0..4), option::of(vec(1u32..30, 0..8)))
            .prop_map(|(days, matchers, only)| Step::Ask { days, matchers, only }),
        1 => Just(Step::Flush),
        1 => (-2i32..4).prop_map(|day| Step::Expire { day }),
        1 => Just(Step::Crash),
    ]
}

fn ask(
    index: &LabelIndex,
    model: &Model,
    days: (i32, i32),
    matchers: &[Matcher],
    only: Option<&[u32]>,
) -> Result<(), TestCaseError> {
    let range = (Day(days.0), Day(days.1));
    let expected: BTreeSet<u32> = model
        .in_use(days)
        .filter(|(_, labels)| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or(""))))
        .map(|(id, _)| id)
        .collect();
    let found = index.postings(range, matchers).unwrap();
    prop_assert_eq!(
        found.iter().collect::<BTreeSet<_>>(),
        expected,
        "{:?} in {:?}",
        matchers,
        days
    );

    let filter: Option<RoaringBitmap> = only.map(|ids| ids.iter().copied().collect());
    let chosen: Vec<(u32, &LabelSet)> = model
        .in_use(days)
        .filter(|(id, _)| filter.as_ref().is_none_or(|f| f.contains(*id)))
        .collect();
    let names: BTreeSet<String> = chosen
        .iter()
        .flat_map(|(_, l)| l.iter())
        .map(|(n, _)| n.to_owned())
        .collect();
    prop_assert_eq!(index.names(range, filter.as_ref()).unwrap(), Vec::from_iter(names));
    let values: BTreeSet<String> = chosen
        .iter()
        .filter_map(|(_, l)| l.get("a"))
        .map(str::to_owned)
        .collect();
    prop_assert_eq!(
        index.values(range, "a", filter.as_ref()).unwrap(),
        Vec::from_iter(values)
    );

    let all: BTreeMap<u32, LabelSet> = model
        .sets
        .iter()
        .map(|(labels, (id, _))| (*id, labels.clone()))
        .collect();
    let asked: RoaringBitmap = all.keys().copied().chain([u32::MAX, 0, 1_000_000]).collect();
    prop_assert_eq!(index.label_sets(&asked).unwrap(), Vec::from_iter(all));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is interned, flushed, expired and lost in crashes (and then told again by the WAL), every question gets
    /// the answer that looking at everything gives.
    #[test]
    fn the_index_agrees_with_a_naive_model(steps in vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let (mut catalogue, mut index) = open(dir.path());
        for step in steps {
            match step {
                Step::Intern { day, labels } => {
                    let id = intern(&index, day, &labels);
                    model.unflushed.push((id, day, labels.clone()));
                    model.note(id, day, &labels);
                }
                Step::Ask { days, matchers, only } => ask(&index, &model, days, &matchers, only.as_deref())?,
                Step::Flush => {
                    catalogue.flush().unwrap();
                    model.unflushed.clear();
                }
                Step::Expire { day } => {
                    index.expire(Day(day)).unwrap();
                    model.sets.retain(|_, (_, days)| {
                        days.retain(|d| *d >= day);
                        !days.is_empty()
                    });
                    model.unflushed.retain(|(_, d, _)| *d >= day);
                }
                Step::Crash => {
                    drop((catalogue, index));
                    (catalogue, index) = open(dir.path());
                    for (id, day, labels) in &model.unflushed {
                        prop_assert_eq!(index.define(*id, Day(*day), labels).unwrap(), *id);
                    }
                }
            }
        }
        ask(&index, &model, (i32::MIN, i32::MAX), &[], None)?;
    }
}
