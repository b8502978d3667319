//! The engine from outside: against a naive model through cuts, compactions, expiry and crashes, and under concurrency.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::{
    AttributeValue, DAY_NS, KeyValue, Resource, Signal, Span, SpanBatch, SpanId, SpanKind, TimeRangeNs, TimestampNs,
    TraceId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use storage_budget::Budget;
use storage_catalogue::Catalogue;
use storage_disk::{Disk, FaultyDisk};
use storage_wal::SyncMode;

use crate::arbitrary::canonical;
use crate::{
    AppendError, Appended, AttributeScope, Condition, Field, Options, Parts, Projection, ScanRequest, Snapshot,
    Test as Asked, Traces,
};

const DAY_0: i64 = 20_000 * DAY_NS;
const NOW: TimestampNs = TimestampNs(DAY_0 + 3 * DAY_NS);
const HOUR: i64 = 3_600_000_000_000;

fn open(disk: &Disk, dir: &Path) -> (Traces, Catalogue) {
    open_within(disk, dir, &Budget::new(1 << 30))
}

fn open_within(disk: &Disk, dir: &Path, budget: &Budget) -> (Traces, Catalogue) {
    let (catalogue, _) = Catalogue::open(disk.clone(), dir).unwrap();
    let parts = Parts {
        disk: disk.clone(),
        catalogue: catalogue.clone(),
        budget: budget.clone(),
        dir: dir.join("traces"),
        wal: storage_wal::Options {
            sync: SyncMode::Always,
            segment_bytes: 1 << 16,
        },
    };
    let options = Options {
        retention_ns: 10 * DAY_NS,
        ahead_ns: HOUR / 6,
    };
    let (traces, _) = Traces::open(parts, options).unwrap();
    (traces, catalogue)
}

fn append(traces: &Traces, spans: Vec<Span>) -> Appended {
    try_append(traces, spans).unwrap()
}

fn try_append(traces: &Traces, spans: Vec<Span>) -> Result<Appended, AppendError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(traces.append(SpanBatch { spans }, NOW))
}

fn span(trace: u8, id: u8, copy: u8, value: u8) -> Span {
    // The day and the end follow from the id, so that copies of a span expire together.
    let end = DAY_0 + i64::from(id % 3) * DAY_NS + i64::from(trace) * HOUR + 6 * HOUR;
    let value = match value % 5 {
        0 => AttributeValue::Str("a".into()),
        1 => AttributeValue::Str("b".into()),
        2 => AttributeValue::Int(1),
        3 => AttributeValue::Bool(true),
        _ => AttributeValue::Empty,
    };
    Span {
        trace_id: TraceId((u128::from(trace) << 120) | 5),
        span_id: SpanId(u64::from(id) + 1),
        parent_span_id: (id > 0).then_some(SpanId(1)),
        name: format!("op-{}", id % 4),
        kind: if id.is_multiple_of(2) {
            SpanKind::Server
        } else {
            SpanKind::Client
        },
        start: TimestampNs(end - HOUR - i64::from(copy) * HOUR / 4),
        end: TimestampNs(end),
        status_message: format!("copy {copy}"),
        attributes: vec![
            KeyValue::new("k", value.clone()),
            KeyValue::new("copy", i64::from(copy).into()),
        ],
        resource: Arc::new(Resource {
            attributes: vec![
                KeyValue::new("service.name", format!("s{}", trace % 3).as_str().into()),
                KeyValue::new("r", value),
            ],
            ..Resource::default()
        }),
        ..Span::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, u8, u8, u8)>),
    Cut,
    Compact,
    Expire(u8),
    Crash,
    LoseDatabase,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec((0..6u8, 0..6u8, 0..4u8, 0..5u8), 1..12).prop_map(Step::Append),
        3 => Just(Step::Cut),
        2 => Just(Step::Compact),
        1 => (0..80u8).prop_map(Step::Expire),
        1 => Just(Step::Crash),
        1 => Just(Step::LoseDatabase),
    ]
}

