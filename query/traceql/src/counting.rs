//! Finding the spans that a metrics function counts: row by row where the function and the place of the spans allow it,
//! as whole traces otherwise. Both give the same.

use model::{Span, TimeRangeNs, TimestampNs, TraceId};
use query_exec::{Context, ExecError};
use storage_traces::{RowScan, ScanRequest, ScanStats, Snapshot, Traces};

use crate::EvalError;
use crate::by_rows::RowPlan;
use crate::exemplar::Picking;
use crate::intervals::Intervals;
use crate::metrics::{FunctionPlan, Groups};
use crate::search::{over_ids, over_parts, over_shards, whole};
use crate::view::View;

/// One function over what is stored at a moment.
pub(crate) struct Counting<'q> {
    function: &'q FunctionPlan,
    request: ScanRequest,
    context: &'q Context,
    intervals: &'q Intervals,
    snapshot: Snapshot,
    picking: Picking,
    /// Where there is nothing at all, there is no series of zeros either.
    anything: bool,
}

impl<'q> Counting<'q> {
    /// Ready to count, with at most so many exemplars. `None`: no span can match.
    pub(crate) fn new(
        function: &'q FunctionPlan,
        context: &'q Context,
        traces: &Traces,
        intervals: &'q Intervals,
        exemplars: usize,
    ) -> Option<Counting<'q>> {
        let (first, last) = intervals.bounds();
        let range = TimeRangeNs {
            start: TimestampNs(first),
            end: TimestampNs(last.saturating_add(1)),
        };
        let stored = traces.stats();
        Some(Counting {
            function,
            request: function.request()?,
            context,
            intervals,
            snapshot: traces.snapshot(range),
            picking: Picking::over(first, last, exemplars),
            anything: stored.blocks > 0 || stored.head_spans > 0,
        })
    }

    /// Whether stored spans could not be read and were left out.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.snapshot.is_incomplete()
    }

    /// Counts in whichever way is cheaper.
    pub(crate) fn groups(&self) -> Result<(Groups, ScanStats), EvalError> {
        if let Some(ids) = &self.function.plan.trace_ids {
            return self.of_traces(ids);
        }
        match self.by_rows()? {
            Some(counted) => Ok(counted),
            None => self.by_traces(),
        }
    }

    /// Looks at whole traces.
    pub(crate) fn by_traces(&self) -> Result<(Groups, ScanStats), EvalError> {
        let (shards, stats) = over_shards(
            self.context,
            &self.snapshot,
            &self.request,
            || Groups::picking(self.picking),
            |groups, id, spans| self.observe(groups, id, spans),
        )?;
        Ok((self.merged(shards)?, stats))
    }

    /// Looks at these traces (rising) alone.
    fn of_traces(&self, ids: &[TraceId]) -> Result<(Groups, ScanStats), EvalError> {
        let (parts, stats) = over_ids(
            self.context,
            &self.snapshot,
            &self.request,
            ids,
            || Groups::picking(self.picking),
            |groups, id, spans| self.observe(groups, id, spans),
        )?;
        Ok((self.merged(parts)?, stats))
    }

    /// Looks at rows, and at whole traces where several places have them. `None`: the function does not allow it, or rows
    /// are not worth it.
    pub(crate) fn by_rows(&self) -> Result<Option<(Groups, ScanStats)>, EvalError> {
        let Some(plan) = RowPlan::of(self.function) else {
            return Ok(None);
        };
        let Some(scan) = self.snapshot.row_scan(&self.request.any_of)? else {
            return Ok(None);
        };
        let parts = over_parts(self.context, scan.parts(), |part| self.part(&plan, &scan, part))?;
        let (elsewhere, mut stats) = over_ids(
            self.context,
            &self.snapshot,
            &self.request,
            scan.elsewhere(),
            || Groups::picking(self.picking),
            |groups, id, spans| self.observe(groups, id, spans),
        )?;
        let mut gathered = elsewhere;
        for (groups, part) in parts {
            stats.traces += part.traces;
            stats.spans += part.spans;
            gathered.push(groups);
        }
        let mut groups = self.merged(gathered)?;
        groups.find_traces(&scan);
        stats.bytes += scan.bytes_read();
        self.context.add_bytes(scan.bytes_read())?;
        Ok(Some((groups, stats)))
    }

    fn part(&self, plan: &RowPlan<'_>, scan: &RowScan<'_>, part: usize) -> Result<(Groups, ScanStats), EvalError> {
        let (mut groups, mut stats) = (Groups::picking(self.picking), ScanStats::default());
        scan.look(part, &plan.stored, |rows| {
            self.context.check("a scan of spans")?;
            stats.traces += rows.traces.len() as u64;
            stats.spans += rows.traces.iter().map(|trace| trace.rows.len() as u64).sum::<u64>();
            plan.observe(&mut groups, rows, self.intervals, self.context)
        })?;
        Ok((groups, stats))
    }

    fn observe(&self, groups: &mut Groups, id: TraceId, spans: &[Span]) -> Result<(), ExecError> {
        let plan = &self.function.plan;
        let view = View::new(id, spans, plan.needs_tree()).seeing(&plan.seen);
        let known = |at: u32| (spans.get(at as usize).map_or(i64::MIN, |span| span.start.0), id);
        groups.observe(self.function, &view, whole(&view), known, self.intervals, self.context)
    }

    fn merged(&self, parts: Vec<Groups>) -> Result<Groups, EvalError> {
        let mut total = Groups::picking(self.picking);
        total.asked = self.anything;
        for part in parts {
            total.merge(part, &self.function.function, self.context)?;
        }
        Ok(total)
    }
}
