//! Head to blocks: one block per day, written beside the running engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BlockId, DAY_NS, Day, Resource, Signal, TimestampNs, TraceId};
use rapidhash::RapidHashMap;
use storage_catalogue::{BlockMeta, Catalogue, NewBlock};
use storage_codec::Reader;
use storage_disk::Disk;
use storage_wal::Lsn;

use crate::BlockError;
use crate::block::BlockWriter;
use crate::columns::{Usage, Use, choose};
use crate::head::{Head, HeadSpan};
use crate::request::AttributeScope;
use crate::span_bytes::{GetSymbols, Skimmed, get_head, skim_attributes};
use crate::symbols::SymbolView;

/// Up to here every span has a say in which columns there are; of more, ...
const COUNTED_SPANS: u64 = 50_000;
/// ... the spans of one trace in so many.
const COUNTED_TRACES: usize = 8;

/// The day under which a span is filed: that of its start, or for one that lasts longer than a day the day before its end.
pub(crate) fn filed_day(start: TimestampNs, end: TimestampNs) -> Day {
    TimestampNs(start.0.max(end.0.saturating_sub(DAY_NS))).day()
}

/// Writes a head that takes no appends any more into blocks and publishes them all at once.
pub(crate) fn write_head(
    disk: &Disk,
    catalogue: &Catalogue,
    head: &Head,
    checkpoint: Lsn,
) -> Result<Vec<BlockId>, BlockError> {
    let ids = head.ids(TraceId(0), TraceId(u128::MAX));
    let symbols = head.symbols();
    let mut days: BTreeMap<Day, Census> = BTreeMap::new();
    let mut skimmed = Vec::new();
    let every = if head.spans() > COUNTED_SPANS {
        COUNTED_TRACES
    } else {
        1
    };
    // Of a head of one day there is nothing else to be known of the others.
    let looked_at = if head.day().is_some() { every } else { 1 };
    for (n, id) in ids.iter().enumerate().step_by(looked_at) {
        head.look(*id, |spans| {
            for span in spans {
                let census = days.entry(filed_day(span.start, span.end)).or_default();
                if census.rows == 0 || n % every == 0 {
                    census.count(span, &symbols, &mut skimmed);
                }
            }
        });
    }
    let mut blocks = Vec::new();
    for (day, census) in days {
        let rows = census.rows;
        let usage = census.into_usage(&symbols);
        let staged = catalogue.stage(Signal::Traces)?;
        let mut writer = BlockWriter::create(disk, staged.dir(), choose(&usage, rows))?;
        for id in &ids {
            head.look(*id, |spans| {
                let of_day = spans.iter().filter(|s| filed_day(s.start, s.end) == day);
                let mut of_day: Vec<&HeadSpan> = of_day.collect();
                of_day.sort_by_key(|s| (s.start, s.span_id, s.kind));
                writer.head_trace(*id, &of_day, &symbols, staged.id().0)
            })?;
            // Not while readers of the head have to wait.
            writer.flush_full()?;
        }
        let written = writer.finish()?;
        let (min, max) = written.range.unwrap_or((day.start_ns(), day.start_ns()));
        let meta = BlockMeta {
            id: staged.id(),
            signal: Signal::Traces,
            day,
            min,
            max,
            level: 0,
            items: written.spans,
            keys: written.traces,
            bytes: 0,
            replaces: Vec::new(),
        };
        let labels = Vec::new();
        blocks.push(NewBlock { staged, meta, labels });
    }
    let published = catalogue.publish(blocks, Some(checkpoint.0))?;
    Ok(published.iter().map(|b| b.meta().id).collect())
}

/// What decides about columns, counted by the numbers that the head gave to names.
#[derive(Default)]
struct Census {
    rows: u64,
    by_symbol: Vec<Use>,
    /// Rows of each resource, found by its address.
    resources: RapidHashMap<*const Resource, (Arc<Resource>, u64)>,
}

impl Census {
    fn count(&mut self, span: &HeadSpan, symbols: &SymbolView, skimmed: &mut Vec<Skimmed>) {
        self.rows += 1;
        let resource = span.resource();
        let known = self.resources.entry(Arc::as_ptr(resource));
        known.or_insert_with(|| (resource.clone(), 0)).1 += 1;
        let mut r = Reader::new(span.body());
        // What cannot be read here is told when it is to be written.
        let read = get_head(&mut r, symbols).and_then(|_| skim_attributes(&mut r, skimmed));
        if read.is_err() {
            return;
        }
        for attribute in skimmed.iter() {
            let at = attribute.symbol as usize;
            if at >= self.by_symbol.len() {
                self.by_symbol.resize(at + 1, Use::default());
            }
            self.by_symbol[at].by_kind[attribute.kind] += 1;
        }
    }

    fn into_usage(self, symbols: &SymbolView) -> Usage {
        let mut usage = Usage::default();
        // Names without a number are many and rare, or very long: none of them gets a column.
        for (symbol, used) in self.by_symbol.iter().enumerate().skip(1) {
            if let Some(key) = symbols.text(symbol as u64) {
                usage.add_use(AttributeScope::Span, key, used);
            }
        }
        for (resource, rows) in self.resources.values() {
            for kv in &resource.attributes {
                usage.count(AttributeScope::Resource, &kv.key, &kv.value, *rows, false);
            }
        }
        usage
    }
}