type Key = (TraceId, SpanId, SpanKind);

#[derive(Default)]
struct Model {
    spans: BTreeMap<Key, Span>,
    horizon: Option<TimestampNs>,
}

impl Model {
    fn append(&mut self, spans: &[Span]) {
        self.spans
            .extend(spans.iter().map(|s| ((s.trace_id, s.span_id, s.kind), s.clone())));
    }

    /// Expiry takes from the head only, and replay brings back: what ended before it may be there or not.
    fn counts(&self, span: &Span) -> bool {
        self.horizon.is_none_or(|h| span.end >= h)
    }

    fn spans(&self) -> Vec<Vec<u8>> {
        sorted(self.spans.values().filter(|s| self.counts(s)).map(canonical).collect())
    }

    /// The newest come first, each once and whole, at least those with a span that `passes`.
    fn check_newest(&self, snapshot: &Snapshot, request: &ScanRequest, passes: impl Fn(&model::Span) -> bool) {
        let mut want: BTreeMap<TraceId, usize> = BTreeMap::new();
        let mut sure: BTreeSet<TraceId> = BTreeSet::new();
        for s in self.spans.values() {
            *want.entry(s.trace_id).or_default() += 1;
            if passes(s) && self.counts(s) && snapshot.range.overlaps(s.start, s.end.max(s.start)) {
                sure.insert(s.trace_id);
            }
        }
        for at_once in [1, 1000] {
            let mut got: Vec<(std::cmp::Reverse<i64>, TraceId)> = Vec::new();
            let spread = |n: usize, work: &(dyn Fn(usize) + Sync)| (0..n).rev().for_each(work);
            let visited = snapshot.newest(request, at_once, &spread, &mut |id, spans| {
                let start = spans.iter().map(|s| s.start.0).min().unwrap();
                got.push((std::cmp::Reverse(start), id));
                if self.horizon.is_none() {
                    assert!(spans.len() <= want[&id]);
                }
                std::ops::ControlFlow::Continue(())
            });
            visited.unwrap();
            assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
            let ids: BTreeSet<TraceId> = got.iter().map(|g| g.1).collect();
            assert_eq!(ids.len(), got.len());
            assert!(sure.is_subset(&ids), "{sure:?} of {ids:?}");
        }
    }

    fn check(&self, traces: &Traces) {
        let all = traces.snapshot(TimeRangeNs::ALL);
        for shards in [1, 3] {
            let got = scan(
                &all,
                &ScanRequest {
                    events: true,
                    links: true,
                    ..ScanRequest::default()
                },
                shards,
            );
            let got = got
                .values()
                .flatten()
                .filter(|s| self.counts(s))
                .map(canonical)
                .collect();
            assert_eq!(sorted(got), self.spans(), "scan in {shards} shards");
        }
        self.check_newest(&all, &ScanRequest::default(), |_| true);
        for trace in 0..7u8 {
            let id = TraceId((u128::from(trace) << 120) | 5);
            let got = all.trace(id).unwrap();
            assert!(got.is_sorted_by_key(|s| s.start));
            let want = self
                .spans
                .values()
                .filter(|s| s.trace_id == id && self.counts(s))
                .map(canonical)
                .collect();
            assert_eq!(
                sorted(got.iter().filter(|s| self.counts(s)).map(canonical).collect()),
                sorted(want)
            );
        }
        for hour in [0, 7, 26, 50, 90] {
            let start = TimestampNs(DAY_0 + hour * HOUR);
            self.check_range(
                traces,
                TimeRangeNs {
                    start,
                    end: TimestampNs(start.0 + HOUR),
                },
            );
        }
        self.check_conditions(traces);
        self.check_names(&all);
    }

