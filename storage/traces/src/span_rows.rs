//! Spans without their traces. Whoever only counts spans need not join them: a trace that lies in one block alone has each
//! of its spans once, so that its rows can be looked at column by column. Which traces lie in several places, or in a head,
//! is known from the marks of their ids (`block_index.rs`); those are named, to be scanned in the usual way.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use model::TraceId;
use rapidhash::RapidHashSet;
use storage_catalogue::BlockRef;

use crate::BlockError;
use crate::block_file::{BlockFile, trace_ids};
use crate::block_index::Times;
use crate::condition::{Conditions, columns_of};
use crate::request::{Condition, Field};
use crate::scan::Snapshot;
use crate::span_column::SpanColumn;

pub use crate::block_index::id_mark;

/// With more traces than this, their marks take too much memory; they are joined then.
const TRACES_MAX: usize = 8 << 20;
/// With more than one in so many in several places, all are joined.
const SHARED_PART: usize = 2;
/// Rows looked at at once if maps are among the columns.
const MAP_ROWS: usize = 4 << 10;

/// Blocks ready to be looked at row by row.
pub struct RowScan<'s> {
    snapshot: &'s Snapshot,
    files: Vec<(BlockFile, Arc<Times>)>,
    /// File and row group.
    parts: Vec<(usize, usize)>,
    /// Marks of ids that may be in several places.
    shared: RapidHashSet<u32>,
    elsewhere: Vec<TraceId>,
}

/// Where a span lies: file and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanPlace(usize, usize);

/// Rows of a batch that are of one trace, and the mark of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRows {
    /// The rows.
    pub rows: Range<usize>,
    /// As [`id_mark`] makes it.
    pub mark: u32,
}

/// Some rows of a block. Only those named in [`SpanRows::traces`] count.
pub struct SpanRows {
    /// Starts of the spans, ns.
    pub starts: Vec<i64>,
    /// The fields that were asked for.
    pub columns: Vec<SpanColumn>,
    /// Rows that are wanted, trace by trace, each by start.
    pub traces: Vec<TraceRows>,
    file: usize,
    first_row: usize,
}

impl SpanRows {
    /// Where a row's span lies.
    pub fn place(&self, row: usize) -> SpanPlace {
        SpanPlace(self.file, self.first_row + row)
    }
}

impl Snapshot {
    /// Prepares a look at the rows of traces that lie in one block alone. Row groups in which no span shows what `any_of`
    /// asks for are left out, as in a scan. `None`: too many traces lie in several places, or there are too many at all.
    pub fn row_scan(&self, any_of: &[Vec<Condition>]) -> Result<Option<RowScan<'_>>, BlockError> {
        let mut files: Vec<(BlockRef, BlockFile, Arc<Times>)> = Vec::new();
        for (block, file) in self.open_with_blocks() {
            match file.times() {
                Ok(times) => files.push((block, file, times)),
                Err(e) => self.reader.skipped(&e),
            }
        }
        let heads = self
            .heads
            .iter()
            .flat_map(|head| head.ids(TraceId(0), TraceId(u128::MAX)));
        let mut elsewhere: Vec<TraceId> = heads.collect();
        elsewhere.sort_unstable();
        elsewhere.dedup();
        let in_blocks: usize = files.iter().map(|(_, _, times)| times.len()).sum();
        if in_blocks + elsewhere.len() > TRACES_MAX {
            return Ok(None);
        }
        let mut shared: RapidHashSet<u32> = RapidHashSet::default();
        if files.len() + usize::from(!elsewhere.is_empty()) > 1 {
            let mut marks: Vec<u32> = elsewhere.iter().map(|id| id_mark(*id)).collect();
            shared.extend(&marks);
            for (_, _, times) in &files {
                // Two traces of one block may have the same mark, which says nothing.
                let mut own = times.marks().to_vec();
                own.sort_unstable();
                own.dedup();
                marks.extend(own);
            }
            marks.sort_unstable();
            let twice = marks.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            shared.extend(twice);
        }
        let any_of = Conditions::new(any_of);
        let mut scan = RowScan {
            snapshot: self,
            files: Vec::new(),
            parts: Vec::new(),
            shared,
            elsewhere,
        };
        let mut in_several = 0;
        for (n, (block, file, times)) in files.into_iter().enumerate() {
            if self.range.overlaps(block.meta().min, block.meta().max) {
                let groups = 0..file.groups_count();
                let groups = groups.filter(|g| any_of.as_ref().is_none_or(|any_of| any_of.group(&file, *g)));
                scan.parts.extend(groups.map(|group| (n, group)));
            }
            if !scan.shared.is_empty() {
                let marks = times.marks().iter().enumerate();
                let shared = marks.filter(|(_, mark)| scan.shared.contains(*mark));
                let rows: Vec<usize> = shared.map(|(trace, _)| times.rows(trace).start).collect();
                in_several += rows.len();
                if in_several * SHARED_PART > in_blocks {
                    return Ok(None);
                }
                match ids_at(&file, &rows) {
                    Ok(ids) => scan.elsewhere.extend(ids),
                    Err(e) => self.reader.skipped(&e),
                }
            }
            scan.files.push((file, times));
        }
        scan.elsewhere.sort_unstable();
        scan.elsewhere.dedup();
        Ok(Some(scan))
    }
}

