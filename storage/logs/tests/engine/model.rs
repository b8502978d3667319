//! The engine against a naive model: random appends, cuts, compactions, retention and crashes.

use std::collections::BTreeMap;

use crate::lab::{CANCEL, DAY, Lab, NOON, RETENTION, Row, batch, labels, range};
use ::model::{LabelSet, Matcher, TimeRangeNs, TimestampNs};
use proptest::prelude::*;
use storage_logs::Needles;

#[derive(Clone, Debug)]
enum Step {
    /// Stream, age and line of each entry.
    Append(Vec<(u8, i64, String, bool)>),
    /// The last batch once more.
    Again,
    Cut,
    Compact,
    /// A day passes.
    Expire,
    /// Entries of a stream: all, or those whose line contains something; from and to these ages.
    Delete(u8, String, i64, i64),
    /// The delete request that was made last is cancelled.
    Cancel,
    /// Delete requests that are old enough are carried out.
    Remove,
    /// True: the label index and the list of blocks are lost as well.
    Crash(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let age = prop_oneof![4 => 0i64..50, 2 => 0i64..4, 1 => (0i64..9).prop_map(|d| d * DAY)];
    let line = prop_oneof!["[ab]", "[a-f0-9]{32}", "[a-z]{1,8} [0-9]{1,3} .{0,9}"];
    let entry = (0u8..5, age, line, any::<bool>());
    let step = prop_oneof![
        6 => proptest::collection::vec(entry, 1..30).prop_map(Step::Append),
        1 => Just(Step::Again),
        2 => Just(Step::Cut),
        1 => Just(Step::Compact),
        1 => Just(Step::Expire),
        2 => (0u8..5, "[ab]{0,1}", 0i64..60, 0i64..60).prop_map(|(s, needle, a, b)| Step::Delete(s, needle, a.max(b), a.min(b))),
        1 => Just(Step::Cancel),
        1 => Just(Step::Remove),
        1 => any::<bool>().prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..14)
}

/// What must be there: each stream's distinct entries, less those that are deleted.
#[derive(Default)]
struct Model {
    streams: BTreeMap<LabelSet, Vec<Row>>,
    deletes: Vec<Delete>,
}

struct Delete {
    id: String,
    created: i64,
    labels: LabelSet,
    needle: String,
    range: std::ops::RangeInclusive<i64>,
}

impl Delete {
    fn hides(&self, labels: &LabelSet, row: &Row) -> bool {
        self.labels == *labels && self.range.contains(&row.0) && row.1.contains(&self.needle)
    }
}

impl Model {
    fn push(&mut self, app: &str, row: Row) {
        let rows = self.streams.entry(labels(app)).or_default();
        if !rows.contains(&row) {
            rows.push(row);
        }
    }

    fn expire(&mut self, before: i64) {
        let first = before.div_euclid(DAY) * DAY;
        for rows in self.streams.values_mut() {
            rows.retain(|r| r.0 >= first);
        }
    }

    /// Those that can no longer be cancelled are carried out.
    fn remove(&mut self, now: i64) {
        let (due, pending) = std::mem::take(&mut self.deletes)
            .into_iter()
            .partition::<Vec<_>, _>(|d| d.created + CANCEL <= now);
        self.deletes = pending;
        for (labels, rows) in &mut self.streams {
            rows.retain(|row| !due.iter().any(|d| d.hides(labels, row)));
        }
    }

