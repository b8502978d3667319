//! What is deleted, or too old for its stream, is not seen, and in the end is not there.

use crate::lab::{CANCEL, DAY, Lab, NOON, RETENTION, Row, batch, labels, range, row, with};
use ::model::{LabelSet, Matcher, TimeRangeNs, TimestampNs};
use storage_logs::{DeleteState, KeepStreams};

const T: fn(i64) -> TimestampNs = TimestampNs;

fn rows(times: &[i64]) -> Vec<Row> {
    times.iter().map(|t| row(NOON + t, &format!("line {t}"))).collect()
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.append(&batch(&[("a", rows(&[0, 1, 2, 3])), ("b", rows(&[0, 1]))]), NOON);
    lab
}

fn seen(lab: &Lab) -> Vec<(LabelSet, Vec<Row>)> {
    lab.read_all()
}

#[test]
fn deleted_entries_are_hidden_at_once_and_gone_when_the_time_to_cancel_is_over() {
    for cut in [false, true] {
        let lab = lab();
        if cut {
            lab.logs.cut().unwrap();
        }
        let id = lab.logs.delete("a", T(NOON + 1), T(NOON + 2), T(NOON)).unwrap();
        let left = [(labels("a"), rows(&[0, 3])), (labels("b"), rows(&[0, 1]))];
        assert_eq!(seen(&lab), left);
        let lab = lab.crash(false);
        assert_eq!(seen(&lab), left, "after a crash");
        let volumes = lab
            .logs
            .snapshot(TimeRangeNs::ALL)
            .volumes(&[], TimeRangeNs::ALL)
            .unwrap();
        assert_eq!(volumes.iter().map(|v| v.entries).collect::<Vec<_>>(), [2, 2]);

        // Too early: it could still be cancelled.
        assert!(!lab.logs.deletes_due(T(NOON + CANCEL - 1)));
        lab.logs.remove(T(NOON + CANCEL - 1), true).unwrap();
        assert_eq!(lab.logs.delete_requests()[0].state, DeleteState::Received);
        assert!(lab.logs.deletes_due(T(NOON + CANCEL)));
        lab.logs.remove(T(NOON + CANCEL), true).unwrap();
        let request = &lab.logs.delete_requests()[0];
        assert_eq!((&request.id, request.state), (&id, DeleteState::Processed));
        assert_eq!(seen(&lab), left);
        let items: u64 = lab.blocks().iter().map(|b| b.meta().items).sum();
        assert_eq!(items, 4, "what was deleted is in no block");
        assert!(!lab.logs.cancel_delete(&id).unwrap(), "too late");
        let lab = lab.crash(true);
        assert_eq!(seen(&lab), left, "also when the catalogue is lost");

        // What is sent again after that is new.
        lab.append(&batch(&[("a", rows(&[1]))]), NOON + CANCEL);
        assert_eq!(seen(&lab)[0].1, rows(&[0, 1, 3]));
    }
}

/// As in Loki: a request hides what it means until it is processed, whenever that came.
#[test]
fn what_arrives_while_a_request_waits_is_hidden_too() {
    let lab = lab();
    let id = lab.logs.delete("a", T(NOON), T(NOON + 9), T(NOON)).unwrap();
    lab.append(&batch(&[("a", rows(&[5, 12]))]), NOON);
    assert_eq!(seen(&lab), [(labels("a"), rows(&[12])), (labels("b"), rows(&[0, 1]))]);
    assert!(lab.logs.cancel_delete(&id).unwrap());
    assert_eq!(seen(&lab)[0].1, rows(&[0, 1, 2, 3, 5, 12]));
    assert_eq!(lab.logs.delete_requests(), []);
    assert!(!lab.logs.cancel_delete(&id).unwrap());
}

#[test]
fn a_filter_picks_lines_and_metadata_stays_with_its_entry() {
    let lab = Lab::new();
    let all: Vec<Row> = (0..9)
        .map(|i| with(row(NOON + i, &format!("user {}", i % 3)), "n", &i.to_string()))
        .collect();
    lab.append(&batch(&[("a", all.clone())]), NOON);
    lab.logs.delete("a user 1", T(NOON), T(NOON + 5), T(NOON)).unwrap();
    let left: Vec<Row> = all
        .into_iter()
        .filter(|r| !(r.1 == "user 1" && r.0 <= NOON + 5))
        .collect();
    assert_eq!(left.len(), 7);
    assert_eq!(seen(&lab), [(labels("a"), left.clone())]);
    lab.logs.cut().unwrap();
    assert_eq!(seen(&lab), [(labels("a"), left.clone())]);
    // A merge before the time to cancel is over keeps what may come back.
    lab.append(&batch(&[("a", rows(&[50]))]), NOON);
    lab.logs.cut().unwrap();
    lab.compact_all();
    assert_eq!(lab.blocks()[0].meta().items, 10);
    lab.logs.remove(T(NOON + CANCEL), false).unwrap();
    assert_eq!(lab.blocks()[0].meta().items, 8);
    assert_eq!(seen(&lab)[0].1[..7], left);
}

