//! Before a scan reads spans: which traces are worth it?
//!
//! First, unless all blocks lie within the range, the ids of traces that *touch* it, from ids and times alone. Then, if there
//! are conditions, those among them that have a span that *passes*, in whichever block: only columns that the conditions
//! look at are read, of row groups whose bounds do not exclude a match, and of rows of touching traces.

use arrow_array::RecordBatch;
use model::{TimeRangeNs, TimestampNs, TraceId};
use storage_catalogue::BlockRef;

use crate::BlockError;
use crate::block_file::{BATCH_ROWS, BlockFile, Wanted, spans_times, trace_ids};
use crate::condition::Conditions;
use crate::head::Head;
use crate::request::ScanRequest;
use crate::scan::{Snapshot, touches};

/// A survey that finds more traces than this is given up: reading them all is no dearer then.
const TRACES_MAX: usize = 4 << 20;

/// Ids of the traces worth reading from `first` to `last`, rising. `None`: all.
pub(crate) fn survey(
    snapshot: &Snapshot,
    files: &[BlockFile],
    request: &ScanRequest,
    first: TraceId,
    last: TraceId,
) -> Result<Option<Vec<TraceId>>, BlockError> {
    let range = snapshot.range;
    // A block that could not be opened is not among the files, so that they are matched by their path.
    let of = |file: &BlockFile| snapshot.blocks.iter().find(|b| file.path().starts_with(b.dir()));
    let inside = |b: &BlockRef| range.contains(b.meta().min) && range.contains(b.meta().max);
    let near = |b: &BlockRef| range.overlaps(b.meta().min, b.meta().max);
    let between = Wanted::Between(first, last);
    let touching = if files.iter().all(|f| of(f).is_some_and(inside)) {
        None
    } else {
        let mut ids = Vec::new();
        for head in &snapshot.heads {
            touching_in_head(head, first, last, range, &mut ids);
        }
        for file in files.iter().filter(|f| of(f).is_some_and(near)) {
            let inside = of(file).is_some_and(inside);
            for group in file.groups(between) {
                let found = touching_in_group(file, group, between, (!inside).then_some(range), &mut ids);
                found.unwrap_or_else(|e| snapshot.reader.skipped(&e));
            }
            if ids.len() > TRACES_MAX {
                return Ok(None);
            }
        }
        Some(sorted(ids))
    };
    let Some(conditions) = Conditions::new(&request.any_of) else {
        return Ok(touching);
    };
    let wanted = touching.as_ref().map_or(between, |ids| Wanted::Ids(ids));
    let mut ids = Vec::new();
    for head in &snapshot.heads {
        passing_in_head(head, wanted, &conditions, &mut ids);
    }
    for file in files {
        let mut columns = conditions.columns(file);
        columns.push("trace_id".to_owned());
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        for group in file.groups(wanted).into_iter().filter(|g| conditions.group(file, *g)) {
            let found = passing_in_group(file, group, wanted, &columns, &conditions, &mut ids);
            found.unwrap_or_else(|e| snapshot.reader.skipped(&e));
        }
        if ids.len() > TRACES_MAX {
            return Ok(touching);
        }
    }
    Ok(Some(sorted(ids)))
}

fn touching_in_head(head: &Head, first: TraceId, last: TraceId, range: TimeRangeNs, out: &mut Vec<TraceId>) {
    for id in head.ids(first, last) {
        if head.trace(id).iter().any(|s| touches(s.start, s.end, range)) {
            out.push(id);
        }
    }
}

fn passing_in_head(head: &Head, wanted: Wanted<'_>, conditions: &Conditions, out: &mut Vec<TraceId>) {
    let ids = match wanted {
        Wanted::Between(first, last) => head.ids(first, last),
        Wanted::Ids(ids) => ids.to_vec(),
    };
    let mut symbols = head.symbols();
    for id in ids {
        let spans = head.trace(id);
        if symbols.is_behind(head.symbol_table()) {
            symbols = head.symbols();
        }
        if spans.iter().any(|s| conditions.span(&s.decode(id, &symbols))) {
            out.push(id);
        }
    }
}

/// Traces with a span that touches the range; without a range, all of the row group.
fn touching_in_group(
    file: &BlockFile,
    group: usize,
    between: Wanted<'_>,
    range: Option<TimeRangeNs>,
    out: &mut Vec<TraceId>,
) -> Result<(), BlockError> {
    let columns: &[&str] = match range {
        None => &["trace_id"],
        Some(_) => &["trace_id", "start_time", "duration_ns"],
    };
    let rows = file.rows(group, between)?;
    if rows.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    for batch in file.read(group, columns, rows.as_deref())? {
        let batch = batch?;
        let ids = ids_of(file, &batch)?;
        let Some(range) = range else {
            push_runs(out, &ids, |_| true);
            continue;
        };
        let (starts, durations) = spans_times(&batch).ok_or_else(|| file.corrupt("columns of time are missing"))?;
        push_runs(out, &ids, |row| {
            let end = starts[row].wrapping_add(durations[row]);
            touches(TimestampNs(starts[row]), TimestampNs(end), range)
        });
    }
    Ok(())
}

/// Wanted traces with a span that passes.
fn passing_in_group(
    file: &BlockFile,
    group: usize,
    wanted: Wanted<'_>,
    columns: &[&str],
    conditions: &Conditions,
    out: &mut Vec<TraceId>,
) -> Result<(), BlockError> {
    let rows = file.rows(group, wanted)?;
    if rows.as_ref().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let batches = match rows.as_deref() {
        None => file.read_coded(group, columns, BATCH_ROWS)?,
        rows => file.read(group, columns, rows)?,
    };
    for batch in batches {
        let batch = batch?;
        let passes = conditions.rows(file, &batch)?;
        push_runs(out, &ids_of(file, &batch)?, |row| passes[row]);
    }
    Ok(())
}

fn ids_of(file: &BlockFile, batch: &RecordBatch) -> Result<Vec<TraceId>, BlockError> {
    let ids = trace_ids(batch).ok_or_else(|| file.corrupt("column trace_id is not 16 bytes"))?;
    Ok(ids.collect())
}

/// Appends ids of rows that are `good`, a run of equal ones once.
fn push_runs(out: &mut Vec<TraceId>, ids: &[TraceId], good: impl Fn(usize) -> bool) {
    for (row, id) in ids.iter().enumerate() {
        if out.last() != Some(id) && good(row) {
            out.push(*id);
        }
    }
}

fn sorted(mut ids: Vec<TraceId>) -> Vec<TraceId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