    fn check_range(&self, traces: &Traces, range: TimeRangeNs) {
        let touching = self
            .spans
            .values()
            .filter(|s| self.counts(s) && range.overlaps(s.start, s.end));
        let want: BTreeSet<TraceId> = touching.clone().map(|s| s.trace_id).collect();
        let got = scan(&traces.snapshot(range), &ScanRequest::default(), 2);
        let brought: BTreeSet<Vec<u8>> = got.values().flatten().map(canonical).collect();
        assert!(want.iter().all(|id| got.contains_key(id)), "{range:?}");
        assert!(
            got.values()
                .all(|spans| spans.iter().any(|s| range.overlaps(s.start, s.end)))
        );
        assert!(touching.map(canonical).all(|s| brought.contains(&s)), "{range:?}");
    }

    fn check_conditions(&self, traces: &Traces) {
        let attribute = |scope, name: &str, test| Condition {
            field: Field::Attribute(scope, name.to_owned()),
            test,
        };
        let k = |scope, value: AttributeValue| attribute(scope, "k", Asked::In(vec![value]));
        let name = Condition {
            field: Field::Name,
            test: Asked::Matches("op-[12]".to_owned()),
        };
        let long = Condition {
            field: Field::Duration,
            test: Asked::AtLeast((HOUR + HOUR / 2) as f64),
        };
        use AttributeScope::{Any, Event, Resource, Span};
        type Passes = fn(&model::Span) -> bool;
        let cases: Vec<(Vec<Vec<Condition>>, Passes)> = vec![
            (vec![vec![k(Span, "a".into())]], |s| s.attributes[0].value == "a".into()),
            (vec![vec![k(Span, 1.into()), name.clone()]], |s| {
                s.attributes[0].value == 1.into() && ["op-1", "op-2"].contains(&s.name.as_str())
            }),
            (
                vec![vec![long.clone()], vec![k(Any, AttributeValue::Bool(true))]],
                |s| s.duration_ns() >= (HOUR + HOUR / 2) as u64 || s.attributes[0].value == AttributeValue::Bool(true),
            ),
            (
                vec![vec![
                    attribute(Resource, "service.name", Asked::In(vec!["s1".into()])),
                    long,
                ]],
                |s| s.resource.service_name() == "s1" && s.duration_ns() >= (HOUR + HOUR / 2) as u64,
            ),
            (
                vec![vec![Condition {
                    field: Field::SpanId,
                    test: Asked::Matches("0{15}[2468ace]".to_owned()),
                }]],
                |s| [2, 4, 6, 8, 10, 12, 14].contains(&s.span_id.0),
            ),
            (vec![vec![attribute(Any, "r", Asked::Exists)]], |_| true),
            (vec![vec![attribute(Event, "nowhere", Asked::Exists)]], |_| false),
        ];
        let day = TimeRangeNs {
            start: TimestampNs(DAY_0 + DAY_NS),
            end: TimestampNs(DAY_0 + DAY_NS + 9 * HOUR),
        };
        for range in [TimeRangeNs::ALL, day] {
            let snapshot = traces.snapshot(range);
            for (any_of, passes) in &cases {
                let request = ScanRequest {
                    any_of: any_of.clone(),
                    attributes: Projection::Only(vec![(Span, "k".to_owned())]),
                    ..ScanRequest::default()
                };
                self.check_newest(&snapshot, &request, passes);
                let got = scan(&snapshot, &request, 2);
                let mut of_trace: BTreeMap<TraceId, Vec<&model::Span>> = BTreeMap::new();
                for s in self.spans.values().filter(|s| self.counts(s)) {
                    of_trace.entry(s.trace_id).or_default().push(s);
                }
                for (id, spans) in of_trace {
                    let wanted =
                        spans.iter().any(|s| passes(s)) && spans.iter().any(|s| range.overlaps(s.start, s.end));
                    let got = got.get(&id);
                    assert!(!wanted || got.is_some(), "{id} is missing for {any_of:?} in {range:?}");
                    if range == TimeRangeNs::ALL {
                        let all = got.is_none_or(|got| got.iter().filter(|s| self.counts(s)).count() == spans.len());
                        assert!(all, "{id} lacks spans for {any_of:?}");
                    }
                    for s in got.into_iter().flatten() {
                        assert!(s.attributes.iter().all(|kv| kv.key == "k"));
                        assert!(s.resource.attributes.iter().all(|kv| kv.key == "service.name"));
                        assert!(!s.resource.service_name().is_empty());
                    }
                }
            }
        }
    }