#[test]
fn streams_that_are_deleted_whole_have_no_labels_any_more() {
    let lab = lab();
    let day = TimeRangeNs {
        start: T(NOON).day().start_ns(),
        end: T(NOON + DAY).day().start_ns(),
    };
    let values = |lab: &Lab, range| lab.logs.snapshot(range).label_values("app", &[], range).unwrap();
    for range in [day, TimeRangeNs::ALL, range(NOON - 5, NOON + 5)] {
        assert_eq!(values(&lab, range), ["a", "b"]);
    }
    lab.logs.delete("a", T(NOON - DAY), T(NOON + 3), T(NOON)).unwrap();
    for range in [day, TimeRangeNs::ALL, range(NOON - 5, NOON + 5)] {
        assert_eq!(values(&lab, range), ["b"]);
        assert_eq!(lab.logs.snapshot(range).series(&[], range).unwrap(), [labels("b")]);
    }
    lab.logs.remove(T(NOON + CANCEL), false).unwrap();
    let lab = lab.crash(false);
    for range in [day, TimeRangeNs::ALL, range(NOON - 5, NOON + 5)] {
        assert_eq!(values(&lab, range), ["b"], "when processed");
    }
}

#[test]
fn a_tail_does_not_hear_what_is_deleted() {
    let lab = lab();
    lab.logs.delete("a line 7", T(NOON), T(NOON + 9), T(NOON)).unwrap();
    let mut tail = lab.logs.subscribe(vec![Matcher::equal("app", "a")]);
    lab.append(&batch(&[("a", rows(&[7, 8]))]), NOON);
    let (_, entry, _) = lab.block_on(tail.recv()).unwrap();
    assert_eq!(entry.line, "line 8");
}

#[test]
fn a_request_without_meaning_is_refused() {
    let lab = lab();
    let said = lab.logs.delete("", T(NOON), T(NOON), T(NOON)).unwrap_err().to_string();
    assert_eq!(said, "no app");
    assert_eq!(lab.logs.delete_requests(), []);
}

/// Damage must not keep a request from being carried out: what can be read of the block stays, the rest goes.
#[test]
fn a_removal_salvages_what_can_be_read() {
    let lab = lab();
    lab.logs.cut().unwrap();
    let path = lab.blocks()[0].dir().join("chunks");
    let disk = lab.disk.disk();
    let mut bytes = disk.read(&path).unwrap();
    bytes[12] ^= 0xff;
    disk.write_atomic(&path, &bytes).unwrap();
    lab.logs.delete("b line 1", T(NOON), T(NOON + 9), T(NOON)).unwrap();
    lab.logs.remove(T(NOON + CANCEL), false).unwrap();
    assert_eq!(lab.logs.delete_requests()[0].state, DeleteState::Processed);
    assert_eq!(seen(&lab), [(labels("b"), rows(&[0]))]);
}

#[test]
fn streams_are_kept_for_their_own_time() {
    let keep = |app: &str, days: i64| KeepStreams {
        matchers: vec![Matcher::equal("app", app)],
        priority: 1,
        keep_ns: days * DAY,
    };
    let lab = Lab::with(vec![keep("dev", 1), keep("audit", 30)]);
    let old = |days: i64| vec![row(NOON - days * DAY, "old"), row(NOON, "new")];
    let appended = lab.append(&batch(&[("dev", old(2)), ("audit", old(20)), ("x", old(8))]), NOON);
    assert_eq!((appended.stored, appended.too_old), (4, 2), "{appended:?}");

    let new = |app: &str| (labels(app), vec![row(NOON, "new")]);
    assert_eq!(seen(&lab), [(labels("audit"), old(20)), new("dev"), new("x")]);
    let later = NOON + DAY + 1;
    lab.logs.let_pass(T(later));
    assert_eq!(
        seen(&lab),
        [(labels("audit"), old(20)), new("x")],
        "unseen as soon as it expires"
    );
    let names = |lab: &Lab| {
        lab.logs
            .snapshot(TimeRangeNs::ALL)
            .label_values("app", &[], TimeRangeNs::ALL)
            .unwrap()
    };
    assert_eq!(names(&lab), ["audit", "x"]);
    let volumes = lab
        .logs
        .snapshot(TimeRangeNs::ALL)
        .volumes(&[], TimeRangeNs::ALL)
        .unwrap();
    assert_eq!(volumes.len(), 2);

    lab.logs.cut().unwrap();
    let items = |lab: &Lab| lab.blocks().iter().map(|b| b.meta().items).sum::<u64>();
    assert_eq!(items(&lab), 4);
    lab.logs.remove(T(later), true).unwrap();
    assert_eq!(items(&lab), 3, "and taken out when the whole block is older");
    lab.logs.remove(T(NOON + RETENTION + 1), true).unwrap();
    assert_eq!(items(&lab), 2);
    assert_eq!(lab.logs.keeps_at_most(), 30 * DAY);
    let lab = lab.crash(true);
    lab.logs.let_pass(T(NOON + RETENTION + 1));
    assert_eq!(seen(&lab), [(labels("audit"), old(20))]);
}