    fn read(&self, matcher: Option<&Matcher>, range: TimeRangeNs) -> Vec<(LabelSet, Vec<Row>)> {
        let passes = |l: &LabelSet| matcher.is_none_or(|m| m.matches(l.get(m.name()).unwrap_or_default()));
        let streams = self.streams.iter().filter(|(l, _)| passes(l));
        let inside = streams.map(|(l, rows)| {
            let hidden = |r: &Row| self.deletes.iter().any(|d| d.hides(l, r));
            let rows = rows.iter().filter(|r| range.contains(TimestampNs(r.0)) && !hidden(r));
            (l.clone(), rows.cloned().collect())
        });
        sorted(inside.filter(|(_, rows): &(_, Vec<Row>)| !rows.is_empty()).collect())
    }
}

fn sorted(mut streams: Vec<(LabelSet, Vec<Row>)>) -> Vec<(LabelSet, Vec<Row>)> {
    for (_, rows) in &mut streams {
        rows.sort();
    }
    streams
}

fn check(lab: &Lab, model: &Model, now: i64, step: usize) {
    let all = Needles::default();
    assert_eq!(
        sorted(lab.read_all()),
        model.read(None, TimeRangeNs::ALL),
        "after step {step}"
    );
    let some = range(now - DAY - 20, now - 7);
    let matcher = Matcher::equal("app", "s1");
    assert_eq!(
        sorted(lab.read(std::slice::from_ref(&matcher), some, &all)),
        model.read(Some(&matcher), some),
        "after step {step}"
    );
    let series = lab.logs.snapshot(some).series(&[], some).unwrap();
    let there: Vec<LabelSet> = model.read(None, some).into_iter().map(|(l, _)| l).collect();
    assert!(there.iter().all(|l| series.contains(l)), "{there:?} in {series:?}");
    // A needle cut out of a line that is there.
    if let Some(line) = model.streams.values().flatten().map(|r| &r.1).max_by_key(|l| l.len()) {
        let from = line.char_indices().nth(2).map_or(0, |(i, _)| i);
        let needle = &line[from..];
        let needles = Needles {
            contains: vec![needle.to_owned()],
            metadata: vec![],
        };
        let hits = |streams: Vec<(LabelSet, Vec<Row>)>| {
            let hit = streams
                .into_iter()
                .flat_map(|(_, rows)| rows)
                .filter(|r| r.1.contains(needle));
            hit.count()
        };
        let found = hits(lab.read(&[], TimeRangeNs::ALL, &needles));
        assert_eq!(found, hits(model.read(None, TimeRangeNs::ALL)), "after step {step}");
    }
}

fn append(lab: &Lab, model: &mut Model, now: i64, entries: &[(u8, i64, String, bool)]) {
    let mut streams: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut too_old = 0;
    for (s, age, line, pair) in entries {
        let app = format!("s{s}");
        let metadata = pair.then(|| ("k".to_owned(), line.clone()));
        let row: Row = (now - age, line.clone(), metadata.into_iter().collect());
        if *age <= RETENTION {
            model.push(&app, row.clone());
        } else {
            too_old += 1;
        }
        streams.entry(app).or_default().push(row);
    }
    let streams: Vec<(&str, Vec<Row>)> = streams.iter().map(|(app, rows)| (app.as_str(), rows.clone())).collect();
    let appended = lab.append(&batch(&streams), now);
    assert_eq!(appended.too_old, too_old);
    assert_eq!(appended.stored + appended.duplicates + too_old, entries.len() as u64);
}

fn run(steps: Vec<Step>) {
    let mut lab = Lab::new();
    let mut model = Model::default();
    let mut now = NOON;
    let mut last = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append(entries) => {
                append(&lab, &mut model, now, &entries);
                last = entries;
            }
            Step::Again => append(&lab, &mut model, now, &last),
            Step::Cut => drop(lab.logs.cut().unwrap()),
            Step::Compact => lab.compact_all(),
            Step::Expire => {
                now += DAY;
                lab.expire(now - RETENTION);
                model.expire(now - RETENTION);
            }
            Step::Delete(s, needle, from, to) => {
                let range = now - from..=now - to;
                let (first, last) = (TimestampNs(*range.start()), TimestampNs(*range.end()));
                let text = format!("s{s} {needle}");
                let id = lab.logs.delete(&text, first, last, TimestampNs(now)).unwrap();
                let labels = labels(&format!("s{s}"));
                model.deletes.push(Delete {
                    id,
                    created: now,
                    labels,
                    needle,
                    range,
                });
            }
            Step::Cancel => {
                if let Some(delete) = model.deletes.pop() {
                    assert!(lab.logs.cancel_delete(&delete.id).unwrap());
                }
            }
            Step::Remove => {
                lab.logs.remove(TimestampNs(now), true).unwrap();
                model.remove(now);
            }
            Step::Crash(forget) => {
                lab = lab.crash(forget);
                // What had expired in memory only is back until `storage` expires again.
                lab.expire(now - RETENTION);
            }
        }
        check(&lab, &model, now, i);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever happens in whatever order: what was acknowledged is there, once, until it expires.
    #[test]
    fn the_engine_is_the_model(steps in steps()) {
        run(steps);
    }
}