    fn check_names(&self, all: &Snapshot) {
        let names = all.attribute_names().unwrap();
        assert!(names.is_sorted());
        let values = |scope, name: &str| {
            let values = all.attribute_values(scope, name, 100).unwrap();
            values.iter().map(|v| format!("{v:?}")).collect::<BTreeSet<_>>()
        };
        let (k, r) = (values(AttributeScope::Span, "k"), values(AttributeScope::Resource, "r"));
        for span in self.spans.values().filter(|s| self.counts(s)) {
            assert!(names.contains(&(AttributeScope::Span, "k".to_owned())));
            assert!(k.contains(&format!("{:?}", span.attributes[0].value)));
            assert!(r.contains(&format!("{:?}", span.attributes[0].value)));
        }
        assert!(all.attribute_values(AttributeScope::Any, "k", 2).unwrap().len() <= 2);
    }
}

fn sorted(mut spans: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    spans.sort();
    spans
}

/// Every trace of a scan; checks that ids rise and that no shard brings another's.
fn scan(snapshot: &Snapshot, request: &ScanRequest, shards: u32) -> BTreeMap<TraceId, Vec<Span>> {
    let mut got = BTreeMap::new();
    for shard in 0..shards {
        let mut visit = |id, spans: &mut Vec<Span>| {
            assert!(spans.iter().all(|s| s.trace_id == id));
            assert!(got.last_key_value().is_none_or(|(last, _)| *last < id));
            got.insert(id, std::mem::take(spans));
            ControlFlow::Continue(())
        };
        snapshot.scan(request, shard, shards, &mut visit).unwrap();
    }
    got
}

fn compact(traces: &Traces, catalogue: &Catalogue) {
    let blocks = catalogue.blocks(Signal::Traces, TimeRangeNs::ALL);
    let Some(day) = blocks.first().map(|b| b.meta().day) else {
        return;
    };
    // All but the newest of the day, so that a compacted block's id is higher than that of a block with later copies.
    let mut of_day: Vec<_> = blocks.into_iter().filter(|b| b.meta().day == day).collect();
    if of_day.len() > 2 {
        of_day.pop();
    }
    traces.compact(&of_day).unwrap();
}

fn live_through(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let mut faulty = FaultyDisk::new();
    let mut model = Model::default();
    let (mut traces, mut catalogue) = open(&faulty.disk(), dir.path());
    for step in steps {
        match step {
            Step::Append(spans) => {
                let spans: Vec<Span> = spans.iter().map(|(t, i, c, v)| span(*t, *i, *c, *v)).collect();
                model.append(&spans);
                assert_eq!(append(&traces, spans.clone()).stored, spans.len() as u64);
            }
            Step::Cut => {
                traces.cut().unwrap();
                assert_eq!(traces.stats().head_spans, 0);
            }
            Step::Compact => compact(&traces, &catalogue),
            Step::Expire(hour) => {
                let before = TimestampNs(DAY_0 + i64::from(*hour) * HOUR);
                model.horizon = model.horizon.max(Some(before));
                traces.expire(before).unwrap();
            }
            Step::Crash | Step::LoseDatabase => {
                drop((traces, catalogue));
                faulty = faulty.crash();
                if matches!(step, Step::LoseDatabase) {
                    std::fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
                }
                (traces, catalogue) = open(&faulty.disk(), dir.path());
            }
        }
    }
    model.check(&traces);
    drop((traces, catalogue));
    let (traces, _catalogue) = open(&faulty.crash().disk(), dir.path());
    model.check(&traces);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What was acknowledged is there, the last copy of each span, wherever cuts, compactions and crashes have put it.
    #[test]
    fn nothing_acknowledged_is_lost(steps in vec(step(), 1..16)) {
        live_through(&steps);
    }
}

