//! Replay: what the WAL holds and no block does yet comes back into the head.

use std::sync::Arc;

use storage_catalogue::{CatalogueError, LabelIndex};
use storage_wal::Lsn;

use crate::head::Head;
use crate::id_map::IdMap;
use crate::metadata::Families;
use crate::record::{Chains, KIND_BATCH, Record};
use crate::series::Cell;

/// Takes records in the order of the log.
pub(crate) struct Replayer<'a> {
    pub(crate) head: &'a Head,
    pub(crate) index: &'a LabelIndex,
    pub(crate) families: &'a Families,
    /// Records below are in blocks.
    pub(crate) checkpoint: Lsn,
    /// By the ids of the log.
    cells: IdMap<Arc<Cell>>,
    chains: Chains,
    /// Samples that continue what was lost.
    unknown: u64,
    undefined: u64,
    unreadable: u64,
    failed: Option<CatalogueError>,
}

impl<'a> Replayer<'a> {
    pub(crate) fn new(head: &'a Head, index: &'a LabelIndex, families: &'a Families, checkpoint: Lsn) -> Replayer<'a> {
        Replayer {
            head,
            index,
            families,
            checkpoint,
            cells: IdMap::default(),
            chains: Chains::default(),
            unknown: 0,
            undefined: 0,
            unreadable: 0,
            failed: None,
        }
    }

    /// Takes one record.
    pub(crate) fn record(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) {
        if lsn < self.checkpoint || self.failed.is_some() {
            return;
        }
        let decoded = match kind {
            KIND_BATCH => Record::decode(lsn, payload, &mut self.chains).ok(),
            _ => None,
        };
        let record = match decoded {
            Some(record) => record,
            None => {
                self.unreadable += 1;
                return;
            }
        };
        if let Err(error) = self.apply(&record) {
            self.failed = Some(error);
        }
    }

    /// Says what was lost, if anything.
    pub(crate) fn finish(self) -> Result<(), CatalogueError> {
        if self.unreadable > 0 || self.undefined > 0 || self.unknown > 0 {
            tracing::warn!(
                records = self.unreadable,
                samples = self.undefined + self.unknown,
                "the WAL of metrics holds records that cannot be read, or samples that need what is lost; they are left out"
            );
        }
        self.failed.map_or(Ok(()), Err)
    }

    fn apply(&mut self, record: &Record) -> Result<(), CatalogueError> {
        for (id, day, labels) in &record.definitions {
            let actual = self.index.define(*id, *day, labels)?;
            let cell = match self.head.get(actual) {
                Some(cell) => cell,
                None => self.head.insert(Cell::new(actual, labels.hash64(), labels.clone())),
            };
            // Under another id it is not defined in this log, so the next append must define it.
            if actual == *id {
                cell.defined_on(*day);
            }
            self.cells.insert(*id, cell);
        }
        let mut start = 0;
        for (place, &(id, samples)) in record.series.iter().enumerate() {
            let range = start..start + samples;
            let (t, v) = (&record.t[range.clone()], &record.v[range.clone()]);
            let starts = record.starts.get(range).unwrap_or(&[]);
            start += samples;
            if record.unknown.get(place) == Some(&true) {
                self.unknown += samples as u64;
                continue;
            }
            match self.cells.get(id) {
                Some(cell) => self.head.count(&cell.append(t, v, starts)),
                None => self.undefined += samples as u64,
            }
        }
        for (id, t, start, h) in &record.histograms {
            match self.cells.get(*id) {
                Some(cell) => self.head.count(&cell.append_histogram(*t, *start, h)),
                None => self.undefined += 1,
            }
        }
        for (id, exemplar) in &record.exemplars {
            if let Some(cell) = self.cells.get(*id)
                && let Some(bytes) = cell.add_exemplar(exemplar)
            {
                self.head.count_exemplar(exemplar.t.0, bytes);
            }
        }
        for (family, metadata) in &record.metadata {
            self.families.put(family, metadata);
        }
        Ok(())
    }
}
