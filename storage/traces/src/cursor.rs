//! Traces of one head or one block in rising order of id, one by one.

use std::collections::VecDeque;
use std::ops::Range;

use model::{Span, TraceId};

use crate::BlockError;
use crate::block_file::{Batches, BlockFile, Reading, Wanted};
use crate::head::Head;
use crate::rows::{Copied, Decoder, Trimmed, Wants};
use crate::symbols::SymbolView;

/// A source of traces.
pub(crate) enum Cursor<'a> {
    /// In memory.
    Head(Box<HeadCursor<'a>>),
    /// On disk.
    Block(Box<BlockCursor<'a>>),
}

impl Cursor<'_> {
    /// The next trace's id.
    pub(crate) fn peek(&mut self) -> Result<Option<TraceId>, BlockError> {
        match self {
            Cursor::Head(cursor) => Ok(cursor.peek()),
            Cursor::Block(cursor) => cursor.peek(),
        }
    }

    /// Appends the next trace's spans and goes on. Ends early when `out` holds `most` spans.
    pub(crate) fn take(&mut self, out: &mut Vec<Copied>, most: usize) -> Result<(), BlockError> {
        match self {
            Cursor::Head(cursor) => {
                cursor.take(out, most);
                Ok(())
            }
            Cursor::Block(cursor) => cursor.take(out, most),
        }
    }
}

/// Moves the copies into `spans`, sorted by start, each span once, with their revisions.
pub(crate) fn join(copies: &mut Vec<Copied>, spans: &mut Vec<Span>, revisions: &mut Vec<u64>) {
    spans.clear();
    revisions.clear();
    copies.sort_by_key(|c| (c.span.span_id, c.span.kind, std::cmp::Reverse(c.revision)));
    copies.dedup_by_key(|c| (c.span.span_id, c.span.kind));
    copies.sort_by_key(|c| (c.span.start, c.span.span_id, c.span.kind));
    for copied in copies.drain(..) {
        revisions.push(copied.revision);
        spans.push(copied.span);
    }
}

/// The traces of a head.
pub(crate) struct HeadCursor<'a> {
    head: &'a Head,
    revision: u64,
    wants: Wants,
    trimmed: Trimmed,
    symbols: SymbolView,
    ids: Vec<TraceId>,
    at: usize,
}

impl<'a> HeadCursor<'a> {
    /// Over the wanted traces that are there now; each with the spans it has when its turn comes.
    pub(crate) fn new(head: &'a Head, revision: u64, wanted: Wanted<'_>, wants: Wants) -> HeadCursor<'a> {
        let ids = match wanted {
            Wanted::Between(first, last) => head.ids(first, last),
            Wanted::Ids(ids) => ids.to_vec(),
        };
        HeadCursor {
            head,
            revision,
            wants,
            trimmed: Trimmed::default(),
            symbols: head.symbols(),
            ids,
            at: 0,
        }
    }

    fn peek(&self) -> Option<TraceId> {
        self.ids.get(self.at).copied()
    }

    fn take(&mut self, out: &mut Vec<Copied>, most: usize) {
        let Some(id) = self.peek() else { return };
        self.at += 1;
        let spans = self.head.trace(id);
        // Spans that came after the cursor may point at strings that did, too.
        if self.symbols.is_behind(self.head.symbol_table()) {
            self.symbols = self.head.symbols();
        }
        for span in spans.iter().take(most.saturating_sub(out.len())) {
            let mut span = span.decode(id, &self.symbols);
            self.wants.trim(&mut span, &mut self.trimmed);
            let revision = self.revision;
            out.push(Copied { revision, span });
        }
    }
}

/// What to do about row groups that the disk does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnIoError {
    /// Leave them out and count them, as damaged ones: a query shows what there is.
    LeaveOut,
    /// Stop: compaction must not lose what can perhaps be read tomorrow.
    Stop,
}

/// The traces of a block. Row groups that are damaged are left out and counted.
pub(crate) struct BlockCursor<'a> {
    reading: &'a Reading,
    file: &'a BlockFile,
    wanted: Wanted<'a>,
    groups: VecDeque<usize>,
    columns: Vec<String>,
    decoder: Decoder,
    batches: Option<Batches>,
    rows: VecDeque<Copied>,
    scratch: Vec<Copied>,
    on_io_error: OnIoError,
}

impl<'a> BlockCursor<'a> {
    /// Over the wanted traces.
    pub(crate) fn new(
        reading: &'a Reading,
        file: &'a BlockFile,
        wanted: Wanted<'a>,
        wants: Wants,
        on_io_error: OnIoError,
    ) -> BlockCursor<'a> {
        BlockCursor {
            on_io_error,
            reading,
            wanted,
            groups: file.groups(wanted).into(),
            columns: wants.columns(file),
            decoder: Decoder::new(file, wants),
            file,
            batches: None,
            rows: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    fn peek(&mut self) -> Result<Option<TraceId>, BlockError> {
        self.fill()?;
        Ok(self.rows.front().map(|c| c.span.trace_id))
    }

    fn take(&mut self, out: &mut Vec<Copied>, most: usize) -> Result<(), BlockError> {
        let Some(id) = self.peek()? else { return Ok(()) };
        loop {
            while self.rows.front().is_some_and(|c| c.span.trace_id == id) {
                out.extend(self.rows.pop_front());
            }
            // A trace goes on into the next batch or row group only if this one is used up.
            if !self.rows.is_empty() || out.len() >= most {
                return Ok(());
            }
            self.fill()?;
            if self.rows.front().is_none_or(|c| c.span.trace_id != id) {
                return Ok(());
            }
        }
    }

    /// Makes sure that there is a row, if there is one left.
    fn fill(&mut self) -> Result<(), BlockError> {
        while self.rows.is_empty() {
            if self.batches.is_none() {
                let Some(group) = self.groups.pop_front() else {
                    return Ok(());
                };
                match self.open(group) {
                    Ok(batches) => self.batches = batches,
                    Err(e) => self.leave_out(e)?,
                }
                continue;
            }
            match self.batches.as_mut().and_then(Iterator::next) {
                None => self.batches = None,
                Some(Err(e)) => {
                    self.batches = None;
                    self.leave_out(e)?;
                }
                Some(Ok(batch)) => {
                    self.scratch.clear();
                    if let Err(what) = self.decoder.decode(&batch, &mut self.scratch) {
                        self.batches = None;
                        self.leave_out(self.file.corrupt(what))?;
                    }
                    self.rows.extend(self.scratch.drain(..));
                }
            }
        }
        Ok(())
    }

    fn open(&self, group: usize) -> Result<Option<Batches>, BlockError> {
        let rows: Option<Vec<Range<usize>>> = self.file.rows(group, self.wanted)?;
        if rows.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        self.file.read(group, &columns, rows.as_deref()).map(Some)
    }

    fn leave_out(&self, error: BlockError) -> Result<(), BlockError> {
        if matches!(error, BlockError::Io { .. }) && self.on_io_error == OnIoError::Stop {
            return Err(error);
        }
        self.reading.skipped(&error);
        Ok(())
    }
}