#[test]
fn a_block_compacted_later_does_not_hide_later_copies() {
    // Blocks 1 and 2 hold copies 0 and 1, block 3 copy 2. Merging 1 and 2 makes block 4, which is not newer than 3.
    let one = |copy| Step::Append(vec![(1, 1, copy, 0)]);
    live_through(&[one(0), Step::Cut, one(1), Step::Cut, one(2), Step::Cut, Step::Compact]);
}

#[test]
fn spans_outside_retention_are_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (traces, _catalogue) = open(&Disk::real(), dir.path());
    let at = |start: i64, end: i64| Span {
        trace_id: TraceId(1),
        span_id: SpanId(start as u64),
        start: TimestampNs(start),
        end: TimestampNs(end),
        ..Span::default()
    };
    let n = NOW.0;
    let ten_days_ago = n - 10 * DAY_NS;
    let spans = vec![
        at(n, n + 1),
        at(n, n + 1),
        at(ten_days_ago - 5, ten_days_ago),
        at(ten_days_ago - 5, ten_days_ago - 1),
        at(n + HOUR / 6, n + HOUR / 6),
        at(n + HOUR / 6 + 1, n),
        at(n - 1, n + 2 * DAY_NS),
    ];
    let want = Appended {
        stored: 4,
        duplicates: 1,
        too_old: 1,
        too_new: 2,
    };
    assert_eq!(append(&traces, spans), want);
    assert_eq!(append(&traces, Vec::new()), Appended::default());
    let stats = traces.stats();
    assert_eq!((stats.head_traces, stats.head_spans, stats.appended), (1, 3, 4));
}

#[test]
fn a_failed_cut_loses_nothing_and_the_next_one_repairs_it() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = FaultyDisk::new();
    let (traces, catalogue) = open(&faulty.disk(), dir.path());
    let mut model = Model::default();
    let first: Vec<Span> = (0..6).map(|i| span(1, i, 0, i)).collect();
    model.append(&first);
    append(&traces, first);
    faulty.fail_after(6);
    assert!(traces.cut().is_err());
    model.check(&traces);
    drop((traces, catalogue));
    let healed = faulty.crash();
    let (traces, catalogue) = open(&healed.disk(), dir.path());
    let second: Vec<Span> = (0..6).map(|i| span(1, i, 1, i)).collect();
    model.append(&second);
    append(&traces, second);
    assert!(!traces.cut().unwrap().is_empty());
    model.check(&traces);
    assert_eq!(
        traces.stats().blocks as usize,
        catalogue.blocks(Signal::Traces, TimeRangeNs::ALL).len()
    );
}

/// A log that failed is started anew by a cut, also when retention has emptied the head meanwhile: appends would be
/// refused until a restart otherwise.
#[test]
fn a_failed_log_is_repaired_though_there_is_nothing_to_cut() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = FaultyDisk::new();
    let (traces, _catalogue) = open(&faulty.disk(), dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spans = vec![span(1, 0, 0, 0)];
    faulty.fail_after(0);
    let refused = runtime.block_on(traces.append(SpanBatch { spans: spans.clone() }, NOW));
    assert!(refused.is_err());
    traces.expire(NOW).unwrap();
    assert_eq!(traces.stats().head_spans, 0);
    faulty.heal();
    assert_eq!(traces.cut().unwrap(), []);
    assert_eq!(append(&traces, spans).stored, 1);
}

