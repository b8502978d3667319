//! Head to blocks: one block per day, written beside the running engine.

use std::collections::BTreeMap;

use model::{BlockId, DAY_NS, Day, Signal, Span, TimestampNs, TraceId};
use storage_catalogue::{BlockMeta, Catalogue, NewBlock};
use storage_disk::Disk;
use storage_wal::Lsn;

use crate::BlockError;
use crate::block::BlockWriter;
use crate::columns::{Usage, choose};
use crate::head::Head;
use crate::request::AttributeScope;

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
    let mut days: BTreeMap<Day, (Usage, u64)> = BTreeMap::new();
    for id in &ids {
        for span in head.trace(*id) {
            let (usage, rows) = days.entry(filed_day(span.start, span.end)).or_default();
            *rows += 1;
            count(usage, &span.decode(*id, &symbols));
        }
    }
    let mut blocks = Vec::new();
    for (day, (usage, rows)) in days {
        let staged = catalogue.stage(Signal::Traces)?;
        let mut writer = BlockWriter::create(disk, staged.dir(), choose(&usage, rows))?;
        let (mut spans, mut revisions) = (Vec::new(), Vec::new());
        for id in &ids {
            spans.clear();
            let of_day = head.trace(*id).into_iter().filter(|s| filed_day(s.start, s.end) == day);
            spans.extend(of_day.map(|s| s.decode(*id, &symbols)));
            if spans.is_empty() {
                continue;
            }
            spans.sort_by_key(|s| (s.start, s.span_id, s.kind));
            revisions.resize(spans.len(), staged.id().0);
            writer.trace(&spans, &revisions)?;
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

/// Counts what decides about columns.
fn count(usage: &mut Usage, span: &Span) {
    for kv in &span.attributes {
        usage.count(AttributeScope::Span, &kv.key, &kv.value, 1, false);
    }
    for kv in &span.resource.attributes {
        usage.count(AttributeScope::Resource, &kv.key, &kv.value, 1, false);
    }
}