impl RowScan<'_> {
    /// Parts that can be looked at in any order.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The traces whose spans are in no part, rising: [`Snapshot::scan_ids`] brings them.
    pub fn elsewhere(&self) -> &[TraceId] {
        &self.elsewhere
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.files.iter().map(|(file, _)| file.bytes_read()).sum()
    }

    /// Visits the rows of a part, in their order, until an error comes back. What cannot be read is left out and counted.
    pub fn look<E>(
        &self,
        part: usize,
        fields: &[Field],
        mut visit: impl FnMut(&SpanRows) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        let read = self.each_batch(part, fields, &mut |rows| {
            result = visit(&rows);
            result.is_ok()
        });
        if let Err(e) = read {
            self.snapshot.reader.skipped(&e);
        }
        result
    }

    /// The ids of the traces of spans, in the order of the places; those that cannot be read are missing.
    pub fn trace_ids(&self, places: &[SpanPlace]) -> Vec<Option<TraceId>> {
        let mut sorted = places.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut found: Vec<(SpanPlace, TraceId)> = Vec::new();
        for of_file in sorted.chunk_by(|a, b| a.0 == b.0) {
            let Some(((file, _), first)) = of_file.first().and_then(|p| Some((self.files.get(p.0)?, p))) else {
                continue;
            };
            let rows: Vec<usize> = of_file.iter().map(|place| place.1).collect();
            match ids_at(file, &rows) {
                Ok(ids) => found.extend(rows.iter().map(|row| SpanPlace(first.0, *row)).zip(ids)),
                Err(e) => self.snapshot.reader.skipped(&e),
            }
        }
        let of = |place: &SpanPlace| {
            found
                .binary_search_by_key(place, |(p, _)| *p)
                .ok()
                .map(|at| found[at].1)
        };
        places.iter().map(of).collect()
    }

    fn each_batch(
        &self,
        part: usize,
        fields: &[Field],
        visit: &mut dyn FnMut(SpanRows) -> bool,
    ) -> Result<(), BlockError> {
        let Some((n, group)) = self.parts.get(part).copied() else {
            return Ok(());
        };
        let (file, times) = &self.files[n];
        let mut columns = vec!["start_time".to_owned()];
        fields.iter().for_each(|field| columns_of(file, field, &mut columns));
        columns.sort_unstable();
        columns.dedup();
        let maps = columns.iter().any(|c| c.ends_with("attributes"));
        let batch_rows = if maps { MAP_ROWS } else { file.group_rows(group) };
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut first_row = file.rows_before(group);
        for batch in file.read_coded(group, &names, batch_rows)? {
            let batch = batch?;
            let rows = first_row..first_row + batch.num_rows();
            let starts = starts(&batch).ok_or_else(|| file.corrupt("column start_time is missing"))?;
            let columns: Result<Vec<SpanColumn>, String> =
                fields.iter().map(|field| SpanColumn::of(file, &batch, field)).collect();
            let on = visit(SpanRows {
                starts,
                columns: columns.map_err(|what| file.corrupt(what))?,
                traces: self.traces(times, &rows),
                file: n,
                first_row,
            });
            if !on {
                break;
            }
            first_row = rows.end;
        }
        Ok(())
    }

    /// The traces that lie nowhere else, of rows of a file.
    fn traces(&self, times: &Times, rows: &Range<usize>) -> Vec<TraceRows> {
        let mut out = Vec::new();
        for trace in times.trace_at(rows.start)..times.len() {
            let own = times.rows(trace);
            if own.start >= rows.end {
                break;
            }
            let mark = times.marks()[trace];
            if self.shared.is_empty() || !self.shared.contains(&mark) {
                let (start, end) = (own.start.max(rows.start), own.end.min(rows.end));
                out.push(TraceRows {
                    rows: start - rows.start..end - rows.start,
                    mark,
                });
            }
        }
        out
    }
}

fn starts(batch: &RecordBatch) -> Option<Vec<i64>> {
    let column = batch.column_by_name("start_time")?;
    let column = column.as_primitive_opt::<TimestampNanosecondType>()?;
    Some(column.values().to_vec())
}

/// The trace ids of rows of a file, which rise.
fn ids_at(file: &BlockFile, rows: &[usize]) -> Result<Vec<TraceId>, BlockError> {
    let mut out = Vec::with_capacity(rows.len());
    let mut before = 0;
    for group in 0..file.groups_count() {
        let after = before + file.group_rows(group);
        let inside = &rows[rows.partition_point(|r| *r < before)..rows.partition_point(|r| *r < after)];
        if !inside.is_empty() {
            let ranges: Vec<Range<usize>> = inside.iter().map(|r| r - before..r - before + 1).collect();
            for batch in file.read(group, &["trace_id"], Some(&ranges))? {
                let batch = batch?;
                out.extend(trace_ids(&batch).ok_or_else(|| file.corrupt("column trace_id is not 16 bytes"))?);
            }
        }
        before = after;
    }
    Ok(out)
}