#[test]
fn a_damaged_block_is_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::real();
    let (traces, catalogue) = open(&disk, dir.path());
    append(&traces, vec![span(1, 0, 0, 0), span(2, 0, 0, 0)]);
    traces.cut().unwrap();
    append(&traces, vec![span(1, 3, 0, 0)]);
    traces.cut().unwrap();
    let blocks = catalogue.blocks(Signal::Traces, TimeRangeNs::ALL);
    let path = blocks[0].dir().join("spans.parquet");
    let mut bytes = disk.read(&path).unwrap();
    // The pages of the first columns; the footer stays whole.
    bytes[16..200].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    drop((traces, catalogue, blocks));
    let (traces, _catalogue) = open(&disk, dir.path());
    let all = traces.snapshot(TimeRangeNs::ALL);
    let ids = |spans: &[Span]| spans.iter().map(|s| s.span_id.0).collect::<Vec<_>>();
    assert_eq!(ids(&all.trace(span(1, 0, 0, 0).trace_id).unwrap()), [4]);
    assert!(traces.stats().corrupt_chunks > 0);
    assert!(all.is_incomplete());
    let recent = traces.snapshot(TimeRangeNs::ALL);
    assert!(!recent.is_incomplete());
    assert_eq!(scan(&all, &ScanRequest::default(), 1).len(), 1);
}

#[test]
fn memory_is_refused_before_it_is_gone_and_given_back_by_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::new(64 << 10);
    let (traces, _catalogue) = open_within(&Disk::real(), dir.path(), &budget);
    let mut stored = 0;
    let refused = loop {
        let (trace, first) = (stored % 16, stored / 16 * 6);
        let spans = (0..6).map(|i| span(trace as u8, first as u8 + i, 0, 0)).collect();
        match try_append(&traces, spans) {
            Ok(_) => stored += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, AppendError::OverBudget(_)), "{refused}");
    assert!(stored > 10, "{stored} batches of six");
    assert_eq!(traces.stats().head_spans, stored * 6);
    traces.cut().unwrap();
    assert!(budget.used() < 1024, "{} bytes are still taken", budget.used());
    append(&traces, vec![span(0, 0, 0, 0)]);
}

#[test]
fn appends_cuts_and_reads_go_on_together() {
    let dir = tempfile::tempdir().unwrap();
    let (traces, catalogue) = open(&Disk::real(), dir.path());
    let done = AtomicBool::new(false);
    let (threads, rounds) = (3u8, 30u8);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|t| {
                let traces = &traces;
                scope.spawn(move || {
                    for round in 0..rounds {
                        append(traces, (0..6).map(|i| span(t, i, round % 4, round)).collect());
                        append(traces, vec![span(t + 10, round, 0, 0)]);
                        // What was acknowledged is seen at once, also while a cut is under way.
                        let id = TraceId((u128::from(t + 10) << 120) | 5);
                        let seen = traces.snapshot(TimeRangeNs::ALL).trace(id).unwrap();
                        assert_eq!(seen.len(), usize::from(round) + 1);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                traces.cut().unwrap();
                compact(&traces, &catalogue);
            }
        });
        for writer in writers {
            let finished = writer.join();
            if finished.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            finished.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let mut model = Model::default();
    for t in 0..threads {
        model.append(
            &(0..6)
                .map(|i| span(t, i, (rounds - 1) % 4, rounds - 1))
                .collect::<Vec<_>>(),
        );
        model.append(&(0..rounds).map(|r| span(t + 10, r, 0, 0)).collect::<Vec<_>>());
    }
    let all = traces.snapshot(TimeRangeNs::ALL);
    let got = scan(
        &all,
        &ScanRequest {
            events: true,
            links: true,
            ..ScanRequest::default()
        },
        1,
    );
    assert_eq!(sorted(got.values().flatten().map(canonical).collect()), model.spans());
}

#[test]
fn a_trace_is_read_up_to_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (traces, _catalogue) = open(&Disk::real(), dir.path());
    append(&traces, (0..5).map(|i| span(1, i, 0, 0)).collect());
    traces.cut().unwrap();
    append(&traces, (5..8).map(|i| span(1, i, 0, 0)).collect());
    let all = traces.snapshot(TimeRangeNs::ALL);
    let id = span(1, 0, 0, 0).trace_id;
    for (most, want) in [
        (1, (1, true)),
        (3, (3, true)),
        (7, (7, true)),
        (8, (8, false)),
        (100, (8, false)),
    ] {
        let (spans, cut) = all.trace_up_to(id, most).unwrap();
        assert_eq!((spans.len(), cut), want, "{most}");
    }
}
